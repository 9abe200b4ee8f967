"""Rules of learning side by side: all along one trajectory, each beside the exact gradient, window by window.

    g_rule, g* (m,)        gradients of the losses of one window, by a rule and by exact RTRL, at the same states
    cosine                 g_rule · g* / (‖g_rule‖ ‖g*‖)
    relative error         ‖g_rule − g*‖/‖g*‖

The rules are passive: what moves the weights, if anything does, is the exact gradient, so that all of them see the same
states, weights and losses. Windows are finite, as a sum over a whole stream hides what a rule misses. A gradient near
the exact one is no promise of learning well, nor is the reverse: that takes a run of its own for each rule.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctrnn.errors import UnknownNameError, UsageError, one_of
from ctrnn.fields.base import Array, Field
from ctrnn.files import atomic_path
from ctrnn.gradients.costs import in_bytes, in_seconds
from ctrnn.gradients.methods import of_table
from ctrnn.gradients.rules.exact import ExactRule
from ctrnn.gradients.rules.rule import Memory, Rule
from ctrnn.gradients.rules.step import Lane, Step
from ctrnn.learning.online.given import rule_named
from ctrnn.learning.online.learner import OnlineLearner
from ctrnn.numbers import axes_of, checked_array, real_array, whole
from ctrnn.progress import track

EXACT = "exact"
WEIGHTS = ("frozen", "exact")
DEFAULT = ("snap-1", "rflo", "e-prop", "uoro", "kf-rtrl", "sketch", "tbptt")


@dataclass(frozen=True, eq=False, repr=False)
class LearnerComparison:
    """Rules of learning beside the exact gradient, over windows of a run.

    Attributes
    ----------
    methods : tuple of str
        The rules; the first is the exact one.
    step : ndarray (K,) of int
        Steps taken at the end of each window.
    t : ndarray (K,)
        The time there.
    loss : ndarray (K,)
        Mean loss of the steps of the window.
    cosine, relative_error : ndarray (rules, K)
        Of each rule's gradient of the window against the exact one; NaN where the exact one is 0.
    bound : ndarray (rules, K)
        Bound on the relative error of what a rule carries, where theory gives one; NaN where none.
    seconds : ndarray (rules, K)
        Time of the rule for one step of one lane.
    nbytes : ndarray (rules,) of int
        The most that a rule carried for one lane.
    window : int
        Steps in a window; the last one may have fewer.
    weights : str
        "frozen" or "exact".

    Examples
    --------
    >>> import ctrnn
    >>> network = ctrnn.RateNetwork(6, inputs=1, form="rate", seed=0)
    >>> x = np.sin(0.3 * np.arange(200.0))[:, None]
    >>> found = compare_learners(network, x, np.roll(x, -1, axis=0), ["snap-1"], readout="r0", window=50)
    >>> found.methods, found.cosine.shape, bool(found["snap-1"].cosine.min() < 0.9999)
    (('exact', 'snap-1'), (2, 4), True)
    """

    methods: tuple[str, ...]
    step: Array
    t: Array
    loss: Array
    cosine: Array
    relative_error: Array
    bound: Array
    seconds: Array
    nbytes: Array
    window: int
    weights: str

    def __len__(self) -> int:
        return len(self.methods)

    def __getitem__(self, method: str) -> LearnerComparison:
        """That of one rule alone, by its name."""
        if method not in self.methods:
            raise UnknownNameError("method", method, self.methods)
        i = self.methods.index(method)
        here = slice(i, i + 1)
        return LearnerComparison(
            (method,), self.step, self.t, self.loss, self.cosine[here], self.relative_error[here], self.bound[here],
            self.seconds[here], self.nbytes[here], self.window, self.weights,
        )  # fmt: skip

    def __repr__(self) -> str:
        moved = "frozen weights" if self.weights == "frozen" else "weights that follow the exact gradient"
        K = self.step.size
        last = int(self.step[-1] - (self.step[-2] if K > 1 else 0))
        shorter = "" if last == self.window else f", the last of {last}"
        wide = max(6, *(len(name) for name in self.methods))
        lines = [
            f"{K} window{'s' * (K > 1)} of {self.window} steps{shorter}, {moved}; medians, and the worst window",
            f"{'rule':<{wide}}  {'cosine':>7} {'least':>7}  {'rel. error':>10} {'most':>8}  {'time/step':>9}  memory",
        ]
        for i, name in enumerate(self.methods):
            cosine, error = self.cosine[i][self._known], self.relative_error[i][self._known]
            if not cosine.size:
                cosine = error = np.array([np.nan])
            lines.append(
                f"{name:<{wide}}  {np.median(cosine):7.4f} {cosine.min():7.4f}  {np.median(error):10.2g} "
                f"{error.max():8.2g}  {in_seconds(float(np.median(self.seconds[i]))):>9}  "
                f"{in_bytes(float(self.nbytes[i]))}"
            )
        return "\n".join(lines)

    @property
    def _known(self) -> Array:
        return np.isfinite(self.cosine).all(axis=0)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each window and rule, whole or not at all; raises UsageError for a folder that is not there.

        Columns: step, t, loss, method, cosine, relative_error, bound, seconds, bytes.
        """
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["step", "t", "loss", "method", "cosine", "relative_error", "bound", "seconds", "bytes"]
            )  # fmt: skip
            for k in range(self.step.size):
                for i, name in enumerate(self.methods):
                    numbers = (self.cosine[i, k], self.relative_error[i, k], self.bound[i, k], self.seconds[i, k])
                    writer.writerow(
                        [int(self.step[k]), float(self.t[k]), float(self.loss[k]), name, *map(float, numbers),
                         int(self.nbytes[i])]
                    )  # fmt: skip


