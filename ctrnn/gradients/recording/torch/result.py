"""From a method that computes on a device to a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctrnn.errors import UsageError
from ctrnn.gradients.recording import lockstep as together
from ctrnn.gradients.recording.lockstep import Found, TogetherGradient
from ctrnn.gradients.result import Gradient
from ctrnn.problem import Problem, Settings, Trials


def _found(problems: Sequence[Problem], method: Any, settings: Settings) -> Found:
    from ctrnn.threads import one_torch_thread

    with one_torch_thread:
        found: Found = method.on_device(problems, settings)
    return found


def of_problem(problem: Problem, method: Any, settings: Settings) -> Gradient:
    """The gradient of one problem; raises what Run raises, and NotFiniteError."""
    return together.of_problem(problem, method.name, _found([problem], method, settings))


def of_trials(trials: Trials, method: Any, settings: Settings, certify: bool) -> TogetherGradient:
    """The gradient of a sum over trials; raises what Run raises, NotFiniteError, and UsageError for a certificate: it is that of one problem."""
    if certify:
        hint = "certify one of the trials, trials[0]"
        raise UsageError("certify", given=True, allowed="False, for trials that go together on a device", hint=hint)
    trials.readout_size("a gradient")
    found = _found(trials.problems, method, settings)
    return together.of_trials(trials, method.name, found, lambda problem: of_problem(problem, method, settings))
