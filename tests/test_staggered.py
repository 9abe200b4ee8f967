"""Sensitivities on our own implicit solvers: staggered behind the state, as exact as the steps, with their error in the
step test.

References: the discrete adjoint and the complex step through the same steps, SciPy on the augmented system, the matrix
exponential.
"""

import numpy as np
import pytest
from scenarios import driven, jumping_inputs, state_network
from scipy.linalg import expm
from test_stiff import IMPLICIT, STIFF, by_size, observed, relative, robertson

import ctrnn
from ctrnn import Equations, Objective, Problem, RateNetwork, Readout, gradient, inputs, sensitivities, simulate
from ctrnn.errors import UsageError

CONTINUOUS = ctrnn.RTRL(mode="continuous")
SAME_STEPS = ctrnn.RTRL(mode="continuous", error_control="state")
OUTPUTS = 0.4 * 10.0 ** np.arange(12)


def both(g):
    readout = [] if g.readout is None else [v.ravel() for v in g.readout.values()]
    return np.concatenate([g.vector, g.r0, *readout])


def with_readout(integral):
    """A driven network with a trained read-out and a loss at times, or integrated."""
    t = np.linspace(0.1, 1.0, 4)
    target = inputs.Sine(0.7) if integral else np.sin(t)[:, None]
    V = np.random.default_rng(0).normal(size=(1, 4))
    objective = Objective("squared_error", target, at=None if integral else t, readout=Readout(V))
    field = RateNetwork(4, inputs=1, tau=[0.05, 0.1, 1.0, 3.0], gain=1.0, seed=3, train_tau=True)
    x = inputs.Pulse(0.2717, 0.1161, 1.5) + inputs.Sine(0.5)
    return Problem(field, np.linspace(-1, 1, 4), (0.0, 1.0), x=x, objective=objective)


# --- the derivative of the steps


@pytest.mark.parametrize("solver", IMPLICIT)
@pytest.mark.parametrize("integral", [False, True], ids=["times", "integral"])
def test_it_is_the_gradient_of_the_steps(solver, integral):
    """Fixed steps, cut at jumps: loss and gradient to W, U, b, tau, r0, V and c to 1e-12 of the discrete adjoint and of
    the complex step."""
    problem = with_readout(integral)
    g = gradient(problem, CONTINUOUS, solver=solver, dt=0.07)
    for method in ("adjoint", "complex-step"):
        other = gradient(problem, method, solver=solver, dt=0.07)
        assert g.loss == pytest.approx(other.loss, rel=1e-13)
        assert relative(both(g), both(other)) < 1e-12


@pytest.mark.parametrize("solver", IMPLICIT)
@pytest.mark.parametrize(
    ("name", "wanted"), [("robertson", 1e-10), ("hires", 1e-13), ("oregonator", 1e-12), ("van-der-pol", 1e-8)]
)
def test_on_the_same_adaptive_steps_it_is_the_adjoint(name, wanted, solver):
    """To round-off, which h|J| up to 10¹³ and jumps in which p is 10⁶ times larger multiply."""
    problem = observed(name)
    how = STIFF[name].tolerances(1e-8) | {"error_control": "state"}  # whose steps the continuous method takes
    ahead, back = (gradient(problem, m, solver=solver, **how) for m in (SAME_STEPS, "adjoint"))
    assert ahead.stats.steps == back.stats.steps
    assert relative(by_size(problem, ahead.vector, ahead.r0), by_size(problem, back.vector, back.r0)) < wanted


def test_what_is_conserved_has_no_sensitivity():
    """Σ_i dr_i/dk = 0 and Σ_i dr_i/dr0_j = 1 on Robertson: to 1e-12 of the largest entry until t = 4e4, and to 1e-6 at
    4e10, h|J| = 10¹³."""
    s = sensitivities(robertson(4e10), OUTPUTS, "kvaerno5", **STIFF["robertson"].tolerances(1e-8))
    drift = np.abs(s.p.sum(axis=1)) / np.abs(s.p).max(axis=1)
    assert drift[:6].max() < 1e-12 and drift.max() < 1e-6
    assert np.abs(s.p0.sum(axis=1) - 1.0).max() < 1e-6


# --- against others


