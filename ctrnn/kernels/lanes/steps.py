"""The explicit step of ctrnn.kernels.stepper for L = LANES members of an ensemble side by side.

Each has a time t and a step h of its own.

    r_i = r + h Σ_{j<i} a_ij k_j,   k_i = F(t + c_i h, r_i, w, x),   r⁺ = r + h Σ_i b_i k_i

with err and the next h as there, forwards in time.

Layout: the lane is the last index of everything, r (n, L), k (S, n, L), w (m, L), x (channels, L), so that each loop
over lanes is a few vector instructions, and what a lane decides (accept or reject, land on a stop, the next h) is a
choice between numbers, not a branch. Both numbers are read first: a read that is only sometimes needed would be a
branch again.

Flops of a step a member: 2 n for each a_ij, b_i, e_i that is not 0 (168 for three units and Tsit5) and some 100 for the
control, most of them in an exp and a log; the rest is F. L is a multiple of what loops over lanes are unrolled to on
any machine: no lane is left to a remainder of a loop, all do the same arithmetic, and what a member gives does not
depend on its lane.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ctrnn.kernels import elementwise, stepper
from ctrnn.kernels.abi import LANES, at, call_in_lanes, doubles, integers
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.elementwise import _bits, _float
from ctrnn.kernels.lanes.signals import INNER, evaluate_in_lanes
from ctrnn.kernels.stepper import COUNT_SIZE, FULL, HAVE_K1, REJECTED, STEPS
from ctrnn.kernels.vectors import row_step, row_sum

#: no member in the lane
NOBODY = -1
# rows of ``now``: numbers of each lane. T, H: where it is, and the step it wishes for; STEP: the one under way, to
# T_NEW; STOP, SAVE: the next of each; LOG_ERR: of the last step that was accepted; DISTANCE, FIVE, THREE: d, and the
# sums of the error norm
(
    T, H, STEP, T_NEW, STOP, SAVE, SMALLEST, LANDS, ON_GRID, ERR, LOG_ERR, ACCEPTED, STAGE_T, LOOKUP, CHOICE, DISTANCE,
    FIVE, THREE, NOW_SIZE,
) = range(19)  # fmt: skip
#: of the least err that the control remembers
LOG_LEAST = math.log(1e-4)
#: bytes of a row of lanes
ROW = 8 * LANES
#: a·b + c may be one operation, as in the loops over units
FUSED = INNER | {"fastmath": {"contract"}}


class Lanes(NamedTuple):
    """The members under way, and working space: addresses and sizes.

    (Thirteen arrays would be a hundred arguments of each function.)
    """

    # LANES; as the compiler does not know it, it makes short loops of vector instructions and does not write them out
    L: int
    n: int
    m: int
    channels: int
    member: int  # (L,) int64: which, or NOBODY
    status: int  # (L,) int64: what advance of the stepper would return after one step, FULL where it can go on
    counts: int  # (COUNT_SIZE, L) int64, as in the stepper
    now: int  # (NOW_SIZE, L)
    w: int  # (m, L)
    r: int  # (n, L)
    k: int  # (S, n, L)
    y: int  # (s + 2, n, L): the stages, r⁺ where no stage is r⁺, and a row for the extra stages
    x: int  # (channels, L)
    x_varies: int
    x_one: int  # (work_size,)
    work: int  # (work_size, L) for the input's program, whose code (rows, 5) and data follow
    work_size: int
    code: int
    rows: int
    data: int
    data_size: int
    field: int  # IN_LANES, and its ctx
    ctx: int


@njit(**INNER)
def look_up(lanes):
    """x at the stage's times, looked up strictly within the step, as in the stepper."""
    now, member = doubles(lanes.now, (NOW_SIZE, LANES)), integers(lanes.member, LANES)
    for l in range(LANES):
        within = min(max(now[STAGE_T, l], now[T, l]), np.nextafter(now[T_NEW, l], -np.inf))
        now[LOOKUP, l] = within if member[l] != NOBODY else np.nan
    t, lookup = lanes.now + ROW * STAGE_T, lanes.now + ROW * LOOKUP
    evaluate_in_lanes(
        lanes.rows, lanes.code, lanes.data, lanes.data_size, t, lookup, lanes.work, lanes.work_size, lanes.x_one,
        lanes.x, lanes.channels,
    )  # fmt: skip


@njit(**INNER)
def field(lanes, y, out):
    """out = F of y at the stage's times (addresses)."""
    if lanes.x_varies:
        look_up(lanes)
    call_in_lanes(lanes.field, lanes.ctx, lanes.L, lanes.now + ROW * STAGE_T, y, lanes.w, lanes.x, out)


@njit(**INNER, forceinline=True)
def _spacing(t):
    """From |t| to the next float64."""
    return _float(_bits(abs(t)) + 1) - abs(t)


