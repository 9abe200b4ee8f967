"""The adjoint equation on any solver: dλ/dt = −λJ − a ∂ℓ/∂r from t1 back to t0 (ctrnn.kernels.augmented.backward).

λ jumps at the observations, so the backward solution is taken from one observation to the one before it. Run backwards,
a contracting system expands its errors; at each observation, and at t0, the state of ``backsolve`` is compared with the
forward one, which is known there, and put back to it.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from ctrnn.clock import working
from ctrnn.errors import ReconstructionError, ReconstructionWarning, SolverError
from ctrnn.fields.base import Array
from ctrnn.gradients.continuous.integral import augmented_bound
from ctrnn.gradients.continuous.scales import integral_scales
from ctrnn.gradients.continuous.system import ForwardSystem
from ctrnn.gradients.finite import check_finite
from ctrnn.gradients.result import Gradient, result
from ctrnn.inputs import Input, stack
from ctrnn.kernels import abi, augmented
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.dense import dense_steps
from ctrnn.solvers.solve import solve
from ctrnn.trajectory import Stats

#: a reconstruction error of this many tolerances is worth a warning, and this relative error makes the gradient
#: worthless
WARN, LOST = 1e3, 1e-2
INTERPOLATE = "method='adjoint-interpolate', or the discrete methods"


def backward_gradient(problem: Problem, settings: Settings, name: str, interpolate: bool) -> Gradient:
    """Forward for r and the loss, backward for λ and dl/dw."""
    began = working()
    objective = problem.needs_objective(name)
    n, (t0, t1) = problem.field.n, problem.t_span
    ahead = ForwardSystem(problem, with_p=False)
    forward, groups = ahead.tolerances(settings)
    observed = problem.observed
    wanted = np.unique(np.concatenate([observed, [t0, t1]]))
    if interpolate:
        steps, states, stats = dense_steps(ahead.bound, ahead.start(), n, problem.course, forward, wanted, groups)
        r_of_t = steps.polynomials()
    else:
        r_of_t = None
        found = solve(
            ahead.bound,
            ahead.start(),
            problem.course,
            forward,
            wanted,
            groups,
            label=f"{name}, forward",
        )
        states, stats = found.r, found.stats

    if objective.times is None:
        loss, g_o = float(ahead.part(states[-1], "l")[0]), ahead.part(states[-1], "g_o")
        jumps, size = np.empty((0, n)), integral_scales(problem, settings)[1]
    else:
        l, jumps, g_o = objective.at_observations(np.ascontiguousarray(states[np.searchsorted(wanted, observed), :n]))
        loss, size = float(l.sum()), float(np.max(np.abs(jumps), initial=0.0))

    check_finite(loss, jumps)
    back = _Backward(problem, settings, ahead, r_of_t, size or 1.0, name)
    if interpolate and objective.times is None and settings.dt is None:
        # λ is 0 until the loss along the way begins; no step longer than the forward ones, which saw it, misses it
        back.onto = steps.starts
    back.run(wanted, states[:, :n], jumps)
    back.warn()
    stats = replace(stats + back.stats, wall_time=working() - began)
    return result(problem, name, loss, back.gradient(), back.lam.copy(), g_o, stats)


class _Backward:
    """[r | λ | g], or [λ | g] with r(t) as an input, on its way from t1 to t0."""

    def __init__(
        self, problem: Problem, settings: Settings, ahead: ForwardSystem, r_of_t: Input | None, size: float, name: str
    ) -> None:
        self.problem, self.ahead, self.name, self.asked = problem, ahead, name, settings
        n, kernel = problem.field.n, ahead.kernel
        entries = kernel.groups * kernel.columns
        self.first = 0 if r_of_t is not None else n  # where λ begins
        N = self.first + n + entries
        program, channels = None, None
        if r_of_t is not None:
            signals = stack(problem.signals, r_of_t) if problem.signals.size else r_of_t
            program, channels = signals.program(), signals.size
        self.bound = augmented_bound(
            ahead.base,
            augmented.backward,
            N,
            problem.field.input_size,
            abi.JACOBIAN,
            ahead.loss,
            True,
            problem.needs_objective(name).readout_size,
            program,
            channels,
            r_is_input=r_of_t is not None,
        )
        self.y = np.zeros(N)
        # λ has the size of its jumps, dl/dw that size over the parameter's: tolerances in the units of the loss
        rtol, atol = settings.tolerances(n)
        rtol, atol = np.full(N, rtol.min()), np.full(N, atol.min() * size)
        if self.first:
            rtol[:n], atol[:n] = settings.tolerances(n)
        atol[self.first + n :] /= ahead.column_scales().ravel()
        if settings.library:
            share = np.sqrt(n / N)
            rtol, atol = rtol * share, atol * share
        if settings.library == "torchdiffeq":
            rtol, atol = rtol.min(), atol.min()
        self.settings = replace(settings, rtol=rtol, atol=atol)
        self.groups = tuple(dict.fromkeys((0, self.first, self.first + n, N)))
        self.stats = Stats()
        self.onto = np.empty(0)  # more times to step onto
        self.lost = (0.0, 0.0, 0.0)  # tolerances, relative error and time of the worst reconstruction

    @property
    def lam(self) -> Array:
        return self.y[self.first : self.first + self.problem.field.n]

    def gradient(self) -> Array:
        kernel = self.ahead.kernel
        G = self.y[self.first + self.problem.field.n :].reshape(kernel.groups, 1, kernel.columns)
        return self.ahead.base.rows(G)[0]

    def run(self, marks: Array, states: Array, jumps: Array) -> None:
        """From the last of the marks to the first; states (K, n) is the forward solution there."""
        observed, n, step = self.problem.observed, self.problem.field.n, None
        # the state may well be 0 at one of the marks, as networks are at t0
        size = float(np.max(np.abs(states))) or 1.0
        for k in range(len(marks) - 1, -1, -1):
            if self.first:
                if k < len(marks) - 1:
                    self._compare(marks[k], self.y[:n], states[k], size)
                self.y[:n] = states[k]
            if jumps.size:
                self.lam[...] += jumps[observed == marks[k]].sum(axis=0)
            if k == 0:
                return
            try:
                found = solve(
                    self.bound,
                    self.y,
                    self.problem.course.back(marks[k], marks[k - 1]).onto(self.onto),
                    self.settings,
                    marks[k - 1 : k],
                    self.groups,
                    step,
                    label=f"{self.name}, backward",
                )
            except SolverError as error:
                if self.first:
                    raise type(error)(
                        f"backwards: {error.reason}", t=error.t, r=error.r[:n], h=error.h, hint=INTERPOLATE
                    ) from error
                raise
            self.y, step = found.r[-1].copy(), found.step
            self.stats = self.stats + replace(found.stats, jacobians=found.stats.evaluations)

    def _compare(self, t: float, back: Array, there: Array, size: float) -> None:
        rtol, atol = self.asked.tolerances(len(there))
        off = np.abs(back - there)
        tolerances = float(np.max(off / np.maximum(atol + rtol * np.abs(there), np.finfo(float).tiny)))
        relative = float(np.max(off)) / size
        if not relative <= LOST:
            raise ReconstructionError(t, relative, INTERPOLATE)
        if tolerances > WARN and self.asked.dt is None:  # a fixed step was not chosen by the tolerances
            self.lost = max(self.lost, (tolerances, relative, t))

    def warn(self) -> None:
        """Say, once, how far the state was off where it was off most."""
        tolerances, relative, t = self.lost
        if tolerances:
            warnings.warn(
                f"{self.name}: run backwards, the state at t = {t:.6g} is off by {relative:.1g} (relative), "
                f"{tolerances:.0f} times "
                f"the tolerance, and the gradient with it. Try: {INTERPOLATE}",
                ReconstructionWarning,
                stacklevel=6,
            )
