"""The gradient at rest: every way to it agrees to 1e-10 or better with LU, and the ways that cut something off differ
where theory says so.

Independent references: numpy's LU on a Jacobian written by hand, torch autograd through the unrolled relaxation, RTRL
run to rest.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ctrnn
from ctrnn import Equations, Objective, Problem, RateNetwork, TruncatedBPTT, equilibrium_gradient, gradient
from ctrnn.errors import (
    ConvergenceError,
    NotAtRestError,
    NotHurwitzError,
    SingularJacobianError,
    UnknownNameError,
    UsageError,
)
from ctrnn.gradients.rest.rows import norm_from_below, solve_rows
from ctrnn.inverse import Flow, Neumann, right_divide


def network(n=40, gain=0.7, seed=0, form="state"):
    rng = np.random.default_rng(seed)
    field = RateNetwork(n, gain=gain, seed=seed, form=form).with_parameters(b=rng.normal(size=n))
    return field, rest_of(field), rng.normal(size=n)


def rest_of(field):
    """r ← r + F(r), to rounding: tau = 1 and the network contracts."""
    r = np.zeros(field.n)
    for _ in range(3000):
        r = r + field(0.0, r)
    assert np.abs(field(0.0, r)).max() < 1e-14
    return r


def by_hand(field, r, a):
    """−a J⁻¹ F_w of a state-form network, by numpy alone."""
    W = field.parameters["W"]
    J = -np.eye(field.n) + W * (1.0 - np.tanh(r) ** 2)
    V = np.linalg.solve(J.T, a)
    return np.concatenate([-np.outer(V, np.tanh(r)).ravel(), -V])


WAYS = [
    {"inverse": "flow", "matrix_free": False},
    {"inverse": "flow", "matrix_free": True},
    {"inverse": "gmres", "matrix_free": True},
    {"inverse": "richardson", "matrix_free": True},
    {"inverse": "chebyshev", "matrix_free": True},
    {"inverse": "gradient-flow"},
    {"inverse": "newton-schulz"},
    {"inverse": Flow("rk4")},
    {"inverse": "lu"},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way['inverse']}{'-free' if way.get('matrix_free') else ''}")
def test_every_method_agrees_with_numpy_to_1e_10(way):
    field, r, a = network()
    expected = by_hand(field, r, a)
    g = equilibrium_gradient(field, r, a, **way)
    assert np.linalg.norm(g.vector - expected) < 1e-10 * np.linalg.norm(expected)
    assert g.residual < 1e-11 and g.parameters["W"].shape == (40, 40)


def linear(J, tau=1.0):
    """A network whose Jacobian is J."""
    tau = np.broadcast_to(tau, len(J)).astype(float)
    W = np.eye(len(J)) + tau[:, None] * J
    return RateNetwork(len(J), activation="linear", tau=tau).with_parameters(W=W)


@given(st.integers(1, 30), st.integers(0, 2**31), st.floats(0.05, 0.95), st.integers(1, 3))
def test_rows_by_products_alone_solve_v_j_a(n, seed, size, q):
    rng = np.random.default_rng(seed)
    W, tau = rng.normal(size=(n, n)), np.exp(rng.normal(size=n))
    J = (-np.eye(n) + W * size / np.linalg.norm(W, 2)) / tau[:, None]  # Hurwitz: ‖I + τJ‖ = size
    a = rng.normal(size=(q, n))
    a[1:2] = 0.0
    found = solve_rows(linear(J, tau), 0.0, np.zeros(n), a)
    exact = np.linalg.solve(J.T, a.T).T
    error = np.linalg.norm(found.value - exact, axis=1)
    # Jh is J scaled row by row, so ‖J⁻¹‖ ≤ max τ/(1 − size)
    assert (error <= 1.1e-12 * tau.max() / (1 - size) * np.linalg.norm(a, axis=1)).all()
    assert found.residual[-1] < 1e-12 and found.converged and found.estimated
    assert (error <= found.error_bound).all() and found.error_bound.shape == (q,)


def test_products_without_time_constants_go_by_the_spectrum_they_show():
    n = 80
    rng = np.random.default_rng(0)
    W = 0.4 * rng.normal(size=(n, n)) / np.sqrt(n)
    J = (-np.eye(n) + W) * 1e-3  # with h = 1 this would take 10⁵ steps

    class Plain:
        """The same J, and no τ to try."""

        def __init__(self):
            self.n = n

        def vjp(self, t, r, V, x=None):
            return V @ J

    for one in (Plain(), linear(J)):
        found = solve_rows(one, 0.0, np.zeros(n), np.ones(n))
        exact = np.linalg.solve(J.T, np.ones(n))
        assert np.linalg.norm(found.value - exact) < 1e-11 * np.linalg.norm(exact)
        assert found.condition.abscissa == pytest.approx(np.linalg.eigvals(J).real.max(), rel=0.05)


def test_one_row_through_an_outer_product_is_the_general_parameter_product():
    rng = np.random.default_rng(3)
    for form in ("state", "rate"):
        for tau in (1.5, np.linspace(0.5, 2.0, 6)):
            field = RateNetwork(
                6,
                inputs=2,
                form=form,
                tau=tau,
                train_tau=True,
                activation="softplus",
                mask=rng.random((6, 6)) < 0.5,
                seed=1,
            )
            r, V, x = rng.normal(size=6), rng.normal(size=6), [0.3, -0.7]
            one, [same] = field.parameter_vjp(0.0, r, V, x), field.parameter_vjp(0.0, r, V[None], x)
            np.testing.assert_allclose(one, same, rtol=1e-14, atol=1e-15)
    field = Equations({"u": "-u + k*v", "v": "-v + u*k/3 + c"}, {"k": 0.5, "c": 1.0})
    one, [same] = (field.parameter_vjp(0.0, [1.0, 2.0], V) for V in ([3.0, 4.0], [[3.0, 4.0]]))
    np.testing.assert_array_equal(one, same)


def test_large_systems_never_form_j_and_need_less_memory_than_two_of_it(monkeypatch):
    field, r, a = network(400, gain=0.5)
    expected = by_hand(field, r, a)
    equilibrium_gradient(field, r, a)  # what a field keeps for good is made at its first call
    monkeypatch.setattr(RateNetwork, "jacobian", lambda *_: pytest.fail("J was formed"))
    for inverse in ("flow", "gmres"):
        tracemalloc.start()
        g = equilibrium_gradient(field, r, a, inverse)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * 8 * 400**2  # the answer itself is one J
        assert np.linalg.norm(g.vector - expected) < 1e-10 * np.linalg.norm(expected)
    # the basis of GMRES by default: a fifth of J, where the whole space took three of it
    tracemalloc.start()
    right_divide(a, lambda V: field.vjp(0.0, r, V), "gmres", tol=1e-12)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 400**2 * 1.5


def test_rtrl_run_to_rest_and_unrolled_autograd_end_at_the_same_gradient_to_1e_10():
    field, r, _ = network(12)
    y = np.linspace(-1.0, 1.0, 12)
    g = equilibrium_gradient(field, r, r - y)
    T = 120.0
    problem = Problem(field, np.zeros(12), (0.0, T), objective=Objective("squared_error", target=[y], at=[T]))
    for method in ("rtrl", "adjoint"):
        run = gradient(problem, method, solver="rk4", dt=0.2)
        assert np.linalg.norm(run.vector - g.vector) < 1e-10 * np.linalg.norm(g.vector)
    W, b = (torch.tensor(field.parameters[k].copy(), requires_grad=True) for k in ("W", "b"))
    state = torch.zeros(12, dtype=torch.float64)
    for _ in range(400):
        state = W @ torch.tanh(state) + b
    loss = 0.5 * (state - torch.tensor(y)).square().sum()
    unrolled = np.concatenate([d.numpy().ravel() for d in torch.autograd.grad(loss, (W, b))])
    assert np.linalg.norm(unrolled - g.vector) < 1e-12 * np.linalg.norm(g.vector)


@pytest.mark.parametrize("K", [1, 3, 10])
def test_k_neumann_terms_are_k_step_truncated_bptt_at_rest_to_rounding(K):
    field, r, _ = network(12)
    y, h = np.linspace(-1.0, 1.0, 12), 0.3
    T = 20 * h
    problem = Problem(field, r, (0.0, T), objective=Objective("squared_error", target=[y], at=[T]))
    truncated = gradient(problem, TruncatedBPTT(K), solver="euler", dt=h)
    for matrix_free in (False, True):
        terms = equilibrium_gradient(field, r, r - y, Neumann(K, step=h), matrix_free=matrix_free)
        assert np.linalg.norm(terms.vector - truncated.vector) < 1e-13 * np.linalg.norm(truncated.vector)
    exact = equilibrium_gradient(field, r, r - y)
    # and it is no gradient: the error is that of the series, (I + hJ)^K applied to the exact V
    J = field.jacobian(0.0, r)
    left = exact.V @ np.linalg.matrix_power(np.eye(12) + h * J, K)
    np.testing.assert_allclose(exact.V - terms.V, left, rtol=1e-9, atol=1e-13)
    assert np.linalg.norm(exact.vector - terms.vector) > 0.01 * np.linalg.norm(exact.vector)


def test_rows_identity_and_the_zero_row_by_products():
    field, r, a = network(10)
    full = equilibrium_gradient(field, r, None, "lu").vector
    rows = np.stack([a, 2 * a, np.zeros(10)])
    g = equilibrium_gradient(field, r, rows, matrix_free=True)
    assert g["W"] is g.parameters["W"]
    with pytest.raises(UnknownNameError, match="parameter: got 'V'"):
        g["V"]
    np.testing.assert_allclose(g.vector, rows @ full, rtol=0, atol=1e-11)
    assert not equilibrium_gradient(field, r, np.zeros(10), matrix_free=True).vector.any()
    np.testing.assert_allclose(equilibrium_gradient(field, r, None, matrix_free=True).vector, full, rtol=0, atol=1e-11)


def test_the_norm_is_found_from_below():
    J = np.random.default_rng(0).normal(size=(20, 20))
    norm = np.linalg.norm(J, 2)
    assert 0.5 * norm < norm_from_below(lambda V: V @ J, np.ones(20)) <= norm * (1 + 1e-12)
    assert norm_from_below(lambda V: 0 * V, np.ones(3)) == 0.0


# --- what is refused, with what works there ---


def diagonal(*entries):
    names = [f"r{i}" for i in range(len(entries))]
    return Equations({k: f"{e}*{k} + 0*c" for k, e in zip(names, entries, strict=True)}, {"c": 1.0})


def test_an_unstable_point_is_refused_by_the_flow_with_its_abscissa_and_other_methods_work():
    field = diagonal(-1.0, 2.0, -3.0)
    with pytest.raises(NotHurwitzError, match='inverse="lu"') as caught:
        equilibrium_gradient(field, np.zeros(3), np.ones(3), matrix_free=True)
    assert caught.value.abscissa == pytest.approx(2.0)
    for inverse in ("lu", "gmres"):
        np.testing.assert_allclose(
            equilibrium_gradient(field, np.zeros(3), np.ones(3), inverse).V, [-1, 0.5, -1 / 3], rtol=1e-12
        )
    # a large one, told by ARPACK from products alone
    n = 200
    W = np.random.default_rng(2).normal(size=(n, n)) * 1.6 / np.sqrt(n)
    field = RateNetwork(n).with_parameters(W=W)
    with pytest.raises(NotHurwitzError) as caught:
        equilibrium_gradient(field, np.zeros(n), np.ones(n))
    assert caught.value.abscissa == pytest.approx(np.linalg.eigvals(W).real.max() - 1, rel=1e-8)


def test_a_singular_j_is_refused_by_products():
    for inverse in ("flow", "gmres"):
        with pytest.raises(SingularJacobianError, match="bifurcation"):
            equilibrium_gradient(diagonal(-1.0, 0.0, -3.0), np.zeros(3), np.ones(3), inverse, matrix_free=True)


def test_a_stiff_j_tells_which_method_works():
    n = 130
    W = np.diag(1.0 - np.geomspace(1e-9, 1.0, n))
    field = RateNetwork(n, activation="linear").with_parameters(W=W)
    with pytest.raises((ConvergenceError, SingularJacobianError), match="gmres|bifurcation"):
        equilibrium_gradient(field, np.zeros(n), np.ones(n))
    g = equilibrium_gradient(field, np.zeros(n), np.ones(n), "lu")
    np.testing.assert_allclose(g.V, 1.0 / (np.diag(W) - 1.0), rtol=1e-6)


def test_a_state_that_moves_is_refused_by_products_too():
    field, r, a = network(150, gain=0.5)
    with pytest.raises(NotAtRestError, match="find_equilibrium") as caught:
        equilibrium_gradient(field, r + 1e-5, a)
    assert caught.value.residual == np.abs(field(0.0, r + 1e-5)).max()


def test_bad_arguments_are_named():
    field, r, a = network(5)
    for wrong, match in (
        ({"inverse": "qr"}, "inverse"),
        ({"inverse": "lu", "matrix_free": True}, "matrix_free"),
        ({"tol": 0.0}, "tol"),
        ({"tol": 2.0}, "tol"),
    ):
        with pytest.raises((UsageError, UnknownNameError), match=match):
            equilibrium_gradient(field, r, a, **wrong)
    for bad in (np.ones(4), np.full(5, np.nan), "x", np.ones((2, 2, 5)), np.ones((0, 5))):
        with pytest.raises(UsageError, match="dl_dr"):
            equilibrium_gradient(field, r, bad, matrix_free=True)
    assert ctrnn.equilibrium_gradient is equilibrium_gradient
