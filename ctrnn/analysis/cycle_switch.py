r"""The cycle of twice the period that is born at a flip.

At a flip the linearised flow turns a direction q into −q over a period: Φ(T) q = −q. Of the cycle twice round,

    r(t) + ε v(t),   v(t) = Φ(t) q for 0 ≤ t < T and −Φ(t − T) q for T ≤ t < 2T

is a first guess of the new cycle; Newton's method on the collocation equations with the amplitude ε held finds it, and
the parameter where it has that amplitude.

Source: Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), section 10.2.
"""

from __future__ import annotations

import numpy as np

from ctrnn.analysis import collocation
from ctrnn.analysis.collocation import Linear, Orbit, Row
from ctrnn.analysis.cycle_results import SpecialCycle
from ctrnn.analysis.cycles import Cycle, cycle_of
from ctrnn.analysis.family import Family
from ctrnn.errors import ConvergenceError, UsageError
from ctrnn.threads import one_blas_thread

__all__ = ["double_period"]


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
    if not 0 < amplitude < np.inf:
        raise UsageError("amplitude", given=amplitude, allowed="a positive number")
    o = special.cycle.orbit
    family = Family(special.cycle.field, (special.name,), special.cycle.x)
    with one_blas_thread, np.errstate(all="ignore"):
        linear = Linear(family, Orbit(o.s, o.R, o.Y, o.T, np.array([special.parameter])))
        vR, vY = _turned(linear)
        # a state that rests on the old cycle may move on the new one: its unit is a part of the largest
        unit = np.maximum(o.unit, 0.1 * o.unit.max())
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
