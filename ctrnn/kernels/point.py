"""A field's functions at one point, as called from Python."""

from numba import njit

from ctrnn.kernels import abi
from ctrnn.kernels.abi import alive, at, call_accumulate, call_f, call_vjp


@njit(cache=True)
def field(system, t, r, x, out):
    """out (n,) = F(t, r, w, x)."""
    call_f(system.table[abi.F], at(system.ctx), t, at(r), at(system.w), at(x), at(out))


@njit(cache=True)
def jacobian(system, t, r, x, out):
    """out (n, n) = J at a point."""
    call_f(system.table[abi.JACOBIAN], at(system.ctx), t, at(r), at(system.w), at(x), at(out))


@njit(cache=True)
def vjp(system, t, r, x, K, out):
    """out (n, q) from K (n, q), by the slot VJP."""
    q = K.shape[1]
    call_vjp(system.table[abi.VJP], at(system.ctx), t, at(r), at(system.w), at(x), q, at(K), at(out))


@njit(cache=True)
def accumulate(system, t, r, x, K, G):
    """Add K F_w at one point to G, by the slot ACCUMULATE."""
    from_t = r.copy()
    from_t[:] = t
    call_accumulate(
        system.table[abi.ACCUMULATE], at(system.ctx), 1, K.shape[1], at(from_t), at(r), at(system.w),
        at(x), at(K), at(G),
    )  # fmt: skip
    alive(from_t)
