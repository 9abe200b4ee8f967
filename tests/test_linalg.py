"""The dense LU of the Newton systems against NumPy: textbook loops and LAPACK, plain and transposed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrnn.kernels.linalg import SMALL, factor, lapack_addresses, solve, solve_transposed

LAPACK = lapack_addresses()
NONE = np.zeros(2, dtype=np.int64)


def factored(A, lapack):
    LU, pivots = A.copy(), np.zeros(len(A), dtype=np.int32)
    return LU, pivots, factor(lapack, LU, pivots)


@given(
    n=st.sampled_from([1, 2, 3, 8, SMALL, SMALL + 1, 50]),
    q=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
    library=st.booleans(),
)
def test_solutions_have_small_residuals(n, q, seed, library):
    """‖A X − B‖ and ‖Aᵀ X − B‖ are round-off of ‖A‖‖X‖, for any A that chance gives, well or badly conditioned."""
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(n, n)) * 10.0 ** rng.integers(-3, 4, size=n), rng.normal(size=(n, q))
    LU, pivots, done = factored(A, LAPACK if library else NONE)
    assert done
    for function, matrix in ((solve, A), (solve_transposed, A.T)):
        X = B.copy()
        function(LAPACK if library else NONE, LU, pivots, X)
        residual = np.abs(matrix @ X - B)
        assert (residual <= 1e-12 * n * (np.abs(matrix) @ np.abs(X) + np.abs(B)).max(axis=0)).all()


@pytest.mark.parametrize("lapack", [NONE, LAPACK], ids=["loops", "lapack"])
@pytest.mark.parametrize("n", [4, SMALL + 8])
def test_rows_are_exchanged(n, lapack):
    """A cyclic permutation has nothing but zeros for pivots until rows change places."""
    A = np.roll(np.eye(n), 1, axis=0)
    LU, pivots, done = factored(A, lapack)
    assert done
    B = np.arange(2.0 * n).reshape(n, 2)
    for function, wanted in ((solve, A.T @ B), (solve_transposed, A @ B)):
        X = B.copy()
        function(lapack, LU, pivots, X)
        np.testing.assert_array_equal(X, wanted)


@pytest.mark.parametrize("n", [SMALL + 1, 64])
def test_loops_and_lapack_agree(n):
    """To 1e-12 on a well conditioned matrix; two programs, one answer."""
    rng = np.random.default_rng(n)
    A, B = np.eye(n) + 0.1 * rng.normal(size=(n, n)), rng.normal(size=(n, 3))
    for function in (solve, solve_transposed):
        found = []
        for lapack in (NONE, LAPACK):
            LU, pivots, _ = factored(A, lapack)
            X = B.copy()
            function(lapack, LU, pivots, X)
            found.append(X)
        np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("lapack", [NONE, LAPACK], ids=["loops", "lapack"])
@pytest.mark.parametrize("n", [1, 3, SMALL + 4])
@pytest.mark.parametrize("kind", ["zero", "column", "nan", "infinite"])
def test_a_singular_matrix_is_told(n, kind, lapack):
    A = np.random.default_rng(1).normal(size=(n, n))
    if kind == "zero":
        A[:] = 0.0
    elif kind == "column":
        A[:, n // 2] = 0.0
    else:
        A[n - 1, n // 2] = np.nan if kind == "nan" else np.inf
    assert not factored(A, lapack)[2]
