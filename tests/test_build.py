"""Equations to code: in a time that grows with their text, with the right numbers; memory and disk are given back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mpmath
import numpy as np
import pytest
from numba import cfunc, types

import ctrnn
from ctrnn import cache as cache_module
from ctrnn.errors import ExpressionError
from ctrnn.fields import codegen, native, scalars
from ctrnn.fields.algebra import inside, names_in, symbol
from ctrnn.fields.derivatives import derivative, gradient, tangent
from ctrnn.fields.evaluate import is_zero, mpmath_function, numpy_function
from ctrnn.fields.expressions import read
from ctrnn.fields.printing import text
from ctrnn.kernels.abi import SIGNATURES, doubles

ROOT = Path(ctrnn.__file__).parents[1]


def child(code: str, folder: Path, **more: str) -> dict:
    """What a fresh process prints; one that hangs is an error."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"CTRNN_CACHE_DIR": str(folder), "PYTHONPATH": path} | more
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CTRNN_CACHE_DIR", str(tmp_path))
    return tmp_path


# --- how much is made of a text


def product(n: int) -> str:
    return "*".join(f"(u - {k})" for k in range(n))


def powers(n: int) -> str:
    return " + ".join(f"u**{k + 1}" for k in range(n))


def layers(n: int) -> str:
    formula = "u"
    for _ in range(n):
        formula = f"tanh(w*{formula} + u)"
    return formula


def corners(n: int) -> str:
    formula = "u"
    for _ in range(n):
        formula = f"relu(w*{formula} - max(u, w))"
    return formula


@pytest.mark.parametrize("make", [product, powers, layers, corners])
def test_derivatives_grow_with_the_text(make):
    """First and second derivatives have a number of nodes that grows as the formula's does."""

    def sizes(n: int) -> np.ndarray:
        f = read(make(n), ["u", "w"])
        first = gradient(f, ["u", "w"])
        second = tangent(list(first.values()), {"u": symbol("du"), "w": symbol("dw")})
        return np.array([len(inside(part)) for part in ([f], list(first.values()), second)])

    small, large = sizes(6), sizes(24)
    assert (large <= 5.5 * small).all()


def test_a_system_of_many_equations_grows_with_its_text(cache):
    def lines(n: int) -> int:
        equations = {f"u{i}": f"-u{i} + a*tanh(u{(i - 1) % n}) + u{(i + 1) % n}*u{i}" for i in range(n)}
        return len(Path(ctrnn.Equations(equations, {"a": 1.5})._module.__file__).read_text().splitlines())

    assert lines(80) <= 4.2 * lines(20)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ({f"u{i}": f"-u{i} + a*tanh(u{(i - 1) % 100})*u{(i + 1) % 100}" for i in range(100)}, {"a": 1.0}),
        lambda: ({"u": "*".join(f"(u - w{i})" for i in range(99))}, {f"w{i}": 0.1 * i for i in range(99)}),
        lambda: ({"u": powers(999)}, {}),
        lambda: ({"u0": "sign((2 - cosh(max(-1, u0, b)))*abs(u0))"}, {"b": 0.5}),
        lambda: ({"u": corners(20)}, {"w": 0.5}),
    ],
    ids=["100 equations", "99 factors", "999 powers", "cases", "corners"],
)
def test_what_used_to_take_for_ever_is_built_soon(cache, make):
    equations, parameters = make()
    began = time.process_time()
    field = ctrnn.Equations(equations, parameters)
    assert time.process_time() - began < 5.0
    r = np.full(field.n, 0.3)
    assert np.isfinite(field(0.0, r)).all() and np.isfinite(field.jacobian(0.0, r)).all()


