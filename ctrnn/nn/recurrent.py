"""Any field as a layer of torch: its states at the end of each input's time.

    dr/dt = F(r, w, x(t)),        r_k = r(t_k),    x(t) held or linear between t_(k−1) and t_k

by fixed steps of an explicit method (ctrnn.nn.recurrence). With one Euler step of dt = τ a network in continuous time
is the discrete one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from ctrnn.errors import UsageError, one_of
from ctrnn.fields.base import Field
from ctrnn.learning.torch_transforms import compiled_already, refuse_transforms
from ctrnn.nn.noise import checked_seed, noisy_inputs
from ctrnn.nn.recurrence import Recurrence
from ctrnn.nn.sequences import Batch, checked_lengths, last, masked, packed_again, unpacked
from ctrnn.noise import WhiteNoise, checked_scale
from ctrnn.numbers import flag, positive, real_array, whole
from ctrnn.solvers import tableaus

#: how the input runs between two values of a sequence
INTERPOLATIONS = ("hold", "linear")


class Recurrent(nn.Module):
    """A field as a recurrent layer, with gradients to its parameters, to the initial states and to the input.

    Parameters
    ----------
    field : Field
        `ctrnn.Equations`, or a network such as `ctrnn.GRUNetwork`; its numbers are where training begins. Of these the
        steps are compiled; those of another one, such as a `ctrnn.TorchField`, are torch's, at torch's speed.
    dt : float
        The step, in the unit of the field's t.
    solver : str, default "rk4"
        "euler", "midpoint", "heun", "rk4" or another explicit method of `ctrnn.simulate`, by steps of dt.
    steps_per_input : int, default 1
        Steps for each input of a sequence.
    interpolation : {"hold", "linear"}, default "hold"
        "hold" keeps each input for its time; "linear" runs to it from the one before, and starts at the first: both are
        causal.
    batch_first : bool, default True
        Whether sequences are (B, T, inputs) or, as is torch's default, (T, B, inputs).
    noise : float, array_like (n,), str or dict, optional
        White noise in the states, dr = F dt + g dW, in training and evaluation alike: g, as the ``scale`` of
        `ctrnn.WhiteNoise`. Only with interpolation="hold". ``layer.noise = None`` runs without.

    Raises
    ------
    UsageError, UnknownNameError
        For what is not allowed, NaN among it.
    DivergenceError
        In the call, where the states become infinite.

    Notes
    -----
    ``layer(x, r0=None, lengths=None, timestamps=None, seed=None)`` takes x as above, (T, inputs) without a batch, or a
    PackedSequence. r0 is (n,), (B, n) or (1, B, n), without a batch (n,) or (1, n); 0 where it is not given.
    ``lengths`` (B,) are the inputs of each trial; states behind them are 0. ``timestamps`` (T,) are the increasing
    times at which the inputs' times end, the first of which begins at 0: each input then lasts ``steps_per_input``
    steps of its own size, and dt is not used.
    ``seed`` is that of the noise, of which trial b takes path b; None takes a new one from torch's generator.
    solver="euler" is then the method of Euler and Maruyama (Itô), the others solve Stratonovich's equation; gradients
    are those of the path, exact for the steps taken.

    It returns the states, shaped as x with n channels (packed where x was), and the last state of each trial: (B, n),
    (n,) without a batch, with r0's first axis where it has that. Parameters carry the field's names, in float64.
    Tensors of any precision are taken; everything is computed in float64, and given back in the dtype of x. On the CPU.
    ``layer.field()`` gives the trained field to everything else in ctrnn.

    Differentiable once by compiled code, a second time (create_graph=True) by torch, at torch's speed.

    Examples
    --------
    >>> import torch, ctrnn
    >>> layer = Recurrent(ctrnn.GRUNetwork(8, inputs=3, seed=0), dt=1.0, solver="euler")
    >>> states, last = layer(torch.zeros(2, 5, 3))
    >>> states.shape, last.shape
    (torch.Size([2, 5, 8]), torch.Size([2, 8]))
    """

    def __init__(
        self,
        field: Field,
        dt: Any = None,
        *,
        solver: str = "rk4",
        steps_per_input: int = 1,
        interpolation: str = "hold",
        batch_first: bool = True,
        noise: Any = None,
    ) -> None:
        super().__init__()
        if not isinstance(field, Field):
            raise UsageError("field", given=field, allowed="a field: Equations, RateNetwork, GRUNetwork …")
        whole("steps_per_input", steps_per_input, 1)
        batch_first = flag("batch_first", batch_first)
        dt = positive("dt", dt, "a positive number, the step in the unit of tau")
        one_of("interpolation", interpolation, INTERPOLATIONS)
        self._field: Any = field
        self.solver = tableaus.get(solver).name
        linear = interpolation == "linear"
        self._recurrence = Recurrence(field.as_rows(), self.solver, float(dt), int(steps_per_input), linear)
        self.input_size, self.hidden_size, self.batch_first = (
            field.input_size,
            field.n,
            batch_first,
        )
        for name, value in field.parameters.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(value)))
        #: g of the noise; None runs without
        self.noise = None
        if noise is not None:
            self.noise, made = checked_scale(noise), WhiteNoise(noise)
            if interpolation != "hold":
                raise UsageError("interpolation", given=interpolation, allowed="'hold', with noise")
            noisy = made.noisy(self._trainable_field()).as_rows()
            self._noisy = replace(self._recurrence, field=noisy, steps=1)

    @compiled_already
    def forward(
        self, x: Any, r0: Any = None, lengths: Any = None, timestamps: Any = None, seed: Any = None
    ) -> tuple[Any, Any]:
        """The states at the end of each input's time, and the last of each trial."""
        refuse_transforms("layer", x, r0, *self.parameters())
        batch, is_alone = self._batch(x, lengths)
        T, B = batch.x.shape[:2]
        start, is_stacked = self._start(r0, B, is_alone)
        h = None if timestamps is None else checked_timestamps(timestamps, T)
        dtype = batch.x.dtype
        states = masked(self._run(batch.x.double(), start, h, self._path(seed)), batch.lengths).to(dtype)
        end = last(states, batch.lengths)
        end = end if is_alone == is_stacked else end[None] if is_stacked else end[0]
        return self._shaped(states, batch, is_alone), end

    def _run(self, x: torch.Tensor, start: torch.Tensor, h: Any, path: tuple[int, int] | None) -> torch.Tensor:
        """States (T, B, n) of x (T, B, inputs), all in float64; path: seed and number of the layer, of noise."""
        if path is not None:
            return self._run_noisy(x, start, self._numbers(), h, path)
        return self._recurrence(x, start, self._numbers(), h)

    def _run_noisy(
        self, x: torch.Tensor, start: torch.Tensor, w: dict[str, torch.Tensor], h: Any, path: tuple[int, int]
    ) -> torch.Tensor:
        how = self._recurrence
        spans = how.intervals(len(x), h).h
        channels = self._noisy.field.input_size - self._field.input_size
        driven = noisy_inputs(x, spans, how.steps, channels, *path)
        return self._noisy(driven, start, w, spans)[how.steps - 1 :: how.steps]

    def _path(self, seed: Any, cell: int = 0) -> tuple[int, int] | None:
        """The seed of the noise and the number of the layer; None without noise."""
        if self.noise is None:
            if seed is not None:
                raise UsageError("seed", given=seed, allowed="None, of a layer without noise", hint="noise=0.1")
            return None
        return checked_seed(seed), cell

    def _trainable_field(self) -> Field:
        """The field whose parameters are all that a run hands over."""
        return self._field  # type: ignore[no-any-return]

    def field(self) -> Field:
        """The field with the numbers that the parameters have now; raises UsageError where it does not allow them."""
        return self._field.with_parameters(
            **{name: p.detach().cpu().double().numpy() for name, p in self._own_parameters().items()}
        )

    def project_(self) -> None:
        """Move the parameters, where they stand, to the nearest ones that the field allows.

        After a step of an optimiser: signs of ``dale``, zeros of masks, positive time constants.
        """
        low, high = (self._field.unflatten(bound) for bound in self._field.bounds)
        with torch.no_grad():
            for name, p in self._own_parameters().items():
                p.clamp_(torch.from_numpy(low[name]).to(p), torch.from_numpy(high[name]).to(p))

    def extra_repr(self) -> str:
        """What print shows between the brackets."""
        how = self._recurrence
        text = f"{self.input_size}, {self.hidden_size}, dt={how.dt:g}, solver={self.solver!r}"
        text += f", steps_per_input={how.steps}" + (", interpolation='linear'" if how.linear else "")
        text += "" if self.noise is None else f", noise={self.noise!r}"
        return text + ("" if self.batch_first else ", batch_first=False")

    # -- arguments

    def _own_parameters(self) -> dict[str, torch.Tensor]:
        """Those of the field, not of layers above it."""
        return {name: getattr(self, name) for name in self._field.parameter_names}

    def _numbers(self) -> dict[str, torch.Tensor]:
        """The parameters in float64, checked."""
        return {name: checked_parameter(name, value) for name, value in self._own_parameters().items()}

    def _batch(self, x: Any, lengths: Any) -> tuple[Batch, bool]:
        """x as (T, B, inputs), and whether it came without a batch."""
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise UsageError("lengths", given=lengths, allowed="None: a packed sequence has its own")
            batch = unpacked(x)
            check_tensor("x", batch.x)
            self._check_channels(batch.x)
            return batch, False
        check_tensor("x", x)
        self._check_channels(x)
        if x.ndim == 2:
            if lengths is not None:
                raise UsageError("lengths", given=lengths, allowed="None, without a batch")
            return Batch(x[:, None], None, None), True
        sequence = x.transpose(0, 1) if self.batch_first else x
        T, B = sequence.shape[:2]
        return Batch(sequence, None if lengths is None else checked_lengths(lengths, T, B), None), False

    def _check_channels(self, x: torch.Tensor) -> None:
        many = "(B, T, {})" if self.batch_first else "(T, B, {})"
        shapes = f"shape {many} or (T, {{}}), T at least 1".replace("{}", str(self.input_size))
        length = x.shape[1 if self.batch_first and x.ndim == 3 else 0] if x.ndim in (2, 3) else 0
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size or length == 0:
            raise UsageError("x", given=f"shape {tuple(x.shape)}", allowed=shapes)

    def _start(self, r0: Any, B: int, is_alone: bool) -> tuple[torch.Tensor, bool]:
        """r0 as (B, n) in float64, and whether it came as (1, B, n), or as (1, n) of one trial."""
        n = self.hidden_size
        if r0 is None:
            return torch.zeros(B, n, dtype=torch.float64), False
        check_tensor("r0", r0)
        allowed = ((n,), (1, n)) if is_alone else ((n,), (B, n), (1, B, n))
        if tuple(r0.shape) not in allowed:
            text = " or ".join(map(str, allowed))
            raise UsageError("r0", given=f"shape {tuple(r0.shape)}", allowed=f"shape {text}")
        is_stacked = r0.ndim == (2 if is_alone else 3)
        return (r0[0] if is_stacked else r0).double().expand(B, n), is_stacked

    def _shaped(self, states: torch.Tensor, batch: Batch, is_alone: bool) -> Any:
        """States (T, B, n) as x came."""
        if batch.packed is not None:
            return packed_again(states, batch)
        if is_alone:
            return states[:, 0]
        return states.transpose(0, 1) if self.batch_first else states


