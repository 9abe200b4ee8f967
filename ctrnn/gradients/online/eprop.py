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

import numpy as np

from ctrnn.gradients import costs
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.method import Exact, Facts, Passes
from ctrnn.gradients.online.method import OnlineMethod
from ctrnn.gradients.rules.rule import Memory
from ctrnn.gradients.rules.step import Lane
from ctrnn.gradients.rules.traces import Sets, traces


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
            9.0 * size.entries if size.s == 1 else 2.0 * size.n * size.entries,
        )

    def start(self, lane: Lane, rng: np.random.Generator) -> Memory:
        """A memory for one lane: a trace for each unit and each parameter that acts on it."""
        unit = np.unique(lane.field.units, return_inverse=True)[1]
        sets = [np.flatnonzero(unit == u) for u in range(int(unit.max(initial=-1)) + 1)]
        F_w = lane.field._pattern()[1].tocoo()
        return traces(lane, rng, Sets(sets, unit[F_w.coords[0]], F_w.coords[1]))
