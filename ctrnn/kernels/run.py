"""What a run of the stepper is given, and how its rarer parts get it.

The stages of implicit methods (ctrnn.kernels.implicit) and the sensitivities behind them (ctrnn.kernels.staggered) are
reached by their addresses, as fields are: so a run with an explicit method compiles neither. What they need is passed
by its address in memory: ``pack`` gives the address, ``system_at`` … ``staggered_at`` read there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctrnn.kernels.abi import System, packing


class Method(NamedTuple):
    """A tableau as arrays (ctrnn.solvers.tableaus says what they mean)."""

    a: np.ndarray  # (S, S), stages, then extra stages of the dense output
    b: np.ndarray  # (s,)
    c: np.ndarray  # (S,)
    e: np.ndarray  # (0, 1 or 2, S)
    dense: np.ndarray  # (S, degree)
    fsal: bool
    exponent: float  # 1/q
    stages: int  # the stages that enter r⁺, and so the record
    gamma: float  # a_ii of the implicit stages, 0 where all are explicit
    guess: np.ndarray  # (S, S), weights of the first guess Σ_j guess_ij k_j of an implicit stage's k_i


class Control(NamedTuple):
    """Tolerances and limits of a run."""

    rtol: np.ndarray  # (n,)
    atol: np.ndarray  # (n,)
    groups: np.ndarray  # boundaries of the groups of components in the error norm, [0, ..., n]
    dt: float  # the fixed step, or 0 for adaptive steps
    direction: float  # 1 or -1
    min_step: float
    max_steps: int
    step_channel: int  # the channel of x that holds the step's h (ctrnn.kernels.exponential), or -1
    max_step: float  # of adaptive steps


class Record(NamedTuple):
    """What a run keeps of its steps; an array of length 0 is not kept."""

    t: np.ndarray  # (C,) end of the step
    h: np.ndarray  # (C,)
    r: np.ndarray  # (C, n) at the end of the step
    stage_t: np.ndarray  # (C, s)
    stage_r: np.ndarray  # (C, s, n)
    stage_x: np.ndarray  # (C, s, x_stride)
    k: np.ndarray  # (C, S, n)
    z: np.ndarray  # (C, n, q) the sensitivities at the end of the step (ctrnn.kernels.staggered)


class Newton(NamedTuple):
    """What Newton keeps from step to step; arrays of length 0 for explicit methods."""

    J: np.ndarray  # (n, n)
    M: np.ndarray  # (n, n), factored
    pivots: np.ndarray  # (n,) int32
    lapack: np.ndarray  # addresses, see ctrnn.kernels.linalg
    state: np.ndarray
    cost: np.ndarray  # int64
    delta: np.ndarray  # (n,)
    prepare: int  # addresses (ctrnn.kernels.implicit), 0 for explicit methods
    stage: int


class Staggered(NamedTuple):
    """The sensitivities of a run and their working space; q = 0 where there are none."""

    z: np.ndarray  # (n, q)
    z_new: np.ndarray  # (n, q)
    y: np.ndarray  # (n, q): Y_i
    kappa: np.ndarray  # (s, n, q)
    rtol: np.ndarray  # (n, q)
    atol: np.ndarray  # (n, q)
    drive: np.ndarray  # (groups, n, columns): F_w at a stage
    eye: np.ndarray  # (n, n)
    J: np.ndarray  # (n, n)
    M: np.ndarray  # (n, n): I − hγJ, factored
    pivots: np.ndarray  # (n,) int32
    time: np.ndarray  # (1,)
    has_kappa: np.ndarray  # (1,) int64: whether κ_1 of the next step is known
    slot: int  # of the field's table: JACOBIAN, or LEAK for leak-only sensitivities
    step: int  # addresses (ctrnn.kernels.staggered), 0 where there are none
    accept: int


def _examples() -> tuple[NamedTuple, ...]:
    """One of each, for their types."""
    i, f, f2, f3 = np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0, 0))
    i2, pivots = np.zeros((0, 5), dtype=np.int64), np.zeros(0, dtype=np.int32)
    return (
        System(i, i, f, i2, f, 0),
        Method(f2, f, f, f2, f2, False, 0.0, 0, 0.0, f2),
        Newton(f2, f2, pivots, i, f, i, f, 0, 0),
        Control(f, f, i, 0.0, 0.0, 0.0, 0, 0, 0.0),
        Staggered(f2, f2, f2, f3, f2, f2, f3, f2, f2, f2, pivots, f, i, 0, 0, 0),
    )


pack, system_at, method_at, newton_at, control_at, staggered_at = packing(*_examples())
