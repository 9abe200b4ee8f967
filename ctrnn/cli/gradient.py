"""``ctrnn gradient``: dl/dw, dl/dr0 and, where a read-out is trained, dl/dV and dl/dc."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import ctrnn
from ctrnn.cli.job import Job, experiment_command, save_npz
from ctrnn.experiment.methods import gradient_methods

SHOWN = 12  # entries in a printed table


def gradient(job: Job) -> None:
    """The gradient of the objective to the parameters, r0 and the read-out."""
    experiment = job.experiment
    problem = experiment.problem
    (method,) = gradient_methods(experiment.spec, "gradient")
    with experiment.solving(method=("gradient", "method"), memory=("gradient", "method", "memory")):
        g = ctrnn.gradient(problem, method=method, **experiment.limited_solver)
    job.results["gradient"] = g
    readout = g.readout or {}
    arrays: dict[str, Any] = {"loss": g.loss, "r0": g.r0}
    arrays |= {f"parameters.{name}": value for name, value in g.parameters.items()}
    arrays |= {f"readout.{name}": value for name, value in readout.items()}
    save_npz(job.path("gradient.npz"), **arrays)
    values = quantities(problem)
    slopes = {**g.parameters, **{f"readout {name}": value for name, value in readout.items()}, "r0": g.r0}
    few = is_few(problem)
    norms = {name: float(np.linalg.norm(value)) for name, value in slopes.items() if np.size(value)}
    numbers = {"parameters": g.parameters, "r0": g.r0, **({"readout": readout} if readout else {})}
    job.summary["gradient"] = {
        "method": g.method,
        "loss": g.loss,
        **(numbers if few else {"norms": norms}),
        "stats": vars(g.stats),
    }
    rows: list[tuple[str, float, float]]
    if few:
        flat = np.concatenate([np.ravel(slopes[name]) for name in values])
        rows = [(label, w, float(d)) for (label, w), d in zip(entries(problem), flat, strict=True)]
        if problem.field.n > SHOWN:
            rows[-problem.field.n :] = [("r0, norms", float(np.linalg.norm(problem.r0)), norms["r0"])]
        columns = ("", "value", "dl/d·")
    else:
        rows = [(name, float(np.linalg.norm(values[name])), norms[name]) for name in values if np.size(values[name])]
        columns = ("", "norm", "norm of dl/d·")
    job.table(f"gradient by {g.method}: loss {g.loss:.10g}", columns, rows)


def quantities(problem: Any) -> dict[str, Any]:
    """What a gradient is to, by name: the parameters, V and c of a trained read-out, r0."""
    return {**problem.field.parameters, **{f"readout {k}": v for k, v in readout_of(problem).items()}, "r0": problem.r0}


def readout_of(problem: Any) -> Mapping[str, Any]:
    """V and c of a trained read-out; empty where there is none."""
    readout = problem.objective.readout if problem.objective is not None else None
    return {} if readout is None else {"V": readout.V, "c": readout.c}


def entries(problem: Any) -> list[tuple[str, float]]:
    """A label and a value for each number of :func:`quantities`, in their order."""
    field = problem.field
    pairs = list(zip(field.labels, field.vector, strict=True))
    for name, value in readout_of(problem).items():
        pairs += [(f"{name}[{','.join(map(str, place))}]", value[place]) for place in np.ndindex(value.shape)]
    pairs += [(f"{name} at t0", r) for name, r in zip(field.state_names, problem.r0, strict=True)]
    return [(label, float(value)) for label, value in pairs]


def is_few(problem: Any) -> bool:
    """Whether the numbers are few enough to be printed one by one."""
    return sum(np.size(value) for value in quantities(problem).values()) - problem.field.n <= SHOWN


command = experiment_command("gradient")(gradient)
