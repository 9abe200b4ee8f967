"""Matrices with a spectrum that is known, and aA⁻¹ in 50 digits, for the tests of the inverse."""

import math

import mpmath
import numpy as np


def exact(a, A):
    """a A⁻¹ by mpmath in 50 digits."""
    with mpmath.workdps(50):
        V = mpmath.lu_solve(mpmath.matrix(A).T, mpmath.matrix(a))
        return np.array([float(v) for v in V])


def hurwitz(n, seed, margin=0.5):
    """A random dense A with spectral abscissa −margin; not normal."""
    A = np.random.default_rng(seed).normal(size=(n, n)) / math.sqrt(n)
    return A - (np.linalg.eigvals(A).real.max() + margin) * np.eye(n)


def normal(eigenvalues, seed):
    """A real normal A with these eigenvalues: real ones, or pairs given as α + iβ with β > 0."""
    blocks = [
        np.array([[λ.real, λ.imag], [-λ.imag, λ.real]]) if λ.imag else np.array([[λ.real]])
        for λ in np.asarray(eigenvalues, dtype=complex)
    ]
    n = sum(len(block) for block in blocks)
    B, at = np.zeros((n, n)), 0
    for block in blocks:
        B[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    Q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))
    return Q @ B @ Q.T


def symmetric(n, condition, seed):
    """A symmetric negative definite A with eigenvalues −1 … −condition, evenly in the logarithm."""
    A = normal(-np.logspace(0, math.log10(condition), n), seed)
    return (A + A.T) / 2


def singular_values(n, condition, seed):
    """A random A, neither symmetric nor normal nor Hurwitz, with singular values 1 … condition."""
    rng = np.random.default_rng(seed)
    U, _ = np.linalg.qr(rng.normal(size=(n, n)))
    Q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return U * np.logspace(0, math.log10(condition), n) @ Q.T


def with_conjugates(λ):
    λ = np.asarray(λ, dtype=complex)
    return np.concatenate([λ, λ[λ.imag != 0].conj()])


def relative_error(value, reference):
    return np.linalg.norm(value - reference) / np.linalg.norm(reference)


def observed_contraction(result, high=1e-2, low=1e-6):
    """The factor of the residual per iteration: the slope of a line through its logarithms between two levels."""
    used = (result.residual < high) & (result.residual > low)
    slope = np.polyfit(result.residual_at[used], np.log(result.residual[used]), 1)[0]
    return math.exp(slope)
