"""e-prop: eligibility traces, what a weight does to its own unit through that unit alone.

With Φ = ∂r⁺/∂r and C = ∂r⁺/∂w of one step, RTRL carries P ← Φ P + C. e-prop keeps of Φ the blocks of the units (a
unit's states by that unit's states) and of P what a parameter does to the units that it acts on itself:

    P ← M ∘ (Φ_u P + C)        Φ_u = Φ within units, 0 between them        M = [F_w ≠ 0 at any state of the unit]
    g = ∂ℓ/∂r P

The row of P for a unit and a weight onto it is Bellec's eligibility vector; ∂ℓ/∂r, which only sees what the loss takes
from the state at that time, is the learning signal. With one state a unit and weights that act on one unit each, it is
SnAp-1; with several states a unit it keeps all of them, where SnAp-1 keeps those that the weight enters; leak-only
traces (RFLO) drop a unit's weight onto itself besides. Bellec's networks have no such weights: there the two agree on
rate units.

As dt → 0, dP/dt = J_u P + F_w with the blocks J_u of J. Bias: all influence that passes through another unit. Variance:
none. Time: O(m) for the traces, by explicit steps of one stage, with J and one pullback of as many rows as a unit has
states, O(n²); a step of more stages is taken whole, O(n³). Memory: a trace a weight and state of its unit. Euler steps
with dt = τ make it the published algorithm, with exact derivatives in the place of pseudo-derivatives of spikes.

(G. Bellec, F. Scherr, A. Subramoney, E. Hajek, D. Salaj, R. Legenstein & W. Maass, "A solution to the learning dilemma
for recurrent networks of spiking neurons", Nature Communications 11:3625, 2020.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients import costs
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.method import Exact, Facts, Passes
from ctrnn.gradients.online.method import OnlineMethod
from ctrnn.gradients.rules.rule import Memory
from ctrnn.gradients.rules.step import Lane, Step


@dataclass(frozen=True)
class EProp(OnlineMethod):
    """Eligibility traces: what a weight does to its own unit through that unit alone; for any solver of our own.

    Notes
    -----
    Which states make a unit, the field says (``field.units``): each state of a rate network, the i-th entries of all
    states that are vectors of one length in `ctrnn.Equations`. The recursion and the source (Bellec et al. 2020) are at
    the top of `ctrnn.gradients.online.eprop`. dl/dr0 is exact.

    Examples
    --------
    >>> import ctrnn
    >>> network = ctrnn.RateNetwork(8, gain=1.2, seed=0)
    >>> problem = ctrnn.Problem(network, [0.1] * 8, (0.0, 5.0), objective=ctrnn.Objective(target=1.0, at=[5.0]))
    >>> exact, near = (ctrnn.gradient(problem, m, solver="euler", dt=0.1).vector for m in ("rtrl", EProp()))
    >>> bool(0.1 < np.linalg.norm(near - exact) / np.linalg.norm(exact) < 1.0)
    True
    """

    facts = Facts(
        name="e-prop",
        aliases=("eprop",),
        summary="eligibility traces, each within its unit: to compare with biology",
        exact_for=Exact.NOTHING,
        passes=Passes.FORWARD,
        cost="O(n² + m) an Euler step, O(n³) others; with dl/dr0 O(n³)",
        memory="O(m)",
    )

    @property
    def name(self) -> str:
        """What a result says that it was computed by."""
        return "e-prop"

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""
        return costs.online(
            size,
            4.0 * size.entries if size.s == 1 else 2.0 * size.n * size.entries,
            6.0 * size.entries if size.s == 1 else 2.0 * size.n * size.entries,
        )

    def start(self, lane: Lane, rng: np.random.Generator) -> EPropMemory:
        """A memory for one lane."""
        return EPropMemory(lane, rng)


class EPropMemory(Memory):
    """The traces, one for each parameter, unit that it acts on and state of that unit: (traces, states of a unit)."""

    carried: ClassVar[tuple[str, ...]] = ("e",)

    def __init__(self, lane: Lane, rng: np.random.Generator) -> None:
        super().__init__(lane, rng)
        unit = np.unique(lane.field.units, return_inverse=True)[1]
        count = int(unit.max(initial=-1)) + 1
        number = np.array([np.count_nonzero(unit[:i] == unit[i]) for i in range(lane.n)], dtype=np.int64)
        #: the states of each unit (units, most states of one), −1 where there are fewer
        self.states = np.full((count, int(number.max(initial=0)) + 1), -1)
        self.states[unit, number] = np.arange(lane.n)
        _, F_w = lane.field.sparsity()
        acts = np.zeros((count, lane.m + 1), dtype=bool)  # the last: no parameter
        np.logical_or.at(acts, unit, np.concatenate([F_w, np.zeros((lane.n, 1), dtype=bool)], axis=1))
        on, entry = np.nonzero(acts[:, lane.bound.kernel.index])
        #: of each trace its unit, group and column
        self.unit, self.group, self.column = on, entry // lane.columns, entry % lane.columns
        self.e = np.zeros((on.size, self.states.shape[1]))
        #: whether one pullback of a row for each number within a unit tells all of C that is kept
        self.alone = np.unique(entry).size == entry.size and lane.s == 1
        self.rows = (number == np.arange(self.states.shape[1])[:, None]).astype(float)

    def reset(self) -> None:
        """No trace."""
        self.e[...] = 0.0

    def take(self, step: Step) -> None:
        """Each trace by its unit's block of Φ, and what the step adds."""
        there = self.states[self.unit]
        if self.alone and (b := float(self.lane.b[0])) != 0.0 and not self.lane.a.any():
            phi = np.eye(self.lane.n) + float(step.h[0]) * b * step.jacobian(0)
            _, G = step.left(self.rows)
            added = G[self.group, :, self.column]
        else:
            phi = step.phi
            added = step.C[self.group[:, None], there, self.column[:, None]]
        blocks = np.where((self.states[:, :, None] >= 0) & (self.states[:, None, :] >= 0),
                          phi[self.states[:, :, None], self.states[:, None, :]], 0.0)  # fmt: skip
        self.e = np.einsum("kij,kj->ki", blocks[self.unit], self.e) + np.where(there >= 0, added, 0.0)

    def pull(self, row: Array) -> Array:
        """∂ℓ/∂r P."""
        there = self.states[self.unit]
        g = self.lane.zeros()
        np.add.at(g, (self.group, self.column), (np.where(there >= 0, row[there], 0.0) * self.e).sum(axis=1))
        return g
