"""``ctrnn plan``: what each gradient method would cost, before any of them is run."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

import ctrnn
from ctrnn import progress
from ctrnn.cli.job import PIPED, SET
from ctrnn.experiment.build import Experiment
from ctrnn.experiment.relocate import in_file_words
from ctrnn.gradients.advise.plan import in_runs
from ctrnn.gradients.costs import in_bytes


@click.command("plan")
@click.argument("experiment")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help=SET)
@click.option("--memory", type=click.IntRange(min=1), help="Bytes at hand; the system is asked by default.")
def command(experiment: str, overrides: tuple[str, ...], memory: int | None) -> None:
    """Flops and memory of each gradient method, counted before one is run; writes nothing.

    Fixed steps are counted without a run, adaptive steps by one forward run. The star is on what method "auto" would
    take.

    EXPERIMENT is a TOML file, or the name of a shipped experiment (`ctrnn examples` lists them).
    """
    progress.enable(True)
    e = Experiment(experiment, overrides)
    e.require("objective", "for the gradient")
    with e.solving():
        found = ctrnn.plan(e.problem, memory=memory, **e.limited_solver)
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit() else PIPED
    _print(Console(width=width, highlight=False), found)


def _print(console: Console, found: Any) -> None:
    console.print(found.summary, markup=False)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("", "method", "exact for", "flops", "of a run", "memory", "note"):
        numbers = column in ("flops", "of a run", "memory")
        table.add_column(column, justify="right" if numbers else "left", no_wrap=numbers or column == "method")
    for row in found:
        cells = ["", "", ""]
        if row.flops is not None:
            cells = [f"{row.flops:.1e}", in_runs(row.relative), in_bytes(row.memory)]
        table.add_row("*" if row.method == found.auto else "", row.method, row.exact, *cells, in_file_words(row.note))
    console.print(table)
    console.print(f'* method = "auto" takes {found.auto}: {found.reason}', markup=False)
