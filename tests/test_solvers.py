"""The solvers against known solutions, other codes, and counts made from outside.

Two problems with exact solutions carry most of it. The nonlinear, time-dependent, forced one

    du/dt = e^v − e^(cos ωt) + ω cos ωt + x,   dv/dt = e^(sin ωt + y) − e^u − ω sin ωt

is solved by u = sin ωt + y, v = cos ωt wherever y' = x: a jump in x is a kink in y and in u. The linear one
dr/dt = −r + x with x held between jumps is solved piece by piece, by r ← x + (r − x) e^(−h).
"""

from __future__ import annotations

from functools import cache

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import ctrnn
from ctrnn import Equations, Objective, Problem, RateNetwork, TorchField, inputs, simulate
from ctrnn.errors import (
    DivergenceError,
    SolverError,
    StepUnderflowError,
    TooManyStepsError,
    UnknownNameError,
    UsageError,
)
from ctrnn.kernels import stepper
from ctrnn.solvers import runge_kutta, tableaus

TABLEAUS = [tableaus.get(name) for name in tableaus.names()]
# explicit methods: orders as their tableaus state them, which test_tableaus.py shows
ORDERS = {t.name: t.order for t in TABLEAUS if not t.implicit and not t.exponential}
PAIRS = tuple(name for name in ORDERS if tableaus.get(name).adaptive)
SCIPY = ("scipy:RK45", "scipy:DOP853", "scipy:LSODA", "scipy:BDF", "scipy:Radau")
LIBRARIES = (*SCIPY, "torchdiffeq:dopri5")

OMEGA, T_END = 1.5, 3.0


@cache
def forced_field():
    return Equations(
        {
            "u": "exp(v) - exp(cos(w*t)) + w*cos(w*t) + x",
            "v": "exp(sin(w*t) + y) - exp(u) - w*sin(w*t)",
        },
        parameters={"w": OMEGA},
        inputs=("x", "y"),
    )


@cache
def decay():
    return Equations({"r": "-k*r"}, parameters={"k": 2.0})


@cache
def driven():
    return Equations({"r": "-r + x"}, inputs=("x",))


@cache
def integral():
    return Equations({"r": "x"}, inputs=("x",))


@cache
def square():
    return Equations({"r": "r**2"})


@cache
def van_der_pol():
    return Equations({"u": "v", "v": "mu*(1 - u**2)*v - u"}, parameters={"mu": 1.0})


@cache
def logarithm():
    """dr/dt = log(c − t), not a number after c."""
    return Equations({"r": "log(c - t)"}, parameters={"c": 0.5})


def forced(x=0.0, y=0.0, t_span=(0.0, T_END)):
    u0 = [np.sin(OMEGA * t_span[0]), np.cos(OMEGA * t_span[0])]
    return Problem(forced_field(), r0=u0, t_span=t_span, x=inputs.stack(x, y))


def forced_solution(t, y=0.0):
    return np.stack([np.sin(OMEGA * t) + y, np.cos(OMEGA * t)], axis=-1)


def held(r, t0, t, jumps, values):
    """dr/dt = −r + x from r at t0, x = values[j] from jumps[j] on (jumps[0] <= t0): r at each of the times t."""
    result = []
    for end in np.atleast_1d(t):
        now, state = t0, r
        for jump, value in zip([*jumps[1:], np.inf], values, strict=True):
            if (stop := min(end, jump)) > now:
                state, now = value + (state - value) * np.exp(now - stop), stop
        result.append(state)
    return np.array(result)


def slope(sizes, errors):
    """p of errors ~ sizes^p, by least squares."""
    return np.polyfit(np.log(sizes), np.log(errors), 1)[0]


# ---- order -------------------------------------------------------------------------------------------------------


def measured_errors(problem, exact, solver, steps):
    """At the end, and root mean square inside the steps."""
    t0, t1 = problem.t_span
    inside = (t0 + (np.arange(steps)[:, None] + [0.15, 0.4, 0.65, 0.9]) * (t1 - t0) / steps).ravel()
    save_at = np.append(inside, t1)
    run = simulate(problem, solver=solver, dt=(t1 - t0) / steps, save_at=save_at)
    np.testing.assert_array_equal(run.t, save_at)
    errors = run.r - exact(save_at)
    return np.linalg.norm(errors[-1]), np.sqrt((errors[:-1] ** 2).mean())


#: the coarser of two numbers of steps: errors fall as h^p there, and stay above 1e-14
COARSE = {
    "euler": 1024,
    "midpoint": 512,
    "heun": 512,
    "rk4": 256,
    "bs3": 256,
    "dopri5": 128,
    "tsit5": 128,
    "dop853": 16,
}


@pytest.mark.parametrize("solver", ORDERS)
def test_order_at_the_end_and_of_dense_output(solver):
    """Halving the step gives the stated order within 0.1, on the grid and off it (dense output of order p − 1)."""
    N = COARSE[solver]
    errors = np.array([measured_errors(forced(), forced_solution, solver, n) for n in (N, 2 * N)])
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), ORDERS[solver], rtol=0, atol=0.1)


def jumping(hide=False):
    """x jumps, and y has kinks, at a third and at two thirds of the span: never at a step of 2^k in it."""
    a, b = T_END / 3, 2 * T_END / 3
    x = inputs.Pulse(a, b - a, -1.0)
    y = inputs.Sampled([0.0, a, b, T_END], np.array([0.0, 0.0, a - b, a - b]), kind="linear")
    if hide:
        x, y = inputs.Function(x.__call__), inputs.Function(y.__call__)
    return forced(x, y), lambda t: forced_solution(t, -np.clip(t - a, 0.0, b - a))


