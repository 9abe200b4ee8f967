"""Networks of n rate units with dense or masked weights.

    RateNetwork, form "state":   τ dr/dt = −r + W φ(r) + U x + b
    RateNetwork, form "rate":    τ dr/dt = −r + φ(W r + U x + b)

(Wilson & Cowan 1972; Hopfield 1984; Sompolinsky, Crisanti & Sommers 1988.) A text with initial numbers, as all networks
are: everything else follows from the array equation.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.fields.networks import torch_cells
from ctrnn.fields.networks.activations import rate_equation
from ctrnn.fields.networks.low_rank import LowRankNetwork
from ctrnn.fields.networks.text import TextNetwork, checked_gain, checked_signs, checked_sizes
from ctrnn.numbers import flag, generator, real_array


class RateNetwork(TextNetwork):
    """A network of rate units.

    Parameters
    ----------
    n : int
        Number of units.
    inputs : int, default 0
        Number of input channels. Leaving the input out means x = 0.
    tau : float or array_like (n,), default 1
        Time constant, in the unit of t; a number, or one a unit.
    activation : str, default "tanh"
        φ: tanh, relu, softplus, sigmoid, linear, erf (scaled to slope 1 at 0), or a formula in z such as
        "z**2/(1 + z**2)".
    gain : float, default 1
        W has independent entries of standard deviation gain/√n (for a mask: gain/√(mean number of inputs a unit)).
    seed : int, optional
        Of the random W and U; U has standard deviation 1/√inputs; b = 0.
    form : {"state", "rate"}, default "state"
        τ dr/dt = −r + W φ(r) + U x + b, or −r + φ(W r + U x + b).
    mask : array_like (n, n) of bool, optional
        Weights outside are 0, stay 0, and have gradient 0.
    dale : array_like (n,) of +1 and −1, optional
        Column j of W, what unit j sends, has that sign (Dale's principle). Where the signs do not balance, W has an
        eigenvalue of about 0.8 gain (n₊ − n₋)/√n: scale columns by ``with_parameters(W=...)`` to balance them.
    train_tau : bool, default False
        Makes tau a parameter, with a gradient.
    rank : int, optional
        W = M Nᵀ / n of this rank, with parameters ``M`` and ``N`` (n, rank) in the place of ``W``; without mask and
        dale.

    Raises
    ------
    UsageError
        For sizes, values or shapes that are not allowed.
    UnknownNameError
        For an unknown activation or form.

    Notes
    -----
    The parameters are ``W`` (n, n), ``U`` (n, inputs), ``b`` (n,) and, when trained, ``tau``.

    Examples
    --------
    >>> field = RateNetwork(64, inputs=3, gain=1.2, seed=0)
    >>> {name: value.shape for name, value in field.parameters.items()}
    {'W': (64, 64), 'U': (64, 3), 'b': (64,)}
    >>> field(0.0, np.zeros(64), x=[0.0, 0.0, 0.0]).any()
    np.False_
    """

    def __new__(cls, *arguments: Any, rank: int | None = None, **options: Any) -> Any:
        """The network itself; of a given rank, one that is made of M and N."""
        if rank is None:
            return object.__new__(cls)
        given = _SIGNATURE.bind(*arguments, rank=rank, **options)
        given.apply_defaults()
        return LowRankNetwork(**given.arguments)

    def __init__(
        self,
        n: int,
        inputs: int = 0,
        tau: Any = 1.0,
        activation: str = "tanh",
        gain: float = 1.0,
        seed: int | None = None,
        form: str = "state",
        mask: Any = None,
        dale: Any = None,
        train_tau: bool = False,
        *,
        rank: int | None = None,  # __new__ has looked at it
    ) -> None:
        n, inputs = checked_sizes(n, inputs)
        rate, definitions = rate_equation(activation, form, "W @ s", inputs)
        gain = checked_gain(gain)
        self.activation, self.form, self.train_tau = activation, form, flag("train_tau", train_tau)
        self.rank: int | None = None
        self.mask = None if mask is None else _checked_mask(mask, n)
        self.dale = None if dale is None else checked_signs(dale, n)
        for fixed in (self.mask, self.dale):
            if fixed is not None:
                fixed.setflags(write=False)
        rng = generator(seed)
        fan_in = n if self.mask is None else max(self.mask.sum() / n, 1.0)
        weights = {
            "W": rng.normal(0.0, abs(gain) / np.sqrt(fan_in), (n, n)),  # of −0.0 too
            "U": rng.normal(0.0, 1.0 / np.sqrt(max(inputs, 1)), (n, inputs)),
            "b": np.zeros(n),
        }
        masks = {} if self.mask is None else {"W": self.mask}
        super().__init__({"r": rate}, weights, {"r": n}, inputs, tau, train_tau, definitions, masks, self.dale)
        self.state_names = tuple(f"r{i}" for i in range(n))
        self.input_names = tuple(f"x{i}" for i in range(inputs))

    def __repr__(self) -> str:
        equation = "−r + W φ(r) + U x + b" if self.form == "state" else "−r + φ(W r + U x + b)"
        sizes = f"n={self.n}, inputs={self.input_size}"
        return f"RateNetwork({sizes}): τ dr/dt = {equation}, φ = {self.activation}, m = {self.m}"

    def describe(self) -> tuple[dict[str, Any], dict[str, Array]] | None:
        """What writes the network down; None of a subclass, which may do anything."""
        if type(self) is not RateNetwork:
            return None
        if not {"W", "U", "b", "tau"}.issuperset(self.parameters):
            return super().describe()
        text = {"kind": "RateNetwork", "n": self.n, "inputs": self.input_size, "activation": self.activation}
        kept = {"tau": self.tau, "mask": self.mask, "dale": self.dale}
        text |= {"form": self.form, "train_tau": self.train_tau}
        return text, {name: value for name, value in kept.items() if value is not None}

    # -- torch's own network

    @classmethod
    def from_torch(cls, module: Any, tau: Any = 1.0, layer: int = 0, reverse: bool = False) -> RateNetwork:
        """The network of form "rate" whose Euler step of dt = tau is a layer of a torch.nn.RNN.

        Parameters
        ----------
        module : torch.nn.RNN or torch.nn.RNNCell
            The module.
        tau : float or array_like (n,)
            The time constant.
        layer : int
            Which of its layers.
        reverse : bool
            The direction that runs backwards in time, of a bidirectional one.

        Returns
        -------
        RateNetwork
            With the module's numbers.
        """
        U, W, bias_ih, bias_hh = torch_cells.numbers_of(module, "RNN", layer, reverse)
        network = cls(len(W), U.shape[1], tau, module.nonlinearity, form="rate", seed=0)
        return network.with_parameters(W=W, U=U, b=bias_ih + bias_hh)

    def to_torch(self, *, batch_first: bool = True) -> Any:
        """The torch.nn.RNN (one layer, float64) that one Euler step of dt = tau is.

        ``batch_first``: whether it takes (B, T, inputs), or (T, B, inputs), which is torch's own default.
        """
        return torch_cells.rnn_of(self, self.parameters["W"], batch_first)


def _checked_mask(mask: Any, n: int) -> Array:
    mask = real_array("mask", mask)
    if mask.shape != (n, n) or not np.isin(mask, (0, 1)).all():
        raise UsageError("mask", given=mask, allowed=f"an array ({n}, {n}) of 0 and 1")
    return mask.astype(bool)


def _signature() -> inspect.Signature:
    """The arguments of ``__init__``, which are what help and editors show: ``__new__`` only looks at them."""
    signature = inspect.signature(RateNetwork.__init__)
    return signature.replace(parameters=list(signature.parameters.values())[1:], return_annotation=signature.empty)


_SIGNATURE = RateNetwork.__signature__ = _signature()  # type: ignore[attr-defined]
