"""Sensitivities behind the state, step by step.

The derivative of a diagonally implicit Runge–Kutta step, all columns at once.

Z = [dr/dw | dr/dr0], (n, q). When the stages r_i of a step are known, their derivatives Z_i = dr_i/d(w, r0) obey one
linear system each,

    (I − hγJ_i) Z_i = Y_i + hγ F_w,i,    Y_i = Z + h Σ_{j<i} a_ij κ_j        κ_i = (Z_i − Y_i)/(hγ) = J_i Z_i + F_w,i
    Z⁺ = Z + h Σ_i b_i κ_i                      error: h Σ_i e_i κ_i, in the step test like that of the state

(the staggered direct method: Caracotsios & Stewart, Comput. Chem. Eng. 9:359, 1985; Feehery, Tolsma & Barton, Appl.
Numer. Math. 25:41, 1997). J_i is that of the stage itself, one LU for all q columns, and not the older one that
Newton's method goes by: so Z⁺ is the derivative of the step as it was taken, whatever J took it there, and no iteration
is left that could end too early. Where h|J| is large, 1 + hγ|J_ii| rounds the 1 away on which everything slow and all
that is conserved depends: so the solution is corrected once, by its residual with 1 and hγJ kept apart (Robertson's Σ_i
dr_i/dw_j = 0 ten times closer, van der Pol's p two hundred times). The first stage is explicit, κ_1 = J Z + F_w, or the
last one of the step before (FSAL). Flops a stage: 2n³/3 + 6n²q.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic

from ctrnn.kernels.abi import ACCUMULATE, DGEMM, LEAN, X_STRIDE, at, call, call_accumulate, call_f
from ctrnn.kernels.augmented import _product
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.implicit import FACTORS, JACOBIANS
from ctrnn.kernels.lazy import lazy
from ctrnn.kernels.linalg import factor, solve
from ctrnn.kernels.run import Staggered, control_at, method_at, newton_at, staggered_at, system_at

__all__ = ["Staggered"]

_i, _d = types.int64, types.float64
STEP = _d(_i, _d, _d, _d, _i, _i)
ACCEPT = types.void(_i, _i)


@intrinsic
def call_step(typingctx, address, run, t, h, t_new, stages, inputs):
    return call(STEP)


@intrinsic
def call_accept(typingctx, address, run, has_kappa):
    return call(ACCEPT)


@lazy(STEP, **LEAN)
def step(run, t, h, t_new, stages_, inputs_):
    """Z⁺ into ``z_new``, for a step whose stages (s, n) and inputs (s, x_stride) are known; returns its error norm.

    The norm is the largest over control.groups of rows, NaN where I − hγJ is singular; 0 with fixed steps.
    """
    system, method, newton, control, staggered = (
        system_at(run),
        method_at(run),
        newton_at(run),
        control_at(run),
        staggered_at(run),
    )
    z, kappa, y, J, M = staggered.z, staggered.kappa, staggered.y, staggered.J, staggered.M
    residual = staggered.z_new  # until the step ends
    drive, eye = staggered.drive, staggered.eye
    n, q = z.shape
    dgemm = system.ctx[DGEMM]
    time = staggered.time
    for i in range(method.b.size):
        gamma = method.a[i, i]
        if gamma == 0.0 and staggered.has_kappa[0] == 1:
            continue
        c = method.c[i]
        time[0] = t_new if c == 1.0 else t + c * h
        here_, x_ = stages_ + 8 * n * i, inputs_ + 8 * system.ctx[X_STRIDE] * i
        call_f(system.table[staggered.slot], at(system.ctx), time[0], here_, at(system.w), x_, at(J))
        if c > 1.0 and not np.isfinite(J.sum()):  # as the state's stage was taken (ctrnn.kernels.stepper)
            time[0] = t_new
            call_f(system.table[staggered.slot], at(system.ctx), time[0], here_, at(system.w), x_, at(J))
        newton.cost[JACOBIANS] += 1
        for k in range(n):
            for j in range(n):
                eye[k, j] = 0.0
            eye[k, k] = 1.0
        drive[:] = 0.0
        # F_w is the parameter part of n identity rows, which may be overwritten
        call_accumulate(
            system.table[ACCUMULATE], at(system.ctx), 1, n, at(time), here_, at(system.w), x_, at(eye), at(drive)
        )
        out = kappa[i]
        if gamma == 0.0:
            _product(dgemm, J, z, out, n, q)
            _add_drive(1.0, drive, out)
            staggered.has_kappa[0] = 1
            continue
        hg = h * gamma
        for k in range(n):
            for j in range(q):
                y[k, j] = z[k, j]
            for l in range(i):
                w = h * method.a[i, l]
                if w != 0.0:
                    for j in range(q):
                        y[k, j] += w * kappa[l, k, j]
            for j in range(q):
                out[k, j] = y[k, j]
            for j in range(n):
                M[k, j] = -hg * J[k, j]
            M[k, k] += 1.0
        _add_drive(hg, drive, out)
        newton.cost[FACTORS] += 1
        if not factor(newton.lapack, M, staggered.pivots):
            return np.nan
        solve(newton.lapack, M, staggered.pivots, out)
        _product(dgemm, J, out, residual, n, q)
        _add_drive(1.0, drive, residual)
        for k in range(n):
            for j in range(q):
                residual[k, j] = (y[k, j] - out[k, j]) + hg * residual[k, j]
        solve(newton.lapack, M, staggered.pivots, residual)
        for k in range(n):
            for j in range(q):
                out[k, j] = ((out[k, j] - y[k, j]) + residual[k, j]) / hg
    return _end_and_error(method, control, staggered, h)


@njit(inline="always")
def _add_drive(w, drive, out):
    """out[k, g c + j] += w F_w[g, k, j]."""
    groups, n, columns = drive.shape
    for g in range(groups):
        for k in range(n):
            for j in range(columns):
                out[k, g * columns + j] += w * drive[g, k, j]


@njit(**LEAN)
def _end_and_error(method, control, staggered, h):
    """Z⁺, and the norm of h Σ e_i κ_i."""
    z, z_new, kappa = staggered.z, staggered.z_new, staggered.kappa
    q, s = z.shape[1], method.b.size
    worst = 0.0
    for group in range(control.groups.size - 1):
        low, high = control.groups[group], control.groups[group + 1]
        total = 0.0
        for k in range(low, high):
            for j in range(q):
                value, error = z[k, j], 0.0
                for i in range(s):
                    value += h * method.b[i] * kappa[i, k, j]
                    if control.dt == 0.0:
                        error += method.e[0, i] * kappa[i, k, j]
                z_new[k, j] = value
                if error != 0.0:
                    scale = staggered.atol[k, j] + staggered.rtol[k, j] * max(abs(z[k, j]), abs(value))
                    total += (h * error / scale) ** 2
        norm = np.sqrt(total / max(1, (high - low) * q))
        if not norm <= worst:
            worst = norm
        if not np.isfinite(worst):
            return worst
    return worst


@lazy(ACCEPT, **LEAN)
def accept(run, has_kappa):
    """Z ← Z⁺; where the last stage is the next step's first, κ_1 ← κ_s, unless F jumps between the two."""
    method, staggered = method_at(run), staggered_at(run)
    kappa = staggered.kappa
    for k in range(staggered.z.shape[0]):
        for j in range(staggered.z.shape[1]):
            staggered.z[k, j] = staggered.z_new[k, j]
            if method.fsal:
                kappa[0, k, j] = kappa[kappa.shape[0] - 1, k, j]
    staggered.has_kappa[0] = has_kappa
