"""Formulas as text: they mean what Python means by them, and nothing else gets through."""

from __future__ import annotations

import re
import time

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import ctrnn
from ctrnn.errors import ExpressionError, UsageError
from ctrnn.fields.expressions import FUNCTIONS, check_names, parse

NAMES = ("x", "y", "prey", "pred", "E", "I", "S", "N", "beta", "gamma", "τ")
SYMBOLS = {name: sympy.Symbol(name, real=True) for name in NAMES}
X, Y = SYMBOLS["x"], SYMBOLS["y"]


def step(z):
    return mpmath.mpf(z >= 0)


REFERENCE = {
    **{name: getattr(mpmath, name) for name in ("exp", "log", "log10", "sqrt", "sin", "cos")},
    **{name: getattr(mpmath, name) for name in ("tan", "asin", "acos", "atan", "erf")},
    **{name: getattr(mpmath, name) for name in ("sinh", "cosh", "tanh")},
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "softplus": lambda z: mpmath.log(1 + mpmath.exp(z)),
    "relu": lambda z: max(z, mpmath.mpf(0)),
    "abs": abs,
    "sign": mpmath.sign,
    "heaviside": step,
    "step": step,
    "min": min,
    "max": max,
    "where": lambda condition, yes, no: yes if condition else no,
}


# --- what a formula means


def grown(inner):
    """Longer texts, without the parentheses that would hide a wrong precedence."""
    smooth = st.sampled_from(["sin", "cos", "tanh", "atan", "exp", "erf", "sigmoid", "softplus"])
    corner = st.sampled_from(["abs", "relu"])
    pair = st.tuples(inner, inner)
    condition = st.tuples(leaves, st.sampled_from(["<", "<=", ">", ">="]), leaves).map(" ".join)
    return st.one_of(
        st.tuples(inner, st.sampled_from([" + ", " - ", " * ", " / ", "*", "-", "/"]), inner).map("".join),
        st.tuples(inner, st.sampled_from(["**2", " ** -1", "**3"])).map("".join),
        inner.map(lambda a: f"({a})"),
        inner.map(lambda a: f"-{a}"),
        st.tuples(smooth, inner).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(corner, inner).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(st.sampled_from(["max", "min"]), pair).map(lambda p: f"{p[0]}({p[1][0]}, {p[1][1]})"),
        st.tuples(pair, condition).map(lambda p: f"({p[0][0]} if {p[1]} else {p[0][1]})"),
    )


leaves = st.sampled_from(["x", "y", "0", "1", "2", "3", "7", "pi", "(1/3)", "(y)"])
formulas = st.recursive(leaves, grown, max_leaves=8)
VALUES = {"x": sympy.Rational(3, 7), "y": sympy.Rational(-13, 11)}


def by_python(text: str) -> mpmath.mpf:
    """The text as Python itself reads it, in 60 digits."""
    text = re.sub(r"(?<![\w.])\d+(\.\d+)?", r"N(\g<0>)", text)
    names = {**REFERENCE, "N": mpmath.mpf, "pi": mpmath.pi(), "e": mpmath.e()}
    names |= {k: mpmath.mpf(v.p) / v.q for k, v in VALUES.items()}
    return mpmath.mpf(eval(text, {"__builtins__": {}}, names))  # text made in this file


