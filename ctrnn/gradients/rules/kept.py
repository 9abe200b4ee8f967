"""Memories that keep the last steps of a lane, each with the weights that it was taken with.

The way back through them in one call is ctrnn.kernels.rules.kept. What is small lies in rows of arrays that are made
once; the weights stay where they are.
"""

from __future__ import annotations

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.rules.compiled import CompiledMemory
from ctrnn.gradients.rules.step import Lane
from ctrnn.kernels import abi, point
from ctrnn.kernels.rules import kept as k
from ctrnn.memory import claim

_NAMES = {"h": k.H, "t": k.T, "r": k.R, "x": k.X, "jumps": k.JUMPS, "waits": k.WAITS}


class KeptSteps(CompiledMemory):
    """Up to ``capacity`` steps in their order, with ∂ℓ/∂r of losses at their ends that wait to go back.

    ``slides``: whether the oldest step goes for a new one; then there are rows for twice as many, so that they move
    once in ``capacity`` steps.
    """

    def __init__(self, lane: Lane, rng: np.random.Generator, size: int, capacity: int, slides: bool) -> None:
        super().__init__(lane, rng, size, capacity)
        self.capacity = capacity
        kernel, n, s, x = lane.bound.kernel, lane.n, lane.s, lane.bound.x_stride
        room = 2 * capacity if slides else capacity
        system = lane.bound.system
        # of one explicit stage J is kept: then a row goes back by one product a step
        by_jacobians = lane.one_stage and kernel.blas and kernel.parts is None
        claim("window", 8.0 * room * (5 + n + s * (2 + n + x) + n * n * by_jacobians), "a shorter window")
        for entry, value in (
            (k.TABLE, system.table.ctypes.data), (k.CTX, system.ctx.ctypes.data), (k.WEIGHTS, system.w.size), (k.N, n),
            (k.S, s), (k.CHANNELS, x), (k.GROUPS, lane.groups), (k.COLUMNS, lane.columns), (k.ROOM, room),
            (k.CAPACITY, capacity), (k.MOVING, kernel.moving), (k.BY_J, by_jacobians),
        ):  # fmt: skip
            self.memory[entry] = value
        self._lies(k.A, np.ascontiguousarray(lane.a)), self._lies(k.B, np.ascontiguousarray(lane.b))
        for entry, shape in (
            (k.H, (room,)), (k.T, (room, s)), (k.R, (room, s, n)), (k.X, (room, s, x)), (k.JUMPS, (room, n)),
            (k.JS, (room if by_jacobians else 0, n, n)), (k.LAMBDA, (n,)),
        ):  # fmt: skip
            self._lies(entry, np.zeros(shape))
        for entry, count in ((k.WAITS, room), (k.W_AT, room), (k.STAGE_W, room * s)):
            self._lies(entry, np.zeros(count, dtype=np.int64))
        self._room(k.K, capacity * s * n)
        self._room(k.WORK, s * n)
        #: weights that came from a file
        self._loaded = np.empty((0, 0))

    @property
    def steps(self) -> int:
        """Steps that are kept."""
        return int(self.memory[k.LAST] - self.memory[k.FIRST])

    @property
    def _rows(self) -> slice:
        return slice(int(self.memory[k.FIRST]), int(self.memory[k.LAST]))

    # -- to disk and back

    def state_dict(self) -> dict[str, Array]:
        """What is carried, and the steps with their weights, as arrays."""
        found = super().state_dict()
        if not self.steps:
            return found
        at = self._arrays[k.W_AT][self._rows]
        own, which = np.unique(at, return_inverse=True)  # each array of weights once, and which step has which
        size = int(self.memory[k.WEIGHTS])
        return found | {f"step {name}": self._arrays[entry][self._rows].copy() for name, entry in _NAMES.items()} | {
            "step weights": np.stack([abi.view(int(address), size) for address in own]), "step which": which.ravel(),
        }  # fmt: skip

    def load_state_dict(self, arrays: dict[str, Array]) -> None:
        """The same again; raises UsageError for arrays of another field."""
        super().load_state_dict(arrays)
        self._arrays[k.WAITS][:], self.memory[[k.FIRST, k.LAST]] = 0, 0
        count = len(arrays.get("step h", ()))
        if not count:
            return
        shapes = {f"step {name}": (count, *self._arrays[entry].shape[1:]) for name, entry in _NAMES.items()}
        for name, shape in (shapes | {"step which": (count,)}).items():
            if name not in arrays or arrays[name].shape != shape or count > self.capacity:
                given = f"shape {arrays[name].shape}" if name in arrays else None
                raise UsageError(f"memory {name!r}", given=given, allowed=f"shape {shape}, of the same rule")
        weights, which = arrays["step weights"], arrays["step which"]
        if weights.ndim != 2 or weights.shape[1:] != self.lane.bound.system.w.shape or which.max() >= len(weights):
            raise UsageError("memory 'step weights'", given=f"shape {weights.shape}", allowed="those of the same field")
        self._loaded = np.ascontiguousarray(weights, dtype=float).copy()
        for name, entry in _NAMES.items():
            self._arrays[entry][:count] = arrays[f"step {name}"]
        self._arrays[k.W_AT][:count] = [self._loaded[i].ctypes.data for i in which]
        if self.memory[k.BY_J]:
            t, r, x, J = (self._arrays[entry] for entry in (k.T, k.R, k.X, k.JS))
            for i in range(count):
                system = self.lane.bound.system._replace(w=self._loaded[which[i]])
                point.jacobian(system, float(t[i, 0]), r[i, 0], x[i, 0], J[i])
        self.memory[k.LAST] = count

    @property
    def nbytes(self) -> int:
        """Bytes that are carried: with the weights of the steps, as often as they differ."""
        rows = sum(self._arrays[entry].nbytes for entry in (*_NAMES.values(), k.JS))
        weights = np.unique(self._arrays[k.W_AT][self._rows]).size * int(self.memory[k.WEIGHTS])
        return super().nbytes + rows + 8 * weights
