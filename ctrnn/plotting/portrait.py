"""Figures of what a field does: its portrait in a plane, and runs with points of rest on their principal components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ctrnn.analysis.family import Family, depends_on_time
from ctrnn.analysis.manifolds import saddle_manifolds
from ctrnn.analysis.plane import Plane, nullclines
from ctrnn.analysis.subspaces import linear_subspaces, principal_components
from ctrnn.errors import UsageError
from ctrnn.fields.base import Field
from ctrnn.fields.checks import checked_field
from ctrnn.numbers import items, whole
from ctrnn.plotting.curve import broken_at_resets, curve
from ctrnn.plotting.style import (
    AMBER,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    drawn,
    frame,
    legend_above,
    once,
    styled,
    words,
)
from ctrnn.states import runs_of

#: what may be drawn as points
POINTS = "points of rest: of ctrnn.analysis.fixed_points, or equilibria"
#: what is read of a point and of a run
POINT, RUN = ("r", "slow", "stable", "residual"), ("t", "r", "names", "stats")
#: light colours of basins
SHADES = ("#CFE6F5", "#FBDCC4", "#D3EFE3", "#F3E0EC", "#FAEBC8", "#E4F3FC", "#E6E6E6")
#: of a point its marker, face and edge, by what it is
LOOKS: dict[str, dict[str, Any]] = {
    "stable": {"marker": "o", "mfc": BLACK, "mec": BLACK},
    "saddle, 1 growing mode": {"marker": "D", "mfc": "white", "mec": ORANGE, "mew": 1.5},
    "2 or more growing modes": {"marker": "s", "mfc": "white", "mec": BLACK, "mew": 1.2},
    "unstable": {"marker": "o", "mfc": "white", "mec": BLACK, "mew": 1.3},
    "neutral": {"marker": "P", "mfc": "white", "mec": PINK, "mew": 1.2},
    "slow point": {"marker": "x", "mec": PINK, "mew": 1.5},
}


def _look(row: Any) -> str:
    if row.slow:
        return "slow point"
    if row.stable:
        return "stable"
    return ("neutral", "saddle, 1 growing mode")[row.index] if row.index < 2 else "2 or more growing modes"


@styled
def portrait(
    field: Field,
    box: Any,
    *,
    states: Sequence[str | int] = (0, 1),
    at: Any = None,
    x: Any = None,
    points: Any = (),
    runs: Any = (),
    cycles: Any = (),
    basins: Any = None,
    manifolds: bool = True,
    ax: Axes | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """A phase portrait: stream lines, nullclines, points of rest, manifolds of saddles, cycles, runs, basins.

    Parameters
    ----------
    field : Field
        F. With more than two states the stream lines and nullclines are those in the plane through ``at``.
    box : ((low, high), (low, high))
        Limits of the plane, in units of the two states.
    states : two of str or int, default (0, 1)
        The states of the plane.
    at : (n,) array_like or mapping, optional
        The other states; 0.
    x : (inputs,) array_like, optional
        Input, held.
    points : FixedPoints or sequence of Equilibrium, optional
        Points of rest.
    runs : Trajectory or sequence of them, optional
        Solutions.
    cycles : Cycle or sequence of them, optional
        Limit cycles: solid where stable, dashed where not.
    basins : Basins, optional
        Shades the plane by where its points go.
    manifolds : bool, default True
        Whether a saddle of a field of two states has its stable and unstable lines.
    ax : matplotlib.axes.Axes, optional
        Where to draw; its figure then is returned.
    labels : mapping, optional
        What stands for a state's name at its axis.

    Returns
    -------
    matplotlib.figure.Figure
        One panel.

    Raises
    ------
    UsageError
        For a box or states that are none.

    Examples
    --------
    >>> from ctrnn import Equations
    >>> from ctrnn.analysis import fixed_points
    >>> field = Equations({"u": "u - u**3", "v": "-v"})
    >>> table = fixed_points(field, [[-1.0, 0.0], [0.1, 0.0], [1.0, 0.0]])
    >>> portrait(field, ((-2, 2), (-1, 1)), points=table).axes[0].get_xlabel()
    'u'
    """
    plane, named = Plane.of(field, box, states, at), words(labels)
    points, runs = drawn("points", points, POINT, POINTS), drawn("runs", runs, RUN, "runs of the field")
    cycles = drawn("cycles", cycles, ("period", "stable", "multipliers"), "cycles, of ctrnn.analysis.limit_cycle")
    if basins is not None:
        drawn("basins", basins, ("a", "b", "attractor"), "what ctrnn.analysis.basins found")
    i, j = plane.states
    figure, (axes,) = frame(height=4.4, width=5.4, ax=ax)
    axes.grid(False)
    if basins is not None:
        shown = np.where(basins.attractor < 0, len(SHADES) - 1, basins.attractor % (len(SHADES) - 1))
        axes.pcolormesh(
            basins.a, basins.b, shown, cmap=ListedColormap(SHADES), vmin=0, vmax=len(SHADES) - 1, shading="nearest",
            zorder=0, rasterized=True,
        )  # fmt: skip
    family = Family(field, (), x)
    r, (a, b) = plane.grid(41)
    with np.errstate(all="ignore"):
        F = family.F(r, np.empty(0)).reshape(len(b), len(a), -1)
    F = np.where(np.isfinite(F), F, 0.0)
    if np.abs(F[..., [i, j]]).max() > 0:
        axes.streamplot(
            a, b, F[..., i], F[..., j], color="#AAAAAA", linewidth=0.5, arrowsize=0.6, density=1.0, zorder=1
        )
    for (name, lines), colour, style in zip(
        nullclines(field, box, states, at=plane.at, x=x).items(), (GREEN, PINK), ("--", "-."), strict=True
    ):
        for k, line in enumerate(lines):
            axes.plot(*line.T, style, color=colour, lw=1.2, zorder=2, label="_" if k else f"d {name}/dt = 0")
    if manifolds and field.n == 2:
        whole = np.empty((2, 2))
        whole[[i, j]] = np.stack([plane.low, plane.high], axis=1)
        _manifolds(axes, points, whole, (i, j))
    for k, run in enumerate(runs):
        line, resets = broken_at_resets(curve(run), (i, j))
        axes.plot(*line.T, color=BLUE, lw=1.2, zorder=3, label="_" if k else "runs")
        if resets.size:
            axes.plot(*resets, ":", color=BLUE, lw=0.8, zorder=3, label=once(axes, "reset"))
    for cycle in cycles:
        path = cycle(np.linspace(0.0, cycle.period, 600))
        label = once(axes, "stable cycle" if cycle.stable else "unstable cycle")
        style = "-" if cycle.stable else "--"
        axes.plot(path[:, i], path[:, j], style, color=BLACK, lw=2.0, zorder=3, label=label)
    for row in points:
        _dot(axes, row.r[[i, j]], _look(row))
    names = field.state_names
    axes.set(
        xlabel=named.get(names[i], names[i]), ylabel=named.get(names[j], names[j]),
        xlim=(plane.low[0], plane.high[0]), ylim=(plane.low[1], plane.high[1]),
    )  # fmt: skip
    legend_above(figure, axes)
    return figure


def _manifolds(axes: Axes, points: Any, box: NDArray[np.float64], states: tuple[int, int]) -> None:
    for row in points:
        if row.slow or row.index != 1 or row.stable:
            continue
        if depends_on_time(row.field, row.r, row.x, (row.t, row.t + 1.0)):
            return  # its points of rest move, and have no manifolds
        for name, lines in saddle_manifolds(row, box=box).items():
            label = f"{name} manifold"
            colour, style = (ORANGE, "-") if name == "unstable" else (AMBER, (0, (5, 1)))
            for line in lines:
                axes.plot(
                    *line[:, list(states)].T, color=colour, ls=style, lw=1.4, zorder=2.5,
                    label=once(axes, label),
                )  # fmt: skip


def _dot(axes: Axes, at: NDArray[np.float64], label: str) -> None:
    axes.plot([at[0]], [at[1]], ls="none", ms=7, zorder=5, label=once(axes, label), **LOOKS[label])


@styled
def projection(
    runs: Any,
    points: Any = (),
    *,
    components: tuple[int, int] = (0, 1),
    plane: Any = None,
    subspaces: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Runs and points of rest together, on the principal components of the runs.

    Parameters
    ----------
    runs : Trajectory, array_like (T, n) or (B, T, n), or a sequence of runs
        Solutions.
    points : FixedPoints or sequence of Equilibrium, optional
        Points of rest; a saddle with one growing mode has its unstable direction drawn through it.
    components : tuple of two int, default (0, 1)
        Which principal components.
    plane : Projection, optional
        Other directions, from `ctrnn.analysis.principal_components`; by default those of the runs.
    subspaces : bool, default True
        Whether the unstable directions are drawn.
    ax : matplotlib.axes.Axes, optional
        Where to draw; its figure then is returned.

    Returns
    -------
    matplotlib.figure.Figure
        One panel; the axes say which part of the variance lies along them.

    Raises
    ------
    UsageError
        For components that are not there.

    Examples
    --------
    >>> t = np.linspace(0.0, 6.0, 50)
    >>> circle = np.stack([np.cos(t), np.sin(t), 0.1 * t], axis=1)
    >>> projection(circle).axes[0].get_xlabel().startswith("principal component 1 (")
    True
    """
    several, points = runs_of("runs", runs), drawn("points", points, POINT, POINTS)
    onto = principal_components(several) if plane is None else plane
    last = len(onto.directions) - 1
    two = [whole("components", one, 0, most=last) for one in items("components", components, f"two of 0 to {last}")]
    if len(two) != 2 or two[0] == two[1]:
        raise UsageError("components", given=components, allowed=f"two of 0 to {last}")
    figure, (axes,) = frame(height=4.4, width=5.4, ax=ax)
    for k, run in enumerate(several):
        axes.plot(*onto(run)[:, two].T, color=GREY, lw=0.7, alpha=0.7, zorder=1, label="_" if k else "runs")
    width = float(np.ptp(np.concatenate([onto(run)[:, two] for run in several]), axis=0).max())
    for row in points:
        look = _look(row)
        middle = onto(row.r)[two]
        if subspaces and look.startswith("saddle"):
            v = onto.directions[two] @ linear_subspaces(row).unstable[:, 0]
            ends = middle + 0.06 * width * np.outer([-1.0, 1.0], v / max(float(np.linalg.norm(v)), 1e-300))
            axes.plot(*ends.T, color=ORANGE, lw=1.6, zorder=2, label=once(axes, "unstable direction"))
        _dot(axes, middle, look)
    x, y = (f"principal component {c + 1} ({100 * onto.explained[c]:.0f} % of the variance)" for c in two)
    axes.set(xlabel=x, ylabel=y)
    axes.set_aspect("equal", adjustable="datalim")
    legend_above(figure, axes)
    return figure


