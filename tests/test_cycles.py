"""Limit cycles against closed forms (1e-11), published periods, and another route: the solver's own sensitivities.

Multipliers to 1e-9 of the closed form, exponents of −60 and the sum rule of Liouville to 1e-8, phase response to 1e-9.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import ctrnn
from ctrnn import Equations, Problem, RateNetwork, TorchField, inputs
from ctrnn.analysis import continue_equilibria, limit_cycle
from ctrnn.analysis.cycles import is_stable
from ctrnn.analysis.floquet import multipliers
from ctrnn.errors import ConvergenceError, UsageError

VAN_DER_POL = Equations({"u": "v", "v": "mu*(1 - u**2)*v - u"}, {"mu": 1.0})
RADIAL = Equations({"u": "rho*u*(1 - u**2 - v**2) - w*v", "v": "rho*v*(1 - u**2 - v**2) + w*u"}, {"rho": 0.7, "w": 2.0})
LORENZ = Equations({"x": "s*(y - x)", "y": "x*(r - z) - y", "z": "x*y - b*z"}, {"s": 10.0, "r": 160.0, "b": 8 / 3})


def van_der_pol(mu=1.0, t_end=40.0):
    return Problem(VAN_DER_POL.with_parameters(mu=mu), [2.0, 0.0], (0.0, t_end))


# --- closed forms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.05, 0.7, 30.0])
def test_radial_cycle(rho):
    """ρ' = ρ(1 − ρ²)·rho, θ' = w: T = 2π/w, the other multiplier e^(−4π rho/w), Z = (−v, u)/w."""
    field = RADIAL.with_parameters(rho=rho)
    cycle = limit_cycle(Problem(field, [1.0, 0.3], (0.0, max(40.0, 20 / rho))))
    assert cycle.period == pytest.approx(np.pi, rel=1e-12)
    assert cycle.multipliers[0] == pytest.approx(1.0, abs=1e-10)
    assert cycle.exponents[1].real == pytest.approx(-2 * rho, rel=1e-9)
    assert cycle.multipliers[1].real == pytest.approx(np.exp(-2 * np.pi * rho), rel=1e-6 if rho > 1 else 1e-9)
    assert cycle.stable
    assert_allclose(np.linalg.norm(cycle.r, axis=1), 1.0, rtol=1e-9)
    assert_allclose(cycle.r[0], cycle.r[-1], rtol=0, atol=1e-14)
    Z = np.stack([-cycle.r[:, 1], cycle.r[:, 0]], axis=1) / 2.0
    assert_allclose(cycle.phase_response, Z, atol=1e-9)
    assert_allclose(cycle.amplitude, 2.0, rtol=1e-5)
    gradient = cycle.period_gradient()
    assert gradient["w"] == pytest.approx(-np.pi / 2.0, rel=1e-11)
    assert gradient["rho"] == pytest.approx(0.0, abs=1e-10)


def test_dense_output_of_a_cycle():
    cycle = limit_cycle(Problem(RADIAL, [1.0, 0.0], (0.0, 40.0)))
    t = np.linspace(-1.0, 9.0, 50)
    found = cycle(t)
    angle = np.arctan2(cycle.r[0, 1], cycle.r[0, 0]) + 2.0 * t
    assert_allclose(found, np.stack([np.cos(angle), np.sin(angle)], axis=1), atol=1e-6)
    assert cycle(0.3).shape == (2,)


def test_an_unstable_cycle_from_a_guess_of_its_period():
    """Backwards in time the radial cycle is stable; forwards Newton's method finds it all the same."""
    field = RADIAL.with_parameters(rho=-0.2)
    cycle = limit_cycle(Problem(field, [0.999, 0.0], (0.0, 3.2)), period=3.1)
    assert not cycle.stable
    assert cycle.multipliers[0].real == pytest.approx(np.exp(0.2 * 2 * np.pi), rel=1e-9)
    assert cycle.multipliers[1] == pytest.approx(1.0, abs=1e-10)


