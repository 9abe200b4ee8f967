"""The models of the shipped experiments, against their equations written out again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ctrnn
from ctrnn.experiment.build import Experiment


def sigmoid(u):
    return 1.0 / (1.0 + np.exp(-u))


def test_wilson_and_cowans_populations_have_their_limit_cycle():
    def S(u, a, theta):
        return sigmoid(a * (u - theta)) - sigmoid(-a * theta)

    def F(t, r):
        E, I = r
        k_e, k_i = 1.0 - sigmoid(-1.3 * 4.0), 1.0 - sigmoid(-2.0 * 3.7)
        dE = -E + (k_e - E) * S(16.0 * E - 12.0 * I + 1.25, 1.3, 4.0)
        dI = -I + (k_i - I) * S(15.0 * E - 3.0 * I, 2.0, 3.7)
        return np.array([dE, dI]) / 8.0

    e = Experiment("wilson-cowan")
    for r in np.random.default_rng(0).uniform(0.0, 0.5, (5, 2)):
        np.testing.assert_allclose(e.field(0.0, r), F(0.0, r), rtol=1e-13)
    up = lambda t, r: r[0] - 0.2  # noqa: E731
    up.direction = 1.0
    run = solve_ivp(F, (0.0, 1000.0), e.r0, method="DOP853", events=up, rtol=1e-11, atol=1e-13)
    period = np.diff(run.t_events[0])[-1]
    found = ctrnn.analysis.limit_cycle(e.problem)
    assert found.stable and found.period == pytest.approx(period, rel=1e-7)


def test_tsodyks_and_markrams_synapses_at_their_spikes():
    e = Experiment("short-term-plasticity")
    p = {name: float(value) for name, value in e.field.parameters.items()}
    run = ctrnn.simulate(e.problem, save_at=e.grid, solver="tsit5", rtol=1e-10, atol=1e-12)
    spikes, D = run.events.t, 1.0 / p["f"]
    np.testing.assert_allclose(spikes, 20.0 + D * np.arange(spikes.size), rtol=1e-9)
    x_d, x_f, u, released = 1.0, 1.0, 0.0, []
    for _ in spikes:
        u = u + p["U_f"] * (1.0 - u)
        released.append((p["U_d"] * x_d, u * x_f))
        x_d = 1.0 + (x_d * (1.0 - p["U_d"]) - 1.0) * np.exp(-D / p["tau_d"])
        x_f = 1.0 + (x_f * (1.0 - u) - 1.0) * np.exp(-D / p["tau_f"])
        u = u * np.exp(-D / p["tau_facil"])
    names = list(run.names)
    jumps = (run.events.after - run.events.before)[:, [names.index("I_d"), names.index("I_f")]]
    np.testing.assert_allclose(jumps, released, rtol=1e-7)
    assert jumps[-1, 0] < 0.1 * jumps[0, 0] and jumps[-1, 1] > 3.0 * jumps[0, 1]


def test_the_adaptive_exponential_neuron_spikes_as_scipy_says():
    e = Experiment("adaptive-exponential")
    p = {name: float(value) for name, value in e.field.parameters.items()}

    def F(t, r):  # as published, w in pA
        v, w = r
        I = 1000.0 if t >= 20.0 else 0.0
        leak = -p["gL"] * (v - p["EL"]) + p["gL"] * p["D"] * np.exp((v - p["VT"]) / p["D"])
        return [(leak - w + I) / p["C"], (p["a"] * (v - p["EL"]) - w) / p["tau_w"]]

    peak = lambda t, r: r[0] - p["peak"]  # noqa: E731
    peak.terminal, peak.direction = True, 1.0
    t, r, spikes = 20.0, [p["EL"], 0.0], []
    # before the current there is a little drift of the exponential term
    r = solve_ivp(F, (0.0, 20.0 - 1e-12), r, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    while t < 250.0:
        part = solve_ivp(F, (t, 400.0), r, method="DOP853", rtol=1e-11, atol=1e-12, events=peak)
        t = float(part.t[-1])
        spikes.append(t)
        r = [p["EL"], part.y[1, -1] + p["b"]]
    found = ctrnn.simulate(e.problem, rtol=1e-10, atol=1e-12).events.t
    np.testing.assert_allclose(found[: len(spikes)], spikes, rtol=1e-7)
    assert (np.diff(found)[1:] > np.diff(found)[:-1] - 1e-3).all()  # it adapts


def test_the_plastic_network_and_its_gradient():
    e = Experiment("plastic-network")
    rng = np.random.default_rng(0)
    r, H, x = rng.normal(size=6), rng.normal(size=(6, 6)), rng.normal(size=6)
    s = np.tanh(r)
    wanted = np.concatenate([-r + H @ s + x, (0.01 * np.outer(s, s) - H / 40.0).ravel()])
    np.testing.assert_allclose(e.field(0.0, np.concatenate([r, H.ravel()]), x=x), wanted, rtol=1e-13)
    f = ctrnn.value_and_gradient(e.problem, method="adjoint", rtol=1e-9, atol=1e-11)
    h = 1e-5
    slope = (f({"eta": 0.02 + h})[0] - f({"eta": 0.02 - h})[0]) / (2 * h)
    assert f({"eta": 0.02})[1]["eta"] == pytest.approx(slope, rel=1e-6)


def test_the_gated_network_of_the_sine_is_a_gru():
    e = Experiment("gru-sine")
    p, h = e.field.parameters, np.random.default_rng(0).normal(size=12)
    g, z = (sigmoid(p[f"W_{k}"] @ h + p[f"b_{k}"]) for k in "rz")
    u = np.tanh(p["W_n"] @ (g * h) + p["b_n"])
    np.testing.assert_allclose(e.field(0.0, h), (1 - z) * (u - h) / 0.5, rtol=1e-12)
    twin = ctrnn.GRUNetwork(12, tau=0.5, reset="before", seed=0)
    np.testing.assert_allclose(twin.with_parameters(**p)(0.0, h), e.field(0.0, h), rtol=1e-12)


def test_the_noisy_choice_has_the_spread_of_its_linear_beginning():
    e = Experiment("noisy-decision")
    assert e.problem.noise is not None
    end = ctrnn.ensemble(e.problem, paths=400, solver="euler", dt=0.01, save_at=[0.1]).r[:, 0]
    sd = 0.4 * np.sqrt((1 - np.exp(-0.04)) / 0.4)  # before the accumulators feel each other
    assert abs(end.std(axis=0) / sd - 1).max() < 4 / np.sqrt(800) + 0.02


def test_cells_become_selective_by_the_rule_of_bienenstock_cooper_and_munro():
    """Pattern by pattern, in a loop; at rest each cell answers one of them alone, by their number."""
    e = Experiment("selective-cells")
    X = np.array(e.field.constants["X"])

    def F(t, state):
        theta, W = state[:3], state[3:].reshape(3, 3)
        dtheta, dW = -theta, np.zeros((3, 3))
        for x in X:
            y = W @ x
            dtheta = dtheta + y**2 / 3.0
            dW = dW + 0.5 * np.outer(y * (y - theta), x) / 3.0
        return np.concatenate([dtheta / 0.3, dW.ravel()])

    for r in np.random.default_rng(0).normal(size=(5, 12)):
        np.testing.assert_allclose(e.field(0.0, r), F(0.0, r), rtol=1e-12, atol=1e-13)
    run = solve_ivp(F, (0.0, 300.0), e.r0, method="LSODA", rtol=1e-9, atol=1e-11)
    rest = ctrnn.find_equilibrium(e.field, ctrnn.simulate(e.problem).r[-1])
    np.testing.assert_allclose(run.y[:, -1], rest.r, atol=1e-6)
    np.testing.assert_allclose(rest.r[3:].reshape(3, 3) @ X.T, 3.0 * np.eye(3), atol=1e-10)
    assert rest.stable


def test_a_fit_keeps_dales_signs():
    e = Experiment("excitatory-inhibitory")
    fit = ctrnn.fit(e.problem, **e.fit_options | {"max_iterations": 20})
    W = fit.problem.field.parameters["W"]
    assert fit.loss < 0.25 * fit.initial_loss
    assert (W[:, :16] >= 0.0).all() and (W[:, 16:] <= 0.0).all()
    assert (W == 0.0).any()  # some are at the bound: without it they would have crossed
