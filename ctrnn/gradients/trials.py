"""The gradient of a sum over trials: each trial's own, side by side, then added in their order.

    l(w, r0_1 … r0_B) = Σ_b l_b(w, r0_b)

and where all trials start from one r0, dl/dr0 is a sum too. (ctrnn.gradients.second.trials has the second derivatives.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.advise.choice import resolve
from ctrnn.gradients.dispatch import compute
from ctrnn.gradients.recording import network_adjoint as together
from ctrnn.gradients.recording.lockstep import TogetherGradient, of_trials
from ctrnn.gradients.result import Gradient
from ctrnn.problem import Problem, Settings, Trials
from ctrnn.solvers.auto import resolve_auto_solver
from ctrnn.threads import side_by_side
from ctrnn.trajectory import Stats


@dataclass(frozen=True, repr=False, eq=False)
class TrialsGradient(Gradient):
    """A Gradient whose loss, vector, parameters and readout are sums over trials, and r0 is (B, n); ``trials`` are the B gradients.

    Where the trials share one r0, dl/dr0 is the sum of its rows.
    """

    trials: tuple[Gradient, ...] = ()

    @property
    def losses(self) -> Array:
        """(B,) the loss of each trial."""
        return np.array([g.loss for g in self.trials])


def trials_gradient(trials: Trials, method: Any, settings: Settings) -> TrialsGradient | TogetherGradient:
    """Each trial by the same method, or all in lockstep where that is faster; raises what the first trial that fails raises."""
    trials.readout_size("a gradient")
    if together.goes(trials.problems, settings):
        its_method = resolve(method, trials[0], settings)[0]
        if its_method.is_plain:
            all_of_them = together.adjoint(trials.problems, settings, its_method.name)
            return of_trials(trials, its_method.name, all_of_them, partial(its_method.compute, settings=settings))
    return each_gradient(trials, method, settings)


def each_gradient(trials: Trials, method: Any, settings: Settings) -> TrialsGradient:
    """Each trial by itself, side by side; raises what the first trial that fails raises."""
    trials.readout_size("a gradient")

    def one(problem: Problem) -> Gradient:
        its = resolve_auto_solver(problem, settings)
        return compute(resolve(method, problem, its)[0], problem, its)

    found = side_by_side(trials.problems, one, "trials")
    readout = None
    if found[0].readout is not None:
        readout = {name: np.sum([g.readout[name] for g in found if g.readout], axis=0) for name in found[0].readout}
    vector = reduce(add, (g.vector for g in found))
    return TrialsGradient(
        loss=float(sum(g.loss for g in found)),
        vector=vector,
        parameters=trials.field.unflatten(vector),
        r0=np.stack([g.r0 for g in found]),
        readout=readout,
        stats=reduce(add, (g.stats for g in found), Stats()),
        method=f"{found[0].method}, {len(found)} trials",
        labels=found[0].labels,
        trials=tuple(found),
    )
