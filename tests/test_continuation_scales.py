"""Branches of states that grow large or to infinity, in any unit, and special points without a normal form."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrnn import Equations
from ctrnn.analysis import continue_equilibria


def values(branch, kind):
    return [point.parameter for point in branch.of_kind(kind)]


@pytest.mark.parametrize("power", [1, 2])
def test_a_branch_that_goes_to_infinity(power):
    """r = μ^(−1/power) has no end at μ = 0."""
    field = Equations({"r": f"mu*r**{power} - 1"}, {"mu": 1.0})
    branch = continue_equilibria(field, [1.0], "mu", (-2.0, 2.0))
    assert branch.ends == ("unbounded", "span")
    assert len(branch) < 500
    assert branch.r.max() > 1e6
    assert 0.0 < branch.parameter.min() < 1e-6
    assert_allclose(branch.r[:, 0] ** -power, branch.parameter, rtol=1e-9)


def test_states_that_grow_large_are_no_infinity():
    """e^μ up to 1e13; Rössler's upper equilibrium, z = c/a."""
    branch = continue_equilibria(Equations({"r": "exp(mu) - r"}, {"mu": 0.0}), [1.0], "mu", (-5.0, 30.0))
    assert branch.ends == ("span", "span")
    assert_allclose(branch.r[:, 0], np.exp(branch.parameter), rtol=1e-9)
    for a in (0.1, 1e-6):
        field = Equations({"x": "-y - z", "y": "x + a*y", "z": "b + z*(x - c)"}, {"a": a, "b": 0.2, "c": 5.7})
        branch = continue_equilibria(field, [0.0, 0.0, 0.0], "c", (-5.0, 50.0))
        assert branch.ends == ("span", "span")
        assert values(branch, "fold") == pytest.approx([np.sqrt(0.8 * a)], rel=1e-10)
        assert branch.r[:, 2].max() == pytest.approx((50.0 + np.sqrt(2500.0 - 0.8 * a)) / (2.0 * a), rel=1e-10)


def test_a_hopf_point_on_a_fold_has_no_normal_form():
    """Rössler's at a = b, c = 2a: eigenvalues 0 and ±iω, where l1 is A⁻¹ of a singular A."""
    field = Equations({"x": "-y - z", "y": "x + a*y", "z": "b + z*(x - c)"}, {"a": 0.2, "b": 0.2, "c": 5.7})
    branch = continue_equilibria(field, [0.0, 0.0, 0.0], "c", (-5.0, 50.0))
    (hopf,) = branch.of_kind("hopf")
    assert hopf.parameter == pytest.approx(0.4, abs=1e-8)
    assert (hopf.type, hopf.lyapunov) == ("degenerate", None)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_criticality_does_not_depend_on_the_unit_of_the_states(size):
    """Selkov's model in any unit of concentration: l1 goes with its square, its sign does not."""
    field = Equations({"x": "-x + a*y + x**2*y/k**2", "y": "b*k - a*y - x**2*y/k**2"}, {"a": 0.08, "b": 0.1, "k": size})
    hopfs = continue_equilibria(field, [0.1 * size, size], "b", (0.0, 2.0)).of_kind("hopf")
    assert [p.type for p in hopfs] == ["supercritical"] * 2
    assert_allclose([p.lyapunov * size**2 for p in hopfs], [-1.0541463322499, -0.28380862791345], rtol=1e-9)
    # the trace is zero: b² = (1 − 2a ∓ √(1 − 8a))/2
    exact = np.sqrt((1 - 0.16 + np.array([-1.0, 1.0]) * np.sqrt(1 - 0.64)) / 2)
    assert_allclose([p.parameter for p in hopfs], exact, rtol=1e-11)


def test_a_branch_of_centres_has_no_hopf_points():
    """Lotka and Volterra's: ±i√(1 + a) all along, a real part of rounding changes its sign anywhere."""
    field = Equations({"u": "u*(1 - v) + a*u", "v": "v*(u - 1)"}, {"a": -0.2})
    branch = continue_equilibria(field, [1.0, 0.8], "a", (-0.9, 1.0))
    assert branch.special == ()
    assert not branch.stable.any()


def test_a_ring_loses_two_modes_at_once():
    """FitzHugh–Nagumo units and their neighbours: mode k grows where v² < 1 − 0.064 − 2 D (1 − cos(2πk/n))."""
    n, D = 4, 0.1
    text = {}
    for i in range(n):
        text[f"v{i}"] = f"v{i} - v{i}**3/3 - w{i} + I + D*(v{(i + 1) % n} + v{(i - 1) % n} - 2*v{i})"
        text[f"w{i}"] = f"0.08*(v{i} + 0.7 - 0.8*w{i})"
    branch = continue_equilibria(Equations(text, {"I": 0.0, "D": D}), [-1.2, -0.6] * n, "I", (0.0, 2.0))
    v = np.sqrt(1.0 - 0.064 - 2.0 * D * (1.0 - np.cos(2 * np.pi * np.array([0, 1, 2]) / n)))
    v = np.concatenate([-v, v[::-1]])
    assert_allclose(values(branch, "hopf"), v**3 / 3 - v + (v + 0.7) / 0.8, atol=1e-12)
    assert [p.type for p in branch.of_kind("hopf")] == [
        "subcritical", "degenerate", "subcritical", "subcritical", "degenerate", "subcritical",
    ]  # fmt: skip
    assert_allclose([p.omega for p in branch.of_kind("hopf")], np.sqrt(0.08 - 0.064**2), rtol=1e-8)


def test_a_branch_point_of_several_branches():
    """Three units that inhibit each other: the two modes with Σ r = 0 come to grow at a = 0."""
    text = {f"r{i}": f"a*r{i} - r{i}**3 - 2*(r0 + r1 + r2)/3" for i in range(3)}
    branch = continue_equilibria(Equations(text, {"a": -0.5}), [0.0] * 3, "a", (-1.0, 1.0))
    assert_allclose(values(branch, "branch"), [0.0], atol=1e-12)
    assert branch.special[0].type == ""
