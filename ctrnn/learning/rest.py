r"""The rest point as a function of the weights, in torch: r*(w, x), with 0 = F(r*, w, x).

    r*          by relaxation, no graph kept
    backward    V J = g,  w̄ = −V F_w,  x̄ = −V F_x                               g = ∂l/∂r*
    twice       cotangent c of V:  J y = c,  ḡ = y,  r̄, w̄, x̄ = −∂(V J y)          V and y held

Memory does not grow with the iterations, as it does where autograd goes back through them (unrolling). ``inverse="flow"`` takes products and sums
alone, both ways; ``"lu"`` forms every J and factorises it, to compare with.

Sources: Almeida (1987), Pineda (1987); Bai, Kolter and Koltun, "Deep equilibrium models", NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as member
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.fields.base import Field
from ctrnn.fields.torch_field import TorchField
from ctrnn.learning import rest_solve
from ctrnn.learning.rest_solve import Solved

__all__ = ["RestLayer", "equilibrium"]

Tensor = torch.Tensor
SOLVERS = ("anderson", "relaxation")
INVERSES = ("flow", "lu")
#: steps of the power iteration in the contraction penalty
POWER = 8


def equilibrium(
    field: Field,
    parameters: Mapping[str, Any] | None = None,
    x: Any = None,
    r0: Any = None,
    *,
    inverse: str = "flow",
    solver: str = "anderson",
    tol: float = 1e-10,
    max_iterations: int = 2000,
) -> Tensor:
    """r*(w, x), (n,) or (B, n), as a tensor that can be differentiated twice with respect to the parameters and x.

    field : a field; its torch function is used, at t = 0
    parameters : name -> tensor, for those that differ from the field's own or carry a gradient
    x : the input held at rest, (nx,) or (B, nx)
    r0 : where the relaxation starts, (n,) or (B, n); 0 by default. r* depends on it only by which rest point is reached
    inverse : "flow" (division-free) or "lu"; solver : "anderson" or "relaxation"
    tol : ‖h F‖ ≤ tol max(1, ‖r‖) at rest, and ‖VJ − a‖ ≤ tol ‖a‖ in the backward pass

    Raises NotAtRestError where a state does not come to rest, ConvergenceError (backward) where the flow does not, UsageError for shapes.

    >>> import ctrnn
    >>> field = ctrnn.Equations({"r": "-r + w*r + b"}, {"w": 0.5, "b": 1.0})  # r* = b / (1 − w)
    >>> w = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    >>> r = equilibrium(field, {"w": w})
    >>> r.item(), torch.autograd.grad(r.sum(), w)[0].item()  # b / (1 − w)²
    (2.0, 4.0)
    """
    return _Rest(field, inverse, solver, tol, max_iterations).solve(_weights(field, parameters), x, r0)


class RestLayer(nn.Module):
    """A field's rest point as a layer: x (B, nx) ↦ r* (B, n). Its parameters carry the field's names (dots as underscores).

    field, inverse, solver, tol, max_iterations : as in `equilibrium`. ``last``: how the latest passes went, ``forward`` and ``backward``, each with
    iterations, residual and the worst factor a step: at 1 a rest point is about to lose its stability.

    >>> import ctrnn
    >>> layer = RestLayer(ctrnn.RateNetwork(5, inputs=2, gain=0.5, seed=0))
    >>> r = layer(torch.ones(3, 2, dtype=torch.float64))
    >>> r.square().sum().backward()
    >>> r.shape, layer.W.grad.shape, layer.last["backward"].factor < 1
    (torch.Size([3, 5]), torch.Size([5, 5]), True)
    """

    def __init__(
        self,
        field: Field,
        *,
        inverse: str = "flow",
        solver: str = "anderson",
        tol: float = 1e-10,
        max_iterations: int = 2000,
    ) -> None:
        super().__init__()
        self._rest = _Rest(field, inverse, solver, tol, max_iterations)
        for name, value in field.parameters.items():
            # not register_parameter: it refuses names that are methods of a module too
            self._parameters[name.replace(".", "_")] = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    @property
    def n(self) -> int:
        return self._rest.field.n

    @property
    def inverse(self) -> str:
        return self._rest.inverse

    @property
    def last(self) -> dict[str, Solved]:
        return self._rest.last

    def weights(self) -> dict[str, Tensor]:
        """The parameters by the field's names, in its order."""
        return dict(zip(self._rest.field.parameter_names, self.parameters(), strict=True))

    def field(self) -> Field:
        """The field with the numbers that the parameters have now."""
        return self._rest.field.with_parameters(**{k: p.detach().numpy() for k, p in self.weights().items()})

    def forward(self, x: Any = None, r0: Any = None) -> Tensor:
        return self._rest.solve(self.weights(), x, r0)

    def abscissa(self, r: Tensor, x: Any = None) -> float:
        """The largest real part of an eigenvalue of J over the states r (B, n), per unit of t: negative where all are stable."""
        r = torch.atleast_2d(r.detach())
        product = self._rest.products(r, x, [w.detach() for w in self.weights().values()])
        return float(torch.linalg.eigvals(rest_solve.jacobians(product, r)).real.max())

    def contraction_penalty(self, r: Tensor, x: Any = None, most: float = 0.8, generator: Any = None) -> Tensor:
        """Mean over the samples of max(0, ρ − most)², with ρ the factor by which one step of the relaxation shrinks its slowest mode.

        ρ = ‖ε(I + Jh)‖/‖ε‖ after `POWER` steps of the power iteration on a random row ε; at ρ = 1 the rest point loses its stability. Added
        to a loss it keeps r, as the layer gave it, a stable rest point.
        """
        if not 0 < most < 1:
            raise UsageError("most", given=most, allowed="a factor between 0 and 1")
        r = torch.atleast_2d(r)
        h, w = self._rest.h, list(self.weights().values())
        ε = torch.randn(r.shape, generator=generator, dtype=r.dtype)
        product = self._rest.products(r, x, w, create_graph=True)
        with torch.no_grad():
            for _ in range(POWER):
                ε = ε / ε.norm(dim=1, keepdim=True).clamp(min=1e-300)
                ε = ε + product(ε) * h
        ε = ε / ε.norm(dim=1, keepdim=True).clamp(min=1e-300)
        return ((ε + product(ε) * h).norm(dim=1) - most).clamp(min=0.0).square().mean()

    def extra_repr(self) -> str:
        return f"{self._rest.field!r}, inverse={self._rest.inverse!r}, solver={self._rest.solver!r}"


