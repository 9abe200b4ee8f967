"""The gradient of a sum over trials: each trial's own, side by side, then added in their order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.gradients.gradient import Gradient, compute, method_named
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.auto import chosen
from ctrnn.trajectory import Stats
from ctrnn.trials import Trials, each_trial


@dataclass(frozen=True, repr=False, eq=False)
class TrialsGradient(Gradient):
    """A Gradient whose loss, vector, parameters and readout are sums over trials, and r0 is (B, n); ``trials`` are the B gradients."""

    trials: tuple[Gradient, ...] = ()

    @property
    def losses(self) -> np.ndarray:
        """(B,) the loss of each trial."""
        return np.array([g.loss for g in self.trials])


def trials_gradient(trials: Trials, method: Any, settings: Settings) -> TrialsGradient:
    """Each trial by the same method; raises what the first trial that fails raises."""
    sizes = {trial.needs_objective("a gradient").readout_size for trial in trials}
    if len(sizes) > 1:
        raise UsageError("objective", given="read-outs of several sizes", allowed="one size, as their gradients add up")

    def one(problem: Problem) -> Gradient:
        its = chosen(problem, settings)
        return compute(method_named(method, problem, its), problem, its)

    found = each_trial(trials, one, "trials")
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
