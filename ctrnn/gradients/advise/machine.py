"""What this machine does in a second, measured once and kept; and how much memory it has at hand.

    product      flop/s of a matrix product of 256 × 256, one thread
    stream       bytes/s read and written by an array operation on memory that is there already
    fresh        bytes/s written to memory that is new to the process
    operation    seconds of one small torch operation that autograd remembers, forward and backward
    polynomial   seconds of one coefficient of an input that is a piecewise polynomial
    overhead     seconds of each gradient method on a network of 2 units and one step: all that is not steps

The rates lie in the user's cache folder (``CTRNN_CACHE_DIR``) for one combination of machine, Python, numpy, torch and this toolkit.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ctrnn.files import atomic_path
from ctrnn.threads import one_blas_thread

#: seconds of this thread on its processor: what else runs on the machine does not count
clock = time.thread_time
#: bytes taken for granted where the system does not tell
UNKNOWN_MEMORY = 4 * 2**30


@dataclass(frozen=True)
class Rates:
    """The rates of one machine, in flop/s, bytes/s and seconds."""

    product: float
    stream: float
    fresh: float
    operation: float
    polynomial: float
    overhead: dict[str, float]


def rates(afresh: bool = False) -> Rates:
    """The rates of this machine: from the cache, or measured, which takes about a second and imports torch.

    >>> rates().product > 1e8
    True
    """
    from ctrnn.fields.codegen import cache_folder

    path, about = cache_folder() / "machine.json", _about()
    if not afresh and (kept := _kept(path, about)) is not None:
        return kept
    with one_blas_thread:
        measured = _measured()
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"about": about, "rates": asdict(measured)}, indent=1), encoding="utf-8")
    return measured


def _kept(path: Path, about: dict[str, Any]) -> Rates | None:
    """The rates in a file, if they are whole and of this machine."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return Rates(**read["rates"]) if read["about"] == about else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _about() -> dict[str, Any]:
    from ctrnn import __version__

    versions = {package: version(package) for package in ("numpy", "numba", "torch")}
    machine = [platform.node(), platform.machine(), platform.processor(), os.cpu_count()]
    return {"machine": machine, "python": list(sys.version_info[:3]), "ctrnn": __version__, **versions}


def least_time(work: Callable[[], Any], rounds: int = 3, patience: float = 0.1) -> float:
    """Seconds, the least of some rounds after one to warm up, no more rounds after ``patience``."""
    began = clock()
    work()
    taken = []
    for _ in range(rounds):
        start = clock()
        work()
        end = clock()
        taken.append(end - start)
        if end - began > patience:
            break
    return min(taken)


def _measured() -> Rates:
    A, B = np.ones((256, 256)), np.ones((256, 256))
    product = 2.0 * 256**3 / least_time(lambda: A @ B, 10)
    v, size = np.ones(2**23), 2**22
    stream = 2.0 * v.nbytes / least_time(lambda: np.multiply(v, 1.5, out=v), 5)
    fresh = 8.0 * size / least_time(lambda: np.ones(size))
    return Rates(product, stream, fresh, _operation(), _polynomial(), _overhead())


def _operation() -> float:
    import torch

    w = torch.ones(4, dtype=torch.float64, requires_grad=True)

    def chain() -> None:
        r = w
        for _ in range(200):
            r = r + 0.5 * w
        torch.autograd.grad(r.sum(), w)

    return least_time(chain) / 400


def _polynomial() -> float:
    from ctrnn.inputs import Polynomials

    starts, n, degree = np.arange(100.0), 16, 5
    signal = Polynomials(starts, np.ones((100, degree, n)))
    at = np.linspace(0.0, 99.0, 2000)
    return least_time(lambda: signal.evaluate(at)) / (at.size * n * degree)


def _overhead() -> dict[str, float]:
    """Each method, of any mode, on the smallest problem."""
    from ctrnn.fields.network import RateNetwork
    from ctrnn.gradients.api import METHODS, gradient
    from ctrnn.objective import Objective
    from ctrnn.problem import Problem

    network = RateNetwork(2, seed=0)
    problem = Problem(network, [0.1, 0.2], (0.0, 0.1), objective=Objective(target=0.0, at=[0.1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: least_time(lambda: gradient(problem, name, solver="rk4", dt=0.1)) for name in METHODS}  # noqa: B023


def available_memory() -> int:
    """Bytes that a process may still take: of the system, and of the control group it runs in. Looked up once a second.

    >>> available_memory() > 0
    True
    """
    return _available(int(time.monotonic()))


@lru_cache(maxsize=1)
def _available(_second: int) -> int:
    found = [_system_memory()]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            found.append(max(0, int(Path(limit).read_text()) - int(Path(used).read_text())))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return min(found)


def _system_memory() -> int:
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError, AttributeError):
        return UNKNOWN_MEMORY
