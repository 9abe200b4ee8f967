"""An inverse tracked as A moves: orders, lags, and what happens where it is lost."""

import math

import numpy as np
import pytest
from matrices import hurwitz, symmetric

from ctrnn.errors import ConvergenceError, NotHurwitzError, SingularJacobianError, UsageError
from ctrnn.inverse import zhang

B, C = hurwitz(5, 1, margin=2.0), np.random.default_rng(2).normal(size=(5, 5)) / 3
a = np.arange(1.0, 6.0)


def moving(t):
    return B + math.sin(t) * C


def moving_rate(t):
    return math.cos(t) * C


def worst(track):
    return max(
        np.linalg.norm(V - np.linalg.solve(moving(t).T, a)) / np.linalg.norm(V)
        for t, V in zip(track.t, track.V, strict=True)
    )


@pytest.mark.parametrize("derivative, order", [("difference", 2), (moving_rate, 2), ("none", 1)])
def test_the_error_of_a_step_has_the_order_of_its_prediction(derivative, order):
    errors = [worst(zhang(moving, (0.0, 4.0), a, dt=dt, derivative=derivative)) for dt in (0.02, 0.01, 0.005)]
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.abs(rates - order).max() < 0.15
    assert errors[-1] < (1e-4 if order == 2 else 1e-1)


def test_the_residual_is_the_one_of_the_value_and_the_start_is_exact():
    track = zhang(moving, (0.0, 1.0), None, dt=0.01)
    assert track.V.shape == (101, 5, 5) and track.converged and track.residual[0] < 1e-14
    for k in (30, 100):
        R = np.linalg.norm(track.V[k] @ moving(track.t[k]) - np.eye(5), axis=1).max()
        assert track.residual[k] == pytest.approx(R, rel=1e-6)
    rows = zhang(moving, (0.0, 1.0), np.stack([a, -a]), dt=0.01).V
    assert rows.shape == (101, 2, 5)
    np.testing.assert_allclose(rows[-1, 0], a @ track.V[-1], rtol=1e-9)


def test_a_disturbed_inverse_comes_back_at_the_gain():
    from ctrnn.inverse.tracking import getz_marsden

    h, gain = 1e-3, 20.0
    frames = [(moving(k * h), moving((k + 1) * h) - moving(k * h)) for k in range(200)]
    X = np.linalg.inv(moving(0.0)) @ (np.eye(5) + 1e-3 * C)
    off = [np.linalg.norm(np.eye(5) - X @ moving(0.0))]
    for k, Y in enumerate(getz_marsden(X, iter(frames), np.eye(5), gain * h)):
        off.append(np.linalg.norm(np.eye(5) - Y @ moving((k + 1) * h)))
    decay = math.log(off[0] / off[100]) / (100 * h)
    assert decay == pytest.approx(gain, rel=0.05)


def test_the_row_flow_lags_by_the_speed_of_the_inverse_over_its_gain():
    gain = 400.0
    track = zhang(moving, (0.0, 3.0), a, dt=1e-4, gain=gain, dynamics="flow")
    for t in (1.0, 2.5):
        k = int(np.argmin(np.abs(track.t - t)))
        A = moving(t)
        V = np.linalg.solve(A.T, a)
        speed = -np.linalg.solve(A.T, V @ moving_rate(t))  # d(aA⁻¹)/dt = −V Ȧ A⁻¹
        lag = np.linalg.solve(A.T, speed) / gain
        np.testing.assert_allclose(track.V[k] - V, lag, atol=0.05 * np.linalg.norm(lag))
    assert track.residual[1:].max() > 1e-4  # a lag, not an error of the step


def test_the_inverse_needs_no_stability_and_the_flow_does():
    D = symmetric(4, 3.0, 1)

    def turning(t):  # Hurwitz until t = 1, then one eigenvalue crosses zero
        return D + t * np.eye(4)

    with pytest.raises(NotHurwitzError, match="A at t = 1") as caught:
        zhang(turning, (0.0, 2.0), np.ones(4), dt=0.001, gain=200.0, dynamics="flow")
    assert 0 <= caught.value.abscissa < 0.2
    with pytest.raises(NotHurwitzError, match="A at t = 0 is not Hurwitz"):
        zhang(lambda t: -D, (0.0, 1.0), np.ones(4), dt=0.01, dynamics="flow", gain=10.0)
    assert zhang(lambda t: -D * (1 + t), (0.0, 1.0), np.ones(4), dt=0.01).converged


def test_an_inverse_that_is_lost_names_the_time():
    def through_zero(t):
        return np.diag([-1.0, t - 1.0])

    with pytest.raises(ConvergenceError, match=r"lost at t = (0\.9|1)\.?\d*.*singular"):
        zhang(through_zero, (0.0, 2.0), dt=0.01)
    stopped = zhang(through_zero, (0.0, 2.0), dt=0.01, raise_on_failure=False)
    assert not stopped.converged and 0.9 < stopped.t[-1] < 1.2 and len(stopped.V) == len(stopped.t)
    assert "NOT tracked" in str(stopped)
    with pytest.raises(ConvergenceError, match="asked 1e-09.*smaller dt"):
        zhang(moving, (0.0, 1.0), a, dt=0.01, tol=1e-9)
    with pytest.raises(SingularJacobianError):
        zhang(lambda t: np.zeros((2, 2)), (0.0, 1.0), dt=0.1)


@pytest.mark.parametrize(
    "change, argument",
    [
        ({"dt": 0.0}, "dt"),
        ({"dt": 5.0}, "dt"),
        ({"gain": -1.0}, "gain"),
        ({"gain": 1e6}, "gain"),
        ({"gain": 1e3, "dynamics": "flow"}, "gain"),
        ({"dynamics": "zhang"}, "dynamics"),
        ({"derivative": "exact"}, "derivative"),
        ({"t_span": (1.0, 1.0)}, "t_span"),
        ({"a": np.ones(4)}, "a"),
        ({"A": B}, "A"),
        ({"A": lambda t: moving(t)[: 5 if t < 0.5 else 4]}, "A(0.5)"),
        ({"A": lambda t: moving(t) * (math.nan if t > 0.5 else 1.0)}, "A(0.51)"),
    ],
)
def test_bad_arguments_of_tracking_are_named(change, argument):
    given = {"A": moving, "t_span": (0.0, 1.0), "a": a, "dt": 0.01} | change
    with pytest.raises(UsageError) as caught:
        zhang(**given)
    assert caught.value.argument == argument
