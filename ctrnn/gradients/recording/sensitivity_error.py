"""How far the cotangents of an adaptive run are off, and where its steps must be shorter for them.

The step control of a run sees the state. Where the state rests, steps grow until h‖J‖ is of order one and
beyond, and the derivative of such steps is no derivative of the differential equation. The way back tells. With
λ⁺ on the end of a step, the cotangents K̄_i and V_i = K̄_i J_i of its stages (ctrnn.kernels.pullback) obey

    V_i / b_i = h J_i [λ⁺ + Σ_j A*_ij V_j / b_j],        A*_ij = b_j a_ji / b_i

an expansion in h whose first terms are combinations of 1, c, c², A* c … over the stages. Weights x that are
orthogonal to those leave

    v = Σ_i (x_i / b_i) V_i = O(h^k),        η = C (‖v‖ / ‖λ⁺‖)^p,        k p near the order of the local error

with x and C fitted to the scalar equation dr/dt = z r, h = 1, where the error of λ, relative to λ⁺, is
|R(z) − e^z|. So η costs nothing but the sum. Of implicit methods it is v (I − hγJ)⁻¹ that is taken (Shampine & Baca
1984): their stages see stiff modes, in which λ is far off and gone within a step, where nothing comes of it.

Norms are max_j D_j |λ_j|, D_j the largest |r_j| of the run (at least 1 % of the largest of all; 1 where all are
0), so that units of states do not matter. ‖λ⁺‖ counts as 1 % of what it is later at least: a cotangent that has
decayed need not be right.

A step with η > TOO_MUCH rtol, or one of too many that add up, is divided into ⌈(η / AIM rtol)^(1/q)⌉ equal ones,
q the order of the local error; the run is then taken again onto their ends. Steps of a state at rest may have h‖J‖ in
the thousands, where λ grows by |R(−hJ)| and η tells nothing: they are first made stable. Once steps had to be divided,
Σ η must come to a tenth of what is allowed otherwise: other steps follow behind the new ends.

A kink of an integral's rate shows where two quadratures of ∫ ∂ℓ/∂r dt differ; a loss that all stages of a step miss,
where ∂ℓ/∂r between them is not 0 as it is at the stages. Such steps are divided too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.recording.time_scale import TimeScale
from ctrnn.kernels.step_errors import SUM, note_largest, note_steps
from ctrnn.settings import Settings
from ctrnn.solvers import tableaus
from ctrnn.solvers.tableaus import Tableau

#: a step is divided where its η is more than so many rtol, to come to so many: a second look finds little more
TOO_MUCH, AIM = 30.0, 3.0
#: the part of the largest later ‖λ‖ that ‖λ⁺‖ counts as at least, and that of the largest state
DECAYED, SMALL_STATE = 0.01, 0.01
#: the part of a solver's Σ η that is allowed once steps had to be divided
AGAIN = 0.1
#: the most parts that a step is divided into at a time, and one that is unstable
MOST_PARTS, MOST_STABLE = 200, 20_000
#: a step in which λ grows by more than this may be unstable; |hJ| to which it is brought, by a guess that is low where
#: λ holds little of the fastest mode; |hJ| at which R is asked
GROWS, STABLE, SIZES = 3.0, 1.0, np.logspace(0.0, 8.0, 801)
#: a kink makes an error of this order, whatever the method. A step is divided where two quadratures differ by more than
#: so many rtol, or so many once steps had to be divided, to come to so many: by chance they may agree to a twentieth of
#: their error, and in many steps of an integral there is another kink
KINK_ORDER, KINK, KINK_AGAIN, KINK_AIM = 2.0, 1.0, 0.05, 0.01


@dataclass(frozen=True)
class Estimator:
    """η = factor · (‖v‖ / ‖λ⁺‖) ** power, v = Σ_i weights_i V_i.

    total : the Σ η of all steps, in rtol, at which the gradient is off by some 30 rtol where it is off most
        (scripts/benchmarks/accuracy.py)
    """

    weights: Array
    factor: float
    power: float
    order: int
    total: float
    #: log |R(−z)| at SIZES, increasing; None of implicit methods, where it is bounded
    growth: Array | None

    def stable_parts(self, growth: Array) -> Array:
        """Into how many parts a step that multiplies λ by ``growth`` is to be divided, to be stable."""
        if self.growth is None:
            return np.ones(growth.size)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.exp(np.interp(np.log(growth), self.growth, np.log(SIZES)))
        return np.where(growth > GROWS, z / STABLE, 1.0)


#: of a solver: the functions of the stages that v is orthogonal to, p, and the Σ η at which the gradient begins to be
#: off
_TERMS: dict[str, tuple[tuple[str, ...], float, float]] = {
    "bs3": (("1",), 2.0, 50.0),
    "dopri5": (("1", "c", "A*c"), 1.5, 150.0),
    "tsit5": (("1", "c", "c²", "A*c"), 1.5, 300.0),
    "dop853": (("1", "c", "c²", "A*c", "c³"), 1.75, 15.0),
    "kencarp4": (("1", "c", "A*1"), 5 / 3, 150.0),
    "kvaerno5": (("1", "c", "A*1", "A*c"), 2.0, 300.0),
}
#: z = hJ at which v is fitted to the error of the scalar equation
SCALAR = np.array([-6.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.7, -0.5, -0.3, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0])


def is_controlled(settings: Settings) -> bool:
    """Whether the steps under a gradient answer for the sensitivity: adaptive ones of a method with an estimate."""
    return settings.controls_sensitivity and settings.solver in _TERMS


@cache
def estimator(solver: str) -> Estimator:
    """The estimate that a solver's steps allow."""
    tableau = tableaus.get(solver)
    terms, power, total = _TERMS[solver]
    weights, factor = _fitted(tableau, terms, power)
    s, growth = tableau.stages, None
    if not tableau.implicit:
        R = 1.0 + _stages_of(tableau.a[:s, :s], tableau.b[:s], -SIZES).sum(axis=1)
        growth = np.maximum.accumulate(np.log(np.abs(R)))
    return Estimator(weights, factor, power, tableau.order + 1, total, growth)


