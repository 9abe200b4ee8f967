"""What A and a may be: matrices, sparse ones, products, any unit of time; and what is refused, by name."""

import math

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import exact, hurwitz, normal, relative_error, singular_values

from ctrnn.errors import ConvergenceError, NotHurwitzError, SingularJacobianError, UnknownNameError, UsageError
from ctrnn.inverse import (
    GMRES,
    LU,
    METHODS,
    Chebyshev,
    Flow,
    GradientFlow,
    Hyperpower,
    Neumann,
    Product,
    Richardson,
    right_divide,
)

ANY = ("gradient-flow", "newton-schulz", "hyperpower", Hyperpower(7), "lu", "gmres")
STABLE = ("flow", Flow("rk4"), Flow("tsit5"), "richardson", "chebyshev", *ANY)


@pytest.mark.parametrize("method", ["flow", "richardson", "chebyshev", "gradient-flow", "gmres", "newton-schulz", "lu"])
def test_sparse_matrices_and_products_give_what_the_matrix_gives(method):
    from scipy.sparse.linalg import aslinearoperator

    A = np.where(np.random.default_rng(0).random((60, 60)) < 0.1, hurwitz(60, 1), 0.0) - 2.0 * np.eye(60)
    a = np.random.default_rng(1).normal(size=(3, 60))
    for rows in (a[0], a):
        reference = np.linalg.solve(A.T, rows.T).T
        kinds = [scipy.sparse.csr_matrix(A), scipy.sparse.coo_array(A), aslinearoperator(A)]
        kinds += [Product(lambda V: V @ A, lambda V: V @ A.T)]
        if method != "gradient-flow":
            kinds += [lambda V: V @ A]
        for given_as in kinds:
            result = right_divide(rows, given_as, method)
            assert relative_error(result.value, reference) < 1e-12
            assert np.linalg.norm(result.value - reference) <= np.linalg.norm(result.error_bound)
    assert right_divide(a[0], lambda V: V @ A, "gmres").estimated


@pytest.mark.parametrize("method", ["flow", Flow(step=0.4), "chebyshev", Chebyshev((-3.1, -0.9)), "gmres"], ids=str)
def test_two_thousand_units_by_products_alone(method):
    rng = np.random.default_rng(3)
    d, u = np.linspace(1.0, 3.0, 2000), rng.normal(size=2000) * 1e-3
    a = rng.normal(size=2000)

    def product(V):
        return -V * d + (V @ u) * u

    result = right_divide(a, product, method)
    back = product(result.value) - a
    assert np.linalg.norm(back) < 1e-14 * np.linalg.norm(a)
    # Sherman & Morrison: (−D + uuᵀ)⁻¹
    V = -a / d - ((a / d) @ u) * (u / d) / (1 - u @ (u / d))
    assert relative_error(result.value, V) < 1e-13
    assert np.linalg.norm(result.value - V) <= result.error_bound and result.estimated


@given(st.integers(0, 1000))
@settings(max_examples=4)
def test_the_gradient_flow_by_products_alone_of_a_matrix_far_from_normal(seed):
    A = singular_values(300, 4.0, seed)
    a = np.random.default_rng(seed).normal(size=300)
    for given_as in (Product(lambda V: V @ A, lambda V: V @ A.T), scipy.sparse.csr_matrix(np.kron(np.eye(2), A))):
        rows = a if isinstance(given_as, Product) else np.concatenate([a, a])
        result = right_divide(rows, given_as, "gradient-flow")
        V = np.linalg.solve(A.T, a)
        assert relative_error(result.value[:300], V) < 1e-13 and result.estimated
        assert result.condition.number == pytest.approx(4.0, rel=0.1)
        assert np.linalg.norm(result.value[:300] - V) <= result.error_bound


@pytest.mark.parametrize("method", [m for m in STABLE if m != "gradient-flow"], ids=str)
@pytest.mark.parametrize("scale", [1e-140, 1e-9, 1e9, 1e140])
def test_units_of_time_do_not_matter(method, scale):
    A, a = hurwitz(6, 8), np.arange(1.0, 7.0)
    result = right_divide(a, scale * A, method)
    np.testing.assert_allclose(result.value * scale, exact(a, A), rtol=1e-12)
    assert result.iterations == pytest.approx(right_divide(a, A, method).iterations, rel=0.05, abs=3)


