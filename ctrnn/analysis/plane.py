r"""A plane of states: its nullclines, and the manifolds of saddles.

Two states vary, the others are held. On a grid of the plane

    nullcline of state i   F_i(r) = 0         contours of F_i, each point then set right by Newton's along ∇F_i
    manifold of a saddle   dr/dt = ±F         from r* ± ε v, J v = λ v: + along growing modes, − along decaying ones

Sources: Strogatz, *Nonlinear Dynamics and Chaos*, chapter 6; Nusse and Yorke, *Dynamics: Numerical Explorations*
(1998), chapter 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.analysis.equilibria import Equilibrium
from ctrnn.analysis.family import Family
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field, checked_array
from ctrnn.memory import claim
from ctrnn.names import position
from ctrnn.numbers import whole
from ctrnn.states import state_of

__all__ = ["Plane", "nullclines", "saddle_manifolds"]

NONE = np.empty(0)


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
        if field.n < 2:
            raise UsageError("field", given="a field of one state", allowed="two states or more")
        if isinstance(states, str) or len(tuple(states)) != 2:
            raise UsageError("states", given=states, allowed="two of the states")
        numbers = [position("states", one, field.state_names) for one in states]
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
    points = whole("points", points, 2)
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
