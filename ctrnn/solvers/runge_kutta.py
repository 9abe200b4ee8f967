"""Our own solver: a tableau and the compiled stepper, driven a block of steps at a time.

Blocks are what the gradients work on (``Integration.blocks``); between two of them Python can show progress, grow a
buffer or answer Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from ctrnn.clock import working
from ctrnn.course import Course
from ctrnn.errors import (
    ConvergenceOfStageError,
    DivergenceError,
    SolverError,
    StepUnderflowError,
    TooManyStepsError,
    UsageError,
)
from ctrnn.fields.base import Array
from ctrnn.fields.bound import Bound
from ctrnn.kernels import implicit, staggered, stepper
from ctrnn.kernels.abi import JACOBIAN
from ctrnn.kernels.linalg import SMALL, lapack_addresses
from ctrnn.kernels.staggered import Staggered
from ctrnn.kernels.stepper import Control, Method, Record
from ctrnn.memory import claim, claim_more
from ctrnn.problem import Settings
from ctrnn.progress import track
from ctrnn.solvers import tableaus
from ctrnn.solvers.tableaus import Tableau
from ctrnn.threads import raise_if_stopped
from ctrnn.trajectory import Stats

#: steps in a block, unless another number is asked for
BLOCK = 4096
#: bytes that the record of a block may take
BLOCK_BYTES = 64 * 2**20
#: seconds that compiled code may take before Python looks at Ctrl-C; flops a second of a slow machine, until it is
#: known how long a step takes
PATIENCE, RATE = 0.1, 1e8


#: what would take less memory than a record of steps, of stages, of dense output
_LESS = {
    "steps": "save_at=..., which keeps the states at these times alone",
    "stages": "method='adjoint-checkpoint', whose memory does not grow with the steps",
    "dense": "save_at=..., for the states at these times alone",
}


@cache
def method(name: str) -> Method:
    """A tableau in the form of the compiled stepper."""
    tableau = tableaus.get(name)
    s, total = tableau.s, tableau.s_total
    a = np.zeros((total, total))
    a[:s, :s] = tableau.a
    a[s:] = tableau.a_dense
    c = np.concatenate([tableau.c, tableau.c_dense])
    # the kernel's first row is the estimate of higher order
    e = np.ascontiguousarray(tableau.e[::-1]).reshape(-1, s)
    exponent = 1.0 / (tableau.error_order or 1)
    dense = np.ascontiguousarray(tableau.dense)
    gamma, guess = tableau.gamma, tableau.guess
    return Method(a, np.array(tableau.b), c, e, dense, tableau.fsal, exponent, tableau.stages, gamma, guess)


@cache
def weights(name: str) -> tuple[Array, Array]:
    """a (s, s) and b (s,) of the stages that enter r⁺, for the pullback."""
    tableau, s = tableaus.get(name), tableaus.get(name).stages
    return np.ascontiguousarray(tableau.a[:s, :s]), np.ascontiguousarray(tableau.b[:s])


def newton_for(bound: Bound, tableau: Tableau) -> implicit.Newton:
    """What Newton needs for the implicit stages of a tableau; raises UsageError for a system without a Jacobian."""
    if not tableau.implicit:
        return _no_newton()
    if not bound.system.table[JACOBIAN]:
        raise UsageError(
            "solver",
            given=tableau.name,
            allowed="an explicit solver, or one of scipy's stiff ones, for the adjoint equation",
            hint="method='adjoint' or 'rtrl', which are exact for the implicit steps",
        )
    return _newton(bound.n)


@cache
def _no_newton() -> implicit.Newton:
    return _newton(0)


def _newton(n: int) -> implicit.Newton:
    claim("solver", 16.0 * n * n, "an explicit solver")
    return implicit.Newton(
        np.zeros((n, n)),
        np.zeros((n, n)),
        np.zeros(n, dtype=np.int32),
        lapack_addresses() if n > SMALL else np.zeros(2, dtype=np.int64),
        np.zeros(implicit.STATE_SIZE),
        np.zeros(implicit.COST_SIZE, dtype=np.int64),
        np.empty(n),
        implicit.prepare.address if n else 0,
        implicit.stage.address if n else 0,
    )


def staggered_for(
    bound: Bound, tableau: Tableau, z: Array | None = None, rtol: Any = 0.0, atol: Any = 0.0, slot: int = JACOBIAN
) -> Staggered:
    """Sensitivities that follow the steps of an implicit method, from z (n, q) with tolerances that broadcast to it.

    Without z there are none.
    """
    if z is None:
        return _no_sensitivities(tableau.s)
    return _staggered(np.array(z), tableau.s, bound.kernel.groups, bound.kernel.columns, rtol, atol, slot)


@cache
def _no_sensitivities(s: int) -> Staggered:
    return _staggered(np.zeros((0, 0)), s, 0, 0, 0.0, 0.0, JACOBIAN)


def _staggered(z: Array, s: int, groups: int, columns: int, rtol: Any, atol: Any, slot: int) -> Staggered:
    n = len(z)
    return Staggered(
        z,
        np.empty_like(z),
        np.empty_like(z),
        np.empty((s, *z.shape)),
        np.broadcast_to(rtol, z.shape).copy(),
        np.broadcast_to(atol, z.shape).copy(),
        np.empty((groups, n, columns)),
        np.empty((n, n)),
        np.empty((n, n)),
        np.empty((n, n)),
        np.empty(n, dtype=np.int32),
        np.empty(1),
        np.zeros(1, dtype=np.int64),
        slot,
        staggered.step.address if n else 0,
        staggered.accept.address if n else 0,
    )


@cache
def _no_record() -> Record:
    return Record(*(np.empty((0,) * dimensions) for dimensions in (1, 1, 2, 2, 3, 3, 3, 3)))


class Integration:
    """One run of the stepper along a course.

    keep : "nothing"; "steps" (t, h and r of each step); "stages" (also each stage's t, r and x, for the pullback);
        "dense" (also k, for the dense output)
    groups : boundaries of groups of components in the error norm; the norm is the largest over the groups
    staggered : sensitivities that follow the steps of an implicit method (``staggered_for``); the record keeps them
    """

    def __init__(
        self,
        bound: Bound,
        r0: Array,
        course: Course,
        settings: Settings,
        save_at: Array | None = None,
        keep: str = "nothing",
        groups: tuple[int, ...] | None = None,
        first_step: float | None = None,
        label: str = "solve",
        staggered: Staggered | None = None,
    ) -> None:
        tableau = tableaus.get(settings.solver)
        if settings.dt is None and not tableau.adaptive:
            raise UsageError(
                "dt",
                given=None,
                allowed=f"a step size: {tableau.name} has no error estimate",
                hint="dt=..., or an adaptive solver such as 'tsit5'",
            )
        channel = bound.kernel.step_channel if tableau.exponential else -1
        if tableau.exponential and channel < 0:
            raise UsageError("solver", given=tableau.name, allowed="a solver of the field as it is, for this method")
        self.bound, self.tableau, self.settings, self.keep, self.label = bound, tableau, settings, keep, label
        n, stride = bound.n, bound.x_stride
        self.method = method(settings.solver)
        t0 = course.start
        self.stops = np.ascontiguousarray(course.stops, dtype=float)
        self.is_break = np.ascontiguousarray(course.is_break, dtype=bool)
        rtol, atol = settings.tolerances(n)
        boundaries = np.array(groups or (0, n), dtype=np.int64)
        self.control = Control(
            rtol,
            atol,
            boundaries,
            float(settings.dt or 0.0),
            course.direction,
            float(settings.min_step),
            int(settings.max_steps),
            channel,
            float(settings.max_step),
        )
        self.r = np.array(r0, dtype=float)
        s, total = tableau.s, tableau.s_total
        saves = 0 if save_at is None else len(save_at)
        claim("save_at" if saves > total else "problem", 8.0 * n * (total + s + 6 + saves), "fewer times")
        self._k, self._y, self._x = np.zeros((total, n)), np.zeros((s + 2, n)), np.zeros((s + 1, stride))
        self.newton = newton_for(bound, tableau)
        self.staggered = staggered_for(bound, tableau) if staggered is None else staggered
        program = bound.keep[1]
        self._work = np.zeros(1 if program is None else program.work_size)
        self.clock = np.zeros(stepper.CLOCK_SIZE)
        self.count = np.zeros(stepper.COUNT_SIZE, dtype=np.int64)
        self.save_at = np.empty(0) if save_at is None else np.ascontiguousarray(save_at, dtype=float)
        self.saved = np.empty((self.save_at.size, n))
        self._t0 = t0
        kernel, stages = bound.kernel, tableau.stages
        flops = stages * (2.0 * kernel.groups * kernel.columns + 32.0 * n) + (n**3 if tableau.implicit else 0)
        #: steps in one call of compiled code; a block may take several
        self.pace = max(1, int(PATIENCE * RATE / max(flops, 1.0)))
        self._start(first_step)

    def restart(self, r0: Array) -> None:
        """Begin again, from another r0 and with what ``bound`` holds now, in the same memory."""
        self.r[:] = r0
        self.clock[:], self.count[:] = 0.0, 0
        self.newton.state[:], self.newton.cost[:] = 0.0, 0
        self._start(None)

    def _start(self, first_step: float | None) -> None:
        t0 = self._t0
        self.clock[stepper.T] = self.clock[stepper.START] = t0
        self.clock[stepper.ERR_BEFORE] = 1.0
        while self.count[stepper.SAVED] < self.save_at.size and self.save_at[self.count[stepper.SAVED]] == t0:
            self.saved[self.count[stepper.SAVED]] = self.r
            self.count[stepper.SAVED] += 1
        self.wall_time = 0.0
        if self.settings.dt is not None:
            return
        began = working()
        order = (self.tableau.error_order or 2) - 1
        limit = abs(self.stops[-1] - t0)
        k1, x = self._k[0], self._x[0]
        h = stepper.first_step(self.bound.system, self.control, order, t0, self.r, k1, self._work, x, limit)
        self.bound.raise_pending()
        if h < 0.0:
            raise DivergenceError(
                "the field is not finite at the start", t=t0, r=self.r, h=0.0, hint="other parameters or another r0"
            )
        # at least a step that moves t, whatever F looks like; where that is too long, the step control will say so
        self.clock[stepper.H] = max(
            first_step or self.settings.first_step or h, self.settings.min_step, 100 * np.spacing(abs(t0))
        )
        self.count[stepper.EVALUATIONS] += 2
        self.wall_time += working() - began

    def record(self, capacity: int) -> Record:
        """An empty record of up to ``capacity`` steps, of what is kept."""
        if self.keep == "nothing":
            return _no_record()
        n, s, total, stride = self.bound.n, self.tableau.stages, self.tableau.s_total, self.bound.x_stride
        C = capacity
        stages = C if self.keep in ("stages", "dense") else 0
        dense = C if self.keep == "dense" else 0
        return Record(
            np.empty(C),
            np.empty(C),
            np.empty((C, n)),
            np.empty((stages, s)),
            np.empty((stages, s, n)),
            np.empty((stages, s, stride)),
            np.empty((dense, total, n)),
            np.empty((C if self.staggered.z.size else 0, *self.staggered.z.shape)),
        )

    def _affordable(self, capacity: int) -> int:
        """A block of at most BLOCK_BYTES, and no longer than the run."""
        n, total = self.bound.n, self.tableau.s_total
        rows = {"nothing": 0, "steps": 1, "stages": 1 + total, "dense": 1 + 2 * total}[self.keep]
        if rows:
            capacity = min(capacity, max(1, BLOCK_BYTES // (8 * (n * rows + self.staggered.z.size))))
        if self.settings.dt is not None:
            steps = abs(self.stops[-1] - self.clock[stepper.START]) / self.settings.dt + self.stops.size + 1
            capacity = int(min(capacity, max(1.0, steps)))
        return capacity

    def arguments(self, record: Record, capacity: int) -> tuple[Any, ...]:
        """What ``stepper.advance`` takes, for up to ``capacity`` more steps."""
        return (
            self.bound.system,
            self.method,
            self.newton,
            self.control,
            self.stops,
            self.is_break,
            self.clock,
            self.count,
            self.r,
            self._k,
            self._y,
            self._x,
            self._work,
            record,
            self.save_at,
            self.saved,
            self.staggered,
            capacity,
        )

    def blocks(self, capacity: int = BLOCK) -> Iterator[Record]:
        """Run, and yield the record of each block of up to ``capacity`` steps; raises SolverError on failure."""
        capacity = self._affordable(capacity)
        record = self.record(capacity)
        start, end = self.clock[stepper.START], self.stops[-1]
        with track(abs(end - start), self.label) as update:
            while True:
                status, taken = stepper.FULL, 0
                while status == stepper.FULL and taken < capacity:
                    status, steps = self._advance(record, taken, capacity)
                    taken += steps
                    update(abs(self.clock[stepper.T] - start))
                filled = self.count[stepper.RECORDED]
                if filled:
                    yield Record(*(part[:filled] if part.size else part for part in record))
                    if status == stepper.FULL:
                        claim_more(self.label, sum(part.nbytes for part in record), _LESS[self.keep])
                        record = self.record(capacity)
                if status == stepper.DONE:
                    return

    def _advance(self, record: Record, taken: int, capacity: int) -> tuple[int, int]:
        """Steps of a block that has ``taken`` already, for some PATIENCE seconds; the status, and how many they were.

        What the steps give does not depend on how they are divided.
        """
        raise_if_stopped()
        steps, count = min(capacity - taken, self.pace), self.count
        rest = Record(*(part[taken:] if part.size else part for part in record)) if taken else record
        before, began = int(count[stepper.STEPS]), working()
        status = stepper.advance(*self.arguments(rest, steps))
        spent = working() - began
        self.wall_time += spent
        self.bound.raise_pending()
        if status not in (stepper.DONE, stepper.FULL):
            raise self.failure(status)
        if record.t.size:
            count[stepper.RECORDED] += taken
        if status == stepper.FULL:
            self.pace = max(1, int(min(8 * steps, steps * PATIENCE / max(spent, 1e-9))))
        return status, int(count[stepper.STEPS]) - before

    def run(self) -> None:
        """Run to the end, keeping only what was to be saved."""
        for _ in self.blocks():
            pass

    @property
    def stats(self) -> Stats:
        """What the run has cost so far."""
        return self.cost(0, self.wall_time)

    def cost(self, jacobians: int, wall_time: float) -> Stats:
        """What the run cost, with ``jacobians`` beside its own, in a given wall time."""
        c, n = self.count.tolist(), self.newton.cost.tolist()
        name = self.tableau.name if self.settings.dt is None else f"{self.tableau.name}, dt = {self.settings.dt:g}"
        return Stats(
            solver=name,
            steps=c[stepper.STEPS],
            rejected=c[stepper.REJECTED],
            evaluations=c[stepper.EVALUATIONS] + n[implicit.ITERATIONS],
            jacobians=n[implicit.JACOBIANS] + jacobians,
            factorisations=n[implicit.FACTORS],
            wall_time=wall_time,
            stiff=bool(c[stepper.STIFF]),
        )

    def failure(self, status: int) -> SolverError:
        """The error for a status of ``stepper.advance``, with the last good time and state."""
        stiff = bool(self.count[stepper.STIFF])
        t, h = (
            float(self.clock[stepper.T]),
            float(self.clock[stepper.H] if self.settings.dt is None else self.settings.dt),
        )
        where: dict[str, Any] = {"t": t, "r": self.r.copy(), "h": h}
        if status == stepper.DIVERGED and self.settings.dt is None and h < self.settings.min_step:
            hint = "a smaller min_step: the field is not finite a step of that size away"
            return StepUnderflowError(
                f"the step size fell below min_step = {self.settings.min_step:g}", hint=hint, **where
            )
        if status == stepper.DIVERGED:
            hint = (
                "a smaller dt, or an adaptive solver"
                if self.settings.dt
                else "a shorter t_span: the solution may end here"
            )
            return DivergenceError("the solution became infinite or NaN", hint=hint, **where)
        if status == stepper.STUCK:
            hint = "a smaller dt, or adaptive steps (no dt)"
            return ConvergenceOfStageError("Newton's method does not converge in a stage", hint=hint, **where)
        why = "; stiffness suspected: the step is limited by stability, not by accuracy" if stiff else ""
        stiff_hint = "a stiff solver: 'kencarp4', 'kvaerno5' or 'scipy:LSODA'"
        if status == stepper.UNDERFLOW:
            hint = (
                stiff_hint if stiff else "a larger rtol or atol, or a shorter t_span: the solution may be singular here"
            )
            least = self.settings.min_step
            below = f"min_step = {least:g}" if h < least else "what moves t"
            return StepUnderflowError(f"the step size fell below {below}{why}", hint=hint, **where)
        hint = stiff_hint if stiff else "a larger max_steps, rtol or atol"
        return TooManyStepsError(f"more than {self.settings.max_steps} steps{why}", hint=hint, **where)


def tableau_of(settings: Settings, caller: str) -> Tableau:
    """The tableau behind the settings; a gradient through our own steps needs one."""
    if settings.library:
        raise UsageError(
            "solver",
            given=settings.solver,
            allowed=f"one of {', '.join(tableaus.names())}, for {caller}",
            hint="method='rtrl-continuous' or method='adjoint-backsolve', which take any solver",
        )
    return tableaus.get(settings.solver)
