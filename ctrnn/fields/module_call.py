"""A torch module as a function of its parameters: (w, …) ↦ module(…), with w in the places of its own.

What ``torch.func.functional_call`` does, but the places are looked up once and not at each call: for a small module
that takes longer than F itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ModuleCall:
    """A module that is called with other tensors in the places of its parameters and buffers.

    Parameters
    ----------
    module : torch.nn.Module
        Its submodules, parameters and buffers stay the same ones while this is used.

    Examples
    --------
    >>> import torch
    >>> module = torch.nn.Linear(1, 1, bias=False)
    >>> call = ModuleCall(module)
    >>> call({"weight": torch.tensor([[2.0]])}, torch.tensor([3.0]))
    tensor([6.])
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self._places: list[tuple[str, dict[str, Any], str]] = []
        names: dict[int, str] = {}  # a tensor that is in several places has the name of the first, as in torch
        for prefix, owner in module.named_modules():
            for held in (owner._parameters, owner._buffers):
                for key, tensor in held.items():
                    if tensor is not None:
                        name = names.setdefault(id(tensor), f"{prefix}.{key}" if prefix else key)
                        self._places.append((name, held, key))

    def __call__(self, tensors: Mapping[str, Any], *arguments: Any) -> Any:
        """``module(*arguments)`` with ``tensors`` by name in the places of its own, which are back afterwards."""
        before = [(held, key, held[key]) for _, held, key in self._places]
        try:
            for name, held, key in self._places:
                if name in tensors:
                    held[key] = tensors[name]
            return self.module(*arguments)
        finally:
            for held, key, tensor in before:
                held[key] = tensor
