"""A forward run of our own solver with what its pullback needs: the common part of the methods that are exact for the steps taken.

The loss ∫ aℓ dt is integrated by the steps' own quadrature. With adaptive steps its error must count, or a weight that changes faster than
the state would be missed without a word: then the run is that of [r | l], with l in the step test, and r is what is recorded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ctrnn.errors import SingularJacobianError
from ctrnn.fields.base import Array, Bound
from ctrnn.gradients.continuous.forward import ForwardSystem
from ctrnn.gradients.recording.losses import Losses, Part
from ctrnn.gradients.result import check_finite
from ctrnn.kernels import abi, pullback
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.exponential import with_steps
from ctrnn.solvers.runge_kutta import BLOCK, Integration, tableau_of, weights
from ctrnn.threads import share, workers
from ctrnn.trajectory import Stats

#: bytes of cotangents that are pulled back before their parameter part is taken, so that it finds them in the cache
CACHE = 2**19
#: flops below which a second thread costs more than it saves
WORTH_THREADS = 5e6


class Pulled(NamedTuple):
    """Columns ``first`` to ``last`` of rows that were taken back through a block: the cotangents K (C, s, n, ·) of its stages."""

    first: int
    last: int
    bound: Bound
    K: Array


class DiscreteRun:
    """Blocks of recorded steps with their losses, and the pullback through them.

    Raises UsageError where the solver is another library's: it does not show its steps.
    """

    def __init__(self, problem: Problem, settings: Settings, caller: str) -> None:
        self._began = time.perf_counter()
        tableau = tableau_of(settings, caller)
        problem = with_steps(problem, settings)
        self.s = tableau.stages
        self.a, self.b = weights(settings.solver)
        self._problem = problem
        self.bound = problem.bind()
        self.losses = Losses(problem, self.b, problem.r0)
        self.n = problem.field.n
        bound, start, groups = self.bound, problem.r0, None
        if self.losses.objective.times is None and settings.dt is None:
            watched = ForwardSystem(problem, with_p=False, with_readout=False)
            settings, groups = watched.tolerances(settings)
            bound, start = watched.bound, watched.start()
        self._run = Integration(
            bound,
            start,
            problem.course,
            settings,
            keep="stages",
            groups=groups,
            label=caller,
        )
        self._pulled = 0
        # of each thread: the field bound to its own working space, and the cotangents of all stages
        self._bounds, self._K = [self.bound], [np.empty(0)]

    def blocks(self, capacity: int = BLOCK) -> Iterator[tuple[Record, Part]]:
        """The record of each block of up to ``capacity`` steps, and its part of the losses.

        Raises what the solver raises, and NotFiniteError for a loss that is not finite.
        """
        for record in self._run.blocks(capacity):
            yield self.share(record)

    def share(self, record: Record) -> tuple[Record, Part]:
        """A record of steps without the integrated loss, and its part of the losses; raises NotFiniteError."""
        if record.r.shape[1] > self.n:
            record = record._replace(
                r=np.ascontiguousarray(record.r[:, : self.n]),
                stage_r=np.ascontiguousarray(record.stage_r[:, :, : self.n]),
            )
        part = self.losses.block(record)
        check_finite(part.loss, part.jumps, part.sources)
        return record, part

    def pull(self, record: Record, part: Part, rows: Array, G: Array) -> None:
        """Take ``rows`` (n, q) back through a block, in place; G (groups, q, columns) receives the parameter part."""
        n, q = rows.shape
        steps = max(1, CACHE // (8 * self.s * n * q))
        if steps >= record.h.size:
            self.accumulate(record, self.pull_rows(record, part, rows), G)
            return
        for end in range(record.h.size, 0, -steps):
            some = slice(max(0, end - steps), end)
            piece = Record(*(values[some] for values in record))
            its = part._replace(jumps=part.jumps[some], sources=part.sources[some])
            self.accumulate(piece, self.pull_rows(piece, its, rows), G)

    def pull_rows(self, record: Record, part: Part, rows: Array) -> list[Pulled]:
        """The rows alone, and what ``accumulate`` needs of them; many rows are divided among threads."""
        n, q = rows.shape
        flops = 2.0 * record.h.size * self.s * n * n * q
        threads = max(1, min(workers(), q // 2)) if self.bound.kernel.divisible and flops > WORTH_THREADS else 1
        edges = [q * i // threads for i in range(threads + 1)]
        pulled = [self._working(i, a, b, record) for i, (a, b) in enumerate(pairwise(edges))]
        if threads == 1:
            self._pull_rows(pulled[0], record, part, rows)
        else:
            alone = part._replace(
                jumps=part.jumps[:0], sources=part.sources[:0]
            )  # only the last column is that of the loss
            share([(self._pull_columns, piece, record, alone, rows) for piece in pulled[:-1]]
                  + [(self._pull_columns, pulled[-1], record, part, rows)])  # fmt: skip
        self._pulled += record.h.size * self.s
        return pulled

    def accumulate(self, record: Record, pulled: list[Pulled], G: Array) -> None:
        """Add the parameter part of the rows that were pulled to G (groups, q, columns)."""
        stride, width = G.shape[1] * G.shape[2], G.shape[2]
        calls = []
        for piece in pulled:
            if len(pulled) > 1:
                piece.bound.system.ctx[abi.G_STRIDE] = stride
            calls.append((self._accumulate, piece, record, G.ctypes.data + 8 * piece.first * width))
        share(calls)

    def _accumulate(self, piece: Pulled, record: Record, G: int) -> None:
        pullback.parameter_part(piece.bound.system, record.stage_t, record.stage_r, record.stage_x, piece.K, G)
        piece.bound.raise_pending()  # what waits does so for the thread in which it was raised

    def _working(self, i: int, first: int, last: int, record: Record) -> Pulled:
        """Room for columns ``first`` to ``last`` on thread i, kept from block to block."""
        if i == len(self._bounds):
            self._bounds.append(self._problem.bind())
            self._K.append(np.empty(0))
        shape = (record.h.size, self.s, self.n, last - first)
        if self._K[i].size < math.prod(shape):
            self._K[i] = np.empty(math.prod(shape))
        return Pulled(first, last, self._bounds[i], self._K[i][: math.prod(shape)].reshape(shape))

    def _pull_columns(self, piece: Pulled, record: Record, part: Part, rows: Array) -> None:
        mine = np.ascontiguousarray(rows[:, piece.first : piece.last])
        self._pull_rows(piece, record, part, mine)
        rows[:, piece.first : piece.last] = mine

    def _pull_rows(self, piece: Pulled, record: Record, part: Part, rows: Array) -> None:
        solved = pullback.pull_rows(
            piece.bound.system,
            self.a,
            self.b,
            pullback.implicit_for(self.a, self._run.newton.lapack, rows),
            record.h,
            record.stage_t,
            record.stage_r,
            record.stage_x,
            part.jumps,
            part.sources,
            rows,
            piece.K,
            np.empty((self.s, rows.size)),
            pullback.no_estimate(),
        )
        piece.bound.raise_pending()
        if not solved:
            raise SingularJacobianError(
                np.inf, "I − hγJ of an implicit stage", "other tolerances, or an explicit solver"
            )

    @property
    def integration(self) -> Integration:
        """The run of the stepper; of [r | l] where the loss is in the step test."""
        return self._run

    @property
    def stats(self) -> Stats:
        """The cost so far, with the time of everything since the run was made."""
        return self._run.cost(self._pulled, time.perf_counter() - self._began)
