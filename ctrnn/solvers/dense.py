"""A solution as a piecewise polynomial r(t), that can drive another system.

Our own tableaus: on the step from t with size h, r(t + θh) = r + h Σ_d θ^(d+1) Σ_i dense_id k_i, exactly their dense output.
SciPy's: the polynomial of degree 7 through its dense output at 8 Chebyshev points of each step, which is that dense output for
the Runge–Kutta methods and agrees with it to its own accuracy for the multistep ones.
"""

from __future__ import annotations

import numpy as np

from ctrnn.fields.base import Array, Bound
from ctrnn.inputs import Polynomials
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.runge_kutta import Integration
from ctrnn.solvers.solve import Rate, pieces
from ctrnn.trajectory import Stats


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
    if settings.library == "scipy":
        return _with_scipy(bound, r0, problem, settings, save_at)
    run = Integration(
        bound, r0, t0, problem.stops, problem.is_break, settings, save_at, "dense", groups, label="forward"
    )
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


def _with_scipy(
    bound: Bound, r0: Array, problem: Problem, settings: Settings, save_at: Array
) -> tuple[Polynomials, Array, Stats]:
    import time

    from ctrnn.solvers.scipy_solver import named, solve_piece

    began = time.perf_counter()
    n = problem.field.n
    method = named(settings)
    rate, r = Rate(bound, f"scipy:{method}", settings.max_steps), np.array(r0)
    starts: list[Array] = []
    coefficients: list[Array] = []
    saved = [np.tile(r, (int((save_at == problem.t_span[0]).sum()), 1))]
    nodes = 0.5 - 0.5 * np.cos(np.pi * (np.arange(8) + 0.5) / 8)
    inverse = np.linalg.inv(np.vander(nodes, increasing=True))
    for a, b in pieces(problem.t_span[0], problem.stops, problem.is_break):
        rate.start(a, b, r)
        found = solve_piece(method, settings, rate, a, b, r, dense_output=True)
        inside = save_at[(save_at > a) & (save_at <= b)]
        saved.append(found.sol(inside).T if inside.size else np.empty((0, r.size)))
        h = np.diff(found.t)
        at_nodes = found.sol((found.t[:-1, None] + h[:, None] * nodes).ravel())[:n].T.reshape(h.size, 8, n)
        terms = np.einsum("de,cen->cdn", inverse, at_nodes) * (h[:, None] ** -np.arange(8.0))[:, :, None]
        coefficients.append(terms)
        starts.append(found.t[:-1])
        r = found.y[:, -1]
    stats = Stats(rate.name, rate.steps, 0, rate.calls, rate.jacobians, time.perf_counter() - began)
    return Polynomials(np.concatenate(starts), np.concatenate(coefficients)), np.concatenate(saved), stats
