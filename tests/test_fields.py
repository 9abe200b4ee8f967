"""Fields: F and every derivative against references written here: mpmath for equations, closed forms for networks."""

from __future__ import annotations

import ast
import copy
import math
import pickle

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import erf

import ctrnn
from ctrnn.errors import ExpressionError, UnknownNameError, UsageError
from ctrnn.fields.expressions import FUNCTIONS
from ctrnn.fields.networks.activations import ACTIVATIONS

# --- equations: mpmath, from the same text by Python's own arithmetic


def _step(z):
    return mpmath.mpf(z >= 0)


REFERENCE = {
    **{
        k: getattr(mpmath, k)
        for k in [
            "exp",
            "log",
            "log10",
            "sqrt",
            "sin",
            "cos",
            "tan",
            "asin",
            "acos",
            "atan",
            "sinh",
            "cosh",
            "tanh",
            "erf",
            "sign",
        ]
    },
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "softplus": lambda z: mpmath.log(1 + mpmath.exp(z)),
    "relu": lambda z: max(z, mpmath.mpf(0)),
    "abs": abs,
    "heaviside": _step,
    "step": _step,
    "min": min,
    "max": max,
    "where": lambda condition, yes, no: yes if condition else no,
    "mpf": mpmath.mpf,
}


class _Exact(ast.NodeTransformer):
    """Numbers as mpf, so that 1/3 is no float."""

    def visit_Constant(self, node):
        return ast.Call(ast.Name("mpf", ast.Load()), [node], [])


def reference(text: str, names: list[str]):
    """The formula as a function of mpf arguments, by Python's arithmetic and not by the code under test."""
    tree = ast.fix_missing_locations(_Exact().visit(ast.parse(text, mode="eval")))
    code = compile(tree, "formula", "eval")
    constants = {"pi": mpmath.pi, "e": mpmath.e}
    return lambda *values: code and eval(code, REFERENCE | constants | dict(zip(names, values, strict=True)))


def reference_derivatives(field: ctrnn.Equations, t: float, r, x):
    """F (n,), J (n, n), F_w (n, m) in 40 digits; derivatives by differences of mpmath's."""
    names = [*field.state_names, *field.parameter_names, *field.input_names, "t"]
    with mpmath.workdps(40):
        point = [mpmath.mpf(float(v)) for v in (*r, *field.vector, *x, t)]
        n, m = field.n, field.m
        F, D = np.empty(n), np.empty((n, n + m))
        for i, text in enumerate(field.equations.values()):
            f = reference(text, names)
            F[i] = f(*point)
            used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
            for k in range(n + m):
                along = lambda v, k=k, f=f: f(*point[:k], v, *point[k + 1 :])  # noqa: E731
                D[i, k] = mpmath.diff(along, point[k]) if names[k] in used else 0.0
    return F, D[:, :n], D[:, n:]


SMOOTH = {
    "u": "-a*u + b*tanh(v*c) + exp(-u**2)*sin(2*t) + x1/(1 + u**2)",
    "v": "log(1 + u**2 + a**2) - log10(2 + v**2)/3 + sqrt(1 + u**2 + b**2)*cos(u*v)",
    "w": "tan(w/3) + asin(u/3) - acos(v/4*cos(c)) + atan(u - w)**3",
    "z": "sinh(u*v/3) - cosh(a*w) + erf(c*z)*sigmoid(b*u) + softplus(-z*a)",
    "s": "(1 + u**2)**a - 2**v + e**(-b) + x2*pi*s - 7/3 + 0.1",
}
CORNERS = {
    "u": "relu(u - a*v) + abs(v*b)*u + sign(u + v)*b**2",
    "v": "heaviside(u - 0.5)*u*a + step(v + b)*v**2 + min(u, v, b*u*v)",
    "w": "max(u**2, v) * where(u < v and v <= 1 or u > 1.5, u*b, a*v**3) + x1*t",
    "z": "(u if u > v else v)/(2 + u**2) + (z**2)**0.5 + (z**2)**1.5",
}
PARAMETERS = {"a": 0.7, "b": -1.3, "c": 0.45}


@pytest.fixture(scope="module")
def smooth() -> ctrnn.Equations:
    return ctrnn.Equations(SMOOTH, parameters=PARAMETERS, inputs=("x1", "x2"))


@pytest.fixture(scope="module")
def corners() -> ctrnn.Equations:
    return ctrnn.Equations(CORNERS, parameters={"a": 0.7, "b": -1.3}, inputs=["x1"])


values = st.floats(-2.0, 2.0, allow_subnormal=False)


def vectors(n: int):
    return st.lists(values, min_size=n, max_size=n).map(np.array)


def all_close(got, want, digits=1e-12):
    assert_allclose(got, want, rtol=digits, atol=digits)


