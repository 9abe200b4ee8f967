"""One step that was taken, ready to be differentiated with the weights that it was taken with.

A step r⁺ = r + h Σ_i b_i F(r_i, w) of a Runge–Kutta method has, at its own stages r_i and its own weights w,

    Φ = ∂r⁺/∂r  (n, n)        C = ∂r⁺/∂w  (n, m)        D = Φ with J replaced by the leak of each unit alone

and for a loss ∫ ℓ dt inside it λ = ∂l/∂r, c = ∂l/∂w. A rule asks for what it needs, and pays for that alone:

    left(Λ)        Λ Φ and Λ C of q cotangents: one pullback (ctrnn.kernels.pullback), O(q n²) and O(q m)
    right(δr, δw)  Φ δr + C δw: one tangent (ctrnn.kernels.second), O(n²)
    phi, C         left of n unit vectors, computed once

Parameters lie as the kernels see them, in groups of columns (ctrnn.kernels.abi): Λ C is (groups, q, columns), a
gradient (groups, columns). ``Lane.vector`` makes it the flat vector (m,).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from ctrnn.errors import SingularJacobianError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.bound import Bound
from ctrnn.kernels import abi, point, pullback, second
from ctrnn.kernels.linalg import lapack_addresses

_NO_ESTIMATE = pullback.no_estimate()


class Lane:
    """What the steps of one run have in common: the field, the method's a (s, s) and b (s,).

    n, m : states and parameters
    groups, columns : how the parameters lie
    """

    def __init__(self, field: Field, bound: Bound, a: Array, b: Array) -> None:
        self.field, self.bound, self.a, self.b = field, bound, a, b
        self.n, self.m, self.s = field.n, field.m, b.size
        kernel = bound.kernel
        self.groups, self.columns = kernel.groups, kernel.columns
        self.lapack = lapack_addresses()
        self.no_jumps, self.no_sources = np.empty((0, self.n)), np.empty((0, self.s, self.n))
        self._rooms: dict[tuple[Any, int, int], Array] = {}

    def vector(self, g: Array) -> Array:
        """A gradient (groups, columns) as the flat vector (m,), in the order of the field's parameters."""
        if self._entry is not None:
            return g.ravel().take(self._entry)
        return self.bound.rows(g[:, None])[0]

    @cached_property
    def _entry(self) -> Array | None:
        """Where each parameter lies in a gradient; None unless each lies in one place."""
        first, others, _ = self.bound.kernel.parameter_index
        return None if others.size or first.size != self.m or first.min(initial=0) < 0 else first

    def zeros(self) -> Array:
        """A gradient (groups, columns), 0."""
        return np.zeros((self.groups, self.columns))

    def room(self, name: tuple[Any, int, int]) -> Array:
        """Working space by its name, which ends with how many numbers it has; memories of all lanes share it."""
        return self._rooms.setdefault(name, np.empty(name[-1]))

    @property
    def one_stage(self) -> bool:
        """Whether a step is r + h b F(r): then Φ = 1 + h b J and C = h b F_w."""
        return self.s == 1 and not self.a.any()

    # -- what few need

    @cached_property
    def tangents(self) -> tuple[int, Array, Array]:
        """The field's function of tangents: its address, the ctx it wants, and the scratch that ctx points to."""
        its = self.field._second_kernel
        return its.jvp, *its.ctx(self.bound.system.ctx)

    @property
    def has_leak(self) -> bool:
        """Whether the field says by which part of J a unit acts on itself alone."""
        return bool(self.bound.kernel.table[abi.LEAK])

    def leak(self, step: Step, i: int) -> Array:
        """D (n, n) at stage i: the part of J by which a unit acts on itself directly, not through its connections."""
        table = self.bound.system.table.copy()
        table[abi.JACOBIAN] = table[abi.LEAK]  # the slot that ``point.jacobian`` calls
        D = np.empty((self.n, self.n))
        system = step.system._replace(table=table)
        point.jacobian(system, float(step.t[0, i]), step.r[0, i], step.x[0, i], D)
        self.bound.raise_pending()
        return D


