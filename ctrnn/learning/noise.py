"""Observation noise: standardised residuals z(o, y, sigma), so that a negative log-likelihood is a sum of squares.

    normal      y ~ N(o, sigma²)             z = (o − y)/sigma                                 ∂z/∂o = 1/sigma
    lognormal   log y ~ N(log o, sigma²)     z = (log o − log y)/sigma                         ∂z/∂o = 1/(o sigma)
    poisson     y ~ Poisson(o)               z = sign(o − y) √(2 (o − y + y log(y/o)))         ∂z/∂o = (1 − y/o)/z

−log p = ½ z² + terms without o; the z of Poisson counts are deviance residuals (McCullagh & Nelder, Generalized Linear
Models, 1989, 2.4).
The Fisher information of o, which is (∂z/∂o)² for the first two, is 1/o for counts. A new kind of noise is one class
and one line in NOISES.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UsageError, one_of

Array = NDArray[np.float64]


class Noise(ABC):
    """One kind of noise.

    Z and its derivatives for outputs o and data y of any one shape; not finite where p(y | o) is 0.
    """

    name: ClassVar[str]
    #: whether the noise has a standard deviation of its own
    has_sigma: ClassVar[bool] = True
    #: the least value that data may have, and whether it may be reached
    support: ClassVar[tuple[float, bool]] = (-np.inf, False)

    @abstractmethod
    def residual(self, o: Array, y: Array) -> tuple[Array, Array]:
        """z and ∂z/∂o for sigma = 1."""

    def information(self, o: Array, y: Array) -> Array:
        """The expected information of one observation about o, for sigma = 1."""
        return self.residual(o, y)[1] ** 2

    def check(self, y: Array) -> None:
        """Raise UsageError for data that cannot be."""
        least, reached = self.support
        wrong = y < least if reached else y <= least
        if wrong.any():
            allowed = f"{'numbers from 0 on' if reached else 'positive numbers'}, for noise = {self.name!r}"
            raise UsageError("target", given=float(y[wrong][0]), allowed=allowed)


class Normal(Noise):
    """y ~ N(o, sigma²)."""

    name = "normal"

    def residual(self, o: Array, y: Array) -> tuple[Array, Array]:
        """z = o − y."""
        return o - y, np.ones_like(o)


class LogNormal(Noise):
    """log y ~ N(log o, sigma²)."""

    name = "lognormal"
    support = (0.0, False)

    def residual(self, o: Array, y: Array) -> tuple[Array, Array]:
        """z = log o − log y."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(o) - np.log(y), 1.0 / o


class Poisson(Noise):
    """y ~ Poisson(o)."""

    name = "poisson"
    has_sigma = False
    support = (0.0, True)

    def residual(self, o: Array, y: Array) -> tuple[Array, Array]:
        """Deviance residuals."""
        with np.errstate(divide="ignore", invalid="ignore"):
            u = np.where(y > 0.0, (y - o) / o, -1.0)  # y/o − 1
            # o − y + y log(y/o) = o ((1 + u) log(1 + u) − u): its series near u = 0, where the terms cancel
            series = u * u * (0.5 - u * (1 / 6 - u * (1 / 12 - u * (1 / 20 - u * (1 / 30 - u / 42)))))
            whole = np.where(y > 0.0, (1.0 + u) * np.log1p(u) - u, 1.0)
            half = np.where(np.abs(u) < 1e-2, series, whole)
            z = np.sign(o - y) * np.sqrt(2.0 * o * half)
            slope = np.where(np.abs(u) < 1e-7, 1.0 / np.sqrt(o), -u / np.where(z == 0.0, 1.0, z))
        return np.where(o > 0.0, z, np.nan), slope

    def information(self, o: Array, y: Array) -> Array:
        """1/o."""
        return 1.0 / o


NOISES: dict[str, Noise] = {kind.name: kind() for kind in (Normal, LogNormal, Poisson)}


def noise_named(noise: Any) -> Noise:
    """The noise itself, or the one of that name; raises UnknownNameError."""
    if isinstance(noise, Noise):
        return noise
    one_of("noise", noise, NOISES)
    return NOISES[noise]
