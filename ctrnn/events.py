"""State events: where a condition on the state comes true, and what happens there.

    c(τ, r⁻, w, x) = 0        r⁺ = R(τ, r⁻, w, x)

τ is found inside a step (ctrnn.solvers.events); the run continues from r⁺, or ends. Integrate-and-fire neurons,
impacts, switches, threshold and period measurements are events. The derivatives through τ are those of the saltation
matrix (ctrnn.gradients.sensitivity.events).

(Hiskens & Pai, IEEE Trans. Circuits Syst. I 47, 204, 2000; Hairer, Nørsett & Wanner, Solving Ordinary Differential
Equations I, 1993, II.6.)
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctrnn.bound_objective import BoundObjective
from ctrnn.errors import CtrnnError, SolverError, UsageError, one_of
from ctrnn.fields.base import Array, Field
from ctrnn.fields.checks import as_mapping, texts
from ctrnn.fields.formula import Formula
from ctrnn.files import atomic_path
from ctrnn.inputs.checks import finite
from ctrnn.names import arrays, as_call, position
from ctrnn.numbers import MOST, is_whole


class EventError(CtrnnError, ArithmeticError):
    """An event that does not give what was asked of it. Attributes: ``t``, ``r`` (n,), where and in which state."""

    def __init__(self, reason: str, t: float, r: Any, hint: str) -> None:
        self.t, self.r = float(t), np.asarray(r)
        super().__init__(
            f"{reason}; at t = {self.t:.10g}, state r = {np.array2string(self.r, threshold=6)}. Try: {hint}"
        )


class ZenoError(SolverError):
    """An event that happens ever faster, so that time comes to a halt."""


#: what people write in the place of a condition
_COMPARISON = re.compile(r"([^<>=]+)([<>])=?([^<>=]+)")


@dataclass(frozen=True)
class Event:
    """What happens where a condition crosses zero.

    Parameters
    ----------
    condition : str
        c, an expression in t, the states, inputs and parameters (of a network: those that are single numbers), as
        "v - theta" or "sum(r) - 1".
    direction : {0, 1, -1}
        1 for crossings from below, −1 from above, 0 for both.
    terminal : bool or int
        True ends the run at the event, a number k at its k-th occurrence.
    reset : mapping of str to str, optional
        State, or array of states -> expression in the same names, of their values before the event: {"v": "v_reset",
        "w": "w + b"}. Other states stay. None: the state stays as it was, and the event is only recorded.
    name : str, optional
        Its name for the objective and the report; by default the condition.

    Raises
    ------
    UsageError
        For other values. What concerns the field is checked by ctrnn.Problem, which raises ExpressionError and
        UnknownNameError.

    Notes
    -----
    A condition that is 0 at the start of a run, or after its own reset, is not crossing there: the next crossing
    counts. A condition that jumps over zero, with its input or by the reset of another event, has not crossed it.
    Events at one time act in their order.

    Examples
    --------
    >>> import ctrnn
    >>> ball = ctrnn.Equations({"h": "v", "v": "-g"}, parameters={"g": 9.81, "e": 0.8})
    >>> bounce = Event("h", direction=-1, reset={"v": "-e*v"})
    >>> run = ctrnn.simulate(ctrnn.Problem(ball, [1.0, 0.0], (0.0, 1.5), events=[bounce]))
    >>> run.events.t.round(6)
    array([0.451524, 1.173961])
    """

    condition: str
    direction: int = 0
    terminal: bool | int = False
    reset: Mapping[str, str] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.condition, str):
            raise UsageError("condition", given=self.condition, allowed="an expression as text")
        found = _COMPARISON.fullmatch(self.condition)
        if found and found[1].count("(") == found[1].count(")") and " if " not in self.condition:
            left, sign, right = (part.strip() for part in found.groups())
            hint = f"{left} - ({right}), with direction={1 if sign == '>' else -1}"
            raise UsageError("condition", given=self.condition, allowed="a number that crosses zero", hint=hint)
        if isinstance(self.direction, bool) or self.direction not in (-1, 0, 1):
            raise UsageError("direction", given=self.direction, allowed="1 (from below), -1 (from above) or 0 (both)")
        if not (isinstance(self.terminal, bool) or is_whole(self.terminal)) or self.terminal < 0:
            raise UsageError("terminal", given=self.terminal, allowed="True, False, or a number of occurrences")
        if self.name is not None and not isinstance(self.name, str):
            raise UsageError("name", given=self.name, allowed="text, or None")
        if self.reset is not None:
            reset = texts("reset", as_mapping("reset", self.reset))
            if not reset:
                raise UsageError("reset", given=reset, allowed="at least one state, or None")
            object.__setattr__(self, "reset", reset)

    @property
    def label(self) -> str:
        """The name, or the condition of an event without one."""
        return self.condition if self.name is None else self.name


class BoundEvent:
    """An event with its formulas for one field: c, and R for each state that is reset (its number -> formula)."""

    def __init__(self, event: Event, field: Field) -> None:
        self.event = event
        self.c = Formula(event.condition, field, f"the condition of event {event.label!r}")
        self.R: dict[int, Formula] = {}
        places: dict[str, Any] = {name: (slice(i, i + 1), ()) for i, name in enumerate(field.state_names)}
        places |= arrays(tuple(field.state_names))
        for name, text in (event.reset or {}).items():
            one_of("reset", name, list(places))
            columns, shape = places[name]
            for i in range(columns.stop - columns.start):
                self.R[columns.start + i] = Formula(text, field, f"reset of {name!r}", (shape, i))
        if not self.c.used - set(self.c.parameters):
            raise UsageError("condition", given=event.condition, allowed="an expression that changes along a run")

    def after(self, t: float, r: Array, x: Array) -> Array:
        """r⁺ = R(t, r, w, x) (n,); raises EventError where it is not finite."""
        new = r.copy()
        for state, formula in self.R.items():
            new[state] = formula(t, r, x)
        if not np.isfinite(new).all():
            raise EventError(f"the reset of event {self.event.label!r} is not finite", t, r, "another expression")
        return new


def bound_events(events: Any, field: Field) -> tuple[BoundEvent, ...]:
    """Events for a field; raises UsageError for what is no event and for names that occur twice."""
    if isinstance(events, Event) or events is None:
        events = () if events is None else (events,)
    if not isinstance(events, Sequence) or isinstance(events, str | bytes):
        raise UsageError("events", given=events, allowed="a ctrnn.Event, or a list of them")
    for event in events:
        if not isinstance(event, Event):
            raise UsageError("events", given=event, allowed="ctrnn.Event objects")
    names = [event.label for event in events]
    for name in names:
        if names.count(name) > 1:
            raise UsageError("events", given=f"{name!r} twice", allowed="a name of its own for each", hint="name=...")
    return tuple(BoundEvent(event, field) for event in events)


@dataclass(frozen=True, repr=False, eq=False)
class Occurrences:
    """The events of a run, in the order of time.

    Attributes
    ----------
    t : ndarray (K,)
        Times.
    which : ndarray (K,) of int
        The number of the event.
    before, after : ndarray (K, n)
        The states on both sides.
    names : tuple of str
        Names of the events.
    states : tuple of str
        The n names of the states.

    Examples
    --------
    >>> import ctrnn
    >>> clock = ctrnn.Problem(ctrnn.Equations({"s": "1"}), [0.0], (0.0, 2.5), events=[Event("s - 1", reset={"s": "0"})])
    >>> ctrnn.simulate(clock).events
    2 events
               t  event
               1  s - 1
               2  s - 1
    """

    t: Array
    which: Array
    before: Array
    after: Array
    names: tuple[str, ...]
    states: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.t)

    def of(self, event: str | int) -> Occurrences:
        """Those of one event, by its name or number; raises UnknownNameError."""
        here = self.which == position("event", event, self.names)
        return Occurrences(self.t[here], self.which[here], self.before[here], self.after[here], self.names, self.states)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write columns t, event, and each state before and after.

        Raises
        ------
        UsageError
            Where the folder of ``path`` does not exist.
        """
        import csv

        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
            rows = csv.writer(f, lineterminator="\n")
            rows.writerow(("t", "event", *(f"{s} {side}" for side in ("before", "after") for s in self.states)))
            for t, e, before, after in zip(self.t, self.which, self.before, self.after, strict=True):
                rows.writerow((repr(float(t)), self.names[e], *(repr(float(v)) for v in (*before, *after))))

    def __repr__(self) -> str:
        rows = [f"{t:12.6g}  {self.names[k]}" for t, k in zip(self.t, self.which, strict=True)]
        rows = rows if len(rows) <= 10 else [*rows[:5], f"{'...':>12}", *rows[-4:]]
        count = f"{len(self)} event{'' if len(self) == 1 else 's'}"
        return "\n".join([count, *([f"{'t':>12}  event"] if rows else []), *rows])


