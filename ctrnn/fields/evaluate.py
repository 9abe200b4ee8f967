"""Formulas as Python functions: of whole arrays, numpy's or torch's, or of numbers with as many digits as asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ctrnn.fields import torch_functions
from ctrnn.fields.algebra import Node
from ctrnn.fields.printing import assignments


def _softplus(z: Any) -> Any:
    return np.logaddexp(0.0, z)


def _power_log(b: Any, p: Any, k: Any) -> Any:
    b = np.asarray(b, dtype=float)
    return np.where((b == 0.0) & (p > 0.0), 0.0, b**p * np.log(np.where(b == 0.0, 1.0, b)) ** k)


def numpy_function(names: Sequence[str], formulas: Sequence[Node]) -> Callable[..., list[Any]]:
    """A function of one array a name, in their order, that returns the formulas' values; a constant one is a number.

    Both cases of a condition are computed, so that the caller may want ``np.errstate(all="ignore")``.

    >>> from ctrnn.fields.expressions import read
    >>> f = numpy_function(["x", "y"], [read("x**2 + y", ["x", "y"])])
    >>> f(np.array([1.0, 2.0]), 3.0)
    [array([4., 7.])]
    """
    from scipy import special

    own = {"np": np, "special": special, "softplus": _softplus, "power_log": _power_log}
    return _function(names, formulas, "numpy", own)


def mpmath_function(names: Sequence[str], formulas: Sequence[Node]) -> Callable[..., list[Any]]:
    """The same for numbers of mpmath, in its working precision."""
    import mpmath

    own = {
        "mp": mpmath.mp,
        "sign": mpmath.sign,
        "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
        "softplus": lambda z: mpmath.log1p(mpmath.exp(z)),
        "power_log": lambda b, p, k: mpmath.mpf(0) if b == 0 and p > 0 else b**p * mpmath.log(b) ** k,
    }
    return _function(names, formulas, "mpmath", own)


def torch_function(names: Sequence[str], formulas: Sequence[Node]) -> Callable[..., list[Any]]:
    """The same for tensors of torch, which differentiates it."""
    return _function(names, formulas, "torch", {"T": torch_functions})


def _function(names: Sequence[str], formulas: Sequence[Node], dialect: str, known: dict[str, Any]) -> Any:
    places = {name: f"v_{i}" for i, name in enumerate(names)}
    targets = [f"f_{k}" for k in range(len(formulas))]
    body = [*assignments(targets, formulas, dialect, places), f"return [{', '.join(targets)}]"]
    source = f"def function({', '.join(places.values())}):\n" + "\n".join("    " + line for line in body)
    exec(compile(source, "<formula>", "exec"), known)  # text written here, of names given here
    return known["function"]


def is_zero(formula: Node, names: Sequence[str]) -> bool:
    """Whether a formula is 0 wherever it is real, as far as 50 digits at random points tell."""
    import mpmath

    if formula.value is not None:
        return formula.value == 0.0
    function = mpmath_function(names, [formula])
    points = np.random.default_rng(1).normal(size=(16, len(names))) * np.logspace(-1, 1, 16)[:, None]
    with mpmath.workdps(50):
        for point in points:
            try:
                value = function(*(mpmath.mpf(v) for v in point))[0]
            except (ArithmeticError, ValueError, TypeError):
                continue
            if isinstance(value, mpmath.mpf) and mpmath.isfinite(value) and abs(value) > mpmath.mpf("1e-35"):
                return False
    return True
