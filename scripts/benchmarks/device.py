"""Exact RTRL in torch operations against the compiled kernels, float64 and float32.

    python scripts/benchmarks/device.py [cpu cuda trials]

Workload W(n, 1) of scripts/benchmarks/peers.py: 200 RK4 steps, gradient to W, U and b. Before anything is timed each
gradient is checked against the compiled adjoint, to 1e-10 in float64 and 1e-4 in float32. Rounds are interleaved, times
are medians, or one run where a round takes minutes. "ratio" is the time of the compiled kernels in float64 (on a CUDA
device: of torch in float64 there) over that of the row. "memory" is what numpy allocates at most (tracemalloc) for the
compiled kernels; for torch the count of ctrnn.gradients.recording.torch.carry (a bound, at most a quarter high by the
tests), and on a CUDA device what torch's allocator held at most.

    cpu      n = 64 … 512
    cuda     n = 512 … 2048, where there is a CUDA device: the row for 2048 in float64 is the 4.2 million weights that
             fit into 80 GB
    trials   the adjoint of W(128, 64), 64 trials: compiled, in torch, and on a CUDA device where there is one
"""

from __future__ import annotations

import argparse
import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from peers import DT, INPUTS, STEPS, Workload
from rich.console import Console
from rich.table import Table
from timing import gemm_rate, interleaved, once

import ctrnn
from ctrnn.gradients.recording.torch.carry import peak_bytes, plan_for
from ctrnn.gradients.recording.torch.structure import size_of

SIZES = {"cpu": (64, 128, 256, 512), "cuda": (512, 1024, 2048)}
BOUND = {"float64": 1e-10, "float32": 1e-4}
#: seconds of a round from which one is enough
LONG = 120.0


@dataclass(frozen=True)
class Row:
    section: str
    where: str
    program: str
    seconds: float
    ratio: float
    error: float
    memory: float | None


def run(work: Workload, method: object) -> np.ndarray:
    return ctrnn.gradient(work.problem, method, solver="rk4", dt=DT).vector


def distance(found: np.ndarray, exact: np.ndarray, name: str, dtype: str) -> float:
    off = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    if not off < BOUND[dtype]:
        raise SystemExit(f"{name} does not compute the same: {off:.1e} relative")
    return off


def compare(
    section: str, where: str, work: Workload, methods: dict[str, object], counted: dict[str, float], budget: float
) -> Iterator[Row]:
    """Check, then time; the first method is what the others are compared with."""
    exact = run(work, "adjoint")
    errors, memory, first = {}, {}, {}
    for name, method in methods.items():
        dtype = "float32" if "float32" in name else "float64"
        if "compiled" in name:
            tracemalloc.start()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        errors[name] = distance(run(work, method), exact, name, dtype)
        if "compiled" in name:
            memory[name] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        elif "cuda" in name:
            memory[name] = torch.cuda.max_memory_allocated()
        elif name in counted:
            memory[name] = counted[name]
        first[name] = once(lambda method=method: run(work, method))  # type: ignore[misc]
    programs = {name: partial(run, work, method) for name, method in methods.items()}
    taken = first if sum(first.values()) > LONG else interleaved(programs, budget)
    base = next(iter(taken.values()))
    for name, seconds in taken.items():
        yield Row(section, where, name, seconds, base / seconds, errors[name], memory.get(name))


def on_cpu(budget: float) -> Iterator[Row]:
    for n in SIZES["cpu"]:
        methods: dict[str, object] = {"compiled float64": ctrnn.RTRL()}
        counted = {}
        for dtype, item in (("float64", 8), ("float32", 4)):
            plan = plan_for(n, n + INPUTS + 1, 4, STEPS, item)
            methods[f"torch {dtype}"] = ctrnn.RTRL(device="cpu", dtype=dtype)
            counted[f"torch {dtype}"] = peak_bytes(size_of(Workload.of(n).problem.field), 4, plan, item)
        yield from compare("cpu", str(n), Workload.of(n), methods, counted, budget)


def on_cuda(budget: float) -> Iterator[Row]:
    for n in SIZES["cuda"]:
        methods: dict[str, object] = {f"cuda {dtype}": ctrnn.RTRL(device="cuda", dtype=dtype) for dtype in BOUND}
        yield from compare("cuda", str(n), Workload.of(n), methods, {}, budget)


def of_trials(budget: float, n: int = 128, B: int = 64) -> Iterator[Row]:
    methods: dict[str, object] = {"compiled float64": ctrnn.Adjoint()}
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for dtype in BOUND:
            name = f"torch {dtype}" if device == "cpu" else f"cuda {dtype}"
            methods[name] = ctrnn.Adjoint(device=device, dtype=dtype)
    yield from compare("trials", f"{n}, {B} trials", Workload.of(n, B), methods, {}, budget)


SECTIONS = {"cpu": on_cpu, "cuda": on_cuda, "trials": of_trials}


def report(found: list[Row], console: Console) -> None:
    table = Table(
        title=f"RTRL ({STEPS} RK4 steps), adjoint of trials; {os.cpu_count()} cores, float64 products "
        f"{gemm_rate() / 1e9:.0f} GFLOP/s"
    )
    for column in ("section", "n", "program", "time / ms", "ratio", "off", "memory / MB"):
        table.add_column(column, justify="left" if column in ("section", "program") else "right")
    before = ""
    for row in found:
        if row.section + row.where != before:
            table.add_section()
        before = row.section + row.where
        memory = "" if row.memory is None else f"{row.memory / 1e6:,.0f}"
        table.add_row(
            row.section,
            row.where,
            row.program,
            f"{1e3 * row.seconds:,.0f}",
            f"{row.ratio:.2f}",
            f"{row.error:.0e}",
            memory,
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), help=", ".join(SECTIONS))
    parser.add_argument("--seconds", type=float, default=10.0, help="for the rounds of one size")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of units instead of those above")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if arguments.sizes:
        SIZES.update(dict.fromkeys(SIZES, tuple(arguments.sizes)))
    console = Console(width=120)
    found: list[Row] = []
    for name in arguments.sections:
        if name == "cuda" and not torch.cuda.is_available():
            console.print("torch finds no CUDA device: the section 'cuda' is left out")
            continue
        for row in SECTIONS[name](arguments.seconds):
            console.print(f"{row.section} {row.where}: {row.program} {1e3 * row.seconds:.4g} ms", style="dim")
            found.append(row)
    report(found, console)


if __name__ == "__main__":
    main()
