r"""A plane of states, and the lines in it on which one of the two states stands still.

Two states vary, the others are held. On a grid of the plane

    nullcline of state i   F_i(r) = 0         contours of F_i, each point then set right by Newton's along ∇F_i

Source: Strogatz, *Nonlinear Dynamics and Chaos*, chapter 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.analysis.family import NONE, Family
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.checks import checked_field
from ctrnn.memory import claim
from ctrnn.names import position
from ctrnn.numbers import checked_array, items, whole
from ctrnn.states import state_of

__all__ = ["Plane", "nullclines"]


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
        if checked_field(field).n < 2:
            raise UsageError("field", given="a field of one state", allowed="two states or more")
        states = items("states", states, "two of the states")
        if len(states) != 2:
            raise UsageError("states", given=states, allowed="two of the states")
        numbers = [position("states", one, field.state_names) for one in states]
        if numbers[0] == numbers[1]:
            raise UsageError("states", given=states, allowed="two different states")
        limits = checked_array("box", box, (2, 2))
        if not (limits[:, 0] < limits[:, 1]).all():
            raise UsageError("box", given=box, allowed="((low, high), (low, high)) with low < high")
        rest = np.zeros(field.n) if at is None else state_of(field, at, "at").copy()
        return cls((numbers[0], numbers[1]), limits[:, 0].copy(), limits[:, 1].copy(), rest)

    def axes(self, points: int) -> tuple[Array, Array]:
        """The values of the two states on the grid, (points,) each."""
        claim("points", 64.0 * points**2)
        return tuple(np.linspace(a, b, points) for a, b in zip(self.low, self.high, strict=True))  # type: ignore[return-value]

    def grid(self, points: int) -> tuple[Array, tuple[Array, Array]]:
        """States (points², n), the second state's value by row, and the axes."""
        claim("points", 32.0 * points**2 * self.at.size, "fewer points a side")
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
