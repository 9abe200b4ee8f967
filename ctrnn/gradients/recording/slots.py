"""Trials in lockstep of any field that has functions of many rows.

They are F_ROWS, VJP_ROWS and ACCUMULATE_ROWS of ctrnn.kernels.abi.

    λ_b ← λ_b Φ_b + jumps,        dl/dw ← dl/dw + Σ_b Σ_i K̄_b,i F_w

The stages are those of ctrnn.kernels.batch.rows_steps, the field is reached by addresses alone. Trials are divided into
parts of a few, and the parts among threads; sums over parts are taken in their order, so that they do not depend on
which thread was quicker, and a trial's states and λ are the same in any company, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.fields.rows import PART_TRIALS, in_threads, part_edges
from ctrnn.gradients.recording.base import Needs
from ctrnn.gradients.recording.lockstep import LockstepRecording
from ctrnn.kernels.batch import rows_steps
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings
from ctrnn.scratch import ScratchArena, scratch_arena
from ctrnn.solvers import tableaus
from ctrnn.solvers.runge_kutta import BLOCK

#: bytes that the tapes of the trials may take that go together
TOGETHER_BYTES = 2**30
#: numbers of a part's tape for a block of steps, which the cache should hold
BLOCK_NUMBERS = 2**20
#: flops that a number of the tape is worth, for dividing work among threads
NUMBER_FLOPS = 20.0


@dataclass
class SlotsBlock:
    """C steps of all trials: the tape (·,) of each part, jumps (C or 0, B, width) and what the losses are."""

    h: Array
    tapes: list[Array]
    jumps: Array
    loss: Array
    readout: Array

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return int(self.h.size)

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""
        return sum(tape.nbytes for tape in self.tapes) + self.jumps.nbytes

    @property
    def seen(self) -> tuple[Array, Array]:
        """The loss of each trial, and the read-out's gradient summed over them."""
        return self.loss, self.readout


