"""Lanes of a field that run side by side, their rule, loss and weights: many steps with one call of compiled code.

    r_i = r + h Σ_{j<i} a_ij F(t + c_j h, r_j, w, x),   r⁺ = r + h Σ_i b_i F(t + c_i h, r_i, w, x)

The input x is held over the step. Lanes are independent runs of one field with the same weights, times and steps. The
loop itself is ctrnn.kernels.rules.loop.
"""

from __future__ import annotations

import time

import numpy as np

from ctrnn.errors import DivergenceError, NotFiniteError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.gradients.continuous.integral import LossRate
from ctrnn.gradients.rules.rule import Rule, start_all
from ctrnn.gradients.rules.step import Lane
from ctrnn.kernels.rules import loop as kernels
from ctrnn.kernels.rules import updates
from ctrnn.learning.online.observe import Observer
from ctrnn.learning.online.weights import NOT_FINITE, REMEDY, Weights
from ctrnn.settings import Settings
from ctrnn.solvers import tableaus
from ctrnn.solvers.runge_kutta import weights as a_and_b

#: seconds that a call of compiled code should not be longer than, as Ctrl-C waits for its end
PATIENCE = 0.25


def lane_of(field: Field, solver: str) -> tuple[Lane, Array]:
    """What steps of an explicit method have in common, and its c (s,); raises UsageError for another solver."""
    settings = Settings(solver, dt=1.0)
    if settings.library:
        raise UsageError("solver", given=solver, allowed="one of our own, which show their steps", hint="'euler'")
    tableau = tableaus.get(solver)
    if tableau.implicit or tableau.exponential:
        raise UsageError("solver", given=solver, allowed="an explicit method", hint="'euler', 'heun' or 'rk4'")
    return Lane(field, field._bind(), *a_and_b(solver)), np.array(tableau.c[: tableau.stages])


