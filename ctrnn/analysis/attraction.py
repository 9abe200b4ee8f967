"""Basins of attraction in a plane of states.

    basin    dr/dt = F    from every point of a grid, until it stays near one of the attractors

Source: Nusse and Yorke, *Dynamics: Numerical Explorations* (1998), chapter 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.analysis.cycle_search import limit_cycle
from ctrnn.analysis.cycles import Cycle
from ctrnn.analysis.equilibria import Equilibrium
from ctrnn.analysis.fixed_points import fixed_points
from ctrnn.analysis.plane import Plane
from ctrnn.errors import ConvergenceError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.numbers import checked_array, items, whole
from ctrnn.problem import Problem
from ctrnn.solvers.ensemble import ensemble

__all__ = ["Basins", "basins"]

#: a state this near to an attractor, each component over its extent, is taken as caught, if it is so at two times
CAUGHT = 1e-3
#: how often the states are looked at until ``t_end``
LOOKS = 40
#: cycles that are looked for among runs that do not come to rest
MOST_CYCLES = 8


@dataclass(frozen=True, eq=False, repr=False)
class Basins:
    """Which attractor each point of a plane goes to.

    Attributes
    ----------
    a, b : ndarray (K,)
        Values of the first and the second state on the grid.
    attractor : ndarray (K, K) of int
        Row by row of ``b``: the number of the attractor, −1 where none was reached by ``t_end``.
    attractors : tuple of Equilibrium or Cycle
        The attractors.
    states : tuple of str
        The names of the two states.
    plane : Plane
        The plane.

    Examples
    --------
    >>> from ctrnn import Equations
    >>> found = basins(Equations({"u": "u - u**3", "v": "-v"}), ((-2, 2), (-1, 1)), points=10)
    >>> len(found.attractors), found.shares.round(2)
    (2, array([0.5, 0.5]))
    """

    a: Array
    b: Array
    attractor: Array
    attractors: tuple[Equilibrium | Cycle, ...]
    states: tuple[str, str]
    plane: Plane

    @property
    def shares(self) -> Array:
        """The part of the plane that goes to each attractor."""
        return np.array([(self.attractor == k).mean() for k in range(len(self.attractors))])

    @property
    def undecided(self) -> float:
        """The part of the plane that reaches none of them in time."""
        return float((self.attractor < 0).mean())

    def __repr__(self) -> str:
        lines = [f"basins in the plane of {self.states[0]} and {self.states[1]}, {self.a.size} × {self.b.size} points"]
        for k, (one, share) in enumerate(zip(self.attractors, self.shares, strict=True)):
            lines.append(f"  {k}  {share:6.1%}  {_said(one)}")
        return "\n".join([*lines, f"     {self.undecided:6.1%}  none of them in time"])


def _said(one: Equilibrium | Cycle) -> str:
    if isinstance(one, Cycle):
        return f"limit cycle, period {one.period:.6g}"
    r = np.array2string(one.r, precision=4, threshold=6, edgeitems=2).replace("\n", "")
    return f"{one.kind} at {r}"


def basins(
    field: Field,
    box: Any,
    states: Sequence[Any] = (0, 1),
    *,
    at: Any = None,
    x: Any = None,
    attractors: Any = None,
    points: int = 101,
    t_end: float = 200.0,
    rtol: float = 1e-6,
    atol: float = 1e-9,
) -> Basins:
    """The basins of attraction in a plane of states.

    Parameters
    ----------
    field : Field
        F, without a dependence on t.
    box : ((low, high), (low, high))
        The plane's limits, in units of the two states.
    states : two of str or int, default (0, 1)
        The states that vary.
    at : (n,) array_like or mapping, optional
        The other states at the start; 0.
    x : (inputs,) array_like, optional
        Input, held.
    attractors : sequence of Equilibrium and Cycle, or a FixedPoints, optional
        The attractors; unstable ones among them are left out. None: those that the runs themselves come to.
    points : int
        Points a side of the grid.
    t_end : float
        How long a run may take to come to an attractor, in the unit of t.
    rtol, atol : float
        Tolerances of the runs, as in ctrnn.simulate.

    Returns
    -------
    Basins
        ``attractor`` (K, K), its ``shares``.

    Raises
    ------
    UsageError
        For a box, states, times or attractors that are not allowed.

    Notes
    -----
    All runs go together (ctrnn.ensemble) and stop once they stay near an attractor. Chaotic attractors are not among
    those found; their points count as undecided.

    Examples
    --------
    >>> from ctrnn import Equations
    >>> found = basins(Equations({"u": "u - u**3", "v": "-v"}), ((-2, 2), (-1, 1)), points=4)
    >>> found.attractor[0]
    array([0, 0, 1, 1])
    """
    plane = Plane.of(field, box, states, at)
    points, t_end = whole("points", points, 2), float(checked_array("t_end", t_end, ()))
    if not t_end > 0:
        raise UsageError("t_end", given=t_end, allowed="a positive time")
    known = None if attractors is None else _attractors(field, attractors)
    r, (a, b) = plane.grid(points)
    label, open_ = np.full(len(r), -1), np.arange(len(r))
    catchers: list[_Catcher] = []
    scale = np.ones(field.n)
    step = t_end / LOOKS
    problem = Problem(field, r0=r[0], t_span=(0.0, step), x=x)
    options: dict[str, Any] = {"rtol": rtol, "atol": atol, "allow_failures": True}
    for look in range(LOOKS):
        if not open_.size:
            break
        run = ensemble(problem, r0=r[open_], save_at=[0.5 * step, step], **options)
        ahead = np.abs(run.r[:, 1]) < 1e12  # False for NaN
        alive = ahead.all(axis=1)
        r[open_] = np.where(alive[:, None], run.r[:, 1], np.nan)
        halfway = run.r[alive, 0]
        if look == 0:
            scale = _extent(np.concatenate([plane.grid(2)[0], halfway, r[open_[alive]]]))
            catchers = [_Catcher(one, scale) for one in known or ()]
        open_ = open_[alive]
        for k, catcher in enumerate(catchers):
            caught = catcher(halfway) & catcher(r[open_])
            label[open_[caught]] = k
            open_, halfway = open_[~caught], halfway[~caught]
        if known is None and open_.size and (look in (4, LOOKS // 2, LOOKS - 1)):
            new = _new_attractors(field, r[open_], x, t_end, catchers, scale)
            for one in new:
                catchers.append(_Catcher(one, scale))
                caught = catchers[-1](r[open_])
                label[open_[caught]] = len(catchers) - 1
                open_ = open_[~caught]
    names = (field.state_names[plane.states[0]], field.state_names[plane.states[1]])
    order = sorted(range(len(catchers)), key=lambda k: tuple(catchers[k].path[0]))
    place = np.append(np.argsort(order), -1)
    return Basins(a, b, place[label].reshape(points, points), tuple(catchers[k].of for k in order), names, plane)


def _attractors(field: Field, attractors: Any) -> list[Any]:
    found = items("attractors", attractors, "equilibria and cycles of this field")
    for one in found:
        if not isinstance(one, (Equilibrium, Cycle)) or one.field.n != field.n:
            raise UsageError("attractors", given=one, allowed="equilibria and cycles of this field")
    return [one for one in found if one.stable]


def _extent(r: Array) -> Array:
    """The extent of each state (n,), not below a rounding of it."""
    extent = np.asarray(np.ptp(r, axis=0))
    return np.maximum(extent, 1e-6 * np.maximum(1.0, np.abs(r).max(axis=0)))


class _Catcher:
    """Tells which states are at an attractor; distances are in units of each state's extent."""

    def __init__(self, of: Any, scale: Array) -> None:
        from scipy.spatial import cKDTree

        self.of, self.scale = of, scale
        self.path = of.r[None] if isinstance(of, Equilibrium) else of(np.linspace(0.0, of.period, 4000))
        gaps = np.linalg.norm(np.diff(self.path / scale, axis=0), axis=1).max(initial=0.0)
        self.within = CAUGHT + 0.5 * gaps
        self.tree = cKDTree(self.path / scale)

    def __call__(self, r: Array) -> Array:
        if not len(r):
            return np.zeros(0, dtype=bool)
        return np.asarray(self.tree.query(r / self.scale)[0] <= self.within)


