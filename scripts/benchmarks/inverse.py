"""a A⁻¹ by every method, time against LU.

    python scripts/benchmarks/inverse.py [--sizes 10 100 1000] [--rows 1]

A is the Jacobian −I + W of a random network, W of spectral radius near 0.5, or symmetric of condition 100; a is one
row, or several. "certified" is right_divide on the matrix: its time holds the spectrum and the singular values that
give the step and the error bound. "products" is right_divide on V ↦ VA alone, with the step or the interval known, as
at a rest point whose contraction is known. LU is SciPy's lu_factor and lu_solve, without a refinement or a bound. BLAS
has one thread; times are the best of five; the error is ‖V − aA⁻¹‖/‖aA⁻¹‖ against LU refined once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.linalg import lu_factor, lu_solve

from ctrnn.errors import CtrnnError
from ctrnn.inverse import Chebyshev, Flow, Hyperpower, right_divide
from ctrnn.threads import one_blas_thread

CERTIFIED: dict[str, Any] = {
    "flow": "flow",
    "flow, rk4": Flow("rk4"),
    "chebyshev": "chebyshev",
    "gradient-flow": "gradient-flow",
    "newton-schulz": "newton-schulz",
    "hyperpower (3)": Hyperpower(3),
    "gmres": "gmres",
    "lu": "lu",
}


def network(n: int) -> np.ndarray:
    return 0.5 * np.random.default_rng(n).normal(size=(n, n)) / np.sqrt(n) - np.eye(n)


def symmetric(n: int) -> np.ndarray:
    Q, _ = np.linalg.qr(np.random.default_rng(n).normal(size=(n, n)))
    return -(Q * np.logspace(0, 2, n)) @ Q.T


def best(call: Callable[[], Any], times: int = 5, patience: float = 2.0) -> tuple[float, Any]:
    """The shortest of several calls, in seconds, and what it returned."""
    shortest, found = np.inf, None
    for _ in range(times):
        began = time.perf_counter()
        found = call()
        shortest = min(shortest, time.perf_counter() - began)
        if shortest > patience:
            break
    return shortest, found


def measure(name: str, A: np.ndarray, rows: int, by_products: dict[str, Any], console: Console) -> None:
    n = len(A)
    a = np.random.default_rng(1).normal(size=(rows, n))
    a = a[0] if rows == 1 else a
    reference = right_divide(a, A, "lu").value
    lu_time, _ = best(lambda: lu_solve(lu_factor(A, check_finite=False), a.T, trans=1, check_finite=False))
    table = Table(title=f"{name}, n = {n}, {rows} row{'s' * (rows > 1)}; LU takes {1e3 * lu_time:.3g} ms")
    for head in ("method", "A given as", "time (ms)", "time / LU", "iterations", "error"):
        table.add_column(head, justify="left" if head in ("method", "A given as") else "right")
    cases = [(m, how, A, "matrix") for m, how in CERTIFIED.items()]
    cases += [(m, how, lambda V: V @ A, "products") for m, how in by_products.items()]
    for label, method, given, kind in cases:
        try:
            seconds, result = best(lambda g=given, m=method: right_divide(a, g, m, tol=1e-12))
        except CtrnnError as error:
            table.add_row(label, kind, "–", "–", "–", str(error).split("(")[0][:60])
            continue
        off = np.linalg.norm(result.value - reference) / np.linalg.norm(reference)
        table.add_row(
            label, kind, f"{1e3 * seconds:.3g}", f"{seconds / lu_time:.3g}", str(result.iterations), f"{off:.1e}"
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 30, 100, 300, 1000])
    parser.add_argument("--rows", type=int, default=1)
    options = parser.parse_args()
    console = Console(width=110)
    with one_blas_thread:
        for n in options.sizes:
            disc = {"flow, h = 1": Flow(step=1.0), "gmres": "gmres", "chebyshev, estimated": "chebyshev"}
            measure("network", network(n), options.rows, disc, console)
            interval = {"chebyshev (−100, −1)": Chebyshev((-100.0, -1.0)), "gmres": "gmres"}
            measure("symmetric, condition 100", symmetric(n), options.rows, interval, console)


if __name__ == "__main__":
    main()
