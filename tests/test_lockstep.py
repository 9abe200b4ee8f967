"""Trials in lockstep: the tiles, and BPTT of dense networks against torch's autograd and the stepper's recording."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

import ctrnn
from ctrnn import Adjoint, Objective, Problem, RateNetwork, Readout, Trials, gradient
from ctrnn.errors import DivergenceError
from ctrnn.gradients.recording import rows
from ctrnn.gradients.recording.base import Needs
from ctrnn.gradients.recording.rows import RowsRecording
from ctrnn.gradients.trials import TrialsGradient
from ctrnn.inputs import Sampled, Sine
from ctrnn.kernels.abi import LEAN, at
from ctrnn.kernels.batch.tiles import LANES, call_multiply_add, multiply_add, padded
from ctrnn.problem import Settings

ADDRESS = multiply_add.address
STEPS = {"solver": "rk4", "dt": 0.1}


@njit(**{**LEAN, "cache": False})
def multiplied(address, A, M, C, transposed, turned):
    """C += A M of the first K columns of A, or Aᵀ M of the first rows of Aᵀ; ``turned``: from the end of M on."""
    width, K = M.shape[1], M.shape[0]
    row, column = (1, A.shape[1]) if transposed else (A.shape[1], 1)
    back, way = (K - 1) * turned, 1 - 2 * turned
    call_multiply_add(
        address, C.shape[0], K, at(A) + 8 * back * column, row, way * column, at(M) + 8 * back * width, way * width,
        at(C), width, width // LANES,
    )  # fmt: skip


def whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Whole numbers whose products and sums are exact."""
    return rng.integers(-50, 50, shape).astype(float)


@given(q=st.integers(1, 11), K=st.integers(0, 9), n=st.integers(1, 90), seed=st.integers(0, 99), turned=st.booleans())
@settings(deadline=None)
def test_products_are_exact_for_whole_numbers(q, K, n, seed, turned):
    rng = np.random.default_rng(seed)
    A, M, C = whole(rng, q, K + 2), whole(rng, K, padded(n)), whole(rng, q, padded(n))
    expected = C + A[:, :K] @ M
    multiplied(ADDRESS, A, M, C, False, turned)
    np.testing.assert_array_equal(C, expected)


@given(n=st.integers(1, 11), S=st.integers(0, 300), columns=st.integers(1, 40), seed=st.integers(0, 99))
@settings(deadline=None)
def test_transposed_products_are_exact_for_whole_numbers(n, S, columns, seed):
    rng = np.random.default_rng(seed)
    A, M, C = whole(rng, S, n + 3), whole(rng, S, padded(columns)), whole(rng, n, padded(columns))
    expected = C + A[:, :n].T @ M
    multiplied(ADDRESS, A, M, C, True, False)
    np.testing.assert_array_equal(C, expected)


@given(q=st.integers(1, 9), n=st.integers(1, 70), seed=st.integers(0, 99))
@settings(deadline=None)
def test_a_row_is_the_same_in_any_company(q, n, seed):
    """Bit for bit; of numbers that round."""
    rng = np.random.default_rng(seed)
    A, M = rng.normal(size=(q, n)), rng.normal(size=(n, padded(n)))
    together_, alone = np.ones((2, q, padded(n)))
    multiplied(ADDRESS, A, M, together_, False, False)
    for e in range(q):
        multiplied(ADDRESS, A[e : e + 1], M, alone[e : e + 1], False, False)
    np.testing.assert_array_equal(together_, alone)


# --- the gradient


def driven(field: RateNetwork, r0: object = 0.3, objective: Objective | None = None, **more: object) -> Problem:
    """Times that no step of 0.1 meets, and an input that jumps."""
    jump = Sampled([0.0, 0.55], [[0.5], [-1.0]], kind="hold")
    x = ctrnn.inputs.stack(Sine(0.7), jump) if field.input_size == 2 else None
    if objective is None:
        target = np.random.default_rng(5).normal(size=(3, field.n))
        objective = Objective(target=target, at=[0.0, 0.77, 1.3], weight=[1.0, 2.0, 0.5])
    return Problem(field, r0, (0.0, 1.3), x, objective, **more)


