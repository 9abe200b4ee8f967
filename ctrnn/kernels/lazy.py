"""C functions that are compiled when somebody needs them: a run pays for what it uses, and no more.

An address that Python hands out is made when it is asked for (``lazy``). A field table is full from the beginning, and
what stands in it is compiled by the first call from a compiled loop (``LazyTable``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ctrnn.callbacks import Pending
from ctrnn.kernels.abi import SLOTS, F, address_of, kind_of, view
from ctrnn.kernels.compiled import c_function
from ctrnn.kernels.notice import compiling


class Lazy:
    """A C function of a signature that is compiled, or read from disk, when its address is first asked for."""

    def __init__(self, function: Callable[..., None], signature: Any, options: dict[str, Any]) -> None:
        self.function, self.signature, self.options = function, signature, options

    @cached_property
    def compiled(self) -> Any:
        """The function, compiled now if it was not."""
        with compiling():
            return c_function(self.function, self.signature, self.options)

    @property
    def address(self) -> int:
        """Its address, compiled now if it was not."""
        return int(self.compiled.address)


def lazy(signature: Any, **options: Any) -> Callable[[Callable[..., None]], Lazy]:
    """``numba.cfunc``, but compiled when needed."""
    return lambda function: Lazy(function, signature, {"cache": True, "error_model": "numpy", **options})


class LazyTable:
    """A field table whose functions, but for F, are compiled when compiled code first calls them.

    None leaves a slot empty.

    Until then an entry leads to a callback that puts the function in its place and passes the call on. What goes wrong
    there waits for ``raise_pending``.
    """

    def __init__(self, functions: Sequence[Lazy | None]) -> None:
        self.pending = Pending()
        self.table = np.zeros(SLOTS, dtype=np.int64)
        self._functions = functions
        self._keep = [self._entry(slot, f) for slot, f in enumerate(functions) if f is not None]

    def compile(self) -> None:
        """All of them now, for a table that is to be copied."""
        self.table[:] = [0 if function is None else function.address for function in self._functions]

    def _entry(self, slot: int, function: Lazy) -> Any:
        table, kind = self.table, kind_of(slot)
        if slot == F or "compiled" in vars(function):
            table[slot] = function.address
            return function

        def first(*arguments: Any) -> None:
            table[slot] = function.address
            kind(function.address)(*arguments)

        entry = kind(self.pending.guard(first, lambda *arguments: view(arguments[-1], 1)))
        table[slot] = address_of(entry)
        return entry
