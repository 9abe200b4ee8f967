"""The optimisers of SciPy and torch, driven by a loss whose trial points may have no solution.

SciPy (scipy.optimize.minimize; Virtanen et al., Nature Methods 17:261, 2020): the loss is divided
by its value at the start. The first step and the tolerances of those methods are absolute, so a
loss that begins at 40,000 costs them steps otherwise (BFGS on the hare-lynx fit: 99 gradients
as it is, 33 divided, to the same end).

torch (torch.optim): the loss is taken as it is, since there the learning rate sets the scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import ConvergenceError, NotFiniteError, SolverError, UnknownNameError
from ctrnn.gradients.api import gradient
from ctrnn.gradients.second.hessian import gauss_newton_matrix, hessian_operator
from ctrnn.learning.transforms import Coordinates
from ctrnn.problem import Settings

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
#: Our own that take second derivatives (ctrnn.learning.newton); they know bounds.
SECOND = ("gauss-newton", "newton-cg")
#: Not for one dense vector without a closure.
_NOT_TORCH = {"optimizer", "lbfgs", "sparseadam", "muon"}
#: A gradient this much smaller than at the start is zero, for all that float64 solutions can show.
_AT_REST = 1e-6
_HALVINGS = 20


class Loss:
    """l and dl/dtheta at trial points; keeps count, and the best point seen."""

    def __init__(self, coordinates: Coordinates, options: dict[str, Any]) -> None:
        self.coordinates, self.options = coordinates, options
        self.evaluations = self.rejected = 0
        self.theta = coordinates.start
        self.least = self.initial = np.inf
        self.slope = self.initial_slope = np.zeros_like(self.theta)

    def begin(self) -> None:
        """The start, where a failure is an error."""
        l, slope = self.evaluate(self.theta)
        if not (np.isfinite(l) and np.all(np.isfinite(slope))):
            what = f"the loss at the start is {l}" if not np.isfinite(l) else "its gradient is not finite"
            raise ConvergenceError(f"fit cannot begin: {what}. Try: another start, or another objective")
        if l != 0.0 and not np.any(slope):
            raise ConvergenceError(
                f"fit cannot begin: the loss is {l:.6g} but its gradient is exactly zero at the start, as if it did "
                "not depend on what is "
                "fitted. Try: observations of other states or later times, other parameters, or another start"
            )
        self.initial, self.initial_slope = l, slope
        self.least, self.slope = l, slope

    def evaluate(self, theta: Array) -> tuple[float, Array]:
        """The loss and its derivative by theta at a point; raises what the solution raises."""
        self.evaluations += 1
        g = gradient(self.coordinates.problem(theta), **self.options)
        return float(g.loss), self.coordinates.gradient(g, theta)

    def __call__(self, theta: Array) -> tuple[float, Array] | None:
        """(l, dl/dtheta), or None where there is no finite solution."""
        if np.array_equal(theta, self.theta):  # optimisers ask for the start again
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
            return self.evaluate(theta)
        except (SolverError, NotFiniteError):
            return None

    def hessian_product(self, theta: Array) -> Callable[[Array], Array]:
        """v -> (d²l/dtheta²) v at a point that has a solution; where w = exp theta, w dl/dw joins the diagonal."""
        c = self.coordinates
        operator = hessian_operator(c.problem(theta), self._settings, "fit")
        found = self(theta)
        assert found is not None
        scale, corner = c.scale(theta), np.where(c.log, found[1], 0.0)

        def product(v: Array) -> Array:
            whole = np.zeros(operator.size)
            whole[c.columns] = scale * v
            return scale * operator(whole)[c.columns] + corner * v

        return product

    def gauss_newton(self, theta: Array) -> Array:
        """The Gauss-Newton matrix (k, k) in theta."""
        scale = self.coordinates.scale(theta)
        M = gauss_newton_matrix(self.coordinates.problem(theta), self._settings, self.coordinates.columns)
        return scale[:, None] * M * scale

    @property
    def _settings(self) -> Settings:
        return Settings(**{k: v for k, v in self.options.items() if k != "method"})

    @property
    def at_rest(self) -> bool:
        """Whether the gradient at the best point is zero for all that can be told.

        An entry at its bound counts only where the loss falls towards the inside.
        """
        held = (self.theta <= self.coordinates.lower) & (self.slope > 0)
        held |= (self.theta >= self.coordinates.upper) & (self.slope < 0)
        slope = np.where(held, 0.0, self.slope)
        return bool(np.max(np.abs(slope)) <= _AT_REST * np.max(np.abs(self.initial_slope)))


def by_scipy(
    name: str, loss: Loss, bounded: bool, max_iterations: int, tell: Callable[[float], None]
) -> tuple[bool, str]:
    """(converged, message) of a method of scipy.optimize.minimize."""
    from scipy import optimize

    minimize: Any = optimize.minimize
    coordinates = loss.coordinates
    unit = abs(loss.initial) or 1.0
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
    converged = bool(result.success)
    message = str(result.message).strip().capitalize()
    if not converged and loss.at_rest:
        # The usual end of a line search at the least that the solver's tolerance can resolve.
        converged, message = True, f"The gradient is {_AT_REST:g} of the one at the start, or less"
    return converged, message


def by_torch(
    name: str, loss: Loss, max_iterations: int, learning_rate: float, tell: Callable[[float], None]
) -> tuple[bool, str]:
    """(converged, message) of an optimiser of torch."""
    import torch

    coordinates = loss.coordinates
    theta = torch.tensor(loss.theta, dtype=torch.float64, requires_grad=True)
    torch_optimizer = _torch_optimizers()[name]([theta], lr=learning_rate)
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
        if np.max(np.abs(slope)) <= 1e-9 * np.max(np.abs(loss.initial_slope)):
            return True, "The gradient is 1e-9 of the one at the start, or less"
    message = f"All {max_iterations} iterations done"
    if halvings:
        message += f", the learning rate halved {halvings} times"
    return loss.at_rest, message


def known_optimizer(name: str) -> str:
    """The name as SciPy or torch has it."""
    for known in (*SCIPY, *SECOND):
        if str(name).lower() == known.lower():
            return known
    known_torch = _torch_optimizers()
    if str(name).lower() in known_torch:
        return str(name).lower()
    hint = "L-BFGS-B" if str(name).lower() == "lbfgs" else ""
    raise UnknownNameError("optimizer", name, [*SCIPY, *SECOND, *known_torch], hint)


def _torch_optimizers() -> dict[str, Any]:
    """The classes of torch.optim that step on a dense vector from its gradient alone."""
    import torch

    return {
        name.lower(): cls
        for name, cls in sorted(vars(torch.optim).items())
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and name.lower() not in _NOT_TORCH
    }
