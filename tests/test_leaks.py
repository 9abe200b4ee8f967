"""Fields that are built, used and dropped give their memory back."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pytest

import ctrnn

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")


def memory() -> tuple[float, int]:
    """Resident memory in MB, and the number of mapped regions."""
    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="ascii").split()
    return int(status[status.index("VmRSS:") + 1]) / 1024, len(Path("/proc/self/maps").read_text().splitlines())


def array_field(k: int):
    return ctrnn.Equations({"r": "-r + W @ tanh(r)"}, {"W": np.full((150, 150), 1.0 / (k + 151))}, states={"r": 150})


def network(k: int):
    return ctrnn.RateNetwork(150, seed=k)


def scalar_field(k: int):
    return ctrnn.Equations({"r": "-k*r + tanh(r)"}, {"k": 1.0 + k})


@pytest.mark.parametrize("make", [array_field, network, scalar_field])
def test_two_hundred_fields_with_gradients_leave_memory_as_it_was(make):
    def use(k: int) -> None:
        field = make(k)
        objective = ctrnn.Objective(target=np.zeros((1, field.n)), at=[0.1])
        problem = ctrnn.Problem(field, np.zeros(field.n), (0.0, 0.1), objective=objective)
        ctrnn.gradient(problem, method="adjoint", solver="rk4", dt=0.05)

    for k in range(50):
        use(k)
    before = memory()
    for k in range(50, 250):
        use(k)
    after = memory()
    assert after[0] - before[0] < 8.0  # of 36 MB of weights alone, where they are large
    assert after[1] - before[1] < 20
