"""How well data determine what was fitted: near its minimum the loss is a parabola, and so the posterior a Gaussian.

    Σ = σ² (JᵀJ)⁻¹,   σ² = Σ_k a_k ‖o_k − y_k‖² / (N − k)     standard errors √Σ_ii,  correlations Σ_ij / √(Σ_ii Σ_jj)

J are the sensitivities of the N observed values to the k fitted quantities, JᵀJ the Gauss–Newton matrix (Seber & Wild,
Nonlinear Regression, 1989, 2.1.2). With the whole Hessian H in the place of JᵀJ it is the approximation of Laplace
(1774), which counts the curvature of the solution too. The two agree where the residuals are small. For the
cross-entropy, a negative log-likelihood, σ = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import SingularJacobianError, UsageError
from ctrnn.gradients.api import gradient
from ctrnn.gradients.second.hessian import gauss_newton_matrix, hessian_matrix
from ctrnn.learning.transforms import Coordinates
from ctrnn.problem import Settings, Trials

Array = NDArray[np.float64]

#: A condition (of the matrix scaled to a diagonal of 1) beyond which its inverse means nothing.
_SINGULAR = 1e14


@dataclass(frozen=True, repr=False, eq=False)
class Laplace:
    """Standard errors and correlations of k fitted quantities; prints as a table.

    Attributes
    ----------
    labels : tuple of str (k,)
        Names: parameters, then r0, then a read-out's V and c.
    values : ndarray (k,)
        What was fitted.
    standard_errors : ndarray (k,)
        From the Gauss–Newton matrix, in the units of the values.
    covariance : ndarray (k, k)
        Likewise.
    hessian_errors : ndarray (k,) or None
        From the whole Hessian; None where that is not positive definite, so that this is no minimum.
    sigma : float
        The standard deviation of one observation of weight 1.
    observations : int
        N.
    offset : float
        How far the minimum of the parabola is, in standard errors: much below 1 at the end of a fit.

    Examples
    --------
    >>> import ctrnn
    >>> line = ctrnn.Equations({"r": "k"}, parameters={"k": 2.0})
    >>> objective = ctrnn.Objective(target=[1.1, 1.9, 3.0], at=[0.5, 1.0, 1.5])
    >>> found = ctrnn.fit(ctrnn.Problem(line, r0=[0.0], t_span=(0.0, 1.5), objective=objective))
    >>> posterior = ctrnn.learning.laplace(found)
    >>> posterior.labels, posterior.observations
    (('k',), 3)
    """

    labels: tuple[str, ...]
    values: Array
    standard_errors: Array
    covariance: Array
    hessian_errors: Array | None
    sigma: float
    observations: int
    offset: float

    @property
    def correlations(self) -> Array:
        """The correlations (k, k) of the quantities."""
        s = self.standard_errors
        return self.covariance / np.outer(s, s)

    def __repr__(self) -> str:
        k = len(self.labels)
        lines = [
            f"{k} quantities from {self.observations} observations, sigma = {self.sigma:.5g}",
            f"{'':14}{'value':>13}{'std. error':>13}{'by Hessian':>13}{'relative':>10}",
        ]
        whole = np.full(k, np.nan) if self.hessian_errors is None else self.hessian_errors
        for name, value, s, s_H in zip(self.labels, self.values, self.standard_errors, whole, strict=True):
            by_hessian = f"{s_H:13.4g}" if np.isfinite(s_H) else f"{'-':>13}"
            relative = f"{abs(s / value):10.2%}" if value else f"{'':10}"
            lines.append(f"{name:14}{value:13.6g}{s:13.4g}{by_hessian}{relative}")
        if 1 < k <= 12:
            lines.append("correlations")
            for i, name in enumerate(self.labels):
                lines.append(f"{name:14}" + "".join(f"{c:7.3f}" for c in self.correlations[i, : i + 1]))
        if self.hessian_errors is None:
            lines.append("The Hessian is not positive definite: this is not a minimum of the loss.")
        if self.offset > 0.1:
            lines.append(f"The least lies about {self.offset:.2g} standard errors away: fit first.")
        return "\n".join(lines)


def laplace_at(problem: Any, parameters: Sequence[str] | None, r0: bool, settings: Settings) -> Laplace:
    """The approximation at a problem, or at trials, at the minimum of its loss (see ``ctrnn.learning.laplace``)."""
    objectives: list[Any] = [
        getattr(one, "objective", None) for one in (problem if isinstance(problem, Trials) else [problem])
    ]
    for objective in objectives:
        if objective is None or not objective.is_named or objective.times is None:
            given = "no objective" if objective is None else objective.describe()
            raise UsageError("problem", given=given, allowed="a squared error or a cross-entropy at observation times")
    losses = {objective.objective.loss for objective in objectives}
    if len(losses) > 1:
        raise UsageError(
            "problem", given="trials with several losses", allowed="a squared error, or a cross-entropy, in all"
        )
    coordinates = Coordinates(problem, parameters, r0, "none")
    columns, held = coordinates.columns, coordinates.free
    columns = columns[held]
    N, k = sum(int(np.count_nonzero(o.weights)) * o.output_size for o in objectives), len(columns)
    is_likelihood = losses == {"cross_entropy"}
    if k >= N and not is_likelihood:
        raise UsageError("problem", given=f"{N} observed values", allowed=f"more than the {k} fitted quantities")
    options = {"solver": settings.solver, "rtol": settings.rtol, "atol": settings.atol, "dt": settings.dt}
    found = gradient(problem, **options)
    sigma = 1.0 if is_likelihood else float(np.sqrt(2.0 * found.loss / (N - k)))
    M = gauss_newton_matrix(problem, settings, columns)
    inverse, condition = _inverse(M)
    if inverse is None or condition > _SINGULAR:
        weakest = coordinates.labels[int(np.flatnonzero(held)[_weakest(M)])]
        raise SingularJacobianError(
            condition, "the Gauss–Newton matrix of the fitted quantities", f"fit without {weakest}, or more data"
        )
    whole, _ = _inverse(hessian_matrix(problem, settings, columns, "laplace"))
    slope = coordinates.gradient(found, coordinates.start)[held]
    return Laplace(
        labels=tuple(np.array(coordinates.labels, dtype=object)[held]),
        values=coordinates.w(coordinates.start)[held],
        standard_errors=sigma * np.sqrt(np.diag(inverse)),
        covariance=sigma**2 * inverse,
        hessian_errors=None if whole is None else sigma * np.sqrt(np.diag(whole)),
        sigma=sigma,
        observations=N,
        offset=float(np.sqrt(max(slope @ inverse @ slope, 0.0)) / sigma) if sigma else 0.0,
    )


def _inverse(M: Array) -> tuple[Array | None, float]:
    """The inverse of a positive definite matrix, None of another one, and its condition.

    Both are of the matrix scaled to a diagonal of 1.
    """
    from scipy import linalg

    M = (M + M.T) / 2
    d = np.sqrt(np.abs(np.diag(M)))
    if not np.all(d > 0):
        return None, np.inf
    scaled = M / np.outer(d, d)
    eigenvalues = np.linalg.eigvalsh(scaled)
    condition = float(np.abs(eigenvalues).max() / max(np.abs(eigenvalues).min(), np.finfo(float).tiny))
    if eigenvalues[0] <= 0:
        return None, condition
    return linalg.cho_solve(linalg.cho_factor(scaled), np.eye(len(d))) / np.outer(d, d), condition


def _weakest(M: Array) -> int:
    """The quantity that the data determine least: the largest entry of the eigenvector of the smallest eigenvalue."""
    d = np.sqrt(np.abs(np.diag(M)))
    if not np.all(d > 0):
        return int(np.argmin(d))
    return int(np.argmax(np.abs(np.linalg.eigh(M / np.outer(d, d))[1][:, 0])))
