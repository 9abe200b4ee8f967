"""``ctrnn compare``: gradient methods side by side."""

from __future__ import annotations

from ctrnn.cli.job import Job, experiment_command
from ctrnn.experiment.methods import gradient_methods


def compare(job: Job) -> None:
    """Gradient methods side by side: digits of agreement, time, memory, evaluations."""
    import ctrnn

    experiment = job.experiment
    experiment.require("objective")
    experiment.require("compare")
    problem, methods = experiment.problem, gradient_methods(experiment.spec, "compare")
    with experiment.solving(method=("compare", "methods")):
        comparison = ctrnn.compare_gradients(problem, methods=methods, **experiment.solver)
    job.results["comparison"] = comparison
    job.summary["compare"] = [vars(row) for row in comparison.rows]
    job.console.print(str(comparison), markup=False)
    job.console.print()


command = experiment_command("compare")(compare)
