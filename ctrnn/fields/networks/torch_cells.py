"""Numbers of torch.nn.RNN, GRU and LSTM: of each layer weight_ih, weight_hh, bias_ih and bias_hh.

A bidirectional module has them twice; one without ``bias`` has no biases, which then are 0. Rows of a GRU's and an
LSTM's arrays lie gate by gate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def numbers_of(module: Any, kind: str, layer: int, reverse: bool) -> tuple[Array, Array, Array, Array]:
    """weight_ih, weight_hh, bias_ih and bias_hh, in float64, of one layer and direction of a module, or of a cell.

    Raises UsageError for what is no torch.nn.``kind``, for one with projections, and for a layer that it has not.
    """
    import torch

    is_cell = isinstance(module, getattr(torch.nn, f"{kind}Cell"))
    if not is_cell and not isinstance(module, getattr(torch.nn, kind)):
        raise UsageError("module", given=type(module).__name__, allowed=f"a torch.nn.{kind} or torch.nn.{kind}Cell")
    if getattr(module, "proj_size", 0):
        raise UsageError("module", given=f"proj_size={module.proj_size}", allowed="a module without projections")
    end = f"_l{layer}" + ("_reverse" if reverse else "")
    if is_cell and layer == 0 and not reverse:
        end = ""
    if not hasattr(module, f"weight_ih{end}"):
        raise UsageError("layer", given=(layer, reverse), allowed=f"a layer and direction of {module}")
    ih, hh, *biases = (
        getattr(module, name + end).detach().cpu().double().numpy()
        for name in NAMES
        if getattr(module, name + end, None) is not None  # cells without biases have None
    )
    bias_ih, bias_hh = biases or (np.zeros(len(ih)), np.zeros(len(ih)))
    return ih, hh, bias_ih, bias_hh


def module_of(kind: str, inputs: int, n: int, numbers: tuple[Array, Array, Array, Array], **options: Any) -> Any:
    """A module of one layer in float64 with these numbers; ``options`` are the module's own."""
    import torch

    module = getattr(torch.nn, kind)(inputs, n, dtype=torch.float64, **options)
    with torch.no_grad():
        for name, value in zip(NAMES, numbers, strict=True):
            getattr(module, f"{name}_l0").copy_(torch.tensor(value))
    return module


def rnn_of(network: Any, W: Array, batch_first: bool) -> Any:
    """The torch.nn.RNN that one Euler step of dt = tau of a network of rate units with these weights is."""
    if network.form != "rate" or network.activation not in ("tanh", "relu"):
        given = f"form={network.form!r}, activation={network.activation!r}"
        raise UsageError("network", given=given, allowed="form='rate' with tanh or relu, which torch.nn.RNN has")
    b = network.parameters["b"]
    U = network.parameters.get("U", np.zeros((b.size, network.input_size)))
    options = {"nonlinearity": network.activation, "batch_first": batch_first}
    return module_of("RNN", network.input_size, b.size, (U, W, b, np.zeros_like(b)), **options)
