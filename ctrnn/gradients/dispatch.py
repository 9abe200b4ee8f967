"""Run a method on a problem: on a device, through events, or as it is, with BLAS's threads as they should be."""

from __future__ import annotations

from contextlib import nullcontext

from ctrnn.errors import MemoryLimitError, UsageError, in_gib
from ctrnn.fields.base import Field
from ctrnn.gradients.costs import Size
from ctrnn.gradients.method import GradientMethod, Passes
from ctrnn.gradients.methods import METHODS, names_where
from ctrnn.gradients.result import Gradient
from ctrnn.gradients.sensitivity.events import event_gradient
from ctrnn.kernels.augmented import SMALL
from ctrnn.memory import available_memory
from ctrnn.numbers import MOST
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.exponential import with_steps
from ctrnn.threads import one_blas_thread

#: bytes, roughly, up to which nobody counts
LARGE = 2.0**28


def compute(method: GradientMethod, problem: Problem, settings: Settings) -> Gradient:
    """The gradient of a problem by a method, on one BLAS thread (ctrnn.threads says why).

    Raises what the method raises, UsageError for one that does not go through the problem's events, and
    MemoryLimitError where it takes more memory than there is.
    """
    check_memory(method, problem, settings)
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


def check_memory(method: GradientMethod, problem: Problem, settings: Settings) -> None:
    """Raises MemoryLimitError, with the exact method that does fit, by the counts of ctrnn.gradients.costs.

    Of adaptive steps, whose number is not known before, it is that of a single one.
    """
    n, m = problem.field.n, problem.field.m
    steps = 1.0 if settings.dt is None else max(1.0, abs(problem.t_span[1] - problem.t_span[0]) / settings.dt)
    if 16.0 * n * m + 160.0 * n * steps < LARGE or problem.events or method.torch_device is not None:
        return
    z = Size.of(problem, settings, int(min(steps, MOST)))
    needed, available = method.cost(z).memory, available_memory()
    if needed <= available:
        return
    costs = {name: METHODS[name].cost(z) for name in ("adjoint", "adjoint-checkpoint", "rtrl", "adjoint-interpolate")}
    fitting = [name for name, cost in costs.items() if cost.memory <= available]
    best = min(fitting, key=lambda name: costs[name].flops, default="")
    hint = f"method={best!r}, which needs {in_gib(costs[best].memory)}" if best else "a smaller problem"
    raise MemoryLimitError(f"method {method.name!r}", needed=needed, available=available, hint=hint)


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
