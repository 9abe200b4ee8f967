r"""All the points of rest that many starts lead to: F(r*) = 0, each once, with its speed, J, eigenvalues and stability.

Newton from every start (ctrnn.analysis.rest_search), so that saddles are found as well as attractors; two points are one where they are
nearer than ``distance`` · max(1, ‖r‖). Starts are states that the system visits: the states of a trajectory, or random ones around it.

Source: Sussillo and Barak, "Opening the black box", Neural Computation 25 (2013), who minimise ½‖F‖², with the slow points that this also finds; here
a start that ends at a slow point, where F does not vanish, is counted as lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.analysis.equilibria import METHODS, Equilibrium, find_equilibrium
from ctrnn.errors import ConvergenceError, SingularJacobianError, UnknownNameError, UsageError
from ctrnn.fields.base import Field

__all__ = ["FixedPoints", "fixed_points"]


@dataclass(frozen=True)
class FixedPoints:
    """Points of rest as a table, the most stable first (the smallest spectral abscissa).

    ``rows``: an `Equilibrium` each, with r, speed, jacobian, eigenvalues, stable, index, kind; ``reached`` (k,): by how many starts; ``lost``: starts
    that led nowhere. table[i] is a row, table[mask] or table[a:b] a smaller table; ``r`` (k, n), ``speed``, ``stable``, ``index`` (k,) are columns.
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
        return np.array([row.r for row in self.rows])

    @property
    def speed(self) -> np.ndarray:
        return np.array([row.speed for row in self.rows])

    @property
    def stable(self) -> np.ndarray:
        return np.array([row.stable for row in self.rows], dtype=bool)

    @property
    def index(self) -> np.ndarray:
        return np.array([row.index for row in self.rows], dtype=int)

    def __str__(self) -> str:
        lines = [
            f"{len(self)} points of rest from {int(self.reached.sum()) + self.lost} starts, {self.lost} of which led to none"
        ]
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
    t: float = 0.0,
    *,
    method: str = "newton",
    tol: float = 1e-12,
    distance: float = 1e-6,
) -> FixedPoints:
    """The different points of rest that the starts lead to.

    starts : states (k, n), or a Trajectory, whose states they then are
    x, t : the input (nx,) and the time held in F; method, tol : of `find_equilibrium`
    distance : two points nearer than that, over max(1, ‖r‖), are one

    Raises UsageError for starts that are not states of the field; a start that leads nowhere is counted in ``lost``.

    >>> from ctrnn.fields.equations import Equations
    >>> table = fixed_points(Equations({"r": "-r + 2*tanh(r)"}), [[-2.0], [-0.1], [0.1], [1.0]])
    >>> [(row.kind, row.index) for row in table]
    [('stable node', 0), ('stable node', 0), ('unstable node', 1)]
    """
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    if not (np.isfinite(distance) and distance > 0):
        raise UsageError("distance", given=distance, allowed="a positive number")
    states = np.asarray(getattr(starts, "r", starts), dtype=float)
    if states.ndim != 2 or states.shape[1] != field.n or not states.size:
        raise UsageError("starts", given=f"shape {states.shape}", allowed=f"states (k, {field.n}), at least one")
    found: list[Equilibrium] = []
    reached: list[int] = []
    lost = 0
    for start in states:
        try:
            eq = find_equilibrium(field, start, x, t, tol, method)
        except (ConvergenceError, SingularJacobianError):
            lost += 1
            continue
        near = [i for i, one in enumerate(found) if _one(one.r, eq.r, distance)]
        if near:
            reached[near[0]] += 1
        else:
            found.append(eq)
            reached.append(1)
    order = sorted(range(len(found)), key=lambda i: (round(found[i].abscissa, 9), tuple(found[i].r)))
    return FixedPoints(tuple(found[i] for i in order), np.array([reached[i] for i in order], dtype=int), lost)


def _one(a: np.ndarray, b: np.ndarray, distance: float) -> bool:
    return bool(np.linalg.norm(a - b) <= distance * max(1.0, float(np.linalg.norm(a))))
