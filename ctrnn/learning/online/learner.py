"""A learner: a field that runs on as data come, whose weights move along the gradient of the losses as they are seen.

    after each step with a loss     g ← g + ∂ℓ/∂r P     by the rule (ctrnn.gradients.rules), P as the rule carries it
    each k steps, or at times       w ← optimiser(w, g),   g ← 0

(R. J. Williams & D. Zipser, Neural Comput. 1:270, 1989.) What ``gradient`` is of: the mean over the lanes, the sum over
the steps since the last update. The read-out's part is that of the losses themselves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.checks import checked_field
from ctrnn.gradients.methods import of_table
from ctrnn.kernels.rules.loop import LOSS_NOW, UPDATED, UPDATES
from ctrnn.learning.online import checkpoint as files
from ctrnn.learning.online.course import follow, go
from ctrnn.learning.online.drift import Drift, Window
from ctrnn.learning.online.given import Data, Due, rule_named, states
from ctrnn.learning.online.gradient import OnlineGradient
from ctrnn.learning.online.loop import Loop, lane_of
from ctrnn.learning.online.observe import Observer
from ctrnn.learning.online.table import LearningTable
from ctrnn.learning.online.weights import Weights
from ctrnn.losses import Readout
from ctrnn.memory import claim
from ctrnn.numbers import checked_array, number, real_array, whole
from ctrnn.threads import one_blas_thread, one_torch_thread


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
    weight_decay : float, optional
        In the optimiser's sense, of matrices only; None: the optimiser's own, 0.01 of "adamw", 0 of most others.
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
        weight_decay: float | None = None,
        feedback: Any = None,
        drift_window: int = 64,
    ) -> None:
        checked_field(field)
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
        self._due = Due(update_every)
        # of each lane the states and a generator, beside what its rule carries
        claim("batch", self.B * (48.0 * field.n + 1000.0), "fewer lanes")
        self.r0 = states("r0", r0, self.B, self._shape, field.n)
        self._loop = Loop(
            *lane_of(field, solver), number("dt", dt), self.r0, self.rule, self.seed, self._observer, self._weights
        )
        self.history = LearningTable()
        #: names and numbers that are saved along
        self.note: dict[str, Any] = {}
        self._window = Window(whole("drift_window", drift_window, 0))
        self._window.begin(self)

    def __repr__(self) -> str:
        lanes = "" if self.batch is None else f", {self.batch} lanes"
        field, weights = self._weights.first, self._weights
        return (
            f"OnlineLearner({field.n} states, {field.m} parameters{lanes}, at t = {self.t:g}: {self.steps} steps, "
            f"{self.updates} updates, lr = {weights.lr:g})"
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
        return self._loop.r.reshape(*self._shape, -1).copy()

    @property
    def t(self) -> float:
        """The present time."""
        return self._loop.t

    @property
    def steps(self) -> int:
        """Steps taken."""
        return self._loop.steps

    @property
    def updates(self) -> int:
        """Updates of the weights."""
        return int(self._loop.counts[UPDATES])

    @property
    def output(self) -> Array:
        """o (p,) or (batch, p) of the present states."""
        return self._observer.output(self._loop.r).reshape(*self._shape, -1)

    @property
    def bound(self) -> float:
        """The largest bound over the lanes on the relative error of what the rule carries; NaN where none is known."""
        return float(max(memory.bound for memory in self._loop.memories))

    @property
    def nbytes(self) -> int:
        """Bytes that the rule carries."""
        return sum(memory.nbytes for memory in self._loop.memories)

    def gradient(self) -> OnlineGradient:
        """That of all losses since the last update; just after an update, that which it was made with.

        Returns
        -------
        OnlineGradient
            ``.loss``, ``.vector`` (m,), ``.parameters`` by name, ``.readout``.
        """
        flat = self._weights.gradient if self._loop.counts[UPDATED] else self._peek()
        field, m = self._weights.first, self._weights.m
        named, readout = field.unflatten(flat[:m].copy()), None
        V = self._weights.V
        if V is not None:
            readout = {"V": flat[m : m + V.size].reshape(V.shape).copy(), "c": flat[m + V.size :].copy()}
        return OnlineGradient(self._loop.waiting[0], flat[:m].copy(), named, readout)

    def _peek(self) -> Array:
        parts = [memory.peek() for memory in self._loop.memories]
        return np.concatenate([self._loop.lane.vector(sum(parts[1:], parts[0])), self._loop.readout_gradient])

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
        with one_blas_thread, one_torch_thread:
            go(self, self.data(x, y, weight, is_one=True), slice(1))
        return float(self._loop.sums[LOSS_NOW])

    def data(self, x: Any, y: Any, weight: Any = 1.0, is_one: bool = False) -> Data:
        """The data of a run, or of one step, checked; raises UsageError as `run` and `step` do."""
        return Data(self._weights.first, self._observer, self.B, self._shape, x, y, weight, is_one)

    def update(self) -> None:
        """Move the weights along the gradient since the last update, whether it is time or not.

        Raises NotFiniteError for a gradient that is not finite; then the weights stay.
        """
        with one_blas_thread, one_torch_thread:
            self._loop.update()

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
        allowed = f"numbers of lanes, 0 to {self.B - 1}"
        given = np.atleast_1d(np.arange(self.B) if lanes is None else real_array("lanes", lanes, allowed))
        if given.ndim != 1 or not np.isin(given, np.arange(self.B)).all():
            raise UsageError("lanes", given=lanes, allowed=allowed)
        chosen = given.astype(int)
        begun = self.r0[chosen]
        if r0 is not None:
            array = checked_array("r0", r0)
            if array.shape not in ((), begun.shape[1:], begun.shape):
                allowed = f"a number, {begun.shape[1:]} or {begun.shape}"
                raise UsageError("r0", given=f"shape {array.shape}", allowed=allowed)
            begun = np.broadcast_to(array, begun.shape)
        self._loop.restart(chosen, begun)
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
        data = self.data(x, y, weight)
        record_every, every = whole("record_every", record_every, 1), whole("every", every, 1)
        return follow(self, data, data.resets(reset_every, self.steps), record_every, checkpoint, every)

    # -- to disk and back, and to other processes

    def __reduce__(self) -> tuple[Any, ...]:
        return files.reduced(self)

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
