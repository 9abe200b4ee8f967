"""The discrete adjoint in bounded memory: remember where the run was now and then, run each segment again when its turn comes.

    forward     the run, which leaves snapshots (t, h, r, the step control's memory) at the starts of some segments of L steps
    backward    for each segment, from the last: from the nearest snapshot before it, run again and record, λ ← pullback of λ

The steps taken again are those taken before, bit for bit (ctrnn.solvers.snapshot), so this is the discrete adjoint, in other memory. As long as
there is a snapshot for every segment, every step is taken twice; beyond, where T/L exceeds the snapshots, some more often: binomially many
(ctrnn.gradients.schedules.revolve). With C snapshots of a bytes and segments of b bytes a step, memory is C a + L b, and the C L steps that can be
taken back at the cost of one more forward run are most when both have half of it. Where T is known (fixed steps) and has room with a snapshot
for every segment, the segments are the longest for which L b + (T/L) a fits: the last one is not run again, and the memory given is used by
a short run as by a long one. The record is pulled back in chunks, so that the stages' cotangents need room for a chunk only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.continuous.scales import SAMPLES
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.costs import checkpoint as checkpoint_cost
from ctrnn.gradients.recording.discrete import DiscreteRun
from ctrnn.gradients.result import Gradient, result
from ctrnn.gradients.schedules.revolve import places, reruns, split
from ctrnn.kernels import stepper
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings
from ctrnn.progress import track
from ctrnn.solvers.exponential import with_steps
from ctrnn.solvers.runge_kutta import BLOCK_BYTES, Integration
from ctrnn.solvers.snapshot import restore, snapshot, snapshot_size
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
    """Bytes of a run: of a snapshot, of a recorded step, of a step while it is pulled back, of what there is once, and before it starts."""

    snapshot: int
    record: int
    pull: int
    once: int
    before: int

    @classmethod
    def of(cls, z: Size) -> Costs:
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
        """L, the larger root of L b + (T/L + 1) a = room; half of the room for the segment where there is none or T is not known."""
        left = room - self.snapshot
        square = 0 if steps is None or left < 0 else left**2 - 4 * self.record * self.snapshot * steps
        if steps is None or square <= 0:
            return room // (2 * self.record)
        return min(steps, int((left + math.sqrt(square)) / (2 * self.record)))


class Reversal:
    """A run that is gone through forward, and then backward, a segment at a time.

    ``lam`` (n, 1) = dl/dr at the point reached, ``G`` the parameter part, ``loss`` and ``readout`` what the segments add.
    """

    def __init__(self, run: DiscreteRun, plan: Plan) -> None:
        self.run, self.plan = run, plan
        self.integration: Integration = run.integration
        kernel = run.bound.kernel
        self.lam = np.zeros((run.n, 1))
        self.G = np.zeros((kernel.groups, 1, kernel.columns))
        self.loss = 0.0
        self.readout = np.zeros(run.losses.readout_size)
        #: segment -> the run's state at its start
        self.held: dict[int, Array] = {}
        self.t0 = float(self.integration.clock[stepper.T])
        self.span = float(self.integration.stops[-1]) - self.t0

    def go(self) -> Stats:
        """Forward and backward; returns the statistics of the forward run, its evaluations those of all that was run."""
        with track(2.0 * self.span, self.integration.label) as update:
            end, record = self._forward(update)
            ahead = self.integration.stats
            self._pull(record)
            while end > 1:
                del record  # before the next one is made
                end -= 1
                record = self._again(end)
                update(2.0 * self.span - (float(record.t[0]) - self.t0))
                self._pull(record)
        return replace(
            ahead, evaluations=self.integration.stats.evaluations, jacobians=self.integration.stats.jacobians
        )

    # -- forward

    def _forward(self, update: Callable[[float], None]) -> tuple[int, Record]:
        """The number of segments, and the record of the last."""
        segment, room = 0, self.plan.snapshots
        steps = steps_ahead(self.integration)
        wanted = None if steps is None else places(-(-steps // self.plan.segment), room)
        distance = 1
        while True:
            if wanted is None:
                while segment % distance == 0 and len(self.held) >= room:
                    distance *= 2
                    self.held = {k: state for k, state in self.held.items() if k % distance == 0}
                keep = segment % distance == 0
            else:
                keep = segment in wanted
            if keep:
                self.held[segment] = snapshot(self.integration)
            record = self._segment("stages")
            segment += 1
            update(float(record.t[-1]) - self.t0)
            if self.integration.count[stepper.NEXT_STOP] == self.integration.stops.size:
                return segment, record
            del record

    def _segment(self, keep: str) -> Record:
        """The next L steps, or those that are left."""
        self.integration.keep = keep
        return next(self.integration.blocks(self.plan.segment))

    # -- backward

    def _again(self, end: int) -> Record:
        """The record of the segment before number ``end`` (exclusive), run again; leaves snapshots on its way there."""
        for k in [k for k in self.held if k >= end]:
            del self.held[k]
        at = max(self.held)
        restore(self.integration, self.held[at])
        while end - at > 1:
            free = self.plan.snapshots - len(self.held)
            ahead = split(end - at, free + 1) if free > 0 else end - at - 1
            for _ in range(ahead):
                self._segment("steps")
            at += ahead
            if free > 0 and end - at > 1:
                self.held[at] = snapshot(self.integration)
        return self._segment("stages")

    def _pull(self, record: Record) -> None:
        """λ and G through a segment, chunk by chunk from its end."""
        for high in range(record.t.size, 0, -self.plan.chunk):
            low = max(0, high - self.plan.chunk)
            self.run.losses.seek(float(record.stage_t[low, 0]))
            chunk, part = self.run.share(Record(*(p[low:high] if len(p) else p for p in record)))
            self.run.pull(chunk, part, self.lam, self.G)
            self.loss += part.loss
            self.readout += part.readout


def steps_ahead(run: Integration) -> int | None:
    """The steps of a run with fixed steps, from its start: its grid, and the stops beside it; None for adaptive steps."""
    dt = run.settings.dt
    if dt is None:
        return None
    places_of_stops = np.abs(run.stops - run.clock[stepper.START]) / dt
    beside = np.abs(places_of_stops - np.round(places_of_stops)) > 1e-9
    return max(1, math.ceil(places_of_stops[-1] - 1e-9) + int(np.count_nonzero(beside[:-1])))


def checkpoint_gradient(
    problem: Problem, settings: Settings, name: str, checkpoints: int | None, memory: int | None
) -> Gradient:
    """l and dl/dw, dl/dr0 by the discrete adjoint, within ``checkpoints`` snapshots and ``memory`` bytes."""
    run = DiscreteRun(problem, settings, name)
    loss, g0, g_o = run.losses.start()
    steps = steps_ahead(run.integration)
    size = Size.of(with_steps(problem, settings), settings, steps or 0)
    plan = Costs.of(size).plan(run.s * run.n, memory, checkpoints, steps)
    reversal = Reversal(run, plan)
    stats = reversal.go()
    stats = replace(stats, jacobians=run.stats.jacobians, wall_time=run.stats.wall_time)
    vector = run.bound.rows(reversal.G)[0]
    return result(problem, name, loss + reversal.loss, vector, g0 + reversal.lam[:, 0], g_o + reversal.readout, stats)


def counted(z: Size, checkpoints: int | None, memory: int | None) -> Cost:
    """What ``checkpoint_gradient`` takes: the segments run for each that there is, and the bytes of its plan."""
    known = None if z.adaptive else z.steps
    costs = Costs.of(z)
    plan = costs.plan(z.s * z.n, memory, checkpoints, known)
    segments = -(-z.steps // plan.segment)
    ran = reruns(segments, plan.snapshots, known is not None) / segments
    length = plan.segment if z.adaptive else min(plan.segment, z.steps + 1)
    chunk, held = min(plan.chunk, z.steps), min(plan.snapshots, segments)
    taken = costs.once + held * costs.snapshot + length * costs.record + chunk * costs.pull
    return checkpoint_cost(z, ran, max(taken, costs.before))
