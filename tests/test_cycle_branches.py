"""Branches of limit cycles.

Each kind of special point against a closed form to 1e-9, a canard's two folds by symmetry, a homoclinic end.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrnn import Equations, Problem
from ctrnn.analysis import continue_cycles, continue_equilibria, double_period, limit_cycle, switch_cycle
from ctrnn.errors import UnknownNameError, UsageError

VAN_DER_POL = Equations({"u": "v", "v": "mu*(1 - u**2)*v - u"}, {"mu": 1.0})
RADIAL = {"u": "u*(1 - u**2 - v**2) - 2*v", "v": "v*(1 - u**2 - v**2) + 2*u"}


def only(branch, kind):
    assert [point.kind for point in branch.special] == [kind]
    return branch.special[0]


def test_a_fold_of_cycles():
    """ρ' = ρ(μ + 2ρ² − ρ⁴): the double root μ = −1, ρ = 1; and the Hopf point at μ = 0, where the branch ends."""
    growth = "(mu + 2*(u**2 + v**2) - (u**2 + v**2)**2)"
    field = Equations({"u": f"u*{growth} - v", "v": f"v*{growth} + u"}, {"mu": 0.5})
    branch = continue_cycles(field, limit_cycle(Problem(field, [1.5, 0.0], (0.0, 60.0))), "mu", (-1.5, 1.0))
    fold = only(branch, "fold")
    assert fold.parameter == pytest.approx(-1.0, abs=1e-12)
    assert fold.period == pytest.approx(2 * np.pi, rel=1e-12)
    assert_allclose(fold.cycle.amplitude, 2.0, rtol=1e-5)
    assert set(branch.ends) == {"span", "hopf"}
    assert_allclose(branch.period, 2 * np.pi, rtol=1e-11)
    radius = branch.highest[:, 0]
    assert_allclose(branch.parameter, radius**4 - 2 * radius**2, atol=1e-4)
    assert (branch.stable == (radius > 1.0)).all()
    end = int(branch.ends[1] == "hopf") * (len(branch) - 1)
    assert abs(branch.parameter[end]) < 0.01


def test_a_flip():
    """Two directions that turn half round in a period: multipliers −e^(aT) and −e^(−cT)."""
    rates = RADIAL | {
        "z": "(a - c)/2*z + (a + c)/2*(u*z + v*y) - y - z*(z**2 + y**2)",
        "y": "(a - c)/2*y + (a + c)/2*(v*z - u*y) + z - y*(z**2 + y**2)",
    }
    field = Equations(rates, {"a": -0.3, "c": 0.5})
    cycle = limit_cycle(Problem(field, [0.8, 0.0, 0.1, 0.1], (0.0, 100.0)))
    expected = np.array([1.0, -np.exp(-0.3 * np.pi), -np.exp(-0.5 * np.pi), np.exp(-2 * np.pi)])
    assert_allclose(cycle.multipliers.real, expected, rtol=1e-8)
    branch = continue_cycles(field, cycle, "a", (-1.0, 0.5))
    flip = only(branch, "flip")
    assert flip.parameter == pytest.approx(0.0, abs=1e-11)
    assert (branch.stable == (branch.parameter < 0)).all()


