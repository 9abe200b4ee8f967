"""Fixed-point numbers for the iterations of `ctrnn.inverse.iterations`.

    Q i.f:  w = i + f bits, the sign among the i.      x ↦ 2⁻ᶠ round(2ᶠ x), saturated

They are the multiples of 2⁻ᶠ in [−2^(i−1), 2^(i−1)). Sums are exact but for saturation. A product of matrices
accumulates its terms at full width and is rounded once, as in a multiply–accumulate unit with a wide accumulator; a
scaling by a power of two is a shift, rounded. The numbers are held as float64, which are exact for a product as long as
2(i + f) + log₂n ≤ 53; beyond that, the rounding of float64 is still far below 2⁻ᶠ up to f = 40.

Rounding: "nearest" (half to even, error ≤ 2⁻ᶠ/2), "truncate" (towards −∞, as dropping bits does: error up to 2⁻ᶠ, and
of one sign), "stochastic" (up with a probability that makes the mean right; Gupta et al., ICML 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctrnn.errors import UsageError, one_of
from ctrnn.inverse.plan import Numbers
from ctrnn.numbers import real_array, whole

ROUNDINGS = ("nearest", "truncate", "stochastic")


@dataclass(frozen=True)
class QFormat:
    """The fixed-point format Q integer.fraction, two's complement.

    Parameters
    ----------
    integer : int
        Bits left of the point, the sign among them, at most 512.
    fraction : int
        Bits right of the point, at most 40.
    rounding : {"nearest", "truncate", "stochastic"}, default "nearest"
        How results are rounded.
    seed : int, default 0
        Of stochastic rounding.

    Raises
    ------
    UsageError
        For numbers of bits that are not allowed.
    UnknownNameError
        For another rounding.

    Examples
    --------
    >>> q = QFormat(2, 3)
    >>> q, q.round(np.array([0.3, 5.0, -7.0]))
    (Q2.3, array([ 0.25 ,  1.875, -2.   ]))
    """

    integer: int
    fraction: int
    rounding: str = "nearest"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("integer", self.integer, 1), ("fraction", self.fraction, 0)):
            # numpy's short integers run over in i + f
            object.__setattr__(self, name, whole(name, value, least, f"a whole number of bits, at least {least}"))
        if self.integer > 512:
            raise UsageError("integer", given=self.integer, allowed="at most 512 bits: float64 ends at 2**1024")
        if self.fraction > 40:
            raise UsageError(
                "fraction", given=self.fraction, allowed="at most 40 bits: beyond that float64 would round first"
            )
        one_of("rounding", self.rounding, ROUNDINGS)
        whole("seed", self.seed, 0)

    def __repr__(self) -> str:
        return f"Q{self.integer}.{self.fraction}" + ("" if self.rounding == "nearest" else f" {self.rounding}")

    @property
    def bits(self) -> int:
        """The length of a word, the sign among the bits."""
        return self.integer + self.fraction

    @property
    def unit(self) -> float:
        """2⁻ᶠ, the distance of neighbouring numbers."""
        return math.ldexp(1.0, -self.fraction)

    def round(self, x: np.ndarray) -> np.ndarray:
        """The nearest numbers of this format (by ``nearest``, whatever the rounding of the arithmetic)."""
        return Arithmetic(self).held(x)


@dataclass
class Arithmetic(Numbers):
    """A format at work: it rounds, counts what saturated, and may disturb what is read from the matrix A.

    Parameters
    ----------
    format : QFormat or None
        None leaves float64.
    read_noise : float, default 0
        Standard deviation of what is added to each entry of A, anew at every read.
    seed : int, default 0
        Of that noise.
    """

    format: QFormat | None
    read_noise: float = 0.0
    seed: int = 0
    saturated: int = 0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng((self.seed, 0 if self.format is None else self.format.seed))

    def array(self, x: Any) -> FixedArray:
        """x, held in the format: the nearest numbers, whatever the rounding of the arithmetic."""
        return FixedArray(self.held(x), self)

    def matrix(self, A: Any) -> Crossbar:
        """A as an array of devices, each read anew for every product."""
        return Crossbar(self.held(A), self)

    def held(self, x: Any) -> np.ndarray:
        """What a memory holds of x: the nearest numbers; what lies outside is cut off and counted."""
        array = real_array("x", x)
        if np.isnan(array).any():
            raise UsageError("x", given=x, allowed="numbers: a fixed-point format has no NaN")
        return self.quantised(array, "nearest")

    def quantised(self, x: np.ndarray, rounding: str | None = None) -> np.ndarray:
        """The numbers of the format for x, rounded as the format says; what lies outside is cut off and counted."""
        q = self.format
        if q is None:
            return x
        rounding = rounding or q.rounding
        with np.errstate(over="ignore"):  # infinite numbers are cut off too
            scaled = np.ldexp(x, q.fraction)
        if rounding == "nearest":
            scaled = np.rint(scaled)
        elif rounding == "truncate":
            scaled = np.floor(scaled)
        else:
            scaled = np.floor(scaled + self.rng.random(x.shape))
        limit = math.ldexp(1.0, q.bits - 1)
        over = (scaled >= limit) | (scaled < -limit)
        if over.any():
            self.saturated += int(over.sum())
            scaled = np.clip(scaled, -limit, limit - 1)
        return np.ldexp(scaled, -q.fraction)


class FixedArray:
    """An array in an `Arithmetic`, with the operators that the iterations use; it knows no division."""

    __array_ufunc__ = None

    def __init__(self, x: np.ndarray, by: Arithmetic) -> None:
        self.x, self.by = x, by

    def __add__(self, other: FixedArray) -> FixedArray:
        return self._made(self.x + other.x)

    def __sub__(self, other: FixedArray) -> FixedArray:
        return self._made(self.x - other.x)

    def __rmul__(self, scale: float) -> FixedArray:
        return self._made(scale * self.x)

    def __matmul__(self, other: FixedArray) -> FixedArray:
        return self._made(self.x @ other.read())

    @property
    def T(self) -> FixedArray:
        """The transposed array."""
        return FixedArray(self.x.T, self.by)

    def read(self) -> np.ndarray:
        """The entries, as they come out of the memory that holds them."""
        return self.x

    def _made(self, x: np.ndarray) -> FixedArray:
        return FixedArray(self.by.quantised(x), self.by)


class Crossbar(FixedArray):
    """The matrix A as an array of devices: every product reads every entry anew, with noise."""

    def read(self) -> np.ndarray:
        """The entries with fresh noise."""
        level = self.by.read_noise
        if level == 0.0:
            return self.x
        return self.x + level * self.by.rng.normal(size=self.x.shape)

    @property
    def T(self) -> Crossbar:
        """The transposed matrix, in the same devices."""
        return Crossbar(self.x.T, self.by)
