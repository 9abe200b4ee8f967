"""A loss gradient at rest against LU, and against the libraries of implicit layers.

    python scripts/benchmarks/rest.py

A rate network of n units, r = W tanh(r) + b at rest, l = ½‖r* − y‖².

1. dl/dw at a given r*: our flow and GMRES, by products alone, against ONE LU factorisation of a J that is there
   already, and the memory of either (the peak of what numpy and Python allocate, tracemalloc) in units of J's.
2. From r = 0 to r* and dl/dW, dl/db, where installed (extra "bench"): torchdeq, jaxopt, optimistix, each as its
   documentation says, float64, jitted where it can be, at tolerances that give every one about the same error; the
   error is that against numpy's LU.

Times are of interleaved rounds: the processor time of all threads (least), which other processes on the machine disturb
little, and the clock's (least).
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.linalg
from rich.console import Console
from rich.table import Table

import ctrnn

TOL = 1e-10


def workload(n: int) -> tuple[ctrnn.RateNetwork, np.ndarray, np.ndarray]:
    """The network, its rest point and the target y."""
    rng = np.random.default_rng(0)
    field = ctrnn.RateNetwork(n, gain=0.5, seed=0).with_parameters(b=rng.normal(size=n))
    W, b = field.parameters["W"], field.parameters["b"]
    r = np.zeros(n)
    for _ in range(200):
        r = W @ np.tanh(r) + b
    return field, r, rng.normal(size=n)


def reference(field: ctrnn.RateNetwork, r: np.ndarray, y: np.ndarray) -> np.ndarray:
    """dl/dw by numpy's LU alone."""
    J = -np.eye(field.n) + field.parameters["W"] * (1.0 - np.tanh(r) ** 2)
    V = np.linalg.solve(J.T, r - y)
    return np.concatenate([-np.outer(V, np.tanh(r)).ravel(), -V])


