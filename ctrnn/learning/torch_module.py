"""A field as an ``nn.Module``, dr/dt = F(t, r, w, x(t)): for torchdiffeq, torch's optimisers and all else in torch.

``torchdiffeq.odeint`` and ``odeint_adjoint`` call it as module(t, r); ``ctrnn.odeint`` knows what is inside and solves
it compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ctrnn.errors import UsageError
from ctrnn.fields.base import Field
from ctrnn.inputs import Input
from ctrnn.problem_checks import input_of

#: the step, in t, of the differences for x'(t)
DELTA = 1e-3


class FieldModule(nn.Module):
    """The rate F(t, r, w, x(t)) as a module; made by ``as_module``.

    Its parameters carry the field's names, in float64; a name with dots, from a TorchField of a module, gives nested
    modules as it did there.
    """

    def __init__(self, field: Field, x: Any = None) -> None:
        super().__init__()
        if not isinstance(field, Field):
            raise UsageError("field", given=field, allowed="a field: Equations, RateNetwork, TorchField")
        self._field = field
        is_needed = field.input_size > 0 and not field.input_is_optional
        self.x = input_of(field, x) if is_needed or x is not None else None
        self._function = field.torch_function()
        for name, value in field.parameters.items():
            *path, last = name.split(".")
            owner: nn.Module = self
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            # not register_parameter: it refuses names that are methods of a module too, as "half" or "type"
            owner._parameters[last] = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def weights(self) -> dict[str, nn.Parameter]:
        """The parameters by the field's names, in its order."""
        named = dict(self.named_parameters())
        return {name: named[name] for name in self._field.parameter_names}

    def field(self) -> Field:
        """The field with the numbers that the parameters have now; raises UsageError where it does not allow them."""
        return self._field.with_parameters(**{k: p.detach().double().cpu().numpy() for k, p in self.weights().items()})

    def forward(self, t: Any, r: torch.Tensor) -> torch.Tensor:
        """dr/dt of states r (..., n) at the time t; right-continuous in t where x jumps."""
        if not isinstance(r, torch.Tensor) or r.shape[-1:] != (self._field.n,):
            given = f"shape {tuple(r.shape)}" if isinstance(r, torch.Tensor) else r
            raise UsageError("r", given=given, allowed=f"a tensor of shape (..., {self._field.n})")
        w, x = self.weights(), None if self.x is None else _at(self.x, t, r)
        return self._function(t, r, w, x)

    def extra_repr(self) -> str:
        """What print shows between the brackets."""
        return repr(self._field) + ("" if self.x is None else f", x = {self.x!r}")

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_function"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._function = self._field.torch_function()


def _at(x: Input, t: Any, like: torch.Tensor) -> torch.Tensor:
    """The input x(t) on the device and in the dtype of ``like``.

    Where t has a gradient (torchdiffeq's first step has), x passes it on.
    """
    now = float(t.detach() if isinstance(t, torch.Tensor) else t)
    value = torch.as_tensor(x(now), dtype=like.dtype, device=like.device)
    if not (isinstance(t, torch.Tensor) and t.requires_grad):
        return value
    # x'(t) within the piece at t, by central differences of order 6: exact on polynomials
    h = DELTA * max(1.0, abs(now))
    at = now + h * np.arange(-3.0, 4.0)
    slope = np.array([-1.0, 9.0, -45.0, 0.0, 45.0, -9.0, 1.0]) / (60.0 * h) @ x.evaluate(at, np.full(7, now))
    return value + torch.as_tensor(slope, dtype=like.dtype, device=like.device) * (t - t.detach()).to(like)


def as_module(field: Field, x: Any = None) -> FieldModule:
    """A field, and the input that drives it, as an ``nn.Module`` with the call module(t, r).

    Parameters
    ----------
    field : Field
        `ctrnn.Equations`, `ctrnn.RateNetwork` or `ctrnn.TorchField`.
    x : Input, float, array_like or callable, optional
        The input; without it networks run with x = 0.

    Returns
    -------
    torch.nn.Module
        It takes a time and states r (n,) or (..., n). ``module.field()`` gives the field back with the trained numbers.

    Raises
    ------
    UsageError
        For an input that does not fit the field.

    Notes
    -----
    Where x jumps, tell torchdiffeq's adaptive methods: ``options={"jump_t": torch.tensor(x.breaks)}``. `ctrnn.odeint`
    knows by itself.

    Examples
    --------
    >>> import ctrnn, torchdiffeq
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> module = as_module(decay)
    >>> r = torchdiffeq.odeint(module, torch.ones(1, dtype=torch.float64), torch.tensor([0.0, 1.0]))
    >>> r[-1, 0].backward()
    >>> bool(abs(module.k.grad + torch.exp(torch.tensor(-2.0))) < 1e-6)  # d e^(-k)/dk
    True
    """
    return FieldModule(field, x)
