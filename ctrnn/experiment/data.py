"""Numbers from a CSV file with a header, every fault at its line."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UnknownNameError, UsageError


@dataclass(frozen=True)
class Table:
    """Observed values: times t (K,), y (K, p), and the p names."""

    t: NDArray[np.float64]
    y: NDArray[np.float64]
    names: tuple[str, ...]


def read_table(path: Path, time: str, columns: Sequence[str]) -> Table:
    """The named columns of a CSV file, at the times in another column.

    Raises: UsageError for a file that is missing, empty or no table of finite numbers (it names the line), or whose
    times do not increase; UnknownNameError for a column that is not there.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            rows = csv.reader(f)
            header = [name.strip() for name in next(rows, [])]
            for name in (time, *columns):
                if name not in header:
                    raise UnknownNameError(f"{path.name}: column", name, header)
            picks = [header.index(name) for name in (time, *columns)]
            values = [
                [_number(path, rows.line_num, header, row, k) for k in picks]
                for row in rows
                if any(map(str.strip, row))
            ]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"file {path}", given=reason, allowed="a CSV file in UTF-8 with a header line"
        ) from error
    if not values:
        raise UsageError(f"file {path}", given="no rows", allowed="at least one row of numbers")
    array = np.array(values)
    t = array[:, 0]
    if np.any(np.diff(t) <= 0):
        k = int(np.argmax(np.diff(t) <= 0))
        raise UsageError(
            f"{path.name}: column {time!r}", given=[t[k], t[k + 1]], allowed="times that increase"
        )
    return Table(t, array[:, 1:], tuple(columns))


def _number(path: Path, line: int, header: Sequence[str], row: Sequence[str], k: int) -> float:
    text = row[k].strip() if k < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(
            f"{path.name}:{line}: column {header[k]!r}", given=text, allowed="a finite number"
        )
    return value