@njit(**INNER)
def propose(dt, start, min_step, max_steps, lanes):
    """The step of each lane: STEP, T_NEW, and whether it LANDS on its stop.

    Returns how many cannot take theirs; ``status`` says why.
    """
    now, count = doubles(lanes.now, (NOW_SIZE, LANES)), integers(lanes.counts, (COUNT_SIZE, LANES))
    member, status = integers(lanes.member, LANES), integers(lanes.status, LANES)
    if dt > 0.0:
        for l in range(lanes.L):
            t, stop = now[T, l], now[STOP, l]
            t_new = start + dt * (count[stepper.GRID, l] + 1)
            slack = max(1e-9 * dt, 4.0 * _spacing(stop))
            now[ON_GRID, l] = 1.0 if t_new - stop <= slack else 0.0
            lands = stop - t_new <= slack
            now[LANDS, l] = 1.0 if lands else 0.0
            t_new = stop if lands else t_new
            now[T_NEW, l], now[STEP, l] = t_new, t_new - t
    else:
        for l in range(lanes.L):
            t, h, stop = now[T, l], now[H, l], now[STOP, l]
            lands = stop - t <= h * (1.0 + 1e-9)
            t_new = stop if lands else t + h
            now[LANDS, l] = 1.0 if lands else 0.0
            now[T_NEW, l], now[STEP, l] = t_new, t_new - t
            smallest = max(min_step, 8.0 * _spacing(t))
            now[SMALLEST, l] = smallest
            status[l] = stepper.UNDERFLOW if (t_new - t < smallest) & ((not lands) | (h < smallest)) else FULL
    stuck = 0
    for l in range(lanes.L):
        code = status[l]
        code = stepper.TOO_MANY if count[STEPS, l] + count[REJECTED, l] >= max_steps else code
        status[l] = code
        stuck += int(code != FULL) & int(member[l] != NOBODY)
    return stuck


@njit(**INNER)
def begin(lanes):
    """k_1 of the lanes that do not have it.

    After a jump of the input, and after every step of a method whose last stage is not the next one's first.
    """
    now, count = doubles(lanes.now, (NOW_SIZE, LANES)), integers(lanes.counts, (COUNT_SIZE, LANES))
    lacking = 0
    for l in range(lanes.L):
        lacks = 1 - count[HAVE_K1, l]
        lacking += lacks
        now[CHOICE, l], now[STAGE_T, l] = 1.0 if lacks == 1 else 0.0, now[T, l]
    if lacking > 0:
        field(lanes, lanes.r, lanes.y)
        _choose(lanes, CHOICE, lanes.y, lanes.k)
        for l in range(lanes.L):
            count[stepper.EVALUATIONS, l] += 1 - count[HAVE_K1, l]
            count[HAVE_K1, l] = 1


@njit(**INNER)
def _choose(lanes, row, new, out):
    """out (n, L) = new (addresses) where the lane has a 1 in that row."""
    new, out = doubles(new, (lanes.n, LANES)), doubles(out, (lanes.n, LANES))
    now = doubles(lanes.now, (NOW_SIZE, LANES))
    for j in range(lanes.n):
        for l in range(lanes.L):
            a, b = new[j, l], out[j, l]
            out[j, l] = a if now[row, l] == 1.0 else b


@njit(**INNER)
def arrive(c, count, lanes, y):
    """y = r + h Σ_{i<count} c_i k_i, the sum taken first; c and y are addresses."""
    for j in range(lanes.n):
        at_j = ROW * j
        h = lanes.now + ROW * STEP
        row_step(count, c, lanes.k + at_j, lanes.n * LANES, h, lanes.r + at_j, y + at_j)


@njit(**INNER)
def stages(a, c, first, last, row, lanes):
    """k_i for first ≤ i < last, their states in rows i of y, or all in row ``row`` where that is not 0."""
    now, size = doubles(lanes.now, (NOW_SIZE, LANES)), ROW * lanes.n
    for i in range(first, last):
        y = lanes.y + size * (i if row == 0 else row)
        arrive(at(a[i]), i, lanes, y)
        for l in range(lanes.L):
            t, t_new, h = now[T, l], now[T_NEW, l], now[STEP, l]
            now[STAGE_T, l] = t_new if c[i] == 1.0 else t + c[i] * h
        field(lanes, y, lanes.k + size * i)


@njit(**FUSED)
def error(e, rtol, atol, lanes, end):
    """FIVE and THREE: Σ_j (h d_j / scale_j)², d = Σ_i e_i k_i, for each row of e; r⁺ lies at ``end``."""
    now = doubles(lanes.now, (NOW_SIZE, LANES))
    r, r_new = doubles(lanes.r, (lanes.n, LANES)), doubles(end, (lanes.n, LANES))
    for estimate in range(e.shape[0]):
        total = doubles(lanes.now + ROW * (FIVE + estimate), LANES)
        for l in range(lanes.L):
            total[l] = 0.0
        for j in range(lanes.n):
            row_sum(e.shape[1], at(e[estimate]), lanes.k + ROW * j, lanes.n * LANES, lanes.now + ROW * DISTANCE)
            for l in range(lanes.L):
                d = now[DISTANCE, l]
                q = now[STEP, l] * d / (atol[j] + rtol[j] * max(abs(r[j, l]), abs(r_new[j, l])))
                # 0/0 is a component that needs no accuracy and makes no error
                total[l] += q * q if d != 0.0 else 0.0


