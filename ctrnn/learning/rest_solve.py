"""Many rest points at once: products, sums and GEMMs on batches R (B, n), whatever the field.

    relaxation    R ← R + h F(R)
    Anderson      R ← Σ_k α_k (R_k + h F(R_k)),  Σ α = 1, α minimises ‖Σ_k α_k h F(R_k)‖ over the last 6 points
    rows          V ← V + (V J − a) h             the division-free flow, a batch of rows against a batch of Jacobians
    columns       y ← y + h (J y − c)             the same for J y = c, which the second derivative asks for

h is one number a state, (n,): the time constants where the field has them. Each sample has its own J; none is formed
but for ``inverse="lu"``. The worst factor by which a residual shrinks in a step is reported: it shows a rest point that
is about to lose its stability.

Sources: Almeida (1987), Pineda (1987); D. G. Anderson, J. ACM 12 (1965); Walker and Ni, SIAM J. Numer. Anal. 49 (2011).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ctrnn.errors import ConvergenceError, NotAtRestError

Tensor = torch.Tensor
Function = Callable[..., Any]

#: the points that Anderson's iteration combines
MEMORY = 6
#: a flow that shrinks a residual by less than SLOW in so many steps is tried with half the step; where that was no
#: quicker, again after so many windows: another mode may be the slowest then
WINDOW, SLOW, AGAIN = 32, 0.5, 8


@dataclass(frozen=True)
class Solved:
    """A solution with how it was reached.

    ``value`` (B, n); ``iterations``; ``residual``, the worst sample's ‖F‖/‖R‖ or ‖VJ − a‖/‖a‖; ``factor`` by which it
    shrank in a step, late.
    """

    value: Any = field(repr=False)
    iterations: int
    residual: float
    factor: float


def relax(F: Function, R: Tensor, h: Tensor, tol: float, most: int, anderson: bool = True) -> Solved:
    """R with F(R) = 0, from R (B, n): ‖h F‖₂ ≤ tol max(1, ‖R‖₂) for every sample.

    A sample whose residual has grown tenfold over its best goes on from there with half the step. Raises
    NotAtRestError.
    """
    B, n = R.shape
    if B == 0:
        return Solved(R, 0, 0.0, 0.0)
    best, best_R = torch.full((B,), torch.inf, dtype=R.dtype), R
    scale = torch.ones(B, 1, dtype=R.dtype)
    points: list[Tensor] = []
    changes: list[Tensor] = []
    history: list[float] = []
    worst = torch.inf
    for k in range(most + 1):
        change = h * F(R)
        residual = change.norm(dim=1) / R.norm(dim=1).clamp(min=1.0)
        worst = float(residual.max())
        history.append(worst)
        if worst <= tol:
            return Solved(R, k, worst, _factor(history))
        lost = ~(residual <= 10.0 * best)
        if lost.any():
            scale = torch.where(lost[:, None], scale / 2, scale)
            R = torch.where(lost[:, None], best_R, R)
            change = h * F(R)
            points, changes = [], []
        else:
            better = residual < best
            best = torch.where(better, residual, best)
            best_R = torch.where(better[:, None], R, best_R)
        change = scale * change
        points, changes = [*points[1 - MEMORY :], R], [*changes[1 - MEMORY :], change]
        # a step that shrinks the residual by a fifth is better left alone: for batches the combination costs more than
        # the step, and saves few
        fast = len(history) > 1 and history[-1] < 0.8 * history[-2]
        R = _mixed(points, changes) if anderson and not fast else R + change
    resting = int((residual <= tol).sum())
    raise NotAtRestError(
        float((change.abs() / h / scale).max()),
        f"after {most} iterations {B - resting} of {B} states",
        "more iterations, smaller weights or a contraction penalty: a network that oscillates never rests",
    )


def _mixed(points: list[Tensor], changes: list[Tensor]) -> Tensor:
    """Anderson's next point, each sample with its own weights."""
    if len(points) == 1:
        return points[0] + changes[0]
    G = torch.stack(changes, 1)  # (B, k, n)
    D = G[:, 1:] - G[:, :-1]
    X = torch.stack(points, 1)
    E = X[:, 1:] - X[:, :-1]
    # γ minimises ‖g − Σ γ_k D_k‖; the k × k normal equations, with just enough on the diagonal to be solved
    N = D @ D.mT
    ridge = 1e-14 * N.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-300)
    γ = torch.linalg.solve(
        N + ridge[:, None, None] * torch.eye(N.shape[1], dtype=N.dtype), (D @ G[:, -1, :, None])[..., 0]
    )
    return X[:, -1] + G[:, -1] - (γ[:, None, :] @ (E + D))[:, 0]


