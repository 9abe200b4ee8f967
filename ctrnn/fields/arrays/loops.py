"""Elementwise nodes as compiled loops, and as torch functions.

A loop is given n and the addresses of its arrays: what it reads, then what it writes. Its text has canonical names, so that the same formula is the same loop
in every field; two fields of one text share all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from ctrnn.fields import codegen
from ctrnn.fields.arrays.graph import Elementwise
from ctrnn.fields.arrays.programs import Loop
from ctrnn.fields.arrays.values import Builder, Value


def expressions_of(loop: Loop, symbol: Callable[[Value], Any]) -> tuple[list[Any], list[Value], list[Value]]:
    """What a loop writes, the inputs that it reads, and those whose δ it reads."""
    import sympy

    node = loop.node
    if not loop.tangent:
        written = [node.expressions[k] for k in loop.outs]
        written += [node.partial(k, v, symbol(v)) for k, v in loop.slopes]
        return written, _read(node, written, symbol), []
    from ctrnn.fields.derivatives import derivative

    delta = {v: sympy.Symbol(f"δ{v.name}", real=True) for v in node.inputs}
    written = []
    for k, v in loop.slopes:
        slope = node.partial(k, v, symbol(v))
        written.append(sum((derivative(slope, symbol(u)) * delta[u] for u in node.inputs), sympy.S.Zero))
    free = set().union(*(e.free_symbols for e in written)) if written else set()
    return written, _read(node, written, symbol), [u for u in node.inputs if delta[u] in free]


def _read(node: Elementwise, written: Sequence[Any], symbol: Callable[[Value], Any]) -> list[Value]:
    free = set().union(*(e.free_symbols for e in written)) if written else set()
    return [v for v in node.inputs if symbol(v) in free]


def compiled(loop: Loop, builder: Builder) -> tuple[int, list[Value], list[Value], Any]:
    """The address of a loop, what it reads, what it reads δ of, and what owns the code."""
    import sympy

    written, inputs, moved = expressions_of(loop, builder.symbol)
    names = [builder.symbol(v) for v in inputs] + [sympy.Symbol(f"δ{v.name}", real=True) for v in moved]
    canonical = {s: sympy.Symbol(f"z{j}", real=True) for j, s in enumerate(names)}
    made = module(tuple(e.xreplace(canonical) for e in written), len(names))
    return made.loop.address, inputs, moved, made


def _texts(written: Sequence[Any], target: str) -> str:
    """Expressions with all their digits."""
    write = codegen.printer(target).doprint
    return "\n".join(write(e) for e in written)


@lru_cache(maxsize=4096)
def module(written: tuple[Any, ...], inputs: int) -> Any:
    """The compiled loop of expressions in z0, z1, …"""
    recipe = f"Loop of {inputs}\n" + _texts(written, "loop")
    return codegen.module(recipe, lambda: _source(recipe, written, inputs))


def _source(recipe: str, written: Sequence[Any], inputs: int) -> str:
    import sympy

    count = len(written)
    lines = [f"p = integers(p_, {inputs + count})"] + [f"a{j} = p[{j}]" for j in range(inputs + count)]
    names = {sympy.Symbol(f"z{j}", real=True): f"z{j}" for j in range(inputs)}
    inner = [f"z{j} = get(a{j}, i, {count})" for j in range(inputs)]
    inner += codegen.assignments([f"o{k}" for k in range(count)], written, "loop", names)
    inner += [f"put(a{inputs + k}, i, o{k}, {k}, {count})" for k in range(count)]
    source = codegen.header(recipe.splitlines(), "elementwise")
    source += "from ctrnn.kernels.abi import integers\nfrom ctrnn.kernels.streams import get, put\n"
    decorator = codegen.compiled("types.void(types.int64, types.int64)", ', fastmath={"contract"}')
    return source + codegen.function(
        "def loop(n, p_)", [*lines, "for i in range(n):", *codegen.indented(inner)], decorator
    )


def torch_function(node: Elementwise, builder: Builder) -> Callable[..., list[Any]]:
    """(z0, z1, …) on tensors -> the node's outputs."""
    import sympy

    canonical = {builder.symbol(v): sympy.Symbol(f"z{j}", real=True) for j, v in enumerate(node.inputs)}
    written = tuple(e.xreplace(canonical) for e in node.expressions)
    return _torch_module(written, len(node.inputs)).loop  # type: ignore[no-any-return]


@lru_cache(maxsize=4096)
def _torch_module(written: tuple[Any, ...], inputs: int) -> Any:
    recipe = f"Loop of {inputs}, torch\n" + _texts(written, "torch")

    def source() -> str:
        import sympy

        names = {sympy.Symbol(f"z{j}", real=True): f"z{j}" for j in range(inputs)}
        count = len(written)
        lines = codegen.assignments([f"o{k}" for k in range(count)], written, "torch", names)
        lines.append(f"return [{', '.join(f'o{k}' for k in range(count))}]")
        head = f"def loop({', '.join(f'z{j}' for j in range(inputs))})"
        return codegen.header(recipe.splitlines(), "elementwise") + codegen.function(head, lines)

    return codegen.module(recipe, source)
