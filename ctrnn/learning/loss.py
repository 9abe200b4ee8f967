"""The loss of a fit at trial points: −log posterior of the quantities theta, up to a constant.

    l(theta) = l_data + ½ Σ z_prior²

l_data is the problem's objective, with dl/dtheta by :func:`ctrnn.gradient`, or, of squared errors at times, ½ Σ ρ(z²)
of the residuals z (ctrnn.learning.residuals), which know noise, sigma and robust ρ. With an estimated sigma_j, Σ_j N_j
log sigma_j joins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import ConvergenceError, NotFiniteError, SolverError, UsageError, one_of
from ctrnn.events import EventError
from ctrnn.fields.checks import name_list
from ctrnn.gradients.api import value_and_gradient
from ctrnn.gradients.prepared import ValueAndGradient
from ctrnn.gradients.second.hessian import hessian_operator
from ctrnn.learning.noise import Noise, Normal
from ctrnn.learning.priors import Prior
from ctrnn.learning.residuals import Residuals, has_residuals
from ctrnn.learning.transforms import Coordinates
from ctrnn.numbers import positive
from ctrnn.problem import Settings

Array = NDArray[np.float64]

#: robust losses ρ(s) of s = z² with their first two derivatives, as in scipy.optimize.least_squares
ROBUST: dict[str, Callable[[Array], tuple[Array, Array, Array]]] = {
    "linear": lambda s: (s, np.ones_like(s), np.zeros_like(s)),
    "soft_l1": lambda s: (2 * (np.sqrt(1 + s) - 1), (1 + s) ** -0.5, -0.5 * (1 + s) ** -1.5),
    "huber": lambda s: (
        np.where(s <= 1, s, 2 * np.sqrt(np.maximum(s, 1)) - 1),
        np.where(s <= 1, 1.0, np.maximum(s, 1) ** -0.5),
        np.where(s <= 1, 0.0, -0.5 * np.maximum(s, 1) ** -1.5),
    ),
    "cauchy": lambda s: (np.log1p(s), 1 / (1 + s), -1 / (1 + s) ** 2),
    "arctan": lambda s: (np.arctan(s), 1 / (1 + s**2), -2 * s / (1 + s**2) ** 2),
}


@dataclass(frozen=True)
class Statement:
    """What a fit asks: which quantities move and how, what is known of them, and how data deviate.

    settings are solver, rtol, atol and dt; method is the gradient's.
    """

    parameters: tuple[str, ...] | None = None
    r0: bool = False
    transform: Any = "none"
    bounds: Mapping[str, Any] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    prior: Mapping[str, Prior] = field(default_factory=dict)
    noise: Noise = field(default_factory=Normal)
    sigma: Any = None
    robust: str = "linear"
    robust_scale: float = 1.0
    method: Any = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("robust", self.robust, ROBUST)
        positive("robust_scale", self.robust_scale)
        if isinstance(self.sigma, str) and self.sigma != "estimate":
            allowed = 'None, "estimate", a number, (p,) for the observables, or (K, p)'
            raise UsageError("sigma", given=self.sigma, allowed=allowed)
        if self.sigma is not None and not self.noise.has_sigma:
            raise UsageError("sigma", given=self.sigma, allowed=f"None: noise = {self.noise.name!r} has none")

    @property
    def estimates_sigma(self) -> bool:
        """Whether the standard deviations of the observables are fitted along."""
        return isinstance(self.sigma, str)

    @property
    def is_plain(self) -> bool:
        """Whether the loss is the problem's objective itself, and priors."""
        return self.noise.name == "normal" and self.sigma is None and self.robust == "linear"

    @property
    def knows_scale(self) -> bool:
        """Whether the loss is a negative log-likelihood as it stands.

        Sigma is known, estimated along, or taken for 1 beside a prior.
        """
        return self.sigma is not None or not self.noise.has_sigma or bool(self.prior)

    def coordinates(self, problem: Any) -> Coordinates:
        """The fitted quantities of a problem, from its values."""
        return Coordinates(problem, self.parameters, self.r0, self.transform, self.bounds, self.fixed)


