"""``ctrnn run``: every step that the experiment file asks for."""

from __future__ import annotations

from ctrnn.cli.compare import compare
from ctrnn.cli.equilibrium import equilibrium
from ctrnn.cli.fit import fit
from ctrnn.cli.gradient import gradient
from ctrnn.cli.job import Job, experiment_command
from ctrnn.cli.simulate import simulate


def run(job: Job) -> None:
    """Simulate, then what the file has a table for: gradient, compare, fit, equilibrium."""
    spec = job.experiment.spec
    if spec.title:
        job.console.print(spec.title, markup=False)
        job.console.print()
    simulate(job)
    for step in (gradient, compare, fit, equilibrium):
        if getattr(spec, step.__name__) is not None:
            step(job)


command = experiment_command("run")(run)