def test_every_function_of_formulas_is_covered():
    trees = [ast.parse(text) for text in [*SMOOTH.values(), *CORNERS.values()]]
    called = {node.func.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert called == set(FUNCTIONS)


def check_against_mpmath(field, t, r, w, x, K):
    field = field.with_vector(w)
    F, J, Fw = reference_derivatives(field, t, r, x)
    all_close(field(t, r, x), F)
    all_close(field.jacobian(t, r, x), J)
    all_close(field.parameter_jacobian(t, r, x), Fw)
    all_close(field.vjp(t, r, K, x), K @ J)
    all_close(field.parameter_vjp(t, r, K, x), K @ Fw)
    all_close(field.vjp(t, r, K[0], x), K[0] @ J)
    all_close(field.parameter_vjp(t, r, K[0], x), K[0] @ Fw)


@given(t=values, r=vectors(5), w=vectors(3), x=vectors(2), K=vectors(15))
def test_smooth_equations_agree_with_mpmath_to_1e_12(smooth, t, r, w, x, K):
    check_against_mpmath(smooth, t, r, w, x, K.reshape(3, 5))


@given(seed=st.integers(0, 2**32 - 1))
def test_equations_with_corners_agree_with_mpmath_to_1e_12(corners, seed):
    # random numbers: those that hypothesis likes, 0 and equal ones, are the corners
    t, r, w, x, K = np.split(np.random.default_rng(seed).uniform(-2, 2, 16), [1, 5, 7, 8])
    (u, v, ww, z), (a, b) = r, w
    gaps = [
        u,
        v,
        ww,
        z,
        u - a * v,
        v * b,
        u + v,
        u - 0.5,
        v + b,
        u - v,
        u - b * u * v,
        v - b * u * v,
        u**2 - v,
        v - 1,
        u - 1.5,
    ]
    assume(min(map(abs, gaps)) > 1e-6)  # on a corner there is no derivative to compare with
    check_against_mpmath(corners, t[0], r, w, x, K.reshape(2, 4))


@pytest.mark.parametrize("name", ["smooth", "corners"])
def test_torch_function_of_equations_agrees_with_the_compiled_one(request, name):
    field = request.getfixturevalue(name)
    rng = np.random.default_rng(3)
    r, x = rng.normal(size=(2, 3, field.n)), rng.normal(size=(2, 3, field.input_size))
    w = {k: torch.tensor(v) for k, v in field.parameters.items()}
    f = field.torch_function()
    got = f(0.3, torch.tensor(r), w, torch.tensor(x))
    assert got.shape == (2, 3, field.n) and got.dtype == torch.float64
    for i in np.ndindex(2, 3):
        all_close(got[i], field(0.3, r[i], x[i]), 1e-13)
        all_close(f(0.3, torch.tensor(r[i]), w, torch.tensor(x[i])), field(0.3, r[i], x[i]), 1e-13)
        J, Fw = torch.func.jacrev(lambda r, w, i=i: f(0.3, r, w, torch.tensor(x[i])), argnums=(0, 1))(
            torch.tensor(r[i]), w
        )
        all_close(J, field.jacobian(0.3, r[i], x[i]), 1e-12)
        all_close(torch.stack([Fw[k] for k in field.parameter_names], -1), field.parameter_jacobian(0.3, r[i], x[i]))


def test_numbers_keep_all_their_digits_and_never_wrap_around():
    field = ctrnn.Equations(
        {
            "u": "0.12345678901234567*u",
            "v": "u*10**30 + v/3",
            "w": "where(u > 0, 10**18, 0)*where(w > 0, 10**18, 0)",  # beyond int64
            "z": "where(u > 0, 2, 3)**(-2) + where(z > 0, 1, where(z <= 0, 2, 3))",
        }
    )
    got = field(0.0, [1.0, 1.0, 1.0, -1.0])
    assert got[0] == 0.12345678901234567
    assert_array_equal(got[1:], [1e30 + 1 / 3, 1e36, 2.25])
    everything = torch.ones(4, dtype=torch.float64) * torch.tensor([1.0, 1.0, 1.0, -1.0])
    assert_array_equal(field.torch_function()(0.0, everything, {}, None), got)


def test_corners_take_the_documented_side_in_numba_and_in_torch():
    """relu' = abs' = 0 at 0, the last of tied arguments counts, heaviside is 1 at 0."""
    field = ctrnn.Equations({"u": "relu(u)", "v": "abs(v)", "w": "max(u, 2*v)", "z": "heaviside(z)"})
    r = np.zeros(4)
    J = np.zeros((4, 4))
    J[2, 1] = 2.0
    assert_array_equal(field(0.0, r), [0.0, 0.0, 0.0, 1.0])
    assert_array_equal(field.jacobian(0.0, r), J)
    f = field.torch_function()
    assert_array_equal(torch.func.jacrev(lambda r: f(0.0, r, {}, None))(torch.tensor(r)), J)


def test_a_power_with_a_variable_exponent_has_its_derivatives_at_zero():
    """Hill's function starts at 0: n x^(n−1) and x^n log x have limits there, 0·∞ has not."""
    hill = ctrnn.Equations({"u": "u**n/(K**n + u**n)", "v": "u**k + v**pi"}, parameters={"n": 2.5, "K": 0.5, "k": 1.0})
    assert_array_equal(hill(0.0, [0.0, 0.0]), [0.0, 0.0])
    assert_array_equal(hill.jacobian(0.0, [0.0, 0.0]), [[0.0, 0.0], [1.0, 0.0]])
    assert_array_equal(hill.parameter_jacobian(0.0, [0.0, 0.0]), np.zeros((2, 3)))
    F, J, Fw = reference_derivatives(hill, 0.0, [0.3, 1.7], [])
    all_close(hill(0.0, [0.3, 1.7]), F, 1e-14)
    all_close(hill.jacobian(0.0, [0.3, 1.7]), J)
    all_close(hill.parameter_jacobian(0.0, [0.3, 1.7]), Fw)
    even = ctrnn.Equations({"u": "(u**2)**a"}, parameters={"a": 0.7})
    for u in (-1.3, 0.8):
        F, J, Fw = reference_derivatives(even, 0.0, [u], [])
        all_close(
            np.hstack([even(0.0, [u])[:, None], even.jacobian(0.0, [u]), even.parameter_jacobian(0.0, [u])]),
            np.hstack([F[:, None], J, Fw]),
        )
    assert_array_equal(even.parameter_jacobian(0.0, [0.0]), [[0.0]])


def test_huge_arguments_overflow_nowhere():
    texts = {"u": "sigmoid(u)", "v": "softplus(v)", "w": "tanh(w)", "z": "erf(z)", "y": "exp(-y**2) + atan(y)"}
    field = ctrnn.Equations(texts)
    for size in (1e3, 1e150, 1e300):
        assert_allclose(field(0.0, np.full(5, size)), [1.0, size, 1.0, 1.0, math.atan(size)], rtol=1e-15)
        assert_allclose(field(0.0, np.full(5, -size)), [0.0, 0.0, -1.0, -1.0, -math.atan(size)], rtol=1e-15)
        slope = (1 / size) ** 2 / (1 + (1 / size) ** 2)
        assert_allclose(
            field.jacobian(0.0, np.full(5, size)), np.diag([0.0, 1.0, 0.0, 0.0, slope]), rtol=1e-15, atol=1e-20
        )
        assert_allclose(
            field.jacobian(0.0, np.full(5, -size)), np.diag([0.0, 0.0, 0.0, 0.0, slope]), rtol=1e-15, atol=1e-20
        )


def test_equations_without_parameters_and_states_that_are_constant_or_unused():
    field = ctrnn.Equations({"u": "3", "v": "t**2", "w": "0"})
    assert field.m == 0 and field.vector.shape == (0,) and field.labels == [] and field.unflatten(np.empty(0)) == {}
    assert_array_equal(field(2.0, [1.0, 1.0, 1.0]), [3.0, 4.0, 0.0])
    assert_array_equal(field.jacobian(2.0, np.ones(3)), np.zeros((3, 3)))
    assert_array_equal(field.vjp(2.0, np.ones(3), np.ones((2, 3))), np.zeros((2, 3)))
    assert field.parameter_jacobian(2.0, np.ones(3)).shape == (3, 0)
    f = field.torch_function()
    for t in (2.0, np.float64(2.0), torch.tensor(2.0, dtype=torch.float64)):
        assert_array_equal(f(t, torch.ones(5, 3, dtype=torch.float64), {}, None), np.tile([3.0, 4.0, 0.0], (5, 1)))


def test_a_condition_on_t_alone_takes_any_kind_of_number():
    field = ctrnn.Equations({"u": "where(t >= 1, u, -u)"})
    f = field.torch_function()
    for t, sign in ((0.5, -1.0), (1.0, 1.0)):
        assert field(t, [2.0])[0] == 2.0 * sign
        for kind in (float, np.float64, torch.tensor):
            assert f(kind(t), torch.tensor([2.0]), {}, None)[0] == 2.0 * sign


def test_names_that_generated_code_uses_itself_are_free_to_use():
    names = [
        "r",
        "w",
        "x",
        "out",
        "K",
        "J",
        "F",
        "G",
        "T",
        "S",
        "R",
        "q",
        "k",
        "s",
        "n",
        "math",
        "ctx_",
        "c_0",
        "c_1",
        "r_0",
        "F_0",
        "J_0_0",
        "self",
        "abs_",
        "lambda_",
        "numba",
        "doubles",
        "float",
    ]
    equations = {"r": " + ".join(f"{v}*{i + 1}" for i, v in enumerate(names)), "w": "r*w*c_0"}
    field = ctrnn.Equations(equations, parameters={k: 0.5 + i for i, k in enumerate(names[4:])}, inputs=("x", "out"))
    F, J, Fw = reference_derivatives(field, 0.0, [0.3, -2.0], [0.7, 0.9])
    for twin in (field, field.with_vector(field.vector)):
        all_close(twin(0.0, [0.3, -2.0], [0.7, 0.9]), F)
        all_close(twin.jacobian(0.0, [0.3, -2.0], [0.7, 0.9]), J)
        all_close(twin.parameter_jacobian(0.0, [0.3, -2.0], [0.7, 0.9]), Fw)
    assert field.with_parameters(self=3.0).parameters["self"] == 3.0


def test_sixty_states():
    n = 60
    ring = ctrnn.Equations({f"x{i}": f"a*x{(i + 1) % n} - x{i}" for i in range(n)}, parameters={"a": 2.0})
    r = np.arange(n, dtype=float)
    J = 2.0 * np.roll(np.eye(n), 1, axis=1) - np.eye(n)
    assert_array_equal(ring(0.0, r), J @ r)
    assert_array_equal(ring.jacobian(0.0, r), J)
    assert_array_equal(ring.vjp(0.0, r, np.eye(n)), J)
    assert_array_equal(ring.parameter_jacobian(0.0, r)[:, 0], np.roll(r, -1))


# --- what all fields share


@pytest.fixture(scope="module")
def network() -> ctrnn.RateNetwork:
    return ctrnn.RateNetwork(3, inputs=2, seed=1, train_tau=True)


@pytest.fixture(scope="module")
def torch_field() -> ctrnn.TorchField:
    return ctrnn.TorchField(_decay, n=2, parameters={"k": [1.0, 2.0], "c": 0.5}, inputs=1)


def _decay(t, r, w, x):
    return -w["k"] * torch.sin(r) * torch.flip(r, [-1]) + w["c"] * x[..., :1] * t


@pytest.mark.parametrize("name", ["smooth", "network", "torch_field"])
def test_parameters_flatten_and_come_back(request, name):
    field = request.getfixturevalue(name)
    r, x = np.linspace(-1, 1, field.n), np.linspace(0.5, 1, field.input_size)
    before = field(0.4, r, x)
    vector = field.vector
    assert vector.shape == (field.m,) == (len(field.labels),)
    changed = field.with_vector(vector * 1.1)
    assert_array_equal(changed.vector, vector * 1.1)
    assert_array_equal(field.vector, vector)
    assert np.abs(changed(0.4, r, x) - before).max() > 1e-3  # not the numbers that were bound before
    assert_array_equal(field(0.4, r, x), before)
    assert_array_equal(changed.with_parameters(**field.parameters)(0.4, r, x), before)
    assert_array_equal(changed.with_parameters(field.parameters)(0.4, r, x), before)
    many = field.unflatten(np.arange(4.0 * field.m).reshape(2, 2, field.m))
    assert all(many[k].shape == (2, 2, *v.shape) for k, v in field.parameters.items())
    assert_array_equal(
        np.concatenate([v.reshape(2, 2, -1) for v in many.values()], -1).ravel(), np.arange(4.0 * field.m)
    )
    low, high = field.bounds
    assert (low <= vector).all() and (vector <= high).all()


def test_labels_name_each_entry():
    field = ctrnn.RateNetwork(2, inputs=1, train_tau=True)
    assert field.labels == ["W[0,0]", "W[0,1]", "W[1,0]", "W[1,1]", "U[0,0]", "U[1,0]", "b[0]", "b[1]", "tau"]


@pytest.mark.parametrize("name", ["smooth", "network", "torch_field"])
@pytest.mark.parametrize("twin_of", [copy.copy, copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))])
def test_copies_and_pickles_compute_the_same(request, name, twin_of):
    field = request.getfixturevalue(name)
    r, x = np.linspace(-1, 1, field.n), np.linspace(0.5, 1, field.input_size)
    before = field(0.4, r, x), field.jacobian(0.4, r, x), field.parameter_jacobian(0.4, r, x)
    twin = twin_of(field)
    for a, b in zip(
        before, (twin(0.4, r, x), twin.jacobian(0.4, r, x), twin.parameter_jacobian(0.4, r, x)), strict=True
    ):
        assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["smooth", "network", "torch_field"])
