"""Approximations of RTRL: the published algorithms at dt = τ, unbiased where they say so, exact where theory does.

Everything is compared on finite windows: gradients of losses at given steps, never over a whole stream.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import ctrnn
from ctrnn import KFRTRL, UORO, EProp, Objective, Problem, RateNetwork, Sketch, SnAp, gradient
from ctrnn.errors import UsageError
from ctrnn.gradients.costs import Size
from ctrnn.gradients.methods import METHODS, named
from ctrnn.gradients.recording.stepper import StepperRecording
from ctrnn.gradients.rules.outer import Outer
from ctrnn.gradients.rules.step import Lane, steps_of
from ctrnn.learning import OnlineLearner, tasks
from ctrnn.problem import Settings

EULER, RK4 = Settings("euler", dt=0.25), Settings("rk4", dt=0.25)


def make_problem(field, T=2.5, at=(1.0, 2.0, 2.5)):
    r0 = np.random.default_rng(2).uniform(0.2, 0.8, size=field.n)
    x = ctrnn.inputs.Sine(0.3) if field.input_size else None
    return Problem(field, r0, (0.0, T), x=x, objective=Objective(target=0.3, at=list(at)))


class Run:
    """A recorded run, to lead many memories along."""

    def __init__(self, problem, settings=EULER):
        recording = StepperRecording(problem, settings, "test")
        self.lane = Lane(problem.field, recording.bound, recording.a, recording.b)
        recording.start()
        self.steps = [pair for block in recording.blocks() for pair in steps_of(self.lane, block)]

    def along(self, rule, seed=0, watch=lambda memory, step: None):
        memory = rule.start(self.lane, np.random.default_rng(seed))
        for step, jump in self.steps:
            memory.take(step)
            watch(memory, step)
            if jump is not None:
                memory.add(jump)
        return self.lane.vector(memory.collect())


def error(g, exact):
    return np.linalg.norm(g - exact) / np.linalg.norm(exact)


FIELDS = {
    "rate": lambda: RateNetwork(3, inputs=1, gain=1.3, seed=1, form="rate"),
    "potential, tau trained": lambda: RateNetwork(3, inputs=1, gain=1.3, seed=1, train_tau=True),
    "gated": lambda: ctrnn.GRUNetwork(2, 1, seed=0),
    "before the gate": lambda: ctrnn.GRUNetwork(2, 1, seed=0, reset="before"),
    "adapting": lambda: ctrnn.Equations(
        {"v": "-v + W @ tanh(v) - a + x", "a": "(g*v - a)/3"},
        {"W": np.array([[0.4, -1.0], [0.9, 0.5]]), "g": np.array([0.8, 0.5])},
        states={"v": 2, "a": 2},
        inputs=["x"],
    ),
    "small": lambda: ctrnn.Equations({"u": "a*v - u", "v": "tanh(b*u) - v"}, {"a": 1.1, "b": -2.0}),
}
every_field = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)


# -- the published algorithms, in plain numpy


class Discrete:
    """r⁺ = tanh(Ŵ ŝ), ŝ = [r; x; 1], for 12 steps; a loss Σ (r − 0.3)²/2 at each."""

    n = 3

    def __init__(self):
        rng = np.random.default_rng(7)
        self.W, self.U, self.b = rng.normal(size=(3, 3)), rng.normal(size=(3, 2)), rng.normal(size=3)
        self.x = rng.normal(size=(12, 2))
        r, self.steps = np.full(3, 0.2), []
        for x in self.x:
            s = np.concatenate([r, x, [1.0]])
            r = np.tanh(np.concatenate([self.W, self.U, self.b[:, None]], axis=1) @ s)
            slope = 1 - r**2
            self.steps.append((slope[:, None] * self.W, slope, s, r - 0.3))  # Φ, φ′, ŝ, ∂ℓ/∂r

    def ours(self, method):
        field = RateNetwork(3, inputs=2, form="rate", tau=1.0).with_parameters(W=self.W, U=self.U, b=self.b)
        x = ctrnn.inputs.Sampled(np.arange(12.0), self.x)
        objective = Objective(target=0.3, at=np.arange(1.0, 13.0))
        problem = Problem(field, np.full(3, 0.2), (0.0, 12.0), x=x, objective=objective)
        g = gradient(problem, method, solver="euler", dt=1.0).parameters
        return np.concatenate([g["W"], g["U"], g["b"][:, None]], axis=1)


def numpy_uoro(net, seed):
    rng, s, w, g = np.random.default_rng(seed), np.zeros(3), np.zeros((3, 6)), np.zeros((3, 6))
    for k, (phi, slope, source, row) in enumerate(net.steps):
        nu = 2.0 * rng.integers(0, 2, 3) - 1.0
        pushed, added = phi @ s, np.outer(nu * slope, source)
        rho0 = np.sqrt(np.linalg.norm(w) / np.linalg.norm(pushed)) if k else 1.0
        rho1 = np.sqrt(np.linalg.norm(added) / np.sqrt(3.0))
        s, w = rho0 * pushed + rho1 * nu, w / rho0 + added / rho1
        g += row @ s * w
    return g


def numpy_kf_rtrl(net, seed):
    rng, A, u, g = np.random.default_rng(seed), np.zeros((3, 3)), np.zeros(6), np.zeros((3, 6))
    for k, (phi, slope, source, row) in enumerate(net.steps):
        c1, c2 = 2.0 * rng.integers(0, 2, 2) - 1.0
        pushed, D = phi @ A, np.diag(slope)  # A: states by rows of weights
        p1 = np.sqrt(np.linalg.norm(pushed) / np.linalg.norm(u)) if k else 1.0
        p2 = np.sqrt(np.linalg.norm(D) / np.linalg.norm(source))
        A, u = c1 / p1 * pushed + c2 / p2 * D, c1 * p1 * u + c2 * p2 * source
        g += np.outer(row @ A, u)
    return g


def numpy_eprop(net):
    e, g = np.zeros((3, 6)), np.zeros((3, 6))
    for phi, slope, source, row in net.steps:
        e = np.diag(phi)[:, None] * e + np.outer(slope, source)
        g += row[:, None] * e
    return g


def numpy_sketch(net, rank):
    P, g = np.zeros((3, 3, 6)), np.zeros((3, 6))  # state, row of weights, source
    for phi, slope, source, row in net.steps:
        P = np.einsum("ij,jgc->igc", phi, P)
        P[np.arange(3), np.arange(3)] += slope[:, None] * source
        left, sigma, right = np.linalg.svd(P.reshape(9, 6), full_matrices=False)
        P = ((left[:, :rank] * sigma[:rank]) @ right[:rank]).reshape(3, 3, 6)
        g += np.einsum("i,igc->gc", row, P)
    return g


@pytest.mark.parametrize(
    ("method", "known"),
    [
        (UORO(5), lambda net: numpy_uoro(net, 5)),
        (KFRTRL(5), lambda net: numpy_kf_rtrl(net, 5)),
        (EProp(), numpy_eprop),
        (Sketch(2), lambda net: numpy_sketch(net, 2)),
    ],
    ids=["uoro", "kf-rtrl", "e-prop", "sketch"],
)
def test_at_dt_tau_it_is_the_published_algorithm(method, known):
    """To 1e-12, with the same random signs."""
    net = Discrete()
    ours, theirs = net.ours(method), known(net)
    assert error(ours, theirs) < 1e-12
    assert error(ours, net.ours("rtrl")) > 0.02  # and it is no exact gradient


# -- unbiased


@pytest.mark.parametrize("settings", [EULER, RK4], ids=["euler", "rk4"])
@pytest.mark.parametrize(
    ("rule", "field"),
    [(UORO, name) for name in FIELDS] + [(KFRTRL, name) for name in FIELDS if name != "small"],
    ids=lambda value: value if isinstance(value, str) else value().facts.name,
)
def test_the_mean_over_signs_is_the_exact_gradient(rule, field, settings):
    """Within four standard errors of 250 draws in each parameter, and they are small; one draw is far off."""
    problem = make_problem(FIELDS[field]())
    run = Run(problem, settings)
    drawn = np.array([run.along(rule(), seed) for seed in range(250)])
    exact = gradient(problem, "adjoint", solver=settings.solver, dt=settings.dt).vector
    standard = drawn.std(axis=0, ddof=1) / np.sqrt(len(drawn))
    assert (abs(drawn.mean(axis=0) - exact) <= 4 * standard + 1e-12).all()
    assert np.linalg.norm(standard) < 0.4 * np.linalg.norm(exact)
    assert np.median([error(g, exact) for g in drawn[:50]]) > 0.05


def test_kf_rtrl_is_less_noisy_than_uoro():
    """Its variance is smaller by a factor that grows with n."""
    ratio = []
    for n in (3, 12):
        problem = make_problem(RateNetwork(n, inputs=1, gain=1.0, seed=3, form="rate"))
        run, exact = Run(problem), gradient(problem, "adjoint", solver="euler", dt=0.25).vector
        spread = [
            np.mean([error(run.along(rule(), seed), exact) ** 2 for seed in range(100)]) for rule in (UORO, KFRTRL)
        ]
        ratio.append(spread[0] / spread[1])
    assert ratio[0] > 2 and ratio[1] > 2 * ratio[0]


def test_which_parameters_are_weights_times_sources():
    """Read off F_w: dense rows share their sources, trained τ and sparse rows are sets of their own."""

    def sets(field):
        outer = Outer(Run(make_problem(field)).lane)
        return sorted(len(members) for members in outer.sets), len(outer.others)

    assert sets(RateNetwork(5, inputs=1, seed=0)) == ([5], 0)
    assert sets(RateNetwork(5, inputs=1, seed=0, train_tau=True)) == ([1, 5], 0)
    assert sets(ctrnn.GRUNetwork(3, 1, seed=0, reset="before"))[0][-1] >= 3
    assert sets(FIELDS["small"]()) == ([], 1)


def test_kf_rtrl_refuses_a_field_without_weights_times_sources():
    with pytest.raises(
        UsageError, match="method: got 'kf-rtrl'; allowed: .*weights times sources.*Try: method=\"uoro\""
    ):
        gradient(make_problem(FIELDS["small"]()), "kf-rtrl", solver="euler", dt=0.1)


# -- the sketch


@every_field
@pytest.mark.parametrize("settings", [EULER, RK4], ids=["euler", "rk4"])
def test_a_sketch_of_full_rank_is_exact(field, settings):
    """To 1e-12; of rank 1 it is not."""
    problem = make_problem(field())
    exact = gradient(problem, "adjoint", solver=settings.solver, dt=settings.dt).vector
    run = Run(problem, settings)
    assert error(run.along(Sketch(rank=40)), exact) < 1e-12
    if Outer(run.lane).sets:
        assert error(run.along(Sketch(rank=1)), exact) > 1e-3


def test_more_rank_is_closer_and_the_bound_holds():
    """At every step the true error of P is below the bound, which is no more than some times as large."""
    problem = make_problem(RateNetwork(8, inputs=1, gain=0.9, seed=3, form="rate"), T=10.0, at=(5.0, 10.0))
    run, errors, loose = Run(problem), [], []
    exact = gradient(problem, "adjoint", solver="euler", dt=0.25).vector
    for rank in (1, 2, 3, 4, 6, 10):
        P = np.zeros((8, 8, run.lane.columns))

        def watch(memory, step):
            nonlocal P
            P = np.matmul(step.phi, P) + step.C
            estimate = np.einsum("igk,ck->gic", memory.A, memory.u[0])
            true = np.linalg.norm(P - estimate) / np.linalg.norm(P)
            assert true <= memory.bound * (1 + 1e-9) + 1e-13
            if true > 1e-12:
                loose.append(memory.bound / true)

        errors.append(error(run.along(Sketch(rank), watch=watch), exact))
    assert all(b < 0.8 * a for a, b in zip(errors[:-1], errors[1:], strict=True))
    assert errors[0] > 0.05 and errors[3] < 0.01 and errors[-1] < 1e-12
    assert np.median(loose) < 10


def test_the_bound_of_a_sketch_without_loss_is_zero_and_of_nothing_known_is_infinite():
    run = Run(make_problem(RateNetwork(3, inputs=1, seed=1)))
    memories = []
    run.along(Sketch(rank=5), watch=lambda memory, step: memories.append(memory))
    assert memories[0].bound == 0.0
    memories[0].S[...] = 1e6 * np.eye(3)
    assert memories[0].bound == np.inf


# -- what stays within a unit, and what is reached in k steps


@pytest.mark.parametrize("settings", [EULER, RK4], ids=["euler", "rk4"])
def test_e_prop_is_snap_1_where_units_have_one_state(settings):
    """To round-off for Euler steps; a step of RK4 has Φ of second order, of which both keep the diagonal."""
    problem = make_problem(RateNetwork(6, inputs=1, gain=1.3, seed=1))
    run, exact = Run(problem, settings), gradient(problem, "adjoint", solver=settings.solver, dt=0.25).vector
    g, snap = run.along(EProp()), run.along(SnAp(1))
    assert error(g, snap) < 1e-13 and error(g, exact) > 0.05


def test_e_prop_is_rflo_without_weights_of_a_unit_onto_itself():
    mask = 1.0 - np.eye(6)
    without = make_problem(RateNetwork(6, inputs=1, gain=1.3, seed=1, mask=mask))
    with_self = make_problem(RateNetwork(6, inputs=1, gain=1.3, seed=1))
    for problem, same in ((without, True), (with_self, False)):
        g, leak = (Run(problem).along(named(name).rule()) for name in ("e-prop", "rflo"))
        assert error(g, leak) < 1e-13 if same else error(g, leak) > 0.01


def test_e_prop_keeps_all_states_of_a_unit():
    """With adaptation each unit has two: exact where units are alone, where SnAp-1 is not; its block recursion else."""
    field = FIELDS["adapting"]()
    assert field.units.tolist() == [0, 1, 0, 1]
    alone = field.with_parameters(W=np.diag([0.7, 0.5]))
    masked = ctrnn.Equations(
        field.equations, alone.parameters, states={"v": 2, "a": 2}, inputs=["x"], masks={"W": np.eye(2, dtype=bool)}
    )
    problem = make_problem(masked)
    exact = gradient(problem, "adjoint", solver="euler", dt=0.25).vector
    assert error(Run(problem).along(EProp()), exact) < 1e-12
    assert error(Run(problem).along(SnAp(1)), exact) > 0.01
    problem = make_problem(field)
    run, exact = Run(problem), gradient(problem, "adjoint", solver="euler", dt=0.25).vector
    within = field.units[:, None] == field.units
    acts = within @ field.sparsity()[1]
    P, expected = np.zeros((4, field.m)), np.zeros(field.m)
    for step, jump in run.steps:
        P = acts * ((within * step.phi) @ P + run.lane.bound.rows(step.C))
        expected += 0.0 if jump is None else jump @ P
    assert error(run.along(EProp()), expected) < 1e-12 and error(expected, exact) > 0.01


@pytest.mark.parametrize(
    "field", [FIELDS["small"], FIELDS["gated"], FIELDS["before the gate"]], ids=["small", "gru", "gru 2"]
)
@pytest.mark.parametrize("settings", [EULER, RK4], ids=["euler", "rk4"])
def test_e_prop_is_its_recursion(field, settings):
    """Also where a parameter acts on several units, and where steps have several stages."""
    field = field()
    run = Run(make_problem(field), settings)
    within = field.units[:, None] == field.units
    acts = within @ field.sparsity()[1]
    P, expected = np.zeros((field.n, field.m)), np.zeros(field.m)
    for step, jump in run.steps:
        P = acts * ((within * step.phi) @ P + run.lane.bound.rows(step.C))
        expected += 0.0 if jump is None else jump @ P
    assert error(run.along(EProp()), expected) < 1e-12


def test_snap_grows_to_the_exact_gradient():
    """On a ring of units, by Euler steps: each k reaches a neighbour more, and the last of them everything."""
    n = 6
    mask = np.eye(n) + np.roll(np.eye(n), 1, axis=0)
    problem = make_problem(RateNetwork(n, inputs=1, gain=1.5, seed=4, mask=mask), T=4.0, at=(2.0, 4.0))
    exact = gradient(problem, "adjoint", solver="euler", dt=0.25).vector
    run = Run(problem)
    errors = [error(run.along(SnAp(k)), exact) for k in range(1, n + 1)]
    assert all(b < a for a, b in zip(errors[:-1], errors[1:], strict=True))
    assert errors[0] > 0.05 and errors[-1] < 1e-12


@pytest.mark.parametrize("name", ["snap-1", "e-prop", "sketch"])
def test_units_that_know_only_themselves_are_exact(name):
    problem = make_problem(RateNetwork(5, inputs=1, gain=1.5, seed=4, mask=np.eye(5)))
    exact = gradient(problem, "adjoint", solver="euler", dt=0.25).vector
    rule = Sketch(5) if name == "sketch" else named(name)
    assert error(gradient(problem, rule, solver="euler", dt=0.25).vector, exact) < 1e-12


# -- as methods, and as memories


@pytest.mark.parametrize("name", ["uoro", "kf-rtrl", "sketch", "e-prop"])
def test_it_is_a_method_of_the_registry(name):
    """The loss, dl/dr0 and a read-out's gradient are exact; an integral loss and adaptive steps are taken too."""
    field = RateNetwork(6, inputs=1, gain=1.3, seed=1)
    method = Sketch(2) if name == "sketch" else METHODS[name]
    assert METHODS[name].facts.approximates
    readout = ctrnn.Readout(np.ones((1, 6)), np.zeros(1))
    objective = Objective(target=0.3, at=[1.0, 2.0], readout=readout)
    problem = Problem(field, np.full(6, 0.3), (0.0, 2.0), x=ctrnn.inputs.Sine(0.3), objective=objective)
    found, exact = (gradient(problem, m, solver="rk4", dt=0.1) for m in (method, "adjoint"))
    assert found.loss == pytest.approx(exact.loss, rel=1e-13)
    np.testing.assert_allclose(found.r0, exact.r0, rtol=1e-10)
    for part in ("V", "c"):
        np.testing.assert_allclose(found.readout[part], exact.readout[part], rtol=1e-12)
    assert 1e-6 < error(found.vector, exact.vector) < 20
    again = gradient(problem, method, solver="rk4", dt=0.1)
    np.testing.assert_array_equal(found.vector, again.vector)  # the seed decides
    whole = Problem(field, np.full(6, 0.3), (0.0, 2.0), x=ctrnn.inputs.Sine(0.3), objective=Objective(target=0.3))
    for each in (whole, problem):
        assert np.isfinite(gradient(each, method, solver="tsit5").vector).all()


