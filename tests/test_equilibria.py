"""Equilibria and their gradients, against closed forms, mpmath, finite differences and dp/dt."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from ctrnn.analysis import find_equilibrium
from ctrnn.analysis.equilibria import classify
from ctrnn.errors import (
    ConvergenceError,
    NotAtRestError,
    NotHurwitzError,
    SingularJacobianError,
    UnknownNameError,
    UsageError,
)
from ctrnn.fields.equations import Equations
from ctrnn.fields.networks.rate import RateNetwork
from ctrnn.gradients.rest.equilibrium import equilibrium_gradient


class Reference:
    """F = −r + W tanh(r) + b in plain numpy, J and F_w in closed form: no code of the toolkit."""

    def __init__(self, W, b):
        self.parameters = {"W": np.array(W, dtype=float), "b": np.array(b, dtype=float)}
        self.n = self.parameters["b"].size
        self.m = self.n * (self.n + 1)
        self.state_names = tuple(f"r{i}" for i in range(self.n))

    def __call__(self, t, r, x=None):
        return -r + self.parameters["W"] @ np.tanh(r) + self.parameters["b"]

    def jacobian(self, t, r, x=None):
        return -np.eye(self.n) + self.parameters["W"] / np.cosh(r) ** 2

    def parameter_jacobian(self, t, r, x=None):
        return np.hstack([np.kron(np.eye(self.n), np.tanh(r)), np.eye(self.n)])

    def parameter_vjp(self, t, r, K, x=None):
        return K @ self.parameter_jacobian(t, r, x)

    def unflatten(self, vector):
        W, b = vector[..., : self.n**2], vector[..., self.n**2 :]
        return {"W": W.reshape(W.shape[:-1] + (self.n, self.n)), "b": b}

    @property
    def vector(self):
        return np.concatenate([p.ravel() for p in self.parameters.values()])

    def with_vector(self, vector):
        return Reference(**self.unflatten(vector))


def reference(n=4, gain=0.8, seed=0):
    rng = np.random.default_rng(seed)
    return Reference(rng.normal(size=(n, n)) * gain / math.sqrt(n), rng.normal(size=n))


def real(n=4, gain=0.8, seed=0):
    twin = reference(n, gain, seed).parameters
    return RateNetwork(n).with_parameters(**twin)


def lotka_volterra():
    return Equations(
        {"prey": "a*prey - b*prey*pred", "pred": "-c*pred + d*prey*pred"},
        parameters={"a": 0.55, "b": 0.028, "c": 0.80, "d": 0.024},
    )


def one_dimensional(text, **parameters):
    return Equations({"r": text}, parameters)


# --- where it rests ---


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_contracting_networks_rest_where_the_fixed_point_iteration_does(n, seed, gain):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(n, n))
    field = Reference(W * gain / np.linalg.norm(W, 2), rng.normal(size=n))
    r = np.zeros(n)
    for _ in range(1000):  # r ← W tanh(r) + b contracts by ‖W‖₂ = gain
        r = field(0.0, r) + r
    eq = find_equilibrium(field, rng.normal(size=n))
    np.testing.assert_allclose(eq.r, r, rtol=0, atol=1e-13 / (1 - gain))
    assert eq.stable and eq.kind.startswith("stable")
    assert eq.residual < 1e-14 and eq.residual <= eq.speed
    np.testing.assert_array_equal(eq.jacobian, field.jacobian(0.0, eq.r))


def test_the_real_network_agrees_with_the_reference():
    a, b = find_equilibrium(reference(), np.ones(4)), find_equilibrium(real(), np.ones(4))
    np.testing.assert_allclose(b.r, a.r, rtol=1e-14)
    np.testing.assert_allclose(b.jacobian, a.jacobian, rtol=0, atol=1e-14)
    np.testing.assert_allclose(b.eigenvalues, a.eigenvalues, rtol=0, atol=1e-13)
    ga = equilibrium_gradient(reference(), a, np.arange(4.0))
    gb = equilibrium_gradient(real(), b, np.arange(4.0))
    np.testing.assert_allclose(gb.parameters["W"], ga.parameters["W"], rtol=0, atol=1e-13)
    np.testing.assert_allclose(gb.parameters["b"], ga.parameters["b"], rtol=0, atol=1e-13)


@pytest.mark.parametrize("r0", [(33.0, 20.0), (30.0, 4.0), (5.0, 5.0), (300.0, 300.0)])
def test_lotka_volterra_rests_in_its_centre_not_in_extinction(r0):
    # from (300, 300) the populations creep past (0, 0) at 1e-7 of their first speed
    eq = find_equilibrium(lotka_volterra(), r0)
    a, b, c, d = 0.55, 0.028, 0.80, 0.024
    np.testing.assert_allclose(eq.r, [c / d, a / b], rtol=1e-14)
    assert eq.kind == "centre" and not eq.stable
    ω = math.sqrt(a * c)
    np.testing.assert_allclose(eq.eigenvalues, [1j * ω, -1j * ω], rtol=0, atol=1e-14)
    assert "prey" in str(eq) and "33.33333333" in str(eq) and "centre" in str(eq)


def test_newton_alone_finds_the_saddle_near_r0_and_auto_the_stable_point():
    field = one_dimensional("-r + 2*tanh(r)")
    saddle = find_equilibrium(field, [0.01], method="newton")
    assert abs(saddle.r[0]) < 1e-15 and saddle.kind == "unstable node"
    eq = find_equilibrium(field, [0.01])
    assert eq.r[0] == pytest.approx(brentq(lambda r: -r + 2 * math.tanh(r), 1, 3, xtol=1e-15))
    assert eq.kind == "stable node"
    assert find_equilibrium(field, [-0.01]).r[0] == pytest.approx(-eq.r[0], rel=1e-14)


def test_the_answer_is_where_the_flow_from_r0_goes():
    # stable at 0 and 1.5, unstable at 1; near the hump between 1 and 1.5 Newton jumps over to 0
    field = one_dimensional("-r*(r - 1)*(r - 1.5)")
    assert find_equilibrium(field, [1.25], method="newton").r[0] == pytest.approx(0.0, abs=1e-12)
    assert find_equilibrium(field, [1.25]).r[0] == pytest.approx(1.5, rel=1e-14)


def test_an_equilibrium_inside_a_limit_cycle_is_found():
    field = Equations(
        {"v": "v - v**3/3 - u + I", "u": "eps*(v + a - b*u)"},
        {"eps": 0.08, "a": 0.7, "b": 0.8},
        inputs=("I",),
    )
    for current, kind in ((0.0, "stable focus"), (0.5, "unstable focus")):
        v = brentq(lambda v, I=current: v - v**3 / 3 - (v + 0.7) / 0.8 + I, -3, 3, xtol=1e-15)
        for r0 in ((1.5, 0.0), (-2.0, 1.0)):
            eq = find_equilibrium(field, r0, x=[current])
            np.testing.assert_allclose(eq.r, [v, (v + 0.7) / 0.8], rtol=1e-12)
            assert eq.kind == kind and eq.stable == (kind == "stable focus")
            np.testing.assert_array_equal(eq.x, [current])
    # a signal is taken at t
    eq = find_equilibrium(field, (1.5, 0.0), x=lambda t: np.array([0.1 * t]), t=5.0)
    assert eq.x == [0.5] and eq.kind == "unstable focus" and eq.t == 5.0


@pytest.mark.parametrize("rate", [1e-12, 1.0, 1e12])
def test_rest_does_not_depend_on_the_unit_of_time(rate):
    # at rate 1e-12 every state has |F| ~ 1e-12: a bound on |F| alone would take any for rest
    eq = find_equilibrium(one_dimensional("k*(-r + 2)", k=rate), [0.3])
    assert eq.r[0] == pytest.approx(2.0, rel=1e-14)
    with pytest.raises(NotAtRestError):
        equilibrium_gradient(one_dimensional("k*(-r + 2)", k=rate), [2.001], [1.0])


def test_a_line_of_equilibria_is_reached_and_called_non_hyperbolic():
    eq = find_equilibrium(Equations({"u": "-u + v", "v": "u - v"}), [0.5, 0.1])
    np.testing.assert_allclose(eq.r, [0.3, 0.3], rtol=1e-8)  # u + v is conserved
    assert eq.kind == "non-hyperbolic" and not eq.stable


@pytest.mark.parametrize(
    "eigenvalues, kind",
    [
        ([-1, -2, -3], "stable node"),
        ([-1, -2 + 1j, -2 - 1j], "stable focus"),
        ([1, 2], "unstable node"),
        ([1 + 1j, 1 - 1j, 3], "unstable focus"),
        ([1, -2], "saddle"),
        ([1, -2 + 1j, -2 - 1j], "saddle-focus"),
        ([2j, -2j], "centre"),
        ([1e-16 + 2j, 1e-16 - 2j], "centre"),
        ([2j, -2j, -1], "non-hyperbolic"),
        ([0, -1], "non-hyperbolic"),
        ([0], "non-hyperbolic"),
    ],
)
def test_kinds(eigenvalues, kind):
    assert classify(eigenvalues) == kind


def test_eigenvalues_come_with_real_parts_descending():
    eq = find_equilibrium(reference(6), np.zeros(6))
    assert (np.diff(eq.eigenvalues.real) <= 0).all()
    assert eq.abscissa == eq.eigenvalues.real.max()
    assert sum(eq.eigenvalues) == pytest.approx(np.trace(eq.jacobian))


def test_no_equilibrium_is_an_error_with_the_best_residual():
    for method in ("auto", "newton"):
        with pytest.raises(ConvergenceError, match=r"max \|F\| reached is 1,"):
            find_equilibrium(one_dimensional("r**2 + 1"), [0.5], method=method)
    with pytest.raises(SingularJacobianError, match="Newton stopped"):
        find_equilibrium(Equations({"u": "1 + 0*u", "v": "-v"}), [0.0, 1.0])
    with pytest.raises(ConvergenceError):  # F vanishes at infinity only
        find_equilibrium(one_dimensional("exp(r)"), [0.5])


def test_bad_arguments_of_find_equilibrium_are_named():
    field = reference()
    for r0 in (np.zeros(3), np.zeros((4, 1)), [math.nan] * 4, [math.inf] * 4):
        with pytest.raises(UsageError, match="r0"):
            find_equilibrium(field, r0)
    with pytest.raises(UnknownNameError, match="auto, relaxation, newton"):
        find_equilibrium(field, np.zeros(4), method="broyden")
    with pytest.raises(UsageError, match="tol"):
        find_equilibrium(field, np.zeros(4), tol=0.0)


METHODS = ("auto", "relaxation", "newton", "pseudo-transient", "anderson")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_point_to_1e_12_and_says_what_it_is(method):
    for field in (reference(), real(40, gain=0.6)):
        r = np.zeros(field.n)
        for _ in range(3000):
            r = r + field(0.0, r)
        eq = find_equilibrium(field, np.ones(field.n), method=method)
        np.testing.assert_allclose(eq.r, r, rtol=0, atol=1e-12 * 50)
        assert eq.stable and eq.index == 0 and eq.method == method and eq.iterations > 0
        assert eq.condition == pytest.approx(np.linalg.cond(eq.jacobian))
        assert eq.residual < 1e-11 and eq.residual <= eq.speed


@pytest.mark.parametrize("method", METHODS[1:])
def test_every_method_says_where_it_ended_when_there_is_no_equilibrium(method):
    with pytest.raises((ConvergenceError, SingularJacobianError), match=r"max \|F\|"):
        find_equilibrium(one_dimensional("r**2 + 1"), [0.5], method=method)


def test_pseudo_transient_follows_the_flow_where_newton_jumps():
    field = one_dimensional("-r*(r - 1)*(r - 1.5)")  # from 1.25 Newton lands on 0
    assert find_equilibrium(field, [1.25], method="pseudo-transient").r[0] == pytest.approx(1.5, rel=1e-14)
    assert find_equilibrium(field, [1.25], method="relaxation").r[0] == pytest.approx(1.5, rel=1e-10)


def test_index_and_condition_of_a_saddle():
    field = Equations({"u": "a*u", "v": "-2*v", "w": "3*w"}, {"a": 1.0})
    eq = find_equilibrium(field, [0.1, 0.1, 0.1], method="newton")
    assert eq.index == 2 and eq.kind == "saddle" and eq.condition == pytest.approx(3.0)


def test_a_large_network_rests_without_its_jacobian(monkeypatch):
    n = 500
    rng = np.random.default_rng(0)
    field = RateNetwork(n, gain=0.8, seed=0).with_parameters(b=rng.normal(size=n))
    with monkeypatch.context() as held:
        held.setattr(RateNetwork, "jacobian", lambda *_: pytest.fail("J was formed"))
        eq = find_equilibrium(field, np.zeros(n))
        g = equilibrium_gradient(field, eq, np.ones(n))
    assert eq.method == "anderson" and eq.residual < 1e-11
    W = field.parameters["W"]
    expected = np.linalg.solve((-np.eye(n) + W * (1 - np.tanh(eq.r) ** 2)).T, np.ones(n))
    assert np.linalg.norm(g.V - expected) < 1e-10 * np.linalg.norm(expected)
    assert eq.stable  # now J is formed, once
    assert eq.abscissa == pytest.approx(np.linalg.eigvals(eq.jacobian).real.max())


# --- its gradient ---


def test_scalar_gradient_against_mpmath_to_1e_14():
    # r = w tanh r + b; implicitly dr/dw = tanh r / s, dr/db = 1/s with s = 1 − w / cosh² r
    w, b = 0.7, 0.4
    with mpmath.workdps(40):
        r = mpmath.findroot(lambda r: -r + mpmath.mpf(w) * mpmath.tanh(r) + mpmath.mpf(b), 1.0)
        s = 1 - mpmath.mpf(w) / mpmath.cosh(r) ** 2
        expected = [float(mpmath.tanh(r) / s), float(1 / s)]
    field = one_dimensional("-r + w*tanh(r) + b", w=w, b=b)
    for inverse in ("flow", "lu"):
        g = equilibrium_gradient(field, find_equilibrium(field, [0.0]), [1.0], inverse)
        np.testing.assert_allclose(g.vector, expected, rtol=1e-14)
        assert g.parameters["w"] == g.vector[0] and g.parameters["b"] == g.vector[1]
        assert g.residual < 1e-15


@pytest.mark.parametrize("make", [reference, real])
@pytest.mark.parametrize("inverse", ["flow", "lu"])
def test_gradient_against_differences_of_the_equilibrium_found_again(make, inverse):
    field = make(4)
    target = np.array([0.3, -0.2, 0.1, 0.5])

    def loss(vector):
        return 0.5 * ((find_equilibrium(field.with_vector(vector), eq.r).r - target) ** 2).sum()

    eq = find_equilibrium(field, np.zeros(4))
    g = equilibrium_gradient(field, eq, eq.r - target, inverse)
    w, h = field.vector, 1e-4
    for k in range(field.m):
        e = h * np.eye(field.m)[k]  # fourth order: error h⁴ ~ 1e-16, rounding ~ 1e-12
        two = (loss(w + e) - loss(w - e)) / (2 * h)
        four = (loss(w + 2 * e) - loss(w - 2 * e)) / (4 * h)
        assert g.vector[k] == pytest.approx((4 * two - four) / 3, abs=1e-10)
    assert np.abs(g.vector).max() > 0.1


def test_the_flow_equals_lu_and_the_long_time_limit_of_dp_dt():
    field = reference(4)
    n, m = field.n, field.m
    eq = find_equilibrium(field, np.zeros(n))

    def augmented(t, s):
        r, p = s[:n], s[n:].reshape(n, m)
        dp = field.jacobian(t, r) @ p + field.parameter_jacobian(t, r)
        return np.concatenate([field(t, r), dp.ravel()])

    T = 30.0 / -eq.abscissa  # e⁻³⁰ ~ 1e-13
    start = np.zeros(n + n * m)
    run = solve_ivp(augmented, (0.0, T), start, method="DOP853", rtol=1e-12, atol=1e-13)
    p = run.y[n:, -1].reshape(n, m)
    flow, lu = (equilibrium_gradient(field, eq, None, inverse) for inverse in ("flow", "lu"))
    assert flow.vector.shape == (n, m) and np.abs(p).max() > 0.5
    assert np.abs(flow.vector - p).max() < 1e-10
    assert np.abs(lu.vector - p).max() < 1e-10
    assert np.abs(flow.vector - lu.vector).max() < 1e-13


def test_rows_identity_and_single_row_are_one_gradient():
    field = real(5)
    eq = find_equilibrium(field, np.zeros(5))
    full = equilibrium_gradient(field, eq)
    rows = np.random.default_rng(3).normal(size=(2, 5))
    g = equilibrium_gradient(field, eq, rows)
    assert g.vector.shape == (2, 30) and g.parameters["W"].shape == (2, 5, 5)
    np.testing.assert_allclose(g.vector, rows @ full.vector, rtol=0, atol=1e-13)
    np.testing.assert_allclose(
        equilibrium_gradient(field, eq, rows[1]).parameters["W"], g.parameters["W"][1], atol=1e-14
    )
    assert "W" in str(g) and "residual" in str(g)


def test_lotka_volterra_gradient_is_that_of_c_over_d_and_a_over_b():
    field = lotka_volterra()
    eq = find_equilibrium(field, [30.0, 20.0])
    with pytest.raises(NotHurwitzError, match='inverse="lu"') as caught:
        equilibrium_gradient(field, eq, [1.0, 0.0])
    assert caught.value.abscissa == pytest.approx(0.0, abs=1e-12)
    a, b, c, d = 0.55, 0.028, 0.80, 0.024
    expected = [[0, 0, 1 / d, -c / d**2], [1 / b, -a / b**2, 0, 0]]
    g = equilibrium_gradient(field, eq, None, "lu")
    np.testing.assert_allclose(g.vector, expected, rtol=1e-13, atol=1e-10)


def test_the_input_at_rest_is_used():
    field = RateNetwork(3, inputs=2, gain=0.5, seed=1)
    eq = find_equilibrium(field, np.zeros(3), x=[0.5, -1.0])
    g = equilibrium_gradient(field, eq, [1.0, 0.0, 0.0])
    np.testing.assert_allclose(g.parameters["U"], np.outer(g.parameters["b"], [0.5, -1.0]))
    same = equilibrium_gradient(field, eq.r, [1.0, 0.0, 0.0], x=[0.5, -1.0])
    np.testing.assert_array_equal(same.vector, g.vector)
    with pytest.raises(NotAtRestError):  # at x = 0 this state moves
        equilibrium_gradient(field, eq.r, [1.0, 0.0, 0.0])


def test_a_state_that_moves_is_refused_with_its_residual():
    field = reference()
    eq = find_equilibrium(field, np.zeros(4))
    moved = eq.r + 1e-6
    with pytest.raises(NotAtRestError, match="find_equilibrium") as caught:
        equilibrium_gradient(field, moved, np.ones(4))
    assert caught.value.residual == np.abs(field(0.0, moved)).max()
    # the equilibrium of other parameters is none of these
    with pytest.raises(NotAtRestError):
        equilibrium_gradient(field.with_vector(1.01 * field.vector), eq, np.ones(4))


def test_a_singular_jacobian_is_refused_by_both():
    field = Equations({"u": "k*(-u + v)", "v": "u - v"}, {"k": 1.0})
    eq = find_equilibrium(field, [0.5, 0.1])
    for inverse in ("flow", "lu"):
        with pytest.raises(SingularJacobianError, match="bifurcation"):
            equilibrium_gradient(field, eq, [1.0, 0.0], inverse)


def test_an_unstable_point_is_refused_by_the_flow_with_its_abscissa_and_lu_works():
    field = one_dimensional("-r + w*tanh(r)", w=3.0)
    eq = find_equilibrium(field, [0.0])
    with pytest.raises(NotHurwitzError) as caught:
        equilibrium_gradient(field, eq, [1.0])
    assert caught.value.abscissa == pytest.approx(2.0)
    assert equilibrium_gradient(field, eq, [1.0], "lu").vector == [0.0]  # r* = 0 for every w


def test_bad_arguments_of_equilibrium_gradient_are_named():
    field = reference()
    eq = find_equilibrium(field, np.zeros(4))
    for dl_dr in (np.ones(3), np.ones((2, 3)), [math.nan] * 4, 1.0):
        with pytest.raises(UsageError, match="dl_dr"):
            equilibrium_gradient(field, eq, dl_dr)
    for point in (np.zeros(3), [math.nan] * 4):
        with pytest.raises(UsageError, match="eq"):
            equilibrium_gradient(field, point, np.ones(4))
    with pytest.raises(UnknownNameError, match="flow, richardson"):
        equilibrium_gradient(field, eq, np.ones(4), "qr")


def test_a_fold_is_singular_though_the_condition_of_one_state_is_1():
    """r' = c + r² at c = 0: Newton ends at |r| ~ 1e-30, J = 2r is as small, and dr*/dc has no value. Beside the fold it
    is −1/2r, to 1e-9."""
    for start in (-1.0, 1.0, -1e-9):
        eq = find_equilibrium(one_dimensional("r**2 + c", c=0.0), [start])
        for inverse in ("flow", "lu", "newton-schulz", "gmres"):
            with pytest.raises((SingularJacobianError, NotHurwitzError)):
                equilibrium_gradient(one_dimensional("r**2 + c", c=0.0), eq, [1.0], inverse)
    with pytest.raises(SingularJacobianError):
        equilibrium_gradient(one_dimensional("r**2 + c", c=0.0), [-1e-12], [1.0], "lu")
    field = one_dimensional("r**2 + c", c=-1e-8)
    g = equilibrium_gradient(field, find_equilibrium(field, [-1.0]), [1.0])
    np.testing.assert_allclose(g.vector, [0.5e4], rtol=1e-9)  # r* = −√−c
    kink = RateNetwork(3, activation="relu", gain=0.5, seed=0)  # every unit exactly at its kink
    assert np.isfinite(equilibrium_gradient(kink, np.zeros(3), np.ones(3)).vector).all()


DOUBLE = ["-x**2", "-(1 + x)*x**2", "-(x - 1)**2", "-x**2 + 2*x - 1", "-1e3*x**2"]


@pytest.mark.parametrize("r0", [0.5, 1e-3, 1e-9, 0.0, 1.5, 1.0 + 1e-9])
@pytest.mark.parametrize("equation", [*DOUBLE, "-x**3", "-(x - 1)**3"])
def test_what_rests_at_a_double_root_is_not_called_stable(equation, r0):
    # J is some rounding there and not 0; of one state it is as large as the largest eigenvalue
    point = find_equilibrium(Equations({"x": equation}), [r0], method="newton")
    assert point.kind == "non-hyperbolic" and not point.stable, point
    if equation in DOUBLE:  # of a triple root J is exactly singular sooner
        point = find_equilibrium(Equations({"x": equation, "y": "-y"}), [r0, 0.5], method="newton")
        assert point.kind == "non-hyperbolic" and not point.stable, point


def test_a_point_near_which_f_is_not_finite_has_its_kind():
    """x* = 1e-20, y* = 1: √ε beside it along the flattest direction x is negative, and log(x) has no value."""
    field = Equations({"x": "1e-20*y - x", "y": "1 - y + 1e-3*(x - 1e-20*y)*log(x)"})
    point = find_equilibrium(field, [1e-20, 1.0], method="newton")
    U, σ, Vt = np.linalg.svd(point.jacobian)
    assert min((point.r + s * 1e-8 * Vt[-1])[0] for s in (-1.0, 1.0)) < 0.0
    assert point.kind == "stable node"


@pytest.mark.parametrize("K", [1e-30, 1e-20, 1e-8, 1.0, 1e8, 1e30])
def test_a_small_state_beside_a_small_root_is_stable_in_any_unit(K):
    field = Equations({"x": "x*(K - x)"}, {"K": K})
    point = find_equilibrium(field, [0.9 * K], method="newton")
    assert point.kind == "stable node" and point.r[0] == pytest.approx(K, rel=1e-12)
    found = equilibrium_gradient(field, point, [1.0])
    assert found.vector[0] == pytest.approx(1.0, rel=1e-9)  # r* = K


@pytest.mark.parametrize("d", [1e-6, 1e-7])
def test_points_close_to_a_fold_are_told_apart(d):
    field = Equations({"x": "d**2 - (x - 1)**2"}, {"d": d})
    kinds = [find_equilibrium(field, [1.0 + s * 2.0 * d], method="newton").kind for s in (-1.0, 1.0)]
    assert kinds == ["unstable node", "stable node"]


@pytest.mark.parametrize("equation", ["-r**3 + 0*c", "-r**5 + 0*c"])
def test_a_relaxation_that_only_creeps_to_rest_ends(equation):
    """As 1/√t it would take 10²⁴ time constants to 1e-12."""
    with pytest.raises(ConvergenceError, match="relaxation"):
        find_equilibrium(one_dimensional(equation, c=1.0), [1.0], method="relaxation")


def test_an_error_in_a_callable_field_is_raised_from_the_compiled_iteration():
    class Broken(Reference):
        def __call__(self, t, r, x=None):
            if np.abs(r).max() > 0:
                raise RuntimeError("the user's own")
            return super().__call__(t, r, x)

    with pytest.raises(RuntimeError, match="the user's own"):
        find_equilibrium(Broken(np.zeros((2, 2)), np.ones(2)), np.zeros(2), method="anderson")
