r"""The curve of limit cycles in one parameter: predictor, corrector and tangent in the space of (r(·), T, μ).

    ⟨u, v⟩ = Σ_ij h_i b_j ⟨u_ij, v_ij⟩/(n ρ²) + u_T v_T/T² + u_μ v_μ/(high − low)²

with ρ the states' largest extents so far. Each point is a collocation solution (ctrnn.analysis.collocation) bordered
by the row of the arc length; the mesh follows the cycle, and is doubled where the period asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctrnn.analysis import collocation
from ctrnn.analysis.collocation import Linear, Orbit, Row
from ctrnn.analysis.cycles import transitions
from ctrnn.analysis.family import Family
from ctrnn.analysis.floquet import multipliers
from ctrnn.fields.base import Array

#: doubles for the multipliers of each point
ENTRIES = 1_000_000
#: a mesh is fine enough where doubling changes the period by less, relatively
FINE = 1e-9
#: multipliers so large that the trivial one is this far from 1 tell nothing of special points
LOST = 1e-3
#: and where the trivial multiplier is as near to 1 as this
TRIVIAL = 1e-6
#: the largest mesh
LARGEST = 400


@dataclass
class Direction:
    """A tangent: dr/ds at the mesh points and the stages, dT/ds, dμ/ds."""

    R: Array
    Y: Array
    T: float
    mu: float

    def __neg__(self) -> Direction:
        return self.over(-1.0)

    def over(self, length: float) -> Direction:
        """The direction divided by a number."""
        return Direction(self.R / length, self.Y / length, self.T / length, self.mu / length)


@dataclass
class CyclePoint:
    """A cycle on the curve, its linearised equations, its tangent, and what tests found out about it."""

    orbit: Orbit
    linear: Linear
    tangent: Direction
    facts: dict[str, Any] = field(default_factory=dict)


class CycleCurve:
    """(r(·), T, μ) with its inner product."""

    def __init__(self, family: Family, unit: Array, span: tuple[float, float]) -> None:
        self.family, self.unit, self.span = family, unit, span

    def rescaled(self, point: CyclePoint) -> CyclePoint:
        """The point where its extents have become the unit, if they have outgrown it."""
        if (point.orbit.size <= 1.5 * self.unit).all():
            return point
        self.unit = np.maximum(self.unit, point.orbit.size)
        v = point.tangent
        shorter = v.over(float(np.sqrt(self.product(point.orbit, v, v))))
        return CyclePoint(point.orbit, point.linear, shorter, point.facts)

    def row(self, orbit: Orbit, direction: Direction, value: float) -> Row:
        """⟨direction, δ⟩ = value."""
        weights = (orbit.h[:, None] * collocation.gauss()[1])[:, :, None] / (orbit.R.shape[1] * self.unit**2)
        wmu = np.array([direction.mu / (self.span[1] - self.span[0]) ** 2])
        return Row(weights * direction.Y, direction.T / orbit.T**2, wmu, value)

    def product(self, orbit: Orbit, u: Direction, v: Direction) -> float:
        """⟨u, v⟩."""
        row = self.row(orbit, u, 0.0)
        return float((row.wY * v.Y).sum() + row.wT * v.T + row.wmu[0] * v.mu)

    def apart(self, a: Orbit, b: Orbit) -> Direction:
        """b − a on a mesh that is the same."""
        return Direction(b.R - a.R, b.Y - a.Y, b.T - a.T, float(b.mu[0] - a.mu[0]))

    def corrected(self, a: CyclePoint, h: float) -> tuple[CyclePoint, float] | None:
        """The point of the curve in the plane at the distance h along the tangent of a.

        How far it lies from where it was expected.
        """
        o, v = a.orbit, a.tangent
        guess = Orbit(o.s, o.R + h * v.R, o.Y + h * v.Y, o.T + h * v.T, o.mu + h * v.mu)
        if not guess.T > 0:
            return None

        def rows(orbit: Orbit) -> list[Row]:
            at = self.row(o, v, 0.0)
            done = self.apart(o, orbit)
            at_value = h - float((at.wY * done.Y).sum() + at.wT * done.T + at.wmu[0] * done.mu)
            return [Row(at.wY, at.wT, at.wmu, at_value)]

        found = collocation.newton(self.family, guess, o, rows, 10)
        if found is None:
            return None
        missed = self.apart(guess, found[0])
        return self.point(*found, v), float(np.sqrt(self.product(o, missed, missed)))

    def at_parameter(self, a: CyclePoint, near: Orbit, mu: float) -> CyclePoint | None:
        """The cycle at a value of the parameter, from one that is near."""

        def rows(orbit: Orbit) -> list[Row]:
            return [Row(np.zeros(orbit.Y.shape), 0.0, np.ones(1), float(mu - orbit.mu[0]))]

        found = collocation.newton(self.family, near, near, rows, 12)
        return None if found is None else self.point(*found, a.tangent)

    def point(self, orbit: Orbit, linear: Linear, towards: Direction | None) -> CyclePoint:
        """The point with its tangent, which looks where ``towards`` does, or the parameter grows."""
        if towards is None:
            N, m, n = orbit.Y.shape
            row = Row(np.zeros((N, m, n)), 0.0, np.ones(1), 0.0)
        else:
            row = self.row(orbit, towards, 0.0)
        factors = linear.matrix([collocation.phase_row(orbit, orbit, self.family), row])
        size = orbit.R.size
        z = factors.solve(np.eye(1, size + 2, size + 1)[0])  # type: ignore[attr-defined]
        dR, dY, dT, dmu = linear.spread(z, False)
        v = Direction(dR, dY, dT, float(dmu[0]))
        v = v.over(float(np.sqrt(self.product(orbit, v, v))))
        against = v.mu < 0 if towards is None else self.product(orbit, towards, v) < 0
        return CyclePoint(orbit, linear, -v if against else v)

    def tests(self, point: CyclePoint) -> None:
        """Write the multipliers, and the signs that change at special points, into ``facts``."""
        facts = point.facts
        if "multipliers" in facts:
            return
        found, log = multipliers(transitions(self.family, point.orbit, point.linear, ENTRIES))
        others = np.delete(found, np.abs(found - 1.0).argmin())
        real = others[others.imag == 0.0].real
        pairs = others[others.imag > 0.0]
        facts["multipliers"], facts["exponents"] = found, log / point.orbit.T
        facts["growing"] = int((np.abs(others) > 1.0).sum())
        facts["flip"] = -1.0 if (real < -1.0).sum() % 2 else 1.0
        facts["one"] = -1.0 if (real > 1.0).sum() % 2 else 1.0
        products = (real[:, None] * real[None, :])[np.triu_indices(real.size, 1)]
        facts["torus"] = -1.0 if ((products > 1.0).sum() + (np.abs(pairs) > 1.0).sum()) % 2 else 1.0
        # the sign is that of the count, the size that of the nearest: 2.4 and 0.001 after 0.7 have passed 1, though
        # 0.001 is nearer to it
        neutral, circle = _nearest(products - 1.0), _nearest(np.abs(pairs) - 1.0)
        facts["near −1"] = facts["flip"] * _nearest(real + 1.0)
        facts["near 1"] = -facts["one"] * _nearest(real - 1.0)
        facts["near circle"] = -facts["torus"] * min(neutral, circle)
        facts["is neutral"] = neutral < circle
        if np.abs(found - 1.0).min() > LOST:  # which multiplier is the trivial one is not known: nothing is told
            facts["flip"] = facts["one"] = facts["torus"] = 0.0

    def remeshed(self, a: CyclePoint) -> CyclePoint:
        """The point on a mesh that fits its cycle, twice as fine where its period asks for it.

        Its tangent goes with it.
        """
        N = len(a.orbit.R)
        moved = self._on_mesh(a, N)
        if moved is None:
            return a
        drifts = abs(moved.orbit.T - a.orbit.T) > FINE * a.orbit.T
        if (drifts or np.abs(a.facts["multipliers"] - 1.0).min() > TRIVIAL) and 2 * N <= LARGEST:
            finer = self._on_mesh(moved, 2 * N)
            moved = moved if finer is None else finer
        moved.facts = dict(a.facts)
        return moved

    def _on_mesh(self, a: CyclePoint, N: int) -> CyclePoint | None:
        """The point on a mesh of N intervals that fits it, where it was along its tangent."""
        o = a.orbit
        near = collocation.on_mesh(o, a.linear.F, collocation.better_mesh(o, a.linear.F, N))
        v = _transferred(a.tangent, o.s, near.s)

        def rows(orbit: Orbit) -> list[Row]:
            row, done = self.row(near, v, 0.0), self.apart(near, orbit)
            value = -float((row.wY * done.Y).sum() + row.wT * done.T + row.wmu[0] * done.mu)
            return [Row(row.wY, row.wT, row.wmu, value)]

        try:
            found = collocation.newton(self.family, near, near, rows, 10)
            return None if found is None else self.point(*found, v)
        except np.linalg.LinAlgError:
            return None


def _nearest(distances: Array) -> float:
    return float(np.abs(distances).min(initial=1.0))


def _transferred(v: Direction, old: Array, new: Array) -> Direction:
    """A direction on another mesh, by the polynomials through its values at each interval's start and stages."""
    c = collocation.gauss()[0]
    nodes = np.append(0.0, c)
    basis = np.linalg.inv(np.vander(nodes, increasing=True))
    values = np.concatenate([v.R[:, None], v.Y], axis=1)

    def at(s: Array) -> Array:
        i = np.clip(np.searchsorted(old, s, side="right") - 1, 0, len(v.R) - 1)
        θ = (s - old[i]) / np.diff(old)[i]
        return np.einsum("kp,pj,kjn->kn", np.vander(θ, nodes.size, increasing=True), basis, values[i])

    stages = (new[:-1, None] + np.diff(new)[:, None] * c).ravel()
    return Direction(at(new[:-1]), at(stages).reshape(new.size - 1, c.size, -1), v.T, v.mu)
