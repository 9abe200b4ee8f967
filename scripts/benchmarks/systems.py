"""Small reference problems, each written once: SymPy, numba, JAX, torch and CasADi all take ``rate(y, p)``.

SciPy's solvers get them compiled, with the Jacobian; for sensitivities the state and dP/dt = J P + F_p as one system,
with the Jacobian of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from reference import solution

import ctrnn

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class System:
    """dy/dt = rate(y, p), its output times, and the absolute tolerance as a part of the relative one."""

    name: str
    rate: Callable[[Sequence[Any], Sequence[Any]], list[Any]]
    p: tuple[float, ...]
    y0: tuple[float, ...]
    times: tuple[float, ...]
    atol: float
    stiff: bool = True

    @property
    def n(self) -> int:
        return len(self.y0)

    @property
    def m(self) -> int:
        return len(self.p)

    @cached_property
    def field(self) -> ctrnn.Equations:
        import sympy

        y, p = (sympy.symbols(f"{letter}:{size}", seq=True) for letter, size in (("y", self.n), ("p", self.m)))
        equations = {str(a): str(rate) for a, rate in zip(y, self.rate(y, p), strict=True)}
        return ctrnn.Equations(equations, {str(a): value for a, value in zip(p, self.p, strict=True)})

    @cached_property
    def scale(self) -> tuple[float, ...]:
        """s_i of the loss Σ y_i(t1)/s_i, of which the gradients are taken: |y_i(t1)|, to six digits."""
        return tuple(float(f"{abs(end):.6g}") for end in self.reference[0][-1])

    @cached_property
    def reference(self) -> tuple[Array, Array]:
        """y (T, n) and P (T, n, m) at the output times (scripts/benchmarks/reference.py)."""
        from scipy.integrate import solve_ivp
        from threadpoolctl import threadpool_limits

        F, J = numba_functions(self, False)
        rough = solve_ivp(F, (0.0, self.times[-1]), self.y0, "Radau", rtol=1e-6, atol=1e-6 * self.atol, jac=J)
        mesh = np.union1d(rough.t, self.times)
        with threadpool_limits(1):
            y, P = solution(self.rate, self.y0, self.p, mesh)
        wanted = np.searchsorted(mesh, self.times)
        return y[wanted], P[wanted]


def lotka_volterra(y: Sequence[Any], p: Sequence[Any]) -> list[Any]:
    return [p[0] * y[0] - p[1] * y[0] * y[1], -p[2] * y[1] + p[3] * y[0] * y[1]]


def lorenz(y: Sequence[Any], p: Sequence[Any]) -> list[Any]:
    return [p[0] * (y[1] - y[0]), y[0] * (p[1] - y[2]) - y[1], y[0] * y[1] - p[2] * y[2]]


def robertson(y: Sequence[Any], p: Sequence[Any]) -> list[Any]:
    a, b, c = p[0] * y[0], p[1] * y[1] * y[1], p[2] * y[1] * y[2]
    return [-a + c, a - b - c, b]


def van_der_pol(y: Sequence[Any], p: Sequence[Any]) -> list[Any]:
    return [y[1], p[0] * (1 - y[0] * y[0]) * y[1] - y[0]]


def hires(y: Sequence[Any], p: Sequence[Any]) -> list[Any]:
    k1, k2, k3, k4, k5, k6, k, q, s, o = p
    return [
        -k1 * y[0] + k2 * y[1] + k6 * y[2] + o,
        k1 * y[0] - (k2 + k3) * y[1],
        -(k6 + k1) * y[2] + k2 * y[3] + k5 * y[4],
        k3 * y[1] + k1 * y[2] - (k4 + k2) * y[3],
        -(k5 + k1) * y[4] + k2 * (y[5] + y[6]),
        -k * y[5] * y[7] + k4 * y[3] + k1 * y[4] - k2 * y[5] + q * y[6],
        k * y[5] * y[7] - (k2 + q + s) * y[6],
        -k * y[5] * y[7] + (k2 + q + s) * y[6],
    ]


LOTKA_VOLTERRA = System(
    "Lotka–Volterra", lotka_volterra, (0.55, 0.028, 0.80, 0.024), (30.0, 4.0), tuple(range(1, 21)), 1.0, stiff=False
)
LORENZ = System("Lorenz", lorenz, (10.0, 28.0, 8 / 3), (1.0, 1.0, 1.0), (5.0,), 1.0, stiff=False)
ROBERTSON = System(
    "Robertson", robertson, (0.04, 3e7, 1e4), (1.0, 0.0, 0.0), tuple(0.4 * 10.0**k for k in range(12)), 1e-8
)
VAN_DER_POL = System("van der Pol, μ = 1000", van_der_pol, (1000.0,), (2.0, 0.0), (2000.0,), 1e-4)
HIRES = System(
    "HIRES",
    hires,
    (1.71, 0.43, 8.32, 0.69, 0.035, 8.32, 280.0, 0.69, 0.69, 7e-4),
    (1.0, 0, 0, 0, 0, 0, 0, 0.0057),
    (321.8122,),
    1e-4,
)
ALL = (LOTKA_VOLTERRA, ROBERTSON, VAN_DER_POL, HIRES)


def compiled(expressions: Sequence[Any], y: Sequence[Any], p: Sequence[Any], values: Sequence[float]) -> Any:
    """A numba function (y, out) that writes those of the expressions that are not 0."""
    import numba
    import sympy

    at = dict(zip(p, map(sympy.Float, values), strict=True))
    shared, reduced = sympy.cse([sympy.sympify(e).xreplace(at) for e in expressions])
    lines = [f"{name} = y[{i}]" for i, name in enumerate(y)]
    lines += [f"{name} = {sympy.pycode(e)}" for name, e in shared]
    lines += [f"out[{i}] = {sympy.pycode(e)}" for i, e in enumerate(reduced) if e != 0]
    space: dict[str, Any] = {}
    exec("def f(y, out):\n    " + "\n    ".join(lines), space)
    return numba.njit("void(float64[::1], float64[::1])")(space["f"])


@cache
def numba_functions(system: System, augmented: bool) -> tuple[Any, Any]:
    """F(t, z) and its Jacobian for SciPy; z = y, or y and the columns of P one after the other."""
    import sympy

    n, m = system.n, system.m
    y, p = (sympy.symbols(f"{letter}:{size}", seq=True) for letter, size in (("y", n), ("p", m)))
    P = sympy.Matrix(n, m, lambda i, j: sympy.Symbol(f"P{i}_{j}"))
    f = sympy.Matrix(system.rate(y, p))
    z = list(y)
    if augmented:
        z += list(P.T)
        f = sympy.Matrix([*f, *(f.jacobian(y) * P + f.jacobian(p)).T])
    rate, slope = (compiled(list(e), z, p, system.p) for e in (f, f.jacobian(z)))

    def F(t: float, z: Array) -> Array:
        out = np.zeros(z.size)
        rate(z, out)
        return out

    def J(t: float, z: Array) -> Array:
        out = np.zeros(z.size * z.size)
        slope(z, out)
        return out.reshape(z.size, z.size)

    return F, J


def scipy_solution(
    system: System, solver: str, rtol: float, z0: Array | None = None, atol: Any = None, is_compiled: bool = True
) -> Array:
    """z (T, N) at the output times by SciPy, from the compiled F and, where the solver takes it, J; or from F as one
    writes it in Python."""
    from scipy.integrate import solve_ivp

    if is_compiled:
        F, J = numba_functions(system, z0 is not None)
    else:
        F, J = (lambda t, y: system.rate(y, system.p)), None
    z0 = np.array(system.y0) if z0 is None else z0
    more = {} if solver in ("RK45", "DOP853") else {"jac": J}
    atol = system.atol * rtol if atol is None else atol
    found = solve_ivp(F, (0.0, system.times[-1]), z0, solver, t_eval=system.times, rtol=rtol, atol=atol, **more)
    if not found.success:
        raise RuntimeError(f"{system.name}, {solver}: {found.message}")
    return found.y.T


def scipy_augmented(system: System, solver: str, rtol: float) -> tuple[Array, Array]:
    """y (T, n) and P (T, n, m), both in the step test; P_j has the tolerance of y over |p_j|, as CVODES does it."""
    n, m = system.n, system.m
    z0 = np.concatenate([system.y0, np.zeros(n * m)])
    atol = system.atol * rtol * np.concatenate([np.ones(n), np.repeat(1 / np.abs(system.p), n)])
    z = scipy_solution(system, solver, rtol, z0, atol)
    return z[:, :n], z[:, n:].reshape(-1, m, n).transpose(0, 2, 1)
