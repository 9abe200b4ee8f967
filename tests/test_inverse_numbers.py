"""The iterations divide nothing: the same lines on numbers that count what is done to them and refuse to be divided."""

import math
from collections import Counter
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matrices import exact, hurwitz, normal, relative_error, symmetric

from ctrnn.errors import NotHurwitzError, UnknownNameError, UsageError
from ctrnn.inverse import (
    Chebyshev,
    Flow,
    GradientFlow,
    Hyperpower,
    Neumann,
    NewtonSchulz,
    Richardson,
    iterations,
    reciprocal,
    right_divide,
    tracking,
)
from ctrnn.inverse.matrix import System
from ctrnn.inverse.plan import Numbers


class Counted:
    """A number with +, − and *, counted; a scaling by a float counts as a shift if that is a power of two. Nothing else
    is allowed."""

    __array_ufunc__ = None
    done: Counter = Counter()

    def __init__(self, value):
        self.value = value

    def _operate(self, name, other, value):
        if not isinstance(other, Counted):
            raise TypeError(f"{name} of a counted number and {other!r}")
        Counted.done[name] += 1
        return Counted(value(self.value, other.value))

    def __add__(self, other):
        return self._operate("add", other, lambda x, y: x + y)

    def __sub__(self, other):
        return self._operate("add", other, lambda x, y: x - y)

    def __mul__(self, other):
        return self._operate("multiply", other, lambda x, y: x * y)

    def __rmul__(self, scale):
        if not isinstance(scale, float):
            raise TypeError(f"scaled by {scale!r}")
        Counted.done["shift" if abs(math.frexp(scale)[0]) == 0.5 else "scale"] += 1
        return Counted(scale * self.value)

    def _refused(self, *others):
        raise AssertionError("an iteration divided, compared, or asked for the value of a number")

    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __divmod__ = __pow__ = __rpow__ = _refused
    __float__ = __int__ = __bool__ = __lt__ = __le__ = __gt__ = __ge__ = __abs__ = __eq__ = __ne__ = _refused
    __hash__ = None


def counted(x):
    return np.vectorize(Counted, otypes=[object])(np.asarray(x, dtype=float))


class CountedNumbers(Numbers):
    def array(self, x):
        return counted(x)

    matrix = array


def values(x):
    return np.vectorize(lambda c: c.value, otypes=[float])(x)


def test_the_counted_number_refuses_a_division():
    x = counted([1.0, 2.0])
    with pytest.raises(AssertionError, match="divided"):
        x / x
    with pytest.raises((AssertionError, TypeError)):
        np.linalg.solve(counted(np.eye(2)), x)
    for forbidden in (lambda: 1.0 / Counted(2.0), lambda: Counted(1.0) / 2.0, lambda: x[0] > x[1], lambda: float(x[0])):
        with pytest.raises(AssertionError, match="divided"):
            forbidden()
    with pytest.raises(TypeError):
        x + 1.0


SHIFTS = [
    Flow(step="norm"),
    Richardson(step="norm"),
    GradientFlow(step="norm"),
    NewtonSchulz(),
    Hyperpower(3),
    Hyperpower(5),
    Neumann(6, step="norm"),
]
SCALED = [Flow(), Flow("rk4"), Flow("tsit5"), Chebyshev(), Richardson(), GradientFlow(), Neumann(6)]


@pytest.mark.parametrize("rows", ["row", "stack", "identity"])
@pytest.mark.parametrize("method", SHIFTS + SCALED, ids=str)
def test_no_iteration_divides(method, rows):
    n = 4
    A = symmetric(n, 3.0, seed=2)
    a = {"row": np.arange(1.0, 5.0), "stack": np.arange(8.0).reshape(2, 4), "identity": None}[rows]
    plan = method.plan(System(a, A), 1e-12)
    Counted.done.clear()
    found = [V for V, _ in islice(plan.iterates(1, CountedNumbers()), 6)]
    assert Counted.done["multiply"] > 0 and Counted.done["add"] > 0
    assert set(Counted.done) <= (
        {"add", "multiply", "shift"} if method in SHIFTS else {"add", "multiply", "shift", "scale"}
    )
    plain = [V for V, _ in islice(plan.iterates(1, Numbers()), 6)]
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_allclose(values(one), other, rtol=1e-12, atol=1e-14)
    assert np.abs(values(found[-1])).max() > 0