def test_long_blocks_have_their_registers_quickly(cache, monkeypatch):
    """2,000 products in one block of code: registers were handed out in a time that grew with the square, 7 s here."""
    levels, machine = [], native._machine
    monkeypatch.setattr(native, "_machine", lambda level=3: levels.append(level) or machine(level))
    ctrnn.Equations({"u": "-u + 0.25*sin(u)"})
    assert 0 not in levels
    n = 45
    W = np.random.default_rng(0).normal(size=(n, n)).round(3)
    equations = {f"u{i}": f"-u{i}" + "".join(f" + ({W[i, j]})*tanh(u{j})" for j in range(n)) for i in range(n)}
    field = ctrnn.Equations(equations)
    assert 0 in levels
    u = np.linspace(-1.0, 1.0, n)
    np.testing.assert_allclose(field(0.0, u), -u + W @ np.tanh(u), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(field.jacobian(0.0, u), W / np.cosh(u) ** 2 - np.eye(n), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(field.vjp(0.0, u, u), u @ field.jacobian(0.0, u), rtol=1e-11, atol=1e-12)


def test_long_products_and_sums_are_right(cache):
    factors, many = ctrnn.Equations({"u": product(99)}), ctrnn.Equations({"u": powers(999)})
    u = 41.25
    others = [np.prod([u - k for k in range(99) if k != j]) for j in range(99)]
    assert factors(0.0, [u])[0] == pytest.approx(np.prod(u - np.arange(99.0)), rel=1e-12)
    assert factors.jacobian(0.0, [u])[0, 0] == pytest.approx(sum(others), rel=1e-12)
    # at a root only one of the products is left
    assert factors.jacobian(0.0, [7.0])[0, 0] == pytest.approx(
        np.prod([7.0 - k for k in range(99) if k != 7]), rel=1e-12
    )
    u = 0.9
    assert many(0.0, [u])[0] == pytest.approx((u - u**1000) / (1 - u), rel=1e-12)
    k = np.arange(1, 1000)
    assert many.jacobian(0.0, [u])[0, 0] == pytest.approx(np.sum(k * u ** (k - 1)), rel=1e-12)


def test_a_large_jacobian_goes_by_a_table(cache, monkeypatch):
    """The products with J and F_w are the same, written out or by a table of entries."""
    n = 6
    equations = {f"u{i}": " + ".join(f"w{i}{j}*tanh(u{j})*u{i}" for j in range(n)) + " + x" for i in range(n)}
    parameters = {f"w{i}{j}": 0.1 * i - 0.3 * j for i in range(n) for j in range(n)}
    r, x = np.linspace(-1.0, 1.0, n), [0.3]
    written = ctrnn.Equations(equations, parameters, ["x"])
    monkeypatch.setattr(scalars, "WRITTEN_OUT", 3)
    monkeypatch.setattr(codegen, "_generator", lambda: "another")
    table = ctrnn.Equations(equations, parameters, ["x"])
    assert "table(" in Path(table._module.__file__).read_text()
    for field in (written, table):
        np.testing.assert_allclose(
            field.parameter_jacobian(0.0, r, x), written.parameter_jacobian(0.0, r, x), rtol=1e-14
        )
        problem = ctrnn.Problem(field, r, (0.0, 1.0), x=0.3, objective=ctrnn.Objective("u0**2 + u3", at=[1.0]))
        results = [ctrnn.gradient(problem, method=m, solver="rk4", dt=0.1) for m in ("adjoint", "rtrl")]
        np.testing.assert_allclose(results[0].vector, results[1].vector, rtol=1e-11, atol=1e-14)


def test_too_much_work_is_refused_with_the_formula(cache, monkeypatch):
    monkeypatch.setattr(scalars, "MAX_OPERATIONS", 50)
    with pytest.raises(ExpressionError, match=r"dv/dt: .*operations.*allowed: 50 in all.*arrays"):
        ctrnn.Equations({"u": "-u + v", "v": "sin(u)*" + product(20)})


# --- right numbers where there used to be none


@pytest.mark.parametrize(
    ("formula", "points"),
    [
        ("max(log(abs(x)), 0)", [-3.0, -0.5, 0.5, 2.0]),
        ("relu(log(abs(x)))", [-3.0, -0.5, 0.5, 2.0]),
        ("erf(1e200*x)", [-1.0, 2.0]),
        ("sign(x)**(1/3)*x", [0.5, 2.0]),
        ("x/(1 + abs(x)**1.5)", [-2.0, -0.1, 0.2, 3.0]),
        ("softplus(50*x) - sigmoid(-40*x)", [-20.0, -0.3, 0.2, 20.0]),
        ("sqrt(x**2)*x", [-2.0, 0.0, 3.0]),
        ("max(x, 1/x, x**2) - min(x, sin(x))", [-2.0, -0.4, 0.3, 3.0]),
        ("(x if x > 1 else 2*x if x > 0 else -x)**3", [-1.0, 0.5, 2.0]),
        ("where(x > 0, log(x), 0) + where(x > 1, log(x - 1), 0)", [-1.0, 0.0, 0.5, 1.0, 2.0]),
        ("1e300*x*1e-300", [-2.0, 3.0]),
    ],
)
def test_values_and_slopes_against_mpmath(cache, formula, points):
    field = ctrnn.Equations({"x": formula})
    value = mpmath_function(["x"], [read(formula, ["x"])])
    for x in points:
        with mpmath.workdps(60):
            expected = value(mpmath.mpf(x))[0]
            h = mpmath.mpf(10) ** -25
            left, right = (value(mpmath.mpf(x) + s * h)[0] for s in (-1, 1))
            slope = (right - left) / (2 * h)
            smooth = abs((right - expected) - (expected - left)) < 1e-10 * h * (1 + abs(slope))
        assert field(0.0, [x])[0] == pytest.approx(float(expected), rel=1e-13, abs=1e-300)
        if smooth and abs(slope) < 1e100:
            assert field.jacobian(0.0, [x])[0, 0] == pytest.approx(float(slope), rel=1e-12, abs=1e-14)
        assert np.isfinite(field.jacobian(0.0, [x])).all()


def test_a_root_of_a_negative_sign_is_nan_and_no_traceback(cache):
    field = ctrnn.Equations({"x": "sign(x)**(1/3)"})
    assert field(0.0, [2.0])[0] == 1.0
    with np.errstate(invalid="ignore"):
        kernel = numpy_function(["x"], [read("sign(x)**(1/3)", ["x"])])
        assert np.isnan(kernel(np.array([-1.0]))[0]).all()


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("x*1e308*10", "beyond the range"),
        ("1e308*10", "finite real"),
        ("log(-x**2)", "finite real"),
        ("sqrt(-abs(x))", "finite real"),
        ("(-x**2)**0.5", "finite real"),
        ("x/(2 - sqrt(4))", "division by zero"),
    ],
)
def test_what_is_no_real_number_is_refused(formula, says):
    with pytest.raises(ExpressionError, match=says):
        read(formula, ["x"])


