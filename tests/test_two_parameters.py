"""Curves of folds and Hopf points.

Each kind of point of codimension two against its closed form, to 1e-9 or better.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_continuation import FITZHUGH_NAGUMO, FITZHUGH_NAGUMO_AT, planar_lyapunov

from ctrnn import Equations, RateNetwork
from ctrnn.analysis import continue_equilibria, continue_special
from ctrnn.errors import ConvergenceError, UnknownNameError, UsageError

FIELD = Equations(FITZHUGH_NAGUMO, FITZHUGH_NAGUMO_AT)


def test_the_cusp_of_a_sigmoid_unit():
    """Folds at b = ±2 ln[(√w + √(w − 4))/2] − (w ± √(w(w − 4)))/2 meet at w = 4, b = −2."""
    unit = RateNetwork(1, activation="sigmoid").with_parameters(W=[[6.0]], b=[-3.0])
    fold = continue_equilibria(unit, [0.1], "b", (-6.0, 0.0)).special[0]
    curve = continue_special(unit, fold, ("b", "W[0,0]"), ((-6.0, 0.0), (2.0, 8.0)))
    (cusp,) = curve.special
    assert cusp.kind == "cusp"
    assert cusp.parameters["W[0,0]"] == pytest.approx(4.0, abs=1e-10)
    assert cusp.parameters["b"] == pytest.approx(-2.0, abs=1e-10)
    b, w = curve.parameters["b"], curve.parameters["W[0,0]"]
    away = w > 4.001
    root, inside = np.sqrt(w) + np.sqrt(np.maximum(w - 4, 0)), np.sqrt(np.maximum(w * (w - 4), 0))
    both = np.array([s * 2 * np.log(root / 2) - (w + s * inside) / 2 for s in (1, -1)])
    assert np.abs(both - b).min(axis=0)[away].max() < 1e-11
    assert curve.ends == ("span", "span")


def test_fitzhugh_nagumo_in_the_plane():
    """Folds v² = 1 − 1/b with the cusp b = 1, v = 0; Bogdanov–Takens b = 1/√e, v² = 1 − √e; Hopf v² = 1 − eb; 1e-10."""
    e, a = 0.08, 0.7
    start = FIELD.with_parameters(b=2.0, I=-1.0)
    folds = continue_equilibria(start, [-2.0, -0.6], "I", (-2.0, 2.0)).of_kind("fold")
    assert len(folds) == 2
    curve = continue_special(start, folds[0], ("I", "b"), ((-2.0, 3.0), (0.5, 6.0)))
    v, b = curve.r[:, 0], curve.parameters["b"]
    assert_allclose(v**2, 1 - 1 / b, atol=1e-11)
    (cusp,) = curve.of_kind("cusp")
    assert cusp.parameters["b"] == pytest.approx(1.0, abs=1e-10)
    assert cusp.parameters["I"] == pytest.approx(a, abs=1e-10)
    takens = curve.of_kind("bogdanov-takens")
    assert len(takens) == 2
    for point in takens:
        assert point.parameters["b"] == pytest.approx(1 / np.sqrt(e), rel=1e-10)
        at_v = point.r[0]
        assert at_v**2 == pytest.approx(1 - np.sqrt(e), rel=1e-10)
        w = (at_v + a) * np.sqrt(e)
        assert point.parameters["I"] == pytest.approx(w - at_v + at_v**3 / 3, rel=1e-9)
    assert {p.kind for p in curve.special} == {"cusp", "bogdanov-takens"}
    hopf = continue_equilibria(FIELD, [-1.2, -0.6], "I", (-1.0, 1.0)).special[0]
    curve = continue_special(FIELD, hopf, ("I", "b"), ((-2.0, 3.0), (0.1, 6.0)))
    assert "bogdanov-takens" in curve.ends
    v, b = curve.r[:, 0], curve.parameters["b"]
    assert_allclose(v**2, 1 - e * b, atol=1e-11)
    assert_allclose(curve.omega**2, e - (e * b) ** 2, atol=1e-11)
    end = curve.of_kind("bogdanov-takens")[0]
    assert end.parameters["b"] == pytest.approx(1 / np.sqrt(e), rel=1e-10)
    assert end.omega == 0.0
    # l1 changes its sign where the planar formula does
    for k in (2, len(curve) // 2):
        at = FITZHUGH_NAGUMO_AT | {"I": curve.parameters["I"][k], "b": b[k], "v": v[k], "w": curve.r[k, 1]}
        assert curve.lyapunov[k] == pytest.approx(planar_lyapunov(FITZHUGH_NAGUMO, at, curve.omega[k]), rel=1e-8)
    for point in curve.of_kind("bautin"):
        at = FITZHUGH_NAGUMO_AT | point.parameters | {"v": point.r[0], "w": point.r[1]}
        assert planar_lyapunov(FITZHUGH_NAGUMO, at, point.omega) == pytest.approx(0.0, abs=1e-9)


def test_a_bautin_point():
    """ρ' = ρ(a + b ρ² − ρ⁴): l1 = 2b/ω along a = 0, in coordinates that mix the two states."""
    growth = "(a + b*((u + v)**2 + v**2) - ((u + v)**2 + v**2)**2)"
    # p = u + v, q = v of the normal form: p' = g p − 2q, q' = g q + 2p
    field = Equations({"u": f"{growth}*u - 2*v - 2*(u + v)", "v": f"{growth}*v + 2*(u + v)"}, {"a": -0.3, "b": 0.5})
    (hopf,) = continue_equilibria(field, [0.0, 0.0], "a", (-0.5, 0.3)).special
    curve = continue_special(field, hopf, ("a", "b"), ((-1.0, 1.0), (-2.0, 1.0)))
    (bautin,) = curve.special
    assert bautin.kind == "bautin"
    assert bautin.parameters["a"] == pytest.approx(0.0, abs=1e-12)
    assert bautin.parameters["b"] == pytest.approx(0.0, abs=1e-9)
    assert bautin.omega == pytest.approx(2.0, rel=1e-12)
    assert_allclose(np.sign(curve.lyapunov), np.sign(curve.parameters["b"]))


