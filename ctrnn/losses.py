"""The losses ℓ(o, y) of one time, evaluated for many times at once, and the trained read-out.

    softmax         o = e^u / Σ_i e^u_i                ∂ℓ/∂u = o ∘ (∂ℓ/∂o − ∂ℓ/∂o · o)

Named losses are those of ctrnn.named_losses; an expression in the states is differentiated as a formula, a callable by
torch. (C. M. Bishop, Pattern Recognition and Machine Learning, 2006, 4.3.4.)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UnknownNameError, UsageError, one_of
from ctrnn.fields.algebra import ZERO
from ctrnn.fields.arrays.scalar import read_scalar
from ctrnn.fields.derivatives import gradient
from ctrnn.fields.evaluate import is_zero, numpy_function
from ctrnn.fields.expressions import CONSTANTS
from ctrnn.inputs.checks import finite
from ctrnn.named_losses import LOSSES
from ctrnn.names import known
from ctrnn.numbers import real_array

Array = NDArray[np.float64]
Loss = Callable[[Array, Array], tuple[Array, Array]]  # o (T, p), y (T, q) -> ℓ (T,), ∂ℓ/∂o (T, p)

#: what is known by name
NAMED = LOSSES
ACTIVATIONS = ("linear", "softmax")


@dataclass(frozen=True, eq=False, repr=False)
class Readout:
    """A trained read-out o = g(V r + c) of p outputs.

    Parameters
    ----------
    V : array_like (p, n)
        The weights.
    c : float or array_like (p,), default 0
        The bias.
    activation : {"linear", "softmax"}, default "linear"
        g.

    Raises
    ------
    UsageError
        For wrong shapes and numbers that are not finite.
    UnknownNameError
        For another activation.

    Examples
    --------
    >>> Readout([[1.0, -1.0]], c=0.5)([3.0, 1.0])
    array([2.5])
    """

    V: Any
    c: Any = 0.0
    activation: str = "linear"

    def __post_init__(self) -> None:
        V = finite("readout V", self.V, (2,), "an array (p, n)")
        c = finite("readout c", self.c, (0, 1), "a number or an array (p,)")
        if not V.size:
            raise UsageError("readout V", given=V, allowed="an array (p, n)")
        if c.shape not in ((), (len(V),)):
            raise UsageError("readout c", given=c, allowed=f"shape ({len(V)},), as V {V.shape}")
        one_of("readout activation", self.activation, ACTIVATIONS)
        object.__setattr__(self, "V", V)
        object.__setattr__(self, "c", np.broadcast_to(c, len(V)))

    def __repr__(self) -> str:
        p, n = self.V.shape
        return f"Readout({p} of {n} states, {self.activation})"

    def __call__(self, r: Any) -> Array:
        """o (..., p) of states r (..., n)."""
        u = self.linear(real_array("r", r))
        return np.exp(log_softmax(u)) if self.activation == "softmax" else u

    def equals(self, other: Readout) -> bool:
        """Whether the other is the same function, bit for bit."""
        same = np.array_equal(self.V, other.V) and np.array_equal(self.c, other.c)
        return same and self.activation == other.activation

    def linear(self, r: Array) -> Array:
        """u = V r + c, (..., p)."""
        return r @ self.V.T + self.c

    def pullback(self, o: Array, l_o: Array) -> Array:
        """∂ℓ/∂u (T, p) from ∂ℓ/∂o at the output o."""
        if self.activation == "softmax":
            return o * (l_o - np.sum(l_o * o, axis=1, keepdims=True))
        return l_o


def log_softmax(u: Array) -> Array:
    """log(e^u / Σ_i e^u_i) along the last axis, without overflow."""
    u = u - np.max(u, axis=-1, keepdims=True)
    return u - np.log(np.sum(np.exp(u), axis=-1, keepdims=True))


def compiled_loss(text: str, state_names: tuple[str, ...]) -> Loss:
    """An expression in the states, and its derivative, as numpy functions."""
    if text.isidentifier() and text not in (*known(state_names), *CONSTANTS):
        raise UnknownNameError("loss", text, [*NAMED, *state_names])
    l = read_scalar(text, state_names, where="loss")
    slope = gradient(l, state_names)
    slopes = [slope.get(name, ZERO) for name in state_names]
    both = numpy_function(state_names, [l, *slopes])

    def loss(o: Array, _: Array) -> tuple[Array, Array]:
        with np.errstate(all="ignore"):  # the branches of an `if` that are not taken
            columns = both(*np.asarray(o, float).T)
        found = np.empty((len(o), len(columns)))
        for j, column in enumerate(columns):  # some are one number for all times
            found[:, j] = column
        return found[:, 0].copy(), found[:, 1:].copy()

    # what is the same at points of all sizes may be a formula that is flat, or one that changes little
    o = np.random.default_rng(0).normal(size=(32, len(state_names))) * np.logspace(-2, 4, 32)[:, None]
    values, at_o = loss(o, o)
    finite_rows = np.isfinite(at_o).all(axis=1) & np.isfinite(values)
    flat = np.abs(at_o[finite_rows]).max(axis=1, initial=0.0) <= 1e-9 * (1.0 + np.abs(values[finite_rows]))
    if flat.all() and all(is_zero(slope, state_names) for slope in slopes):
        allowed = "an expression that depends on the states" + (
            "; this one is flat everywhere" if l.value is None else ""
        )
        raise UsageError("loss", given=text, allowed=allowed)
    return loss


class TorchLoss:
    """ℓ(o, y) of the user in torch, over many times: by vmap, or one by one where that fails."""

    def __init__(self, loss: Callable[..., Any], has_target: bool) -> None:
        self.loss, self.has_target, self.vectorised = loss, has_target, True

    def __call__(self, o: Array, y: Array) -> tuple[Array, Array]:
        """The losses (T,) and their derivatives (T, p) at outputs o (T, p) and targets y."""
        import torch

        if not len(o):
            return np.empty(0), np.empty(o.shape)
        args = [torch.tensor(v, dtype=torch.float64) for v in ((o, y) if self.has_target else (o,))]
        if self.vectorised:
            try:
                l_o, l = torch.func.vmap(torch.func.grad_and_value(self.loss))(*args)
                return l.double().numpy(), l_o.double().numpy()
            except Exception:  # an `if` on values, .item(), an operation without a batching rule
                self.vectorised = False  # the loop raises again what is the user's own mistake
        pairs = [self.one(*row) for row in zip(*args, strict=True)]
        return np.array([l for l, _ in pairs]), np.stack([l_o for _, l_o in pairs])

    def one(self, o: Any, *y: Any) -> tuple[float, Array]:
        """The loss at one time, and its derivative by the output."""
        import torch

        with torch.enable_grad():
            o = o.clone().requires_grad_()
            l = self.loss(o, *y)
            if not isinstance(l, torch.Tensor) or l.numel() != 1 or l.ndim > 0:
                given = tuple(l.shape) if isinstance(l, torch.Tensor) else l
                raise UsageError("loss", given=given, allowed="a scalar tensor from the callable")
            if not l.requires_grad:
                hint = "torch operations on o; not numpy, item() or detach()"
                raise UsageError("loss", given=l.item(), allowed="a value that depends on o", hint=hint)
            (l_o,) = torch.autograd.grad(l, o)
        return float(l.detach()), l_o.double().numpy()

    def check(self, p: int, q: int) -> None:
        """One call, so that a callable that is no loss is found before the first solve."""
        import torch

        o, y = (torch.full((size,), 0.5, dtype=torch.float64) for size in (p, q))
        self.one(o, *([y] if self.has_target else []))


def takes_target(loss: Any) -> bool:
    """Whether a loss compares with a target: those by name do, expressions do not, functions as they take arguments."""
    if isinstance(loss, str):
        return loss in NAMED
    if not callable(loss):
        return True
    try:
        inspect.signature(loss).bind(0)
    except (TypeError, ValueError):
        return True
    return False
