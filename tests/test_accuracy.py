"""The gradient of an adaptive run is that of the differential equation, as accurate as the tolerance says.

The references take part in no step control: many equal steps of order 8 (tests/accuracy.py), to twelve digits or more.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from accuracy import PROBLEMS, ROBERTSON, reference, relative_error
from scipy.integrate import solve_ivp

import ctrnn
from ctrnn.errors import GradientAccuracyWarning, UnknownNameError
from ctrnn.gradients.recording.stepper import StepperRecording
from ctrnn.settings import Settings

NAMED = {its.name: its for its in PROBLEMS}
AT_REST = [its.name for its in PROBLEMS if its.kind == "rest"]
LEAK = "leak to 10"


@pytest.mark.parametrize("name", NAMED)
def test_at_default_settings_the_error_is_at_most_100_rtol(name):
    g = ctrnn.gradient(NAMED[name].make(), method="adjoint")
    assert relative_error(g, reference(name)) < 100 * 1e-8


@pytest.mark.parametrize("rtol", [1e-4, 1e-10])
def test_and_at_other_tolerances_or_a_warning_says_so(rtol):
    off, loud = [], []
    for its in PROBLEMS:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            g = ctrnn.gradient(its.make(), method="adjoint", rtol=rtol, atol=rtol / 100)
        warned = any(issubclass(w.category, GradientAccuracyWarning) for w in said)
        loud += [its.name] * warned
        if not relative_error(g, reference(its.name)) < 100 * rtol and not warned:
            off.append(its.name)
    assert off == []
    assert len(loud) <= 2


@pytest.mark.parametrize("solver", ["dop853", "dopri5", "bs3"])
@pytest.mark.parametrize("name", ["leak to 10", "centre w=6 d=0.1", "pulse at 20", "4 units at rest to 20"])
def test_by_other_solvers(solver, name):
    rtol = 1e-5 if solver == "bs3" else 1e-8
    g = ctrnn.gradient(NAMED[name].make(), method="adjoint", solver=solver, rtol=rtol, atol=rtol / 100)
    assert relative_error(g, reference(name)) < 100 * rtol


@pytest.mark.parametrize(("solver", "rtol"), [("kvaerno5", 1e-6), ("kencarp4", 1e-6), ("dopri5", 1e-4)])
def test_on_all_problems_by_other_solvers(solver, rtol):
    """With the steps of the state more than 25 are off."""
    off = {"state": [], "all": []}
    for its in PROBLEMS:
        for control, names in off.items():
            g = ctrnn.gradient(
                its.make(), method="adjoint", solver=solver, rtol=rtol, atol=rtol / 100, error_control=control
            )
            names += [its.name] * (not relative_error(g, reference(its.name)) < 100 * rtol)
    assert off["all"] == [] and len(off["state"]) > 25


@pytest.mark.parametrize("solver", ["kvaerno5", "kencarp4"])
def test_stiff_modes_that_are_gone_within_a_step_cost_nothing(solver):
    """Robertson's problem with six observations is right by the steps of the state, and takes no others."""
    field = ctrnn.Equations(ROBERTSON, {"k1": 0.04, "k2": 3e7, "k3": 1e4})
    times = np.geomspace(0.4, 4e4, 6)
    problem = ctrnn.Problem(field, [1.0, 0.0, 0.0], (0.0, 4e4))
    y = 1.05 * ctrnn.simulate(problem, "kvaerno5", save_at=times, rtol=1e-10, atol=1e-14).r
    problem = problem.replace(objective=ctrnn.Objective(target=y, at=times))
    how = {"solver": solver, "rtol": 1e-6, "atol": 1e-10}
    by_all, by_state = (ctrnn.gradient(problem, "adjoint", error_control=c, **how) for c in ("all", "state"))
    assert by_all.stats.evaluations == by_state.stats.evaluations


@pytest.mark.parametrize(("solver", "rtol"), [("kvaerno5", 1e-6), ("kvaerno5", 1e-4), ("kencarp4", 1e-6)])
def test_where_a_relaxation_oscillator_jumps_the_known_derivative_tells(solver, rtol):
    """λ is right to many digits in every step, and all but orthogonal to F: the gradient is off by far, and says so."""
    field = ctrnn.Equations({"x": "y", "y": "mu*(1 - x*x)*y - x"}, parameters={"mu": 1000.0})
    objective = ctrnn.Objective("x", at=[1500.0])
    problem = ctrnn.Problem(field, [2.0, 0.0], (0.0, 1500.0), objective=objective)
    exact = ctrnn.gradient(problem, "adjoint", solver="kvaerno5", rtol=1e-12, atol=1e-12, error_control="state")
    with pytest.warns(GradientAccuracyWarning, match="may still be off by more than 100 rtol"):
        g = ctrnn.gradient(problem, "adjoint", solver=solver, rtol=rtol, atol=rtol / 100)
    assert relative_error(g, np.append(exact.vector, exact.r0)) > 100 * rtol


