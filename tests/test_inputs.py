"""Inputs: each kind against its formula, and the compiled evaluator against the numpy one.

The compiled evaluator and ``Input.evaluate`` share only the coefficients; on random trees they must
agree to 13 digits of the largest number that enters. The coefficients are tested against
independent formulas: numpy.interp, a spline's defining conditions, direct expressions.
"""

import subprocess
import sys
import threading
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ctrnn.inputs as inputs
from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.inputs import (
    Constant,
    Function,
    Noise,
    Pulse,
    Sampled,
    Sine,
    Step,
    as_input,
    evaluate_program,
    from_csv,
    merge_times,
    stack,
)

before = np.nextafter


def both(x, t, lookup=None):
    """x by numpy, having checked that compiled code says the same, to 13 digits."""
    t = np.asarray(t, dtype=float)
    expected = x.evaluate(t, lookup)
    np.testing.assert_allclose(evaluate_program(x.program(), t, lookup), expected, rtol=1e-13, atol=1e-13)
    assert expected.shape == (t.size, x.size)
    return expected


def left_and_right(x, t):
    """The one-sided limits of x at t, (size,) each."""
    return both(x, [t, t], [before(t, -np.inf), t])


# ---- each kind against its formula ---------------------------------------------------------------


def test_constant():
    x = Constant([1.5, -2.0])
    np.testing.assert_array_equal(both(x, [0.0, 7.0]), [[1.5, -2.0]] * 2)
    assert x.breaks.size == 0
    assert x.span == (-np.inf, np.inf)
    np.testing.assert_array_equal(x(3), [1.5, -2.0])


def test_sine():
    x = Sine(frequency=[0.5, 3.0], amplitude=[2.0, 1.0], phase=0.3, offset=-1.0)
    t = np.linspace(-2, 5, 50)
    expected = np.stack([-1 + 2 * np.sin(2 * np.pi * 0.5 * t + 0.3), -1 + np.sin(2 * np.pi * 3 * t + 0.3)], axis=1)
    np.testing.assert_allclose(both(x, t), expected, rtol=0, atol=1e-13)
    assert Sine(1.0).size == 1


def test_hold_is_right_continuous_and_breaks_only_where_it_changes():
    x = Sampled([0.0, 1.0, 2.0, 4.0], [5.0, 5.0, 7.0, -1.0])
    np.testing.assert_array_equal(both(x, [-3.0, 0.0, 1.5, 2.0, 3.9, 4.0, 99.0]).ravel(), [5, 5, 5, 7, 7, -1, -1])
    np.testing.assert_array_equal(x.breaks, [2.0, 4.0])
    np.testing.assert_array_equal(left_and_right(x, 2.0).ravel(), [5, 7])
    assert x.span == (0.0, np.inf)


def test_hold_breaks_where_any_channel_changes():
    x = Sampled([0, 1, 2, 3], [[1, 1], [1, 2], [1, 2], [0, 2]])
    np.testing.assert_array_equal(x.breaks, [1, 3])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 3))
