"""Maps: cycles and multipliers in closed form.

Products of Jacobians against 400 digits, torch and the exact gradient.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import ctrnn
from ctrnn import Equations, Problem, RateNetwork, plotting
from ctrnn.analysis import EulerMap, jacobian_products, lyapunov_spectrum
from ctrnn.errors import UsageError

HENON = Equations({"u": "1 - a*u**2 + v - u", "v": "b*u - v"}, {"a": 1.4, "b": 0.3})
RNG = np.random.default_rng(2)


def logistic(a):
    return EulerMap(Equations({"r": "a*r*(1 - r) - r"}, {"a": a}))


# --- cycles ----------------------------------------------------------------------------------------------------------


def test_cycles_of_the_logistic_map():
    """At a = 4 there are (2, 1, 2, 3, 6, 9) cycles of periods 1 to 6, all with |multiplier| 2^p but the one at 0."""
    map_ = logistic(4.0)
    starts = np.linspace(0.001, 0.999, 1500)[:, None]
    for period, count in zip(range(1, 7), (2, 1, 2, 3, 6, 9), strict=True):
        found = map_.cycles(starts, period)
        assert len(found) == count
        assert found.reached.sum() + found.lost == 1500
        for row in found:
            expected = 4.0 if period == 1 and abs(row.r[0, 0]) < 0.1 else 2.0**period
            assert abs(row.multipliers[0]) == pytest.approx(expected, rel=1e-9)
            assert row.kind == "unstable"
            assert row.index == 1
            assert_allclose(map_(row.r), np.roll(row.r, -1, axis=0), atol=1e-12)
            # on this map sin²(πθ) with θ doubled each time: the points are sin²(πj/(2^p ± 1))
            θ = np.arcsin(np.sqrt(np.clip(row.r[:, 0], 0, 1))) / np.pi
            j = np.concatenate([θ * (2**period - 1), θ * (2**period + 1)]).reshape(2, -1)
            assert np.abs(j - j.round()).max(axis=1).min() < 1e-5


def test_the_flip_at_three_and_the_superstable_cycle():
    assert logistic(3.0).fixed_points([[0.6]])[0].kind == "non-hyperbolic"  # multiplier 2 − a = −1
    found = logistic(3.2).cycles([[0.5]], 2)[0]
    assert found.multipliers[0].real == pytest.approx(4 + 2 * 3.2 - 3.2**2, rel=1e-12)
    superstable = logistic(1 + np.sqrt(5.0)).cycles([[0.5]], 2)[0]
    assert abs(superstable.multipliers[0]) < 1e-9
    assert superstable.stable
    assert "cycle of period 2" in repr(superstable)


def test_henon():
    """Its fixed points and the cycle of period 2 solve quadratics; each step's determinant is −b."""
    a, b = 1.4, 0.3
    map_ = EulerMap(HENON)
    starts = RNG.uniform(-1.5, 1.5, (300, 2))
    fixed = map_.fixed_points(starts)
    u = (-(1 - b) + np.array([-1, 1]) * np.sqrt((1 - b) ** 2 + 4 * a)) / (2 * a)
    assert_allclose(np.sort([row.r[0, 0] for row in fixed]), u, rtol=1e-12)
    assert [row.kind for row in fixed] == ["saddle", "saddle"]
    (two,) = map_.cycles(starts, 2)
    # u² − u (1 − b)/a + ((1 − b)² − a)/a² = 0
    expected = np.sort(np.roots([1.0, -(1 - b) / a, ((1 - b) ** 2 - a) / a**2]))
    assert_allclose(np.sort(two.r[:, 0]), expected, rtol=1e-10)
    assert np.prod(two.multipliers).real == pytest.approx(b**2, rel=1e-10)
    exponents = lyapunov_spectrum(Problem(HENON, [0.1, 0.1], (0.0, 3000.0)), solver="euler", dt=1.0).exponents
    assert exponents.sum() == pytest.approx(np.log(b), rel=1e-9)
    assert exponents[0] == pytest.approx(0.419, abs=0.02)
    assert_allclose(map_.orbit([0.1, 0.1], 2)[2], map_(map_([0.1, 0.1])))


