"""How much slower with a busy neighbour.

    python scripts/benchmarks/neighbour.py

Another process multiplies matrices on one core without a pause. Where the products inside a loop run on two spinning
BLAS threads, this costs ten times and more (ctrnn.threads); at least half of the machine is left, so a factor of 2 is
what fairness gives, and 2.5 is what we allow ourselves.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from peers import Workload
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_info
from timing import interleaved

import ctrnn

NEIGHBOUR = """
import os
os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")})
import numpy as np
A = np.random.default_rng(0).normal(size=(512, 512))
while True:
    A @ A
"""


def programs() -> dict[str, Callable[[], object]]:
    steps = {"solver": "rk4", "dt": 0.05}
    one, small, many = Workload.of(128).problem, Workload.of(16).problem, Workload.of(64, 16).problem
    return {
        "simulate, n = 128": lambda: ctrnn.simulate(one, **steps),
        "adjoint, n = 16": lambda: ctrnn.gradient(small, "adjoint", **steps),
        "adjoint, n = 128": lambda: ctrnn.gradient(one, "adjoint", **steps),
        "adjoint, n = 64, 16 trials": lambda: ctrnn.gradient(many, "adjoint", **steps),
        "exact RTRL, n = 128": lambda: ctrnn.gradient(one, "rtrl", **steps),
    }


def threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info()]


def main() -> None:
    every = programs()
    for run in every.values():
        run()
    before = threads()
    alone = interleaved(every, budget=10.0)
    neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR])
    try:
        time.sleep(2.0)
        beside = interleaved(every, budget=10.0)
    finally:
        neighbour.kill()
        neighbour.wait()
    table = Table(title="Medians, milliseconds; the neighbour has one core")
    for column in ("program", "alone", "beside it", "ratio"):
        table.add_column(column, justify="left" if column == "program" else "right")
    for name in every:
        ratio = beside[name] / alone[name]
        table.add_row(
            name,
            f"{alone[name] * 1e3:.2f}",
            f"{beside[name] * 1e3:.2f}",
            f"{ratio:.2f}{'' if ratio <= 2.5 else ' MISSED'}",
        )
    Console(width=100).print(table)
    if not np.array_equal(before, threads()):
        raise SystemExit(f"the thread settings were {before} and are {threads()}")


if __name__ == "__main__":
    main()
