"""Fields in torch: F, and what the pullback asks of its derivatives, for B trials and q cotangents at once.

A rate network with u = Ŵ s, Ŵ = [W U b], s = [h(z); x; 1], dz/dt = G(z, u, τ), and c = ∂G/∂u, d = ∂G/∂z, e = ∂G/∂τ, all
elementwise:

    q cotangents    R = Jᵀ K,  J = diag(c) W diag(h′) + diag(d), made once a stage           2 n² q flops
    one cotangent   R = h′ ∘ (Wᵀ (c ∘ K)) + d ∘ K, one product for all trials               2 n² B
    P, row i of Ŵ   P_i += Σ_S (c_i K_i)ᵀ s over all stages: one product [q × S] [S × N] a unit, a batch of them in
                    torch.bmm     2 n N q S
    one cotangent   [n × S B] [S B × N], one product for all stages and trials              2 n N S B
    τ               p_i += Σ_S e_i K_i

Layout: K and R are (B, n, q), cotangents as columns; of all stages K is (C, s, B, n, q), so that what unit i
    multiplies, [q × S], is a view. P is (B, n, q, N), and p (B, n, q): n × (n + 1) × N numbers a trial, the largest
    thing there is. Nothing of its size is made beside it: units are taken a few at a time.

Any other field with a torch function goes by torch.func: q cotangents by vmap of its vjp, the parameter part a stage at
    a time, P (B, q, m).
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrnn.fields.base import Array, Field
from ctrnn.fields.cells import NetworkForm
from ctrnn.gradients.recording.torch.device import Device, to_numpy
from ctrnn.gradients.recording.torch.threads import divided

if TYPE_CHECKING:
    from ctrnn.gradients.recording.torch.recording import TorchBlock

#: bytes of P that are taken at a time, at least; and the share of P
CHUNK_BYTES, CHUNK = 16 * 2**20, 64


def system_of(field: Field, device: Device) -> Network | General:
    """The field in torch: a network by its products, any other by its function."""
    return General(field, device) if field._network_form is None else Network(field, field._network_form, device)


def entries(field: Field) -> int:
    """Numbers in a row of P, but for those of θ."""
    return field.m if field._network_form is None else field.n * (field.n + field.input_size + 1)


def units_at_once(n: int, unit: int) -> int:
    """Units that are taken together, of n whose part of P has ``unit`` bytes."""
    return max(1, min(n, max(CHUNK_BYTES // unit, n // CHUNK)))


class Network:
    """A network over there."""

    def __init__(self, field: Field, form: NetworkForm, device: Device) -> None:
        made, weights = form.cell.module, field._network_weights()
        self.field, self.device, self.source, self.rate = field, device, made.torch_source, made.torch_rate
        self.W, self.tau = device.tensor(weights.W), device.tensor(weights.theta)
        self.U, self.bias = device.tensor(weights.drive[:, :-1]), device.tensor(weights.drive[:, -1])
        self.trains_theta, self.needs_u = form.trains_theta, made.NEEDS_U or made.DRIVE_NEEDS_U or form.trains_theta
        self.n, self.N = field.n, field.n + field.input_size + 1

    def drive(self, x: Any) -> Any:
        """U x + b of all stages (C, s, B, n)."""
        return x @ self.U.mT + self.bias

    def __call__(self, t: float, z: Any, drive: Any) -> Any:
        """dz/dt (B, n)."""
        import torch

        return self.rate([z], [torch.addmm(drive, self.source([z]), self.W.mT)], [self.tau])[0]

    def linear(self, block: TorchBlock) -> NetworkLinear:
        """The linearisation along a block."""
        return NetworkLinear(self, block)

    # -- what is carried: P, and p where tau is trained

    def carried(self, B: int, q: int) -> list[Any]:
        """Zeros of P (B, n, q, N), and p (B, n, q, 1)."""
        import torch

        widths = (self.N, 1) if self.trains_theta else (self.N,)
        return [torch.zeros((B, self.n, q, width), **self.device.options) for width in widths]

    def transform(self, T: Any, carried: list[Any]) -> None:
        """P_i ← T P_i for every unit i; T (B, q, q)."""
        import torch

        q = T.shape[-1]
        few = units_at_once(self.n, self.device.item * q * self.N)

        def units(first: int, last: int) -> None:
            for P in carried:
                for b in range(len(T)):
                    for i in range(first, last, few):
                        part = P[b, i : min(i + few, last)]
                        part.copy_(torch.bmm(T[b].expand(len(part), q, q), part))

        divided(units, self.n, 2.0 * q * q * self.N * self.n, self.device.name)

    def last(self, carried: list[Any]) -> list[Any]:
        """The last of the q rows, dl/dŴ (n, N) and dl/dτ (n, 1), the sum of the trials."""
        return [P[:, :, -1].sum(dim=0) for P in carried]

    def zeros(self) -> list[Any]:
        """Zeros of dl/dŴ (n, N), and dl/dτ (n, 1)."""
        import torch

        widths = (self.N, 1) if self.trains_theta else (self.N,)
        return [torch.zeros((self.n, width), **self.device.options) for width in widths]

    def vector(self, g: list[Any]) -> Array:
        """dl/dw (m,) in the order of the field's parameters, 0 outside the mask."""
        extended, n = to_numpy(g[0]), self.n
        theta = to_numpy(g[1])[:, 0] if self.trains_theta else np.zeros(n)
        return self.field._network_gradient(extended[:, :n], extended[:, n:], theta)


