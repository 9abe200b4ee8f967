"""Layers of units in continuous time, in the manner of ``torch.nn.RNN``, ``GRU`` and ``LSTM``.

    CTRNN     form "state"   τ dr/dt = −r + W φ(r) + U x + b
              form "rate"    τ dr/dt = −r + φ(W r + U x + b)
    CTGRU     τ dh/dt = (1 − z) ∘ (u − h)
    CTLSTM    τ dc/dt = −c + c̃,   τ dh/dt = −h + o ∘ tanh(c̃)
    LTC       dh/dt = −(1/τ + f) ∘ h + f ∘ A

One Euler step of dt = τ of CTRNN's form "rate", of CTGRU and of CTLSTM is torch's own layer. CTRNN's exponential Euler,
r⁺ = r + h φ₁(−h/τ) F with φ₁(z) = (e^z − 1)/z, is Euler's method with another time constant, h/(1 − e^{−h/τ}): so it is
computed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ctrnn.errors import UsageError
from ctrnn.fields.base import Field
from ctrnn.fields.networks.gated import GRUNetwork, LSTMNetwork
from ctrnn.fields.networks.liquid import LiquidNetwork
from ctrnn.fields.networks.rate import RateNetwork
from ctrnn.nn.layer import Layer
from ctrnn.nn.recurrent import check_tensor, checked_parameter
from ctrnn.solvers import tableaus


class CTRNN(Layer, activation="tanh", form="state", gain=1.0, mask=None, dale=None, rank=None):
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
    activation, form, gain, mask, dale, rank
        As of `ctrnn.RateNetwork`, whose random W (of a given rank, M and N) and U these are too; b starts at 0.
        ``layer.project_()``, after a step of an optimiser, keeps the signs of dale.
    steps_per_input : int, default 1
        Steps for each input of a sequence.
    interpolation : {"hold", "linear"}, default "hold"
        "hold" keeps each input for its time; "linear" runs to it from the one before, and starts at the first: both are
        causal.
    train_tau : bool, default False
        Makes tau a parameter; it must stay positive.
    batch_first : bool, default True
        Whether sequences are (B, T, input_size) or, as is torch's default, (T, B, input_size).
    num_layers, bidirectional, dropout
        As of torch.nn.RNN.
    seed : int, optional
        Of W and U; without it one is taken from torch's generator (torch.manual_seed).
    noise : float, array_like (n,), str or dict, optional
        White noise in the states, as of `ctrnn.nn.Recurrent`; of each layer and direction its own.

    Raises
    ------
    UsageError, UnknownNameError
        For what is not allowed, NaN among it.
    DivergenceError
        In the call, where the states become infinite.

    Notes
    -----
    ``layer(x, r0=None, lengths=None, timestamps=None, seed=None)`` takes x as above, (T, input_size) without a batch,
    or a PackedSequence, and r0 (n,), (B, n) or (1, B, n), 0 where it is not given; with several layers or directions r0
    is (layers · directions, B, n). It returns the states, shaped as x with n channels, and the last of them, (B, n) or
    (n,) (with the first axis of r0, where that has one). Parameters are ``W`` (n, n), ``U`` (n, input_size), ``b`` (n,)
    and, when trained, ``tau`` (else a buffer), in float64, those of other layers and directions in ``layer.others``.
    Tensors of any precision are taken; everything is computed in float64, and given back in the dtype of x. On the CPU.
    ``layer.field()`` gives the trained network to everything else in ctrnn. ``lengths`` and ``timestamps`` are those of
    `ctrnn.nn.Recurrent`, and so is ``seed``, of the noise.

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
    torch_name = "RNN"

    def __init__(
        self, input_size: int, hidden_size: int, dt: Any = None, *, solver: str = "rk4", **options: Any
    ) -> None:
        tableau = tableaus.get(solver)
        if tableau.exponential and options.get("noise") is not None:
            raise UsageError("solver", given=tableau.name, allowed="'euler', 'heun', 'rk4' …, with noise")
        steps = "euler" if tableau.exponential else tableau.name
        super().__init__(input_size, hidden_size, dt, solver=steps, **options)
        self._is_exponential, self.solver = tableau.exponential, tableau.name
        others: Any = self.others
        for cell in others:
            cell._is_exponential, cell.solver = tableau.exponential, tableau.name
        if not self._field.train_tau:
            self.register_buffer("tau", torch.tensor(self._field.tau))

    @classmethod
    def _make(cls, inputs: int, n: int, **options: Any) -> Field:
        network: Field = RateNetwork(n, inputs=inputs, **options)
        return network

    def _trainable_field(self) -> Field:
        # tau, trained or not, is a tensor
        f = self._field
        if f.train_tau:
            return f  # type: ignore[no-any-return]
        options = {"form": f.form, "rank": f.rank, "seed": 0, "train_tau": True}
        twin = RateNetwork(f.n, f.input_size, f.tau, f.activation, **options)
        return twin.with_parameters(**f.parameters)

    def _run(self, x: torch.Tensor, start: torch.Tensor, spans: Any, path: tuple[int, int] | None) -> torch.Tensor:
        w, how = self._numbers(), self._recurrence
        tau = w["tau"] if "tau" in w else checked_parameter("tau", self.tau)
        if not bool((tau > 0).all()):
            allowed, hint = "positive numbers", "clamp tau after each step"
            raise UsageError("tau", given=tau.detach().numpy(), allowed=allowed, hint=hint)
        if self._is_exponential:
            if spans is not None:
                raise UsageError("timestamps", given="with exponential-euler", allowed="solver='euler', 'rk4' …")
            tau = how.dt / -torch.expm1(-how.dt / tau)
        if path is not None:
            return self._run_noisy(x, start, w | {"tau": tau}, spans, path)
        if "tau" in w:
            return how(x, start, w | {"tau": tau}, spans)
        return replace(how, field=self._field.with_time_constant(tau.detach().numpy()))(x, start, w, spans)

    def field(self) -> RateNetwork:
        """The network with the numbers that the parameters have now; raises UsageError where it does not allow them."""
        found: RateNetwork = super().field()  # type: ignore[assignment]
        return found if found.train_tau else found.with_time_constant(self.tau.double().numpy())

    def extra_repr(self) -> str:
        """What print shows between the brackets."""
        its = f"activation={self._field.activation!r}, form={self._field.form!r}, steps_per_input"
        return super().extra_repr().replace("steps_per_input", its, 1)

    @classmethod
    def _torch_options(cls, module: Any) -> dict[str, Any]:
        return {"form": "rate", "activation": module.nonlinearity}


class CTGRU(Layer, reset="after", masks=None):
    """A layer of gated recurrent units in continuous time, `ctrnn.GRUNetwork`.

    Parameters
    ----------
    input_size, hidden_size, dt, tau, solver, steps_per_input, interpolation, train_tau, batch_first, seed, noise
        As of `CTRNN`, but for the solver "exponential-euler", which it does not take.
    num_layers, bidirectional, dropout
        As of torch.nn.GRU.
    reset, masks
        As of `ctrnn.GRUNetwork`.

    Raises
    ------
    UsageError, UnknownNameError, DivergenceError
        As `CTRNN` does.

    Notes
    -----
    Called as `CTRNN`. Parameters are those of `ctrnn.GRUNetwork`. With dt = tau and solver="euler" it is torch.nn.GRU,
    whose numbers ``CTGRU.from_torch(module)`` takes over.

    Examples
    --------
    >>> import torch
    >>> module = torch.nn.GRU(3, 8, num_layers=2, bidirectional=True, dtype=torch.float64)
    >>> x = torch.randn(5, 4, 3, dtype=torch.float64)
    >>> bool((CTGRU.from_torch(module)(x)[0] - module(x)[0]).abs().max() < 1e-12)
    True
    """

    torch_name = "GRU"

    @classmethod
    def _make(cls, inputs: int, n: int, **options: Any) -> GRUNetwork:
        return GRUNetwork(n, inputs, **options)


class CTLSTM(Layer, masks=None):
    """A layer of long short-term memory in continuous time, `ctrnn.LSTMNetwork`.

    Parameters
    ----------
    input_size, hidden_size, dt, tau, solver, steps_per_input, interpolation, train_tau, batch_first, seed, noise
        As of `CTRNN`, but for the solver "exponential-euler", which it does not take.
    num_layers, bidirectional, dropout
        As of torch.nn.LSTM.
    masks : dict, optional
        As of `ctrnn.LSTMNetwork`.

    Raises
    ------
    UsageError, UnknownNameError, DivergenceError
        As `CTRNN` does.

    Notes
    -----
    Called as `CTRNN`, but that r0 is a pair (h0, c0) and the last states are a pair (h, c), as of torch.nn.LSTM; the
    states are h. Parameters are those of `ctrnn.LSTMNetwork`. With dt = tau and solver="euler" it is torch.nn.LSTM,
    whose numbers ``CTLSTM.from_torch(module)`` takes over.

    Examples
    --------
    >>> import torch
    >>> states, (h, c) = CTLSTM(3, 8, dt=0.1, seed=0)(torch.zeros(2, 5, 3))
    >>> states.shape, h.shape, c.shape
    (torch.Size([2, 5, 8]), torch.Size([2, 8]), torch.Size([2, 8]))
    """

    torch_name = "LSTM"

    @classmethod
    def _make(cls, inputs: int, n: int, **options: Any) -> LSTMNetwork:
        return LSTMNetwork(n, inputs, **options)

    def _starts(self, r0: Any, B: int, is_alone: bool) -> tuple[torch.Tensor, bool]:
        if r0 is None:
            return super()._starts(None, B, is_alone)
        if not isinstance(r0, tuple | list) or len(r0) != 2:
            raise UsageError("r0", given=type(r0).__name__, allowed="a pair (h0, c0)")
        for name, part in zip(("h0", "c0"), r0, strict=True):
            check_tensor(name, part)
            if part.shape != r0[0].shape or part.shape[-1] != self.hidden_size:
                allowed = f"h0 and c0 of one shape, {self.hidden_size} units each"
                raise UsageError(name, given=f"shape {tuple(part.shape)}", allowed=allowed)
        return super()._starts(torch.cat(tuple(r0), dim=-1), B, is_alone)

    def _ended(self, end: torch.Tensor) -> Any:
        return end[..., : self.hidden_size], end[..., self.hidden_size :]


class LTC(Layer, activation="sigmoid", gain=1.0, masks=None, dale=None):
    """A layer of liquid time-constant units, `ctrnn.LiquidNetwork`.

    Parameters
    ----------
    input_size, hidden_size, dt, tau, solver, steps_per_input, interpolation, train_tau, batch_first, seed, noise
        As of `CTRNN`, but for the solver "exponential-euler", which it does not take.
    num_layers, bidirectional, dropout
        As of torch.nn.RNN.
    activation, gain, masks, dale
        As of `ctrnn.LiquidNetwork`.

    Raises
    ------
    UsageError, UnknownNameError, DivergenceError
        As `CTRNN` does.

    Notes
    -----
    Called as `CTRNN`. Parameters are those of `ctrnn.LiquidNetwork`.

    Examples
    --------
    >>> import torch
    >>> LTC(3, 8, dt=0.1, seed=0)(torch.zeros(2, 5, 3))[0].shape
    torch.Size([2, 5, 8])
    """

    @classmethod
    def _make(cls, inputs: int, n: int, **options: Any) -> LiquidNetwork:
        return LiquidNetwork(n, inputs, **options)
