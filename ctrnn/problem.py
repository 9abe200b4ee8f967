"""What is asked: a field, where it starts, how long it runs, what drives it, and what its run is worth.

dr/dt = F(t, r, w, x(t)),  r(t0) = r0,  t0 ≤ t ≤ t1,     l = Σ_k a_k ℓ(o(t_k), y_k)  or  l = ∫ a(t) ℓ(o, y) dt
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.events import BoundEventObjective, EventObjective, bound_events
from ctrnn.fields.base import Array, Bound, Field, checked_array
from ctrnn.inputs import Constant, Input, as_input, merge_times, stack
from ctrnn.inputs.program import Program
from ctrnn.inputs.times import RESOLUTION, align
from ctrnn.objective import BoundObjective, Objective


class Course(NamedTuple):
    """The way of a solver: from ``start`` over the ``stops`` (K,), in the direction of time, the last of which is the end.

    It steps onto each of them; at those that ``is_break`` (K,) marks, F jumps.
    """

    start: float
    stops: Array
    is_break: Array

    @property
    def end(self) -> float:
        return float(self.stops[-1])

    @property
    def way(self) -> float:
        """1 forwards in time, −1 backwards."""
        return 1.0 if self.end > self.start else -1.0

    def onto(self, times: Array) -> Course:
        """The same course with more stops, at ``times`` between its start and its end."""
        way = int(self.way)
        inside = times[(way * times > way * self.start) & (way * times < way * self.end)]
        if not inside.size:
            return self
        every = np.unique(np.concatenate([self.stops, inside]))
        is_break = np.zeros(every.size, dtype=bool)
        is_break[every.searchsorted(self.stops[self.is_break])] = True
        return Course(self.start, every[::way], is_break[::way])

    def back(self, start: float, end: float) -> Course:
        """The part from ``start`` down to ``end`` < start."""
        inside = (self.stops < start) & (self.stops > end)
        return Course(start, np.append(self.stops[inside][::-1], end), np.append(self.is_break[inside][::-1], True))

    def pieces(self) -> Iterator[tuple[float, float]]:
        """The intervals between the breaks, in the direction of time."""
        start = self.start
        for stop, breaks in zip(self.stops, self.is_break, strict=True):
            if breaks or stop == self.stops[-1]:
                yield start, float(stop)
                start = float(stop)


class Problem:
    """A field with its initial state, time span, input and objective; given a batch of them, a ctrnn.Trials.

    Parameters
    ----------
    field : ctrnn.Equations, ctrnn.RateNetwork, ctrnn.TorchField
    r0 : (n,) numbers, a table state name -> number, or one number for all states
    t_span : (t0, t1), t1 > t0
    x : ctrnn.inputs.Input, or a number or (inputs,) numbers for a constant, or a callable of t. None: no input; networks
        then run with x = 0, equations that name inputs raise UsageError
    objective : ctrnn.Objective or ctrnn.EventObjective, or None where only the solution is wanted
    events : ctrnn.Event objects: what happens where a condition on the state comes true. ctrnn.simulate and the gradients "adjoint",
        "rtrl" and "central-difference" take them, by our own solvers, with their certificates; everything else refuses a problem with events

    r0 of shape (B, n), or lists of B states, t_spans, inputs or objectives, make a batch: Problem(...) is then the ctrnn.Trials of the same
    arguments, which simulate, gradient, fit and the others take as they take a problem.

    Raises UsageError for shapes, values or times that do not fit the field.

    >>> from ctrnn import Equations
    >>> decay = Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> Problem(decay, r0=[1.0], t_span=(0.0, 1.0))
    Problem(1 state, 1 parameter, 0 inputs, t from 0 to 1, no objective)
    >>> len(Problem(decay, r0=[[1.0], [2.0], [3.0]], t_span=(0.0, 1.0)))
    3
    """

    def __new__(
        cls,
        field: Any = None,
        r0: Any = None,
        t_span: Any = None,
        x: Any = None,
        objective: Any = None,
        events: Any = (),
    ) -> Any:
        from ctrnn.trials import Trials, is_batch

        if is_batch(r0, t_span, x, objective):
            return Trials(field, r0, t_span, x, objective, events)
        return object.__new__(cls)

    def __init__(
        self,
        field: Field,
        r0: Any,
        t_span: tuple[float, float],
        x: Any = None,
        objective: Objective | EventObjective | None = None,
        events: Any = (),
    ) -> None:
        if not isinstance(field, Field):
            raise UsageError("field", given=field, allowed="a field: Equations, RateNetwork, TorchField")
        self.field = field
        self.r0 = state_of(field, r0)
        self.t_span = _span(t_span)
        t0, t1 = self.t_span
        if objective is not None and not isinstance(objective, (Objective, EventObjective)):
            raise UsageError("objective", given=objective, allowed="a ctrnn.Objective or ctrnn.EventObjective")
        self._objective = objective
        self.objective: BoundObjective | None = None if objective is None else objective.bind(field)
        self._events, self.events = events, bound_events(events, field)
        if isinstance(self.objective, BoundEventObjective):
            self.objective.number([event.event.label for event in self.events])
        self._x = _input(field, x)
        _covered("x", self._x, t0, t1)
        times = np.empty(0)
        breaks = [self._x.breaks]
        if self.objective is not None:
            if self.objective.times is not None and self.objective.times.size:
                times = self.objective.times
                times = align(times, np.array([t0, t1]))
                if times[0] < t0 or times[-1] > t1:
                    outside = times[0] if times[0] < t0 else times[-1]
                    raise UsageError(
                        "objective.at", given=float(outside), allowed=f"times from {t0:g} to {t1:g} (t_span)"
                    )
            elif self.objective.signals is not None:
                _covered("objective.target or weight", self.objective.signals, t0, t1)
                breaks.append(self.objective.signals.breaks)
        every = merge_times([t0, t1], times, *breaks)
        for end in (t0, t1):  # times that are the end but for rounding: no step between the two
            every[abs(every - end) <= RESOLUTION * abs(end)] = end
        every = np.unique(every)
        stops = np.append(every[(every > t0) & (every < t1)], t1)
        jumps = merge_times(np.empty(0), *breaks)
        #: where a solver goes: from t0 to t1, onto each observation and each jump of F
        self.course = Course(t0, stops, np.isin(stops, align(jumps, every)))
        self.x = self._x.aligned(every)
        self._every = every
        #: what is known of runs by fixed steps whatever the field's numbers are (ctrnn.gradients.recording.lockstep): their times and inputs
        self.timelines: dict[Any, Any] = {}
        #: (K,) the objective's observation times, each on a stop or at t0; empty without
        self.observed = align(times, every)

    def __repr__(self) -> str:
        def count(k: int, what: str) -> str:
            return f"{k} {what}{'' if k == 1 else 's'}"

        f = self.field
        worth = "no objective" if self.objective is None else self.objective.describe()
        parts = [count(f.n, "state"), count(f.m, "parameter"), count(f.input_size, "input")]
        return f"Problem({', '.join(parts)}, t from {self.t_span[0]:g} to {self.t_span[1]:g}, {worth})"

    def replace(self, **changes: Any) -> Problem:
        """A copy with other field, r0, t_span, x, objective or events."""
        every: dict[str, Any] = {
            "field": self.field,
            "r0": self.r0,
            "t_span": self.t_span,
            "x": self._x,
            "objective": self._objective,
            "events": self._events,
        }
        unknown = set(changes) - set(every)
        if unknown:
            raise UnknownNameError("replace", sorted(unknown)[0], every)
        if changes.keys() == {"field"} and self._fits(changes["field"]):
            same = copy.copy(self)
            same.field, same.r0 = changes["field"], self.r0.copy()
            return same
        made = Problem(**(every | changes))
        if not changes.keys() & {"t_span", "x", "objective", "events"} and self._is_as_wide(made):
            made.timelines = self.timelines
        return made

    def _is_as_wide(self, made: Any) -> bool:
        """Whether ``made`` is one problem, with as many states and inputs: the signals of an objective are as many as it watches."""
        own = self.field.n, self.field.input_size
        return isinstance(made, Problem) and (made.field.n, made.field.input_size) == own

    def _fits(self, field: Any) -> bool:
        """Whether all that is known of times, inputs and the objective is true of this field, too: it differs in its numbers."""
        own, is_bound = self.field, self.events or isinstance(self.objective, BoundEventObjective)
        names = type(field) is type(own) and (field.state_names, field.input_names) == (
            own.state_names,
            own.input_names,
        )
        return names and not is_bound

    @property
    def driven_by(self) -> Input:
        """The input as it was given: one and the same object for all trials that share it."""
        return self._x

    @cached_property
    def signals(self) -> Input:
        """The input's channels; for an integral objective, its targets and its weight behind them."""
        if self.objective is None or self.objective.signals is None:
            return self.x
        extra = self.objective.signals.aligned(self._every)
        return stack(self.x, extra) if self.x.size else extra

    @cached_property
    def _program(self) -> Program | None:
        """That of ``signals``, where it is numbers alone; functions of t keep what they raise, so each run has its own."""
        program = self.signals.program()
        return None if program.callbacks else program

    def bind(self) -> Bound:
        """The field at its parameters, driven by ``signals``.

        Raises UsageError for a problem with events: what binds it knows nothing of them.
        """
        if self.events:
            raise UsageError(
                "problem",
                given=f"{len(self.events)} events",
                allowed="a problem without events, here",
                hint="ctrnn.simulate, or ctrnn.gradient with method='adjoint' or 'rtrl', and solver='tsit5' (or another of our own)",
            )
        return self.field.bind(self._program or self.signals.program(), self.signals.size)

    def needs_objective(self, caller: str) -> BoundObjective:
        if self.objective is None:
            raise UsageError(
                "problem",
                given="a problem without objective",
                allowed=f"one with an objective, for {caller}",
                hint="Problem(..., objective=ctrnn.Objective(...))",
            )
        return self.objective