def test_seeds_are_different_draws():
    problem = make_problem(FIELDS["rate"]())
    for rule in (UORO, KFRTRL):
        one, two = (gradient(problem, rule(seed), solver="euler", dt=0.25).vector for seed in (0, 1))
        assert error(one, two) > 1e-3


@pytest.mark.parametrize("rule", [UORO(), KFRTRL(), Sketch(2), EProp()], ids=lambda rule: rule.name)
def test_a_memory_comes_back_to_the_same_bits(rule):
    run = Run(make_problem(FIELDS["potential, tau trained"]()), RK4)
    rng = np.random.default_rng(0)
    one, row = rule.start(run.lane, rng), np.ones(run.lane.n)
    for step, _ in run.steps[:5]:
        one.take(step)
        one.add(row)
    other = np.random.default_rng(3)
    other.bit_generator.state = rng.bit_generator.state
    two = rule.start(run.lane, other)
    two.load_state_dict(one.state_dict())
    for memory in (one, two):
        for step, _ in run.steps[5:]:
            memory.take(step)
            memory.add(row)
    np.testing.assert_array_equal(one.collect(), two.collect())
    one.reset()
    assert not one.pull(row).any() and one.nbytes > 0


def test_wrong_ranks_and_seeds_are_named():
    for rule in (UORO, KFRTRL):
        for seed in (-1, 1.5, None, "2"):
            with pytest.raises(UsageError, match="seed: got"):
                rule(seed)
    for rank in (0, 1.5, True, "2"):
        with pytest.raises(UsageError, match="rank: got"):
            Sketch(rank)


