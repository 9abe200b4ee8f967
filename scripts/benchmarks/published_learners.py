"""Online learners on Mackey–Glass and Lorenz, beside published numbers: how well each rule learns, not how near it is.

    python scripts/benchmarks/published_learners.py run.csv --seeds 0 1 2 3 4     runs what run.csv lacks, a row each
    python scripts/benchmarks/published_learners.py run.csv --table               the table of what is there
    python scripts/benchmarks/published_learners.py run.csv --fidelity            cosine and error along one trajectory

A tanh network of form "rate" with dt = tau (r⁺ = tanh(W r + U x + b)), 64 units, 8 lanes; W and U uniform in ±1/√64, b
0; a linear read-out beside; Adam at 1e-3; an update at each step; the state is reset every 200 steps; the target is the
next value of the first coordinate, 15,000 steps. A record is the mean squared error of 250 steps over the variance of
the series; what counts is the mean of the last five. Series are standardised, and each lane has one of its own.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np

import ctrnn
from ctrnn.learning import OnlineLearner, tasks

UNITS, LANES, STEPS, RESET, RECORD, LAST = 64, 8, 15_000, 200, 250, 5
METHODS = {
    "exact": {"method": "rtrl"},
    "SnAp-1": {"method": "snap-1"},
    "RFLO": {"method": "rflo", "feedback": "random"},
    "RFLO, exact feedback": {"method": "rflo"},
    "UORO": {"method": "uoro"},
    "truncated (25)": {"method": ctrnn.TruncatedBPTT(window=25)},
}
TASKS = {
    "Mackey–Glass": lambda seed: tasks.mackey_glass(trials=LANES, steps=STEPS, seed=seed),
    "Lorenz": lambda seed: tasks.lorenz(trials=LANES, steps=STEPS, dt=0.05, seed=seed),
}
#: as published, mean and spread over seeds
PUBLISHED = {
    "Mackey–Glass": {
        "exact": "0.018 ± 0.022",
        "SnAp-1": "0.0050 ± 0.0010",
        "RFLO": "0.057",
        "UORO": "0.050",
        "truncated (25)": "0.008",
    },
    "Lorenz": {"exact": "0.0051 ± 0.0040", "SnAp-1": "0.0024 ± 0.0008", "RFLO": "0.044"},
}
COLUMNS = ("task", "method", "seed", "nmse", "seconds")


def start(seed: int) -> tuple[ctrnn.RateNetwork, ctrnn.Readout]:
    """The network and the read-out of a seed."""
    rng = np.random.default_rng(seed)

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-1.0, 1.0, shape) / np.sqrt(UNITS)

    field = ctrnn.RateNetwork(UNITS, inputs=1, form="rate", tau=1.0)
    field = field.with_parameters(W=uniform(UNITS, UNITS), U=uniform(UNITS, 1), b=np.zeros(UNITS))
    return field, ctrnn.Readout(uniform(1, UNITS))


def run(task: str, method: str, seed: int) -> tuple[float, float]:
    """NMSE and seconds of one run."""
    data = TASKS[task](seed).stream(LANES)
    field, readout = start(seed)
    learner = OnlineLearner(
        field, optimizer="adam", lr=1e-3, readout=readout, batch=LANES, seed=seed, drift_window=0, **METHODS[method]
    )
    began = time.perf_counter()
    table = learner.run(data.x, data.y, record_every=RECORD, reset_every=RESET)
    # ℓ is half the squared error
    return float(2.0 * table.loss[-LAST:].mean() / data.y.var()), time.perf_counter() - began


def persistence(task: str) -> float:
    """NMSE of saying that the next value is the present one."""
    data = TASKS[task](0)
    return float(np.mean((data.y - data.x) ** 2) / data.y.var())


def rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(path: Path) -> str:
    """Ours beside theirs, in Markdown."""
    found = rows(path)
    lines = ["| task | rule | NMSE here, mean ± sd | seeds | published | s a run |", "|---|---|---|---|---|---|"]
    for task in TASKS:
        for method in METHODS:
            mine = [row for row in found if row["task"] == task and row["method"] == method]
            if mine:
                e = np.array([float(row["nmse"]) for row in mine])
                spread = f" ± {e.std(ddof=1):.4f}" if e.size > 1 else ""
                seconds = np.median([float(row["seconds"]) for row in mine])
                theirs = PUBLISHED[task].get(method, "")
                lines.append(f"| {task} | {method} | {e.mean():.4f}{spread} | {e.size} | {theirs} | {seconds:.0f} |")
        lines.append(f"| {task} | the value before | {persistence(task):.4f} | | | |")
    return "\n".join(lines)


def fidelity(steps: int) -> None:
    """Cosine and relative error of all rules along the exact rule's own way through weights."""
    methods = ["snap-1", "rflo", "uoro", METHODS["truncated (25)"]["method"], "kf-rtrl", ctrnn.Sketch(8)]
    for task in TASKS:
        data = TASKS[task](0).steps(0, steps).stream(LANES)
        field, readout = start(0)
        print(task)
        print(
            ctrnn.learning.compare_learners(
                field, data.x, data.y, methods, readout=readout, weights="exact", lr=1e-3, window=200, reset_every=RESET
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--fidelity", type=int, nargs="?", const=2000, metavar="STEPS")
    given = parser.parse_args()
    if given.fidelity:
        fidelity(given.fidelity)
    if given.table or given.fidelity:
        print(table(given.path))
        return
    there = {(row["task"], row["method"], row["seed"]) for row in rows(given.path)}
    for seed in given.seeds:
        for task in given.tasks:
            for method in given.methods:
                if (task, method, str(seed)) in there:
                    continue
                nmse, seconds = run(task, method, seed)
                print(f"{task}, {method}, seed {seed}: {nmse:.5f} in {seconds:.0f} s", flush=True)
                is_new = not given.path.exists()
                with given.path.open("a", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    if is_new:
                        writer.writerow(COLUMNS)
                    writer.writerow([task, method, seed, nmse, seconds])


if __name__ == "__main__":
    main()
