"""A cold compile is mentioned on a terminal, and nowhere else."""

from __future__ import annotations

import io
import sys

import pytest
from numba import njit

from ctrnn import progress
from ctrnn.kernels import notice, stepper


class Terminal(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.fixture
def compiled(monkeypatch):
    """What standard error receives while a function of a module is compiled by its first call."""
    monkeypatch.setattr(notice, "_cold", False)

    def call(module: str = stepper.__name__, terminal: bool = True) -> str:
        stream = Terminal(terminal)
        monkeypatch.setattr(sys, "stderr", stream)

        def twice(x):
            return 2 * x

        twice.__module__ = module
        dispatcher = njit(twice)
        assert dispatcher(2) == 4
        first = stream.getvalue()
        assert dispatcher(3) == 6 and stream.getvalue() == first  # compiled already
        return first

    return call


def test_a_terminal_is_told_what_is_compiled(compiled):
    text = compiled()
    assert "compiling, once on this machine: kernels.stepper" in text and "Runge–Kutta stepper" in text


def test_nothing_in_a_pipe_nor_for_other_people_s_functions(compiled):
    assert compiled(terminal=False) == "" and compiled(module="somebody_else.kernels") == ""


def test_nothing_where_there_is_no_standard_error(monkeypatch):
    """None without a console, closed, or an object of somebody's that only writes."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(progress, "_enabled", True)
    for stream in (None, closed, object()):
        monkeypatch.setattr(sys, "stderr", stream)
        with notice.compiling(stepper.advance.py_func, certain=True), progress.track(1.0, "work") as update:
            update(1.0)


def test_nothing_beside_a_bar_that_is_drawn(compiled, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal(True))
    monkeypatch.setattr(progress, "_enabled", True)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with progress.track(1.0, "work") as update:
        assert "compiling" in compiled()
        monkeypatch.setattr(sys, "stderr", Terminal(True))
        update(0.5)
        assert "compiling" not in compiled()
    assert "compiling" in compiled()


def test_nothing_when_asked_to_be_quiet(compiled, monkeypatch):
    monkeypatch.setattr(progress, "_silenced", True)
    assert compiled() == ""


def test_what_may_be_read_from_disk_is_mentioned_once_something_was_not(compiled, monkeypatch):
    def text() -> str:
        monkeypatch.setattr(sys, "stderr", Terminal(True))
        with notice.compiling(test_a_terminal_is_told_what_is_compiled):
            pass
        return sys.stderr.getvalue()

    assert text() == ""
    compiled()
    assert "compiling" in text()


def test_functions_of_no_module_compile_as_ever():
    """A user's own, made by exec without a name, in a process that has our kernels."""
    import numba

    import ctrnn.kernels.notice  # noqa: F401

    names: dict = {"__name__": None}
    exec("def double(x):\n    return 2 * x", names)
    assert names["double"].__module__ is None
    assert numba.njit(names["double"])(21) == 42
