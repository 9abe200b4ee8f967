"""One explicit step of each lane, at the weights of the moment, with what a rule needs of it.

    r_i = r + h Σ_{j<i} a_ij F(t + c_j h, r_j, w, x),   r⁺ = r + h Σ_i b_i F(t + c_i h, r_i, w, x)

The input x is held over the step. Lanes are independent runs of one field with the same weights, times and steps.
"""

from __future__ import annotations

import numpy as np

from ctrnn.errors import DivergenceError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.gradients.rules.step import Lane, Step
from ctrnn.kernels import online
from ctrnn.settings import Settings
from ctrnn.solvers import tableaus
from ctrnn.solvers.runge_kutta import weights


class Stepping:
    """B lanes of a field by the fixed steps of an explicit method.

    t : the present time;  r (B, n) : the states;  lane : what the rules are given
    """

    def __init__(self, field: Field, solver: str, dt: float, r: Array) -> None:
        settings = Settings(solver, dt=dt)
        if settings.library:
            raise UsageError("solver", given=solver, allowed="one of our own, which show their steps", hint="'euler'")
        tableau = tableaus.get(solver)
        if tableau.implicit or tableau.exponential:
            raise UsageError("solver", given=solver, allowed="an explicit method", hint="'euler', 'heun' or 'rk4'")
        self.h, self.t0, self.steps, self.r = np.array([float(dt)]), 0.0, 0, r
        self.c = np.array(tableau.c[: tableau.stages])
        self.lane = Lane(field, field._bind(), *weights(solver))
        self._k = np.empty((self.lane.s, field.n))

    @property
    def t(self) -> float:
        """The present time."""
        return self.t0 + self.steps * float(self.h[0])

    def advance(self, w: Array, x: Array) -> list[Step]:
        """A step of every lane with the kernels' weights w and the inputs x (B, channels).

        Raises DivergenceError; then no state has moved.
        """
        lane, h, t = self.lane, float(self.h[0]), self.t
        B, n = self.r.shape
        times, new = t + self.c * h, self.r.copy()
        stages, inputs = np.empty((B, 1, lane.s, n)), np.empty((B, 1, lane.s, x.shape[1]))
        system = lane.bound.system._replace(w=w)
        finite = online.advance(system, lane.a, lane.b, times, h, x, new, stages, inputs, self._k)
        lane.bound.raise_pending()
        if not finite:
            at = int(np.argwhere(~np.isfinite(new).all(axis=1))[0, 0])
            which = f" in lane {at}" if len(new) > 1 else ""
            hint = "a smaller dt, a smaller lr, or clip"
            raise DivergenceError(f"the state became infinite or NaN{which}", t=t, r=self.r[at].copy(), h=h, hint=hint)
        self.r, self.steps = new, self.steps + 1
        return [Step(lane, self.h, times[None], stages[i], inputs[i], w) for i in range(B)]