@pytest.mark.parametrize("rule", ["uoro", KFRTRL(), Sketch(3), "e-prop"], ids=["uoro", "kf-rtrl", "sketch", "e-prop"])
def test_a_learner_learns_by_it_and_goes_on_from_a_file_to_the_same_bits(rule, tmp_path):
    """Also through weights that move at each step, in lanes, and whatever random numbers it draws."""
    task = tasks.mackey_glass(trials=2, steps=400, seed=1)
    stream = task.stream(lanes=2)
    network = RateNetwork(12, inputs=1, gain=0.8, seed=0, form="rate")
    readout = ctrnn.Readout(np.random.default_rng(0).normal(size=(1, 12)) / 4)
    learner = OnlineLearner(network, rule, lr=3e-3, readout=readout, batch=2, seed=3)
    loss = learner.run(stream.x[:300], stream.y[:300], record_every=100, reset_every=100).loss
    assert loss[-1] < 0.5 * loss[0]
    learner.save(tmp_path / "learner.npz")
    other = OnlineLearner.load(tmp_path / "learner.npz")
    for one in (learner, other):
        one.run(stream.x[300:], stream.y[300:])
    np.testing.assert_array_equal(learner.field.vector, other.field.vector)
    assert np.isfinite(learner.bound) == (not isinstance(rule, str | KFRTRL))


