"""Many trials of one field: a loss that sums over them, and runs that go side by side.

    l(w) = Σ_b l_b(w),      dl/dw = Σ_b dl_b/dw,      dl/dr0_b = dl_b/dr0_b

Each trial is a problem of its own, with its own initial state, input, objective, times and length; nothing is padded, so what a trial gives does
not depend on its company. The compiled loops release Python's lock: trials run on as many threads as there are cores. Sums are taken in the
order of the trials, so that they do not depend on which thread was quicker.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Field
from ctrnn.problem import Problem
from ctrnn.progress import track
from ctrnn.threads import one_blas_thread

Result = TypeVar("Result")


class Trials(Sequence[Problem]):
    """Problems that share a field.

    Parameters
    ----------
    field : the field of all
    r0 : (B, n), or B initial states; one for all is repeated
    t_span : (t0, t1), or B of them
    x : an input for all, or a list of B
    objective : one for all, or a list of B

    B is the length of what comes as a batch; at least one thing does, and all that do have the same length. Raises UsageError where they do not,
    and what Problem raises, with the number of the trial.

    >>> from ctrnn import Equations, Objective, gradient, simulate
    >>> decay = Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> trials = Trials(decay, r0=[[1.0], [3.0]], t_span=(0.0, 1.0), objective=Objective(target=[0.0], at=[1.0]))
    >>> len(trials), [float(run.r[-1, 0].round(6)) for run in simulate(trials, save_at=[1.0])]
    (2, [0.135335, 0.406006])
    >>> g = gradient(trials)
    >>> g.r0.shape, bool(abs(g.parameters["k"] + 10 * np.exp(-4.0)) < 1e-7)
    ((2, 1), True)
    """

    def __init__(self, field: Field, r0: Any, t_span: Any, x: Any = None, objective: Any = None) -> None:
        given = {
            "r0": _listed(r0, _is_batch_of_states(r0)),
            "t_span": _listed(t_span, np.ndim(_array(t_span)) == 2),
            "x": _listed(x, isinstance(x, (list, tuple)) and not _all_numbers(x)),
            "objective": _listed(objective, isinstance(objective, (list, tuple))),
        }
        lengths = {name: len(value) for name, value in given.items() if isinstance(value, list)}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise UsageError(
                "trials",
                given=", ".join(f"{k} of {n} trials" for k, n in lengths.items()) or "nothing that comes as a batch",
                allowed="batches of one length, at least 1",
                hint="r0 of shape (B, n)",
            )
        B = next(iter(lengths.values()))
        problems = []
        for b in range(B):
            each = {name: value[b] if isinstance(value, list) else value for name, value in given.items()}
            try:
                problems.append(Problem(field, **each))
            except UsageError as error:
                error.args = (f"trial {b}: {error}",)
                raise
        self.problems = tuple(problems)
        self.field = field

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> Trials:
        """Trials from problems that were made one by one; raises UsageError where their fields differ."""
        if not problems:
            raise UsageError("problems", given=problems, allowed="at least one problem")
        if any(problem.field is not problems[0].field for problem in problems):
            raise UsageError(
                "problems", given="problems of several fields", allowed="problems of one and the same field"
            )
        made = object.__new__(cls)
        made.problems, made.field = tuple(problems), problems[0].field
        return made

    def __len__(self) -> int:
        return len(self.problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.problems)

    def __getitem__(self, b: Any) -> Any:
        return Trials.of(self.problems[b]) if isinstance(b, slice) else self.problems[b]

    def __repr__(self) -> str:
        return f"Trials({len(self)} of {self.problems[0]!r})"

    def replace(self, **changes: Any) -> Trials:
        """A copy with another field, or other r0 (B, n)."""
        r0 = changes.pop("r0", [problem.r0 for problem in self])
        if len(r0) != len(self):
            raise UsageError("r0", given=f"{len(r0)} states", allowed=f"{len(self)}, one a trial")
        return Trials.of([problem.replace(r0=start, **changes) for problem, start in zip(self, r0, strict=True)])


def each_trial(trials: Trials, run: Callable[[Problem], Result], label: str) -> list[Result]:
    """``run`` for every trial, side by side, in the order of the trials; the first error is raised."""
    threads = min(len(trials), os.cpu_count() or 1)
    found: list[Result] = []
    with one_blas_thread, track(len(trials), label) as update, ThreadPoolExecutor(threads) as pool:
        for result in pool.map(run, trials.problems):
            found.append(result)
            update(len(found))
    return found


def _array(value: Any) -> Any:
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return np.empty(0)


def _all_numbers(value: Any) -> bool:
    return all(np.isscalar(v) for v in value)


def _is_batch_of_states(value: Any) -> bool:
    """(B, n), or a list of states, each itself a list or a table."""
    if isinstance(value, (list, tuple)):
        return len(value) > 0 and all(isinstance(v, (list, tuple, dict, np.ndarray)) for v in value)
    return np.ndim(_array(value)) == 2


def _listed(value: Any, is_batch: bool) -> Any:
    return list(value) if is_batch else value
