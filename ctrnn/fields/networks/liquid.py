"""Liquid time-constant units: an input-dependent conductance towards A.

    dh/dt = −(1/τ + f) ∘ h + f ∘ A,        f = φ(W h + U x + b)

so that a unit's time constant is τ/(1 + τ f) (Hasani, Lechner, Amini, Rus & Grosu, AAAI 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctrnn.fields.networks.activations import activated
from ctrnn.fields.networks.text import TextNetwork, checked_gain, checked_sizes, drive
from ctrnn.numbers import generator


class LiquidNetwork(TextNetwork):
    """Liquid time-constant units, dh/dt = −(1/τ + f) ∘ h + f ∘ A, f = φ(W h + U x + b).

    Parameters
    ----------
    n : int
        Units.
    inputs : int, default 0
        Input channels.
    tau : float or array_like (n,), default 1
        Time constant without input, in the unit of t.
    activation : str, default "sigmoid"
        φ: tanh, relu, softplus, sigmoid, linear, erf, or a formula in z. Where it is not negative, h stays between 0
        and A.
    gain : float, default 1
        W has entries of standard deviation gain/√n.
    seed : int, optional
        Of the random W, U and A (standard normal).
    train_tau : bool, default False
        Makes tau a parameter.
    masks : dict, optional
        Parameter name -> booleans; entries outside are 0, stay 0, and have gradient 0.
    dale : array_like (n,) of +1 and −1, optional
        Column j of W, what unit j sends, has that sign (Dale's principle). A is then positive, so that h, between 0 and
        A for a φ that is not negative, is what a unit sends.

    Raises
    ------
    UsageError
        For sizes and values that are not allowed.

    Notes
    -----
    States "h"; parameters ``W`` (n, n), ``U`` (n, inputs), ``b`` (n,), ``A`` (n,) and, when trained, ``tau``. Source:
    Hasani et al., Liquid time-constant networks, AAAI 2021, eq. 1.

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.LiquidNetwork(8, inputs=1, seed=0)
    >>> sorted(field.parameters)
    ['A', 'U', 'W', 'b']
    """

    def __init__(
        self,
        n: int,
        inputs: int = 0,
        tau: Any = 1.0,
        *,
        activation: str = "sigmoid",
        gain: float = 1.0,
        seed: int | None = None,
        train_tau: bool = False,
        masks: Mapping[str, Any] | None = None,
        dale: Any = None,
    ) -> None:
        n, inputs = checked_sizes(n, inputs)
        rng = generator(seed)
        weights = {"W": rng.normal(0.0, checked_gain(gain) / np.sqrt(n), (n, n))}
        if inputs:
            weights["U"] = rng.normal(0.0, 1.0 / np.sqrt(inputs), (n, inputs))
        weights |= {"b": np.zeros(n), "A": rng.normal(size=n)}
        if dale is not None:
            self.positive = ("tau", "A")  # type: ignore[misc]
            weights["A"] = np.abs(weights["A"])
        f = activated(activation, drive(hidden="W @ h", inputs=inputs))
        equations = {"h": "-(1/tau + f)*h + f*A"}
        super().__init__(equations, weights, {"h": n}, inputs, tau, train_tau, {"f": f}, masks, dale)
