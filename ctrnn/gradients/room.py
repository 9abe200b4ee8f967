"""Working memory that stays between calls.

Arrays of some hundred kB are taken from the system anew each time, and given back, a page fault for every 4 kB: for 200 steps of 64 units that takes as long
as a third of the gradient. A ``Room`` holds on to what a thread needed last, up to KEPT_BYTES; what does not fit, or is asked for while the room is in use,
comes from the system as ever.
"""

from __future__ import annotations

import math
import threading
from types import TracebackType

import numpy as np

from ctrnn.fields.base import Array

#: bytes that a thread holds on to
KEPT_BYTES = 2**24


class Room:
    """``with room() as take: take(3, 4)`` is an array (3, 4) with no particular values, until the end of the block."""

    def __init__(self) -> None:
        self._kept, self._used, self._wanted, self._busy = np.empty(0), 0, 0, False

    def __enter__(self) -> Room:
        self._used = self._wanted = 0
        self._busy = True
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._busy = False
        if self._kept.size < self._wanted <= KEPT_BYTES // 8:
            self._kept = np.empty(self._wanted)

    def __call__(self, *shape: int) -> Array:
        size = math.prod(shape)
        begin, end = self._used, self._used + size
        self._wanted += size
        if end > self._kept.size:
            return np.empty(shape)
        self._used = end
        return self._kept[begin:end].reshape(shape)

    def zeros(self, *shape: int) -> Array:
        made = self(*shape)
        made.fill(0.0)
        return made

    @property
    def busy(self) -> bool:
        return self._busy


_here = threading.local()


def forget() -> None:
    """Give back what this thread holds on to."""
    _here.room = None


def room() -> Room:
    """The room of this thread; another one where it is in use."""
    mine: Room | None = getattr(_here, "room", None)
    if mine is None:
        mine = _here.room = Room()
    return Room() if mine.busy else mine