@pytest.mark.parametrize("solver", ORDERS)
def test_a_jump_inside_a_step_costs_no_order(solver):
    problem, exact = jumping()
    N = COARSE[solver]
    errors = np.array([measured_errors(problem, exact, solver, n) for n in (N, 2 * N)])
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), ORDERS[solver], rtol=0, atol=0.1)


@pytest.mark.parametrize("solver", ["rk4", "tsit5"])
def test_a_jump_that_is_hidden_does_cost_order(solver):
    problem, exact = jumping(hide=True)
    N = 32
    errors = np.array([measured_errors(problem, exact, solver, n) for n in (N, 4 * N, 16 * N)])
    assert (np.log2(errors[0] / errors[2]) / 4 < 1.6).all()
    shown, exact = jumping()
    assert (measured_errors(shown, exact, solver, N) < 1e-2 * errors[0]).all()


# ---- jumps -------------------------------------------------------------------------------------------------------


TIMES = np.array([-1.0, 0.31, 0.8, 1.47, 2.6])
VALUES = np.array([0.5, 2.0, -1.0, 3.0, 0.25])


def steps_of(times, values):
    """The held signal as a sum of Steps."""
    x = inputs.Constant(values[0])
    for t, jump in zip(times[1:], np.diff(values), strict=True):
        x = x + inputs.Step(t, jump)
    return x


@pytest.mark.parametrize("signal", ["hold", "steps", "function", "pulses"])
@pytest.mark.parametrize("solver", ["tsit5", "dop853", "rk4"])
def test_held_inputs_against_the_exact_solution(signal, solver):
    times, values = TIMES, VALUES
    if signal == "hold":
        x = inputs.Sampled(times, values)
    elif signal == "steps":
        x = steps_of(times, values)
    elif signal == "function":
        x = inputs.Function(lambda t: values[np.searchsorted(times, t, side="right") - 1], breaks=times[1:])
    else:
        times, values = np.array([0.0, 0.37, 0.78, 1.5, 1.6]), np.array([0.0, 2.0, 0.0, -5.0, 0.0])
        x = inputs.Pulse(0.37, 0.41, 2.0) + inputs.Pulse(1.5, 0.1, -5.0)
    problem = Problem(driven(), r0=[0.7], t_span=(0.0, 3.0), x=x)
    save_at = np.sort(np.append(np.linspace(0.0, 3.0, 40), times[times > 0]))
    run = simulate(
        problem, solver=solver, rtol=1e-11, atol=1e-12, dt=0.004 if solver == "rk4" else None, save_at=save_at
    )
    # rk4: h^4/5! of a rate of one; the others: their tolerance, a few times
    tolerance = 1e-10 if solver == "rk4" else 3e-11
    np.testing.assert_allclose(run.r[:, 0], held(0.7, 0.0, save_at, times, values), rtol=0, atol=tolerance)


