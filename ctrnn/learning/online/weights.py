"""What learns: the parameters of a field and of its read-out as one flat vector, and the optimiser of it.

    w = [field's parameters | V | c]        torch's tensors are views of it, and share its memory

SGD and Adam of torch are carried out in compiled code (ctrnn.kernels.rules.updates) on torch's own state; other
optimisers, and updates with a scheduler, by torch. Entries that a field holds fixed (outside of a mask) stay as they
are, and those with a sign or a bound are put back onto it after each update (a projection). The gradient may be clipped
to a length before.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ctrnn.errors import NotFiniteError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.bound import Bound
from ctrnn.kernels.rules import updates as u
from ctrnn.kernels.rules.loop import Learned
from ctrnn.learning.torch_optimizers import decay_of, fused, is_elementwise, make_optimizer, make_scheduler
from ctrnn.losses import Readout
from ctrnn.numbers import number

REMEDY = "Try: a smaller lr, a smaller dt, clip, or resets"
NOT_FINITE = f"the gradient is infinite or NaN. {REMEDY}"


class Weights:
    """The numbers that learn.

    first : the field as it was given
    flat : all numbers, those of the field first;  gradient : of them, of the losses before the last update
    V, c : of the read-out, views; None without one
    """

    def __init__(
        self, field: Field, readout: Readout | None, optimizer: Any, lr: float, scheduler: Any, clip: float | None,
        weight_decay: float | None,
    ) -> None:  # fmt: skip
        import torch

        lr = number("lr", lr)
        self.first, self.m = field, field.m
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
        decays = decay_of(optimizer, weight_decay) != 0.0
        for first, last, shape in _joined(pieces, decays) if is_elementwise(optimizer) else pieces:
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
        self._steps: list[Any] = []  # torch's counts of updates, of each piece

    @property
    def field(self) -> Field:
        """The field with its present numbers."""
        return self.first.with_vector(self.flat[: self.m])

    @property
    def lr(self) -> float:
        """The present learning rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    # -- as the compiled loop sees them

    def learned(self, bound: Bound, looks_back: int) -> Learned:
        """The weights for ctrnn.kernels.rules.loop, with a ring for rules that look back so many steps."""
        field, kernel, m = self.first, bound.kernel, self.m
        low, high = field.bounds
        bounded = np.flatnonzero(np.isfinite(low) | np.isfinite(high))
        first, others, at_others = kernel.parameter_index
        has_one = np.flatnonzero(first >= 0)
        entry = field._kernel_entries
        rows = np.tile(field._kernel_vector(), (looks_back + 1, 1))
        moves = np.flatnonzero(entry >= 0)
        return Learned(
            kind=u.ELSEWHERE, settings=np.zeros((len(self.tensors), u.SETTINGS)),
            places=np.zeros((len(self.tensors), u.PLACES), dtype=np.int64), clip=self.clip or 0.0, m=m, flat=self.flat,
            gradient=self.gradient, bounded=bounded, low=low[bounded], high=high[bounded],
            G=np.zeros(kernel.groups * kernel.columns),
            found=runs(first[has_one], has_one), shared=runs(others, at_others),
            made=runs(entry[moves], moves), ring=rows,
        )  # fmt: skip

    def begin(self, learned: Learned) -> Learned:
        """How updates are made now: in compiled code, on the state of torch's optimiser, if it has one already."""
        made = None if self.scheduler is not None else _compiled(self.optimizer)
        if made is None:
            return learned._replace(kind=u.ELSEWHERE)
        kind, pieces, self._steps = made
        for i, (settings, tensor, addresses) in enumerate(pieces):
            first = (tensor.data_ptr() - self.flat.ctypes.data) // 8
            learned.settings[i] = settings
            learned.places[i] = (first, first + tensor.numel(), *addresses)
        return learned._replace(kind=kind, settings=learned.settings[: len(pieces)])

    def end(self, learned: Learned) -> None:
        """Tell torch's optimiser how many updates were made."""
        for step, settings in zip(self._steps, learned.settings, strict=False):
            if step is not None:
                step.fill_(settings[u.COUNT])

    def by_torch(self, loss: float) -> None:
        """One step of torch's optimiser with what is in ``gradient``; raises NotFiniteError, then nothing has moved."""
        scale = u.scale(self.gradient, self.clip or 0.0)
        if not np.isfinite(scale):
            raise NotFiniteError(NOT_FINITE)
        found = self.gradient.copy()
        self.gradient *= scale
        self.optimizer.step()
        self.gradient[:] = found  # what it was made with, as it was found
        if self.scheduler is not None:
            self.scheduler.step(*((loss,) if self._reads_loss else ()))


def runs(*columns: Array) -> Array:
    """Rows [first of each column, length] of stretches where all columns grow by 1.

    >>> runs(np.array([0, 1, 2, 5]), np.array([4, 5, 6, 7]))
    array([[0, 4, 3],
           [5, 7, 1]])
    """
    table = np.column_stack([np.asarray(column, dtype=np.int64) for column in columns])
    first = np.concatenate([[0], np.flatnonzero((np.diff(table, axis=0) != 1).any(axis=1)) + 1])[: len(table)]
    return np.column_stack([table[first], np.diff(np.append(first, len(table)))])


def _compiled(optimizer: Any) -> tuple[int, list[Any], list[Any]] | None:
    """The update of torch's SGD and Adam, as they stand, for compiled code; None for others, and before their first.

    The kind, for each tensor its settings, itself and the addresses of its state, and torch's count of updates.
    """
    import torch

    kinds = {torch.optim.SGD: (u.SGD, ("momentum_buffer",)), torch.optim.Adam: (u.ADAM, ("exp_avg", "exp_avg_sq"))}
    kinds[torch.optim.AdamW] = kinds[torch.optim.Adam]
    if type(optimizer) not in kinds or optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return None
    kind, names = kinds[type(optimizer)]
    pieces, counts = [], []
    for group in optimizer.param_groups:
        if any(group.get(name) for name in ("amsgrad", "maximize", "differentiable", "capturable")):
            return None
        settings = np.zeros(u.SETTINGS)
        settings[[u.RATE, u.DECAY]] = float(group["lr"]), group["weight_decay"]
        if kind == u.ADAM:
            settings[[u.BETA1, u.BETA2]], settings[u.EPSILON] = group["betas"], group["eps"]
            settings[u.DECOUPLED] = bool(group.get("decoupled_weight_decay"))
        else:
            settings[[u.MOMENTUM, u.DAMPENING]] = group["momentum"], group["dampening"]
            settings[u.NESTEROV] = bool(group["nesterov"])
        wants = names if kind == u.ADAM or group["momentum"] else ()
        for tensor in group["params"]:
            state = optimizer.state.get(tensor, {})
            if any(state.get(name) is None for name in wants):
                return None
            addresses = [state[name].data_ptr() for name in wants] + [0, 0]
            if kind == u.ADAM:
                settings[u.COUNT] = float(state["step"])
            pieces.append((settings.copy(), tensor, addresses[:2]))
            counts.append(state["step"] if kind == u.ADAM else None)
    return kind, pieces, counts


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