def test_operations_of_an_iteration_are_those_of_its_formula():
    n, A = 5, symmetric(5, 3.0, seed=2)
    for method, products in (
        (Flow(step="norm"), n**2),
        (GradientFlow(step="norm"), 2 * n**2),
        (NewtonSchulz(), 2 * n**3 + 2 * n**2),
    ):
        plan = method.plan(System(np.ones(n), A), 1e-12)
        counts = []
        for k in (4, 5):
            Counted.done.clear()
            list(islice(plan.iterates(1, CountedNumbers()), k))
            counts.append(Counted.done["multiply"])
        assert counts[1] - counts[0] == products


def test_tracking_divides_nothing_either():
    frames = [(counted(-np.eye(3) * (1 + 0.1 * k)), counted(-0.1 * np.eye(3))) for k in range(4)]
    Counted.done.clear()
    *_, X = tracking.getz_marsden(counted(-np.eye(3)), iter(frames), counted(np.eye(3)), 1.0)
    *_, V = tracking.row_flow(counted([-1.0, 0.0, 0.0]), counted([1.0, 0.0, 0.0]), iter(frames), 0.5)
    assert set(Counted.done) == {"add", "multiply", "shift"}
    assert np.abs(values(X) + np.eye(3) / 1.4).max() < 0.01


def test_scalar_iterations_divide_nothing():
    one, two, a = Counted(1.0), Counted(2.0), Counted(-3.0)
    Counted.done.clear()
    runs = (
        iterations.scalar_flow(a, one, 0.25),
        iterations.scalar_gradient_flow(a, one, 0.0625),
        iterations.scalar_newton(a, two, Counted(-0.25)),
    )
    for run in runs:
        assert next(islice(run, 60, None)).value == pytest.approx(-1 / 3, rel=1e-12)
    assert set(Counted.done) == {"add", "multiply", "shift"}


def test_the_set_up_by_norms_divides_nothing():
    from ctrnn.inverse import spectrum

    # its numbers are exponents: h = 2⁻ᵉ, and two runs with A and 2A differ by exactly one shift
    for size in (0.3, 1.0, 5.0, 4.0, 1e100):
        h = spectrum.power_of_two(size)
        assert math.frexp(h)[0] == 0.5 and 0.5 < h * size <= 1.0
    for method in (Flow(step="norm"), GradientFlow(step="norm"), NewtonSchulz()):
        A = symmetric(5, 3.0, 1)
        one, two = (method.plan(System(np.ones(5), s * A), 1e-6).condition.step for s in (1.0, 2.0))
        assert math.frexp(one)[0] == 0.5 and one / two in (2.0, 4.0)


def test_exact_fractions_give_the_exact_neumann_series():
    half = Fraction(1, 2)
    a, A = np.array([Fraction(1), Fraction(2)]), np.array([[-half, Fraction(0)], [Fraction(1, 4), -half]])
    V = iterations.euler_flow(a - a, a, A, Fraction(1), 3)
    M = np.array([[half, Fraction(0)], [Fraction(1, 4), half]])
    assert (-(a + a @ M + a @ M @ M) == V).all()


def test_chebyshev_coefficients_without_a_division_are_those_with():
    from ctrnn.inverse.spectrum import chebyshev_table

    for d, c2 in ((-2.0, 3.0), (5.0, -4.0), (-1.0, 0.0), (-0.505, 0.245)):
        alpha = 1 / d
        assert chebyshev_table(d, c2)[0] == (pytest.approx(alpha, rel=1e-15), 0.0)
        for k, (ours, beta) in enumerate(chebyshev_table(d, c2)[1:], 1):
            factor = 0.5 if k == 1 else 0.25
            assert beta == pytest.approx(factor * c2 * alpha**2, rel=1e-12)
            alpha = 1 / (d - factor * c2 * alpha)
            assert ours == pytest.approx(alpha, rel=1e-12)


