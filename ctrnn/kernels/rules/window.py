"""Truncated BPTT at run time: one row through all steps that are kept, at each loss (ctrnn.gradients.rules.window)."""

from __future__ import annotations

from ctrnn.kernels.abi import LEAN, integers
from ctrnn.kernels.lazy import lazy
from ctrnn.kernels.rules import kept as k
from ctrnn.kernels.rules.table import ADD, COLLECT, PULL, RESET, SIGNATURES, TAKE, hand_over

#: the gradient, behind the steps
G = k.SIZE
SIZE = k.SIZE + 1


@lazy(SIGNATURES[TAKE], **LEAN)
def take(memory, h, t_, r_, x_, w_):
    """A step is kept."""
    k.append(integers(memory, SIZE), h, t_, r_, x_, w_)
    return 0


@lazy(SIGNATURES[ADD], **LEAN)
def add(memory, row_):
    """g += Σ λ_j C_j over the window."""
    m = integers(memory, SIZE)
    k.pull(m, row_, m[G])
    return 0


@lazy(SIGNATURES[COLLECT], **LEAN)
def collect(memory, G_):
    """G += g; g = 0."""
    m = integers(memory, SIZE)
    hand_over(m[G], m[k.GROUPS] * m[k.COLUMNS], G_, True)
    return 0


@lazy(PULL, **LEAN)
def pull(memory, row_, G_):
    """G += Σ λ_j C_j over the window."""
    k.pull(integers(memory, SIZE), row_, G_)
    return 0


@lazy(SIGNATURES[RESET], **LEAN)
def reset(memory):
    """No step behind; the gradient stays."""
    k.clear(integers(memory, SIZE))
    return 0
