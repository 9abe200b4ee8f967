"""UORO: unbiased online recurrent optimisation, one random outer product in the place of P = dr/dw.

With Φ = ∂r⁺/∂r and C = ∂r⁺/∂w of one step, RTRL carries P ← Φ P + C. UORO carries P̃ = s̃ ⊗ w̃, n + m numbers: with
random signs ν (n,) of each step

    s̃ ← ρ₀ Φ s̃ + ρ₁ ν        w̃ ← w̃/ρ₀ + νᵀC/ρ₁        g = (∂ℓ/∂r · s̃) w̃
    ρ₀ = √(‖w̃‖/‖Φ s̃‖)       ρ₁ = √(‖νᵀC‖/‖ν‖)

As E ν νᵀ = 1 and the signs of a step are independent of what was before, E P̃ obeys the recursion of P: bias none, for
weights at rest. Variance: the cross terms ρ₀/ρ₁ Φ s̃ ⊗ νᵀC and ρ₁/ρ₀ ν ⊗ w̃, which the ρ make as small as scales can;
relative to P it grows as n, and as the square root of the time that P remembers. As dt → 0 with Φ = 1 + J dt and C =
F_w dt the cross terms are O(√dt) a step: (s̃, w̃) tends to a diffusion, ds̃ = (J + a) s̃ dt + b dB, dw̃ = −a w̃ dt + F_wᵀ
dB/b, whose variance a shorter step does not take away. Time: one product forward and one back through the step, O(n² +
m). Memory: n + m. Euler steps with dt = τ make it the published algorithm on discrete networks.

(C. Tallec & Y. Ollivier, "Unbiased online recurrent optimization", ICLR 2018, arXiv:1702.05043.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients import costs
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.online.random import RandomMethod, balance, random_facts, signs
from ctrnn.gradients.rules.rule import Memory
from ctrnn.gradients.rules.step import Lane, Step


@dataclass(frozen=True)
class UORO(RandomMethod):
    """One random outer product s̃ ⊗ w̃ in the place of dr/dw: noisy, unbiased, in O(n + m) memory; any of our solvers.

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
    The recursion, its variance and the source (Tallec and Ollivier 2018) are at the top of
    `ctrnn.gradients.online.uoro`. dl/dr0 is exact.

    Examples
    --------
    >>> import ctrnn
    >>> network = ctrnn.RateNetwork(2, gain=1.2, seed=0)
    >>> problem = ctrnn.Problem(network, [0.1] * 2, (0.0, 2.0), objective=ctrnn.Objective(target=1.0, at=[2.0]))
    >>> exact = ctrnn.gradient(problem, "rtrl", solver="euler", dt=0.5).vector
    >>> drawn = [ctrnn.gradient(problem, UORO(seed), solver="euler", dt=0.5).vector for seed in range(200)]
    >>> error = np.linalg.norm(np.mean(drawn, axis=0) - exact), np.linalg.norm(drawn[0] - exact)
    >>> bool(error[0] < 0.3 * np.linalg.norm(exact) < error[1])
    True
    """

    facts = random_facts(
        "uoro",
        "one random outer product for dr/dw: unbiased, noisy, in the least memory",
        cost="O(n² + m) a step; with dl/dr0 O(n³)",
        memory="O(n + m)",
    )

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""
        return costs.online(size, size.s * 2 * size.va + 6.0 * size.entries, 4.0 * size.entries)

    def start(self, lane: Lane, rng: np.random.Generator) -> UOROMemory:
        """A memory for one lane."""
        return UOROMemory(lane, rng)


class UOROMemory(Memory):
    """s̃ (n,) and w̃ (groups, columns)."""

    carried: ClassVar[tuple[str, ...]] = ("s", "w")

    def __init__(self, lane: Lane, rng: np.random.Generator) -> None:
        super().__init__(lane, rng)
        self.s, self.w = np.zeros(lane.n), lane.zeros()

    def reset(self) -> None:
        """P̃ = 0."""
        self.s, self.w = np.zeros(self.lane.n), self.lane.zeros()

    def take(self, step: Step) -> None:
        """The recursion at the top of this file."""
        nu = signs(self.rng, self.lane.n)
        s = step.right(self.s)
        _, G = step.left(nu[None])
        nu_C = G[:, 0]
        rho0, rho1 = balance(self.w, s), balance(nu_C, nu)
        self.s, self.w = rho0 * s + rho1 * nu, self.w / rho0 + nu_C / rho1

    def pull(self, row: Array) -> Array:
        """(∂ℓ/∂r · s̃) w̃."""
        return float(row @ self.s) * self.w
