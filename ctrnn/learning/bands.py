"""How uncertain a fitted curve is: the errors of what was fitted, carried to the outputs by the sensitivities.

    Var o(t) = ∂o/∂w Σ (∂o/∂w)ᵀ                      of the curve, and of a new observation Var o(t) + sigma²

(the delta method; Seber & Wild, Nonlinear Regression, 1989, 5.1). A log-normal noise multiplies, so the band of its
observations is o exp(± q sigma) about the curve.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UsageError
from ctrnn.gradients.sensitivity.sensitivities import sensitivities
from ctrnn.learning.laplace import Fitted, output_labels, posterior
from ctrnn.learning.residuals import linearised
from ctrnn.numbers import number, real_array
from ctrnn.problem import Trials

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False, eq=False)
class Bands:
    """A fitted curve with its uncertainty.

    Attributes
    ----------
    t : (T,) times
    o : (T, p) the fitted outputs, named by ``names``
    sd : (T, p) the standard error of the curve
    curve : (2, T, p) lower and upper ends of the band of the curve
    observation : (2, T, p) and of a new observation; the same as ``curve`` where the noise is not known
    level : the confidence level of both
    """

    t: Array
    o: Array
    names: tuple[str, ...]
    sd: Array
    curve: Array
    observation: Array
    level: float

    def __repr__(self) -> str:
        return f"Bands of {', '.join(self.names)} at {len(self.t)} times, level {self.level:.0%}"


def bands(fitted: Fitted, t: Any, level: float = 0.95) -> Bands:
    """The outputs of a fitted problem at times (T,), with bands of their uncertainty; behind the data it is a forecast.

    Raises UsageError for trials and for a level outside (0, 1), and what ctrnn.laplace raises.
    """
    from scipy import stats

    problem, statement = fitted.problem, fitted.statement
    if isinstance(problem, Trials):
        raise UsageError("fit", given="a fit of trials", allowed="a fit of one problem, for bands")
    if not 0 < number("level", level) < 1:
        raise UsageError("level", given=level, allowed="a number between 0 and 1")
    errors = posterior(problem, statement, fitted.sigma)
    times = np.atleast_1d(real_array("t", t))
    start, end = problem.t_span
    if times.size and end < times.max() < np.inf:  # a forecast
        problem = problem.replace(t_span=(start, times.max()))
    run = sensitivities(problem, times, **dict(statement.settings))
    o, o_r, own = linearised(problem.objective, run.r)
    whole = np.einsum("kpn,kni->kpi", o_r, np.concatenate([run.p, run.p0], axis=2))
    if own is not None:
        whole = np.concatenate([whole, own], axis=2)
    coordinates = replace(statement, transform="none", bounds={}).coordinates(problem)
    J = whole[:, :, coordinates.columns[coordinates.free]]
    k = J.shape[2]
    variance = np.einsum("kpi,ij,kpj->kp", J, errors.covariance[:k, :k], J)
    sd = np.sqrt(np.maximum(variance, 0.0))
    known = statement.knows_scale
    degrees = errors.observations - k
    q = float(stats.norm.ppf(0.5 + level / 2) if known else stats.t.ppf(0.5 + level / 2, degrees))
    curve = np.stack([o - q * sd, o + q * sd])
    sigma = _sigma(fitted, errors.sigma, o.shape[1])
    if statement.noise.name == "poisson":
        spread = np.sqrt(variance + np.maximum(o, 0.0))
        observation = np.stack([np.maximum(o - q * spread, 0.0), o + q * spread])
    elif sigma is None:
        observation = curve
    elif statement.noise.name == "lognormal":
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.sqrt(sigma**2 + (sd / o) ** 2)
        observation = np.stack([o * np.exp(-q * relative), o * np.exp(q * relative)])
        curve = np.stack([o * np.exp(-q * sd / o), o * np.exp(q * sd / o)])
    else:
        spread = np.sqrt(variance + sigma**2)
        observation = np.stack([o - q * spread, o + q * spread])
    return Bands(run.t, o, output_labels(problem.objective), sd, curve, observation, level)


def _sigma(fitted: Fitted, common: float, p: int) -> Array | None:
    """The standard deviation of an observation of each output (p,), or None where it is not the same at all times."""
    if fitted.sigma is not None:
        return np.asarray(fitted.sigma, dtype=float)
    given = fitted.statement.sigma
    if given is None:
        return None if np.isnan(common) else np.full(p, common)
    return (
        None if np.ndim(given) > 1 or isinstance(given, list) else np.broadcast_to(np.asarray(given, dtype=float), (p,))
    )
