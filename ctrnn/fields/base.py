"""What every field F(t, r, w, x) has: names, parameters, and its compiled functions bound to numbers.

A field is immutable; ``with_parameters`` returns a changed copy. Parameters are named arrays. Flattened in the order of
``parameter_names``, each row by row, they are the vector w of length m that optimisers see.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, KeysView, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np

from ctrnn.errors import UsageError, one_of
from ctrnn.kernels import abi, point, signals
from ctrnn.numbers import real_array

Array = np.ndarray

#: what a field keeps of its compiled functions, which is found or made again; the last ones are bound to its numbers
BOUND = ("_blank", "_point_bound", "_second_ctx")
COMPILED = ("_scalars", "_arrays", "_kernel", "_second_kernel", "_lanes_kernel", "row_slots", "_noisy_twins", *BOUND)
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
        q = G.shape[1]
        entries = G.transpose(1, 0, 2).reshape(q, -1)
        first, others, at_others = self.kernel.parameter_index
        flat = np.empty((q, self.m))
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


def _at_a_line(w: Array) -> Array:
    """A copy that begins where a line of the cache does: rows of matrices are laid out for that."""
    room = np.empty(w.size + 7)
    own = room[-(room.ctypes.data // 8) % 8 :][: w.size]
    own[:] = w
    return own


def _unchangeable(name: str, value: Any, argument: str) -> UsageError:
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

    def _refuse(self, *arguments: Any, **named: Any) -> Any:
        name = arguments[0] if arguments and isinstance(arguments[0], str) else next(iter(self), "w")
        given = arguments[1] if len(arguments) > 1 else None
        raise _unchangeable(name, given, f"parameters[{name!r}]")

    __setitem__ = __delitem__ = update = pop = popitem = clear = setdefault = __ior__ = _refuse  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Parameters, (dict(self),)

    def copy(self) -> dict[str, Array]:
        """A table of one's own, with the same arrays."""
        return dict(self)


