"""``ctrnn equilibrium``: a rest point and its stability."""

from __future__ import annotations

from ctrnn.cli.job import Job, experiment_command, save_npz


def equilibrium(job: Job) -> None:
    """A point where F(r) = 0, the eigenvalues of its Jacobian, and whether it is stable."""
    import ctrnn

    experiment = job.experiment
    fits = job.results.get("fits")
    problem = next(iter(fits.values())).problem if fits else experiment.problem
    x = problem.x(problem.t_span[0]) if problem.field.input_size else None
    with experiment.at("equilibrium", r0=("equilibrium", "guess")):
        eq = ctrnn.find_equilibrium(problem.field, experiment.guess, x=x)
    job.results["equilibrium"] = eq
    save_npz(job.path("equilibrium.npz"), r=eq.r, jacobian=eq.jacobian, eigenvalues=eq.eigenvalues)
    names = problem.field.state_names
    job.summary["equilibrium"] = {
        "of": "the fitted field" if fits else "the field",
        "r": dict(zip(names, eq.r, strict=True)) if len(names) <= 12 else eq.r,
        "residual": eq.residual,
        "eigenvalues": eq.eigenvalues,
        "kind": eq.kind,
        "stable": eq.stable,
    }
    job.console.print(f"{job.summary['equilibrium']['of']}: {eq}", markup=False)
    job.console.print()


command = experiment_command("equilibrium")(equilibrium)
