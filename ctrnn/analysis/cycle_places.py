"""Where a function of the cycles of a branch is zero, between two of its points.

bracketed     Illinois' rule along the tangent
beside        at a branch point, where the equations are singular: by polynomials through points on both sides
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ctrnn.analysis import collocation
from ctrnn.analysis.cycle_curve import CycleCurve, CyclePoint, Direction
from ctrnn.fields.base import Array

#: six points beside a branch point are this part of a step apart
ASIDE = 0.02

Value = Callable[[CyclePoint], float]


def bracketed(curve: CycleCurve, a: CyclePoint, b: CyclePoint, value: Value) -> CyclePoint | None:
    """A point between a and b where the value changes its sign; None where it does not.

    By Illinois' rule on the distance along the tangent of a, each trial a cycle of its own.
    """
    whole = curve.apart(a.orbit, b.orbit) if a.orbit.s.size == b.orbit.s.size else None
    if whole is None:
        return None
    low, high = 0.0, curve.product(a.orbit, a.tangent, whole)
    f_low, f_high, side, best = value(a), value(b), 0, None
    if not f_low * f_high < 0:
        return None
    for k in range(50):
        at = 0.5 * (low + high) if k % 4 == 3 else (low * f_high - high * f_low) / (f_high - f_low)
        try:
            found = curve.corrected(a, at)
        except np.linalg.LinAlgError:
            return best
        if found is None:
            return best
        best = found[0]
        f = value(best)
        if abs(f) < 1e-12 or high - low < 1e-11:
            return best
        if f * f_high > 0:
            high, f_high, f_low, side = at, f, f_low * (0.5 if side > 0 else 1.0), 1
        else:
            low, f_low, f_high, side = at, f, f_high * (0.5 if side < 0 else 1.0), -1
    return best


def beside(curve: CycleCurve, a: CyclePoint, b: CyclePoint, near: CyclePoint, value: Value) -> CyclePoint:
    """A branch point by polynomials through six points beside it, as the equations are singular at itself.

    And the multiplier that passes 1 is tied to the trivial one there: from rounding ε both differ by √ε.
    """
    o = a.orbit
    at, whole = (curve.product(o, a.tangent, curve.apart(o, other.orbit)) for other in (near, b))
    s = ASIDE * np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    try:
        points = [curve.corrected(a, at + share * whole) for share in s]
    except np.linalg.LinAlgError:
        return near
    if any(one is None for one in points):
        return near
    walk = [one[0] for one in points if one is not None]
    polynomial = np.linalg.inv(np.vander(s / ASIDE, increasing=True))
    c = polynomial @ [value(point) for point in walk]
    z = 0.0
    for _ in range(20):  # Newton's, on a polynomial that is nearly a line
        z -= float((c @ z ** np.arange(6)) / (c[1:] @ (np.arange(1, 6) * z ** np.arange(5))))
    if not abs(z) < 1.0:
        return near
    w = z ** np.arange(6) @ polynomial
    v = np.append(0.0, np.arange(1, 6) * z ** np.arange(5)) @ polynomial

    def mixed(w: Array, part: str) -> Any:
        return sum(weight * getattr(point.orbit, part) for weight, point in zip(w, walk, strict=True))

    found = collocation.Orbit(o.s, mixed(w, "R"), mixed(w, "Y"), float(mixed(w, "T")), mixed(w, "mu"))
    tangent = Direction(mixed(v, "R"), mixed(v, "Y"), float(mixed(v, "T")), float(mixed(v, "mu")[0]))
    tangent = tangent.over(np.sqrt(curve.product(found, tangent, tangent)) * np.sign(whole))
    point = CyclePoint(found, collocation.Linear(curve.family, found), tangent)
    curve.tests(point)
    return point
