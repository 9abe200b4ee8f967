"""run(t): the solver's own dense output, against solutions that are known as formulas."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import ctrnn
from ctrnn import Equations, Event, Problem, Trajectory, inputs, simulate
from ctrnn.errors import UsageError
from ctrnn.solvers import tableaus

OMEGA = 1.5
T = np.linspace(0.0, 2.0, 777)


def turning(end=2.0):
    """du/dt = e^v − e^(cos ωt) + ω cos ωt, dv/dt = e^(sin ωt) − e^u − ω sin ωt: u = sin ωt, v = cos ωt."""
    u = f"exp(v) - exp(cos({OMEGA}*t)) + {OMEGA}*cos({OMEGA}*t)"
    v = f"exp(sin({OMEGA}*t)) - exp(u) - {OMEGA}*sin({OMEGA}*t)"
    return Problem(Equations({"u": u, "v": v}, {}), [0.0, 1.0], (0.0, end))


def exact(t):
    return np.stack([np.sin(OMEGA * t), np.cos(OMEGA * t)], axis=-1)


def decay(r0=1.0, span=(0.0, 2.0)):
    return Problem(Equations({"r": "-k*r"}, {"k": 1.0}), [r0], span)


@pytest.mark.parametrize("name", [name for name in tableaus.names() if not tableaus.get(name).exponential])
def test_its_order_is_the_one_that_it_says(name):
    tableau = tableaus.get(name)
    coarse = {"euler": 256, "dop853": 8}.get(name, 64)
    off, inside = [], []
    for steps in (coarse, 2 * coarse):
        run = simulate(turning(), name, dt=2.0 / steps)
        off.append(np.abs(run(T) - exact(T)).max())
        # the part of the first step, which begins exactly
        h = 2.0 / steps
        inside.append(np.abs(run(0.4 * h) - exact(0.4 * h)).max())
    assert run.dense.order == tableau.dense_order
    assert np.log2(off[0] / off[1]) == pytest.approx(min(tableau.order, tableau.dense_order + 1), abs=0.35)
    assert np.log2(inside[0] / inside[1]) > tableau.dense_order + 0.6


@pytest.mark.parametrize(
    ("solver", "digits"),
    [
        ("tsit5", 8), ("dop853", 8), ("bs3", 8), ("kvaerno5", 7), ("kencarp4", 7), ("auto", 8), ("scipy:RK45", 7),
        ("scipy:DOP853", 7), ("scipy:LSODA", 6), ("scipy:Radau", 4), ("torchdiffeq:dopri5", 7),
        ("torchdiffeq:bosh3", 5),
    ],
)  # fmt: skip
def test_by_each_solver_forwards_and_backwards(solver, digits):
    for span in ((0.0, 2.0), (2.0, 0.0)):
        run = simulate(decay(np.exp(-span[0]), span), solver, rtol=1e-9, atol=1e-11)
        assert np.abs(run(T)[:, 0] - np.exp(-T)).max() < 10.0**-digits
        np.testing.assert_allclose(run(run.t), run.r, rtol=0, atol=1e-13)


def test_fixed_steps_of_torchdiffeq():
    run = simulate(decay(), "torchdiffeq:rk4", dt=0.01)
    assert np.abs(run(T)[:, 0] - np.exp(-T)).max() < 1e-9


@pytest.mark.parametrize("solver", ["tsit5", "kvaerno5", "scipy:RK45"])
def test_what_was_saved_is_on_the_curve(solver):
    times = np.linspace(0.1, 1.9, 7)
    run = simulate(turning(), solver, save_at=times)
    np.testing.assert_allclose(run(times), run.r, rtol=0, atol=1e-12)


def test_one_time_many_or_none():
    run = simulate(decay())
    assert run(0.5).shape == (1,) and run([0.5]).shape == (1, 1) and run([]).shape == (0, 1)
    np.testing.assert_array_equal(run([0.9, 0.1]), np.stack([run(0.9), run(0.1)]))
    assert run(0.0)[0] == 1.0 and run(2.0)[0] == run.r[-1, 0]


def test_exponential_euler_is_a_polygon():
    field = ctrnn.RateNetwork(2, seed=1)
    run = simulate(Problem(field, [1.0, 0.0], (0.0, 1.0)), "exponential-euler", dt=0.1)
    np.testing.assert_allclose(run(0.25), (run(0.2) + run(0.3)) / 2, atol=1e-15)


def test_across_a_jump_of_the_input():
    """dr/dt = −r + x, x = 0 until 1 and then 1: r = 1 − e^(1 − t)."""
    x = inputs.Sampled([0.0, 1.0], [0.0, 1.0])
    run = simulate(Problem(Equations({"r": "-r + x"}, {}, inputs=["x"]), [0.0], (0.0, 2.0), x=x), rtol=1e-10)
    np.testing.assert_allclose(run(T)[:, 0], np.where(T > 1.0, 1.0 - np.exp(1.0 - T), 0.0), atol=1e-9)


def test_through_events():
    """A ball that falls from 1 and comes back with half its speed, at g = 2: on the ground at 1 and at 2."""
    field = Equations({"h": "v", "v": "-2"}, {})
    ball = Problem(field, [1.0, 0.0], (0.0, 1.9), events=Event("h", direction=-1, reset={"h": "0", "v": "-v/2"}))
    for save_at in (None, [0.3, 1.5]):
        run = simulate(ball, save_at=save_at)
        t = np.linspace(0.0, 1.87, 39)
        up = t - 1.0
        v = np.where(t < 1.0 - 1e-9, -2.0 * t, 1.0 - 2.0 * up)
        h = np.where(t < 1.0, 1.0 - t**2, up - up**2)
        np.testing.assert_allclose(run(t), np.stack([h, v], axis=1), atol=1e-9)
        (tau,) = run.events.t
        assert run(tau)[1] == pytest.approx(1.0, abs=1e-9)
        assert run(tau, left=True)[1] == pytest.approx(-2.0, abs=1e-9)
    np.testing.assert_allclose(run.dense.resets, [1.0])


def test_an_event_that_ends_the_run_ends_the_curve():
    run = simulate(Problem(decay().field, [1.0], (0.0, 9.0), events=Event("r - 0.5", terminal=True)))
    assert run(run.t[-1])[0] == pytest.approx(0.5)
    with pytest.raises(UsageError, match="times of the run, 0 to 0.693"):
        run(0.7)


def test_each_trial_of_a_batch_has_its_own():
    runs = simulate(Problem(decay().field, [[1.0], [3.0]], (0.0, 2.0)), save_at=[2.0])
    for run, r0 in zip(runs, (1.0, 3.0), strict=True):
        assert run(0.5)[0] == pytest.approx(r0 * np.exp(-0.5), abs=1e-8)


def test_a_member_of_an_ensemble():
    found = ctrnn.ensemble(decay(), {"k": [1.0, 2.0]}, r0=[[1.0], [3.0]])
    assert found[1](0.5)[0] == pytest.approx(3.0 * np.exp(-1.0), abs=1e-8)


@pytest.mark.parametrize("t", [-0.1, 2.1, [0.0, 3.0]])
def test_times_outside_are_refused(t):
    with pytest.raises(UsageError, match="t: got .*; allowed: times of the run, 0 to 2"):
        simulate(decay())(t)


@pytest.mark.parametrize("t", [np.nan, [[0.1]], "soon"])
def test_what_is_no_time_is_refused(t):
    with pytest.raises(UsageError, match="t"):
        simulate(decay())(t)


def test_numbers_alone_have_no_dense_output():
    with pytest.raises(UsageError, match="as ctrnn.simulate returns it"):
        Trajectory(np.array([0.0, 1.0]), np.zeros((2, 1)))(0.5)


def test_it_goes_through_a_pickle_where_its_problem_does():
    run = simulate(turning())
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(run))(0.3), run(0.3))
    driven = Problem(Equations({"r": "-r + x"}, {}, inputs=["x"]), [0.0], (0.0, 2.0), x=lambda t: t)
    copy = pickle.loads(pickle.dumps(simulate(driven)))
    assert len(copy) > 2 and copy.dense is None


# --- backwards in time, and the lengths of steps


def test_backwards_over_a_jump():
    x = inputs.Sampled([0.0, 1.0], [0.0, 1.0])
    field = Equations({"r": "-r + x"}, {}, inputs=["x"])
    there = simulate(Problem(field, [0.5], (0.0, 2.0), x=x), rtol=1e-11)
    back = simulate(Problem(field, there.r[-1], (2.0, 0.0), x=x), rtol=1e-11, save_at=[1.5, 0.25])
    np.testing.assert_allclose(back.r, there([1.5, 0.25]), atol=1e-9)
    fixed = simulate(Problem(field, there.r[-1], (2.0, 0.0), x=x), "rk4", dt=0.01)
    assert fixed.t[0] == 2.0 and fixed.t[-1] == 0.0 and abs(fixed.r[-1, 0] - 0.5) < 1e-8


def test_backwards_is_for_solutions():
    objective = ctrnn.Objective("r", at=[1.0])
    with pytest.raises(UsageError, match="t_span.*ctrnn.odeint"):
        Problem(decay().field, [1.0], (2.0, 0.0), objective=objective)
    with pytest.raises(UsageError, match="t_span"):
        Problem(decay().field, [1.0], (2.0, 0.0), events=Event("r - 0.5"))
    for ask in (ctrnn.sensitivities, ctrnn.ensemble, ctrnn.analysis.lyapunov_spectrum, ctrnn.analysis.limit_cycle):
        with pytest.raises(UsageError, match="t_span"):
            ask(decay(span=(2.0, 0.0)))
    with pytest.raises(UsageError, match="decreasing"):
        simulate(decay(span=(2.0, 0.0)), save_at=[0.5, 1.0])


@pytest.mark.parametrize("solver", ["tsit5", "kvaerno5", "scipy:RK45", "torchdiffeq:dopri5"])
def test_max_step_and_first_step(solver):
    free = simulate(decay(), solver)
    run = simulate(decay(), solver, max_step=0.02, first_step=1e-3)
    steps = np.diff(run.t)
    assert steps[0] == pytest.approx(1e-3) and 0.019 < steps.max() < 0.02 + 1e-12 < np.diff(free.t).max()


def test_a_short_pulse_is_not_stepped_over():
    field = Equations({"r": "exp(-((t - 50)/0.05)**2)"}, {})
    problem = Problem(field, [0.0], (0.0, 100.0))
    area = 0.05 * np.sqrt(np.pi)
    assert simulate(problem).r[-1, 0] < 1e-3
    assert simulate(problem, max_step=0.1).r[-1, 0] == pytest.approx(area, rel=1e-7)


def test_a_gradient_takes_them_too():
    objective = ctrnn.Objective("r", at=[2.0])
    problem = Problem(decay().field, [1.0], (0.0, 2.0), objective=objective)
    g = ctrnn.gradient(problem, "adjoint", max_step=0.02)
    assert g.stats.steps >= 100 and g.vector[0] == pytest.approx(-2 * np.exp(-2.0), rel=1e-12)


@pytest.mark.parametrize("how", [{"max_step": 0.0}, {"first_step": -1.0}, {"max_step": 1.0, "dt": 0.1}])
def test_lengths_that_make_no_sense_are_refused(how):
    with pytest.raises(UsageError, match="_step"):
        simulate(decay(), **how)


def test_implicit_stages_beyond_the_end_are_not_needed():
    """dy/dt = −√(1 − t) y ends at 1: y = exp(−2/3 (1 − (1 − t)^(3/2))). One stage of kvaerno5 lies at t + 1.23 h."""
    field = Equations({"y": "-k*sqrt(1 - t)*y"}, {"k": 1.0})
    problem = Problem(field, [1.0], (0.0, 1.0), objective=ctrnn.Objective("y", at=[1.0]))
    end = np.exp(-2 / 3)
    assert simulate(problem, "kvaerno5").r[-1, 0] == pytest.approx(end, rel=1e-7)
    for method in ("adjoint", "rtrl", "rtrl-continuous"):
        g = ctrnn.gradient(problem, method, "kvaerno5")
        assert g.vector[0] == pytest.approx(-2 / 3 * end, rel=1e-6)
