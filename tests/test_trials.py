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
        ({"r0": [R0[0, :3]], "t_span": (0.0, 1.0)}, "r0: got"),
        ({"r0": R0, "t_span": [(0.0, 1.0)] * 3 + [(1.0, 1.0)]}, "trial 3: t_span"),
    ],
)
def test_what_is_refused(arguments, says):
    with pytest.raises(UsageError, match=says):
        Trials(NETWORK, **arguments)


def test_several_fields_are_refused():
    other = RateNetwork(5, inputs=1, seed=4)
    with pytest.raises(UsageError, match="several fields"):
        Trials.of([ctrnn.Problem(f, R0[0], (0.0, 1.0)) for f in (NETWORK, other)])


# --- Problem makes trials


def test_a_problem_of_a_batch_is_its_trials():
    spans, objectives = SPANS, [objective(s, b) for b, s in enumerate(SPANS)]
    batch = ctrnn.Problem(NETWORK, r0=R0, t_span=spans, x=INPUTS, objective=objectives)
    assert isinstance(batch, Trials) and len(batch) == 4
    np.testing.assert_array_equal(gradient(batch).vector, gradient(trials()).vector)
    for changes in ({"r0": R0}, {"r0": list(R0)}, {"t_span": SPANS}, {"x": INPUTS}):
        made = ctrnn.Problem(**({"field": NETWORK, "r0": R0[0], "t_span": (0.0, 1.0)} | changes))
        assert isinstance(made, Trials) and len(made) == 4
    alone = ctrnn.Problem(NETWORK, R0[0], (0.0, 1.0))
    assert isinstance(alone, ctrnn.Problem) and isinstance(alone.replace(r0=R0), Trials)


def test_lists_that_are_no_batch():
    field = Equations({"r": "-r + x*y"}, inputs=("x", "y"))
    assert isinstance(ctrnn.Problem(field, r0=[1.0], t_span=(0.0, 1.0), x=[0.5, 1.0]), ctrnn.Problem)
    with pytest.raises(UsageError, match="Sampled"):  # rows of numbers are neither a constant nor trials
        ctrnn.Problem(field, r0=[1.0], t_span=(0.0, 1.0), x=[[0.5, 1.0], [0.2, 1.0]])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"r0": R0[:, :3]}, r"r0: got 'shape \(4, 3\)'; allowed: shape \(5,\), or \(B, 5\)"),
        ({"r0": np.ones((4, 5, 2))}, r"r0: got 'shape \(4, 5, 2\)'"),
        ({"r0": [R0[0], R0[1][:2]]}, "trial 1: r0: got 'shape"),
        ({"r0": R0 * np.nan}, "trial 0: r0: .*finite"),
        ({"r0": [R0, R0]}, "trial 0: trials: got 'a batch inside a batch'"),
        ({"r0": R0, "t_span": SPANS[:2]}, "r0 of 4 trials, t_span of 2"),
        ({"r0": R0, "x": [0.1, "pulse", 0.2, Sine(0.1)]}, "trial 1: input: got 'pulse'"),
        ({"r0": R0, "objective": [Objective(target=0.0, at=[2.0])] * 4}, "trial 0: objective.at"),
    ],
)
def test_a_batch_that_does_not_fit_names_the_argument_and_the_trial(changes, says):
    with pytest.raises(UsageError, match=says):
        ctrnn.Problem(**({"field": NETWORK, "r0": R0[0], "t_span": (0.0, 1.0)} | changes))


def test_what_is_for_one_problem_says_so():
    with pytest.raises(UsageError, match=r"problem: got Trials\(4 .*Try: one trial of the batch: trials\[0\]"):
        ctrnn.analysis.lyapunov_spectrum(trials())


# --- times, sensitivities, comparison, certificate


def test_each_trial_at_its_own_times():
    times = [[0.5, 1.0], [2.5], [-0.5], [2.5, 3.0]]
    batch = trials()
    for run, s, problem, t in zip(
        simulate(batch, save_at=times), ctrnn.sensitivities(batch, times, rtol=1e-6), batch, times, strict=True
    ):
        np.testing.assert_array_equal(run.r, simulate(problem, save_at=t).r)
        np.testing.assert_array_equal(s.p, ctrnn.sensitivities(problem, t, rtol=1e-6).p)
    with pytest.raises(UsageError, match="save_at: got '2 lists of times'; allowed: 4, one a trial"):
        simulate(batch, save_at=times[:2])


LOGISTIC = Equations({"r": "a*r*(1 - r/K)"}, parameters={"a": 0.9, "K": 2.0})
T = np.array([0.5, 1.0, 1.5, 2.0])


def logistic(r0: float, a: float, K: float) -> np.ndarray:
    """r0 e^(at) / (1 + r0 (e^(at) − 1)/K) at the times T, (4, 1)."""
    return (r0 * np.exp(a * T) / (1.0 + r0 * (np.exp(a * T) - 1.0) / K))[:, None]


