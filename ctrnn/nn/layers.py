"""Layers of units in continuous time, in the manner of ``torch.nn.RNN``, ``GRU`` and ``LSTM``: stacked, in both directions.

    CTRNN     form "state":  τ dr/dt = −r + W φ(r) + U x + b        form "rate":  τ dr/dt = −r + φ(W r + U x + b)
    CTGRU     τ dh/dt = (1 − z) ∘ (u − h)                           CTLSTM        τ dc/dt = −c + c̃, τ dh/dt = −h + o ∘ tanh(c̃)
    LTC       dh/dt = −(1/τ + f) ∘ h + f ∘ A

One Euler step of dt = τ of CTRNN's form "rate", of CTGRU and of CTLSTM is torch's own layer. CTRNN's exponential Euler,
r⁺ = r + h φ₁(−h/τ) F with φ₁(z) = (e^z − 1)/z, is Euler's method with another time constant, h/(1 − e^{−h/τ}): so it is
computed.
"""  # noqa: E501

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ctrnn.errors import UsageError
from ctrnn.fields.base import Field
from ctrnn.fields.networks.gated import GRUNetwork, LSTMNetwork
from ctrnn.fields.networks.liquid import LiquidNetwork
from ctrnn.fields.networks.rate import RateNetwork
from ctrnn.learning.torch_transforms import compiled_already, refuse_transforms
from ctrnn.memory import claim
from ctrnn.nn.recurrent import (
    Recurrent,
    check_tensor,
    checked_parameter,
    checked_timestamps,
)
from ctrnn.nn.sequences import last, masked, turned
from ctrnn.numbers import flag, number, whole
from ctrnn.solvers import tableaus


