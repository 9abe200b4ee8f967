r"""Maps: r ← M(r) = r + dt F(r), one Euler step of a field. With dt = tau it is the recurrent network of discrete time.

    a cycle of period p    r_{i+1} = M(r_i),  r_{p+1} = r_1          p = 1: a fixed point, where F vanishes
    its multipliers        eigenvalues of DM(r_p) … DM(r_1),  DM = I + dt J
    stable                 all of them inside the unit circle; one leaves it through 1 (fold), −1 (flip), or a pair
                           does (Neimark–Sacker)

All p points are unknowns of Newton's method together (multiple shooting), so that cycles are found that no orbit stays
near to, from many starts at once. Any map r ← f(r) is the Euler step of F = f(r) − r with dt = 1. Its Lyapunov
exponents are those of ctrnn.analysis.lyapunov_spectrum(…, solver="euler", dt=dt).

Source: Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), chapter 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.analysis.family import NONE, Family
from ctrnn.analysis.floquet import multipliers
from ctrnn.analysis.many_starts import newton_all
from ctrnn.errors import NotFiniteError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.memory import claim
from ctrnn.numbers import checked_array, real_array, whole
from ctrnn.states import runs_of, state_of
from ctrnn.threads import one_blas_thread

__all__ = ["EulerMap", "MapCycle", "MapCycles"]

#: | |μ| − 1 | of less is not told from 0
UNIT = 1e-9


@dataclass(frozen=True, eq=False, repr=False)
class MapCycle:
    """A cycle of a map; of period 1 a fixed point.

    Attributes
    ----------
    r : ndarray (p, n)
        Its points, in the order in which the map visits them.
    multipliers : ndarray (n,)
        Complex, the largest modulus first.
    exponents : ndarray (n,)
        log|multiplier|/(p dt), per unit of t.
    kind : str
        "stable", "saddle", "unstable" (all multipliers outside the unit circle) or "non-hyperbolic" (one on it).
    dt : float
        The step.

    Examples
    --------
    >>> import ctrnn
    >>> logistic = EulerMap(ctrnn.Equations({"r": "a*r*(1 - r) - r"}, {"a": 3.2}))
    >>> cycle = logistic.cycles([[0.5], [0.1]], period=2)[0]
    >>> cycle.kind, round(float(cycle.multipliers[0].real), 12)  # 4 + 2a − a²
    ('stable', 0.16)
    """

    r: Array
    multipliers: Array
    exponents: Array
    kind: str
    dt: float

    @property
    def period(self) -> int:
        """How many steps a turn takes."""
        return len(self.r)

    @property
    def stable(self) -> bool:
        """Whether all multipliers lie inside the unit circle."""
        return self.kind == "stable"

    @property
    def index(self) -> int:
        """The number of multipliers outside the unit circle."""
        return int((np.abs(self.multipliers) > 1 + UNIT).sum())

    def __repr__(self) -> str:
        shown = ", ".join(f"{m:.6g}" if m.imag else f"{m.real:.6g}" for m in self.multipliers[:4])
        shown += ", …" if self.multipliers.size > 4 else ""
        what = "fixed point" if self.period == 1 else f"cycle of period {self.period}"
        at = np.array2string(self.r[0], precision=6, threshold=6, edgeitems=2).replace("\n", "")
        return f"{self.kind} {what} of the map, multipliers {shown}, at r = {at}"


@dataclass(frozen=True, eq=False, repr=False)
class MapCycles:
    """The cycles of one period that many starts lead to, the most stable first.

    Attributes
    ----------
    rows : tuple of MapCycle
        The cycles.
    reached : ndarray (k,) of int
        By how many starts.
    lost : int
        Starts that led to none, or to one of a shorter period.

    Examples
    --------
    >>> import ctrnn
    >>> found = EulerMap(ctrnn.Equations({"r": "a*r*(1 - r) - r"}, {"a": 3.2})).fixed_points([[0.1], [0.7]])
    >>> [(row.kind, round(float(row.r[0, 0]), 4)) for row in found]
    [('unstable', 0.6875), ('unstable', 0.0)]
    """

    rows: tuple[MapCycle, ...]
    reached: Array
    lost: int

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[MapCycle]:
        return iter(self.rows)

    def __getitem__(self, i: int) -> MapCycle:
        return self.rows[i]

    def __repr__(self) -> str:
        head = f"{len(self)} cycles, {self.lost} starts led to none of this period"
        return "\n".join([head, *(f"  {row}" for row in self.rows)])


class EulerMap:
    """The map r ← r + dt F(r, x) of a field, with x held.

    Parameters
    ----------
    field : Field
        F.
    dt : float, default 1.0
        The step, in the unit of t; a network's tau makes it a recurrent network of discrete time.
    x : (inputs,) array_like, optional
        Input, held.
    t : float, default 0.0
        Time, held, for a field that names it.

    Raises
    ------
    UsageError
        For a step that is not positive.

    Examples
    --------
    >>> import ctrnn
    >>> henon = EulerMap(ctrnn.Equations({"u": "1 - a*u**2 + v - u", "v": "b*u - v"}, {"a": 1.4, "b": 0.3}))
    >>> henon([0.0, 0.0])
    array([1., 0.])
    >>> round(float(np.linalg.det(henon.jacobian([0.5, 0.1]))), 12)
    -0.3
    """

    def __init__(self, field: Field, dt: float = 1.0, x: Any = None, t: float = 0.0) -> None:
        self.field, self.dt = field, float(checked_array("dt", dt, ()))
        if not self.dt > 0:
            raise UsageError("dt", given=dt, allowed="a positive step")
        self._family = Family(field, (), x, t)

    def __repr__(self) -> str:
        return f"EulerMap(r + {self.dt:g} F(r), {self.field.n} states)"

    def __call__(self, r: Any) -> Array:
        """The next state of one (n,), or of many (K, n)."""
        r = self._states(r)
        return r + self.dt * self._family.F(r, NONE)

    def jacobian(self, r: Any) -> Array:
        """DM = I + dt J (n, n) at a state, or (K, n, n) at many."""
        r = self._states(r)
        return np.asarray(np.eye(self.field.n) + self.dt * self._family.J(r, NONE))

    def orbit(self, r0: Any, steps: int) -> Array:
        """The states (steps + 1, n) from r0 on."""
        claim("steps", 8.0 * whole("steps", steps, 0) * self.field.n, "fewer steps at a time")
        r = np.empty((steps + 1, self.field.n))
        r[0] = state_of(self.field, r0)
        for k in range(steps):
            r[k + 1] = self(r[k])
        return r

    def fixed_points(self, starts: Any) -> MapCycles:
        """The fixed points that starts (K, n) lead to: where F vanishes, with their multipliers 1 + dt λ."""
        return self.cycles(starts, 1)

    def cycles(self, starts: Any, period: int = 1, tol: float = 1e-12) -> MapCycles:
        """The cycles of a period that starts lead to, each once; those of a shorter period are left out.

        Parameters
        ----------
        starts : (K, n) array_like
            States; the first guess of a cycle is the orbit from each.
        period : int, default 1
            Steps a turn.
        tol : float
            The largest error of a point, over max(1, |r|) and the row sums of DM.

        Returns
        -------
        MapCycles
            A table of `MapCycle`.

        Raises
        ------
        UsageError
            For starts that are not states, or a period that is not positive.

        Examples
        --------
        >>> import ctrnn
        >>> logistic = EulerMap(ctrnn.Equations({"r": "a*r*(1 - r) - r"}, {"a": 4.0}))
        >>> starts = np.linspace(0.01, 0.99, 200)[:, None]
        >>> [len(logistic.cycles(starts, period)) for period in (1, 2, 3, 4)]
        [2, 1, 2, 3]
        """
        n = self.field.n
        states = np.concatenate(runs_of("starts", starts, n))
        period = whole("period", period, 1)
        claim("period", 16.0 * (period * n) ** 2, "a shorter period")
        with one_blas_thread, np.errstate(all="ignore"):
            guess = [states]
            for _ in range(period - 1):
                guess.append(self(guess[-1]))
            ends, ok = newton_all(_Closing(self, int(period)), np.concatenate(guess, axis=1), tol)  # type: ignore[arg-type]
            found = [self._canonical(r.reshape(period, n)) for r in ends[ok]]
            kept: list[Array] = []
            reached: list[int] = []
            lost = int((~ok).sum())
            for r in found:
                if r is None:
                    lost += 1
                    continue
                near = [k for k, one in enumerate(kept) if _same(one, r)]
                if near:
                    reached[near[0]] += 1
                else:
                    kept.append(r)
                    reached.append(1)
            rows = [self._row(r) for r in kept]
        order = sorted(range(len(rows)), key=lambda k: (round(abs(rows[k].multipliers[0]), 9), tuple(rows[k].r[0])))
        return MapCycles(tuple(rows[k] for k in order), np.array([reached[k] for k in order], dtype=int), lost)

    def _canonical(self, r: Array) -> Array | None:
        """The points begun at the least one; None for a shorter period."""
        p = len(r)
        for q in range(1, p):
            if p % q == 0 and _same(r, np.roll(r, q, axis=0)):
                return None
        # round first: rounding must not decide which of two equal numbers is less
        return np.roll(r, -min(range(p), key=lambda i: tuple(np.round(r[i], 9))), axis=0)

    def _row(self, r: Array) -> MapCycle:
        J = np.array(self.jacobian(r))
        if not np.abs(J).max() < 1e150:  # its squares would be infinite
            raise NotFiniteError(f"the map has a Jacobian beyond 1e150 there. Try: a dt smaller than {self.dt:g}")
        found, log = multipliers(J)
        modulus = np.abs(found)
        if (np.abs(modulus - 1.0) <= UNIT).any():
            kind = "non-hyperbolic"
        else:
            kind = "stable" if (modulus < 1).all() else "unstable" if (modulus > 1).all() else "saddle"
        return MapCycle(r, found, log.real / (len(r) * self.dt), kind, self.dt)

    def _states(self, r: Any) -> Array:
        r = real_array("r", r)
        if r.ndim not in (1, 2) or r.shape[-1] != self.field.n:
            raise UsageError("r", given=f"shape {r.shape}", allowed=f"a state ({self.field.n},), or many of them")
        return r


def _same(a: Array, b: Array) -> bool:
    return bool(np.abs(a - b).max() <= 1e-6 * max(1.0, float(np.abs(a).max())))


class _Closing:
    """r_{i+1} − M(r_i) for all points of a cycle, as a field of pn states for Newton's method from many starts."""

    def __init__(self, of: EulerMap, period: int) -> None:
        self.of, self.period, self.n = of, period, of.field.n

    def F(self, R: Array, _: Array) -> Array:
        r = R.reshape(-1, self.n)
        finite = np.isfinite(r).all(axis=1)
        ahead = np.where(finite[:, None], self.of(np.where(finite[:, None], r, 0.0)), np.nan).reshape(R.shape)
        return np.asarray(np.roll(ahead, self.n, axis=-1) - R)

    def J(self, R: Array, _: Array) -> Array:
        K, p, n = len(R), self.period, self.n
        D = self.of.jacobian(R.reshape(-1, n)).reshape(K, p, n, n)
        out = np.zeros((K, p, n, p, n))
        for i in range(p):
            out[:, (i + 1) % p, :, i, :] += D[:, i]
            out[:, i, :, i, :] -= np.eye(n)
        return out.reshape(K, p * n, p * n)
