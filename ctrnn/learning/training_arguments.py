"""What `ctrnn.learning.train` is given, checked, as what it works with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np

from ctrnn.errors import UnknownNameError, UsageError, one_of
from ctrnn.fields.base import Field
from ctrnn.fields.checks import checked_field
from ctrnn.learning.data import Dataset, as_dataset
from ctrnn.learning.trained_model import Form, Model, checked_feedback
from ctrnn.losses import Readout
from ctrnn.nn.recurrence import Recurrence
from ctrnn.numbers import items, number, positive, whole


def make_form(
    field: Field, readout: Readout | None, selection: tuple[int, ...], p: int, *, solver: str, dt: float,
    steps_per_input: int, interpolation: str, feedback: Any, teacher_forcing: Any, warmup: int,
) -> Form:  # fmt: skip
    """The model, but for its numbers."""
    if interpolation not in ("hold", "linear"):
        raise UnknownNameError("interpolation", interpolation, ("hold", "linear"))
    channels = checked_feedback(field, feedback, p)
    always = isinstance(teacher_forcing, Number) and forcing(teacher_forcing)(0) == 1.0
    if not channels and not always:
        raise UsageError("teacher_forcing", given=teacher_forcing, allowed="1 without feedback", hint="feedback=True")
    if channels and interpolation == "linear":
        raise UsageError("interpolation", given="linear", allowed="'hold' with feedback")
    steps = whole("steps_per_input", steps_per_input, 1)
    how = Recurrence(field.as_rows(), solver, dt, steps, interpolation == "linear")
    activation = readout.activation if readout else ""
    return Form(field, how, activation, selection, channels, whole("warmup", warmup, 1), bool(channels) and not always)


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed of an epoch's new trials, apart from those of its other random numbers."""
    return int(np.random.SeedSequence([seed, epoch, 77]).generate_state(1)[0])


def checked_step(field: Any, dt: Any) -> float:
    """The step; raises UsageError for what is no field, and no step."""
    checked_field(field)
    return positive("dt", dt, "a positive number, the step in the unit of t")


def trained_names(field: Field, parameters: Sequence[str] | None, has_readout: bool, train_r0: bool) -> list[str]:
    """Names of the tensors that are trained."""
    names = list(field.parameter_names) if parameters is None else items("parameters", parameters, "names")
    for name in names:
        one_of("parameters", "" if name is None else name, field.parameter_names)
    names += ["readout.V", "readout.c"] * has_readout + ["r0"] * bool(train_r0)
    if not names:
        raise UsageError("parameters", given=parameters, allowed="something to train")
    return names


def sides(data: Dataset, validation: Any, split: str, seed: int, is_fresh: bool) -> tuple[Dataset, Dataset | None]:
    """The trials to train on, and those to validate with, if any."""
    if validation is None:
        return data, None
    if isinstance(validation, Number) and not isinstance(validation, bool):
        if is_fresh:
            allowed = "trials of its own, where those of the training are new in each epoch"
            raise UsageError("validation", given=validation, allowed=allowed)
        return data.split(number("validation", validation), split, seed)
    return data, as_dataset("validation", validation)


def forcing(given: Any) -> Callable[[int], float]:
    """ε as a function of the epoch."""
    allowed = 'a probability, {"start": 1.0, "decay": 0.98, "end": 0.0}, or a function of the epoch'

    def checked(value: Any) -> float:
        return number("teacher_forcing", value, allowed, 0.0, math.nextafter(1.0, 2.0))

    if isinstance(given, Mapping):
        _check_keys("teacher_forcing", given, ("start", "decay", "end"))
        start, decay, end = (checked(given.get(k, v)) for k, v in (("start", 1.0), ("decay", 1.0), ("end", 0.0)))
        return lambda epoch: max(end, start * decay**epoch)
    if callable(given):
        return lambda epoch: checked(given(epoch))
    value = checked(given)
    return lambda epoch: value


def lengths(given: Any) -> Callable[[int], int]:
    """T_epoch as a function of the epoch."""
    if given is None:
        return lambda epoch: 2**62
    if isinstance(given, Mapping):
        _check_keys("curriculum", given, ("start", "increment"))
        start, increment = whole("curriculum start", given.get("start"), 1), given.get("increment", 1)
        whole("curriculum increment", increment, 1)
        return lambda epoch: start + epoch * increment
    if callable(given):
        return lambda epoch: whole("curriculum", given(epoch), 1)
    allowed = '{"start": steps, "increment": steps an epoch}, or a function of the epoch'
    raise UsageError("curriculum", given=given, allowed=allowed)


def _check_keys(argument: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            raise UnknownNameError(argument, key, known)


def told(value: Any, depth: int = 0) -> Any:
    """A setting as a checkpoint keeps it."""
    if isinstance(value, Mapping) and depth < DEPTH:
        return {str(k): told(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)) and depth < DEPTH:
        return [told(v, depth + 1) for v in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else "an object"


#: of lists in lists that are told: one that holds itself has no end
DEPTH = 20


def first_outputs(model: Model) -> list[str]:
    """What the model says to three random inputs, to 8 digits: it shows whatever its text and its sizes do not."""
    x = np.random.default_rng(0).normal(size=(3, 1, model.form.field.input_size))
    return [f"{v:.7e}" for v in model.outputs(x)[-1, 0, :8]]
