"""One Runge–Kutta stepper for every field, tableau and step control.

    r_i = r + h Σ_{j<i} a_ij k_j,   k_i = F(t + c_i h, r_i),   r⁺ = r + h Σ_i b_i k_i

Error and step size: with e = b − b̂, err = ‖h Σ e_i k_i / (atol + rtol max(|r|, |r⁺|))‖ (root mean square; the largest
over groups of components where there are several), and the PI controller h ← h · 0.9 · err^(−0.7/q) err_before^(0.4/q),
with q the order of the error estimate plus one (Gustafsson 1991; Hairer, Nørsett & Wanner 1993, II.4 and IV.2).
Dense output: r(t + θh) = r + h Σ_i k_i Σ_d dense_id θ^(d+1). Where a_ii ≠ 0 the stage is implicit and Newton's
(ctrnn.kernels.implicit).

``advance`` runs until it has taken a block of steps or the last stop is reached, and can be called again: everything
that it has to remember is in ``clock``, ``count``, ``r`` and ``k``. It steps onto each stop. An input may jump there,
so every x inside a step is looked up strictly within the step: from the left at its later end, from the right at its
earlier one.
"""

from __future__ import annotations

import numpy as np

from ctrnn.kernels.abi import LEAN, F, at, call_f, copy
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.implicit import CONVERGED, FRESH, call_prepare, call_stage, forget
from ctrnn.kernels.run import Control, Method, Record, pack
from ctrnn.kernels.signals import call_signal
from ctrnn.kernels.staggered import call_accept, call_step

__all__ = ["Control", "Method", "Record", "advance", "field_at", "first_step"]

# What advance returns.
DONE, FULL, UNDERFLOW, DIVERGED, TOO_MANY, STUCK = range(6)

# clock: float64 state of the integration
T, H, ERR_BEFORE, START, CLOCK_SIZE = 0, 1, 2, 3, 4
# count: int64 state of the integration
STEPS, REJECTED, EVALUATIONS, NEXT_STOP, GRID, HAVE_K1, STIFF, STIFF_HITS, NONSTIFF, SAVED, RECORDED, COUNT_SIZE = (
    range(12)
)


@njit(inline="always")
def _look_up(system, t, lookup, work, x):
    """x(t), by the piece of the time ``lookup``."""
    if system.signal != 0:
        call_signal(system.signal, system.code.shape[0], at(system.code), at(system.data), t, lookup, at(work), at(x))


@njit(cache=True, nogil=True, error_model="numpy")
def field_at(system, t, lookup, r, work, x, out):
    """out = F(t, r, w, x(t)), with the piece of x(t) chosen at the time ``lookup``."""
    _look_up(system, t, lookup, work, x)
    call_f(system.table[F], at(system.ctx), t, at(r), at(system.w), at(x), at(out))


@njit(inline="always")
def _arrive(system, method, control, i, t, h, t_new, r, k, y, x, work, x_is_known):
    """y = r + h Σ_{j<i} a_ij k_j and, unless it is known, x at stage i; returns its time."""
    n = r.size
    for j in range(n):
        y[j] = r[j]
    for l in range(i):
        w = h * method.a[i, l]
        if w != 0.0:
            for j in range(n):
                y[j] += w * k[l, j]
    c = method.c[i]
    ti = t_new if c == 1.0 else (t if c == 0.0 else t + c * h)
    if x.size > 0 and not x_is_known:
        low, high = min(t, t_new), max(t, t_new)
        lookup = min(max(ti, low), np.nextafter(high, low))
        _look_up(system, ti, lookup, work, x)
        if control.step_channel >= 0:
            x[control.step_channel] = h
    return ti


