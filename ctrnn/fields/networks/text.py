"""What networks that are written as texts have in common: time constants, masks, signs, random weights.

    τ dr/dt = F(r, w, x),        τ a number or one a unit, fixed or trained

With one Euler step of dt = τ such a cell is a discrete one: r⁺ = r + F. The texts are systems of array equations
(ctrnn.fields.equations); everything else about them is derived.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.arrays.declared import checked_masks
from ctrnn.fields.base import Array
from ctrnn.fields.checks import as_mapping
from ctrnn.fields.equations import Equations
from ctrnn.memory import claim
from ctrnn.numbers import checked_array, flag, real_array, whole


class TextNetwork(Equations):
    """A network as array equations; leaving its input out means x = 0.

    A subclass is a text with initial numbers: it calls ``__init__`` with equations, definitions and parameters as of
    `ctrnn.Equations`. ``tau`` in its texts is the time constant.
    """

    input_is_optional = True
    #: the parameter whose column j is what unit j sends to the others
    sends: ClassVar[str] = "W"
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
        dale: Any = None,
    ) -> None:
        values: dict[str, Any] = dict(parameters)
        for name, mask in checked_masks(as_mapping("masks", {} if masks is None else masks), values).items():
            values[name] = np.where(mask, values[name], 0.0)  # what is drawn, is drawn inside
        #: the sign of each entry of the weights that ``dale`` is about, 0 where it may have any; None without
        self.signs: Array | None = None
        if dale is not None:
            self.signs = self._signs(checked_signs(dale, len(values[self.sends])))
            self.signs.setflags(write=False)
            W = values[self.sends]
            values[self.sends] = np.where(self.signs == 0.0, W, np.abs(W) * self.signs)
        constants: dict[str, Any] = {}
        if tau is not None:
            tau = _checked_tau(tau, next(iter(states.values())))
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
        """tau of each state (n,), where the equations have one."""
        if "tau" not in (*self.parameters, *self.constants):
            return None
        return np.resize(self.tau, self.n)  # of one unit after the other, for each of its states

    def with_time_constant(self, tau: Any) -> Self:
        """A copy with another fixed time constant.

        Parameters
        ----------
        tau : float or array_like (n,)
            A positive number, or one a unit.

        Returns
        -------
        TextNetwork
            The same network with it; one of the same shape shares its compiled code.

        Raises
        ------
        UsageError
            Where tau is trained, and for what is no time constant.
        """
        if "tau" not in self.constants:
            raise UsageError("tau", given=tau, allowed="with_parameters(tau=...), as it is trained")
        tau = _checked_tau(tau, next(iter(self.states.values()))[0])
        twin = copy.copy(self) if tau.shape == self.tau.shape else self._without_code()
        twin.constants = self.constants | {"tau": tau}
        twin.__dict__.pop("_noisy_twins", None)
        return twin

    def _signs(self, dale: Array) -> Array:
        """The signs (n, n) of the weights of units whose signs are these (n,)."""
        return np.tile(dale, (dale.size, 1))

    def project(self, W: Any) -> Array:
        """The nearest weights that obey the mask and the signs of ``dale``.

        Parameters
        ----------
        W : array_like (n, n)
            Recurrent weights, of the parameter ``W`` (of a linear network ``A``).

        Returns
        -------
        ndarray (n, n)
            Them, with 0 in the place of what is not allowed.
        """
        if self.sends not in self.parameters:
            allowed = f"a network with a parameter {self.sends}"
            raise UsageError("network", given=type(self).__name__, allowed=allowed, hint="field.bounds has them all")
        W = checked_array(self.sends, W, self.parameters[self.sends].shape)
        if self.signs is not None:
            W = np.where(W * self.signs < 0.0, 0.0, W)
        return np.where(self.masks[self.sends], W, 0.0) if self.sends in self.masks else W

    def describe(self) -> tuple[dict[str, Any], dict[str, Array]] | None:
        """Its equations and signs, without the class that wrote them; None of a class with steps of its own."""
        if type(self)._with_step_size is not Equations._with_step_size:
            return None
        text, arrays = self._described()
        signs = {} if self.signs is None else {"signs": self.signs}
        return text | {"kind": "TextNetwork", "sends": self.sends}, arrays | signs

    @staticmethod
    def restored(sends: str, signs: Array | None, **arguments: Any) -> TextNetwork:
        """The network of ``describe``; arguments as of `ctrnn.Equations`."""
        network = object.__new__(TextNetwork)
        network.signs = signs
        object.__setattr__(network, "sends", sends)
        Equations.__init__(network, **arguments)
        return network

    def _checked(self, name: str, value: Any, shape: tuple[int, ...]) -> Array:
        array = super()._checked(name, value, shape)
        if name == self.sends and self.signs is not None and (array * self.signs < 0.0).any():
            unit = int(np.argwhere((array * self.signs < 0.0).any(axis=0))[0, 0])
            sign = "not negative" if (self.signs[:, unit] > 0.0).any() else "not positive"
            allowed = f"column {unit} {sign} (dale)"
            raise UsageError(f"parameter {name!r}", given=array, allowed=allowed, hint=f"field.project({name})")
        if name in self.positive and not (array > 0.0).all():
            raise UsageError(f"parameter {name!r}", given=array, allowed="positive numbers")
        return array

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds of the flat vector: 0 outside of masks, signs, time constants positive."""
        low, high = super().bounds
        for name, its in self.parameters.slices.items():
            if name in self.positive:
                low[its] = np.finfo(float).tiny
            if name == self.sends and self.signs is not None:
                low[its] = np.where(self.signs.ravel() > 0.0, np.maximum(low[its], 0.0), low[its])
                high[its] = np.where(self.signs.ravel() < 0.0, np.minimum(high[its], 0.0), high[its])
        return low, high


def _checked_tau(tau: Any, n: int) -> Array:
    tau = checked_array("tau", tau)
    if tau.shape not in ((), (n,)) or not (tau > 0.0).all():
        raise UsageError("tau", given=tau, allowed=f"a positive number, or {n} of them")
    tau.setflags(write=False)
    return tau


def checked_signs(dale: Any, n: int) -> Array:
    """A sign for each of n units; raises UsageError."""
    signs = real_array("dale", dale)
    if signs.shape != (n,) or not np.isin(signs, (-1, 1)).all():
        raise UsageError("dale", given=dale, allowed=f"{n} signs, +1 or -1, one a unit")
    return signs.astype(float)


def checked_sizes(n: Any, inputs: Any, matrices: int = 1) -> tuple[int, int]:
    """Numbers of units and of channels, of a network of so many (n, n) matrices; raises UsageError."""
    n, inputs = whole("n", n), whole("inputs", inputs, 0)
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
