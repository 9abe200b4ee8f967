"""Fit a field to an objective: the parameters w, and r0 if asked, at which the loss l is least.

The loss and its gradient come from one call of :func:`ctrnn.gradient`, the coordinates from
``transforms.py`` (positive quantities as logarithms), and the descent from an optimiser of SciPy or
of torch, driven by ``optimizers.py``, or from the second derivatives, ``newton.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UsageError
from ctrnn.learning.newton import by_newton
from ctrnn.learning.optimizers import SCIPY, SECOND, Loss, by_scipy, by_torch, known_optimizer
from ctrnn.learning.posterior import laplace_at
from ctrnn.learning.transforms import Coordinates, trained_readout
from ctrnn.problem import Settings, Trials, checked_problem
from ctrnn.progress import track
from ctrnn.solvers.runge_kutta import tableau_of

__all__ = ["Fit", "fit"]

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False, eq=False)
class Fit:
    """What a fit found; it prints as a small table.

    Attributes
    ----------
    problem : Problem or Trials
        The problem at the best point seen.
    start : Problem or Trials
        The problem as it was given.
    loss : float
        The loss l at the best point.
    initial_loss : float
        The loss at the start.
    history : ndarray (iterations + 1,)
        The loss at the start and after each iteration.
    converged : bool
        Whether the optimiser stopped because no further descent was to be had.
    message : str
        Why it stopped, in its own words, and how many trial points had no solution.
    evaluations : int
        Gradients computed.
    rejected : int
        Trial points at which the solution failed.
    optimizer : str
        Its name.
    names : tuple of str
        The parameters that were fitted.
    fits_r0 : bool
        Whether r0 was fitted too.
    settings : dict
        solver, rtol, atol and dt of every solution.

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 1.0})
    >>> data = ctrnn.Objective(target=np.exp([[-0.5], [-1.0]]), at=[1.0, 2.0])
    >>> found = ctrnn.fit(ctrnn.Problem(field, r0=[1.0], t_span=(0.0, 2.0), objective=data))
    >>> found.converged, found.iterations == len(found.history) - 1
    (True, True)
    """

    problem: Any
    start: Any
    loss: float
    initial_loss: float
    history: Array
    converged: bool
    message: str
    evaluations: int
    rejected: int
    optimizer: str
    names: tuple[str, ...] = ()
    fits_r0: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def standard_errors(self) -> dict[str, float]:
        """Name -> standard error of each fitted quantity, as "a" and "r0[prey]" (ctrnn.learning.laplace says more)."""
        found = laplace_at(self.problem, self.names, self.fits_r0, Settings(**self.settings))
        return dict(zip(found.labels, map(float, found.standard_errors), strict=True))

    @property
    def parameters(self) -> dict[str, Array]:
        """All parameters of the fitted field, by name."""
        return self.problem.field.parameters

    @property
    def r0(self) -> Array:
        """The initial state (n,) of the fitted problem; of trials (B, n), or (n,) where they share it."""
        return self.problem.r0

    @property
    def readout(self) -> dict[str, Array] | None:
        """V (p, n) and c (p,) of a trained read-out, or None."""
        return trained_readout(self.problem) or None

    @property
    def iterations(self) -> int:
        """The iterations that the optimiser took."""
        return len(self.history) - 1

    def __repr__(self) -> str:
        lines = [
            f"Fit by {self.optimizer}: loss {self.initial_loss:.6g} -> {self.loss:.6g} in "
            f"{self.iterations} iterations, {self.evaluations} gradients; "
            f"{'converged' if self.converged else 'not converged'}",
            f"{'':16}{'start':>14}{'fitted':>14}",
        ]
        was, now = self.start.field.parameters, self.parameters
        rows = [(name, was[name], now[name]) for name in now if now[name].size]
        if self.r0.ndim == 1 and self.r0.size <= 6:
            names = self.problem.field.state_names
            rows += [(f"r0[{s}]", a, b) for s, a, b in zip(names, self.start.r0, self.r0, strict=True)]
        elif self.r0.ndim == 2 and self.fits_r0:
            rows.append(("r0", self.start.r0, self.r0))
        if self.readout is not None:
            old = trained_readout(self.start)
            rows += [(f"readout {k}", old[k], v) for k, v in self.readout.items()]
        for name, a, b in rows:
            if np.size(a) == 1:
                lines.append(f"{name:16}{np.ravel(a)[0]:14.6g}{np.ravel(b)[0]:14.6g}")
            else:
                shape = "x".join(map(str, np.shape(a)))
                rms = [f"rms {np.sqrt(np.mean(np.square(v))):.4g}" for v in (a, b)]
                lines.append(f"{f'{name} ({shape})':16}{rms[0]:>14}{rms[1]:>14}")
        return "\n".join([*lines, self.message])


def fit(
    problem: Any,
    parameters: Sequence[str] | None = None,
    *,
    r0: bool = False,
    transform: str | Mapping[str, str] = "none",
    optimizer: str = "L-BFGS-B",
    method: Any = "auto",
    solver: str = "tsit5",
    rtol: float = 1e-8,
    atol: float = 1e-10,
    dt: float | None = None,
    max_iterations: int = 200,
    learning_rate: float = 1e-2,
    callback: Callable[[int, float], Any] | None = None,
) -> Fit:
    """The parameters, initial state and read-out at which the objective of a problem is least.

    Parameters
    ----------
    problem : Problem or Trials
        With an objective; its values are the start. Of trials, the sum of their losses is made least: one set of
        parameters for all, and one read-out, which must be the same in all.
    parameters : sequence of str, optional
        Names of those to fit, all by default; the others stay.
    r0 : bool, default False
        Whether to fit the initial state too: of trials that were given (B, n) each trial's own, B n quantities; of
        trials that were given one r0 for all, that one.
    transform : {"none", "log"} or mapping, default "none"
        "log" fits logarithms, so that quantities stay positive; or by name: ``{"a": "log", "r0": "log"}``.
    optimizer : str, default "L-BFGS-B"
        Of SciPy: L-BFGS-B, BFGS, CG, SLSQP, TNC, trust-constr. Ours: gauss-newton (Levenberg–Marquardt), the one for
        least squares with up to some hundred parameters, and newton-cg, on exact products with the Hessian. Of torch: a
        class of torch.optim in lower case, adam, adamw, sgd, rmsprop, …
    method : str or method object, default "auto"
        Of the gradient, see `ctrnn.gradient`.
    solver, rtol, atol, dt
        Of every solution, see `ctrnn.simulate`.
    max_iterations : int, default 200
        Of the optimiser.
    learning_rate : float, default 0.01
        Of a torch optimiser.
    callback : callable, optional
        Called as ``callback(iteration, loss)`` after each iteration.

    Returns
    -------
    Fit
        The problem at the best point seen, and how it was reached.

    Raises
    ------
    UsageError
        For a call that is not possible.
    UnknownNameError
        For a parameter, transform or optimiser that does not exist.
    SolverError
        If there is no solution at the start.
    ConvergenceError
        If the loss or its gradient is not finite at the start, or the gradient is zero and the loss is not.

    Notes
    -----
    A read-out (V, c) of the objective is trained along. The bounds of the field are kept (signs of Dale's law, say): as
    bounds where the optimiser knows them, else by projection after each step of a torch optimiser. A trial point at
    which the solution fails is a rejected step: a line search shortens it, a torch optimiser goes back and halves its
    learning rate.

    An optimiser descends into the valley that it starts in, and data over several cycles of an oscillation make many.
    For the hare-lynx data, fitted as logarithms, the rough start of the shipped experiment lies in the right one; of 30
    starts scattered about it by 30 % half do, and with ``transform="none"`` not even that start does, but with
    gauss-newton. Where it matters, try several.

    Sources: the optimisers are those of `scipy.optimize.minimize` and `torch.optim`; `ctrnn.learning.newton` has the
    formulas of ours.

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 1.0})
    >>> decay = ctrnn.Objective(target=np.exp([[-0.5], [-1.0]]), at=[1.0, 2.0])
    >>> problem = ctrnn.Problem(field, r0=[1.0], t_span=(0.0, 2.0), objective=decay)
    >>> found = ctrnn.learning.fit(problem, transform="log")
    >>> print(f"k = {found.parameters['k']:.6f}")
    k = 0.500000
    """
    name = known_optimizer(optimizer)
    if not isinstance(problem, Trials):
        checked_problem(problem).needs_objective("a fit")
    if isinstance(max_iterations, bool) or not max_iterations == int(max_iterations) > 0:
        raise UsageError("max_iterations", given=max_iterations, allowed="a positive whole number")
    if not 0 < learning_rate < np.inf:
        raise UsageError("learning_rate", given=learning_rate, allowed="a positive number")
    coordinates = Coordinates(problem, parameters, r0, transform)
    if name in SECOND:
        tableau_of(Settings(solver, rtol, atol, dt), f"the optimizer {name}")
    bounded = bool(np.any(np.isfinite(coordinates.lower) | np.isfinite(coordinates.upper)))
    if bounded and not SCIPY.get(name, True):
        can = [*(other for other, knows in SCIPY.items() if knows), *SECOND]
        raise UsageError("optimizer", given=name, allowed="one that keeps the field's bounds: " + ", ".join(can))
    options = {"method": method, "solver": solver, "rtol": rtol, "atol": atol, "dt": dt}
    loss = Loss(coordinates, options)
    loss.begin()
    history = [loss.initial]

    with track(max_iterations, "fit") as update:

        def tell(l: float) -> None:
            history.append(l)
            update(len(history) - 1)
            if callback is not None:
                callback(len(history) - 1, l)

        if name in SCIPY:
            converged, message = by_scipy(name, loss, bounded, int(max_iterations), tell)
        elif name in SECOND:
            converged, message = by_newton(name, loss, int(max_iterations), tell)
        else:
            converged, message = by_torch(name, loss, int(max_iterations), learning_rate, tell)
    if loss.rejected:
        message += f"; trial points without a finite solution: {loss.rejected}"
    return Fit(
        problem=coordinates.problem(loss.theta),
        start=problem,
        loss=loss.least,
        initial_loss=loss.initial,
        history=np.array(history),
        converged=converged,
        message=message,
        evaluations=loss.evaluations,
        rejected=loss.rejected,
        optimizer=name,
        names=tuple(coordinates.names),
        fits_r0=r0,
        settings={"solver": solver, "rtol": rtol, "atol": atol, "dt": dt},
    )
