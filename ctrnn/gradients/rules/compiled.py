"""A memory whose functions are compiled: what it carries lies in arrays, whose sizes and addresses are one array.

A step taken from Python and many steps taken by the loop (ctrnn.kernels.rules.loop) go by the same functions.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.rules.rule import Memory, Slots
from ctrnn.gradients.rules.step import Lane, Step
from ctrnn.kernels.lazy import Lazy
from ctrnn.kernels.rules.table import ADD, COLLECT, RESET, TAKE, c_type


class CompiledMemory(Memory):
    """A memory in compiled code.

    Parameters
    ----------
    lane, rng
        As of any memory.
    size : int
        Entries of ``memory``, which a subclass fills.
    """

    #: TAKE, ADD, COLLECT and RESET (ctrnn.kernels.rules.table), and what a loss would add
    functions: ClassVar[tuple[Lazy, ...]]
    pulls: ClassVar[Lazy]

    def __init__(self, lane: Lane, rng: np.random.Generator, size: int, looks_back: int = 0) -> None:
        super().__init__(lane, rng)
        self.memory, self.looks_back = np.zeros(size, dtype=np.int64), looks_back
        #: what the addresses in ``memory`` are of; weights of steps that Python brought
        self._arrays: dict[int, Array] = {}
        self._weights: deque[Array] = deque(maxlen=looks_back + 1)

    def _lies(self, entry: int, array: Array) -> Array:
        """Put an array's address into ``memory``."""
        self._arrays[entry] = array
        self.memory[entry] = array.ctypes.data
        return array

    def _room(self, entry: int, size: int) -> None:
        """Working space, which all memories of the lanes share."""
        self._lies(entry, self.lane.room((type(self), entry, size)))

    def call(self, function: Lazy, *arguments: Any) -> None:
        """One of the compiled functions, with addresses of arrays."""
        given = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
        c_type(function.signature)(function.address)(self.memory.ctypes.data, *given)
        self.raise_pending()

    def raise_pending(self) -> None:
        """Raise what the field, or a function of the memory, has raised in Python meanwhile."""
        self.lane.bound.raise_pending()

    def slots(self) -> Slots:
        """The memory as the compiled loop calls it."""
        functions = tuple(function.address for function in self.functions)
        return Slots(functions, self.memory.ctypes.data, self.raise_pending, self)

    def take(self, step: Step) -> None:
        """One step on."""
        self._weights.append(step.weights)
        self.call(
            self.functions[TAKE],
            float(step.h[0]),
            *(np.ascontiguousarray(v) for v in (step.t, step.r, step.x)),
            step.weights,
        )

    def add(self, row: Array) -> None:
        """A loss at the present state."""
        self.call(self.functions[ADD], np.ascontiguousarray(row))

    def pull(self, row: Array) -> Array:
        """∂ℓ/∂w (groups, columns) of a loss at the present state; changes nothing."""
        found = self.lane.zeros()
        self.call(self.pulls, np.ascontiguousarray(row), found)
        return found

    def collect(self) -> Array:
        """The gradient of all losses since the last call."""
        found = self.lane.zeros()
        self.call(self.functions[COLLECT], found)
        return found

    def reset(self) -> None:
        """A state that begins anew."""
        self.call(self.functions[RESET])
