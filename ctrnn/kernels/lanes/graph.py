"""F of a field made of arrays for LANES members of an ensemble at once, each with weights of its own.

The same program as for one.

Layout: every number has the lane behind it. A compiled loop over n entries serves as a loop over n · LANES of them;
weights are read once, in order, 8 bytes for 2 flops, from the cache that holds those of LANES members.
"""

from __future__ import annotations

from ctrnn.kernels.abi import IN_LANES, LANES, LEAN, SCRATCH, SIGNATURES, at, doubles, integers
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.graph import CTX_SIZE, FIELD, PLAN, PLAN_SIZE, POINTERS, PROGRAMS
from ctrnn.kernels.graph_steps import (
    CONTRACT,
    COPY,
    LISTED,
    LOOP,
    MATVEC,
    ONE,
    OUT,
    REGISTERS,
    SPREAD,
    SUM,
    TURN,
    R,
    T,
    V,
    W,
    X,
    call_loop,
    gather,
    move,
    turn,
)
from ctrnn.kernels.lazy import lazy
from ctrnn.kernels.vectors import row_dot

#: a·b + c as one operation, as in the loops
FUSED = LEAN | {"fastmath": {"contract"}}


def scratch_size(values: int, pointers: int) -> int:
    """Doubles of scratch: registers, operands of a loop, a row of zeros, the values."""
    return REGISTERS + pointers + LANES * (1 + values)


@njit(**LEAN)
def _place(registers, base, offset):
    return registers[base] + 8 * LANES * offset


@njit(**FUSED)
def _matvec(L, rows, width, columns, bias, W_, s, u, zeros):
    """u (rows, L) = Σ_c W[·, c] s[c] of the first columns, and the next one if there is a bias, lane by lane."""
    for i in range(rows):
        row = W_ + 8 * LANES * width * i
        row_dot(columns, row, s, row + 8 * LANES * columns if bias else zeros, u + 8 * LANES * i)


@njit(**FUSED)
def _listed(L, rows, width, add, index_, W_, s_, u_):
    index = integers(index_, (rows, width))
    weights, u = doubles(W_, (rows, width, LANES)), doubles(u_, (rows, LANES))
    for i in range(rows):
        if add == 0:
            for l in range(L):
                u[i, l] = 0.0
        for c in range(width):
            s = doubles(s_ + 8 * LANES * index[i, c], LANES)
            for l in range(L):
                u[i, l] += weights[i, c, l] * s[l]


@njit(**FUSED)
def _contract(lanes, I, K, J, fi, fl, sl, sj, ti, tj, add, f, s, to):
    """to[i, j] (+)= Σ_k f[i, k] s[k, j], lane by lane."""
    for i in range(I):
        for j in range(J):
            sum_ = doubles(to + 8 * LANES * (i * ti + j * tj), LANES)
            if add == 0:
                for l in range(lanes):
                    sum_[l] = 0.0
            for k in range(K):
                a = doubles(f + 8 * LANES * (i * fi + k * fl), LANES)
                b = doubles(s + 8 * LANES * (k * sl + j * sj), LANES)
                for l in range(lanes):
                    sum_[l] += a[l] * b[l]


@lazy(SIGNATURES[IN_LANES], **LEAN)
def field(ctx_, L, t_, r_, w_, x_, out_):
    """The slot IN_LANES of a field made of arrays."""
    ctx = integers(ctx_, CTX_SIZE)
    plan = integers(ctx[PLAN], PLAN_SIZE)
    scratch = ctx[SCRATCH]
    registers, pointers = integers(scratch, REGISTERS), integers(scratch + 8 * REGISTERS, plan[POINTERS])
    zeros = scratch + 8 * (REGISTERS + plan[POINTERS])
    registers[R], registers[W], registers[X], registers[T], registers[OUT] = r_, w_, x_, t_, out_
    registers[V] = zeros + 8 * LANES
    row = doubles(zeros, LANES)
    for l in range(LANES):
        row[l] = 0.0
    length = plan[PROGRAMS + 2 * FIELD + 1]
    code = integers(plan[PROGRAMS + 2 * FIELD], length)
    p = 0
    while p < length:
        step = code[p]
        a, b, c, d, e = code[p + 2], code[p + 3], code[p + 4], code[p + 5], code[p + 6]
        if step == LOOP:
            for j in range(c):
                pointers[j] = _place(registers, code[p + 5 + 2 * j], code[p + 6 + 2 * j])
            call_loop(b, a * LANES, at(pointers))
        elif step == MATVEC:
            _matvec(
                L, a, b, c, d, _place(registers, code[p + 7], code[p + 8]),
                _place(registers, code[p + 9], code[p + 10]), _place(registers, code[p + 11], code[p + 12]), zeros,
            )  # fmt: skip
        elif step == LISTED:
            _listed(
                L, a, b, c, d, _place(registers, e, code[p + 7]), _place(registers, code[p + 8], code[p + 9]),
                _place(registers, code[p + 10], code[p + 11]),
            )  # fmt: skip
        elif step == CONTRACT:
            _contract(
                L, a, b, c, d, e, code[p + 7], code[p + 8], code[p + 9], code[p + 10], code[p + 11],
                _place(registers, code[p + 12], code[p + 13]), _place(registers, code[p + 14], code[p + 15]),
                _place(registers, code[p + 16], code[p + 17]),
            )  # fmt: skip
        elif step == ONE:
            to = doubles(_place(registers, b, c), a * LANES)
            for j in range(a * LANES):
                to[j] = 1.0
        elif step == COPY:
            n = a * LANES
            move(n, b, doubles(_place(registers, c, d), n), doubles(_place(registers, e, code[p + 7]), n))
        elif step == SUM:
            k = doubles(_place(registers, c, d), a * LANES)
            gather(a, L, b, False, k, k, doubles(_place(registers, e, code[p + 7]), LANES))
        elif step == SPREAD:
            k = doubles(_place(registers, c, d), LANES)
            for i in range(a):
                move(L, b, k, doubles(_place(registers, e, code[p + 7] + i), LANES))
        elif step == TURN:
            turn(a, b, L, c, _place(registers, d, e), _place(registers, code[p + 7], code[p + 8]))
        p += code[p + 1]
