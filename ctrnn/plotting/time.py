"""Curves against time: a solution, its sensitivities, the exact ones beside an approximation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ctrnn.errors import UsageError
from ctrnn.numbers import flag, items, real_array
from ctrnn.plotting.curve import crowds_at_start, curve, differ_in_size, spans_decades
from ctrnn.plotting.style import BLACK, BLUE, COLOURS, ORANGE, frame, legend_above, shared_unit, styled, words
from ctrnn.trajectory import Trajectory


@styled
def trajectory(
    run: Trajectory,
    *,
    states: Sequence[str | int] | None = None,
    data: tuple[ArrayLike, ArrayLike] | None = None,
    x: Any = None,
    input_names: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    time_label: str = "t",
    value_label: str | None = None,
    data_label: str = "data",
    title: str = "",
    log: bool | None = None,
    ax: Any = None,
) -> Figure:
    """The states of a run against time, a panel for each unit; more than seven states at once are drawn as a map.

    Parameters
    ----------
    run : Trajectory
        The solution.
    states : sequence of str or int, optional
        Names or numbers of the states to draw; all by default.
    data : tuple of array_like, optional
        Times (K,) and values (K, len(states)): drawn as points in the colours of their states.
    x : Input, optional
        The input signal, drawn in a panel of its own below.
    input_names : sequence of str, optional
        Names of its channels.
    labels : mapping, optional
        What stands for a state's or an input's name: ``{"prey": "hare pelts (thousands)"}``.
    time_label : str, default "t"
        At the time axis, with its unit.
    value_label : str, optional
        At the axis of the states; by default the unit that all their labels end on, else "r". Where all end on units
        of their own, there is a panel for each unit.
    data_label : str, default "data"
        What the points are.
    title : str, optional
        Above the panel.
    log : bool, optional
        Whether the axis of the states is logarithmic; None: where states of quite different sizes span decades, as the
        concentrations of a stiff reaction do. What only decays is seen on a linear axis.
    ax : matplotlib.axes.Axes or a sequence of two, optional
        Where to draw: the states and, with an input, the input.

    Returns
    -------
    matplotlib.figure.Figure
        The states and, below, the input. A run of ctrnn.simulate is drawn from its dense output, with as many points
        as the curve needs; times that crowd at the start, as those of stiff problems do, are on a logarithmic axis.

    Raises
    ------
    UsageError
        For no states, or data of another shape.
    UnknownNameError
        For a state that is not there.

    Examples
    --------
    >>> run = Trajectory(np.array([0.0, 1.0]), np.array([[1.0, 2.0], [3.0, 4.0]]), ("x", "y"))
    >>> len(trajectory(run).axes[0].lines)
    2
    """
    if not isinstance(run, Trajectory):
        raise UsageError("run", given=run, allowed="a Trajectory")
    wanted = run.names if states is None else items("states", states, "names or numbers of states")
    which = [run.index(s) for s in wanted]
    if not which:
        raise UsageError("states", given=states, allowed="one state or more")
    log = None if log is None else flag("log", log)
    is_map = len(which) > len(COLOURS)
    run = run if is_map else curve(run)
    labels = words(labels)
    names, columns = [labels.get(run.names[i], run.names[i]) for i in which], [run.r[:, i] for i in which]
    units = [shared_unit([name]) for name in names]
    apart = all(units) and ax is None and value_label is None and not is_map  # a panel for each unit
    groups = [[i for i, own in enumerate(units) if own == unit] for unit in dict.fromkeys(units)]
    groups = groups if apart and len(groups) <= 4 else [list(range(len(names)))]
    if data is not None:
        pair = items("data", data, "times and values")
        if len(pair) != 2:
            raise UsageError("data", given=data, allowed="times (T,) and values (T, states)")
        times, values = np.atleast_1d(real_array("data", pair[0])), real_array("data", pair[1])
        if times.ndim != 1:
            raise UsageError("data", given=f"times of shape {times.shape}", allowed="times (T,) and values (T, states)")
        if values.shape != (len(times), len(columns)):
            allowed = f"values of shape ({len(times)}, {len(columns)}), a column for each state drawn"
            raise UsageError("data", given=f"values of shape {values.shape}", allowed=allowed)
    has_input = x is not None and x.size > 0
    rows = len(groups) + has_input
    panels: dict[str, Any] = {"sharex": True, "height_ratios": (3,) * len(groups) + (1,) * has_input}
    figure, every = frame(rows, height=2.6 if rows == 1 else 1.9, ax=ax, **panels if rows > 1 else {})
    axes = every[0]
    every[-1].set_xlabel(time_label)
    axes.set_title(title, loc="left")
    if has_input:
        given = list(input_names) or [f"x{i}" for i in range(x.size)]
        _input(every[-1], x, float(run.t[0]), float(run.t[-1]), [labels.get(name, name) for name in given])
    if is_map:
        scale = max(float(np.max(np.abs(columns))), np.finfo(float).tiny)
        mesh = axes.pcolormesh(
            run.t, np.arange(len(columns)), np.stack(columns),
            cmap="RdBu_r", vmin=-scale, vmax=scale, shading="nearest", rasterized=True,
        )  # fmt: skip
        axes.set_ylabel("unit")
        axes.grid(False)
        figure.colorbar(mesh, ax=axes, label=value_label or shared_unit(names) or "r")
        return figure
    for axes, group in zip(every, groups, strict=False):
        unit, several = shared_unit([names[i] for i in group]), len(group) > 1
        axes.set_ylabel(value_label or (unit or "r" if several else names[group[0]]))
        for i in group:
            name = names[i].removesuffix(f"({unit})").rstrip() if several else names[i]  # said once, at the axis
            axes.plot(run.t, columns[i], color=COLOURS[i], label=name)
            if data is not None:
                axes.plot(times, values[:, i], "o", color=COLOURS[i], label=f"{name}, {data_label}")
        its = [columns[i] for i in group]
        if log or (log is None and spans_decades(*its) and differ_in_size(its)):
            axes.set_yscale("log")
    if not has_input and crowds_at_start(run.t) and (data is None or (times > 0.0).all()):
        every[-1].set_xscale("log")
    handles, texts = zip(*(axes.get_legend_handles_labels() for axes in every[: len(groups)]), strict=True)
    legend_above(figure, every[0], (sum(handles, []), sum(texts, [])))
    return figure


def _input(axes: Axes, x: Any, t0: float, t1: float, names: Sequence[str]) -> None:
    """An input from t0 to t1, with its jumps upright; of many channels the first ones."""
    t0, t1 = sorted((t0, t1))
    breaks = x.breaks[(x.breaks > t0) & (x.breaks <= t1)]
    # at a jump the input has its later value: the earlier one is just before it
    t = np.sort(np.concatenate([np.linspace(t0, t1, 2001), breaks, np.nextafter(breaks, -np.inf)]))
    values = x(t)
    shown = min(x.size, len(COLOURS))
    for i in range(shown):
        axes.plot(t, values[:, i], color=BLACK if x.size == 1 else COLOURS[i], lw=1.0, label=names[i])
    axes.set_ylabel(names[0] if x.size == 1 else "x")
    if x.size > 1:
        title = None if shown == x.size else f"{shown} of {x.size}"
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title=title)


@styled
def sensitivities(
    t: ArrayLike,
    p: ArrayLike,
    labels: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    time_label: str = "t",
    ax: Any = None,
) -> Figure:
    """The sensitivities p = dr/dw of the states to the parameters, one panel each.

    Parameters
    ----------
    t : array_like (T,)
        The times.
    p : array_like (T, n, m)
        The sensitivities of n states to m parameters.
    labels : sequence of str
        Of the m parameters.
    names : sequence of str, optional
        Of the n states.
    time_label : str, default "t"
        At the time axes, with their unit.
    ax : matplotlib.axes.Axes or a sequence of n m, optional
        Where to draw, row by row.

    Returns
    -------
    matplotlib.figure.Figure
        n rows of m panels.

    Raises
    ------
    UsageError
        Where the shapes do not fit, or beyond 64 panels.

    Examples
    --------
    >>> figure = sensitivities([0.0, 1.0], np.zeros((2, 1, 2)), ["w", "b"], names=["r"])
    >>> [axes.get_title() for axes in figure.axes]
    ['d r / d w', 'd r / d b']
    """
    t, p, labels = np.atleast_1d(real_array("t", t)), real_array("p", p), items("labels", labels, "texts")
    if t.ndim != 1 or p.ndim != 3 or p.shape[0] != len(t) or p.shape[2] != len(labels):
        allowed = f"an array (T, n, m) with T = {len(t)} times and m = {len(labels)} labels"
        raise UsageError("p", given=f"an array of shape {p.shape}", allowed=allowed)
    _, n, m = p.shape
    if n * m > 64:
        hint = "a few states and parameters, p[:, :2, :4]"
        raise UsageError("p", given=f"{n} x {m} panels", allowed="at most 64 panels", hint=hint)
    names = [f"r[{i}]" for i in range(n)] if names is None else items("names", names, f"{n} names of states")
    if len(names) != n or not all(isinstance(name, str) for name in (*names, *labels)):
        raise UsageError("names", given=names, allowed=f"{n} names of states")
    figure, axes = frame(n, m, height=1.6, width=min(2.2 * m + 0.8, 11.0), ax=ax, sharex=True)
    for k in range(n * m):
        i, j = divmod(k, m)
        axes[k].plot(t, p[:, i, j], color=COLOURS[i % len(COLOURS)])
        axes[k].set_title(f"d {names[i]} / d {labels[j]}")
        axes[k].ticklabel_format(axis="y", scilimits=(-3, 4))
        if i == n - 1:
            axes[k].set_xlabel(time_label)
    return figure


@styled
def exact_versus_leak_only(
    t: ArrayLike,
    p_exact: ArrayLike,
    p_leak: ArrayLike,
    labels: Sequence[str] = ("w", "b"),
    *,
    time_label: str = "t",
    ax: Any = None,
) -> Figure:
    """The exact sensitivities and those of the leak alone: where they part.

    Parameters
    ----------
    t : array_like (T,)
        The times.
    p_exact, p_leak : array_like (T, m)
        The sensitivities, a column for each of the m labels.
    labels : sequence of str, default ("w", "b")
        Of the m parameters.
    time_label : str, default "t"
        At the time axes, with their unit.
    ax : sequence of matplotlib.axes.Axes, optional
        2 m, row by row.

    Returns
    -------
    matplotlib.figure.Figure
        Below each pair of curves stands the part of the exact value that the approximation lacks, (exact − leak)/exact.

    Raises
    ------
    UsageError
        Where the shapes do not fit.

    Notes
    -----
    For dr/dt = −r + w r + b + x the exact sensitivities obey dp/dt = −p + w p + F_w. The leak-only approximation (RFLO;
    J. M. Murray, eLife 8:e43299, 2019) drops the recurrent term w p.

    Examples
    --------
    >>> t = np.linspace(0, 1, 5)
    >>> len(exact_versus_leak_only(t, np.ones((5, 1)), np.zeros((5, 1)), ["w"]).axes)
    2
    """
    t, p_exact, p_leak = (np.asarray(v, float) for v in (t, p_exact, p_leak))
    shape = (len(t), len(labels))
    for name, p in (("p_exact", p_exact), ("p_leak", p_leak)):
        if p.shape != shape:
            raise UsageError(name, given=f"an array of shape {p.shape}", allowed=f"shape {shape}")
    m = len(labels)
    figure, axes = frame(2, m, height=1.9, ax=ax, sharex=True, height_ratios=(3, 2))
    for j, label in enumerate(labels):
        axes[j].plot(t, p_exact[:, j], color=BLUE, label="exact")
        axes[j].plot(t, p_leak[:, j], "--", color=ORANGE, label="leak only")
        axes[j].set_ylabel(f"d r / d {label}")
        # No share is defined while the exact value is zero, as it is at the start.
        share = np.full(len(t), np.nan)
        here = np.abs(p_exact[:, j]) > 1e-12 * max(np.max(np.abs(p_exact[:, j])), 1e-300)
        share[here] = 1 - p_leak[here, j] / p_exact[here, j]
        axes[m + j].plot(t, share, color=BLUE)
        axes[m + j].set_ylabel("part missing")
        axes[m + j].set_xlabel(time_label)
        axes[m + j].yaxis.set_major_formatter("{x:.0%}")
    legend_above(figure, axes[0])
    return figure
