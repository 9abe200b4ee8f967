"""How long a person waits.

    python scripts/benchmarks/cold.py

The first rows are whole processes, from their start to their end: with an empty cache, which compile the kernels that
they need, and the same again. The others are medians over fresh processes, on a cache that holds the compiled stepper;
the last one is taken inside a process.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

NEW = """
import time, sys
began = time.perf_counter()
import ctrnn
k = float(sys.argv[1])
field = ctrnn.Equations(
    {"x": f"s*(y - x) + {k}*sin(t)", "y": "x*(rho - z) - y", "z": "x*y - beta*z"},
    parameters={"s": 10.0, "rho": 28.0, "beta": 8 / 3},
)
problem = ctrnn.Problem(field, [1.0, 1.0, 1.0], (0.0, 1.0), objective=ctrnn.Objective("x**2", at=[1.0]))
ctrnn.gradient(problem)
print(time.perf_counter() - began)
"""

EQUATIONS = """
import ctrnn
field = ctrnn.Equations(
    {"x": "s*(y - x)", "y": "x*(rho - z) - y", "z": "x*y - beta*z"}, parameters={"s": 10.0, "rho": 28.0, "beta": 8 / 3}
)
problem = ctrnn.Problem(field, [1.0, 1.0, 1.0], (0.0, 1.0), objective=ctrnn.Objective("x**2", at=[1.0]))
ctrnn.gradient(problem, method="METHOD")
"""

NETWORK = """
import ctrnn, numpy as np
network = ctrnn.RateNetwork(64, inputs=1, seed=0)
objective = ctrnn.Objective("squared_error", target=0.1, at=[1.0])
problem = ctrnn.Problem(network, np.zeros(64), (0.0, 1.0), x=ctrnn.inputs.Sine(frequency=0.2), objective=objective)
ctrnn.gradient(problem, method="METHOD", solver="rk4", dt=0.05)
"""

FIRST = {
    "equations, adaptive steps, adjoint": EQUATIONS.replace("METHOD", "adjoint"),
    "equations, adaptive steps, RTRL": EQUATIONS.replace("METHOD", "rtrl"),
    "network, RK4, adjoint": NETWORK.replace("METHOD", "adjoint"),
    "network, RK4, RTRL": NETWORK.replace("METHOD", "rtrl"),
}

MANY = """
import time, ctrnn
field = ctrnn.Equations(
    {"x": "s*(y - x)", "y": "x*(rho - z) - y", "z": "x*y - beta*z"}, parameters={"s": 10.0, "rho": 28.0, "beta": 8 / 3}
)
problem = ctrnn.Problem(field, [1.0, 1.0, 1.0], (0.0, 10.0))
run = ctrnn.simulate(problem, save_at=[10.0])
began = time.perf_counter()
for _ in range(1000):
    run = ctrnn.simulate(problem, save_at=[10.0])
taken = (time.perf_counter() - began) / 1000
print(taken, (run.stats.steps + run.stats.rejected))
"""

START = """
import time, sys
began = time.perf_counter()
from ctrnn.solvers import runge_kutta
start = runge_kutta.Integration.__init__
def watched(self, *a, **k):
    print("START", time.perf_counter() - began, file=sys.stderr); raise SystemExit
runge_kutta.Integration.__init__ = watched
from ctrnn.cli.main import main
sys.argv = ["ctrnn", "run", "hare-lynx", "--no-figures"]
main()
"""


def first_gradient(source: str) -> list[float]:
    """Wall-clock and processor seconds of a process to its first gradient, with an empty cache and then with what that
    left (the least of three)."""

    def spent() -> tuple[float, float]:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-c", source], check=True, cwd=folder, env=environment)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"CTRNN_CACHE_DIR": folder}
        return [*spent(), *min(spent() for _ in range(3))]


def seconds(command: list[str], folder: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return time.perf_counter() - began


def printed(source: str, *arguments: str, folder: str) -> list[float]:
    out = subprocess.run([sys.executable, "-c", source, *arguments], capture_output=True, text=True, cwd=folder)
    lines = (out.stdout + out.stderr).split()
    return [float(word) for word in lines if word.replace(".", "").replace("e-", "").isdigit()]


def main() -> None:
    table = Table(title="To the first gradient")
    for column in ("what", "empty cache", "processor", "warm", "processor"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what, source in FIRST.items():
        cold, cold_cpu, warm, warm_cpu = first_gradient(source)
        table.add_row(what, f"{cold:.1f} s", f"{cold_cpu:.1f} s", f"{warm:.2f} s", f"{warm_cpu:.2f} s")
    Console().print(table)
    ctrnn = str(Path(sys.executable).with_name("ctrnn"))
    with tempfile.TemporaryDirectory() as folder:
        seconds([ctrnn, "run", "hare-lynx", "--no-figures"], folder)  # fills the cache
        printed(NEW, "0.5", folder=folder)
        rows = {
            "ctrnn --help": median(seconds([ctrnn, "--help"], folder) for _ in range(5)),
            "python -c 'import ctrnn'": median(
                seconds([sys.executable, "-c", "import ctrnn"], folder) for _ in range(5)
            ),
            "ctrnn run hare-lynx, until it integrates": median(printed(START, folder=folder)[0] for _ in range(3)),
            "new equations, from text to the first gradient": median(
                printed(NEW, str(time.time() % 1 + 1), folder=folder)[0] for _ in range(3)
            ),
            "the same equations, second process": median(printed(NEW, "0.5", folder=folder)[0] for _ in range(3)),
        }
        solve, steps = printed(MANY, folder=folder)
    table = Table(title="Waiting")
    table.add_column("what")
    table.add_column("time", justify="right")
    for what, taken in rows.items():
        table.add_row(what, f"{taken:.2f} s")
    table.add_row(f"one of 1,000 adaptive solves of Lorenz ({steps:.0f} steps, tsit5, 1e-8)", f"{solve * 1e3:.3f} ms")
    Console().print(table)


if __name__ == "__main__":
    main()
