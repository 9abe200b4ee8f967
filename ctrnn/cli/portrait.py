"""``ctrnn portrait``: what a field does in a plane of two states, or along the principal components of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import ctrnn
from ctrnn.analysis.fixed_point_table import FixedPoints
from ctrnn.cli.fixed_points import search
from ctrnn.cli.job import Job, experiment_command, save_npz
from ctrnn.errors import CtrnnError
from ctrnn.experiment.boxes import around, starts
from ctrnn.experiment.schema import PortraitSpec


@dataclass(frozen=True, eq=False)
class Portrait:
    """What the figure shows; ``box`` is None where it is a projection."""

    points: FixedPoints
    runs: list[Any]
    box: Any
    states: tuple[Any, Any]
    at: Any
    x: Any
    cycles: list[Any]
    basins: Any


def portrait(job: Job) -> None:
    """Nullclines, points of rest, manifolds of saddles and runs in a plane; on request the basins of attraction."""
    experiment = job.experiment
    spec = experiment.spec.portrait or PortraitSpec()
    problem = job.problem.replace(objective=None)
    held, field = experiment.held, problem.field
    with experiment.solving():
        run = job.at_hand(job.problem) or ctrnn.simulate(problem, save_at=experiment.grid, **experiment.limited_solver)
    job.results.setdefault("run", run)
    points = job.results.get("fixed_points") or search(job)
    if held["x"] is not None and len(points):
        points = points.at(held["x"])
    is_plane = spec.states is not None or field.n == 2
    states = tuple(spec.states) if spec.states else tuple(field.state_names[:2])
    numbers = [list(field.state_names).index(name) for name in states]
    box = None
    if is_plane:
        box = (
            np.asarray(spec.box) if spec.box else around(np.concatenate([run.r, *[p.r[None] for p in points]]))[numbers]
        )
    # every other start lies on the run itself: those between are the scattered ones
    found = starts(run.r, 2 * spec.runs + 2, spec.scatter, None, spec.seed)[1 : 2 * spec.runs + 1 : 2]
    if box is not None and spec.runs:
        low, high = np.asarray(box).T
        found[:, numbers] = np.random.default_rng(spec.seed).uniform(low, high, (spec.runs, 2))
    runs = [run, *_runs(job, problem, found)]
    basins, cycles = None, []
    with experiment.at("portrait"):
        if spec.basins:
            t_end = spec.t_end or problem.t_span[1] - problem.t_span[0]
            basins = ctrnn.analysis.basins(
                field, box, states, at=experiment.guess, x=held["x"], points=spec.points, t_end=t_end
            )
            cycles = [one for one in basins.attractors if isinstance(one, ctrnn.analysis.Cycle)]
    at = experiment.guess
    job.results["portrait"] = Portrait(points, runs, box, (states[0], states[1]), at, held["x"], cycles, basins)
    _write(job, job.results["portrait"], field)


def _runs(job: Job, problem: Any, found: Any) -> list[Any]:
    """Runs from further starts; one that fails is told and left out."""
    done = []
    for r0 in found:
        try:
            grid = job.experiment.grid
            done.append(ctrnn.simulate(problem.replace(r0=r0), save_at=grid, **job.experiment.limited_solver))
        except CtrnnError as error:
            job.warn(f"a run from {np.array2string(r0, precision=4, threshold=6)} is left out: {error}")
    return done


def _write(job: Job, found: Portrait, field: Any) -> None:
    arrays: dict[str, Any] = {"points": found.points.r, "kind": found.points.kind}
    arrays |= {"runs": np.array([run.r for run in found.runs]), "t": found.runs[0].t}
    summary: dict[str, Any] = {"points": len(found.points), "runs": len(found.runs)}
    if found.box is None:
        onto = ctrnn.analysis.principal_components(found.runs)
        arrays |= {"mean": onto.mean, "directions": onto.directions, "variances": onto.variances}
        shares = [float(v) for v in onto.explained[:3]]
        summary |= {"participation_ratio": onto.participation_ratio, "explained": shares}
        rows = [(i + 1, share) for i, share in enumerate(shares)]
        title = f"principal components of {len(found.runs)} runs; participation ratio {onto.participation_ratio:.4g}"
        job.table(title, ("component", "share of the variance"), rows)
    else:
        lines = ctrnn.analysis.nullclines(field, found.box, found.states, at=found.at, x=found.x)
        for name, several in lines.items():
            arrays |= {f"nullcline {name} {k}": line for k, line in enumerate(several)}
        summary |= {"states": found.states, "box": np.asarray(found.box)}
        rows = [
            (row.kind, row.index, *(float(row[name]) for name in found.states)) for row in map(_named, found.points)
        ]
        title = f"the plane of {found.states[0]} and {found.states[1]}: {len(found.points)} points of rest"
        job.table(title, ("kind", "growing", *found.states), rows)
    if found.basins is not None:
        arrays |= {"a": found.basins.a, "b": found.basins.b, "attractor": found.basins.attractor}
        summary |= {"basins": found.basins.shares, "undecided": found.basins.undecided}
        job.console.print(str(found.basins), markup=False)
        job.console.print()
    job.summary["portrait"] = summary
    save_npz(job.path("portrait.npz"), **arrays)


class _named:
    """A row whose states are had by name."""

    def __init__(self, row: Any) -> None:
        self.row, self.kind, self.index = row, row.kind, row.index

    def __getitem__(self, name: str) -> Any:
        return self.row.r[list(self.row.names).index(name)]


command = experiment_command("portrait")(portrait)