def check_tensor(name: str, value: Any) -> None:
    """Raise UsageError for what is no finite real tensor on the CPU."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        given = f"a tensor of {value.dtype}" if isinstance(value, torch.Tensor) else value
        raise UsageError(name, given=given, allowed="a tensor of real numbers")
    if value.device.type != "cpu":
        raise UsageError(name, given=f"a tensor on {value.device}", allowed="a tensor on the CPU", hint=f"{name}.cpu()")
    if not bool(torch.isfinite(value).all()):
        place = tuple(int(i) for i in (~torch.isfinite(value)).nonzero()[0])
        raise UsageError(name, given=f"{float(value[place])} at {place}", allowed="finite numbers")


def checked_parameter(name: str, value: torch.Tensor) -> torch.Tensor:
    """A parameter in float64; raises UsageError."""
    if value.device.type != "cpu":
        raise UsageError(f"parameter {name!r}", given=f"on {value.device}", allowed="the CPU", hint="layer.cpu()")
    if not bool(torch.isfinite(value).all()):
        raise UsageError(f"parameter {name!r}", given=value.detach().numpy(), allowed="finite numbers")
    return value.double()


def checked_timestamps(timestamps: Any, T: int) -> np.ndarray:
    """The durations (T,) of the inputs, from the increasing times (T,) at which they end; raises UsageError."""
    times = real_array("timestamps", timestamps.detach() if isinstance(timestamps, torch.Tensor) else timestamps)
    if times.shape != (T,) or not np.isfinite(times).all():
        hint = "sequences with times of their own one at a time, as x (T, inputs)" if times.ndim == 2 else ""
        allowed = f"{T} finite times, one an input, for all sequences"
        raise UsageError("timestamps", given=f"shape {times.shape}", allowed=allowed, hint=hint)
    spans = np.diff(times, prepend=0.0)
    if not (spans > 0.0).all():
        k = int(np.argmin(spans > 0.0))
        hint = "each is the end of its input's time, which begins at the one before, the first one's at 0"
        allowed = "increasing times, all positive"
        raise UsageError("timestamps", given=f"{times[k]:g} as number {k}", allowed=allowed, hint=hint)
    return spans
