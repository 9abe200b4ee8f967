"""Signals x(t) from their tables in an experiment file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ctrnn
from ctrnn.experiment.locate import KeyPath
from ctrnn.experiment.signals import CsvSignal, NoiseSignal, ProductSignal, SampledSignal, SumSignal

if TYPE_CHECKING:
    from ctrnn.experiment.build import Experiment


def signal(e: Experiment, spec: Any, path: KeyPath) -> Any:
    """A signal x(t) from its table, or the stack of a list of tables, one below another."""
    if isinstance(spec, list):
        return ctrnn.inputs.stack(*(signal(e, one, (*path, k)) for k, one in enumerate(spec)))
    if isinstance(spec, SumSignal | ProductSignal):
        total, *rest = (signal(e, one, (*path, "terms", k)) for k, one in enumerate(spec.terms))
        with e.at(*path):
            for term in rest:
                total = total + term if spec.kind == "sum" else total * term
        return total
    options = spec.model_dump(exclude={"kind", "interpolation"})
    if hasattr(spec, "interpolation"):
        options["kind"] = spec.interpolation
    with e.at(*path):
        if isinstance(spec, SampledSignal):
            options["values"] = e.rectangular(spec.values, (*path, "values"))
        if isinstance(spec, CsvSignal):
            return ctrnn.inputs.from_csv(e.file(spec.file), spec.time, spec.columns, spec.interpolation)
        if isinstance(spec, NoiseSignal):
            options["t_span"] = e.t_span
        return getattr(ctrnn.inputs, spec.kind.capitalize())(**options)
