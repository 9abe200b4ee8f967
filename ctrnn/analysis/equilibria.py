r"""Equilibria: where 0 = F(r*, w, x), and what the flow does near them.

    relaxation   dr/dt = F(r)                         to the point that the flow from r0 reaches
    Newton       J δ = −F,   r ← r + α δ              α = 1, ½, ¼, … until ‖F‖ falls

*Which* equilibrium is found is decided so:

1. r0 is relaxed by the ODE. Where the flow comes to rest (its speed falls by `REST_SPEED`), Newton
   polishes that point, and if it is stable (its J has no growing mode) it is the answer: the state
   that the system itself reaches from r0.
2. An unstable equilibrium or a centre is never reached so: the interior point of Lotka–Volterra is
   a centre, the middle of a limit cycle an unstable focus. A trajectory may also creep past a
   saddle, as Lotka–Volterra past (0, 0), which is why 1 asks for stability. Then Newton starts from
   r0 and from the mean of the trajectory over its last stretch: the middle of an oscillation, and
   for Lotka–Volterra about the equilibrium itself. Of the points found the one with the smallest
   spectral abscissa is the answer, of equal ones the one nearest to r0: the centre that the
   populations go around, not the extinct state (0, 0). If neither start converges, the slowest
   point of the trajectory is tried.

That is ``method="auto"``; of more than `LARGE` states it tries Anderson's iteration first, which needs no J, and takes
its point if that is stable by its rightmost eigenvalues. Each other method starts from r0 alone
(ctrnn.analysis.rest_search): ``"relaxation"`` follows the flow until it rests, ``"anderson"`` does so faster,
``"newton"`` finds a saddle near r0, and ``"pseudo-transient"`` lies between the two.

The stability is that of the linearisation, by the eigenvalues of J (Strogatz, *Nonlinear Dynamics
and Chaos*, chapters 5 and 6); where one of them has no real part J decides nothing, and the point
does not count as stable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import field as member
from functools import cached_property
from typing import Any

import numpy as np

from ctrnn.analysis import rest_search as search
from ctrnn.analysis.rest_search import Point, Run
from ctrnn.errors import ConvergenceError, SingularJacobianError, UsageError, one_of
from ctrnn.fields.base import Field
from ctrnn.gradients.rest.equilibrium import fold_condition
from ctrnn.gradients.rest.rows import outer_spectrum
from ctrnn.numbers import number, positive, real_array
from ctrnn.states import state_of
from ctrnn.threads import apart

__all__ = ["Equilibrium", "classify", "find_equilibrium"]

METHODS = ("auto", "relaxation", "newton", "pseudo-transient", "anderson")
#: from so many states on "auto" begins without J
LARGE = 200
#: Real parts below this, over the largest |λ|, count as zero.
ZERO_REAL_PART = 1e-9


@dataclass(frozen=True, repr=False, eq=False)
class Equilibrium:
    """A point where F vanishes, or where its length has a minimum.

    What costs O(n³) for n states is computed when it is first asked for: ``jacobian``, ``condition``, ``eigenvalues``,
    ``abscissa``, ``stable``, ``index`` and ``kind``.

    Attributes
    ----------
    r : ndarray (n,)
        The point.
    residual : float
        max |F|, in units of r per t.
    speed : float
        ‖F‖₂ = ‖dr/dt‖, in units of r per t.
    iterations : int
        Of the method that found it.
    method : str
        Its name.
    t : float
        The time at which F was taken.
    x : ndarray (inputs,) or None
        The input at which F was taken.
    names : tuple of str
        Names of the states.
    field : Field
        The field.
    slow : bool
        Whether F does not vanish there but has a minimum of its length; ``kind`` then is "slow".

    Examples
    --------
    >>> import ctrnn
    >>> found = find_equilibrium(ctrnn.Equations({"r": "-r + 2*tanh(r)"}), [1.0])
    >>> found.stable, found.kind, found.index
    (True, 'stable node', 0)
    """

    r: np.ndarray
    residual: float
    speed: float
    iterations: int
    method: str
    t: float
    x: np.ndarray | None
    names: tuple[str, ...]
    field: Field = member(repr=False, compare=False)
    slow: bool = False

    @cached_property
    def jacobian(self) -> np.ndarray:
        """J = ∂F/∂r there, (n, n)."""
        return self.field.jacobian(self.t, self.r, self.x)

    @cached_property
    def condition(self) -> float:
        """‖J‖‖J⁻¹‖."""
        return float(np.linalg.cond(self.jacobian))

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """Of J, (n,) complex, real parts descending."""
        return spectrum(self.jacobian)

    @property
    def abscissa(self) -> float:
        """The spectral abscissa max Re λ, per unit of t."""
        return float(self.eigenvalues.real[0])

    @cached_property
    def kind(self) -> str:
        """Such as "stable node", "saddle": see `classify`; "slow" where F does not vanish.

        Also "non-hyperbolic" where J changes so much within the error of r that it may be singular, as at a fold.
        """
        if self.slow:
            return "slow"
        F = self.field(self.t, self.r, self.x)
        is_fold = fold_condition(self.field, self.t, self.r, self.x, F, self.jacobian) > 0.0
        return "non-hyperbolic" if is_fold else classify(self.eigenvalues)

    @property
    def stable(self) -> bool:
        """Whether all eigenvalues have a negative real part, and J is not singular within the error of r."""
        return self.kind.startswith("stable")

    @property
    def index(self) -> int:
        """The number of growing modes."""
        λ = self.eigenvalues
        return int((λ.real > ZERO_REAL_PART * np.abs(λ).max(initial=0.0)).sum())

    def __repr__(self) -> str:
        title = f"equilibrium: {self.kind} ({'stable' if self.stable else 'not stable'})"
        steps = (
            f"{self.iterations} Newton steps"
            if self.method in ("auto", "newton")
            else f"{self.iterations} steps ({self.method})"
        )
        title += f", max |F| = {self.residual:.2g} after {steps}"
        width = max(len("state"), *(len(name) for name in self.names))
        lines = [title, f"  {'state':<{width}}  {'r':>16}"]
        shown = min(self.r.size, 20)
        for name, r in zip(self.names[:shown], self.r, strict=False):
            lines.append(f"  {name:<{width}}  {r:>16.10g}")
        if shown < self.r.size:
            lines.append(f"  … and {self.r.size - shown} more")
        return "\n".join([*lines, f"  eigenvalues of J: {_listed(self.eigenvalues)}"])


def _listed(eigenvalues: np.ndarray, most: int = 8) -> str:
    """Eigenvalues in their order, conjugate pairs as one.

    >>> _listed(np.array([0.5j, -0.5j, -1.0, -2.0 + 3.0j, -2.0 - 3.0j]))
    '±0.5i, -1, -2 ± 3i'
    """
    words = []
    for λ in eigenvalues:
        if λ.imag < 0:  # said with its conjugate
            continue
        if not λ.imag:
            words.append(f"{λ.real:.8g}")
        else:
            words.append(f"{λ.real:.8g} ± {λ.imag:.8g}i" if λ.real else f"±{λ.imag:.8g}i")
    more = f", … ({eigenvalues.size} in all)" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def find_equilibrium(
    field: Field, r0: Any, x: Any = None, t: float = 0.0, tol: float = 1e-12, method: str = "auto"
) -> Equilibrium:
    """The equilibrium of the field that r0 leads to; the module's docstring says which one.

    Parameters
    ----------
    field : Field
        F.
    r0 : (n,) array_like, mapping or float
        A state.
    x : (inputs,) array_like, float or ctrnn.inputs.Input, optional
        The input, held; a signal is taken at t.
    t : float
        The time, held, for a field that names it.
    tol : float
        The largest |F_i| at rest, over Σ_j |J_ij| max(1, |r_j|); Newton goes on below it for as long as F falls.
    method : {"auto", "relaxation", "newton", "pseudo-transient", "anderson"}
        How the point is searched.

    Returns
    -------
    Equilibrium
        The point r, its residual, J, eigenvalues and kind.

    Raises
    ------
    ConvergenceError
        With the smallest residual reached.
    SingularJacobianError
        Where Newton stops at a singular J.
    UsageError
        For shapes, NaN, or an F that is not finite at r0.

    Examples
    --------
    >>> from ctrnn.fields.equations import Equations
    >>> field = Equations(
    ...     {"prey": "a*prey - b*prey*pred", "pred": "-c*pred + d*prey*pred"},
    ...     {"a": 0.55, "b": 0.028, "c": 0.80, "d": 0.024},
    ... )
    >>> eq = find_equilibrium(field, [30.0, 20.0])
    >>> eq.kind, np.round(eq.r, 6)  # (c/d, a/b)
    ('centre', array([33.333333, 19.642857]))
    """
    one_of("method", method, METHODS)
    tol = positive("tol", tol)
    r0 = state_of(field, r0)
    if callable(x) and not isinstance(x, type):
        x = x(t)
    x = None if x is None else np.atleast_1d(real_array("x", x))
    point = search.Point(field, number("t", t), x)
    if not (np.isfinite(r0).all() and np.isfinite(field(t, r0, x)).all()):
        raise UsageError("r0", given=r0, allowed="a finite state at which F is finite")

    with np.errstate(all="ignore"):  # trial points may lie anywhere; they are tested for NaN
        if method != "auto":
            return _best(point, [search.BY_NAME[method](point, r0, tol)], r0, method)
        if r0.size > LARGE:
            run = search.anderson(point, r0, tol)
            right = _rightmost(point, run.r) if run.found else math.inf
            if right < 0.0:
                return _equilibrium(point, run, "anderson")
        path = search.follow(point, r0)
        runs = []
        if path.rests:
            runs.append(search.newton(point, path.r, tol))
            # not a saddle that the trajectory creeps past
            J = runs[0].J
            if runs[0].found and spectrum(J).real[0] <= _zero(J):
                return _best(point, runs, r0)
        starts = [search.newton(point, start, tol) for start in (r0, path.mean)]
        if not any(run.found for run in starts):
            starts += runs or [search.newton(point, path.r, tol)]
        return _best(point, starts, r0)


def classify(eigenvalues: Any) -> str:
    """The kind of an equilibrium, from the eigenvalues of its J.

    Parameters
    ----------
    eigenvalues : (n,) array_like
        Real or complex.

    Returns
    -------
    str
        "stable node", "unstable node" (all real, of one sign), "stable focus", "unstable focus" (some are complex),
        "saddle", "saddle-focus" (both signs), "centre" (all on the imaginary axis, none zero) or "non-hyperbolic"
        (some on the axis: the linearisation does not decide).

    Examples
    --------
    >>> [classify(λ) for λ in ([-1, -2], [-1 + 2j, -1 - 2j], [1, -1], [1j, -1j], [0, -1])]
    ['stable node', 'stable focus', 'saddle', 'centre', 'non-hyperbolic']
    """
    λ = np.asarray(eigenvalues, dtype=np.complex128)
    zero = ZERO_REAL_PART * np.abs(λ).max(initial=0.0)
    on_axis, focus = np.abs(λ.real) <= zero, bool((np.abs(λ.imag) > zero).any())
    if on_axis.any():
        return "centre" if on_axis.all() and (np.abs(λ) > zero).all() else "non-hyperbolic"
    if (λ.real < 0).all():
        return "stable focus" if focus else "stable node"
    if (λ.real > 0).all():
        return "unstable focus" if focus else "unstable node"
    return "saddle-focus" if focus else "saddle"


def spectrum(J: np.ndarray) -> np.ndarray:
    """Eigenvalues, real parts descending, of a pair the one above the axis first.

    All of them by LAPACK, at n = 1,000 in the time of 22 factorisations of J: Arnoldi's method takes as long there for
    the six rightmost alone, and misses some of those that lie close together, as a random network's outermost ones.
    """
    λ = apart(25.0 * len(J) ** 3, np.linalg.eigvals, J).astype(np.complex128)
    return λ[np.lexsort((-λ.imag, -λ.real))]


def _zero(J: np.ndarray) -> float:
    """What counts as a zero real part."""
    return ZERO_REAL_PART * float(np.abs(spectrum(J)).max())


def _rightmost(point: Point, r: np.ndarray) -> float:
    """max Re λ(J) from products alone."""
    return float(outer_spectrum(lambda V: point.field.vjp(point.t, r, V, point.x), r.size).real.max())


def _best(point: Point, runs: list[Run], r0: np.ndarray, method: str = "auto") -> Equilibrium:
    """Of the runs that came to rest the least unstable, then nearest to r0, as an Equilibrium."""
    found = [run for run in runs if run.found]
    if not found:
        run = min(runs, key=lambda run: float(np.abs(run.F).max()))
        residual = float(np.abs(run.F).max())
        if run.singular:
            raise SingularJacobianError(
                float(np.linalg.cond(run.J)),
                f"the Jacobian where Newton stopped (max |F| = {residual:.3g})",
                "another r0; or other parameters: there may be no equilibrium (|F| has a minimum)",
            )
        if not np.isfinite(run.J).all():
            what = f"the Jacobian where the search ended (max |F| = {residual:.3g})"
            raise SingularJacobianError(math.inf, what, "another r0: F is not smooth there")
        steps = "Newton steps" if method in ("auto", "newton") else f"steps ({method})"
        raise ConvergenceError(
            f"no equilibrium found from r0: the smallest max |F| reached is {residual:.3g}, at "
            f"r = {np.array2string(run.r, precision=6, threshold=8)} after {run.iterations} "
            f"{steps}. Try: another r0, nearer to where the field is expected to rest"
            + ("" if method == "auto" else ', or method="auto"')
        )
    if len(found) == 1:
        return _equilibrium(point, found[0], method)
    least = min(spectrum(run.J).real[0] + _zero(run.J) for run in found)
    alike = [run for run in found if spectrum(run.J).real[0] <= least]
    return _equilibrium(point, min(alike, key=lambda run: float(np.linalg.norm(run.r - r0))), method)


def _equilibrium(point: Point, run: Run, method: str) -> Equilibrium:
    return Equilibrium(
        r=run.r,
        residual=float(np.abs(run.F).max()),
        speed=float(np.linalg.norm(run.F)),
        iterations=run.iterations,
        method=method,
        t=point.t,
        x=point.x,
        names=tuple(point.field.state_names),
        field=point.field,
    )
