"""Fields in torch, for B trials and q cotangents at once: graphs by their products, others by torch.func.

(ctrnn.gradients.recording.torch.graph has the first.) Of any field with a torch function q cotangents go back by vmap
of its vjp, and the parameter part is made a stage at a time, P (B, q, m).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctrnn.fields.base import Array, Field
from ctrnn.gradients.recording.torch.device import Device, to_numpy
from ctrnn.gradients.recording.torch.graph import GraphSystem
from ctrnn.gradients.recording.torch.structure import graph_of, size_of

if TYPE_CHECKING:
    from ctrnn.gradients.recording.torch.recording import TorchBlock


def system_of(field: Field, device: Device) -> GraphSystem | General:
    """The field in torch: a graph by its products, any other by its function."""
    system = graph_of(field)
    return General(field, device) if system is None else GraphSystem(field, system, device)


def entries(field: Field) -> int:
    """Numbers in a row of P."""
    size = size_of(field)
    return field.m if size is None else size.entries


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
        p = self.field.parameters
        named = {name: w[its].reshape(p[name].shape) for name, its in p.slices.items()}
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
