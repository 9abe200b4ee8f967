"""What a problem is made of, read from what people give: its span, its input, its noise."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Field
from ctrnn.inputs import Constant, Function, Input, as_input
from ctrnn.noise import WhiteNoise, as_noise
from ctrnn.numbers import checked_array, real_array


def span_of(t_span: Any) -> tuple[float, float]:
    """(t0, t1), two different times."""
    times = checked_array("t_span", t_span, (2,))
    t0, t1 = float(times[0]), float(times[1])
    if t1 == t0:
        raise UsageError("t_span", given=(t0, t1), allowed="(t0, t1) with t1 > t0, or t1 < t0 backwards")
    return t0, t1


def input_of(field: Field, x: Any, t: float = 0.0) -> Input:
    """The input of a field from what is given for it, a signal from t on; none is x = 0 where the field allows that."""
    if x is None:
        if field.input_size and not field.input_is_optional:
            raise UsageError("x", given=None, allowed=f"a signal with channels {', '.join(field.input_names)}")
        return _nothing(field.input_size)
    signal = as_input(x)
    if isinstance(signal, Function) and signal is not x and field.input_size > 1:
        signal = Function(x, size=max(real_array(f"x({t!r})", x(t)).size, 1))  # it tells how many channels it has
    if signal.size != field.input_size:
        raise UsageError(
            "x",
            given=f"{signal.size} channels",
            allowed=f"{field.input_size} (the field's inputs)",
            hint="ctrnn.inputs.stack(...) puts signals side by side",
        )
    return signal


def noise_of(field: Field, noise: Any, with_events: bool, is_backward: bool) -> WhiteNoise | None:
    """The noise, which fits the field."""
    made = as_noise(noise)
    if made is None:
        return None
    if with_events:
        raise UsageError("noise", given=made, allowed="None, of a problem with events")
    if is_backward:
        raise UsageError("noise", given=made, allowed="None, of a problem backwards in time")
    made.noisy(field)
    return made


@lru_cache
def _nothing(size: int) -> Input:
    """No input, one object for all."""
    return Constant(np.zeros(size))


def check_covered(name: str, signal: Input, t0: float, t1: float) -> None:
    """Raise UsageError for a signal whose data end inside t0 … t1."""
    low, high = signal.span
    slack = 1e-9 * (t1 - t0)
    if low > t0 + slack or high < t1 - slack:
        raise UsageError(
            name, given=f"data from {low:g} to {high:g}", allowed=f"data that cover {t0:g} to {t1:g} (t_span)"
        )