def test_the_identity_of_all_rates_at_once():
    """Of Robertson's rates, each proportional to a parameter, Σ k dl/dk is the derivative by all rates at once.

    So is Σ (t_k − t0) ∂ℓ/∂r · F(r), here by SciPy's solution, which takes part in neither.
    """
    rates = {"k1": 0.04, "k2": 3e3, "k3": 10.0}
    times = np.array([1.0, 10.0])
    problem = ctrnn.Problem(
        ctrnn.Equations(ROBERTSON, rates), [1.0, 0.0, 0.0], (0.0, 10.0), objective=ctrnn.Objective("y1", at=times)
    )
    settings = Settings(solver="kvaerno5", rtol=1e-9, atol=1e-12)
    recording = StepperRecording(problem, settings, "test")
    blocks = list(recording.blocks(20))
    rows, G = recording.zero_rows(), recording.zero_parameters()
    for block in reversed(blocks):
        recording.pull(block, rows, G)
    identity = recording.errors.time_scale
    assert identity.error(0.0) < 1e-8
    found = float(recording.vector(G) @ list(rates.values()))
    assert identity.by_steps == pytest.approx(found, rel=1e-8)
    run = solve_ivp(problem.field, (0, 10), problem.r0, method="Radau", t_eval=times, rtol=1e-11, atol=1e-13)
    known = sum(t * problem.field(t, r)[0] for t, r in zip(times, run.y.T, strict=True))
    assert identity.by_states == pytest.approx(known, rel=1e-7)


