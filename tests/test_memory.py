"""What asks for more memory than there is says so first: how much, how much there is, and what would do with less."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

import ctrnn
from ctrnn import memory
from ctrnn.errors import MemoryLimitError, UsageError
from ctrnn.gradients.dispatch import check_memory
from ctrnn.gradients.methods import METHODS
from ctrnn.problem import Settings

ROOT = Path(ctrnn.__file__).parents[1]
HUGE = 10**10
DECAY = ctrnn.Equations({"r": "-k*r"}, {"k": 1.0})


def decay(T=1.0, objective=None):
    return ctrnn.Problem(DECAY, r0=[1.0], t_span=(0.0, T), objective=objective)


def network(n, T=1.0):
    end = ctrnn.Objective(target=np.ones((1, n)), at=[T])
    return ctrnn.Problem(ctrnn.RateNetwork(n, seed=0), 0.1, (0.0, T), objective=end)


ASKED = {
    "n": lambda: ctrnn.RateNetwork(HUGE),
    "inputs": lambda: ctrnn.RateNetwork(3, inputs=10**12),
    "n, low rank": lambda: ctrnn.RateNetwork(10**13, rank=1),
    "n, gru": lambda: ctrnn.GRUNetwork(HUGE),
    "inputs, lstm": lambda: ctrnn.LSTMNetwork(3, inputs=10**12),
    "n, linear": lambda: ctrnn.LinearNetwork(HUGE),
    "n, liquid": lambda: ctrnn.LiquidNetwork(HUGE),
    "n, mlp": lambda: ctrnn.MLPField(10**13),
    "n, by torch": lambda: ctrnn.TorchField(lambda t, r, w, x: -r, HUGE),
    "inputs, by torch": lambda: ctrnn.TorchField(lambda t, r, w, x: -r, 1, inputs=HUGE),
    "rank": lambda: ctrnn.RateNetwork(10**6, rank=10**6),
    "period": lambda: ctrnn.analysis.EulerMap(DECAY).cycles([[1.0]], 10**7),
    "states['r']": lambda: ctrnn.Equations({"r": "-r"}, states={"r": 10**13}),
    "inputs['x']": lambda: ctrnn.Equations({"r": "-r + sum(x)"}, inputs={"x": 10**13}),
    "dt": lambda: ctrnn.simulate(decay(1e12), solver="euler", dt=1e-3, max_steps=10**15),
    "dt, noise": lambda: ctrnn.inputs.Noise((0.0, 1e12), 1e-3, 1.0, 0),
}


@pytest.mark.parametrize("what", ASKED)
def test_sizes_beyond_memory_are_refused_at_once(what):
    began = time.perf_counter()
    with pytest.raises(
        MemoryLimitError, match=f"{what.partition(',')[0].partition(' ')[0].split('[')[0]}.*GiB"
    ) as caught:
        ASKED[what]()
    assert time.perf_counter() - began < 2.0
    error = caught.value
    assert isinstance(error, UsageError) and isinstance(error, MemoryError) and error.exit_code == 2
    assert error.needed > error.available > 0


@pytest.fixture
def little(monkeypatch):
    """A machine with a given number of bytes left."""

    def left(nbytes: float) -> None:
        monkeypatch.setattr(memory, "available_memory", lambda: int(nbytes))
        monkeypatch.setattr("ctrnn.gradients.dispatch.available_memory", lambda: int(nbytes))

    return left


def test_saved_times_beyond_memory(little):
    times = np.linspace(0.0, 1.0, 10_000_000)
    little(7e7)
    with pytest.raises(MemoryLimitError, match="save_at: needs .* GiB of memory; there are"):
        ctrnn.simulate(decay(), save_at=times)
    with pytest.raises(MemoryLimitError, match="save_at"):
        ctrnn.ensemble(decay(), {"k": [1.0, 2.0]}, save_at=times)
    with pytest.raises(MemoryLimitError, match="r0"):
        ctrnn.ensemble(decay(), r0=np.broadcast_to(1.0, (10_000_000, 1)))


def test_a_method_that_does_not_fit_names_one_that_does(little):
    little(64 * 2.0**30)
    problem, settings = network(3000), Settings("rk4", dt=0.1)
    with pytest.raises(
        MemoryLimitError, match=r"'RTRL': needs 20\d GiB.*Try: method='adjoint', which needs 0?\.?\d"
    ) as caught:
        check_memory(METHODS["rtrl"], problem, settings)
    assert 201 <= caught.value.needed / 2**30 < 210  # P = dr/dw alone: 8 · 3001 · 3000 · 3001 bytes
    check_memory(METHODS["adjoint"], problem, settings)


def test_a_record_that_does_not_fit_goes_by_checkpoints(little):
    little(1e9)
    problem, settings = network(1000, T=1e5), Settings("rk4", dt=0.1)
    with pytest.raises(MemoryLimitError, match="method='adjoint-checkpoint', which needs"):
        ctrnn.gradient(problem, "adjoint", solver="rk4", dt=0.1, max_steps=10**8)
    with pytest.raises(MemoryLimitError, match="adjoint-checkpoint"):
        ctrnn.value_and_gradient(problem, "adjoint", solver="rk4", dt=0.1, max_steps=10**8)
    check_memory(METHODS["adjoint-checkpoint"], problem, settings)


def test_a_record_of_unknown_length_is_refused_as_it_grows(monkeypatch):
    left = iter([*[2**40] * 6, *[10**6] * 10**6])
    monkeypatch.setattr(memory, "available_memory", lambda: next(left))
    stiff = ctrnn.Equations({"u": "w*v", "v": "-w*u"}, {"w": 3000.0})
    end = ctrnn.Objective(target=[[1.0, 0.0]], at=[20.0])
    problem = ctrnn.Problem(stiff, [1.0, 0.0], (0.0, 20.0), objective=end)
    with pytest.raises(MemoryLimitError, match="adjoint-checkpoint"):
        ctrnn.gradient(problem, "adjoint", error_control="state")
    with pytest.raises(MemoryLimitError, match="save_at"):
        ctrnn.simulate(problem)


def test_small_things_are_done_on_a_machine_without_memory(little):
    """The counts are for what is large: nobody is refused a megabyte."""
    little(0)
    end = ctrnn.Objective(target=[0.0], at=[1.0])
    for method in ("adjoint", "rtrl"):
        assert ctrnn.gradient(decay(objective=end), method).vector.size == 1
    assert ctrnn.RateNetwork(100).n == 100


def test_matrices_of_second_order(little):
    little(7e7)
    with pytest.raises(MemoryLimitError, match="hessian_vector_product"):
        ctrnn.hessian(network(60), solver="rk4", dt=0.5)
    with pytest.raises(MemoryLimitError, match="hessian_vector_product"):
        ctrnn.gauss_newton(network(60), solver="rk4", dt=0.5)
    with pytest.raises(MemoryLimitError, match="adjoint"):
        ctrnn.sensitivities(network(300), [1.0])


def wide(n=300, **options):
    return ctrnn.RateNetwork(n, gain=0.5, seed=0, **options)


def observed_often(n, count):
    """A run with data of n states at many times."""
    at = np.linspace(0.1, 1.0, count)
    return ctrnn.Problem(wide(n), np.ones(n), (0.0, 1.0), objective=ctrnn.Objective(target=np.ones((count, n)), at=at))


BOX = ((-1.0, 1.0), (-1.0, 1.0))
#: each takes 80 MB or more, and what it is told to be too large
GROWING = {
    "covariant": lambda: ctrnn.analysis.lyapunov_spectrum(
        ctrnn.Problem(wide(400), 0.1, (0.0, 200.0)), covariant=True, solver="euler", dt=0.1
    ),
    "batch, lanes": lambda: ctrnn.learning.OnlineLearner(wide(60), batch=100, drift_window=0),
    "batch, states": lambda: ctrnn.learning.OnlineLearner(wide(4), method="rflo", batch=10**8),
    "points, basins": lambda: ctrnn.analysis.basins(wide(), BOX, points=100),
    "points, nullclines": lambda: ctrnn.analysis.nullclines(wide(), BOX, points=100),
    "dt, products": lambda: ctrnn.analysis.jacobian_products(ctrnn.Problem(wide(), 0.1, (0.0, 200.0)), dt=1.0),
    "steps": lambda: ctrnn.analysis.EulerMap(wide()).orbit(np.ones(300), 10**5),
    "field": lambda: ctrnn.equilibrium_hessian(wide(50), np.zeros(50), np.ones(50)),
    "dt, inverse": lambda: ctrnn.inverse.zhang(lambda t: np.eye(50), (0.0, 1e4), dt=1.0),
    "multistart": lambda: ctrnn.fit(decay(objective=ctrnn.Objective(target=[1.0], at=[1.0])), multistart=10**7),
    "shooting": lambda: ctrnn.fit(observed_often(10, 1000), shooting=500),
    "optimizer, matrix": lambda: ctrnn.fit(observed_often(50, 2), optimizer="BFGS", solver="rk4", dt=0.1),
    "trials, flip-flop": lambda: ctrnn.learning.tasks.flip_flop(trials=10**5),
    "trials, adding": lambda: ctrnn.learning.tasks.adding(trials=10**5),
    "trials, copy": lambda: ctrnn.learning.tasks.copy(trials=10**5),
    "trials, delayed match": lambda: ctrnn.learning.tasks.delayed_match(trials=10**5),
    "trials, decision": lambda: ctrnn.learning.tasks.context_decision(trials=10**5),
    "trials, maze": lambda: ctrnn.learning.tasks.t_maze(trials=10**5),
    "trials, sine": lambda: ctrnn.learning.tasks.sine(trials=10**5),
    "trials, lorenz": lambda: ctrnn.learning.tasks.lorenz(trials=10**5),
    "trials, mackey-glass": lambda: ctrnn.learning.tasks.mackey_glass(trials=10**5),
    "x": lambda: ctrnn.nn.CTRNN(1, 50, dt=0.1, seed=0)(torch.zeros(100, 1000, 1)),
    "hidden": lambda: ctrnn.MLPField(4, hidden=(3000, 3000)),
    "method": lambda: ctrnn.learning.OnlineLearner(wide(250), method=ctrnn.Sketch(8), drift_window=0),
    "field, cycle": lambda: ctrnn.analysis.limit_cycle(ctrnn.Problem(wide(400), 0.1, (0.0, 9.0)), period=1.0),
    "t, odeint": lambda: ctrnn.odeint(lambda t, y: -y, torch.ones(1000), torch.linspace(0, 1, 10**4)),
    "paths": lambda: ctrnn.ensemble(decay(), noise=0.1, paths=10**7, solver="euler", dt=0.1),
    "dt, noise": lambda: ctrnn.simulate(decay(1e4), solver="euler", dt=1e-3, noise=0.1, max_steps=10**9),
    "a": lambda: ctrnn.inverse.right_divide(None, scipy.sparse.eye(10**4, format="csr") * -1.0),
    "r0, trials": lambda: ctrnn.Trials(DECAY, np.broadcast_to(1.0, (10**6, 1)), (0.0, 1.0)),
    "states": lambda: ctrnn.analysis.principal_components(np.broadcast_to(1.0, (10**5, 1000))),
    "field, jacobian": lambda: ctrnn.RateNetwork(4000, rank=1, seed=0).jacobian(0.0, np.zeros(4000)),
    "solver": lambda: ctrnn.simulate(
        ctrnn.Problem(ctrnn.RateNetwork(2500, rank=1, seed=0), 0.1, (0.0, 1.0)), solver="kvaerno5"
    ),
    "trials, devices": lambda: ctrnn.inverse.device_noise([1.0], [[-1.0]], trials=10**8),
    "states, variances": lambda: ctrnn.analysis.participation_ratio(np.zeros((2, 10**6))),
    "window": lambda: ctrnn.learning.OnlineLearner(wide(4), ctrnn.TruncatedBPTT(10**12)),
    "num_layers": lambda: ctrnn.nn.CTRNN(1, 2, dt=0.1, num_layers=10**9),
}


@pytest.mark.parametrize("what", GROWING)
def test_what_grows_with_an_argument_is_asked_for_before(little, what):
    little(7e7)
    began = time.process_time()
    with pytest.raises(MemoryLimitError, match=f"^{what.partition(',')[0]}: needs"):
        GROWING[what]()
    assert time.process_time() - began < 20.0  # nearly all of it is compiling


def test_nobody_waits_for_it():
    began = time.perf_counter()
    for _ in range(10_000):
        memory.claim("n", 1000)
    assert time.perf_counter() - began < 0.1
    began = time.perf_counter()
    for _ in range(1000):
        memory.claim_more("n", 1000)
    assert time.perf_counter() - began < 0.1


# --- what there is


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_the_limit_of_the_address_space_counts():
    code = """
