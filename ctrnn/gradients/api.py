"""One call for every gradient: the loss of a problem and its derivatives.

    dl/dw, dl/dr0 and, with a trained read-out, dl/dV, dl/dc     of   l = Σ_k a_k ℓ(o(t_k), y_k)  or  ∫ a(t) ℓ(o, y) dt

What comes back is ctrnn.gradients.result; what a method is, ctrnn.gradients.method; all of them,
ctrnn.gradients.methods.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.gradients.advise.choice import resolve
from ctrnn.gradients.check.alive import check_alive, refuse_certified_noise, warn_if_zero_gradient
from ctrnn.gradients.check.certificate import certify as check
from ctrnn.gradients.check.trials import certified_trials
from ctrnn.gradients.dispatch import compute
from ctrnn.gradients.method import GradientMethod
from ctrnn.gradients.prepared import ValueAndGradient
from ctrnn.gradients.result import Gradient
from ctrnn.gradients.trials import trials_gradient
from ctrnn.numbers import flag
from ctrnn.problem import Problem, Settings, Trials, checked_problem
from ctrnn.solvers.auto import resolve_auto_solver
from ctrnn.solvers.noise import with_noise


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
    error_control: str = "all",
    max_step: float = np.inf,
    first_step: float | None = None,
) -> Gradient:
    """The loss of a problem and its gradient; of trials, the sums over them.

    Parameters
    ----------
    problem : Problem or Trials
        With an objective.
    method : str or method
        "auto" (by n, m, T, memory and solver), one of the names that ``ctrnn.plan`` lists with their costs, or an
        object such as ``ctrnn.RTRL(block=32)``, ``ctrnn.Adjoint("checkpoint", memory=10**7)`` or
        ``ctrnn.RTRL(device="cuda", dtype="float32")``. "adjoint" and "rtrl" are exact for the steps taken;
        "rtrl-continuous", "adjoint-interpolate" and "adjoint-backsolve" are equations of their own, on any solver;
        "autograd", "complex-step" and "central-difference" are independent routes, for checks; "tbptt", "rflo",
        "snap-1" and "snap-2" are approximations.
    solver, rtol, atol, dt, max_steps, min_step
        As in ``ctrnn.simulate``.
    certify : bool
        Check the number by independent routes, at some times its cost; the findings are ``.certificate``.
    error_control : {"all", "state"}
        What adaptive steps of an explicit method of our own answer for: the state and its sensitivity, so that the
        gradient is as accurate as the tolerance says, or the state alone.
    max_step, first_step
        As in ``ctrnn.simulate``.

    Returns
    -------
    Gradient
        ``.loss``, ``.parameters`` by name, ``.vector`` (m,), ``.r0`` (n,), ``.readout``, ``.stats``, ``.certificate``.
        Of trials ``.r0`` is (B, n), and ``.trials`` are the B gradients.

    Raises
    ------
    UsageError
        For a problem without objective, or with weights that are all zero, or with a method that the solver or the
        problem does not allow; and the errors of ``ctrnn.simulate``.

    Warns
    -----
    ZeroGradientWarning
        Where the gradient is exactly zero and the loss is not.
    GradientAccuracyWarning
        Where the steps could not be made so short as the sensitivity wants them.

    Notes
    -----
    Where the state rests, the error of the state allows steps whose derivative is no derivative of the differential
    equation. The way back tells (ctrnn.gradients.recording.sensitivity_error); the run is then taken again in finer
    steps, and the gradient is exact for those.

    Examples
    --------
    >>> import math
    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> objective = ctrnn.Objective("squared_error", target=[0.0], at=[1.0])
    >>> g = gradient(ctrnn.Problem(decay, r0=[1.0], t_span=(0.0, 1.0), objective=objective), method="adjoint")
    >>> bool(abs(g.parameters["k"] + math.exp(-4.0)) < 1e-8)  # l = e^(-2k)/2
    True
    """
    settings = Settings.of(solver, rtol, atol, dt, max_steps, min_step, error_control, max_step, first_step)
    certify = flag("certify", certify)
    if isinstance(problem, Trials):
        check_alive(problem)
        refuse_certified_noise(certify, problem)
        return warn_if_zero_gradient(_of_trials(with_noise(problem, settings), method, settings, certify))
    check_alive([checked_problem(problem)])
    refuse_certified_noise(certify, [problem])
    problem = with_noise(problem, settings)
    settings = resolve_auto_solver(problem, settings)
    chosen, reason = resolve(method, problem, settings)
    found = compute(chosen, problem, settings)
    if reason:
        found = replace(found, reason=reason)
    if certify:
        found = replace(found, certificate=check(found, chosen, problem, settings))
    return warn_if_zero_gradient(found)


def _of_trials(trials: Trials, method: Any, settings: Settings, certify: bool) -> Gradient:
    if certify and isinstance(method, GradientMethod) and method.torch_device is not None:
        hint = "certify one of the trials, trials[0]"
        raise UsageError("certify", given=True, allowed="False, for trials that go together on a device", hint=hint)
    return certified_trials(trials, method, settings) if certify else trials_gradient(trials, method, settings)


def value_and_gradient(
    problem: Problem | Trials,
    method: Any = "auto",
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    min_step: float = 0.0,
    error_control: str = "all",
    max_step: float = np.inf,
    first_step: float | None = None,
) -> ValueAndGradient:
    """A loss and its gradient as a function of the parameters, made ready once and called many times.

    Parameters
    ----------
    problem : Problem or Trials
        With an objective; its numbers are the defaults of a call.
    method, solver, rtol, atol, dt, max_steps, min_step, error_control, max_step, first_step
        As in `ctrnn.gradient`.

    Returns
    -------
    ValueAndGradient
        ``f(w, r0=None, x=None)`` gives the loss and the gradient by w: a dict name -> array where w is a dict or not
        given, flat (m,) where w is flat, so that ``scipy.optimize.minimize(f, w, jac=True)`` takes it.
        ``f.gradient(w)`` gives the whole Gradient, with dl/dr0.

    Raises
    ------
    UsageError
        For what `ctrnn.gradient` refuses.

    Notes
    -----
    The numbers are those of `ctrnn.gradient`, to the bit; checks, course, tableau, compiled addresses and memory are
    found once.

    A call raises ``ctrnn.errors.SolverError`` where there is no solution, as at a step too far of a line search: give
    the optimiser bounds, or use `ctrnn.fit`, which takes a shorter step there.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> objective = ctrnn.Objective("squared_error", target=[0.0], at=[1.0])
    >>> f = value_and_gradient(ctrnn.Problem(decay, r0=[1.0], t_span=(0.0, 1.0), objective=objective))
    >>> loss, g = f({"k": 1.0})
    >>> sorted(g), f([1.0])[1].shape
    (['k'], (1,))
    """
    settings = Settings.of(solver, rtol, atol, dt, max_steps, min_step, error_control, max_step, first_step)
    if isinstance(problem, Trials):
        check_alive(problem)
        return ValueAndGradient(problem, method, settings, None)
    check_alive([checked_problem(problem)])
    driven = with_noise(problem, settings)
    settings = resolve_auto_solver(driven, settings)
    return ValueAndGradient(problem, method, settings, resolve(method, driven, settings)[0])
