"""``ctrnn fit``: parameters that make the objective least."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np

import ctrnn
from ctrnn.cli.gradient import SHOWN, entries, is_few, quantities, readout_of
from ctrnn.cli.job import Job, experiment_command, save_npz
from ctrnn.experiment.methods import gradient_methods
from ctrnn.files import atomic_path
from ctrnn.learning.result import valley_table
from ctrnn.trajectory import Trajectory

#: What SciPy's optimisers say at their end, and what it means.
PLAIN = {
    "relative reduction of f": "converged: the loss falls no further",
    "norm of projected gradient": "converged: the gradient is zero to its tolerance",
    "optimization terminated successfully": "converged",
    "local minimum reached": "converged: the gradient is zero to its tolerance",
    "converged (|f_n-f_(n-1)|": "converged: the loss falls no further",
    "converged (|x_n-x_(n-1)|": "converged: the parameters move no further",
    "`gtol` termination": "converged: the gradient is zero to its tolerance",
    "`ftol` termination": "converged: the loss falls no further",
    "`xtol` termination": "converged: the steps have become as small as their tolerance",
    "reached limit": "stopped at the limit of iterations or gradients (fit.max_iterations)",
    "exceeds limit": "stopped at the limit of iterations or gradients (fit.max_iterations)",
    "maximum number of": "stopped at the limit of iterations (fit.max_iterations)",
    "max. number of": "stopped at the limit of gradients (fit.max_iterations)",
    "iteration limit": "stopped at the limit of iterations (fit.max_iterations)",
    "precision loss": "stopped: rounding hides any further descent",
    "abnormal": "stopped: no step along the descent lowers the loss",
    "linear search failed": "stopped: no step along the descent lowers the loss",
    "positive directional derivative": "stopped: no step along the descent lowers the loss",
}


def fit(job: Job) -> None:
    """Parameters, and r0 if asked, that make the objective least, by each method of [fit]."""
    experiment = job.experiment
    fits: dict[str, Any] = {}
    for method in gradient_methods(experiment.spec, "fit"):
        with experiment.solving("fit", learning_rate=("fit", "learning_rate")):
            name = str(getattr(method, "name", method))
            fits[name] = ctrnn.learning.fit(experiment.problem, method=method, **experiment.fit_options)
    job.results["fits"], job.results["fitted"] = fits, {}
    job.summary["fit"] = {name: _summary(job, one) for name, one in fits.items()}
    for k, (name, one) in enumerate(fits.items()):
        _save(job, name, one, "" if k == 0 else f"-{k + 1}")
        _print(job, name, one)
    if len(fits) > 1:
        _apart(job, fits)


def plain_words(message: str) -> str:
    """An optimiser's last words, in plain ones.

    >>> plain_words("Convergence: relative reduction of f <= factr*epsmch")
    'converged: the loss falls no further'
    """
    first, *others = message.split(";")
    found = next((words for raw, words in PLAIN.items() if raw in first.lower()), first)
    return ";".join([found, *others])


def _save(job: Job, name: str, one: Any, number: str) -> None:
    """Parameters and solution, as CSV and NPZ."""
    e, problem = job.experiment, one.problem
    arrays = {f"parameters.{key}": value for key, value in problem.field.parameters.items()}
    arrays |= {f"readout.{key}": value for key, value in readout_of(problem).items()}
    save_npz(job.path(f"fit{number}.npz"), r0=problem.r0, history=np.asarray(one.history), **arrays)
    with atomic_path(job.path(f"fit{number}.csv")) as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
        rows = csv.writer(f, lineterminator="\n")
        rows.writerow(("parameter", "start", "fitted", "std_error"))
        for _, label, *numbers in rows_of(e.problem, one):
            rows.writerow((label, *("" if value is None else repr(value) for value in numbers)))
    with e.solving():
        run = ctrnn.simulate(problem, save_at=e.grid, **e.limited_solver)
    job.results["fitted"][name] = run
    run.to_csv(job.path(f"fitted-trajectory{number}.csv"))
    if readout_of(problem):
        output = Trajectory(run.t, problem.objective.output(run.r), e.output_names)
        output.to_csv(job.path(f"fitted-output{number}.csv"))


def _summary(job: Job, one: Any) -> dict[str, Any]:
    numbers = {
        "initial_loss": one.initial_loss,
        "loss": one.loss,
        "iterations": one.iterations,
        "converged": one.converged,
        "reason": one.reason,
        "message": plain_words(one.message),
    }
    errors, why = one.errors_or_why
    if errors is not None:
        numbers["standard_errors"] = dict(zip(errors.labels, errors.standard_errors.tolist(), strict=True))
        numbers["correlations"] = {"names": errors.labels, "matrix": errors.correlations}
        if not np.isnan(errors.sigma):
            numbers["sigma"] = errors.sigma
    elif why:
        numbers["no_standard_errors"] = why
    if one.sigma is not None:
        numbers["sigma"] = one.sigma
    if one.valleys:
        numbers["valleys"] = [vars(valley) for valley in one.valleys]
        numbers["starts_without_solution"] = one.failed
    spec = job.experiment.require("objective")
    if spec.loss == "squared_error" and spec.at is not None and spec.weight == 1.0 and _is_half_squares(one):
        numbers["sum_of_squared_errors"] = 2 * one.loss
    if is_few(one.problem):
        numbers |= {"parameters": one.problem.field.parameters, "r0": one.problem.r0}
        if readout_of(one.problem):
            numbers["readout"] = readout_of(one.problem)
    return numbers


def _print(job: Job, name: str, one: Any) -> None:
    before, after = job.experiment.problem, one.problem
    title = f"fit by {name}: loss {one.initial_loss:.7g} → {one.loss:.7g}"
    title += f" in {one.iterations} iterations"
    squares = job.summary["fit"][name].get("sum_of_squared_errors")
    if squares is not None:
        title += f", sum of squared errors {squares:.6f}"
    said = plain_words(one.message).removeprefix("converged: ")
    title += f"\n{'converged: ' + said if one.converged else 'not converged: ' + one.reason + ' (' + said + ')'}"
    rows: list[tuple[Any, ...]]
    coordinates = one.statement.coordinates(after)
    if is_few(after):
        fitted = {*coordinates.labels, ""}
        errors, why = one.errors_or_why
        table = [
            (label, "" if a is None else a, b, "" if s is None else s)
            for name, label, a, b, s in rows_of(before, one)
            if name in fitted
        ]
        if errors is None:
            job.table(title, ("", "start", "fitted"), [row[:3] for row in table])
        else:
            job.table(title, ("", "start", "fitted", "std. error"), table)
        if why:
            job.console.print(f"no standard errors: {why}\n", markup=False)
        if errors is not None and 1 < len(errors.labels) <= SHOWN:
            width = len(errors.labels)
            lower = [
                (name, *(f"{c:.3f}" for c in errors.correlations[i, : i + 1]), *[""] * (width - i - 1))
                for i, name in enumerate(errors.labels)
            ]
            job.table("correlations", ("", *errors.labels), lower)
        if one.valleys:
            job.console.print(valley_table(one.valleys, one.failed) + "\n", markup=False)
    else:
        start = quantities(before)
        rows = [
            (key, float(np.linalg.norm(start[key])), float(np.linalg.norm(value)))
            for key, value in quantities(after).items()
            if np.size(value) and key.replace("readout ", "readout.") in coordinates.where
        ]
        job.table(title, ("", "norm at the start", "norm fitted"), rows)


def _is_half_squares(one: Any) -> bool:
    """Whether the loss is half the sum of squared errors, and nothing else."""
    return one.statement.is_plain and not one.statement.prior


def rows_of(before: Any, one: Any) -> list[tuple[str, str, float | None, float, float | None]]:
    """Name in the fit, label, start, end and standard error of each number, fitted or not.

    Of the standard deviations that were estimated along, too: these have no name.
    """
    errors, _ = one.errors_or_why
    s = {} if errors is None else dict(zip(errors.labels, errors.standard_errors.tolist(), strict=True))
    names = [*one.problem.field.labels]
    for name, value in readout_of(one.problem).items():
        names += [f"readout.{name}[{i}]" for i in range(np.size(value))]
    names += [f"r0[{state}]" for state in one.problem.field.state_names]
    rows: list[tuple[str, str, float | None, float, float | None]] = [
        (name, label, a, b, s.get(name))
        for name, (label, a), (_, b) in zip(names, entries(before), entries(one.problem), strict=True)
    ]
    if one.sigma is not None and errors is not None:
        every = zip(errors.labels, errors.values.tolist(), strict=True)
        rows += [("", label, None, value, s[label]) for label, value in every if label.startswith("sigma[")]
    return rows


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
