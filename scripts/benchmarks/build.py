"""From the text of equations to compiled functions: python scripts/benchmarks/build.py [ROW ...]

Each row is a fresh process with an empty cache and Numba imported: the processor's seconds of ``Equations(…)`` (F, J,
products with J and F_w), of the second order, of the lanes of ensembles, and of the same equations from disk; and the
lines of the generated source.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

CHILD = """
import sys, time
import ctrnn, ctrnn.kernels.abi
from ctrnn.fields import codegen
sys.path.insert(0, sys.argv[2])
import build
equations, parameters = build.SYSTEMS[sys.argv[1]]()
def seconds(make):
    began = time.process_time()
    made = make()
    return made, time.process_time() - began
field, first = seconds(lambda: ctrnn.Equations(equations, parameters))
_, second = seconds(lambda: field._second_kernel)
_, lanes = seconds(lambda: field._lanes_kernel)
import gc
for name in [n for n in sys.modules if n.startswith("ctrnn_generated_")]:
    del sys.modules[name]
_, again = seconds(lambda: ctrnn.Equations(equations, parameters))
lines = len(open(field._module.__file__).read().splitlines())
print(first, second, lanes, again, lines)
"""


def ring() -> tuple[dict[str, str], dict[str, float]]:
    n = 100
    equations = {f"u{i}": f"-u{i} + a*tanh(u{(i - 1) % n}) - b*u{(i + 1) % n}*u{i} + I*cos(t)" for i in range(n)}
    return equations, {"a": 1.5, "b": 0.3, "I": 0.1}


def phases() -> tuple[dict[str, str], dict[str, float]]:
    n = 100
    terms = {i: " + ".join(f"sin(u{j} - u{i})" for j in range(n) if j != i) for i in range(n)}
    return {f"u{i}": f"o{i} + k/{n}*({terms[i]})" for i in range(n)}, {"k": 1.0} | {f"o{i}": 0.01 * i for i in range(n)}


def product() -> tuple[dict[str, str], dict[str, float]]:
    return {"u": "*".join(f"(u - w{i})" for i in range(99))}, {f"w{i}": float(i) for i in range(99)}


def powers() -> tuple[dict[str, str], dict[str, float]]:
    return {"u": " + ".join(f"u**{i + 1}" for i in range(999))}, {}


def network(n: int = 20) -> tuple[dict[str, str], dict[str, float]]:
    rows = {i: " + ".join(f"w{i}_{j}*tanh(u{j})" for j in range(n)) for i in range(n)}
    parameters = {f"w{i}_{j}": 0.1 for i in range(n) for j in range(n)} | {f"b{i}": 0.0 for i in range(n)}
    return {f"u{i}": f"(-u{i} + {rows[i]} + b{i})/tau" for i in range(n)}, parameters | {"tau": 2.0}


def cases() -> tuple[dict[str, str], dict[str, float]]:
    return {"u0": "sign((2 - cosh(max(-1, u0, b)))*abs(u0))"}, {"b": 0.5}


SYSTEMS = {
    "100 equations in a ring": ring,
    "100 phases, all with all": phases,
    "a product of 99 factors": product,
    "a sum of 999 powers": powers,
    "a network of 20 units": network,
    "cases inside cases": cases,
}


def main() -> None:
    table = Table("", "new, s", "second order", "lanes", "from disk", "lines")
    for name in sys.argv[1:] or SYSTEMS:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", CHILD, name, str(Path(__file__).resolve().parent)]
            environment = os.environ | {"CTRNN_CACHE_DIR": folder}
            out = subprocess.run(command, env=environment, capture_output=True, text=True)
        if out.returncode:
            print(out.stderr[-2000:])
            continue
        *times, lines = out.stdout.split()
        table.add_row(name, *(f"{float(t):.3f}" for t in times), lines)
    Console().print(table)


if __name__ == "__main__":
    main()