@dataclass(frozen=True, eq=False, repr=False)
class EventObjective:
    """A loss of the times and states of events: Σ_k a_k o_k, or Σ_k a_k ½(o_k − y_k)² with a target.

    Parameters
    ----------
    output : str
        o, an expression in t, the states just before the event, inputs and parameters: "t" is the event's time.
    target : float or (K,) array_like, optional
        y, one number or one for each of the first K occurrences; None for the sum of o itself.
    weight : float or (K,) array_like
        a.
    event : str or int, optional
        The event's name or number; may be left out where there is only one.
    occurrences : array_like of int, optional
        Which ones: numbers from 0, or from −1 for the last; by default the first K where target or weight has K
        entries, else all.

    Raises
    ------
    UsageError
        For what does not fit together.
    EventError
        By the run, where an occurrence did not come.

    Notes
    -----
    "t" with weight [-1, 1] is the time between the first two occurrences; "t" with a target fits spike times.

    Examples
    --------
    >>> import ctrnn
    >>> fall = ctrnn.Equations({"h": "v", "v": "-g"}, parameters={"g": 9.81})
    >>> ground = Event("h", terminal=True)
    >>> problem = ctrnn.Problem(fall, [1.0, 0.0], (0.0, 9.0), events=[ground], objective=EventObjective("t"))
    >>> g = ctrnn.gradient(problem)
    >>> bool(abs(g.loss - (2 / 9.81) ** 0.5) < 1e-12), bool(abs(g.parameters["g"] + g.loss / 19.62) < 1e-12)
    (True, True)
    """

    output: str = "t"
    target: Any = None
    weight: Any = 1.0
    event: str | int | None = None
    occurrences: Any = None
    #: an Objective has one
    readout: ClassVar[None] = None
    __repr__ = as_call

    def __post_init__(self) -> None:
        if not isinstance(self.output, str):
            raise UsageError("output", given=self.output, allowed="an expression as text")
        lengths: dict[str, int] = {}
        for name in ("target", "weight"):
            if getattr(self, name) is not None:
                value = finite(name, getattr(self, name), (0, 1), "a number, or one an occurrence (K,)")
                object.__setattr__(self, name, value)
                lengths |= {name: value.size} if value.ndim else {}
        if self.occurrences is not None:
            numbers = np.atleast_1d(finite("occurrences", self.occurrences, (0, 1), "whole numbers (K,)"))
            if (numbers != np.floor(numbers)).any() or not numbers.size or (np.abs(numbers) > MOST).any():
                raise UsageError("occurrences", given=self.occurrences, allowed="whole numbers (K,)")
            object.__setattr__(self, "occurrences", numbers.astype(int))
            lengths["occurrences"] = numbers.size
        if len(set(lengths.values())) > 1:
            given = ", ".join(f"{k} of {v}" for k, v in lengths.items())
            raise UsageError("EventObjective", given=given, allowed="one length K")
        if self.occurrences is None and lengths:
            object.__setattr__(self, "occurrences", np.arange(next(iter(lengths.values()))))

    def bind(self, field: Any) -> BoundEventObjective:
        """The objective for the states of a field; raises ExpressionError for an output that is no formula in them."""
        return BoundEventObjective(self, field)


