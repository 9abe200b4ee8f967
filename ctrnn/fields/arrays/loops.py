"""Elementwise nodes as compiled loops, and as torch functions.

A loop is given n and the addresses of its arrays: what it reads, then what it writes. Its text has canonical names, so
that the same formula is the same loop in every field; two fields of one text share all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from ctrnn.fields import codegen
from ctrnn.fields.algebra import Node, names_in, substituted, symbol
from ctrnn.fields.arrays.programs import Loop
from ctrnn.fields.arrays.values import Value
from ctrnn.fields.derivatives import tangent
from ctrnn.fields.printing import assignments


def formulas_of(loop: Loop) -> tuple[list[Node], list[Value], list[Value]]:
    """What a loop writes, the inputs that it reads, and those whose δ it reads."""
    node = loop.node
    slopes = [node.partial(k, v) for k, v in loop.slopes]
    if loop.tangent:
        written = tangent(slopes, {v.name: symbol(f"δ({v.name})") for v in node.inputs})
    else:
        written = [*(node.expressions[k] for k in loop.outs), *slopes]
    used = names_in(written)
    moved = [v for v in node.inputs if f"δ({v.name})" in used]
    return written, [v for v in node.inputs if v.name in used], moved


def compiled(loop: Loop) -> tuple[int, list[Value], list[Value], Any]:
    """The address of a loop, what it reads, what it reads δ of, and what owns the code."""
    written, inputs, moved = formulas_of(loop)
    names = [v.name for v in inputs] + [f"δ({v.name})" for v in moved]
    made = module(_canonical(written, names), len(names))
    return made.loop.address, inputs, moved, made


def _canonical(written: Sequence[Node], names: Sequence[str]) -> tuple[Node, ...]:
    return tuple(substituted(written, {name: symbol(f"z{j}") for j, name in enumerate(names)}))


@lru_cache(maxsize=256)
def module(written: tuple[Node, ...], inputs: int) -> Any:
    """The compiled loop of formulas in z0, z1 and so on."""
    count = len(written)
    inner = assignments([f"a{inputs + k}[i]" for k in range(count)], written, "loop")
    recipe = "\n".join([f"Loop of {inputs}", *inner])

    def source() -> str:
        lines = [f"p = integers(p_, {inputs + count})"]
        lines += [f"a{j} = doubles(p[{j}], n)" for j in range(inputs + count)]
        loop = [*(f"z{j} = a{j}[i]" for j in range(inputs)), *inner]
        body = [*lines, "for i in range(n):", *codegen.indented(loop)]
        decorator = codegen.compiled("types.void(types.int64, types.int64)", contract=True)
        return codegen.header(recipe.splitlines(), "elementwise") + codegen.function("def loop(n, p_)", body, decorator)

    return codegen.module(recipe, source)


def torch_function(loop: Loop) -> tuple[Callable[..., list[Any]], list[Value]]:
    """What a loop writes as a function of tensors, and the values that it takes."""
    written, inputs, _ = formulas_of(loop)
    return _torch_module(_canonical(written, [v.name for v in inputs]), len(inputs)).loop, inputs


@lru_cache(maxsize=256)
def _torch_module(written: tuple[Node, ...], inputs: int) -> Any:
    count = len(written)
    lines = assignments([f"o{k}" for k in range(count)], written, "torch")
    lines.append(f"return [{', '.join(f'o{k}' for k in range(count))}]")
    recipe = "\n".join([f"Loop of {inputs}, torch", *lines])
    head = f"def loop({', '.join(f'z{j}' for j in range(inputs))})"
    return codegen.module(
        recipe, lambda: codegen.header(recipe.splitlines(), "elementwise") + codegen.function(head, lines)
    )