# --- graphs


def test_equal_formulas_are_one_node():
    names = ["x", "y"]
    assert read("x*y + y*x", names) is read("2*(y*x)", names)
    assert read("x - x", names).value == 0.0
    assert read("(x + y)*(y + x)", names) is read("(x + y)**2", names)
    assert read("x*y/x", names) is symbol("y")
    assert read("sqrt(x**2)", names) is read("abs(x)", names)
    assert names_in([read("x + 0*y", names)]) == {"x"}


@pytest.mark.parametrize(
    "formula",
    ["-x/3 + tanh(y*x)", "x**-2 - (x + y)**2/(1 + x**2)", "-(x**2)", "(-x)**2", "x - (y - x)", "x/(y/x)", "2**-x",
     "max(x, y) if x < 1 and y > 2 or x >= 3 else sign(x)", "1/3 + 0.1*x - pi*e", "exp(-x**2)*1e-3"],
)  # fmt: skip
def test_text_is_read_as_what_was_written(formula):
    f = read(formula, ["x", "y"])
    assert read(text(f), ["x", "y"]) is f


def test_a_power_at_zero_has_its_limits():
    f = read("x**n/(k**n + x**n)", ["x", "n", "k"])
    slopes = numpy_function(["x", "n", "k"], [derivative(f, q) for q in ("x", "n", "k")])
    assert [float(v) for v in slopes(0.0, 2.0, 0.7)] == [0.0, 0.0, 0.0]


