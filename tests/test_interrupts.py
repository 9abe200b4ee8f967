"""Ctrl-C is heard within a second or so, wherever a run is; how compiled calls are divided changes no bit."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest

import ctrnn
from ctrnn import threads
from ctrnn.solvers import runge_kutta

ROOT = Path(ctrnn.__file__).parents[1]

#: each a short run, after which all is compiled, and one that would take minutes
CHILD = """
import sys
import numpy as np, ctrnn

def network(n, T):
    end = ctrnn.Objective(target=np.ones((1, n)), at=[T])
    return ctrnn.Problem(ctrnn.RateNetwork(n, gain=0.5, seed=0), 0.1, (0.0, T), objective=end)

lorenz = ctrnn.Equations({"x": "s*(y - x)", "y": "x*(28 - z) - y", "z": "x*y - 8/3*z"}, parameters={"s": 10.0})
fixed = {"solver": "rk4", "dt": 0.01}
many = {"max_steps": 10**10}

def simulate(n, T):
    ctrnn.simulate(network(n, T), save_at=[T], **fixed, **many)

def lanes(n, T):
    ctrnn.ensemble(ctrnn.Problem(lorenz, [1.0, 1.0, 1.0], (0.0, T)), {"s": np.linspace(9, 11, 40)}, **many)

def one_by_one(n, T):
    ctrnn.ensemble(network(n, T), r0=np.ones((3, n)), **fixed, **many)

def trials(n, T):
    ctrnn.simulate(ctrnn.Trials(lorenz, [[1.0, 1.0, 1.0]] * 3, (0.0, T)), save_at=[T], **many)

def rtrl(n, T):
    ctrnn.gradient(network(n, T), ctrnn.RTRL(block=20), **fixed)

def spectra(n, T):
    problem = ctrnn.Problem(lorenz, [1.0, 1.0, 1.0], (0.0, T))
    ctrnn.analysis.lyapunov_spectra(problem, {"s": [9.0, 10.0, 11.0]}, **many)

def layer(n, T):
    import torch
    with torch.no_grad():
        ctrnn.nn.CTRNN(1, n, dt=0.1)(torch.zeros(16, int(T), 1))

def lapack(n, T):
    ctrnn.inverse.right_divide(np.ones(n), np.random.default_rng(0).normal(size=(n, n)) / 60 - 3 * np.eye(n), "flow")

