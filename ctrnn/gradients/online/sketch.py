"""A sketch: the best r outer products in the place of P = dr/dw, with a bound on what they miss.

With Φ = ∂r⁺/∂r and C = ∂r⁺/∂w of one step, RTRL carries P ← Φ P + C. In a network C = Σ D ⊗ h, what a row of weights
does to the states times the sources that all rows share (ctrnn.gradients.rules.outer), so that P read as a matrix with
a row for each (row of weights, state) and a column for each source is a sum of outer products, whose singular values
fall fast where the sources vary slowly. The sketch carries r of them, P̂ = Σ_k A_k ⊗ u_k with u_k orthonormal:

    P̂ ← Π_r (Φ P̂ + C)        Π_r: the r largest singular values and their vectors        g = ∂ℓ/∂r P̂

The singular values that go lost are known, and so is what becomes of them: E = P − P̂ obeys E ← Φ E + Δ with Δ what Π_r
drops. With any ε > 0, E Eᵀ ≼ S for

    S ← (1 + ε) Φ S Φᵀ + (1 + 1/ε) Δ Δᵀ,        ε = √(tr Δ Δᵀ / tr Φ S Φᵀ)

(E as a matrix with a row a state; from (a + b)(a + b)ᵀ ≼ (1 + ε) aaᵀ + (1 + 1/ε) bbᵀ), and the relative error of P̂ is
at most e/(‖P̂‖ − e), e = √tr S, in Frobenius' norm. It is a bound for weights at rest; where Φ contracts, it forgets.

Bias: what is dropped. Variance: none. Exact where r is the number of sources, or of the parameters of a small system.
As dt → 0 it is the flow of the best approximations, dP̂/dt = J P̂ + F_w less its part normal to the matrices of rank r
(dynamical low-rank approximation, Koch & Lubich 2007). Time: O(r n³) in Φ P̂, O(r² n²) in Π_r. Memory: r n². Exact
RTRL in blocks takes O(n³) a step and memory for n³: what is saved is memory. Euler steps with dt = τ make it the
optimal Kronecker sum on discrete networks without its noise (F. Benzing, M. Gauy, A. Mujika, A. Martinsson & A.
Steger, "Optimal Kronecker-sum approximation of real time recurrent learning", ICML 2019: theirs is unbiased, by random
signs).
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
from ctrnn.gradients.rules.outer import Outer
from ctrnn.gradients.rules.rule import Memory
from ctrnn.gradients.rules.step import Lane, Step
from ctrnn.numbers import whole

#: part of a source, relative, that is taken to lie in the span of the u already, and not to be a direction of its own
IN_SPAN = 1e-14


@dataclass(frozen=True)
class Sketch(OnlineMethod):
    """The best r outer products in the place of dr/dw, with a bound on the error; for any solver of our own.

    Parameters
    ----------
    rank : int, default 8
        r, outer products for each set of weights that share their sources. n + inputs + 1 is exact for a rate network.

    Raises
    ------
    UsageError
        For a rank that is not a whole number from 1 on.

    Notes
    -----
    The recursion, the bound and sources (Benzing et al. 2019; Koch and Lubich 2007) are at the top of
    `ctrnn.gradients.online.sketch`. A learner shows the bound, ``learner.bound``. dl/dr0 is exact.

    Examples
    --------
    >>> import ctrnn
    >>> network = ctrnn.RateNetwork(8, gain=1.2, seed=0)
    >>> problem = ctrnn.Problem(network, [0.1] * 8, (0.0, 5.0), objective=ctrnn.Objective(target=1.0, at=[5.0]))
    >>> methods = ("rtrl", Sketch(1), Sketch(4))
    >>> exact, one, four = (ctrnn.gradient(problem, m, solver="rk4", dt=0.1).vector for m in methods)
    >>> error = [np.linalg.norm(g - exact) / np.linalg.norm(exact) for g in (one, four)]
    >>> bool(error[1] < 0.1 * error[0])
    True
    """

    rank: int = 8

    facts = Facts(
        name="sketch",
        summary="the best r outer products for dr/dw, with a bound on what they miss: less memory than RTRL",
        exact_for=Exact.NOTHING,
        passes=Passes.FORWARD,
        cost="O(r n³) a step",
        memory="O(r n²)",
        options=("rank",),
    )

    def __post_init__(self) -> None:
        whole("rank", self.rank)

    @property
    def name(self) -> str:
        """What a result says that it was computed by."""
        return f"sketch of rank {self.rank}"

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""
        return costs.online(
            size,
            2.0 * size.n * size.entries * (size.s + self.rank + 1),
            (2.0 + size.s) * size.n * size.entries + 3.0 * self.rank * (size.n**2 + size.n),
        )

    def start(self, lane: Lane, rng: np.random.Generator) -> SketchMemory:
        """A memory for one lane."""
        return SketchMemory(lane, rng, self.rank)


class SketchMemory(Memory):
    """A (n, groups, r) and u (sets, columns, r), filled up with 0 where they are fewer; S (n, n)."""

    carried: ClassVar[tuple[str, ...]] = ("A", "u", "count", "S")

    def __init__(self, lane: Lane, rng: np.random.Generator, rank: int) -> None:
        super().__init__(lane, rng)
        self.outer, self.rank = Outer(lane), min(rank, lane.columns)
        #: the groups of each set; parameters of another kind are a set each
        self.sets = [*self.outer.sets, *(np.array([g]) for g in self.outer.others)]
        self.A = np.zeros((lane.n, lane.groups, self.rank))
        self.u = np.zeros((len(self.sets), lane.columns, self.rank))
        #: how many outer products each set has by now
        self.count = np.zeros(len(self.sets), dtype=np.int64)
        self.S = np.zeros((lane.n, lane.n))

    def reset(self) -> None:
        """P̂ = 0, without an error."""
        self.A[...], self.u[...], self.count[...], self.S[...] = 0.0, 0.0, 0, 0.0

    def take(self, step: Step) -> None:
        """The recursion at the top of this file."""
        phi, n = step.phi, self.lane.n
        A, lost = (phi @ self.A.reshape(n, -1)).reshape(self.A.shape), np.zeros((n, n))
        terms = [*self.outer.factors(step), *(_factored(step.C[g]) for g in self.outer.others)]
        for k, (members, (D, H)) in enumerate(zip(self.sets, terms, strict=True)):
            had = self.count[k]
            basis = _extended(self.u[k, :, :had], H)
            here = slice(None) if members.size == self.lane.groups else members
            B = D.transpose(1, 0, 2) @ (H.T @ basis)  # (n, members, products)
            B[:, :, :had] += A[:, here, :had]
            if basis.shape[1] > self.rank:
                R = np.linalg.qr(B.reshape(-1, basis.shape[1]), mode="r")
                Y = np.linalg.svd(R)[2].T
                B, basis = B @ Y, basis @ Y
                dropped = B[:, :, self.rank :].reshape(n, -1)
                lost += dropped @ dropped.T
                B, basis = B[:, :, : self.rank], basis[:, : self.rank]
            has = self.count[k] = basis.shape[1]
            self.A[:, here, :has], self.u[k, :, :has] = B, basis
        self.S = _widened(phi @ self.S @ phi.T, lost)

    def pull(self, row: Array) -> Array:
        """∂ℓ/∂r P̂."""
        g, along = self.lane.zeros(), (row @ self.A.reshape(self.lane.n, -1)).reshape(self.A.shape[1:])
        for k, members in enumerate(self.sets):
            g[members] = along[members] @ self.u[k].T
        return g

    @property
    def bound(self) -> float:
        """E/(‖P̂‖ − e), at least the relative error of P̂; infinite where nothing is known."""
        e, size = float(np.sqrt(max(np.trace(self.S), 0.0))), float(np.linalg.norm(self.A))
        if e == 0.0:
            return 0.0
        return e / (size - e) if e < size else float("inf")


def _extended(u: Array, H: Array) -> Array:
    """An orthonormal basis of the columns of u, which are orthonormal, and of H, by Gram and Schmidt, twice."""
    basis = u
    for h in H.T:
        v, size = h, np.linalg.norm(h)
        for _ in range(2):
            v = v - basis @ (basis.T @ v)
        length = np.linalg.norm(v)
        if length > IN_SPAN * size:
            v = v / length
            v = v - basis @ (basis.T @ v)
            basis = np.concatenate([basis, (v / np.linalg.norm(v))[:, None]], axis=1)
    return basis


def _factored(C: Array) -> tuple[Array, Array]:
    """C (n, columns) of one group as D (1, n, k) and H (columns, k) with orthonormal columns."""
    left, sigma, right = np.linalg.svd(C, full_matrices=False)
    return (left * sigma)[None], right.T


def _widened(before: Array, lost: Array) -> Array:
    """(1 + ε) a + (1 + 1/ε) b with the ε of the least trace."""
    a, b = np.trace(before), np.trace(lost)
    if a <= 0.0 or b <= 0.0:
        return before + lost
    epsilon = np.sqrt(b / a)
    widened: Array = (1.0 + epsilon) * before + (1.0 + 1.0 / epsilon) * lost
    return widened
