"""The gradient of a rate network, against torch eager and torchdiffeq: python scripts/benchmarks/speed.py

Workload W(n): dr/dt = −r + W tanh(r) + U x + b, float64, W of standard deviation 1.2/√n, four inputs sin(kt), 200 RK4 steps of 0.05 from
r = 0, squared error to cos(t + i/n) after each step, gradient to W, U and b. All programs compute the same loss. Before anything is timed,
ours are checked against torch's autograd to 1e-8, and torchdiffeq's, whose "rk4" is the 3/8 rule, to 1e-4: its truncation error. Rounds are interleaved; the table gives medians and ratios.

Flops of one run, multiply and add counted apart: forward 2 n (n + 5) a stage, backward 2 n² for λ J and 2 n (n + 5) for the weights, 4 stages a
step. The peak is what numpy's matrix product reaches on this machine in the same run, on all cores; ours and torch's run on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
import torchdiffeq
from rich.console import Console
from rich.table import Table

import ctrnn

STEPS, DT, INPUTS = 200, 0.05, 4
Gradient = np.ndarray


def workload(n: int) -> ctrnn.Problem:
    t = DT * np.arange(1, STEPS + 1)
    field = ctrnn.RateNetwork(n, inputs=INPUTS, gain=1.2, seed=0)
    x = ctrnn.inputs.Sine(frequency=np.arange(1, INPUTS + 1) / (2 * np.pi))
    objective = ctrnn.Objective("squared_error", target=np.cos(t[:, None] + np.arange(n) / n), at=t)
    return ctrnn.Problem(field, r0=np.zeros(n), t_span=(0.0, t[-1]), x=x, objective=objective)


class TorchNetwork(torch.nn.Module):
    """The same field, written in torch by hand."""

    def __init__(self, field: ctrnn.RateNetwork) -> None:
        super().__init__()
        self.W, self.U, self.b = (torch.nn.Parameter(torch.tensor(field.parameters[k])) for k in ("W", "U", "b"))
        self.k = torch.arange(1, INPUTS + 1, dtype=torch.float64)

    def forward(self, t: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        return -r + self.W @ torch.tanh(r) + self.U @ torch.sin(self.k * t) + self.b


def programs(n: int) -> dict[str, Callable[[], Gradient]]:
    problem = workload(n)
    module = TorchNetwork(problem.field)
    t = torch.cat([torch.zeros(1, dtype=torch.float64), torch.as_tensor(problem.observed)])
    r0 = torch.zeros(n, dtype=torch.float64)
    y = torch.cos(t[1:, None] + torch.arange(n) / n)

    def vector(loss: torch.Tensor) -> Gradient:
        module.zero_grad()
        loss.backward()
        return torch.cat([p.grad.ravel() for p in (module.W, module.U, module.b)]).numpy()

    def eager() -> Gradient:
        r, loss = r0, torch.zeros((), dtype=torch.float64)
        for m in range(STEPS):
            now = t[m]
            k1 = module(now, r)
            k2 = module(now + DT / 2, r + DT / 2 * k1)
            k3 = module(now + DT / 2, r + DT / 2 * k2)
            k4 = module(now + DT, r + DT * k3)
            r = r + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            loss = loss + 0.5 * ((r - y[m]) ** 2).sum()
        return vector(loss)

    # torchdiffeq's "rk4" is the 3/8 rule: another method of the same order and cost, so it is compared with a looser bound
    def through_torchdiffeq(solve: Callable[..., torch.Tensor]) -> Gradient:
        states = solve(module, r0, t, method="rk4", options={"step_size": DT})
        return vector(0.5 * ((states[1:] - y) ** 2).sum())

    def ours(method: str) -> Callable[[], Gradient]:
        return lambda: ctrnn.gradient(problem, method, solver="rk4", dt=DT).vector

    return {
        "ctrnn, adjoint": ours("adjoint"),
        "ctrnn, exact RTRL": ours("rtrl"),
        "torch eager": eager,
        "torchdiffeq rk4": lambda: through_torchdiffeq(torchdiffeq.odeint),
        "torchdiffeq adjoint rk4": lambda: through_torchdiffeq(torchdiffeq.odeint_adjoint),
    }


def check(every: dict[str, Callable[[], Gradient]]) -> None:
    """Exact methods agree to 1e-8; torchdiffeq's other Runge–Kutta method, and its adjoint ODE, to their truncation error."""
    reference = every["torch eager"]()
    for name, run in every.items():
        bound = 1e-4 if "torchdiffeq" in name else 1e-8
        off = np.linalg.norm(run() - reference) / np.linalg.norm(reference)
        if not off < bound:
            raise SystemExit(f"{name} does not compute the same gradient: {off:.1e} relative")


def gemm_rate(size: int = 1024) -> float:
    """Flops a second of a float64 matrix product."""
    A = np.random.default_rng(0).normal(size=(size, size))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        A @ A
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)


def flops(n: int) -> float:
    return STEPS * 4 * (2 * n * (n + 5) + 2 * n * n + 2 * n * (n + 5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[4, 16, 64, 256], help="numbers of units")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds")
    parser.add_argument(
        "--threads", type=int, default=1, help="torch's threads; two spin against each other on small products"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    peak = gemm_rate()
    table = Table(
        title=f"200 RK4 steps and their gradient; peak {peak / 1e9:.0f} GFLOP/s, torch on {arguments.threads} thread(s)"
    )
    for column in ("n", "program", "median", "ratio to ctrnn adjoint", "of peak"):
        table.add_column(column, justify="left" if column == "program" else "right")
    for n in arguments.n:
        every = programs(n)
        check(every)
        times: dict[str, list[float]] = {name: [] for name in every}
        for _ in range(arguments.rounds):
            for name, run in every.items():
                began = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - began)
        best = median(times["ctrnn, adjoint"])
        for name in every:
            t = median(times[name])
            share = f"{flops(n) / t / peak:.1%}" if "RTRL" not in name else ""
            table.add_row(str(n), name, f"{t * 1e3:.2f} ms", f"{t / best:.1f}", share)
        table.add_section()
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
