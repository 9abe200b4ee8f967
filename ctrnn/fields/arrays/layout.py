"""Where everything of a graph lies.

That is its values, partial derivatives, cotangents and weights, and the parameters in P = dr/dw.

    V    a stack keeps its sources [s; 1] side by side, made in place where it is the first to want them; then its
         rows u
    D    one array a partial derivative of an elementwise node that is neither 0 nor 1
    C    cotangents of the values that nodes make; a stack's lie together
    W    the rows of each stack, whole or as lists of the weights that exist, then the weights of other nodes, a scalar
         as often as its node has entries
    P    of weights of other nodes, a scalar once

Groups and columns (ctrnn.kernels.abi): a group is as wide as the widest row of a stack; narrower rows and single
parameters lie beside each other in groups of their own, those of independent parts in different ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ctrnn.fields.algebra import ONE, ZERO
from ctrnn.fields.arrays.graph import Elementwise, Graph, Stack, outs_of
from ctrnn.fields.arrays.values import Value
from ctrnn.kernels import graph_steps as G

Ref = tuple[int, int]

#: numbers in a line of the cache
LINE = 8

#: rows of a stack are kept as lists where none has more than this share of the weights that some rows lack
LISTED_BELOW = 0.1


@dataclass(frozen=True)
class Lists:
    """A stack's rows as lists: the source of each weight, the trained ones first, filled up with the first source.

    index, entries : (rows, width)
    trained : how many columns
    """

    index: np.ndarray
    entries: np.ndarray
    trained: int
    #: the index of the trained columns alone
    trained_index: np.ndarray


def lists_of(node: Stack, is_trained: np.ndarray, exists: np.ndarray, nothing: int) -> Lists | None:
    """The lists of a stack most of whose weights do not exist; None where its rows are stored whole.

    ``nothing``: the entry that is 0.
    """
    held = exists[node.entries]
    some = ~held.all(axis=0)
    if not some.any() or held[:, some].sum(axis=1).max() > LISTED_BELOW * some.sum():
        return None
    which = is_trained[node.entries] & held
    parts = []
    for chosen in (which, held & ~which):
        count = chosen.sum(axis=1)
        place = np.argsort(~chosen, axis=1, kind="stable")[:, : int(count.max(initial=0))]
        real = np.arange(place.shape[1]) < count[:, None]
        entries = np.where(real, np.take_along_axis(node.entries, place, axis=1), nothing)
        parts.append((np.where(real, place, 0), entries))
    index, entries = (np.ascontiguousarray(np.concatenate(pair, axis=1)) for pair in zip(*parts, strict=True))
    first = np.ascontiguousarray(parts[0][0])
    return Lists(index, entries, first.shape[1], first)


class Layout:
    """Where each part of a graph lies.

    trained : which entries of weights are trained, by number, −1 for those that are not
    exists : which entries of weights can be other than 0, the last of which is 0; None: all, nothing is listed
    """

    def __init__(
        self, graph: Graph, trained: Callable[[np.ndarray], np.ndarray], exists: np.ndarray | None = None
    ) -> None:
        self.graph, self.trained = graph, trained
        #: of the stacks whose rows are lists
        self.lists: dict[int, Lists] = {}
        self._nothing = -1 if exists is None else exists.size - 1
        if exists is not None and not exists[:-1].all():
            every = trained(np.arange(exists.size)) >= 0
            found = {id(v): lists_of(v, every, exists, exists.size - 1) for v in graph.nodes if isinstance(v, Stack)}
            self.lists = {key: lists for key, lists in found.items() if lists is not None}
        self.values = self.partials = self.cotangents = self.weights = self.parameters = 0
        self.follows_state: set[Value] = set()
        self.follows_weights: set[Value] = set()
        self._ref: dict[Value, Ref] = {}
        self._cot: dict[Value, int] = {}
        self._partial: dict[tuple[int, int, str], Ref | None] = {}
        self._panel: dict[str, int] = {}
        #: of stacks: offset in W, where the sources lie, offset of the sources in V (−1: they lie in another place), of
        #: the rows
        self.rows_at: dict[int, int] = {}
        self.sources_at: dict[int, Ref] = {}
        self.pack: list[tuple[int, np.ndarray]] = []  # offset in W, entries
        self._follow()
        self._place()

    # --- what depends on what

    def _follow(self) -> None:
        graph = self.graph
        self.follows_state |= set(graph.states)
        for node in graph.nodes:
            if isinstance(node, Elementwise):
                for k, out in enumerate(node.outs):
                    used = [v for v in node.inputs if not self.is_zero(node, k, v)]
                    self._note(out, used)
            else:
                for out in outs_of(node):
                    self._note(out, list(node.inputs))
                    if isinstance(node, Stack) and node.trained:
                        self.follows_weights.add(out)

    def _note(self, out: Value, used: list[Value]) -> None:
        if any(self.of_state(v) for v in used):
            self.follows_state.add(out)
        if any(self.of_weights(v) for v in used):
            self.follows_weights.add(out)

    def of_state(self, v: Value) -> bool:
        """Whether a value depends on the state."""
        return (v.parent or v) in self.follows_state

    def of_weights(self, v: Value) -> bool:
        """Whether a value is, or is made from, something that is trained."""
        if v.entries is not None:
            return bool((self.trained(v.entries) >= 0).any())
        return (v.parent or v) in self.follows_weights

    def is_zero(self, node: Elementwise, k: int, v: Value) -> bool:
        """Whether the partial derivative of output k by a value vanishes identically."""
        return node.partial(k, v) is ZERO

    # --- places

    def _place(self) -> None:
        start = 0
        for state in self.graph.states:
            self._ref[self.graph.outs[state]] = (G.OUT, start)
            start += state.size
        self.n = start
        for node in self.graph.nodes:
            if isinstance(node, Stack):
                entries, width = self.entries(node), self.width(node)
                if width > entries.shape[1]:
                    self.weights = _aligned(self.weights, width)
                    filling = np.full((node.rows, width - entries.shape[1]), self._nothing)
                    entries = np.concatenate([entries, filling], axis=1)
                self.rows_at[id(node)] = self.weights
                self.pack.append((self.weights, entries.ravel()))
                self.weights += entries.size
                if len(node.sources) == 1 and not node.has_one:
                    continue
                at = self._value(node.width)
                self.sources_at[id(node)] = (G.V, at)
                for source, column in node.sources:
                    # what a node makes is made where it is wanted first
                    if source not in self._ref and source.kind == "made":
                        self._ref[source] = (G.V, at + column)
        for node in self.graph.nodes:
            if isinstance(node, Stack) and node.trained and not self.keeps_cotangent(node):
                # what ACCUMULATE keeps of every stage comes first
                for out in node.outs:
                    for user in self.graph.users.get(out, ()):
                        for k in range(len(user.outs)):  # type: ignore[union-attr]
                            self._slope(user, k, out)  # type: ignore[arg-type]
        for node in self.graph.nodes:
            if isinstance(node, Stack):
                at = self._value(node.rows)
                cot = self._cotangent(node.rows)
                for out in node.outs:
                    self._ref[out], self._cot[out] = (G.V, at), cot
                    at, cot = at + out.size, cot + out.size
                continue
            for out in outs_of(node):
                if out not in self._ref:
                    self._ref[out] = (G.V, self._value(out.size))
                self._cot[out] = self._cotangent(out.size) if self._ref[out][0] != G.OUT else -1
            for v in node.inputs:
                if v.is_weight and v not in self._ref:
                    self._ref[v] = (G.W, self.weights)
                    self.pack.append((self.weights, _entries(v)))
                    self.weights += v.size
            if isinstance(node, Elementwise):
                for k in range(len(node.outs)):
                    for v in node.inputs:
                        self._slope(node, k, v)
        for node in self.graph.nodes:
            if isinstance(node, Stack) and id(node) not in self.sources_at:
                self.sources_at[id(node)] = self.ref(node.sources[0][0])

    def _value(self, size: int) -> int:
        at = _aligned(self.values, size)
        self.values = at + size
        return at

    def _cotangent(self, size: int) -> int:
        self.cotangents += size
        return self.cotangents - size

    def _slope(self, node: Elementwise, k: int, v: Value) -> None:
        known = (id(node), k, v.name) in self._partial
        if known or self.is_zero(node, k, v) or not (self.of_state(v) or self.of_weights(v)):
            return
        slope = node.partial(k, v)
        if slope is ZERO:
            return
        if slope is ONE:
            self._partial[id(node), k, v.name] = None
            return
        at = _aligned(self.partials, node.size)
        self._partial[id(node), k, v.name] = (G.D, at)
        self.partials = at + node.size

    def ref(self, v: Value) -> Ref:
        """Where a value lies."""
        if v.parent is not None:
            base, offset = self.ref(v.parent)
            return base, offset + v.start
        if v.kind == "state":
            return G.R, v.start
        if v.kind == "input":
            return G.X, v.start
        if v.kind == "time":
            return G.T, 0
        return self._ref[v]

    def tangent(self, v: Value) -> Ref | None:
        """Where δ of a value lies; None where it is 0."""
        if not (self.of_state(v) or self.of_weights(v)):
            return None
        base, offset = self.ref(v)
        return {G.R: G.DR, G.W: G.DW, G.V: G.DV, G.OUT: G.OUT}[base], offset

    def cotangent(self, v: Value) -> Ref:
        """Where the cotangent of a value lies; of a weight, where it gathers."""
        if v.parent is not None:
            base, offset = self.cotangent(v.parent)
            return base, offset + v.start
        if v.kind == "state":
            return G.RR, v.start
        if v.is_weight:
            return G.P, self._gathers(v)
        base, offset = self.ref(v)
        return (G.K, offset) if base == G.OUT else (G.C, self._cot[v])

    def is_one_number(self, v: Value) -> bool:
        """Whether all entries of a weight are one scalar."""
        return v.size > 1 and bool((_entries(v) == _entries(v)[0]).all())

    def _gathers(self, v: Value) -> int:
        if v.name not in self._panel:
            self._panel[v.name] = self.parameters
            self.parameters += 1 if self.is_one_number(v) else v.size
        return self._panel[v.name]

    def slope(self, node: Elementwise, k: int, v: Value) -> Ref | None | Literal[False]:
        """Where ∂ out_k/∂ v lies; None where it is 1, False where it is 0."""
        return self._partial.get((id(node), k, v.name), False)

    # --- stacks

    def entries(self, node: Stack) -> np.ndarray:
        """The entries of a stack's rows as they lie (rows, width)."""
        return self.lists[id(node)].entries if id(node) in self.lists else node.entries

    def width(self, node: Stack) -> int:
        """Numbers from one row of a stack to the next: long ones begin at a line of the cache."""
        width = int(self.entries(node).shape[1])
        whole = id(node) not in self.lists and width >= 4 * LINE
        return _aligned(width, width) if whole and self._nothing >= 0 else width

    def trained_width(self, node: Stack) -> int:
        """Those that are trained, which come first."""
        return self.lists[id(node)].trained if id(node) in self.lists else node.trained

    def bias_is_last(self, node: Stack) -> int:
        """1 where the weights of the 1 behind the sources are the last column, which is added and not multiplied."""
        return int(node.has_one and id(node) not in self.lists and node.one == node.width - 1)

    def index_at(self, node: Stack, trained: bool = False) -> int:
        """The address of the sources of a stack's weights, or of its trained ones; 0 where they are all."""
        if id(node) not in self.lists:
            return 0
        lists = self.lists[id(node)]
        return int((lists.trained_index if trained else lists.index).ctypes.data)

    def keeps_cotangent(self, node: Stack) -> bool:
        """Whether a stack's cotangent must be stored on the way to the parameters: it is not only a sum for panels."""
        if any(self.of_weights(s) for s in node.inputs):
            return True
        return any(
            not isinstance(user, Elementwise) or out not in user.inputs
            for out in node.outs
            for user in self.graph.users.get(out, ())
        )

    def terms(self, node: Stack, out: Value) -> list[int]:
        """u̅ as Σ d k: offset of d or −1, base and offset of k."""
        if self.keeps_cotangent(node):
            return [-1, *self.cotangent(out)]
        terms = []
        for user in self.graph.users.get(out, ()):
            assert isinstance(user, Elementwise)
            for k, v in enumerate(user.outs):
                slope = self.slope(user, k, out)
                if slope is not False:
                    terms += [-1 if slope is None else slope[1], *self.cotangent(v)]
        return terms

    # --- groups and columns

    def groups(self, part_of_entry: np.ndarray | None = None) -> Groups:
        """How the parameters lie for a kernel."""
        return Groups(self, part_of_entry)


