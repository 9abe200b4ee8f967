"""SnAp: sparse n-step approximations of RTRL.

With Φ = ∂r⁺/∂r and C = ∂r⁺/∂w of one step, RTRL carries P = dr/dw as P ← Φ P + C. SnAp-k keeps of P the entries that a
parameter reaches within k applications of F, and drops the others after each step:

    P ← M_k ∘ (Φ P + C)        M_1 = [F_w ≠ 0]        M_{k+1} = [(1 + |J|) M_k ≠ 0]        g ← g + ∂ℓ/∂r P

(∘ entry by entry; J, F_w by where they can be other than 0; a loss at the end of a step sees the P that is kept, one
inside it, of an integral, the P before it and the step's own λ, c as in ctrnn.gradients.schedules.rtrl). SnAp-1 keeps
what each weight does to its own unit. Euler steps with dt = τ make it the published algorithm on discrete networks.
Where M_k has every entry that P has, SnAp-k is exact: SnAp-1 for units that know only themselves, any k for parts that
are coupled within k. dl/dr0 is not approximated.

As dt → 0 it is dP/dt = M_k ∘ (J P + F_w). Bias: influence that comes back from farther away. Variance: none. Time:
O(n² + what is kept) for Euler steps where few states are kept for each parameter (ctrnn.gradients.rules.traces),
otherwise O(n² m). Memory: what is kept, m numbers for SnAp-1 of a network; 4 n m bytes to find it.

(J. Menick, E. Elsen, U. Evci, S. Osindero, K. Simonyan & A. Graves, "Practical Real Time Recurrent Learning with a
Sparse Approximation", ICLR 2021.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctrnn.fields.base import Array, Field
from ctrnn.gradients import costs
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.method import Exact, Facts, Passes
from ctrnn.gradients.online.method import OnlineMethod
from ctrnn.gradients.rules.rule import Memory
from ctrnn.gradients.rules.step import Lane, Step
from ctrnn.gradients.rules.traces import SPARSE, Sets, ones, traces
from ctrnn.numbers import whole


@dataclass(frozen=True)
class SnAp(OnlineMethod):
    """RTRL with the sensitivities that a parameter reaches within k steps, an approximation; for any solver of our own.

    Parameters
    ----------
    k : int
        Applications of F after which influence is dropped, at least 1.

    Raises
    ------
    UsageError
        For a k that is not a whole number of steps.

    Notes
    -----
    Where most parameters are kept for few states (SnAp-1 of a network; of a sparse one a few k more), Euler steps take
    O(n² + m), and O(n²) for each parameter that all units share; others are computed from the whole step's Φ and C, at
    the cost of textbook RTRL. dl/dr0 is exact.

    Examples
    --------
    >>> import ctrnn
    >>> network = ctrnn.RateNetwork(8, gain=1.2, seed=0)
    >>> problem = ctrnn.Problem(network, [0.1] * 8, (0.0, 5.0), objective=ctrnn.Objective(target=1.0, at=[5.0]))
    >>> exact, near = (ctrnn.gradient(problem, m, solver="rk4", dt=0.1).vector for m in ("rtrl", SnAp(1)))
    >>> bool(0.1 < np.linalg.norm(near - exact) / np.linalg.norm(exact) < 1.0)
    True
    """

    k: int = 1

    def __post_init__(self) -> None:
        whole("k", self.k, 1, "a number of steps, at least 1")

    @property
    def facts(self) -> Facts:  # type: ignore[override]
        """What is known of it before it is run."""
        return Facts(
            name=f"snap-{self.k}",
            summary=f"RTRL with what a weight reaches within {self.k} step{'s'[: self.k - 1]}: to learn online with",
            exact_for=Exact.NOTHING,
            passes=Passes.FORWARD,
            cost="O(n² + m) an Euler step where few states are kept, else O(n² m)",
            memory="what is kept, at most O(n m)",
        )

    @property
    def name(self) -> str:
        """What a result says that it was computed by."""
        return f"SnAp-{self.k}"

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted: of what is kept."""
        keep = reach(size.field, self.k)
        kept, counts = float(keep.nnz), np.bincount(keep.indices, minlength=1).astype(float)
        states, squares = counts.max(), (counts**2).sum()
        if size.s > 1 or size.implicit:  # C whole, and what is kept of it
            if size.n < SPARSE * states:
                return super().cost(size)
            rows = 2.0 * size.n * size.entries
            return costs.online(size, rows + 2.0 * states * kept, rows + 4.0 * kept)
        if size.n**2 * size.field.m < SPARSE**2 * squares:
            return super().cost(size)
        return costs.online(size, size.va + 2.0 * squares, 9.0 * kept)

    def start(self, lane: Lane, rng: np.random.Generator) -> Memory:
        """A memory for one lane: traces, where parameters are kept for few states each, or P with zeros."""
        keep = reach(lane.field, self.k)
        sets = Sets.by_reach(keep)
        return traces(lane, rng, sets) if sets.pays(lane) else SnApMemory(lane, rng, keep)


class SnApMemory(Memory):
    """M_k ∘ P (groups, n, columns)."""

    carried: ClassVar[tuple[str, ...]] = ("P",)

    def __init__(self, lane: Lane, rng: np.random.Generator, keep: Any) -> None:
        super().__init__(lane, rng)
        index = lane.bound.kernel.index.reshape(lane.groups, 1, lane.columns)
        rows = np.concatenate([keep.toarray() != 0, np.zeros((lane.n, 1), dtype=bool)], axis=1)  # -1: no parameter
        self.keep = np.ascontiguousarray(rows[:, index[:, 0]].transpose(1, 0, 2))
        self.P = np.zeros(self.keep.shape)

    def reset(self) -> None:
        """P = 0."""
        self.P[...] = 0.0

    def take(self, step: Step) -> None:
        """P ← M_k ∘ (Φ P + C)."""
        P = np.matmul(step.phi, self.P)
        P += step.C
        P *= self.keep
        self.P = P

    def pull(self, row: Array) -> Array:
        """∂ℓ/∂r P."""
        return np.matmul(row, self.P)


def reach(field: Field, k: int) -> Any:
    """M_k (n, m): which states a parameter reaches within k applications of F, as a sparse array of ones.

    >>> from ctrnn import Equations
    >>> chain = Equations({"u": "a - u", "v": "u - v"}, {"a": 1.0})
    >>> reach(chain, 1).toarray().ravel(), reach(chain, 2).toarray().ravel()
    (array([1., 0.], dtype=float32), array([1., 1.], dtype=float32))
    """
    J, M = field._pattern()
    for _ in range(k - 1):
        M = ones(M + ones(J @ M))
    return M
