"""Recordings of trials in lockstep: one field, the same fixed steps of an explicit method, all states at once.

    l(w, r0_1 … r0_B) = Σ_b l_b(w, r0_b),        dl/dw in one product over all trials

The times are those of the compiled stepper, to the bit: it runs beside them with a state at rest and the inputs of each
    trial, and says where it steps, and x at every stage; what is short is remembered with the problem, and with those
    that differ from it in the field or in r0 alone. Losses and their derivatives are those of
    ctrnn.gradients.recording.losses, in float64, of the states a block of steps at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ctrnn.clock import working
from ctrnn.errors import DivergenceError, SolverError, UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.finite import check_finite
from ctrnn.gradients.recording.base import Needs, Recording, Seen
from ctrnn.gradients.recording.losses import BlockLosses, Losses
from ctrnn.inputs.program import Program
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings
from ctrnn.solvers import tableaus
from ctrnn.solvers.noise import at_rest
from ctrnn.solvers.runge_kutta import Integration, tableau_of, weights
from ctrnn.trajectory import Stats

#: bytes of times and inputs up to which a problem remembers them, as training asks for the same again and again
REMEMBERED_BYTES = 2**20


class LockstepLosses(NamedTuple):
    """A block's part of the losses (B,), the read-out's gradient summed over the trials.

    And jumps (C, B, n) and sources (C, s, B, n); None where there are none.
    """

    loss: Array
    readout: Array
    jumps: Array | None
    sources: Array | None


class LockstepRecording(Recording):
    """B trials by fixed steps of an explicit tableau: their times, inputs and losses.

    What becomes of their states is the backend's.

    ``pulled`` counts the stages that are pulled back; first: the number of the first trial, where they are some of
    more.

    Raises UsageError for adaptive steps, implicit or exponential solvers, events, and trials whose steps differ.
    """

    def __init__(self, problems: Sequence[Problem], settings: Settings, caller: str, first: int | None = None) -> None:
        self._began = working()
        tableau = tableau_of(settings, caller)
        if tableau.implicit or tableau.exponential:
            raise UsageError(
                "solver", given=tableau.name, allowed=f"an explicit one, for {caller}", hint='solver="rk4", dt=...'
            )
        if settings.dt is None:
            raise UsageError(
                "dt",
                given=None,
                allowed=f"a step size, for {caller}",
                hint="a method without device, which takes adaptive steps",
            )
        check_same_stops(problems, caller)
        self.problems, self.field, self.B, self.n = problems, problems[0].field, len(problems), problems[0].field.n
        self.solver, self.s = tableau.name, tableau.stages
        self.a, self.b = weights(settings.solver)
        self.losses = [Losses(problem, self.b) for problem in problems]
        self.readout_size = self.losses[0].readout_size
        self.integral = any(losses.objective.times is None for losses in self.losses)
        self.restart(problems)
        one = not self.integral and all(problem.driven_by is problems[0].driven_by for problem in problems)
        self._settings, self._caller, self._driven = settings, caller, problems[:1] if one else problems
        self._first = first
        self._key = (settings.solver, settings.dt, settings.max_steps, settings.min_step)
        #: steps to come, at most
        self.steps = int(np.ceil((problems[0].course.end - self._t) / settings.dt)) + problems[0].course.stops.size

    def restart(self, problems: Sequence[Problem]) -> None:
        """Begin again, with problems of other numbers."""
        self._began = working()
        self.problems, self.field = problems, problems[0].field
        self.r0_given = np.stack([problem.r0 for problem in problems])
        self.pulled, self._one, self._t, self._r = 0, Stats(), problems[0].course.start, self.r0_given

    @classmethod
    def supports(cls, problems: Sequence[Problem], settings: Settings, needs: Needs) -> bool:
        """Whether it takes all of these problems, together."""
        if settings.dt is None or settings.library or needs.snapshots or needs.cuts:
            return False
        tableau = tableaus.get(settings.solver)
        if tableau.implicit or tableau.exponential:
            return False
        return all(not problem.events and same_stops(problem, problems[0]) for problem in problems)

    def start(self) -> Seen:
        """What is observed at t0; zeros where nothing is."""
        loss, l_r, readout = np.zeros(self.B), np.zeros((self.B, self.n)), np.zeros(self.readout_size)
        for b, (losses, problem) in enumerate(zip(self.losses, self.problems, strict=True)):
            loss[b], l_r[b], l_o = losses.at(problem.t_span[0], problem.r0)
            readout += l_o
        check_finite(loss, l_r, readout)
        return Seen(loss, l_r, readout)

    def records(self, capacity: int) -> Iterator[Sequence[Record]]:
        """The times and inputs of up to ``capacity`` steps at a time, a record for each trial.

        There is one record where the same input drives them all; raises SolverError.
        """
        key = self._key
        # asked once: another thread with another dt may take it away
        known = [one for problem in self._driven if (one := problem.timelines.get(key)) is not None]
        if len(known) == len(self._driven) and all(record.h.size <= capacity for record, _ in known):
            self._one = known[0][1]
            yield [record for record, _ in known]
            return
        programs = [problem.signals.program() for problem in self._driven]
        clocks = [_clock(*each, self._settings, self._caller) for each in zip(self._driven, programs, strict=True)]
        first: Sequence[Record] | None = None
        try:
            for records in zip(*(clock.blocks(capacity) for clock in clocks), strict=True):
                first = records if first is None else ()
                self._one = clocks[0].stats
                yield records
        except SolverError as error:  # from the clock, whose state is not ours
            if not isinstance(error, DivergenceError):
                error = type(error)(error.reason, t=self._t, r=self._r[0], h=error.h, hint=error.hint)
            raise error from None
        self._one = clocks[0].stats
        for problem, program, record in zip(self._driven, programs, first or (), strict=False):
            # functions of t may give other numbers the next time
            if sum(part.nbytes for part in record) <= REMEMBERED_BYTES and not program.callbacks:
                problem.timelines.clear()  # the last one alone
                problem.timelines[key] = Record(*(part.copy() for part in record)), self._one  # not the room for more

    def remembered(self, what: str, records: Sequence[Record], make: Callable[[Sequence[Record]], Any]) -> Any:
        """What is made of the records, kept with them where they are those that are remembered."""
        timelines = self._driven[0].timelines
        if len(records) > 1 or timelines.get(self._key, (None,))[0] is not records[0]:
            return make(records)
        key = (what, *self._key)
        made = timelines.get(key)
        if made is None:
            made = timelines[key] = make(records)
        return made

    def inputs(self, records: Sequence[Record]) -> Array:
        """x (C, s, B, inputs) at the stages, or (C, s, 1, inputs) where all have the same."""
        C, nx = records[0].h.size, self.field.input_size
        return np.stack([record.stage_x[:C, :, :nx] for record in records], axis=2)

    def seen_in(self, records: Sequence[Record], r: Array, stage_r: Array) -> LockstepLosses:
        """The losses of a block, of r (B, C, n) at the ends of the steps.

        And of stage_r (B, C, s, n) where a loss is an integral.

        Raises DivergenceError for states, and NotFiniteError for losses that are not finite.
        """
        self._check(records[0], r)
        self._t, self._r = float(records[0].t[-1]), r[:, -1].copy()
        every = records if len(records) == self.B else [records[0]] * self.B
        parts: list[BlockLosses] = [
            losses.block(record._replace(r=r[b], stage_r=stage_r[b] if self.integral else record.stage_r))
            for b, (losses, record) in enumerate(zip(self.losses, every, strict=True))
        ]
        for part in parts:
            check_finite(part.loss, part.jumps, part.sources)
        readout = np.add.reduce([part.readout for part in parts])
        jumps, sources = _stacked([part.jumps for part in parts], 1), _stacked([part.sources for part in parts], 2)
        return LockstepLosses(np.array([part.loss for part in parts]), readout, jumps, sources)

    def _check(self, record: Record, states: Array) -> None:
        if np.isfinite(states[:, -1]).all():  # what is no longer finite stays so: r⁺ = r + …
            return
        good = np.isfinite(states).all(axis=2)
        m, b = next((m, b) for m in range(record.h.size) for b in range(self.B) if not good[b, m])
        t, r = (float(record.t[m - 1]), states[b, m - 1]) if m else (self._t, self._r[b])
        which = f" in trial {b + (self._first or 0)}" if self.B > 1 or self._first is not None else ""
        raise DivergenceError(
            f"the solution became infinite or NaN{which}",
            t=t,
            r=r.copy(),
            h=float(record.h[m]),
            hint="a smaller dt, or an adaptive solver",
        )

    @property
    def stats(self) -> Stats:
        """The cost so far, all trials together."""
        one, taken = self._one, working() - self._began
        steps, evaluations = self.B * one.steps, self.B * one.evaluations
        return replace(one, steps=steps, evaluations=evaluations, jacobians=self.pulled, wall_time=taken)


def check_same_stops(problems: Sequence[Problem], caller: str) -> None:
    """Raises UsageError for problems with events, or that stop at different times."""
    for b, problem in enumerate(problems):
        if problem.events:
            raise UsageError(
                "problem", given="events", allowed=f"a problem without events, for {caller}",
                hint="the same method without device",
            )  # fmt: skip
        if not same_stops(problem, problems[0]):
            raise UsageError(
                "trials",
                given=f"trial {b} stops at other times than trial 0",
                allowed="one t_span, and the same observation times and jumps of x, for trials that go together on "
                "a device",
                hint="the method without device, or a batch for each set of times",
            )


def same_stops(one: Problem, other: Problem) -> bool:
    """Whether fixed steps take both to the same times."""
    if one.course is other.course:
        return True
    return one.course.start == other.course.start and np.array_equal(one.course.stops, other.course.stops)


def _stacked(parts: list[Array], axis: int) -> Array | None:
    """What each trial has, one axis more; zeros for those that have nothing, None where nobody has."""
    some = next((part for part in parts if part.size), None)
    if some is None:
        return None
    if len(parts) == 1:
        return np.expand_dims(some, axis)
    return np.stack([part if part.size else np.zeros_like(some) for part in parts], axis=axis)


def _clock(problem: Problem, program: Program, settings: Settings, caller: str) -> Integration:
    """The compiled stepper on the problem's course, with its inputs and nothing to solve."""
    settings = replace(settings, rtol=1e-8, atol=1e-8)  # one a state: there is one state
    bound = at_rest()._bind(program, problem.signals.size)
    return Integration(bound, np.zeros(1), problem.course, settings, keep="stages", label=caller)