def test_a_state_that_does_not_move():
    field = Equations(
        {"u": "rho*u*(1 - u**2 - v**2) - 2*v", "v": "rho*v*(1 - u**2 - v**2) + 2*u", "z": "-3*z"}, {"rho": 0.7}
    )
    cycle = limit_cycle(Problem(field, [1.0, 0.3, 0.0], (0.0, 40.0)))
    assert cycle.period == pytest.approx(np.pi, rel=1e-12)
    assert_allclose(cycle.exponents.real, [0.0, -1.4, -3.0], atol=1e-9)
    assert_allclose(cycle.phase_response[:, 2], 0.0, atol=1e-12)


# --- published values and other routes ---------------------------------------------------------------------------


def test_van_der_pol():
    """T = 6.6632868593 at mu = 1 (published); T' by mu against differences of T, 1e-8."""
    cycle = limit_cycle(van_der_pol())
    assert cycle.period == pytest.approx(6.6632868593, abs=5e-11)
    assert cycle.error < 1e-10
    h = 1e-3
    T = {s: limit_cycle(van_der_pol(1.0 + s * h)).period for s in (-2, -1, 1, 2)}
    slope = (8 * (T[1] - T[-1]) - (T[2] - T[-2])) / (12 * h)
    assert cycle.period_gradient()["mu"] == pytest.approx(slope, rel=1e-8)


def test_a_relaxation_oscillation():
    """mu = 100: T = (3 − 2 ln 2) mu + 7.014 mu^(−1/3) + … = 162.8; the run's own period by another solver to 1e-6."""
    cycle = limit_cycle(van_der_pol(100.0, 600.0))
    run = ctrnn.simulate(van_der_pol(100.0, 600.0), solver="kvaerno5", rtol=1e-9, atol=1e-11)
    u = run.r[:, 0]
    up = np.flatnonzero((u[:-1] < 0) & (u[1:] >= 0))
    t = [np.interp(0.0, u[k : k + 2], run.t[k : k + 2]) for k in up]
    assert cycle.period == pytest.approx(t[-1] - t[-2], rel=1e-6)
    assert cycle.stable
    divergence = 100.0 * (1 - cycle(np.linspace(0, cycle.period, 400_001)[:-1])[:, 0] ** 2)
    assert cycle.exponents.real.sum() == pytest.approx(divergence.mean(), rel=1e-4)


def test_multipliers_against_the_solvers_sensitivities():
    """The monodromy matrix by ctrnn.sensitivities over one period, another discretisation altogether: 1e-6."""
    cycle = limit_cycle(Problem(LORENZ, [1.0, 1.0, 1.0], (0.0, 60.0)))
    turn = Problem(LORENZ, cycle.r[0], (0.0, cycle.period))
    found = ctrnn.sensitivities(turn, [cycle.period], rtol=1e-11, atol=1e-12)
    assert_allclose(found.r[0], cycle.r[0], rtol=1e-8)
    values = np.linalg.eigvals(found.p0[0])
    values = values[np.argsort(-np.abs(values))]
    assert_allclose(cycle.multipliers[:2].real, values[:2].real, rtol=1e-6)
    # of what is far below the solver's own error the sum rule tells: ∮ tr J = −(s + 1 + b), to 1e-8
    assert cycle.exponents.real.sum() == pytest.approx(-(10 + 1 + 8 / 3), rel=1e-8)


def test_phase_response_against_perturbed_runs():
    cycle = limit_cycle(van_der_pol())
    k, δ = 9, np.array([2e-4, -1e-4])
    shifts = []
    for s in (1, -1):
        late = 12 * cycle.period
        ahead = ctrnn.simulate(
            Problem(VAN_DER_POL, cycle.r[k] + s * δ, (0.0, late)), save_at=[late], rtol=1e-11, atol=1e-12
        ).r[0]
        # on the cycle again; the time gained is that by which it is ahead of where it would be
        times = np.linspace(-0.01, 0.01, 2001)
        apart = np.linalg.norm(cycle(cycle.t[k] + times) - ahead, axis=1)
        best = int(apart.argmin())
        curve = np.polyfit(times[best - 3 : best + 4], apart[best - 3 : best + 4] ** 2, 2)
        shifts.append(-curve[1] / (2 * curve[0]))
    assert (shifts[0] - shifts[1]) / 2 == pytest.approx(cycle.phase_response[k] @ δ, rel=1e-3)


