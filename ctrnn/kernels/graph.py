"""A field made of arrays, run by programs: the functions of the field table, shared by all such fields.

F is a graph of elementwise nodes and products (ctrnn.fields.arrays.graph). What a slot does is a program
(ctrnn.kernels.graph_steps):

    F           values
    VJP         values and the partial derivatives of elementwise nodes, once; then back through the graph with q
                cotangents, or J once and R = Jᵀ K where a count says that this is cheaper
    ACCUMULATE  the same towards the parameters, a stage at a time. An affine node u = A s + b keeps s and u̅ of all
                stages: each row of [A b] then is one product over stages, Ḡ_i += u̅_iᵀ s, 2 S q width flops, as for a
                network. Other parameters gather in a panel of their own
    JACOBIAN    tangents of all states at once, as diagonals and W times diagonals as long as they are that
    LEAK        the same with all products held

u̅_i of a row is often a sum of d_i k_i over a few partial derivatives d and cotangents k (its ``terms``): it is then
made where it is used and never stored. Working space: the values, partial derivatives and cotangents of a stage, in the
scratch.
"""

from __future__ import annotations

import numpy as np

from ctrnn.kernels.abi import (
    ACCUMULATE,
    COLUMNS,
    DGEMM,
    EXTRA,
    G_STRIDE,
    INLINE,
    JACOBIAN,
    LEAK,
    LEAN,
    OWN,
    SCRATCH,
    SIGNATURES,
    STOP,
    VJP,
    W_AT,
    X_STRIDE,
    F,
    N,
    alive,
    at,
    doubles,
    gemm,
    integers,
    stopped,
)
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.graph_steps import OUT, REGISTERS, RR, C, D, K, M, P, R, T, V, W, X, call_execute
from ctrnn.kernels.lazy import lazy
from ctrnn.kernels.products import FAST

#: ctx entry: the address of the plan
PLAN = EXTRA
CTX_SIZE = EXTRA + 1

# the plan: sizes (numbers) of values, partial derivatives, cotangents, cotangents of parameters, matrices of J (each
# times n); operands of the longest loop; what a row costs that goes back directly, and what J costs (in flops); tables
# of affine rows and of other parameters; how many of the values and of the partial derivatives, the first ones,
# ACCUMULATE keeps of each stage; where programs are executed; programs (address, length)
(
    VALUES, PARTIALS, COTANGENTS, PARAMETERS, MATRICES, POINTERS, DIRECT, BY_J, BLOCKS, DEPOSITS, KEPT_VALUES,
    KEPT_PARTIALS, EXECUTE, PROGRAMS,
) = range(14)  # fmt: skip
FIELD, LINEAR, BACK, TRAINED, GATHERED, JACOBI, OWN_PART = range(7)
PLAN_SIZE = PROGRAMS + 2 * 7

#: a row of the table BLOCKS: how many rows, trained columns, where the sources lie (base, offset), where they are
#: listed (0: all, in order), and addresses of the panels (rows, 2), group and column, and of the terms, with their
#: count
BLOCK = 8
#: of DEPOSITS: how many, offset, and the address of the panels (group or −1, column)
DEPOSIT = 3


def scratch_size(values: int, partials: int, cotangents: int, pointers: int) -> int:
    """Doubles of scratch that F and VJP use."""
    return REGISTERS + 1 + pointers + 7 + values + partials + cotangents


@njit(**INLINE)
def start(ctx, plan, t, r, w, x):
    """The registers, and room for the operands of a loop, in the scratch."""
    scratch = ctx[SCRATCH]
    registers, pointers = integers(scratch, REGISTERS), integers(scratch + 8 * (REGISTERS + 1), plan[POINTERS])
    time = doubles(scratch + 8 * REGISTERS, 1)
    time[0] = t
    registers[R], registers[W], registers[X], registers[T] = r, w, x, scratch + 8 * REGISTERS
    room = (scratch + 8 * (REGISTERS + 1 + plan[POINTERS]) + 63) & ~63  # where a line of the cache begins
    registers[V] = room
    registers[D] = room + 8 * plan[VALUES]
    registers[C] = room + 8 * (plan[VALUES] + plan[PARTIALS])
    return registers, pointers


