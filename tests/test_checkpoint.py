"""The adjoint in bounded memory, and its truncation: the same steps to the bit, the same gradient to 1e-13, memory as
promised.

References: the discrete adjoint that keeps every step; for schedules the least cost by brute force; for the truncation
a derivative of the loss in which the state k steps back is a constant, by torch's autograd.
"""

import sys
import tracemalloc
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenarios import SCENARIO, SCENARIOS, driven, jumping_inputs, state_network

import ctrnn
from ctrnn import Adjoint, Objective, Problem, RateNetwork, TruncatedBPTT, gradient, inputs, scratch
from ctrnn.errors import NotFiniteError, UnknownNameError, UsageError
from ctrnn.gradients.recording.stepper import StepperRecording
from ctrnn.gradients.schedules import checkpoint
from ctrnn.gradients.schedules.checkpoint import Costs
from ctrnn.gradients.schedules.revolve import places, split
from ctrnn.problem import Settings
from ctrnn.solvers.runge_kutta import Integration
from ctrnn.solvers.snapshot import restore, snapshot, snapshot_size

FIXED = {"solver": "rk4", "dt": 0.01}
ADAPTIVE = {"solver": "tsit5", "rtol": 1e-7, "atol": 1e-9}


def flat(g):
    readout = [] if g.readout is None else [g.readout["V"].ravel(), g.readout["c"]]
    return np.concatenate([[g.loss], g.vector, g.r0, *readout])


def distance(a, b):
    return np.linalg.norm(flat(a) - flat(b)) / np.linalg.norm(flat(b))


# --- the same steps again


@pytest.mark.parametrize(
    "how",
    [
        FIXED,
        ADAPTIVE,
        {"solver": "dop853", "rtol": 1e-11},
        {"solver": "heun", "dt": 0.013},
        {"solver": "kencarp4", "rtol": 1e-7},
        {"solver": "kvaerno5", "dt": 0.02},
    ],
    ids=str,
)
@pytest.mark.parametrize("scenario", ["driven-partly-observed", "state-network-integral"])
def test_a_restored_run_takes_the_same_steps_bit_for_bit(scenario, how):
    run = StepperRecording(SCENARIO[scenario].make(), Settings(**how), "test").integration
    blocks = run.blocks(3)
    for _ in range(2):
        next(blocks)
    held = snapshot(run)
    tableau = run.tableau
    assert held.nbytes == snapshot_size(run.bound.n, run.bound.x_stride, tableau.fsal, bool(tableau.gamma))
    newton = 2 * run.newton.J.size + run.newton.pivots.size + run.newton.state.size
    assert held.nbytes <= 8 * (16 + 2 * run.bound.n + run.bound.x_stride + newton)  # no record, no stages
    first = [[part.copy() for part in next(blocks)] for _ in range(2)]
    end = run.r.copy()
    evaluations = run.stats.evaluations
    restore(run, held)
    again = run.blocks(3)
    for wanted in first:
        for a, b in zip(next(again), wanted, strict=True):
            assert a.tobytes() == b.tobytes()
    assert run.r.tobytes() == end.tobytes()
    assert run.stats.evaluations > evaluations  # what is run again has its cost


