r"""Continuation of folds and Hopf points in two parameters, with the points of codimension two on their curves.

    on folds          cusp                 ½⟨p, B(q, q)⟩ = 0: two folds meet
                      bogdanov-takens      ⟨p, q⟩ = 0: a second eigenvalue zero, a Hopf curve ends here
                      zero-hopf            a pair ±iω beside the zero
    on Hopf curves    bautin               l1 = 0 (generalised Hopf): a fold of cycles begins here
                      bogdanov-takens      ω = 0: the curve of Hopf points ends
                      zero-hopf            a zero beside the pair
                      double-hopf          a second pair on the axis

The curves are those of ctrnn.analysis.special_curves; the points are found by the signs of these functions and located
on the curve by bracketing.

Source: Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), chapters 8 and 10.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.analysis.arclength import Limit, Point, Steps, checked_span, follow, locate, norm, point_at
from ctrnn.analysis.branch import SpecialPoint
from ctrnn.analysis.family import Family
from ctrnn.analysis.special_curves import FoldCurve, HopfCurve
from ctrnn.errors import ConvergenceError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.numbers import items
from ctrnn.threads import one_blas_thread

__all__ = ["CodimensionTwoPoint", "SpecialCurve", "continue_special"]

#: points nearer than that, in the weighted norm, are one
SAME = 1e-6
#: the states that a kind of point takes at least: a zero and a pair, two pairs
LEAST = {"bogdanov-takens": 2, "zero-hopf": 3, "double-hopf": 4}


@dataclass(frozen=True, eq=False, repr=False)
class CodimensionTwoPoint:
    """A point where a curve of folds or Hopf points is degenerate.

    Attributes
    ----------
    kind : "cusp", "bogdanov-takens", "zero-hopf", "bautin" or "double-hopf"
    parameters : name -> value, of the two parameters
    r : (n,) the equilibrium there
    eigenvalues : (n,) of J there, real parts descending
    omega : frequency of the Hopf pair, rad per unit of t; 0 where there is none
    place : the number of the curve's point before it

    Examples
    --------
    >>> from ctrnn import RateNetwork
    >>> from ctrnn.analysis import continue_equilibria
    >>> unit = RateNetwork(1, activation="sigmoid").with_parameters(W=[[6.0]], b=[-3.0])
    >>> fold = continue_equilibria(unit, [0.1], "b", (-6.0, 0.0)).special[0]
    >>> curve = continue_special(unit, fold, ("b", "W[0,0]"), ((-6.0, 0.0), (2.0, 8.0)))
    >>> [(point.kind, round(point.parameters["W[0,0]"], 6)) for point in curve.special]
    [('cusp', 4.0)]
    """

    kind: str
    parameters: dict[str, float]
    r: Array
    eigenvalues: Array
    omega: float
    place: int = 0

    def __repr__(self) -> str:
        return f"{self.kind} at {', '.join(f'{name} = {value:.10g}' for name, value in self.parameters.items())}"


@dataclass(frozen=True, eq=False, repr=False)
class SpecialCurve:
    """A curve of folds or Hopf points in two parameters, in the order of its arc length.

    Attributes
    ----------
    kind : "fold" or "hopf"
    parameters : name -> (K,), of the two parameters
    r : (K, n) the equilibria
    omega : (K,) frequencies of the Hopf pairs, rad per unit of t; 0 on folds
    lyapunov : (K,) first Lyapunov coefficients of Hopf points; NaN on folds
    eigenvalues : (K, n) of J
    special : the points of codimension two, a tuple of `CodimensionTwoPoint`, along the curve
    start : the number of the point where the continuation began
    ends : why it ended before the first and after the last point: "span", "bogdanov-takens", "closed", "max_points" or
        "lost"
    states : names of the states

    Examples
    --------
    >>> from ctrnn import Equations
    >>> from ctrnn.analysis import continue_equilibria
    >>> field = Equations({"u": "v", "v": "b1 + b2*u + u**2 + u*v"}, {"b1": 0.0, "b2": -1.0})
    >>> hopf = continue_equilibria(field, [0.0, 0.0], "b1", (-0.5, 0.3)).of_kind("hopf")[0]
    >>> curve = continue_special(field, hopf, ("b1", "b2"), ((-1.0, 1.0), (-2.0, 1.0)))
    >>> curve.ends, curve.special[-1].kind
    (('span', 'bogdanov-takens'), 'bogdanov-takens')
    """

    kind: str
    parameters: dict[str, Array]
    r: Array
    omega: Array
    lyapunov: Array
    eigenvalues: Array
    special: tuple[CodimensionTwoPoint, ...]
    start: int
    ends: tuple[str, str]
    states: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.r)

    def __iter__(self) -> Iterator[CodimensionTwoPoint]:
        return iter(self.special)

    def of_kind(self, kind: str) -> list[CodimensionTwoPoint]:
        """The special points of one kind."""
        return [point for point in self.special if point.kind == kind]

    def __repr__(self) -> str:
        ranges = [f"{name} from {v.min():.6g} to {v.max():.6g}" for name, v in self.parameters.items()]
        head = f"curve of {len(self)} {self.kind} points, {', '.join(ranges)}; ends: {', '.join(self.ends)}"
        return "\n".join([head, *(f"  {point}" for point in self.special)])


def continue_special(
    field: Field,
    special: SpecialPoint,
    parameters: tuple[str, str],
    span: tuple[tuple[float, float], tuple[float, float]],
    *,
    step: float = 0.01,
    max_step: float = 0.05,
    max_points: int = 1000,
) -> SpecialCurve:
    """The curve of folds or of Hopf points in two parameters through a located one, in both directions.

    Parameters
    ----------
    field : the field of the branch
    special : a point of kind "fold" or "hopf" of a `Branch`
    parameters : two names, as in continue_equilibria; the curve begins at their values at the special point
    span : ((low, high), (low, high)) of the two parameters
    step, max_step : first and longest step, as parts of the spans (and of the size of the states)
    max_points : the most points in each direction

    Returns
    -------
    SpecialCurve
        with ``parameters``, a table name -> (K,), and ``special``, the points of codimension two

    Raises
    ------
    UnknownNameError, UsageError
        for parameters, spans or a special point that are not allowed
    ConvergenceError
        where the point is no fold or Hopf point of the field

    Examples
    --------
    >>> from ctrnn import Equations
    >>> from ctrnn.analysis import continue_equilibria
    >>> field = Equations({"r": "b + a*r - r**3"}, {"b": 0.0, "a": 1.0})
    >>> fold = continue_equilibria(field, [1.0], "b", (-1.0, 1.0)).special[0]
    >>> curve = continue_special(field, fold, ("b", "a"), ((-1.0, 1.0), (-1.0, 1.0)))
    >>> bool(np.allclose(27 * curve.parameters["b"] ** 2, 4 * curve.parameters["a"] ** 3))
    True
    """
    if not isinstance(special, SpecialPoint) or special.kind not in ("fold", "hopf"):
        raise UsageError("special", given=special, allowed="a point of kind 'fold' or 'hopf' of a Branch")
    if not isinstance(field, Field) or field.n != special.field.n or field.m != special.field.m:
        raise UsageError("field", given=field, allowed="the field of the branch on which the point lies")
    names = tuple(parameters) if isinstance(parameters, Sequence) and not isinstance(parameters, str) else ()
    if len(names) != 2:
        raise UsageError("parameters", given=parameters, allowed="two names")
    allowed = "((low, high), (low, high)), one for each parameter"
    spans = np.array([checked_span("span", one) for one in items("span", span, allowed)])
    if len(spans) != 2:
        raise UsageError("span", given=span, allowed=allowed)
    family = Family(special.field, names, special.x, special.t, "parameters")
    mu = family.start
    if not ((spans[:, 0] <= mu) & (mu <= spans[:, 1])).all():
        values = ", ".join(f"{name} = {value:.6g}" for name, value in zip(names, mu, strict=True))
        raise UsageError("span", given=span, allowed=f"spans that hold the point, {values}")
    steps = Steps(step, max_step, most=max_points)
    with one_blas_thread, np.errstate(all="ignore"):
        return _Walker(family, special, mu, spans, steps).both()


class _Walker:
    """Follows a curve of special points both ways and gathers the degenerate ones."""

    def __init__(self, family: Family, special: SpecialPoint, mu: Array, spans: Array, steps: Steps) -> None:
        n, r = family.n, special.r
        self.family, self.special, self.steps = family, special, steps
        self.limits = [Limit(n + i, float(low), float(high), "span") for i, (low, high) in enumerate(spans)]
        if special.kind == "fold":
            self.curve: Any = FoldCurve(family, r, mu, spans)
            self.y, kinds = np.concatenate([r, mu]), ("cusp", "bogdanov-takens", "zero-hopf")
        else:
            omega = float(special.omega or 0.0)
            self.curve = HopfCurve(family, r, mu, omega, spans)
            self.y, kinds = np.concatenate([r, mu, [omega**2]]), ("bautin", "zero-hopf", "double-hopf")
            self.limits.append(Limit(n + 2, 0.0, np.inf, "bogdanov-takens"))
        self.kinds = [kind for kind in kinds if n >= LEAST.get(kind, 1)]

    def both(self) -> SpecialCurve:
        start = self._start()
        ahead, found, why = self.one_way(start)
        back, before, reason = [start], list[tuple[int, str, Point]](), why
        if why != "closed":
            self.curve.renewed(start.y)
            turned = Point(start.y, -start.tangent, start.G_y, start.facts)
            back, before, reason = self.one_way(turned)
        first = len(back) - 1
        walk = [*reversed(back[1:]), *ahead]
        special = [(first - k, kind, p) for k, kind, p in reversed(before)]
        special += [(first + k - 1, kind, p) for k, kind, p in found]
        return self._curve(walk, special, first, (reason, why))

    def _start(self) -> Point:
        curve = self.curve
        if np.abs(curve.residual(self.y)).max() > 1e-6:
            raise ConvergenceError(f"{self.special} is no {self.special.kind} of the field. Try: locate it again")
        null = np.linalg.svd(curve.derivative(self.y) / np.sqrt(curve.weights))[2][-1] / np.sqrt(curve.weights)
        # both directions are taken; the first is that in which the second parameter grows
        null = null if null[self.family.n + 1] >= 0 else -null
        start = point_at(curve, self.y, null)
        if start is None:
            raise ConvergenceError(f"the curve is not regular at {self.special}. Try: another point of it")
        curve.tests(start)
        return start

    def one_way(self, start: Point) -> tuple[list[Point], list[tuple[int, str, Point]], str]:
        """The points of one direction, the degenerate ones with the number of the point that follows.

        Why it ends.
        """
        curve = self.curve
        seen: dict[int, list[tuple[str, Point]]] = {}

        def accept(a: Point, b: Point) -> bool:
            curve.tests(b)
            seen[id(b)] = [(kind, p) for kind in self._seen(a, b) if (p := self._located(kind, a, b)) is not None]
            curve.renewed(b.y)
            return True

        walk, why = follow(curve, start, self.steps, self.limits, accept)
        found = [(k, kind, p) for k, b in enumerate(walk) for kind, p in seen.get(id(b), [])]
        if why == "bogdanov-takens":
            found.append((len(walk) - 1, why, walk[-1]))
        return walk, found, why

    def _seen(self, a: Point, b: Point) -> list[str]:
        kinds = []
        for kind in self.kinds:
            key = f"{kind} sign" if f"{kind} sign" in a.facts else kind
            if a.facts[key] * b.facts[key] < 0:
                kinds.append(kind)
        return kinds

    def _located(self, kind: str, a: Point, b: Point) -> Point | None:
        """The point between a and b where the kind's function vanishes; None for a neutral saddle."""
        sign = f"{kind} sign"

        def value(point: Point) -> float:
            self.curve.tests(point)
            f = float(point.facts[kind])
            if sign not in point.facts:
                return f
            # the sign is sure, the size is that of the pair or eigenvalue nearest to zero
            return float(point.facts[sign] * (abs(f) if np.isfinite(f) else 1.0))

        found = locate(self.curve, a, b, value, 1e-14, 80)
        if found is None:
            return None
        self.curve.tests(found)
        is_missing = kind in ("zero-hopf", "double-hopf") and not np.isfinite(found.facts[kind])
        # where the pair itself comes to zero rounding tells nothing of others
        is_missing |= kind == "zero-hopf" and not (found.facts["eigenvalues"].imag > 0).any()
        # at a zero-Hopf point l1 changes its sign through infinity
        is_missing |= kind == "bautin" and not abs(found.facts[kind]) < max(abs(a.facts[kind]), abs(b.facts[kind]))
        return None if is_missing else found

    def _curve(
        self, walk: list[Point], found: list[tuple[int, str, Point]], first: int, ends: tuple[str, str]
    ) -> SpecialCurve:
        n, names = self.family.n, self.family.names
        y = np.array([p.y for p in walk])
        special: list[tuple[Point, CodimensionTwoPoint]] = []
        for place, kind, p in found:
            values = {name: float(p.y[n + i]) for i, name in enumerate(names)}
            λ, omega = p.facts["eigenvalues"], float(p.facts["omega"])
            if kind == "zero-hopf":
                pairs = λ[λ.imag > 0]
                omega = float(pairs[np.abs(pairs.real).argmin()].imag)
            one = CodimensionTwoPoint(kind, values, p.y[:n].copy(), λ, omega, max(place, 0))
            known = [other for q, other in special if norm(self.curve, q.y - p.y) < SAME and other.kind == kind]
            if not known:
                special.append((p, one))
        return SpecialCurve(
            kind=self.special.kind,
            parameters={name: y[:, n + i].copy() for i, name in enumerate(names)},
            r=y[:, :n].copy(),
            omega=np.array([p.facts["omega"] for p in walk]),
            lyapunov=np.array([p.facts.get("bautin", np.nan) for p in walk]),
            eigenvalues=np.array([p.facts["eigenvalues"] for p in walk]),
            special=tuple(one for _, one in special),
            start=first,
            ends=ends,
            states=tuple(self.family.base.state_names),
        )
