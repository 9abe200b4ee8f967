"""The cells of networks: a few lines of mathematics each, compiled to elementwise loops.

A unit has state components z, pre-activations u = Ŵ s with the sources s = [h(z); x; 1], and obeys dz/dt = G(z, u, θ). A cell
is h and G, as text. Its partial derivatives are derived, and everything a network does follows (ctrnn.kernels.network).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from ctrnn.fields import codegen

#: φ of a rate unit, as a function of z. ``erf`` is scaled to slope 1 at 0.
ACTIVATIONS: Mapping[str, str] = {
    "tanh": "tanh({z})",
    "relu": "relu({z})",
    "softplus": "softplus({z})",
    "sigmoid": "sigmoid({z})",
    "linear": "{z}",
    "erf": "erf(sqrt(pi)/2 * {z})",
}


def _decorator(arguments: int) -> str:
    """Of a compiled loop over units; a·b + c may be one operation, as in the vector instructions that it becomes."""
    return codegen.compiled(f"types.void(*[types.int64] * {arguments})", ', fastmath={"contract"}')


@dataclass(frozen=True)
class Cell:
    """The mathematics of one unit.

    states, preactivations, thetas: names; source: h as text in the states; rates: G, one text a state, in the states, the
    pre-activations and the thetas.
    """

    states: tuple[str, ...]
    preactivations: tuple[str, ...]
    thetas: tuple[str, ...]
    source: str
    rates: tuple[str, ...]

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: the mathematics, not the compiled code."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def recipe(self) -> str:
        names = " | ".join(" ".join(part) for part in (self.states, self.preactivations, self.thetas))
        rates = [f"d{z}/dt = {g}" for z, g in zip(self.states, self.rates, strict=True)]
        return "\n".join([f"cell {names}", f"source = {self.source}", *rates])

    @cached_property
    def module(self) -> Any:
        """The compiled loops source, rate and partials, and torch_source, torch_rate."""
        return codegen.module(f"Cell\n{self.recipe()}", self._write)

    @cached_property
    def second_module(self) -> Any:
        """The compiled loops source_tangent, rate_tangent and curvature, of second order."""
        return codegen.module(f"Cell, second order\n{self.recipe()}", self._write_second)

    def _expressions(self) -> tuple[list[Any], list[Any], list[Any], Any, list[Any]]:
        """The symbols z, u, θ, and h and G in them."""
        import sympy

        from ctrnn.fields.expressions import parse

        every = self.states + self.preactivations + self.thetas
        symbol = {name: sympy.Symbol(name, real=True) for name in every}
        z, u, th = ([symbol[k] for k in ks] for ks in (self.states, self.preactivations, self.thetas))
        h = parse(self.source, {k: symbol[k] for k in self.states}, where="source")
        G = [parse(text, symbol, where=f"d{name}/dt") for name, text in zip(self.states, self.rates, strict=True)]
        return z, u, th, h, G

    def _write_second(self) -> str:
        """For ctrnn.kernels.network_second: q are the rows z, u, θ; δ is the derivative along dq."""
        import sympy

        from ctrnn.fields.derivatives import derivative

        z, u, th, h, G = self._expressions()
        q = [*z, *u, *th]
        A, B, C = len(z), len(u), len(th)
        dq = [sympy.Symbol(f"d_{k}", real=True) for k in range(len(q))]
        K = [sympy.Symbol(f"K_{a}", real=True) for a in range(A)]
        names = {s: f"q[{k}, i]" for k, s in enumerate(q)} | {s: f"dq[{k}, i]" for k, s in enumerate(dq)}
        names |= {s: f"K[{a}, i]" for a, s in enumerate(K)}

        def along(e: Any, count: int) -> Any:
            return sum((derivative(e, q[k]) * dq[k] for k in range(count)), sympy.S.Zero)

        def loop(head: str, views: dict[str, int], targets: list[str], values: list[Any]) -> str:
            lines = [f"{name} = doubles({name}_, ({rows}, n))" for name, rows in views.items() if rows]
            inner = codegen.assignments(targets, values, "loop", names)
            return codegen.function(
                f"def {head}", [*lines, "for i in range(n):", *codegen.indented(inner)], _decorator(5)
            )

        def pulled(variables: list[Any]) -> list[Any]:
            """Σ_a K_a ∂G_a/∂v"""
            return [sum((K[a] * derivative(G[a], v) for a in range(A)), sympy.S.Zero) for v in variables]

        def second(variables: list[Any]) -> list[Any]:
            """Σ_a K_a δ(∂G_a/∂v)"""
            return [
                sum((K[a] * along(derivative(G[a], v), A + B + C) for a in range(A)), sympy.S.Zero) for v in variables
            ]

        slopes = [derivative(h, v) for v in z]
        curvature = [*pulled(u), *second(u), *second(z), *slopes, *(along(e, A) for e in slopes), *second(th)]
        every = {"q": A + B + C, "dq": A + B + C}
        source = codegen.header(self.recipe().splitlines(), "elementwise")
        source += loop(
            "source_tangent(n, q_, dq_, s_, ds_)", every | {"s": 1, "ds": 1}, ["s[0, i]", "ds[0, i]"], [h, along(h, A)]
        )
        source += loop(
            "rate_tangent(n, q_, dq_, out_, a)",
            every | {"out": A},
            [f"out[{a}, i]" for a in range(A)],
            [along(e, A + B + C) for e in G],
        )
        return source + loop(
            "curvature(n, q_, dq_, K_, out_)",
            every | {"K": A, "out": len(curvature)},
            [f"out[{k}, i]" for k in range(len(curvature))],
            curvature,
        )

    def _write(self) -> str:
        import sympy

        from ctrnn.fields.derivatives import derivative

        z, u, th, h, G = self._expressions()

        numba = {s: f"z_{i}" for i, s in enumerate(z)} | {s: f"u_{i}" for i, s in enumerate(u)}
        numba |= {s: f"th_{i}" for i, s in enumerate(th)}

        def loop(signature: str, views: list[tuple[str, int]], targets: list[str], values: list[Any]) -> str:
            """A function over the units; views: (name, rows) of arguments; only what is used is loaded."""
            used = {numba[s] for e in values for s in sympy.sympify(e).free_symbols}
            lines = [f"{name} = doubles({name}_, ({rows}, n))" for name, rows in views if rows]
            lines += ["for i in range(n):"]
            inner = [f"{k} = {k.split('_')[0]}[{k.split('_')[1]}, i]" for k in sorted(used)]
            inner += codegen.assignments(targets, values, "loop", numba)
            name = signature.split(",")[0]
            arguments = ", ".join(["n", *[a.strip() for a in signature.split(",")[1:]]])
            decorator = _decorator(len(signature.split(",")))
            return codegen.function(f"def {name}({arguments})", lines + codegen.indented(inner or ["pass"]), decorator)

        A, B, C = len(z), len(u), len(th)
        state, pre, theta = ("z", A), ("u", B), ("th", C)
        drive = {f"Gu[{a * B + b}, i]": derivative(G[a], u[b]) for a in range(A) for b in range(B)}
        by_theta = {f"Gth[{a * C + b}, i]": derivative(G[a], th[b]) for a in range(A) for b in range(C)}
        partials = {f"Gz[{a * A + b}, i]": derivative(G[a], z[b]) for a in range(A) for b in range(A)}
        partials |= drive | {f"hz[{a}, i]": derivative(h, z[a]) for a in range(A)}
        source_too = partials | {"h[0, i]": h}  # costs nothing beside its derivative

        def need_u(expressions: dict[str, Any]) -> bool:
            return any(e.has(*u) for e in expressions.values())

        source = codegen.header(self.recipe().splitlines(), "elementwise")
        source += f"\nNEEDS_U, DRIVE_NEEDS_U = {need_u(partials)}, {need_u(drive)}\n"
        source += loop("source, z_, out_, a, b", [state, ("out", 1)], ["out[0, i]"], [h])
        rates = [f"out[{a}, i]" for a in range(A)]
        source += loop("rate, z_, u_, th_, out_", [state, pre, theta, ("out", A)], rates, G)
        # what the parameter part asks for alone: ∂G/∂u, and ∂G/∂θ where θ is trained
        for name, rows, values in (("Gu", A * B, drive), ("Gth", A * C, by_theta)):
            head = f"{'drive' if name == 'Gu' else 'by_theta'}, z_, u_, th_, {name}_"
            source += loop(head, [state, pre, theta, (name, rows)], list(values), list(values.values()))
        every = [("Gz", A * A), ("Gu", A * B), ("hz", A), ("h", 1)]
        head = "partials, z_, u_, th_, Gz_, Gu_, hz_, h_"
        source += loop(head, [state, pre, theta, *every], list(source_too), list(source_too.values()))
        torch = {s: f"z[{i}]" for i, s in enumerate(z)} | {s: f"u[{i}]" for i, s in enumerate(u)}
        torch |= {s: f"th[{i}]" for i, s in enumerate(th)}
        lines = codegen.assignments(["h"], [h], "torch", torch)
        source += codegen.function("def torch_source(z)", [*lines, "return h"])
        lines = codegen.assignments([f"G_{a}" for a in range(A)], G, "torch", torch)
        listed = ", ".join(f"G_{a}" for a in range(A))
        return source + codegen.function("def torch_rate(z, u, th)", [*lines, f"return [{listed}]"])


def rate_cell(activation: str, form: str) -> Cell:
    """The rate unit: ``state``: τ dz/dt = −z + W φ(z) + U x + b; ``rate``: τ dz/dt = −z + φ(W z + U x + b)."""
    phi = ACTIVATIONS[activation]
    if form == "state":
        return Cell(("z",), ("u",), ("tau",), source=phi.format(z="z"), rates=("(-z + u)/tau",))
    return Cell(("z",), ("u",), ("tau",), source="z", rates=(f"(-z + {phi.format(z='u')})/tau",))