@njit(**INLINE)
def run(plan, program, registers, pointers, q, dgemm):
    """Carry out one of a plan's programs, for q columns."""
    code, length = plan[PROGRAMS + 2 * program], plan[PROGRAMS + 2 * program + 1]
    call_execute(plan[EXECUTE], code, length, at(registers), at(pointers), q, dgemm)


@lazy(SIGNATURES[F], **LEAN)
def field(ctx_, t, r_, w_, x_, out_):
    """The slot F of a field's table (ctrnn.kernels.abi): out = F(t, r, w, x)."""
    ctx = integers(ctx_, CTX_SIZE)
    plan = integers(ctx[PLAN], PLAN_SIZE)
    registers, pointers = start(ctx, plan, t, r_, w_, x_)
    registers[OUT] = out_
    run(plan, FIELD, registers, pointers, 1, ctx[DGEMM])


@njit(**OWN)
def _many(ctx, plan, registers, pointers, q, K_, R_):
    """q cotangents: through J, or one by one through the graph."""
    n = ctx[N]
    if q * (plan[DIRECT] - 2 * n * n) > plan[BY_J]:
        J, matrices = np.empty((n, n)), np.empty(plan[MATRICES] * n)
        registers[M], registers[RR] = at(matrices), at(J)
        run(plan, JACOBI, registers, pointers, n, ctx[DGEMM])
        gemm(ctx[DGEMM], True, False, n, q, n, at(J), n, K_, q, 0.0, R_, q)
        alive(matrices, J)
    else:
        cotangents = np.empty(plan[COTANGENTS] * q)
        registers[C] = at(cotangents)
        run(plan, BACK, registers, pointers, q, ctx[DGEMM])
        alive(cotangents)


@lazy(SIGNATURES[VJP], **LEAN)
def vjp(ctx_, t, r_, w_, x_, q, K_, R_):
    """The slot VJP of a field's table (ctrnn.kernels.abi)."""
    ctx = integers(ctx_, CTX_SIZE)
    plan = integers(ctx[PLAN], PLAN_SIZE)
    registers, pointers = start(ctx, plan, t, r_, w_, x_)
    registers[K], registers[RR] = K_, R_
    run(plan, LINEAR, registers, pointers, 1, ctx[DGEMM])
    if q == 1:
        run(plan, BACK, registers, pointers, 1, ctx[DGEMM])
    else:
        _many(ctx, plan, registers, pointers, q, K_, R_)


@lazy(SIGNATURES[JACOBIAN])
def jacobian(ctx_, t, r_, w_, x_, J):
    """The slot JACOBIAN of a field's table (ctrnn.kernels.abi)."""
    _matrix(ctx_, t, r_, w_, x_, J, JACOBI)


@lazy(SIGNATURES[LEAK])
def leak(ctx_, t, r_, w_, x_, J):
    """The slot LEAK of a field's table (ctrnn.kernels.abi)."""
    _matrix(ctx_, t, r_, w_, x_, J, OWN_PART)


@njit(**OWN)
def _matrix(ctx_, t, r_, w_, x_, J, program):
    ctx = integers(ctx_, CTX_SIZE)
    plan = integers(ctx[PLAN], PLAN_SIZE)
    registers, pointers = start(ctx, plan, t, r_, w_, x_)
    matrices = np.empty(plan[MATRICES] * ctx[N])
    registers[M], registers[RR] = at(matrices), J
    run(plan, LINEAR, registers, pointers, 1, ctx[DGEMM])
    run(plan, program, registers, pointers, ctx[N], ctx[DGEMM])
    alive(matrices)


