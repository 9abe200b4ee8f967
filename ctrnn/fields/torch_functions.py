"""Elementary functions for generated torch code: as torch's, but numbers are taken as well as tensors.

torch is imported at the first call, so that a process that never asks for torch does not wait for it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

_BY_NAME = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}


def _torch() -> Any:
    return importlib.import_module("torch")


def tensor(value: Any, like: Any = None) -> Any:
    """A tensor of a number, of the dtype and device of ``like`` (float64 without)."""
    torch = _torch()
    if isinstance(value, torch.Tensor):
        return value
    if like is None:
        return torch.tensor(value, dtype=torch.float64)
    return torch.tensor(value, dtype=like.dtype, device=like.device)


def _elementwise(name: str) -> Callable[[Any], Any]:
    def apply(z: Any) -> Any:
        torch = _torch()
        return getattr(torch, _BY_NAME.get(name, name))(tensor(z))

    apply.__name__ = name
    return apply


exp, log, sin, cos, tan = map(_elementwise, ("exp", "log", "sin", "cos", "tan"))
asin, acos, atan = map(_elementwise, ("asin", "acos", "atan"))
sinh, cosh, tanh, sqrt = map(_elementwise, ("sinh", "cosh", "tanh", "sqrt"))


def erf(z: Any) -> Any:
    """The error function. torch's is real.

    For a complex step z = a + ib, b tiny, it is erf a + ib 2/√π e^(−a²), the rest being O(b²).
    """
    torch = _torch()
    z = tensor(z)
    if not z.is_complex():
        return torch.erf(z)
    return torch.complex(torch.erf(z.real), z.imag * (2.0 / math.sqrt(math.pi)) * torch.exp(-z.real.square()))


sigmoid, logical_not = map(_elementwise, ("sigmoid", "logical_not"))


def _real_only(name: str) -> Callable[[Any], Any]:
    """abs and sign exist for complex tensors, but not as analytic functions.

    A complex step through them would be wrong.
    """

    def apply(z: Any) -> Any:
        z = tensor(z)
        if z.is_complex():
            raise TypeError(f"{name} is not analytic")
        return getattr(_torch(), name)(z)

    return apply


abs, sign = map(_real_only, ("abs", "sign"))


def softplus(z: Any) -> Any:
    """log(1 + e^z); torch's own softplus turns linear above a threshold, this one does not."""
    torch = _torch()
    z = tensor(z)
    return torch.logaddexp(z, torch.zeros_like(z))


def pow(base: Any, exponent: Any) -> Any:
    """base ** exponent; a whole exponent stays one, so that negative bases work."""
    if isinstance(exponent, float) and exponent == 0.5:
        return sqrt(base)
    if isinstance(exponent, int) and hasattr(base, "is_complex") and base.is_complex():
        # torch takes a logarithm: a negative number's angle π then hides a complex step of 1e-30
        power = _whole_power(base, abs(exponent))
        return 1.0 / power if exponent < 0 else power
    if not isinstance(base, (int, float)) or not isinstance(exponent, (int, float)):
        return tensor(base, exponent if hasattr(exponent, "dtype") else None) ** exponent
    return math.pow(base, exponent)


def _whole_power(base: Any, exponent: int) -> Any:
    """base ** exponent by squaring."""
    if exponent == 0:
        return _torch().ones_like(base)
    half = _whole_power(base, exponent // 2) if exponent > 1 else None
    squared = base if half is None else half * half
    return squared * base if exponent > 1 and exponent % 2 else squared


def where(condition: Any, a: Any, b: Any) -> Any:
    """The one where the condition holds, else the other."""
    torch = _torch()
    if not isinstance(condition, torch.Tensor):  # a condition on t alone
        return a if condition else b
    like = next((v for v in (a, b) if isinstance(v, torch.Tensor)), None)
    return torch.where(condition, tensor(a, like), tensor(b, like))


def stack(values: Any, like: Any) -> Any:
    """Components to the last axis of one tensor, of the batch shape of ``like`` (..., n)."""
    torch = _torch()
    values = torch.broadcast_tensors(like[..., 0], *[tensor(v, like) for v in values])[1:]
    return torch.stack(values, -1)


def phi(z: Any) -> Any:
    """φ₁ on tensors, real or complex: by Σ z^k/(k + 1)! near 0, where its quotient would lose all digits."""
    torch = _torch()
    near = z.abs() < 1.0
    small, large = torch.where(near, z, 0.0 * z), torch.where(near, torch.ones_like(z), z)
    series = torch.ones_like(z)
    for k in range(20, 0, -1):
        series = 1.0 + series * small / (k + 1)
    return torch.where(near, series, (torch.exp(large) - 1.0) / large)
