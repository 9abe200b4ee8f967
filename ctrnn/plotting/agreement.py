"""How far gradient methods agree, and what each costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ctrnn.errors import UsageError
from ctrnn.plotting.style import BLUE, GREY, ORANGE, frame, styled


@styled
def gradient_agreement(comparison: Any, *, ax: Any = None) -> Figure:
    """Digits of agreement with the reference, and the time, of each method in a comparison.

    Parameters
    ----------
    comparison : Comparison or iterable of rows
        What `ctrnn.compare_gradients` returns, or any rows with ``method``, ``digits`` and ``time`` (seconds).
    ax : sequence of matplotlib.axes.Axes, optional
        Two, for the digits and the times.

    Returns
    -------
    matplotlib.figure.Figure
        Digits left, time right, a line for each method. The reference, and a method that failed, have no dot but a
        word; one that ``approximates`` has both. With a certificate, a ring beside each dot shows the digits that the
        gradient has as one of the ODE: −log10 of its estimated error.

    Raises
    ------
    UsageError
        For no rows.

    Examples
    --------
    >>> from types import SimpleNamespace as row
    >>> figure = gradient_agreement([row(method="rtrl", digits=13.1, time=1e-3)])
    >>> [axes.get_xlabel() for axes in figure.axes]
    ['digits of agreement', 'time (s)']
    """
    rows = list(getattr(comparison, "rows", comparison))
    if not rows:
        raise UsageError("comparison", given="no rows", allowed="one method or more")
    n = len(rows)
    y = np.arange(n)[::-1]  # the first method on top
    words = {k: word for k, row in enumerate(rows) if (word := _word(row))}
    digits = np.array([np.nan if k in words else row.digits for k, row in enumerate(rows)], float)
    approximate = [k for k, row in enumerate(rows) if k not in words and _approximates(row)]
    seconds = np.array([row.time or np.nan for row in rows], float)
    figure, (left, right) = frame(1, 2, height=0.9 + 0.27 * n, ax=ax, sharey=True, width_ratios=(3, 2))
    # Exact agreement has no finite number of digits; float64 cannot show more than 16.
    digits = np.minimum(digits, 16.0)
    left.hlines(y, 0, np.where(np.isnan(digits), 0, digits), color=GREY, lw=0.8)
    left.plot(digits, y, "o", color=BLUE, ms=6, zorder=3)
    errors = [getattr(row, "error", None) for row in rows]
    if any(error is not None for error in errors):
        right_digits = [np.nan if e is None else np.clip(-np.log10(max(e, 1e-16)), 0.0, 16.0) for e in errors]
        left.plot(
            right_digits, y, "o", mfc="none", mec=ORANGE, mew=1.6, ms=10, zorder=2, label="with the ODE (estimated)"
        )
        left.plot([], [], "o", color=BLUE, ms=6, label="with the reference")
        left.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, fontsize=8, borderaxespad=0.0)
    left.axvline(0.0, color=GREY, lw=0.8)  # the axes begin left of zero, so that a dot there is whole
    left.spines.left.set_visible(False)
    left.set_xticks(range(0, 17, 2))
    left.set(xlim=(-0.7, 16.5), ylim=(-0.6, n - 0.4), xlabel="digits of agreement")
    left.set_yticks(y, [str(row.method) for row in rows])
    for k, word in words.items():
        left.annotate(word, (0.3, y[k]), va="center", fontsize=8, color="#555555")
    for k in approximate:
        left.annotate("an approximation", (digits[k] + 0.5, y[k]), va="center", fontsize=8, color="#555555")
    right.plot(seconds, y, "D", color=ORANGE, ms=5)
    right.set(xlabel="time (s)", xscale="log")
    right.margins(x=0.12)
    right.set_ylim(left.get_ylim())
    right.tick_params(labelleft=False)
    right.spines.left.set_visible(False)
    for axes in (left, right):
        axes.tick_params(axis="y", length=0)
    return figure


def _word(row: Any) -> str:
    """What stands in place of digits, if they are missing."""
    if getattr(row, "is_reference", False):
        return "reference"
    if getattr(row, "failure", ""):
        return "failed"
    return "" if row.digits is not None and not np.isnan(row.digits) else "no digits"


def _approximates(row: Any) -> bool:
    """Whether the method leaves influence out on purpose, as it says itself."""
    return bool(getattr(row, "approximates", False))
