"""``ctrnn learn``: learning while the data come."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from ctrnn.cli.job import Job, experiment_command, save_npz
from ctrnn.errors import UsageError
from ctrnn.experiment.build_learning import prepared_learning
from ctrnn.learning.checkpoint import numbers_digest, recipe
from ctrnn.learning.online.learner import OnlineLearner

CHECKPOINT = "learner.npz"
#: settings that must be the same for a learner to go on
SAME = ("method", "optimizer", "lr", "scheduler", "loss", "solver", "dt", "batch", "clip", "weight_decay", "seed")
#: what is too long to be shown, in words
LONG = {
    "data": "other data",
    "field": "another field",
    "numbers at the start": "other numbers at the start: weights, constants, masks, the read-out's or r0",
}


def learn(job: Job, resume: bool = False) -> None:
    """Learn while the data come: the weights move as the system runs, at each step or every few."""
    e = job.experiment
    spec, prepared = e.require("learn"), prepared_learning(e)
    path = job.path(CHECKPOINT)
    learner = prepared.learner
    learner.note = _written_down(learner, spec) | {"data": numbers_digest(prepared.x, prepared.y, prepared.weight)}
    if resume and path.exists():
        learner = _resumed(path, learner)
    T = len(prepared.x)
    with e.at("learn", checkpoint=("learn", "data")):
        while learner.steps < T * spec.repeats:
            here = slice(learner.steps % T, None)
            learner.run(
                prepared.x[here], prepared.y[here], spec.record_every, weight=prepared.weight[here],
                reset_every=prepared.start[here], checkpoint=path, every=spec.checkpoint_every,
            )  # fmt: skip
    table = learner.history
    table.to_csv(job.path("learning.csv"))
    job.results["learning"], job.results["time unit"] = table, prepared.time_unit
    parameters = {f"parameters.{key}": value for key, value in learner.field.parameters.items()}
    save_npz(job.path("learned.npz"), r=learner.r, **parameters, **_readout(learner))
    drift, losses = learner.drift(), table.loss[np.isfinite(table.loss)]
    job.summary["learn"] = {
        "steps": learner.steps, "updates": learner.updates, "loss_first": losses[0], "loss_last": losses[-1],
        "steps_per_second": table.steps_per_second, "drift": vars(drift),
    }  # fmt: skip
    rows = [
        (f"loss, mean of the first {spec.record_every} steps", float(losses[0])),
        (f"loss, mean of the last {spec.record_every}", float(losses[-1])),
        (f"drift over {drift.window} steps, relative error", drift.relative_error),
        ("drift, cosine", drift.cosine),
        ("steps a second", table.steps_per_second),
    ]
    job.table(f"learning: {learner.steps} steps, {learner.updates} updates", ("", ""), rows)


def _written_down(new: OnlineLearner, spec: Any) -> dict[str, Any]:
    """What else must be the same for a learner to go on, as it is before the first step."""
    field, readout = new.field, new.readout
    numbers = [*field.parameters.values(), *(getattr(field, "constants", None) or {}).values(), *field.bounds, new.r0]
    found = {"update_every": spec.update_every, "reset_every": spec.reset_every, "feedback": spec.feedback}
    if hasattr(readout, "V"):
        numbers += [readout.V, readout.c]
        found["readout"] = readout.activation
    else:
        found["readout"] = readout
    return found | {"field": recipe(field), "numbers at the start": numbers_digest(*map(np.asarray, numbers))}


def _resumed(path: Any, new: OnlineLearner) -> OnlineLearner:
    """The learner of a checkpoint; raises UsageError where it learned something else."""
    old = OnlineLearner.load(path, field=new.field)
    then, now = ({**{key: one._options[key] for key in SAME}, **one.note} for one in (old, new))
    for key, value in now.items():
        if then.get(key) != value:
            is_long = key in LONG
            what = LONG[key] if is_long else f"{key} = {then.get(key)!r}"
            allowed = "the field, settings and data of before" if is_long else f"{key} = {value!r}, as now"
            raise UsageError("--resume", given=f"{path}, written with {what}", allowed=allowed, hint="without --resume")
    return old


def _readout(learner: OnlineLearner) -> dict[str, Any]:
    readout = learner.readout
    return {} if not hasattr(readout, "V") else {"readout.V": readout.V, "readout.c": readout.c}


command = experiment_command(
    "learn", click.option("--resume", is_flag=True, help="Go on from the checkpoint in the folder of the results.")
)(learn)
