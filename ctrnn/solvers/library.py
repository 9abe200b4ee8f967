"""What SciPy's and torchdiffeq's solvers have in common: dr/dt as their function, and a solution piece by piece.

Between two jumps of the input F is smooth; a library's solver is started anew on each such piece, and looks the input
up strictly inside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ctrnn.clock import working
from ctrnn.course import Course
from ctrnn.errors import DivergenceError, SolverError, StepUnderflowError, TooManyStepsError
from ctrnn.fields.base import Array
from ctrnn.fields.bound import Bound
from ctrnn.kernels import point
from ctrnn.kernels.abi import JACOBIAN
from ctrnn.kernels.signals import evaluate
from ctrnn.kernels.stepper import field_at
from ctrnn.solvers.solution import Solution
from ctrnn.threads import raise_if_stopped
from ctrnn.trajectory import Stats


class Rate:
    """dr/dt as a Python function (t, r) -> (n,) for other libraries, on one piece without jumps.

    It counts its calls, and the steps that the library reports: the last one has reached ``r`` at ``t``, and no more
    than ``max_steps`` are allowed.
    """

    def __init__(self, bound: Bound, name: str, max_steps: int) -> None:
        program = bound.keep[1]
        self.bound, self.calls, self.jacobians = bound, 0, 0
        self.name, self.max_steps, self.steps, self.rejected, self.finite = name, max_steps, 0, 0, True
        self._work = np.zeros(1 if program is None else program.work_size)
        self._x = np.zeros(bound.x_stride)
        self.piece = (-np.inf, np.inf)

    def start(self, a: float, b: float, r: Array) -> None:
        """A new piece, from r at a to b; raises DivergenceError where F is not finite there (SciPy would hang)."""
        self.piece = (min(a, b), max(a, b))
        self.t, self.r, self.h = a, np.array(r), 0.0
        self(a, r)
        if not self.finite:
            raise self.failure("the field is not finite at the start")

    def reached(self, t: float, r: Any) -> None:
        """A step has led to r at t; raises DivergenceError where that is not finite."""
        raise_if_stopped()
        if not np.isfinite(r).all():
            raise _diverged(self.name, self.t, self.r, abs(t - self.t))
        self.h, self.t, self.r = abs(t - self.t), float(t), np.array(r)
        self.steps += 1
        self.limit()

    def limit(self) -> None:
        """Raise TooManyStepsError beyond ``max_steps``."""
        if self.steps + self.rejected > self.max_steps:
            raise TooManyStepsError(
                f"{self.name}: more than {self.max_steps} steps",
                t=self.t,
                r=self.r,
                h=self.h,
                hint="a larger max_steps, rtol or atol",
            )

    def failure(self, message: str) -> SolverError:
        """The error for a library that gave up with this message."""
        kind = StepUnderflowError if self.finite else DivergenceError
        hint = (
            "another solver, larger tolerances or a shorter t_span"
            if self.finite
            else "other parameters or a shorter t_span"
        )
        return kind(f"{self.name}: {message}", t=self.t, r=self.r, h=self.h, hint=hint)

    def __call__(self, t: float, r: Any) -> Array:
        """dr/dt (n,) at t and r."""
        out = np.empty(self.bound.n)
        r = np.ascontiguousarray(r, dtype=float)
        field_at(self.bound.system, float(t), self._lookup(t), r, self._work, self._x, out)
        self.calls += 1
        self.bound.raise_pending()
        self.finite = bool(np.isfinite(out).all())
        return out

    def _lookup(self, t: float) -> float:
        low, high = self.piece
        return float(min(max(t, low), np.nextafter(high, low)))

    def jacobian(self, t: float, r: Any) -> Array:
        """J (n, n) at t and r; raises DivergenceError where it is not finite."""
        out = np.empty((self.bound.n, self.bound.n))
        system = self.bound.system
        evaluate(system.code, system.data, float(t), self._lookup(t), self._work, self._x)
        point.jacobian(system, float(t), np.ascontiguousarray(r, dtype=float), self._x, out)
        self.jacobians += 1
        self.bound.raise_pending()
        if not np.isfinite(out).all():
            self.finite = False
            raise self.failure(f"the Jacobian is not finite at t = {float(t):.10g}")
        return out

    @property
    def has_jacobian(self) -> bool:
        """Whether the field has one."""
        return bool(self.bound.system.table[JACOBIAN])


def solve_by_pieces(
    bound: Bound,
    r0: Array,
    course: Course,
    save_at: Array | None,
    name: str,
    max_steps: int,
    piece: Callable[[Rate, float, float, Array, Array | None], tuple[Array, Array, Array]],
) -> Solution:
    """Solve piece after piece with a library's solver.

    ``piece(rate, a, b, r, wanted)`` returns times, states (T, n), and the state at b.
    """
    began = working()
    rate, r = Rate(bound, name, max_steps), np.array(r0, dtype=float)
    t0, sign = course.start, course.direction
    times: list[Array] = [np.array([t0])] if save_at is None else [save_at[save_at == t0]]
    states: list[Array] = [np.tile(r, (times[0].size, 1))]
    for a, b in course.pieces():
        rate.start(a, b, r)
        wanted = None if save_at is None else save_at[(sign * save_at > sign * a) & (sign * save_at <= sign * b)]
        t, found, end = piece(rate, a, b, r, wanted)
        good = np.isfinite(np.append(found, end[None], axis=0)).all(axis=1)
        if not good.all():
            first = int(np.argmin(good))
            last, before = (a, r) if first == 0 else (t[first - 1], found[first - 1])
            raise _diverged(name, float(last), before, rate.h)
        times.append(t)
        states.append(found)
        r = end
    stats = Stats(name, rate.steps, rate.rejected, rate.calls, rate.jacobians, working() - began)
    return Solution(np.concatenate(times), np.concatenate(states), stats)


def _diverged(name: str, t: float, r: Array, h: float) -> DivergenceError:
    hint = "other parameters, another solver, or a shorter t_span"
    return DivergenceError(f"{name}: the solution became infinite or NaN", t=t, r=r, h=h, hint=hint)
