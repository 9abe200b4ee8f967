"""Second derivatives against differences of the gradient, torch's double backward, closed forms and each other.

Everything here is about the discrete loss at the steps taken; so at fixed steps two routes agree to round-off.
"""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import (
    SCENARIOS,
    TIMES,
    driven,
    integral_squares,
    linear_readout,
    lotka_volterra,
    observed_classes,
    observed_squares,
    rate_network,
    smooth_inputs,
    softmax_readout,
    state_network,
)

import ctrnn
from ctrnn import Equations, Objective, Problem, RateNetwork, TorchField, cache, gradient
from ctrnn.errors import UsageError
from ctrnn.fields.networks.activations import ACTIVATIONS
from ctrnn.gradients.recording.replay import field_inputs, recorded
from ctrnn.gradients.second.hessian import HessianOperator, gauss_newton_matrix
from ctrnn.problem import Settings

by_name = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)


def whole(problem, options):
    """H of everything: w, r0 and a read-out's V and c."""
    operator = HessianOperator(problem, Settings(**options))
    return operator.matrix(np.arange(operator.size))


def moved(problem, v):
    """The problem with (w, r0, V and c) moved by v."""
    f = problem.field
    m, n = f.m, f.n
    changes = {"field": f.with_vector(f.vector + v[:m]), "r0": problem.r0 + v[m : m + n]}
    if problem.objective.readout_size:
        d, objective = problem.objective.unflatten_readout(v[m + n :]), problem.objective.objective
        readout = objective.readout
        changes["objective"] = replace(objective, readout=replace(readout, V=readout.V + d["V"], c=readout.c + d["c"]))
    return problem.replace(**changes)


def slope(problem, options):
    g = gradient(problem, method="adjoint", **options)
    return np.concatenate([g.vector, g.r0, *(v.ravel() for v in (g.readout or {}).values())])


def difference(problem, v, options, e=1e-4):
    """The derivative of the gradient along v, by central differences of order 4."""

    def central(e):
        return (slope(moved(problem, e * v), options) - slope(moved(problem, -e * v), options)) / (2 * e)

    return (4 * central(e) - central(2 * e)) / 3


def direction(problem, seed=0):
    v = np.random.default_rng(seed).normal(size=problem.field.m + problem.field.n + problem.objective.readout_size)
    mask = getattr(problem.field, "mask", None)
    if mask is not None:
        v[: mask.size] *= mask.ravel()
    return v / np.linalg.norm(v)


def assert_digits(found, expected, digits):
    np.testing.assert_allclose(found, expected, rtol=0, atol=10.0**-digits * np.max(np.abs(expected)))


# --- differences of the compiled gradient


@by_name
@pytest.mark.parametrize("solver", ["rk4", "tsit5", "kencarp4"])
def test_a_product_is_the_derivative_of_the_gradient(scenario, solver):
    """At fixed steps; the implicit stages carry Newton's error, so that they agree to fewer digits."""
    problem, options = scenario.make(), {"solver": solver, "dt": scenario.dt}
    v = direction(problem)
    found = HessianOperator(problem, Settings(**options))(v)
    assert_digits(found, difference(problem, v, options), 6 if solver == "kencarp4" else 8)


@by_name
def test_the_hessian_is_symmetric_at_adaptive_steps(scenario):
    H = whole(scenario.make(), {"rtol": 1e-6, "atol": 1e-8})
    assert_digits(H, H.T, 12)


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_products_from_both_sides_agree(one, other):
    problem = lotka_volterra(observed_squares(2))
    H = HessianOperator(problem, Settings("rk4", dt=0.2))
    u, v = direction(problem, one), direction(problem, other)
    assert u @ H(v) == pytest.approx(v @ H(u), rel=1e-12, abs=1e-12 * np.linalg.norm(H(v)))


# --- double backward of torch through the same steps


def unrolled(steps, function, w, r):
    """The recorded explicit steps again in torch, from r: the states after each, and all stages."""
    record, a, b = steps.record, steps.a, steps.b
    states, stages = [], []
    for h, t, x in zip(record.h, record.stage_t, record.stage_x, strict=True):
        k = []
        for i in range(len(b)):
            stages.append(r + sum(h * a[i, j] * k[j] for j in range(i)))
            k.append(function(float(t[i]), stages[-1], w, torch_tensor(x[i])))
        r = r + sum(h * b[i] * k[i] for i in range(len(b)))
        states.append(r)
    return states, stages


