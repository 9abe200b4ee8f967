"""The recording of one problem by our own stepper.

Any field, adaptive and fixed steps, explicit, implicit and exponential methods.

The loss ∫ aℓ dt is integrated by the steps' own quadrature. With adaptive steps its error must count, or a weight that
changes faster than the state would be missed without a word: then the run is that of [r | l], with l in the step test,
and r is what is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ctrnn.clock import working
from ctrnn.errors import SingularJacobianError
from ctrnn.fields.base import Array
from ctrnn.fields.bound import Bound
from ctrnn.gradients.continuous.system import ForwardSystem
from ctrnn.gradients.finite import check_finite
from ctrnn.gradients.recording.base import Needs, Recording, Seen
from ctrnn.gradients.recording.losses import BlockLosses, Losses
from ctrnn.gradients.recording.sensitivity_error import StepErrors, is_controlled
from ctrnn.gradients.recording.structure import Structure
from ctrnn.gradients.recording.time_scale import TimeScale
from ctrnn.kernels import abi, pullback, stepper
from ctrnn.kernels.augmented import SMALL
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.exponential import with_steps
from ctrnn.solvers.runge_kutta import BLOCK, Integration, tableau_of, weights
from ctrnn.solvers.snapshot import restore, snapshot
from ctrnn.threads import LONG, one_blas_thread, raise_if_stopped, run_parallel, stop, workers
from ctrnn.trajectory import Stats

#: bytes of cotangents that are pulled back before their parameter part is taken, so that it finds them in the cache
CACHE = 2**19
#: bytes that the cotangents of one block of RTRL may take
CARRY_BYTES = 256 * 2**20
#: flops below which a second thread costs more than it saves
WORTH_THREADS = 5e6

#: nothing is noted of the error of the cotangents
_NO_ESTIMATE = pullback.no_estimate()


class Steps(NamedTuple):
    """Recorded steps, and what their losses give (of ``StepperRecording.forward``: nothing yet)."""

    record: Record
    losses: BlockLosses

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return int(self.record.h.size)

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""
        return sum(part.nbytes for part in (*self.record, self.losses.jumps, self.losses.sources))

    @property
    def seen(self) -> tuple[Array, Array]:
        """The loss of each trial, and the read-out's gradient summed over them."""
        return np.array([self.losses.loss]), self.losses.readout

    @property
    def start(self) -> float:
        """t where the first step begins."""
        return float(self.record.stage_t[0, 0])

    @property
    def end(self) -> float:
        """t where the last step ends."""
        return float(self.record.t[-1])

    def cut(self, first: int, last: int, *, copy: bool = False) -> Steps:
        """The steps from ``first`` to ``last``."""
        record = Record(*((p[first:last].copy() if copy else p[first:last]) if len(p) else p for p in self.record))
        return Steps(record, self.losses.cut(first, last))

    def without_loss(self) -> Steps:
        """The same steps with no loss in them."""
        return Steps(self.record, self.losses.without())

    def with_loss(self) -> Array:
        """The steps that have a loss."""
        return self.losses.where()

    def apart(self) -> tuple[Steps, Array]:
        """One step with the loss inside it alone, and the derivative (n,) of the loss that is seen at its end."""
        jumps, losses = self.losses.jumps, self.losses
        at_end = jumps[0] if len(jumps) else np.zeros(jumps.shape[1])
        return Steps(self.record, losses._replace(jumps=jumps[:0])), at_end


class Pulled(NamedTuple):
    """Columns ``first`` to ``last`` of rows that were taken back through a block.

    The cotangents K (C, s, n, ·) of its stages.
    """

    first: int
    last: int
    bound: Bound
    K: Array


