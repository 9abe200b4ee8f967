"""What every field has: dr/dt = F(t, r, w, x), with names, parameters and exact derivatives.

    J = ∂F/∂r (n, n)     F_w = ∂F/∂w (n, m)     K J, K F_w for rows K     J δr + F_w δw     K δJ, K δF_w

They are products with compiled functions, which never form a matrix that was not asked for; at a point one may call
them here, and the loops of solvers and gradients call them by their addresses (ctrnn.fields.bound). Second order is
that of Pearlmutter, *Fast exact multiplication by the Hessian* (1994): the derivative of the products along (δr, δw).

Parameters are named arrays. Flattened in the order of ``parameter_names``, each row by row, they are the vector w of
length m that optimisers see (ctrnn.fields.parameters).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np

from ctrnn.errors import UsageError, one_of
from ctrnn.fields.bound import Bound, Kernel, LanesKernel, RowSlots, SecondKernel, at_a_line
from ctrnn.fields.checks import as_mapping
from ctrnn.fields.parameters import Parameters, unchangeable
from ctrnn.kernels import abi, point, signals
from ctrnn.memory import claim
from ctrnn.numbers import checked_array, real_array

Array = np.ndarray

#: what a field keeps of its compiled functions, which is found or made again; the last ones are bound to its numbers
BOUND = ("_blank", "_point_bound", "_second_ctx")
COMPILED = ("_scalars", "_arrays", "_kernel", "_second_kernel", "_lanes_kernel", "row_slots", "_noisy_twins", *BOUND)


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
        return self.parameters.size

    @property
    def labels(self) -> list[str]:
        """A name for each entry of the flat vector, as ``W[0,1]``."""
        return self.parameters.labels

    # -- parameters ------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> Parameters:
        """Name -> array. Read-only, table and arrays: a field does not change.

        ``with_parameters`` makes another one.
        """
        return self._parameters

    @parameters.setter
    def parameters(self, named: Mapping[str, Array]) -> None:
        self._parameters = Parameters.of(named)

    def __setattr__(self, name: str, value: Any) -> None:
        # a new attribute with a parameter's name would change nothing of what is computed
        if name in self.__dict__.get("_parameters", ()) and name not in self.__dict__ and not hasattr(type(self), name):
            raise unchangeable(name, value, f"field.{name}")
        super().__setattr__(name, value)

    @property
    def vector(self) -> Array:
        """The parameters in one vector (m,), a copy."""
        return self.parameters.vector

    def unflatten(self, vector: Array) -> dict[str, Array]:
        """A flat vector (..., m) as named arrays, with the leading axes in front of each."""
        return self.parameters.unflatten(vector)

    def with_vector(self, vector: Array) -> Self:
        """A copy with all parameters from a flat vector (m,)."""
        return self.with_parameters(**self.unflatten(vector))

    def with_parameters(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> Self:
        """A copy with some parameters changed, named or in a table name -> value.

        Raises UnknownNameError for a name that is no parameter and UsageError for a wrong shape or NaN.
        """
        given = {**as_mapping("parameters", {} if values is None else values), **named}
        for name in given:
            one_of("parameter", name, self.parameters)
        checked = {name: self._checked(name, value, self.parameters[name].shape) for name, value in given.items()}
        changed = copy.copy(self)
        changed.parameters = dict(self.parameters) | checked
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

    @property
    def _kernel_entries(self) -> Array:
        """Which parameter each number of ``_kernel_vector`` is; −1 where it is a constant."""
        return self._kernel_direction(np.arange(1.0, self.m + 1.0)).astype(np.int64) - 1

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
        system = abi.System(kernel.table, ctx, at_a_line(w), *signals.source(program))
        raisers = self._raisers() + (() if program is None else (program.raise_pending,))
        return Bound(system, self.n, stride, kernel, m, (scratch, program, kernel.keep), raisers)

    @cached_property
    def _blank(self) -> tuple[Array, Array, int]:
        """What each ``_bind`` begins with: ctx without input and scratch, the kernel's vector, and m."""
        return self._kernel.ctx(self.n), self._kernel_vector(), self.m

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
        claim("field", 8.0 * self.n**2, "its products, field.vjp, which need no matrix")
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
        ctx, dr, dw = self._second_at(dr, dw)
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
        ctx, dr, dw = self._second_at(dr, dw)
        rows = np.atleast_2d(K)
        R, G = np.zeros(rows.shape), np.zeros((len(rows), bound.kernel.groups * bound.kernel.columns))
        point.second(bound.system, self._second_kernel.second, ctx, t, r, x, dr, dw, rows, R, G)
        bound.raise_pending()
        return R.reshape(K.shape), bound.flat(G).reshape(K.shape[:-1] + (self.m,))

    def _second_at(self, dr: Any, dw: Any) -> tuple[Array, Array, Array]:
        """ctx of the functions of second order, δr, and δw as they want it."""
        dr = checked_array("dr", dr, (self.n,))
        dw = np.zeros(self.m) if dw is None else checked_array("dw", dw, (self.m,))
        return self._second_ctx[0], dr, self._kernel_direction(dw)

    @cached_property
    def _second_ctx(self) -> tuple[Array, Array]:
        return self._second_kernel.ctx(self._point_bound.system.ctx)

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
