"""One recorded run onto given times, of which nobody knows yet what it is worth: cotangents of its states come later.

Λ ← Λ + l̄_k  at t_k,    Λ pulled back through the steps (ctrnn.kernels.pullback)    ->    dl/dy0 = Λ(t_0), dl/dw
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrnn.course import Course
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.gradients.recording.control import StepControl
from ctrnn.gradients.recording.losses import BlockLosses
from ctrnn.gradients.recording.replay import RecordedSteps, replay, within_mask
from ctrnn.gradients.recording.stepper import StepperRecording, Steps
from ctrnn.kernels.stepper import Record
from ctrnn.memory import claim
from ctrnn.objective import Objective
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.solve import solve
from ctrnn.threads import one_blas_thread
from ctrnn.trajectory import Stats


class Trial(NamedTuple):
    """A recorded run: its blocks, and the step of the whole record (−1: the start) at whose end each time lies."""

    recording: StepperRecording
    blocks: list[Steps]
    rows: Array
    times: Array

    @property
    def y(self) -> Array:
        """The states (T, n) at the times."""
        r = np.concatenate([self.recording.problem.r0[None], *(block.record.r for block in self.blocks)])
        return r[self.rows + 1]

    @property
    def is_explicit(self) -> bool:
        """Whether the stages of its steps are explicit."""
        return not np.triu(self.recording.a).any()

    def pull(self, cotangent: Array, function: Callable[..., Any] | None = None) -> tuple[Array, Array]:
        """dl/dy0 (n,) and dl/dw (m,) for a cotangent (T, n), by the steps taken or by finer ones, if it takes those.

        function : F(t, r, w, x) in torch, for fields that are a call of torch anyway
        """
        return self.settled(cotangent, function)[1:]

    def settled(self, cotangent: Array, function: Callable[..., Any] | None = None) -> tuple[Trial, Array, Array]:
        """A trial of steps that the cotangent can live with, itself if it can; and dl/dy0 and dl/dw by them."""
        recording = self.recording
        settings = recording.integration.settings
        control, trial = StepControl(recording.problem, settings, "odeint"), self
        while True:
            by_torch = function is not None and trial.is_explicit
            y0_bar, w_bar = trial._pulled_by_torch(function, cotangent) if by_torch else trial._pulled(cotangent)
            if control.is_settled(trial.recording.errors, np.append(y0_bar, w_bar)):
                return trial, y0_bar, w_bar
            trial = _recorded(control.problem, trial.times, settings)

    def fine_enough(self, function: Callable[..., Any]) -> Trial:
        """The same where no cotangent is known yet: steps that one in all directions can live with."""
        if self.recording.errors is None or not self.is_explicit:
            return self
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(self.times.size, self.recording.n))
        return self.settled(signs, function)[0]

    def _pulled(self, cotangent: Array) -> tuple[Array, Array]:
        recording, jumps = self.recording, self._jumps(cotangent)
        rows, G = recording.zero_rows(), recording.zero_parameters()
        end = len(jumps)
        with _threads(recording.problem.field):
            for block in reversed(self.blocks):
                begin = end - block.steps
                losses = BlockLosses.of_jumps(np.ascontiguousarray(jumps[begin:end]), recording.s)
                recording.pull(block._replace(losses=losses), rows, G)
                end = begin
        return recording.r0(rows)[0] + jumps[0], within_mask(recording.problem.field, recording.vector(G))

    def _pulled_by_torch(self, function: Any, cotangent: Array) -> tuple[Array, Array]:
        """The same by torch's autograd through one step at a time, whose stages tell the error of the step."""
        field, errors = self.recording.problem.field, self.recording.errors
        w = {k: torch.tensor(v, requires_grad=True) for k, v in field.parameters.items()}
        jumps = torch.from_numpy(self._jumps(cotangent))
        lam, total = torch.zeros(field.n, dtype=torch.float64), [torch.zeros_like(v) for v in w.values()]
        self.recording.zero_rows()
        m = len(jumps) - 1
        for block in reversed(self.blocks):
            sizes = np.zeros((block.steps, 3))
            for k in range(block.steps - 1, -1, -1):
                lam = lam + jumps[m]
                m -= 1
                step = block.cut(k, k + 1).record
                start = torch.tensor(step.stage_r[0, 0], requires_grad=True)
                with torch.enable_grad():
                    (end,), stages = replay(self._steps(step), function, w, start, None)
                # the first stage is the start itself
                found = torch.autograd.grad(end, [start, *w.values(), *stages[1:]], lam, allow_unused=True)
                before = torch.zeros_like(lam) if found[0] is None else found[0]
                for held, part in zip(total, found[1:], strict=False):
                    if part is not None:
                        held += part
                if errors is not None:
                    later = [torch.zeros_like(lam) if V is None else V for V in found[1 + len(w) :]]
                    V = torch.stack([before - lam - sum(later), *later])
                    v = torch.from_numpy(errors.weights) @ V
                    sizes[k] = (torch.stack([v, lam, before]).abs() * torch.from_numpy(errors.scale)).amax(dim=1)
                lam = before
            if errors is not None:
                errors.note(block.record.t, block.record.h, sizes, np.empty(0))
        return (lam + jumps[0]).numpy(), np.concatenate([np.empty(0), *(held.numpy().ravel() for held in total)])

    def _jumps(self, cotangent: Array) -> Array:
        """The cotangents at the end of each step, those of the start in front: (steps + 1, n)."""
        jumps = np.zeros((1 + sum(block.steps for block in self.blocks), self.recording.n))
        np.add.at(jumps, self.rows + 1, cotangent)  # times that are equal but for rounding are one stop
        return jumps

    def _steps(self, record: Record) -> RecordedSteps:
        none = np.empty(0)
        return RecordedSteps(record, self.recording.a, self.recording.b, 0.0, none, none, none, none, Stats())

    def replayed(self, function: Callable[..., Any], w: dict[str, Any], y0: torch.Tensor) -> torch.Tensor:
        """The same states from the same steps, by torch: (T, n), with its graph."""
        if not self.is_explicit:
            allowed = "an explicit method, for second derivatives and for what f closes over"
            raise UsageError("method", given=self.recording.stats.solver, allowed=allowed)
        every = [block.record for block in self.blocks]
        record = Record(*(np.concatenate(parts) for parts in zip(*every, strict=True)))
        states = [y0, *replay(self._steps(record), function, w, y0, None)[0]]
        return torch.stack([states[row + 1] for row in self.rows])


