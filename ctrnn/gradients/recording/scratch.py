"""Working memory that stays between calls.

Arrays of some hundred kB are taken from the system anew each time, and given back, a page fault for every 4 kB: for 200 steps of 64 units that takes as long
as a third of the gradient. A ``Room`` holds on to what was needed last, up to KEPT_BYTES; what does not fit comes from the system as ever.
"""

from __future__ import annotations

import math
import threading
from types import TracebackType

import numpy as np

from ctrnn.fields.base import Array

#: bytes that a room holds on to
KEPT_BYTES = 2**24


class Room:
    """``with room() as take: take(3, 4)`` is an array (3, 4) with no particular values, until the end of the block."""

    def __init__(self) -> None:
        self._kept, self._end, self.busy = np.empty(0), 0, False

    def __enter__(self) -> Room:
        self._end, self.busy = 0, True
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.busy = False
        if self._kept.size < self._end <= KEPT_BYTES // 8:
            self._kept = np.empty(self._end)

    def __call__(self, *shape: int) -> Array:
        begin = self._end
        self._end += math.prod(shape)
        return self._kept[begin : self._end].reshape(shape) if self._end <= self._kept.size else np.empty(shape)

    def zeros(self, *shape: int) -> Array:
        made = self(*shape)
        made.fill(0.0)
        return made


_here = threading.local()


def forget() -> None:
    """Give back what this thread holds on to."""
    _here.rooms = []


def room() -> Room:
    """The first room of this thread that is not in use."""
    if not hasattr(_here, "rooms"):
        forget()
    for one in _here.rooms:
        if not one.busy:
            return one  # type: ignore[no-any-return]
    _here.rooms.append(Room())
    return _here.rooms[-1]  # type: ignore[no-any-return]
