"""The least of a fit's loss from one start: a descent, and around it the standard deviations, where they are estimated.

    sigma_j = argmin N_j log sigma + S_j/(2 sigma²) + prior        S_j = Σ_k a_kj z_kj² at sigma = 1

in turn with theta at these sigma, until neither moves: coordinate descent on one likelihood, whose blocks are nearly
independent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import ConvergenceError, CtrnnError, UsageError
from ctrnn.learning.convergence import solver_error
from ctrnn.learning.descent import MOST_COLUMNS, Ending, descend
from ctrnn.learning.loss import Loss, Statement
from ctrnn.learning.optimizers import LEAST_SQUARES, NEWTON, OWN, SCIPY, known_optimizer
from ctrnn.learning.residuals import has_residuals
from ctrnn.solvers.runge_kutta import tableau_of

Array = NDArray[np.float64]

AUTO = "auto"
#: turns of theta and sigma
_TURNS = 60
_SIGMA_TOLERANCE = 1e-7


@dataclass
class Minimum:
    """The loss at its best point, how the descent ended, and its history."""

    loss: Loss
    ending: Ending
    history: list[float]

    @property
    def problem(self) -> Any:
        """The problem at its best point."""
        return self.loss.coordinates.problem(self.loss.theta)

    def begun_at(self, first: Loss) -> None:
        """Tell the history from the start of ``first``, from which another method has led here."""
        try:
            l, _ = first.evaluate(first.theta)
        except CtrnnError:
            l = np.inf
        self.loss.initial = l
        self.history.insert(0, l)


def chosen_optimizer(optimizer: str, problem: Any, statement: Statement) -> str:
    """The optimiser's own name.

    "auto" is least squares where there are residuals and at most some hundred quantities, else L-BFGS-B.

    Raises UsageError where the optimiser cannot do what is asked, UnknownNameError for one that does not exist.
    """
    coordinates = statement.coordinates(problem)
    squares = has_residuals(problem)
    if isinstance(optimizer, str) and optimizer == AUTO:
        is_auto = isinstance(statement.method, str) and statement.method == AUTO
        if squares and (not statement.is_plain or (is_auto and len(coordinates.start) <= MOST_COLUMNS)):
            return LEAST_SQUARES[0]
        return "L-BFGS-B"
    name = known_optimizer(optimizer)
    if name in LEAST_SQUARES and not squares:
        allowed = "a squared error at observation times, for least squares"
        raise UsageError("optimizer", given=name, allowed=allowed, hint="newton-cg or L-BFGS-B, which take any loss")
    if statement.robust != "linear" and name not in LEAST_SQUARES:
        raise UsageError("optimizer", given=name, allowed=", ".join(LEAST_SQUARES) + ", for a robust loss")
    if name == NEWTON:
        tableau_of(Loss(coordinates, statement).solver_settings, f"the optimizer {name}")
        if not statement.is_plain:
            raise UsageError("optimizer", given=name, allowed="another one, where noise or sigma are given")
    if coordinates.is_bounded and not SCIPY.get(name, True):
        can = [*(other for other, knows in SCIPY.items() if knows), *OWN]
        raise UsageError("optimizer", given=name, allowed="one that keeps the field's bounds: " + ", ".join(can))
    return name


def minimise(
    problem: Any,
    statement: Statement,
    optimizer: str,
    max_iterations: int = 200,
    learning_rate: float = 1e-2,
    tell: Callable[[int, float], None] | None = None,
    sigma: Any = None,
) -> Minimum:
    """The least that is reached from the values of ``problem`` by the optimiser of that name (``chosen_optimizer``).

    Sigma are first values.
    """
    coordinates = statement.coordinates(problem)
    loss = Loss(coordinates, statement, by_residuals=optimizer in LEAST_SQUARES)
    if statement.estimates_sigma:
        loss.sigma = _sigma(loss) if sigma is None else np.array(sigma, dtype=float)
    loss.begin()
    history = [loss.least]

    def note(l: float) -> None:
        history.append(l)
        if tell is not None:
            tell(len(history) - 1, l)

    if not coordinates.free.any():
        return stay(problem, statement, optimizer)
    if not statement.estimates_sigma:
        return Minimum(loss, descend(optimizer, loss, max_iterations, learning_rate, note), history)
    for _ in range(_TURNS):
        ending = descend(optimizer, loss, max(1, max_iterations - len(history) + 1), learning_rate, note)
        new = _sigma(loss)
        moved = float(np.max(np.abs(np.log(new / loss.sigma))))
        loss.sigma, loss._last = new, None
        loss.least, loss.slope = loss.evaluate(loss.theta)
        history[-1] = loss.least
        if moved <= _SIGMA_TOLERANCE or len(history) > max_iterations:
            break
    if moved > np.sqrt(_SIGMA_TOLERANCE):
        ending = Ending(False, f"sigma still moves by {moved:.2g} of itself", ending.message)
    return Minimum(loss, ending, history)


def stay(problem: Any, statement: Statement, optimizer: str) -> Minimum:
    """What ``minimise`` gives where nothing moves but sigma: the loss at the values of ``problem``."""
    loss = Loss(statement.coordinates(problem), statement, by_residuals=optimizer in LEAST_SQUARES)
    if statement.estimates_sigma:
        loss.sigma = _sigma(loss)
    loss.least, loss.slope = loss.evaluate(loss.theta)
    loss.initial = loss.least
    return Minimum(loss, Ending(True, "nothing is left to move", "Nothing to move"), [loss.least])


def _sigma(loss: Loss) -> Array:
    """The standard deviation of each observable (p,) that is most likely at the best point."""
    from scipy.optimize import minimize_scalar

    assert loss.residuals is not None
    z, _ = loss.residuals(loss.theta)
    j = np.concatenate([data.j for data in loss.residuals.data])
    S = np.bincount(j, weights=z * z, minlength=loss.residuals.observables)
    N = loss.counts
    if not np.isfinite(S).all():
        raise ConvergenceError(
            "fit cannot begin: the residuals at the start are not finite. Try: another start, or other noise"
        )
    if not loss.sigma_priors and (solver_error(loss) >= S * 500).any():
        raise ConvergenceError("sigma cannot be estimated: the residuals are zero. Try: sigma=…, or sigma=None")
    sigma = np.sqrt(S / np.maximum(N, 1))
    for prior in loss.sigma_priors.values():
        for i in range(len(sigma)):

            def rise(u: float, i: int = i) -> float:
                one, _ = prior.spread((1,), "sigma").residual(np.array([np.exp(u)]))  # noqa: B023
                return float(N[i] * u + 0.5 * S[i] * np.exp(-2 * u) + 0.5 * one @ one)

            u0 = np.log(max(sigma[i], 1e-300))
            v0 = np.log(float(np.ravel(prior.mean)[0])) if prior.mean.size and np.ravel(prior.mean)[0] > 0 else u0
            low, high = min(u0, v0, u0 - 3) - 3, max(u0, v0) + 3
            sigma[i] = np.exp(minimize_scalar(rise, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x)
    return sigma
