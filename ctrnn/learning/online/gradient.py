"""The gradient of a learner's losses, by the field's parameters and by its read-out."""

from __future__ import annotations

from dataclasses import dataclass

from ctrnn.fields.base import Array


@dataclass(frozen=True, eq=False)
class OnlineGradient:
    """The gradient of a learner's losses since its last update.

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

    def __getitem__(self, name: str) -> Array:
        """Of a parameter by its name."""
        return self.parameters[name]
