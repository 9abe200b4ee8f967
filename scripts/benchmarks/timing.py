"""Programs timed side by side, and what this machine can do at most.

Programs take turns, so that whatever else runs on the machine slows all of them alike; a time is the median over the
rounds. A turn begins with one call that is not timed: it brings the caches and the thread pool of its library back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from statistics import median

import numpy as np

Program = Callable[[], object]
TURN = 0.005  # seconds: a shorter call is repeated, and its mean taken
BUSY = 0.1  # seconds: a longer call needs no call before it


def interleaved(programs: dict[str, Program], budget: float, least: int = 3) -> dict[str, float]:
    """The median seconds of one call of each program, over at least ``least`` rounds and ``budget`` seconds; all have
    been called before."""
    taken: dict[str, list[float]] = {name: [] for name in programs}
    calls = dict.fromkeys(programs, 1)
    end = time.perf_counter() + budget
    while len(next(iter(taken.values()), [0.0] * least)) < least or time.perf_counter() < end:
        for name, run in programs.items():
            if not taken[name] or taken[name][-1] < BUSY:
                run()
            began = time.perf_counter()
            for _ in range(calls[name]):
                run()
            taken[name].append((time.perf_counter() - began) / calls[name])
            calls[name] = max(1, round(TURN / taken[name][-1]))
        if not programs:
            break
    return {name: median(each) for name, each in taken.items()}


def once(run: Program) -> float:
    """The seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


@lru_cache
def gemm_rate(size: int = 1536) -> float:
    """Flops a second of a float64 matrix product on all cores."""
    A = np.random.default_rng(0).normal(size=(size, size))
    return 2 * size**3 / min(once(lambda: A @ A) for _ in range(9))


@lru_cache
def bandwidth(size: int = 2**28) -> float:
    """Bytes a second that one core reads from an array of ``size`` bytes, from whichever cache holds it."""
    from numba import njit

    @njit(fastmath=True)
    def read(v: np.ndarray, calls: int) -> float:
        total = 0.0
        for k in range(calls):
            v[0] = k  # else the sum would be taken once
            for i in range(v.size):
                total += v[i]
        return total

    v = np.ones(max(size, 2**12) // 8)
    calls = max(1, 2**26 // v.nbytes)
    read(v, 1)
    return v.nbytes * calls / min(once(lambda: read(v, calls)) for _ in range(5))


@lru_cache
def tanh_rate() -> float:
    """tanh a second of one core, by numpy's vectorised one."""
    v, calls = np.linspace(-3.0, 3.0, 4096), 20
    out = np.empty_like(v)
    return v.size * calls / min(once(lambda: [np.tanh(v, out=out) for _ in range(calls)]) for _ in range(9))


def peaks() -> str:
    return (
        f"products {gemm_rate() / 1e9:.0f} GFLOP/s on all cores, memory {bandwidth() / 1e9:.0f} GB/s and "
        f"tanh {tanh_rate() / 1e9:.2f}·10⁹/s on one"
    )
