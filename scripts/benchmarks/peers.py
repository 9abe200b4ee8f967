"""Workload W(n, B) in the libraries that one could use instead, as their own experts would write it; each is a program
that gives dl/d(W, U, b).

dr/dt = −r + W tanh(r) + U x + b in float64, W of standard deviation 1.2/√n, four inputs x_k = sin(kt), 200 RK4 steps of
0.05; squared error to cos(t + i/n) after each step. One trial starts from 0; of B trials the others start elsewhere,
and the loss is their sum.

JAX and diffrax are compiled before they are timed, and products of what is known beforehand (U x) are taken out of the
loop where that pays. torch runs on one thread: two spin against each other on products of this size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import ctrnn

STEPS, DT, INPUTS = 200, 0.05, 4
T = DT * np.arange(STEPS + 1)
Array = np.ndarray
Gradient = Callable[[], Array]

# nodes c, rows of a, and b: the classical method, and the 3/8 rule that torchdiffeq calls rk4
CLASSICAL = (0, 1 / 2, 1 / 2, 1), ((), (1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)
THREE_EIGHTHS = (0, 1 / 3, 2 / 3, 1), ((), (1 / 3,), (-1 / 3, 1), (1, -1, 1)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)


@dataclass(frozen=True)
class Workload:
    """Weights (W, U, b), starts r0 (n,) or (B, n), targets y (200, n), and the same as a ctrnn problem."""

    w: tuple[Array, Array, Array]
    r0: Array
    y: Array
    problem: Any

    @classmethod
    def of(cls, n: int, B: int = 1) -> Workload:
        field = ctrnn.RateNetwork(n, inputs=INPUTS, gain=1.2, seed=0)
        x = ctrnn.inputs.Sine(frequency=np.arange(1, INPUTS + 1) / (2 * np.pi))
        y = np.cos(T[1:, None] + np.arange(n) / n)
        what: dict[str, Any] = {"t_span": (0.0, T[-1]), "x": x, "objective": ctrnn.Objective(target=y, at=T[1:])}
        r0 = np.random.default_rng(1).normal(size=(B, n))
        r0[0] = 0.0
        w = tuple(field.parameters[k] for k in ("W", "U", "b"))
        if B == 1:
            return cls(w, r0[0], y, ctrnn.Problem(field, r0[0], **what))
        return cls(w, r0, y, ctrnn.Trials(field, r0, **what))


def flat(parts: Any) -> Array:
    return np.concatenate([np.asarray(part).ravel() for part in parts])


def ours(work: Workload, method: str = "adjoint", solver: str = "rk4") -> Gradient:
    return lambda: ctrnn.gradient(work.problem, method, solver=solver, dt=DT).vector


def our_simulation(work: Workload, solver: str) -> Gradient:
    return lambda: ctrnn.simulate(work.problem, solver, dt=DT, save_at=T[1:]).r


def jax_steps(work: Workload, tableau: Any = CLASSICAL) -> tuple[Any, Any, Any]:
    """What both programs in plain JAX share: the step r, x, w -> r⁺ with x at the stages, those x (200, stages, 4), and
    targets that broadcast."""
    import jax.numpy as jnp

    c, a, b = tableau
    x = jnp.sin((T[:-1, None] + DT * np.array(c))[..., None] * np.arange(1, INPUTS + 1))

    def step(r: Any, drive: Any, F: Any) -> Any:
        k: list[Any] = []
        for row, d in zip(a, drive, strict=True):
            k.append(F(r + DT * sum((a_ij * k_j for a_ij, k_j in zip(row, k, strict=True) if a_ij), 0.0), d))
        return r + DT * sum(b_i * k_i for b_i, k_i in zip(b, k, strict=True))

    return step, x, jnp.asarray(work.y if work.r0.ndim == 1 else work.y[:, None])


def jax_bptt(work: Workload, tableau: Any = CLASSICAL) -> Gradient:
    """jit(grad) of a lax.scan over the steps."""
    import jax
    import jax.numpy as jnp

    step, x, y = jax_steps(work, tableau)
    r0 = jnp.asarray(work.r0)

    def loss(w: Any) -> Any:
        W, U, b = w

        def advance(carried: Any, now: Any) -> Any:
            r, l = carried
            r = step(r, now[0], lambda r, d: -r + jnp.tanh(r) @ W.T + d)
            return (r, l + 0.5 * jnp.sum((r - now[1]) ** 2)), None

        return jax.lax.scan(advance, (r0, 0.0), (x @ U.T + b, y))[0][1]

    gradient = jax.jit(jax.grad(loss))
    w = tuple(map(jnp.asarray, work.w))
    return lambda: flat(gradient(w))


def jax_rtrl(work: Workload) -> Gradient:
    """Textbook RTRL: P = dr/dw (n, m) goes through the steps with r, dP/dt = J P + F_w; g ← g + (r − y) P after
    each."""
    import jax
    import jax.numpy as jnp

    step, x, y = jax_steps(work)
    n = work.r0.size
    eye, r0 = jnp.eye(n), jnp.asarray(work.r0)

    @jax.jit
    def gradient(w: Any) -> Any:
        W, U, b = w

        def F(state: Any, x: Any) -> Any:
            r, P = state[:, 0], state[:, 1:]
            h = jnp.tanh(r)
            direct = (eye[:, :, None] * jnp.concatenate([h, x, jnp.ones(1)])).reshape(n, -1)
            rate = -r + W @ h + U @ x + b
            return jnp.concatenate([rate[:, None], W @ ((1 - h**2)[:, None] * P) - P + direct], axis=1)

        def advance(carried: Any, now: Any) -> Any:
            state, g = carried
            state = step(state, now[0], F)
            return (state, g + (state[:, 0] - now[1]) @ state[:, 1:]), None

        m = n * (n + INPUTS + 1)
        start = jnp.concatenate([r0[:, None], jnp.zeros((n, m))], axis=1), jnp.zeros(m)
        g = jax.lax.scan(advance, start, (x, y))[0][1].reshape(n, -1)
        return g[:, :n], g[:, n : n + INPUTS], g[:, -1]

    w = tuple(map(jnp.asarray, work.w))
    return lambda: flat(gradient(w))


def diffrax_programs(work: Workload) -> tuple[Gradient, Gradient]:
    """The gradient by RecursiveCheckpointAdjoint, with a checkpoint a step as memory allows it, and the simulation
    alone; Tsit5, the same steps."""
    import diffrax
    import jax
    import jax.numpy as jnp

    t, k = jnp.asarray(T), jnp.arange(1.0, INPUTS + 1)
    r0, y = jnp.asarray(work.r0), jnp.asarray(work.y if work.r0.ndim == 1 else work.y[:, None])

    def F(t: Any, r: Any, w: Any) -> Any:
        W, U, b = w
        return -r + jnp.tanh(r) @ W.T + U @ jnp.sin(k * t) + b

    def solve(w: Any) -> Any:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(F),
            diffrax.Tsit5(),
            0.0,
            T[-1],
            None,
            r0,
            w,
            saveat=diffrax.SaveAt(ts=t[1:]),
            stepsize_controller=diffrax.StepTo(ts=t),
            max_steps=STEPS,
            adjoint=diffrax.RecursiveCheckpointAdjoint(checkpoints=STEPS),
        ).ys

    gradient = jax.jit(jax.grad(lambda w: 0.5 * jnp.sum((solve(w) - y) ** 2)))
    simulation = jax.jit(solve)
    w = tuple(map(jnp.asarray, work.w))
    return lambda: flat(gradient(w)), lambda: np.asarray(simulation(w))


def torch_programs(work: Workload) -> dict[str, Gradient]:
    """torch's autograd through the loop written by hand; torchdiffeq; torchode, whose steps are Tsit5's (its adaptive
    loop, held to 0.05)."""
    import torch

    torch.set_num_threads(1)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.W, self.U, self.b = (torch.nn.Parameter(torch.tensor(part)) for part in work.w)
            self.k = torch.arange(1, INPUTS + 1, dtype=torch.float64)

        def forward(self, t: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
            return -r + torch.tanh(r) @ self.W.T + torch.sin(self.k * t[..., None]) @ self.U.T + self.b

    F = Network()
    t, y, r0 = (torch.tensor(value) for value in (T, work.y, work.r0))
    if r0.ndim == 2:
        y = y[:, None]

    def gradient(loss: torch.Tensor) -> Array:
        F.zero_grad()
        loss.backward()
        return flat([p.grad for p in F.parameters()])

    def eager() -> Array:
        r, l = r0, torch.zeros((), dtype=torch.float64)
        for now, target in zip(t[:-1], y, strict=True):
            k1 = F(now, r)
            k2 = F(now + DT / 2, r + DT / 2 * k1)
            k3 = F(now + DT / 2, r + DT / 2 * k2)
            k4 = F(now + DT, r + DT * k3)
            r = r + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            l = l + 0.5 * ((r - target) ** 2).sum()
        return gradient(l)

    programs = {"torch eager": eager}
    try:
        import torchdiffeq

        def through(solve: Any) -> Array:
            states = solve(F, r0, t, method="rk4", options={"step_size": DT})[1:]
            return gradient(0.5 * ((states - y) ** 2).sum())

        programs["torchdiffeq rk4"] = lambda: through(torchdiffeq.odeint)
        programs["torchdiffeq adjoint"] = lambda: through(torchdiffeq.odeint_adjoint)
    except ImportError:
        pass
    try:
        import torchode

        start = r0.reshape(-1, r0.shape[-1])
        term = torchode.ODETerm(F)
        solver = torchode.AutoDiffAdjoint(torchode.Tsit5(term), torchode.FixedStepController())
        times = t.expand(len(start), -1)
        wanted = torchode.InitialValueProblem(start, t_eval=times)
        h = torch.full((len(start),), DT, dtype=torch.float64)

        def through_torchode() -> Array:
            states = solver.solve(wanted, dt0=h).ys.transpose(0, 1)[1:]
            return gradient(0.5 * ((states - (y if y.ndim == 3 else y[:, None])) ** 2).sum())

        programs["torchode Tsit5"] = through_torchode
    except ImportError:
        pass
    return programs