def rotated(rates, parameters, seed):
    """A decoupled system in coordinates that mix all states: s = Q r."""
    names = list(rates)
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(names),) * 2))[0]
    mixed = {}
    inner = {
        name: "(" + " + ".join(f"({float(Q[k, i])!r})*y{i}" for i in range(len(names))) + ")"
        for k, name in enumerate(names)
    }

    def put(text):
        for name in names:
            text = text.replace(name.upper(), inner[name])
        return f"({text})"

    for i in range(len(names)):
        mixed[f"y{i}"] = " + ".join(f"({float(Q[k, i])!r})*{put(rates[name])}" for k, name in enumerate(names))
    return Equations(mixed, parameters), Q


def test_a_zero_hopf_point_on_both_curves():
    """z' = a + z², and a pair that grows as b + z: the fold a = z = 0 and the Hopf curve a = −b² meet at 0."""
    rates = {"z": "a + Z**2", "p": "(b + Z)*P - 2*R", "r": "(b + Z)*R + 2*P"}
    field, Q = rotated({k.lower(): v for k, v in rates.items()}, {"a": -0.3, "b": 0.2}, 1)
    start = Q.T @ np.array([-np.sqrt(0.3), 0.0, 0.0])
    branch = continue_equilibria(field, start, "a", (-0.5, 0.3))
    spans = ((-1.0, 1.0), (-1.0, 1.0))
    for kind in ("fold", "hopf"):
        curve = continue_special(field, branch.of_kind(kind)[0], ("a", "b"), spans)
        (point,) = curve.of_kind("zero-hopf")
        assert point.parameters["a"] == pytest.approx(0.0, abs=1e-10)
        assert point.parameters["b"] == pytest.approx(0.0, abs=1e-9)
        assert point.omega == pytest.approx(2.0, rel=1e-8)
        if kind == "hopf":
            assert_allclose(curve.parameters["a"], -(curve.parameters["b"] ** 2), atol=1e-11)


def test_where_l1_passes_infinity_there_is_no_bautin_point():
    """Lorenz' model of 1984 (Shilnikov, Nicolis & Nicolis 1995): a cusp, and a zero-Hopf point on both curves."""
    field = Equations(
        {"x": "-y**2 - z**2 - a*x + a*F", "y": "x*y - b*x*z - y + G", "z": "b*x*y + x*z - z"},
        {"a": 0.25, "b": 4.0, "F": 4.0, "G": 2.0},
    )
    branch = continue_equilibria(field, [3.94, -0.023, 0.123], "F", (0.0, 14.0))
    spans = ((0.0, 14.0), (0.0, 12.0))
    folds, hopfs = (continue_special(field, branch.of_kind(k)[0], ("F", "G"), spans) for k in ("fold", "hopf"))
    assert [p.kind for p in folds.special] == ["cusp", "zero-hopf"]
    assert [p.kind for p in hopfs.special] == ["zero-hopf"]
    for curve in (folds, hopfs):
        at = curve.special[-1].parameters
        assert (round(at["F"], 3), round(at["G"], 3)) == (1.684, 1.683)
    assert folds.special[-1].parameters["F"] == pytest.approx(hopfs.special[-1].parameters["F"], rel=1e-10)


def test_a_double_hopf_point():
    rates = {"p": "b*P - R", "r": "b*R + P - R*P**2", "u": "a*U - 2*V", "v": "a*V + 2*U - V*U**2"}
    field, _ = rotated(rates, {"a": -0.3, "b": -0.2}, 2)
    (hopf,) = continue_equilibria(field, np.zeros(4), "a", (-0.5, 0.3)).of_kind("hopf")
    assert hopf.omega == pytest.approx(2.0, rel=1e-11)
    curve = continue_special(field, hopf, ("a", "b"), ((-1.0, 1.0), (-1.0, 1.0)))
    (point,) = curve.of_kind("double-hopf")
    assert point.parameters["a"] == pytest.approx(0.0, abs=1e-11)
    assert point.parameters["b"] == pytest.approx(0.0, abs=1e-9)
    assert_allclose(np.sort(np.abs(point.eigenvalues.imag)), [1.0, 1.0, 2.0, 2.0], rtol=1e-9)


