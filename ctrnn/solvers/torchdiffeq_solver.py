"""torchdiffeq's solvers on any field: "torchdiffeq:dopri5", "torchdiffeq:rk4", ..."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.errors import StepUnderflowError, UnknownNameError, UsageError
from ctrnn.fields.base import Array, Bound
from ctrnn.problem import Settings
from ctrnn.solvers.solve import Rate, Solution, solve_by_pieces

FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4")
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")


def solve_with_torchdiffeq(
    bound: Bound, r0: Array, t0: float, stops: Array, is_break: Array, settings: Settings, save_at: Array | None
) -> Solution:
    """torchdiffeq.odeint from one jump to the next. It does not tell its steps: without save_at, 101 times are saved."""
    import torch
    import torchdiffeq

    method = settings.solver.partition(":")[2].lower()
    if method not in FIXED + ADAPTIVE:
        raise UnknownNameError("solver", settings.solver, [f"torchdiffeq:{name}" for name in FIXED + ADAPTIVE])
    if method in FIXED and settings.dt is None:
        raise UsageError("dt", given=None, allowed=f"a step size, for torchdiffeq:{method}")
    if method in ADAPTIVE and settings.dt is not None:
        raise UsageError("dt", given=settings.dt, allowed=f"None: torchdiffeq:{method} chooses its steps")
    if save_at is None:
        save_at = np.linspace(t0, stops[-1], 101)

    def piece(rate: Rate, a: float, b: float, r: Array, wanted: Array | None) -> tuple[Array, Array, Array, int]:
        assert wanted is not None
        times = np.unique(np.concatenate([[a, b], wanted]))[:: 1 if b > a else -1]
        options: dict[str, Any] = {}
        if method in FIXED:
            options = {"step_size": settings.dt}
        elif settings.min_step:
            options = {"min_step": settings.min_step}
        try:
            found = torchdiffeq.odeint(
                lambda t, y: torch.from_numpy(rate(float(t), y.numpy())),
                torch.from_numpy(r.copy()),
                torch.from_numpy(times.copy()),
                method=method,
                rtol=float(np.min(settings.rtol)),
                atol=float(np.min(settings.atol)),
                options=options,
            ).numpy()
        except AssertionError as error:
            raise StepUnderflowError(
                f"torchdiffeq:{method}: {error}",
                t=a,
                r=r,
                h=0.0,
                hint="another solver, larger tolerances or a shorter t_span",
            ) from error
        # np.unique sorted the times: find the wanted ones again
        place = np.searchsorted(times * (1 if b > a else -1), wanted * (1 if b > a else -1))
        return wanted, found[place], found[-1], times.size - 1

    return solve_by_pieces(bound, r0, t0, stops, is_break, save_at, f"torchdiffeq:{method}", piece)
