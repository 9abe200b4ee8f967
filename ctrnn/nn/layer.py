"""A layer of rate units in continuous time, in the manner of ``torch.nn.RNN``.

    form "state":  τ dr/dt = −r + W φ(r) + U x(t) + b            form "rate":  τ dr/dt = −r + φ(W r + U x(t) + b)

Each input of a sequence lasts ``steps_per_input`` steps of dt; the layer gives r at the end of each. With one Euler
step of dt = τ the form "rate" is r⁺ = φ(W r + U x + b), which is torch.nn.RNN. Exponential Euler, r⁺ = r + h φ₁(−h/τ) F
with φ₁(z) = (e^z − 1)/z, is Euler's method with another time constant, h/(1 − e^{−h/τ}): so it is computed here.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.fields.network import RateNetwork
from ctrnn.nn.recurrence import Recurrence
from ctrnn.solvers import tableaus

#: how the input runs between two values of a sequence
INTERPOLATIONS = ("hold", "linear")


class CTRNN(nn.Module):
    """A layer of rate units, with gradients to its weights, to its initial states and to its input.

    Parameters
    ----------
    input_size : int
        Channels of the input.
    hidden_size : int
        Number of units n.
    dt : float
        The step, in the unit of tau.
    tau : float or array_like (n,), default 1
        Time constant, a number or one a unit.
    solver : str, default "rk4"
        "euler", "exponential-euler", "midpoint", "heun", "rk4" or another explicit method of `ctrnn.simulate`, by steps
        of dt.
    activation, form, gain
        As of `ctrnn.RateNetwork`, whose random W and U these are too; b starts at 0.
    steps_per_input : int, default 1
        Steps for each input of a sequence.
    interpolation : {"hold", "linear"}, default "hold"
        "hold" keeps each input for its time; "linear" runs to it from the one before, and starts at the first: both are
        causal.
    train_tau : bool, default False
        Makes tau a parameter; it must stay positive.
    batch_first : bool, default True
        Whether sequences are (B, T, input_size) or, as is torch's default, (T, B, input_size).
    seed : int, optional
        Of W and U; without it one is taken from torch's generator (torch.manual_seed).

    Raises
    ------
    UsageError, UnknownNameError
        For what is not allowed, NaN among it.
    DivergenceError
        In the call, where the states become infinite.

    Notes
    -----
    ``layer(x, r0=None)`` takes x as above, or (T, input_size) without a batch, and r0 (n,) or (B, n), 0 where it is not
    given. It returns the states, shaped as x with n channels, and the last of them, (B, n) or (n,). Parameters are
    ``W`` (n, n), ``U`` (n, input_size), ``b`` (n,) and, when trained, ``tau`` (else a buffer), in float64. Tensors of
    any precision are taken; everything is computed in float64, and given back in the dtype of x. On the CPU.
    ``layer.field()`` gives the trained network to everything else in ctrnn.

    Differentiable once by compiled code, a second time (create_graph=True) by torch, at torch's speed. Until backward
    has run, 8 bytes a unit, stage, step and trial are kept, twice as many for the form "rate" or a trained tau.

    Examples
    --------
    >>> import torch
    >>> layer, readout = CTRNN(2, 16, dt=0.1, tau=0.5, steps_per_input=2, seed=0), torch.nn.Linear(16, 1)
    >>> optimizer = torch.optim.Adam([*layer.parameters(), *readout.parameters()], lr=0.01)
    >>> x = torch.randn(8, 20, 2, generator=torch.Generator().manual_seed(0))
    >>> losses = []
    >>> for _ in range(20):
    ...     states, last = layer(x)
    ...     loss = (readout(last).squeeze() - x[:, :, 0].mean(dim=1)).square().mean()
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    ...     losses.append(loss.item())
    >>> losses[-1] < losses[0] / 2
    True
    """

    W: nn.Parameter
    U: nn.Parameter
    b: nn.Parameter
    tau: torch.Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        dt: Any = None,
        tau: Any = 1.0,
        solver: str = "rk4",
        activation: str = "tanh",
        form: str = "state",
        gain: float = 1.0,
        steps_per_input: int = 1,
        interpolation: str = "hold",
        train_tau: bool = False,
        batch_first: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        _check_count("input_size", input_size, 0)
        _check_count("hidden_size", hidden_size, 1)
        _check_count("steps_per_input", steps_per_input, 1)
        if isinstance(dt, bool) or not isinstance(dt, (int, float)) or not 0.0 < dt < math.inf:
            raise UsageError("dt", given=dt, allowed="a positive number, the step in the unit of tau", hint="dt=0.1")
        if interpolation not in INTERPOLATIONS:
            raise UnknownNameError("interpolation", interpolation, INTERPOLATIONS)
        if isinstance(tau, torch.Tensor):
            tau = tau.detach().cpu().numpy()
        if seed is None:
            seed = int(torch.randint(2**62, ()))
        named = {"tau": tau, "activation": activation, "gain": gain, "seed": seed, "form": form}
        self._field = RateNetwork(hidden_size, inputs=input_size, train_tau=train_tau, **named)
        self.solver = tableaus.get(solver).name
        self._recurrence = Recurrence(
            self._field.cell, self.solver, float(dt), int(steps_per_input), interpolation == "linear"
        )
        self.input_size, self.hidden_size, self.batch_first = int(input_size), int(hidden_size), bool(batch_first)
        for name, value in self._field.parameters.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(value)))
        if not train_tau:
            self.register_buffer("tau", torch.tensor(self._field.tau))

    def forward(self, x: torch.Tensor, r0: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The states at the end of each input's time, and the last of them."""
        sequence, start = self._checked(x, r0)
        W, U, b, tau = self._numbers()
        if self.solver == "exponential-euler":
            tau = self._recurrence.dt / -torch.expm1(-self._recurrence.dt / tau)
        states = self._recurrence(sequence, start, W, U, b, tau.expand(self.hidden_size)).to(x.dtype)
        last = states[-1]
        if x.ndim == 2:
            return states[:, 0], last[0]
        return (states.transpose(0, 1) if self.batch_first else states), last

    def field(self) -> RateNetwork:
        """The network with the numbers that the parameters have now; raises UsageError where it does not allow them."""
        named = {name: p.detach().cpu().double().numpy() for name, p in self.named_parameters()}
        if "tau" in named:
            return self._field.with_parameters(**named)
        return RateNetwork(
            self.hidden_size,
            self.input_size,
            self.tau.double().numpy(),
            self._field.activation,
            form=self._field.form,
        ).with_parameters(**named)

    def extra_repr(self) -> str:
        """What print shows between the brackets."""
        how = self._recurrence
        text = f"{self.input_size}, {self.hidden_size}, dt={how.dt:g}, solver={self.solver!r}"
        text += f", activation={self._field.activation!r}, form={self._field.form!r}, steps_per_input={how.steps}"
        text += ", interpolation='linear'" if how.linear else ""
        return text + ("" if self.batch_first else ", batch_first=False")

    def _numbers(self) -> tuple[torch.Tensor, ...]:
        """W, U, b and tau in float64, checked."""
        found = []
        for name in ("W", "U", "b", "tau"):
            value = getattr(self, name)
            if value.device.type != "cpu":
                raise UsageError(
                    f"parameter {name!r}", given=f"on {value.device}", allowed="the CPU", hint="layer.cpu()"
                )
            if not bool(torch.isfinite(value).all()):
                raise UsageError(f"parameter {name!r}", given=value.detach().numpy(), allowed="finite numbers")
            found.append(value.double())
        if not bool((found[-1] > 0).all()):
            raise UsageError(
                "tau", given=found[-1].detach().numpy(), allowed="positive numbers", hint="clamp tau after each step"
            )
        return tuple(found)

    def _checked(self, x: Any, r0: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """x as (T, B, input_size) and r0 as (B, n), in float64."""
        _check_tensor("x", x)
        many = "(B, T, {})" if self.batch_first else "(T, B, {})"
        shapes = f"shape {many} or (T, {{}}), T and B at least 1".replace("{}", str(self.input_size))
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size or 0 in x.shape[:-1]:
            raise UsageError("x", given=f"shape {tuple(x.shape)}", allowed=shapes)
        sequence = x.double()
        if x.ndim == 2:
            sequence = sequence[:, None]
        elif self.batch_first:
            sequence = sequence.transpose(0, 1)
        B, n = sequence.shape[1], self.hidden_size
        if r0 is None:
            return sequence, torch.zeros(B, n, dtype=torch.float64)
        _check_tensor("r0", r0)
        if tuple(r0.shape) not in ((n,), (B, n)) or (x.ndim == 2 and r0.ndim == 2):
            allowed = f"shape ({n},)" if x.ndim == 2 else f"shape ({n},) or ({B}, {n})"
            raise UsageError("r0", given=f"shape {tuple(r0.shape)}", allowed=allowed)
        return sequence, r0.double().expand(B, n)


def _check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(name, given=value, allowed=f"a whole number, at least {least}")


def _check_tensor(name: str, value: Any) -> None:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        given = f"a tensor of {value.dtype}" if isinstance(value, torch.Tensor) else value
        raise UsageError(name, given=given, allowed="a tensor of real numbers")
    if value.device.type != "cpu":
        raise UsageError(name, given=f"a tensor on {value.device}", allowed="a tensor on the CPU", hint=f"{name}.cpu()")
    if not bool(torch.isfinite(value).all()):
        place = tuple(int(i) for i in (~torch.isfinite(value)).nonzero()[0])
        raise UsageError(name, given=f"{float(value[place])} at {place}", allowed="finite numbers")