def growth(shared: bool = False, noise: float = 0.0) -> Trials:
    """Three trials of one logistic equation, from data with a = 1.1, K = 1.7."""
    starts, rng = [0.3] * 3 if shared else [0.3, 0.5, 0.8], np.random.default_rng(4)
    data = [logistic(s, 1.1, 1.7) + noise * rng.normal(size=(4, 1)) for s in starts]
    objectives = [Objective(target=y, at=T, weight=1.0 + b) for b, y in enumerate(data)]
    r0 = [0.4] if shared else np.array(starts)[:, None]
    return Trials(LOGISTIC, r0, (0.0, 2.0), objective=objectives)


def test_the_comparison_of_a_batch():
    table = ctrnn.compare_gradients(growth(), ["adjoint", "rtrl", "adjoint-interpolate"])
    assert table.reference == "complex step" and table["adjoint, discrete"].digits > 12
    assert all(row.gradient.r0.shape == (3, 1) and (row.is_reference or row.digits > 6) for row in table)
    assert len(str(table).splitlines()) == 8


def test_the_certificate_of_a_sum():
    """Its error is that of the sum, against a gradient at 1e-13, to 1 %; its trials are those of single problems."""
    batch, loose = growth(), {"rtol": 1e-6, "atol": 1e-8}
    g, exact = gradient(batch, **loose, certify=True), gradient(batch, solver="dop853", rtol=1e-13, atol=1e-14)
    w = [np.concatenate([LOGISTIC.vector * v.vector, batch.r0.ravel() * v.r0.ravel()]) for v in (g, exact)]
    error = np.linalg.norm(w[0] - w[1]) / np.linalg.norm(w[1])
    assert g.certificate.error == pytest.approx(error, rel=0.01) and 1e-9 < error < 1e-4
    alone = [gradient(problem, **loose, certify=True).certificate for problem in batch]
    assert [one.error for one in g.certificate.trials] == [one.error for one in alone]
    assert g.certificate.worst == np.argmax([one.error for one in alone])
    assert "of 3 trials" in str(g) and f"trial {g.certificate.worst}" in g.certificate.text and not g.certificate.lost


# --- second order


def differences(batch: Trials, r0: bool, **options) -> np.ndarray:
    """H by central differences of the gradient."""
    start = np.concatenate([batch.field.vector, np.ravel(batch.r0)[: batch.r0.size * r0]])

    def slope(v: np.ndarray) -> np.ndarray:
        m = batch.field.m
        moved = batch.replace(field=batch.field.with_vector(v[:m]))
        if r0:
            moved = moved.replace(r0=v[m:].reshape(batch.r0.shape))
        g = gradient(moved, **options)
        r0_part = g.r0.sum(axis=0) if batch.shares_r0 else g.r0.ravel()
        return np.concatenate([g.vector, r0_part[: r0_part.size * r0]])

    e = 1e-5
    return np.stack([(slope(start + e * d) - slope(start - e * d)) / (2 * e) for d in np.eye(len(start))])


