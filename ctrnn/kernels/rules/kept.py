"""The last steps of a lane with the weights that they were taken with, and the way back through them.

    Λ ← (Λ + jump) Φ_m,    Ḡ ← Ḡ + Λ C_m        from the last step to the first (ctrnn.kernels.online)

What is small lies in rows of arrays that are made once; of the weights a row knows the address. Of steps r⁺ = r + h b
F(r) with one explicit stage J is kept too: then a row goes back by one product a step, and the field is not asked.
"""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from ctrnn.kernels import online
from ctrnn.kernels.abi import (
    DGEMM,
    EXTRA,
    G_STRIDE,
    JACOBIAN,
    LEAN,
    SLOTS,
    System,
    _view,
    call_f,
    copy,
    doubles,
    integers,
)
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.pullback import Estimate, Implicit

# what is kept: the field's table, ctx and numbers of weights; sizes; a, b; rows that there are, and steps that are
# kept; the steps' first and last row; whether ACCUMULATE takes the weights of each stage, and whether J is kept; rows
(
    TABLE, CTX, WEIGHTS, N, S, CHANNELS, GROUPS, COLUMNS, A, B, ROOM, CAPACITY, FIRST, LAST, MOVING, BY_J, H, T, R, X,
    JUMPS, WAITS, W_AT, STAGE_W, JS, LAMBDA, K, WORK, SIZE,
) = range(29)  # fmt: skip


@intrinsic
def _int32s(typingctx, address, shape):
    """The int32 array of a shape at an address, of length 0."""
    return _view(types.int32, shape)


@njit(**LEAN)
def append(kept, h, t_, r_, x_, w_):
    """One step more; the first of ``capacity`` goes."""
    n, s, channels, room = kept[N], kept[S], kept[CHANNELS], kept[ROOM]
    first, last = kept[FIRST], kept[LAST]
    if last - first == kept[CAPACITY]:
        first += 1
    if last == room:
        count = last - first
        _to_front(kept[H], first, count, 1)
        _to_front(kept[T], first, count, s)
        _to_front(kept[R], first, count, s * n)
        _to_front(kept[X], first, count, s * channels)
        _to_front(kept[JUMPS], first, count, n)
        if kept[BY_J]:
            _to_front(kept[JS], first, count, n * n)
        for of in (kept[WAITS], kept[W_AT]):
            rows = integers(of, room)
            for i in range(count):
                rows[i] = rows[first + i]
        first, last = 0, count
    doubles(kept[H], room)[last] = h
    copy(doubles(t_, s), doubles(kept[T], (room, s))[last])
    copy(doubles(r_, s * n), doubles(kept[R], (room, s * n))[last])
    copy(doubles(x_, s * channels), doubles(kept[X], (room, s * channels))[last])
    jump = doubles(kept[JUMPS], (room, n))[last]
    for j in range(n):
        jump[j] = 0.0
    integers(kept[WAITS], room)[last] = 0
    integers(kept[W_AT], room)[last] = w_
    if kept[BY_J]:
        table = integers(kept[TABLE], SLOTS)
        call_f(table[JACOBIAN], kept[CTX], doubles(t_, 1)[0], r_, w_, x_, kept[JS] + 8 * last * n * n)
    kept[FIRST], kept[LAST] = first, last + 1


@njit(**LEAN)
def _to_front(address, first, count, size):
    rows = doubles(address, (first + count) * size)
    for j in range(count * size):
        rows[j] = rows[first * size + j]


@njit(**LEAN)
def wait(kept, row_):
    """∂ℓ/∂r of a loss at the end of the last step waits there, to go back with others."""
    n, last = kept[N], kept[LAST] - 1
    row, jump = doubles(row_, n), doubles(kept[JUMPS], (kept[ROOM], n))[last]
    for j in range(n):
        jump[j] += row[j]
    integers(kept[WAITS], kept[ROOM])[last] = 1


@njit(**LEAN)
def end_of_waiting(kept):
    """One row behind the last step where a loss waits; the first row where none does."""
    waits, end = integers(kept[WAITS], kept[ROOM]), kept[LAST]
    while end > kept[FIRST] and waits[end - 1] == 0:
        end -= 1
    return end


@njit(**LEAN)
def forget_waiting(kept):
    """The losses went back."""
    n, waits = kept[N], integers(kept[WAITS], kept[ROOM])
    jumps = doubles(kept[JUMPS], (kept[ROOM], n))
    for i in range(kept[FIRST], kept[LAST]):
        if waits[i]:
            waits[i] = 0
            for j in range(n):
                jumps[i, j] = 0.0


