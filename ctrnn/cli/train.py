"""``ctrnn train``: offline training on trials."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any, NamedTuple

import click
import numpy as np

from ctrnn.cli.job import Job, experiment_command, save_npz
from ctrnn.errors import UsageError
from ctrnn.experiment.build_training import numbers_of, prepared_training, trials
from ctrnn.learning.data import as_dataset

CHECKPOINT = "checkpoint.pt"


class ShownTrial(NamedTuple):
    """A trial for the figure: t (T,), target and output (T, outputs)."""

    t: np.ndarray
    target: np.ndarray
    output: np.ndarray
    names: tuple[str, ...]
    time_label: str


def train(job: Job, resume: bool = False) -> None:
    """Train the field and its read-out on trials, by backpropagation through time, minibatch by minibatch."""
    e = job.experiment
    spec, prepared = e.require("train"), prepared_training(e)
    files = {"checkpoint": job.path(CHECKPOINT), "metrics": job.path("metrics.csv")}
    with e.at("train"):
        done = prepared.run(**files, resume=resume)
    job.results["training"] = done
    done.save(job.path("training.npz"))
    held, said = _held(job, prepared), job.summary.setdefault("train", {})
    said |= {
        "epochs": len(done.history["epoch"]),
        "loss": done.best.loss,
        "validation": done.best.validation,
        "best_epoch": done.best.epoch,
        "converged": done.converged,
        "reason": done.reason,
    }
    rows = [("training, mean of the kept epoch", done.best.loss)]
    if not math.isnan(done.best.validation):
        rows.append(("validation", done.best.validation))
    if spec.test is not None:
        with e.at("train", trials=("train", "test")):
            said["test"] = done.evaluate(held)
        rows.append(("test", said["test"]))
    with suppress(UsageError):  # of targets that are no answers
        said["right_answers"] = done.accuracy(held)
        rows.append(("right answers" + " in the test" * (spec.test is not None), said["right_answers"]))
    _show(job, done, held)
    title = f"training: {len(done.history['epoch'])} epochs, kept {done.best.epoch}; {done.reason}"
    job.table(title, ("", f"{spec.loss.replace('_', ' ')}"), rows)


def _held(job: Job, prepared: Any) -> Any:
    """Trials that were not trained on, where there are such: those of the test, of the validation, or else all."""
    spec = job.experiment.require("train")
    if spec.test is not None:
        return trials(job.experiment, spec.test, ("train", "test"))
    return prepared.training if prepared.held is None else prepared.held


def _show(job: Job, done: Any, held: Any) -> None:
    """The outputs of the first trial, for a file and for the figure."""
    spec = job.experiment.require("train")
    x, y = numbers_of(held)
    free = max(spec.warmup, 1) if done.runs_free else None
    output = done.predict(x, free_after=free)
    dt = done.dt
    unit = getattr(held, "time_unit", "")
    t = getattr(held, "t0", 0.0) + dt * np.arange(1, len(x) + 1)
    names = as_dataset("held", held).output_names
    label = f"t ({unit})" if unit else "t"
    job.results["shown trial"] = ShownTrial(t, y, output, names, label)
    save_npz(job.path("output.npz"), t=t, x=x, target=y, output=output)


command = experiment_command(
    "train", click.option("--resume", is_flag=True, help="Go on from the checkpoint in the folder of the results.")
)(train)
