"""The inverse in fixed-point numbers and on noisy devices, against the theory beside it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matrices import exact, hurwitz, normal, relative_error, singular_values, symmetric
from scipy.sparse import csr_matrix as sparse_matrix

from ctrnn.errors import ConvergenceError, UnknownNameError, UsageError
from ctrnn.inverse import Flow, GradientFlow, Hyperpower, QFormat, device_noise, word_length
from ctrnn.inverse.fixed_point import Arithmetic

METHODS = ("flow", "richardson", "chebyshev", "gradient-flow", "newton-schulz", "hyperpower")


# --- the numbers ---


@given(st.integers(1, 12), st.integers(0, 30), st.floats(-1e4, 1e4))
def test_a_format_rounds_to_its_grid_and_saturates(i, f, x):
    q = QFormat(i, f)
    y = float(q.round(np.array(x)))
    low, high = -(2.0 ** (i - 1)), 2.0 ** (i - 1) - 2.0**-f
    assert low <= y <= high and (y * 2.0**f).is_integer()
    assert abs(y - min(max(x, low), high)) <= q.unit / 2
    for rounding in ("truncate", "stochastic"):
        z = float(Arithmetic(QFormat(i, f, rounding)).quantised(np.array(x)))
        assert low <= z <= high and (z * 2.0**f).is_integer()
        if low < x < high - q.unit:
            assert (0 <= x - z <= q.unit) if rounding == "truncate" else abs(z - x) <= q.unit


def test_stochastic_rounding_is_right_on_average_and_truncation_is_not():
    x = np.full(200_000, 0.3)
    for rounding, mean in (("stochastic", 0.3), ("truncate", 0.25), ("nearest", 0.25)):
        found = Arithmetic(QFormat(2, 2, rounding)).quantised(x)
        assert found.mean() == pytest.approx(mean, abs=1e-3)
    assert x[0] - 0.25 == pytest.approx(0.05)


def test_products_are_those_of_integers():
    rng = np.random.default_rng(0)
    X, Y = rng.integers(-2000, 2000, (2, 6, 6))
    numbers = Arithmetic(QFormat(6, 10, "truncate"))
    product = numbers.array(X / 1024) @ numbers.matrix(Y / 1024)
    np.testing.assert_array_equal(
        product.x * 1024, np.floor_divide(X @ Y, 1024)
    )  # a wide accumulator, then ten bits dropped
    shifted = 0.125 * numbers.array(X / 1024)
    np.testing.assert_array_equal(shifted.x * 1024, X >> 3)
    assert numbers.saturated == 0
    numbers.array(np.full(3, 20.0)) + numbers.array(np.full(3, 20.0))
    assert numbers.saturated == 3


def test_fixed_point_knows_no_division():
    numbers = Arithmetic(QFormat(4, 8))
    x = numbers.array(np.ones(2))
    with pytest.raises(TypeError):
        x / x
    with pytest.raises(TypeError):
        1.0 / x


# --- word length ---


@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
@pytest.mark.parametrize("method", METHODS)
def test_the_error_stays_below_its_bound_and_halves_with_each_bit(method, rounding):
    for seed in range(3):
        A = hurwitz(6, seed, margin=1.0)
        a = np.random.default_rng(seed + 10).normal(size=6)
        table = word_length(a, A, method, fractions=range(8, 25, 2), rounding=rounding)
        assert (table.error <= table.bound).all()
        assert (table.error > table.bound / 300).all()  # a bound that says something
        slope = np.polyfit(table.levels, np.log2(table.error), 1)[0]
        assert slope == pytest.approx(-1.0, abs=0.1)
        assert not table.saturated.any()


@pytest.mark.parametrize("number", [3.0, 10.0, 30.0, 100.0])
def test_the_bits_that_are_needed_grow_with_the_condition(number):
    # ‖A⁻¹‖ (1/h + …): A of norm `number` and ‖A⁻¹‖ = 1, so 1/h ~ number: one bit for each factor of two
    A, a = symmetric(8, number, 3), np.ones(8)
    table = word_length(a, A, fractions=range(8, 25, 2))
    assert (table.error <= table.bound).all()
    u = 2.0**-table.levels
    assert 0.3 * number < np.median(table.bound / u) * np.linalg.norm(exact(a, A)) / math.sqrt(8) < 3 * number + 5


@pytest.mark.parametrize("step, part", [(1.0, 1.0), (0.5, 0.8), (0.125, 0.43)])
def test_the_expected_error_of_stochastic_rounding_within_10_percent_and_of_small_steps_less(step, part):
    # once with A and a on the grid, so that only the arithmetic rounds, and the sum over powers of I + hA written out
    A = np.round(symmetric(6, 2.0, 1) * 128) / 256
    a = np.round(np.random.default_rng(3).normal(size=6) * 256) / 256
    tables = [word_length(a, A, Flow(step=step), fractions=[14], rounding="stochastic", seed=s) for s in range(4)]
    error = math.sqrt(np.mean([t.error[0] ** 2 for t in tables]))
    M = np.eye(6) + step * A
    total = sum(np.trace(np.linalg.matrix_power(M, 2 * k)) for k in range(400))
    expected = 2.0**-14 * math.sqrt(total / 6) / np.linalg.norm(exact(a, A))
    assert tables[0].expected[0] == pytest.approx(expected, rel=1e-3)
    # of a small step less: at rest the residual is a few units, and what the shift drops of it is not evenly spread
    assert error == pytest.approx(part * expected, rel=0.1)


def test_what_a_and_A_lose_when_they_are_held_is_part_of_the_expected_error():
    A, a = symmetric(6, 2.0, 1) / 2, np.random.default_rng(3).normal(size=6)
    for f in (6, 8, 10):
        table = word_length(a, A, Flow(step=1.0), fractions=[f], rounding="stochastic")
        held = exact(QFormat(8, f).round(a), QFormat(8, f).round(A)) - exact(a, A)
        assert table.expected[0] > 0.95 * np.linalg.norm(held) / np.linalg.norm(exact(a, A))
        assert table.error[0] == pytest.approx(table.expected[0], rel=0.15)


@pytest.mark.parametrize("n", [6, 40])
def test_the_full_inverse_errs_as_expected_within_30_percent_and_only_from_where_its_start_is_seen(n):
    A, a = symmetric(n, 10.0, 2), np.random.default_rng(0).normal(size=n)
    table = word_length(a, A, "newton-schulz", fractions=range(4, 27, 2))
    seen = np.isfinite(table.expected)
    assert seen.any() and not seen[0] and (table.error[seen] <= table.bound[seen]).all()
    ratio = table.error[seen] / table.expected[seen]
    assert math.exp(np.mean(np.log(ratio))) == pytest.approx(1.0, abs=0.3)
    assert table.error[0] > 0.5  # X = 2⁻ᵉAᵀ has vanished


def test_round_to_nearest_leaves_the_flow_where_it_rests_and_not_where_it_is_expected():
    A, a = symmetric(20, 30.0, 2), np.random.default_rng(0).normal(size=20)
    nearest = word_length(a, A, fractions=[12, 16, 20])
    assert (nearest.error > 3 * nearest.expected).all() and (nearest.error > nearest.bound / 5).all()
    stochastic = word_length(a, A, fractions=[12, 16, 20], rounding="stochastic")
    assert (stochastic.error < nearest.error / 2).all()  # unbiased, it does not rest in the dead zone


def test_a_full_inverse_and_stacks_in_fixed_point():
    A = hurwitz(4, 2, margin=1.5)
    table = word_length(None, A, "newton-schulz", fractions=[12, 18])
    assert (table.error <= table.bound).all() and table.error[1] < 1e-4
    table = word_length(np.eye(4)[:2], A, "flow", fractions=[12, 18])
    assert (table.error <= table.bound).all()


def test_too_few_integer_bits_saturate_and_the_table_says_so():
    A, a = np.diag([-0.25, -1.0]), np.array([3.0, 1.0])  # aA⁻¹ = (−12, −1)
    table = word_length(a, A, integer=3, fractions=[12])
    assert table.saturated[0] > 0 and table.error[0] > 0.5
    enough = word_length(a, A, fractions=[12])
    assert enough.integer >= 5 and enough.saturated[0] == 0 and enough.error[0] < 1e-3


def test_no_bound_is_promised_where_a_or_A_do_not_fit_the_format():
    table = word_length([0.1], [[-1.5]], integer=1, fractions=[12])  # A is held as −1, and nothing else is cut off
    assert table.error[0] > 0.4 and table.saturated[0] > 0 and np.isnan(table.bound[0])


def test_a_format_takes_any_whole_numbers_of_bits_and_no_others():
    q = QFormat(np.int8(100), np.int8(40))
    assert q.bits == 140 and q.round([3.3])[0] == pytest.approx(3.3, abs=q.unit)
    np.testing.assert_array_equal(QFormat(4, 8).round([np.inf, -np.inf, 1e300]), [8 - 2**-8, -8.0, 8 - 2**-8])
    with pytest.raises(UsageError, match="512 bits"):
        QFormat(5000, 10)
    with pytest.raises(UsageError, match="no NaN"):
        QFormat(4, 8).round([math.nan])


def test_a_sparse_matrix_is_held_with_its_zeros():
    A, a = hurwitz(6, 1), np.ones(6)
    sparse = sparse_matrix(np.where(np.abs(A) > 0.1, A, 0.0))
    for found, dense in (
        (word_length(a, sparse, fractions=[8]), word_length(a, sparse.toarray(), fractions=[8])),
        (device_noise(a, sparse, levels=[0.01]), device_noise(a, sparse.toarray(), levels=[0.01])),
    ):
        assert found.error[0] == dense.error[0]


def test_the_bits_needed_are_read_off():
    A, a = hurwitz(6, 1), np.ones(6)
    table = word_length(a, A, fractions=range(6, 21))
    bits = table.needed(1e-3)
    assert isinstance(bits, int) and (table.error[table.levels >= bits] <= 1e-3).all()
    assert (table.error[table.levels == bits - 1] > 1e-3).all()
    assert "fraction bits" in str(table) and len(str(table).splitlines()) == 17
    with pytest.raises(ConvergenceError, match="more bits"):
        table.needed(1e-12)
    noise = device_noise(a, A, levels=[1e-3, 1e-2], trials=20)
    assert noise.needed(10 * noise.error[0]) in noise.levels
    with pytest.raises(ConvergenceError, match="less noise"):
        noise.needed(1e-9)


# --- devices ---


@pytest.mark.parametrize("method", ["flow", GradientFlow(), "newton-schulz", Hyperpower(4), Flow(step=0.0625)], ids=str)
def test_the_error_under_read_noise_is_the_predicted_one_within_10_percent(method):
    A = hurwitz(6, 4, margin=1.0)
    a = np.random.default_rng(5).normal(size=6)
    table = device_noise(a, A, method, levels=[1e-4, 1e-2], trials=150)
    np.testing.assert_allclose(table.error, table.expected, rtol=0.1)


def test_strong_read_noise_feeds_on_the_rows_it_disturbs_within_10_percent():
    A, a = symmetric(6, 3.0, 4), np.random.default_rng(5).normal(size=6)
    table = device_noise(a, A, levels=[0.2, 0.3], trials=500)
    assert (table.expected > 0.3).all()  # beyond first order: g/(1 − g) and g differ
    np.testing.assert_allclose(table.error, table.expected, rtol=0.1)
    assert table.expected[1] / table.expected[0] > 1.05 * 0.3 / 0.2


def test_a_small_step_averages_read_noise_and_costs_bits():
    A, a = symmetric(6, 4.0, 4), np.ones(6)
    coarse, fine = (device_noise(a, A, Flow(step=h), levels=[1e-2], trials=100).error[0] for h in (0.25, 0.03125))
    assert coarse / fine == pytest.approx(math.sqrt(8), rel=0.3)
    coarse, fine = (word_length(a, A, Flow(step=h), fractions=[16]).bound[0] for h in (0.25, 0.03125))
    assert 3 < fine / coarse < 8


def test_noise_that_is_too_strong_has_no_rest_and_is_infinite_not_a_number():
    A, a = hurwitz(6, 4), np.ones(6)
    table = device_noise(a, A, levels=[3.0, 1e300], trials=20)
    assert (table.error == math.inf).all() and (table.expected == math.inf).all()


@pytest.mark.parametrize("method", METHODS)
def test_mismatch_costs_what_perturbation_theory_says_within_15_percent_whatever_the_method(method):
    A = hurwitz(6, 4, margin=1.0)
    a = np.random.default_rng(5).normal(size=6)
    table = device_noise(a, A, method, kind="mismatch", levels=[1e-4, 1e-3], trials=300)
    np.testing.assert_allclose(table.error, table.expected, rtol=0.15)
    V = exact(a, A)  # the same by hand: rows −V* Δ A⁻¹
    rng, σ = np.random.default_rng(1), 1e-4 * np.abs(A).max()
    by_hand = [relative_error(V - V @ (σ * rng.normal(size=(6, 6))) @ np.linalg.inv(A), V) for _ in range(2000)]
    assert math.sqrt(np.mean(np.square(by_hand))) == pytest.approx(table.expected[0], rel=0.05)


def test_what_hardware_cannot_do_is_refused():
    A, a = normal([-1.0, -2.0], 1), np.ones(2)
    for bad in (
        lambda: word_length(a, A, "lu"),
        lambda: word_length(a, A, Flow("rk4")),
        lambda: word_length(a, lambda V: -V),
        lambda: word_length(0.0 * a, A),  # an error relative to nothing
        lambda: device_noise(0.0 * a, A),
        lambda: word_length(a, A, fractions=[]),
        lambda: word_length(a, A, fractions=[-1]),
        lambda: word_length(a, A, fractions=[60]),
        lambda: word_length(a, A, rounding="up"),
        lambda: device_noise(a, A, levels=[-1.0]),
        lambda: device_noise(a, A, kind="drift"),
        lambda: QFormat(0, 3),
    ):
        with pytest.raises((UsageError, UnknownNameError)):
            bad()
    with pytest.raises(ConvergenceError, match="would need about"):
        word_length(np.ones(5), singular_values(5, 1e4, 1), "gradient-flow")


def test_of_the_gradient_flow_rounded_to_nearest_nothing_is_expected_and_the_bound_holds():
    """Its slowest mode stops on the way: independent errors, which describe stochastic rounding, would promise 4 to 50
    times too little."""
    rng = np.random.default_rng(2)
    A, a = 0.8 * rng.normal(size=(16, 16)) / 4.0 - np.eye(16), rng.normal(size=16)
    nearest = word_length(a, A, "gradient-flow", fractions=[8, 14])
    assert np.isnan(nearest.expected).all() and (nearest.error < nearest.bound).all()
    by_chance = word_length(a, A, "gradient-flow", fractions=[8, 14], rounding="stochastic")
    assert np.isfinite(by_chance.expected).all() and (nearest.error > 2 * by_chance.expected).all()