def _weights(field: Field, parameters: Mapping[str, Any] | None) -> dict[str, Tensor]:
    given = dict(parameters or {})
    for name in given:
        if name not in field.parameters:
            raise UnknownNameError("parameters", name, field.parameters)
    weights = {}
    for name, own in field.parameters.items():
        value = torch.as_tensor(given.get(name, np.array(own)), dtype=torch.float64)
        if value.shape != own.shape:
            raise UsageError(f"parameter {name!r}", given=f"shape {tuple(value.shape)}", allowed=f"shape {own.shape}")
        weights[name] = value
    return weights


@dataclass
class _Rest:
    """0 = F(r*, w, x) in batches: the function, its solution and its products."""

    field: Field
    inverse: str
    solver: str
    tol: float
    most: int
    last: dict[str, Solved] = member(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.field, Field):
            raise UsageError("field", given=self.field, allowed="a field: Equations, RateNetwork, TorchField")
        if self.inverse not in INVERSES:
            raise UnknownNameError("inverse", self.inverse, INVERSES)
        if self.solver not in SOLVERS:
            raise UnknownNameError("solver", self.solver, SOLVERS)
        if not 0 < self.tol < 1:
            raise UsageError("tol", given=self.tol, allowed="a number between 0 and 1")
        if isinstance(self.most, bool) or not isinstance(self.most, (int, np.integer)) or self.most < 1:
            raise UsageError("max_iterations", given=self.most, allowed="a number of iterations, at least 1")
        self.names = self.field.parameter_names
        self._function = self.field.torch_function()
        self.h = self._step()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_function"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._function = self.field.torch_function()

    def _step(self) -> Tensor:
        """The time constants of a network: with h = τ the state's own decay is done in one step; else 1/max |J_ij| row sums, at 0."""
        tau = getattr(self.field, "tau", None)
        if tau is not None:
            return torch.tensor(np.broadcast_to(tau, (self.field.n,)).copy(), dtype=torch.float64)
        x = np.zeros(self.field.input_size) if self.field.input_size else None
        rows = np.abs(self.field.jacobian(0.0, np.zeros(self.field.n), x)).sum(axis=1)
        return torch.tensor(1.0 / np.where(rows > 0, rows, 1.0), dtype=torch.float64)

    def F(self, r: Tensor, x: Any, w: list[Tensor]) -> Tensor:
        """F of states (B, n)."""
        named = dict(zip(self.names, w, strict=True))
        if isinstance(self.field, TorchField):  # a row at a time is what the callable takes
            return torch.func.vmap(lambda row: self._function(0.0, row, named))(r)
        return self._function(0.0, r, named, x)

    def products(self, r: Tensor, x: Any, w: list[Tensor], create_graph: bool = False) -> Any:
        """V ↦ V J at r, V (B, n); one evaluation of F serves all of them. create_graph: r and w are variables, not numbers."""
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
        n, nx = self.field.n, self.field.input_size
        x = self._checked("x", x, nx) if x is not None else None
        if x is None and nx and not self.field.input_is_optional:
            raise UsageError("x", given=None, allowed=f"values of the inputs {', '.join(self.field.input_names)}")
        start = torch.zeros(n, dtype=torch.float64) if r0 is None else self._checked("r0", r0, n).detach()
        shape = torch.broadcast_shapes(start.shape[:-1], () if x is None else x.shape[:-1])
        R = start.expand(*shape, n).reshape(-1, n)
        X = None if x is None or not nx else x.expand(*shape, nx).reshape(-1, nx)
        w = list(weights.values())
        with torch.no_grad():
            found = rest_solve.relax(
                lambda R: self.F(R, X, w), R, self.h, self.tol, self.most, self.solver == "anderson"
            )
        self.last["forward"] = found
        r = _AtRest.apply(self, found.value, X, *w)
        return r.reshape(*shape, n)

    @staticmethod
    def _checked(name: str, value: Any, size: int) -> Tensor:
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value, dtype=float))
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
    """The same numbers as inputs of their own, so that a derivative by them does not go through what r* made of them."""
    return [t if t is None else t.view_as(t) if t.requires_grad else t for t in tensors]


def _by(scalar: Any, cotangent: Any, inputs: list[Any], create_graph: bool) -> list[Any]:
    """Derivatives by those inputs that want one; None for the others."""
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    found = iter(
        torch.autograd.grad(scalar, wanted, cotangent, create_graph=create_graph, allow_unused=True) if wanted else ()
    )
    return [next(found) if t is not None and t.requires_grad else None for t in inputs]


class _AtRest(torch.autograd.Function):
    """r*, found already, made to depend on x and w as it does."""

    @staticmethod
    def forward(ctx: Any, rest: _Rest, R: Tensor, x: Any, *w: Tensor) -> Tensor:
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
    def forward(ctx: Any, rest: _Rest, g: Tensor, r: Tensor, x: Any, *w: Tensor) -> Tensor:
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
