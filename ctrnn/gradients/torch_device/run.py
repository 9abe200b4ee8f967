"""A forward run of B trials in torch, block by block, with what the pullback needs.

    r_i = r + h Σ_{j<i} a_ij k_j,   k_i = F(t + c_i h, r_i, w, x),   r⁺ = r + h Σ_i b_i k_i

for r (B, n) at once. The times are those of the compiled stepper, to the bit: it runs beside this with a state at rest and the inputs of each trial, and
says where it steps, and x at every stage. Losses and their derivatives are those of ctrnn.gradients.losses, in float64, of the states a block at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ctrnn.errors import DivergenceError, SolverError, UsageError
from ctrnn.fields.base import Array
from ctrnn.fields.equations import Equations
from ctrnn.gradients.gradient import check_finite
from ctrnn.gradients.losses import Losses
from ctrnn.gradients.torch_device.fields import system_of
from ctrnn.gradients.torch_device.place import Place, to_numpy
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.runge_kutta import Integration, tableau_of
from ctrnn.trajectory import Stats


class Block(NamedTuple):
    """C recorded steps of B trials, on the device but for t and h.

    t (C, s), h (C,); z (C, s, B, n) the states and x (C, s, B, inputs) the inputs of the stages; jumps (C, B, n) of the cotangent at the end of a step, and
    sources (C, s, B, n) at its stages, or None
    """

    t: Array
    h: Array
    z: Any
    x: Any
    jumps: Any
    sources: Any

    def steps(self, first: int, last: int) -> Block:
        """The steps from ``first`` to ``last``, views."""
        parts: list[Any] = [None if part is None else part[first:last] for part in self]
        return Block(*parts)


class Run:
    """B trials side by side, by fixed steps of an explicit tableau.

    loss (B,), l_r0 (B, n) at t0 and l_o (readout_size,) grow as blocks are taken.

    Raises UsageError for adaptive steps, implicit or exponential solvers, events, and trials whose steps differ.
    """

    def __init__(self, problems: Sequence[Problem], settings: Settings, place: Place, caller: str) -> None:
        self._began = time.perf_counter()
        options = place.options  # first of all: there may be no such device
        tableau = tableau_of(settings, caller)
        if tableau.gamma or tableau.exponential:
            raise UsageError(
                "solver", given=tableau.name, allowed=f"an explicit one, for {caller}", hint='solver="rk4", dt=...'
            )
        if settings.dt is None:
            raise UsageError(
                "dt",
                given=None,
                allowed=f"a step size, for {caller}",
                hint="a method without device, which takes adaptive steps",
            )
        check_together(problems, caller)
        self.place, self.field, self.caller = place, problems[0].field, caller
        self.a, self.b, self.s = tableau.a, tableau.b, tableau.stages
        self.losses = [Losses(problem, tableau.b[: self.s], problem.r0) for problem in problems]
        started = [losses.start() for losses in self.losses]
        check_finite(*(part for start in started for part in start))
        self.loss = np.array([l for l, _, _ in started])
        self.l_r0 = np.stack([l_r for _, l_r, _ in started])
        self.l_o = np.sum([l_o for _, _, l_o in started], axis=0)
        fixed = replace(settings, rtol=1e-8, atol=1e-8)  # one a state: there is one state
        self._clocks = [_clock(problem, fixed, caller) for problem in problems]
        self.system = system_of(self.field, place)
        self.B, self.n = len(problems), self.field.n
        self.r = place.tensor(np.stack([problem.r0 for problem in problems]))
        self._options, self._t, self.pulled = options, problems[0].course.start, 0
        #: steps to come, at most
        self.steps = int(np.ceil((problems[0].course.end - self._t) / settings.dt)) + problems[0].course.stops.size

    def blocks(self, capacity: int) -> Iterator[Block]:
        """Up to ``capacity`` steps at a time; raises SolverError, and NotFiniteError for a loss that is not finite."""
        try:
            for records in zip(*(clock.blocks(capacity) for clock in self._clocks), strict=True):
                yield self._taken(records)
        except SolverError as error:  # from the clock, whose state is not ours
            if not isinstance(error, DivergenceError):
                error = type(error)(error.reason, t=self._t, r=to_numpy(self.r[0]), h=error.h, hint=error.hint)
            raise error from None

    def _taken(self, records: Sequence[Record]) -> Block:
        import torch

        t, h, nx = records[0].stage_t, records[0].h, self.field.input_size
        C, s, shape = h.size, self.s, (self.B, self.n)
        x = self.place.tensor(np.stack([record.stage_x[:C, :, :nx] for record in records], axis=2))
        z, r_new = torch.empty((C, s, *shape), **self._options), torch.empty((C, *shape), **self._options)
        with torch.no_grad():
            drive = self.system.drive(x)
            r = self.r
            for m in range(C):
                k: list[Any] = []
                for i in range(s):
                    here = z[m, i].copy_(r)
                    for j in range(i):
                        if self.a[i, j] != 0.0:
                            here.add_(k[j], alpha=float(h[m] * self.a[i, j]))
                    k.append(self.system(float(t[m, i]), here, drive[m, i]))
                for i in range(s):
                    if self.b[i] != 0.0:
                        r = torch.add(r, k[i], alpha=float(h[m] * self.b[i]))
                r_new[m] = r
        states = to_numpy(r_new).transpose(1, 0, 2)
        self._check(records[0], states)
        self.r, self._t = r, float(records[0].t[-1])
        integral = any(losses.objective.times is None for losses in self.losses)
        stages = to_numpy(z).transpose(2, 0, 1, 3) if integral else np.empty((self.B, C, s, 0))
        return Block(t, h, z, x, *self._losses(records, states, stages))

    def _losses(self, records: Sequence[Record], r: Array, stage_r: Array) -> tuple[Any, Any]:
        """Add the share of a block to the losses; jumps and sources of all trials, or None."""
        parts = [
            losses.block(record._replace(r=r[b], stage_r=stage_r[b]))
            for b, (losses, record) in enumerate(zip(self.losses, records, strict=True))
        ]
        check_finite(*(value for part in parts for value in (part.loss, part.jumps, part.sources)))
        self.loss += [part.loss for part in parts]
        self.l_o = self.l_o + np.sum([part.readout for part in parts], axis=0)
        return self._together([part.jumps for part in parts], 1), self._together([part.sources for part in parts], 2)

    def _together(self, parts: list[Array], axis: int) -> Any:
        """What each trial has, one axis more; zeros for those that have nothing, None where nobody has."""
        some = next((part for part in parts if part.size), None)
        if some is None:
            return None
        return self.place.tensor(np.stack([part if part.size else np.zeros_like(some) for part in parts], axis=axis))

    def _check(self, record: Record, states: Array) -> None:
        good = np.isfinite(states).all(axis=2)
        if good.all():
            return
        m, b = next((m, b) for m in range(record.h.size) for b in range(self.B) if not good[b, m])
        t, r = (float(record.t[m - 1]), states[b, m - 1]) if m else (self._t, to_numpy(self.r[b]))
        which = f" in trial {b}" if self.B > 1 else ""
        raise DivergenceError(
            f"the solution became infinite or NaN{which}",
            t=t,
            r=r,
            h=float(record.h[m]),
            hint="a smaller dt, or an adaptive solver",
        )

    def pullback(self, block: Block, linear: Any, rows: Any, keep: Any = None) -> None:
        """Take ``rows`` (B, n, q) back through a block, in place; ``keep`` (C, s, B, n, q) receives the cotangents K̄ of the stages.

            for i = s … 1:   K̄_i = h b_i Λ + h Σ_{j>i} a_ji R̄_j        R̄_i = K̄_i J_i            Λ ← Λ + Σ_i R̄_i

        as in ctrnn.kernels.pullback. Jumps and sources act on the last of the q cotangents.
        """
        from ctrnn.gradients.torch_device.threads import divided

        B, n, q = rows.shape

        def columns(first: int, last: int) -> None:
            mine = block if last == q else block._replace(jumps=None, sources=None)
            self._pull(mine, linear, rows[..., first:last], None if keep is None else keep[..., first:last])

        divided(columns, q, 2.0 * B * n * n * q, self.place.device)
        self.pulled += block.h.size * self.s * B

    def _pull(self, block: Block, linear: Any, rows: Any, keep: Any) -> None:
        import torch

        s, a, b = self.s, self.a, self.b
        every = torch.empty((s, *rows.shape), **self._options)
        own: Any = torch.empty(rows.shape, **self._options) if keep is None else None
        # views made once: making one takes as long as a product of small matrices
        R, last, last_of_R = every.unbind(), rows[..., -1], every[..., -1].unbind()
        for m in range(block.h.size - 1, -1, -1):
            h = float(block.h[m])
            if block.jumps is not None:
                last += block.jumps[m]
            kept = (own,) * s if keep is None else keep[m].unbind()
            for i in range(s - 1, -1, -1):
                K = kept[i]
                torch.mul(rows, h * float(b[i]), out=K)
                for j in range(i + 1, s):
                    if a[j, i] != 0.0:
                        K.add_(R[j], alpha=h * float(a[j, i]))
                linear.vjp(m, i, K, R[i])
                if block.sources is not None:
                    last_of_R[i].add_(block.sources[m, i], alpha=h * float(b[i]))
            rows += every.sum(dim=0)

    @property
    def stats(self) -> Stats:
        """The cost so far, all trials together."""
        one = self._clocks[0].stats
        cost = replace(one, steps=self.B * one.steps, evaluations=self.B * one.evaluations, jacobians=self.pulled)
        return replace(cost, wall_time=time.perf_counter() - self._began)


@lru_cache(maxsize=1)
def _at_rest() -> Equations:
    return Equations({"r": "0"})


def _clock(problem: Problem, settings: Settings, caller: str) -> Integration:
    """The compiled stepper on the problem's course, with its inputs and nothing to solve."""
    signals = problem.signals
    bound = _at_rest().bind(signals.program(), signals.size)
    return Integration(bound, np.zeros(1), problem.course, settings, keep="stages", label=caller)


def check_together(problems: Sequence[Problem], caller: str) -> None:
    """Raises UsageError for problems with events, or that stop at different times."""
    first = problems[0].course
    for b, problem in enumerate(problems):
        if problem.events:
            raise UsageError(
                "problem", given=f"{len(problem.events)} events", allowed=f"a problem without events, for {caller}",
                hint="the same method without device",
            )  # fmt: skip
        course = problem.course
        if course.start != first.start or not np.array_equal(course.stops, first.stops):
            raise UsageError(
                "trials",
                given=f"trial {b} stops at other times than trial 0",
                allowed="one t_span, and the same observation times and jumps of x, for trials that go together on a device",
                hint="the method without device, or a batch for each set of times",
            )
