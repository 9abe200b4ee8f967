"""A graph of products and elementwise maps in torch: F, and what the pullback asks of its derivatives.

With u = Ŵ s, F = G(z, u, θ), d = ∂G/∂u and e = ∂G/∂θ, elementwise (ctrnn.gradients.recording.torch.structure):

    cotangents      back through the graph, an edge at a time: R = Wᵀ (d ∘ K) ∘ s′ + …        2 n² q flops a stage
    P, row i of Ŵ   P_i += Σ_S (Σ d_i K)ᵀ s over all stages: one product [q × S] [S × N] a row, a batch of them in
                    torch.bmm     2 n N q S
    one cotangent   [n × S B] [S B × N], one product for all stages and trials              2 n N S B
    θ               p_i += Σ_S e_i K_i

Layout: K and R are (B, n, q), cotangents as columns; of all stages K is (C, s, B, n, q), so that what row i multiplies,
    [q × S], is a view. P of a product is (B, rows, q, N), and of another parameter (B, size, q, 1): for n units in all
    n × (n + 1) × N numbers a trial, the largest thing there is. Nothing of its size is made beside it: rows are taken a
    few at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ctrnn.fields.arrays import loops
from ctrnn.fields.arrays.graph import Elementwise, Stack
from ctrnn.fields.arrays.layout import Layout
from ctrnn.fields.arrays.programs import Loop
from ctrnn.fields.arrays.torch_graph import Values, Weights
from ctrnn.fields.arrays.values import Value
from ctrnn.fields.base import Array, Field
from ctrnn.gradients.recording.torch.device import Device, to_numpy
from ctrnn.gradients.recording.torch.structure import Trained, back_of, times, trained_of
from ctrnn.gradients.recording.torch.threads import divided

if TYPE_CHECKING:
    from ctrnn.gradients.recording.torch.recording import TorchBlock

#: bytes of P that are taken at a time, at least; and the share of P
CHUNK_BYTES, CHUNK = 16 * 2**20, 64


def units_at_once(n: int, unit: int) -> int:
    """Rows that are taken together, of n whose part of P has ``unit`` bytes."""
    return max(1, min(n, max(CHUNK_BYTES // unit, n // CHUNK)))


class At(NamedTuple):
    """A stage: time, states (B, n), the input with what it adds to affine values, and the values made so far."""

    t: float
    z: Any
    drive: Any
    made: dict[Value, Any]


class GraphSystem:
    """A graph over there."""

    def __init__(self, field: Field, arrays: Any, device: Device) -> None:
        self.field, self.device, self.n = field, device, field.n
        self.layout: Layout = arrays.code.layout
        # outside of masks weights are 0 as they stand
        self.function = arrays.torch_function(field.constants, masked=False)  # type: ignore[attr-defined]
        w = {name: device.tensor(value) for name, value in field.parameters.items()}
        self.weights = Weights(self.function, w, None, fixed=device.tensor(self.function.fixed))
        self.trained = trained_of(self.layout) or []
        self.functions = [self._slopes(node) for node in self.layout.graph.nodes if isinstance(node, Elementwise)]
        #: affine values that the input drives, and where what it adds lies behind the input
        self.driven: dict[Value, slice] = {}
        end = field.input_size
        for v in self.function.makers:
            if isinstance(self.function.makers[v], Stack) and any(s.kind == "input" for _, s in v.step.terms):
                self.driven[v] = slice(end, end + v.size)
                end += v.size
        self.back = back_of(self.layout, self.weights)
        #: what makes the values of a stage, in order
        self.forward: list[Callable[[At], None]] = []
        for node in self.layout.graph.nodes:
            if isinstance(node, Elementwise):
                self.forward.append(self._elementwise(node))
            elif isinstance(node, Stack):
                self.forward += [self._affine(v) for v in node.outs]

    def _slopes(self, node: Elementwise) -> tuple[Elementwise, list[tuple[int, Value]], Any]:
        """The partial derivatives of a node that are neither 0 nor 1, and the function of tensors for them."""
        wanted = [(k, v) for k in range(len(node.outs)) for v in node.inputs if self.layout.slope(node, k, v)]
        return node, wanted, loops.torch_function(Loop(node, [], wanted))

    def drive(self, x: Any) -> Any:
        """The input, and behind it what it and the bias add to affine values, of all stages."""
        import torch

        if not self.driven:
            return x
        at, weights = Values(self.function, 0.0, x, self.weights, x), self.weights
        parts = [x]
        for v in self.driven:
            biases = [weights.flat(b) for b in v.step.biases]
            products = [at.of(s) @ weights.matrix(A, A.shape).mT for A, s in v.step.terms if s.kind == "input"]
            parts.append(sum([*products[1:], *biases], products[0]))
        return torch.cat(parts, -1)

    def __call__(self, t: float, z: Any, drive: Any) -> Any:
        """dz/dt (B, n)."""
        import torch

        at = At(t, z, drive, {})
        for make in self.forward:
            make(at)
        outs = [at.made[self.layout.graph.outs[state]] for state in self.layout.graph.states]
        every = [out if out.ndim == z.ndim else out.expand(*z.shape[:-1], out.shape[-1]) for out in outs]
        return every[0] if len(every) == 1 else torch.cat(every, -1)

    def _get(self, v: Value) -> Callable[[At], Any]:
        """What finds a value in a stage; known once, as looking it up costs as much as small products."""
        its = slice(v.start, v.start + v.size)
        if v.is_weight:
            weight = self.weights.flat(v)
            return lambda at: weight
        if v.parent is not None:
            whole = self._get(v.parent)
            return lambda at: whole(at)[..., its]
        if v.kind == "state":
            return (lambda at: at.z) if v.size == self.n else lambda at: at.z[..., its]
        if v.kind == "input":
            return lambda at: at.drive[..., its]
        if v.kind == "time":
            return lambda at: at.z.new_tensor([at.t])
        return lambda at: at.made[v]

    def _elementwise(self, node: Elementwise) -> Callable[[At], None]:
        function, inputs = self.function.functions[id(node)]
        getters, sizes = [self._get(v) for v in inputs], [v.size for v in node.outs]

        def make(at: At) -> None:
            for v, size, out in zip(node.outs, sizes, function(*(get(at) for get in getters)), strict=True):
                if not hasattr(out, "ndim"):
                    out = at.z.new_tensor(out)
                at.made[v] = out if out.ndim and out.shape[-1] == size else out.expand(*out.shape[:-1], size)

        return make

    def _affine(self, v: Value) -> Callable[[At], None]:
        its = self.driven.get(v)
        beside = [] if its is not None else [self._get(b) for b in v.step.biases]
        terms = [
            (self._get(s), self.weights.matrix(A, A.shape).mT)
            for A, s in v.step.terms
            if its is None or s.kind != "input"
        ]

        def make(at: At) -> None:
            import torch

            u = None if its is None else at.drive[..., its]
            for get, W in terms:
                s = get(at)
                u = s @ W if u is None else torch.addmm(u, s, W) if u.ndim == s.ndim == 2 else u + s @ W
            for get in beside:
                u = u + get(at)
            at.made[v] = u

        return make

    def linear(self, block: TorchBlock) -> GraphLinear:
        """The linearisation along a block."""
        return GraphLinear(self, block)

    # -- what is carried: P of each set of weights

    def carried(self, B: int, q: int) -> list[Any]:
        """Zeros of P (B, rows, q, width) of each set."""
        import torch

        shapes = [one.numbers.shape for one in self.trained]
        return [torch.zeros((B, rows, q, width), **self.device.options) for rows, width in shapes]

    def transform(self, T: Any, carried: list[Any]) -> None:
        """P_i ← T P_i for every row i; T (B, q, q)."""
        q = T.shape[-1]
        for P in carried:
            rows, width = P.shape[1], P.shape[3]
            few = units_at_once(rows, self.device.item * q * width)

            divided(partial(_transform, T, P, few), rows, 2.0 * q * q * width * rows, self.device.name)

    def last(self, carried: list[Any]) -> list[Any]:
        """The last of the q rows, dl/dw (rows, width) of each set, the sum of the trials."""
        return [P[:, :, -1].sum(dim=0) for P in carried]

    def zeros(self) -> list[Any]:
        """Zeros of dl/dw (rows, width) of each set."""
        import torch

        return [torch.zeros(one.numbers.shape, **self.device.options) for one in self.trained]

    def vector(self, g: list[Any]) -> Array:
        """dl/dw (m,) in the order of the field's parameters, 0 outside of masks."""
        flat = np.zeros(self.field.m + 1)  # the last for what is not trained
        for one, part in zip(self.trained, g, strict=True):
            np.add.at(flat, one.numbers, to_numpy(part))
        return flat[:-1]


