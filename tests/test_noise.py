"""White noise in the states: paths, steps, orders, moments, and gradients along a path."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ctrnn
from ctrnn.errors import CtrnnError, ExpressionError, SolverError, UnknownNameError, UsageError
from ctrnn.noise import WhiteNoise, increments

GEOMETRIC = ctrnn.Equations({"v": "a*v"}, {"a": 0.3, "b": 0.8})
ORNSTEIN = ctrnn.Equations({"v": "-v/tau"}, {"tau": 0.7, "sigma": 0.5})


def problem(field=GEOMETRIC, g="b*v", seed=0, t1=1.0, at=(0.5, 1.0), dt=None, **more):
    objective = ctrnn.Objective(target=0.2, at=list(at))
    r0 = np.linspace(1.0, 1.5, field.n)
    return ctrnn.Problem(field, r0, (0.0, t1), objective=objective, noise=WhiteNoise(g, seed=seed, dt=dt), **more)


# --- paths


def test_a_path_on_coarser_steps_is_the_sum_of_the_finer_ones_and_goes_on_in_longer_runs():
    noise = WhiteNoise(1.0, seed=4, dt=0.01)
    fine = noise.increments(0.01 * np.arange(101), 3, 0.5)
    coarse = noise.increments(0.05 * np.arange(21), 3, 0.5)
    np.testing.assert_allclose(fine.reshape(20, 5, 3).sum(axis=1), coarse, rtol=0, atol=1e-15)
    longer = noise.increments(0.01 * np.arange(151), 3, 0.5)
    np.testing.assert_array_equal(longer[:100], fine)
    assert (noise.of_path(1).increments(0.01 * np.arange(101), 3, 0.5) != fine).all()


def test_times_beside_the_grid_are_bridges_that_leave_the_grid_as_it_is():
    times, beside = 0.1 * np.arange(11), np.array([0.13, 0.17, 0.5512])
    every = np.sort(np.concatenate([times, beside]))
    plain, bridged = (increments(t, 2, 0.1, 7, 0) for t in (times, every))
    W, W_bridged = np.cumsum(plain, axis=0), np.cumsum(bridged, axis=0)
    np.testing.assert_allclose(W_bridged[np.isin(every[1:], times)], W, rtol=0, atol=1e-15)
    # an end beside the grid: the same path, cut short
    short = increments(np.append(times[:4], 0.35), 2, 0.1, 7, 0)
    np.testing.assert_array_equal(short[:3], plain[:3])
    # the law of the parts of one divided step: independent, of variance h
    parts = np.array([increments(np.array([0.0, 0.03, 0.08, 0.1]), 1, 0.1, seed, 5)[:, 0] for seed in range(4000)])
    cov = np.cov(parts.T)
    np.testing.assert_allclose(cov, np.diag([0.03, 0.05, 0.02]), rtol=0, atol=0.004)  # some 3.5 standard errors
    assert abs(parts.mean(axis=0)).max() < 0.013


def test_a_step_is_that_of_euler_and_maruyama_and_of_stochastic_heun():
    p, h = problem(seed=3, t1=0.5, at=(0.5,)), 0.05
    dW = p.noise.increments(h * np.arange(11), 1, h)[:, 0]
    a, b = 0.3, 0.8
    euler, heun = [1.0], [1.0]
    for w in dW:
        euler.append(euler[-1] + h * a * euler[-1] + b * euler[-1] * w)
        y = heun[-1] + h * a * heun[-1] + b * heun[-1] * w
        heun.append(heun[-1] + 0.5 * h * a * (heun[-1] + y) + 0.5 * b * (heun[-1] + y) * w)
    for solver, states in (("euler-maruyama", euler), ("stochastic-heun", heun)):
        np.testing.assert_allclose(ctrnn.simulate(p, solver=solver, dt=h).r[:, 0], states, rtol=1e-14)


# --- orders and moments


def orders(field, g, solver, exact, finest=9, coarsest=5, paths=400):
    """The mean error of v(1) for steps 2^-k, and the order by least squares."""
    fine = 2.0**-finest
    p = ctrnn.Problem(field, [1.0], (0.0, 1.0), noise=WhiteNoise(g, seed=11, dt=fine))
    W = np.array([p.noise.of_path(b).increments(np.array([0.0, 1.0]), 1, fine)[0, 0] for b in range(paths)])
    steps = 2.0 ** -np.arange(coarsest - 2, coarsest + 1)
    end = ctrnn.ensemble(p, paths=paths, solver=solver, dt=fine).r[:, -1, 0] if exact is None else exact(W)
    errors = [abs(ctrnn.ensemble(p, paths=paths, solver=solver, dt=h).r[:, -1, 0] - end).mean() for h in steps]
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def test_strong_orders():
    a, b = 0.3, 0.8
    ito = orders(GEOMETRIC, "b*v", "euler", lambda W: np.exp(a - b * b / 2 + b * W))
    stratonovich = orders(GEOMETRIC, "b*v", "heun", lambda W: np.exp(a + b * W))
    additive = orders(ORNSTEIN, "sigma", "euler", None)
    assert 0.4 < ito < 0.65
    assert 0.9 < stratonovich < 1.2
    assert 0.9 < additive < 1.2
    # Euler's steps do not come near Stratonovich's solution
    wrong = orders(GEOMETRIC, "b*v", "euler", lambda W: np.exp(a + b * W))
    assert wrong < 0.1


def test_moments_of_ornstein_and_uhlenbeck_and_of_geometric_brownian_motion():
    B, tau, s = 4000, 0.7, 0.5
    p = ctrnn.Problem(ORNSTEIN, [1.0], (0.0, 1.0), noise=WhiteNoise("sigma", seed=2))
    end = ctrnn.ensemble(p, paths=B, solver="heun", dt=0.05).r[:, -1, 0]
    variance = s * s * tau / 2 * (1 - np.exp(-2 / tau))
    assert abs(end.mean() - np.exp(-1 / tau)) < 4 * np.sqrt(variance / B)
    assert abs(end.var() - variance) < 4 * variance * np.sqrt(2 / B)
    a, b = 0.3, 0.4
    field = GEOMETRIC.with_parameters(b=b)
    g = ctrnn.Problem(field, [1.0], (0.0, 1.0), noise=WhiteNoise("b*v", seed=5))
    for solver, mean, second in (
        ("euler", np.exp(a), np.exp(2 * a + b * b)),
        ("heun", np.exp(a + b * b / 2), np.exp(2 * a + 2 * b * b)),
    ):
        end = ctrnn.ensemble(g, paths=B, solver=solver, dt=0.02).r[:, -1, 0]
        assert abs(end.mean() - mean) < 4 * np.sqrt((second - mean**2) / B) + 0.01  # and the bias of the steps
    assert np.exp(a + b * b / 2) - np.exp(a) > 0.1


# --- gradients along a path


def by_torch(p, solver, h, F, g):
    """The loss along the path and its gradient, written out in torch."""
    field = p.field
    w = {k: torch.tensor(v, requires_grad=True) for k, v in field.parameters.items()}
    r = torch.tensor(p.r0)
    K = round(p.t_span[1] / h)
    dW = torch.tensor(p.noise.increments(h * np.arange(K + 1), field.n, h))
    loss = torch.tensor(0.0, dtype=torch.float64)
    at = {round(t / h) for t in p.objective.times}
    for k in range(K):
        d = h * F(r, w) + g(r, w) * dW[k]
        if solver == "heun":
            y = r + d
            d = 0.5 * (d + h * F(y, w) + g(y, w) * dW[k])
        r = r + d
        if k + 1 in at:
            loss = loss + 0.5 * (r - 0.2).square().sum()
    loss.backward()
    zero = torch.zeros(())
    return loss.item(), {k: (zero.expand(v.shape) if v.grad is None else v.grad).numpy() for k, v in w.items()}


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_gradients_of_equations_are_exact_for_the_steps(solver):
    field = ctrnn.Equations(
        {"u": "-u + a*tanh(v)", "v": "-v + c*u"}, {"a": 1.5, "c": -0.7, "s": 0.4, "q": 0.3}, definitions={"z": "u*v"}
    )
    p = problem(field, {"u": "s*u", "v": "q*cos(z)"}, seed=6, at=(0.4, 1.0))

    def F(r, w):
        return torch.stack([-r[0] + w["a"] * torch.tanh(r[1]), -r[1] + w["c"] * r[0]])

    def g(r, w):
        return torch.stack([w["s"] * r[0], w["q"] * torch.cos(r[0] * r[1])])

    loss, named = by_torch(p, solver, 0.1, F, g)
    for method in ("adjoint", "rtrl", "adjoint-checkpoint", "complex-step", "autograd", "rtrl-continuous"):
        found = ctrnn.gradient(p, method=method, solver=solver, dt=0.1)
        assert found.loss == pytest.approx(loss, rel=1e-14)
        for name, value in named.items():
            np.testing.assert_allclose(found.parameters[name], value, rtol=1e-11, atol=1e-15, err_msg=method)
    assert named["s"] != 0.0 and named["q"] != 0.0


@pytest.mark.parametrize("form", ["state", "rate"])
def test_gradients_of_a_rate_network_with_noise_in_each_unit(form):
    rng = np.random.default_rng(0)
    sd, mask = rng.uniform(0.1, 0.5, 4), rng.random((4, 4)) < 0.7
    field = ctrnn.RateNetwork(4, tau=0.5, form=form, mask=mask, seed=1, train_tau=True)
    p = problem(field, sd, seed=2)

    def F(r, w):
        if form == "state":
            return (-r + w["W"] @ torch.tanh(r) + w["b"]) / w["tau"]
        return (-r + torch.tanh(w["W"] @ r + w["b"])) / w["tau"]

    loss, named = by_torch(p, "heun", 0.1, F, lambda r, w: torch.tensor(sd))
    named["W"] = named["W"] * mask
    for method in ("adjoint", "rtrl", "adjoint-checkpoint"):
        found = ctrnn.gradient(p, method=method, solver="heun", dt=0.1)
        assert found.loss == pytest.approx(loss, rel=1e-13)
        for name, value in named.items():
            np.testing.assert_allclose(found.parameters[name], value, rtol=1e-11, atol=1e-14, err_msg=method)
    assert ctrnn.simulate(p, solver="heun", dt=0.1).names == field.state_names


def test_gradients_of_a_torch_field_with_a_function_for_g():
    field = ctrnn.TorchField(lambda t, r, w, x: -w["a"] * r, 2, {"a": 1.0, "s": 0.4})
    p = problem(field, lambda t, r, w, x: w["s"] * torch.sin(r), seed=3)
    loss, named = by_torch(p, "heun", 0.1, lambda r, w: -w["a"] * r, lambda r, w: w["s"] * torch.sin(r))
    for method in ("adjoint", "rtrl", "autograd"):
        found = ctrnn.gradient(p, method=method, solver="heun", dt=0.1)
        np.testing.assert_allclose(found.vector, [named["a"], named["s"]], rtol=1e-11)


def test_second_order_is_that_of_the_path():
    p = problem(seed=1)
    H = ctrnn.hessian(p, solver="heun", dt=0.1)
    f = ctrnn.value_and_gradient(p, method="adjoint", solver="heun", dt=0.1)
    w, e = p.field.vector, 1e-5
    by_differences = [(f(w + e * d)[1] - f(w - e * d)[1]) / (2 * e) for d in np.eye(2)]
    np.testing.assert_allclose(H, by_differences, rtol=1e-7)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ctrnn.RateNetwork(3, 1, seed=0),
        lambda: ctrnn.GRUNetwork(3, 1, seed=0),
        lambda: ctrnn.LiquidNetwork(3, 1, dale=[1, 1, -1], seed=0),
        lambda: ctrnn.Equations({"v": "-v + u"}, inputs=["u"]),
    ],
)
def test_a_parameter_of_g_alone(make):
    """F does not see it; its gradient is that of differences, in a problem and in a layer."""
    plain = make()
    values = {"sigma": np.full(plain.n, 0.2)} if plain.n > 1 else {"sigma": 0.2}
    field = plain.extended(**values)
    assert type(field) is type(plain) and field.parameter_names == (*plain.parameter_names, "sigma")
    r, x = np.linspace(0.1, 0.4, field.n), np.array([0.3])
    np.testing.assert_array_equal(field(0.0, r, x), plain(0.0, r, x))
    assert all((a == b).all() for a, b in zip(field.bounds, (np.append(c, np.full(field.m - plain.m, d)) for c, d in
               zip(plain.bounds, (-np.inf, np.inf), strict=True)), strict=True))  # fmt: skip
    at = 0.1 * np.arange(1, 6)
    p = ctrnn.Problem(field, r, (0.0, 0.5), x=x, objective=ctrnn.Objective(target=0.5, at=at), noise="sigma")
    options = {"solver": "heun", "dt": 0.1}
    g = ctrnn.gradient(p, **options)
    f = ctrnn.value_and_gradient(p, **options)
    w, slopes = field.vector, []
    for j in range(field.m):
        step = 1e-6 * np.eye(field.m)[j]
        slopes.append((f(w + step)[0] - f(w - step)[0]) / 2e-6)
    np.testing.assert_allclose(g.vector, slopes, rtol=1e-6, atol=1e-8)
    assert (g.parameters["sigma"] != 0.0).all()
    layer = ctrnn.nn.Recurrent(field, 0.1, solver="heun", noise="sigma")
    states, _ = layer(torch.full((1, 5, 1), 0.3, dtype=torch.float64), torch.tensor(r), seed=0)
    (0.5 * (states - 0.5).square().sum()).backward()
    np.testing.assert_allclose(layer.sigma.grad.numpy(), g.parameters["sigma"], rtol=1e-10)


def test_a_fit_moves_what_g_alone_reads():
    field = ctrnn.GRUNetwork(2, seed=0).extended(sigma=0.1)
    p = ctrnn.Problem(field, 0.1, (0.0, 0.5), objective=ctrnn.Objective(target=0.3, at=[0.3, 0.5]), noise="sigma")
    fit = ctrnn.fit(p, parameters=["sigma"], solver="heun", dt=0.1)
    assert fit.converged and abs(fit.parameters["sigma"] - 0.1) > 0.01
    slope = ctrnn.gradient(fit.problem, solver="heun", dt=0.1).parameters["sigma"]
    assert abs(slope) < 1e-5 * abs(ctrnn.gradient(p, solver="heun", dt=0.1).parameters["sigma"])


def test_an_unknown_name_in_g_says_what_to_do():
    with pytest.raises(ExpressionError, match=r"allowed: h, t, (?!.*white).*extended") as caught:
        ctrnn.Problem(ctrnn.GRUNetwork(3, seed=0), 0.1, (0.0, 1.0), noise="sigma*h")
    assert "white" not in str(caught.value)
    with pytest.raises(UsageError, match="seed with each call"):
        ctrnn.nn.CTRNN(2, 3, dt=0.1, noise=WhiteNoise(0.1, seed=3))
    for name in ("h", "b_z", "t"):
        with pytest.raises(UsageError, match="no other meaning"):
            ctrnn.GRUNetwork(3, seed=0).extended(**{name: 0.1})


# --- one path, whatever runs beside it


def test_a_trial_takes_its_path_in_any_company_and_on_any_number_of_threads(monkeypatch):
    field = ctrnn.GRUNetwork(3, seed=0)
    objective = ctrnn.Objective(target=0.1, at=[0.5, 1.0])
    trials = ctrnn.Problem(field, np.full((5, 3), 0.2), (0.0, 1.0), objective=objective, noise=WhiteNoise(0.3, seed=8))
    options = {"solver": "euler", "dt": 0.1}
    runs = ctrnn.simulate(trials, **options)
    together = ctrnn.gradient(trials, **options)
    alone = [ctrnn.gradient(trials[b], **options) for b in range(5)]
    np.testing.assert_array_equal(together.losses, [one.loss for one in alone])
    np.testing.assert_array_equal(ctrnn.simulate(trials[3:], **options)[0].r, runs[3].r)
    assert abs(runs[0].r - runs[1].r).max() > 0.01
    members = ctrnn.ensemble(trials[0], paths=5, save_at=runs[0].t, **options)
    for b in range(5):
        np.testing.assert_allclose(members[b].r, runs[b].r, rtol=0, atol=1e-15)
        np.testing.assert_array_equal(members[b](0.35), runs[b](0.35))
    monkeypatch.setattr("ctrnn.threads.workers", lambda: 1)
    again = ctrnn.ensemble(trials[0], paths=5, save_at=runs[0].t, **options)
    np.testing.assert_array_equal(again.r, members.r)


@pytest.mark.parametrize("solver", ["euler", "heun", "rk4", "tsit5"])
@pytest.mark.parametrize("name", ["scalar", "network", "matrix", "torch"])
def test_members_side_by_side_are_those_alone(name, solver, monkeypatch):
    """To rounding, whatever their company, at t0, at the ends of steps, and beside them; blocks of steps too."""
    scalar = ctrnn.Equations({"v": "-v/tau + u", "z": "tanh(v)*t"}, {"tau": 0.7, "s": 0.3}, ["u"])
    hebb = ctrnn.Equations({"r": "-r + H @ r", "H": "outer(r, r) - H"}, states={"r": 2, "H": (2, 2)})
    turn = ctrnn.TorchField(lambda t, r, w, x: w["a"] * r.flip(0), 2, {"a": 0.5})
    field, g, x = {
        "scalar": (scalar, {"v": "s*v"}, ctrnn.inputs.Sine(0.4) + ctrnn.inputs.Step(0.33)),
        "network": (ctrnn.RateNetwork(9, 2, seed=0), 0.2, np.array([0.3, -0.1])),
        "matrix": (hebb, 0.1, None),
        "torch": (turn, 0.1, None),
    }[name]
    p = ctrnn.Problem(field, np.linspace(0.2, 0.6, field.n), (0.0, 1.0), x=x, noise=WhiteNoise(g, seed=5))
    monkeypatch.setattr("ctrnn.solvers.noisy_ensemble.BLOCK", 200)
    for times in ([0.0, 0.3, 1.0], [0.0, 0.3, 0.3000001, 0.725, 1.0]):
        members = ctrnn.ensemble(p, paths=7, solver=solver, dt=0.05, save_at=times)
        for b in (0, 3, 6):
            alone = ctrnn.simulate(p.replace(noise=p.noise.of_path(b)), solver=solver, dt=0.05, save_at=times)
            np.testing.assert_allclose(members[b].r, alone.r, rtol=1e-13, atol=1e-14)
            assert members[b].stats.steps == alone.stats.steps
    few = ctrnn.ensemble(p, paths=2, solver=solver, dt=0.05, save_at=times)
    np.testing.assert_array_equal(few.r, members.r[:2])


def test_members_that_end_early_and_members_of_other_parameters():
    field = ctrnn.Equations({"v": "k*v**3"}, {"k": 0.5, "s": 0.8})
    p = ctrnn.Problem(field, [1.0], (0.0, 0.6), noise="s*v")
    options = {"solver": "euler", "dt": 0.01}
    with pytest.raises(SolverError, match="member"):
        ctrnn.ensemble(p, paths=20, **options)
    found = ctrnn.ensemble(p, paths=20, allow_failures=True, **options)
    failed = np.isnan(found.r[:, 0, 0])
    assert set(found.failures) == set(np.flatnonzero(failed)) and 0 < failed.sum() < 20
    b = int(np.flatnonzero(~failed)[0])
    np.testing.assert_allclose(found[b].r, ctrnn.simulate(p.replace(noise=p.noise.of_path(b)), **options).r[-1:], 1e-13)
    varied = ctrnn.ensemble(p, {"k": [0.1, 0.2]}, **options)
    one = ctrnn.ensemble(p.replace(field=field.with_parameters(k=0.2)), paths=2, **options)
    np.testing.assert_allclose(varied.r[1], one.r[1], rtol=1e-13)


def test_noise_of_simulate_takes_the_place_of_the_problems_own():
    plain = ctrnn.Problem(GEOMETRIC, [1.0], (0.0, 1.0))
    noisy = plain.replace(noise=WhiteNoise("b*v", seed=4))
    options = {"solver": "euler", "dt": 0.1}
    wanted = ctrnn.simulate(noisy, **options).r
    np.testing.assert_array_equal(ctrnn.simulate(plain, noise="b*v", seed=4, **options).r, wanted)
    np.testing.assert_array_equal(ctrnn.simulate(noisy.replace(noise=WhiteNoise("b*v")), seed=4, **options).r, wanted)
    assert (ctrnn.simulate(noisy, seed=5, **options).r != wanted).any()
    np.testing.assert_array_equal(
        ctrnn.simulate(noisy, noise=0.0, **options).r, ctrnn.simulate(plain, **options).r
    )  # no noise is no noise


def test_a_prepared_function_keeps_its_path():
    p = problem(seed=3)
    f = ctrnn.value_and_gradient(p, solver="euler", dt=0.1)
    changed = p.replace(field=p.field.with_parameters(a=0.5), r0=[1.2])
    loss, g = f({"a": 0.5}, r0=[1.2])
    found = ctrnn.gradient(changed, solver="euler", dt=0.1)
    assert loss == found.loss and g["a"] == found.parameters["a"]
    trials = ctrnn.Problem(GEOMETRIC, [[1.0], [1.1]], (0.0, 1.0), objective=p._objective, noise=p.noise)
    both = ctrnn.value_and_gradient(trials, solver="euler", dt=0.1)(None)[0]
    assert both == ctrnn.gradient(trials, solver="euler", dt=0.1).loss


def test_a_fit_goes_along_the_one_path():
    p = problem(seed=3, at=(0.25, 0.5, 0.75, 1.0))
    found = ctrnn.fit(p, parameters=["a"], solver="heun", dt=0.05)
    g = ctrnn.gradient(found.problem, "complex-step", solver="heun", dt=0.05)
    assert found.converged and found.loss == pytest.approx(g.loss, rel=1e-12)
    assert abs(g.parameters["a"]) < 1e-6 < abs(ctrnn.gradient(p, solver="heun", dt=0.05).parameters["a"])
    assert found.problem.noise is p.noise and "with noise" in repr(p)


def test_on_a_device_of_torch_it_is_the_same_path():
    p = problem(seed=3)
    expected = ctrnn.gradient(p, "adjoint", solver="heun", dt=0.1).vector
    for method in (ctrnn.RTRL(device="cpu"), ctrnn.Adjoint(device="cpu")):
        np.testing.assert_allclose(ctrnn.gradient(p, method, solver="heun", dt=0.1).vector, expected, rtol=1e-13)


def test_other_numbers_of_the_same_field_take_them_along():
    p = problem(seed=3)
    first = ctrnn.simulate(p, solver="euler", dt=0.1).r
    other = ctrnn.simulate(p.replace(field=p.field.with_parameters(b=0.0)), solver="euler", dt=0.1).r
    np.testing.assert_allclose(other[:, 0], 1.03 ** np.arange(11), rtol=1e-13)
    assert (first[1:] != other[1:]).all()
    slow = ctrnn.RateNetwork(2, tau=1.0, seed=0)
    states = [
        ctrnn.simulate(problem(field, 0.1, seed=1), solver="euler", dt=0.1).r
        for field in (slow, slow.with_time_constant(2.0), ctrnn.RateNetwork(2, tau=2.0, seed=0))
    ]
    assert (states[0][1:] != states[1][1:]).any()
    np.testing.assert_array_equal(states[1], states[2])


# --- what is refused


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "tsit5"},
        {"solver": "euler"},
        {"solver": "kvaerno5", "dt": 0.1},
        {"solver": "exponential-euler", "dt": 0.1},
        {"solver": "scipy:LSODA"},
        {"solver": "torchdiffeq:rk4", "dt": 0.1},
        {"solver": "auto"},
    ],
)
def test_steps_that_are_not_fixed_and_explicit_are_refused(options):
    with pytest.raises(UsageError, match=r"with noise.*euler"):
        ctrnn.simulate(problem(), **options)
    with pytest.raises(UsageError, match="with noise"):
        ctrnn.gradient(problem(), **options)
    with pytest.raises(UsageError, match="with noise"):
        ctrnn.ensemble(problem(), paths=2, **options)


def test_the_other_calculus_is_refused_where_it_matters():
    state = ctrnn.Problem(GEOMETRIC, [1.0], (0.0, 1.0), noise=WhiteNoise("b*v", calculus="ito"))
    ctrnn.simulate(state, solver="euler", dt=0.1)
    with pytest.raises(UsageError, match=r"ito with heun.*stratonovich"):
        ctrnn.simulate(state, solver="heun", dt=0.1)
    with pytest.raises(UsageError, match=r"stratonovich with euler.*ito"):
        ctrnn.simulate(state, noise=WhiteNoise("b*v", calculus="stratonovich"), solver="euler", dt=0.1)
    ctrnn.simulate(state, noise=WhiteNoise("b", calculus="ito"), solver="heun", dt=0.1)
    by_definition = ctrnn.Equations({"v": "z"}, definitions={"z": "-v"})
    with pytest.raises(UsageError, match="calculus"):
        ctrnn.simulate(problem(by_definition, "z"), noise=WhiteNoise("z", calculus="ito"), solver="heun", dt=0.1)


def test_what_cannot_have_noise_says_so():
    p = problem(ctrnn.Equations({"u": "v", "v": "-u"}), 0.1)
    calls = [
        lambda: ctrnn.gradient(p, method="adjoint-backsolve", solver="euler", dt=0.1),
        lambda: ctrnn.gradient(p, method="adjoint-interpolate", solver="euler", dt=0.1),
        lambda: ctrnn.gradient(p, solver="euler", dt=0.1, certify=True),
        lambda: ctrnn.analysis.limit_cycle(p),
        lambda: ctrnn.analysis.lyapunov_spectrum(p),
        lambda: ctrnn.input_gradient(p, solver="euler", dt=0.1),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="noise"):
            call()
    with pytest.raises(UsageError, match="events"):
        ctrnn.Problem(GEOMETRIC, [1.0], (0.0, 1.0), noise=0.1, events=ctrnn.Event("v - 2"))
    with pytest.raises(UsageError, match=r"shooting.*noise"):
        ctrnn.fit(p, solver="euler", dt=0.1, shooting=2)
    with pytest.raises(UsageError, match="backwards"):
        ctrnn.Problem(GEOMETRIC, [1.0], (1.0, 0.0), noise=0.1)
    table = ctrnn.compare_gradients(p, ["adjoint", "adjoint-backsolve"], solver="euler", dt=0.1)
    assert "noise" in table["adjoint, backsolve"].failure
    assert table.route == "" and table["adjoint, discrete"].error is None  # there is no ODE to be off from


@pytest.mark.parametrize(
    ("g", "error", "word"),
    [
        ("q*v", ExpressionError, "unknown name 'q'"),
        ({"w": 0.1}, UnknownNameError, "allowed: v"),
        ([0.1, 0.2], UsageError, "one a state"),
        (np.nan, UsageError, "finite"),
        (True, UsageError, "a formula"),
        ({}, UsageError, "at least one state"),
        ({"v": [0.1, 0.2]}, UsageError, "a number"),
    ],
)
def test_strengths_that_do_not_fit_are_refused(g, error, word):
    with pytest.raises(error, match=word):
        problem(g=g)


def test_arguments_that_do_not_fit_are_refused():
    for arguments in ({"seed": -1}, {"seed": 1.5}, {"dt": 0.0}, {"path": -2}):
        with pytest.raises(UsageError):
            WhiteNoise(0.1, **arguments)
    with pytest.raises(UnknownNameError, match="ito"):
        WhiteNoise(0.1, calculus="itoo")
    with pytest.raises(UsageError, match="without noise"):
        ctrnn.simulate(ctrnn.Problem(GEOMETRIC, [1.0], (0.0, 1.0)), seed=3)
    with pytest.raises(UsageError, match="paths"):
        ctrnn.ensemble(ctrnn.Problem(GEOMETRIC, [1.0], (0.0, 1.0)), paths=3)
    array = ctrnn.GRUNetwork(3, seed=0)
    with pytest.raises(UsageError, match=r"noise\['h'\].*shape \(3,\)"):
        ctrnn.Problem(array, 0.0, (0.0, 1.0), noise="h[0:2]")
    with pytest.raises(CtrnnError, match="a function"):
        ctrnn.Problem(ctrnn.TorchField(lambda t, r, w, x: -r, 1), [1.0], (0.0, 1.0), noise="r0")


# --- layers


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_layers_take_the_paths_of_simulate(solver):
    x = torch.randn(3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for layer, g in (
        (ctrnn.nn.CTRNN(2, 4, dt=0.1, tau=0.5, solver=solver, steps_per_input=2, noise="0.3*r", seed=0), "0.3*r"),
        (ctrnn.nn.CTGRU(2, 4, dt=0.1, solver=solver, steps_per_input=2, noise=0.2, seed=0), 0.2),
    ):
        states = layer(x, seed=9)[0].detach().numpy()
        np.testing.assert_array_equal(layer(x[2:], seed=9)[0].detach().numpy()[0], layer(x[2:3], seed=9)[0][0].detach())
        ends = 0.2 * np.arange(1, 6)
        for b in range(3):
            held = ctrnn.inputs.Sampled(ends - 0.2, x[b].numpy())
            p = ctrnn.Problem(layer.field(), 0.0, (0.0, 1.0), x=held, noise=WhiteNoise(g, seed=9, path=b))
            run = ctrnn.simulate(p, solver=solver, dt=0.1, save_at=ends)
            np.testing.assert_allclose(states[b], run.r, rtol=0, atol=1e-14)


def test_gradients_of_noisy_layers_first_and_second():
    x = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for layer in (
        ctrnn.nn.CTRNN(2, 3, dt=0.2, solver="heun", noise="0.3*r", seed=0, num_layers=2, bidirectional=True),
        ctrnn.nn.CTLSTM(2, 3, dt=0.2, noise={"c": "0.3*h"}, seed=0),
    ):
        names, values = zip(*layer.named_parameters(), strict=True)

        def loss(x, *values, layer=layer, names=names):
            named = dict(zip(names, values, strict=True))
            return torch.func.functional_call(layer, named, (x,), {"seed": 3})[0].square().sum()

        assert torch.autograd.gradcheck(loss, (x, *values))
        assert torch.autograd.gradgradcheck(lambda x, layer=layer: layer(x, seed=3)[0].square().sum(), (x,))


def test_a_layer_draws_from_torchs_generator_unless_it_is_told_a_seed():
    layer, x = ctrnn.nn.LTC(1, 3, dt=0.1, noise=0.3, seed=0), torch.zeros(2, 4, 1)
    torch.manual_seed(5)
    one, two = layer(x)[0], layer(x)[0]
    torch.manual_seed(5)
    assert torch.equal(layer(x)[0], one) and not torch.equal(one, two)
    assert not torch.equal(one[0], one[1])
    layer.noise = None
    assert torch.equal(layer(x)[0], ctrnn.nn.LTC(1, 3, dt=0.1, seed=0)(x)[0])
    for call in (
        lambda: layer(x, seed=3),
        lambda: ctrnn.nn.LTC(1, 3, dt=0.1, noise=0.3)(x, seed=-1),
        lambda: ctrnn.nn.LTC(1, 3, dt=0.1, noise=0.3, interpolation="linear"),
        lambda: ctrnn.nn.CTRNN(1, 3, dt=0.1, noise=0.3, solver="exponential-euler"),
    ):
        with pytest.raises(UsageError, match="noise|seed"):
            call()


def test_transforms_of_torch_are_refused_in_our_words():
    layer = ctrnn.nn.CTGRU(2, 3, dt=0.1, seed=0)
    x = torch.randn(4, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    named = {k: v.detach() for k, v in layer.named_parameters()}
    for call in (
        lambda: torch.func.vmap(lambda one: layer(one)[0])(x),
        lambda: torch.func.grad(lambda x: layer(x)[0].sum())(x),
        lambda: torch.func.jvp(lambda x: layer(x)[0], (x,), (x,)),
        lambda: torch.func.grad(lambda w: torch.func.functional_call(layer, w, (x,))[0].sum())(named),
    ):
        with pytest.raises(UsageError, match=r"torch\.func.*create_graph"):
            call()
    with torch.autograd.forward_ad.dual_level(), pytest.raises(UsageError, match="forward mode"):
        layer(torch.autograd.forward_ad.make_dual(x, x))
    torch.testing.assert_close(torch.func.functional_call(layer, named, (x,))[0], layer(x)[0])


def test_transforms_of_solutions_and_of_states_at_rest_are_refused_in_our_words():
    rest = ctrnn.RestLayer(ctrnn.RateNetwork(3, inputs=1, gain=0.5, seed=0))
    decay = ctrnn.as_module(ctrnn.Equations({"r": "-k*r"}, {"k": 2.0}))
    x, t = torch.ones(4, 1, dtype=torch.float64), torch.tensor([0.0, 0.5, 1.0])
    for function in (rest, lambda y: ctrnn.odeint(decay, y, t)):
        for call in (
            lambda function=function: torch.func.vmap(function)(x),
            lambda function=function: torch.func.grad(lambda y: function(y).sum())(x),
            lambda function=function: torch.func.jvp(function, (x,), (x,)),
        ):
            with pytest.raises(UsageError, match=r"torch\.func.*create_graph"):
                call()
        with torch.autograd.forward_ad.dual_level(), pytest.raises(UsageError, match="forward mode"):
            function(torch.autograd.forward_ad.make_dual(x, x))
        assert torch.isfinite(function(x)).all()