@pytest.mark.parametrize("solver", ORDERS)
def test_one_sided_values(solver):
    """dr/dt = x, which is 0 before 1/2 and 3 from there on: exact for every method, and 1/2 belongs to the right."""
    problem = Problem(integral(), r0=[0.0], t_span=(0.0, 1.0), x=inputs.Step(0.5, 3.0))
    run = simulate(problem, solver=solver, dt=0.25, save_at=[0.25, 0.375, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(run.r[:, 0], [0.0, 0.0, 0.0, 0.75, 1.5], rtol=0, atol=1e-15)
    assert run.stats.steps == 4


@pytest.mark.parametrize("solver", ["rk4", "tsit5", "dop853", "scipy:LSODA", "scipy:Radau", "torchdiffeq:dopri5"])
def test_a_function_is_asked_on_the_right_side_of_its_jump(solver):
    """Up to the step onto 1/2 the function is asked before 1/2; after it, from 1/2 on; and never outside t_span."""
    asked = []

    def function(t):
        asked.append(t)
        return 1.0 if t < 0.5 else 2.0

    problem = Problem(driven(), r0=[0.3], t_span=(0.0, 1.0), x=inputs.Function(function, breaks=[0.5]))
    simulate(problem, solver=solver, dt=0.2 if solver == "rk4" else None)
    asked = np.array(asked)
    second = np.argmax(asked >= 0.5)
    assert second > 0
    assert (asked[:second] < 0.5).all() and (asked[second:] >= 0.5).all()
    assert asked[second] == 0.5
    if not solver.startswith("scipy"):  # Radau and LSODA may look ahead
        assert asked[:second].max() == np.nextafter(0.5, 0.0)
        assert asked.min() == 0.0 and 1.0 - 1e-15 < asked.max() <= 1.0


def test_a_jump_that_is_known_costs_no_rejected_steps():
    x = inputs.Sampled(np.arange(20.0), np.random.default_rng(3).normal(size=20))
    hidden = inputs.Function(x.__call__)
    known, blind = (
        simulate(Problem(driven(), r0=[0.0], t_span=(0.0, 20.0), x=signal), rtol=1e-9, atol=1e-9, save_at=[20.0])
        for signal in (x, hidden)
    )
    exact = held(0.0, 0.0, 20.0, np.arange(20.0), x(np.arange(20.0)).ravel())
    assert abs(known.r[0] - exact) < 1e-8 and abs(blind.r[0] - exact) < 1e-6
    assert blind.stats.rejected > 100 > 10 * known.stats.rejected
    assert blind.stats.evaluations > 1.5 * known.stats.evaluations


@pytest.mark.parametrize("end", [0.0, 2.0])
def test_a_jump_at_an_end_of_the_span(end):
    """At t0 its right side counts from the start; at t1 it has not happened yet."""
    rounding = 0.1 + 0.2 - 0.3 if end == 0.0 else np.spacing(end)
    for jump in (end, end - rounding, end + rounding):
        problem = Problem(driven(), r0=[1.0], t_span=(0.0, 2.0), x=inputs.Step(jump, 5.0))
        value = 5.0 if end == 0.0 else 0.0
        for solver in ("tsit5", "scipy:LSODA"):
            run = simulate(problem, solver=solver, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(run.r[-1], value + (1 - value) * np.exp(-2.0), rtol=0, atol=1e-8)
            assert end == 0.0 or np.diff(run.t).min() > 1e-12
        fixed = simulate(problem, solver="rk4", dt=0.25)
        np.testing.assert_allclose(fixed.r[-1], value + (1 - value) * np.exp(-2.0), rtol=0, atol=1e-3)
        if end == 2.0:
            np.testing.assert_array_equal(fixed.t, np.arange(9) * 0.25)


def test_jumps_that_coincide_are_one_stop():
    """0.1 + 0.2 is not 0.3; the solver takes no step between the two."""
    x = inputs.Step(0.3, 1.0) + inputs.Step(0.1 + 0.2, 1.0) + inputs.Pulse(0.1, 0.2, 2.0) + inputs.Step(0.3, -1.0)
    problem = Problem(driven(), r0=[0.0], t_span=(0.0, 1.0), x=x)
    run = simulate(problem, solver="tsit5", rtol=1e-11, atol=1e-12)
    assert np.diff(run.t).min() > 1e-7
    exact = held(0.0, 0.0, 1.0, [0.0, 0.1, 0.3], [0.0, 2.0, 1.0])
    np.testing.assert_allclose(run.r[-1], exact, rtol=0, atol=1e-11)


# ---- adaptive steps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", PAIRS)
def test_the_error_falls_with_the_tolerance(solver):
    tolerances = np.array([1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10])[: 6 if solver == "bs3" else 7]
    problem = forced(t_span=(0.0, 4.0))
    times = np.linspace(0.1, 4.0, 50)
    errors = [
        abs(simulate(problem, solver=solver, rtol=tol, atol=tol, save_at=times).r - forced_solution(times)).max()
        for tol in tolerances
    ]
    assert 0.8 < slope(tolerances, errors) < 1.2
    # an error a step of tol, grown along the way by the flow
    assert (errors < 100 * tolerances).all()


def test_agreement_with_scipy_at_1e_12():
    """Lotka–Volterra by SciPy's own DOP853, its right-hand side written here."""
    a, b, c, d = 0.55, 0.028, 0.80, 0.024
    times = np.linspace(0.0, 10.0, 21)
    reference = solve_ivp(
        lambda t, r: [a * r[0] - b * r[0] * r[1], -c * r[1] + d * r[0] * r[1]],
        (0.0, 10.0), [30.0, 4.0], method="DOP853", rtol=1e-13, atol=1e-13, t_eval=times,
    ).y.T  # fmt: skip
    field = Equations(
        {"prey": "a*prey - b*prey*pred", "pred": "-c*pred + d*prey*pred"}, parameters={"a": a, "b": b, "c": c, "d": d}
    )
    problem = Problem(field, r0={"pred": 4.0, "prey": 30.0}, t_span=(0.0, 10.0))
    for solver in ("dopri5", "tsit5", "dop853"):
        run = simulate(problem, solver=solver, rtol=1e-13, atol=1e-13, save_at=times)
        # the steps, and each solver's dense output between them
        np.testing.assert_allclose(run.r, reference, rtol=1e-11)
        np.testing.assert_allclose(run.r[-1], reference[-1], rtol=2e-12)


def test_agreement_with_mpmath():
    """The pendulum let go at θ0: sin(θ/2) = k cd(t, m), k = sin(θ0/2), m = k² (a Jacobi elliptic function)."""
    theta0 = mpmath.mpf("2.5")
    k = mpmath.sin(theta0 / 2)
    times = [0.5, 1.7, 3.0, 6.1]
    exact = [float(2 * mpmath.asin(k * mpmath.ellipfun("cd", t, m=k**2))) for t in times]
    field = Equations({"theta": "v", "v": "-sin(theta)"})
    problem = Problem(field, r0=[2.5, 0.0], t_span=(0.0, 6.1))
    run = simulate(problem, solver="dop853", rtol=1e-13, atol=1e-14, save_at=times)
    np.testing.assert_allclose(run["theta"], exact, rtol=0, atol=2e-12)


@pytest.mark.parametrize("solver", [*ORDERS, *LIBRARIES, "torchdiffeq:rk4"])
def test_evaluations_are_counted(solver):
    """F is evaluated once for each call of an input function, and once for each stage at the time of the one before,
    which takes its input.

    With jumps, saved times and rejected steps in between.
    """
    calls = 0

    def function(t):
        nonlocal calls
        calls += 1
        return 0.0 if t < 0.71 else 20.0 * np.exp(-(((t - 1.4) / 0.1) ** 2))

    dt = 0.05 if solver.split(":")[-1] in ("euler", "midpoint", "heun", "rk4") else None
    for save_at in (None, [0.0, 0.333, 0.5, 1.0, 1.1, 2.0]):
        problem = Problem(driven(), r0=[1.0], t_span=(0.0, 2.0), x=inputs.Function(function, breaks=[0.71]))
        calls = 0
        run = simulate(problem, solver=solver, rtol=1e-6, atol=1e-6, dt=dt, save_at=save_at)
        if solver in ORDERS:
            at_once = np.count_nonzero(np.diff(tableaus.get(solver).c) == 0.0)
            assert run.stats.evaluations == calls + at_once * (run.stats.steps + run.stats.rejected)
        elif solver not in ("scipy:BDF", "scipy:LSODA", "scipy:Radau"):
            assert run.stats.evaluations == calls
        else:  # a Jacobian asks for x, too
            assert run.stats.evaluations + run.stats.jacobians == calls
        if solver in PAIRS or solver == "torchdiffeq:dopri5":
            assert run.stats.rejected > 0
        elif dt is not None:
            # 40 steps, one of them in two parts; torchdiffeq counts its steps from each jump anew
            assert run.stats.steps == 41 and run.stats.rejected == 0
        if save_at is None and not solver.startswith("torchdiffeq"):
            assert run.stats.steps == len(run.t) - 1
        assert run.stats.wall_time > 0.0


def test_evaluations_of_a_step():
    """FSAL methods pay one less a step; the dense output of dop853 three more a step in which something is saved."""
    problem = Problem(decay(), r0=[1.0], t_span=(0.0, 1.0))
    for solver, first, each in (("rk4", 0, 4), ("bs3", 1, 3), ("tsit5", 1, 6), ("dopri5", 1, 6), ("dop853", 1, 12)):
        assert simulate(problem, solver=solver, dt=0.1).stats.evaluations == first + 10 * each
    saved = simulate(problem, solver="dop853", dt=0.1, save_at=[0.1, 0.25, 0.28, 0.5, 1.0]).stats.evaluations
    assert saved == 1 + 10 * 12 + 3


def test_each_component_may_have_its_tolerance():
    """A component without a tolerance to speak of does not shorten the steps of the other."""
    field = Equations({"slow": "-slow", "fast": "40*(cos(40*t) - fast)"})
    problem = Problem(field, r0=[1.0, 0.0], t_span=(0.0, 5.0))
    both = simulate(problem, rtol=1e-8, atol=1e-8)
    one = simulate(problem, rtol=[1e-8, 0.0], atol=[1e-8, 1e3])
    assert one.stats.steps < both.stats.steps / 2
    np.testing.assert_allclose(one.r[-1, 0], np.exp(-5.0), rtol=0, atol=1e-7)


# ---- the other libraries -----------------------------------------------------------------------------------------


@cache
def torch_network():
    import torch

    def function(t, r, w, x):
        return -r + torch.tanh(w["W"] @ r + w["U"] @ x)

    rng = np.random.default_rng(5)
    weights = {"W": rng.normal(size=(3, 3)), "U": rng.normal(size=(3, 2))}
    return TorchField(function, n=3, parameters=weights, inputs=2)


def scenario(name):
    if name == "equations":
        return jumping()[0].replace(t_span=(0.0, 2.0))
    x = inputs.stack(inputs.Sine(0.4), inputs.Pulse(0.37, 0.8, 2.0) + inputs.Sampled([0.0, 1.1], [0.3, -0.4]))
    if name == "network":
        field = RateNetwork(8, inputs=2, seed=1)
        return Problem(field, r0=np.linspace(-1.0, 1.0, 8), t_span=(0.0, 2.0), x=x)
    return Problem(torch_network(), r0=[0.5, -0.2, 0.1], t_span=(0.0, 2.0), x=x)


@cache
def reference(name):
    return simulate(scenario(name), solver="dop853", rtol=1e-12, atol=1e-13, save_at=SAVED).r


SAVED = np.sort([0.0, 0.333, 0.37, 0.9, 1.1, 1.101, 1.77, 2.0])


@pytest.mark.parametrize("solver", LIBRARIES)
@pytest.mark.parametrize("name", ["equations", "network", "torch"])
def test_other_libraries_agree(name, solver):
    tol = 1e-6 if solver == "scipy:BDF" or name == "torch" else 1e-8
    run = simulate(scenario(name), solver=solver, rtol=tol, atol=tol, save_at=SAVED)
    np.testing.assert_array_equal(run.t, SAVED)
    # multistep methods keep their tolerance within a factor of some hundred, the others of some ten
    factor = 300 if solver in ("scipy:BDF", "scipy:LSODA") else 30
    assert abs(run.r - reference(name)).max() < factor * tol
    assert run.stats.solver == solver
    assert (run.stats.jacobians > 0) == (solver in ("scipy:BDF", "scipy:Radau")) or solver == "scipy:LSODA"
    if name == "network":
        every = simulate(scenario(name), solver=solver, rtol=tol, atol=tol)
        assert abs(every.r[-1] - reference(name)[-1]).max() < factor * tol
        assert every.t[0] == 0.0 and every.t[-1] == 2.0 and (np.diff(every.t) > 0).all()


@pytest.mark.parametrize("name", ["equations", "network", "torch"])
def test_torchdiffeq_with_fixed_steps(name):
    """Its rk4 is of order 4 here too: between the steps, and across jumps that no step meets."""
    steps = (32, 64)
    found = [simulate(scenario(name), solver="torchdiffeq:rk4", dt=2.0 / n, save_at=SAVED).r for n in steps]
    coarse, fine = (np.linalg.norm(r - reference(name)) for r in found)
    assert np.log2(coarse / fine) > 3.5


# ---- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [*PAIRS, *LIBRARIES])
def test_a_solution_that_ends(solver):
    """dr/dt = r², r(0) = 1: r = 1/(1 − t) ends at t = 1, and the error says so."""
    with pytest.raises(StepUnderflowError) as caught:
        simulate(Problem(square(), r0=[1.0], t_span=(0.0, 2.0)), solver=solver)
    error = caught.value
    assert error.t == pytest.approx(1.0, abs=1e-5)
    assert error.r.shape == (1,) and error.r[0] > 1e6
    assert 0 <= error.h < 1e-8
    assert "last good t = 1" in str(error) or "last good t = 0.99999" in str(error)
    assert "Try: " in str(error)
    assert error.exit_code == 1


def test_fixed_steps_that_diverge():
    with pytest.raises(DivergenceError) as caught:
        simulate(Problem(square(), r0=[1.0], t_span=(0.0, 2.0)), solver="rk4", dt=0.01)
    error = caught.value
    assert 1.0 <= error.t < 1.2 and np.isfinite(error.r).all() and error.h == 0.01
    assert "a smaller dt" in str(error)


@pytest.mark.parametrize("solver", [*PAIRS, "rk4", *LIBRARIES, "torchdiffeq:rk4"])
def test_a_field_that_is_not_finite(solver):
    """At the start, and from t = 1/2 on; the last good state is one of the solution's."""
    dt = 0.0625 if solver.endswith("rk4") else None
    with pytest.raises(DivergenceError) as caught:
        simulate(Problem(logarithm().with_parameters(c=-1.0), r0=[1.0], t_span=(0.0, 1.0)), solver=solver, dt=dt)
    assert caught.value.t == 0.0
    np.testing.assert_array_equal(caught.value.r, [1.0])
    with pytest.raises(DivergenceError) as caught:
        simulate(Problem(logarithm(), r0=[1.0], t_span=(0.0, 1.0)), solver=solver, dt=dt)
    error = caught.value
    s = 0.5 - error.t
    assert 0 <= s < (0.08 if dt else 1e-3)
    exact = 1.0 + (0.5 * np.log(0.5) - 0.5) - ((s * np.log(s) if s > 0 else 0.0) - s)
    np.testing.assert_allclose(error.r, [exact], rtol=0, atol=0.06 if dt else 1e-5)


@pytest.mark.parametrize("solver", [*PAIRS, *LIBRARIES])
def test_too_many_steps(solver):
    problem = Problem(decay(), r0=[1.0], t_span=(0.0, 10.0))
    with pytest.raises(TooManyStepsError, match="more than 5 steps") as caught:
        simulate(problem, solver=solver, max_steps=5)
    error = caught.value
    assert 0.0 < error.t < 10.0 and error.h > 0.0
    np.testing.assert_allclose(error.r, [np.exp(-2 * error.t)], rtol=0, atol=1e-5)


def test_exactly_as_many_steps_as_are_needed_are_enough():
    problem = Problem(decay(), r0=[1.0], t_span=(0.0, 10.0))
    stats = simulate(problem).stats
    needed = stats.steps + stats.rejected
    assert simulate(problem, max_steps=needed).stats.steps == stats.steps
    with pytest.raises(TooManyStepsError):
        simulate(problem, max_steps=needed - 1)
    assert simulate(problem, solver="rk4", dt=0.1, max_steps=100).stats.steps == 100
    with pytest.raises(TooManyStepsError):
        simulate(problem, solver="rk4", dt=0.1, max_steps=99)


@pytest.mark.parametrize("solver", ["dopri5", "tsit5", "dop853"])
def test_stiffness_is_suspected(solver):
    problem = Problem(van_der_pol().with_parameters(mu=1e4), r0=[2.0, 0.0], t_span=(0.0, 1e4))
    with pytest.raises(TooManyStepsError, match="stiffness suspected") as caught:
        simulate(problem, solver=solver, rtol=1e-6, atol=1e-8, max_steps=2000)
    assert "scipy:LSODA" in caught.value.hint
    # the remedy that is named is one
    run = simulate(problem, solver="scipy:LSODA", rtol=1e-6, atol=1e-8, max_steps=5000)
    assert run.t[-1] == 1e4


def test_stiffness_is_not_suspected_where_there_is_none():
    assert not simulate(Problem(van_der_pol(), r0=[2.0, 0.0], t_span=(0.0, 20.0))).stats.stiff
    with pytest.raises(TooManyStepsError) as caught:
        simulate(Problem(van_der_pol(), r0=[2.0, 0.0], t_span=(0.0, 20.0)), max_steps=100)
    assert "stiffness" not in str(caught.value) and "larger max_steps" in str(caught.value)


def test_min_step():
    problem = Problem(square(), r0=[1.0], t_span=(0.0, 2.0))
    with pytest.raises(StepUnderflowError, match="below min_step = 0.001") as caught:
        simulate(problem, min_step=1e-3)
    assert 0.9 < caught.value.t < 1.0 and 0 < caught.value.h < 1e-3
    # a stop nearer than min_step is stepped onto all the same, and a first step is not shorter
    x = inputs.Step(0.5, 1.0) + inputs.Step(0.5 + 1e-6, 1.0)
    run = simulate(Problem(driven(), r0=[1.0], t_span=(0.0, 1.0), x=x), rtol=1e-5, atol=1e-5, min_step=1e-2)
    assert run.t[1] >= 1e-2 and np.diff(run.t).min() == pytest.approx(1e-6, rel=1e-6)


class Marker(Exception):
    """What a user's own code raises."""


@pytest.mark.parametrize("solver", ["tsit5", "rk4", "dop853", *SCIPY, "torchdiffeq:dopri5", "torchdiffeq:rk4"])
def test_what_the_users_code_raises_comes_out_as_itself(solver):
    dt = 0.05 if solver.endswith("rk4") else None

    def signal(t):
        if t > 0.5:
            raise Marker("signal")
        return 1.0

    with pytest.raises(Marker, match="signal"):
        simulate(Problem(driven(), r0=[0.3], t_span=(0.0, 1.0), x=inputs.Function(signal)), solver=solver, dt=dt)

    def rate(t, r, w, x):
        if t > 0.5:
            raise Marker("rate")
        return -r

    with pytest.raises(Marker, match="rate"):
        simulate(Problem(TorchField(rate, n=1), r0=[1.0], t_span=(0.0, 1.0)), solver=solver, dt=dt)
    # nothing is left over for the next run
    assert simulate(Problem(TorchField(rate, n=1), r0=[1.0], t_span=(0.0, 0.4)), solver=solver, dt=dt).t[-1] == 0.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "tsit4"}, "did you mean 'tsit5'"),
        ({"solver": "scipy:RK46"}, "scipy:RK45"),
        ({"solver": "torchdiffeq:dopri6", "dt": None}, "torchdiffeq:dopri5"),
        ({"solver": "julia:Tsit5"}, "torchdiffeq:NAME"),
        ({"solver": 5}, "solver: got 5"),
        ({"solver": "rk4"}, "dt: got None.*rk4 has no error estimate"),
        ({"solver": "torchdiffeq:rk4"}, "dt: got None"),
        ({"solver": "scipy:RK45", "dt": 0.1}, "dt: got 0.1"),
        ({"solver": "torchdiffeq:dopri5", "dt": 0.1}, "dt: got 0.1"),
        ({"dt": -0.1}, "dt: got -0.1; allowed: a positive number"),
        ({"dt": 0.0}, "dt: got 0"),
        ({"dt": np.nan}, "dt"),
        ({"dt": "small"}, "dt: got 'small'"),
        ({"rtol": -1e-6}, "rtol: got -1e-06"),
        ({"atol": np.inf}, "atol"),
        ({"rtol": [1e-6, 1e-6]}, r"rtol: got 'shape \(2,\)'; allowed: a number, or one for each of 1"),
        ({"atol": [1e-6, 1e-6], "solver": "scipy:RK45"}, "atol: got"),
        ({"rtol": 0.0, "atol": 0.0}, "at least one of them positive"),
        ({"rtol": [0.0], "atol": [0.0]}, "at least one of them positive"),
        ({"max_steps": 0}, "max_steps: got 0"),
        ({"max_steps": 10.5}, "max_steps: got 10.5"),
        ({"min_step": -1.0}, "min_step: got -1"),
        ({"min_step": "small"}, "min_step: got 'small'"),
        ({"save_at": [0.5, 0.2]}, "save_at: got '0.5 before 0.2'"),
        ({"save_at": [0.2, 0.2]}, "save_at: got '0.2 before 0.2'"),
        ({"save_at": [0.5, 1.1]}, "inside t_span, 0 to 1"),
        ({"save_at": [-0.1, 0.5]}, "inside t_span, 0 to 1"),
        ({"save_at": [0.5, np.nan]}, r"save_at.*entry \(1,\): nan"),
        ({"save_at": []}, "save_at"),
        ({"save_at": [[0.5]]}, "save_at"),
    ],
)
def test_arguments_that_are_not_allowed(arguments, message):
    problem = Problem(decay(), r0=[1.0], t_span=(0.0, 1.0))
    with pytest.raises(UsageError, match=message) as caught:
        simulate(problem, **arguments)
    assert caught.value.exit_code == 2
    if "did you mean" in message:
        assert isinstance(caught.value, UnknownNameError)


