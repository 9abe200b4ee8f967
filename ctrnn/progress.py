"""Progress of long work, without the library knowing who watches.

Library code says ``with track(total, "fit") as update: ... update(done)``. That costs nothing and prints nothing
unless a program, such as the command line, called :func:`enable` and standard error is a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_enabled = False


def enable(on: bool = True) -> None:
    """Let :func:`track` draw bars on standard error, where that is a terminal."""
    global _enabled
    _enabled = on


@contextmanager
def track(total: float, label: str) -> Iterator[Callable[[float], None]]:
    """A bar for work of size ``total`` (steps, time units, iterations); gives ``update(done)``.

    Inside another bar it stays silent: one bar at a time.

    >>> with track(10, "solve") as update:
    ...     update(5)
    """
    if not (_enabled and sys.stderr.isatty()):
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    enable(False)  # an inner track() must not fight for the same line
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.update(task, completed=done)
    finally:
        enable(True)


def _ignore(done: float) -> None:
    """Nobody watches."""
