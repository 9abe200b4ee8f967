"""Along a curve of equilibria in both directions: the special points that are passed, located and named.

A fold, a branch point and a Hopf point are seen by a change of sign between two points (ctrnn.analysis.continuation has
the test functions), bracketed on the curve, and located by their defining systems (ctrnn.analysis.special_points).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from ctrnn.analysis import special_points
from ctrnn.analysis.arclength import Limit, Point, Steps, follow, locate, norm
from ctrnn.analysis.branch import Branch, SpecialPoint
from ctrnn.analysis.equilibria import spectrum
from ctrnn.analysis.equilibrium_curve import EquilibriumCurve, Escape, nearest_pair
from ctrnn.fields.base import Array

#: a first Lyapunov coefficient of less, over the largest of its terms, is not told from 0
DEGENERATE = 1e-9
#: a third eigenvalue this near to 0, over ω: a Hopf point on a fold or a branch point, which has no l1
ZERO = 1e-7
#: a pair whose Im λ is a smaller part of the largest |λ| is a real eigenvalue that is double, but for rounding
SPLIT = 1e-9
#: how far a special point is bracketed, as a part of the step, before Newton's method takes over
ROUGH, FINE = 3e-2, 1e-9
#: a located point may lie this far from where it was seen, as a part of the step
NEAR = 2.0


class EquilibriumWalk:
    """Follows a curve of equilibria and gathers its special points."""

    def __init__(self, curve: EquilibriumCurve, steps: Steps, limits: list[Limit]) -> None:
        self.curve, self.family, self.steps, self.limits = curve, curve.family, steps, limits

    def both(self, start: Point) -> Branch:
        """The branch through the start, in both directions."""
        curve = self.curve
        ahead, why = self.one_way(start)
        walk, reasons = [p for p, _ in ahead], [why, why]
        found = [(k, s) for k, (_, some) in enumerate(ahead) for s in some]
        first = 0
        if why != "closed":
            turned = Point(start.y, -start.tangent, start.G_y)
            curve.tests(turned)
            back, reasons[0] = self.one_way(turned)
            first = len(back) - 1
            for p, _ in back:
                p.tangent = -p.tangent
            walk = [p for p, _ in reversed(back[1:])] + walk
            # a point seen on the step back to its number k lies between k and k − 1: after the former, once turned
            # round
            before = [(first - k, s) for k, (_, some) in enumerate(back) for s in reversed(some)]
            found = [(k + 1, s) for k, s in reversed(before)] + [(k + first, s) for k, s in found]
        return self._branch(walk, found, first, (reasons[0], reasons[1]))

    def one_way(self, start: Point) -> tuple[list[tuple[Point, list[dict[str, Any]]]], str]:
        """The points of one direction, each with the special points on the step that leads to it."""
        seen: dict[int, list[dict[str, Any]]] = {}

        def accept(a: Point, b: Point) -> bool:
            self.curve.tests(b)
            kinds, is_least = self._seen(a, b), norm(self.curve, b.y - a.y) <= 1.5 * self.steps.smallest
            change = abs(b.facts["growing"] - a.facts["growing"])
            if change > _modes(kinds) and not is_least:
                return False
            found = [s for kind in kinds if (s := self._located(kind, a, b)) is not None]
            if change > _modes([s["kind"] for s in found]):  # two real ones may have been seen as a pair
                if not is_least:
                    return False
                found += [s] if (s := _multiple(a, b)) is not None else []
            seen[id(b)] = found
            return True

        walk, why = follow(self.curve, start, self.steps, self.limits, accept, Escape(self.curve))
        return [(p, seen.get(id(p), [])) for p in walk], why

    def _seen(self, a: Point, b: Point) -> list[str]:
        kinds = []
        if a.tangent[-1] * b.tangent[-1] < 0:
            kinds.append("fold")
        if a.facts["sign"] * b.facts["sign"] < 0:
            kinds.append("branch")
        # where as many modes grow as before the sum that vanishes is that of two real eigenvalues: a neutral saddle
        if a.facts["pairs"] * b.facts["pairs"] < 0 and (kinds or a.facts["growing"] != b.facts["growing"]):
            kinds.append("hopf")
        return kinds

    def _located(self, kind: str, a: Point, b: Point) -> dict[str, Any] | None:
        """What is known of a special point between a and b.

        None where there is none after all (a saddle that is neutral).
        """
        reach = NEAR * norm(self.curve, b.y - a.y)
        near: Point | None = None
        for tol in (ROUGH, FINE):  # Newton from a rough place, and from a fine one where that leads astray
            near = self._bracketed(kind, a, b, tol)
            if near is None:
                return None
            try:
                located = self._solved(kind, near)
            except np.linalg.LinAlgError:
                located = None
            if located is not None and norm(self.curve, np.append(located[0], located[1]) - near.y) <= reach:
                return {"kind": kind, "r": located[0], "mu": located[1], "located": located, "tangent": a.tangent}
        if kind == "hopf" or near is None:
            return None
        r, mu = near.y[:-1], float(near.y[-1])
        return {"kind": kind, "r": r, "mu": mu, "located": (r, mu), "tangent": a.tangent}

    def _solved(self, kind: str, near: Point) -> Any:
        r, mu = near.y[:-1], float(near.y[-1])
        if kind == "fold":
            return special_points.fold(self.family, r, mu)
        if kind == "branch":
            return special_points.branch_point(self.family, r, mu)
        λ = spectrum(near.G_y[:, :-1])
        omega = nearest_pair(λ).imag
        return None if not omega > SPLIT * np.abs(λ).max() else special_points.hopf(self.family, r, mu, omega)

    def _bracketed(self, kind: str, a: Point, b: Point, tol: float) -> Point | None:
        def value(point: Point) -> float:
            if kind == "fold":
                return float(point.tangent[-1])
            if kind == "branch":
                return self.curve.sign(point)
            self.curve.tests(point)
            return float(point.facts["pairs"])

        return locate(self.curve, a, b, value, tol)

    def _branch(self, walk: list[Point], found: list[tuple[int, dict[str, Any]]], first: int, ends: Any) -> Branch:
        family = self.family
        y = np.array([p.y for p in walk])
        λ = np.array([p.facts["eigenvalues"] for p in walk])
        special: list[SpecialPoint] = []
        for k, one in found:
            point = self._special(one, max(k - 1, 0))
            if not any(self._same(point, other) for other in special):
                special.append(point)
        # where the branch turns at a branch point, as at a pitchfork on its bent branch, there is no fold
        branch_points = [point for point in special if point.kind == "branch"]
        special = [p for p in special if p.kind != "fold" or not any(self._near(p, b) for b in branch_points)]
        return Branch(
            parameter=y[:, -1].copy(),
            r=y[:, :-1].copy(),
            eigenvalues=λ,
            stable=λ[:, 0].real < -1e-12 * np.abs(λ).max(axis=1),
            special=tuple(special),
            tangent=np.array([p.tangent for p in walk]),
            start=first,
            ends=ends,
            name=family.names[0],
            states=tuple(family.base.state_names),
            field=family.base,
            x=family.x(family.start),
            t=family.t,
        )

    def _same(self, a: SpecialPoint, b: SpecialPoint) -> bool:
        return a.kind == b.kind and self._near(a, b, 1e-7)

    def _near(self, a: SpecialPoint, b: SpecialPoint, within: float = 1e-5) -> bool:
        self.curve.weigh(np.append(a.r, a.parameter))
        return norm(self.curve, np.append(a.r - b.r, a.parameter - b.parameter)) < within

    def _special(self, one: dict[str, Any], place: int) -> SpecialPoint:
        family, r, mu, kind = self.family, one["r"], one["mu"], one["kind"]
        at = np.array([mu])
        more: dict[str, Any] = {"omega": one["located"][2]} if kind == "hopf" else {}
        with suppress(np.linalg.LinAlgError):  # a normal form does not exist where two special points meet
            more |= self._normal_form(kind, r, mu, one)
        return SpecialPoint(
            kind, mu, r, spectrum(family.J(r, at)), family.names[0], family.field(at), family.x(at), family.t,
            place=place, **more,
        )  # fmt: skip

    def _normal_form(self, kind: str, r: Array, mu: float, one: dict[str, Any]) -> dict[str, Any]:
        family, at = self.family, np.array([mu])
        if kind == "fold":
            return {"coefficient": special_points.fold_coefficient(family, r, at)}
        if kind == "hopf":
            omega = one["located"][2]
            if one.get("multiple") or np.abs(spectrum(family.J(r, at))).min() <= ZERO * omega:
                return {"type": "degenerate"}
            terms = special_points.lyapunov_terms(family, r, at, omega)
            l1 = float(terms.sum().real)
            kind_of = "supercritical" if l1 < 0 else "subcritical"
            if abs(l1) <= DEGENERATE * np.abs(terms).max():
                kind_of = "degenerate"
            return {"lyapunov": l1, "crossing": special_points.crossing(family, r, at, omega), "type": kind_of}
        if len(one["located"]) < 3:
            return {}
        self.curve.weigh(np.append(r, mu))
        weights = self.curve.weights
        d = special_points.branch_directions(family, r, mu, one["located"][2], weights)
        if d is None:
            return {}
        d = d[np.argsort(-np.abs((d * weights) @ one["tangent"]))]
        return {"directions": d, "type": "pitchfork" if special_points.is_pitchfork(d, weights) else "transcritical"}


def _modes(kinds: list[str]) -> int:
    """How many modes come to grow, or cease, at points of these kinds."""
    return sum(2 if kind == "hopf" else 1 for kind in kinds)


def _multiple(a: Point, b: Point) -> dict[str, Any] | None:
    """Where several modes come to grow at once between two points that are as near as can be.

    Symmetric systems have eigenvalues that are double all along, and no change of sign shows that two of them pass.
    """
    before, after = (λ[np.abs(λ.real).argmin()] for λ in (a.facts["eigenvalues"], b.facts["eigenvalues"]))
    if not before.real * after.real < 0.0:
        return None
    # a double real eigenvalue comes as a pair, too, Im λ being rounding
    turns = min(abs(before.imag), abs(after.imag)) > SPLIT * float(np.abs(a.facts["eigenvalues"]).max())
    share = before.real / (before.real - after.real)
    y = a.y + share * (b.y - a.y)
    r, mu = y[:-1], float(y[-1])
    located: tuple[Any, ...] = (r, mu, abs(float(before.imag))) if turns else (r, mu)
    return {
        "kind": "hopf" if turns else "branch",
        "r": r,
        "mu": mu,
        "located": located,
        "tangent": a.tangent,
        "multiple": True,
    }
