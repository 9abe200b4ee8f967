"""Predicted against measured time and memory of every gradient method.

    python scripts/benchmarks/plan.py

Equations of three states (Lorenz; Robertson for the stiff solver) and rate networks of 4 to 256 units, from 200 to
20,000 steps: fixed steps of rk4, adaptive ones of tsit5 and of kvaerno5, with ten observations and with an integral.
Methods whose predicted time or memory is beyond the limits are not run. Time is the least of the rounds, after one to
load and compile; memory the peak of what numpy and Python allocate (tracemalloc), and for torch, which that does not
see, how far the process's peak of resident memory rises (Linux only). Aim: within a factor of 2 for most.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import ctrnn

TORCH = ("autograd", "complex-step")
LORENZ = {"x": "s*(y - x)", "y": "x*(p - z) - y", "z": "x*y - b*z"}
ROBERTSON = {"y1": "-k1*y1 + k3*y2*y3", "y2": "k1*y1 - k2*y2**2 - k3*y2*y3", "y3": "k2*y2**2"}


class Case(NamedTuple):
    name: str
    problem: ctrnn.Problem
    how: dict[str, Any]


def equations(t1: float, integral: bool, stiff: bool) -> ctrnn.Problem:
    at = None if integral else np.linspace(0.0, t1, 11)[1:]
    objective = ctrnn.Objective("squared_error", target=0.1, at=at)
    if stiff:
        field = ctrnn.Equations(ROBERTSON, {"k1": 0.04, "k2": 3e7, "k3": 1e4})
        return ctrnn.Problem(field, [1.0, 0.0, 0.0], (0.0, t1), objective=objective)
    field = ctrnn.Equations(LORENZ, {"s": 10.0, "p": 28.0, "b": 8.0 / 3.0})
    return ctrnn.Problem(field, [1.0, 2.0, 20.0], (0.0, t1), objective=objective)


def network(n: int, t1: float, integral: bool) -> ctrnn.Problem:
    at = None if integral else np.linspace(0.0, t1, 11)[1:]
    objective = ctrnn.Objective("squared_error", target=0.1, at=at)
    r0 = np.random.default_rng(0).normal(size=n)
    return ctrnn.Problem(ctrnn.RateNetwork(n, gain=1.2, seed=0), r0, (0.0, t1), objective=objective)


def cases(units: list[int], steps: list[int]) -> Iterator[Case]:
    for T in steps:
        for integral in (False, True):
            what = "integral" if integral else "observed"
            rk4 = {"solver": "rk4", "dt": 0.005}
            yield Case(f"Lorenz, rk4, T = {T}, {what}", equations(0.005 * T, integral, False), rk4)
            for n in units:
                rk4 = {"solver": "rk4", "dt": 0.05}
                yield Case(f"n = {n}, rk4, T = {T}, {what}", network(n, 0.05 * T, integral), rk4)
    for integral in (False, True):
        what = "integral" if integral else "observed"
        for t1 in (10.0, 100.0):
            yield Case(f"Lorenz, tsit5, t = {t1:g}, {what}", equations(t1, integral, False), {"rtol": 1e-8})
        yield Case(
            f"Robertson, kvaerno5, {what}",
            equations(4e4, integral, True),
            {"solver": "kvaerno5", "rtol": 1e-7, "atol": 1e-11},
        )
        for n in units:
            for t1 in (10.0, 200.0):
                yield Case(f"n = {n}, tsit5, t = {t1:g}, {what}", network(n, t1, integral), {"rtol": 1e-7})
            if n <= 64:
                yield Case(
                    f"n = {n}, kvaerno5, {what}", network(n, 20.0, integral), {"solver": "kvaerno5", "rtol": 1e-6}
                )


def resident(clear: bool = False) -> int:
    """Peak resident bytes of this process; ``clear`` sets the peak to what is resident now."""
    if clear:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measured(case: Case, method: str, rounds: int, clock: Callable[[], float]) -> tuple[float, float | None]:
    """Seconds and bytes; raises ctrnn's errors."""
    taken = []
    for _ in range(1 + rounds):
        began = clock()
        ctrnn.gradient(case.problem, method, **case.how)
        taken.append(clock() - began)
        if taken[-1] > 1.0:
            break
    if method in TORCH:
        try:
            before = resident(clear=True)
            ctrnn.gradient(case.problem, method, **case.how)
            peak = resident() - before
            return min(taken), float(peak) if peak > 10e6 else None  # less is lost in what the allocator holds already
        except OSError:
            return min(taken), None
    tracemalloc.start()
    try:
        ctrnn.gradient(case.problem, method, **case.how)
        return min(taken), float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[4, 16, 64, 128, 256])
    parser.add_argument("--steps", type=int, nargs="+", default=[200, 2000, 20_000])
    parser.add_argument("--methods", nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=3.0, help="longest predicted time that is run")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="largest predicted memory that is run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--wrong", action="store_true", help="print only what is off by more than a factor of 2")
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="measure seconds on the processor: for a machine that is busy with other things",
    )
    options = parser.parse_args()
    clock = time.thread_time if options.cpu else time.perf_counter
    warnings.simplefilter("ignore")
    table = Table(
        "case", "method", "time", "measured", "ratio", "memory", "measured", "ratio", box=None, pad_edge=False
    )
    ratios: dict[str, list[tuple[float, float | None]]] = {}
    left = 0
    for case in cases(options.units, options.steps):
        for row in ctrnn.plan(case.problem, **case.how):
            if row.time is None or row.memory is None or (options.methods and row.method not in options.methods):
                continue
            if row.time > options.seconds or row.memory > 1e9 * options.gigabytes:
                left += 1
                continue
            try:
                seconds, peak = measured(case, row.method, options.rounds, clock)
            except ctrnn.errors.CtrnnError:
                continue
            slow, big = row.time / seconds, None if peak is None else row.memory / peak
            ratios.setdefault(row.method, []).append((slow, big))
            if options.wrong and 0.5 <= slow <= 2.0 and (big is None or 0.5 <= big <= 2.0):
                continue
            cells = ["–", "–"] if peak is None or big is None else [f"{peak / 1e6:.3g} MB", f"{big:.2f}"]
            times = [f"{row.time * 1e3:.3g} ms", f"{seconds * 1e3:.3g} ms", f"{slow:.2f}"]
            table.add_row(case.name, row.method, *times, f"{row.memory / 1e6:.3g} MB", *cells)
    console = Console(width=140)
    console.print(table)
    every = [pair for pairs in ratios.values() for pair in pairs]
    for name, pairs in [*ratios.items(), ("all", every)]:
        off, more = [a for a, _ in pairs], [b for _, b in pairs if b is not None]
        console.print(f"{name:<22} time {_share(off)}   memory {_share(more)}")
    console.print(f"{left} beyond {options.seconds:g} s or {options.gigabytes:g} GB, not run")


def _share(ratios: list[float]) -> str:
    good = sum(0.5 <= ratio <= 2.0 for ratio in ratios)
    middle = np.median(ratios) if ratios else np.nan
    return f"{good:4d} of {len(ratios):4d} within a factor of 2 (median ratio {middle:.2f})"


if __name__ == "__main__":
    main()
