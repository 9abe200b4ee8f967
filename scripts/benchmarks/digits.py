"""Digits asked against digits got, of values and gradients, ours beside diffrax and torchdiffeq.

    python scripts/benchmarks/digits.py [--out figures/digits.png] [--every 2]        (wants jax, diffrax, torchdiffeq)

On those problems of tests/accuracy.py that have neither an input nor an integral (with --every k, every k-th of them):
r at the observations and [dl/dw, dl/dr0] of an adaptive run, rtol = atol, against fixed steps of order 8. The other
libraries take the loss as its derivative ∂ℓ/∂r at their own states. ctrnn and diffrax: Tsit5; diffrax with
PIDController and RecursiveCheckpointAdjoint; torchdiffeq: dopri5, torch's autograd through the steps.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchdiffeq

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import diffrax
import jax
import jax.numpy as jnp
import sympy
from accuracy import PROBLEMS, Accuracy, reference

import ctrnn
from ctrnn import plotting
from ctrnn.plotting.style import BLACK, BLUE, GREEN, ORANGE, frame, legend_above, styled

jax.config.update("jax_enable_x64", True)

ASKED = (1e-3, 1e-5, 1e-7, 1e-9)
COLOURS = {"ctrnn": BLUE, "diffrax": ORANGE, "torchdiffeq": GREEN}
Run = Callable[[float], tuple[np.ndarray, np.ndarray]]  # rtol -> r(T), [dl/dw, dl/dr0]


def fits(its: Accuracy) -> bool:
    """Whether the problem has neither an input nor an integral."""
    problem = its.make()
    return not problem.x.size and problem.objective.objective.at is not None


def ours(problem: ctrnn.Problem) -> Run:
    def run(rtol: float) -> tuple[np.ndarray, np.ndarray]:
        how = {"rtol": rtol, "atol": rtol}
        g = ctrnn.gradient(problem, "adjoint", **how)
        r = ctrnn.simulate(problem.replace(objective=None), save_at=problem.observed, **how).r
        return r.ravel(), np.append(g.vector, g.r0)

    return run


def by_torchdiffeq(problem: ctrnn.Problem) -> Run:
    module = ctrnn.as_module(problem.field)
    t = torch.tensor([problem.t_span[0], *problem.observed], dtype=torch.float64)

    def run(rtol: float) -> tuple[np.ndarray, np.ndarray]:
        y0 = torch.tensor(problem.r0, requires_grad=True)
        y = torchdiffeq.odeint(module, y0, t, rtol=rtol, atol=rtol, method="dopri5")[1:]
        r = y.detach().numpy()
        along = torch.from_numpy(problem.objective.at_observations(r)[1])
        weights = list(module.weights().values())
        g = torch.autograd.grad(y, [*weights, y0], along, allow_unused=True)
        parts = [np.zeros(w.shape) if v is None else v.numpy() for v, w in zip(g, [*weights, y0], strict=True)]
        return r.ravel(), np.concatenate([v.ravel() for v in parts])

    return run


def rates_in_jax(field: Any) -> Callable[[Any, Any, Any], Any]:
    """F(t, r, w) of equations or of a network without input."""
    if not isinstance(field, ctrnn.RateNetwork):
        symbols = [sympy.Symbol(name) for name in ("t", *field.state_names, *field.parameter_names)]
        texts = [sympy.sympify(text, {s.name: s for s in symbols}) for text in field.equations.values()]
        rates = sympy.lambdify(symbols, texts, "jax")
        return lambda t, r, w: jnp.stack([*map(jnp.asarray, rates(t, *r, *w))]).astype(r.dtype)
    shapes = {name: value.shape for name, value in field.parameters.items()}
    sizes = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])[:-1]

    def network(t: Any, r: Any, w: Any) -> Any:
        its = {k: v.reshape(shapes[k]) for k, v in zip(shapes, jnp.split(w, sizes), strict=True)}
        return (-r + its["W"] @ jnp.tanh(r) + its["b"]) / jnp.asarray(field.tau)

    return network


def by_diffrax(problem: ctrnn.Problem) -> Run:
    field, rates = problem.field, rates_in_jax(problem.field)
    t0, t1 = problem.t_span
    w, r0 = jnp.asarray(field.vector), jnp.asarray(problem.r0)
    assert np.abs(np.asarray(rates(t0, r0, w)) - field(t0, problem.r0)).max() < 1e-12
    term, save = diffrax.ODETerm(rates), diffrax.SaveAt(ts=jnp.asarray(problem.observed))

    def states(w: Any, r0: Any, rtol: Any) -> Any:
        control = diffrax.PIDController(rtol=rtol, atol=rtol)
        return diffrax.diffeqsolve(
            term, diffrax.Tsit5(), t0, t1, None, r0, w, stepsize_controller=control, saveat=save, max_steps=2**14
        ).ys

    solve = jax.jit(states)
    back = jax.jit(lambda w, r0, rtol, along: jax.vjp(lambda w, r0: states(w, r0, rtol), w, r0)[1](along))

    def run(rtol: float) -> tuple[np.ndarray, np.ndarray]:
        r = np.asarray(solve(w, r0, rtol))
        g = back(w, r0, rtol, jnp.asarray(problem.objective.at_observations(r)[1]))
        return r.ravel(), np.concatenate([np.asarray(part) for part in g])

    return run


def digits(found: np.ndarray, exact: np.ndarray, floor: float) -> float:
    off = float(np.linalg.norm(found - exact)) / max(float(np.linalg.norm(exact)), floor)
    return float(np.clip(-np.log10(max(off, 1e-16)), -3.0, 16.0)) if np.isfinite(off) else -3.0


def measure(every: int) -> dict[str, np.ndarray]:
    """Library -> (problems, tolerances, 2) digits of value and gradient."""
    kinds = {"ctrnn": ours, "diffrax": by_diffrax, "torchdiffeq": by_torchdiffeq}
    got: dict[str, list[Any]] = {name: [] for name in kinds}
    for its in list(filter(fits, PROBLEMS))[::every]:
        problem = its.make()
        plain, dt = problem.replace(objective=None), (problem.t_span[1] - problem.t_span[0]) / its.steps
        r, g = ctrnn.simulate(plain, "dop853", dt=dt, save_at=problem.observed).r.ravel(), reference(its.name)
        for name, kind in kinds.items():
            run, rows = kind(problem), []
            for rtol in ASKED:
                try:
                    value, gradient = run(rtol)
                    rows.append((digits(value, r, 1.0), digits(gradient, g, 0.0)))
                except Exception as error:  # a library that gives up has no digit
                    print(f"{its.name}, {name}, rtol {rtol:g}: {type(error).__name__}", file=sys.stderr)
                    rows.append((-3.0, -3.0))
            got[name].append(rows)
        print(its.name, *(f"{name} {got[name][-1][2][1]:.1f}" for name in kinds), flush=True)
    return {name: np.array(rows) for name, rows in got.items()}


@styled
def draw(got: dict[str, np.ndarray]) -> Any:
    """Medians, and the band from the worst tenth of the problems to the best."""
    figure, axes = frame(1, 2, height=3.2, sharey=True)
    asked = -np.log10(ASKED)
    for panel, what in enumerate(("values", "gradients")):
        for k, (name, found) in enumerate(got.items()):
            low, middle = np.quantile(found[:, :, panel], [0.1, 0.5], axis=0)
            shift = 0.12 * (k - 1)  # so that lines that lie on each other are seen
            axes[panel].plot(asked + shift, middle, "o-", color=COLOURS[name], ms=4, label=f"{name}, median")
            style = {"color": COLOURS[name], "ms": 3.5, "lw": 1.0, "label": f"{name}, worst tenth"}
            axes[panel].plot(asked + shift, low, "s--", **style)
        axes[panel].plot(asked, asked, color=BLACK, lw=0.8, label="as asked")
        axes[panel].plot(asked, asked - 2, ":", color=BLACK, lw=0.8, label="100 times the tolerance")
        axes[panel].set(xlabel="digits asked, −log10 rtol", title=f"{what}: {len(next(iter(got.values())))} problems")
    axes[0].set_ylabel("digits got")
    legend_above(figure, axes[0])
    return figure


def main(arguments: list[str]) -> None:
    out = arguments[arguments.index("--out") + 1] if "--out" in arguments else "figures/digits.png"
    warnings.simplefilter("ignore")
    got = measure(int(arguments[arguments.index("--every") + 1]) if "--every" in arguments else 1)
    print("digits got: median, and the worst tenth of the problems")
    print("rtol", *ASKED, sep="\t")
    for panel, what in enumerate(("values", "gradients")):
        for name, found in got.items():
            low, middle = np.quantile(found[:, :, panel], [0.1, 0.5], axis=0)
            print(f"{what}, {name}", *(f"{m:.1f}, {l:.1f}" for m, l in zip(middle, low, strict=True)), sep="\t")
    plotting.save(draw(got), out)


if __name__ == "__main__":
    main(sys.argv[1:])