def torch_tensor(a):
    import torch

    return torch.from_numpy(np.array(a))


def torch_loss(problem, steps, w, r0):
    """l in torch of the recorded steps from r0; squared errors, with the read-out of the problem."""
    import torch

    objective, nx = problem.objective, problem.field.input_size

    tensor = torch_tensor
    states, stages = unrolled(steps, field_inputs(problem), w, r0)
    if objective.times is None:
        signals = steps.record.stage_x[:, :, nx:].reshape(len(stages), -1)
        r, y, a = torch.stack(stages), signals[:, :-1], signals[:, -1]
        a = a * (steps.record.h[:, None] * steps.b).ravel()
    else:
        every = torch.stack([r0, *states])
        t = np.concatenate([[problem.t_span[0]], steps.record.t])
        r, y, a = every[np.searchsorted(t, problem.observed)], objective.targets, objective.weights
    if objective.readout is not None:
        r = r @ tensor(objective.readout.V).T + tensor(objective.readout.c)
        if objective.readout.activation == "softmax":
            r = torch.softmax(r, dim=1)
    elif objective.selection is not None:
        r = r[:, objective.selection]
    return (tensor(a) * 0.5 * ((r - tensor(y)) ** 2).sum(dim=1)).sum()


def double_backward(problem, options):
    """H of (w, r0) by torch."""
    import torch

    steps, f = recorded(problem, Settings(**options), "test"), problem.field

    def loss(v):
        parts = torch.split(v[: f.m], [p.size for p in f.parameters.values()]) if f.m else ()
        w = {k: part.reshape(p.shape) for (k, p), part in zip(f.parameters.items(), parts, strict=True)}
        return torch_loss(problem, steps, w, v[f.m :])

    at = torch.from_numpy(np.concatenate([f.vector, problem.r0]))
    return torch.autograd.functional.hessian(loss, at).numpy()


def torch_network(objective):
    def function(t, r, w, x):
        return (-r + torch.tanh(w["A"] @ r + torch.sin(t)) * w["g"]) / (1 + r**2) + x[0]

    import torch

    rng = np.random.default_rng(5)
    field = TorchField(function, 3, {"A": rng.normal(size=(3, 3)), "g": 1.3}, inputs=1)
    x = ctrnn.inputs.Sine(0.3)
    return Problem(field, r0=[0.3, -0.5, 0.8], t_span=(0.0, 2.0), x=x, objective=objective)


def network(make, activation, **changes):
    def problem(objective):
        return make(objective, activation=activation, mask=None, **changes)

    return problem


FIELDS = {
    "equations": lambda objective: driven(objective, smooth_inputs()),
    "torch": torch_network,
    **{f"state-{phi}": network(state_network, phi) for phi in ACTIVATIONS},
    **{f"rate-{phi}": network(rate_network, phi) for phi in ACTIVATIONS},
}
SIZES = {"equations": 3, "torch": 3}


@pytest.mark.parametrize("kind", ["observed", "integral"])
@pytest.mark.parametrize("name", FIELDS)
def test_torch_differentiated_twice_says_the_same(name, kind):
    n = SIZES.get(name, 5 if name.startswith("state") else 4)
    make = {"observed": observed_squares, "integral": integral_squares}[kind]
    readout = {"observed": linear_readout, "integral": softmax_readout}[kind](n)
    objective = make(len(readout.c), readout=readout)
    problem, options = FIELDS[name](objective), {"solver": "rk4", "dt": 0.19}
    assert_digits(ctrnn.hessian(problem, r0=True, **options), double_backward(problem, options), 11)


def test_without_a_read_out_and_with_a_selection_too():
    for readout in (None, ["z", "u"]):
        objective = observed_squares(3 if readout is None else 2, readout=readout)
        problem, options = driven(objective, smooth_inputs()), {"solver": "dopri5", "dt": 0.19}
        assert_digits(ctrnn.hessian(problem, r0=True, **options), double_backward(problem, options), 11)


# --- closed forms


def scalar(target, at, **parts):
    """r(T) = r0 e^(−kT), l = ½(r(T) − y)²"""
    field = Equations({"r": "-k*r"}, parameters={"k": 0.7})
    return Problem(field, r0=[1.3], t_span=(0.0, 2.0), objective=Objective(target=[target], at=at, **parts))


