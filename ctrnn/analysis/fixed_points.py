r"""All the points of rest that many starts lead to: F(r*) = 0, each once, with its speed, J, eigenvalues and stability.

Newton from every start, so that saddles are found as well as attractors; two points are one where they are nearer than
``distance`` · max(1, ‖r‖). Starts are states that the system visits: the states of a trajectory, or random ones around
it. On request slow points too, where ½‖F‖² has a minimum that is not zero: a trajectory lingers there
(ctrnn.analysis.many_starts).

Source: Sussillo and Barak, "Opening the black box", Neural Computation 25 (2013), who minimise ½‖F‖².
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.analysis.equilibria import METHODS, Equilibrium, find_equilibrium
from ctrnn.analysis.family import Family
from ctrnn.analysis.many_starts import newton_all, slow_points
from ctrnn.errors import ConvergenceError, MissingDependencyError, SingularJacobianError, UnknownNameError, UsageError
from ctrnn.fields.base import Field
from ctrnn.states import state_of
from ctrnn.threads import one_blas_thread

__all__ = ["FixedPoints", "fixed_points"]


@dataclass(frozen=True)
class FixedPoints:
    """Points of rest as a table, the most stable first (the smallest spectral abscissa).

    Slow points follow them, the slowest first. table[i] is a row, table[mask] or table[a:b] a smaller table; the
    columns are ``r`` (k, n), ``kind``, ``speed``, ``stable``, ``index``, ``slow`` and ``eigenvalues`` (k, n).

    Attributes
    ----------
    rows : an `Equilibrium` each, with r, speed, jacobian, eigenvalues, stable, index, kind
    reached : (k,) by how many starts
    lost : starts that led nowhere

    Examples
    --------
    >>> from ctrnn import Equations
    >>> table = fixed_points(Equations({"r": "-r + 2*tanh(r)"}), [[-2.0], [0.1], [1.0]])
    >>> len(table), table[0].stable, table[table.stable].r.round(3).ravel()
    (3, True, array([-1.915,  1.915]))
    """

    rows: tuple[Equilibrium, ...]
    reached: np.ndarray
    lost: int

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Equilibrium]:
        return iter(self.rows)

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, (int, np.integer)):
            return self.rows[which]
        chosen = np.arange(len(self))[which]
        return FixedPoints(tuple(self.rows[i] for i in chosen), self.reached[chosen], self.lost)

    @property
    def r(self) -> np.ndarray:
        """(k, n) the points."""
        return np.array([row.r for row in self.rows])

    @property
    def kind(self) -> np.ndarray:
        """(k,) "stable node", "saddle", … (`ctrnn.analysis.equilibria.classify`), or "slow"."""
        return np.array([row.kind for row in self.rows], dtype=str)

    @property
    def speed(self) -> np.ndarray:
        """(k,) ‖F‖ there, in units of r per t."""
        return np.array([row.speed for row in self.rows])

    @property
    def stable(self) -> np.ndarray:
        """(k,) whether all eigenvalues have a negative real part."""
        return np.array([row.stable for row in self.rows], dtype=bool)

    @property
    def slow(self) -> np.ndarray:
        """(k,) whether F does not vanish there."""
        return np.array([row.slow for row in self.rows], dtype=bool)

    @property
    def index(self) -> np.ndarray:
        """(k,) the number of growing modes."""
        return np.array([row.index for row in self.rows], dtype=int)

    @property
    def eigenvalues(self) -> np.ndarray:
        """(k, n) of J, real parts descending; a mode's time constant is −1/Re λ, its frequency Im λ/(2π)."""
        return np.array([row.eigenvalues for row in self.rows])

    def sort(self, by: str = "abscissa") -> FixedPoints:
        """The table in the order of a column: "abscissa", "speed", "index" or "reached" (most starts first)."""
        columns: dict[str, Any] = {
            "abscissa": [row.abscissa for row in self.rows],
            "speed": self.speed,
            "index": self.index,
            "reached": -self.reached,
        }
        if by not in columns:
            raise UnknownNameError("by", by, columns)
        result: FixedPoints = self[np.argsort(columns[by], kind="stable")]
        return result

    def to_dataframe(self) -> Any:
        """A pandas table with a row a point.

        Kind, stable, index, speed, abscissa, time constant and frequency of the first mode, reached, states.
        """
        try:
            import pandas  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingDependencyError("pandas", "FixedPoints.to_dataframe", "pandas") from error
        first = np.array([row.eigenvalues[0] for row in self.rows])
        with np.errstate(divide="ignore"):
            time_constant = -1.0 / first.real if len(self) else first.real
        columns: dict[str, Any] = {
            "kind": self.kind,
            "stable": self.stable,
            "index": self.index,
            "speed": self.speed,
            "abscissa": first.real,
            "time_constant": time_constant,
            "frequency": np.abs(first.imag) / (2 * np.pi),
            "reached": self.reached,
        }
        if self.rows:
            columns |= {name: self.r[:, i] for i, name in enumerate(self.rows[0].names)}
        return pandas.DataFrame(columns)

    def __str__(self) -> str:
        starts = int(self.reached.sum()) + self.lost
        slow = f", {int(self.slow.sum())} of them slow" if self.slow.any() else ""
        lines = [f"{len(self)} points of rest{slow} from {starts} starts, {self.lost} of which led to none"]
        lines.append(f"  {'':>3}  {'kind':<16}{'max Re λ':>12}{'index':>7}{'speed':>10}{'starts':>8}  r")
        for i, (row, count) in enumerate(zip(self.rows, self.reached, strict=True)):
            r = np.array2string(row.r, precision=4, threshold=6, edgeitems=2, max_line_width=60).replace("\n", "")
            lines.append(
                f"  {i:>3}  {row.kind:<16}{row.abscissa:>12.5g}{row.index:>7}{row.speed:>10.1e}{count:>8}  {r}"
            )
        return "\n".join(lines)


