"""The gradient of a neural ODE against JAX and diffrax.

    python scripts/benchmarks/perceptron.py [--seconds 20]

dr/dt = W3 tanh(W2 tanh(W1 r + b1) + b2) + b3 of 8 states, 2 × 64 hidden units, 32 trials, 100 steps of 0.05, float64;
the loss is the squared distance of all states to a target after each step, summed over the trials; dl/dw of all 5,256
parameters.

    ctrnn     gradient of MLPField, the prepared function ctrnn.value_and_gradient (adjoint): RK4, and Tsit5
    JAX       jit(grad) of a lax.scan over RK4 steps, written by hand, all trials at once
    diffrax   jit(grad) of diffeqsolve, Tsit5, the same steps, RecursiveCheckpointAdjoint with a checkpoint a step

Before anything is timed, the programs are checked to compute the same gradient to 1e-10. Rounds are interleaved;
medians are given, the least times, and the processor time of both cores, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import ctrnn

N, HIDDEN, TRIALS, STEPS, DT = 8, (64, 64), 32, 100, 0.05
T = DT * np.arange(STEPS + 1)
Program = Callable[[], np.ndarray]


def programs() -> dict[str, Program]:
    """Each gives dl/dw (m,) in the order of the field's parameters."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import diffrax
    import jax.numpy as jnp

    field = ctrnn.MLPField(N, HIDDEN, seed=0)
    rng = np.random.default_rng(1)
    r0, y = rng.normal(size=(TRIALS, N)), np.cos(T[1:, None] + np.arange(N) / N)
    trials = ctrnn.Trials(field, r0, (0.0, T[-1]), objective=ctrnn.Objective(target=y, at=T[1:]))

    def ours(solver: str) -> Program:
        f = ctrnn.value_and_gradient(trials, method="adjoint", solver=solver, dt=DT)
        return lambda: np.asarray(f(field.vector)[1])

    w = {name: jnp.asarray(value) for name, value in field.parameters.items()}
    start, target, t = jnp.asarray(r0), jnp.asarray(y)[:, None], jnp.asarray(T)

    def F(r: Any, w: Any) -> Any:
        hidden = jnp.tanh(r @ w["W1"].T + w["b1"])
        return jnp.tanh(hidden @ w["W2"].T + w["b2"]) @ w["W3"].T + w["b3"]

    def scanned(w: Any) -> Any:
        def step(r: Any, y: Any) -> Any:
            k1 = F(r, w)
            k2 = F(r + DT / 2 * k1, w)
            k3 = F(r + DT / 2 * k2, w)
            k4 = F(r + DT * k3, w)
            r = r + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            return r, 0.5 * jnp.sum((r - y) ** 2)

        return jax.lax.scan(step, start, target)[1].sum()

    def solved(w: Any) -> Any:
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, r, w: F(r, w)),
            diffrax.Tsit5(),
            0.0,
            T[-1],
            None,
            start,
            w,
            saveat=diffrax.SaveAt(ts=t[1:]),
            stepsize_controller=diffrax.StepTo(ts=t),
            max_steps=STEPS,
            adjoint=diffrax.RecursiveCheckpointAdjoint(checkpoints=STEPS),
        ).ys
        return 0.5 * jnp.sum((found - target) ** 2)

    def theirs(loss: Any) -> Program:
        gradient = jax.jit(jax.grad(loss))

        def run() -> np.ndarray:
            found = gradient(w)
            return np.concatenate([np.asarray(found[name]).ravel() for name in field.parameters])

        return run

    made = {"ctrnn, rk4": ours("rk4"), "JAX scan, rk4": theirs(scanned)}
    return made | {"ctrnn, tsit5": ours("tsit5"), "diffrax, tsit5": theirs(solved)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    made = programs()
    g = {name: run() for name, run in made.items()}
    for ours, theirs in (("ctrnn, rk4", "JAX scan, rk4"), ("ctrnn, tsit5", "diffrax, tsit5")):
        off = np.linalg.norm(g[ours] - g[theirs]) / np.linalg.norm(g[ours])
        print(f"{ours} and {theirs} agree to {off:.1e}")
        assert off < 1e-10
    taken: dict[str, list[float]] = {name: [] for name in made}
    used: dict[str, list[float]] = {name: [] for name in made}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, run in made.items():
            run()
            began, used_before = time.perf_counter(), time.process_time()
            run()
            taken[name].append(time.perf_counter() - began)
            used[name].append(time.process_time() - used_before)
    for name, each in taken.items():
        times = [f"{1e3 * value:7.2f} ms" for value in (median(each), min(each), median(used[name]), min(used[name]))]
        print(f"{name:16} median {times[0]}, least {times[1]}; processor {times[2]}, {times[3]}; {len(each)} rounds")
    for ours, theirs in (("ctrnn, rk4", "JAX scan, rk4"), ("ctrnn, tsit5", "diffrax, tsit5")):
        middle, least = (f(taken[theirs]) / f(taken[ours]) for f in (median, min))
        print(f"{theirs} takes {middle:.2f} times as long as {ours} (medians), {least:.2f} (least)")


if __name__ == "__main__":
    main()
