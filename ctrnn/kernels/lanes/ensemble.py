"""The members of an ensemble, LANES at once (ctrnn.kernels.lanes.steps).

Their steps are common, events are treated one by one.

Events are a state to save, a stop that is reached, and the end of a member, into whose lane the next one moves: all
lanes are busy until the last few members, whatever the numbers of their steps. Then the lanes run empty, and a member
with many more steps than all others takes the time of LANES for itself. Beside its steps a member costs two evaluations
of F and the copying of its parameters into the lane.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctrnn.kernels import stepper
from ctrnn.kernels.abi import LANES, LEAN, at, doubles, integers, stopped
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.ensemble import NOT_FINITE
from ctrnn.kernels.lanes import steps
from ctrnn.kernels.lanes.signals import INNER
from ctrnn.kernels.lanes.steps import NOBODY, NOW_SIZE, ROW
from ctrnn.kernels.stepper import COUNT_SIZE, euler_step, from_euler_step


class Task(NamedTuple):
    """What is common to all members, as addresses and sizes; the arrays are those of ctrnn.kernels.ensemble.Members."""

    order: int
    start: float
    stops: int  # (K,)
    breaks: int  # (K,) int64: is_break
    K: int
    save_t: int  # (T,)
    times: int
    weights: int
    starts: int
    saved: int
    status: int
    counts: int
    last: int
    first: int
    stop: int  # ctrnn.kernels.abi.STOP


@njit(**LEAN)
def solve_in_lanes(method, control, task, lanes, begin, end):
    """Members ``begin`` to ``end``."""
    fixed, estimates, s, S = control.dt > 0.0, method.e.shape[0], method.b.size, method.c.size
    checks = not fixed and s >= 3 and method.c[s - 1] == 1.0 and method.c[s - 2] == 1.0
    r_new = lanes.y + ROW * lanes.n * (s - 1 if method.fsal else s)
    member, status = integers(lanes.member, LANES), integers(lanes.status, LANES)
    if not lanes.x_varies and lanes.channels > 0:
        steps.look_up(lanes)  # whatever the times
    if not fixed:
        _first_steps(control.rtol, control.atol, task, lanes, begin, end)
    busy, coming = 0, begin
    for l in range(LANES):
        coming = _enter(l, fixed, control.min_step, task, lanes, coming, end)
        busy += int(member[l] != NOBODY)
    while busy > 0 and not stopped(task.stop):
        ended = steps.propose(control.dt, task.start, control.min_step, control.max_steps, lanes)
        if ended == 0:
            steps.begin(lanes)
            steps.stages(method.a, method.c, np.int64(1), s, np.int64(0), lanes)
            if not method.fsal:
                steps.arrive(at(method.b), s, lanes, r_new)
            if not fixed:
                steps.error(method.e, control.rtol, control.atol, lanes, r_new)
            ended = steps.judge(estimates, fixed, method.exponent, lanes, r_new)
            due = _due(lanes)
            if due > 0:
                if due > 1 and s < S:
                    steps.stages(method.a, method.c, s, S, s + 1, lanes)
                _save(method.dense, S - s, task, lanes, r_new)
            if checks:
                steps.stiffness(s, lanes)
            if steps.commit(s, method.fsal, fixed, lanes, r_new) > 0:
                ended += _land(task, lanes)
        if ended > 0:
            for l in range(LANES):
                if member[l] != NOBODY and status[l] != stepper.FULL:
                    _leave(l, task, lanes)
                    coming = _enter(l, fixed, control.min_step, task, lanes, coming, end)
                    busy -= int(member[l] == NOBODY)


@njit(**INNER)
def _load(l, b, task, lanes):
    """Parameters and start of member b into lane l."""
    w, r = doubles(lanes.w, (lanes.m, LANES)), doubles(lanes.r, (lanes.n, LANES))
    weights, start = doubles(task.weights + 8 * lanes.m * b, lanes.m), doubles(task.starts + 8 * lanes.n * b, lanes.n)
    for i in range(lanes.m):
        w[i, l] = weights[i]
    for j in range(lanes.n):
        r[j, l] = start[j]


@njit(**INNER)
def _first_steps(rtol, atol, task, lanes, begin, end):
    """The first step of each member, −1 where F is not finite at its start, and that F.

    LANES members at a time (the stepper's ``first_step``).
    """
    n, t = lanes.n, task.start
    now, member = doubles(lanes.now, (NOW_SIZE, LANES)), integers(lanes.member, LANES)
    r, k, y = doubles(lanes.r, (n, LANES)), doubles(lanes.k, (n, LANES)), doubles(lanes.y, (2, n, LANES))
    limit = doubles(task.stops, task.K)[task.K - 1] - t
    for b in range(begin, end, LANES):
        if stopped(task.stop):
            break
        for l in range(LANES):
            member[l] = min(b + l, end - 1)
            _load(l, member[l], task, lanes)
            now[steps.T, l] = now[steps.STAGE_T, l] = t
            now[steps.T_NEW, l] = np.inf
        steps.field(lanes, lanes.r, lanes.k)
        for l in range(LANES):
            d0 = 0.0
            d1 = 0.0
            for j in range(n):
                scale = _scale(rtol[j], atol[j], r[j, l], k[j, l])
                if r[j, l] != 0.0:
                    d0 += (r[j, l] / scale) ** 2
                if k[j, l] != 0.0 and scale > 0.0:
                    d1 += (k[j, l] / scale) ** 2
            d1 = np.sqrt(d1 / n)
            h0 = euler_step(np.sqrt(d0 / n), d1, limit)
            now[steps.FIVE, l], now[steps.H, l], now[steps.STAGE_T, l] = d1, h0, t + h0
            for j in range(n):
                y[0, j, l] = r[j, l] + h0 * k[j, l]
        steps.field(lanes, lanes.y, lanes.y + ROW * n)
        for l in range(min(LANES, end - b)):
            first = doubles(task.first + 8 * (n + 1) * (b + l), n + 1)
            d2 = 0.0
            finite = True
            for j in range(n):
                scale = _scale(rtol[j], atol[j], r[j, l], k[j, l])
                if y[1, j, l] != k[j, l] and scale > 0.0:
                    d2 += ((y[1, j, l] - k[j, l]) / scale) ** 2
                first[1 + j] = k[j, l]
                finite = finite and np.isfinite(k[j, l])
            h0 = now[steps.H, l]
            h = from_euler_step(h0, now[steps.FIVE, l], np.sqrt(d2 / n) / h0, task.order)
            first[0] = h if finite else -1.0


@njit(**INNER, forceinline=True)
def _scale(rtol, atol, r, k):
    return atol + rtol * max(abs(r), abs(k) * 1e-6)


@njit(**INNER)
def _enter(l, fixed, min_step, task, lanes, coming, end):
    """The next member that can begin moves into lane l, or none does; returns the one after it."""
    n, start = lanes.n, task.start
    now, count = doubles(lanes.now, (NOW_SIZE, LANES)), integers(lanes.counts, (COUNT_SIZE, LANES))
    member, status, k = integers(lanes.member, LANES), integers(lanes.status, LANES), doubles(lanes.k, (n, LANES))
    while coming < end:
        b = coming
        coming += 1
        for c in range(COUNT_SIZE):
            count[c, l] = 0
        first = doubles(task.first + 8 * (n + 1) * b, n + 1)
        h = 0.0 if fixed else first[0]
        member[l], status[l] = b, stepper.FULL if h >= 0.0 else NOT_FINITE
        now[steps.T, l], now[steps.STOP, l], now[steps.LOG_ERR, l] = start, doubles(task.stops, task.K)[0], 0.0
        now[steps.H, l] = max(h, min_step, 100.0 * (np.nextafter(abs(start), np.inf) - abs(start)))
        _load(l, b, task, lanes)
        if not fixed:
            count[stepper.EVALUATIONS, l], count[stepper.HAVE_K1, l] = 2, 1
            for j in range(n):
                k[j, l] = first[1 + j]
        if h < 0.0:
            _leave(l, task, lanes)
            continue
        if task.times > 0 and doubles(task.save_t, task.times)[0] == start:
            _keep(l, lanes.r, task, lanes)
        _next_save(l, task, lanes)
        return coming
    member[l] = NOBODY  # the lane's numbers are computed on, but reach no stop and are not saved
    now[steps.STOP, l], now[steps.SAVE, l], now[steps.H, l] = np.inf, np.nan, 0.0
    return coming


@njit(**INNER)
def _leave(l, task, lanes):
    """The member in lane l has come to its end, good or bad."""
    b, status = integers(lanes.member, LANES)[l], integers(lanes.status, LANES)[l]
    now, count = doubles(lanes.now, (NOW_SIZE, LANES)), integers(lanes.counts, (COUNT_SIZE, LANES))
    integers(task.status, b + 1)[b] = status
    last, counts = doubles(task.last + 16 * b, 2), integers(task.counts + 8 * COUNT_SIZE * b, COUNT_SIZE)
    last[0], last[1] = now[steps.T, l], now[steps.H, l]
    for c in range(COUNT_SIZE):
        counts[c] = count[c, l]
    if status != stepper.DONE:
        size = task.times * lanes.n
        saved = doubles(task.saved + 8 * size * b, size)
        for q in range(size):
            saved[q] = np.nan


@njit(**INNER)
def _land(task, lanes):
    """The next stop of the lanes that have reached theirs; returns how many were at the last."""
    now, count = doubles(lanes.now, (NOW_SIZE, LANES)), integers(lanes.counts, (COUNT_SIZE, LANES))
    member, status = integers(lanes.member, LANES), integers(lanes.status, LANES)
    stops, breaks = doubles(task.stops, task.K), integers(task.breaks, task.K)
    done = 0
    for l in range(LANES):
        if member[l] != NOBODY and now[steps.ACCEPTED, l] == 1.0 and now[steps.LANDS, l] == 1.0:
            here = count[stepper.NEXT_STOP, l]
            if breaks[here] == 1:
                count[stepper.HAVE_K1, l] = 0
            count[stepper.NEXT_STOP, l] = here + 1
            if here + 1 == task.K:
                status[l] = stepper.DONE
                done += 1
            else:
                now[steps.STOP, l] = stops[here + 1]
    return done


@njit(**INNER)
def _due(lanes):
    """Whether some lane's accepted step reaches a time to be saved: 0 none, 1 at its end, 2 within it."""
    now = doubles(lanes.now, (NOW_SIZE, LANES))
    due = 0
    for l in range(lanes.L):
        reached = int(now[steps.ACCEPTED, l] == 1.0) & int(now[steps.SAVE, l] <= now[steps.T_NEW, l])
        due = max(due, reached + (reached & int(now[steps.SAVE, l] < now[steps.T_NEW, l])))
    return due


@njit(**INNER)
def _next_save(l, task, lanes):
    now, saved = doubles(lanes.now, (NOW_SIZE, LANES)), integers(lanes.counts, (COUNT_SIZE, LANES))[stepper.SAVED, l]
    now[steps.SAVE, l] = doubles(task.save_t, task.times)[saved] if saved < task.times else np.nan


@njit(**INNER)
def _keep(l, state, task, lanes):
    """A state (n, L) at an address is what lane l wants saved next; returns the address where it went."""
    count, state = integers(lanes.counts, (COUNT_SIZE, LANES)), doubles(state, (lanes.n, LANES))
    b, slot = integers(lanes.member, LANES)[l], count[stepper.SAVED, l]
    address = task.saved + 8 * lanes.n * (task.times * b + slot)
    to = doubles(address, lanes.n)
    for j in range(lanes.n):
        to[j] = state[j, l]
    count[stepper.SAVED, l] = slot + 1
    return address


@njit(**INNER)
def _save(dense, more, task, lanes, r_new):
    """States at the wanted times up to T_NEW, of the lanes whose step is accepted, by dense output."""
    now, count = doubles(lanes.now, (NOW_SIZE, LANES)), integers(lanes.counts, (COUNT_SIZE, LANES))
    k = doubles(lanes.k, (dense.shape[0], lanes.n, LANES))
    for l in range(LANES):
        t, h, t_new = now[steps.T, l], now[steps.STEP, l], now[steps.T_NEW, l]
        if now[steps.ACCEPTED, l] != 1.0 or not now[steps.SAVE, l] <= t_new:
            continue
        if now[steps.SAVE, l] < t_new:
            count[stepper.EVALUATIONS, l] += more
        while now[steps.SAVE, l] < t_new:
            theta = (now[steps.SAVE, l] - t) / h
            to = doubles(_keep(l, lanes.r, task, lanes), lanes.n)
            for i in range(dense.shape[0]):
                w = 0.0
                for d in range(dense.shape[1] - 1, -1, -1):
                    w = (w + dense[i, d]) * theta
                for j in range(lanes.n):
                    to[j] += h * w * k[i, j, l]
            _next_save(l, task, lanes)
        if now[steps.SAVE, l] == t_new:
            _keep(l, r_new, task, lanes)
            _next_save(l, task, lanes)
