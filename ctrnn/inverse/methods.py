"""The methods as objects: what each needs to know of A, and the condition under which it converges.

A method makes a `Plan` for a `System`: the iteration (`ctrnn.inverse.iterations`) with its numbers filled in, and the
`Condition` that guarantees it. Only this set-up may look at a spectrum; ``step="norm"`` does without, with powers of
two from the sizes of the entries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ctrnn.errors import SingularJacobianError, UsageError
from ctrnn.inverse import iterations, spectrum
from ctrnn.inverse.matrix import System
from ctrnn.inverse.plan import (
    SINGULAR_HINT,
    Plan,
    check_regular,
    check_step,
    condition_number,
    euler_plan,
    side_of_axis,
    source_of,
    starting_scale,
)
from ctrnn.inverse.relaxation import solver_plan
from ctrnn.inverse.result import EPS, Condition, predicted
from ctrnn.numbers import checked_array, whole
from ctrnn.threads import one_blas_thread


@dataclass(frozen=True)
class Flow:
    """The flow dV/dt = VA − a, for a Hurwitz A.

    Parameters
    ----------
    solver : str, default "euler"
        "euler"; an explicit method ("rk4", "tsit5", …) by a fixed step; or any other solver of `ctrnn.simulate`
        ("kvaerno5", "scipy:BDF", …), which chooses its own steps and, being implicit, also relaxes a stiff A, though
        not without divisions.
    step : float, "spectrum" or "norm", default "spectrum"
        The step h: a number; "spectrum", the h that makes the contraction max |1 + hλ| least; or "norm", a power of two
        from the entries, for an A whose logarithmic norm μ∞ or μ₁ is negative, or a symmetric one.

    Raises
    ------
    UsageError, UnknownNameError
        For a step that is none of these; when it is used, for a step outside its bound.

    Notes
    -----
    The formulas are in `ctrnn.inverse`, those of the steps in `ctrnn.inverse.spectrum`.

    Examples
    --------
    >>> from ctrnn.inverse import right_divide
    >>> right_divide([1.0, 1.0], [[-2.0, 1.0], [0.0, -1.0]], Flow("rk4")).value.round(12)
    array([-0.5, -1.5])
    """

    solver: str = "euler"
    step: float | str = "spectrum"

    name = "flow"

    def __post_init__(self) -> None:
        check_step(self.step)
        if self.solver != "euler" and self.step == "norm":
            raise UsageError("step", given="norm", allowed='"spectrum" or a number with a solver other than "euler"')

    def plan(self, system: System, tol: float) -> Plan:
        """The iteration for a system, with the condition that guarantees it."""
        if self.solver == "euler":
            return euler_plan(system, tol, self.step, sides=(1.0,))
        return solver_plan(system, tol, self.solver, self.step)


@dataclass(frozen=True)
class Richardson:
    """The iteration V ← V + η(VA − a), for an A whose spectrum lies on one side of the imaginary axis.

    Parameters
    ----------
    step : float, "spectrum" or "norm", default "spectrum"
        η > 0 where the spectrum lies left of the axis, η < 0 where it lies right of it; "spectrum" (best), or "norm" (a
        power of two), as for `Flow`.

    Raises
    ------
    UsageError, UnknownNameError
        For a step that is none of these; when it is used, for a step outside its bound.

    Notes
    -----
    The literal map of note 001, V ← VA − a, is η = 1 on A − I: it rests where V = VA − a, at a(A − I)⁻¹, and converges
    when the spectral radius of A is below one. It is ``right_divide(a, A - I, Richardson(step=1.0))``. Source: L. F.
    Richardson, Phil. Trans. R. Soc. A 210 (1911).

    Examples
    --------
    >>> from ctrnn.inverse import right_divide
    >>> right_divide([1.0, 1.0], [[2.0, 1.0], [0.0, 4.0]], Richardson()).value.round(12)
    array([0.5  , 0.125])
    """

    step: float | str = "spectrum"

    name = "richardson"

    def __post_init__(self) -> None:
        check_step(self.step)

    def plan(self, system: System, tol: float) -> Plan:
        """The iteration for a system, with the condition that guarantees it."""
        return euler_plan(system, tol, self.step, sides=(1.0, -1.0))


@dataclass(frozen=True)
class Neumann:
    """The first K terms of the Neumann series, V_K = −h a Σ_{k<K} (I + hA)ᵏ: K Richardson iterations, then an end.

    Parameters
    ----------
    K : int, default 20
        The number of terms.
    step : float, "spectrum" or "norm", default "spectrum"
        h, as the η of `Richardson`.

    Raises
    ------
    UsageError, UnknownNameError
        For a K or a step that is not allowed.

    Notes
    -----
    The truncation is on purpose, so a V_K that is not at the tolerance raises nothing; ``converged`` says whether it
    is. With q = ‖I + hA‖₂ < 1

        ‖V_K − aA⁻¹‖ ≤ h ‖a‖ q^K/(1 − q)

    which is ``condition.truncation``, infinite where q ≥ 1. At rest, with h a step of Euler's method, it is truncated
    BPTT of K steps.

    Examples
    --------
    >>> from ctrnn.inverse import right_divide
    >>> right_divide([1.0], [[-0.5]], Neumann(3, step=1.0)).value  # 1 + ½ + ¼, of 2
    array([-1.75])
    """

    K: int = 20
    step: float | str = "spectrum"

    name = "neumann"

    def __post_init__(self) -> None:
        whole("K", self.K, 1)
        check_step(self.step)

    def plan(self, system: System, tol: float) -> Plan:
        """The iteration for a system, with a bound of what the truncation leaves out."""
        full = euler_plan(system, tol, self.step, sides=(1.0, -1.0))
        c = full.condition
        assert c.step is not None
        truncation = None
        if system.dense is not None:
            with one_blas_thread:
                q = float(np.linalg.norm(np.eye(system.n) + c.step * system.dense, 2))
            size = float(np.linalg.norm(system.a, axis=1).max())
            truncation = math.inf if q >= 1.0 else abs(c.step) * size * q**self.K / (1.0 - q)
        condition = Condition(
            c.number,
            c.abscissa,
            c.step,
            c.step_bound,
            c.contraction,
            self.K,
            truncation=truncation,
            known_by=c.known_by,
        )
        return Plan(condition, full.iterates, full.inverse_norm, self.K, full.estimated)


@dataclass(frozen=True)
class Chebyshev:
    """Chebyshev's iteration on an ellipse around the spectrum: √κ iterations where Richardson takes κ.

    The spectrum must lie on one side of the imaginary axis.

    Parameters
    ----------
    interval : tuple of float, optional
        (low, high) on the real axis, known to hold the spectrum. Without it the best ellipse around the eigenvalues is
        taken (of a product: around Ritz values, a little widened).

    Raises
    ------
    UsageError
        For an interval that holds zero; when it is used, for one that does not hold the spectrum.

    Notes
    -----
    Source: T. A. Manteuffel, Numer. Math. 28 (1977), 307–327.

    Examples
    --------
    >>> from ctrnn.inverse import right_divide
    >>> right_divide([1.0, 1.0], [[-2.0, 1.0], [0.0, -1.0]], Chebyshev((-2.0, -1.0))).value.round(12)
    array([-0.5, -1.5])
    """

    interval: tuple[float, float] | None = None

    name = "chebyshev"

    def __post_init__(self) -> None:
        if self.interval is not None:
            ends = checked_array("interval", self.interval)
            if ends.shape != (2,):
                raise UsageError("interval", given=self.interval, allowed="(low, high)")
            low, high = ends
            if not (-math.inf < low <= high < math.inf and low * high > 0):
                raise UsageError("interval", given=self.interval, allowed="(low, high), both positive or both negative")

    def plan(self, system: System, tol: float) -> Plan:
        """The iteration for a system, with the condition that guarantees it."""
        if self.interval is not None and system.dense is None:
            low, high = self.interval
            ends = np.array([low, high])
            d, c2 = spectrum.best_ellipse(ends)
            gap, number, abscissa = spectrum.ellipse_gap(ends, d, c2), max(low / high, high / low), high
            inverse_norm = 1.0 / min(abs(low), abs(high))
        else:
            check_regular(system)
            λ = system.eigenvalues
            side_of_axis(system, λ, (1.0, -1.0))
            if self.interval is not None:
                d, c2 = spectrum.best_ellipse(np.array(self.interval))
            elif system.dense is None:  # the outer Ritz values lie a little inside the spectrum
                λ = np.concatenate([λ, 1.05 * λ])
                d, c2 = spectrum.best_ellipse(λ)
            else:
                d, c2 = spectrum.best_ellipse(λ)
            gap = spectrum.ellipse_gap(λ, d, c2)
            if gap <= 0.0 and self.interval is not None:
                raise UsageError(
                    "interval", given=self.interval, allowed="an interval that holds the spectrum", hint="interval=None"
                )
            number, abscissa, inverse_norm = condition_number(system), float(λ.real.max()), system.inverse_norm
        condition = Condition(
            number, abscissa, contraction=1.0 - gap, predicted=predicted(gap, tol), known_by=source_of(system)
        )
        # the table is as long as its numbers take to settle, √κ: what would be refused is not worth one
        period = predicted(gap, 1e-7)
        table = spectrum.chebyshev_table(d, c2) if condition.predicted <= 10**6 else []  # type: ignore[operator]
        return Plan(
            condition,
            lambda stride, kind: iterations.chebyshev(
                kind.array(system.a), kind.matrix(system.A), table, period, stride
            ),
            inverse_norm,
            estimated=system.dense is None,
            settled=table[-1] if table else None,
        )


@dataclass(frozen=True)
class GradientFlow:
    """The flow dV/dt = −(VA − a)Aᵀ in Euler steps, for any nonsingular A; κ² iterations.

    Parameters
    ----------
    step : float, "spectrum" or "norm", default "spectrum"
        η: a number; "spectrum", 2/(σ₁² + σ_n²); or "norm", a power of two below 1/(‖A‖₁‖A‖∞), which needs no division.

    Raises
    ------
    UsageError, UnknownNameError
        For a step that is none of these; when it is used, for a product without its transposed (`Product`).

    Notes
    -----
    The steepest descent of ½‖VA − a‖²; it needs no stability of A.

    Examples
    --------
    >>> from ctrnn.inverse import right_divide
    >>> right_divide([1.0, 1.0], [[2.0, 1.0], [0.0, -1.0]], GradientFlow()).value.round(12)
    array([ 0.5, -0.5])
    """

    step: float | str = "spectrum"

    name = "gradient-flow"

    def __post_init__(self) -> None:
        check_step(self.step)

    def plan(self, system: System, tol: float) -> Plan:
        """The iteration for a system, with the condition that guarantees it."""
        σ = system.bidiagonal
        largest, smallest = float(σ[0]), float(σ[-1])
        if not smallest > system.n * EPS * largest:
            raise SingularJacobianError(math.inf if smallest == 0 else largest / smallest, "A", SINGULAR_HINT)
        if self.step == "norm":
            if system.kind == "product":
                raise UsageError("step", given="norm", allowed="a number or spectrum where A is only a product")
            eta = starting_scale(system.A)
        elif self.step == "spectrum":
            eta = 2.0 / (largest**2 + smallest**2) * (1.0 if system.dense is not None else 0.9)
        else:
            eta = float(self.step)
        bound = 2.0 / largest**2
        gap = min(eta * smallest**2, 2.0 - eta * largest**2)
        if self.step == "spectrum" and system.dense is not None:
            gap = eta * smallest**2  # both are that; of a near singular A the other one is lost in rounding
        elif not 0 < eta < bound:
            raise UsageError("step", given=eta, allowed=f"above 0 and below 2/σ₁² = {bound:.6g}")
        condition = Condition(
            largest / smallest,
            step=eta,
            step_bound=bound,
            contraction=1.0 - gap,
            predicted=predicted(gap, tol),
            known_by=source_of(system),
        )
        return Plan(
            condition,
            lambda stride, kind: iterations.gradient_flow(kind.array(system.a), kind.matrix(system.A), eta, stride),
            1.0 / smallest,
            estimated=system.dense is None,
        )


@dataclass(frozen=True)
class Hyperpower:
    """The iteration X ← (I + R + … + R^(p−1)) X with R = I − XA: the full inverse, then V = aX; any nonsingular A.

    Parameters
    ----------
    order : int, default 3
        p ≥ 2: R becomes R^p at each iteration.

    Raises
    ------
    UsageError
        For another order.

    Notes
    -----
    From X = 2⁻ᵉAᵀ with 2⁻ᵉ ≤ 1/(‖A‖₁‖A‖∞) it is ‖R‖₂ = 1 − 2⁻ᵉσ_n² < 1, so it takes log_p(κ²) iterations and a few
    more, of p products of n³ each. It needs the matrix; of a product it is made by n products. Sources: G. Schulz, Z.
    Angew. Math. Mech. 13 (1933); M. Altman, Pacific J. Math. 10 (1960), 1107–1113.

    Examples
    --------
    >>> from ctrnn.inverse import right_divide
    >>> right_divide([1.0, 1.0], [[2.0, 1.0], [0.0, -1.0]], Hyperpower(order=5)).value.round(12)
    array([ 0.5, -0.5])
    """

    order: int = 3

    name = "hyperpower"

    def __post_init__(self) -> None:
        whole("order", self.order, 2)

    def plan(self, system: System, tol: float) -> Plan:
        """The iteration for a system, with the condition that guarantees it."""
        A = system.matrix()
        whole = system if system.dense is not None else System(system.a, A)
        check_regular(whole)
        scale = starting_scale(A)
        smallest = float(whole.singular_values[-1])
        gap = scale * smallest**2
        condition = Condition(
            condition_number(whole),
            step=scale,
            contraction=1.0 - gap,
            predicted=predicted(gap, tol, self.order),
            order=self.order,
        )
        rows = None if system.is_identity else system.a
        start, identity = scale * A.T, np.eye(system.n)
        return Plan(
            condition,
            lambda stride, kind: iterations.hyperpower(
                None if rows is None else kind.array(rows),
                kind.matrix(A),
                kind.array(start),
                kind.array(identity),
                self.order,
                stride,
            ),
            1.0 / smallest,
        )


@dataclass(frozen=True)
class NewtonSchulz(Hyperpower):
    """The iteration X ← X + (I − XA)X = X(2I − AX): `Hyperpower` of order 2.

    Parameters
    ----------
    order : int, default 2
        Left at 2.

    Raises
    ------
    UsageError
        As `Hyperpower`.

    Notes
    -----
    Source: G. Schulz, Z. Angew. Math. Mech. 13 (1933).

    Examples
    --------
    >>> from ctrnn.inverse import right_divide
    >>> right_divide(None, [[2.0, 1.0], [0.0, -1.0]], NewtonSchulz()).value.round(12) + 0.0
    array([[ 0.5,  0.5],
           [ 0. , -1. ]])
    """

    order: int = 2

    name = "newton-schulz"