@njit(inline="always")
def _stages(system, method, newton, control, run, count, t, h, t_new, r, k, y, x, work, known, stage_t):
    """All stages of a step, and its end r⁺ in ``known`` (n,); stage_t (s,) or (0,) receives their times.

    Returns Newton's status.
    """
    n, s = r.size, method.b.size
    first = 0
    if count[HAVE_K1] == 1:
        first = 1
        for j in range(n):
            y[0, j] = r[j]
    if stage_t.size > 0:
        stage_t[0] = t
    for i in range(first, s):
        if i == 1 and method.gamma > 0.0:
            status = call_prepare(newton.prepare, run, t, at(r), at(x), h * method.gamma)
            if status != CONVERGED:
                return status
        yi, xi = y[i], x[i]
        same_time = i > 0 and method.c[i] == method.c[i - 1]
        if same_time:
            copy(x[i - 1], xi)
        ti = _arrive(system, method, control, i, t, h, t_new, r, k, yi, xi, work, same_time)
        if i < stage_t.size:
            stage_t[i] = ti
        if method.a[i, i] == 0.0:
            call_f(system.table[F], at(system.ctx), ti, at(yi), at(system.w), at(xi), at(k[i]))
            count[EVALUATIONS] += 1
        else:
            hg = h * method.a[i, i]
            copy(yi, known)
            for l in range(i):
                w = hg * method.guess[i, l]
                if w != 0.0:
                    for j in range(n):
                        yi[j] += w * k[l, j]
            status = call_stage(newton.stage, run, ti, hg, at(known), at(yi), at(k[i]), at(xi))
            if status != CONVERGED and (ti - t_new) * h > 0.0 and not _finite(k[i]):
                # a stage beyond the step, where F may have ended: the step control judges what this costs
                ti = t_new
                if i < stage_t.size:
                    stage_t[i] = ti
                if xi.size > 0:
                    _look_up(system, ti, np.nextafter(t_new, t) if h > 0.0 else t_new, work, xi)
                copy(known, yi)
                status = call_stage(newton.stage, run, ti, hg, at(known), at(yi), at(k[i]), at(xi))
            if status != CONVERGED:
                return status
        if i == 0:
            count[HAVE_K1] = 1
    for j in range(n):
        known[j] = y[s - 1, j] if method.fsal else r[j]
    if not method.fsal:
        for i in range(s):
            w = h * method.b[i]
            if w != 0.0:
                for j in range(n):
                    known[j] += w * k[i, j]
    return CONVERGED


@njit(inline="always")
def _save(method, count, way, t, h, t_new, r, r_new, k, save_t, save_r):
    """States at the wanted times up to t_new, by the dense output."""
    while count[SAVED] < save_t.size and way * (save_t[count[SAVED]] - t_new) <= 0.0:
        m = count[SAVED]
        if save_t[m] == t_new:
            copy(r_new, save_r[m])
        else:
            theta = (save_t[m] - t) / h
            copy(r, save_r[m])
            for i in range(method.c.size):
                w = 0.0
                for d in range(method.dense.shape[1] - 1, -1, -1):
                    w = (w + method.dense[i, d]) * theta
                for j in range(r.size):
                    save_r[m, j] += h * w * k[i, j]
        count[SAVED] += 1


@njit(inline="always")
def _keep(method, record, m, h, t_new, r_new, k, y, x, z):
    """Row m of the record; the stages' times are there already."""
    record.t[m] = t_new
    record.h[m] = h
    copy(r_new, record.r[m])
    if record.stage_r.size > 0:
        for i in range(method.stages):
            copy(y[i], record.stage_r[m, i])
    if record.stage_x.size > 0:
        for i in range(method.stages):
            copy(x[i], record.stage_x[m, i])
    if record.k.size > 0:
        for i in range(k.shape[0]):
            copy(k[i], record.k[m, i])
    if record.z.size > 0:
        for i in range(z.shape[0]):
            copy(z[i], record.z[m, i])


@njit(inline="always")
def _error(control, e, k, r, r_new, h, stages):
    """The error norm of the step; with two estimates e₅, e₃ it is e₅² / √(e₅² + 0.01 e₃²) (DOP853).

    h d / scale is near 1 where the step is near its right length, whatever the units of r and t; d / scale is not, and
    its square would leave float64.
    """
    worst = 0.0
    for g in range(control.groups.size - 1):
        low, high = control.groups[g], control.groups[g + 1]
        if high == low:
            continue
        five = 0.0
        three = 0.0
        for j in range(low, high):
            scale = control.atol[j] + control.rtol[j] * max(abs(r[j]), abs(r_new[j]))
            d = 0.0
            for i in range(stages):
                d += e[0, i] * k[i, j]
            # 0/0 is a component that needs no accuracy and makes no error
            if d != 0.0:
                five += (h * d / scale) ** 2
            if e.shape[0] == 2:
                d = 0.0
                for i in range(stages):
                    d += e[1, i] * k[i, j]
                if d != 0.0:
                    three += (h * d / scale) ** 2
        if e.shape[0] == 2 and five > 0.0:
            err = five / np.sqrt((five + 0.01 * three) * (high - low))
        else:
            err = np.sqrt(five / (high - low))
        if not np.isfinite(err):
            return err
        worst = max(worst, err)
    return worst


