"""What a learner has done, as a table: a row each so many steps."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from ctrnn.errors import UnknownNameError
from ctrnn.fields.base import Array
from ctrnn.files import atomic_path

#: rows that are printed, first and last ones
SHOWN = 8
#: name -> what it is
COLUMNS = {
    "step": "steps taken",
    "t": "time",
    "loss": "mean loss of the steps since the row before",
    "gradient": "length of the last gradient",
    "lr": "learning rate",
    "bound": "bound on the relative error of what the rule carries, where theory gives one",
    "seconds": "time of the steps since the row before",
}


class LearningTable:
    """Rows of a run of a learner; it prints small.

    Attributes
    ----------
    step : ndarray (K,) of int
        Steps that the learner had taken.
    t : ndarray (K,)
        Its time there.
    loss : ndarray (K,)
        Mean loss of the steps with a loss since the row before; NaN where none had one.
    gradient : ndarray (K,)
        Length of the gradient of the last update.
    lr : ndarray (K,)
        Learning rate.
    bound : ndarray (K,)
        Bound on the relative error of what the rule carries, where theory gives one; NaN where none.
    seconds : ndarray (K,)
        Time since the row before.

    Examples
    --------
    >>> table = LearningTable([(10, 1.0, 0.5, 0.1, 0.01, float("nan"), 0.2)])
    >>> table.loss, len(table)
    (array([0.5]), 1)
    """

    def __init__(self, rows: list[tuple[float, ...]] | None = None) -> None:
        self.rows = [] if rows is None else list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> Array:
        """A column by its name."""
        if name not in COLUMNS:
            raise UnknownNameError("column", name, COLUMNS)
        column = np.array([row[list(COLUMNS).index(name)] for row in self.rows])
        return column.astype(int) if name == "step" else column.astype(float)

    def __getattr__(self, name: str) -> Array:
        if name in COLUMNS:
            return self[name]
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *COLUMNS])

    def columns(self) -> dict[str, Array]:
        """All columns, name -> array; without the bound where there is none."""
        found = {name: self[name] for name in COLUMNS}
        if not np.isfinite(found["bound"]).any():
            del found["bound"]
        return found

    @property
    def steps_per_second(self) -> float:
        """Over all rows; NaN where nothing was timed."""
        taken = float(self.seconds.sum())
        first = self._first
        return float(self.step[-1] - first) / taken if len(self) and taken > 0.0 else float("nan")

    @property
    def _first(self) -> float:
        """Steps before the first row, as far as the rows tell."""
        step = self.step
        return float(2 * step[0] - step[1]) if len(step) > 1 else 0.0

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the columns to a CSV file, whole or not at all; raises UsageError for a folder that does not exist."""
        columns = self.columns()
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))

    def _lines(self) -> Iterator[str]:
        columns = {name: column for name, column in self.columns().items() if name != "seconds"}
        yield "  ".join(f"{name:>10}" for name in columns)
        count = len(self)
        shown = range(count) if count <= SHOWN else [*range(SHOWN // 2), -1, *range(count - SHOWN // 2, count)]
        for i in shown:
            yield "       ..." if i < 0 else "  ".join(f"{_text(column[i]):>10}" for column in columns.values())

    def __repr__(self) -> str:
        if not self.rows:
            return "LearningTable, no rows"
        rate = self.steps_per_second
        head = f"LearningTable, {len(self)} rows" + (f", {rate:.0f} steps/s" if np.isfinite(rate) else "")
        return "\n".join([head, *self._lines()])


def _text(value: Any) -> str:
    return f"{value:d}" if isinstance(value, (int, np.integer)) else f"{value:.4g}"
