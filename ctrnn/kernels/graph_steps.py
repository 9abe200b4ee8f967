"""The steps that a field made of arrays is run by: compiled elementwise loops, products, and how each goes back.

A program is a row of int64: the number of a step, its length, its sizes, and operands (base, offset). A base is a
register that holds an address; from CARRIED on, what lies there has q numbers in the place of each one (q cotangents,
or the n columns of J), the last index. So the same few steps compute values (q = 1), pull q cotangents back, push
tangents forward, and build J:

    LOOP       n, address, count, operands         a compiled loop over n elements (ctrnn.fields.arrays.loops)
    MATVEC     rows, width, columns, bias, add, W, s, u      u (+)= W s of the first columns of W, and the next one, a
                                                   bias, if bias is 1
    BACK       rows, width, first, columns, add, W, k, to     to (+)= Wᵀ k of ``columns`` columns of W from ``first`` on
    LISTED     rows, width, add, index, W, s, u    u (+)= W s with row i of W the weights of the sources index[i],
                                                   filled up with weights 0. 2 flops and 16 bytes a weight: in the time
                                                   of one, about ten weights stored whole can be used
    BACK_LISTED  rows, width, begin, end, add, index, W, k, to    its transpose, for the sources begin ≤ j < end
    TIMES_LISTED  rows, width, begin, end, add, index, W, k, to   to (+)= W k with these sources alone
    CONTRACT   I, L, J, strides f_i f_l  s_l s_j  t_i t_j, add, f, s, to      to[i, j, :] (+)= Σ_l f[i, l] s[l, j, :]
    SCALE      n, add, d, k, to                    to[i, :] (+)= d_i k[i, :]
    GATHER     n, add, d, k, to                    to[0, :] (+)= Σ_i d_i k[i, :]
    COPY       n, add, k, to                       to (+)= k
    SUM        n, add, k, to                       to[0, :] (+)= Σ_i k[i, :]
    SPREAD     n, add, k, to                       to[i, :] (+)= k[0, :]
    TURN       m, n, add, k, to                    to[j, i, :] (+)= k[i, j, :]
    ZERO, ONE  n, to                               to = 0, to = 1
    ROWS       rows, width, first, columns, add, d, W, e, to, column      to[i, column + j] (+)= d_i W[i, first + j] e_j
    ROWS_LISTED  rows, width, begin, end, add, index, d, W, e, to, column    the same with rows as lists
    DIAGONAL   n, d, to, column                    to[i, column + i] += d_i
    TIMES      n, add, d, e, to                    to_i (+)= d_i e_i, d and e partial derivatives

An operand NONE stands for ones. Programs are written by ctrnn.fields.arrays.programs.
"""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from ctrnn.kernels.abi import LEAN, at, call, doubles, gemm, integers
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.lazy import lazy
from ctrnn.kernels.products import FAST, matvec_at, vecmat_at

# registers: the state, the kernel's parameters, the input, time; of one stage the values, the partial derivatives; what
# F writes; tangents of the state, of the parameters, of the values, of the partial derivatives
R, W, X, T, V, D, OUT, DR, DW, DV, DD = range(11)
# and, carried: the cotangents given, those of the state, of the values, of the parameters; matrices of J; δ of the
# cotangents of values, of parameters
K, RR, C, P, M, DC, DP = range(11, 18)
CARRIED, REGISTERS, NONE = 11, 18, -1

(
    LOOP, MATVEC, BACK, LISTED, BACK_LISTED, CONTRACT, SCALE, GATHER, COPY, SUM, SPREAD, TURN, ZERO, ONE, ROWS,
    DIAGONAL, TIMES, TIMES_LISTED, ROWS_LISTED,
) = range(19)  # fmt: skip


@intrinsic
def call_loop(typingctx, address, n, pointers):
    """Call an elementwise loop over n numbers at an address."""
    return call(types.void(types.int64, types.int64))


@njit(**LEAN)
def matmul_at(dgemm, transposed, m, n, k, A, lda, B, ldb, add, C, ldc):
    """C (+)= op(A) B at addresses (ctrnn.kernels.abi.gemm, compiled once for all who use it here)."""
    gemm(dgemm, transposed, False, m, n, k, A, lda, B, ldb, 1.0 if add else 0.0, C, ldc)


