"""What continuation of limit cycles finds: a branch of cycles, with the special ones on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as member

import numpy as np

from ctrnn.analysis.cycle_curve import CyclePoint, Direction
from ctrnn.analysis.cycles import Cycle, cycle_of
from ctrnn.fields.base import Array
from ctrnn.threads import one_blas_thread

__all__ = ["CycleBranch", "SpecialCycle"]


@dataclass(frozen=True, eq=False, repr=False)
class SpecialCycle:
    """A fold, flip, torus or branch point of limit cycles, or the homoclinic orbit at which a branch of them ends.

    Attributes
    ----------
    kind : "fold", "flip" (period doubling), "torus" (Neimark–Sacker), "branch" or "homoclinic" (the period is infinite)
    parameter, period : values of the parameter and of the period there; of a homoclinic orbit the period, the
        multipliers and ``cycle`` are those of the branch's last cycle
    multipliers : (n,) Floquet multipliers there
    name : of the parameter
    cycle : the `Cycle` itself
    type : of a branch point "pitchfork" or "transcritical", of a homoclinic orbit that of its point of rest, "saddle"
        or "saddle-node" (on an invariant circle); "" else
    angle : of a torus the angle of the multipliers e^(±iθ), rad; None for others
    rest : of a homoclinic orbit the point of rest (n,) that it joins to itself; None for others
    direction : of a branch point the tangent of the other branch; None for others
    place : the number of the branch's point before it

    Examples
    --------
    >>> from ctrnn import Equations, Problem
    >>> from ctrnn.analysis import continue_cycles, limit_cycle
    >>> growth = "(mu + 2*(u**2 + v**2) - (u**2 + v**2)**2)"
    >>> field = Equations({"u": f"u*{growth} - v", "v": f"v*{growth} + u"}, {"mu": 0.5})
    >>> cycle = limit_cycle(Problem(field, [1.5, 0.0], (0.0, 60.0)))
    >>> branch = continue_cycles(field, cycle, "mu", (-1.5, 1.0))
    >>> [(point.kind, round(point.parameter, 8)) for point in branch.special]  # of μ + 2ρ² − ρ⁴ a double root
    [('fold', -1.0)]
    """

    kind: str
    parameter: float
    period: float
    multipliers: Array
    name: str
    cycle: Cycle = member(repr=False)
    type: str = ""
    angle: float | None = None
    rest: Array | None = None
    direction: Direction | None = member(default=None, repr=False)
    place: int = 0

    def __repr__(self) -> str:
        turn = "" if self.angle is None else f", θ = {self.angle:.6g}"
        kind = f"{self.kind}{f' ({self.type})' if self.type else ''}"
        if self.kind == "homoclinic":
            return (
                f"{kind} orbit at {self.name} = {self.parameter:.10g}, of the last cycle the period {self.period:.6g}"
            )
        return f"{kind} of cycles at {self.name} = {self.parameter:.10g}, period {self.period:.10g}{turn}"


@dataclass(frozen=True, eq=False, repr=False)
class CycleBranch:
    """A branch of limit cycles in one parameter, in the order of its arc length.

    Attributes
    ----------
    parameter, period : (K,)
    multipliers : (K, n) Floquet multipliers, the largest modulus first
    stable : (K,) whether all but the trivial multiplier lie inside the unit circle
    lowest, highest : (K, n) each state's least and largest value
    special : the special points, a tuple of `SpecialCycle`, along the branch
    start : the number of the point where the continuation began
    ends : why it ended before the first and after the last point: "span", "hopf" (the cycle shrinks to a point),
        "period" (it grows beyond max_period: a homoclinic orbit is near, a special point where it is told), "closed",
        "max_points", "lost"
    name, states : names of the parameter and of the states
    points : the cycles' collocation solutions

    Examples
    --------
    >>> from ctrnn import Equations, Problem
    >>> from ctrnn.analysis import continue_cycles, limit_cycle
    >>> field = Equations({"u": "v", "v": "mu*(1 - u**2)*v - u"}, {"mu": 1.0})
    >>> branch = continue_cycles(field, limit_cycle(Problem(field, [2.0, 0.0], (0.0, 40.0))), "mu", (0.5, 2.0))
    >>> branch.ends, bool(branch.stable.all())
    (('span', 'span'), True)
    """

    parameter: Array
    period: Array
    multipliers: Array
    stable: Array
    lowest: Array
    highest: Array
    special: tuple[SpecialCycle, ...]
    start: int
    ends: tuple[str, str]
    name: str
    states: tuple[str, ...]
    points: tuple[CyclePoint, ...] = member(repr=False, kw_only=True)

    def __len__(self) -> int:
        return self.parameter.size

    def __iter__(self) -> Iterator[SpecialCycle]:
        return iter(self.special)

    def of_kind(self, kind: str) -> list[SpecialCycle]:
        """The special points of one kind."""
        return [point for point in self.special if point.kind == kind]

    def cycle(self, k: int) -> Cycle:
        """The cycle number k, with its phase response."""
        point = self.points[k]
        with one_blas_thread, np.errstate(all="ignore"):
            return cycle_of(point.linear.family, point.orbit, point.linear, np.nan)

    def __repr__(self) -> str:
        low, high = self.parameter.min(), self.parameter.max()
        head = (
            f"branch of {len(self)} limit cycles, {self.name} from {low:.6g} to {high:.6g}, period from "
            f"{self.period.min():.6g} to {self.period.max():.6g}, {int(self.stable.sum())} of them stable; "
            f"ends: {', '.join(self.ends)}"
        )
        return "\n".join([head, *(f"  {point}" for point in self.special)])
