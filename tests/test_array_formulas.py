"""Losses, conditions and resets that read whole arrays of states."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ctrnn
from ctrnn.errors import ExpressionError, UsageError
from ctrnn.fields.algebra import number, substituted
from ctrnn.fields.arrays.scalar import read_entries, read_scalar

NAMES = ("v", "r[0]", "r[1]", "r[2]", *(f"M[{i},{j}]" for i in range(2) for j in range(3)))
ATOMS = ["r", "r*v", "tanh(r) - 0.5", "M.T @ M[0:2, 1]", "r @ outer(r, r)", "M[1]", "where(r > 0, r, 2*r)"]


def value(text: str, v: float, r: np.ndarray, M: np.ndarray) -> list[float]:
    """What the written-out entries are at a point, each by exact substitution."""
    at = dict(zip(NAMES, map(number, [v, *r, *M.ravel()]), strict=True))
    return [substituted([node], at)[0].value for node in read_entries(text, NAMES, (3,))]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(ATOMS), st.sampled_from(ATOMS), st.sampled_from("+-*"), st.integers(0, 2**20))
def test_entries_are_those_of_numpy(a: str, b: str, operator: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    v, r, M = rng.normal(), rng.normal(size=3), rng.normal(size=(2, 3))
    text = f"({a}) {operator} ({b})"
    known = {"v": v, "r": r, "M": M, "outer": np.outer, "tanh": np.tanh, "where": np.where}
    expected = eval(text, known)
    assert np.allclose(value(text, v, r, M), expected, rtol=1e-13, atol=1e-13)
    total = substituted(
        [read_scalar(f"sum({text}) - mean({a}) + dot({a}, {b})", NAMES)],
        dict(zip(NAMES, map(number, [v, *r, *M.ravel()]), strict=True)),
    )[0].value
    plain = {**known, "sum": np.sum, "mean": np.mean, "dot": np.dot}
    assert np.isclose(total, eval(f"sum({text}) - mean({a}) + dot({a}, {b})", plain), rtol=1e-12)


W = np.random.default_rng(0).normal(size=(4, 4))
FIELD = ctrnn.Equations({"r": "-r + W @ tanh(r)"}, {"W": W}, states={"r": 4})


@pytest.mark.parametrize("method", ["adjoint", "rtrl", "adjoint-backsolve", "complex-step"])
def test_a_loss_of_an_array_is_that_of_its_entries(method: str) -> None:
    whole = ctrnn.Objective("sum(r**2)/2 - dot(r, r)", at=[0.5, 1.0])
    entries = ctrnn.Objective(" - ".join(["0"] + [f"r[{i}]**2/2" for i in range(4)]), at=[0.5, 1.0])
    found, expected = (
        ctrnn.gradient(ctrnn.Problem(FIELD, np.ones(4), (0.0, 1.0), objective=o), method=method)
        for o in (whole, entries)
    )
    assert np.isclose(found.loss, expected.loss, rtol=1e-14)
    assert np.allclose(found.parameters["W"], expected.parameters["W"], rtol=1e-12, atol=1e-14)


def test_integral_losses_and_curvature_take_arrays() -> None:
    problems = [
        ctrnn.Problem(FIELD, np.ones(4), (0.0, 1.0), objective=ctrnn.Objective(text))
        for text in ("mean(r**4)", "(r[0]**4 + r[1]**4 + r[2]**4 + r[3]**4)/4")
    ]
    a, b = (ctrnn.gradient(p, method="adjoint-interpolate", solver="DOP853").parameters["W"] for p in problems)
    assert np.allclose(a, b, rtol=1e-9)
    v = np.random.default_rng(1).normal(size=16)
    a, b = (ctrnn.hessian_vector_product(p, v) for p in problems)
    assert np.allclose(a, b, rtol=1e-10)


def test_a_rate_network_is_an_array_too() -> None:
    net = ctrnn.RateNetwork(3, seed=0)
    problem = ctrnn.Problem(net, np.ones(3), (0.0, 1.0), objective=ctrnn.Objective("sum(r) + r0", at=1.0))
    run = ctrnn.simulate(problem, save_at=[1.0])
    assert run["r"].shape == (1, 3)
    assert np.isclose(ctrnn.gradient(problem).loss, run["r"].sum() + run["r0"][0], rtol=1e-7)


def test_conditions_and_resets_of_arrays() -> None:
    decay = ctrnn.Equations({"r": "-r", "v": "1"}, states={"r": 3, "v": ()})
    event = ctrnn.Event("sum(r) - 1.5", direction=-1, reset={"r": "2*r", "v": "0"})
    run = ctrnn.simulate(ctrnn.Problem(decay, [1.0, 2.0, 3.0, 0.0], (0.0, 2.5), events=[event]))
    assert np.allclose(run.events.t, [np.log(4.0), np.log(8.0)], rtol=1e-7)
    assert np.allclose(run.events.after[0], [0.5, 1.0, 1.5, 0.0], rtol=1e-6)
    spread = ctrnn.Event("mean(r) - 0.5", direction=-1, terminal=True, reset={"r": "v"})
    ends = ctrnn.simulate(ctrnn.Problem(decay, [1.0, 2.0, 3.0, 0.0], (0.0, 3.0), events=[spread]))
    assert np.allclose(ends.events.after[0], np.log(4.0), rtol=1e-7)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("r", "an array (4,) at column 1; allowed: a scalar. Try: sum(...), mean(...), an entry"),
        ("sum(r", "never closed"),
        ("r @ r[0:2]", "'@': shapes (4,) and (2,) do not fit"),
        ("total(r)", "unknown function 'total'"),
        ("r[4]", "index 4 of 4 numbers"),
        ("sum(s)", "unknown name 's'"),
    ],
)
def test_a_mistake_is_shown_where_it_stands(text: str, says: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        ctrnn.Problem(FIELD, np.ones(4), (0.0, 1.0), objective=ctrnn.Objective(text, at=1.0))
    assert says in str(caught.value)


def test_a_formula_too_long_to_write_out_is_refused() -> None:
    big = ctrnn.Equations({"r": "-r"}, states={"r": 700})
    with pytest.raises(ExpressionError, match="operations"):
        ctrnn.Problem(big, np.ones(700), (0.0, 1.0), objective=ctrnn.Objective("sum(outer(r, r))", at=1.0))


def test_a_reset_of_another_shape_is_refused() -> None:
    with pytest.raises(ExpressionError, match=r"an array \(2,\)"):
        ctrnn.Problem(FIELD, np.ones(4), (0.0, 1.0), events=[ctrnn.Event("sum(r)", reset={"r": "r[0:2]"})])
    with pytest.raises(UsageError, match="reset"):
        ctrnn.Problem(FIELD, np.ones(4), (0.0, 1.0), events=[ctrnn.Event("sum(r)", reset={"s": "0"})])
