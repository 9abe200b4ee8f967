"""exp, log, tanh and sigmoid without a branch or a call, so that a loop over units becomes vector instructions.

    e^y = 2^k e^f,   k = round(y / ln 2),   f = y − k ln 2 in two parts (Cody & Waite 1980),   e^f = 1 + f + f² q(f)
    tanh x = (e^{2x} − 1) / (e^{2x} + 1),  with e^y − 1 = 2^k (f + f² q(f)) + (2^k − 1), which keeps its digits near 0
    log x = k ln 2 + log m,   x = 2^k m with √½ ≤ m < √2,   log m = 2 artanh s = 2s + s³ p(s²),   s = (m − 1)/(m + 1)

q is the Taylor polynomial of degree 12: on |f| ≤ ln 2 / 2 its remainder is below 2e-17 of e^f; that of p, of degree 9
in s² ≤ 0.0295, below 1e-18 of log m. Measured against mpmath, relative: tanh 1.4, exp 1.1, sigmoid 1.6, log 1.4 units
of 2.2e-16. Some 30 flops a value; eight values at a time where the processor has vectors of 512 bits, there about ten
times as fast as the C library, whose tanh decides by branches.
"""

import math
import struct

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ctrnn.kernels.compiled import njit
from ctrnn.kernels.functions import power_log, sign, softplus

__all__ = ["exp", "log", "power_log", "sigmoid", "sign", "softplus", "tanh"]

LOG2_E = 1.0 / math.log(2.0)
# ln 2 in two parts; the first has 11 zero bits at its end, so that k times it is exact
LN2_HIGH, LN2_LOW = float.fromhex("0x1.62e42fefa38p-1"), float.fromhex("0x1.ef35793c7673p-45")
#: added to a number below 2^51 it leaves the nearest whole number in the last bits
ROUND = 1.5 * 2.0**52
ONE_BITS = 1023 << 52
#: the least normal number; the bits of √½
TINY, ROOT_HALF = 2.0**-1022, struct.unpack("<q", struct.pack("<d", math.sqrt(0.5)))[0]


@intrinsic
def _bits(typingctx, x):
    """The 64 bits of a float64."""
    return types.int64(types.float64), lambda context, builder, signature, arguments: builder.bitcast(
        arguments[0], ir.IntType(64)
    )


@intrinsic
def _float(typingctx, bits):
    """The float64 of 64 bits."""
    return types.float64(types.int64), lambda context, builder, signature, arguments: builder.bitcast(
        arguments[0], ir.DoubleType()
    )


@njit(inline="always")
def _reduced(y):
    """k, its bits, and e^f − 1, for |y| < 2^50."""
    shifted = y * LOG2_E + ROUND
    k = shifted - ROUND
    f = (y - k * LN2_HIGH) - k * LN2_LOW
    q = 1.0 / 87178291200.0
    q = q * f + 1.0 / 6227020800.0
    q = q * f + 1.0 / 479001600.0
    q = q * f + 1.0 / 39916800.0
    q = q * f + 1.0 / 3628800.0
    q = q * f + 1.0 / 362880.0
    q = q * f + 1.0 / 40320.0
    q = q * f + 1.0 / 5040.0
    q = q * f + 1.0 / 720.0
    q = q * f + 1.0 / 120.0
    q = q * f + 1.0 / 24.0
    q = q * f + 1.0 / 6.0
    q = q * f + 0.5
    return _bits(shifted) - _bits(ROUND), f + f * f * q


@njit(inline="always")
def exp(y):
    """e^y; 0 below −746, infinite above 710, and right where the result is subnormal."""
    k, e = _reduced(min(max(y, -746.0), 710.0))
    half = k >> 1  # two factors, as 2^k alone may be no normal number
    scaled = (1.0 + e) * _float((half << 52) + ONE_BITS) * _float(((k - half) << 52) + ONE_BITS)
    return scaled if y == y else y


@njit(inline="always")
def tanh(x):
    """(e^{2|x|} − 1)/(e^{2|x|} + 1) with the sign of x; 1 to rounding beyond |x| = 20."""
    y = 2.0 * min(abs(x), 20.0)
    k, e = _reduced(y)
    scale = _float((k << 52) + ONE_BITS)
    grown = scale * e + (scale - 1.0)
    value = math.copysign(grown / (grown + 2.0), x)
    return value if x == x else x


@njit(inline="always")
def sigmoid(z):
    """1/(1 + e^−z) = e^{min(z, 0)} / (1 + e^−|z|), with no overflow and all its digits for large negative z."""
    e = exp(-abs(z))
    return (1.0 if z >= 0.0 else e) / (1.0 + e)


@njit(inline="always")
def log(x):
    """log x of a number, subnormal ones too; −∞ of 0, NaN of negative ones."""
    small = x < TINY
    y = x * 2.0**54 if small else x
    k = (_bits(y) - ROOT_HALF) >> 52
    m = _float(_bits(y) - (k << 52))
    count = _float(k + _bits(ROUND)) - ROUND  # k as a float64, by what has vector instructions everywhere
    count -= 54.0 if small else 0.0
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = 2.0 / 21.0
    p = p * z + 2.0 / 19.0
    p = p * z + 2.0 / 17.0
    p = p * z + 2.0 / 15.0
    p = p * z + 2.0 / 13.0
    p = p * z + 2.0 / 11.0
    p = p * z + 2.0 / 9.0
    p = p * z + 2.0 / 7.0
    p = p * z + 2.0 / 5.0
    p = p * z + 2.0 / 3.0
    value = count * LN2_HIGH + (2.0 * s + (s * z * p + count * LN2_LOW))
    value = value if x < math.inf else x
    return value if x > 0.0 else (-math.inf if x == 0.0 else math.nan)
