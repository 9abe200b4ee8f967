"""Progress of long work, without the library knowing who watches.

Library code says ``with track(total, "fit") as update: ... update(done)``. That costs nothing and
prints nothing unless a program, such as the command line, called :func:`enable` and standard error
is a terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

PATIENCE = 0.5  # seconds without a bar: short work should not flicker

_enabled = False
_silenced = False
_drawn = False  # a bar has the line


def enable(on: bool = True) -> None:
    """Let :func:`track` draw bars on standard error, where that is a terminal."""
    global _enabled
    _enabled = on


def silence(on: bool = True) -> None:
    """Let nothing be said of what is compiled either (ctrnn.kernels.notice)."""
    global _silenced
    _silenced = on


def silenced() -> bool:
    """Whether nothing else is to be written.

    That is so after ``silence``, and while a progress line is drawn: two lines that both redraw themselves would
    flicker.
    """
    return _silenced or _drawn


def terminal() -> bool:
    """Whether somebody may read standard error as it comes: it can be None, closed, or something that is no file."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


def say(text: str) -> None:
    """A line on standard error, where there is one."""
    with suppress(AttributeError, OSError, ValueError):
        sys.stderr.write(f"ctrnn: {text}\n")
        sys.stderr.flush()


def track(total: float, label: str) -> AbstractContextManager[Callable[..., None]]:
    """A bar for work of size ``total`` (steps, time units, iterations); gives ``update(done, note="")``.

    The note stands behind the bar: the loss, steps a second.

    Inside another bar it stays silent: one bar at a time.

    >>> with track(10, "solve") as update:
    ...     update(5)
    """
    return _Bar(total, label) if _enabled and terminal() else _SILENCE


class _Bar:
    """A bar that appears when the work has taken a while."""

    def __init__(self, total: float, label: str) -> None:
        self.total, self.label, self.began = total, label, time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Callable[..., None]:
        enable(False)  # an inner track() must not fight for the same line
        return self.update

    def __exit__(self, *error: object) -> None:
        global _drawn
        enable(True)
        if self.bar is not None:
            _drawn = False
            self.bar.stop()

    def update(self, done: float, note: str = "") -> None:
        if self.bar is None:
            if time.monotonic() - self.began < PATIENCE:
                return
            self._open()
        self.bar.update(self.task, completed=done, note=note)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.bar.add_task(self.label, total=self.total, note="")
        self.bar.start()
        global _drawn
        _drawn = True


def _ignore(done: float, note: str = "") -> None:
    """Nobody watches."""


_SILENCE = nullcontext(_ignore)
