"""Branches that are not connected: closed forms of broken pitchforks and isolas, found from one start."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrnn import Equations
from ctrnn.analysis import continue_equilibria, equilibrium_branches
from ctrnn.errors import ConvergenceError, UsageError


def test_a_broken_pitchfork():
    """0.1 + a r − r³: the fold of the detached curve at a = 3 (0.05)^(2/3), r = −(0.05)^(1/3)."""
    field = Equations({"r": "0.1 + a*r - r**3"}, {"a": 0.0})
    branches = equilibrium_branches(field, [0.5], "a", (-1.0, 1.0))
    assert len(branches) == 2
    (fold,) = [p for branch in branches for p in branch]
    assert fold.parameter == pytest.approx(3 * 0.05 ** (2 / 3), rel=1e-12)
    assert fold.r[0] == pytest.approx(-(0.05 ** (1 / 3)), rel=1e-9)
    for branch in branches:
        assert_allclose(0.1 + branch.parameter * branch.r[:, 0] - branch.r[:, 0] ** 3, 0.0, atol=1e-13)
    assert len(equilibrium_branches(field, [0.5], "a", (-1.0, 1.0), deflate=False, values=1)) == 1


def test_an_isola_is_closed():
    field = Equations({"r": "((r - 1)**2 + mu**2 - 0.25)*(r + 1)", "s": "r - s"}, {"mu": 0.7})
    branches = equilibrium_branches(field, [[0.0, 0.0]], "mu", (-1.0, 1.0))
    assert sorted(branch.closed for branch in branches) == [False, True]
    (isola,) = (branch for branch in branches if branch.closed)
    assert_allclose((isola.r[:, 0] - 1) ** 2 + isola.parameter**2, 0.25, atol=1e-13)
    assert sorted(p.parameter for p in isola.of_kind("fold")) == pytest.approx([-0.5, 0.5], rel=1e-12)


def test_branch_points_are_gone_through():
    """A pitchfork, and two inhibiting units, each curve once; a start that is itself the special point."""
    pitchfork = Equations({"r": "a*r - r**3"}, {"a": 0.0})
    both = equilibrium_branches(pitchfork, [[0.5]], "a", (-1.0, 1.0))
    assert len(both) == 2
    assert any(np.allclose(branch.r, 0.0) for branch in both)
    assert len(equilibrium_branches(pitchfork, [[0.0]], "a", (-1.0, 1.0), switch=False, deflate=False)) == 1
    (point,) = continue_equilibria(pitchfork, [0.0], "a", (-1.0, 1.0)).special
    assert (point.kind, point.type) == ("branch", "pitchfork")
    assert point.parameter == pytest.approx(0.0, abs=1e-12)
    hopf = Equations({"u": "a*u - v - u*(u**2 + v**2)", "v": "u + a*v - v*(u**2 + v**2)"}, {"a": 0.0})
    (point,) = continue_equilibria(hopf, [0.0, 0.0], "a", (-1.0, 1.0)).special
    assert point.kind == "hopf"
    field = Equations({"u": "-u + tanh(-w*v)", "v": "-v + tanh(-w*u)"}, {"w": 0.5})
    curves = equilibrium_branches(field, [[0.1, 0.1], [1.0, -1.0]], "w", (0.2, 3.0), values=3)
    assert len(curves) == 2
    (point,) = (p for p in curves[0] if p.kind == "branch")
    assert point.parameter == pytest.approx(1.0, rel=1e-10)


def test_an_input_and_a_box():
    """sin r + x has zeros without end: those in the box are one curve."""
    field = Equations({"r": "sin(r) + x"}, inputs=["x"])
    (branch,) = equilibrium_branches(field, [[0.5]], "x", (-2.0, 2.0), x=[0.3], box=(-20.0, 20.0))
    assert branch.ends == ("box", "box")
    assert all(abs(p.parameter) == pytest.approx(1.0, rel=1e-12) for p in branch.of_kind("fold"))
    assert len(equilibrium_branches(field, [[0.5]], "x", (-2.0, 2.0), x=[0.3], box=(-20.0, 20.0), most=1)) == 1


def test_what_is_refused():
    field = Equations({"r": "r**2 + 1 + a"}, {"a": 0.0})
    with pytest.raises(ConvergenceError, match="other starts"):
        equilibrium_branches(field, [[0.5]], "a", (0.0, 1.0))
    with pytest.raises(UsageError, match="starts"):
        equilibrium_branches(field, [[0.5, 1.0]], "a", (0.0, 1.0))
    with pytest.raises(UsageError, match="values"):
        equilibrium_branches(field, [[0.5]], "a", (0.0, 1.0), values=0)
    with pytest.raises(UsageError, match="span"):
        equilibrium_branches(field, [[0.5]], "a", (1.0, 0.0))