# --- the step by norms ---


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_a_step_by_norms_is_always_inside_the_bound_of_the_spectrum(n, seed):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n))
    A -= np.diag(np.abs(A).sum(axis=1) + rng.uniform(0.1, 2, n))  # the ∞-logarithmic norm is negative
    a = rng.normal(size=n)
    result = right_divide(a, A, Flow(step="norm"))
    λ = np.linalg.eigvals(A)
    assert 0 < result.condition.step < (2 * np.abs(λ.real) / np.abs(λ) ** 2).min()
    assert relative_error(result.value, exact(a, A)) < 1e-12
    S = -(A @ A.T) - 0.1 * np.eye(n)
    step = right_divide(a, S, Flow(step="norm"), max_iterations=10**6, raise_on_failure=False, tol=1e-2).condition.step
    assert step < 2 / np.abs(np.linalg.eigvalsh(S)).max()


def test_where_norms_do_not_tell_the_step_is_refused():
    A = normal([-1.0 + 3.0j, -0.5], 4)
    with pytest.raises(UsageError, match="logarithmic norm"):
        right_divide(np.ones(3), A, Flow(step="norm"))
    assert right_divide(np.ones(3), A, GradientFlow(step="norm")).converged
    with pytest.raises(UsageError, match="only a product"):
        right_divide(np.ones(3), lambda V: V @ A, Flow(step="norm"))


# --- scalars ---


@given(
    st.floats(1e-300, 1e300), st.sampled_from([-1.0, 1.0]), st.sampled_from(["flow", "gradient-flow", "newton-schulz"])
)
def test_every_reciprocal_is_right_to_two_bits_and_inside_its_bound(size, sign, method):
    a = sign * size
    result = reciprocal(a, method)
    assert result.converged and result.method == method
    assert abs(result.value - 1 / a) <= 4.5e-16 / size
    assert abs(result.value - 1 / a) <= result.error_bound
    assert result.iterations <= result.condition.predicted + 8


def test_the_literal_flow_takes_negative_numbers_only():
    assert reciprocal(-5.0, "literal").value == pytest.approx(-0.2, rel=1e-15)
    with pytest.raises(NotHurwitzError, match="sign") as caught:
        reciprocal(5.0, "literal")
    assert caught.value.abscissa == 5.0
    # and rightly so: its Euler steps run away
    v = 0.0
    for _ in range(100):
        v = v + 0.1 * (v * 5.0 - 1.0)
    assert abs(v) > 1e10


def test_the_scalar_rates_are_those_predicted():
    a = 5.0  # m = 5/8
    for method, contraction in (("flow", 3 / 8), ("gradient-flow", 1 - 25 / 64)):
        r = reciprocal(a, method)
        assert r.condition.contraction == contraction
        np.testing.assert_allclose(r.residual[:10], contraction ** np.arange(10), rtol=1e-9)
    newton = reciprocal(a, "newton-schulz")
    np.testing.assert_allclose(newton.residual[:4], [3 / 8, (3 / 8) ** 2, (3 / 8) ** 4, (3 / 8) ** 8], rtol=1e-9)
    assert newton.condition.predicted == 6 and newton.iterations <= 7  # one more may find the last bit
    with pytest.raises(UnknownNameError, match="newton-schulz"):
        reciprocal(2.0, "newton")
    for method in ("gradient-flow", "newton-schulz", "literal"):
        with pytest.raises(UsageError, match="zero"):
            reciprocal(0.0, method)


def test_a_hurwitz_matrix_and_an_object_array_of_counted_numbers_reach_the_inverse():
    A = hurwitz(3, 1, margin=1.0)
    plan = Hyperpower(3).plan(System(None, A), 1e-12)
    V = next(islice(plan.iterates(plan.condition.predicted + 1, CountedNumbers()), 1, None))[0]
    np.testing.assert_allclose(values(V), np.linalg.inv(A), rtol=1e-10)
