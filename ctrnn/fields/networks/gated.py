"""Gated units in continuous time: GRU and LSTM.

    GRU     τ dh/dt = (1 − z) ∘ (u − h)
            g = σ(W_r h + U_r x + b_r),   z = σ(W_z h + U_z x + b_z)
            u = tanh(W_n (g ∘ h) + U_n x + b_n)                  reset="before" (Cho et al. 2014)
            u = tanh(g ∘ (W_n h + c_n) + U_n x + b_n)            reset="after", torch.nn.GRU
    LSTM    τ dc/dt = −c + c̃,   τ dh/dt = −h + o ∘ tanh(c̃),   c̃ = f ∘ c + i ∘ g
            i, f, o = σ(W h + U x + b), g = tanh(W_g h + U_g x + b_g)  (Hochreiter & Schmidhuber 1997; Gers et al. 2000)

One Euler step of dt = τ is the discrete cell: h⁺ = (1 − z) ∘ u + z ∘ h, and c⁺ = c̃, h⁺ = o ∘ tanh(c⁺).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from ctrnn.errors import UsageError, one_of
from ctrnn.fields.base import Array
from ctrnn.fields.networks import torch_cells
from ctrnn.fields.networks.text import TextNetwork, checked_sizes, drive
from ctrnn.numbers import generator


class _GatedNetwork(TextNetwork):
    """A network whose weights W, U and b are one set a gate, as torch keeps them."""

    #: gates in torch's order
    gates: tuple[str, ...]
    #: the class of torch.nn that one Euler step of dt = tau is
    torch_name: str

    @staticmethod
    def _weights(gates: tuple[str, ...], n: int, inputs: int, seed: Any) -> dict[str, Array]:
        """As torch draws them: uniform within ±1/√n."""
        rng, size = generator(seed), 1.0 / np.sqrt(n)
        made = {f"W_{gate}": rng.uniform(-size, size, (n, n)) for gate in gates}
        if inputs:
            made |= {f"U_{gate}": rng.uniform(-size, size, (n, inputs)) for gate in gates}
        return made | {f"b_{gate}": rng.uniform(-size, size, n) for gate in gates}

    @property
    def hidden_size(self) -> int:
        """Units, of one or two states each."""
        return len(self.parameters[f"b_{self.gates[0]}"])

    @classmethod
    def from_torch(cls, module: Any, tau: Any = 1.0, layer: int = 0, reverse: bool = False, **options: Any) -> Self:
        """The network whose Euler step of dt = tau is a layer of a module of torch.

        Parameters
        ----------
        module : torch.nn.GRU, torch.nn.LSTM or the cell of either
            The module, without projections.
        tau : float or array_like (n,)
            The time constant.
        layer : int
            Which of its layers; ``reverse``: the direction that runs backwards in time, of a bidirectional one.
        options
            Other arguments of the class.

        Returns
        -------
        GRUNetwork or LSTMNetwork
            With the module's numbers.
        """
        numbers = torch_cells.numbers_of(module, cls.torch_name, layer, reverse)
        network = cls(module.hidden_size, numbers[0].shape[1], tau, **options)
        return network.with_parameters(**network._from_stacks(*numbers))

    def to_torch(self, *, batch_first: bool = True) -> Any:
        """The module of torch (one layer, float64) that one Euler step of dt = tau is.

        ``batch_first``: whether it takes (B, T, inputs), or (T, B, inputs), which is torch's own default.
        """
        return torch_cells.module_of(
            self.torch_name, self.input_size, self.hidden_size, self._to_stacks(), batch_first=batch_first
        )

    def _from_stacks(self, ih: Array, hh: Array, bias_ih: Array, bias_hh: Array) -> dict[str, Array]:
        n, k = self.hidden_size, len(self.gates)
        parts: dict[str, Array] = {}
        for letter, stack in (("W", hh), ("U", ih), ("b", bias_ih + bias_hh)):
            parts |= {f"{letter}_{gate}": part for gate, part in zip(self.gates, stack.reshape(k, n, -1), strict=True)}
        parts |= {name: part[:, 0] for name, part in parts.items() if name[0] == "b"}
        return {name: part for name, part in parts.items() if name in self.parameters}

    def _to_stacks(self) -> tuple[Array, Array, Array, Array]:
        """weight_ih, weight_hh, bias_ih, bias_hh."""
        n, p = self.hidden_size, self.parameters
        none = np.zeros((n, self.input_size))
        ih = np.concatenate([p.get(f"U_{gate}", none) for gate in self.gates])
        bias = np.concatenate([p[f"b_{gate}"] for gate in self.gates])
        return ih, np.concatenate([p[f"W_{gate}"] for gate in self.gates]), bias, np.zeros_like(bias)


def refuse_signs(dale: Any) -> None:
    """Raise UsageError for signs of units whose activity takes both signs."""
    if dale is not None:
        allowed = "None: h takes both signs, so that the sign of a weight is not that of its effect"
        raise UsageError("dale", given=dale, allowed=allowed, hint="ctrnn.LiquidNetwork(dale=...)")


class GRUNetwork(_GatedNetwork):
    """Gated recurrent units in continuous time, τ dh/dt = (1 − z) ∘ (u − h).

    Parameters
    ----------
    n : int
        Units.
    inputs : int, default 0
        Input channels.
    tau : float or array_like (n,), default 1
        Time constant, in the unit of t.
    reset : {"after", "before"}, default "after"
        Where the reset gate g acts: on W_n h + c_n, as in torch.nn.GRU, or on h before the product, as first published.
    seed : int, optional
        Of the random weights, uniform within ±1/√n.
    train_tau : bool, default False
        Makes tau a parameter.
    masks : dict, optional
        Parameter name -> booleans; entries outside are 0, stay 0, and have gradient 0.
    dale : None
        Refused: h takes both signs, so that the sign of a weight is not that of what a unit does to another.

    Raises
    ------
    UsageError, UnknownNameError
        For sizes and values that are not allowed.

    Notes
    -----
    States "h"; parameters ``W_r``, ``W_z``, ``W_n`` (n, n), ``U_r``, ``U_z``, ``U_n`` (n, inputs), ``b_r``, ``b_z``,
    ``b_n`` and, with reset="after", ``c_n`` (n,). One Euler step of dt = tau is torch.nn.GRU. Source: Cho et al., EMNLP
    2014; in continuous time Jordan, Sokół & Park, Front. Comput. Neurosci. 15 (2021).

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.GRUNetwork(16, inputs=2, tau=0.1, seed=0)
    >>> field.n, field.parameters["W_z"].shape
    (16, (16, 16))
    """

    gates = ("r", "z", "n")
    torch_name = "GRU"

    def __init__(
        self,
        n: int,
        inputs: int = 0,
        tau: Any = 1.0,
        *,
        reset: str = "after",
        seed: int | None = None,
        train_tau: bool = False,
        masks: Mapping[str, Any] | None = None,
        dale: None = None,
    ) -> None:
        refuse_signs(dale)
        n, inputs = checked_sizes(n, inputs, 4)
        one_of("reset", reset, ("after", "before"))
        self.reset = reset
        weights = self._weights(self.gates, n, inputs, seed)
        if reset == "after":
            weights["c_n"] = np.zeros(n)
            recurrent = "g*(W_n @ h + c_n)"
        else:
            recurrent = "W_n @ (g*h)"
        definitions = {
            "g": f"sigmoid({drive(hidden='W_r @ h', inputs=inputs, U='U_r', bias='b_r')})",
            "z": f"sigmoid({drive(hidden='W_z @ h', inputs=inputs, U='U_z', bias='b_z')})",
            "u": f"tanh({drive(hidden=recurrent, inputs=inputs, U='U_n', bias='b_n')})",
        }
        super().__init__({"h": "(1 - z)*(u - h)/tau"}, weights, {"h": n}, inputs, tau, train_tau, definitions, masks)

    def _from_stacks(self, ih: Array, hh: Array, bias_ih: Array, bias_hh: Array) -> dict[str, Array]:
        if self.reset != "after":
            raise UsageError("reset", given=self.reset, allowed="'after', which is what torch.nn.GRU computes")
        n = self.hidden_size
        # of the candidate, the reset gate sees one bias and not the other
        found = super()._from_stacks(ih, hh, bias_ih, np.append(bias_hh[: 2 * n], np.zeros(n)))
        return found | {"c_n": bias_hh[2 * n :]}

    def _to_stacks(self) -> tuple[Array, Array, Array, Array]:
        if self.reset != "after":
            raise UsageError("reset", given=self.reset, allowed="'after', which is what torch.nn.GRU computes")
        ih, hh, bias_ih, bias_hh = super()._to_stacks()
        bias_hh[2 * self.hidden_size :] = self.parameters["c_n"]
        return ih, hh, bias_ih, bias_hh


class LSTMNetwork(_GatedNetwork):
    """Long short-term memory in continuous time, τ dc/dt = −c + c̃, τ dh/dt = −h + o ∘ tanh(c̃), c̃ = f ∘ c + i ∘ g.

    Parameters
    ----------
    n : int
        Units, of two states each.
    inputs : int, default 0
        Input channels.
    tau : float or array_like (n,), default 1
        Time constant, in the unit of t.
    seed : int, optional
        Of the random weights, uniform within ±1/√n.
    train_tau : bool, default False
        Makes tau a parameter.
    masks : dict, optional
        Parameter name -> booleans; entries outside are 0, stay 0, and have gradient 0.
    dale : None
        Refused: h takes both signs, so that the sign of a weight is not that of what a unit does to another.

    Raises
    ------
    UsageError
        For sizes and values that are not allowed.

    Notes
    -----
    States "h" and "c"; parameters ``W_k`` (n, n), ``U_k`` (n, inputs), ``b_k`` (n,) of the gates k = i, f, g, o. One
    Euler step of dt = tau is torch.nn.LSTM. In rest, h = o ∘ tanh(c). Source: Hochreiter & Schmidhuber, Neural Comput.
    9 (1997); Gers, Schmidhuber & Cummins, Neural Comput. 12 (2000).

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.LSTMNetwork(8, inputs=1, seed=0)
    >>> field.state_names[0], field.state_names[8], field.n
    ('h[0]', 'c[0]', 16)
    """

    gates = ("i", "f", "g", "o")
    torch_name = "LSTM"

    def __init__(
        self,
        n: int,
        inputs: int = 0,
        tau: Any = 1.0,
        *,
        seed: int | None = None,
        train_tau: bool = False,
        masks: Mapping[str, Any] | None = None,
        dale: None = None,
    ) -> None:
        refuse_signs(dale)
        n, inputs = checked_sizes(n, inputs, 4)
        weights = self._weights(self.gates, n, inputs, seed)
        definitions = {
            f"{gate}_": f"{'tanh' if gate == 'g' else 'sigmoid'}("
            + drive(hidden=f"W_{gate} @ h", inputs=inputs, U=f"U_{gate}", bias=f"b_{gate}")
            + ")"
            for gate in self.gates
        }
        definitions["c_new"] = "f_*c + i_*g_"
        equations = {"h": "(-h + o_*tanh(c_new))/tau", "c": "(-c + c_new)/tau"}
        super().__init__(equations, weights, {"h": n, "c": n}, inputs, tau, train_tau, definitions, masks)
