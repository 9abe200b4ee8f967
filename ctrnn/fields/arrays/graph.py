"""The graph of a system of array equations, ready to be differentiated: as few nodes as there can be.

From the steps that the texts have made (ctrnn.fields.arrays.values):

    sums      W @ s + U @ x + b in one sum become one affine node; a product that is used elsewhere too stays by itself
    stacks    affine nodes of the same sources are one: the rows [Wz bz; Wg bg] under each other, [s; x; 1] read once
    levels    the formulas of one shape between one row of products and the next become one elementwise node, what only
              they use put in place; what a product or a later node uses is kept

Level of a formula: the largest of what it is made from; of a product: one more. A formula that grows beyond
MAX_OPERATIONS when others are put in its place begins a level of its own, so that a chain of definitions costs what its
text costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ctrnn.fields.algebra import ZERO, add, inside, substituted
from ctrnn.fields.algebra import Node as Expression
from ctrnn.fields.arrays.values import Affine, Builder, Formula, Gathered, Product, Sum, Value
from ctrnn.fields.derivatives import gradient

#: of a formula with those put in place that it uses
MAX_OPERATIONS = 300


@dataclass(eq=False)
class Elementwise:
    """outs_k = expressions_k, entry by entry, in the symbols of ``inputs``, all of one size."""

    outs: list[Value]
    expressions: list[Expression]
    inputs: tuple[Value, ...]
    size: int
    _partials: dict[int, dict[str, Expression]] = field(default_factory=dict)

    def partial(self, k: int, value: Value) -> Expression:
        """∂ expressions_k/∂ value."""
        if k not in self._partials:
            self._partials[k] = gradient(self.expressions[k], [v.name for v in self.inputs])
        return self._partials[k].get(value.name, ZERO)


@dataclass(eq=False)
class Stack:
    """[u_1; u_2; …] = Ŵ [s; 1] with the rows Ŵ given by where their entries lie among weights.

    ``width`` columns, the first ``trained`` of them trained.
    """

    outs: list[Value]
    sources: list[tuple[Value, int]]  # and the column at which each begins
    has_one: bool
    one: int  # its column
    entries: np.ndarray  # (rows, width)
    trained: int

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The values that it reads."""
        return tuple(s for s, _ in self.sources)

    @property
    def rows(self) -> int:
        """Rows of the stacked matrix."""
        return len(self.entries)

    @property
    def width(self) -> int:
        """Columns of the stacked matrix."""
        return self.entries.shape[1]


Node = Elementwise | Stack | Product | Sum


