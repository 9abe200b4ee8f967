"""What a field is at run time: five addresses and a few numbers.

The stepper and the pullback are compiled once and cached. They reach a field through the addresses of its functions,
so a new equation compiles its own few small functions and nothing else. All arguments are int64 addresses of
contiguous float64 arrays, apart from t and counts; a C function, a Numba ``cfunc`` and a ``ctypes`` callback into
Python therefore all fit.

    slot        signature                                 computes                                      shapes
    F           (ctx, t, r, w, x, out)                    out = F(t, r, w, x)                           out (n,)
    VJP         (ctx, t, r, w, x, q, K, R)                R = Jᵀ K                                      K, R (n, q)
    ACCUMULATE  (ctx, S, q, t, r, w, x, K, G)             G[g, k, c] +=                                 K (S, n, q),
                                                            Σ_s Σ_i K[s, i, k] F_w[s, i, gc]            G (g, q, c)
    JACOBIAN    (ctx, t, r, w, x, J)                      J = ∂F/∂r                                     J (n, n)
    LEAK        (ctx, t, r, w, x, J)                      the part of J by which a unit acts on itself   J (n, n)
                                                          directly, not through its connections

Second order goes by two more, whose addresses a field makes only when they are asked for:

    JVP         (ctx, t, r, w, x, dr, dw, out)            out = J δr + F_w δw                   out (n,)
    SECOND      (ctx, t, r, w, x, dr, dw, K, R, G)        R = K δJ,  G += K δF_w                K, R (n,), G (g, c)

δ is the derivative along (δr, δw) with K held, and δw lies as w does: H = Σ_i K_i F_i, R = ∂(∂H)/∂r, G = ∂(∂H)/∂w.

An ensemble takes LANES = L members at once by one more, likewise made when asked for, with the lane as the last index
of all (ctrnn.kernels.lanes.steps):

    IN_LANES    (ctx, L, t, r, w, x, out)                 out = F(t, r, w, x) in each lane    t (L,), r and out (n, L)

B rows, trials in lockstep, are taken at once by three more, with a tape of what the way back needs of S stages
(ctrnn.kernels.batch.graph_rows):

    F_ROWS           (ctx, B, S, m, t, r, w, x, out, tape)      out = F(t, r, w, x) of each row, at stage m; (B, ·)
    VJP_ROWS         (ctx, B, S, m, w, K, R, x_bar, tape, G)    R = K J of each row; x̄ = K F_x if its address is not 0
    ACCUMULATE_ROWS  (ctx, B, S, m, count, tape, G)             G += Σ K F_w over ``count`` stages from m on, and rows

Their ctx, w, G and tape are the field's own. A row does not depend on its company, to the bit.

q cotangents travel together as the columns of an (n, q) matrix. Parameters are seen as g groups of c columns: one
group for a small system, one group a unit (its row of [W U b]) for a network. The parameter part of a block then is g
strided matrix products and never a Kronecker product, and P = dr/dw has the shape (g, n, c). ACCUMULATE may overwrite
K.

``ctx`` is an int64 array: the entries below, then whatever the field itself needs.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic
from numba.np import arrayobj

from ctrnn.kernels.compiled import njit

F, VJP, ACCUMULATE, JACOBIAN, LEAK = range(5)
SLOTS = 5
JVP, SECOND, IN_LANES, F_ROWS, VJP_ROWS, ACCUMULATE_ROWS = range(5, 11)  # not in the table

# ctx entries. X_STRIDE is the length of a row of x: the input may carry more channels than the field reads
# (targets and weights travel behind the field's own inputs).
# G_STRIDE is the number of doubles from one group of G to the next, where ACCUMULATE is given a part of its q rows; 0:
# q · COLUMNS. A kernel that reads it says so (Kernel.divisible).
# W_AT is the address of S addresses, of the weights of each stage that ACCUMULATE is given; 0: the same for all.
# A kernel that reads it says so (Kernel.moving).
# STOP is the address of an integer that is not 0 once nobody wants the result any more (ctrnn.threads.Stop), or 0: then
# nothing stops what may take long.
N, GROUPS, COLUMNS, X_STRIDE, SCRATCH, DGEMM, G_STRIDE, W_AT, STOP, EXTRA = range(10)

#: members of an ensemble that go side by side (ctrnn.kernels.lanes.steps)
LANES = 32

#: how loops are compiled that make no arrays. Numba then counts no references to those they are given, which costs more
#: than the arithmetic of a small system (Lorenz by RK4: 173 ns a stage with, 21 without). What they call would be
#: compiled the same way: a function that makes arrays is one of OWN.
LEAN: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
OWN: dict[str, Any] = LEAN | {"_nrt": True}
#: small functions that many call: handing over their arrays would take longer than what they do
INLINE: dict[str, Any] = LEAN | {"forceinline": True}

_i, _d = types.int64, types.float64
SIGNATURES = {
    F: types.void(_i, _d, _i, _i, _i, _i),
    VJP: types.void(_i, _d, _i, _i, _i, _i, _i, _i),
    ACCUMULATE: types.void(_i, _i, _i, _i, _i, _i, _i, _i, _i),
    JACOBIAN: types.void(_i, _d, _i, _i, _i, _i),
    LEAK: types.void(_i, _d, _i, _i, _i, _i),
    JVP: types.void(_i, _d, _i, _i, _i, _i, _i, _i),
    SECOND: types.void(_i, _d, _i, _i, _i, _i, _i, _i, _i, _i),
    IN_LANES: types.void(_i, _i, _i, _i, _i, _i, _i),
    F_ROWS: types.void(_i, _i, _i, _i, _d, _i, _i, _i, _i, _i),
    VJP_ROWS: types.void(*[_i] * 10),
    ACCUMULATE_ROWS: types.void(*[_i] * 7),
}
_CTYPES: dict[Any, Any] = {types.int64: ctypes.c_int64, types.float64: ctypes.c_double}


class System(NamedTuple):
    """A field bound to its parameters and inputs, as the compiled loops see it."""

    table: np.ndarray  # (SLOTS,) int64
    ctx: np.ndarray  # int64
    w: np.ndarray  # float64, the field's kernel parameters
    code: np.ndarray  # the input's program (ctrnn.kernels.signals)
    data: np.ndarray
    signal: int  # the address of what runs the program, or 0 where there is none


def kind_of(slot: int) -> Any:
    """The ctypes type of a slot's functions."""
    return ctypes.CFUNCTYPE(None, *[_CTYPES[a] for a in SIGNATURES[slot].args])


