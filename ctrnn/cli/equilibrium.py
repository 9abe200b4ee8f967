"""``ctrnn equilibrium``: a rest point and its stability."""

from __future__ import annotations

import ctrnn
from ctrnn.cli.job import Job, experiment_command, save_npz


def equilibrium(job: Job) -> None:
    """A point where F(r) = 0, the eigenvalues of its Jacobian, and whether it is stable."""
    experiment = job.experiment
    problem, held = job.problem, experiment.held
    with experiment.at("equilibrium", r0=("equilibrium", "guess")):
        eq = ctrnn.find_equilibrium(problem.field, experiment.guess, **held)
    job.results["equilibrium"] = eq
    save_npz(job.path("equilibrium.npz"), r=eq.r, jacobian=eq.jacobian, eigenvalues=eq.eigenvalues)
    names = problem.field.state_names
    job.summary["equilibrium"] = {
        "of": "the field" if problem is experiment.problem else "the fitted field",
        **held,
        "r": dict(zip(names, eq.r, strict=True)) if len(names) <= 12 else eq.r,
        "residual": eq.residual,
        "eigenvalues": eq.eigenvalues,
        "kind": eq.kind,
        "stable": eq.stable,
    }
    title = job.summary["equilibrium"]["of"]
    if held["x"] is not None and len(held["x"]) <= 6:
        inputs = zip(problem.field.input_names, held["x"], strict=True)
        title += f" under {', '.join(f'{name} = {x:.6g}' for name, x in inputs)}"
    job.console.print(f"{title}: {eq}", markup=False)
    job.console.print()


command = experiment_command("equilibrium")(equilibrium)
