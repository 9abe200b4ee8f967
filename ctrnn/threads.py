"""Threads of our own around compiled loops, one BLAS thread inside them, and the user's own setting everywhere else.

A loop of small products gains nothing from a second BLAS thread and loses much: the two spin against each other and
against whatever else runs on the machine. Measured on two busy cores: exact RTRL of 128 units 20 times slower with two
threads. So the outer loop is divided: over trials, or over the cotangents and parameters of one; never both.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import islice, product
from threading import Lock
from typing import Any, TypeVar

from ctrnn.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")
#: what gets and what sets the number of a library's threads
Library = tuple[Callable[[], int], Callable[[int], object]]


@lru_cache(maxsize=1)
def _blas() -> list[Library]:
    """Of each BLAS that is loaded."""
    # finding the loaded libraries takes milliseconds, so it is done once, when SciPy's BLAS is there
    import scipy.linalg.cython_blas  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return [_functions(library) for library in ThreadpoolController().select(user_api="blas").lib_controllers]


def _functions(library: Any) -> Library:
    if getattr(library, "threading_layer", "") == "pthreads":
        # OpenBLAS's own: by way of threadpoolctl they take five times as long, and from its release 3.7 on
        # only one thread of Python can set them
        own = ctypes.CDLL(library.filepath)
        for prefix, suffix in product(("", "scipy_"), ("", "64_", "_64")):
            get, put = (f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set"))
            if hasattr(own, get) and hasattr(own, put):
                return getattr(own, get), getattr(own, put)
    return library.get_num_threads, library.set_num_threads


@lru_cache(maxsize=1)
def _torch() -> list[Library]:
    import torch

    return [(torch.get_num_threads, torch.set_num_threads)]


class OneThread:
    """A context in which libraries run on one thread each; the former setting comes back at its end.

    It limits on the first entry and restores on the last exit, from whichever threads they come.

    Parameters
    ----------
    libraries : callable
        Gives the functions that get and set each library's number of threads.
    is_per_thread : bool
        Whether the number belongs to the thread that sets it, so that each entry has to set it.
    """

    def __init__(self, libraries: Callable[[], list[Library]], is_per_thread: bool = False) -> None:
        self._libraries, self._is_per_thread = libraries, is_per_thread
        self._lock, self._inside = Lock(), 0
        self._before: list[int] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = [get() for get, _ in self._libraries()]
            if self._inside == 0 or self._is_per_thread:
                try:
                    for _, put in self._libraries():
                        put(1)
                except BaseException:  # Ctrl-C: __exit__ is not called
                    if self._inside == 0:
                        self._restore()
                    raise
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore()

    def _restore(self) -> None:
        for (_, put), number in zip(self._libraries(), self._before, strict=True):
            put(number)

    def forget(self) -> None:
        """Set back to "no thread is inside", for a forked child: other threads and their locks stay in the parent."""
        inside, self._inside, self._lock = self._inside, 0, Lock()
        if inside:
            self._restore()


#: BLAS on one thread
one_blas_thread = OneThread(_blas)
#: torch's operations on the CPU on one thread; torch is loaded when it is first entered
one_torch_thread = OneThread(_torch, is_per_thread=True)


_here = threading.local()

#: flops from which a call of compiled code takes so long, some 0.1 s, that Ctrl-C would have to wait for it
LONG = 3e9


def workers() -> int:
    """How many threads work may be divided among.

    The cores that this process may use, but no more than OMP_NUM_THREADS; 1 inside such a thread.
    """
    if getattr(_here, "is_worker", False):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, int(asked)) if asked.isdigit() and int(asked) > 0 else cores)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Threads that stay, as starting them takes longer than a small trial; what they do they divide no further."""
    cores = os.cpu_count() or 1
    return ThreadPoolExecutor(cores, "ctrnn", initializer=lambda: setattr(_here, "is_worker", True))


def _in_child() -> None:
    """After a fork: none of the parent's threads are here, to work or to give back what they hold."""
    _pool.cache_clear()
    one_blas_thread.forget()
    one_torch_thread.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Stopped(BaseException):
    """Nobody wants the result of this thread any more: Ctrl-C, or an error beside it. It never reaches a caller."""


class Stop:
    """A word that says to the threads that work for one whether the result is still wanted.

    Compiled loops that take long look at it, by its address (ctrnn.kernels.abi.STOP); Python asks ``raise_if_stopped``
    between two calls of such loops. Python answers Ctrl-C on the main thread alone, and not while that is in compiled
    code: whoever starts what takes long lets others do it, and waits.
    """

    def __init__(self) -> None:
        self._word = (ctypes.c_int64 * 1)()
        self.address = ctypes.addressof(self._word)

    def set(self, to: bool) -> None:
        """Whether those that work are to stop."""
        self._word[0] = int(to)

    def __bool__(self) -> bool:
        return self._word[0] != 0


