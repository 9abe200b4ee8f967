r"""Limit cycles: a periodic solution, its period, Floquet multipliers, stability and phase response.

From a run: where the trajectory returns to its last state is a first guess of the cycle; from a Hopf point it is r* +
ε Re(q e^{iωt}), the ellipse of that size on which the field has a cycle at a parameter nearby. Newton's method on the
collocation equations (ctrnn.analysis.collocation) then finds the cycle itself, stable or not, on meshes that are
refined until the period stays.

    multipliers      eigenvalues of the monodromy matrix (ctrnn.analysis.floquet); one of them is 1, along the flow
    phase response   dZ/dt = −Jᵀ Z,  Z·F = 1,  periodic: the time gained by a small change of the state, Z·δr

Z is the left null vector of the same discrete equations, and so is the gradient of the period, dT/dw = −∮ Z·F_w dt,
exact for them.

Sources: Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), chapter 10; Ermentrout and Terman, *Mathematical
Foundations of Neuroscience* (2010), chapter 8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as member
from functools import partial
from typing import Any

import numpy as np

from ctrnn.analysis import collocation
from ctrnn.analysis import cycle_response as response
from ctrnn.analysis.branch import SpecialPoint
from ctrnn.analysis.collocation import Linear, Orbit, Row
from ctrnn.analysis.family import Family, depends_on_time
from ctrnn.analysis.floquet import multipliers
from ctrnn.analysis.returns import return_time, sampled
from ctrnn.analysis.special_points import null_vectors
from ctrnn.errors import ConvergenceError, UsageError
from ctrnn.fields.base import Array, Field, checked_array
from ctrnn.inputs import Constant
from ctrnn.names import position
from ctrnn.numbers import positive, whole
from ctrnn.problem import Problem, checked_problem
from ctrnn.solvers.simulate import simulate
from ctrnn.threads import one_blas_thread

__all__ = ["Cycle", "limit_cycle"]

#: intervals of the meshes on which Newton's method begins, and the most that the period is given
MESHES, LARGEST_MESH = (24, 96, 384), 768
#: doubles that the stages' matrices may take on a mesh as fine as the fastest decay
ENTRIES = 20_000_000
#: the period stays where doubling the mesh changes it by less, relatively
TOLERANCE = 1e-11
#: |μ| − 1 of less is not told from 0
UNIT = 1e-6


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
    error : what doubling the mesh last changed in the period, relatively
    name, parameter : a parameter's name and its value, of a cycle from a Hopf point or a branch; "" and None else
    field, x : the field and the input (inputs,), held
    orbit : the collocation solution itself (ctrnn.analysis.collocation)

    Examples
    --------
    >>> from ctrnn import Equations, Problem
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
        return f"{kind} limit cycle{where}: period {self.period:.12g} (± {self.error:.0e}), multipliers {shown}"


def limit_cycle(
    problem: Problem | Field,
    hopf: SpecialPoint | None = None,
    *,
    period: float | None = None,
    amplitude: float = 0.01,
    tol: float = TOLERANCE,
) -> Cycle:
    """The limit cycle that a run reaches, or that is born at a Hopf point.

    Parameters
    ----------
    problem : a `Problem` whose run comes near the cycle by the end of its t_span; its input is constant and F does not
        depend on t.
        Or a field, together with ``hopf``
    hopf : a point of kind "hopf" on a `Branch` of that field; the cycle then is one near it, at a value of the
        parameter nearby
    period : a first guess of the period, where the run's last turn is of another length; by default that of its last
        return
    amplitude : of the cycle at a Hopf point, as a part of max(1, max |r|)
    tol : the mesh is doubled until the period changes by less than this, relatively

    Returns
    -------
    Cycle
        with ``period``, ``multipliers``, ``stable``, ``r``, ``t`` and ``phase_response``

    Raises
    ------
    UsageError
        for a field of one state, one that depends on t or a driven one, or a point that is no Hopf point
    ConvergenceError
        where the run comes to rest, does not return, or leads to no cycle

    Examples
    --------
    >>> from ctrnn import Equations, Problem
    >>> field = Equations({"u": "v", "v": "mu*(1 - u**2)*v - u"}, {"mu": 1.0})
    >>> cycle = limit_cycle(Problem(field, [2.0, 0.0], (0.0, 40.0)))
    >>> f"{cycle.period:.10f}", cycle.stable
    ('6.6632868593', True)
    """
    tol = positive("tol", tol)
    with one_blas_thread, np.errstate(all="ignore"):
        if hopf is not None:
            return _from_hopf(problem, hopf, amplitude, tol)
        if isinstance(problem, Field):
            raise UsageError("hopf", given=None, allowed="a Hopf point of a Branch, for a field; or a Problem alone")
        return _from_run(checked_problem(problem), period, tol)


# --- from a run --------------------------------------------------------------------------------------------------


def _from_run(problem: Problem, period: float | None, tol: float) -> Cycle:
    field, x = problem.field, _held(problem)
    _autonomous(field, problem.r0, x, problem.t_span)
    family = Family(field, (), x)
    run = simulate(problem.replace(objective=None), rtol=1e-9, atol=1e-12)
    t, r = run.t, run.r
    if period is not None:
        T = float(checked_array("period", period, ()))
        if not 0 < T <= t[-1] - t[0]:
            raise UsageError("period", given=T, allowed=f"a time up to {t[-1] - t[0]:g} (t_span)")
    else:
        T = return_time(family, t, r)
    guess = partial(sampled, family, t, r, T)
    found = refined(family, guess, tol)
    if found is None or (found[0].size < 1e-2 * guess(MESHES[0]).size).all():
        raise ConvergenceError(
            f"no limit cycle found from the last {T:.6g} of the run: Newton's method does not converge to one. "
            "Try: a longer t_span, so that the run is nearer to the cycle, or period=…"
        )
    orbit, linear, error = found
    return cycle_of(family, orbit, linear, error)


def _held(problem: Problem) -> Array | None:
    """The input (inputs,), which has to be constant."""
    if problem.noise is not None:
        raise UsageError("problem", given="a problem with noise", allowed="one without: a cycle closes")
    if problem.events:
        raise UsageError("problem", given=f"{len(problem.events)} events", allowed="a problem without events, here")
    if problem.field.input_size == 0:
        return None
    t0, t1 = problem.t_span
    x = problem.x(t0)
    if not isinstance(problem.x, Constant):
        samples = np.array([problem.x(t) for t in np.linspace(t0, t1, 17)])
        if np.ptp(samples, axis=0).any():
            hint = "make the drive two states of the field, as u' = −ωv, v' = ωu"
            raise UsageError("problem", given="an input that changes", allowed="a constant input", hint=hint)
    return np.asarray(x)


def _autonomous(field: Field, r: Array, x: Array | None, span: tuple[float, float]) -> None:
    if field.n < 2:
        raise UsageError("problem", given="a field of one state", allowed="two states or more: on a line no cycle is")
    if depends_on_time(field, r, x, span):
        raise UsageError("problem", given="a field that depends on t", allowed="one that does not name t, for a cycle")


def refined(
    family: Family, guess: Callable[[int], Orbit], tol: float, more: Any = None, largest: int = LARGEST_MESH
) -> tuple[Orbit, Linear, float] | None:
    """Newton's cycle from a guess on N intervals, its mesh adapted and doubled until the period stays.

    The last of the three is how much the period changed at last, relatively.
    """
    found = None
    for N in MESHES:
        first = guess(N)
        found = collocation.newton(family, first, first, more)
        if found is not None:
            break
    if found is None:
        return None
    orbit, linear = found
    N, error = len(orbit.R), np.inf
    while True:
        moved = collocation.on_mesh(orbit, linear.F, collocation.better_mesh(orbit, linear.F, N))
        found = collocation.newton(family, moved, moved, more)
        if found is None:
            return (orbit, linear, error) if np.isfinite(error) else None
        error = abs(found[0].T - orbit.T) / orbit.T
        drift = float(np.abs(_means(found[0], orbit.unit) - _means(orbit, orbit.unit)).max())
        orbit, linear = found
        if (error <= tol and drift <= 1e2 * tol) or largest <= N:
            break
        N = min(2 * N, largest)
    return orbit, linear, error


def _means(orbit: Orbit, size: Array) -> Array:
    """The means over a turn of each state and of its square, in units of ``size``."""
    weights = orbit.h[:, None] * collocation.gauss()[1]
    return np.concatenate([np.einsum("ij,ijn->n", weights, (orbit.Y / size) ** power) for power in (1, 2)])


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


# --- from a Hopf point -------------------------------------------------------------------------------------------


def _from_hopf(field: Any, hopf: SpecialPoint, amplitude: float, tol: float) -> Cycle:
    if not isinstance(field, Field):
        raise UsageError("problem", given=field, allowed="a field, with a Hopf point of one of its branches")
    if not isinstance(hopf, SpecialPoint) or hopf.kind != "hopf" or hopf.omega is None:
        raise UsageError("hopf", given=hopf, allowed="a point of kind 'hopf' of a Branch")
    amplitude = positive("amplitude", amplitude)
    family = Family(field, (hopf.name,), hopf.x, hopf.t)
    guess, rows = hopf_guess(family, hopf, amplitude)
    found = refined(family, guess, tol, rows)
    if found is None:
        raise ConvergenceError(
            f"no limit cycle of amplitude {amplitude:g} found near {hopf}. Try: a smaller amplitude; where the pair "
            "does not cross the axis, or l1 is zero, there may be none"
        )
    orbit, linear, error = found
    return cycle_of(family, orbit, linear, error)


def hopf_guess(family: Family, hopf: SpecialPoint, amplitude: float) -> tuple[Callable[[int], Orbit], Any]:
    """The ellipse r* + ε Re(q e^{iωt}) at a Hopf point, and the row that keeps ⟨r − r*, that ellipse⟩."""
    omega = float(hopf.omega or 0.0)
    mu = np.array([hopf.parameter])
    q, _ = null_vectors(family.J(hopf.r, mu), 1j * omega)
    ε = amplitude * max(1.0, float(np.abs(hopf.r).max())) / float(np.abs(q).max())
    c, b, _, _, _ = collocation.gauss()

    def ellipse(s: Array) -> Array:
        return ε * (np.exp(2j * np.pi * s)[..., None] * q).real

    def guess(N: int) -> Orbit:
        s = np.linspace(0.0, 1.0, N + 1)
        stages = s[:-1, None] + np.diff(s)[:, None] * c
        return Orbit(s, hopf.r + ellipse(s[:-1]), hopf.r + ellipse(stages), 2 * np.pi / omega, mu)

    def rows(orbit: Orbit) -> list[Row]:
        own = orbit.s[:-1, None] + orbit.h[:, None] * c
        w = ellipse(own) * (orbit.h[:, None] * b)[:, :, None]
        size = float((w * ellipse(own)).sum())
        return [Row(w / size, 0.0, np.zeros(1), 1.0 - float(((orbit.Y - hopf.r) * w).sum()) / size)]

    return guess, rows


# --- what is known of a cycle ------------------------------------------------------------------------------------


def cycle_of(family: Family, orbit: Orbit, linear: Linear, error: float) -> Cycle:
    """The cycle with its multipliers and phase response."""
    found, log = multipliers(transitions(family, orbit, linear))
    others = np.delete(found, np.abs(found - 1.0).argmin())
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
        stable=bool((np.abs(others) < 1.0 - UNIT).all()),
        phase_response=Z,
        amplitude=response.extent(path),
        error=float(error),
        field=family.field(mu),
        x=family.x(mu),
        name=family.names[0] if mu.size else "",
        parameter=float(mu[0]) if mu.size else None,
        orbit=orbit,
    )


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
