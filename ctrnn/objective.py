"""The objective: what the trajectory should do, and the derivatives of that.

    output       o = r, some of the states, or a read-out o = g(u), u = V r + c
    objective    l = Σ_k a_k ℓ(o(t_k), y_k)          at observation times
                 l = ∫ a(t) ℓ(o(t), y(t)) dt         as an integral

with a target y and a weight a. Every ℓ comes with ∂ℓ/∂o, and what reaches the state is

    ∂ℓ/∂r = ∂ℓ/∂u V      ∂ℓ/∂V_ij = ∂ℓ/∂u_i r_j      ∂ℓ/∂c = ∂ℓ/∂u

What ℓ is by name, and through which g, is said in ctrnn.named_losses.
(C. M. Bishop, Pattern Recognition and Machine Learning, 2006, 4.3.4 and 5.3.1.)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as data
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UnknownNameError, UsageError, one_of
from ctrnn.inputs import Input, as_input, stack
from ctrnn.inputs.checks import finite
from ctrnn.losses import Loss, Readout, TorchLoss, compiled_loss, log_softmax
from ctrnn.named_losses import LOSSES, NamedLoss
from ctrnn.names import arrays, known
from ctrnn.numbers import real_array

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Objective:
    """Σ_k a_k ℓ(o(t_k), y_k) at times, or ∫ a(t) ℓ(o, y) dt where ``at`` is None.

    Parameters
    ----------
    loss : str or callable
        "squared_error", ½‖o − y‖²; "cross_entropy", −Σ y log o, with a softmax read-out; "absolute_error", "huber",
        "poisson" or "binary_cross_entropy" (ctrnn.named_losses); an expression in the states, as "y3",
        "prey**2 + pred" or, of arrays, "sum((r - 1)**2)"; or a callable ℓ(o, y), ℓ(o) without target, in torch
        operations: one time, o (p,) and y (q,) to a scalar.
    target : array_like, ctrnn.inputs.Input or float, optional
        y: (K, p), or (K,) where p = 1, or an input signal; for the integral a number, an array (p,) or a signal. A
        number is the same for all. None for expressions.
    at : (K,) array_like or float, optional
        Increasing times, or one time; None for the integral.
    weight : float, (K,) or (K, p) array_like, or ctrnn.inputs.Input
        a: a number, one for each time, or a signal with one channel. For squared errors at times also (K, p), one for
        each observed value: ½ Σ_kj a_kj (o_j − y_kj)², where a = 1/σ² for a standard deviation σ.
    readout : str, list of str or ctrnn.Readout, optional
        What o is: a state or several, or a function of all of them; None: o = r.
    missing : {"refuse", "skip"}
        "refuse" raises for a target that is not finite; "skip" leaves such values out, of squared errors at times.
        What is masked in a numpy.ma array is missing, and left out.

    Raises
    ------
    UsageError
        For what does not fit together. What concerns the field is checked by :meth:`bind`.

    Notes
    -----
    Signals are right-continuous: at a jump, the value behind it counts.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrnn import Objective
    >>> objective = Objective(target=[[1.0, 2.0], [3.0, 4.0]], at=[0.0, 1.0])
    >>> objective.at, objective.target.shape
    (array([0., 1.]), (2, 2))
    """

    loss: Any = "squared_error"
    target: Any = None
    at: Any = None
    weight: Any = 1.0
    readout: Any = None
    missing: str = "refuse"
    #: the losses that are known by name
    NAMED: ClassVar[Mapping[str, NamedLoss]] = LOSSES
    #: compiled expression by state names, so that binding again (in a fit) costs nothing
    _compiled: dict[tuple[str, ...], Loss] = data(default_factory=dict, init=False, repr=False)
    #: which values of the target are there, where some are missing
    _is_there: Array | None = data(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.loss, str) and not callable(self.loss):
            allowed = f"{', '.join(LOSSES)}, an expression in the states, or a callable"
            raise UsageError("loss", given=self.loss, allowed=allowed)
        if self.loss in LOSSES and self.target is None:
            raise UsageError("target", given=None, allowed=f"what {self.loss} compares with")
        if self.is_expression and self.target is not None:
            raise UsageError(
                "target", given=self.target,
                allowed=f"None for a loss that is an expression, as {self.loss!r} is taken for",
                hint=f"a loss among {', '.join(LOSSES)}, or write the numbers into the expression",
            )  # fmt: skip
        if self.is_expression and self.readout is not None:
            hint = "readout=None; the expression names the states it takes"
            raise UsageError("readout", given=self.readout, allowed="none here", hint=hint)
        if callable(self.loss):
            _check_signature(self.loss, 1 if self.target is None else 2)
        readout = self.readout
        if isinstance(readout, str):
            readout = (readout,)
        elif readout is not None and not isinstance(readout, Readout):
            readout = _names(readout)
        is_softmax = isinstance(readout, Readout) and readout.activation == "softmax"
        if self.named is not None and self.named.of_log and not is_softmax:
            raise UsageError(
                "readout", given=self.readout, allowed=f"a softmax read-out, for {self.loss}",
                hint='Readout(V, c, activation="softmax")',
            )  # fmt: skip
        one_of("missing", self.missing, ("refuse", "skip"))
        at = None if self.at is None else _times(self.at)
        target, is_there = _without_missing(self.target, self.missing)
        if is_there is not None and (at is None or not self.has_entries):
            allowed = "none, but for squared errors and the like at observation times (at=times)"
            raise UsageError("target", given="missing values", allowed=allowed)
        target = None if target is None else _signal("target", target, at)
        if is_there is not None:
            is_there = is_there.reshape(target.shape)  # type: ignore[union-attr]
        values = {"at": at, "target": target, "weight": _signal("weight", self.weight, at), "readout": readout}
        if getattr(values["weight"], "ndim", 0) == 2 and not self.has_entries:
            allowed = "(K,), but for squared errors and the like at times"
            raise UsageError("weight", given="shape (K, p)", allowed=allowed)
        object.__setattr__(self, "_is_there", is_there)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def named(self) -> NamedLoss | None:
        """The loss, where it is known by name."""
        return LOSSES.get(self.loss) if isinstance(self.loss, str) else None

    @property
    def has_entries(self) -> bool:
        """Whether the loss is a sum over the outputs, each of which may have a weight of its own or be missing."""
        return self.named is not None and not self.named.of_log

    @property
    def is_expression(self) -> bool:
        """Whether the loss is an expression in the states."""
        return isinstance(self.loss, str) and self.loss not in LOSSES

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_compiled": {}}

    def bind(self, field: Any) -> BoundObjective:
        """The objective for the states of a field, checked against it.

        Raises UsageError for sizes that differ, UnknownNameError for a state that does not exist
        and ExpressionError for a loss that is not a formula in the states.
        """
        return BoundObjective(self, field)


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

    def at_states(self, r: Array, y: Array, a: Array | None = None) -> tuple[Array, Array, Array]:
        """a ℓ (K,), its ∂/∂r (K, n) and Σ_k ∂/∂(V, c) at states r (K, n) with targets y (K, q), whatever the times.

        Without weights a (K,) they are 1.
        """
        return self._weighted(r, y, a)

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


# --- arguments


def _times(at: Any) -> Array:
    times = np.atleast_1d(finite("at", at, (0, 1), "a time or times (K,)"))
    if not len(times):
        raise UsageError("at", given=times, allowed="at least one time, or None for the integral")
    if np.any(np.diff(times) <= 0.0):
        k = int(np.argmax(np.diff(times) <= 0.0))
        given = f"{times[k]:g} followed by {times[k + 1]:g}"
        raise UsageError("at", given=given, allowed="increasing times", hint="sort them")
    return times


def _signal(name: str, value: Any, at: Array | None) -> Any:
    """A target or a weight: an Input, a number (0-d array), or at K times (K, q) or a's (K,)."""
    is_weight = name == "weight"
    if isinstance(value, Input) or callable(value):
        value = as_input(value)
        if is_weight and value.size != 1:
            raise UsageError(name, given=f"{value.size} channels", allowed="one channel")
        return value
    if at is None:
        allowed = "a number or a signal" if is_weight else "a number, an array (p,) or a signal"
        array = finite(name, value, (0, 1, 2), allowed)
        if array.ndim == 2 or (is_weight and array.ndim):
            hint = "ctrnn.inputs.Sampled(times, values) for data in time, or at=times"
            raise UsageError(name, given=array, allowed=allowed, hint=hint)
        return array
    K = len(at)
    allowed = f"a number, shape ({K},), ({K}, p), or a signal"
    array = finite(name, value, (0, 1, 2), allowed)
    shape = array.shape
    if array.ndim == 1 and not is_weight:
        array = array[None, :] if K == 1 else array[:, None]
    if array.ndim and len(array) != K:
        raise UsageError(name, given=f"shape {shape}", allowed=allowed)
    return array


