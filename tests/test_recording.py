"""Recordings: whichever backend a schedule has, it finds the same; what is prepared runs again, bit for bit as afresh.

Digits: the totals of two backends agree to 1e-12 relative; a prepared run and a fresh one are equal bit for bit.
"""

from __future__ import annotations

import numpy as np
import pytest
from array_systems import NAMES, systems
from scenarios import SCENARIOS

import ctrnn
from ctrnn import RTRL, Adjoint, Equations, Objective, Problem, RateNetwork, TruncatedBPTT, gradient
from ctrnn.gradients.online.snap import SnAp
from ctrnn.gradients.recording.base import Needs
from ctrnn.gradients.recording.rows import RowsRecording
from ctrnn.gradients.recording.select import BACKENDS, backend_for, takes_together
from ctrnn.gradients.recording.stepper import StepperRecording
from ctrnn.gradients.recording.torch.device import Device
from ctrnn.gradients.recording.torch.recording import TorchRecording
from ctrnn.gradients.schedules.adjoint import all_kept
from ctrnn.inputs import Sampled, Sine
from ctrnn.problem import Settings

OF_NETWORKS = list(BACKENDS)
FIXED, ADAPTIVE = Settings("rk4", dt=0.07), Settings("tsit5", rtol=1e-7)
TARGET = np.random.default_rng(0).normal(size=(3, 5))


def network(field: RateNetwork | None = None, objective: Objective | None = None) -> Problem:
    """Observations at t0, beside the grid, and at the end."""
    field = RateNetwork(5, inputs=1, gain=1.4, train_tau=True, seed=0) if field is None else field
    at = Objective(target=TARGET, at=[0.0, 0.5, 1.3], weight=[1.0, 2.0, 0.5])
    return Problem(
        field, 0.3, (0.0, 1.3), Sine(0.7) if field.input_size else None, at if objective is None else objective
    )


def device(dtype: str = "float64") -> Device:
    return Device("cpu", dtype)


# --- who takes what


@pytest.mark.parametrize(
    ("problem", "settings", "needs", "backend"),
    [
        (network(), FIXED, Needs(), RowsRecording),
        (network(), FIXED, Needs(rows="many"), StepperRecording),
        (network(), FIXED, Needs(snapshots=True), StepperRecording),
        (network(), FIXED, Needs(cuts=True), StepperRecording),
        (network(), ADAPTIVE, Needs(), StepperRecording),
        (network(), Settings("kvaerno5", dt=0.1), Needs(), StepperRecording),
        (network(), Settings("exponential-euler", dt=0.1), Needs(), StepperRecording),
        (network(RateNetwork(20, mask=np.eye(20)), Objective(target=0.1, at=[1.3])), FIXED, Needs(), StepperRecording),
        (network(), FIXED, Needs(device=device()), TorchRecording),
    ],
)
def test_the_first_backend_that_supports_what_is_needed_is_taken(problem, settings, needs, backend):
    assert backend_for([problem], settings, needs) is backend


def test_trials_go_together_where_one_recording_takes_them():
    pair = [network(), network()]
    assert takes_together(pair, FIXED, Needs()) and not takes_together(pair[:1], FIXED, Needs())
    assert not takes_together(pair, FIXED, Needs(rows="many")) and not takes_together(pair, ADAPTIVE, Needs())
    other = pair[0].replace(t_span=(0.0, 1.4))
    assert not takes_together([pair[0], other], FIXED, Needs())
    assert takes_together(pair[:1], FIXED, Needs(device=device()))


def test_a_kernel_of_rows_is_declared_not_guessed():
    """A field that declares none goes by the stepper, and gives the same to 1e-12; a class of its own is fine."""

    class Undeclared(RateNetwork):
        row_slots = None

    ours, theirs = (network(kind(5, inputs=1, gain=1.4, train_tau=True, seed=0)) for kind in (RateNetwork, Undeclared))
    assert backend_for([theirs], FIXED, Needs()) is StepperRecording
    one, other = (gradient(p, "adjoint", solver="rk4", dt=0.07) for p in (ours, theirs))
    np.testing.assert_allclose(one.vector, other.vector, rtol=0, atol=1e-12 * np.abs(other.vector).max())

    class Derived(RateNetwork):
        pass

    assert backend_for([network(Derived(5, inputs=1, seed=0))], FIXED, Needs()) is RowsRecording


# --- array equations in lockstep


