r"""The cycles that are born at a special one: of twice the period at a flip, of the other branch at a branch point.

At a flip the linearised flow turns a direction q into −q over a period: Φ(T) q = −q. Of the cycle twice round,

    r(t) + ε v(t),   v(t) = Φ(t) q for 0 ≤ t < T and −Φ(t − T) q for T ≤ t < 2T

is a first guess of the new cycle; Newton's method on the collocation equations with the amplitude ε held finds it, and
the parameter where it has that amplitude.

At a branch point the equations G(y) = 0 of the cycles y = (r(·), T, μ) have two null directions, the tangent v of the
branch and q,

    G_y v = G_y q = 0,   ⟨v, q⟩ = 0,          q by inverse iteration on [G_y; vᵀ], which is singular there

and the other branch crosses the planes ⟨q, y − y*⟩ = ±ε beside it: Newton's method finds it on both, and
so its direction. A pitchfork is where μ stands still along one of the two branches.

Sources: Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), section 10.2; Keller, *Lectures on Numerical
Methods in Bifurcation Problems* (1987), section 5.26.
"""

from __future__ import annotations

import numpy as np

from ctrnn.analysis import collocation
from ctrnn.analysis.collocation import Linear, Orbit, Row
from ctrnn.analysis.cycle_curve import CycleCurve, CyclePoint, Direction
from ctrnn.analysis.cycle_results import SpecialCycle
from ctrnn.analysis.cycles import Cycle, cycle_of
from ctrnn.analysis.family import Family
from ctrnn.errors import ConvergenceError, UsageError
from ctrnn.numbers import positive
from ctrnn.threads import one_blas_thread

__all__ = ["double_period", "switch_cycle"]

#: the planes on which the other branch is sought lie this far from a branch point
BESIDE = 0.01
#: the parameter stands still along a direction of which it is a smaller part
STILL = 1e-3


def double_period(special: SpecialCycle, *, amplitude: float = 0.02) -> Cycle:
    """The cycle of about twice the period that is born at a flip, near it.

    Parameters
    ----------
    special : SpecialCycle
        A point of kind "flip" of a CycleBranch.
    amplitude : float
        How far the new cycle lies from the old one, as a part of its extent.

    Returns
    -------
    Cycle
        With the parameter's value where it has that amplitude; ``continue_cycles`` follows it.

    Raises
    ------
    UsageError
        For a point that is no flip, or an amplitude that is not positive.
    ConvergenceError
        Where no cycle of that amplitude is found.

    Examples
    --------
    >>> from ctrnn import Equations, Problem
    >>> from ctrnn.analysis import continue_cycles, limit_cycle
    >>> field = Equations({"x": "-y - z", "y": "x + a*y", "z": "b + z*(x - c)"}, {"a": 0.2, "b": 0.2, "c": 2.5})
    >>> cycle = limit_cycle(Problem(field, [1.0, 1.0, 0.0], (0.0, 500.0)))
    >>> flip = continue_cycles(field, cycle, "c", (2.4, 3.0)).of_kind("flip")[0]
    >>> doubled = double_period(flip)
    >>> round(doubled.period / flip.period, 2), doubled.stable, doubled.parameter > flip.parameter
    (2.0, True, True)
    """
    if not isinstance(special, SpecialCycle) or special.kind != "flip":
        raise UsageError("special", given=special, allowed="a point of kind 'flip' of a CycleBranch")
    amplitude = positive("amplitude", amplitude)
    o = special.cycle.orbit
    family = Family(special.cycle.field, (special.name,), special.cycle.x)
    with one_blas_thread, np.errstate(all="ignore"):
        linear = Linear(family, Orbit(o.s, o.R, o.Y, o.T, np.array([special.parameter])))
        vR, vY = _turned(linear)
        unit = o.scale
        size = np.abs(vY / unit).max()
        vR, vY = vR * amplitude / size, vY * amplitude / size
        s = np.concatenate([0.5 * o.s[:-1], 0.5 + 0.5 * o.s])
        twice = Orbit(s, np.tile(o.R, (2, 1)), np.tile(o.Y, (2, 1, 1)), 2 * o.T, np.array([special.parameter]))
        direction = np.concatenate([vY, -vY]) / unit**2
        guess = Orbit(s, twice.R + np.concatenate([vR, -vR]), twice.Y + np.concatenate([vY, -vY]), twice.T, twice.mu)
        weights = direction * (twice.h[:, None] * collocation.gauss()[1])[:, :, None]
        whole = float((weights * (guess.Y - twice.Y)).sum())

        def rows(orbit: Orbit) -> list[Row]:
            held = 1.0 - float((weights * (orbit.Y - twice.Y)).sum()) / whole
            return [Row(weights / whole, 0.0, np.zeros(1), held)]

        found = collocation.newton(family, guess, guess, rows)
        if found is None:
            raise ConvergenceError(
                f"no cycle of twice the period found at the amplitude {amplitude:g}. Try: a smaller amplitude"
            )
        return cycle_of(family, *found, np.nan)


