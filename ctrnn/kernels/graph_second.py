"""Second order of fields made of arrays (ctrnn.kernels.graph has the first): JVP and SECOND by programs.

    JVP      values and all partial derivatives, then δ of every value along (δr, δw)
    SECOND   that, δ of the partial derivatives, the cotangents of all values for K, and δ of these with K held. With
             u = A s + b of an affine node, row i of [A b]: Ḡ_i += δu̅_i sᵀ + u̅_i δsᵀ

A few times the cost of F and of one cotangent.
"""

from __future__ import annotations

from ctrnn.kernels.abi import COLUMNS, DGEMM, JVP, LEAN, SCRATCH, SECOND, SIGNATURES, address_of, at, doubles, integers
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.graph import CTX_SIZE as FIRST
from ctrnn.kernels.graph_steps import DC, DD, DP, DR, DV, DW, OUT, REGISTERS, RR, C, D, K, R, T, V, W, X, call_execute
from ctrnn.kernels.lazy import lazy

#: ctx entry: the address of the plan of second order
PLAN = FIRST
CTX_SIZE = FIRST + 1

# the plan: sizes of values, of zeros behind their δ, of partial derivatives, cotangents, cotangents of parameters;
# operands of the longest loop; tables; where programs are executed; programs (address, length)
VALUES, ZEROS, PARTIALS, COTANGENTS, PARAMETERS, POINTERS, BLOCKS, DEPOSITS, EXECUTE, PROGRAMS = range(10)
LINEAR, TANGENTS, SLOPES, BACK, TWICE = range(5)
PLAN_SIZE = PROGRAMS + 2 * 5

#: a row of BLOCKS: rows, trained columns, where the sources lie and their δ (base, offset; base −1: δ is 0), offset of
#: the cotangents, address of the panels (rows, 2), and where the sources are listed (0: all, in order)
BLOCK = 9
#: of DEPOSITS: how many, offset, address of the panels
DEPOSIT = 3


def scratch_size(values: int, zeros: int, partials: int, cotangents: int, parameters: int, pointers: int) -> int:
    """Doubles of scratch."""
    return REGISTERS + 1 + pointers + 2 * values + zeros + 2 * partials + 2 * cotangents + parameters


@njit(**LEAN)
def _start(scratch, plan, t, r, w, x, dr, dw):
    """The registers, and room for the operands of a loop, in the scratch: values, partial derivatives and δ of both."""
    registers, pointers = integers(scratch, REGISTERS), integers(scratch + 8 * (REGISTERS + 1), plan[POINTERS])
    time = scratch + 8 * REGISTERS
    doubles(time, 1)[0] = t
    registers[R], registers[W], registers[X], registers[T], registers[DR], registers[DW] = r, w, x, time, dr, dw
    room = scratch + 8 * (REGISTERS + 1 + plan[POINTERS])
    registers[V] = room
    registers[DV] = room + 8 * plan[VALUES]
    zeros = doubles(registers[DV] + 8 * plan[VALUES], plan[ZEROS])
    for j in range(plan[ZEROS]):
        zeros[j] = 0.0
    registers[D] = registers[DV] + 8 * (plan[VALUES] + plan[ZEROS])
    registers[DD] = registers[D] + 8 * plan[PARTIALS]
    registers[C] = registers[DD] + 8 * plan[PARTIALS]
    registers[DC] = registers[C] + 8 * plan[COTANGENTS]
    registers[DP] = registers[DC] + 8 * plan[COTANGENTS]
    return registers, pointers


@njit(**LEAN)
def _run(plan, program, registers, pointers, dgemm):
    code, length = plan[PROGRAMS + 2 * program], plan[PROGRAMS + 2 * program + 1]
    call_execute(plan[EXECUTE], code, length, at(registers), at(pointers), 1, dgemm)


@lazy(SIGNATURES[JVP], **LEAN)
def jvp(ctx_, t, r_, w_, x_, dr_, dw_, out_):
    """The slot JVP of a field's table (ctrnn.kernels.abi)."""
    ctx = integers(ctx_, CTX_SIZE)
    plan = integers(ctx[PLAN], PLAN_SIZE)
    registers, pointers = _start(ctx[SCRATCH], plan, t, r_, w_, x_, dr_, dw_)
    registers[OUT] = out_
    _run(plan, LINEAR, registers, pointers, ctx[DGEMM])
    _run(plan, TANGENTS, registers, pointers, ctx[DGEMM])


@lazy(SIGNATURES[SECOND], **LEAN)
def second(ctx_, t, r_, w_, x_, dr_, dw_, K_, R_, G_):
    """The slot SECOND of a field's table (ctrnn.kernels.abi)."""
    ctx = integers(ctx_, CTX_SIZE)
    plan, columns = integers(ctx[PLAN], PLAN_SIZE), ctx[COLUMNS]
    registers, pointers = _start(ctx[SCRATCH], plan, t, r_, w_, x_, dr_, dw_)
    registers[K], registers[RR] = K_, R_
    registers[OUT] = R_  # δF is not asked for; R is written after it
    gathered = doubles(registers[DP], plan[PARAMETERS])
    for j in range(plan[PARAMETERS]):
        gathered[j] = 0.0
    _run(plan, LINEAR, registers, pointers, ctx[DGEMM])
    _run(plan, TANGENTS, registers, pointers, ctx[DGEMM])
    _run(plan, SLOPES, registers, pointers, ctx[DGEMM])
    _run(plan, BACK, registers, pointers, ctx[DGEMM])
    _run(plan, TWICE, registers, pointers, ctx[DGEMM])
    count = integers(plan[BLOCKS], 1)[0]
    blocks = integers(plan[BLOCKS] + 8, (count, BLOCK))
    for b in range(count):
        rows, width = blocks[b, 0], blocks[b, 1]
        s_ = registers[blocks[b, 2]] + 8 * blocks[b, 3]
        moves = blocks[b, 4] >= 0
        ds_ = registers[max(blocks[b, 4], 0)] + 8 * blocks[b, 5]
        k, dk = doubles(registers[C] + 8 * blocks[b, 6], rows), doubles(registers[DC] + 8 * blocks[b, 6], rows)
        panels = integers(blocks[b, 7], (rows, 2))
        for i in range(rows):
            to = doubles(G_ + 8 * (panels[i, 0] * columns + panels[i, 1]), width)
            if blocks[b, 8] != 0:
                index = integers(blocks[b, 8] + 8 * i * width, width)
                for j in range(width):
                    to[j] += dk[i] * doubles(s_ + 8 * index[j], 1)[0]
                    if moves:
                        to[j] += k[i] * doubles(ds_ + 8 * index[j], 1)[0]
                continue
            s, ds = doubles(s_, width), doubles(ds_, width)
            for j in range(width):
                to[j] += dk[i] * s[j]
            if moves:
                for j in range(width):
                    to[j] += k[i] * ds[j]
    count = integers(plan[DEPOSITS], 1)[0]
    singles = integers(plan[DEPOSITS] + 8, (count, DEPOSIT))
    for b in range(count):
        panels = integers(singles[b, 2], (singles[b, 0], 2))
        for i in range(singles[b, 0]):
            if panels[i, 0] >= 0:
                doubles(G_ + 8 * (panels[i, 0] * columns + panels[i, 1]), 1)[0] += gathered[singles[b, 1] + i]


def addresses() -> tuple[int, int]:
    """Of JVP and SECOND, which all such fields share."""
    return address_of(jvp), address_of(second)
