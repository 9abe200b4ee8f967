"""What a gradient costs, in flops and bytes, from sizes alone. Each method names its count (``GradientMethod.cost``).

n states, m parameters in ``entries`` places of the kernels, T steps of s stages that a gradient pulls back through. A
call of F takes f flops, one row of the pullback v = J and a = F_w products; for a network with its matrix Ŵ of
``entries`` numbers f = v = a = 2 entries, equations count as dense: f = 2n(n + m), v = 2n², a = 2nm. With E calls of F
in the run:

    adjoint, discrete       E f + T s (v + a)                              T records of (s + 1) n, cotangents of a block
    adjoint, checkpoint     (E + E′) f + T s (v + a)                       snapshots, a segment; E′ by its schedule
    RTRL, blocks of K       E f + T s q (v + a) + (T/K) 2q² entries        [P; g], q · entries, a block's cotangents
    RTRL, continuous        E (f + 2n² (entries + n))                      stages of [r | P | S]; P at each observation
    on implicit solvers     E f + T s (4n² (entries + n) + 2n³/3)          the same
    adjoint, backsolve      E f + E (f + v + a)                            stages of [r | λ | g]
    adjoint, interpolate    E f + E (v + a)                                the same, and polynomials of r(t)
    truncated, window k     E f + L k s (v + a),  L steps with a loss      records of a block and a window
    autograd, complex step, central differences: 1 + 2, 4 (m + n) and 6 (m + n) runs, and a graph, 256 runs or one at a
    time

RTRL carries q = n + 1 rows, or one more than the largest part of the states has that hangs together
(Kernel.largest_part). An implicit stage adds 2n³/3 + 2n² a solution to the pullback and, in the run, Newton's: its
calls of F are in E. Allocated, not touched, bytes are counted, as tracemalloc does, and what compiled code takes for
itself besides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ctrnn.fields.base import Field
from ctrnn.gradients.continuous.scales import SAMPLES
from ctrnn.gradients.recording.base import Needs
from ctrnn.gradients.recording.rows import RowsRecording
from ctrnn.kernels.batch.tiles import padded
from ctrnn.problem import Problem, Settings
from ctrnn.solvers import tableaus
from ctrnn.solvers.runge_kutta import BLOCK, BLOCK_BYTES

#: bytes of a torch operation that autograd remembers, besides its result
NODE = 700
#: bytes that Python adds to a run
RUN = 25_000
#: directions that the complex step takes at once
CHUNK = 256
#: Newton iterations of an implicit stage, where no run has told yet
ITERATIONS = 3
#: calls of F of the adaptive run of [r | P | S], and of that of λ, for one of r alone: they choose steps of their own,
#: and this is a guess
FORWARD, BACK = 1.3, 1.4
OWN_STEPS = "steps of its own: a guess"


@dataclass(frozen=True)
class Size:
    """All that the cost depends on.

    Attributes
    ----------
    n, m
        States and parameters of the field.
    entries
        Numbers of the kernel's parameters.
    states
        N of the run: with the loss, where that is in its step test.
    stride, outputs, readout
        Channels of x and of targets; outputs; numbers of the read-out.
    observations
        Observation times; 0: an integral.
    steps, calls
        T, and E, the calls of F in the run.
    s, total, couplings
        Stages pulled back through, with those of the dense output, non-zero a_ij and b_i.
    degree, fsal, implicit
        Of the dense output; whether the last stage is the next one's first; whether stages are solved for.
    adaptive, library
        Whether steps are chosen on the way; whether the solver is another library's.
    dense
        Whether F_w is a dense matrix.
    rows
        q of RTRL.
    field
        The field itself, for methods whose cost depends on which states a parameter reaches.
    tiled, tape
        Whether BPTT goes by ctrnn.gradients.recording.rows, and the numbers that it keeps of a stage.
    """

    n: int
    m: int
    entries: int
    states: int
    stride: int
    outputs: int
    readout: int
    observations: int
    steps: int
    calls: int
    s: int
    total: int
    couplings: int
    degree: int
    fsal: bool
    implicit: bool
    adaptive: bool
    library: bool
    dense: bool
    rows: int
    tiled: bool
    tape: int
    field: Field

    @classmethod
    def of(cls, problem: Problem, settings: Settings, steps: int, calls: int | None = None) -> Size:
        """The size of a problem whose run takes ``steps`` steps; raises UsageError without an objective."""
        objective, field = problem.needs_objective("a plan"), problem.field
        kernel, library, adaptive = field._kernel, bool(settings.library), settings.dt is None
        integral = objective.times is None
        tableau = tableaus.get("tsit5" if library else settings.solver)
        implicit = tableau.implicit
        per_step = tableau.stages * (ITERATIONS if implicit else 1)
        return cls(
            n=field.n,
            m=field.m,
            entries=kernel.groups * kernel.columns,
            states=field.n + (1 if integral and adaptive else 0),
            stride=problem.signals.size,
            outputs=objective.output_size,
            readout=objective.readout_size,
            observations=0 if integral else int(problem.observed.size),
            steps=steps,
            calls=steps * per_step if calls is None else calls,
            s=tableau.stages,
            total=tableau.s_total,
            couplings=int((tableau.a[: tableau.stages] != 0).sum() + (tableau.b != 0).sum()),
            degree=tableau.dense.shape[1],
            fsal=tableau.fsal,
            implicit=implicit,
            adaptive=adaptive,
            library=library,
            dense=not kernel.blas,
            rows=kernel.largest_part(field.n) + 1,
            tiled=RowsRecording.supports([problem], settings, Needs()),
            tape=0 if field.row_slots is None else field.row_slots.tape(1, 1),
            field=field,
        )

    @property
    def integral(self) -> bool:
        """Whether the loss is an integral."""
        return self.observations == 0

    @property
    def chosen_steps(self) -> bool:
        """Whether a continuous method chooses steps of its own, and not those of the run."""
        return self.adaptive or self.library

    @property
    def f(self) -> float:
        """Flops of a call of F."""
        return 2.0 * self.n * (self.n + self.m) if self.dense else 2.0 * self.entries

    @property
    def va(self) -> float:
        """Flops of one row through a stage, and of its parameter part."""
        return 2.0 * self.n * (self.n + self.m) if self.dense else 4.0 * self.entries

    @property
    def solves(self) -> float:
        """Flops of the factor that an implicit stage takes on the way back."""
        return 2.0 * self.n**3 / 3.0 if self.implicit else 0.0

    @property
    def block(self) -> int:
        """Steps in a block of the run's record."""
        block = min(BLOCK, max(1, BLOCK_BYTES // (8 * self.states * (1 + self.total))))
        return block if self.adaptive else min(block, self.steps + 1)

    @property
    def record(self) -> int:
        """Bytes of a recorded step."""
        states = self.states
        return 8 * (2 + states + self.s * (1 + states + self.stride))

    @property
    def pull(self) -> int:
        """Bytes of a step while one row is pulled back: its cotangents, and a network's drives and sources."""
        return 8 * self.s * (self.n if self.dense else 3 * self.n + self.stride + 1)

    def before(self, memory: float, sized: bool = False) -> float:
        """The memory of a run, or that before it, with what Python adds.

        Before it an integral has its size sampled, with adaptive steps or where ``sized``.
        """
        sampled = (
            8.0 * SAMPLES * (4 * self.n + 2 * self.outputs + 4) if self.integral and (self.adaptive or sized) else 0.0
        )
        return max(memory, sampled) + RUN


@dataclass(frozen=True)
class Cost:
    """Flops, bytes at the peak, and a remark."""

    flops: float
    memory: float
    note: str = ""


def tiled(z: Size) -> Cost:
    """Networks and array equations by fixed steps.

    The tape and the inputs of all stages; states and jumps at the ends of steps; and the stages of an integral, with
    their sources; weights both ways round, and their cotangents.
    """
    wide, T = padded(z.n), z.steps
    inputs = z.stride - (z.outputs + 1 if z.integral else 0)
    kept = z.tape + inputs + (wide if z.integral else 0)
    block = wide + z.stride + 4 + (3 * z.n if z.integral else 0)
    stages = z.s * (T * kept + min(T, z.block) * block)
    states = T * 4 + min(T, z.observations) * wide + min(T, z.block) * (2 * wide + z.n)
    weights = 3 * (z.entries + z.n * wide)
    return Cost(z.calls * z.f + T * z.s * z.va, z.before(8.0 * (stages + states + weights)))


def discrete(z: Size) -> Cost:
    """Every step is kept; an integral's sources with it, an observed block's jumps too."""
    if z.tiled and not z.implicit:
        return tiled(z)
    allocated, steps = -(-z.steps // z.block) * z.block, min(z.block, z.steps)
    if z.states == z.n:
        held = allocated * z.record
    else:  # r without l is a copy of the steps there are
        held = 8 * allocated * (2 + z.s * (1 + z.stride)) + 8 * z.steps * z.n * (1 + z.s) + z.block * z.record
    held += 8 * z.steps * z.n * (z.s if z.integral else 1)
    losses = steps * 8 * z.s * (3 * z.n + 2 * z.outputs + z.stride) if z.integral else 0
    flops = z.calls * z.f + z.steps * z.s * (z.va + z.solves)
    return Cost(flops, z.before(held + max(losses, steps * z.pull)))


def checkpoint(z: Size, ran: float, memory: float) -> Cost:
    """``ran`` segments run for each segment there is, in ``memory`` bytes."""
    return Cost(z.calls * ran * z.f + z.steps * z.s * (z.va + z.solves), memory)


def forward(z: Size, block: int) -> Cost:
    """Discrete RTRL, in blocks of K steps."""
    q = z.rows
    K = min(block, max(z.steps, 1))
    kept = min(block, z.block) if z.adaptive else K
    flops = z.calls * z.f + z.steps * z.s * (q * z.va + z.solves) + z.steps / K * 2.0 * q**2 * z.entries
    cotangents = 8.0 * z.s * z.n * q * (K * (1 if z.dense else 2) + 1)
    sources = 8 * K * z.s * 4 * z.n if z.integral else 0
    return Cost(flops, z.before(8.0 * q * z.entries + cotangents + (kept + K) * z.record + sources + 8 * 4 * z.n * q))


def online(z: Size, flops: float, numbers: float) -> Cost:
    """A rule of learning along recorded steps.

    Φ of each, by n rows, for dl/dr0; beside it the rule's own flops a step, and the numbers that it works with.
    """
    z = replace(z, rows=z.n + 1)
    q, textbook = z.rows, forward(z, 1)
    own = textbook.flops + z.steps * (flops - 2.0 * q**2 * z.entries)
    return Cost(own, textbook.memory + 8.0 * (numbers - q * z.entries))


def stages_of(z: Size, N: int, kept: int) -> float:
    """Bytes of an adaptive run of N components: stages, states, tolerances, and ``kept`` states."""
    return 8.0 * N * (z.total + z.s + 10 + kept)


def forward_size(z: Size) -> int:
    """N of [r | P | S], and of the loss and its gradients."""
    inner = z.n * (1 + z.entries + z.n)
    return inner + (1 + z.entries + z.n + z.readout if z.integral else 0)


def sensitivity_flops(z: Size) -> float:
    """Flops of a call of F for P and S beside it: the product with J.

    An implicit stage, which takes several calls, has J, its factor and a solution.
    """
    product = 2.0 * z.n**2 * (z.entries + z.n)
    stages = z.steps * z.s / max(z.calls, 1)
    return stages * (2.0 * product + z.solves) if z.implicit else product


def forward_continuous(z: Size) -> Cost:
    """The sensitivity equation beside the state."""
    N = forward_size(z)
    calls = z.calls * (FORWARD if z.chosen_steps else 1.0)
    flops = calls * (z.f + sensitivity_flops(z))
    memory = stages_of(z, N, max(z.observations, 1)) + 8 * 4 * z.n**2
    if z.implicit:  # a block of steps is kept
        block = min(BLOCK, max(1, BLOCK_BYTES // (8 * N)))
        memory += 8.0 * N * (block if z.adaptive else min(block, z.steps + 1))
    return Cost(flops, z.before(memory, sized=True), OWN_STEPS if z.chosen_steps else "")


def backward_continuous(z: Size, interpolate: bool) -> Cost:
    """The adjoint equation behind the run of the state, with r(t) from its dense output or run backwards beside λ."""
    N = z.n * (1 if interpolate else 2) + z.entries
    back = z.calls * (BACK if z.chosen_steps else 1.0)
    flops = z.calls * z.f + back * (z.va + (0.0 if interpolate else z.f))
    memory = stages_of(z, N, 1) + 8.0 * z.n * (z.observations + 2)
    if interpolate:
        dense = 8.0 * z.n * (z.degree + 1)
        block = min(z.block, max(1, BLOCK_BYTES // (8 * z.states * (1 + 2 * z.total))))
        memory += z.steps * dense * 3 + block * (z.record + 8.0 * z.n * (z.total + z.degree))
    return Cost(flops, z.before(memory, sized=True), OWN_STEPS if z.chosen_steps else "")


def truncated(z: Size, window: int) -> Cost:
    """A pass backward of ``window`` steps from each step with a loss."""
    losses = z.steps if z.integral else z.observations
    steps = min(z.block, z.steps)
    flops = z.calls * z.f + losses * min(window, z.steps) * z.s * (z.va + z.solves)
    sources = steps * 8 * z.n * z.s * 3 if z.integral else steps * 8 * z.n
    memory = z.before(z.block * z.record + (steps + window) * z.record + sources + window * z.pull)
    return Cost(flops, memory, f"window {window}")


def graph(z: Size) -> Cost:
    """torch's autograd: every operation of every stage with its result; weights get a gradient at each use."""
    operations = z.s * (6 if not z.dense else 4 * z.n) + 2 * z.couplings
    memory = z.steps * (operations * (8.0 * z.n + NODE) + 3.0 * z.record) + z.block * z.record + 3 * 8.0 * z.m
    note = f"in {z.steps * operations:,} torch operations"
    return Cost(3.0 * z.calls * z.f + z.steps * z.s * 3.0 * z.solves, memory, note)


def complex_step(z: Size) -> Cost:
    """(m + n) runs in complex numbers, 256 of them at a time, all their states kept, and their directions."""
    runs = z.m + z.n
    kept = 16.0 * min(CHUNK, runs) * (z.steps * (z.s + 1) * z.n + 3 * z.m)
    note = f"{runs:,} complex runs in torch, {CHUNK} at a time"
    return Cost(4.0 * runs * z.calls * z.f, 16.0 * runs**2 + kept + 3.0 * z.steps * z.record, note)


def central(z: Size) -> Cost:
    """Six whole runs for each number."""
    runs = 1 + 6 * (z.m + z.n)
    memory = 3.0 * z.steps * z.record + 8 * z.n * z.steps + z.block * z.record
    return Cost(runs * z.calls * z.f, memory, f"{runs:,} runs")


def in_bytes(count: float) -> str:
    """A number of bytes in the unit that reads best.

    >>> in_bytes(61_000), in_bytes(12), in_bytes(2.5e9)
    ('61 kB', '12 B', '2.5 GB')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def in_seconds(time: float) -> str:
    """A time, given in seconds, in the unit that reads best.

    >>> in_seconds(61.0), in_seconds(0.0125), in_seconds(2.5e-6)
    ('61 s', '12.5 ms', '2.5 µs')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if time >= size:
            return f"{time / size:.3g} {unit}"
    return f"{time / 1e-6:.3g} µs"
