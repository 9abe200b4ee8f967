"""Working memory that stays between calls.

Arrays of some hundred kB are taken from the system anew each time, and given back, a page fault for every 4 kB: for
200 steps of 64 units that takes as long as a third of the gradient. A ``ScratchArena`` holds on to what was needed
last, up to KEPT_BYTES; what does not fit comes from the system as ever.
"""

from __future__ import annotations

import math
import threading
from types import TracebackType

import numpy as np

Array = np.ndarray

#: bytes that an arena holds on to
KEPT_BYTES = 2**26


class ScratchArena:
    """``with scratch_arena() as take: take(3, 4)`` is an array (3, 4) of any values, until the end of the block."""

    def __init__(self) -> None:
        self._kept, self._end, self.busy = np.empty(0), 0, False

    def __enter__(self) -> ScratchArena:
        self._end, self.busy = 0, True
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.busy = False
        if self._kept.size < self._end <= KEPT_BYTES // 8:
            self._kept = np.empty(self._end)

    def __call__(self, *shape: int) -> Array:
        """An array of this shape, of any values."""
        begin = self._end
        self._end += math.prod(shape)
        return self._kept[begin : self._end].reshape(shape) if self._end <= self._kept.size else np.empty(shape)

    def zeros(self, *shape: int) -> Array:
        """An array of zeros of this shape."""
        made = self(*shape)
        made.fill(0.0)
        return made


_here = threading.local()


def forget() -> None:
    """Give back what this thread holds on to."""
    _here.arenas = []


def scratch_arena() -> ScratchArena:
    """The first arena of this thread that is not in use."""
    if not hasattr(_here, "arenas"):
        forget()
    for one in _here.arenas:
        if not one.busy:
            return one  # type: ignore[no-any-return]
    _here.arenas.append(ScratchArena())
    return _here.arenas[-1]  # type: ignore[no-any-return]
