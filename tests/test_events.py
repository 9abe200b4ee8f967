"""State events: their times, what happens there, and the derivatives through them, against formulas, SciPy and
differences.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ctrnn
from ctrnn.errors import (
    CtrnnError,
    ExpressionError,
    StepUnderflowError,
    TooManyStepsError,
    UnknownNameError,
    UsageError,
)
from ctrnn.events import EventError, ZenoError
from ctrnn.gradients.methods import METHODS

G, E = 9.81, 0.8
BALL = ctrnn.Equations({"h": "v", "v": "-g"}, parameters={"g": G, "e": E})
BOUNCE = ctrnn.Event("h", direction=-1, reset={"v": "-e*v"}, name="bounce")
TIGHT = {"rtol": 1e-12, "atol": 1e-13}
ADAPTIVE = ("bs3", "dopri5", "tsit5", "dop853", "kencarp4", "kvaerno5")


def ball(t1: float, **options: object) -> ctrnn.Problem:
    return ctrnn.Problem(BALL, r0=[1.0, 0.0], t_span=(0.0, t1), **({"events": [BOUNCE]} | options))


def bounces(count: int) -> np.ndarray:
    """Times of the first bounces of a ball that falls from height 1."""
    fall = np.sqrt(2 / G)
    return fall * (1 + 2 * np.concatenate([[0.0], np.cumsum(E ** np.arange(1, count))]))


def fire(I: float = 1.5, t1: float = 5.0, **options: object) -> ctrnn.Problem:
    """Leaky integrate-and-fire with a constant current."""
    field = ctrnn.Equations({"v": "(I - v)/tau"}, parameters={"I": I, "tau": 2.0, "theta": 1.0})
    spike = ctrnn.Event("v - theta", direction=1, reset={"v": "0"}, name="spike")
    return ctrnn.Problem(field, r0=[0.0], t_span=(0.0, t1), **({"events": spike} | options))


def differences(problem: ctrnn.Problem, directions: np.ndarray, h: float, **options: object) -> np.ndarray:
    """dl/dε along directions (K, m + n) in (w, r0), by central differences of order 4."""
    w, r0 = problem.field.vector, problem.r0
    z = np.concatenate([w, r0])

    def loss(z: np.ndarray) -> float:
        field = problem.field.with_vector(z[: w.size])
        return ctrnn.gradient(problem.replace(field=field, r0=z[w.size :]), "adjoint", **options).loss

    steps = h * directions
    return np.array([8 * (loss(z + d) - loss(z - d)) - loss(z + 2 * d) + loss(z - 2 * d) for d in steps]) / (12 * h)


def both(problem: ctrnn.Problem, **options: object) -> np.ndarray:
    """dl/d(w, r0) by the adjoint, after RTRL gave the same to 1e-10."""
    found = [ctrnn.gradient(problem, method, **options) for method in ("adjoint", ctrnn.RTRL(block=5))]
    one, two = (np.concatenate([g.vector, g.r0]) for g in found)
    assert abs(one - two).max() < 1e-10 * abs(one).max()
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-13)
    return one


# --- times


@pytest.mark.parametrize("solver", ADAPTIVE)
def test_ball_bounces_when_it_should(solver: str) -> None:
    """12 bounces to 1e-12: the trajectory is a parabola, so what is tested is the root and the reset."""
    run = ctrnn.simulate(ball(3.8), solver=solver)
    exact = bounces(30)
    exact = exact[exact < 3.8]
    assert len(exact) == len(run.events) == 12
    np.testing.assert_allclose(run.events.t, exact, rtol=1e-12)
    np.testing.assert_allclose(run.events.after[:, 1], np.sqrt(2 * G) * E ** np.arange(1, 13), rtol=1e-11)
    np.testing.assert_array_equal(run.events.after[:, 1], -E * run.events.before[:, 1])


def test_lorenz_section_agrees_with_scipy() -> None:
    """Crossings of z = 27 from below, both solvers at tight tolerances, to 1e-8."""
    from scipy.integrate import solve_ivp

    lorenz = ctrnn.Equations({"x": "10*(y - x)", "y": "x*(28 - z) - y", "z": "x*y - 8*z/3"})
    problem = ctrnn.Problem(lorenz, [1.0, 1.0, 20.0], (0.0, 8.0), events=[ctrnn.Event("z - 27", direction=1)])
    run = ctrnn.simulate(problem, **TIGHT)

    def section(t, r):
        return r[2] - 27

    section.direction = 1
    other = solve_ivp(lorenz, (0.0, 8.0), [1.0, 1.0, 20.0], "DOP853", events=section, rtol=1e-12, atol=1e-13)
    assert len(run.events) == len(other.t_events[0]) > 8
    np.testing.assert_allclose(run.events.t, other.t_events[0], atol=1e-8)
    assert abs(run.events.before[:, 2] - 27).max() < 1e-12


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2), ("rk4", 4)])
def test_fixed_steps_find_the_time_to_their_order(solver: str, order: int) -> None:
    """The quarter period of cos t: halving the step divides the error by 2^(order − 0.2) or more."""
    wave = ctrnn.Equations({"u": "-v", "v": "u"})
    problem = ctrnn.Problem(wave, [1.0, 0.0], (0.0, 2.0), events=[ctrnn.Event("u")])
    h = 2.0 / np.array([20, 40]) if order == 4 else 2.0 / np.array([400, 800])
    # Euler's phase error is of order 2 too
    errors = [abs(ctrnn.simulate(problem, solver=solver, dt=dt).events.t[0] - np.pi / 2) for dt in h]
    assert np.log2(errors[0] / errors[1]) > order - 0.2


def test_a_step_lands_on_the_event_with_the_accuracy_of_the_solver() -> None:
    """dopri5's dense output is of order 4: the state at the event is better than it, 1e-9 at rtol 1e-9."""
    pendulum = ctrnn.Equations({"q": "p", "p": "-sin(q)"})
    problem = ctrnn.Problem(pendulum, [2.0, 0.0], (0.0, 4.0), events=[ctrnn.Event("q")])
    run = ctrnn.simulate(problem, solver="dopri5", rtol=1e-9, atol=1e-11)
    before = run.events.before[0]
    assert abs(before[0]) < 1e-15
    energy = before[1] ** 2 / 2 - np.cos(before[0])
    assert abs(energy + np.cos(2.0)) < 1e-8