def test_the_scalar_decay_over_many_blocks_of_steps():
    H = ctrnn.hessian(scalar(0.4, 2.0), r0=True, solver="rk4", dt=2.0 / 9000)  # more than two blocks
    e = np.exp(-1.4)
    r, T, r0, y = 1.3 * e, 2.0, 1.3, 0.4
    expected = [[T * T * r * (2 * r - y), -T * e * (2 * r - y)], [-T * e * (2 * r - y), e * e]]
    assert r / r0 == pytest.approx(e)
    assert_digits(H, np.array(expected), 10)


def test_a_loss_at_t0_alone_is_a_loss_of_r0():
    problem = lotka_volterra(Objective(target=[[1.0, 2.0]], at=0.0, weight=3.0))
    np.testing.assert_array_equal(ctrnn.hessian(problem, r0=True), np.diag([0.0] * 4 + [3.0] * 2))


def test_a_linear_loss_of_a_linear_system_has_only_mixed_derivatives():
    """r(t) = r0 + k t: l = c r(T) has H = 0; l = r² has [[2T², 2T], [2T, 2]]."""
    field = Equations({"r": "k"}, parameters={"k": 0.5})
    for loss, expected in (("3*r", np.zeros((2, 2))), ("r**2", np.array([[8.0, 4.0], [4.0, 2.0]]))):
        problem = Problem(field, r0=[1.0], t_span=(0.0, 2.0), objective=Objective(loss, at=2.0))
        np.testing.assert_allclose(ctrnn.hessian(problem, r0=True), expected, atol=1e-12)


def test_a_power_whose_base_starts_at_zero():
    """x' = 1 − xⁿ/(Kⁿ + xⁿ) from x = 0, where ∂²/∂n∂x of xⁿ is 0·log 0."""
    field = Equations({"x": "1 - v*x**n/(K**n + x**n)"}, parameters={"v": 0.8, "n": 3.0, "K": 0.6})
    problem = Problem(field, r0=[0.0], t_span=(0.0, 2.0), objective=Objective(target=[0.3], at=2.0))
    H, options = ctrnn.hessian(problem, solver="rk4", dt=0.1), {"solver": "rk4", "dt": 0.1}
    for k in range(3):
        v = np.eye(4)[k]
        assert_digits(H[:, k], difference(problem, v, options)[:3], 7)


def test_no_direction_leaves_a_mask():
    problem = state_network(observed_squares(5))
    H, outside = ctrnn.hessian(problem, solver="rk4", dt=0.1), ~problem.field.mask.ravel()
    assert outside.any()
    assert not H[: outside.size][outside].any() and not H[:, : outside.size][:, outside].any()
    v = np.zeros(problem.field.m)
    v[: outside.size] = outside
    assert not ctrnn.hessian_vector_product(problem, v, solver="rk4", dt=0.1).any()


def test_stiff_steps_agree_with_differences_of_tight_solutions():
    """Robertson's reactions to t = 40, in logarithms of nothing: H by adaptive implicit steps, to 5 digits."""
    field = Equations(
        {"a": "-p*a + q*b*c", "b": "p*a - q*b*c - s*b*b", "c": "s*b*b"}, parameters={"p": 0.04, "q": 1e4, "s": 3e7}
    )
    objective = Objective("a**2 + c", at=40.0)
    problem = Problem(field, r0=[1.0, 0.0, 0.0], t_span=(0.0, 40.0), objective=objective)
    options = {"solver": "kvaerno5", "rtol": 1e-10, "atol": 1e-14}
    scale = np.diag(field.vector)
    H = scale @ ctrnn.hessian(problem, **options) @ scale
    e, expected = 1e-3, np.empty((3, 3))
    for k in range(3):
        up, down = (
            gradient(problem.replace(field=field.with_vector(field.vector * (1 + s * np.eye(3)[k]))), **options).vector
            for s in (e, -e)
        )
        expected[:, k] = scale @ (up - down) / (2 * e)
    assert_digits(H, expected, 5)