class Layer(Recurrent):
    """A layer of units; subclasses say of which. See `CTRNN` for the arguments."""

    #: the module of torch that an Euler step of dt = tau is, where there is one
    torch_name = ""

    def __init_subclass__(cls, **own: Any) -> None:
        """The signature that help and editors show: a layer's arguments, and ``own`` ones of the class."""
        super().__init_subclass__()
        common = [p for p in inspect.signature(Layer.__init__).parameters.values() if p.kind is not p.VAR_KEYWORD][1:]
        more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in own.items()]
        cls.__signature__ = inspect.Signature([*common, *more])  # type: ignore[attr-defined]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        dt: Any = None,
        *,
        tau: Any = 1.0,
        solver: str = "rk4",
        steps_per_input: int = 1,
        interpolation: str = "hold",
        train_tau: bool = False,
        batch_first: bool = True,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        seed: int | None = None,
        noise: Any = None,
        **options: Any,
    ) -> None:
        whole("input_size", input_size, 0)
        whole("hidden_size", hidden_size, 1)
        claim("num_layers", 2e4 * whole("num_layers", num_layers, 1))  # of each a field, and its tensors
        dropout = number("dropout", dropout, "a probability, at least 0 and less than 1", 0.0, 1.0)
        bidirectional = flag("bidirectional", bidirectional)
        if seed is None:
            seed = int(torch.randint(2**62, ()))
        if isinstance(tau, torch.Tensor):
            tau = tau.detach().cpu().numpy()
        network = {"tau": tau, "train_tau": train_tau, **options}
        steps = {"dt": dt, "solver": solver, "steps_per_input": steps_per_input, "interpolation": interpolation}
        steps["noise"] = noise
        super().__init__(self._make(input_size, hidden_size, seed=seed, **network), batch_first=batch_first, **steps)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.num_layers, self.bidirectional, self.dropout = num_layers, bidirectional, dropout
        directions = 2 if bidirectional else 1
        #: the other directions and layers, in torch's order; the first is this module itself
        self.others = nn.ModuleList()
        for k in range(1, num_layers * directions):
            inputs = input_size if k < directions else hidden_size * directions
            self.others.append(type(self)(inputs, hidden_size, seed=seed + k, **network, **steps))

    @classmethod
    def _make(cls, inputs: int, n: int, **options: Any) -> Field:
        """The field of a layer."""
        raise NotImplementedError

    @property
    def cells(self) -> list[Layer]:
        """The layer of each direction and level, in torch's order."""
        return [self, *self.others]

    @compiled_already
    def forward(
        self, x: Any, r0: Any = None, lengths: Any = None, timestamps: Any = None, seed: Any = None
    ) -> tuple[Any, Any]:
        """The states at the end of each input's time, of the last layer; and the last states."""
        refuse_transforms("layer", x, r0, *self.parameters())
        path = self._path(seed)
        batch, is_alone = self._batch(x, lengths)
        T, B = batch.x.shape[:2]
        cells, directions = self.cells, 2 if self.bidirectional else 1
        starts, is_stacked = self._starts(r0, B, is_alone)
        spans = None if timestamps is None else checked_timestamps(timestamps, T)
        values, ends = batch.x.double(), []
        for level in range(self.num_layers):
            if level and self.dropout and self.training:
                values = nn.functional.dropout(values, self.dropout)
            outputs = []
            for d in range(directions):
                k = level * directions + d
                way = turned(values, batch.lengths) if d else values
                its = spans if d == 0 or spans is None else spans[::-1].copy()
                states = cells[k]._run(way, starts[k], its, None if path is None else (path[0], k))
                ends.append(last(states, batch.lengths))
                out = masked(states[..., : self.hidden_size], batch.lengths)
                outputs.append(turned(out, batch.lengths) if d else out)
            values = torch.cat(outputs, dim=-1) if d else outputs[0]
        dtype = batch.x.dtype
        end = torch.stack(ends).to(dtype)
        if len(cells) == 1 and not is_stacked:
            end = end[0]
        return self._shaped(values.to(dtype), batch, is_alone), self._ended(end.squeeze(-2) if is_alone else end)

    def project_(self) -> None:
        """Move the parameters of all layers and directions to the nearest ones that their fields allow."""
        super().project_()
        others: Any = self.others
        for cell in others:
            cell.project_()

    def _starts(self, r0: Any, B: int, is_alone: bool) -> tuple[torch.Tensor, bool]:
        """The initial states (cells, B, states) in float64, and whether they came with that first axis."""
        count, n = len(self.cells), self._field.n
        if r0 is None:
            return torch.zeros(count, B, n, dtype=torch.float64), False
        check_tensor("r0", r0)
        shapes: list[tuple[int, ...]] = [(count, n)] if is_alone else [(count, B, n)]
        if count == 1:
            shapes = [(n,), (1, n)] if is_alone else [(n,), (B, n), (1, B, n)]
        if tuple(r0.shape) not in shapes:
            # what people give: of several states a unit, one array for each of them
            given, *others = (f"shape {(*shape[:-1], self.hidden_size)}" for shape in (tuple(r0.shape), *shapes))
            raise UsageError(
                "r0", given=given, allowed=" or ".join(others) + (", each" if n > self.hidden_size else "")
            )
        is_stacked = r0.ndim == (2 if is_alone else 3)
        its = r0[:, None] if is_alone and count > 1 else r0
        return its.double().expand(count, B, n), is_stacked

    def _ended(self, end: torch.Tensor) -> Any:
        """The last states as they are given back."""
        return end

    # -- torch's own layers

    @classmethod
    def from_torch(cls, module: Any, dt: float = 1.0, **options: Any) -> Self:
        """The layer whose Euler steps of dt = tau are a module of torch, stacked and bidirectional ones too.

        Parameters
        ----------
        module : torch.nn.RNN, torch.nn.GRU or torch.nn.LSTM
            The module, whose numbers the layer takes.
        dt : float, default 1
            The step, and the time constant.
        options
            Other arguments of the layer.

        Returns
        -------
        CTRNN, CTGRU or CTLSTM
            It gives what the module gives, to round-off.
        """
        if not cls.torch_name:
            raise UsageError("module", given=type(module).__name__, allowed="nothing: torch has no such layer")
        if not isinstance(module, getattr(nn, cls.torch_name)):
            raise UsageError("module", given=type(module).__name__, allowed=f"a torch.nn.{cls.torch_name}")
        directions = 2 if module.bidirectional else 1
        named: dict[str, Any] = {"solver": "euler", "tau": dt} | options
        layer = cls(
            module.input_size, module.hidden_size, dt=dt, batch_first=module.batch_first, num_layers=module.num_layers,
            bidirectional=module.bidirectional, dropout=module.dropout, seed=0, **cls._torch_options(module), **named,
        )  # fmt: skip
        with torch.no_grad():
            for k, cell in enumerate(layer.cells):
                kind: Any = type(cell._field)
                field = kind.from_torch(module, layer=k // directions, reverse=bool(k % directions))
                for name, value in field.parameters.items():
                    if name != "tau":
                        getattr(cell, name).copy_(torch.tensor(value))
        return layer

    def to_torch(self) -> Any:
        """The module of torch that the layer is, stacked and bidirectional ones too.

        Returns
        -------
        torch.nn.RNN, torch.nn.GRU or torch.nn.LSTM
            In float64, with the layer's numbers: it gives what the layer gives, to round-off.

        Raises
        ------
        UsageError
            For steps that are not one of Euler's, of dt = tau, an input; for noise; and for what torch has no such
            layer of.
        """
        if not self.torch_name:
            raise UsageError("layer", given=type(self).__name__, allowed="CTRNN, CTGRU or CTLSTM: torch has no other")
        how = self._recurrence
        fields: list[Any] = [cell.field() for cell in self.cells]
        if self.solver != "euler" or how.steps != 1 or how.linear or self.noise is not None:
            allowed = "solver='euler', one step an input, which is held, and no noise: torch's layers are those steps"
            raise UsageError("layer", given=self, allowed=allowed)
        for field in fields:
            if np.any(field.tau != how.dt):
                raise UsageError("layer", given=f"tau {field.tau}", allowed=f"tau = dt, which is {how.dt:g}")
        parts = [field.to_torch() for field in fields]
        shape = {"num_layers": self.num_layers, "bidirectional": self.bidirectional, "dropout": self.dropout}
        options: dict[str, Any] = {"batch_first": self.batch_first, "dtype": torch.float64}
        if hasattr(parts[0], "nonlinearity"):
            options["nonlinearity"] = parts[0].nonlinearity
        module = getattr(nn, self.torch_name)(self.input_size, self.hidden_size, **shape, **options)
        for part, names in zip(parts, module.all_weights, strict=True):
            for value, weight in zip(part.parameters(), names, strict=True):
                weight.data.copy_(value.data)
        return module

    @classmethod
    def _torch_options(cls, module: Any) -> dict[str, Any]:
        return {}


class CTRNN(Layer, activation="tanh", form="state", gain=1.0, mask=None, dale=None):
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
    activation, form, gain, mask, dale
        As of `ctrnn.RateNetwork`, whose random W and U these are too; b starts at 0. ``layer.project_()``, after a step
        of an optimiser, keeps the signs of dale.
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
    def _make(cls, inputs: int, n: int, **options: Any) -> RateNetwork:
        return RateNetwork(n, inputs=inputs, **options)

    def _trainable_field(self) -> Field:
        # tau, trained or not, is a tensor
        f = self._field
        if f.train_tau:
            return f  # type: ignore[no-any-return]
        twin = RateNetwork(f.n, f.input_size, f.tau, f.activation, form=f.form, seed=0, train_tau=True)
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
