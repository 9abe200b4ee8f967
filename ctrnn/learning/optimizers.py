"""The optimisers of SciPy and torch, driven by a loss whose trial points may have no solution.

SciPy (scipy.optimize.minimize; Virtanen et al., Nature Methods 17:261, 2020): the loss is divided
by its value where the method begins. The first step and the tolerances of those methods are absolute, so a
loss that begins at 40,000 costs them steps otherwise (BFGS on the hare-lynx fit: 99 gradients
as it is, 33 divided, to the same end).

torch (torch.optim): the loss is taken as it is, since there the learning rate sets the scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UnknownNameError
from ctrnn.learning.loss import Loss
from ctrnn.learning.torch_optimizers import torch_optimizers
from ctrnn.memory import claim

Array = NDArray[np.float64]

#: SciPy's gradient methods, and whether they know bounds.
SCIPY = {
    "L-BFGS-B": True,
    "BFGS": False,
    "CG": False,
    "SLSQP": True,
    "TNC": True,
    "trust-constr": True,
}
#: Least squares (ctrnn.learning.least_squares) under two names, and Newton's method (ctrnn.learning.newton); they know
#: bounds.
LEAST_SQUARES = ("least-squares", "gauss-newton")
NEWTON = "newton-cg"
OWN = (*LEAST_SQUARES, NEWTON)
_HALVINGS = 20


def by_scipy(
    name: str, loss: Loss, bounded: bool, max_iterations: int, tell: Callable[[float], None]
) -> tuple[bool, str]:
    """(stopped by its own tests, message) of a method of scipy.optimize.minimize, from the best point of ``loss``."""
    from scipy import optimize

    minimize: Any = optimize.minimize
    coordinates = loss.coordinates
    unit = abs(loss.least) or 1.0
    seen: dict[bytes, float] = {}

    def scaled(theta: Array) -> tuple[float, Array]:
        found = loss(coordinates.clip(theta))
        if found is None:
            # No solution here. An infinite loss breaks the interpolation inside line searches;
            # a bowl around the best point, above everything seen, sends them back instead.
            away = theta - loss.theta
            height = 1.0 + abs(loss.least) / unit
            return loss.least / unit + height * (1.0 + float(away @ away)), 2.0 * height * away
        seen[theta.tobytes()] = found[0]
        return found[0] / unit, found[1] / unit

    def after(theta: Array, *_: Any) -> None:
        tell(seen.get(theta.tobytes(), loss.least))
        seen.clear()

    if name in ("BFGS", "SLSQP", "trust-constr"):  # these keep a matrix, and copies of it
        claim("optimizer", 24.0 * loss.theta.size**2, "optimizer='L-BFGS-B', which makes no matrix")
    options: dict[str, Any] = {"maxiter": max_iterations}
    if name == "TNC":  # counts gradients in place of iterations
        options = {"maxfun": 20 * max_iterations}
    elif name == "L-BFGS-B":
        options |= {"ftol": 1e-14, "gtol": 1e-9, "maxfun": 20 * max_iterations}
    result = minimize(
        scaled,
        loss.theta.copy(),
        jac=True,
        method=name,
        bounds=optimize.Bounds(coordinates.lower, coordinates.upper) if bounded else None,
        tol=None if name == "L-BFGS-B" else 1e-9,
        options=options,
        callback=after,
    )
    # a line search that finds nothing is the usual end at the least that the solver's tolerance can resolve
    ended = bool(result.success) or not (result.get("nit", 0) >= max_iterations or _at_limit(str(result.message)))
    return ended, str(result.message).strip().capitalize()


def _at_limit(message: str) -> bool:
    return any(word in message.lower() for word in ("limit", "maximum number", "max. number", "exceeds"))


def by_torch(
    name: str, loss: Loss, max_iterations: int, learning_rate: float, tell: Callable[[float], None]
) -> tuple[bool, str]:
    """(False, message) of an optimiser of torch: it has no test of its own."""
    import torch

    coordinates = loss.coordinates
    theta = torch.tensor(loss.theta, dtype=torch.float64, requires_grad=True)
    torch_optimizer = torch_optimizers()[name]([theta], lr=learning_rate)
    good, slope = loss.theta.copy(), loss.slope
    halvings = 0
    for _ in range(max_iterations):
        while True:
            theta.grad = torch.tensor(slope, dtype=torch.float64)
            torch_optimizer.step()
            trial = coordinates.clip(theta.detach().numpy().copy())
            found = loss(trial)
            if found is not None:
                break
            halvings += 1
            if halvings > _HALVINGS:
                return False, f"No solution after {_HALVINGS} halvings of the learning rate"
            for group in torch_optimizer.param_groups:
                group["lr"] *= 0.5
            with torch.no_grad():
                theta.copy_(torch.tensor(good))
        good, (l, slope) = trial, found
        with torch.no_grad():
            theta.copy_(torch.tensor(good))
        tell(l)
    message = f"All {max_iterations} iterations done"
    if halvings:
        message += f", the learning rate halved {halvings} times"
    return False, message


def known_optimizer(name: str) -> str:
    """The name as SciPy or torch has it."""
    if not isinstance(name, str):
        raise UnknownNameError("optimizer", name, [*SCIPY, *OWN, *torch_optimizers()])
    for known in (*SCIPY, *OWN):
        if name.lower() == known.lower():
            return known
    known_torch = torch_optimizers()
    if name.lower() in known_torch:
        return name.lower()
    hint = "L-BFGS-B" if name.lower() == "lbfgs" else ""
    raise UnknownNameError("optimizer", name, [*SCIPY, *OWN, *known_torch], hint)