def test_the_doubled_cycle():
    """In the frame that turns half round p' = ap − p³: on the doubled cycle p² = a."""
    rates = RADIAL | {
        "z": "(a - c)/2*z + (a + c)/2*(u*z + v*y) - y - z*(z**2 + y**2)",
        "y": "(a - c)/2*y + (a + c)/2*(v*z - u*y) + z - y*(z**2 + y**2)",
    }
    field = Equations(rates, {"a": -0.3, "c": 0.5})
    cycle = limit_cycle(Problem(field, [0.8, 0.0, 0.1, 0.1], (0.0, 100.0)))
    flip = continue_cycles(field, cycle, "a", (-0.5, 0.5)).special[0]
    doubled = double_period(flip, amplitude=0.5)
    assert doubled.stable
    assert doubled.period == pytest.approx(2 * flip.period, rel=1e-10)
    radius = np.hypot(doubled.r[:, 2], doubled.r[:, 3])
    assert_allclose(radius**2, doubled.parameter, rtol=1e-8)
    assert doubled.exponents.real[1] == pytest.approx(-2 * doubled.parameter, rel=1e-6)
    branch = continue_cycles(field, doubled, "a", (-0.5, 0.5))
    assert branch.period == pytest.approx(np.full(len(branch), doubled.period), rel=1e-8)
    assert branch.parameter.max() == 0.5
    with pytest.raises(UsageError, match="flip"):
        double_period(cycle)
    with pytest.raises(UsageError, match="amplitude"):
        double_period(flip, amplitude=0.0)


def test_a_torus():
    """ρ' = (z − b)ρ, z' = l + az − z³/3 − ρ².

    A Hopf point of this pair at a = b² is a torus of the whole, θ = √2 ρ T.
    """
    field = Equations(
        {"x": "(z - b)*x - w*y", "y": "w*x + (z - b)*y", "z": "l + a*z - z**3/3 - x**2 - y**2"},
        {"b": 0.7, "w": 3.5, "l": 0.6, "a": 0.3},
    )
    branch = continue_cycles(field, limit_cycle(Problem(field, [0.8, 0.0, 0.7], (0.0, 200.0))), "a", (0.0, 1.0))
    torus = only(branch, "torus")
    assert torus.parameter == pytest.approx(0.49, rel=1e-11)
    radius = np.sqrt(0.6 + 0.7 * 0.49 - 0.7**3 / 3)
    assert torus.angle == pytest.approx(np.sqrt(2) * radius * 2 * np.pi / 3.5, rel=1e-9)


def test_a_branch_point_of_cycles():
    """A pitchfork beside a cycle: the multiplier e^(aT) passes 1 at a = 0, and the branch goes straight on."""
    field = Equations(RADIAL | {"z": "a*z - z**3"}, {"a": -0.5})
    branch = continue_cycles(field, limit_cycle(Problem(field, [0.8, 0.0, 0.1], (0.0, 50.0))), "a", (-1.0, 1.0))
    assert only(branch, "branch").parameter == pytest.approx(0.0, abs=1e-11)
    assert_allclose(branch.multipliers.real.max(axis=1), np.maximum(1.0, np.exp(branch.parameter * np.pi)), rtol=1e-8)


def test_a_multiplier_that_passes_1_in_a_long_step_is_seen_though_another_is_nearer_to_it():
    """e^(2πa) goes from 0.7 to 2.4 in one step; the radial e^(−4π) is nearer to 1 than 2.4 is."""
    slow = {"u": "u - v - u*(u**2 + v**2)", "v": "u + v - v*(u**2 + v**2)"}
    for z, sign in (("a*z - z**3", 1.0), ("-a*z - z**3", -1.0)):
        field = Equations(slow | {"z": z}, {"a": -0.5 * sign})
        cycle = limit_cycle(Problem(field, [1.0, 0.0, 0.1], (0.0, 60.0)))
        branch = continue_cycles(field, cycle, "a", (-1.0, 1.0))
        assert only(branch, "branch").parameter == pytest.approx(0.0, abs=1e-10)


