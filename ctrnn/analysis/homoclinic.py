r"""Where the period of a branch of cycles grows without bound: a homoclinic orbit and its point of rest.

The cycle lingers near that point, where |F| is least along it. With T → ∞

    a saddle        μ(T) = μ∞ + c e^(−κT)       κ the slowest rate of the saddle, min |Re λ|
    a saddle-node   μ(T) = μ∞ + c/T²            on an invariant circle (SNIC): μ∞ is the fold of equilibria itself

Sources: Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), sections 6.2 and 7.1; Beyn, IMA J. Numer. Anal. 10
(1990).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrnn.analysis import special_points
from ctrnn.analysis.collocation import Orbit
from ctrnn.analysis.family import Family
from ctrnn.analysis.many_starts import newton_all
from ctrnn.fields.base import Array

#: the point of rest lies within this of the cycle, in units of its extents
NEAR = 0.1
#: a point of rest whose slowest rate, times the period, is less than this is near a fold of equilibria
SLOW = 10.0


@dataclass(frozen=True)
class Homoclinic:
    """The orbit to which cycles tend: its parameter, the point of rest (n,), and "saddle" or "saddle-node"."""

    parameter: float
    r: Array
    type: str


def homoclinic(family: Family, before: Orbit, last: Orbit) -> Homoclinic | None:
    """The homoclinic orbit ahead of two cycles whose period grows; None where they do not linger at a point of rest."""
    Y = last.Y.reshape(-1, last.R.shape[1])
    speed = np.linalg.norm(family.F(Y, last.mu) / last.unit, axis=1)
    slowest, mu = Y[speed.argmin()], float(last.mu[0])
    rest, found = newton_all(Family(family.field(last.mu), (), family.x(last.mu), family.t), slowest[None], 1e-12)
    if found[0] and _is_near(rest[0], slowest, last):
        λ = np.linalg.eigvals(family.J(rest[0], last.mu)).real
        κ = float(np.abs(λ).min())
        if κ * last.T > SLOW:
            if not (λ > 0).any() or not (λ < 0).any():
                return None
            decay = np.exp(-κ * (last.T - before.T))
            return Homoclinic((mu - float(before.mu[0]) * decay) / (1.0 - decay), rest[0], "saddle")
    try:
        fold = special_points.fold(family, slowest, mu)
    except np.linalg.LinAlgError:
        return None
    # by 1/T² the parameter has about as far to go as this
    rate = last.T**-2 / (before.T**-2 - last.T**-2)
    ahead = abs(mu - float(before.mu[0])) * rate
    if fold is None or not _is_near(fold[0], slowest, last) or abs(fold[1] - mu) > 3.0 * ahead:
        return None
    return Homoclinic(fold[1], fold[0], "saddle-node")


def _is_near(r: Array, other: Array, orbit: Orbit) -> bool:
    return bool((np.abs(r - other) <= NEAR * orbit.unit).all())