@settings(max_examples=250, deadline=None)
@given(formulas)
def test_means_what_python_means(text):
    with mpmath.workdps(60):
        try:
            expected = by_python(text)
        except (ZeroDivisionError, OverflowError, TypeError):
            assume(False)
        assume(mpmath.isfinite(expected) and abs(expected) < 1e30)
        try:
            expression = parse(text, SYMBOLS)
        except ExpressionError as error:
            # 1/(x - x) and exp(exp(7)), also where an untaken branch holds them
            assert re.search("beyond the range|division by zero|finite|too many", str(error)), error
            assume(False)
        value = expression.xreplace({SYMBOLS[k]: v for k, v in VALUES.items()}).evalf(40)
        assert abs(mpmath.mpf(value) - expected) <= 1e-30 * (1 + abs(expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-x**2", -(X**2)),
        ("x**-1", 1 / X),
        ("2**3**2", sympy.Integer(512)),
        ("1/3*x", X / 3),
        ("x - y - 1", X - Y - 1),
        ("x/y/2", X / (2 * Y)),
        ("0.1*x", sympy.Float(0.1) * X),
        ("x**2.0", X**2),
        ("  x\n\t+ y ", X + Y),
        (
            "E*I + S*N/beta",
            sympy.Mul(*(SYMBOLS[k] for k in "EI")) + SYMBOLS["S"] * SYMBOLS["N"] / SYMBOLS["beta"],
        ),
        ("e*pi", sympy.E * sympy.pi),
        ("τ*x", SYMBOLS["τ"] * X),
        ("x if 0 < x < 1 else y", sympy.Piecewise((X, (X > 0) & (X < 1)), (Y, True))),
        ("where(x >= 0 or y <= 1, 1, 2)", sympy.Piecewise((1, (X >= 0) | (Y <= 1)), (2, True))),
        ("1e3", sympy.Float(1000.0)),
    ],
)
def test_reads_exactly(text, expected):
    assert parse(text, SYMBOLS) == expected


def test_own_symbols_shadow_the_constants():
    e = sympy.Symbol("e", real=True)
    assert parse("e**2", {"e": e}) == e**2


def test_long_sums_and_deep_calls_are_formulas():
    terms = parse(" + ".join(["x*y"] * 500), SYMBOLS)
    assert terms == 500 * X * Y
    deep = parse("tanh(" * 80 + "x" + ")" * 80, SYMBOLS)
    assert deep.diff(X).subs(X, 0) == 1


# --- functions and their derivatives


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"where", "max", "min"}))
@pytest.mark.parametrize("z", ["0.31", "-0.47"])
def test_function_and_derivative(name, z):
    assume_positive = name in ("log", "log10", "sqrt")
    z = z.lstrip("-") if assume_positive else z
    f = parse(f"{name}(x)", SYMBOLS)
    with mpmath.workdps(40):
        at = {X: sympy.Rational(z)}
        point = mpmath.mpf(sympy.Rational(z).p) / sympy.Rational(z).q
        assert abs(mpmath.mpf(f.xreplace(at).evalf(40)) - REFERENCE[name](point)) < 1e-35
        slope = mpmath.diff(REFERENCE[name], point)
        assert abs(mpmath.mpf(f.diff(X).xreplace(at).evalf(40)) - slope) < 1e-15
        curvature = mpmath.diff(REFERENCE[name], point, 2)
        assert abs(mpmath.mpf(f.diff(X, 2).xreplace(at).evalf(40)) - curvature) < 1e-9


@pytest.mark.parametrize(
    ("text", "value", "slope"),
    [
        ("relu(x)", 0, 0),
        ("abs(x)", 0, 0),
        ("sqrt(x**2)", 0, 0),
        ("sign(x)", 0, 0),
        ("heaviside(x)", 1, 0),
        ("step(x)", 1, 0),
        ("max(3*x, x)", 0, 1),
        ("max(x, 2*x, 3*x)", 0, 3),
        ("min(x, 2*x)", 0, 2),
        ("relu(relu(x) + 2*x)", 0, 0),
    ],
)
def test_corners(text, value, slope):
    f = parse(text, SYMBOLS)
    assert f.subs(X, 0) == value
    assert f.diff(X).subs(X, 0) == slope


@pytest.mark.parametrize("text", ["abs(log(x))", "sign(log(x) - y)*x", "abs(abs(x) - relu(y))"])
def test_derivatives_hold_nothing_that_cannot_be_compiled(text):
    f = parse(text, SYMBOLS)
    for g in (f, f.diff(X), f.diff(X, 2), f.diff(X, Y)):
        odd = g.atoms(sympy.Derivative, sympy.DiracDelta, sympy.ITE, sympy.Abs, sympy.re, sympy.im)
        assert not odd


def test_conditions_with_corners_inside():
    f = parse("max(relu(x) - 1, min(x, y), abs(y) - 2)", SYMBOLS)
    for x in (-2, 0, 1, 3):
        for y in (-4, 0, 2):
            expected = max(max(x, 0) - 1, min(x, y), abs(y) - 2)
            assert f.subs({X: x, Y: y}) == expected


