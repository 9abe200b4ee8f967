"""``ctrnn compare``: gradient methods side by side."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

import ctrnn
from ctrnn.cli.job import Job, experiment_command
from ctrnn.experiment.methods import gradient_method, gradient_methods
from ctrnn.experiment.relocate import in_file_words
from ctrnn.gradients.costs import in_bytes, in_seconds

#: The columns that go first where the terminal is narrow, and their order.
SPARE = ("memory", "F evals", "time", "loss", "error")


def compare(job: Job, certify: bool = False) -> None:
    """Gradient methods side by side: digits of agreement, time, memory, evaluations."""
    experiment = job.experiment
    reference = gradient_method(experiment.require("compare").reference)
    problem, methods = experiment.problem, gradient_methods(experiment.spec, "compare")
    with experiment.solving(method=("compare", "methods"), reference=("compare", "reference")):
        options = experiment.limited_solver | {"reference": reference, "certify": certify}
        comparison = ctrnn.compare_gradients(problem, methods=methods, **options)
    job.results["comparison"] = comparison
    job.summary["compare"] = {
        row.method: {"failure": row.failure}
        if row.gradient is None
        else {
            "loss": row.gradient.loss,
            "digits": row.digits,
            "reference": row.is_reference,
            "seconds": row.time,
            "bytes": row.memory,
            "evaluations": row.gradient.stats.evaluations,
            "error": row.error,
        }
        for row in comparison
    }
    if comparison.certificate is not None:
        numbers = {k: v for k, v in vars(comparison.certificate).items() if k != "reference"}
        job.summary["certificate"] = {"method": comparison.certified, **numbers}
    _print(job, comparison)


def _print(job: Job, comparison: Any) -> None:
    columns = ["method", "loss", "digits", "error", "time", "memory", "F evals"]
    if not comparison.route:
        columns.remove("error")
    for spare in ("", *SPARE):
        columns = [column for column in columns if column != spare]
        table = _table(comparison, columns)
        wide = job.console.options.update(max_width=1000)
        if job.console.measure(table, options=wide).maximum <= job.console.width:
            break
    job.console.print(table)
    for row in comparison:
        if row.gradient is None:
            job.console.print(f"{row.method}: {in_file_words(row.failure)}", markup=False)
    job.console.print(f"digits: −log10 of the relative distance to the reference, {comparison.reference}", markup=False)
    for line in comparison.remarks:
        job.console.print(line, markup=False)
    job.console.print()


def _table(comparison: Any, columns: list[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=column != "method")
    for row in comparison:
        table.add_row(*(_cell(row, column) for column in columns))
    return table


def _cell(row: Any, column: str) -> str:
    if column == "method":
        return str(row.method)
    if row.gradient is None:
        return "failed" if column == "digits" else ""
    if column == "loss":
        return f"{row.gradient.loss:.10g}"
    if column == "digits":
        return "ref." if row.is_reference else f"{row.digits:.1f}"
    if column == "error":
        return "–" if row.error is None else f"{row.error:.0e}"
    if column == "time":
        return in_seconds(row.time)
    if column == "memory":
        return "–" if row.memory is None else in_bytes(row.memory)
    return str(row.gradient.stats.evaluations)


CERTIFY = "Estimate each gradient's own error too, by an independent route, and how far chaos lets it mean anything."
command = experiment_command("compare", click.option("--certify", is_flag=True, help=CERTIFY))(compare)
