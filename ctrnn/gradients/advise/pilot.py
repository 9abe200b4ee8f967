"""A few steps of a problem, taken and timed: what a call of F, a row through a stage, and torch's graph of a step cost for this very field.

Compiled equations differ from each other by orders of magnitude, and no count of flops tells by how much. So the first steps of the run are
taken, and pulled back, as the methods would; what would be long even so is left to the machine's rates (ctrnn.gradients.advise.machine). Seconds are those
of this thread on its processor, so that what else runs on the machine does not count.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ctrnn.errors import CtrnnError
from ctrnn.gradients.advise import cost
from ctrnn.gradients.advise.cost import CHUNK, Size, forward_size
from ctrnn.gradients.advise.machine import clock, least_time
from ctrnn.gradients.continuous.forward import ForwardSystem
from ctrnn.gradients.recording.discrete import DiscreteRun
from ctrnn.gradients.recording.losses import Part
from ctrnn.gradients.recording.replay import Steps, field_inputs, newton_matrices, replay
from ctrnn.gradients.schedules.adjoint import Adjoint
from ctrnn.gradients.schedules.rtrl import RTRL, default_block
from ctrnn.kernels.stepper import Record
from ctrnn.objective import Objective
from ctrnn.problem import Course, Problem, Settings
from ctrnn.solvers.runge_kutta import Integration
from ctrnn.solvers.solve import solve

#: steps of a pilot, and of one through torch
STEPS, TORCH_STEPS = 256, 4
#: flops, and bytes, that a pilot of one method may take
FLOPS, BYTES = 1e9, 2**27
#: flops of the shorter pilot of BPTT by network_adjoint, and those that a stage is worth beside its products
TILED_FLOPS, CALL = 1e7, 1000.0


@dataclass(frozen=True)
class Pilot:
    """Seconds, each of one: call of F, stage pulled back with one row, step's losses (of an integral), all observations' losses, all of
    discrete RTRL, step of BPTT where it goes by ctrnn.gradients.recording.network_adjoint, call of the sensitivities' F, step through torch's graph, step with 256 complex directions. None: too long to try.
    """

    size: Size
    run: DiscreteRun | None
    field: float
    stage: float
    losses: float
    observations: float
    rows: float | None
    tiled: float | None
    sensitivities: float | None
    graph: float | None
    directions: float | None


def fly(problem: Problem, settings: Settings) -> Pilot:
    """The pilot of a problem. Where the number of steps is not known it takes one whole forward run; raises what that raises."""
    if settings.library:
        return _of_library(problem, settings)
    run, record, size, per_call = _forward(problem, settings)
    part = run.losses.block(record) if size.integral else _no_loss(run, record)
    n, kernel = problem.field.n, run.bound.kernel
    rows, G = np.zeros((n, 1)), np.zeros((kernel.groups, 1, kernel.columns))
    stage = least_time(lambda: run.pull(record, part, rows, G)) / (record.h.size * size.s)
    losses = _losses(run, record, size) if size.integral else 0.0
    return Pilot(
        size,
        run,
        per_call,
        stage,
        losses,
        _observations(problem),
        _rows(problem, settings, record, size),
        _tiled(problem, settings, size),
        _sensitivities(problem, settings, record, size),
        _graph(problem, run, record, size),
        _directions(problem, run, record, size),
    )


def _forward(problem: Problem, settings: Settings) -> tuple[DiscreteRun, Record, Size, float]:
    """A run, the record of its first steps, the size, and the seconds of a call of F."""
    from ctrnn.gradients.schedules.checkpoint import steps_ahead

    run = DiscreteRun(problem, settings, "plan")
    run.losses.start()
    steps = steps_ahead(run.integration)
    if steps is None:
        _first(DiscreteRun(problem, settings, "plan"))  # loads and compiles
        record, taken, before = None, 0.0, clock()
        for block in run.integration.blocks():
            taken += clock() - before
            record = _head(block) if record is None else record
            before = clock()
        assert record is not None
        stats = run.stats
        size = Size.of(problem, settings, stats.steps, stats.evaluations)
        return run, _of_state(record, problem.field.n), size, taken / stats.evaluations
    record = _first(run)
    other = DiscreteRun(problem, settings, "plan")
    began = clock()
    _first(other)
    taken = clock() - began
    per_step = other.integration.stats.evaluations / record.h.size
    calls = round(per_step * steps)
    return run, record, Size.of(problem, settings, steps, calls), taken / (per_step * record.h.size)


def _first(run: DiscreteRun) -> Record:
    """The first steps of a run."""
    return next(run.integration.blocks(STEPS))


def _head(record: Record) -> Record:
    return Record(*(part[:STEPS].copy() for part in record))


def _of_state(record: Record, n: int) -> Record:
    """The record of r alone, of a run with the loss in its state."""
    r, stage_r = (np.ascontiguousarray(part[..., :n]) for part in (record.r, record.stage_r))
    return record._replace(r=r, stage_r=stage_r)


def _no_loss(run: DiscreteRun, record: Record) -> Part:
    """A jump at the end, where the observations of the run may lie elsewhere."""
    jumps = np.zeros((record.h.size, run.n))
    jumps[-1] = 1.0
    return Part(0.0, np.zeros(run.losses.readout_size), jumps, np.empty((0, run.s, run.n)))


def _losses(run: DiscreteRun, record: Record, z: Size) -> float:
    """A step of an integral's losses, in a block as long as those of the run: numpy's calls count once a block."""
    times = max(1, min(z.block, z.steps, BYTES // 8 // z.record) // record.h.size)
    block = Record(*(np.concatenate([part] * times) if len(part) else part for part in record))
    return least_time(lambda: run.losses.block(block)) / block.h.size


def _observations(problem: Problem) -> float:
    """Seconds of the losses at all observations, in one go."""
    objective, K = problem.needs_objective("a plan"), problem.observed.size
    if K == 0 or K * problem.field.n > BYTES / 8:
        return 0.0
    r = np.tile(problem.r0, (K, 1))
    with np.errstate(all="ignore"):
        return least_time(lambda: objective.at_observations(r))


def _rows(problem: Problem, settings: Settings, record: Record, z: Size) -> float | None:
    """All of discrete RTRL, from two lengths of it: whole blocks, where they are short."""
    block = default_block(z.n, z.entries, z.s, z.rows - 1)
    length = min(record.h.size, STEPS) // 2
    length = max(1, length // block * block or length)
    per_step = z.s * (z.rows * z.va + z.solves) + 2.0 * z.rows**2 * z.entries / block
    length = min(length, int(FLOPS / (2 * per_step)))
    if length < 1 or 2 * length > record.h.size or cost.forward(z).memory > BYTES:
        return None

    def whole() -> float:
        ends = float(record.t[length - 1]), float(record.t[2 * length - 1])
        few, short, per_step = _by_two_lengths(problem, settings, RTRL(), ends)
        return short + per_step * (z.steps - few)

    return _tried(whole)


def _by_two_lengths(
    problem: Problem, settings: Settings, method: RTRL | Adjoint, ends: tuple[float, float]
) -> tuple[int, float, float]:
    """Seconds of a gradient up to the first of two times, how many steps that were, and the seconds of each step that follows up to the second."""
    objective = problem.needs_objective("a plan")

    def taken(end: float) -> tuple[int, float]:
        zeros = np.zeros((1, objective.output_size))
        last = Objective(target=zeros, at=[end], readout=objective.objective.readout)
        short = problem.replace(t_span=(problem.t_span[0], end), objective=last)
        ran = method.compute(short, settings).stats.steps
        return ran, least_time(lambda: method.compute(short, settings))

    (few, short), (many, long) = taken(ends[0]), taken(ends[1])
    return few, short, max(0.0, long - short) / max(1, many - few)


def _tiled(problem: Problem, settings: Settings, z: Size) -> float | None:
    """A step of BPTT where it goes by ctrnn.gradients.recording.network_adjoint; of so many that they are not lost in the time of the set-up."""
    length = min(z.steps // 2, max(STEPS, int(TILED_FLOPS / (z.s * (z.f + z.va + CALL)))))
    if not z.tiled or length < 1 or settings.dt is None:
        return None
    dt, t0 = settings.dt, problem.t_span[0]
    ends = t0 + length * dt, min(t0 + 2 * length * dt, problem.t_span[1])
    return _tried(lambda: _by_two_lengths(problem, settings, Adjoint(), ends)[2])


def _sensitivities(problem: Problem, settings: Settings, record: Record, z: Size) -> float | None:
    """A call of F of [r | P | S], with its share of the step; fixed steps of the size that the run took."""
    N = forward_size(z)
    if 8 * N * (z.total + z.s + 8) > BYTES or (
        z.implicit and z.s * cost.sensitivity_flops(z) * z.calls / z.steps > FLOPS
    ):
        return None
    if z.implicit:
        return _tried(lambda: _staggered(problem, settings, record))
    system = ForwardSystem(problem)
    steps = max(1, min(STEPS, int(2e7 / (N * z.s)), record.h.size))
    h = float(np.min(record.h))
    course = Course(problem.t_span[0], np.array([problem.t_span[0] + steps * h]), np.ones(1, dtype=bool))
    fixed = Settings(settings.solver, 1e-8, 1e-10, h)

    def integrate() -> float:
        run = Integration(system.bound, system.start(), course, fixed, keep="nothing", label="plan")
        began = clock()
        run.run()
        return (clock() - began) / run.stats.evaluations

    return _tried(lambda: min(integrate() for _ in range(3)))


def _staggered(problem: Problem, settings: Settings, record: Record) -> float:
    """The same behind the steps of an implicit solver."""
    short = problem.replace(t_span=(problem.t_span[0], float(record.t[min(8, record.t.size) - 1])), objective=None)
    system = ForwardSystem(short)
    its, groups = system.tolerances(settings)
    calls = system.solve(its, groups, short.course.stops[-1:]).stats.evaluations
    return least_time(lambda: system.solve(its, groups, short.course.stops[-1:])) / calls


def _steps_for_torch(run: DiscreteRun, record: Record, n: int, count: int) -> Steps:
    some = Record(*(p[:count] if len(p) else p for p in record))
    return Steps(some, run.a, run.b, 0.0, np.zeros(n), np.zeros(0), np.zeros((0, n)), np.zeros((0, 0, n)), run.stats)


def _graph(problem: Problem, run: DiscreteRun, record: Record, z: Size) -> float | None:
    """A step through torch's autograd, forward and back."""
    import torch

    count = min(TORCH_STEPS, record.h.size)
    steps = _steps_for_torch(run, record, z.n, count)
    function = field_inputs(problem)

    def graph() -> None:
        w = {k: torch.tensor(v, requires_grad=True) for k, v in problem.field.parameters.items()}
        r0 = torch.tensor(problem.r0, requires_grad=True)
        matrices = newton_matrices(steps, function, problem.field.parameters)
        states, _ = replay(steps, function, w, r0, matrices)
        torch.autograd.grad(states[-1].sum(), [*w.values(), r0], allow_unused=True)

    return _tried(lambda: least_time(graph) / count)