def agree(problem: Problem, digits: float = 1e-12, **steps: object) -> None:
    """With torch's autograd through the same steps, and with the general kernels."""
    steps = STEPS | steps
    assert RowsRecording.supports([problem], Settings(**steps), Needs())
    g = gradient(problem, "adjoint", **steps)
    for other in (gradient(problem, "autograd", **steps), gradient(problem, Adjoint("checkpoint"), **steps)):
        assert g.loss == pytest.approx(other.loss, rel=digits)
        np.testing.assert_allclose(g.vector, other.vector, rtol=0, atol=digits * np.abs(other.vector).max())
        np.testing.assert_allclose(g.r0, other.r0, rtol=0, atol=digits * np.abs(other.r0).max())
        if g.readout is not None:
            np.testing.assert_allclose(g.readout["V"], other.readout["V"], rtol=digits, atol=digits)


@pytest.mark.parametrize("form", ["state", "rate"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus", "relu", "linear", "erf"])
def test_every_cell_to_1e_12(activation, form):
    tau = np.linspace(0.5, 1.5, 5)
    agree(driven(RateNetwork(5, inputs=2, tau=tau, activation=activation, form=form, train_tau=True, seed=2)))


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "rk4", "bosh3", "tsit5", "dopri5", "dop853"])
def test_every_tableau_to_1e_12(solver):
    agree(driven(RateNetwork(6, inputs=2, gain=1.4, seed=0)), solver=solver)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 33, 100])
def test_every_width_to_1e_12(n):
    agree(driven(RateNetwork(n, inputs=2, gain=1.4, seed=0)))
    agree(driven(RateNetwork(n, gain=1.4, train_tau=True, seed=0)))


def test_a_mask_that_leaves_out_little_to_1e_12():
    mask = np.random.default_rng(0).random((9, 9)) < 0.8
    problem = driven(RateNetwork(9, inputs=2, mask=mask, seed=0))
    agree(problem)
    assert not gradient(problem, "adjoint", **STEPS).parameters["W"][~mask].any()


def test_an_integral_and_a_readout_to_1e_12():
    field = RateNetwork(6, inputs=2, gain=1.4, seed=0)
    readout = Readout(np.random.default_rng(0).normal(size=(2, 6)), c=[0.1, 0.2])
    agree(driven(field, objective=Objective(target=Sine([0.3, 0.4]), weight=Sine(0.2) + 2.0, readout=readout)))
    agree(driven(field, objective=Objective(target=np.ones((2, 2)), at=[0.4, 1.3], readout=readout)))


def test_blocks_of_steps_to_1e_12():
    """6,500 steps, two blocks of the stepper's."""
    agree(driven(RateNetwork(4, inputs=2, gain=1.4, seed=0)), solver="heun", dt=2e-4)


def test_networks_of_lists_of_weights_do_not_go_by_rows():
    for mask, by_rows in ((np.eye(20), False), (np.kron(np.eye(2), np.ones((20, 20))), True)):
        problem = driven(RateNetwork(len(mask), mask=mask, seed=0))
        assert RowsRecording.supports([problem], Settings(**STEPS), Needs()) == by_rows


R0 = np.random.default_rng(0).normal(size=(23, 5))


def batch(shared_input: bool, B: int = 23) -> Trials:
    field = RateNetwork(5, inputs=1, gain=1.4, train_tau=True, seed=3)
    x = Sine(0.7) if shared_input else [Sine(0.1 * (b + 1)) for b in range(B)]
    objectives = [Objective(target=np.full((2, 5), 0.1 * b), at=[0.33, 1.3]) for b in range(B)]
    return Trials(field, R0[:B], (0.0, 1.3), x, objectives)


@pytest.mark.parametrize("shared_input", [True, False])
def test_a_batch_is_its_trials(shared_input):
    """Losses and dl/dr0 bit for bit, dl/dw to 1e-14."""
    trials = batch(shared_input)
    g = gradient(trials, "adjoint", **STEPS)
    assert isinstance(g, TrialsGradient) and "trials" not in vars(g)
    alone = [gradient(problem, "adjoint", **STEPS) for problem in trials]
    np.testing.assert_array_equal(g.losses, [one.loss for one in alone])
    np.testing.assert_array_equal(g.r0, [one.r0 for one in alone])
    expected = sum(one.vector for one in alone)
    np.testing.assert_allclose(g.vector, expected, rtol=0, atol=1e-14 * np.abs(expected).max())
    for one, its in zip(alone, g.trials, strict=True):
        np.testing.assert_array_equal(its.vector, one.vector)
    assert g.stats.steps == sum(one.stats.steps for one in alone)
    assert g.stats.evaluations == sum(one.stats.evaluations for one in alone)


