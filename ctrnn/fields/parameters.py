"""A field's parameters: named arrays, and the flat vector w of all of them, each row by row.

The table and its arrays are read-only, as a field does not change; the error of whoever changes them names the remedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import accumulate
from typing import Any, Self

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.names import check_order, labels
from ctrnn.numbers import real_array

Array = np.ndarray


def unchangeable(name: str, value: Any, argument: str) -> UsageError:
    """The error for a change of a field in place, which names what to do instead."""
    return UsageError(
        argument,
        given=value,
        allowed="no change of a field in place",
        hint=f"field = field.with_parameters({name}=...), or problem.replace(field=...)",
    )


class Parameters(dict[str, Array]):
    """The parameters of a field, name -> array, to be read.

    What changes them raises UsageError and names the remedy.
    """

    @classmethod
    def of(cls, named: Mapping[str, Any]) -> Self:
        """A table of these arrays, which are made read-only."""
        arrays = {}
        for name, value in named.items():
            value = np.ascontiguousarray(value).reshape(np.shape(value))
            value.setflags(write=False)
            arrays[name] = value
        return cls(arrays)

    @property
    def size(self) -> int:
        """The number m of entries of all parameters."""
        return sum(p.size for p in self.values())

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each parameter lies in the flat vector."""
        ends = [*accumulate(p.size for p in self.values())]
        return {name: slice(end - p.size, end) for (name, p), end in zip(self.items(), ends, strict=True)}

    @property
    def labels(self) -> list[str]:
        """A name for each entry of the flat vector, as ``W[0,1]``."""
        return [
            name + (f"[{','.join(map(str, place))}]" if place else "")
            for name, value in self.items()
            for place in np.ndindex(value.shape)
        ]

    @property
    def vector(self) -> Array:
        """All of them in one vector (m,), a copy."""
        return np.concatenate([p.ravel() for p in self.values()]) if self else np.empty(0)

    def unflatten(self, vector: Array) -> dict[str, Array]:
        """A flat vector (..., m) as named arrays, with the leading axes in front of each."""
        if type(vector) is not np.ndarray or vector.dtype.kind not in "biufc":  # positions stay whole numbers
            if named := labels(vector):
                check_order("vector", named, self.labels)
            vector = real_array("vector", vector)
        if vector.shape[-1:] != (self.size,):
            raise UsageError("vector", given=vector, allowed=f"shape (..., {self.size})")
        head = vector.shape[:-1]
        return {name: vector[..., its].reshape(head + self[name].shape) for name, its in self.slices.items()}

    def _refuse(self, *arguments: Any, **named: Any) -> Any:
        name = arguments[0] if arguments and isinstance(arguments[0], str) else next(iter(self), "w")
        given = arguments[1] if len(arguments) > 1 else None
        raise unchangeable(name, given, f"parameters[{name!r}]")

    __setitem__ = __delitem__ = update = pop = popitem = clear = setdefault = __ior__ = _refuse  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Parameters, (dict(self),)

    def copy(self) -> dict[str, Array]:
        """A table of one's own, with the same arrays."""
        return dict(self)