class Loop:
    """B lanes with what a rule carries in each.

    r (B, n) : the states
    counts, sums : of steps, updates and losses (ctrnn.kernels.rules.loop)
    """

    def __init__(
        self, lane: Lane, c: Array, dt: float, r: Array, rule: Rule, seed: int, observer: Observer, weights: Weights
    ) -> None:
        Settings("euler", dt=dt)  # refuses a step that is none
        self.lane, self.h, self.t0, self.weights, self._observer = lane, dt, 0.0, weights, observer
        B, n, s, channels = len(r), lane.n, lane.s, lane.bound.x_stride
        self.c = c
        self.memories = start_all(rule, lane, [np.random.default_rng([seed, b]) for b in range(B)])
        self._slots = [memory.slots() for memory in self.memories]
        self._run = kernels.Run(
            r=np.array(r), new=np.empty((B, n)), stage_r=np.empty((B, 1, s, n)), stage_x=np.empty((B, 1, s, channels)),
            k=np.empty((s, n)), times=np.empty(s), counts=np.zeros(7, dtype=np.int64), sums=np.zeros(3),
            slots=np.array([slots.functions for slots in self._slots], dtype=np.int64),
            memories=np.array([slots.memory for slots in self._slots], dtype=np.int64),
        )  # fmt: skip
        self._rate, feedback = LossRate(observer.bound), observer.feedback
        self._losses = kernels.Losses(
            self._rate.address, self._rate.context, out=np.zeros(1 + n + observer.size), l_r=np.zeros((B, n)),
            readout=np.zeros(observer.size), seen=np.zeros(observer.size),
            feedback=np.zeros((0, n)) if feedback is None else np.ascontiguousarray(feedback),
        )  # fmt: skip
        self._learned = weights.learned(lane.bound, max(memory.looks_back for memory in self.memories))
        self.refresh()
        self._seconds = 0.0  # a step, as far as is known

    def refresh(self) -> None:
        """The kernels' weights from the flat vector."""
        kernels.refresh(self._run.counts, self._learned)

    # -- what it is now

    @property
    def r(self) -> Array:
        """The states (B, n), themselves."""
        return self._run.r

    @property
    def counts(self) -> Array:
        """Counts of steps, updates and losses, themselves."""
        return self._run.counts

    @property
    def sums(self) -> Array:
        """Sums of losses, themselves."""
        return self._run.sums

    @property
    def l_r(self) -> Array:
        """∂ℓ/∂r (B, n) of the last loss."""
        return self._losses.l_r

    @property
    def readout_gradient(self) -> Array:
        """∂ℓ/∂(V, c) since the last update, itself."""
        return self._losses.readout

    @property
    def steps(self) -> int:
        """Steps taken."""
        return int(self.counts[kernels.STEPS])

    @property
    def t(self) -> float:
        """The present time."""
        return self.t0 + self.steps * self.h

    @property
    def waiting(self) -> tuple[float, int]:
        """The sum of the losses since the last update, and their number."""
        return float(self.sums[kernels.LOSS]), int(self.counts[kernels.WAITING])

    # -- on in time

    def go(self, x: Array, s: Array, todo: Array) -> None:
        """Steps with inputs x (T, B, channels), targets and weights s (T, B, q + 1); todo (T, 2): losses and updates.

        Raises DivergenceError and NotFiniteError, and what Python functions raise; steps that were taken stay.
        """
        first, began = self.steps, time.perf_counter()
        # what cannot be written to is of another type for Numba, and would be compiled for
        x, s = (np.require(part, requirements=("C", "W")) for part in (x, s))
        self._rate.targets, done = s.shape[2] - 1, 0
        while done < len(todo):
            learned = self.weights.begin(self._learned)
            how = kernels.learn(
                self._system, self.lane.a, self.lane.b, self.c, self.h, self.t0, x[done:], s[done:], todo[done:],
                self._run, self._losses, learned,
            )  # fmt: skip
            self.weights.end(learned)
            done = self.steps - first
            if how == kernels.DUE:
                self.update()
            else:
                self._check(how)
        self._seconds = (time.perf_counter() - began) / max(done, 1)

    @property
    def patient(self) -> int:
        """Steps that one call may take."""
        return int(np.clip(PATIENCE / max(self._seconds, 1e-7), 1, 4096)) if self._seconds else 16

    @property
    def _system(self) -> object:
        return self.lane.bound.system

    def update(self) -> None:
        """Move the weights along the gradient since the last update; raises NotFiniteError, then they stay."""
        learned = self.weights.begin(self._learned)
        if learned.kind != updates.ELSEWHERE:
            how = kernels.move(self._run, self._losses, learned)
            self.weights.end(learned)
            self._check(how)
            return
        self._check(kernels.gather(self._run, self._losses, learned))
        loss, count = self.waiting
        self.weights.by_torch(loss / max(count, 1))
        kernels.settle(self.counts, learned)

    def _check(self, how: int) -> None:
        """Raise what a call ended with."""
        self.lane.bound.raise_pending()
        self._rate.raise_pending()
        for slots in self._slots:
            slots.raise_pending()
        if how == kernels.DIVERGED:
            new = self._run.new
            at = int(np.argwhere(~np.isfinite(new).all(axis=1))[0, 0])
            which = f" in lane {at}" if len(new) > 1 else ""
            hint = "a smaller dt, a smaller lr, or clip"
            message = f"the state became infinite or NaN{which}"
            raise DivergenceError(message, t=self.t, r=self.r[at].copy(), h=self.h, hint=hint)
        if how == kernels.LOSS_NOT_FINITE:
            raise NotFiniteError(f"the loss is infinite or NaN at t = {self.t:g}. {REMEDY}")
        if how == kernels.GRADIENT_NOT_FINITE:
            raise NotFiniteError(NOT_FINITE)

    def restart(self, lanes: Array, states: Array) -> None:
        """Begin anew in some lanes."""
        self.r[lanes] = states
        for b in lanes:
            self.memories[b].reset()

    def beside(self, r: Array, steps: int, rule: Rule) -> Loop:
        """Another run with the present weights, from other states and an earlier step; its weights do not move."""
        other = Loop(self.lane, self.c, self.h, r, rule, 0, self._observer, self.weights)
        other.t0, other.counts[kernels.STEPS] = self.t0, steps
        return other
