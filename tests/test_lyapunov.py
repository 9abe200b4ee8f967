"""Lyapunov exponents: closed forms for linear systems, published values for Lorenz, and identities that hold for all.

Digits: 1e-7 where there is a closed form; 2 % (0.3 % in fact) for Lorenz at T = 1000.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ctrnn
from ctrnn import Equations, Problem, RateNetwork, TorchField, inputs
from ctrnn.analysis import largest_exponent, lyapunov_spectrum
from ctrnn.errors import ConvergenceError, UnknownNameError, UsageError

LORENZ = {"x": "s*(y - x)", "y": "x*(r - z) - y", "z": "x*y - b*z"}


def lorenz(t_end, r=28.0):
    return Problem(Equations(LORENZ, {"s": 10.0, "r": r, "b": 8.0 / 3.0}), [1.0, 1.0, 1.0], (0.0, t_end))


def linear(A, t_end=30.0):
    n = len(A)
    field = RateNetwork(n, activation="linear").with_parameters(W=A + np.eye(n))
    return Problem(field, np.ones(n), (0.0, t_end))


def test_lorenz():
    """0.9056, 0, −14.572 (Sprott 2003), and the standard errors tell how far off a run of this length is."""
    found = lyapunov_spectrum(lorenz(1050.0), k=3, transient=50.0)
    assert found.exponents[0] == pytest.approx(0.9056, rel=0.02)
    assert abs(found.exponents[1]) < 0.01
    assert found.exponents[2] == pytest.approx(-14.572, rel=0.02)
    assert found.exponents.sum() == pytest.approx(-(10.0 + 1.0 + 8.0 / 3.0), abs=1e-6)  # the divergence is constant
    assert found.dimension == pytest.approx(2.062, abs=0.005)
    assert (np.abs(found.exponents - [0.9056, 0.0, -14.572]) < 4 * found.standard_errors).all()
    assert (found.standard_errors < 0.02).all()
    one = largest_exponent(lorenz(1050.0), transient=50.0)
    assert one.largest == pytest.approx(0.9056, rel=0.02)
    assert f"{found!r}".count("±") == 3


def test_below_the_onset_of_chaos_lorenz_is_at_rest():
    """At r = 14 both fixed points are stable: the exponents are the real parts of J's eigenvalues, to 1e-4."""
    problem = lorenz(200.0, r=14.0)
    c = np.sqrt(8.0 / 3.0 * 13.0)
    J = problem.field.jacobian(0.0, [c, c, 13.0])
    reference = np.sort(np.linalg.eigvals(J).real)[::-1]
    found = lyapunov_spectrum(problem, k=3, transient=100.0)
    assert np.abs(found.exponents - reference).max() < 2e-2  # a complex pair turns, and the mean is over no whole turns
    assert found.exponents[:2].sum() == pytest.approx(reference[:2].sum(), abs=1e-5)


def test_a_linear_system_with_real_eigenvalues():
    rng = np.random.default_rng(1)
    values = np.array([0.3, -0.5, -1.4, -4.0])
    V = rng.normal(size=(4, 4))
    found = lyapunov_spectrum(linear(V @ np.diag(values) @ np.linalg.inv(V), 80.0), k=4, transient=40.0)
    assert np.abs(found.exponents - values).max() < 1e-7
    assert (found.standard_errors < 1e-7).all()


@given(st.lists(st.floats(-3.0, 1.0), min_size=2, max_size=4))
@settings(max_examples=10)
def test_a_normal_system_needs_no_transient(rates):
    """A = a I + ω S turns and stretches all directions alike: every exponent is a, at any time."""
    a, n = rates[0], len(rates)
    S = np.random.default_rng(2).normal(size=(n, n))
    found = lyapunov_spectrum(linear(a * np.eye(n) + (S - S.T), 5.0), k=n)
    assert np.abs(found.exponents - a).max() < 1e-6


