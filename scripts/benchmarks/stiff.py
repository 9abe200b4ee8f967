"""Stiff problems, time against achieved error, with and without all sensitivities: python scripts/benchmarks/stiff.py

Robertson to t = 4e10 (12 outputs, t = 0.4·10ᵏ), van der Pol at mu = 1000 to t = 2000 and HIRES; tolerances from 1e-3 to 1e-10. The error is the
largest over outputs and states, relative to each; for the sensitivities it is that of the gradient of Σ r_i/|r_i(t1)| in the norm, entries times
their parameter's size. References: kvaerno5 at rtol 1e-13, whose end points agree with the published ones (Mazzia & Magherini 2008) to 11
digits (tests/test_stiff.py), and its adjoint at 1e-12.

SciPy's solvers get the compiled F, and Radau, BDF and LSODA the compiled J; their sensitivities are P = dr/dw and S = dr/dr0 integrated beside the state
with the error in the step test, ours the recorded steps' own (RTRL, blocked: P and S are carried along). Times are the best of three.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import ctrnn
from ctrnn.errors import SolverError
from ctrnn.plotting.style import frame, legend_above, save, styled

SOLVERS = ("kencarp4", "kvaerno5", "scipy:Radau", "scipy:BDF", "scipy:LSODA")
TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
PATIENCE = 1.0  # seconds: no tighter tolerance after a run that took longer


@dataclass(frozen=True)
class Case:
    """A problem, its output times, and the absolute tolerance as a part of the relative one."""

    name: str
    field: ctrnn.Equations
    r0: list[float]
    times: np.ndarray
    atol: float

    def problem(self, ends: np.ndarray | None = None) -> ctrnn.Problem:
        objective = None
        if ends is not None:
            loss = " + ".join(f"{s}/{abs(e):.6g}" for s, e in zip(self.field.state_names, ends, strict=True))
            objective = ctrnn.Objective(loss, at=self.times[-1:])
        return ctrnn.Problem(self.field, self.r0, (0.0, float(self.times[-1])), objective=objective)


def cases() -> list[Case]:
    robertson = ctrnn.Equations(
        {"a": "-k1*a + k3*b*c", "b": "k1*a - k2*b**2 - k3*b*c", "c": "k2*b**2"}, {"k1": 0.04, "k2": 3e7, "k3": 1e4}
    )
    van_der_pol = ctrnn.Equations({"y1": "y2", "y2": "mu*(1 - y1**2)*y2 - y1"}, {"mu": 1000.0})
    hires = ctrnn.Equations(
        {
            "y1": "-k1*y1 + k2*y2 + k6*y3 + o",
            "y2": "k1*y1 - (k2 + k3)*y2",
            "y3": "-(k6 + k1)*y3 + k2*y4 + k5*y5",
            "y4": "k3*y2 + k1*y3 - (k4 + k2)*y4",
            "y5": "-(k5 + k1)*y5 + k2*(y6 + y7)",
            "y6": "-p*y6*y8 + k4*y4 + k1*y5 - k2*y6 + q*y7",
            "y7": "p*y6*y8 - (k2 + q + s)*y7",
            "y8": "-p*y6*y8 + (k2 + q + s)*y7",
        },
        {"k1": 1.71, "k2": 0.43, "k3": 8.32, "k4": 0.69, "k5": 0.035, "k6": 8.32, "p": 280.0, "q": 0.69, "s": 0.69,
         "o": 7e-4},
    )  # fmt: skip
    return [
        Case("Robertson", robertson, [1.0, 0.0, 0.0], 0.4 * 10.0 ** np.arange(12), 1e-8),
        Case("van der Pol, mu = 1000", van_der_pol, [2.0, 0.0], np.array([2000.0]), 1e-4),
        Case("HIRES", hires, [1.0, 0, 0, 0, 0, 0, 0, 0.0057], np.array([321.8122]), 1e-4),
    ]


@dataclass(frozen=True)
class Point:
    solver: str
    rtol: float
    error: float
    seconds: float
    steps: int


def best_of_three(call: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    took = []
    for _ in range(3):
        began = time.perf_counter()
        found = call()
        took.append(time.perf_counter() - began)
        if took[-1] > 1.0:
            break
    return found, min(took)


def states(case: Case, solver: str, rtol: float) -> tuple[np.ndarray, int]:
    run = ctrnn.simulate(
        case.problem(), solver, rtol=rtol, atol=rtol * case.atol, save_at=case.times, max_steps=200_000
    )
    return run.r, run.stats.steps


def slopes(case: Case, ends: np.ndarray, solver: str, rtol: float, method: str = "rtrl") -> tuple[np.ndarray, int]:
    """The gradient of Σ r_i/|r_i(t1)|, from all sensitivities, entries times the size of what they belong to."""
    how = {"solver": solver, "rtol": rtol, "atol": rtol * case.atol, "max_steps": 200_000}
    if solver.startswith("scipy"):
        s = ctrnn.sensitivities(case.problem(), case.times, **how)
        rows = np.concatenate([s.p[-1], s.p0[-1]], axis=1)
        # the same rounded weights as in the loss
        g = sum(row / abs(float(f"{abs(e):.6g}")) for row, e in zip(rows, ends, strict=True))
        steps = s.stats.steps
    else:
        found = ctrnn.gradient(case.problem(ends), method, **how)
        g, steps = np.concatenate([found.vector, found.r0]), found.stats.steps
    r0 = np.array(case.r0)
    return g * np.concatenate([np.abs(case.field.vector), np.where(r0 == 0, 1.0, np.abs(r0))]), steps


def work_precision(case: Case, with_sensitivities: bool, console: Console) -> list[Point]:
    ends = states(case, "kvaerno5", 1e-13)[0]
    exact = slopes(case, ends[-1], "kvaerno5", 1e-12, "adjoint")[0] if with_sensitivities else ends
    points = []
    for solver in SOLVERS:
        for rtol in TOLERANCES:
            steps = 0

            def call(solver: str = solver, rtol: float = rtol) -> np.ndarray:
                nonlocal steps
                found, steps = (
                    slopes(case, ends[-1], solver, rtol) if with_sensitivities else states(case, solver, rtol)
                )
                return found

            try:
                call()  # loads what has to be loaded
                found, seconds = best_of_three(call)
            except SolverError as error:
                console.print(f"{case.name}, {solver}, rtol {rtol:g}: {error.reason}")
                break
            if with_sensitivities:
                error = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
            else:
                error = float(np.max(np.abs(found - exact) / np.abs(exact)))
            points.append(Point(solver, rtol, error, seconds, steps))
            if seconds > PATIENCE:
                break
    return points


def report(title: str, points: list[Point], console: Console) -> None:
    table = Table("solver", "rtol", "error", "ms", "steps", title=title)
    for p in points:
        table.add_row(p.solver, f"{p.rtol:.0e}", f"{p.error:.1e}", f"{1e3 * p.seconds:.3g}", str(p.steps))
    console.print(table)


@styled
def draw(results: dict[str, tuple[list[Point], list[Point]]], path: Path) -> None:
    figure, axes = frame(2, len(results), height=2.5, sharex="col")
    for column, (name, both) in enumerate(results.items()):
        for row, points in enumerate(both):
            ax = axes[row * len(results) + column]
            for solver in SOLVERS:
                mine = [p for p in points if p.solver == solver]
                ax.loglog([p.error for p in mine], [1e3 * p.seconds for p in mine], "o-", label=solver)
            if row == 0:
                ax.set_title(name)
            else:
                ax.set_xlabel("relative error")
            if column == 0:
                ax.set_ylabel("time / ms, states" if row == 0 else "time / ms, all sensitivities")
    legend_above(figure, axes[0])
    for ax in axes[: len(results)]:
        ax.invert_xaxis()
    for ax in axes[len(results) :]:
        ax.set_xlim(left=min(1.0, ax.get_xlim()[0]))  # an error of 1 is no result
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", type=Path, default=Path("figures/stiff-work-precision.png"))
    console, results = Console(), {}
    arguments = parser.parse_args()
    for case in cases():
        both = tuple(work_precision(case, with_sensitivities, console) for with_sensitivities in (False, True))
        for title, points in zip((case.name, f"{case.name}, all sensitivities"), both, strict=True):
            report(title, points, console)
        results[case.name] = both
    draw(results, arguments.figure)


if __name__ == "__main__":
    main()
