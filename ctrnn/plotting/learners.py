"""How near rules of learning come to the exact gradient, and what each costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ctrnn.errors import UsageError
from ctrnn.plotting.style import COLOURS, GREY, few_log_ticks, frame, legend_above, styled

#: so that a line under another one is seen
DASHES = ("-", "--", ":")


@styled
def learner_comparison(comparison: Any, time_label: str = "steps", *, ax: Any = None) -> Figure:
    """Cosine and relative error of each rule over the windows of a run; time and memory of each.

    Parameters
    ----------
    comparison : LearnerComparison
        What `ctrnn.learning.compare_learners` returns, with one rule or more beside the exact one.
    time_label : str, default "steps"
        Of the axis of steps.
    ax : sequence of matplotlib.axes.Axes, optional
        Four, row by row.

    Returns
    -------
    matplotlib.figure.Figure
        Above, the cosine and the relative error of each rule's gradient against the exact one, a line a rule; below,
        the time for a step of one lane and the memory, with the exact rule's as grey lines.

    Raises
    ------
    UsageError
        For a comparison without rules beside the exact one.

    Examples
    --------
    >>> import ctrnn, numpy as np
    >>> network = ctrnn.RateNetwork(4, inputs=1, form="rate", seed=0)
    >>> x = np.sin(np.arange(40.0))[:, None]
    >>> figure = learner_comparison(ctrnn.learning.compare_learners(network, x, x, ["snap-1"], readout="r0", window=10))
    >>> [axes.get_ylabel() for axes in figure.axes][:2]
    ['cosine', 'relative error']
    """
    names = comparison.methods[1:]
    if not names:
        raise UsageError("comparison", given=comparison.methods, allowed="one rule or more beside the exact one")
    figure, (cosine, error, seconds, memory) = frame(
        2, 2, height=2.2, ax=ax, height_ratios=(1.3, 0.35 + 0.12 * len(names))
    )
    y = np.arange(len(names))[::-1]
    for i, name in enumerate(names, start=1):
        line = {
            "color": COLOURS[(i - 1) % len(COLOURS)],
            "ls": DASHES[(i - 1) % len(DASHES)],
            "label": name,
            "marker": "o" if len(comparison.step) == 1 else "",
        }
        cosine.plot(comparison.step, comparison.cosine[i], **line)
        errors = np.where(comparison.relative_error[i] > 0.0, comparison.relative_error[i], np.nan)
        error.plot(comparison.step, errors, **line)
        shown = {"color": line["color"], "ms": 6}
        seconds.plot([1e6 * float(np.median(comparison.seconds[i]))], [y[i - 1]], "o", **shown)
        memory.plot([comparison.nbytes[i] / 1e3], [y[i - 1]], "o", **shown)
    cosine.axhline(1.0, color=GREY, lw=0.8)
    cosine.set(xlabel=time_label, ylabel="cosine")
    error.set(xlabel=time_label, ylabel="relative error", yscale="log")
    exact = (1e6 * float(np.median(comparison.seconds[0])), comparison.nbytes[0] / 1e3)
    labels = ("time for a step (µs)", "memory (kB)")
    for axes, value, label in zip((seconds, memory), exact, labels, strict=True):
        axes.axvline(value, color=GREY, lw=1.0)
        axes.annotate(
            "exact", (value, 1.0), (0, 2), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center",
            fontsize=8, color="#555555",
        )  # fmt: skip
        axes.set(xscale="log", ylim=(-0.6, len(names) - 0.4), xlabel=label)
        axes.margins(x=0.15)
        few_log_ticks(axes.xaxis, 9)
        axes.set_yticks(y, names)
        axes.tick_params(axis="y", length=0)
        axes.spines.left.set_visible(False)
    memory.tick_params(labelleft=False)
    legend_above(figure, cosine)
    return figure
