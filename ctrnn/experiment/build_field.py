"""The field from its table in an experiment file: equations, or a network of rate units."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

import ctrnn
from ctrnn.errors import nearest
from ctrnn.experiment.locate import KeyPath
from ctrnn.experiment.schema import EquationsField, RateNetworkField

if TYPE_CHECKING:
    from ctrnn.experiment.build import Experiment


def field(e: Experiment) -> Any:
    """The :class:`ctrnn.Field` of [field]."""
    spec = e.spec.field
    return _equations(e, spec) if isinstance(spec, EquationsField) else _network(e, spec)


def _equations(e: Experiment, spec: EquationsField) -> Any:
    keys: dict[str, KeyPath] = {f"d{r}": ("field", "equations", r) for r in spec.equations}
    with e.at("field", **keys):  # the library calls the equation of r "dr/dt"
        made = ctrnn.Equations(spec.equations, spec.parameters, inputs=spec.inputs)
    texts = [*spec.equations.values(), *(event.condition for event in e.spec.events)]
    texts += [text for event in e.spec.events for text in (event.reset or {}).values()]
    used = {name for text in texts for name in re.findall(r"[^\W\d]\w*", text)}
    for name in spec.parameters:
        if name not in used:  # most often a slip of the pen
            others = [other for other in spec.parameters if other in used]
            hint = nearest(name, others)
            hint = hint or next((f"did you mean {k!r}?" for k in others if set(k) == set(name)), "")  # aa for a
            allowed = f"a parameter of the equations: {', '.join(others) or 'none'}"
            raise e.fault(("field", "parameters", name), given=name, allowed=allowed, hint=hint)
    return made


def _network(e: Experiment, spec: RateNetworkField) -> Any:
    with e.at("field"):
        options = spec.model_dump(exclude={"kind", "parameters"})
        for key in ("mask", "dale", "tau"):
            if isinstance(options[key], list):
                options[key] = np.array(e.rectangular(options[key], ("field", key)))
        network = ctrnn.RateNetwork(options.pop("n"), **options)
    if not spec.parameters:
        return network
    with e.at("field", "parameters"):
        arrays = {k: e.rectangular(v, ("field", "parameters", k)) for k, v in spec.parameters.items()}
        return network.with_parameters(**arrays)
