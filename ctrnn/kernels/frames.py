r"""A frame of k tangent vectors beside the state, made orthonormal again at the end of each interval, in compiled code.

    y = [r | Q]:   advance to the next end,   Q R ← Q,   growth = log R_ii

Q R by Gram and Schmidt, each column set right twice ("twice is enough": Giraud, Langou & Rozložník 2005): orthonormal
to rounding, and R_ii > 0. Flops an interval: 4nk² beside those of the steps.
"""

from __future__ import annotations

import numpy as np

from ctrnn.kernels import stepper
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.stepper import advance

#: what stands for a status of ``advance`` where an interval stretched the columns too far apart
SPREAD = -2


@njit(cache=True, nogil=True, error_model="numpy")
def orthonormal(y, n, k, out):
    """Columns of y[n:] (n, k) made orthonormal; out (k,) = log R_ii."""
    Q = y[n:].reshape((n, k))
    for j in range(k):
        stretched = 1.0
        for _ in range(2):
            for i in range(j):
                part = 0.0
                for l in range(n):
                    part += Q[l, i] * Q[l, j]
                for l in range(n):
                    Q[l, j] -= part * Q[l, i]
            length = 0.0
            for l in range(n):
                length += Q[l, j] * Q[l, j]
            length = np.sqrt(length)
            stretched *= length
            if length > 0.0:
                for l in range(n):
                    Q[l, j] /= length
        out[j] = np.log(max(stretched, 2.2250738585072014e-308))


@njit(cache=True, nogil=True, error_model="numpy")
def follow(run, n, k, marks, growth, widest, before):
    """Intervals that end at the stops ``marks`` (K,), one after the other; returns how many were done, and a status.

    run: the arguments of ``advance``; growth (K, k). An interval whose log R_ii, with 0 among them, lie further apart
    than ``widest`` is taken back: the state, the clock and the counts are as before it. before: memory for that, (size
    of y + CLOCK_SIZE,).
    """
    (system, method, newton, control, stops, is_break, clock, count, r, kk, y, x, work, record, save_t, save_r,
     staggered, block) = run  # fmt: skip
    counted = count.copy()
    for j in range(marks.size):
        before[: r.size] = r
        before[r.size :] = clock
        counted[:] = count
        here = marks[j] + 1
        status = advance(
            system, method, newton, control, stops[:here], is_break[:here], clock, count, r, kk, y, x, work, record,
            save_t, save_r, staggered, block,
        )  # fmt: skip
        if status != stepper.DONE:
            return j, status
        orthonormal(r, n, k, growth[j])
        low, high = 0.0, 0.0
        for i in range(k):
            low, high = min(low, growth[j, i]), max(high, growth[j, i])
        if not high - low <= widest:
            r[:] = before[: r.size]
            clock[:] = before[r.size :]
            count[:] = counted
            count[stepper.HAVE_K1] = 0
            return j, SPREAD
    return marks.size, stepper.DONE