def flow(product: Function, a: Tensor, h: Tensor, tol: float, most: int) -> Solved:
    """The rows V (B, n) with V J = a, from V ↦ V J, by products and sums: ‖VJ − a‖₂ ≤ tol ‖a‖₂ for every row.

    h halves where a residual grows, and where it shrinks slowly and half the step is quicker: of λ = −α ± iω the factor
    |1 + hλ| is least at h = α/(α² + ω²). Raises ConvergenceError.
    """
    size = a.norm(dim=1)
    size = torch.where(size > 0, size, torch.ones_like(size))
    V, change = torch.zeros_like(a), -a
    best, scale = torch.ones_like(size), torch.ones(len(a), 1, dtype=a.dtype)
    residual, begun, rate = torch.ones_like(size), torch.ones_like(size), torch.full_like(size, torch.inf)
    is_halved = torch.zeros(len(a), dtype=torch.bool)  # for the present window
    is_open = ~is_halved  # whether half the step may be quicker
    history = [1.0 if bool(a.any()) else 0.0]
    for k in range(most + 1):
        if history[-1] <= tol:
            return Solved(V, k, history[-1], _factor(history))
        if k and k % WINDOW == 0:
            now = residual / begun
            is_worse = is_halved & (now > rate)
            is_halved = is_open & ~is_worse & (now > SLOW)
            scale = torch.where(is_worse[:, None], 2 * scale, torch.where(is_halved[:, None], scale / 2, scale))
            is_open = is_halved | (k % (AGAIN * WINDOW) == 0)
            rate, begun = now, residual
        V = V + change * (scale * h)
        change = product(V) - a
        residual = change.norm(dim=1) / size
        lost = ~(residual <= 1e3 * best)
        if lost.any():  # J is far from normal, or h too long for it: from the start with half the step
            scale = torch.where(lost[:, None], scale / 2, scale)
            V = torch.where(lost[:, None], torch.zeros_like(V), V)
            change = torch.where(lost[:, None], -a, change)
            residual = torch.where(lost, torch.ones_like(residual), residual)
            best, begun = (torch.where(lost, torch.ones_like(one), one) for one in (best, begun))
            rate = torch.where(lost, torch.full_like(rate, torch.inf), rate)
        best = torch.minimum(best, residual)
        history.append(float(residual.max()))
    raise ConvergenceError(
        f"the flow's residual is {history[-1]:.3g} after {most} iterations, asked {tol:.3g}: a rest point is not "
        "stable, or hardly, or states turn many times about it before they rest. "
        'Try: more iterations, inverse="lu", or a contraction penalty'
    )


def _factor(history: list[float]) -> float:
    """The mean factor a step over the second half of the steps."""
    k = len(history) // 2
    if len(history) < 3 or history[-1] <= 0.0:
        return 0.0
    return float((history[-1] / history[k]) ** (1.0 / max(1, len(history) - 1 - k)))


def jacobians(product: Function, R: Tensor) -> Tensor:
    """J of every sample (B, n, n), from products with the identity's rows."""
    B, n = R.shape
    rows = torch.eye(n, dtype=R.dtype).unsqueeze(1).expand(n, B, n)
    return torch.stack([product(row) for row in rows], 1)


def lu(product: Function, a: Tensor, columns: bool) -> Solved:
    """V J = a, or J y = c, by J and its LU factors: the reference."""
    J = jacobians(product, a)
    V = torch.linalg.solve(J if columns else J.mT, a)
    residual = ((J @ V[..., None] if columns else J.mT @ V[..., None])[..., 0] - a).norm(dim=1)
    size = a.norm(dim=1).clamp(min=torch.finfo(a.dtype).tiny)
    return Solved(V, 1, float((residual / size).max()), 0.0)
