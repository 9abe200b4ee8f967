"""The table of points of rest: a row a point, columns as arrays, sorted, chosen, written to a file and read again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctrnn.analysis.equilibria import Equilibrium
from ctrnn.errors import UnknownNameError, UsageError, optional_module
from ctrnn.fields.base import Field
from ctrnn.files import as_path, atomic_path, loading
from ctrnn.numbers import real_array

__all__ = ["FixedPoints"]


@dataclass(frozen=True, repr=False, eq=False)
class FixedPoints:
    """Points of rest as a table, the most stable first (the smallest spectral abscissa).

    Slow points follow them, the slowest first. table[i] is a row, table[mask] or table[a:b] a smaller table; the
    columns are ``r`` (k, n), ``kind``, ``speed``, ``stable``, ``index``, ``slow``, ``x`` (k, inputs), ``eigenvalues``,
    ``time_constants`` and ``frequencies`` (k, n).

    Attributes
    ----------
    rows : an `Equilibrium` each, with r, speed, jacobian, eigenvalues, stable, index, kind
    reached : (k,) by how many starts
    lost : starts that led nowhere

    Examples
    --------
    >>> from ctrnn import Equations
    >>> from ctrnn.analysis import fixed_points
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
    def x(self) -> np.ndarray:
        """(k, inputs) the inputs held at each; (k, 0) of a field without any."""
        if not self.rows:
            return np.empty((0, 0))
        return np.array([np.empty(0) if row.x is None else row.x for row in self.rows])

    @property
    def eigenvalues(self) -> np.ndarray:
        """(k, n) of J, real parts descending."""
        return np.array([row.eigenvalues for row in self.rows])

    @property
    def time_constants(self) -> np.ndarray:
        """(k, n) −1/Re λ of each mode, in the unit of t: in that time it decays by e; negative where it grows."""
        with np.errstate(divide="ignore"):
            return np.asarray(-1.0 / self.eigenvalues.real)

    @property
    def frequencies(self) -> np.ndarray:
        """(k, n) |Im λ|/(2π) of each mode, turns per unit of t."""
        return np.asarray(np.abs(self.eigenvalues.imag) / (2 * np.pi))

    def at(self, x: Any) -> FixedPoints:
        """The points at one of the inputs (inputs,)."""
        wanted = np.atleast_1d(real_array("x", x))
        if not self.rows:
            return self
        if wanted.shape != self.x.shape[1:]:
            raise UsageError("x", given=x, allowed=f"an input of {self.x.shape[1]} numbers")
        result: FixedPoints = self[(self.x == wanted).all(axis=1)]
        return result

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

        Kind, stable, index, speed, abscissa, time constant and frequency of the first mode, reached, states, inputs.
        """
        pandas = optional_module("pandas", "FixedPoints.to_dataframe", "pandas", "xarray")  # xarray brings it
        first = np.array([row.eigenvalues[0] for row in self.rows], dtype=complex)
        with np.errstate(divide="ignore"):
            time_constant = -1.0 / first.real
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
            columns |= {name: self.x[:, i] for i, name in enumerate(self.rows[0].field.input_names[: self.x.shape[1]])}
        return pandas.DataFrame(columns)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table to an .npz file: points, kinds, speeds, eigenvalues, Jacobians, inputs.

        The field is not in the file: ``FixedPoints.load(path, field)`` takes it.
        """
        if as_path("path", path).suffix != ".npz":
            raise UsageError("path", given=str(path), allowed="a name that ends in .npz")
        rows = self.rows
        columns: dict[str, Any] = {
            **self.arrays(),
            "residual": np.array([row.residual for row in rows]),
            "iterations": np.array([row.iterations for row in rows], dtype=int),
            "method": np.array([row.method for row in rows], dtype=str),
            "t": np.array([row.t for row in rows]),
            "lost": np.array(self.lost),
            "names": np.array(rows[0].names if rows else (), dtype=str),
        }
        with atomic_path(path) as temporary, temporary.open("wb") as f:
            np.savez(f, **columns)

    def arrays(self) -> dict[str, np.ndarray]:
        """The columns by name, as `save` and the command line write them."""
        names = ("r", "kind", "stable", "slow", "index", "speed", "eigenvalues", "time_constants", "frequencies", "x")
        columns = {name: np.asarray(getattr(self, name)) if self.rows else np.empty(0) for name in names}
        return columns | {"reached": self.reached, "jacobian": np.array([row.jacobian for row in self.rows])}

    @classmethod
    def load(cls, path: str | os.PathLike[str], field: Field) -> FixedPoints:
        """A table that was saved, of that field.

        Raises UsageError for a file that is none, or of another field.
        """
        with loading(path, "a file that FixedPoints.save has written"):
            with np.load(Path(path), allow_pickle=False) as file:
                a = dict(file)
            names, k = tuple(str(name) for name in a["names"]), len(a["residual"])
            if k and names != tuple(field.state_names):
                raise UsageError(
                    "field", given=", ".join(field.state_names[:8]), allowed=f"states {', '.join(names[:8])}"
                )
            rows = tuple(
                Equilibrium(
                    r=a["r"][i],
                    residual=float(a["residual"][i]),
                    speed=float(a["speed"][i]),
                    iterations=int(a["iterations"][i]),
                    method=str(a["method"][i]),
                    t=float(a["t"][i]),
                    x=a["x"][i] if a["x"].shape[-1] else None,
                    names=names,
                    field=field,
                    slow=bool(a["slow"][i]),
                )
                for i in range(k)
            )
            return cls(rows, a["reached"], int(a["lost"]))

    def __repr__(self) -> str:
        starts = int(self.reached.sum()) + self.lost
        slow = f", {int(self.slow.sum())} of them slow" if self.slow.any() else ""
        points = f"{len(self)} point{'s' * (len(self) != 1)}"
        lines = [f"{points} of rest{slow} from {starts} starts, {self.lost} of which led to none"]
        lines.append(f"  {'':>3}  {'kind':<16}{'max Re λ':>12}{'index':>7}{'speed':>10}{'starts':>8}  r")
        for i, (row, count) in enumerate(zip(self.rows, self.reached, strict=True)):
            r = np.array2string(row.r, precision=4, threshold=6, edgeitems=2, max_line_width=60).replace("\n", "")
            lines.append(
                f"  {i:>3}  {row.kind:<16}{row.abscissa:>12.5g}{row.index:>7}{row.speed:>10.1e}{count:>8}  {r}"
            )
        return "\n".join(lines)
