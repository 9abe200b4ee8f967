"""How accurate the gradient of an adaptive run is, and its cost: python scripts/benchmarks/accuracy.py [solver …]

The problems of tests/accuracy.py, whose gradients are known to twelve digits. For each tolerance: on how many problems
the error of the gradient is above 100 rtol, with steps that answer for the state alone and for the sensitivity too; how
many warned; and what the second costs on the problems that the first gets right, in evaluations of F.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from accuracy import PROBLEMS, reference, relative_error

import ctrnn
from ctrnn.errors import CtrnnError, GradientAccuracyWarning
from ctrnn.solvers import tableaus


def row(solver: str, rtol: float) -> tuple[str, ...]:
    off, cost, warned = {"state": 0, "all": 0}, [], 0
    for its in PROBLEMS:
        calls, right = {}, {}
        for control in ("state", "all"):
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                how = {"solver": solver, "rtol": rtol, "atol": rtol / 100, "error_control": control}
                try:
                    g = ctrnn.gradient(its.make(), "adjoint", **how)
                except CtrnnError:
                    off[control] += 1
                    continue
            right[control] = relative_error(g, reference(its.name)) < 100 * rtol
            calls[control] = g.stats.evaluations
            off[control] += not right[control]
            warned += any(issubclass(w.category, GradientAccuracyWarning) for w in said)
        if right.get("state") and "all" in calls:
            cost.append(calls["all"] / calls["state"])
    numbers = np.median(cost), np.mean(cost), np.max(cost)
    found = f"{len(PROBLEMS)}", f"{off['state']}", f"{off['all']}", f"{warned}"
    return solver, f"{rtol:.0e}", *found, *(f"{x:.2f}" for x in numbers)


def main(solvers: list[str]) -> None:
    table = Table(title="Gradients off by more than 100 rtol, and the cost where they were right before")
    for head in ("solver", "rtol", "problems", "off, state", "off, all", "warned", "cost: median", "mean", "max"):
        table.add_column(head, justify="left" if head == "solver" else "right")
    for solver in solvers or ["tsit5", "dop853", "dopri5", "bs3", "kvaerno5", "kencarp4"]:
        for rtol in (1e-4, 1e-6, 1e-8) if tableaus.get(solver).implicit else (1e-4, 1e-8, 1e-10):
            table.add_row(*row(solver, rtol))
    Console(width=120).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
