"""Runs with events: from one event to the next, each piece an ordinary run.

    r(t₀) = r0,    dr/dt = F until c(τ, r⁻) = 0,    r⁺ = R(τ, r⁻),    dr/dt = F until …

The steps are taken as if there were no events, and searched for roots (ctrnn.solvers.crossings); the state at an event
is that of a step that ends on it, as accurate as any step, not only as the dense output. Every piece then is a problem
of its own, whose run and whose gradient are those
of ctrnn.solvers.solve and ctrnn.gradients.recording.stepper, with the same steps.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from ctrnn.clock import working
from ctrnn.course import Course
from ctrnn.errors import StepUnderflowError, TooManyStepsError, UsageError
from ctrnn.events import Occurrences, ZenoError
from ctrnn.fields.base import Array
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.crossings import Search
from ctrnn.solvers.runge_kutta import tableau_of
from ctrnn.trajectory import Stats

#: so many returns of one event in a row, each after less than this part of the time span, are a halt of time
ZENO_COUNT, ZENO_GAP = 10, 1e-9


@dataclass(frozen=True)
class Piece:
    """A run between two events.

    Attributes
    ----------
    problem : ctrnn.Problem
        From r⁺ of the last event to the next, without events.
    fired : tuple of int
        The events at its end, in the order in which they act; none where the time span ends first.
    before : ndarray (n,)
        r⁻ at its end.
    states : tuple of ndarray (n,)
        r after each of those that fired, the last being r⁺.
    sizes : ndarray (E,)
        The largest |c| of each event in the piece.
    ended : bool
        Whether the run ends here, by its last event.
    """

    problem: Problem
    fired: tuple[int, ...]
    before: Array
    states: tuple[Array, ...]
    sizes: Array
    ended: bool = False

    @property
    def end(self) -> float:
        """The time at which it ends."""
        return self.problem.t_span[1]

    @property
    def after(self) -> Array:
        """r⁺ at its end, (n,)."""
        return self.states[-1] if self.states else self.before


def pieces(problem: Problem, settings: Settings, course: Course | None = None) -> tuple[list[Piece], Stats]:
    """The run of a problem with events, cut at each of them, and what it cost to find them.

    Raises
    ------
    UsageError
        For solvers that do not show their steps.
    ZenoError
        Where events come ever faster.
    EventError
        Where a condition is NaN.
    SolverError
        As the solver does.
    """
    if tableau_of(settings, "a problem with events").exponential:
        raise UsageError("solver", given=settings.solver, allowed="a Runge–Kutta solver, for a problem with events")
    course = course or problem.course
    plain = copy.copy(problem)
    plain.events = ()
    bound = plain.bind()
    (t, end), r = problem.t_span, problem.r0
    fired: tuple[int, ...] = ()
    residual = np.zeros(len(problem.events))  # |c| where it counts as zero
    counts, halts, last = (np.zeros(len(problem.events)) for _ in range(3))
    last[:] = -np.inf
    steps, found, cost, stiff, began = 0, [], 0, False, working()
    while True:
        ahead = course.stops > t
        way = Course(t, course.stops[ahead], course.is_break[ahead])
        left = replace(settings, max_steps=max(1, settings.max_steps - steps))
        search = Search(bound, problem, r, way, left, residual)
        try:
            hit = search.run()
        except TooManyStepsError as error:
            reason = f"more than {settings.max_steps} steps"
            raise TooManyStepsError(reason, t=error.t, r=error.r, h=error.h, hint=error.hint) from error
        except StepUnderflowError as error:
            hint = f"{error.hint}; or, if an event should have come before, a condition that is met earlier"
            raise StepUnderflowError(error.reason, t=error.t, r=error.r, h=error.h, hint=hint) from error
        steps, cost, stiff = steps + search.steps, cost + search.evaluations, stiff or search.run_.stats.stiff
        if hit is None:
            found.append(_piece(plain, t, end, r, way, (), search.r, (), search.sizes, True))
            return found, Stats(evaluations=cost, stiff=stiff, wall_time=working() - began)
        tau, before, fired = hit
        stops = way.stops < tau
        way = Course(t, np.append(way.stops[stops], tau), np.append(way.is_break[stops], True))
        x = problem.x.evaluate([tau], [np.nextafter(tau, t)])[0]
        state, states, ended = before, [], False
        for e in fired:
            state = problem.events[e].after(tau, state, x)
            states.append(state)
            counts[e] += 1
            halts[e] = halts[e] + 1 if tau - last[e] < ZENO_GAP * (end - problem.t_span[0]) else 0
            last[e] = tau
            terminal = problem.events[e].event.terminal
            if terminal and counts[e] >= int(terminal):
                ended, fired = True, fired[: len(states)]
                break
        found.append(_piece(plain, t, tau, r, way, fired, before, tuple(states), search.sizes, ended or tau >= end))
        found[-1] = replace(found[-1], ended=ended)
        if ended or tau >= end:
            return found, Stats(evaluations=cost, stiff=stiff, wall_time=working() - began)
        if halts.max() >= ZENO_COUNT:
            name = problem.events[int(halts.argmax())].event.label
            raise ZenoError(
                f"event {name!r} comes ever faster (a Zeno run)",
                t=tau,
                r=state,
                h=tau - t,
                hint="an event that ends the run before, or another reset: a ball that lies still does not bounce",
            )
        residual = np.zeros(len(problem.events))
        for e in fired:
            c = problem.events[e].c
            residual[e] = 4.0 * abs(c(tau, before, x)) + 64 * np.finfo(float).eps * search.sizes[e]
        t, r = tau, state


def _piece(
    plain: Problem,
    start: float,
    end: float,
    r: Array,
    course: Course,
    fired: tuple[int, ...],
    before: Array,
    states: tuple[Array, ...],
    sizes: Array,
    is_last: bool,
) -> Piece:
    part = copy.copy(plain)
    part.t_span, part.r0, part.course = (start, end), r, course
    # an observation at the time of an event sees the state after it
    part.observed = plain.observed[plain.observed <= end] if is_last else plain.observed[plain.observed < end]
    return Piece(part, fired, before, states, sizes)


def occurrences(problem: Problem, found: list[Piece]) -> Occurrences:
    """What happened, from the pieces of a run."""
    rows = [(p.end, e, b, a) for p in found for e, b, a in zip(p.fired, (p.before, *p.states), p.states, strict=False)]
    n = problem.field.n
    t, which, before, after = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Occurrences(
        np.array(t, dtype=float),
        np.array(which, dtype=int),
        np.array(before).reshape(-1, n),
        np.array(after).reshape(-1, n),
        tuple(event.event.label for event in problem.events),
        problem.field.state_names,
    )