def test_large_implicit_stages_go_through_lapack():
    rng = np.random.default_rng(3)
    objective = Objective(target=rng.normal(size=(2, 40)), at=[0.5, 1.0])
    field = RateNetwork(40, gain=1.5, seed=2)
    problem = Problem(field, r0=rng.normal(size=40), t_span=(0.0, 1.0), objective=objective)
    options = {"solver": "kencarp4", "dt": 0.1}
    v = direction(problem)
    assert_digits(HessianOperator(problem, Settings(**options))(v), difference(problem, v, options), 6)


# --- losses


def test_every_way_to_write_a_loss_has_the_same_hessian():
    def quartic(o, y):
        return ((o - y) ** 4).sum()

    def quartic_with_a_branch(o, y):  # vmap cannot take it
        return ((o - y) ** 4).sum() if o[0].item() > -1e9 else o.sum()

    options = {"solver": "rk4", "dt": 0.2}
    written = [
        Objective("(prey - 1)**4 + (pred - 2)**4", at=TIMES),
        Objective(quartic, np.tile([1.0, 2.0], (len(TIMES), 1)), at=TIMES),
        Objective(quartic_with_a_branch, np.tile([1.0, 2.0], (len(TIMES), 1)), at=TIMES),
    ]
    found = [ctrnn.hessian(lotka_volterra(o), r0=True, **options) for o in written]
    assert_digits(found[1], found[0], 12)
    assert_digits(found[2], found[0], 12)


def test_a_weight_of_zero_may_stand_where_the_loss_is_infinite():
    loss = Objective("log(r - 1.3)**2", at=[0.0, 1.0], weight=[0.0, 1.0])  # −∞ at t0
    field = Equations({"r": "k"}, parameters={"k": 0.5})
    problem = Problem(field, r0=[1.3], t_span=(0.0, 1.0), objective=loss)
    # l = log²k at t = 1: l″ = 2 (1 − log k)/k²
    assert ctrnn.hessian(problem)[0, 0] == pytest.approx(2 * (1 - np.log(0.5)) / 0.25, rel=1e-10)


# --- Gauss–Newton


def test_it_is_the_hessian_where_the_residuals_vanish():
    problem = lotka_volterra(observed_squares(2))
    run = ctrnn.simulate(problem, save_at=TIMES, solver="rk4", dt=0.2)
    perfect = problem.replace(objective=observed_squares(2, target=run.r))
    options = {"r0": True, "solver": "rk4", "dt": 0.2}
    M, H = ctrnn.gauss_newton(perfect, **options), ctrnn.hessian(perfect, **options)
    assert_digits(M, H, 12)
    away = ctrnn.hessian(problem, **options)
    assert np.max(np.abs(away - ctrnn.gauss_newton(problem, **options))) > 1e-2 * np.max(np.abs(away))


def test_no_parameters_no_entries():
    problem = Problem(Equations({"r": "-r"}), [1.0], (0.0, 1.0), objective=Objective("r**2"))
    assert ctrnn.gauss_newton(problem).shape == ctrnn.hessian(problem).shape == (0, 0)
    # l = r0² (1 − e⁻²)/2
    np.testing.assert_allclose(ctrnn.gauss_newton(problem, r0=True), [[1.0 - np.exp(-2.0)]], rtol=1e-7)


def test_it_is_jtj_of_the_sensitivities():
    problem = driven(observed_squares(2, readout=["z", "u"]), smooth_inputs())
    s = ctrnn.sensitivities(problem, save_at=TIMES, rtol=1e-10, atol=1e-12)
    p = np.concatenate([s.p, s.p0], axis=2)[:, [2, 0]]
    expected = np.einsum("k,kij,kil->jl", problem.objective.weights, p, p)
    assert_digits(ctrnn.gauss_newton(problem, r0=True, rtol=1e-10, atol=1e-12), expected, 8)


@by_name
def test_gauss_newton_leaves_out_what_the_network_bends(scenario):
    """M is H of the loss with r(w) replaced by its tangent: second differences along it, in state space."""
    problem, options = scenario.make(), {"solver": "rk4", "dt": scenario.dt}
    M = gauss_newton_matrix(problem, Settings(**options))
    assert_digits(M, M.T, 12)
    loss = problem.objective.objective.loss
    if isinstance(loss, str) and loss in ("squared_error", "cross_entropy"):
        assert np.linalg.eigvalsh(M)[0] > -1e-12 * np.max(np.abs(M))


