r"""A plane of states: nullclines, the manifolds of saddles, and the basins of attractors.

Two states vary, the others are held. On a grid of the plane

    nullcline of state i   F_i(r) = 0         contours of F_i, each point then set right by Newton's along ∇F_i
    manifold of a saddle   dr/dt = ±F         from r* ± ε v, J v = λ v: + along growing modes, − along decaying ones
    basin                  dr/dt = F          from every point of the grid, until it stays near one of the attractors

Sources: Strogatz, *Nonlinear Dynamics and Chaos*, chapter 6; Nusse and Yorke, *Dynamics: Numerical Explorations*
(1998), chapters 5 and 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.analysis.cycles import Cycle, limit_cycle
from ctrnn.analysis.equilibria import Equilibrium
from ctrnn.analysis.family import Family
from ctrnn.analysis.fixed_points import fixed_points
from ctrnn.errors import ConvergenceError, UnknownNameError, UsageError
from ctrnn.fields.base import Array, Field, checked_array
from ctrnn.memory import claim
from ctrnn.problem import Problem
from ctrnn.solvers.ensemble import ensemble
from ctrnn.states import state_of

__all__ = ["Basins", "Plane", "basins", "nullclines", "saddle_manifolds"]

NONE = np.empty(0)
#: a state this near to an attractor, each component over its extent, is taken as caught, if it is so at two times
CAUGHT = 1e-3
#: how often the states are looked at until ``t_end``
LOOKS = 40
#: cycles that are looked for among runs that do not come to rest
MOST_CYCLES = 8


@dataclass(frozen=True, eq=False)
class Plane:
    """A rectangle in two of the states, the others held.

    Attributes
    ----------
    states : tuple of two int
        Numbers of the states that vary.
    low, high : ndarray (2,)
        The rectangle.
    at : ndarray (n,)
        The other states; the two that vary do not matter.

    Examples
    --------
    >>> from ctrnn import Equations
    >>> field = Equations({"u": "v", "v": "-u", "w": "-w"})
    >>> plane = Plane.of(field, ((-1, 1), (0, 2)), ("u", "w"))
    >>> plane.states, plane.grid(3)[0].shape
    ((0, 2), (9, 3))
    """

    states: tuple[int, int]
    low: Array
    high: Array
    at: Array

    @classmethod
    def of(cls, field: Field, box: Any, states: Sequence[Any] = (0, 1), at: Any = None) -> Plane:
        """A plane of a field, from ((low, high), (low, high)) and names or numbers of two states."""
        names = list(field.state_names)
        if field.n < 2:
            raise UsageError("field", given="a field of one state", allowed="two states or more")
        if isinstance(states, str) or len(tuple(states)) != 2:
            raise UsageError("states", given=states, allowed="two of the states")
        numbers = []
        for one in states:
            if isinstance(one, (int, np.integer)) and not isinstance(one, bool) and -len(names) <= one < len(names):
                numbers.append(int(one) % len(names))
            elif one in names:
                numbers.append(names.index(one))
            else:
                raise UnknownNameError("states", one, names[:12])
        if numbers[0] == numbers[1]:
            raise UsageError("states", given=states, allowed="two different states")
        limits = checked_array("box", box, (2, 2))
        if not (limits[:, 0] < limits[:, 1]).all():
            raise UsageError("box", given=box, allowed="((low, high), (low, high)) with low < high")
        rest = np.zeros(field.n) if at is None else state_of(field, at).copy()
        return cls((numbers[0], numbers[1]), limits[:, 0].copy(), limits[:, 1].copy(), rest)

    def axes(self, points: int) -> tuple[Array, Array]:
        """The values of the two states on the grid, (points,) each."""
        claim("points", 64.0 * points**2)
        return tuple(np.linspace(a, b, points) for a, b in zip(self.low, self.high, strict=True))  # type: ignore[return-value]

    def grid(self, points: int) -> tuple[Array, tuple[Array, Array]]:
        """States (points², n), the second state's value by row, and the axes."""
        a, b = self.axes(points)
        r = np.broadcast_to(self.at, (points, points, self.at.size)).copy()
        r[..., self.states[0]], r[..., self.states[1]] = a[None, :], b[:, None]
        return r.reshape(-1, self.at.size), (a, b)


def nullclines(
    field: Field,
    box: Any,
    states: Sequence[Any] = (0, 1),
    *,
    at: Any = None,
    x: Any = None,
    t: float = 0.0,
    points: int = 201,
) -> dict[str, list[Array]]:
    """The lines in a plane of states on which one of the two states stands still.

    Parameters
    ----------
    field : Field
        F.
    box : ((low, high), (low, high))
        The plane's limits, in units of the two states.
    states : two of str or int, default (0, 1)
        The states that vary.
    at : (n,) array_like or mapping, optional
        The other states; 0.
    x, t : (inputs,) array_like, float
        Input and time, held.
    points : int
        Points a side of the grid on which the lines are seen.

    Returns
    -------
    dict of str to list of ndarray (K, 2)
        Of each of the two states by its name the lines where its rate is zero. Every point has F_i = 0 to rounding.

    Raises
    ------
    UsageError
        For a box, or states, that are none.

    Examples
    --------
    >>> from ctrnn import Equations
    >>> lines = nullclines(Equations({"u": "v - u**3", "v": "-v"}), ((-1, 1), (-1, 1)))
    >>> (line,) = lines["u"]
    >>> bool(np.abs(line[:, 1] - line[:, 0] ** 3).max() < 1e-14)
    True
    """
    from contourpy import contour_generator  # matplotlib brings it

    plane = Plane.of(field, box, states, at)
    points = _count(points)
    family = Family(field, (), x, t)
    r, (a, b) = plane.grid(points)
    with np.errstate(all="ignore"):
        F = family.F(r, NONE)
        found = {}
        for i in plane.states:
            lines = contour_generator(a, b, F[:, i].reshape(points, points)).lines(0.0)
            found[field.state_names[i]] = [_on_line(family, plane, np.asarray(line), i) for line in lines]
    return found


