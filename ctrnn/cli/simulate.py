"""``ctrnn simulate``: the solution r(t)."""

from __future__ import annotations

import ctrnn
from ctrnn.cli.job import Job, experiment_command

SHOWN = 6  # states in the printed table


def simulate(job: Job) -> None:
    """Solve dr/dt = F(t, r, w, x) and save r(t) as CSV and NPZ."""
    experiment = job.experiment
    problem = experiment.problem
    with experiment.solving():
        run = ctrnn.simulate(problem, save_at=experiment.grid, **experiment.limited_solver)
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
    job.table(title, ("state", f"t = {t0:g}", f"t = {t1:g}", "least", "greatest"), shown)


command = experiment_command("simulate")(simulate)