def test_linear_is_numpy_interp(seed, count, size):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.1, 2.0, count)) - 5
    values = rng.normal(size=(count, size))
    t = np.concatenate([times, rng.uniform(times[0] - 2, times[-1] + 2, 20)])
    expected = np.stack([np.interp(t, times, column) for column in values.T], axis=1)
    x = Sampled(times, values, kind="linear")
    np.testing.assert_allclose(both(x, t), expected, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(x.breaks, times)  # random slopes all differ
    assert x.span == (times[0], times[-1])


def test_linear_breaks_ignore_the_rounding_of_slopes():
    times = 1900 + np.arange(11) * 0.1  # one line, a kink at sample 7, level at the end
    values = 3 + 0.7 * (times - 1900)
    values[8:] = values[7]
    assert len(set(np.diff(values[:8]) / np.diff(times[:8]))) > 1  # unequal as floats
    x = Sampled(times, values, kind="linear")
    np.testing.assert_array_equal(x.breaks, times[[0, 7]])


def test_linear_sees_a_small_kink():
    x = Sampled([0.0, 1.0, 2.0], [0.0, 1.0, 2.0 + 1e-12], kind="linear")
    np.testing.assert_array_equal(x.breaks, [0, 1, 2])


def test_cubic_reproduces_a_cubic():
    times = np.array([-1.0, 0.0, 0.5, 2.0, 3.5, 4.0])
    polynomial = np.polynomial.Polynomial([1.0, -2.0, 0.5, 0.25])
    x = Sampled(times, np.stack([polynomial(times), -polynomial(times)], axis=1), kind="cubic")
    t = np.linspace(-1, 4, 101)
    np.testing.assert_allclose(both(x, t), np.stack([polynomial(t), -polynomial(t)], 1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(both(x, [-9.0, 9.0])[:, 0], polynomial(times[[0, -1]]), atol=1e-12)
    np.testing.assert_array_equal(x.breaks, [-1, 4])
    assert x.span == (-1.0, 4.0)


def test_cubic_is_twice_differentiable_at_its_samples():
    """Each piece and its first two derivatives, by exact divided differences of its polynomial."""
    rng = np.random.default_rng(0)
    times, values = np.cumsum(rng.uniform(0.5, 1.5, 8)), rng.normal(size=8)
    x = Sampled(times, values, kind="cubic")

    def derivatives(t, lookup):  # of the cubic that lookup chooses, from four of its values
        s = np.array([-0.3, -0.1, 0.1, 0.3])
        c = np.polynomial.polynomial.polyfit(s, both(x, t + s, np.full(4, lookup)).ravel(), 3)
        return c * [1, 1, 2, 6]

    for t, y in zip(times[1:-1], values[1:-1], strict=True):
        left, right = derivatives(t, before(t, 0.0)), derivatives(t, t)
        np.testing.assert_allclose(left[:3], right[:3], rtol=0, atol=1e-11)
        assert abs(left[0] - y) < 1e-12
    for t in times[[1, -2]]:  # not-a-knot: the third derivative agrees too
        np.testing.assert_allclose(derivatives(t, before(t, 0.0))[3], derivatives(t, t)[3], atol=1e-9)
    t = times[3]
    assert abs(derivatives(t, before(t, 0.0))[3] - derivatives(t, t)[3]) > 1e-3


def test_step_and_pulse():
    x = Step(2.0, [3.0, -1.0])
    np.testing.assert_array_equal(both(x, [1.0, 2.0, 5.0]), [[0, 0], [3, -1], [3, -1]])
    np.testing.assert_array_equal(x.breaks, [2.0])
    x = Pulse(onset=-1.0, width=3.0, amplitude=4.0)
    np.testing.assert_array_equal(both(x, [-1.1, -1.0, 1.9, 2.0]).ravel(), [0, 4, 4, 0])
    np.testing.assert_array_equal(x.breaks, [-1, 2])
    np.testing.assert_array_equal(left_and_right(x, 2.0).ravel(), [4, 0])


def test_lookup_far_away_extends_the_piece():
    x = Sampled([0.0, 1.0, 2.0], [0.0, 3.0, 0.0], kind="linear")
    np.testing.assert_allclose(both(x, [1.0, 5.0], [0.5, 0.5]).ravel(), [3.0, 15.0], rtol=1e-15)


# ---- noise ---------------------------------------------------------------------------------------


def test_noise_is_a_fixed_path():
    a, b = (Noise((0.0, 20.0), dt=0.1, sd=2.0, seed=7, size=2) for _ in range(2))
    t = np.linspace(0, 20, 333)
    np.testing.assert_array_equal(both(a, t), b(t))
    assert not np.array_equal(a(t), Noise((0.0, 20.0), dt=0.1, sd=2.0, seed=8, size=2)(t))
    longer = Noise((0.0, 50.0), dt=0.1, sd=2.0, seed=7, size=2)
    np.testing.assert_array_equal(a(t[:-1]), longer(t[:-1]))


def test_noise_statistics():
    """200,000 samples: mean, sd and neighbours' correlation within five standard errors."""
    x = Noise((0.0, 100_000.0), dt=0.5, sd=3.0, seed=1)
    assert x.values.shape == (200_000, 1)
    y, error = x.values.ravel() / 3.0, 5 / np.sqrt(200_000)
    assert abs(y.mean()) < error
    assert abs(y.std() - 1) < error
    assert abs(np.mean(y[1:] * y[:-1])) < error
    assert abs(np.mean(y**4) - 3) < 10 * error  # a Gaussian's fourth moment


@pytest.mark.parametrize("kind, count", [("hold", 10), ("linear", 11), ("cubic", 11)])
@pytest.mark.parametrize("start, end, dt", [(0.0, 1.0, 0.1), (1.2, 2.2, 0.1), (0.0, 0.97, 0.1)])
def test_noise_covers_its_span(kind, count, start, end, dt):
    x = Noise((start, end), dt=dt, sd=1.0, seed=0, kind=kind)
    assert x.times.size == count
    assert x.span == (start, end)
    assert x.times[-1] < end if kind == "hold" else x.times[-1] >= end - 1e-14


# ---- functions of t ------------------------------------------------------------------------------


def test_function():
    x = Function(lambda t: [t, np.cos(t), 2.0], size=3)
    t = np.linspace(-1, 1, 7)
    np.testing.assert_allclose(both(x, t), np.stack([t, np.cos(t), 2 + 0 * t], 1), rtol=1e-15)
    assert Function(lambda t: t)(3.0).shape == (1,)
    assert Function(lambda t: np.array([t]))(3.0).shape == (1,)


def test_function_is_called_on_the_side_that_lookup_chooses():
    x = Function(lambda t: 1.0 if t >= 3 else (5.0 if t < 1 else 0.0), breaks=[1.0, 3.0])
    np.testing.assert_array_equal(left_and_right(x, 3.0).ravel(), [0, 1])
    np.testing.assert_array_equal(left_and_right(x, 1.0).ravel(), [5, 0])
    np.testing.assert_array_equal(both(x, [1.0, 3.0, 4.0], [2.0, 2.0, 2.0]).ravel(), [0, 0, 0])
    np.testing.assert_array_equal(x.breaks, [1, 3])


def test_exception_crosses_compiled_code():
    calls = []

    def function(t):
        calls.append(t)
        if t == 2.0:
            raise KeyError("no such stimulus")
        return t

    x = Sine(1.0) * Function(function)
    program = x.program()
    with pytest.raises(KeyError, match="no such stimulus") as caught:
        evaluate_program(program, [1.0, 2.0, 3.0, 4.0])
    assert "t = 2.0" in caught.value.__notes__[0]
    assert calls == [1.0, 2.0]  # not called again while the exception waits
    assert evaluate_program(program, [0.25]) == [[0.25]]  # and clean afterwards
    with pytest.raises(KeyError):
        x(2.0)


def test_value_is_nan_until_the_exception_is_raised():
    from ctrnn.kernels.signals import evaluate

    program = stack(Function(lambda t: 1 / 0), 3.0).program()
    out, work = np.zeros(2), np.empty(program.work_size)
    evaluate(program.code, program.data, 0.0, 0.0, work, out)
    np.testing.assert_array_equal(out, [np.nan, 3.0])
    with pytest.raises(ZeroDivisionError):
        program.raise_pending()
    program.raise_pending()  # nothing is left


def test_compiled_code_writes_only_its_channels():
    from ctrnn.kernels.signals import evaluate

    program = (Pulse(0.0, 1.0) * [2.0, 3.0]).program()
    out, work = np.full(4, -1.0), np.full(program.work_size + 3, -1.0)
    evaluate(program.code, program.data, 0.5, 0.5, work, out)
    np.testing.assert_array_equal(out, [2, 3, -1, -1])
    np.testing.assert_array_equal(work[program.work_size :], -1)


def test_function_in_threads():
    """Compiled code runs without the interpreter's lock and must take it for the callback."""
    program = (Function(lambda t: t * t) + Sampled([0, 1], [0, 1], kind="linear")).program()
    t = np.linspace(0, 1, 2000)
    results = {}

    def work(k):
        results[k] = evaluate_program(program, t).ravel()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        np.testing.assert_allclose(results[k], t * t + t, rtol=1e-14)


@pytest.mark.parametrize(
    "function, size, message",
    [
        (lambda t: [1.0, 2.0], 1, r"function\(0.5\).*allowed: a number.*size=2"),
        (lambda t: 1.0, 2, r"2 numbers, shape \(2,\)"),
        (lambda t: np.nan, 1, "finite"),
        (lambda t: "high", 1, "high"),
        (lambda t: None, 1, "None"),
        (lambda t: 1j, 1, "1j"),
    ],
)
def test_wrong_values_of_a_function(function, size, message):
    x = Function(function, size=size)
    with pytest.raises(UsageError, match=message):
        x(0.5)
    with pytest.raises(UsageError, match=message):
        evaluate_program(x.program(), [0.5])


# ---- combinations --------------------------------------------------------------------------------


def test_sum_product_stack_against_direct_formulas():
    t = np.linspace(-1, 6, 141)
    pulse, sine = Pulse(1.0, 2.0, 3.0), Sine(0.3, 2.0)
    p, s = 3.0 * ((t >= 1) & (t < 3)), 2 * np.sin(0.6 * np.pi * t)
    one = {
        "+": (pulse + sine, p + s),
        "*": (pulse * sine, p * s),
        "-": (pulse - sine, p - s),
        "neg": (-pulse, -p),
        "number +": (2 + pulse, 2 + p),
        "+ number": (pulse + 2, 2 + p),
        "number -": (2 - pulse, 2 - p),
        "number *": (np.float64(2.5) * pulse, 2.5 * p),
        "fraction *": (Fraction(1, 4) * pulse, p / 4),
        "tree": ((pulse + 1) * (sine - pulse) + sine * sine, (p + 1) * (s - p) + s * s),
    }
    for name, (x, expected) in one.items():
        np.testing.assert_allclose(both(x, t)[:, 0], expected, atol=1e-14, err_msg=name)
    np.testing.assert_allclose(
        both(stack(pulse, sine, [4.0, 5.0]), t),
        np.stack([p, s, 0 * t + 4, 0 * t + 5], 1),
        atol=1e-14,
    )


def test_broadcasting_over_channels():
    t = np.linspace(0, 4, 21)
    pulse, three = Pulse(1.0, 2.0), np.array([1.0, -2.0, 3.0])
    p = 1.0 * ((t >= 1) & (t < 3))[:, None]
    for x, expected in [
        (pulse * three, p * three),
        (three * pulse, p * three),
        (three - pulse, three - p),
        (pulse + Constant(three), p + three),
        ((pulse + three) * (three * pulse), (p + three) * three * p),
    ]:
        assert x.size == 3
        np.testing.assert_allclose(both(x, t), expected, rtol=1e-15)


def test_one_sided_values_of_combinations():
    x = Step(1.0, 2.0) + Pulse(0.0, 1.0, 5.0) * Sine(1.0, offset=1.0, amplitude=0.0)
    np.testing.assert_array_equal(left_and_right(x, 1.0).ravel(), [5.0, 2.0])
    np.testing.assert_array_equal(x.breaks, [0.0, 1.0])


def test_breaks_equal_but_for_rounding_are_one():
    late, early = 0.1 + 0.2, 0.3
    assert early < late
    function = Function(lambda t: 40.0 * (t >= late), breaks=[late])
    for x in (
        Step(early) + Step(late, 3.0) + function,
        function + (Step(late, 3.0) + Step(early)),
        stack(Step(late, 3.0), Step(early), function) * [1.0, 1.0, 1.0],
        Sampled([0.0, late], [0.0, 44.0]) * Step(early),
    ):
        assert x.breaks.size == 1
        # Whichever of the two became the break, everything has changed on its right, nothing left.
        np.testing.assert_allclose(left_and_right(x, x.breaks[0]).sum(axis=1), [0, 44], atol=1e-13)


def test_breaks_that_differ_stay_apart():
    x = Step(1.0) + Step(1.0 + 1e-13)
    assert x.breaks.size == 2
    np.testing.assert_array_equal(left_and_right(x, 1.0).ravel(), [0, 1])


def test_alignment_to_other_times():
    x = (Step(0.1 + 0.2) * 2.0).aligned(np.array([0.0, 0.3, 1.0]))
    np.testing.assert_array_equal(x.breaks, [0.3])
    np.testing.assert_array_equal(left_and_right(x, 0.3).ravel(), [0, 2])


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-1e3, 1e3), max_size=6), max_size=4))
def test_merge_times(lists):
    merged = merge_times(*lists)
    assert (np.diff(merged) > 0).all()
    everything = [t for times in lists for t in times]
    assert set(merged) <= set(everything)
    for t in everything:
        assert np.min(abs(merged - t)) <= 1e-14 * abs(t)