@given(I=st.floats(1.05, 5.0))
def test_spike_times_of_any_current(I: float) -> None:
    """T_k = k τ log(I/(I − θ)), to 1e-9."""
    run = ctrnn.simulate(fire(I, 8.0), **TIGHT)
    period = 2.0 * np.log(I / (I - 1.0))
    exact = period * np.arange(1, int(8.0 / period) + 1)
    assert len(run.events) - len(exact) in (0, 1)  # one may fall on the end
    np.testing.assert_allclose(run.events.t[: len(exact)], exact, rtol=1e-9)


def test_direction() -> None:
    """sin t crosses ½ from below, from above, or both ways."""
    wave = ctrnn.Equations({"s": "c", "c": "-s"})
    up, down = np.pi / 6 + 2 * np.pi * np.arange(2), 5 * np.pi / 6 + 2 * np.pi * np.arange(2)
    for direction, exact in ((1, up), (-1, down), (0, np.sort([*up, *down]))):
        events = ctrnn.Event("s - 0.5", direction=direction)
        run = ctrnn.simulate(ctrnn.Problem(wave, [0.0, 1.0], (0.0, 12.0), events=[events]), **TIGHT)
        np.testing.assert_allclose(run.events.t, exact, rtol=1e-11)


def test_two_crossings_within_one_step_are_seen() -> None:
    """A parabola that is over 0.9999 of its height for a hundredth of the only step."""
    for direction, count in ((0, 2), (1, 1), (-1, 1)):
        problem = ctrnn.Problem(
            BALL, [0.0, G], (0.0, 2.0), events=[ctrnn.Event(f"h - 0.9999*{G}/2", direction=direction)]
        )
        run = ctrnn.simulate(problem, solver="rk4", dt=2.0)
        np.testing.assert_allclose(
            run.events.t, 1.0 + 0.01 * np.array({2: [-1, 1], 1: [-direction]}[count]), rtol=1e-12
        )


def test_a_condition_that_is_zero_at_the_start_does_not_count() -> None:
    """A ball thrown up from the floor comes back once; without direction too."""
    for direction in (0, -1):
        thrown = ctrnn.Event("h", direction=direction, reset={"v": "-e*v"})
        run = ctrnn.simulate(ctrnn.Problem(BALL, [0.0, 1.0], (0.0, 0.3), events=[thrown]))
        np.testing.assert_allclose(run.events.t, [2.0 / G], rtol=1e-12)


