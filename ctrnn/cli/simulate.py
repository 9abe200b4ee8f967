"""``ctrnn simulate``: the solution r(t)."""

from __future__ import annotations

import numpy as np

import ctrnn
from ctrnn.cli.job import Job, experiment_command
from ctrnn.files import atomic_path

SHOWN = 6  # states in the printed table


def simulate(job: Job) -> None:
    """Solve dr/dt = F(t, r, w, x) and save r(t) as CSV and NPZ."""
    experiment = job.experiment
    problem = experiment.problem
    with experiment.solving():
        run = ctrnn.simulate(problem, save_at=experiment.grid, **experiment.limited_solver)
        if experiment.spec.noise is not None and experiment.spec.noise.paths is not None:
            found = ctrnn.ensemble(
                problem, paths=experiment.spec.noise.paths, save_at=experiment.grid, **experiment.limited_solver
            )
            job.results["paths"] = found
            with atomic_path(job.path("paths.npz")) as temporary, temporary.open("wb") as file:
                np.savez(file, t=found.t, r=found.r, names=np.array(found.names))
    job.results["run"] = run
    run.to_csv(job.path("trajectory.csv"))
    run.to_npz(job.path("trajectory.npz"))
    final = dict(zip(run.names, run.r[-1], strict=True))
    job.summary["simulate"] = {"t": run.t[-1], "r": final, "stats": vars(run.stats)}
    if run.events is not None:
        job.summary["simulate"]["events"] = {name: run.events.of(name).t for name in run.events.names}
        run.events.to_csv(job.path("events.csv"))
    shown = [
        (name, *(float(v) for v in (r[0], r[-1], r.min(), r.max())))
        for name, r in list(zip(run.names, run.r.T, strict=True))[:SHOWN]
    ]
    t0, t1 = run.t[0], run.t[-1]
    title = f"simulation: {run.stats}"
    if run.events is not None:
        title += f"; {len(run.events)} events"
    if len(run.names) > SHOWN:
        title += f"; the first {SHOWN} of {len(run.names)} states"
    if "paths" in job.results:
        _moments(job)
    job.table(title, ("state", f"t = {t0:g}", f"t = {t1:g}", "least", "greatest"), shown)


def _moments(job: Job) -> None:
    """The mean and the spread of the paths at the end."""
    found = job.results["paths"]
    mean, sd = found.r[:, -1].mean(axis=0), found.r[:, -1].std(axis=0, ddof=1)
    job.summary["paths"] = {
        "t": found.t[-1],
        "mean": dict(zip(found.names, mean, strict=True)),
        "sd": dict(zip(found.names, sd, strict=True)),
        "stats": vars(found.stats),
    }
    rows = [(name, float(m), float(s)) for name, m, s in zip(found.names, mean, sd, strict=True)][:SHOWN]
    title = f"{len(found)} paths: {found.stats}"
    job.table(title, ("state", f"mean at t = {found.t[-1]:g}", "standard deviation"), rows)


command = experiment_command("simulate")(simulate)
