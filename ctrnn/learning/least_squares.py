"""Least squares by SciPy's trust-region reflective method, with the exact Jacobian of the residuals.

    min ½ Σ ρ(z_i(theta)²)   within bounds

Each step stays within a region whose axes are the columns' norms (x_scale = "jac").

Branch, Coleman & Li, SIAM J. Sci. Comput. 21:1 (1999); Virtanen et al., Nature Methods 17:261 (2020). Its test on the
gradient is absolute, and so means nothing for data in other units: it is off, and the tests on the loss and on the step
are relative.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ctrnn.learning.loss import ROBUST, Loss

Array = NDArray[np.float64]

#: what a step may still change, relative to the loss and to theta
TOLERANCE = 1e-11
#: how near to a bound, relative to an entry's size, an end is at the bound
AT_BOUND = 1e-5


class _Enough(Exception):
    """All iterations are done."""


def by_least_squares(loss: Loss, max_iterations: int, tell: Callable[[float], None]) -> tuple[bool, str]:
    """(stopped by its tests, message) of the descent from the best point of ``loss``."""
    from scipy.optimize import least_squares

    c = loss.coordinates
    free = np.flatnonzero(c.free)
    whole = loss.theta.copy()
    accepted = [loss.least]

    def at(theta: Array) -> Array:
        point = whole.copy()
        point[free] = theta
        return c.clip(point)

    def residuals(theta: Array) -> Array:
        point = at(theta)
        if loss(point) is None:
            return np.full(size, np.nan)  # the method takes a shorter step
        return loss.vector(point)[0]

    def jacobian(theta: Array) -> Array:
        point = at(theta)
        found = loss(point)
        assert found is not None
        if found[0] < accepted[-1]:
            accepted.append(found[0])
            tell(found[0])
            if len(accepted) > max_iterations:
                raise _Enough
        return loss.vector(point)[1][:, free]

    def rho(s: Array) -> Array:
        values = np.stack([s, np.ones_like(s), np.zeros_like(s)])
        N, C = loss.data_size, loss.statement.robust_scale
        value, slope, bend = ROBUST[loss.statement.robust](s[:N] / C**2)
        values[:, :N] = C**2 * value, slope, bend / C**2
        return values

    size = len(loss.vector(loss.theta)[0])
    try:
        result = least_squares(
            residuals,
            whole[free],
            jacobian,
            bounds=(c.lower[free], c.upper[free]),
            method="trf",
            ftol=TOLERANCE,
            xtol=TOLERANCE,
            gtol=None,
            x_scale="jac",
            loss="linear" if loss.statement.robust == "linear" else rho,
            max_nfev=10 * max_iterations,
        )
        done, message = bool(result.status > 0), str(result.message).strip()
    except _Enough:
        done, message = False, f"All {max_iterations} iterations done"
    _at_bounds(loss)
    return done, message


def _at_bounds(loss: Loss) -> None:
    """Put entries that come near to a bound, and are pushed there, at it: the method itself stays inside."""
    c, theta = loss.coordinates, loss.theta
    for bound, outwards in ((c.lower, loss.slope > 0), (c.upper, loss.slope < 0)):
        with np.errstate(invalid="ignore"):
            near = (
                outwards & np.isfinite(bound) & (np.abs(theta - bound) <= AT_BOUND * np.maximum(c.sizes, np.abs(bound)))
            )
        if near.any():
            at = np.where(near, bound, theta)
            found = loss(at)
            if found is not None and found[0] <= loss.least + 1e-9 * abs(loss.least):
                loss.theta, (loss.least, loss.slope) = at, found
                theta = at
