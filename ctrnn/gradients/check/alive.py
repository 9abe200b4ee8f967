"""Objectives that are dead: a loss that nothing changes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from ctrnn.errors import UsageError, ZeroGradientWarning
from ctrnn.gradients.result import Gradient
from ctrnn.problem import Problem


def check_alive(problems: Iterable[Problem]) -> None:
    """Raises UsageError for problems without objectives, or whose weights are all zero: their loss is always 0."""
    counts = [problem.needs_objective("a gradient").counts for problem in problems]
    if not any(counts):
        raise UsageError("objective.weight", given="0 at every time", allowed="a weight that is not zero somewhere")


def refuse_certified_noise(certify: bool, problems: Iterable[Problem]) -> None:
    """Raises UsageError for a certificate of a gradient along a path of noise."""
    if certify and any(problem.noise is not None for problem in problems):
        allowed = "False, with noise: a path of noise is no solution of a differential equation to compare with"
        hint = "ctrnn.compare_gradients(problem, ['adjoint', 'rtrl'], ...), through the same steps"
        raise UsageError("certify", given=True, allowed=allowed, hint=hint)


def warn_if_zero_gradient(found: Gradient) -> Gradient:
    """The gradient; warns of a dead objective, one with a loss that nothing changes."""
    parts = [found.vector, found.r0, *(found.readout or {}).values()]
    if found.loss != 0.0 and not any(part.any() for part in parts):
        warnings.warn(
            f"the loss is {found.loss:.6g} and its gradient exactly zero, as if the objective did not depend on the "
            "states there. Try: look at its slope at the solution",
            ZeroGradientWarning,
            stacklevel=3,
        )
    return found
