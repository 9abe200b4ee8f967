"""torchdiffeq's solvers on any field: "torchdiffeq:dopri5", "torchdiffeq:rk4", ..."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.course import Course
from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.fields.base import Array
from ctrnn.fields.bound import Bound
from ctrnn.problem import Settings
from ctrnn.solvers.library import Rate, solve_by_pieces
from ctrnn.solvers.solution import Solution

FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4")
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")


class _TensorRate:
    """dr/dt on tensors; torchdiffeq reports its steps to the methods of these names."""

    def __init__(self, rate: Rate, adaptive: bool) -> None:
        self.rate = rate
        self.step_starts: dict[float, Array] = {}  # t -> r where steps began; a rejected one begins again at the same t
        if adaptive:
            self.callback_reject_step = self._rejected

    def __call__(self, t: Any, r: Any) -> Any:
        import torch

        return torch.from_numpy(self.rate(float(t), r.numpy()))

    def callback_step(self, t: Any, r: Any, h: Any) -> None:
        """About to step from r at t; each step counts here, and is taken back when rejected."""
        rate = self.rate
        rate.t, rate.r, rate.h = float(t), r.numpy().copy(), float(h)
        self.step_starts[rate.t] = rate.r
        rate.steps += 1
        rate.limit()

    def _rejected(self, t: Any, r: Any, h: Any) -> None:
        self.rate.steps -= 1
        self.rate.rejected += 1


def solve_with_torchdiffeq(
    bound: Bound, r0: Array, course: Course, settings: Settings, save_at: Array | None
) -> Solution:
    """torchdiffeq.odeint from one jump to the next, stepping onto it; states at save_at, or at every step."""
    import torch
    import torchdiffeq

    method = settings.solver.partition(":")[2].lower()
    if method not in FIXED + ADAPTIVE:
        raise UnknownNameError("solver", settings.solver, [f"torchdiffeq:{name}" for name in FIXED + ADAPTIVE])
    if method in FIXED and settings.dt is None:
        raise UsageError("dt", given=None, allowed=f"a step size, for torchdiffeq:{method}")
    if method in ADAPTIVE and settings.dt is not None:
        raise UsageError("dt", given=settings.dt, allowed=f"None: torchdiffeq:{method} chooses its steps")
    rtol, atol = settings.tolerances(bound.n)

    def piece(rate: Rate, a: float, b: float, r: Array, wanted: Array | None) -> tuple[Array, Array, Array]:
        sign = 1 if b > a else -1
        times = np.unique(np.concatenate([[a, b], [] if wanted is None else wanted]))[::sign]
        function = _TensorRate(rate, method in ADAPTIVE)
        options: dict[str, Any]
        if method in FIXED:
            # its own choice between two steps, a line, would lose the method's order
            options = {"step_size": settings.dt, "interp": "cubic"}
        else:
            # onto b, not across it: x(t) need not go on there
            options = {"step_t": torch.tensor([b], dtype=torch.float64), "min_step": settings.min_step}
            options |= {"max_step": settings.max_step, "first_step": settings.first_step}
        try:
            found = torchdiffeq.odeint(
                function,
                torch.from_numpy(r.copy()),
                torch.from_numpy(times.copy()),
                method=method,
                rtol=float(np.min(rtol)),
                atol=float(np.min(atol)),
                options=options,
            ).numpy()
        except AssertionError as error:
            raise rate.failure(str(error)) from error
        if wanted is None:
            starts = list(function.step_starts)[1:]
            states = np.array([function.step_starts[t] for t in starts] + [found[-1]])
            return np.array([*starts, b]), states, found[-1]
        # np.unique sorted the times: find the wanted ones again
        index = np.searchsorted(sign * times, sign * wanted)
        return wanted, found[index], found[-1]

    return solve_by_pieces(bound, r0, course, save_at, f"torchdiffeq:{method}", settings.max_steps, piece)