def stop() -> Stop:
    """That of this thread, or of the one it works for."""
    if not hasattr(_here, "stop"):
        _here.stop = Stop()
    return _here.stop  # type: ignore[no-any-return]


def raise_if_stopped() -> None:
    """To be called now and then in what may run on a worker; raises Stopped."""
    if getattr(_here, "is_worker", False) and stop():
        raise Stopped


def _work(whose: Stop, function: Callable[..., Result], *arguments: Any) -> Result:
    """On a worker: a call for another thread."""
    _here.stop = whose
    raise_if_stopped()
    made = function(*arguments)
    raise_if_stopped()
    return made


def run_parallel(calls: Sequence[tuple[Any, ...]], takes_long: bool = False) -> list[Any]:
    """The results of (function, *arguments), all but the first on other threads; the functions release Python's lock.

    They may write to addresses that only the caller's arrays keep alive, so that neither an error nor Ctrl-C leaves
    this function before all of them have ended. Where they take long, and look at ``stop``, all are on other threads,
    so that Ctrl-C is heard.
    """
    own = 0 if takes_long and not getattr(_here, "is_worker", False) else 1
    if own and len(calls) == 1:
        function, *arguments = calls[0]
        found = [function(*arguments)]
        raise_if_stopped()
        return found
    others = [_pool().submit(_work, stop(), *call) for call in calls[own:]]
    found = []
    try:
        for function, *arguments in calls[:own]:
            found.append(function(*arguments))
        wait(others, return_when=FIRST_EXCEPTION)
        for other in others:
            if other.done():
                other.result()
        return [*found, *(other.result() for other in others)]
    except BaseException:
        _end(others)
        raise


def apart(flops: float, function: Callable[..., Result], *arguments: Any) -> Result:
    """``function(*arguments)``, a call of LAPACK that cannot be told to stop, but can be left alone.

    Where it takes so many flops that Ctrl-C would have to wait, it runs on a thread of its own, and this one waits: on
    Ctrl-C nobody wants its result. The function releases Python's lock and writes to nothing of anybody else's. Where a
    process cannot end beside such a thread (``_can_leave_alone``), Ctrl-C waits.
    """
    if flops < LONG or threading.current_thread() is not threading.main_thread() or not _can_leave_alone():
        return function(*arguments)
    made: Future[Result] = Future()

    def run() -> None:
        try:
            made.set_result(function(*arguments))
        except BaseException as error:  # of the caller, not of this thread
            made.set_exception(error)

    try:
        threading.Thread(target=run, name="ctrnn LAPACK", daemon=True).start()
        return made.result()
    finally:
        if not made.done():
            _end_without_destructors()


def _can_leave_alone() -> bool:
    return hasattr(ctypes.pythonapi, "on_exit")  # of glibc


@lru_cache(maxsize=1)
def _end_without_destructors() -> None:
    """Let this process end, when Python has, with its status, but before the destructors of libraries.

    That of OpenBLAS unmaps the memory in which a thread that was left alone still works: one exit in twenty was a
    segmentation fault. What is registered last at ``on_exit`` is done first.
    """
    libc = ctypes.pythonapi
    atexit.register(libc.fflush, None)  # what C code has printed, which exit() would do later than _exit()
    libc.on_exit(libc._exit, None)


def _end(others: Sequence[Future[Any]]) -> None:
    """Stop them, and wait until they are at their end, whatever comes."""
    stop().set(True)
    interrupted = None
    while not all(other.done() for other in others):
        try:
            wait(others)
        except KeyboardInterrupt as error:
            interrupted = error
    stop().set(False)
    if interrupted is not None:
        raise interrupted


def map_parallel(
    items: Sequence[Item], run: Callable[[Item], Result], label: str, takes_long: bool = False
) -> list[Result]:
    """``run`` for every item on all workers; the results, in the order of the items.

    The first error is raised, and then no further item is begun, and those under way are stopped. ``takes_long``: an
    item may be a long time in compiled code, so that this thread only waits.
    """
    threads, found = min(len(items), workers()), []
    apart = takes_long and not getattr(_here, "is_worker", False)
    with one_blas_thread, track(len(items), label) as update:
        if threads <= 1 and not apart:
            for item in items:
                found.append(run(item))
                raise_if_stopped()
                update(len(found))
            return found
        waiting = iter(items)
        under_way = deque(_pool().submit(_work, stop(), run, item) for item in islice(waiting, threads))
        try:
            while under_way:
                found.append(under_way[0].result())
                under_way.popleft()
                under_way.extend(_pool().submit(_work, stop(), run, item) for item in islice(waiting, 1))
                update(len(found))
        except BaseException:
            _end(under_way)
            raise
    return found
