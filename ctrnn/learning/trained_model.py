"""A field with its read-out as a function of sequences, on tensors that torch's optimisers step.

    r_k = Φ(r_{k−1}, x_k),    u_k = V r_k + c,    o_k = g(u_k)

Φ are fixed steps over the time of one input (ctrnn.nn.recurrence), compiled with their exact gradient. Dropout, of the
same units at all times (Y. Gal and Z. Ghahramani, NIPS 2016; note 002): m_i = 1/(1 − p) with probability 1 − p, else 0;

    of inputs, for each trial:      x_k ∘ m
    of recurrent weights:           W diag(m): unit j sends W_ij m_j, for all trials of a minibatch
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ctrnn.errors import UnknownNameError, UsageError, one_of
from ctrnn.fields.base import Array, Field
from ctrnn.learning.closed_loop import ClosedLoop
from ctrnn.learning.output_loss import outputs
from ctrnn.losses import Readout
from ctrnn.names import position
from ctrnn.nn.recurrence import Recurrence
from ctrnn.numbers import number
from ctrnn.threads import one_torch_thread


@dataclass(frozen=True)
class Form:
    """What of a model is no number: the field's steps, the kind of read-out, and how outputs come back.

    Attributes
    ----------
    field : Field
        The field, with the numbers that training began with.
    recurrence : Recurrence
        Its steps, of the same equations in the form of many rows where they have it.
    activation : str
        g; "" without a read-out, where the outputs are the states ``selection``.
    selection : tuple of int
        States that are outputs, where there is no read-out.
    channels : tuple of int
        Input channel of each output, where outputs come back; empty where they do not.
    warmup : int
        First time whose input may be the model's own output.
    free : bool
        Whether it is validated on its own outputs, from there on.
    """

    field: Field
    recurrence: Recurrence
    activation: str
    selection: tuple[int, ...]
    channels: tuple[int, ...]
    warmup: int
    free: bool

    def describe(self) -> dict[str, Any]:
        """All of it as plain values, to be compared and stored."""
        how = self.recurrence
        return {
            "field": type(self.field).__name__,
            "parameters": {name: list(np.shape(v)) for name, v in self.field.parameters.items()},
            "states": list(self.field.state_names),
            "inputs": self.field.input_size,
            "solver": how.solver,
            "dt": how.dt,
            "steps_per_input": how.steps,
            "interpolation": "linear" if how.linear else "hold",
            "activation": self.activation,
            "selection": list(self.selection),
            "channels": list(self.channels),
            "warmup": self.warmup,
            "free": self.free,
        }


class Model:
    """The tensors of a model, by name, and its outputs.

    ``numbers``: the field's parameters under their own names, "readout.V", "readout.c" and "r0".
    """

    def __init__(self, form: Form, readout: Readout | None, r0: Array, trained: Sequence[str]) -> None:
        self.form = form
        arrays = dict(form.field.parameters)
        if readout is not None:
            arrays |= {"readout.V": readout.V, "readout.c": readout.c}
        arrays["r0"] = r0
        self.numbers = {name: torch.tensor(np.array(value, dtype=float)) for name, value in arrays.items()}
        for name in trained:
            self.numbers[name].requires_grad_()
        self.trained = tuple(trained)
        low, high = (form.field.unflatten(v) for v in form.field.bounds)
        bounded = {k for k in low if k in trained and (np.isfinite(low[k]).any() or np.isfinite(high[k]).any())}
        self._bounds = {k: (torch.tensor(low[k]), torch.tensor(high[k])) for k in bounded}

    @property
    def parameters(self) -> list[torch.Tensor]:
        """The tensors that are trained."""
        return [self.numbers[name] for name in self.trained]

    @property
    def readout(self) -> Readout | None:
        """The read-out with its present numbers."""
        if not self.form.activation:
            return None
        V, c = (self.numbers[f"readout.{k}"].detach().numpy().copy() for k in "Vc")
        return Readout(V, c, self.form.activation)

    def field(self) -> Field:
        """The field with its present numbers."""
        names = self.form.field.parameter_names
        return self.form.field.with_parameters(**{k: self.numbers[k].detach().numpy().copy() for k in names})

    def state(self) -> dict[str, torch.Tensor]:
        """Copies of all numbers."""
        return {name: value.detach().clone() for name, value in self.numbers.items()}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take these numbers."""
        with torch.no_grad():
            for name, value in state.items():
                self.numbers[name].copy_(value)

    def project(self) -> None:
        """Bring what an optimiser moved back into the field's bounds: signs, masks, time constants above 0."""
        with torch.no_grad():
            for name, (low, high) in self._bounds.items():
                self.numbers[name].clamp_(low, high)

    def __call__(
        self, x: torch.Tensor, own: Array | None = None, masks: Mapping[str, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """u (T, B, p) of inputs x (T, B, inputs).

        own (T,): whether an input is the model's own output; masks: of the inputs "x" (B, inputs), and of columns of
        parameters by name (columns,)
        """
        form, masks, B = self.form, masks or {}, x.shape[1]
        w = {name: self.numbers[name] for name in form.field.parameter_names}
        for name, mask in masks.items():
            if name == "x":
                x = x * mask
            else:
                w[name] = w[name] * mask
        r0 = self.numbers["r0"].expand(B, -1)
        if own is not None and own.any():
            loop = ClosedLoop(form.recurrence, np.array(form.channels), form.activation or "linear")
            V, c = self._linear()
            return loop(x, r0, w, V, c, np.repeat(own[:, None], B, axis=1)) @ V.T + c
        states = form.recurrence(x, r0, w)
        if not form.activation:
            return states[..., list(form.selection)]
        return states @ self.numbers["readout.V"].T + self.numbers["readout.c"]

    def _linear(self) -> tuple[torch.Tensor, torch.Tensor]:
        """V and c; of states that are outputs themselves, rows of the identity."""
        if self.form.activation:
            return self.numbers["readout.V"], self.numbers["readout.c"]
        V = torch.eye(self.form.field.n, dtype=torch.float64)[list(self.form.selection)]
        return V, torch.zeros(len(V), dtype=torch.float64)

    def outputs(self, x: Array, own: Array | None = None) -> Array:
        """o (T, B, p) of inputs x (T, B, inputs), without gradients."""
        with one_torch_thread, torch.no_grad():
            u = self(torch.tensor(x, dtype=torch.float64), own)
            return np.asarray(outputs(u, self.form.activation or "linear").numpy())


def checked_readout(field: Field, readout: Any, p: int) -> tuple[Readout | None, tuple[int, ...]]:
    """The read-out, or the numbers of the states that are outputs; raises UsageError where there are not p of them."""
    if isinstance(readout, Readout):
        if readout.V.shape != (p, field.n):
            given = f"{len(readout.V)} outputs of {readout.V.shape[1]} states"
            raise UsageError("readout", given=given, allowed=f"{p} of {field.n}: those of the targets, of the field")
        return readout, ()
    names = list(field.state_names) if readout is None else [readout] if isinstance(readout, str) else readout
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UsageError("readout", given=readout, allowed="a ctrnn.Readout, names of states, or None for all of them")
    for name in names:
        if name not in field.state_names:
            raise UnknownNameError("readout", name, field.state_names)
    if len(names) != p:
        hint = f"readout=ctrnn.Readout(V, c) with V of shape ({p}, {field.n})"
        raise UsageError("readout", given=f"{len(names)} states", allowed=f"{p} outputs, as the targets", hint=hint)
    return None, tuple(field.state_names.index(name) for name in names)


def checked_feedback(field: Field, feedback: Any, p: int) -> tuple[int, ...]:
    """The input channel of each output; empty where nothing comes back."""
    if feedback is None or feedback is False:
        return ()
    size = field.input_size
    allowed = f"True, where there are as many inputs as outputs ({p}), or an input channel for each output"
    if feedback is True:
        if size != p:
            raise UsageError("feedback", given=f"True with {size} inputs", allowed=allowed)
        return tuple(range(p))
    several = feedback if isinstance(feedback, (list, tuple)) else [feedback]
    channels = [position("feedback", one, field.input_names) for one in several]
    if len(channels) != p or len(set(channels)) != p:
        raise UsageError("feedback", given=feedback, allowed=allowed)
    return tuple(channels)


def checked_dropout(field: Field, dropout: Any) -> dict[str, float]:
    """Probability by what it is of: "x" for the inputs, or a matrix of parameters whose columns are dropped."""
    if dropout is None:
        return {}
    allowed = '{"x": p of the inputs, "W": p of the columns of a matrix}, each at least 0 and less than 1'
    if not isinstance(dropout, Mapping):
        raise UsageError("dropout", given=dropout, allowed=allowed)
    matrices = [name for name, value in field.parameters.items() if np.ndim(value) == 2]
    for name in dropout:
        one_of("dropout", name, ["x", *matrices])
    allowed = "a probability, at least 0 and less than 1"
    found = {name: number(f"dropout[{name!r}]", p, allowed, 0.0, 1.0) for name, p in dropout.items()}
    return {name: p for name, p in found.items() if p}


def drawn_masks(
    form: Form, dropout: Mapping[str, float], B: int, generator: np.random.Generator
) -> dict[str, torch.Tensor]:
    """The masks of one minibatch of B trials."""
    masks = {}
    for name, p in dropout.items():
        shape = (B, form.field.input_size) if name == "x" else (np.shape(form.field.parameters[name])[1],)
        masks[name] = torch.from_numpy((generator.random(shape) >= p) / (1.0 - p))
    return masks