def test_what_is_zero_is_seen_by_digits():
    assert is_zero(read("sin(x)**2 + cos(x)**2 - 1", ["x"]), ["x"])
    assert is_zero(read("(x + 1)**2 - x**2 - 2*x - 1", ["x"]), ["x"])
    assert not is_zero(read("1e-25*x", ["x"]), ["x"])


# --- machine code


def test_the_small_compiler_agrees_with_numba(cache):
    """The same source by two compilers, to the last bit but for what LLVM may do with a**3."""
    formula = (
        "tanh(x*y) - exp(-x**2)*sin(3*y) + (log(1 + x**2) if x > y else sqrt(y**2 + 1))/(2 + cos(x)) + erf(x)*atan(y)"
    )
    field = ctrnn.Equations({"x": formula, "y": "sigmoid(x) - softplus(y) + abs(x - y)*sign(y) + x**5/7 - asin(x/9)"})
    source = Path(field._module.__file__).read_text()
    start = source.index("def field("), source.index("@native(SIGNATURES[VJP])")
    names: dict = dict(vars(field._module)) | {"doubles": doubles}
    exec(compile(source[start[0] : start[1]], "by numba", "exec"), names)
    other = cfunc(SIGNATURES[0], error_model="numpy", _nrt=False)(names["field"])
    rng = np.random.default_rng(0)
    for r in rng.normal(size=(200, 2)) * np.logspace(-3, 0.9, 200)[:, None]:
        out = np.empty(2)
        other.ctypes(0, 0.0, r.ctypes.data, 0, 0, out.ctypes.data)
        np.testing.assert_allclose(field(0.0, r), out, rtol=4e-16, atol=1e-300)


@pytest.mark.parametrize("damage", [b"", b"not machine code", "half"])
def test_damaged_machine_code_is_made_again(cache, damage):
    for name in [n for n in sys.modules if n.startswith("ctrnn_generated_")]:
        del sys.modules[name]

    def build() -> object:
        return ctrnn.Equations({"x": "-k*x**2"}, {"k": 2.0})

    assert build()(0.0, [3.0])[0] == -18.0
    (file,) = cache.glob("*.o")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage == "half" else damage)
    for name in [n for n in sys.modules if n.startswith("ctrnn_generated_")]:
        del sys.modules[name]
    assert build()(0.0, [3.0])[0] == -18.0 and file.read_bytes() == whole


def test_what_cannot_be_compiled_says_which_line(cache):
    source = codegen.header(["wrong"]) + codegen.function(
        "def f(n, p_)", ["while n:", "    pass"], codegen.compiled("types.void(types.int64, types.int64)")
    )
    with pytest.raises(NotImplementedError, match="f, line .*while n"):
        codegen.module("wrong", lambda: source)


@pytest.mark.parametrize("contract", [False, True])
def test_loops_views_and_tables(cache, contract):
    """The statements of generated functions, one by one."""
    body = [
        "a = doubles(p_, (n, 3))",
        "out = doubles(out_, (3, n))",
        "total = doubles(out_ + 24 * n, 1)",
        "row = table((2, 0, 1))",
        "c = scratch(3)",
        "total[0] = 0.0",
        "for i in range(n):",
        "    for j in range(3):",
        "        c[j] = a[i, row[j]]",
        "    for j in range(1, 3):",
        "        out[j, i] = c[j] - c[0] if c[j] >= c[0] else max(c[j], -1.0)**3",
        "    if i > 0:",
        "        total[0] += a[i, 0]",
        "    else:",
        "        total[0] -= a[i, 1] / 2",
        "    out[0, i] = math.copysign(sigmoid(a[i, 0]), a[i, 1])",
    ]
    decorator = codegen.compiled("types.void(*[types.int64] * 3)", contract=contract)
    source = codegen.header(["statements"]) + codegen.function("def f(n, p_, out_)", body, decorator)
    made = codegen.module(f"statements {contract}", lambda: source)
    a, out = np.random.default_rng(1).normal(size=(7, 3)), np.zeros(22)
    made.f.ctypes(7, a.ctypes.data, out.ctypes.data)
    c = a[:, [2, 0, 1]]
    expected = np.where(c >= c[:, :1], c - c[:, :1], np.maximum(c, -1.0) ** 3).T
    expected[0] = np.copysign(1.0 / (1.0 + np.exp(-a[:, 0])), a[:, 1])
    np.testing.assert_allclose(out[:21].reshape(3, 7), expected, rtol=1e-14)
    assert out[21] == pytest.approx(a[1:, 0].sum() - a[0, 1] / 2)
    assert types.void is not None


