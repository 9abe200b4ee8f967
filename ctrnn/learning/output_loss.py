"""The loss ℓ(o, y) of outputs at one time, for torch: by name, as a formula in ``o`` and ``y``, or a function.

    o = g(u),  u = V r + c           ℓ = Σ_i φ(o_i, y_i)

The names and their formulas are those of ctrnn.named_losses; what is a function of log o, such as the cross-entropy,
takes log o = u − log Σ e^u of a softmax read-out, which loses no digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.fields.evaluate import torch_function
from ctrnn.named_losses import LOSSES, NamedLoss

Tensor = torch.Tensor


def outputs(u: Tensor, activation: str) -> Tensor:
    """o = g(u) of the numbers V r + c (..., p)."""
    return torch.softmax(u, dim=-1) if activation == "softmax" else u


class OutputLoss:
    """ℓ (…,) of u (…, p) and y (…, p).

    Parameters
    ----------
    loss : str or callable
        A name of `ctrnn.Objective`'s, a formula φ in o and y that is summed over the outputs, or a function in torch
        of o (N, p) and y (N, p) that returns (N,).
    activation : {"linear", "softmax"}
        g.
    p : int
        Outputs.

    Raises
    ------
    UsageError, UnknownNameError, ExpressionError
        For what is no loss, and for one of log o without a softmax.
    """

    def __init__(self, loss: Any, activation: str, p: int) -> None:
        self.activation, self.p = activation, p
        self._function = self._by_user(loss) if callable(loss) else self._by_formula(loss)
        self.name = loss if isinstance(loss, str) else f"function {getattr(loss, '__name__', loss)}"

    def __call__(self, u: Tensor, y: Tensor) -> Tensor:
        """The loss of each row."""
        shape = u.shape[:-1]
        return self._function(u.reshape(-1, self.p), y.reshape(-1, self.p)).reshape(shape)

    def _by_formula(self, loss: Any) -> Callable[[Tensor, Tensor], Tensor]:
        if not isinstance(loss, str):
            allowed = "a name, a formula in o and y, or a function loss(o, y) in torch"
            raise UsageError("loss", given=loss, allowed=allowed)
        if loss.isidentifier() and loss not in (*LOSSES, "o"):
            raise UnknownNameError("loss", loss, [*LOSSES, "a formula in o and y"])
        named = LOSSES[loss] if loss in LOSSES else NamedLoss(loss, "")
        if named.of_log and self.activation != "softmax":
            allowed = f"{loss!r} with a softmax read-out"
            raise UsageError("loss", given=loss, allowed=allowed, hint='activation="softmax"')
        function, of_log = torch_function((named.argument, "y"), named.derivatives[:1]), named.of_log

        def of_rows(u: Tensor, y: Tensor) -> Tensor:
            (parts,) = function(torch.log_softmax(u, dim=-1) if of_log else outputs(u, self.activation), y)
            return (parts + torch.zeros_like(u)).sum(dim=-1)

        return of_rows

    def _by_user(self, loss: Callable[..., Any]) -> Callable[[Tensor, Tensor], Tensor]:
        """A user's function, called once so that what is no loss is found before anything runs."""

        def of_rows(u: Tensor, y: Tensor) -> Tensor:
            found: Tensor = loss(outputs(u, self.activation), y)
            return found

        some = torch.full((2, self.p), 0.5, dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            found = of_rows(some, torch.full((2, self.p), 0.25, dtype=torch.float64))
        if not isinstance(found, torch.Tensor) or found.shape != (2,):
            given = tuple(found.shape) if isinstance(found, torch.Tensor) else found
            allowed = "a tensor (N,) from the function, of outputs o (N, p) and targets y (N, p)"
            raise UsageError("loss", given=given, allowed=allowed, hint="((o - y)**2).sum(dim=-1)")
        if not found.requires_grad:
            raise UsageError("loss", given="a value without a gradient", allowed="torch operations on o")
        return of_rows
