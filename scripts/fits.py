"""The battery of fits: from scattered starts, how often the least is reached, and whether ``converged`` is true.

    python scripts/fits.py [--starts 30] [--problem NAME ...] [--optimizer NAME ...]

A start is a quantity times 1 ± spread. "reached" counts ends within 1e-6 of the least loss that anything found, "true"
the ends whose ``converged`` is right: a start of SciPy's own least squares (method "lm", finite differences of its own
solver's solution) from the end lowers the loss by no more than 1e-6 of it if, and only if, the fit says that it has
converged. An end that says "not converged" and cannot be improved counts as modest, not as false.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import least_squares

import ctrnn
from ctrnn.errors import UsageError
from ctrnn.experiment.build import Experiment

LORENZ = {"x": "s*(y - x)", "y": "x*(rho - z) - y", "z": "x*y - b*z"}
SOLVER = {"rtol": 1e-8, "atol": 1e-10}
#: of F, in one run of SciPy's solver
MOST_EVALUATIONS = 20_000


def made(field: Any, r0: Any, t_end: float, K: int, noise: float, readout: Any = None) -> tuple[Any, Any]:
    """A problem whose data it has made itself, with noise from a seed, and its true quantities."""
    t = np.linspace(0, t_end, K + 1)[1:]
    problem = ctrnn.Problem(field, r0, (0, t_end))
    y = ctrnn.simulate(problem, save_at=t, rtol=1e-11, atol=1e-11).r
    if readout is not None:
        y = y[:, [field.state_names.index(name) for name in readout]]
    y = y + noise * np.random.default_rng(7).normal(size=y.shape)
    return problem.replace(objective=ctrnn.Objective(target=y, at=t, readout=readout)), field.vector


def problems() -> dict[str, tuple[Any, dict[str, Any], float]]:
    """Name -> (problem at its true or published values, options of the fit, spread of the starts)."""
    E = ctrnn.Equations
    fhn = E({"v": "v - v**3/3 - w + I", "w": "e*(v + a - b*w)"}, parameters={"I": 0.5, "e": 0.08, "a": 0.7, "b": 0.8})
    hare = Experiment("hare-lynx").problem
    hare = hare.replace(field=hare.field.with_vector([0.55, 0.028, 0.8, 0.024]))
    lorenz = E(LORENZ, parameters={"s": 10.0, "rho": 28.0, "b": 8 / 3})
    network = ctrnn.RateNetwork(3, gain=1.5, seed=1)
    logistic = E({"x": "r*x*(1 - x/K)"}, parameters={"r": 0.9, "K": 5.0})
    return {
        "exponential": (made(E({"r": "k*r"}, parameters={"k": -0.3}), [1.0], 10, 20, 0.01)[0], {}, 3.0),
        "logistic": (made(logistic, [0.3], 8, 16, 0.05)[0], {"r0": True}, 0.6),
        "hare-lynx": (hare, {"r0": True, "transform": "log"}, 0.3),
        "hare-lynx, shooting": (hare, {"r0": True, "transform": "log", "shooting": True}, 0.3),
        "FitzHugh-Nagumo": (made(fhn, [-1.0, 1.0], 60, 60, 0.05)[0], {}, 0.3),
        "FitzHugh-Nagumo, shooting": (made(fhn, [-1.0, 1.0], 60, 60, 0.05)[0], {"shooting": True}, 0.3),
        "Lorenz, shooting": (made(lorenz, [-8.0, 8.0, 27.0], 5, 100, 0.5)[0], {"r0": True, "shooting": True}, 0.5),
        "network": (made(network, [1.0, -0.5, 0.3], 6, 40, 0.01)[0], {"parameters": ["W", "b"]}, 0.5),
    }


class Stiff(Exception):
    """A run that wandered where DOP853 takes for ever."""


def residuals(problem: Any, c: Any) -> Callable[[Any], Any]:
    """The residuals in theta by SciPy's solver alone."""
    t, y = problem.observed, problem.objective.targets

    def z(theta: Any) -> Any:
        try:
            one, left = c.problem(theta), iter(range(MOST_EVALUATIONS))
        except UsageError:  # beyond the range of float64
            return np.full(y.size, 1e6)

        def rate(s: float, r: Any) -> Any:
            if next(left, None) is None or not np.isfinite(r).all():
                raise Stiff
            return one.field(s, r)

        run = solve_ivp(rate, one.t_span, one.r0, method="DOP853", t_eval=t, rtol=1e-10, atol=1e-12)
        if run.y.shape[1] != len(t):
            return np.full(y.size, 1e6)
        return (one.objective.output(run.y.T) - y).ravel()

    return z


def improves(found: Any) -> float:
    """By how much of the loss SciPy's own least squares can still lower it; NaN where its way leads to stiff runs."""
    c = found.statement.coordinates(found.problem)
    z = residuals(found.problem, c)
    before = 0.5 * np.sum(z(c.start) ** 2)
    try:
        after = least_squares(z, c.start, method="lm", x_scale="jac", max_nfev=60 * (len(c.start) + 1))
    except Stiff:
        return float("nan")
    return float((before - after.cost) / before)


def main() -> None:
    """Run, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=30)
    parser.add_argument("--problem", nargs="*")
    parser.add_argument("--optimizer", nargs="*", default=["auto"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    head = ("problem", "optimiser", "starts", "reached", "converged", "false", "modest", "failed", "s each")
    print("{:28}{:14}{:>7}{:>9}{:>11}{:>7}{:>8}{:>8}{:>8}".format(*head))
    for name, (problem, options, spread) in problems().items():
        if arguments.problem and name not in arguments.problem:
            continue
        for optimizer in arguments.optimizer:
            row(name, problem, options, spread, optimizer, arguments.starts)


def row(name: str, problem: Any, options: dict[str, Any], spread: float, optimizer: str, starts: int) -> None:
    """One problem by one optimiser."""
    rng = np.random.default_rng(0)
    ends, failed, began = [], 0, time.perf_counter()
    for _ in range(starts):
        w = problem.field.vector
        field = problem.field.with_vector(w * (1 + spread * rng.uniform(-1, 1, w.size)))
        r0 = problem.r0 * (1 + (spread if options.get("r0") else 0) * rng.uniform(-1, 1, problem.r0.size))
        try:
            ends.append(ctrnn.fit(problem.replace(field=field, r0=r0), optimizer=optimizer, **options, **SOLVER))
        except ctrnn.errors.CtrnnError:
            failed += 1
    seconds = (time.perf_counter() - began) / starts
    best = min(end.loss for end in ends)
    reached = sum(end.loss <= best * (1 + 1e-6) for end in ends)
    converged = [end for end in ends if end.converged]
    false = sum(improves(end) > 1e-6 for end in converged)
    modest = sum(improves(end) <= 1e-6 for end in ends if not end.converged)
    print(
        f"{name:28}{optimizer:14}{starts:7}{reached:9}{len(converged):11}{false:7}{modest:8}{failed:8}{seconds:8.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