@njit(**FAST)
def terms_of_row(terms, count, i, D0, C0, K0, q, to):
    """to (q,) = Σ d_i k[i, :] over the terms: offset of d or −1, base and offset of k."""
    for m in range(count):
        d, base, offset = terms[3 * m], terms[3 * m + 1], terms[3 * m + 2]
        row = doubles((K0 if base == K else C0) + 8 * (offset + i) * q, q)
        c = doubles(D0 + 8 * (d + i), 1)[0] if d >= 0 else 1.0
        if m == 0:
            for e in range(q):
                to[e] = c * row[e]
        else:
            for e in range(q):
                to[e] += c * row[e]


@njit(**FAST)
def terms_of_all(terms, count, rows, D0, C0, K0, to):
    """to (rows,) = Σ d k over the terms, of one cotangent."""
    for m in range(count):
        d, base, offset = terms[3 * m], terms[3 * m + 1], terms[3 * m + 2]
        k = doubles((K0 if base == K else C0) + 8 * offset, rows)
        factor = doubles(D0 + 8 * max(d, 0), rows)
        if d < 0:
            for i in range(rows):
                to[i] = k[i] + (to[i] if m else 0.0)
        elif m == 0:
            for i in range(rows):
                to[i] = factor[i] * k[i]
        else:
            for i in range(rows):
                to[i] += factor[i] * k[i]


@njit(**FAST)
def listed_sources(s, stride, index, to):
    """to (S, width) ← the listed sources of each stage, those of stage m at s + 8 m stride."""
    for m in range(to.shape[0]):
        for c in range(index.size):
            to[m, c] = doubles(s + 8 * (m * stride + index[c]), 1)[0]


@njit(**FAST)
def add_row(width, k, s_, to_):
    """to += k s; addresses."""
    s, to = doubles(s_, width), doubles(to_, width)
    for j in range(width):
        to[j] += k * s[j]


@njit(**LEAN)
def add_listed(width, k, s, index_, to_):
    """to += k s of the listed sources; addresses."""
    index, to = integers(index_, width), doubles(to_, width)
    for j in range(width):
        to[j] += k * doubles(s + 8 * index[j], 1)[0]


