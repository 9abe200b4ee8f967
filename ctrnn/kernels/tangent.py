"""k tangent vectors beside the state: d[r | Q]/dt = [F | J Q], Q (n, k). Flops a call: 2n²k beside those of F and J."""

from ctrnn.kernels.abi import COLUMNS, DGEMM, JACOBIAN, SIGNATURES, F, at, call_f, doubles, integers
from ctrnn.kernels.augmented import BASE, CTX_SIZE, MEMORY, STATES, TABLE, _product
from ctrnn.kernels.lazy import lazy


@lazy(SIGNATURES[F])
def tangent(ctx_, t, y_, w_, x_, out_):
    """The slot F of the system [r | Q]."""
    ctx = integers(ctx_, CTX_SIZE)
    table, base = integers(ctx[TABLE], JACOBIAN + 1), ctx[BASE]
    n, k = ctx[STATES], ctx[COLUMNS]
    call_f(table[F], base, t, y_, w_, x_, out_)
    J = doubles(ctx[MEMORY], (n, n))
    call_f(table[JACOBIAN], base, t, y_, w_, x_, at(J))
    _product(ctx[DGEMM], J, doubles(y_ + 8 * n, (n, k)), doubles(out_ + 8 * n, (n, k)), n, k)
