r"""Directions: the principal components of runs, and the linear subspaces of a point of rest.

    principal components   C = (1/K) Σ (r_k − r̄)(r_k − r̄)ᵀ = Σ_i v_i d_i d_iᵀ          v_1 ≥ v_2 ≥ …
    participation ratio    (Σ v_i)² / Σ v_i²                       how many directions the runs use, 1 to n
    linear subspaces       J S = S T                               Schur's form, ordered: the growing modes first

The first columns of S span the unstable subspace of the linearised flow; the stable one comes from the other order.

Sources: Gao and others, "A theory of multineuronal dimensionality" (2017), for the ratio; Golub and Van Loan, *Matrix
Computations*, section 7.6, for ordered Schur forms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.analysis.equilibria import ZERO_REAL_PART
from ctrnn.analysis.nonnormal import in_its_unit, square
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.memory import claim
from ctrnn.numbers import real_array, whole
from ctrnn.states import runs_of

__all__ = ["LinearSubspaces", "Projection", "linear_subspaces", "participation_ratio", "principal_components"]


@dataclass(frozen=True, eq=False, repr=False)
class Projection:
    """Principal components of states: a call gives the coordinates of other states along them.

    Attributes
    ----------
    mean : ndarray (n,)
        r̄.
    directions : ndarray (k, n)
        Orthonormal rows, that of the largest variance first; the largest entry of each is positive.
    variances : ndarray (n,)
        Along all n directions, in units of r².

    Examples
    --------
    >>> plane = principal_components([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    >>> plane([3.0, 1.0]), plane.explained.round(3)
    (array([1., 0.]), array([1., 0.]))
    """

    mean: Array
    directions: Array
    variances: Array

    def __repr__(self) -> str:
        k, n = self.directions.shape
        shares = ", ".join(f"{share:.1%}" for share in self.explained[:4])
        more = ", …" if n > 4 else ""
        return f"Projection(on {k} of {n} directions; of the variance {shares}{more})"

    def __call__(self, r: Any) -> Array:
        """Coordinates (…, k) of states (…, n)."""
        r = real_array("r", getattr(r, "r", r))
        if r.shape[-1:] != self.mean.shape:
            raise UsageError("r", given=f"shape {r.shape}", allowed=f"states of {self.mean.size} numbers")
        return np.asarray((r - self.mean) @ self.directions.T)

    def back(self, coordinates: Any) -> Array:
        """The states (…, n) in the span of the directions that have these coordinates (…, k)."""
        along = real_array("coordinates", coordinates)
        if along.shape[-1:] != (len(self.directions),):
            raise UsageError("coordinates", given=f"shape {along.shape}", allowed=f"(…, {len(self.directions)})")
        return np.asarray(self.mean + along @ self.directions)

    @property
    def explained(self) -> Array:
        """(n,) the share of the whole variance along each direction."""
        total = self.variances.sum()
        return self.variances / total if total else self.variances

    @property
    def participation_ratio(self) -> float:
        """How many directions the states use: (Σ v)²/Σ v²."""
        return _ratio(self.variances)


def principal_components(states: Any, k: int | None = None) -> Projection:
    """The directions along which states vary most.

    Parameters
    ----------
    states : (K, n) array_like, Trajectory, or a sequence of them
        States; of several runs all of them, taken together. (B, T, n) are B runs.
    k : int, optional
        How many directions; None: n, or K − 1 where that is less.

    Returns
    -------
    Projection
        ``projection(r)`` gives coordinates, ``.explained`` the shares of the variance.

    Raises
    ------
    UsageError
        For fewer than two states, states that are not finite, or a k that is not allowed.

    Examples
    --------
    >>> principal_components([[0.0, 0.0], [1.0, 1.0]]).directions.round(6)
    array([[0.707107, 0.707107]])
    """
    r = _all("states", states)
    K, n = r.shape
    if K < 2:
        raise UsageError("states", given=f"{K} states", allowed="two or more")
    most = min(n, K - 1)
    k = most if k is None else whole("k", k, 1, f"a number of directions, 1 to {min(n, K)}", min(n, K))
    r, unit = in_its_unit(r)
    mean = r.mean(axis=0)
    _, σ, Vh = np.linalg.svd(r - mean, full_matrices=False)
    directions = Vh[:k]
    largest = directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)]
    variances = np.zeros(n)
    with np.errstate(over="ignore"):
        variances[: σ.size] = (unit * σ) ** 2 / K
    if not np.isfinite(variances).all():
        raise UsageError("states", given=f"states that vary by {unit * σ[0]:.3g}", allowed="less than 1e154")
    return Projection(unit * mean, directions * np.where(largest < 0, -1.0, 1.0)[:, None], variances)


def participation_ratio(states: Any) -> float:
    """How many directions states use: (Σ v)²/Σ v², v the variances along the principal components.

    Parameters
    ----------
    states : as in `principal_components`

    Returns
    -------
    float
        From 1 (a line) to n (a ball).

    Raises
    ------
    UsageError
        For fewer than two states, or states that do not vary.

    Examples
    --------
    >>> t = np.linspace(0.0, 2 * np.pi, 100, endpoint=False)
    >>> round(participation_ratio(np.stack([np.cos(t), np.sin(t), 0 * t], axis=1)), 9)  # a circle
    2.0
    """
    r, _ = in_its_unit(_all("states", states))
    variances = np.linalg.svd(r - r.mean(axis=0), compute_uv=False) ** 2
    if not variances.sum() > 0:
        raise UsageError("states", given="states that do not vary", allowed="different states")
    return _ratio(variances)


def _all(argument: str, states: Any) -> Array:
    """States (K, n) of all runs, if there is room for their singular vectors too."""
    runs = runs_of(argument, states)
    claim(argument, 40.0 * sum(run.size for run in runs), "fewer states")
    return np.concatenate(runs)


def _ratio(variances: Array) -> float:
    return float(variances.sum() ** 2 / (variances**2).sum())


@dataclass(frozen=True, eq=False, repr=False)
class LinearSubspaces:
    """The invariant subspaces of the linearised flow at a point.

    Attributes
    ----------
    unstable, centre, stable : ndarray (n, u), (n, c), (n, s)
        Orthonormal bases, one vector a column, of the growing, the neutral and the decaying modes; u + c + s = n.
    eigenvalues : ndarray (n,)
        Complex, per unit of t, real parts descending: first those of ``unstable``.

    Examples
    --------
    >>> found = linear_subspaces([[0.0, 1.0], [1.0, 0.0]])  # a saddle: e^t along (1, 1)
    >>> np.abs(found.unstable[:, 0]).round(6)
    array([0.707107, 0.707107])
    """

    unstable: Array
    centre: Array
    stable: Array
    eigenvalues: Array

    def __repr__(self) -> str:
        counts = (f"{name} {getattr(self, name).shape[1]}" for name in ("unstable", "centre", "stable"))
        return f"LinearSubspaces(dimensions: {', '.join(counts)})"


def linear_subspaces(J: Any) -> LinearSubspaces:
    """The unstable, centre and stable subspaces of a Jacobian.

    Parameters
    ----------
    J : (n, n) array_like
        A Jacobian, or an `Equilibrium`.

    Returns
    -------
    LinearSubspaces
        Orthonormal bases; J maps each span into itself.

    Raises
    ------
    UsageError
        For what is no finite square matrix.

    Notes
    -----
    From ordered real Schur forms, so that no eigenvector of a defective J is needed. A real part counts as zero below
    1e-9 of the largest modulus, as in `classify`.

    Examples
    --------
    >>> found = linear_subspaces([[-1.0, 5.0], [0.0, -2.0]])
    >>> found.unstable.shape, found.stable.shape
    ((2, 0), (2, 2))
    """
    from scipy.linalg import schur

    J, unit = in_its_unit(square(J))
    λ = np.linalg.eigvals(J).astype(np.complex128)
    zero = ZERO_REAL_PART * float(np.abs(λ).max(initial=0.0))

    def span(chosen: Any) -> Array:
        # the sort function of SciPy's real Schur form takes the real and the imaginary part
        _, S, count = schur(J, output="real", sort=lambda re, im=0.0: bool(chosen(np.real(re))))
        return np.asarray(S[:, :count])

    return LinearSubspaces(
        span(lambda re: re > zero),
        span(lambda re: abs(re) <= zero),
        span(lambda re: re < -zero),
        unit * λ[np.lexsort((-λ.imag, -λ.real))],
    )