def _fitted(tableau: Tableau, terms: tuple[str, ...], power: float) -> tuple[Array, float]:
    """The weights of the stages' V_i, and C.

    Of all weights that are orthogonal to the terms, as they enter V, those whose C |v|^p follows |R(z) − e^z| best, and
    is nowhere less.
    """
    s = tableau.stages
    a, b, c = tableau.a[:s, :s], tableau.b[:s], tableau.c[:s]
    # a stage without b has no first term, and in an explicit method none that is not another's too
    counts = np.full(s, True) if tableau.implicit else b != 0.0
    entering = {"1": b, "c": b * c, "c²": b * c**2, "c³": b * c**3, "A*1": a.T @ b, "A*c": a.T @ (b * c)}
    z = SCALAR[(SCALAR >= -4.0) & (SCALAR <= 2.0)] if tableau.implicit else SCALAR
    singular, rows = np.linalg.svd(np.array([entering[name][counts] for name in terms]))[1:]
    free = rows[int((singular > 1e-9 * singular[0]).sum()) :]
    V = _stages_of(a, b, z)
    off = np.abs(1.0 + V.sum(axis=1) - np.exp(z))
    V /= (1.0 - z * a[-1, -1])[:, None]
    relative = V[:, counts] @ free.T / off[:, None] ** (1.0 / power)
    fits = []
    for sign in (1.0, -1.0):  # v may have either sign for z < 0
        x = np.linalg.lstsq(relative, np.where(z > 0.0, 1.0, sign), rcond=None)[0]
        factors = np.abs(relative @ x) ** -power
        fits.append((float(factors.max() / factors.min()), float(factors.max()), x))
    _, factor, x = min(fits, key=lambda fit: fit[0])
    weights = np.zeros(s)
    weights[counts] = x @ free
    return weights, factor