def rounds(calls: dict[str, Callable[[], Any]], count: int) -> dict[str, tuple[float, float]]:
    """Least processor seconds and least seconds of each; they take turns of three calls, so that the caches are their
    own; the first turn does not count."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(count + 1):
        for name, call in calls.items():
            for _ in range(3):
                processor, clock = time.process_time(), time.perf_counter()
                call()
                if turn:
                    taken[name].append((time.process_time() - processor, time.perf_counter() - clock))
    return {name: tuple(map(min, zip(*each, strict=True))) for name, each in taken.items()}  # type: ignore[misc]


def peak(call: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def against_lu(n: int, count: int, console: Console) -> None:
    field, r, y = workload(n)
    a, J, exact = r - y, field.jacobian(0.0, r), reference(field, r, y)
    calls: dict[str, Callable[[], Any]] = {
        "flow, matrix-free": lambda: ctrnn.equilibrium_gradient(field, r, a, "flow"),
        "GMRES, matrix-free": lambda: ctrnn.equilibrium_gradient(field, r, a, "gmres"),
        "one LU factorisation of J": lambda: scipy.linalg.lu_factor(J),
        "J made, and V by LU": lambda: ctrnn.equilibrium_gradient(field, r, a, "lu"),
    }
    taken = rounds(calls, count)
    table = Table(title=f"dl/dw at rest, n = {n}, m = {field.m:,}")
    for column in ("", "processor", "clock", "of one LU (processor)", "peak memory / J", "error"):
        table.add_column(column, justify="left" if not column else "right")
    for name, call in calls.items():
        found = call()
        error = np.linalg.norm(found.vector - exact) / np.linalg.norm(exact) if hasattr(found, "vector") else np.nan
        processor, clock = taken[name]
        ratio = processor / taken["one LU factorisation of J"][0]
        table.add_row(
            name,
            f"{1e3 * processor:.1f} ms",
            f"{1e3 * clock:.1f} ms",
            f"{ratio:.2f}",
            f"{peak(call) / J.nbytes:.2f}",
            "" if np.isnan(error) else f"{error:.0e}",
        )
    console.print(table)


# --- the others ---


def ours(field: ctrnn.RateNetwork, y: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    import torch

    def numeric() -> np.ndarray:
        rest = ctrnn.find_equilibrium(field, np.zeros(field.n), method="anderson", tol=TOL)
        return ctrnn.equilibrium_gradient(field, rest, rest.r - y, tol=TOL).vector

    W, b = (torch.tensor(field.parameters[name], requires_grad=True) for name in ("W", "b"))
    target = torch.tensor(y)

    def layer() -> np.ndarray:
        r = ctrnn.equilibrium(field, {"W": W, "b": b}, tol=TOL)
        return _flat(torch.autograd.grad(0.5 * (r - target).square().sum(), (W, b)))

    return {"ctrnn": numeric, "ctrnn, torch function": layer}


def _flat(parts: Any) -> np.ndarray:
    return np.concatenate([np.asarray(part).ravel() for part in parts])


def torchdeq_(field: ctrnn.RateNetwork, y: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    import torch
    from torchdeq import get_deq

    W, b = (torch.tensor(field.parameters[name], requires_grad=True) for name in ("W", "b"))
    target, start = torch.tensor(y)[None], torch.zeros(1, field.n, dtype=torch.float64)
    calls = {}
    for solver in ("fixed_point_iter", "anderson"):
        options = {
            "f_tol": TOL,
            "b_tol": TOL,
            "f_stop_mode": "rel",
            "b_stop_mode": "rel",
            "f_max_iter": 100,
            "b_max_iter": 100,
        }
        deq = get_deq(f_solver=solver, b_solver=solver, ift=True, **options)

        def call(deq: Any = deq) -> np.ndarray:
            r = deq(lambda r: torch.tanh(r) @ W.mT + b, start)[0][-1]
            return _flat(torch.autograd.grad(0.5 * (r - target).square().sum(), (W, b)))

        calls[f"torchdeq, {solver}"] = call
    return calls


def jax_(field: ctrnn.RateNetwork, y: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    w = tuple(jnp.asarray(field.parameters[name]) for name in ("W", "b"))
    zero, target = jnp.zeros(field.n), jnp.asarray(y)

    def image(r: Any, w: Any) -> Any:
        return w[0] @ jnp.tanh(r) + w[1]

    def graded(rest: Callable[[Any], Any]) -> Callable[[], np.ndarray]:
        gradient = jax.jit(jax.grad(lambda w: 0.5 * jnp.sum((rest(w) - target) ** 2)))
        return lambda: _flat(jax.block_until_ready(gradient(w)))

    calls = {}
    try:
        import jaxopt

        # its own linear solver stops at 1e-5
        backward = partial(jaxopt.linear_solve.solve_gmres, tol=TOL)
        options = {"maxiter": 200, "tol": TOL, "implicit_diff": True, "implicit_diff_solve": backward}
        plain = jaxopt.FixedPointIteration(image, **options)
        calls["jaxopt, fixed point"] = graded(lambda w: plain.run(zero, w).params)
        anderson = jaxopt.AndersonAcceleration(image, **options)
        calls["jaxopt, Anderson"] = graded(lambda w: anderson.run(zero, w).params)
    except ImportError:
        pass
    try:
        import lineax
        import optimistix

        for name, linear in (("GMRES", lineax.GMRES(rtol=TOL, atol=TOL)), ("LU", lineax.LU())):
            adjoint = optimistix.ImplicitAdjoint(linear_solver=linear)
            method = optimistix.FixedPointIteration(rtol=TOL, atol=TOL)

            def rest(w: Any, method: Any = method, adjoint: Any = adjoint) -> Any:
                return optimistix.fixed_point(image, method, zero, w, adjoint=adjoint, max_steps=200).value

            calls[f"optimistix, {name}"] = graded(rest)
    except ImportError:
        pass
    return calls


def against_others(n: int, count: int, console: Console) -> None:
    field, r, y = workload(n)
    exact = reference(field, r, y)
    calls = ours(field, y)
    for make in (torchdeq_, jax_):
        try:
            calls |= make(field, y)
        except ImportError as error:
            console.print(f"left out: {error}")
    table = Table(title=f"from r = 0 to r* and its gradient, n = {n}")
    for column in ("", "processor", "clock", "of ctrnn (processor)", "error"):
        table.add_column(column, justify="left" if not column else "right")
    taken = rounds(calls, count)
    for name, call in calls.items():
        error = np.linalg.norm(call() - exact) / np.linalg.norm(exact)
        processor, clock = taken[name]
        table.add_row(
            name,
            f"{1e3 * processor:.1f} ms",
            f"{1e3 * clock:.1f} ms",
            f"{processor / taken['ctrnn'][0]:.2f} ×",
            f"{error:.0e}",
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    console = Console(width=110)
    for n in options.units:
        against_lu(n, options.rounds, console)
        against_others(n, options.rounds, console)


if __name__ == "__main__":
    main()