def callback(slot: int, function: Any) -> Any:
    """A Python function as a C function of the slot's signature (keep the result alive)."""
    return kind_of(slot)(function)


def address_of(function: Any) -> int:
    """The address of a Numba cfunc or of a ctypes callback."""
    if hasattr(function, "address"):
        return int(function.address)
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


def view(address: int, *shape: int) -> np.ndarray:
    """The float64 array at an address, for callbacks written in Python."""
    size = math.prod(shape)
    if size == 0:
        return np.empty(shape)
    return np.frombuffer(memoryview((ctypes.c_double * size).from_address(address))).reshape(shape)


def view_ctx(address: int) -> np.ndarray:
    """The common entries of a ctx at an address, likewise."""
    return np.ctypeslib.as_array((ctypes.c_int64 * EXTRA).from_address(address))


def call(signature: Any) -> Any:
    """What an intrinsic returns that calls the function at an address with the given signature."""
    llvm = {types.int64: ir.IntType(64), types.float64: ir.DoubleType(), types.void: ir.VoidType()}

    def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(llvm[signature.return_type], [llvm[a] for a in signature.args])
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        value = builder.call(function, arguments[1:])
        return context.get_dummy_value() if signature.return_type == types.void else value

    return signature.return_type(types.int64, *signature.args), codegen


@intrinsic
def call_f(typingctx, address, ctx, t, r, w, x, out):
    """Call the slot F at an address."""
    return call(SIGNATURES[F])


