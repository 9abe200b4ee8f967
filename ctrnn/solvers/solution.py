"""What a solver gives back, and the check of the times at which a solution is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.numbers import checked_array
from ctrnn.trajectory import Stats


@dataclass(frozen=True)
class Solution:
    """t (T,), r (T, n), what it cost, and the last step size (a hint for what follows)."""

    t: Array
    r: Array
    stats: Stats
    step: float | None = None


def checked_times(name: str, times: Any, span: tuple[float, float]) -> Array:
    """Times (T,) inside a span, in its direction: increasing, or decreasing backwards in time."""
    times = np.atleast_1d(checked_array(name, times))
    if times.ndim != 1 or times.size == 0:
        raise UsageError(name, given=f"shape {times.shape}", allowed="a list of times")
    way = np.sign(span[1] - span[0])
    late = way * times[1:] <= way * times[:-1]
    if late.any():
        k = int(np.argmax(late))
        allowed = "increasing times" if way > 0 else "decreasing times, as t_span goes backwards"
        raise UsageError(name, given=f"{times[k]:g} before {times[k + 1]:g}", allowed=allowed)
    slack = 1e-12 * max(abs(span[0]), abs(span[1]))
    if way * times[0] < way * span[0] - slack or way * times[-1] > way * span[1] + slack:
        raise UsageError(
            name,
            given=f"times from {times[0]:g} to {times[-1]:g}",
            allowed=f"times inside t_span, {span[0]:g} to {span[1]:g}",
        )
    return times.clip(min(span), max(span))