def test_a_network_and_an_input():
    """Two units in (b, input): on a curve of folds J is singular, on one of Hopf points it has no trace."""
    field = RateNetwork(2, inputs=1, activation="sigmoid").with_parameters(
        W=[[8.0, -6.0], [6.0, 1.0]], U=[[1.0], [0.0]], b=[-1.0, -4.0]
    )
    branch = continue_equilibria(field, [0.5, 0.5], "x[0]", (-6.0, 6.0), x=[0.0])
    assert branch.special
    curve = continue_special(field, branch.special[0], ("x[0]", "b[1]"), ((-8.0, 8.0), (-8.0, 4.0)))
    k = 0 if curve.kind == "fold" else 1
    for i in range(0, len(curve), 5):
        at = field.with_parameters(b=[-1.0, curve.parameters["b[1]"][i]])
        r, x = curve.r[i], [curve.parameters["x[0]"][i]]
        assert np.abs(at(0.0, r, x)).max() < 1e-11
        J = at.jacobian(0.0, r, x)
        # no eigenvalues: where the curve ends, in Bogdanov–Takens points, 0 is a double one, known to √round-off
        near = np.linalg.svd(J, compute_uv=False)[-1] if k == 0 else abs(np.trace(J)) / 2
        assert near < 1e-8


def test_bad_calls():
    branch = continue_equilibria(FIELD, [-1.2, -0.6], "I", (-1.0, 1.0))
    hopf, spans = branch.special[0], ((-2.0, 3.0), (0.1, 6.0))
    with pytest.raises(UsageError, match="special"):
        continue_special(FIELD, branch, ("I", "b"), spans)
    with pytest.raises(UsageError, match="two names"):
        continue_special(FIELD, hopf, "I", spans)
    with pytest.raises(UnknownNameError, match="parameters"):
        continue_special(FIELD, hopf, ("I", "c"), spans)
    with pytest.raises(UsageError, match="different"):
        continue_special(FIELD, hopf, ("I", "I"), spans)
    with pytest.raises(UsageError, match="span"):
        continue_special(FIELD, hopf, ("I", "b"), (0.0, 1.0, 2.0))
    with pytest.raises(UsageError, match="hold the point"):
        continue_special(FIELD, hopf, ("I", "b"), ((-2.0, 3.0), (1.0, 6.0)))
    with pytest.raises(UsageError, match="field"):
        continue_special(Equations({"r": "-r"}, {}), hopf, ("I", "b"), spans)
    pitchfork = continue_equilibria(Equations({"r": "a*r - r**3"}, {"a": -0.5}), [0.0], "a", (-1.0, 1.0)).special[0]
    with pytest.raises(UsageError, match="fold"):
        continue_special(pitchfork.field, pitchfork, ("a", "a"), spans)
    import dataclasses

    moved = dataclasses.replace(hopf, r=hopf.r + 0.1)
    with pytest.raises(ConvergenceError, match="no hopf"):
        continue_special(FIELD, moved, ("I", "b"), spans)


@pytest.mark.parametrize("third", [False, True])
def test_where_the_pair_of_a_hopf_point_comes_to_zero_there_is_no_zero_beside_it(third):
    """Bogdanov and Takens' normal form, which has two states, and one with a third that decays by itself."""
    equations = {"x": "y", "y": "b1 + b2*x + x**2 - x*y"} | ({"z": "-z"} if third else {})
    field = Equations(equations, {"b1": -0.02, "b2": -0.1})
    rest = continue_equilibria(field, [-0.1, 0.0, 0.0][: 2 + third], "b1", (-0.2, 0.1))
    (hopf,) = rest.of_kind("hopf")
    curve = continue_special(field, hopf, ("b1", "b2"), ((-0.2, 0.1), (-0.5, 0.3)))
    assert {point.kind for point in curve.special} == {"bogdanov-takens"}


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("short", ["a", "b"])
def test_a_curve_ends_at_the_first_of_two_limits_that_a_step_passes(names, short):
    """The Brusselator's b = 1 + a² near the corner (2, 5) of the spans, of which one is a little shorter."""
    field = Equations({"u": "a - (b + 1)*u + u**2*v", "v": "b*u - u**2*v"}, {"a": 1.0, "b": 1.5})
    (hopf,) = continue_equilibria(field, [1.0, 1.5], "b", (1.0, 3.0)).special
    ends = {"a": 2.0, "b": 5.0} | {short: {"a": 1.9999, "b": 4.9999}[short]}
    spans = {"a": (0.5, ends["a"]), "b": (1.1, ends["b"])}
    curve = continue_special(field, hopf, names, tuple(spans[name] for name in names))
    a, b = curve.parameters["a"], curve.parameters["b"]
    assert curve.ends == ("span", "span")
    assert {"a": a, "b": b}[short].max() == ends[short]
    assert a.max() <= ends["a"]
    assert b.max() <= ends["b"]
    assert_allclose(b, 1.0 + a**2, rtol=1e-9)
