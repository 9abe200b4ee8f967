"""Analysis of dynamics beside other programs: continuation, Lyapunov exponents, fixed points.

    python scripts/benchmarks/analysis.py            # all; or: continuation, lyapunov, kuramoto, large, fixed-points

Seconds are those of the processor (all threads of a call), the least of some calls, compilation excluded, so that other
work on the machine counts little. Each table shows what was computed, too: programs that differ are not compared. Peers
come with `pip install -e '.[bench]'` (lyapax, jitcode, jaxcont); one that is not there is left out.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("JAX_ENABLE_X64", "1")

import numpy as np

import ctrnn

LORENZ = {"x": "10*(y - x)", "y": "x*(28 - z) - y", "z": "x*y - 8/3*z"}


def least(run: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """The least processor seconds of a call, after one that is not timed, and what it gave."""
    found, seconds = run(), []
    for _ in range(rounds):
        began = time.process_time()
        found = run()
        seconds.append(time.process_time() - began)
    return min(seconds), found


def lyapunov() -> None:
    """Lorenz, 50,000 RK4 steps of 0.01: all three exponents."""
    field = ctrnn.Equations(LORENZ)
    problem = ctrnn.Problem(field, [1.0, 1.0, 1.0], (0.0, 500.0))
    rows: dict[str, tuple[float, Any]] = {}
    seconds, found = least(lambda: ctrnn.analysis.lyapunov_spectrum(problem, solver="rk4", dt=0.01), 7)
    rows[f"ctrnn, RK4, QR {len(found.t) - 1} times"] = seconds, found.exponents
    seconds, found = least(lambda: ctrnn.analysis.lyapunov_spectrum(problem), 5)
    rows["ctrnn, tsit5, rtol 1e-8"] = seconds, found.exponents
    try:
        import jax.numpy as jnp
        from lyapax import lyapunov_spectrum, ode_problem

        def rhs(state: Any) -> Any:
            x, y, z = state
            return jnp.array([10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z])

        peer = ode_problem(rhs, state0=jnp.array([1.0, 1.0, 1.0]), dt=1e-2)
        rows["lyapax, RK4, QR 5000 times"] = least(
            lambda: np.asarray(lyapunov_spectrum(peer, n_steps=50_000, renorm_every=10, t_transient=0.0).exponents), 3
        )
    except ImportError:
        print("lyapax is not installed")
    try:
        from jitcode import jitcode_lyap, y

        f = [10 * (y(1) - y(0)), y(0) * (28 - y(2)) - y(1), y(0) * y(1) - 8.0 / 3.0 * y(2)]
        compiled = jitcode_lyap(f, n_lyap=3, verbose=False)
        compiled.set_integrator("dopri5")

        def follow() -> Any:
            compiled.set_initial_value([1.0, 1.0, 1.0], 0.0)
            rates = [compiled.integrate(t)[1] for t in np.arange(0.1, 500.05, 0.1)]
            return np.mean(rates, axis=0)

        rows["jitcode, dopri5, QR 5000 times"] = least(follow, 1)
    except Exception as error:
        print(f"jitcode: {error}")
    show("Lyapunov exponents of Lorenz over t = 500", rows, lambda e: ", ".join(f"{v:+.3f}" for v in e))


def kuramoto() -> None:
    """200 phase oscillators, each coupled to each by its own weight: the first 5 exponents over 200 RK4 steps."""
    n, rng = 200, np.random.default_rng(0)
    A, omega, start = rng.uniform(size=(n, n)), rng.normal(size=n), rng.uniform(0.0, 2 * np.pi, n)
    field = ctrnn.Equations(
        {"p": "omega + K/200*(cos(p)*(A @ sin(p)) - sin(p)*(A @ cos(p)))"},
        {"K": 2.0}, states={"p": n}, constants={"A": A, "omega": omega},
    )  # fmt: skip
    problem = ctrnn.Problem(field, start, (0.0, 10.0))
    rows: dict[str, tuple[float, Any]] = {}
    seconds, found = least(lambda: ctrnn.analysis.lyapunov_spectrum(problem, 5, solver="rk4", dt=0.05), 5)
    rows[f"ctrnn, RK4, QR {len(found.t) - 1} times"] = seconds, found.exponents
    try:
        import jax.numpy as jnp
        from lyapax import lyapunov_spectrum, ode_problem

        def rhs(p: Any) -> Any:
            return omega + 2.0 / n * (jnp.cos(p) * (A @ jnp.sin(p)) - jnp.sin(p) * (A @ jnp.cos(p)))

        peer = ode_problem(rhs, state0=jnp.asarray(start), dt=0.05)

        def theirs() -> Any:
            return np.asarray(lyapunov_spectrum(peer, n_steps=200, k=5, renorm_every=1, t_transient=0.0).exponents)

        rows["lyapax, RK4, QR 200 times"] = least(theirs, 3)
    except ImportError:
        print("lyapax is not installed")
    show("dense Kuramoto, d = 200, k = 5, 200 steps", rows, lambda e: ", ".join(f"{v:+.3f}" for v in e))


def continuation() -> None:
    """An S-shaped curve with two folds, in two states: seconds a point."""
    rows: dict[str, tuple[float, Any]] = {}
    field = ctrnn.Equations({"u": "b + u - u**3", "v": "u - v"}, {"b": -0.9})
    start = ctrnn.find_equilibrium(field, [-1.3, -1.3])

    def ours() -> Any:
        return ctrnn.analysis.continue_equilibria(field, start, "b", (-1.0, 1.0), max_step=0.01)

    seconds, branch = least(ours, 5)
    rows["ctrnn"] = seconds / len(branch), [len(branch), *(p.parameter for p in branch.of_kind("fold"))]
    try:
        import jax.numpy as jnp
        import jaxcont as jc

        def rhs(u: Any, p: Any, args: Any) -> Any:
            return jnp.array([p + u[0] - u[0] ** 3, u[0] - u[1]])

        problem = jc.bif_problem(rhs, u0=jnp.asarray(start.r), p0=-0.9, state_names=["u", "v"], param_name="b")

        def theirs() -> Any:
            settings = jc.ContinuationPar(ds=0.02, max_steps=400)
            return jc.continuation(problem, p_span=(-0.9, 1.0), settings=settings, events=[jc.Fold()])

        seconds, result = least(theirs, 1)
        count = len(np.asarray(result.branch.params))
        rows["jaxcont"] = seconds / count, [count, *(float(event.p) for event in result.events)]
    except ImportError:
        print("jaxcont is not installed")
    show("continuation: seconds a point; points, folds (±0.384900)", rows, lambda v: ", ".join(f"{p:.6g}" for p in v))


def large() -> None:
    """1,000 units: a branch of equilibria with two folds, and the first ten exponents of a chaotic network."""
    n, rng = 1000, np.random.default_rng(0)
    W = 2.0 / n * np.ones((n, n)) + 0.3 * rng.normal(size=(n, n)) / np.sqrt(n)
    field = ctrnn.Equations(
        {"r": "-r + W @ tanh(r) + b + I"}, {"I": -1.0}, states={"r": n},
        constants={"W": W, "b": 0.1 * rng.normal(size=n)},
    )  # fmt: skip
    start = ctrnn.find_equilibrium(field, -2.0 * np.ones(n))
    began = time.process_time()
    branch = ctrnn.analysis.continue_equilibria(field, start, "I", (-1.0, 1.0))
    seconds = time.process_time() - began
    show("1,000 units: equilibria", {"ctrnn": (seconds, [len(branch), *(p.parameter for p in branch)])}, str)
    network = ctrnn.RateNetwork(n, gain=3.0, seed=0)
    problem = ctrnn.Problem(network, np.random.default_rng(0).normal(size=n), (0.0, 100.0))
    began = time.process_time()
    found = ctrnn.analysis.lyapunov_spectrum(problem, 10, transient=30.0, solver="rk4", dt=0.1)
    seconds = time.process_time() - began
    show("1,000 units: exponents", {"ctrnn, RK4, k = 10": (seconds, found.exponents)}, lambda e: str(e.round(3)))


def fixed_points() -> None:
    """A network of 64 units from 1,000 starts, beside Adam on ½|F|² in torch."""
    import torch

    n, starts = 64, np.random.default_rng(0).normal(size=(1000, 64))
    field = ctrnn.RateNetwork(n, gain=1.5, seed=0)
    W = torch.tensor(field.parameters["W"])

    def adam() -> Any:
        r = torch.tensor(starts, requires_grad=True)
        optimizer = torch.optim.Adam([r], lr=0.05)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9996)
        for _ in range(15_000):
            optimizer.zero_grad()
            F = -r + torch.tanh(r) @ W.T
            q = 0.5 * F.square().sum(dim=1)
            q.sum().backward()
            optimizer.step()
            schedule.step()
            if float(q.detach().max()) < 1e-14:
                break
        r, q = r.detach().numpy(), q.detach().numpy()
        return f"{(q < 1e-6).mean():.0%} of the starts at q < 1e-6, {(q < 1e-12).mean():.0%} at q < 1e-12"

    def ours(slow: bool) -> str:
        table = ctrnn.analysis.fixed_points(field, starts, slow=slow)
        arrived = f"{1 - table.lost / len(starts):.0%} of the starts"
        return f"{len(table)} points, {arrived}, speed below {table.speed.max():.1g}"

    rows: dict[str, tuple[float, Any]] = {}
    for slow in (False, True):
        name = "Newton, and a descent where it gives up" if not slow else "with the descent from all starts (slow=True)"
        rows[f"ctrnn, {name}"] = least(lambda slow=slow: ours(slow), 2)
    began = time.process_time()
    found = adam()
    rows["torch, Adam on ½|F|², 15,000 steps"] = time.process_time() - began, found
    show("fixed points of 64 units, 1,000 starts", rows, str)


def show(title: str, rows: dict[str, tuple[float, Any]], say: Callable[[Any], str]) -> None:
    """A table for the README."""
    first = next(iter(rows.values()))[0]
    print(f"\n{title}\n")
    print("| program | ms | over the first | found |\n|---|---|---|---|")
    for name, (seconds, found) in rows.items():
        print(f"| {name} | {1e3 * seconds:.4g} | {seconds / first:.3g} × | {say(found)} |")


PARTS = {
    "continuation": continuation,
    "lyapunov": lyapunov,
    "kuramoto": kuramoto,
    "large": large,
    "fixed-points": fixed_points,
}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