class SlotsRecording(LockstepRecording):
    """B trials of a field that has ``row_slots``, with losses at times."""

    def __init__(self, problems: Sequence[Problem], settings: Settings, caller: str, first: int | None = None) -> None:
        super().__init__(problems, settings, caller, first)
        self.edges = list(pairwise(part_edges(self.B, self.n)))
        self._memory = ScratchArena()
        self._bind()

    def __enter__(self) -> SlotsRecording:
        self._memory = scratch_arena().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._memory.__exit__(*error)

    def _bind(self) -> None:
        slots = self.field.row_slots
        assert slots is not None
        self.slots = slots
        entries = self.field.rows_entries
        #: of each part: the field's numbers, as many rows of them as there are trials
        self.numbers = [slots.numbers(entries, last - first) for first, last in self.edges]

    def again(self, problems: Sequence[Problem]) -> bool:
        """Make ready for another run, of problems that differ in the numbers of their field and in r0 alone."""
        if problems[0].field.row_slots is not self.slots:
            return False
        if any(p.course is not q.course for p, q in zip(problems, self.problems, strict=True)):
            return False
        self.restart(problems)
        self._bind()
        return True

    @classmethod
    def supports(cls, problems: Sequence[Problem], settings: Settings, needs: Needs) -> bool:
        """Whether it takes all of these problems, together."""
        if needs.rows != "one" or needs.device is not None or problems[0].field.row_slots is None:
            return False
        if any(problem.objective is not None and problem.objective.times is None for problem in problems):
            return False  # the stages of an integral are not kept
        return super().supports(problems, settings, needs)

    @classmethod
    def record(
        cls, problems: Sequence[Problem], settings: Settings, caller: str, needs: Needs, first: int | None = None
    ) -> SlotsRecording:
        """A run of these problems, not begun yet."""
        return cls(problems, settings, caller, first)

    @classmethod
    def at_once(cls, problems: Sequence[Problem], settings: Settings, needs: Needs) -> int:
        """How many of them at a time, for memory's sake."""
        one = problems[0]
        slots = one.field.row_slots
        assert slots is not None
        stages = int((one.t_span[1] - one.t_span[0]) / (settings.dt or 1.0) + 1) * tableaus.get(settings.solver).stages
        return max(1, TOGETHER_BYTES // (8 * max(slots.tape(1, stages), 1)))

    # -- forward

    def blocks(self, capacity: int | None = None) -> Iterator[SlotsBlock]:
        """Run, and yield each block of up to ``capacity`` steps, or as many as suit the backend."""
        n, width = self.n, self.slots.width
        r = np.zeros((self.B, width))
        r[:, :n] = self.r0_given
        if capacity is None:
            trials = min(self.B, PART_TRIALS)
            capacity = min(BLOCK, max(64, BLOCK_NUMBERS // max(self.slots.tape(trials, self.s), 1)))
        for records in self.records(capacity):
            yield self._taken(records, r)

    def _taken(self, records: Sequence[Record], r: Array) -> SlotsBlock:
        h, t, x, slots = records[0].h, records[0].stage_t, self.inputs(records), self.slots
        C, s, width = h.size, self.s, slots.width
        states = np.empty((C, self.B, width))
        tapes = [self._memory(slots.tape(last - first, C * s)) for first, last in self.edges]

        def run(i: int) -> None:
            first, last = self.edges[i]
            q, numbers = last - first, self.numbers[i]
            mine = x[:, :, first:last] if x.shape[2] > 1 else x
            X = np.ascontiguousarray(np.broadcast_to(mine, (C, s, q, x.shape[3])))
            R, ends = r[first:last].reshape(-1), np.empty((C, q * width))
            rows_steps.forward(
                slots.f, numbers.ctx, numbers.w, self.a, self.b, h, t, X, R, np.empty(R.size), np.empty((s, R.size)),
                tapes[i], ends,
            )  # fmt: skip
            states[:, first:last] = ends.reshape(C, q, width)

        in_threads(run, range(len(self.edges)), NUMBER_FLOPS * sum(tape.size for tape in tapes))
        losses = self.seen_in(records, states[..., : self.n].transpose(1, 0, 2), np.empty(0))
        jumps = np.zeros((0 if losses.jumps is None else C, self.B, width))
        if losses.jumps is not None:
            jumps[..., : self.n] = losses.jumps
        return SlotsBlock(h, tapes, jumps, losses.loss, losses.readout)

    # -- back

    def zero_rows(self) -> Array:
        """One cotangent, 0, for each trial."""
        return np.zeros((self.B, self.slots.width))

    def zero_parameters(self) -> Array:
        """A parameter part of one cotangent, 0."""
        return np.zeros(self.field.m)

    def pull(self, block: SlotsBlock, rows: Array, G: Array) -> None:
        """Take ``rows`` back through a block, in place, and add their parameter part to G."""
        C, s, width, slots = block.steps, self.s, self.slots.width, self.slots
        found: list[Any] = [None] * len(self.edges)

        def run(i: int) -> None:
            first, last = self.edges[i]
            q, numbers = last - first, self.numbers[i]
            lam, its = rows[first:last].reshape(-1), np.zeros(slots.gradients(q))
            jumps = np.ascontiguousarray(block.jumps[:, first:last]).reshape(len(block.jumps), q * width)
            rows_steps.backward(
                slots.vjp, slots.accumulate, numbers.ctx, numbers.w, self.a, self.b, block.h, jumps,
                np.empty((0, s, lam.size)), lam, np.empty(lam.size), np.empty((s, lam.size)), block.tapes[i],
                np.empty((0, s, q, self.field.input_size)), its,
            )  # fmt: skip
            found[i] = slots.vector(its, q)

        in_threads(run, range(len(self.edges)), 2.0 * NUMBER_FLOPS * sum(tape.size for tape in block.tapes))
        for vector in found:
            G += vector
        self.pulled += C * s * self.B

    def r0(self, rows: Array) -> Array:
        """The cotangents that carry the loss (B, n)."""
        return rows[:, : self.n]

    def vector(self, G: Array) -> Array:
        """The parameter part of one cotangent, summed over the trials, in the order of the field's parameters (m,)."""
        return G
