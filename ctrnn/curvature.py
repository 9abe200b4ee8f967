"""Second derivatives of the objective: the change of ∂ℓ/∂r when the states and the read-out change.

With the output o = g(u), u = V r + c (ctrnn.objective), and δ along (δr, δV, δc):

    δu = V δr + δV r + δc          δ(∂ℓ/∂r) = δ(∂ℓ/∂u) V + ∂ℓ/∂u δV          δ(∂ℓ/∂V) = δ(∂ℓ/∂u) ⊗ r + ∂ℓ/∂u ⊗ δr

    by name         δ(∂ℓ/∂o) = φ″ ∘ δo                                       φ of ctrnn.named_losses
    softmax         δo = o ∘ (δu − o · δu)
                    δ(∂ℓ/∂u) = o ∘ (δl − o · δl) + [δo ∘ (l − o · l) − o (δo · l)],   l = ∂ℓ/∂o
    in log o        δ(∂ℓ/∂u) = δl − o Σ_i δl_i − δo Σ_i l_i,   l = φ′, δl = φ″ ∘ (δu − o · δu)

The Gauss–Newton part leaves the bracket out, the curvature of g: what remains is gᵀ′ ℓ_oo g′ (Schraudolph, Neural
Comput. 14:1723, 2002). Where the loss is one of log o, g belongs to it, and nothing is left out.
An expression's ℓ_oo δo is derived from its formula, a callable's by torch.func.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.bound_objective import BoundObjective
from ctrnn.fields.algebra import ZERO, symbol
from ctrnn.fields.arrays.scalar import read_scalar
from ctrnn.fields.derivatives import gradient, tangent
from ctrnn.fields.evaluate import numpy_function
from ctrnn.losses import log_softmax

Array = NDArray[np.float64]


class Curvature:
    """The second derivative of a bound objective at given states, times its weights.

    r (T, n) states, y (T, q) targets, a (T,) weights, h (T,) a quadrature's weights; each (T, p) the weights of single
    values, of squared errors.
    """

    def __init__(
        self, objective: BoundObjective, r: Array, y: Array, a: Array, h: Array, each: Array | None = None
    ) -> None:
        self.objective, self.readout = objective, objective.readout
        self.counts = a != 0.0  # a loss that has no weight may be infinite there
        self.T, self.n, self.p = len(r), objective.n, objective.output_size
        self.r, self.y, self.a, self.h = (v[self.counts] for v in (r, y, a, h))
        self.each = None if each is None else each[self.counts]
        named = objective.named
        self.of_log = named is not None and named.of_log
        if self.readout is None:
            self.o = objective.output(self.r)
        else:
            u = self.readout.linear(self.r)
            self.is_softmax = self.readout.activation == "softmax"
            self.log_o = log_softmax(u) if self.is_softmax else u
            self.o = np.exp(self.log_o) if self.is_softmax else u
            if named is not None and named.of_log:
                self.l_o = named(self.log_o, self.y)[1]
                self.l_u = self.l_o - np.sum(self.l_o, axis=1, keepdims=True) * self.o
            else:
                self.l_o = objective._loss(self.o, self.y)[1]
                if self.each is not None:
                    self.l_o = self.each * self.l_o
                self.l_u = self.readout.pullback(self.o, self.l_o)

    def output_tangent(self, dr: Array, readout: Array | None = None) -> Array:
        """The change δu (T', p) of the outputs, δo without a read-out, at the times that count.

        It is for δr (T', n) and a change (readout_size,) of V and c.
        """
        if self.readout is None:
            selection = self.objective.selection
            return dr if selection is None else dr[:, selection]
        du = dr @ self.readout.V.T
        if readout is not None and np.any(readout):
            d = self.objective.unflatten_readout(readout)
            du = du + self.r @ d["V"].T + d["c"]
        return du

    def _of_loss(self, do: Array) -> Array:
        """ℓ_oo δo (T', p)."""
        turned = _loss_curvature(self.objective, self.o, self.y, do)
        return turned if self.each is None else self.each * turned

    def of_output(self, du: Array, gauss_newton: bool = False) -> Array:
        """δ(∂ℓ/∂u) (T', p), not weighted."""
        if self.readout is None:
            return self._of_loss(du)
        if not self.is_softmax:
            return self._of_loss(du)

        def jacobian(v: Array) -> Array:
            return self.o * (v - np.sum(self.o * v, axis=1, keepdims=True))

        do = jacobian(du)
        if self.of_log:
            assert self.objective.named is not None
            second = self.objective.named.curvature(self.log_o, self.y) * (
                du - np.sum(self.o * du, axis=1, keepdims=True)
            )
            sums = np.sum(second, axis=1, keepdims=True), np.sum(self.l_o, axis=1, keepdims=True)
            return second - self.o * sums[0] - do * sums[1]
        l_u = jacobian(self._of_loss(do))
        if not gauss_newton:
            l = self.l_o
            l_u = l_u + do * (l - np.sum(self.o * l, axis=1, keepdims=True)) - self.o * np.sum(do * l, axis=1)[:, None]
        return l_u

    def product(self, dr: Array, readout: Array | None = None) -> tuple[Array, Array]:
        """δ(a ∂ℓ/∂r) (T, n) and Σ_t h_t δ(a ∂ℓ/∂(V, c)) (readout_size,), for δr (T, n) and a change of V and c."""
        here = dr[self.counts]
        du = self.output_tangent(here, readout)
        dl_u = self.a[:, None] * self.of_output(du)
        out, l_o = np.zeros((self.T, self.n)), np.zeros(self.objective.readout_size)
        if self.readout is None:
            selection = self.objective.selection
            rows = dl_u
            if selection is not None:
                rows = np.zeros_like(here)
                rows[:, selection] = dl_u
        else:
            l_u = self.a[:, None] * self.l_u
            rows = dl_u @ self.readout.V
            if readout is not None and np.any(readout):
                rows = rows + l_u @ self.objective.unflatten_readout(readout)["V"]
            summed = self.h[:, None] * dl_u
            l_V = summed.T @ self.r + (self.h[:, None] * l_u).T @ here
            l_o = np.concatenate([l_V.ravel(), summed.sum(axis=0)])
        out[self.counts] = rows
        return out, l_o

    def gauss_newton(self, dr: Array, readout: Array) -> Array:
        """The sum Σ_t h_t a_t (δu)ᵀ M δu (k, k) for k directions, M = g′ᵀ ℓ_oo g′.

        The directions are δr (k, T, n) and changes of V and c (k, readout_size).
        """
        tangents = [self.output_tangent(d[self.counts], v) for d, v in zip(dr, readout, strict=True)]
        du = np.stack(tangents, axis=-1)  # (T', p, k)
        M = np.empty((len(self.r), self.p, self.p))
        for j in range(self.p):
            M[:, :, j] = self.of_output(np.tile(np.eye(self.p)[j], (len(self.r), 1)), gauss_newton=True)
        weighted = (self.h * self.a)[:, None, None] * (M @ du)
        k = du.shape[2]
        return du.reshape(-1, k).T @ weighted.reshape(-1, k)


def _loss_curvature(objective: BoundObjective, o: Array, y: Array, do: Array) -> Array:
    """ℓ_oo δo (T, p)."""
    loss = objective.objective.loss
    if callable(loss):
        return _torch_curvature(loss, objective.objective.target is not None, o, y, do)
    if objective.named is not None:
        return objective.named.curvature(o, y) * do
    with np.errstate(all="ignore"):  # the branches of an `if` that are not taken
        columns = _expression_curvature(loss, objective.state_names)(*o.T, *do.T)
    return np.stack([np.broadcast_to(np.asarray(c, float), len(o)) for c in columns], axis=1)


def prepare(objective: BoundObjective) -> None:
    """Derive what an expression needs, before many threads do."""
    if objective.objective.is_expression:
        _expression_curvature(objective.objective.loss, objective.state_names)


@lru_cache(maxsize=64)
def _expression_curvature(text: str, state_names: tuple[str, ...]) -> Any:
    """ℓ_oo δo of an expression, as a numpy function of o and δo."""
    slopes = gradient(read_scalar(text, state_names, where="loss"), state_names)
    along = {name: symbol(f"d[{i}]") for i, name in enumerate(state_names)}  # names that no formula can have
    rows = tangent([slopes.get(name, ZERO) for name in state_names], along)
    return numpy_function([*state_names, *(d.args[0] for d in along.values())], rows)


def _torch_curvature(loss: Any, has_target: bool, o: Array, y: Array, do: Array) -> Array:
    """ℓ_oo δo of a callable: by torch.func over all times, or one by one where that fails."""
    import torch

    if not len(o):
        return np.empty(o.shape)
    args = [torch.tensor(v, dtype=torch.float64) for v in ((o, y) if has_target else (o,))]
    along = torch.tensor(do, dtype=torch.float64)

    def product(d: Any, o: Any, *y: Any) -> Any:
        return torch.func.jvp(lambda o: torch.func.grad(loss)(o, *y), (o,), (d,))[1]

    try:
        return torch.func.vmap(product)(along, *args).double().numpy()
    except Exception:  # an `if` on values, .item(), an operation without a batching rule or a forward derivative
        return np.stack([_twice(loss, *row) for row in zip(along, *args, strict=True)])


def _twice(loss: Any, d: Any, o: Any, *y: Any) -> Array:
    import torch

    with torch.enable_grad():
        o = o.clone().requires_grad_()
        (l_o,) = torch.autograd.grad(loss(o, *y), o, create_graph=True)
        if not l_o.requires_grad:  # a loss that is linear in o
            return np.zeros(len(o))
        (twice,) = torch.autograd.grad(l_o @ d, o, allow_unused=True)
    return np.zeros(len(o)) if twice is None else twice.double().numpy()
