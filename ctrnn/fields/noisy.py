"""Noise as an input: F + g ∘ ξ, one channel ξ_i a noisy state; ΔW/h, held over a step, makes it F dt + g dW.

Euler's step of it is the step of Euler and Maruyama, r⁺ = r + h F + g ΔW; the explicit trapezoid's is stochastic Heun.
Nothing else changes: products with J, parameter parts, second order and torch follow from the text of F + g ∘ ξ.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from ctrnn.errors import ExpressionError, UnknownNameError, UsageError
from ctrnn.fields.arrays.values import Shape
from ctrnn.fields.base import Array


def strengths(states: Mapping[str, Shape], scale: Any) -> dict[str, Any]:
    """g of each state that has noise: a number, an array of its shape, or a text; raises UsageError.

    >>> strengths({"v": (), "r": (2,)}, np.array([0.0, 1.0, 2.0]))
    {'v': array(0.), 'r': array([1., 2.])}
    >>> strengths({"v": (), "w": ()}, {"w": "sigma*w"})
    {'w': 'sigma*w'}
    """
    if callable(scale):
        allowed = "a number, numbers, a formula or a table state -> one of these, for a field that is a text"
        raise UsageError("noise", given=scale, allowed=allowed)
    if isinstance(scale, dict):
        for name, value in scale.items():
            if name not in states:
                raise UnknownNameError("noise", name, states)
            if isinstance(value, np.ndarray) and value.shape != states[name]:
                allowed = f"a number or shape {states[name]}" if states[name] else "a number"
                raise UsageError(f"noise[{name!r}]", given=f"shape {value.shape}", allowed=allowed)
        return dict(scale)
    if not isinstance(scale, np.ndarray):
        return dict.fromkeys(states, scale)
    n = sum(int(np.prod(shape)) for shape in states.values())
    if scale.shape != (n,):
        raise UsageError("noise", given=f"shape {scale.shape}", allowed=f"a number, or {n} of them, one a state")
    found, start = {}, 0
    for name, shape in states.items():
        size = int(np.prod(shape))
        found[name] = scale[start : start + size].reshape(shape)
        start += size
    return found


def with_noise(
    equations: Mapping[str, str], strengths: Mapping[str, Any], taken: Iterable[str]
) -> tuple[dict[str, str], dict[str, str], dict[str, Array], dict[str, str]]:
    """F + g ∘ ξ as text: its equations, new definitions and constants, which are g, and the input ξ of each state.

    ``taken`` are names that have a meaning already.

    >>> with_noise({"v": "-v"}, {"v": "s*v"}, ["v", "s"])
    ({'v': '(-v) + noise_v*white_v'}, {'noise_v': 's*v'}, {}, {'v': 'white_v'})
    """
    used = set(taken)

    def free(name: str) -> str:
        while name in used:
            name += "_"
        used.add(name)
        return name

    made, definitions, constants, inputs = dict(equations), {}, {}, {}
    for state, g in strengths.items():
        name, inputs[state] = free(f"noise_{state}"), free(f"white_{state}")
        if isinstance(g, str):
            definitions[name] = g
        else:
            constants[name] = np.asarray(g)
        made[state] = f"({equations[state]}) + {name}*{inputs[state]}"
    return made, definitions, constants, inputs


def in_users_words(error: ExpressionError, white: Iterable[str]) -> ExpressionError:
    """The error of a formula of g, without the names of ξ, and with what to do for a parameter of its own."""
    first, *rest = str(error).split("\n")
    for name in white:
        first = first.replace(f"{name}, ", "")
    if "unknown name" in first and ". Try: " not in first:
        first += ". Try: for a parameter that g alone has, field.extended(sigma=0.1)"
    error.args = ("\n".join([first, *rest]),)
    return error


def depends_on(texts: Iterable[str], names: Collection[str], definitions: Mapping[str, str]) -> bool:
    """Whether formulas mention one of some names, themselves or by way of definitions.

    >>> depends_on(["s*z"], ["v"], {"z": "tanh(v)"}), depends_on(["s*t"], ["v"], {})
    (True, False)
    """
    seen: set[str] = set()
    left = list(texts)
    while left:
        for node in ast.walk(ast.parse(left.pop().strip(), mode="eval")):
            if isinstance(node, ast.Name) and node.id not in seen:
                seen.add(node.id)
                if node.id in definitions:
                    left.append(definitions[node.id])
    return not seen.isdisjoint(names)


def torch_with_noise(function: Callable[..., Any], scale: Any, nx: int) -> Callable[..., Any]:
    """(t, r, w, x) ↦ F + g ∘ ξ with ξ behind the nx inputs; g numbers, or a function too."""
    import torch

    g = scale if callable(scale) else torch.tensor(scale, dtype=torch.float64)

    def noisy(t: Any, r: Any, w: Any, x: Any) -> Any:
        own, xi = x[..., :nx], x[..., nx:]
        strength = g(t, r, w, own) if callable(g) else g.to(r)
        return function(t, r, w, own) + strength * xi

    return noisy
