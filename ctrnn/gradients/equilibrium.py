r"""The gradient at rest, by the division-free flow.

    0 = F(r*, w, x)   ⇒   0 = J dr*/dw + F_w   ⇒   dr*/dw = −J⁻¹ F_w

and for a loss with dl/dr = a, one row is enough:

    V* = a J⁻¹    (the rest point of dV/dt = V J − a)        dl/dw = −V* F_w

Source: note 001 of this project; the flow is recurrent backpropagation, Almeida (1987) and Pineda,
"Generalization of back-propagation to recurrent neural networks", Phys. Rev. Lett. 59 (1987).
It is the adjoint equation at rest, and dr*/dw is the long-time limit of dp/dt = J p + F_w.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import (
    NotAtRestError,
    NotHurwitzError,
    SingularJacobianError,
    UnknownNameError,
    UsageError,
)
from ctrnn.fields.base import Field
from ctrnn.inverse import METHODS, Inverse, right_divide

__all__ = ["EquilibriumGradient", "equilibrium_gradient", "rest_scale"]

#: Largest |F_i| / rest_scale at which a point counts as at rest. The gradient's relative error is
#: of this order times the condition of J.
REST_TOLERANCE = 1e-8


@dataclass(frozen=True)
class EquilibriumGradient:
    """dl/dw at rest, or dr*/dw.

    ``vector``: (m,), or (q, m) for q rows of dl/dr. ``parameters``: the same as named arrays, with
    a leading axis q for rows. ``V``: the rows V* = a J⁻¹, (n,) or (q, n). ``residual``:
    ‖V*J − a‖/‖a‖ of the worst row. ``inverse``: how V* was found, an `ctrnn.inverse.Inverse`.
    """

    vector: np.ndarray
    parameters: dict[str, np.ndarray]
    V: np.ndarray
    residual: float
    inverse: Inverse

    def __str__(self) -> str:
        lines = [f"gradient at rest, by {self.inverse}"]
        width = max((len(name) for name in self.parameters), default=0)
        for name, value in self.parameters.items():
            shown = np.array2string(value, precision=8, threshold=12, edgeitems=2)
            lines.append(f"  {name:<{width}}  " + shown.replace("\n", "\n" + " " * (width + 4)))
        return "\n".join(lines)


def equilibrium_gradient(
    field: Field, eq: Any, dl_dr: Any = None, inverse: str = "flow", x: Any = None
) -> EquilibriumGradient:
    """dl/dw of a loss at the equilibrium r*(w), for dl/dr (n,); or dr*/dw.

    eq
        an `Equilibrium` (its t and x are used), or a state (n,), at t = 0.
    dl_dr
        one row (n,), a stack of rows (q, n), or None for the identity: ``vector`` is dr*/dw (n, m).
    inverse
        ``"flow"`` (division-free, at a stable point) or ``"lu"`` (any point with nonsingular J).
    x
        the input at rest (nx,), if it is not the one that ``eq`` carries.

    Raises `NotAtRestError` where F does not vanish (as after a change of parameters),
    `SingularJacobianError`, `NotHurwitzError` for the flow at an unstable point or a centre,
    `ConvergenceError` for the flow where J is too stiff, `UsageError` for shapes and NaN.

    >>> from ctrnn.fields.equations import Equations
    >>> field = Equations({"r": "-r + w*r + b"}, {"w": 0.5, "b": 1.0})  # r* = b / (1 − w)
    >>> g = equilibrium_gradient(field, [2.0], dl_dr=[1.0])
    >>> np.round(g.vector, 12), np.round(g.parameters["b"], 12)  # b / (1 − w)², 1 / (1 − w)
    (array([4., 2.]), np.float64(2.0))
    """
    if inverse not in METHODS:
        raise UnknownNameError("inverse", inverse, METHODS)
    r = np.asarray(getattr(eq, "r", eq), dtype=np.float64)
    t = float(getattr(eq, "t", 0.0))
    x = getattr(eq, "x", None) if x is None else x
    if r.shape != (field.n,):
        raise UsageError("eq", given=r.shape, allowed=f"an Equilibrium or a state ({field.n},)")
    if not np.isfinite(r).all():
        raise UsageError("eq", given=r, allowed="a state without NaN or infinity")
    F, J = field(t, r, x), field.jacobian(t, r, x)
    # written so that a NaN in F or J is refused too
    if not (np.abs(F) <= REST_TOLERANCE * rest_scale(J, r)).all():
        raise NotAtRestError(float(np.abs(F).max()), "the state", "find_equilibrium(field, r) at these parameters")
    try:
        solved = right_divide(np.eye(field.n) if dl_dr is None else dl_dr, J, inverse)
    except NotHurwitzError as error:
        raise NotHurwitzError(
            error.abscissa,
            "the Jacobian at this equilibrium",
            'inverse="lu"; no trajectory settles at this point, though, unless it starts there',
        ) from error
    except SingularJacobianError as error:
        raise SingularJacobianError(
            error.condition,
            "the Jacobian at this equilibrium",
            "other parameters: at a bifurcation, or on a line of equilibria, dr*/dw does not exist",
        ) from error
    except UsageError as error:
        raise UsageError("dl_dr", given=error.given, allowed=error.allowed) from error
    V = solved.value
    vector = -field.parameter_vjp(t, r, V, x)
    return EquilibriumGradient(
        vector=vector,
        parameters=field.unflatten(vector),
        V=V,
        residual=float(solved.residual[-1]),
        inverse=solved,
    )


def rest_scale(J: np.ndarray, r: np.ndarray) -> np.ndarray:
    """What |F_i| is measured against: Σ_j |J_ij| max(1, |r_j|), (n,).

    A change of the states by one part in 10⁸ changes F by 10⁻⁸ of it, in any unit of time.
    """
    return np.abs(J) @ np.maximum(1.0, np.abs(r))