def _on_line(family: Family, plane: Plane, line: Array, i: int) -> Array:
    """The points moved along the gradient of F_i in the plane, until it is zero."""
    r = np.broadcast_to(plane.at, (len(line), plane.at.size)).copy()
    two = list(plane.states)
    r[:, two] = line
    reach = 0.1 * (plane.high - plane.low).max()
    for _ in range(4):
        value, slope = family.F(r, NONE)[:, i], family.J(r, NONE)[:, i][:, two]
        length = (slope * slope).sum(axis=1)
        step = -value[:, None] * slope / np.where(length > 0, length, 1.0)[:, None]
        good = np.isfinite(step).all(axis=1) & (np.linalg.norm(step, axis=1) < reach)
        r[:, two] += np.where(good[:, None], step, 0.0)
    return np.asarray(r[:, two])


def saddle_manifolds(
    equilibrium: Equilibrium,
    *,
    box: Any = None,
    t_end: float | None = None,
    distance: float = 1e-6,
) -> dict[str, list[Array]]:
    """The lines along which trajectories leave a saddle, and those along which they come.

    Parameters
    ----------
    equilibrium : Equilibrium
        A saddle, as `fixed_points` finds it.
    box : ((low, high), …) for each state, optional
        A line ends where it leaves the box, made half as wide again; None: ten times max(1, ‖r‖) around the saddle.
    t_end : float, optional
        How long each is followed, in the unit of t; None: 40 time constants of its direction.
    distance : float, default 1e-6
        Where it begins, over max(1, ‖r‖).

    Returns
    -------
    dict of str to list of ndarray (K, n)
        "unstable" and "stable": the two lines of each real eigenvector that belongs to a manifold of one dimension.
        A manifold of more dimensions is no line, and gives none.

    Raises
    ------
    UsageError
        For what is no equilibrium, or a box of another shape.

    Examples
    --------
    >>> from ctrnn import Equations
    >>> from ctrnn.analysis import find_equilibrium
    >>> saddle = find_equilibrium(Equations({"u": "u", "v": "-v + u**2"}), [0.0, 0.0])
    >>> unstable = saddle_manifolds(saddle, box=((-1, 1), (-1, 1)))["unstable"]
    >>> bool(np.abs(unstable[0][:, 1] - unstable[0][:, 0] ** 2 / 3).max() < 1e-6)  # v = u²/3
    True
    """
    from scipy.integrate import solve_ivp

    if not isinstance(equilibrium, Equilibrium):
        raise UsageError("equilibrium", given=equilibrium, allowed="an Equilibrium")
    field, r0 = equilibrium.field, equilibrium.r
    size = max(1.0, float(np.linalg.norm(r0)))
    if box is None:
        low, high = r0 - 10.0 * size, r0 + 10.0 * size
    else:
        limits = checked_array("box", box, (field.n, 2))
        wide = 0.25 * (limits[:, 1] - limits[:, 0])
        low, high = limits[:, 0] - wide, limits[:, 1] + wide
    family = Family(field, (), equilibrium.x, equilibrium.t)
    λ, vectors = np.linalg.eig(equilibrium.jacobian)
    found: dict[str, list[Array]] = {"unstable": [], "stable": []}

    def inside(t: float, r: Array) -> float:
        return float(min((r - low).min(), (high - r).min()))

    inside.terminal = True  # type: ignore[attr-defined]
    for name, sign in (("unstable", 1.0), ("stable", -1.0)):
        own = np.flatnonzero(sign * λ.real > 0)
        if own.size != 1:
            continue
        rate, v = float(np.abs(λ[own[0]].real)), vectors[:, own[0]].real
        length = 40.0 / rate if t_end is None else float(t_end)
        for side in (1.0, -1.0):
            start = r0 + side * distance * size * v / np.linalg.norm(v)
            with np.errstate(all="ignore"):
                run = solve_ivp(
                    lambda t, r, sign=sign: sign * family.F(r, NONE), (0.0, length), start, method="DOP853",
                    rtol=1e-9, atol=1e-12 * size, events=inside, max_step=length / 40.0,
                )  # fmt: skip
            found[name].append(np.vstack([r0, run.y.T]))
    return found


@dataclass(frozen=True, eq=False)
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

    def __str__(self) -> str:
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
    points, t_end = _count(points), float(checked_array("t_end", t_end, ()))
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


def _count(points: Any) -> int:
    if not isinstance(points, (int, np.integer)) or isinstance(points, bool) or points < 2:
        raise UsageError("points", given=points, allowed="a number of points a side, 2 or more")
    return int(points)


def _attractors(field: Field, attractors: Any) -> list[Any]:
    found = list(attractors)
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
