"""The objective's rate aℓ as a C function, and systems on top of a field that integrate it beside the state."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ctrnn.callbacks import Pending
from ctrnn.fields import codegen
from ctrnn.fields.algebra import ZERO
from ctrnn.fields.base import Array, Bound
from ctrnn.fields.derivatives import gradient
from ctrnn.fields.expressions import read
from ctrnn.fields.printing import assignments
from ctrnn.kernels import abi, augmented, lazy, signals
from ctrnn.kernels import loss as loss_kernel
from ctrnn.kernels.abi import address_of, view
from ctrnn.problem import Problem


class LossRate:
    """loss(ctx, r, s, out): out = [aℓ, a ∂ℓ/∂r (n), a ∂ℓ/∂(V, c)] at one state and one row s of targets and weight.

    Named losses and expressions are compiled (ctrnn.kernels.loss, and below); a callable is called, some 100 µs a time.
    """

    def __init__(self, problem: Problem) -> None:
        objective = problem.needs_objective("an integral")
        self.objective, self.n = objective, problem.field.n
        self.readout = objective.readout_size
        self._pending = Pending()
        self.context = 0
        if objective.is_named:
            self._function, self._keep = self._named()
        elif objective.objective.is_expression:
            self._function, self._keep = expression_rate(objective.objective.loss, objective.state_names), ()
        else:
            self._function, self._keep = self._called(), ()
        self.address = address_of(self._function)

    def _named(self) -> tuple[Any, tuple[Array, ...]]:
        objective, readout = self.objective, self.objective.readout
        p = objective.output_size
        V = np.zeros(0) if readout is None else np.array(readout.V)
        c = np.zeros(0) if readout is None else np.array(readout.c)
        selection = np.array(range(p) if objective.selection is None else objective.selection, dtype=np.int64)
        memory, ctx = np.zeros(2 * p), np.zeros(loss_kernel.CTX_SIZE, dtype=np.int64)
        ctx[loss_kernel.N], ctx[loss_kernel.OUTPUTS] = self.n, p
        ctx[loss_kernel.SELECTION], ctx[loss_kernel.MEMORY] = selection.ctypes.data, memory.ctypes.data
        if readout is not None:
            ctx[loss_kernel.V], ctx[loss_kernel.C] = V.ctypes.data, c.ctypes.data
            ctx[loss_kernel.SOFTMAX] = readout.activation == "softmax"
        ctx[loss_kernel.CROSS_ENTROPY] = objective.objective.loss == "cross_entropy"
        self.context = ctx.ctypes.data
        return loss_kernel.named, (V, c, selection, memory, ctx)

    def _called(self) -> Any:
        objective, n, size = self.objective, self.n, 1 + self.n + self.readout
        assert objective.signals is not None
        q = objective.signals.size

        def rate(_: int, r: int, s: int, out: int, __: int) -> None:
            l, l_r, l_o = objective.rate(view(r, n)[None], view(s, q)[None])
            view(out, size)[:] = np.concatenate([l, l_r[0], l_o])

        guarded = self._pending.guard(rate, lambda _, r, s, out, __: view(out, size))
        return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 5)(guarded)

    def raise_pending(self) -> None:
        """Raise the error that a call of the rate met, if there was one."""
        self._pending.raise_pending()


def expression_rate(text: str, states: tuple[str, ...]) -> Any:
    """The compiled rate of a loss that is an expression in the states."""
    return codegen.module(f"Loss\n{text}\n{' '.join(states)}", lambda: _expression_source(text, states)).rate


def _expression_source(text: str, states: tuple[str, ...]) -> str:
    l = read(text, states, where="loss")
    slopes = gradient(l, states)
    entries = [f"l_{i}" for i in range(1 + len(states))]
    lines = [f"r = doubles(r_, {len(states)})", "a = doubles(s_, 1)[0]", f"out = doubles(out_, {1 + len(states)})"]
    places = {name: f"r[{i}]" for i, name in enumerate(states)}
    lines += assignments(entries, [l, *(slopes.get(name, ZERO) for name in states)], "compiled", places)
    # where there is no weight, the loss may be infinite
    lines += [f"out[{i}] = a*{name} if a != 0.0 else 0.0" for i, name in enumerate(entries)]
    decorator = codegen.compiled("types.void(*[types.int64] * 5)")
    source = codegen.header([f"loss {text} in {' '.join(states)}"])
    return source + codegen.function("def rate(ctx_, r_, s_, out_, unused)", lines, decorator)


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
    n, kernel, inner = base.n, base.kernel, base.system
    memory = np.zeros(augmented.memory_size(n, 0 if loss is None else loss.readout))
    x_stride = base.x_stride if channels is None else channels
    ctx = np.zeros(augmented.CTX_SIZE, dtype=np.int64)
    ctx[abi.N], ctx[abi.GROUPS], ctx[abi.COLUMNS], ctx[abi.X_STRIDE] = size, kernel.groups, kernel.columns, x_stride
    ctx[abi.DGEMM] = abi.dgemm_address() if kernel.blas or n * n * kernel.columns > augmented.SMALL else 0
    ctx[augmented.TABLE], ctx[augmented.BASE] = inner.table.ctypes.data, inner.ctx.ctypes.data
    ctx[augmented.STATES], ctx[augmented.INPUTS], ctx[augmented.SLOT] = n, inputs, slot
    ctx[augmented.LOSS], ctx[augmented.LOSS_CTX] = (0, 0) if loss is None else (loss.address, loss.context)
    ctx[augmented.READOUT], ctx[augmented.WITH_P], ctx[augmented.R_INPUT] = readout, int(with_p), int(r_is_input)
    ctx[augmented.MEMORY] = memory.ctypes.data
    table, raisers = np.zeros(abi.SLOTS, dtype=np.int64), base.raisers
    table[abi.F] = abi.address_of(function)
    if function is augmented.forward and not with_p and inner.table[abi.JACOBIAN]:
        more = augmented.forward_accumulate, augmented.forward_jacobian, augmented.forward_leak
        function = lazy.LazyTable((function, None, *more))
        table, raisers = function.table, (*raisers, function.pending.raise_pending)
    program = base.keep[1] if program is None else program
    system = abi.System(table, ctx, inner.w, *signals.source(program))
    # the field's own callbacks are asked first: they say why everything after them is NaN
    raisers += (() if loss is None else (loss.raise_pending,)) + (program.raise_pending,)
    return Bound(system, size, x_stride, kernel, base.m, (memory, program, base, loss, function), raisers)