# ---- the ends of the range -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "span", [(1900.0, 1920.0), (-20.0, 0.0), (1.7e9, 1.7e9 + 20), (-1e6 - 20.0, -1e6), (-7.0, 13.0)]
)
def test_where_time_starts_does_not_matter(span):
    """Calendar years, negative times, seconds since 1970: with r = e^(−2 (t − t0))."""
    problem = Problem(decay(), r0=[1.0], t_span=span)
    times = np.linspace(*span, 41)
    run = simulate(problem, save_at=times)
    # a time near 1.7e9 is known to 2.4e-7
    tolerance = max(1e-8, 4 * np.spacing(abs(span[0])))
    np.testing.assert_allclose(run.r[:, 0], np.exp(-2 * (times - span[0])), rtol=0, atol=tolerance)
    assert simulate(problem).stats.steps == pytest.approx(
        simulate(problem.replace(t_span=(0.0, 20.0))).stats.steps, abs=2
    )
    fixed = simulate(problem, solver="rk4", dt=0.1)
    assert fixed.stats.steps == 200
    np.testing.assert_allclose(np.diff(fixed.t), 0.1, rtol=0, atol=4 * np.spacing(abs(span[0])))


@pytest.mark.parametrize("solver", ["tsit5", "dop853", "rk4", "scipy:DOP853"])
@pytest.mark.parametrize("start", [0.0, 1900.0, 1e10, -1.0])
@pytest.mark.parametrize("ulps", [1, 3, 50])
def test_tiny_spans(solver, start, ulps):
    end = start
    for _ in range(ulps):
        end = np.nextafter(end, np.inf)
    problem = Problem(decay(), r0=[1.0], t_span=(start, end))
    run = simulate(problem, solver=solver, dt=0.1 if solver == "rk4" else None, save_at=[start, end])
    np.testing.assert_allclose(run.r[:, 0], [1.0, np.exp(-2 * (end - start))], rtol=1e-12)
    assert run.stats.steps <= 2


