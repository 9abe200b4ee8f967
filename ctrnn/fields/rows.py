"""F of many rows at once, and its pullback: q trials go through the same fixed steps of an explicit method together.

A ``RowsKernel`` is what a field declares (``Field._rows_kernel``) so that its trials can run in lockstep. Here is the
one of dense rate networks, over the compiled loops of ctrnn.kernels.batch.network_batch (which has the formulas), and
the drive around them:

    D = X̂ [U b]ᵀ, X̂ = [X 1]         [Ū b̄] += D̄ᵀ X̂,    X̄ = D̄ U

Trials are divided into parts of a few, and the parts among threads; sums over parts are taken in their order, whoever
was quicker. No BLAS takes part, so that a trial's states and λ are the same in any company, and nothing is to be said
to its threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ctrnn.fields.cells import Cell
from ctrnn.kernels.batch import network_batch, rows_steps
from ctrnn.kernels.batch.network_batch import Scheme, Steps
from ctrnn.kernels.batch.tiles import multiply_add, padded, product, transposed_product
from ctrnn.scratch import scratch_arena
from ctrnn.threads import run_parallel, workers

Array = np.ndarray

#: flops below which a second thread costs more than it saves
WORTH_THREADS = 3e6
#: flops of a unit apart from products, most of them in φ
UNIT_FLOPS = 60
#: the trials that go together: as many as a tile has rows, more where they are small; and no more parts than that, as
#: each has a W̄ of its own
PART_TRIALS, PART_NUMBERS, MOST_PARTS = 4, 128, 32
#: rows of the products that make W̄
PANEL_ROWS = 128


class NetworkForm(NamedTuple):
    """What a field declares that is dz/dt = G(z, u, θ), u = W h(z) + U x + b.

    It has one state, one pre-activation and one θ a unit.
    """

    cell: Cell
    trains_theta: bool


class Weights(NamedTuple):
    """The numbers of a network: W (n, n), [U b] (n, inputs + 1), theta (n,)."""

    W: Array
    drive: Array
    theta: Array


@dataclass
class Part:
    """The trials that go together, from ``first`` to ``last``, with their inputs.

    kept : arrays of which the way back is made, in an order of the field's own
    """

    first: int
    last: int
    X: Array
    kept: tuple[Array, ...]

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""
        return sum(array.nbytes for array in self.kept)


@dataclass
class Cotangents:
    """What has come back so far of the parameters, in forms of the field's own.

    And X̄ of the last steps, (rows, B, ·), if it was asked for.
    """

    parameters: list[Array]
    X: Array | None = None


class RowsKernel(ABC):
    """How a field takes many rows of states at once.

    Rows are filled up to ``width`` numbers; an explicit method is its a (s, s) and b (s,).
    """

    @abstractmethod
    def width(self, n: int) -> int:
        """Numbers in a row of n states."""

    @abstractmethod
    def kept(self, n: int) -> int:
        """Numbers that a stage of one row keeps for the way back, at most."""

    @property
    @abstractmethod
    def keeps_u(self) -> bool:
        """Whether a stage keeps its pre-activations for the way back, besides its states."""

    @abstractmethod
    def bind(self, field: Any, method: tuple[Array, Array]) -> Rows:
        """With a field's numbers, for a method."""


class Rows(ABC):
    """A field's rows with their numbers, through the steps of a method."""

    n: int
    width: int

    @abstractmethod
    def inputs(self, x: Array) -> Array:
        """x (rows, B or 1, inputs) as ``forward`` takes it."""

    @abstractmethod
    def forward(
        self, steps: Steps, t: Array, X: Array, r: Array, states: Array, keep: bool,
        take: Callable[..., Array] | None = None,
    ) -> list[Part]:  # fmt: skip
        """Take r (B, width) through the steps, in place.

        ``states`` (count, B, width) receives those that the steps mark.

        t (C, s) at the stages; X (rows, B or 1, ·) as of ``inputs``. Returns the parts, which keep what ``backward``
        needs if they are to; ``take`` gives the arrays for that.
        """

    @abstractmethod
    def backward(
        self, steps: Steps, parts: list[Part], jumps: Array, sources: Array, lam: Array, bars: Cotangents,
        x_wanted: bool = False,
    ) -> None:  # fmt: skip
        """Take λ (B, width) back to the start of the steps, in place; adds to ``bars``.

        jumps (count, B, width) at the ends that the steps mark, sources (C or 0, s, B, width) at the stages.
        """

    @abstractmethod
    def zero_cotangents(self, B: int) -> Cotangents:
        """Nothing has come back yet."""

    @abstractmethod
    def vector(self, cotangents: Cotangents) -> Array:
        """The flat gradient (m,) of what has come back."""

    @abstractmethod
    def stages(self, parts: list[Part]) -> Array:
        """The states of all stages (B, C, s, n)."""