def _stages_of(a: Array, b: Array, z: Array) -> Array:
    """V_i (·, s) of the scalar equation, where λ⁺ = 1 and hJ = z (·,)."""
    V = np.zeros((z.size, b.size))
    for i in reversed(range(b.size)):
        V[:, i] = z * (b[i] + V[:, i + 1 :] @ a[i + 1 :, i]) / (1.0 - z * a[i, i])
    return V


class StepErrors:
    """What the way back through a run tells of its steps.

    ``see`` on the way forward; ``begin`` where a cotangent begins at the end of the run, and ``note`` for each piece of
    it on the way back; ``divided`` says onto which times the run should step.
    """

    def __init__(self, solver: str, rtol: float, n: int) -> None:
        self._its, self._rtol = estimator(solver), rtol
        self.weights = self._its.weights
        self._largest, self._totals = np.zeros(n), np.zeros(2)
        self._scale: Array | None = None
        self._steps, self._count = 0, 1
        self._solver, self._next = solver, np.empty(0)
        #: the identity that shows the error of a stiff gradient beside that of λ
        self.time_scale: TimeScale | None = None
        #: whether every row of a block has to be right, and not only the cotangent of the loss
        self.every_row = False
        #: t, h, η, the order of the error and ‖λ‖ / ‖λ⁺‖, of steps that are too long, or may be
        self._long: list[Array] = []

    def anew(self) -> StepErrors:
        """One that has seen nothing yet."""
        new = StepErrors(self._solver, self._rtol, self._largest.size)
        new.time_scale = self.time_scale
        return new

    def see(self, states: Array) -> None:
        """States (·, n) on the way forward, and their number."""
        note_largest(states, self._largest)
        self._steps += len(states)

    def begin(self) -> None:
        """A cotangent of 0 at the end."""
        self._scale, self._long = None, []
        self._totals[:] = 0.0
        self._next = np.empty(0)
        if self.time_scale is not None:
            self.time_scale.begin()

    @property
    def steps(self) -> int:
        """Steps of the run that were seen."""
        return self._steps

    @property
    def scale(self) -> Array:
        """D (n,), of the states up to the first call after ``begin``."""
        if self._scale is None:
            self._scale, self._count = _state_sizes(self._largest), max(self._steps, 1)
        return self._scale

    def note(self, t: Array, h: Array, sizes: Array, kinks: Array) -> None:
        """Steps (C,) that end at t, with ‖v‖, ‖λ⁺‖ and ‖λ‖ (C, 3), and the error of ∫ ∂ℓ/∂r dt (C or 0,)."""
        its, too_long = self._its, np.empty((2 * t.size, 5))
        least = min(TOO_MUCH, AGAIN * its.total / (3 * self._count)) * self._rtol
        count = note_steps(
            t, h, sizes, kinks, its.factor, its.power, float(its.order), KINK_ORDER, DECAYED, least,
            KINK_AGAIN * self._rtol, self._totals, too_long,
        )  # fmt: skip
        if count:
            self._long.append(too_long[:count].copy())  # a view would keep the room for all steps

    def note_rows(self, t: Array, h: Array, sizes: Array) -> None:
        """The same of many rows that begin at the end of these steps, sizes (C, q, 3): the worst of them."""
        size = sizes[..., 1]
        size = np.maximum(size, DECAYED * np.maximum.accumulate(size[::-1])[::-1])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            eta = np.where(size > 0.0, self._its.factor * (sizes[..., 0] / size) ** self._its.power, 0.0).max(axis=1)
        far = ~(eta <= TOO_MUCH * self._rtol)
        if far.any():
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                grown = np.where(sizes[..., 1] > 0.0, sizes[..., 2] / sizes[..., 1], 0.0).max(axis=1)
            order = np.full(far.sum(), float(self._its.order))
            self._long.append(np.stack([t[far], h[far], eta[far], order, grown[far]], axis=1))

    def quadrature(self, sources: Array, h: Array) -> Array:
        """|h Σ_i e_i σ_i| by component (C, n): how far two quadratures of ∫ ∂ℓ/∂r dt differ in each step.

        sources (C, s, n) are σ_i at the stages, of pieces that come one after the other, the last first. A stage at the
        end of a step, which some methods add, is the next step's first; of the last step it is that at c = 1. A kink of
        the loss shows here, where smooth formulas miss it.
        """
        tableau = tableaus.get(self._solver)
        s = tableau.stages
        after = self._next if self._next.size else sources[-1, int(np.argmax(tableau.c[:s]))]
        ends = np.concatenate([sources[1:, 0], after[None]])
        self._next = sources[0, 0].copy()
        rows = []
        for e in tableau.e:
            d = np.einsum("i,cin->cn", e[:s], sources)
            rows.append(np.abs(h[:, None] * (d + e[s] * ends if len(e) > s else d)))
        if len(rows) == 1:
            return rows[0]
        d3, d5 = rows  # Hairer, Nørsett & Wanner, II.10
        return np.asarray(d5**2 / np.sqrt(np.maximum(d5**2 + 0.01 * d3**2, np.finfo(float).tiny)))

    def divided(self, again: bool = False, limit: float = np.inf) -> Array:
        """The times inside the steps onto which the run should step; none where all is well.

        again : whether steps were divided before: where the estimate has been needed, it must be small
        limit : the most times; more only where two parts of each step are more
        """
        if not self._long:
            return np.empty(0)
        t, h, eta, order, grown = np.concatenate(self._long).T
        total = self._its.total * self._rtol * (AGAIN if again else 1.0)
        is_kink = order == KINK_ORDER
        most = np.where(is_kink, KINK_AGAIN if again else KINK, TOO_MUCH) * self._rtol
        bad, aim = ~(eta <= most), AIM * self._rtol
        if not self.estimate <= total:
            aim = min(aim, total / (3 * self._count))
            bad |= ~is_kink & (eta > aim)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # a tolerance of 0: as many as may be
            ratio = eta / np.where(is_kink, KINK_AIM * self._rtol, aim)
            parts = np.where(np.isfinite(ratio), np.ceil(ratio ** (1.0 / order)), MOST_PARTS).clip(2, MOST_PARTS)
        parts = np.where(bad, self._stable(h, eta, grown, parts), 1)
        least, all_parts = 2 * bad.sum(), parts[bad].sum()
        if all_parts - bad.sum() > limit and all_parts > least:
            # as many as may be: the next look tells whether they do
            share = max(0.0, limit - bad.sum()) / (all_parts - least)
            parts = np.where(bad, 2 + np.floor(share * (parts - 2)), 1)
        # t_m − h_m k / parts_m, k = 1, …, parts_m − 1, of all steps at once: there may be a million of them
        inner = parts[bad].astype(np.int64) - 1
        k = np.arange(1, inner.sum() + 1) - np.repeat(np.cumsum(inner) - inner, inner)
        t, h, parts = (np.repeat(one[bad], inner) for one in (t, h, parts))
        return np.sort(t - h * k / parts)

    def _stable(self, h: Array, eta: Array, grown: Array, parts: Array) -> Array:
        """The parts of steps in which λ explodes, so many that they are stable, and those given of all others.

        Before such a step λ may be infinite: there as short ones.
        """
        stable = np.ceil(self._its.stable_parts(grown)).clip(1, MOST_STABLE)
        unstable = np.isfinite(eta) & (grown > GROWS) & (stable > 1)
        if not unstable.any():
            return parts
        shortest = float((h[unstable] / stable[unstable]).min())
        unknown = ~(np.isfinite(eta) & np.isfinite(grown))
        return np.where(unstable, stable, np.where(unknown, np.ceil(h / shortest).clip(2, MOST_STABLE), parts))

    @property
    def estimate(self) -> float:
        """Σ η, the relative error of the cotangents at most, if no step makes another's error smaller."""
        return float(self._totals[SUM])


def _state_sizes(largest: Array) -> Array:
    """D (n,) of the largest |r_j| of a run."""
    top = float(largest.max(initial=0.0))
    return np.maximum(largest, SMALL_STATE * top) if top > 0.0 else np.ones_like(largest)