class Graph:
    """``nodes`` in the order of computation.

    ``outs``: the derivative of each state, a value that an elementwise node makes.

    builder : what the texts were read with; outputs : state -> value of its right-hand side
    is_trained : tells of entries of weights which of them are trained
    """

    def __init__(
        self,
        builder: Builder,
        outputs: Mapping[Value, Value],
        is_trained: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self.builder, self.is_trained = builder, is_trained
        self.states = tuple(outputs)
        # each right-hand side is a formula of the state's shape, be it a copy
        outs = {state: Value(f"d{state.name}/dt", state.shape, "made") for state in outputs}
        for state, value in outputs.items():
            symbol = builder.symbol(value)
            outs[state].step = Formula(outs[state], symbol, (value,))
        self.outs = outs
        live = _live(list(outs.values()))
        exchange = _fused(builder, live)
        for value in list(outs.values()):
            _exchanged(builder, value, exchange, set())
        live = _live(list(outs.values()))
        self._level(live)
        self._merge(live)
        self._order()

    # --- levels

    def _level(self, live: list[Value]) -> None:
        """The level of each value, and which formulas are put in their users' place."""
        self.level: dict[Value, int] = {}
        operations: dict[Value, int] = {}
        for value in live:
            step = value.step
            if step is None:
                self.level[value] = self.level[value.parent] if value.parent is not None else 0
            elif isinstance(step, Formula):
                level, count = 0, sum(node.op not in ("name", "number") for node in inside([step.expression]))
                for v in step.inputs:
                    spreads = v.size != value.size and v.kind not in ("state", "input", "time", "weight")
                    level = max(level, self.level[v] + spreads)
                near = [v for v in step.inputs if v in operations and v.size == value.size and self.level[v] == level]
                grown = count + sum(operations[v] for v in near)
                if near and grown > MAX_OPERATIONS:
                    level, grown = level + 1, count
                self.level[value], operations[value] = level, grown
            else:
                self.level[value] = 1 + max(self.level[v] for v in step.inputs)

    # --- elementwise nodes

    def _merge(self, live: list[Value]) -> None:
        build = self.builder
        formulas = [v for v in live if isinstance(v.step, Formula)]
        group = {v: (self.level[v], v.size) for v in formulas}
        # what is used from outside of its group is kept
        kept = set(self.outs.values())
        for value in live:
            for v in _sources(value):
                if v in group and group.get(value) != group[v]:
                    kept.add(v)
        whole: dict[Value, Any] = {}
        members: dict[tuple[int, int], list[Value]] = {}
        for value in formulas:
            changes = {}
            for v in value.step.inputs:
                if group.get(v) == group[value]:
                    changes[v.name] = whole[v]
                elif v.size != value.size:
                    changes[v.name] = build.symbol(build.spread(v, value.shape))
            whole[value] = substituted([value.step.expression], changes)[0]
            if value in kept:
                members.setdefault(group[value], []).append(value)
        self._elementwise = [
            Elementwise(outs, [whole[v] for v in outs], _inputs(build, [whole[v] for v in outs]), size)
            for (_, size), outs in members.items()
        ]

    # --- stacks, and the order

    def _order(self) -> None:
        makes: dict[Value, Any] = {v: node for node in self._elementwise for v in node.outs}
        # affine nodes that something uses, by their sources
        affine: dict[tuple[str, ...], list[Value]] = {}
        seen: set[Value] = set()

        def find(value: Value) -> None:
            stack = [value]
            while stack:
                v = stack.pop()
                if v in seen:
                    continue
                seen.add(v)
                if isinstance(v.step, Affine):
                    affine.setdefault(tuple(s.name for _, s in v.step.terms), []).append(v)
                stack += makes[v].inputs if v in makes else _sources(v)

        for value in self.outs.values():
            find(value)
        for values in affine.values():
            node = self._stack(sorted(values, key=lambda v: int(v.name[1:])))
            makes |= dict.fromkeys(values, node)
        for v in seen:
            if isinstance(v.step, Product | Sum):
                makes[v] = v.step
        self.nodes: list[Node] = []
        done: set[int] = set()

        def visit(value: Value) -> None:
            stack: list[tuple[Value, bool]] = [(value, False)]
            while stack:
                v, ready = stack.pop()
                node = makes.get(v)
                if node is None:
                    if v.parent is not None:
                        stack.append((v.parent, False))
                    continue
                if id(node) in done:
                    continue
                if ready:
                    done.add(id(node))
                    self.nodes.append(node)
                    continue
                stack.append((v, True))
                stack += [(s, False) for s in node.inputs]

        for value in self.outs.values():
            visit(value)

    def _stack(self, values: list[Value]) -> Stack:
        """One node of affine values with the same sources.

        Columns with trained entries first, those of constants last.
        """
        terms = values[0].step.terms
        has_one = any(v.step.biases for v in values)
        panels = []
        for j, (_, source) in enumerate(terms):
            entries = np.concatenate([v.step.terms[j][0].entries.reshape(v.size, source.size) for v in values])
            panels.append((source, entries))
        if has_one:
            biases = [v.step.biases[0].entries if v.step.biases else np.full(v.size, -1) for v in values]
            panels.append((None, np.concatenate(biases)[:, None]))
        trained = [(s, e) for s, e in panels if self.is_trained(e).any()]
        panels = trained + [(s, e) for s, e in panels if not self.is_trained(e).any()]
        sources, column, one = [], 0, -1
        for source, entries in panels:
            if source is None:
                one = column
            else:
                sources.append((source, column))
            column += entries.shape[1]
        width = sum(e.shape[1] for _, e in trained)
        return Stack(values, sources, has_one, one, np.concatenate([e for _, e in panels], axis=1), width)

    @cached_property
    def users(self) -> dict[Value, list[Node]]:
        """Which nodes read a value, or a part of it."""
        users: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for v in dict.fromkeys(node.inputs):
                users.setdefault(v, []).append(node)
                if v.parent is not None:
                    users.setdefault(v.parent, []).append(node)
        return users


def outs_of(node: Node) -> list[Value]:
    """The values that a node makes."""
    return node.outs if isinstance(node, Elementwise | Stack) else [node.out]


def _sources(value: Value) -> tuple[Value, ...]:
    """What a value is made from directly."""
    if value.step is None:
        return () if value.parent is None else (value.parent,)
    return tuple(value.step.inputs) + (tuple(value.step.biases) if isinstance(value.step, Affine) else ())


def _inputs(build: Builder, expressions: list[Any]) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(v for e in expressions for v in build.inputs_of(e)))