@pytest.mark.parametrize("name", NAMES)
def test_array_equations_go_in_lockstep(name):
    """Each trial as it is alone, bit for bit; the sums, and the stepper's recording, to 1e-12."""
    field, rng, B = systems()[name].field, np.random.default_rng(3), 9
    r0 = 0.3 * rng.normal(size=(B, field.n))
    x = [Sampled(np.linspace(0.0, 1.0, 11), rng.normal(size=(11, field.input_size)), "hold") for _ in range(B)]
    trials = ctrnn.Trials(field, r0, (0.0, 1.0), x, Objective(target=0.1, at=[0.0, 0.33, 1.0]))
    assert backend_for(trials.problems, FIXED, Needs()) is RowsRecording
    g = gradient(trials, "adjoint", solver="rk4", dt=0.07)
    alone = [gradient(p, "adjoint", solver="rk4", dt=0.07) for p in trials]
    np.testing.assert_array_equal(g.losses, [one.loss for one in alone])
    np.testing.assert_array_equal(g.r0, [one.r0 for one in alone])
    steppers = [gradient(p, Adjoint("checkpoint"), solver="rk4", dt=0.07) for p in trials]
    expected = sum(one.vector for one in steppers)
    np.testing.assert_allclose(g.vector, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(g.r0, [one.r0 for one in steppers], rtol=0, atol=1e-12 * np.abs(g.r0).max())
    assert g.stats.steps == sum(one.stats.steps for one in steppers)


def test_an_integral_of_array_equations_goes_in_lockstep_too():
    field = systems()["gru"].field
    problem = Problem(field, 0.1, (0.0, 1.0), x=[0.3, -0.2], objective=Objective(target=0.1))
    assert backend_for([problem], FIXED, Needs()) is RowsRecording
    found, expected = (gradient(problem, m, solver="rk4", dt=0.07).vector for m in (Adjoint(), Adjoint("checkpoint")))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_array_equations_run_again():
    field = systems()["gru"].field
    problem = Problem(field, 0.1, (0.0, 1.0), x=[0.3, -0.2], objective=Objective(target=0.1, at=[1.0]))
    prepared = Adjoint().prepare([problem], FIXED)
    for scale in (1.0, 1.1, 1.0):
        one = problem.replace(field=field.with_vector(scale * field.vector))
        same(prepared.totals([one], Adjoint().schedule), Adjoint().totals([one], FIXED))


# --- the same schedule on each


@pytest.mark.parametrize(
    "objective", [None, Objective(target=0.2, weight=Sine(0.2) + 2.0)], ids=["at times", "integral"]
)
def test_one_schedule_finds_the_same_on_every_backend(objective):
    """To 1e-12: loss, dl/dw, dl/dr0."""
    problem, found = network(objective=objective), []
    for backend in OF_NETWORKS:
        needs = Needs(device=device() if backend is TorchRecording else None)
        with backend.record([problem], FIXED, "test", needs) as recording:
            found.append(all_kept(recording))
    for one in found[1:]:
        for name in ("loss", "vector", "r0"):
            ours, theirs = getattr(one, name), getattr(found[0], name)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())
        assert (one.stats.steps, one.stats.jacobians) == (found[0].stats.steps, found[0].stats.jacobians)


def test_blocks_of_any_length_give_the_same_on_every_backend():
    """To 1e-12, of 1, 4 and all steps."""
    problem = network()
    for backend in OF_NETWORKS:
        needs, found = Needs(device=device() if backend is TorchRecording else None), []
        for capacity in (1, 4, None):
            with backend.record([problem], FIXED, "test", needs) as recording:
                loss, l_r0, _ = recording.start()
                blocks = list(recording.blocks(capacity))
                assert capacity is None or max(block.steps for block in blocks) <= capacity
                rows, G = recording.zero_rows(), recording.zero_parameters()
                for block in reversed(blocks):
                    recording.pull(block, rows, G)
                    loss = loss + block.seen[0]
                found.append(np.concatenate([loss, recording.vector(G), (l_r0 + recording.r0(rows))[0]]))
        for one in found[1:]:
            np.testing.assert_allclose(one, found[0], rtol=0, atol=1e-12 * np.abs(found[0]).max())


def test_rows_and_their_parameter_part_apart_are_the_pullback():
    """To 1e-13: what RTRL asks for apart is what the adjoint asks for at once."""
    problem = network()
    recording = StepperRecording(problem, FIXED, "test")
    (block,) = recording.blocks()
    kernel = recording.bound.kernel
    rows, G = np.random.default_rng(1).normal(size=(5, 4)), np.zeros((kernel.groups, 4, kernel.columns))
    at_once, whole = rows.copy(), G.copy()
    recording.pull(block, at_once, whole)
    recording.add_parameter_part(block, recording.pull_rows(block, rows), G)
    np.testing.assert_allclose(rows, at_once, rtol=1e-13)
    np.testing.assert_allclose(G, whole, rtol=0, atol=1e-13 * np.abs(whole).max())


