"""A cold compile is told once, in words of the user's, and its time is nobody's."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from numba import njit

import ctrnn
from ctrnn import clock, progress
from ctrnn.kernels import notice, stepper

ROOT = Path(ctrnn.__file__).parents[1]


class Terminal(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.fixture
def compiled(monkeypatch):
    """What standard error receives while a function of a module is compiled by its first call."""
    monkeypatch.setattr(progress, "_silenced", False)
    monkeypatch.setattr(notice, "_cold", False)
    monkeypatch.setattr(notice, "_said", False)
    monkeypatch.setattr(notice, "found_on_disk", 0)

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


def test_a_terminal_is_told_how_long_it_takes(compiled):
    assert "compiling solver kernels, about 15 s, once per machine" in compiled()


def test_a_pipe_is_told_in_one_line(compiled):
    assert compiled(terminal=False) == "ctrnn: compiling solver kernels, about 15 s, once per machine\n"
    assert compiled(terminal=False) == ""


def test_a_machine_that_has_compiled_before_is_told_less(compiled, monkeypatch):
    monkeypatch.setattr(notice, "found_on_disk", 3)
    assert "about 15 s" not in (text := compiled(terminal=False)) and "compiling more" in text


def test_nothing_for_other_people_s_functions(compiled):
    assert compiled(module="somebody_else.kernels") == compiled(module="somebody_else", terminal=False) == ""


def test_compilation_is_no_time_of_the_work(compiled):
    def slow(x):
        time.sleep(0.2)
        return x

    began, wall = clock.working(), time.perf_counter()
    with notice.compiling():
        slow(1)
    assert time.perf_counter() - wall >= 0.2 > 0.15 > clock.working() - began
    slow(1)
    assert clock.working() - began >= 0.2


def test_the_time_of_a_first_solution_is_that_of_the_second(tmp_path):
    """A process without compiled code: the table says what the steps took."""
    code = """
import time, ctrnn
problem = ctrnn.Problem(ctrnn.Equations({"r": "-k*r"}, {"k": 1.0}), r0=[1.0], t_span=(0.0, 1.0))
began = time.perf_counter()
first = ctrnn.simulate(problem, save_at=[1.0]).stats.wall_time
print(time.perf_counter() - began, first)
"""
    environment = os.environ | {"CTRNN_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    whole, taken = map(float, ran.stdout.split())
    assert whole > 1.0 and taken < 0.2 * whole
    assert ran.stderr.splitlines() == ["ctrnn: " + notice.FIRST]


@pytest.mark.parametrize("swallowed", [False, True])
def test_ctrl_c_comes_out_of_a_compilation(swallowed):
    """Raised in a callback of LLVM it would be printed and forgotten, and another error come of it."""
    with pytest.raises(KeyboardInterrupt), notice.compiling():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if not swallowed:
                raise RuntimeError("no compiled object yet") from None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_where_there_is_no_standard_error(monkeypatch):
    """None without a console, closed, or an object of somebody's that only writes."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(progress, "_enabled", True)
    for stream in (None, closed, object()):
        monkeypatch.setattr(sys, "stderr", stream)
        with notice.compiling(certain=True), progress.track(1.0, "work") as update:
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
        with notice.compiling():
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
