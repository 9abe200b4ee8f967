"""What is asked: a field, where it starts, how long it runs, what drives it, and what its run is worth.

    dr/dt = F(t, r, w, x(t)),  r(t0) = r0,  t0 ≤ t ≤ t1,     l = Σ_k a_k ℓ(o(t_k), y_k)  or  l = ∫ a(t) ℓ(o, y) dt

Of a batch of B trials, l(w) = Σ_b l_b(w). Each trial is a problem of its own, with its own initial state, input,
objective, times and length; nothing is padded, so the result of a trial does not depend on the other trials.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ctrnn.batches import array_or_empty, comes_as_batch, is_batch, one_by_one
from ctrnn.bound_objective import BoundObjective
from ctrnn.course import course_through
from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.events import BoundEventObjective, EventObjective, bound_events
from ctrnn.fields.base import Array, Field
from ctrnn.fields.bound import Bound
from ctrnn.inputs import Input, stack
from ctrnn.inputs.program import Program
from ctrnn.inputs.times import align
from ctrnn.memory import claim
from ctrnn.names import check_order, labels
from ctrnn.noise import as_noise
from ctrnn.objective import Objective
from ctrnn.problem_checks import check_covered, input_of, noise_of, span_of
from ctrnn.settings import Settings as Settings
from ctrnn.states import state_of


class Problem:
    """A field with its initial state, time span, input and objective; given a batch of them, a ctrnn.Trials.

    Parameters
    ----------
    field : ctrnn.Equations, ctrnn.RateNetwork, ctrnn.TorchField
        F.
    r0 : (n,) array_like, mapping or float
        The initial state: n numbers, a table state name -> number (or array, of an array of states), or one number for
        all states.
    t_span : (float, float)
        (t0, t1); ctrnn.simulate also goes backwards, t1 < t0, where there is neither an objective nor an event.
    x : ctrnn.inputs.Input, float, (inputs,) array_like or callable, optional
        The input: a signal, numbers for a constant, or a function of t that gives all channels. None: no input;
        networks then run with x = 0, equations that name inputs raise UsageError.
    objective : ctrnn.Objective or ctrnn.EventObjective, optional
        What the run is worth; None where only the solution is wanted.
    events : ctrnn.Event or sequence of them
        What happens where a condition on the state comes true. ctrnn.simulate and the gradients "adjoint", "rtrl" and
        "central-difference" take them, by our own solvers, with their certificates; everything else refuses a problem
        with events.
    noise : ctrnn.WhiteNoise, or what it takes as a scale
        dr = F dt + g dW; None: none. ctrnn.simulate, ensemble, gradient, value_and_gradient, compare_gradients, plan,
        sensitivities, hessian and fit (along the one path) take it, by fixed steps; everything else refuses it.

    Raises
    ------
    UsageError
        For shapes, values or times that do not fit the field.

    Notes
    -----
    r0 of shape (B, n), or lists of B states, t_spans, inputs or objectives, make a batch: Problem(...) is then the
    ctrnn.Trials of the same arguments, which simulate, gradient, fit and the others take as they take a problem.

    Examples
    --------
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
        noise: Any = None,
    ) -> Any:
        """Give the Trials of a batch, or a problem that ``__init__`` fills in."""
        if is_batch(r0, t_span, x, objective):
            return Trials(field, r0, t_span, x, objective, events, noise)
        return object.__new__(cls)

    def __init__(
        self,
        field: Field,
        r0: Any,
        t_span: tuple[float, float],
        x: Any = None,
        objective: Objective | EventObjective | None = None,
        events: Any = (),
        noise: Any = None,
    ) -> None:
        if not isinstance(field, Field):
            raise UsageError("field", given=field, allowed="a field: Equations, RateNetwork, TorchField")
        self.field = field
        self.r0 = state_of(field, r0)
        self.t_span = span_of(t_span)
        t0, t1 = self.t_span
        if objective is not None and not isinstance(objective, (Objective, EventObjective)):
            raise UsageError("objective", given=objective, allowed="a ctrnn.Objective or ctrnn.EventObjective")
        self._objective = objective
        self.objective: BoundObjective | None = None if objective is None else objective.bind(field)
        self._events, self.events = events, bound_events(events, field)
        #: the noise in the states, or None
        self.noise = noise_of(field, noise, bool(self.events), t1 < t0)
        #: whether its input is a path of noise, held over each step (ctrnn.solvers.noise)
        self.is_noisy = False
        if isinstance(self.objective, BoundEventObjective):
            self.objective.number([event.event.label for event in self.events])
        self._x = input_of(field, x, t0)
        is_backward = t1 < t0
        if is_backward and (objective is not None or self.events):
            allowed = "(t0, t1) with t1 > t0, for a problem with an objective or events"
            hint = "ctrnn.odeint, which goes backwards with gradients" if objective is not None else ""
            raise UsageError("t_span", given=(t0, t1), allowed=allowed, hint=hint)
        check_covered("x", self._x, *sorted(self.t_span))
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
                check_covered("objective.target or weight", self.objective.signals, t0, t1)
                breaks.append(self.objective.signals.breaks)
        #: where a solver goes: from t0 to t1, onto each observation and each jump of F
        self.course, every = course_through(t0, t1, times, breaks)
        self.x = self._x.aligned(every)
        self._every = every
        #: times and inputs of runs by fixed steps, which do not depend on the field's numbers
        #: (ctrnn.gradients.recording.lockstep)
        self.timelines: dict[Any, Any] = {}
        #: (K,) the objective's observation times, each on a stop or at t0; empty without
        self.observed = align(times, every)

    def __repr__(self) -> str:
        def count(k: int, what: str) -> str:
            return f"{k} {what}{'' if k == 1 else 's'}"

        f = self.field
        worth = "no objective" if self.objective is None else self.objective.describe()
        parts = [count(f.n, "state"), count(f.m, "parameter"), count(f.input_size, "input")]
        noise = "" if self.noise is None else ", with noise"
        return f"Problem({', '.join(parts)}, t from {self.t_span[0]:g} to {self.t_span[1]:g}, {worth}{noise})"

    def replace(self, **changes: Any) -> Problem:
        """A copy with other field, r0, t_span, x, objective, events or noise."""
        every: dict[str, Any] = {
            "field": self.field,
            "r0": self.r0,
            "t_span": self.t_span,
            "x": self._x,
            "objective": self._objective,
            "events": self._events,
            "noise": self.noise,
        }
        unknown = set(changes) - set(every)
        if unknown:
            raise UnknownNameError("replace", sorted(unknown)[0], every)
        if changes.keys() == {"field"} and self._fits(changes["field"]):
            same = copy.copy(self)
            same.field, same.r0 = changes["field"], self.r0.copy()
            return same
        made = Problem(**(every | changes))
        if not changes.keys() & {"t_span", "x", "objective", "events", "noise"} and self._is_as_wide(made):
            made.timelines = self.timelines
        if self.is_noisy and isinstance(made, Problem) and "x" not in changes:
            made.is_noisy = True
        return made

    def onto(self, times: Array) -> Problem:
        """The same problem, whose steps also land on some times."""
        same = copy.copy(self)
        same.course, same.timelines = self.course.onto(times), {}
        return same

    def _is_as_wide(self, made: Any) -> bool:
        """Whether ``made`` is one problem, with as many states and inputs, and so with as many signals."""
        own = self.field.n, self.field.input_size
        return isinstance(made, Problem) and (made.field.n, made.field.input_size) == own

    def _fits(self, field: Any) -> bool:
        """Whether the times, the input and the objective are this field's, too: it differs in its numbers only."""
        own, is_bound = self.field, self.events or isinstance(self.objective, BoundEventObjective)
        known = ("state_names", "input_names", "input_is_optional")
        same = isinstance(field, Field) and all(getattr(field, name) == getattr(own, name) for name in known)
        return same and not is_bound

    @property
    def driven_by(self) -> Input:
        """The input as it was given: one and the same object for all trials that share it."""
        return self._x

    @cached_property
    def signals(self) -> Input:
        """The input's channels, followed by the targets and the weight of an integral objective."""
        if self.noise is not None:
            raise UsageError(
                "problem",
                given="a problem with noise",
                allowed="one without, here",
                hint="ctrnn.simulate, ensemble or gradient with solver='euler' or 'heun', and dt",
            )
        if self.objective is None or self.objective.signals is None:
            return self.x
        extra = self.objective.signals.aligned(self._every)
        return stack(self.x, extra) if self.x.size else extra

    @cached_property
    def _program(self) -> Program | None:
        """That of ``signals``, or None where functions of t are in it: each run then has a program of its own."""
        program = self.signals.program()
        return None if program.callbacks else program

    def bind(self) -> Bound:
        """The field at its parameters, driven by ``signals``.

        Raises UsageError for a problem with events, which a bound field knows nothing of.
        """
        if self.events:
            raise UsageError(
                "problem",
                given="events",
                allowed="a problem without events, here",
                hint="ctrnn.simulate, or ctrnn.gradient with method='adjoint' or 'rtrl', and a solver such as 'tsit5'",
            )
        return self.field._bind(self._program or self.signals.program(), self.signals.size)

    def needs_objective(self, caller: str) -> BoundObjective:
        """The objective; raises UsageError, which names the caller, where there is none."""
        if self.objective is None:
            raise UsageError(
                "problem",
                given="a problem without objective",
                allowed=f"one with an objective, for {caller}",
                hint="Problem(..., objective=ctrnn.Objective(...))",
            )
        return self.objective


