"""KF-RTRL: a random Kronecker product in the place of P = dr/dw.

With Φ = ∂r⁺/∂r and C = ∂r⁺/∂w of one step, RTRL carries P ← Φ P + C. In a network C = D ⊗ h, what a row of weights does
to the states (g, n) times the sources that all rows share (ctrnn.gradients.rules.outer). KF-RTRL carries P̃ = A ⊗ u, A
(g, n) and u (columns,), with random signs c₁, c₂ of each step:

    A ← c₁/p₁ Φ A + c₂/p₂ D        u ← c₁ p₁ u + c₂ p₂ h        g = (A ∂ℓ/∂r) ⊗ u
    p₁ = √(‖Φ A‖/‖u‖)              p₂ = √(‖D‖/‖h‖)

As E c₁c₂ = 0, E P̃ obeys the recursion of P: bias none, for weights at rest. Variance: the cross terms c₁c₂ (…), smaller
than UORO's by a factor of about n, as one sign stands for a whole matrix. A step of s stages has s terms D ⊗ h, and as
many signs more. As dt → 0 the cross terms are O(√dt) a step and the noise a diffusion, as UORO's. Time: Φ A, O(n³).
Memory: n² + columns, where exact RTRL has n³. (Exact RTRL in blocks takes O(n³) a step too: what is saved is memory.)
Sets of rows with sources of their own have an A ⊗ u each; parameters that are not weights times sources are carried
exactly. Euler steps with dt = τ make it the published algorithm on discrete networks.

(A. Mujika, F. Meier & A. Steger, "Approximating real-time recurrent learning with random Kronecker factors", NeurIPS
2018.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients import costs
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.online.random import RandomMethod, balance, random_facts, signs
from ctrnn.gradients.rules.outer import Outer
from ctrnn.gradients.rules.rule import Memory
from ctrnn.gradients.rules.step import Lane, Step


@dataclass(frozen=True)
class KFRTRL(RandomMethod):
    """A random Kronecker product A ⊗ u in the place of dr/dw: unbiased, in O(n²) memory; for networks.

    Parameters
    ----------
    seed : int, default 0
        Of the signs, where it is run as a gradient method; a learner has a seed of its own.

    Raises
    ------
    UsageError
        For a seed that is not a whole number from 0 on.

    Notes
    -----
    It takes fields whose parameters are weights times sources: rate networks, gated ones, equations with ``W @ s``. The
    recursion, its variance and the source (Mujika, Meier and Steger 2018) are at the top of
    `ctrnn.gradients.online.kronecker`. dl/dr0 is exact.

    Examples
    --------
    >>> import ctrnn
    >>> network = ctrnn.RateNetwork(4, gain=1.2, seed=0)
    >>> problem = ctrnn.Problem(network, [0.1] * 4, (0.0, 2.0), objective=ctrnn.Objective(target=1.0, at=[2.0]))
    >>> exact = ctrnn.gradient(problem, "rtrl", solver="euler", dt=0.5).vector
    >>> drawn = [ctrnn.gradient(problem, KFRTRL(seed), solver="euler", dt=0.5).vector for seed in range(100)]
    >>> error = np.linalg.norm(np.mean(drawn, axis=0) - exact), np.linalg.norm(drawn[0] - exact)
    >>> bool(error[0] < 0.2 * np.linalg.norm(exact) < error[1])
    True
    """

    facts = random_facts(
        "kf-rtrl",
        "a random Kronecker product for dr/dw: unbiased, less noisy than UORO, for networks",
        cost="O(n³) a step",
        memory="O(n²)",
    )

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""
        return costs.online(
            size, 2.0 * size.n * size.entries * size.s + 4.0 * size.n**3, (2.0 + size.s) * size.n * size.entries
        )

    def start(self, lane: Lane, rng: np.random.Generator) -> KroneckerMemory:
        """A memory for one lane; raises UsageError where no parameters are weights times sources."""
        outer = Outer(lane)
        if not outer.sets:
            raise UsageError(
                "method",
                given=self.facts.name,
                allowed="a field whose parameters are weights times sources, as W @ s; this one has none",
                hint='method="uoro", or "rtrl": its cost is small for few parameters',
            )
        return KroneckerMemory(lane, rng, outer)


class KroneckerMemory(Memory):
    """A (groups, n) and u (sets, columns) of the products; P (others, n, columns) of parameters of another kind."""

    carried: ClassVar[tuple[str, ...]] = ("A", "u", "P")

    def __init__(self, lane: Lane, rng: np.random.Generator, outer: Outer) -> None:
        super().__init__(lane, rng)
        self.outer = outer
        self.A, self.u = np.zeros((lane.groups, lane.n)), np.zeros((len(outer.sets), lane.columns))
        self.P = np.zeros((outer.others.size, lane.n, lane.columns))

    def reset(self) -> None:
        """P̃ = 0."""
        self.A[...], self.u[...], self.P[...] = 0.0, 0.0, 0.0

    def take(self, step: Step) -> None:
        """The recursion at the top of this file."""
        A, u = self.A @ step.phi.T, self.u.copy()
        for k, (members, (D, H)) in enumerate(zip(self.outer.sets, self.outer.factors(step), strict=True)):
            left = [A[members], *np.moveaxis(D, 2, 0)]
            right = [u[k], *H.T]
            drawn = signs(self.rng, len(left))
            p = np.array([balance(a, b) for a, b in zip(left, right, strict=True)])
            self.A[members] = np.tensordot(drawn / p, np.array(left), 1)
            self.u[k] = np.tensordot(drawn * p, np.array(right), 1)
        others = self.outer.others
        if others.size:
            self.P = np.matmul(step.phi, self.P) + step.C[others]

    def pull(self, row: Array) -> Array:
        """(A ∂ℓ/∂r) ⊗ u."""
        g, along = self.lane.zeros(), self.A @ row
        for k, members in enumerate(self.outer.sets):
            g[members] = np.outer(along[members], self.u[k])
        g[self.outer.others] = np.matmul(row, self.P)
        return g
