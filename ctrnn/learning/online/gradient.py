"""The gradient of a learner's losses, by the field's parameters and by its read-out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrnn.errors import one_of
from ctrnn.fields.base import Array


@dataclass(frozen=True, eq=False, repr=False)
class OnlineGradient:
    """The gradient of a learner's losses since its last update; prints as a small table.

    Attributes
    ----------
    loss : float
        The losses themselves: mean over the lanes, sum over the steps.
    vector : ndarray (m,)
        By the field's parameters, flat.
    parameters : dict of str to ndarray
        The same by name.
    readout : dict of str to ndarray or None
        "V" (p, n) and "c" (p,) of a read-out that learns.
    """

    loss: float
    vector: Array
    parameters: dict[str, Array]
    readout: dict[str, Array] | None

    def __repr__(self) -> str:
        lines = [f"gradient since the last update: loss = {self.loss:.8g}"]
        for what, parts in (("", self.parameters), (", of the read-out", self.readout or {})):
            for name, value in parts.items():
                lines.append(f"  |dl/d{name}| = {np.linalg.norm(value):.8g}, {np.shape(value)}{what}")
        return "\n".join(lines)

    def __getitem__(self, name: str) -> Array:
        """Of a parameter, or of "V" and "c" of the read-out where no parameter has that name.

        Raises UnknownNameError for any other name.
        """
        known = (self.readout or {}) | self.parameters
        one_of("parameter", name, list(known))
        return known[name]