@njit(**FAST)
def listed_at(rows, width, add, index_, W_, s_, u_):
    """u (+)= W s with rows of W as lists; addresses."""
    index, W, u = integers(index_, (rows, width)), doubles(W_, (rows, width)), doubles(u_, rows)
    for i in range(rows):
        total = 0.0
        for c in range(width):
            total += W[i, c] * doubles(s_ + 8 * index[i, c], 1)[0]
        u[i] = total + (u[i] if add else 0.0)


@njit(**LEAN)
def back_listed_at(rows, width, begin, end, add, index_, W_, k_, to_, q):
    """The transposed product of ``listed_at``, of q columns; addresses."""
    index, W, k, to = (
        integers(index_, (rows, width)), doubles(W_, (rows, width)), doubles(k_, (rows, q)),
        doubles(to_, (end - begin, q)),
    )  # fmt: skip
    if add == 0:
        for j in range(end - begin):
            for l in range(q):
                to[j, l] = 0.0
    for i in range(rows):
        for c in range(width):
            j, w = index[i, c], W[i, c]
            if begin <= j < end and w != 0.0:
                if q == 1:
                    to[j - begin, 0] += w * k[i, 0]
                else:
                    for l in range(q):
                        to[j - begin, l] += w * k[i, l]


@njit(**LEAN)
def times_listed_at(rows, width, begin, end, add, index_, W_, k_, to_, q):
    """The product of ``listed_at`` of q columns, those of the sources begin ≤ j < end alone; addresses."""
    index, W, k, to = (
        integers(index_, (rows, width)), doubles(W_, (rows, width)), doubles(k_, (end - begin, q)),
        doubles(to_, (rows, q)),
    )  # fmt: skip
    for i in range(rows):
        if add == 0:
            for l in range(q):
                to[i, l] = 0.0
        for c in range(width):
            j, w = index[i, c], W[i, c]
            if begin <= j < end and w != 0.0:
                for l in range(q):
                    to[i, l] += w * k[j - begin, l]


@njit(**LEAN)
def rows_listed_at(rows, width, begin, end, q, add, index_, has_d, d, W_, has_e, e, to_, column):
    """Rows of a matrix kept as lists, scaled and copied or added; addresses."""
    index, W = integers(index_, (rows, width)), doubles(W_, (rows, width))
    for i in range(rows):
        to = doubles(to_ + 8 * i * q, q)
        if add == 0:
            for j in range(q):
                to[j] = 0.0
        for c in range(width):
            j, w = index[i, c], W[i, c]
            if begin <= j < end and w != 0.0:
                to[column + j - begin] += (d[i] if has_d else 1.0) * w * (e[j - begin] if has_e else 1.0)


@njit(**LEAN)
def contract(dgemm, I, L, J, fi, fl, sl, sj, ti, tj, add, f, s, to, q):
    """to[i, j, :] (+)= Σ_l f[i, l] s[l, j, :], addresses and strides in numbers (of q where q are carried).

    f has one stride of 1.
    """
    if L == 1:
        for i in range(I):
            c = doubles(f + 8 * i * fi, 1)[0]
            for j in range(J):
                a, b = doubles(s + 8 * j * sj * q, q), doubles(to + 8 * (i * ti + j * tj) * q, q)
                if add:
                    for e in range(q):
                        b[e] += c * a[e]
                else:
                    for e in range(q):
                        b[e] = c * a[e]
        return
    turned = fl != 1  # then f lies as (L, I)
    lda = fl if turned else fi
    if sj == 1 and tj == 1:  # j and what is carried are one index
        matmul_at(dgemm, turned, I, J * q, L, f, lda, s, sl * q, add, to, ti * q)
        return
    for j in range(J):
        matmul_at(dgemm, turned, I, q, L, f, lda, s + 8 * j * sj * q, sl * q, add, to + 8 * j * tj * q, ti * q)


@njit(**FAST)
def rows_at(rows, width, columns, q, add, has_d, d, W, has_e, e, to, column):
    """Rows of a matrix, scaled and copied or added; addresses."""
    for i in range(rows):
        c = d[i] if has_d else 1.0
        A, part = doubles(W + 8 * i * width, columns), doubles(to + 8 * (i * q + column), columns)
        if add == 0 and columns < q:
            row = doubles(to + 8 * i * q, q)
            for j in range(q):
                row[j] = 0.0
        if has_e and add:
            for j in range(columns):
                part[j] += c * A[j] * e[j]
        elif has_e:
            for j in range(columns):
                part[j] = c * A[j] * e[j]
        elif add:
            for j in range(columns):
                part[j] += c * A[j]
        else:
            for j in range(columns):
                part[j] = c * A[j]