class Field(ABC):
    """A vector field dr/dt = F(t, r, w, x) with n states, m parameters and some inputs: the base of all fields.

    ``field(t, r, x)`` is F; ``jacobian``, ``parameter_jacobian``, ``vjp`` and ``jvp`` are its derivatives, exact. A
    field does not change: ``with_parameters`` makes another one.

    Attributes
    ----------
    state_names, input_names, parameter_names : tuple of str
        Names of states, inputs and parameters.
    n, m, input_size : int
        How many numbers states, parameters and inputs have.
    parameters : dict of str to ndarray
        The parameters, read-only.
    vector : ndarray (m,)
        All of them, in the order of ``labels``.

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.Equations({"r": "-r + w*tanh(r)"}, {"w": 2.0})
    >>> isinstance(field, Field), field.n, field.m, field.with_parameters(w=3.0).vector
    (True, 1, 1, array([3.]))
    """

    state_names: tuple[str, ...]
    input_names: tuple[str, ...]
    #: whether leaving x out means x = 0 (networks) or is a mistake
    input_is_optional = False
    #: whether the compiled loops call Python for F, some 100 µs a time: then what torch does in one go costs less
    _calls_python = False
    #: whether its last input is the size of the solver's step, which the stepper fills in (ctrnn.fields.exponential)
    _reads_step_size = False

    # -- sizes and names -------------------------------------------------------------------------------------------

    @property
    def n(self) -> int:
        """The number of states."""
        return len(self.state_names)

    @property
    def input_size(self) -> int:
        """The number of input channels."""
        return len(self.input_names)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the flat vector."""
        return tuple(self.parameters)

    @property
    def m(self) -> int:
        """The number of entries of all parameters."""
        return sum(p.size for p in self.parameters.values())

    @property
    def labels(self) -> list[str]:
        """A name for each entry of the flat vector, as ``W[0,1]``."""
        return [
            name + (f"[{','.join(map(str, place))}]" if place else "")
            for name, value in self.parameters.items()
            for place in np.ndindex(value.shape)
        ]

    # -- parameters ------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Array]:
        """Name -> array. Read-only, table and arrays: a field does not change.

        ``with_parameters`` makes another one.
        """
        return self._parameters

    @parameters.setter
    def parameters(self, named: Mapping[str, Array]) -> None:
        arrays = {}
        for name, value in named.items():
            value = np.ascontiguousarray(value).reshape(np.shape(value))
            value.setflags(write=False)
            arrays[name] = value
        self._parameters = Parameters(arrays)

    def __setattr__(self, name: str, value: Any) -> None:
        # a new attribute with a parameter's name would change nothing of what is computed
        if name in self.__dict__.get("_parameters", ()) and name not in self.__dict__ and not hasattr(type(self), name):
            raise _unchangeable(name, value, f"field.{name}")
        super().__setattr__(name, value)

    @property
    def vector(self) -> Array:
        """The parameters in one vector (m,), a copy."""
        if not self.parameters:
            return np.empty(0)
        return np.concatenate([p.ravel() for p in self.parameters.values()])

    def unflatten(self, vector: Array) -> dict[str, Array]:
        """A flat vector (..., m) as named arrays, with the leading axes in front of each."""
        if type(vector) is not np.ndarray or vector.dtype.kind not in "biufc":  # positions stay whole numbers
            vector = real_array("vector", vector)
        if vector.shape[-1:] != (self.m,):
            raise UsageError("vector", given=vector, allowed=f"shape (..., {self.m})")
        named, start = {}, 0
        for name, value in self.parameters.items():
            part = vector[..., start : start + value.size]
            named[name] = part.reshape(vector.shape[:-1] + value.shape)
            start += value.size
        return named

    def with_vector(self, vector: Array) -> Self:
        """A copy with all parameters from a flat vector (m,)."""
        return self.with_parameters(**self.unflatten(vector))

    def with_parameters(self, /, **named: Any) -> Self:
        """A copy with some parameters changed.

        Raises UnknownNameError for a name that is no parameter and UsageError for a wrong shape or NaN.
        """
        changed = copy.copy(self)
        values = dict(self.parameters)
        for name, value in named.items():
            one_of("parameter", name, self.parameters)
            values[name] = self._checked(name, value, self.parameters[name].shape)
        changed.parameters = values
        return changed

    def _parameters_as_inputs(self, names: Iterable[str]) -> Field | None:
        """The same F with these parameters as inputs behind its own; None where a field has no such form."""
        return None

    def _with_step_size(self) -> Field | None:
        """φ₁(hD) F with the step size h as its last input (ctrnn.fields.exponential).

        None where it must be made of two fields.
        """
        return None

    def _with_noise(self, scale: Any) -> Field:
        """F + g ∘ ξ, with ξ as inputs behind its own and the same parameters (ctrnn.fields.noisy).

        ``scale``: g, as of ctrnn.WhiteNoise. Raises UsageError for a field that has no such form.
        """
        raise UsageError("noise", given=f"a field of {type(self).__name__}", allowed="Equations, a network, TorchField")

    @cached_property
    def _noisy_twins(self) -> dict[Any, Field]:
        """Those that were made (ctrnn.noise), one table for all copies that differ in their numbers alone."""
        return {}

    #: of a field with noise, whether g is known not to depend on the state
    noise_is_additive = True

    def describe(self) -> tuple[dict[str, Any], dict[str, Array]] | None:
        """What makes this field again besides its parameters, as JSON and arrays; None for Python code.

        ``ctrnn.fields.described.restored`` makes it.
        """
        return None

    def _checked(self, name: str, value: Any, shape: tuple[int, ...]) -> Array:
        return checked_array(f"parameter {name!r}", value, shape)

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds of the flat vector, (m,) each."""
        return np.full(self.m, -np.inf), np.full(self.m, np.inf)

    # -- the compiled functions ------------------------------------------------------------------------------------

    @cached_property
    @abstractmethod
    def _kernel(self) -> Kernel:
        """The compiled functions (compiled, or read from disk, at first use)."""

    @abstractmethod
    def _kernel_vector(self) -> Array:
        """The parameters (and constants) as the compiled functions want them."""

    @cached_property
    def _second_kernel(self) -> SecondKernel:
        """The compiled functions of second order; raises UsageError where a field has none."""
        raise UsageError("field", given=type(self).__name__, allowed="a field with second derivatives")

    def sparsity(self) -> tuple[Array, Array]:
        """Where J = ∂F/∂r (n, n) and F_w = ∂F/∂w (n, m) can be other than 0, as booleans.

        A field that does not know says everywhere.
        """
        J, F_w = self._pattern()
        return J.toarray() != 0, F_w.toarray() != 0

    def _pattern(self) -> tuple[Any, Any]:
        """The same as sparse arrays of ones."""
        from scipy.sparse import csr_array

        J, F_w = (csr_array(np.ones((self.n, size), dtype=np.float32)) for size in (self.n, self.m))
        return J, F_w

    @property
    def units(self) -> Array:
        """Which unit each state belongs to (n,), counted from 0; a state alone is a unit where F says no more."""
        return np.arange(self.n)

    @property
    def time_constants(self) -> Array | None:
        """The leak of each state as a time constant τ (n,), with J = −diag(1/τ) + what couples the states.

        None where F has no such form.
        """
        return None

    @cached_property
    def _lanes_kernel(self) -> LanesKernel | None:
        """The compiled function of many members at once; None where a field has none."""
        return None

    # -- forms that some ways to compute ask for: a field declares those that it has

    @property
    def _graph(self) -> Any:
        """The graph of array equations (ctrnn.fields.arrays.system); None of a field that is none."""
        return None

    @cached_property
    def row_slots(self) -> RowSlots | None:
        """The compiled functions of many rows at once; None where a field has none."""
        return None

    @property
    def rows_entries(self) -> Array:
        """The numbers that ``row_slots`` makes its own ones from."""
        return self.vector

    def as_rows(self) -> Field:
        """The same field in the form that has ``row_slots``, where there is one; else itself."""
        return self

    def _kernel_direction(self, vector: Array) -> Array:
        """A change (m,) of the flat vector as a change of ``_kernel_vector``."""
        return np.array(vector, dtype=float)

    @abstractmethod
    def torch_function(self) -> Callable[..., Any]:
        """F(t, r, w, x) on tensors: r (..., n), w a dict of tensors, x (..., input_size) or None."""

    def _raisers(self) -> tuple[Callable[[], None], ...]:
        return ()

    def _bind(self, program: Any = None, channels: int | None = None) -> Bound:
        """Bind to an input's program with that many channels (the field reads the first ``input_size``)."""
        kernel, (blank, w, m) = self._kernel, self._blank
        stride = self.input_size if channels is None else channels
        scratch = np.zeros(max(kernel.scratch, 1))
        ctx = blank.copy()
        ctx[abi.X_STRIDE], ctx[abi.SCRATCH] = stride, scratch.ctypes.data
        system = abi.System(kernel.table, ctx, _at_a_line(w), *signals.source(program))
        raisers = self._raisers() + (() if program is None else (program.raise_pending,))
        return Bound(system, self.n, stride, kernel, m, (scratch, program, kernel.keep), raisers)

    @cached_property
    def _blank(self) -> tuple[Array, Array, int]:
        """What each ``_bind`` begins with: ctx without input and scratch, the kernel's vector, and m."""
        kernel = self._kernel
        ctx = np.zeros(abi.EXTRA + len(kernel.extra), dtype=np.int64)
        ctx[abi.N], ctx[abi.GROUPS], ctx[abi.COLUMNS] = self.n, kernel.groups, kernel.columns
        ctx[abi.DGEMM] = abi.dgemm_address() if kernel.blas else 0
        ctx[abi.EXTRA :] = kernel.extra
        return ctx, self._kernel_vector(), self.m

    # -- values at a point, for analysis and tests -------------------------------------------------------------------

    def __call__(self, t: float, r: Any, x: Any = None) -> Array:
        """F at one point: r (n,), x (input_size,) -> (n,)."""
        t, bound, r, x = self._at_point(t, r, x)
        out = np.empty(self.n)
        point.field(bound.system, t, r, x, out)
        bound.raise_pending()
        return out

    def jacobian(self, t: float, r: Any, x: Any = None) -> Array:
        """J = ∂F/∂r at one point, (n, n)."""
        t, bound, r, x = self._at_point(t, r, x)
        out = np.empty((self.n, self.n))
        point.jacobian(bound.system, t, r, x, out)
        bound.raise_pending()
        return out

    def vjp(self, t: float, r: Any, K: Any, x: Any = None) -> Array:
        """K J for q rows K (q, n), without forming J; (q, n). One row may come as (n,)."""
        t, bound, r, x = self._at_point(t, r, x)
        K, columns = self._rows(K)
        out = np.empty_like(columns)
        if not K.size:
            return np.zeros(K.shape)
        point.vjp(bound.system, t, r, x, columns, out)
        bound.raise_pending()
        return out.T.reshape(K.shape).copy()

    def parameter_vjp(self, t: float, r: Any, K: Any, x: Any = None) -> Array:
        """K F_w for q rows K (q, n), without forming F_w; (q, m). One row (n,) gives (m,)."""
        t, bound, r, x = self._at_point(t, r, x)
        K, columns = self._rows(K)
        if not K.size:
            return np.zeros((*K.shape[:-1], self.m))
        G = np.zeros((bound.kernel.groups, columns.shape[1], bound.kernel.columns))
        point.accumulate(bound.system, t, r, x, columns, G)
        bound.raise_pending()
        return bound.row(G) if K.ndim == 1 else bound.rows(G)

    def parameter_jacobian(self, t: float, r: Any, x: Any = None) -> Array:
        """F_w = ∂F/∂w at one point, (n, m)."""
        return self.parameter_vjp(t, r, np.eye(self.n), x)

    def jvp(self, t: float, r: Any, dr: Any, dw: Any = None, x: Any = None) -> Array:
        """J δr + F_w δw at one point, (n,), without forming J or F_w.

        Parameters
        ----------
        t, r, x
            The point: a time, a state (n,), and an input (inputs,).
        dr : (n,) array_like
            δr.
        dw : (m,) array_like, optional
            δw, in the order of the flat vector; None for 0.

        Returns
        -------
        ndarray (n,)
            The product.

        Examples
        --------
        >>> from ctrnn import Equations
        >>> field = Equations({"r": "-k*r**2"}, {"k": 2.0})
        >>> field.jvp(0.0, [3.0], [1.0]), field.jvp(0.0, [3.0], [0.0], [1.0])
        (array([-12.]), array([-9.]))
        """
        t, bound, r, x = self._at_point(t, r, x)
        ctx, dr, dw, _ = self._second_at(bound, dr, dw)
        out = np.empty((1, self.n))
        point.jvps(bound.system, self._second_kernel.jvp, ctx, t, r[None], x, dr[None], dw, out)
        bound.raise_pending()
        return out[0]

    def second_order(self, t: float, r: Any, dr: Any, K: Any, dw: Any = None, x: Any = None) -> tuple[Array, Array]:
        """K δJ and K δF_w for rows K, δ the derivative along (δr, δw): exact second derivatives of F, contracted twice.

        Parameters
        ----------
        t, r, x
            The point: a time, a state (n,), and an input (inputs,).
        dr : (n,) array_like
            δr.
        K : (q, n) or (n,) array_like
            Rows, or one row.
        dw : (m,) array_like, optional
            δw, in the order of the flat vector; None for 0.

        Returns
        -------
        tuple of ndarray
            K δJ (q, n) and K δF_w (q, m), or (n,) and (m,) for one row. With K = identity the first is δJ itself, the
            Jacobian's derivative.

        Examples
        --------
        >>> from ctrnn import Equations
        >>> field = Equations({"r": "-k*r**2"}, {"k": 2.0})
        >>> field.second_order(0.0, [3.0], [1.0], [1.0])  # ∂²F/∂r² = −2k, ∂²F/∂r∂k = −2r
        (array([-4.]), array([-6.]))
        """
        t, bound, r, x = self._at_point(t, r, x)
        K, _ = self._rows(K)
        ctx, dr, dw, _ = self._second_at(bound, dr, dw)
        rows = np.atleast_2d(K)
        R, G = np.zeros(rows.shape), np.zeros((len(rows), bound.kernel.groups * bound.kernel.columns))
        point.second(bound.system, self._second_kernel.second, ctx, t, r, x, dr, dw, rows, R, G)
        bound.raise_pending()
        by_group = G.reshape(len(rows), bound.kernel.groups, bound.kernel.columns).transpose(1, 0, 2)
        return R.reshape(K.shape), bound.rows(by_group).reshape(K.shape[:-1] + (self.m,))

    def _second_at(self, bound: Bound, dr: Any, dw: Any) -> tuple[Array, Array, Array, Array]:
        """ctx of the functions of second order, δr, δw as they want it, and the scratch that ctx points to."""
        ctx, scratch = self._second_ctx
        dr = checked_array("dr", dr, (self.n,))
        dw = np.zeros(self.m) if dw is None else checked_array("dw", dw, (self.m,))
        return ctx, dr, self._kernel_direction(dw), scratch

    @cached_property
    def _second_ctx(self) -> tuple[Array, Array]:
        its, bound = self._second_kernel, self._point_bound
        scratch = np.zeros(max(its.scratch, 1))
        ctx = np.concatenate([bound.system.ctx, np.array(its.extra, dtype=np.int64)])
        ctx[abi.SCRATCH] = scratch.ctypes.data
        return ctx, scratch

    def _at_point(self, t: Any, r: Any, x: Any) -> tuple[float, Bound, Array, Array]:
        t = float(checked_array("t", t, ()))
        r = checked_array("r", r, (self.n,))
        if x is None and (self.input_is_optional or self.input_size == 0):
            x = np.zeros(self.input_size)
        if x is None:
            raise UsageError("x", given=None, allowed=f"values of the inputs {', '.join(self.input_names)}")
        return t, self._point_bound, r, checked_array("x", np.atleast_1d(real_array("x", x)), (self.input_size,))

    def _rows(self, K: Any) -> tuple[Array, Array]:
        """Rows K (q, n) or (n,), checked, and the same as the columns (n, q) that the kernels take."""
        K = checked_array("K", K)
        if K.ndim not in (1, 2) or K.shape[-1] != self.n:
            raise UsageError("K", given=f"shape {K.shape}", allowed=f"shape (q, {self.n}) or ({self.n},)")
        return K, np.ascontiguousarray(np.atleast_2d(K).T)

    @cached_property
    def _point_bound(self) -> Bound:
        return self._bind()

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle or a deep copy holds: everything but the compiled code, which is found or made again."""
        return {k: v for k, v in self.__dict__.items() if k not in COMPILED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A pickle and a deep copy forget that arrays are read-only."""
        self.__dict__.update(state)
        tables = [value.values() for value in state.values() if isinstance(value, dict)]
        for value in (*state.values(), *(each for table in tables for each in table)):
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        # what was bound to the old parameters must not be taken for the new ones
        for bound in BOUND:
            twin.__dict__.pop(bound, None)
        return twin


