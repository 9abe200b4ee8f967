"""Compiled evaluation of an input signal x(t), flattened to a postfix program.

A piecewise polynomial with knots t_1 < ... < t_K has K + 1 pieces,

    x(t) = sum_d c_jd (t - o_j)^d,     j = #{k : t_k <= lookup},

so that piece 0 lies before the first knot and a knot belongs to the piece on its right. ``lookup``
chooses the piece and ``t`` enters the polynomial: with lookup just below a knot, t = t_k gives the
left limit there.

An instruction is a row (operation, size, a, b, c) of ``code``; its numbers lie in ``data`` from
offset ``at``:

    CONSTANT     size, at                values (size,)
    POLYNOMIAL   size, at, K, degree     knots (K,), origins o (K + 1,), coefficients c
                                         (K + 1, degree + 1, size), lowest power first
    SINE         size, at                offset, amplitude, angular frequency, phase: (size,) each
    FUNCTION     size, at, K, address    breaks (K,), first and last argument of each piece (K + 1,)
    ADD          size, size_a, size_b    the two operands lie on top of the stack; one of size 1
    MULTIPLY     size, size_a, size_b    serves all channels of the other

Channels are stacked by leaving values side by side, which needs no instruction. Everything is an
argument: one compiled function serves every signal, and a new signal compiles nothing.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ctrnn.kernels.abi import LEAN, at, call, doubles, integers
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.lazy import lazy

_i, _d = types.int64, types.float64
SIGNAL = types.void(_i, _i, _i, _d, _d, _i, _i)

CONSTANT, POLYNOMIAL, SINE, FUNCTION, ADD, MULTIPLY = range(6)


@intrinsic
def _call(typing_context, address, t, out):
    """Call void (*)(double t, double *out) at an address known only when the program runs."""

    def generate(context, builder, signature, arguments):
        pointer = ir.DoubleType().as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [ir.DoubleType(), pointer])
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        builder.call(function, [arguments[1], builder.inttoptr(arguments[2], pointer)])
        return context.get_dummy_value()

    return types.void(types.int64, types.float64, types.int64), generate


@njit(inline="always")
def _piece(data, at, K, lookup):
    """#{k : data[at + k] <= lookup} for K sorted numbers, by bisection."""
    low, high = 0, K
    while low < high:
        middle = (low + high) >> 1
        if data[at + middle] <= lookup:
            low = middle + 1
        else:
            high = middle
    return low


@intrinsic
def call_signal(typingctx, address, rows, code, data, t, lookup, work, out):
    """Call an input's program at an address."""
    return call(SIGNAL)


@lazy(SIGNAL, **LEAN)
def signal(rows, code_, data_, t, lookup, work_, out_):
    """out <- x(t), the pieces chosen by lookup; code, data, work and out at addresses. Nothing is allocated."""
    # the program knows how much of them is there
    code, data, work, out = integers(code_, (rows, 5)), doubles(data_, 1), doubles(work_, 1), doubles(out_, 1)
    top = 0
    for row in range(code.shape[0]):
        operation, size, at = code[row, 0], code[row, 1], code[row, 2]
        if operation == POLYNOMIAL:
            K, degree = code[row, 3], code[row, 4]
            j = _piece(data, at, K, lookup)
            s = t - data[at + K + j]
            c = at + 2 * K + 1 + j * (degree + 1) * size
            for i in range(size):
                value = data[c + degree * size + i]
                for d in range(degree - 1, -1, -1):
                    value = value * s + data[c + d * size + i]
                work[top + i] = value
            top += size
        elif operation == CONSTANT:
            for i in range(size):
                work[top + i] = data[at + i]
            top += size
        elif operation == SINE:
            for i in range(size):
                angle = data[at + 2 * size + i] * t + data[at + 3 * size + i]
                work[top + i] = data[at + i] + data[at + size + i] * math.sin(angle)
            top += size
        elif operation == FUNCTION:
            K, address = code[row, 3], code[row, 4]
            j = _piece(data, at, K, lookup)
            first, last = data[at + K + j], data[at + 2 * K + 1 + j]
            _call(address, min(max(t, first), last), work_ + 8 * top)
            top += size
        else:
            size_a, size_b = at, code[row, 3]
            b = top - size_b
            a = b - size_a
            step_a, step_b = int(size_a > 1), int(size_b > 1)
            # The result overwrites a: a single a is read first, and b[i] lies above result[i].
            x = work[a] if size > 0 else 0.0
            for i in range(size):
                if step_a:
                    x = work[a + i]
                y = work[b + step_b * i]
                work[a + i] = x + y if operation == ADD else x * y
            top = a + size
    for i in range(top):
        out[i] = work[i]


def source(program):
    """The code, data and address of an input's program, for a ctrnn.kernels.abi.System; empty without one."""
    if program is None or not program.size:
        return np.zeros((0, 5), dtype=np.int64), np.zeros(0), 0
    return program.code, program.data, signal.address


def evaluate(code, data, t, lookup, work, out):
    """out <- x(t), the pieces chosen by lookup.

    code (N, 5) int64, data (D,), t and lookup numbers, work (>= work_size,) scratch, out (>= size,).
    """
    evaluate_times(code, data, np.array([t]), np.array([lookup]), work, out[None])


def evaluate_times(code, data, t, lookup, work, out):
    """out[k] <- x(t[k]), the pieces chosen by lookup[k]: t, lookup (T,), out (T, size)."""
    times(signal.address, code, data, t, lookup, work, out)


@njit(**LEAN)
def times(address, code, data, t, lookup, work, out):
    """x at several times, by a program at an address."""
    for k in range(t.shape[0]):
        call_signal(address, code.shape[0], at(code), at(data), t[k], lookup[k], at(work), at(out[k]))
