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

from ctrnn.kernels.abi import JACOBIAN, at, call_f
from ctrnn.kernels.linalg import factor, solve

# state: the hγ that M was factored for (0: none), whether J belongs to the step's own start, Newton's contraction, the factor η of its error
HG, FRESH, THETA, ETA, STATE_SIZE = range(5)
# cost: evaluations of J, factorisations, Newton iterations
JACOBIANS, FACTORS, ITERATIONS, COST_SIZE = range(4)

CONVERGED, SLOW, SINGULAR = range(3)
MOST_ITERATIONS = 10
#: Newton stops when its error is this part of the tolerance, so that the steps' gradient is that of solved stages
KAPPA = 1e-3
#: above this contraction the next step gets a new J
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
    n = r.size
    state = newton.state
    if state[HG] != 0.0 and state[THETA] <= FAST:
        if abs(state[HG] - hg) <= 1e-12 * abs(hg):
            return CONVERGED
        state[FRESH] = 0.0
    else:
        call_f(system.table[JACOBIAN], at(system.ctx), t, at(r), at(system.w), at(x), at(newton.J))
        newton.cost[JACOBIANS] += 1
        state[FRESH] = 1.0
    for i in range(n):
        for j in range(n):
            newton.M[i, j] = -hg * newton.J[i, j]
        newton.M[i, i] += 1.0
    newton.cost[FACTORS] += 1
    state[HG] = hg
    state[THETA] = 0.0
    if not factor(newton.lapack, newton.M, newton.pivots):
        state[HG] = 0.0
        return SINGULAR
    return CONVERGED


@njit(cache=True, nogil=True, error_model="numpy")
def forget(newton):
    """The next step evaluates J again."""
    newton.state[HG] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def newton_stage(system, newton, control, t, hg, y, ri, ki, delta, x):
    """Solve r_i = y + hγ F(t, r_i) from the guess in ``ri`` (n,); ``ki`` receives k_i. Returns a status.

    y (n,) is overwritten by nothing; delta (n, 1) is working space; x is the input at t, looked up already.
    """
    n = y.size
    before = 0.0
    fixed = control.dt > 0.0
    largest = 0.0
    for j in range(n):
        largest = max(largest, abs(y[j]))
    for iteration in range(MOST_ITERATIONS):
        call_f(system.table[0], at(system.ctx), t, at(ri), at(system.w), at(x), at(ki))
        newton.cost[ITERATIONS] += 1
        for j in range(n):
            delta[j, 0] = y[j] + hg * ki[j] - ri[j]
        solve(newton.lapack, newton.M, newton.pivots, delta)
        size = 0.0
        for j in range(n):
            # with fixed steps there is no tolerance: to round-off, then
            scale = 1e-10 * max(abs(ri[j]), largest) if fixed else control.atol[j] + control.rtol[j] * abs(ri[j])
            if delta[j, 0] != 0.0:
                size += (delta[j, 0] / scale) ** 2
            ri[j] += delta[j, 0]
        size = np.sqrt(size / n)
        if not np.isfinite(size):
            newton.state[THETA] = 1.0
            return SLOW
        theta = 0.0
        if iteration > 0:
            theta = size / before if before > 0.0 else 0.0
            newton.state[THETA] = max(newton.state[THETA], theta) if iteration > 1 else theta
            if theta >= 1.0 and size > KAPPA:
                newton.state[THETA] = 1.0
                return SLOW
            newton.state[ETA] = theta / (1.0 - theta) if theta < 1.0 else 1.0
        eta = newton.state[ETA] if iteration > 0 else max(newton.state[ETA], 1e-16) ** 0.8
        if size == 0.0 or (eta * size <= KAPPA and (iteration > 0 or size <= KAPPA)):
            for j in range(n):
                ki[j] = (ri[j] - y[j]) / hg
            return CONVERGED
        before = size
    newton.state[THETA] = 1.0
    return SLOW