def record_trial(field: Field, x: Any, y0: Array, times: Array, settings: Settings, extra: dict[str, Array]) -> Trial:
    """A run from y0 (n,) at times[0] onto each of the times, in either direction, and onto "jump_t" and "step_t"."""
    return _recorded(*_on_its_way(field, x, y0, times, extra), settings)


def _recorded(problem: Problem, observed: Array, settings: Settings) -> Trial:
    with _threads(problem.field):
        recording = StepperRecording(problem, settings, "odeint")
        blocks = list(recording.forward())
    reached, way = np.concatenate([block.record.t for block in blocks]), problem.course.direction
    rows = np.searchsorted(way * reached, way * observed)
    rows[0] = -1
    return Trial(recording, blocks, rows, observed)


def states(field: Field, x: Any, y0: Array, times: Array, settings: Settings, extra: dict[str, Array]) -> Array:
    """The states (T, n) of the same run, where no gradient is wanted and nothing need be kept."""
    problem, observed = _on_its_way(field, x, y0, times, extra)
    with _threads(field):
        return solve(problem.bind(), problem.r0, problem.course, settings, observed, label="odeint").r


def _on_its_way(field: Field, x: Any, y0: Array, times: Array, extra: dict[str, Array]) -> tuple[Problem, Array]:
    """The problem with its course, and the times as the course has them."""
    span = (float(times.min()), float(times.max()))
    # nothing is asked of the loss; it is how a run is told where to step, and the cotangents come later
    claim("t", 16.0 * times.size * field.n, "fewer times")
    objective = Objective(target=np.zeros((times.size, field.n)), at=np.sort(times))
    problem = Problem(field, y0, span, x, objective)
    course, observed = problem.course, problem.observed
    jumps, stops = extra["jump_t"], np.unique(np.concatenate([course.stops, extra["jump_t"], extra["step_t"]]))
    is_break = np.isin(stops, course.stops[course.is_break]) | np.isin(stops, jumps)
    course = Course(span[0], stops, is_break)
    if times[-1] < times[0]:
        course, observed = course.back(span[1], span[0]), observed[::-1]
    problem.course = course
    return problem, observed


def _threads(field: Field) -> AbstractContextManager[Any]:
    """As in ctrnn.gradients.api.compute: setting BLAS's threads takes longer than a small system does."""
    return one_blas_thread if field._kernel.blas else nullcontext()