import resource
from ctrnn import memory
before = memory.available_memory()
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
memory._available.cache_clear()
print(memory.available_memory())
try:
    memory.claim("n", 2**31)
except MemoryError as error:
    print(error)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    number, text = ran.stdout.splitlines()
    assert 2**30 < int(number) < 2**31 and text.startswith("n: needs 2 GiB of memory; there are 1.")


@pytest.mark.parametrize("version", [1, 2])
def test_control_groups_of_both_versions_count(monkeypatch, tmp_path, version):
    names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}[version]
    for name, text in zip(
        (*names, "memory.stat"), ("1000000", "400000", "cache 5\ninactive_file 100000\n"), strict=True
    ):
        (tmp_path / name).write_text(text)
    (tmp_path / "none").write_text("max\n")
    places = [tuple(tmp_path / name for name in (*names, "memory.stat"))]
    places.append((tmp_path / "none", tmp_path / names[1], tmp_path / "memory.stat"))
    monkeypatch.setattr(memory, "_control_groups", lambda: places)
    memory._available.cache_clear()
    assert memory.available_memory() == 700_000
    memory._available.cache_clear()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_the_command_line_says_it_in_a_line(tmp_path):
    run = [sys.executable, "-m", "ctrnn", "simulate", "scalar", "--set", f"solver.points={10**8}", "--no-figures"]
    limited = f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_AS, ({2**32}, {2**32})); "
    run[1:3] = ["-c", limited + "sys.argv[0] = 'ctrnn'; runpy.run_module('ctrnn', run_name='__main__')"]
    ran = subprocess.run(
        run, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 2 and "GiB of memory" in ran.stderr and "Traceback" not in ran.stderr, ran.stderr


def test_the_sensitivities_of_a_learner(monkeypatch):
    """dr/dw of 300 units takes 217 MB; the cheaper rules do with what there is."""
    monkeypatch.setattr(memory, "available_memory", lambda: 100 * 2**20)
    field = ctrnn.RateNetwork(300, seed=0)
    with pytest.raises(MemoryLimitError, match="snap-1"):
        ctrnn.learning.OnlineLearner(field, drift_window=0)
    assert ctrnn.learning.OnlineLearner(field, method="rflo", drift_window=0).step(None, np.zeros(300)) == 0.0
