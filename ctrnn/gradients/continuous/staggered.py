"""The forward sensitivity equation on our own implicit solvers.

The state's stages first, then those of P and S (ctrnn.kernels.staggered).

Simultaneously, Newton's matrix of [r | P | S] would have n(m + n + 1) rows. Staggered, each stage of P and S is one
linear system of n rows with m + n right-hand sides. A loss ∫ aℓ dt is a state of its own, l, and its gradients are the
sensitivities of that state: Z = [P S; g g₀].
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.continuous.system import ForwardSystem
from ctrnn.problem import Settings
from ctrnn.solvers import tableaus
from ctrnn.solvers.runge_kutta import Integration, staggered_for
from ctrnn.solvers.solution import Solution


def is_staggered(settings: Settings) -> bool:
    """Whether the solver is one of our own implicit methods."""
    return settings.library == "" and tableaus.get(settings.solver).implicit


def solve_staggered(system: ForwardSystem, settings: Settings, save_at: Array | None, label: str) -> Solution:
    """As ctrnn.solvers.solve.solve of the whole system, with the tolerances that it takes.

    Steps land on the times ``save_at``.
    """
    problem, n = system.problem, system.n
    bound = system.base
    if system.loss is not None:
        bound = type(system)(problem, with_p=False, leak_only=system.leak_only).bound
    course = problem.course if save_at is None else problem.course.onto(save_at)
    rtol, atol = settings.tolerances(system.bound.n)
    y0 = system.start()
    its = replace(settings, rtol=_of_state(system, rtol), atol=_of_state(system, atol))
    z0, z_rtol = _columns(system, y0), _columns(system, rtol)
    z_atol = _columns(system, atol, np.finfo(float).max)
    staggered = staggered_for(bound, tableaus.get(settings.solver), z0, z_rtol, z_atol, system.slot)
    # r; l and its gradients; what only the read-out's gradient needs
    groups = (0, n) if system.loss is None else (0, n, n + 1, bound.n)
    run = Integration(bound, _of_state(system, y0), course, its, None, "steps", groups, None, label, staggered)
    times, states, columns = [np.array([course.start])], [_of_state(system, y0)[None]], [z0[None]]
    for record in run.blocks():
        kept = slice(None) if save_at is None else np.isin(record.t, save_at)
        times.append(record.t[kept])
        states.append(record.r[kept])
        columns.append(record.z[kept])
    t, r, z = (np.concatenate(parts) for parts in (times, states, columns))
    if save_at is not None and save_at[0] != course.start:
        t, r, z = t[1:], r[1:], z[1:]
    return Solution(t, _joined(system, r, z), run.stats)


def _of_state(system: ForwardSystem, y: Array) -> Array:
    """[r | l | g_o] of y (N,)."""
    return np.concatenate([system.part(y, name) for name in ("r", "l", "g_o") if name in system.sizes])


def _columns(system: ForwardSystem, y: Array, elsewhere: float = 0.0) -> Array:
    """Z = [P S; g g₀; ·] of y (N,), one row for each of [r | l | g_o]."""
    g, c, n = system.kernel.groups, system.kernel.columns, system.n
    P = system.part(y, "P").reshape(g, n, c).transpose(1, 0, 2).reshape(n, g * c)
    z = np.hstack([P, system.part(y, "S").reshape(n, n)])
    if system.loss is None:
        return z
    l = np.concatenate([system.part(y, "g"), system.part(y, "g0")])
    return np.vstack([z, l, np.full((system.sizes["g_o"], l.size), elsewhere)])


def _joined(system: ForwardSystem, r: Array, z: Array) -> Array:
    """y (T, N) of the states [r | l | g_o] and of Z (T, ·, q)."""
    g, c, n, T = system.kernel.groups, system.kernel.columns, system.n, len(r)
    m = g * c
    parts: dict[str, Any] = {
        "r": r[:, :n],
        "P": z[:, :n, :m].reshape(T, n, g, c).transpose(0, 2, 1, 3).reshape(T, -1),
        "S": z[:, :n, m:].reshape(T, -1),
    }
    if system.loss is not None:
        parts |= {"l": r[:, n : n + 1], "g": z[:, n, :m], "g0": z[:, n, m:], "g_o": r[:, n + 1 :]}
    return np.concatenate([parts[name] for name in system.sizes], axis=1)
