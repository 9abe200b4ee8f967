"""A neural ODE: the vector field is a multilayer perceptron.

    dr/dt = W_L a_(L−1) + b_L,    a_k = φ(W_k a_(k−1) + b_k),    a_0 = r,    and U x in the first layer

(Chen, Rubanova, Bettencourt & Duvenaud, Neural ordinary differential equations, NeurIPS 2018.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.networks.activations import activated
from ctrnn.fields.networks.text import TextNetwork, checked_sizes, drive
from ctrnn.memory import claim
from ctrnn.numbers import generator, whole


class MLPField(TextNetwork):
    """A multilayer perceptron as the vector field, dr/dt = W_L φ(… φ(W_1 r + U x + b_1) …) + b_L.

    Parameters
    ----------
    n : int
        States.
    hidden : iterable of int, default (64, 64)
        Widths of the hidden layers; () is a linear field.
    activation : str, default "tanh"
        φ: tanh, relu, softplus, sigmoid, linear, erf, or a formula in z.
    inputs : int, default 0
        Input channels, which enter the first layer.
    seed : int, optional
        Of the random weights, of standard deviation 1/√(sources); biases are 0.
    masks : dict, optional
        Parameter name -> booleans; entries outside are 0, stay 0, and have gradient 0.

    Raises
    ------
    UsageError
        For sizes and values that are not allowed.

    Notes
    -----
    States "r"; parameters ``W1``, ``b1``, …, ``U``. Source: Chen et al., NeurIPS 2018.

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.MLPField(2, hidden=(16,), seed=0)
    >>> {name: value.shape for name, value in field.parameters.items()}
    {'W1': (16, 2), 'b1': (16,), 'W2': (2, 16), 'b2': (2,)}
    """

    def __init__(
        self,
        n: int,
        hidden: Iterable[int] = (64, 64),
        activation: str = "tanh",
        inputs: int = 0,
        *,
        seed: int | None = None,
        masks: Mapping[str, Any] | None = None,
    ) -> None:
        n, inputs = checked_sizes(n, inputs, 0)
        if not isinstance(hidden, list | tuple | range):
            raise UsageError("hidden", given=hidden, allowed="widths of the hidden layers, such as (64, 64)")
        sizes = [n, *(whole("hidden", width) for width in hidden), n]
        claim("hidden", 16.0 * sum(a * b for a, b in pairwise(sizes)), "narrower layers")
        rng = generator(seed)
        weights, definitions, source = {}, {}, "r"
        for k, (sources, width) in enumerate(zip(sizes[:-1], sizes[1:], strict=True), start=1):
            weights[f"W{k}"] = rng.normal(0.0, 1.0 / np.sqrt(sources), (width, sources))
            if k == 1 and inputs:
                weights["U"] = rng.normal(0.0, 1.0 / np.sqrt(inputs), (width, inputs))
            weights[f"b{k}"] = np.zeros(width)
            text = drive(hidden=f"W{k} @ {source}", inputs=inputs if k == 1 else 0, bias=f"b{k}")
            if k == len(sizes) - 1:
                break
            definitions[f"a{k}"] = activated(activation, text)
            source = f"a{k}"
        super().__init__({"r": text}, weights, {"r": n}, inputs, definitions=definitions, masks=masks)
