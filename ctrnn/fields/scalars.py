"""A system of scalar equations, derived and compiled.

Its Jacobian, products with it, the parameter part, the second order, the lanes of ensembles.

    dr_i/dt = F_i(t, r, w, x),    J = ∂F/∂r,    F_w = ∂F/∂w

Only entries that are not zero everywhere are computed, and what occurs in several of them once. The second order is δ
of the derivatives of H = Σ_i K_i F_i, of which no entry of a Hessian is ever made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ctrnn.errors import ExpressionError
from ctrnn.fields import codegen
from ctrnn.fields.algebra import ZERO, Node, add, inside, symbol
from ctrnn.fields.derivatives import gradient, tangent
from ctrnn.fields.printing import assignments

#: operations of a system with its derivatives; some 100 µs each to compile
MAX_OPERATIONS = 100_000
#: entries of a matrix that are written out in products with it; a longer one is gone through by a table of its entries
WRITTEN_OUT = 600


@dataclass
class ScalarSystem:
    """The formulas F, made when asked for, in the names of the states, parameters, constants and inputs.

    ``recipe`` is their text.
    """

    formulas: Callable[[], list[Node]]
    states: tuple[str, ...]
    parameters: tuple[str, ...]
    constants: tuple[str, ...]
    inputs: tuple[str, ...]
    recipe: str

    @cached_property
    def module(self) -> Any:
        """The compiled field, vjp, accumulate and jacobian, and torch_field."""
        return codegen.module(f"Equations\n{self.recipe}", self._source)

    @cached_property
    def second_module(self) -> Any:
        """The compiled jvp and second."""
        return codegen.module(f"Equations, second order\n{self.recipe}", self._second_source)

    @cached_property
    def lanes_module(self) -> Any:
        """The compiled field in lanes."""
        return codegen.module(f"Equations, in lanes\n{self.recipe}", self._lanes_source)

    def _places(self) -> dict[str, str]:
        """How compiled functions write each name."""
        kinds = (("r", self.states), ("w", self.parameters + self.constants), ("x", self.inputs))
        return {name: f"{letter}[{i}]" for letter, names in kinds for i, name in enumerate(names)}

    def _source(self) -> str:
        F = self.formulas()
        n, m, nx = len(self.states), len(self.parameters), len(self.inputs)
        slopes = [gradient(f, self.states + self.parameters) for f in F]
        J = _entries(slopes, self.states)
        Fw = _entries(slopes, self.parameters)
        self._check_size(F, [*J.values(), *Fw.values()])
        places = self._places()

        held = m + len(self.constants)
        load_w, load_x = [f"w = doubles(w_, {held})"] if held else [], [f"x = doubles(x_, {nx})"] if nx else []
        load = [f"r = doubles(r_, {n})", *load_w, *load_x]

        vjp = [*load, f"K = doubles(K_, ({n}, q))", f"R = doubles(R_, ({n}, q))"]
        vjp += _products(J, places, "R[{j}, k]", "K[{i}, k]", n, add=False)

        inner = ["t = ts[s]", f"r = doubles(r_ + s * {8 * n}, {n})"]
        inner += [f"x = doubles(x_ + 8 * s * x_stride, {nx})"] if nx else []
        inner += _products(Fw, places, "G[k, {j}]", "K[s, {i}, k]", m, add=True)
        accumulate = [*load_w, "ts = doubles(t_, S)", f"K = doubles(K_, (S, {n}, q))", f"G = doubles(G_, (q, {m}))"]
        accumulate += ["x_stride = integers(ctx_, EXTRA)[X_STRIDE]"] if nx else []
        accumulate += ["for s in range(S):", *codegen.indented(inner)]

        jacobian = [*load, f"J = doubles(J_, ({n}, {n}))", "J[:] = 0.0"]
        jacobian += assignments([f"J[{i}, {j}]" for i, j in J], list(J.values()), "compiled", places)

        field = [*load, f"out = doubles(out_, {n})"]
        field += assignments([f"out[{i}]" for i in range(n)], F, "compiled", places)

        def compiled(slot: str, head: str, body: list[str]) -> str:
            return codegen.function(f"def {head}", body, codegen.compiled(f"SIGNATURES[{slot}]"))

        torch_places = {name: f"r_{i}" for i, name in enumerate(self.states)}
        torch_places |= {name: f'w["{name}"]' for name in self.parameters + self.constants}
        torch_places |= {name: f"x[..., {i}]" for i, name in enumerate(self.inputs)}
        torch = [f"r_{i} = r[..., {i}]" for i in range(n)]
        torch += assignments([f"F_{i}" for i in range(n)], F, "torch", torch_places)
        torch += [f"return T.stack([{', '.join(f'F_{i}' for i in range(n))}], r)"]

        source = codegen.header(self.recipe.splitlines())
        source += "from ctrnn.kernels.abi import ACCUMULATE, EXTRA, F, JACOBIAN, VJP, X_STRIDE\n"
        source += compiled("F", "field(ctx_, t, r_, w_, x_, out_)", field)
        source += compiled("VJP", "vjp(ctx_, t, r_, w_, x_, q, K_, R_)", vjp)
        source += compiled("ACCUMULATE", "accumulate(ctx_, S, q, t_, r_, w_, x_, K_, G_)", accumulate)
        source += compiled("JACOBIAN", "jacobian(ctx_, t, r_, w_, x_, J_)", jacobian)
        return source + codegen.function("def torch_field(t, r, w, x=None)", torch)

    def _check_size(self, F: Sequence[Node], derived: Sequence[Node]) -> None:
        """Raise ExpressionError where so much would have to be compiled that it would not come to an end soon."""
        count = len(inside([*F, *derived]))
        if count <= MAX_OPERATIONS:
            return
        sizes = [len(inside([f])) for f in F]
        longest = self.states[int(np.argmax(sizes))]
        raise ExpressionError(
            f"d{longest}/dt",
            given=f"{max(sizes)} operations, the most of {len(F)} equations that with their derivatives have {count}",
            allowed=f"{MAX_OPERATIONS} in all",
            hint="write the system with arrays (W @ tanh(r)), or as a network",
        )

    def _second_source(self) -> str:
        """JVP and SECOND: with q = (r, w), δF, and H = Σ_i K_i F_i, of which R and G are δ(∂H/∂q)."""
        F, n, m, nx = self.formulas(), len(self.states), len(self.parameters), len(self.inputs)
        q = self.states + self.parameters
        # names that no formula can have
        step = {k: symbol(f"d[{a}]") for a, k in enumerate(q)}
        K = [symbol(f"K[{i}]") for i in range(n)]
        places = self._places() | {f"d[{a}]": f"dr[{a}]" if a < n else f"dw[{a - n}]" for a in range(n + m)}
        moved = tangent(F, step)
        slopes = gradient(add(*(k * f for k, f in zip(K, F, strict=True))), q)
        turned = dict(zip(slopes, tangent(list(slopes.values()), step), strict=True))
        self._check_size(F, [*moved, *turned.values()])

        shapes = {"r": n, "w": m + len(self.constants), "x": nx, "dr": n, "dw": m}
        load = [f"{k} = doubles({k}_, {size})" for k, size in shapes.items() if size]
        jvp = [*load, f"out = doubles(out_, {n})"]
        jvp += assignments([f"out[{i}]" for i in range(n)], moved, "compiled", places)
        second = [*load, f"K = doubles(K_, {n})", f"R = doubles(R_, {n})", *([f"G = doubles(G_, {m})"] if m else [])]
        parts = {f"R[{a}]": turned.get(k, ZERO) for a, k in enumerate(self.states)}
        more = {a: turned[k] for a, k in enumerate(self.parameters) if turned.get(k, ZERO) is not ZERO}
        second += assignments(
            [*parts, *(f"g_{a}" for a in more)], [*parts.values(), *more.values()], "compiled", places
        )
        second += [f"G[{a}] += g_{a}" for a in more]

        source = codegen.header(self.recipe.splitlines())
        source += "from ctrnn.kernels.abi import JVP, SECOND\n"
        for slot, head, body in (
            ("JVP", "jvp(ctx_, t, r_, w_, x_, dr_, dw_, out_)", jvp),
            ("SECOND", "second(ctx_, t, r_, w_, x_, dr_, dw_, K_, R_, G_)", second),
        ):
            source += codegen.function(f"def {head}", body, codegen.compiled(f"SIGNATURES[{slot}]"))
        return source

    def _lanes_source(self) -> str:
        """IN_LANES: F in a loop over the lanes, with the exp, log and tanh that become vector instructions."""
        places = {name: place.replace("]", ", l]") for name, place in self._places().items()} | {"t": "t[l]"}
        n = len(self.states)
        shapes = {"r": n, "w": len(self.parameters + self.constants), "x": len(self.inputs), "out": n}
        lines = [f"{name} = doubles({name}_, ({rows}, LANES))" for name, rows in shapes.items() if rows]
        targets = [f"out[{i}, l]" for i in range(n)]
        loop = assignments(targets, self.formulas(), "loop", places)
        body = [*lines, "t = doubles(t_, LANES)", "for l in range(L):", *codegen.indented(loop)]
        source = codegen.header(self.recipe.splitlines(), "elementwise")
        source += "from ctrnn.kernels.abi import IN_LANES, LANES\n"
        decorator = codegen.compiled("SIGNATURES[IN_LANES]", contract=True)
        return source + codegen.function("def field(ctx_, L, t_, r_, w_, x_, out_)", body, decorator)


def _entries(slopes: Sequence[Mapping[str, Node]], names: Sequence[str]) -> dict[tuple[int, int], Node]:
    """The entries of a matrix of derivatives that are not zero everywhere, row by row."""
    return {(i, j): row[k] for i, row in enumerate(slopes) for j, k in enumerate(names) if k in row}


def _products(
    entries: Mapping[tuple[int, int], Node], places: Mapping[str, str], out: str, by: str, count: int, add: bool
) -> list[str]:
    """Lines for out[j, k] (+)= Σ_i by[i, k] entry_ij, for all k < q."""
    if len(entries) <= WRITTEN_OUT:
        names = {key: f"e_{key[0]}_{key[1]}" for key in entries}
        lines = assignments(list(names.values()), list(entries.values()), "compiled", places)
        loop = []
        for j in range(count):
            terms = [f"{by.format(i=i)} * {name}" for (i, column), name in names.items() if column == j]
            if terms or not add:
                loop.append(f"{out.format(j=j)} {'+=' if add else '='} {' + '.join(terms) or '0.0'}")
        return [*lines, "for k in range(q):", *codegen.indented(loop or ["pass"])]
    lines = [f"e = scratch({len(entries)})"]
    lines += assignments([f"e[{k}]" for k in range(len(entries))], list(entries.values()), "compiled", places)
    lines += [f"row = table({tuple(i for i, _ in entries)})", f"column = table({tuple(j for _, j in entries)})"]
    clear = [] if add else [f"for j in range({count}):", "    " + out.format(j="j") + " = 0.0"]
    through = [f"for p in range({len(entries)}):", f"    {out.format(j='column[p]')} += {by.format(i='row[p]')} * e[p]"]
    return [*lines, "for k in range(q):", *codegen.indented([*clear, *through])]
