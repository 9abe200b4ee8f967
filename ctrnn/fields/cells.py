"""The cells of networks: a few lines of mathematics each, compiled to elementwise loops.

A unit has state components z, pre-activations u = Ŵ s with the sources s = [h(z); x; 1], and obeys dz/dt = G(z, u, θ).
A cell is h and G, as text. Its partial derivatives are derived, and everything a network does follows
(ctrnn.kernels.network).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields import codegen
from ctrnn.fields.algebra import ZERO, Node, add, names_in, symbol
from ctrnn.fields.derivatives import gradient, tangent
from ctrnn.fields.expressions import read
from ctrnn.fields.printing import assignments

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
    return codegen.compiled(f"types.void(*[types.int64] * {arguments})", contract=True)


@dataclass(frozen=True)
class Cell:
    """The mathematics of one unit.

    states, preactivations, thetas: names; source: h as text in the states; rates: G, one text a state, in the states,
    the pre-activations and the thetas.
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
        """The mathematics as text: what the cell's code is kept under."""
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

    def formulas(self) -> tuple[Node, list[Node]]:
        """h and G, in the names of states, pre-activations and thetas."""
        every = self.states + self.preactivations + self.thetas
        h = read(self.source, self.states, where="source")
        G = [read(text, every, where=f"d{z}/dt") for z, text in zip(self.states, self.rates, strict=True)]
        return h, G

    def _write_second(self) -> str:
        """For ctrnn.kernels.network_second: q are the rows z, u, θ; δ is the derivative along dq."""
        h, G = self.formulas()
        z, u, th = self.states, self.preactivations, self.thetas
        A, B, C = len(z), len(u), len(th)
        q = (*z, *u, *th)
        # names that no formula can have
        dq = {k: symbol(f"dq[{i}]") for i, k in enumerate(q)}
        K = [symbol(f"K[{a}]") for a in range(A)]
        places = {k: f"q[{i}, i]" for i, k in enumerate(q)} | {f"dq[{i}]": f"dq[{i}, i]" for i in range(len(q))}
        places |= {f"K[{a}]": f"K[{a}, i]" for a in range(A)}

        def along(formulas: list[Node], names: tuple[str, ...] = q) -> list[Node]:
            return tangent(formulas, {k: dq[k] for k in names})

        def loop(head: str, views: dict[str, int], targets: list[str], values: list[Node]) -> str:
            lines = [f"{name} = doubles({name}_, ({rows}, n))" for name, rows in views.items() if rows]
            inner = assignments(targets, values, "loop", places)
            return codegen.function(
                f"def {head}", [*lines, "for i in range(n):", *codegen.indented(inner)], _decorator(5)
            )

        # Σ_a K_a ∂G_a/∂q, and its δ
        pulled = gradient(add(*(k * g for k, g in zip(K, G, strict=True))), q)
        by = {k: pulled.get(k, ZERO) for k in q}
        slope = gradient(h, z)
        slopes = [slope.get(k, ZERO) for k in z]
        curvature = [*(by[k] for k in u), *along([by[k] for k in (*u, *z)]), *slopes, *along(slopes, z)]
        curvature += along([by[k] for k in th])
        every = {"q": A + B + C, "dq": A + B + C}
        source = codegen.header(self.recipe().splitlines(), "elementwise")
        source += loop(
            "source_tangent(n, q_, dq_, s_, ds_)",
            every | {"s": 1, "ds": 1},
            ["s[0, i]", "ds[0, i]"],
            [h, *along([h], z)],
        )
        source += loop(
            "rate_tangent(n, q_, dq_, out_, a)",
            every | {"out": A},
            [f"out[{a}, i]" for a in range(A)],
            along(G),
        )
        return source + loop(
            "curvature(n, q_, dq_, K_, out_)",
            every | {"K": A, "out": len(curvature)},
            [f"out[{k}, i]" for k in range(len(curvature))],
            curvature,
        )

    def _write(self) -> str:
        h, G = self.formulas()
        z, u, th = self.states, self.preactivations, self.thetas
        kinds = (("z", z), ("u", u), ("th", th))
        places = {k: f"{letter}_{i}" for letter, names in kinds for i, k in enumerate(names)}

        def loop(signature: str, views: list[tuple[str, int]], targets: list[str], values: list[Node]) -> str:
            """A function over the units; views: (name, rows) of arguments; only what is used is loaded."""
            used = {places[k] for k in names_in(values)}
            lines = [f"{name} = doubles({name}_, ({rows}, n))" for name, rows in views if rows]
            lines += ["for i in range(n):"]
            inner = [f"{k} = {k.split('_')[0]}[{k.split('_')[1]}, i]" for k in sorted(used)]
            inner += assignments(targets, values, "loop", places)
            name = signature.split(",")[0]
            arguments = ", ".join(["n", *[a.strip() for a in signature.split(",")[1:]]])
            decorator = _decorator(len(signature.split(",")))
            return codegen.function(f"def {name}({arguments})", lines + codegen.indented(inner or ["pass"]), decorator)

        A, B, C = len(z), len(u), len(th)
        state, pre, theta = ("z", A), ("u", B), ("th", C)
        by = [gradient(g, z + u + th) for g in G]
        slope = gradient(h, z)
        drive = {f"Gu[{a * B + b}, i]": by[a].get(u[b], ZERO) for a in range(A) for b in range(B)}
        by_theta = {f"Gth[{a * C + b}, i]": by[a].get(th[b], ZERO) for a in range(A) for b in range(C)}
        partials = {f"Gz[{a * A + b}, i]": by[a].get(z[b], ZERO) for a in range(A) for b in range(A)}
        partials |= drive | {f"hz[{a}, i]": slope.get(z[a], ZERO) for a in range(A)}
        source_too = partials | {"h[0, i]": h}  # costs nothing beside its derivative

        def need_u(formulas: dict[str, Node]) -> bool:
            return not names_in(formulas.values()).isdisjoint(u)

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
        torch = {k: f"{letter}[{i}]" for letter, names in kinds for i, k in enumerate(names)}
        lines = assignments(["h"], [h], "torch", torch)
        source += codegen.function("def torch_source(z)", [*lines, "return h"])
        lines = assignments([f"G_{a}" for a in range(A)], G, "torch", torch)
        listed = ", ".join(f"G_{a}" for a in range(A))
        return source + codegen.function("def torch_rate(z, u, th)", [*lines, f"return [{listed}]"])


