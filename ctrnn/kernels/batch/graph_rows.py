"""Fields made of arrays, for B rows (trials) at once: F, its pullback and the parameter part by the same graph.

A value of a row is filled up to a multiple of 8 numbers, its ``stride``; B rows of it lie together, so that a compiled
loop over n entries serves as one over B · stride of them, and a product with weights is C (B, ·) += A (B, k) M (k, ·)
by tiles (ctrnn.kernels.batch.tiles). Nothing that a row gives depends on its company, to the bit.

What the way back needs is kept on the *tape* of S stages: partial derivatives that depend on the state, what enters
products, and, written on the way back, the cotangents u̅ of affine nodes. One array's rows of all stages lie one after
the other, so that Ā = Σ_stages Σ_rows u̅ sᵀ is one product of S B rows:

    F_ROWS           out (B, ·) = F of r (B, ·) at t; fills stage m of the tape. S = 0: nothing goes back, and the tape
                     is working space of one stage
    VJP_ROWS         R (B, ·) = K J row by row, x̄ (B, ·) = K F_x where its address is not 0; leaves u̅ on the tape
    ACCUMULATE_ROWS  G += Σ K F_w over some stages and all rows of the tape

Registers hold addresses. An operand is (base, offset, stride): on the tape at base + 8 B (offset S + m stride),
elsewhere at base + 8 B offset. Given rows (r, out, K, R, x) are as far apart as the plan says. ``w`` is made of the
weights beforehand: matrices filled up, both ways round, then the weights of loops as B rows, then partial derivatives
that depend on weights alone (``prepare``).
"""

from __future__ import annotations

from ctrnn.kernels.abi import (
    ACCUMULATE_ROWS,
    F_ROWS,
    LEAN,
    SIGNATURES,
    VJP_ROWS,
    at,
    call_vjp_rows,
    doubles,
    integers,
)
from ctrnn.kernels.batch.tiles import BLOCK, LANES, call_multiply_add
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.graph_steps import call_loop, move, scale, turn
from ctrnn.kernels.lazy import lazy
from ctrnn.kernels.products import FAST

# bases: given rows; then the tape, the scratch, prepared rows, cotangents of weights of loops; matrices
R, OUT, X, K, RR, XB, TAPE, SCRATCH, FIXED, P = range(10)
REGISTERS = 10

LOOP, PRODUCT, SET, ZERO, MOVE, SCALE, COPY, GATHER, SUM, SPREAD, TURN, CONTRACT, TIME = range(13)

# the plan: numbers a row of scratch; of matrices in w and in G; operands of the longest loop; distance of given rows,
# of inputs; the address of multiply_add; the table of stacks; programs (address, length)
ROW_SCRATCH, MATRICES, GRADIENTS, POINTERS, WIDTH, INPUTS, TILES, STACKS, PROGRAMS = range(9)
FORWARD, BACK, BACK_TO_INPUTS, PREPARE, VALUES = range(5)
PLAN_SIZE = PROGRAMS + 2 * 5

# ctx: the plan, and room: REGISTERS + POINTERS + B ROW_SCRATCH doubles
PLAN, ROOM = range(2)

#: a row of STACKS: rows, offset and stride of u̅ on the tape, offset, stride and size of the source, offset in G;
#: a bias has size 0
STACK = 7


@njit(**LEAN)
def place(registers, B, S, m, base, offset, stride):
    """The address of B rows."""
    if base == TAPE:
        return registers[base] + 8 * B * (offset * max(S, 1) + m * stride)
    return registers[base] + 8 * B * offset if base >= TAPE else registers[base] + 8 * offset


@njit(**FAST)
def contract_rows(B, I, L, J, fi, fl, sl, sj, ti, tj, add, f, f_stride, s, s_stride, to, t_stride):
    """to[i, j] (+)= Σ_l f[i, l] s[l, j], row by row."""
    for b in range(B):
        F, A = doubles(f + 8 * b * f_stride, I * L), doubles(s + 8 * b * s_stride, L * J)
        C = doubles(to + 8 * b * t_stride, I * J)
        for i in range(I):
            for j in range(J):
                total = C[i * ti + j * tj] if add else 0.0
                for l in range(L):
                    total += F[i * fi + l * fl] * A[l * sl + j * sj]
                C[i * ti + j * tj] = total


@njit(**FAST)
def gather_row(size, has_d, d, k):
    """Σ_i d_i k_i."""
    total = 0.0
    for i in range(size):
        total += (d[i] if has_d else 1.0) * k[i]
    return total