def test_what_lies_behind_an_event_does_no_harm() -> None:
    """dv/dt = v² + 1 is infinite at π/2; its reset at 10 comes before, at atan 10 and every atan 10 after."""
    field = ctrnn.Equations({"v": "v**2 + 1"})
    problem = ctrnn.Problem(field, [0.0], (0.0, 20.0), events=[ctrnn.Event("v - 10", reset={"v": "0"})])
    for solver in ("tsit5", "kvaerno5"):
        run = ctrnn.simulate(problem, solver=solver, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(run.events.t, np.arctan(10.0) * np.arange(1, 14), rtol=1e-7)


def test_a_condition_that_ends_behind_its_event() -> None:
    """√(h + 0.01) is NaN a little below the floor; the bounce comes before."""
    bounce = ctrnn.Event("sqrt(h + 0.01) - 0.1", direction=-1, reset={"v": "-e*v"})
    run = ctrnn.simulate(ball(2.0, events=[bounce]))
    np.testing.assert_allclose(run.events.t, bounces(3), rtol=1e-12)


def test_a_condition_on_an_input_and_on_time() -> None:
    """x = sin(2π t/4) crosses r = 0.5 at 1/3; t crosses 0.7, exactly."""
    held = ctrnn.Equations({"r": "0"}, inputs=("x",))
    events = [ctrnn.Event("x - r", name="x"), ctrnn.Event("t - 0.7", name="t")]
    problem = ctrnn.Problem(held, [0.5], (0.0, 1.0), x=ctrnn.inputs.Sine(0.25), events=events)
    run = ctrnn.simulate(problem)
    np.testing.assert_allclose(run.events.t, [1 / 3, 0.7], rtol=1e-13)
    assert list(run.events.which) == [0, 1]
    assert run.events.of("t").t == pytest.approx(0.7, rel=1e-15)


# --- what comes back


def test_trajectory_has_both_sides_of_a_reset() -> None:
    run = ctrnn.simulate(ball(1.0))
    (twice,) = np.flatnonzero(np.diff(run.t) == 0.0)
    np.testing.assert_array_equal(run.r[twice], run.events.before[0])
    np.testing.assert_array_equal(run.r[twice + 1], run.events.after[0])
    assert run.events.names == ("bounce",)
    only_noted = ctrnn.simulate(ball(1.0, events=[ctrnn.Event("h - 0.5")]))
    assert (np.diff(only_noted.t) > 0.0).all()


def test_wanted_times_and_the_side_they_see() -> None:
    """At the time of a reset the state after it; else the parabola, 1e-12."""
    tau = float(ctrnn.simulate(ball(1.0)).events.t[0])
    times = np.array([0.0, 0.3, tau, 0.6, 1.0])
    run = ctrnn.simulate(ball(1.0), save_at=times)
    assert run.r.shape == (5, 2)
    up, s = E * np.sqrt(2 * G), times[2:] - tau
    np.testing.assert_allclose(run.r[2:], np.stack([up * s - G * s**2 / 2, up - G * s], axis=1), atol=1e-12)
    np.testing.assert_allclose(run.r[1], [1 - G * 0.045, -G * 0.3], rtol=1e-12)


def test_steps_and_time_are_those_of_all_pieces() -> None:
    with pytest.raises(TooManyStepsError, match="more than 50 steps"):
        ctrnn.simulate(fire(t1=50.0), max_steps=50)
    began = time.perf_counter()
    found = [ctrnn.gradient(fire(t1=20.0, objective=ctrnn.Objective("v")), method) for method in ("adjoint", "rtrl")]
    taken = time.perf_counter() - began
    assert 0.0 < sum(g.stats.wall_time for g in found) <= taken


def test_terminal() -> None:
    stop = ctrnn.Event("h", direction=-1, terminal=True)
    run = ctrnn.simulate(ball(5.0, events=[stop]))
    assert run.t[-1] == run.events.t[-1] == pytest.approx(np.sqrt(2 / G), rel=1e-13)
    assert len(ctrnn.simulate(ball(5.0, events=[stop]), save_at=[0.1, 0.2, 3.0])) == 2
    third = ctrnn.Event("h", direction=-1, reset={"v": "-e*v"}, terminal=3)
    run = ctrnn.simulate(ball(5.0, events=[third]))
    np.testing.assert_allclose(run.events.t, bounces(3), rtol=1e-12)
    np.testing.assert_array_equal(run.r[-1], run.events.after[-1])


def test_an_event_at_the_end_of_the_span() -> None:
    """The condition t − 1 at t1 = 1: the run has both its states, and the integral up to 1 does not move with it."""
    events = [ctrnn.Event("t - 1", reset={"v": "0"}, name="a"), ctrnn.Event("h + 1 - h - t", terminal=True, name="b")]
    run = ctrnn.simulate(ctrnn.Problem(BALL, [1.0, 0.0], (0.0, 1.0), events=events))
    assert list(run.events.which) == [0, 1]
    assert run.t[-1] == run.t[-2] == 1.0
    assert (run["v"][-2], run["v"][-1]) == (pytest.approx(-G), 0.0)
    at_end = ctrnn.simulate(ctrnn.Problem(BALL, [1.0, 0.0], (0.0, 1.0), events=events[0]), save_at=[0.0, 1.0])
    assert at_end["v"][-1] == 0.0
    fall = ctrnn.Event(f"h - 1 + g/2 + (t - 1)*{G}/2", reset={"v": "0"})
    g = ctrnn.gradient(ball(1.0, events=[fall], objective=ctrnn.Objective("v")))
    assert g.parameters["g"] == pytest.approx(-0.5, rel=1e-10)


def test_the_first_of_two_that_end_the_run_is_the_last() -> None:
    events = [ctrnn.Event("h", terminal=True, name="a"), ctrnn.Event("2*h", reset={"v": "0"}, name="b")]
    run = ctrnn.simulate(ball(3.0, events=events))
    assert list(run.events.which) == [0]
    assert run["v"][-1] < 0.0


def test_zeno() -> None:
    """The times of the bounces have a limit, 4.0637; there the run gives up and says so."""
    with pytest.raises(ZenoError, match="bounce.*ever faster") as error:
        ctrnn.simulate(ball(5.0))
    assert error.value.t == pytest.approx(np.sqrt(2 / G) * (1 + 2 * E / (1 - E)), abs=1e-7)
    assert error.value.r.shape == (2,)


def test_two_events_at_one_time_act_in_their_order() -> None:
    events = [ctrnn.Event("h", direction=-1, reset={"v": "-e*v"}, name="a"), ctrnn.Event("2*h", -1, name="b")]
    run = ctrnn.simulate(ball(1.0, events=events))
    assert list(run.events.which) == [0, 1]
    assert run.events.t[0] == run.events.t[1]
    np.testing.assert_array_equal(run.events.before[1], run.events.after[0])


# --- derivatives


def test_bounce_times_by_gravity_and_restitution() -> None:
    """T_3 = √(2h/g)(1 + 2e + 2e²): its derivatives to 1e-10."""
    third = ctrnn.EventObjective("t", occurrences=[2])
    g = both(ball(2.5, objective=third))
    fall = np.sqrt(2 / G)
    f = 1 + 2 * E + 2 * E**2
    exact = [-fall * f / (2 * G), fall * (2 + 4 * E), fall * f / 2]
    np.testing.assert_allclose(g[:3], exact, rtol=1e-10)
    # a start with a speed v moves the first bounce by v/g and makes the others slower: d/dv at 0
    assert g[3] == pytest.approx(1 / G, rel=1e-10)


def test_height_behind_bounces_by_gravity_and_restitution() -> None:
    """h(t) = e v s − g s²/2 behind the first bounce, with v = √(2g) and s = t − √(2/g): to 1e-10."""
    t = 0.9
    g = both(ball(1.0, objective=ctrnn.Objective("h", at=[t])))
    fall, up = np.sqrt(2 / G), np.sqrt(2 * G)
    s, ds = t - fall, fall / (2 * G)
    exact = [E * s / up + (E * up - G * s) * ds - s**2 / 2, up * s]
    np.testing.assert_allclose(g[:2], exact, rtol=1e-10)


def test_spike_times_by_current_threshold_and_time_constant() -> None:
    """T_k = k τ log(I/(I − θ)), the third spike, to 1e-10; and what it would be with the times held is another
    number."""
    g = both(fire(objective=ctrnn.EventObjective("t", occurrences=[1])), **TIGHT)
    I, tau, theta = 1.5, 2.0, 1.0
    exact = 2 * np.array([tau * (1 / I - 1 / (I - theta)), np.log(I / (I - theta)), tau / (I - theta)])
    np.testing.assert_allclose(g[:3], exact, rtol=1e-10)


def test_the_time_of_an_event_must_not_be_held() -> None:
    """v(t) = I (1 − e^{−(t−T)/τ}) after the spike at T(I). With T held, dv/dI would lack −I/τ e^{−(t−T)/τ} T′(I): three
    times the rest."""
    I, tau, t = 1.5, 2.0, 3.5
    T = tau * np.log(I / (I - 1.0))
    rest = np.exp(-(t - T) / tau)
    held, moved = 1 - rest, -I / tau * rest * tau * (1 / I - 1 / (I - 1.0))
    g = both(fire(t1=4.0, objective=ctrnn.Objective("v", at=[t])), **TIGHT)
    assert g[0] == pytest.approx(held + moved, rel=1e-9)
    assert abs(g[0] - held) > 1.0


def test_time_to_threshold_fits_a_target() -> None:
    """½(T − 2)² with the run ended by the spike; and the integral up to it, whose end moves. 1e-10."""
    ended = ctrnn.Event("v - theta", terminal=True)
    I, tau, theta = 1.5, 2.0, 1.0
    T, dT = tau * np.log(I / (I - theta)), tau * (1 / I - 1 / (I - theta))
    g = both(fire(events=ended, objective=ctrnn.EventObjective("t", target=2.0)), **TIGHT)
    assert g[0] == pytest.approx((T - 2.0) * dT, rel=1e-10)
    # ∫ v dt = I T − τ θ, as τ dv/dt = I − v
    g = both(fire(events=ended, objective=ctrnn.Objective("v")), **TIGHT)
    assert g[0] == pytest.approx(T + I * dT, rel=1e-9)


def test_period_between_spikes() -> None:
    """Weights −1 and 1: T_3 − T_2 and its derivative by θ."""
    g = ctrnn.gradient(fire(objective=ctrnn.EventObjective("t", weight=[-1.0, 1.0])), **TIGHT)
    assert g.loss == pytest.approx(2.0 * np.log(3.0), rel=1e-11)
    assert g.parameters["theta"] == pytest.approx(2.0 / 0.5, rel=1e-10)


DRIVEN = ctrnn.Equations(
    {"v": "v - v**3/3 - w + I*x + 0.1*sin(t)", "w": "(v + a - b*w)/c"},
    parameters={"I": 1.1, "a": 0.7, "b": 0.8, "c": 3.0, "theta": 0.9, "k": 0.4},
    inputs=("x",),
)
INPUT = 0.5 + 0.4 * ctrnn.inputs.Sine(0.13) + ctrnn.inputs.Pulse(3.0, 2.2, 0.3)
HARD = [
    ctrnn.Event("v - theta - 0.2*x", direction=1, reset={"v": "-k*v - 0.3*w*x", "w": "w + k*cos(t)/3"}, name="up"),
    ctrnn.Event("w + 0.1*t - 1.3*k", direction=-1, reset={"w": "w + 0.2*v**2"}, name="down"),
    ctrnn.Event("v*w", name="noted"),
]
T = np.linspace(0.7, 11.3, 9)
LOSSES = {
    "observed": ctrnn.Objective(target=np.stack([np.sin(T), 0.1 * T], axis=1), at=T, weight=np.linspace(1, 2, 9)),
    "integral": ctrnn.Objective(target=[0.2, 0.3], weight=ctrnn.inputs.Sine(0.2) + 1.5),
    "events": ctrnn.EventObjective("t + v*w + k*x", event="up", target=[1.0, 2.0]),
    "noted": ctrnn.EventObjective("v**2 + t", event="noted"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_driven_oscillator_with_two_resets(loss: str) -> None:
    """Everything depends on everything; differences of order 4 to 1e-8, RTRL and the adjoint to 1e-10."""
    problem = ctrnn.Problem(DRIVEN, [-0.5, 0.2], (0.0, 12.0), x=INPUT, events=HARD, objective=LOSSES[loss])
    fired = ctrnn.simulate(problem).events
    assert list(np.bincount(fired.which)) == [2, 1, 5]
    g = both(problem, **TIGHT)
    along = np.random.default_rng(4).normal(size=(3, g.size))
    found = differences(problem, along, 2.5e-5, **TIGHT)
    np.testing.assert_allclose(along @ g, found, rtol=1e-8, atol=1e-9 * abs(found).max())


@pytest.mark.parametrize("solver", ["kvaerno5", "dop853", "rk4"])
def test_other_solvers_give_the_same(solver: str) -> None:
    problem = ctrnn.Problem(DRIVEN, [-0.5, 0.2], (0.0, 6.0), x=INPUT, events=HARD[:2], objective=LOSSES["integral"])
    options = {"dt": 0.004} if solver == "rk4" else {"rtol": 1e-10, "atol": 1e-11}
    g = both(problem, solver=solver, **options)
    np.testing.assert_allclose(g, both(problem, **TIGHT), rtol=1e-6, atol=1e-7 * abs(g).max())


def test_a_network_that_is_reset() -> None:
    """Weights, inputs, biases and the one time constant of 4 units, through 3 resets, against differences to 1e-8."""
    field = ctrnn.RateNetwork(4, inputs=1, tau=0.8, gain=2.0, seed=1, train_tau=True)
    events = [ctrnn.Event("r3 - 0.6*tau", reset={"r3": "r3 - 0.7", "r2": "r2/2 + tau*x0"})]
    t = np.linspace(0.5, 6.0, 6)
    objective = ctrnn.Objective(target=np.outer(np.cos(t), np.ones(4)), at=t)
    x = ctrnn.inputs.Sine(0.4, amplitude=1.5)
    problem = ctrnn.Problem(field, [0.1, -0.3, 0.5, 0.2], (0.0, 6.0), x=x, events=events, objective=objective)
    assert len(ctrnn.simulate(problem).events) >= 3
    g = both(problem, **TIGHT)
    along = np.random.default_rng(5).normal(size=(4, g.size))
    found = differences(problem, along, 2.5e-5, **TIGHT)
    np.testing.assert_allclose(along @ g, found, rtol=1e-8, atol=1e-9 * abs(found).max())


def test_an_observation_on_an_event_sees_the_state_after_it() -> None:
    """The gradient's loss is that of simulate at the same times."""
    tau = float(ctrnn.simulate(ball(1.0)).events.t[0])
    problem = ball(1.0, objective=ctrnn.Objective("v", at=[0.2, tau, 0.8]))
    run = ctrnn.simulate(problem, save_at=[0.2, tau, 0.8])
    for method in ("adjoint", "rtrl"):
        assert ctrnn.gradient(problem, method).loss == pytest.approx(run["v"].sum(), rel=1e-12)
    assert run["v"][1] > 0


def test_fit_through_spikes() -> None:
    """The current that made two spike times is found from them, to 1e-5."""
    target = ctrnn.simulate(fire(1.7), **TIGHT).events.t
    problem = fire(1.5, objective=ctrnn.EventObjective("t", target=target[:2]))
    found = ctrnn.fit(problem, parameters=["I"])
    assert float(found.problem.field.parameters["I"]) == pytest.approx(1.7, rel=1e-5)


# --- what is refused


def test_a_touch_has_no_derivative() -> None:
    """(t − 1)³ changes its sign at 1 with slope 0."""
    problem = ball(2.0, events=[ctrnn.Event("(t - 1)**3")], objective=ctrnn.EventObjective("t"))
    with pytest.raises(EventError, match="touches zero") as error:
        ctrnn.gradient(problem)
    assert error.value.t == pytest.approx(1.0, abs=1e-4)


def test_two_resets_at_one_time_have_no_derivative() -> None:
    events = [BOUNCE, ctrnn.Event("2*h", direction=-1, reset={"h": "h"})]
    with pytest.raises(EventError, match="at one time"):
        ctrnn.gradient(ball(1.0, events=events, objective=ctrnn.Objective("h", at=[1.0])))


def test_observations_behind_the_end() -> None:
    problem = ball(3.0, events=[ctrnn.Event("h", terminal=True)], objective=ctrnn.Objective("h", at=[0.2, 1.0, 2.0]))
    for method in ("adjoint", "rtrl"):
        with pytest.raises(EventError, match="2 of the objective's times lie behind it, the first at t = 1"):
            ctrnn.gradient(problem, method)


def test_an_event_that_did_not_come() -> None:
    with pytest.raises(EventError, match="came 1 times, and the objective asks for number 3"):
        ctrnn.gradient(ball(1.0, objective=ctrnn.EventObjective("t", occurrences=[3])))


REFUSING = [name for name, method in METHODS.items() if method.facts.through_events is None]


@pytest.mark.parametrize("method", REFUSING)
def test_methods_that_know_no_events_refuse(method: str) -> None:
    with pytest.raises(UsageError, match="'rtrl', 'adjoint' or 'central-difference', for a problem with events"):
        ctrnn.gradient(ball(1.0, objective=ctrnn.Objective("h", at=[1.0])), method)


def test_everything_else_refuses_too() -> None:
    problem = ball(1.0, objective=ctrnn.Objective("h", at=[1.0]))
    for call in (ctrnn.sensitivities, ctrnn.hessian, ctrnn.gauss_newton, ctrnn.plan):
        with pytest.raises(CtrnnError, match="events"):
            call(problem)
    for call in (ctrnn.simulate, ctrnn.gradient):
        with pytest.raises(UsageError):
            call(problem, solver="scipy:LSODA")


OBJECTIVES = [
    ctrnn.EventObjective("t", target=[1.0, 1.5]),
    ctrnn.Objective("h**2"),
    ctrnn.Objective(
        target=[[0.3], [0.1]], at=[0.7, 1.2], readout=ctrnn.Readout(np.array([[1.0, 0.2]]), np.array([0.1]))
    ),
]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_central_differences_of_whole_solutions_agree_to_nine_digits(objective) -> None:
    problem = ball(1.4, objective=objective)
    exact, differences = (ctrnn.gradient(problem, method, **TIGHT) for method in ("adjoint", "central-difference"))
    one, two = (np.concatenate([g.vector, g.r0]) for g in (exact, differences))
    assert 0.0 < abs(one - two).max() < 1e-9 * abs(one).max()
    for name, value in (exact.readout or {}).items():
        np.testing.assert_allclose(differences.readout[name], value, rtol=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("options", [{}, {"solver": "kvaerno5"}, {"solver": "rk4", "dt": 0.01}])
def test_the_certificate_estimates_the_error_within_a_factor_of_three(objective, options) -> None:
    # a fall without drag is a parabola, which steps of order 2 and more take without error
    field = ctrnn.Equations({"h": "v", "v": "-g - 0.3*v*abs(v)"}, parameters={"g": G, "e": E})
    problem = ctrnn.Problem(field, [1.0, 0.0], (0.0, 1.2), events=[BOUNCE], objective=objective)
    found = ctrnn.gradient(problem, certify=True, **options)
    tight = ctrnn.gradient(problem, "central-difference", "dop853", **TIGHT)
    scale = np.concatenate([[G, E], np.full(2, 1.0 / np.sqrt(2.0))])
    one, two = (scale * np.concatenate([g.vector, g.r0]) for g in (found, tight))
    error = np.linalg.norm(one - two) / np.linalg.norm(two)
    assert error / 3 < found.certificate.error < 3 * error + 1e-11
    assert found.certificate.slope_digits > -np.log10(error) - 2
    assert found.certificate.exponent is None


def test_a_comparison_has_central_differences_for_its_judge() -> None:
    table = ctrnn.compare_gradients(ball(1.4, objective=OBJECTIVES[0]), ["rtrl", "adjoint", "autograd"])
    assert table.reference == "central differences"
    assert min(table["RTRL"].digits, table["adjoint, discrete"].digits) > 9
    assert "for a problem with events" in table["torch autograd"].failure


def test_auto_is_the_implicit_solver_where_it_is_stiff_between_the_events() -> None:
    vdp = ctrnn.Equations({"x": "v", "v": "mu*(1 - x**2)*v - x"}, parameters={"mu": 500.0})
    problem = ctrnn.Problem(vdp, [2.0, 0.0], (0.0, 600.0), events=[ctrnn.Event("x")], objective=ctrnn.EventObjective())
    for run in (ctrnn.simulate(problem, solver="auto"), ctrnn.gradient(problem, solver="auto")):
        assert run.stats.solver == "kvaerno5"
    alone = ctrnn.gradient(problem, solver="kvaerno5")
    assert alone.loss == ctrnn.gradient(problem, solver="auto").loss
    assert ctrnn.simulate(ball(1.0), solver="auto").stats.solver == "tsit5"
    with pytest.raises(UsageError, match="dt"):
        ctrnn.simulate(ball(1.0), solver="auto", dt=0.1)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda: ctrnn.Event("h", direction=2), UsageError),
        (lambda: ctrnn.Event("h", terminal=-1), UsageError),
        (lambda: ctrnn.Event(3.0), UsageError),
        (lambda: ctrnn.Event("h", reset={}), UsageError),
        (lambda: ball(1.0, events=[ctrnn.Event("height")]), ExpressionError),
        (lambda: ball(1.0, events=[ctrnn.Event("h", reset={"v": "-e*"})]), ExpressionError),
        (lambda: ball(1.0, events=[ctrnn.Event("h", reset={"speed": "0"})]), UnknownNameError),
        (lambda: ball(1.0, events=[ctrnn.Event("g - 1")]), UsageError),
        (lambda: ball(1.0, events=[BOUNCE, BOUNCE]), UsageError),
        (lambda: ball(1.0, events=["h"]), UsageError),
        (lambda: ball(1.0, events=(), objective=ctrnn.EventObjective("t")), UsageError),
        (lambda: ball(1.0, objective=ctrnn.EventObjective("t", event="spike")), UnknownNameError),
        (lambda: ctrnn.EventObjective("t", target=[1.0], weight=[1.0, 2.0]), UsageError),
        (lambda: ctrnn.simulate(ball(1.0, events=[ctrnn.Event("log(h - 0.9)")])), EventError),
        (lambda: ctrnn.simulate(ball(1.0, events=[ctrnn.Event("h", reset={"v": "log(v)"})])), EventError),
    ],
)
def test_wrong_events(wrong, error) -> None:
    with pytest.raises(error):
        wrong()


def test_events_print_and_travel() -> None:
    import copy
    import pickle

    run = ctrnn.simulate(ball(1.0))
    assert "1 event\n" in repr(run)
    assert "bounce" in repr(run)
    again = pickle.loads(pickle.dumps(run))
    np.testing.assert_array_equal(again.events.t, run.events.t)
    assert copy.deepcopy(BOUNCE) == BOUNCE


def test_trials_have_their_own_events() -> None:
    """A ball from 1 and one from 2: each bounces in its own time, and the gradients add."""
    third = ctrnn.EventObjective("t", occurrences=[0])
    trials = ctrnn.Problem(BALL, [[1.0, 0.0], [2.0, 0.0]], (0.0, 1.0), events=[BOUNCE], objective=third)
    runs = ctrnn.simulate(trials)
    np.testing.assert_allclose([run.events.t[0] for run in runs], np.sqrt(2 * np.array([1.0, 2.0]) / G), rtol=1e-12)
    g = ctrnn.gradient(trials)
    assert g.parameters["g"] == pytest.approx(-np.sqrt(2 / G) * (1 + np.sqrt(2)) / (2 * G), rel=1e-11)


# --- experiment files


def experiment(tmp_path, *changes: tuple[str, str]):
    from ctrnn.experiment.build import Experiment
    from ctrnn.experiment.examples import examples_folder

    text = (examples_folder() / "integrate-and-fire.toml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "spikes.toml"
    path.write_text(text, encoding="utf-8")
    return Experiment(path)


def test_events_in_an_experiment_file(tmp_path) -> None:
    """At the current and adaptation that made the target times the loss is their rounding, below 1e-8."""
    problem = experiment(tmp_path, ("I = 2.0", "I = 2.5"), ("b = 0.2", "b = 0.4")).problem
    assert ctrnn.gradient(problem).loss < 1e-8
    assert len(ctrnn.simulate(problem).events) == 11


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('condition = "v - theta"', 'condition = "u - theta"', "unknown name 'u'"),
        ('v = "0", w', 'v = "0", u', "u"),
        ("direction = 1", "direction = 2", "direction"),
        ('event = "spike"', 'event = "spikes"', "did you mean 'spike'"),
        ('loss = "t"', 'loss = "squared_error"', "time of the event"),
        ('event = "spike"', 'event = "spike"\nat = [1.0]', "beside the key event"),
        ('event = "spike"', "occurrences = [0]", "without the key event"),
        ("target = [5.1083", "target = [[5.1083], [3.0]] #", "one for each occurrence"),
    ],
)
def test_wrong_events_in_an_experiment_file(tmp_path, old: str, new: str, said: str) -> None:
    from ctrnn.errors import ExperimentError

    with pytest.raises(ExperimentError, match=said) as error:
        _ = experiment(tmp_path, (old, new)).problem
    assert "spikes.toml:" in str(error.value)


