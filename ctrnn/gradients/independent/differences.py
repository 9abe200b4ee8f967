"""Gradients by perturbation: independent of every derivative of a field, and the judge of them all.

    complex step (Squire & Trapp 1998)     dr/dw_k = Im r(w + iε e_k)/ε,  ε = 1e-100: no subtraction, exact to round-off
    central differences of order 6         dl/dw_k ≈ [64 D(h/2) − 20 D(h) + D(2h)]/45
                                           D(h) = [l(w_k + h) − l(w_k − h)]/(2h)

The second is two Richardson extrapolations (Ridders 1982) of D, with h = 1e-3 |w_k| (or of the named array's size, for
w_k = 0): the truncation goes with h⁶, the rounding with 1/h, and a loss may well change its course within a hundredth
of a parameter. Both take the recorded steps again (same t and h), so they see the same discrete function as the exact
methods; but through events, which move, the differences are those of whole solutions, and see the tolerance's noise.
They cost one or six solutions for each of m + n numbers: for checks, not for training. The complex step takes ∂ℓ/∂r,
and both take the read-out's gradient, from the objective.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ctrnn.clock import working
from ctrnn.course import Course
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.gradients.continuous.scales import parameter_scales, typical
from ctrnn.gradients.costs import Cost, Size, central, complex_step
from ctrnn.gradients.method import Exact, Facts, GradientMethod, Passes
from ctrnn.gradients.recording.losses import Losses
from ctrnn.gradients.recording.replay import RecordedSteps, field_inputs, newton_matrices, recorded, replay, within_mask
from ctrnn.gradients.result import Gradient, result
from ctrnn.gradients.sensitivity.events import event_loss
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.runge_kutta import Integration

EPSILON = 1e-100
STEP = 1e-3


@dataclass(frozen=True)
class ComplexStep(GradientMethod):
    """The complex step through the recorded steps, in torch.

    The field must be analytic: no relu, abs or conditions.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> problem = ctrnn.Problem(decay, [1.0], (0.0, 1.0), objective=ctrnn.Objective(target=[0.0], at=[1.0]))
    >>> ours, theirs = (ctrnn.gradient(problem, m, solver="rk4", dt=0.1).vector[0] for m in ("adjoint", ComplexStep()))
    >>> bool(abs(theirs / ours - 1.0) < 1e-13)
    True
    """

    facts = Facts(
        name="complex-step",
        summary="the complex step through the recorded steps, for analytic fields: the judge of all others",
        exact_for=Exact.STEPS,
        passes=Passes.SOLUTIONS,
        cost="m + n complex solutions",
        memory="256 solutions at a time",
        independent=True,
        by_torch=True,
        compared=True,
    )

    @property
    def name(self) -> str:
        """What a result says that it was computed by."""
        return "complex step"

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""
        return complex_step(size)

    def compute(self, problem: Problem, settings: Settings) -> Gradient:
        """The loss and its gradient."""
        import torch

        began = working()
        steps = recorded(problem, settings, self.name)
        n, m = problem.field.n, problem.field.m
        function = field_inputs(problem)
        matrices = newton_matrices(steps, function, problem.field.parameters)
        shapes = [(k, v.shape, v.size) for k, v in problem.field.parameters.items()]
        # entries of [w, r0], and for each the direction in which it is moved
        point = torch.from_numpy(np.concatenate([problem.field.vector, problem.r0])).to(torch.complex128)
        seeds = steps.sources.reshape(-1, n) if steps.sources.size else steps.jumps
        keep = np.flatnonzero(seeds.any(axis=1))
        rows = torch.from_numpy(seeds[keep])

        def moved(direction: torch.Tensor) -> torch.Tensor:
            parts = torch.split(point + 1j * EPSILON * direction, [size for _, _, size in shapes] + [n])
            w = {k: part.reshape(shape) for (k, shape, _), part in zip(shapes, parts, strict=False)}
            states, stages = replay(steps, function, w, parts[-1], matrices)
            outputs = stages if steps.sources.size else states
            if not keep.size:
                return torch.zeros((), dtype=torch.float64)
            return (torch.stack([outputs[k].imag for k in keep]) * rows).sum() / EPSILON

        try:
            directions = torch.eye(m + n, dtype=torch.complex128)
            total = torch.func.vmap(moved, chunk_size=256)(directions).numpy()
        except (RuntimeError, TypeError) as error:
            raise UsageError(
                "method",
                given="complex-step",
                allowed="a field of analytic functions",
                hint=f"method='central-difference' (torch says: {str(error).splitlines()[0]})",
            ) from error
        stats = replace(steps.stats, evaluations=steps.stats.evaluations * (1 + m + n), wall_time=working() - began)
        return result(
            problem,
            self.name,
            steps.loss,
            within_mask(problem.field, total[:m]),
            total[m:] + steps.l_r0,
            steps.readout,
            stats,
        )


@dataclass(frozen=True)
class CentralDifference(GradientMethod):
    """Differences of order 6 through the recorded steps, in compiled code, for any field.

    With events they are differences of whole solutions.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> problem = ctrnn.Problem(decay, [1.0], (0.0, 1.0), objective=ctrnn.Objective(target=[0.0], at=[1.0]))
    >>> ours, theirs = (
    ...     ctrnn.gradient(problem, m, solver="rk4", dt=0.1).vector[0] for m in ("adjoint", CentralDifference())
    ... )
    >>> bool(abs(theirs / ours - 1.0) < 1e-9)
    True
    """

    facts = Facts(
        name="central-difference",
        summary="differences of order 6 through the recorded steps, for any field: a judge without any derivative",
        exact_for=Exact.STEPS,
        unless="to 9 digits",
        passes=Passes.SOLUTIONS,
        cost="6 (m + n) solutions",
        memory="one solution",
        through_events=Passes.SOLUTIONS,
        independent=True,
    )

    @property
    def name(self) -> str:
        """What a result says that it was computed by."""
        return "central differences"

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""
        return central(size)

    def compute(self, problem: Problem, settings: Settings) -> Gradient:
        """The loss and its gradient."""
        began = working()
        field = problem.field
        w, r0 = field.vector, problem.r0
        if problem.events:
            loss, readout, stats = event_loss(problem, settings)
        else:
            steps = recorded(problem, settings, self.name)
            loss, readout, stats = steps.loss, steps.readout, steps.stats

        def at(w: Array, r0: Array) -> float:
            if problem.events:
                return event_loss(problem.replace(field=moved_field(field, w), r0=r0), settings)[0]
            return self._loss(problem, settings, steps, w, r0)

        sizes_w, size_r0 = parameter_scales(field), typical(r0)

        def along_w(k: int, h: float) -> float:
            moved = w.copy()
            moved[k] += h
            return at(moved, r0)

        def along_r0(k: int, h: float) -> float:
            moved = r0.copy()
            moved[k] += h
            return at(w, moved)

        vector = np.array([_derivative(along_w, k, w[k], sizes_w[k]) for k in range(field.m)])
        g0 = np.array([_derivative(along_r0, k, r0[k], size_r0) for k in range(field.n)])
        runs = 1 + 6 * (field.m + field.n)
        stats = replace(stats, evaluations=stats.evaluations * runs, wall_time=working() - began)
        return result(problem, self.name, loss, within_mask(field, vector), g0, readout, stats)

    @staticmethod
    def _loss(problem: Problem, settings: Settings, steps: RecordedSteps, w: Array, r0: Array) -> float:
        """The loss after the same steps from other numbers: each recorded time is a stop, and dt is longer than any."""
        bound = problem.bind()
        times = steps.record.t
        system = bound.system._replace(w=moved_field(problem.field, w)._kernel_vector())
        bound = replace(bound, system=system)
        fixed = replace(settings, dt=2.0 * (problem.t_span[1] - problem.t_span[0]))
        course = Course(problem.t_span[0], times, np.ones(times.size, dtype=bool))
        run = Integration(bound, r0, course, fixed, keep="stages")
        losses = Losses(problem, steps.b)
        loss = losses.at(problem.t_span[0], r0)[0]
        for record in run.blocks():
            loss += losses.block(record).loss
        return loss


def moved_field(field: Field, w: Array) -> Field:
    """The field at a flat vector (m,) that need not obey its constraints."""
    moved = copy.copy(field)
    moved.parameters = field.unflatten(w)
    return moved


def _derivative(f: Callable[[int, float], float], k: int, value: float, size: float) -> float:
    h = STEP * (abs(value) or size)
    h = (value + h) - value  # a step that is a difference of two floating-point numbers
    half, one, two = ((f(k, d) - f(k, -d)) / (2.0 * d) for d in (0.5 * h, h, 2.0 * h))
    return float((64.0 * half - 20.0 * one + two) / 45.0)
