"""Threads of our own around torch's operations on the CPU, and one thread of torch's inside them (ctrnn.threads).

Measured on two busy cores: exact RTRL of 256 units four times (float64) and eleven times (float32) slower with torch's
    two threads than with one. On a CUDA device nothing is divided.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from ctrnn.threads import one_torch_thread, run_parallel, workers

#: flops of one operation below which a second thread costs more than it saves
WORTH_THREADS = 2e6


def divided(work: Callable[[int, int], None], size: int, flops: float, device: str) -> None:
    """``work(first, last)`` for all of 0 … size, on as many threads as ``flops`` of one operation are worth."""
    threads = max(1, min(workers(), size // 2)) if device == "cpu" and flops > WORTH_THREADS else 1
    if threads == 1:
        work(0, size)
        return
    edges = [size * k // threads for k in range(threads + 1)]
    run_parallel([(_alone, work, first, last) for first, last in pairwise(edges)])


def _alone(work: Callable[[int, int], None], first: int, last: int) -> None:
    import torch

    with torch.no_grad(), one_torch_thread:
        work(first, last)
