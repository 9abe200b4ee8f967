"""exp, log, tanh and sigmoid of the loops over units (ctrnn.kernels.elementwise): to the last digits, and right where
they end.
"""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_array_equal

from ctrnn.kernels import elementwise

RNG = np.random.default_rng(7)
#: near 0, where tanh must keep its digits; around 1; and far out
Z = np.concatenate([RNG.normal(size=300) * scale for scale in (1e-300, 1e-8, 1e-3, 0.1, 1.0, 5.0, 100.0)])
#: every size of number, subnormal ones too, and close to 1, where log x ≈ x − 1
LOG_AT = np.concatenate([np.abs(Z), RNG.uniform(0.7, 1.42, 2000), 1.0 + 1e-6 * RNG.normal(size=300), [1e-320]])
REFERENCE = {"exp": mpmath.exp, "log": mpmath.log, "tanh": mpmath.tanh, "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z))}


def looped(name: str):
    """The function in a loop like those of a cell, which becomes vector instructions."""
    function = getattr(elementwise, name)

    @njit(error_model="numpy", fastmath={"contract"})
    def loop(z, out):
        for i in range(z.size):
            out[i] = function(z[i])

    def apply(z):
        out = np.empty(len(z))
        loop(np.asarray(z, dtype=float), out)
        return out

    return apply


@pytest.mark.parametrize(("name", "units"), [("exp", 1.0), ("tanh", 1.5), ("sigmoid", 1.5), ("log", 1.5)])
def test_values_are_right_to_a_unit_and_a_half_of_the_last_place(name, units):
    at = LOG_AT if name == "log" else Z
    got = looped(name)(at)
    with mpmath.workprec(200):
        exact = [REFERENCE[name](mpmath.mpf(z)) for z in at.tolist()]
        off = max(abs((mpmath.mpf(a) - b) / b) for a, b in zip(got.tolist(), exact, strict=True))
    assert float(off) < units * 2.0**-52


def test_tanh_keeps_the_sign_of_zero_and_the_smallest_numbers():
    got = looped("tanh")([0.0, -0.0, 5e-324, -1e-310, 30.0, -40.0, math.inf, -math.inf, math.nan])
    assert_array_equal(got, [0.0, -0.0, 5e-324, -1e-310, 1.0, -1.0, 1.0, -1.0, math.nan])
    assert math.copysign(1.0, got[1]) == -1.0


@pytest.mark.parametrize(
    "z", [-1000.0, -745.2, -745.1, -720.0, -708.5, 709.7, 709.79, 711.0, 1000.0, math.inf, -math.inf]
)
def test_exp_at_both_ends_of_its_range_is_that_of_the_c_library(z):
    with np.errstate(over="ignore", under="ignore"):
        assert looped("exp")([z])[0] == pytest.approx(float(np.exp(z)), rel=1e-15, abs=5e-324)


def test_sigmoid_at_both_ends_and_nan():
    got = looped("sigmoid")([-math.inf, -720.0, -40.0, 0.0, 40.0, math.inf])
    assert_array_equal(got[[0, 3, 5]], [0.0, 0.5, 1.0])
    assert got[1] == pytest.approx(math.exp(-720.0), rel=1e-10) and got[2] == pytest.approx(math.exp(-40.0), rel=1e-15)
    assert np.isnan(looped("sigmoid")([math.nan])[0]) and np.isnan(looped("exp")([math.nan])[0])


def test_log_where_it_ends():
    got = looped("log")([0.0, -0.0, -1.0, 5e-324, 1.0, 2.0**1023, math.inf, -math.inf, math.nan])
    assert_array_equal(got[[0, 1, 2, 4, 6, 7, 8]], [-math.inf, -math.inf, math.nan, 0.0, math.inf, math.nan, math.nan])
    assert got[3] == pytest.approx(math.log(5e-324), rel=1e-15) and got[5] == pytest.approx(
        1023 * math.log(2), rel=1e-15
    )
