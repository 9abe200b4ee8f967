"""The gradient of a sum over trials: all in lockstep where one recording takes them, else side by side.

    l(w, r0_1 … r0_B) = Σ_b l_b(w, r0_b)

and where all trials start from one r0, dl/dr0 is a sum too. (ctrnn.gradients.second.trials has the second derivatives.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cached_property, partial, reduce
from operator import add
from typing import Any

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.advise.choice import resolve
from ctrnn.gradients.dispatch import check_memory, compute
from ctrnn.gradients.finite import check_gradient
from ctrnn.gradients.recording.base import Totals
from ctrnn.gradients.recording.select import takes_together
from ctrnn.gradients.result import Gradient
from ctrnn.problem import Problem, Settings, Trials
from ctrnn.solvers.auto import resolve_auto_solver
from ctrnn.threads import map_parallel
from ctrnn.trajectory import Stats


@dataclass(frozen=True, repr=False, eq=False)
class TrialsGradient(Gradient):
    """A Gradient whose loss, vector, parameters and readout are sums over trials, and r0 is (B, n).

    losses : (B,) the loss of each trial
    trials : the B gradients; of trials in lockstep, where one matrix product adds up what they contribute, each is
        made when asked for

    Where the trials share one r0, dl/dr0 is the sum of its rows.
    """

    losses: Array = dataclass_field(default_factory=lambda: np.empty(0))
    #: makes the gradients of the trials
    each: Callable[[], Iterable[Gradient]] = tuple

    @cached_property
    def trials(self) -> tuple[Gradient, ...]:
        """The gradient of each trial."""
        return tuple(self.each())


def trials_gradient(trials: Trials, method: Any, settings: Settings) -> TrialsGradient:
    """Each trial by the same method, in lockstep where that goes; raises what the first trial that fails raises."""
    trials.readout_size("a gradient")
    first = resolve_auto_solver(trials[0], settings)
    its_method = resolve(method, trials[0], first)[0]
    needs = its_method.needs
    if needs is not None and takes_together(trials.problems, first, needs):
        check_memory(its_method, trials[0], first)
        found = its_method.totals(trials.problems, first)
        for problem, l, g0 in zip(trials, found.loss, found.r0, strict=True):
            check_gradient(problem, l, g0)
        check_gradient(trials[0], found.loss, found.vector, found.readout)
        alone = partial(map, partial(its_method.compute, settings=first), trials)
        return _summed(trials, its_method.name, found, alone)
    return each_gradient(trials, method, settings)


def each_gradient(trials: Trials, method: Any, settings: Settings) -> TrialsGradient:
    """Each trial by itself, side by side; raises what the first trial that fails raises."""
    trials.readout_size("a gradient")

    def one(problem: Problem) -> Gradient:
        its = resolve_auto_solver(problem, settings)
        return compute(resolve(method, problem, its)[0], problem, its)

    each = map_parallel(trials.problems, one, "trials")
    readouts = [np.concatenate([part.ravel() for part in g.readout.values()]) for g in each if g.readout]
    found = Totals(
        np.array([g.loss for g in each]),
        reduce(add, (g.vector for g in each)),
        np.stack([g.r0 for g in each]),
        np.sum(readouts, axis=0) if readouts else np.empty(0),
        reduce(add, (g.stats for g in each), Stats()),
    )
    return _summed(trials, each[0].method, found, partial(tuple, each))


def _summed(trials: Trials, method: str, found: Totals, each: Callable[[], Iterable[Gradient]]) -> TrialsGradient:
    field, objective = trials.field, trials[0].needs_objective("a gradient")
    return TrialsGradient(
        loss=float(found.loss.sum()),
        vector=found.vector,
        parameters=field.unflatten(found.vector),
        r0=found.r0,
        readout=objective.unflatten_readout(found.readout) if objective.readout_size else None,
        stats=found.stats,
        method=f"{method}, {len(trials)} trials",
        labels=partial(getattr, field, "labels"),
        losses=found.loss,
        each=each,
    )
