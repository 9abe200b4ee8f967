"""The division-free inverse against mpmath (50 digits), and its iteration against theory."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matrices import exact, hurwitz, normal, with_conjugates

from ctrnn.errors import (
    ConvergenceError,
    NotHurwitzError,
    SingularJacobianError,
    UnknownNameError,
    UsageError,
)
from ctrnn.inverse import best_step, euler_flow, reciprocal, right_divide

PAIRS = [-0.3, -1.0, -0.7 + 1.5j, -2.0 + 0.4j]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(0.3, 3.0))
def test_both_methods_reach_the_mpmath_inverse_to_1e_12(n, seed, margin):
    A = hurwitz(n, seed, margin)
    a = np.random.default_rng(seed + 1).normal(size=n)
    reference = exact(a, A)
    for method in ("flow", "lu"):
        result = right_divide(a, A, method)
        error = np.linalg.norm(result.value - reference)
        assert result.converged
        assert error <= 1e-12 * np.linalg.norm(reference), method
        # 4 ulp: the reference itself is rounded to float64
        assert error <= result.error_bound + 1e-15 * np.linalg.norm(reference), method


@pytest.mark.parametrize("number, digits", [(1e1, 14), (1e2, 13), (1e3, 12)])
def test_ill_conditioned_matrices_lose_no_more_than_their_condition(number, digits):
    A = normal(-np.logspace(0, math.log10(number), 12), seed=3)
    a = np.random.default_rng(4).normal(size=12)
    result = right_divide(a, A)
    reference = exact(a, A)
    assert result.condition.number == pytest.approx(number, rel=1e-8)
    assert np.linalg.norm(result.value - reference) <= 10.0**-digits * np.linalg.norm(reference)


def test_a_stack_is_solved_row_by_row_however_different_the_rows_are():
    A = hurwitz(7, 1)
    a = np.random.default_rng(2).normal(size=(4, 7)) * np.array([1e9, 1.0, 1e-9, 0.0])[:, None]
    for method in ("flow", "lu"):
        result = right_divide(a, A, method)
        assert result.value.shape == (4, 7) and result.error_bound.shape == (4,)
        for k in range(3):
            reference = exact(a[k], A)
            assert np.linalg.norm(result.value[k] - reference) <= 1e-12 * np.linalg.norm(reference)
        assert not result.value[3].any()


def test_the_identity_gives_the_inverse():
    A = hurwitz(30, 5)
    V = right_divide(np.eye(30), A).value
    assert np.abs(V @ A - np.eye(30)).max() < 1e-13
    assert np.abs(A @ V - np.eye(30)).max() < 1e-13  # a left inverse is a right one


def test_units_of_time_do_not_matter():
    A, a = hurwitz(6, 8), np.arange(1.0, 7.0)
    expected = exact(a, A)
    for scale in (1e-150, 1e-9, 1e9, 1e150):
        value = right_divide(a, scale * A).value * scale
        np.testing.assert_allclose(value, expected, rtol=1e-12)


# --- the step ---


def test_the_euler_flow_converges_below_its_bound_and_diverges_above():
    # Asserted on plain Euler steps written out here, and on euler_flow, which regroups them.
    A, λ = normal(PAIRS, seed=6), with_conjugates(PAIRS)
    bound = (2 * np.abs(λ.real) / np.abs(λ) ** 2).min()
    a = np.random.default_rng(7).normal(size=A.shape[0])
    target = exact(a, A)
    start = np.linalg.norm(target)
    for h, converges in ((0.99 * bound, True), (1.01 * bound, False)):
        V = np.zeros_like(a)
        for _ in range(5_000):
            V = V + h * (V @ A - a)
        other = euler_flow(np.zeros_like(a), a, A, h, 5_000)
        for error in (np.linalg.norm(V - target), np.linalg.norm(other - target)):
            assert (error < 1e-6 * start) if converges else (error > 1e2 * start)


def test_the_step_bound_is_the_documented_one_and_guards_a_given_step():
    A, λ = normal(PAIRS, seed=6), with_conjugates(PAIRS)
    bound = (2 * np.abs(λ.real) / np.abs(λ) ** 2).min()
    a = np.ones(A.shape[0])
    result = right_divide(a, A, step=0.9 * bound)
    assert result.condition.step == 0.9 * bound
    assert result.condition.step_bound == pytest.approx(bound, rel=1e-12)
    assert result.condition.abscissa == pytest.approx(-0.3, rel=1e-12)
    for step in (1.001 * bound, 0.0, -1.0, math.nan):
        with pytest.raises(UsageError, match="min 2"):
            right_divide(a, A, step=step)


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float64, 5, elements=st.floats(-10, -0.1)),
    arrays(np.float64, 5, elements=st.floats(0, 10)),
)
def test_no_other_step_contracts_faster(real, imaginary):
    λ = real + 1j * imaginary
    best = np.abs(1 + best_step(λ) * λ).max()
    grid = np.linspace(0, (2 * np.abs(real) / np.abs(λ) ** 2).min(), 2001)
    assert best <= np.abs(1 + grid[:, None] * λ).max(axis=1).min() + 1e-7


@pytest.mark.parametrize("eigenvalues", [[-1.0, -2.5, -4.0, -9.0], PAIRS, [-0.2 + 3j, -1.0 + 1j]])
def test_predicted_contraction_is_the_observed_one_on_normal_matrices(eigenvalues):
    A = normal(eigenvalues, seed=9)
    a = np.random.default_rng(10).normal(size=A.shape[0])
    result = right_divide(a, A)
    # from 1e-3 to 1e-11: after the start, before rounding
    used = (result.residual < 1e-3) & (result.residual > 1e-11)
    k, residual = result.residual_at[used], result.residual[used]
    observed = (residual[-1] / residual[0]) ** (1 / (k[-1] - k[0]))
    assert math.log(observed) == pytest.approx(math.log(result.condition.contraction), rel=0.05)
    assert result.iterations == pytest.approx(result.condition.predicted, rel=0.05, abs=2)


def test_the_residual_history_is_that_of_plain_euler_steps():
    A, a = hurwitz(5, 11), np.ones(5)
    result = right_divide(a, A)
    V, h = np.zeros(5), result.condition.step
    for k, residual in zip(range(12), result.residual, strict=False):
        assert result.residual_at[k] == k
        assert np.linalg.norm(V @ A - a) / math.sqrt(5) == pytest.approx(residual, rel=1e-9)
        V = V + h * (V @ A - a)


def test_the_literal_map_of_note_001_rests_at_a_over_a_minus_one():
    rng = np.random.default_rng(12)
    A = rng.normal(size=(6, 6))
    A *= 0.6 / np.abs(np.linalg.eigvals(A)).max()  # spectral radius below one: the map converges
    a, V = rng.normal(size=6), np.zeros(6)
    for _ in range(200):
        V = V @ A - a
    np.testing.assert_allclose(V, exact(a, A - np.eye(6)), rtol=1e-12)
    assert np.linalg.norm(V - exact(a, A)) > 0.1 * np.linalg.norm(V)  # and not at a A⁻¹
    np.testing.assert_allclose(right_divide(a, A - np.eye(6), step=1.0).value, V, rtol=1e-12)


# --- refusals ---


def test_the_flow_refuses_a_matrix_that_is_not_hurwitz_with_its_abscissa():
    A = normal([-1.0, 0.25, -2.0], seed=13)
    with pytest.raises(NotHurwitzError, match='"lu"') as caught:
        right_divide(np.ones(3), A)
    assert caught.value.abscissa == pytest.approx(0.25, rel=1e-12)
    np.testing.assert_allclose(right_divide(np.ones(3), A, "lu").value, exact(np.ones(3), A), rtol=1e-12)
    for seed in range(10):  # a centre: Re λ is zero, and rounds to ±1e-17
        with pytest.raises(NotHurwitzError):
            right_divide(np.ones(4), normal([1j, 3j], seed))


@pytest.mark.parametrize("method", ["flow", "lu"])
def test_singular_matrices_are_refused(method):
    rank_one = -np.outer([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    nearly = normal([-1.0, -1e-17, -2.0], seed=15)
    for A in (rank_one, nearly, np.zeros((3, 3))):
        with pytest.raises(SingularJacobianError) as caught:
            right_divide(np.ones(3), A, method)
        assert caught.value.condition > 1e14


def test_a_flow_that_would_take_too_long_says_so_before_it_starts():
    A = -np.diag([1.0, 1e7])
    with pytest.raises(ConvergenceError, match="would need about .*max_iterations is 100000"):
        right_divide(np.ones(2), A)
    result = right_divide(np.ones(2), A, max_iterations=50, raise_on_failure=False)
    assert not result.converged and result.iterations == 50 and result.residual[-1] > 1e-3
    assert result.error_bound >= np.linalg.norm(result.value - [-1.0, -1e-7])
    assert "NOT converged" in str(result)


def test_strong_non_normality_is_reported_not_hidden():
    # Eigenvalues in [−2, −1] predict contraction 1/3; the residual first grows all the same.
    A = np.diag(np.linspace(-2.0, -1.0, 12)) + 3.0 * np.diag(np.ones(11), 1)
    a = np.eye(12)[0]
    with pytest.raises(ConvergenceError, match="non-normal"):
        right_divide(a, A, max_iterations=40)
    result = right_divide(a, A)
    assert result.condition.predicted < 40 < result.iterations
    assert result.residual.max() > 10.0
    reference = exact(a, A)
    assert np.linalg.norm(result.value - reference) <= 1e-12 * np.linalg.norm(reference)


@pytest.mark.parametrize(
    "a, A, argument",
    [
        (np.ones(3), -np.eye(2), "a"),
        (np.ones((2, 2, 2)), -np.eye(2), "a"),
        (1.0, -np.eye(2), "a"),
        (np.ones(2), -np.ones((2, 3)), "A"),
        (np.ones(0), np.zeros((0, 0)), "A"),
        ([1.0, math.nan], -np.eye(2), "a"),
        ([1.0, 1.0], [[-1.0, 0.0], [math.inf, -1.0]], "A"),
        ([1j, 1.0], -np.eye(2), "a"),
        (["x", "y"], -np.eye(2), "a"),
    ],
)
def test_bad_arguments_are_named(a, A, argument):
    for method in ("flow", "lu"):
        with pytest.raises(UsageError) as caught:
            right_divide(a, A, method)
        assert caught.value.argument == argument


def test_bad_options_are_named():
    with pytest.raises(UnknownNameError, match="flow, .*lu"):
        right_divide([1.0], [[-1.0]], "qr")
    for bad in ({"tol": 0.0}, {"max_iterations": 0}, {"method": "lu", "step": 0.1}):
        with pytest.raises(UsageError):
            right_divide([1.0], [[-1.0]], **bad)


# --- the scalar ---


@given(st.floats(1e-300, 1e300), st.sampled_from([-1.0, 1.0]))
def test_reciprocal_to_the_last_bit(size, sign):
    a = sign * size
    result = reciprocal(a)
    assert result.converged and result.iterations <= 60
    assert abs(result.value - 1 / a) <= 2.3e-16 / size
    assert abs(result.value - 1 / a) <= result.error_bound


def test_reciprocal_follows_its_predicted_contraction_with_a_step_that_is_a_shift():
    result = reciprocal(-5.0)  # m = 5/8, h = 1/8
    assert result.condition.step == 0.125
    np.testing.assert_allclose(result.residual[:10], 0.375 ** np.arange(10), rtol=1e-9)


@pytest.mark.parametrize("a", [0.0, -0.0, math.nan, math.inf, 1e-310, "x", [1.0, 2.0], 1j])
def test_reciprocal_refuses_what_has_none(a):
    with pytest.raises(UsageError):
        reciprocal(a)