def checked_problem(problem: Any) -> Problem:
    """The problem itself; raises UsageError for anything else."""
    if not isinstance(problem, Problem):
        hint = "one trial of the batch: trials[0]" if hasattr(problem, "problems") else ""
        raise UsageError("problem", given=problem, allowed="a ctrnn.Problem", hint=hint)
    return problem


def state_of(field: Field, r0: Any, argument: str = "r0") -> Array:
    """A state of the field, (n,), from numbers, a table state name -> number, or one number for all.

    Raises UsageError, and UnknownNameError for a state that does not exist.
    """
    if not hasattr(
        field, "n"
    ):  # whatever has states will do: an equilibrium is found of anything that behaves like a field
        raise UsageError("field", given=field, allowed="a field: Equations, RateNetwork, TorchField")
    if r0 is None:
        raise UsageError(argument, given=None, allowed=f"{field.n} numbers, or a table state name -> number")
    if isinstance(r0, Mapping):
        for name in r0:
            if name not in field.state_names:
                raise UnknownNameError(argument, name, field.state_names)
        missing = [name for name in field.state_names if name not in r0]
        if missing:
            raise UsageError(argument, given=dict(r0), allowed=f"a value for each state; {missing[0]} has none")
        r0 = [r0[name] for name in field.state_names]
    if np.ndim(r0) == 0:
        r0 = np.full(field.n, checked_array(argument, r0, ()))
    return checked_array(argument, r0, (field.n,))


