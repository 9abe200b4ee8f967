"""The implicit stages of diagonally implicit Runge–Kutta methods: Newton's method with reused factors.

    r_i = y + hγ F(t_i, r_i),   y = r + h Σ_{j<i} a_ij k_j:      (I − hγJ) Δ = y + hγ F(r_i) − r_i,   r_i ← r_i + Δ,   k_i = (r_i − y)/(hγ)

J is that of the start of some earlier step, and M = I − hγJ is factored once for all stages, as they share γ (hence singly diagonally
implicit). Both are kept over steps while Newton converges fast (its contraction θ stays small) and hγ is the same: 2n³/3 flops a factorisation,
2n² a solution (Hairer & Wanner 1996, IV.8). k_i is taken from r_i and not from F(r_i), which would multiply what is left of the error by a stiff J.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from ctrnn.kernels.abi import JACOBIAN, F, at, call_f
from ctrnn.kernels.linalg import factor, solve

# state: the hγ that M was factored for (0: none), whether J belongs to the step's own start, Newton's contraction, the factor η of its error
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


class Newton(NamedTuple):
    """What Newton keeps from step to step; arrays of length 0 for explicit methods."""

    J: np.ndarray  # (n, n)
    M: np.ndarray  # (n, n), factored
    pivots: np.ndarray  # (n,) int32
    lapack: np.ndarray  # addresses, see ctrnn.kernels.linalg
    state: np.ndarray
    cost: np.ndarray  # int64


@njit(cache=True, nogil=True, error_model="numpy")
def prepare(system, newton, t, r, x, hg):
    """Have M = I − hγJ factored; J is evaluated at (t, r, x) if Newton was slow or there is none. Returns a status."""
    state = newton.state
    slow = state[HG] == 0.0 or state[THETA] > FAST
    state[THETA] = 0.0
    if slow:
        return renew(system, newton, t, r, x, hg)
    if abs(state[HG] - hg) <= 1e-12 * abs(hg):
        return CONVERGED
    state[FRESH] = 0.0
    return _factor(newton, hg)


@njit(cache=True, nogil=True, error_model="numpy")
def renew(system, newton, t, r, x, hg):
    """Evaluate J at (t, r, x) and factor M. Returns a status."""
    call_f(system.table[JACOBIAN], at(system.ctx), t, at(r), at(system.w), at(x), at(newton.J))
    newton.cost[JACOBIANS] += 1
    newton.state[FRESH] = 1.0
    return _factor(newton, hg)


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
def forget(newton):
    """The next step evaluates J again."""
    newton.state[HG] = 0.0


# inlined, as handing its arrays over costs a system of three states a fifth of its step
@njit(inline="always")
def newton_stage(system, newton, control, t, hg, y, ri, ki, delta, x):
    """Solve r_i = y + hγ F(t, r_i) from the guess in ``ri`` (n,); ``ki`` receives k_i. Returns a status.

    y (n,) stays; delta (n, 1) is working space; x is the input at t, looked up already.
    """
    n = y.size
    state = newton.state
    fixed = control.dt > 0.0
    before = 0.0  # ‖Δ‖ of the iteration before
    for _ in range(MOST_FIXED if fixed else MOST_ITERATIONS):
        call_f(system.table[F], at(system.ctx), t, at(ri), at(system.w), at(x), at(ki))
        newton.cost[ITERATIONS] += 1
        for j in range(n):
            delta[j, 0] = y[j] + hg * ki[j] - ri[j]
        solve(newton.lapack, newton.M, newton.pivots, delta)
        size = 0.0
        for j in range(n):
            ri[j] += delta[j, 0]
            largest = max(abs(ri[j]), abs(y[j]))
            scale = LEAST * largest
            if not fixed:
                scale = max(scale, control.atol[j] + control.rtol[j] * largest)
            if delta[j, 0] != 0.0:
                size += (delta[j, 0] / scale) ** 2
        size = np.sqrt(size / n)
        if not np.isfinite(size):
            break
        theta = size / before if before > 0.0 else 0.0
        if before > 0.0:
            state[THETA] = max(state[THETA], theta)
            state[ETA] = theta / (1.0 - theta) if theta < 1.0 else np.inf
        # the error that is left is at most η‖Δ‖; before θ is known, η is the last one's, made worse (Hairer & Wanner 1996, IV.8)
        eta = state[ETA] if before > 0.0 else max(state[ETA], 1e-16) ** 0.8
        at_rest = theta >= 1.0 and state[FRESH] == 1.0 and size <= (REST_FIXED if fixed else REST)
        if size == 0.0 or at_rest or (eta * size <= KAPPA and (before > 0.0 or size <= KAPPA)):
            for j in range(n):
                ki[j] = (ri[j] - y[j]) / hg
            return CONVERGED
        before = size
        if theta > FAST and fixed:
            if renew(system, newton, t, ri, x, hg) != CONVERGED:
                return SINGULAR
        elif theta >= 1.0:
            break
    state[THETA] = 1.0
    return SLOW