def test_small_cycles_at_a_hopf_point():
    """|z|² = −Re λ/Re c1 with Re c1 = ω l1: the first Lyapunov coefficient by a route of its own, to ε²."""
    A = 1.2
    field = Equations({"u": "A - (B + 1)*u + u**2*v", "v": "B*u - u**2*v"}, {"A": A, "B": 1.0})
    (hopf,) = continue_equilibria(field, [A, 1 / A], "B", (0.5, 4.0)).special
    for ε in (0.01, 0.005):
        cycle = limit_cycle(field, hopf, amplitude=ε)
        assert cycle.stable
        assert cycle.name == "B"
        assert cycle.parameter > hopf.parameter
        assert cycle.field.parameters["B"] == cycle.parameter
        grow = hopf.crossing * (cycle.parameter - hopf.parameter)
        z = np.sqrt(-grow / (hopf.omega * hopf.lyapunov))
        # the state's first harmonic is 2 z |q|, and |q_u| = |q_v| A/√(1 + A²) …
        J = field.with_parameters(B=hopf.parameter).jacobian(0.0, hopf.r)
        q = np.linalg.svd(J - 1j * hopf.omega * np.eye(2))[2][-1]
        assert_allclose(cycle.amplitude, 4 * z * np.abs(q), rtol=100 * ε**2)
        assert cycle.period == pytest.approx(2 * np.pi / hopf.omega, rel=10 * ε**2)


def test_an_unstable_cycle_at_a_subcritical_hopf_point():
    field = Equations({"v": "v - v**3/3 - w + I", "w": "e*(v + a - b*w)"}, {"I": 0.0, "a": 0.7, "b": 0.8, "e": 0.08})
    hopf = continue_equilibria(field, [-1.2, -0.6], "I", (-1.0, 1.0)).special[0]
    cycle = limit_cycle(field, hopf)
    assert not cycle.stable
    assert cycle.parameter < hopf.parameter


# --- every kind of field -----------------------------------------------------------------------------------------


def test_small_cycles_are_as_stable_as_their_hopf_point_says():
    """Chua's and Rössler's: the multiplier is 1 − 8e-8, and the trivial one 1 to 1e-14."""
    chua = Equations(
        {"x": "al*(y - x - (m1*x**3 + m0*x))", "y": "x - y + z", "z": "-be*y"},
        {"al": 1.0, "be": 14.0, "m0": -0.2, "m1": 0.01},
    )
    roessler = Equations({"x": "-y - z", "y": "x + a*y", "z": "b + z*(x - c)"}, {"a": 0.2, "b": 0.2, "c": 5.7})
    for field, parameter, span in ((chua, "al", (0.0, 20.0)), (roessler, "a", (-2.0, 20.0))):
        (hopf,) = continue_equilibria(field, [0.0, 0.0, 0.0], parameter, span).of_kind("hopf")
        cycle = limit_cycle(field, hopf)
        assert hopf.type == "supercritical"
        assert cycle.stable
        # of the amplitude ε = 1 %: log |μ| = −2 crossing (μ − μ*) T, to the next order
        expected = -2.0 * hopf.crossing * (cycle.parameter - hopf.parameter) * cycle.period
        others = np.delete(cycle.multipliers, np.abs(cycle.multipliers - 1.0).argmin())
        assert np.log(others[0].real) == pytest.approx(expected, rel=1e-3)


def test_what_is_not_told_from_1_is_not_stable():
    """Beside a second multiplier at 1 both are off by the root of round-off."""
    assert not is_stable(np.array([1.0 + 3e-7, 1.0 - 3e-7, 0.5]))
    assert is_stable(np.array([1.0, 1.0 - 1e-7, 0.5]))


def test_a_small_cycle_far_from_zero_needs_no_fine_mesh():
    """Its squares about 0 drown in rounding, about its own centre they do not."""
    hopf = Equations(
        {"u": "a*(u - c) - (v - c) - (u - c)**3", "v": "u - c + a*(v - c) - (v - c)**3"}, {"a": -0.5, "c": 100.0}
    )
    (point,) = continue_equilibria(hopf, [100.0, 100.0], "a", (-1.0, 1.0)).of_kind("hopf")
    assert limit_cycle(hopf, point, amplitude=1e-4).orbit.s.size <= 49