@pytest.mark.parametrize("solver", [*PAIRS, *LIBRARIES])
@pytest.mark.parametrize("span", [(0.0, 100.0), (1900.0, 1920.0), (1.7e9, 1.7e9 + 100), (0.0, 1e-12)])
def test_at_rest(solver, span):
    """An equilibrium stays where it is, to the last digit, and costs few steps, in whatever unit time is."""
    run = simulate(Problem(decay(), r0=[0.0], t_span=span), solver=solver)
    np.testing.assert_array_equal(run.r, 0.0)
    assert run.t[-1] == span[1]
    assert run.stats.steps <= (100 if solver.startswith("scipy") else 20)


def test_a_relative_tolerance_alone_from_zero():
    """r0 = 0 with atol = 0: there is no scale for the error at the start, but the solution is exact to rtol after
    it."""
    run = simulate(Problem(driven(), r0=[0.0], t_span=(0.0, 1.0), x=1.0), rtol=1e-9, atol=0.0)
    np.testing.assert_allclose(run.r[-1], 1 - np.exp(-1.0), rtol=1e-8)
    for tolerances in ({"rtol": 0.0, "atol": 1e-9}, {"rtol": 1e-9, "atol": 0.0}):
        run = simulate(Problem(decay(), r0=[1.0], t_span=(0.0, 1.0)), **tolerances)
        np.testing.assert_allclose(run.r[-1], np.exp(-2.0), rtol=1e-8)


