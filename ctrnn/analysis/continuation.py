r"""Continuation of equilibria in one parameter: the curve 0 = F(r, μ), its stability, and the special points on it.

    y = (r, μ),   G(y) = F(r, μ)            pseudo-arclength (ctrnn.analysis.arclength)

Between two points of the curve,

    a fold          dμ/ds changes its sign
    a branch point  the sign of det [J F_μ; tangentᵀ] does (from the factors of one LU; no product is formed)
    a Hopf point    the sign of Π_{i<j} (λ_i + λ_j) does, and the sum that vanishes is that of a complex pair

is seen, bracketed on the curve, and located by its defining system (ctrnn.analysis.special_points) to round-off. Where
the number of growing modes changes by more than these explain, the step is taken again, shorter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.analysis import special_points
from ctrnn.analysis.arclength import Limit, Point, Steps, correct, first_point, follow, locate, norm, point_at
from ctrnn.analysis.branch import Branch, SpecialPoint
from ctrnn.analysis.family import Family
from ctrnn.errors import ConvergenceError, UsageError
from ctrnn.fields.base import Array, Field, checked_array
from ctrnn.numbers import real_array
from ctrnn.states import state_of
from ctrnn.threads import one_blas_thread

__all__ = ["continue_equilibria", "switch_branch"]

#: more states than that: only the rightmost eigenvalues
LARGE = 400
RIGHTMOST = 24
#: a first Lyapunov coefficient of less is not told from 0
DEGENERATE = 1e-9
#: how far a special point is bracketed, as a part of the step, before Newton's method takes over
ROUGH, FINE = 3e-2, 1e-9
#: a start whose least |Re λ|, over the largest |λ|, is below this is itself a special point; how far from it one begins
CRITICAL, ASIDE = 1e-10, 1e-3
#: a located point may lie this far from where it was seen, as a part of the step
NEAR = 2.0


def continue_equilibria(
    field: Field,
    r0: Any,
    parameter: str,
    span: tuple[float, float],
    x: Any = None,
    *,
    t: float = 0.0,
    step: float = 0.01,
    max_step: float = 0.05,
    max_points: int = 2000,
    box: Any = None,
) -> Branch:
    """The branch of equilibria through a start, in both directions, with its folds, Hopf points and branch points.

    Parameters
    ----------
    field : any field with second derivatives
    r0 : an equilibrium, or a state (n,) near one, at the field's own value of the parameter; also an `Equilibrium`, or
        a table state -> number
    parameter : its name; "W[0,1]" for an entry of an array, "x[0]" or its name for an input, which is then held
        constant
    span : the parameter's least and largest value; the branch begins inside, at the field's own value (for an input at
        that of ``x``)
    x, t : input (inputs,) and time, held
    step, max_step : first and longest step, as parts of the span (and of the size of the states)
    max_points : the most points in each direction
    box : (low, high), numbers or (n,) each, that the states must not leave; None: no limit

    Returns
    -------
    Branch
        with ``parameter`` (K,), ``r`` (K, n), ``eigenvalues``, ``stable`` and ``special``, along the arc length. Where
        the branch can be followed no
        further, what was found so far comes back, and ``ends`` says why.

    Raises
    ------
    UnknownNameError, UsageError
        for a parameter, span or start that is not allowed
    ConvergenceError
        where no equilibrium is near r0

    Notes
    -----
    Pseudo-arclength continuation (Keller 1977); bordered defining systems (Govaerts 2000); normal forms of Kuznetsov
    (2004). Folds, Hopf and
    branch points are at the accuracy of F itself. A pair of special points between two neighbouring points may go
    unseen: use a shorter max_step.

    Examples
    --------
    >>> from ctrnn import Equations
    >>> field = Equations({"r": "b + r - r**3"}, {"b": 0.0})
    >>> branch = continue_equilibria(field, [1.0], "b", (-1.0, 1.0))
    >>> [(p.kind, round(p.parameter, 9)) for p in branch.special]  # ±2/(3√3)
    [('fold', 0.384900179), ('fold', -0.384900179)]
    """
    family = Family(field, (parameter,), x, t)
    low, high = checked_span("span", span)
    mu = float(family.start[0])
    if not low <= mu <= high:
        hint = f"with_parameters({parameter}=…), or another span"
        raise UsageError("span", given=(low, high), allowed=f"one that holds {mu:g}, the field's own value", hint=hint)
    r = state_of(field, getattr(r0, "r", r0))
    curve = _Equilibria(family, (low, high), float(np.abs(r).max(initial=0.0)))
    y = np.append(r, mu)
    onward = np.eye(1, y.size, y.size - 1)[0]
    with one_blas_thread, np.errstate(all="ignore"):
        start = _start(curve, y, onward)
        if start is None or not low - 1e-9 * (high - low) <= start.y[-1] <= high + 1e-9 * (high - low):
            raise ConvergenceError(
                f"no equilibrium found near r0 at {parameter} = {mu:g}: max |F| there is "
                f"{np.abs(family.F(r, np.array([mu]))).max():.3g}. Try: ctrnn.find_equilibrium first, or another r0"
            )
        return _Walker(curve, Steps(step, max_step, most=max_points), _limits(curve, box)).both(start)


def switch_branch(
    special: SpecialPoint,
    span: tuple[float, float],
    *,
    step: float = 0.01,
    max_step: float = 0.05,
    max_points: int = 2000,
    box: Any = None,
) -> Branch:
    """The other branch through a branch point, in both directions.

    Parameters
    ----------
    special : a point of kind "branch" on a `Branch`
    span, step, max_step, max_points, box : as in continue_equilibria

    Returns
    -------
    Branch

    Raises
    ------
    UsageError
        for a point that is no branch point of two branches, or a span without it

    Examples
    --------
    >>> from ctrnn import Equations
    >>> field = Equations({"r": "a*r - r**3"}, {"a": -0.5})
    >>> pitchfork = continue_equilibria(field, [0.0], "a", (-1.0, 1.0)).special[0]
    >>> branch = switch_branch(pitchfork, (-1.0, 1.0))
    >>> pitchfork.type, bool(np.allclose(branch.r[:, 0] ** 2, branch.parameter, atol=1e-12))
    ('pitchfork', True)
    """
    if not isinstance(special, SpecialPoint) or special.directions is None:
        raise UsageError("special", given=special, allowed="a simple branch point of a Branch (kind 'branch')")
    family = Family(special.field, (special.name,), special.x, special.t)
    low, high = checked_span("span", span)
    if not low <= special.parameter <= high:
        raise UsageError(
            "span", given=(low, high), allowed=f"one that holds {special.parameter:g}, where branches meet"
        )
    curve = _Equilibria(family, (low, high), float(np.abs(special.r).max(initial=0.0)))
    y = np.append(special.r, special.parameter)
    tangent = special.directions[1] / norm(curve, special.directions[1])
    start = Point(y, tangent, curve.derivative(y))
    with one_blas_thread, np.errstate(all="ignore"):
        curve.tests(start)
        return _Walker(curve, Steps(step, max_step, most=max_points), _limits(curve, box)).both(start)


def checked_span(name: str, span: Any) -> tuple[float, float]:
    ends = checked_array(name, span, (2,))
    if not ends[0] < ends[1]:
        raise UsageError(name, given=tuple(ends), allowed="(low, high) with low < high")
    return float(ends[0]), float(ends[1])


def _limits(curve: _Equilibria, box: Any) -> list[Limit]:
    n, (low, high) = curve.family.n, curve.span
    limits = [Limit(n, low, high, "span")]
    if box is not None:
        try:
            least, most = (np.broadcast_to(real_array("box", side), (n,)) for side in box)
        except (TypeError, ValueError) as error:
            raise UsageError("box", given=box, allowed=f"(low, high), a number or {n} numbers each") from error
        limits += [Limit(i, float(least[i]), float(most[i]), "box") for i in range(n)]
    return limits


def _start(curve: _Equilibria, y: Array, onward: Array) -> Point | None:
    """The equilibrium at the start.

    Newton at the parameter's own value, or, where J is singular there, the nearest point of the curve.
    """
    from_r = y.copy()
    for _ in range(50):
        F, G_y = curve.residual(from_r), curve.derivative(from_r)
        if not (np.isfinite(F).all() and np.isfinite(G_y).all()):
            break
        J = G_y[:, :-1]
        δ = np.linalg.lstsq(J, -F, rcond=F.size * np.finfo(float).eps)[0]
        ahead = from_r.copy()
        for halved in range(20):
            ahead[:-1] = from_r[:-1] + 0.5**halved * δ
            if np.linalg.norm(curve.residual(ahead)) <= np.linalg.norm(F):
                break
        small = norm(curve, ahead - from_r) <= 1e-13
        from_r = ahead
        if small or np.abs(δ).max(initial=0.0) <= 1e-14 * max(1.0, float(np.abs(from_r).max())):
            break
    scale = np.abs(curve.derivative(from_r)[:, :-1]) @ np.maximum(1.0, np.abs(from_r[:-1]))
    F = curve.residual(from_r)
    if np.isfinite(F).all() and (np.abs(F) <= 1e-11 * np.maximum(scale, np.finfo(float).tiny)).all():
        start = point_at(curve, from_r, onward)
        if start is None:
            start = first_point(curve, from_r, onward)
    else:
        start = first_point(curve, y, onward)
        if start is not None and norm(curve, start.y - y) > 1e-3:
            return None  # another place of the curve than was asked for
    if start is None:
        return None
    curve.tests(start)
    λ = start.facts["eigenvalues"]
    if np.abs(λ.real).min() <= CRITICAL * max(float(np.abs(λ).max()), 1e-300):
        # a test function that is zero at the start changes its sign on neither side: begin beside it
        row = curve.weights * start.tangent
        for h in (ASIDE, -ASIDE):
            found = correct(curve, start.y + h * start.tangent, row, float(row @ start.y) + h)
            beside = None if found is None else point_at(curve, found[0], start.tangent)
            if beside is not None and curve.span[0] <= beside.y[-1] <= curve.span[1]:
                curve.tests(beside)
                return beside
    return start


class _Equilibria:
    """G(r, μ) = F(r, μ) as a curve, and the tests on its points."""

    def __init__(self, family: Family, span: tuple[float, float], size: float) -> None:
        self.family, self.span = family, span
        n, unit = family.n, max(1.0, size)
        self.weights = np.append(np.full(n, 1.0 / (n * unit * unit)), 1.0 / (span[1] - span[0]) ** 2)

    def residual(self, y: Array) -> Array:
        return self.family.F(y[:-1], y[-1:])

    def derivative(self, y: Array) -> Array:
        return np.hstack([self.family.J(y[:-1], y[-1:]), self.family.F_mu(y[:-1], y[-1:])])

    def tests(self, point: Point) -> None:
        """Write what the tests look at into ``facts``.

        These are the eigenvalues, the number of growing modes, the signs of the determinant and of the pair sums.
        """
        facts = point.facts
        if "eigenvalues" in facts:
            return
        λ = spectrum(point.G_y[:, :-1])
        facts["eigenvalues"], facts["growing"] = λ, int((λ.real > 0).sum())
        bordered = np.vstack([point.G_y, self.weights * point.tangent])
        facts["sign"] = float(np.linalg.slogdet(bordered)[0])
        facts["pairs"] = pair_sign(λ)


def spectrum(J: Array) -> Array:
    """Eigenvalues, real parts descending, of a pair the one above the axis first.

    Of large matrices the rightmost alone.
    """
    if len(J) > LARGE:
        from scipy.sparse.linalg import ArpackNoConvergence, eigs

        try:
            start = np.random.default_rng(0).normal(size=len(J))
            λ = eigs(J, RIGHTMOST, which="LR", v0=start, return_eigenvectors=False, maxiter=50 * len(J))
        except ArpackNoConvergence:
            λ = np.linalg.eigvals(J)
            λ = λ[np.argsort(-λ.real)][:RIGHTMOST]
    else:
        λ = np.linalg.eigvals(J)
    λ = λ.astype(np.complex128)
    return λ[np.lexsort((-λ.imag, -λ.real))]


def pair_sign(λ: Array) -> float:
    """The sign of Π_{i<j} (λ_i + λ_j).

    Real pairs and conjugate ones decide, all other factors come with their conjugates.
    """
    real = np.sort(λ[λ.imag == 0.0].real)
    # of real numbers: how many pairs have a negative sum
    negative = sum(int(np.searchsorted(real, -a)) - int(a < 0 and -a > a) for a in real) // 2
    negative += int((λ[λ.imag > 0.0].real < 0).sum())
    return -1.0 if negative % 2 else 1.0


class _Walker:
    """Follows a curve of equilibria and gathers its special points."""

    def __init__(self, curve: _Equilibria, steps: Steps, limits: list[Limit]) -> None:
        self.curve, self.family, self.steps, self.limits = curve, curve.family, steps, limits

    def both(self, start: Point) -> Branch:
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
            kinds = self._seen(a, b)
            change = abs(b.facts["growing"] - a.facts["growing"])
            if change > sum(2 if kind == "hopf" else 1 for kind in kinds):
                return False
            seen[id(b)] = [s for kind in kinds if (s := self._located(kind, a, b)) is not None]
            return True

        walk, why = follow(self.curve, start, self.steps, self.limits, accept)
        return [(p, seen.get(id(p), [])) for p in walk], why

    def _seen(self, a: Point, b: Point) -> list[str]:
        kinds = []
        if a.tangent[-1] * b.tangent[-1] < 0:
            kinds.append("fold")
        if a.facts["sign"] * b.facts["sign"] < 0:
            kinds.append("branch")
        if a.facts["pairs"] * b.facts["pairs"] < 0:
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
        omega = _crossing_pair(spectrum(near.G_y[:, :-1]))
        return None if omega is None else special_points.hopf(self.family, r, mu, omega)

    def _bracketed(self, kind: str, a: Point, b: Point, tol: float) -> Point | None:
        def value(point: Point) -> float:
            if kind == "fold":
                return float(point.tangent[-1])
            self.curve.tests(point)
            return float(point.facts["sign" if kind == "branch" else "pairs"])

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
        return norm(self.curve, np.append(a.r - b.r, a.parameter - b.parameter)) < within

    def _special(self, one: dict[str, Any], place: int) -> SpecialPoint:
        family, r, mu, kind = self.family, one["r"], one["mu"], one["kind"]
        at = np.array([mu])
        more: dict[str, Any] = {}
        if kind == "fold":
            more["coefficient"] = special_points.fold_coefficient(family, r, at)
        elif kind == "hopf":
            omega = one["located"][2]
            l1 = special_points.first_lyapunov(family, r, at, omega)
            more = {"omega": omega, "lyapunov": l1, "crossing": special_points.crossing(family, r, at, omega)}
            more["type"] = "degenerate" if abs(l1) < DEGENERATE else "supercritical" if l1 < 0 else "subcritical"
        elif len(one["located"]) == 3:
            d = special_points.branch_directions(family, r, mu, one["located"][2], self.curve.weights)
            if d is not None:
                along = np.abs((d * self.curve.weights) @ one["tangent"])
                d = d[np.argsort(-along)]
                more = {"directions": d}
                more["type"] = "pitchfork" if special_points.is_pitchfork(d, self.curve.weights) else "transcritical"
        return SpecialPoint(
            kind, mu, r, spectrum(family.J(r, at)), family.names[0], family.field(at), family.x(at), family.t,
            place=place, **more,
        )  # fmt: skip


def _crossing_pair(λ: Array) -> float | None:
    """Im λ of the complex pair nearest to the imaginary axis.

    None where a sum of two real eigenvalues is nearer to zero than 2 Re λ.
    """
    pairs, real = λ[λ.imag > 0.0], np.sort(λ[λ.imag == 0.0].real)
    if not pairs.size:
        return None
    nearest = pairs[np.abs(pairs.real).argmin()]
    if real.size > 1:
        sums = np.abs(real[:, None] + real[None, :])[np.triu_indices(real.size, 1)]
        if sums.min() < 2.0 * abs(nearest.real):
            return None
    return float(nearest.imag)
