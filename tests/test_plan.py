"""The cost model: its flops and bytes against counted ones, the choices it makes, and the tables it prints."""

from __future__ import annotations

import json
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

import ctrnn
from ctrnn import Equations, Objective, Problem, RateNetwork, gradient, scratch
from ctrnn import memory as machine
from ctrnn.cli import main as cli
from ctrnn.errors import UsageError
from ctrnn.gradients import costs as cost
from ctrnn.gradients.advise.choice import choose, fixed_steps
from ctrnn.gradients.costs import Size
from ctrnn.gradients.methods import METHODS
from ctrnn.gradients.recording.stepper import StepperRecording
from ctrnn.gradients.schedules.checkpoint import checkpointed
from ctrnn.gradients.schedules.revolve import reruns
from ctrnn.problem import Settings

FIXED = Settings("rk4", dt=0.05)


def network(n=8, steps=100, integral=False, observations=4, inputs=0):
    at = None if integral else np.linspace(0.0, 0.05 * steps, observations + 1)[1:]
    r0 = np.random.default_rng(0).normal(size=n)
    return Problem(
        RateNetwork(n, inputs=inputs, gain=1.2, seed=0), r0, (0.0, 0.05 * steps), objective=Objective(target=0.1, at=at)
    )


def lotka_volterra(at=(1.0, 4.0)):
    field = Equations({"u": "a*u - b*u*v", "v": "-c*v + d*u*v"}, {"a": 0.55, "b": 0.28, "c": 0.8, "d": 0.24})
    return Problem(field, [3.0, 2.0], (0.0, 5.0), objective=Objective(target=0.5, at=list(at)))


def traced(call):
    """Peak bytes of the second of two calls."""
    call()
    scratch.forget()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# --- counts


@pytest.mark.parametrize(
    ("solver", "dt"), [("rk4", 0.05), ("euler", 0.03), ("dopri5", 0.07), ("exponential-euler", 0.05)]
)
def test_fixed_steps_are_counted_without_a_run(solver, dt):
    """Observations and jumps that lie beside the grid are steps of their own."""
    for problem in (network(4, 100), lotka_volterra(at=(0.11, 1.03, 4.0))):
        ran = gradient(problem, "adjoint", solver=solver, dt=dt).stats
        assert fixed_steps(problem, dt) == ran.steps
        planned = ctrnn.plan(problem, solver=solver, dt=dt)
        assert planned.steps == ran.steps and planned.counted == "counted"
        assert planned.evaluations == pytest.approx(ran.evaluations, abs=planned.steps / 50 + 5)


@pytest.mark.parametrize("solver", ["tsit5", "dop853", "kvaerno5"])
def test_adaptive_steps_are_those_of_one_forward_run(solver):
    problem = lotka_volterra()
    ran = gradient(problem, "adjoint", solver=solver).stats
    planned = ctrnn.plan(problem, solver=solver)
    assert (planned.steps, planned.evaluations) == (ran.steps, ran.evaluations)
    assert "forward run" in planned.summary


def test_flops_of_a_small_network_by_hand():
    """5 units, 3 steps of rk4: Ŵ has 5·6 weights; F, J and F_w products take 2·30 each."""
    problem = network(5, 3)
    z = Size.of(problem, FIXED, 3)
    assert (z.entries, z.s, z.calls, z.steps) == (30, 4, 12, 3)
    assert cost.discrete(z).flops == 12 * 60 + 12 * (60 + 60)
    assert cost.forward(z, block=3).flops == 12 * 60 + 12 * 6 * 120 + 2 * 36 * 30
    assert cost.forward(z, block=1).flops == 12 * 60 + 12 * 6 * 120 + 3 * 2 * 36 * 30  # ΦP at each step
    assert cost.forward_continuous(z).flops == 12 * (60 + 2 * 25 * (30 + 5))
    assert cost.backward_continuous(z, False).flops == 12 * 60 + 12 * 180
    assert cost.truncated(z, 2).flops == 12 * 60 + 4 * 2 * 4 * 120


def test_textbook_rtrl_grows_with_the_fourth_power_and_blocks_with_the_third():
    """Per step: 2n⁴ for one step a block; n³ for blocks of n and more, to 10 % at n = 256."""
    small, large = (Size.of(network(n, 100), FIXED, 1000) for n in (128, 256))
    each = [[cost.forward(z, block).flops for z in (small, large)] for block in (1, 512)]
    assert each[0][1] / each[0][0] == pytest.approx(2**4, rel=0.25)
    assert each[1][1] / each[1][0] == pytest.approx(2**3, rel=0.1)