@pytest.mark.parametrize("solver", PAIRS)
def test_inputs_are_not_asked_outside_the_span(solver):
    """Also not by the choice of the first step, which from a state so near to rest would look far ahead."""

    def function(t):
        assert 0.0 <= t <= 1.0
        return 1.0

    simulate(Problem(driven(), r0=[1.0 + 1e-9], t_span=(0.0, 1.0), x=inputs.Function(function)), solver=solver)


def test_the_grid_of_fixed_steps():
    """dt larger than the span; dt that does not divide it; a stop between two grid points leaves the grid as it was."""
    problem = Problem(decay(), r0=[1.0], t_span=(0.0, 1.0))
    np.testing.assert_array_equal(simulate(problem, solver="rk4", dt=5.0).t, [0.0, 1.0])
    np.testing.assert_allclose(simulate(problem, solver="rk4", dt=0.3).t, [0.0, 0.3, 0.6, 0.9, 1.0], rtol=1e-15)
    assert simulate(problem, solver="rk4", dt=0.1).stats.steps == 10
    assert simulate(problem, solver="rk4", dt=1.0 / 3.0).stats.steps == 3
    x = inputs.Step(0.45, 1.0) + inputs.Step(0.6 + 1e-12, 1.0)
    stopped = simulate(Problem(driven(), r0=[1.0], t_span=(0.0, 1.0), x=x), solver="rk4", dt=0.3)
    # 0.6 + 1e-12 is a grid point but for rounding, and no step is spent between the two
    np.testing.assert_allclose(stopped.t, [0.0, 0.3, 0.45, 0.6, 0.9, 1.0], rtol=1e-11)


