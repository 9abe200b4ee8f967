"""The objective: what the trajectory should do, and the derivatives of that.

    output       o = r, some of the states, or a read-out o = g(u), u = V r + c
    objective    l = Σ_k a_k ℓ(o(t_k), y_k)          at observation times
                 l = ∫ a(t) ℓ(o(t), y(t)) dt         as an integral

with a target y and a weight a. Every ℓ comes with ∂ℓ/∂o, and what reaches the state is

    ∂ℓ/∂r = ∂ℓ/∂u V      ∂ℓ/∂V_ij = ∂ℓ/∂u_i r_j      ∂ℓ/∂c = ∂ℓ/∂u

What ℓ is by name, and through which g, is said in ctrnn.named_losses; ctrnn.bound_objective binds it to a field.
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

from ctrnn.bound_objective import BoundObjective
from ctrnn.errors import UsageError, one_of
from ctrnn.inputs import Input, as_input
from ctrnn.inputs.checks import finite
from ctrnn.losses import Loss, Readout
from ctrnn.named_losses import LOSSES, NamedLoss
from ctrnn.names import as_call, labels
from ctrnn.numbers import real_array

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
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
    #: the names of the target's columns, where it is a table that has some
    _columns: tuple[str, ...] = data(default=(), init=False, repr=False)
    #: which values of the target are there, where some are missing
    _is_there: Array | None = data(default=None, init=False, repr=False)

    __repr__ = as_call

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
        object.__setattr__(self, "_columns", labels(self.target))
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
    array = finite(name, value, (0, 1, 2), allowed, "" if is_weight else 'missing="skip" leaves missing values out')
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