def test_a_network_with_step_tau_is_the_discrete_one():
    """r ← W tanh(r) + b: fixed points are those of the flow, multipliers 1 + dt λ; a flow that is stable, a map not."""
    W = np.array([[0.0, -3.0], [3.0, 0.0]])
    field = RateNetwork(2, tau=2.0).with_parameters(W=W)
    map_ = EulerMap(field, dt=2.0)
    r = np.array([0.3, -0.2])
    assert_allclose(map_(r), W @ np.tanh(r), atol=1e-15)
    assert_allclose(map_.jacobian(r), W * (1 - np.tanh(r) ** 2), atol=1e-15)
    row = map_.fixed_points([[0.1, 0.1]])[0]
    assert_allclose(np.sort_complex(row.multipliers), [-3j, 3j], atol=1e-12)
    assert row.kind == "unstable"
    assert_allclose(row.exponents, np.log(3.0) / 2.0, rtol=1e-12)
    assert (np.linalg.eigvals(field.jacobian(0.0, [0.0, 0.0])).real < 0).all()


def test_what_is_refused():
    with pytest.raises(UsageError, match="dt"):
        EulerMap(HENON, dt=0.0)
    map_ = EulerMap(HENON)
    for bad in ([0.0, 0.0], [[0.0]], [[np.nan, 0.0]]):
        with pytest.raises(UsageError, match="starts"):
            map_.cycles(bad)
    with pytest.raises(UsageError, match="period"):
        map_.cycles([[0.0, 0.0]], 0)
    with pytest.raises(UsageError, match="r"):
        map_([0.0])


# --- products of Jacobians -------------------------------------------------------------------------------------------


def test_singular_values_of_long_products_to_many_digits():
    """A linear field: the product is a power of I + dt A, taken here with 400 digits."""
    A = RNG.normal(size=(4, 4)) + np.triu(2.0 * np.ones((4, 4)), 1)
    field = RateNetwork(4, activation="linear").with_parameters(W=A)
    found = jacobian_products(Problem(field, np.ones(4), (0.0, 15.0)), dt=0.1, looks=3)
    assert_allclose(found.jacobians[7], np.eye(4) + 0.1 * (A - np.eye(4)), atol=1e-14)
    with mpmath.workdps(400):
        M = mpmath.matrix(found.jacobians[0].tolist())
        P = M**150
        exact = [float(mpmath.log(mpmath.sqrt(v))) for v in mpmath.eigsy(P.T * P, eigvals_only=True)][::-1]
    assert exact[0] - exact[-1] > 40  # beyond what a product formed in doubles keeps
    assert_allclose(found.log_singular_values[-1], exact, atol=1e-9)
    assert found.t[-1] == 0.0
    assert (np.diff(found.t) < 0).all()


def test_products_beyond_the_range_of_numbers():
    field = Equations({"u": "-0.5*u", "v": "-0.999999*v", "w": "2*w"})
    found = jacobian_products(Problem(field, np.zeros(3), (0.0, 1000.0)), dt=1.0)
    assert_allclose(found.log_singular_values[-1], 1000 * np.log([3.0, 0.5, 1e-6]), rtol=1e-9)
    assert found.log_singular_values.shape == (200, 3)
    assert found.rate == pytest.approx(np.log(3.0), rel=1e-12)
    assert found.horizon == np.inf
    assert "explode" in repr(found)
    dead = jacobian_products(Problem(Equations({"u": "-u", "v": "-0.5*v"}), [1.0, 1.0], (0.0, 3.0)), dt=1.0)
    assert dead.log_norms[-1] == pytest.approx(3 * np.log(0.5))
    assert dead.log_singular_values[-1, 1] < -700
    assert not np.isnan(dead.log_singular_values).any()


