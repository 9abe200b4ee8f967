"""Newton's method on products with the Hessian, for losses that are no sums of squares.

    (H + μ̂ S⁻²) δ = −g        ρ = (l(θ) − l(θ + δ)) / (−gᵀδ − ½ δᵀ H δ)

H is met only in products; δ comes by conjugate gradients, which stop where H bends down and at a residual that shrinks
with g (Dembo & Steihaug, Math. Program. 26:190, 1983). S holds the quantities' scales.

A step is taken where the loss falls. The damping μ follows how well the parabola foretold it, μ ← μ max(⅓, 1 − (2ρ −
1)³), else μ ← ν μ, ν ← 2ν (Nielsen, IMM-REP-1999-05), and μ̂ = μ ‖g‖/‖g_start‖ lets go near the solution, so that
convergence is quadratic. Entries at a bound that the loss pushes outwards rest there; the others are clipped at theirs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ctrnn.learning.loss import Loss

Array = NDArray[np.float64]

#: μ at the start: the first steps are shorter than undamped ones by about that part
_DAMPING = 1e-3
_LARGEST = 1e12
#: what a step may promise, relative to the loss, when no further descent is to be had
_PROMISE = 1e-13
_MOST_PRODUCTS = 200


class _Newton:
    def __init__(self, loss: Loss, theta: Array) -> None:
        self.product = loss.hessian_product(theta)
        self.scale = loss.coordinates.sizes

    def step(self, g: Array, damping: float, near: float, inside: Array) -> Array:
        s = self.scale[inside]

        def product(v: Array) -> Array:
            whole = np.zeros(len(g))
            whole[inside] = s * v
            return s * self.product(whole)[inside]

        residual = -s * g[inside]
        y, p = np.zeros_like(residual), residual.copy()
        squared = residual @ residual
        enough = (min(0.1, near) ** 2) * squared
        unit = 0.0
        for k in range(min(2 * len(y) + 10, _MOST_PRODUCTS)):
            if squared <= enough:
                break
            B_p = product(p)
            if k == 0:  # the damping is relative to the curvature down the slope
                unit = abs(p @ B_p) / squared or 1.0
            B_p += damping * unit * p
            curvature = p @ B_p
            if curvature <= 1e-14 * unit * (p @ p):
                # bent down: go there only if nothing has been found yet, and not far
                y = y if k else p / max(abs(curvature) / squared, unit)
                break
            a = squared / curvature
            y, residual = y + a * p, residual - a * B_p
            before, squared = squared, residual @ residual
            p = residual + (squared / before) * p
        return s * y


def by_newton(loss: Loss, max_iterations: int, tell: Callable[[float], None]) -> tuple[bool, str]:
    """(stopped by its own tests, message) of the descent from the best point of ``loss``."""
    c = loss.coordinates
    theta, l, g = loss.theta.copy(), loss.least, loss.slope
    model = _Newton(loss, theta)
    start = float(np.max(np.abs(g), initial=0.0)) or 1.0
    mu, nu = float(_DAMPING), 2.0
    for _ in range(max_iterations):
        while True:
            inside = c.free & ~loss.pushed(theta, g)
            near = float(np.max(np.abs(g[inside]), initial=0.0)) / start
            if near == 0.0:
                return True, "The gradient is zero"
            step = np.zeros_like(theta)
            step[inside] = model.step(g, mu * min(1.0, near), near, inside)
            trial = c.clip(theta + step)
            step = trial - theta
            promise = -(g @ step + 0.5 * step @ model.product(step))
            if abs(promise) <= _PROMISE * abs(l):
                return True, f"A step promises {_PROMISE:g} of the loss, or less"
            found = loss(trial) if promise > 0 else None
            if found is not None and found[0] < l:
                break
            mu, nu = mu * nu, 2.0 * nu
            if mu > _LARGEST:
                return True, "No step lowers the loss any more"
        rho = (l - found[0]) / promise
        kept = max(1 / 3, 1.0 - float(2.0 * rho - 1.0) ** 3)
        mu, nu = max(mu * kept, 1e-15), 2.0
        theta, (l, g) = trial, found
        model = _Newton(loss, theta)
        tell(l)
    return False, f"All {max_iterations} iterations done"
