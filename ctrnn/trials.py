"""Many trials of one field: a loss that sums over them, and runs that go side by side.

    l(w) = Σ_b l_b(w),      dl/dw = Σ_b dl_b/dw,      dl/dr0_b = dl_b/dr0_b

Each trial is a problem of its own, with its own initial state, input, objective, times and length; nothing is padded, so what a trial gives does
not depend on its company. The compiled loops release Python's lock: trials run on as many threads as there are cores. Sums are taken in the
order of the trials, so that they do not depend on which thread was quicker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.inputs import Input
from ctrnn.problem import Problem
from ctrnn.threads import side_by_side

Result = TypeVar("Result")


class Trials(Sequence[Problem]):
    """Problems that share a field; ``ctrnn.Problem`` makes them too, where it is given a batch.

    Parameters
    ----------
    field : the field of all
    r0 : (B, n), or B initial states; one for all is repeated
    t_span : (t0, t1), or B of them
    x : an input for all, or a list of B
    objective : one for all, or a list of B, each with its own times
    events : ctrnn.Event objects, the same for all

    B is the length of what comes as a batch; at least one thing does, and all that do have the same length. simulate and sensitivities
    give a list with the result of each trial, the losses and their derivatives are sums.

    An r0 that is given once is one quantity (``shares_r0``): fitted once, with one block in second derivatives. (B, n) are B of them, each
    the trial's own.

    Raises UsageError where lengths differ, and what Problem raises, with the number of the trial.

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
        self, field: Field, r0: Any, t_span: Any, x: Any = None, objective: Any = None, events: Any = ()
    ) -> None:
        given = {"r0": r0, "t_span": t_span, "x": x, "objective": objective}
        batches = {name: list(value) for name, value in given.items() if _is_batch(name, value)}
        lengths = {name: len(values) for name, values in batches.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise UsageError(
                "trials",
                given=", ".join(f"{k} of {n} trials" for k, n in lengths.items()) or "nothing that comes as a batch",
                allowed="batches of one length, at least 1",
                hint="r0 of shape (B, n)",
            )
        shape = _array(r0).shape
        if isinstance(field, Field) and len(shape) == 2 and shape[1] != field.n:
            allowed = f"shape ({field.n},), or (B, {field.n}) for B trials"
            raise UsageError("r0", given=f"shape {shape}", allowed=allowed)
        problems = []
        for b in range(next(iter(lengths.values()))):
            its = {name: values[b] for name, values in batches.items()}
            try:
                made = Problem(field, **(given | its), events=events)
                if not isinstance(made, Problem):
                    raise UsageError(
                        "trials", given="a batch inside a batch", allowed="one start, span and input a trial"
                    )
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
        """A name for each entry of ``r0``: "r0[prey]" where it is shared, else "r0[0,prey]" with the number of the trial."""
        trials = [""] if self.shares_r0 else [f"{b}," for b in range(len(self))]
        return [f"r0[{b}{name}]" for b in trials for name in self.field.state_names]

    def replace(self, **changes: Any) -> Trials:
        """A copy with another field, or other r0, t_span, x, objective: one for all, or a batch of B."""
        batches = {name: list(value) for name, value in changes.items() if _is_batch(name, value)}
        for name, values in batches.items():
            if len(values) != len(self):
                raise UsageError(
                    name, given=f"{len(values)} of them", allowed=f"{len(self)}, one a trial, or one for all"
                )
        every = [changes | {name: values[b] for name, values in batches.items()} for b in range(len(self))]
        made = [problem.replace(**its) for problem, its in zip(self, every, strict=True)]
        return Trials.of(made, "r0" not in batches if "r0" in changes else self.shares_r0)

    def places(self, rest: int = 0) -> list[Array]:
        """Where a trial's (w, r0, rest) lies in the batch's (w, r0 of all, rest): B arrays of numbers (m + n + rest,)."""
        n, m = self.field.n, self.field.m
        tail = m + self.r0.size + np.arange(rest)
        starts = [m if self.shares_r0 else m + b * n for b in range(len(self))]
        return [np.concatenate([np.arange(m), start + np.arange(n), tail]).astype(int) for start in starts]

    def readout_size(self, caller: str) -> int:
        """Entries of the trained read-out that the trials share; raises UsageError for several sizes, or none to differentiate."""
        sizes = {trial.needs_objective(caller).readout_size for trial in self}
        if len(sizes) > 1:
            raise UsageError(
                "objective", given="read-outs of several sizes", allowed="one size, as their gradients add up"
            )
        return sizes.pop()


def each_trial(trials: Trials, run: Callable[[Problem], Result], label: str) -> list[Result]:
    """``run`` for every trial, side by side, in the order of the trials; the first error is raised."""
    return side_by_side(trials.problems, run, label)


def is_batch(r0: Any, t_span: Any, x: Any, objective: Any) -> bool:
    """Whether these are several problems. A list of numbers is one constant input, and rows of numbers alone are none at all."""
    if isinstance(x, (list, tuple)) and any(isinstance(v, Input) or callable(v) for v in x):
        return True
    return _is_batch("r0", r0) or _is_batch("t_span", t_span) or _is_batch("objective", objective)


def one_each(name: str, value: Any, B: int) -> list[Any]:
    """Times for each of B trials: a list of B arrays as it is, anything else B times."""
    if not isinstance(value, (list, tuple)) or not any(isinstance(v, (list, tuple, np.ndarray)) for v in value):
        return [value] * B
    if len(value) != B:
        raise UsageError(name, given=f"{len(value)} lists of times", allowed=f"{B}, one a trial, or one for all")
    return list(value)


def _is_batch(name: str, value: Any) -> bool:
    """Whether an argument of Problem comes once for each trial."""
    is_list = isinstance(value, (list, tuple))
    if name == "r0" and is_list:  # each state itself a list or a table
        return len(value) > 0 and all(isinstance(v, (list, tuple, dict, np.ndarray)) for v in value)
    if name in ("r0", "t_span"):
        return _array(value).ndim == 2
    if name == "x":
        return is_list and not all(np.isscalar(v) for v in value)
    return name == "objective" and is_list


def _array(value: Any) -> Array:
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return np.empty(0)
