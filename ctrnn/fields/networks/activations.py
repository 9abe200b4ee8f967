"""φ of rate units, by name or as a formula, and the equation of such units as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ctrnn.errors import UsageError, one_of

#: φ of a rate unit, as a function of z. ``erf`` is scaled to slope 1 at 0.
ACTIVATIONS: Mapping[str, str] = {
    "tanh": "tanh({z})",
    "relu": "relu({z})",
    "softplus": "softplus({z})",
    "sigmoid": "sigmoid({z})",
    "linear": "{z}",
    "erf": "erf(sqrt(pi)/2 * {z})",
}


def activated(activation: Any, z: str) -> str:
    """φ(z) as text, of a name such as "tanh" or of a formula in z.

    Raises
    ------
    UsageError
        For what is neither.

    Examples
    --------
    >>> activated("tanh", "W @ r + b"), activated("z**2/(1 + z**2)", "r")
    ('tanh(W @ r + b)', '((r)**2/(1 + (r)**2))')
    """
    if isinstance(activation, str) and activation in ACTIVATIONS:
        inner = f"({z})" if ACTIVATIONS[activation] == "{z}" or "*" in ACTIVATIONS[activation] else z
        return ACTIVATIONS[activation].format(z=inner)
    if not isinstance(activation, str) or not re.search(r"\bz\b", activation):
        allowed = f"one of {', '.join(ACTIVATIONS)}, or a formula in z such as 'z**2/(1 + z**2)'"
        raise UsageError("activation", given=activation, allowed=allowed)
    return "(" + re.sub(r"\bz\b", f"({z})", activation) + ")"


def rate_equation(activation: Any, form: str, hidden: str, inputs: int) -> tuple[str, dict[str, str]]:
    """τ dr/dt of rate units as array equations: dr/dt, and the definitions of s, which is sent, and u.

    ``hidden``: what the units receive from each other, a text in s. Raises UnknownNameError for an unknown form or φ.

    >>> rate_equation("tanh", "state", "W @ s", inputs=2)
    ('(-r + u)/tau', {'s': 'tanh(r)', 'u': 'W @ s + U @ x + b'})
    """
    one_of("form", form, ("state", "rate"))
    if isinstance(activation, str) and activation.isidentifier() and activation != "z":
        one_of("activation", activation, ACTIVATIONS)
    u = f"{hidden} + U @ x + b" if inputs else f"{hidden} + b"
    if form == "state":
        return "(-r + u)/tau", {"s": activated(activation, "r"), "u": u}
    return f"(-r + {activated(activation, 'u')})/tau", {"s": "r", "u": u}
