"""How a problem is solved: the solver by name, its tolerances or its fixed step, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ctrnn.errors import UsageError, one_of
from ctrnn.fields.base import Array
from ctrnn.numbers import checked_array, number, positive, whole

#: what the steps under a gradient answer for
ERROR_CONTROLS = ("all", "state")


@dataclass(frozen=True)
class Settings:
    """The solver's name and its step control.

    Parameters
    ----------
    solver : str
        A tableau's name, or "scipy:NAME", "torchdiffeq:NAME".
    rtol, atol : float or (n,) array_like
        Tolerances of each step, relative and absolute.
    dt : float, optional
        A fixed step, in the unit of t; then nothing controls it.
    max_steps : int
        Steps tried before giving up.
    min_step : float
        The smallest step, in the unit of t; 0: the smallest that moves t.
    error_control : {"all", "state"}
        What adaptive steps of an explicit method of our own answer for where a gradient goes through them: the state
        and its sensitivity (ctrnn.gradients.recording.control), or the state alone. Solutions without a gradient know
        the state only.
    max_step : float
        The longest adaptive step, in the unit of t.
    first_step : float, optional
        The length of the first adaptive step tried; None: from the size of F and of its change. With events, that of
        the first step after each of them too.
    """

    solver: str = "tsit5"
    rtol: Any = 1e-8
    atol: Any = 1e-10
    dt: float | None = None
    max_steps: int = 1_000_000
    min_step: float = 0.0
    error_control: str = "all"
    max_step: float = np.inf
    first_step: float | None = None

    @classmethod
    def of(cls, *arguments: Any) -> Settings:
        """Settings(...); for the same numbers the same object, so that they are checked once."""
        return _settings(*arguments) if _CONSTANT.issuperset(map(type, arguments)) else cls(*arguments)

    def __post_init__(self) -> None:
        if not isinstance(self.solver, str):
            raise UsageError("solver", given=self.solver, allowed="a solver's name")
        for name in ("rtol", "atol"):
            value = checked_array(name, getattr(self, name))
            if (value < 0).any():
                raise UsageError(name, given=getattr(self, name), allowed="positive numbers")
            if not value.size:
                raise UsageError(name, given=getattr(self, name), allowed="a number, or one for each component")
            object.__setattr__(self, name, value if value.ndim else float(value))
        if not (np.any(self.rtol > 0) or np.any(self.atol > 0)):
            raise UsageError("rtol, atol", given=(self.rtol, self.atol), allowed="at least one of them positive")
        if self.dt is not None:
            object.__setattr__(self, "dt", positive("dt", self.dt, "a positive number in the unit of t"))
        object.__setattr__(self, "max_steps", whole("max_steps", self.max_steps))
        least = number("min_step", self.min_step, "a number, at least 0")
        if least < 0:
            raise UsageError("min_step", given=self.min_step, allowed="a number, at least 0")
        object.__setattr__(self, "min_step", least)
        self._check_lengths()
        one_of("error_control", self.error_control, ERROR_CONTROLS)

    def _check_lengths(self) -> None:
        for name in ("max_step", "first_step"):
            value = getattr(self, name)
            if (value is None and name == "first_step") or (isinstance(value, float) and value == np.inf):
                continue
            object.__setattr__(self, name, positive(name, value, "a positive number in the unit of t"))
            if self.dt is not None:
                raise UsageError(name, given=value, allowed="adaptive steps, without dt", hint="a smaller dt")

    @property
    def controls_sensitivity(self) -> bool:
        """Whether adaptive steps of our own are to answer for the gradients that go through them."""
        return self.error_control == "all" and self.dt is None and not self.library

    @cached_property
    def _tolerances(self) -> dict[int, tuple[Array, Array]]:
        return {}

    def tolerances(self, n: int) -> tuple[Array, Array]:
        """rtol and atol of n components, (n,) each, not to be changed; raises UsageError where that is impossible."""
        if n not in self._tolerances:
            self._tolerances[n] = self._spread(n)
        return self._tolerances[n]

    def _spread(self, n: int) -> tuple[Array, Array]:
        both = []
        for name in ("rtol", "atol"):
            value = np.asarray(getattr(self, name), dtype=float)
            if value.shape not in ((), (n,)):
                raise UsageError(
                    name, given=f"shape {value.shape}", allowed=f"a number, or one for each of {n} components"
                )
            both.append(np.full(n, value) if value.ndim == 0 else value.copy())
        rtol, atol = both
        if ((rtol == 0) & (atol == 0)).any():
            k = int(np.argmax((rtol == 0) & (atol == 0)))
            raise UsageError(
                "rtol, atol", given=f"both zero for component {k}", allowed="at least one of them positive"
            )
        return rtol, atol

    @property
    def library(self) -> str:
        """The library that solves, in small letters; empty for our own tableaus."""
        return self.solver.partition(":")[0].lower() if ":" in self.solver else ""


#: what stays as it is; a tensor, which has a hash like them, may change
_CONSTANT = frozenset({str, int, float, type(None), np.float64, np.int64})


@lru_cache(typed=True)
def _settings(*arguments: Any) -> Settings:
    return Settings(*arguments)