def test_an_implicit_stage_pays_for_its_factor():
    explicit = Size.of(network(30), FIXED, 10)
    implicit = replace(explicit, implicit=True)
    more = cost.discrete(implicit).flops - cost.discrete(explicit).flops
    assert more == pytest.approx(10 * 4 * 2 / 3 * 30**3)


@pytest.mark.parametrize("steps", [1, 7, 40, 200])
@pytest.mark.parametrize("how", [{"solver": "rk4", "dt": 0.05}, {"rtol": 1e-6}], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("snapshots", [1, 3, 8])
def test_the_schedule_of_checkpoints_is_counted_segment_by_segment(steps, how, snapshots, monkeypatch):
    """Segments of 5 steps; the calls of F are those that ran, exactly for fixed steps."""
    monkeypatch.setattr("ctrnn.gradients.schedules.checkpoint.SEGMENT", 5)
    problem, settings = network(3, steps), Settings(**how)
    ran = checkpointed(StepperRecording(problem, settings, "test"), snapshots, None).stats
    segments = -(-ran.steps // 5)
    counted = reruns(segments, snapshots, "dt" in how)
    plain = gradient(problem, "adjoint", **how).stats
    assert counted >= segments
    if ran.steps % 5 == 0 and "dt" in how:
        assert ran.evaluations == counted * 5 * 4
    assert ran.evaluations == pytest.approx(plain.evaluations * counted / segments, rel=0.2, abs=5 * 7)


@pytest.mark.parametrize("integral", [False, True], ids=["observed", "integral"])
@pytest.mark.parametrize("method", ["adjoint", "adjoint-checkpoint", "rtrl", "rtrl-continuous", "tbptt"])
@pytest.mark.parametrize("how", [{"solver": "rk4", "dt": 0.05}, {"rtol": 1e-6}], ids=["fixed", "adaptive"])
def test_bytes_are_those_that_are_allocated(method, integral, how):
    """Peak memory of 24 units and 1,000 steps, within a factor of 2 of what tracemalloc sees (compiled code's own it
    does not)."""
    problem = network(24, 1000, integral)
    planned = ctrnn.plan(problem, **how)[method].memory
    assert 0.5 < planned / traced(lambda: gradient(problem, method, **how)) < 2.0


# --- the choice


def test_the_discrete_adjoint_until_its_record_does_not_fit():
    """At the very byte: half of the memory at hand may be taken."""
    problem = network(16, 500)
    needed = cost.discrete(Size.of(problem, FIXED, 500)).memory
    enough = int(2 * np.ceil(needed))
    assert choose(problem, FIXED, enough).name == "adjoint"
    assert choose(problem, FIXED, enough - 4).name == "adjoint-checkpoint"
    planned = ctrnn.plan(problem, solver="rk4", dt=0.05, memory=enough - 4)
    assert planned.auto == "adjoint-checkpoint" and "a second run" in planned.reason


def test_rtrl_where_its_rows_cost_less_than_a_second_run():
    """Two equations, a million steps: 2 rows more of 24 flops a stage are less than a second call of 24 + 64. Not so
    for 4 units."""
    problem = lotka_volterra()
    settings = Settings("rk4", dt=5e-6)
    z = Size.of(problem, settings, fixed_steps(problem, 5e-6))
    assert (z.f, z.va, z.steps) == (24.0, 24.0, 1_000_000)
    room = METHODS["rtrl"].cost(z).memory
    assert room < 0.2 * cost.discrete(z).memory
    enough = int(2 * np.ceil(room))
    assert choose(problem, settings, enough).name == "rtrl"
    assert choose(problem, settings, enough - 4).name == "adjoint-checkpoint"  # a block of RTRL does not fit either
    assert choose(network(4, 1000), Settings("rk4", dt=5e-5), 10**7).name == "adjoint-checkpoint"


def test_a_run_of_unknown_length_turns_to_checkpoints_when_its_record_outgrows_the_memory(monkeypatch):
    problem = network(8, 4000)
    plain = gradient(problem, "auto", rtol=1e-6)
    assert plain.method == "adjoint, discrete" and "T is not known" in plain.reason and plain.reason in repr(plain)
    monkeypatch.setattr(machine, "available_memory", lambda: 50_000)
    bounded = gradient(problem, "auto", rtol=1e-6)
    assert bounded.method == "adjoint, checkpoint"
    assert np.linalg.norm(bounded.vector - plain.vector) < 1e-13 * np.linalg.norm(plain.vector)
    assert ctrnn.plan(problem, rtol=1e-6).auto == "adjoint-checkpoint"


def test_other_solvers_and_torch_fields():
    settings = Settings("scipy:LSODA")
    assert choose(lotka_volterra(), settings, 10**9).name == "rtrl-continuous"
    assert choose(network(16), settings, 10**9).name == "adjoint-interpolate"
    import torch

    field = ctrnn.TorchField(lambda t, r, w, x: torch.tanh(w["A"] @ r) - r, n=2, parameters={"A": np.eye(2)})
    problem = Problem(field, [1.0, 0.5], (0.0, 1.0), objective=Objective(target=0.0, at=[1.0]))
    assert choose(problem, FIXED, 10**9).name == "autograd"
    assert choose(problem, FIXED, 10_000).name == "adjoint-checkpoint"
    assert gradient(problem, solver="rk4", dt=0.05).reason.startswith("a torch field")


def test_a_method_that_was_asked_for_by_name_carries_no_reason():
    problem = network(8, 50)
    assert gradient(problem, solver="rk4", dt=0.05).reason.startswith("fewest flops, and ")
    assert gradient(problem, "adjoint", solver="rk4", dt=0.05).reason == ""


# --- the table


def test_the_plan_prints_every_method_and_marks_the_automatic_one():
    planned = ctrnn.plan(network(8, 200), solver="rk4", dt=0.05)
    assert [row.method for row in planned] == list(METHODS) and len(planned) == len(METHODS)
    lines = repr(planned).splitlines()
    assert lines[0].startswith("rk4: 200 steps, 800 evaluations of F (counted)")
    assert [line.split()[1] for line in lines if line.startswith("* ")] == ["adjoint", 'method="auto":']
    assert planned["adjoint"].exact == "the steps taken" and planned["tbptt"].exact == "nothing: an approximation"
    assert all(row.flops > 0 and row.memory > 0 and row.relative >= 1.0 for row in planned)
    assert planned["adjoint"].relative == pytest.approx(3.0)  # F, and a row through J and F_w
    assert planned["complex-step"].flops > planned["rtrl"].flops > planned["adjoint"].flops


def test_a_method_that_cannot_has_no_numbers_but_the_reason():
    planned = ctrnn.plan(lotka_volterra(), solver="scipy:DOP853")
    assert planned["adjoint"].flops is None and "does not show its steps" in planned["adjoint"].note
    assert "leak" in planned["rflo"].note
    stiff = ctrnn.plan(lotka_volterra(), solver="kvaerno5")
    assert stiff["adjoint-backsolve"].flops is None and "kvaerno5" in stiff["adjoint-backsolve"].note
    assert stiff["rtrl-continuous"].flops > 0.0  # staggered
    for found, how in ((planned, {"solver": "scipy:DOP853"}), (stiff, {"solver": "kvaerno5"})):
        for row in found:
            if row.flops is None:
                with pytest.raises(UsageError):
                    gradient(lotka_volterra(), row.method, **how)


def test_what_does_not_fit_into_memory_is_said():
    planned = ctrnn.plan(network(16, 2000), solver="rk4", dt=0.05, memory=10**6)
    assert "more memory than there is" in planned["autograd"].note
    assert "memory" not in planned["adjoint-backsolve"].note


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"memory": 0}, "memory"), ({"memory": 1.5}, "memory"), ({"solver": "rk4"}, "dt"), ({"solver": "rk5"}, "rk4")],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(UsageError, match=words):
        ctrnn.plan(network(4, 20), **arguments)