def test_the_other_branch_at_a_pitchfork_of_cycles():
    """z = w − u² stands for a pitchfork z' = az − z³, in coordinates in which no branch is a plane: z² = a there."""
    field = Equations(RADIAL | {"w": f"a*(w - u**2) - (w - u**2)**3 + 2*u*({RADIAL['u']})"}, {"a": -0.5})
    branch = continue_cycles(field, limit_cycle(Problem(field, [0.8, 0.0, 0.1], (0.0, 50.0))), "a", (-1.0, 1.0))
    point = only(branch, "branch")
    assert point.type == "pitchfork"
    assert point.parameter == pytest.approx(0.0, abs=1e-11)
    other = switch_cycle(point)
    assert other.stable
    z = other.r[:, 2] - other.r[:, 0] ** 2
    assert_allclose(z**2, other.parameter, rtol=1e-8)
    bent = continue_cycles(field, other, "a", (-1.0, 1.0))
    assert bent.ends == ("span", "span")
    assert bent.parameter.min() > -1e-10
    back = only(bent, "branch")  # it turns there, and no multiplier passes 1: no fold
    assert back.type == "pitchfork"
    assert back.parameter == pytest.approx(0.0, abs=1e-10)
    straight = continue_cycles(field, switch_cycle(back), "a", (-1.0, 1.0))
    assert straight.parameter.min() == -1.0
    assert only(straight, "branch").parameter == pytest.approx(0.0, abs=1e-10)


def test_the_other_branch_at_a_transcritical_point_of_cycles():
    """z' = (a + 0.4u)z − z²(1 + 0.3v): on both branches the exponents are a and −a to first order."""
    field = Equations(RADIAL | {"z": "(a + 0.4*u)*z - z**2*(1 + 0.3*v)"}, {"a": -0.5})
    branch = continue_cycles(field, limit_cycle(Problem(field, [0.8, 0.0, 0.0], (0.0, 50.0))), "a", (-0.6, 0.6))
    point = only(branch, "branch")
    assert point.type == "transcritical"
    assert point.parameter == pytest.approx(0.0, abs=1e-11)
    other = switch_cycle(point)
    assert other.stable == (other.parameter > 0)
    assert other.exponents.real[1 if other.stable else 0] == pytest.approx(-other.parameter, rel=0.05)
    second = continue_cycles(field, other, "a", (-0.3, 0.6))
    assert only(second, "branch").parameter == pytest.approx(0.0, abs=1e-10)
    assert (second.parameter.min(), second.parameter.max()) == (-0.3, 0.6)
    away = np.abs(second.parameter) > 1e-6
    assert (second.stable == (second.parameter > 0))[away].all()
    with pytest.raises(UsageError, match="special"):
        switch_cycle(other)
    with pytest.raises(UsageError, match="amplitude"):
        switch_cycle(point, amplitude=-1.0)


def test_the_periods_of_van_der_pol():
    cycle = limit_cycle(Problem(VAN_DER_POL, [2.0, 0.0], (0.0, 40.0)))
    branch = continue_cycles(VAN_DER_POL, cycle, "mu", (0.2, 3.0))
    assert branch.ends == ("span", "span")
    assert {branch.parameter[0], branch.parameter[-1]} == {0.2, 3.0}
    assert branch.period[branch.start] == pytest.approx(6.6632868593, abs=5e-11)
    for k in (0, -1):
        alone = limit_cycle(Problem(VAN_DER_POL.with_parameters(mu=branch.parameter[k]), [2.0, 0.0], (0.0, 100.0)))
        assert branch.period[k] == pytest.approx(alone.period, rel=1e-8)
        assert branch.cycle(k).period == branch.period[k]
    # T = 2π (1 + μ²/16 − 5 μ⁴/3072 + …)
    small = 2 * np.pi * (1 + 0.2**2 / 16 - 5 * 0.2**4 / 3072)
    assert branch.period[np.argmin(branch.parameter)] == pytest.approx(small, rel=1e-7)


