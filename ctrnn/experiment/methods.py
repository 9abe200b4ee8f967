"""Gradient methods from their names and tables in an experiment file."""

from __future__ import annotations

from typing import Any

from ctrnn.experiment.schema import CheckpointTable, ExperimentSpec, GradientSpec, MethodTable


def gradient_methods(spec: ExperimentSpec, section: str) -> list[Any]:
    """The methods that [gradient], [compare] or [fit] names; [fit] may leave it to [gradient]."""
    listed = getattr(getattr(spec, section), "methods", None)
    if listed is None:
        listed = [(spec.gradient or GradientSpec()).method]
    return [gradient_method(method) for method in listed]


def gradient_method(method: str | MethodTable | CheckpointTable | None) -> Any:
    """A name as it is, a table as a :class:`ctrnn.RTRL` or a :class:`ctrnn.Adjoint`."""
    import ctrnn

    if isinstance(method, CheckpointTable):
        return ctrnn.Adjoint("checkpoint", checkpoints=method.checkpoints, memory=method.memory)
    return ctrnn.RTRL(block=method.block) if isinstance(method, MethodTable) else method