def test_cross_entropy_gives_the_fisher_matrix():
    problem, options = rate_network(observed_classes()), {"solver": "rk4", "dt": 0.1}
    objective, e = problem.objective, 1e-5
    m = problem.field.m

    def logits(v):
        q = moved(problem, np.concatenate([v, np.zeros(4 + objective.readout_size)]))
        return objective.readout.linear(ctrnn.simulate(q, save_at=TIMES, **options).r)

    J = np.stack([(logits(e * v) - logits(-e * v)) / (2 * e) for v in np.eye(m)], axis=-1)  # (K, 3, m)
    o = np.exp(logits(np.zeros(m)))
    o /= o.sum(axis=1, keepdims=True)
    fisher = np.einsum("ki,ij->kij", o, np.eye(3)) - o[:, :, None] * o[:, None, :]
    expected = np.einsum("k,kia,kij,kjb->ab", objective.weights, J, fisher, J)
    assert_digits(ctrnn.gauss_newton(problem, **options), expected, 8)


def test_of_an_integral_by_the_quadrature_of_the_steps():
    """∫₀² ½ r² dt of r = r0 + k t: Σ ∫ (∂r)² = [[8/3, 2], [2, 2]]."""
    field = Equations({"r": "k"}, parameters={"k": 0.5})
    problem = Problem(field, r0=[1.0], t_span=(0.0, 2.0), objective=Objective(target=0.0))
    np.testing.assert_allclose(ctrnn.gauss_newton(problem, r0=True), [[8 / 3, 2], [2, 2]], rtol=1e-12)


# --- use


def test_newton_on_it_converges_quadratically():
    problem = lotka_volterra(observed_squares(2))
    run = ctrnn.simulate(problem, save_at=TIMES, solver="rk4", dt=0.1)
    noisy = run.r + np.random.default_rng(0).normal(0.0, 0.05, run.r.shape)
    problem = problem.replace(objective=observed_squares(2, target=noisy))
    options = {"solver": "rk4", "dt": 0.1}
    best = problem.field.vector
    slopes = []
    for _ in range(8):
        here = problem.replace(field=problem.field.with_vector(best))
        slopes.append(np.linalg.norm(gradient(here, **options).vector))
        best = best - np.linalg.solve(ctrnn.hessian(here, **options), gradient(here, **options).vector)
    s = np.array(slopes) / slopes[0]
    falls = [k for k in range(1, 7) if s[k] < 1e-1 and s[k + 1] > 1e-12]
    assert falls and min(s) < 1e-12
    assert all(s[k + 1] < 30 * s[k] ** 2 for k in falls)


def test_one_record_serves_many_products_and_the_field_stays_usable():
    problem = state_network(observed_squares(5))
    H = HessianOperator(problem, Settings("rk4", dt=0.1))
    v = direction(problem)
    np.testing.assert_array_equal(H(v), H(v))
    assert_digits(H(2.0 * v), 2.0 * H(v), 13)
    for twin in (copy.deepcopy(problem.field), pickle.loads(pickle.dumps(problem.field))):
        again = HessianOperator(problem.replace(field=twin), Settings("rk4", dt=0.1))
        np.testing.assert_array_equal(again(v), H(v))


def test_a_gradient_alone_never_makes_second_derivatives(tmp_path, monkeypatch):
    monkeypatch.setenv("CTRNN_CACHE_DIR", str(tmp_path))
    field = Equations({"r": "-k*r**3 + tanh(k*r)/7"}, parameters={"k": 0.31})
    problem = Problem(field, r0=[1.0], t_span=(0.0, 1.0), objective=Objective(target=[0.0], at=1.0))
    gradient(problem)
    assert len(list(tmp_path.glob("*.py"))) == 1
    ctrnn.hessian(problem)
    assert len(list(tmp_path.glob("*.py"))) == 2
    assert cache.folder() == tmp_path


def test_an_error_inside_torch_comes_out():
    import torch

    def function(t, r, w, x):
        if torch._C._functorch.maybe_current_level() is not None and not w["k"].requires_grad:
            raise ValueError("no derivative today")
        return -w["k"] * r

    field = TorchField(function, 1, {"k": 1.0})
    problem = Problem(field, r0=[1.0], t_span=(0.0, 1.0), objective=Objective(target=[0.0], at=1.0))
    with pytest.raises(ValueError, match="no derivative today"):
        ctrnn.hessian(problem, solver="rk4", dt=0.25)


