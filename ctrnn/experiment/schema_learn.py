"""What the table [learn] of an experiment file may hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from ctrnn.experiment.schema_train import Named, Readouts, Trials
from ctrnn.experiment.values import ByShape, Count, NotNegative, Number, Numbers, Positive, Section


class LearnSpec(Section):
    """Learning while the data come; the keys are the arguments of ctrnn.learning.OnlineLearner and of its run.

    ``lanes``: trials that run side by side; ``repeats``: how often all data come.
    """

    data: Trials
    method: Named = "rtrl"
    readout: Readouts | None = None
    loss: str = "squared_error"
    solver: str = "euler"
    dt: Positive | None = None
    lanes: Count = 1
    repeats: Count = 1
    update_every: Annotated[Annotated[Count, Tag("<number>")] | Annotated[Numbers, Tag("<list>")], ByShape] = 1
    optimizer: Named = "adam"
    lr: NotNegative = 1e-3
    scheduler: Named | None = None
    weight_decay: NotNegative | None = None
    clip: Positive | None = None
    feedback: Literal["random"] | None = None
    r0: Annotated[Annotated[Number, Tag("<number>")] | Annotated[Numbers, Tag("<list>")], ByShape] = 0.0
    reset_every: Count | None = None
    record_every: Count = 250
    checkpoint_every: Count = 1000
    seed: Annotated[int, Field(ge=0)] = 0
