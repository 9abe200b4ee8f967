"""Gradient methods from their names and tables in an experiment file."""

from __future__ import annotations

from typing import Any

from ctrnn.experiment.schema import ExperimentSpec, GradientSpec, MethodTable


def gradient_methods(spec: ExperimentSpec, section: str) -> list[Any]:
    """The methods that [gradient], [compare] or [fit] names; [fit] may leave it to [gradient]."""
    listed = getattr(getattr(spec, section), "methods", None)
    if listed is None:
        listed = [(spec.gradient or GradientSpec()).method]
    return [gradient_method(method) for method in listed]


def gradient_method(method: str | MethodTable | None) -> Any:
    """A name as it is, a table as a :class:`ctrnn.RTRL`."""
    if not isinstance(method, MethodTable):
        return method
    import ctrnn

    return ctrnn.RTRL(block=method.block)
