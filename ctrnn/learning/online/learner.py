"""A learner: a field that runs on as data come, whose weights move along the gradient of the losses as they are seen.

    after each step with a loss     g ← g + ∂ℓ/∂r P     by the rule (ctrnn.gradients.rules), P as the rule carries it
    each k steps, or at times       w ← optimiser(w, g),   g ← 0

(R. J. Williams & D. Zipser, Neural Comput. 1:270, 1989.) What ``gradient`` is of: the mean over the lanes, the sum over
the steps since the last update. The read-out's part is that of the losses themselves.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field, checked_array
from ctrnn.gradients.methods import named, of_table
from ctrnn.gradients.rules.rule import Memory, Rule
from ctrnn.learning.online import checkpoint as files
from ctrnn.learning.online.data import Data
from ctrnn.learning.online.drift import Drift, Window
from ctrnn.learning.online.forward import Stepping
from ctrnn.learning.online.observe import Observer
from ctrnn.learning.online.table import LearningTable
from ctrnn.learning.online.weights import Weights
from ctrnn.losses import Readout
from ctrnn.numbers import number, whole
from ctrnn.progress import track
from ctrnn.threads import one_blas_thread, one_torch_thread


@dataclass(frozen=True, eq=False)
class OnlineGradient:
    """The gradient of a learner's losses since its last update.

    Attributes
    ----------
    loss : float
        The losses themselves: mean over the lanes, sum over the steps.
    vector : ndarray (m,)
        By the field's parameters, flat.
    parameters : dict of str to ndarray
        The same by name.
    readout : dict of str to ndarray or None
        "V" (p, n) and "c" (p,) of a read-out that learns.
    """

    loss: float
    vector: Array
    parameters: dict[str, Array]
    readout: dict[str, Array] | None

    def __getitem__(self, name: str) -> Array:
        """Of a parameter by its name."""
        return self.parameters[name]


class OnlineLearner:
    """Learns while it runs: a step of the field, a loss, a step of the weights.

    Parameters
    ----------
    field : Field
        Any field.
    method : str, dict or method, default "rtrl"
        The rule: "rtrl", "snap-1", "snap-2", "rflo", "tbptt" and whatever else ``ctrnn.gradient`` takes by name that
        goes forward with the run; a table with options ({"name": "tbptt", "window": 25}), or an object, as
        ``ctrnn.SnAp(3)``.
    optimizer : str, dict, class or callable, default "adam"
        One of torch.optim by name ("adam", "sgd", "rmsprop" …), as a table with options ({"name": "sgd", "momentum":
        0.9}), or what makes one from a list of tensors.
    lr : float, default 1e-3
        Learning rate; 0 is allowed.
    readout : None, str, list of str or Readout, optional
        What the loss sees: all states, some of them by name, or a `ctrnn.Readout`, which learns too.
    loss : str or callable, default "squared_error"
        As in `ctrnn.Objective`: by name, an expression in the states, or a function of the outputs and the target.
    solver : str, default "euler"
        An explicit method of our own.
    dt : float, default 1
        Its step, in the unit of t.
    batch : int, optional
        Lanes that run side by side with the same weights; None: one, whose arrays have no axis for lanes.
    update_every : int, sequence of float or None, default 1
        Steps from update to update, or increasing times of updates; None: never.
    r0 : float or array, default 0
        The state at the start: a number, (n,) or (batch, n).
    seed : int, default 0
        Of the numbers that a rule draws.
    scheduler : str, dict or callable, optional
        One of torch's schedulers of the learning rate, by name, as a table with options, or what makes one from the
        optimiser; it steps with each update.
    clip : float, optional
        The largest length of the gradient.
    weight_decay : float, default 0
        As the optimiser has it; of matrices only.
    feedback : None, "random" or array (p, n)
        What the state sees of the outputs' errors in the place of the read-out's V: fixed random numbers, or these.
    drift_window : int, default 64
        Steps that `drift` looks back, about; 0: it is not asked for, and nothing is kept for it.

    Attributes
    ----------
    r : ndarray (n,) or (batch, n)
        The present states.
    t : float
        The present time.
    steps, updates : int
        Steps taken, and updates of the weights.
    field, readout
        With the weights as they are now.
    history : LearningTable
        The rows of all runs.

    Raises
    ------
    UsageError, UnknownNameError
        For arguments that do not fit.

    Notes
    -----
    With Euler steps of dt = tau a rate network of form "rate" is the discrete network h ← φ(W h + U x + b), and "rtrl"
    the textbook's algorithm on it, to round-off, also where the weights move at each step (Williams and Zipser 1989);
    ctrnn.gradients.rules.exact says how it is had at a cost of O(n³) a step.

    Examples
    --------
    >>> import ctrnn
    >>> network = ctrnn.RateNetwork(8, inputs=1, form="rate", seed=0)
    >>> learner = OnlineLearner(network, lr=1e-2, readout=ctrnn.Readout(np.zeros((1, 8))))
    >>> t = np.arange(400.0)
    >>> table = learner.run(np.sin(0.3 * t)[:, None], np.sin(0.3 * (t + 1.0))[:, None], record_every=100)
    >>> bool(table.loss[-1] < 0.2 * table.loss[0])
    True
    """

    def __init__(
        self,
        field: Field,
        method: Any = "rtrl",
        optimizer: Any = "adam",
        lr: float = 1e-3,
        readout: Any = None,
        loss: Any = "squared_error",
        solver: str = "euler",
        dt: float = 1.0,
        batch: int | None = None,
        update_every: Any = 1,
        r0: Any = 0.0,
        seed: int = 0,
        *,
        scheduler: Any = None,
        clip: float | None = None,
        weight_decay: float = 0.0,
        feedback: Any = None,
        drift_window: int = 64,
    ) -> None:
        if not isinstance(field, Field):
            raise UsageError("field", given=field, allowed="a field: Equations, RateNetwork, TorchField")
        self.batch = None if batch is None else whole("batch", batch, 1)
        self.seed = whole("seed", seed, 0)
        self.B = 1 if self.batch is None else self.batch
        self._shape: tuple[int, ...] = () if self.batch is None else (self.batch,)
        method = of_table(method) if isinstance(method, Mapping) else method
        self._options = {
            "method": method, "optimizer": optimizer, "lr": lr, "loss": loss, "solver": solver, "dt": dt,
            "batch": self.batch, "update_every": update_every, "seed": self.seed, "scheduler": scheduler, "clip": clip,
            "weight_decay": weight_decay, "drift_window": drift_window,
        }  # fmt: skip
        self.rule = rule_named(method)
        self._observer = Observer(field, loss, readout, feedback, self.seed)
        self._weights = Weights(field, self._observer.readout, optimizer, lr, scheduler, clip, weight_decay)
        if self._weights.V is not None and self._weights.c is not None:
            self._observer.let_learn(self._weights.V, self._weights.c)
        self._every, self._times = _updates(update_every)
        self.r0 = self._states("r0", r0, field.n)
        self._stepping = Stepping(field, solver, number("dt", dt), self.r0.copy())
        lane = self._stepping.lane
        self._memories: list[Memory] = [
            self.rule.start(lane, np.random.default_rng([self.seed, b])) for b in range(self.B)
        ]
        self._gradient = np.zeros(self._observer.size)
        #: losses since the last update, and whether the next step begins a new sum
        self._loss, self._waiting, self._updated = 0.0, 0, False
        #: gradient of the last update, which stands until the next step
        self._last = np.zeros_like(self._weights.gradient)
        self.history = LearningTable()
        #: names and numbers that are saved along
        self.note: dict[str, Any] = {}
        self._since = [0.0, 0]
        self._window = Window(whole("drift_window", drift_window, 0))
        self._window.begin(self)

    def __repr__(self) -> str:
        lanes = "" if self.batch is None else f", {self.batch} lanes"
        field, weights = self._weights._field, self._weights
        return (
            f"OnlineLearner({field.n} states, {field.m} parameters{lanes}, at t = {self.t:g}: {self.steps} steps, "
            f"{weights.updates} updates, lr = {weights.lr:g})"
        )

    # -- what it is now

    @property
    def field(self) -> Field:
        """The field with the present weights."""
        return self._weights.field

    @property
    def readout(self) -> Any:
        """The read-out with its present weights; names of states, or None, as they were given."""
        V, c, given = self._weights.V, self._weights.c, self._observer.readout
        if given is None or V is None or c is None:
            return self._observer.selection
        return Readout(V.copy(), c.copy(), given.activation)

    @property
    def r(self) -> Array:
        """The present states (n,) or (batch, n)."""
        return self._stepping.r.reshape(*self._shape, -1).copy()

    @property
    def t(self) -> float:
        """The present time."""
        return self._stepping.t

    @property
    def steps(self) -> int:
        """Steps taken."""
        return self._stepping.steps

    @property
    def updates(self) -> int:
        """Updates of the weights."""
        return self._weights.updates

    @property
    def output(self) -> Array:
        """o (p,) or (batch, p) of the present states."""
        return self._observer.output(self._stepping.r).reshape(*self._shape, -1)

    @property
    def bound(self) -> float:
        """The largest bound over the lanes on the relative error of what the rule carries; NaN where none is known."""
        return float(max(memory.bound for memory in self._memories))

    @property
    def nbytes(self) -> int:
        """Bytes that the rule carries."""
        return sum(memory.nbytes for memory in self._memories)

    def gradient(self) -> OnlineGradient:
        """That of all losses since the last update; just after an update, that which it was made with.

        Returns
        -------
        OnlineGradient
            ``.loss``, ``.vector`` (m,), ``.parameters`` by name, ``.readout``.
        """
        flat = self._last if self._updated else self._peek()
        field, m = self._weights._field, self._weights.m
        named, readout = field.unflatten(flat[:m].copy()), None
        V = self._weights.V
        if V is not None:
            readout = {"V": flat[m : m + V.size].reshape(V.shape).copy(), "c": flat[m + V.size :].copy()}
        return OnlineGradient(self._loss, flat[:m].copy(), named, readout)

    def _peek(self) -> Array:
        lane = self._stepping.lane
        parts = [memory.peek() for memory in self._memories]
        return np.concatenate([lane.vector(sum(parts[1:], parts[0])), self._gradient])

    # -- on in time

    def step(self, x: Any = None, y: Any = None, weight: Any = 1.0) -> float:
        """One step of dt with the input x held, then the loss of the new state, then, where it is time, an update.

        Parameters
        ----------
        x : (inputs,) or (batch, inputs) array, optional
            The input; one row drives all lanes.
        y : (p,) or (batch, p) array, optional
            The target; None: no loss at this step. Of a loss without target None, and each step has a loss.
        weight : float or (batch,) array, default 1
            Of the loss, or of that of each lane; 0: none.

        Returns
        -------
        float
            The loss, mean over the lanes; 0 where there is none.

        Raises
        ------
        UsageError
            For numbers that are NaN or infinite, and shapes that do not fit; then nothing has moved.
        DivergenceError, NotFiniteError
            Where the state, or the loss, does not stay finite.
        """
        inputs = self._inputs(x)
        weight = checked_array("weight", weight)
        if weight.shape not in ((), self._shape):
            raise UsageError("weight", given=f"shape {weight.shape}", allowed=f"a number, or {self.B} of them")
        weight = weight if weight.ndim else float(weight)
        counts = bool(np.any(weight)) and not (y is None and self._observer.needs_target)
        target = self._observer.targets(y, self.B, self._shape) if counts and self._observer.needs_target else None
        if y is not None and not self._observer.needs_target:
            raise UsageError("y", given=y, allowed="None: the loss takes no target")
        with one_blas_thread, one_torch_thread:
            return self._step(inputs, target, weight if counts else None)

    def _step(self, x: Array, y: Array | None, weight: float | Array | None) -> float:
        if self._updated:
            self._updated, self._loss, self._waiting = False, 0.0, 0
        stepping, loss = self._stepping, 0.0
        for memory, step in zip(self._memories, stepping.advance(self._weights.w, x), strict=True):
            memory.take(step)
        self._window.take(self, x)
        if weight is not None:
            seen = self._observer(stepping.r, y, weight)
            for memory, row in zip(self._memories, seen.l_r, strict=True):
                memory.add(row)
            self._window.row = seen.l_r
            self._gradient += seen.readout
            loss = seen.loss
            self._loss += loss
            self._waiting += 1
            self._since = [self._since[0] + loss, self._since[1] + 1]
        if self._is_due():
            self.update()
        return loss

    def _is_due(self) -> bool:
        if self._times is not None:
            due = self._times.size > 0 and self.t >= self._times[0] - 1e-9 * float(self._stepping.h[0])
            if due:
                self._times = self._times[self._times > self.t + 1e-9 * float(self._stepping.h[0])]
            return bool(due)
        return self._every is not None and self.steps % self._every == 0

    def update(self) -> None:
        """Move the weights along the gradient since the last update, whether it is time or not.

        Raises NotFiniteError for a gradient that is not finite; then the weights stay.
        """
        m = self._weights.m
        self._weights.gradient[:] = 0.0
        lane, parts = self._stepping.lane, [memory.collect() for memory in self._memories]
        self._weights.gradient[:m] = lane.vector(sum(parts[1:], parts[0]))
        self._weights.gradient[m:] = self._gradient
        self._gradient[:] = 0.0
        self._last[:] = self._weights.gradient
        self._updated = True
        self._weights.update(self._loss / max(self._waiting, 1))

    def reset(self, r0: Any = None, lanes: Any = None) -> None:
        """Begin anew with the states r0: they owe nothing to the weights.

        Parameters
        ----------
        r0 : float or array, optional
            A number, (n,) or (lanes, n); None: those that the learner began with.
        lanes : int or sequence of int, optional
            Which lanes; None: all.

        Raises
        ------
        UsageError
            For lanes that do not exist, and shapes that do not fit.

        Notes
        -----
        The time goes on. Losses since the last update still count.
        """
        chosen = np.arange(self.B) if lanes is None else np.atleast_1d(np.asarray(lanes))
        if chosen.dtype.kind not in "iu" or not ((chosen >= 0) & (chosen < self.B)).all():
            raise UsageError("lanes", given=lanes, allowed=f"numbers of lanes, 0 to {self.B - 1}")
        states = self.r0[chosen]
        if r0 is not None:
            array = checked_array("r0", r0)
            states = np.empty((chosen.size, self._stepping.lane.n))
            if array.shape not in ((), states.shape[1:], states.shape):
                allowed = f"a number, {states.shape[1:]} or {states.shape}"
                raise UsageError("r0", given=f"shape {array.shape}", allowed=allowed)
            states[...] = array
        self._stepping.r = self._stepping.r.copy()
        self._stepping.r[chosen] = states
        for b in chosen:
            self._memories[b].reset()
        self._window.begin(self, all_lanes=np.unique(chosen).size == self.B)

    def drift(self) -> Drift:
        """What moving weights do to the gradient, over the last steps.

        Returns
        -------
        Drift
            ``.relative_error`` and ``.cosine`` of the gradient of the last loss, carried while the weights moved,
            against that of a fresh exact pass along the same inputs with today's weights, from a state that was stored
            between one and two ``drift_window`` ago, or at the last reset.

        Raises
        ------
        UsageError
            Where no loss was seen yet, and where ``drift_window`` is 0.

        Notes
        -----
        ctrnn.learning.online.drift has the formula. At lr = 0 the exact rule's is round-off.

        Examples
        --------
        >>> import ctrnn
        >>> learner = OnlineLearner(ctrnn.RateNetwork(4, inputs=1, seed=0), lr=5e-4)
        >>> table = learner.run(np.sin(np.arange(100.0)), np.zeros((100, 4)))
        >>> bool(1e-6 < learner.drift().relative_error < 1.0)
        True
        """
        return self._window.measure(self)

    def run(
        self,
        x: Any = None,
        y: Any = None,
        record_every: int = 250,
        *,
        weight: Any = 1.0,
        reset_every: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: int = 1000,
    ) -> LearningTable:
        """Many steps.

        Parameters
        ----------
        x : (T, inputs) or (T, batch, inputs) array, optional
            The inputs; None for a field without, then ``y`` tells how many steps.
        y : (T, p) or (T, batch, p) array, optional
            The targets; None: no loss, but for a loss without target.
        record_every : int, default 250
            Steps from row to row of the table; the last step has a row too.
        weight : float or array (T,) or (T, batch), default 1
            Of the losses; 0: none.
        reset_every : int or (T,) array of bool, optional
            Steps from reset to reset of the state, counted from the learner's first step; or whether the state is reset
            before each step, as ``start`` of a task's stream says.
        checkpoint : path, optional
            Where `save` writes the learner each ``every`` steps and at the end.
        every : int, default 1000
            Steps from checkpoint to checkpoint.

        Returns
        -------
        LearningTable
            A row each ``record_every`` steps, of this run; ``history`` has those of all.

        Raises
        ------
        UsageError
            For lengths that differ, NaN, and shapes that do not fit; then nothing has moved.
        DivergenceError, NotFiniteError
            As `step`.
        """
        data = Data(self, x, y, weight)
        record_every, every = whole("record_every", record_every, 1), whole("every", every, 1)
        resets = data.resets(reset_every, self.steps)
        table, began, last = LearningTable(), time.perf_counter(), self.steps
        with track(data.T, "learn") as update, one_blas_thread, one_torch_thread:
            for k in range(data.T):
                if resets[k]:
                    self.reset()
                self._step(data.x[k], data.y(k), data.weight(k))
                if self.steps % record_every == 0 or k + 1 == data.T:
                    now = time.perf_counter()
                    self._record(table, now - began)
                    rate = (self.steps - last) / max(now - began, 1e-9)
                    update(k + 1, f"loss {table.rows[-1][2]:.4g}, {rate:.0f} steps/s")
                    began, last = now, self.steps
                if checkpoint is not None and (self.steps % every == 0 or k + 1 == data.T):
                    self.save(checkpoint)
        return table

    def _record(self, table: LearningTable, seconds: float) -> None:
        total, count = self._since
        row = (
            self.steps, self.t, total / count if count else float("nan"), float(np.linalg.norm(self._last)),
            self._weights.lr, self.bound, seconds,
        )  # fmt: skip
        table.rows.append(row)
        self.history.rows.append(row)
        self._since = [0.0, 0]

    # -- to disk and back

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of the learner to one ``.npz`` file, whole or not at all.

        Parameters
        ----------
        path : path
            The file; its folder exists.

        Raises
        ------
        UsageError
            Where the folder does not exist.

        Notes
        -----
        The file holds numbers and text only. What was given as a Python function or object (a loss, an optimiser, a
        scheduler, a field of Python code) is not in it, and has to be given to `load` again.
        """
        files.write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **given: Any) -> OnlineLearner:
        """The learner of a file; what it does from here on is, bit for bit, what the saved one would have done.

        Parameters
        ----------
        path : path
            What `save` wrote.
        **given
            ``field``, ``method``, ``optimizer``, ``scheduler``, ``loss``, where they are not in the file: Python
            functions and objects are not.

        Returns
        -------
        OnlineLearner
            As it was.

        Raises
        ------
        UsageError
            For a file that is no learner's, is cut short or was changed, and where something has to be given or does
            not fit.
        """
        learner: OnlineLearner = files.read(cls, path, given)
        return learner

    # -- what is given, checked

    def _inputs(self, x: Any) -> Array:
        field = self._weights._field
        size = field.input_size
        if x is None:
            if size and not field.input_is_optional:
                raise UsageError("x", given=None, allowed=f"values of the inputs {', '.join(field.input_names)}")
            return np.zeros((self.B, size))
        array = checked_array("x", x)
        if size == 1 and array.shape in ((), self._shape):
            array = array[..., None]
        if array.shape not in ((size,), (*self._shape, size)):
            allowed = f"shape ({size},)" + (f" or ({self.B}, {size})" if self._shape else "")
            raise UsageError("x", given=f"shape {array.shape}", allowed=allowed)
        return np.broadcast_to(array, (self.B, size))

    def _states(self, name: str, r0: Any, n: int) -> Array:
        array = checked_array(name, r0)
        if array.shape not in ((), (n,), (*self._shape, n)):
            allowed = f"a number, ({n},)" + (f" or ({self.B}, {n})" if self._shape else "")
            raise UsageError(name, given=f"shape {array.shape}", allowed=allowed)
        return np.array(np.broadcast_to(array, (self.B, n)))


def rule_named(method: Any) -> Rule:
    """The rule behind a name or an object; raises UsageError for a method that does not go forward with the run."""
    if isinstance(method, Rule):
        return method
    found = named(method).rule()
    if found is None:
        raise UsageError("method", given=method, allowed="a method that goes forward with the run", hint='"rtrl"')
    return found


def _updates(update_every: Any) -> tuple[int | None, Array | None]:
    if update_every is None:
        return None, None
    if isinstance(update_every, (int, np.integer)):
        return whole("update_every", update_every, 1), None
    times = checked_array("update_every", update_every)
    if times.ndim != 1 or (np.diff(times) <= 0.0).any():
        raise UsageError("update_every", given=update_every, allowed="a number of steps, increasing times, or None")
    return None, times
