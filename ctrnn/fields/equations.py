"""Small general systems: one equation a state, written as text, differentiated and compiled.

    dr_i/dt = F_i(t, r, w, x),    J = ∂F/∂r,    F_w = ∂F/∂w

Systems of scalars are compiled as they stand (ctrnn.fields.scalars), those with arrays as a program of loops and
products (ctrnn.fields.arrays).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from ctrnn.errors import ExpressionError, UsageError, one_of
from ctrnn.fields import codegen
from ctrnn.fields.algebra import Node, names_in, symbol
from ctrnn.fields.arrays.declared import arrays, checked_masks, labels, outside, sizes
from ctrnn.fields.arrays.system import ArraySystem
from ctrnn.fields.base import Array, Field
from ctrnn.fields.bound import Kernel, LanesKernel, RowSlots, SecondKernel
from ctrnn.fields.checks import as_mapping, checked_names, texts
from ctrnn.fields.expressions import check_names, parse, read
from ctrnn.fields.noisy import depends_on, in_users_words, strengths, with_noise
from ctrnn.fields.scalars import ScalarSystem
from ctrnn.fields.torch_functions import phi


class Equations(Field):
    """A system of ordinary differential equations in named states, parameters and inputs.

    They are numbers, vectors and matrices.

    Parameters
    ----------
    equations : dict state name -> right-hand side as text, in the states, parameters, inputs, definitions, constants
        and ``t``
    parameters : dict name -> number or array
    inputs : the channels of x(t): names, of scalars; or a dict name -> size or shape
    states : dict name -> size or shape, of the states that are arrays
    definitions : dict name -> text, each in the names above and in the definitions before it
    constants : dict name -> number or array; like parameters, but nothing is differentiated by them
    masks : dict parameter name -> booleans of its shape; entries outside are 0, stay 0, and have gradient 0

    Raises
    ------
    ExpressionError
        for a text that is not a formula in those names, or whose shapes do not fit (with the place in the text)
    UsageError
        for names that collide and for values that are not finite numbers

    Notes
    -----
    In a text: ``+ - * / **`` and the scalar functions, entry by entry, a scalar with every entry of an array; ``A @
    v``, ``v @ A``, ``A @ B``, ``A.T``, ``outer(u, v)``, ``dot(u, v)``, ``sum(v)``, ``mean(v)``, ``v[2]``, ``v[a:b]``;
    ``where(v > 0, u, v)``. States lie one after the other as in ``equations``, matrices row by row, and are named
    ``r[0]``, ``W[1,2]``.

    Examples
    --------
    >>> field = Equations(
    ...     {"prey": "a*prey - b*prey*pred", "pred": "-c*pred + d*prey*pred"},
    ...     parameters={"a": 0.55, "b": 0.028, "c": 0.80, "d": 0.024},
    ... )
    >>> field(0.0, [30.0, 4.0])
    array([13.14, -0.32])
    >>> field.jacobian(0.0, [30.0, 4.0])
    array([[ 0.438, -0.84 ],
           [ 0.096, -0.08 ]])

    A network of two units:

    >>> network = Equations(
    ...     {"r": "(-r + W @ tanh(r) + U @ x)/tau"},
    ...     parameters={"W": [[0.0, 1.0], [-1.0, 0.0]], "U": [[1.0], [0.0]], "tau": 0.5},
    ...     states={"r": 2},
    ...     inputs={"x": 1},
    ... )
    >>> network(0.0, [0.0, 0.0], x=[1.0])
    array([2., 0.])
    >>> network.state_names
    ('r[0]', 'r[1]')
    """

    def __init__(
        self,
        equations: Mapping[str, str],
        parameters: Mapping[str, Any] | None = None,
        inputs: Iterable[str] | Mapping[str, Any] = (),
        states: Mapping[str, Any] | None = None,
        definitions: Mapping[str, str] | None = None,
        constants: Mapping[str, Any] | None = None,
        masks: Mapping[str, Any] | None = None,
    ) -> None:
        equations = as_mapping("equations", equations)
        parameters, states, definitions, constants, masks = (
            as_mapping(what, {} if given is None else given)
            for what, given in (
                ("parameters", parameters), ("states", states), ("definitions", definitions), ("constants", constants),
                ("masks", masks),
            )
        )  # fmt: skip
        if not equations:
            raise UsageError("equations", given=equations, allowed="at least one state")
        self.equations = texts("equations", equations)
        self.definitions = texts("definitions", definitions)
        given = sizes("states", states)
        for name in given:
            one_of("states", name, self.equations)
        names = checked_names("states", equations)
        #: name -> shape
        self.states = {name: given.get(name, ()) for name in names}
        self.inputs = sizes("inputs", inputs)
        for name, shape in self.states.items():
            if 0 in shape:
                raise UsageError(f"states[{name!r}]", given=shape, allowed="at least one number")
        self.constants = arrays("constant", constants)
        for value in self.constants.values():
            value.setflags(write=False)
        values = arrays("parameter", parameters)
        every = (*names, *values, *self.inputs, *checked_names("definitions", definitions), *self.constants)
        for name in every:
            if every.count(name) > 1:
                allowed = "one meaning each: a state, a parameter, an input, a definition or a constant"
                raise UsageError("names", given=name, allowed=allowed)
        if "t" in every:
            raise UsageError("names", given="t", allowed="any other name: t is time")
        self.state_names, self.input_names = labels(self.states), labels(self.inputs)
        self.masks = checked_masks(masks, values)
        for name, mask in self.masks.items():
            outside(name, values[name], mask)
        self.parameters = values
        shapes = [*self.states.values(), *self.inputs.values()]
        shapes += [v.shape for v in (*values.values(), *self.constants.values())]
        self._has_arrays = any(shapes) or bool(self.masks)
        # a wrong formula is reported here, not at the first solve
        _ = self._arrays if self._has_arrays else self._module

    def __repr__(self) -> str:
        lines = [f"d{name}/dt = {text}" for name, text in self.equations.items()]
        lines += [f"{name} = {text}" for name, text in self.definitions.items()]
        numbers = {k: v for k, v in self.parameters.items() if v.ndim == 0}
        values = ", ".join(f"{k} = {v:.6g}" for k, v in numbers.items())
        others = ", ".join(f"{k} {v.shape}" for k, v in self.parameters.items() if v.ndim)
        shown = [f"  with {text}" for text in (values, others) if text]
        return "\n".join([type(self).__name__, *codegen.indented(lines, 2), *shown])

    def _checked(self, name: str, value: Any, shape: tuple[int, ...]) -> Array:
        array = super()._checked(name, value, shape)
        if name in self.masks:
            outside(name, array, self.masks[name])
        return array

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Bounds of the flat vector: 0 outside of masks."""
        low, high = super().bounds
        free = [self.masks.get(name, np.ones(v.shape, dtype=bool)).ravel() for name, v in self.parameters.items()]
        if self.masks:
            fixed = ~np.concatenate(free)
            low[fixed] = high[fixed] = 0.0
        return low, high

    @cached_property
    def _arrays(self) -> Any:
        """The graph of a system with arrays."""
        return self._array_system("G" if self._reads_step_size else "F")

    def _array_system(self, form: str) -> ArraySystem:
        self._check_names()
        shapes = {name: value.shape for name, value in self.parameters.items()}
        return ArraySystem(
            self.equations, self.definitions, self.states, self.inputs, shapes, self.constants, self.masks,
            form,
        )  # fmt: skip

    # -- systems of scalars ----------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        for what, some in (
            ("state", self.states),
            ("parameter", self.parameters),
            ("input", self.inputs),
            ("definition", self.definitions),
            ("constant", self.constants),
        ):
            check_names(some, what)

    def symbols(self) -> dict[str, Any]:
        """The SymPy symbol of each name."""
        import sympy

        names = (*self.state_names, *self.parameter_names, *self.constants, *self.input_names, "t")
        return {name: sympy.Symbol(name, real=True) for name in names}

    def expressions(self) -> list[Any]:
        """F as SymPy expressions, in the order of the states.

        Raises ExpressionError for a text that would not fit into a page as one.
        """
        symbols, known = self.symbols(), self._known()
        return [parse(text, symbols, f"d{name}/dt", known) for name, text in self.equations.items()]

    def _formulas(self) -> list[Node]:
        """F as graphs, in the order of the states."""
        known = self._known()
        return [read(text, known, where=f"d{name}/dt") for name, text in self.equations.items()]

    def _known(self) -> dict[str, Node]:
        """What a name in a formula stands for: itself, or its definition."""
        self._check_names()
        names = (*self.state_names, *self.parameter_names, *self.constants, *self.input_names, "t")
        known = {name: symbol(name) for name in names}
        for name, text in self.definitions.items():
            known[name] = read(text, known, where=name)
        return known

    def _pattern(self) -> tuple[Any, Any]:
        """By the names that each equation mentions, entry by entry."""
        if self._has_arrays:
            return self._arrays.pattern()
        from scipy.sparse import csr_array

        mentioned = [names_in([f]) for f in self._formulas()]
        J, F_w = (
            csr_array(np.array([[k in each for k in names] for each in mentioned], np.float32).reshape(self.n, -1))
            for names in (self.state_names, self.parameter_names)
        )
        return J, F_w

    @property
    def units(self) -> Array:
        """Which unit each state belongs to (n,): the i-th entries of states that are all vectors of one length."""
        shapes = set(self.states.values())
        if len(shapes) == 1 and len(shape := next(iter(shapes))) == 1:
            return np.tile(np.arange(shape[0]), len(self.states))
        return super().units

    def _parameters_as_inputs(self, names: Iterable[str]) -> Equations:
        """The same equations, in which these parameters, arrays row by row, are inputs behind the others."""
        names = tuple(names)
        kept = {k: v for k, v in self.parameters.items() if k not in names}
        inputs = self.inputs | {k: self.parameters[k].shape for k in names}
        masks = {k: v for k, v in self.masks.items() if k in kept}
        twin = Equations(self.equations, kept, inputs, self.states, self.definitions, self.constants, masks)
        return self._named(twin)

    def _named(self, twin: Equations) -> Equations:
        """The same equations with inputs more, with the names of these."""
        twin.state_names = self.state_names
        twin.input_names = (*self.input_names, *twin.input_names[self.input_size :])
        return twin

    def extended(self, **parameters: Any) -> Self:
        """The same equations with further parameters, which a noise or a loss may read: F does not depend on them.

        Parameters
        ----------
        **parameters : array_like
            Their names and values.

        Returns
        -------
        Equations
            A copy, of the same class, with them behind its own parameters.

        Raises
        ------
        UsageError
            For a name that has a meaning already.

        Examples
        --------
        >>> import ctrnn
        >>> field = ctrnn.GRUNetwork(3, seed=0).extended(sigma=0.2)
        >>> end = ctrnn.Objective(target=0.1, at=[1.0])
        >>> problem = ctrnn.Problem(field, 0.0, (0.0, 1.0), objective=end, noise="sigma")
        >>> float(ctrnn.gradient(problem, solver="euler", dt=0.1).parameters["sigma"]) != 0.0
        True
        """
        more = arrays("parameter", parameters)
        check_names(more, "parameter")
        for name in more:
            if name in (*self.states, *self.parameters, *self.inputs, *self.definitions, *self.constants, "t"):
                raise UsageError("parameters", given=name, allowed="a name that has no other meaning")
        twin = self._without_code()
        twin.parameters = {**self.parameters, **more}
        twin._has_arrays = self._has_arrays or any(value.ndim for value in more.values())
        return twin

    def _with_noise(self, scale: Any) -> Equations:
        g = strengths(self.states, scale)
        taken = (*self.states, *self.parameters, *self.inputs, *self.definitions, *self.constants)
        equations, definitions, constants, white = with_noise(self.equations, g, taken)
        try:
            twin = Equations(
                equations, self.parameters, self.inputs | {white[k]: self.states[k] for k in g}, self.states,
                self.definitions | definitions, self.constants | constants, self.masks,
            )  # fmt: skip
        except ExpressionError as error:
            wrong = next((name for name in g if str(error).startswith(f"d{name}/dt")), None)
            if wrong is None:
                raise in_users_words(error, white.values()) from None
            shape = self.states[wrong]
            allowed = f"a formula that gives a number{f' or shape {shape}' * bool(shape)}"
            raise UsageError(f"noise[{wrong!r}]", given=g[wrong], allowed=allowed) from error
        twin.noise_is_additive = not depends_on(definitions.values(), self.states, self.definitions)
        return self._named(twin)

    def describe(self) -> tuple[dict[str, Any], dict[str, Array]] | None:
        """All that the constructor takes but the parameters; None of a subclass, which may be anything."""
        return self._described() if type(self) is Equations else None

    def _described(self) -> tuple[dict[str, Any], dict[str, Array]]:
        text = {"equations": self.equations, "definitions": self.definitions}
        shapes = {"states": self.states, "inputs": self.inputs}
        arrays = {f"constant {k}": v for k, v in self.constants.items()} | {
            f"mask {k}": v for k, v in self.masks.items()
        }
        return {"kind": "Equations", **text, **shapes}, arrays

    def _with_step_size(self) -> Equations | None:
        if not self._has_arrays:
            return None
        twin = self._without_code()
        twin.input_names = (*self.input_names, "h")
        twin._reads_step_size = True
        return twin

    def _without_code(self) -> Self:
        """A copy for another form of the equations, of which nothing is compiled yet."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__getstate__())
        return twin

    @cached_property
    def _scalars(self) -> ScalarSystem:
        names = self.state_names, self.parameter_names, tuple(self.constants), self.input_names
        return ScalarSystem(self._formulas, *names, self._recipe())

    @property
    def _module(self) -> Any:
        return self._scalars.module

    def _recipe(self) -> str:
        # a text may span lines; here it must not look like two equations
        lines = [f"{name} = {' '.join(text.split())}" for name, text in self.definitions.items()]
        lines += [f"d{name}/dt = {' '.join(text.split())}" for name, text in self.equations.items()]
        fixed = ["constants: " + " ".join(self.constants)] if self.constants else []
        return "\n".join([*lines, "w: " + " ".join(self.parameter_names), *fixed, "x: " + " ".join(self.input_names)])

    # -- both kinds ------------------------------------------------------------------------------------------------

    @cached_property
    def _second_kernel(self) -> SecondKernel:
        if self._has_arrays:
            return self._arrays.second_kernel
        made = self._scalars.second_module
        return SecondKernel(made.jvp.address, made.second.address, keep=(made,))

    @cached_property
    def _lanes_kernel(self) -> LanesKernel | None:
        if self._reads_step_size:
            return None  # members that go side by side have steps of their own
        if self._has_arrays:
            return self._arrays.lanes_kernel
        made = self._scalars.lanes_module
        return LanesKernel(made.field.address, keep=(made,))

    @property
    def _graph(self) -> ArraySystem | None:
        # what is read by a step size in Python's hands needs another function
        return self._arrays if self._has_arrays and not self._reads_step_size else None

    @property
    def row_slots(self) -> RowSlots | None:
        """Functions of many rows at once; of systems of scalars none."""
        return self._arrays.row_slots if self._has_arrays else None

    @property
    def rows_entries(self) -> Array:
        """The parameters as those functions read them."""
        return self._arrays.entries(self.vector, self.constants) if self._has_arrays else super().rows_entries

    def as_rows(self) -> Equations:
        """The same equations as a graph; a system of scalars is one of arrays of one number each."""
        if self._has_arrays:
            return self
        twin = self._without_code()
        twin._has_arrays = True
        return twin

    @cached_property
    def _kernel(self) -> Kernel:
        if self._has_arrays:
            kernel: Kernel = self._arrays.kernel
            return replace(kernel, step_channel=self.input_size - 1) if self._reads_step_size else kernel
        made = self._module
        functions = (made.field, made.vjp, made.accumulate, made.jacobian)
        table = np.array([f.address for f in functions] + [0], dtype=np.int64)
        return Kernel(table, groups=1, columns=self.m, index=np.arange(self.m), keep=(made,))

    def _raisers(self) -> tuple[Callable[[], None], ...]:
        return (self._arrays.code.table.pending.raise_pending,) if self._has_arrays else ()

    def _kernel_vector(self) -> Array:
        if self._has_arrays:
            return self._arrays.packed(self.vector, self.constants)
        return np.concatenate([self.vector, [float(v) for v in self.constants.values()]])

    def _kernel_direction(self, vector: Array) -> Array:
        return self._arrays.direction(vector) if self._has_arrays else super()._kernel_direction(vector)

    def torch_function(self) -> Callable[..., Any]:
        """F in torch's operations."""
        if self._reads_step_size:
            F, D = (self._array_system(form).torch_function(self.constants) for form in "FD")
            return lambda t, r, w, x: phi(x[..., -1:] * D(t, r, w, x[..., :-1])) * F(t, r, w, x[..., :-1])
        if self._has_arrays:
            return self._arrays.torch_function(self.constants)
        function, fixed = self._module.torch_field, {k: float(v) for k, v in self.constants.items()}
        return (lambda t, r, w, x=None: function(t, r, w | fixed, x)) if fixed else function