def test_no_rows_give_no_rows(request, name):
    field = request.getfixturevalue(name)
    r, x = np.zeros(field.n), np.zeros(field.input_size)
    assert field.vjp(0.0, r, np.empty((0, field.n)), x).shape == (0, field.n)
    assert field.parameter_vjp(0.0, r, np.empty((0, field.n)), x).shape == (0, field.m)


@pytest.mark.parametrize("name", ["smooth", "network", "torch_field"])
def test_wrong_points_are_refused_by_name(request, name):
    field = request.getfixturevalue(name)
    n, nx = field.n, field.input_size
    r, x = np.zeros(n), np.zeros(nx)
    for argument, call in {
        "r": lambda: field(0.0, np.zeros(n + 1), x),
        "x": lambda: field(0.0, r, np.zeros(nx + 1)),
        "t": lambda: field(math.nan, r, x),
        "K": lambda: field.vjp(0.0, r, np.zeros((2, n + 1)), x),
        " K": lambda: field.parameter_vjp(0.0, r, np.zeros((2, 1, n)), x),
        "  K": lambda: field.parameter_vjp(0.0, r, np.full(n, math.inf), x),
        "vector": lambda: field.with_vector(np.zeros(field.m + 1)),
    }.items():
        with pytest.raises(UsageError, match=f"^{argument.strip()}: got .*; allowed: "):
            call()
    for bad in (math.nan, math.inf):
        with pytest.raises(UsageError, match=r"^r: .*finite numbers.*entry \(0,\)"):
            field(0.0, np.where(np.arange(n) == 0, bad, 0.0), x)
        with pytest.raises(UsageError, match="^parameter .*finite numbers"):
            field.with_vector(np.full(field.m, bad))
    first, value = next(iter(field.parameters.items()))
    with pytest.raises(UnknownNameError, match=f"^parameter: got '{first}_'; allowed: .*{first}"):
        field.with_parameters(**{f"{first}_": 1.0})
    with pytest.raises(UsageError, match=f"^parameter '{first}': got 'shape"):
        field.with_parameters(**{first: np.zeros((*value.shape, 2))})
    with pytest.raises(UsageError, match=f"^parameter '{first}': .*real numbers"):
        field.with_parameters(**{first: "many"})


