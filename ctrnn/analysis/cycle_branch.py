r"""Continuation of limit cycles in one parameter, with their folds, flips, tori and branch points.

Along the curve of cycles (ctrnn.analysis.cycle_curve), of the Floquet multipliers other than the trivial one,

    a fold          dμ/ds changes its sign                a multiplier passes 1
    a branch point  a real multiplier passes 1, and dμ/ds does not change its sign; or, on the bent branch of a
                    pitchfork, dμ/ds changes its sign, and no multiplier passes 1
    a flip          a real multiplier passes −1           a cycle of twice the period is born
    a torus         a complex pair passes |·| = 1         Neimark and Sacker's bifurcation

is seen between two points and located on the curve by bracketing, each trial a cycle of its own. The branch ends at
the span's ends, at a Hopf point, where the cycle shrinks to nothing, and where the period grows without bound, near a
homoclinic orbit (ctrnn.analysis.homoclinic).

Source: Doedel, Keller and Kernévez, Int. J. Bifurcation and Chaos 1 (1991); Kuznetsov, *Elements of Applied
Bifurcation Theory* (2004), chapter 10.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.analysis import collocation
from ctrnn.analysis.arclength import Steps, checked_span
from ctrnn.analysis.cycle_curve import CycleCurve, CyclePoint, Direction
from ctrnn.analysis.cycle_places import beside, bracketed
from ctrnn.analysis.cycle_results import CycleBranch, SpecialCycle
from ctrnn.analysis.cycle_switch import other_branch
from ctrnn.analysis.cycles import Cycle, cycle_of, is_stable
from ctrnn.analysis.family import Family
from ctrnn.analysis.homoclinic import homoclinic
from ctrnn.errors import ConvergenceError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.numbers import positive
from ctrnn.threads import one_blas_thread

__all__ = ["continue_cycles"]

#: a residual, over the cycle's extent, with which a given cycle is taken as it is
EXACT = 1e-9
#: points between two looks at the mesh
REMESH = 4
#: a cycle that shrinks is about to become a Hopf point where its extent is this part of the largest, or of the states
VANISHED = 0.02
#: changes of sign of less count as rounding
FLAT = 1e-6
#: what is zero at a special point
PLACE = {"flip": "near −1", "torus": "near circle", "branch": "near 1"}
#: the tangent may turn this much from point to point, rad
TURN = 0.4


def continue_cycles(
    field: Field,
    cycle: Cycle,
    parameter: str,
    span: tuple[float, float],
    *,
    step: float = 0.02,
    max_step: float = 0.1,
    max_points: int = 300,
    max_period: float | None = None,
) -> CycleBranch:
    """The branch of limit cycles through a cycle, in both directions, with its folds, flips, tori and branch points.

    Parameters
    ----------
    field : the field of the cycle; the branch begins at the cycle's own value of the parameter
    cycle : a `Cycle`, stable or not, from limit_cycle
    parameter : its name, or "W[0,1]", or an input, as in continue_equilibria
    span : the parameter's least and largest value
    step, max_step : first and longest step, as parts of the span, of the cycle's extent and of its period
    max_points : the most points in each direction
    max_period : where the period grows beyond it the branch ends; by default 30 times that of the cycle

    Returns
    -------
    CycleBranch
        with ``parameter`` (K,), ``period`` (K,), ``multipliers``, ``stable`` and ``special``

    Raises
    ------
    UnknownNameError, UsageError
        for a parameter, span or cycle that is not allowed
    ConvergenceError
        where the field has no cycle near the given one

    Examples
    --------
    >>> from ctrnn import Equations, Problem
    >>> from ctrnn.analysis import limit_cycle
    >>> field = Equations({"u": "v", "v": "mu*(1 - u**2)*v - u"}, {"mu": 1.0})
    >>> cycle = limit_cycle(Problem(field, [2.0, 0.0], (0.0, 40.0)))
    >>> branch = continue_cycles(field, cycle, "mu", (0.5, 1.5))
    >>> f"{branch.period[branch.start]:.9f}"
    '6.663286859'
    """
    if not isinstance(cycle, Cycle):
        raise UsageError("cycle", given=cycle, allowed="a Cycle, from ctrnn.analysis.limit_cycle")
    if not isinstance(field, Field) or field.n != cycle.field.n or field.m != cycle.field.m:
        raise UsageError("field", given=field, allowed="the field of the cycle")
    low, high = checked_span("span", span)
    own = Family(cycle.field, (parameter,), cycle.x)
    base = Family(field, (parameter,), cycle.x).field(own.start)
    family = Family(base, (parameter,), cycle.x)
    mu = float(family.start[0])
    if not low <= mu <= high:
        raise UsageError("span", given=(low, high), allowed=f"one that holds {mu:g}, the cycle's own value")
    longest = 30.0 * cycle.period if max_period is None else max_period
    is_endless = isinstance(longest, float) and longest == np.inf
    longest = np.inf if is_endless else positive("max_period", longest)
    if not longest > cycle.period:
        raise UsageError("max_period", given=max_period, allowed=f"more than {cycle.period:g}, the cycle's own period")
    o = cycle.orbit
    curve = CycleCurve(family, o.scale, (low, high))
    with one_blas_thread, np.errstate(all="ignore"):
        alone = collocation.Orbit(o.s, o.R, o.Y, o.T, np.empty(0))
        still = Family(base, (), cycle.x)
        linear = collocation.Linear(still, alone)
        found = (alone, linear) if linear.residual() < EXACT else collocation.newton(still, alone, alone)
        if found is None:
            raise ConvergenceError(
                f"no limit cycle near the given one at {parameter} = {mu:g}. Try: the field of the cycle"
            )
        start = collocation.Orbit(found[0].s, found[0].R, found[0].Y, found[0].T, np.array([mu]))
        first = _first(curve, start)
        steps = Steps(step, max_step, smallest=1e-7, most=max_points)
        return _Walk(curve, steps, longest).both(first)


def _first(curve: CycleCurve, orbit: collocation.Orbit) -> CyclePoint:
    """The start with its tangent; at a fold, where the parameter stands still, from a row of the states' own."""
    linear = collocation.Linear(curve.family, orbit)
    try:
        point = curve.point(orbit, linear, None)
        if abs(point.tangent.mu) > 0 and np.isfinite(point.tangent.Y).all():
            return point
    except np.linalg.LinAlgError:
        pass
    spread = Direction(orbit.R - orbit.R.mean(axis=0), orbit.Y - orbit.R.mean(axis=0), orbit.T, 0.0)
    return curve.point(orbit, linear, spread)