@dataclass(frozen=True)
class NetworkRows(RowsKernel):
    """Of cells of one state, one pre-activation and one θ a unit; ``trains_theta``: whether θ̄ is wanted."""

    cell: Cell
    trains_theta: bool = False

    def width(self, n: int) -> int:
        """Numbers in a row of n states."""
        return padded(n)

    def kept(self, n: int) -> int:
        """Numbers that one stage of one row keeps."""
        return 2 * padded(n)

    @property
    def keeps_u(self) -> bool:
        """Whether a stage keeps its pre-activations for the way back, besides its states."""
        return self.trains_theta or bool(self.cell.module.NEEDS_U)

    def bind(self, field: Any, method: tuple[Array, Array]) -> Network:
        """With a field's numbers, for a method."""
        made = self.cell.module
        by_theta = made.by_theta.address if self.trains_theta else 0
        a, b = method
        scheme = Scheme(
            made.source.address, made.rate.address, made.partials.address, by_theta, multiply_add.address, a, b
        )
        return Network(field, scheme, self.keeps_u)


class Network(Rows):
    """A rate network and a method, filled up for the kernels."""

    def __init__(self, field: Any, scheme: Scheme, keeps_u: bool) -> None:
        W, drive, theta = field._network_weights()
        self._field, self.scheme, self.keeps_u = field, scheme, keeps_u
        self.n, self._columns = len(W), drive.shape[1]
        self.width = wide = padded(self.n)
        self.W, self.WT, self.driveT = _filled(W, wide), _filled(W.T, wide), _filled(drive.T, wide)
        self.drive, self.theta = _filled(drive, padded(drive.shape[1])), _filled(theta, wide, 1.0)

    def flops(self, steps: Steps, B: int) -> float:
        """Flops of some steps of B rows."""
        return steps.row.size * B * self.width * (2.0 * self.n + UNIT_FLOPS)

    def inputs(self, x: Array) -> Array:
        """X̂ = [x 1], filled up."""
        return extended(x)

    def zero_cotangents(self, B: int) -> Cotangents:
        """W̄ (n, width), [Ū b̄] (n, ·) and θ̄ (B, width)."""
        n, width = self.n, self.width
        return Cotangents([np.zeros((n, width)), np.zeros((n, self.drive.shape[1])), np.zeros((B, width))])

    def vector(self, cotangents: Cotangents) -> Array:
        """The parameter part, in the order of the field's parameters (m,)."""
        W, drive, theta = cotangents.parameters
        n, columns = self.n, self._columns
        found: Array = self._field._network_gradient(W[:, :n], drive[:, :columns], theta[:, :n].sum(axis=0))
        return found

    def stages(self, parts: list[Part]) -> Array:
        """The states of all stages (B, C, s, n)."""
        each = [part.kept[0].reshape(*part.kept[0].shape[:2], -1, self.width) for part in parts]
        return np.concatenate(each, axis=2)[..., : self.n].transpose(2, 0, 1, 3)

    def forward(
        self, steps: Steps, t: Array, X: Array, r: Array, states: Array, keep: bool,
        take: Callable[..., Array] | None = None,
    ) -> list[Part]:  # fmt: skip
        """Take r (B, width) through the steps, in place."""
        take = _empty if take is None else take
        B, width = r.shape
        (C, s), address = steps.row.shape, self.scheme.multiply_add
        kept = C if keep else 1
        kept_u = kept if self.keeps_u else 1
        # one large array each: the system gives large ones in large pages
        Z, U = take(kept * s * B * width), take(kept_u * s * B * width)
        parts = []
        for first, last in pairwise(part_edges(B, self.n)):
            mine = np.ascontiguousarray(X[:, first:last]) if X.shape[1] > 1 else X
            N = (last - first) * width
            pieces = _piece(Z, first * width, kept, s, N), _piece(U, first * width, kept_u, s, N)
            parts.append(Part(first, last, mine, pieces))

        def run(part: Part) -> None:
            q = part.last - part.first
            N, R = q * width, r[part.first : part.last].reshape(-1)
            with scratch_arena() as scratch:
                D = scratch.zeros(*part.X.shape[:2], width)
                product(address, _rows(part.X), self.driveT, _rows(D))
                theta = np.tile(self.theta, q)
                network_batch.forward(
                    self.scheme,
                    steps,
                    self.WT,
                    theta,
                    D,
                    part.first,
                    R,
                    *part.kept,
                    scratch(s, N),
                    scratch(N),
                    states,
                )

        in_threads(run, parts, self.flops(steps, B))
        return parts

    def backward(
        self, steps: Steps, parts: list[Part], jumps: Array, sources: Array, lam: Array, bars: Cotangents,
        x_wanted: bool = False,
    ) -> None:  # fmt: skip
        """Take λ (B, width) back to the start of the steps, in place; adds to ``bars``."""
        B, width = lam.shape
        (C, s), n, address = steps.row.shape, self.n, self.scheme.multiply_add
        W_all, drive_all, theta_all = bars.parameters
        found: list[tuple[Array, Array, Array | None]] = [None] * len(parts)  # type: ignore[list-item]

        def run(i: int) -> None:
            part = parts[i]
            q = part.last - part.first
            N = q * width
            stages = max(1, min(PANEL_ROWS // q, C * s))
            W_bar, drive_bar, X_bar = np.zeros((n, width)), np.zeros_like(drive_all), None
            here = slice(part.first, part.last)
            with scratch_arena() as scratch:
                D_bar, theta = scratch(*part.X.shape[:2], width), np.tile(self.theta, q)
                network_batch.backward(
                    self.scheme, steps, self.W, theta, *part.kept, jumps, sources, part.first, lam[here].reshape(-1),
                    W_bar, D_bar, theta_all[here].reshape(-1), scratch(s, N), scratch(4, N), scratch(2, stages, N),
                )  # fmt: skip
                transposed_product(address, _rows(D_bar), _rows(part.X), drive_bar)
                if x_wanted:
                    X_bar = np.zeros_like(part.X)
                    product(address, _rows(D_bar), self.drive, _rows(X_bar))
            found[i] = W_bar, drive_bar, X_bar

        in_threads(run, range(len(parts)), 2.0 * self.flops(steps, B))
        for W_bar, drive_bar, _ in found:
            W_all += W_bar
            drive_all += drive_bar
        if x_wanted:
            bars.X = np.concatenate([X_bar for _, _, X_bar in found if X_bar is not None], axis=1)


@dataclass(frozen=True)
class SlotRows(RowsKernel):
    """Of any field that declares F_ROWS, VJP_ROWS and ACCUMULATE_ROWS (``Field.row_slots``)."""

    slots: Any

    def width(self, n: int) -> int:
        """Numbers in a row, as the loops lay it."""
        return int(self.slots.width)

    def kept(self, n: int) -> int:
        """Numbers that one stage of one row keeps."""
        return int(self.slots.width + self.slots.tape(1, 1))

    @property
    def keeps_u(self) -> bool:
        """Whether a stage keeps more than its states for the way back."""
        return True

    def bind(self, field: Any, method: tuple[Array, Array]) -> SlotField:
        """The loops with a field's numbers and a method's coefficients."""
        return SlotField(field, self.slots, method)


class SlotField(Rows):
    """A field with row slots, and a method: a loop over the stages of B rows (ctrnn.kernels.batch.rows_steps)."""

    def __init__(self, field: Any, slots: Any, method: tuple[Array, Array]) -> None:
        self._entries, self._channels, self._m = field.rows_entries, field.input_size, field.m
        self._slots, self._method, self.n, self.width = slots, method, field.n, int(slots.width)

    def inputs(self, x: Array) -> Array:
        """As they are."""
        return np.ascontiguousarray(x)

    def zero_cotangents(self, B: int) -> Cotangents:
        """The flat gradient (m,)."""
        return Cotangents([np.zeros(self._m)])

    def vector(self, cotangents: Cotangents) -> Array:
        """The parameter part, in the order of the field's parameters (m,)."""
        return cotangents.parameters[0]

    def stages(self, parts: list[Part]) -> Array:
        """The states at the stages (C, s, B, n)."""
        return np.concatenate([part.kept[1] for part in parts], axis=2)[..., : self.n].transpose(2, 0, 1, 3)

    def _flops(self, steps: Steps, B: int) -> float:
        return steps.row.size * B * (2.0 * self._entries.size + UNIT_FLOPS * self.n)

    def forward(
        self, steps: Steps, t: Array, X: Array, r: Array, states: Array, keep: bool,
        take: Callable[..., Array] | None = None,
    ) -> list[Part]:  # fmt: skip
        """B rows through some steps; ``states`` receives those that are asked for."""
        (a, b), slots, (C, s), wide = self._method, self._slots, steps.row.shape, self.width
        parts = []
        for first, last in pairwise(part_edges(len(r), self.n)):
            q = last - first
            mine = np.ascontiguousarray(X[:, first:last]) if X.shape[1] > 1 else X
            parts.append(Part(first, last, mine, (np.empty(slots.tape(q, C * s)), np.empty((C, s, q, wide)))))

        def run(part: Part) -> None:
            q = part.last - part.first
            N, tape = q * wide, part.kept[0]
            numbers, mine = slots.numbers(self._entries, q), r[part.first : part.last].reshape(-1)
            x, ends = _at_stages(part.X, steps, q), np.empty((C, N))
            rows_steps.forward(
                slots.f, numbers.ctx, numbers.w, a, b, steps.h, t, x, mine, part.kept[1].reshape(C, s, N),
                np.empty((s, N)), tape, ends,
            )  # fmt: skip
            marked = steps.mark >= 0
            states[steps.mark[marked], part.first : part.last] = ends[marked].reshape(-1, q, wide)

        in_threads(run, parts, self._flops(steps, len(r)))
        return parts

    def backward(
        self, steps: Steps, parts: list[Part], jumps: Array, sources: Array, lam: Array, bars: Cotangents,
        x_wanted: bool = False,
    ) -> None:  # fmt: skip
        """Cotangents back through those steps, in place, and their parameter part into ``bars``."""
        (a, b), slots, (C, s), wide = self._method, self._slots, steps.row.shape, self.width
        found: list[tuple[Array, Array | None]] = [None] * len(parts)  # type: ignore[list-item]

        def run(i: int) -> None:
            part = parts[i]
            q, here = part.last - part.first, slice(part.first, part.last)
            N, numbers = q * wide, slots.numbers(self._entries, q)
            own, marked = np.zeros((C, N)), steps.mark >= 0
            own[marked] = jumps[steps.mark[marked], here].reshape(-1, N)
            its = np.ascontiguousarray(sources[:, :, here]).reshape(len(sources), s, N)
            x_bar, G = np.zeros((C if x_wanted else 0, s, q, self._channels)), np.zeros(slots.gradients(q))
            rows_steps.backward(
                slots.vjp, slots.accumulate, numbers.ctx, numbers.w, a, b, steps.h, own, its, lam[here].reshape(-1),
                np.empty(N), np.empty((s, N)), part.kept[0], x_bar, G,
            )  # fmt: skip
            found[i] = slots.vector(G, q), _of_rows(x_bar, part.X, steps) if x_wanted else None

        in_threads(run, range(len(parts)), 2.0 * self._flops(steps, len(lam)))
        for vector, _ in found:
            bars.parameters[0] += vector
        if x_wanted:
            bars.X = np.concatenate([X_bar for _, X_bar in found if X_bar is not None], axis=1)


def _at_stages(X: Array, steps: Steps, q: int) -> Array:
    """x (C, s, q, inputs) at the stages: p of their row and 1 − p of the row before."""
    x = X[steps.row]
    if not (steps.share == 1.0).all():
        p = steps.share[..., None, None]
        x = p * x + (1.0 - p) * X[np.maximum(steps.row - 1, 0)]
    return np.ascontiguousarray(np.broadcast_to(x, (*steps.row.shape, q, X.shape[2])))


def _of_rows(x_bar: Array, X: Array, steps: Steps) -> Array:
    """The cotangents (rows, q, inputs) of the rows, from those of the stages (C, s, q, inputs)."""
    found = np.zeros((len(X), *x_bar.shape[2:]))
    p = steps.share[..., None, None]
    np.add.at(found, steps.row, p * x_bar)
    if not (steps.share == 1.0).all():
        np.add.at(found, np.maximum(steps.row - 1, 0), (1.0 - p) * x_bar)
    return found


def extended(x: Array) -> Array:
    """X̂ = [x 1] (rows, B or 1, ·), filled up, of x (rows, B or 1, inputs)."""
    nx = x.shape[2]
    X = np.zeros((*x.shape[:2], padded(nx + 1)))
    X[..., :nx], X[..., nx] = x, 1.0
    return X


def _empty(*shape: int) -> Array:
    return np.empty(shape)


def _filled(values: Array, width: int, by: float = 0.0) -> Array:
    """A copy whose last axis has ``width`` numbers."""
    made = np.full((*values.shape[:-1], width), by)
    made[..., : values.shape[-1]] = values
    return made


def _rows(values: Array) -> Array:
    """(rows, B, ·) as (rows B, ·), a view."""
    return values.reshape(-1, values.shape[2])


def _piece(whole: Array, first: int, kept: int, s: int, N: int) -> Array:
    """(kept, s, N) of what is kept of all trials, those of N numbers from ``first`` on."""
    return whole[kept * s * first : kept * s * (first + N)].reshape(kept, s, N)


def part_edges(B: int, n: int) -> list[int]:
    """Where parts of a batch begin and end; by sizes alone, so that the sums are the same on any number of threads."""
    trials = max(PART_TRIALS, PART_NUMBERS // n, -(-B // MOST_PARTS))
    return [*range(0, B, trials), B]


def in_threads(run: Callable[[Any], None], items: Iterable[Any], flops: float) -> None:
    """``run`` for every item; each thread takes the next when it is done with one."""
    items = list(items)
    if len(items) == 1:
        run(items[0])
        return
    waiting = iter(items)

    def work() -> None:
        for item in waiting:
            run(item)

    run_parallel([(work,)] * (min(workers(), len(items)) if flops > WORTH_THREADS else 1))