@njit(**FAST)
def scale(n, q, add, d, k, to):
    """to[i, :] (+)= d_i k[i, :]."""
    if q == 1:
        if add:
            for i in range(n):
                to[i] += d[i] * k[i]
        else:
            for i in range(n):
                to[i] = d[i] * k[i]
        return
    for i in range(n):  # rows of their own: in one long array the compiler cannot tell them apart
        c, row, out = d[i], doubles(at(k) + 8 * i * q, q), doubles(at(to) + 8 * i * q, q)
        if add:
            for j in range(q):
                out[j] += c * row[j]
        else:
            for j in range(q):
                out[j] = c * row[j]


@njit(**FAST)
def gather(n, q, add, has_d, d, k, to):
    """to[:] (+)= Σ_i d_i k[i, :]."""
    if q == 1:
        total = to[0] if add else 0.0
        for i in range(n):
            total += (d[i] if has_d else 1.0) * k[i]
        to[0] = total
        return
    if add == 0:
        for j in range(q):
            to[j] = 0.0
    for i in range(n):
        c = d[i] if has_d else 1.0
        row = doubles(at(k) + 8 * i * q, q)
        for j in range(q):
            to[j] += c * row[j]


@njit(**FAST)
def move(n, add, k, to):
    """to (+)= k, n numbers."""
    if add:
        for i in range(n):
            to[i] += k[i]
    else:
        for i in range(n):
            to[i] = k[i]


@njit(**FAST)
def turn(m, n, q, add, k_, to_):
    """to (+)= k with its first two axes exchanged."""
    k, to = doubles(k_, (m, n, q)), doubles(to_, (n, m, q))
    for i in range(m):
        for j in range(n):
            for e in range(q):
                to[j, i, e] = k[i, j, e] + (to[j, i, e] if add else 0.0)


@njit(inline="always")
def place(registers, q, base, offset):
    """The address of an operand."""
    return registers[base] + 8 * offset * (q if base >= CARRIED else 1)


@intrinsic
def call_execute(typingctx, address, code, length, registers, pointers, q, dgemm):
    """Call ``execute`` at its address: what it is compiled to is long, and would be compiled into every caller."""
    return call(types.void(*[types.int64] * 6))


