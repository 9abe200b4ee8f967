"""Real-time recurrent learning as the data come: after each piece of input and target the exact gradient so far.

For t0 ≤ t, with the steps that were taken, [r, P = dr/dw, S = dr/dr0] and the loss with its gradients

    l(t),   g(t) = dl(t)/dw,   g₀(t) = dl(t)/dr0,   g_o(t) = dl(t)/d(V, c)

are all there is (ctrnn.gradients.schedules.rtrl): n (m + n + 1) + 2m numbers, however long the stream (Williams &
Zipser 1989).
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.gradients.finite import check_finite
from ctrnn.gradients.online import stream_file
from ctrnn.gradients.recording.control import StepControl
from ctrnn.gradients.recording.stepper import StepperRecording
from ctrnn.gradients.recording.structure import Structure
from ctrnn.gradients.result import Gradient
from ctrnn.gradients.schedules.rtrl import RTRL
from ctrnn.gradients.schedules.rtrl_state import RTRLState
from ctrnn.kernels import stepper
from ctrnn.losses import Readout, takes_target
from ctrnn.numbers import checked_array
from ctrnn.objective import Objective
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.exponential import with_steps
from ctrnn.solvers.runge_kutta import Integration, tableau_of
from ctrnn.trajectory import Stats

#: what a piece does not hand on to the next one
_OF_A_PIECE = [stepper.STEPS, stepper.REJECTED, stepper.EVALUATIONS, stepper.NEXT_STOP, stepper.HAVE_K1, stepper.SAVED]


class RTRLStream:
    """A field that runs on as its input comes, with the gradient of the loss so far.

    Parameters
    ----------
    field : Field
        The field.
    r0 : (n,) array
        Its state at t0.
    t0 : float
        Where the stream's time begins.
    solver, dt, rtol, atol, max_steps, min_step
        As in ``ctrnn.simulate``, for one of our own solvers; max_steps holds for each piece.
    error_control : {"all", "state"}
        As in `ctrnn.gradient`; of P every row has to be right, as nobody knows yet what it will be worth.
    readout, loss
        As in ``ctrnn.Objective``; the pieces bring targets, times and weights.
    block : int, optional
        Steps in a block, as in ``ctrnn.RTRL``; by default chosen.

    Attributes
    ----------
    t : float
        How far the stream has come.
    r : (n,) array
        The state there.
    loss : float
        The loss so far.
    p, p0
        dr/dw (n, m) and dr/dr0 (n, n).
    field, readout
        As they are now.
    stats : Stats
        The cost so far.

    Raises
    ------
    UsageError
        For arguments that do not fit.

    Notes
    -----
    The gradient is that of ``ctrnn.gradient`` on one problem with the same data, to round-off: the fixed grid of steps
    goes on over the ends of the pieces, and so do the step size and its control. An end of a piece is a point that a
    step lands on. Where the whole problem has none there (no jump, no observation, no grid point), its steps are
    others, and both gradients are exact, each for its own. With adaptive steps and an integral loss the tolerance of
    the integral is measured on each piece, as the rest is not known yet. Memory is constant in the length of the
    stream: n m numbers, and a block.

    Examples
    --------
    >>> import ctrnn
    >>> stream = RTRLStream(ctrnn.RateNetwork(4, inputs=1, seed=0), np.zeros(4), dt=0.1, readout="r0")
    >>> for k in range(3):
    ...     loss = stream.advance(until=k + 1.0, x=float(k), target=0.5, at=[k + 1.0])
    >>> stream.t, stream.gradient().parameters["W"].shape
    (3.0, (4, 4))
    """

    def __init__(
        self,
        field: Field,
        r0: Any,
        t0: float = 0.0,
        solver: str = "rk4",
        dt: float | None = None,
        readout: Any = None,
        loss: Any = "squared_error",
        block: int | None = None,
        rtol: Any = 1e-8,
        atol: Any = 1e-10,
        max_steps: int = 1_000_000,
        min_step: float = 0.0,
        error_control: str = "all",
    ) -> None:
        if not isinstance(field, Field):
            raise UsageError("field", given=field, allowed="a field: Equations, RateNetwork, TorchField")
        self.settings = Settings(solver, rtol, atol, dt, max_steps, min_step, error_control)
        if not tableau_of(self.settings, "RTRLStream").adaptive and dt is None:
            raise UsageError(
                "dt", given=None, allowed=f"a step size: {solver} has no error estimate", hint="dt=0.01, say"
            )
        self.field, self.loss_function = field, loss
        self.t0 = self.t = float(checked_array("t0", t0, ()))
        self.r = checked_array("r0", r0, (field.n,))
        self.block = RTRL(block=block).block
        self._takes_target = takes_target(loss)
        # a loss of nothing, so that what does not fit is found here
        probe = Objective(loss, 0.0 if self._takes_target else None, at=[self.t], readout=readout)
        self.readout: Any = probe.readout
        size = probe.bind(field).readout_size
        self._structure = Structure(field.n, field._bind())
        self._state = RTRLState.at_start(self._structure, 1, size)
        self.stats = Stats()
        #: the stepper's memory between pieces: clock, count, and Newton's J, M, pivots and state; nothing before the
        #: first
        self._memory: list[Array] = []

    def __repr__(self) -> str:
        return (
            f"RTRLStream({self.field.n} states, {self.field.m} parameters, at t = {self.t:g}, loss = {self.loss:.10g})"
        )

    # -- on in time

    def advance(self, until: float, x: Any = None, target: Any = None, at: Any = None, weight: Any = 1.0) -> float:
        """Run from t to ``until`` with the input ``x``.

        Parameters
        ----------
        until : float
            The end of the piece, after t.
        x : Input, callable, number or (inputs,) array, optional
            In the stream's time, as in ``ctrnn.Problem``; numbers hold for the piece.
        target, at, weight
            As in ``ctrnn.Objective``. Times ``at`` may be anywhere from t to ``until``, both included; an observation
            on the border of two pieces belongs to the one that names it. Without ``target`` (and a loss that takes one)
            the piece has no loss.

        Returns
        -------
        float
            What the piece adds to the loss.

        Raises
        ------
        UsageError
            For times, shapes and values that do not fit, and what ``ctrnn.gradient`` raises. A piece that fails leaves
            the stream as it was.
        """
        end = float(checked_array("until", until, ()))
        if not end > self.t:
            raise UsageError("until", given=end, allowed=f"a time after the stream's own, {self.t:g}")
        problem = Problem(self.field, self.r, (self.t, end), x=x, objective=self._objective(end, target, at, weight))
        problem = with_steps(problem, self.settings)
        control = StepControl(problem, self.settings, "RTRLStream")
        with StepperRecording.threads(problem, self.settings):
            is_fine = False
            while not is_fine:
                run, state = self._taken(control.problem, end)
                # of P nobody knows yet what it will be worth: every row of a block has to be right
                is_fine = control.is_settled(run.errors, None)
        check_finite(state.loss, state.G[:, -1], state.S[:, -1], state.readout)
        added = float(state.loss[0] - self._state.loss[0])
        self._state, self.t, self.r = state, end, run.integration.r[: self.field.n].copy()
        self._memory = [part.copy() for part in _memory(run.integration)]
        self.stats = self.stats + run.stats
        return added

    def _taken(self, problem: Problem, end: float) -> tuple[StepperRecording, RTRLState]:
        """A piece, and what is carried to its end."""
        run = StepperRecording(problem, self.settings, "RTRLStream")
        if run.errors is not None:
            run.errors.every_row = True
        self._resume(run.integration)
        state = self._state.copy()
        state.observe(run.start())
        block = run.carry(self.block).block
        if self.settings.dt is not None:  # no room for more steps than the piece has
            block = min(block, int((end - self.t) / self.settings.dt) + problem.course.stops.size + 1)
        for steps in run.blocks(block):
            state.take(run, steps)
        return run, state

    def _objective(self, end: float, target: Any, at: Any, weight: Any) -> Objective:
        if self._takes_target and target is None:
            if at is not None:
                raise UsageError("target", given=None, allowed="what the loss compares with at the times")
            return Objective("squared_error", 0.0, at=[end], weight=0.0, readout=self.readout)
        return Objective(self.loss_function, target, at, weight, self.readout)

    def _resume(self, run: Integration) -> None:
        """Go on where the last piece ended: on the same grid, with the step size and what it was judged by."""
        if self._memory:
            for part, before in zip(_memory(run), self._memory, strict=True):
                if part.shape == before.shape:  # with an integral loss in the step test, Newton's system is one larger
                    part[...] = before
            run.count[_OF_A_PIECE] = 0
            run.count[stepper.EVALUATIONS] = 0 if run.settings.dt is not None else 2
            if run.newton.J.shape != self._memory[2].shape:
                run.newton.state[:] = 0.0
        run.clock[stepper.START], run.clock[stepper.T] = self.t0, self.t

    # -- the present

    @property
    def loss(self) -> float:
        """l so far."""
        return float(self._state.loss[0])

    @property
    def p(self) -> Array:
        """dr/dw (n, m), columns in the order of field.labels."""
        return self.field._bind().rows(self._structure.sensitivities(self._state.G))

    @property
    def p0(self) -> Array:
        """dr/dr0 (n, n)."""
        return self._structure.state_sensitivities(self._state.S)

    def gradient(self) -> Gradient:
        """The loss so far and its gradient, exact for the steps that were taken (until ``update``)."""
        f, found = self.field, self._state.totals(self.stats)
        readout = None
        if isinstance(self.readout, Readout):
            size = self.readout.V.size
            V, c = found.readout[:size].reshape(self.readout.V.shape).copy(), found.readout[size:].copy()
            readout = {"V": V, "c": c}
        named, labels = f.unflatten(found.vector), partial(getattr, f, "labels")
        return Gradient(self.loss, found.vector, named, found.r0[0], readout, self.stats, "RTRL, stream", labels)

    # -- learning on the way

    def update(self, parameters: dict[str, Any] | None = None, readout: Readout | None = None) -> None:
        """Change weights by name, or the read-out, from here on.

        P stays as it is: from now on it holds what the state owes to the weights as they were, and the gradient is that
        of the online algorithm, which takes the change of the weights for slow (Williams & Zipser 1989), no derivative
        of any one function.

        Raises UnknownNameError for a name that is no parameter, UsageError for another shape or activation.
        """
        field = self.field.with_parameters(**(parameters or {}))
        if readout is not None:
            old = self.readout
            same = isinstance(readout, Readout) and isinstance(old, Readout)
            if not same or readout.V.shape != old.V.shape or readout.activation != old.activation:
                raise UsageError("readout", given=readout, allowed=f"a Readout like the stream's own, {old!r}")
            self.readout = readout
        self.field = field

    def clear(self) -> None:
        """Set the loss and its gradient to zero, as after a learning step; r, P and S stay."""
        state = self._state
        state.loss, state.readout = np.zeros(1), np.zeros_like(state.readout)
        state.G[:, -1], state.S[:, -1] = 0.0, 0.0

    # -- to disk and back, and to other processes

    def __reduce__(self) -> tuple[Any, ...]:
        return stream_file.reduced(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of the stream to one ``.npz`` file; raises UsageError where the folder does not exist.

        The file holds numbers and text only. Equations and rate networks are written with it; of other fields, and of a
        loss that is a Python function, only the parameters: give ``load`` the field, and the function.
        """
        stream_file.write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], field: Field | None = None, loss: Any = None) -> RTRLStream:
        """The stream of a file; what it computes from here on is bit for bit what the saved one would have.

        Raises UsageError for a file that is no stream, and where ``field`` or ``loss`` is needed or does not fit.
        """
        stream: RTRLStream = stream_file.read(cls, path, field, loss)
        return stream


def _memory(run: Integration) -> list[Array]:
    newton = run.newton
    return [run.clock, run.count, newton.J, newton.M, newton.pivots, newton.state]
