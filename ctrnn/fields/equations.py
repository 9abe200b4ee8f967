"""Small general systems: one equation a state, written as text, differentiated and compiled.

    dr_i/dt = F_i(t, r, w, x),    J = ∂F/∂r,    F_w = ∂F/∂w

F is SymPy; J and F_w are derived from it; all three are printed to Numba (only their non-zero entries, common
subexpressions computed once) and F to torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.fields import codegen
from ctrnn.fields.arrays.declared import arrays, checked_masks, labels, outside, sizes
from ctrnn.fields.base import Array, Field, Kernel, LanesKernel, SecondKernel, as_mapping, checked_names


class Equations(Field):
    """A system of ordinary differential equations in named states, parameters and inputs: numbers, vectors and matrices.

    Parameters
    ----------
    equations : dict state name -> right-hand side as text, in the states, parameters, inputs, definitions, constants and ``t``
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
    In a text: ``+ - * / **`` and the scalar functions, entry by entry, a scalar with every entry of an array; ``A @ v``,
    ``v @ A``, ``A @ B``, ``A.T``, ``outer(u, v)``, ``dot(u, v)``, ``sum(v)``, ``mean(v)``, ``v[2]``, ``v[a:b]``; ``where(v > 0, u, v)``.
    States lie one after the other as in ``equations``, matrices row by row, and are named ``r[0]``, ``W[1,2]``.

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
        self.equations = {str(k): str(v) for k, v in equations.items()}
        self.definitions = {str(k): str(v) for k, v in definitions.items()}
        given = sizes("states", states)
        for name in given:
            if name not in self.equations:
                raise UnknownNameError("states", name, self.equations)
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
        from ctrnn.fields.arrays.system import ArraySystem  # brings SymPy

        self._check_names()
        shapes = {name: value.shape for name, value in self.parameters.items()}
        return ArraySystem(
            self.equations, self.definitions, self.states, self.inputs, shapes, self.constants, self.masks
        )

    # -- systems of scalars ----------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        from ctrnn.fields.expressions import check_names

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
        """F as SymPy expressions, in the order of the states."""
        from ctrnn.fields.expressions import parse  # brings SymPy, which a run from the cache does without

        self._check_names()
        known = self.symbols()
        for name, text in self.definitions.items():
            known[name] = parse(text, known, where=name)
        return [parse(text, known, where=f"d{name}/dt") for name, text in self.equations.items()]

    def sparsity(self) -> tuple[Array, Array]:
        """By the names that each equation mentions."""
        symbol, mentioned = self.symbols(), [e.free_symbols for e in self.expressions()]
        J, F_w = (
            np.array([[symbol[name] in each for name in names] for each in mentioned], dtype=bool).reshape(self.n, -1)
            for names in (self.state_names, self.parameter_names)
        )
        return J, F_w

    @cached_property
    def _module(self) -> Any:
        return codegen.module(f"Equations\n{self._recipe()}", self._source)

    def _recipe(self) -> str:
        # a text may span lines; here it must not look like two equations
        lines = [f"{name} = {' '.join(text.split())}" for name, text in self.definitions.items()]
        lines += [f"d{name}/dt = {' '.join(text.split())}" for name, text in self.equations.items()]
        fixed = ["constants: " + " ".join(self.constants)] if self.constants else []
        return "\n".join([*lines, "w: " + " ".join(self.parameter_names), *fixed, "x: " + " ".join(self.input_names)])

    def _source(self) -> str:
        from ctrnn.fields.derivatives import derivative

        F = self.expressions()
        symbol = self.symbols()
        r, w, x = ([symbol[k] for k in ks] for ks in (self.state_names, self.parameter_names, self.input_names))
        n, m, nx = len(r), len(w), len(x)
        fixed = [symbol[k] for k in self.constants]
        held = m + len(fixed)
        J = {(i, j): e for i in range(n) for j in range(n) if (e := derivative(F[i], r[j])) != 0}
        Fw = {(i, j): e for i in range(n) for j in range(m) if (e := derivative(F[i], w[j])) != 0}

        names = {s: f"r[{i}]" for i, s in enumerate(r)} | {s: f"w[{i}]" for i, s in enumerate([*w, *fixed])}
        names |= {s: f"x[{i}]" for i, s in enumerate(x)} | {symbol["t"]: "t"}

        def lines(targets: list[str], expressions: list[Any], **renamed: Any) -> list[str]:
            return codegen.assignments(targets, expressions, "numba", names | renamed.get("names", {}))

        load_w, load_x = [f"w = doubles(w_, {held})"] if held else [], [f"x = doubles(x_, {nx})"] if nx else []
        load = [f"r = doubles(r_, {n})", *load_w, *load_x]
        j_names = {key: f"J_{key[0]}_{key[1]}" for key in J}
        w_names = {key: f"F_{key[0]}_{key[1]}" for key in Fw}

        def product(out: str, by: str, count: int, entries: dict[tuple[int, int], str], add: bool) -> list[str]:
            """out[j, k] (+)= Σ_i by[i, k] entry_ij"""
            written = []
            for j in range(count):
                terms = [f"{by.format(i=i)} * {name}" for (i, column), name in entries.items() if column == j]
                if terms or not add:
                    written.append(f"{out.format(j=j)} {'+=' if add else '='} {' + '.join(terms) or '0.0'}")
            return written or ["pass"]

        vjp = [*load, f"K = doubles(K_, ({n}, q))", f"R = doubles(R_, ({n}, q))"]
        vjp += lines(list(j_names.values()), list(J.values()))
        vjp += ["for k in range(q):", *codegen.indented(product("R[{j}, k]", "K[{i}, k]", n, j_names, add=False))]

        accumulate = [*load_w, "ts = doubles(t_, S)", f"K = doubles(K_, (S, {n}, q))", f"G = doubles(G_, (q, {m}))"]
        inner = ["t = ts[s]", f"r = doubles(r_ + s * {8 * n}, {n})"]
        inner += [f"x = doubles(x_ + 8 * s * x_stride, {nx})"] if nx else []
        inner += lines(list(w_names.values()), list(Fw.values()))
        inner += ["for k in range(q):", *codegen.indented(product("G[k, {j}]", "K[s, {i}, k]", m, w_names, add=True))]
        accumulate += ["x_stride = integers(ctx_, EXTRA)[X_STRIDE]"] if nx else []
        accumulate += ["for s in range(S):", *codegen.indented(inner)]

        jacobian = [*load, f"J = doubles(J_, ({n}, {n}))", "J[:] = 0.0"]
        jacobian += lines([f"J[{i}, {j}]" for i, j in J], list(J.values()))

        field = [*load, f"out = doubles(out_, {n})", *lines([f"out[{i}]" for i in range(n)], F)]

        def compiled(slot: str, head: str, body: list[str]) -> str:
            return codegen.function(f"def {head}", body, codegen.compiled(f"SIGNATURES[{slot}]"))

        torch_names = {s: f"r_{i}" for i, s in enumerate(r)} | {s: f'w["{s}"]' for s in w}
        torch_names |= {s: f'w["{s}"]' for s in fixed}
        torch_names |= {s: f"x[..., {i}]" for i, s in enumerate(x)} | {symbol["t"]: "t"}
        torch = [f"r_{i} = r[..., {i}]" for i in range(n)]
        torch += codegen.assignments([f"F_{i}" for i in range(n)], F, "torch", torch_names)
        torch += [f"return T.stack([{', '.join(f'F_{i}' for i in range(n))}], r)"]

        source = codegen.header(self._recipe().splitlines())
        source += "from ctrnn.kernels.abi import ACCUMULATE, EXTRA, F, JACOBIAN, VJP, X_STRIDE, integers\n"
        source += compiled("F", "field(ctx_, t, r_, w_, x_, out_)", field)
        source += compiled("VJP", "vjp(ctx_, t, r_, w_, x_, q, K_, R_)", vjp)
        source += compiled("ACCUMULATE", "accumulate(ctx_, S, q, t_, r_, w_, x_, K_, G_)", accumulate)
        source += compiled("JACOBIAN", "jacobian(ctx_, t, r_, w_, x_, J_)", jacobian)
        return source + codegen.function("def torch_field(t, r, w, x=None)", torch)

    def _second_source(self) -> str:
        """JVP and SECOND: with q = (r, w), the sums of ∂F_i/∂q_a δq_a and of K_i ∂²F_i/∂q_a∂q_b δq_b over what is not zero."""
        from ctrnn.fields.derivatives import derivative

        F, symbol = self.expressions(), self.symbols()
        q = [symbol[k] for k in self.state_names + self.parameter_names]
        n, m, nx = self.n, self.m, self.input_size
        known = [*q, *(symbol[k] for k in self.constants)]
        names = {s: f"r[{a}]" if a < n else f"w[{a - n}]" for a, s in enumerate(known)} | {symbol["t"]: "t"}
        names |= {symbol[k]: f"x[{i}]" for i, k in enumerate(self.input_names)}
        step = [f"dr[{a}]" if a < n else f"dw[{a - n}]" for a in range(n + m)]
        first = {(i, a): derivative(e, q[a]) for i, e in enumerate(F) for a in range(n + m) if q[a] in e.free_symbols}
        second = {
            (i, a, b): twice
            for (i, a), e in first.items()
            for b in range(a, n + m)
            if q[b] in e.free_symbols and (twice := derivative(e, q[b])) != 0
        }
        shapes = {"r": n, "w": m + len(self.constants), "x": nx, "dr": n, "dw": m}
        load = [f"{name} = doubles({name}_, {size})" for name, size in shapes.items() if size]

        def entries(letter: str, of: dict[Any, Any]) -> tuple[dict[Any, str], list[str]]:
            written = {key: "_".join([letter, *map(str, key)]) for key in of}
            return written, codegen.assignments(list(written.values()), list(of.values()), "numba", names)

        written, lines = entries("F", first)
        jvp = [*load, f"out = doubles(out_, {n})", *lines]
        for i in range(n):
            terms = [f"{name} * {step[a]}" for (k, a), name in written.items() if k == i]
            jvp.append(f"out[{i}] = {' + '.join(terms) or '0.0'}")

        written, lines = entries("F", second)
        turned = [*load, f"K = doubles(K_, {n})", f"R = doubles(R_, {n})", *([f"G = doubles(G_, {m})"] if m else [])]
        turned += lines
        for c in range(n + m):
            terms = [f"K[{i}] * {name} * {step[b]}" for (i, a, b), name in written.items() if a == c]
            terms += [f"K[{i}] * {name} * {step[a]}" for (i, a, b), name in written.items() if b == c and a != c]
            if c < n:
                turned.append(f"R[{c}] = {' + '.join(terms) or '0.0'}")
            elif terms:
                turned.append(f"G[{c - n}] += {' + '.join(terms)}")

        source = codegen.header(self._recipe().splitlines())
        source += "from ctrnn.kernels.abi import JVP, SECOND\n"
        for slot, head, body in (
            ("JVP", "jvp(ctx_, t, r_, w_, x_, dr_, dw_, out_)", jvp),
            ("SECOND", "second(ctx_, t, r_, w_, x_, dr_, dw_, K_, R_, G_)", turned),
        ):
            source += codegen.function(f"def {head}", body, codegen.compiled(f"SIGNATURES[{slot}]"))
        return source

    def _lanes_source(self) -> str:
        """IN_LANES: F in a loop over the lanes, with the exp, log and tanh that become vector instructions."""
        symbol = self.symbols()
        names = {symbol[k]: f"r[{i}, l]" for i, k in enumerate(self.state_names)} | {symbol["t"]: "t[l]"}
        held = (*self.parameter_names, *self.constants)
        names |= {symbol[k]: f"w[{i}, l]" for i, k in enumerate(held)}
        names |= {symbol[k]: f"x[{i}, l]" for i, k in enumerate(self.input_names)}
        shapes = {"r": self.n, "w": len(held), "x": self.input_size, "out": self.n}
        lines = [f"{name} = doubles({name}_, ({rows}, LANES))" for name, rows in shapes.items() if rows]
        targets = [f"out[{i}, l]" for i in range(self.n)]
        loop = codegen.assignments(targets, self.expressions(), "loop", names)
        body = [*lines, "t = doubles(t_, LANES)", "for l in range(L):", *codegen.indented(loop)]
        source = codegen.header(self._recipe().splitlines(), "elementwise")
        source += "from ctrnn.kernels.abi import IN_LANES, LANES\n"
        decorator = codegen.compiled("SIGNATURES[IN_LANES]", ', fastmath={"contract"}')
        return source + codegen.function("def field(ctx_, L, t_, r_, w_, x_, out_)", body, decorator)

    # -- both kinds ------------------------------------------------------------------------------------------------

    @cached_property
    def second_kernel(self) -> SecondKernel:
        if self._has_arrays:
            return super().second_kernel
        made = codegen.module(f"Equations, second order\n{self._recipe()}", self._second_source)
        return SecondKernel(made.jvp.address, made.second.address, keep=(made,))

    @cached_property
    def lanes_kernel(self) -> LanesKernel | None:
        if self._has_arrays:
            return None
        made = codegen.module(f"Equations, in lanes\n{self._recipe()}", self._lanes_source)
        return LanesKernel(made.field.address, keep=(made,))

    @cached_property
    def kernel(self) -> Kernel:
        if self._has_arrays:
            return self._arrays.kernel
        made = self._module
        functions = (made.field, made.vjp, made.accumulate, made.jacobian)
        table = np.array([f.address for f in functions] + [0], dtype=np.int64)
        return Kernel(table, groups=1, columns=self.m, index=np.arange(self.m), keep=(made,))

    def raisers(self) -> tuple[Callable[[], None], ...]:
        return (self._arrays.code.table.pending.raise_pending,) if self._has_arrays else ()

    def kernel_vector(self) -> Array:
        if self._has_arrays:
            return self._arrays.packed(self.vector)
        return np.concatenate([self.vector, [float(v) for v in self.constants.values()]])

    def kernel_direction(self, vector: Array) -> Array:
        return self._arrays.direction(vector) if self._has_arrays else super().kernel_direction(vector)

    def torch_function(self) -> Callable[..., Any]:
        if self._has_arrays:
            return self._arrays.torch_function()
        function, fixed = self._module.torch_field, {k: float(v) for k, v in self.constants.items()}
        return (lambda t, r, w, x=None: function(t, r, w | fixed, x)) if fixed else function
