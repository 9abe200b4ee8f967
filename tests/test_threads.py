"""Threads: the number of them changes no bit, an interruption leaves none behind, and a forked child has its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import ctrnn
from ctrnn.threads import OneThread, one_blas_thread, run_parallel, workers

PROBLEM = ctrnn.Problem(
    ctrnn.RateNetwork(80, inputs=1, gain=1.2, seed=0),
    np.linspace(-1.0, 1.0, 80),
    (0.0, 1.0),
    x=0.3,
    objective=ctrnn.Objective(target=np.zeros((2, 80)), at=[0.5, 1.0]),
)
STEPS = {"solver": "rk4", "dt": 0.1}


def flat(problem: ctrnn.Problem, method: object = "rtrl") -> bytes:
    g = ctrnn.gradient(problem, method, **STEPS)
    return np.concatenate([g.vector, g.r0, [g.loss]]).tobytes()


def test_one_thread_gives_the_same_bits():
    code = "import test_threads as t, sys; sys.stdout.write(t.flat(t.PROBLEM).hex() + str(t.workers()))"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    alone = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert alone.stdout == flat(PROBLEM).hex() + "1"


def test_results_come_in_the_order_of_the_calls_and_errors_come_out():
    assert run_parallel([(lambda k: (time.sleep(0.01 * (3 - k)), k)[1], k) for k in range(3)]) == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        run_parallel([(int, 1), (lambda: 1 // 0,)])


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
def test_ctrl_c_waits_for_those_who_may_still_write():
    ended = threading.Event()

    def slow() -> None:
        time.sleep(0.3)
        ended.set()

    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            run_parallel([(int, 1), (slow,)])
        assert ended.is_set()
    finally:
        signal.signal(signal.SIGALRM, before)


def _in_child(queue: object) -> None:
    queue.put((one_blas_thread._inside, workers(), flat(PROBLEM)))


def test_ctrl_c_while_blas_is_being_set_leaves_it_as_it_was():
    numbers = [4, 4]

    def put(number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt
        numbers[1] = number

    of_two = [(lambda: numbers[0], lambda number: numbers.__setitem__(0, number)), (lambda: numbers[1], put)]
    with pytest.raises(KeyboardInterrupt), OneThread(lambda: of_two):
        pass
    assert numbers == [4, 4]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_a_child_forked_in_the_middle_of_a_gradient_computes_the_same():
    expected = flat(PROBLEM)  # the pool is there
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with one_blas_thread, one_blas_thread._lock:  # as if another thread were just entering
        child = context.Process(target=_in_child, args=(queue,))
        child.start()
    assert queue.get(timeout=60) == (0, workers(), expected)
    child.join()


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_the_setting_of_blas_comes_back_when_the_last_leaves_from_another_thread():
    """And one who comes from another thread is heard at all, though the first is alive."""
    inside, leave = threading.Event(), threading.Event()
    seen: list[list[int]] = []

    def other() -> None:
        with one_blas_thread:
            seen.append(blas_threads())
            inside.set()
            leave.wait(10)

    with threadpool_limits(2):
        before = blas_threads()
        for together in (True, False):
            thread = threading.Thread(target=other)
            with one_blas_thread if together else nullcontext():
                thread.start()
                inside.wait(10)
            leave.set()
            thread.join()
            assert blas_threads() == before
            inside.clear()
            leave.clear()
    assert seen == [[1] * len(before)] * 2
    assert set(before) != {1}


MASK = np.random.default_rng(0).random((9, 9)) < 0.4
FIELDS = {
    "state": ctrnn.RateNetwork(9, inputs=1, gain=1.2, seed=0),
    "rate, tau trained": ctrnn.RateNetwork(9, inputs=1, gain=1.2, seed=0, form="rate", train_tau=True),
    "masked": ctrnn.RateNetwork(9, inputs=1, gain=1.2, seed=0, mask=MASK),
    "blocks": ctrnn.RateNetwork(9, inputs=1, gain=1.2, seed=0, mask=np.kron(np.eye(3), np.ones((3, 3)))),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("solver", ["rk4", "exponential-euler", "kvaerno5"])
@pytest.mark.parametrize("integral", [False, True])
def test_rows_divided_among_threads_give_the_adjoint_to_1e12(name, solver, integral, monkeypatch):
    for module in ("recording.structure", "recording.stepper"):
        monkeypatch.setattr(f"ctrnn.gradients.{module}.workers", lambda: 3)
        monkeypatch.setattr(f"ctrnn.gradients.{module}.WORTH_THREADS", 0.0)
    rng = np.random.default_rng(1)
    readout = ctrnn.Readout(rng.normal(size=(2, 9)), rng.normal(size=2))
    at = None if integral else [0.3, 1.0]
    objective = ctrnn.Objective(target=[0.5, -0.5] if integral else rng.normal(size=(2, 2)), at=at, readout=readout)
    problem = ctrnn.Problem(FIELDS[name], rng.normal(size=9), (0.0, 1.0), x=0.4, objective=objective)

    def both(method: object) -> np.ndarray:
        g = ctrnn.gradient(problem, method, solver=solver, dt=0.1)
        assert g.readout is not None
        return np.concatenate([g.vector, g.r0, g.readout["V"].ravel(), g.readout["c"]])

    exact = both("adjoint")
    for block in (None, 1, 4):
        assert abs(both(ctrnn.RTRL(block=block)) - exact).max() < 1e-12 * abs(exact).max()
