"""What comes back: the gradient of a problem, or of trials that went together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.gradient import Gradient, check_finite, result
from ctrnn.problem import Problem, Settings
from ctrnn.trajectory import Stats
from ctrnn.trials import Trials


class Found(NamedTuple):
    """Of B trials: loss (B,), r0 (B, n); their sums vector (m,), readout (readout_size,), and the stats."""

    loss: Array
    vector: Array
    r0: Array
    readout: Array
    stats: Stats


@dataclass(frozen=True, repr=False, eq=False)
class TogetherGradient(Gradient):
    """A Gradient of trials that went together: loss, vector, parameters and readout are sums over them, r0 is (B, n), losses (B,).

    The gradients of the single trials are not made: one matrix product adds them up.
    """

    losses: Any = ()


def _found(problems: Sequence[Problem], method: Any, settings: Settings) -> Found:
    from ctrnn.gradients.torch_device.threads import one_torch_thread

    with one_torch_thread:
        found: Found = method.on_device(problems, settings)
    return found


def of_problem(problem: Problem, method: Any, settings: Settings) -> Gradient:
    """The gradient of one problem; raises what Run raises, and NotFiniteError."""
    found = _found([problem], method, settings)
    return result(problem, method.name, float(found.loss[0]), found.vector, found.r0[0], found.readout, found.stats)


def of_trials(trials: Trials, method: Any, settings: Settings, certify: bool) -> TogetherGradient:
    """The gradient of a sum over trials; raises what Run raises, NotFiniteError, and UsageError for a certificate: it is that of one problem."""
    if certify:
        hint = "certify one of the trials, trials[0]"
        raise UsageError("certify", given=True, allowed="False, for trials that go together on a device", hint=hint)
    trials.readout_size("a gradient")
    found = _found(trials.problems, method, settings)
    check_finite(found.loss, found.vector, found.r0, found.readout)
    field, objective = trials.field, trials[0].needs_objective("a gradient")
    return TogetherGradient(
        loss=float(found.loss.sum()),
        vector=found.vector,
        parameters=field.unflatten(found.vector),
        r0=found.r0,
        readout=objective.unflatten_readout(found.readout) if objective.readout_size else None,
        stats=found.stats,
        method=f"{method.name}, {len(trials)} trials",
        labels=lambda: field.labels,
        losses=found.loss,
    )
