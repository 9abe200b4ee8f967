"""Back-propagation through time for dense rate networks by fixed steps, all trials together: λ ← λ Φ + jumps, and dl/dw in one product of all trials.

The same numbers as ctrnn.gradients.schedules.adjoint gives of any field, to round-off, in a third to a half of the time: φ and its slope once for both, no call a stage into a
field that does not know its neighbours, and weights that are read once for several trials (ctrnn.kernels.batch.network_batch has the formulas and the flops).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.fields.network import RateNetwork
from ctrnn.gradients.recording.lockstep import Found, Together, same_stops, summed
from ctrnn.gradients.recording.network_trials import PART_TRIALS, Bars, Network, Part, backward, extended, forward
from ctrnn.gradients.recording.scratch import Room, room
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings
from ctrnn.solvers import tableaus
from ctrnn.solvers.runge_kutta import BLOCK

#: bytes that the stages of the trials may take that go together
TOGETHER_BYTES = 2**30
#: numbers of the drive of a block of steps, which the cache should hold
BLOCK_NUMBERS = 2**20


def goes(problems: Sequence[Problem], settings: Settings) -> bool:
    """Whether these go through the kernels of dense rate networks together."""
    first = problems[0]
    if settings.dt is None or settings.library or type(first.field) is not RateNetwork or not first.field.is_dense:
        return False
    tableau = tableaus.get(settings.solver)
    if tableau.gamma or tableau.exponential:
        return False
    return all(not problem.events and same_stops(problem, first) for problem in problems)


def adjoint(problems: Sequence[Problem], settings: Settings, caller: str) -> Found:
    """The losses of B trials and their gradients, as many at a time as memory allows; raises what Together raises."""
    from ctrnn.kernels.batch.tiles import padded

    one = problems[0]
    steps = (one.t_span[1] - one.t_span[0]) / (settings.dt or 1.0)
    numbers = steps * tableaus.get(settings.solver).stages * padded(one.field.n)
    some = max(1, int(TOGETHER_BYTES // (16 * max(numbers, 1.0))))
    if some >= len(problems):
        return _together(problems, settings, caller)
    return summed([_together(problems[b : b + some], settings, caller, b) for b in range(0, len(problems), some)])


def _together(problems: Sequence[Problem], settings: Settings, caller: str, first: int | None = None) -> Found:
    with room() as take:
        return _in_room(Together(problems, settings, caller, first), take)


def _in_room(run: Together, take: Room) -> Found:
    field: Any = run.field
    p, n, nx = field.parameters, run.n, field.input_size
    weights = p["W"], np.concatenate([p["U"], p["b"][:, None]], axis=1), np.broadcast_to(field.tau, (n,))
    network = Network(field.cell, _method(run.solver), *weights, trains_tau=field.train_tau)
    r, lam = np.zeros((2, run.B, network.width))
    r[:, :n] = run.r0
    taken = []
    capacity = min(BLOCK, max(64, BLOCK_NUMBERS // (run.s * min(run.B, PART_TRIALS) * network.width)))
    for records in run.records(capacity):
        steps, X = run.remembered("network", records, partial(_steps, run))
        with room() as scratch:
            states = scratch(steps.h.size, run.B, network.width)
            parts = forward(network, steps, X, r, states, keep=True, take=take)
            stages = _stages(parts, network) if run.integral else states
            jumps, sources = run.shares(records, states[..., :n].transpose(1, 0, 2), stages)
        taken.append((*_marked(steps, jumps, network.width, take), parts, _filled(sources, network.width, take)))
    bars, none = Bars.zeros(network, run.B), np.empty((0, run.s, run.B, network.width))
    while taken:
        steps, jumps, parts, sources = taken.pop()
        backward(network, steps, parts, jumps, none if sources is None else sources, lam, bars)
        run.pulled += steps.row.size * run.B
    tau = bars.tau[:, :n].sum(axis=0) if field.train_tau else None
    vector = field.flat_gradient(bars.W[:, :n], bars.U[:, :nx], bars.U[:, nx], tau)
    return Found(run.loss, vector, run.l_r0 + lam[:, :n], run.l_o, run.stats)


@cache
def _method(solver: str) -> tuple[Array, Array]:
    """a (s, s) and b (s,) of the stages that enter r⁺."""
    tableau = tableaus.get(solver)
    s = tableau.stages
    return np.ascontiguousarray(tableau.a[:s, :s]), np.ascontiguousarray(tableau.b[:s])


def _steps(run: Together, records: Sequence[Record]) -> tuple[Any, Array]:
    """Steps whose stages have a row of the drive each, and whose ends are all asked for; and the inputs X̂ of those rows."""
    from ctrnn.kernels.batch.network_batch import Steps

    h, s, x = records[0].h, run.s, run.inputs(records)
    C = h.size
    return Steps(h, np.arange(C * s).reshape(C, s), np.ones((C, s)), True, np.arange(C)), extended(
        x.reshape(C * s, *x.shape[2:])
    )


def _stages(parts: Sequence[Part], network: Network) -> Array:
    """The states of all stages (B, C, s, n)."""
    each = [part.Z.reshape(*part.Z.shape[:2], -1, network.width) for part in parts]
    return np.concatenate(each, axis=2)[..., : network.n].transpose(2, 0, 1, 3)


def _marked(steps: Any, jumps: Array | None, width: int, take: Room) -> tuple[Any, Array]:
    """The steps that mark the ends at which λ jumps, and those jumps (count, B, width)."""
    if jumps is None:
        return steps._replace(mark=np.full_like(steps.mark, -1)), np.empty((0, 1, width))
    where = np.flatnonzero(jumps.any(axis=(1, 2)))
    if where.size < len(jumps):
        mark = np.full_like(steps.mark, -1)
        mark[where] = np.arange(where.size)
        steps, jumps = steps._replace(mark=mark), jumps[where]
    filled = _filled(jumps, width, take)
    assert filled is not None
    return steps, filled


def _filled(values: Array | None, width: int, take: Room) -> Array | None:
    """Rows of n numbers filled up with 0."""
    if values is None:
        return None
    made = take.zeros(*values.shape[:-1], width)
    made[..., : values.shape[-1]] = values
    return made
