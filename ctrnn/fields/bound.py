"""A field's compiled functions, and the same bound to its numbers.

A `Kernel` is the table of addresses that all compiled loops call a field by (ctrnn.kernels.abi): F, J, K J, and K F_w,
which they lay in their own order, G (groups, q, columns): rows of [A B c] that share sources lie together. ``index``
says which parameter each entry of it is, and `Bound` makes rows (q, m) of it. Functions that most runs do not need, of
second order, of many members at once and of many rows at once, have tables of their own, compiled when first asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ctrnn.kernels import abi

Array = np.ndarray

#: numbers of a gradient that are moved within its memory at a time
MOVED_AT_ONCE = 16384


@dataclass(frozen=True)
class Kernel:
    """A field's compiled functions and the shape in which they see its parameters (ctrnn.kernels.abi)."""

    table: Array  # (SLOTS,) int64 addresses; 0 where a slot is empty
    groups: int
    columns: int
    index: Array  # (groups * columns,) position in the flat vector, -1 for none
    extra: tuple[int, ...] = ()  # the field's own ctx entries
    scratch: int = 0  # doubles of scratch
    blas: bool = False
    keep: tuple[Any, ...] = ()  # objects that own what lies at the addresses
    divisible: bool = False  # whether VJP takes any columns alone, and ACCUMULATE adds them to a part of G (G_STRIDE)
    moving: bool = False  # whether ACCUMULATE takes the weights of each stage (W_AT)
    #: part of each state (n,) and of each group (groups,), where F falls into parts that know nothing of each other
    parts: tuple[Array, Array] | None = None
    step_channel: int = -1  # the channel of x for the step size, of a field that knows it (ctrnn.fields.exponential)

    @cached_property
    def parameter_index(self) -> tuple[Array, Array, Array]:
        """Which entries of a kernel's gradient belong to each parameter.

        Three arrays: an entry of each parameter, −1 for none, up to the last one that has any; the other entries of
        those that have several, and their parameters.
        """
        entries = np.flatnonzero(self.index >= 0)
        first = np.full(int(self.index.max(initial=-1)) + 1, -1)
        first[self.index[entries[::-1]]] = entries[::-1]
        others = entries[first[self.index[entries]] != entries]
        return first, others, self.index[others]

    @cached_property
    def leading(self) -> tuple[int, int]:
        """Rows and columns of the matrix that begins the parameters, if each row begins a group; else 0."""
        index = self.index.reshape(self.groups, self.columns)
        columns = int((index[:1] == np.arange(self.columns)).cumprod(axis=1).sum())
        at = np.arange(self.groups * columns).reshape(self.groups, columns)
        rows = int((index[:, :columns] == at).all(axis=1).cumprod().sum()) if columns else 0
        return rows, columns

    def ctx(self, n: int) -> Array:
        """The ctx of a field of n states, without input and scratch."""
        ctx = np.zeros(abi.EXTRA + len(self.extra), dtype=np.int64)
        ctx[abi.N], ctx[abi.GROUPS], ctx[abi.COLUMNS] = n, self.groups, self.columns
        ctx[abi.DGEMM] = abi.dgemm_address() if self.blas else 0
        ctx[abi.EXTRA :] = self.extra
        return ctx

    def largest_part(self, n: int) -> int:
        """States of the largest part; n where F does not fall into parts."""
        return n if self.parts is None else int(np.bincount(self.parts[0]).max(initial=0))


@dataclass(frozen=True)
class SecondKernel:
    """The compiled functions of second order (JVP and SECOND of ctrnn.kernels.abi), made when first asked for."""

    jvp: int
    second: int
    extra: tuple[int, ...] = ()  # ctx entries behind those of the Kernel
    scratch: int = 0  # doubles of scratch
    keep: tuple[Any, ...] = ()

    def ctx(self, first: Array) -> tuple[Array, Array]:
        """The ctx that they want, which begins as that of the Kernel, and the scratch that it points to."""
        scratch = np.zeros(max(self.scratch, 1))
        ctx = np.concatenate([first, np.array(self.extra, dtype=np.int64)])
        ctx[abi.SCRATCH] = scratch.ctypes.data
        return ctx, scratch


