"""How well data determine what was fitted: the loss near its least is a parabola, and so the posterior a Gaussian.

    Σ = σ² (JᵀJ)⁻¹,   σ² = Σ_k a_k ‖o_k − y_k‖² / (N − k)
    standard errors √Σ_ii,  correlations Σ_ij / √(Σ_ii Σ_jj)

J are the sensitivities of the N observed values to the k fitted quantities, JᵀJ the Gauss–Newton matrix (Seber & Wild,
Nonlinear Regression, 1989, 2.1.2). With the whole Hessian H in the place of JᵀJ it is the approximation of Laplace
(1774), which counts the curvature of the solution too. The two agree where the residuals are small. For the cross-
entropy, a negative log-likelihood, σ = 1.

Where σ is known or estimated along, and beside priors, JᵀJ/σ² and the priors' own curvature add up to the posterior's,
and an estimated u_j = log σ_j joins with d²l/du_j² = 2 S_j/σ_j² and d²l/du_j dw = −2 Jᵀz of its observable. A robust
loss has the sandwich A⁻¹ (Σ ψ_i² J_iᵀJ_i) A⁻¹, A = Σ ψ′_i J_iᵀJ_i, ψ = ρ′ z (Huber 1967).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as data
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import SingularJacobianError, SolverError, UsageError
from ctrnn.gradients.api import gradient
from ctrnn.gradients.second.hessian import gauss_newton_matrix, hessian_matrix
from ctrnn.learning.convergence import solver_error
from ctrnn.learning.loss import ROBUST, Loss, Statement, quantities
from ctrnn.learning.priors import Prior
from ctrnn.learning.residuals import has_residuals
from ctrnn.named_losses import LOSSES
from ctrnn.numbers import flag
from ctrnn.problem import Trials

Array = NDArray[np.float64]

#: A condition (of the matrix scaled to a diagonal of 1) beyond which its inverse means nothing.
_SINGULAR = 1e14
#: and one beyond which the square of a matrix has lost too many digits
_SQUARED = 1e10


#: quantities up to which a Hessian is taken by differences
_MOST_DIFFERENCES = 40


class Fitted:
    """What has been fitted: a problem at its least, what was asked, and the sigma (p,) that were estimated, or None."""

    problem: Any
    statement: Statement
    sigma: Any


@dataclass(frozen=True, repr=False, eq=False)
class Laplace:
    """Standard errors and correlations of k fitted quantities; prints as a table.

    Attributes
    ----------
    labels : tuple of str (k,)
        Names: parameters, then r0, then a read-out's V and c, then the sigma that were estimated.
    values : ndarray (k,)
        What was fitted.
    standard_errors : ndarray (k,)
        From the Gauss–Newton matrix, in the units of the values.
    covariance : ndarray (k, k)
        Likewise.
    hessian_errors : ndarray (k,) or None
        From the whole Hessian; None where that is not positive definite, or not to be had.
    sigma : float
        The standard deviation of one observation of weight 1; NaN where it was given, is among the values, or does not
        exist.
    observations : int
        N.
    offset : float
        How far the minimum of the parabola is, in standard errors: much below 1 at the end of a fit.
    is_minimum : bool
        Whether the Hessian, where it is known, is positive definite.
    is_exact : bool
        Whether the data are met to the solver's accuracy: sigma and the errors are then that of the solver.

    Examples
    --------
    >>> import ctrnn
    >>> line = ctrnn.Equations({"r": "k"}, parameters={"k": 2.0})
    >>> objective = ctrnn.Objective(target=[1.1, 1.9, 3.0], at=[0.5, 1.0, 1.5])
    >>> found = ctrnn.fit(ctrnn.Problem(line, r0=[0.0], t_span=(0.0, 1.5), objective=objective))
    >>> laplace(found).labels, laplace(found).observations
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
    is_minimum: bool = True
    is_exact: bool = False

    @property
    def correlations(self) -> Array:
        """The correlations (k, k) of the quantities."""
        s = self.standard_errors
        return self.covariance / np.outer(s, s)

    def __repr__(self) -> str:
        k = len(self.labels)
        said = "" if np.isnan(self.sigma) else f", sigma = {self.sigma:.5g}"
        lines = [
            f"{k} quantities from {self.observations} observations" + said,
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
        if not self.is_minimum:
            lines.append("The Hessian is not positive definite: this is not a minimum of the loss.")
        if self.is_exact:
            lines.append("The data are met to the solver's accuracy: these errors are those of the solver.")
        elif self.offset > 0.1:
            lines.append(f"The least lies about {self.offset:.2g} standard errors away: fit first.")
        return "\n".join(lines)


def laplace(
    problem: Any,
    parameters: Sequence[str] | None = None,
    *,
    r0: bool = False,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
) -> Laplace:
    """Standard errors and correlations of fitted parameters.

    Parameters
    ----------
    problem : Fit, Problem or Trials
        A fit knows what it fitted and how it solved; the other arguments are then not used. Or a problem at the minimum
        of its loss, a log-likelihood (ctrnn.named_losses) at observation times; or trials of such, whose observations
        count together.
    parameters : sequence of str, optional
        Names of the fitted ones, all by default.
    r0 : bool, default False
        Whether the initial state was fitted too.
    solver, rtol, atol, dt
        Of every solution, see `ctrnn.simulate`.

    Returns
    -------
    Laplace
        Prints as a table.

    Raises
    ------
    UsageError
        For other objectives, and for no more observations than fitted quantities.
    SingularJacobianError
        Where the data do not determine all quantities.

    Notes
    -----
    Everything is in natural units, also where the fit moved logarithms. Weights count as inverse variances up to the
    common factor σ². A trained read-out counts among the fitted. Bounds are not taken into account. Formulas and
    sources are at the top of `ctrnn.learning.laplace`.

    Examples
    --------
    >>> import ctrnn
    >>> t = np.array([0.5, 1.0, 1.5])
    >>> line = ctrnn.Equations({"r": "k"}, parameters={"k": 2.0})  # r = k t: k = Σ t y / Σ t²
    >>> objective = ctrnn.Objective(target=[1.1, 1.9, 3.0], at=t)
    >>> found = ctrnn.fit(ctrnn.Problem(line, r0=[0.0], t_span=(0.0, 1.5), objective=objective))
    >>> e = found.parameters["k"] * t - [1.1, 1.9, 3.0]
    >>> bool(abs(laplace(found).standard_errors[0] - np.sqrt(e @ e / 2 / (t @ t))) < 1e-8)
    True
    """
    if isinstance(problem, Fitted):
        return posterior(problem.problem, problem.statement, problem.sigma)
    settings = {"solver": solver, "rtol": rtol, "atol": atol, "dt": dt}
    return posterior(problem, Statement(quantities("parameters", parameters), flag("r0", r0), settings=settings), None)


def posterior(problem: Any, statement: Statement, sigma: Any) -> Laplace:
    """Standard errors of what ``statement`` says was fitted, at the values of ``problem``.

    Sigma (p,) those that were estimated.
    """
    statement = replace(statement, transform="none", bounds={})
    objectives: list[Any] = [
        getattr(one, "objective", None) for one in (problem if isinstance(problem, Trials) else [problem])
    ]
    for objective in objectives:
        named = None if objective is None else objective.named
        if named is None or not named.likelihood or objective.times is None:
            given = "no objective" if objective is None else objective.describe()
            names = ", ".join(name for name, loss in LOSSES.items() if loss.likelihood)
            raise UsageError("problem", given=given, allowed=f"a log-likelihood ({names}) at observation times")
    losses = {objective.objective.loss for objective in objectives}
    if len(losses) > 1:
        raise UsageError("problem", given="trials with several losses", allowed="one loss in all")
    coordinates = statement.coordinates(problem)
    held = coordinates.free
    columns = coordinates.columns[held]
    N, k = sum(_observed(o) for o in objectives), len(columns)
    knows_scale = statement.knows_scale or objectives[0].named.likelihood == "exact" or statement.robust != "linear"
    if k >= N and not knows_scale:
        raise UsageError("problem", given=f"{N} observed values", allowed=f"more than the {k} fitted quantities")
    parts = (
        _plain(problem, statement, columns) if statement.is_plain else _by_residuals(problem, statement, sigma, held)
    )
    sd = 1.0 if knows_scale else float(np.sqrt(2.0 * parts.loss / max(N - k, 1)))
    scale = sd or 1.0  # data that are met exactly leave no error
    _, J_prior, curvature, slope_prior = _priors(problem, statement, held)
    M = parts.M / scale**2 + J_prior.T @ J_prior
    slope = parts.slope / scale**2 + slope_prior
    H = None if parts.H is None else parts.H / scale**2 + np.diag(curvature)
    labels, values = list(np.array(coordinates.labels, dtype=object)[held]), coordinates.w(coordinates.start)[held]
    if statement.estimates_sigma:
        assert parts.border is not None
        M = np.block([[M, parts.border.T], [parts.border, np.diag(parts.corner)]])
        H = None if H is None else np.block([[H, parts.border.T], [parts.border, np.diag(parts.corner)]])
        labels += [f"sigma[{name}]" for name in parts.names]
        values, slope = np.concatenate([values, sigma]), np.concatenate([slope, np.zeros(len(sigma))])
    inverse, condition = _inverse(M)
    if condition > _SQUARED and parts.J is not None and not statement.estimates_sigma:
        inverse, condition = _inverse_of_squares(np.concatenate([parts.J() / scale, J_prior]))
    if inverse is None or condition > _SINGULAR:
        weakest = labels[_weakest(M)]
        raise SingularJacobianError(
            condition, "the Gauss–Newton matrix of the fitted quantities", f"fit without {weakest}, or more data"
        )
    covariance = inverse if parts.meat is None else inverse @ (parts.meat + J_prior.T @ J_prior) @ inverse
    whole, _ = (None, 0.0) if H is None else _inverse(H)
    # log sigma -> sigma
    unit = np.concatenate([np.ones(k), sigma]) if statement.estimates_sigma else np.ones(k)
    covariance = unit[:, None] * covariance * unit * (sd > 0)
    exact = not knows_scale and has_residuals(problem) and parts.loss <= solver_error(Loss(coordinates, statement))
    known = statement.sigma is not None and not statement.estimates_sigma
    common = np.nan if known or statement.estimates_sigma or not statement.noise.has_sigma else sd
    return Laplace(
        labels=tuple(labels),
        values=values,
        standard_errors=np.sqrt(np.diag(covariance)),
        covariance=covariance,
        hessian_errors=None if whole is None else unit * np.sqrt(np.diag(whole)) * (sd > 0),
        sigma=common,
        observations=N,
        offset=max(float(slope @ inverse @ slope), 0.0) ** 0.5 if sd else 0.0,
        is_minimum=H is None or whole is not None,
        is_exact=exact,
    )


@dataclass
class _Parts:
    """Of the data at sigma.

    The loss, its slope (k,), the Gauss–Newton matrix, the Hessian or None; the meat of a sandwich; what log sigma adds.
    """

    loss: float
    slope: Array
    M: Array
    H: Array | None
    meat: Array | None = None
    border: Array | None = None
    corner: Any = data(default_factory=lambda: np.empty(0))
    names: tuple[str, ...] = ()
    J: Callable[[], Array] | None = None


def _plain(problem: Any, statement: Statement, columns: Array) -> _Parts:
    settings = dict(statement.settings)
    coordinates = statement.coordinates(problem)
    solver = Loss(coordinates, replace(statement, prior={})).solver_settings
    found = gradient(problem, **settings)
    slope = coordinates.gradient(found, coordinates.start)[coordinates.free]
    if solver.library:  # another library's steps have no record
        loss = Loss(coordinates, replace(statement, prior={}), by_residuals=True)
        z, J = loss.vector(coordinates.start)
        J = J[:, coordinates.free]
        return _Parts(float(found.loss), slope, J.T @ J, None)

    def jacobian() -> Array:
        loss = Loss(coordinates, replace(statement, prior={}), by_residuals=True)
        return loss.vector(coordinates.start)[1][:, coordinates.free]

    M = gauss_newton_matrix(problem, solver, columns)
    H = hessian_matrix(problem, solver, columns, "laplace")
    return _Parts(float(found.loss), slope, M, H, J=jacobian if has_residuals(problem) else None)


def _by_residuals(problem: Any, statement: Statement, sigma: Any, held: Array) -> _Parts:
    coordinates = statement.coordinates(problem)
    loss = Loss(coordinates, replace(statement, prior={}), by_residuals=True)
    if statement.estimates_sigma:
        loss.sigma = np.asarray(sigma, dtype=float)
    theta, residuals = coordinates.start, loss.residuals
    assert residuals is not None
    z, J = loss.vector(theta)
    J = J[:, held]
    rho, weight = loss.robust(z)
    l, slope = 0.5 * float(rho.sum()), J.T @ (weight * z)
    H = _differences(loss, theta, np.flatnonzero(held))
    if statement.robust != "linear":
        C = statement.robust_scale
        _, w, bend = ROBUST[statement.robust]((z / C) ** 2)
        A = J.T @ (np.maximum(w + 2 * bend * (z / C) ** 2, 0.0)[:, None] * J)
        return _Parts(l, slope, A, H, meat=J.T @ ((w * z)[:, None] ** 2 * J))
    M = residuals.information(theta, loss.sigma)[np.ix_(held, held)]
    if not statement.estimates_sigma:
        return _Parts(l, slope, M, H)
    j = np.concatenate([one.j for one in residuals.data])
    border = np.stack([-2.0 * (J[j == i].T @ z[j == i]) for i in range(residuals.observables)])
    corner = 2.0 * np.bincount(j, weights=z * z, minlength=residuals.observables)
    for prior in loss_priors(statement).values():
        one = prior.spread((residuals.observables,), "sigma")
        # in u = log sigma: d²/du² = sigma² d²/dsigma² + sigma d/dsigma
        r, r_s = one.residual(loss.sigma)
        corner = corner + loss.sigma**2 * one.curvature(loss.sigma) + loss.sigma * r * r_s
    first = problem[0] if isinstance(problem, Trials) else problem
    return _Parts(l, slope, M, H, None, border, corner, output_labels(first.objective))


def loss_priors(statement: Statement) -> dict[str, Prior]:
    """The prior of sigma, where it is estimated and has one."""
    return {k: v for k, v in statement.prior.items() if k == "sigma" and statement.estimates_sigma}


def output_labels(objective: Any) -> tuple[str, ...]:
    """A name for each output: the states', or their numbers of a read-out."""
    if objective.readout is not None:
        return tuple(str(i) for i in range(objective.output_size))
    names = objective.state_names
    return tuple(names) if objective.selection is None else tuple(names[i] for i in objective.selection)


def _priors(problem: Any, statement: Statement, held: Array) -> tuple[Array, Array, Array, Array]:
    """z of the priors, its Jacobian (P, k), the curvature they give to each quantity (k,), and their slope (k,)."""
    coordinates = statement.coordinates(problem)
    loss = Loss(coordinates, statement)
    z, J = loss.prior_residuals(coordinates.start)
    curvature, w = np.zeros(len(coordinates.start)), coordinates.w(coordinates.start)
    for here, prior in loss.priors:
        curvature[here] += prior.curvature(w[here])
    J = J[:, held]
    return z, J, curvature[held], J.T @ z


def _differences(loss: Loss, theta: Array, entries: NDArray[Any]) -> Array | None:
    """The Hessian (k, k) of the data's loss by central differences of its exact slope.

    None where a neighbour has no solution.
    """
    k = len(entries)
    if k > _MOST_DIFFERENCES:
        return None
    H = np.empty((k, k))
    for i, entry in enumerate(entries):
        h = 1e-4 * max(abs(theta[entry]), 1e-3 * loss.coordinates.sizes[entry])
        slopes = []
        for sign in (1.0, -1.0):
            moved = theta.copy()
            moved[entry] += sign * h
            try:
                slopes.append(loss.evaluate(moved)[1][entries])
            except SolverError:
                return None
        H[i] = (slopes[0] - slopes[1]) / (2 * h)
    return (H + H.T) / 2 if np.isfinite(H).all() else None


def _observed(objective: Any) -> int:
    """Observed values with a weight."""
    if objective.objective.has_entries:
        return int(np.count_nonzero(objective.entry_weights))
    return int(np.count_nonzero(objective.weights)) * int(objective.output_size)


def _inverse(M: Array) -> tuple[Array | None, float]:
    """M⁻¹ of a positive definite matrix, None of another one, and its condition when scaled to a diagonal of 1."""
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


def _inverse_of_squares(J: Array) -> tuple[Array | None, float]:
    """(JᵀJ)⁻¹ from the singular values of J, of which twice as many digits are left, and the condition of J."""
    d = np.linalg.norm(J, axis=0)
    if not np.all(d > 0):
        return None, np.inf
    _, s, Vt = np.linalg.svd(J / d, full_matrices=False)
    if len(s) < len(d) or s[-1] <= 0:
        return None, np.inf
    inner = Vt / s[:, None]
    return inner.T @ inner / np.outer(d, d), float(s[0] / s[-1])


def _weakest(M: Array) -> int:
    """The entry that the data determine least: the largest of the eigenvector of the least eigenvalue."""
    d = np.sqrt(np.abs(np.diag(M)))
    if not np.all(d > 0):
        return int(np.argmin(d))
    return int(np.argmax(np.abs(np.linalg.eigh(M / np.outer(d, d))[1][:, 0])))
