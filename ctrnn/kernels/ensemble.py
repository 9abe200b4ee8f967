"""Many runs of one field, each with parameters and a start of its own, without leaving compiled code between them.

For member b: w ← weights[b], r ← starts[b], and the stepper (ctrnn.kernels.stepper) from t0 to the end; what it needs
is made once and used by all. One after the other, for methods and fields that have no lanes;
ctrnn.kernels.lanes.ensemble takes LANES of them at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctrnn.kernels import stepper
from ctrnn.kernels.abi import STOP, stopped
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.stepper import advance, first_step

#: what stands for a status of ``advance`` where F is not finite at the start
NOT_FINITE = -1


class Members(NamedTuple):
    """What is given of all members, and what becomes of them."""

    weights: np.ndarray  # (B, m)
    starts: np.ndarray  # (B, n)
    saved: np.ndarray  # (B, T, n)
    status: np.ndarray  # (B,)
    counts: np.ndarray  # (B, COUNT_SIZE)
    last: np.ndarray  # (B, 2): t and h
    first: np.ndarray  # (B, 1 + n): of members in lanes, the first h and F at the start


@njit(cache=True, nogil=True, error_model="numpy")
def solve_members(run, order, members, first, last):
    """Members ``first`` to ``last``; run: the arguments of ``advance``, of a run that has not begun.

    Its ``block`` is the number of steps after which STOP is looked at.
    """
    (system, method, newton, control, stops, is_break, clock, count, r, k, y, x, work, record, save_t, save_r,
     staggered, block) = run  # fmt: skip
    t0 = clock[stepper.START]
    limit = abs(stops[-1] - t0)
    for b in range(first, last):
        if stopped(system.ctx[STOP]):
            return
        system.w[:] = members.weights[b]
        r[:] = members.starts[b]
        newton.state[:] = 0.0
        clock[:] = 0.0
        count[:] = 0
        clock[stepper.T], clock[stepper.START], clock[stepper.ERR_BEFORE] = t0, t0, 1.0
        while count[stepper.SAVED] < save_t.size and save_t[count[stepper.SAVED]] == t0:
            save_r[count[stepper.SAVED]] = r
            count[stepper.SAVED] += 1
        status = stepper.DONE
        if control.dt == 0.0:
            h = first_step(system, control, order, t0, r, k[0], work, x[0], limit)
            count[stepper.EVALUATIONS] += 2
            if h < 0.0:
                status = NOT_FINITE
            clock[stepper.H] = max(h, control.min_step, 100.0 * (np.nextafter(abs(t0), np.inf) - abs(t0)))
        if status == stepper.DONE:
            status = stepper.FULL
            while status == stepper.FULL and not stopped(system.ctx[STOP]):
                status = advance(
                    system, method, newton, control, stops, is_break, clock, count, r, k, y, x, work, record,
                    save_t, save_r, staggered, block,
                )  # fmt: skip
        members.status[b] = status
        members.counts[b] = count
        members.last[b, 0], members.last[b, 1] = clock[stepper.T], clock[stepper.H]
        if status == stepper.DONE:
            members.saved[b] = save_r
        else:
            members.saved[b] = np.nan