def test_fitzhugh_nagumo_from_hopf_to_hopf():
    """v → −v with I → 1.75 − I maps the field onto itself.

    Both canards have their fold, and both Hopf points end the branch.
    """
    field = Equations({"v": "v - v**3/3 - w + I", "w": "e*(v + a - b*w)"}, {"I": 0.0, "a": 0.7, "b": 0.8, "e": 0.08})
    hopf = continue_equilibria(field, [-1.2, -0.6], "I", (-1.0, 2.0)).special[0]
    branch = continue_cycles(field, limit_cycle(field, hopf), "I", (-1.0, 2.0))
    assert branch.ends == ("hopf", "hopf")
    folds = sorted(point.parameter for point in branch.of_kind("fold"))
    assert len(folds) == 2
    assert sum(folds) == pytest.approx(1.75, abs=1e-7)
    periods = [point.period for point in branch.of_kind("fold")]
    assert periods[0] == pytest.approx(periods[1], rel=1e-3)
    edges = sorted((point.cycle.r[:, 0].min(), point.cycle.r[:, 0].max()) for point in branch.of_kind("fold"))
    assert edges[0][0] == pytest.approx(-edges[1][1], abs=0.02)
    between = (branch.parameter > folds[0] + 0.01) & (branch.parameter < folds[1] - 0.01)
    assert branch.stable[between & (branch.highest[:, 0] > 1.5)].all()


def test_morris_and_lecar():
    """Hopf points at I = 93.86 and 212.0, folds of cycles at 88.29 and 216.9 (Rinzel and Ermentrout 1998, class II)."""
    numbers = {"I": 0.0, "gL": 2.0, "VL": -60.0, "gCa": 4.4, "VCa": 120.0, "gK": 8.0, "VK": -84.0, "C": 20.0}
    numbers |= {"V1": -1.2, "V2": 18.0, "V3": 2.0, "V4": 30.0, "phi": 0.04}
    field = Equations(
        {
            "V": "(I - gL*(V - VL) - gCa*0.5*(1 + tanh((V - V1)/V2))*(V - VCa) - gK*w*(V - VK))/C",
            "w": "phi*(0.5*(1 + tanh((V - V3)/V4)) - w)*cosh((V - V3)/(2*V4))",
        },
        numbers,
    )
    branch = continue_equilibria(field, [-60.0, 0.01], "I", (0.0, 300.0))
    assert_allclose([point.parameter for point in branch.of_kind("hopf")], [93.86, 212.0], atol=0.03)
    assert {point.type for point in branch.special} == {"subcritical"}
    cycles = continue_cycles(field, limit_cycle(field, branch.special[0]), "I", (0.0, 300.0))
    folds = sorted(point.parameter for point in cycles.of_kind("fold"))
    assert_allclose(folds, [88.29, 216.9], atol=0.01)
    assert cycles.ends == ("hopf", "hopf")


def test_a_homoclinic_end():
    """u' = v, v' = b1 − u + u² + uv.

    The cycles of the Hopf point at 0 end at a saddle's loop, their period without bound.
    """
    field = Equations({"u": "v", "v": "b1 - u + u**2 + u*v"}, {"b1": 0.0})
    hopf = continue_equilibria(field, [0.0, 0.0], "b1", (-0.5, 0.3)).of_kind("hopf")[0]
    branch = continue_cycles(field, limit_cycle(field, hopf), "b1", (-1.0, 1.0), max_period=100.0)
    assert set(branch.ends) == {"hopf", "period"}
    assert branch.period.max() > 100.0
    loop = only(branch, "homoclinic")
    assert loop.type == "saddle"
    further = continue_cycles(field, limit_cycle(field, hopf), "b1", (-1.0, 1.0), max_period=50.0)
    assert loop.parameter == pytest.approx(only(further, "homoclinic").parameter, abs=1e-13)
    J = field.with_parameters(b1=loop.parameter).jacobian(0.0, loop.rest)
    assert np.prod(np.linalg.eigvals(J)) < 0


