"""Inputs from the columns of a CSV file."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ctrnn.errors import UsageError, one_of
from ctrnn.files import as_path, reading
from ctrnn.inputs.piecewise import Sampled

_SEPARATE = "commas between the columns and points in the numbers (separated by {}?)"
_POINT = "0.5 in place of 0,5 (a decimal comma?)"
_SKIP = 'missing = "skip" in [objective], which leaves empty cells out'
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def from_csv(path: str | Path, time: str, columns: str | Sequence[str], kind: str = "hold") -> Sampled:
    r"""Columns of a CSV file as an input, a channel each; another column holds the times.

    Parameters
    ----------
    path : str or Path
        A file separated by commas, whose first line holds the column names; blank lines are passed over.
    time : str
        The column of the times.
    columns : str or sequence of str
        Those of the channels.
    kind : {"hold", "linear", "cubic"}, default "hold"
        As of `Sampled`.

    Returns
    -------
    Sampled
        With ``times`` and ``values``.

    Raises
    ------
    UsageError
        For a file that cannot be read or is not separated by commas, for two columns of one name, a line of another
        length than the first, a cell that is not a finite number and a time that does not come after the one before; it
        names the line and the column.
    UnknownNameError
        For a column that is not there.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "counts.csv")
    >>> _ = path.write_text("year,hare,lynx\n1900,30,4\n1901,47.2,6.1\n")
    >>> from_csv(path, time="year", columns=["hare", "lynx"], kind="linear")(1900.5)
    array([38.6 ,  5.05])
    """
    names = [columns] if isinstance(columns, str) else list(columns)
    if not names:
        raise UsageError("columns", given=columns, allowed="the name of a column, or a list of names")
    return Sampled(*read_times(path, time, names), kind)


def read_times(
    path: str | os.PathLike[str], time: str, names: Sequence[str], missing: str = ""
) -> tuple[list[float], list[list[float]]]:
    """Increasing times (K,), and the columns ``names`` of a CSV file, (K, p).

    missing : as of `read_columns`; raises UsageError as `from_csv` says
    """
    wanted = [("time", time), *(("columns", name) for name in names)]
    lines, numbers = read_columns(path, wanted, missing)
    times = [row[0] for row in numbers]
    for line, before, after in zip(lines, [-math.inf, *times], times, strict=False):
        if not after > before:
            where, allowed = f"{path}, line {line}, column {time!r}", f"a time after the one before, {before!r}"
            raise UsageError(where, given=after, allowed="a finite number" if math.isnan(after) else allowed)
    return times, [row[1:] for row in numbers]


def read_columns(
    path: str | os.PathLike[str], wanted: Sequence[tuple[str, str]], missing: str = ""
) -> tuple[list[int], list[list[float]]]:
    """Columns of a CSV file: the number of each line, and its finite numbers in the order asked for.

    Parameters
    ----------
    wanted : (argument, column), the first of which an error names
    missing : "skip" reads empty cells as NaN; else they are refused, with "refuse" by an error that names "skip"

    Raises
    ------
    UsageError
        As `from_csv` says.
    """
    names = [name for _, name in wanted]
    header, rows = _read(as_path("path", path))
    _check_header(path, header, names)
    for argument, name in wanted:
        one_of(argument, name, header)
    positions = [header.index(name) for name in names]
    for line, cells in rows:
        _check_length(path, line, cells, header, max(positions))
    numbers = [[_number(path, line, header[k], cells[k], missing) for k in positions] for line, cells in rows]
    if not numbers:
        raise UsageError("path", given=str(path), allowed="a CSV file with data below its line of names")
    return [line for line, _ in rows], numbers


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names in the first line, and (line number, cells) of each line that is not blank."""
    try:
        with reading("path", path, "a readable CSV file"), path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise UsageError("path", given=str(path), allowed=f"a readable CSV file ({error})") from error
    if not rows:
        raise UsageError("path", given=str(path), allowed="a CSV file with a line of column names")
    header = [name.strip() for name in rows[0][1]]
    while len(header) > 1 and not header[-1]:  # a line that ends on a comma
        header.pop()
    return header, rows[1:]


def _check_header(path: str | os.PathLike[str], header: list[str], wanted: list[str]) -> None:
    """Names that occur twice, or that stand in one cell because another separator stands between them."""
    for name in header:
        if name and header.count(name) > 1:
            allowed = "each name once"
            raise UsageError(f"{path}, line 1", given=f"column {name!r} {header.count(name)} times", allowed=allowed)
    text = ",".join(header)
    for mark, word in ((";", "';'"), ("\t", "tabs"), ("|", "'|'"), (" ", "blanks")):
        cells = {cell.strip(' "') for cell in text.split(mark)}
        one_cell = len(header) == 1 and mark != " "  # blanks may stand in a name
        if mark in text and not set(wanted) <= set(header) and (one_cell or cells & set(wanted)):
            hint = _SEPARATE.format(word)
            raise UsageError(f"{path}, line 1", given=text, allowed="names separated by commas", hint=hint)


def _check_length(path: str | os.PathLike[str], line: int, cells: list[str], header: list[str], last: int) -> None:
    """As many cells as names; empty ones at the end do not count. ``last`` is the last column that is wanted."""
    length = len(header)
    while len(cells) > length and not cells[-1].strip():
        cells.pop()
    if len(cells) != length:
        text = ",".join(cells)
        hint = ""
        if len(cells) <= last and ";" not in text:
            raise UsageError(f"{path}, line {line}, column {header[last]!r}", given="", allowed="a finite number")
        if ";" in text:
            hint = _SEPARATE.format("';'")
        elif len(cells) > length:
            hint = _POINT
        given = f"{len(cells)} cell{'s' * (len(cells) != 1)} in {text!r}"
        allowed = f"{length}, as there are names in the first line"
        raise UsageError(f"{path}, line {line}", given=given, allowed=allowed, hint=hint)


def _number(path: str | os.PathLike[str], line: int, column: str, cell: str, missing: str) -> float:
    is_empty = not cell.strip()
    if is_empty and missing == "skip":
        return math.nan
    # float() takes 1_000 and the digits of other scripts too
    value = float(cell) if _NUMBER.fullmatch(cell.strip()) else math.nan
    if not math.isfinite(value):
        hint = _POINT if "," in cell else _SKIP if is_empty and missing else ""
        raise UsageError(f"{path}, line {line}, column {column!r}", given=cell, allowed="a finite number", hint=hint)
    return value