def test_resets_are_drawn_upright() -> None:
    """At each reset the line has both states, whatever times were saved."""
    from ctrnn import plotting

    run = ctrnn.simulate(ball(1.0), save_at=np.linspace(0.0, 1.0, 11))
    figure = plotting.trajectory(run)
    t, v = figure.axes[0].lines[1].get_data()
    (at,) = np.flatnonzero(np.diff(t) == 0.0)
    np.testing.assert_allclose(v[[at, at + 1]], [run.events.before[0, 1], run.events.after[0, 1]])


def adaptive_exponential(threshold: float) -> ctrnn.Problem:
    """Brette & Gerstner's neuron (mV, ms, pA), whose potential would become infinite just behind its third spike."""
    field = ctrnn.Equations(
        {"V": "(-g*(V + 70.6) + 2*g*exp((V - VT)/2) - w + I)/281", "w": "(4*(V + 70.6) - w)/144"},
        {"g": 30.0, "VT": -50.4, "I": 800.0, "theta": threshold, "b": 80.5},
    )
    spike = ctrnn.Event("V - theta", direction=1, reset={"V": "-70.6", "w": "w + b"})
    third = ctrnn.EventObjective("t", occurrences=[2])
    return ctrnn.Problem(field, [-70.6, 0.0], (0.0, 100.0), events=[spike], objective=third)


