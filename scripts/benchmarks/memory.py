"""The adjoint in bounded memory against the one that keeps every step, and RTRL, whose memory does not grow.

    python scripts/benchmarks/memory.py

A rate network of 64 units, RK4 steps of 0.05, no input, squared error to 0.1 at ten times (and, as a second case,
integrated), gradient to W and b. Memory is the peak of what numpy and Python allocate during the gradient
(tracemalloc), time the least of the rounds, in which the methods take turns, apart from it. Every gradient is checked
against the plain one. Aims: 100,000 steps in at most 1.5 times the memory of 1,000, and in at most 2.5 times the time
of the plain adjoint.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc

import numpy as np
from rich.console import Console
from rich.table import Table

import ctrnn
from ctrnn import scratch

UNITS, DT = 64, 0.05
SOLVER = {"solver": "rk4", "dt": DT}


def workload(steps: int, integral: bool) -> ctrnn.Problem:
    r0 = np.random.default_rng(0).normal(size=UNITS)
    at = None if integral else np.linspace(0.0, steps * DT, 11)[1:]
    objective = ctrnn.Objective("squared_error", target=0.1, at=at)
    return ctrnn.Problem(ctrnn.RateNetwork(UNITS, gain=1.2, seed=0), r0, (0.0, steps * DT), objective=objective)


def seconds(problem: ctrnn.Problem, methods: dict[str, ctrnn.Adjoint], rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            began = time.perf_counter()
            ctrnn.gradient(problem, method, **SOLVER)
            taken[name].append(time.perf_counter() - began)
    return {name: min(each) for name, each in taken.items()}


def peak(problem: ctrnn.Problem, method: ctrnn.Adjoint | ctrnn.RTRL) -> tuple[ctrnn.Gradient, int]:
    scratch.forget()  # what an earlier call left would not be counted
    tracemalloc.start()
    try:
        found = ctrnn.gradient(problem, method, **SOLVER)
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    methods = {
        "plain": ctrnn.Adjoint(),
        "checkpoint": ctrnn.Adjoint("checkpoint"),
        "checkpoint, 1 MB": ctrnn.Adjoint("checkpoint", memory=1_000_000),
        "checkpoint, 8 snapshots": ctrnn.Adjoint("checkpoint", checkpoints=8),
    }
    for integral in (False, True):
        table = Table(title=f"{UNITS} units, RK4, {'integral' if integral else 'ten observations'}")
        for column in ("steps", "method", "memory", "of fewest steps", "time", "of plain", "F evals a step", "digits"):
            table.add_column(column, justify="left" if column == "method" else "right")
        least: dict[str, int] = {}
        for steps in options.steps:
            problem = workload(steps, integral)
            plain = ctrnn.gradient(problem, methods["plain"], **SOLVER)
            taken = seconds(problem, methods, options.rounds)
            for name, method in methods.items():
                found, bytes_ = peak(problem, method)
                off = np.linalg.norm(found.vector - plain.vector) / np.linalg.norm(plain.vector)
                least.setdefault(name, bytes_)
                table.add_row(
                    f"{steps:,}",
                    name,
                    f"{bytes_ / 1e6:.2f} MB",
                    f"{bytes_ / least[name]:.2f}",
                    f"{taken[name]:.3f} s",
                    f"{taken[name] / taken['plain']:.2f}",
                    f"{found.stats.evaluations / steps:.2f}",
                    "16" if off == 0 else f"{-np.log10(off):.1f}",
                )
        Console(width=110).print(table)
    of_rtrl()


def of_rtrl(steps: tuple[int, ...] = (200, 2_000, 20_000)) -> None:
    """Exact RTRL, checked against the adjoint."""
    table = Table(title=f"{UNITS} units, RK4, ten observations: exact RTRL")
    for column in ("steps", "memory", "digits"):
        table.add_column(column, justify="right")
    for T in steps:
        problem = workload(T, integral=False)
        exact = ctrnn.gradient(problem, ctrnn.Adjoint("checkpoint"), **SOLVER).vector
        ctrnn.gradient(workload(steps[0], integral=False), ctrnn.RTRL(), **SOLVER)
        found, bytes_ = peak(problem, ctrnn.RTRL())
        off = np.linalg.norm(found.vector - exact) / np.linalg.norm(exact)
        table.add_row(f"{T:,}", f"{bytes_ / 1e6:.2f} MB", f"{-np.log10(off):.1f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
