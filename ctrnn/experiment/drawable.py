"""Which pictures an experiment gives rise to, and what it lacks for the others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from ctrnn.experiment.schema import ExperimentSpec

if TYPE_CHECKING:
    from ctrnn.experiment.build import Experiment

#: steps that need no [problem]
WITHOUT_PROBLEM = {"train", "learn"}
PANELS = 6  # curves, or panels, that one figure can show


def steps_of(spec: ExperimentSpec) -> list[str]:
    """What ``ctrnn run`` does with a file."""
    optional = (
        "gradient",
        "compare",
        "fit",
        "equilibrium",
        "fixed_points",
        "portrait",
        "continue",
        "cycle",
        "lyapunov",
        "train",
        "learn",
    )
    asked = [step for step in optional if getattr(spec, step) is not None]
    return asked if spec.problem is None and asked and set(asked) <= WITHOUT_PROBLEM else ["simulate", *asked]


def lacking(e: Experiment, kind: str, steps: Collection[str]) -> str:
    """What is missing for a picture of this kind after these steps; empty where nothing is."""
    return LACKING[kind](e, steps)


def _step(*names: str) -> Callable[[Experiment, Collection[str]], str]:
    def lacks(e: Experiment, steps: Collection[str]) -> str:
        return "" if set(names) & set(steps) else f"the step {' or '.join(names)} before it"

    return lacks


def _phase_portrait(e: Experiment, steps: Collection[str]) -> str:
    n = e.field.n
    return f"a field of 2 states (here: {n})" if n != 2 else _step("simulate", "fit", "equilibrium")(e, steps)


def _leak_only(e: Experiment, steps: Collection[str]) -> str:
    methods = e.spec.compare.methods if e.spec.compare else []
    if "W" not in e.field.parameters or e.field.n != 1:
        return "a network of one unit"
    return _step("compare")(e, steps) or ("" if "rflo" in methods else '"rflo" in compare.methods')


def _read_out(e: Experiment, steps: Collection[str]) -> str:
    missing = _step("fit")(e, steps)
    if missing or e.problem.objective is None:
        return missing or "a table [objective]"
    bound = e.problem.objective
    if bound.readout is None:
        return "a trained read-out: objective.readout = { size = 2, seed = 1 }"
    if not bound.is_named or bound.output_size != 2:
        return f"a target of 2 outputs (here: {bound.output_size}); the kind fit shows any"
    return ""


def _fit(e: Experiment, steps: Collection[str]) -> str:
    missing = _step("fit")(e, steps)
    if missing or e.problem.objective is None:
        return missing or "a table [objective]"
    bound = e.problem.objective
    if bound.event_times is not None:
        return ""
    if not bound.is_named:
        return "a target to compare with"
    if bound.times is None and e.data is None:
        return "a target at times (objective.at) or in [data]"
    return "" if bound.output_size <= PANELS else f"at most {PANELS} outputs (here: {bound.output_size})"


def _paths(e: Experiment, steps: Collection[str]) -> str:
    has = e.spec.noise is not None and e.spec.noise.paths is not None
    return _step("simulate")(e, steps) if has else "a table [noise] with paths = 100"


def _two_parameters(e: Experiment, steps: Collection[str]) -> str:
    spec = getattr(e.spec, "continue")
    has = spec is not None and spec.second is not None
    return _step("continue")(e, steps) if has else "a second parameter (continue.second, continue.second_span)"


LACKING: dict[str, Callable[[Experiment, Collection[str]], str]] = {
    "trajectory": _step("simulate"),
    "paths": _paths,
    "phase-portrait": _phase_portrait,
    "gradient-agreement": _step("compare"),
    "leak-only": _leak_only,
    "read-out": _read_out,
    "fit": _fit,
    "fit-history": _step("fit"),
    "spectrum": _step("equilibrium"),
    "fixed-points": _step("fixed_points"),
    "portrait": _step("portrait"),
    "bifurcation": _step("continue"),
    "two-parameters": _two_parameters,
    "cycle": _step("cycle"),
    "lyapunov": _step("lyapunov"),
    "training": _step("train"),
    "learning": _step("learn"),
}


def repeats(e: Experiment, kind: str, steps: Collection[str]) -> bool:
    """Whether a picture shows nothing that another of the same run does not show too."""
    if kind == "trajectory" and "simulate" in steps:  # the fit's has the run before, and what it was fitted to
        bound = e.problem.objective
        shown = bound is not None and bound.event_times is None and e.output_names == tuple(e.field.state_names)
        return shown and not e.problem.x.size and not lacking(e, "fit", steps)
    return kind == "fit" and not lacking(e, "read-out", steps)
