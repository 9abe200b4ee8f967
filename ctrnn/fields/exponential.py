"""The field whose Euler steps are the exponential Euler steps of another one.

    G_h = φ₁(hD) F,   φ₁(z) = (e^z − 1)/z,   D_i = ∂F_i/∂r_i.

r⁺ = r + h φ₁(hD) F is exact where the other states and the input are held over the step and F_i is linear in r_i (Pope
1963): a leak, a gate of Hodgkin and Huxley's. D is derived from F and compiled like it; it may depend on t, r, w and x,
and its own derivatives enter those of G_h (ctrnn.kernels.exponential). h is one more channel of the input; where nobody
fills it in it is 0, and G_0 = F. This is for systems of scalars; array equations write G_h down themselves
(ctrnn.fields.arrays.step_size).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from ctrnn.errors import UsageError
from ctrnn.fields.algebra import Node
from ctrnn.fields.base import Array, Field
from ctrnn.fields.bound import Bound, Kernel, SecondKernel
from ctrnn.fields.derivatives import derivative
from ctrnn.fields.equations import Equations
from ctrnn.fields.parameters import Parameters
from ctrnn.fields.torch_functions import phi
from ctrnn.kernels import exponential


class OwnRates(Equations):
    """D_i = ∂F_i/∂r_i of equations, as a field with the same names."""

    def _formulas(self) -> list[Node]:
        return [derivative(f, name) for f, name in zip(super()._formulas(), self.state_names, strict=True)]

    def _recipe(self) -> str:
        return "∂F_i/∂r_i of\n" + super()._recipe()


class Exponential(Field):
    """G_h of a field, with h behind its inputs.

    Raises UsageError for a field whose ∂F_i/∂r_i is not known as a formula.

    >>> import ctrnn
    >>> G = Exponential(ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0}))
    >>> G(0.0, [1.0], x=[0.5]) * 0.5  # r⁺ − r = e^(−kh) − 1
    array([-0.63212056])
    """

    _reads_step_size = True

    def __init__(self, field: Field) -> None:
        self.field = field
        self.state_names = field.state_names
        self.input_names = (*field.input_names, "h")
        if not isinstance(field, Equations):
            raise UsageError(
                "solver",
                given=f"exponential-euler with {type(field).__name__}",
                allowed="Equations or a network, whose leak is a formula",
                hint="'rk4' or 'euler' with dt, or an adaptive solver",
            )
        #: D as a field
        self.own = OwnRates(
            field.equations, field.parameters, field.input_names, None, field.definitions, field.constants
        )

    def _pattern(self) -> tuple[Any, Any]:
        """That of F: D_i has what F_i has."""
        return self.field._pattern()

    def __repr__(self) -> str:
        return f"φ₁(hD) F of {self.field!r}"

    # -- everything with a name is that of the field

    @property
    def parameters(self) -> Parameters:
        """Those of the field."""
        return self.field.parameters

    @parameters.setter
    def parameters(self, named: Mapping[str, Array]) -> None:
        field = copy.copy(self.field)
        field.parameters = named  # type: ignore[assignment]
        self.field = field

    def _checked(self, name: str, value: Any, shape: tuple[int, ...]) -> Array:
        return self.field._checked(name, value, shape)

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds of the flat vector, (m,) each."""
        return self.field.bounds

    def _kernel_vector(self) -> Array:
        return self.field._kernel_vector()

    def _kernel_direction(self, vector: Array) -> Array:
        return self.field._kernel_direction(vector)

    def _raisers(self) -> tuple[Callable[[], None], ...]:
        return self.field._raisers()

    # -- and the functions are made of two

    @cached_property
    def _kernel(self) -> Kernel:
        base = self.field._kernel
        extra = (0,) * (exponential.CTX_SIZE - exponential.EXTRA)  # filled in by _bind
        keep = (base, self.own._kernel, exponential)
        return replace(
            base,
            table=exponential.table(),
            extra=extra,
            scratch=2 * self.n,
            keep=keep,
            step_channel=self.field.input_size,
            divisible=False,  # the ctx of F and of D know nothing of G_STRIDE, nor of W_AT
            moving=False,
        )

    def _bind(self, program: Any = None, channels: int | None = None) -> Bound:
        bound = super()._bind(program, channels)
        f, d = self.field._bind(program, bound.x_stride), self.own._bind(program, bound.x_stride)
        ctx = bound.system.ctx
        ctx[exponential.F_TABLE], ctx[exponential.F_CTX] = f.system.table.ctypes.data, f.system.ctx.ctypes.data
        ctx[exponential.D_TABLE], ctx[exponential.D_CTX] = d.system.table.ctypes.data, d.system.ctx.ctypes.data
        ctx[exponential.CHANNEL] = self.field.input_size
        return replace(bound, keep=(*bound.keep, f, d))

    @cached_property
    def _second_kernel(self) -> SecondKernel:
        jvp, second = exponential.second_addresses()
        entries: list[int] = []
        keep: list[Any] = [exponential]
        for field in (self.field, self.own):
            its = field._second_kernel
            ctx, scratch = its.ctx(field._bind().system.ctx)
            entries += [its.jvp, its.second, ctx.ctypes.data]
            keep += [its, scratch, ctx]
        return SecondKernel(jvp, second, tuple(entries), 2 * self.n, keep=tuple(keep))

    def torch_function(self) -> Callable[..., Any]:
        """F(t, r, w, x) on tensors: r (..., n), w a dict of tensors, x (..., input_size) or None."""
        F, D, nx = self.field.torch_function(), self.own.torch_function(), self.field.input_size

        def field(t: Any, r: Any, w: dict[str, Any], x: Any) -> Any:
            """φ₁(hD) F on tensors, r (..., n) and x (..., inputs + 1)."""
            inputs = x[..., :nx]
            return phi(x[..., nx : nx + 1] * D(t, r, w, inputs)) * F(t, r, w, inputs)

        return field
