"""A graph made runnable: its plan and programs; each slot's loops are compiled when the slot is first called."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ctrnn.fields.arrays import loops
from ctrnn.fields.arrays.graph import Elementwise, Graph, Stack
from ctrnn.fields.arrays.jacobian import PASS, Jacobian
from ctrnn.fields.arrays.layout import Layout
from ctrnn.fields.arrays.programs import Loop, Program, Writer
from ctrnn.fields.base import Array
from ctrnn.fields.bound import Kernel, LanesKernel, SecondKernel
from ctrnn.kernels import graph as K
from ctrnn.kernels import graph_second as K2
from ctrnn.kernels import graph_steps as G
from ctrnn.kernels.lanes import graph as lanes
from ctrnn.kernels.lazy import Lazy, LazyTable


class ArrayCode:
    """The compiled side of array equations, shared by all fields that differ in numbers only.

    trained : entries of weights -> the number of the parameter in the flat vector, −1 where it is not trained
    exists : which entries can be other than 0
    """

    def __init__(self, graph: Graph, trained: Callable[[Array], Array], exists: Array) -> None:
        self.graph, self.trained = graph, trained
        self.layout = Layout(graph, trained, exists)
        self.writer = Writer(self.layout)
        self._keep: list[Any] = []
        self._plan = np.zeros(K.PLAN_SIZE, dtype=np.int64)

    # --- programs to numbers

    def _encoded(self, program: Program) -> Array:
        """The numbers of a program; its loops are compiled, or read from disk."""
        code: list[int] = []
        for step in program:
            numbers = self._loop(step) if isinstance(step, Loop) else step
            code += [numbers[0], len(numbers) + 1, *numbers[1:]]
        code += [0] * 20  # the interpreter reads ahead
        kept = np.array(code, dtype=np.int64)
        self._keep.append(kept)
        return kept[: len(code) - 20]

    def _loop(self, loop: Loop) -> tuple[int, ...]:
        layout = self.layout
        address, inputs, moved, made = loops.compiled(loop)
        self._keep.append(made)
        operands = [layout.ref(v) for v in inputs]
        for v in moved:
            of = layout.tangent(v)
            operands.append((G.DV, self._zeros_at) if of is None else of)
        operands += [layout.ref(loop.node.outs[k]) for k in loop.outs]
        for k, v in loop.slopes:
            slope = layout.slope(loop.node, k, v)
            assert isinstance(slope, tuple)
            operands.append((G.DD if loop.tangent else slope[0], slope[1]))
        return (G.LOOP, loop.node.size, address, len(operands), *(number for ref in operands for number in ref))

    @property
    def _zeros_at(self) -> int:
        """Where δ of inputs and of time lies, behind that of the values: zeros."""
        return self.layout.values

    def _address(self, numbers: Any) -> int:
        kept = np.ascontiguousarray(numbers, dtype=np.int64)
        self._keep.append(kept)
        return int(kept.ctypes.data)

    # --- the field table

    def _programs(self) -> dict[int, Program]:
        layout, write = self.layout, self.writer
        self._jacobian, self._leak = Jacobian(layout), Jacobian(layout, products=False)
        return {
            K.FIELD: write.values(None),
            K.LINEAR: write.values(lambda node, k, v: layout.of_state(v)),
            K.BACK: write.back("states"),
            K.TRAINED: write.values(lambda node, k, v: layout.of_weights(v), stacks=True),
            K.GATHERED: write.back("weights"),
            K.JACOBI: self._jacobian.program,
            K.OWN_PART: self._leak.program,
        }

    def _install(self, which: tuple[int, ...]) -> None:
        self._plan[K.EXECUTE] = G.execute.address
        for number in which:
            at = K.PROGRAMS + 2 * number
            if self._plan[at] == 0:
                code = self._encoded(self._made[number])
                self._plan[at], self._plan[at + 1] = code.ctypes.data, code.size

    def kernel(self, part_of_entry: Array | None = None) -> Kernel:
        """The kernel of the graph; ``part_of_entry`` divides the parameters among independent parts."""
        layout, plan = self.layout, self._plan
        self._made = self._programs()
        self.groups = layout.groups(part_of_entry)
        cost = sum(_flops(step) for step in self._made[K.BACK] if not isinstance(step, Loop))
        partials = max(self._jacobian.partials, self._leak.partials)
        matrices = max(self._jacobian.matrices, self._leak.matrices)
        plan[K.VALUES], plan[K.PARTIALS], plan[K.COTANGENTS] = layout.values, partials, layout.cotangents
        plan[K.PARAMETERS], plan[K.MATRICES], plan[K.POINTERS] = layout.parameters, matrices, self._pointers
        plan[K.DIRECT], plan[K.BY_J] = cost, self._jacobian.cost
        plan[K.BLOCKS], plan[K.DEPOSITS] = self._blocks(), self._deposits()
        plan[K.KEPT_VALUES], plan[K.KEPT_PARTIALS] = self._kept()
        functions = [
            Slot(self, function, which)
            for function, which in zip(
                K.SLOTS_OF_GRAPHS,
                (
                    (K.FIELD,),
                    (K.LINEAR, K.BACK, K.JACOBI),
                    (K.TRAINED, K.GATHERED),
                    (K.LINEAR, K.JACOBI),
                    (K.LINEAR, K.OWN_PART),
                ),
                strict=True,
            )
        ]
        self.table = LazyTable(functions)  # type: ignore[arg-type]
        return Kernel(
            self.table.table,
            groups=self.groups.count,
            columns=self.groups.columns,
            index=self.groups.flat,
            extra=(plan.ctypes.data,),
            scratch=K.scratch_size(layout.values, partials, layout.cotangents, self._pointers),
            blas=True,
            keep=(self, self.table),
            divisible=True,
            moving=True,
        )

    @cached_property
    def _pointers(self) -> int:
        """Operands of the longest loop that there may be, second order included."""
        nodes = [node for node in self.graph.nodes if isinstance(node, Elementwise)]
        return max((2 * len(v.inputs) + len(v.outs) * (1 + len(v.inputs)) for v in nodes), default=1)

    def _blocks(self) -> int:
        """The table of affine rows (ctrnn.kernels.graph)."""
        layout, rows = self.layout, []
        for node in self.graph.nodes:
            if not isinstance(node, Stack) or not layout.trained_width(node):
                continue
            panels, row = self.groups.stacks[id(node)], 0
            base, at = layout.sources_at[id(node)]
            for out in node.outs:
                terms = layout.terms(node, out)
                mine = self._address(panels[row : row + out.size])
                index, width = layout.index_at(node, trained=True), layout.trained_width(node)
                index += 8 * row * width if index else 0
                rows.append([out.size, width, base, at, index, mine, self._address(terms), len(terms) // 3])
                row += out.size
        return self._address([len(rows), *(number for row in rows for number in row)])

    def _kept(self) -> tuple[int, int]:
        """How many values and partial derivatives, from the first on, hold sources and terms of trained rows."""
        layout, values, partials = self.layout, 0, 0
        for node in self.graph.nodes:
            if isinstance(node, Stack) and layout.trained_width(node):
                base, at = layout.sources_at[id(node)]
                values = max(values, at + node.width if base == G.V else 0)
                for out in node.outs:
                    places = [d for d in layout.terms(node, out)[::3] if d >= 0]
                    partials = max([partials, *(d + out.size for d in places)])
        return values, partials

    def _deposits(self) -> int:
        layout = self.layout
        rows: list[tuple[str, list[int]]] = []
        for node in self.graph.nodes:
            for v in node.inputs if not isinstance(node, Stack) else ():
                if v.is_weight and v.name in self.groups.single and v.name not in [name for name, _ in rows]:
                    panels = self.groups.single[v.name]
                    rows.append((v.name, [len(panels), layout.cotangent(v)[1], self._address(panels)]))
        return self._address([len(rows), *(number for _, row in rows for number in row)])

    # --- second order

    def second_kernel(self) -> SecondKernel:
        """JVP and SECOND; the kernel is made before."""
        layout, write = self.layout, self.writer
        plan = np.zeros(K2.PLAN_SIZE, dtype=np.int64)
        first, twice = write.back_twice()
        programs = {
            K2.LINEAR: write.values(lambda node, k, v: True, stacks=True),
            K2.TANGENTS: write.tangents(),
            K2.SLOPES: write.slopes_along(),
            K2.BACK: first,
            K2.TWICE: twice,
        }
        zeros = max((node.size for node in self.graph.nodes if isinstance(node, Elementwise)), default=0)
        sizes = (layout.values, zeros, layout.partials, layout.cotangents, layout.parameters, self._pointers)
        plan[: len(sizes)] = sizes
        plan[K2.EXECUTE] = G.execute.address
        plan[K2.BLOCKS], plan[K2.DEPOSITS] = self._blocks_of_second(), self._plan[K.DEPOSITS]
        for number, program in programs.items():
            code = self._encoded(program)
            plan[K2.PROGRAMS + 2 * number], plan[K2.PROGRAMS + 2 * number + 1] = code.ctypes.data, code.size
        jvp, second = K2.addresses()
        return SecondKernel(jvp, second, (plan.ctypes.data,), K2.scratch_size(*sizes), keep=(plan, self))

    def _blocks_of_second(self) -> int:
        layout, rows = self.layout, []
        for node in self.graph.nodes:
            if isinstance(node, Stack) and layout.trained_width(node):
                base, at = layout.sources_at[id(node)]
                if len(node.sources) == 1 and not node.has_one:
                    moved = layout.tangent(node.sources[0][0]) or (G.NONE, 0)
                else:
                    moved = (G.DV, at)
                panels = self._address(self.groups.stacks[id(node)])
                cotangent, index = layout.cotangent(node.outs[0])[1], layout.index_at(node, trained=True)
                rows.append([node.rows, layout.trained_width(node), base, at, *moved, cotangent, panels, index])
        return self._address([len(rows), *(number for row in rows for number in row)])

    def lanes_kernel(self) -> LanesKernel:
        """F of many members: the program of F, whose plan is in the kernel's ctx."""
        return LanesKernel(lanes.field.address, lanes.scratch_size(self.layout.values, self._pointers), keep=(self,))

    # --- the numbers

    def packed(self, numbers: Array) -> Array:
        """The kernel's w, of the numbers of all parameters, all constants, and one 0."""
        w = np.zeros(self.layout.weights)
        for offset, entries in self.layout.pack:
            w[offset : offset + entries.size] = numbers[entries]
        return w


class Slot:
    """A function of the table whose programs are written when its address is first asked for."""

    def __init__(self, code: ArrayCode, function: Lazy, which: tuple[int, ...]) -> None:
        self.code, self.function, self.which = code, function, which

    @property
    def address(self) -> int:
        """The address of the compiled function; it is made when first asked for."""
        self.code._install(self.which)
        return self.function.address


def _flops(step: tuple[Any, ...]) -> int:
    """What a step of the way back costs for one cotangent."""
    if step[0] == G.BACK:
        return int(2 * step[1] * step[4])
    if step[0] == G.BACK_LISTED:
        return int(2 * step[1] * step[2])
    if step[0] == G.CONTRACT:
        return int(2 * step[1] * step[2] * step[3])
    return int(PASS * step[1])
