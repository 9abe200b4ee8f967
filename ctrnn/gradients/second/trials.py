"""Second derivatives of a sum over trials: each trial's own, side by side, then added in their order.

    l(w, r0_1 … r0_B) = Σ_b l_b(w, r0_b)
    ∂²l/∂w² = Σ_b ∂²l_b/∂w²        ∂²l/∂w∂r0_b = ∂²l_b/∂w∂r0_b        ∂²l/∂r0_b∂r0_c = 0 for b ≠ c

and where all trials start from one r0, its derivatives are sums too (``Trials.vector_indices``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ctrnn.curvature import prepare
from ctrnn.fields.base import Array
from ctrnn.problem import Problem, Trials
from ctrnn.threads import map_parallel


class HessianOfTrials:
    """v -> H v in (w, r0 of all trials, a trained read-out): an ``operator`` for each trial, whose products add up."""

    def __init__(self, trials: Trials, operator: Callable[[Problem], Callable[[Array], Array]], caller: str) -> None:
        self.indices = trials.vector_indices(trials.readout_size(caller))
        self.size = int(self.indices[-1].max(initial=-1)) + 1
        _ready(trials)
        self.operators = map_parallel(trials.problems, operator, caller)

    def __call__(self, v: Array) -> Array:
        """The product H v of the sum."""
        jobs = list(zip(self.operators, self.indices, strict=True))
        result = np.zeros(self.size)
        for part, here in zip(map_parallel(jobs, lambda job: job[0](v[job[1]]), "trials"), self.indices, strict=True):
            result[here] += part
        return result


def matrix_of_trials(
    trials: Trials, columns: Array | None, caller: str, matrix: Callable[[Problem, Array], Array]
) -> Array:
    """Σ_b of each trial's ``matrix(problem, its columns)``, for the entries ``columns`` of (w, r0 of all, V and c).

    All of them where ``columns`` is None.
    """
    places = trials.vector_indices(trials.readout_size(caller))
    size = int(places[-1].max(initial=-1)) + 1
    columns = np.arange(size) if columns is None else columns
    where = np.full(size, -1)
    where[columns] = np.arange(len(columns))
    _ready(trials)
    jobs = [(problem, np.flatnonzero(where[here] >= 0)) for problem, here in zip(trials, places, strict=True)]
    total = np.zeros((len(columns), len(columns)))
    found = map_parallel(jobs, lambda job: matrix(*job), caller)
    for part, (_, mine), here in zip(found, jobs, places, strict=True):
        into = where[here[mine]]
        total[np.ix_(into, into)] += part
    return total


def _ready(trials: Trials) -> None:
    """Derive and compile once what all threads use."""
    _ = trials.field._kernel, trials.field._second_kernel
    for problem in trials:
        prepare(problem.needs_objective("second derivatives"))
