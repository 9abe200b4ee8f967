"""The second derivative at rest, d²l(r*(w))/dw².

Differentiate 0 = F(r*, w) and V J = dl/dr, dl/dw = −V F_w (ctrnn.gradients.rest.equilibrium) along δw, with p = dr*/dw
= −J⁻¹ F_w and δr* = p δw:

    δV J + V δJ = ℓ_rr δr*        δ(dl/dw) = −δV F_w − V δF_w = (ℓ_rr δr* − V δJ) p − V δF_w

so no further system is solved: column j of H is pᵀ(ℓ_rr p_j − V δJ) − V δF_w along (p_j, e_j). The variation of the
variation at rest (note 001 of this project); the limit of the trajectory's Hessian for long times.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.checks import checked_field
from ctrnn.gradients.rest.equilibrium import equilibrium_gradient
from ctrnn.gradients.second.tangents import Tangents
from ctrnn.memory import claim
from ctrnn.numbers import checked_array, real_array
from ctrnn.objective import Objective
from ctrnn.problem import Problem, Settings


def equilibrium_hessian(
    field: Field, eq: Any, dl_dr: Any, d2l_dr2: Any = None, inverse: str = "flow", x: Any = None
) -> Array:
    """The second derivative d²l/dw² (m, m) of a loss at the equilibrium r*(w).

    Parameters
    ----------
    field : Field
        F.
    eq : Equilibrium or array_like (n,)
        As in `ctrnn.equilibrium_gradient`.
    dl_dr : array_like (n,)
        The loss's gradient in r.
    d2l_dr2 : array_like (n, n), optional
        Its second derivative, symmetric; None for a loss that is linear in r.
    inverse : str, default "flow"
        As in `ctrnn.equilibrium_gradient`.
    x : array_like (nx,), optional
        As in `ctrnn.equilibrium_gradient`.

    Returns
    -------
    ndarray (m, m)
        In the order of ``field.parameter_names``.

    Raises
    ------
    UsageError
        For a second derivative that is not symmetric; and what `ctrnn.equilibrium_gradient` raises.

    Notes
    -----
    The formula is at the top of `ctrnn.gradients.rest.second_order`.

    Examples
    --------
    >>> from ctrnn import Equations
    >>> field = Equations({"r": "-r + w*r + b"}, {"w": 0.5, "b": 1.0})  # r* = b / (1 − w)
    >>> equilibrium_hessian(field, [2.0], dl_dr=[1.0]).round(9)  # [[2 b / (1 − w)³, 1 / (1 − w)²], [same, 0]]
    array([[16.,  4.],
           [ 4.,  0.]])
    """
    n, m = checked_field(field).n, field.m
    claim("field", 16.0 * m**2, "fewer parameters: the Hessian is (m, m)")
    a = checked_array("dl_dr", dl_dr, (n,))
    l_rr = np.zeros((n, n)) if d2l_dr2 is None else checked_array("d2l_dr2", d2l_dr2, (n, n))
    if not np.allclose(l_rr, l_rr.T, rtol=1e-9, atol=0):
        raise UsageError("d2l_dr2", given=l_rr, allowed="a symmetric matrix")
    p = equilibrium_gradient(field, eq, None, inverse, x).vector
    V = equilibrium_gradient(field, eq, a, inverse, x).V
    r = real_array("eq", getattr(eq, "r", eq))
    here = _AtRest(field, float(getattr(eq, "t", 0.0)), r, getattr(eq, "x", None) if x is None else x)
    H = np.empty((m, m))
    for j in range(m):
        turned, columns = here.second(p[:, j], np.eye(1, m, j)[0], V)
        H[:, j] = (l_rr @ p[:, j] - turned) @ p - columns
    return (H + H.T) / 2


class _AtRest:
    """The products K δJ and K δF_w at one point.

    They are the tangent of the pullback through one stage of weight 1 whose cotangent is held.
    """

    def __init__(self, field: Field, t: float, r: Array, x: Any) -> None:
        # a stage needs a run for its bound functions; one Euler step of size 1 from the point is that stage
        u = np.zeros(field.input_size) if x is None else np.atleast_1d(real_array("x", x))
        still = Objective(target=np.zeros((1, field.n)), at=t + 1.0)
        problem = Problem(field, r, (t, t + 1.0), x=u if u.size else None, objective=still)
        self.tangents = Tangents(problem, Settings("euler", dt=1.0), "equilibrium_hessian")
        self.step = next(self.tangents.recording.blocks())

    def second(self, dr: Array, dw: Array, K: Array) -> tuple[Array, Array]:
        tangents, n = self.tangents, len(K)
        lam, G = np.zeros(n), tangents.recording.zero_parameters()
        none, direction = np.empty((0, n)), tangents.field._kernel_direction(dw)
        tangents.pull_back(
            self.step, none, np.empty((0, 1, n)), K.reshape(1, 1, n), dr.reshape(1, 1, n).copy(), direction, lam, G
        )
        return lam, tangents.recording.vector(G)
