"""What the commands on an experiment share: their options, and a job that gathers results."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from ctrnn import progress
from ctrnn.errors import UsageError
from ctrnn.experiment.build import Experiment
from ctrnn.files import atomic_path

OUT = "Folder of the results; results/NAME by default."
SET = "Override a key of the file, as solver.rtol=1e-6; may be repeated."


class Job:
    """One call of a command: the experiment, what was computed so far, and where it goes.

    ``results`` holds the library's objects by step (``run``, ``gradient``, ``comparison``,
    ``fits``, ``equilibrium``), ``summary`` the numbers of ``summary.json``.
    """

    def __init__(self, name: str, overrides: Sequence[str], out: Path | None, figures: bool, quiet: bool) -> None:
        self.experiment = Experiment(name, overrides)
        self.overrides = list(overrides)
        self.out = out or Path("results") / self.experiment.name
        self.draw, self.quiet = figures, quiet
        self.results: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.files: list[Path] = []
        # a table that goes into a file or a pipe is not to be folded at 80 columns
        width = None if sys.stdout.isatty() else 140
        self.console = Console(width=width, quiet=quiet, highlight=False)

    def start(self) -> None:
        """Make the folder; an old summary goes, so that a stopped job never looks whole."""
        if self.out.exists() and not self.out.is_dir():
            allowed = "a folder, or a name that is free"
            raise UsageError("--out", given=str(self.out), allowed=allowed)
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "summary.json").unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """A file of the results, noted for the list at the end."""
        path = self.out / name
        if path not in self.files:
            self.files.append(path)
        return path

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print a table; numbers to the right."""
        self.console.print(title, markup=False)
        table = Table(box=None, padding=(0, 2, 0, 0))
        for k, column in enumerate(columns):
            numbers = any(isinstance(row[k], int | float) for row in rows)
            table.add_column(column, justify="right" if numbers else "left")
        for row in rows:
            table.add_row(*(f"{v:.7g}" if isinstance(v, float) else str(v) for v in row))
        self.console.print(table)
        self.console.print()

    def finish(self) -> None:
        """Draw the figures, write ``summary.json``, and say where everything is."""
        if self.draw:
            from ctrnn.cli.figures import draw

            draw(self)
        path = self.path("summary.json")
        content = {
            "experiment": self.experiment.name,
            "file": self.experiment.source.name,
            "overrides": self.overrides,
            **self.summary,
            "files": [file.name for file in self.files],
        }
        with atomic_path(path) as temporary:
            text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        if not self.quiet:
            for file in self.files:
                click.echo(str(file))


def save_npz(path: Path, **arrays: Any) -> None:
    """Named arrays, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as f:
        np.savez(f, **arrays)


def plain(value: Any) -> Any:
    """A value in JSON's types: complex numbers as [re, im], NaN and infinities as null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def experiment_command(name: str) -> Callable[[Callable[[Job], None]], click.Command]:
    """Make ``step(job)`` the command ``name``, with the options that all of these have."""

    def wrap(step: Callable[[Job], None]) -> click.Command:
        @click.command(name, help=step.__doc__)
        @click.argument("experiment")
        @click.option("--out", type=click.Path(path_type=Path), help=OUT)
        @click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help=SET)
        @click.option("--no-figures", is_flag=True, help="Draw no pictures.")
        @click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
        @functools.wraps(step)
        def command(
            experiment: str,
            out: Path | None,
            overrides: tuple[str, ...],
            no_figures: bool,
            quiet: bool,
        ) -> None:
            progress.enable(not quiet)
            job = Job(experiment, overrides, out, not no_figures, quiet)
            job.summary["command"] = name
            job.start()
            step(job)
            job.finish()

        return command

    return wrap
