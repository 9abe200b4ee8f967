"""Many trials: a batch is its trials, whatever their company; sums, errors, per-trial times and inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ctrnn
from ctrnn import Equations, Objective, RateNetwork, Readout, Trials, gradient, simulate
from ctrnn.errors import UsageError
from ctrnn.inputs import Pulse, Sine

NETWORK = RateNetwork(5, inputs=1, gain=1.4, seed=3)
RNG = np.random.default_rng(0)
R0 = RNG.normal(size=(4, 5))
SPANS = [(0.0, 1.0), (0.0, 2.5), (-1.0, 0.5), (2.0, 3.0)]
INPUTS = [Pulse(0.3, 0.4), Sine(0.7), Pulse(-0.5, 0.2) + 0.1, 0.5]


def objective(span: tuple[float, float], seed: int) -> Objective:
    """Observations of a linear read-out at two times of the span, the end among them."""
    y = np.random.default_rng(seed).normal(size=(2, 2))
    readout = Readout(np.random.default_rng(9).normal(size=(2, 5)), c=[0.1, -0.2])
    return Objective(target=y, at=[0.5 * (span[0] + span[1]), span[1]], readout=readout)


def trials() -> Trials:
    return Trials(NETWORK, R0, SPANS, INPUTS, [objective(s, b) for b, s in enumerate(SPANS)])


@pytest.mark.parametrize("method", ["adjoint", "rtrl", "rtrl-continuous"])
def test_a_batch_is_its_trials(method):
    """Bit for bit, and the sums are sums."""
    batch = trials()
    g = gradient(batch, method)
    alone = [gradient(problem, method) for problem in batch]
    for b, one in enumerate(alone):
        np.testing.assert_array_equal(g.trials[b].vector, one.vector)
        np.testing.assert_array_equal(g.r0[b], one.r0)
        assert g.losses[b] == one.loss
    np.testing.assert_allclose(g.vector, sum(one.vector for one in alone), rtol=1e-14)
    np.testing.assert_allclose(g.readout["V"], sum(one.readout["V"] for one in alone), rtol=1e-14)
    np.testing.assert_array_equal(g.parameters["W"], g.vector[:25].reshape(5, 5))
    assert g.loss == pytest.approx(sum(one.loss for one in alone), rel=1e-15)


@given(order=st.permutations(range(4)), size=st.integers(1, 4))
def test_a_trial_does_not_know_its_company(order, size):
    batch = trials()
    company = Trials.of([batch[b] for b in order[:size]])
    for b, run in zip(order, simulate(company, rtol=1e-6), strict=False):
        alone = simulate(batch[b], rtol=1e-6)
        np.testing.assert_array_equal(run.t, alone.t)
        np.testing.assert_array_equal(run.r, alone.r)


def test_shared_things_are_shared():
    batch = Trials(NETWORK, R0, (0.0, 1.0), x=0.2)
    assert len(batch) == 4 and all(problem.t_span == (0.0, 1.0) for problem in batch)
    one_start = Trials(NETWORK, R0[0], (0.0, 1.0), x=INPUTS)
    assert len(one_start) == 4
    assert all((problem.r0 == R0[0]).all() for problem in one_start)
    assert len(batch[1:3]) == 2 and batch[1:3].problems == batch.problems[1:3]


def test_tables_of_states():
    field = Equations({"x": "-x", "y": "x - y"})
    batch = Trials(field, [{"x": 1.0, "y": 0.0}, {"y": 2.0, "x": 3.0}], (0.0, 1.0))
    np.testing.assert_array_equal([problem.r0 for problem in batch], [[1.0, 0.0], [3.0, 2.0]])


def test_replace_moves_the_field_of_all():
    batch = trials()
    moved = batch.replace(field=NETWORK.with_parameters(b=np.ones(5)))
    assert all((problem.field.parameters["b"] == 1.0).all() for problem in moved)
    np.testing.assert_array_equal([p.r0 for p in batch.replace(r0=2 * R0)], 2 * R0)


def test_torch_fields_run_side_by_side_too():
    import torch

    field = ctrnn.TorchField(lambda t, r, w, x: -w["k"] * r, n=1, parameters={"k": 1.5})
    batch = Trials(field, [[1.0], [2.0], [3.0]], (0.0, 1.0))
    ends = [run.r[-1, 0] for run in simulate(batch, save_at=[1.0])]
    np.testing.assert_allclose(ends, np.arange(1, 4) * np.exp(-1.5), rtol=1e-7)
    assert torch.get_num_threads() >= 1


def test_one_failing_trial_says_what_failed():
    field = Equations({"r": "r**2"})
    with pytest.raises(ctrnn.errors.SolverError) as caught:
        simulate(Trials(field, [[0.1], [1.0]], (0.0, 2.0)))
    assert 0.9 < caught.value.t < 1.001  # the second trial blows up at 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"r0": R0, "t_span": SPANS[:2]}, "r0 of 4 trials, t_span of 2"),
        ({"r0": R0[0], "t_span": (0.0, 1.0)}, "nothing that comes as a batch"),
        ({"r0": R0[:, :3], "t_span": (0.0, 1.0)}, "trial 0: r0"),
        ({"r0": R0, "t_span": [(0.0, 1.0)] * 3 + [(1.0, 0.0)]}, "trial 3: t_span"),
    ],
)
def test_what_is_refused(arguments, says):
    with pytest.raises(UsageError, match=says):
        Trials(NETWORK, **arguments)


def test_several_fields_are_refused():
    other = RateNetwork(5, inputs=1, seed=4)
    with pytest.raises(UsageError, match="several fields"):
        Trials.of([ctrnn.Problem(f, R0[0], (0.0, 1.0)) for f in (NETWORK, other)])
