"""Figures of a fit: the data with the curves before and after, and the loss on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ctrnn.errors import UsageError
from ctrnn.numbers import real_array
from ctrnn.plotting.curve import curve, spans_decades
from ctrnn.plotting.style import BLUE, COLOURS, GREY, ORANGE, frame, legend_above, styled, words
from ctrnn.trajectory import Trajectory

DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))


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
    ax: Any = None,
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
        The uncertainty of the fitted curve and of new observations (``fit.bands(t)``), drawn behind it; a very wide one
        goes on beyond the panel.
    ax : matplotlib.axes.Axes or a sequence of p, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each state, logarithmic where its data are positive and span decades.

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
    figure, axes = frame(len(names), height=2.0, ax=ax, sharex=True)
    before, after = None if before is None else curve(before), curve(after)
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
        axes[i].set_ylabel(words(labels).get(state, state))
        if spans_decades(r[:, i]) and spans_decades(after[name]):
            axes[i].set_yscale("log")
        elif bands is not None:
            _keep_in_view(axes[i], [r[:, i], after[name], [] if before is None else before[name]])
    axes[-1].set_xlabel(time_label)
    legend_above(figure, axes[0])
    return figure


def _keep_in_view(axes: Axes, curves: Sequence[Any]) -> None:
    """No more of a band than three times the height of data and curves, which it would press into a line."""
    shown = np.concatenate([np.ravel(one) for one in curves])
    low, high = np.nanmin(shown), np.nanmax(shown)
    (bottom, top), height = axes.get_ylim(), high - low
    if height > 0.0 and (bottom < low - height or top > high + height):
        axes.set_ylim(max(bottom, low - height), min(top, high + height))


@styled
def fit_history(history: Any, *, label: str = "loss", ax: Axes | None = None) -> Figure:
    """The loss after each iteration of a fit; number 0 is the start.

    Parameters
    ----------
    history : array_like (iterations + 1,) or Fit, or a mapping of str to these
        The losses, or a fit that has them as ``.history``; of several fits, by their names.
    label : str, default "loss"
        At the axis of the losses.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

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
    several = history if isinstance(history, Mapping) else {"": history}
    if not all(isinstance(text, str) for text in (label, *several)):
        raise UsageError("label", given=label, allowed="text, as the names of the histories")
    if not several:
        raise UsageError("history", given="none", allowed="one fit or more")
    losses = {name: real_array("history", getattr(one, "history", one)) for name, one in several.items()}
    for loss in losses.values():
        if loss.ndim != 1 or loss.size == 0:
            raise UsageError("history", given=f"shape {loss.shape}", allowed="one loss or more, (k,)")
    figure, (axes,) = frame(height=2.4, ax=ax)
    for k, (name, loss) in enumerate(losses.items()):
        # later ones dashed and thinner, so that curves that lie on each other are all seen
        style: dict[str, Any] = {"ls": DASHES[k % len(DASHES)], "lw": 1.4 if k or len(losses) == 1 else 3.0}
        marker = "." if loss.size <= 100 else ""
        axes.plot(loss, color=COLOURS[k % len(COLOURS)], marker=marker, label=name or "_", **style)
    if min(np.nanmin(loss) for loss in losses.values()) > 0:
        axes.set_yscale("log")
    if len(losses) > 1:
        legend_above(figure, axes)
    axes.set(xlabel="iteration", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    return figure


@styled
def event_fit(
    target: ArrayLike,
    before: Trajectory | None,
    after: Trajectory,
    event: str | int = 0,
    states: Sequence[str | int] | None = None,
    *,
    time_label: str = "t",
    labels: Mapping[str, str] | None = None,
    ax: Any = None,
) -> Figure:
    """Times of events, such as spikes, before and after a fit, above the fitted states.

    Parameters
    ----------
    target : array_like (K,)
        The times that were fitted to.
    before : Trajectory or None
        The run before the fit, with its events, if they are to be drawn.
    after : Trajectory
        The fitted run, with its events.
    event : str or int, default 0
        The event's name or number.
    states : sequence of str or int, optional
        The states to draw; by default the first three.
    time_label : str, default "t"
        At the time axis, with its unit.
    labels : mapping, optional
        What stands for a state's name at its axis.
    ax : sequence of matplotlib.axes.Axes, optional
        One for the times, and one for each state.

    Returns
    -------
    matplotlib.figure.Figure
        The times in a row each; below, the fitted states with the target times.

    Raises
    ------
    UsageError
        For a run without events.

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.Equations({"v": "1"}, {})
    >>> run = ctrnn.simulate(ctrnn.Problem(field, [0.0], (0.0, 5.0), events=ctrnn.Event("v - 2", reset={"v": "0"})))
    >>> len(event_fit([2.0, 4.0], None, run).axes)
    2
    """
    t = np.asarray(target, float).ravel()
    if after.events is None or (before is not None and before.events is None):
        raise UsageError("after", given="a run without events", allowed="runs of a problem with events")
    shown = [after.index(s) for s in (range(min(3, len(after.names))) if states is None else states)]
    figure, axes = frame(1 + len(shown), height=1.75, ax=ax, sharex=True, height_ratios=[1.0] + [1.4] * len(shown))
    rows = [("target", t, ORANGE)]
    rows += [] if before is None or before.events is None else [("before the fit", before.events.of(event).t, GREY)]
    rows += [("fitted", after.events.of(event).t, BLUE)]
    for k, (_, times, colour) in enumerate(rows):
        axes[0].vlines(times, -k - 0.4, -k + 0.4, color=colour, lw=1.8)
    axes[0].set_yticks([-k for k in range(len(rows))], [name for name, *_ in rows])
    axes[0].grid(False, axis="y")
    axes[0].spines.left.set_visible(False)
    axes[0].tick_params(axis="y", length=0)
    drawn = curve(after)
    for one, i in zip(axes[1:], shown, strict=True):
        for tau in t:
            one.axvline(tau, color=ORANGE, lw=0.8, ls="--", zorder=1)
        one.plot(drawn.t, drawn.r[:, i], color=BLUE)
        one.set_ylabel(words(labels).get(after.names[i], after.names[i]))
    axes[-1].set_xlabel(time_label)
    return figure