class StepperRecording(Recording):
    """Blocks of recorded steps with their losses, and the pullback through them.

    Raises UsageError where the solver is another library's: it does not show its steps.
    """

    B = 1
    controls_steps = True

    def __init__(self, problem: Problem, settings: Settings, caller: str) -> None:
        self._began = working()
        tableau = tableau_of(settings, caller)
        if tableau.exponential:
            problem = with_steps(problem, settings)
        self.s = tableau.stages
        self.a, self.b = weights(settings.solver)
        self.problem = problem
        self.bound = problem.bind()
        self.losses = Losses(problem, self.b)
        self.n, self.readout_size = problem.field.n, self.losses.readout_size
        bound, start, groups, asked = self.bound, problem.r0, None, settings
        if self.losses.objective.times is None and settings.dt is None:
            error_controlled = ForwardSystem(problem, with_p=False, with_readout=False)
            settings, groups = error_controlled.tolerances(settings)
            bound, start = error_controlled.bound, error_controlled.start()
        self.integration = Integration(
            bound, start, problem.course, settings, keep="stages", groups=groups, label=caller
        )
        self._pulled = 0
        #: what the way back tells of the steps, where they answer for it
        self.errors: StepErrors | None = None
        if is_controlled(asked):
            self.errors = StepErrors(asked.solver, float(np.min(asked.rtol)), self.n)
            if tableau.implicit and self.losses.objective.times is not None and not problem.x.size:
                self.errors.time_scale = TimeScale(problem, tableau)
        # of each thread: the field bound to its own working space, and the cotangents of all stages
        self._bounds, self._K = [self.bound], [np.empty(0)]

    @classmethod
    def supports(cls, problems: Sequence[Problem], settings: Settings, needs: Needs) -> bool:
        """Whether it takes all of these problems, together."""
        return len(problems) == 1 and needs.device is None

    @classmethod
    def record(
        cls, problems: Sequence[Problem], settings: Settings, caller: str, needs: Needs, first: int | None = None
    ) -> StepperRecording:
        """A run of these problems, not begun yet."""
        return cls(problems[0], settings, caller)

    @classmethod
    def threads(cls, problem: Problem, settings: Settings) -> AbstractContextManager[Any]:
        """One BLAS thread (ctrnn.threads says why), where BLAS takes part.

        Setting its threads takes longer than a small system does.
        """
        kernel = problem.field._kernel
        small = not kernel.blas and problem.field.n**2 * kernel.columns <= SMALL
        return nullcontext() if small else one_blas_thread

    def again(self, problems: Sequence[Problem]) -> bool:
        """Make ready for another run, in the same memory."""
        problem, before, program = problems[0], self.problem, self.bound.keep[1]
        same = problem.course is before.course and problem.field._kernel is self.bound.kernel
        # the size of an integral in the step test is measured anew, and functions of t keep what they raise
        if not same or self.integration.bound is not self.bound or (program is not None and program.callbacks):
            return False
        self._began = working()
        if problem.field is not before.field:
            w = problem.field._kernel_vector()
            for bound in self._bounds:
                bound.system.w[...] = w
        self.problem, self.losses.problem = problem, problem
        self.integration.restart(problem.r0)
        self._pulled = 0
        if self.errors is not None:
            self.errors = self.errors.anew()
        return True

    # -- forward

    def start(self) -> Seen:
        """What is observed at t0; zeros where nothing is."""
        l, l_r, l_o = self.losses.at(self.problem.t_span[0], self.problem.r0)
        return Seen(np.array([l]), l_r[None], l_o)

    def blocks(self, capacity: int | None = None) -> Iterator[Steps]:
        """Each block of up to ``capacity`` steps.

        Raises what the solver raises, and NotFiniteError for a loss that is not finite.
        """
        for record in self.integration.blocks(BLOCK if capacity is None else capacity):
            yield self.weighed(self._of_states(record))

    def forward(self, capacity: int = BLOCK) -> Iterator[Steps]:
        """Steps alone, whose losses are not looked at."""
        nothing = BlockLosses.of_jumps(np.empty((0, self.n)), self.s)
        for record in self.integration.blocks(capacity):
            yield Steps(self._of_states(record), nothing)

    def _of_states(self, record: Record) -> Record:
        """The record of r, of a run of [r | l]; the steps' errors see it."""
        if record.r.shape[1] > self.n:
            r, stage_r = (np.ascontiguousarray(part[..., : self.n]) for part in (record.r, record.stage_r))
            record = record._replace(r=r, stage_r=stage_r)
        if self.errors is not None:
            self.errors.see(record.r)
        return record

    def weighed(self, record: Record) -> Steps:
        """Recorded steps with their losses; raises NotFiniteError."""
        losses = self.losses.block(record)
        check_finite(losses.loss, losses.jumps, losses.sources)
        return Steps(record, losses)

    # -- back

    def zero_rows(self) -> Array:
        """One cotangent, 0, for each trial."""
        if self.errors is not None:
            self.errors.begin()
        return np.zeros((self.n, 1))

    def zero_parameters(self) -> Array:
        """A parameter part of one cotangent, 0."""
        kernel = self.bound.kernel
        return np.zeros((kernel.groups, 1, kernel.columns))

    def pull(self, block: Steps, rows: Array, G: Array) -> None:
        """Take ``rows`` (n, q) back through a block, in place; G (groups, q, columns) receives the parameter part."""
        for piece in self._pieces(block, rows.size):
            self.add_parameter_part(piece, self.pull_rows(piece, rows), G)

    def pull_alone(self, block: Steps, rows: Array) -> None:
        """Take ``rows`` back through a block, in place, without their parameter part."""
        for piece in self._pieces(block, rows.size):
            self.pull_rows(piece, rows)

    def _pieces(self, block: Steps, numbers: int) -> Iterator[Steps]:
        """A block from its end, in pieces whose cotangents, ``numbers`` a stage, stay in the cache."""
        steps = max(1, CACHE // (8 * self.s * numbers))
        for last in range(block.steps, 0, -steps):
            raise_if_stopped()
            yield block if steps >= block.steps else block.cut(max(0, last - steps), last)

    def r0(self, rows: Array) -> Array:
        """The cotangents that carry the loss (B, n)."""
        return rows[:, -1][None]

    def vector(self, G: Array) -> Array:
        """The parameter part of one cotangent, summed over the trials, in the order of the field's parameters (m,)."""
        return self.bound.rows(G)[0]

    # -- rows, and their parameter part when P has been transformed

    def carry(self, block: int | None = None) -> Structure:
        """What RTRL carries through this run; ``block``: steps in a block, None chooses."""
        carry = Structure(self.n, self.bound)
        carry.block = block or default_block(self.n, carry.entries, self.s, carry.size)
        return carry

    def pull_rows(self, block: Steps, rows: Array) -> list[Pulled]:
        """The rows alone, and what ``add_parameter_part`` needs of them; many rows are divided among threads."""
        n, q = rows.shape
        self._pulled += block.steps * self.s
        flops = 2.0 * block.steps * self.s * n * n * q
        threads = max(1, min(workers(), q // 2)) if self.bound.kernel.divisible and flops > WORTH_THREADS else 1
        if threads == 1:
            whole = self._working(0, 0, q, block.steps)
            run_parallel([(self._pull_rows, whole, block, rows)], flops > LONG)
            return [whole]
        edges = [q * i // threads for i in range(threads + 1)]
        pulled = [self._working(i, a, b, block.steps) for i, (a, b) in enumerate(pairwise(edges))]
        blocks = [block.without_loss()] * (threads - 1) + [block]  # only the last column is that of the loss
        calls = [(self._pull_columns, piece, its, rows) for piece, its in zip(pulled, blocks, strict=True)]
        run_parallel(calls, flops > LONG)
        return pulled

    def add_parameter_part(self, block: Steps, pulled: list[Pulled], G: Array) -> None:
        """Add the parameter part of the rows that were pulled to G (groups, q, columns)."""
        if len(pulled) == 1:
            pulled[0].bound.system.ctx[abi.G_STRIDE] = 0  # all of G's rows
            flops = 2.0 * block.steps * self.s * G.size
            run_parallel([(self._accumulate, pulled[0], block.record, G.ctypes.data)], flops > LONG)
            return
        stride, width = G.shape[1] * G.shape[2], G.shape[2]
        calls = []
        for piece in pulled:
            piece.bound.system.ctx[abi.G_STRIDE] = stride
            calls.append((self._accumulate, piece, block.record, G.ctypes.data + 8 * piece.first * width))
        run_parallel(calls, 2.0 * block.steps * self.s * G.size > LONG)

    def _accumulate(self, piece: Pulled, record: Record, G: int) -> None:
        pullback.parameter_part(piece.bound.system, record.stage_t, record.stage_r, record.stage_x, piece.K, G)
        piece.bound.raise_pending()  # what waits does so for the thread in which it was raised

    def _working(self, i: int, first: int, last: int, steps: int) -> Pulled:
        """Room for columns ``first`` to ``last`` on thread i, kept from block to block."""
        if i == len(self._bounds):
            self._bounds.append(self.problem.bind())
            self._K.append(np.empty(0))
        shape = (steps, self.s, self.n, last - first)
        self._bounds[i].system.ctx[abi.STOP] = stop().address
        if self._K[i].size < math.prod(shape):
            self._K[i] = np.empty(math.prod(shape))
        return Pulled(first, last, self._bounds[i], self._K[i][: math.prod(shape)].reshape(shape))

    def _pull_columns(self, piece: Pulled, block: Steps, rows: Array) -> None:
        mine = np.ascontiguousarray(rows[:, piece.first : piece.last])
        self._pull_rows(piece, block, mine)
        rows[:, piece.first : piece.last] = mine

    def _pull_rows(self, piece: Pulled, block: Steps, rows: Array) -> None:
        record, losses = block
        estimate = self._estimate(block.steps, rows.shape[1])
        solved = pullback.pull_rows(
            piece.bound.system, self.a, self.b, pullback.implicit_for(self.a, self.integration.newton.lapack, rows),
            record.h, record.stage_t, record.stage_r, record.stage_x, losses.jumps, losses.sources,
            rows, piece.K, np.empty((self.s, rows.size)), estimate,
        )  # fmt: skip
        piece.bound.raise_pending()
        if not solved:
            raise SingularJacobianError(
                np.inf, "I − hγJ of an implicit stage", "other tolerances, or an explicit solver"
            )
        if estimate.sizes.size:
            self._note(block, estimate, piece.K)

    def _estimate(self, steps: int, q: int) -> pullback.Estimate:
        """Room for what is noted of each step."""
        errors = self.errors
        if errors is None or (q > 1 and not errors.every_row):
            return _NO_ESTIMATE
        return pullback.estimate_for(errors.weights, errors.scale, steps, q)

    def _note(self, block: Steps, estimate: pullback.Estimate, K: Array) -> None:
        errors, record, sizes = self.errors, block.record, estimate.sizes[:, 0]
        assert errors is not None
        if errors.every_row:
            errors.note_rows(record.t, record.h, estimate.sizes)
            return
        kinks, sources = np.empty(0), block.losses.sources
        if sources.size:
            off = errors.quadrature(sources, record.h) + np.abs(self.losses.stepped_over(record, sources))
            kinks = (off * errors.scale).max(axis=1)
            np.maximum(sizes[:, 2], kinks, out=sizes[:, 2])
        errors.note(record.t, record.h, sizes, kinks)
        if errors.time_scale is not None:
            errors.time_scale.note(record, K[..., 0], block.losses.jumps, errors.scale)

    # -- back to an earlier state, and on from there

    @property
    def is_over(self) -> bool:
        """Whether the end is reached."""
        run = self.integration
        return bool(run.count[stepper.NEXT_STOP] == run.stops.size)

    def advance(self, steps: int, record: bool = True) -> Steps:
        """The next ``steps`` steps, or those that are left, without their losses; recorded only if they are wanted."""
        self.integration.keep = "stages" if record else "steps"
        return next(self.forward(steps))

    def snapshot(self) -> Array:
        """All that the run has to remember, to take the same steps again, bit for bit (ctrnn.solvers.snapshot)."""
        return snapshot(self.integration)

    def restore(self, state: Array) -> None:
        """Back to where ``snapshot`` was taken."""
        restore(self.integration, state)

    @property
    def steps_ahead(self) -> int | None:
        """The steps of a run with fixed steps, from its start: its grid, and the stops beside it.

        None for adaptive steps.
        """
        dt = self.integration.settings.dt
        if dt is None:
            return None
        at = np.abs(self.integration.stops - self.integration.clock[stepper.START]) / dt
        beside = np.abs(at - np.round(at)) > 1e-9
        return max(1, math.ceil(at[-1] - 1e-9) + int(np.count_nonzero(beside[:-1])))

    @property
    def stats(self) -> Stats:
        """The cost so far, with the time of everything since the run was made."""
        return self.integration.cost(self._pulled, working() - self._began)


def default_block(n: int, entries: int, s: int, size: int | None = None) -> int:
    """Steps in a block of RTRL, so that Φ P costs a tenth of the rest, within bounded memory.

    The cotangents take CARRY_BYTES at most, or as many as P takes.

    n states, ``size`` of them in the largest part that hangs together (n by default), ``entries`` parameters, s stages.
    With q = size + 1 rows, a block of K steps costs 2 K s q (n size + entries) flops for its rows, and 2 q² entries for
    Φ P.
    """
    size = n if size is None else size
    q = size + 1
    rows = 2.0 * s * q * (n * size + entries)
    wanted = 10 * 2.0 * q * q * entries / max(rows, 1.0)
    # a small system waits for Python, not for flops: give each call something to do
    wanted = max(wanted, 5e6 / max(rows, 1.0), 16)
    return int(max(1, min(wanted, BLOCK, max(CARRY_BYTES, 8 * q * entries) / (8 * s * n * q))))
