"""What stands right of @ in V A: a matrix, a sparse matrix, or only the product V ↦ V A.

numpy's @ leaves V A to `Operator.__rmatmul__`, so that an iteration written as V @ A − a runs on all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ctrnn.errors import NotFiniteError, UsageError
from ctrnn.memory import claim
from ctrnn.numbers import checked_array, real_array
from ctrnn.threads import apart, one_blas_thread

Map = Callable[[np.ndarray], Any]

#: sparse matrices up to this size get the certificate of a dense one: eigenvalues and singular values take a second at
#: most
DENSE_CERTIFICATE = 512
ARNOLDI = 40  # products spent on the spectrum of what is only a product
LARGE_V = 1e100  # where a product may overflow
SCALE = 1e151  # entries beyond it, or below one over it, have squares that over- or underflow in sums


@dataclass(frozen=True)
class Product:
    """A matrix that is only its products with rows: V ↦ VA and, for the gradient flow, V ↦ VAᵀ.

    Parameters
    ----------
    product : callable
        V ↦ VA. It gets rows shaped as the a of the division, (n,) or (q, n), and returns the same shape.
    transposed : callable, optional
        V ↦ VAᵀ, likewise.

    Examples
    --------
    >>> from ctrnn.inverse import right_divide
    >>> weights = np.array([0.5, 0.0])
    >>> A = Product(lambda V: weights * V - V, lambda V: weights * V - V)
    >>> np.round(right_divide([1.0, 1.0], A, "gradient-flow").value, 12)
    array([-2., -1.])
    """

    product: Map
    transposed: Map | None = None


class Operator:
    """V (q, n) ↦ VA by a function of rows shaped as a is."""

    __array_ufunc__ = None

    def __init__(self, product: Map, transposed: Map | None, n: int, is_row: bool) -> None:
        self.product, self.transposed, self.n, self.is_row = product, transposed, n, is_row
        self.calls = 0

    def __rmatmul__(self, V: np.ndarray) -> np.ndarray:
        self.calls += 1
        if not self.is_row:
            return self._checked(V)
        if len(V) == 1:
            return self._checked(V[0])[None]
        return np.stack([self._checked(v) for v in V])

    def _checked(self, V: np.ndarray) -> np.ndarray:
        found = real_array("A", self.product(V), "a product V ↦ VA")
        if found.shape != V.shape:
            raise UsageError(
                "A", given=f"a product of shape {found.shape}", allowed=f"V ↦ VA of shape {V.shape}, as V is"
            )
        if found.dtype.kind not in "fiub":
            raise UsageError("A", given=found, allowed="a product V ↦ VA of real numbers")
        # of a diverging V it may overflow: that is the iteration's to tell
        if not np.isfinite(found).all() and np.abs(V).max() < LARGE_V:
            raise NotFiniteError(f"the product V ↦ VA is NaN or infinite in call {self.calls}, at a finite V")
        return found

    @property
    def T(self) -> Operator:
        """The operator V ↦ VAᵀ; raises UsageError where it was not given."""
        if self.transposed is None:
            raise UsageError(
                "A",
                given="only V ↦ VA",
                allowed="V ↦ VAᵀ too, for dV/dt = −(VA − a)Aᵀ",
                hint="ctrnn.inverse.Product(product, transposed), or the method gmres, chebyshev or flow",
            )
        return Operator(self.transposed, self.product, self.n, self.is_row)


class System:
    """The rows a (q, n) and A, checked, with what is known of A.

    ``A`` is what stands right of @. ``dense`` is the matrix, or None where A is sparse and large, or a product.
    """

    def __init__(self, a: Any, A: Any) -> None:
        self.is_row = a is not None and real_array("a", a).ndim == 1
        self.is_identity = a is None
        self.kind = "dense"
        self.dense: np.ndarray | None = None
        if isinstance(A, Product) or hasattr(A, "rmatvec") or callable(A):
            self.kind = "product"
            rows = self._rows(a, None)
            self.n = rows.shape[1]
            self.A: Any = self._operator(A)
        elif hasattr(A, "tocsr"):
            self.kind = "sparse"
            checked_array("A", A.tocsr().data)
            self.A = A.tocsr().astype(np.float64)
            self._check_matrix(self.A.shape, self.A.data)
            self.n = self.A.shape[0]
            rows = self._rows(a, self.n)
            if self.n <= DENSE_CERTIFICATE:
                self.dense = self.A.toarray()
        else:
            self.A = self.dense = checked_array("A", A)
            self._check_matrix(self.A.shape, self.A)
            self.n = self.A.shape[0]
            rows = self._rows(a, self.n)
        self.a = rows

    def _operator(self, A: Any) -> Operator:
        if isinstance(A, Product):
            return Operator(A.product, A.transposed, self.n, self.is_row)
        if hasattr(A, "rmatvec"):  # scipy's LinearOperator: VA = (Aᵀ Vᵀ)ᵀ
            self._check_matrix(A.shape, np.zeros(1))
            if A.shape[0] != self.n:
                raise UsageError("a", given=self.n, allowed=f"rows of {A.shape[0]} numbers, as A is")

            def product(V: np.ndarray) -> np.ndarray:
                return A.rmatvec(V) if V.ndim == 1 else A.rmatmat(V.T).T

            def transposed(V: np.ndarray) -> np.ndarray:
                return A.matvec(V) if V.ndim == 1 else A.matmat(V.T).T

            return Operator(product, transposed, self.n, self.is_row)
        return Operator(A, None, self.n, self.is_row)

    @staticmethod
    def _check_matrix(shape: tuple[int, ...], values: np.ndarray) -> None:
        if len(shape) != 2 or shape[0] != shape[1] or 0 in shape:
            raise UsageError("A", given=shape, allowed="a square matrix (n, n), or a product V ↦ VA")
        _check_scale("A", values)

    @staticmethod
    def _rows(a: Any, n: int | None) -> np.ndarray:
        if a is None:
            if n is None:
                raise UsageError(
                    "a", given=None, allowed="a row or rows, where A is only a product: its size is unknown"
                )
            claim("a", 32.0 * n * n, "some rows of the identity at a time")  # as are V and its residual
            return np.eye(n)
        rows = checked_array("a", a)
        if rows.ndim not in (1, 2) or rows.size == 0 or (n is not None and rows.shape[-1] != n):
            of = "" if n is None else f", n = {n}, as A is"
            raise UsageError("a", given=rows.shape, allowed=f"a row (n,) or rows (q, n){of}")
        rows = np.atleast_2d(rows)
        for row in rows:
            _check_scale("a", row)
        return rows

    def matrix(self) -> np.ndarray:
        """A itself; of a product, by n products."""
        if self.dense is not None:
            return self.dense
        return self.A.toarray() if self.kind == "sparse" else np.asarray(np.eye(self.n) @ self.A)

    # --- what is known ---

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """Of the matrix; otherwise Ritz values, which approach the outer eigenvalues from within."""
        if self.dense is None:
            return self.arnoldi[0]
        with one_blas_thread:  # a second one gains nothing here and may lose all
            return apart(25.0 * self.n**3, np.linalg.eigvals, self.dense)

    @cached_property
    def singular_values(self) -> np.ndarray:
        """Decreasing; of the matrix, otherwise of Arnoldi's: the largest from below, the smallest from above."""
        if self.dense is None:
            return self.arnoldi[1]
        with one_blas_thread:
            return apart(4.0 * self.n**3, _singular_values, self.dense)

    @cached_property
    def inverse_norm(self) -> float:
        """‖A⁻¹‖₂; where A is not dense, twice the estimate, which comes from below."""
        exact = self.dense is not None or self.n <= ARNOLDI
        return (1.0 if exact else 2.0) / float(self.singular_values[-1])

    @cached_property
    def frobenius(self) -> float:
        """‖A‖_F; of a product, √n ‖vA‖/‖v‖ for a random v, whose square is right on average."""
        if self.kind == "product":
            v = np.random.default_rng(0).normal(size=(1, self.n))
            v = np.where(self.n < 4, np.ones_like(v), v) * np.sqrt(self.n) / np.linalg.norm(v)
            return float(np.linalg.norm(self._one(v)))
        return float(np.linalg.norm(self.A if self.kind == "dense" else self.A.data))

    def terms(self, V: np.ndarray) -> np.ndarray:
        """|V||A| + |a| (q, n), which the rounding of VA − a is in proportion to; of a product, its typical size."""
        if self.kind == "product":
            size = np.linalg.norm(V, axis=1, keepdims=True) * self.frobenius / np.sqrt(self.n)
            return size + np.abs(self.a)
        return np.abs(V) @ abs(self.A) + np.abs(self.a)

    @cached_property
    def arnoldi(self) -> tuple[np.ndarray, np.ndarray]:
        """Ritz values and singular values of A on the Krylov rows v, vA, vA², … of a random v."""
        m = min(self.n, ARNOLDI)
        Q = np.zeros((m + 1, self.n))
        H = np.zeros((m + 1, m))  # A restricted: Q A = Hᵀ Q
        q = np.random.default_rng(1).normal(size=self.n)
        Q[0] = q / np.linalg.norm(q)
        for k in range(m):
            w = self._one(Q[k : k + 1])[0].astype(float)
            scale = np.linalg.norm(w)
            w, H[: k + 1, k] = orthogonal(Q[: k + 1], w)
            H[k + 1, k] = np.linalg.norm(w)
            if H[k + 1, k] <= 1e-13 * scale:  # the rows span all that A can reach
                return np.linalg.eigvals(H[: k + 1, : k + 1]), np.linalg.svd(H[: k + 1, : k + 1], compute_uv=False)
            Q[k + 1] = w / H[k + 1, k]
        return self._ritz(H), np.linalg.svd(H, compute_uv=False)

    @cached_property
    def bidiagonal(self) -> np.ndarray:
        """Singular values of A on the rows that V ↦ VA and V ↦ VAᵀ reach from a random one, decreasing.

        The largest is close, from below; the smallest from above. Of a matrix, they are the singular values. Source:
        Golub and Kahan, SIAM J. Numer. Anal. 2 (1965).
        """
        if self.dense is not None:
            return self.singular_values
        m, A_T = min(self.n, ARNOLDI), self.A.T
        P, Q, B = np.zeros((m, self.n)), np.zeros((m, self.n)), np.zeros((m, m))
        p = np.random.default_rng(1).normal(size=(self.n,))
        p = p / np.linalg.norm(p)
        alpha, beta = 0.0, 0.0
        for k in range(m):
            P[k] = p
            q = self._one(p[None])[0] - (beta * Q[k - 1] if k else 0.0)
            q = q - (Q[:k] @ q) @ Q[:k]
            alpha = float(np.linalg.norm(q))
            B[k, k] = alpha
            if not alpha > 1e-14 * B.max():
                return np.linalg.svd(B[: k + 1, : k + 1], compute_uv=False)
            Q[k] = q / alpha
            p = np.asarray(Q[k : k + 1] @ A_T)[0] - alpha * P[k]
            p = p - (P[: k + 1] @ p) @ P[: k + 1]
            beta = float(np.linalg.norm(p))
            if k + 1 == m or not beta > 1e-14 * B.max():
                return np.linalg.svd(B[: k + 1, : k + 1], compute_uv=False)
            B[k + 1, k] = beta
            p = p / beta
        raise AssertionError("unreachable")

    @staticmethod
    def _ritz(H: np.ndarray) -> np.ndarray:
        """Ritz values, without those right of the axis that have not converged.

        A non-normal A has such, Hurwitz or not.
        """
        λ, vectors = np.linalg.eig(H[:-1])
        off = H[-1, -1] * np.abs(vectors[-1])
        keep = (λ.real < 0) | (off < 0.01 * np.abs(λ))
        return λ[keep] if keep.any() else λ

    def _one(self, v: np.ndarray) -> np.ndarray:
        return np.asarray(v @ self.A)


def _singular_values(A: np.ndarray) -> np.ndarray:
    return np.linalg.svd(A, compute_uv=False)


def orthogonal(Q: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """w less its parts along the orthonormal rows of Q, and these parts; twice is enough (Kahan, Parlett)."""
    c = Q @ w
    w = w - c @ Q
    again = Q @ w
    return w - again @ Q, c + again


def _check_scale(name: str, values: np.ndarray) -> None:
    """Norms over- and underflow far from 1: a row of 1e-200 would count as a row of zeros."""
    size = float(np.abs(values).max(initial=0.0))
    if size and not 1.0 / SCALE <= size <= SCALE:
        raise UsageError(
            name, given=f"a largest entry of {size:.3g}", allowed=f"0, or {1 / SCALE:g} to {SCALE:g}",
            hint="other units: a power of two times A, or a, is the same problem",
        )  # fmt: skip
