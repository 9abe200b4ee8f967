"""Floquet modes, isostable response, gradients of amplitude and multipliers: closed forms, runs, and differences."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp

from ctrnn import Equations, Problem
from ctrnn.analysis import limit_cycle
from ctrnn.errors import UnknownNameError, UsageError

VAN_DER_POL = Equations({"u": "v", "v": "mu*(1 - u**2)*v - k*u"}, {"mu": 1.0, "k": 1.0})


def van_der_pol(mu=1.0, k=1.0):
    return limit_cycle(Problem(VAN_DER_POL.with_parameters(mu=mu, k=k), [2.0, 0.0], (0.0, 60.0)))


def derivative(f, at, h):
    """By six values, of a smooth function of one number."""
    weights = ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))
    return sum(w * (f(at + j * h) - f(at - j * h)) for j, w in weights) / h


def test_the_radial_cycle():
    """ρ r(1 − r²/s), θ′ = 2: μ = e^(−2ρπ), mode and response radial, amplitude 2√s."""
    field = Equations(
        {"u": "rho*u*(1 - (u**2 + v**2)/s) - 2*v", "v": "rho*v*(1 - (u**2 + v**2)/s) + 2*u"}, {"rho": 0.7, "s": 1.0}
    )
    cycle = limit_cycle(Problem(field, [1.0, 0.5], (0.0, 40.0)))
    v, response = cycle.floquet_mode(1)
    assert_allclose(np.abs((v * cycle.r).sum(axis=1)), 1.0, rtol=1e-10)  # e_r, on a circle of radius 1
    assert_allclose(response, v, atol=1e-10)
    assert_allclose(cycle.isostable_response, response)
    μ = np.exp(-2 * 0.7 * np.pi)
    found = cycle.multiplier_gradient(1)
    assert found["rho"] == pytest.approx(-2 * np.pi * μ, rel=1e-9)
    assert found["s"] == pytest.approx(0.0, abs=1e-10)
    for state in ("u", 1):
        amplitude = cycle.amplitude_gradient(state)
        assert amplitude["s"] == pytest.approx(1.0, rel=1e-8)
        assert amplitude["rho"] == pytest.approx(0.0, abs=1e-8)
    assert_allclose(cycle.amplitude, 2.0, rtol=1e-10)
    # of the flow itself the mode is F, and its response the phase response
    along, phase = cycle.floquet_mode(0)
    F = np.array([field(0.0, r) for r in cycle.r])
    size = np.linalg.norm(F[0]) * np.sign((along[0] * F[0]).sum())
    assert_allclose(along, F / size, atol=1e-9)
    assert_allclose(phase, cycle.phase_response * size, atol=1e-8)


def swing(cycle):
    """The amplitude of v along one turn by SciPy: where dv/dt = 0."""
    field = cycle.field
    event = lambda t, r: field(t, r)[1]  # noqa: E731
    run = solve_ivp(field, (0.0, cycle.period), cycle.r[0], method="DOP853", rtol=1e-12, atol=1e-13, events=event)
    return float(np.ptp(run.y_events[0][:, 1]))


def test_van_der_pol_against_differences():
    cycle = van_der_pol()
    runs = {name: {} for name in ("mu", "k")}
    for name, known in runs.items():

        def at(p, name=name, known=known):
            return known.setdefault(p, van_der_pol(**{name: p}) if p not in known else None)

        for found, value, digits in (
            (cycle.multiplier_gradient(1), lambda one: one.multipliers[1].real, 1e-6),
            (cycle.amplitude_gradient("v"), swing, 2e-5),
            (cycle.period_gradient(), lambda one: one.period, 1e-8),
        ):
            assert found[name] == pytest.approx(derivative(lambda p, v=value, a=at: v(a(p)), 1.0, 1e-2), rel=digits)
        assert cycle.multiplier_gradient(0)[name] == pytest.approx(0.0, abs=1e-9)


def test_the_isostable_response_is_what_runs_do():
    """After two turns a small change is F (Z·δr) + μ² v (I·δr): SciPy's DOP853."""
    cycle = van_der_pol(mu=0.3)
    field = VAN_DER_POL.with_parameters(mu=0.3)
    v, response = cycle.floquet_mode(1)
    μ, T = cycle.multipliers[1].real, cycle.period

    def after(r):
        return solve_ivp(field, (0.0, 2 * T), r, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]

    for δ in np.eye(2):
        moved = (after(cycle.r[0] + 1e-4 * δ) - after(cycle.r[0] - 1e-4 * δ)) / 2e-4
        along = field(0.0, cycle.r[0]) * (cycle.phase_response[0] @ δ)
        assert_allclose(moved, along + μ**2 * (response[0] @ δ) * v[0], atol=1e-6)
        assert np.abs(moved - along).max() > 1e-4


def test_complex_multipliers():
    """A focus beside the cycle: μ = e^((−a ± ib)T), T = 2π/w."""
    field = Equations(
        {"u": "u*(1 - u**2 - v**2) - w*v", "v": "v*(1 - u**2 - v**2) + w*u", "p": "-a*p - b*q", "q": "b*p - a*q"},
        {"w": 2.0, "a": 0.3, "b": 0.4},
    )
    cycle = limit_cycle(Problem(field, [1.0, 0.1, 0.5, 0.2], (0.0, 80.0)))
    k = int(np.argmax(cycle.multipliers.imag))
    μ, T = cycle.multipliers[k], cycle.period
    assert μ == pytest.approx(np.exp((-0.3 + 0.4j) * T), rel=1e-8)
    found = cycle.multiplier_gradient(k)
    assert found["a"] == pytest.approx(-T * μ, rel=1e-8)
    assert found["b"] == pytest.approx(1j * T * μ, rel=1e-8)
    assert found["w"] == pytest.approx(-(-0.3 + 0.4j) * T / 2.0 * μ, rel=1e-8)
    v, response = cycle.floquet_mode(k)
    assert_allclose((v * response).sum(axis=1), 1.0, rtol=1e-9)


def test_a_negative_multiplier_turns_its_mode_round():
    """Roessler's cycle before its flip, against differences."""
    text = {"x": "-y - z", "y": "x + a*y", "z": "b + z*(x - c)"}

    def cycle_at(c):
        return limit_cycle(Problem(Equations(text, {"a": 0.2, "b": 0.2, "c": c}), [1.0, 1.0, 0.0], (0.0, 400.0)))

    cycle = cycle_at(2.6)
    assert -1 < cycle.multipliers[1].real < -0.5
    found = cycle.multiplier_gradient(1)["c"]
    assert found == pytest.approx(derivative(lambda c: cycle_at(c).multipliers[1].real, 2.6, 1e-2), rel=1e-5)
    v, response = cycle.floquet_mode(1)
    assert_allclose(v[-1], -v[0], rtol=1e-9)
    assert_allclose((v * response).sum(axis=1), 1.0, rtol=1e-8)


def test_what_is_refused():
    cycle = van_der_pol()
    with pytest.raises(UsageError, match="k"):
        cycle.multiplier_gradient(2)
    with pytest.raises(UnknownNameError, match="state"):
        cycle.amplitude_gradient("w")
