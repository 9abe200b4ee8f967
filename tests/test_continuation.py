"""Branches of equilibria against closed forms.

Folds, Hopf points and branch points to 1e-12, first Lyapunov coefficients to 1e-9.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import sympy
from numpy.testing import assert_allclose

from ctrnn import Equations, RateNetwork, TorchField, find_equilibrium
from ctrnn.analysis import continue_equilibria, equilibrium_curve, switch_branch
from ctrnn.analysis.equilibria import spectrum
from ctrnn.errors import ConvergenceError, UnknownNameError, UsageError

PITCHFORK = Equations({"r": "a*r - r**3"}, {"a": -0.5})
FITZHUGH_NAGUMO = {"v": "v - v**3/3 - w + I", "w": "e*(v + a - b*w)"}
FITZHUGH_NAGUMO_AT = {"I": 0.0, "a": 0.7, "b": 0.8, "e": 0.08}


def unit(w, **changes):
    """One tanh unit, −r + w tanh(r) + b + x."""
    return RateNetwork(1, inputs=1).with_parameters(**({"W": [[w]], "U": [[1.0]]} | changes))


def values(branch, kind):
    return sorted(point.parameter for point in branch.special if point.kind == kind)


def planar_lyapunov(texts, at, omega):
    """l1 of a planar system by the formula (3.4.11) of Guckenheimer and Holmes, an independent route.

    The coordinates r = Re q u − Im q v, J q = iω q, turn J into [0 −ω; ω 0]; with r = z q + c.c., u + iv is 2z.
    """
    u, v = sympy.Dummy("u", real=True), sympy.Dummy("v", real=True)
    names = list(texts)
    symbols = {name: sympy.Symbol(name, real=True) for name in at}
    F = [sympy.sympify(text, locals=symbols) for text in texts.values()]
    numbers = {symbols[k]: value for k, value in at.items()}
    J = sympy.Matrix(F).jacobian([symbols[k] for k in names]).subs(numbers)
    q = np.linalg.svd(np.array(J, dtype=complex) - 1j * omega * np.eye(2))[2][-1].conj()
    P = np.column_stack([q.real, -q.imag])
    numbers |= {symbols[k]: at[k] + P[i, 0] * u + P[i, 1] * v for i, k in enumerate(names)}
    G = [e.subs(numbers, simultaneous=True) for e in F]
    f, g = (sum(np.linalg.inv(P)[i, j] * G[j] for j in range(2)) for i in range(2))

    def d(e, *by):
        return float(sympy.diff(e, *by).subs({u: 0, v: 0}))

    a = d(f, u, u, u) + d(f, u, v, v) + d(g, u, u, v) + d(g, v, v, v)
    a += (d(f, u, v) * (d(f, u, u) + d(f, v, v)) - d(g, u, v) * (d(g, u, u) + d(g, v, v))) / omega
    a += (-d(f, u, u) * d(g, u, u) + d(f, v, v) * d(g, v, v)) / omega
    # ρ' = (a/16) ρ³ with ρ² = |(u, v)|² = 4 |z|², and |z|' = Re c1 |z|³
    return 4 * a / 16 / omega


# --- folds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameter", ["b", "b[0]", "x[0]", "x0"])
def test_folds_of_a_tanh_unit(parameter):
    """b = ±[atanh √(1 − 1/w) − √(w(w − 1))], by a parameter and by an input, to 1e-13."""
    w = 2.5
    branch = continue_equilibria(unit(w), [3.0], parameter, (-5.0, 5.0), x=[0.0])
    reference = abs(np.arctanh(np.sqrt(1 - 1 / w)) - np.sqrt(w * (w - 1)))
    assert_allclose(values(branch, "fold"), [-reference, reference], rtol=1e-13)
    assert branch.ends == ("span", "span")
    assert {branch.parameter[0], branch.parameter[-1]} == {-5.0, 5.0}  # it lands on the ends
    # between the folds three states at each value, the middle one unstable
    at_zero = np.sort(branch.at(0.0).ravel())
    assert at_zero.size == 3
    assert branch.stable[0]
    assert branch.stable[-1]
    middle = (np.abs(branch.r[:, 0]) < 1.0) & (np.abs(branch.parameter) < reference)
    assert not branch.stable[middle].any()
    # ½⟨p, F_rr q²⟩ = −w tanh(r) (1 − tanh²(r)) at 1 − tanh² = 1/w
    for point in branch.special:
        assert point.coefficient == pytest.approx(-np.tanh(point.r[0]), rel=1e-11)


def test_folds_of_a_sigmoid_unit():
    w = 6.0
    field = RateNetwork(1, activation="sigmoid").with_parameters(W=[[w]], b=[-w / 2])
    branch = continue_equilibria(field, [0.1], "b", (-6.0, 0.0))
    root = np.sqrt(w) + np.sqrt(w - 4)
    folds = [s * 2 * np.log(root / 2) - (w + s * np.sqrt(w * (w - 4))) / 2 for s in (1, -1)]
    assert_allclose(values(branch, "fold"), sorted(folds), rtol=1e-12)


def test_every_kind_of_field_gives_the_same_fold():
    torch = pytest.importorskip("torch")
    fields = [
        Equations({"r": "b + r - r**3"}, {"b": 0.0}),
        TorchField(lambda t, r, w, x: w["b"] + r - r**3, 1, {"b": np.zeros(1)}),
        TorchField(lambda t, r, w, x: w["b"] + r + 0.0 * torch.sin(r) - r**3, 1, {"b": np.zeros(1)}),
    ]
    for field in fields:
        branch = continue_equilibria(field, [1.0], "b", (-1.0, 1.0))
        assert_allclose(values(branch, "fold"), np.array([-2, 2]) / (3 * np.sqrt(3)), rtol=1e-13)


def test_a_closed_curve_is_recognised():
    field = Equations({"r": "1 - r**2 - a**2"}, {"a": 0.0})
    branch = continue_equilibria(field, [1.0], "a", (-2.0, 2.0))
    assert branch.closed
    assert branch.ends == ("closed", "closed")
    assert_allclose(values(branch, "fold"), [-1.0, 1.0], rtol=1e-13)
    assert len(branch.special) == 2
    assert_allclose(branch.r[:, 0] ** 2 + branch.parameter**2, 1.0, rtol=1e-12)
    assert_allclose(branch.r[0], branch.r[-1], atol=1e-12)


# --- Hopf points -------------------------------------------------------------------------------------------------


def test_hopf_normal_form():
    """ρ' = aρ + σρ³, θ' = ω: l1 = 2σ/ω in the normalisation of Kuznetsov, ⟨q, q⟩ = 1; to 1e-10."""
    for sigma, omega in ((-1.0, 2.0), (0.3, 0.7)):
        field = Equations(
            {"u": "a*u - w*v + s*u*(u**2 + v**2)", "v": "w*u + a*v + s*v*(u**2 + v**2)"},
            {"a": -0.3, "w": omega, "s": sigma},
        )
        (point,) = continue_equilibria(field, [0.0, 0.0], "a", (-1.0, 1.0)).special
        assert point.kind == "hopf"
        assert point.parameter == pytest.approx(0.0, abs=1e-14)
        assert point.omega == pytest.approx(omega, rel=1e-13)
        assert point.lyapunov == pytest.approx(2 * sigma / omega, rel=1e-10)
        assert point.type == ("supercritical" if sigma < 0 else "subcritical")
        assert point.crossing == pytest.approx(1.0, rel=1e-12)


def test_brusselator():
    """B = 1 + A², ω = A, to 1e-13; d Re λ/dB = ½; l1 by the planar formula to 1e-9."""
    A = 1.2
    texts = {"u": "A - (B + 1)*u + u**2*v", "v": "B*u - u**2*v"}
    branch = continue_equilibria(Equations(texts, {"A": A, "B": 1.0}), [A, 1 / A], "B", (0.5, 4.0))
    (point,) = branch.special
    assert point.parameter == pytest.approx(1 + A**2, rel=1e-13)
    assert point.omega == pytest.approx(A, rel=1e-13)
    assert_allclose(point.r, [A, (1 + A**2) / A], rtol=1e-13)
    assert point.crossing == pytest.approx(0.5, rel=1e-11)
    numbers = {"A": A, "B": 1 + A**2, "u": A, "v": (1 + A**2) / A}
    assert point.lyapunov == pytest.approx(planar_lyapunov(texts, numbers, A), rel=1e-9)
    assert (branch.stable == (branch.parameter < 1 + A**2)).all()


def test_fitzhugh_nagumo():
    """tr J = 0: v = ±√(1 − e b); two subcritical Hopf points."""
    branch = continue_equilibria(Equations(FITZHUGH_NAGUMO, FITZHUGH_NAGUMO_AT), [-1.2, -0.6], "I", (-1.0, 2.0))
    e, a, b = 0.08, 0.7, 0.8
    v = np.array([-1, 1]) * np.sqrt(1 - e * b)
    w = (v + a) / b
    assert_allclose(values(branch, "hopf"), w - v + v**3 / 3, rtol=1e-13)
    omega = np.sqrt(e - (e * b) ** 2)
    for point, at_v in zip(branch.special, v, strict=True):
        assert point.omega == pytest.approx(omega, rel=1e-12)
        numbers = FITZHUGH_NAGUMO_AT | {"I": point.parameter, "v": at_v, "w": (at_v + a) / b}
        assert point.lyapunov == pytest.approx(planar_lyapunov(FITZHUGH_NAGUMO, numbers, omega), rel=1e-9)
        assert point.type == "subcritical"


def test_adaptive_control():
    """x''' + α x'' + β x' + x = x² (Kuznetsov 2004, example 5.4): Hopf at α = 1/β, ω² = β; l1 with 30 digits."""
    beta = 1.7
    field = Equations({"x": "y", "y": "z", "z": "-alpha*z - beta*y - x + x**2"}, {"alpha": 1.0, "beta": beta})
    (point,) = continue_equilibria(field, [0.0, 0.0, 0.0], "alpha", (0.3, 2.0)).special
    assert point.parameter == pytest.approx(1 / beta, rel=1e-13)
    assert point.omega == pytest.approx(np.sqrt(beta), rel=1e-13)
    with mpmath.workdps(30):
        omega = mpmath.sqrt(beta)
        A = mpmath.matrix([[0, 1, 0], [0, 0, 1], [-1, -mpmath.mpf(beta), -1 / mpmath.mpf(beta)]])
        q = mpmath.matrix([1, 1j * omega, -(omega**2)])
        q /= mpmath.sqrt(sum(abs(c) ** 2 for c in q))
        # Aᵀ p = −iω p: (p1, p2, p3) from the last entry upwards
        p = mpmath.matrix([0, 0, 1])
        p[1] = 1 / mpmath.mpf(beta) - 1j * omega
        p[0] = beta * p[2] - 1j * omega * p[1]
        p /= mpmath.conj(sum(mpmath.conj(p[i]) * q[i] for i in range(3)))

        def B(a, b):
            return mpmath.matrix([0, 0, 2 * a[0] * b[0]])

        def dot(p, v):
            return sum(mpmath.conj(p[i]) * v[i] for i in range(3))

        bar = q.apply(mpmath.conj)
        s = mpmath.lu_solve(A, B(q, bar))
        d = mpmath.lu_solve(2j * omega * mpmath.eye(3) - A, B(q, q))
        G21 = -2 * dot(p, B(q, s)) + dot(p, B(bar, d))
        reference = float(mpmath.re(G21) / (2 * omega))
    assert reference < 0
    assert point.lyapunov == pytest.approx(reference, rel=1e-11)


def test_a_neutral_saddle_is_no_hopf_point():
    """Real eigenvalues ±1 whose sum changes sign."""
    field = Equations({"u": "u + a*u", "v": "-v"}, {"a": -0.1})
    assert continue_equilibria(field, [0.0, 0.0], "a", (-0.5, 0.5)).special == ()


def test_folds_of_many_units(monkeypatch):
    """A mean field of 300 alike units folds where one unit does.

    On its unstable part one eigenvalue passes minus the others, which is no Hopf point: none is looked for.
    """
    n, w, asked = 300, 4.0, []
    monkeypatch.setattr(equilibrium_curve, "spectrum", lambda J: asked.append(1) or spectrum(J))
    field = Equations({"r": "-r + w*mean(tanh(r)) + b"}, {"w": w, "b": -2.0}, states={"r": n})
    branch = continue_equilibria(field, -6.0 * np.ones(n), "b", (-4.0, 4.0), max_step=0.1)
    x = np.arctanh(np.sqrt(1 - 1 / w))
    fold = w * np.tanh(x) - x
    assert [point.kind for point in branch.special] == ["fold", "fold"]
    assert sorted(point.parameter for point in branch.special) == pytest.approx([-fold, fold], rel=1e-10)
    assert branch.eigenvalues.shape == (len(branch), n)
    assert branch.eigenvalues.real.max() > 1.5  # it passes 1
    assert len(asked) < len(branch) + 10


def test_hopf_points_of_a_large_network():
    """W = s R, R a rotation in a plane of the 60 states: the real part −1 + s cos φ crosses zero at s = 1/cos φ."""
    n, phi = 60, 0.4
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    D = np.diag(rng.uniform(-0.5, 0.5, n))
    D[:2, :2] = [[np.cos(phi), -np.sin(phi)], [np.sin(phi), np.cos(phi)]]
    W = Q @ D @ Q.T
    field = TorchGain(n, W)
    (point,) = [p for p in continue_equilibria(field, np.zeros(n), "s", (0.5, 1.5)).special if p.kind == "hopf"]
    assert point.parameter == pytest.approx(1 / np.cos(phi), rel=1e-12)
    assert point.omega == pytest.approx(np.tan(phi), rel=1e-11)
    assert point.type == "supercritical"  # tanh saturates


def TorchGain(n, W):
    torch = pytest.importorskip("torch")
    fixed = torch.from_numpy(W)
    return TorchField(lambda t, r, w, x: -r + w["s"] * (fixed @ torch.tanh(r)), n, {"s": np.array(0.8)})


# --- branch points -----------------------------------------------------------------------------------------------


def test_pitchfork_of_a_tanh_unit_and_its_other_branch():
    field = RateNetwork(1).with_parameters(W=[[0.5]])
    branch = continue_equilibria(field, [0.0], "W[0,0]", (0.0, 3.0))
    (point,) = branch.special
    assert (point.kind, point.type) == ("branch", "pitchfork")
    assert point.parameter == pytest.approx(1.0, abs=1e-13)
    other = switch_branch(point, (0.0, 3.0))
    r, w = other.r[:, 0], other.parameter
    assert_allclose(r, w * np.tanh(r), atol=1e-12)
    assert r.min() < -2.9
    assert r.max() > 2.9
    assert other.stable[np.abs(r) > 1e-6].all()
    assert branch.stable[branch.parameter < 1 - 1e-9].all()
    assert not branch.stable[branch.parameter > 1 + 1e-9].any()
    # from the other side: along the parabola to the pitchfork
    back = continue_equilibria(field.with_parameters(W=[[2.0]]), [1.9], "W[0,0]", (0.0, 3.0))
    assert_allclose(values(back, "branch"), [1.0], atol=1e-12)


def test_transcritical():
    branch = continue_equilibria(Equations({"r": "a*r - r**2"}, {"a": -0.5}), [0.0], "a", (-1.0, 1.0))
    (point,) = branch.special
    assert (point.kind, point.type) == ("branch", "transcritical")
    assert point.parameter == pytest.approx(0.0, abs=1e-13)
    other = switch_branch(point, (-1.0, 1.0))
    assert_allclose(other.r[:, 0], other.parameter, atol=1e-12)
    assert {other.parameter[0], other.parameter[-1]} == {-1.0, 1.0}


def test_branch_point_inside_a_larger_system():
    """Lorenz at r = 1 (pitchfork) and r = σ(σ + b + 3)/(σ − b − 1) (Hopf, subcritical)."""
    lorenz = Equations(
        {"x": "s*(y - x)", "y": "x*(r - z) - y", "z": "x*y - b*z"}, {"s": 10.0, "r": 0.5, "b": 8.0 / 3.0}
    )
    branch = continue_equilibria(lorenz, [0.0, 0.0, 0.0], "r", (0.0, 30.0))
    point = branch.special[0]
    assert point.type == "pitchfork"
    assert point.parameter == pytest.approx(1.0, rel=1e-12)
    other = switch_branch(point, (0.0, 30.0))
    hopf = 10 * (10 + 8 / 3 + 3) / (10 - 8 / 3 - 1)
    assert_allclose(values(other, "hopf"), [hopf, hopf], rtol=1e-12)
    assert {p.type for p in other.special if p.kind == "hopf"} == {"subcritical"}
    assert_allclose(other.of_kind("hopf")[0].omega, np.sqrt(8 / 3 * (10 + hopf)), rtol=1e-11)


# --- what cannot be done is said ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        (([0.0], "c", (-1, 1)), UnknownNameError, "parameter"),
        (([0.0], "a", (1, -1)), UsageError, "span"),
        (([0.0], "a", (0, 1)), UsageError, "span"),
        (([0.0], 3, (-1, 1)), UsageError, "parameter"),
        (([0.0, 1.0], "a", (-1, 1)), UsageError, "r0"),
        (([np.nan], "a", (-1, 1)), UsageError, "r0"),
        (([0.0], "x[0]", (-1, 1)), UnknownNameError, "parameter"),
        (([0.0], "a[1]", (-1, 1)), UsageError, "parameter"),
    ],
)
def test_bad_calls(arguments, error, word):
    with pytest.raises(error, match=word):
        continue_equilibria(PITCHFORK, *arguments)


def test_more_bad_calls():
    with pytest.raises(UsageError, match="box"):
        continue_equilibria(PITCHFORK, [0.0], "a", (-1.0, 1.0), box=(0.0, [1.0, 2.0]))
    with pytest.raises(UsageError, match="step"):
        continue_equilibria(PITCHFORK, [0.0], "a", (-1.0, 1.0), step=0.1, max_step=0.01)
    with pytest.raises(UsageError, match="entry"):
        continue_equilibria(RateNetwork(3), np.zeros(3), "W", (-1.0, 1.0))
    with pytest.raises(UsageError, match="W"):
        continue_equilibria(RateNetwork(3), np.zeros(3), "W[0,3]", (-1.0, 1.0))
    with pytest.raises(UsageError, match="branch point"):
        switch_branch(
            continue_equilibria(Equations({"r": "b + r - r**3"}, {"b": 0.0}), [1.0], "b", (-1, 1)).special[0], (-1, 1)
        )


def test_a_start_that_is_no_equilibrium():
    field = Equations({"r": "1 + r**2 + 0*a"}, {"a": 0.0})
    with pytest.raises(ConvergenceError, match="no equilibrium"):
        continue_equilibria(field, [0.5], "a", (-1.0, 1.0))
    # near one is near enough
    branch = continue_equilibria(PITCHFORK, [0.3], "a", (-1.0, 1.0))
    assert_allclose(branch.r[:, 0], 0.0, atol=1e-12)
    # and an Equilibrium or a table is as good as numbers
    eq = find_equilibrium(PITCHFORK, [0.1])
    assert len(continue_equilibria(PITCHFORK, eq, "a", (-1.0, 1.0))) == len(branch)
    assert len(continue_equilibria(PITCHFORK, {"r": 0.0}, "a", (-1.0, 1.0))) == len(branch)


def test_a_start_at_a_fold_and_one_at_an_end_of_the_span():
    fold = 2 / (3 * np.sqrt(3))
    field = Equations({"r": "b + r - r**3"}, {"b": -fold})
    branch = continue_equilibria(field, [1 / np.sqrt(3)], "b", (-1.0, 1.0))
    assert set(branch.ends) == {"span"}
    assert values(branch, "fold")[-1] == pytest.approx(fold, rel=1e-12)
    ended = continue_equilibria(Equations({"r": "b + r - r**3"}, {"b": 1.0}), [1.5], "b", (-1.0, 1.0))
    assert {ended.parameter[0], ended.parameter[-1]} == {-1.0, 1.0}
    assert len(values(ended, "fold")) == 2


def test_a_branch_that_ends():
    """r = √a has no continuation as a real formula: what was found comes back, and the reason."""
    field = Equations({"r": "a - sqrt(r)"}, {"a": 0.5})
    branch = continue_equilibria(field, [0.25], "a", (-1.0, 1.0))
    assert set(branch.ends) == {"span", "lost"}
    assert branch.parameter.min() < 0.05
    smooth = (
        branch.parameter > 1e-2
    )  # where F is not smooth Newton's last step is no longer the square of the one before
    assert_allclose(np.sqrt(branch.r[smooth, 0]), branch.parameter[smooth], rtol=1e-11)


def test_box_and_max_points():
    field = Equations({"r": "a*r - r**3 + 0.1"}, {"a": 0.0})
    branch = continue_equilibria(field, [0.5], "a", (-5.0, 5.0), box=(-2.0, 1.5))
    assert "box" in branch.ends
    assert branch.r.max() == pytest.approx(1.5, abs=1e-14)
    short = continue_equilibria(field, [0.5], "a", (-5.0, 5.0), max_points=3)
    assert short.ends == ("max_points", "max_points")
    assert len(short) == 7


def test_the_table_and_the_frame():
    branch = continue_equilibria(Equations({"r": "b + r - r**3"}, {"b": 0.0}), [1.0], "b", (-1.0, 1.0))
    assert "fold at b = 0.3849001795" in repr(branch)
    assert [p.place for p in branch.special] == sorted(p.place for p in branch.special)
    for point in branch.special:  # the point lies on the step that follows its place
        low, high = sorted(branch.r[point.place : point.place + 2, 0])
        assert low - 1e-9 <= point.r[0] <= high + 1e-9
    pytest.importorskip("pandas")
    assert list(branch.to_dataframe()) == ["b", "r", "stable", "abscissa"]


def test_gradients_of_folds_and_hopf_points():
    """dμ/dw by the defining systems against closed forms (1e-11) and located points of changed fields (1e-6)."""
    A = 1.2
    texts = {"u": "A - (B + 1)*u + u**2*v", "v": "B*u - u**2*v"}
    (point,) = continue_equilibria(Equations(texts, {"A": A, "B": 1.0}), [A, 1 / A], "B", (0.5, 4.0)).special
    assert point.gradient() == {"A": pytest.approx(2 * A, rel=1e-11), "B": 0.0}  # B = 1 + A²
    fold = continue_equilibria(unit(2.5), [3.0], "b", (-5, 5)).special[0]
    gradient = fold.gradient()
    assert gradient["W"][0, 0] == pytest.approx(-np.tanh(fold.r[0]), rel=1e-12)
    assert gradient["b"][0] == 0.0
    field, h = Equations(FITZHUGH_NAGUMO, FITZHUGH_NAGUMO_AT), 1e-4
    found = continue_equilibria(field, [-1.2, -0.6], "I", (-1.0, 1.0)).special[0].gradient()
    for name in ("a", "b", "e"):
        moved = []
        for s in (1, -1):
            changed = field.with_parameters(**{name: FITZHUGH_NAGUMO_AT[name] + s * h})
            moved.append(continue_equilibria(changed, [-1.2, -0.6], "I", (-1.0, 1.0)).special[0].parameter)
        assert found[name] == pytest.approx((moved[0] - moved[1]) / (2 * h), rel=1e-6)
    branch = continue_equilibria(PITCHFORK, [0.0], "a", (-1.0, 1.0))
    with pytest.raises(UsageError, match="fold or a Hopf"):
        branch.special[0].gradient()


def test_located_points_against_finite_differences_of_other_parameters():
    """dμ/dw of a fold is −(p·F_w)/(p·F_μ): the located points move as they must; to 1e-6."""
    base, h = 2.5, 1e-5
    moved = [values(continue_equilibria(unit(base + s * h), [3.0], "b", (-5, 5)), "fold")[1] for s in (1, -1)]
    point = [p for p in continue_equilibria(unit(base), [3.0], "b", (-5, 5)).special if p.parameter > 0][0]
    assert (moved[0] - moved[1]) / (2 * h) == pytest.approx(-np.tanh(point.r[0]), rel=1e-7)


def test_many_units_lose_their_rest_where_an_eigenvalue_of_the_weights_says():
    """At r = 0 the modes are −1 + gλ(J): a pair of J leaves at g = 1/Re λ with ω = Im λ/Re λ. 120 units."""
    n = 120
    J = np.random.default_rng(5).normal(size=(n, n)) / np.sqrt(n)
    λ = np.linalg.eigvals(J)
    first = λ[np.argmax(λ.real)]
    assert first.imag != 0
    text = {"r": "-r + g*(J @ tanh(r))"}
    field = Equations(text, {"g": 0.8, "J": J}, states={"r": n})
    branch = continue_equilibria(field, np.zeros(n), "g", (0.7, 1.02 / first.real))
    (hopf,) = branch.of_kind("hopf")
    assert hopf.parameter == pytest.approx(1 / first.real, rel=1e-12)
    assert hopf.omega == pytest.approx(abs(first.imag) / first.real, rel=1e-10)


def test_null_vectors_and_coefficients_of_many_states_are_those_of_few(monkeypatch):
    """The ways of large fields, taken on a small one: inverse iteration, and B(a, b) by differences."""
    field = Equations(
        {"u": "a*u - v - u*(u**2 + v**2) + w*u", "v": "u + a*v - v*(u**2 + v**2)", "w": "-w + u*v + 0.3*u**2"},
        {"a": -0.3},
    )

    def found():
        return continue_equilibria(field, [0.0, 0.0, 0.0], "a", (-0.5, 0.5)).special[0]

    few = found()
    monkeypatch.setattr("ctrnn.analysis.special_points.LARGE", 0)
    monkeypatch.setattr("ctrnn.analysis.family.LARGE", 0)
    many = found()
    assert few is not many
    assert many.parameter == pytest.approx(few.parameter, abs=1e-12)
    assert many.lyapunov == pytest.approx(few.lyapunov, rel=1e-9)
    assert many.crossing == pytest.approx(few.crossing, rel=1e-10)
    folds = Equations({"r": "b + r - r**3", "s": "r - s"}, {"b": 0.0})
    branch = continue_equilibria(folds, [1.0, 1.0], "b", (-1.0, 1.0))
    # q = (1, 1)/√2, p = (√2, 0), F″ = −6r = ∓6/√3
    assert np.abs([p.coefficient for p in branch.special]) == pytest.approx([np.sqrt(1.5)] * 2, rel=1e-8)
