"""``ctrnn fixed-points``: all points of rest that many starts lead to."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

import ctrnn
from ctrnn.analysis.fixed_point_table import FixedPoints
from ctrnn.cli.job import Job, experiment_command
from ctrnn.experiment.boxes import starts
from ctrnn.experiment.schema import FixedPointsSpec
from ctrnn.files import atomic_path

SHOWN = 20  # rows of the printed table


def fixed_points(job: Job) -> None:
    """Points of rest: kind, growing modes, time constants and frequencies, from many starts at once."""
    problem, table = job.problem, search(job)
    spec = job.experiment.spec.fixed_points or FixedPointsSpec()
    job.results["fixed_points"] = table
    table.save(job.path("fixed_points.npz"))
    _write_csv(job, table)
    job.summary["fixed_points"] = {
        "starts": spec.starts,
        "lost": table.lost,
        "points": [
            {
                "kind": row.kind, "stable": row.stable, "index": row.index, "speed": row.speed,
                "reached": int(count), "eigenvalues": row.eigenvalues[:8], "x": row.x,
                "r": row.r if row.r.size > 12 else dict(zip(row.names, row.r, strict=True)),
            }
            for row, count in zip(table, table.reached, strict=True)
        ],
    }  # fmt: skip
    names = problem.field.state_names[:4]
    inputs = problem.field.input_names if spec.x and problem.field.input_size <= 2 else ()
    columns = ("", *inputs, "kind", "growing", "slowest time constant", "frequency", "speed", "starts", *names)
    rows = [
        (
            i, *([float(v) for v in row.x] if inputs and row.x is not None else []), row.kind, row.index,
            _slowest(row), float(np.abs(row.eigenvalues[0].imag) / (2 * np.pi)), float(row.speed), int(count),
            *(float(v) for v in row.r[: len(names)]),
        )
        for i, (row, count) in enumerate(zip(table, table.reached, strict=True))
    ]  # fmt: skip
    more = f"; the first {SHOWN} of them" if len(rows) > SHOWN else ""
    title = f"{len(table)} points of rest from {spec.starts} starts, {table.lost} led to none{more}"
    job.table(title, columns, rows[:SHOWN])


def search(job: Job) -> FixedPoints:
    """The points of rest, from the starts that [fixed_points] names, or usual ones."""
    experiment, problem = job.experiment, job.problem
    spec = experiment.spec.fixed_points or FixedPointsSpec()
    run = job.at_hand(problem)
    if spec.box is None and run is None:
        with experiment.solving():
            run = ctrnn.simulate(problem.replace(objective=None), save_at=experiment.grid, **experiment.limited_solver)
    states = run.r if run is not None else problem.r0[None]
    held = experiment.held
    x: Any = held["x"] if spec.x is None else np.asarray(spec.x)
    with experiment.at("fixed_points"):
        found = starts(states, spec.starts, spec.scatter, spec.box, spec.seed)
        table: FixedPoints = ctrnn.analysis.fixed_points(problem.field, found, x, slow=spec.slow, t=held["t"])
    return table


def _slowest(row: Any) -> float:
    """The time constant of the mode that decays, or grows, most slowly."""
    rates = np.abs(row.eigenvalues.real)
    with np.errstate(divide="ignore"):
        return float(1.0 / rates.min())


def _write_csv(job: Job, table: FixedPoints) -> None:
    field = job.problem.field
    with atomic_path(job.path("fixed_points.csv")) as temporary, temporary.open("w", encoding="utf-8") as f:
        inputs = field.input_names[: table.x.shape[1]]
        f.write(",".join(["kind", "stable", "index", "speed", "abscissa", *inputs, *_quoted(field.state_names)]) + "\n")
        for row in table:
            numbers = [row.speed, row.abscissa, *(row.x if row.x is not None else ()), *row.r]
            words = [row.kind, str(row.stable).lower(), str(row.index)]
            f.write(",".join([*words, *(repr(float(v)) for v in numbers)]) + "\n")


def _quoted(names: Any) -> list[str]:
    """Names such as "W[0,1]" hold a comma."""
    return [json.dumps(name) if "," in name else name for name in names]


command = experiment_command("fixed-points")(fixed_points)
