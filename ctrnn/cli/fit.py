"""``ctrnn fit``: parameters that make the objective least."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.cli.gradient import SHOWN
from ctrnn.cli.job import Job, experiment_command, save_npz
from ctrnn.experiment.methods import gradient_methods


def fit(job: Job) -> None:
    """Parameters, and r0 if asked, that make the objective least, by each method of [fit]."""
    from ctrnn import learning

    experiment = job.experiment
    experiment.require("objective")
    problem, spec = experiment.problem, experiment.require("fit")
    fits: dict[str, Any] = {}
    for method in gradient_methods(experiment.spec, "fit"):
        with experiment.solving("fit", learning_rate=("fit", "learning_rate")):
            one = learning.fit(
                problem,
                parameters=spec.parameters,
                r0=spec.r0,
                transform=spec.transform,
                optimizer=spec.optimizer,
                method=method,
                max_iterations=spec.max_iterations,
                learning_rate=spec.learning_rate,
                **experiment.solver,
            )
        fits[str(method)] = one
    job.results["fits"] = fits
    job.summary["fit"] = {name: _summary(job, one) for name, one in fits.items()}
    for k, (name, one) in enumerate(fits.items()):
        field = one.problem.field
        arrays = {f"parameters.{key}": value for key, value in field.parameters.items()}
        arrays |= {f"readout.{key}": value for key, value in (one.readout or {}).items()}
        save_npz(
            job.path("fit.npz" if k == 0 else f"fit-{k + 1}.npz"),
            r0=one.problem.r0,
            history=np.asarray(one.history),
            **arrays,
        )
        _print(job, name, one)
    if len(fits) > 1:
        _apart(job, fits)


def _summary(job: Job, one: Any) -> dict[str, Any]:
    few = one.problem.field.m <= SHOWN
    numbers = {
        "initial_loss": one.initial_loss,
        "loss": one.loss,
        "iterations": one.iterations,
        "converged": one.converged,
        "message": one.message,
    }
    spec = job.experiment.require("objective")
    if spec.loss == "squared_error" and spec.at is not None and spec.weight == 1.0:
        numbers["sum_of_squared_errors"] = 2 * one.loss
    if few:
        numbers |= {"parameters": one.problem.field.parameters, "r0": one.problem.r0}
    return numbers


def _print(job: Job, name: str, one: Any) -> None:
    before, after = job.experiment.problem, one.problem
    title = f"fit by {name}: loss {one.initial_loss:.7g} → {one.loss:.7g}"
    title += f" in {one.iterations} iterations"
    squares = job.summary["fit"][name].get("sum_of_squared_errors")
    if squares is not None:
        title += f", sum of squared errors {squares:.6f}"
    title += f"\n{one.message}"
    if after.field.m <= SHOWN:
        labels = [*after.field.labels, *(f"{s} at t0" for s in after.field.state_names)]
        old = np.concatenate([before.field.vector, before.r0])
        new = np.concatenate([after.field.vector, after.r0])
        rows = [(a, float(b), float(c)) for a, b, c in zip(labels, old, new, strict=True)]
        job.table(title, ("", "start", "fitted"), rows)
    else:
        rows = [
            (key, float(np.linalg.norm(before.field.parameters[key])), float(np.linalg.norm(value)))
            for key, value in after.field.parameters.items()
            if value.size
        ]
        job.table(title, ("", "norm at the start", "norm fitted"), rows)


def _apart(job: Job, fits: dict[str, Any]) -> None:
    """How far the weights of the other methods ended from those of the first."""
    (first, reference), *others = fits.items()
    w = reference.problem.field.vector
    rows = []
    for name, one in others:
        distance = float(np.max(np.abs(one.problem.field.vector - w)) / np.max(np.abs(w)))
        rows.append((name, distance, float(one.loss - reference.loss)))
        job.summary["fit"][name]["distance"] = distance
    columns = ("", "largest difference of weights, relative", "difference of loss")
    job.table(f"apart from {first}", columns, rows)


command = experiment_command("fit")(fit)
