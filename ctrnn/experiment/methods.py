"""Gradient methods from their names and tables in an experiment file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctrnn.experiment.locate import KeyPath
from ctrnn.experiment.schema import GradientSpec, MethodTable

if TYPE_CHECKING:
    from ctrnn.experiment.build import Experiment

CLASSES = {
    "rtrl": "RTRL",
    "adjoint": "Adjoint",
    "rflo": "RFLO",
    "autograd": "Autograd",
    "complex-step": "ComplexStep",
    "central-difference": "CentralDifference",
}
OPTIONS = {"rtrl": ("block", "mode"), "adjoint": ("mode",)}
MODES = {"rtrl": ("discrete", "continuous"), "adjoint": ("discrete", "backsolve", "interpolate")}


def gradient_methods(experiment: Experiment, section: str) -> list[Any]:
    """The methods that [gradient], [compare] or [fit] names; [fit] may leave it to [gradient]."""
    listed = getattr(getattr(experiment.spec, section), "methods", None)
    if listed is None:
        spec = experiment.spec.gradient or GradientSpec()
        return [_method(experiment, spec.method, ("gradient", "method"))]
    return [_method(experiment, method, (section, "methods", k)) for k, method in enumerate(listed)]


def _method(experiment: Experiment, spec: str | MethodTable, path: KeyPath) -> Any:
    """One method; an option that it does not have is a fault."""
    import ctrnn

    if isinstance(spec, str):
        name, options = spec, {}
    else:
        name, options = spec.name, spec.model_dump(exclude={"name"}, exclude_none=True)
    for key in options:
        if key not in OPTIONS.get(name, ()):
            allowed = f"no {key} with {name!r}; block goes with rtrl, mode with rtrl and adjoint"
            raise experiment.fault((*path, key), allowed=allowed)
    if "mode" in options and options["mode"] not in MODES[name]:
        raise experiment.fault((*path, "mode"), allowed=f"for {name}: " + ", ".join(MODES[name]))
    if name == "auto":
        return "auto"
    with experiment.at(*path):
        return getattr(ctrnn, CLASSES[name])(**options)