class Loss:
    """l and dl/dtheta at trial points; keeps count, and the best point seen.

    ``by_residuals`` says from which of the two sources.
    """

    def __init__(
        self,
        coordinates: Coordinates,
        statement: Statement,
        by_residuals: bool = False,
        residuals: Residuals | None = None,
        theta: Array | None = None,
    ) -> None:
        self.coordinates, self.statement = coordinates, statement
        self.by_residuals = by_residuals or not statement.is_plain
        self.evaluations = self.rejected = 0
        self.theta = coordinates.start if theta is None else theta.copy()
        self.least = self.initial = np.inf
        self.slope = np.zeros_like(self.theta)
        if residuals is None and has_residuals(coordinates.problem(self.theta)):
            residuals = Residuals(coordinates, dict(statement.settings), statement.noise)
        self.residuals = residuals
        if self.by_residuals and residuals is None:
            raise UsageError(
                "problem",
                given="another loss",
                allowed="a squared error at observation times, for noise, sigma and robust",
            )
        #: priors of entries of theta, and of log sigma
        self.priors, self.sigma_priors = self._priors()
        given = 1.0 if statement.sigma is None or statement.estimates_sigma else statement.sigma
        self.sigma: Any = given
        if statement.estimates_sigma and residuals is not None:
            self.sigma = np.ones(residuals.observables)
        self._last: tuple[Array, Array, Array] | None = None
        #: the loss of the data and its gradient, made ready at the first point
        self._prepared: ValueAndGradient | None = None

    def like(self, by_residuals: bool) -> Loss:
        """Another one from the best point, with its own count."""
        other = Loss(self.coordinates, self.statement, by_residuals, self.residuals, self.theta)
        other.sigma = self.sigma
        return other

    def _priors(self) -> tuple[list[tuple[Array, Prior]], dict[int | None, Prior]]:
        found: list[tuple[Array, Prior]] = []
        of_sigma: dict[int | None, Prior] = {}
        for name, prior in self.statement.prior.items():
            if name == "sigma" and self.statement.estimates_sigma:
                of_sigma[None] = prior
                continue
            here, shape = self.coordinates.entries("prior", name)
            found.append((here, prior.spread(shape, name)))
        return found, of_sigma

    def begin(self) -> None:
        """The start, where a failure is an error."""
        l, slope = self.evaluate(self.theta)
        if not (np.isfinite(l) and np.all(np.isfinite(slope))):
            what = f"the loss at the start is {l}" if not np.isfinite(l) else "its gradient is not finite"
            raise ConvergenceError(f"fit cannot begin: {what}. Try: another start, or another objective")
        if l != 0.0 and not np.any(slope):
            raise ConvergenceError(
                f"fit cannot begin: the loss is {l:.6g} but its gradient is exactly zero at the start, as if it did "
                "not depend on what is fitted. Try: observations of other states or later times, other parameters, or "
                "another start"
            )
        self.initial, self.least, self.slope = l, l, slope

    def evaluate(self, theta: Array) -> tuple[float, Array]:
        """(l, dl/dtheta); raises what the solver raises."""
        if self.by_residuals:
            z, J = self.vector(theta)
            rho, weight = self.robust(z)
            return 0.5 * float(rho.sum()) + self.of_sigma(), J.T @ (weight * z)
        self.evaluations += 1
        problem = self.coordinates.problem(theta)
        if self._prepared is None:
            self._prepared = value_and_gradient(problem, self.statement.method, **self.statement.settings)
        g = self._prepared.at(problem)
        z, J = self.prior_residuals(theta)
        return float(g.loss) + 0.5 * float(z @ z), self.coordinates.gradient(g, theta) + J.T @ z

    def vector(self, theta: Array) -> tuple[Array, Array]:
        """The residuals of the data, then of the priors, and their Jacobian in theta.

        Those of the last point are kept.
        """
        if self._last is None or not np.array_equal(self._last[0], theta):
            assert self.residuals is not None
            self.evaluations += 1
            z, J = self.residuals(theta, self.sigma)
            z_prior, J_prior = self.prior_residuals(theta)
            self._last = theta.copy(), np.concatenate([z, z_prior]), np.concatenate([J, J_prior])
        return self._last[1], self._last[2]

    def prior_residuals(self, theta: Array) -> tuple[Array, Array]:
        """z (P,) of the priors and its Jacobian (P, k)."""
        w, scale = self.coordinates.w(theta), self.coordinates.scale(theta) * self.coordinates.free
        parts, k = [], len(theta)
        rows = []
        for here, prior in self.priors:
            z, z_w = prior.residual(w[here])
            J = np.zeros((len(here), k))
            J[np.arange(len(here)), here] = z_w * scale[here]
            parts.append(z)
            rows.append(J)
        return (np.concatenate(parts), np.concatenate(rows)) if parts else (np.empty(0), np.empty((0, k)))

    def robust(self, z: Array) -> tuple[Array, Array]:
        """ρ(z²) and its derivative by z²; priors are never robust."""
        rho, slope = z * z, np.ones_like(z)
        if self.statement.robust != "linear":
            C, N = self.statement.robust_scale, self.data_size
            value, weight, _ = ROBUST[self.statement.robust]((z[:N] / C) ** 2)
            rho[:N], slope[:N] = C**2 * value, weight
        return rho, slope

    @property
    def data_size(self) -> int:
        """Observed values."""
        return 0 if self.residuals is None else self.residuals.size

    def of_sigma(self) -> float:
        """Σ_j N_j log sigma_j and its priors, of an estimated sigma; else 0."""
        if not self.statement.estimates_sigma or self.residuals is None:
            return 0.0
        counts = self.counts
        total = float(counts @ np.log(self.sigma))
        for prior in self.sigma_priors.values():
            z, _ = prior.residual(self.sigma)
            total += 0.5 * float(z @ z)
        return total

    @property
    def counts(self) -> Array:
        """N_j, observed values of each observable (p,)."""
        assert self.residuals is not None
        j = np.concatenate([data.j for data in self.residuals.data])
        return np.bincount(j, minlength=self.residuals.observables).astype(float)

    def __call__(self, theta: Array) -> tuple[float, Array] | None:
        """(l, dl/dtheta), or None where there is no finite solution."""
        if np.array_equal(theta, self.theta) and np.isfinite(self.least):  # optimisers ask for the start again
            return self.least, self.slope
        found = self._attempt(theta)
        if found is None or not (np.isfinite(found[0]) and np.all(np.isfinite(found[1]))):
            self.rejected += 1
            return None
        if found[0] < self.least:
            self.theta, (self.least, self.slope) = theta.copy(), found
        return found

    def _attempt(self, theta: Array) -> tuple[float, Array] | None:
        if not np.all(np.isfinite(self.coordinates.w(theta))):
            return None  # exp theta is beyond float64
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # a loss beyond float64 is no solution
                return self.evaluate(theta)
        except (SolverError, NotFiniteError, EventError):  # there is no solution, or not the events that are asked for
            return None

    def hessian_product(self, theta: Array) -> Callable[[Array], Array]:
        """v -> (d²l/dtheta²) v at a point that has a solution; where w = exp theta, w dl/dw joins the diagonal."""
        c = self.coordinates
        operator = hessian_operator(c.problem(theta), self.solver_settings, "fit")
        found = self(theta)
        assert found is not None
        z, J = self.prior_residuals(theta)
        scale, corner = c.scale(theta) * c.free, np.where(c.log, found[1] - J.T @ z, 0.0)

        def product(v: Array) -> Array:
            whole = np.zeros(operator.size)
            whole[c.columns] = scale * v
            return scale * operator(whole)[c.columns] + corner * v + J.T @ (J @ v)

        return product

    @property
    def solver_settings(self) -> Settings:
        """How every solution is computed."""
        return Settings(**self.statement.settings)

    def pushed(self, theta: Array, slope: Array) -> NDArray[Any]:
        """Entries at a bound that the loss pushes outwards (k,)."""
        c = self.coordinates
        return ((theta <= c.lower) & (slope > 0)) | ((theta >= c.upper) & (slope < 0))


def quantities(argument: str, names: Any) -> tuple[str, ...] | None:
    """Names as a tuple; one name alone is one."""
    return None if names is None else tuple(name_list(argument, names))
