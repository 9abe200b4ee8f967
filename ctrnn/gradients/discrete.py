"""A forward run of our own solver with what its pullback needs: the common part of the methods that are exact for the steps taken.

The loss ∫ aℓ dt is integrated by the steps' own quadrature. With adaptive steps its error must count, or a weight that changes faster than
the state would be missed without a word: then the run is that of [r | l], with l in the step test, and r is what is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ctrnn.errors import SingularJacobianError
from ctrnn.fields.base import Array
from ctrnn.gradients.forward import ForwardSystem
from ctrnn.gradients.gradient import check_finite
from ctrnn.gradients.losses import Losses, Part
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.runge_kutta import BLOCK, Integration, tableau_of
from ctrnn.trajectory import Stats


class DiscreteRun:
    """Blocks of recorded steps with their losses, and the pullback through them.

    Raises UsageError where the solver is another library's: it does not show its steps.
    """

    def __init__(self, problem: Problem, settings: Settings, caller: str) -> None:
        self._began = time.perf_counter()
        tableau = tableau_of(settings, caller)
        self.s = s = tableau.stages
        self.a, self.b = np.ascontiguousarray(tableau.a[:s, :s]), np.ascontiguousarray(tableau.b[:s])
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
        self._K = np.empty(0)

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
        from ctrnn.kernels.pullback import pullback

        n, q = rows.shape
        steps = record.h.size
        if self._K.size < steps * self.s * n * q:
            self._K = np.empty(steps * self.s * n * q)
        K = self._K[: steps * self.s * n * q].reshape(steps, self.s, n, q)
        solved = pullback(
            self.bound.system,
            self.a,
            self.b,
            self._run.newton.lapack,
            record.h,
            record.stage_t,
            record.stage_r,
            record.stage_x,
            part.jumps,
            part.sources,
            rows,
            K,
            G,
        )
        self.bound.raise_pending()
        if not solved:
            raise SingularJacobianError(
                np.inf, "I − hγJ of an implicit stage", "other tolerances, or an explicit solver"
            )
        self._pulled += steps * self.s

    @property
    def integration(self) -> Integration:
        """The run of the stepper; of [r | l] where the loss is in the step test."""
        return self._run

    @property
    def stats(self) -> Stats:
        """The cost so far, with the time of everything since the run was made."""
        taken = time.perf_counter() - self._began
        return replace(self._run.stats, wall_time=taken) + Stats(jacobians=self._pulled)
