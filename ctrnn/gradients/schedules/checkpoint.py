"""The discrete adjoint in bounded memory.

Remember where the run was now and then, run each segment again when its turn comes.

    forward     the run, which leaves snapshots (t, h, r, the step control's memory) at the starts of some segments of
                L steps
    backward    for each segment, from the last: from the nearest snapshot before it, run again and record,
                λ ← pullback of λ

The steps taken again are those taken before, bit for bit (ctrnn.solvers.snapshot), so this is the discrete adjoint, in
other memory. As long as there is a snapshot for every segment, every step is taken twice; beyond, where T/L exceeds the
snapshots, some more often: binomially many (ctrnn.gradients.schedules.revolve). With C snapshots of a bytes and
segments of b bytes a step, memory is C a + L b, and the C L steps that can be taken back at the cost of one more
forward run are most when both have half of it. Where T is known (fixed steps) and has room with a snapshot for every
segment, the segments are the longest for which L b + (T/L) a fits: the last one is not run again, and the memory given
is used by a short run as by a long one. The record is pulled back in chunks, so that the stages' cotangents need room
for a chunk only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.gradients.continuous.scales import SAMPLES
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.costs import checkpoint as checkpoint_cost
from ctrnn.gradients.recording.base import Totals
from ctrnn.gradients.schedules.revolve import places, reruns, split
from ctrnn.progress import track
from ctrnn.solvers.runge_kutta import BLOCK_BYTES
from ctrnn.solvers.snapshot import snapshot_size
from ctrnn.trajectory import Stats

#: steps in a segment when no memory is given: enough that Python between two of them costs nothing
SEGMENT = 512
#: numbers in the cotangents of a chunk's stages: they stay in the processor's cache
CHUNK = 2**14

#: bytes that Python adds to an array, and to a run
OBJECT, RUN = 200, 20_000


class Plan(NamedTuple):
    """Steps in a segment and in a chunk of one, the largest number of snapshots, and the bytes for all of it."""

    segment: int
    chunk: int
    snapshots: int
    memory: int


@dataclass(frozen=True)
class Costs:
    """Bytes of a run.

    Of a snapshot, of a recorded step, of a step while it is pulled back, of what there is once, and before it starts.
    """

    snapshot: int
    record: int
    pull: int
    once: int
    before: int

    @classmethod
    def of(cls, z: Size) -> Costs:
        """The bytes of a problem of that size."""
        n, N, s, p, stride = z.n, z.states, z.s, z.outputs, z.stride
        pull = s * n + (0 if n == N else (1 + s) * n)  # K̄, and the record without l
        # sources, ℓ and its derivatives in r and in the output, the signals
        pull += s * (3 * n + 3 * p + stride + 6) if z.integral else 3 * n + 3 * p
        newton = 2 * N * N if z.implicit else 0
        once = (2 * z.total + s) * (N + stride) + newton + 4 * z.entries + 2 * z.m + z.readout
        # an integral in the step test has had its size sampled (ctrnn.gradients.continuous.scales)
        before = 0 if n == N else 8 * SAMPLES * (4 * n + 2 * p + 4)
        snapshot = snapshot_size(N, stride, z.fsal, z.implicit)
        return cls(snapshot + OBJECT, z.record, 8 * pull, 8 * once + RUN, before)

    def plan(self, size: int, memory: int | None, checkpoints: int | None, steps: int | None = None) -> Plan:
        """How a run with ``size`` numbers a step in its cotangents is cut; raises UsageError where memory is too small.

        steps : of the whole run, where they are known before it
        """
        chunk = max(1, CHUNK // size)
        if memory is None:
            segment = max(1, min(SEGMENT, BLOCK_BYTES // self.record))
            # by themselves, snapshots take no more than a segment does
            snapshots = checkpoints or max(2, segment * self.record // self.snapshot)
        else:
            least = max(self.once + (checkpoints or 1) * self.snapshot + self.record + self.pull, self.before)
            if memory < least:
                what = "" if checkpoints is None else f" with {checkpoints} checkpoints"
                raise UsageError(
                    "memory",
                    given=memory,
                    allowed=f"at least {least} bytes for this problem{what}",
                    hint="no memory, for segments of 512 steps, or fewer checkpoints",
                )
            room = memory - self.once
            chunk = max(1, min(chunk, room // (4 * self.pull)))
            room -= chunk * self.pull
            segment = (
                self._longest(room, steps)
                if checkpoints is None
                else (room - checkpoints * self.snapshot) // self.record
            )
            segment = max(1, min(segment, BLOCK_BYTES // self.record))
            snapshots = checkpoints or max(1, (room - segment * self.record) // self.snapshot)
        chunk = min(chunk, segment)
        total = self.once + snapshots * self.snapshot + segment * self.record + chunk * self.pull
        return Plan(int(segment), int(chunk), int(snapshots), int(total))

    def _longest(self, room: int, steps: int | None) -> int:
        """L, the larger root of L b + (T/L + 1) a = room.

        Half of the room for the segment where there is none or T is not known.
        """
        left = room - self.snapshot
        square = 0 if steps is None or left < 0 else left**2 - 4 * self.record * self.snapshot * steps
        if steps is None or square <= 0:
            return room // (2 * self.record)
        return min(steps, int((left + math.sqrt(square)) / (2 * self.record)))


class Reversal:
    """A run that is gone through forward, and then backward, a segment at a time.

    ``rows`` = dl/dr at the point reached, ``G`` the parameter part, ``loss`` and ``readout`` what the segments add.
    """

    def __init__(self, recording: Any, plan: Plan) -> None:
        self.recording, self.plan = recording, plan
        self.rows, self.G = recording.zero_rows(), recording.zero_parameters()
        self.loss, self.readout = np.zeros(recording.B), np.zeros(recording.readout_size)
        #: segment -> the run's state at its start
        self.held: dict[int, Any] = {}
        self.t0, end = recording.problem.t_span
        self.span = end - self.t0

    def go(self) -> Stats:
        """Forward and backward; the statistics are those of the forward run, its evaluations of all that was run."""
        with track(2.0 * self.span, "adjoint, checkpoint") as update:
            end, block = self._forward(update)
            ahead = self.recording.stats
            self._pull(block)
            while end > 1:
                del block  # before the next one is made
                end -= 1
                block = self._again(end)
                update(2.0 * self.span - (block.start - self.t0))
                self._pull(block)
        whole = self.recording.stats
        return replace(ahead, evaluations=whole.evaluations, jacobians=whole.jacobians, wall_time=whole.wall_time)

    # -- forward

    def _forward(self, update: Callable[[float], None]) -> tuple[int, Any]:
        """The number of segments, and the record of the last."""
        recording, most = self.recording, self.plan.snapshots
        steps, segment = recording.steps_ahead, 0
        wanted = None if steps is None else places(-(-steps // self.plan.segment), most)
        distance = 1
        while True:
            if wanted is None:
                while segment % distance == 0 and len(self.held) >= most:
                    distance *= 2
                    self.held = {k: state for k, state in self.held.items() if k % distance == 0}
                keep = segment % distance == 0
            else:
                keep = segment in wanted
            if keep:
                self.held[segment] = recording.snapshot()
            block = recording.advance(self.plan.segment)
            segment += 1
            update(block.end - self.t0)
            if recording.is_over:
                return segment, block
            del block

    # -- backward

    def _again(self, end: int) -> Any:
        """The record of the segment before number ``end`` (exclusive), run again; leaves snapshots on its way there."""
        for k in [k for k in self.held if k >= end]:
            del self.held[k]
        at = max(self.held)
        self.recording.restore(self.held[at])
        while end - at > 1:
            free = self.plan.snapshots - len(self.held)
            ahead = split(end - at, free + 1) if free > 0 else end - at - 1
            for _ in range(ahead):
                self.recording.advance(self.plan.segment, record=False)
            at += ahead
            if free > 0 and end - at > 1:
                self.held[at] = self.recording.snapshot()
        return self.recording.advance(self.plan.segment)

    def _pull(self, block: Any) -> None:
        """The row and its parameter part through a segment, chunk by chunk from its end."""
        for last in range(block.steps, 0, -self.plan.chunk):
            chunk = self.recording.weighed(block.cut(max(0, last - self.plan.chunk), last).record)
            self.recording.pull(chunk, self.rows, self.G)
            l, l_o = chunk.seen
            self.loss, self.readout = self.loss + l, self.readout + l_o


def checkpointed(recording: Any, checkpoints: int | None, memory: int | None) -> Totals:
    """The discrete adjoint within ``checkpoints`` snapshots and ``memory`` bytes."""
    loss, l_r0, readout = recording.start()
    steps = recording.steps_ahead
    size = Size.of(recording.problem, recording.integration.settings, steps or 0)
    plan = Costs.of(size).plan(recording.s * recording.n, memory, checkpoints, steps)
    way = Reversal(recording, plan)
    stats = way.go()
    r0 = l_r0 + recording.r0(way.rows)
    return Totals(loss + way.loss, recording.vector(way.G), r0, readout + way.readout, stats)


def counted(z: Size, checkpoints: int | None, memory: int | None) -> Cost:
    """What ``checkpointed`` takes: the segments run for each that there is, and the bytes of its plan."""
    known = None if z.adaptive else z.steps
    costs = Costs.of(z)
    plan = costs.plan(z.s * z.n, memory, checkpoints, known)
    segments = -(-z.steps // plan.segment)
    ran = reruns(segments, plan.snapshots, known is not None) / segments
    length = plan.segment if z.adaptive else min(plan.segment, z.steps + 1)
    chunk, held = min(plan.chunk, z.steps), min(plan.snapshots, segments)
    taken = costs.once + held * costs.snapshot + length * costs.record + chunk * costs.pull
    return checkpoint_cost(z, ran, max(taken, costs.before))