def _turned(linear: Linear) -> tuple[np.ndarray, np.ndarray]:
    """Φ(t) q at the mesh points and at the stages, for the q that one turn takes to −q."""
    G, (N, m, n) = linear.G, linear.orbit.Y.shape
    # the null vector of the cyclic system whose last equation has the other sign: v_{i+1} = G_i v_i, v_N = −v_0
    C = np.zeros((N, n, N, n))
    at = np.arange(N)
    C[at, :, at, :] -= G
    C[at[:-1], :, at[1:], :] += np.eye(n)
    C[-1, :, 0, :] -= np.eye(n)
    v = np.linalg.svd(C.reshape(N * n, N * n))[2][-1].reshape(N, n)
    return v, np.einsum("ipn,in->ip", linear.X[:, :, :n], v).reshape(N, m, n)


def switch_cycle(special: SpecialCycle, *, amplitude: float = 0.02) -> Cycle:
    """The cycle on the other branch through a branch point of cycles, near it.

    Parameters
    ----------
    special : SpecialCycle
        A point of kind "branch" of a CycleBranch.
    amplitude : float
        How far the new cycle lies from the branch point, as a part of the cycle's extent, its period, and
        the parameter's size or 1.

    Returns
    -------
    Cycle
        With the parameter's value where it lies so far away; ``continue_cycles`` follows it, through the branch point
        to its other side.

    Raises
    ------
    UsageError
        For a point that is no branch point of two branches, or an amplitude that is not positive.
    ConvergenceError
        Where no cycle is found so far away.

    Examples
    --------
    >>> from ctrnn import Equations, Problem
    >>> from ctrnn.analysis import continue_cycles, limit_cycle
    >>> circle = {"u": "u*(1 - u**2 - v**2) - 2*v", "v": "v*(1 - u**2 - v**2) + 2*u"}
    >>> field = Equations(circle | {"z": "a*z - z**3"}, {"a": -0.5})
    >>> cycle = limit_cycle(Problem(field, [0.8, 0.0, 0.1], (0.0, 50.0)))
    >>> point = continue_cycles(field, cycle, "a", (-1.0, 1.0)).of_kind("branch")[0]
    >>> other = switch_cycle(point)
    >>> point.type, bool(np.allclose(other.r[:, 2] ** 2, other.parameter))  # z² = a
    ('pitchfork', True)
    """
    if not isinstance(special, SpecialCycle) or special.direction is None:
        raise UsageError("special", given=special, allowed="a branch point (kind 'branch') of a CycleBranch")
    amplitude = positive("amplitude", amplitude)
    o, μ = special.cycle.orbit, special.parameter
    family = Family(special.cycle.field, (special.name,), special.cycle.x)
    curve = CycleCurve(family, o.scale, (μ - 0.5 * max(1.0, abs(μ)), μ + 0.5 * max(1.0, abs(μ))))
    d = special.direction
    with one_blas_thread, np.errstate(all="ignore"):
        d = d.over(np.sqrt(curve.product(o, d, d)))
        found = _beside(curve, o, d, amplitude)
        if found is None:
            raise ConvergenceError(
                f"no cycle of the other branch found at the amplitude {amplitude:g}. Try: a smaller amplitude"
            )
        return cycle_of(family, *found, np.nan)


def other_branch(curve: CycleCurve, point: CyclePoint) -> tuple[Direction, bool] | None:
    """The direction of the other branch through a branch point, and whether it is a pitchfork.

    None where no second branch is found.
    """
    o, linear, v = point.orbit, point.linear, point.tangent
    try:
        factors = linear.matrix([collocation.phase_row(o, o, curve.family), curve.row(o, v, 0.0)])
        z = np.random.default_rng(0).normal(size=o.R.size + 2)
        for _ in range(4):
            for transposed in (True, False):
                z = factors.solve(z, transposed)  # type: ignore[attr-defined]
                z = z / np.linalg.norm(z)
        dR, dY, dT, dmu = linear.spread(z, False)
        q = Direction(dR, dY, dT, float(dmu[0]))
        q = q.over(np.sqrt(curve.product(o, q, q)))
        ahead, behind = (_beside(curve, o, q, ε) for ε in (BESIDE, -BESIDE))
    except np.linalg.LinAlgError:
        return None
    if ahead is None or behind is None:
        return None
    d = curve.apart(behind[0], ahead[0])
    d = d.over(np.sqrt(curve.product(o, d, d)))
    width = curve.span[1] - curve.span[0]
    return d, bool(min(abs(d.mu), abs(v.mu)) < STILL * width)


def _beside(curve: CycleCurve, o: Orbit, q: Direction, ε: float) -> tuple[Orbit, Linear] | None:
    """The cycle in the plane ⟨q, y − o⟩ = ε, from o + ε q."""
    guess = Orbit(o.s, o.R + ε * q.R, o.Y + ε * q.Y, o.T + ε * q.T, o.mu + ε * q.mu)
    row = curve.row(o, q, 0.0)

    def rows(orbit: Orbit) -> list[Row]:
        return [Row(row.wY, row.wT, row.wmu, ε - curve.product(o, q, curve.apart(o, orbit)))]

    return collocation.newton(curve.family, guess, o, rows)