@intrinsic
def call_vjp(typingctx, address, ctx, t, r, w, x, q, K, R):
    """Call the slot VJP at an address."""
    return call(SIGNATURES[VJP])


@intrinsic
def call_accumulate(typingctx, address, ctx, S, q, t, r, w, x, K, G):
    """Call the slot ACCUMULATE at an address."""
    return call(SIGNATURES[ACCUMULATE])


@intrinsic
def call_jvp(typingctx, address, ctx, t, r, w, x, dr, dw, out):
    """Call the slot JVP at an address."""
    return call(SIGNATURES[JVP])


@intrinsic
def call_second(typingctx, address, ctx, t, r, w, x, dr, dw, K, R, G):
    """Call the slot SECOND at an address."""
    return call(SIGNATURES[SECOND])


@intrinsic
def call_in_lanes(typingctx, address, ctx, L, t, r, w, x, out):
    """Call the slot IN_LANES at an address."""
    return call(SIGNATURES[IN_LANES])


@intrinsic
def call_f_rows(typingctx, address, ctx, B, S, m, t, r, w, x, out, tape):
    """F_ROWS at an address."""
    return call(SIGNATURES[F_ROWS])


@intrinsic
def call_vjp_rows(typingctx, address, ctx, B, S, m, w, K, R, x_bar, tape, G):
    """VJP_ROWS at an address."""
    return call(SIGNATURES[VJP_ROWS])


@intrinsic
def call_accumulate_rows(typingctx, address, ctx, B, S, m, count, tape, G):
    """ACCUMULATE_ROWS at an address."""
    return call(SIGNATURES[ACCUMULATE_ROWS])


@intrinsic
def call_elementwise(typingctx, address, n, a, b, c, d):
    """Call a loop over n units at an address."""
    return call(types.void(_i, _i, _i, _i, _i))


def _view(element: Any, shape: Any) -> Any:
    """An intrinsic for the array of a shape at an address: no copy, and no owner.

    (``numba.carray`` would not do in LEAN code.)
    """
    kinds: list[Any] = [*shape] if isinstance(shape, types.BaseTuple) else [shape]  # type: ignore[misc]
    array_type = types.Array(element, len(kinds), "C")

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lengths = cgutils.unpack_tuple(builder, arguments[1]) if isinstance(shape, types.BaseTuple) else [arguments[1]]
        lengths = [context.cast(builder, n, k, types.intp) for n, k in zip(lengths, kinds, strict=True)]
        item = context.get_constant(types.intp, 8)
        strides = [item]
        for n in reversed(lengths[1:]):
            strides.insert(0, builder.mul(strides[0], n))
        array = arrayobj.make_array(array_type)(context, builder)
        data = builder.inttoptr(arguments[0], context.get_data_type(element).as_pointer())
        arrayobj.populate_array(array, data=data, shape=lengths, strides=strides, itemsize=item, meminfo=None)
        return array._getvalue()

    return array_type(types.int64, shape), codegen


@intrinsic
def doubles(typingctx, address, shape):
    """The float64 array of a shape at an address, no copy."""
    return _view(types.float64, shape)


@intrinsic
def integers(typingctx, address, shape):
    """The int64 array of a shape at an address, no copy."""
    return _view(types.int64, shape)


def _load(builder: Any, pointer: Any) -> Any:
    """What lies at a pointer, number by number: a structure that is loaded whole is not taken apart again by LLVM."""
    kind = pointer.type.pointee
    if not isinstance(kind, ir.Aggregate):
        return builder.load(pointer)
    value = ir.Constant(kind, ir.Undefined)
    for i in range(len(kind)):
        value = builder.insert_value(value, _load(builder, cgutils.gep_inbounds(builder, pointer, 0, i)), i)
    return value