def time_constants(field: Any) -> Array | None:
    """The time constants that a field declares; None of anything else that can be called as one."""
    return field.time_constants if isinstance(field, Field) else None


def checked_array(name: str, value: Any, shape: tuple[int, ...] | None = None) -> Array:
    """A finite, contiguous float64 copy of a value, of the given shape.

    Raises UsageError that names the argument, what was given and what is allowed.
    """
    array = real_array(name, value)
    if shape is not None and array.shape != shape:
        raise UsageError(name, given=f"shape {array.shape}", allowed=f"shape {shape}")
    if not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        hint = f"look at entry {place}: {array[place]}" if place else ""
        raise UsageError(name, given=array, allowed="finite numbers", hint=hint)
    return array


def checked_names(what: str, names: Any) -> tuple[str, ...]:
    """Names as a tuple without repetitions."""
    names = tuple(name_list(what, names))
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise UsageError(what, given=name, allowed="names of letters, digits and _")
        if name in seen:
            raise UsageError(what, given=name, allowed="each name once")
        seen.add(name)
    return names


def checked_field(field: Any) -> Any:
    """The field itself, or what behaves like one, with n states and their names; UsageError for anything else."""
    if isinstance(field, type) or not (hasattr(field, "n") and hasattr(field, "state_names")):
        raise UsageError("field", given=field, allowed="a field: Equations, RateNetwork, TorchField")
    return field


