"""``ctrnn lyapunov``: the Lyapunov exponents along the run."""

from __future__ import annotations

import ctrnn
from ctrnn.cli.job import Job, experiment_command, save_npz


def lyapunov(job: Job) -> None:
    """Lyapunov exponents with their standard errors, the Kaplan–Yorke dimension and the entropy."""
    experiment = job.experiment
    fits, spec = job.results.get("fits"), experiment.spec.lyapunov
    problem = next(iter(fits.values())).problem if fits else experiment.problem
    k, transient = (spec.k, spec.transient) if spec else (None, 0.0)
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


command = experiment_command("lyapunov")(lyapunov)