@njit(**LEAN)
def execute(code, length, registers, pointers, w, tiles, B, S, stage, t):
    """Run the steps of a program for B rows, at a stage of S.

    In every other stage products begin at the end of M, which is in the cache still.
    """
    p, turned = 0, stage % 2
    m = stage if S > 0 else 0
    while p < length:
        step = code[p]
        a, b = code[p + 2], code[p + 3]
        if step == LOOP:  # stride, count, address, operands
            for j in range(b):
                q = p + 5 + 3 * j
                pointers[j] = place(registers, B, S, m, code[q], code[q + 1], code[q + 2])
            call_loop(code[p + 4], B * a, at(pointers))
        elif step == PRODUCT:  # K, vectors, A, offset and stride of M, C
            A = place(registers, B, S, m, code[p + 4], code[p + 5], code[p + 6])
            C = place(registers, B, S, m, code[p + 9], code[p + 10], code[p + 11])
            M, width = w + 8 * code[p + 7], code[p + 8]
            A, M, way = A + 8 * (a - 1) * turned, M + 8 * width * (a - 1) * turned, 1 - 2 * turned
            call_multiply_add(tiles, B, a, A, code[p + 6], way, M, width * way, C, code[p + 11], b)
        elif step == SET:  # offset in w, to
            to = place(registers, B, S, m, code[p + 3], code[p + 4], code[p + 5])
            row, n = doubles(w + 8 * a, code[p + 5]), code[p + 5]
            for e in range(B):
                move(n, 0, row, doubles(to + 8 * e * n, n))
        elif step == ZERO:  # to
            to = doubles(place(registers, B, S, m, a, b, code[p + 4]), B * code[p + 4])
            for j in range(to.size):
                to[j] = 0.0
        elif step == MOVE:  # size, add, from and its start, to and its start
            k = place(registers, B, S, m, code[p + 4], code[p + 5], code[p + 6]) + 8 * code[p + 7]
            to_ = place(registers, B, S, m, code[p + 8], code[p + 9], code[p + 10]) + 8 * code[p + 11]
            for e in range(B):
                move(a, b, doubles(k + 8 * e * code[p + 6], a), doubles(to_ + 8 * e * code[p + 10], a))
        elif step == SCALE:  # stride, add, d, k, to
            n = B * a
            d = place(registers, B, S, m, code[p + 4], code[p + 5], code[p + 6])
            k = place(registers, B, S, m, code[p + 7], code[p + 8], code[p + 9])
            to_ = place(registers, B, S, m, code[p + 10], code[p + 11], code[p + 12])
            scale(n, 1, b, doubles(d, n), doubles(k, n), doubles(to_, n))
        elif step == COPY:  # stride, add, k, to
            n = B * a
            k = place(registers, B, S, m, code[p + 4], code[p + 5], code[p + 6])
            to_ = place(registers, B, S, m, code[p + 7], code[p + 8], code[p + 9])
            move(n, b, doubles(k, n), doubles(to_, n))
        elif step == GATHER or step == SUM:  # size, add, d or 0 0 0, k, to  # noqa: SIM109
            d = place(registers, B, S, m, code[p + 4], code[p + 5], code[p + 6])
            k = place(registers, B, S, m, code[p + 7], code[p + 8], code[p + 9])
            to_ = place(registers, B, S, m, code[p + 10], code[p + 11], code[p + 12])
            for e in range(B):
                one = doubles(to_ + 8 * e * code[p + 12], 1)
                row = doubles(k + 8 * e * code[p + 9], a)
                slope = doubles(d + 8 * e * code[p + 6], a) if step == GATHER else row
                one[0] = gather_row(a, step == GATHER, slope, row) + (one[0] if b else 0.0)
        elif step == SPREAD:  # stride, add, k, to
            k = place(registers, B, S, m, code[p + 4], code[p + 5], code[p + 6])
            to_ = place(registers, B, S, m, code[p + 7], code[p + 8], code[p + 9])
            for e in range(B):
                one, row = doubles(k + 8 * e * code[p + 6], 1)[0], doubles(to_ + 8 * e * a, a)
                for j in range(a):
                    row[j] = one + (row[j] if b else 0.0)
        elif step == TURN:  # rows, columns, add, k, to
            k = place(registers, B, S, m, code[p + 5], code[p + 6], code[p + 7])
            to_ = place(registers, B, S, m, code[p + 8], code[p + 9], code[p + 10])
            for e in range(B):
                turn(a, b, 1, code[p + 4], k + 8 * e * code[p + 7], to_ + 8 * e * code[p + 10])
        elif step == CONTRACT:  # I, L, J, six strides, add, f, s, to
            f = place(registers, B, S, m, code[p + 12], code[p + 13], code[p + 14])
            s = place(registers, B, S, m, code[p + 15], code[p + 16], code[p + 17])
            to_ = place(registers, B, S, m, code[p + 18], code[p + 19], code[p + 20])
            contract_rows(
                B, a, b, code[p + 4], code[p + 5], code[p + 6], code[p + 7], code[p + 8], code[p + 9], code[p + 10],
                code[p + 11], f, code[p + 14], s, code[p + 17], to_, code[p + 20],
            )  # fmt: skip
        elif step == TIME:  # to
            to_ = place(registers, B, S, m, a, b, code[p + 4])
            for e in range(B):
                doubles(to_ + 8 * e * code[p + 4], 1)[0] = t
        p += code[p + 1]


