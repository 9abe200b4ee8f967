"""The tableaus against the theory of order, tree by tree, and against a known solution.

Two independent routes to every order. The conditions Σ_i b_i Φ_i(τ) = 1/γ(τ) (Butcher) hold on all
rooted trees τ of at most p nodes, and on some tree of p + 1 nodes they fail. And the error of fixed
steps falls as h^p on a nonlinear, time-dependent problem. Neither uses any code of the solvers.
"""

from functools import cache
from itertools import combinations_with_replacement

import numpy as np
import pytest

from ctrnn.errors import UnknownNameError
from ctrnn.solvers import tableaus

# Exponential Euler has the numbers of Euler's method, of another field (tests/test_exponential.py).
TABLEAUS = [t for t in map(tableaus.get, tableaus.names()) if not t.exponential]
NAMES = [t.name for t in TABLEAUS]
IMPLICIT = [t.name for t in TABLEAUS if t.implicit]
PAIRS = [t.name for t in TABLEAUS if t.adaptive]
THETAS = (0.13, 0.37, 0.5, 0.81, 1.0)
TOLERANCE = 1e-12  # of an order condition that holds
VIOLATION = 1e-7  # of one that does not


# --- rooted trees: a tree is the sorted tuple of the subtrees on its root; () is one node ---


@cache
def trees(nodes):
    """All rooted trees with that many nodes."""
    return sorted(set(_forests(nodes - 1, nodes - 1)))