@pytest.mark.parametrize(
    ("name", "t1", "reference", "tolerance", "wanted"),
    [("robertson", 4e5, "scipy:Radau", 1e-9, 1e-7), ("van-der-pol", 800.0, "scipy:Radau", 1e-10, 1e-6),
     ("hires", 321.8122, "scipy:BDF", 1e-10, 1e-7)],
)  # fmt: skip
def test_against_scipy_on_the_augmented_system(name, t1, reference, tolerance, wanted):
    """dP/dt = J P + F_w, dS/dt = J S beside the state, at three times: to what SciPy reaches."""
    case = STIFF[name]
    problem, times = case.problem.replace(t_span=(0.0, t1)), t1 * np.array([0.01, 0.3, 1.0])
    other = sensitivities(problem, times, reference, **case.tolerances(tolerance))
    s = sensitivities(problem, times, "kvaerno5", **case.tolerances(1e-10))
    for ours, theirs in ((s.p, other.p), (s.p0, other.p0)):
        assert (np.abs(ours - theirs).max(axis=1) / np.abs(theirs).max(axis=1)).max() < wanted


def test_robertson_to_4e10_converges_to_the_adjoint():
    """At the end and all rates, by the tolerance: 1e-5, then 3e-8; dc/dk = −da/dk − db/dk, six digits of which cancel
    in h J, 1e-6."""
    problem, how = robertson(4e10), STIFF["robertson"].tolerances
    seen = [problem.replace(objective=Objective(k, at=[4e10])) for k in "abc"]
    exact = np.stack([gradient(one, "adjoint", solver="kvaerno5", **how(1e-10)).vector for one in seen])
    for rtol, wanted in ((1e-4, 1e-5), (1e-8, 3e-8)):
        s = sensitivities(problem, OUTPUTS, "kvaerno5", **how(rtol))
        error = np.abs(s.p[-1] / exact - 1.0)
        assert error[:2].max() < wanted and error[2].max() < max(wanted, 1e-6)
        assert s.t.tolist() == OUTPUTS.tolist()


@pytest.mark.parametrize("solver", IMPLICIT)
def test_a_linear_stiff_system(solver):
    """S = e^(At) with rates from 1 to 10⁶, to 1e-8."""
    field = Equations({"u": "-k*u + v", "v": "u - m*v + w", "w": "v - 2*w"}, {"k": 1e6, "m": 1e3})
    A = field.jacobian(0.0, np.zeros(3))
    s = sensitivities(Problem(field, [1.0, 2.0, 3.0], (0.0, 2.0)), [0.0, 1e-3, 2.0], solver, rtol=1e-10, atol=1e-13)
    for t, p0 in zip(s.t, s.p0, strict=True):
        np.testing.assert_allclose(p0, expm(A * t), rtol=0, atol=1e-8)
    np.testing.assert_allclose(s.p0[0], np.eye(3))
    assert not s.p[0].any()


# --- the step test


def test_the_error_of_p_is_in_the_step_test():
    """r rests at 1 while dr/dk runs through a fast oscillation: without it in the step test p would be lost, with it it
    is right."""
    field = Equations({"r": "-1e3*(r - 1) + k*sin(60*t)*1e3"}, {"k": 0.0})
    problem, at = Problem(field, [1.0], (0.0, 1.0)), np.linspace(0.1, 1.0, 10)
    a, w = 1e3, 60.0
    exact = a * (a * np.sin(w * at) - w * np.cos(w * at) + w * np.exp(-a * at)) / (a * a + w * w)

    def worst(**how):
        return np.abs(sensitivities(problem, at, "kvaerno5", rtol=1e-6, atol=1e-6, **how).p[:, 0, 0] - exact).max()

    assert worst(error_control="state") > 1e-3
    assert worst() < 1e-5
    assert worst(sensitivity_rtol=1e-10, sensitivity_atol=1e-11) < 1e-9