# --- prepared once, run many times

METHODS = [
    Adjoint(),
    Adjoint("checkpoint"),
    RTRL(),
    RTRL(block=3),
    TruncatedBPTT(4),
    SnAp(1),
    RTRL(device="cpu"),
    Adjoint(dtype="float32"),
]


def same(found, fresh) -> None:
    for name in ("loss", "vector", "r0", "readout"):
        np.testing.assert_array_equal(getattr(found, name), getattr(fresh, name))
    assert (found.stats.steps, found.stats.evaluations) == (fresh.stats.steps, fresh.stats.evaluations)
    assert found.stats.jacobians == fresh.stats.jacobians


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize(
    "settings", [FIXED, ADAPTIVE, Settings("kvaerno5", rtol=1e-5)], ids=["fixed", "adaptive", "implicit"]
)
def test_a_prepared_run_is_a_fresh_one_to_the_bit(method, settings):
    """With other weights, with another r0, and back again."""
    if method.torch_device is not None and settings is not FIXED:
        pytest.skip("explicit fixed steps on a device")
    first = network()
    prepared = method.prepare([first], settings)
    for problem in (
        first,
        first.replace(field=first.field.with_vector(1.1 * first.field.vector)),
        first.replace(r0=-0.2),
        first,
    ):
        for _ in range(2):
            same(prepared.totals([problem], method.schedule), method.totals([problem], settings))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_every_scenario_runs_again(scenario):
    problem = scenario.make()
    other = problem.replace(field=problem.field.with_vector(1.01 * problem.field.vector))
    for settings in (Settings("rk4", dt=scenario.dt), Settings("tsit5", rtol=1e-6)):
        prepared = Adjoint().prepare([problem], settings)
        for one in (problem, other, problem):
            same(prepared.totals([one], Adjoint().schedule), Adjoint().totals([one], settings))


def test_another_schedule_on_what_is_kept():
    """The memory of RTRL, whose rows go on several threads, serves the adjoint."""
    problem = network(RateNetwork(60, inputs=1, gain=1.2, seed=0), Objective(target=0.1, at=[1.3]))
    recording = StepperRecording(problem, FIXED, "test")
    fresh = all_kept(StepperRecording(problem, FIXED, "test"))
    RTRL(block=4).schedule(recording)
    assert recording.again([problem])
    same(all_kept(recording), fresh)


def test_trials_run_again():
    trials = ctrnn.Trials(
        RateNetwork(5, gain=1.4, seed=3), TARGET, (0.0, 1.3), objective=Objective(target=0.0, at=[1.3])
    )
    prepared = Adjoint().prepare(trials.problems, FIXED)
    for scale in (1.0, 1.1, 1.0):
        its = trials.replace(field=trials.field.with_vector(scale * trials.field.vector))
        same(prepared.totals(its.problems, Adjoint().schedule), Adjoint().totals(its.problems, FIXED))


def test_a_failed_run_leaves_the_prepared_one_as_it_was():
    blows_up = Problem(
        Equations({"r": "a*r**2"}, {"a": 0.1}), [1.0], (0.0, 2.0), objective=Objective(target=0.0, at=[2.0])
    )
    prepared = Adjoint().prepare([blows_up], FIXED)
    fresh = prepared.totals([blows_up], Adjoint().schedule)
    with pytest.raises(ctrnn.errors.SolverError):
        prepared.totals([blows_up.replace(field=blows_up.field.with_parameters(a=50.0))], Adjoint().schedule)
    same(prepared.totals([blows_up], Adjoint().schedule), fresh)


def test_functions_of_time_are_asked_again():
    size = [1.0]
    problem = Problem(
        Equations({"r": "-a*r + x"}, {"a": 1.0}, inputs=["x"]), [0.1], (0.0, 1.0), lambda t: size[0] * np.sin(t),
        Objective(target=0.0, at=[1.0]),
    )  # fmt: skip
    prepared = Adjoint().prepare([problem], FIXED)
    for size[0] in (1.0, 3.0):
        same(prepared.totals([problem], Adjoint().schedule), Adjoint().totals([problem], FIXED))
