"""The rest point as a function of the weights, in torch: r*(w, x), with 0 = F(r*, w, x).

    r*          by relaxation, no graph kept
    backward    V J = g,  w̄ = −V F_w,  x̄ = −V F_x                               g = ∂l/∂r*
    twice       cotangent c of V:  J y = c,  ḡ = y,  r̄, w̄, x̄ = −∂(V J y)          V and y held

Memory does not grow with the iterations, as it does where autograd goes back through them (unrolling).
``inverse="flow"`` takes products and sums alone, both ways; ``"lu"`` forms every J and factorises it, to compare with.

Sources: Almeida (1987), Pineda (1987); Bai, Kolter and Koltun, "Deep equilibrium models", NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ctrnn.errors import UsageError, one_of
from ctrnn.fields.base import Field
from ctrnn.learning import rest_solve
from ctrnn.learning.rest_function import Rest
from ctrnn.learning.rest_solve import Solved

__all__ = ["RestLayer", "equilibrium"]

Tensor = torch.Tensor
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
    """The rest point r*(w, x) as a tensor that can be differentiated twice by the parameters and x.

    Parameters
    ----------
    field : Field
        Its torch function is used, at t = 0.
    parameters : mapping of str to tensor, optional
        Those that differ from the field's own, or carry a gradient.
    x : array_like or tensor, (nx,) or (B, nx), optional
        The input held at rest.
    r0 : array_like or tensor, (n,) or (B, n), optional
        Where the relaxation starts; 0 by default. r* depends on it only by which rest point is reached.
    inverse : {"flow", "lu"}, default "flow"
        How the backward pass divides by J: by products and sums, or by factors.
    solver : {"anderson", "relaxation"}, default "anderson"
        How r* is found.
    tol : float, default 1e-10
        ‖h F‖ ≤ tol max(1, ‖r‖) at rest, and ‖VJ − a‖ ≤ tol ‖a‖ in the backward pass.
    max_iterations : int, default 2000
        Of each.

    Returns
    -------
    torch.Tensor, (n,) or (B, n)
        r*, in float64.

    Raises
    ------
    NotAtRestError
        Where a state does not come to rest.
    ConvergenceError
        In the backward pass, where the flow does not converge.
    UsageError, UnknownNameError
        For shapes and names that are not allowed.

    Notes
    -----
    Formulas and sources are at the top of `ctrnn.learning.rest`.

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.Equations({"r": "-r + w*r + b"}, {"w": 0.5, "b": 1.0})  # r* = b / (1 − w)
    >>> w = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    >>> r = equilibrium(field, {"w": w})
    >>> r.item(), torch.autograd.grad(r.sum(), w)[0].item()  # b / (1 − w)²
    (2.0, 4.0)
    """
    return Rest(field, inverse, solver, tol, max_iterations).solve(_weights(field, parameters), x, r0)


class RestLayer(nn.Module):
    """A field's rest point as a layer: x (B, nx) ↦ r* (B, n).

    Its parameters carry the field's names (dots as underscores), in float64.

    Parameters
    ----------
    field : Field
        A field that comes to rest.
    inverse, solver, tol, max_iterations
        As in `ctrnn.equilibrium`.

    Raises
    ------
    UsageError, UnknownNameError
        For arguments that are not allowed.

    Notes
    -----
    ``layer(x, r0=None)`` raises what `ctrnn.equilibrium` raises. ``layer.last`` says how the latest passes went,
    "forward" and "backward", each with iterations, residual and the worst factor a step: at 1 a rest point is about to
    lose its stability.

    Examples
    --------
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
        self._rest = Rest(field, inverse, solver, tol, max_iterations)
        for name, value in field.parameters.items():
            # not register_parameter: it refuses names that are methods of a module too
            self._parameters[name.replace(".", "_")] = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    @property
    def n(self) -> int:
        """The number of states."""
        return self._rest.field.n

    @property
    def inverse(self) -> str:
        """How the backward pass divides by J."""
        return self._rest.inverse

    @property
    def last(self) -> dict[str, Solved]:
        """How the latest passes went: "forward" and "backward"."""
        return self._rest.last

    def weights(self) -> dict[str, Tensor]:
        """The parameters by the field's names, in its order."""
        return dict(zip(self._rest.field.parameter_names, self.parameters(), strict=True))

    def field(self) -> Field:
        """The field with the numbers that the parameters have now."""
        return self._rest.field.with_parameters(**{k: p.detach().numpy() for k, p in self.weights().items()})

    def forward(self, x: Any = None, r0: Any = None) -> Tensor:
        """The rest points r* (B, n) under the inputs x (B, nx), from the start r0."""
        return self._rest.solve(self.weights(), x, r0)

    def abscissa(self, r: Tensor, x: Any = None) -> float:
        """The largest real part of an eigenvalue of J over the states r (B, n), per unit of t.

        It is negative where all are stable. ``x`` are the inputs (B, nx) that led to r; by default those of the latest
        pass.
        """
        r = torch.atleast_2d(r.detach())
        if not len(r):
            raise UsageError("r", given="no states", allowed="states (B, n), at least one")
        product = self._rest.products(r, self._rest.inputs_of(r, x), [w.detach() for w in self.weights().values()])
        return float(torch.linalg.eigvals(rest_solve.jacobians(product, r)).real.max())

    def contraction_penalty(self, r: Tensor, x: Any = None, most: float = 0.8, generator: Any = None) -> Tensor:
        """The mean over the samples of max(0, ρ − most)²: added to a loss, it keeps r a stable rest point.

        ρ is the factor by which one step of the relaxation shrinks its slowest mode: ‖ε(I + Jh)‖/‖ε‖ after `POWER`
        steps of the power iteration on a random row ε. At ρ = 1 the rest point loses its stability. ``r`` is what the
        layer gave, ``x`` as in ``abscissa``.
        """
        if not 0 < most < 1:
            raise UsageError("most", given=most, allowed="a factor between 0 and 1")
        r = torch.atleast_2d(r)
        if not len(r):
            return r.sum()
        h, w = self._rest.h, list(self.weights().values())
        ε = torch.randn(r.shape, generator=generator, dtype=r.dtype)
        product = self._rest.products(r, self._rest.inputs_of(r, x), w, create_graph=True)
        with torch.no_grad():
            for _ in range(POWER):
                ε = ε / ε.norm(dim=1, keepdim=True).clamp(min=1e-300)
                ε = ε + product(ε) * h
        ε = ε / ε.norm(dim=1, keepdim=True).clamp(min=1e-300)
        return ((ε + product(ε) * h).norm(dim=1) - most).clamp(min=0.0).square().mean()

    def extra_repr(self) -> str:
        """What print shows between the brackets."""
        return f"{self._rest.field!r}, inverse={self._rest.inverse!r}, solver={self._rest.solver!r}"


def _weights(field: Field, parameters: Mapping[str, Any] | None) -> dict[str, Tensor]:
    given = dict(parameters or {})
    for name in given:
        one_of("parameters", name, field.parameters)
    weights = {}
    for name, own in field.parameters.items():
        value = torch.as_tensor(given.get(name, np.array(own)), dtype=torch.float64)
        if value.shape != own.shape:
            raise UsageError(f"parameter {name!r}", given=f"shape {tuple(value.shape)}", allowed=f"shape {own.shape}")
        weights[name] = value
    return weights