for work, small, large in (
    (simulate, (1000, 0.05), (1000, 1e4)), (lanes, (0, 1.0), (0, 1e6)), (one_by_one, (300, 0.05), (300, 1e5)),
    (trials, (0, 1.0), (0, 1e6)), (rtrl, (300, 0.2), (300, 50.0)), (spectra, (0, 1.0), (0, 1e5)),
    (layer, (100, 5.0), (2000, 1e3)), (lapack, (10, 0), (4000, 0)),
):
    work(*small)
    print("begin", work.__name__, flush=True)
    try:
        work(*large)
        print("finished", flush=True)
    except KeyboardInterrupt:
        print("heard", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("cores", ["1", "2"])
def test_ctrl_c_is_heard_soon(cores):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": cores}
    child = subprocess.Popen([sys.executable, "-c", CHILD], env=environment, stdout=subprocess.PIPE, text=True)
    late = threading.Timer(300, child.kill)
    late.start()
    taken = {}
    try:
        assert child.stdout is not None
        for line in child.stdout:
            assert line.startswith("begin"), line
            time.sleep(0.7)
            child.send_signal(signal.SIGINT)
            began = time.perf_counter()
            assert child.stdout.readline() == "heard\n", line
            taken[line.split()[1]] = time.perf_counter() - began
        assert child.wait() == 0
    finally:
        late.cancel()
        child.kill()
    # a second on a quiet machine; a busy one has four others on each core
    assert len(taken) == 8 and max(taken.values()) < 8.0, taken


def test_the_next_run_is_not_stopped_by_the_interrupt_before(monkeypatch):
    wait, asked = threads.wait, []

    def interrupted(futures, **options):
        asked.append(bool(threads.stop()))
        if len(asked) == 1:
            raise KeyboardInterrupt
        wait(futures, **options)

    monkeypatch.setattr(threads, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        threads.run_parallel([(time.sleep, 0.05)], takes_long=True)
    assert asked[:2] == [False, True] and not threads.stop()
    assert threads.run_parallel([(abs, -2)], takes_long=True) == [2]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="on_exit is glibc's")
@pytest.mark.parametrize("is_left_alone", [False, True])
def test_no_library_is_taken_down_under_a_thread_that_is_left_alone(is_left_alone):
    # OpenBLAS unmaps its memory in a destructor; abort stands for it, as a crash in that is a matter of chance
    code = f"""
import ctypes, os, signal, sys, threading, time
from ctrnn.threads import apart
libc = ctypes.CDLL(None)
libc.on_exit(libc.abort, None)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    apart(1e12 if {is_left_alone} else 0.0, time.sleep, 2.0)
except KeyboardInterrupt:
    print("heard")
    libc.puts(b"and told")
    sys.exit(3)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert sorted(child.stdout.split("\n")) == ["", "and told", "heard"], child.stdout + child.stderr
    assert child.returncode == (3 if is_left_alone else -signal.SIGABRT)


def test_what_is_left_alone_gives_its_result_and_its_error():
    assert threads.apart(0.0, abs, -2) == threads.apart(1e12, abs, -2) == 2
    for flops in (0.0, 1e12):
        with pytest.raises(np.linalg.LinAlgError):
            threads.apart(flops, np.linalg.inv, np.zeros((2, 2)))
    A = np.random.default_rng(0).normal(size=(600, 600))
    np.testing.assert_array_equal(threads.apart(1e12, np.linalg.eigvals, A), np.linalg.eigvals(A))


def test_an_error_stops_those_beside_it():
    ended = []

    def work(k: int) -> None:
        if k == 0:
            raise OSError("no space left")
        for _ in range(2000):
            time.sleep(0.005)
            threads.raise_if_stopped()
        ended.append(k)

    began = time.perf_counter()
    with pytest.raises(OSError, match="no space left"):
        threads.run_parallel([(work, k) for k in (0, 1)], takes_long=True)
    with pytest.raises(OSError, match="no space left"):
        threads.map_parallel([0, 1, 2], work, "work", takes_long=True)
    assert not ended and time.perf_counter() - began < 5.0 and not threads.stop()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: nothing runs beside an error")
def test_a_compilation_on_a_worker_is_given_up_at_its_next_pass(monkeypatch):
    """It takes seconds, and whoever has pressed Ctrl-C waits until the worker has ended."""
    monkeypatch.setattr(threads, "workers", lambda: 2)
    seen, begun = [], threading.Event()

    def work(k: int) -> None:
        if k == 0:
            begun.wait(20)
            raise KeyboardInterrupt
        begun.set()
        while not threads.stop():
            time.sleep(0.001)
        function = numba.njit(lambda a: a + 1)
        try:
            function(1)
        except threads.Stopped:
            seen.append(len(function.signatures))
            raise

    with pytest.raises(KeyboardInterrupt):
        threads.map_parallel([0, 1], work, "work", takes_long=True)
    assert seen == [0]
    threads.map_parallel([2, 3], lambda k: numba.njit(lambda a: a + 1)(k), "work", takes_long=True)


# --- bits


def runs(monkeypatch, compute):
    """The numbers as they are, with one step a call, and with three or more."""
    found = [compute()]
    for rate, patience in ((1e-9, 1e-9), (1e9, 2e-5)):
        with monkeypatch.context() as patch:
            patch.setattr(runge_kutta, "RATE", rate)
            patch.setattr(runge_kutta, "PATIENCE", patience)
            found.append(compute())
    return found


COUPLED = {"u": "a*u - u**3 - v + sin(t)", "v": "b*(u - v)"}
AT = ctrnn.Objective(target=[[0.3, 0.1], [0.0, 0.2]], at=[1.0, 3.0])


def problem(objective=AT):
    field = ctrnn.Equations(COUPLED, {"a": 1.2, "b": 0.7})
    return ctrnn.Problem(field, [0.5, -0.3], (0.0, 3.0), objective=objective)


@pytest.mark.parametrize("solver", ["tsit5", "dop853", "kencarp4", "bosh3"])
def test_solutions_do_not_depend_on_how_calls_are_divided(monkeypatch, solver):
    def compute():
        run = ctrnn.simulate(problem(), solver=solver)
        saved = ctrnn.simulate(problem(), solver=solver, save_at=np.linspace(0, 3, 17))
        return [run.t, run.r, saved.r, run(np.linspace(0, 3, 9)), run.stats.steps, run.stats.evaluations]

    for one in zip(*runs(monkeypatch, compute), strict=True):
        np.testing.assert_array_equal(one[0], one[1])
        np.testing.assert_array_equal(one[0], one[2])


@pytest.mark.parametrize("method", ["adjoint", "rtrl", "adjoint-checkpoint", "rtrl-continuous", "tbptt"])
@pytest.mark.parametrize("options", [{}, {"solver": "rk4", "dt": 0.03}, {"solver": "kencarp4"}])
def test_gradients_do_not_depend_on_how_calls_are_divided(monkeypatch, method, options):
    objective = AT if method == "tbptt" else ctrnn.Objective("u**2 + v")
    one, two, three = runs(monkeypatch, lambda: ctrnn.gradient(problem(objective), method, **options))
    for other in (two, three):
        np.testing.assert_array_equal(one.vector, other.vector)
        assert one.loss == other.loss and one.stats.steps == other.stats.steps


def test_ensembles_do_not_depend_on_how_often_they_look_up(monkeypatch):
    one, two, three = runs(
        monkeypatch,
        lambda: ctrnn.ensemble(problem(None), {"a": [1.0, 1.1, 1.2]}, solver="kencarp4", save_at=np.linspace(0, 3, 5)),
    )
    np.testing.assert_array_equal(one.r, two.r)
    np.testing.assert_array_equal(one.r, three.r)
