"""What is known of a quantity before the data: priors, which enter a fit as residuals, z²/2 = −log p + constant.

    Normal(mean, sd)         z = (w − mean)/sd            dz/dw = 1/sd
    LogNormal(mean, sd)      z = (log w − mean)/sd        dz/dw = 1/(w sd)         log w ~ N(mean, sd²)

The density of a log-normal is taken in log w, so its mode is exp(mean). A ridge penalty ½ λ w² is Normal(0, λ^(−1/2)).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UsageError, one_of
from ctrnn.names import as_call
from ctrnn.numbers import real_array

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Prior(ABC):
    """A mean and a standard deviation, numbers or arrays of the quantity's shape."""

    mean: Any
    sd: Any
    __repr__ = as_call

    def __post_init__(self) -> None:
        for name in ("mean", "sd"):
            allowed = "finite numbers" if name == "mean" else "positive numbers"
            value = real_array(f"prior {name}", getattr(self, name), allowed)
            if not np.isfinite(value).all() or (name == "sd" and (value <= 0.0).any()):
                raise UsageError(f"prior {name}", given=getattr(self, name), allowed=allowed)
            object.__setattr__(self, name, value)

    @abstractmethod
    def residual(self, w: Array) -> tuple[Array, Array]:
        """z and dz/dw, not finite where the density is 0."""

    @abstractmethod
    def curvature(self, w: Array) -> Array:
        """d²(z²/2)/dw²."""

    def spread(self, shape: tuple[int, ...], name: str) -> Prior:
        """The same with a mean and a sd for each entry, flat."""
        try:
            return type(self)(*(np.broadcast_to(v, shape).ravel() for v in (self.mean, self.sd)))
        except ValueError:
            given = f"shapes {np.shape(self.mean)} and {np.shape(self.sd)}"
            raise UsageError(f"prior of {name}", given=given, allowed=f"numbers, or arrays of shape {shape}") from None


class Normal(Prior):
    """w ~ N(mean, sd²)."""

    def residual(self, w: Array) -> tuple[Array, Array]:
        """z and dz/dw."""
        return (w - self.mean) / self.sd, np.ones_like(w) / self.sd

    def curvature(self, w: Array) -> Array:
        """1/sd²."""
        return np.ones_like(w) / self.sd**2


class LogNormal(Prior):
    """log w ~ N(mean, sd²)."""

    def residual(self, w: Array) -> tuple[Array, Array]:
        """z and dz/dw."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return (np.log(w) - self.mean) / self.sd, 1.0 / (w * self.sd)

    def curvature(self, w: Array) -> Array:
        """(dz/dw)² (1 − z sd)."""
        z, z_w = self.residual(w)
        return z_w**2 * (1.0 - z * self.sd)


KINDS: dict[str, type[Prior]] = {"normal": Normal, "lognormal": LogNormal}


def prior_of(name: str, value: Any) -> Prior:
    """A prior as it is, or from (mean, sd), or ("normal" or "lognormal", mean, sd)."""
    if isinstance(value, Prior):
        return value
    allowed = '(mean, sd), ("normal", mean, sd), ("lognormal", mean, sd)'
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise UsageError(f"prior of {name}", given=value, allowed=allowed)
    kind, *numbers = value if isinstance(value[0], str) else ("normal", *value)
    one_of(f"prior of {name}", kind, KINDS)
    if len(numbers) != 2:
        raise UsageError(f"prior of {name}", given=value, allowed=allowed)
    return KINDS[kind](*numbers)


def priors_of(prior: Mapping[str, Any] | None) -> dict[str, Prior]:
    """Name -> prior."""
    if prior is None:
        return {}
    if not isinstance(prior, Mapping):
        raise UsageError("prior", given=prior, allowed='a table name -> prior, as {"a": (1.0, 0.5)}')
    return {name: prior_of(name, value) for name, value in prior.items()}
