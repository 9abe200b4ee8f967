"""Steps a second of learners whose weights move at every step, beside the same algorithms written by hand in JAX.

    python scripts/benchmarks/learners.py [--units 64 256] [--rounds 5]

A tanh network of form "rate" with dt = tau (h ← tanh(W h + U x + b)), one lane, a linear read-out, squared error, Adam,
an update at each step, float64. JAX: textbook RTRL, P ← D (W P + C), and SnAp-1, P ← D (diag(W) P + C), with Adam, in
one jitted scan over all steps. Both begin with the same numbers; how far their weights are apart after the first run is
printed. braintrace, where it is installed: its D_RTRL, which keeps what each weight does to its own unit as SnAp-1
does, of its own cell and read-out with its own Adam, in one jitted scan. Programs take turns; of each the least
processor time of a run counts, which other programs on the machine disturb least. Needs JAX.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

import ctrnn
from ctrnn.learning import OnlineLearner

LR, BETAS, EPS = 1e-3, (0.9, 0.999), 1e-8


def data(n: int, T: int) -> tuple[Any, ...]:
    """W, U, b, V, c and inputs and targets (T, 1): the next value of a sum of sines."""
    rng = np.random.default_rng(0)
    W, U = (rng.uniform(-1.0, 1.0, size=shape) / np.sqrt(n) for shape in ((n, n), (n, 1)))
    V = rng.normal(size=(1, n)) / np.sqrt(n)
    t = np.arange(T + 1.0)
    signal = (np.sin(0.3 * t) + np.sin(0.17 * t))[:, None] / 2.0
    return W, U, np.zeros(n), V, np.zeros(1), signal[:-1], signal[1:]


def ours(n: int, T: int, method: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """What takes T steps more, and what gives W."""
    W, U, b, V, c, x, y = data(n, T)
    field = ctrnn.RateNetwork(n, inputs=1, form="rate").with_parameters(W=W, U=U, b=b)
    learner = OnlineLearner(field, method, "adam", LR, ctrnn.Readout(V, c), drift_window=0)
    return lambda: learner.run(x, y), lambda: learner.field.parameters["W"]


def by_jax(n: int, T: int, method: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The same by hand."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    *w, x, y = map(jnp.asarray, data(n, T))
    units = jnp.arange(n)

    def sensitivity(P: Any, W: Any, d: Any, z: Any) -> Any:
        if method == "rtrl":  # P (n, n, n + 2): of state k by row i of [W U b]
            P = (W @ P.reshape(n, -1)).reshape(P.shape)
            return d[:, None, None] * P.at[units, units].add(z)
        return d[:, None] * (jnp.diag(W)[:, None] * P + z)  # P (n, n + 2): of each unit by its own row

    def step(carried: Any, now: Any) -> Any:
        h, P, w, m, v, k = carried
        W, U, b, V, c = w
        x, y = now
        z = jnp.concatenate([h, x, jnp.ones(1)])
        h = jnp.tanh(W @ h + U @ x + b)
        P = sensitivity(P, W, 1.0 - h**2, z)
        e = V @ h + c - y
        row = e @ V
        g = jnp.tensordot(row, P, 1) if method == "rtrl" else row[:, None] * P
        g = g[:, :n], g[:, n : n + 1], g[:, -1], jnp.outer(e, h), e
        k = k + 1
        m = jax.tree.map(lambda m, g: BETAS[0] * m + (1.0 - BETAS[0]) * g, m, g)
        v = jax.tree.map(lambda v, g: BETAS[1] * v + (1.0 - BETAS[1]) * g * g, v, g)
        by, bias = LR / (1.0 - BETAS[0] ** k), jnp.sqrt(1.0 - BETAS[1] ** k)
        w = jax.tree.map(lambda w, m, v: w - by * m / (jnp.sqrt(v) / bias + EPS), w, m, v)
        return (h, P, w, m, v, k), e @ e / 2.0

    run = jax.jit(lambda carried: jax.lax.scan(step, carried, (x, y))[0])
    P = jnp.zeros((n, n, n + 2) if method == "rtrl" else (n, n + 2))
    zeros = jax.tree.map(jnp.zeros_like, tuple(w))
    now = [(jnp.zeros(n), P, tuple(w), zeros, zeros, jnp.zeros(()))]

    def go_on() -> None:
        now[0] = jax.block_until_ready(run(now[0]))

    return go_on, lambda: np.asarray(now[0][2][0])


def by_braintrace(n: int, T: int) -> Callable[[], Any]:
    """What takes T steps more."""
    import brainstate
    import braintools
    import braintrace
    import jax
    import jax.numpy as jnp

    brainstate.environ.set(precision=64)
    x, y = (jnp.asarray(v)[:, None] for v in data(n, T)[-2:])

    class Network(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.readout = (
                braintrace.nn.ValinaRNNCell(1, n, activation="tanh"),
                braintrace.nn.Linear(n, 1),
            )

        def update(self, x: Any) -> Any:
            return self.readout(self.cell(x))

    network = Network()
    brainstate.nn.init_all_states(network, batch_size=1)
    w, adam = network.states(brainstate.ParamState), braintools.optim.Adam(lr=LR)
    adam.register_trainable_weights(w)
    model = braintrace.D_RTRL(network)
    model.compile_graph(x[0])

    @brainstate.transform.jit
    def run() -> Any:
        def step(_: Any, now: Any) -> Any:
            x, y = now
            slope, loss = brainstate.transform.grad(lambda: jnp.sum((model(x) - y) ** 2) / 2, w, return_value=True)()
            adam.update(slope)
            return None, loss

        return brainstate.transform.scan(step, None, (x, y))[1]

    return lambda: jax.block_until_ready(run())


def least(programs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The least processor seconds of a run of each, in turns; all have been called before."""
    taken = dict.fromkeys(programs, float("inf"))
    for _ in range(rounds):
        for name, run in programs.items():
            began = time.process_time()
            run()
            taken[name] = min(taken[name], time.process_time() - began)
    return taken


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{'n':>4} {'rule':>7} {'ctrnn':>9} {'JAX':>9} {'ratio':>6}   steps/s; largest difference of W")
    for n in given.units:
        for method in ("rtrl", "snap-1"):
            T = max(16, 40_000 // n) if method == "snap-1" or n < 128 else 64
            pairs = {"ctrnn": ours(n, T, method), "JAX": by_jax(n, T, method)}
            programs = {name: run for name, (run, _) in pairs.items()}
            if method == "snap-1" and find_spec("braintrace"):
                programs["braintrace"] = by_braintrace(n, T)
            for run in programs.values():
                run()
            difference = np.abs(pairs["ctrnn"][1]() - pairs["JAX"][1]()).max()
            rate = {name: T / seconds for name, seconds in least(programs, given.rounds).items()}
            more = f"; braintrace {rate['braintrace']:.1f}" if "braintrace" in rate else ""
            a, b = rate["ctrnn"], rate["JAX"]
            print(f"{n:>4} {method:>7} {a:>9.1f} {b:>9.1f} {a / b:>6.2f}   {difference:.1e}{more}", flush=True)


if __name__ == "__main__":
    main()
