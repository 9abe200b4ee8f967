r"""The inverse of an A(t) that moves, tracked without a division.

    inverse:   dX/dt = −X Ȧ X + γ (I − X A) X        X → A⁻¹(t),  V = a X       any nonsingular A(t)
    flow:      dV/dt = γ (V A − a)                    V → a A⁻¹(t) with a lag    A(t) Hurwitz

The first is the Zhang neural dynamics d(XA − I)/dt = −γ(XA − I) in Getz and Marsden's explicit form, where X stands for
the A⁻¹ that it would divide by: the error I − XA decays as exp(−γt) whatever A does. In Euler steps of size h with γh =
1,

    X ← X + (I − X A) X − X (A⁺ − A) X,      I − XA ← O(h²)

a Newton–Schulz step and a prediction: one pair of products a step, and twice as many steps give a quarter of the error.
Without the prediction (``derivative="none"``) the error is O(h). The second dynamics is note 001's row flow on a moving
A; it lags by ‖d(aA⁻¹)/dt A⁻¹‖/γ, and a step multiplies the error by I + γhA.

Sources: N. H. Getz & J. E. Marsden, "Dynamical methods for polar decomposition and inversion of matrices", Linear
Algebra Appl. 258 (1997), 311–343; Y. Zhang & S. S. Ge, IEEE Trans. Neural Networks 16 (2005), 1477–1490.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import ConvergenceError, NotHurwitzError, UsageError, one_of
from ctrnn.inverse.divide import right_divide
from ctrnn.inverse.matrix import System
from ctrnn.memory import claim
from ctrnn.numbers import checked_array, number, positive, real_array

DYNAMICS = ("inverse", "flow")
DERIVATIVES = ("difference", "none")


@dataclass(frozen=True, repr=False, eq=False)
class Tracked:
    """The rows V(t) ≈ a A(t)⁻¹ along a time span.

    Attributes
    ----------
    t : ndarray (T,)
        The times.
    V : ndarray (T, n), (T, q, n) or, for the identity, (T, n, n)
        The rows.
    residual : ndarray (T,)
        ‖VA(t) − a‖₂/‖a‖₂ of the worst row.
    converged : bool
        Whether it went to the end with all residuals below the tolerance asked.
    dynamics : {"inverse", "flow"}
        What was integrated.

    Examples
    --------
    >>> print(zhang(lambda t: [[-2.0 - t]], (0.0, 1.0), [1.0], dt=0.5).converged)
    True
    """

    t: np.ndarray
    V: np.ndarray
    residual: np.ndarray
    converged: bool
    dynamics: str

    def __repr__(self) -> str:
        word = "tracked" if self.converged else "NOT tracked to the tolerance"
        return (
            f"{self.dynamics}: {word} from t = {self.t[0]:.6g} to {self.t[-1]:.6g} in {len(self.t) - 1} steps, "
            f"residual at most {self.residual.max():.3g}, at the end {self.residual[-1]:.3g}"
        )


def getz_marsden(X: Any, frames: Iterator[tuple[Any, Any]], identity: Any, gamma_h: float) -> Iterator[Any]:
    """X ← X + γh (I − XA)X − X (A⁺ − A) X over frames (A, A⁺ − A). Products and sums of any kind of number."""
    for A, change in frames:
        X = X + gamma_h * ((identity - X @ A) @ X) - (X @ change) @ X
        yield X


def row_flow(V: Any, a: Any, frames: Iterator[tuple[Any, Any]], gamma_h: float) -> Iterator[Any]:
    """V ← V + γh (VA − a) over frames (A, A⁺ − A), of which it uses the first."""
    for A, _ in frames:
        V = V + gamma_h * (V @ A - a)
        yield V


def zhang(
    A: Callable[[float], Any],
    t_span: tuple[float, float],
    a: Any = None,
    *,
    dt: float,
    gain: float | None = None,
    dynamics: str = "inverse",
    derivative: Callable[[float], Any] | str = "difference",
    tol: float = math.inf,
    raise_on_failure: bool = True,
) -> Tracked:
    """The rows V(t) ≈ a A(t)⁻¹ while A moves, in fixed steps of products and sums.

    Parameters
    ----------
    A : callable
        t ↦ array (n, n).
    t_span : tuple of float
        Start and end.
    a : array_like, (n,) or (q, n), optional
        A row or rows; None is the identity.
    dt : float
        The step, in the unit of t. All are made a little shorter so that the last ends at ``t_span[1]``.
    gain : float, optional
        γ, per unit of t; 1/dt by default, at which the inverse's step is Newton–Schulz. For the flow γ·dt is Euler's
        step for A.
    dynamics : {"inverse", "flow"}, default "inverse"
        The full inverse, of any nonsingular A; or rows only, of a Hurwitz A.
    derivative : {"difference", "none"} or callable, default "difference"
        Of the inverse, Ȧ: A⁺ − A, exact for the step; a function t ↦ (n, n); or none, so that nothing is predicted.
    tol : float, default infinity
        What every residual must stay below; by default only the loss of the inverse is an error.
    raise_on_failure : bool, default True
        False returns what was tracked, with ``converged=False``.

    Returns
    -------
    Tracked
        Times, rows and residuals.

    Raises
    ------
    UsageError, UnknownNameError
        For arguments that are not allowed.
    NotHurwitzError
        Of the flow.
    ConvergenceError
        With the time at which the inverse was lost: A(t) singular, no longer Hurwitz, or moving too much in a step.

    Notes
    -----
    At ``t_span[0]`` it starts from the inverse found by Newton–Schulz. Formulas and sources are at the top of
    `ctrnn.inverse.tracking`.

    Examples
    --------
    >>> import numpy as np
    >>> A = lambda t: np.array([[-2.0, np.sin(t)], [0.0, -1.0]])
    >>> track = zhang(A, (0.0, 6.0), [1.0, 1.0], dt=0.01)
    >>> bool(track.residual.max() < 1e-4), track.V.shape
    (True, (601, 2))
    """
    one_of("dynamics", dynamics, DYNAMICS)
    if not callable(derivative):
        one_of("derivative", derivative, DERIVATIVES, hint="or a function t -> (n, n)")
    span, dt = checked_array("t_span", t_span), number("dt", dt)
    t0, t1 = map(float, span) if span.shape == (2,) else (0.0, 0.0)
    if not t1 > t0:
        raise UsageError("t_span", given=t_span, allowed="(start, end) with start < end")
    if not 0 < dt <= t1 - t0:
        raise UsageError("dt", given=dt, allowed="a positive step, not longer than t_span")
    gain = None if gain is None else positive("gain", gain, "a positive number per unit of t")
    bound = real_array("tol", tol)
    if bound.ndim or not bound > 0:
        raise UsageError("tol", given=tol, allowed="a positive number, or infinity")
    tol = float(bound)
    claim("dt", 24.0 * ((t1 - t0) / dt + 1.0), "a larger dt")
    steps = math.ceil((t1 - t0) / dt - 1e-9)
    t = np.linspace(t0, t1, steps + 1)
    h = (t1 - t0) / steps
    gamma_h = 1.0 if gain is None else gain * h
    if dynamics == "inverse" and gamma_h > 1.0:
        raise UsageError("gain", given=gain, allowed=f"at most 1/dt = {1 / h:.6g}: more overshoots")

    if not callable(A):
        raise UsageError(
            "A", given=A, allowed="a function t -> (n, n)", hint="right_divide, for an A that does not move"
        )
    system = System(a, checked_array(f"A({t0:.6g})", A(t0)))
    first, rows = system.A, system.a[0] if system.is_row else system.a

    def at(s: float) -> np.ndarray:
        found = checked_array(f"A({s:.6g})", A(float(s)))
        if found.shape != first.shape:
            raise UsageError(f"A({s:.6g})", given=found.shape, allowed=f"a matrix {first.shape}, as at the start")
        return found

    start = right_divide(None if dynamics == "inverse" else rows, first, "newton-schulz").value
    if dynamics == "flow":
        _check_hurwitz(first, t[0], gamma_h)

    def frames() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        here = first
        for k in range(steps):
            ahead = at(t[k + 1])
            if callable(derivative):
                change = h * checked_array("derivative", derivative(float(t[k])))
            else:
                change = ahead - here if derivative == "difference" else np.zeros_like(here)
            yield here, change
            here = ahead

    states = (
        getz_marsden(start, frames(), np.eye(len(first)), gamma_h)
        if dynamics == "inverse"
        else row_flow(start, rows, frames(), gamma_h)
    )
    size = np.linalg.norm(rows, axis=-1)
    size = np.where(size > 0, size, 1.0)

    def value(state: np.ndarray) -> np.ndarray:
        return rows @ state if dynamics == "inverse" and a is not None else state

    def residual(V: np.ndarray, s: float) -> float:
        return float(np.max(np.linalg.norm(V @ at(s) - rows, axis=-1) / size))

    V, found = [value(start)], [residual(value(start), t[0])]
    claim("dt", 16.0 * steps * V[0].size, "a larger dt, or a shorter t_span at a time")
    looked = 1e-3
    with np.errstate(over="ignore", invalid="ignore"):
        for k, state in enumerate(states):
            V.append(value(state))
            found.append(residual(V[-1], t[k + 1]))
            if dynamics == "flow" and raise_on_failure and found[-1] > 2.0 * looked:
                looked = found[-1]  # it grows: because A moves, or because A is no longer Hurwitz
                _check_hurwitz(at(t[k + 1]), t[k + 1], gamma_h)
            if not found[-1] < 1.0:  # as bad as V = 0, or NaN
                if raise_on_failure:
                    _lost(at(t[k + 1]), float(t[k + 1]), found[-1], dynamics, gamma_h)
                break
    done = len(V)
    if dynamics == "flow" and raise_on_failure:
        _check_hurwitz(at(t[done - 1]), t[done - 1], gamma_h)
    converged = done == steps + 1 and max(found) <= tol and found[-1] < 1.0
    if not converged and raise_on_failure:
        worst = int(np.argmax(found))
        raise ConvergenceError(
            f"the inverse is tracked with residual {found[worst]:.3g} at t = {t[worst]:.6g}, asked {tol:.3g}. "
            "Try: a smaller dt, or a larger gain for the flow"
        )
    return Tracked(t[:done], np.array(V), np.array(found), converged, dynamics)


def _check_hurwitz(A: np.ndarray, t: float, gamma_h: float) -> None:
    λ = np.linalg.eigvals(A)
    if λ.real.max() >= 0:
        raise NotHurwitzError(float(λ.real.max()), f"A at t = {t:.6g}", 'dynamics="inverse", which needs no stability')
    if np.abs(1.0 + gamma_h * λ).max() >= 1.0:
        bound = float((2.0 * np.abs(λ.real) / np.abs(λ) ** 2).min())
        raise UsageError(
            "gain", given=gamma_h, allowed=f"gain * dt below min 2|Re λ|/|λ|² = {bound:.6g} at t = {t:.6g}"
        )


def _lost(A: np.ndarray, t: float, residual: float, dynamics: str, gamma_h: float) -> None:
    """Says why: what A is where the inverse was lost. This looks at a spectrum; nothing goes on after it."""
    if dynamics == "flow":
        _check_hurwitz(A, t, gamma_h)
    σ = np.linalg.svd(A, compute_uv=False)
    number = math.inf if σ[-1] == 0 else σ[0] / σ[-1]
    raise ConvergenceError(
        f"the inverse of A(t) is lost at t = {t:.6g}: residual {residual:.3g}, condition of A there {number:.3g}. "
        "A(t) passes a singular "
        "matrix, or moves too far in a step. Try: a smaller dt, or a span that ends before"
    )