def test_span_of_a_combination_is_common_to_its_parts():
    a = Sampled([0, 5], [1, 2], kind="linear")
    b = Sampled([2, 9], [1, 2], kind="linear")
    assert (a + b).span == (2.0, 5.0)
    assert stack(a, Sine(1.0), Sampled([3.0], [1.0])).span == (3.0, 5.0)


def test_as_input():
    x = Sine(1.0)
    assert as_input(x) is x
    assert as_input(None).size == 0
    assert as_input(None)([0.0, 1.0]).shape == (2, 0)
    assert evaluate_program(as_input(None).program(), [0.0]).shape == (1, 0)
    assert as_input(2)(0.0) == [2.0]
    assert as_input([1, 2]).size == 2
    assert as_input(abs)(-3.0) == [3.0]


# ---- random trees: compiled code against numpy ---------------------------------------------------

# Few distinct times, some equal but for rounding, so that breaks coincide often.
moments = st.sampled_from([-1.0, 0.0, 0.3, 0.1 + 0.2, 0.7, 0.1 * 7, 1.0, 2.5])
small = st.floats(-3, 3)


@st.composite
def leaves(draw, size):
    channels = st.lists(small, min_size=size, max_size=size)
    kind = draw(st.sampled_from(["constant", "sine", "step", "pulse", "function", "sampled"]))
    if kind == "constant":
        return Constant(draw(channels))
    if kind == "sine":
        return Sine(*(draw(channels) for _ in range(4)))
    if kind == "step":
        return Step(draw(moments), draw(channels))
    if kind == "pulse":
        return Pulse(draw(moments), draw(st.floats(0.1, 2)), draw(channels))
    if kind == "function":
        b, c = draw(moments), np.array(draw(channels))
        return Function(lambda t: c * (t + 2 * (t >= b)), size=size, breaks=[b])
    rule = draw(st.sampled_from(["hold", "linear", "cubic"]))
    gaps = draw(st.lists(st.floats(0.1, 1), min_size=2, max_size=5))
    rows = draw(st.lists(channels, min_size=len(gaps), max_size=len(gaps)))
    return Sampled(draw(moments) + np.cumsum(gaps) - gaps[0], rows, kind=rule)