def test_only_networks_may_leave_the_input_out(smooth, network, torch_field):
    assert_array_equal(network(0.0, np.ones(3)), network(0.0, np.ones(3), np.zeros(2)))
    for field in (smooth, torch_field):
        with pytest.raises(UsageError, match="^x: got None; allowed: .*x"):
            field(0.0, np.zeros(field.n))
    with pytest.raises(UsageError, match="^x: got None"):
        torch_field.torch_function()(0.0, torch.zeros(2), {})


# --- equations: what is refused


@pytest.mark.parametrize(
    ("equations", "parameters", "inputs", "message"),
    [
        ({"u": "-k*u"}, {}, (), "du/dt: unknown name 'k' at column 2; allowed: u, t, pi, e"),
        ({"u": "-a*u", "v": "u +"}, {"a": 1.0}, (), "dv/dt: .* at column"),
        ({"u": "u"}, {"u": 1.0}, (), "names: got 'u'; allowed: one meaning each"),
        ({"u": "u"}, {"a": 1.0}, ("a",), "names: got 'a'; allowed: one meaning each"),
        ({"u": "u"}, {}, ("a", "a"), "inputs: got 'a'; allowed: each name once"),
        ({"u": "u"}, {}, 3, "inputs: got 3; allowed: a list of names"),
        ({"t": "1"}, {}, (), "names: got 't'; .*t is time"),
        ({"lambda": "1"}, {}, (), "state name: got 'lambda'; .*Python word.*lambda_"),
        ({"u": "u"}, {"tanh": 1.0}, (), "parameter name: got 'tanh'; .*function"),
        ({"u": "u"}, {}, ("2x",), "inputs: got '2x'; allowed: names of letters"),
        ({"u v": "u"}, {}, (), "states: got 'u v'"),
        ({}, {}, (), "equations: got .*at least one state"),
        ("-u", {}, (), "equations: got '-u'; allowed: a table"),
        ({"u": "u"}, [1.0], (), "parameters: .*a table"),
        ({"u": "a*u"}, {"a": math.nan}, (), "parameter 'a': .*finite"),
        ({"u": "a*u"}, {"a": [1.0, 2.0]}, (), r"du/dt: got 'shape \(2,\)'; allowed: a scalar, as u is"),
        ({"u": "a*u"}, {"a": "x"}, (), "parameter 'a': got 'x'; allowed: real numbers"),
        ({"u": "a*u"}, {"a": 1j}, (), "parameter 'a': got 1j; allowed: real numbers"),
        ({"u": '"""\nimport os'}, {}, (), "du/dt: .* has no place in a formula at column 1"),
        ({"u": "1\ndv/dt = 2"}, {}, (), "du/dt: '=' has no place"),
    ],
)
def test_wrong_equations_are_refused_by_name(equations, parameters, inputs, message):
    with pytest.raises(UsageError, match=f"(?s)^{message}"):
        ctrnn.Equations(equations, parameters=parameters, inputs=inputs)


def test_two_equations_in_one_text_are_refused_even_when_the_system_of_both_is_known():
    ctrnn.Equations({"u": "1", "v": "2"})
    with pytest.raises(ExpressionError, match="'=' has no place"):
        ctrnn.Equations({"u": "1\ndv/dt = 2"})


# --- rate networks: closed forms

