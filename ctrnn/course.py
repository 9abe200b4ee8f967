"""The way of a solver through time: where it has to step onto, and where F jumps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.inputs import merge_times
from ctrnn.inputs.times import RESOLUTION, align


class Course(NamedTuple):
    """From ``start`` over the ``stops`` (K,), in the direction of time, the last of which is the end.

    It steps onto each of them; at those that ``is_break`` (K,) marks, F jumps.
    """

    start: float
    stops: Array
    is_break: Array

    @property
    def end(self) -> float:
        """The last stop."""
        return float(self.stops[-1])

    @property
    def direction(self) -> float:
        """1 forwards in time, −1 backwards."""
        return 1.0 if self.end > self.start else -1.0

    def onto(self, times: Array) -> Course:
        """The same course with more stops, at ``times`` between its start and its end."""
        sign = int(self.direction)
        inside = times[(sign * times > sign * self.start) & (sign * times < sign * self.end)]
        if not inside.size:
            return self
        every = np.unique(np.concatenate([self.stops, inside]))
        is_break = np.zeros(every.size, dtype=bool)
        is_break[every.searchsorted(self.stops[self.is_break])] = True
        return Course(self.start, every[::sign], is_break[::sign])

    def back(self, start: float, end: float) -> Course:
        """The part from ``start`` down to ``end`` < start."""
        inside = (self.stops < start) & (self.stops > end)
        return Course(start, np.append(self.stops[inside][::-1], end), np.append(self.is_break[inside][::-1], True))

    def pieces(self) -> Iterator[tuple[float, float]]:
        """The intervals between the breaks, in the direction of time."""
        start = self.start
        for stop, breaks in zip(self.stops, self.is_break, strict=True):
            if breaks or stop == self.stops[-1]:
                yield start, float(stop)
                start = float(stop)


def course_through(t0: float, t1: float, times: Array, breaks: Sequence[Array]) -> tuple[Course, Array]:
    """The course from t0 to t1 over ``times`` and over the ``breaks`` of signals; and all of these, ascending.

    Times that are equal but for rounding are one.
    """
    every = merge_times([t0, t1], times, *breaks)
    for end in (t0, t1):  # times that are the end but for rounding: no step between the two
        every[abs(every - end) <= RESOLUTION * abs(end)] = end
    every = np.unique(every)
    inside = every[(every > min(t0, t1)) & (every < max(t0, t1))]
    stops = np.append(inside if t0 < t1 else inside[::-1], t1)
    jumps = merge_times(np.empty(0), *breaks)
    return Course(t0, stops, np.isin(stops, align(jumps, every))), every
