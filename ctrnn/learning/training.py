"""Training on trials: minibatches, torch's optimisers, and the exact gradient through compiled steps.

    w ← optimiser(w, g),    g = ∂/∂w Σ_bk a_bk ℓ(o_bk, y_bk) / Σ_bk a_bk        over the trials b of a minibatch

g is backpropagation through time (BPTT) of the steps that were taken, through every output that was fed back as well.
In each epoch every trial comes once. The curriculum cuts trials to T_epoch = min(T, T_start + epoch T_increment) steps;
scheduled sampling takes the data as the next input with probability ε = max(ε_end, ε_start λ^epoch), and the model's
own output else: one draw a time, for the whole minibatch (both of note 002). All random numbers of an epoch come from
(seed, epoch) alone, so that a training that is resumed goes on to the same bits.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ctrnn import progress
from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.fields.base import Field
from ctrnn.learning.checkpoint import (
    Metrics,
    check_place,
    digest,
    load_checkpoint,
    numbers_digest,
    recipe,
    save_checkpoint,
)
from ctrnn.learning.data import Dataset, as_dataset
from ctrnn.learning.output_loss import OutputLoss
from ctrnn.learning.torch_optimizers import decay_of, make_optimizer, make_scheduler
from ctrnn.learning.trained import COLUMNS, Training, check_sizes
from ctrnn.learning.trained_model import Model, checked_dropout, checked_readout
from ctrnn.learning.training_arguments import (
    checked_step,
    epoch_seed,
    first_outputs,
    forcing,
    lengths,
    make_form,
    sides,
    told,
    trained_names,
)
from ctrnn.learning.training_run import Run
from ctrnn.numbers import positive, whole
from ctrnn.states import state_of
from ctrnn.threads import one_torch_thread

#: arguments of `train` that say where a run is kept
_OF_A_RUN = ("checkpoint", "checkpoint_every", "resume", "metrics")


def train(
    field: Field,
    trials: Any,
    *,
    readout: Any = None,
    loss: Any = "squared_error",
    solver: str = "euler",
    dt: float | None = None,
    steps_per_input: int = 1,
    interpolation: str = "hold",
    r0: Any = 0.0,
    train_r0: bool = False,
    parameters: Sequence[str] | None = None,
    optimizer: Any = "adam",
    lr: float = 1e-3,
    scheduler: Any = None,
    weight_decay: float | None = None,
    clip: float | None = None,
    epochs: int = 100,
    batch_size: int = 32,
    validation: Any = None,
    split: str = "trial",
    patience: int | None = None,
    curriculum: Any = None,
    dropout: Mapping[str, float] | None = None,
    feedback: Any = None,
    teacher_forcing: Any = 1.0,
    warmup: int = 1,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1,
    resume: bool = False,
    metrics: str | os.PathLike[str] | None = None,
) -> Training:
    """Train a field and its read-out on trials, offline, by backpropagation through time.

    Parameters
    ----------
    field : Field
        Any field; its numbers are where training begins. Steps of `ctrnn.Equations` and networks are compiled, those
        of a `ctrnn.TorchField` are torch's, at torch's speed.
    trials : Dataset, (x, y), (x, y, weight), task or callable
        `ctrnn.learning.Dataset` and what it takes, or a task of ``ctrnn.learning.tasks``. A callable is asked for new
        trials in each epoch, with a seed of that epoch.
    readout : Readout, str, list of str or None
        The read-out to train beside the field, or states that are the outputs; None: all states.
    loss : str or callable, default "squared_error"
        A name as of `ctrnn.Objective`, a formula in o and y summed over the outputs, or a function of torch of o (N, p)
        and y (N, p) that gives (N,).
    solver : str, default "euler"
        An explicit method, by steps of dt. With "euler" and dt = tau, networks are the discrete ones.
    dt : float, optional
        The step, in the unit of t; by default the task's, or else 1.
    steps_per_input, interpolation : int, str
        As of `ctrnn.nn.Recurrent`.
    r0 : float, array_like (n,) or dict, default 0
        The initial state of every trial.
    train_r0 : bool, default False
        Whether r0 is trained too.
    parameters : sequence of str, optional
        The field's parameters that are trained; all by default. The read-out always is.
    optimizer, lr, weight_decay : str, dict or callable; float; float or None
        As of `ctrnn.learning.torch_optimizers.make_optimizer`: a name, a table with options, a class or a function.
        Matrices alone decay; None: as the optimiser has it by itself, 0.01 of "adamw", 0 of most others.
    scheduler : str, dict or callable, optional
        As of ``make_scheduler``; it steps once an epoch, "ReduceLROnPlateau" on the validation's loss.
    clip : float, optional
        The most that the gradient's norm may be; a longer one is scaled down to it.
    epochs : int, default 100
        How often all trials are gone through.
    batch_size : int, default 32
        Trials in a minibatch.
    validation : float, trials or None
        Trials to validate with, or the part of the trials to keep for it. With it, the numbers of the epoch of least
        validation loss are kept; without it, the last ones.
    split : {"trial", "time"}, default "trial"
        What a part is of, as of `Dataset.split`.
    patience : int, optional
        Stop when that many epochs have brought no better validation; they count once trials have their full length.
    curriculum : dict or callable, optional
        {"start": steps, "increment": steps an epoch}, or a function of the epoch, from 0, that gives the steps.
    dropout : dict, optional
        {"x": p} of the inputs, {"W": p} of the columns of that matrix: units that send nothing. The mask is the same at
        all times; that of the inputs is drawn for each trial, that of units for each minibatch.
    feedback : bool, list of int or str, optional
        The input channel that takes each output as the next input; True: in their order.
    teacher_forcing : float, dict or callable, default 1
        ε, the probability that a channel fed back takes the data: a number, {"start": 1.0, "decay": λ, "end": 0.0}, or
        a function of the epoch. Where it is not 1, validation runs on the model's own outputs.
    warmup : int, default 1
        Steps at the beginning of a trial that always take the data.
    seed : int, default 0
        Of the split, the order, the masks and the draws.
    checkpoint : path, optional
        A file that is written, whole, as training goes on; one that is there is replaced, unless ``resume`` is given.
    checkpoint_every : int, default 1
        Epochs from one checkpoint to the next; the last epoch always has one.
    resume : bool, default False
        Go on from the checkpoint, to the same bits as without the break; from the beginning where there is none yet.
    metrics : path, optional
        A CSV file with the history, a line an epoch as it comes.

    Returns
    -------
    Training
        With ``.field``, ``.readout``, ``.r0``, ``.history``, ``.best``, ``.converged``, ``.reason``.

    Raises
    ------
    UsageError, UnknownNameError
        For what is not allowed, NaN in the data among it, and a checkpoint of another training or cut short.
    DivergenceError, NotFiniteError
        Where the states or the loss become infinite; the last checkpoint stays.

    Notes
    -----
    Gradients are exact for the steps taken: BPTT in compiled code, in float64. After each step of the optimiser the
    field's bounds hold: signs of ``dale``, masks, time constants above 0. ``lr`` is for Adam-like optimisers in
    units of the weights.

    Examples
    --------
    >>> import numpy as np, ctrnn
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(32, 20, 1))
    >>> field = ctrnn.RateNetwork(8, inputs=1, seed=0, form="rate")
    >>> readout = ctrnn.Readout(rng.normal(size=(1, 8)) / 3)
    >>> done = train(field, (x, np.roll(x, 1, axis=1)), readout=readout, lr=0.01, epochs=30)
    >>> bool(done.history["loss"][-1] < 0.5 * done.history["loss"][0])
    True
    """
    given = {name: value for name, value in locals().items() if name not in ("field", "trials", *_OF_A_RUN)}
    return prepared(field, trials, **given).run(checkpoint, checkpoint_every, resume, metrics)


def prepare(field: Field, trials: Any, **given: Any) -> Prepared:
    """A training with the arguments of `train`, checked and ready to run."""
    known = inspect.signature(train).parameters.values()
    usual = {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY and p.name not in _OF_A_RUN}
    for name in given:
        if name not in usual:
            raise UnknownNameError("train", name, usual)
    return prepared(field, trials, **usual | given)


def prepared(
    field: Field, trials: Any, *, readout: Any, loss: Any, r0: Any, train_r0: bool, parameters: Sequence[str] | None,
    optimizer: Any, lr: float, scheduler: Any, weight_decay: float | None, clip: float | None, epochs: int,
    batch_size: int, validation: Any, split: str, patience: int | None, curriculum: Any, dropout: Any,
    teacher_forcing: Any, seed: int, dt: float | None, **steps: Any,
) -> Prepared:  # fmt: skip
    """A training, all of whose arguments are checked: those of `train`, whose defaults they do not have here."""
    raw = trials
    if callable(trials) and not isinstance(trials, Dataset):
        raw = trials(epoch_seed(seed, 0))
    data = as_dataset("trials", raw)
    fresh = trials if raw is not trials else None
    dt = checked_step(field, getattr(raw, "dt", 1.0) if dt is None else dt)
    p = data.y.shape[2]
    used, selection = checked_readout(field, readout, p)
    form = make_form(field, used, selection, p, dt=dt, teacher_forcing=teacher_forcing, **steps)
    its_loss = OutputLoss(loss, form.activation or "linear", p)
    check_sizes(data, form, p)
    training, held = sides(data, validation, split, seed, fresh is not None)
    if held is not None:
        check_sizes(held, form, p)
    drops = checked_dropout(field, dropout)
    if form.channels and "x" in drops:
        raise UsageError("dropout", given=dropout, allowed="none of the inputs with feedback", hint="of a matrix")
    if patience is not None:
        whole("patience", patience, 1)
        if held is None:
            raise UsageError("patience", given=patience, allowed="None without a validation", hint="validation=0.2")
    if clip is not None:
        clip = positive("clip", clip, "a positive number, the largest norm of the gradient")
    model = Model(form, used, state_of(field, r0), trained_names(field, parameters, used is not None, train_r0))
    epochs, batch_size = whole("epochs", epochs, 1), whole("batch_size", batch_size, 1)
    stepper = make_optimizer(optimizer, model.parameters, lr, weight_decay)
    schedule = make_scheduler(scheduler, stepper, epochs)
    plateau = isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau)
    if plateau and held is None:
        raise UsageError("scheduler", given=scheduler, allowed="another without a validation", hint="validation=0.2")
    about = form.describe() | {
        "field": recipe(field), "start": numbers_digest(*(v.detach().numpy() for v in model.numbers.values())),
        "first outputs": first_outputs(model), "loss": its_loss.name, "optimizer": type(stepper).__name__,
        "lr": float(lr), "weight_decay": decay_of(optimizer, weight_decay),
        "options of the optimizer": told({k: v for k, v in stepper.defaults.items() if k != "lr"}),
        "scheduler": told(scheduler), "clip": clip, "batch_size": batch_size, "seed": seed, "dropout": drops,
        "trained": list(model.trained), "split": split, "patience": patience, "curriculum": told(curriculum),
        "teacher_forcing": told(teacher_forcing),
        "trials": "new in each epoch" if fresh else digest(training), "validation": digest(held),
    }  # fmt: skip
    run = Run(model, its_loss, stepper, None if plateau else schedule, schedule if plateau else None)
    limits = Limits(epochs, batch_size, patience, clip, drops, forcing(teacher_forcing), lengths(curriculum), seed)
    return Prepared(run, training, held, fresh, limits, about)


class Limits(NamedTuple):
    """How long, and how each epoch goes."""

    epochs: int
    batch_size: int
    patience: int | None
    clip: float | None
    dropout: Mapping[str, float]
    teacher_forcing: Callable[[int], float]
    length: Callable[[int], int]
    seed: int


@dataclass
class Prepared:
    """A training whose arguments are right, ready to run.

    fresh : what gives new trials for an epoch's seed, if anything; about : what a checkpoint must agree with
    """

    state: Run
    training: Dataset
    held: Dataset | None
    fresh: Any
    limits: Limits
    about: dict[str, Any]

    def run(
        self,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1,
        resume: bool = False,
        metrics: str | os.PathLike[str] | None = None,
    ) -> Training:
        """Go through the epochs; see `train` for the arguments."""
        run, on = self.state, self.limits
        whole("checkpoint_every", checkpoint_every, 1)
        check_place(checkpoint)
        if resume:
            if checkpoint is None:
                allowed = "True with a checkpoint"
                raise UsageError("resume", given=True, allowed=allowed, hint='checkpoint="training.pt"')
            if Path(checkpoint).exists():
                run.restore(load_checkpoint(checkpoint, "training", self.about))
        written = Metrics(metrics, COLUMNS, run.history)
        # small operations, between long ones of compiled code: a second thread of torch's gains nothing there
        with one_torch_thread, progress.track(on.epochs, "train") as tell:
            while not self._is_done():
                epoch = len(run.history)
                data = self._trials(epoch)
                steps = min(on.length(epoch), data.x.shape[1])
                is_full, epsilon = steps == data.x.shape[1], on.teacher_forcing(epoch)
                seeds = [on.seed, epoch]
                run.epoch(data.cut(steps), self.held, seeds, on.batch_size, epsilon, on.dropout, on.clip, is_full)
                written.add(run.history[-1])
                if checkpoint is not None and (self._is_done() or len(run.history) % checkpoint_every == 0):
                    save_checkpoint(checkpoint, "training", self.about, run.state())
                tell(epoch + 1, run.note())
        return run.result(on.patience)

    def _is_done(self) -> bool:
        return len(self.state.history) >= self.limits.epochs or self.state.is_stale(self.limits.patience)

    def _trials(self, epoch: int) -> Dataset:
        if self.fresh is None or not epoch:
            return self.training
        data = as_dataset("trials", self.fresh(epoch_seed(self.limits.seed, epoch)))
        check_sizes(data, self.state.model.form, self.state.loss.p)
        return data
