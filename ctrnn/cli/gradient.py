"""``ctrnn gradient``: dl/dw and dl/dr0."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.cli.job import Job, experiment_command, save_npz
from ctrnn.experiment.methods import gradient_methods

SHOWN = 12  # entries in a printed table


def gradient(job: Job) -> None:
    """The gradient of the objective to the parameters, r0 and the read-out."""
    import ctrnn

    experiment = job.experiment
    experiment.require("objective")
    problem = experiment.problem
    (method,) = gradient_methods(experiment.spec, "gradient")
    with experiment.solving(method=("gradient", "method")):
        g = ctrnn.gradient(problem, method=method, **experiment.limited_solver)
    job.results["gradient"] = g
    field = problem.field
    arrays: dict[str, Any] = {"loss": g.loss, "r0": g.r0}
    arrays |= {f"parameters.{name}": value for name, value in g.parameters.items()}
    arrays |= {f"readout.{name}": value for name, value in (g.readout or {}).items()}
    save_npz(job.path("gradient.npz"), **arrays)
    norms = {name: float(np.linalg.norm(value)) for name, value in g.parameters.items()}
    few = len(g.vector) <= SHOWN
    job.summary["gradient"] = {
        "method": g.method,
        "loss": g.loss,
        **({"parameters": g.parameters, "r0": g.r0} if few else {"norms": norms}),
        "stats": vars(g.stats),
    }
    rows: list[tuple[str, float, float]]
    if few:
        entries = zip(field.labels, field.vector, g.vector, strict=True)
        rows = [(label, float(w), float(d)) for label, w, d in entries]
        states = zip(field.state_names, problem.r0, g.r0, strict=True)
        rows += [(f"{name} at t0", float(r), float(d)) for name, r, d in states]
        columns = ("", "value", "dl/d·")
    else:
        rows = [(k, float(np.linalg.norm(field.parameters[k])), norms[k]) for k in norms if g.parameters[k].size]
        rows += [("r0", float(np.linalg.norm(problem.r0)), float(np.linalg.norm(g.r0)))]
        columns = ("", "norm", "norm of dl/d·")
    job.table(f"gradient by {g.method}: loss {g.loss:.10g}", columns, rows)


command = experiment_command("gradient")(gradient)