def test_a_homoclinic_orbit_in_closed_form():
    """H = v²/2 − u²/2 + u³/3 tends to μ on each orbit: the level μ is the cycle, and μ = 0 the loop of (0, 0)."""
    field = Equations({"u": "v", "v": "u - u**2 + v*(mu - (v**2/2 - u**2/2 + u**3/3))"}, {"mu": -0.1})
    cycle = limit_cycle(Problem(field, [1.0, 0.3], (0.0, 300.0)))
    branch = continue_cycles(field, cycle, "mu", (-0.3, 0.1), max_period=30.0)
    loop = only(branch, "homoclinic")
    assert loop.type == "saddle"
    assert loop.parameter == pytest.approx(0.0, abs=1e-10)
    assert loop.rest == pytest.approx([0.0, 0.0], abs=1e-12)
    assert "homoclinic (saddle) orbit at mu" in str(loop)


def test_a_saddle_node_on_a_circle():
    """θ' = w − sin θ on the circle: the period 2π/√(w² − 1) grows as a fold of equilibria comes, at w = 1."""
    field = Equations({"u": "u*(1 - u**2 - v**2) - v*(w - v)", "v": "v*(1 - u**2 - v**2) + u*(w - v)"}, {"w": 1.5})
    branch = continue_cycles(field, limit_cycle(Problem(field, [1.0, 0.0], (0.0, 60.0))), "w", (0.5, 2.0))
    point = only(branch, "homoclinic")
    assert point.type == "saddle-node"
    assert point.parameter == pytest.approx(1.0, abs=1e-12)
    assert point.rest == pytest.approx([0.0, 1.0], abs=1e-6)
    assert_allclose(branch.period, 2 * np.pi / np.sqrt(branch.parameter**2 - 1), rtol=1e-6)


def test_a_slow_cycle_is_no_homoclinic_orbit():
    """θ' = w: the period 2π/w grows, and the cycle lingers nowhere."""
    field = Equations({"u": "u*(1 - u**2 - v**2) - w*v", "v": "v*(1 - u**2 - v**2) + w*u"}, {"w": 1.0})
    cycle = limit_cycle(Problem(field, [1.0, 0.0], (0.0, 60.0)))
    branch = continue_cycles(field, cycle, "w", (0.01, 1.5), max_period=60.0)
    assert "period" in branch.ends
    assert branch.special == ()


def test_roesslers_first_flip():
    field = Equations({"x": "-y - z", "y": "x + a*y", "z": "b + z*(x - c)"}, {"a": 0.2, "b": 0.2, "c": 2.5})
    branch = continue_cycles(field, limit_cycle(Problem(field, [1.0, 1.0, 0.0], (0.0, 500.0))), "c", (2.0, 4.0))
    flip = only(branch, "flip")
    assert np.abs(flip.multipliers + 1.0).min() < 1e-10
    # beyond it the run has twice the period
    later = field.with_parameters(c=flip.parameter + 0.1)
    doubled = limit_cycle(Problem(later, flip.cycle.r[0] + 0.05, (0.0, 1500.0)))
    assert doubled.period == pytest.approx(2 * flip.period, rel=0.02)
    assert doubled.stable


def test_bad_calls():
    cycle = limit_cycle(Problem(VAN_DER_POL, [2.0, 0.0], (0.0, 40.0)))
    with pytest.raises(UnknownNameError, match="parameter"):
        continue_cycles(VAN_DER_POL, cycle, "nu", (0.5, 2.0))
    with pytest.raises(UsageError, match="span"):
        continue_cycles(VAN_DER_POL, cycle, "mu", (2.0, 3.0))
    with pytest.raises(UsageError, match="cycle"):
        continue_cycles(VAN_DER_POL, [1.0, 2.0], "mu", (0.5, 2.0))
    with pytest.raises(UsageError, match="field"):
        continue_cycles(Equations({"r": "-r"}, {}), cycle, "mu", (0.5, 2.0))
    with pytest.raises(UsageError, match="max_period"):
        continue_cycles(VAN_DER_POL, cycle, "mu", (0.5, 2.0), max_period=1.0)
    short = continue_cycles(VAN_DER_POL, cycle, "mu", (0.5, 2.0), max_points=2)
    assert short.ends == ("max_points", "max_points")