def _forests(nodes, largest):
    """All multisets of trees of at most ``largest`` nodes that have ``nodes`` nodes together."""
    if nodes == 0:
        yield ()
        return
    for size in range(1, min(nodes, largest) + 1):
        for count in range(1, nodes // size + 1):
            for group in combinations_with_replacement(trees(size), count):
                for rest in _forests(nodes - size * count, size - 1):
                    yield tuple(sorted(group + rest))


def size(tree):
    return 1 + sum(size(child) for child in tree)


@cache
def gamma(tree):
    """The density γ: the product, over all nodes, of the size of the subtree that hangs on it."""
    return size(tree) * int(np.prod([gamma(child) for child in tree]))


def full_a(tableau):
    """The rows of all stages, those for dense output too: (s_total, s_total)."""
    a = np.zeros((tableau.s_total, tableau.s_total))
    a[: tableau.s, : tableau.s] = tableau.a
    a[tableau.s :] = tableau.a_dense
    return a


def elementary_weights(a):
    """Φ as a function of the tree: Φ_i(τ) is the product over τ's subtrees of Σ_j a_ij Φ_j."""
    ones = np.ones(len(a))

    @cache
    def phi(tree):
        return np.prod([a @ phi(child) for child in tree], axis=0) * ones

    return phi


def residual(weights, a, nodes, theta=1.0):
    """The largest |Σ_i weights_i Φ_i(τ) − θ^|τ|/γ(τ)| over the trees with that many nodes."""
    phi = elementary_weights(a)
    return max(abs(weights @ phi(tree) - theta**nodes / gamma(tree)) for tree in trees(nodes))


def order_of(weights, a, theta=1.0):
    """The order that ``weights`` have on the stages of ``a``, told from the conditions."""
    p = 0
    while (error := residual(weights, a, p + 1, theta)) <= TOLERANCE:
        p += 1
    assert error > VIOLATION, f"order {p + 1} is neither reached nor clearly missed: {error:.1e}"
    return p


def b_at(tableau, theta):
    return tableau.dense @ theta ** np.arange(1, tableau.dense.shape[1] + 1)


def test_there_are_as_many_rooted_trees_as_there_should_be():
    # OEIS A000081.
    assert [len(trees(p)) for p in range(1, 10)] == [1, 1, 2, 4, 9, 20, 48, 115, 286]
    assert sorted(gamma(tree) for tree in trees(4)) == [4, 8, 12, 24]


# --- the data against the theory ---


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_rows(name):
    tableau = tableaus.get(name)
    s, s_total = tableau.s, tableau.s_total
    assert tableau.a.shape == (s, s) and tableau.b.shape == tableau.c.shape == (s,)
    assert tableau.e.shape == (len(tableau.embedded_orders), s)
    assert tableau.dense.shape[0] == s_total
    assert tableau.a_dense.shape == (s_total - s, s_total)
    assert tableau.c_dense.shape == (s_total - s,)
    for array in (tableau.a, tableau.b, tableau.c, tableau.e, tableau.dense, tableau.a_dense):
        assert array.dtype == np.float64 and array.flags.c_contiguous
    a = full_a(tableau)
    assert not np.triu(a, 1).any(), "a stage may use earlier ones only, and itself"
    diagonal = np.zeros(s_total)
    if name in IMPLICIT:
        diagonal[1:s] = tableau.gamma
    np.testing.assert_array_equal(np.diag(a), diagonal)
    assert (tableau.gamma > 0) == (name in IMPLICIT)
    c = np.r_[tableau.c, tableau.c_dense]
    np.testing.assert_allclose(a.sum(axis=1), c, rtol=0, atol=2e-14)
    np.testing.assert_allclose(tableau.e.sum(axis=1), 0, atol=1e-15)
    assert tableau.source


@pytest.mark.parametrize("name", NAMES)
def test_fsal_stage_is_the_field_at_the_new_point(name):
    tableau = tableaus.get(name)
    assert tableau.fsal == (name in PAIRS)
    if tableau.fsal:
        np.testing.assert_array_equal(tableau.a[-1], tableau.b)
        assert tableau.b[-1] == tableau.gamma and tableau.c[-1] == 1
        # an explicit last stage has no part in r⁺
        assert tableau.stages == (tableau.s if name in IMPLICIT else tableau.s - 1)
    else:
        assert tableau.stages == tableau.s
    assert tableau.b[tableau.stages - 1] != 0


@pytest.mark.parametrize("name", NAMES)
def test_order_conditions_of_the_step(name):
    tableau = tableaus.get(name)
    assert order_of(tableau.b, tableau.a) == tableau.order


@pytest.mark.parametrize("name", PAIRS)
def test_order_conditions_of_the_embedded_solutions(name):
    tableau = tableaus.get(name)
    orders = tuple(order_of(tableau.b - e, tableau.a) for e in tableau.e)
    assert orders == tableau.embedded_orders
    assert max(orders) < tableau.order


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("name", NAMES)
def test_order_conditions_of_the_dense_output(name, theta):
    tableau = tableaus.get(name)
    order = order_of(b_at(tableau, theta), full_a(tableau), theta)
    # At the end of the step dense output is the step itself.
    assert order == (tableau.order if theta == 1.0 else tableau.dense_order)


@pytest.mark.parametrize("name", NAMES)
def test_dense_output_meets_the_step_at_both_ends(name):
    tableau = tableaus.get(name)
    unit = np.eye(tableau.s_total)
    b = np.zeros(tableau.s_total)
    b[: tableau.s] = tableau.b
    degrees = np.arange(1, tableau.dense.shape[1] + 1)
    np.testing.assert_allclose(b_at(tableau, 1.0), b, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(tableau.dense[:, 0], unit[0])  # slope k_1 at θ = 0
    if tableau.fsal:  # and k_s at θ = 1: the output is continuously differentiable
        slope = tableau.dense @ degrees
        np.testing.assert_allclose(slope, unit[tableau.s - 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["rk4", *PAIRS])
def test_a_slip_of_1e_5_in_a_stage_would_be_seen(name):
    """The conditions tell every a_ij apart: a little of it moved to a_i1 (same c_i) breaks one; a_ii = γ is known
    without them."""
    tableau = tableaus.get(name)
    unseen = tableau.s - 1 if tableau.stages < tableau.s else None
    inner = [i for i in range(tableau.s_total) if i != unseen]
    for i in inner:
        for j in 1 + np.flatnonzero(full_a(tableau)[i, 1:i]):
            a = full_a(tableau)
            slip = 1e-5 * a[i, j]
            a[i, j] -= slip
            a[i, 0] += slip
            theta = 1.0 if i < tableau.s else 0.5
            order = tableau.order if i < tableau.s else tableau.dense_order
            weights = b_at(tableau, theta)
            seen = max(residual(weights, a, p, theta) for p in range(1, order + 1))
            assert seen > 5 * TOLERANCE, f"a[{i}, {j}]"


@pytest.mark.parametrize("name", IMPLICIT)
def test_implicit_pairs_are_l_stable(name):
    """R(z) = 1 + z bᵀ(I − zA)⁻¹1: |R| ≤ 1 on the imaginary axis, no pole to the left of it, and R(∞) = 0; R̂(∞) is
    bounded too."""
    tableau = tableaus.get(name)

    def stability(z, b):
        return 1 + z * b @ np.linalg.solve(np.eye(tableau.s) - z * tableau.a, np.ones(tableau.s))

    assert max(abs(stability(1j * y, tableau.b)) for y in np.geomspace(1e-3, 1e6, 2000)) <= 1 + 1e-12
    assert tableau.gamma > 0  # the only pole is 1/γ
    assert abs(stability(-1e9, tableau.b)) < 1e-7
    assert abs(stability(-1e9, tableau.b - tableau.e[0])) < 1.0


@pytest.mark.parametrize("name", IMPLICIT)
def test_the_first_guess_of_a_stage_is_a_parabola(name):
    """Exact for k of degree 2 in t, as far as there are stages before; a stage at the same time is taken over as it
    is."""
    tableau = tableaus.get(name)
    guess, c = tableau.guess, tableau.c
    assert not np.triu(guess).any()
    for i in range(1, tableau.s):
        for degree in range(min(i, 3) if c[i] not in c[:i] else 1):
            np.testing.assert_allclose(guess[i] @ c**degree, c[i] ** degree, atol=1e-13)
        if c[i] in c[:i]:
            np.testing.assert_array_equal(guess[i], np.eye(tableau.s)[i - 1])


# --- the data at work: fixed steps on a problem with a known solution ---

OMEGA, T_END = 1.5, 2.0


def solution(t):
    return np.array([np.sin(OMEGA * t), np.cos(OMEGA * t)])


def F(t, r):
    """du/dt = e^v − e^(cos ωt) + ω cos ωt,   dv/dt = e^(sin ωt) − e^u − ω sin ωt."""
    sin, cos = solution(t)
    forced = np.array([OMEGA * cos, -OMEGA * sin])
    return forced + np.array([np.exp(r[1]) - np.exp(cos), np.exp(sin) - np.exp(r[0])])


def stages(tableau, t, r, h):
    a, c = full_a(tableau), np.r_[tableau.c, tableau.c_dense]
    k = np.zeros((tableau.s_total, len(r)))
    for i in range(tableau.s_total):
        y, hg, ti = r + h * a[i, :i] @ k[:i], h * a[i, i], t + c[i] * h
        ri = y
        for _ in range(20 if hg else 0):  # Newton's method for r_i = y + hγ F(r_i), to round-off
            J = np.array([[0.0, np.exp(ri[1])], [-np.exp(ri[0]), 0.0]])
            ri = ri + np.linalg.solve(np.eye(2) - hg * J, y + hg * F(ti, ri) - ri)
        k[i] = F(ti, ri)
    return k


def errors(tableau, steps):
    """Root mean square errors: at the steps' ends, inside the steps, inside one step begun exactly.

    The fourth number is the error estimate of such steps (nan for a method that has none).
    """
    h = T_END / steps
    thetas = np.array([0.15, 0.4, 0.65, 0.9])
    b = np.array([b_at(tableau, theta) for theta in thetas])
    r, ends, inside, local, estimates = solution(0.0), [], [], [], []
    for t in h * np.arange(steps):
        exact = np.array([solution(t + theta * h) for theta in thetas])
        k = stages(tableau, t, r, h)
        inside.append(r + h * b @ k - exact)
        r = r + h * tableau.b @ k[: tableau.s]
        ends.append(r - solution(t + h))
        k = stages(tableau, t, solution(t), h)
        local.append(solution(t) + h * b @ k - exact)
        d = h * tableau.e @ k[: tableau.s]
        squares = np.sum(d * d, axis=1)
        if len(d) == 2:
            estimates.append(squares[1] / np.sqrt(squares[1] + 0.01 * squares[0]))
        else:
            estimates.append(np.sqrt(squares[0]) if len(d) else np.nan)
    return np.array([np.sqrt(np.mean(np.square(x))) for x in (ends, inside, local, estimates)])


def measured_orders(name):
    """Orders by halving the step, where the errors are far above round-off."""
    coarse = {"euler": 128, "dop853": 8}.get(name, 64)
    tableau = tableaus.get(name)
    once, twice, again = (errors(tableau, n * coarse) for n in (1, 2, 4))
    ends, inside, local, _ = np.log2(once / twice)
    # The estimate is of embedded solutions of a low order: the finer pair of steps.
    return ends, inside, local, np.log2(twice / again)[3]


@pytest.mark.parametrize("name", NAMES)
def test_measured_orders(name):
    """Step halving gives the stated orders within 0.1: step, dense output, error estimate."""
    tableau = tableaus.get(name)
    ends, inside, local, estimate = measured_orders(name)
    assert ends == pytest.approx(tableau.order, abs=0.1)
    assert local - 1 == pytest.approx(tableau.dense_order, abs=0.1)
    assert inside == pytest.approx(min(tableau.order, tableau.dense_order + 1), abs=0.1)
    if tableau.error_order is None:
        assert np.isnan(estimate)
    else:
        assert estimate == pytest.approx(tableau.error_order, abs=0.1)


# --- names ---


def test_names_and_aliases():
    assert set(tableaus.names()) == {*NAMES, "exponential-euler"}
    assert all(tableaus.get(name).name == name for name in NAMES)
    aliases = {
        "bosh3": "bs3",
        "BS32": "bs3",
        "rk23": "bs3",
        "dp5": "dopri5",
        "RK45": "dopri5",
        "exp_euler": "exponential-euler",
    }
    for alias, name in {**aliases, "DOPRI8": "dop853", "Tsit5": "tsit5"}.items():
        assert tableaus.get(alias) is tableaus.get(name)


@pytest.mark.parametrize("name", ["rk5", "", None, 4])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(UnknownNameError, match="solver: got .*; allowed: euler, exponential-euler, midpoint"):
        tableaus.get(name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("euler", "<Tableau euler: order 1, 1 stage, dense output of order 1>"),
        (
            "dop853",
            "<Tableau dop853: order 8(5,3), 12 stages + FSAL, dense output of order 7 (3 more stages)>",
        ),
    ],
)
def test_a_tableau_prints_what_it_is(name, text):
    assert repr(tableaus.get(name)) == text
