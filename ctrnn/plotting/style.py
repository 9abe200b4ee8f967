"""What all figures share: colours, sizes, a frame for axes, and how a figure becomes a file.

Colours: the set of Okabe and Ito, "Color Universal Design" (2008), told apart by colour-blind
readers, without its yellow, which is lost on white. Figures are made without pyplot, so that
drawing needs no display and leaves no state behind; the style holds inside :func:`styled` only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from ctrnn.errors import UsageError
from ctrnn.files import atomic_path
from ctrnn.numbers import items

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE, ORANGE, GREEN, PINK, AMBER, SKY, BLACK = COLOURS
GREY = "#999999"

WIDTH = 6.7  # inches: the text width of an A4 page
RC: Any = {
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "font.size": 9,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}

Draw = TypeVar("Draw", bound=Callable[..., Any])


def styled(draw: Draw) -> Draw:
    """A drawing function in the style of the toolkit, which leaves matplotlib's own settings as they were."""
    return matplotlib.rc_context(RC)(draw)


def frame(
    rows: int = 1, columns: int = 1, *, height: float = 2.6, width: float = WIDTH, ax: Any = None, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of ``width`` inches whose rows are ``height`` inches high, and its axes, row by row.

    Further options go to :meth:`matplotlib.figure.Figure.subplots` (sharex, width_ratios, ...). With ``ax``, the axes
    of somebody else's figure, as many as are drawn on, there is no new one; raises UsageError for another number.
    """
    if ax is not None:
        return _given(ax, rows * columns)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    _OURS.add(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for one in axes:
        round_ticks(one)
    return figure, axes


def round_ticks(axes: Axes) -> None:
    """Ticks at 1, 2 or 5 times a power of ten: a year 1902.5 reads badly."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))


def few_log_ticks(axis: Any, most: int) -> None:
    """Numbers at powers of ten, at 2 and 5 times them where ``most`` numbers allow it, and nowhere else."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(
        LogLocator(subs=(1.0, 2.0, 5.0) if 3 * np.log10(high / low) <= most else (1.0,), numticks=most)
    )
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


#: figures that ``frame`` made, whose legends may stand outside their axes
_OURS: WeakSet[Figure] = WeakSet()


def _given(ax: Any, count: int) -> tuple[Figure, list[Axes]]:
    """The figure of somebody's axes, and these."""
    axes = [ax] if isinstance(ax, Axes) else list(np.ravel(np.asarray(ax, dtype=object)))
    if len(axes) != count or not all(isinstance(one, Axes) for one in axes):
        allowed = "one matplotlib Axes" if count == 1 else f"{count} matplotlib Axes, row by row"
        raise UsageError("ax", given=ax if len(axes) == 1 else f"{len(axes)} of them", allowed=allowed)
    figure = axes[0].get_figure(root=True)
    if figure is None:
        raise UsageError("ax", given=ax, allowed="axes of a figure")
    return figure, axes


def mosaic(pattern: str, *, height: float, ax: Any = None, **options: Any) -> tuple[Figure, dict[str, Axes]]:
    """As ``frame``, for panels "ab;ac" by their letters; ``ax``: one for each letter, in their order."""
    letters = sorted(set(pattern) - {";"})
    if ax is not None:
        figure, axes = _given(ax, len(letters))
        return figure, dict(zip(letters, axes, strict=True))
    figure = frame(height=height)[0]
    figure.clear()
    named = figure.subplot_mosaic(pattern, **options)
    for one in named.values():
        round_ticks(one)
    return figure, named


def legend_above(figure: Figure, axes: Axes, entries: tuple[Sequence[Any], Sequence[str]] | None = None) -> None:
    """One legend for the figure, above the axes, where it can hide no curve; as many columns as its width holds.

    In somebody else's figure it stands in the axes. ``entries``: handles and labels, by default those of the axes.
    """
    handles, labels = axes.get_legend_handles_labels() if entries is None else entries
    if not handles:
        return
    if figure not in _OURS:
        axes.legend(handles, labels, loc="best")
        return
    room = 15 * figure.get_figwidth()  # letters of this size
    for columns in range(min(len(labels), 4), 0, -1):
        parts = np.array_split([len(label) for label in labels], columns)  # as matplotlib fills them
        if sum(6 + part.max() for part in parts) <= room:
            break
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def once(axes: Axes, label: str) -> str:
    """The label of what is drawn; where the axes have it already, one that no legend shows.

    >>> axes = Figure().add_subplot()
    >>> _ = axes.plot([0.0], [0.0], label=once(axes, "runs"))
    >>> once(axes, "runs"), once(axes, "data")
    ('_', 'data')
    """
    return "_" if label in axes.get_legend_handles_labels()[1] else label


def shared_unit(labels: Sequence[str]) -> str:
    """The unit in brackets that all labels end on; empty where they do not.

    >>> shared_unit(["hare (thousands)", "lynx (thousands)"]), shared_unit(["v (mV)", "u"])
    ('thousands', '')
    """
    units = {found[1] if (found := re.search(r"\(([^()]+)\)$", label)) else "" for label in labels}
    return units.pop() if len(units) == 1 else ""


def words(labels: Any) -> dict[str, str]:
    """``labels``: name -> what stands in its place in the figure; raises UsageError for what is no such table."""
    if labels is None:
        return {}
    if not isinstance(labels, Mapping) or not all(isinstance(text, str) for pair in labels.items() for text in pair):
        raise UsageError("labels", given=labels, allowed="a table name -> text")
    return dict(labels)


def drawn(argument: str, values: Any, needs: Sequence[str], allowed: str) -> list[Any]:
    """One object or several that have what is to be drawn, as a list; raises UsageError for others."""

    def fits(one: Any) -> bool:
        return not isinstance(one, type) and all(hasattr(one, name) for name in needs)

    several = [values] if fits(values) else items(argument, values, allowed)
    for one in several:
        if not fits(one):
            raise UsageError(argument, given=one, allowed=allowed)
    return several


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure, whole or not at all: ``.png`` (200 dots an inch), ``.pdf`` or ``.svg``.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What the functions of this package return.
    path : str or path
        Its ending says what is written.

    Raises
    ------
    UsageError
        For another ending, or a folder that does not exist.

    Notes
    -----
    The file holds no date, so that the same figure gives the same bytes.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> save(Figure(), "figure.jpg")
    Traceback (most recent call last):
        ...
    ctrnn.errors.UsageError: path: got 'figure.jpg'; allowed: a name that ends in .png, .pdf or .svg
    """
    metadata = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    if not isinstance(figure, Figure):
        raise UsageError("figure", given=figure, allowed="a matplotlib Figure")
    suffix = Path(path).suffix.lower() if isinstance(path, str | os.PathLike) else None
    if suffix not in metadata:
        raise UsageError(
            "path", given=path if suffix is None else str(path), allowed="a name that ends in .png, .pdf or .svg"
        )
    with atomic_path(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "ctrnn"}):
        figure.savefig(temporary, dpi=200, metadata=metadata[suffix])