class NetworkLinear:
    """The network along a block: c, d, e, h′ (C, s, B, n) and the sources s (C, s, B, N)."""

    def __init__(self, network: Network, block: TorchBlock) -> None:
        import torch

        self.network = network
        z, x, trained = block.z, block.x, network.trains_theta
        h = network.source([z])
        self.s = torch.cat([h, x, torch.ones_like(z[..., :1])], dim=-1)
        # else its value is of no account
        u = h @ network.W.mT + network.drive(x) if network.needs_u else torch.zeros_like(z)
        del h
        tau = network.tau.expand(z.shape)
        by = (0, 1, 2) if trained else (0, 1)
        partials = torch.func.grad(lambda z, u, tau: network.rate([z], [u], [tau])[0].sum(), argnums=by)
        self.d, self.c, *rest = partials(z, u, tau)
        self.e = rest[0] if trained else None
        self.h = torch.func.grad(lambda z: network.source([z]).sum())(z)
        self._list()

    def steps(self, first: int, last: int) -> NetworkLinear:
        """The steps from ``first`` to ``last``, views."""
        part = copy(self)
        part.s, part.c, part.d, part.h = (a[first:last] for a in (self.s, self.c, self.d, self.h))
        part.e = None if self.e is None else self.e[first:last]
        part._list()
        return part

    def _list(self) -> None:
        """c, d, h′ of each stage (B, n), views."""
        each = [part.flatten(0, 1).unbind() for part in (self.c, self.d, self.h)]
        self._stages = list(zip(*each, strict=True))

    def vjp(self, m: int, i: int, K: Any, out: Any) -> None:
        """R = Jᵀ K of a stage, K and R (B, n, q)."""
        import torch

        (c, d, h), W = self._stages[m * self.c.shape[1] + i], self.network.W
        if K.shape[-1] == 1:
            K = K[..., 0]
            torch.addcmul(h * ((c * K) @ W), d, K, out=out[..., 0])
            return
        J = c[:, :, None] * W
        J *= h[:, None, :]
        J.diagonal(dim1=1, dim2=2).add_(d)
        torch.bmm(J.mT, K, out=out)

    def rows_part(self, K: Any, carried: list[Any]) -> None:
        """Add the parameter part of the stages, whose cotangents are K (C, s, B, n, q), to P; K is overwritten."""
        C, s, B, n, q = K.shape
        S, N = C * s, self.network.N
        few = units_at_once(n, self.network.device.item * q * N)
        c, sources = self.c.reshape(S, B, n), self.s.reshape(S, B, N)
        K = K.reshape(S, B, n, q)

        def units(first: int, last: int) -> None:
            for b in range(B):
                for i in range(first, last, few):
                    its = slice(i, min(i + few, last))
                    mine = K[:, b, its]
                    panel = mine.permute(1, 2, 0)  # [q × S] of each unit
                    if self.e is not None:
                        carried[1][b, its].baddbmm_(panel, self.e.reshape(S, B, n)[:, b, its].mT[:, :, None])
                    mine *= c[:, b, its, None]
                    carried[0][b, its].baddbmm_(panel, sources[:, b].expand(len(panel), S, N))

        divided(units, n, 2.0 * S * q * N * n, self.network.device.name)

    def row_part(self, K: Any, g: list[Any]) -> None:
        """Add the parameter part of one cotangent a trial, K (C, s, B, n, 1), to dl/dŴ, and dl/dτ."""
        K = K[..., 0]
        if self.e is not None:
            g[1] += (self.e * K).sum(dim=(0, 1, 2))[:, None]
        g[0].addmm_((self.c * K).reshape(-1, self.network.n).mT, self.s.reshape(-1, self.network.N))


