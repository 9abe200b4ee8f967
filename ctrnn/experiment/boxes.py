"""Boxes around states, and states drawn from them: where a search begins, and what a figure shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: how much wider a box is than what it holds, on each side
MARGIN = 0.15


def around(states: NDArray[np.float64]) -> NDArray[np.float64]:
    """[low, high] of each column (n, 2), wider by a part of its extent.

    >>> around(np.array([[0.0, 1.0], [1.0, 1.0]])).round(3)
    array([[-0.15,  1.15],
           [ 0.  ,  2.  ]])
    """
    low, high = np.nanmin(states, axis=0), np.nanmax(states, axis=0)
    extent = high - low
    flat = extent <= 1e-6 * np.maximum(np.abs(low), np.abs(high))
    wide = np.where(flat, np.maximum(1.0, np.abs(high)), MARGIN * extent)
    return np.stack([low - wide, high + wide], axis=1)


def starts(run: NDArray[np.float64], count: int, scatter: float, box: Any, seed: int) -> NDArray[np.float64]:
    """``count`` states (count, n), from a box, or those of a run, moved by normal numbers times ``scatter``.

    The scatter is in units of each state's standard deviation along the run, or of their mean where it rests.
    """
    rng, n = np.random.default_rng(seed), run.shape[1]
    if box is not None:
        low, high = np.broadcast_to(np.asarray(box, dtype=float), (n, 2)).T
        return np.asarray(rng.uniform(low, high, (count, n)))
    sd = run.std(axis=0)
    sd = np.where(sd > 1e-9, sd, sd.mean() if sd.mean() > 1e-9 else 1.0)
    chosen = run[np.linspace(0, len(run) - 1, count).round().astype(int)]
    # the first starts are states of the run itself
    moved = rng.normal(size=(count, n)) * (np.arange(count) % 2)[:, None]
    return np.asarray(chosen + scatter * sd * moved)
