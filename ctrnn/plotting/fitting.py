"""Figures of a fit: the data with the curves before and after, and the loss on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ctrnn.errors import UsageError
from ctrnn.plotting.style import BLUE, GREY, ORANGE, frame, legend_above, styled
from ctrnn.trajectory import Trajectory


@styled
def fit(
    data_t: ArrayLike,
    data_r: ArrayLike,
    before: Trajectory | None,
    after: Trajectory,
    names: Sequence[str | int] | None = None,
    *,
    time_label: str = "t",
    labels: Mapping[str, str] | None = None,
    data_label: str = "data",
    bands: Any = None,
) -> Figure:
    """The data (K,), (K, p) with the solution before and after a fit, a panel for each state.

    Parameters
    ----------
    data_t : array_like (K,)
        Times of the data.
    data_r : array_like (K, p)
        The data.
    before : Trajectory or None
        The solution before the fit, if it is to be drawn.
    after : Trajectory
        The fitted solution.
    names : sequence of str or int, optional
        The p states that were observed; all states of ``after`` by default.
    time_label : str, default "t"
        At the time axis, with its unit.
    labels : mapping, optional
        What stands for a state's name at its axis: ``{"prey": "hare pelts (thousands)"}``.
    data_label : str, default "data"
        What the points are.
    bands : ctrnn.learning.Bands, optional
        The uncertainty of the fitted curve and of new observations (``fit.bands(t)``), drawn behind it.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each state.

    Raises
    ------
    UsageError
        Where the data and the names do not fit together.

    Examples
    --------
    >>> run = Trajectory(np.array([0.0, 1.0]), np.array([[1.0], [3.0]]), ("prey",))
    >>> fit([0.0, 1.0], [[1.1], [2.9]], None, run).axes[0].get_ylabel()
    'prey'
    """
    t, r = np.asarray(data_t, float), np.asarray(data_r, float)
    names = after.names if names is None else names
    if r.shape != (len(t), len(names)):
        allowed = f"shape ({len(t)}, {len(names)}), a row for each time and a column for each state"
        raise UsageError("data_r", given=f"an array of shape {r.shape}", allowed=allowed)
    figure, axes = frame(len(names), height=2.0, sharex=True)
    for i, name in enumerate(names):
        if bands is not None:
            level = f"{100 * bands.level:g} %"
            j = bands.names.index(str(name)) if str(name) in bands.names else i
            low, high = bands.observation[:, :, j]
            axes[i].fill_between(bands.t, low, high, color=BLUE, alpha=0.12, lw=0, label=f"observations, {level}")
            low, high = bands.curve[:, :, j]
            axes[i].fill_between(bands.t, low, high, color=BLUE, alpha=0.3, lw=0, label=f"curve, {level}")
        if before is not None:
            axes[i].plot(before.t, before[name], "--", color=GREY, label="before the fit")
        axes[i].plot(after.t, after[name], color=BLUE, label="fitted")
        axes[i].plot(t, r[:, i], "o", color=ORANGE, label=data_label, zorder=3)
        state = after.names[after.index(name)]
        axes[i].set_ylabel((labels or {}).get(state, state))
    axes[-1].set_xlabel(time_label)
    legend_above(figure, axes[0])
    return figure


@styled
def fit_history(history: Any, *, label: str = "loss") -> Figure:
    """The loss after each iteration of a fit; number 0 is the start.

    Parameters
    ----------
    history : array_like (iterations + 1,) or Fit
        The losses, or a fit that has them as ``.history``.
    label : str, default "loss"
        At the axis of the losses.

    Returns
    -------
    matplotlib.figure.Figure
        One panel, logarithmic where all losses are positive.

    Raises
    ------
    UsageError
        For an empty history.

    Examples
    --------
    >>> fit_history([3.0, 2.0, 1.5]).axes[0].get_yscale()
    'log'
    """
    loss = np.asarray(getattr(history, "history", history), float)
    if loss.ndim != 1 or loss.size == 0:
        raise UsageError("history", given=f"shape {loss.shape}", allowed="one loss or more, (k,)")
    figure, (axes,) = frame(height=2.4)
    axes.plot(loss, ".-" if loss.size <= 100 else "-", color=BLUE)
    if np.nanmin(loss) > 0:
        axes.set_yscale("log")
    axes.set(xlabel="iteration", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    return figure
