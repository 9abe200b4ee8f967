r"""Branches of equilibria in a span, connected or not: from several starts, through branch points, and by deflation.

At some values of the parameter Newton's method looks for equilibria, from the starts and with those known taken out:

    M(r) F(r) = 0,   M(r) = Π_i (1/‖r − r_i‖² + 1)          zero where F is, but for the known r_i
    δ = δ_N/(1 − m·δ_N),   J δ_N = −F,  m = ∇M/M             its step is Newton's own, of another length

Each new equilibrium is followed both ways, and each branch point's other branch; what lies on a known branch is left
out. So curves are found that are not connected. There may be more: no method knows all zeros of F.

Source: Farrell, Birkisson and Funke, "Deflation techniques for finding distinct solutions of nonlinear partial
differential equations", SIAM J. Sci. Comput. 37 (2015).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.analysis.arclength import WIDEST, checked_span
from ctrnn.analysis.branch import Branch
from ctrnn.analysis.continuation import continue_equilibria, switch_branch
from ctrnn.analysis.family import NONE, Family
from ctrnn.analysis.linear import shortest, solve
from ctrnn.analysis.many_starts import newton_all
from ctrnn.errors import ConvergenceError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.checks import checked_field
from ctrnn.gradients.rest.equilibrium import rest_scale
from ctrnn.numbers import flag, real_array, whole
from ctrnn.threads import one_blas_thread

__all__ = ["equilibrium_branches"]

#: deflated steps from one start, and the longest of them over max(1, |r|)
STEPS, STRIDE = 60, 1.0
#: starts of deflation beside the known equilibria
STARTS = 12
#: two equilibria nearer than that, over max(1, ‖r‖), are one
SAME = 1e-6


def equilibrium_branches(
    field: Field,
    starts: Any,
    parameter: str,
    span: tuple[float, float],
    x: Any = None,
    *,
    values: int = 5,
    deflate: bool = True,
    switch: bool = True,
    most: int = 50,
    first: Branch | None = None,
    **options: Any,
) -> list[Branch]:
    """The branches of equilibria in a span that several starts, branch points and deflation lead to.

    Parameters
    ----------
    field : any field with second derivatives
    starts : states (K, n), or one (n,); they need not be near equilibria
    parameter, span, x : as in `continue_equilibria`
    values : at how many values of the parameter, evenly over the span, equilibria are looked for
    deflate : whether to look for more with the known ones taken out
    switch : whether to follow the other branch at each branch point
    most : the most branches
    first : a branch that is known; it comes first, and is gone through as the others are
    **options : of `continue_equilibria`: step, max_step, max_points, box, t

    Returns
    -------
    list of Branch
        Each once; a closed one has ``closed``.

    Raises
    ------
    UsageError
        For starts, values or a span that are not allowed.
    ConvergenceError
        Where no equilibrium is found at any of the values.

    Notes
    -----
    Farrell, Birkisson and Funke (2015).

    Examples
    --------
    >>> from ctrnn import Equations
    >>> field = Equations({"r": "0.1 + a*r - r**3"}, {"a": 0.0})  # a pitchfork, broken into two curves
    >>> branches = equilibrium_branches(field, [[0.5]], "a", (-1.0, 1.0))
    >>> len(branches), [p.kind for branch in branches for p in branch]
    (2, ['fold'])
    """
    low, high = checked_span("span", span)
    states = np.atleast_2d(real_array("starts", starts))
    if states.ndim != 2 or states.shape[1] != checked_field(field).n or not np.isfinite(states).all():
        raise UsageError("starts", given=f"shape {states.shape}", allowed=f"finite states (K, {field.n})")
    for name, value in (("values", values), ("most", most)):
        whole(name, value, 1)
    deflate, switch = flag("deflate", deflate), flag("switch", switch)
    if first is not None and (not isinstance(first, Branch) or first.name != parameter):
        raise UsageError("first", given=first, allowed=f"a Branch in {parameter}")
    family = Family(field, (parameter,), x, options.get("t", 0.0))
    branches: list[Branch] = [] if first is None else [first]
    if first is not None and switch:
        branches += _switched(first, branches, (low, high), most, options)
    for mu in low + (high - low) * (np.arange(values) + 0.5) / values:
        its, held = family.field(np.array([mu])), family.x(np.array([mu]))
        point = Family(its, (), held, family.t)
        with one_blas_thread, np.errstate(all="ignore"):
            ends, ok = newton_all(point, states, 1e-12)
        waiting = list(ends[ok])
        outside: list[Array] = []  # of the box: known to deflation, and not followed
        while len(branches) < most and len(outside) < STARTS:
            known = _known(branches, float(mu))
            if outside:
                known = np.concatenate([known.reshape(-1, field.n), outside])
            if waiting:
                r: Array | None = waiting.pop()
            elif deflate:
                with one_blas_thread, np.errstate(all="ignore"):
                    r = _another(point, known, states)
                if r is None:
                    break
            else:
                break
            if r is None or _is_among(r, known):
                continue
            if not (_is_inside(r, options.get("box")) and np.abs(r).max() < WIDEST):
                outside.append(r)
                continue
            try:
                branch = continue_equilibria(its, r, parameter, (low, high), held, **options)
            except ConvergenceError:
                break
            branches.append(branch)
            if not _is_among(r, _known([branch], float(mu))):
                break  # it cannot be told again: deflation would find it for ever
            if switch:
                branches += _switched(branch, branches, (low, high), most, options)
    if not branches:
        raise ConvergenceError(
            f"no equilibrium found at {values} values of {parameter} from {low:g} to {high:g}. Try: other starts"
        )
    return branches


def _known(branches: list[Branch], mu: float) -> Array:
    """The equilibria (k, n) of known branches at a value of the parameter."""
    found = [branch.at(mu) for branch in branches]
    return np.concatenate(found) if found else np.empty((0, 0))


def _is_among(r: Array, known: Array) -> bool:
    if not len(known):
        return False
    return bool((np.linalg.norm(known - r, axis=1) <= SAME * max(1.0, float(np.linalg.norm(r)))).any())


def _is_inside(r: Array, box: Any) -> bool:
    return box is None or bool((r >= box[0]).all() and (r <= box[1]).all())


def _switched(
    branch: Branch, known: list[Branch], span: tuple[float, float], most: int, options: dict[str, Any]
) -> list[Branch]:
    """The other branches at the branch points of one, and at theirs."""
    own = {key: value for key, value in options.items() if key != "t"}
    found: list[Branch] = []
    waiting = [branch]
    while waiting and len(known) + len(found) < most:
        for special in waiting.pop().of_kind("branch"):
            if special.directions is None:
                continue
            other = switch_branch(special, span, **own)
            # it is new where one of its points lies on none of the others
            new = [
                not _is_among(other.r[k], _known([*known, *found], float(other.parameter[k])))
                for k in (0, len(other) // 4, 3 * len(other) // 4, len(other) - 1)
                if np.linalg.norm(other.r[k] - special.r) > SAME
            ]
            if any(new):
                found.append(other)
                waiting.append(other)
    return found


def _another(point: Family, known: Array, starts: Array) -> Array | None:
    """An equilibrium that is none of the known ones (k, n), by deflated steps from near them and from the starts."""
    rng = np.random.default_rng(0)
    near = known + 1e-2 * np.maximum(1.0, np.abs(known)) * rng.normal(size=known.shape) if len(known) else starts[:0]
    middle = known.mean(axis=0, keepdims=True) if len(known) else starts[:0]
    for start in np.concatenate([near[:STARTS], middle, starts[:STARTS]]):
        r = start.copy()
        for _ in range(STEPS):
            F, J = point.F(r, NONE), point.J(r, NONE)
            δ = solve(J, -F)
            if δ is None:
                least = shortest(J, -F)
                if least is None:
                    break
                δ = least[0]
            if (np.abs(F) <= 1e-12 * rest_scale(J, r)).all():
                if not _is_among(r, known):
                    return np.asarray(r)
                break
            length = 1.0 - _log_slope(r, known) @ δ
            step = δ / length if length != 0.0 else δ
            longest = STRIDE * max(1.0, float(np.abs(r).max()))
            r = r + step * min(1.0, longest / max(float(np.abs(step).max()), 1e-300))
    return None


def _log_slope(r: Array, known: Array) -> Array:
    """m = ∇M/M = Σ −2η/(‖η‖⁴ (1/‖η‖² + 1)),  η = r − r_i."""
    if not len(known):
        return np.zeros_like(r)
    η = r - known
    square = np.maximum((η * η).sum(axis=1), 1e-300)
    return np.asarray((-2.0 * η / (square * (1.0 + square))[:, None]).sum(axis=0))
