"""What the commands on an experiment share: their options, and a job that gathers results."""

from __future__ import annotations

import functools
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ctrnn import progress
from ctrnn.cli.figures import draw
from ctrnn.cli.folder import UNFINISHED, Folder
from ctrnn.experiment.build import Experiment
from ctrnn.experiment.drawable import steps_of
from ctrnn.experiment.relocate import in_file_words
from ctrnn.experiment.verify import verify
from ctrnn.files import atomic_path

OUT = (
    "Folder of the results, by default results/NAME for run, results/NAME/COMMAND for a single step. "
    "Results of an earlier run in it are replaced."
)
EXPERIMENT = "EXPERIMENT is a TOML file, or the name of a shipped experiment (`ctrnn examples` lists them)."
SET = "Override a key of the file, as solver.rtol=1e-6; may be repeated."
PIPED = 140  # columns, where no terminal and no COLUMNS says


class Job:
    """One call of a command: the experiment, what was computed so far, and where it goes.

    ``steps`` are those that the command takes. ``results`` holds the library's objects by step (``run``, ``gradient``,
    ``comparison``, ``fits`` and their solutions ``fitted``, ``equilibrium``, ``fixed_points``, ``portrait``,
    ``branch``, ``cycle``, ``lyapunov``, ``training``), ``summary`` the numbers of ``summary.json``.
    """

    def __init__(
        self, command: str, name: str, overrides: Sequence[str], out: Path | None, figures: bool, quiet: bool
    ) -> None:
        self.command, self.experiment = command, Experiment(name, overrides)
        self.steps = steps_of(self.experiment.spec) if command == "run" else [command.replace("-", "_")]
        # a single step does not replace the results of `run`
        usual = Path("results") / self.experiment.name
        self.folder = Folder(out or (usual if command == "run" else usual / command))
        self.draw, self.quiet = figures, quiet
        self.results: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.warnings: list[str] = []
        # a table that goes into a file or a pipe is not to be folded at 80 columns
        width = None if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal() else PIPED
        self.console = Console(width=width, quiet=quiet, highlight=False)

    def start(self, resume: bool = False) -> None:
        """Check all that the steps will use, then clear the folder of the results, unless they are resumed."""
        verify(self.experiment, self.steps)
        if self.experiment.left_out:
            self.warn(_left_out(self.experiment))
        source = self.experiment.source
        about = {"experiment": self.experiment.name, "file": source.name, "overrides": self.experiment.overrides}
        self.folder.begin({**about, "command": self.command}, resume)

    @property
    def problem(self) -> Any:
        """The fitted problem, the first one's after several fits; before a fit that of the file."""
        fits = self.results.get("fits")
        return next(iter(fits.values())).problem if fits else self.experiment.problem

    def at_hand(self, problem: Any) -> Any:
        """The solution on the fine grid, of the file's problem or of a fitted one, where a step has found it."""
        if problem is self.experiment.problem:
            return self.results.get("run")
        fits = self.results.get("fits", {})
        return next((self.results["fitted"][name] for name, one in fits.items() if problem is one.problem), None)

    def path(self, name: str) -> Path:
        """A file of the results, noted for the list at the end."""
        return self.folder.file(name)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print a table; numbers to the right."""
        self.console.print(title, markup=False)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for k, column in enumerate(columns):
            numbers = any(isinstance(row[k], int | float) for row in rows)
            table.add_column(escape(column), justify="right" if numbers else "left")
        for row in rows:
            table.add_row(*(f"{v:.7g}" if isinstance(v, float) else escape(str(v)) for v in row))
        self.console.print(table)
        self.console.print()

    def finish(self) -> None:
        """Draw the figures, write ``summary.json``, and say where everything is."""
        if self.draw:
            draw(self)
        self.folder.finish(plain({**self.summary, **({"warnings": self.warnings} if self.warnings else {})}))
        if not self.quiet:
            for file in self.folder.files:
                click.echo(str(file))

    def warn(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """A warning as a line on standard error, said once and without the place in the source."""
        text = in_file_words(str(message))
        if text not in self.warnings:
            self.warnings.append(text)
            click.echo(f"warning: {text}", err=True)

    def broken_off(self) -> None:
        """Say which files there are of a run that did not come to its end."""
        there = [file.name for file in self.folder.files if file.is_file()]
        if there:
            what = f"of the steps before: {', '.join(there)}"
            click.echo(f"not finished; in {self.folder.path} are the files {what} (and {UNFINISHED})", err=True)


def _left_out(experiment: Experiment) -> str:
    assert experiment.data is not None
    used, t_span = len(experiment.data.t), experiment.t_span
    return (
        f"{experiment.left_out} of {used + experiment.left_out} rows of the data lie outside problem.t_span = "
        f"[{t_span[0]:g}, {t_span[1]:g}] and are left out; {used} are used"
    )


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


def experiment_command(name: str, *options: Callable[..., Any]) -> Callable[[Callable[..., None]], click.Command]:
    """Make ``step(job)`` the command ``name``, with the options that all such commands have.

    ``options`` are its own; their values are passed to the step as keywords.
    """

    def wrap(step: Callable[..., None]) -> click.Command:
        @click.command(name, help=f"{step.__doc__}\n\n{EXPERIMENT}")
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
            **own: Any,
        ) -> None:
            progress.enable(not quiet)
            progress.silence(quiet)
            job = Job(name, experiment, overrides, out, not no_figures, quiet)
            job.start(bool(own.get("resume")))
            with warnings.catch_warnings():
                warnings.showwarning = job.warn
                try:
                    step(job, **own)
                    job.finish()
                except BaseException:  # Ctrl-C too
                    job.broken_off()
                    raise

        for option in options:
            command = option(command)
        return command

    return wrap