def packing(*examples: Any) -> tuple[Any, ...]:
    """Functions for compiled code that pass large values to a function reached by its address.

    The first, ``pack``, lays a tuple of such values on the stack of its caller and gives the tuple's address; each of
    the others reads one value of the tuple at an address.
    """
    kind = types.Tuple([typeof(example) for example in examples])

    @intrinsic
    def pack(typingctx, values):
        if values != kind:
            raise TypingError(f"packed: {values}, expected: {kind}")

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.ptrtoint(cgutils.alloca_once_value(builder, arguments[0]), ir.IntType(64))

        return types.int64(kind), codegen

    def fetcher(i: int) -> Any:
        @intrinsic
        def fetch(typingctx, address):
            def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                pointer = builder.inttoptr(arguments[0], context.get_value_type(kind).as_pointer())
                return impl_ret_borrowed(
                    context, builder, kind[i], _load(builder, cgutils.gep_inbounds(builder, pointer, 0, i))
                )

            return kind[i](types.int64), codegen

        return fetch

    return pack, *(fetcher(i) for i in range(len(examples)))


@intrinsic
def at(typingctx, array):
    """The address of an array's first element.

    An address keeps nothing alive: Numba frees a local array after its last use as an array. Where an address is taken
    of an array that was made in the same function, say ``alive(array)`` after the last call that reads it.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = context.make_array(array)(context, builder, arguments[0])
        return builder.ptrtoint(value.data, ir.IntType(64))

    return types.int64(array), codegen


@njit(**INLINE)
def copy(values, to):
    """to ← values, (n,) both; an assignment of slices would allow for the case that they overlap."""
    for j in range(values.size):
        to[j] = values[j]


@njit(**INLINE)
def stopped(address):
    """Whether nobody wants the result any more; an address of 0 says no."""
    return address != 0 and integers(address, 1)[0] != 0


@intrinsic
def alive(typingctx, *arrays):
    """A last use of arrays whose addresses were passed on."""
    nothing = types.void(types.StarArgTuple(arrays))
    return nothing, lambda context, builder, signature, arguments: context.get_dummy_value()


@intrinsic
def _dgemm(typingctx, address, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc):
    """BLAS dgemm (Fortran order) at an address; every argument by reference, integers of 32 bits."""
    i32, i8, f64 = ir.IntType(32), ir.IntType(8), ir.DoubleType()
    signature = types.void(_i, types.boolean, types.boolean, _i, _i, _i, _d, _i, _i, _i, _i, _d, _i, _i)

    def codegen(context, builder, _signature, arguments):
        def slot(kind, value):
            pointer = cgutils.alloca_once(builder, kind)
            builder.store(value, pointer)
            return pointer

        def flag(value):
            letter = builder.select(value, ir.Constant(i8, ord("T")), ir.Constant(i8, ord("N")))
            return slot(i8, letter)

        def integer(value):
            return slot(i32, builder.trunc(value, i32))

        (address, ta, tb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc) = arguments
        pointer = f64.as_pointer()
        values = [
            flag(ta), flag(tb), integer(m), integer(n), integer(k), slot(f64, alpha),
            builder.inttoptr(A, pointer), integer(lda), builder.inttoptr(B, pointer), integer(ldb),
            slot(f64, beta), builder.inttoptr(C, pointer), integer(ldc),
        ]  # fmt: skip
        kind = ir.FunctionType(ir.VoidType(), [v.type for v in values])
        builder.call(builder.inttoptr(address, kind.as_pointer()), values)
        return context.get_dummy_value()

    return signature, codegen


@njit(inline="always")
def gemm(dgemm, ta, tb, m, n, k, A, lda, B, ldb, beta, C, ldc):
    """C (m, n) ← op(A) op(B) + β C for row-major matrices with row strides lda, ldb, ldc; op(A) is (m, k).

    Row-major C = A B is column-major Cᵀ = Bᵀ Aᵀ, so the operands swap places and nothing is copied.
    """
    if m > 0 and n > 0:
        _dgemm(dgemm, tb, ta, n, m, k, 1.0, B, ldb, A, lda, beta, C, ldc)


def dgemm_address() -> int:
    """The address of the BLAS that SciPy was built with."""
    from numba.extending import get_cython_function_address

    return int(get_cython_function_address("scipy.linalg.cython_blas", "dgemm"))