def _span(t_span: Any) -> tuple[float, float]:
    times = checked_array("t_span", t_span, (2,))
    t0, t1 = float(times[0]), float(times[1])
    if not t1 > t0:
        raise UsageError("t_span", given=(t0, t1), allowed="(t0, t1) with t1 > t0")
    return t0, t1


def _input(field: Field, x: Any) -> Input:
    if x is None:
        if field.input_size and not field.input_is_optional:
            raise UsageError("x", given=None, allowed=f"a signal with channels {', '.join(field.input_names)}")
        return _nothing(field.input_size)
    signal = as_input(x)
    if signal.size != field.input_size:
        raise UsageError(
            "x",
            given=f"{signal.size} channels",
            allowed=f"{field.input_size} (the field's inputs)",
            hint="ctrnn.inputs.stack(...) puts signals side by side",
        )
    return signal


@lru_cache
def _nothing(size: int) -> Input:
    """No input, one object for all."""
    return Constant(np.zeros(size))


def _covered(name: str, signal: Input, t0: float, t1: float) -> None:
    low, high = signal.span
    slack = 1e-9 * (t1 - t0)
    if low > t0 + slack or high < t1 - slack:
        raise UsageError(
            name, given=f"data from {low:g} to {high:g}", allowed=f"data that cover {t0:g} to {t1:g} (t_span)"
        )