def _transform(T: Any, P: Any, few: int, first: int, last: int) -> None:
    import torch

    q = T.shape[-1]
    for b in range(len(T)):
        for i in range(first, last, few):
            part = P[b, i : min(i + few, last)]
            part.copy_(torch.bmm(T[b].expand(len(part), q, q), part))


class GraphLinear:
    """A graph along a block: partial derivatives (C, s, B, size), and the sources (C, s, B, N) of each set of rows."""

    def __init__(self, system: GraphSystem, block: TorchBlock) -> None:
        import torch

        self.system = system
        lead = block.z.shape[:-1]
        t = system.device.tensor(block.t)[..., None]
        values = Values(system.function, t, block.z, system.weights, block.x)
        self.sources: list[Any] = []
        made: dict[tuple[str, ...], Any] = {}  # rows that share their sources do so here too
        for one in system.trained:
            key = (*(v.name for v in one.sources), "1" if one.one else "")
            if one.sources and key not in made:
                parts = [values.of(v).expand(*lead, v.size) for v in one.sources]
                made[key] = torch.cat([*parts, torch.ones_like(block.z[..., :1])] if one.one else parts, dim=-1)
            self.sources.append(made.get(key))
        #: None: 1
        self.slopes: dict[tuple[int, int, str], Any] = {}
        for node, wanted, (function, inputs) in system.functions:
            for k in range(len(node.outs)):
                self.slopes |= {
                    (id(node), k, v.name): None for v in node.inputs if system.layout.slope(node, k, v) is None
                }
            for (k, v), slope in zip(wanted, function(*(values.of(v) for v in inputs)), strict=True):
                slope = torch.as_tensor(slope, **system.device.options)
                self.slopes[id(node), k, v.name] = slope.expand(*lead, node.size)
        self._list()

    def steps(self, first: int, last: int) -> GraphLinear:
        """The steps from ``first`` to ``last``, views."""
        part = copy(self)
        part.sources = [None if s is None else s[first:last] for s in self.sources]
        part.slopes = {key: None if d is None else d[first:last] for key, d in self.slopes.items()}
        part._list()
        return part

    def _list(self) -> None:
        """The partial derivatives of each stage (B, size, 1), views."""
        self._stages: dict[tuple[int, int, str], Any] = {
            key: None if d is None else d.flatten(0, 1)[..., None].unbind() for key, d in self.slopes.items()
        }
        self._s = next((d.shape[1] for d in self.slopes.values() if d is not None), 1)

    def vjp(self, m: int, i: int, K: Any, out: Any) -> None:
        """R = Jᵀ K of a stage, K and R (B, n, q)."""
        import torch

        stage = m * self._s + i
        made: list[Any] = [None] * self.system.back.values
        for its in self.system.back.zeros:
            out[:, its] = 0.0
        for step in self.system.back.steps:
            bar = K[:, step.of] if isinstance(step.of, slice) else made[step.of]
            to = out[:, step.to] if isinstance(step.to, slice) else made[step.to]
            if step.key is not None:
                slope = self._stages[step.key][stage]
                if not step.begins:
                    to.addcmul_(slope, bar)
                elif to is not None:
                    torch.mul(slope, bar, out=to)
                else:
                    made[step.to] = slope * bar
                continue
            part = bar if step.W is None else times(bar, step.W)
            if not step.begins:
                to.add_(part)
            elif to is not None:
                to.copy_(part)
            else:
                made[step.to] = bar.clone() if part is bar else part

    def _bar(self, one: Trained, K: Any, trials: Any, first: int, last: int) -> Any:
        """The cotangents of rows ``first`` to ``last`` of a set of weights, of some trials, from K (C, s, B, n, q)."""
        total: Any = None
        for key, start in one.terms:
            part, slope = K[:, :, trials, start + first : start + last], self.slopes[key]
            part = part if slope is None else part * slope[:, :, trials, first:last, None]
            total = part if total is None else total + part
        return total

    def rows_part(self, K: Any, carried: list[Any]) -> None:
        """Add the parameter part of the stages, whose cotangents are K (C, s, B, n, q), to P."""
        S, q, device = K.shape[0] * K.shape[1], K.shape[-1], self.system.device
        for one, P, sources in zip(self.system.trained, carried, self.sources, strict=True):
            rows, width = one.numbers.shape
            few = units_at_once(rows, device.item * q * max(width, S))

            work = partial(self._rows_part, K, one, P, sources, few)
            divided(work, rows, 2.0 * S * q * width * rows, device.name)

    def _rows_part(self, K: Any, one: Trained, P: Any, sources: Any, few: int, first: int, last: int) -> None:
        """The same, of some rows of a set, a few at a time."""
        C, s, B, _, q = K.shape
        S = C * s
        for b in range(B):
            for i in range(first, last, few):
                end = min(i + few, last)
                mine = self._bar(one, K, b, i, end).reshape(S, end - i, q)
                if sources is None:
                    P[b, i:end] += mine.sum(dim=0)[..., None]
                else:
                    its = sources[:, :, b].reshape(S, -1)
                    P[b, i:end].baddbmm_(mine.permute(1, 2, 0), its.expand(end - i, *its.shape))

    def row_part(self, K: Any, g: list[Any]) -> None:
        """Add the parameter part of one cotangent a trial, K (C, s, B, n, 1), to dl/dw of each set."""
        for one, to, sources in zip(self.system.trained, g, self.sources, strict=True):
            bar = self._bar(one, K, slice(None), 0, one.numbers.shape[0])[..., 0]
            if sources is None:
                to += bar.sum(dim=(0, 1, 2))[:, None]
            else:
                to.addmm_(bar.reshape(-1, bar.shape[-1]).mT, sources.reshape(-1, sources.shape[-1]))
