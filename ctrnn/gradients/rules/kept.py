"""The last steps of a lane, each with the weights that it was taken with, and the way back through them in one call.

    Λ ← (Λ + jump) Φ_m,    Ḡ ← Ḡ + Λ C_m        from the last step to the first (ctrnn.kernels.online)

What is small lies in rows of arrays that are made once; the weights stay where they are, and steps that share them hold
one array.
"""

from __future__ import annotations

import numpy as np

from ctrnn.errors import SingularJacobianError, UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.rules.step import Lane, Step
from ctrnn.kernels import online, point, pullback

_NO_ESTIMATE = pullback.no_estimate()
_NAMES = ("h", "t", "r", "x")


class Kept:
    """Up to ``capacity`` steps of a lane in their order, with ∂ℓ/∂r of losses at their ends that wait to go back."""

    def __init__(self, lane: Lane, capacity: int) -> None:
        self.lane, self.capacity = lane, capacity
        room, s, n = 2 * capacity, lane.s, lane.n  # twice, so that rows move once in ``capacity`` steps
        self._rows = {
            "h": np.empty(room), "t": np.empty((room, s)), "r": np.empty((room, s, n)),
            "x": np.empty((room, s, lane.bound.x_stride)),
        }  # fmt: skip
        self._at, self._jumps, self._waits = np.empty(room, dtype=np.int64), np.zeros((room, n)), np.zeros(room, bool)
        self._weights: list[Array] = []
        self._stage_at = np.empty(0, dtype=np.int64)
        self._moving = lane.bound.kernel.moving
        self._K, self._R = np.empty(0), np.empty(0)
        # of one explicit stage J is kept: then a row goes back by one product a step, and the field is not asked again
        kernel = lane.bound.kernel
        self._has_jacobians = lane.s == 1 and kernel.blas and kernel.parts is None
        self._J = np.empty((room if self._has_jacobians else 0, n, n))
        self.first = self.last = 0

    def __len__(self) -> int:
        return self.last - self.first

    def clear(self) -> None:
        """No steps."""
        self._waits[:] = False
        self._weights.clear()
        self.first = self.last = 0

    def append(self, step: Step) -> None:
        """One step more; the first of ``capacity`` goes."""
        if len(self) == self.capacity:
            self.first += 1
            del self._weights[0]
        if self.last == 2 * self.capacity:
            count = len(self)
            kept = (*self._rows.values(), self._at, self._jumps, self._waits)
            for rows in (*kept, self._J) if self._has_jacobians else kept:
                rows[:count] = rows[self.first : self.last]
            self.first, self.last = 0, count
        i, w, to = self.last, step.weights, self._rows
        to["h"][i], to["t"][i], to["r"][i], to["x"][i] = step.h[0], step.t[0], step.r[0], step.x[0]
        if self._has_jacobians:
            point.jacobian(step.system, float(step.t[0, 0]), step.r[0, 0], step.x[0, 0], self._J[i])
        self._at[i], self._waits[i] = w.ctypes.data, False
        self._weights.append(w)
        self.last += 1

    # -- losses that wait

    def wait(self, row: Array) -> None:
        """∂ℓ/∂r (n,) of a loss at the end of the last step."""
        i = self.last - 1
        if self._waits[i]:
            self._jumps[i] += row
        else:
            self._jumps[i] = row
            self._waits[i] = True

    @property
    def waiting(self) -> bool:
        """Whether a loss waits."""
        return bool(self._waits[self.first : self.last].any())

    def forget_waiting(self) -> None:
        """The losses went back."""
        self._waits[self.first : self.last] = False

    # -- back

    def pull_waiting(self, G: Array) -> Array:
        """λ (n,) at the start of the losses that wait; their parameter part is added to G (groups, 1, columns)."""
        last = self.first + int(np.flatnonzero(self._waits[self.first : self.last])[-1]) + 1
        here = slice(self.first, last)
        jumps = self._jumps[here]
        jumps[~self._waits[here]] = 0.0
        lam = np.zeros((self.lane.n, 1))
        K = self._back(lam, here, jumps)
        self._add(K, here, G)
        return lam[:, 0]

    def pull(self, row: Array, G: Array) -> Array:
        """λ (n,) at the start of one loss at the end, likewise."""
        lam, here = row.reshape(-1, 1).copy(), slice(self.first, self.last)
        self._add(self._back(lam, here, self.lane.no_jumps), here, G)
        return lam[:, 0]

    def pull_rows(self, rows: Array) -> Array:
        """Take ``rows`` (n, q) back through all steps, in place; returns what ``add_parameter_part`` needs."""
        return self._back(rows, slice(self.first, self.last), self.lane.no_jumps)

    def add_parameter_part(self, K: Array, G: Array) -> None:
        """Add the parameter part of rows that were pulled to G (groups, q, columns)."""
        self._add(K, slice(self.first, self.last), G)

    def _back(self, rows: Array, here: slice, jumps: Array) -> Array:
        lane, kept = self.lane, self._rows
        n, q = rows.shape
        size = (here.stop - here.start) * lane.s * n * q
        if self._K.size < size:
            self._K = np.empty(size)
        if self._R.size < lane.s * n * q:
            self._R = np.empty(lane.s * n * q)
        K = self._K[:size].reshape(-1, lane.s, n, q)
        if self._has_jacobians:
            online.back_by_jacobians(
                lane.bound.system.ctx[lane.DGEMM], self._J[here], float(lane.b[0]), kept["h"][here], jumps, rows, K,
                self._R[: n * q],
            )  # fmt: skip
            lane.bound.raise_pending()
            return K
        solved = online.back(
            lane.bound.system, self._at[here], self._weights[0].size, lane.a, lane.b, lane.explicit, kept["h"][here],
            kept["t"][here], kept["r"][here], kept["x"][here], jumps, lane.no_sources, rows, K,
            self._R[: lane.s * n * q].reshape(lane.s, n * q), _NO_ESTIMATE,
        )  # fmt: skip
        lane.bound.raise_pending()
        if not solved:
            raise SingularJacobianError(np.inf, "I − hγJ of an implicit stage", "an explicit solver")
        return K

    def _add(self, K: Array, here: slice, G: Array) -> None:
        lane, kept = self.lane, self._rows
        stages = self._stage_at
        if self._moving:
            stages = self._at[here] if lane.s == 1 else np.repeat(self._at[here], lane.s)
        lane.bound.system.ctx[lane.G_STRIDE] = 0
        online.parameter_part(
            lane.bound.system, self._at[here], stages, kept["t"][here], kept["r"][here], kept["x"][here], K,
            G.ctypes.data,
        )  # fmt: skip
        lane.bound.raise_pending()

    # -- to disk and back

    def state_dict(self) -> dict[str, Array]:
        """The steps with their weights, as arrays; nothing where there are none."""
        if not len(self):
            return {}
        here = slice(self.first, self.last)
        arrays = {f"step {name}": self._rows[name][here].copy() for name in _NAMES}
        # each array of weights once, and which step has which
        which = {id(w): i for i, w in reversed(list(enumerate(self._weights)))}
        own = sorted(set(which.values()))
        number = {i: k for k, i in enumerate(own)}
        return arrays | {
            "step weights": np.stack([self._weights[i] for i in own]),
            "step which": np.array([number[which[id(w)]] for w in self._weights]),
            "step jumps": np.where(self._waits[here][:, None], self._jumps[here], 0.0),
            "step waits": self._waits[here].copy(),
        }

    def load_state_dict(self, arrays: dict[str, Array]) -> None:
        """The same again; raises UsageError for arrays of another field."""
        self.clear()
        if "step h" not in arrays:
            return
        count, lane = len(arrays["step h"]), self.lane
        shapes = {f"step {name}": (count, *self._rows[name].shape[1:]) for name in _NAMES}
        shapes |= {"step jumps": (count, lane.n), "step waits": (count,), "step which": (count,)}
        for name, shape in shapes.items():
            if name not in arrays or arrays[name].shape != shape or count > self.capacity:
                given = f"shape {arrays[name].shape}" if name in arrays else None
                raise UsageError(f"memory {name!r}", given=given, allowed=f"shape {shape}, of the same rule")
        weights = arrays["step weights"]
        if weights.ndim != 2 or weights.shape[1:] != lane.bound.system.w.shape:
            raise UsageError("memory 'step weights'", given=f"shape {weights.shape}", allowed="those of the same field")
        own = [row.copy() for row in weights]
        for name in _NAMES:
            self._rows[name][:count] = arrays[f"step {name}"]
        self._jumps[:count], self._waits[:count] = arrays["step jumps"], arrays["step waits"]
        self._weights = [own[int(i)] for i in arrays["step which"]]
        self._at[:count] = [w.ctypes.data for w in self._weights]
        if self._has_jacobians:
            for i, w in enumerate(self._weights):
                system, to = lane.bound.system._replace(w=w), self._rows
                point.jacobian(system, float(to["t"][i, 0]), to["r"][i, 0], to["x"][i, 0], self._J[i])
        self.last = count

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        own = {id(w): w.nbytes for w in self._weights}
        return sum(rows.nbytes for rows in self._rows.values()) + self._J.nbytes + sum(own.values())
