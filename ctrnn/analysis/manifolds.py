r"""The manifolds of a saddle that are lines: the ways along which trajectories leave it, and come.

    dr/dt = F forwards or backwards from r* ± ε v,  J v = λ v        forwards along a growing mode, backwards along a
                                                                     decaying one

Source: Nusse and Yorke, *Dynamics: Numerical Explorations* (1998), chapter 7.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import brentq

from ctrnn.analysis.equilibria import Equilibrium
from ctrnn.analysis.family import depends_on_time
from ctrnn.errors import SolverError, UsageError
from ctrnn.fields.base import Array
from ctrnn.numbers import checked_array, positive
from ctrnn.problem import Problem
from ctrnn.solvers.simulate import simulate

__all__ = ["saddle_manifolds"]

#: pieces of the run along a manifold, after each of which it may have left the box
STRETCHES = 40


def saddle_manifolds(
    equilibrium: Equilibrium,
    *,
    box: Any = None,
    t_end: float | None = None,
    distance: float = 1e-6,
) -> dict[str, list[Array]]:
    """The lines along which trajectories leave a saddle, and those along which they come.

    Parameters
    ----------
    equilibrium : Equilibrium
        A saddle, as `fixed_points` finds it.
    box : ((low, high), …) for each state, optional
        A line ends where it leaves the box, made half as wide again; None: ten times max(1, ‖r‖) around the saddle.
    t_end : float, optional
        How long each is followed, in the unit of t; None: 40 time constants of its direction.
    distance : float, default 1e-6
        Where it begins, over max(1, ‖r‖).

    Returns
    -------
    dict of str to list of ndarray (K, n)
        "unstable" and "stable": the two lines of each real eigenvector that belongs to a manifold of one dimension.
        A manifold of more dimensions is no line, and gives none.

    Raises
    ------
    UsageError
        For what is no equilibrium, one of a field that depends on t, or a box of another shape.

    Examples
    --------
    >>> from ctrnn import Equations
    >>> from ctrnn.analysis import find_equilibrium
    >>> saddle = find_equilibrium(Equations({"u": "u", "v": "-v + u**2"}), [0.0, 0.0])
    >>> unstable = saddle_manifolds(saddle, box=((-1, 1), (-1, 1)))["unstable"]
    >>> bool(np.abs(unstable[0][:, 1] - unstable[0][:, 0] ** 2 / 3).max() < 1e-6)  # v = u²/3
    True
    """
    if not isinstance(equilibrium, Equilibrium):
        raise UsageError("equilibrium", given=equilibrium, allowed="an Equilibrium")
    field, r0 = equilibrium.field, equilibrium.r
    size = max(1.0, float(np.linalg.norm(r0)))
    if box is None:
        low, high = r0 - 10.0 * size, r0 + 10.0 * size
    else:
        limits = checked_array("box", box, (field.n, 2))
        wide = 0.25 * (limits[:, 1] - limits[:, 0])
        low, high = limits[:, 0] - wide, limits[:, 1] + wide
    t_end = None if t_end is None else positive("t_end", t_end)
    distance = positive("distance", distance)
    if depends_on_time(field, r0, equilibrium.x, (equilibrium.t, equilibrium.t + 1.0)):
        raise UsageError("equilibrium", given="one of a field that depends on t", allowed="one of a field at rest in t")
    λ, vectors = np.linalg.eig(equilibrium.jacobian)
    found: dict[str, list[Array]] = {"unstable": [], "stable": []}
    for name, sign in (("unstable", 1.0), ("stable", -1.0)):
        own = np.flatnonzero(sign * λ.real > 0)
        if own.size != 1:
            continue
        rate, v = float(np.abs(λ[own[0]].real)), vectors[:, own[0]].real
        length = sign * (40.0 / rate if t_end is None else t_end)
        for side in (1.0, -1.0):
            start = r0 + side * distance * size * v / np.linalg.norm(v)
            found[name].append(np.vstack([r0, _line(equilibrium, start, length, low, high)]))
    return found


def _line(equilibrium: Equilibrium, r: Array, length: float, low: Array, high: Array) -> Array:
    """The states (K, n) of the run from r, forwards or backwards, until it leaves the box."""
    t = equilibrium.t
    problem = Problem(equilibrium.field, r, (t, t + length / STRETCHES), equilibrium.x)
    options: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12 * max(1.0, float(np.linalg.norm(equilibrium.r)))}
    lines = [r[None]]

    def depth(r: Array) -> Array:
        return np.asarray(np.minimum(r - low, high - r).min(axis=-1))

    for k in range(1, STRETCHES + 1):
        try:
            run = simulate(problem, **options)
        except SolverError as error:  # beyond the box it may have no end
            if error.t == problem.t_span[0]:
                break
            run = simulate(problem.replace(t_span=(problem.t_span[0], error.t)), **options)
        outside = np.flatnonzero(depth(run.r) < 0.0)
        if outside.size:
            i = int(outside[0])
            if i:
                edge = brentq(lambda t, run=run: float(depth(run(t))), run.t[i - 1], run.t[i])
                lines.append(np.vstack([run.r[1:i], run(edge)]))
            break
        lines.append(run.r[1:])
        if run.t[-1] != problem.t_span[1]:
            break
        problem = problem.replace(r0=run.r[-1], t_span=(run.t[-1], t + length * (k + 1) / STRETCHES))
    return np.vstack(lines)