def compare_learners(
    field: Field,
    x: Any,
    y: Any,
    methods: Sequence[Any] | None = None,
    *,
    weights: str = "frozen",
    window: int = 50,
    readout: Any = None,
    loss: Any = "squared_error",
    solver: str = "euler",
    dt: float = 1.0,
    r0: Any = 0.0,
    weight: Any = 1.0,
    reset_every: Any = None,
    optimizer: Any = "adam",
    lr: float = 1e-3,
    update_every: int = 1,
    seed: int = 0,
) -> LearnerComparison:
    """All rules along one trajectory: how near each comes to the exact gradient, and what it costs.

    Parameters
    ----------
    field : Field
        Any field that the rules take.
    x : (T, inputs) or (T, batch, inputs) array
        Inputs; None for a field without.
    y : (T, p) or (T, batch, p) array
        Targets; None for a loss that takes none.
    methods : sequence of str, dict or method, optional
        Rules beside the exact one, as `OnlineLearner` takes them. None: SnAp-1, RFLO, e-prop, UORO, KF-RTRL, a sketch
        and truncated BPTT, those of them that take the field.
    weights : {"frozen", "exact"}, default "frozen"
        Whether weights stay as they are, or follow the exact rule's gradient as those of an `OnlineLearner` do. Then
        the exact rule is the textbook's, with what moving weights do to it.
    window : int, default 50
        Steps in a window, over which gradients are summed and compared.
    readout, loss, solver, dt, r0, optimizer, lr, update_every, seed
        As of `OnlineLearner`.
    weight : float or array (T,) or (T, batch), default 1
        Of the losses; 0: none.
    reset_every : int or (T,) array of bool, optional
        Steps from reset to reset of the state, or whether it is reset before each step.

    Returns
    -------
    LearnerComparison
        Cosine, relative error, time and memory of each rule over the windows; it prints as a table.

    Raises
    ------
    UsageError, UnknownNameError
        For arguments that do not fit, and for a rule that does not take the field.
    DivergenceError, NotFiniteError
        Where the state, or the loss, does not stay finite.

    Notes
    -----
    A last window of fewer steps counts too. The time of a rule has its own derivatives of the step in it, as if it
    were alone.

    Examples
    --------
    >>> import ctrnn
    >>> network = ctrnn.RateNetwork(6, inputs=1, form="rate", seed=0)
    >>> x = np.sin(0.3 * np.arange(200.0))[:, None]
    >>> found = compare_learners(network, x, np.roll(x, -1, axis=0), ["snap-1", ctrnn.Sketch(3)], readout="r0")
    >>> bool(found["snap-1"].relative_error.max() > 5 * found["sketch of rank 3"].relative_error.max())
    True
    """
    one_of("weights", weights, WEIGHTS)
    window = whole("window", window, 1)
    T, batch = _sizes(x, y)
    names, rules = _rules(DEFAULT if methods is None else methods)
    together = Together(rules)
    options: dict[str, Any] = {
        "readout": readout, "loss": loss, "solver": solver, "dt": dt, "batch": batch, "r0": r0, "seed": seed,
        "drift_window": 0,
    }  # fmt: skip
    if methods is None:
        names, together = _those_that_fit(field, names, rules, options)
    moving = weights == "exact"
    update_every = whole("update_every", update_every, 1)
    if moving and window % update_every:
        raise UsageError("window", given=window, allowed=f"a multiple of update_every, {update_every}")
    learner = OnlineLearner(
        field, together, optimizer, lr, update_every=update_every if moving else None, **options
    )  # fmt: skip
    weight, rows = checked_array("weight", weight), _Rows(learner, together)
    if weight.ndim and len(weight) != T:
        raise UsageError("weight", given=f"shape {weight.shape}", allowed=f"a number, ({T},) or ({T}, lanes)")
    is_array = isinstance(reset_every, list | tuple | np.ndarray) and axes_of(reset_every) >= 0
    resets = np.asarray(reset_every if is_array else np.nan)
    each = resets.dtype == bool and resets.ndim == 1
    if reset_every is not None and not each:
        whole("reset_every", reset_every, 1)
    if each and len(resets) != T:
        raise UsageError("reset_every", given=f"shape {resets.shape}", allowed=f"({T},), one for each step")
    window = min(window, T)
    # what is compiled or loaded at a first call is no rule's time
    before, two = Together(together.rules), [None if v is None else np.asarray(v)[:2] for v in (x, y)]
    OnlineLearner(field, before, update_every=None, **options).run(two[0], two[1])
    for memory in before.started:
        memory.window()
    with track(T, "compare") as update:
        for first in range(0, T, window):
            here = slice(first, min(first + window, T))
            now = [None if v is None else np.asarray(v)[here] for v in (x, y)]
            ran = learner.run(
                now[0],
                now[1],
                record_every=window,
                weight=weight if weight.ndim == 0 else weight[here],
                reset_every=resets[here] if each else reset_every,
            )
            rows.add(here.stop - here.start, float(ran.loss[-1]))
            update(here.stop)
    found = rows.found(names, window, weights)
    if np.isnan(found.loss).all():
        raise UsageError("y, weight", given="no loss in any step", allowed="losses, whose gradients are compared")
    return found


