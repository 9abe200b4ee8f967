"""What networks that are written as texts have in common: their time constants, random weights and activations.

    τ dr/dt = F(r, w, x),        τ a number or one a unit, fixed or trained

With one Euler step of dt = τ such a cell is a discrete one: r⁺ = r + F. The texts are systems of array equations
(ctrnn.fields.equations); everything else about them is derived.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, checked_array
from ctrnn.fields.equations import Equations
from ctrnn.memory import claim
from ctrnn.numbers import flag, whole


class TextNetwork(Equations):
    """A network as array equations; leaving its input out means x = 0.

    A subclass is a text with initial numbers: it calls ``__init__`` with equations, definitions and parameters as of
    `ctrnn.Equations`. ``tau`` in its texts is the time constant.
    """

    input_is_optional = True
    #: names of parameters that must be positive
    positive: ClassVar[tuple[str, ...]] = ("tau",)

    def __init__(
        self,
        equations: Mapping[str, str],
        parameters: Mapping[str, Any],
        states: Mapping[str, Any],
        inputs: int,
        tau: Any = None,
        train_tau: bool = False,
        definitions: Mapping[str, str] | None = None,
        masks: Mapping[str, Any] | None = None,
    ) -> None:
        values: dict[str, Any] = dict(parameters)
        constants: dict[str, Any] = {}
        if tau is not None:
            size = next(iter(states.values()))
            tau = checked_array("tau", tau)
            if tau.shape not in ((), (size,)) or not (tau > 0.0).all():
                raise UsageError("tau", given=tau, allowed=f"a positive number, or {size} of them")
            (values if flag("train_tau", train_tau) else constants)["tau"] = tau
        super().__init__(
            equations, values, {"x": inputs} if inputs else {}, states, definitions, constants, masks
        )  # fmt: skip

    @property
    def tau(self) -> Array:
        """The time constant, () or (n,)."""
        return self.parameters["tau"] if "tau" in self.parameters else self.constants["tau"]

    @property
    def time_constants(self) -> Array | None:
        """tau, where the equations have one."""
        return self.tau if "tau" in (*self.parameters, *self.constants) else None

    def _checked(self, name: str, value: Any, shape: tuple[int, ...]) -> Array:
        array = super()._checked(name, value, shape)
        if name in self.positive and not (array > 0.0).all():
            raise UsageError(f"parameter {name!r}", given=array, allowed="positive numbers")
        return array

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds of the flat vector: 0 outside of masks, time constants positive."""
        low, high = super().bounds
        place = 0
        for name, value in self.parameters.items():
            if name in self.positive:
                low[place : place + value.size] = np.finfo(float).tiny
            place += value.size
        return low, high


def checked_count(name: str, value: Any, least: int) -> int:
    """A number of units, channels or directions; raises UsageError."""
    return whole(name, value, least)


def checked_sizes(n: Any, inputs: Any, matrices: int = 1) -> tuple[int, int]:
    """Numbers of units and of channels, of a network of so many (n, n) matrices; raises UsageError."""
    n, inputs = checked_count("n", n, 1), checked_count("inputs", inputs, 0)
    claim("n", 16 * matrices * n * n + 80 * n)
    claim("inputs", 16 * max(matrices, 1) * n * inputs + 80 * inputs)
    return n, inputs


def checked_gain(gain: Any) -> float:
    """The size of random weights; raises UsageError."""
    value = float(checked_array("gain", gain, ()))
    if value < 0.0:
        raise UsageError("gain", given=gain, allowed="a number, at least 0")
    return value


def drive(*, hidden: str = "", inputs: int = 0, U: str = "U", bias: str = "b") -> str:
    """The text of ``hidden + U @ x + b``, without the input where there is none."""
    terms = [hidden, f"{U} @ x" if inputs else "", bias]
    return " + ".join(term for term in terms if term)
