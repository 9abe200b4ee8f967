"""An objective for the states of one field: its losses and their derivatives, on whole arrays of times.

    l_k = a_k ℓ(o_k, y_k)      ∂ℓ/∂r = ∂ℓ/∂u V      ∂ℓ/∂V_ij = ∂ℓ/∂u_i r_j      ∂ℓ/∂c = ∂ℓ/∂u

with what ctrnn.objective asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.inputs import Input, stack
from ctrnn.losses import Loss, Readout, TorchLoss, compiled_loss, log_softmax
from ctrnn.named_losses import NamedLoss
from ctrnn.names import arrays, check_order, known

if TYPE_CHECKING:
    from ctrnn.objective import Objective

Array = NDArray[np.float64]


class BoundObjective:
    """An objective for the states of one field; it works on whole arrays of times.

    times          (K,), or None for the integral
    signals        target (q channels) and weight (the last one) as one input; None at times
    signal_breaks  its jump times; empty at times
    event_times    (K,) target times of events, None of an objective that is not about such
    readout_size   p n + p entries of a trained read-out, V row by row, then c; else 0
    """

    event_times: Array | None = None

    def __init__(self, objective: Objective, field: Any) -> None:
        self.objective = objective
        self.state_names: tuple[str, ...] = tuple(field.state_names)
        self.n: int = len(self.state_names)
        self.times: Array | None = objective.at
        self.readout = objective.readout if isinstance(objective.readout, Readout) else None
        self.selection: list[int] | None = None
        if self.readout is not None and self.readout.V.shape[1] != self.n:
            shape = self.readout.V.shape
            allowed = f"({shape[0]}, {self.n}), for the field's {self.n} states"
            raise UsageError("readout V", given=f"shape {shape}", allowed=allowed)
        if isinstance(objective.readout, tuple):
            whole, self.selection = arrays(self.state_names), []
            for name in objective.readout:
                if name in whole:
                    self.selection += range(self.n)[whole[name][0]]
                elif name in self.state_names:
                    self.selection.append(self.state_names.index(name))
                else:
                    raise UnknownNameError("readout state", name, known(self.state_names))
        #: the loss, where it is known by name
        self.named: NamedLoss | None = objective.named
        #: p, the number of outputs
        self.output_size: int = (
            len(self.selection) if self.selection is not None
            else self.n if self.readout is None else len(self.readout.V)
        )  # fmt: skip
        self.readout_size: int = 0 if self.readout is None else self.output_size * (self.n + 1)
        self._bind_target()
        self._loss = self._bind_loss()

    @property
    def is_named(self) -> bool:
        """Whether the loss is one of LOSSES."""
        return self.named is not None

    @property
    def counts(self) -> bool:
        """Whether some weight is not zero, as far as that is known without following a signal."""
        a = self.objective.weight if self.times is None else self.weights
        return not isinstance(a, np.ndarray) or bool(a.any())

    def _bind_target(self) -> None:
        """The targets (K, q) and weights (K,) at the times, or both as one signal."""
        y, p = self.objective.target, self.output_size
        if self.readout is None:
            chosen = range(self.n) if self.selection is None else self.selection
            check_order("target", self.objective._columns, [self.state_names[i] for i in chosen])
        if isinstance(y, np.ndarray) and y.ndim == 0:
            y = np.full(1 if callable(self.objective.loss) else p, y)
        if y is None:
            y = np.empty(0)
        signals, signal_breaks = None, np.empty(0)
        if self.times is None:
            signals = stack(y, self.objective.weight)
            signal_breaks, q = signals.breaks, signals.size - 1
            targets, weights = np.empty((0, q)), np.empty(0)
        else:
            K, a = len(self.times), self.objective.weight
            targets = y(self.times) if isinstance(y, Input) else y
            targets = np.broadcast_to(targets, (K, targets.shape[-1]))
            weights = (
                a(self.times)[:, 0] if isinstance(a, Input) else np.broadcast_to(a, K if np.ndim(a) < 2 else a.shape)
            )
        named = self.named
        if named is not None and targets.shape[1] != p:
            what = "columns" if signals is None else "channels"
            hint = ""
            if named.of_log:
                hint = f"one row of probabilities a time; for labels: np.eye({p})[labels]"
            raise UsageError(
                "target", given=f"{targets.shape[1]} {what}", allowed=f"{p}, one an output",
                hint=hint,
            )  # fmt: skip
        if named is not None:
            if named.of_log and p == 1:
                allowed = "two outputs or more: a softmax of one output is always 1"
                raise UsageError("readout V", given=f"shape (1, {self.n})", allowed=allowed)
            low, high = named.target
            if np.any(wrong := (targets < low) | (targets > high)):
                what = "probabilities, not negative" if named.of_log else f"{low:g} or more"
                what = what if high == np.inf else f"numbers from {low:g} to {high:g}"
                allowed = f"{what}, for {self.objective.loss}"
                raise UsageError("target", given=float(targets[wrong].flat[0]), allowed=allowed)
        there = self.objective._is_there
        if weights.ndim == 2 and weights.shape != targets.shape:
            raise UsageError(
                "weight", given=f"shape {weights.shape}", allowed=f"(K,) or {targets.shape}, as the target"
            )
        if there is not None:
            each = np.broadcast_to(there, targets.shape)
            weights = np.where(each, weights if weights.ndim == 2 else weights[:, None], 0.0)
        #: (K, p) the weight of each observed value, where they differ within a time; else None
        self.each: Array | None = None
        if weights.ndim == 2:
            self.each, weights = weights, (weights != 0.0).any(axis=1).astype(float)
        self.signals: Input | None = signals
        self.signal_breaks: Array = signal_breaks
        self.targets, self.weights = targets, weights
        #: whether all weights at times are 1, and need not be looked at
        self._is_plain = bool((weights == 1.0).all())

    @property
    def entry_weights(self) -> Array:
        """The weight of each observed value (K, p)."""
        return (
            np.broadcast_to(self.weights[:, None], (len(self.weights), self.output_size))
            if self.each is None
            else self.each
        )

    def __getstate__(self) -> dict[str, Any]:
        # what was compiled does not go to another process
        return {name: None if name == "_loss" else value for name, value in self.__dict__.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_loss" in state:
            self._loss = self._bind_loss()

    def _bind_loss(self) -> Loss:
        loss = self.objective.loss
        if callable(loss):
            bound = TorchLoss(loss, self.objective.target is not None)
            bound.check(self.output_size, self.targets.shape[1])
            return bound
        if self.named is not None:
            return self.named
        compiled = self.objective._compiled
        if self.state_names not in compiled:
            compiled[self.state_names] = compiled_loss(loss, self.state_names)
        return compiled[self.state_names]

    def output(self, r: Array) -> Array:
        """o (T, p) of states r (T, n)."""
        if self.readout is not None:
            return self.readout(r)
        return r if self.selection is None else r[:, self.selection]

    def at_observations(self, r: Array, first: int = 0) -> tuple[Array, Array, Array]:
        """a_k ℓ_k (K,), its ∂/∂r (K, n) and Σ_k ∂/∂(V, c) (readout_size,) for r (K, n) at K times.

        The times are all of them, or K that follow one another from number ``first`` on.

        >>> from types import SimpleNamespace
        >>> from ctrnn import Objective
        >>> field = SimpleNamespace(state_names=("x", "y"))
        >>> bound = Objective(target=[3.0], at=2.0, weight=10.0, readout="y").bind(field)
        >>> l, l_r, l_o = bound.at_observations(np.array([[1.0, 2.0]]))
        >>> l, l_r, l_o.shape
        (array([5.]), array([[  0., -10.]]), (0,))
        """
        here = slice(first, first + len(r))
        if self.each is not None:
            return self._entrywise(r, self.targets[here], self.each[here])
        return self._weighted(r, self.targets[here], None if self._is_plain else self.weights[here])

    def rate(self, r: Array, s: Array, h: Array | None = None) -> tuple[Array, Array, Array]:
        """a ℓ (T,), its ∂/∂r (T, n) and Σ_t h_t ∂/∂(V, c) for r (T, n), s (T, q + 1) values of signals.

        ``h`` (T,) are the weights of a quadrature, 1 without.
        """
        return self._weighted(r, s[:, :-1], s[:, -1], h)

    def _entrywise(self, r: Array, y: Array, a: Array) -> tuple[Array, Array, Array]:
        """Σ_j a_kj φ(o_j, y_kj), with a weight for each value."""
        if r.shape != (len(y), self.n):
            raise UsageError("r", given=f"shape {r.shape}", allowed=f"{(len(y), self.n)}")
        o = self.output(r)
        assert self.named is not None
        counts = a != 0.0  # what has no weight may be infinite
        parts, slope = self.named.by_output(np.where(counts, o, 0.0), np.where(counts, y, 0.0))
        l, l_o = np.sum(np.where(counts, a * parts, 0.0), axis=1), np.where(counts, a * slope, 0.0)
        if self.readout is not None:
            l_u = self.readout.pullback(o, l_o)
            return l, l_u @ self.readout.V, np.concatenate([(l_u.T @ r).ravel(), l_u.sum(axis=0)])
        if self.selection is None:
            return l, l_o, np.empty(0)
        l_r = np.zeros_like(r)
        l_r[:, self.selection] = l_o
        return l, l_r, np.empty(0)

    def _weighted(self, r: Array, y: Array, a: Array | None, h: Array | None = None) -> tuple[Array, Array, Array]:
        """Without a and h, they are 1."""
        if r.shape != (len(y), self.n):
            raise UsageError("r", given=f"shape {r.shape}", allowed=f"{(len(y), self.n)}")
        # a loss that has no weight may be infinite there
        if a is not None and not (counts := a != 0.0).all():
            l, l_r = np.zeros(len(r)), np.zeros_like(r)
            h = None if h is None else h[counts]
            l[counts], l_r[counts], l_o = self._weighted(r[counts], y[counts], a[counts], h)
            return l, l_r, l_o
        if self.readout is None:
            l, l_o = self._loss(self.output(r), y)
            l_r = l_o
            if self.selection is not None:
                l_r = np.zeros_like(r)
                l_r[:, self.selection] = l_o
            return (l, l_r, np.empty(0)) if a is None else (a * l, a[:, None] * l_r, np.empty(0))
        l, l_u = self.by_output(r, y)
        if a is not None:
            l, l_u = a * l, a[:, None] * l_u
        # the read-out's gradient is one product over all times, never an outer product a time
        summed = l_u if h is None else h[:, None] * l_u
        return l, l_u @ self.readout.V, np.concatenate([(summed.T @ r).ravel(), summed.sum(axis=0)])

    def by_output(self, r: Array, y: Array) -> tuple[Array, Array]:
        """ℓ (K,) and ∂ℓ/∂u (K, p) at states r (K, n) with targets y (K, q), of a trained read-out with u = V r + c."""
        assert self.readout is not None
        if self.named is not None and self.named.of_log:
            log_o = log_softmax(self.readout.linear(r))
            l, slope = self.named(log_o, y)
            l_u = slope - np.sum(slope, axis=1, keepdims=True) * np.exp(log_o)
        else:
            o = self.readout.linear(r)
            o = np.exp(log_softmax(o)) if self.readout.activation == "softmax" else o
            l, l_o = self._loss(o, y)
            l_u = self.readout.pullback(o, l_o)
        return l, l_u

    def unflatten_readout(self, vector: Array) -> dict[str, Array]:
        """V (p, n) and c (p,) from a flat vector (readout_size,); empty where there is none."""
        vector = np.asarray(vector)
        if vector.shape != (self.readout_size,):
            allowed = f"shape ({self.readout_size},)"
            raise UsageError("readout vector", given=f"shape {vector.shape}", allowed=allowed)
        if self.readout is None:
            return {}
        p, n = self.readout.V.shape
        return {"V": vector[: p * n].reshape(p, n), "c": vector[p * n :]}

    def describe(self) -> str:
        """One line: which loss, of what, when."""
        loss = self.objective.loss
        what = getattr(loss, "__name__", repr(loss)) if callable(loss) else loss.replace("_", " ")
        if self.readout is not None:
            g = "softmax" if self.readout.activation == "softmax" else ""
            what += f" of {self.output_size} outputs {g}(V r + c)"
        elif not self.objective.is_expression:
            names = self.objective.readout or self.state_names
            what += " of " + (", ".join(names) if len(names) <= 6 else f"{len(names)} states")
        if self.times is None:
            return f"integral of {what}"
        if len(self.times) == 1:
            return f"{what} at t = {self.times[0]:g}"
        return f"{what} at {len(self.times)} times from {self.times[0]:g} to {self.times[-1]:g}"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"
