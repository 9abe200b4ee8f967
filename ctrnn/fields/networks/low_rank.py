"""Rate units whose recurrent weights have low rank, W = M Nᵀ / n: 2 n k numbers, and products of 2 n k too.

    form "state"    τ dr/dt = −r + M (Nᵀ φ(r)) / n + U x + b
    form "rate"     τ dr/dt = −r + φ(M (Nᵀ r) / n + U x + b)

(Mastrogiuseppe & Ostojic, Neuron 99, 2018; Dubreuil et al., Nat. Neurosci. 25, 2022.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.fields.networks import torch_cells
from ctrnn.fields.networks.activations import rate_equation
from ctrnn.fields.networks.text import TextNetwork, checked_gain, checked_sizes
from ctrnn.memory import claim
from ctrnn.numbers import flag, generator, whole


class LowRankNetwork(TextNetwork):
    """Rate units with W = M Nᵀ / n; ``ctrnn.RateNetwork(n, rank=k)`` makes them.

    M and N have independent entries of standard deviation √gain; U and b as of `ctrnn.RateNetwork`.
    """

    def __init__(
        self, n: int, inputs: int, tau: Any, activation: str, gain: float, seed: int | None, form: str, mask: Any,
        dale: Any, train_tau: bool, rank: int,
    ) -> None:  # fmt: skip
        for name, given in (("mask", mask), ("dale", dale)):
            if given is not None:
                allowed = "None, of a network of a given rank: the entries of M Nᵀ are no parameters"
                raise UsageError(name, given=given, allowed=allowed)
        n, inputs = checked_sizes(n, inputs, 0)
        rate, definitions = rate_equation(activation, form, f"M @ (N.T @ s)/{n}", inputs)
        rank = whole("rank", rank, 1)
        if rank > n:
            raise UsageError("rank", given=rank, allowed=f"at most the number of units, {n}")
        claim("rank", 48.0 * n * rank, "a smaller rank")
        self.activation, self.form, self.rank, self.train_tau = activation, form, rank, flag("train_tau", train_tau)
        rng, size = generator(seed), np.sqrt(checked_gain(gain))
        weights = {"M": rng.normal(0.0, size, (n, rank)), "N": rng.normal(0.0, size, (n, rank))}
        if inputs:
            weights["U"] = rng.normal(0.0, 1.0 / np.sqrt(inputs), (n, inputs))
        weights["b"] = np.zeros(n)
        super().__init__({"r": rate}, weights, {"r": n}, inputs, tau, train_tau, definitions)

    @property
    def W(self) -> Array:
        """M Nᵀ / n (n, n)."""
        return self.parameters["M"] @ self.parameters["N"].T / self.n

    @classmethod
    def from_torch(cls, module: Any, **_: Any) -> LowRankNetwork:
        """Refused: the recurrent weights of a module of torch have any rank."""
        allowed = "None, with the numbers of a module of torch: its recurrent weights have any rank"
        raise UsageError("rank", given=f"one, of {type(module).__name__}", allowed=allowed)

    def to_torch(self, *, batch_first: bool = True) -> Any:
        """The torch.nn.RNN (one layer, float64) that one Euler step of dt = tau is, with M Nᵀ / n as W."""
        return torch_cells.rnn_of(self, self.W, batch_first)
