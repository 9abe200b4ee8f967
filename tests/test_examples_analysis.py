"""What the shipped examples of dynamics say, against what was published of them."""

from __future__ import annotations

import numpy as np
import pytest

import ctrnn
from ctrnn.analysis import continue_cycles, continue_equilibria, fixed_points, limit_cycle, lyapunov_spectra
from ctrnn.errors import UsageError
from ctrnn.experiment.build import Experiment
from ctrnn.experiment.verify import verify


def test_lorenz_loses_its_convection_where_the_formula_says():
    e = Experiment("lorenz")
    s, b = 10.0, 8 / 3
    branch = continue_equilibria(e.field, e.guess, "rho", (0.5, 30.0))
    hopf = branch.of_kind("hopf")
    assert [p.parameter for p in hopf] == pytest.approx([s * (s + b + 3) / (s - b - 1)] * 2, rel=1e-11)
    assert all(p.type == "subcritical" for p in hopf)
    assert [p.omega for p in hopf] == pytest.approx([np.sqrt(b * (s + hopf[0].parameter))] * 2, rel=1e-10)
    # a pitchfork, and no fold beside it
    assert [(p.kind, p.type) for p in branch.special if p.kind != "hopf"] == [("branch", "pitchfork")]


def test_beers_circuit():
    """At the centre-crossing biases −(w11 + w21)/2, −(w12 + w22)/2 both nullclines cross at s = 1/2."""
    e = Experiment("two-neurons")
    (row,) = fixed_points(e.field, np.random.default_rng(0).uniform(-2, 6, (100, 2)))
    assert row.r == pytest.approx([2.75, 1.75], abs=1e-12)
    assert row.eigenvalues == pytest.approx([4.5 / 4 - 1 + 0.25j, 4.5 / 4 - 1 - 0.25j], abs=1e-12)
    cycle = limit_cycle(e.problem)
    assert cycle.stable
    assert cycle.amplitude.min() > 2.0


def test_morris_and_lecars_points():
    """Ermentrout and Terman (2010), section 3.3: Hopf points at I = 93.86 and 212, folds of cycles at 88.3 and 217."""
    e = Experiment("morris-lecar")
    eq = ctrnn.find_equilibrium(e.field, e.guess, x=[90.0])
    branch = continue_equilibria(e.field, eq, "I", (0.0, 300.0), x=[90.0])
    first, second = branch.of_kind("hopf")
    assert first.parameter == pytest.approx(93.86, abs=0.01)
    assert second.parameter == pytest.approx(212.0, abs=0.1)
    assert (first.type, second.type) == ("subcritical", "subcritical")
    cycles = continue_cycles(e.field, limit_cycle(e.field, first), "I", (0.0, 300.0))
    assert sorted(p.parameter for p in cycles.of_kind("fold")) == pytest.approx([88.29, 216.9], abs=0.02)


def test_random_network_below_and_above():
    """Below g = 1 the origin attracts: the exponents are the real parts of the eigenvalues of −1 + gJ."""
    e = Experiment("random-network")
    problem = e.problem.replace(t_span=(0.0, 120.0))
    found = lyapunov_spectra(problem, {"g": [0.5, 4.0]}, k=2, transient=80.0, solver="rk4", dt=0.1)
    λ = np.sort(np.linalg.eigvals(0.5 * e.field.parameters["J"] - np.eye(100)).real)[::-1]
    assert found.exponents[0] == pytest.approx(λ[:2], abs=0.02)
    assert found.exponents[1, 0] > 0
    for wrong in (["lyapunov.parameter=h"], ["lyapunov.values={ start = 1.0, stop = 0.0, step = 1.0 }"]):
        with pytest.raises(UsageError, match="lyapunov"):
            verify(Experiment("random-network", wrong), ["lyapunov"])
    with pytest.raises(UsageError, match="lyapunov.values"):
        verify(Experiment("lorenz", ["lyapunov.parameter=rho"]), ["lyapunov"])


def test_eight_memories_on_the_corners_of_a_cube():
    """Eight attractors; the twelve edges have a saddle with one growing mode each, whose two ways lead to its ends."""
    e = Experiment("three-bits")
    table = fixed_points(e.field, np.random.default_rng(0).uniform(-2.5, 2.5, (1500, 32)), x=[0.0] * 3)
    memories = table[table.stable]
    assert len(memories) == 8
    # every pulse sets its own bit and no other: from each memory, by each input, to another or the same
    reached = set()
    for k, row in enumerate(memories):
        for channel in range(3):
            for sign in (-1.0, 1.0):
                x = sign * np.eye(3)[channel]
                pulse = ctrnn.simulate(ctrnn.Problem(e.field, row.r, (0.0, 1.0), x=x))
                rest = ctrnn.simulate(ctrnn.Problem(e.field, pulse.r[-1], (0.0, 40.0), x=[0.0] * 3))
                apart = np.linalg.norm(memories.r - rest.r[-1], axis=1)
                assert apart.min() < 1e-3
                reached.add((k, channel, sign, int(apart.argmin())))
    assert len(reached) == 48
    for k in range(8):  # three of the six pulses change nothing
        assert sum(j == i for i, _, _, j in reached if i == k) == 3
    assert (table.index == 1).sum() >= 12
