"""How a solution becomes a line: as many points as the curve needs, and axes that suit its numbers.

Each step of the solver is halved until the chord of every part is as close to the curve, by the run's dense output, as
a pixel; at a reset both states are on the line, one above the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctrnn.trajectory import Trajectory

#: how far a chord may be from the curve, as part of the range of each state, and the most points of a line
FLAT, MOST_POINTS = 5e-4, 20_000
#: fewer steps than these are looked at more closely; the dense output of a larger run is not worth its memory
FEW_STEPS, MOST_NUMBERS = 300, 20_000_000
#: times that a step is halved at most
HALVINGS = 8
#: a logarithmic axis is drawn where nine tenths of the numbers span this ratio, and for times that crowd at the start
DECADES, CROWDED = 100.0, 0.02


def curve(run: Trajectory) -> Trajectory:
    """The run on as many times as its curve needs; one without dense output as it is, with both states of its resets.

    Parameters
    ----------
    run : Trajectory
        From ctrnn.simulate, between whose first and last saved time it is drawn.

    Returns
    -------
    Trajectory
        The same run, with other times.

    Examples
    --------
    >>> import ctrnn
    >>> run = ctrnn.simulate(ctrnn.Problem(ctrnn.Equations({"r": "-r"}, {}), [1.0], (0.0, 9.0)), save_at=[0.0, 9.0])
    >>> 50 < len(curve(run)) < 500
    True
    """
    numbers = 8 * run.stats.steps * len(run.names)
    if run.dense is None or len(run) < 2 or numbers > MOST_NUMBERS:
        return _with_resets(run)
    low, high = sorted((float(run.t[0]), float(run.t[-1])))
    steps, resets = run.dense.steps, run.dense.resets
    edges = np.unique(np.concatenate([[low, high], steps.starts, run.t]))
    edges = edges[(edges >= low) & (edges <= high)]
    if edges.size <= FEW_STEPS:  # what bends both ways within a step is met by thirds sooner than by halves
        edges = np.unique(np.concatenate([edges, *(edges[:-1] + k * np.diff(edges) / 3 for k in (1, 2))]))
    inner = np.sort(resets[(resets > low) & (resets < high)])
    bounds = np.concatenate([[low], inner, [high]])
    times, states = [], []
    r = run.dense(edges)
    span = np.ptp(r, axis=0)
    span[span == 0.0] = np.inf
    for a, b in zip(bounds[:-1], bounds[1:], strict=True):
        t = np.unique(np.concatenate([[a, b], edges[(edges > a) & (edges < b)]]))
        t = _halved(run, t, span, MOST_POINTS // max(1, bounds.size - 1))
        values = run.dense(t)
        values[-1] = run.dense(b, left=b in inner)
        times.append(t)
        states.append(values)
    t, r = np.concatenate(times), np.concatenate(states)
    if run.t[-1] < run.t[0]:
        t, r = t[::-1], r[::-1]
    return Trajectory(t, r, run.names, run.stats)


def broken_at_resets(run: Trajectory, columns: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Some states of a curve (T', p) with NaN at each reset, and the resets themselves (p, 3 K), with NaN between."""
    r = run.r[:, list(columns)]
    k = np.flatnonzero((np.diff(run.t) == 0.0) & (np.diff(run.r, axis=0) != 0.0).any(axis=1))
    jumps = np.stack([r[k], r[k + 1], np.full_like(r[k], np.nan)], axis=1).reshape(-1, r.shape[1])
    return np.insert(r, k + 1, np.nan, axis=0), jumps.T


def _halved(run: Trajectory, t: NDArray[np.float64], span: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """t with the middles of the parts that are not flat yet."""
    assert run.dense is not None
    r, unsure = run.dense(t), np.ones(t.size - 1, dtype=bool)
    for _ in range(HALVINGS):
        parts = np.flatnonzero(unsure)
        if not parts.size or t.size + parts.size > most:
            break
        middle = 0.5 * (t[parts] + t[parts + 1])
        at = run.dense(middle)
        bent = (np.abs(at - 0.5 * (r[parts] + r[parts + 1])) / span).max(axis=1) > FLAT
        places = parts[bent] + 1
        t, r = np.insert(t, places, middle[bent]), np.insert(r, places, at[bent], axis=0)
        unsure = np.zeros(t.size - 1, dtype=bool)
        new = places + np.arange(places.size)
        unsure[new], unsure[new - 1] = True, True
    return t


def _with_resets(run: Trajectory) -> Trajectory:
    """The run with both states of each reset, so that it is drawn upright."""
    if run.events is None or not len(run.events):
        return run
    events = run.events
    jumps = (events.before != events.after).any(axis=1)
    inside = jumps & (events.t >= run.t[0]) & (events.t <= run.t[-1])
    t = np.concatenate([run.t, np.repeat(events.t[inside], 2)])
    pairs = np.stack([events.before[inside], events.after[inside]], axis=1).reshape(-1, run.r.shape[1])
    r = np.concatenate([run.r, pairs])
    # behind both states comes what was saved at the same time, which is the state after
    order = np.lexsort((np.concatenate([np.full(len(run.t), 2), np.tile([0, 1], inside.sum())]), t))
    return Trajectory(t[order], r[order], run.names, run.stats)


def spans_decades(*values: ArrayLike) -> bool:
    """Whether positive numbers lie on so many scales that a linear axis would hide most of them.

    >>> (
    ...     spans_decades(np.geomspace(1e-6, 1.0, 50)),
    ...     spans_decades(np.linspace(0.01, 1.0, 50)),
    ...     spans_decades([-1.0, 1e9]),
    ... )
    (True, False, False)
    """
    every = np.concatenate([np.ravel(np.asarray(v, dtype=float)) for v in values])
    every = every[np.isfinite(every)]
    if not every.size or every.min() < 0.0 or np.mean(every == 0.0) > 0.05:
        return False
    low, high = np.quantile(every[every > 0.0], [0.05, 0.95])
    return bool(high >= DECADES * low)


def differ_in_size(columns: Sequence[ArrayLike]) -> bool:
    """Whether the greatest of one column is far below that of another.

    >>> differ_in_size([[1e-5, 3e-5], [1.0, 0.5]]), differ_in_size([[1.0, 1e-9], [0.5, 1e-6]])
    (True, False)
    """
    greatest = [float(np.max(np.abs(column))) for column in columns if np.any(column)]
    return bool(greatest) and max(greatest) >= DECADES * min(greatest)


def crowds_at_start(t: ArrayLike) -> bool:
    """Whether half of some increasing times from 0 or later lie in the first 2 % of them.

    >>> crowds_at_start([0.0, *np.geomspace(1e-4, 1e4, 50)]), crowds_at_start(np.linspace(0.0, 1.0, 50))
    (True, False)
    """
    t = np.asarray(t, dtype=float)
    return bool(t.size > 10 and t[0] >= 0.0 and t[-1] > t[0] and np.median(t) <= CROWDED * t[-1])