def test_a_driven_system_across_jumps():
    """r' = x(t) r: the exponent is the mean of x, with a jump inside an interval; to 1e-8."""
    field = Equations({"u": "x0*u", "v": "-2*v"}, {}, inputs=("x0",))
    x = inputs.Step(0.377, 1.5) + inputs.Sine(0.8, amplitude=0.4)
    mean = (1.5 * (3.0 - 0.377) + 0.4 * (1.0 - np.cos(2 * np.pi * 0.8 * 3.0)) / (2 * np.pi * 0.8)) / 3.0
    found = lyapunov_spectrum(Problem(field, [1.0, 1.0], (0.0, 3.0), x), k=2)
    assert found.exponents.sum() == pytest.approx(mean - 2.0, abs=1e-7)
    # a frame that starts on no axis takes its time, so only the product is exact from the start
    late = lyapunov_spectrum(Problem(field, [1.0, 1.0], (0.0, 3.0), x), k=2, transient=2.9)
    assert late.exponents[1] == pytest.approx(-2.0, abs=1e-2)


def test_fixed_steps_give_the_exponents_of_the_map():
    """Euler on r' = −a r is r⁺ = (1 − a dt) r: log|1 − a dt|/dt, to 1e-12; unstable where a dt > 2."""
    problem = Problem(Equations({"r": "-a*r"}, {"a": 2.1}), [1.0], (0.0, 20.0))
    for dt in (0.1, 1.0):
        found = largest_exponent(problem, solver="euler", dt=dt)
        assert found.largest == pytest.approx(np.log(abs(1.0 - 2.1 * dt)) / dt, abs=1e-12)


def test_every_kind_of_field_and_solver():
    torch = pytest.importorskip("torch")
    W = np.random.default_rng(3).normal(size=(3, 3))
    network = RateNetwork(3).with_parameters(W=W)
    twin = TorchField(lambda t, r, w, x: -r + w["W"] @ torch.tanh(r), 3, {"W": W})
    reference = lyapunov_spectrum(Problem(network, np.ones(3), (0.0, 10.0)), k=2)
    for field, how in (
        (twin, {}),
        (network, {"solver": "dop853"}),
        (network, {"solver": "scipy:LSODA"}),
        (network, {"solver": "torchdiffeq:dopri5"}),
    ):
        found = lyapunov_spectrum(Problem(field, np.ones(3), (0.0, 10.0)), k=2, **how)
        assert np.abs(found.exponents - reference.exponents).max() < 1e-5


def test_directions_far_apart_are_still_told():
    """e^(−400 t) beside e^t: the frame is set right before the small direction drowns; 1e-5 relative."""
    field = Equations({"u": "u", "v": "-400*v + u"}, {})
    found = lyapunov_spectrum(Problem(field, [1.0, 0.0], (0.0, 3.0)), k=2, transient=0.5)
    assert found.exponents == pytest.approx([1.0, -400.0], rel=1e-5)


def test_running_averages_end_in_the_exponents():
    found = lyapunov_spectrum(lorenz(60.0), k=2, transient=10.0)
    assert found.t[0] == 10.0
    assert found.t[-1] == 60.0
    assert np.allclose(found.running[-1], found.exponents, rtol=1e-12)
    assert found.growth.shape == (found.t.size - 1, 2)
    assert found.stats.steps > 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"k": 0}, UsageError),
        ({"k": 4}, UsageError),
        ({"k": 1.5}, UsageError),
        ({"transient": -1.0}, UsageError),
        ({"transient": 10.0}, UsageError),
        ({"transient": np.nan}, UsageError),
        ({"solver": "tsit4"}, UnknownNameError),
        ({"max_steps": 3}, ctrnn.errors.TooManyStepsError),
    ],
)
def test_bad_calls(arguments, error):
    with pytest.raises(error):
        lyapunov_spectrum(lorenz(10.0), **arguments)


def test_exponents_that_rounding_hides_are_refused():
    """One step of a stiff solver spans e^(−1e9 t): nothing is left of that direction."""
    field = Equations({"u": "0*u", "v": "-1e12*v"}, {})
    with pytest.raises((ConvergenceError, ctrnn.errors.SolverError)):
        lyapunov_spectrum(Problem(field, [1.0, 0.0], (0.0, 1.0)), k=2, solver="scipy:Radau", max_steps=10_000)
