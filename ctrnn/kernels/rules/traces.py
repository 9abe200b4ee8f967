"""Traces at run time, of steps r⁺ = r + h b F(r) with one explicit stage (ctrnn.gradients.rules.traces).

    e ← Φ_kk e + C_k        Φ = 1 + h b J, C = h b F_w; J, or its part LEAK, is made once, O(n²)

C comes back by one row for each colour of the states; of parameters that act on many states, such as a time constant
of all units, each column of C comes by a derivative along it. Traces lie in runs: of one run the parameters and the
entries of C follow each other, and the states are the same, so that what is done is done along contiguous memory.
"""

from __future__ import annotations

from ctrnn.kernels.abi import (
    ACCUMULATE,
    EXTRA,
    G_STRIDE,
    JACOBIAN,
    LEAK,
    LEAN,
    SLOTS,
    call_accumulate,
    call_f,
    call_jvp,
    copy,
    doubles,
    integers,
)
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.lazy import lazy
from ctrnn.kernels.products import FAST
from ctrnn.kernels.rules.table import ADD, COLLECT, PULL, RESET, SIGNATURES, TAKE, hand_over

# what is carried: the field's table and ctx; sizes, the last of them of C by rows; colours; b of the only stage (an
# address); whether LEAK stands for J; rows of the colours (n, colours); parameters that act on many states, JVP and its
# ctx, no δr (n,) and their directions (wide, weights); runs; numbers in all traces, e; the gradient; room for C by rows
# (groups, colours, columns) and by directions (wide, n), J (n, n), rows (n, colours) and the e of one run
(
    TABLE, CTX, N, GROUPS, COLUMNS, ROW_ENTRIES, COLOURS, B, BY_LEAK, ROWS, WIDE, JVP_AT, JVP_CTX, NO_DR, DIRECTIONS,
    WEIGHTS, COUNT, RUNS, TRACES, E, G, C, J, K, OLD, SIZE,
) = range(26)  # fmt: skip

# a run: where its traces (states, length) begin in e, how many there are, the first one's entry of G (groups, columns),
# and its states; then for each state its number, and for each the first trace's entry of C (−1: the parameters do not
# act on the state directly)
FIRST, LENGTH, ENTRY, STATES, HEAD = range(5)


@njit(**FAST)
def _onto(phi, C, to):
    """to = φ to + C."""
    for j in range(to.size):
        to[j] = phi * to[j] + C[j]


@njit(**FAST)
def _plus(phi, e, to):
    """to += φ e."""
    for j in range(to.size):
        to[j] += phi * e[j]


@njit(**LEAN)
def _added(m, hb, t_, r_, x_, w_):
    """C = h b F_w."""
    n, colours, table, ctx = m[N], m[COLOURS], integers(m[TABLE], SLOTS), integers(m[CTX], EXTRA)
    rows, K_ = doubles(m[ROWS], n * colours), doubles(m[K], n * colours)
    for j in range(n * colours):
        K_[j] = hb * rows[j]
    C_ = doubles(m[C], m[ROW_ENTRIES])
    for j in range(C_.size):
        C_[j] = 0.0
    ctx[G_STRIDE] = 0
    call_accumulate(table[ACCUMULATE], m[CTX], 1, colours, t_, r_, w_, x_, m[K], m[C])
    for i in range(m[WIDE]):
        to = m[C] + 8 * (m[ROW_ENTRIES] + i * n)
        along = m[DIRECTIONS] + 8 * i * m[WEIGHTS]
        call_jvp(m[JVP_AT], m[JVP_CTX], doubles(t_, 1)[0], r_, w_, x_, m[NO_DR], along, to)
        column = doubles(to, n)
        for j in range(n):
            column[j] *= hb


@njit(**FAST)
def _alone(hb, J, C, states, at, old, to):
    """The trace of one parameter, of many states."""
    for a in range(to.size):
        state, new = states[a], 0.0
        for b in range(to.size):
            new += J[state, states[b]] * old[b]
        new = old[a] + hb * new
        if at[a] >= 0:
            new += C[at[a]]
        to[a] = new


@lazy(SIGNATURES[TAKE], **LEAN)
def take(memory, h, t_, r_, x_, w_):
    """Each trace by its block of Φ, and what the step adds."""
    m = integers(memory, SIZE)
    n, table = m[N], integers(m[TABLE], SLOTS)
    hb = h * doubles(m[B], 1)[0]
    call_f(table[LEAK if m[BY_LEAK] else JACOBIAN], m[CTX], doubles(t_, 1)[0], r_, w_, x_, m[J])
    J_ = doubles(m[J], (n, n))
    _added(m, hb, t_, r_, x_, w_)
    C_ = doubles(m[C], m[ROW_ENTRIES] + m[WIDE] * n)
    run_ = m[RUNS]
    for _ in range(m[COUNT]):
        head = integers(run_, HEAD)
        length, size = head[LENGTH], head[STATES]
        states, at = integers(run_ + 8 * HEAD, size), integers(run_ + 8 * (HEAD + size), size)
        e_ = m[E] + 8 * head[FIRST]
        run_ += 8 * (HEAD + 2 * size)
        if size > 1:
            copy(doubles(e_, size * length), doubles(m[OLD], size * length))
        if length == 1 and size > 1:
            _alone(hb, J_, C_, states, at, doubles(m[OLD], size), doubles(e_, size))
            continue
        for a in range(size):
            state = states[a]
            to, phi = doubles(e_ + 8 * a * length, length), 1.0 + hb * J_[state, state]
            if at[a] >= 0:
                _onto(phi, doubles(m[C] + 8 * at[a], length), to)
            else:
                for j in range(length):
                    to[j] *= phi
            for b in range(size):
                if b != a:
                    _plus(hb * J_[state, states[b]], doubles(m[OLD] + 8 * b * length, length), to)
    return 0


@njit(**LEAN)
def _pull(m, row_, G_):
    row, run_ = doubles(row_, m[N]), m[RUNS]
    for _ in range(m[COUNT]):
        head = integers(run_, HEAD)
        length, size = head[LENGTH], head[STATES]
        states = integers(run_ + 8 * HEAD, size)
        run_ += 8 * (HEAD + 2 * size)
        to = doubles(G_ + 8 * head[ENTRY], length)
        for a in range(size):
            _plus(row[states[a]], doubles(m[E] + 8 * (head[FIRST] + a * length), length), to)


@lazy(PULL, **LEAN)
def pull(memory, row_, G_):
    """G += ∂ℓ/∂r P."""
    _pull(integers(memory, SIZE), row_, G_)
    return 0


@lazy(SIGNATURES[ADD], **LEAN)
def add(memory, row_):
    """g += ∂ℓ/∂r P."""
    m = integers(memory, SIZE)
    _pull(m, row_, m[G])
    return 0


@lazy(SIGNATURES[COLLECT], **LEAN)
def collect(memory, G_):
    """G += g; g = 0."""
    m = integers(memory, SIZE)
    hand_over(m[G], m[GROUPS] * m[COLUMNS], G_, True)
    return 0


@lazy(SIGNATURES[RESET], **LEAN)
def reset(memory):
    """No trace."""
    m = integers(memory, SIZE)
    e = doubles(m[E], m[TRACES])
    for j in range(e.size):
        e[j] = 0.0
    return 0