@st.composite
def trees(draw, size=None, depth=3):
    size = draw(st.integers(1, 3)) if size is None else size
    kind = draw(st.sampled_from(["leaf", "+", "*", "stack"] if depth else ["leaf"]))
    if kind == "leaf":
        return draw(leaves(size))
    if kind == "stack":
        first = draw(st.integers(0, size))
        parts = [draw(trees(k, depth - 1)) for k in (first, size - first) if k]
        return stack(*parts)
    sizes = draw(st.sampled_from([(size, size), (1, size), (size, 1)]))
    a, b = (draw(trees(k, depth - 1)) for k in sizes)
    return a + b if kind == "+" else a * b


@settings(max_examples=150, deadline=None)
@given(trees(), st.lists(st.tuples(st.floats(-2, 4), st.floats(-2, 4)), max_size=5))
def test_compiled_code_agrees_with_numpy_on_random_trees(x, pairs):
    near = [(b, s) for b in x.breaks for s in (before(b, -np.inf), b)]  # both sides of each break
    t, lookup = np.array([*pairs, *near, (0.0, 0.0)]).T
    expected = x.evaluate(t, lookup)
    scale = max(1.0, abs(expected).max())
    program = x.program()
    np.testing.assert_allclose(evaluate_program(program, t, lookup) / scale, expected / scale,
                               rtol=0, atol=1e-13)  # fmt: skip
    np.testing.assert_array_equal(x(t), x.evaluate(t))
    assert program.size == x.size