def fixed_points(
    field: Field,
    starts: Any,
    x: Any = None,
    *,
    slow: bool = False,
    t: float = 0.0,
    method: str = "newton",
    tol: float = 1e-12,
    distance: float = 1e-6,
) -> FixedPoints:
    """The different points of rest that the starts lead to, and on request the slow points.

    Parameters
    ----------
    field : any field
    starts : states (k, n), or a Trajectory, whose states they then are; thousands of them go together
    x : the input (inputs,), held; a signal is taken at t
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
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    if not (np.isfinite(distance) and distance > 0):
        raise UsageError("distance", given=distance, allowed="a positive number")
    states = np.asarray(getattr(starts, "r", starts), dtype=float)
    if states.ndim != 2 or states.shape[1] != field.n or not states.size:
        raise UsageError("starts", given=f"shape {states.shape}", allowed=f"states (k, {field.n}), at least one")
    for start in states[~np.isfinite(states).all(axis=1)]:
        state_of(field, start)  # says which number it is
    found = _Found(distance)
    if method == "newton" and isinstance(field, Field):
        ends, ok = _together(field, states, x, t, tol, found)
    else:
        ends, ok = _one_by_one(field, states, x, t, tol, method, found)
    if slow:
        family = Family(field, (), x, t)
        with one_blas_thread:
            minima, origin = slow_points(family, states, tol)
        for r, start in zip(minima, origin, strict=True):
            found.add(_row(field, family, r, "newton", slow=True), counts=not ok[start])
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


def _together(
    field: Field, states: np.ndarray, x: Any, t: float, tol: float, found: _Found
) -> tuple[np.ndarray, np.ndarray]:
    family = Family(field, (), x, t)
    with one_blas_thread:
        ends, ok = newton_all(family, states, tol)
    for r in ends[ok]:
        found.add(_row(field, family, r, "newton"))
    return ends, ok


def _row(field: Field, family: Family, r: np.ndarray, method: str, slow: bool = False) -> Equilibrium:
    F = family.F(r, np.empty(0))
    return Equilibrium(
        r=r.copy(),
        residual=float(np.abs(F).max()),
        speed=float(np.linalg.norm(F)),
        iterations=0,
        method=method,
        t=family.t,
        x=family.x(np.empty(0)),
        names=tuple(field.state_names),
        field=field,
        slow=slow,
    )


def _one_by_one(
    field: Field, states: np.ndarray, x: Any, t: float, tol: float, method: str, found: _Found
) -> tuple[np.ndarray, np.ndarray]:
    ends, ok = states.copy(), np.zeros(len(states), dtype=bool)
    for k, start in enumerate(states):
        try:
            eq = find_equilibrium(field, start, x, t, tol, method)
        except (ConvergenceError, SingularJacobianError):
            continue
        ends[k], ok[k] = eq.r, True
        found.add(eq)
    return ends, ok