class General:
    """Any field with a torch function, w flat (m,)."""

    def __init__(self, field: Field, device: Device) -> None:
        self.field, self.device, self.n = field, device, field.n
        self.function = field.torch_function()
        self.w = device.tensor(field.vector)

    def drive(self, x: Any) -> Any:
        """What the input adds, before the states are known."""
        return x

    def __call__(self, t: float, z: Any, x: Any) -> Any:
        """F at a time, for states and inputs in torch."""
        return self.at(t, z, self.w, x)

    def at(self, t: float, z: Any, w: Any, x: Any) -> Any:
        """F(t, r, w, x), r (n,) or (B, n)."""
        named, start = {}, 0
        for name, value in self.field.parameters.items():
            named[name] = w[start : start + value.size].reshape(value.shape)
            start += value.size
        return self.function(t, z, named, x)

    def linear(self, block: TorchBlock) -> GeneralLinear:
        """The linearisation along a block."""
        return GeneralLinear(self, block)

    def carried(self, B: int, q: int) -> list[Any]:
        """P = 0 for q rows of B trials."""
        import torch

        return [torch.zeros((B, q, self.w.numel()), **self.device.options)]

    def transform(self, T: Any, carried: list[Any]) -> None:
        """P ← T P, in place."""
        carried[0] = T @ carried[0]

    def last(self, carried: list[Any]) -> list[Any]:
        """The last of the carried rows, summed over the trials."""
        return [carried[0][:, -1].sum(dim=0)]

    def zeros(self) -> list[Any]:
        """A parameter part of one row, 0."""
        import torch

        return [torch.zeros_like(self.w)]

    def vector(self, g: list[Any]) -> Array:
        """The parameter part in the order of the field's parameters (m,)."""
        return to_numpy(g[0])


class GeneralLinear:
    """Such a field along a block."""

    def __init__(self, system: General, block: TorchBlock) -> None:
        self.system, self.block = system, block

    def steps(self, first: int, last: int) -> GeneralLinear:
        """How many steps it has."""
        return GeneralLinear(self.system, self.block.cut(first, last))

    def vjp(self, m: int, i: int, K: Any, out: Any) -> None:
        """out = K J at stage i of step m."""
        import torch

        t, x = float(self.block.t[m, i]), self.block.x[m, i]
        pull: Any = torch.func.vjp(lambda z: self.system.at(t, z, self.system.w, x), self.block.z[m, i])[1]
        # rows in front: torch cannot put a result that depends on none of them last
        out.copy_(torch.func.vmap(pull, in_dims=-1)(K)[0].movedim(0, -1))

    def _parameters(self, m: int, i: int, b: Any) -> Any:
        """The pullback to w at a stage of trial b, or of all."""
        import torch

        t, z, x = float(self.block.t[m, i]), self.block.z[m, i, b], self.block.x[m, i, b]
        return torch.func.vjp(lambda w: self.system.at(t, z, w, x), self.system.w)[1]

    def rows_part(self, K: Any, carried: list[Any]) -> None:
        """Add the parameter part of all rows to P."""
        import torch

        for m, i, b in ((m, i, b) for m in range(K.shape[0]) for i in range(K.shape[1]) for b in range(K.shape[2])):
            pull = self._parameters(m, i, b)
            carried[0][b] += torch.func.vmap(pull, in_dims=-1)(K[m, i, b])[0]

    def row_part(self, K: Any, g: list[Any]) -> None:
        """Add the parameter part of one row."""
        for m, i in ((m, i) for m in range(K.shape[0]) for i in range(K.shape[1])):
            g[0] += self._parameters(m, i, slice(None))(K[m, i, :, :, 0])[0]
