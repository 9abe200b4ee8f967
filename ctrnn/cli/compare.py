"""``ctrnn compare``: gradient methods side by side."""

from __future__ import annotations

from ctrnn.cli.job import Job, experiment_command
from ctrnn.experiment.methods import gradient_method, gradient_methods


def compare(job: Job) -> None:
    """Gradient methods side by side: digits of agreement, time, memory, evaluations."""
    import ctrnn

    experiment = job.experiment
    experiment.require("objective")
    reference = gradient_method(experiment.require("compare").reference)
    problem, methods = experiment.problem, gradient_methods(experiment.spec, "compare")
    with experiment.solving(method=("compare", "methods")):
        options = experiment.limited_solver | {"reference": reference}
        comparison = ctrnn.compare_gradients(problem, methods=methods, **options)
    job.results["comparison"] = comparison
    job.summary["compare"] = {
        row.method: {"failure": row.failure}
        if row.gradient is None
        else {
            "loss": row.gradient.loss,
            "digits": row.digits,
            "reference": row.is_reference,
            "seconds": row.time,
            "bytes": row.memory,
            "evaluations": row.gradient.stats.evaluations,
        }
        for row in comparison
    }
    job.console.print(str(comparison), markup=False)
    job.console.print()


command = experiment_command("compare")(compare)
