"""What RTRL carries in compiled code.

Only those entries of P = dr/dw and S = dr/dr0 that are not 0 by the field's structure.

Where the states fall into parts that know nothing of each other (a network whose weights are diagonal, or in blocks),
dr_i/dw_g is 0 unless state i and parameter g are in one part. Then one cotangent serves all parts at once: it is 1 at
the first state of every part, the next at the second, and what comes back lies side by side (Curtis, Powell & Reid, J.
Inst. Maths Applics 13:117, 1974). The rows that are carried are as many as the largest part has states, n when all hang
together, and one for a diagonal network: O(columns) a unit.

Layout: G (groups, q, columns), the rows of P that are not 0, and g as the last of the q rows; S (n, q) likewise.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.fields.bound import Bound
from ctrnn.gradients.recording.base import Carry
from ctrnn.kernels.abi import dgemm_address
from ctrnn.kernels.carry import transform
from ctrnn.threads import LONG, run_parallel, stop, workers

#: flops below which a second thread costs more than it saves
WORTH_THREADS = 5e6


class Structure(Carry):
    """Which states and parameters are in one part, and the number of each state within its part.

    of_state (n,), number (n,): part and number; of_group (groups,); size: states of the largest part; count: number of
        parts
    """

    def __init__(self, n: int, bound: Bound) -> None:
        self.bound, kernel = bound, bound.kernel
        parts = kernel.parts
        if parts is None:
            parts = np.zeros(n, dtype=np.int64), np.zeros(kernel.groups, dtype=np.int64)
        self.n, self.groups, self.columns, self.blas = n, kernel.groups, kernel.columns, kernel.blas
        self.of_state, self.of_group = parts
        self.count = int(self.of_state.max(initial=0)) + 1
        self.number, self.size = _numbers(self.of_state, self.count)

    @property
    def entries(self) -> int:
        """Parameters in the kernel's layout."""
        return self.groups * self.columns

    def rows(self, l_r: Array | None = None) -> Array:
        """The cotangents (n, q): at each state 1 in the column of its number; the last column is for the loss."""
        rows = np.zeros((self.n, self.size + 1))
        rows[np.arange(self.n), self.number] = 1.0
        if l_r is not None:
            rows[:, -1] = l_r[0]
        return rows

    def transition(self, rows: Array) -> Array:
        """T (count, q, q) = [Φ 0; λ 1] of each part, from the cotangents that came back (n, q)."""
        T = np.zeros((self.count, self.size + 1, self.size + 1))
        T[self.of_state, :, self.number] = rows
        T[:, -1, -1] = 1.0
        return T

    def zero_parameters(self) -> Array:
        """[P; g] at the start."""
        return np.zeros((self.groups, self.size + 1, self.columns))

    def start_states(self) -> Array:
        """[S; g₀] at the start: S = 1."""
        return self.rows()

    def transform_states(self, T: Array, S: Array) -> Array:
        """T [S; g₀], as a new one."""
        with np.errstate(over="ignore", invalid="ignore"):  # the gradient is looked at in the end
            return S @ T[0].T if self.count == 1 else np.einsum("jkl,jl->jk", T[self.of_state], S)

    def transform(self, T: Array, G: Array) -> Array:
        """[P; g] ← T [P; g] of every group, divided among threads."""
        groups, q, columns = G.shape
        if not self.blas:
            with np.errstate(over="ignore", invalid="ignore"):
                G[...] = np.matmul(T[self.of_group], G)
            return G
        flops = 2.0 * q * q * columns * groups
        threads = workers() if flops > WORTH_THREADS else 1
        edges, common = np.linspace(0, groups, threads + 1).astype(int), (dgemm_address(), T, self.of_group, G)
        calls = [(transform, *common, a, b, stop().address) for a, b in pairwise(edges)]
        run_parallel(calls, takes_long=flops > LONG)
        return G

    def r0(self, S: Array) -> Array:
        """g₀ (B, n)."""
        return S[:, -1][None].copy()

    def vector(self, G: Array) -> Array:
        """g (m,), the sum over the trials."""
        return self.bound.rows(G[:, -1:])[0]

    # -- seen whole

    def sensitivities(self, G: Array) -> Array:
        """P = dr/dw (groups, n, columns); a view where all states are in one part."""
        if self.count == 1:
            return G[:, :-1]
        same = self.of_group[:, None] == self.of_state
        return np.where(same[:, :, None], G[:, self.number], 0.0)

    def state_sensitivities(self, S: Array) -> Array:
        """S = dr/dr0 (n, n)."""
        return np.where(self.of_state[:, None] == self.of_state, S[:, self.number].T, 0.0)


def _numbers(of_state: Array, count: int) -> tuple[Array, int]:
    """The number of each state within its part, and the states of the largest part."""
    number = np.zeros(of_state.size, dtype=np.int64)
    for part in range(count):
        states = np.flatnonzero(of_state == part)
        number[states] = np.arange(states.size)
    return number, int(number.max(initial=0)) + 1
