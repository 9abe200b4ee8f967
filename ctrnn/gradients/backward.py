"""The adjoint equation on any solver: dλ/dt = −λ J − a ∂ℓ/∂r from t1 back to t0 (ctrnn.kernels.augmented.backward).

λ jumps at the observations, so the backward solution is taken from one observation to the one before it.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.forward import ForwardSystem
from ctrnn.gradients.gradient import Gradient, check_finite, result
from ctrnn.gradients.integral import augmented_bound, loss_at_observations
from ctrnn.inputs import stack
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.dense import dense_solution
from ctrnn.solvers.solve import solve


def backward_gradient(problem: Problem, settings: Settings, name: str, interpolate: bool) -> Gradient:
    """Forward for r and the loss, backward for λ and dl/dw."""
    from ctrnn.kernels import abi, augmented

    began = time.perf_counter()
    objective = problem.needs_objective(name)
    n, (t0, t1) = problem.field.n, problem.t_span
    ahead = ForwardSystem(problem, with_p=False)
    observed = problem.observed
    wanted = np.unique(np.append(observed, t1))
    forward, parts = ahead.tolerances(settings, "all")
    if interpolate:
        if settings.library == "torchdiffeq":
            raise UsageError(
                "solver",
                given=settings.solver,
                allowed="a solver with dense output, for mode='interpolate'",
                hint="mode='backsolve', or one of our own or SciPy's solvers",
            )
        r_of_t, states, stats = dense_solution(ahead.bound, ahead.start(), problem, forward, wanted)
    else:
        found = solve(
            ahead.bound,
            ahead.start(),
            t0,
            problem.stops,
            problem.is_break,
            forward,
            wanted,
            parts,
            label=f"{name}, forward",
        )
        states, stats = found.r, found.stats
    at_end = states[-1]

    if objective.times is None:
        loss, g_o = float(ahead.part(at_end, "l")[0]), ahead.part(at_end, "g_o")
        jumps = np.empty((0, n))
    else:
        loss, jumps, g_o = loss_at_observations(problem, states[np.searchsorted(wanted, observed), :n])

    check_finite(loss, jumps)
    kernel = ahead.kernel
    size = n + kernel.groups * kernel.columns
    if interpolate:
        signals = stack(problem.signals, r_of_t) if problem.signals.size else r_of_t
        bound = augmented_bound(
            ahead.base,
            augmented.backward,
            size,
            problem.field.input_size,
            abi.JACOBIAN,
            ahead.loss,
            True,
            objective.readout_size,
            signals.program(),
            signals.size,
            r_is_input=True,
        )
        y = np.zeros(size)
    else:
        bound = augmented_bound(
            ahead.base,
            augmented.backward,
            n + size,
            problem.field.input_size,
            abi.JACOBIAN,
            ahead.loss,
            True,
            objective.readout_size,
        )
        y = np.concatenate([at_end[:n], np.zeros(size)])
    lam = 0 if interpolate else n

    # tolerances given for each state say nothing about λ and g: the strictest of them
    settings = replace(settings, rtol=float(np.min(settings.rtol)), atol=float(np.min(settings.atol)))
    groups = (0, n, size) if interpolate else (0, n, 2 * n, n + size)
    # from one observation to the one before it, down to t0
    step = None
    marks = np.unique(np.concatenate([observed, [t0, t1]]))[::-1]
    for start, end in zip(marks[:-1], marks[1:], strict=True):
        y[lam : lam + n] += _jump(observed, jumps, start)
        stops, is_break = _between(problem, start, end)
        found = solve(
            bound, y, start, stops, is_break, settings, np.array([end]), groups, step, label=f"{name}, backward"
        )
        y, step = found.r[-1].copy(), found.step
        stats = stats + replace(found.stats, jacobians=found.stats.evaluations)
    y[lam : lam + n] += _jump(observed, jumps, t0)
    G = y[lam + n :].reshape(kernel.groups, 1, kernel.columns)
    stats = replace(stats, wall_time=time.perf_counter() - began)
    return result(problem, name, loss, ahead.base.rows(G)[0], y[lam : lam + n].copy(), g_o, stats)


def _jump(observed: Array, jumps: Array, t: float) -> Array:
    """a_k ∂ℓ/∂r of the observation at t, or 0."""
    return jumps[observed == t].sum(axis=0) if jumps.size else np.zeros(jumps.shape[1])


def _between(problem: Problem, start: float, end: float) -> tuple[Array, Array]:
    """The problem's stops from start down to end < start, and whether F jumps at them."""
    inside = (problem.stops < start) & (problem.stops > end)
    return np.append(problem.stops[inside][::-1], end), np.append(problem.is_break[inside][::-1], True)
