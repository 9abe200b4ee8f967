"""The input x(t) of LANES members at a time of each one's own.

The program of ctrnn.kernels.signals, each instruction for all lanes at once.

The stack is work (work_size, L), the lane behind the channel, and all arithmetic that of ``evaluate``, so that each x
is the same to the last bit.
"""

from __future__ import annotations

import math

from ctrnn.kernels.abi import LANES, LEAN, at, doubles, integers
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.signals import ADD, CONSTANT, FUNCTION, POLYNOMIAL, SINE, _call, _piece

#: of functions that compiled code alone calls: nothing is made for calls from Python
INNER = LEAN | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


@njit(**INNER)
def evaluate_in_lanes(rows, code, data, data_size, t, lookup, work, work_size, one, out, channels):
    """out (channels, L) ← x(t), the pieces chosen by lookup; all but sizes are addresses.

    t, lookup (L,), NaN in lanes with no member; work (work_size, L) and one (channels,) are working space.
    """
    code, data, one = integers(code, (rows, 5)), doubles(data, data_size), doubles(one, work_size)
    t, lookup, work = doubles(t, LANES), doubles(lookup, LANES), doubles(work, (work_size, LANES))
    top = 0
    for row in range(rows):
        operation, size, begin, K = code[row, 0], code[row, 1], code[row, 2], code[row, 3]
        if operation == CONSTANT:
            for i in range(size):
                for l in range(LANES):
                    work[top + i, l] = data[begin + i]
            top += size
        elif operation == POLYNOMIAL:
            degree = code[row, 4]
            for l in range(LANES):
                j = _piece(data, begin, K, lookup[l])
                s = t[l] - data[begin + K + j]
                c = begin + 2 * K + 1 + j * (degree + 1) * size
                for i in range(size):
                    value = data[c + degree * size + i]
                    for d in range(degree - 1, -1, -1):
                        value = value * s + data[c + d * size + i]
                    work[top + i, l] = value
            top += size
        elif operation == SINE:
            for i in range(size):
                offset, amplitude = data[begin + i], data[begin + size + i]
                omega, phase = data[begin + 2 * size + i], data[begin + 3 * size + i]
                for l in range(LANES):
                    work[top + i, l] = offset + amplitude * math.sin(omega * t[l] + phase)
            top += size
        elif operation == FUNCTION:
            for l in range(LANES):
                if lookup[l] == lookup[l]:
                    j = _piece(data, begin, K, lookup[l])
                    first, last = data[begin + K + j], data[begin + 2 * K + 1 + j]
                    _call(code[row, 4], min(max(t[l], first), last), at(one))
                    for i in range(size):
                        work[top + i, l] = one[i]
            top += size
        else:
            size_a, size_b = begin, K
            b = top - size_b
            a = b - size_a
            step_a, step_b = int(size_a > 1), int(size_b > 1)
            for l in range(LANES):
                x = work[a, l] if size > 0 else 0.0  # a single a is read first: the result overwrites it
                for i in range(size):
                    if step_a:
                        x = work[a + i, l]
                    y = work[b + step_b * i, l]
                    work[a + i, l] = x + y if operation == ADD else x * y
            top = a + size
    x = doubles(out, (channels, LANES))
    for i in range(top):
        for l in range(LANES):
            x[i, l] = work[i, l]
