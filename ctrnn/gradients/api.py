"""One call for every gradient: the loss of a problem and its derivatives.

    dl/dw, dl/dr0 and, with a trained read-out, dl/dV, dl/dc     of   l = Σ_k a_k ℓ(o(t_k), y_k)  or  ∫ a(t) ℓ(o, y) dt

What comes back is ctrnn.gradients.result; each method is one file of this folder's rooms.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from ctrnn.errors import UnknownNameError, UsageError, ZeroGradientWarning
from ctrnn.fields.base import Field
from ctrnn.gradients.result import Gradient, Method
from ctrnn.problem import Problem, Settings, Trials, checked_problem
from ctrnn.solvers.auto import resolve_auto_solver
from ctrnn.solvers.exponential import with_steps
from ctrnn.threads import one_blas_thread

if TYPE_CHECKING:
    pass


#: name -> (module, class, arguments)
METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "rtrl": ("schedules.rtrl", "RTRL", {}),
    "rtrl-continuous": ("schedules.rtrl", "RTRL", {"mode": "continuous"}),
    "adjoint": ("schedules.adjoint", "Adjoint", {}),
    "adjoint-checkpoint": ("schedules.adjoint", "Adjoint", {"mode": "checkpoint"}),
    "adjoint-backsolve": ("schedules.adjoint", "Adjoint", {"mode": "backsolve"}),
    "adjoint-interpolate": ("schedules.adjoint", "Adjoint", {"mode": "interpolate"}),
    "tbptt": ("schedules.truncated", "TruncatedBPTT", {}),
    "rflo": ("online.rflo", "RFLO", {}),
    "autograd": ("independent.autograd", "Autograd", {}),
    "complex-step": ("independent.differences", "ComplexStep", {}),
    "central-difference": ("independent.differences", "CentralDifference", {}),
}
_ALSO = {
    "bptt": "adjoint",
    "checkpoint": "adjoint-checkpoint",
    "continuous-rtrl": "rtrl-continuous",
    "backsolve": "adjoint-backsolve",
    "interpolate": "adjoint-interpolate",
}


def method_named(method: Any, problem: Problem, settings: Settings) -> Method:
    """The method object behind a name; an object is returned as it is."""
    if not isinstance(method, str):
        if isinstance(method, type) and hasattr(method, "compute"):
            method = method()
        if hasattr(method, "compute"):
            return method
        raise UsageError("method", given=method, allowed=f"a name ({', '.join(METHODS)}, auto) or a method object")
    name = _ALSO.get(method.lower(), method.lower())
    if name == "auto":
        return _automatic(problem, settings)[0]
    if name not in METHODS:
        raise UnknownNameError("method", method, [*METHODS, "auto"])
    return _method(name)


@cache
def _method(name: str) -> Method:
    module, kind, arguments = METHODS[name]
    made: Method = getattr(importlib.import_module(f"ctrnn.gradients.{module}"), kind)(**arguments)
    return made


def _automatic(problem: Problem, settings: Settings) -> tuple[Method, str]:
    """The method that suits the problem (ctrnn.gradients.advise.choice), and why."""
    from ctrnn.gradients.advise.choice import choose
    from ctrnn.gradients.advise.machine import available_memory
    from ctrnn.gradients.schedules.adjoint import BoundedAdjoint

    if problem.events:
        return method_named(
            "adjoint", problem, settings
        ), "of the two methods that go through events, the one that costs less"
    choice = choose(problem, settings, available_memory())
    if choice.room is not None:
        return BoundedAdjoint(room=choice.room), choice.reason
    return method_named(choice.name, problem, settings), choice.reason


def gradient(
    problem: Problem | Trials,
    method: Any = "auto",
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    min_step: float = 0.0,
    certify: bool = False,
) -> Gradient:
    """The loss of a problem and its gradient; of ctrnn.Trials, the sums over the trials.

    method : "auto" (by n, m, T, memory and solver; ctrnn.plan shows the costs), "rtrl", "adjoint" (both exact for the steps taken,
        any block size), "rtrl-continuous", "adjoint-backsolve", "adjoint-interpolate" (ODEs of their own, on any solver), "rflo"
        (leak-only approximation), "autograd", "complex-step", "central-difference" (independent routes, for checks), or an object
        such as ctrnn.RTRL(block=32), ctrnn.Adjoint(mode="backsolve"), ctrnn.RTRL(device="cuda", dtype="float32")
    solver, rtol, atol, dt, max_steps, min_step : as in ctrnn.simulate
    certify : check the number by independent routes, at some times its cost (ctrnn.gradients.check.certificate)

    Returns a Gradient: .loss, .parameters, .vector (m,), .r0 (n,), .readout, .stats, .certificate.

    Raises UsageError for a problem without objective, with weights that are all zero, or with a method that the solver does not
    allow, and the errors of ctrnn.simulate. Warns (ctrnn.errors.ZeroGradientWarning) of a gradient that is exactly zero where the loss is not.

    >>> import math
    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> objective = ctrnn.Objective("squared_error", target=[0.0], at=[1.0])
    >>> g = gradient(ctrnn.Problem(decay, r0=[1.0], t_span=(0.0, 1.0), objective=objective), method="adjoint")
    >>> bool(abs(g.parameters["k"] + math.exp(-4.0)) < 1e-8)  # l = e^(-2k)/2
    True
    """
    settings = Settings.of(solver, rtol, atol, dt, max_steps, min_step)
    if isinstance(problem, Trials):
        from ctrnn.gradients.trials import trials_gradient

        check_alive(problem)
        if getattr(method, "place", None) is not None:
            from ctrnn.gradients.recording.torch.result import of_trials

            return told_if_zero(of_trials(problem, method, settings, certify))
        return told_if_zero(trials_gradient(problem, method, settings, certify))
    check_alive([checked_problem(problem)])
    settings = resolve_auto_solver(problem, settings)
    is_auto = isinstance(method, str) and method.lower() == "auto"
    chosen, reason = _automatic(problem, settings) if is_auto else (method_named(method, problem, settings), "")
    found = compute(chosen, problem, settings)
    if reason:
        found = replace(found, reason=reason)
    if certify:
        from ctrnn.gradients.check.certificate import certify as check

        found = replace(found, certificate=check(found, chosen, problem, settings))
    return told_if_zero(found)


def check_alive(problems: Iterable[Problem]) -> None:
    """Raises UsageError for problems without objectives, or whose weights are all zero: their loss is 0 whatever they do."""
    counts = [problem.needs_objective("a gradient").counts for problem in problems]
    if not any(counts):
        raise UsageError("objective.weight", given="0 at every time", allowed="a weight that is not zero somewhere")


def told_if_zero(found: Gradient) -> Gradient:
    """The gradient; warns of a dead objective, one with a loss that nothing changes."""
    parts = [found.vector, found.r0, *(found.readout or {}).values()]
    if found.loss != 0.0 and not any(part.any() for part in parts):
        warnings.warn(
            f"the loss is {found.loss:.6g} and its gradient exactly zero, as if the objective did not depend on the states there. "
            "Try: look at its slope at the solution",
            ZeroGradientWarning,
            stacklevel=3,
        )
    return found


def compute(method: Method, problem: Problem, settings: Settings) -> Gradient:
    """Run a method on one BLAS thread (ctrnn.threads says why)."""
    if getattr(method, "place", None) is not None:
        from ctrnn.gradients.recording.torch.result import of_problem

        return of_problem(problem, method, settings)
    if problem.events:
        from ctrnn.gradients.sensitivity.events import event_gradient

        with one_blas_thread:
            return event_gradient(method, problem, settings)
    if getattr(method, "goes_without_blas", _never)(problem, settings):
        return method.compute(problem, settings)
    problem = with_steps(problem, settings)
    with nullcontext() if _is_small(problem.field) else one_blas_thread:
        return method.compute(problem, settings)


def _never(problem: Problem, settings: Settings) -> bool:
    return False


def _is_small(field: Field) -> bool:
    """Whether the kernels of a field go without products by BLAS."""
    from ctrnn.kernels.augmented import SMALL

    kernel = field.kernel
    return not kernel.blas and field.n**2 * kernel.columns <= SMALL