def _aligned(at: int, size: int) -> int:
    """Where so many numbers begin, from ``at`` on: many of them at a line of the cache."""
    return at if size < LINE else -(-at // LINE) * LINE


def _entries(v: Value) -> np.ndarray:
    assert v.entries is not None
    return v.entries


class Groups:
    """The rows of all stacks and all other parameters in the rectangle (groups, columns).

    stacks : of each stack with trained columns, (rows, 2) group and column
    single : of each weight of another node, the same, −1 where an entry is not trained
    index : (groups, columns) which parameter each is, −1 for none
    """

    def __init__(self, layout: Layout, part_of_entry: np.ndarray | None) -> None:
        self.index: list[np.ndarray] = []
        self.stacks: dict[int, np.ndarray] = {}
        self.single: dict[str, np.ndarray] = {}
        self.parts: list[int] = []
        graph, trained = layout.graph, layout.trained
        stacks = [node for node in graph.nodes if isinstance(node, Stack) and layout.trained_width(node)]
        self.columns = max((layout.trained_width(node) for node in stacks), default=1)
        self._column = self.columns

        def part(entries: np.ndarray) -> int:
            found = entries[entries >= 0]
            return int(part_of_entry[found[0]]) if part_of_entry is not None and found.size else 0

        for node in sorted(stacks, key=lambda node: -layout.trained_width(node)):
            self._column = self.columns
            places = []
            for row in layout.entries(node)[:, : layout.trained_width(node)]:
                entries = trained(row)
                places.append(self._put(entries, part(entries)))
            self.stacks[id(node)] = np.array(places, dtype=np.int64)
        weights = {
            v.name: v
            for node in graph.nodes
            if not isinstance(node, Stack)
            for v in node.inputs
            if v.is_weight and layout.of_weights(v)
        }
        for name, v in weights.items():
            layout.cotangent(v)  # gives it its place
            entries = trained(_entries(v)[:1] if layout.is_one_number(v) else _entries(v))
            self.single[name] = np.full((entries.size, 2), -1, dtype=np.int64)
            for i in np.flatnonzero(entries >= 0):
                self.single[name][i] = self._put(entries[i : i + 1], part(entries[i : i + 1]))
        self.count = len(self.index)
        self.flat: Any = np.concatenate(self.index) if self.index else np.full(0, -1)

    def _put(self, entries: np.ndarray, part: int) -> tuple[int, int]:
        if self._column + entries.size > self.columns or self.parts[-1] != part:
            self.index.append(np.full(self.columns, -1, dtype=np.int64))
            self.parts.append(part)
            self._column = 0
        column = self._column
        self.index[-1][column : column + entries.size] = entries
        self._column += entries.size
        return len(self.index) - 1, column