PHI = {
    "tanh": (np.tanh, lambda z: 1 / np.cosh(np.clip(z, -300, 300)) ** 2),
    "relu": (lambda z: np.maximum(z, 0.0), lambda z: (z > 0) * 1.0),
    "softplus": (lambda z: np.logaddexp(z, 0.0), lambda z: np.exp(-np.logaddexp(-z, 0.0))),
    "sigmoid": (
        lambda z: np.exp(-np.logaddexp(-z, 0.0)),
        lambda z: np.exp(-np.logaddexp(-z, 0.0) - np.logaddexp(z, 0.0)),
    ),
    "linear": (lambda z: z, np.ones_like),
    "erf": (lambda z: erf(np.sqrt(np.pi) / 2 * z), lambda z: np.exp(-np.pi / 4 * z**2)),
}
TORCH_PHI = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softplus": lambda z: torch.logaddexp(z, torch.zeros_like(z)),
    "sigmoid": torch.sigmoid,
    "linear": lambda z: z,
    "erf": lambda z: torch.special.erf(z * (math.pi**0.5 / 2)),
}
TAUS = {
    "one": {"tau": 0.7},
    "per unit": {"tau": [0.5, 2.0, 1.5, 0.3]},
    "one, trained": {"tau": 0.7, "train_tau": True},
    "per unit, trained": {"tau": [0.5, 2.0, 1.5, 0.3], "train_tau": True},
}
forms = pytest.mark.parametrize("form", ["state", "rate"])
activations = pytest.mark.parametrize("activation", list(PHI))


def closed_form(field, r, x, tau):
    """F, J and F_w of a rate network, from its definition."""
    phi, dphi = PHI[field.activation]
    W, U, b = (field.parameters[k] for k in "WUb")
    n, tau_ = field.n, np.broadcast_to(tau, (field.n,))
    if field.form == "state":
        source, F = phi(r), (-r + W @ phi(r) + U @ x + b) / tau_
        gain, J = np.ones(n), (-np.eye(n) + W * dphi(r)) / tau_[:, None]
    else:
        u = W @ r + U @ x + b
        source, F = r, (-r + phi(u)) / tau_
        gain, J = dphi(u), (-np.eye(n) + dphi(u)[:, None] * W) / tau_[:, None]
    c = gain / tau_
    blocks = [np.kron(np.diag(c), source), np.kron(np.diag(c), x).reshape(n, -1), np.diag(c)]
    if field.train_tau:
        blocks.append(np.diag(-F / tau_) if np.ndim(tau) else (-F / tau_)[:, None])
    return F, J, np.concatenate(blocks, axis=1)


def torch_rate(field, r, w, x, tau):
    phi, tau = TORCH_PHI[field.activation], w.get("tau", torch.as_tensor(tau, dtype=r.dtype))
    if field.form == "state":
        return (-r + phi(r) @ w["W"].T + x @ w["U"].T + w["b"]) / tau
    return (-r + phi(r @ w["W"].T + x @ w["U"].T + w["b"])) / tau


@forms
@activations
@pytest.mark.parametrize("tau", list(TAUS))
def test_rate_networks_equal_the_closed_form_and_torch(form, activation, tau):
    options = TAUS[tau]
    rng = np.random.default_rng(7)
    field = ctrnn.RateNetwork(4, inputs=2, activation=activation, form=form, gain=1.5, seed=2, **options)
    field = field.with_parameters(b=rng.normal(size=4))
    r, x, K = rng.normal(size=4) * 2, rng.normal(size=2), rng.normal(size=(3, 4))
    F, J, Fw = closed_form(field, r, x, np.array(options["tau"]))
    assert_array_equal(field.tau, options["tau"])
    assert Fw.shape == (4, field.m)
    all_close(field(0.0, r, x), F, 1e-14)
    all_close(field.jacobian(0.0, r, x), J, 1e-13)
    all_close(field.parameter_jacobian(0.0, r, x), Fw, 1e-13)
    for rows in (K, K[:1], K[0]):  # one row goes another way through the kernel than several
        all_close(field.vjp(0.0, r, rows, x), rows @ J, 1e-13)
        all_close(field.parameter_vjp(0.0, r, rows, x), rows @ Fw, 1e-13)

    w = {k: torch.tensor(v) for k, v in field.parameters.items()}
    J, Fw = torch.func.jacrev(lambda r, w: torch_rate(field, r, w, torch.tensor(x), options["tau"]), argnums=(0, 1))(
        torch.tensor(r), w
    )
    all_close(field.jacobian(0.0, r, x), J, 1e-13)
    all_close(
        field.parameter_jacobian(0.0, r, x), torch.cat([Fw[k].reshape(4, -1) for k in field.parameter_names], -1), 1e-13
    )

    f = field.torch_function()
    many, inputs = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 2))
    for xs in (inputs, inputs[0, 0], None):
        got = f(0.0, torch.tensor(many), w, None if xs is None else torch.tensor(xs))
        assert got.shape == (2, 3, 4)
        for i in np.ndindex(2, 3):
            one = None if xs is None else (xs[i] if xs.ndim == 3 else xs)
            all_close(got[i], field(0.0, many[i], one), 1e-13)
    single = {k: v.float() for k, v in w.items()}
    assert f(0.0, torch.tensor(many).float(), single, torch.tensor(inputs).float()).dtype == torch.float32


