"""Threads of our own around torch's operations on the CPU, and one thread of torch's inside them, as for BLAS (ctrnn.threads says why).

Measured on two busy cores: exact RTRL of 256 units four times (float64) and eleven times (float32) slower with torch's two threads than
with one. On a CUDA device nothing is divided.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from threading import Lock

import torch

from ctrnn.threads import share, workers

#: flops of one operation below which a second thread costs more than it saves
WORTH_THREADS = 2e6


class _OneThread:
    """Limits on the first entry and restores on the last exit, from whichever threads they come."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = Lock(), 0, 1

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = torch.get_num_threads()
            self._inside += 1
            torch.set_num_threads(1)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                torch.set_num_threads(self._before)


#: a context in which torch's operations run on one thread each; the former setting comes back at its end
one_torch_thread = _OneThread()


def divided(work: Callable[[int, int], None], size: int, flops: float, device: str) -> None:
    """``work(first, last)`` for all of 0 … size, on as many threads as ``flops`` of one operation are worth."""
    threads = max(1, min(workers(), size // 2)) if device == "cpu" and flops > WORTH_THREADS else 1
    if threads == 1:
        work(0, size)
        return
    edges = [size * k // threads for k in range(threads + 1)]
    share([(_alone, work, first, last) for first, last in pairwise(edges)])


def _alone(work: Callable[[int, int], None], first: int, last: int) -> None:
    with torch.no_grad(), one_torch_thread:
        work(first, last)
