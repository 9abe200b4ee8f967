"""All that a run of the stepper has to remember, as bytes: put back, it takes the same steps again, bit for bit.

Between two calls of ``ctrnn.kernels.stepper.advance`` a run is its clock (t, h, the error before), its counts (steps,
the next stop, the step of the fixed grid, whether F(t, r) is known), its state r and, for methods whose last stage is
the next one's first, that stage's k and x; for implicit stages also Newton's J, its factors and its rate of
convergence.
"""

from __future__ import annotations

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.kernels import implicit, stepper
from ctrnn.solvers.runge_kutta import Integration


def _parts(run: Integration) -> list[Array]:
    parts = [run.clock, run.count, run.r]
    if run.tableau.fsal:
        parts += [run._k[0], run._x[0]]
    if run.newton.J.size:
        parts += [run.newton.J, run.newton.M, run.newton.pivots, run.newton.state]
    return parts


def snapshot_size(n: int, stride: int, fsal: bool, is_implicit: bool) -> int:
    """Bytes of a snapshot of a run of n states and ``stride`` channels of input.

    fsal : whether the method's last stage is the next one's first
    is_implicit : whether its stages are solved for
    """
    doubles = stepper.CLOCK_SIZE + stepper.COUNT_SIZE + n + fsal * (n + stride)
    return 8 * doubles + is_implicit * (16 * n * n + 4 * n + 8 * implicit.STATE_SIZE)


def snapshot(run: Integration) -> Array:
    """The run's present state, a copy of its bytes."""
    return np.concatenate([part.reshape(-1).view(np.uint8) for part in _parts(run)])


def restore(run: Integration, state: Array) -> None:
    """Take the run back to a state that it was in. Its evaluations of F go on being counted."""
    evaluations = run.count[stepper.EVALUATIONS]
    start = 0
    for part in _parts(run):
        part.reshape(-1).view(np.uint8)[:] = state[start : start + part.nbytes]
        start += part.nbytes
    run.count[stepper.EVALUATIONS] = evaluations
