"""Bifurcation diagrams in one and two parameters, and a limit cycle with its phase response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ctrnn.errors import UsageError
from ctrnn.names import position
from ctrnn.numbers import items
from ctrnn.plotting.style import (
    BLACK,
    BLUE,
    COLOURS,
    GREEN,
    ORANGE,
    drawn,
    frame,
    legend_above,
    mosaic,
    once,
    styled,
    words,
)

#: of each kind of special point its marker and colour
MARKERS = {
    "fold": ("o", ORANGE),
    "hopf": ("s", GREEN),
    "branch": ("D", COLOURS[3]),
    "flip": ("^", COLOURS[4]),
    "torus": ("v", COLOURS[5]),
    "homoclinic": ("p", BLACK),
    "cusp": ("*", ORANGE),
    "bogdanov-takens": ("P", BLACK),
    "bautin": ("X", GREEN),
    "zero-hopf": ("h", COLOURS[3]),
    "double-hopf": ("8", COLOURS[5]),
}
#: states whose extents differ by more than this factor are drawn over them
UNALIKE = 20.0
#: a branch that goes to infinity is drawn until its parameter has this part of its extent to go; room around, likewise
STOOD, MARGIN = 0.01, 0.05
#: points of a curve that is smooth, and the part of its extent by which a spline may differ from monotone cubics
FINE, SWING = 400, 0.005


@styled
def bifurcation_diagram(
    branches: Any,
    state: str | int = 0,
    *,
    cycles: Any = (),
    ax: Axes | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """One state of equilibria and cycles against the parameter: stable solid, unstable dashed, special points marked.

    Parameters
    ----------
    branches : Branch or sequence of Branch
        Equilibria, from ctrnn.analysis.continue_equilibria and switch_branch.
    state : str or int, default 0
        The state to show, by name or number.
    cycles : CycleBranch or sequence of CycleBranch, optional
        Their least and largest values of the state, from ctrnn.analysis.continue_cycles.
    ax : matplotlib.axes.Axes, optional
        Where to draw; its figure then is returned.
    labels : mapping, optional
        What stands for a state's or the parameter's name at its axis.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UsageError
        Without a branch, or where the branches have different parameters.
    UnknownNameError
        For a state that is not there.

    Examples
    --------
    >>> from ctrnn import Equations
    >>> from ctrnn.analysis import continue_equilibria
    >>> branch = continue_equilibria(Equations({"r": "b + r - r**3"}, {"b": 0.0}), [1.0], "b", (-1.0, 1.0))
    >>> bifurcation_diagram(branch).axes[0].get_xlabel()
    'b'
    """
    every = drawn(
        "branches",
        branches,
        ("name", "states", "special", "eigenvalues"),
        "branches, of ctrnn.analysis.continue_equilibria",
    )
    around = drawn(
        "cycles",
        cycles,
        ("name", "states", "special", "lowest", "highest"),
        "branches of cycles, of ctrnn.analysis.continue_cycles",
    )
    if not every and not around:
        raise UsageError("branches", given="none", allowed="one branch or more")
    first = (every or around)[0]
    for branch in (*every, *around):
        if branch.name != first.name or branch.states != first.states:
            raise UsageError("branches", given=f"branches in {first.name} and {branch.name}", allowed="one parameter")
    k = position("state", state, first.states)
    figure, (axes,) = frame(height=3.6, width=5.4, ax=ax)
    for branch in every:
        marks = [(point.place, point.parameter, point.r[k]) for point in branch.special]
        _line(axes, *_through(marks, branch.parameter, branch.r[:, k], branch.stable), BLUE, "equilibria")
    for branch in around:
        ends = [_extent(point, k) for point in branch.special]
        for edge, values in ((branch.lowest, 0), (branch.highest, 1)):
            marks = [(p.place, p.parameter, end[values]) for p, end in zip(branch.special, ends, strict=True)]
            through = _through(marks, branch.parameter, edge[:, k], branch.stable)
            _line(axes, *through, ORANGE, "cycles, least and largest")
    for branch in every:
        for point in branch.special:
            _mark(axes, point.kind, point.parameter, point.r[k], _name(point))
    for branch in around:
        for point in branch.special:
            where = "orbit" if point.kind == "homoclinic" else "of cycles"
            for value in _extent(point, k):
                _mark(axes, point.kind, point.parameter, value, f"{_name(point)} {where}")
    if any("unbounded" in branch.ends for branch in every):
        shown = [branch.r[_near_enough(branch), k] for branch in every]
        shown += [edge[:, k] for branch in around for edge in (branch.lowest, branch.highest)]
        low, high = (float(pick(np.concatenate(shown))) for pick in (np.min, np.max))
        margin = MARGIN * (high - low)
        axes.set_ylim(low - margin, high + margin)
    named, name = words(labels), first.states[k]
    axes.set(xlabel=named.get(first.name, first.name), ylabel=named.get(name, name))
    legend_above(figure, axes)
    return figure


@styled
def two_parameter_diagram(curves: Any, *, ax: Axes | None = None, labels: Mapping[str, str] | None = None) -> Figure:
    """Curves of folds and Hopf points in the plane of two parameters, their points of codimension two marked.

    Parameters
    ----------
    curves : SpecialCurve or sequence of SpecialCurve
        From ctrnn.analysis.continue_special, all in the same two parameters.
    ax : matplotlib.axes.Axes, optional
        Where to draw; its figure then is returned.
    labels : mapping, optional
        What stands for a parameter's name at its axis.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UsageError
        Without a curve, or where the curves have different parameters.

    Notes
    -----
    Of a Hopf curve the part with a negative first Lyapunov coefficient (supercritical) is solid, the other dashed.

    Examples
    --------
    >>> from ctrnn import Equations
    >>> from ctrnn.analysis import continue_equilibria, continue_special
    >>> field = Equations({"r": "b + a*r - r**3"}, {"b": 0.0, "a": 1.0})
    >>> fold = continue_equilibria(field, [1.0], "b", (-1.0, 1.0)).special[0]
    >>> curve = continue_special(field, fold, ("b", "a"), ((-1.0, 1.0), (-1.0, 1.0)))
    >>> two_parameter_diagram(curve).axes[0].get_ylabel()
    'a'
    """
    every = _several(curves)
    if not every:
        raise UsageError("curves", given="none", allowed="one curve or more")
    names = tuple(every[0].parameters)
    figure, (axes,) = frame(height=4.0, width=5.4, ax=ax)
    for curve in every:
        if tuple(curve.parameters) != names:
            raise UsageError("curves", given=f"{tuple(curve.parameters)} and {names}", allowed="the same parameters")
        a, b = curve.parameters.values()
        is_hopf = curve.kind == "hopf"
        solid = _nearest_known(curve.lyapunov) < 0 if is_hopf else np.ones(len(curve), dtype=bool)
        two = ("hopf, supercritical", "hopf, subcritical") if is_hopf else ("fold", "fold")
        _line(axes, a, b, solid, GREEN if is_hopf else ORANGE, two)
    for curve in every:
        for point in curve.special:
            at = point.parameters
            _mark(axes, point.kind, at[names[0]], at[names[1]], point.kind)
    named = words(labels)
    axes.set(xlabel=named.get(names[0], names[0]), ylabel=named.get(names[1], names[1]))
    legend_above(figure, axes)
    return figure


def _nearest_known(values: Any) -> Any:
    """Each value, and in the place of NaN, as of l1 at a Bogdanov–Takens point, the nearest that is known."""
    known = np.flatnonzero(~np.isnan(values))
    if not known.size:
        return values
    return values[known[abs(known[:, None] - np.arange(len(values))).argmin(axis=0)]]


@styled
def cycle(
    cycle: Any,
    states: Sequence[str | int] = (0, 1),
    *,
    labels: Mapping[str, str] | None = None,
    time_label: str = "t",
    ax: Any = None,
) -> Figure:
    """A limit cycle: two states against each other, all of them over a turn, and the phase response.

    Parameters
    ----------
    cycle : Cycle
        From ctrnn.analysis.limit_cycle.
    states : sequence of str or int, default (0, 1)
        Two states for the plane, which are those over time, too, with what follows them.
    labels : mapping, optional
        What stands for a state's name at its axis.
    time_label : str, default "t"
        Label of the time axis.
    ax : sequence of matplotlib.axes.Axes, optional
        Three, for the plane, the states and the phase response.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UnknownNameError
        For a state that is not there.

    Notes
    -----
    States whose extents differ by a factor of more than 20, as a voltage's and a gate's do, are drawn over their
    extents, and so is the response: the time gained where a state is moved by its extent.

    Examples
    --------
    >>> from ctrnn import Equations, Problem
    >>> from ctrnn.analysis import limit_cycle
    >>> field = Equations({"u": "v", "v": "(1 - u**2)*v - u"}, {})
    >>> len(cycle(limit_cycle(Problem(field, [2.0, 0.0], (0.0, 40.0)))).axes)
    3
    """
    several = drawn("cycle", cycle, ("field", "period", "phase_response"), "a Cycle, of ctrnn.analysis.limit_cycle")
    if len(several) != 1:
        raise UsageError("cycle", given=f"{len(several)} of them", allowed="one Cycle")
    (cycle,) = several
    names = tuple(cycle.field.state_names)
    shown = [position("states", one, names) for one in items("states", states, "names or numbers of states")]
    if len(shown) < 2:
        raise UsageError("states", given=states, allowed="two states or more")
    named = words(labels)
    t = np.linspace(0.0, cycle.period, 601)
    r = cycle(t)
    figure, axes = mosaic("ab;ac", height=3.4, ax=ax, width_ratios=(5, 6))
    if ax is None:
        axes["c"].sharex(axes["b"])
        axes["b"].tick_params(labelbottom=False)
    i, j = shown[:2]
    style = "-" if cycle.stable else "--"
    axes["a"].plot(r[:, i], r[:, j], style, color=BLUE)
    axes["a"].set(xlabel=named.get(names[i], names[i]), ylabel=named.get(names[j], names[j]))
    from scipy.interpolate import CubicSpline

    response = CubicSpline(cycle.t, cycle.phase_response, bc_type="periodic")(t)
    extent = np.asarray(cycle.amplitude)[shown]
    apart = bool(0.0 < extent.min() < extent.max() / UNALIKE)
    for n, k in enumerate(shown[: len(COLOURS)]):
        unit, least = (extent[n], r[:, k].min()) if apart else (1.0, 0.0)
        axes["b"].plot(t, (r[:, k] - least) / unit, color=COLOURS[n], label=named.get(names[k], names[k]))
        axes["c"].plot(t, response[:, k] * unit, color=COLOURS[n])
    axes["b"].set_ylabel("state over its extent" if apart else "state")
    axes["c"].set(ylabel="phase response\n× extent" if apart else "phase response", xlabel=time_label)
    axes["c"].axhline(0.0, color="#999999", lw=0.6)
    legend_above(figure, axes["b"])
    return figure


def _several(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values]


def _near_enough(branch: Any) -> NDArray[np.bool_]:
    """Which points of a branch are to be in the picture: on its way to infinity those until the parameter has stood."""
    shown, x = np.ones(len(branch), dtype=bool), np.asarray(branch.parameter)
    for end, order in ((0, slice(None)), (1, slice(None, None, -1))):
        if branch.ends[end] == "unbounded":
            along = x[order]
            is_beyond = np.abs(along - along[0]) <= STOOD * float(np.ptp(x))
            shown[order] &= ~np.logical_and.accumulate(is_beyond)
    return shown


def _extent(point: Any, k: int) -> tuple[float, float]:
    """The least and the largest value of state k on a special cycle.

    On its mesh too: near a homoclinic orbit the excursion is a small part of the period.
    """
    path = np.append(point.cycle(np.linspace(0.0, point.period, 400))[:, k], point.cycle.r[:, k])
    return float(path.min()), float(path.max())


def _through(
    marks: Sequence[tuple[int, float, float]], x: NDArray[np.float64], y: NDArray[np.float64], solid: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """A branch with its special points, each after the point ``place`` and of the stability that follows there."""
    if not marks:
        return x, y, solid
    place, mark_x, mark_y = (np.array(part) for part in zip(*marks, strict=True))
    after = solid[np.minimum(place + 1, solid.size - 1)]
    return np.insert(x, place + 1, mark_x), np.insert(y, place + 1, mark_y), np.insert(solid, place + 1, after)


def _line(
    axes: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    solid: NDArray[np.bool_],
    colour: str,
    label: str | tuple[str, str],
) -> None:
    """A curve whose parts are solid or dashed, smooth between its points.

    Each part reaches the first point of the next, so that no gap is left.
    """
    named = label if isinstance(label, tuple) else (f"{label}, stable", f"{label}, unstable")
    along, edges = _smooth(x, y), np.flatnonzero(np.diff(solid.astype(int))) + 1
    for part in np.split(np.arange(x.size), edges):
        ends = part[0], min(part[-1] + 1, x.size - 1)
        is_solid = bool(solid[part[0]])
        label = named[0] if is_solid else named[1]
        style: dict[str, Any] = {
            "color": colour,
            "ls": "-" if is_solid else (0, (4, 3)),
            "lw": 1.6 if is_solid else 1.2,
        }
        axes.plot(*along(*ends), label=once(axes, label), zorder=2, **style)


def _smooth(x: NDArray[np.float64], y: NDArray[np.float64]) -> Callable[[int, int], NDArray[np.float64]]:
    """The curve from one of its points to another, as a cubic spline over its length.

    Where that swings, about a corner, as monotone cubics (Fritsch & Carlson 1980), which overshoot no point.
    """
    from scipy.interpolate import CubicSpline, PchipInterpolator

    both = np.array([x, y])
    span = np.ptp(both, axis=1)
    span[span == 0.0] = 1.0
    length = np.append(0.0, np.cumsum(np.hypot(*(np.diff(both) / span[:, None]))))
    moves = np.append(True, np.diff(length) > 0.0)
    if moves.sum() < 3 or moves.size > FINE:
        return lambda first, last: both[:, first : last + 1]
    spline, monotone = (kind(length[moves], both[:, moves], axis=1) for kind in (CubicSpline, PchipInterpolator))

    def part(first: int, last: int) -> NDArray[np.float64]:
        its = length[first : last + 1]
        at = np.union1d(its, np.linspace(its[0], its[-1], FINE))
        found, safe = spline(at), monotone(at)
        swings = np.abs(found - safe).max(axis=1, initial=0.0) > SWING * span
        return np.asarray(safe if swings.any() else found)

    return part


def _name(point: Any) -> str:
    """A branch point goes by its type."""
    return str(point.type or point.kind) if point.kind == "branch" else str(point.kind)


def _mark(axes: Axes, kind: str, x: float, y: float, label: str) -> None:
    marker, colour = MARKERS.get(kind, ("o", BLACK))
    style: dict[str, Any] = {"mfc": colour, "mec": BLACK, "mew": 0.6, "ms": 6, "ls": "none", "zorder": 4}
    axes.plot([x], [y], marker, label=once(axes, label), **style)