@dataclass(frozen=True)
class LanesKernel:
    """F for many members of an ensemble at once (IN_LANES of ctrnn.kernels.abi), made when first asked for.

    Its ctx is that of the Kernel.
    """

    address: int
    scratch: int = 0  # doubles of scratch
    keep: tuple[Any, ...] = ()


class RowSlots(ABC):
    """A field's functions of many rows at once, made when first asked for.

    They are F_ROWS, VJP_ROWS and ACCUMULATE_ROWS of ctrnn.kernels.abi.

    f, vjp, accumulate : their addresses
    """

    f: int
    vjp: int
    accumulate: int

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers from one row of states to the next, of r, out, K and R; padding may hold anything finite."""

    @abstractmethod
    def tape(self, B: int, S: int) -> int:
        """Numbers of the tape of S stages of B rows."""

    @abstractmethod
    def gradients(self, B: int) -> int:
        """Numbers of what comes back of the parameters."""

    @abstractmethod
    def numbers(self, entries: Array, B: int) -> Any:
        """The field's numbers for B rows (w), and the ctx and its room; ``entries``: Field.rows_entries."""

    @abstractmethod
    def vector(self, G: Array, B: int) -> Array:
        """The flat gradient (m,) of what came back."""


@dataclass
class Bound:
    """A field at given parameters and inputs, ready for the compiled loops; owns the memory behind the addresses."""

    system: Any  # ctrnn.kernels.abi.System
    n: int
    x_stride: int
    kernel: Kernel
    m: int
    keep: tuple[Any, ...]
    raisers: tuple[Callable[[], None], ...] = field(default=())

    def raise_pending(self) -> None:
        """Raise what a callback written in Python has raised meanwhile."""
        for raiser in self.raisers:
            raiser()

    def rows(self, G: Array) -> Array:
        """Parameter rows as the kernels keep them, G (groups, q, columns), as a matrix (q, m)."""
        return self.flat(G.transpose(1, 0, 2).reshape(G.shape[1], -1))

    def flat(self, entries: Array) -> Array:
        """The same of rows that lie together, (q, groups · columns)."""
        first, others, at_others = self.kernel.parameter_index
        flat = np.empty((len(entries), self.m))
        flat[:, first.size :] = 0.0
        for row, to in zip(entries, flat, strict=True):  # nothing of their size beside them
            np.take(row, first, out=to[: first.size], mode="clip")
        if first.min(initial=0) < 0:
            flat[:, np.flatnonzero(first < 0)] = 0.0
        if others.size:
            np.add.at(flat.T, at_others, entries[:, others].T)
        return flat

    def row(self, G: Array) -> Array:
        """The one row (m,) of G (groups, 1, columns), which is lost: in its own memory where a matrix is most of it."""
        (rows, columns), entries = self.kernel.leading, G.reshape(-1)
        first, others, at_others = self.kernel.parameter_index
        moved = rows * columns
        if not moved or first.size < self.m or 2 * moved < entries.size:
            return self.rows(G)[0]
        rest, summed = np.take(entries, first[moved:], mode="clip"), entries[others]
        rest[first[moved:] < 0] = 0.0
        some = max(1, MOVED_AT_ONCE // columns)
        for k in range(0, rows, some):  # a row's new place ends before those that are still to be moved
            part = G[k : min(k + some, rows), 0, :columns].copy()
            entries[k * columns :][: part.size] = part.ravel()
        flat = entries[: self.m]
        flat[moved:] = rest
        np.add.at(flat, at_others, summed)
        return flat


def at_a_line(w: Array) -> Array:
    """A copy that begins where a line of the cache does: rows of matrices are laid out for that."""
    room = np.empty(w.size + 7)
    own = room[-(room.ctypes.data // 8) % 8 :][: w.size]
    own[:] = w
    return own