def test_a_plan_needs_an_objective():
    with pytest.raises(UsageError, match="objective"):
        ctrnn.plan(Problem(RateNetwork(3, seed=0), 0.1, (0.0, 1.0)))
    with pytest.raises(UsageError, match="problem"):
        ctrnn.plan("hare-lynx")
    trials = ctrnn.Trials(
        RateNetwork(2, seed=0), [[0.1] * 2, [0.2] * 2], (0.0, 1.0), objective=Objective(target=0.0, at=[1.0])
    )
    with pytest.raises(UsageError, match=r"trials\[0\]"):
        ctrnn.plan(trials)


# --- the command


def run(capsys, *arguments):
    code = cli.run(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_ctrnn_plan_prints_the_table_and_writes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fixed = ["--set", "solver.name=rk4", "--set", "solver.dt=0.05"]
    code, out, _ = run(capsys, "plan", "limit-cycle", *fixed)
    assert code == 0 and "(counted)" in out and not list(tmp_path.iterdir())
    assert all(re.search(rf"(?m)^.?  {method} ", out) for method in METHODS)
    assert re.search(r"(?m)^\*  adjoint ", out) and '* method = "auto" takes adjoint: fewest flops' in out
    code, out, _ = run(capsys, "plan", "limit-cycle", *fixed, "--memory", "10000")
    assert code == 0 and '"auto" takes adjoint-checkpoint' in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan"], "Missing argument"),
        (["plan", "hare-linx"], "did you mean 'hare-lynx'"),
        (["plan", "hare-lynx", "--set", "solver.name=rk5"], "solver.name: got 'rk5'"),
        (["plan", "hare-lynx", "--memory", "0"], "--memory"),
        (["plan", "hare-lynx", "--set", "solver.name=rk4"], "solver.dt"),
    ],
)
def test_a_plan_that_cannot_be_made_ends_with_2_and_one_message(capsys, arguments, words):
    code, _, err = run(capsys, *arguments)
    assert code == 2 and words in err and "Traceback" not in err


