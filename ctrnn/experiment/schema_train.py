"""What the table [train] of an experiment file may hold, and read-outs in any table."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from ctrnn.experiment.values import ByShape, Count, Matrix, NotNegative, Number, Numbers, Positive, Section, Seed


class ReadoutSpec(Section):
    """o = g(V r + c): V given, or drawn from N(0, 1/n) with a seed."""

    V: Matrix | None = None
    c: Numbers | None = None
    size: Count | None = None
    seed: Seed | None = None
    activation: Literal["linear", "softmax"] = "linear"


Readouts = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[str], Field(min_length=1), Tag("<list>")]
    | Annotated[ReadoutSpec, Tag("<table>")],
    ByShape,
]


class TrialFile(Section):
    """Trials from an NPZ file with arrays x and y, or from columns of a CSV file, a step in each line."""

    file: str
    inputs: list[str] = []
    outputs: list[str] = []
    trial: str | None = None
    weight: str | None = None


#: a file, or a task of ctrnn.learning.tasks with its options: {task = "flip-flop", bits = 3}
Trials = Annotated[
    Annotated[TrialFile, Tag("<file of trials>")] | Annotated[dict[str, Any], Tag("<task>")],
    Discriminator(
        lambda v: "<file of trials>" if hasattr(v, "file") or (isinstance(v, dict) and "file" in v) else "<task>"
    ),
]
Named = Annotated[Annotated[str, Tag("<text>")] | Annotated[dict[str, Any], Tag("<table>")], ByShape]
Probability = Annotated[float, Field(ge=0, le=1)]


class Windows(Section):
    """Long trials in windows of so many steps, one every ``stride``; the first ``warmup`` count nothing."""

    length: Count
    stride: Count | None = None
    warmup: Annotated[int, Field(ge=0)] = 0


class Curriculum(Section):
    """Trials of T = start + increment · epoch steps, up to their own length."""

    start: Count
    increment: Count = 1


class TeacherForcing(Section):
    """The data are the next input with probability max(end, start · decay^epoch), the model's own output else."""

    start: Probability = 1.0
    decay: Probability = 1.0
    end: Probability = 0.0


class TrainSpec(Section):
    """Offline training on trials; the keys are the arguments of ctrnn.learning.train.

    ``fresh``: a task draws new trials in each epoch. ``test``: trials that are only looked at in the end.
    """

    data: Trials
    fresh: bool = False
    windows: Windows | None = None
    validation: (
        Annotated[
            Annotated[Annotated[float, Field(gt=0, lt=1)], Tag("<number>")] | Annotated[Trials, Tag("<table>")], ByShape
        ]
        | None
    ) = None
    test: Trials | None = None
    split: Literal["trial", "time"] = "trial"
    readout: Readouts | None = None
    loss: str = "squared_error"
    solver: str = "euler"
    dt: Positive | None = None
    steps_per_input: Count = 1
    interpolation: Literal["hold", "linear"] = "hold"
    r0: Annotated[Annotated[Number, Tag("<number>")] | Annotated[Numbers, Tag("<list>")], ByShape] = 0.0
    train_r0: bool = False
    parameters: list[str] | None = None
    optimizer: Named = "adam"
    lr: NotNegative = 1e-3
    scheduler: Named | None = None
    weight_decay: NotNegative | None = None
    clip: Positive | None = None
    epochs: Count = 100
    batch_size: Count = 32
    patience: Count | None = None
    curriculum: Curriculum | None = None
    dropout: dict[str, Annotated[float, Field(ge=0, lt=1)]] = {}
    feedback: Annotated[Annotated[bool, Tag("<true or false>")] | Annotated[list[str], Tag("<list>")], ByShape] = False
    teacher_forcing: Annotated[
        Annotated[Probability, Tag("<number>")] | Annotated[TeacherForcing, Tag("<table>")], ByShape
    ] = 1.0
    warmup: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0
