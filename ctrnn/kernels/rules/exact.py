"""Exact RTRL and truncated BPTT at run time; the mathematics is in ctrnn.gradients.rules.exact and .window.

    exact        TAKE      at the end of a block P ← Φ P + C, by n rows through it; then the step is kept
                 ADD       the loss waits at the end of its step
                 COLLECT   one row through the block for all that wait, then g += λ_0 P
    truncated    TAKE      the step is kept, the oldest goes
                 ADD       one row through all steps that are kept

Large P are divided among threads: what goes through all of it is reached by addresses, which may lead to Python.
"""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from ctrnn.kernels import carry, online
from ctrnn.kernels.abi import LEAN, OWN, call, doubles, integers
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.lazy import lazy
from ctrnn.kernels.rules import kept as k
from ctrnn.kernels.rules.table import ADD, COLLECT, PULL, RESET, SIGNATURES, TAKE, hand_over

# what is carried, behind the steps (ctrnn.kernels.rules.kept): BLAS; states of the largest part, and parts; part and
# number of each state, part of each group; P (groups, size, columns) and whether it is more than zeros; the gradient;
# λ_0 (parts, size), T (parts, size, size) and rows (n, size) with their cotangents and room; two functions
(
    DGEMM, ROWS, PARTS, OF_STATE, NUMBER, OF_GROUP, P, BEGUN, G, LEFT, T, BACK, COTANGENTS, ROOM, PRODUCT, THROUGH,
    TRANSFORM,
) = range(k.SIZE, k.SIZE + 17)  # fmt: skip
SIZE = k.SIZE + 17
#: g (groups, columns) += λ_0 P, of a memory, with what lies at LEFT; P ← T P, likewise
OF_MEMORY = types.int64(types.int64, types.int64)


@intrinsic
def _call_of_memory(typingctx, address, memory, G):
    return call(OF_MEMORY)


@lazy(OF_MEMORY, **LEAN)
def through(memory, G_):
    """g += λ_0 P of all groups."""
    m = integers(memory, SIZE)
    groups, size, columns = m[k.GROUPS], m[ROWS], m[k.COLUMNS]
    online.through(
        doubles(m[LEFT], (m[PARTS], size)), integers(m[OF_GROUP], groups), doubles(m[P], (groups, size, columns)),
        doubles(G_, (groups, columns)), 0, groups, doubles(m[PRODUCT], columns),
    )  # fmt: skip
    return 0


@lazy(OF_MEMORY, **OWN)
def transform(memory, unused):
    """P ← T P of all groups."""
    m = integers(memory, SIZE)
    groups, size = m[k.GROUPS], m[ROWS]
    carry.transform(
        m[DGEMM], doubles(m[T], (m[PARTS], size, size)), integers(m[OF_GROUP], groups),
        doubles(m[P], (groups, size, m[k.COLUMNS])), 0, groups, 0,
    )  # fmt: skip
    return 0


@njit(**LEAN)
def _left(memory, m, lam_, G_):
    """g += λ_0 P with λ_0 (n,) at an address."""
    if m[BEGUN] == 0:
        return 0
    left = doubles(m[LEFT], (m[PARTS], m[ROWS]))
    left[:, :] = 0.0
    lam, of, number = doubles(lam_, m[k.N]), integers(m[OF_STATE], m[k.N]), integers(m[NUMBER], m[k.N])
    for j in range(m[k.N]):
        left[of[j], number[j]] = lam[j]
    return _call_of_memory(m[THROUGH], memory, G_)


@njit(**LEAN)
def _pull_waiting(memory, m, G_):
    """The losses that wait, added at G_; they wait on."""
    if k.end_of_waiting(m) == m[k.FIRST]:
        return 0
    return _left(memory, m, k.pull_waiting(m, G_), G_)


@njit(**LEAN)
def _close(memory, m):
    """P ← Φ P + C over the block, which begins anew; not 0 where something failed."""
    if m[k.LAST] == m[k.FIRST]:
        return 0
    n, size = m[k.N], m[ROWS]
    status = _pull_waiting(memory, m, m[G])
    k.forget_waiting(m)
    rows, of, number = doubles(m[BACK], (n, size)), integers(m[OF_STATE], n), integers(m[NUMBER], n)
    rows[:, :] = 0.0
    for j in range(n):
        rows[j, number[j]] = 1.0
    k.back(m, m[k.LAST], False, rows, m[COTANGENTS], m[ROOM])
    if m[BEGUN] != 0:
        T_ = doubles(m[T], (m[PARTS], size, size))
        T_[:, :, :] = 0.0
        for j in range(n):
            for i in range(size):
                T_[of[j], i, number[j]] = rows[j, i]
        status |= _call_of_memory(m[TRANSFORM], memory, 0)
    k.add_parameter_part(m, m[k.LAST], size, m[COTANGENTS], m[P])
    m[BEGUN] = 1
    k.clear(m)
    return status


@lazy(SIGNATURES[TAKE], **LEAN)
def take(memory, h, t_, r_, x_, w_):
    """A step is kept; at the end of a block P ← Φ P + C before."""
    m = integers(memory, SIZE)
    status = 0
    if m[k.LAST] - m[k.FIRST] >= m[k.CAPACITY]:
        status = _close(memory, m)
    k.append(m, h, t_, r_, x_, w_)
    return status


@lazy(SIGNATURES[ADD], **LEAN)
def add(memory, row_):
    """The loss waits at the end of the last step; without one it goes through P."""
    m = integers(memory, SIZE)
    if m[k.LAST] == m[k.FIRST]:
        return _left(memory, m, row_, m[G])
    k.wait(m, row_)
    return 0


@lazy(SIGNATURES[COLLECT], **LEAN)
def peek(memory, G_):
    """G += the gradient of all losses since the last ``collect``."""
    m = integers(memory, SIZE)
    hand_over(m[G], m[k.GROUPS] * m[k.COLUMNS], G_, False)
    return _pull_waiting(memory, m, G_)


@lazy(SIGNATURES[COLLECT], **LEAN)
def collect(memory, G_):
    """The same; from here on it is 0."""
    m = integers(memory, SIZE)
    hand_over(m[G], m[k.GROUPS] * m[k.COLUMNS], G_, True)
    status = _pull_waiting(memory, m, G_)
    k.forget_waiting(m)
    return status


@lazy(SIGNATURES[RESET], **LEAN)
def reset(memory):
    """P = 0; what was seen before counts."""
    m = integers(memory, SIZE)
    status = _pull_waiting(memory, m, m[G])
    P_ = doubles(m[P], m[k.GROUPS] * m[ROWS] * m[k.COLUMNS])
    if m[BEGUN]:
        for j in range(P_.size):
            P_[j] = 0.0
    m[BEGUN] = 0
    k.clear(m)
    return status


@lazy(SIGNATURES[RESET], **LEAN)
def close(memory):
    """P ← Φ P + C, so that P is that of the present state."""
    return _close(memory, integers(memory, SIZE))


@lazy(PULL, **LEAN)
def pull(memory, row_, G_):
    """G += ∂ℓ/∂r P of one loss at the present state; nothing changes."""
    m = integers(memory, SIZE)
    return _left(memory, m, k.pull(m, row_, G_), G_)
