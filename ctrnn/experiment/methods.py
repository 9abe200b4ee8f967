"""Gradient methods from their names and tables in an experiment file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ctrnn.experiment.schema import ExperimentSpec, GradientSpec, MethodTable
from ctrnn.gradients.methods import METHODS


def gradient_methods(spec: ExperimentSpec, section: str) -> list[Any]:
    """The methods that [gradient], [compare] or [fit] names; [fit] may leave it to [gradient]."""
    listed = getattr(getattr(spec, section), "methods", None)
    if listed is None:
        listed = [(spec.gradient or GradientSpec()).method]
    return [gradient_method(method) for method in listed]


def gradient_method(method: str | MethodTable | None) -> Any:
    """A name as it is, a table as the method of that name with its options."""
    if not isinstance(method, MethodTable):
        return method
    options = {key: value for key, value in method if key != "name" and value is not None}
    return replace(METHODS[method.name], **options)  # type: ignore[type-var, attr-defined]
