"""A solution as a piecewise polynomial r(t), that can drive another system.

Our own tableaus: on the step from t with size h, r(t + θh) = r + h Σ_d θ^(d+1) Σ_i dense_id k_i, exactly their dense
output. SciPy's and torchdiffeq's: the polynomial of degree 7 through their dense output at 8 Chebyshev points of each
step, which is that dense output for the Runge–Kutta methods and agrees with it to its own accuracy for the multistep
ones.
"""

from __future__ import annotations

import numpy as np

from ctrnn.fields.base import Array, Bound
from ctrnn.inputs import Polynomials
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.runge_kutta import Integration
from ctrnn.solvers.solve import solve
from ctrnn.trajectory import Stats

NODES = 0.5 - 0.5 * np.cos(np.pi * (np.arange(8) + 0.5) / 8)


def dense_solution(
    bound: Bound,
    r0: Array,
    problem: Problem,
    settings: Settings,
    save_at: Array,
    groups: tuple[int, ...] | None = None,
) -> tuple[Polynomials, Array, Stats]:
    """r(t) of the first n components as an input signal, the states at ``save_at`` (T, N), and the cost."""
    n, t0 = problem.field.n, problem.t_span[0]
    if settings.library:
        return _of_library(bound, r0, problem, settings, save_at)
    run = Integration(bound, r0, problem.course, settings, save_at, "dense", groups, label="forward")
    starts, coefficients = [], []
    begin = np.asarray(r0[:n])
    last = t0
    for record in run.blocks():
        before = np.concatenate([[begin], record.r[:-1, :n]])
        # (C, degree, n): h Σ_i dense_id k_i, in powers of θ; then in powers of t
        terms = record.h[:, None, None] * np.einsum("id,cin->cdn", run.method.dense, record.k[:, :, :n])
        powers = record.h[:, None] ** -np.arange(1, terms.shape[1] + 1)
        coefficients.append(np.concatenate([before[:, None], terms * powers[:, :, None]], axis=1))
        starts.append(np.concatenate([[last], record.t[:-1]]))
        begin, last = record.r[-1, :n], record.t[-1]
    return Polynomials(np.concatenate(starts), np.concatenate(coefficients)), run.saved, run.stats


def _of_library(
    bound: Bound, r0: Array, problem: Problem, settings: Settings, save_at: Array
) -> tuple[Polynomials, Array, Stats]:
    """Solved twice: once to learn the library's steps, and once more for its dense output inside each of them."""
    n = problem.field.n
    steps = solve(bound, r0, problem.course, settings)
    starts, h = steps.t[:-1], np.diff(steps.t)
    at = starts[:, None] + h[:, None] * NODES
    every = np.unique(np.concatenate([at.ravel(), save_at]))
    found = solve(bound, r0, problem.course, settings, every)
    at_nodes = found.r[np.searchsorted(every, at), :n]
    terms = np.einsum("de,cen->cdn", np.linalg.inv(np.vander(NODES, increasing=True)), at_nodes)
    powers = h[:, None] ** -np.arange(float(NODES.size))
    return (
        Polynomials(starts, terms * powers[:, :, None]),
        found.r[np.searchsorted(every, save_at)],
        steps.stats + found.stats,
    )
