"""Whether a fit has converged: three tests at its end, of which each can say no.

    step       δ = −J⁺ z, the Gauss–Newton step, among the entries that no bound holds
    promise    −½ g·δ ≤ tolerance · l                   no decrease worth the name is foretold
    length     |δ_i| ≤ √tolerance · |theta_i|           and none of the quantities would move
    polish     another method, started from the end, finds no decrease beyond the tolerance either

A test relative to the gradient at the start says nothing: after a steep start everything is flat. Where the residuals
cannot be had (another loss, thousands of weights) the polish alone decides. J⁺ leaves out directions that the data do
not see, relative to the best seen one. A quantity that the data saw at the start and see no more is no convergence: the
fit ran into a flat far away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctrnn.learning.loss import Loss

Array = NDArray[np.float64]

#: what may be left to gain, relative to the loss
TOLERANCE = 1e-7
#: directions with less than this part of the largest singular value, of J scaled to columns of norm 1, are not seen
RANK = 1e-12
#: multiples of the solver's tolerances below which a residual is zero
ACCURACY = 10.0


@dataclass(frozen=True)
class Verdict:
    """Whether the model foretells no further descent, and the reason in words.

    Slack is the decrease that counts as none.
    """

    holds: bool
    reason: str
    slack: float


def verdict(loss: Loss, seen_at_start: Array | None) -> Verdict:
    """The tests of the promise and of the length at the best point of ``loss``, which knows residuals."""
    theta, c = loss.theta, loss.coordinates
    z, J = loss.vector(theta)
    _, weight = loss.robust(z)
    g = J.T @ (weight * z)
    slack = TOLERANCE * 0.5 * float(z @ z) + solver_error(loss)
    J = np.sqrt(weight)[:, None] * J
    inside = c.free & ~loss.pushed(theta, g)
    seen = np.linalg.norm(J, axis=0) > 0.0
    if loss.least > slack and not (seen & c.free).any():
        return Verdict(False, "the loss does not depend on any of the fitted quantities here", slack)
    if seen_at_start is not None and (lost := np.flatnonzero(inside & seen_at_start & ~seen)).size:
        return Verdict(False, f"the data no longer depend on {c.labels[int(lost[0])]} here", slack)
    inside &= seen
    if not inside.any():
        return Verdict(True, "every quantity is at its bound, and pushed there", slack)
    delta = np.zeros_like(theta)
    delta[inside], spread = gauss_newton_step(J[:, inside], np.sqrt(weight) * z)
    promise = -0.5 * float(g @ delta)
    variance = 1.0 if loss.statement.knows_scale else float(z @ z) / max(len(z) - len(delta), 1)
    # an entry near 0 has no size of its own: then a step beside its standard error tells
    error = np.zeros_like(theta)
    error[inside] = np.sqrt(variance) * spread
    # the size now: one at the start, if far away, would call any step small
    size = np.where(c.log, 1.0, np.maximum(np.abs(theta), 1e-3 * c.sizes))
    far = np.abs(delta) / size
    worst = int(np.argmax(far))
    if promise > slack:
        share = promise / max(loss.least, np.finfo(float).tiny)
        return Verdict(False, f"a Gauss-Newton step promises {min(share, 1.0):.2g} of the loss", slack)
    moves = far[worst] > np.sqrt(TOLERANCE) and abs(delta[worst]) > 1e-3 * error[worst]
    if promise > solver_error(loss) and moves:
        return Verdict(False, f"a Gauss-Newton step still moves {c.labels[worst]} by {far[worst]:.2g} of itself", slack)
    return Verdict(True, f"a Gauss-Newton step promises less than {TOLERANCE:g} of the loss and moves nothing", slack)


def gauss_newton_step(J: Array, z: Array) -> tuple[Array, Array]:
    """−J⁺ z and the roots of the diagonal of (JᵀJ)⁺, from the singular values of J scaled to columns of norm 1."""
    d = np.linalg.norm(J, axis=0)
    U, s, Vt = np.linalg.svd(J / d, full_matrices=False)
    keep = s > RANK * s[0]
    U, s, Vt = U[:, keep], s[keep], Vt[keep]
    return -(Vt.T @ ((U.T @ z) / s)) / d, np.sqrt(np.sum((Vt / s[:, None]) ** 2, axis=0)) / d


def solver_error(loss: Loss) -> float:
    """½ Σ of the squares that the solver's own error may leave in the residuals.

    No loss can be told from 0 below it.
    """
    settings = loss.solver_settings
    if loss.residuals is None or settings.dt is not None:
        return 0.0
    rtol, atol = float(np.max(settings.rtol)), float(np.max(settings.atol))
    y = np.concatenate([data.y for data in loss.residuals.data])
    unit = np.concatenate([data.root for data in loss.residuals.data]) / loss.residuals.spread(loss.sigma)
    error = ACCURACY * (rtol * (np.abs(y) + np.max(np.abs(y), initial=0.0)) + atol)
    if loss.statement.noise.name != "normal":
        unit = unit * np.abs(loss.residuals.noise.residual(np.maximum(y, 1e-300), y)[1])
    return 0.5 * float(np.sum((unit * error) ** 2))