def _directions(problem: Problem, run: DiscreteRun, record: Record, z: Size) -> float | None:
    """A step with as many complex directions as the complex step takes at once."""
    import torch

    count = min(CHUNK, z.m + z.n)
    if 16.0 * count * z.m > BYTES / 2 or (z.n + z.m) ** 2 > 1e8:
        return None
    steps = _steps_for_torch(run, record, z.n, 1)
    function = field_inputs(problem)
    shapes = [(k, v.shape, v.size) for k, v in problem.field.parameters.items()]
    matrices = newton_matrices(steps, function, problem.field.parameters)
    point = torch.from_numpy(np.concatenate([problem.field.vector, problem.r0])).to(torch.complex128)

    def moved(direction: Any) -> Any:
        parts = torch.split(point + 1e-100j * direction, [size for _, _, size in shapes] + [z.n])
        w = {k: part.reshape(shape) for (k, shape, _), part in zip(shapes, parts, strict=False)}
        return replay(steps, function, w, parts[-1], matrices)[0][-1].imag.sum()

    some = torch.eye(z.m + z.n, dtype=torch.complex128)[:count]
    return _tried(lambda: least_time(lambda: torch.func.vmap(moved)(some)))


def _tried(measure: Any) -> float | None:
    """What is measured, or None where the field does not take it: the method itself will say why."""
    with suppress(CtrnnError, RuntimeError, TypeError):
        return float(measure())
    return None


def _of_library(problem: Problem, settings: Settings) -> Pilot:
    """One solution by the other library: its calls of F, and their time."""
    forward = partial(solve, problem.bind(), problem.r0, problem.course, settings, label="plan")
    forward(save_at=np.array(problem.course.stops[-1:]))
    began = clock()
    stats = forward().stats
    taken = clock() - began
    size = Size.of(problem, settings, stats.steps, stats.evaluations)
    call = taken / max(stats.evaluations, 1)
    return Pilot(size, None, call, call, 0.0, _observations(problem), None, None, None, None, None)
