r"""One phase: the state and its cotangent relax together, and the gradient is right in the limit.

    dr/dt = F(r, w, x)        dV/dt = V J(r) − ∂l/∂r        dl/dw ≈ −V F_w(r) at every moment

No phase comes first and nothing is stored: this is recurrent backpropagation as a machine would run it, in continuous
time. About the rest point (δr, δV) obeys a linear system with J twice on its diagonal, once for r and once for V, and
one corner, by which δr drives δV. Its eigenvalues are those of J, each twice and in general in a Jordan block: with α =
max Re λ(J), the spectral abscissa, the gradient's error falls as

    ‖error‖ ~ (c₀ + c₁ t) e^{αt}        and with r at rest from the start c₁ = 0.

Sources: L. B. Almeida, "A learning rule for asynchronous perceptrons with feedback in a combinatorial environment",
ICNN (1987); F. J. Pineda, Phys. Rev. Lett. 59 (1987), and "Dynamics and architecture for neural computation", J.
Complexity 4 (1988).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as member
from typing import Any

import numpy as np

from ctrnn.errors import DivergenceError, NotAtRestError, TooManyStepsError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.kernels import point
from ctrnn.memory import claim
from ctrnn.numbers import checked_array, number, positive, real_array, whole
from ctrnn.states import state_of

__all__ = ["OnePhase", "one_phase"]

#: evaluations of F in a relaxation, some seconds of them
MOST_EVALUATIONS = 250_000


@dataclass(frozen=True, repr=False, eq=False)
class OnePhase:
    """State and cotangent on their way to rest.

    Attributes
    ----------
    t : ndarray (T,)
        The times.
    r, V : ndarray (T, n)
        State and cotangent.
    speed : ndarray (T,)
        ‖(dr/dt, dV/dt)‖₂.
    field : Field
        F.
    x : array_like (nx,) or None
        The input held.
    """

    t: Array
    r: Array
    V: Array
    speed: Array
    field: Field = member(repr=False)
    x: Any = None

    def gradient(self, k: int = -1) -> Array:
        """The gradient dl/dw (m,) as it is at t[k], the last by default."""
        return self.field.parameter_vjp(0.0, self.r[k], -self.V[k], self.x)

    def errors(self, exact: Array) -> Array:
        """The relative error ‖gradient at t[k] − exact‖/‖exact‖, (T,)."""
        scale = np.linalg.norm(exact)
        return np.array([np.linalg.norm(self.gradient(k) - exact) / scale for k in range(self.t.size)])

    def decay_rate(self, exact: Array) -> float:
        """The rate α in error ≈ c (1 + p t) e^{αt}, p ≥ 0, fitted to the later half of the time.

        Of late times, max Re λ(J).

        It is right within some per cent where that eigenvalue is real and stands apart (a fifth from the next); of a
        complex pair the error also swings, and of close eigenvalues rounding is reached before the slowest is alone.
        Errors below 1e-10, where rounding shows, are left out. Raises UsageError where fewer than ten are left.
        """
        error = self.errors(exact)
        used = (self.t >= 0.5 * self.t[-1]) & (error > 1e-10)
        if used.sum() < 10:
            raise UsageError("duration", given=self.t[-1], allowed="one at whose half the error is above 1e-10")
        t, error = self.t[used], np.log(error[used])
        # linear in log c and α; p by trying
        grid = np.concatenate([[0.0], np.geomspace(1e-2, 1e3, 101)]) / t[-1]
        fits = [np.polyfit(t, error - np.log1p(p * t), 1, full=True) for p in grid]
        best = min(fits, key=lambda fit: float(fit[1].sum()))
        return float(best[0][0])

    @property
    def vector(self) -> Array:
        """The gradient (m,) at the last time."""
        return self.gradient()

    @property
    def parameters(self) -> dict[str, Array]:
        """The gradient at the last time, by name."""
        return self.field.unflatten(self.vector)

    def __repr__(self) -> str:
        return (
            f"one-phase relaxation of {self.field.n} states and their cotangents to t = {self.t[-1]:.6g}: "
            f"‖(dr/dt, dV/dt)‖ from {self.speed[0]:.3g} to {self.speed[-1]:.3g}"
        )


def one_phase(
    field: Field,
    r0: Any,
    dl_dr: Callable[[Array], Any],
    duration: float,
    x: Any = None,
    *,
    V0: Any = None,
    points: int = 101,
    rtol: float = 1e-10,
    atol: float = 1e-13,
    rest: float | None = None,
) -> OnePhase:
    """Relax the state and its cotangent together: the gradient at rest without phases and without storage.

    Parameters
    ----------
    field : Field
        F; t = 0 in it.
    r0 : array_like (n,)
        The start of r.
    dl_dr : callable
        r (n,) ↦ ∂l/∂r (n,).
    duration : float
        How long, in units of t.
    x : array_like (nx,), optional
        The input held.
    V0 : array_like (n,), optional
        The start of V; 0 by default.
    points : int, default 101
        Equidistant times that are kept.
    rtol, atol : float
        Tolerances of the integration (SciPy's DOP853).
    rest : float, optional
        ‖(dr/dt, dV/dt)‖₂, per unit of t, that must be reached at the end; None: whatever it is.

    Returns
    -------
    OnePhase
        States and cotangents on the way; ``vector`` is the gradient at the end.

    Raises
    ------
    NotAtRestError
        Where ``rest`` is not reached: a longer duration, or the point is not stable.
    DivergenceError
        Where the flow leaves the finite numbers.
    TooManyStepsError
        Where it has not come to its end after 250,000 evaluations of F.
    UsageError
        For shapes and values.

    Notes
    -----
    Formulas and sources (Almeida 1987, Pineda 1987) are at the top of `ctrnn.gradients.rest.one_phase`.

    Examples
    --------
    >>> from ctrnn.fields.equations import Equations
    >>> field = Equations({"r": "-r + w*r + b"}, {"w": 0.5, "b": 1.0})  # r* = b / (1 − w); l = r
    >>> one_phase(field, [0.0], lambda r: [1.0], duration=60.0).vector.round(8)
    array([4., 2.])
    """
    from scipy.integrate import solve_ivp

    r0, n = state_of(field, r0), field.n
    if not callable(dl_dr):
        raise UsageError("dl_dr", given=dl_dr, allowed="a function of r, (n,) to (n,)")
    duration = float(checked_array("duration", duration, ()))
    if not duration > 0:
        raise UsageError("duration", given=duration, allowed="a positive time")
    claim("points", 32.0 * n * whole("points", points, 2), "fewer points")
    rtol, atol = positive("rtol", rtol), positive("atol", atol)
    rest = None if rest is None else number("rest", rest)
    V0 = np.zeros(n) if V0 is None else checked_array("V0", V0, (n,))
    checked_array("dl_dr(r0)", dl_dr(r0), (n,))

    def slope(r: Array) -> Array:
        found = dl_dr(r)
        if type(found) is not np.ndarray or found.dtype != np.float64:
            found = real_array("dl_dr(r)", found)
        if found.shape != (n,):
            raise UsageError("dl_dr(r)", given=f"shape {found.shape}", allowed=f"shape ({n},)")
        return found

    left = iter(range(MOST_EVALUATIONS))
    t0, bound, r0, x_ = field._at_point(0.0, r0, x)  # once: to check it takes longer than F

    def flow(now: float, state: Array) -> Array:
        state = np.ascontiguousarray(state)  # compiled code goes by addresses
        r, V = state[:n], state[n:]
        if next(left, None) is None:
            raise TooManyStepsError(
                f"the one-phase flow took {MOST_EVALUATIONS} evaluations of F", t=now, r=r, h=0.0,
                hint="a shorter duration, or larger tolerances",
            )  # fmt: skip
        if not np.isfinite(state).all():
            return np.full(2 * n, np.nan)
        out = np.empty(2 * n)
        point.field(bound.system, t0, r, x_, out[:n])
        point.vjp(bound.system, t0, r, x_, V.reshape(n, 1), out[n:].reshape(n, 1))
        bound.raise_pending()
        out[n:] -= slope(r)
        return out

    t = np.linspace(0.0, float(duration), points)
    if not (np.diff(t) > 0.0).all():
        raise UsageError("duration", given=duration, allowed=f"a time that {points} points divide")
    with np.errstate(all="ignore"):
        run = solve_ivp(flow, (0.0, t[-1]), np.concatenate([r0, V0]), "DOP853", t_eval=t, rtol=rtol, atol=atol)
    states = np.asarray(run.y).T  # a list where the first step failed
    if not run.success or not np.isfinite(states).all():
        last = states[-1, :n] if len(states) else r0
        raise DivergenceError(
            "the one-phase flow left the finite numbers", t=float(run.t[-1]) if len(run.t) else 0.0, r=last, h=0.0,
            hint="an r0 nearer to a stable rest point: V grows wherever J is not Hurwitz",
        )  # fmt: skip
    left = iter(range(MOST_EVALUATIONS))
    speed = np.array([np.linalg.norm(flow(0.0, state)) for state in states])
    if rest is not None and not speed[-1] <= rest:
        raise NotAtRestError(
            speed[-1], f"(r, V) at t = {duration:g}", "a longer duration, or an r0 that leads to a stable point"
        )
    return OnePhase(t, states[:, :n], states[:, n:], speed, field, x)