def activated(activation: Any, z: str, argument: str = "activation") -> str:
    """φ(z) as text, of a name such as "tanh" or of a formula in z.

    Raises
    ------
    UsageError
        For what is neither.

    Examples
    --------
    >>> activated("tanh", "W @ r + b"), activated("z**2/(1 + z**2)", "r")
    ('tanh(W @ r + b)', '((r)**2/(1 + (r)**2))')
    """
    if isinstance(activation, str) and activation in ACTIVATIONS:
        inner = f"({z})" if ACTIVATIONS[activation] == "{z}" or "*" in ACTIVATIONS[activation] else z
        return ACTIVATIONS[activation].format(z=inner)
    if not isinstance(activation, str) or not re.search(r"\bz\b", activation):
        allowed = f"one of {', '.join(ACTIVATIONS)}, or a formula in z such as 'z**2/(1 + z**2)'"
        raise UsageError(argument, given=activation, allowed=allowed)
    return "(" + re.sub(r"\bz\b", f"({z})", activation) + ")"


def rate_equation(activation: Any, form: str, hidden: str, inputs: int) -> tuple[str, dict[str, str]]:
    """τ dr/dt of rate units as array equations: dr/dt, and the definitions of s, which is sent, and u.

    ``hidden``: what the units receive from each other, a text in s.

    >>> rate_equation("tanh", "state", "W @ s", inputs=2)
    ('(-r + u)/tau', {'s': 'tanh(r)', 'u': 'W @ s + U @ x + b'})
    """
    u = f"{hidden} + U @ x + b" if inputs else f"{hidden} + b"
    if form == "state":
        return "(-r + u)/tau", {"s": activated(activation, "r"), "u": u}
    return f"(-r + {activated(activation, 'u')})/tau", {"s": "r", "u": u}


def rate_cell(activation: str, form: str) -> Cell:
    """The rate unit: ``state``: τ dz/dt = −z + W φ(z) + U x + b; ``rate``: τ dz/dt = −z + φ(W z + U x + b)."""
    if form == "state":
        return Cell(("z",), ("u",), ("tau",), source=activated(activation, "z"), rates=("(-z + u)/tau",))
    return Cell(("z",), ("u",), ("tau",), source="z", rates=(f"(-z + {activated(activation, 'u')})/tau",))


class NetworkForm(NamedTuple):
    """What a field declares that is dz/dt = G(z, u, θ), u = W h(z) + U x + b.

    It has one state, one pre-activation and one θ a unit.
    """

    cell: Cell
    trains_theta: bool


class Weights(NamedTuple):
    """The numbers of a network: W (n, n), [U b] (n, inputs + 1), theta (n,)."""

    W: np.ndarray
    drive: np.ndarray
    theta: np.ndarray