class Together(Rule):
    """Several rules as one, of which the first gives the gradient and the others look on."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = list(rules)
        #: a memory for each lane
        self.started: list[TogetherMemory] = []

    def start(self, lane: Lane, rng: np.random.Generator) -> TogetherMemory:
        """A memory for one lane, with one of each rule, whose random numbers do not depend on the other rules."""
        children = [np.random.default_rng(seed) for seed in rng.integers(0, 2**63, len(self.rules))]
        made = TogetherMemory(
            lane, rng, [rule.start(lane, own) for rule, own in zip(self.rules, children, strict=True)]
        )
        self.started.append(made)
        return made


class TogetherMemory(Memory):
    """The memories of all rules, the sums of their gradients, and the time that each took."""

    def __init__(self, lane: Lane, rng: np.random.Generator, memories: list[Memory]) -> None:
        super().__init__(lane, rng)
        self.memories, self.looks_back = memories, max(memory.looks_back for memory in memories)
        self.sums = [lane.zeros() for _ in memories]
        self.seconds, self.most = np.zeros(len(memories)), np.zeros(len(memories), dtype=np.int64)

    def _each(self, call: Any) -> list[Any]:
        found = []
        for i, memory in enumerate(self.memories):
            began = time.perf_counter()
            found.append(call(memory))
            self.seconds[i] += time.perf_counter() - began
        return found

    def reset(self) -> None:
        """P = 0 of all."""
        self._each(lambda memory: memory.reset())

    def take(self, step: Step) -> None:
        """One step on; each rule makes the derivatives of it that it wants."""
        self._each(lambda memory: memory.take(Step(step.lane, step.h, step.t, step.r, step.x, step.w, step.sources)))

    def pull(self, row: Array) -> Array:
        """By the first rule."""
        return self.memories[0].pull(row)

    def add(self, row: Array) -> None:
        """A loss, for all."""
        self._each(lambda memory: memory.add(row))

    def peek(self) -> Array:
        """By the first rule."""
        return self.memories[0].peek()

    def collect(self) -> Array:
        """By the first rule; the others are summed up."""
        parts = self._each(lambda memory: memory.collect())
        for total, part in zip(self.sums, parts, strict=True):
            total += part
        self.most = np.maximum(self.most, [memory.nbytes for memory in self.memories])
        first: Array = parts[0]
        return first

    def window(self) -> tuple[list[Array], Array]:
        """The gradients (groups, columns) and the seconds of all rules since the last call."""
        self.collect()
        found, self.sums = self.sums, [self.lane.zeros() for _ in self.memories]
        seconds, self.seconds = self.seconds, np.zeros(len(self.memories))
        return found, seconds


@dataclass
class _Rows:
    """What was found, window by window."""

    learner: OnlineLearner
    together: Together
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, steps: int, loss: float) -> None:
        """The window that ends here."""
        lanes = self.together.started
        parts = [memory.window() for memory in lanes]
        g = [
            lanes[0].lane.vector(np.sum([found[i] for found, _ in parts], axis=0))
            for i in range(len(self.together.rules))
        ]
        size = float(np.linalg.norm(g[0]))
        nan = float("nan")
        lengths = [float(np.linalg.norm(each)) for each in g]
        row = {
            "step": self.learner.steps,
            "t": self.learner.t,
            "loss": loss,
            "cosine": [
                float(each @ g[0]) / (size * length) if size and length else nan
                for each, length in zip(g, lengths, strict=True)
            ],
            "relative_error": [float(np.linalg.norm(each - g[0])) / size if size else nan for each in g],
            "bound": [max(memory.memories[i].bound for memory in lanes) for i in range(len(g))],
            "seconds": np.sum([seconds for _, seconds in parts], axis=0) / (steps * len(lanes)),
        }
        for name, value in row.items():
            self.columns.setdefault(name, []).append(value)

    def found(self, names: tuple[str, ...], window: int, weights: str) -> LearnerComparison:
        """All of it."""
        arrays = {name: np.array(column).T for name, column in self.columns.items()}
        most = np.max([memory.most for memory in self.together.started], axis=0)
        return LearnerComparison(names, nbytes=most, window=window, weights=weights, **arrays)


def _rules(methods: Any) -> tuple[tuple[str, ...], list[Rule]]:
    """The names and the rules, the exact one first; raises UsageError for none, and for the same twice."""
    if isinstance(methods, (str, bytes)) or not isinstance(methods, Sequence) or not methods:
        raise UsageError("methods", given=methods, allowed="a sequence of methods, at least one")
    names: list[str] = [EXACT]
    rules: list[Rule] = [ExactRule()]
    for given in methods:
        method = of_table(given) if isinstance(given, Mapping) else given
        name = method if isinstance(method, str) else getattr(method, "name", type(method).__name__)
        if name in names:
            raise UsageError("methods", given=name, allowed="each rule once")
        names.append(str(name))
        rules.append(rule_named(method))
    return tuple(names), rules


def _those_that_fit(
    field: Field, names: tuple[str, ...], rules: list[Rule], options: dict[str, Any]
) -> tuple[tuple[str, ...], Together]:
    """The rules that take the field."""
    kept = []
    for name, rule in zip(names, rules, strict=True):
        try:
            OnlineLearner(field, rule, update_every=None, **options)
        except UsageError:
            if name == EXACT:  # then it is not the rule
                raise
            continue
        kept.append((name, rule))
    return tuple(name for name, _ in kept), Together([rule for _, rule in kept])


def _sizes(x: Any, y: Any) -> tuple[int, int | None]:
    """T, and the lanes of arrays with three axes; raises UsageError without data."""
    axes = [real_array(name, v).shape for name, v in (("x", x), ("y", y)) if v is not None]
    if not axes or any(len(shape) == 0 for shape in axes) or axes[0][0] == 0:
        raise UsageError("x, y", given=axes, allowed="(T, inputs) and (T, p), or (T, batch, inputs) and (T, batch, p)")
    if len({shape[0] for shape in axes}) > 1:
        raise UsageError("x, y", given=axes, allowed="as many steps of each")
    batches = {shape[1] for shape in axes if len(shape) == 3}
    if len(batches) > 1:
        raise UsageError("x, y", given=axes, allowed="as many lanes of each")
    return axes[0][0], batches.pop() if batches else None
