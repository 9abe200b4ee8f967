"""The objective's rate aℓ as a C function, for systems that integrate it beside the state; and systems on top of a field."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ctrnn.fields.base import Array, Bound
from ctrnn.problem import Problem


class LossRate:
    """loss(size, r, s, out): out = [aℓ, a ∂ℓ/∂r (n), a ∂ℓ/∂(V, c)] at one state and one row s of targets and weight.

    The objective is evaluated in Python (some 10 µs a call), so that any loss works in any solver; the discrete methods,
    which evaluate it for a whole block of stages at once, are the fast ones.
    """

    def __init__(self, problem: Problem) -> None:
        from ctrnn.kernels.abi import address_of, view

        objective = problem.needs_objective("an integral")
        assert objective.signals is not None
        n, q, readout = problem.field.n, objective.signals.size, objective.readout_size
        self._raised: list[BaseException] = []

        def call(_: int, r: int, s: int, out: int, __: int) -> None:
            try:
                l, l_r, l_o = objective.rate(view(r, n)[None], view(s, q)[None])
                view(out, 1 + n + readout)[:] = np.concatenate([l, l_r[0], l_o[0]])
            except BaseException as error:  # cannot pass through compiled code
                self._raised.append(error)
                view(out, 1 + n + readout)[:] = np.nan

        self._callback = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 5)(call)
        self.address = address_of(self._callback)

    def raise_pending(self) -> None:
        if self._raised:
            error = self._raised.pop()
            self._raised.clear()
            raise error


def augmented_bound(
    base: Bound,
    function: Any,
    size: int,
    inputs: int,
    slot: int,
    loss: LossRate | None,
    with_p: bool,
    readout: int,
    program: Any = None,
    channels: int | None = None,
    r_is_input: bool = False,
) -> Bound:
    """A system of ``size`` components on top of a bound field, driven by the same input (or by another program)."""
    from ctrnn.kernels import abi, augmented

    n, kernel, inner = base.n, base.kernel, base.system
    memory = np.zeros(augmented.memory_size(n, readout))
    x_stride = base.x_stride if channels is None else channels
    ctx = np.zeros(augmented.CTX_SIZE, dtype=np.int64)
    ctx[abi.N], ctx[abi.GROUPS], ctx[abi.COLUMNS], ctx[abi.X_STRIDE] = size, kernel.groups, kernel.columns, x_stride
    ctx[abi.DGEMM] = abi.dgemm_address() if kernel.blas or n * n * kernel.columns > augmented.SMALL else 0
    ctx[augmented.TABLE], ctx[augmented.BASE] = inner.table.ctypes.data, inner.ctx.ctypes.data
    ctx[augmented.STATES], ctx[augmented.INPUTS], ctx[augmented.SLOT] = n, inputs, slot
    ctx[augmented.LOSS] = 0 if loss is None else loss.address
    ctx[augmented.READOUT], ctx[augmented.WITH_P], ctx[augmented.R_INPUT] = readout, int(with_p), int(r_is_input)
    ctx[augmented.MEMORY] = memory.ctypes.data
    table = np.zeros(abi.SLOTS, dtype=np.int64)
    table[abi.F] = function.address
    program = base.keep[1] if program is None else program
    system = abi.System(table, ctx, inner.w, program.code, program.data)
    # the field's own callbacks are asked first: they say why everything after them is NaN
    raisers = base.raisers + (() if loss is None else (loss.raise_pending,)) + (program.raise_pending,)
    return Bound(system, size, x_stride, kernel, base.m, (memory, program, base, loss, function), raisers)


def loss_at_observations(problem: Problem, r: Array) -> tuple[float, Array, Array]:
    """l, ∂ℓ/∂r (K, n) and dl/d(V, c) from the states at the observations r (K, n)."""
    l, l_r, l_o = problem.needs_objective("a gradient").at_observations(np.ascontiguousarray(r))
    return float(l.sum()), l_r, l_o.sum(axis=0)
