"""F of many rows at once, and its pullback: q trials go through the same fixed steps of an explicit method together.

A field declares by its ``row_slots`` (F_ROWS, VJP_ROWS and ACCUMULATE_ROWS of ctrnn.kernels.abi) that its trials can
run in lockstep; the loop over their stages is that of ctrnn.kernels.batch.rows_steps.

Trials are divided into parts of a few, and the parts among threads; sums over parts are taken in their order, whoever
was quicker. No BLAS takes part, so that a trial's states and λ are the same in any company, and nothing is to be said
to its threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ctrnn.kernels.batch import rows_steps
from ctrnn.scratch import scratch_arena
from ctrnn.threads import LONG, run_parallel, stop, workers

Array = np.ndarray

#: flops below which a second thread costs more than it saves
WORTH_THREADS = 3e6
#: flops of a unit apart from products, most of them in φ
UNIT_FLOPS = 60
#: the trials that go together: so many rows that the steps of the interpreter (ctrnn.kernels.batch.graph_rows) cost
#: little beside its arithmetic, fewer where there are few trials, more where they are small; and no more parts than
#: that, as each has cotangents of the parameters of its own
LEAST_TRIALS, MOST_TRIALS, PART_NUMBERS, MOST_PARTS = 4, 16, 128, 32


class Steps(NamedTuple):
    """C steps, for all trials alike."""

    h: Array  # (C,)
    row: Array  # (C, s) the row of the inputs at each stage; they ascend, without gaps
    share: Array  # (C, s) p, that row's share; the row before has the rest
    mark: Array  # (C,) the number of the end of a step among the states that are asked for, or −1


@dataclass
class Part:
    """The trials that go together, from ``first`` to ``last``, with their inputs.

    tape : what the way back is made of, of all stages
    stages : (C or 1, s, q, width), the states there
    """

    first: int
    last: int
    X: Array
    tape: Array
    stages: Array

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""
        return self.tape.nbytes + self.stages.nbytes


@dataclass
class Cotangents:
    """What has come back so far of the parameters (m,), in the order of the field's own.

    And X̄ of the last steps, (rows, B, inputs), if it was asked for.
    """

    vector: Array
    X: Array | None = None


class Rows:
    """A field that has row slots, with its numbers, and an explicit method a (s, s), b (s,).

    n, inputs : states and inputs of a row
    width : numbers from one row to the next; what fills it up may be anything finite
    """

    def __init__(self, field: Any, method: tuple[Array, Array]) -> None:
        self._entries, self.inputs, self._m = field.rows_entries, field.input_size, field.m
        self._slots, self._method, self.n = field.row_slots, method, field.n
        self.width = int(self._slots.width)
        #: first trial and size of a part -> the numbers as its loops read them, with their working space
        self._numbers: dict[tuple[int, int], Any] = {}

    def _numbers_of(self, part: Part) -> Any:
        key = part.first, part.last - part.first
        if key not in self._numbers:
            self._numbers[key] = self._slots.numbers(self._entries, key[1])
        return self._numbers[key]

    def zero_cotangents(self) -> Cotangents:
        """Nothing has come back yet."""
        return Cotangents(np.zeros(self._m))

    def stages(self, parts: list[Part]) -> Array:
        """The states of all stages (B, C, s, n)."""
        return np.concatenate([part.stages for part in parts], axis=2)[..., : self.n].transpose(2, 0, 1, 3)

    def _flops(self, steps: Steps, B: int) -> float:
        return steps.row.size * B * (2.0 * self._entries.size + UNIT_FLOPS * self.n)

    def forward(
        self, steps: Steps, t: Array, X: Array, r: Array, states: Array, keep: bool,
        take: Callable[..., Array] | None = None, stages: bool = False,
    ) -> list[Part]:  # fmt: skip
        """Take r (B, width) through the steps, in place.

        ``states`` (count, B, width) receives those that the steps mark.

        t (C, s) at the stages; X (rows, B or 1, inputs). Returns the parts, which keep what ``backward`` needs if they
        are to; ``take`` gives the arrays for that. ``stages``: the states there will be asked for.
        """
        take = _empty if take is None else take
        (a, b), slots, (C, s), wide = self._method, self._slots, steps.row.shape, self.width
        parts, S = [], C * s if keep else 0
        for first, last in pairwise(part_edges(len(r), self.n)):
            q = last - first
            mine = np.ascontiguousarray(X[:, first:last]) if X.shape[1] > 1 else X
            parts.append(Part(first, last, mine, take(slots.tape(q, max(S, 1))), take(C if stages else 1, s, q, wide)))

        def run(part: Part) -> None:
            q = part.last - part.first
            N, z = q * wide, part.stages
            numbers, mine = self._numbers_of(part), r[part.first : part.last].reshape(-1)
            x = _at_stages(part.X, steps, q)
            with scratch_arena() as scratch:
                ends = scratch(C, N)
                rows_steps.forward(
                    slots.f, numbers.ctx, numbers.w, a, b, steps.h, t, x, mine, z.reshape(len(z), s, N),
                    scratch(s, N), S, part.tape, ends, stop().address,
                )  # fmt: skip
                marked = steps.mark >= 0
                states[steps.mark[marked], part.first : part.last] = ends[marked].reshape(-1, q, wide)

        in_threads(run, parts, self._flops(steps, len(r)))
        return parts

    def backward(
        self, steps: Steps, parts: list[Part], jumps: Array, sources: Array, lam: Array, bars: Cotangents,
        x_wanted: bool = False,
    ) -> None:  # fmt: skip
        """Take λ (B, width) back to the start of the steps, in place; adds to ``bars``.

        jumps (count, B, width) at the ends that the steps mark, sources (C or 0, s, B, width) at the stages.
        """
        (a, b), slots, (C, s), wide = self._method, self._slots, steps.row.shape, self.width
        found: list[tuple[Array, Array | None]] = [None] * len(parts)  # type: ignore[list-item]

        def run(i: int) -> None:
            part = parts[i]
            q, here = part.last - part.first, slice(part.first, part.last)
            N, numbers = q * wide, self._numbers_of(part)
            marked = steps.mark >= 0
            its = np.ascontiguousarray(sources[:, :, here]).reshape(len(sources), s, N)
            x_bar, G = np.zeros((C if x_wanted else 0, s, q, self.inputs)), np.zeros(slots.gradients(q))
            with scratch_arena() as scratch:
                own = scratch.zeros(C, N)
                own[marked] = jumps[steps.mark[marked], here].reshape(-1, N)
                rows_steps.backward(
                    slots.vjp, slots.accumulate, numbers.ctx, numbers.w, a, b, steps.h, own, its,
                    lam[here].reshape(-1), scratch(N), scratch(s, N), part.tape, x_bar, G, stop().address,
                )  # fmt: skip
            found[i] = slots.vector(G, q), _of_rows(x_bar, part.X, steps) if x_wanted else None

        in_threads(run, range(len(parts)), 2.0 * self._flops(steps, len(lam)))
        for vector, _ in found:
            bars.vector += vector
        if x_wanted:
            bars.X = np.concatenate([X_bar for _, X_bar in found if X_bar is not None], axis=1)


def _at_stages(X: Array, steps: Steps, q: int) -> Array:
    """x (C, s, q, inputs) at the stages: p of their row and 1 − p of the row before."""
    x = X[steps.row]
    if not (steps.share == 1.0).all():
        p = steps.share[..., None, None]
        x = p * x + (1.0 - p) * X[np.maximum(steps.row - 1, 0)]
    shape = (*steps.row.shape, q, X.shape[2])
    # its own memory either way: what cannot be written to is of another type for Numba, and would be compiled for
    return np.ascontiguousarray(x) if x.shape == shape else np.array(np.broadcast_to(x, shape), order="C")


def _of_rows(x_bar: Array, X: Array, steps: Steps) -> Array:
    """The cotangents (rows, q, inputs) of the rows, from those of the stages (C, s, q, inputs)."""
    found = np.zeros((len(X), *x_bar.shape[2:]))
    p = steps.share[..., None, None]
    np.add.at(found, steps.row, p * x_bar)
    if not (steps.share == 1.0).all():
        np.add.at(found, np.maximum(steps.row - 1, 0), (1.0 - p) * x_bar)
    return found


def _empty(*shape: int) -> Array:
    return np.empty(shape)


def part_edges(B: int, n: int) -> list[int]:
    """Where parts of a batch begin and end; by sizes alone, so that the sums are the same on any number of threads."""
    half = LEAST_TRIALS * -(-B // (2 * LEAST_TRIALS))  # there may be two threads
    trials = max(min(half, MOST_TRIALS), PART_NUMBERS // n, -(-B // MOST_PARTS))
    return [*range(0, B, trials), B]


def in_threads(run: Callable[[Any], None], items: Iterable[Any], flops: float) -> None:
    """``run`` for every item; each thread takes the next when it is done with one."""
    items, is_long = list(items), flops > LONG
    if len(items) == 1 and not is_long:
        run(items[0])
        return
    waiting = iter(items)

    def work() -> None:
        for item in waiting:
            run(item)

    run_parallel([(work,)] * (min(workers(), len(items)) if flops > WORTH_THREADS else 1), takes_long=is_long)
