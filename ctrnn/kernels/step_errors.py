"""The errors of the cotangents, step by step, summed on the way back.

    η = C (‖v‖ / ‖λ⁺‖)^p        ‖λ⁺‖ at least ``decayed`` times the largest of later steps

(ctrnn.gradients.recording.sensitivity_error.)
"""

from __future__ import annotations

import numpy as np

from ctrnn.kernels.abi import LEAN
from ctrnn.kernels.compiled import njit

#: of the two running totals: the largest ‖λ‖ of the later steps, and Σ η
LATER, SUM = 0, 1


@njit(**LEAN)
def note_steps(t, h, sizes, kinks, factor, power, order, kink_order, decayed, least, kink_least, totals, too_long):
    """From the last step to the first; returns how many rows of ``too_long`` (2 C, 5) were filled.

    t, h (C,) are the ends of the steps and their lengths; sizes (C, 3) ‖v‖, ‖λ⁺‖ and ‖λ‖; kinks (C,) or (0,) the
    errors of an integral's derivative. A row is t, h, error, its order, and ‖λ‖ / ‖λ⁺‖. NaN counts as too long.
    """
    count = 0
    for m in range(t.size - 1, -1, -1):
        v, size = sizes[m, 0], sizes[m, 1]
        if not size <= totals[LATER]:
            totals[LATER] = size
        # a loss along the way may begin within the step
        size = max(max(size, sizes[m, 2]), decayed * totals[LATER])
        eta = factor * (v / size) ** power if size > 0.0 else 0.0
        totals[SUM] += eta
        if not eta <= least:
            too_long[count, 0] = t[m]
            too_long[count, 1] = h[m]
            too_long[count, 2] = eta
            too_long[count, 3] = order
            too_long[count, 4] = sizes[m, 2] / sizes[m, 1] if sizes[m, 1] > 0.0 else 0.0
            count += 1
        if kinks.size > 0 and size > 0.0 and not kinks[m] / size <= kink_least:
            too_long[count, 0] = t[m]
            too_long[count, 1] = h[m]
            too_long[count, 2] = kinks[m] / size
            too_long[count, 3] = kink_order
            too_long[count, 4] = 0.0
            count += 1
    return count


@njit(**LEAN)
def note_largest(states, largest):
    """largest (n,) ← the largest |states| (C, n) so far."""
    for m in range(states.shape[0]):
        for j in range(states.shape[1]):
            size = np.abs(states[m, j])
            if not size <= largest[j]:
                largest[j] = size
