"""The sine, an input given by its formula."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ctrnn.errors import UsageError
from ctrnn.inputs.base import Input
from ctrnn.inputs.checks import Array, finite, shown
from ctrnn.inputs.program import Builder


class Sine(Input):
    """A sine: x(t) = offset + amplitude sin(2π frequency t + phase).

    Parameters
    ----------
    frequency : float or array_like (size,)
        In cycles per unit of time.
    amplitude, phase, offset : float or array_like (size,)
        1, 0 and 0 by default; the phase in radians. One entry a channel.

    Raises
    ------
    UsageError
        For numbers that are not finite, and arrays of different sizes.

    Examples
    --------
    >>> Sine(frequency=0.25, amplitude=3.0)([0.0, 1.0]).ravel()
    array([0., 3.])
    """

    breaks = np.empty(0)

    def __init__(
        self,
        frequency: ArrayLike,
        amplitude: ArrayLike = 1.0,
        phase: ArrayLike = 0.0,
        offset: ArrayLike = 0.0,
    ) -> None:
        given = {"frequency": frequency, "amplitude": amplitude, "phase": phase, "offset": offset}
        allowed = "a number or an array (size,)"
        arrays = {name: np.atleast_1d(finite(name, v, (0, 1), allowed)) for name, v in given.items()}
        sizes = {a.size for a in arrays.values()} - {1}
        if len(sizes) > 1 or 0 in sizes:
            shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
            raise UsageError("Sine", given=shapes, allowed="numbers and arrays of one common shape (size,)")
        self.size = sizes.pop() if sizes else 1
        self.frequency, self.amplitude, self.phase, self.offset = (
            np.broadcast_to(a, (self.size,)) for a in arrays.values()
        )

    def _values(self, t: Array, lookup: Array) -> Array:
        angle = 2 * np.pi * self.frequency * t[:, None] + self.phase
        return self.offset + self.amplitude * np.sin(angle)

    def _slopes(self, t: Array, lookup: Array) -> Array:
        omega = 2 * np.pi * self.frequency
        return self.amplitude * omega * np.cos(omega * t[:, None] + self.phase)

    def emit(self, builder: Builder) -> None:
        """Append the instruction for the sine."""
        builder.sine(self.offset, self.amplitude, 2 * np.pi * self.frequency, self.phase)

    def aligned(self, times: Array) -> Input:
        """The same input, which has no breaks."""
        return self

    def __repr__(self) -> str:
        names = ("frequency", "amplitude", "phase", "offset")
        values = (getattr(self, name) for name in names)
        texts = (shown(v) if self.size > 1 else repr(float(v[0])) for v in values)
        return f"Sine({', '.join(f'{n}={v}' for n, v in zip(names, texts, strict=True))})"
