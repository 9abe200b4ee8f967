"""How long a person waits: python scripts/benchmarks/cold.py

Each figure is the median over fresh processes, on a cache that holds the compiled stepper; the last rows are taken inside one process.
"""

from __future__ import annotations

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


def seconds(command: list[str], folder: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return time.perf_counter() - began


def printed(source: str, *arguments: str, folder: str) -> list[float]:
    out = subprocess.run([sys.executable, "-c", source, *arguments], capture_output=True, text=True, cwd=folder)
    lines = (out.stdout + out.stderr).split()
    return [float(word) for word in lines if word.replace(".", "").replace("e-", "").isdigit()]


def main() -> None:
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