@pytest.mark.parametrize(
    ("solver", "rule"), [("euler", "snap-1"), ("rk4", "snap-1"), ("euler", "snap-2"), ("euler", "e-prop")]
)
def test_the_plan_tells_the_memory_of_what_is_kept(solver, rule):
    """Within a factor of 2.5 of what numpy allocates; SnAp-1 takes flops of the order n², SnAp-2 n⁴ (beside dl/dr0)."""
    network = RateNetwork(48, gain=1.2, seed=0)
    problem = Problem(network, np.full(48, 0.1), (0.0, 10.0), objective=Objective(target=1.0, at=[10.0]))
    settings, method = Settings(solver, dt=0.1), named(rule)
    told = method.cost(Size.of(problem, settings, 100))
    gradient(problem, method, solver=solver, dt=0.1)
    tracemalloc.start()
    gradient(problem, method, solver=solver, dt=0.1)
    measured = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.4 < told.memory / measured < 2.5
    if solver == "euler":
        r0 = 100 * 2.0 * 49 * 2 * 48 * 49  # Φ by n + 1 rows
        assert (told.flops < 1.3 * r0) == (rule != "snap-2") and told.flops > r0


@pytest.mark.parametrize("hidden", [255, 256, 512])
def test_sums_of_many_terms_depend_on_them(hidden):
    """256 ways from one state to another are not none, as they are in bytes."""
    A, B = np.random.default_rng(0).normal(size=(2, 3, hidden)) / hidden
    everywhere = {"A": np.ones((3, hidden), dtype=bool), "B": np.ones((hidden, 3), dtype=bool)}
    text = {"r": "-r + A @ tanh(B @ r)"}
    field = ctrnn.Equations(text, {"A": A, "B": B.T}, states={"r": 3}, masks=everywhere)
    J, F_w = field.sparsity()
    assert J.all() and F_w.all(axis=0)[3 * hidden :].all()
    problem = ctrnn.Problem(field, [0.5, -0.2, 1.0], (0.0, 1.0), objective=ctrnn.Objective("r[0]", at=1.0))
    forward, back = (ctrnn.gradient(problem, m, solver="rk4", dt=0.1).vector for m in ("rtrl", "adjoint"))
    assert np.allclose(forward, back, rtol=1e-11, atol=1e-15)


def test_sparse_rules_begin_in_the_memory_that_they_keep():
    """Not in that of (n, m): of 400 units, 64 million entries."""
    n = 400
    field = ctrnn.RateNetwork(n, inputs=1, form="rate", seed=0)
    for method in ("snap-1", "rflo", "e-prop"):
        tracemalloc.start()
        learner = OnlineLearner(field, method, lr=0.0)
        learner.step([1.0], np.zeros(n))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 250.0 * field.m  # bytes: some thirty arrays of m