@given(order=st.permutations(range(23)), size=st.integers(1, 23), shared_input=st.booleans())
@settings(deadline=None, max_examples=30)
def test_a_trial_does_not_know_its_company(order, size, shared_input):
    trials = batch(shared_input)
    everyone = gradient(trials, "adjoint", **STEPS)
    some = gradient(Trials.of([trials[b] for b in order[:size]]), "adjoint", **STEPS)
    np.testing.assert_array_equal(some.losses, everyone.losses[list(order[:size])])
    np.testing.assert_array_equal(some.r0, everyone.r0[list(order[:size])])


def test_groups_that_fit_into_memory_add_up(monkeypatch):
    whole_ = gradient(batch(False), "adjoint", **STEPS)
    monkeypatch.setattr("ctrnn.gradients.recording.rows.TOGETHER_BYTES", 2**13)
    few = gradient(batch(False), "adjoint", **STEPS)
    np.testing.assert_array_equal(few.losses, whole_.losses)
    np.testing.assert_allclose(few.vector, whole_.vector, rtol=1e-12, atol=1e-14)


def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    monkeypatch.setattr("ctrnn.fields.rows.WORTH_THREADS", 0.0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(3)), raising=False)
    found = []
    for threads in "123":
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(gradient(batch(False), "adjoint", **STEPS).vector.tobytes())
    assert len(set(found)) == 1


def test_several_lengths_go_one_by_one():
    field = RateNetwork(5, seed=3)
    spans = [(0.0, 1.0), (0.0, 2.0)]
    trials = Trials(field, R0[:2], spans, objective=[Objective(target=0.0, at=[t1]) for _, t1 in spans])
    g = gradient(trials, "adjoint", **STEPS)
    np.testing.assert_array_equal(g.vector, sum(gradient(p, "adjoint", **STEPS).vector for p in trials))


def test_the_trial_that_diverges_is_named():
    field = RateNetwork(2, activation="linear", seed=0).with_parameters(W=1e3 * np.eye(2))
    trials = Trials(field, [[0.0, 0.0], [1.0, 0.0]], (0.0, 50.0), objective=Objective(target=0.0, at=[50.0]))
    with pytest.raises(DivergenceError, match="in trial 1"):
        gradient(trials, "adjoint", **STEPS)
    with pytest.raises(DivergenceError, match="infinite or NaN.*t = "):
        gradient(trials[1], "adjoint", **STEPS)


def test_the_error_of_a_divergence_is_that_of_the_general_kernels(monkeypatch):
    """The last good time and state, also where the first step of a block fails; nobody writes to it afterwards."""
    field = RateNetwork(1, inputs=1, activation="linear").with_parameters(W=np.zeros((1, 1)), U=np.full((1, 1), 1e200))
    x = Sampled([0.0, 6.4], [[0.0], [1e200]], kind="hold")
    problem = Problem(field, [1.0], (0.0, 20.0), x, Objective(target=0.0, at=[20.0]))
    monkeypatch.setattr(rows, "BLOCK", 64)
    found = []
    for method in (Adjoint("checkpoint"), "adjoint", "adjoint"):
        with pytest.raises(DivergenceError) as error:
            gradient(problem, method, **STEPS)
        found.append(error.value)
    general, *ours = found
    for one in ours:
        assert one.t == pytest.approx(general.t, rel=1e-14)
        np.testing.assert_allclose(one.r, general.r, rtol=1e-13)
        assert one.r.base is None


def test_the_trial_that_diverges_is_named_in_groups_too(monkeypatch):
    monkeypatch.setattr(rows, "TOGETHER_BYTES", 2**10)
    field = RateNetwork(2, activation="linear", seed=0).with_parameters(W=1e3 * np.eye(2))
    r0 = np.zeros((9, 2))
    r0[7] = 1.0
    with pytest.raises(DivergenceError, match="in trial 7"):
        gradient(Trials(field, r0, (0.0, 50.0), objective=Objective(target=0.0, at=[50.0])), "adjoint", **STEPS)


def test_functions_of_time_are_asked_again():
    size = [1.0]
    objective = Objective(target=0.3, at=[1.3])
    problem = Problem(RateNetwork(5, inputs=1, seed=0), 0.3, (0.0, 1.3), lambda t: size[0] * np.sin(t), objective)
    for size[0] in (1.0, 3.0):
        agree(problem)