class _Walk:
    """Follows a curve of cycles and gathers its special points."""

    def __init__(self, curve: CycleCurve, steps: Steps, longest: float) -> None:
        self.curve, self.steps, self.longest = curve, steps, longest

    def both(self, start: CyclePoint) -> CycleBranch:
        self.curve.tests(start)
        unit = self.curve.unit
        ahead, found, why = self.one_way(start)
        self.curve.unit = unit  # in which the start's tangent has the length 1
        back: list[CyclePoint] = [start]
        before: list[tuple[int, tuple[str, CyclePoint]]] = []
        if why == "closed":
            reason, first = why, 0
        else:
            turned = CyclePoint(start.orbit, start.linear, -start.tangent, start.facts)
            back, before, reason = self.one_way(turned)
            first = len(back) - 1
        walk = [*reversed(back[1:]), *ahead]
        special = [(first - k, s) for k, s in reversed(before)] + [(first + k - 1, s) for k, s in found]
        return self._branch(walk, special, first, (reason, why))

    def one_way(self, start: CyclePoint) -> tuple[list[CyclePoint], list[tuple[int, tuple[str, CyclePoint]]], str]:
        """The points of one direction, the special ones with the number of the point that follows, and why it ends."""
        curve, steps = self.curve, self.steps
        walk, h, a = [start], steps.first, start
        found: list[tuple[int, tuple[str, CyclePoint]]] = []
        largest, way = start.orbit.size, self._way(start)
        taken: list[tuple[CyclePoint, CyclePoint]] = []
        while len(walk) <= steps.most:
            if len(walk) % REMESH == 0:
                a = curve.remeshed(a)
            ahead = self._corrected(a, h)
            if ahead is None:
                if self._is_vanishing(a, largest):
                    return walk, found, "hopf"
                if h <= steps.smallest:
                    return walk, found, "lost"
                h *= 0.5
                continue
            b, turn = ahead
            if self._through_nothing(a, b):
                if self._is_vanishing(a, largest) or h <= steps.smallest:
                    return walk, found, "hopf"
                h *= 0.5
                continue
            landed = self._landed(a, b)
            if landed is not None:
                if landed == "missed":
                    h *= 0.5
                    if h <= steps.smallest:
                        return walk, found, "lost"
                    continue
                b = landed  # type: ignore[assignment]
            curve.tests(b)
            kinds = self._seen(a, b)
            taken.append((a, b))
            folds = self._way(b) != 0 and way != 0 and self._way(b) != way
            explained = sum(2 if kind == "torus" else 1 for kind in kinds) + (self._way(b) == 0 or folds)
            if abs(b.facts["growing"] - a.facts["growing"]) > explained and h > 1e-3 * steps.first:
                taken.pop()
                h *= 0.5
                continue
            if folds and (fold := self._fold(taken)) is not None:
                found.append((len(walk), fold))
            if self._way(b) != 0:
                way, taken = self._way(b), []
            found += [(len(walk), (kind, s)) for kind in kinds if (s := self._located(kind, a, b)) is not None]
            walk.append(b)
            if landed is not None:
                return walk, found, "span"
            if self.longest < b.orbit.T:
                return walk, [*found, (len(walk), ("homoclinic", b))], "period"
            if len(walk) > 6 and self._is_back(start, a, b):
                return walk, found, "closed"
            h = min(1.4 * h, steps.largest) if turn < 0.4 * TURN else h
            h = 0.6 * h if turn > 0.8 * TURN else h
            largest, a = np.maximum(largest, b.orbit.size), curve.rescaled(b)
        return walk, found, "max_points"

    def _corrected(self, a: CyclePoint, h: float) -> tuple[CyclePoint, float] | None:
        """The next point and how much the tangent turns; None where the step is too long."""
        try:
            found = self.curve.corrected(a, h)
        except np.linalg.LinAlgError:
            return None
        if found is None or found[1] > 0.5 * h:
            return None
        b = found[0]
        turn = float(np.arccos(np.clip(self.curve.product(b.orbit, a.tangent, b.tangent), -1.0, 1.0)))
        return None if turn > TURN else (b, turn)

    def _through_nothing(self, a: CyclePoint, b: CyclePoint) -> bool:
        """Whether the cycle has turned inside out: it has passed a Hopf point."""
        return bool(((a.orbit.Y - a.orbit.R.mean(axis=0)) * (b.orbit.Y - b.orbit.R.mean(axis=0))).sum() < 0)

    def _is_vanishing(self, a: CyclePoint, largest: Array) -> bool:
        """Whether a Hopf point is near: the extent is small, and shrinks."""
        around = a.orbit.R - a.orbit.R.mean(axis=0)
        least = VANISHED * np.maximum(largest, max(1.0, float(np.abs(a.orbit.R.mean(axis=0)).max())))
        return bool((around * a.tangent.R).sum() < 0 and (a.orbit.size <= least).all())

    def _landed(self, a: CyclePoint, b: CyclePoint) -> CyclePoint | str | None:
        """The cycle at the end of the span where b is beyond it; "missed" where there is none nearby."""
        low, high = self.curve.span
        mu_a, mu_b = float(a.orbit.mu[0]), float(b.orbit.mu[0])
        if low <= mu_b <= high:
            return None
        goal = low if mu_b < low else high
        share = (goal - mu_a) / (mu_b - mu_a)
        o, p = a.orbit, b.orbit
        between = collocation.Orbit(
            o.s, o.R + share * (p.R - o.R), o.Y + share * (p.Y - o.Y), o.T + share * (p.T - o.T), np.array([goal])
        )
        found = self.curve.at_parameter(a, between, goal)
        if found is None:
            return "missed"
        moved = self.curve.apart(o, found.orbit)
        whole = self.curve.apart(o, p)
        too_far = self.curve.product(o, moved, moved) > 4.0 * self.curve.product(o, whole, whole)
        return "missed" if too_far else found

    def _is_back(self, start: CyclePoint, a: CyclePoint, b: CyclePoint) -> bool:
        """Whether the step from a to b passes the start."""
        mu, T = float(start.orbit.mu[0]), start.orbit.T
        passes = (float(a.orbit.mu[0]) - mu) * (float(b.orbit.mu[0]) - mu) <= 0
        if a.tangent.mu * start.tangent.mu <= 0 or not passes or a.orbit.mu[0] == b.orbit.mu[0]:
            return False
        share = (mu - a.orbit.mu[0]) / (b.orbit.mu[0] - a.orbit.mu[0])
        T_there = a.orbit.T + share * (b.orbit.T - a.orbit.T)
        size = a.orbit.size + share * (b.orbit.size - a.orbit.size)
        return bool(abs(T_there - T) < 1e-3 * T and (np.abs(size - start.orbit.size) < 1e-2 * start.orbit.unit).all())

    def _seen(self, a: CyclePoint, b: CyclePoint) -> list[str]:
        kinds, moves = [], self._way(a) != 0 and self._way(b) != 0
        if a.tangent.mu * b.tangent.mu > 0 and moves and a.facts["one"] * b.facts["one"] < 0:
            kinds += ["branch"] if self._is_clear(a, b, "near 1") else []
        return kinds + [k for k in ("flip", "torus") if a.facts[k] * b.facts[k] < 0 and self._is_clear(a, b, PLACE[k])]

    def _way(self, point: CyclePoint) -> float:
        """The sign of dμ/ds; 0 where the parameter stands still but for rounding, as in a canard."""
        still = abs(point.tangent.mu) <= FLAT * (self.curve.span[1] - self.curve.span[0])
        return 0.0 if still else float(np.sign(point.tangent.mu))

    def _fold(self, taken: list[tuple[CyclePoint, CyclePoint]]) -> tuple[str, CyclePoint] | None:
        """The fold on the steps taken since dμ/ds was last clearly of the other sign: where μ was at its extreme.

        Where no multiplier has passed 1 since it is the bend of a pitchfork.
        """
        turns = [step for step in taken if step[0].tangent.mu * step[1].tangent.mu < 0]
        if not turns:
            return None
        # in a canard μ is flat to its rounding: there the multiplier that passes 1 tells the place
        passes = [step for step in taken if step[0].facts["one"] * step[1].facts["one"] < 0]
        if passes and not any(step is turn for step in passes for turn in turns):
            found = self._located("branch", *passes[-1])
            if found is not None:
                return "fold", found
        forwards = np.sign(taken[0][0].tangent.mu)
        a, b = max(turns, key=lambda step: forwards * float(step[0].orbit.mu[0]))
        bend = self._located("fold", a, b)
        if bend is None or not taken[0][0].facts["one"] * taken[-1][1].facts["one"] > 0:
            return None if bend is None else ("fold", bend)
        return "branch", beside(self.curve, a, b, bend, lambda point: point.tangent.mu)

    def _is_clear(self, a: CyclePoint, b: CyclePoint, key: str) -> bool:
        """Whether a multiplier has passed by more than its rounding."""
        return max(abs(a.facts[key]), abs(b.facts[key])) > FLAT

    def _located(self, kind: str, a: CyclePoint, b: CyclePoint) -> CyclePoint | None:
        """The point between a and b where the kind's function is zero.

        None where it is none after all (a neutral saddle).
        """

        def value(point: CyclePoint) -> float:
            if kind == "fold":
                return point.tangent.mu
            self.curve.tests(point)
            return float(point.facts[PLACE[kind]])

        found = bracketed(self.curve, a, b, value)
        if found is None:
            return None
        self.curve.tests(found)
        if kind == "branch":
            found = beside(self.curve, a, b, found, value)
        return None if kind == "torus" and found.facts["is neutral"] else found

    def _branch(self, walk: list[CyclePoint], found: list[Any], first: int, ends: tuple[str, str]) -> CycleBranch:
        family = self.curve.family
        multipliers = np.array([p.facts["multipliers"] for p in walk])
        edges = [_extremes(p) for p in walk]
        special = [one for k, (kind, point) in found for one in self._special(kind, point, max(k, 0), walk)]
        return CycleBranch(
            parameter=np.array([p.orbit.mu[0] for p in walk]),
            period=np.array([p.orbit.T for p in walk]),
            multipliers=multipliers,
            stable=np.array([is_stable(row) for row in multipliers]),
            lowest=np.array([low for low, _ in edges]),
            highest=np.array([high for _, high in edges]),
            special=tuple(special),
            start=first,
            ends=ends,
            name=family.names[0],
            states=tuple(family.base.state_names),
            points=tuple(walk),
        )

    def _special(self, kind: str, point: CyclePoint, place: int, walk: list[CyclePoint]) -> list[SpecialCycle]:
        """A special cycle with what its kind tells; none where the period grows for another reason."""
        family, found = self.curve.family, point.facts["multipliers"]
        parameter, more = float(point.orbit.mu[0]), dict[str, Any]()
        if kind == "torus":
            pairs = found[found.imag > 0]
            more["angle"] = float(np.angle(pairs[np.abs(np.abs(pairs) - 1.0).argmin()]))
        elif kind == "branch":
            other = other_branch(self.curve, point)
            if other is not None:
                more = {"direction": other[0], "type": "pitchfork" if other[1] else "transcritical"}
        elif kind == "homoclinic":
            neighbour = walk[-2] if point is walk[-1] else walk[1]
            orbit = homoclinic(family, neighbour.orbit, point.orbit)
            if orbit is None:
                return []
            parameter, more = orbit.parameter, {"rest": orbit.r, "type": orbit.type}
        cycle = cycle_of(family, point.orbit, point.linear, np.nan)
        return [SpecialCycle(kind, parameter, float(point.orbit.T), found, family.names[0], cycle, place=place, **more)]


def _extremes(point: CyclePoint) -> tuple[Array, Array]:
    """Each state's least and largest value, on a fine grid of the polynomials."""
    path = collocation.evaluate(point.orbit, point.linear.F, np.linspace(0.0, 1.0, 1001)[:-1])
    return path.min(axis=0), path.max(axis=0)