@pytest.mark.parametrize("start", [0.1, 1900.1, 1e5 + 0.1, 1.7e9 + 0.1])
@pytest.mark.parametrize("dt", [1e-3, 0.1, 0.3])
def test_no_step_for_the_rounding_of_the_grid(start, dt):
    for steps in (10, 100, 333):
        run = simulate(Problem(decay(), r0=[1.0], t_span=(start, start + steps * dt)), solver="midpoint", dt=dt)
        assert run.stats.steps == steps


def test_saved_at_both_ends_and_at_one_time():
    problem = Problem(decay(), r0=[1.0], t_span=(0.0, 1.0))
    np.testing.assert_array_equal(simulate(problem, save_at=[0.0]).r, [[1.0]])
    np.testing.assert_array_equal(simulate(problem, save_at=0.0).r, [[1.0]])
    both = simulate(problem, save_at=[0.0, 1.0])
    every = simulate(problem)
    np.testing.assert_array_equal(both.r, every.r[[0, -1]])
    assert both.names == ("r",) and both["r"].shape == (2,)
    # a time that is an end but for rounding is that end
    near = simulate(problem, save_at=[0.5, np.nextafter(1.0, 2.0)])
    assert near.t[-1] == 1.0 and near.r[-1] == every.r[-1]


def test_observation_times_are_stepped_onto_and_change_nothing_else():
    times = [0.0, 0.31, 0.5, 1.0]
    plain = Problem(decay(), r0=[1.0], t_span=(0.0, 1.0))
    observed = plain.replace(objective=Objective(target=np.zeros((4, 1)), at=times))
    fixed = simulate(observed, solver="rk4", dt=0.1)
    assert set(times) <= set(fixed.t) and fixed.stats.steps == 11
    np.testing.assert_allclose(simulate(observed).r[-1], np.exp(-2.0), rtol=0, atol=1e-8)


# ---- no Python a step ----------------------------------------------------------------------------------------------


