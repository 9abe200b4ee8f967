"""A learner from [learn] in an experiment file: data from a file or a task as a stream, and the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ctrnn.experiment.build_objective import readout_of
from ctrnn.experiment.build_training import trials
from ctrnn.learning.data import as_dataset
from ctrnn.learning.online.learner import OnlineLearner

if TYPE_CHECKING:
    from ctrnn.experiment.build import Experiment

Array = NDArray[np.float64]
#: keys of [learn] that are no arguments of OnlineLearner
_OWN = ("data", "method", "readout", "lanes", "repeats", "dt", "reset_every", "record_every", "checkpoint_every")


@dataclass(frozen=True, eq=False)
class Learning:
    """A learner before its first step, and what comes: x (T, lanes, inputs), y (T, lanes, outputs), weight, start."""

    learner: OnlineLearner
    x: Array
    y: Array
    weight: Array
    start: NDArray[np.bool_]
    time_unit: str


def prepared_learning(e: Experiment) -> Learning:
    """The learner and its stream, checked."""
    spec = e.require("learn")
    given = spec.model_dump(exclude=set(_OWN))
    given["readout"] = readout_of(e, spec.readout, ("learn", "readout"))
    data = trials(e, spec.data, ("learn", "data"))
    held = as_dataset("data", data)
    lengths, lanes = held.lengths, spec.lanes
    if len(held) % lanes or (lanes > 1 and len(set(lengths.tolist())) > 1):
        allowed = f"a divisor of the number of trials, {len(held)}, which are then of one length"
        raise e.fault(("learn", "lanes"), allowed=allowed)
    rounds = [np.arange(first, first + lanes) for first in range(0, len(held), lanes)]
    x, y, weight = (
        np.concatenate([np.stack([v[b, : lengths[b]] for b in some], axis=1) for some in rounds])
        for v in (held.x, held.y, held.weight)
    )
    start = np.zeros(len(x), dtype=bool)
    start[np.cumsum([0, *(lengths[some[0]] for some in rounds[:-1])])] = True
    if spec.reset_every is not None:
        start[:] = np.arange(len(x)) % spec.reset_every == 0
    with e.at("learn", batch=("learn", "lanes"), x=("learn", "data"), y=("learn", "data")):
        given["method"] = spec.method
        dt = spec.dt or getattr(data, "dt", None) or 1.0
        learner = OnlineLearner(e.field, batch=lanes, dt=dt, **given)
        learner.data(x, y, weight)
    return Learning(learner, x, y, weight, start, getattr(data, "time_unit", ""))
