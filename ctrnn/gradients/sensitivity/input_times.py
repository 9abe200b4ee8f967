"""Gradients to when an input jumps, and by how much.

With the cotangent λ = dl/dr of the adjoint, a jump of x from x⁻ to x⁺ at the time τ, moved later by δτ, keeps x⁻ for
that long:

    dl/dτ = λ(τ) [F(τ, r, x⁻) − F(τ, r, x⁺)] + a ℓ(τ, s⁻) − a ℓ(τ, s⁺)

the last two where the target or the weight s of ∫ aℓ dt jumps. x⁻ differs from x⁺ in the one input that moves, also
where several jump at once. A pulse's width moves its end, its onset both ends. For an amplitude A,

    dl/dA = ∫ λ F_x ∂x/∂A dt,    for the steps taken  Σ K̄_i F_x(r_i) ∂x/∂A(t_i)

over the stages of all steps, whose cotangents K̄_i the pullback has anyway (ctrnn.kernels.pullback).

(Bryson & Ho, Applied Optimal Control, 1975, 3.7; Vassiliadis, Sargent & Pantelides, Ind. Eng. Chem. Res. 33, 2111,
1994.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.recording.control import refined_recording
from ctrnn.gradients.recording.stepper import Steps
from ctrnn.inputs import Input, Pulse, Step
from ctrnn.inputs.base import Product, Stack, Sum
from ctrnn.inputs.times import align
from ctrnn.problem import Problem, Settings, checked_problem
from ctrnn.solvers import tableaus
from ctrnn.solvers.auto import resolve_auto_solver
from ctrnn.threads import one_blas_thread
from ctrnn.trajectory import Stats

Named = Step | Pulse


@dataclass(frozen=True, repr=False, eq=False)
class InputGradient:
    """A loss and its derivatives to the named inputs; prints as a table.

    Attributes
    ----------
    loss : float
        l.
    inputs : dict of str to float or ndarray
        "name.onset", "name.width" ↦ number; "name.amplitude" ↦ number, or (size,) for several channels.
    stats : Stats
        The cost of both passes.
    """

    loss: float
    inputs: dict[str, Any]
    stats: Stats

    def __repr__(self) -> str:
        width = max(len(name) for name in self.inputs)
        lines = [
            f"  dl/d{name:<{width}} {np.array2string(np.asarray(v), precision=8)}" for name, v in self.inputs.items()
        ]
        return "\n".join([f"Input gradient: loss = {self.loss:.10g}", *lines, f"  {self.stats}"])


def input_gradient(
    problem: Problem,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    min_step: float = 0.0,
    error_control: str = "all",
) -> InputGradient:
    """The loss and its derivatives to onset, width and amplitude of the named pulses and steps of a problem.

    Parameters
    ----------
    problem : Problem
        With an objective, and inputs ``Pulse(..., name=...)`` or ``Step(..., name=...)`` anywhere in sums, products and
        stacks; where a name stands several times, it is one input.
    solver, rtol, atol, dt, max_steps, min_step
        As in `ctrnn.simulate`, for our own solvers.
    error_control : {"all", "state"}
        As in `ctrnn.gradient`.

    Returns
    -------
    InputGradient
        The loss, and the derivatives by name.

    Raises
    ------
    UsageError
        Where no input has a name, and where inputs that differ have the same; and what `ctrnn.gradient` raises.

    Notes
    -----
    The amplitudes' derivatives are exact for the steps taken. Those to times are the formula of the differential
    equation, with the discrete adjoint's λ and r: they converge with the tolerance, as the solution does. Of a target
    or a weight, the times count and the amplitudes are left out. Times outside t_span have derivative 0; an observation
    on the jump itself is not moved by it: that is the derivative for later jumps. Formulas and sources (Bryson & Ho
    1975) are at the top of `ctrnn.gradients.sensitivity.input_times`.

    Examples
    --------
    >>> import ctrnn
    >>> leak = ctrnn.Equations({"r": "-r + x"}, inputs=["x"])
    >>> cue = ctrnn.inputs.Pulse(onset=1.0, width=1.0, amplitude=2.0, name="cue")
    >>> g = input_gradient(ctrnn.Problem(leak, [0.0], (0.0, 3.0), x=cue, objective=ctrnn.Objective("r", at=3.0)))
    >>> {name: round(value, 6) for name, value in g.inputs.items()}  # r(3) = 2(e^−1 − e^−2)
    {'cue.onset': 0.465088, 'cue.width': 0.735759, 'cue.amplitude': 0.232544}
    """
    settings = resolve_auto_solver(
        checked_problem(problem), Settings(solver, rtol, atol, dt, max_steps, min_step, error_control)
    )
    problem.needs_objective("input_gradient")
    if not settings.library and tableaus.get(settings.solver).exponential:
        raise UsageError("solver", given=settings.solver, allowed="a Runge–Kutta solver, for input_gradient")
    signals = problem.signals
    leaves = _named(signals)
    if not leaves:
        hint = 'ctrnn.inputs.Pulse(onset=2.0, width=1.0, name="cue")'
        raise UsageError("problem.x", given=problem.x, allowed="an input with named pulses or steps", hint=hint)
    with one_blas_thread:
        return _Way(problem, settings, signals, leaves).back()


class _Way:
    """A recorded run, and the way back along it."""

    def __init__(self, problem: Problem, settings: Settings, signals: Input, leaves: dict[str, Named]) -> None:
        self.problem, self.signals, self.leaves = problem, signals, leaves
        self.objective = problem.needs_objective("input_gradient")
        self.nx = problem.field.input_size
        self.run = refined_recording(problem, settings, "input_gradient")
        self.amplitudes = {name: np.zeros(leaf.size) for name, leaf in _named(problem.x).items()}
        self.times: dict[tuple[str, str], float] = {}

    def back(self) -> InputGradient:
        run, problem = self.run, self.problem
        loss = float(run.start().loss[0])
        taken = list(run.blocks())
        loss += sum(block.losses.loss for block in taken)
        starts = [problem.t_span[0], *(block.end for block in taken)]
        lam = run.zero_rows()
        jumps = self._jumps()
        for block, start in zip(reversed(taken), reversed(starts[:-1]), strict=True):
            record = block.record
            begins = np.concatenate([[start], record.t[:-1]])
            # cut where a named input jumps, so that λ is known there
            cuts = [0, *(int(i) for i in np.flatnonzero(np.isin(begins, list(jumps))) if i > 0), record.h.size]
            for low, high in zip(cuts[-2::-1], cuts[:0:-1], strict=True):
                self._pull(block.cut(low, high), begins[low:high], lam)
                # the first stage's state is the state at the start of the step
                self._move(float(begins[low]), record.stage_r[low, 0], lam[:, 0], jumps)
        inputs: dict[str, Any] = {}
        for name, leaf in self.leaves.items():
            onset, end = (self.times.get((name, edge), 0.0) for edge in ("onset", "end"))
            inputs[f"{name}.onset"] = onset + end
            if isinstance(leaf, Pulse):
                inputs[f"{name}.width"] = end
            if name in self.amplitudes:
                A = self.amplitudes[name]
                inputs[f"{name}.amplitude"] = A if A.size > 1 else float(A[0])
        return InputGradient(float(loss), inputs, run.stats)

    # -- times

    def _jumps(self) -> dict[float, list[tuple[str, str]]]:
        """Time -> the named edges there, with the times that the solver steps onto."""
        stops = np.concatenate([[self.problem.t_span[0]], self.problem.course.stops[:-1]])
        found: dict[float, list[tuple[str, str]]] = {}
        for name, leaf in self.leaves.items():
            for edge, knot in zip(("onset", "end"), leaf.breaks, strict=False):
                time = float(align(np.array([knot]), stops)[0])
                if time in stops:
                    found.setdefault(time, []).append((name, edge))
        return found

    def _move(self, t: float, r: Array, lam: Array, jumps: dict[float, list[tuple[str, str]]]) -> None:
        """dl/dτ of the edges at t, with λ just after it."""
        for name, edge in jumps.get(t, ()):
            rates = []
            for own in (np.nextafter(t, -np.inf), t):
                s = _evaluate(self.signals, t, name, own)
                F = self.problem.field(t, r, s[: self.nx])
                l = 0.0
                if self.objective.times is None:
                    l = float(self.objective.rate(r[None], s[None, self.nx :])[0][0])
                rates.append(float(lam @ F) + l)
            self.times[name, edge] = rates[0] - rates[1]

    # -- amplitudes

    def _pull(self, block: Steps, begins: Array, lam: Array) -> None:
        """λ through some steps, and what they give to the amplitudes."""
        record = block.record
        C, s, n = record.stage_r.shape
        (pulled,) = self.run.pull_rows(block, lam)
        K = pulled.K.reshape(C * s, n).copy()
        if not self.amplitudes or not K.any():
            return
        t = record.stage_t.ravel()
        lookup = np.clip(record.stage_t, begins[:, None], np.nextafter(record.t, -np.inf)[:, None]).ravel()
        lam_x = self._times_F_x(
            K, t, record.stage_r.reshape(C * s, n), record.stage_x[:, :, : self.nx].reshape(C * s, -1)
        )
        for name in self.amplitudes:
            for j in range(self.amplitudes[name].size):
                slope = _slope(self.problem.x, name, j, t, lookup)
                self.amplitudes[name][j] += float((lam_x * slope).sum())

    def _times_F_x(self, K: Array, t: Array, r: Array, x: Array) -> Array:
        """K̄ F_x (T, inputs), by torch, all stages at once or, for a field that takes no batches, one by one."""
        import torch

        function = self.problem.field.torch_function()
        w = {name: torch.tensor(value) for name, value in self.problem.field.parameters.items()}

        def one(t: Any, r: Any, x: Any, K: Any) -> Any:
            return (K * function(t, r, w, x)).sum()

        arguments = tuple(torch.tensor(each) for each in (t, r, x, K))
        try:
            return torch.func.vmap(torch.func.grad(one, argnums=2))(*arguments).numpy()
        except Exception:  # an `if` on values in a user's module, .item()
            return torch.stack([torch.func.grad(one, argnums=2)(*row) for row in zip(*arguments, strict=True)]).numpy()


# --- the tree of an input


def _named(signal: Input) -> dict[str, Named]:
    """Name -> input, of all that have one; raises UsageError for different ones of one name."""
    found: dict[str, Named] = {}
    for leaf in _leaves(signal):
        if not isinstance(leaf, Named) or leaf.name is None:
            continue
        if repr(found.setdefault(leaf.name, leaf)) != repr(leaf):
            given = f"{found[leaf.name]!r} and {leaf!r}"
            raise UsageError("name", given=given, allowed="a name of its own for each input")
    return found


def _leaves(signal: Input) -> Iterator[Input]:
    if isinstance(signal, (Sum, Product, Stack)):
        for part in signal.parts:
            yield from _leaves(part)
    else:
        yield signal


def _is(leaf: Input, name: str) -> bool:
    return isinstance(leaf, Named) and leaf.name == name


def _evaluate(signal: Input, t: float, name: str, own: float) -> Array:
    """x(t) (size,), but for the input of that name, whose piece is chosen by a time of its own."""
    if isinstance(signal, (Sum, Product, Stack)):
        values = [_evaluate(part, t, name, own) for part in signal.parts]
        if isinstance(signal, Stack):
            return np.concatenate([np.empty(0), *values])
        return values[0] + values[1] if isinstance(signal, Sum) else values[0] * values[1]
    return signal.evaluate([t], [own if _is(signal, name) else t])[0]


def _slope(signal: Input, name: str, channel: int, t: Array, lookup: Array) -> Array:
    """∂x/∂A (T, size), for one channel of the amplitude A of the input of that name."""
    if isinstance(signal, (Sum, Product, Stack)):
        slopes = [_slope(part, name, channel, t, lookup) for part in signal.parts]
        if isinstance(signal, Stack):
            return np.concatenate([np.empty((t.size, 0)), *slopes], axis=1)
        if isinstance(signal, Sum):
            return slopes[0] + slopes[1]
        a, b = signal.parts
        return slopes[0] * b.evaluate(t, lookup) + a.evaluate(t, lookup) * slopes[1]
    slope = np.zeros((t.size, signal.size))
    if _is(signal, name):
        assert isinstance(signal, Named)
        on = np.searchsorted(signal.breaks, lookup, side="right") == 1
        slope[:, channel] = on
    return slope