@forms
@activations
def test_rate_networks_at_huge_arguments(form, activation):
    """|z| from 1e3 to 1e150: the limits of φ and φ′, and no NaN."""
    W, b = [[1.25, 0.5], [-0.5, 1.25]], [0.1, -0.1]
    field = ctrnn.RateNetwork(2, inputs=0, activation=activation, form=form, train_tau=True).with_parameters(W=W, b=b)
    w = {k: torch.tensor(v) for k, v in field.parameters.items()}
    for r in ([1e3, -1e3], [-1e3, 1e3], [1e3, 1e150], [-1e150, -1e3]):
        r = np.array(r)
        F, J, Fw = closed_form(field, r, np.empty(0), np.array(1.0))
        assert np.isfinite(F).all() and np.isfinite(J).all()
        for got, want in ((field(0.0, r), F), (field.jacobian(0.0, r), J), (field.parameter_jacobian(0.0, r), Fw)):
            assert_allclose(got, want, rtol=1e-13, atol=1e-13)
        got = torch.func.jacrev(lambda r: field.torch_function()(0.0, r, w, None))(torch.tensor(r))
        assert_allclose(got, J, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("activation", "slope"),
    [("tanh", 1.0), ("relu", 0.0), ("softplus", 0.5), ("sigmoid", 0.25), ("linear", 1.0), ("erf", 1.0)],
)
@forms
def test_slopes_at_exactly_zero(activation, slope, form):
    """φ′(0): 1 for erf as for tanh, and 0 for relu, as torch says; one unit, no inputs."""
    field = ctrnn.RateNetwork(1, activation=activation, form=form).with_parameters(W=[[3.0]])
    w = {k: torch.tensor(v) for k, v in field.parameters.items()}
    torch_J = torch.func.jacrev(lambda r: field.torch_function()(0.0, r, w))(torch.zeros(1, dtype=torch.float64))
    for J in (field.jacobian(0.0, [0.0]), torch_J):
        assert_allclose(J, [[3.0 * slope - 1.0]], rtol=0, atol=1e-15)
    assert field.m == 2 and field.parameters["U"].shape == (1, 0)


def test_activations_are_those_that_are_tested():
    assert set(ACTIVATIONS) == set(PHI)


# --- masks and Dale's principle


@pytest.fixture(scope="module")
def sparse() -> ctrnn.RateNetwork:
    mask = np.random.default_rng(4).random((6, 6)) < 0.4
    return ctrnn.RateNetwork(6, inputs=1, seed=5, mask=mask, dale=[1, 1, 1, 1, -1, -1])


@forms
def test_weights_outside_the_mask_are_zero_and_have_no_gradient(sparse, form):
    mask = sparse.mask
    field = ctrnn.RateNetwork(6, inputs=1, seed=5, mask=mask, form=form)
    rng = np.random.default_rng(0)
    r, x = rng.normal(size=6), rng.normal(size=1)
    W = field.parameters["W"]
    assert_array_equal(W != 0, mask)
    J = field.jacobian(0.0, r, x)
    assert_array_equal(J[~mask & ~np.eye(6, dtype=bool)], 0.0)
    _, _, Fw = closed_form(field, r, x, np.array(1.0))
    Fw[:, :36] *= mask.ravel()
    all_close(field.parameter_jacobian(0.0, r, x), Fw, 1e-13)
    w = {k: torch.tensor(v) for k, v in field.parameters.items()}
    rows = torch.func.jacrev(lambda w: field.torch_function()(0.0, torch.tensor(r), w, torch.tensor(x)))(w)
    all_close(rows["W"].reshape(6, 36), Fw[:, :36], 1e-13)
    with pytest.raises(UsageError, match=r"^parameter 'W': .*0 outside the mask.*field.masks\['W'\]"):
        field.with_parameters(W=W + 1.0)
    assert_array_equal(field.with_parameters(W=2 * W).parameters["W"], 2 * W)


def test_columns_have_their_sign(sparse):
    W = sparse.parameters["W"]
    assert (W[:, :4] >= 0).all() and (W[:, 4:] <= 0).all() and (W[:, :4] > 0).any() and (W[:, 4:] < 0).any()
    wrong = W.copy()
    wrong[np.flatnonzero(sparse.mask[:, 4])[0], 4] = 0.1
    with pytest.raises(UsageError, match=r"^parameter 'W': .*column 4 not positive \(dale\).*field.project"):
        sparse.with_parameters(W=wrong)
    with pytest.raises(UsageError, match="column 0 not negative"):
        sparse.with_parameters(W=-W)


@given(W=vectors(36), other=vectors(36))
def test_project_gives_the_nearest_allowed_weights(sparse, W, other):
    W, other = W.reshape(6, 6), other.reshape(6, 6)
    nearest = sparse.project(W)
    assert_array_equal(sparse.with_parameters(W=nearest).parameters["W"], nearest)
    assert_array_equal(sparse.project(nearest), nearest)
    low, high = (bound[:36].reshape(6, 6) for bound in sparse.bounds)
    assert_array_equal(np.clip(W, low, high), nearest)
    assert np.linalg.norm(W - nearest) <= np.linalg.norm(W - sparse.project(other)) + 1e-15


def test_bounds_of_a_trained_tau_are_positive():
    field = ctrnn.RateNetwork(3, tau=[1.0, 2.0, 3.0], train_tau=True)
    low, high = field.bounds
    assert_array_equal(np.isfinite(low), np.arange(field.m) >= field.m - 3)
    assert (low[-3:] > 0).all() and np.isinf(high).all()
    changed = field.with_parameters(tau=[0.5, 0.5, 4.0])
    assert_array_equal(changed.tau, [0.5, 0.5, 4.0])
    assert_array_equal(field.tau, [1.0, 2.0, 3.0])


def test_seeds_reproduce_and_differ():
    a, b, c = (ctrnn.RateNetwork(5, inputs=2, seed=s) for s in (3, 3, 4))
    assert_array_equal(a.vector, b.vector)
    assert (a.parameters["W"] != c.parameters["W"]).all() and (a.parameters["U"] != c.parameters["U"]).all()
    assert (ctrnn.RateNetwork(5).parameters["W"] != ctrnn.RateNetwork(5).parameters["W"]).all()


