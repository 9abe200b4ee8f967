"""Run a method on a problem: on a device, through events, or as it is, with BLAS's threads as they should be."""

from __future__ import annotations

from contextlib import nullcontext

from ctrnn.errors import UsageError
from ctrnn.fields.base import Field
from ctrnn.gradients.method import GradientMethod, Passes
from ctrnn.gradients.methods import names_where
from ctrnn.gradients.result import Gradient
from ctrnn.gradients.sensitivity.events import event_gradient
from ctrnn.kernels.augmented import SMALL
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.exponential import with_steps
from ctrnn.threads import one_blas_thread


def compute(method: GradientMethod, problem: Problem, settings: Settings) -> Gradient:
    """The gradient of a problem by a method, on one BLAS thread (ctrnn.threads says why).

    Raises what the method raises, and UsageError for one that does not go through the problem's events.
    """
    if problem.events and method.torch_device is None:
        return _through_events(method, problem, settings)
    if problem.is_noisy and not method.facts.through_noise:
        hint = "method='adjoint' or 'rtrl', which are exact for the steps taken"
        raise UsageError("method", given=method.name, allowed="one that goes along a path of noise", hint=hint)
    if method.needs is not None:  # its recording knows how many threads suit it
        return method.compute(problem, settings)
    problem = with_steps(problem, settings)
    with nullcontext() if _is_small(problem.field) else one_blas_thread:
        return method.compute(problem, settings)


def _through_events(method: GradientMethod, problem: Problem, settings: Settings) -> Gradient:
    passes = method.facts.through_events
    if passes is None:
        allowed = [repr(name) for name in names_where("through_events", *Passes)]
        raise UsageError(
            "method",
            given=method.name,
            allowed=f"{', '.join(allowed[:-1])} or {allowed[-1]}, for a problem with events",
            hint="ctrnn.RTRL(block=...) is one of them",
        )
    with one_blas_thread:
        if passes is Passes.SOLUTIONS:
            return method.compute(problem, settings)
        return event_gradient(problem, settings, method.name, passes, method.block)


def _is_small(field: Field) -> bool:
    """Whether the kernels of a field go without products by BLAS."""
    kernel = field._kernel
    return not kernel.blas and field.n**2 * kernel.columns <= SMALL
