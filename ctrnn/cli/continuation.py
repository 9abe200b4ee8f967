"""``ctrnn continue``.

A branch of equilibria in one parameter, its special points, and the cycles born at its Hopf points.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import ctrnn
from ctrnn.cli.job import Job, experiment_command, save_npz
from ctrnn.errors import CtrnnError


def continuation(job: Job) -> None:
    """Equilibria against a parameter: stability, folds, Hopf and branch points; on request the limit cycles, too."""
    experiment = job.experiment
    spec, fits = experiment.require("continue"), job.results.get("fits")
    field = (next(iter(fits.values())).problem if fits else experiment.problem).field
    held = experiment.held
    with experiment.at("continue", r0=("equilibrium", "guess")):
        eq = ctrnn.find_equilibrium(field, experiment.guess, **held)
        branch = ctrnn.analysis.continue_equilibria(
            field, eq, spec.parameter, tuple(spec.span), held["x"], t=held["t"], max_points=spec.max_points
        )
    job.results["branch"], job.results["branches_of_cycles"] = branch, []
    arrays: dict[str, Any] = {"parameter": branch.parameter, "r": branch.r, "stable": branch.stable}
    save_npz(job.path("branch.npz"), **arrays, eigenvalues=branch.eigenvalues)
    rows = [
        (p.kind, p.type, p.parameter, p.omega or "", p.lyapunov if p.lyapunov is not None else "")
        for p in branch.special
    ]
    low, high = float(branch.parameter.min()), float(branch.parameter.max())
    title = (
        f"{len(branch)} equilibria, {branch.name} from {low:.6g} to {high:.6g}, {int(branch.stable.sum())} of them "
        f"stable; the branch ends at: {', '.join(branch.ends)}"
    )
    job.table(title, ("special point", "type", branch.name, "omega", "l1"), rows)
    job.summary["continue"] = {
        "parameter": branch.name,
        "points": len(branch),
        "ends": branch.ends,
        "special": [_listed(p) for p in branch.special],
    }
    if spec.cycles:
        _cycles(job, field, branch, tuple(spec.span))


def _cycles(job: Job, field: Any, branch: Any, span: tuple[float, float]) -> None:
    """The limit cycles from each Hopf point, unless they lead to one from which they came."""
    reached: list[float] = []
    found = []
    for hopf in branch.of_kind("hopf"):
        if any(abs(hopf.parameter - value) < 1e-3 * (span[1] - span[0]) for value in reached):
            continue
        try:
            cycle = ctrnn.analysis.limit_cycle(field, hopf)
            cycles = ctrnn.analysis.continue_cycles(field, cycle, branch.name, span)
        except CtrnnError as error:
            job.warn(f"no cycles from the Hopf point at {branch.name} = {hopf.parameter:.6g}: {error}")
            continue
        reached += [
            float(cycles.parameter[end]) for end, why in zip((0, -1), cycles.ends, strict=True) if why == "hopf"
        ]
        found.append(cycles)
        rows = [(p.kind, p.type, p.parameter, p.period) for p in cycles.special]
        title = (
            f"{len(cycles)} limit cycles from the Hopf point at {branch.name} = {hopf.parameter:.6g}, periods from "
            f"{cycles.period.min():.6g} to {cycles.period.max():.6g}; the branch ends at: {', '.join(cycles.ends)}"
        )
        job.table(title, ("special cycle", "type", branch.name, "period"), rows)
    job.results["branches_of_cycles"] = found
    for k, cycles in enumerate(found):
        name = "cycles.npz" if k == 0 else f"cycles-{k + 1}.npz"
        columns = {key: getattr(cycles, key) for key in ("parameter", "period", "stable", "lowest", "highest")}
        save_npz(job.path(name), **columns, multipliers=cycles.multipliers)
    job.summary["continue"]["cycles"] = [
        {"points": len(cycles), "ends": cycles.ends, "special": [_listed(p) for p in cycles.special]}
        for cycles in found
    ]


def _listed(point: Any) -> dict[str, Any]:
    keys = ("kind", "type", "parameter", "omega", "lyapunov", "coefficient", "period", "angle")
    known = {key: getattr(point, key, None) for key in keys}
    return {key: value for key, value in known.items() if value not in (None, "")} | (
        {"r": np.asarray(point.r)} if hasattr(point, "r") else {}
    )


command = experiment_command("continue")(continuation)