@pytest.mark.parametrize("threshold", [0.0, -30.0])
def test_finer_steps_still_end_where_the_condition_is_zero(threshold: float) -> None:
    problem = adaptive_exponential(threshold)

    def third(moved: float) -> float:
        shifted = problem.replace(field=problem.field.with_parameters(I=800.0 + moved), objective=None)
        return float(ctrnn.simulate(shifted, solver="dop853", **TIGHT).events.t[2])

    exact = (8 * (third(0.02) - third(-0.02)) - third(0.04) + third(-0.04)) / 0.24
    for method in ("adjoint", "rtrl"):
        assert ctrnn.gradient(problem, method).parameters["I"] == pytest.approx(exact, rel=1e-5)
        assert ctrnn.gradient(problem, method, rtol=1e-10, atol=1e-12).parameters["I"] == pytest.approx(exact, rel=1e-7)


def test_a_comparison_is_no_condition_but_near_to_one() -> None:
    with pytest.raises(UsageError, match=r"crosses zero. Try: v - \(2\*theta\), with direction=1$"):
        ctrnn.Event("v >= 2*theta")
    with pytest.raises(UsageError, match=r"h \+ 1 - \(0.5\), with direction=-1"):
        ctrnn.Event("h + 1 < 0.5")
    for text in ("where(v > 1, v - 2, -1)", "v - 2 if v > 1 else -1"):
        assert ctrnn.Event(text).condition == text


def test_a_solution_that_ends_before_its_event() -> None:
    with pytest.raises(StepUnderflowError, match="a condition that is met earlier"):
        ctrnn.simulate(adaptive_exponential(40.0))


def test_resets_are_no_part_of_a_path_in_the_plane() -> None:
    run = ctrnn.simulate(adaptive_exponential(0.0).replace(objective=None))
    plane = ctrnn.plotting.portrait(adaptive_exponential(0.0).field, ((-80, 0), (0, 200)), runs=run)
    for figure, name in ((ctrnn.plotting.phase_portrait(run), "solution"), (plane, "runs")):
        lines = {line.get_label(): line for line in figure.axes[0].lines}
        x, y = lines[name].get_data()
        assert np.isnan(x).sum() == len(run.events) > 2
        assert np.nanmax(np.abs(np.diff(y))) < 10.0  # each reset lifts w by 80.5
        x, y = (np.asarray(values).reshape(-1, 3) for values in lines["reset"].get_data())
        assert x[:, 0] == pytest.approx(0.0, abs=1e-4) and x[:, 1] == pytest.approx(-70.6)
        assert y[:, 1] - y[:, 0] == pytest.approx(80.5)