@pytest.mark.parametrize("shared", [False, True], ids=["own-r0", "shared-r0"])
def test_second_derivatives_of_a_batch(shared):
    """To 8 digits of differences; the sum over the trials to round-off; products are those of the matrix."""
    batch, options = growth(shared), {"solver": "rk4", "dt": 0.1}
    H = ctrnn.hessian(batch, r0=True, **options)
    assert H.shape == ((3, 3) if shared else (5, 5))
    np.testing.assert_allclose(H, differences(batch, True, **options), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(
        ctrnn.hessian(batch, **options), sum(ctrnn.hessian(problem, **options) for problem in batch), rtol=1e-14
    )
    v = np.random.default_rng(0).normal(size=len(H))
    np.testing.assert_allclose(ctrnn.hessian_vector_product(batch, v, r0=True, **options), H @ v, rtol=1e-12)
    if not shared:
        assert not H[2:, 2:][~np.eye(3, dtype=bool)].any()
    M = ctrnn.gauss_newton(batch, r0=True, **options)
    S = [ctrnn.sensitivities(problem, T, rtol=1e-11, atol=1e-13) for problem in batch]
    indices = batch.vector_indices()
    expected = np.zeros_like(M)
    for b, (s, here) in enumerate(zip(S, indices, strict=True)):
        J = np.concatenate([s.p[:, 0], s.p0[:, 0]], axis=1)
        expected[np.ix_(here, here)] += (1.0 + b) * J.T @ J
    np.testing.assert_allclose(M, expected, rtol=1e-4)  # what RK4 of 0.1 is worth


def test_second_derivatives_of_a_batch_with_a_readout_and_another_loss():
    batch = trials()
    for each in (batch, batch.replace(objective=[Objective("r0**2*r1 + exp(r2)", at=[s[1]]) for s in SPANS])):
        sums = sum(ctrnn.hessian(problem, solver="rk4", dt=0.1) for problem in each)
        np.testing.assert_allclose(ctrnn.hessian(each, solver="rk4", dt=0.1), sums, rtol=1e-13, atol=1e-13)


# --- fit and standard errors


@pytest.mark.parametrize("optimizer", ["L-BFGS-B", "gauss-newton", "newton-cg", "adam"])
def test_a_fit_of_a_batch_finds_what_made_the_data(optimizer):
    adam = {"learning_rate": 0.02, "max_iterations": 400} if optimizer == "adam" else {}
    found = ctrnn.fit(growth(), optimizer=optimizer, transform="log", **adam)
    assert isinstance(found.problem, Trials) and found.r0.shape == (3, 1)
    np.testing.assert_allclose(found.problem.field.vector, [1.1, 1.7], rtol=2e-2 if optimizer == "adam" else 1e-5)
    np.testing.assert_array_equal(found.r0, growth().r0)
    assert "a  " in str(found)


def test_each_trial_fits_its_own_r0_or_the_one_that_all_share():
    rough = growth().replace(r0=[[0.4], [0.4], [0.4]])
    own = ctrnn.fit(rough, r0=True, optimizer="gauss-newton")
    np.testing.assert_allclose(own.r0.ravel(), [0.3, 0.5, 0.8], rtol=1e-6)
    assert list(own.standard_errors) == ["a", "K", "r0[0,r]", "r0[1,r]", "r0[2,r]"]
    assert "r0 (3x1)" in str(own)
    shared = ctrnn.fit(growth(shared=True), r0=True)
    assert shared.problem.shares_r0 and shared.r0.shape == (1,)
    np.testing.assert_allclose(shared.r0, [0.3], rtol=1e-4)
    assert list(shared.standard_errors) == ["a", "K", "r0[r]"] and "r0[r]" in str(shared)


def test_standard_errors_of_a_batch_against_linear_regression():
    """r = r0 + k t in three trials with their own r0 (an intercept each): the textbook's errors, to 8 digits."""
    line = Equations({"r": "k"}, parameters={"k": 1.0})
    rng, times = np.random.default_rng(5), np.array([1.0, 2.0, 4.0])
    data = [2.0 + b + 0.7 * times + 0.1 * rng.normal(size=3) for b in range(3)]
    batch = Trials(line, np.ones((3, 1)), (0.0, 4.0), objective=[Objective(target=y, at=times) for y in data])
    found = ctrnn.fit(batch, r0=True, optimizer="gauss-newton")
    X = np.zeros((9, 4))
    X[:, 0] = np.tile(times, 3)
    X[np.arange(9), 1 + np.repeat(np.arange(3), 3)] = 1.0
    best, rest, *_ = np.linalg.lstsq(X, np.concatenate(data), rcond=None)
    errors = np.sqrt(np.diag(np.linalg.inv(X.T @ X)) * rest[0] / (9 - 4))
    np.testing.assert_allclose(
        found.r0.ravel(), best[1:], rtol=1e-6
    )  # as far as the rounding of the loss lets an optimiser see
    np.testing.assert_allclose(list(found.standard_errors.values()), errors, rtol=1e-8)


def test_one_readout_is_trained_for_all_trials():
    batch = trials()
    found = ctrnn.fit(batch, ["b"], max_iterations=3)
    assert found.loss < found.initial_loss
    V = found.readout["V"]
    assert all((problem.objective.readout.V == V).all() for problem in found.problem)
    g = gradient(found.problem)
    assert g.loss == pytest.approx(found.loss, rel=1e-12)
    other = Objective(target=[[0.0]], at=[1.0], readout=Readout(np.ones((1, 5))))
    another = Objective(target=[[0.0]], at=[1.0], readout=Readout(np.zeros((1, 5))))
    with pytest.raises(UsageError, match="another read-out in trial 1 than in trial 0"):
        ctrnn.fit(Trials(NETWORK, R0[:2], (0.0, 1.0), objective=[other, another]))


def test_a_trial_without_objective_is_refused():
    batch = Trials.of([growth()[0], growth()[1].replace(objective=None, field=LOGISTIC)])
    for call in (gradient, ctrnn.fit, ctrnn.hessian, ctrnn.gauss_newton, ctrnn.learning.laplace):
        with pytest.raises(UsageError, match="objective"):
            call(batch)


def test_a_batch_with_events():
    """Falls from 1 and from 2: the times on the ground, √(2h/g), and their derivatives."""
    fall = Equations({"h": "v", "v": "-g"}, parameters={"g": 9.81})
    ground = ctrnn.Event("h", terminal=True)
    batch = ctrnn.Problem(fall, [[1.0, 0.0], [2.0, 0.0]], (0.0, 9.0), None, ctrnn.EventObjective("t"), [ground])
    g, times = gradient(batch), np.sqrt(2 * np.array([1.0, 2.0]) / 9.81)
    np.testing.assert_allclose(g.losses, times, rtol=1e-12)
    np.testing.assert_allclose(g.parameters["g"], -times.sum() / (2 * 9.81), rtol=1e-10)