@lazy(types.void(*[types.int64] * 6), **LEAN)
def execute(code_, length, registers_, pointers_, q, dgemm):
    """Run the steps of a program; ``pointers_`` is room for the operands of a loop. Addresses."""
    code, registers = integers(code_, length), integers(registers_, REGISTERS)
    p = 0
    while p < length:
        step = code[p]
        a, b, c, d, e = code[p + 2], code[p + 3], code[p + 4], code[p + 5], code[p + 6]
        if step == LOOP:
            pointers = integers(pointers_, c)
            for j in range(c):
                pointers[j] = registers[code[p + 5 + 2 * j]] + 8 * code[p + 6 + 2 * j]
            call_loop(b, a, pointers_)
        elif step == MATVEC:
            matvec_at(
                place(registers, 1, code[p + 7], code[p + 8]), a, b, c, d, e,
                place(registers, 1, code[p + 9], code[p + 10]), place(registers, 1, code[p + 11], code[p + 12]),
            )  # fmt: skip
        elif step == SCALE:
            scale(
                a, q, b, doubles(place(registers, 1, c, d), a), doubles(place(registers, q, e, code[p + 7]), a * q),
                doubles(place(registers, q, code[p + 8], code[p + 9]), a * q),
            )  # fmt: skip
        elif step == COPY:
            scaled = a * (q if e >= CARRIED else 1)
            move(
                scaled,
                b,
                doubles(place(registers, q, c, d), scaled),
                doubles(place(registers, q, e, code[p + 7]), scaled),
            )
        elif step == ONE or step == ZERO:  # noqa: SIM109 - compiled code has no tuples to search
            scaled, value = a * (q if b >= CARRIED else 1), 1.0 if step == ONE else 0.0
            to = doubles(place(registers, q, b, c), scaled)
            for j in range(scaled):
                to[j] = value
        elif step == BACK:  # rows a, width b, first c, columns d, add e
            w = place(registers, 1, code[p + 7], code[p + 8]) + 8 * c
            k, to = place(registers, q, code[p + 9], code[p + 10]), place(registers, q, code[p + 11], code[p + 12])
            if q == 1:
                vecmat_at(k, w, a, b, d, e, to)
            else:
                matmul_at(dgemm, True, d, q, a, w, b, k, q, e, to, q)
        elif step == LISTED:  # rows a, width b, add c, index d
            listed_at(
                a, b, c, d, place(registers, 1, e, code[p + 7]), place(registers, 1, code[p + 8], code[p + 9]),
                place(registers, 1, code[p + 10], code[p + 11]),
            )  # fmt: skip
        elif step == BACK_LISTED:  # rows a, width b, begin c, end d, add e, index
            back_listed_at(
                a, b, c, d, e, code[p + 7], place(registers, 1, code[p + 8], code[p + 9]),
                place(registers, q, code[p + 10], code[p + 11]), place(registers, q, code[p + 12], code[p + 13]), q,
            )  # fmt: skip
        elif step == CONTRACT:  # I a, L b, J c, fi d, fl e
            carried = q if code[p + 16] >= CARRIED else 1
            contract(
                dgemm, a, b, c, d, e, code[p + 7], code[p + 8], code[p + 9], code[p + 10], code[p + 11],
                place(registers, 1, code[p + 12], code[p + 13]), place(registers, q, code[p + 14], code[p + 15]),
                place(registers, q, code[p + 16], code[p + 17]), carried,
            )  # fmt: skip
        elif step == GATHER:
            k = place(registers, q, e, code[p + 7])
            gather(
                a, q, b, True, doubles(place(registers, 1, c, d), a), doubles(k, a * q),
                doubles(place(registers, q, code[p + 8], code[p + 9]), q),
            )  # fmt: skip
        elif step == SUM:
            carried = q if e >= CARRIED else 1
            k = doubles(place(registers, q, c, d), a * carried)
            gather(a, carried, b, False, k, k, doubles(place(registers, q, e, code[p + 7]), carried))
        elif step == SPREAD:
            carried = q if e >= CARRIED else 1
            k, to = place(registers, q, c, d), place(registers, q, e, code[p + 7])
            for j in range(a):
                move(carried, b, doubles(k, carried), doubles(to + 8 * j * carried, carried))
        elif step == TURN:  # m a, n b, add c
            carried = q if code[p + 7] >= CARRIED else 1
            turn(a, b, carried, c, place(registers, q, d, e), place(registers, q, code[p + 7], code[p + 8]))
        elif step == ROWS:  # rows a, width b, first c, columns d, add e
            has_d, has_e = code[p + 7] != NONE, code[p + 11] != NONE
            rows_at(
                a, b, d, q, e, has_d, doubles(place(registers, 1, max(code[p + 7], 0), code[p + 8]), a),
                place(registers, 1, code[p + 9], code[p + 10]) + 8 * c, has_e,
                doubles(place(registers, 1, max(code[p + 11], 0), code[p + 12]), d),
                place(registers, q, code[p + 13], code[p + 14]), code[p + 15],
            )  # fmt: skip
        elif step == TIMES_LISTED:
            times_listed_at(
                a, b, c, d, e, code[p + 7], place(registers, 1, code[p + 8], code[p + 9]),
                place(registers, q, code[p + 10], code[p + 11]), place(registers, q, code[p + 12], code[p + 13]), q,
            )  # fmt: skip
        elif step == ROWS_LISTED:  # rows a, width b, begin c, end d, add e, index, d, W, e, to, column
            has_d, has_e = code[p + 8] != NONE, code[p + 12] != NONE
            rows_listed_at(
                a, b, c, d, q, e, code[p + 7], has_d, doubles(place(registers, 1, max(code[p + 8], 0), code[p + 9]), a),
                place(registers, 1, code[p + 10], code[p + 11]), has_e,
                doubles(place(registers, 1, max(code[p + 12], 0), code[p + 13]), d - c),
                place(registers, q, code[p + 14], code[p + 15]), code[p + 16],
            )  # fmt: skip
        elif step == DIAGONAL:  # n a, d (b, c), to (d, e), column
            to = place(registers, q, d, e) + 8 * code[p + 7]
            factor = doubles(place(registers, 1, max(b, 0), c), a)
            for i in range(a):
                doubles(to + 8 * i * (q + 1), 1)[0] += factor[i] if b != NONE else 1.0
        elif step == TIMES:  # n a, add b, d (c, d), e (e, .), to
            scale(
                a, 1, b, doubles(place(registers, 1, c, d), a), doubles(place(registers, 1, e, code[p + 7]), a),
                doubles(place(registers, 1, code[p + 8], code[p + 9]), a),
            )  # fmt: skip
        p += code[p + 1]