def name_list(what: str, names: Any) -> list[str]:
    """Names from one name or from several; UsageError for anything else."""
    found = list(names) if isinstance(names, list | tuple | set | frozenset | dict | KeysView) else [names]
    if not all(isinstance(name, str) for name in found):
        raise UsageError(what, given=names, allowed="a list of names")
    return found


def texts(what: str, table: Mapping[str, Any]) -> dict[str, str]:
    """Name -> formula as text; a number is one too. UsageError for anything else."""
    for name, text in table.items():
        if not isinstance(name, str):
            raise UsageError(what, given=name, allowed="names of letters, digits and _")
        is_number = isinstance(text, int | float) and not isinstance(text, bool) and abs(text) < 1e300
        if not isinstance(text, str) and not is_number:
            raise UsageError(f"{what}[{name!r}]", given=text, allowed="a formula as text")
        if any("\ud800" <= letter <= "\udfff" for letter in f"{name}{text}"):
            raise UsageError(f"{what}[{name!r}]", given=text, allowed="letters that Unicode has: no lone surrogates")
    return {name: text if isinstance(text, str) else repr(text) for name, text in table.items()}


def as_mapping(what: str, value: Any) -> Mapping[str, Any]:
    """The value itself; raises UsageError, which names the argument, for anything that is no table."""
    if not isinstance(value, Mapping):
        raise UsageError(what, given=value, allowed="a table name -> value")
    return value
