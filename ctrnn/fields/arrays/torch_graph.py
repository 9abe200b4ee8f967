"""A graph on torch tensors: any device and dtype, any leading axes of the state, differentiable by torch.

Every value is flat there, (..., size), and made when it is asked for; products see it in its shape.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ctrnn.fields.arrays import loops
from ctrnn.fields.arrays.graph import Elementwise, Graph, Stack, outs_of
from ctrnn.fields.arrays.programs import Loop
from ctrnn.fields.arrays.values import Product, Spread, Turn, Value


class Source(NamedTuple):
    """Where the entries of a weight are.

    They lie one after the other, from ``start`` on, in a parameter, or in the constants (name None); or they are one
    number (``size`` 1); or ``entries`` gathers them from all parameters and constants.
    """

    name: str | None
    start: int
    size: int
    turned: bool = False
    entries: np.ndarray | None = None


class TorchGraph:
    """F of a graph as a function of tensors.

    shapes : name -> shape of the parameters, in order; fixed : the numbers of all constants, and one 0; masks : name ->
        booleans
    """

    def __init__(
        self, graph: Graph, shapes: dict[str, tuple[int, ...]], fixed: np.ndarray, masks: dict[str, Any]
    ) -> None:
        self.graph, self.fixed, self.masks = graph, fixed, masks
        self.names = list(shapes)
        self.sizes = [int(np.prod(shape)) for shape in shapes.values()]
        self.starts = np.cumsum([0, *self.sizes])
        every = {id(v): loops.torch_function(_whole(v)) for v in graph.nodes if isinstance(v, Elementwise)}
        self.functions = every
        self.makers = {out: node for node in graph.nodes for out in outs_of(node)}
        self._sources: dict[Value, Source] = {}

    def __call__(self, t: Any, r: Any, w: dict[str, Any], x: Any = None) -> Any:
        """F at (t, r, w, x)."""
        import torch

        values = Values(self, t, r, Weights(self, w, r), x)
        outs = [values.of(self.graph.outs[state]) for state in self.graph.states]
        return torch.cat([out.expand(r.shape[:-1] + out.shape[-1:]) for out in outs], -1)

    def source(self, v: Value) -> Source:
        """Where the entries of a weight are."""
        if v not in self._sources:
            assert v.entries is not None
            self._sources[v] = self._found(v, v.entries)
        return self._sources[v]

    def _found(self, v: Value, entries: np.ndarray) -> Source:
        first = int(entries[0]) if entries.size else 0
        which = int(np.searchsorted(self.starts, first, side="right")) - 1
        name = self.names[which] if which < len(self.names) else None
        start, last = int(self.starts[which]), int(self.starts[which + 1]) if name else first + entries.size
        if (entries == first).all():
            return Source(name, first - start, 1)
        if first + entries.size <= last:
            if (entries == first + np.arange(entries.size)).all():
                return Source(name, first - start, entries.size)
            turned = entries.reshape(v.shape).T.ravel()
            if len(v.shape) == 2 and (turned == first + np.arange(entries.size)).all():
                return Source(name, first - start, entries.size, turned=True)
        return Source(None, 0, 0, entries=entries)


class Values:
    """The values of a graph at (t, r, w, x), each made when it is first asked for."""

    def __init__(self, graph: TorchGraph, t: Any, r: Any, weights: Weights, x: Any) -> None:
        self.graph, self.t, self.r, self.weights, self.x = graph, t, r, weights, x
        self._made: dict[Value, Any] = {}

    def of(self, v: Value) -> Any:
        """A value (..., size)."""
        if v not in self._made:
            if v.parent is not None:
                self._made[v] = self.of(v.parent)[..., v.start : v.start + v.size]
            elif v in self.graph.makers:
                self._node(self.graph.makers[v])
            else:
                self._made[v] = self._leaf(v)
        return self._made[v]

    def _leaf(self, v: Value) -> Any:
        import torch

        r, x, here = self.r, self.x, slice(v.start, v.start + v.size)
        if v.kind == "state":
            return r[..., here]
        if v.kind == "input":
            return r.new_zeros(v.size) if x is None else x[..., here]
        if v.kind == "time":
            return torch.as_tensor(self.t, dtype=r.dtype, device=r.device).unsqueeze(-1)
        return self.weights.flat(v)

    def _matrix(self, v: Value, rows: int, columns: int, turned: bool) -> Any:
        shape = (columns, rows) if turned else (rows, columns)
        if v.is_weight:
            shaped = self.weights.matrix(v, shape)
        else:
            flat = self.of(v)
            shaped = flat.reshape(flat.shape[:-1] + shape)
        return shaped.mT if turned else shaped

    def _node(self, node: Any) -> None:
        import torch

        if isinstance(node, Elementwise):
            function, inputs = self.graph.functions[id(node)]
            for v, out in zip(node.outs, function(*(self.of(v) for v in inputs)), strict=True):
                # a number is as good as a tensor of it
                if not isinstance(out, torch.Tensor):
                    out = torch.as_tensor(out, dtype=self.r.dtype, device=self.r.device)
                self._made[v] = out if out.ndim and out.shape[-1] == v.size else out.expand(*out.shape[:-1], v.size)
        elif isinstance(node, Stack):
            for v in node.outs:
                terms = [self.of(s) @ self.weights.matrix(A, A.shape).mT for A, s in v.step.terms]
                self._made[v] = sum([*terms[1:], *(self.of(b) for b in v.step.biases)], terms[0])
        elif isinstance(node, Product):
            a = self._matrix(node.a, node.m, node.k, node.a_turned)
            product = a @ self._matrix(node.b, node.k, node.n, node.b_turned)
            self._made[node.out] = product.reshape(product.shape[:-2] + (node.m * node.n,))
        elif isinstance(node, Spread):
            flat = self.of(node.a)
            self._made[node.out] = flat.expand(*flat.shape[:-1], node.out.size)
        elif isinstance(node, Turn):
            rows, columns = node.a.shape
            turned = self._matrix(node.a, rows, columns, False).mT
            self._made[node.out] = turned.reshape(turned.shape[:-2] + (node.out.size,))
        else:
            self._made[node.out] = self.of(node.a).sum(-1, keepdim=True)


class Weights:
    """The weights of one call, or of many."""

    def __init__(self, graph: TorchGraph, w: dict[str, Any], like: Any, fixed: Any = None) -> None:
        self.graph, self.w, self.like = graph, w, like
        self._masked: dict[str, Any] = {}
        self._known: dict[tuple[Value, tuple[int, ...]], Any] = {}
        self._fixed = fixed
        self._every: Any = None

    def parameter(self, name: str) -> Any:
        """A parameter, 0 outside its mask."""
        import torch

        if name not in self.graph.masks:
            return self.w[name]
        if name not in self._masked:
            mask = torch.as_tensor(self.graph.masks[name].copy(), device=self.like.device)
            self._masked[name] = self.w[name] * mask
        return self._masked[name]

    def matrix(self, v: Value, shape: tuple[int, ...]) -> Any:
        """A weight in a shape."""
        if (v, shape) not in self._known:
            self._known[v, shape] = self._matrix(v, shape)
        return self._known[v, shape]

    def _matrix(self, v: Value, shape: tuple[int, ...]) -> Any:
        at = self.graph.source(v)
        if at.entries is not None:
            return self._gathered(at.entries).reshape(shape)
        value = self.fixed if at.name is None else self.parameter(at.name).reshape(-1)
        value = value[at.start : at.start + at.size] if value.shape[0] != at.size else value
        if at.turned:
            return value.reshape(v.shape[::-1]).mT.reshape(shape)
        return value.expand(v.size).reshape(shape) if at.size != v.size else value.reshape(shape)

    def flat(self, v: Value) -> Any:
        """A weight as a vector."""
        return self.matrix(v, (v.size,))

    @property
    def fixed(self) -> Any:
        """The numbers of all constants, and one 0."""
        import torch

        if self._fixed is None:
            self._fixed = torch.as_tensor(self.graph.fixed, dtype=self.like.dtype, device=self.like.device)
        return self._fixed

    def _gathered(self, entries: np.ndarray) -> Any:
        import torch

        if self._every is None:
            given = [self.parameter(name).reshape(-1) for name in self.graph.names]
            self._every = torch.cat([*given, self.fixed])
        return self._every[torch.as_tensor(entries, device=self._every.device)]


def _whole(node: Elementwise) -> Loop:
    return Loop(node, list(range(len(node.outs))), [])
