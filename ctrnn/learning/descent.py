"""One descent.

An optimiser, the tests at its end, a polish by another method, and on from there while that still finds something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import CtrnnError
from ctrnn.learning.convergence import TOLERANCE, Verdict, verdict
from ctrnn.learning.least_squares import by_least_squares
from ctrnn.learning.loss import Loss
from ctrnn.learning.newton import by_newton
from ctrnn.learning.optimizers import LEAST_SQUARES, NEWTON, SCIPY, by_scipy, by_torch

Array = NDArray[np.float64]

#: fitted quantities up to which the residuals' Jacobian is worth its price
MOST_COLUMNS = 200
#: descents in a row, each from where the one before ended or its polish got to
_ROUNDS = 5
#: iterations of a polish
_POLISH = 12


class _Improved(Exception):
    """The polish has found more than a tolerance: that is all it has to say."""


@dataclass
class Ending:
    """How a descent ended: whether it converged, why (not), and the optimiser's own last words."""

    converged: bool
    reason: str
    message: str


def descend(name: str, loss: Loss, max_iterations: int, learning_rate: float, tell: Callable[[float], None]) -> Ending:
    """Descend from the best point of ``loss``, which has begun, by the optimiser of that name."""
    left = max_iterations
    seen_at_start = _seen(loss)
    ending = Ending(False, "", "")
    goes_on = name in SCIPY or name in LEAST_SQUARES or name == NEWTON

    def count(l: float) -> None:
        nonlocal left
        left -= 1
        tell(l)

    for _ in range(_ROUNDS):
        before = loss.least
        stopped, ending.message = _run(name, loss, left, learning_rate, count)
        judge = _judge(loss)
        found = _verdict(judge, seen_at_start)
        ending.reason = found.reason
        better = None
        if found.holds:
            better = _polished(name, loss, judge, found.slack)
            if better is None:
                ending.converged = True
                break
            ending.reason = better.reason
        if not stopped and goes_on:
            ending.reason = f"the {max_iterations} iterations are done (max_iterations); {ending.reason}"
        if not stopped or not goes_on or left <= 0:
            break
        at = loss.least
        if better is not None:  # where the other method got to, if it is better there for this one too
            loss(better.theta)
        if not loss.least < before - found.slack and not loss.least < at - found.slack:
            break
    return ending


def _run(name: str, loss: Loss, left: int, learning_rate: float, tell: Callable[[float], None]) -> tuple[bool, str]:
    if name in LEAST_SQUARES:
        return by_least_squares(loss, left, tell)
    if name == NEWTON:
        return by_newton(loss, left, tell)
    if name in SCIPY:
        return by_scipy(name, loss, loss.coordinates.is_bounded, left, tell)
    return by_torch(name, loss, left, learning_rate, tell)


def _can_judge(loss: Loss) -> bool:
    """Whether the Jacobian of the residuals is to be had at a price."""
    return loss.residuals is not None and len(loss.theta) <= MOST_COLUMNS


def _seen(loss: Loss) -> Array | None:
    if not _can_judge(loss):
        return None
    judge = _judge(loss)
    return None if judge is None else np.any(judge.vector(judge.theta)[1] != 0.0, axis=0)


def _judge(loss: Loss) -> Loss | None:
    """The same loss from its residuals, at the best point; None where there are none, or no solution by that route."""
    if not _can_judge(loss):
        return None
    if loss.by_residuals:
        return loss
    judge = loss.like(by_residuals=True)
    try:
        judge.begin()
    except CtrnnError:
        return None
    return judge


def _verdict(judge: Loss | None, seen_at_start: Array | None) -> Verdict:
    if judge is None:
        return Verdict(True, "", 0.0)
    return verdict(judge, seen_at_start)


@dataclass
class _Better:
    """What a polish found: a point, and a sentence."""

    theta: Array
    reason: str


def _polished(name: str, loss: Loss, judge: Loss | None, slack: float) -> _Better | None:
    """A better point by another method than ``name``; None where it finds none."""
    if judge is not None and name not in LEAST_SQUARES:
        method, other = LEAST_SQUARES[0], judge.like(by_residuals=True)
    elif name != NEWTON and _has_hessian(loss):
        method, other = NEWTON, loss.like(by_residuals=False)
    else:
        method, other = "L-BFGS-B", loss.like(by_residuals=False)
    try:
        other.begin()
    except CtrnnError as error:
        return _Better(loss.theta, f"another method cannot begin at the end of this one: {error}")
    # two routes to one loss tell how far it can be believed
    apart = abs(other.least - loss.least) if abs(other.least - loss.least) <= 1e-3 * abs(loss.least) else 0.0
    slack = max(slack or TOLERANCE * abs(other.least), apart)
    enough = other.least - slack

    def tell(l: float) -> None:
        if other.least < enough:
            raise _Improved

    try:
        if method == "L-BFGS-B":
            by_scipy(method, other, loss.coordinates.is_bounded, _POLISH, tell)
        else:
            _run(method, other, _POLISH, 0.0, tell)
    except _Improved:
        pass
    except CtrnnError:
        return None
    if other.least >= enough:
        return None
    gained = (other.initial - other.least) / abs(other.initial)
    return _Better(other.theta, f"a polish by {method} still lowers the loss, by {gained:.2g} of it or more")


def _has_hessian(loss: Loss) -> bool:
    """Whether exact products with the Hessian are to be had.

    An objective without events, steps of our own, no further matrix of its own.
    """
    problem: Any = loss.coordinates.problem(loss.theta)
    first = problem[0] if hasattr(problem, "problems") else problem
    own = not loss.solver_settings.library
    return own and loss.statement.is_plain and not first.events and len(loss.theta) <= MOST_COLUMNS