def test_a_field_that_depends_on_the_time_has_no_such_identity():
    its = NAMED["Prothero–Robinson"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ctrnn.gradient(its.make(), "adjoint", solver="kvaerno5", rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", AT_REST)
def test_the_state_alone_is_not_enough_at_rest(name):
    """Or the tests above would prove nothing."""
    g = ctrnn.gradient(NAMED[name].make(), method="adjoint", error_control="state")
    assert not relative_error(g, reference(name)) < 1000 * 1e-8


@pytest.mark.parametrize("method", ["adjoint-checkpoint", "rtrl", ctrnn.RTRL(block=7), "autograd"])
@pytest.mark.parametrize("name", [LEAK, "4 units at rest to 5", "prey, integral"])
def test_every_method_takes_the_same_steps(method, name):
    """So that they agree to rounding where steps were divided too."""
    problem = NAMED[name].make()
    exact = ctrnn.gradient(problem, method="adjoint")
    g = ctrnn.gradient(problem, method=method)
    assert np.linalg.norm(g.vector - exact.vector) < 1e-11 * np.linalg.norm(exact.vector)
    assert g.stats.steps == exact.stats.steps or method == "autograd"


def test_a_run_that_was_fine_enough_costs_nothing_more():
    problem = NAMED["prey, observed"].make()
    by_all, by_state = (ctrnn.gradient(problem, "adjoint", error_control=c) for c in ("all", "state"))
    assert by_all.stats.evaluations == by_state.stats.evaluations
    assert np.array_equal(by_all.vector, by_state.vector)


def test_fixed_steps_and_solutions_stay_as_they_are():
    problem = NAMED[LEAK].make()
    fixed = [ctrnn.gradient(problem, "adjoint", solver="rk4", dt=0.1, error_control=c).vector for c in ("all", "state")]
    assert np.array_equal(*fixed)
    assert ctrnn.simulate(problem).stats.steps < 12


def test_second_derivatives_at_rest():
    """Of l = r(T)²/2, r = e^(−kT) (r0 − I/k) + I/k, at r0 = I/k = 1."""
    field = ctrnn.Equations({"r": "-k*r + I"}, parameters={"k": 1.0, "I": 1.0})
    problem = ctrnn.Problem(field, [1.0], (0.0, 10.0), objective=ctrnn.Objective(target=0.0, at=[10.0]))
    e = np.exp(-10.0)
    r_k, r_I, r_II = -(1 - e), 1 - e, 0.0
    r_kI = -1 + e * (1 + 10.0)
    r_kk = 2 * (1 - e) - 2 * 10.0 * e  # ∂²/∂k² of e^(−kT)(1 − 1/k) + 1/k at k = 1
    exact = np.array([[r_k**2 + r_kk, r_k * r_I + r_kI], [r_k * r_I + r_kI, r_I**2 + r_II]])
    assert np.abs(ctrnn.hessian(problem) - exact).max() < 1e-6
    assert np.abs(ctrnn.gauss_newton(problem) - np.outer([r_k, r_I], [r_k, r_I])).max() < 1e-6


def test_a_stream_at_rest():
    field = ctrnn.Equations({"r": "-k*r + I"}, parameters={"k": 1.0, "I": 1.0})
    stream = ctrnn.RTRLStream(field, [1.0], solver="tsit5", readout="r")
    stream.advance(until=30.0)
    assert np.abs(stream.p - [-1.0, 1.0]).max() < 1e-6
    old = ctrnn.RTRLStream(field, [1.0], solver="tsit5", readout="r", error_control="state")
    old.advance(until=30.0)
    assert not np.abs(old.p - [-1.0, 1.0]).max() < 1.0


def test_odeint_at_rest_forwards_and_backwards():
    import torch

    for end in (20.0, -2.0):
        k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        field = ctrnn.as_module(ctrnn.Equations({"r": "-k*r + I"}, parameters={"k": 1.0, "I": 1.0}))
        times = torch.tensor([0.0, end], dtype=torch.float64)
        ctrnn.odeint(field, torch.ones(1, dtype=torch.float64), times, method="tsit5")[-1, 0].backward()
        exact = 1.0 - np.exp(-end)
        assert abs(float(field.I.grad) - exact) < 1e-5 * abs(exact)
        del k


def test_trials_at_rest():
    field = ctrnn.Equations({"r": "-k*r + I"}, parameters={"k": 1.0, "I": 1.0})
    objective = ctrnn.Objective("r", at=[20.0])
    trials = ctrnn.Problem(field, [[1.0], [1.0], [1.0]], (0.0, 20.0), objective=objective)
    assert np.abs(ctrnn.gradient(trials).vector - [-3.0, 3.0]).max() < 1e-6


def hill():
    """l = ∫ relu(a − 12)² dt, a = k(5t − t²/2) + a0: dl/dk = 2 ∫ (a − 12) a/k, dl/da0 = 2 ∫ (a − 12), |t − 5| < 1."""
    field = ctrnn.Equations({"a": "k*(5 - t)"}, parameters={"k": 1.0})
    problem = ctrnn.Problem(field, [0.0], (0.0, 10.0), objective=ctrnn.Objective("relu(a - 12)**2"))
    return problem, np.array([2 * (12.5 - 13 / 3 + 0.1), 4 / 3])


def above(c, w=2.0, phi=0.0, end=10.0):
    """l = ∫ max(x, c) dt of a rotation, x = cos(wt − φ) = x0 cos wt + y0 sin wt, and its gradient in w, x0, y0."""
    field = ctrnn.Equations({"x": "w*y", "y": "-w*x"}, parameters={"w": w})
    problem = ctrnn.Problem(field, [np.cos(phi), np.sin(phi)], (0.0, end), objective=ctrnn.Objective(f"max(x, {c!r})"))
    kinks = [(2 * np.pi * j + s * np.arccos(c) + phi) / w for j in range(-3, 60) for s in (-1, 1)]
    t = np.array([0.0, *sorted(at for at in kinks if 0.0 < at < end), end])
    is_above = np.cos(w * (t[1:] + t[:-1]) / 2 - phi) > c
    along = [t * np.cos(w * t - phi) / w - np.sin(w * t - phi) / w**2, np.sin(w * t) / w, -np.cos(w * t) / w]
    return problem, np.array([is_above @ np.diff(part) for part in along])


def rotation():
    """l = ∫ |x| dt = ∫ 2 max(x, 0) − x dt, x = cos 2t: a sign that changes six times."""
    problem, exact = above(0.0)
    t = 10.0
    along = np.array([t * np.cos(2 * t) / 2 - np.sin(2 * t) / 4, np.sin(2 * t) / 2, (1 - np.cos(2 * t)) / 2])
    return problem.replace(objective=ctrnn.Objective("abs(x)")), 2 * exact - along


@pytest.mark.parametrize("solver", ["tsit5", "dop853", "kvaerno5"])
@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("make", [hill, rotation])
def test_kinks_of_an_integral(make, rtol, solver):
    """The hill lies between the stages of a step of tsit5 at 1e-4 and 1e-6."""
    problem, exact = make()
    how = {"solver": solver, "rtol": rtol, "atol": rtol / 100}
    g = ctrnn.gradient(problem, "adjoint", **how)
    assert relative_error(g, exact) < 100 * rtol
    old = ctrnn.gradient(problem, "adjoint", error_control="state", **how)
    assert relative_error(g, exact) < max(relative_error(old, exact), 100 * rtol)


@pytest.mark.parametrize("solver", ["tsit5", "dop853", "kencarp4"])
@pytest.mark.parametrize("seed", range(8))
def test_kinks_at_any_level(seed, solver):
    """Two to forty kinks, at any place in a step."""
    rng = np.random.default_rng(seed)
    problem, exact = above(
        *(float(rng.uniform(*range_)) for range_ in [(-0.9, 0.9), (0.5, 4.0), (0.0, 6.0), (4.0, 20.0)])
    )
    for rtol in (1e-4, 1e-7):
        g = ctrnn.gradient(problem, "adjoint", solver=solver, rtol=rtol, atol=rtol / 100)
        assert relative_error(g, exact) < 100 * rtol


def test_between_the_stages_a_loss_with_a_weight_in_time_is_found():
    """The hill with the weight of a signal: twice the gradient."""
    problem, exact = hill()
    weight = ctrnn.inputs.Sampled([0.0, 10.0], [2.0, 2.0], "linear")
    weighted = problem.replace(objective=ctrnn.Objective("relu(a - 12)**2", weight=weight))
    g = ctrnn.gradient(weighted, "adjoint", rtol=1e-4, atol=1e-6)
    assert relative_error(g, 2 * exact) < 100 * 1e-4


def test_an_unknown_control_is_refused():
    with pytest.raises(UnknownNameError, match="error_control"):
        ctrnn.gradient(NAMED[LEAK].make(), error_control="states")
