"""Trials in lockstep in compiled code: one cotangent each, by the field's kernel of many rows (ctrnn.fields.rows).

    λ_b ← λ_b Φ_b + jumps,        dl/dw ← dl/dw + Σ_b Σ_i K̄_b,i F_w   in one product of all trials

The same numbers as the recording of one problem at a time gives, to round-off, in a third to a half of the time, also
for one trial: φ and its slope once for both ways, no call a stage into a field that does not know its neighbours, and
weights that are read once for several trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.fields.rows import MOST_TRIALS, Cotangents, Part, Rows, Steps
from ctrnn.gradients.recording.base import Needs
from ctrnn.gradients.recording.lockstep import LockstepRecording
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings
from ctrnn.scratch import ScratchArena, scratch_arena
from ctrnn.solvers import tableaus
from ctrnn.solvers.runge_kutta import BLOCK
from ctrnn.threads import LONG, raise_if_stopped

#: bytes that the stages of the trials may take that go together
TOGETHER_BYTES = 2**30
#: numbers of the drive of a block of steps, which the cache should hold
BLOCK_NUMBERS = 2**20


@dataclass
class RowsBlock:
    """Steps of all trials, what is kept of their stages, jumps (count, B, width) at the ends that the steps mark.

    With sources (C or 0, s, B, width).
    """

    plan: Steps
    parts: list[Part]
    jumps: Array
    sources: Array
    loss: Array
    readout: Array

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return int(self.plan.h.size)

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""
        return sum(part.nbytes for part in self.parts) + self.jumps.nbytes + self.sources.nbytes

    @property
    def seen(self) -> tuple[Array, Array]:
        """The loss of each trial, and the read-out's gradient summed over them."""
        return self.loss, self.readout


class RowsRecording(LockstepRecording):
    """B trials of a field that has functions of many rows."""

    def __init__(self, problems: Sequence[Problem], settings: Settings, caller: str, first: int | None = None) -> None:
        super().__init__(problems, settings, caller, first)
        self.rows = Rows(self.field, (self.a, self.b))
        self._memory = ScratchArena()

    def __enter__(self) -> RowsRecording:
        self._memory = scratch_arena().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._memory.__exit__(*error)

    def again(self, problems: Sequence[Problem]) -> bool:
        """Make ready for another run, in the same memory."""
        before = self.problems
        if problems[0].field.row_slots is None or any(
            p.course is not q.course for p, q in zip(problems, before, strict=True)
        ):
            return False
        self.restart(problems)
        self.rows = Rows(self.field, (self.a, self.b))
        return True

    @classmethod
    def supports(cls, problems: Sequence[Problem], settings: Settings, needs: Needs) -> bool:
        """Whether it takes all of these problems, together."""
        if needs.rows != "one" or needs.device is not None or problems[0].field.row_slots is None:
            return False
        return super().supports(problems, settings, needs)

    @classmethod
    def record(
        cls, problems: Sequence[Problem], settings: Settings, caller: str, needs: Needs, first: int | None = None
    ) -> RowsRecording:
        """A run of these problems, not begun yet."""
        return cls(problems, settings, caller, first)

    @classmethod
    def at_once(cls, problems: Sequence[Problem], settings: Settings, needs: Needs) -> int:
        """How many of them at a time, for memory's sake."""
        one = problems[0]
        slots = one.field.row_slots
        assert slots is not None
        steps = (one.t_span[1] - one.t_span[0]) / (settings.dt or 1.0)
        numbers = steps * tableaus.get(settings.solver).stages * (slots.width + slots.tape(1, 1))
        return max(1, int(TOGETHER_BYTES // (8 * max(numbers, 1.0))))

    # -- forward

    def blocks(self, capacity: int | None = None) -> Iterator[RowsBlock]:
        """Run, and yield each block of up to ``capacity`` steps, or as many as suit the backend."""
        rows, B, n = self.rows, self.B, self.n
        r = np.zeros((B, rows.width))
        r[:, :n] = self.r0_given
        if capacity is None:
            capacity = min(BLOCK, max(64, BLOCK_NUMBERS // (self.s * min(B, MOST_TRIALS) * rows.width)))
            # by sizes alone: how the steps are divided shows in the last digits
            capacity = min(capacity, max(1, int(LONG / (2.0 * self.s * B * (self.field.m + 1)))))
        for records in self.records(capacity):
            raise_if_stopped()
            plan, X = self.remembered("rows", records, self._plan)
            with scratch_arena() as scratch:
                states = scratch(plan.h.size, B, rows.width)
                parts = rows.forward(plan, records[0].stage_t, X, r, states, True, self._memory, stages=self.integral)
                stages = rows.stages(parts) if self.integral else states
                losses = self.seen_in(records, states[..., :n].transpose(1, 0, 2), stages)
            plan, jumps = _marked(plan, losses.jumps, rows.width, self._memory)
            sources = np.empty((0, self.s, B, rows.width))
            if losses.sources is not None:
                sources = _filled(losses.sources, rows.width, self._memory)
            yield RowsBlock(plan, parts, jumps, sources, losses.loss, losses.readout)

    def _plan(self, records: Sequence[Record]) -> tuple[Steps, Array]:
        """Steps whose stages have a row of the drive each, and whose ends are all asked for.

        With the inputs X̂ of those rows.
        """
        h, s, x = records[0].h, self.s, self.inputs(records)
        C = h.size
        plan = Steps(h, np.arange(C * s).reshape(C, s), np.ones((C, s)), np.arange(C))
        return plan, np.ascontiguousarray(x.reshape(C * s, *x.shape[2:]))

    # -- back

    def zero_rows(self) -> Array:
        """One cotangent, 0, for each trial."""
        return np.zeros((self.B, self.rows.width))

    def zero_parameters(self) -> Cotangents:
        """A parameter part of one cotangent, 0."""
        return self.rows.zero_cotangents()

    def pull(self, block: RowsBlock, rows: Array, G: Cotangents) -> None:
        """Take ``rows`` back through a block, in place, and add their parameter part to G."""
        raise_if_stopped()
        self.rows.backward(block.plan, block.parts, block.jumps, block.sources, rows, G)
        self.pulled += block.plan.row.size * self.B

    def r0(self, rows: Array) -> Array:
        """The cotangents that carry the loss (B, n)."""
        return rows[:, : self.n]

    def vector(self, G: Cotangents) -> Array:
        """The parameter part of one cotangent, summed over the trials, in the order of the field's parameters (m,)."""
        return G.vector


def _marked(plan: Steps, jumps: Array | None, width: int, take: ScratchArena) -> tuple[Steps, Array]:
    """The steps that mark the ends at which λ jumps, and those jumps (count, B, width)."""
    if jumps is None:
        return plan._replace(mark=np.full_like(plan.mark, -1)), np.empty((0, 1, width))
    where = np.flatnonzero(jumps.any(axis=(1, 2)))
    if where.size < len(jumps):
        mark = np.full_like(plan.mark, -1)
        mark[where] = np.arange(where.size)
        plan, jumps = plan._replace(mark=mark), jumps[where]
    return plan, _filled(jumps, width, take)


def _filled(values: Array, width: int, take: ScratchArena) -> Array:
    """Rows of n numbers filled up with 0."""
    made = take.zeros(*values.shape[:-1], width)
    made[..., : values.shape[-1]] = values
    return made
