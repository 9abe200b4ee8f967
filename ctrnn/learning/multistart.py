"""Starts all over the place: one descent finds the valley it begins in, and data over several cycles make many.

The starts are points of a scrambled Sobol sequence (Sobol 1967; Owen 1998), which fills a box more evenly than random
numbers do: between the bounds where both are finite, else about the given start, w (1 ± spread). Quantities that are
fitted as logarithms are spread evenly in the logarithm. The first start is the given one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import CtrnnError, UsageError
from ctrnn.learning.convergence import solver_error
from ctrnn.learning.loss import Statement
from ctrnn.learning.minimise import Minimum
from ctrnn.learning.result import Valley
from ctrnn.learning.transforms import Coordinates
from ctrnn.memory import claim
from ctrnn.numbers import whole
from ctrnn.threads import map_parallel

Array = NDArray[np.float64]

#: losses closer than this, relative, are one valley
SAME = 1e-5


def starts(coordinates: Coordinates, count: int, spread: float, seed: int) -> Array:
    """Points (count, k) in the coordinates; the first is the given start."""
    from scipy.stats import qmc

    c, theta = coordinates, coordinates.start
    claim("multistart", 40.0 * count * theta.size, "fewer starts")
    u = qmc.Sobol(max(int(c.free.sum()), 1), seed=seed).random_base2(int(np.ceil(np.log2(max(count, 2)))))
    inside = np.isfinite(c.lower) & np.isfinite(c.upper)
    if c.log.any() and not spread < 1:
        raise UsageError("spread", given=spread, allowed="below 1, where logarithms are fitted")
    low = np.where(c.log, theta + np.log1p(-min(spread, 0.999999)), theta - spread * c.sizes)
    high = np.where(c.log, theta + np.log1p(spread), theta + spread * c.sizes)
    low, high = (
        np.where(inside, c.lower, np.maximum(low, c.lower)),
        np.where(inside, c.upper, np.minimum(high, c.upper)),
    )
    points = np.tile(theta, (count, 1))
    if c.free.any():
        points[1:, c.free] = (low + (high - low) * _whole(u, c.free))[1:count, c.free]
    return points


def _whole(u: Array, free: NDArray[Any]) -> Array:
    every = np.zeros((len(u), len(free)))
    every[:, free] = u
    return every


def from_many(
    problem: Any,
    statement: Statement,
    count: int,
    spread: float,
    seed: int,
    descend: Callable[[Any], Minimum],
    tell: Callable[[int, float], None] | None = None,
) -> tuple[Minimum, tuple[Valley, ...], int, float]:
    """The best descent from ``count`` starts, where all ended, how many had no solution, the loss at the given start.

    Raises the error of the given start where no start has a solution.
    """
    whole("multistart", count, 1, "a positive whole number of starts, or None")
    coordinates = statement.coordinates(problem)
    points = starts(coordinates, int(count), spread, seed)
    _ = problem.field._kernel  # compiled once, before many threads ask for it

    def one(item: tuple[int, Array]) -> Minimum | CtrnnError:
        number, theta = item
        try:
            found = descend(problem if number == 0 else coordinates.problem(theta))
        except CtrnnError as error:
            return error
        if tell is not None:
            tell(number + 1, found.loss.least)
        return found

    every = map_parallel(list(enumerate(points)), one, "starts")
    ends = [found for found in every if isinstance(found, Minimum)]
    if not ends:
        raise every[0]  # type: ignore[misc]
    ends.sort(key=lambda found: found.loss.least)
    best = next((found for found in ends if found.ending.converged and _same(found, ends[0])), ends[0])
    initial = every[0].loss.initial if isinstance(every[0], Minimum) else np.nan
    return best, _valleys(ends), len(every) - len(ends), initial


def _same(one: Minimum, other: Minimum) -> bool:
    # below the error that the solver makes in data that are met, losses are what is rounded off
    floor = solver_error(other.loss)
    return abs(one.loss.least - other.loss.least) <= max(SAME * abs(other.loss.least), floor)


def _valleys(ends: list[Minimum]) -> tuple[Valley, ...]:
    """Ends, sorted by their loss, put together where it is the same."""
    groups: list[list[Minimum]] = []
    for end in ends:
        if groups and _same(end, groups[-1][0]):
            groups[-1].append(end)
        else:
            groups.append([end])
    found = []
    for group in groups:
        loss = group[0].loss
        c = loss.coordinates
        labels = tuple(label for label, counts in zip(c.labels, c.free, strict=True) if counts)
        converged = sum(end.ending.converged for end in group)
        found.append(Valley(loss.least, len(group), converged, c.w(loss.theta)[c.free], labels))
    return tuple(found)