@njit(inline="always")
def _stiffness(method, count, k, y, h):
    """Count steps on which |hλ| ≈ |h| ‖k_s − k_{s−1}‖ / ‖r_s − r_{s−1}‖ leaves the stability region (HNW II, IV.2)."""
    s = method.b.size
    if s < 3 or method.c[s - 1] != 1.0 or method.c[s - 2] != 1.0:
        return
    up = 0.0
    down = 0.0
    for j in range(y.shape[1]):
        up += (h * (k[s - 1, j] - k[s - 2, j])) ** 2
        down += (y[s - 1, j] - y[s - 2, j]) ** 2
    limit = 6.1 if s > 8 else 3.25
    if down > 0.0 and up > limit * limit * down:
        count[NONSTIFF] = 0
        count[STIFF_HITS] += 1
        if count[STIFF_HITS] >= 15:
            count[STIFF] = 1
    else:
        count[NONSTIFF] += 1
        if count[NONSTIFF] >= 6:
            count[STIFF_HITS] = 0


@njit(cache=True, nogil=True, error_model="numpy")
def _finite(r):
    for j in range(r.size):
        if not np.isfinite(r[j]):
            return False
    return True


@njit(**LEAN)
def advance(
    system, method, newton, control, stops, is_break, clock, count, r, k, y, x, work, record, save_t, save_r, sens,
    block,
):  # fmt: skip
    """Take up to ``block`` steps, until the last stop is reached or something fails; returns a status.

    stops (K,) in the direction of time, the last is the end; is_break (K,) marks those at which F jumps.
    r (n,) is the state, in and out; newton, k (S, n), y (s + 2, n), x (s + 1, x_stride), work are working space that
    must survive between calls. save_t (M,) are times whose states go to save_r (M, n). The record has room for
    ``block`` steps, or none. Sensitivities, where there are any, follow each step whose state passed the test, and are
    tested too.
    """
    r_new = y[y.shape[0] - 1]
    run = np.int64(0)
    if method.gamma > 0.0:
        run = pack((system, method, newton, control, sens))
    s = method.b.size
    S = method.c.size
    capacity = record.t.size
    way = control.direction
    count[RECORDED] = 0
    full = count[STEPS] + block
    while count[NEXT_STOP] < stops.size:
        if count[STEPS] == full:
            return FULL
        if count[STEPS] + count[REJECTED] >= control.max_steps:
            return TOO_MANY
        t = clock[T]
        stop = stops[count[NEXT_STOP]]
        lands = False
        on_grid = False
        smallest = max(control.min_step, 8.0 * (np.nextafter(abs(t), np.inf) - abs(t)))
        if control.dt > 0.0:
            t_new = clock[START] + way * control.dt * (count[GRID] + 1)
            # a stop that is the grid point but for rounding, also where t is large beside dt
            slack = max(1e-9 * control.dt, 4.0 * (np.nextafter(abs(stop), np.inf) - abs(stop)))
            on_grid = way * (t_new - stop) <= slack
            if way * (stop - t_new) <= slack:
                lands = True
                t_new = stop
        else:
            h = min(clock[H], control.max_step)
            lands = way * (stop - t) <= h * (1.0 + 1e-9)
            t_new = stop if lands else t + way * h
            if abs(t_new - t) < smallest and not (lands and h >= smallest):
                return UNDERFLOW
        h = t_new - t
        stage_t = record.stage_t[count[RECORDED]] if record.stage_t.size > 0 else record.t[:0]
        status = _stages(system, method, newton, control, run, count, t, h, t_new, r, k, y, x, work, r_new, stage_t)

        if status != CONVERGED:
            count[REJECTED] += 1
            if newton.state[FRESH] == 0.0:
                forget(newton)  # the same step with a J of its own
            elif control.dt > 0.0:
                return DIVERGED if not _finite(y[s - 1]) else STUCK
            else:
                forget(newton)
                clock[H] = 0.25 * abs(h)
                if clock[H] < smallest:
                    return UNDERFLOW
            continue
        err = 0.0 if control.dt > 0.0 else _error(control, method.e, k, r, r_new, h, s)
        if sens.z.size > 0 and err <= 1.0:
            theirs = call_step(sens.step, run, t, h, t_new, at(y), at(x))
            if not theirs <= err:
                err = theirs
        if control.dt > 0.0:
            if not np.isfinite(err) or not _finite(r_new):
                return DIVERGED
        else:
            if not np.isfinite(err) or not _finite(r_new):
                count[REJECTED] += 1
                clock[H] = 0.1 * abs(h)
                if clock[H] < smallest:
                    return DIVERGED
                continue
            if err > 1.0:
                count[REJECTED] += 1
                clock[H] = abs(h) * max(0.2, 0.9 * err**-method.exponent)
                continue
            floor = max(err, 1e-10)
            factor = 0.9 * floor ** (-0.7 * method.exponent) * clock[ERR_BEFORE] ** (0.4 * method.exponent)
            if method.gamma > 0.0 and 1.0 <= factor <= 1.2:
                factor = 1.0  # not worth a new factorisation
            proposal = abs(h) * min(10.0, max(0.2, factor))
            # A step cut short by a stop says little about the step size that would have been right.
            clock[H] = max(proposal, clock[H]) if lands and factor >= 1.0 else proposal
            clock[ERR_BEFORE] = max(err, 1e-4)
            if method.gamma == 0.0:
                _stiffness(method, count, k, y, h)

        if count[SAVED] < save_t.size or record.k.size > 0:
            within = count[SAVED] < save_t.size and way * (save_t[count[SAVED]] - t_new) < 0.0
            if record.k.size > 0 or within:
                for i in range(s, S):  # explicit ones
                    # the row of y and x behind the stages, so that those stay as they were
                    yi, xi = y[s], x[s]
                    ti = _arrive(system, method, control, i, t, h, t_new, r, k, yi, xi, work, False)
                    call_f(system.table[F], at(system.ctx), ti, at(yi), at(system.w), at(xi), at(k[i]))
                count[EVALUATIONS] += S - s
            _save(method, count, way, t, h, t_new, r, r_new, k, save_t, save_r)
        if capacity > 0:
            _keep(method, record, count[RECORDED], h, t_new, r_new, k, y, x, sens.z_new)
            count[RECORDED] += 1

        count[STEPS] += 1
        clock[T] = t_new
        copy(r_new, r)
        newton.state[FRESH] = 0.0
        if on_grid:
            count[GRID] += 1
        if method.fsal:
            copy(k[s - 1], k[0])
            copy(x[s - 1], x[0])
        else:
            count[HAVE_K1] = 0
        if lands:
            if is_break[count[NEXT_STOP]]:
                count[HAVE_K1] = 0
            count[NEXT_STOP] += 1
        if sens.z.size > 0:
            call_accept(sens.accept, run, count[HAVE_K1])
    return DONE