def test_python_does_not_follow_the_steps(monkeypatch):
    """1,000 solves cost a call of the compiled stepper each; a long one, a call each BLOCK steps."""
    calls = 0
    advance = stepper.advance

    def counted(*arguments):
        nonlocal calls
        calls += 1
        return advance(*arguments)

    monkeypatch.setattr(stepper, "advance", counted)
    block = runge_kutta.BLOCK
    for save_at in (None, [7.0, 20.0]):
        problem = Problem(van_der_pol(), r0=[2.0, 0.0], t_span=(0.0, 20.0))
        for _ in range(500):
            steps = simulate(problem, save_at=save_at).stats.steps
            assert 100 < steps <= block
        assert calls == 500
        calls = 0
        for solver, dt in (("tsit5", None), ("rk4", 20.0 / (2 * block)), ("rk4", 20.0 / (3 * block + 1))):
            steps = simulate(problem, solver=solver, rtol=1e-13, atol=1e-14, dt=dt, save_at=save_at).stats.steps
            assert calls == -(-steps // block) > (1 if dt else 0)
            calls = 0


# ---- properties ------------------------------------------------------------------------------------------------------

quick = settings(max_examples=40, deadline=None, derandomize=True)
STATES = st.tuples(*[st.floats(-2.0, 2.0)] * 2)


@quick
@given(split=st.integers(1, 39), solver=st.sampled_from(sorted(ORDERS)), r0=STATES)
def test_a_run_in_two_parts_is_the_run_fixed_steps(split, solver, r0):
    """Split at a grid point, to 14 digits (dt is a power of two: the grid is the same to the last bit)."""
    whole = Problem(van_der_pol(), r0=r0, t_span=(0.0, 2.5))
    middle = split * 0.0625
    first = simulate(whole.replace(t_span=(0.0, middle)), solver=solver, dt=0.0625)
    second = simulate(whole.replace(r0=first.r[-1], t_span=(middle, 2.5)), solver=solver, dt=0.0625)
    expected = simulate(whole, solver=solver, dt=0.0625)
    np.testing.assert_allclose(second.r[-1], expected.r[-1], rtol=1e-14, atol=1e-14)
    assert first.stats.steps + second.stats.steps == expected.stats.steps == 40


@quick
@given(middle=st.floats(0.01, 3.9), solver=st.sampled_from(PAIRS), tol=st.sampled_from([1e-5, 1e-8]))
def test_a_run_in_two_parts_is_the_run_adaptive_steps(middle, solver, tol):
    problem, exact = jumping()
    problem, options = problem.replace(t_span=(0.0, 2.0)), {"solver": solver, "rtol": tol, "atol": tol}
    middle /= 2
    first = simulate(problem.replace(t_span=(0.0, middle)), **options)
    second = simulate(problem.replace(r0=first.r[-1], t_span=(middle, 2.0)), **options)
    np.testing.assert_allclose(second.r[-1], simulate(problem, **options).r[-1], rtol=0, atol=100 * tol)
    np.testing.assert_allclose(second.r[-1], exact(2.0), rtol=0, atol=100 * tol)


@quick
@given(
    times=st.lists(st.floats(0.0, 2.0), min_size=1, max_size=30, unique=True),
    solver=st.sampled_from(sorted(ORDERS)),
)
def test_saving_does_not_change_the_steps(times, solver):
    """The steps are those of a run that saves every one, and what is saved between them lies on the solution."""
    problem, exact = jumping()
    dt = 0.05 if solver not in PAIRS else None
    every = simulate(problem, solver=solver, dt=dt, rtol=1e-7, atol=1e-7)
    times = np.array(sorted(times))
    saved = simulate(problem, solver=solver, dt=dt, rtol=1e-7, atol=1e-7, save_at=times)
    assert (saved.stats.steps, saved.stats.rejected) == (every.stats.steps, every.stats.rejected)
    tolerance = {"euler": 0.5, "midpoint": 0.02, "heun": 0.02, "rk4": 1e-4}.get(solver, 1e-5)
    np.testing.assert_allclose(saved.r, exact(times), rtol=0, atol=tolerance)
    at_steps = simulate(problem, solver=solver, dt=dt, rtol=1e-7, atol=1e-7, save_at=every.t)
    np.testing.assert_array_equal(at_steps.r, every.r)


@quick
@given(shift=st.floats(-1000.0, 1000.0), solver=st.sampled_from(sorted(ORDERS)), r0=STATES)
def test_autonomous_fields_do_not_know_the_time(shift, solver, r0):
    problem = Problem(van_der_pol(), r0=r0, t_span=(0.0, 2.0))
    shifted = problem.replace(t_span=(shift, shift + 2.0))
    dt = 0.0625 if solver not in PAIRS else None
    here, there = (simulate(p, solver=solver, dt=dt) for p in (problem, shifted))
    # h is known to the rounding of t, 1e-13; adaptive steps may fall otherwise, within the tolerance
    np.testing.assert_allclose(there.r[-1], here.r[-1], rtol=0, atol=1e-11 if dt else 1e-6)
    if dt:
        assert there.stats.steps == here.stats.steps == 32


@quick
@given(r0=st.floats(-3, 3), k=st.floats(-2, 3), solver=st.sampled_from([*PAIRS, "scipy:LSODA"]))
def test_linear_decay_and_growth(r0, k, solver):
    problem = Problem(decay().with_parameters(k=k), r0=[r0], t_span=(0.0, 1.5))
    run = simulate(problem, solver=solver, save_at=np.linspace(0, 1.5, 7))
    np.testing.assert_allclose(run.r[:, 0], r0 * np.exp(-k * run.t), rtol=1e-5, atol=1e-6)


def test_a_field_without_state_or_parameters():
    """n = 1, m = 0, F a function of t alone, or nothing at all."""
    run = simulate(Problem(Equations({"r": "3*t**2"}), r0=[1.0], t_span=(-1.0, 2.0)), solver="rk4", dt=0.5)
    np.testing.assert_allclose(run.r[:, 0], 2.0 + run.t**3, rtol=0, atol=1e-14)
    still = simulate(Problem(Equations({"r": "0"}), r0=[1.5], t_span=(0.0, 1e6)))
    np.testing.assert_array_equal(still.r, 1.5)


def test_failures_are_solver_errors():
    """One except clause catches all of them, and they are no usage errors."""
    for kind in (StepUnderflowError, DivergenceError, TooManyStepsError):
        assert issubclass(kind, SolverError) and not issubclass(kind, UsageError)
    assert ctrnn.errors.SolverError is SolverError


def test_a_min_step_that_is_too_large_is_named():
    robertson = Equations(
        {"a": "-0.04*a + 1e4*b*c", "b": "0.04*a - 1e4*b*c - 3e7*b**2", "c": "3e7*b**2"},
    )
    with pytest.raises(StepUnderflowError, match="min_step"):
        simulate(Problem(robertson, [1.0, 0.0, 0.0], (0.0, 1e5)), min_step=1.0)
