"""Figures of a training: losses over the epochs, and what was predicted beside what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ctrnn.errors import UsageError
from ctrnn.plotting.style import BLUE, GREEN, GREY, ORANGE, frame, legend_above, round_ticks, styled

#: outputs that have a panel of their own
PANELS = 4


@styled
def training(
    done: Any,
    t: ArrayLike | None = None,
    target: ArrayLike | None = None,
    output: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    time_label: str = "time (steps)",
    label: str = "loss",
    ax: Any = None,
) -> Figure:
    """The losses of a training over its epochs; below, outputs of a trial against their targets.

    Parameters
    ----------
    done : ctrnn.learning.Training or dict
        A training, or its history.
    t : array_like (T,), optional
        Times of a trial.
    target, output : array_like (T, outputs), optional
        What was asked for, NaN where nothing was, and what was predicted; the first four outputs are drawn.
    names : sequence of str, optional
        Of the outputs.
    time_label, label : str
        At the axes of time and of the losses, with their units.
    ax : matplotlib.axes.Axes or a sequence of them, optional
        Where to draw: the losses, then each output.

    Returns
    -------
    matplotlib.figure.Figure
        A panel of losses, logarithmic where all are positive, and one for each output.

    Raises
    ------
    UsageError
        For an empty history, and for shapes that do not fit together.

    Examples
    --------
    >>> history = {"epoch": [1, 2], "loss": [1.0, 0.5], "validation": [1.1, 0.7]}
    >>> training(history, [0, 1], [[1.0], [2.0]], [[0.9], [1.8]]).axes[1].get_xlabel()
    'time (steps)'
    """
    history = getattr(done, "history", done)
    epoch, loss = (np.asarray(history[name], float) for name in ("epoch", "loss"))
    if not epoch.size:
        raise UsageError("done", given="no epochs", allowed="a training with an epoch at least")
    panels = 0 if output is None else min(np.shape(output)[-1], PANELS)
    figure, every = frame(1 + panels, height=1.2 + 1.4 / (1 + panels), ax=ax, height_ratios=[2.0, *[1.0] * panels])
    _losses(every[0], epoch, loss, np.asarray(history["validation"], float), getattr(done, "best", None), label)
    if panels:
        _outputs(every[1:], t, target, output, names, time_label)
    shown = [axes.get_legend_handles_labels() for axes in every[:2]]
    legend_above(figure, every[0], (sum((h for h, _ in shown), []), sum((l for _, l in shown), [])))
    return figure


def _losses(axes: Axes, epoch: Any, loss: Any, validation: Any, best: Any, label: str) -> None:
    axes.plot(epoch, loss, color=BLUE, label="training")
    found = np.isfinite(validation)
    if found.any():
        axes.plot(epoch[found], validation[found], color=ORANGE, label="validation")
        if best is not None:
            axes.plot(best.epoch, best.validation, "o", color=ORANGE, label="kept")
    if min(loss.min(), validation[found].min(initial=np.inf)) > 0.0:
        axes.set_yscale("log")
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def _outputs(
    every: Sequence[Axes], t: Any, target: Any, output: Any, names: Sequence[str] | None, time_label: str
) -> None:
    o, y = np.asarray(output, float), np.asarray(target, float)
    t = np.arange(1, len(o) + 1) if t is None else np.asarray(t, float)
    if o.ndim != 2 or y.shape != o.shape or t.shape != (len(o),):
        given = f"shapes {t.shape}, {y.shape}, {o.shape}"
        raise UsageError("t, target, output", given=given, allowed="(T,), (T, outputs) and (T, outputs)")
    for i, axes in enumerate(every):
        round_ticks(axes)
        axes.plot(t, y[:, i], color=GREY, lw=3.0, alpha=0.6, label="target")
        axes.plot(t, o[:, i], color=GREEN, label="output")
        axes.set_ylabel(names[i] if names is not None else f"output {i}")
        axes.tick_params(labelbottom=axes is every[-1])
    every[-1].set_xlabel(time_label)
