"""Figures in a plane: two states against each other, a limit cycle, a spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import ArrayLike, NDArray

from ctrnn.errors import UsageError
from ctrnn.fields.checks import checked_field
from ctrnn.numbers import complex_array, items, positive, real_array
from ctrnn.plotting.curve import broken_at_resets, curve, spans_decades
from ctrnn.plotting.style import (
    BLACK,
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    drawn,
    frame,
    legend_above,
    mosaic,
    once,
    styled,
    words,
)
from ctrnn.trajectory import Trajectory

#: points a side at which the rates are computed
GRID = 61


@styled
def phase_portrait(
    run: Trajectory,
    *,
    field: Any = None,
    equilibrium: Any = None,
    data: ArrayLike | None = None,
    states: tuple[str | int, str | int] = (0, 1),
    x: ArrayLike | None = None,
    label: str = "solution",
    labels: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """One state of a run against another, with the field's stream lines and nullclines where it has two states.

    Parameters
    ----------
    run : Trajectory
        The solution.
    field : Field, optional
        Its stream lines and its nullclines, where one of the rates is zero, are drawn at the run's first time and the
        input ``x``, if it has two states (with more, a plane cannot show them).
    equilibrium : Equilibrium or list of them, optional
        A full dot where asymptotically stable, else an open one.
    data : array_like (K, 2), optional
        Points, in the order of ``states``.
    states : tuple of str or int, default (0, 1)
        The two states.
    x : array_like (nx,), optional
        The input held for the stream lines.
    label : str, default "solution"
        What the run is, in the legend.
    labels : mapping, optional
        What stands for a state's name at its axis: ``{"prey": "hare pelts (thousands)"}``.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        One panel; its axes are logarithmic where positive states span decades and no field is drawn.

    Raises
    ------
    UsageError
        For data of another shape.
    UnknownNameError
        For a state that is not there.

    Examples
    --------
    >>> t = np.linspace(0, 6, 50)
    >>> circle = Trajectory(t, np.stack([np.cos(t), np.sin(t)], axis=1), ("x", "y"))
    >>> phase_portrait(circle).axes[0].get_xlabel()
    'x'
    """
    if not isinstance(run, Trajectory):
        raise UsageError("run", given=run, allowed="a Trajectory")
    two = items("states", states, "two of the states")
    if len(two) != 2:
        raise UsageError("states", given=states, allowed="two of the states")
    i, j = (run.index(s) for s in two)
    start, run = run.r[0, [i, j]], curve(run)
    solution = run.r[:, [i, j]]
    points = np.empty((0, 2)) if data is None else real_array("data", data)
    if points.ndim != 2 or points.shape[1] != 2:
        raise UsageError("data", given=f"values of shape {points.shape}", allowed="shape (K, 2)")
    rests = (
        [] if equilibrium is None else drawn("equilibrium", equilibrium, ("r", "stable"), "an Equilibrium, or several")
    )
    field = None if field is None else checked_field(field)

    shown = np.concatenate([solution, points, *[np.asarray(e.r)[None, [i, j]] for e in rests]])
    low, high = np.nanmin(shown, axis=0), np.nanmax(shown, axis=0)
    margin = 0.06 * np.maximum(high - low, 1e-9)
    with_field = field is not None and field.n == 2
    logarithmic = [not with_field and low[k] > 0.0 and spans_decades(solution[:, k]) for k in (0, 1)]
    low, high = low - margin, high + margin

    figure, (axes,) = frame(height=4.6, width=5.4, ax=ax)
    if with_field:
        _vector_field(axes, field, float(run.t[0]), x, (i, j), low, high)
    line, resets = broken_at_resets(run, (i, j))
    axes.plot(*line.T, color=BLUE, label=label, zorder=3)
    if resets.size:
        axes.plot(*resets, ":", color=BLUE, lw=0.8, label="reset", zorder=3)
    # open, and larger than the dot of an equilibrium: where both are at one place, both are seen
    axes.plot(*start, "s", mec=BLUE, mfc="none", mew=1.6, ms=10, label="start", zorder=6)
    if len(points):
        axes.plot(*points.T, "o", color=ORANGE, label="data", zorder=4)
    for e in rests:
        fill, word = (BLACK, "attracting") if e.stable else ("white", "not attracting")
        style: dict[str, Any] = {"ms": 7, "mfc": fill, "mec": BLACK, "label": once(axes, f"equilibrium, {word}")}
        axes.plot(*np.asarray(e.r)[[i, j]], "o", zorder=5, **style)
    at = [words(labels).get(run.names[k], run.names[k]) for k in (i, j)]
    axes.set(xlabel=at[0], ylabel=at[1])
    for k, axis in enumerate("xy"):
        axes.set(**{f"{axis}scale": "log"} if logarithmic[k] else {f"{axis}lim": (low[k], high[k])})
    legend_above(figure, axes)
    return figure


def _vector_field(
    axes: Axes,
    field: Any,
    t: float,
    x: ArrayLike | None,
    states: tuple[int, int],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> None:
    """The stream lines and the nullclines of a field of two states, over the box low ... high.

    Point by point, of anything that can be called as a field; `portrait` asks a Field for all points at once.
    """
    i, j = states
    a, b = (np.linspace(low[k], high[k], GRID) for k in range(2))
    F = np.empty((2, GRID, GRID))
    r = np.empty(2)
    for row in range(GRID):
        for column in range(GRID):
            r[i], r[j] = a[column], b[row]
            dr = np.asarray(field(t, r, x))
            F[:, row, column] = dr[i], dr[j]
    under = ""  # with an input, the nullclines are those of one of its values
    if x is not None and np.size(x):
        named = zip(field.input_names, np.ravel(np.asarray(x, float)), strict=True)
        under = " at " + ", ".join(f"{name} = {value:.4g}" for name, value in named)
    axes.grid(False)
    axes.streamplot(a, b, F[0], F[1], color="#BBBBBB", linewidth=0.6, arrowsize=0.7, density=1.1)
    for k, (colour, style) in enumerate(((GREEN, "--"), (PINK, "-."))):
        axes.contour(a, b, F[k], levels=[0.0], colors=[colour], linestyles=[style], linewidths=1.2)
        # A contour has no entry in a legend: an empty line stands in for it.
        name = field.state_names[states[k]]
        axes.plot([], [], style, color=colour, lw=1.2, label=f"d {name}/dt = 0{under}")


@styled
def limit_cycle(
    target: Any,
    runs: Mapping[str, Any],
    *,
    names: tuple[str, str] = ("y[0]", "y[1]"),
    time_label: str = "t",
    ax: Any = None,
) -> Figure:
    """A target of two components and what trained networks make of it, in the plane and in time.

    Parameters
    ----------
    target : Trajectory or tuple
        A trajectory, or (t (T,), y (T, q)) with q ≥ 2; the first two components are drawn.
    runs : mapping of str to the same
        For each method, by its name. Later ones are dashed, so that curves that lie on each other are all seen.
    names : tuple of str, default ("y[0]", "y[1]")
        Of the two components, at their axes.
    time_label : str, default "t"
        At the time axis, with its unit.
    ax : sequence of matplotlib.axes.Axes, optional
        Three, for the plane and the two components.

    Returns
    -------
    matplotlib.figure.Figure
        The plane left, both components against time right.

    Raises
    ------
    UsageError
        For values of another shape.

    Examples
    --------
    >>> t = np.linspace(0, 6, 50)
    >>> circle = (t, np.stack([np.cos(t), np.sin(t)], axis=1))
    >>> len(limit_cycle(circle, {"rtrl": circle}).axes)
    3
    """
    figure, axes = mosaic("ab;ac", height=3.6, ax=ax, width_ratios=(5, 6))
    if ax is None:
        axes["c"].sharex(axes["b"])
        axes["b"].tick_params(labelbottom=False)
    dashes = ("-", (0, (4, 3)), (0, (1, 2)))
    everything = [("target", target), *runs.items()]
    for k, (name, run) in enumerate(everything):
        t, o = (run.t, run.r) if isinstance(run, Trajectory) else (np.asarray(v) for v in run)
        if o.ndim != 2 or o.shape[1] < 2 or len(t) != len(o):
            given = f"times {t.shape} and values {o.shape}"
            raise UsageError(name, given=given, allowed="t (T,) and values (T, 2) or more columns")
        style: dict[str, Any] = {"color": "#BBBBBB", "lw": 4.0, "zorder": 1}
        if k:
            style = {"color": COLOURS[(k - 1) % len(COLOURS)], "lw": 1.6, "ls": dashes[(k - 1) % 3]}
        axes["a"].plot(o[:, 0], o[:, 1], label=name, **style)
        for panel, column in (("b", 0), ("c", 1)):
            axes[panel].plot(t, o[:, column], **style)
    axes["a"].set(xlabel=names[0], ylabel=names[1])
    axes["a"].set_aspect("equal", adjustable="datalim")
    axes["b"].set_ylabel(names[0])
    axes["c"].set(ylabel=names[1], xlabel=time_label)
    legend_above(figure, axes["a"])
    return figure


@styled
def spectrum(
    eigenvalues: ArrayLike, *, step_bound: float | None = None, time_unit: str = "", ax: Axes | None = None
) -> Figure:
    """Eigenvalues in the complex plane; those right of the imaginary axis grow.

    Parameters
    ----------
    eigenvalues : array_like of complex
        Of J, say.
    step_bound : float, optional
        A step h of Euler's method: the disc |1 + h z| < 1 in which its steps shrink is drawn too, so that one sees
        which eigenvalue bounds the step.
    time_unit : str, optional
        The eigenvalues are rates, per this.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        One panel.

    Raises
    ------
    UsageError
        For a step that is not positive, or no finite eigenvalues.

    Examples
    --------
    >>> spectrum([-1 + 2j, -1 - 2j], step_bound=0.4).axes[0].get_xlabel()
    'real part'
    """
    z = complex_array("eigenvalues", eigenvalues).ravel()
    step_bound = None if step_bound is None else positive("step_bound", step_bound, "a positive step")
    if z.size == 0 or not np.all(np.isfinite(z)):
        raise UsageError("eigenvalues", given=z, allowed="one finite number or more")
    figure, (axes,) = frame(height=3.8, width=4.4, ax=ax)
    axes.axvline(0.0, color=GREY, lw=1.0)
    axes.axhline(0.0, color=GREY, lw=0.5)
    for growing, colour, label in ((False, BLUE, "decays"), (True, ORANGE, "does not decay")):
        some = z[(z.real >= 0) == growing]
        if some.size:
            axes.plot(some.real, some.imag, "o", color=colour, label=label, zorder=3)
    if step_bound is not None:
        style = {
            "fill": False,
            "ec": GREEN,
            "ls": "--",
            "label": f"|1 + h z| = 1, h = {step_bound:.4g}",
        }
        axes.add_patch(Circle((-1 / step_bound, 0.0), 1 / step_bound, **style))
    per = f" (1/{time_unit})" if time_unit else ""
    axes.set(xlabel=f"real part{per}", ylabel=f"imaginary part{per}")
    axes.margins(0.1)
    axes.set_aspect("equal", adjustable="datalim")
    legend_above(figure, axes)
    return figure
