"""Inputs from the columns of a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.inputs.piecewise import Sampled


def from_csv(path: str | Path, time: str, columns: str | Sequence[str], kind: str = "hold") -> Sampled:
    """Columns of a CSV file as an input, a channel each; another column holds the times.

    The first line holds the column names. ``kind`` as in :class:`Sampled`; blank lines are passed
    over.

    Raises UsageError for a file that cannot be read, for a cell that is not a finite number and for
    a time that does not come after the one before (naming the line and the column);
    UnknownNameError for a column that is not there.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "counts.csv")
    >>> _ = path.write_text("year,hare,lynx\\n1900,30,4\\n1901,47.2,6.1\\n")
    >>> from_csv(path, time="year", columns=["hare", "lynx"], kind="linear")(1900.5)
    array([38.6 ,  5.05])
    """
    names = [columns] if isinstance(columns, str) else list(columns)
    if not names:
        raise UsageError("columns", given=columns, allowed="the name of a column, or a list of names")
    header, rows = _read(Path(path))
    for argument, name in [("time", time), *(("columns", name) for name in names)]:
        if name not in header:
            raise UnknownNameError(argument, name, header)
    places = [header.index(name) for name in (time, *names)]
    numbers = [
        [_number(path, line, header[k], cells[k] if k < len(cells) else "") for k in places] for line, cells in rows
    ]
    if not numbers:
        raise UsageError("path", given=str(path), allowed="a CSV file with data below its line of names")
    for (line, _), before, after in zip(rows[1:], numbers[:-1], numbers[1:], strict=True):
        if not after[0] > before[0]:
            raise UsageError(
                f"{path}, line {line}, column {time!r}",
                given=after[0],
                allowed=f"a time after the one before, {before[0]!r}",
            )
    return Sampled([row[0] for row in numbers], [row[1:] for row in numbers], kind)


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names in the first line, and (line number, cells) of each line that is not blank."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError("path", given=str(path), allowed=f"a readable CSV file ({reason})") from error
    if not rows:
        raise UsageError("path", given=str(path), allowed="a CSV file with a line of column names")
    return [name.strip() for name in rows[0][1]], rows[1:]


def _number(path: str | Path, line: int, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{path}, line {line}, column {column!r}", given=cell, allowed="a finite number")
    return value
