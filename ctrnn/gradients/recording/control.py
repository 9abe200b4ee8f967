"""Steps that the sensitivity can live with: run, go back, and run again where that says that steps were too long.

    forward     the steps that the error of the state allows
    back        the pullback of λ, which tells the error of λ in each step (ctrnn.gradients.recording.sensitivity_error)
    again       where that is too much, onto times inside those steps, until it is not

The gradient that comes out is exact for the steps of the last run, and the last run is fine enough for its gradient to
be that of the differential equation, as the tolerance says. A run that was fine enough costs nothing more.
``error_control="state"`` does without.

Runs are compared by their dl/dr0, so that all methods stop at the same one. A schedule whose own pass takes the
cotangent of the loss through all steps is repeated; for others one such pass goes ahead, in bounded memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ctrnn.errors import GradientAccuracyWarning
from ctrnn.fields.base import Array
from ctrnn.gradients.recording.base import Totals
from ctrnn.gradients.recording.sensitivity_error import StepErrors, is_controlled
from ctrnn.gradients.recording.stepper import StepperRecording
from ctrnn.problem import Problem, Settings

#: the most runs for one gradient
ROUNDS = 8
#: a gradient that the next, finer run changes by less than so many rtol was right
SETTLED = 10.0
#: the most times to step onto, for each step of the first run and for 1,000 more
MOST_TIMES = 30
#: bytes of the record of a segment of the pass that goes ahead
SEGMENT_BYTES = 2**19


class StepControl:
    """The times onto which the runs for one gradient step, found in a few rounds."""

    def __init__(self, problem: Problem, settings: Settings, caller: str) -> None:
        self._given, self._rtol, self._caller = problem, float(np.min(settings.rtol)), caller
        self._times = np.empty(0)
        self._last: Array | None = None
        self._rounds, self._first, self._has_warned = 0, 0, False

    @property
    def problem(self) -> Problem:
        """The problem with the stops of this round."""
        return self._given.onto(self._times) if self._times.size else self._given

    def is_settled(self, errors: StepErrors | None, found: Array | None) -> bool:
        """Whether a run is fine enough: from what its way back told of its steps, and what it found.

        found : None where nobody knows yet what it will be worth
        """
        if errors is None:
            return True
        is_settled = self._is_settled(errors, found)
        if is_settled and not self._has_warned and errors.time_scale is not None:
            error = errors.time_scale.error(100 * self._rtol)
            if error:
                known = f"; the derivative by all rates at once, which is known, is off by {error:.1g}"
                warn_of_accuracy(self._caller, self._rtol, known, self._rounds)
        return is_settled

    def _is_settled(self, errors: StepErrors, found: Array | None) -> bool:
        self._first = self._first or errors.steps
        most = MOST_TIMES * (self._first + 1000) - self._times.size
        divided = errors.divided(self._rounds > 0, most)
        self._rounds += 1
        if not divided.size:
            return True
        change = np.inf
        is_finite = found is None or bool(np.isfinite(found).all())
        was_finite = self._last is None or bool(np.isfinite(self._last).all())
        if not (is_finite or was_finite):
            return True  # finer steps do not help: it is the gradient that is infinite
        if found is not None and self._last is not None and is_finite and was_finite:
            with np.errstate(over="ignore"):
                change = float(np.linalg.norm(found - self._last)) / (float(np.linalg.norm(found)) or 1.0)
        if change <= SETTLED * self._rtol:
            return True
        if self._rounds == ROUNDS or divided.size > most:
            known = f"; the errors of its steps add up to {errors.estimate:.1g}" if np.isfinite(errors.estimate) else ""
            known = f"; the last two runs differ by {change:.1g}" if np.isfinite(change) else known
            warn_of_accuracy(self._caller, self._rtol, known, self._rounds)
            self._has_warned = True
            return True
        self._last, self._times = found, np.unique(np.concatenate([self._times, divided]))
        return False


def controlled(
    problem: Problem,
    settings: Settings,
    caller: str,
    schedule: Callable[[Any], Totals],
    whole_way: bool,
    first: StepperRecording | None = None,
) -> Totals:
    """What a schedule finds along a run of one problem by the stepper, whose steps the sensitivity can live with.

    first : a recording of the problem that is there already, for the first run of the whole way
    """
    if not is_controlled(settings):
        return schedule(StepperRecording(problem, settings, caller))
    if not whole_way:
        return schedule(refined_recording(problem, settings, caller))
    control, spent = StepControl(problem, settings, caller), None
    while True:
        recording = first or StepperRecording(control.problem, settings, caller)
        first, found = None, schedule(recording)
        spent = found.stats if spent is None else replace(
            found.stats,
            evaluations=spent.evaluations + found.stats.evaluations,
            jacobians=spent.jacobians + found.stats.jacobians,
            wall_time=spent.wall_time + found.stats.wall_time,
        )  # fmt: skip
        if control.is_settled(recording.errors, found.r0.ravel()):
            return found._replace(stats=spent)


def refined_recording(problem: Problem, settings: Settings, caller: str) -> StepperRecording:
    """A run of one problem, not begun yet, whose steps the sensitivity of its loss can live with."""
    fine = fine_enough(problem, settings, caller)
    return StepperRecording(fine, replace(settings, error_control="state"), caller)


def fine_enough(problem: Problem, settings: Settings, caller: str) -> Problem:
    """The problem with stops, if it takes any, by which the steps of a run are fine enough for its gradient."""
    if not is_controlled(settings):
        return problem
    control = StepControl(problem, settings, caller)
    while True:
        recording = StepperRecording(control.problem, settings, caller)
        lam = recording.start().l_r.ravel() + _looked_through(recording)
        if control.is_settled(recording.errors, lam):
            return control.problem


def _looked_through(recording: StepperRecording) -> Array:
    """dl/dr0 (n,) by one pass forward and back, a segment at a time: all but the last are run again."""
    held, block = [], None
    numbers = 2 + recording.n + recording.s * (1 + recording.n + recording.bound.x_stride)
    segment = max(32, SEGMENT_BYTES // (8 * numbers))
    while not recording.is_over:
        held.append(recording.snapshot())
        block = recording.advance(segment)
    rows = recording.zero_rows()
    while held:
        state = held.pop()
        if block is None:
            recording.restore(state)
            block = recording.advance(segment)
        recording.pull_alone(recording.weighed(block.record), rows)
        block = None
    return rows[:, 0]


def warn_of_accuracy(caller: str, rtol: float, known: str = "", rounds: int = ROUNDS) -> None:
    """Say that the steps could not be made so short as the sensitivity wants them."""
    warnings.warn(
        f"{caller}: after {rounds} run{'s with ever shorter steps' * (rounds > 1)} the gradient may still be off by "
        f"more than 100 rtol = {100 * rtol:.1g} (relative{known}). Try: a smaller rtol, a solver of higher order, or a "
        "stiff one",
        GradientAccuracyWarning,
        stacklevel=3,
    )
