"""Gradient methods from their names and tables in an experiment file."""

from __future__ import annotations

from typing import Any

from ctrnn.experiment.schema import ExperimentSpec, GradientSpec, MethodTable


def gradient_methods(spec: ExperimentSpec, section: str) -> list[Any]:
    """The methods that [gradient], [compare] or [fit] names; [fit] may leave it to [gradient].

    A name stays a name; a table becomes a :class:`ctrnn.RTRL`.
    """
    listed = getattr(getattr(spec, section), "methods", None)
    if listed is None:
        listed = [(spec.gradient or GradientSpec()).method]
    return [_rtrl(method) if isinstance(method, MethodTable) else method for method in listed]


def _rtrl(spec: MethodTable) -> Any:
    import ctrnn

    return ctrnn.RTRL(block=spec.block)
