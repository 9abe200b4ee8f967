"""Time that was spent on the work, without that in which functions were compiled or read from disk.

Compilation is once on a machine, seconds in all: in a table of what methods cost it would be the first row's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()
_inside, _began, _spent = 0, 0.0, 0.0


def working() -> float:
    """Seconds since some moment, of which those inside ``aside`` do not count."""
    with _lock:
        now = time.perf_counter()
        return (_began if _inside else now) - _spent


@contextmanager
def aside() -> Iterator[None]:
    """What is not counted, on whatever thread: the clock stands while somebody is inside."""
    global _inside, _began, _spent
    with _lock:
        if _inside == 0:
            _began = time.perf_counter()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _spent += time.perf_counter() - _began
