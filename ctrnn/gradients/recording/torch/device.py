"""Where torch computes, and with which numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import UnknownNameError, UsageError, one_of

DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Device:
    """A torch device, "cpu", "cuda" or "cuda:0", and a dtype, "float64" or "float32".

    Raises UnknownNameError for other names.
    """

    name: str = "cpu"
    dtype: str = "float64"

    def __post_init__(self) -> None:
        kind, _, number = str(self.name).partition(":")
        if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdigit())):
            raise UnknownNameError("device", self.name, ("cpu", "cuda", "cuda:0"))
        one_of("dtype", self.dtype, DTYPES)

    @classmethod
    def of(cls, device: str | None, dtype: str | None) -> Device | None:
        """What a method names; None where it names none, and the compiled kernels compute."""
        return None if device is None and dtype is None else cls(device or "cpu", dtype or "float64")

    @property
    def item(self) -> int:
        """Bytes of a number."""
        return int(np.dtype(self.dtype).itemsize)

    @property
    def options(self) -> dict[str, Any]:
        """What torch's constructors take: device and dtype.

        Raises UsageError for a device that this machine does not have.
        """
        import torch

        if self.name != "cpu":
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            if int(self.name.partition(":")[2] or 0) >= count:
                found = f"{count} CUDA devices" if count else "no CUDA device"
                hint = "" if count else "a driver and a build of torch for CUDA; torch.cuda.is_available() tells"
                raise UsageError("device", given=self.name, allowed=f"'cpu': torch finds {found} here", hint=hint)
        return {"device": torch.device(self.name), "dtype": getattr(torch, self.dtype)}

    @property
    def free(self) -> float:
        """Bytes that a CUDA device has for us, what torch keeps for its next tensors among them.

        Without end on the CPU.
        """
        import torch

        if self.name == "cpu":
            return float("inf")
        device = torch.device(self.name)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)

    def tensor(self, array: Any) -> Any:
        """An array of numbers, over there."""
        import torch

        return torch.from_numpy(np.array(array, dtype=float)).to(**self.options)

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}"


def to_numpy(tensor: Any) -> np.ndarray:
    """A tensor of any place as a float64 array here."""
    return np.asarray(tensor.detach().cpu().double().numpy())
