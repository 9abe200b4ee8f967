r"""The gradient at rest, by the division-free flow.

    0 = F(r*, w, x)   ⇒   0 = J dr*/dw + F_w   ⇒   dr*/dw = −J⁻¹ F_w

and for a loss with dl/dr = a, one row is enough:

    V* = a J⁻¹    (the rest point of dV/dt = V J − a)        dl/dw = −V* F_w

Small systems form J, and the flow's step is certified by the spectrum of J. Large ones only multiply by it
(ctrnn.gradients.rest.rows): O(n²) an iteration and no more memory than the answer takes. Stopped after K steps of size
h, inverse=ctrnn.inverse.Neumann(K, step=h), the flow is what truncated BPTT with a window of K Euler steps gives at
rest.

Source: note 001 of this project; the flow is recurrent backpropagation, Almeida (1987) and Pineda,
"Generalization of back-propagation to recurrent neural networks", Phys. Rev. Lett. 59 (1987).
It is the adjoint equation at rest, and dr*/dw is the long-time limit of dp/dt = J p + F_w.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import NotAtRestError, NotHurwitzError, SingularJacobianError, UsageError, one_of
from ctrnn.fields.base import Array, Field, time_constants
from ctrnn.fields.checks import checked_field
from ctrnn.gradients.rest.rows import LU_HINT, norm_from_below, singular, solve_rows
from ctrnn.inverse import METHODS, Inverse, right_divide
from ctrnn.inverse.result import EPS
from ctrnn.numbers import flag, number, real_array
from ctrnn.threads import apart

__all__ = ["EquilibriumGradient", "equilibrium_gradient", "fold_condition", "rest_scale"]

#: Largest |F_i| / rest_scale at which a point counts as at rest. The gradient's relative error is
#: of this order times the condition of J.
REST_TOLERANCE = 1e-8
#: from so many states on J is not formed, for fewer rows than a tenth of n
LARGE = 64


@dataclass(frozen=True, repr=False, eq=False)
class EquilibriumGradient:
    """The gradient dl/dw at rest, or dr*/dw; prints as a table.

    Attributes
    ----------
    vector : ndarray (m,), or (q, m) for q rows of dl/dr
        The gradient.
    parameters : dict of str to ndarray
        The same as named arrays, with a leading axis q for rows.
    V : ndarray (n,) or (q, n)
        The rows V* = a J⁻¹.
    residual : float
        ‖V*J − a‖/‖a‖ of the worst row.
    inverse : Inverse
        How V* was found.
    """

    vector: Array
    parameters: dict[str, Array]
    V: Array
    residual: float
    inverse: Inverse

    def __getitem__(self, name: str) -> Array:
        """Of one parameter, as ``parameters`` has it; raises UnknownNameError for any other name."""
        one_of("parameter", name, list(self.parameters))
        return self.parameters[name]

    def __repr__(self) -> str:
        lines = [f"gradient at rest, by {self.inverse}"]
        width = max((len(name) for name in self.parameters), default=0)
        for name, value in self.parameters.items():
            shown = np.array2string(value, precision=8, threshold=12, edgeitems=2)
            lines.append(f"  {name:<{width}}  " + shown.replace("\n", "\n" + " " * (width + 4)))
        return "\n".join(lines)


def equilibrium_gradient(
    field: Field,
    eq: Any,
    dl_dr: Any = None,
    inverse: Any = "flow",
    x: Any = None,
    *,
    matrix_free: bool | None = None,
    tol: float | None = None,
) -> EquilibriumGradient:
    """The gradient dl/dw of a loss at the equilibrium r*(w); or dr*/dw.

    Parameters
    ----------
    field : Field
        F.
    eq : Equilibrium or array_like (n,)
        An `Equilibrium` (its t and x are used), or a state, at t = 0.
    dl_dr : array_like, (n,) or (q, n), optional
        One row, a stack of rows, or None for the identity: ``vector`` is then dr*/dw (n, m).
    inverse : str or method object, default "flow"
        "flow" (division-free, at a stable point), "lu" (any nonsingular J), or another method of `ctrnn.inverse`:
        "gmres" (products too; any nonsingular J), ``Neumann(K, step=h)`` (K-step truncated BPTT, an approximation), …
    x : array_like (nx,), optional
        The input at rest, if it is not the one that ``eq`` carries.
    matrix_free : bool, optional
        True: products V ↦ VJ alone, O(n²) an iteration; False: J is formed. By default True for few rows of at least 64
        states ("flow", "gmres").
    tol : float, optional
        ‖VJ − a‖/‖a‖ to reach; by default 1e-12 by products, and with J formed the last digits.

    Returns
    -------
    EquilibriumGradient
        Vector, named arrays, and how V was found.

    Raises
    ------
    NotAtRestError
        Where F does not vanish, as after a change of parameters.
    SingularJacobianError
        At a bifurcation, or on a line of equilibria.
    NotHurwitzError
        Of the flow at an unstable point or a centre.
    ConvergenceError
        Of the flow where J is too stiff.
    UsageError, UnknownNameError
        For shapes, NaN and names.

    Notes
    -----
    Formulas and sources are at the top of `ctrnn.gradients.rest.equilibrium`.

    Examples
    --------
    >>> from ctrnn.fields.equations import Equations
    >>> field = Equations({"r": "-r + w*r + b"}, {"w": 0.5, "b": 1.0})  # r* = b / (1 − w)
    >>> g = equilibrium_gradient(field, [2.0], dl_dr=[1.0])
    >>> np.round(g.vector, 12), np.round(g.parameters["b"], 12)  # b / (1 − w)², 1 / (1 − w)
    (array([4., 2.]), np.float64(2.0))
    """
    checked_field(field)
    if isinstance(inverse, str):
        one_of("inverse", inverse, METHODS)
    if matrix_free is not None:
        matrix_free = flag("matrix_free", matrix_free)
    if isinstance(inverse, str) and inverse == "lu" and matrix_free:
        raise UsageError("matrix_free", given=True, allowed='False with inverse="lu"', hint='inverse="gmres"')
    if tol is not None and not 0 < number("tol", tol, "a relative residual between 0 and 1") < 1:
        raise UsageError("tol", given=tol, allowed="a relative residual between 0 and 1")
    t, r, x = point_of(eq, x)
    if r.shape != (field.n,):
        raise UsageError("eq", given=r.shape, allowed=f"an Equilibrium or a state ({field.n},)")
    if not np.isfinite(r).all():
        raise UsageError("eq", given=r, allowed="a state without NaN or infinity")
    a = _checked_rows(dl_dr, field.n)
    if matrix_free is None:
        matrix_free = (
            isinstance(inverse, str)
            and inverse in ("flow", "gmres")
            and field.n >= LARGE
            and len(np.atleast_2d(a)) <= field.n // 10
        )
    here = _At(field, t, r, x)
    try:
        solved = here.by_products(a, inverse, tol or 1e-12) if matrix_free else here.by_matrix(a, inverse, tol or 1e-15)
    except NotHurwitzError as error:
        raise NotHurwitzError(error.abscissa, "the Jacobian at this equilibrium", LU_HINT) from error
    except SingularJacobianError as error:
        raise singular(error.condition) from error
    V = solved.value
    # −V, not −(V F_w): the gradient is the one array of length m
    vector = field.parameter_vjp(t, r, -V, x)
    return EquilibriumGradient(
        vector=vector,
        parameters=field.unflatten(vector),
        V=V,
        residual=float(solved.residual[-1]),
        inverse=solved,
    )


def point_of(eq: Any, x: Any) -> tuple[float, Array, Any]:
    """t, r and x of an Equilibrium, or of a state at t = 0; an x that is given goes first."""
    r = real_array("eq", getattr(eq, "r", eq), "an Equilibrium or a state")
    t = number("eq.t", eq.t) if hasattr(eq, "r") and hasattr(eq, "t") else 0.0
    return t, r, getattr(eq, "x", None) if x is None else x


def _checked_rows(dl_dr: Any, n: int) -> Array:
    if dl_dr is None:
        return np.eye(n)
    a = real_array("dl_dr", dl_dr)
    if a.ndim not in (1, 2) or a.shape[-1] != n or not a.size:
        raise UsageError("dl_dr", given=f"shape {a.shape}", allowed=f"a row ({n},) or rows (q, {n})")
    if not np.isfinite(a).all():
        raise UsageError("dl_dr", given=a, allowed="finite numbers")
    return a


@dataclass(frozen=True)
class _At:
    """The field at the point that should be at rest."""

    field: Field
    t: float
    r: Array
    x: Any

    def by_products(self, a: Array, inverse: Any, tol: float) -> Inverse:
        tau = time_constants(self.field)  # the leak alone makes J as large as 1/τ
        if a.any():
            F = self.field(self.t, self.r, self.x)
            row = np.atleast_2d(a)[int(np.flatnonzero(np.atleast_2d(a).any(axis=1))[0])]
            norm = norm_from_below(self.product, row) if tau is None else 1.0 / tau
            rests = bool((np.abs(F) <= REST_TOLERANCE * norm * max(1.0, float(np.abs(self.r).max()))).all())
            self.refuse_motion(F, rests)
        if inverse == "flow":
            return solve_rows(self.field, self.t, self.r, a, self.x, tol)
        return right_divide(a, self.product, inverse, tol=tol)

    def product(self, V: Array) -> Array:
        return self.field.vjp(self.t, self.r, V, self.x)

    def by_matrix(self, a: Array, inverse: Any, tol: float) -> Inverse:
        F, J = self.field(self.t, self.r, self.x), self.field.jacobian(self.t, self.r, self.x)
        # written so that a NaN in F or J is refused too
        self.refuse_motion(F, bool((np.abs(F) <= REST_TOLERANCE * rest_scale(J, self.r)).all()))
        if self.field.n <= LARGE and (condition := fold_condition(self.field, self.t, self.r, self.x, F, J)):
            raise SingularJacobianError(condition, "J", "")
        return right_divide(a, J, inverse, tol=tol)

    def refuse_motion(self, F: Array, rests: bool) -> None:
        if not rests:
            raise NotAtRestError(float(np.abs(F).max()), "the state", "find_equilibrium(field, r) at these parameters")


def fold_condition(field: Field, t: float, r: Array, x: Any, F: Array, J: Array) -> float:
    """How badly conditioned J may be at the point of rest itself, where it may be singular there; 0 elsewhere.

    It may where it changes by more than σ_n / 2, half its smallest singular value, along that one's vector v within the
    error of r: Newton's convergence promises nothing then (Kantorovich: ‖J⁻¹(J(r + 2 δ) − J)‖ ≤ 1/2, δ = J⁻¹F). At a
    fold (a saddle-node) J is never found exactly singular, and of one state its condition is always 1. The error of r
    along v is 2 |u·F| / σ_n, rounding of r, and that of F, which points nearby show, as far as √ε: that is how wide
    rounding makes a double root. J that is exactly singular is 0 here: a division by it says so.
    """
    U, σ, Vt = apart(22.0 * len(J) ** 3, np.linalg.svd, J)
    u, v = U[:, -1], Vt[-1]
    if not σ[-1] > 0:
        return 0.0
    size = float(np.abs(v) @ np.abs(r))
    nearby = [s * δ * size for s in (-1.0, 1.0) for δ in (4.0 * EPS, EPS**0.5)]
    with np.errstate(all="ignore"):  # where F ends nearby nothing is known of its rounding
        noises = [abs(float(u @ (field(t, r + h * v, x) - F)) - h * σ[-1]) for h in nearby]
        noise = max((one for one in noises if np.isfinite(one)), default=0.0)
        error = 4.0 * EPS * size + 2.0 * (abs(float(u @ F)) + noise) / σ[-1]
        beside = [field.jacobian(t, r + s * error * v, x) for s in (-1.0, 1.0)]
        change = min(float(np.linalg.norm((one - J) @ v)) for one in beside)  # of a kink at r one side is smooth
    return max(float(σ[0]), change) / float(σ[-1]) if change > 0.5 * σ[-1] else 0.0


def rest_scale(J: Array, r: Array) -> Array:
    """What |F_i| is measured against: Σ_j |J_ij| max(1, |r_j|), (n,).

    A change of the states by one part in 10⁸ changes F by 10⁻⁸ of it, in any unit of time.
    """
    return np.abs(J) @ np.maximum(1.0, np.abs(r))
