"""What solves the members of an ensemble: LANES at once where method and field allow it, else one after the other (ctrnn.kernels.ensemble).

Each worker has one of these: the working space of a run, used for all the members that the worker takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.fields.base import Array, Field
from ctrnn.solvers.runge_kutta import Integration
from ctrnn.solvers.tableaus import Tableau

#: bytes of the parameters of all lanes beyond which they leave the cache, and one member after the other is faster
LANES_BYTES = 512 * 2**10


def fit_in_lanes(field: Field, tableau: Tableau) -> bool:
    """Whether members may go side by side: explicit methods, fields that know how, and parameters that stay in the cache."""
    from ctrnn.kernels.abi import LANES

    if tableau.gamma or 8 * LANES * field.kernel_vector().size > LANES_BYTES:
        return False
    return field.lanes_kernel is not None


class OneByOne:
    """run: an integration that has not begun; members: ctrnn.kernels.ensemble.Members."""

    #: members that are solved together
    width = 1

    def __init__(self, run: Integration, members: Any) -> None:
        self.run, self.bound, self.members = run, run.bound, members
        self.arguments = run.arguments(run.record(0), run.settings.max_steps + 1)
        self.order = (run.tableau.error_order or 2) - 1

    def solve(self, first: int, last: int) -> None:
        from ctrnn.kernels import ensemble as kernel

        kernel.solve_members(self.arguments, self.order, self.members, first, last)


class SideBySide(OneByOne):
    """The same, in lanes."""

    def __init__(self, run: Integration, field: Field, members: Any) -> None:
        from ctrnn.kernels import abi, signals, stepper
        from ctrnn.kernels.lanes import ensemble as kernel
        from ctrnn.kernels.lanes import fields as lanes

        super().__init__(run, members)
        made, system = field.lanes_kernel, run.bound.system
        assert made is not None
        L, n, m, s, channels = abi.LANES, run.bound.n, system.w.size, run.tableau.s, run.bound.x_stride
        self._keep: list[Array] = []
        ctx = system.ctx.copy()
        ctx[abi.SCRATCH] = self._at(aligned(made.scratch))
        still = np.isin(system.code.reshape(-1, 5)[:, 0], (signals.CONSTANT, signals.ADD, signals.MULTIPLY)).all()
        self.lanes = lanes.Lanes(
            L=L,
            n=n,
            m=m,
            channels=channels,
            member=self._at(np.zeros(L, dtype=np.int64)),
            status=self._at(np.zeros(L, dtype=np.int64)),
            counts=self._at(np.zeros((stepper.COUNT_SIZE, L), dtype=np.int64)),
            now=self._at(aligned(lanes.NOW_SIZE, L)),
            w=self._at(aligned(m, L)),
            r=self._at(aligned(n, L)),
            k=self._at(aligned(run.tableau.s_total, n, L)),
            y=self._at(aligned(s + 2, n, L)),
            x=self._at(aligned(channels, L)),
            x_varies=int(channels > 0 and not still),
            x_one=self._at(np.zeros(run._work.size)),
            work=self._at(aligned(run._work.size, L)),
            work_size=run._work.size,
            code=self._at(system.code),
            rows=system.code.size // 5,
            data=self._at(system.data),
            data_size=system.data.size,
            field=made.address,
            ctx=self._at(ctx),
        )
        self.task = kernel.Task(
            order=self.order,
            start=float(run.clock[stepper.START]),
            stops=self._at(run.stops),
            breaks=self._at(run.is_break.astype(np.int64)),
            K=run.stops.size,
            save_t=self._at(run.save_at),
            times=run.save_at.size,
            **{name: self._at(getattr(members, name)) for name in members._fields},
        )

    def _at(self, array: Array) -> int:
        """The address of an array, which lives as long as this object."""
        self._keep.append(array)
        return array.ctypes.data

    def solve(self, first: int, last: int) -> None:
        from ctrnn.kernels.lanes import ensemble as kernel

        kernel.solve_in_lanes(self.run.method, self.run.control, self.task, self.lanes, first, last)


def aligned(*shape: int) -> Array:
    """Zeros whose first is at a multiple of 64 bytes: no vector of eight then lies across two lines of the cache."""
    size = int(np.prod(shape))
    block = np.zeros(size + 8)
    start = (-block.ctypes.data % 64) // 8
    return block[start : start + size].reshape(shape)