# --- what is refused


MALICIOUS = [
    "__import__('os')",
    "__import__(os)",
    "a.__class__",
    "x.__class__",
    "().__class__",
    "x.subs(y, 1)",
    "f'{x}'",
    "'x'",
    "(x := 1)",
    "[x for x in y]",
    "(x for x in y)",
    "{x: y}",
    "x[0]",
    "lambda: 0",
    "lambda x: 0",
    "exp(*x)",
    "exp(**x)",
    "exp(x=1)",
    "exp(x)(y)",
    "x; y",
    "x # y",
    "x \\\n y",
    "x\0",
    "x, y",
    "x if y else 1",
    "x == y",
    "x is y",
    "not x",
    "x & y",
    "x % 2",
    "x // 2",
    "x @ y",
    "~x",
    "True",
    "None",
    "...",
    "1j",
    "await x",
    "9**9**9**9",
    "9**9**9",
    "(9**300)**300",
    "((((2*x)**100)**100)**100)**100",
    "exp(1000*log(exp(1000*log(2*x))))",
    "exp(exp(exp(25.)))",
    "exp(exp(exp(25.))) > 1",
    "1 if exp(exp(exp(100))) > 1 else 0",
    "x**(9**9)",
    "*".join(["9**300"] * 1000),
    "9" * 5000,
    "1e999",
    "1/0",
    "x/(1 - 1)",
    "0**-1",
    "log(-1)",
    "sqrt(-1)",
    "(-8)**(1/3)",
    "asin(2)",
    "tan(pi/2)",
    "sqrt(-x**2)",
    "x" * 100_000,
    "x+" * 50_000 + "x",
    "(" * 100_000,
    "-" * 9_000 + "x",
    "(" * 4_000 + "x" + ")" * 4_000,
    "sin(" * 150 + "x" + ")" * 150,
    "relu(y*" * 60 + "x" + ")" * 60,
    "max(" + "x, " * 50 + "y)",
    "",
    "   ",
]


@pytest.mark.parametrize("text", MALICIOUS, ids=lambda text: repr(text[:30]))
def test_refused_quickly(text):
    start = time.perf_counter()
    with pytest.raises(UsageError) as caught:
        parse(text, SYMBOLS, "dx/dt")
    assert time.perf_counter() - start < 2.0
    assert str(caught.value).startswith("dx/dt: ")
    assert len(str(caught.value)) < 1000


@settings(max_examples=300, deadline=2000)
@given(st.text(alphabet="xy01.+-*/^()<>=,: \n'_[]{}#@ifelsexp√µ", max_size=30))
def test_any_text_is_a_formula_or_a_clear_error(text):
    try:
        assert parse(text, SYMBOLS).free_symbols <= set(SYMBOLS.values())
    except ExpressionError as error:
        assert re.search(r"at column \d+", str(error))


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("x + prex", 5, "unknown name 'prex'.*did you mean 'prey'"),
        ("  τ*prex", 5, "unknown name 'prex'"),
        ("beta*n", 6, "did you mean 'N'"),
        ("tanhh(x)", 1, "unknown function 'tanhh'.*did you mean 'tanh'"),
        ("x + y^2", 6, r"'\^' has no place.*\*\* for a power"),
        ("(x) ^ (2)", 5, r"'\^'"),
        ("2x", 1, r"2\*x"),
        ("x y", 3, "cannot go on"),
        ("x +", 4, "cannot go on"),
        ("(x + 1", 1, "never closed"),
        ("x + 1)", 6, "unmatched"),
        ("x = 2", 3, "'='"),
        ("x == 2", 1, "comparison is not a number"),
        ("1 if x == 2 else 0", 8, "'=='.*<, <=, >, >="),
        ("2*lambda*x", 3, "'lambda'.*lambda_ or lam"),
        ("x + y.real", 6, "attribute"),
        ("x + np.tanh(y)", 5, r"only a function's name can be called.*Try: tanh\(\.\.\.\)"),
        ("x + np.clip(y, 0, 1)", 5, r"Try: min\(max\(v, low\), high\)"),
        ("maximum(x, y)", 1, r"unknown function 'maximum'.*Try: max\(a, b\)"),
        ("x + tanh", 5, r"'tanh' is a function.*tanh\(...\)"),
        ("x(y + 1)", 1, r"'x' is not a function.*x\*\(...\)"),
        ("2 + tanh(x, y)", 5, "tanh with 2 arguments.*allowed: 1"),
        ("2 + exp(x=1)", 9, "named argument"),
        ("x + y // 2", 7, "'//'"),
        ("x + 'a'", 5, "no place"),
        ("y + 1/0", 7, "division by zero"),
        ("y + x**5000", 8, "exponent too large.*1000"),
        ("x if y else 2", 6, "not a comparison"),
    ],
)
def test_error_shows_the_place(text, column, says):
    with pytest.raises(ExpressionError, match=says) as caught:
        parse(text, SYMBOLS, "dx/dt")
    message, line, caret = str(caught.value).split("\n")
    assert message.startswith("dx/dt: ")
    assert f"at column {column}" in message
    assert line == "    " + text
    assert caret == "    " + " " * (column - 1) + "^"


