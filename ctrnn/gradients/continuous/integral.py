"""The objective's rate aℓ as a C function, and systems on top of a field that integrate it beside the state."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ctrnn.callbacks import Pending
from ctrnn.fields import codegen
from ctrnn.fields.algebra import ZERO
from ctrnn.fields.arrays.scalar import read_scalar
from ctrnn.fields.base import Array
from ctrnn.fields.bound import Bound
from ctrnn.fields.derivatives import gradient
from ctrnn.fields.printing import assignments
from ctrnn.kernels import abi, augmented, lazy, signals
from ctrnn.kernels.abi import address_of, view
from ctrnn.named_losses import LOSSES, NamedLoss
from ctrnn.objective import BoundObjective


class LossRate:
    """loss(ctx, r, s, out): out = [aℓ, a ∂ℓ/∂r (n), a ∂ℓ/∂(V, c)] at one state and one row s of targets and weight.

    Named losses and expressions are compiled (below); a callable is called, some 100 µs a time.
    """

    def __init__(self, objective: BoundObjective) -> None:
        self.objective, self.n = objective, objective.n
        self.readout = objective.readout_size
        self._pending = Pending()
        #: numbers of a target, before the weight
        self.targets = objective.targets.shape[1]
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
        # views, where they can be: of a read-out that learns, the numbers as they are at each call
        V = np.zeros(0) if readout is None else np.ascontiguousarray(readout.V)
        c = np.zeros(0) if readout is None else np.ascontiguousarray(readout.c)
        selection = np.array(range(p) if objective.selection is None else objective.selection, dtype=np.int64)
        memory = np.zeros(2 * p + 4)
        addresses = [v.ctypes.data for v in (selection, V, c, memory)]
        ctx = np.array([self.n, p, *addresses], dtype=np.int64)
        self.context = ctx.ctypes.data
        g = "" if readout is None else readout.activation
        return named_rate(objective.objective.loss, g), (V, c, selection, memory, ctx)

    def _called(self) -> Any:
        objective, n, size = self.objective, self.n, 1 + self.n + self.readout

        def rate(_: int, r: int, s: int, out: int, __: int) -> None:
            l, l_r, l_o = objective.rate(view(r, n)[None], view(s, self.targets + 1)[None])
            view(out, size)[:] = np.concatenate([l, l_r[0], l_o])

        guarded = self._pending.guard(rate, lambda _, r, s, out, __: view(out, size))
        return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 5)(guarded)

    def raise_pending(self) -> None:
        """Raise the error that a call of the rate met, if there was one."""
        self._pending.raise_pending()


def named_rate(loss: str, activation: str) -> Any:
    """The compiled rate of a named loss, of states ("") or of a read-out that is "linear" or "softmax"."""
    recipe = f"Loss {loss}, {LOSSES[loss].formula}, of {activation or 'states'}"
    return codegen.module(recipe, lambda: _named_source(LOSSES[loss], activation, recipe)).rate


def _named_source(loss: NamedLoss, activation: str, recipe: str) -> str:
    """With ctx = [n, p, and the addresses of the selection, V, c and 2 p + 4 numbers of memory]."""
    phi, slope, _ = loss.derivatives
    lines = [
        "ctx = integers(ctx_, 6)", "n = ctx[0]", "p = ctx[1]", "selection = integers(ctx[2], p)",
        "V = doubles(ctx[3], (p, n))",
        "c = doubles(ctx[4], p)", "u = doubles(ctx[5], p)", "l_v = doubles(ctx[5] + 8 * p, p)",
        "sums = doubles(ctx[5] + 16 * p, 4)", "r = doubles(r_, n)", "s = doubles(s_, p + 1)", "a = s[p]",
        "l = doubles(out_, 1)", "l_r = doubles(out_ + 8, n)", "l_V = doubles(out_ + 8 + 8 * n, (p, n))",
        "l_c = doubles(out_ + 8 + 8 * n + 8 * n * p, p)", "sums[:] = 0.0", "l_r[:] = 0.0",
    ]  # fmt: skip
    # sums: the loss, Σ φ′ or φ′ · o, the largest u, Σ e^u
    if not activation:
        lines += ["for i in range(p):", "    u[i] = r[selection[i]]"]
    else:
        lines += ["sums[2] = -math.inf", "for i in range(p):", "    u[i] = c[i]", "    for j in range(n):"]
        lines += ["        u[i] += V[i, j] * r[j]", "    sums[2] = max(sums[2], u[i])"]
    softmax = activation == "softmax"
    if softmax:
        lines += ["for i in range(p):", "    sums[3] += math.exp(u[i] - sums[2])", "top = sums[2] + math.log(sums[3])"]
    lines += ["for i in range(p):", "    y = s[i]", f"    log_o = u[i]{' - top' if softmax else ''}"]
    lines += [f"    o = {'math.exp(log_o)' if softmax else 'log_o'}"]
    lines += codegen.indented(assignments(["value", "slope"], [phi, slope], "compiled"))
    lines += ["    sums[0] += value", "    l_v[i] = slope", f"    sums[1] += slope{'' if loss.of_log else ' * o'}"]
    lines += ["l[0] = a * sums[0] if a != 0.0 else 0.0", "for i in range(p):"]
    through = "l_v[i]"
    if softmax:
        lines += ["    o = math.exp(u[i] - top)"]
        through = "l_v[i] - o * sums[1]" if loss.of_log else "o * (l_v[i] - sums[1])"
    # where there is no weight, the loss may be infinite
    lines += [f"    g = a * ({through}) if a != 0.0 else 0.0"]
    if activation:
        lines += [
            "    for j in range(n):",
            "        l_r[j] += g * V[i, j]",
            "        l_V[i, j] = g * r[j]",
            "    l_c[i] = g",
        ]
    else:
        lines += ["    l_r[selection[i]] = g"]
    decorator = codegen.compiled("types.void(*[types.int64] * 5)")
    return codegen.header([recipe]) + codegen.function("def rate(ctx_, r_, s_, out_, unused)", lines, decorator)


def expression_rate(text: str, states: tuple[str, ...]) -> Any:
    """The compiled rate of a loss that is an expression in the states."""
    return codegen.module(f"Loss\n{text}\n{' '.join(states)}", lambda: _expression_source(text, states)).rate


def _expression_source(text: str, states: tuple[str, ...]) -> str:
    l = read_scalar(text, states, where="loss")
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
