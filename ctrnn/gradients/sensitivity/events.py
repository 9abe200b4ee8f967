"""Gradients through events: the saltation matrix.

The event's time is defined by c(τ, r⁻, w, x) = 0. With ċ = c_t + c_r F⁻ + c_x ẋ, the rate of c along the solution, it
moves by

    dτ = −(c_r δr⁻ + c_w δw)/ċ

and the state behind the reset r⁺ = R(τ, r⁻, w, x), seen at one and the same time, by

    δr⁺ = R_r δr⁻ + R_w δw + (R_r F⁻ + R_t + R_x ẋ − F⁺) dτ = S δr⁻ + W δw          S: the saltation matrix

A loss that is taken there moves too: by (aℓ⁻ − aℓ⁺) dτ for ∫ aℓ dt, and by o_r (δr⁻ + F⁻ dτ) + (o_t + o_x ẋ) dτ + o_w
δw for an output o at the event. RTRL carries P ← S P + W forward, the adjoint λ ← λ S backward, dl/dw ← dl/dw + λ W;
between events both are what they are without (ctrnn.gradients.schedules.rtrl, .adjoint), exact for the steps taken. F⁻
is that of the differential equation and not of the last step: the gradient is that of the solution to the solver's
accuracy, and the two methods agree to rounding.

(Aizerman & Gantmacher 1958; Hiskens & Pai, IEEE Trans. Circuits Syst. I 47, 204, 2000; Corner, Sandu & Sandu, J.
Comput. Phys. 386, 2019.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ctrnn.clock import working
from ctrnn.events import BoundEvent, BoundEventObjective, EventError
from ctrnn.fields.base import Array
from ctrnn.fields.formula import Slopes
from ctrnn.gradients.method import Passes
from ctrnn.gradients.recording.control import ROUNDS, warn_of_accuracy
from ctrnn.gradients.recording.sensitivity_error import is_controlled
from ctrnn.gradients.recording.stepper import StepperRecording, Steps
from ctrnn.gradients.result import Gradient, result
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.events import Piece, pieces
from ctrnn.trajectory import Stats

#: |ċ| below this part of (largest |c|)/(length of the piece) is a touch, not a crossing
TANGENT = 1e-8


def event_gradient(
    problem: Problem, settings: Settings, name: str, passes: Passes, block: int | None = None
) -> Gradient:
    """The gradient of a problem with events, P carried forward in blocks of steps or λ carried backward.

    Raises UsageError for solvers other than our own; EventError for an event that only touches zero, for two resets at
    one time, and for a loss behind the end of the run; and what the solver raises.
    """
    way = _Way(problem, settings, name)
    return way.backward() if passes is Passes.BACKWARD else way.forward(block)


def event_loss(problem: Problem, settings: Settings) -> tuple[float, Array, Stats]:
    """The loss of a problem with events, its derivative by (V, c), and the cost; raises what event_gradient raises."""
    way = _Way(problem, settings, "a loss")
    runs, loss, g_o = way.recorded()
    return float(loss), g_o, sum((run.stats for run, *_ in runs), way.cost)


class Passage(NamedTuple):
    """One end of a piece, linear: δr⁺ = S δr⁻ + W δw and δl = l_r δr⁻ + l_w δw.

    δw are the parameters that are single numbers (p,).
    """

    S: Array | None  # (n, n); None for the identity
    W: Array  # (n, p)
    loss: float
    l_r: Array  # (n,)
    l_w: Array  # (p,)


class _Way:
    """The pieces of a run with what is linear at their ends, and the two ways along them."""

    def __init__(self, problem: Problem, settings: Settings, name: str) -> None:
        self._began = working()
        self.problem, self.settings, self.name = problem, settings, name
        self.objective = problem.needs_objective(name)
        parameters = problem.field.parameters
        scalars = [its.start for name, its in parameters.slices.items() if parameters[name].ndim == 0]
        #: where the parameters that are single numbers lie in the flat vector (p,)
        self.scalars = np.array(scalars, dtype=int)
        self.n, self.m = problem.field.n, problem.field.m
        self.cost = Stats()
        self._find()
        if is_controlled(settings):
            self._refine()

    def _find(self) -> None:
        """The pieces of the run, between its events."""
        self.pieces, cost = pieces(self.problem, self.settings)
        self.cost += cost
        last, observed = self.pieces[-1], self.problem.observed
        if observed.size and observed[-1] > last.end:
            late = int((observed > last.end).sum())
            label = self.problem.events[last.fired[-1]].event.label
            raise EventError(
                f"the run ends with event {label!r}, and {late} of the objective's times lie behind it, the first at "
                f"t = {observed[-late]:g}",
                last.end,
                last.after,
                "earlier times, an integral, or ctrnn.EventObjective, whose loss is taken at the event",
            )
        self.taken = self._taken()

    def _refine(self) -> None:
        """Stops, so that the steps are fine enough for λ (ctrnn.gradients.recording.control).

        Other steps meet the events at other times: the events are looked for again, so that each piece still ends where
        its condition is zero.
        """
        for again in (False, *(ROUNDS - 1) * [True]):
            lam, divided = np.zeros((self.n, 1)), []
            for run, l_r, taken, passage in reversed(self.recorded()[0]):
                if passage.S is not None:
                    lam = np.ascontiguousarray(passage.S.T @ lam)
                lam[:, 0] += passage.l_r
                rows = run.zero_rows()
                rows += lam
                for steps in reversed(taken):
                    run.pull_alone(steps, rows)
                lam = rows
                lam[:, 0] += l_r
                if run.errors is not None:
                    divided.append(run.errors.divided(again))
            times = np.concatenate([np.empty(0), *divided])
            if not times.size:
                return
            self.problem = self.problem.onto(times)
            self._find()
        warn_of_accuracy(self.name, float(np.min(self.settings.rtol)))

    def _taken(self) -> dict[tuple[int, int], tuple[float, float | None]]:
        """(event, occurrence) -> (a, y) of an EventObjective."""
        if not isinstance(self.objective, BoundEventObjective):
            return {}
        names = [event.event.label for event in self.problem.events]
        e, last = self.objective.number(names), self.pieces[-1]
        found = sum(piece.fired.count(e) for piece in self.pieces)
        return {(e, k): value for k, value in self.objective.taken(found, names[e], last.end, last.after).items()}

    def _timed(self, stats: Stats) -> Stats:
        """The cost with the time of it all: the pieces' own times overlap."""
        return replace(stats, wall_time=working() - self._began)

    # -- the two ways

    def forward(self, block: int | None) -> Gradient:
        """P ← S P + W, with P = dr/dw (n, m) and Z = dr/dr0 (n, n).

        Between events as in ctrnn.gradients.schedules.rtrl, by blocks.
        """
        n, m, stats, seen = self.n, self.m, self.cost, [0] * len(self.problem.events)
        P, Z, g, g0 = np.zeros((n, m)), np.eye(n), np.zeros(m), np.zeros(n)
        loss, g_o = 0.0, np.zeros(self.objective.readout_size)
        for k, piece in enumerate(self.pieces):
            run = StepperRecording(piece.problem, self.settings, self.name)
            kernel = run.bound.kernel
            l, l_r, part_o = run.losses.at(*self._start(piece))
            loss, g, g0, g_o = loss + l, g + l_r @ P, g0 + l_r @ Z, g_o + part_o
            for steps in run.blocks(block or _block(n, run.s)):
                rows, G = np.eye(n, n + 1), np.zeros((kernel.groups, n + 1, kernel.columns))
                run.pull(steps, rows, G)
                C, phi, lam = run.bound.rows(G), rows[:, :n].T, rows[:, n]
                g, g0 = g + lam @ P + C[n], g0 + lam @ Z
                P, Z = phi @ P + C[:n], phi @ Z
                loss, g_o = loss + steps.losses.loss, g_o + steps.losses.readout
            passage, stats = self._passage(k, seen), stats + run.stats
            loss, g, g0 = loss + passage.loss, g + passage.l_r @ P, g0 + passage.l_r @ Z
            g[self.scalars] += passage.l_w
            if passage.S is not None:
                P, Z = passage.S @ P, passage.S @ Z
                P[:, self.scalars] += passage.W
        return result(self.problem, self.name, loss, g, g0, g_o, self._timed(stats))

    def recorded(self) -> tuple[list[tuple[StepperRecording, Array, list[Steps], Passage]], float, Array]:
        """The loss and its derivative by (V, c).

        Of each piece too: its run, dl/dr of the loss at its start, its blocks, and what is at its end.
        """
        runs, loss, g_o, seen = [], 0.0, np.zeros(self.objective.readout_size), [0] * len(self.problem.events)
        for k, piece in enumerate(self.pieces):
            run = StepperRecording(piece.problem, self.settings, self.name)
            l, l_r, part_o = run.losses.at(*self._start(piece))
            taken = list(run.blocks())
            passage = self._passage(k, seen)
            loss += l + sum(steps.losses.loss for steps in taken) + passage.loss
            g_o = sum((steps.losses.readout for steps in taken), g_o + part_o)
            runs.append((run, l_r, taken, passage))
        return runs, loss, g_o

    def backward(self) -> Gradient:
        """λ ← λ S."""
        runs, loss, g_o = self.recorded()
        stats = self.cost
        lam, g = np.zeros((self.n, 1)), np.zeros(self.m)
        kernel = runs[0][0].bound.kernel
        G = np.zeros((kernel.groups, 1, kernel.columns))
        for run, l_r, taken, passage in reversed(runs):
            g[self.scalars] += lam[:, 0] @ passage.W + passage.l_w
            if passage.S is not None:
                lam = np.ascontiguousarray(passage.S.T @ lam)
            lam[:, 0] += passage.l_r
            for steps in reversed(taken):
                run.pull(steps, lam, G)
            lam[:, 0] += l_r
            stats = stats + run.stats
        vector = runs[0][0].bound.rows(G)[0] + g
        return result(self.problem, self.name, loss, vector, lam[:, 0].copy(), g_o, self._timed(stats))

    @staticmethod
    def _start(piece: Piece) -> tuple[float, Array]:
        """Where a piece begins: t0, or an event, on which an observation may fall."""
        return piece.problem.t_span[0], piece.problem.r0

    # -- what is linear at an event

    def _passage(self, k: int, seen: list[int]) -> Passage:
        """The end of piece k; ``seen`` counts the occurrences of each event."""
        piece = self.pieces[k]
        n, p, t, r = self.n, len(self.scalars), piece.end, piece.before
        S, W, loss, l_r, l_w = None, np.zeros((n, p)), 0.0, np.zeros(n), np.zeros(p)
        if not piece.fired:
            return Passage(S, W, loss, l_r, l_w)
        x_before, dx, x_after = self._inputs(t)
        resets = [e for e in piece.fired if self.problem.events[e].R]
        if len(resets) > 1:
            names = " and ".join(repr(self.problem.events[e].event.label) for e in resets)
            hint = "other parameters, or one event that does both"
            raise EventError(f"events {names} reset the state at one time, where it has no derivative", t, r, hint)
        F = self.problem.field(t, r, x_before)
        for e in piece.fired:
            event = self.problem.events[e]
            wanted = self.taken.get((e, seen[e]))
            seen[e] += 1
            ends = piece.ended and e == piece.fired[-1]
            if wanted is None and not event.R and not ends:
                continue
            tau_r, tau_w = self._time(piece, e, event, F, x_before, dx)
            if wanted is not None:
                assert isinstance(self.objective, BoundEventObjective)
                o = self.objective.o.slopes(t, r, x_before)
                value, slope = _loss(o.value, *wanted)
                moves = o.rate(F, dx)
                loss += value
                l_r += slope * (o.r + moves * tau_r)
                l_w += slope * (o.w + moves * tau_w)
            rate = self._loss_rate(t, r, x_before=True) if event.R or ends else 0.0
            if event.R and not ends:
                rate -= self._loss_rate(t, piece.after, x_before=False)
                S, W = self._saltation(piece, event, F, x_before, dx, x_after, tau_r, tau_w)
            l_r += rate * tau_r
            l_w += rate * tau_w
        return Passage(S, W, loss, l_r, l_w)

    def _inputs(self, t: float) -> tuple[Array, Array, Array]:
        """x and dx/dt just before t, and x after."""
        x, before = self.problem.x, [np.nextafter(t, -np.inf)]
        return x.evaluate([t], before)[0], x.derivative([t], before)[0], x.evaluate([t])[0]

    def _time(self, piece: Piece, e: int, event: BoundEvent, F: Array, x: Array, dx: Array) -> tuple[Array, Array]:
        """dτ/dr⁻ (n,) and dτ/dw (p,)."""
        t, r = piece.end, piece.before
        c = event.c.slopes(t, r, x)
        rate = c.rate(F, dx)
        length = t - piece.problem.t_span[0]
        if not abs(rate) * length > TANGENT * piece.sizes[e]:
            raise EventError(
                f"the condition of event {event.event.label!r} touches zero without crossing it (dc/dt = {rate:.3g}): "
                "the time has no derivative",
                t,
                r,
                "other parameters, or a condition that crosses",
            )
        return -c.r / rate, -c.w / rate

    def _saltation(
        self, piece: Piece, event: BoundEvent, F: Array, x: Array, dx: Array, x_after: Array, tau_r: Array, tau_w: Array
    ) -> tuple[Array, Array]:
        """S (n, n) and W (n, p)."""
        t, r = piece.end, piece.before
        S, W = np.eye(self.n), np.zeros((self.n, len(self.scalars)))
        moved = F.copy()  # R_r F⁻ + R_t + R_x ẋ
        for place, formula in event.R.items():
            R: Slopes = formula.slopes(t, r, x)
            S[place], W[place], moved[place] = R.r, R.w, R.rate(F, dx)
        moved -= self.problem.field(t, piece.after, x_after)
        return S + np.outer(moved, tau_r), W + np.outer(moved, tau_w)

    def _loss_rate(self, t: float, r: Array, x_before: bool) -> float:
        """aℓ of an integral at a state, just before or after t."""
        if self.objective.times is not None:
            return 0.0
        s = self.problem.signals.evaluate([t], [np.nextafter(t, -np.inf) if x_before else t])
        return float(self.objective.rate(r[None], s[:, self.problem.field.input_size :])[0][0])


def _loss(o: float, a: float, y: float | None) -> tuple[float, float]:
    """a o, or a ½(o − y)², and its derivative by o."""
    return (a * o, a) if y is None else (0.5 * a * (o - y) ** 2, a * (o - y))


def _block(n: int, s: int) -> int:
    """Steps in a block of RTRL: as many as there are states, or 64 where they are few, within 256 MiB of cotangents."""
    return int(max(1, min(max(n, 64), 2**28 / (8 * s * n * (n + 1)))))