@njit(**INNER, forceinline=True, fastmath={"contract"})
def _exp(x):
    return elementwise.exp(x)


@njit(**INNER, forceinline=True, fastmath={"contract"})
def _log(x):
    return elementwise.log(x)


@njit(**FUSED)
def judge(estimates, fixed, power, lanes, end):
    """ERR, and with it whether the step is ACCEPTED and what H comes next.

    Returns how many lanes diverged (``status``).
    """
    n = lanes.n
    now, r_new = doubles(lanes.now, (NOW_SIZE, LANES)), doubles(end, (n, LANES))
    member, status = integers(lanes.member, LANES), integers(lanes.status, LANES)
    for l in range(lanes.L):
        five, three = now[FIVE, l], now[THREE, l]
        one = math.sqrt(five / n)
        two = five / math.sqrt((five + 0.01 * three) * n) if five > 0.0 else one
        err = one if estimates == 1 else two
        now[ERR, l] = 0.0 if fixed else err
    for j in range(n):
        for l in range(lanes.L):
            now[ERR, l] += 0.0 * r_new[j, l]  # NaN where r⁺ is not finite
    lost = 0
    for l in range(lanes.L):
        err, h, lands = now[ERR, l], now[STEP, l], now[LANDS, l] == 1.0
        wished, log_before, smallest = now[H, l], now[LOG_ERR, l], now[SMALLEST, l]
        good, finite = err <= 1.0, err < math.inf
        log_err = _log(err if err > 1e-10 else 1e-10)
        factor = 0.9 * _exp(power * (0.4 * log_before - 0.7 * log_err) if good else -power * log_err)
        wish = h * min(10.0, max(0.2, factor))
        # a step cut short by a stop says little about the step size that would have been right
        wish = max(wish, wished) if good & lands & (factor >= 1.0) else wish
        now[H, l] = wish if finite else 0.1 * h
        now[LOG_ERR, l] = max(log_err, LOG_LEAST) if good else log_before
        now[ACCEPTED, l] = 1.0 if good else 0.0
        diverged = (not finite) & (fixed | (0.1 * h < smallest)) & (member[l] != NOBODY)
        status[l] = stepper.DIVERGED if diverged else FULL
        lost += int(diverged)
    return lost


@njit(**INNER)
def stiffness(s, lanes):
    """The stepper's count of steps on which |hλ| leaves the stability region."""
    now, count = doubles(lanes.now, (NOW_SIZE, LANES)), integers(lanes.counts, (COUNT_SIZE, LANES))
    behind = ROW * lanes.n * (s - 2)
    k, y = doubles(lanes.k + behind, (2, lanes.n, LANES)), doubles(lanes.y + behind, (2, lanes.n, LANES))
    limit = 6.1 if s > 8 else 3.25
    for l in range(lanes.L):
        now[FIVE, l] = now[THREE, l] = 0.0
    for j in range(lanes.n):
        for l in range(lanes.L):
            now[FIVE, l] += (now[STEP, l] * (k[1, j, l] - k[0, j, l])) ** 2
            now[THREE, l] += (y[1, j, l] - y[0, j, l]) ** 2
    for l in range(lanes.L):
        up, down, accepted = now[FIVE, l], now[THREE, l], now[ACCEPTED, l] == 1.0
        hit = (down > 0.0) & (up > limit * limit * down)
        calm_before, hits_before = count[stepper.NONSTIFF, l], count[stepper.STIFF_HITS, l]
        calm = 0 if hit else calm_before + 1
        hits = hits_before + 1 if hit else (0 if calm >= 6 else hits_before)
        count[stepper.NONSTIFF, l] = calm if accepted else calm_before
        count[stepper.STIFF_HITS, l] = hits if accepted else hits_before
        count[stepper.STIFF, l] |= int(accepted) & int(hits >= 15)


@njit(**INNER)
def commit(s, fsal, fixed, lanes, end):
    """The accepted lanes move on to T_NEW. Returns how many land on their stop."""
    now, count = doubles(lanes.now, (NOW_SIZE, LANES)), integers(lanes.counts, (COUNT_SIZE, LANES))
    landed, again, retry = 0, int(fsal), int(not fixed)
    for l in range(lanes.L):
        accepted, t, t_new = now[ACCEPTED, l] == 1.0, now[T, l], now[T_NEW, l]
        now[T, l] = t_new if accepted else t
        count[STEPS, l] += int(accepted)
        count[REJECTED, l] += retry & int(not accepted)
        count[stepper.EVALUATIONS, l] += s - 1
        count[stepper.GRID, l] += int(accepted) & int(now[ON_GRID, l] == 1.0)
        count[HAVE_K1, l] = again | int(not accepted)
        landed += int(accepted) & int(now[LANDS, l] == 1.0)
    _choose(lanes, ACCEPTED, end, lanes.r)
    if fsal:
        _choose(lanes, ACCEPTED, lanes.k + ROW * lanes.n * (s - 1), lanes.k)
    return landed