# --- what is given back

MANY = """
import gc, json
import ctrnn

def memory():
    gc.collect()
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * 4096, len(open("/proc/self/maps").read().splitlines())

def use(k):
    field = ctrnn.Equations({"x": f"s*(y - x) + {k}*sin(t)", "y": "x*(rho - y)"}, parameters={"s": 10.0, "rho": 28.0})
    assert field(0.0, [1.0, 1.0])[1] == 27.0

measured = []
for _ in range(3):
    for k in range(200):
        use(k)
    measured.append(memory())
print(json.dumps(measured))
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")
def test_fields_that_are_dropped_give_their_memory_back(tmp_path):
    (start, maps), _, (end, more) = child(MANY, tmp_path)
    assert end - start < 400 * 20e3 and more - maps < 40
    # of a compilation some 80 kB stay in LLVM's passes; a field took 2 MB
    _, (start, maps), (end, more) = child(MANY.replace("use(k)\n    m", "use(k + 1000*len(measured))\n    m"), tmp_path)
    assert end - start < 200 * 200e3 and more - maps < 40
    size = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    assert size < 600 * 30e3


def test_fields_of_one_text_share_their_code(cache):
    one, two = (ctrnn.Equations({"x": "-k*x"}, {"k": k}) for k in (1.0, 2.0))
    assert one._module is two._module


def test_code_in_use_survives_being_forgotten(cache, monkeypatch):
    monkeypatch.setattr(codegen, "MODULES", 2)
    fields = [ctrnn.Equations({"x": f"-{k}*x"}) for k in range(1, 9)]
    assert [f(0.0, [1.0])[0] for f in fields] == [-float(k) for k in range(1, 9)]
    assert len([n for n in codegen._recent if n in sys.modules]) <= 2


def test_the_folder_is_bounded_and_the_oldest_goes_first(cache, monkeypatch):
    def size() -> int:
        return sum(f.stat().st_size for f in cache.rglob("ctrnn_generated_*"))

    first = ctrnn.Equations({"x": "-x"})
    one = size()
    kept = Path(first._module.__file__)
    monkeypatch.setenv("CTRNN_CACHE_MEGABYTES", str(5 * one / 1e6))
    monkeypatch.setattr(cache_module, "FRESH", 0.0)
    files = [Path(ctrnn.Equations({"x": f"-{k}*x"})._module.__file__) for k in range(2, 5)]
    for age, path in enumerate([kept, *files]):  # as if they had been used in this order
        os.utime(path, (1000.0 + age, path.stat().st_mtime))
    sys.modules.pop(kept.stem)
    ctrnn.Equations({"x": "-x"})  # and the oldest again now
    for k in (5, 6):
        ctrnn.Equations({"x": f"-{k}*x"})
        assert size() <= 5.5 * one
    assert kept.exists() and not files[0].exists()


def test_fluxes_between_states_cancel_without_loss(cache):
    """What one equation loses others gain, to the last bit: large terms cancel before small ones are added."""
    field = ctrnn.Equations(
        {"a": "-k1*a + k3*b*c", "b": "k1*a - k2*b**2 - k3*b*c", "c": "k2*b**2"}, {"k1": 0.04, "k2": 3e7, "k3": 1e4}
    )
    a, b, c = 2.08e-8, 8.3e-14, 0.9999999791
    out = field(0.0, [a, b, c])
    assert out[1] == -out[0] - out[2]
