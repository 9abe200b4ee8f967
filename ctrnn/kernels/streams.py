"""Numbers read and written by compiled elementwise loops, with the promise that what is written is never read or written under another name.

A loop over a dozen arrays at unknown addresses becomes vector instructions only if the compiler knows that they do not overlap. Left alone it compares
the addresses before the loop, and gives up beyond some twenty arrays. Here each load and store carries the promise (LLVM's ``alias.scope`` and
``noalias``): inputs may overlap each other, outputs overlap nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _promise(builder: Any, instruction: Any, mine: str, others: Iterable[str]) -> None:
    module = builder.module
    domain = module.add_metadata([ir.MetaDataString(module, "ctrnn loop")])

    def scopes(names: Iterable[str]) -> Any:
        return module.add_metadata(
            [module.add_metadata([ir.MetaDataString(module, name), domain]) for name in names],
        )

    instruction.set_metadata("alias.scope", scopes([mine]))
    instruction.set_metadata("noalias", scopes(others))


def _element(builder: Any, address: Any, i: Any) -> Any:
    return builder.gep(builder.inttoptr(address, ir.DoubleType().as_pointer()), [i])


@intrinsic(prefer_literal=True)
def get(typingctx, address, i, outputs):
    """Number i of an input; ``outputs``: how many arrays the loop writes."""
    count = outputs.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_element(builder, arguments[0], arguments[1]), align=8)
        _promise(builder, value, "in", [f"out {k}" for k in range(count)])
        return value

    return types.float64(types.int64, types.intp, outputs), codegen


@intrinsic(prefer_literal=True)
def put(typingctx, address, i, value, k, outputs):
    """Number i of output k of so many ← value."""
    count, mine = outputs.literal_value, k.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        store = builder.store(arguments[2], _element(builder, arguments[0], arguments[1]), align=8)
        _promise(builder, store, f"out {mine}", ["in", *(f"out {j}" for j in range(count) if j != mine)])
        return context.get_dummy_value()

    return types.void(types.int64, types.intp, types.float64, k, outputs), codegen
