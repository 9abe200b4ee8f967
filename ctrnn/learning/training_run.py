"""A training under way: an epoch of it, and the state that a checkpoint holds.

Each minibatch: u = model(x), g = ∂/∂w Σ a ℓ(u, y)/Σ a, clipped to a norm, one step of the optimiser. Then a validation,
and the numbers of the best one are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ctrnn.errors import CtrnnError, NotFiniteError, UsageError
from ctrnn.fields.base import Array
from ctrnn.learning.data import Dataset
from ctrnn.learning.output_loss import OutputLoss
from ctrnn.learning.trained import COLUMNS, Best, Training, mean_loss
from ctrnn.learning.trained_model import Model, drawn_masks

#: what each stream of random numbers of an epoch is for
ORDER, MASKS, COINS = range(3)


class Run:
    """A training under way: what a checkpoint holds, and how an epoch changes it."""

    def __init__(self, model: Model, loss: OutputLoss, optimizer: Any, schedule: Any, plateau: Any) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.schedule, self.plateau = schedule, plateau
        self.history: list[tuple[float, ...]] = []
        self.best = Best(0, math.nan, math.inf)
        self.kept = model.state()
        #: epochs at full length since the best one
        self.since = 0

    def epoch(
        self, data: Dataset, held: Dataset | None, seed: list[int], batch_size: int, epsilon: float,
        drops: Mapping[str, float], clip: float | None, counts: bool,
    ) -> None:  # fmt: skip
        """Go through all trials once, then validate."""
        model, number = self.model, len(self.history) + 1
        order = np.random.default_rng([*seed, ORDER]).permutation(len(data))
        masks, coins = (np.random.default_rng([*seed, stream]) for stream in (MASKS, COINS))
        total = weight = 0.0
        norms = []
        lr = float(self.optimizer.param_groups[0]["lr"])
        for first in range(0, len(data), batch_size):
            part = data.take(np.sort(order[first : first + batch_size]))
            x, y, a = (torch.from_numpy(np.ascontiguousarray(v.swapaxes(0, 1))) for v in (part.x, part.y, part.weight))
            own = self._own(len(x), epsilon, coins)
            u = model(x, own, drawn_masks(model.form, drops, len(part), masks))
            mass = float(a.sum())
            if mass == 0.0:  # a curriculum that ends before the first target of these trials
                continue
            l = (a * self.loss(u, y)).sum()
            if not l.requires_grad:
                raise UsageError("loss", given=self.loss.name, allowed="a loss that depends on the outputs")
            self.optimizer.zero_grad(set_to_none=True)
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is told below
                (l / mass).backward()
            gradients = [v.grad for v in model.parameters if v.grad is not None]
            norm = float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients])))
            if not math.isfinite(norm) or not math.isfinite(float(l.detach())):
                what = "gradient" if math.isfinite(float(l.detach())) else "loss"
                hint = "a smaller lr, gradient clipping, or smaller initial weights"
                raise NotFiniteError(f"the {what} became infinite or NaN in epoch {number}. Try: {hint}")
            if clip is not None and norm > clip:
                for g in gradients:
                    g.mul_(clip / norm)
            self.optimizer.step()
            model.project()
            total, weight = total + float(l.detach()), weight + mass
            norms.append(norm)
        if not weight:
            allowed = "a start at which some time counts: no target lies in the first steps of any trial"
            raise UsageError("curriculum", given=f"{data.x.shape[1]} steps", allowed=allowed)
        validation = math.nan if held is None else self._validate(held, number)
        self.history.append((number, total / weight, validation, lr, float(np.mean(norms)), data.x.shape[1], epsilon))
        if self.schedule is not None:
            self.schedule.step()
        if self.plateau is not None:
            self.plateau.step(validation)
        if held is None or validation < self.best.validation or math.isinf(self.best.validation):
            self.best, self.kept, self.since = Best(number, total / weight, validation), model.state(), 0
        else:
            self.since += counts

    def _validate(self, held: Dataset, number: int) -> float:
        try:
            found = mean_loss(self.model, held, self.loss)
        except CtrnnError as error:
            if isinstance(error, UsageError):
                raise
            return math.inf  # a network that runs away on its own outputs is no good one; it may yet become one
        return found if math.isfinite(found) else math.inf

    def _own(self, T: int, epsilon: float, coins: np.random.Generator) -> Array | None:
        form = self.model.form
        if not form.channels:
            return None
        own: Array = coins.random(T) >= epsilon
        own[: form.warmup] = False
        return own

    def is_stale(self, patience: int | None) -> bool:
        """Whether the validation has not become better for so long."""
        return patience is not None and self.since >= patience

    def note(self) -> str:
        """The losses, for the progress bar."""
        _, loss, validation, *_ = self.history[-1]
        return f"loss {loss:.4g}" + ("" if math.isnan(validation) else f", validation {validation:.4g}")

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs to go on to the same bits; random numbers come from (seed, epoch)."""
        schedule = self.schedule or self.plateau
        return {
            "numbers": self.model.state(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if schedule is None else _plain(schedule.state_dict()),
            "history": [list(row) for row in self.history],
            "best": list(self.best),
            "kept": self.kept,
            "since": self.since,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to such a state."""
        self.model.restore(state["numbers"])
        self.optimizer.load_state_dict(state["optimizer"])
        schedule = self.schedule or self.plateau
        if schedule is not None:
            schedule.load_state_dict(state["schedule"])
        self.history = [tuple(row) for row in state["history"]]
        self.best, self.kept, self.since = Best(*state["best"]), dict(state["kept"]), state["since"]

    def result(self, patience: int | None) -> Training:
        """The numbers that were kept."""
        epochs, validation = len(self.history), self.best.validation
        converged = self.is_stale(patience)
        if converged:
            reason = f"no better validation for {patience} epochs"
        elif math.isnan(validation):
            reason = "all epochs done; without a validation nobody knows whether that was enough"
        elif math.isinf(validation):
            reason = "all epochs done; the validation's loss was never finite"
        elif self.best.epoch > 0.9 * epochs:
            reason = "all epochs done; the validation's loss was still falling"
        else:
            reason = f"all epochs done; the validation's loss was least at epoch {self.best.epoch}"
        self.model.restore(self.kept)
        columns = np.array(self.history).T
        return Training(
            field=self.model.field(),
            readout=self.model.readout,
            r0=self.model.numbers["r0"].detach().numpy().copy(),
            history={name: column.copy() for name, column in zip(COLUMNS, columns, strict=True)},
            best=self.best,
            converged=converged,
            reason=reason,
            _form=self.model.form,
            _loss=self.loss,
        )


def _plain(value: Any) -> Any:
    """The state of a scheduler in types that torch reads back without executing code."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items() if not callable(v)}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v) for v in value)
    return float(value) if isinstance(value, np.floating) else value