def test_a_plan_whose_forward_run_fails_ends_with_1(capsys):
    code, _, err = run(capsys, "plan", "hare-lynx", "--set", "solver.max_steps=10")
    assert code == 1 and "more than 10 steps" in err


# --- comparisons with a certificate


def test_a_certified_comparison_has_an_error_for_each_method():
    """Each row's error is its distance to the certificate's g*, of which the analytic gradient of exponential decay is
    the judge."""
    decay = Equations({"r": "-k*r"}, {"k": 2.0})
    problem = Problem(decay, [1.0], (0.0, 1.0), objective=Objective("squared_error", target=[0.0], at=[1.0]))
    table = ctrnn.compare_gradients(problem, ["adjoint", "rtrl-continuous"], rtol=1e-4, atol=1e-6, certify=True)
    exact = np.array([-2.0 * np.exp(-4.0), np.exp(-4.0)])  # [k dl/dk, r0 dl/dr0] of l = r0² e^(−2k)/2
    for row in table:
        g = np.array([2.0 * row.gradient.vector[0], row.gradient.r0[0]])
        assert row.error == pytest.approx(np.linalg.norm(g - exact) / np.linalg.norm(exact), rel=0.1)
        assert 1e-9 < row.error < 1e-3
    assert table["adjoint, discrete"].digits > 13  # and yet its error is that of the steps
    assert table.certificate.error == pytest.approx(table["adjoint, discrete"].error, rel=1e-10)
    assert "error" in repr(table) and "Lyapunov" in repr(table) and table.certified == "adjoint, discrete"
    plain = ctrnn.compare_gradients(problem, ["adjoint"])
    assert plain.certificate is None and plain.rows[0].error < 1e-6 and "Lyapunov" not in repr(plain)


def test_a_certificate_needs_an_exact_method_and_one_problem():
    problem = network(3, 20)
    with pytest.raises(UsageError, match="certify"):
        ctrnn.compare_gradients(problem, ["tbptt", "rflo"], solver="rk4", dt=0.05, certify=True)
    with pytest.raises(UsageError, match="certify"):
        trials = ctrnn.Trials(
            problem.field, [[0.1] * 3, [0.2] * 3], (0.0, 1.0), objective=Objective(target=0.0, at=[1.0])
        )
        ctrnn.compare_gradients(trials, ["adjoint"], certify=True)


def test_ctrnn_compare_certify(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "compare", "scalar", "--certify", "--no-figures")
    assert code == 0 and "certificate: " in out and re.search(r"method .*digits +error", out)
    summary = json.loads((tmp_path / "results/scalar/compare/summary.json").read_text())
    assert summary["certificate"]["digits"] > 3
    assert any(row.get("error") is not None for row in summary["compare"].values())
    code, out, _ = run(capsys, "compare", "scalar", "--no-figures")
    assert code == 0 and "certificate" not in out