@njit(inline="always")
def euler_step(d0, d1, limit):
    """h0, from the norms of r and F."""
    # d1 is infinite where r = 0 is asked for to a relative tolerance only
    return min(1e-6 if d0 < 1e-5 or d1 < 1e-5 or not np.isfinite(d1) else 0.01 * d0 / d1, limit)


@njit(inline="always")
def from_euler_step(h0, d1, d2, order):
    """The first step size, from the norms of F and of its rate of change along the Euler step h0."""
    if not np.isfinite(d2):
        return h0
    top = max(d1, d2)
    h1 = max(1e-6, h0 * 1e-3) if top <= 1e-15 else (0.01 / top) ** (1.0 / (order + 1))
    return min(100.0 * h0, h1)


@njit(cache=True, nogil=True, error_model="numpy")
def first_step(system, control, order, t, r, k1, work, x, limit):
    """The first step size, from the sizes of F and of its change along an Euler step (HNW I, II.4).

    F is looked at no farther than ``limit`` from t, where it may end. k1 receives F(t, r); returns -1 where that
    is not finite.
    """
    n = r.size
    field_at(system, t, t if control.direction > 0.0 else np.nextafter(t, -np.inf), r, work, x, k1)
    if not _finite(k1):
        return -1.0
    d0 = 0.0
    d1 = 0.0
    for j in range(n):
        scale = control.atol[j] + control.rtol[j] * max(abs(r[j]), abs(k1[j]) * 1e-6)
        if r[j] != 0.0:
            d0 += (r[j] / scale) ** 2
        if k1[j] != 0.0 and scale > 0.0:
            d1 += (k1[j] / scale) ** 2
    d1 = np.sqrt(d1 / n)
    h0 = euler_step(np.sqrt(d0 / n), d1, limit)
    y = np.empty(n)
    k2 = np.empty(n)
    for j in range(n):
        y[j] = r[j] + control.direction * h0 * k1[j]
    field_at(system, t + control.direction * h0, t + control.direction * h0, y, work, x, k2)
    d2 = 0.0
    for j in range(n):
        scale = control.atol[j] + control.rtol[j] * max(abs(r[j]), abs(k1[j]) * 1e-6)
        if k2[j] != k1[j] and scale > 0.0:
            d2 += ((k2[j] - k1[j]) / scale) ** 2
    return from_euler_step(h0, d1, np.sqrt(d2 / n) / h0, order)