@njit(**LEAN)
def _run(ctx_, program, B, S, m, t, r, w, x, out, K_, R_, x_bar, tape, G):
    ctx = integers(ctx_, 2)
    plan, room = integers(ctx[PLAN], PLAN_SIZE), ctx[ROOM]
    registers, pointers = integers(room, REGISTERS), integers(room + 8 * REGISTERS, plan[POINTERS])
    registers[R], registers[OUT], registers[X], registers[K], registers[RR], registers[XB] = r, out, x, K_, R_, x_bar
    registers[TAPE], registers[SCRATCH] = tape, room + 8 * (REGISTERS + plan[POINTERS])
    registers[FIXED], registers[P] = w + 8 * plan[MATRICES], G + 8 * plan[GRADIENTS]
    length = plan[PROGRAMS + 2 * program + 1]
    code = integers(plan[PROGRAMS + 2 * program], length)
    execute(code, length, registers, pointers, w, plan[TILES], B, S, m, t)


@lazy(SIGNATURES[F_ROWS], **LEAN)
def field(ctx_, B, S, m, t, r, w, x, out, tape):
    """F_ROWS."""
    _run(ctx_, FORWARD if S > 0 else VALUES, B, S, m, t, r, w, x, out, 0, 0, 0, tape, 0)


@lazy(SIGNATURES[VJP_ROWS], **LEAN)
def vjp(ctx_, B, S, m, w, K_, R_, x_bar, tape, G):
    """VJP_ROWS."""
    program = BACK if x_bar == 0 else BACK_TO_INPUTS
    _run(ctx_, program, B, S, m, 0.0, 0, w, 0, 0, K_, R_, x_bar, tape, G)


@lazy(SIGNATURES[VJP_ROWS], **LEAN)
def prepare(ctx_, B, S, m, w, K_, R_, x_bar, tape, G):
    """Partial derivatives that depend on weights alone, behind these in w."""
    _run(ctx_, PREPARE, B, 1, 0, 0.0, 0, w, 0, 0, 0, 0, 0, tape, G)


@njit(cache=True, nogil=True)
def call_prepare(address, ctx, B, w):
    """``prepare``, as called from Python."""
    call_vjp_rows(address, at(ctx), B, 1, 0, at(w), 0, 0, 0, 0, 0)


@lazy(SIGNATURES[ACCUMULATE_ROWS], **LEAN)
def accumulate(ctx_, B, S, m, count, tape, G):
    """ACCUMULATE_ROWS."""
    plan = integers(integers(ctx_, 2)[PLAN], PLAN_SIZE)
    stacks = integers(plan[STACKS] + 8, (integers(plan[STACKS], 1)[0], STACK))
    for b in range(len(stacks)):
        rows, wide, source_wide, size = stacks[b, 0], stacks[b, 2], stacks[b, 4], stacks[b, 5]
        u = tape + 8 * B * (S * stacks[b, 1] + m * wide)
        s, to = tape + 8 * B * (S * stacks[b, 3] + m * source_wide), G + 8 * stacks[b, 6]
        if size == 0:
            total = doubles(to, rows)
            for k in range(B * count):
                row = doubles(u + 8 * k * wide, rows)
                for i in range(rows):
                    total[i] += row[i]
            continue
        for begin in range(0, B * count, BLOCK):
            many = min(BLOCK, B * count - begin)
            call_multiply_add(
                plan[TILES], rows, many, u + 8 * begin * wide, 1, wide, s + 8 * begin * source_wide, source_wide, to,
                source_wide, source_wide // LANES,
            )  # fmt: skip