class BoundEventObjective(BoundObjective):
    """An EventObjective for one field. It has neither observation times nor signals: its loss is that of the events."""

    def __init__(self, objective: EventObjective, field: Field) -> None:
        self.objective: Any = objective
        self.o = Formula(objective.output, field, "output")
        self.state_names, self.n = tuple(field.state_names), field.n
        self.times, self.signals, self.signal_breaks = np.empty(0), None, np.empty(0)
        self.readout, self.selection, self.readout_size, self.output_size = None, None, 0, field.n
        if objective.output.strip() == "t" and objective.target is not None:
            self.event_times = np.atleast_1d(objective.target)

    @property
    def is_named(self) -> bool:
        """Whether the loss is one of ctrnn.losses.NAMED: never."""
        return False

    @property
    def counts(self) -> bool:
        """Whether some weight is not zero."""
        return bool(np.any(self.objective.weight != 0.0))

    def number(self, names: Sequence[str]) -> int:
        """Which event; raises UsageError where that is not said, or not one of these."""
        if not names:
            raise UsageError("events", given="none", allowed="the events that the objective is about")
        if self.objective.event is None:
            if len(names) > 1:
                raise UsageError("event", given=None, allowed=", ".join(names))
            return 0
        return position("event", self.objective.event, names)

    def taken(self, found: int, name: str, t: float, r: Array) -> dict[int, tuple[float, float | None]]:
        """Occurrence -> (a, y), for a run with ``found`` occurrences.

        Raises EventError where there are too few by the end of the run, at t and r.
        """
        objective, wanted = self.objective, self.objective.occurrences
        numbers = range(found) if wanted is None else wanted
        missing = [int(k) for k in numbers if not -found <= k < found]
        if missing or not found:
            reason = (
                f"event {name!r} came {found} times, and the objective asks for number {missing[0] if missing else 0}"
            )
            raise EventError(reason, t, r, "a longer t_span, other occurrences, or parameters with which it comes")
        K = len(numbers)
        weight = np.broadcast_to(objective.weight, K)
        target = [None] * K if objective.target is None else np.broadcast_to(objective.target, K)
        counted = [int(k) % found for k in numbers]
        if len(set(counted)) < K:
            raise UsageError("occurrences", given=numbers, allowed="each once", hint=f"{name!r} came {found} times")
        return {k: (float(a), None if y is None else float(y)) for k, a, y in zip(counted, weight, target, strict=True)}

    def describe(self) -> str:
        """One line: what, and when."""
        return f"{self.objective.output} at events"
