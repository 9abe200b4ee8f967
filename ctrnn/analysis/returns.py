"""A first guess of a limit cycle from a run: where it last passed its final state, and the turn since then."""

from __future__ import annotations

import numpy as np

from ctrnn.analysis import collocation
from ctrnn.analysis.collocation import Orbit
from ctrnn.analysis.family import Family
from ctrnn.errors import ConvergenceError
from ctrnn.fields.base import Array

#: what is less than this, over the size of the states, is no cycle but a point of rest
SMALLEST = 1e-7


def return_time(family: Family, t: Array, r: Array) -> float:
    """How long ago the run was last where it ends, going the same way."""
    end, none = r[-1], np.empty(0)
    F = family.F(r, none)
    late = t >= t[0] + 0.5 * (t[-1] - t[0])
    size = float(np.linalg.norm(np.ptp(r[late], axis=0)))
    unit = max(1.0, float(np.abs(end).max()))
    speed = float(np.linalg.norm(F[-1]))
    if size <= SMALLEST * unit or speed == 0.0:
        raise ConvergenceError(
            f"no limit cycle: the run comes to rest at r = {np.array2string(end, precision=6, threshold=8)}. "
            "Try: another r0 or other parameters"
        )
    v = F[-1] / speed
    g = (r - end) @ v
    crossings = np.flatnonzero((g[:-1] < 0.0) & (g[1:] >= 0.0))
    found = []
    for k in crossings:
        if k + 1 >= t.size - 1:
            continue  # the end itself
        share = _root(g[k], g[k + 1], (t[k + 1] - t[k]) * (F[k] @ v), (t[k + 1] - t[k]) * (F[k + 1] @ v))
        at = _hermite(t, r, F, np.array([t[k] + share * (t[k + 1] - t[k])]))[0]
        found.append((t[k] + share * (t[k + 1] - t[k]), float(np.linalg.norm(at - end))))
    near = [(when, apart) for when, apart in found if apart < 0.3 * size]
    if not near:
        raise ConvergenceError(
            "no limit cycle: the run does not return to where it ends. Try: a longer t_span, of many turns of the cycle"
        )
    closest = min(apart for _, apart in near)
    when = max(when for when, apart in near if apart <= max(3.0 * closest, 1e-4 * size))
    return float(t[-1] - when)


def _root(g0: float, g1: float, d0: float, d1: float) -> float:
    """Where between 0 and 1 the cubic with these values and slopes vanishes."""
    low, high = 0.0, 1.0
    for _ in range(50):
        θ = 0.5 * (low + high)
        g = (1 + 2 * θ) * (1 - θ) ** 2 * g0 + θ * (1 - θ) ** 2 * d0 + θ**2 * (3 - 2 * θ) * g1 + θ**2 * (θ - 1) * d1
        low, high = (θ, high) if g < 0 else (low, θ)
    return 0.5 * (low + high)


def _hermite(t: Array, r: Array, F: Array, at: Array) -> Array:
    """The states at times, by cubics through the run's states and rates."""
    k = np.clip(np.searchsorted(t, at, side="right") - 1, 0, t.size - 2)
    h = t[k + 1] - t[k]
    θ = ((at - t[k]) / h)[:, None]
    h = h[:, None]
    value = (1 + 2 * θ) * (1 - θ) ** 2 * r[k] + θ**2 * (3 - 2 * θ) * r[k + 1]
    return value + h * (θ * (1 - θ) ** 2 * F[k] + θ**2 * (θ - 1) * F[k + 1])


def sampled(family: Family, t: Array, r: Array, T: float, N: int) -> Orbit:
    """The last T of a run on N intervals, as fine as the run's path is long and its speed uneven."""
    F = family.F(r, np.empty(0))
    own = t[t > t[-1] - T]
    fine = np.union1d(np.linspace(t[-1] - T, t[-1], 2001), own)
    path = _hermite(t, r, F, fine)
    size = np.maximum(np.ptp(path, axis=0), 1e-300)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0) / size, axis=1))])
    even = 0.5 * length / length[-1] + 0.5 * (fine - fine[0]) / T
    s = np.interp(np.linspace(0.0, 1.0, N + 1), even, (fine - fine[0]) / T)
    s[0], s[-1] = 0.0, 1.0
    stages = (s[:-1, None] + np.diff(s)[:, None] * collocation.gauss()[0]).ravel()
    Y = _hermite(t, r, F, t[-1] - T + T * stages).reshape(N, collocation.M, -1)
    return Orbit(s, _hermite(t, r, F, t[-1] - T + T * s[:-1]), Y, T, np.empty(0))
