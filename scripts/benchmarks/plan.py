"""What ctrnn.plan counts against what is measured: memory, and whether one rate would tell the time.

    python scripts/benchmarks/plan.py

Equations of three states (Lorenz; Robertson for the stiff solver) and rate networks of 4 to 256 units, from 200 to
20,000 steps: fixed steps of rk4, adaptive ones of tsit5 and of kvaerno5, with ten observations and with an integral.
Methods whose counted flops or memory are beyond the limits are not run. Memory is the peak of what numpy and Python
allocate (tracemalloc), and for torch, which that does not see, how far the process's peak of resident memory rises
(Linux only); aim: within a factor of 2. Time is the least of the rounds, after one to load and compile; the last lines
say in how many cases the best single rate, in flop/s, tells it within a factor of 3: too few, so that the plan shows
flops and no seconds.
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
    parser.add_argument("--gigaflops", type=float, default=20.0, help="most flops that are run")
    parser.add_argument("--torch-steps", type=int, default=3000, help="most steps that go through torch")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="largest counted memory that is run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--wrong", action="store_true", help="print only memory that is off by more than a factor of 2")
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="measure seconds on the processor: for a machine that is busy with other things",
    )
    options = parser.parse_args()
    clock = time.thread_time if options.cpu else time.perf_counter
    warnings.simplefilter("ignore")
    table = Table(
        "case", "method", "flops", "seconds", "Gflop/s", "memory", "measured", "ratio", box=None, pad_edge=False
    )
    found: dict[str, list[tuple[float, float | None]]] = {}
    left = 0
    for case in cases(options.units, options.steps):
        planned = ctrnn.plan(case.problem, **case.how)
        for row in planned:
            if row.flops is None or row.memory is None or (options.methods and row.method not in options.methods):
                continue
            slow = row.method in TORCH and planned.steps > options.torch_steps
            if slow or row.flops > 1e9 * options.gigaflops or row.memory > 1e9 * options.gigabytes:
                left += 1
                continue
            try:
                seconds, peak = measured(case, row.method, options.rounds, clock)
            except ctrnn.errors.CtrnnError:
                continue
            big = None if peak is None else row.memory / peak
            found.setdefault(row.method, []).append((row.flops / seconds, big))
            if options.wrong and (big is None or 0.5 <= big <= 2.0):
                continue
            cells = ["–", "–"] if peak is None or big is None else [f"{peak / 1e6:.3g} MB", f"{big:.2f}"]
            rate = [f"{row.flops:.1e}", f"{seconds:.3g}", f"{row.flops / seconds / 1e9:.2g}"]
            table.add_row(case.name, row.method, *rate, f"{row.memory / 1e6:.3g} MB", *cells)
    console = Console(width=140)
    console.print(table)
    every = [pair for pairs in found.values() for pair in pairs]
    for name, pairs in [*found.items(), ("all", every)]:
        memory = [big for _, big in pairs if big is not None]
        good = sum(0.5 <= ratio <= 2.0 for ratio in memory)
        console.print(f"{name:<22} memory within a factor of 2: {good} of {len(memory)};  {_one_rate(pairs)}")
    console.print(f"{left} beyond the limits, not run")


def _one_rate(pairs: list[tuple[float, float | None]]) -> str:
    """How often the best single rate tells the time within a factor of 3."""
    rates = np.array([rate for rate, _ in pairs])
    told = [int((np.abs(np.log(rates / one)) <= np.log(3.0)).sum()) for one in rates]
    best = int(np.argmax(told))
    return f"time by one rate, {rates[best] / 1e9:.2g} Gflop/s, within a factor of 3: {told[best]} of {rates.size}"


if __name__ == "__main__":
    main()