def _new_attractors(field: Field, r: Array, x: Any, t_end: float, known: list[_Catcher], scale: Array) -> list[Any]:
    """The attractors that states at the end of their runs lie at: points of rest, then cycles."""
    found: list[Any] = []
    some = r if len(r) <= 400 else r[np.linspace(0, len(r) - 1, 400).astype(int)]
    table = fixed_points(field, some, x)
    for row in table[table.stable]:
        if _Catcher(row, scale)(r).any() and not any(catcher(row.r[None])[0] for catcher in known):
            found.append(row)
    rest = r
    for one in found:
        rest = rest[~_Catcher(one, scale)(rest)]
    catchers = [*known, *(_Catcher(one, scale) for one in found)]
    for _ in range(MOST_CYCLES):
        if not len(rest):
            break
        try:
            cycle = limit_cycle(Problem(field, r0=rest[0], t_span=(0.0, t_end), x=x))
        except (ConvergenceError, UsageError):
            break
        if not cycle.stable:
            break
        if any(catcher(cycle.r[:1])[0] for catcher in catchers):  # on the way to one that is known
            rest = rest[1:]
            continue
        catchers.append(_Catcher(cycle, scale))
        found.append(cycle)
        rest = rest[1:][~catchers[-1](rest[1:])]
    return found
