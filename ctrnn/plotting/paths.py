"""Paths of a stochastic equation, with their mean and spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.plotting.style import BLACK, BLUE, GREY, frame, legend_above, styled, words
from ctrnn.solvers.ensemble import Ensemble

#: panels that one figure can show
PANELS = 6


@styled
def paths(
    found: Ensemble,
    *,
    states: Sequence[str] | None = None,
    shown: int = 12,
    exact: tuple[ArrayLike, ArrayLike] | None = None,
    labels: Mapping[str, str] | None = None,
    time_label: str = "t",
    ax: Any = None,
) -> Figure:
    """The members of an ensemble against time, with the mean and two standard deviations of all of them.

    Parameters
    ----------
    found : ctrnn.Ensemble
        Two members or more at two times or more; members that failed are left out.
    states : sequence of str, optional
        Names of the states to draw, a panel each; the first six by default.
    shown : int, default 12
        How many members are drawn as lines.
    exact : tuple of array_like, optional
        The mean and the standard deviation that are expected, (T, len(states)) each: drawn dashed.
    labels : mapping, optional
        What stands for a state's name: ``{"v": "v, potential (mV)"}``.
    time_label : str, default "t"
        At the time axis, with its unit.
    ax : matplotlib.axes.Axes or a sequence of them, optional
        One a state.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a state.

    Raises
    ------
    UsageError
        For fewer members or times, or an expectation of another shape.
    UnknownNameError
        For a state that is not there.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Problem(ctrnn.Equations({"v": "-v"}), [1.0], (0.0, 1.0), noise=0.1)
    >>> found = ctrnn.ensemble(decay, paths=20, solver="euler", dt=0.1, save_at=np.linspace(0.0, 1.0, 11))
    >>> len(paths(found, shown=5).axes[0].lines)
    6
    """
    names = list(found.names[:PANELS]) if states is None else list(states)
    for name in names:
        if name not in found.names:
            raise UnknownNameError("states", name, found.names)
    r = found.r[~np.isnan(found.r).any(axis=(1, 2))]
    if len(r) < 2 or found.t.size < 2 or not 0 < len(names) <= PANELS:
        given = f"{len(r)} members at {found.t.size} times of {len(names)} states"
        raise UsageError("found", given=given, allowed=f"two members and two times at least, of 1 to {PANELS} states")
    expected = None
    if exact is not None:
        expected = [np.asarray(part, float).reshape(found.t.size, -1) for part in exact]
        if any(part.shape[1] != len(names) for part in expected):
            shapes = " and ".join(str(part.shape) for part in expected)
            raise UsageError("exact", given=shapes, allowed=f"shape ({found.t.size}, {len(names)}), twice")
    figure, axes = frame(len(names), height=2.6 if len(names) == 1 else 1.9, ax=ax, sharex=True)
    for k, (name, panel) in enumerate(zip(names, axes, strict=True)):
        values = r[:, :, found.names.index(name)]
        mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
        for j, path in enumerate(values[:shown]):
            panel.plot(found.t, path, color=GREY, lw=0.6, label="paths" if j == 0 else None)
        panel.fill_between(
            found.t, mean - 2 * sd, mean + 2 * sd, color=BLUE, alpha=0.2, lw=0,
            label=f"mean ± 2 standard deviations of {len(values)} paths",
        )  # fmt: skip
        panel.plot(found.t, mean, color=BLUE, label=f"mean of {len(values)} paths")
        if expected is not None:
            m, s = (part[:, k] for part in expected)
            panel.plot(found.t, m, "--", color=BLACK, lw=1.0, label="expected mean, ± 2 standard deviations")
            for sign in (-2.0, 2.0):
                panel.plot(found.t, m + sign * s, "--", color=BLACK, lw=1.0)
        panel.set_ylabel(words(labels).get(name, name))
    axes[-1].set_xlabel(time_label)
    legend_above(figure, axes[0])
    return figure
