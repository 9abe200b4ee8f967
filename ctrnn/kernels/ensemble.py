"""Many runs of one field, each with parameters and a start of its own, one after the other without leaving compiled code.

For member b: w ← weights[b], r ← starts[b], and the stepper (ctrnn.kernels.stepper) from t0 to the end; what it needs is made once and used by all.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ctrnn.kernels import stepper
from ctrnn.kernels.stepper import advance, first_step

#: what stands for a status of ``advance`` where F is not finite at the start
NOT_FINITE = -1


@njit(cache=True, nogil=True, error_model="numpy")
def solve_members(run, order, weights, starts, first, last, saved, status, counts, last_t, last_h):
    """Members ``first`` to ``last``; run: the arguments of ``advance``, of a run that has not begun.

    weights (B, ·), starts (B, n); saved (B, T, n), status (B,), counts (B, COUNT_SIZE), last_t and last_h (B,) receive the results.
    """
    (system, method, newton, control, stops, is_break, clock, count, r, k, y, x, work, record, save_t, save_r,
     staggered, block) = run  # fmt: skip
    t0 = clock[stepper.START]
    limit = abs(stops[-1] - t0)
    for b in range(first, last):
        system.w[:] = weights[b]
        r[:] = starts[b]
        newton.state[:] = 0.0
        clock[:] = 0.0
        count[:] = 0
        clock[stepper.T], clock[stepper.START], clock[stepper.ERR_BEFORE] = t0, t0, 1.0
        while count[stepper.SAVED] < save_t.size and save_t[count[stepper.SAVED]] == t0:
            save_r[count[stepper.SAVED]] = r
            count[stepper.SAVED] += 1
        status[b] = stepper.DONE
        if control.dt == 0.0:
            h = first_step(system, control, order, t0, r, k[0], work, x[0], limit)
            count[stepper.EVALUATIONS] += 2
            if h < 0.0:
                status[b] = NOT_FINITE
            clock[stepper.H] = max(h, control.min_step, 100.0 * (np.nextafter(abs(t0), np.inf) - abs(t0)))
        if status[b] == stepper.DONE:
            status[b] = advance(
                system, method, newton, control, stops, is_break, clock, count, r, k, y, x, work, record, save_t, save_r,
                staggered, block,
            )  # fmt: skip
        counts[b] = count
        last_t[b], last_h[b] = clock[stepper.T], clock[stepper.H]
        if status[b] == stepper.DONE:
            saved[b] = save_r
        else:
            saved[b] = np.nan
