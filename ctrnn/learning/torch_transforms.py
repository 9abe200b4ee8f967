"""What transforms of torch cannot see: functions whose steps are compiled, differentiated by torch.autograd alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from ctrnn.errors import UsageError


def refuse_transforms(what: str, *values: Any) -> None:
    """Raise UsageError inside torch.func (vmap, grad, jvp, …), and for tensors with a tangent of forward mode.

    ``what`` is the function that was called; ``values`` tensors, or tuples and lists of them; others are passed over.
    """
    inside = torch._C._are_functorch_transforms_active()
    tensors = [v for value in values for v in (value if isinstance(value, tuple | list) else (value,))]
    with_tangent = any(
        isinstance(v, torch.Tensor) and torch.autograd.forward_ad.unpack_dual(v).tangent is not None for v in tensors
    )
    if inside or with_tangent:
        raise UsageError(
            what,
            given="a call inside torch.func (vmap, grad, jvp, …)" if inside else "a tensor of forward mode",
            allowed="plain tensors: the steps are compiled, and torch differentiates them backwards only",
            hint="torch.autograd.grad(..., create_graph=True) for second derivatives, one call for each sample's "
            "gradient, or torch.func on field.torch_function()",
        )


def compiled_already(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call as torch.compile is to take it: as it is, without a look inside.

    torch.compiler.disable does that too, but at the price of importing the compiler where nobody compiles.
    """

    @functools.wraps(call)
    def outside(*arguments: Any, **options: Any) -> Any:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(call)(*arguments, **options)  # type: ignore[no-untyped-call]
        return call(*arguments, **options)

    return outside