@pytest.mark.parametrize("method", STABLE, ids=str)
def test_rows_of_zeros_and_rows_of_very_different_size(method):
    A = hurwitz(7, 1, margin=1.0)
    a = np.random.default_rng(2).normal(size=(4, 7)) * np.array([1e9, 1.0, 1e-9, 0.0])[:, None]
    result = right_divide(a, A, method)
    for k in range(3):
        assert relative_error(result.value[k], exact(a[k], A)) < 1e-12
    assert not result.value[3].any() and result.error_bound.shape == (4,)
    assert not right_divide(np.zeros(7), A, method).value.any()


def test_a_large_sparse_matrix_by_its_norms_and_by_its_factors():
    n = 1000
    A = scipy.sparse.diags([0.9, -2.5, 0.9], [-1, 0, 1], shape=(n, n)).tocsr()
    a = np.random.default_rng(0).normal(size=n)
    by_lu = right_divide(a, A, "lu")
    by_norm = right_divide(a, A, Flow(step="norm"))
    assert by_norm.condition.known_by == "norms" and math.frexp(by_norm.condition.step)[0] == 0.5
    assert by_norm.condition.abscissa == pytest.approx(-0.7)
    assert relative_error(by_norm.value, by_lu.value) < 1e-12
    error = np.linalg.norm(by_norm.value - by_lu.value)
    assert error <= by_norm.error_bound + by_lu.error_bound
    assert by_norm.iterations <= by_norm.condition.predicted


def test_a_product_that_is_not_hurwitz_is_refused_or_seen_to_diverge():
    A = normal([-1.0, -2.0, 0.25], seed=3)
    a = np.ones(3)
    with pytest.raises(NotHurwitzError) as caught:
        right_divide(a, lambda V: V @ A)
    assert caught.value.abscissa == pytest.approx(0.25, rel=1e-9)
    with pytest.raises(ConvergenceError, match="residual grows, by 1.0.* not Hurwitz"):
        right_divide(a, lambda V: V @ A, Flow(step=0.2))
    given_up = right_divide(a, lambda V: V @ A, Flow(step=0.2), raise_on_failure=False)
    assert not given_up.converged and given_up.error_bound == math.inf
    with pytest.raises(ConvergenceError, match="residual grows, by 1.5"):  # |1 + 2(−1.25)|, above the bound of the step
        right_divide(a, lambda V: -1.25 * V, Flow(step=2.0))


def _second(V, calls):
    """−V + a shift, and NaN the second time."""
    calls.append(1)
    return np.roll(V, 1) - 2.0 * V if len(calls) < 2 else V * math.nan


def test_a_product_that_changes_or_fails_mid_run_is_named():
    from ctrnn.errors import NotFiniteError

    calls = []

    def broken(V):
        calls.append(1)
        return -V if len(calls) < 30 else V * math.nan

    with pytest.raises(NotFiniteError, match="at a finite V"):
        right_divide(np.ones(3), broken, Flow(step=0.1))
    turns = []

    def turning(V):
        turns.append(1)
        return -V if len(turns) < 30 else V

    with pytest.raises(ConvergenceError, match="grows.*not Hurwitz"):
        right_divide(np.ones(3), turning, Flow(step=0.1))
    with pytest.raises(UsageError, match="product of shape"):
        right_divide(np.ones(3), lambda V: V[:2], "gmres")
    for method in ("flow", "richardson", "chebyshev", "neumann", "gmres", "lu"):
        calls.clear()
        with pytest.raises(NotFiniteError, match=r"NaN or infinite in call \d, at a finite V"):
            right_divide([1.0, 2.0, 4.0], lambda V: _second(V, calls), method)
    with pytest.raises(UsageError, match="VAᵀ"):
        right_divide(np.ones(3), lambda V: -V, "gradient-flow")
    with pytest.raises(UsageError, match="size is unknown"):
        right_divide(None, lambda V: -V, "gmres")


# --- refusals ---