def test_networks_and_torch_fields():
    torch = pytest.importorskip("torch")
    phi, n = 0.6, 6
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    D = np.diag(rng.uniform(-0.5, 0.5, n))
    D[:2, :2] = 1.6 * np.array([[np.cos(phi), -np.sin(phi)], [np.sin(phi), np.cos(phi)]])
    W, r0 = Q @ D @ Q.T, rng.normal(size=n)
    network = RateNetwork(n, inputs=1).with_parameters(W=W)
    twin = TorchField(lambda t, r, w, x: -r + w["W"] @ torch.tanh(r), n, {"W": W})
    cycle = limit_cycle(Problem(network, r0, (0.0, 200.0), x=0.0))
    other = limit_cycle(Problem(twin, r0, (0.0, 200.0)))
    assert cycle.stable
    assert other.period == pytest.approx(cycle.period, rel=1e-10)
    assert_allclose(np.abs(other.multipliers), np.abs(cycle.multipliers), rtol=1e-7)
    assert cycle.period_gradient()["W"].shape == (n, n)
    h = 1e-5
    moved = np.zeros((n, n))
    moved[2, 3] = h
    T = [
        limit_cycle(Problem(network.with_parameters(W=W + s * moved), r0, (0.0, 200.0), x=0.0)).period for s in (1, -1)
    ]
    assert (T[0] - T[1]) / (2 * h) == pytest.approx(cycle.period_gradient()["W"][2, 3], rel=1e-5)


# --- multipliers of a product ------------------------------------------------------------------------------------


def test_multipliers_that_differ_by_hundreds_of_digits():
    rates = np.array([0.5, -3.0, -300.0, -900.0])
    V = np.random.default_rng(1).normal(size=(4, 4))
    G = np.array([V @ np.diag(np.exp(rates / 100)) @ np.linalg.inv(V)] * 100)
    found, log = multipliers(G)
    assert_allclose(log.real, rates, rtol=1e-11)
    assert_allclose(found[:2].real, np.exp(rates[:2]), rtol=1e-12)


def test_complex_and_negative_multipliers():
    turn = np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]) * 0.9
    found, _ = multipliers(np.array([turn] * 7))
    assert_allclose(sorted(np.angle(found)), [-0.7, 0.7], rtol=1e-12)
    assert_allclose(np.abs(found), 0.9**7, rtol=1e-12)
    found, _ = multipliers(np.array([np.diag([-1.0, 0.5]), np.diag([1.0, 0.5])]))
    assert_allclose(found, [-1.0, 0.25], atol=1e-15)


# --- what cannot be done is said ---------------------------------------------------------------------------------


def test_a_run_that_comes_to_rest():
    field = Equations({"u": "-u + v", "v": "-v - u"}, {})
    with pytest.raises(ConvergenceError, match="rest"):
        limit_cycle(Problem(field, [1.0, 1.0], (0.0, 200.0)))


def test_a_run_that_does_not_return():
    field = Equations({"u": "1 + 0*v", "v": "-v"}, {})
    with pytest.raises(ConvergenceError, match="return"):
        limit_cycle(Problem(field, [1.0, 1.0], (0.0, 5.0)))


def test_what_has_no_cycles():
    driven = Equations({"u": "v", "v": "-u - v + x0"}, {}, inputs=("x0",))
    with pytest.raises(UsageError, match="constant input"):
        limit_cycle(Problem(driven, [1.0, 0.0], (0.0, 20.0), x=inputs.Sine(0.3)))
    with pytest.raises(UsageError, match="one state"):
        limit_cycle(Problem(Equations({"u": "-u"}, {}), [1.0], (0.0, 5.0)))
    with pytest.raises(UsageError, match="depends on t"):
        limit_cycle(Problem(Equations({"u": "v", "v": "-u + sin(t)"}, {}), [1.0, 0.0], (0.0, 5.0)))
    with pytest.raises(UsageError, match="hopf"):
        limit_cycle(VAN_DER_POL)
    fold = continue_equilibria(Equations({"r": "b + r - r**3"}, {"b": 0.0}), [1.0], "b", (-1.0, 1.0)).special[0]
    with pytest.raises(UsageError, match="hopf"):
        limit_cycle(VAN_DER_POL, fold)
    with pytest.raises(UsageError, match="period"):
        limit_cycle(van_der_pol(), period=1e3)
    with pytest.raises(UsageError, match="problem"):
        limit_cycle("hare-lynx")
