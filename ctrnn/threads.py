"""One BLAS thread inside compiled loops, and the user's own setting everywhere else.

A loop of small products gains nothing from a second BLAS thread and loses much: the two spin against each other and against
whatever else runs on the machine. Measured on two busy cores: exact RTRL of 128 units 20 times slower with two threads.
"""

from __future__ import annotations

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
