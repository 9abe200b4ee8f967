"""Many steps of a learner: step, rule, loss and update, without a return to Python between them.

    each step     r_b⁺ of each lane b (ctrnn.kernels.online);  TAKE
    with a loss   ℓ_b, ∂ℓ_b/∂r_b, ∂ℓ_b/∂(V, c);  ADD
    when due      g = Σ_b COLLECT;  w ← update(w, g) (ctrnn.kernels.rules.updates)

Rules and losses are functions at addresses (ctrnn.kernels.rules.table); behind one may be Python. An update that is not
compiled ends the call, and so does what fails. The loop allocates nothing. The weights of the steps that a rule looks
back on stay in a ring of rows; a step never changes those that it was taken with.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from ctrnn.kernels import online
from ctrnn.kernels.abi import INLINE, LEAN, System, at, call, copy, doubles
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.rules import updates
from ctrnn.kernels.rules.table import ADD, COLLECT, TAKE, call_take, call_with

#: how a call ended: all steps are done; an update is due that is not made here; a state, a loss, a gradient is not
#: finite; a function failed, in Python, and its error waits
DONE, DUE, DIVERGED, LOSS_NOT_FINITE, GRADIENT_NOT_FINITE, FAILED = range(6)

#: counts: steps, updates, whether the last step ended with an update, losses since it, losses since the last row of a
#: table; the ring's row, and whether a step was taken with it
STEPS, UPDATES, UPDATED, WAITING, SINCE, ROW, USED = range(7)
#: sums of losses: since the last update, since the last row, of the last step
LOSS, LOSS_SINCE, LOSS_NOW = range(3)
#: what is to be done at a step: whether a loss counts, whether an update is due
COUNTS, IS_DUE = range(2)

LOSS_SIGNATURE = types.void(types.int64, types.int64, types.int64, types.int64, types.int64)


@intrinsic
def _call_loss(typingctx, address, ctx, r, s, out, unused):
    return call(LOSS_SIGNATURE)


class Run(NamedTuple):
    """The lanes as they are."""

    r: np.ndarray  # (B, n)
    new: np.ndarray  # (B, n): room
    stage_r: np.ndarray  # (B, 1, s, n)
    stage_x: np.ndarray  # (B, 1, s, channels)
    k: np.ndarray  # (s, n): room
    times: np.ndarray  # (s,)
    counts: np.ndarray  # int64
    sums: np.ndarray
    slots: np.ndarray  # (B, 4) int64
    memories: np.ndarray  # (B,) int64


class Losses(NamedTuple):
    """What is seen of a moment (ctrnn.gradients.continuous.integral)."""

    address: int
    ctx: int
    out: np.ndarray  # (1 + n + readout,): aℓ and its derivatives
    l_r: np.ndarray  # (B, n)
    readout: np.ndarray  # (readout,): ∂ℓ/∂(V, c) since the last update
    seen: np.ndarray  # (readout,): of the last step
    feedback: np.ndarray  # (p, n), or (0, n)


class Learned(NamedTuple):
    """The weights, and how they move."""

    kind: int  # of the update
    settings: np.ndarray  # (pieces, SETTINGS)
    places: np.ndarray  # (pieces, PLACES) int64
    clip: float  # the longest gradient, 0: any
    m: int  # parameters of the field
    flat: np.ndarray  # (m + readout,)
    gradient: np.ndarray  # (m + readout,)
    bounded: np.ndarray  # int64
    low: np.ndarray
    high: np.ndarray
    G: np.ndarray  # (groups columns,): room
    found: np.ndarray  # (runs, 3) int64: of G to gradient
    shared: np.ndarray  # (runs, 3) int64: likewise, of parameters in several places, whose parts are added
    made: np.ndarray  # (runs, 3) int64: of flat to the kernels' weights
    ring: np.ndarray  # (rows, weights); what does not move is in all rows


@njit(**LEAN)
def learn(system, a, b, c, h, t0, x, s, todo, run, losses, learned):
    """Steps with the inputs x (T, B, channels), targets and weights s (T, B, ·); todo (T, 2) int64.

    Returns how it ended; counts[STEPS] says how many steps were done.
    """
    B, n = run.r.shape
    counts, sums = run.counts, run.sums
    size = learned.ring.shape[1]
    for j in range(len(todo)):
        if counts[UPDATED]:
            counts[UPDATED], counts[WAITING], sums[LOSS] = 0, 0, 0.0
        t = t0 + counts[STEPS] * h
        for i in range(run.times.size):
            run.times[i] = t + c[i] * h
        w = at(learned.ring) + 8 * counts[ROW] * size
        now = System(system.table, system.ctx, doubles(w, size), system.code, system.data, system.signal)
        copy(doubles(at(run.r), B * n), doubles(at(run.new), B * n))
        if not online.advance(now, a, b, run.times, h, x[j], run.new, run.stage_r, run.stage_x, run.k):
            return DIVERGED
        copy(doubles(at(run.new), B * n), doubles(at(run.r), B * n))
        counts[STEPS] += 1
        counts[USED] = 1
        sums[LOSS_NOW] = 0.0
        for lane in range(B):
            if call_take(
                run.slots[lane, TAKE], run.memories[lane], h, at(run.times), at(run.stage_r[lane]),
                at(run.stage_x[lane]), w,
            ):  # fmt: skip
                return FAILED
        if todo[j, COUNTS]:
            if not _observe(losses, run.r, s[j], sums):
                return LOSS_NOT_FINITE
            for lane in range(B):
                if call_with(run.slots[lane, ADD], run.memories[lane], at(losses.l_r[lane])):
                    return FAILED
            for i in range(losses.readout.size):
                losses.readout[i] += losses.seen[i]
            sums[LOSS] += sums[LOSS_NOW]
            sums[LOSS_SINCE] += sums[LOSS_NOW]
            counts[WAITING] += 1
            counts[SINCE] += 1
        if todo[j, IS_DUE]:
            if learned.kind == updates.ELSEWHERE:
                return DUE
            status = move(run, losses, learned)
            if status != DONE:
                return status
    return DONE


@njit(**LEAN)
def _observe(losses, r, s, sums):
    """The loss of each lane and what follows from it; False where it is not finite."""
    B, n = r.shape
    out, p = losses.out, losses.feedback.shape[0]
    size, total = losses.readout.size, 0.0
    for i in range(size):
        losses.seen[i] = 0.0
    for lane in range(B):
        _call_loss(losses.address, losses.ctx, at(r[lane]), at(s[lane]), at(out), 0)
        for i in range(out.size):
            if not np.isfinite(out[i]):
                return False
        row = losses.l_r[lane]
        for j in range(n):
            row[j] = out[1 + j]
        if p > 0:
            for j in range(n):
                row[j] = 0.0
            for i in range(p):
                for j in range(n):
                    row[j] += out[out.size - p + i] * losses.feedback[i, j]
        for i in range(size):
            losses.seen[i] += out[1 + n + i]
        total += out[0]
    sums[LOSS_NOW] = total
    return True


@njit(**INLINE)
def _add(values, to):
    for j in range(values.size):
        to[j] += values[j]


@njit(**LEAN)
def gather(run, losses, learned):
    """The gradient since the last update, into ``gradient``; from here on it is 0."""
    G, gradient = learned.G, learned.gradient
    for j in range(G.size):
        G[j] = 0.0
    for lane in range(len(run.r)):
        if call_with(run.slots[lane, COLLECT], run.memories[lane], at(G)):
            return FAILED
    if len(learned.shared):  # else all are found
        for j in range(learned.m):
            gradient[j] = 0.0
    for run_of in learned.found:
        copy(doubles(at(G) + 8 * run_of[0], run_of[2]), doubles(at(gradient) + 8 * run_of[1], run_of[2]))
    for run_of in learned.shared:
        _add(doubles(at(G) + 8 * run_of[0], run_of[2]), doubles(at(gradient) + 8 * run_of[1], run_of[2]))
    for i in range(losses.readout.size):
        gradient[learned.m + i] = losses.readout[i]
        losses.readout[i] = 0.0
    run.counts[UPDATED] = 1
    return DONE


@njit(**LEAN)
def move(run, losses, learned):
    """One update along the gradient since the last one; where it is not finite, the weights stay."""
    status = gather(run, losses, learned)
    if status != DONE:
        return status
    scale = updates.scale(learned.gradient, learned.clip)
    if not np.isfinite(scale):
        return GRADIENT_NOT_FINITE
    updates.update(learned.kind, learned.flat, learned.gradient, scale, learned.settings, learned.places)
    settle(run.counts, learned)
    return DONE


@njit(**LEAN)
def settle(counts, learned):
    """After an update: numbers within their bounds, and the kernels' weights in a row that no step was taken with."""
    for i in range(learned.bounded.size):
        j = learned.bounded[i]
        learned.flat[j] = min(max(learned.flat[j], learned.low[i]), learned.high[i])
    refresh(counts, learned)
    counts[UPDATES] += 1


@njit(**LEAN)
def refresh(counts, learned):
    """The kernels' weights from the flat vector."""
    if counts[USED]:
        counts[ROW], counts[USED] = (counts[ROW] + 1) % len(learned.ring), 0
    w = learned.ring[counts[ROW]]
    for run_of in learned.made:
        copy(doubles(at(learned.flat) + 8 * run_of[0], run_of[2]), doubles(at(w) + 8 * run_of[1], run_of[2]))