@pytest.mark.parametrize("method", [m for m in METHODS if m != "neumann"])
def test_a_singular_matrix_is_refused_by_every_method(method):
    rank_one = -np.outer([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    nearly = normal([-1.0, -1e-17, -2.0], seed=15)
    for A in (rank_one, nearly, np.zeros((3, 3))):
        with pytest.raises((SingularJacobianError, ConvergenceError)) as caught:
            right_divide([1.0, 2.0, 4.0], A, method)
        if method != "gmres":  # which sees it from the rows it meets
            assert isinstance(caught.value, SingularJacobianError)


@pytest.mark.parametrize("method", METHODS)
def test_bad_numbers_are_refused_by_every_method(method):
    A = -np.eye(2)
    for a, B, name in (
        (np.ones(3), A, "a"),
        ([1.0, math.inf], A, "a"),
        ([1.0, 1.0], [[-1.0, math.nan], [0.0, -1.0]], "A"),
        ([1.0, 1.0], scipy.sparse.csr_matrix([[-1.0, math.nan], [0.0, -1.0]]), "A"),
        ([1.0, 1.0], np.ones((2, 3)), "A"),
    ):
        with pytest.raises(UsageError) as caught:
            right_divide(a, B, method)
        assert caught.value.argument == name


def test_bad_methods_are_named():
    with pytest.raises(UnknownNameError, match="newton-schulz.*zhang"):
        right_divide([1.0], [[-1.0]], "zhang")
    for bad in (
        lambda: Flow(step="best"),
        lambda: Flow("rk4", step="norm"),
        lambda: Neumann(0),
        lambda: Neumann(2.5),
        lambda: Hyperpower(1),
        lambda: GMRES(0),
        lambda: Chebyshev((-1.0, 2.0)),
        lambda: right_divide([1.0], [[-1.0]], 3),
        lambda: right_divide([1.0], [[-1.0]], LU),
        lambda: right_divide([1.0], [[-1.0]], Flow("rk5")),
        lambda: right_divide([1.0], [[-1.0]], Flow("exponential-euler")),
        lambda: right_divide([1.0], [[-1.0]], Flow("kvaerno5", step=0.1)),
        lambda: right_divide([1.0], [[-1.0]], Richardson(step=2.5)),
        lambda: right_divide([1.0], [[-1.0]], GradientFlow(step=2.5)),
        lambda: right_divide([1.0, 1.0], np.diag([-1.0, -9.0]), Chebyshev((-2.0, -1.0))),
        lambda: right_divide([1.0], [[-1.0]], "gmres", step=0.1),
        lambda: right_divide([1.0, 1.0], [[-1.0, 5.0], [-4.0, -1.0]], Flow(step="norm")),
    ):
        with pytest.raises(UsageError):
            bad()


@pytest.mark.parametrize("size", [1e-200, 1e200])
@pytest.mark.parametrize("method", ["flow", "gradient-flow", "newton-schulz", "chebyshev", "gmres", "lu"])
def test_numbers_whose_norms_over_or_underflow_are_refused_by_name(method, size):
    """A row of 1e-200 has the norm 0 in float64: it must not come back as 0, converged."""
    A = np.array([[-2.0, 1.0], [0.0, -1.0]])
    for a, matrix, name in (([size, 0.0], A, "a"), ([[1.0, 1.0], [0.0, size]], A, "a"), ([1.0, 1.0], size * A, "A")):
        with pytest.raises(UsageError, match=f"^{name}: got 'a largest entry"):
            right_divide(a, matrix, method)
    assert right_divide([0.0, 0.0], A, method).error_bound == 0.0


def test_arguments_of_the_wrong_kind_are_named():
    import scipy.sparse as sparse

    A = np.array([[-2.0, 1.0], [0.0, -1.0]])
    for arguments, name in (
        ({"tol": "x"}, "tol"),
        ({"max_iterations": 1.5}, "max_iterations"),
        ({"max_iterations": True}, "max_iterations"),
    ):
        with pytest.raises(UsageError, match=name):
            right_divide([1.0, 1.0], A, **arguments)
    for interval in (("a", "b"), (-3, -2, -1), -1.0):
        with pytest.raises(UsageError, match="interval"):
            Chebyshev(interval)
    with pytest.raises(UsageError, match="real numbers"):
        right_divide([1.0, 1.0], sparse.csr_matrix(1j * A))


@pytest.mark.parametrize("smallest", [1e-9, 1e-12, 1e-14])
def test_the_gradient_flow_of_a_near_singular_matrix_tells_its_iterations(smallest):
    """Its own step must not be refused as one of the user's."""
    with pytest.raises(ConvergenceError, match="would need about"):
        right_divide(np.ones(3), np.diag([-1.0, -1.0, -smallest]), "gradient-flow")
