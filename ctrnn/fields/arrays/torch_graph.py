"""A graph on torch tensors: any device and dtype, any leading axes of the state, differentiable by torch.

Every value is flat there, (..., size); products see it in its shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.fields.arrays import loops
from ctrnn.fields.arrays.graph import Elementwise, Graph, Stack
from ctrnn.fields.arrays.values import Product, Spread, Turn, Value


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
        self.starts = dict(zip(shapes, np.cumsum([0, *(int(np.prod(s)) for s in shapes.values())]), strict=False))
        self.sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
        self.m = sum(self.sizes.values())
        self.functions = {id(node): loops.torch_function(node) for node in graph.nodes if isinstance(node, Elementwise)}

    def __call__(self, t: Any, r: Any, w: dict[str, Any], x: Any = None) -> Any:
        """F at (t, r, w, x)."""
        import torch

        weights = _Weights(self, w, r)
        values: dict[Value, Any] = {}

        def get(v: Value) -> Any:
            if v in values:
                return values[v]
            if v.parent is not None:
                found = get(v.parent)[..., v.start : v.start + v.size]
            elif v.kind == "state":
                found = r[..., v.start : v.start + v.size]
            elif v.kind == "input":
                found = r.new_zeros(v.size) if x is None else x[..., v.start : v.start + v.size]
            elif v.kind == "time":
                found = torch.as_tensor(t, dtype=r.dtype, device=r.device).unsqueeze(-1)
            else:
                found = weights.flat(v)
            values[v] = found
            return found

        def matrix(v: Value, rows: int, columns: int, turned: bool) -> Any:
            if v.is_weight:
                shaped = weights.matrix(v, (columns, rows) if turned else (rows, columns))
            else:
                flat = get(v)
                shaped = flat.reshape(flat.shape[:-1] + ((columns, rows) if turned else (rows, columns)))
            return shaped.mT if turned else shaped

        for node in self.graph.nodes:
            if isinstance(node, Elementwise):
                outs = self.functions[id(node)](*(get(v) for v in node.inputs))
                for v, out in zip(node.outs, outs, strict=True):
                    # a number is as good as a tensor of it
                    out = torch.as_tensor(out, dtype=r.dtype, device=r.device)
                    values[v] = out if out.ndim and out.shape[-1] == v.size else out.expand(*out.shape[:-1], v.size)
            elif isinstance(node, Stack):
                for v in node.outs:
                    terms = [get(s) @ weights.matrix(A, A.shape).mT for A, s in v.step.terms]
                    values[v] = sum([*terms[1:], *(get(b) for b in v.step.biases)], terms[0])
            elif isinstance(node, Product):
                product = matrix(node.a, node.m, node.k, node.a_turned) @ matrix(node.b, node.k, node.n, node.b_turned)
                values[node.out] = product.reshape(product.shape[:-2] + (node.m * node.n,))
            elif isinstance(node, Spread):
                flat = get(node.a)
                values[node.out] = flat.expand(*flat.shape[:-1], node.out.size)
            elif isinstance(node, Turn):
                rows, columns = node.a.shape
                turned = matrix(node.a, rows, columns, False).mT
                values[node.out] = turned.reshape(turned.shape[:-2] + (node.out.size,))
            else:
                values[node.out] = get(node.a).sum(-1, keepdim=True)
        outs = [values[self.graph.outs[state]] for state in self.graph.states]
        return torch.cat([out.expand(r.shape[:-1] + out.shape[-1:]) for out in outs], -1)


class _Weights:
    """The weights of one call."""

    def __init__(self, graph: TorchGraph, w: dict[str, Any], like: Any) -> None:
        self.graph, self.w, self.like = graph, w, like
        self._masked: dict[str, Any] = {}
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

    def _whole(self, v: Value) -> tuple[str, bool] | None:
        """The parameter that a weight is, as it is or transposed."""
        entries = v.entries
        assert entries is not None
        for name, start in self.graph.starts.items():
            size = self.graph.sizes[name]
            if size != v.size or not size or not start <= entries[0] < start + size:
                continue
            if (entries == start + np.arange(size)).all():
                return name, False
            if len(v.shape) == 2 and (entries.reshape(v.shape).T.ravel() == start + np.arange(size)).all():
                return name, True
        return None

    def matrix(self, v: Value, shape: tuple[int, ...]) -> Any:
        whole = self._whole(v)
        if whole is None:
            return self._gathered(v).reshape(shape)
        name, turned = whole
        value = self.parameter(name)
        if turned:
            return value.reshape(v.shape[::-1]).mT.reshape(shape)
        return value.reshape(shape)

    def flat(self, v: Value) -> Any:
        return self.matrix(v, (v.size,))

    def _gathered(self, v: Value) -> Any:
        import torch

        if self._every is None:
            given = [self.parameter(name).reshape(-1) for name in self.graph.names]
            fixed = torch.as_tensor(self.graph.fixed, dtype=self.like.dtype, device=self.like.device)
            self._every = torch.cat([*given, fixed])
        return self._every[torch.as_tensor(v.entries, device=self.like.device)]