class Step:
    """One step of a lane.

    h (1,); t (1, s), r (1, s, n), x (1, s, channels) at its stages; w: the kernel's weights that it was taken with,
    None for those that are bound; sources (1, s, n) or (0, s, n): ∂ℓ/∂r at the stages, of ∫ ℓ dt.
    """

    def __init__(
        self, lane: Lane, h: Array, t: Array, r: Array, x: Array, w: Array | None = None, sources: Array | None = None
    ) -> None:
        self.lane, self.h, self.t, self.r, self.x, self.w = lane, h, t, r, x, w
        self.sources = lane.no_sources if sources is None else sources

    @property
    def system(self) -> Any:
        """The compiled field with the step's own weights."""
        system = self.lane.bound.system
        return system if self.w is None else system._replace(w=self.w)

    @property
    def start(self) -> Array:
        """r (n,), where the step begins."""
        first: Array = self.r[0, 0]
        return first

    @property
    def weights(self) -> Array:
        """The kernel's weights that it was taken with."""
        found: Array = self.lane.bound.system.w if self.w is None else self.w
        return found

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return sum(part.nbytes for part in (self.h, self.t, self.r, self.x, self.weights))

    # -- back

    def left(self, rows: Array) -> tuple[Array, Array]:
        """Λ Φ (q, n) and Λ C (groups, q, columns) of q cotangents Λ (q, n) on the end of the step."""
        rows, K = self.pulled(rows)
        G = np.zeros((self.lane.groups, rows.shape[1], self.lane.columns))
        self.add_parameter_part(K, G)
        return rows.T, G

    def pulled(self, rows: Array, sources: Array | None = None) -> tuple[Array, Array]:
        """(Λ Φ)ᵀ (n, q), and the cotangents K (1, s, n, q) of the stages, for ``add_parameter_part``."""
        lane = self.lane
        rows = np.array(rows.T, order="C")
        n, q = rows.shape
        K = np.empty((1, lane.s, n, q))
        solved = pullback.pull_rows(
            self.system, lane.a, lane.b, pullback.implicit_for(lane.a, lane.lapack, rows), self.h, self.t, self.r,
            self.x, lane.no_jumps, lane.no_sources if sources is None else sources, rows, K,
            np.empty((lane.s, n * q)), _NO_ESTIMATE,
        )  # fmt: skip
        lane.bound.raise_pending()
        if not solved:
            raise SingularJacobianError(np.inf, "I − hγJ of an implicit stage", "an explicit solver")
        return rows, K

    def add_parameter_part(self, K: Array, G: Array) -> None:
        """G (groups, q, columns) += Σ_i K̄_i F_w; K may be overwritten."""
        self.lane.bound.system.ctx[abi.G_STRIDE] = 0
        pullback.parameter_part(self.system, self.t, self.r, self.x, K, G.ctypes.data)
        self.lane.bound.raise_pending()

    def inside(self) -> tuple[Array, Array]:
        """λ (n,) and c (groups, columns) of the loss ∫ ℓ dt over the step; zeros where it has none."""
        rows, K = self.pulled(np.zeros((1, self.lane.n)), self.sources)
        G = np.zeros((self.lane.groups, 1, self.lane.columns))
        self.add_parameter_part(K, G)
        return rows[:, 0], G[:, 0]

    @cached_property
    def _linear(self) -> tuple[Array, Array]:
        back, K = self.pulled(np.eye(self.lane.n))
        return back.T, K

    @property
    def phi(self) -> Array:
        """Φ (n, n)."""
        return self._linear[0]

    @cached_property
    def C(self) -> Array:
        """C (groups, n, columns)."""
        G = np.zeros((self.lane.groups, self.lane.n, self.lane.columns))
        self.add_parameter_part(self._linear[1].copy(), G)
        return G

    def jacobian(self, i: int) -> Array:
        """J (n, n) at stage i."""
        J = np.empty((self.lane.n, self.lane.n))
        point.jacobian(self.system, float(self.t[0, i]), self.r[0, i], self.x[0, i], J)
        self.lane.bound.raise_pending()
        return J

    @cached_property
    def stages_of_C(self) -> list[Array]:
        """What each stage adds to C, (groups, n, columns): F_w there, taken to the end of the step."""
        if self.lane.s == 1:
            return [self.C]
        found, K = [], self._linear[1]
        for i in range(self.lane.s):
            alone, G = np.zeros_like(K), np.zeros((self.lane.groups, self.lane.n, self.lane.columns))
            alone[0, i] = K[0, i]
            self.add_parameter_part(alone, G)
            found.append(G)
        return found

    # -- forward

    def right(self, dr: Array, dw: Array | None = None) -> Array:
        """Φ δr + C δw (n,), of δr (n,) and δw (m,) in the order of the field's parameters."""
        lane = self.lane
        jvp, ctx, _ = lane.tangents
        dr, n = np.array(dr, dtype=float), lane.n
        direction = lane.field._kernel_direction(np.zeros(lane.m) if dw is None else dw)
        solved = second.tangent(
            self.system, lane.lapack, jvp, ctx, lane.a, lane.b, self.h, self.t, self.r, self.x, dr, direction,
            np.empty((1, lane.s, n)), np.empty((1, n)),
        )  # fmt: skip
        lane.bound.raise_pending()
        if not solved:
            raise SingularJacobianError(np.inf, "I − hγJ of an implicit stage", "an explicit solver")
        return dr

    # -- through the leak alone

    def left_by_leak(self, rows: Array) -> tuple[Array, Array]:
        """As ``left``, with the leak D of each stage in the place of J; of explicit methods."""
        lane = self.lane
        a, b, h, s = lane.a, lane.b, float(self.h[0]), lane.s
        K, R = np.empty((s, len(rows), lane.n)), np.empty((s, len(rows), lane.n))
        for i in range(s - 1, -1, -1):
            K[i] = h * b[i] * rows
            for j in range(i + 1, s):
                K[i] += h * a[j, i] * R[j]
            R[i] = K[i] @ lane.leak(self, i)
        G = np.zeros((lane.groups, len(rows), lane.columns))
        self.add_parameter_part(np.ascontiguousarray(K.transpose(0, 2, 1))[None], G)
        return rows + R.sum(axis=0), G


def steps_of(lane: Lane, block: Any) -> Iterator[tuple[Step, Array | None]]:
    """The steps of a recorded block, each with ∂ℓ/∂r (n,) of the losses that are seen at its end, or None."""
    record, losses = block.record, block.losses
    for i in range(block.steps):
        here = slice(i, i + 1)
        sources = losses.sources[here] if len(losses.sources) else None
        jump = losses.jumps[i] if len(losses.jumps) else None
        # one at a time: a step holds the derivatives that it was asked for
        yield (
            Step(lane, record.h[here], record.stage_t[here], record.stage_r[here], record.stage_x[here], None, sources),
            jump if jump is not None and jump.any() else None,
        )
