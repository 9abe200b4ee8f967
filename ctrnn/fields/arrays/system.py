"""A system of array equations: its texts read into one graph, and what the graph gives a field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.arrays.code import ArrayCode
from ctrnn.fields.arrays.graph import Graph, Stack
from ctrnn.fields.arrays.reader import ArrayReader, shown
from ctrnn.fields.arrays.rows import GraphRows, RowsCode
from ctrnn.fields.arrays.step_size import own_rates, with_step_size
from ctrnn.fields.arrays.structure import Structure
from ctrnn.fields.arrays.torch_graph import TorchGraph
from ctrnn.fields.arrays.values import Builder, Product, Shape, Value
from ctrnn.fields.base import Array
from ctrnn.fields.bound import Kernel, LanesKernel, SecondKernel


class ArraySystem:
    """Texts, and the shapes of all names in them; ``form``: "F", its "D" or "G" of exponential Euler (step_size.py).

    Raises ExpressionError, with the place in the text, for what is no formula in those names or whose shapes do not
    fit.
    """

    def __init__(
        self,
        equations: Mapping[str, str],
        definitions: Mapping[str, str],
        states: Mapping[str, Shape],
        inputs: Mapping[str, Shape],
        parameters: Mapping[str, Shape],
        constants: Mapping[str, Array],
        masks: Mapping[str, Array],
        form: str = "F",
    ) -> None:
        self.parameters, self.masks = dict(parameters), dict(masks)
        #: numbers of constants, of which some may be 0 and stay 0: other fields of this text have their own ones
        self.constants = dict(constants)
        self.n = _total(states)
        self.m = _total(parameters)
        self.inputs = _total(inputs) + (form == "G")
        builder = Builder()
        named = {}
        for kind, shapes in (("state", states), ("input", inputs)):
            start = 0
            for name, shape in shapes.items():
                named[name] = builder.leaf(Value(name, shape, kind, start))
                start += named[name].size
        named["t"] = builder.leaf(Value("t", (), "time"))
        start = 0
        for name, shape in (parameters | {k: v.shape for k, v in constants.items()}).items():  # type: ignore[operator]
            size = int(np.prod(shape))
            named[name] = builder.leaf(Value(name, shape, "weight", entries=start + np.arange(size)))
            start += size
        for name, text in definitions.items():
            named[name] = ArrayReader(text, named, builder, name).read()
        outputs = {}
        for name, text in equations.items():
            where = f"d{name}/dt"
            reader = ArrayReader(text, named, builder, where)
            value = reader.read()
            if value.shape not in ((), states[name]):
                raise UsageError(
                    where,
                    given=f"{'shape ' * bool(value.shape)}{shown(value.shape)}",
                    allowed=f"{'shape ' * bool(states[name])}{shown(states[name])}, as {name} is",
                )
            outputs[named[name]] = value
        if form == "G":
            outputs = with_step_size(builder, outputs, self.inputs - 1)
        elif form == "D":
            outputs = own_rates(builder, outputs)
        self.graph = Graph(builder, outputs, lambda entries: self._trained(entries) >= 0)

    @cached_property
    def _number(self) -> Array:
        """The parameter of each entry, −1 for constants, for the 0, and outside of masks."""
        number = np.full(self.m + sum(c.size for c in self.constants.values()) + 1, -1, dtype=np.int64)
        number[: self.m] = np.arange(self.m)
        start = 0
        for name, shape in self.parameters.items():
            size = int(np.prod(shape))
            if name in self.masks:
                number[start : start + size][~self.masks[name].ravel()] = -1
            start += size
        return number

    def _trained(self, entries: Array) -> Array:
        return self._number[entries]

    @cached_property
    def code(self) -> ArrayCode:
        """The graph as compiled loops."""
        return ArrayCode(self.graph, self._trained, self._exists)

    @cached_property
    def kernel(self) -> Kernel:
        """The kernel, which knows its independent parts."""
        parts = self._parts()
        if parts is None:
            return self.code.kernel()
        kernel = self.code.kernel(parts[1])
        return replace(kernel, parts=(parts[0], np.array(self.code.groups.parts, dtype=np.int64)))

    def _parts(self) -> tuple[Array, Array] | None:
        """The parts that know nothing of each other.

        Looked for where some weights do not exist, or where nothing is a product.
        """
        if self._exists[:-1].all() and any(isinstance(node, Stack | Product) for node in self.graph.nodes):
            return None
        return self._structure().parts()

    @cached_property
    def _exists(self) -> Array:
        """Which numbers of parameters and constants, and of one 0, may be other than 0."""
        return np.concatenate([self._number[: self.m] >= 0, _flat(self.constants) != 0.0])

    def _structure(self) -> Structure:
        return Structure(self.graph, self.n, self.m, self._number, self._exists)

    def pattern(self) -> tuple[Any, Any]:
        """Where J (n, n) and F_w (n, m) can be other than 0, as sparse arrays of ones."""
        return self._structure().of_states()

    @cached_property
    def second_kernel(self) -> SecondKernel:
        """Second derivatives."""
        _ = self.kernel
        return self.code.second_kernel()

    @cached_property
    def lanes_kernel(self) -> LanesKernel:
        """F of many members side by side."""
        return self.code.lanes_kernel()

    @cached_property
    def row_slots(self) -> GraphRows | None:
        """F and its transposes of many rows; none where most weights do not exist, as rows store all of them."""
        if self.code.layout.lists:
            return None
        return GraphRows(RowsCode(self.graph, self._trained, self.n, self.inputs), self.m)

    def packed(self, vector: Array, constants: Mapping[str, Array]) -> Array:
        """The kernel's w of a flat vector (m,)."""
        return self.code.packed(self.entries(vector, constants))

    def entries(self, vector: Array, constants: Mapping[str, Array]) -> Array:
        """The numbers of all parameters, all constants, and one 0."""
        return np.concatenate([vector, _flat(constants)])

    def direction(self, vector: Array) -> Array:
        """The kernel's δw of a change of the flat vector; outside of masks nothing changes."""
        change = np.zeros(self._number.size)
        change[: self.m] = np.where(self._number[: self.m] >= 0, vector, 0.0)
        return self.code.packed(change)

    def torch_function(self, constants: Mapping[str, Array], masked: bool = True) -> TorchGraph:
        """F in torch's operations; not ``masked``: the weights that it will be given are 0 outside of masks."""
        return TorchGraph(self.graph, self.parameters, _flat(constants), self.masks if masked else {})


def _flat(constants: Mapping[str, Array]) -> Array:
    """Their numbers, and one 0."""
    return np.concatenate([*(c.ravel() for c in constants.values()), [0.0]])


def _total(shapes: Mapping[str, Shape]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes.values())