@pytest.mark.parametrize("options", [{}, {"mask": "tenth"}, {"dale": "half"}])
def test_gain_sets_the_size_of_the_weights(options):
    """Root mean square gain/√(inputs a unit), and without Dale's signs a disc of eigenvalues of radius gain."""
    n, gain = 400, 1.7
    if "mask" in options:
        options = {"mask": np.random.default_rng(1).random((n, n)) < 0.1}
    if "dale" in options:
        options = {"dale": np.repeat([1, -1], n // 2)}
    field = ctrnn.RateNetwork(n, inputs=50, gain=gain, seed=0, **options)
    W, U = field.parameters["W"], field.parameters["U"]
    entries = W[W != 0]
    fan_in = entries.size / n
    # the root of a mean of N squares of normals spreads by 1/√(2N); 4 of that
    assert math.sqrt((entries**2).mean() * fan_in) == pytest.approx(gain, rel=4 / math.sqrt(2 * entries.size))
    assert math.sqrt((U**2).mean() * 50) == pytest.approx(1.0, rel=4 / math.sqrt(2 * U.size))
    if "dale" not in options:
        assert abs(entries.mean()) < 4 * entries.std() / math.sqrt(entries.size)
        assert np.abs(np.linalg.eigvals(W)).max() == pytest.approx(gain, rel=0.1)
    assert not field.parameters["b"].any()


def test_a_gain_of_zero_is_no_coupling():
    assert not ctrnn.RateNetwork(3, gain=0).parameters["W"].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n: got 0; allowed: .*1 or more"),
        ({"n": 2.5}, "n: got 2.5"),
        ({"inputs": -1}, "inputs: got -1"),
        (
            {"activation": "tan"},
            "activation: got 'tan'; allowed: tanh, relu, softplus, sigmoid, linear, erf. Try: did you mean 'tanh'",
        ),
        ({"form": "States"}, "form: got 'States'; allowed: state, rate"),
        ({"tau": 0.0}, "tau: .*a positive number, or 3 of them"),
        ({"tau": [1.0, 1.0]}, "tau: .*a positive number, or 3 of them"),
        ({"tau": [1.0, -1.0, 1.0]}, "tau: .*positive"),
        ({"tau": math.nan}, "tau: .*finite"),
        ({"gain": math.inf}, "gain: .*finite"),
        ({"gain": -1.0}, "gain: got -1.0; allowed: a number, at least 0"),
        ({"gain": "big"}, "gain: got 'big'; allowed: real"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": "a"}, "seed: got 'a'"),
        ({"mask": np.ones((3, 2))}, r"mask: .*\(3, 3\) of 0 and 1"),
        ({"mask": np.full((3, 3), 0.5)}, "mask: .*of 0 and 1"),
        ({"dale": [1, -1]}, "dale: .*3 signs"),
        ({"dale": [1, 0, -1]}, "dale: .*3 signs"),
    ],
)
def test_wrong_networks_are_refused_by_name(options, message):
    with pytest.raises(UsageError, match=f"(?s)^{message}"):
        ctrnn.RateNetwork(**({"n": 3} | options))


def test_a_trained_tau_stays_positive_and_keeps_its_shape():
    field = ctrnn.RateNetwork(3, train_tau=True)
    with pytest.raises(UsageError, match="^parameter 'tau': .*positive"):
        field.with_parameters(tau=-1.0)
    with pytest.raises(UsageError, match=r"^parameter 'tau': got 'shape \(3,\)'; allowed: shape \(\)"):
        field.with_parameters(tau=[1.0, 1.0, 1.0])
    with pytest.raises(UnknownNameError, match="^parameter: got 'tau'; allowed: W, U, b"):
        ctrnn.RateNetwork(3).with_parameters(tau=2.0)


# --- torch callables


class _Perceptron(torch.nn.Module):
    def __init__(self, inputs: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = torch.nn.Linear(2 + inputs, 4)
        self.out = torch.nn.Linear(4, 2)

    def forward(self, t, r, x=None):
        r = r if x is None else torch.cat([r, x], -1)
        return self.out(torch.tanh(self.hidden(r))) * torch.cos(t)


@pytest.mark.parametrize("inputs", [0, 2])
def test_a_module_is_a_field_in_its_named_parameters(inputs):
    module = _Perceptron(inputs)
    field = ctrnn.TorchField(module, n=2, inputs=inputs)
    assert field.parameter_names == ("hidden.weight", "hidden.bias", "out.weight", "out.bias")
    assert field.labels[0] == "hidden.weight[0,0]" and field.m == 4 * (2 + inputs) + 4 + 8 + 2
    A, a, B, b = field.parameters.values()
    t, r, x, K = (
        0.7,
        np.array([0.3, -1.2]),
        np.array([0.5, 2.0])[:inputs],
        np.array([[1.0, 2.0], [-0.5, 0.3], [0.0, 1.0]]),
    )
    s = np.concatenate([r, x])
    h = np.tanh(A @ s + a)
    dh, scale = 1 - h**2, math.cos(t)
    J = scale * (B * dh) @ A[:, :2]
    Fw = scale * np.concatenate([np.kron(B * dh, s), B * dh, np.kron(np.eye(2), h), np.eye(2)], axis=1)
    all_close(field(t, r, x), scale * (B @ h + b), 1e-14)
    all_close(field.jacobian(t, r, x), J, 1e-13)
    all_close(field.parameter_jacobian(t, r, x), Fw, 1e-13)
    all_close(field.vjp(t, r, K, x), K @ J, 1e-13)
    all_close(field.parameter_vjp(t, r, K[0], x), K[0] @ Fw, 1e-13)

    before = field(t, r, x)
    with torch.no_grad():
        module.out.bias += 1.0  # the field has its own copy
    assert_array_equal(field(t, r, x), before)
    assert module.out.bias.dtype == torch.float32 and module.out.bias.grad is None
    assert_allclose(field.with_parameters(**{"out.bias": b + 1.0})(t, r, x), before + scale, rtol=1e-14)


@given(r=vectors(2), x=vectors(1), t=values, K=vectors(4))
def test_a_callable_agrees_with_the_same_mathematics_as_equations(torch_field, r, x, t, K):
    same = ctrnn.Equations(
        {"u": "-k0*sin(u)*v + c*x*t", "v": "-k1*sin(v)*u + c*x*t"}, {"k0": 1.0, "k1": 2.0, "c": 0.5}, inputs=["x"]
    )
    K = K.reshape(2, 2)
    all_close(torch_field(t, r, x), same(t, r, x), 1e-14)
    all_close(torch_field.jacobian(t, r, x), same.jacobian(t, r, x), 1e-14)
    all_close(torch_field.parameter_jacobian(t, r, x), same.parameter_jacobian(t, r, x), 1e-14)
    all_close(torch_field.vjp(t, r, K, x), same.vjp(t, r, K, x), 1e-14)
    all_close(torch_field.parameter_vjp(t, r, K, x), same.parameter_vjp(t, r, K, x), 1e-14)


def test_a_parameter_of_a_module_that_is_one_number_stays_one():
    """Stacked states: a parameter of shape (1,) in the place of () would give F the shape (1, 2)."""

    class Turning(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Parameter(torch.tensor(-0.5, dtype=torch.float64))

        def forward(self, t, r):
            return torch.stack([self.a * r[0] - r[1], r[0] + self.a * r[1]])

    field = ctrnn.TorchField(Turning(), 2)
    assert_allclose(field(0.0, np.array([1.0, 2.0])), [-2.5, 0.0])
    assert_allclose(field.with_parameters(a=1.0).jacobian(0.0, np.zeros(2)), [[1.0, -1.0], [1.0, 1.0]])


def test_torch_function_of_a_callable_takes_batches():
    def coupled(t, r, w, x):  # written for one state: @ and [0] would mean something else on a batch
        return w["A"] @ torch.tanh(r) + t * x[0]

    field = ctrnn.TorchField(coupled, n=3, parameters={"A": np.arange(9.0).reshape(3, 3)}, inputs=1)
    rng = np.random.default_rng(0)
    r, x = rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 2, 1))
    w = {"A": torch.tensor(field.parameters["A"])}
    got = field.torch_function()(0.5, torch.tensor(r), w, torch.tensor(x))
    for i in np.ndindex(4, 2):
        all_close(got[i], field(0.5, r[i], x[i]), 1e-14)
        all_close(field.torch_function()(0.5, torch.tensor(r[i]), w, torch.tensor(x[i])), field(0.5, r[i], x[i]), 1e-14)


def test_a_callable_without_parameters_or_dependence_on_the_state():
    field = ctrnn.TorchField(lambda t, r, w, x: torch.ones(2, dtype=torch.float64) * t, n=2)
    assert_array_equal(field(3.0, [0.0, 0.0]), [3.0, 3.0])
    assert_array_equal(field.jacobian(3.0, [1.0, 2.0]), np.zeros((2, 2)))
    assert field.parameter_jacobian(3.0, [1.0, 2.0]).shape == (2, 0)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (3, {}, "function: got 3; allowed: a callable"),
        (lambda t, r, w, x: r[:1], {}, r"function: got 'a value of shape \(1,\)'; allowed: a tensor of shape \(2,\)"),
        (lambda t, r, w, x: r[None], {}, r"function: got 'a value of shape \(1, 2\)'"),
        (lambda t, r, w, x: [0.0, 0.0], {}, "function: got 'a value of shape list'"),
        (lambda t, r, w, x: r.float(), {}, "function: got 'a tensor of torch.float32'; allowed: torch.float64"),
        (lambda t, r, w, x: r, {"n": 0}, "n: got 0"),
        (lambda t, r, w, x: r, {"inputs": -1}, "inputs: got -1"),
        (lambda t, r, w, x: r, {"state_names": ["a"]}, "state_names: .*2 names"),
        (lambda t, r, w, x: r, {"state_names": ["a", "a"]}, "state_names: got 'a'; allowed: each name once"),
        (lambda t, r, w, x: r, {"parameters": {"k": [math.nan]}}, "parameter 'k': .*finite"),
        (_Perceptron(), {"parameters": {"k": 1.0}}, "parameters: .*the module has its own"),
    ],
)
def test_wrong_torch_fields_are_refused_by_name(function, options, message):
    with pytest.raises(UsageError, match=f"(?s)^{message}"):
        ctrnn.TorchField(function, **({"n": 2} | options))