def _live(outs: list[Value]) -> list[Value]:
    """All values that the outputs are made from, each after what it is made from."""
    order: list[Value] = []
    done: set[Value] = set()
    stack = [(v, False) for v in reversed(outs)]
    while stack:
        value, ready = stack.pop()
        if value in done:
            continue
        if ready:
            done.add(value)
            order.append(value)
            continue
        stack.append((value, True))
        stack += [(v, False) for v in reversed(_sources(value))]
    return order


def _fused(build: Builder, live: list[Value]) -> dict[Value, Value]:
    """Sums of products as affine values: value -> what stands in its place."""
    users: dict[Value, int] = {}
    for value in live:
        for v in set(_sources(value)):
            users[v] = users.get(v, 0) + 1
    exchange: dict[Value, Value] = {}
    for value in live:
        step = value.step
        if isinstance(step, Product) and step.is_affine:
            A = build.turned(step.a) if step.a_turned else step.a
            exchange[value] = build.affine(((A, step.b),), (), value.shape)
        elif isinstance(step, Gathered):
            terms: list[tuple[Value, Value]] = []
            biases: list[Value] = []
            beside: list[Value] = []
            for v in step.addends:
                made = exchange.get(v, v)
                if v.is_weight:
                    biases.append(v)
                elif users[v] == 1 and isinstance(made.step, Affine):
                    terms += made.step.terms
                    biases += made.step.biases
                else:
                    beside.append(made)
            # two terms of one source, and more biases than one, are added up as formulas
            sources = [s for _, s in terms]
            again = [t for j, t in enumerate(terms) if t[1] in sources[:j]]
            terms = [t for j, t in enumerate(terms) if t[1] not in sources[:j]]
            beside += [build.affine((t,), (), value.shape) for t in again] + biases[1:]
            if terms:
                beside.append(build.affine(tuple(terms), tuple(biases[:1]), value.shape))
            else:
                beside += biases[:1]
            exchange[value] = build.formula(add(*(build.symbol(v) for v in beside)), value.shape)
    return exchange


def _exchanged(build: Builder, value: Value, exchange: Mapping[Value, Value], done: set[Value]) -> None:
    """Put what ``_fused`` has made in the place of what it was made from, in all steps behind ``value``."""

    def new(v: Value) -> Value:
        if v.parent is not None and v.parent in exchange:
            return build.part(exchange[v.parent], v.start, v.shape)
        return exchange.get(v, v)

    stack = [value]
    while stack:
        v = stack.pop()
        if v in done or v.step is None:
            if v.parent is not None:
                stack.append(v.parent)
            continue
        done.add(v)
        step = v.step
        if isinstance(step, Formula):
            changes = {i.name: build.symbol(new(i)) for i in step.inputs if new(i) is not i}
            if changes:
                step.expression = substituted([step.expression], changes)[0]
                step.inputs = build.inputs_of(step.expression)
        elif isinstance(step, Affine):
            step.terms = tuple((A, new(s)) for A, s in step.terms)
        elif isinstance(step, Product):
            step.a, step.b = new(step.a), new(step.b)
        elif isinstance(step, Sum):
            step.a = new(step.a)
        stack += _sources(v)
