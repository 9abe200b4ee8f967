r"""A limit cycle: a periodic solution with its period, Floquet multipliers, stability and phase response.

    multipliers      eigenvalues of the monodromy matrix (ctrnn.analysis.floquet); one of them is 1, along the flow
    phase response   dZ/dt = −Jᵀ Z,  Z·F = 1,  periodic: the time gained by a small change of the state, Z·δr

Z is the left null vector of the same discrete equations, and so is the gradient of the period, dT/dw = −∮ Z·F_w dt,
exact for them.

Sources: Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), chapter 10; Ermentrout and Terman, *Mathematical
Foundations of Neuroscience* (2010), chapter 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as member
from typing import Any

import numpy as np

from ctrnn.analysis import collocation
from ctrnn.analysis import cycle_response as response
from ctrnn.analysis.collocation import Linear, Orbit
from ctrnn.analysis.family import Family
from ctrnn.analysis.floquet import multipliers
from ctrnn.fields.base import Array, Field
from ctrnn.names import position
from ctrnn.numbers import checked_array, whole

__all__ = ["Cycle"]

#: doubles that the stages' matrices may take on a mesh as fine as the fastest decay
ENTRIES = 20_000_000
#: |μ| − 1 of less is not told from 0, nor of less than so many times what the trivial multiplier misses 1 by
UNIT, ERRORS = 1e-9, 10.0


@dataclass(frozen=True, eq=False, repr=False)
class Cycle:
    """A limit cycle, on M times of one turn, the last of which is the first again.

    Attributes
    ----------
    period : T, in the unit of t
    t, r : (M,) times from 0 to T, and the states (M, n) there
    multipliers : (n,) Floquet multipliers, complex, the largest modulus first; one is 1, but for the error of the
        collocation
    exponents : (n,) log(multipliers)/T, per unit of t; they are right where a multiplier is too small for a number
    stable : whether all multipliers but that one lie inside the unit circle
    phase_response : (M, n) Z(t): the time that the oscillation gains by a small change δr of its state at t is Z·δr;
        Z·F = 1
    amplitude : (n,) largest minus least value of each state
    error : what doubling the mesh last changed in the period, relatively; NaN where the mesh was given
    name, parameter : a parameter's name and its value, of a cycle from a Hopf point or a branch; "" and None else
    field, x : the field and the input (inputs,), held
    orbit : the collocation solution itself (ctrnn.analysis.collocation)

    Examples
    --------
    >>> from ctrnn import Equations, Problem
    >>> from ctrnn.analysis import limit_cycle
    >>> field = Equations({"u": "u*(1 - u**2 - v**2) - 2*v", "v": "v*(1 - u**2 - v**2) + 2*u"}, {})
    >>> cycle = limit_cycle(Problem(field, [1.0, 0.5], (0.0, 40.0)))
    >>> round(cycle.period, 9), cycle.exponents.real.round(9) + 0.0  # π, and 0 along the flow
    (3.141592654, array([ 0., -2.]))
    """

    period: float
    t: Array
    r: Array
    multipliers: Array
    exponents: Array
    stable: bool
    phase_response: Array
    amplitude: Array
    error: float
    field: Field = member(repr=False)
    x: Array | None = None
    name: str = ""
    parameter: float | None = None
    orbit: Orbit = member(repr=False, kw_only=True)

    def __call__(self, t: Any) -> Array:
        """The states at any times, (n,) or (T, n), by the collocation polynomials."""
        times = np.atleast_1d(checked_array("t", t))
        family = Family(self.field, (), self.x)
        F = family.F(self.orbit.Y.reshape(-1, self.field.n), np.empty(0)).reshape(self.orbit.Y.shape)
        found = collocation.evaluate(self.orbit, F, times / self.period)
        return found[0] if np.ndim(t) == 0 else found

    def period_gradient(self) -> dict[str, Array]:
        """dT/dw by all parameters of the field, name -> array: exact for the collocation equations."""
        still = np.zeros_like(self.orbit.R), np.zeros_like(self.orbit.Y)
        return self.field.unflatten(response.gradient_of(self._linear, self.field, *still, 1.0))

    def amplitude_gradient(self, state: str | int = 0) -> dict[str, Array]:
        """d amplitude/dw of one state, by its name or number, by all parameters of the field, name -> array.

        As accurate as the polynomials between two mesh points, some 6 digits.
        """
        number = position("state", state, self.field.state_names)
        return self.field.unflatten(response.amplitude_gradient(self._linear, self.field, number))

    def multiplier_gradient(self, k: int = 1) -> dict[str, Array]:
        """d(multiplier k)/dw by all parameters of the field, name -> array; complex for a complex multiplier.

        It takes second derivatives of the field. Of the multiplier 1 along the flow it is 0. A multiplier that is
        double has none, and numbers that mean nothing come back.
        """
        exponent, is_negative = self._mode(k)
        log = response.log_multiplier_gradient(self._linear, self.field, exponent, is_negative)
        found = self.multipliers[k] * log
        real = self.field.unflatten(np.ascontiguousarray(found.real))
        if not self.multipliers[k].imag:
            return real
        imaginary = self.field.unflatten(np.ascontiguousarray(found.imag))
        return {name: value + 1j * imaginary[name] for name, value in real.items()}

    def floquet_mode(self, k: int = 1) -> tuple[Array, Array]:
        """The mode v (M, n) of the multiplier k and its response I (M, n), on the times ``t``.

        A small change δr at t excites the mode by I(t)·δr, which then decays as v(t) e^(κt), κ the exponent; I·v = 1
        and |v(0)| = 1. Of the largest multiplier below 1 (k = 1 on a stable cycle) I is the isostable response.
        """
        v, found = response.floquet_mode(self._linear, *self._mode(k))
        return (v.real, found.real) if not self.multipliers[k].imag else (v, found)

    @property
    def isostable_response(self) -> Array:
        """(M, n) the response of the slowest mode beside the phase, ∇ψ of the isostable coordinate ψ."""
        others = np.delete(np.arange(self.multipliers.size), np.abs(self.multipliers - 1.0).argmin())
        return self.floquet_mode(int(others[0]))[1]

    @property
    def _linear(self) -> Linear:
        return response.linear_of(self.field, self.x, self.orbit)

    def _mode(self, k: int) -> tuple[complex, bool]:
        n = self.multipliers.size
        whole("k", k, 0, f"the number of a multiplier, 0 to {n - 1}", n - 1)
        value = complex(self.exponents[k])
        # of a real multiplier the real part alone; a negative one turns the mode round
        return (value, False) if self.multipliers[k].imag else (value.real, bool(self.multipliers[k].real < 0))

    def __repr__(self) -> str:
        where = f" at {self.name} = {self.parameter:.10g}" if self.parameter is not None else ""
        shown = ", ".join(f"{m:.6g}" if m.imag else f"{m.real:.6g}" for m in self.multipliers[:6])
        shown += f", … ({self.multipliers.size} in all)" if self.multipliers.size > 6 else ""
        kind = "stable" if self.stable else "unstable"
        known = f" (± {self.error * self.period:.0e})" if np.isfinite(self.error) else ""
        return f"{kind} limit cycle{where}: period {self.period:.12g}{known}, multipliers {shown}"


def cycle_of(family: Family, orbit: Orbit, linear: Linear, error: float) -> Cycle:
    """The cycle with its multipliers and phase response."""
    found, log = multipliers(transitions(family, orbit, linear))
    turn = np.append(orbit.R, orbit.R[:1], axis=0)
    Z = _adjoint(linear, family)
    F = family.F(np.asarray(turn), orbit.mu)
    Z = np.append(Z[-1:], Z, axis=0)  # Z of the end of each interval; the start is the end
    Z = Z / (Z * F).sum(axis=1)[:, None]
    grid = np.linspace(0.0, 1.0, 2001)[:-1]
    path = collocation.evaluate(orbit, linear.F, grid)
    mu = orbit.mu
    return Cycle(
        period=float(orbit.T),
        t=orbit.T * orbit.s,
        r=turn,
        multipliers=found,
        exponents=log / orbit.T,
        stable=is_stable(found),
        phase_response=Z,
        amplitude=response.extent(path),
        error=float(error),
        field=family.field(mu),
        x=family.x(mu),
        name=family.names[0] if mu.size else "",
        parameter=float(mu[0]) if mu.size else None,
        orbit=orbit,
    )


def is_stable(multipliers: Array) -> bool:
    """Whether all but the trivial one lie inside the unit circle, by more than rounding.

    The trivial one, which should be 1, tells how large that is: beside a second one at 1 it is a root of round-off.
    """
    off = np.abs(multipliers - 1.0)
    trivial = int(off.argmin())
    return bool((np.abs(np.delete(multipliers, trivial)) < 1.0 - max(UNIT, ERRORS * off[trivial])).all())


def _adjoint(linear: Linear, family: Family) -> Array:
    """Z (N, n) at the ends of the intervals: λ C = 0 with Σ λ g = 1, where g is what one unit of T adds."""
    orbit = linear.orbit
    N, _, n = orbit.Y.shape
    alone = Orbit(orbit.s, orbit.R, orbit.Y, orbit.T, np.empty(0))
    bare = linear if not orbit.mu.size else Linear(_fixed(family, orbit.mu), alone)
    factors = bare.matrix([collocation.phase_row(alone, alone, _fixed(family, orbit.mu))])
    λ = factors.solve(-np.eye(1, N * n + 1, N * n)[0], transposed=True)  # type: ignore[attr-defined]
    return λ[: N * n].reshape(N, n)


def _fixed(family: Family, mu: Array) -> Family:
    """The family with its parameters held at μ."""
    return Family(family.field(mu), (), family.x(mu), family.t) if mu.size else family


def transitions(family: Family, orbit: Orbit, linear: Linear, entries: int = ENTRIES) -> Array:
    """The transition matrices (K, n, n) on a mesh that resolves the fastest decay, h T ‖J‖ ≤ 1, where memory allows.

    They are those of the states in units of their extent: the multipliers are the same, and the products better
    conditioned. A Gauss method takes e^z for a fraction that tends to ±1, so that the mesh of the cycle itself would
    do only for
    slow decay.
    """
    N, m, n = orbit.Y.shape
    J = family.J(orbit.Y.reshape(-1, n), orbit.mu).reshape(N, m, n, n)
    J = J * orbit.unit / orbit.unit[:, None]  # states in units of their own extent
    rate = np.sqrt((J * J).sum(axis=(2, 3))).max(axis=1)
    parts = np.ceil(orbit.T * orbit.h * rate - 0.5).astype(int).clip(1)
    if parts.max() == 1 or parts.sum() * (m * n) ** 2 > entries:
        return linear.G * orbit.unit / orbit.unit[:, None]
    s = np.concatenate([a + (b - a) * np.arange(k) / k for a, b, k in zip(orbit.s, orbit.s[1:], parts, strict=False)])
    s = np.append(s, 1.0)
    moved = collocation.on_mesh(orbit, linear.F, s)
    return Linear(family, moved).G * orbit.unit / orbit.unit[:, None]