@pytest.mark.parametrize("call", ["__call__", "jacobian", "vjp", "parameter_jacobian"])
def test_an_exception_inside_the_function_arrives_as_it_is(call):
    class Broken(Exception):
        pass

    def breaks_later(t, r, w, x):
        if float(t) > 1.0:
            raise Broken("at t = 2")
        return -w["k"] * r

    field = ctrnn.TorchField(breaks_later, n=2, parameters={"k": 1.0})
    rows = ([[1.0, 0.0]],) if call == "vjp" else ()
    for _ in range(2):
        with pytest.raises(Broken, match="at t = 2"):
            getattr(field, call)(2.0, [1.0, 1.0], *rows)
        getattr(field, call)(0.0, [1.0, 1.0], *rows)  # nothing of it is left over
    with pytest.raises(Broken):
        ctrnn.simulate(ctrnn.Problem(field, r0=[1.0, 1.0], t_span=(0.0, 3.0)))


def test_a_torch_field_without_inputs_takes_a_batch():
    import torch

    field = ctrnn.TorchField(lambda t, r, w, x: -w["k"] * r, n=2, parameters={"k": 2.0})
    r = torch.arange(6.0, dtype=torch.float64).reshape(3, 2)
    out = field.torch_function()(0.0, r, {"k": torch.tensor(2.0, dtype=torch.float64)})
    assert torch.equal(out, -2.0 * r)


def test_a_field_cannot_be_changed_in_silence():
    """What is printed is what is computed: parameters and attributes of their names refuse, with the remedy."""
    field = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    network = ctrnn.RateNetwork(2, seed=0)

    def set_item():
        field.parameters["k"] = 3.0

    def set_attribute():
        field.k = 3.0

    def set_weights():
        network.W = np.zeros((2, 2))

    def add():
        field.parameters["q"] = 1.0

    for change in (
        set_item, set_attribute, set_weights, add, lambda: field.parameters.update(k=1.0),
        lambda: field.parameters.pop("k"), lambda: field.parameters.clear(),
        lambda: field.parameters.setdefault("q", 1.0),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="with_parameters"):
            change()
    assert float(field.parameters["k"]) == 2.0 and field.vector == 2.0
    own = field.parameters.copy()
    own["k"] = 5.0  # a table of one's own
    for twin in (pickle.loads(pickle.dumps(field)), field.with_parameters(k=2.0)):
        assert float(twin.parameters["k"]) == 2.0
        with pytest.raises(UsageError, match="with_parameters"):
            twin.parameters["k"] = 3.0