def _without_missing(target: Any, missing: str) -> tuple[Any, Array | None]:
    """The target with 0 for what is missing, and which values are there; None where all are."""
    if target is None or isinstance(target, Input) or callable(target):
        return target, None
    there: Any = None
    if isinstance(target, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(target)
        there, target = None if not mask.any() else ~mask, np.where(mask, 0.0, real_array("target", target.data))
    if missing == "skip":
        array = real_array("target", target)
        known = ~np.isnan(array)
        if not known.all():
            there = known if there is None else there & known
            target = np.where(known, array, 0.0)
    if there is not None and not there.any():
        raise UsageError("target", given="no value that is not missing", allowed="one observed value at least")
    return target, there


def _names(readout: Any) -> tuple[str, ...]:
    allowed = "a state's name, a list of names, or a Readout"
    if not isinstance(readout, Sequence) or not all(isinstance(name, str) for name in readout):
        raise UsageError("readout", given=readout, allowed=allowed, hint="Readout(V, c)")
    if not readout or len(set(readout)) != len(readout):
        raise UsageError("readout", given=readout, allowed=f"{allowed}, each once")
    return tuple(readout)


def _check_signature(loss: Callable[..., Any], count: int) -> None:
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):
        return  # a builtin says nothing about its arguments
    try:
        signature.bind(*range(count))
    except TypeError:
        allowed = "l(o) where there is no target" if count == 1 else "l(o, y), as there is a target"
        raise UsageError("loss", given=str(signature), allowed=allowed) from None
