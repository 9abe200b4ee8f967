r"""Gradients at rest by nudging: two or three relaxations and no cotangent at all, to compare with.

    free      0 = F(r⁰)           nudged   0 = F(r^β) − β (∂l/∂r)ᵀ(r^β)

    V ≈ (r^β − r⁰)ᵀ/β             dl/dw ≈ −V F_w(r⁰)             equilibrium propagation, β → 0; error O(β)
    V ≈ (r^β − r^{−β})ᵀ/2β                                       symmetric nudging, error O(β²)
    dl/dw ≈ (∂E/∂w(r^β) − ∂E/∂w(r⁰))/β                           contrastive, finite β, where F = −∂E/∂r

To first order r^β − r⁰ = β J⁻¹ (∂l/∂r)ᵀ, where the gradient asks for V = ∂l/∂r J⁻¹: its transpose is J⁻ᵀ (∂l/∂r)ᵀ. The
two are one where J is symmetric, that is where F descends an energy. For any other network the limit β → 0 is another
vector, however small β is.

Sources: Scellier and Bengio, "Equilibrium propagation", Front. Comput. Neurosci. 11 (2017); Scellier et al.,
"Generalization of equilibrium propagation to vector field dynamics", arXiv:1808.04873 (2018); Laborieux et al., Front.
Neurosci. 15 (2021), the symmetric one; Movellan, "Contrastive Hebbian learning in the continuous Hopfield model"
(1991).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import NotAtRestError, UsageError, one_of
from ctrnn.fields.base import Array, Field
from ctrnn.numbers import checked_array, flag, number, real_array
from ctrnn.states import state_of

#: evaluations of F that a phase may take
MOST_EVALUATIONS = 100_000

__all__ = ["Nudged", "contrastive_gradient", "equilibrium_propagation"]


@dataclass(frozen=True, eq=False, repr=False)
class Nudged:
    """An approximation of dl/dw from two phases; prints as a line.

    Attributes
    ----------
    vector : ndarray (m,)
        The approximation.
    parameters : dict of str to ndarray
        The same by name.
    V : ndarray (n,) or None
        The approximation of dl/dr J⁻¹; None of the contrastive gradient.
    free, nudged : ndarray (n,)
        The rest points of the two phases.
    beta : float
        β.
    """

    vector: Array
    parameters: dict[str, Array]
    V: Array | None
    free: Array
    nudged: Array
    beta: float

    def __getitem__(self, name: str) -> Array:
        """Of one parameter, as ``parameters`` has it; raises UnknownNameError for any other name."""
        one_of("parameter", name, list(self.parameters))
        return self.parameters[name]

    def __repr__(self) -> str:
        return (
            f"gradient of two phases, β = {self.beta:.6g}: |dl/dw| = {np.linalg.norm(self.vector):.8g}, "
            f"the rest points {np.linalg.norm(self.nudged - self.free):.3g} apart"
        )


def equilibrium_propagation(
    field: Field, r0: Any, dl_dr: Callable[[Array], Any], beta: float = 1e-3, x: Any = None, *, symmetric: bool = False
) -> Nudged:
    """The gradient dl/dw at the rest point that r0 leads to, by nudging it: an approximation.

    Parameters
    ----------
    field : Field
        F.
    r0 : array_like (n,)
        Where the free phase starts.
    dl_dr : callable
        r (n,) ↦ ∂l/∂r (n,).
    beta : float, default 1e-3
        β, the strength of the nudge.
    x : array_like (nx,), optional
        The input held.
    symmetric : bool, default False
        Nudge by +β and −β: error O(β²) in the place of O(β).

    Returns
    -------
    Nudged
        The approximation, and both rest points.

    Raises
    ------
    NotAtRestError
        Where a phase does not come to rest.
    UsageError
        For arguments that are not allowed.

    Notes
    -----
    It tends to the gradient for β → 0 where J is symmetric; for any other network the limit is another vector. Formulas
    and sources (Scellier and Bengio 2017; Laborieux et al. 2021) are at the top of `ctrnn.gradients.rest.nudging`.

    Examples
    --------
    >>> from ctrnn.fields.equations import Equations
    >>> field = Equations({"r": "-r + w*r + b"}, {"w": 0.5, "b": 1.0})  # one state: J is symmetric
    >>> equilibrium_propagation(field, [0.0], lambda r: [1.0], beta=0.1).vector.round(6)
    array([4., 2.])
    """
    r0 = state_of(field, r0)
    beta = _check(field, r0, dl_dr, beta)
    free = settle(field, r0, x)
    forward = settle(field, free, x, dl_dr, beta)
    back = settle(field, free, x, dl_dr, -beta) if flag("symmetric", symmetric) else free
    V = (forward - back) / (2.0 * beta if symmetric else beta)
    vector = field.parameter_vjp(0.0, free, -V, x)
    return Nudged(vector, field.unflatten(vector), V, free, forward, beta)


def contrastive_gradient(
    field: Field,
    r0: Any,
    dl_dr: Callable[[Array], Any],
    energy_gradient: Callable[[Array], Any],
    beta: float = 0.1,
    x: Any = None,
) -> Nudged:
    """The contrastive gradient (∂E/∂w(r^β) − ∂E/∂w(r⁰))/β of two phases, where F = −∂E/∂r: an approximation.

    Parameters
    ----------
    field : Field
        F, which must be −∂E/∂r.
    r0 : array_like (n,)
        Where the free phase starts.
    dl_dr : callable
        r (n,) ↦ ∂l/∂r (n,).
    energy_gradient : callable
        r (n,) ↦ ∂E/∂w (m,), in the order of ``field.parameter_names``.
    beta : float, default 0.1
        β, the strength of the nudge. The error is O(β).
    x : array_like (nx,), optional
        The input held.

    Returns
    -------
    Nudged
        The approximation, and both rest points.

    Raises
    ------
    NotAtRestError
        Where a phase does not come to rest.
    UsageError
        For arguments that are not allowed.

    Notes
    -----
    It is what a learner sees that compares local quantities of two phases (Movellan 1991); see
    `ctrnn.gradients.rest.nudging`.

    Examples
    --------
    >>> from ctrnn.fields.equations import Equations
    >>> field = Equations({"r": "b - r"}, {"b": 1.0})  # E = r²/2 − b r, ∂E/∂b = −r; l = r, dl/db = 1
    >>> contrastive_gradient(field, [0.0], lambda r: [1.0], lambda r: -r).vector.round(6)
    array([1.])
    """
    r0 = state_of(field, r0)
    beta = _check(field, r0, dl_dr, beta)
    free = settle(field, r0, x)
    nudged = settle(field, free, x, dl_dr, beta)
    vector = checked_array("energy_gradient", energy_gradient(nudged), (field.m,)) - energy_gradient(free)
    vector = vector / beta
    return Nudged(vector, field.unflatten(vector), None, free, nudged, beta)


def settle(
    field: Field, r0: Array, x: Any = None, dl_dr: Callable[[Array], Any] | None = None, beta: float = 0.0
) -> Array:
    """Where dr/dt = F(r) − β ∂l/∂r comes to rest from r0, to rounding.

    Relaxed, then polished with the secant form of Newton (MINPACK). Raises NotAtRestError.
    """
    from scipy.integrate import solve_ivp
    from scipy.optimize import root

    def F(r: Array) -> Array:
        out = field(0.0, r, x)
        return out if dl_dr is None else out - beta * real_array("dl_dr(r)", dl_dr(r))

    left = iter(range(MOST_EVALUATIONS))

    def flow(_: float, r: Array) -> Array:
        if next(left, None) is None:  # at a pole of F the steps grow short without end
            raise NotAtRestError(float(np.linalg.norm(F(r))), "a phase", "an r0 that leads to a stable point")
        return F(r)

    start = float(np.linalg.norm(F(r0)))
    r, duration, slow = r0, 10.0, [start]
    while slow[-1] > 1e-6 * max(1.0, start) and not (len(slow) > 3 and slow[-1] > 0.5 * slow[-4]):
        r = solve_ivp(flow, (0.0, duration), r, "LSODA", rtol=1e-8, atol=1e-10).y[:, -1]
        duration *= 2.0
        slow.append(float(np.linalg.norm(F(r))))
    speed = slow[-1]
    if not speed <= 1e-6 * max(1.0, start):
        raise NotAtRestError(speed, "a phase", "a smaller beta, or an r0 that leads to a stable point")
    found = root(F, r, method="hybr", options={"xtol": 1e-15}).x
    return found if np.linalg.norm(F(found)) <= speed else r


def _check(field: Field, r0: Array, dl_dr: Any, beta: Any) -> float:
    if not callable(dl_dr):
        raise UsageError("dl_dr", given=dl_dr, allowed="a function of r, (n,) to (n,)")
    found = number("beta", beta, "a finite number other than 0")
    if not found:
        raise UsageError("beta", given=beta, allowed="a finite number other than 0")
    checked_array("dl_dr(r0)", dl_dr(r0), (field.n,))
    return found