def test_networks_of_other_sizes_do_not_share_what_an_objective_asks():
    one = driven(RateNetwork(5, gain=1.4, seed=0), objective=Objective(target=0.4))
    agree(one)
    for n in (1, 3, 8):
        agree(one.replace(field=RateNetwork(n, gain=1.4, seed=1), r0=0.2))


def test_a_gradient_of_trials_can_be_pickled():
    g = gradient(batch(False, 3), "adjoint", **STEPS)
    back = pickle.loads(pickle.dumps(g))
    np.testing.assert_array_equal(back.vector, g.vector)
    np.testing.assert_array_equal(back.trials[1].vector, g.trials[1].vector)


def test_what_is_remembered_of_a_run_is_of_that_run():
    """Another dt, another field, another start, another input, and blocks that are shorter."""
    first = driven(RateNetwork(6, inputs=2, gain=1.4, seed=0))
    gradient(first, "adjoint", **STEPS)
    fresh = driven(RateNetwork(6, inputs=2, gain=1.4, seed=1), r0=0.1)
    again = first.replace(field=fresh.field, r0=0.1)
    assert again.timelines is first.timelines
    for steps in (STEPS, STEPS | {"dt": 0.05}, STEPS | {"solver": "heun"}, STEPS):
        for _ in range(2):
            ours, theirs = (gradient(p, "adjoint", **steps).vector for p in (again, driven(fresh.field, r0=0.1)))
            np.testing.assert_array_equal(ours, theirs)
    other = first.replace(x=ctrnn.inputs.stack(Sine(0.9), Sine(0.2)))
    assert other.timelines is not first.timelines
    on_cpu = gradient(first, ctrnn.RTRL(block=3, device="cpu"), **STEPS).vector
    np.testing.assert_allclose(on_cpu, gradient(first, "adjoint", **STEPS).vector, rtol=1e-11, atol=1e-13)


def test_working_memory_is_not_given_out_twice():
    """A callable loss that asks for another gradient while the first one is under way."""
    import torch

    inner = driven(RateNetwork(5, gain=1.4, seed=0))
    expected = gradient(inner, "adjoint", **STEPS).vector
    seen = []

    def loss(o: torch.Tensor) -> torch.Tensor:
        seen.append(gradient(inner, "adjoint", **STEPS).vector)
        return (o**2).sum()

    outer = driven(RateNetwork(5, gain=1.4, seed=1), objective=Objective(loss, at=[0.7, 1.3]))
    for _ in range(2):
        g = gradient(outer, "adjoint", **STEPS)
    assert seen
    for vector in seen:
        np.testing.assert_array_equal(vector, expected)
    plain = driven(
        RateNetwork(5, gain=1.4, seed=1), objective=Objective("squared_error", target=0.0, weight=2.0, at=[0.7, 1.3])
    )
    np.testing.assert_allclose(g.vector, gradient(plain, "adjoint", **STEPS).vector, rtol=1e-12)


def test_what_another_thread_takes_away_is_made_again():
    """Several threads with steps of their own on one problem: what is remembered may go between any two looks at it."""

    class Short(dict):
        def __contains__(self, key):
            found = super().__contains__(key)
            self.clear()
            return found

        def get(self, key, default=None):
            found = super().get(key, default)
            self.clear()
            return found

    problem = Problem(
        RateNetwork(3, inputs=1, seed=0), 0.1, (0.0, 1.0), Sine(1.0), Objective(target=np.ones((1, 3)), at=[1.0])
    )
    expected = gradient(problem, "adjoint", **STEPS).vector
    problem.timelines = Short(problem.timelines)
    for _ in range(3):
        np.testing.assert_array_equal(gradient(problem, "adjoint", **STEPS).vector, expected)


def test_another_time_constant_shares_the_graph_and_not_its_numbers():
    network = RateNetwork(6, inputs=1, seed=0)
    problem = Problem(network, np.zeros((3, 6)), (0.0, 1.0), Sine(0.7), Objective(target=1.0, at=[1.0]))
    gradient(problem, "adjoint", **STEPS)
    for tau in (0.5, np.linspace(0.5, 2.0, 6)):
        one = gradient(problem.replace(field=network.with_time_constant(tau)), "adjoint", **STEPS)
        other = gradient(problem.replace(field=RateNetwork(6, inputs=1, tau=tau, seed=0)), "adjoint", **STEPS)
        np.testing.assert_array_equal(one.vector, other.vector)
    assert network.with_time_constant(0.5)._arrays is network._arrays
