"""The wait of a first compilation is told: by a line on standard error, on a terminal for as long as it takes.

Kernels are compiled once on a machine, some 15 s for a first gradient. Nothing is said when the machine code is read
from disk, nor of the small functions of a new equation. Neither counts as time that a solver took (ctrnn.clock). Ctrl-C
stops a compilation: what LLVM makes of it on its way, which may be another error or nothing, becomes KeyboardInterrupt.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event

from ctrnn import clock, progress
from ctrnn.threads import raise_if_stopped

FIRST = "compiling solver kernels, about 15 s, once per machine"
MORE = "compiling more solver kernels, some seconds, once per machine"

_showing = threading.Lock()
_cold = False
_said = False
#: kernels that were read from disk by this process: then this machine has compiled before
found_on_disk = 0


@contextmanager
def compiling(certain: bool = False) -> Iterator[None]:
    """Around the compilation of a function, with all that it calls.

    Unless that is ``certain``, it may be read from disk instead, and is mentioned only where something else had to be
    compiled before.
    """
    global _cold
    _cold = _cold or certain
    with clock.aside(), _hearing_interrupts(), _told():
        yield


@contextmanager
def _told() -> Iterator[None]:
    global _said
    if not _cold or progress.silenced() or not _showing.acquire(blocking=False):
        yield
        return
    text = MORE if found_on_disk else FIRST
    try:
        if not progress.terminal():
            if not _said:
                progress.say(text)
            _said = True
            yield
            return
        from rich.console import Console

        with Console(stderr=True, highlight=False).status(text):
            yield
    finally:
        _showing.release()


@contextmanager
def _hearing_interrupts() -> Iterator[None]:
    """Ctrl-C comes out as KeyboardInterrupt: raised in a callback of LLVM it would be printed and forgotten."""
    heard = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if heard:
            raise KeyboardInterrupt


class _Dispatchers(event.Listener):
    """Numba's own word of what is compiled as it is first called."""

    def __init__(self) -> None:
        self.open: list[Any] = []

    def on_start(self, told: Any) -> None:
        function = getattr(told.data["dispatcher"], "py_func", None)
        # a function that was made by exec has no module
        if (getattr(function, "__module__", None) or "").startswith("ctrnn."):
            self.open.append((told.data["dispatcher"], compiling(certain=True)))
            self.open[-1][1].__enter__()

    def on_end(self, told: Any) -> None:
        if self.open and self.open[-1][0] is told.data["dispatcher"]:
            self.open.pop()[1].__exit__(None, None, None)


class _Passes(event.Listener):
    """On a worker, each pass of the compiler looks whether anybody still waits for it."""

    def on_start(self, told: Any) -> None:
        raise_if_stopped()

    def on_end(self, told: Any) -> None:
        """Nothing."""


def watch() -> None:
    """From now on, compilations are mentioned, and end where nobody waits for them any more."""
    event.register("numba:compile", _Dispatchers())
    event.register("numba:run_pass", _Passes())
