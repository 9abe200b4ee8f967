"""A figure of a learner: its loss as the data come."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ctrnn.errors import UsageError
from ctrnn.plotting.style import BLUE, GREEN, ORANGE, few_log_ticks, frame, styled


@styled
def learning(table: Any, *, label: str = "loss", step_label: str = "step", ax: Any = None) -> Figure:
    """The loss of a learner over its steps, and the length of its gradients.

    Parameters
    ----------
    table : ctrnn.learning.online.table.LearningTable
        What ``OnlineLearner.run`` returns, or ``learner.history``.
    label, step_label : str
        At the axes.
    ax : sequence of matplotlib.axes.Axes, optional
        Two, for the losses and the gradients.

    Returns
    -------
    matplotlib.figure.Figure
        A panel of losses, logarithmic where all are positive, and one of gradients that are not 0, with the bound of
        the rule where it has one.

    Raises
    ------
    UsageError
        For a table without rows.

    Examples
    --------
    >>> from ctrnn.learning.online.table import LearningTable
    >>> rows = [(k, float(k), 1.0 / k, 0.1, 1e-3, float("nan"), 0.1) for k in (10, 20)]
    >>> learning(LearningTable(rows)).axes[0].get_ylabel()
    'loss'
    """
    if not len(table):
        raise UsageError("table", given="no rows", allowed="a run with a row at least")
    figure, (above, below) = frame(2, height=1.5, ax=ax, height_ratios=[1.6, 1.0])
    step, loss, gradient, bound = (np.asarray(table[name], float) for name in ("step", "loss", "gradient", "bound"))
    there = np.isfinite(loss)
    marker = "o-" if len(table) == 1 else "-"
    above.plot(step[there], loss[there], marker, color=BLUE)
    if there.any() and (loss[there] > 0.0).all():
        above.set_yscale("log")
    above.set_ylabel(label)
    above.tick_params(labelbottom=False)
    seen = gradient != 0.0  # 0: no loss came since the update before
    below.plot(step[seen], gradient[seen], marker, color=GREEN, label="length of the gradient")
    if np.isfinite(bound).any():
        below.plot(step, bound, marker, color=ORANGE, label="bound on the rule's relative error")
        figure.legend(handles=below.get_legend_handles_labels()[0], loc="outside upper center", ncols=2)
    positive = np.concatenate([gradient[seen], bound[np.isfinite(bound)]])
    if positive.size and (positive > 0.0).all():
        below.set_yscale("log")
        few_log_ticks(below.yaxis, 4)
    below.set(xlabel=step_label, ylabel="‖gradient‖")
    return figure
