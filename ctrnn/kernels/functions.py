"""Elementary functions of generated code that the standard library does not have, safe for every argument."""

import math

from ctrnn.kernels.compiled import njit


@njit(inline="always")
def sigmoid(z):
    """1 / (1 + e^−z), with no overflow for large negative z."""
    if z >= 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z)
    return e / (1.0 + e)


@njit(inline="always")
def softplus(z):
    """log(1 + e^z) = max(z, 0) + log(1 + e^−|z|)."""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


@njit(inline="always")
def power_log(b, p, k):
    """b^p (log b)^k, with its limit 0 at b = 0 < p."""
    if b == 0.0 and p > 0.0:
        return 0.0
    return b**p * math.log(b) ** k


@njit(inline="always")
def sign(z):
    """−1, 0 or 1."""
    if z > 0.0:
        return 1.0
    if z < 0.0:
        return -1.0
    return 0.0
