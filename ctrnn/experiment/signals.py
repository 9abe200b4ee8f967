"""Signals in an experiment file: inputs, targets and weights are tables with a ``kind``.

``kind`` is the name of the signal in :mod:`ctrnn.inputs`, in lower case (csv: ``from_csv``), the other keys are its
arguments; only the argument ``kind`` of sampled values is the key ``interpolation`` here, and ``path`` is ``file``.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, Tag

from ctrnn.experiment.values import (
    ByKind,
    ByShape,
    Count,
    Matrix,
    NotNegative,
    Number,
    Numbers,
    Positive,
    Section,
    Seed,
)

Channels = Annotated[Annotated[Number, Tag("<number>")] | Annotated[Numbers, Tag("<list>")], ByShape]
Interpolation = Literal["hold", "linear", "cubic"]
INTERPOLATIONS = get_args(Interpolation)


class ConstantSignal(Section):
    """The same values at all times."""

    kind: Literal["constant"]
    values: Channels


class SampledSignal(Section):
    """Values at given times, with an interpolation between them."""

    kind: Literal["sampled"]
    times: Numbers
    values: Annotated[Annotated[Numbers, Tag("<list>")] | Annotated[Matrix, Tag("<matrix>")], ByShape]
    interpolation: Interpolation = "hold"


class PulseSignal(Section):
    """The amplitude from the onset on, for the width; 0 before and after."""

    kind: Literal["pulse"]
    onset: Number
    width: Positive
    amplitude: Channels = 1.0


class StepSignal(Section):
    """The amplitude from the onset on; 0 before."""

    kind: Literal["step"]
    onset: Number
    amplitude: Channels = 1.0


class SineSignal(Section):
    """The wave offset + amplitude sin(2π frequency t + phase)."""

    kind: Literal["sine"]
    frequency: Channels
    amplitude: Channels = 1.0
    phase: Channels = 0.0
    offset: Channels = 0.0


class NoiseSignal(Section):
    """One fixed path, sampled every dt over the problem's time span."""

    kind: Literal["noise"]
    dt: Positive
    sd: NotNegative
    seed: Seed
    size: Count = 1
    interpolation: Literal["hold", "linear"] = "hold"


class CsvSignal(Section):
    """Columns of a CSV file, at the times of another column."""

    kind: Literal["csv"]
    file: str
    time: str
    columns: Annotated[list[str], Field(min_length=1)]
    interpolation: Interpolation = "hold"


class SumSignal(Section):
    """The sum of its terms."""

    kind: Literal["sum"]
    terms: Annotated[list[Signal], Field(min_length=1)]


class ProductSignal(Section):
    """The product of its terms."""

    kind: Literal["product"]
    terms: Annotated[list[Signal], Field(min_length=1)]


#: The table of each kind, by its name.
KINDS: dict[str, type[Section]] = {
    "constant": ConstantSignal,
    "sampled": SampledSignal,
    "csv": CsvSignal,
    "pulse": PulseSignal,
    "step": StepSignal,
    "sine": SineSignal,
    "noise": NoiseSignal,
    "sum": SumSignal,
    "product": ProductSignal,
}
Signal = Annotated[
    Annotated[ConstantSignal, Tag("<constant>")]
    | Annotated[SampledSignal, Tag("<sampled>")]
    | Annotated[PulseSignal, Tag("<pulse>")]
    | Annotated[StepSignal, Tag("<step>")]
    | Annotated[SineSignal, Tag("<sine>")]
    | Annotated[NoiseSignal, Tag("<noise>")]
    | Annotated[CsvSignal, Tag("<csv>")]
    | Annotated[SumSignal, Tag("<sum>")]
    | Annotated[ProductSignal, Tag("<product>")],
    ByKind,
]
