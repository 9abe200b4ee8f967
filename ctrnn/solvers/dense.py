"""A solution between its steps: r(t) as a piecewise polynomial, from the solver's own dense output.

On the step from t with size h, r(t + θh) = r + h Σ_d θ^(d+1) Σ_i dense_id k_i, 0 ≤ θ ≤ 1 (ctrnn.solvers.tableaus, with
the order of each). SciPy's and torchdiffeq's: the polynomial of degree 7 through their dense output at 8 Chebyshev
points of each step, which is that dense output for the Runge–Kutta methods and agrees with it to its own accuracy for
the multistep ones.

A step's stages take more memory than its state. So a solution keeps what made it, and its steps are taken again, the
same ones to the bit, when r(t) is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from ctrnn.course import Course
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.fields.bound import Bound
from ctrnn.inputs import Polynomials
from ctrnn.numbers import checked_array
from ctrnn.problem import Problem, Settings
from ctrnn.solvers import tableaus
from ctrnn.solvers.runge_kutta import Integration
from ctrnn.solvers.solve import course_onto, solve
from ctrnn.trajectory import Stats

NODES = 0.5 - 0.5 * np.cos(np.pi * (np.arange(8) + 0.5) / 8)


class Steps(NamedTuple):
    """Steps and their polynomials: r(t + θh) = Σ_d coefficients_d θ^d."""

    starts: Array  # (C,)
    h: Array  # (C,), negative backwards
    coefficients: Array  # (C, degree + 1, n)
    ends: Array  # (C, n), the states that the steps reach

    def polynomials(self) -> Polynomials:
        """The same as an input signal, in powers of t: of steps forwards in time."""
        powers = self.h[:, None] ** -np.arange(float(self.coefficients.shape[1]))
        return Polynomials(self.starts, self.coefficients * powers[:, :, None])


class DenseOutput:
    """r(t) of a solution, through events too; its steps are taken again at the first call.

    Parameters
    ----------
    runs : sequence of (Problem, Course)
        The problems without events, one after the other in time, and the way of each.
    settings : Settings
        How they were solved.

    Attributes
    ----------
    order : int or None
        Inside a step r(t) is off by O(h^(order + 1)), beside the error of the steps themselves. None of other
        libraries' methods, whose interpolants have the orders that those libraries say.
    span : (float, float)
        The first and the last time, in the direction of the run.
    """

    def __init__(self, runs: Sequence[tuple[Problem, Course]], settings: Settings) -> None:
        self._runs, self._settings, self._lock = tuple(runs), settings, Lock()
        self.order = None if settings.library else tableaus.get(settings.solver).dense_order
        self.span = self._runs[0][1].start, self._runs[-1][1].end

    def __getstate__(self) -> dict[str, Any]:
        return {"_runs": self._runs, "_settings": self._settings, "order": self.order, "span": self.span}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=Lock())

    @property
    def steps(self) -> Steps:
        """All steps, in their order."""
        with self._lock:
            return self._steps

    @cached_property
    def _steps(self) -> Steps:
        found = [
            dense_steps(problem.bind(), problem.r0, problem.field.n, course, self._settings)[0]
            for problem, course in self._runs
        ]
        return found[0] if len(found) == 1 else Steps(*map(np.concatenate, zip(*found, strict=True)))

    @property
    def resets(self) -> Array:
        """(K,) the inner times at which r may jump."""
        return np.array([course.start for _, course in self._runs[1:]])

    def __call__(self, t: Any, left: bool = False) -> Array:
        """r(t), (n,) for one time or (T, n) for times in any order; raises UsageError outside the run's span.

        left : at the time of a reset the state before it, and not the one after it
        """
        wanted = checked_array("t", t)
        if wanted.ndim > 1:
            raise UsageError("t", given=f"shape {wanted.shape}", allowed="a time, or times (T,)")
        times = np.atleast_1d(wanted)
        low, high = sorted(self.span)
        slack = 1e-12 * max(abs(low), abs(high))
        outside = (times < low - slack) | (times > high + slack)
        if outside.any():
            allowed = f"times of the run, {low:g} to {high:g}"
            raise UsageError("t", given=float(times[outside][0]), allowed=allowed)
        times = times.clip(low, high)
        steps, sign = self.steps, np.sign(self.span[1] - self.span[0])
        m = np.searchsorted(sign * steps.starts, sign * times, side="left" if left else "right") - 1
        m = m.clip(min=0)
        theta = ((times - steps.starts[m]) / steps.h[m])[:, None]
        c = steps.coefficients
        r = c[m, -1]
        for d in range(c.shape[1] - 2, -1, -1):
            r = r * theta + c[m, d]
        is_end = theta[:, 0] >= 1.0 - 1e-15
        r[is_end] = steps.ends[m[is_end]]
        return r if wanted.ndim else r[0]


def dense_of(problem: Problem, settings: Settings, save_at: Array | None) -> DenseOutput:
    """That of a run without events, with the steps of ctrnn.solvers.solve."""
    return DenseOutput([(problem, course_onto(problem.course, settings, save_at))], settings)


def dense_steps(
    bound: Bound,
    r0: Array,
    n: int,
    course: Course,
    settings: Settings,
    save_at: Array | None = None,
    groups: tuple[int, ...] | None = None,
) -> tuple[Steps, Array, Stats]:
    """The steps along a course and the first n components inside them, the states at ``save_at``, and the cost."""
    if settings.library:
        return _of_library(bound, r0, n, course, settings, np.empty(0) if save_at is None else save_at)
    run = Integration(bound, r0, course, settings, save_at, "dense", groups, label="dense output")
    begin, last = np.asarray(r0[:n], dtype=float), course.start
    parts = []
    for record in run.blocks():
        before = np.concatenate([begin[None], record.r[:-1, :n]])
        # (C, degree, n): h Σ_i dense_id k_i
        terms = record.h[:, None, None] * np.einsum("id,cin->cdn", run.method.dense, record.k[:, :, :n])
        coefficients = np.concatenate([before[:, None], terms], axis=1)
        starts = np.concatenate([[last], record.t[:-1]])
        parts.append(Steps(starts, record.h.copy(), coefficients, record.r[:, :n].copy()))
        begin, last = record.r[-1, :n].copy(), record.t[-1]
    return Steps(*map(np.concatenate, zip(*parts, strict=True))), run.saved, run.stats


def _of_library(
    bound: Bound, r0: Array, n: int, course: Course, settings: Settings, save_at: Array
) -> tuple[Steps, Array, Stats]:
    """Solved twice: once to learn the library's steps, and once more for its dense output inside each of them."""
    steps = solve(bound, r0, course, settings)
    starts, h, sign = steps.t[:-1], np.diff(steps.t), int(course.direction)
    at = starts[:, None] + h[:, None] * NODES
    every = np.unique(np.concatenate([at.ravel(), save_at]))[::sign]
    found = solve(bound, r0, course, settings, every)
    at_nodes = found.r[np.searchsorted(sign * every, sign * at), :n]
    inner = np.einsum("de,cen->cdn", np.linalg.inv(np.vander(NODES, increasing=True)), at_nodes)
    states = found.r[np.searchsorted(sign * every, sign * save_at)]
    return Steps(starts, h, inner, steps.r[1:, :n]), states, steps.stats + found.stats