@dataclass(frozen=True)
class Settings:
    """How a problem is solved: the solver's name and its step control.

    solver : a tableau's name, or "scipy:NAME", "torchdiffeq:NAME"; rtol, atol : tolerances; dt : fixed step (then no control);
    max_steps : steps tried before giving up; min_step : the smallest step, in the unit of t (0: what moves t at all)
    """

    solver: str = "tsit5"
    rtol: Any = 1e-8
    atol: Any = 1e-10
    dt: float | None = None
    max_steps: int = 1_000_000
    min_step: float = 0.0

    @classmethod
    def of(cls, *arguments: Any) -> Settings:
        """Settings(...); for the same numbers the same object, so that they are checked once."""
        return _settings(*arguments) if _CONSTANT.issuperset(map(type, arguments)) else cls(*arguments)

    def __post_init__(self) -> None:
        if not isinstance(self.solver, str):
            raise UsageError("solver", given=self.solver, allowed="a solver's name")
        for name in ("rtol", "atol"):
            value = checked_array(name, getattr(self, name))
            if (value < 0).any():
                raise UsageError(name, given=getattr(self, name), allowed="positive numbers")
        if not (np.any(np.asarray(self.rtol) > 0) or np.any(np.asarray(self.atol) > 0)):
            raise UsageError("rtol, atol", given=(self.rtol, self.atol), allowed="at least one of them positive")
        if self.dt is not None and not checked_array("dt", self.dt, ()) > 0:
            raise UsageError("dt", given=self.dt, allowed="a positive number in the unit of t")
        if not isinstance(self.max_steps, (int, np.integer)) or self.max_steps < 1:
            raise UsageError("max_steps", given=self.max_steps, allowed="a whole number, at least 1")
        if checked_array("min_step", self.min_step, ()) < 0:
            raise UsageError("min_step", given=self.min_step, allowed="a number, at least 0")

    @cached_property
    def _tolerances(self) -> dict[int, tuple[Array, Array]]:
        return {}

    def tolerances(self, n: int) -> tuple[Array, Array]:
        """rtol and atol of n components, (n,) each, not to be changed; raises UsageError where that is impossible."""
        if n not in self._tolerances:
            self._tolerances[n] = self._spread(n)
        return self._tolerances[n]

    def _spread(self, n: int) -> tuple[Array, Array]:
        both = []
        for name in ("rtol", "atol"):
            value = np.asarray(getattr(self, name), dtype=float)
            if value.shape not in ((), (n,)):
                raise UsageError(
                    name, given=f"shape {value.shape}", allowed=f"a number, or one for each of {n} components"
                )
            both.append(np.full(n, value) if value.ndim == 0 else value.copy())
        rtol, atol = both
        if ((rtol == 0) & (atol == 0)).any():
            k = int(np.argmax((rtol == 0) & (atol == 0)))
            raise UsageError(
                "rtol, atol", given=f"both zero for component {k}", allowed="at least one of them positive"
            )
        return rtol, atol

    @property
    def library(self) -> str:
        """ "" for our own tableaus, else the library that solves."""
        return self.solver.partition(":")[0].lower() if ":" in self.solver else ""


#: what stays as it is; a tensor, which has a hash like them, may change
_CONSTANT = frozenset({str, int, float, type(None), np.float64, np.int64})


@lru_cache(typed=True)
def _settings(*arguments: Any) -> Settings:
    return Settings(*arguments)
