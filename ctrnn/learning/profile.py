"""Profile likelihood: the least loss with one quantity held, as a function of its value.

    l_p(w_i) = min over the others of l(w)            tau(w_i) = sign(w_i − ŵ_i) √(2 (l_p(w_i) − l̂)/s²)

The interval of level 1 − α is where |tau| ≤ q. Where sigma is not known, s² = 2 l̂/(N − k) and q is Student's t with N
− k degrees of freedom (Bates & Watts, Nonlinear Regression Analysis, 1988, 6.1); else s = 1 and q is the normal's. It
need not be symmetric, and where the data do not bound the quantity it is infinite on that side. Near the least tau is
(w_i − ŵ_i)/standard error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import ConvergenceError, CtrnnError, UsageError
from ctrnn.learning.convergence import solver_error
from ctrnn.learning.laplace import Fitted, posterior
from ctrnn.learning.loss import Loss
from ctrnn.learning.minimise import AUTO, chosen_optimizer, minimise, stay
from ctrnn.numbers import number

Array = NDArray[np.float64]

#: steps on one side, in standard errors at first
_STEPS = 40
#: what the step in tau aims at
_TAU_STEP = 0.5
#: standard errors after which a refit that fails ends the search: the data do not bound the quantity
_FAR = 100.0
#: errors of an end, relative to the standard error
_END = 1e-4


@dataclass(frozen=True, repr=False, eq=False)
class Profile:
    """The profile of one quantity.

    Attributes
    ----------
    name : the quantity
    value : its fitted value
    values : (P,) values at which it was held, increasing
    losses : (P,) the least loss at each
    tau : (P,) signed root of twice the rise of the loss, in standard deviations
    interval : (low, high), infinite where the loss does not rise enough
    level : its confidence level
    limit : what abs(tau) is at its ends
    others : name -> (P,) the other quantities, refitted
    """

    name: str
    value: float
    values: Array
    losses: Array
    tau: Array
    interval: tuple[float, float]
    level: float
    limit: float
    others: dict[str, Array]

    def __repr__(self) -> str:
        low, high = self.interval
        interval = f"{self.level:.0%} interval [{low:.6g}, {high:.6g}]"
        return f"Profile of {self.name} = {self.value:.6g}: {interval} from {len(self.values)} fits"


def profile(fitted: Fitted, name: str, level: float = 0.95) -> Profile:
    """The profile likelihood of the quantity ``name`` ("a", "W[0,1]", "r0[prey]") and its interval.

    Raises UnknownNameError for what was not fitted, UsageError for a level outside (0, 1), ConvergenceError for data
    that are met exactly and where no fit beside the least succeeds, and what ctrnn.laplace raises.
    """
    from scipy import stats

    level = number("level", level, "a number between 0 and 1", 5e-324, 1.0)
    statement, problem, sigma = fitted.statement, fitted.problem, fitted.sigma
    coordinates = statement.coordinates(problem)
    entries, _ = coordinates.entries("name", name)
    if len(entries) != 1:
        hint = f"one of its entries, as {coordinates.labels[int(entries[0])]!r}"
        raise UsageError("name", given=name, allowed="one number", hint=hint)
    entry = int(entries[0])
    label = coordinates.labels[entry]
    errors = posterior(problem, statement, sigma)
    se = float(errors.standard_errors[errors.labels.index(label)])
    optimizer = chosen_optimizer(AUTO, problem, statement)
    start = Loss(coordinates, statement)
    start.sigma = start.sigma if sigma is None else np.asarray(sigma, dtype=float)
    best, _ = start.evaluate(coordinates.start)
    if not statement.knows_scale and best <= solver_error(start):
        raise ConvergenceError("no profile: the data are met to the solver's accuracy, without noise. Try: sigma=…")
    degrees = errors.observations - len(errors.labels)
    if statement.knows_scale or np.isnan(errors.sigma):
        s, limit = 1.0, float(stats.norm.ppf(0.5 + level / 2))
    else:
        s, limit = errors.sigma, float(stats.t.ppf(0.5 + level / 2, degrees))
    value = float(coordinates.w(coordinates.start)[entry])
    low_bound, high_bound = (float(coordinates.w(b)[entry]) for b in (coordinates.lower, coordinates.upper))
    # a prior of what is held is a number of its own beside the fit of the others
    own_prior = statement.prior.get(label)
    logarithms = {name: "log" for name, (first, _) in coordinates.where.items() if coordinates.log[first]}

    def without(of: Mapping[str, Any]) -> dict[str, Any]:
        return {key: its for key, its in of.items() if key != label}

    held = replace(
        statement,
        fixed=(*statement.fixed, label),
        prior=without(statement.prior),
        bounds=without(statement.bounds or {}),
        transform=without(logarithms),
    )
    others_move = np.count_nonzero(coordinates.free) > 1
    rows: list[tuple[float, float, Array]] = [(value, best, coordinates.w(coordinates.start))]

    def at(v: float, near: Any, near_sigma: Any) -> tuple[float, Any, Any]:
        """l_p(v) from the problem ``near``: its problem and sigma too."""
        own = statement.coordinates(near)
        theta = own.start.copy()
        theta[entry] = np.log(v) if own.log[entry] else v
        there = own.problem(theta)
        found = minimise(there, held, optimizer, sigma=near_sigma) if others_move else stay(there, statement, optimizer)
        moved = found.problem
        every = statement.coordinates(moved)
        least = found.loss.least
        if own_prior is not None and others_move:
            least += 0.5 * float(own_prior.spread((), label).residual(np.array([v]))[0][0]) ** 2
        rows.append((v, least, every.w(every.start)))
        return least, moved, found.loss.sigma if statement.estimates_sigma else None

    def side(sign: float, bound: float) -> float:
        """The end of the interval on one side."""
        near, near_sigma, v, tau, step = problem, sigma, value, 0.0, _TAU_STEP * se
        failure: CtrnnError | None = None
        for _ in range(_STEPS):
            further = v + sign * step
            if coordinates.log[entry] and further <= 0.0:
                further = 0.5 * v
            if sign * (further - bound) >= 0:
                further = bound
            try:
                l, moved, moved_sigma = at(further, near, near_sigma)
            except CtrnnError as error:
                if abs(v - value) > _FAR * se:
                    break
                step, failure = step * 0.5, error
                continue
            failure = None
            new = float(np.sqrt(max(2 * (l - best), 0.0))) / s
            if new >= limit:
                return _between(v, tau, further, new, near, near_sigma)
            if further == bound:
                return bound
            # as far as the last step went in tau, and no more than twice as wide
            gain = max(new - tau, _TAU_STEP / 4)
            step = abs(further - v) * min(2.0, _TAU_STEP / gain)
            v, tau, near, near_sigma = further, new, moved, moved_sigma
        if failure is not None:
            raise ConvergenceError(
                f"the profile of {label} cannot be followed beyond {v:.6g}: {failure}. Try: bounds={{{label!r}: …}}"
            ) from failure
        return sign * np.inf

    def _between(v: float, tau: float, w: float, new: float, near: Any, near_sigma: Any) -> float:
        """Regula falsi with bisection where it is slow."""
        guess = w
        for turn in range(30):
            share = (limit - tau) / (new - tau) if turn % 4 < 3 else 0.5
            guess = v + share * (w - v)
            l, moved, moved_sigma = at(guess, near, near_sigma)
            here = float(np.sqrt(max(2 * (l - best), 0.0))) / s
            if abs(here - limit) <= _END or abs(w - v) <= 1e-12 * abs(v):
                break
            if here < limit:
                v, tau, near, near_sigma = guess, here, moved, moved_sigma
            else:
                w, new = guess, here
        return guess

    interval = side(-1.0, low_bound), side(1.0, high_bound)
    rows.sort(key=lambda row: row[0])
    values, losses = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    quantities = np.stack([row[2] for row in rows])
    tau = np.sign(values - value) * np.sqrt(np.maximum(2 * (losses - best), 0.0)) / s
    named = {
        other: quantities[:, i] for i, other in enumerate(coordinates.labels) if i != entry and coordinates.free[i]
    }
    return Profile(label, value, values, losses, tau, interval, level, limit, named)
