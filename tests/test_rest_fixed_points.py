"""Many starts, each point of rest once: known fixed points (scipy's brentq, 1e-12), the table, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

import ctrnn
from ctrnn import Equations, Problem, RateNetwork, simulate
from ctrnn.analysis import fixed_points
from ctrnn.errors import UnknownNameError, UsageError


def bistable():
    """Two units that excite themselves and inhibit each other: two attractors and the saddle between them, and more."""
    return RateNetwork(2).with_parameters(W=[[2.0, -1.5], [-1.5, 2.0]])


def test_a_pitchfork_has_three_points():
    table = fixed_points(Equations({"r": "-r + 2*tanh(r)"}), np.linspace(-3.0, 3.0, 40)[:, None])
    r = brentq(lambda r: -r + 2 * np.tanh(r), 1.0, 3.0, xtol=1e-15)
    np.testing.assert_allclose(np.sort(table.r[:, 0]), [-r, 0.0, r], rtol=0, atol=1e-12)
    assert len(table) == 3 and table.reached.sum() + table.lost == 40 and table.speed.max() < 1e-12
    np.testing.assert_array_equal(table.stable, [True, True, False])  # most stable first


def test_the_points_of_two_competing_units():
    rng = np.random.default_rng(0)
    table = fixed_points(bistable(), rng.uniform(-5, 5, size=(200, 2)))
    for row in table:
        assert np.abs(row.r - row.field.parameters["W"] @ np.tanh(row.r)).max() < 1e-12
        assert row.index == (np.linalg.eigvals(row.jacobian).real > 0).sum()
    assert table.stable.sum() == 2 and any(np.abs(row.r).max() < 1e-10 for row in table)
    # F is odd: with r there is −r
    for r in table.r:
        assert np.abs(table.r + r).sum(axis=1).min() < 1e-9
    stable = table[table.stable]
    assert len(stable) == 2 and (stable.index == 0).all() and stable[0].stable
    assert len(table[:1]) == 1 and "stable" in str(table) and f"{len(table)} points" in str(table)


def test_starts_may_be_a_trajectory_and_some_lead_nowhere():
    run = simulate(Problem(bistable(), r0=[0.1, -0.2], t_span=(0.0, 30.0)), save_at=np.linspace(0.0, 30.0, 20))
    table = fixed_points(bistable(), run)
    assert np.abs(table[0].r - run.r[-1]).max() < 1e-6 and table[0].stable
    assert fixed_points(Equations({"r": "r**2 + 1"}), [[0.5], [1.0]]).lost == 2
    with_input = RateNetwork(2, inputs=1, gain=0.3, seed=0)
    table = fixed_points(with_input, np.zeros((1, 2)), x=[0.7])
    assert np.abs(with_input(0.0, table[0].r, [0.7])).max() < 1e-12


def test_bad_arguments_are_named():
    for wrong, match in (
        ({"starts": np.zeros(2)}, "starts"),
        ({"starts": np.zeros((3, 4))}, "starts"),
        ({"starts": np.zeros((0, 2))}, "starts"),
        ({"starts": [[np.nan, 0.0]]}, "starts"),
        ({"distance": 0.0}, "distance"),
        ({"method": "guess"}, "method"),
    ):
        with pytest.raises((UsageError, UnknownNameError), match=match):
            fixed_points(**({"field": bistable(), "starts": np.zeros((1, 2))} | wrong))
    assert ctrnn.analysis.fixed_points is fixed_points
