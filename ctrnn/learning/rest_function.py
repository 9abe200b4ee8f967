"""The rest point 0 = F(r*, w, x) in batches, as torch sees it: its solution, products with J, and derivatives.

    backward    V J = g,  w̄ = −V F_w,  x̄ = −V F_x                               g = ∂l/∂r*
    twice       cotangent c of V:  J y = c,  ḡ = y,  r̄, w̄, x̄ = −∂(V J y)          V and y held

The iterations are in ctrnn.learning.rest_solve; ctrnn.learning.rest is what users call.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as member
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from ctrnn.errors import UsageError, one_of
from ctrnn.fields.base import Field
from ctrnn.learning import rest_solve
from ctrnn.learning.rest_solve import Solved
from ctrnn.learning.torch_transforms import refuse_transforms
from ctrnn.numbers import checked_array, real_array, whole

Tensor = torch.Tensor
SOLVERS = ("anderson", "relaxation")
INVERSES = ("flow", "lu")


@dataclass
class Rest:
    """0 = F(r*, w, x) in batches: the function, its solution and its products."""

    field: Field
    inverse: str
    solver: str
    tol: float
    most: int
    last: dict[str, Solved] = member(default_factory=dict)
    latest: Any = None  # the inputs (B, nx) of the latest solution

    def __post_init__(self) -> None:
        if not isinstance(self.field, Field):
            raise UsageError("field", given=self.field, allowed="a field: Equations, RateNetwork, TorchField")
        one_of("inverse", self.inverse, INVERSES)
        one_of("solver", self.solver, SOLVERS)
        if not 0 < float(checked_array("tol", self.tol, ())) < 1:
            raise UsageError("tol", given=self.tol, allowed="a number between 0 and 1")
        whole("max_iterations", self.most, 1, "a number of iterations, at least 1")
        self.names = self.field.parameter_names
        self._function = self.field.torch_function()
        self.h = self._step()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_function"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._function = self.field.torch_function()

    def _step(self) -> Tensor:
        """One relaxation step h a state (n,).

        The time constants of a network: with h = τ the state's own decay is done in one step. Else 1/max |J_ij| row
        sums, at 0.
        """
        tau = self.field.time_constants
        if tau is not None:
            return torch.tensor(tau, dtype=torch.float64)
        x = np.zeros(self.field.input_size) if self.field.input_size else None
        rows = np.abs(self.field.jacobian(0.0, np.zeros(self.field.n), x)).sum(axis=1)
        return torch.tensor(1.0 / np.where(rows > 0, rows, 1.0), dtype=torch.float64)

    def F(self, r: Tensor, x: Any, w: list[Tensor]) -> Tensor:
        """F of states (B, n)."""
        named = dict(zip(self.names, w, strict=True))
        return self._function(0.0, r, named, x)

    def products(self, r: Tensor, x: Any, w: list[Tensor], create_graph: bool = False) -> Any:
        """The function V ↦ V J at r, V (B, n); one evaluation of F serves all products.

        ``create_graph``: r and w are variables, not numbers.
        """
        with torch.enable_grad():
            here = r.view_as(r) if create_graph and r.requires_grad else r.detach().requires_grad_()
            F = self.F(here, x, w)

        def product(V: Tensor) -> Tensor:
            again = create_graph and torch.is_grad_enabled()
            return torch.autograd.grad(F, here, V, retain_graph=True, create_graph=again)[0]

        return product

    def column_products(self, r: Tensor, x: Any, w: list[Tensor]) -> Any:
        """y ↦ J y at r: the derivative of V ↦ V J, which is linear, along y."""
        with torch.enable_grad():
            here, V = r.detach().requires_grad_(), torch.zeros_like(r).requires_grad_()
            VJ = torch.autograd.grad(self.F(here, x, w), here, V, create_graph=True)[0]

        def product(y: Tensor) -> Tensor:
            return torch.autograd.grad(VJ, V, y, retain_graph=True)[0]

        return product

    def solve(self, weights: dict[str, Tensor], x: Any, r0: Any) -> Tensor:
        """The rest points, as a tensor that depends on the weights and x."""
        refuse_transforms("equilibrium", x, r0, *weights.values())
        n, nx = self.field.n, self.field.input_size
        x = self._checked("x", x, nx) if x is not None else None
        if x is None and nx and not self.field.input_is_optional:
            raise UsageError("x", given=None, allowed=f"values of the inputs {', '.join(self.field.input_names)}")
        start = torch.zeros(n, dtype=torch.float64) if r0 is None else self._checked("r0", r0, n).detach()
        shape = torch.broadcast_shapes(start.shape[:-1], () if x is None else x.shape[:-1])
        R = start.expand(*shape, n).reshape(-1, n)
        X = None if x is None or not nx else x.expand(*shape, nx).reshape(-1, nx)
        w = list(weights.values())
        self.latest = R.new_zeros(len(R), nx) if X is None else X.detach()
        with torch.no_grad():
            found = rest_solve.relax(
                lambda R: self.F(R, X, w), R, self.h, self.tol, self.most, self.solver == "anderson"
            )
        self.last["forward"] = found
        r = _Point.apply(self, found.value, X, *w)
        return r.reshape(*shape, n)

    def inputs_of(self, r: Tensor, x: Any) -> Tensor | None:
        """x as rows beside r (B, n); of None the inputs of the latest solution, which must be as many."""
        if not self.field.input_size:
            return None
        x = self.latest if x is None else self._checked("x", x, self.field.input_size)
        if x is None or x.shape[:-1] not in ((), (1,), r.shape[:-1]):
            given = None if x is None else f"shape {tuple(x.shape)}"
            raise UsageError("x", given=given, allowed=f"the inputs ({len(r)}, {self.field.input_size}) that led to r")
        return x.expand(len(r), -1)

    @staticmethod
    def _checked(name: str, value: Any, size: int) -> Tensor:
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(real_array(name, value))
        tensor = tensor.to(torch.float64)
        if tensor.ndim not in (1, 2) or tensor.shape[-1] != size:
            raise UsageError(name, given=f"shape {tuple(tensor.shape)}", allowed=f"shape ({size},) or (B, {size})")
        if not torch.isfinite(tensor).all():
            raise UsageError(name, given=tensor.detach().numpy(), allowed="finite numbers")
        return tensor

    def rows(self, g: Tensor, r: Tensor, x: Any, w: list[Tensor]) -> Solved:
        """V with V J = g."""
        product = self.products(r, x, w)
        if self.inverse == "lu":
            return rest_solve.lu(product, g, columns=False)
        return rest_solve.flow(product, g, self.h, self.tol, self.most)

    def columns(self, c: Tensor, r: Tensor, x: Any, w: list[Tensor]) -> Solved:
        """y with J y = c."""
        if self.inverse == "lu":
            return rest_solve.lu(self.products(r, x, w), c, columns=True)
        return rest_solve.flow(self.column_products(r, x, w), c, self.h, self.tol, self.most)


def _aliases(tensors: Any) -> list[Any]:
    """The same numbers as inputs of their own, so that a derivative by them does not go through r*."""
    return [t if t is None else t.view_as(t) if t.requires_grad else t for t in tensors]


def _by(scalar: Any, cotangent: Any, inputs: list[Any], create_graph: bool) -> list[Any]:
    """Derivatives by those inputs that want one; None for the others."""
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    found = iter(
        torch.autograd.grad(scalar, wanted, cotangent, create_graph=create_graph, allow_unused=True) if wanted else ()
    )
    return [next(found) if t is not None and t.requires_grad else None for t in inputs]


class _Point(torch.autograd.Function):
    """r*, found already, made to depend on x and w as it does."""

    @staticmethod
    def forward(ctx: Any, rest: Rest, R: Tensor, x: Any, *w: Tensor) -> Tensor:
        ctx.rest = rest
        r = R.clone()
        ctx.save_for_backward(r, x, *w)
        return r

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        r, x, *w = ctx.saved_tensors
        V = _Row.apply(ctx.rest, g, r, x, *w)
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            x, *w = _aliases([x, *w])
            found = _by(ctx.rest.F(r, x, w), -V, [x, *w], again)
        return (None, None, *found)


class _Row(torch.autograd.Function):
    """V = g J⁻¹, as a function of g, r, x and w."""

    @staticmethod
    def forward(ctx: Any, rest: Rest, g: Tensor, r: Tensor, x: Any, *w: Tensor) -> Tensor:
        ctx.rest = rest
        solved = rest.rows(g, r, x, list(w))
        rest.last["backward"] = solved
        ctx.save_for_backward(solved.value, r, x, *w)
        return solved.value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, c: Tensor) -> Any:
        V, r, x, *w = ctx.saved_tensors
        y = ctx.rest.columns(c, r, x, w).value
        with torch.enable_grad():
            r = r.detach().requires_grad_()
            x, *w = (t if t is None else t.detach().requires_grad_(t.requires_grad) for t in (x, *w))
            VJ = torch.autograd.grad(ctx.rest.F(r, x, w), r, V, create_graph=True)[0]
            found = _by(-(VJ * y).sum(), None, [r, x, *w], False) if VJ.requires_grad else [None] * (2 + len(w))
        return (None, y, *found)
