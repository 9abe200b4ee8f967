"""Layers of units stacked and in both directions, and what they have in common with torch's own.

    level l, direction d:   o_{l,d} = cell_{l,d}(o_{l−1}),     o_l = [o_{l,→}, o_{l,←}],     o_0 = x

Where one Euler step of dt = τ of the cell is torch's, the whole is a module of torch, whose numbers go over in both
directions (``from_torch``, ``to_torch``). Source: Schuster & Paliwal, *Bidirectional recurrent neural networks* (1997);
shapes and the order of cells are those of ``torch.nn.RNN``.
"""

from __future__ import annotations

import inspect
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ctrnn.errors import UsageError
from ctrnn.fields.base import Field
from ctrnn.learning.torch_transforms import compiled_already, refuse_transforms
from ctrnn.memory import claim
from ctrnn.nn.recurrent import Recurrent, check_tensor, checked_timestamps
from ctrnn.nn.sequences import last, masked, turned
from ctrnn.numbers import flag, number, whole


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

    def __repr__(self) -> str:
        text = self.extra_repr()
        text += f", num_layers={self.num_layers}" if self.num_layers > 1 else ""
        text += f", dropout={self.dropout:g}" if self.dropout else ""
        return f"{type(self).__name__}({text}{', bidirectional=True' * self.bidirectional})"

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
