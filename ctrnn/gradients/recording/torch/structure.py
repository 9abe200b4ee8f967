"""What the graph of array equations gives to the way back on a device.

Its trained weights are to be one elementwise map from the outputs: u = Ŵ s with s made from the state and the input,
F = G(z, u, θ). Then their cotangents are sums Σ d ∘ K over outputs, d partial derivatives, and need no working space.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ctrnn.fields.arrays.graph import Elementwise, Stack
from ctrnn.fields.arrays.layout import Layout
from ctrnn.fields.arrays.torch_graph import Weights
from ctrnn.fields.arrays.values import Value
from ctrnn.fields.base import Array, Field
from ctrnn.kernels import graph_steps


class Term(NamedTuple):
    """A part d ∘ K of a cotangent: the partial derivative d of an output, whose cotangents begin at ``start`` of K."""

    key: tuple[int, int, str]
    start: int


class Trained(NamedTuple):
    """A set of rows of weights, or of single ones, and how their gradient is made.

    terms : their cotangents as sums; sources : what they multiply, and a 1 behind if ``one``; none of single ones
    numbers : (rows, width) which parameter each is, −1 for none
    """

    terms: list[Term]
    sources: list[Value]
    one: bool
    numbers: Array


def trained_of(layout: Layout) -> list[Trained] | None:
    """All weights of a graph; None where they are not one elementwise map from the outputs."""
    if any(v.parent is not None and v.parent.kind == "made" for node in layout.graph.nodes for v in node.inputs):
        return None  # a part of what a node makes
    found: list[Trained] = []
    singles: dict[str, Value] = {}
    for node in layout.graph.nodes:
        if isinstance(node, Elementwise):
            singles |= {v.name: v for v in node.inputs if v.is_weight and layout.of_weights(v)}
        elif not isinstance(node, Stack) or (node.trained and layout.keeps_cotangent(node)):
            return None
        elif node.trained:
            panels = [s for s, column in node.sources if column < node.trained]
            one, row = node.has_one and node.one < node.trained, 0
            for out in node.outs:
                terms, its = _terms(layout, out), node.entries[row : row + out.size, : node.trained]
                if terms is None:
                    return None
                found.append(Trained(terms, panels, one, layout.trained(its)))
                row += out.size
    for v in singles.values():
        terms, entries = _terms(layout, v), v.entries
        if terms is None or entries is None:
            return None
        found.append(Trained(terms, [], False, layout.trained(entries)[:, None]))
    return found


def _terms(layout: Layout, v: Value) -> list[Term] | None:
    """The cotangent of a value as a sum over outputs; None where it is something else."""
    found = []
    for user in layout.graph.users.get(v, ()):
        if not isinstance(user, Elementwise):
            return None
        for k, out in enumerate(user.outs):
            if layout.slope(user, k, v) is not False:
                base, start = layout.ref(out)
                if base != graph_steps.OUT:
                    return None
                found.append(Term((id(user), k, v.name), start))
    return found


def graph_of(field: Field) -> Any:
    """The graph of a field, if its weights are one elementwise map from the outputs."""
    arrays = field._graph
    return None if arrays is None or trained_of(arrays.code.layout) is None else arrays


class Size(NamedTuple):
    """What a field takes on a device, in numbers.

    n : states; rows : (rows, width) of each set of weights; kept : of a stage of a trial, beside its state and input
    inputs : channels; weights : m
    """

    n: int
    rows: tuple[tuple[int, int], ...]
    kept: int
    inputs: int
    weights: int

    @property
    def entries(self) -> int:
        """In a row of P."""
        return sum(rows * width for rows, width in self.rows)


def size_of(field: Field) -> Size | None:
    """The numbers that a field takes, if they can be counted."""
    arrays = graph_of(field)
    if arrays is None:
        return None
    layout = arrays.code.layout
    sets = trained_of(layout) or []
    sources = {v for one in sets for v in one.sources}
    kept = sum(one.numbers.shape[1] for one in sets if one.sources)
    kept += sum(v.size for v in sources) + layout.partials + 3 * field.n
    return Size(field.n, tuple(one.numbers.shape for one in sets), kept, field.input_size, field.m)


class Step(NamedTuple):
    """A part of a cotangent: d ∘ k (``key`` tells which d), Wᵀ k, or k itself.

    of, to : which of the cotangents of made values, or where it lies in those of the outputs, of the states
    begins : whether it is the first one there
    """

    of: int | slice
    key: tuple[int, int, str] | None
    W: Any
    to: int | slice
    begins: bool


class Back(NamedTuple):
    """The way of cotangents from the outputs to the states, how many values they pass, and which states begin at 0."""

    steps: list[Step]
    values: int
    zeros: list[slice]


def back_of(layout: Layout, weights: Weights) -> Back:
    """The steps of a graph that is elementwise but for products with weights."""
    graph, steps = layout.graph, []
    number: dict[Value, int] = {}
    used = {v for node in graph.nodes for v in node.inputs}
    # those that are read in parts, and those that nobody reads
    begun = {v for v in graph.states if v not in used} | {v.parent for v in used if v.parent is not None}
    zeros = [slice(v.start, v.start + v.size) for v in graph.states if v in begun]

    def put(of: Any, key: Any, W: Any, v: Value) -> None:
        owner = v.parent or v
        if owner.kind == "state":
            place = owner.start + (v.start if v.parent is not None else 0)
            to: Any = slice(place, place + v.size)
        else:
            to = number.setdefault(v, len(number))
        steps.append(Step(of, key, W, to, owner not in begun))
        begun.add(owner)

    for node in reversed(graph.nodes):
        for k, value in enumerate(node.outs):  # type: ignore[union-attr]
            base, start = layout.ref(value)
            of: Any = slice(start, start + value.size) if base == graph_steps.OUT else number.get(value)
            if of is None:
                continue
            if isinstance(node, Stack):
                for A, s in value.step.terms:
                    if layout.of_state(s):
                        put(of, None, weights.matrix(A, A.shape), s)
                continue
            for v in node.inputs:
                slope = layout.slope(node, k, v)  # type: ignore[arg-type]  # there is nothing else here
                if slope is not False and layout.of_state(v):
                    put(of, None if slope is None else (id(node), k, v.name), None, v)
    return Back(steps, len(number), zeros)


def times(k: Any, W: Any) -> Any:
    """Wᵀ k, of k (B, rows, q)."""
    return (k[..., 0] @ W)[..., None] if k.shape[-1] == 1 else W.mT @ k
