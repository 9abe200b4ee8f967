"""``ctrnn lyapunov``: the Lyapunov exponents along the run."""

from __future__ import annotations

from typing import Any

import numpy as np

import ctrnn
from ctrnn.cli.job import Job, experiment_command, save_npz
from ctrnn.experiment.build_objective import numbers_of
from ctrnn.experiment.schema import Grid


def lyapunov(job: Job) -> None:
    """Lyapunov exponents with their standard errors, the Kaplan–Yorke dimension and the entropy."""
    experiment = job.experiment
    spec, problem = experiment.spec.lyapunov, job.problem
    k, transient = (spec.k, spec.transient) if spec else (None, 0.0)
    if spec and spec.parameter is not None:
        _against(job, problem.replace(objective=None), spec)
        return
    with experiment.solving("lyapunov", transient=("lyapunov", "transient")):
        found = ctrnn.analysis.lyapunov_spectrum(
            problem.replace(objective=None), k, transient, **experiment.limited_solver
        )
    job.results["lyapunov"] = found
    save_npz(job.path("lyapunov.npz"), exponents=found.exponents, t=found.t[1:], running=found.running)
    job.summary["lyapunov"] = {
        "exponents": found.exponents,
        "standard_errors": found.standard_errors,
        "kaplan_yorke_dimension": found.dimension,
        "entropy": found.entropy,
    }
    pairs = zip(found.exponents[:12], found.standard_errors[:12], strict=True)
    rows = [(i + 1, float(value), float(error)) for i, (value, error) in enumerate(pairs)]
    title = f"Lyapunov exponents per unit of t, over t = {found.t[0]:g} to {found.t[-1]:g}"
    job.table(title, ("", "exponent", "standard error"), rows)


def _against(job: Job, problem: Any, spec: Any) -> None:
    """The exponents at each value of the parameter."""
    experiment, grid = job.experiment, spec.values
    at = numbers_of(experiment, grid, ("lyapunov", "values")) if isinstance(grid, Grid) else np.array(grid)
    with experiment.solving("lyapunov", transient=("lyapunov", "transient"), parameters=("lyapunov", "values")):
        found = ctrnn.analysis.lyapunov_spectra(
            problem, {spec.parameter: at}, k=spec.k, transient=spec.transient, **experiment.limited_solver
        )
    job.results["lyapunov"] = found
    arrays = {"parameter": at, "exponents": found.exponents, "standard_errors": found.standard_errors}
    save_npz(job.path("lyapunov.npz"), **arrays, dimension=found.dimension)
    job.summary["lyapunov"] = {
        "parameter": spec.parameter, "values": at, "exponents": found.exponents,
        "standard_errors": found.standard_errors, "kaplan_yorke_dimension": found.dimension,
    }  # fmt: skip
    shown = min(found.exponents.shape[1], 4)
    columns = (spec.parameter, *(f"λ{i + 1}" for i in range(shown)), "sum", "dimension")
    rows = [
        (float(value), *(float(v) for v in one.exponents[:shown]), float(one.exponents.sum()), float(d))
        for value, one, d in zip(at, found.members, found.dimension, strict=True)
    ]
    job.table(f"Lyapunov exponents per unit of t against {spec.parameter}", columns, rows)


command = experiment_command("lyapunov")(lyapunov)
