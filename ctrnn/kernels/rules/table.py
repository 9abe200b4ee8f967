"""What a rule of learning is at run time: the addresses of four functions, and the address of what it carries.

    slot      signature                        does                                                   shapes
    TAKE      (memory, h, t, r, x, w)          one step on                          t (s,), r (s, n), x (s, channels)
    ADD       (memory, row)                    a loss at the present state with ∂ℓ/∂r = row           (n,)
    COLLECT   (memory, G)                      G += the gradient of all losses since the last call    (groups, columns)
    RESET     (memory)                         a state that begins anew

All arguments but h are addresses; each returns 0, or another number where it failed. A memory in compiled code is an
array of 64-bit integers, sizes and addresses; one that is written in Python stands behind callbacks of the same
signatures (ctrnn.gradients.rules.rule), so that the loop (ctrnn.kernels.rules.loop) knows one kind of rule.
"""

import ctypes
from typing import Any

from numba import types
from numba.extending import intrinsic

from ctrnn.kernels.abi import LEAN, call, doubles
from ctrnn.kernels.compiled import njit

TAKE, ADD, COLLECT, RESET = range(4)
SLOTS = 4
_i, _d = types.int64, types.float64
#: G (groups, columns) += ∂ℓ/∂r P of a row, nothing changes: for Python (memory, row, G)
PULL = _i(_i, _i, _i)
SIGNATURES = (_i(_i, _d, _i, _i, _i, _i), _i(_i, _i), _i(_i, _i), _i(_i))


_CTYPES: dict[Any, Any] = {types.int64: ctypes.c_int64, types.float64: ctypes.c_double}


def c_type(signature: Any) -> Any:
    """The ctypes type of functions of a signature."""
    return ctypes.CFUNCTYPE(_CTYPES[signature.return_type], *[_CTYPES[a] for a in signature.args])


@intrinsic
def call_take(typingctx, address, memory, h, t, r, x, w):
    """TAKE at an address."""
    return call(SIGNATURES[TAKE])


@intrinsic
def call_with(typingctx, address, memory, array):
    """ADD or COLLECT at an address."""
    return call(SIGNATURES[ADD])


@njit(**LEAN)
def hand_over(g_, size, G_, clear):
    """G += g of so many numbers; clear: then g = 0."""
    g, G = doubles(g_, size), doubles(G_, size)
    for j in range(size):
        G[j] += g[j]
    if clear:
        for j in range(size):
            g[j] = 0.0
