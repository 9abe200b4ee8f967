"""Traces at run time, of steps r⁺ = r + h b F(r) with one explicit stage (ctrnn.gradients.rules.traces).

    e ← Φ_kk e + C_k        Φ = 1 + h b J, C = h b F_w; J, or its part LEAK, is made once, O(n²)

All of C comes back by one row for each colour of the states. Traces lie in runs: of one run the parameters and the
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
    copy,
    doubles,
    integers,
)
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.lazy import lazy
from ctrnn.kernels.products import FAST
from ctrnn.kernels.rules.table import ADD, COLLECT, PULL, RESET, SIGNATURES, TAKE, hand_over

# what is carried: the field's table and ctx; sizes; colours, and states of the largest set; b of the only stage (an
# address); whether LEAK stands for J; rows of the colours (n, colours); runs; traces e (size, traces); the gradient;
# room for C (groups, colours, columns), J (n, n), rows (n, colours) and one time
(
    TABLE, CTX, N, GROUPS, COLUMNS, COLOURS, STATES, B, BY_LEAK, ROWS, COUNT, RUNS, TRACES, E, G, C, J, K, OLD, SIZE,
) = range(20)  # fmt: skip

# a run: its first trace, how many there are, the first one's entry of G (groups, columns); then for each state of the
# set its number (−1: none), and the first trace's entry of C (−1: the parameters do not act on the state directly)
FIRST, LENGTH, ENTRY, HEAD = range(4)


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


@lazy(SIGNATURES[TAKE], **LEAN)
def take(memory, h, t_, r_, x_, w_):
    """Each trace by its block of Φ, and what the step adds."""
    m = integers(memory, SIZE)
    n, colours, size, traces = m[N], m[COLOURS], m[STATES], m[TRACES]
    table, ctx = integers(m[TABLE], SLOTS), integers(m[CTX], EXTRA)
    hb = h * doubles(m[B], 1)[0]
    call_f(table[LEAK if m[BY_LEAK] else JACOBIAN], m[CTX], doubles(t_, 1)[0], r_, w_, x_, m[J])
    J_ = doubles(m[J], (n, n))
    rows, K_ = doubles(m[ROWS], n * colours), doubles(m[K], n * colours)
    for j in range(n * colours):
        K_[j] = hb * rows[j]
    C_ = doubles(m[C], m[GROUPS] * colours * m[COLUMNS])
    for j in range(C_.size):
        C_[j] = 0.0
    ctx[G_STRIDE] = 0
    call_accumulate(table[ACCUMULATE], m[CTX], 1, colours, t_, r_, w_, x_, m[K], m[C])
    if size > 1:
        copy(doubles(m[E], size * traces), doubles(m[OLD], size * traces))
    runs = integers(m[RUNS], (m[COUNT], HEAD + 2 * size))
    for i in range(m[COUNT]):
        run = runs[i]
        first, length = run[FIRST], run[LENGTH]
        for a in range(size):
            state, at = run[HEAD + a], run[HEAD + size + a]
            if state < 0:
                continue
            to, phi = doubles(m[E] + 8 * (a * traces + first), length), 1.0 + hb * J_[state, state]
            if at >= 0:
                _onto(phi, doubles(m[C] + 8 * at, length), to)
            else:
                for j in range(length):
                    to[j] *= phi
            for b in range(size):
                other = run[HEAD + b]
                if b != a and other >= 0:
                    _plus(hb * J_[state, other], doubles(m[OLD] + 8 * (b * traces + first), length), to)
    return 0


@njit(**LEAN)
def _pull(m, row_, G_):
    size, traces = m[STATES], m[TRACES]
    row = doubles(row_, m[N])
    runs = integers(m[RUNS], (m[COUNT], HEAD + 2 * size))
    for i in range(m[COUNT]):
        run = runs[i]
        to = doubles(G_ + 8 * run[ENTRY], run[LENGTH])
        for a in range(size):
            if run[HEAD + a] >= 0:
                _plus(row[run[HEAD + a]], doubles(m[E] + 8 * (a * traces + run[FIRST]), run[LENGTH]), to)


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
    e = doubles(m[E], m[STATES] * m[TRACES])
    for j in range(e.size):
        e[j] = 0.0
    return 0