def test_the_product_is_the_gradient():
    """Against torch through the discrete network, and against the exact gradient in r0."""
    n, T = 6, 25
    field = RateNetwork(n, gain=1.5, seed=1)
    r0 = RNG.normal(size=n)
    found = jacobian_products(Problem(field, r0, (0.0, float(T))), dt=1.0, looks=T)
    W = torch.tensor(field.parameters["W"])

    def end(r):
        for _ in range(T):
            r = W @ torch.tanh(r)
        return r

    Φ = torch.autograd.functional.jacobian(end, torch.tensor(r0)).numpy()
    σ = np.linalg.svd(Φ, compute_uv=False)
    keep = σ > 1e-9 * σ[0]
    assert_allclose(np.exp(found.log_singular_values[-1])[keep], σ[keep], rtol=1e-6)
    assert found.log_norms.size == T
    objective = ctrnn.Objective(target=np.zeros((1, n)), at=[float(T)])
    problem = Problem(field, r0, (0.0, float(T)), objective=objective)
    gradient = ctrnn.gradient(problem, method="adjoint", solver="euler", dt=1.0)
    at_end = ctrnn.simulate(problem, solver="euler", dt=1.0).r[-1]
    assert_allclose(at_end @ Φ, gradient.r0, rtol=1e-8)
    assert np.linalg.norm(gradient.r0) <= np.linalg.norm(at_end) * np.exp(found.log_norms[-1]) * (1 + 1e-9)


def test_conditions_are_on_singular_values_and_not_on_the_spectral_radius():
    """Eigenvalues ½, yet the norm of a step is 10 and the product grows before it falls: the bound says nothing."""
    field = RateNetwork(2, activation="linear").with_parameters(W=[[0.5, 10.0], [0.0, 0.5]])
    found = jacobian_products(Problem(field, [1.0, 1.0], (0.0, 60.0)), dt=1.0)
    assert found.bound > 10
    assert not found.vanishes
    assert found.log_norms.max() > 2
    assert found.rate < 0
    small = jacobian_products(Problem(RateNetwork(8, gain=0.3, seed=3), np.zeros(8), (0.0, 30.0)), dt=1.0)
    assert small.vanishes
    steps = np.arange(1, 31)
    assert (small.log_norms <= steps * np.log(small.bound) + 1e-12).all()
    assert "they must" in repr(small)


def test_intervals_of_any_solver():
    """J of an interval of the flow is the exponential of its rates."""
    field = Equations({"u": "-u + 3*v", "v": "-2*v"})
    times = [0.0, 0.5, 2.0]
    from scipy.linalg import expm

    A = np.array([[-1.0, 3.0], [0.0, -2.0]])
    for solver in ("tsit5", "kvaerno5", "scipy:LSODA"):
        found = jacobian_products(Problem(field, [1.0, 1.0], (0.0, 2.0)), solver=solver, times=times)
        assert_allclose(found.jacobians[0], expm(0.5 * A), atol=1e-6)
        assert_allclose(found.jacobians[1], expm(1.5 * A), atol=1e-6)
    with pytest.raises(UsageError, match="dt"):
        jacobian_products(Problem(field, [1.0, 1.0], (0.0, 2.0)), solver="tsit5")
    with pytest.raises(UsageError, match="times"):
        jacobian_products(Problem(field, [1.0, 1.0], (0.0, 2.0)), dt=0.1, times=[0.0, 1.0])
    with pytest.raises(UsageError, match="looks"):
        jacobian_products(Problem(field, [1.0, 1.0], (0.0, 2.0)), dt=0.1, looks=0)


def test_figures():
    found = jacobian_products(Problem(RateNetwork(8, gain=0.8, seed=3), np.ones(8), (0.0, 30.0)), dt=1.0)
    left, right = plotting.jacobian_products(found).axes
    assert "γ to the number of steps" in left.get_legend_handles_labels()[1]
    assert "σ of one step" in right.get_ylabel()
