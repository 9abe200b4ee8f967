r"""Floquet multipliers: the eigenvalues of a product G_N … G_2 G_1 that is never formed.

    G_i Q_{i−1} = Q_i R_i       (QR, R_kk > 0), sweep after sweep around the cycle
    G_N … G_1 = Q_0 [Q_0ᵀ Q_N  R_N … R_1] Q_0ᵀ

The sweeps are orthogonal iteration: Q_0ᵀ Q_N becomes block diagonal, one block for moduli that are alike, and each
block's part of the product, its rows scaled by what is kept as logarithms, gives its multipliers. So e^−300 is as
accurate, relatively, as 1.

Source: Bojanczyk, Golub and Van Dooren, "The periodic Schur decomposition", SPIE 1770 (1992); Lust, Int. J.
Bifurcation and Chaos 11 (2001).
"""

from __future__ import annotations

import numpy as np

from ctrnn.fields.base import Array

#: sweeps at most
SWEEPS = 200
#: below the diagonal blocks counts as zero
SPLIT = 1e-12
#: the logarithm of the condition of a product that may be formed
WITHIN = 10.0
#: moduli nearer than this ratio share a block where they have not come apart
ALIKE = 0.9


def multipliers(G: Array) -> tuple[Array, Array]:
    """The multipliers of G (N, n, n), and their logarithms, both (n,) complex, the largest modulus first.

    >>> μ, log = multipliers(np.array([np.diag([1.0, 1e-200]), np.diag([2.0, 1e-200])]))
    >>> μ.real, [round(float(value), 1) for value in log.real]
    (array([2., 0.]), [0.7, -921.0])
    """
    n = G.shape[1]
    G = _grouped(G)
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]
    W, log_D, R = np.eye(n), np.zeros(n), np.empty_like(G)
    for sweep in range(SWEEPS):
        start, Q = Q, _swept(G, Q, R)
        log_D = np.log(_diagonals(R)).sum(axis=0)
        W = start.T @ Q
        if sweep and _is_settled(W, log_D):
            break
    return _eigenvalues(W, *_product(R))


def _swept(G: Array, Q: Array, R: Array) -> Array:
    """One sweep: G_i Q_{i−1} = Q_i R_i with R_kk ≥ 0, into R (N, n, n); the last Q. By LAPACK's own: steps are many."""
    from scipy.linalg.lapack import dgeqrf, dorgqr

    for i, step in enumerate(G):
        R[i], reflections = dgeqrf(step @ Q)[:2]
        Q = dorgqr(R[i], reflections)[0] * np.where(R[i].diagonal() < 0.0, -1.0, 1.0)
    R *= np.where(np.diagonal(R, axis1=1, axis2=2) < 0.0, -1.0, 1.0)[:, :, None]
    R *= np.triu(np.ones(R.shape[1:]))
    return Q


def _diagonals(R: Array) -> Array:
    return np.maximum(np.diagonal(R, axis1=1, axis2=2), np.finfo(float).tiny)


def _product(R: Array) -> tuple[Array, Array]:
    """R_N … R_1 = D U as (log D, U): R D U = (D′ U′) with D′ = diag(R) D; R is zero below its diagonal."""
    n = R.shape[1]
    log_D, U = np.zeros(n), np.eye(n)
    for step, diagonal in zip(R, _diagonals(R), strict=True):
        U = (step / diagonal[:, None] * np.exp(np.minimum(log_D[None, :] - log_D[:, None], 700.0))) @ U
        log_D = log_D + np.log(diagonal)
    return log_D, U


def _grouped(G: Array) -> Array:
    """Neighbours multiplied for as long as their product loses no more than some four digits."""
    with np.errstate(all="ignore"):
        spread = np.nan_to_num(np.log(np.linalg.cond(G)), nan=np.inf, posinf=np.inf)
    groups, budget = [G[0]], spread[0]
    for step, its in zip(G[1:], spread[1:], strict=True):
        if budget + its <= WITHIN:
            groups[-1], budget = step @ groups[-1], budget + its
        else:
            groups.append(step)
            budget = its
    return np.array(groups)


def _is_settled(W: Array, log_D: Array) -> bool:
    """Whether all moduli that differ are apart."""
    for k in range(1, log_D.size):
        if np.abs(W[k:, :k]).max() > SPLIT and log_D[:k].min() - log_D[k:].max() > -np.log(ALIKE):
            return False
    return True


def _eigenvalues(W: Array, log_D: Array, U: Array) -> tuple[Array, Array]:
    n = log_D.size
    splits = [0, *(k for k in range(1, n) if np.abs(W[k:, :k]).max() <= 1e3 * SPLIT), n]
    logs: list[complex] = []
    for a, b in zip(splits[:-1], splits[1:], strict=True):
        scale = float(log_D[a:b].max())
        block = W[a:b, a:b] @ (np.exp(log_D[a:b] - scale)[:, None] * U[a:b, a:b])
        values = np.linalg.eigvals(block).astype(np.complex128)
        with np.errstate(divide="ignore"):
            logs.extend(np.log(values) + scale)
    log = np.array(logs)
    log = log[np.lexsort((-log.imag, -log.real))]
    found = np.exp(log)
    # the logarithm of a negative number has the imaginary part π
    found[np.abs(found.imag) < 1e-14 * np.abs(found)] = found[np.abs(found.imag) < 1e-14 * np.abs(found)].real
    return found, log