@lazy(SIGNATURES[ACCUMULATE])
def accumulate(ctx_, S, q, t_, r_, w_, x_, K_, G_):
    """The slot ACCUMULATE of a field's table (ctrnn.kernels.abi)."""
    ctx = integers(ctx_, CTX_SIZE)
    plan = integers(ctx[PLAN], PLAN_SIZE)
    n, columns, kept, slopes = ctx[N], ctx[COLUMNS], plan[KEPT_VALUES], plan[KEPT_PARTIALS]
    stride = ctx[G_STRIDE] if ctx[G_STRIDE] != 0 else q * columns
    registers, pointers = start(ctx, plan, 0.0, r_, w_, x_)
    goes_back = plan[PROGRAMS + 2 * GATHERED + 1] > 0
    # what is not kept of a stage lies where the next one is about to write
    values = np.empty(S * kept + plan[VALUES] - kept)
    partials = np.empty(S * slopes + plan[PARTIALS] - slopes)
    size = plan[COTANGENTS] * q if goes_back else 0
    cotangents, gathered = np.empty((S, size)), np.zeros((plan[PARAMETERS], q))
    registers[P] = at(gathered)
    for m in range(S):
        registers[R], registers[X], registers[T] = r_ + 8 * m * n, x_ + 8 * m * ctx[X_STRIDE], t_ + 8 * m
        registers[V], registers[D] = at(values) + 8 * m * kept, at(partials) + 8 * m * slopes
        if ctx[W_AT] != 0:
            registers[W] = integers(ctx[W_AT], S)[m]
        run(plan, TRAINED, registers, pointers, 1, ctx[DGEMM])
        if goes_back:
            registers[K], registers[C] = K_ + 8 * m * n * q, at(cotangents) + 8 * m * size
            run(plan, GATHERED, registers, pointers, q, ctx[DGEMM])
    count = integers(plan[BLOCKS], 1)[0]
    blocks = integers(plan[BLOCKS] + 8, (count, BLOCK))
    panel = np.empty((S, q))
    for b in range(count):
        rows, width, base, offset, listed = blocks[b, 0], blocks[b, 1], blocks[b, 2], blocks[b, 3], blocks[b, 4]
        panels, terms, many = integers(blocks[b, 5], (rows, 2)), blocks[b, 6], blocks[b, 7]
        s, lda = at(values) + 8 * offset, kept
        if base == R:
            s, lda = r_ + 8 * offset, n
        elif base == X:
            s, lda = x_ + 8 * offset, ctx[X_STRIDE]
        term = integers(terms, 3 * many)
        if q == 1:
            Kc = np.empty((S, rows))
            for m in range(S):
                terms_of_all(
                    term, many, rows, at(partials) + 8 * m * slopes, at(cotangents) + 8 * m * size,
                    K_ + 8 * m * n, Kc[m],
                )  # fmt: skip
            if listed or S == 1:
                for i in range(rows):
                    to = G_ + 8 * (panels[i, 0] * stride + panels[i, 1])
                    for m in range(S):
                        if listed:
                            add_listed(width, Kc[m, i], s + 8 * m * lda, listed + 8 * i * width, to)
                        else:
                            add_row(width, Kc[m, i], s + 8 * m * lda, to)
            elif panels[rows - 1, 0] - panels[0, 0] == rows - 1:  # a group each
                to = G_ + 8 * (panels[0, 0] * stride + panels[0, 1])
                gemm(ctx[DGEMM], True, False, rows, width, S, at(Kc), rows, s, lda, 1.0, to, stride)
            else:
                product = np.empty((rows, width))
                gemm(ctx[DGEMM], True, False, rows, width, S, at(Kc), rows, s, lda, 0.0, at(product), width)
                for i in range(rows):
                    to_row = doubles(G_ + 8 * (panels[i, 0] * stride + panels[i, 1]), width)
                    for j in range(width):
                        to_row[j] += product[i, j]
                alive(product)
            alive(Kc)
        else:  # q cotangents, a row at a time: its panel of cotangents is made in the cache, where the product finds it
            mine = np.empty((S if listed else 0, width))
            for i in range(rows):
                if stopped(ctx[STOP]):
                    break
                for m in range(S):
                    terms_of_row(
                        term, many, i, at(partials) + 8 * m * slopes, at(cotangents) + 8 * m * size,
                        K_ + 8 * m * n * q, q, panel[m],
                    )  # fmt: skip
                to = G_ + 8 * (panels[i, 0] * stride + panels[i, 1])
                if listed:
                    listed_sources(s, lda, integers(listed, (rows, width))[i], mine)
                    gemm(ctx[DGEMM], True, False, q, width, S, at(panel), q, at(mine), width, 1.0, to, columns)
                else:
                    gemm(ctx[DGEMM], True, False, q, width, S, at(panel), q, s, lda, 1.0, to, columns)
            alive(mine)
    deposit(plan[DEPOSITS], G_, stride, columns, gathered)
    alive(values, partials, cotangents, gathered, panel)


@njit(**LEAN)
def deposit(table, G_, stride, columns, gathered):
    """G += what has gathered for parameters that are not rows of an affine node, gathered (·, q)."""
    q = gathered.shape[1]
    count = integers(table, 1)[0]
    rows = integers(table + 8, (count, DEPOSIT))
    for b in range(count):
        size, offset = rows[b, 0], rows[b, 1]
        panels = integers(rows[b, 2], (size, 2))
        for i in range(size):
            if panels[i, 0] >= 0:
                to = doubles(G_ + 8 * (panels[i, 0] * stride + panels[i, 1]), (q - 1) * columns + 1)
                for e in range(q):
                    to[e * columns] += gathered[offset + i, e]


#: the functions of the table, in order
SLOTS_OF_GRAPHS = (field, vjp, accumulate, jacobian, leak)
