"""What [field] of an experiment file may hold: equations, or a network by its kind; arrays from wherever they are."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from ctrnn.experiment.values import (
    ByKind,
    ByShape,
    Count,
    Matrix,
    Name,
    NotNegative,
    Number,
    Numbers,
    Positive,
    Section,
    Seed,
    shape,
)
from ctrnn.numbers import MOST

Shape = Annotated[
    Annotated[Count, Tag("<number>")] | Annotated[list[Count], Field(min_length=1, max_length=2), Tag("<list>")],
    ByShape,
]


class ArrayFile(Section):
    """Numbers from a file: an array of an .npz (``key``, by default the array's own name), or a .csv of numbers."""

    file: str
    key: str | None = None


class RandomArray(Section):
    """Independent random numbers, from a seed.

    normal: N(0, scale²); uniform: from −scale to scale; bernoulli: 1 with probability ``scale``, else 0 (for masks).
    """

    random: Literal["normal", "uniform", "bernoulli"]
    shape: Shape
    seed: Seed
    scale: NotNegative = 1.0


class FilledArray(Section):
    """One number in every entry."""

    fill: Number
    shape: Shape


def source(value: Any) -> str:
    """Where numbers come from: written out, a file, drawn, or one number everywhere."""
    if not isinstance(value, dict):
        made = next((f"<{key}>" for key in ("file", "random", "fill") if hasattr(value, key)), "")
        return made or shape(value)
    return next((f"<{key}>" for key in ("file", "random") if key in value), "<fill>")


ArrayValues = Annotated[
    Annotated[Number, Tag("<number>")]
    | Annotated[Numbers, Tag("<list>")]
    | Annotated[Matrix, Tag("<matrix>")]
    | Annotated[ArrayFile, Tag("<file>")]
    | Annotated[RandomArray, Tag("<random>")]
    | Annotated[FilledArray, Tag("<fill>")],
    Discriminator(source),
]


class EquationsField(Section):
    """dr/dt given as text, one expression per state; numbers, vectors and matrices."""

    kind: Literal["equations"]
    equations: Annotated[dict[Name, str], Field(min_length=1)]
    parameters: dict[Name, ArrayValues] = {}
    inputs: Annotated[
        Annotated[list[Name], Tag("<list>")] | Annotated[dict[Name, Shape], Tag("<table>")],
        ByShape,
    ] = []
    states: dict[Name, Shape] = {}
    definitions: dict[Name, str] = {}
    constants: dict[Name, ArrayValues] = {}
    masks: dict[Name, ArrayValues] = {}


class _Network(Section):
    """What all networks take; ``network`` is the class in ctrnn, which has the defaults of what is not given."""

    network: ClassVar[str]

    n: Count
    inputs: Annotated[int, Field(ge=0, le=MOST)] = 0
    seed: Seed | None = None
    parameters: dict[str, ArrayValues] = {}


class _Units(_Network):
    """Networks whose units have a time constant, or one each."""

    tau: Annotated[Annotated[Positive, Tag("<number>")] | Annotated[list[Positive], Tag("<list>")], ByShape] = 1.0


class RateNetworkField(_Units):
    """tau dr/dt = −r + W φ(r) + U x + b (form "state"), −r + φ(W r + U x + b) (form "rate")."""

    network = "RateNetwork"

    kind: Literal["rate_network"]
    activation: str = "tanh"
    gain: NotNegative = 1.0
    form: Literal["state", "rate"] = "state"
    mask: ArrayValues | None = None
    dale: Numbers | None = None
    train_tau: bool = False
    rank: Count | None = None


class GRUField(_Units):
    """ctrnn.GRUNetwork: tau dh/dt = −h + z h + (1 − z) tanh(…)."""

    network = "GRUNetwork"

    kind: Literal["gru_network"]
    reset: Literal["after", "before"] = "after"
    train_tau: bool = False
    masks: dict[Name, ArrayValues] = {}


class LSTMField(_Units):
    """ctrnn.LSTMNetwork."""

    network = "LSTMNetwork"

    kind: Literal["lstm_network"]
    train_tau: bool = False
    masks: dict[Name, ArrayValues] = {}


class LiquidField(_Units):
    """ctrnn.LiquidNetwork."""

    network = "LiquidNetwork"

    kind: Literal["liquid_network"]
    activation: str = "sigmoid"
    gain: NotNegative = 1.0
    train_tau: bool = False
    masks: dict[Name, ArrayValues] = {}
    dale: Numbers | None = None


class LinearField(_Units):
    """ctrnn.LinearNetwork."""

    network = "LinearNetwork"

    kind: Literal["linear_network"]
    gain: NotNegative = 0.5
    masks: dict[Name, ArrayValues] = {}
    dale: Numbers | None = None


class PerceptronField(_Network):
    """ctrnn.MLPField."""

    network = "MLPField"

    kind: Literal["mlp"]
    hidden: Annotated[list[Count], Field(min_length=1)] = [64, 64]
    activation: str = "tanh"
    masks: dict[Name, ArrayValues] = {}


NetworkField = RateNetworkField | GRUField | LSTMField | LiquidField | LinearField | PerceptronField

FieldSpec = Annotated[
    Annotated[EquationsField, Tag("<equations>")]
    | Annotated[RateNetworkField, Tag("<rate_network>")]
    | Annotated[GRUField, Tag("<gru_network>")]
    | Annotated[LSTMField, Tag("<lstm_network>")]
    | Annotated[LiquidField, Tag("<liquid_network>")]
    | Annotated[LinearField, Tag("<linear_network>")]
    | Annotated[PerceptronField, Tag("<mlp>")],
    ByKind,
]