# --- at rest


def resting(activation="tanh", **changes):
    field = RateNetwork(4, inputs=1, gain=0.6, seed=3, activation=activation, **changes)
    field = field.with_parameters(b=np.linspace(-0.4, 0.6, 4))
    return field, ctrnn.find_equilibrium(field, np.zeros(4), x=[0.7])


def test_the_scalar_equilibrium_in_closed_form():
    """r* = b/(1 − w), l = ½ (r* − y)²."""
    w, b, y = 0.3, 0.9, 0.5
    r, r_w, r_b = b / (1 - w), b / (1 - w) ** 2, 1 / (1 - w)
    field = Equations({"r": "-r + w*r + b"}, {"w": w, "b": b})
    H = ctrnn.equilibrium_hessian(field, [r], [r - y], [[1.0]])
    expected = [
        [r_w**2 + (r - y) * 2 * b / (1 - w) ** 3, r_w * r_b + (r - y) / (1 - w) ** 2],
        [r_w * r_b + (r - y) / (1 - w) ** 2, r_b**2],
    ]
    assert_digits(H, np.array(expected), 12)


@pytest.mark.parametrize("form", ["state", "rate"])
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_the_equilibriums_hessian_is_the_derivative_of_its_gradient(form, activation):
    field, eq = resting(activation, form=form, train_tau=True)
    y, e = np.array([0.3, -0.2, 0.5, 0.1]), 1e-4
    H = ctrnn.equilibrium_hessian(field, eq, eq.r - y, np.eye(4))

    def slope(v):
        moved = field.with_vector(field.vector + v)
        there = ctrnn.find_equilibrium(moved, eq.r, x=[0.7])
        return ctrnn.equilibrium_gradient(moved, there, there.r - y, inverse="lu").vector

    v = np.random.default_rng(1).normal(size=field.m)
    v /= np.linalg.norm(v)
    central = [(slope(k * e * v) - slope(-k * e * v)) / (2 * k * e) for k in (1, 2)]
    assert_digits(H @ v, (4 * central[0] - central[1]) / 3, 7)


def test_long_trajectories_have_the_hessian_of_their_rest():
    field, eq = resting()
    y = np.array([[0.3, -0.2, 0.5, 0.1]])
    problem = Problem(field, eq.r, (0.0, 60.0), x=[0.7], objective=Objective(target=y, at=60.0))
    H = ctrnn.hessian(problem, solver="rk4", dt=0.25)
    assert_digits(ctrnn.equilibrium_hessian(field, eq, eq.r - y[0], np.eye(4)), H, 9)


def test_a_wrong_second_derivative_at_rest():
    field, eq = resting()
    with pytest.raises(UsageError, match="symmetric"):
        ctrnn.equilibrium_hessian(field, eq, np.ones(4), np.triu(np.ones((4, 4))))
    with pytest.raises(UsageError, match="shape"):
        ctrnn.equilibrium_hessian(field, eq, np.ones(3))


# --- bad input


@pytest.mark.parametrize(
    ("v", "word"),
    [([1.0, 2.0], "shape"), ([1.0, 2.0, np.nan, 0.0], "finite"), ("abcd", "numbers")],
)
def test_a_wrong_direction(v, word):
    with pytest.raises(UsageError, match=word):
        ctrnn.hessian_vector_product(lotka_volterra(observed_squares(2)), v)


@pytest.mark.parametrize("function", [ctrnn.hessian, ctrnn.gauss_newton])
def test_a_call_that_is_not_possible(function):
    with pytest.raises(UsageError, match="objective"):
        function(lotka_volterra(None))
    with pytest.raises(UsageError, match="solver"):
        function(lotka_volterra(observed_squares(2)), solver="scipy:DOP853")
    with pytest.raises(UsageError, match="problem"):
        function("hare and lynx")


def test_a_field_without_second_derivatives_says_so():
    class Bare(RateNetwork):
        _second_kernel = ctrnn.Field._second_kernel

    bare = Bare(2, seed=0)
    problem = Problem(bare, r0=[0.1, 0.2], t_span=(0.0, 1.0), objective=Objective(target=[[0.0, 0.0]], at=1.0))
    with pytest.raises(UsageError, match="second derivatives"):
        ctrnn.hessian(problem)
