"""Slow points: closed forms of the minima of ½|F|² to 1e-9, kept apart from points of rest.

And thousands of starts at once.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrnn import Equations, RateNetwork, find_equilibrium
from ctrnn.analysis import fixed_points
from ctrnn.errors import ConvergenceError


def test_a_ghost_of_a_fold():
    """r² + ε has the minimum ε at 0: a start on either side comes there."""
    table = fixed_points(Equations({"r": "0.01 + r**2"}), [[0.5], [-0.5], [3.0]], slow=True)
    assert table.kind.tolist() == ["slow"]
    assert table.slow.all()
    assert not table.stable.any()
    assert table.lost == 0
    assert table.reached.tolist() == [3]
    assert table[0].speed == pytest.approx(0.01, rel=1e-12)
    assert table[0].r == pytest.approx(0.0, abs=1e-9)
    assert fixed_points(Equations({"r": "0.01 + r**2"}), [[0.5]]).lost == 1
    assert "1 of them slow" in str(table)


def test_slow_points_beside_points_of_rest():
    """A tanh unit beyond its fold.

    One point of rest, and the ghost, where F' F = 0 with F' = 0, w (1 − tanh² r) = 1.
    """
    w = 2.5
    fold = abs(np.arctanh(np.sqrt(1 - 1 / w)) - np.sqrt(w * (w - 1)))
    field = RateNetwork(1).with_parameters(W=[[w]], b=[fold + 0.01])
    table = fixed_points(field, np.linspace(-4, 4, 50)[:, None], slow=True)
    assert table.kind.tolist() == ["stable node", "slow"]
    ghost = table[table.slow]
    assert ghost.r[0, 0] == pytest.approx(-np.arctanh(np.sqrt(1 - 1 / w)), rel=1e-9)
    assert ghost.speed[0] == pytest.approx(0.01, rel=1e-9)


def test_a_slow_point_in_the_plane():
    """F = (u² + 0.1, −v + u): q has a minimum with its gradient zero, JᵀF = 0, checked there.

    And not where F is only small.
    """
    field = Equations({"u": "u**2 + 0.1", "v": "-v + u + 0.2*v**2"}, {})
    table = fixed_points(field, np.random.default_rng(0).uniform(-1, 1, (40, 2)), slow=True)
    assert len(table) >= 1
    for row in table:
        assert row.slow
        F = field(0.0, row.r)
        assert np.linalg.norm(field.jacobian(0.0, row.r).T @ F) < 1e-9
        assert np.linalg.norm(F) == pytest.approx(row.speed)
        for d in np.random.default_rng(1).normal(size=(20, 2)):
            assert np.linalg.norm(field(0.0, row.r + 1e-3 * d)) > row.speed


def test_no_minimum_at_infinity():
    table = fixed_points(Equations({"r": "exp(-r)"}), [[0.0], [1.0]], slow=True)
    assert len(table) == 0
    assert table.lost == 2
    assert table.eigenvalues.size == 0


def test_many_starts_agree_with_one_at_a_time():
    rng = np.random.default_rng(3)
    field = RateNetwork(6, gain=2.5, seed=5)
    starts = rng.normal(size=(60, 6)) * 2
    together = fixed_points(field, starts)
    alone = 0
    for start in starts[:30]:
        try:
            eq = find_equilibrium(field, start, method="newton")
        except ConvergenceError:
            continue
        alone += 1
        assert np.linalg.norm(together.r - eq.r, axis=1).min() < 1e-8
    assert alone > 5
    assert together.reached.sum() + together.lost == 60
    assert together.speed.max() < 1e-12


def test_a_line_of_equilibria_is_no_obstacle():
    field = Equations({"u": "-u + v", "v": "u - v"}, {})
    table = fixed_points(field, np.random.default_rng(0).normal(size=(5, 2)))
    assert table.lost == 0
    assert_allclose(table.r[:, 0], table.r[:, 1], atol=1e-12)


def test_a_thousand_starts_of_64_units_and_none_lost():
    """Newton's method alone loses half: J is nearly singular on their way. The descent of ½|F|² goes on."""
    field = RateNetwork(64, gain=1.5, seed=0)
    starts = np.random.default_rng(0).normal(size=(1000, 64))
    fixed_points(field, starts[:2])
    began = time.process_time()
    table = fixed_points(field, starts)
    assert time.process_time() - began < 10.0
    assert table.lost == 0
    assert table.reached.sum() == 1000
    assert table.speed.max() < 1e-11
    assert len(table) == 3  # 0 and a pair ±r, as F is odd
    assert_allclose(np.sort(table.r[:, 0])[[0, 2]].sum(), 0.0, atol=1e-10)


def test_slow_points_of_a_network_beside_scipy():
    """Each is a minimum of q: SciPy's BFGS from beside it comes back to it."""
    from scipy.optimize import minimize

    field = RateNetwork(64, gain=1.8, seed=0)
    W = field.parameters["W"]
    table = fixed_points(field, np.random.default_rng(0).normal(size=(60, 64)), slow=True)
    assert table.lost == 0
    slow = table[table.slow]
    assert len(slow) > 2

    def q(r):
        F = -r + W @ np.tanh(r)
        J = -np.eye(64) + W * (1 - np.tanh(r) ** 2)
        return 0.5 * F @ F, J.T @ F

    for row in slow:
        value, slope = q(row.r)
        assert np.abs(slope).max() < 1e-10
        assert np.sqrt(2 * value) == pytest.approx(row.speed, rel=1e-12)
    beside = slow[0].r + 1e-3 * np.random.default_rng(1).normal(size=64)
    found = minimize(q, beside, jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 2000})
    assert_allclose(found.x, slow[0].r, atol=1e-6)


def test_another_method_adds_no_points_of_rest_of_the_descent():
    """The flow of dr/dt = r − r³ never rests at 0: the table of "relaxation" does not hold it, slow=True or not."""
    table = fixed_points(Equations({"r": "r - r**3"}), [[0.3], [-0.3]], slow=True, method="relaxation")
    assert table.r.ravel() == pytest.approx([-1.0, 1.0])


def test_the_frame_and_the_order():
    table = fixed_points(Equations({"r": "-r + 2*tanh(r)"}), np.linspace(-3, 3, 10)[:, None])
    assert table.sort("reached").reached.tolist() == sorted(table.reached, reverse=True)
    assert table.sort("index").index.tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="by"):
        table.sort("colour")
    frame = table.to_dataframe()
    assert list(frame)[:4] == ["kind", "stable", "index", "speed"]
    assert frame["r"].size == 3
    assert frame["time_constant"].iloc[0] == pytest.approx(-1 / table[0].abscissa)