class Trials(Sequence[Problem]):
    """Problems with the same field; ``ctrnn.Problem`` makes them too, where it is given a batch.

    Parameters
    ----------
    field : ctrnn.Equations, ctrnn.RateNetwork, ctrnn.TorchField
        The field of all trials.
    r0 : array_like, mapping or float, or a list of B
        (B, n), or B initial states; one for all is repeated.
    t_span : (float, float), or a list of B
        (t0, t1).
    x : ctrnn.inputs.Input or what makes one, or a list of B
        The input.
    objective : ctrnn.Objective, or a list of B
        Each with its own times.
    events : ctrnn.Event or sequence of them
        The same for all trials.
    noise : ctrnn.WhiteNoise, or what it takes as a scale
        The same strength for all; trial b takes path b.

    Raises
    ------
    UsageError
        Where lengths differ, and what Problem raises, with the number of the trial.

    Notes
    -----
    B is the length of what comes as a batch; at least one argument does, and all that do have the same length. simulate
    and sensitivities give a list with the result of each trial; the losses and their derivatives are sums.

    An r0 that is given once is one quantity (``shares_r0``): fitted once, with one block in second derivatives. (B, n)
    are B of them, each the trial's own.

    Examples
    --------
    >>> from ctrnn import Equations, Objective, gradient, simulate
    >>> decay = Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> trials = Trials(decay, r0=[[1.0], [3.0]], t_span=(0.0, 1.0), objective=Objective(target=[0.0], at=[1.0]))
    >>> len(trials), [float(run.r[-1, 0].round(6)) for run in simulate(trials, save_at=[1.0])]
    (2, [0.135335, 0.406006])
    >>> g = gradient(trials)
    >>> g.r0.shape, bool(abs(g.parameters["k"] + 10 * np.exp(-4.0)) < 1e-7)
    ((2, 1), True)
    """

    def __init__(
        self,
        field: Field,
        r0: Any,
        t_span: Any,
        x: Any = None,
        objective: Any = None,
        events: Any = (),
        noise: Any = None,
    ) -> None:
        given = {"r0": r0, "t_span": t_span, "x": x, "objective": objective}
        batches = {name: one_by_one(value) for name, value in given.items() if comes_as_batch(name, value)}
        lengths = {name: len(values) for name, values in batches.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise UsageError(
                "trials",
                given=", ".join(f"{k} of {n} trials" for k, n in lengths.items()) or "nothing that comes as a batch",
                allowed="batches of one length, at least 1",
                hint="r0 of shape (B, n)",
            )
        shape = array_or_empty(r0).shape
        if isinstance(field, Field) and len(shape) == 2 and shape[1] != field.n:
            allowed = f"shape ({field.n},), or (B, {field.n}) for B trials"
            raise UsageError("r0", given=f"shape {shape}", allowed=allowed)
        if isinstance(field, Field):
            check_order("r0", labels(r0), field.state_names)
        problems, noise, count = [], as_noise(noise), next(iter(lengths.values()))
        claim(", ".join(lengths), 2000.0 * count, "fewer trials at a time")  # each is a Problem
        for b in range(count):
            its = {name: values[b] for name, values in batches.items()}
            try:
                if is_batch(**(dict.fromkeys(given) | its)):
                    raise UsageError(
                        "trials", given="a batch inside a batch", allowed="one start, span and input a trial"
                    )
                made = Problem(field, **(given | its), events=events, noise=None if noise is None else noise.of_path(b))
                problems.append(made)
            except UsageError as error:
                error.args = (f"trial {b}: {error}",)
                raise
        self.problems = tuple(problems)
        self.field = field
        self.shares_r0 = "r0" not in batches

    @classmethod
    def of(cls, problems: Sequence[Problem], shares_r0: bool = False) -> Trials:
        """Trials from problems that were made one by one; raises UsageError where their fields differ."""
        if not problems:
            raise UsageError("problems", given=problems, allowed="at least one problem")
        if any(problem.field is not problems[0].field for problem in problems):
            raise UsageError(
                "problems", given="problems of several fields", allowed="problems of one and the same field"
            )
        made = object.__new__(cls)
        made.problems, made.field, made.shares_r0 = tuple(problems), problems[0].field, shares_r0
        return made

    def __len__(self) -> int:
        return len(self.problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.problems)

    def __getitem__(self, b: Any) -> Any:
        return Trials.of(self.problems[b], self.shares_r0) if isinstance(b, slice) else self.problems[b]

    def __repr__(self) -> str:
        return f"Trials({len(self)} of {self.problems[0]!r})"

    @property
    def r0(self) -> Array:
        """(B, n), or (n,) where one was given for all."""
        return self.problems[0].r0.copy() if self.shares_r0 else np.stack([problem.r0 for problem in self])

    @property
    def r0_labels(self) -> list[str]:
        """A name for each entry of ``r0``: "r0[prey]" of one for all, else "r0[0,prey]" with the trial's number."""
        trials = [""] if self.shares_r0 else [f"{b}," for b in range(len(self))]
        return [f"r0[{b}{name}]" for b in trials for name in self.field.state_names]

    def replace(self, **changes: Any) -> Trials:
        """A copy with another field, or other r0, t_span, x, objective, noise: one for all, or a batch of B."""
        batches = {name: one_by_one(value) for name, value in changes.items() if comes_as_batch(name, value)}
        for name, values in batches.items():
            if len(values) != len(self):
                raise UsageError(
                    name, given=f"{len(values)} of them", allowed=f"{len(self)}, one a trial, or one for all"
                )
        every = [changes | {name: values[b] for name, values in batches.items()} for b in range(len(self))]
        if changes.get("noise") is not None:
            noise: Any = as_noise(changes["noise"])
            every = [its | {"noise": noise.of_path(b)} for b, its in enumerate(every)]
        made = [problem.replace(**its) for problem, its in zip(self, every, strict=True)]
        return Trials.of(made, "r0" not in batches if "r0" in changes else self.shares_r0)

    def vector_indices(self, rest: int = 0) -> list[Array]:
        """Which entries of the batch's vector (w, r0 of all, rest) are a trial's (w, r0, rest): B arrays."""
        n, m = self.field.n, self.field.m
        tail = m + self.r0.size + np.arange(rest)
        starts = [m if self.shares_r0 else m + b * n for b in range(len(self))]
        return [np.concatenate([np.arange(m), start + np.arange(n), tail]).astype(int) for start in starts]

    def readout_size(self, caller: str) -> int:
        """The size of the trained read-out, the same for all trials; raises UsageError for several sizes, or none."""
        sizes = {trial.needs_objective(caller).readout_size for trial in self}
        if len(sizes) > 1:
            raise UsageError(
                "objective", given="read-outs of several sizes", allowed="one size, as their gradients add up"
            )
        return sizes.pop()


def is_noisy(problem: Problem | Trials) -> bool:
    """Whether a problem, or one of some trials, has noise."""
    return any(one.noise is not None for one in (problem if isinstance(problem, Trials) else [problem]))


def checked_problem(problem: Any, backward: bool = False) -> Problem:
    """The problem itself; raises UsageError for anything else, and for one backwards in time unless that is allowed."""
    if not isinstance(problem, Problem):
        hint = "one trial of the batch: trials[0]" if hasattr(problem, "problems") else ""
        raise UsageError("problem", given=problem, allowed="a ctrnn.Problem", hint=hint)
    if problem.t_span[1] < problem.t_span[0] and not backward:
        raise UsageError("t_span", given=problem.t_span, allowed="(t0, t1) with t1 > t0, here")
    return problem
