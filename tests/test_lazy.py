"""Functions of a field table that are compiled when compiled code first calls them."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

import ctrnn
from ctrnn.gradients.recording import stepper
from ctrnn.kernels import abi, graph, lazy


class Broken(lazy.Lazy):
    @property
    def address(self) -> int:
        raise KeyboardInterrupt


class BrokenBeside(lazy.Lazy):
    """The parameter part, which cannot be compiled on another thread than the main one."""

    def __init__(self) -> None:
        super().__init__(graph.accumulate.function, graph.accumulate.signature, graph.accumulate.options)
        self.works, self.failed = graph.accumulate, threading.Event()

    @property
    def address(self) -> int:
        if threading.current_thread() is not threading.main_thread():
            self.failed.set()
            raise OSError("no space left on device")
        assert self.failed.wait(60.0)
        return self.works.address


def fresh(functions):
    """The same functions, as they are in a process that has not called them yet."""
    return [lazy.Lazy(f.function, f.signature, f.options) for f in functions]


def test_an_entry_becomes_the_function_at_its_first_call():
    field = ctrnn.RateNetwork(3, seed=0)
    r = np.array([0.3, -0.2, 0.1])
    J = field.jacobian(0.0, r)
    functions = fresh(graph.SLOTS_OF_GRAPHS)
    lazily = lazy.LazyTable(functions)
    before = lazily.table.copy()
    _, bound, r, x = field._at_point(0.0, r, None)
    out = np.empty((3, 3))
    call = ctypes.CFUNCTYPE(None, *[abi._CTYPES[a] for a in abi.SIGNATURES[abi.JACOBIAN].args])
    where = [a.ctypes.data for a in (bound.system.ctx, r, bound.system.w, x, out)]
    call(int(lazily.table[abi.JACOBIAN]))(where[0], 0.0, *where[1:])
    np.testing.assert_array_equal(out, J)
    assert lazily.table[abi.JACOBIAN] == functions[abi.JACOBIAN].address != before[abi.JACOBIAN]
    changed = lazily.table != before
    assert list(np.flatnonzero(changed)) == [abi.JACOBIAN] and "compiled" not in vars(functions[abi.VJP])
    lazily.pending.raise_pending()


def test_ctrl_c_during_that_waits_behind_the_compiled_code():
    functions = [graph.field, None, None, Broken(lambda: None, abi.SIGNATURES[abi.JACOBIAN], {}), None]
    lazily = lazy.LazyTable(functions)
    assert list(lazily.table[[abi.VJP, abi.ACCUMULATE, abi.LEAK]]) == [0, 0, 0]
    out = np.zeros(1)
    call = ctypes.CFUNCTYPE(None, *[abi._CTYPES[a] for a in abi.SIGNATURES[abi.JACOBIAN].args])
    call(int(lazily.table[abi.JACOBIAN]))(0, 0.0, 0, 0, 0, out.ctypes.data)
    assert np.isnan(out[0])
    with pytest.raises(KeyboardInterrupt):
        lazily.pending.raise_pending()
    lazily.pending.raise_pending()


def test_what_goes_wrong_on_another_thread_is_raised_by_the_gradient(monkeypatch):
    """The part of the loss is another thread's: without its error the gradient would be 0."""
    monkeypatch.setattr(stepper, "workers", lambda: 2)
    monkeypatch.setattr(stepper, "WORTH_THREADS", 0.0)
    slots = list(graph.SLOTS_OF_GRAPHS)
    slots[abi.ACCUMULATE] = BrokenBeside()
    monkeypatch.setattr(graph, "SLOTS_OF_GRAPHS", slots)
    objective = ctrnn.Objective(target=np.ones((1, 6)), at=[1.0])
    problem = ctrnn.Problem(ctrnn.RateNetwork(6, seed=0), 0.1, (0.0, 1.0), objective=objective)
    with pytest.raises(OSError, match="no space left"):
        ctrnn.gradient(problem, "rtrl", solver="rk4", dt=0.1)
    assert ctrnn.gradient(problem, "rtrl", solver="rk4", dt=0.1).vector.any()


def test_a_tuple_of_another_type_is_not_packed():
    """What is fetched at an address has the type that was packed there, or nothing is compiled."""
    from numba import njit
    from numba.core.errors import TypingError

    pack, first, second = abi.packing(np.zeros(2), 0)

    @njit
    def sent(a, b):
        run = pack((a, b))
        return first(run).sum() + second(run)

    assert sent(np.array([1.0, 2.5]), 3) == 6.5
    with pytest.raises(TypingError, match="packed: "):
        sent(np.array([1, 2]), 3)
