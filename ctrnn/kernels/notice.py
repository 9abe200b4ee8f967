"""A cold compile says what it does: a line on standard error, where that is a terminal, for as long as it takes.

Kernels are compiled once on a machine, some seconds in all. Nothing is said in a pipe or a file, nor when the machine
code is read from disk, nor of the small functions of a new equation.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from numba.core import event

from ctrnn import progress

_showing = Lock()
_cold = False


@contextmanager
def compiling(function: Any, certain: bool = False) -> Iterator[None]:
    """Around the compilation of a Python function, with all that it calls.

    Unless that is ``certain``, it may be read from disk instead, and is mentioned only where something else had to be
    compiled before.
    """
    global _cold
    _cold = _cold or certain
    if not (_cold and progress.terminal()) or progress.silenced() or not _showing.acquire(blocking=False):
        yield
        return
    try:
        from rich.console import Console

        module = sys.modules.get(function.__module__)
        purpose = ((module and module.__doc__) or "").strip().partition("\n")[0].rstrip(".:")
        text = f"compiling, once on this machine: {function.__module__.removeprefix('ctrnn.')} ({purpose})"
        with Console(stderr=True, highlight=False).status(text):
            yield
    finally:
        _showing.release()


class _Dispatchers(event.Listener):
    """Numba's own word of what is compiled as it is first called."""

    def __init__(self) -> None:
        self.open: list[Any] = []

    def on_start(self, told: Any) -> None:
        function = getattr(told.data["dispatcher"], "py_func", None)
        # a function that was made by exec has no module
        if (getattr(function, "__module__", None) or "").startswith("ctrnn."):
            self.open.append((told.data["dispatcher"], compiling(function, certain=True)))
            self.open[-1][1].__enter__()

    def on_end(self, told: Any) -> None:
        if self.open and self.open[-1][0] is told.data["dispatcher"]:
            self.open.pop()[1].__exit__(None, None, None)


def watch() -> None:
    """From now on, compilations are mentioned."""
    event.register("numba:compile", _Dispatchers())
