r"""Pseudo-arclength continuation: along a curve G(y) = 0, with N equations for the N + 1 unknowns y.

    tangent     G_y v = 0, ⟨v, v_old⟩ > 0, ⟨v, v⟩ = 1          from one bordered system [G_y; v_oldᵀ] v = (0, 1)
    predictor   y + h v
    corrector   Newton on G = 0 and ⟨v, y − (y + h v)⟩ = 0     regular at folds, where the parameter alone would fail

⟨u, v⟩ = Σ ω_i u_i v_i, with weights ω that make states and parameters comparable: those at the last point, where a
state that has grown counts by its size, so that a branch to infinity takes steps in proportion. h grows where Newton
converges quickly and the tangent turns little, and shrinks otherwise. Between two points a function is brought to zero
by bracketing (`locate`), each trial corrected to the curve.

Sources: H. B. Keller, in *Applications of Bifurcation Theory* (Academic Press, 1977); Allgower and Georg, *Numerical
Continuation Methods* (1990).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ctrnn.analysis.linear import null_vector, shortest, solve
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.numbers import checked_array, positive, whole

#: Newton's steps for one point
NEWTON = 8
#: a step of Newton's method below this, in the weighted norm, is the last: what is left is its square
CLOSE = 1e-8
#: the most that the tangent may turn from point to point, rad
TURN = 0.3
#: the corrector may go this far, as a part of the step: further away may lie another branch
FAR = 0.5
#: a limit holds where less than this part of it is missing
ROUNDING = 1e-12
#: points before a curve may close
FEW = 4


class Curve(Protocol):
    """G(y) = 0 and what is needed of it; ``weights`` (N + 1,) are those of the inner product."""

    weights: Array

    def weigh(self, y: Array) -> None:
        """Make the weights those at y."""

    def residual(self, y: Array) -> Array:
        """G (N,) at y (N + 1,)."""

    def derivative(self, y: Array) -> Array:
        """∂G/∂y (N, N + 1)."""


@dataclass
class Point:
    """A point of a curve, its tangent, G_y (N, N + 1) there, and what tests found out about it."""

    y: Array
    tangent: Array
    G_y: Array
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Steps:
    """Lengths of steps (in the weighted norm) and the most points in one direction."""

    first: float = 0.01
    largest: float = 0.05
    smallest: float = 1e-8
    most: int = 2000

    def __post_init__(self) -> None:
        for name, value in (("step", self.first), ("max_step", self.largest)):
            object.__setattr__(self, "first" if name == "step" else "largest", positive(name, value))
        if not 0 < self.smallest <= self.first <= self.largest < np.inf:
            raise UsageError(
                "step, max_step", given=(self.first, self.largest), allowed=f"{self.smallest:g} ≤ step ≤ max_step"
            )
        whole("max_points", self.most)


#: spans and states are squared
WIDEST = 1e150


def checked_span(name: str, span: Any) -> tuple[float, float]:
    """(low, high) of a parameter, low < high."""
    low, high = (float(end) for end in checked_array(name, span, (2,)))
    if not 0.0 < high - low < WIDEST:
        raise UsageError(name, given=(low, high), allowed=f"(low, high) with low < high, less than {WIDEST:g} apart")
    return low, high


def state_weights(r: Array, least: float) -> Array:
    """The weights of the states r (n,): each counts by its size, or ``least``."""
    return 1.0 / (r.size * np.maximum(least, np.abs(r)) ** 2)


def norm(curve: Curve, v: Array) -> float:
    """√⟨v, v⟩."""
    return float(np.sqrt(np.sum(curve.weights * v * v)))


def correct(curve: Curve, y: Array, row: Array, value: float, most: int = NEWTON) -> tuple[Array, int] | None:
    """Newton from y to the curve, in the plane row·y = value; the point and how many steps, or None."""
    before = np.inf
    for k in range(1, most + 1):
        G = np.append(curve.residual(y), row @ y - value)
        if not np.isfinite(G).all():
            return None
        δ = solve(np.vstack([curve.derivative(y), row]), -G)
        if δ is None:
            return None
        y, size = y + δ, norm(curve, δ)
        if size <= CLOSE or not δ.any():
            # one more step polishes: Newton's map at the limit of its own rounding
            return y, k
        if k > 2 and size > 2.0 * before:
            return None
        before = size
    return None


def point_at(curve: Curve, y: Array, previous: Array) -> Point | None:
    """The point y with its tangent, which looks where ``previous`` (N + 1,) does."""
    G_y = curve.derivative(y)
    row = curve.weights * previous
    v = solve(np.vstack([G_y, row]), np.eye(1, y.size, y.size - 1)[0])
    if v is None:
        return None
    v = v / norm(curve, v)
    return Point(y, v if row @ v > 0 else -v, G_y)


def first_point(curve: Curve, y: Array, towards: Array) -> Point | None:
    """A point of the curve near y by the shortest steps (Gauss–Newton).

    Its tangent comes from the null space of G_y and looks ``towards``.
    """
    scale = 1.0 / np.sqrt(curve.weights)
    for _ in range(4 * NEWTON):
        G, G_y = curve.residual(y), curve.derivative(y)
        found = shortest(G_y * scale, -G)
        if found is None:
            return None
        δ = scale * found[0]
        y = y + δ
        if norm(curve, δ) <= CLOSE:
            break
    else:
        return None
    G_y = curve.derivative(y)
    across = null_vector(G_y * scale)
    if across is None:
        return None
    v = scale * across
    return Point(y, v if np.sum(curve.weights * v * towards) >= 0 else -v, G_y)


@dataclass(frozen=True)
class Limit:
    """y[index] stays between low and high; where it would leave, the curve ends on the limit, for the reason said."""

    index: int
    low: float
    high: float
    reason: str

    def holds(self, y: Array) -> bool:
        """Whether y is within it, to rounding."""
        value = float(y[self.index])
        return self.low - ROUNDING * abs(self.low) <= value <= self.high + ROUNDING * abs(self.high)


def follow(
    curve: Curve,
    start: Point,
    steps: Steps,
    limits: Sequence[Limit],
    accept: Callable[[Point, Point], bool] = lambda a, b: True,
    stop: Callable[[Point], str] = lambda b: "",
) -> tuple[list[Point], str]:
    """Points along the curve from ``start`` in the direction of its tangent, and why they end.

    accept(a, b) may refuse the step from a to b, which is then taken shorter; stop(b) gives a reason to end at b. The
    reasons of its own: that of
    a limit, "closed" (back at the start), "max_points", "lost" (no shorter step is possible).
    """
    walk, h = [start], steps.first
    while len(walk) <= steps.most:
        a = walk[-1]
        curve.weigh(a.y)
        a.tangent = a.tangent / norm(curve, a.tangent)
        row = curve.weights * a.tangent
        closing = _closes(curve, start, a, h) if len(walk) > FEW else None
        guess = a.y + h * a.tangent
        found = correct(curve, guess, row, float(row @ guess))
        b = None
        if found is not None and norm(curve, found[0] - guess) <= FAR * h:
            b = point_at(curve, found[0], a.tangent)
        turn = np.inf if b is None else _angle(curve, a.tangent, b.tangent)
        if b is None or found is None or turn > TURN:
            if h <= steps.smallest:
                return walk, "lost"
            h = max(0.5 * h, steps.smallest)
            continue
        if closing:
            return [*walk, Point(start.y, start.tangent, start.G_y, start.facts)], "closed"
        left = [limit for limit in limits if not limit.low <= b.y[limit.index] <= limit.high]
        if left:
            landed, limit = _first_landing(curve, a, b, left)
            if landed is None and h > steps.smallest:
                h = max(0.5 * h, steps.smallest)
                continue
            if landed is not None:
                if not accept(a, landed) and h > steps.smallest:
                    h = max(0.5 * h, steps.smallest)
                    continue
                walk.append(landed)
            return walk, limit.reason
        if not accept(a, b) and h > steps.smallest:
            h = max(0.5 * h, steps.smallest)
            continue
        walk.append(b)
        reason = stop(b)
        if reason:
            return walk, reason
        if found[1] <= 3 and turn < 0.4 * TURN:
            h = min(1.4 * h, steps.largest)
        elif found[1] > 5 or turn > 0.8 * TURN:
            h = max(0.6 * h, steps.smallest)
    return walk, "max_points"


def _angle(curve: Curve, u: Array, v: Array) -> float:
    return float(np.arccos(np.clip(np.sum(curve.weights * u * v), -1.0, 1.0)))


def _closes(curve: Curve, start: Point, a: Point, h: float) -> bool:
    """Whether the next step, cut short, ends at the start, in its direction."""
    d = start.y - a.y
    row = curve.weights * a.tangent
    along = float(row @ d)
    if not 0.0 < along <= h or norm(curve, d - along * a.tangent) > along or row @ start.tangent < 0.5:
        return False
    found = correct(curve, a.y + along * a.tangent, row, float(row @ start.y))
    return found is not None and norm(curve, found[0] - start.y) <= 1e-6


def _first_landing(curve: Curve, a: Point, b: Point, left: Sequence[Limit]) -> tuple[Point | None, Limit]:
    """Where the curve meets the first of the limits that b is beyond: there it is within the others."""
    for limit in left:
        landed = _land(curve, a, b, limit)
        if landed is not None and all(other is limit or other.holds(landed.y) for other in left):
            return landed, limit
    return None, left[0]


def _land(curve: Curve, a: Point, b: Point, limit: Limit) -> Point | None:
    """The point between a and b where y[index] is at its limit."""
    i = limit.index
    goal = limit.low if b.y[i] < limit.low else limit.high
    share = (goal - a.y[i]) / (b.y[i] - a.y[i])
    row = np.eye(1, a.y.size, i)[0]
    found = correct(curve, a.y + share * (b.y - a.y), row, goal)
    if found is None or norm(curve, found[0] - a.y) > 2.0 * norm(curve, b.y - a.y):
        return None
    y = found[0]
    y[i] = goal
    return point_at(curve, y, a.tangent)


def locate(
    curve: Curve,
    a: Point,
    b: Point,
    value: Callable[[Point], float],
    tol: float = 1e-12,
    most: int = 60,
) -> Point | None:
    """A point between a and b where value changes its sign; None where it does not.

    By bracketing (Illinois' rule, every fourth time by halving), down to a bracket of ``tol`` of the step.
    """
    row = curve.weights * a.tangent
    low, high = 0.0, float(row @ (b.y - a.y))
    f_low, f_high, best = value(a), value(b), b
    if not np.sign(f_low) * np.sign(f_high) <= 0:
        return None
    if f_low == 0.0:
        return a
    side, h = 0, high
    for k in range(most):
        at = 0.5 * (low + high) if k % 4 == 3 or f_high == f_low else (low * f_high - high * f_low) / (f_high - f_low)
        share = at / h
        found = correct(curve, a.y + share * (b.y - a.y), row, float(row @ a.y) + at, 2 * NEWTON)
        middle = None if found is None else point_at(curve, found[0], a.tangent)
        if middle is None:
            return None
        f, best = value(middle), middle
        if not np.isfinite(f):
            return None
        if f == 0.0 or high - low <= tol * h:
            break
        if np.sign(f) == np.sign(f_high):
            high, f_high, f_low, side = at, f, f_low * (0.5 if side > 0 else 1.0), 1
        else:
            low, f_low, f_high, side = at, f, f_high * (0.5 if side < 0 else 1.0), -1
        if abs(f) < 1e-14:
            break
    return best
