"""Digits asked against digits got, of values and gradients, ours beside diffrax and torchdiffeq.

    python scripts/benchmarks/digits.py [--out figures/digits.png] [--every 2]        (wants jax, diffrax, torchdiffeq)

On those problems of tests/accuracy.py that are equations without input, whose loss is a state at the end (with --every
k, every k-th of them): r(T) and [dl/dw, dl/dr0] of an adaptive run, rtol = atol, against fixed steps of order 8. ctrnn
and diffrax: Tsit5; diffrax with PIDController and RecursiveCheckpointAdjoint; torchdiffeq: dopri5, torch's autograd
through the steps.
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
    """Whether the problem is equations without input and a state at the end."""
    problem = its.make()
    objective = problem.objective.objective
    at_end = objective.at is not None and list(objective.at) == [problem.t_span[1]]
    named = isinstance(objective.loss, str) and objective.loss in problem.field.state_names
    return isinstance(problem.field, ctrnn.Equations) and not problem.x.size and at_end and named


def ours(problem: ctrnn.Problem) -> Run:
    def run(rtol: float) -> tuple[np.ndarray, np.ndarray]:
        how = {"rtol": rtol, "atol": rtol}
        g = ctrnn.gradient(problem, "adjoint", **how)
        return ctrnn.simulate(problem, **how).r[-1], np.append(g.vector, g.r0)

    return run


def by_torchdiffeq(problem: ctrnn.Problem) -> Run:
    module, k = ctrnn.as_module(problem.field), problem.field.state_names.index(problem.objective.objective.loss)
    t = torch.tensor(problem.t_span, dtype=torch.float64)

    def run(rtol: float) -> tuple[np.ndarray, np.ndarray]:
        y0 = torch.tensor(problem.r0, requires_grad=True)
        y = torchdiffeq.odeint(module, y0, t, rtol=rtol, atol=rtol, method="dopri5")[-1]
        g = torch.autograd.grad(y[k], [*module.weights().values(), y0])
        return y.detach().numpy(), np.concatenate([v.numpy().ravel() for v in g])

    return run


def by_diffrax(problem: ctrnn.Problem) -> Run:
    field = problem.field
    names, k = field.state_names, field.state_names.index(problem.objective.objective.loss)
    symbols = [sympy.Symbol(name) for name in ("t", *names, *field.parameter_names)]
    texts = [sympy.sympify(text, {s.name: s for s in symbols}) for text in field.equations.values()]
    rates = sympy.lambdify(symbols, texts, "jax")
    t0, t1 = problem.t_span

    def loss(z: Any, rtol: Any) -> Any:
        w, r0 = z[: field.m], z[field.m :]
        term = diffrax.ODETerm(lambda t, r, w: jnp.stack([*map(jnp.asarray, rates(t, *r, *w))]).astype(r.dtype))
        control = diffrax.PIDController(rtol=rtol, atol=rtol)
        found = diffrax.diffeqsolve(
            term, diffrax.Tsit5(), t0, t1, None, r0, w, stepsize_controller=control, max_steps=2**14
        )
        return found.ys[-1, k], found.ys[-1]

    both = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def run(rtol: float) -> tuple[np.ndarray, np.ndarray]:
        (_, r), g = both(jnp.append(field.vector, problem.r0), rtol)
        return np.asarray(r), np.asarray(g)

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
        r, g = ctrnn.simulate(plain, "dop853", dt=dt).r[-1], reference(its.name)
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
