"""Figures of learning and relaxing at rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ctrnn.errors import UsageError
from ctrnn.plotting.style import BLACK, BLUE, COLOURS, GREY, ORANGE, frame, legend_above, styled


@styled
def one_phase(
    runs: Mapping[str, tuple[Any, np.ndarray]], abscissa: float, time_label: str = "t", *, ax: Any = None
) -> Figure:
    """The gradient's relative error in a one-phase relaxation, beside the decay that the spectrum of J predicts.

    Parameters
    ----------
    runs : mapping of str to tuple
        Name ↦ (what `ctrnn.one_phase` returned, the relative errors of its gradient (T,)).
    abscissa : float
        max Re λ(J), per unit of t.
    time_label : str, default "t"
        At the time axes, with their unit.
    ax : sequence of matplotlib.axes.Axes, optional
        Two, for the error and for the speed.

    Returns
    -------
    matplotlib.figure.Figure
        The error left; right how fast r and V still move.

    Raises
    ------
    UsageError
        For no runs.

    Examples
    --------
    >>> from types import SimpleNamespace as run
    >>> t = np.linspace(0.0, 10.0, 11)
    >>> figure = one_phase({"V alone": (run(t=t, speed=np.exp(-t)), np.exp(-t))}, -1.0)
    >>> [axes.get_ylabel() for axes in figure.axes]
    ["gradient's relative error", '‖(dr/dt, dV/dt)‖']
    """
    if not runs:
        raise UsageError("runs", given="none", allowed="one run or more")
    figure, (left, right) = frame(1, 2, height=2.9, ax=ax)
    for colour, (name, (run, errors)) in zip(COLOURS, runs.items(), strict=False):
        left.semilogy(run.t, errors, color=colour, label=name)
        right.semilogy(run.t, np.where(run.speed > 0, run.speed, np.nan), color=colour)
    t, errors = max(((run.t, errors) for run, errors in runs.values()), key=lambda one: one[1][0])
    k = len(t) // 2
    left.semilogy(
        t,
        errors[k] * np.exp(abscissa * (t - t[k])),
        "--",
        color=BLACK,
        lw=1.0,
        label=f"slope max Re λ(J) = {abscissa:.3g}".replace("-", "−"),
    )
    least = min(float(errors[errors > 0].min(initial=1.0)) for _, errors in runs.values())
    left.set(xlabel=time_label, ylabel="gradient's relative error", ylim=(max(least / 3, 1e-16), None))
    right.set(xlabel=time_label, ylabel="‖(dr/dt, dV/dt)‖")
    legend_above(figure, left)
    return figure


@styled
def learning_at_rest(curves: Sequence[Any], score: str = "test accuracy", *, ax: Any = None) -> Figure:
    """Trainings of one network on top of each other: loss, score, and the spectral abscissa of its rest points.

    Parameters
    ----------
    curves : sequence of Training
        What `ctrnn.learning.rest_tasks.train_at_rest` returned: ``inverse``, ``loss``, ``score`` and ``abscissa``, each
        (epochs + 1,).
    score : str, default "test accuracy"
        What the score is.
    ax : sequence of matplotlib.axes.Axes, optional
        Three, for the loss, the score and the abscissa.

    Returns
    -------
    matplotlib.figure.Figure
        Three panels against the epoch. The second training is drawn thin on the first, so that both are seen.

    Raises
    ------
    UsageError
        For no training.

    Examples
    --------
    >>> from types import SimpleNamespace as training
    >>> one = training(inverse="lu", loss=np.ones(3), score=np.zeros(3), abscissa=-np.ones(3))
    >>> [axes.get_ylabel() for axes in learning_at_rest([one]).axes]
    ['training loss', 'test accuracy', 'max Re λ(J) (per unit of t)']
    """
    if not curves:
        raise UsageError("curves", given="none", allowed="one training or more")
    figure, axes = frame(1, 3, height=2.6, ax=ax)
    for one, (colour, width, style) in zip(
        curves, ((BLUE, 4.0, "-"), (ORANGE, 1.4, "--"), (BLACK, 1.0, ":")), strict=False
    ):
        epochs = np.arange(one.loss.size)
        for panel, values in zip(axes, (one.loss, one.score, one.abscissa), strict=True):
            # the second lies on the first: a thick line below, a thin one above
            panel.plot(
                epochs,
                values,
                style,
                color=colour,
                lw=width,
                label={"flow": "division-free flow", "lu": "LU"}.get(one.inverse, one.inverse),
            )
    last = max(one.loss.size for one in curves) - 1
    for panel in axes:
        panel.set_xticks(range(0, last + 1, max(1, -(-last // 8))))
    axes[0].set(xlabel="epoch", ylabel="training loss", yscale="log")
    axes[1].set(xlabel="epoch", ylabel=score)
    axes[2].set(xlabel="epoch", ylabel="max Re λ(J) (per unit of t)")
    axes[2].axhline(0.0, color=GREY, lw=0.8)
    legend_above(figure, axes[0])
    return figure


@styled
def recalled(given: Any, settled: Any, stored: Any, side: int = 8, *, ax: Any = None) -> Figure:
    """Pictures in three rows: what the network is given, what it settles in, what it had stored.

    Parameters
    ----------
    given, settled, stored : array_like (K, side²)
        K pictures each.
    side : int, default 8
        Of the square pictures, in pixels.
    ax : sequence of matplotlib.axes.Axes, optional
        3 K, row by row.

    Returns
    -------
    matplotlib.figure.Figure
        Three rows of K pictures.

    Raises
    ------
    UsageError
        For arrays that are not of one shape.

    Examples
    --------
    >>> len(recalled(np.zeros((2, 64)), np.ones((2, 64)), np.eye(64)[:2]).axes)
    6
    """
    rows = [np.asarray(part, dtype=float) for part in (given, settled, stored)]
    if any(row.shape != rows[0].shape for row in rows) or rows[0].ndim != 2 or rows[0].shape[1] != side**2:
        raise UsageError(
            "given", given=[row.shape for row in rows], allowed=f"three arrays of one shape (K, {side**2})"
        )
    count = len(rows[0])
    figure, axes = frame(3, count, height=6.7 / count, ax=ax)
    low, high = float(rows[2].min()), float(rows[2].max())
    for row, (name, images) in enumerate(zip(("given", "settled", "stored"), rows, strict=True)):
        for k, image in enumerate(images):
            panel = axes[row * count + k]
            panel.imshow(image.reshape(side, side), cmap="gray_r", vmin=low, vmax=high)
            panel.set(xticks=[], yticks=[])
            panel.grid(False)
            panel.spines[:].set_visible(False)
            if k == 0:
                panel.set_ylabel(name)
    return figure
