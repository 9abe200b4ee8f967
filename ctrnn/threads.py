"""One BLAS thread inside compiled loops, and the user's own setting everywhere else.

A loop of small products gains nothing from a second BLAS thread and loses much: the two spin against each other and against
whatever else runs on the machine. Measured on two busy cores: exact RTRL of 128 units 20 times slower with two threads.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def _controller() -> Any:
    # finding the loaded libraries takes milliseconds, so it is done once, when SciPy's BLAS is there
    import scipy.linalg.cython_blas  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread() -> Any:
    """A context in which BLAS runs on one thread; the former setting comes back at its end."""
    return _controller().limit(limits=1, user_api="blas")
