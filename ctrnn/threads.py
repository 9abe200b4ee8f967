"""Threads of our own around compiled loops, one BLAS thread inside them, and the user's own setting everywhere else.

A loop of small products gains nothing from a second BLAS thread and loses much: the two spin against each other and against
whatever else runs on the machine. Measured on two busy cores: exact RTRL of 128 units 20 times slower with two threads. So the outer loop is
divided: over trials, or over the cotangents and parameters of one; never both.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Lock
from typing import Any


@lru_cache(maxsize=1)
def _controller() -> Any:
    # finding the loaded libraries takes milliseconds, so it is done once, when SciPy's BLAS is there
    import scipy.linalg.cython_blas  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


class _OneThread:
    """Limits on the first entry and restores on the last exit, from whichever threads they come."""

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limit = _controller().limit(limits=1, user_api="blas")
                self._limit.__enter__()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limit.__exit__(*error)


#: a context in which BLAS runs on one thread; the former setting comes back at its end
one_blas_thread = _OneThread()


_here = threading.local()


def workers() -> int:
    """Threads that work may be divided among: the cores this process may use, no more than OMP_NUM_THREADS; 1 inside such a thread."""
    if getattr(_here, "is_worker", False):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, int(asked)) if asked.isdigit() and int(asked) > 0 else cores)


def pool(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads divide their own work no further."""
    return ThreadPoolExecutor(threads, "ctrnn", initializer=lambda: setattr(_here, "is_worker", True))


@lru_cache(maxsize=1)
def _helpers() -> ThreadPoolExecutor:
    return pool(max(1, workers() - 1))


def share(calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The results of (function, *arguments), all but the first on other threads; the functions release Python's lock."""
    others = [_helpers().submit(function, *arguments) for function, *arguments in calls[1:]]
    function, *arguments = calls[0]
    try:
        first = function(*arguments)
    finally:
        found = [other.result() for other in others]
    return [first, *found]


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_helpers.cache_clear)
