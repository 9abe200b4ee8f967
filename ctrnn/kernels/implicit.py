"""The implicit stages of diagonally implicit Runge–Kutta methods: Newton's method with reused factors.

    r_i = y + hγ F(t_i, r_i),   y = r + h Σ_{j<i} a_ij k_j:
    (I − hγJ) Δ = y + hγ F(r_i) − r_i,   r_i ← r_i + Δ,   k_i = (r_i − y)/(hγ)

J is that of the start of some earlier step, and M = I − hγJ is factored once for all stages, as they share γ (hence
singly diagonally implicit). Both are kept over steps while Newton converges fast (its contraction θ stays small) and hγ
is the same: 2n³/3 flops a factorisation, 2n² a solution (Hairer & Wanner 1996, IV.8). k_i is taken from r_i and not
from F(r_i), which would multiply what is left of the error by a stiff J.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic

from ctrnn.kernels.abi import JACOBIAN, LEAN, F, at, call, call_f, doubles
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.lazy import lazy
from ctrnn.kernels.linalg import factor, solve_one
from ctrnn.kernels.run import Newton, control_at, newton_at, system_at

__all__ = ["Newton"]

_i, _d = types.int64, types.float64
PREPARE = _i(_i, _d, _i, _i, _d)
STAGE = _i(_i, _d, _d, _i, _i, _i, _i)

# state: the hγ that M was factored for (0: none), whether J belongs to the step's own start, Newton's contraction, the
# factor η of its error
HG, FRESH, THETA, ETA, STATE_SIZE = range(5)
# cost: evaluations of J, factorisations, Newton iterations
JACOBIANS, FACTORS, ITERATIONS, COST_SIZE = range(4)

CONVERGED, SLOW, SINGULAR = range(3)
#: iterations of a stage; with fixed steps, where nothing else can be done, many more, each slow one with a new J
MOST_ITERATIONS, MOST_FIXED = 10, 50
#: Newton stops when its error is this part of the tolerance, so that the steps' gradient is that of solved stages
KAPPA = 1e-3
#: no tolerance is below this, relative to the state: KAPPA of it is round-off. Fixed steps go by it
LEAST = 1e-12
#: what stays as large as this part of the tolerance is round-off too, and with fixed steps this many times LEAST
REST, REST_FIXED = 1e-2, 100.0
#: above this contraction the next step gets a new J, and with fixed steps the next iteration
FAST = 0.05


@intrinsic
def call_prepare(typingctx, address, run, t, r, x, hg):
    return call(PREPARE)


@intrinsic
def call_stage(typingctx, address, run, t, hg, y, ri, ki, x):
    return call(STAGE)


@lazy(PREPARE, **LEAN)
def prepare(run, t, r_, x_, hg):
    """Have M = I − hγJ factored; J is evaluated at (t, r, x) if Newton was slow or there is none. Returns a status."""
    system, newton = system_at(run), newton_at(run)
    state = newton.state
    slow = state[HG] == 0.0 or state[THETA] > FAST
    state[THETA] = 0.0
    if slow:
        return _renew(system, newton, t, r_, x_, hg)
    if abs(state[HG] - hg) <= 1e-12 * abs(hg):
        return CONVERGED
    state[FRESH] = 0.0
    return _factor(newton, hg)


@njit(inline="always")
def _renew(system, newton, t, r_, x_, hg):
    """Evaluate J at (t, r, x) and factor M. Returns a status."""
    call_f(system.table[JACOBIAN], at(system.ctx), t, r_, at(system.w), x_, at(newton.J))
    newton.cost[JACOBIANS] += 1
    newton.state[FRESH] = 1.0
    return _factor(newton, hg)


@njit(**LEAN)
def _factor(newton, hg):
    n = newton.M.shape[0]
    for i in range(n):
        for j in range(n):
            newton.M[i, j] = -hg * newton.J[i, j]
        newton.M[i, i] += 1.0
    newton.cost[FACTORS] += 1
    newton.state[HG] = hg
    if not factor(newton.lapack, newton.M, newton.pivots):
        newton.state[HG] = 0.0
        return SINGULAR
    return CONVERGED


@njit(inline="always")
def forget(newton):
    """The next step evaluates J again."""
    newton.state[HG] = 0.0


@lazy(STAGE, **LEAN)
def stage(run, t, hg, y_, ri_, ki_, x_):
    """Solve r_i = y + hγ F(t, r_i) from the guess in r_i (n,); k_i receives the slope. Returns a status.

    y (n,) stays; x is the input at t, looked up already.
    """
    system, newton, control = system_at(run), newton_at(run), control_at(run)
    n = newton.J.shape[0]
    y, ri, ki, delta = doubles(y_, n), doubles(ri_, n), doubles(ki_, n), newton.delta
    state = newton.state
    fixed = control.dt > 0.0
    before = 0.0  # ‖Δ‖ of the iteration before
    for _ in range(MOST_FIXED if fixed else MOST_ITERATIONS):
        call_f(system.table[F], at(system.ctx), t, ri_, at(system.w), x_, ki_)
        newton.cost[ITERATIONS] += 1
        for j in range(n):
            delta[j] = y[j] + hg * ki[j] - ri[j]
        solve_one(newton.lapack, newton.M, newton.pivots, delta)
        size = 0.0
        for j in range(n):
            ri[j] += delta[j]
            largest = max(abs(ri[j]), abs(y[j]))
            scale = LEAST * largest
            if not fixed:
                scale = max(scale, control.atol[j] + control.rtol[j] * largest)
            if delta[j] != 0.0:
                size += (delta[j] / scale) ** 2
        size = np.sqrt(size / n)
        if not np.isfinite(size):
            break
        theta = size / before if before > 0.0 else 0.0
        if before > 0.0:
            state[THETA] = max(state[THETA], theta)
            state[ETA] = theta / (1.0 - theta) if theta < 1.0 else np.inf
        # the error that is left is at most η‖Δ‖; before θ is known, η is the last one's, made worse (Hairer & Wanner
        # 1996, IV.8)
        eta = state[ETA] if before > 0.0 else max(state[ETA], 1e-16) ** 0.8
        at_rest = theta >= 1.0 and state[FRESH] == 1.0 and size <= (REST_FIXED if fixed else REST)
        if size == 0.0 or at_rest or (eta * size <= KAPPA and (before > 0.0 or size <= KAPPA)):
            for j in range(n):
                ki[j] = (ri[j] - y[j]) / hg
            return CONVERGED
        before = size
        if theta > FAST and fixed:
            if _renew(system, newton, t, ri_, x_, hg) != CONVERGED:
                return SINGULAR
        elif theta >= 1.0:
            break
    state[THETA] = 1.0
    return SLOW
