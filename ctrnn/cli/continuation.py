"""``ctrnn continue``.

Branches of equilibria in one parameter, their special points, the cycles born at Hopf points, and curves of folds and
Hopf points in a second parameter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import ctrnn
from ctrnn.cli.job import Job, experiment_command, save_npz
from ctrnn.errors import CtrnnError


def continuation(job: Job) -> None:
    """Equilibria against a parameter: stability, special points; on request cycles, and a second parameter."""
    experiment = job.experiment
    spec, field = experiment.require("continue"), job.problem.field
    held, span = experiment.held, (spec.span[0], spec.span[1])
    with experiment.at("continue", r0=("equilibrium", "guess")):
        eq = ctrnn.find_equilibrium(field, experiment.guess, **held)
        options = {"t": held["t"], "max_points": spec.max_points}
        branches = [ctrnn.analysis.continue_equilibria(field, eq, spec.parameter, span, held["x"], **options)]
        if spec.branches:
            branches = ctrnn.analysis.equilibrium_branches(
                field, eq.r, spec.parameter, span, held["x"], first=branches[0], **options
            )
    job.results["branches"], job.results["branches_of_cycles"], job.results["curves"] = branches, [], []
    job.summary["continue"] = _summary(branches[0])
    if spec.branches:
        job.summary["continue"]["branches"] = [_summary(branch) for branch in branches[1:]]
    for k, branch in enumerate(branches):
        _write(job, branch, "branch.npz" if k == 0 else f"branch-{k + 1}.npz")
    if spec.cycles:
        _cycles(job, field, branches, span)
    if spec.second is not None:
        _curves(job, field, branches, (spec.parameter, spec.second), (span, tuple(spec.second_span)))


def _write(job: Job, branch: Any, name: str) -> None:
    arrays: dict[str, Any] = {"parameter": branch.parameter, "r": branch.r, "stable": branch.stable}
    save_npz(job.path(name), **arrays, eigenvalues=branch.eigenvalues)
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


def _summary(branch: Any) -> dict[str, Any]:
    special = [_listed(p) for p in branch.special]
    return {"parameter": branch.name, "points": len(branch), "ends": branch.ends, "special": special}


def _cycles(job: Job, field: Any, branches: list[Any], span: tuple[float, float]) -> None:
    """The limit cycles from each Hopf point, unless they lead to one from which they came."""
    reached: list[float] = []
    found = []
    for hopf in (point for branch in branches for point in branch.of_kind("hopf")):
        if any(abs(hopf.parameter - value) < 1e-3 * (span[1] - span[0]) for value in reached):
            continue
        try:
            cycle = ctrnn.analysis.limit_cycle(field, hopf)
            cycles = ctrnn.analysis.continue_cycles(field, cycle, hopf.name, span)
        except CtrnnError as error:
            job.warn(f"no cycles from the Hopf point at {hopf.name} = {hopf.parameter:.6g}: {error}")
            continue
        reached += [
            float(cycles.parameter[end]) for end, why in zip((0, -1), cycles.ends, strict=True) if why == "hopf"
        ]
        found.append(cycles)
        rows = [(p.kind, p.type, p.parameter, p.period) for p in cycles.special]
        title = (
            f"{len(cycles)} limit cycles from the Hopf point at {hopf.name} = {hopf.parameter:.6g}, periods from "
            f"{cycles.period.min():.6g} to {cycles.period.max():.6g}; the branch ends at: {', '.join(cycles.ends)}"
        )
        job.table(title, ("special cycle", "type", hopf.name, "period"), rows)
    job.results["branches_of_cycles"] = found
    for k, cycles in enumerate(found):
        name = "cycles.npz" if k == 0 else f"cycles-{k + 1}.npz"
        columns = {key: getattr(cycles, key) for key in ("parameter", "period", "stable", "lowest", "highest")}
        save_npz(job.path(name), **columns, multipliers=cycles.multipliers)
    job.summary["continue"]["cycles"] = [
        {"points": len(cycles), "ends": cycles.ends, "special": [_listed(p) for p in cycles.special]}
        for cycles in found
    ]


def _curves(job: Job, field: Any, branches: list[Any], names: tuple[str, str], spans: Any) -> None:
    """The curves of the folds and Hopf points in two parameters, each once."""
    curves: list[Any] = []
    for special in (p for branch in branches for p in branch.special if p.kind in ("fold", "hopf")):
        if any(curve.kind == special.kind and _passes(curve, special, names, spans) for curve in curves):
            continue
        try:
            curve = ctrnn.analysis.continue_special(field, special, names, spans)
        except CtrnnError as error:
            job.warn(f"no curve from the {special.kind} at {special.name} = {special.parameter:.6g}: {error}")
            continue
        curves.append(curve)
        columns = dict(zip(("first", "second"), curve.parameters.values(), strict=True))
        name = "curve.npz" if len(curves) == 1 else f"curve-{len(curves)}.npz"
        save_npz(job.path(name), **columns, r=curve.r, omega=curve.omega, lyapunov=curve.lyapunov)
        rows = [(p.kind, *p.parameters.values(), p.omega or "") for p in curve.special]
        kind = {"fold": "folds", "hopf": "Hopf points"}[curve.kind]
        title = f"{len(curve)} points of a curve of {kind}, which ends at: {', '.join(curve.ends)}"
        if rows:
            job.table(title, ("point of codimension two", *names, "omega"), rows)
        else:
            job.console.print(f"{title}; without points of codimension two\n", markup=False)
    job.results["curves"] = curves
    job.summary["continue"]["curves"] = [
        {
            "kind": curve.kind, "points": len(curve), "ends": curve.ends,
            "special": [{"kind": p.kind, **p.parameters, "omega": p.omega, "r": p.r} for p in curve.special],
        }
        for curve in curves
    ]  # fmt: skip


def _passes(curve: Any, special: Any, names: tuple[str, str], spans: Any) -> bool:
    """Whether the curve goes through the point: between two neighbours, in both parameters and all states."""
    (low, high), first = spans[0], curve.parameters[names[0]]
    second = curve.parameters[names[1]] - curve.parameters[names[1]][curve.start]
    for k in np.flatnonzero(second[1:] * second[:-1] <= 0.0):
        share = second[k] / (second[k] - second[k + 1]) if second[k] != second[k + 1] else 0.0
        at = first[k] + share * (first[k + 1] - first[k])
        r = curve.r[k] + share * (curve.r[k + 1] - curve.r[k])
        unit = max(1.0, float(np.abs(special.r).max()))
        if abs(at - special.parameter) < 1e-3 * (high - low) and np.abs(r - special.r).max() < 1e-2 * unit:
            return True
    return False


def _listed(point: Any) -> dict[str, Any]:
    keys = ("kind", "type", "parameter", "omega", "lyapunov", "coefficient", "period", "angle")
    known = {key: getattr(point, key, None) for key in keys}
    return {key: value for key, value in known.items() if value not in (None, "")} | (
        {"r": np.asarray(point.r)} if hasattr(point, "r") else {}
    )


command = experiment_command("continue")(continuation)