@pytest.mark.parametrize("how", [FIXED, ADAPTIVE], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("checkpoints", [1, 2, 3, 50])
def test_every_step_is_pulled_back_once_in_order_and_is_the_plain_one(how, checkpoints, monkeypatch):
    problem, settings = driven(Objective(target=[0.0] * 3), jumping_inputs()), Settings(**how)
    plain = StepperRecording(problem, settings, "test")
    wanted = [np.concatenate(parts) for parts in zip(*(r for r, _ in plain.blocks()), strict=True)]
    seen = []
    weighed = StepperRecording.weighed
    monkeypatch.setattr(checkpoint, "SEGMENT", 7)
    monkeypatch.setattr(StepperRecording, "weighed", lambda run, record: seen.append(weighed(run, record)) or seen[-1])
    gradient(problem, Adjoint("checkpoint", checkpoints=checkpoints), **how)
    records = [[part.copy() for part in record] for record, _ in reversed(seen)]
    found = [np.concatenate(parts) for parts in zip(*records, strict=True)]
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape and a.tobytes() == b.tobytes()


# --- the same gradient


METHODS = [
    Adjoint("checkpoint"),
    Adjoint("checkpoint", checkpoints=1),
    Adjoint("checkpoint", checkpoints=3),
    Adjoint("checkpoint", memory=45_000),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_it_is_the_discrete_adjoint_to_1e13(scenario, monkeypatch):
    """Jumps of x, observations with one at t0, integrals, read-outs; fixed and adaptive steps."""
    monkeypatch.setattr(checkpoint, "SEGMENT", 4)
    problem = scenario.make()
    for how in (
        {"solver": "rk4", "dt": scenario.dt},
        {"solver": "tsit5", "rtol": 1e-6},
        {"solver": "kencarp4", "rtol": 1e-4},
    ):
        # a chunk costs milliseconds with a callable, and the size of an integral more than this memory
        methods = METHODS[:1] if "callable" in scenario.name else METHODS if "dt" in how else METHODS[:3]
        plain = gradient(problem, Adjoint(), **how)
        assert np.linalg.norm(plain.vector) > 0.1
        for method in methods:
            found = gradient(problem, method, **how)
            assert distance(found, plain) < 1e-13, (method, how)
            assert found.stats.steps == plain.stats.steps and found.stats.rejected == plain.stats.rejected
            if how["solver"] != "kencarp4":  # its Newton evaluates J again, too
                assert found.stats.jacobians == plain.stats.jacobians
        again = gradient(problem, METHODS[0], **how)
        assert again.vector.tobytes() == gradient(problem, METHODS[0], **how).vector.tobytes()


def test_it_agrees_with_rtrl_and_is_found_by_name():
    problem = state_network(Objective(target=0.1))
    forward = gradient(problem, "rtrl", **ADAPTIVE)
    for name in ("checkpoint", "adjoint-checkpoint", "Adjoint-Checkpoint"):
        assert distance(gradient(problem, name, **ADAPTIVE), forward) < 1e-12


def test_the_end_of_a_segment_may_be_the_end_of_the_run(monkeypatch):
    problem = Problem(RateNetwork(3, seed=0), [0.1, 0.2, 0.3], (0.0, 1.6), objective=Objective(target=1.0))
    monkeypatch.setattr(checkpoint, "SEGMENT", 4)
    plain = gradient(problem, solver="rk4", dt=0.1)
    assert plain.stats.steps == 16
    found = gradient(problem, Adjoint("checkpoint"), solver="rk4", dt=0.1)
    assert distance(found, plain) < 1e-15 and found.stats.steps == 16
    # 12 steps twice, the last segment once
    assert found.stats.evaluations == 4 * (16 + 12)


# --- the schedule


@cache
def least(l, s):
    """The fewest parts run without a record, by trying every place for the next snapshot."""
    if l == 1:
        return 0
    if s == 1:
        return l * (l - 1) // 2
    return min(m + least(l - m, s - 1) + least(m, s) for m in range(1, l))


def spent(l, s):
    if l == 1:
        return 0
    if s == 1:
        return l * (l - 1) // 2
    m = split(l, s)
    return m + spent(l - m, s - 1) + spent(m, s)


@given(st.integers(2, 60), st.integers(1, 10))
def test_the_schedule_costs_the_least_that_is_possible(l, s):
    assert spent(l, s) == least(l, s)
    assert len(places(l, s)) == min(s, max(1, l - 1)) and max(places(l, s)) < l


@pytest.mark.parametrize("checkpoints", [1, 2, 3, 5, 30])
def test_fixed_steps_are_run_as_often_as_the_schedule_says(checkpoints, monkeypatch):
    monkeypatch.setattr(checkpoint, "SEGMENT", 5)
    problem = Problem(RateNetwork(2, seed=0), [0.1, 0.2], (0.0, 10.0), objective=Objective(target=1.0))
    found = gradient(problem, Adjoint("checkpoint", checkpoints=checkpoints), solver="euler", dt=0.1)
    assert found.stats.evaluations == 5 * (20 + least(20, checkpoints))


def test_snapshots_are_never_more_than_allowed(monkeypatch):
    most = []
    again = checkpoint.Reversal._again

    def watched(reversal, end):
        found = again(reversal, end)
        most.append(len(reversal.held))
        return found

    monkeypatch.setattr(checkpoint, "SEGMENT", 2)
    monkeypatch.setattr(checkpoint.Reversal, "_again", watched)
    problem = driven(Objective(target=[0.0] * 3), jumping_inputs())
    for how in (FIXED, ADAPTIVE):
        most.clear()
        gradient(problem, Adjoint("checkpoint", checkpoints=4), **how)
        assert max(most) <= 4 and len(most) > 10


@pytest.mark.parametrize("dt", [0.01, 0.013, 0.1, 0.3, 5.0])
def test_the_number_of_fixed_steps_is_known_ahead(dt):
    problem = driven(Objective(target=[[0.0] * 3] * 3, at=[0.45, 0.7531, 1.3]), jumping_inputs())
    recording = StepperRecording(problem, Settings("rk4", dt=dt), "test")
    run, ahead = recording.integration, recording.steps_ahead
    run.run()
    assert ahead == run.stats.steps


# --- memory


def long_problem(steps, integral=False, n=32):
    r0 = np.random.default_rng(0).normal(size=n)
    at = None if integral else np.linspace(0.0, steps * 0.05, 9)
    return Problem(RateNetwork(n, gain=1.2, seed=0), r0, (0.0, steps * 0.05), objective=Objective(target=0.1, at=at))


@contextmanager
def without_names():
    """Python's cache of attributes emptied around each call of compiled code, so that it is not counted.

    Numba asks named tuples for attributes, at each call by strings made anew, of which the cache keeps some 4,096 in a
    process, 230 kB. Within one run they come by and by.
    """
    clear = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache

    def emptied(function):
        def call(*arguments):
            clear()
            try:
                return function(*arguments)
            finally:
                clear()

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (Integration, "_advance"),
            (StepperRecording, "_pull_rows"),
            (StepperRecording, "_accumulate"),
        ):
            patch.setattr(owner, name, emptied(getattr(owner, name)))
        yield


def peak(problem, method, how):
    """Bytes; the lesser of two, as the first calls of compiled code in a process leave some 100 kB behind."""
    every = []
    for _ in range(3):
        scratch.forget()
        with without_names():
            tracemalloc.start()
            try:
                gradient(problem, method, **how)
                every.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
    return min(every[1:])


@pytest.mark.parametrize("integral", [False, True], ids=["observed", "integral"])
@pytest.mark.parametrize("how", [{"solver": "rk4", "dt": 0.05}, {"rtol": 1e-6}], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("memory", [150_000, 400_000, 1_500_000])
def test_memory_stays_within_its_budget(memory, how, integral):
    problem = long_problem(4000, integral)
    if integral and memory < 450_000 and "dt" not in how:
        memory = 450_000  # 400 kB go for the size of the integral, before the run
    used = peak(problem, Adjoint("checkpoint", memory=memory), how)
    assert used < 1.2 * memory
    if 400_000 <= memory < 500_000:
        assert used > 0.4 * memory  # and it is used
    assert distance(gradient(problem, Adjoint("checkpoint", memory=memory), **how), gradient(problem, **how)) < 1e-12


def test_memory_hardly_grows_with_the_steps():
    """20,000 steps against 1,000: 1.2 times (scripts/benchmarks/memory.py: 100,000 steps)."""
    how = {"solver": "rk4", "dt": 0.05}
    short, long = (peak(long_problem(steps), Adjoint("checkpoint"), how) for steps in (1000, 20_000))
    assert long < 1.2 * short
    assert peak(long_problem(4000), Adjoint(), how) > 3 * short  # the plain one does grow


@pytest.mark.parametrize("integral", [False, True], ids=["observed", "integral"])
def test_a_budget_is_used_by_short_runs_as_by_long_ones(integral):
    """With 600 kB, 20,000 steps take at most 1.2 times the memory of 1,000, and no budget is left half empty."""
    how, method = {"solver": "rk4", "dt": 0.05}, Adjoint("checkpoint", memory=600_000)
    short, long = (peak(long_problem(steps, integral), method, how) for steps in (1000, 20_000))
    assert long < 1.2 * short
    assert 300_000 < short < 1.2 * 600_000


@pytest.mark.parametrize("steps", [50, 1000, 10_000, 1_000_000])
def test_segments_are_as_long_as_a_snapshot_for_each_allows(steps):
    """Where T steps have room with a snapshot for every segment, one step more would not fit; beyond, half is for the
    segment."""
    costs = Costs(snapshot=900, record=2600, pull=5000, once=30_000, before=0)
    plan = costs.plan(256, 1_000_000, None, steps)
    assert plan.memory <= 1_000_000
    segments = -(-steps // plan.segment)
    if segments <= plan.snapshots:
        room = 1_000_000 - costs.once - plan.chunk * costs.pull
        longer = plan.segment + 1
        assert plan.segment == steps or longer * costs.record + (steps / longer + 1) * costs.snapshot > room
    else:
        assert steps == 1_000_000 and plan.segment * costs.record == pytest.approx(
            plan.snapshots * costs.snapshot, rel=0.02
        )


def test_too_little_memory_names_the_smallest():
    problem = long_problem(200)
    how = {"solver": "rk4", "dt": 0.05}
    with pytest.raises(UsageError, match=r"memory: got 1000; allowed: at least \d+ bytes") as caught:
        gradient(problem, Adjoint("checkpoint", memory=1000), **how)
    smallest = int(str(caught.value).split("at least ")[1].split(" ")[0])
    found = gradient(problem, Adjoint("checkpoint", memory=smallest), **how)
    assert distance(found, gradient(problem, **how)) < 1e-12
    with pytest.raises(UsageError, match=f"at least {smallest} bytes"):
        gradient(problem, Adjoint("checkpoint", memory=smallest - 1), **how)
    with pytest.raises(UsageError, match="with 1000 checkpoints"):
        gradient(problem, Adjoint("checkpoint", memory=smallest, checkpoints=1000), **how)


@pytest.mark.parametrize(
    "options",
    [
        {"memory": 0},
        {"memory": -5},
        {"memory": 1.5},
        {"checkpoints": 0},
        {"checkpoints": True},
        {"checkpoints": 2.5},
        {"memory": "1 MB"},
        {"memory": np.nan},
        {"memory": np.inf},
        {"checkpoints": [3]},
    ],
    ids=str,
)
def test_budgets_are_positive_whole_numbers(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        Adjoint("checkpoint", **options)
    with pytest.raises(UsageError, match="mode"):
        Adjoint("discrete", **{next(iter(options)): 7})


def test_unknown_mode():
    with pytest.raises(UnknownNameError, match="checkpoint"):
        Adjoint("checkpiont")


def test_a_loss_that_is_not_finite_is_reported():
    problem = driven(Objective("log(u - 5)"), jumping_inputs())
    with np.errstate(invalid="ignore"), pytest.raises(NotFiniteError):
        gradient(problem, "checkpoint", **FIXED)


def test_another_librarys_solver_is_refused():
    with pytest.raises(UsageError, match="solver"):
        gradient(long_problem(10), "checkpoint", solver="scipy:RK45")


# --- truncation


def autograd_truncated(problem, k, dt, steps):
    """The definition, by torch: the loss of each step is differentiated with the state k steps earlier held
    constant."""
    F, w = (
        problem.field.torch_function(),
        {n: torch.tensor(v, requires_grad=True) for n, v in problem.field.parameters.items()},
    )
    r0 = torch.tensor(problem.r0, requires_grad=True)
    x = [
        torch.tensor(problem.x.evaluate([j * dt, (j + 0.5) * dt, (j + 1) * dt], [(j + 0.5) * dt] * 3))
        for j in range(steps)
    ]

    def step(r, j):
        k1 = F(0.0, r, w, x[j][0])
        k2 = F(0.0, r + dt / 2 * k1, w, x[j][1])
        k3 = F(0.0, r + dt / 2 * k2, w, x[j][1])
        k4 = F(0.0, r + dt * k3, w, x[j][2])
        stages = (r, r + dt / 2 * k1, r + dt / 2 * k2, r + dt * k3)
        return r + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4), stages

    states = [r0]
    for j in range(steps):
        states.append(step(states[-1], j)[0])
    objective, total = problem.objective, torch.zeros(())
    observed = {} if objective.times is None else {round(t / dt): i for i, t in enumerate(objective.times)}
    if 0 in observed:
        e = r0 - torch.tensor(objective.targets[observed[0]])
        total = total + objective.weights[observed[0]] * 0.5 * (e * e).sum()
    for i in range(1, steps + 1):
        if observed and i not in observed:
            continue
        first = max(0, i - k)
        r = states[first] if first == 0 else states[first].detach()
        for j in range(first, i):
            r, stages = step(r, j)
        if observed:
            e = r - torch.tensor(objective.targets[observed[i]])
            total = total + objective.weights[observed[i]] * 0.5 * (e * e).sum()
        else:
            for b, y in zip((1, 2, 2, 1), stages, strict=True):
                total = total + dt / 6 * b * 0.5 * ((y - 0.3) ** 2).sum()
    grads = torch.autograd.grad(total, [*w.values(), r0])
    return float(total.detach()), np.concatenate([g.numpy().ravel() for g in grads])


@pytest.mark.parametrize("integral", [False, True], ids=["observed", "integral"])
@pytest.mark.parametrize("k", [1, 2, 7, 19, 20, 500])
def test_truncation_is_what_its_definition_says(k, integral):
    dt, steps = 0.1, 20
    at = [0.0, 0.3, 0.4, 1.1, 2.0]
    objective = Objective(target=0.3) if integral else Objective(target=0.3, at=at, weight=[0.5, 1.0, 2.0, 1.0, 3.0])
    problem = Problem(RateNetwork(3, inputs=1, gain=1.5, seed=1), [0.5, -0.2, 0.9], (0.0, 2.0),
                      x=inputs.Sine(0.4), objective=objective)  # fmt: skip
    loss, wanted = autograd_truncated(problem, k, dt, steps)
    found = gradient(problem, TruncatedBPTT(window=k), solver="rk4", dt=dt)
    assert found.loss == pytest.approx(loss, rel=1e-13)
    assert np.linalg.norm(np.append(found.vector, found.r0) - wanted) < 1e-13 * np.linalg.norm(wanted)
    exact = gradient(problem, "adjoint", solver="rk4", dt=dt)
    assert (distance(found, exact) < 1e-13) == (k >= steps)
    if k < steps:
        assert distance(found, exact) > 1e-4  # an approximation differs where it must


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_a_window_of_all_steps_is_the_adjoint(scenario, monkeypatch):
    monkeypatch.setattr("ctrnn.gradients.schedules.truncated.BLOCK", 5)
    problem = scenario.make()
    for how in ({"solver": "rk4", "dt": scenario.dt}, {"rtol": 1e-5}):
        exact = gradient(problem, Adjoint(), **how)
        assert distance(gradient(problem, TruncatedBPTT(10**6), **how), exact) < 1e-13
        short = gradient(problem, TruncatedBPTT(3), **how)
        assert short.loss == pytest.approx(exact.loss, rel=1e-14)
        assert distance(short, exact) > 1e-4
        if exact.readout is not None:
            assert np.array_equal(short.readout["V"], exact.readout["V"]) or np.allclose(
                short.readout["V"], exact.readout["V"], rtol=1e-13
            )


def test_a_window_does_not_depend_on_the_blocks(monkeypatch):
    problem = state_network(Objective(target=0.2))
    every = []
    for block in (1, 3, 4096):
        monkeypatch.setattr("ctrnn.gradients.schedules.truncated.BLOCK", block)
        every.append(flat(gradient(problem, TruncatedBPTT(6), solver="rk4", dt=0.05)))
    assert np.allclose(every[0], every[2], rtol=1e-13) and np.allclose(every[1], every[2], rtol=1e-13)


def test_windows():
    for window in (0, -1, 2.0, True, "all", None):
        with pytest.raises(UsageError, match="window"):
            TruncatedBPTT(window)
    problem = state_network(Objective(target=0.2))
    assert ctrnn.gradient(problem, "tbptt", **FIXED).method == "truncated BPTT, window 32"