def test_chosen_columns():
    """wrt and tolerances by column: for equations a smaller system, in a network fewer columns that count."""
    problem = driven(None, jumping_inputs())
    how = {"solver": "kencarp4", "rtol": 1e-9, "atol": 1e-11}
    every, some = (sensitivities(problem, [0.5, 2.0], wrt=wrt, **how) for wrt in (None, ["k"]))
    column = every.labels.index("k")
    np.testing.assert_allclose(some.p[:, :, 0], every.p[:, :, column], rtol=1e-6, atol=1e-8)
    network = state_network()
    every, some = (sensitivities(network, [0.5, 2.0], wrt=wrt, **how) for wrt in (None, ["b"]))
    np.testing.assert_allclose(some.p, every.p[:, :, [k.startswith("b") for k in every.labels]], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("integral", [False, True], ids=["times", "integral"])
def test_adaptive_gradients_agree_with_the_explicit_solver(integral):
    """Tolerance by tolerance: 1e-6 of dop853 at 1e-11, and 1e-9 at a tighter tolerance."""
    problem = with_readout(integral)
    exact = gradient(problem, CONTINUOUS, solver="dop853", rtol=1e-11, atol=1e-12)
    for rtol, wanted in ((1e-6, 1e-4), (1e-10, 1e-8)):
        g = gradient(problem, CONTINUOUS, solver="kvaerno5", rtol=rtol, atol=rtol)
        assert relative(both(g), both(exact)) < wanted
        assert g.loss == pytest.approx(exact.loss, rel=wanted)


@pytest.mark.parametrize("integral", [False, True], ids=["times", "integral"])
def test_leak_only(integral):
    """RFLO by the implicit solver is that by the explicit one, 1e-7, and no gradient."""
    problem = with_readout(integral)
    ours = gradient(problem, "rflo", solver="kvaerno5", rtol=1e-9, atol=1e-10)
    theirs = gradient(problem, "rflo", solver="dop853", rtol=1e-10, atol=1e-11)
    exact = gradient(problem, "adjoint", solver="dop853", rtol=1e-10, atol=1e-11)
    assert relative(ours.vector, theirs.vector) < 1e-7
    assert relative(ours.vector, exact.vector) > 1e-2


# --- around it


def test_every_step_and_the_start():
    problem = robertson(40.0)
    s = sensitivities(problem, solver="kencarp4", rtol=1e-5, atol=1e-12)
    assert s.t[0] == 0.0 and s.t[-1] == 40.0 and len(s.t) == s.stats.steps + 1 == len(s.p) == len(s.r)
    alone = simulate(problem, "kencarp4", rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(s.r[-1], alone.r[-1], rtol=1e-4)


def test_auto_is_the_implicit_solver_where_the_problem_is_stiff():
    how = STIFF["robertson"].tolerances(1e-6)
    auto = sensitivities(robertson(4e3), [4e3], "auto", **how)
    assert "kvaerno5" in auto.stats.solver
    assert auto.p.tobytes() == sensitivities(robertson(4e3), [4e3], "kvaerno5", **how).p.tobytes()
    assert "tsit5" in sensitivities(driven(None, jumping_inputs()), [1.0], "auto").stats.solver


def test_no_parameters():
    s = sensitivities(Problem(Equations({"r": "-1e4*(r - cos(t))"}), [0.0], (0.0, 1.0)), [1e-4, 1.0], "kvaerno5")
    assert s.p.shape == (2, 1, 0)
    np.testing.assert_allclose(s.p0.ravel(), [np.exp(-1.0), 0.0], atol=1e-7)


def test_factorisations_are_counted():
    """One LU for each implicit stage of P beside those of Newton; explicit solvers have none, and do not mention
    them."""
    s = sensitivities(robertson(40.0), [40.0], "kvaerno5", rtol=1e-6, atol=1e-12)
    tried = s.stats.steps + s.stats.rejected
    assert 6 * s.stats.steps <= s.stats.factorisations <= 6 * tried + 3 * tried
    assert f"{s.stats.factorisations} factorisations" in str(s.stats)
    explicit = simulate(driven(None, jumping_inputs()), "tsit5")
    assert explicit.stats.factorisations == 0 and "factorisations" not in str(explicit.stats)


def test_the_adjoint_equation_still_refuses():
    problem = robertson(40.0, Objective("a", at=[40.0]))
    with pytest.raises(UsageError, match="solver"):
        gradient(problem, "adjoint-backsolve", solver="kvaerno5")
