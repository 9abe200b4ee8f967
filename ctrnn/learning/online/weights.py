"""What learns: the parameters of a field and of its read-out as one flat vector, and torch's optimiser of it.

    w = [field's parameters | V | c]        the optimiser's tensors are views of it, and share its memory

Entries that a field holds fixed (outside of a mask) stay as they are, and those with a sign or a bound are put back
onto it after each update (a projection). The gradient may be clipped to a length before.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ctrnn.errors import NotFiniteError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.learning.torch_optimizers import fused, is_elementwise, make_optimizer, make_scheduler
from ctrnn.losses import Readout
from ctrnn.numbers import number


class Weights:
    """The numbers that learn.

    field : as it was given, with other numbers
    flat : all numbers, those of the field first
    w : the same as the field's kernels want them; a new array after each update, as steps keep theirs
    V, c : of the read-out, views; None without one
    """

    def __init__(
        self, field: Field, readout: Readout | None, optimizer: Any, lr: float, scheduler: Any, clip: float | None,
        weight_decay: float,
    ) -> None:  # fmt: skip
        import torch

        lr, weight_decay = number("lr", lr), number("weight_decay", weight_decay)
        self._field, self.m = field, field.m
        parts: dict[str, Array] = dict(field.parameters)
        if readout is not None:
            parts |= {"readout V": readout.V, "readout c": readout.c}
        self.flat = np.concatenate([np.ravel(part) for part in parts.values()] or [np.empty(0)]).astype(float)
        self.gradient = np.zeros_like(self.flat)
        self.V: Array | None = None
        self.c: Array | None = None
        pieces: list[tuple[int, int, tuple[int, ...]]] = []  # from, to, shape
        for name, part in parts.items():
            first = pieces[-1][1] if pieces else 0
            pieces.append((first, first + part.size, part.shape))
            if name == "readout V":
                self.V = self.flat[first : first + part.size].reshape(part.shape)
            elif name == "readout c":
                self.c = self.flat[first : first + part.size]
        self.tensors = []
        for first, last, shape in _joined(pieces, weight_decay != 0.0) if is_elementwise(optimizer) else pieces:
            if last > first:
                values, slope = (torch.from_numpy(v[first:last].reshape(shape)) for v in (self.flat, self.gradient))
                values.requires_grad_()
                values.grad = slope
                self.tensors.append(values)
        if not self.tensors:
            raise UsageError("field", given=field, allowed="a field with parameters, or a read-out that learns")
        self.optimizer: Any = make_optimizer(fused(optimizer), self.tensors, lr, weight_decay)
        self.scheduler: Any = make_scheduler(scheduler, self.optimizer)
        self._reads_loss = self.scheduler is not None and "metrics" in inspect.signature(self.scheduler.step).parameters
        self.clip = None if clip is None else number("clip", clip)
        if self.clip is not None and self.clip <= 0.0:
            raise UsageError("clip", given=clip, allowed="a positive length of the gradient, or None")
        low, high = field.bounds
        self._bounded = np.flatnonzero(np.isfinite(low) | np.isfinite(high))
        self._low, self._high = low[self._bounded], high[self._bounded]
        # where each number of the kernels comes from: a parameter, or behind those a constant
        entry, constants = (
            field._kernel_direction(np.arange(1.0, self.m + 1.0)).astype(np.int64),
            field._kernel_vector(),
        )
        self._from = np.where(entry > 0, entry - 1, self.m + np.arange(entry.size))
        self._source = np.concatenate([self.flat[: self.m], constants])
        self.w = constants
        self.updates = 0

    @property
    def field(self) -> Field:
        """The field with its present numbers."""
        return self._field.with_vector(self.flat[: self.m])

    @property
    def lr(self) -> float:
        """The present learning rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    def refresh(self) -> None:
        """The kernels' numbers from the flat vector."""
        self._source[: self.m] = self.flat[: self.m]
        self.w = self._source.take(self._from)

    def update(self, loss: float) -> None:
        """One step of the optimiser with what is in ``gradient``; raises NotFiniteError, then nothing has moved."""
        if not np.isfinite(self.gradient).all():
            raise NotFiniteError("the gradient is infinite or NaN. Try: a smaller lr, a smaller dt, or resets")
        if self.clip is not None:
            length = float(np.linalg.norm(self.gradient))
            if length > self.clip:
                self.gradient *= self.clip / length
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step(*((loss,) if self._reads_loss else ()))
        if self._bounded.size:
            self.flat[self._bounded] = np.clip(self.flat[self._bounded], self._low, self._high)
        self.refresh()
        self.updates += 1


def _joined(pieces: list[tuple[int, int, tuple[int, ...]]], decays: bool) -> list[tuple[int, int, tuple[int, ...]]]:
    """Neighbours as one, for an optimiser that treats each number by itself: fewer tensors take less time.

    Where matrices decay and others do not, matrices stay matrices, with one row.
    """
    found: list[tuple[int, int, tuple[int, ...]]] = []
    for first, last, shape in pieces:
        is_matrix = decays and len(shape) >= 2
        if found and (len(found[-1][2]) == 2) == is_matrix:
            first = found.pop()[0]
        found.append((first, last, (1, last - first) if is_matrix else (last - first,)))
    return found