@njit(**LEAN)
def back(kept, end, with_jumps, rows, K_, R_):
    """Take rows (n, q) from before row ``end`` to the first step, in place; at K_ (C, s, n, q) remain the cotangents.

    R_: room for (s, n q).
    """
    n, s, channels, first = kept[N], kept[S], kept[CHANNELS], kept[FIRST]
    q, C = rows.shape[1], end - first
    K = doubles(K_, (C, s, n, q))
    h = doubles(kept[H] + 8 * first, C)
    jumps = doubles(kept[JUMPS] + 8 * first * n, (C if with_jumps else 0, n))
    ctx = integers(kept[CTX], EXTRA)
    if kept[BY_J]:
        online.back_by_jacobians(
            ctx[DGEMM], doubles(kept[JS] + 8 * first * n * n, (C, n, n)), doubles(kept[B], 1)[0], h, jumps, rows, K,
            doubles(R_, n * q),
        )  # fmt: skip
        return
    w_at = integers(kept[W_AT] + 8 * first, C)
    nothing = doubles(0, 0)
    system = System(integers(kept[TABLE], SLOTS), ctx, nothing, integers(0, (0, 5)), nothing, 0)
    explicit = Implicit(0, nothing, (integers(0, 0), doubles(0, (0, 0)), _int32s(0, 0), nothing))
    online.back(
        system, w_at, kept[WEIGHTS], doubles(kept[A], (s, s)), doubles(kept[B], s), explicit, h,
        doubles(kept[T] + 8 * first * s, (C, s)), doubles(kept[R] + 8 * first * s * n, (C, s, n)),
        doubles(kept[X] + 8 * first * s * channels, (C, s, channels)), jumps, doubles(0, (0, s, n)), rows, K,
        doubles(R_, (s, n * q)), Estimate(nothing, nothing, doubles(0, (0, 0, 0)), nothing),
    )  # fmt: skip


@njit(**LEAN)
def add_parameter_part(kept, end, q, K_, G_):
    """Add the parameter part of what ``back`` left to G (groups, q, columns)."""
    n, s, channels, first = kept[N], kept[S], kept[CHANNELS], kept[FIRST]
    C = end - first
    ctx = integers(kept[CTX], EXTRA)
    ctx[G_STRIDE] = 0
    w_at = integers(kept[W_AT] + 8 * first, C)
    stage_w = integers(kept[STAGE_W], C * s if kept[MOVING] else 0)
    if kept[MOVING]:
        for i in range(C):
            for j in range(s):
                stage_w[i * s + j] = w_at[i]
    nothing = doubles(0, 0)
    system = System(integers(kept[TABLE], SLOTS), ctx, nothing, integers(0, (0, 5)), nothing, 0)
    online.parameter_part(
        system, w_at, stage_w, doubles(kept[T] + 8 * first * s, (C, s)),
        doubles(kept[R] + 8 * first * s * n, (C, s, n)), doubles(kept[X] + 8 * first * s * channels, (C, s, channels)),
        doubles(K_, (C, s, n, q)), G_,
    )  # fmt: skip


@njit(**LEAN)
def pull_waiting(kept, G_):
    """λ (n,) at the start of the losses that wait; their parameter part is added at G_ (groups, columns)."""
    end, n = end_of_waiting(kept), kept[N]
    rows = doubles(kept[LAMBDA], (n, 1))
    for j in range(n):
        rows[j, 0] = 0.0
    if end > kept[FIRST]:
        back(kept, end, True, rows, kept[K], kept[WORK])
        add_parameter_part(kept, end, 1, kept[K], G_)
    return kept[LAMBDA]


@njit(**LEAN)
def pull(kept, row_, G_):
    """λ (n,) at the start of one loss at the end, likewise."""
    n = kept[N]
    rows = doubles(kept[LAMBDA], (n, 1))
    copy(doubles(row_, n), doubles(kept[LAMBDA], n))
    if kept[LAST] > kept[FIRST]:
        back(kept, kept[LAST], False, rows, kept[K], kept[WORK])
        add_parameter_part(kept, kept[LAST], 1, kept[K], G_)
    return kept[LAMBDA]


@njit(**LEAN)
def clear(kept):
    """No steps."""
    kept[FIRST], kept[LAST] = 0, 0
    waits = integers(kept[WAITS], kept[ROOM])
    for i in range(waits.size):
        waits[i] = 0