def test_caret_in_a_long_formula():
    text = "x + " * 60 + "prex" + " + y" * 60
    with pytest.raises(ExpressionError, match="at column 241") as caught:
        parse(text, SYMBOLS)
    _, line, caret = str(caught.value).split("\n")
    assert line[caret.index("^") :].startswith("prex")
    assert len(line) < 120


def test_text_only():
    with pytest.raises(UsageError, match="formula as text"):
        parse(3.0, SYMBOLS)  # type: ignore[arg-type]


# --- names


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lambda", "lambda_ or lam"),
        ("if", "if_"),
        ("tanh", "not a function"),
        ("step", "not a function"),
        ("2x", "letters"),
        ("a b", "letters"),
        ("a-b", "letters"),
        ("", "letters"),
        ("µ", "'μ'"),  # the micro sign, which Python's own names turn into the Greek letter
        (3, "letters"),
    ],
)
def test_names_refused(name, says):
    with pytest.raises(UsageError, match=says):
        check_names(["x", name], "state")


def test_names_allowed_and_unique():
    check_names(["E", "I", "S", "N", "beta", "gamma", "Q", "e", "pi", "τ", "_a1"], "state")
    with pytest.raises(UsageError, match="each name once"):
        check_names(["x", "y", "x"], "state")


@pytest.mark.parametrize(("text", "r", "value"), [("(1e308*r)**2", 1e-308, 1.0), ("-3/(1e308*r)", -1e-308, 3.0)])
def test_derivatives_whose_coefficients_are_beyond_float64_are_written_out(text, r, value):
    """2·1e308² and the like are not folded into an infinity that no code can name."""
    field = ctrnn.Equations({"r": text})
    assert field(0.0, [r])[0] == pytest.approx(value, rel=1e-12)
    assert not np.isfinite(field.jacobian(0.0, [r])).all()


# --- F of a field for people who go on with SymPy


def test_equations_as_sympy_are_the_field():
    texts = {"x": "-k*g + y if x > 0 else g", "y": "-abs(y)/3 + e"}
    field = ctrnn.Equations(texts, {"k": 2.0, "e": 0.25}, definitions={"g": "tanh(x)*x"})
    symbols, found = field.symbols(), field.expressions()
    for x, y in ((0.3, -0.7), (-0.4, 0.2)):
        at = {symbols[name]: value for name, value in {"x": x, "y": y, "k": 2.0, "e": 0.25}.items()}
        np.testing.assert_allclose([float(f.subs(at)) for f in found], field(0.0, [x, y]), rtol=1e-15)


def test_equations_that_are_too_long_for_sympy_are_refused_with_their_place():
    field = ctrnn.Equations({"x": "relu(y*" * 9 + "x" + ")" * 9, "y": "-y"}, {})
    with pytest.raises(ExpressionError, match="dx/dt: too many branches .* at column 1"):
        field.expressions()
