"""What a training gives back: the field and the read-out that did best, and how it went."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.files import atomic_path, loading
from ctrnn.inputs.checks import finite
from ctrnn.learning.data import Dataset, as_dataset
from ctrnn.learning.output_loss import OutputLoss
from ctrnn.learning.trained_model import Form, Model
from ctrnn.losses import Readout
from ctrnn.nn.recurrence import Recurrence
from ctrnn.numbers import whole
from ctrnn.threads import one_torch_thread

#: trials that are validated together
TOGETHER = 256
#: a line of the history
COLUMNS = ("epoch", "loss", "validation", "lr", "gradient_norm", "steps", "teacher_forcing")


class Best(NamedTuple):
    """The epoch whose numbers were kept, its mean loss in training, and the loss of the validation (NaN without)."""

    epoch: int
    loss: float
    validation: float


@dataclass(frozen=True, eq=False, repr=False)
class Training:
    """A trained field with its read-out.

    Attributes
    ----------
    field : Field
        With the numbers of the best epoch.
    readout : Readout or None
        Trained beside it; None where states are the outputs.
    r0 : ndarray (n,)
        The initial state of every trial.
    history : dict
        Columns by name, one number an epoch: "epoch" from 1 on, "loss" (mean over the minibatches, while the numbers
        move), "validation" (at the end of the epoch, NaN without), "lr", "gradient_norm" (mean, before clipping),
        "steps" (length of the trials, as the curriculum has it), "teacher_forcing".
    best : Best
        (epoch, loss, validation) of what was kept: of least validation loss, the last epoch without a validation.
    converged : bool
        Whether the loss of the validation had stopped falling: no better one came within ``patience`` epochs. Without
        patience nobody knows, and it is False.
    reason : str
        Why it ended, in words.

    Examples
    --------
    >>> import numpy as np, ctrnn
    >>> x = np.random.default_rng(0).normal(size=(8, 10, 1))
    >>> field = ctrnn.RateNetwork(4, inputs=1, seed=0)
    >>> done = ctrnn.learning.train(field, (x, 0.5 * x), readout=["r0"], epochs=3, validation=0.25)
    >>> done.best.epoch, done.converged, done.predict(x[0]).shape
    (3, False, (10, 1))
    """

    field: Field
    readout: Readout | None
    r0: Array
    history: dict[str, Array]
    best: Best
    converged: bool
    reason: str
    _form: Form
    _loss: OutputLoss

    def predict(self, x: Any, free_after: int | None = None, steps: int | None = None) -> Array:
        """Outputs at the end of each input's time.

        Parameters
        ----------
        x : array_like (T, inputs) or (B, T, inputs)
            The inputs.
        free_after : int, optional
            From this step on, counted from 0, the channels that are fed back take the model's own outputs; the first
            step never does. Without it x is taken as it is.
        steps : int, optional
            How many steps, by default T; more than T where all inputs are the model's own.

        Returns
        -------
        ndarray (T, outputs) or (B, T, outputs)
            The outputs; probabilities of a softmax read-out.

        Raises
        ------
        UsageError
            For shapes that do not fit, and for ``free_after`` of a model without feedback.
        """
        x = finite("x", x, (2, 3), "shape (T, inputs) or (B, T, inputs)")
        inputs = self.field.input_size
        batch = x[None] if x.ndim == 2 else x
        if batch.shape[2] != inputs or not batch.shape[1]:
            raise UsageError("x", given=f"shape {x.shape}", allowed=f"(T, {inputs}) or (B, T, {inputs}), T at least 1")
        T = batch.shape[1] if steps is None else whole("steps", steps, 1)
        own = np.zeros(T, dtype=bool)
        if free_after is not None:
            if not self._form.channels:
                raise UsageError("free_after", given=free_after, allowed="None: no output of this model is an input")
            own[max(whole("free_after", free_after, 0), 1) :] = True
        given = batch.shape[1]
        if given < T:
            if len(self._form.channels) < inputs or not own[given:].all():
                raise UsageError("steps", given=T, allowed=f"at most the {given} of x, where x is needed")
            batch = np.concatenate([batch, np.zeros((len(batch), T - given, inputs))], axis=1)
        batch = batch[:, :T].transpose(1, 0, 2)
        o = self._model().outputs(batch, own).transpose(1, 0, 2)
        return np.ascontiguousarray(o[0] if x.ndim == 2 else o)

    def evaluate(self, trials: Any) -> float:
        """The loss of trials, as of a validation.

        Parameters
        ----------
        trials : Dataset and what `train` takes
            With inputs and targets of the same sizes.

        Returns
        -------
        float
            The mean over all times that count.

        Raises
        ------
        UsageError
            For trials that do not fit.
        """
        data = as_dataset("trials", trials)
        check_sizes(data, self._form, self._loss.p)
        return mean_loss(self._model(), data, self._loss)

    def accuracy(self, trials: Any) -> float:
        """The part of right answers: signs of targets −1 and +1, or the largest output where one of several is right.

        Parameters
        ----------
        trials : Dataset and what `train` takes
            Targets −1 and +1, or a 1 among zeros.

        Returns
        -------
        float
            From 0 to 1, of all answers at times that count.

        Raises
        ------
        UsageError
            For other targets.
        """
        data = as_dataset("trials", trials)
        check_sizes(data, self._form, self._loss.p)
        counts = data.weight > 0.0
        y, o = data.y[counts], self.predict(data.x, self._form.warmup if self.runs_free else None)[counts]
        if (np.abs(y) == 1.0).all():
            return float(np.mean(np.sign(o) == y))
        if y.shape[1] > 1 and ((y == 0.0) | (y == 1.0)).all() and (y.sum(axis=1) == 1.0).all():
            return float(np.mean(o.argmax(axis=1) == y.argmax(axis=1)))
        raise UsageError("trials", given="other targets", allowed="targets −1 and +1, or a 1 among zeros")

    @property
    def dt(self) -> float:
        """Time from one output to the next."""
        return self._form.recurrence.dt * self._form.recurrence.steps

    @property
    def runs_free(self) -> bool:
        """Whether it was trained to take its own outputs as inputs, and is validated so."""
        return self._form.free

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all numbers to one .npz file, without any code in it; `Training.load` takes the field beside it."""
        told = {"best": list(self.best), "converged": self.converged, "reason": self.reason}
        told |= {"form": self._form.describe(), "loss": self._loss.name, "outputs": self._loss.p}
        arrays: dict[str, Any] = {f"history.{name}": column for name, column in self.history.items()}
        arrays |= {f"numbers.{name}": value.numpy() for name, value in self._model().state().items()}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, told=np.array(json.dumps(told)), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], field: Field, loss: Any = None) -> Training:
        """A training that was saved, of a field of the same kind and sizes.

        ``loss`` is needed again where it was a function. Raises UsageError for a file that is none, for another field
        and for another loss.
        """
        told, numbers, history = read_saved(path)
        about = told["form"]
        how = Recurrence(
            field.as_rows(), about["solver"], about["dt"], about["steps_per_input"], about["interpolation"] == "linear"
        )
        choice = tuple(about["selection"]), tuple(about["channels"]), about["warmup"], about["free"]
        form = Form(field, how, about["activation"], *choice)
        for key, now in form.describe().items():
            if about[key] != now:
                raise UsageError("field", given=f"{key} {now}", allowed=f"{key} {about[key]}, as was trained")
        V, c = numbers.get("readout.V"), numbers.get("readout.c")
        trained = field.with_parameters(**{name: numbers[name] for name in field.parameter_names})
        its_loss = OutputLoss(told["loss"] if loss is None else loss, form.activation or "linear", told["outputs"])
        if its_loss.name != told["loss"]:
            raise UsageError("loss", given=its_loss.name, allowed=f"{told['loss']}, as was trained")
        return cls(
            field=trained,
            readout=None if V is None else Readout(V, c, form.activation),
            r0=numbers["r0"],
            history=history,
            best=Best(*told["best"]),
            converged=told["converged"],
            reason=told["reason"],
            _form=form,
            _loss=its_loss,
        )

    def _model(self) -> Model:
        model = Model(self._form, self.readout, self.r0, ())
        model.restore({name: torch.tensor(np.array(v, dtype=float)) for name, v in self.field.parameters.items()})
        return model

    def __repr__(self) -> str:
        epochs = len(self.history["epoch"])
        lines = [f"training of {self.field.m:,} parameters, {epochs} epochs: {self.reason}"]
        rows: list[tuple[str, ...]] = [("epoch", "loss", "validation", "learning rate")]
        shown = sorted({1, *(round(q * epochs) for q in (0.25, 0.5, 0.75, 1.0)), self.best.epoch} - {0})
        for epoch in shown:
            numbers = (self.history[name][epoch - 1] for name in ("loss", "validation", "lr"))
            mark = " (kept)" if epoch == self.best.epoch else ""
            rows.append((f"{epoch}{mark}", *("" if np.isnan(v) else f"{v:.5g}" for v in numbers)))
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        lines += ["  ".join(cell.rjust(k) for cell, k in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines)


def mean_loss(model: Model, data: Dataset, loss: OutputLoss) -> float:
    """Σ a ℓ / Σ a over all trials and times; on its own outputs where the model is validated so."""
    total, form = 0.0, model.form
    own = np.zeros(data.x.shape[1], dtype=bool)
    own[max(form.warmup, 1) :] = form.free
    for first in range(0, len(data), TOGETHER):
        part = data.take(range(first, min(first + TOGETHER, len(data))))
        x, y, a = (torch.from_numpy(np.ascontiguousarray(v.swapaxes(0, 1))) for v in (part.x, part.y, part.weight))
        with one_torch_thread, torch.no_grad():
            total += float((a * loss(model(x, own[: len(x)]), y)).sum())
    return total / float(data.weight.sum())


def check_sizes(data: Dataset, form: Form, p: int) -> None:
    """Raise UsageError where the trials do not fit the model."""
    inputs = form.field.input_size
    if data.x.shape[2] != inputs:
        raise UsageError("trials", given=f"{data.x.shape[2]} inputs", allowed=f"{inputs}, as the field has")
    if data.y.shape[2] != p:
        raise UsageError("trials", given=f"{data.y.shape[2]} outputs", allowed=f"{p}, as the model has")
    if not data.weight.any():
        raise UsageError("trials", given="weights that are all 0", allowed="a time at least that counts")


def read_saved(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array], dict[str, Array]]:
    """What was told, the numbers and the history of a file of ``Training.save``; raises UsageError."""
    with loading(path, "a file that Training.save has written"), np.load(Path(path), allow_pickle=False) as file:
        arrays = dict(file)
        told = json.loads(str(arrays.pop("told")))
    numbers, history = (
        {k.partition(".")[2]: v for k, v in arrays.items() if k.startswith(kind)} for kind in ("numbers.", "history.")
    )
    return told, numbers, history
