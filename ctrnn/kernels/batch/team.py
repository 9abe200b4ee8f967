"""A second thread beside a compiled loop, for products that may be done by either of the two.

The loop lays a product in a slot (``post``), goes on, and comes back for it (``finish``). Whoever takes it first does it: the other thread, if it is awake and has
nothing else to do, or the loop itself. Where the other has begun and does not come to an end, as its core was given to somebody else, the loop does it
again: the other works on a copy. So little is lost on a machine that others use.

Layout: a board of SLOTS slots of 16 int64, two cache lines each: the state, then the arguments of ctrnn.kernels.batch.tiles.multiply_add, and where the copy of C goes (0: there
is none, and the loop waits).

    EMPTY → POSTED → TAKEN → DONE → EMPTY,    POSTED → EMPTY by the loop itself,    TAKEN → ABANDONED → EMPTY once the other is back

each step by compare and exchange. Handing over takes some 0.2 µs, which 10 kflop are worth. Kernels do the same operations in the same order with and without a team.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ctrnn.kernels.abi import LEAN, doubles
from ctrnn.kernels.batch.tiles import LANES, call_multiply_add, multiply_add

EMPTY, POSTED, TAKEN, DONE, ABANDONED = range(5)
SLOTS, SLOT_SIZE = 3, 16
#: the board's last lines: whether there is a team, the address of ``multiply_add``; and whether the work is over
THERE, ADDRESS, OVER = SLOTS * SLOT_SIZE, SLOTS * SLOT_SIZE + 1, SLOTS * SLOT_SIZE + 8
BOARD_SIZE = SLOTS * SLOT_SIZE + 16
#: how often the loop looks again before it does by itself what the other has begun, apart from the size of the product
PATIENCE = 200

#: the instruction of LLVM's that tells the processor that a loop is waiting
_PAUSE = "llvm.x86.sse2.pause" if platform.machine() in ("x86_64", "AMD64") else ""


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, ir.IntType(64).as_pointer())


@intrinsic
def _load(typingctx, address):
    """The int64 at an address, and all that was written before it was."""
    return types.int64(types.int64), lambda context, builder, signature, arguments: builder.load_atomic(
        _pointer(builder, arguments[0]), "acquire", 8
    )


@intrinsic
def _store(typingctx, address, value):
    """The int64 goes to an address after all that was written before."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[1], _pointer(builder, arguments[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def _turn(typingctx, address, before, after):
    """Whether the state was ``before``, and is ``after`` now by this thread."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        state, before, after = arguments
        found = builder.cmpxchg(_pointer(builder, state), before, after, "acq_rel", "acquire")
        return builder.extract_value(found, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def _wait(typingctx):
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if _PAUSE:
            builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), []), _PAUSE), [])
        return context.get_dummy_value()

    return types.void(), codegen


@njit(**LEAN)
def _do(board, slot, C):
    """The product of a slot, added at C."""
    a = slot * SLOT_SIZE
    q, K, A, row_stride, k_stride = board[a + 1], board[a + 2], board[a + 3], board[a + 4], board[a + 5]
    M, m_stride, width, vectors = board[a + 6], board[a + 7], board[a + 9], board[a + 10]
    call_multiply_add(board[ADDRESS], q, K, A, row_stride, k_stride, M, m_stride, C, width, vectors)


@njit(**LEAN)
def _copy(board, slot, source, to):
    """The rows of the slot's C from one address to another."""
    a = slot * SLOT_SIZE
    q, width, size = board[a + 1], board[a + 9], LANES * board[a + 10]
    for e in range(q):
        values, target = doubles(source + 8 * width * e, size), doubles(to + 8 * width * e, size)
        for j in range(size):
            target[j] = values[j]


@njit(**LEAN)
def post(board, slot, q, K, A, row_stride, k_stride, M, m_stride, C, width, vectors, copy):
    """Lay out the product; it is done at once where there is no team, or it is not back yet.

    What it reads and writes is to be left alone until ``finish``. copy: an address with room for C's rows, or 0.
    """
    a = slot * SLOT_SIZE
    state = board.ctypes.data + 8 * a
    if board[THERE] == 0 or _load(state) != EMPTY:
        call_multiply_add(board[ADDRESS], q, K, A, row_stride, k_stride, M, m_stride, C, width, vectors)
        return
    board[a + 1], board[a + 2], board[a + 3], board[a + 4], board[a + 5] = q, K, A, row_stride, k_stride
    board[a + 6], board[a + 7], board[a + 8], board[a + 9], board[a + 10], board[a + 11] = (
        M,
        m_stride,
        C,
        width,
        vectors,
        copy,
    )
    _store(state, POSTED)


@njit(**LEAN)
def finish(board, slot):
    """The product of the slot is done when this returns, by whomever."""
    a = slot * SLOT_SIZE
    state = board.ctypes.data + 8 * a
    if board[THERE] == 0 or _load(state) == EMPTY or _load(state) == ABANDONED:
        return
    C, copy = board[a + 8], board[a + 11]
    if _turn(state, POSTED, EMPTY):
        _do(board, slot, C)
        return
    patience = PATIENCE + board[a + 1] * board[a + 2] * board[a + 10] // 4
    while _load(state) != DONE:
        _wait()
        patience -= 1
        if patience < 0 and copy != 0 and _turn(state, TAKEN, ABANDONED):
            _do(board, slot, C)
            return
    if copy != 0:
        _copy(board, slot, copy, C)
    _store(state, EMPTY)


def board_for(team: bool) -> np.ndarray:
    """A board with empty slots, from the beginning of a cache line on."""
    whole = np.zeros(BOARD_SIZE + 8, dtype=np.int64)
    board = whole[-whole.ctypes.data % 64 // 8 :][:BOARD_SIZE]
    board[THERE], board[ADDRESS] = int(team), multiply_add.address
    return board


@njit(**LEAN)
def close(board):
    """Nothing more is posted. Whether the other thread has let go of everything that was."""
    _store(board.ctypes.data + 8 * OVER, 1)
    for slot in range(SLOTS):
        if _load(board.ctypes.data + 8 * slot * SLOT_SIZE) != EMPTY:
            return False
    return True


@njit(**LEAN)
def assist(board):
    """The other thread: do what is posted until it is over. It touches the board alone then."""
    start = board.ctypes.data
    while _load(start + 8 * OVER) == 0:
        for slot in range(SLOTS):
            a = slot * SLOT_SIZE
            state = start + 8 * a
            if _load(state) == POSTED and _turn(state, POSTED, TAKEN):
                C, copy = board[a + 8], board[a + 11]
                if copy != 0:
                    _copy(board, slot, C, copy)
                    C = copy
                _do(board, slot, C)
                if not _turn(state, TAKEN, DONE):
                    _store(state, EMPTY)  # abandoned, but let go of now
                break
        _wait()
