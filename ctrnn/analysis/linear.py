"""Linear systems that may have no answer: J may be singular there, or not finite.

LAPACK says so by an exception, by NaN, or not at all; here it is None, and who asks ends the walk or backs off.
"""

from __future__ import annotations

import numpy as np

from ctrnn.fields.base import Array


def solve(A: Array, b: Array) -> Array | None:
    """A⁻¹ b, or None where A is singular or the answer is not finite."""
    if not np.isfinite(A).all():
        return None
    try:
        x = np.linalg.solve(A, b)
    except np.linalg.LinAlgError:
        return None
    return x if np.isfinite(x).all() else None


def shortest(A: Array, b: Array) -> tuple[Array, int] | None:
    """The shortest x of those with least ‖A x − b‖, and the rank of A to rounding; None where it is not finite."""
    if not (np.isfinite(A).all() and np.isfinite(b).all()):
        return None
    try:
        x, _, rank, _ = np.linalg.lstsq(A, b, rcond=A.shape[1] * np.finfo(float).eps)
    except np.linalg.LinAlgError:  # its singular values overflow
        return None
    return (x, int(rank)) if np.isfinite(x).all() else None


def null_vector(A: Array) -> Array | None:
    """The x of length 1 with least ‖A x‖; None where A is not finite."""
    if not np.isfinite(A).all():
        return None
    try:
        return np.asarray(np.linalg.svd(A)[2][-1])
    except np.linalg.LinAlgError:
        return None
