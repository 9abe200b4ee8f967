"""How far the cotangents of an adaptive run are off, and where its steps must be shorter for them.

The step control of a run sees the state. Where the state rests, steps grow until h‖J‖ is of order one and
beyond, and the derivative of such steps is no derivative of the differential equation. The way back tells. With
λ⁺ on the end of a step, the cotangents K̄_i and V_i = K̄_i J_i of its stages (ctrnn.kernels.pullback) obey

    V_i / b_i = h J_i [λ⁺ + Σ_j A*_ij V_j / b_j],        A*_ij = b_j a_ji / b_i

an expansion in h whose first terms are combinations of 1, c, c², A* c … over the stages. Weights x that are
orthogonal to those leave

    v = Σ_i (x_i / b_i) V_i = O((hJ)^k),        η = C (‖v‖ / ‖λ⁺‖)^p

with x and C fitted to the scalar equation dr/dt = z r, h = 1, where the error of λ, relative to λ⁺, is
|R(z) − e^z|. So η costs nothing but the sum. Implicit methods, whose stages see stiffness, go back by their
embedded weights e once more: ε = Σ_i V_i of K̄_i = h e_i λ⁺ + h Σ_j a_ji V_j is by how much λ by the embedded
method differs, and η = ‖ε‖ / ‖λ⁺‖.

Norms are max_j D_j |λ_j|, D_j the largest |r_j| of the run (at least 1 % of the largest of all; 1 where all are
0), so that units of states do not matter. ‖λ⁺‖ counts as 1 % of what it is later at least: a cotangent that has
decayed need not be right.

A step with η > TOO_MUCH rtol, or one of too many that add up, is divided into ⌈(η / AIM rtol)^(1/q)⌉ equal ones,
q the order of the local error; the run is then taken again onto their ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.solvers import tableaus
from ctrnn.solvers.tableaus import Tableau

#: a step is divided where its η is more than so many rtol, to come to so many: a second look finds little more
TOO_MUCH, AIM = 30.0, 3.0
#: the part of the largest later ‖λ‖ that ‖λ⁺‖ counts as at least, and that of the largest state
DECAYED, SMALL_STATE = 0.01, 0.01
#: the most parts that a step is divided into at a time
MOST_PARTS = 200


@dataclass(frozen=True)
class Estimator:
    """η = factor · (‖v‖ / ‖λ⁺‖) ** power, v = Σ_i weights_i V_i.

    Of the embedded method where there are no weights (s,).

    total : the Σ η of all steps, in rtol, at which the gradient was off by some 30 rtol where it was off most
        (scripts/benchmarks/accuracy.py)
    """

    weights: Array
    factor: float
    power: float
    order: int
    total: float

    @property
    def is_embedded(self) -> bool:
        """Whether the embedded method's error is meant."""
        return not self.weights.size


#: of a solver: the functions of the stages that v is orthogonal to, p, and the Σ η at which the gradient begins to be
#: off
_TERMS: dict[str, tuple[tuple[str, ...], float, float]] = {
    "bs3": (("1",), 2.0, 50.0),
    "dopri5": (("1", "c", "c²", "A*c"), 1.25, 300.0),
    "tsit5": (("1", "c", "c²", "A*c"), 1.5, 300.0),
    "dop853": (("1", "c", "c²", "A*c", "c³"), 1.75, 300.0),
}
#: the last of these, of methods that go back by their embedded weights
EMBEDDED_TOTAL = 200.0
#: z = hJ at which v is fitted to the error of the scalar equation
SCALAR = np.array([-6.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.7, -0.5, -0.3, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0])


@cache
def estimator(solver: str) -> Estimator:
    """The estimate that a solver's steps allow."""
    tableau = tableaus.get(solver)
    if solver not in _TERMS:
        order = (tableau.embedded_order or tableau.order) + 1
        return Estimator(np.empty(0), 1.0, 1.0, order, EMBEDDED_TOTAL)
    terms, power, total = _TERMS[solver]
    return Estimator(*_fitted(tableau, terms, power), power, tableau.order + 1, total)


def _fitted(tableau: Tableau, terms: tuple[str, ...], power: float) -> tuple[Array, float]:
    """The weights x_i / b_i, and C.

    Of all x that are orthogonal to the terms it is the one whose C |v|^p follows |R(z) − e^z| best, and is nowhere
    less.
    """
    s = tableau.stages
    a, b, c = tableau.a[:s, :s], tableau.b[:s], tableau.c[:s]
    counts = b != 0.0
    over = np.where(counts, b, 1.0)
    dual = np.where(counts[:, None], b * a.T, 0.0) / over[:, None]
    functions = {"1": np.ones(s), "c": c, "c²": c**2, "c³": c**3, "A*c": dual @ c}
    singular, rows = np.linalg.svd(np.array([functions[name][counts] for name in terms]))[1:]
    free = rows[int((singular > 1e-9 * singular[0]).sum()) :]
    V = np.zeros((SCALAR.size, s))
    for i in reversed(range(s)):
        V[:, i] = SCALAR * (b[i] + V[:, i + 1 :] @ a[i + 1 :, i])
    off = np.abs(1.0 + V.sum(axis=1) - np.exp(SCALAR))
    relative = V[:, counts] @ (free / b[counts]).T / off[:, None] ** (1.0 / power)
    fits = []
    for sign in (1.0, -1.0):  # v may have either sign for z < 0
        x = np.linalg.lstsq(relative, np.where(SCALAR > 0.0, 1.0, sign), rcond=None)[0]
        factors = np.abs(relative @ x) ** -power
        fits.append((float(factors.max() / factors.min()), float(factors.max()), x))
    _, factor, x = min(fits, key=lambda fit: fit[0])
    weights = np.zeros(s)
    weights[counts] = x @ free / b[counts]
    return weights, factor


def state_sizes(largest: Array) -> Array:
    """D (n,) of the largest |r_j| of a run."""
    top = float(largest.max(initial=0.0))
    return np.maximum(largest, SMALL_STATE * top) if top > 0.0 else np.ones_like(largest)


def step_errors(sizes: Array, solver: str) -> Array:
    """η (T,) of T steps in the order of time, from ‖v‖ and ‖λ⁺‖ (T, 2); 0 where nothing has come back yet."""
    its = estimator(solver)
    v, size = sizes[:, 0], sizes[:, 1]
    later = np.maximum.accumulate(size[::-1])[::-1]
    # a loss along the way may begin within the step
    start = np.append(size[:1], size[:-1])
    size = np.maximum(np.maximum(size, start), DECAYED * later)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        eta = its.factor * (v / size) ** its.power
    return np.where(size > 0.0, eta, 0.0)


def divided(t: Array, h: Array, eta: Array, rtol: float, solver: str) -> Array:
    """The times inside the steps (T,) that end at t and are h long (signed) onto which a run should step.

    None where all is well.
    """
    its, aim = estimator(solver), AIM * rtol
    bad = ~(eta <= TOO_MUCH * rtol)
    if eta.sum() > its.total * rtol:
        aim = min(aim, its.total * rtol / (3 * eta.size))
        bad |= eta > aim
    times = []
    for m in np.flatnonzero(bad):
        ratio = (eta[m] / aim) ** (1.0 / its.order)
        parts = int(np.clip(np.ceil(ratio), 2, MOST_PARTS)) if np.isfinite(ratio) else MOST_PARTS
        times.append(t[m] - h[m] * np.arange(1, parts) / parts)
    return np.sort(np.concatenate(times)) if times else np.empty(0)
