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
from ctrnn.gradients.rest.equilibrium import equilibrium_gradient, point_of
from ctrnn.memory import claim
from ctrnn.numbers import checked_array


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
    t, r, x = point_of(eq, x)
    H = np.empty((m, m))
    for j in range(m):
        turned, columns = field.second_order(t, r, p[:, j], V, np.eye(1, m, j)[0], x)
        H[:, j] = (l_rr @ p[:, j] - turned) @ p - columns
    return (H + H.T) / 2