@styled
def phase_line(
    field: Field,
    span: tuple[float, float] | None = None,
    *,
    points: Any = (),
    run: Any = None,
    x: Any = None,
    ax: Axes | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """The rate F(r) of a field of one state against r, with its points of rest and the way of a run.

    Parameters
    ----------
    field : Field
        F, of one state.
    span : tuple of two float, optional
        Least and largest r; None: what the points and the run reach.
    points : FixedPoints or sequence of Equilibrium, optional
        Points of rest.
    run : Trajectory, optional
        A solution: its rates lie on the line.
    x : (inputs,) array_like, optional
        Input, held.
    ax : matplotlib.axes.Axes, optional
        Where to draw; its figure then is returned.
    labels : mapping, optional
        What stands for the state's name at its axis.

    Returns
    -------
    matplotlib.figure.Figure
        One panel.

    Raises
    ------
    UsageError
        For a field of more states, or without anything that says which r to show.

    Examples
    --------
    >>> from ctrnn import Equations
    >>> phase_line(Equations({"r": "r - r**3"}), (-1.5, 1.5)).axes[0].get_ylabel()
    'd r/dt'
    """
    points = drawn("points", points, POINT, POINTS)
    if run is not None:
        drawn("run", run, RUN, "a run of the field")
    if checked_field(field).n != 1:
        raise UsageError("field", given=f"{field.n} states", allowed="one state; plotting.portrait shows two")
    if span is None:
        seen = [*(row.r[0] for row in points), *([] if run is None else run.r[:, 0])]
        if not seen:
            raise UsageError("span", given=None, allowed="(low, high), or points or a run to show")
        margin = 0.15 * max(float(np.ptp(seen)), 1e-3)
        span = (float(min(seen)) - margin, float(max(seen)) + margin)
    figure, (axes,) = frame(height=3.0, width=5.4, ax=ax)
    r, family = np.linspace(*span, 801), Family(field, (), x)
    axes.axhline(0.0, color=GREY, lw=0.8)
    axes.plot(r, family.F(r[:, None], np.empty(0))[:, 0], color=BLUE, label="rate", zorder=2)
    if run is not None:
        at = run.r[[0, -1]]
        rate = family.F(at, np.empty(0))[:, 0]
        axes.plot(
            at[:1, 0], rate[:1], ">", mfc="none", mec=GREEN, ms=8, mew=1.5, ls="none", label="run, start", zorder=4
        )
        axes.plot(
            at[1:, 0], rate[1:], "s", mfc="none", mec=GREEN, ms=11, mew=1.5, ls="none", label="run, end", zorder=4
        )
    for row in points:
        look = "unstable" if row.index == 1 and not row.slow else _look(row)
        _dot(axes, np.array([row.r[0], row.speed if row.slow else 0.0]), look)
    name = field.state_names[0]
    word = words(labels).get(name, name)
    axes.set(xlabel=word, ylabel=f"d {name}/dt", xlim=span)
    legend_above(figure, axes)
    return figure
