"""A training from [train] in an experiment file: trials from a file or a task, the read-out, and the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import ctrnn
from ctrnn.experiment.build_objective import readout_of
from ctrnn.experiment.locate import KeyPath
from ctrnn.experiment.schema_train import TrialFile
from ctrnn.learning import tasks
from ctrnn.learning.data import Dataset, as_dataset

if TYPE_CHECKING:
    from ctrnn.experiment.build import Experiment

#: keys of [train] that are no arguments of ctrnn.learning.train
_OWN = ("data", "fresh", "windows", "validation", "test", "readout")


def training_arguments(e: Experiment) -> tuple[Any, Any, dict[str, Any]]:
    """The field, the trials, and the further arguments of ctrnn.learning.train."""
    spec = e.require("train")
    given = spec.model_dump(exclude=set(_OWN))
    given["validation"] = spec.validation
    if spec.validation is not None and not isinstance(spec.validation, float):
        given["validation"] = trials(e, spec.validation, ("train", "validation"))
    data = trials(e, spec.data, ("train", "data"))
    if spec.windows is not None:
        if spec.fresh:
            raise e.fault(("train", "windows"), allowed="none with fresh = true")
        with e.at("train", "windows"):
            cut = as_dataset("data", data).windows(**spec.windows.model_dump())
        given["dt"] = given["dt"] or getattr(data, "dt", None)
        data = cut
    given["readout"] = readout_of(e, spec.readout, ("train", "readout"))
    if not spec.fresh:
        return e.field, data, given
    if isinstance(spec.data, TrialFile):
        raise e.fault(("train", "fresh"), allowed="false with a file: a task draws new trials")
    options = {key: value for key, value in spec.data.items() if key != "task"}
    if "seed" not in tasks.options(spec.data["task"]):
        raise e.fault(("train", "fresh"), allowed=f"false: the task {spec.data['task']} draws nothing")
    given["dt"] = given["dt"] or data.dt
    return e.field, lambda seed: tasks.make(spec.data["task"], **{**options, "seed": seed}), given


def prepared_training(e: Experiment) -> Any:
    """The training, checked and ready to run."""
    field, data, given = training_arguments(e)
    with e.at("train", trials=("train", "data")):
        return ctrnn.learning.prepare(field, data, **given)


def trials(e: Experiment, spec: Any, path: KeyPath) -> Any:
    """A dataset from a file, or a task."""
    if not isinstance(spec, TrialFile):
        if not isinstance(spec.get("task"), str):
            raise e.fault(path, allowed=f"a table with file = …, or with task = {', '.join(tasks.NAMES)}")
        with e.at(*path, task=(*path, "task")):
            return tasks.make(spec["task"], **{key: value for key, value in spec.items() if key != "task"})
    file = e.file(spec.file)
    is_table = file.suffix == ".csv"
    if file.suffix not in (".csv", ".npz"):
        raise e.fault((*path, "file"), allowed="a file that ends in .npz or .csv")
    for key in ("inputs", "outputs", "trial", "weight"):
        if getattr(spec, key) and not is_table:
            raise e.fault((*path, key), allowed="none for an .npz file: it has arrays x, y and weight")
    if is_table and not spec.outputs:
        raise e.fault((*path, "outputs"), allowed="the columns of the targets")
    with e.at(*path, path=(*path, "file")):
        if is_table:
            return Dataset.from_csv(file, spec.inputs, spec.outputs, spec.trial, spec.weight)
        return Dataset.from_npz(file)


def numbers_of(data: Any, trial: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (T, inputs) and targets (T, outputs) of one trial, NaN where none counts."""
    held = as_dataset("data", data)
    T = int(held.lengths[trial])
    y = np.where(held.weight[trial, :T, None] > 0.0, held.y[trial, :T], np.nan)
    return held.x[trial, :T], y
