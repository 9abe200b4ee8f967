"""Where a run meets its next event: the first root of a condition on the dense output, and a step that ends on it.

    c(t + θh, r(θ)) = 0,    r(θ) = r + h Σ_i b_i(θ) k_i

c is evaluated at P points of each step. A change of sign is a crossing; there are two where the parabola through three
points of one sign dips through zero. A root in a bracket is found by Brent's method. The step is then taken again to
end there, and the time improved on such steps by the secant method until c is zero to rounding.

(Shampine & Thompson, Comput. Math. Appl. 39, 43, 2000; Brent, Algorithms for Minimization without Derivatives, 1973,
ch. 4.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.course import Course
from ctrnn.errors import SolverError
from ctrnn.events import BoundEvent, EventError
from ctrnn.fields.base import Array
from ctrnn.fields.bound import Bound
from ctrnn.inputs.times import RESOLUTION
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.runge_kutta import Integration
from ctrnn.solvers.snapshot import restore, snapshot

#: points of a step at which the conditions are looked at
POINTS = np.linspace(0.0, 1.0, 9)
#: steps that are looked at together, at first and at most; more would be thrown away behind an event
FIRST, MOST = 8, 32


class Search:
    """The way to the next event: ``run`` gives (τ, r⁻, the events at τ), or None where the course ends first."""

    def __init__(
        self, bound: Bound, problem: Problem, r: Array, course: Course, settings: Settings, residual: Array
    ) -> None:
        self.bound, self.problem, self.course, self.settings = bound, problem, course, settings
        self.events: tuple[BoundEvent, ...] = problem.events
        self.columns = sorted({i for event in self.events for i in event.c.states})
        self.needs_x = any(event.c.inputs for event in self.events)
        self.run_ = Integration(bound, r, course, settings, keep="dense", label="simulate")
        dense = self.run_.method.dense
        self.dense = dense
        #: (P, S): r(θ) = r + h Σ_i weights_i k_i
        self.weights = POINTS[:, None] ** np.arange(1, dense.shape[1] + 1) @ dense.T
        self.sizes, self.landing = np.zeros(len(self.events)), 0
        self.t, self.r = course.start, np.array(r, dtype=float)
        self.signs = self._first_signs(residual)

    @property
    def steps(self) -> int:
        """Accepted steps."""
        return self.run_.stats.steps

    @property
    def evaluations(self) -> int:
        """Calls of F, those for the steps that end on the event among them."""
        return self.run_.stats.evaluations + self.landing

    def _first_signs(self, residual: Array) -> list[float | None]:
        """The sign that c takes right after a start at which it is 0, or just was made 0; None where it is not."""
        t, r = self.t, self.r
        x, dx = (f([t])[0] for f in (self.problem.x.evaluate, self.problem.x.derivative))
        F = None
        signs: list[float | None] = []
        for event, small in zip(self.events, residual, strict=True):
            slopes = event.c.slopes(t, r, x)
            if abs(slopes.value) > small:
                signs.append(None)
                continue
            F = self.problem.field(t, r, x) if F is None else F
            signs.append(float(np.sign(slopes.rate(F, dx))))
        return signs

    def run(self) -> tuple[float, Array, tuple[int, ...]] | None:
        """(τ, r⁻, the events at τ) of the next event, or None where the course ends first."""
        block, most = FIRST, MOST
        while True:
            before = snapshot(self.run_)
            try:
                record = next(self.run_.blocks(block), None)
            except SolverError:
                if block == 1:
                    raise
                # what failed may lie behind an event: go there a step at a time
                restore(self.run_, before)
                block = most = 1
                continue
            if record is None:
                return None
            hit = self._look(record)
            if hit is not None:
                return hit
            self.t, self.r = float(record.t[-1]), record.r[-1].copy()
            self.signs = [None] * len(self.events)
            block = min(2 * block, most)

    def _look(self, record: Record) -> tuple[float, Array, tuple[int, ...]] | None:
        """The first event in a block of steps."""
        C = record.h.size
        starts = np.concatenate([[self.t], record.t[:-1]])
        begin = np.concatenate([self.r[None], record.r[:-1]])
        t = starts[:, None] + POINTS * record.h[:, None]
        t[:, -1] = record.t
        lookup = np.clip(t, starts[:, None], np.nextafter(record.t, -np.inf)[:, None])
        r = np.empty((C, POINTS.size, self.r.size))
        u = self.columns
        r[:, :, u] = begin[:, None, u] + record.h[:, None, None] * np.einsum(
            "ps,csu->cpu", self.weights, record.k[:, :, u]
        )
        r[:, -1] = record.r
        x = np.empty((C, POINTS.size, 0))
        if self.needs_x:
            x = self.problem.x.evaluate(t.ravel(), lookup.ravel()).reshape(C, POINTS.size, -1)
        steps = Steps(self, record, starts, begin)
        first: list[tuple[int, float, float, int]] = []
        every = np.stack([event.c.values(t, r, x) for event in self.events])
        unknown = np.isnan(every)
        if unknown.any():  # what is NaN behind an event does no harm: there the sign is taken as it was
            flat = every.reshape(len(every), -1)
            known = np.maximum.accumulate(np.where(np.isnan(flat), 0, np.arange(flat.shape[1])), axis=1)
            every = np.take_along_axis(flat, known, axis=1).reshape(every.shape)
        self.sizes = np.maximum(self.sizes, np.abs(every).max(axis=(1, 2)))
        sign, size = np.sign(every), np.abs(every)
        low = (size[:, :, 1:-1] < size[:, :, :-2]) & (size[:, :, 1:-1] < size[:, :, 2:])
        eventful = (sign != sign[:, :1, :1]).any(axis=(1, 2)) | low.any(axis=(1, 2))
        eventful |= [start is not None for start in self.signs]
        for e in map(int, np.flatnonzero(eventful)):
            crossing = steps.first_crossing(e, every[e], self.signs[e])
            if crossing is not None:
                first.append((*crossing, e))
        if unknown.any():
            m, i = divmod(int(unknown.any(axis=0).ravel().argmax()), POINTS.size)
            if not first or (m, POINTS[i]) <= min(first)[:2]:
                e = int(unknown[:, m, i].argmax())
                label = self.events[e].event.label
                crossing = steps.before_unknown(e, m, i)
                if crossing is not None:
                    first = [(*crossing, e)]
            if not first or (m, POINTS[i]) <= min(first)[:2]:
                raise EventError(f"the condition of event {label!r} is NaN", t[m, i], r[m, -1], "another condition")
        if not first:
            return None
        m = min(first)[0]
        roots = sorted((steps.root(e, m, low, high), e) for step, low, high, e in first if step == m)
        theta, e = roots[0]
        tau, before = self._land(steps, m, theta, e)
        # those whose crossing is the same but for rounding
        slack = 1e-12 * record.h[m] + 4 * np.spacing(abs(tau))
        same = sorted(other for at, other in roots if abs(at - theta) * record.h[m] <= slack)
        return tau, before, tuple(same)

    def _land(self, steps: Steps, m: int, theta: float, e: int) -> tuple[float, Array]:
        """τ and r⁻, by steps from the start of step m that end on τ, until c is zero to rounding."""
        start, begin, h = float(steps.starts[m]), steps.begin[m], float(steps.record.h[m])
        end = float(steps.record.t[m])

        def step(to: float) -> tuple[Array, float]:
            if to == end and theta == 1.0:
                r = steps.record.r[m].copy()
            elif to - start <= 2 * np.spacing(abs(to)):
                r = begin.copy()
            else:
                way = Course(start, np.array([to]), np.array([True]))
                run = Integration(self.bound, begin, way, self.settings, first_step=to - start, label="event")
                run.run()
                r = run.r.copy()
                self.landing += run.stats.evaluations
            return r, self.events[e].c(to, r, steps.x(m, to))

        tau = end if theta == 1.0 else min(max(start + theta * h, start), end)
        r, c = step(tau)
        around = 1e-4 * np.array([-1.0, 1.0]) + min(max(theta, 1e-4), 1.0 - 1e-4)
        slope = (steps.c(e, m, around[1]) - steps.c(e, m, around[0])) / (around[1] - around[0]) / h
        for _ in range(8):
            if c == 0.0 or slope == 0.0 or not np.isfinite(slope):
                break
            to = min(max(tau - c / slope, start), end)
            if to == tau:
                break
            r_to, c_to = step(to)
            if not abs(c_to) < abs(c):
                break
            slope, tau, r, c = (c_to - c) / (to - tau), to, r_to, c_to
        for stop in (start, *self.course.stops[np.searchsorted(self.course.stops, tau) - 1 :][:2]):
            if 0.0 < abs(stop - tau) <= RESOLUTION * abs(tau) and stop > self.course.start:
                tau = float(stop)  # an event that falls on a stop, but for rounding
                r = step(tau)[0]
        return max(tau, float(np.nextafter(self.course.start, np.inf))), r


class Steps:
    """The conditions on the dense output of a block of steps."""

    def __init__(self, search: Search, record: Record, starts: Array, begin: Array) -> None:
        self.search, self.record, self.starts, self.begin = search, record, starts, begin

    def x(self, m: int, t: float) -> Array:
        """The input at t, looked up inside step m; empty where no condition reads it."""
        x = self.search.problem.x
        if not self.search.needs_x:
            return np.empty(0)
        low = self.starts[m]
        return x.evaluate([t], [min(max(t, low), np.nextafter(self.record.t[m], low))])[0]

    def c(self, e: int, m: int, theta: float) -> float:
        """Condition e at the part θ of step m."""
        t = self.record.t[m] if theta == 1.0 else self.starts[m] + theta * self.record.h[m]
        if theta == 1.0:
            r = self.record.r[m]
        else:
            u, dense = self.search.columns, self.search.dense
            weights = dense @ theta ** np.arange(1, dense.shape[1] + 1)
            r = np.empty(self.begin.shape[1])
            r[u] = self.begin[m, u] + self.record.h[m] * (weights @ self.record.k[m][:, u])
        return self.search.events[e].c(t, r, self.x(m, t))

    def first_crossing(self, e: int, c: Array, start: float | None) -> tuple[int, float, float] | None:
        """The first step m on which c (C, P) crosses zero in the event's direction, and a bracket: (m, θ_low, θ_high).

        ``start`` is the sign of c at the start of the first step where that is known better than by its value.
        """
        direction = self.search.events[e].event.direction
        sign = np.sign(c)
        found = []
        if start is not None:
            sign[0, 0] = start
            if start != 0.0 and sign[0, 1] != start:  # from zero over and back within the first part
                low = self._just_after(e, start)
                sign[0, 0] = sign[0, 1]
                if low and direction in (0, -start):
                    found.append((0, low, float(POINTS[1])))
        a, b = sign[:, :-1], sign[:, 1:]
        wanted = (a != 0.0) & (a != b) & (True if direction == 0 else a == -direction)
        if wanted.any():
            m, i = divmod(int(wanted.ravel().argmax()), POINTS.size - 1)
            found.append((m, float(POINTS[i]), float(POINTS[i + 1])))
        found += self._dips(e, c, sign, direction, found)
        return min(found, default=None)

    def before_unknown(self, e: int, m: int, i: int) -> tuple[int, float, float] | None:
        """A crossing between the last point at which c is known and the i-th, at which it is NaN."""
        if i == 0:
            return None
        low, high = float(POINTS[i - 1]), float(POINTS[i])
        sign, direction = np.sign(self.c(e, m, low)), self.search.events[e].event.direction
        while high - low > 1e-12 and direction in (0, -sign):
            middle = 0.5 * (low + high)
            c = self.c(e, m, middle)
            if np.sign(c) == -sign:
                return m, low, middle
            low, high = (low, middle) if np.isnan(c) else (middle, high)
        return None

    def _just_after(self, e: int, start: float) -> float:
        """A θ > 0 at which c has the sign that it starts with; 0 where there is none but for rounding."""
        theta = float(POINTS[1]) / 2
        while theta > 1e-12:
            if np.sign(self.c(e, 0, theta)) == start:
                return theta
            theta /= 2
        return 0.0

    def _dips(self, e: int, c: Array, sign: Array, direction: int, found: list[Any]) -> list[tuple[int, float, float]]:
        """Two crossings between points of one sign, where the parabola through three of them says so."""
        size = np.abs(c)
        one = (sign[:, :-2] == sign[:, 1:-1]) & (sign[:, 1:-1] == sign[:, 2:]) & (sign[:, 1:-1] != 0.0)
        low = one & (size[:, 1:-1] < size[:, :-2]) & (size[:, 1:-1] < size[:, 2:])
        limit = min(found)[:2] if found else (np.inf, 0.0)
        h = POINTS[1]
        for m, i in np.argwhere(low):
            left, middle, right = c[m, i], c[m, i + 1], c[m, i + 2]
            if (m, POINTS[i]) >= limit:
                break
            vertex = float(POINTS[i + 1] + 0.5 * h * (left - right) / (left - 2 * middle + right))
            s = sign[m, i + 1]
            if np.sign(self.c(e, int(m), vertex)) == -s:
                sides = (float(POINTS[i]), vertex), (vertex, float(POINTS[i + 2]))
                return [(int(m), *sides[0 if direction in (0, -s) else 1])]
        return []

    def root(self, e: int, m: int, low: float, high: float) -> float:
        """θ of the crossing in a bracket."""
        from scipy.optimize import brentq

        at_low, at_high = self.c(e, m, low), self.c(e, m, high)
        if at_high == 0.0 or not at_low * at_high < 0.0:
            return high
        return float(brentq(lambda theta: self.c(e, m, theta), low, high, xtol=1e-16, rtol=1e-15, maxiter=1000))
