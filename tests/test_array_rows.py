"""Many rows of array equations at once: each as if it were alone, their gradients those of the field alone."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from array_systems import NAMES, systems

import ctrnn
from ctrnn import GRUNetwork, Objective, Problem, gradient, scratch
from ctrnn.inputs import Sine
from ctrnn.kernels.batch import rows_steps
from ctrnn.solvers import tableaus

STEPS, DT = 6, 0.05


def close(a: Any, b: Any, digits: float = 1e-11) -> None:
    np.testing.assert_allclose(a, b, rtol=digits, atol=digits * max(1.0, float(np.abs(b).max(initial=0.0))))


class Run:
    """B rows by RK4, and back from jumps at every end."""

    def __init__(self, field: Any, r0: Any, x: Any, x_wanted: bool = True) -> None:
        rows, B, nx = field.row_slots, len(r0), field.input_size
        tableau = tableaus.get("rk4")
        a, b, c = (np.array(v, dtype=float) for v in (tableau.a, tableau.b, tableau.c))
        s, N, wide = len(b), B * rows.width, rows.width
        numbers = rows.numbers(field.rows_entries, B)
        h = np.full(STEPS, DT)
        t = DT * np.arange(STEPS)[:, None] + DT * c
        X = np.ascontiguousarray(np.broadcast_to(x[:, None], (STEPS, s, B, nx)))
        r = np.zeros((B, wide))
        r[:, : field.n] = r0
        # what fills up is never looked at: let it be poison
        tape, states = np.full(rows.tape(B, STEPS * s), np.nan), np.empty((STEPS, N))
        rows_steps.forward(
            rows.f,
            numbers.ctx,
            numbers.w,
            a,
            b,
            h,
            t,
            X,
            r.reshape(-1),
            np.empty((STEPS, s, N)),
            np.empty((s, N)),
            STEPS * s,
            tape,
            states,
            0,
        )
        self.states = states.reshape(STEPS, B, wide)[..., : field.n]
        jumps = np.zeros((STEPS, B, wide))
        jumps[2, :, : field.n] = self.states[2] - 0.1
        jumps[-1, :, : field.n] = self.states[-1] - 0.1
        lam, G = np.zeros((B, wide)), np.zeros(rows.gradients(B))
        x_bar = np.zeros((STEPS if x_wanted else 0, s, B, nx))
        rows_steps.backward(
            rows.vjp, rows.accumulate, numbers.ctx, numbers.w, a, b, h, jumps.reshape(STEPS, N), np.empty((0, s, N)),
            lam.reshape(-1), np.empty(N), np.empty((s, N)), tape, x_bar, G, 0,
        )  # fmt: skip
        self.lam, self.gradient, self.x_bar = lam[:, : field.n], rows.vector(G, B), x_bar


@pytest.mark.parametrize("name", NAMES)
def test_rows_agree_with_single_runs(name):
    field = systems()[name].field
    rng = np.random.default_rng(7)
    B = 5
    r0, x = 0.3 * rng.normal(size=(B, field.n)), 0.5 * rng.normal(size=(STEPS, B, 2))
    run = Run(field, r0, x)
    total = np.zeros(field.m)
    times = DT * np.arange(STEPS + 1)
    for k in range(B):
        held = ctrnn.inputs.Sampled(times, np.concatenate([x[:, k], x[-1:, k]]), "hold")
        objective = Objective(target=0.1, at=[3 * DT, STEPS * DT])
        problem = Problem(field, r0[k], (0.0, STEPS * DT), x=held, objective=objective)
        alone = ctrnn.simulate(problem, solver="rk4", dt=DT, save_at=times[1:])
        close(run.states[:, k], alone.r)
        one = ctrnn.gradient(problem, ctrnn.Adjoint("checkpoint"), solver="rk4", dt=DT)  # by the stepper's recording
        total += one.vector
        close(run.lam[k], one.r0)
    close(run.gradient, total)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_does_not_depend_on_its_company(name):
    field = systems()[name].field
    rng = np.random.default_rng(8)
    r0, x = 0.3 * rng.normal(size=(7, field.n)), 0.5 * rng.normal(size=(STEPS, 7, 2))
    every = Run(field, r0, x)
    for some in ([3], [6, 3], [0, 1, 3, 5]):
        few = Run(field, r0[some], x[:, some], x_wanted=False)
        k = some.index(3)
        np.testing.assert_array_equal(few.states[:, k], every.states[:, 3])
        np.testing.assert_array_equal(few.lam[k], every.lam[3])


@pytest.mark.parametrize("name", ["rate, state", "gru", "medley"])
def test_cotangents_of_inputs_by_differences(name):
    field = systems()[name].field
    rng = np.random.default_rng(9)
    r0, x = 0.3 * rng.normal(size=(2, field.n)), 0.5 * rng.normal(size=(STEPS, 2, 2))

    def loss(x: Any) -> float:
        states = Run(field, r0, x, x_wanted=False).states
        return 0.5 * float(((states[2] - 0.1) ** 2).sum() + ((states[-1] - 0.1) ** 2).sum())

    x_bar = Run(field, r0, x).x_bar.sum(axis=1)
    along, h = rng.normal(size=x.shape), 1e-5
    slope = (loss(x + h * along) - loss(x - h * along)) / (2 * h)
    assert abs((x_bar * along).sum() - slope) < 1e-8 * max(1.0, abs(slope))


@pytest.mark.parametrize("poison", [[1e308, 1.5e308], [np.inf, -np.inf, np.nan]])
def test_what_fills_up_may_be_anything(poison):
    """Memory that was used before: the same gradient to the bit, and no warning, whatever it holds."""
    network = GRUNetwork(5, 1, seed=0)
    problem = Problem(network, np.full((3, 5), 0.1), (0.0, 1.0), Sine(0.7), Objective(target=0.3, at=[0.5, 1.0]))
    first = gradient(problem, "adjoint", solver="rk4", dt=0.1)
    for arena in scratch._here.arenas:
        arena._kept[:] = np.resize(poison, arena._kept.size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = gradient(problem, "adjoint", solver="rk4", dt=0.1)
    np.testing.assert_array_equal(first.vector, second.vector)