@settings(max_examples=100, deadline=None)
@given(trees())
def test_a_tree_is_continuous_away_from_its_breaks(x):
    """No jump is missing from breaks: x hardly changes over 1e-9 where no break lies."""
    t = np.linspace(-1.5, 4, 200) + 1e-4
    candidates = np.concatenate([t, [0.3, 0.1 + 0.2, 0.7, 0.1 * 7, -1.0, 0.0, 1.0, 2.5]])
    if x.breaks.size:
        far = abs(candidates[:, None] - x.breaks).min(axis=1) > 1e-8
        candidates = candidates[far]
    change = abs(x(candidates + 5e-10) - x(candidates - 5e-10))
    scale = max(1.0, abs(x(candidates)).max(initial=0.0))
    assert change.max(initial=0.0) < 1e-4 * scale


# ---- what is refused -----------------------------------------------------------------------------

REFUSED = {
    "times out of order": (lambda: Sampled([0, 2, 1], [0, 0, 0]), r"times \(row 2\): got 1.0"),
    "times equal": (lambda: Sampled([0, 1, 1], [0, 0, 0]), r"times \(row 2\)"),
    "times too close": (lambda: Sampled([0.3, 0.1 + 0.2], [0, 0]), r"times \(row 1\)"),
    "NaN time": (lambda: Sampled([0, np.nan], [0, 0]), r"times \(row 1\): got nan"),
    "NaN value": (
        lambda: Sampled([0, 1], [[0, 0], [0, np.nan]]),
        r"values \(row 1, column 1\): got nan",
    ),
    "infinite value": (lambda: Sampled([0, 1], [0, np.inf]), r"values \(row 1\): got inf"),
    "wrong rows": (lambda: Sampled([0, 1], [0, 1, 2]), "allowed: 2 rows"),
    "values (K, a, b)": (lambda: Sampled([0], np.zeros((1, 2, 3))), "a row for each time"),
    "no samples": (lambda: Sampled([], []), "at least 1 samples"),
    "one sample for a line": (lambda: Sampled([0], [1], kind="linear"), "at least 2 samples"),
    "unknown kind": (lambda: Sampled([0], [1], kind="liner"), "did you mean 'linear'"),
    "overflowing slope": (lambda: Sampled([0, 1e-300], [0, 1e200], kind="linear"), "overflow"),
    "overflowing spline": (
        lambda: Sampled([0, 1e-200, 1, 2], [0, 1e200, 0, 1], kind="cubic"), "overflow|finite"),
    "text": (lambda: Constant("3"), "values: got '3'"),
    "complex": (lambda: Constant(np.array([1j])), "values"),
    "ragged": (lambda: Sampled([0, 1], [[1], [1, 2]]), "values"),
    "negative width": (lambda: Pulse(0, -1), "width: got -1.0"),
    "zero width": (lambda: Pulse(0, 0), "width"),
    "width lost in rounding": (lambda: Pulse(1e6, 1e-12), "width"),
    "infinite width": (lambda: Pulse(0, np.inf), "width"),
    "NaN onset": (lambda: Pulse(np.nan, 1), "onset: got nan"),
    "infinite onset": (lambda: Step(np.inf), "onset"),
    "NaN amplitude": (lambda: Step(0, [1, np.nan]), r"amplitude \(row 1\)"),
    "NaN frequency": (lambda: Sine(np.nan), "frequency"),
    "sine's sizes": (lambda: Sine([1, 2], [1, 2, 3]), "one common shape"),
    "sizes of a sum": (lambda: Constant([1, 2]) + Constant([1, 2, 3]), "2 and 3 channels"),
    "sizes of a product": (lambda: Constant([1, 2]) * [1, 2, 3], "2 and 3 channels.*stack"),
    "not callable": (lambda: Function(3.0), "function: got 3.0"),
    "size 0": (lambda: Function(abs, size=0), "size"),
    "breaks out of order": (lambda: Function(abs, breaks=[1, 0]), r"breaks \(row 1\)"),
    "dt 0": (lambda: Noise((0, 1), dt=0, sd=1, seed=0), "dt"),
    "negative sd": (lambda: Noise((0, 1), dt=0.1, sd=-1, seed=0), "sd"),
    "no seed": (lambda: Noise((0, 1), dt=0.1, sd=1, seed=None), "seed: got None"),
    "backward span": (lambda: Noise((1, 0), dt=0.1, sd=1, seed=0), r"t_span \(row 1\)"),
    "three ends": (lambda: Noise((0, 1, 2), dt=0.1, sd=1, seed=0), "t_span"),
    "a matrix": (lambda: as_input([[1, 2], [3, 4]]), "Sampled"),
    "a list of signals": (lambda: stack([Sine(1.0), Step(1.0)]), r"stack\(a, b\)"),
    "a word": (lambda: as_input("sine"), "input: got 'sine'"),
    "NaN t": (lambda: Sine(1.0)(np.nan), "t: got nan"),
    "t (2, 2)": (lambda: Sine(1.0)(np.zeros((2, 2))), "array of times"),
    "lookup's shape": (lambda: Sine(1.0).evaluate([0, 1], [0]), "lookup"),
    "lookup, compiled": (lambda: evaluate_program(Sine(1.0).program(), [0, 1], [0]), "lookup"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(UsageError, match=message):
        call()


def test_data_are_copied():
    values = np.array([1.0, 2.0])
    x, y = Sampled([0.0, 1.0], values), Constant(values)
    values[:] = 9.0
    assert x(1.0) == [2.0]
    np.testing.assert_array_equal(y(0.0), [1, 2])


# ---- tables --------------------------------------------------------------------------------------

TABLE = "year,hare,lynx\n1900,30.0,4.0\n1901,47.2,6.1\n\n1902,70.2,9.8\n"


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_from_csv(table, encoding, newline):
    path = table(TABLE.replace("\n", newline), encoding)
    x = from_csv(path, time="year", columns=["lynx", "hare"], kind="linear")
    np.testing.assert_allclose(both(x, [1900, 1900.5, 1902]), [[4, 30], [5.05, 38.6], [9.8, 70.2]], rtol=1e-12)
    one = from_csv(str(path), time="year", columns="hare")
    np.testing.assert_array_equal(one([1900.5, 1901]).ravel(), [30, 47.2])
    np.testing.assert_array_equal(one.breaks, [1901, 1902])


@pytest.mark.parametrize(
    "text, message",
    [
        (TABLE.replace("6.1", "six"), r"line 3, column 'lynx': got 'six'"),
        (TABLE.replace("9.8", ""), r"line 5, column 'lynx': got ''"),
        (TABLE.replace(",9.8", ""), r"line 5, column 'lynx': got ''"),
        (TABLE.replace("70.2", "nan"), r"line 5, column 'hare': got 'nan'"),
        (TABLE.replace("1902", "1901"), r"line 5, column 'year': got 1901.0; .* before, 1901.0"),
        ("year,hare,lynx\n", "data below"),
        ("", "column names"),
        ("\xff", "readable"),
    ],
)
def test_wrong_tables(table, text, message):
    path = table(text, "latin-1" if text == "\xff" else "utf-8")
    with pytest.raises(UsageError, match=message):
        from_csv(path, time="year", columns=["hare", "lynx"])


def test_wrong_columns(table):
    path = table(TABLE)
    with pytest.raises(UnknownNameError, match="columns: got 'hair'.*year, hare, lynx.*'hare'"):
        from_csv(path, time="year", columns=["hair"])
    with pytest.raises(UnknownNameError, match="time: got 'date'"):
        from_csv(path, time="date", columns="hare")
    with pytest.raises(UsageError, match="columns"):
        from_csv(path, time="year", columns=[])


def test_missing_file(tmp_path):
    with pytest.raises(UsageError, match="nowhere.csv.*there is no such file"):
        from_csv(tmp_path / "nowhere.csv", time="year", columns="hare")


# ---- compiled once, imported quickly -------------------------------------------------------------


def test_new_signals_compile_nothing():
    from ctrnn.kernels import signals

    both(Sine(1.0), [0.0])
    compiled = len(signals.times.signatures)
    both(stack(Sine([1.0, 2.0]) * Pulse(0, 1), Noise((0, 1), 0.1, 1.0, 0), abs), [0.0, 0.5])
    assert len(signals.times.signatures) == compiled


def test_importing_inputs_draws_in_nothing_heavy():
    code = "import sys, ctrnn.inputs; print([m for m in ('torch', 'sympy', 'matplotlib') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", inputs.__all__)
def test_public_names_are_documented(name):
    assert getattr(inputs, name).__doc__


def test_a_signal_can_be_divided_by_numbers():
    x = Sine(frequency=0.25) / 2
    assert x(1.0)[0] == 0.5
    np.testing.assert_array_equal((Constant([2.0, 3.0]) / [4.0, 2.0])(0.0), [0.5, 1.5])
    with pytest.raises(UsageError, match="divisor"):
        Sine(frequency=0.25) / 0
