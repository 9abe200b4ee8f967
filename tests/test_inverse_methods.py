"""Every method of ctrnn.inverse against 50 digits, and its iterations against theory."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import exact, hurwitz, normal, observed_contraction, relative_error, singular_values, symmetric

from ctrnn.errors import ConvergenceError, NotHurwitzError, UsageError
from ctrnn.inverse import (
    Flow,
    GradientFlow,
    Hyperpower,
    Neumann,
    NewtonSchulz,
    euler_flow,
    right_divide,
)

ANY = ("gradient-flow", "newton-schulz", "hyperpower", Hyperpower(7), "lu", "gmres")
STABLE = ("flow", Flow("rk4"), Flow("tsit5"), "richardson", "chebyshev", *ANY)


@given(st.integers(1, 10), st.integers(0, 2**32 - 1), st.floats(0.5, 3.0))
def test_all_methods_reach_12_digits_on_random_hurwitz_matrices(n, seed, margin):
    A = hurwitz(n, seed, margin)
    a = np.random.default_rng(seed + 1).normal(size=n)
    reference = exact(a, A)
    number = np.linalg.cond(A)
    for method in STABLE:
        if method == "gradient-flow" and number > 40:
            continue  # κ² iterations
        result = right_divide(a, A, method)
        error = np.linalg.norm(result.value - reference)
        assert result.converged and not result.estimated
        assert error <= 1e-12 * np.linalg.norm(reference), method
        assert error <= result.error_bound + 1e-15 * np.linalg.norm(reference), method


@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_methods_for_any_matrix_need_no_stability(n, seed):
    A = singular_values(n, 10.0, seed)
    a = np.random.default_rng(seed).normal(size=(2, n))
    for method in ANY:
        result = right_divide(a, A, method)
        for k in range(2):
            assert relative_error(result.value[k], exact(a[k], A)) < 1e-12, method


@pytest.mark.parametrize("method", STABLE, ids=str)
@pytest.mark.parametrize("n", [1, 2, 100])
def test_the_identity_gives_the_inverse(method, n):
    A = hurwitz(n, 5, margin=1.0)
    V = right_divide(None, A, method).value
    assert V.shape == (n, n)
    assert np.abs(V @ A - np.eye(n)).max() < 1e-13 and np.abs(A @ V - np.eye(n)).max() < 1e-13
    np.testing.assert_allclose(right_divide(np.eye(n), A, method).value, V, atol=1e-13)


@pytest.mark.parametrize("method", ["flow", "chebyshev", "gradient-flow", "newton-schulz", "gmres"])
def test_500_units_to_12_digits(method):
    A = normal(-np.linspace(1.0, 3.0, 500), seed=1)
    a = np.random.default_rng(2).normal(size=500)
    result = right_divide(a, A, method)
    assert relative_error(result.value, np.linalg.solve(A.T, a)) < 1e-12
    if method != "gmres":
        assert result.iterations <= result.condition.predicted + 2


# --- the rate ---

SPECTRA = {
    "real": -np.logspace(0, 1.3, 20),
    "complex": [-0.3, -1.0, -0.7 + 1.5j, -2.0 + 0.4j, -1.2 + 1.2j],
    "one pair": [-1.0 + 2.0j],
    "nearly a centre": [-0.3 + 1.5j, -1.0],
}
LINEAR = (
    "flow",
    Flow("rk4"),
    Flow("heun"),
    "richardson",
    "chebyshev",
    "gradient-flow",
    Flow(step=0.03),
    GradientFlow(step=0.004),
)


@pytest.mark.parametrize("method", LINEAR, ids=str)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_observed_rate_is_the_predicted_one_within_5_percent(method, spectrum):
    A = normal(SPECTRA[spectrum], seed=9)
    a = np.random.default_rng(10).normal(size=len(A))
    result = right_divide(a, A, method)
    c = result.condition.contraction
    if c < 1e-6:  # a multiple of a rotation: AAᵀ is a multiple of I, and one step of the gradient flow does it
        assert result.iterations <= 3
        return
    window = (1e-2, 1e-6) if method == "chebyshev" else (1e-7, 1e-12)
    assert math.log(observed_contraction(result, *window)) == pytest.approx(math.log(c), rel=0.05)


@pytest.mark.parametrize("method", ["flow", "richardson", "chebyshev", Flow("rk4")], ids=str)
def test_the_rate_on_random_matrices_that_are_not_normal_within_5_percent(method):
    for seed in range(3):
        A = hurwitz(40, seed)
        a = np.random.default_rng(seed).normal(size=40)
        result = right_divide(a, A, method)
        high = 1e-2 if method == "chebyshev" else 1e-7  # by then what non-normality makes grow is gone
        observed = observed_contraction(result, high, 1e-13 if high < 1e-2 else 1e-6)
        assert math.log(observed) == pytest.approx(math.log(result.condition.contraction), rel=0.05)


def test_of_a_strongly_non_normal_matrix_the_predicted_rate_is_that_of_late_iterations():
    """Triangular, with entries as large above the diagonal as on it: before rounding stops it the residual falls up to
    a quarter slower than predicted;
    its own recursion R ← R + hRA, which no rounding of V stops, falls as predicted within 5 % in the end."""
    slower = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        A = np.triu(rng.normal(size=(60, 60)) / np.sqrt(60), 1) * 2 - np.diag(rng.uniform(0.3, 1.5, 60))
        a = rng.normal(size=60)
        result = right_divide(a, A, raise_on_failure=False)
        predicted = math.log(result.condition.contraction)
        late = (result.residual < 1e-3 * result.residual.max()) & (result.residual > 1e-12)
        slower.append(np.polyfit(result.residual_at[late], np.log(result.residual[late]), 1)[0] / predicted)
        R, fallen = -a, []
        for _ in range(4000):
            R = R + result.condition.step * (R @ A)
            fallen.append(math.log(np.linalg.norm(R)))
            R = R / np.linalg.norm(R)
        assert np.mean(fallen[2000:]) == pytest.approx(predicted, rel=0.05)
    assert min(slower) < 0.95 and max(slower) < 1.05


@pytest.mark.parametrize("order", [2, 3, 5])
def test_hyperpower_raises_the_residual_to_its_order(order):
    A = hurwitz(12, 3)
    result = right_divide(None, A, NewtonSchulz() if order == 2 else Hyperpower(order))
    X = result.condition.step * A.T
    R = np.linalg.norm(np.eye(12) - X @ A, 2)
    assert result.condition.contraction == pytest.approx(R, rel=1e-12)
    # the residual matrix is R^(p^k): its 2-norm, of a symmetric R, is ‖R‖₂^(p^k)
    for k in range(1, 4):
        residuals = np.linalg.matrix_power(np.eye(12) - X @ A, order**k)
        assert result.residual[k] == pytest.approx(np.linalg.norm(residuals, axis=1).max(), rel=1e-9)
    assert abs(result.iterations - result.condition.predicted) <= 2


def test_chebyshev_takes_the_root_of_the_iterations_of_richardson():
    A, a = symmetric(40, 1e3, 1), np.ones(40)
    fast, slow = (right_divide(a, A, method).condition.predicted for method in ("chebyshev", "richardson"))
    assert 20 < slow / fast < 40  # √1000 = 31.6


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_no_ellipse_is_worse_than_the_circle_of_richardson(seed):
    rng = np.random.default_rng(seed)
    A = normal([complex(-rng.uniform(0.1, 5), rng.uniform(0.1, 5)) for _ in range(4)], seed)
    chebyshev, richardson = (right_divide(np.ones(8), A, m).condition.contraction for m in ("chebyshev", "richardson"))
    assert chebyshev <= richardson + 1e-9


def test_richardson_and_chebyshev_take_a_spectrum_on_the_right_and_the_flow_does_not():
    A = -hurwitz(8, 2)
    a = np.ones(8)
    for method in ("richardson", "chebyshev"):
        assert relative_error(right_divide(a, A, method).value, exact(a, A)) < 1e-12
    assert right_divide(a, A, "richardson").condition.step < 0
    with pytest.raises(NotHurwitzError):
        right_divide(a, A, "flow")


@pytest.mark.parametrize("seed", range(5))
def test_euler_flow_converges_below_its_bound_and_not_above_on_matrices_that_are_not_normal(seed):
    A = hurwitz(8, seed)
    λ = np.linalg.eigvals(A)
    bound = (2 * np.abs(λ.real) / np.abs(λ) ** 2).min()
    a = np.ones(8)
    V = exact(a, A)
    below, above = (euler_flow(np.zeros(8), a, A, part * bound, 6000) for part in (0.98, 1.02))
    assert np.linalg.norm(below - V) < 1e-6 * np.linalg.norm(V) and np.linalg.norm(above - V) > 1e6 * np.linalg.norm(V)
    assert right_divide(a, A, step=0.98 * bound).converged
    with pytest.raises(UsageError, match="min 2"):
        right_divide(a, A, step=1.02 * bound)


def test_rk4_converges_below_its_bound_and_not_above():
    A = normal([-1.0, -0.3 + 2.0j], seed=6)
    bound = right_divide(np.ones(3), A, Flow("rk4")).condition.step_bound
    λ = np.array([-1.0, -0.3 + 2.0j])

    def p(z):
        return 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24

    assert np.abs(p(bound * λ)).max() == pytest.approx(1.0, abs=1e-8)
    assert right_divide(np.ones(3), A, Flow("rk4", step=0.99 * bound)).converged
    with pytest.raises(UsageError, match="below"):
        right_divide(np.ones(3), A, Flow("rk4", step=1.01 * bound))


def test_the_flow_by_a_solver_that_chooses_its_steps():
    for solver, size in (("kvaerno5", 1e4), ("scipy:BDF", 30.0)):  # stiff: Euler would need 170,000 steps for the first
        A, a = symmetric(3, size, 1), np.ones(3)
        assert relative_error(right_divide(a, A, Flow(solver)).value, exact(a, A)) < 1e-11


def test_neumann_is_a_truncated_series_and_stays_within_its_bound():
    rng = np.random.default_rng(1)
    for A, h, slack in ((symmetric(6, 5.0, 2), 0.3, 5), (hurwitz(6, 4, margin=2.0), 0.3, 1e4)):
        a, V = rng.normal(size=6), np.zeros(6)
        M = np.eye(6) + h * A
        assert np.linalg.norm(M, 2) < 1
        power = a.copy()
        for _ in range(12):
            V, power = V - h * power, power @ M
        result = right_divide(a, A, Neumann(12, step=h))
        np.testing.assert_allclose(result.value, V, rtol=1e-12)
        error = np.linalg.norm(V - exact(a, A))
        assert 1e-6 < error <= result.condition.truncation < slack * error
        assert error <= result.error_bound
        assert result.iterations == 12 and not result.converged  # truncated on purpose: nothing is raised


# --- ill-conditioned ---


@pytest.mark.parametrize("exponent", range(1, 9))
@pytest.mark.parametrize("make", [symmetric, singular_values])
def test_ill_conditioned_matrices_are_reached_to_cond_eps_or_refused_with_the_count(exponent, make):
    number = 10.0**exponent
    A = make(20, number, seed=exponent)
    a = np.random.default_rng(exponent).normal(size=20)
    reference = exact(a, A)
    for method in ("newton-schulz", Hyperpower(5), "lu", "gmres"):
        result = right_divide(a, A, method)
        assert relative_error(result.value, reference) <= 30 * number * 2.2e-16, method
        assert np.linalg.norm(result.value - reference) <= result.error_bound
    if exponent >= 5:
        methods = ("flow", Flow("rk4"), "richardson", "gradient-flow") if make is symmetric else ("gradient-flow",)
        for method in methods:
            with pytest.raises(ConvergenceError, match="would need about") as caught:
                right_divide(a, A, method)
            needed = float(str(caught.value).split("about ")[1].split()[0])
            κ = number**2 if method == "gradient-flow" else number
            assert 0.2 < needed / (0.5 * κ * math.log(1e15)) < 1.1


@pytest.mark.parametrize("method", [Hyperpower(4), "gmres"], ids=str)
def test_500_units_of_condition_1e8_to_cond_eps(method):
    A, a = singular_values(500, 1e8, 2), np.ones(500)
    reference = right_divide(a, A, "lu")
    result = right_divide(a, A, method)
    assert relative_error(result.value, reference.value) <= 3e-8
    assert np.linalg.norm(result.value - reference.value) <= result.error_bound + reference.error_bound


def test_chebyshev_reaches_a_condition_of_1e6():
    A, a = symmetric(10, 1e6, 3), np.ones(10)
    assert relative_error(right_divide(a, A, "chebyshev").value, exact(a, A)) < 1e-9
    with pytest.raises(ConvergenceError, match="the chebyshev would need about"):
        right_divide(a, symmetric(10, 1e8, 3), "chebyshev")
