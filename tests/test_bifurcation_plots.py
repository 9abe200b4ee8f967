"""Bifurcation diagrams show what the branches say.

Stable parts solid, unstable ones dashed, each special point where it is.
"""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from ctrnn import Equations, Problem, plotting
from ctrnn.analysis import continue_cycles, continue_equilibria, continue_special, limit_cycle, switch_branch
from ctrnn.errors import UnknownNameError, UsageError

RADIAL = Equations({"u": "a*u - u*(u**2 + v**2) - v", "v": "a*v - v*(u**2 + v**2) + u"}, {"a": -0.5})


@pytest.fixture(scope="module")
def branch():
    return continue_equilibria(RADIAL, [0.0, 0.0], "a", (-1.0, 1.0))


@pytest.fixture(scope="module")
def cycles(branch):
    return continue_cycles(RADIAL, limit_cycle(RADIAL, branch.special[0]), "a", (-1.0, 1.0))


def lines(axes, style):
    return [line for line in axes.lines if line.get_linestyle() == style and len(line.get_xdata()) > 1]


def test_a_diagram_of_equilibria_and_cycles(branch, cycles):
    before = matplotlib.rcParams.copy()
    axes = plotting.bifurcation_diagram(branch, "u", cycles=cycles, labels={"a": "drive"}).axes[0]
    assert matplotlib.rcParams.copy() == before
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("drive", "u")
    solid, dashed = lines(axes, "-"), lines(axes, "--")
    assert [line.get_xdata().min() for line in dashed] == pytest.approx([0.0], abs=1e-10)  # from the Hopf point on
    upper = [line for line in solid if line.get_ydata().max() > 0.5][0]
    np.testing.assert_allclose(upper.get_ydata() ** 2, upper.get_xdata(), atol=1e-4)
    (mark,) = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert mark.get_xdata()[0] == pytest.approx(0.0, abs=1e-12)
    assert mark.get_label() == "hopf"


def test_several_branches_on_axes_of_the_callers():
    field = Equations({"r": "a*r - r**3"}, {"a": -0.5})
    trivial = continue_equilibria(field, [0.0], "a", (-1.0, 1.0))
    figure = Figure()
    axes = figure.subplots()
    assert plotting.bifurcation_diagram([trivial, switch_branch(trivial.special[0], (-1.0, 1.0))], ax=axes) is figure
    assert len(lines(axes, "--")) >= 1
    labels = [line.get_label() for line in axes.lines if not line.get_label().startswith("_")]
    assert len(labels) == len(set(labels))


def test_two_parameters():
    field = Equations({"r": "b + a*r - r**3"}, {"b": 0.0, "a": 1.0})
    fold = continue_equilibria(field, [1.0], "b", (-1.0, 1.0)).special[0]
    curve = continue_special(field, fold, ("b", "a"), ((-1.0, 1.0), (-1.0, 1.0)))
    axes = plotting.two_parameter_diagram(curve).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("b", "a")
    marks = {
        line.get_label(): (line.get_xdata()[0], line.get_ydata()[0])
        for line in axes.lines
        if len(line.get_xdata()) == 1
    }
    assert marks["cusp"] == pytest.approx((0.0, 0.0), abs=1e-8)
    with pytest.raises(UsageError, match="curves"):
        plotting.two_parameter_diagram([])


def test_a_cycle_of_states_in_units_that_differ():
    """A state in thousandths beside one of size 1: both are drawn from 0 to 1, the responses over the extents."""
    field = Equations({"u": "u*(1 - u**2 - (v/1e3)**2) - v/1e3", "v": "v*(1 - u**2 - (v/1e3)**2) + 1e3*u"}, {})
    cycle = limit_cycle(Problem(field, [1.0, 100.0], (0.0, 40.0)))
    _, states, response = plotting.cycle(cycle).axes
    for line in states.lines:
        assert (line.get_ydata().min(), line.get_ydata().max()) == pytest.approx((0.0, 1.0), abs=1e-4)
    tops = [np.abs(line.get_ydata()).max() for line in response.lines[:2]]
    assert tops == pytest.approx([2.0, 2.0], rel=1e-3)  # the angle turned by a radius, twice
    assert "extent" in response.get_ylabel()


def test_a_cycle(cycles):
    figure = plotting.cycle(cycles.cycle(len(cycles) - 1), time_label="t (s)")
    assert [axes.get_xlabel() for axes in figure.axes] == ["u", "", "t (s)"]
    with pytest.raises(UnknownNameError, match="state"):
        plotting.cycle(cycles.cycle(0), states=("u", "w"))
    with pytest.raises(UsageError, match="two states"):
        plotting.cycle(cycles.cycle(0), states=("u",))


def test_bad_calls(branch):
    with pytest.raises(UnknownNameError, match="state"):
        plotting.bifurcation_diagram(branch, "w")
    with pytest.raises(UsageError, match="one branch"):
        plotting.bifurcation_diagram([])
    other = continue_equilibria(Equations({"r": "b + r - r**3"}, {"b": 0.0}), [1.0], "b", (-1.0, 1.0))
    with pytest.raises(UsageError, match="one parameter"):
        plotting.bifurcation_diagram([branch, other])


def test_a_point_without_l1_changes_no_dashes():
    field = Equations({"x": "y", "y": "b1 + b2*x + x**2 - x*y"}, {"b1": -0.02, "b2": -0.1})
    rest = continue_equilibria(field, [-0.1, 0.0], "b1", (-0.2, 0.1))
    (hopf,) = rest.of_kind("hopf")
    curve = continue_special(field, hopf, ("b1", "b2"), ((-0.2, 0.1), (-0.5, 0.3)))
    assert np.isnan(curve.lyapunov).any() and (curve.lyapunov[~np.isnan(curve.lyapunov)] < 0.0).all()
    axes = plotting.two_parameter_diagram(curve).axes[0]
    assert "hopf, subcritical" not in axes.get_legend_handles_labels()[1]
    assert not lines(axes, "--")


def test_a_branch_that_goes_to_infinity_leaves_room_for_the_rest():
    branch = continue_equilibria(Equations({"r": "mu*r - 1"}, {"mu": 1.0}), [1.0], "mu", (-2.0, 2.0))
    assert branch.r.max() > 1e6
    low, high = plotting.bifurcation_diagram(branch).axes[0].get_ylim()
    assert 40.0 < high < 70.0  # r = 1/μ where μ has 1 % of its extent to go
    assert low < 0.5
