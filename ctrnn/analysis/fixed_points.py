r"""All the points of rest that many starts lead to: F(r*) = 0, each once, with its speed, J, eigenvalues and stability.

Newton from every start, so that saddles are found as well as attractors, and a descent of ½‖F‖² where it gives up; two
points are one where they are nearer than ``distance`` · max(1, ‖r‖). Starts are states that the system visits: those of
a trajectory, or random ones around it. On request slow points too, where ½‖F‖² has a minimum that is not zero: a
trajectory lingers there (ctrnn.analysis.many_starts).

Source: Sussillo and Barak, "Opening the black box", Neural Computation 25 (2013), who minimise ½‖F‖².
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.analysis.equilibria import METHODS, Equilibrium, find_equilibrium
from ctrnn.analysis.family import Family
from ctrnn.analysis.fixed_point_table import FixedPoints
from ctrnn.analysis.many_starts import TO_REST, TO_SLOW, descend_all, newton_all, slow_points
from ctrnn.errors import (
    ConvergenceError,
    SingularJacobianError,
    UsageError,
    one_of,
)
from ctrnn.fields.base import Field
from ctrnn.fields.checks import checked_field
from ctrnn.numbers import flag, positive, real_array
from ctrnn.states import runs_of
from ctrnn.threads import one_blas_thread

__all__ = ["FixedPoints", "fixed_points"]


def fixed_points(
    field: Field,
    starts: Any,
    x: Any = None,
    slow: bool = False,
    *,
    t: float = 0.0,
    method: str = "newton",
    tol: float = 1e-12,
    distance: float = 1e-6,
) -> FixedPoints:
    """The different points of rest that the starts lead to, and on request the slow points.

    Parameters
    ----------
    field : any field
    starts : states (k, n), a Trajectory, whose states they then are, a list of these, or runs (B, T, n); thousands of
        starts go together
    x : the input (inputs,), held; a signal is taken at t. Several inputs (q, inputs): the points of each, from all
        starts, in one table; ``table.x`` says which, ``table.at(x)`` takes those of one. Points at different inputs
        are different ones
    slow : whether the minima of ‖F‖ that are not zero belong into the table, of kind "slow", with their ``speed``
    t : time, held
    method, tol : of `find_equilibrium`
    distance : two points nearer than that, over max(1, ‖r‖), are one

    Returns
    -------
    FixedPoints
        A table: kind, index, eigenvalues, speed, and by how many starts each was reached.

    Raises
    ------
    UsageError
        For starts that are not states of the field; a start that leads nowhere is counted in ``lost``.

    Examples
    --------
    >>> from ctrnn.fields.equations import Equations
    >>> table = fixed_points(Equations({"r": "-r + 2*tanh(r)"}), [[-2.0], [-0.1], [0.1], [1.0]])
    >>> [(row.kind, row.index) for row in table]
    [('stable node', 0), ('stable node', 0), ('unstable node', 1)]
    >>> ghost = fixed_points(Equations({"r": "0.01 + r**2"}), [[0.5], [-0.5]], slow=True)
    >>> ghost[0].kind, round(ghost[0].speed, 9)
    ('slow', 0.01)
    """
    checked_field(field)
    one_of("method", method, METHODS)
    tol = positive("tol", tol)
    distance, slow = positive("distance", distance), flag("slow", slow)
    states = np.concatenate(runs_of("starts", starts, field.n))
    several = None if x is None or callable(x) else real_array("x", x)
    if several is None or several.ndim < 2:
        return _at_one_input(field, states, x, slow, t, method, tol, distance)
    if several.ndim != 2 or several.shape[1] != field.input_size or not several.size:
        allowed = f"an input of {field.input_size} numbers, or several (q, {field.input_size})"
        raise UsageError("x", given=f"shape {several.shape}", allowed=allowed)
    tables = [_at_one_input(field, states, one, slow, t, method, tol, distance) for one in np.unique(several, axis=0)]
    rows = tuple(row for table in tables for row in table)
    return FixedPoints(rows, np.concatenate([table.reached for table in tables]), sum(table.lost for table in tables))


def _at_one_input(
    field: Field, states: np.ndarray, x: Any, slow: bool, t: float, method: str, tol: float, distance: float
) -> FixedPoints:
    found, family = _Found(distance), Family(field, (), x, t)
    if method == "newton":
        with one_blas_thread:
            ends, ok = newton_all(family, states, tol)
        for r in ends[ok]:
            found.add(_row(field, family, r))
    else:
        ok = _one_by_one(field, states, x, t, tol, method, found)
    on_the_way = np.flatnonzero(~ok | slow) if slow or method == "newton" else np.empty(0, dtype=int)
    if on_the_way.size:
        with one_blas_thread:
            ends = descend_all(family, states[on_the_way], TO_SLOW if slow else TO_REST)
            points, rests = newton_all(family, ends, tol)
            minima, origin = slow_points(family, ends[~rests], tol) if slow else (ends[:0], on_the_way[:0])
        if method == "newton":  # of another one the points of rest are those that it leads to itself
            for r, start in zip(points[rests], on_the_way[rests], strict=True):
                found.add(_row(field, family, r), counts=not ok[start])
                ok[start] = True
        for r, start in zip(minima, on_the_way[~rests][origin], strict=True):
            found.add(_row(field, family, r, slow=True), counts=not ok[start])
            ok[start] = True
    return found.table(int((~ok).sum()))


class _Found:
    """Rows that differ, and by how many starts each was reached."""

    def __init__(self, distance: float) -> None:
        self.distance, self.rows, self.reached = distance, list[Equilibrium](), list[int]()
        self.points = np.empty((0, 0))

    def add(self, row: Equilibrium, counts: bool = True) -> None:
        if self.rows:
            apart = np.linalg.norm(self.points - row.r, axis=1)
            same = (apart <= self.distance * np.maximum(1.0, np.linalg.norm(self.points, axis=1))) & (
                np.array([one.slow for one in self.rows]) == row.slow
            )
            if same.any():
                self.reached[int(np.argmax(same))] += counts
                return
        self.rows.append(row)
        self.reached.append(int(counts))
        self.points = np.array([one.r for one in self.rows])

    def table(self, lost: int) -> FixedPoints:
        def place(i: int) -> tuple[Any, ...]:
            row = self.rows[i]
            return row.slow, round(row.speed if row.slow else row.abscissa, 9), tuple(row.r)

        order = sorted(range(len(self.rows)), key=place)
        return FixedPoints(
            tuple(self.rows[i] for i in order), np.array([self.reached[i] for i in order], dtype=int), lost
        )


def _row(field: Field, family: Family, r: np.ndarray, slow: bool = False) -> Equilibrium:
    F = family.F(r, np.empty(0))
    return Equilibrium(
        r=r.copy(),
        residual=float(np.abs(F).max()),
        speed=float(np.linalg.norm(F)),
        iterations=0,
        method="newton",
        t=family.t,
        x=family.x(np.empty(0)),
        names=tuple(field.state_names),
        field=field,
        slow=slow,
    )


def _one_by_one(
    field: Field, states: np.ndarray, x: Any, t: float, tol: float, method: str, found: _Found
) -> np.ndarray:
    ok = np.zeros(len(states), dtype=bool)
    for k, start in enumerate(states):
        try:
            eq = find_equilibrium(field, start, x, t, tol, method)
        except (ConvergenceError, SingularJacobianError):
            continue
        ok[k] = True
        found.add(eq)
    return ok
