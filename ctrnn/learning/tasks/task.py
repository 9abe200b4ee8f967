"""What a task is: inputs and targets of trials, and where a target counts.

Time is counted in steps of dt. Of trial b, the input x[b, k] holds from k dt to (k + 1) dt, and y[b, k] is what the
output ought to be at the end of that, at t[k] = (k + 1) dt, where weight[b, k] is not 0. A learner takes the same pairs
step by step: ``learner.step(x, y)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UsageError
from ctrnn.memory import claim
from ctrnn.names import as_call
from ctrnn.numbers import number, places, positive, real_array, whole

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Stream:
    """A task as it comes in time, several trials side by side in lanes.

    Attributes
    ----------
    x, y : ndarray (T, lanes, inputs), (T, lanes, outputs)
        Inputs and targets; what ``OnlineLearner.run`` takes with ``batch=lanes``.
    weight : ndarray (T, lanes)
        1 where a target counts, 0 where none does.
    start : ndarray (T,) of bool
        Whether a trial begins with this step: the state is reset before it.
    dt : float
        Length of a step.

    Examples
    --------
    >>> from ctrnn.learning import tasks
    >>> stream = tasks.adding(trials=6, steps=10).stream(lanes=2)
    >>> stream.x.shape, stream.start.nonzero()[0].tolist()
    ((30, 2, 2), [0, 10, 20])
    """

    x: Array
    y: Array
    weight: Array
    start: NDArray[np.bool_]
    dt: float

    __repr__ = as_call


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """Trials to learn from; torch's DataLoader takes them as they are.

    Attributes
    ----------
    name : str
        What the task is called.
    description : str
        What is to be learned, in a sentence.
    x : ndarray (trials, T, inputs)
        Inputs, each held for a step.
    y : ndarray (trials, T, outputs)
        Targets at the ends of the steps; finite where none counts, too.
    weight : ndarray (trials, T)
        1 where a target counts, 0 where none does.
    dt : float
        Length of a step.
    inputs, outputs : tuple of str
        Names of the inputs and outputs.
    time_unit : str
        What dt is measured in.
    t0 : float
        When the first trial's first step begins.
    offset, scale : ndarray (outputs,)
        Targets in their own units are ``offset + scale * y``.
    unit : str
        The unit of ``offset + scale * y``; empty where it has none.
    classes : bool
        Whether a target is one of several classes, a 1 among zeros, for a softmax read-out and "cross_entropy".
    feeds_back : bool
        Whether x[b, k + 1] is y[b, k]: a network that has learned it runs free with its own outputs as inputs.
    reference : str
        Where the task comes from.

    Raises
    ------
    UsageError
        For arrays that do not fit each other, and numbers that are not finite.

    Notes
    -----
    ``len(task)`` is the number of trials, ``task[i]`` the x (T, inputs), y (T, outputs) and weight (T,) of one,
    ``for x, y, weight in task`` goes through all. A DataLoader stacks them into tensors (batch, T, …) of float64.

    Examples
    --------
    >>> import torch
    >>> from ctrnn.learning import tasks
    >>> task = tasks.flip_flop(bits=2, trials=10, steps=50, seed=1)
    >>> x, y, weight = next(iter(torch.utils.data.DataLoader(task, batch_size=5)))
    >>> x.shape, y.shape, weight.shape
    (torch.Size([5, 50, 2]), torch.Size([5, 50, 2]), torch.Size([5, 50]))
    """

    name: str
    description: str
    x: Array
    y: Array
    weight: Array
    dt: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    time_unit: str = "tau"
    t0: float = 0.0
    offset: Any = 0.0
    scale: Any = 1.0
    unit: str = ""
    classes: bool = False
    feeds_back: bool = False
    reference: str = ""

    def __post_init__(self) -> None:
        x, y, weight = (real_array(name, getattr(self, name)) for name in ("x", "y", "weight"))
        if x.ndim != 3 or y.ndim != 3 or weight.ndim != 2 or not x.shape[:2] == y.shape[:2] == weight.shape:
            shapes = {"x": x.shape, "y": y.shape, "weight": weight.shape}
            raise UsageError(
                "x, y, weight", given=shapes, allowed="(trials, T, inputs), (trials, T, outputs), (trials, T)"
            )
        if len(self.inputs) != x.shape[2] or len(self.outputs) != y.shape[2]:
            given = {"inputs": len(self.inputs), "outputs": len(self.outputs)}
            raise UsageError(
                "inputs, outputs", given=given, allowed=f"{x.shape[2]} and {y.shape[2]} names, as x and y have"
            )
        for name, values in (("x", x), ("y", y), ("weight", weight)):
            if not np.isfinite(values).all():
                raise UsageError(
                    name,
                    given=f"{np.isnan(values).sum() + np.isinf(values).sum()} values that are infinite or NaN",
                    allowed="finite ones",
                    hint="weight 0 where no target is known",
                )
        if (weight < 0).any():
            raise UsageError("weight", given=f"{(weight < 0).sum()} negative ones", allowed="at least 0")
        object.__setattr__(self, "dt", positive("dt", self.dt))
        fields = {"x": x, "y": y, "weight": weight}
        for name in ("offset", "scale"):
            fields[name] = np.array(np.broadcast_to(np.asarray(getattr(self, name), dtype=float), y.shape[2:]))
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Array, Array, Array]:
        """One trial: x (T, inputs), y (T, outputs), weight (T,)."""
        if isinstance(i, slice):
            raise UsageError(
                "trial", given=i, allowed="one number", hint="task.trials(range(…)) gives a task of several"
            )
        return self.x[i], self.y[i], self.weight[i]

    def __iter__(self) -> Iterator[tuple[Array, Array, Array]]:
        return iter(zip(self.x, self.y, self.weight, strict=True))

    def __repr__(self) -> str:
        trials, T, _ = self.x.shape
        counts, ins, outs = self.weight.astype(bool).mean(), len(self.inputs), len(self.outputs)
        return (
            f"task {self.name}: {trials} trial{'s'[: trials - 1]} of {T} steps of {self.dt:g} {self.time_unit}, "
            f"{ins} input{'s' * (ins != 1)}, {outs} output{'s' * (outs != 1)}, {counts:.0%} of the steps count\n"
            f"{self.description}"
        )

    @property
    def t(self) -> Array:
        """When the targets hold, the ends of the steps, (T,) in ``time_unit``."""
        return self.t0 + self.dt * np.arange(1, self.x.shape[1] + 1)

    def trials(self, chosen: Sequence[int] | Array | range) -> Task:
        """The task of these trials alone, by their numbers."""
        rows = places("chosen", chosen, len(self))
        if not rows.size:
            raise UsageError("chosen", given=chosen, allowed="numbers of trials, at least one")
        return replace(self, x=self.x[rows], y=self.y[rows], weight=self.weight[rows])

    def steps(self, first: int, last: int | None = None) -> Task:
        """The task of the steps from ``first`` to before ``last`` alone, of every trial."""
        T = self.x.shape[1]
        a, b, _ = slice(first, last).indices(T)
        if a >= b:
            raise UsageError("first, last", given=(first, last), allowed=f"a piece of the {T} steps, not empty")
        now = slice(a, b)
        t0 = self.t0 + a * self.dt
        return replace(self, x=self.x[:, now], y=self.y[:, now], weight=self.weight[:, now], t0=t0)

    def stream(self, lanes: int = 1) -> Stream:
        """The trials one after the other, in so many lanes side by side.

        Lane l has the trials l, l + lanes, l + 2 lanes, …; the number of trials is a multiple of ``lanes``.
        """
        counts(lanes=lanes)
        rounds, left = divmod(len(self), lanes)
        if left:
            raise UsageError("lanes", given=lanes, allowed=f"a divisor of the number of trials, {len(self)}")
        T = self.x.shape[1]

        def side_by_side(values: Array) -> Array:
            in_lanes = values.reshape(rounds, lanes, *values.shape[1:])
            return np.ascontiguousarray(np.moveaxis(in_lanes, 1, 2)).reshape(rounds * T, lanes, *values.shape[2:])

        start = np.arange(rounds * T) % T == 0
        x, y, weight = (side_by_side(v) for v in (self.x, self.y, self.weight))
        return Stream(x, y, weight, start, self.dt)

    def in_units(self, y: Any) -> Array:
        """Targets or outputs (…, outputs) in their own units: offset + scale y."""
        return np.asarray(self.offset + self.scale * np.asarray(y))


# -- what the tasks check, and how they draw


def counts(least: int = 1, **values: Any) -> None:
    """Raise UsageError unless these are whole numbers from ``least`` on."""
    for name, value in values.items():
        whole(name, value, least)


def chance(name: str, value: Any) -> None:
    """Raise UsageError unless this is a probability."""
    if not 0.0 <= number(name, value) <= 1.0:
        raise UsageError(name, given=value, allowed="a probability, from 0 to 1")


def long_enough(steps: int, least: int, what: str) -> None:
    """Raise UsageError for trials that are too short for what has to happen in them."""
    counts(steps=steps)
    if steps < least:
        raise UsageError("steps", given=steps, allowed=f"at least {least}: {what}")


def room(trials: int, steps: int, channels: int) -> None:
    """Raise MemoryLimitError where so many numbers a step do not fit."""
    claim("trials", 8.0 * trials * steps * channels, "fewer trials at a time, or shorter ones")


def generator(seed: Any) -> np.random.Generator:
    """Random numbers from a seed, which makes a task the same to the bit wherever it is made."""
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(whole("seed", seed, 0))
