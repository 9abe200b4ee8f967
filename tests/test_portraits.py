"""Portraits of fields: nullclines, basins, manifolds, subspaces, non-normality.

Against closed forms and independent routes; the figures show what the results say.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import expm

import ctrnn
from ctrnn import Equations, RateNetwork, plotting
from ctrnn.analysis import (
    FixedPoints,
    basins,
    find_equilibrium,
    fixed_points,
    henrici_number,
    limit_cycle,
    linear_subspaces,
    nullclines,
    numerical_abscissa,
    participation_ratio,
    principal_components,
    pseudospectral_abscissa,
    saddle_manifolds,
    transient_growth,
)
from ctrnn.errors import UnknownNameError, UsageError

RNG = np.random.default_rng(4)
#: a stable focus inside an unstable cycle inside a stable one: ρ' = ρ (−½ + 2ρ² − ρ⁴)
GROWTH = "(2*(u**2 + v**2) - (u**2 + v**2)**2 - 0.5)"
RINGS = Equations({"u": f"u*{GROWTH} - v", "v": f"v*{GROWTH} + u"})
INNER, OUTER = np.sqrt(1 - np.sqrt(0.5)), np.sqrt(1 + np.sqrt(0.5))


# --- non-normality ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 2.0])
def test_pseudospectral_abscissa_of_a_jordan_block(epsilon):
    J = np.array([[-1.0, 1.0], [0.0, -1.0]])
    assert pseudospectral_abscissa(J, epsilon) == pytest.approx(-1 + np.sqrt(epsilon**2 + epsilon), rel=1e-12)


@pytest.mark.parametrize("n", [1, 5, 20])
def test_pseudospectral_abscissa_is_attained_and_not_exceeded(n):
    J, ε = RNG.normal(size=(n, n)) + np.triu(3.0 * RNG.normal(size=(n, n)), 1), 0.05
    found = pseudospectral_abscissa(J, ε)
    # a search over Im z on a grid, refined: no criss-cross
    from scipy.optimize import brentq, minimize_scalar

    def rightmost(y):
        def f(x):
            return np.linalg.svd((x + 1j * y) * np.eye(n) - J, compute_uv=False)[-1] - ε

        xs = np.linspace(found + 1.0, found - 3.0, 60)
        values = [f(x) for x in xs]
        k = next((k for k, value in enumerate(values) if value <= 0), None)
        return -10.0 if k in (None, 0) else brentq(f, xs[k], xs[k - 1], xtol=1e-13)

    ys = np.linspace(0.0, np.abs(np.linalg.eigvals(J).imag).max() + 1.0, 120)
    y = ys[int(np.argmax([rightmost(y) for y in ys]))]
    best = minimize_scalar(
        lambda y: -rightmost(y), bounds=(y - 0.1, y + 0.1), method="bounded", options={"xatol": 1e-9}
    )
    assert found == pytest.approx(max(-best.fun, rightmost(0.0)), abs=1e-9)
    for _ in range(50):
        E = RNG.normal(size=(n, n)) + 1j * RNG.normal(size=(n, n))
        assert np.linalg.eigvals(J + ε * E / np.linalg.norm(E, 2)).real.max() <= found + 1e-10


def test_normal_matrices_have_nothing_to_hide():
    Q, _ = np.linalg.qr(RNG.normal(size=(4, 4)))
    J = Q @ np.diag([-1.0, -2.0, -3.0, -0.5]) @ Q.T
    assert henrici_number(J) == pytest.approx(0.0, abs=1e-14)
    assert pseudospectral_abscissa(J, 0.3) == pytest.approx(-0.2, abs=1e-12)
    assert numerical_abscissa(J) == pytest.approx(-0.5, abs=1e-14)
    assert transient_growth(J).peak == 1.0


def test_henrici_and_transient_growth_of_a_feedforward_pair():
    w = 12.0
    J = np.array([[-1.0, w], [0.0, -1.0]])  # e^{Jt} = e^{−t} [1 wt; 0 1]
    assert henrici_number(J) == pytest.approx(w, rel=1e-14)
    assert henrici_number(J, relative=True) == pytest.approx(w / np.sqrt(w * w + 2), rel=1e-14)
    assert numerical_abscissa(J) == pytest.approx(-1 + w / 2, rel=1e-14)
    found = transient_growth(J)

    def norm(t):
        return np.exp(-t) * (w * t / 2 + np.sqrt(1 + (w * t / 2) ** 2))

    assert_allclose(found.growth, norm(found.t), rtol=1e-11)
    t = np.linspace(0.0, 3.0, 300001)
    assert found.peak == pytest.approx(norm(t).max(), rel=1e-9)
    assert_allclose(expm(J * found.t_peak) @ found.direction, found.response, atol=1e-12)
    assert np.linalg.norm(found.response) == pytest.approx(found.peak, rel=1e-12)
    for ε in (0.01, 0.1, 1.0):  # Kreiss from below
        assert found.peak >= pseudospectral_abscissa(J, ε) / ε - 1e-12


def test_what_is_no_matrix_is_refused():
    for call in (henrici_number, numerical_abscissa, transient_growth, linear_subspaces):
        with pytest.raises(UsageError, match="J"):
            call([[1.0, 2.0]])
        with pytest.raises(UsageError, match="J"):
            call([[np.nan]])
    with pytest.raises(UsageError, match="epsilon"):
        pseudospectral_abscissa([[1.0]], 0.0)
    with pytest.raises(UsageError, match="spectral abscissa"):
        transient_growth([[1.0]])
    assert transient_growth([[1.0]], [0.0, 1.0]).peak == pytest.approx(np.e)


# --- directions ------------------------------------------------------------------------------------------------------


def test_linear_subspaces_are_invariant_also_of_a_defective_matrix():
    blocks = np.zeros((6, 6))
    blocks[:2, :2] = [[0.3, 2.0], [-2.0, 0.3]]
    blocks[2, 2] = 0.0
    blocks[3:, 3:] = [[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, -1.0]]  # a Jordan block
    S = RNG.normal(size=(6, 6))
    found = linear_subspaces(S @ blocks @ np.linalg.inv(S))
    J = S @ blocks @ np.linalg.inv(S)
    assert (found.unstable.shape[1], found.centre.shape[1], found.stable.shape[1]) == (2, 1, 3)
    for basis, λ in ((found.unstable, [0.3, 0.3]), (found.centre, [0.0]), (found.stable, [-1.0] * 3)):
        assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
        inside = basis.T @ J @ basis
        assert_allclose(J @ basis, basis @ inside, atol=1e-8)
        assert_allclose(np.linalg.eigvals(inside).real, λ, atol=1e-3)
    # the exact spans
    assert np.linalg.matrix_rank(np.hstack([found.unstable, S[:, :2]]), tol=1e-8) == 2


def test_principal_components_are_the_eigenvectors_of_the_covariance():
    r = RNG.normal(size=(50, 4)) @ RNG.normal(size=(4, 4)) + 3.0
    found = principal_components([r[:20], r[20:]])
    C = np.cov(r.T, bias=True)
    assert_allclose(found.variances, np.linalg.eigvalsh(C)[::-1], rtol=1e-10)
    assert_allclose(found.directions @ C @ found.directions.T, np.diag(found.variances), atol=1e-10)
    ratio = np.trace(C) ** 2 / np.trace(C @ C)
    assert found.participation_ratio == pytest.approx(ratio, rel=1e-12)
    assert participation_ratio(r.reshape(5, 10, 4)) == pytest.approx(ratio, rel=1e-12)
    assert_allclose(found.back(found(r)), r, atol=1e-12)
    assert found.explained.sum() == pytest.approx(1.0)
    for bad in ([[1.0, 2.0]], [[np.nan], [1.0]], np.empty((0, 2))):
        with pytest.raises(UsageError, match="states"):
            principal_components(bad)
    with pytest.raises(UsageError, match="k"):
        principal_components(r, 5)
    with pytest.raises(UsageError, match="do not vary"):
        participation_ratio(np.ones((3, 2)))


# --- the plane -------------------------------------------------------------------------------------------------------


def test_nullclines_are_where_a_rate_is_zero():
    field = Equations({"u": "u - u**3/3 - w + 0.5", "w": "0.08*(u + 0.7 - 0.8*w)"})
    lines = nullclines(field, ((-3, 3), (-2, 3)), points=101)
    assert set(lines) == {"u", "w"}
    (cubic,), (straight,) = lines["u"], lines["w"]
    assert_allclose(cubic[:, 1], cubic[:, 0] - cubic[:, 0] ** 3 / 3 + 0.5, atol=1e-13)
    assert_allclose(straight[:, 1], (straight[:, 0] + 0.7) / 0.8, atol=1e-13)
    # a slice of a larger field, states in the other order
    three = Equations({"a": "a - b + c", "b": "b - 2*c", "c": "-c"})
    line = nullclines(three, ((-1, 1), (-1, 1)), ("b", "a"), at={"a": 0.0, "b": 0.0, "c": 0.25})
    assert_allclose(line["a"][0][:, 1], line["a"][0][:, 0] - 0.25, atol=1e-13)
    assert_allclose(line["b"][0][:, 0], 0.5, atol=1e-13)


def test_basins_end_at_the_unstable_cycle():
    found = basins(RINGS, ((-2, 2), (-2, 2)), points=40, t_end=100.0)
    assert [type(one).__name__ for one in found.attractors] == ["Cycle", "Equilibrium"]
    assert found.undecided == 0.0
    radius = np.hypot(*np.meshgrid(found.a, found.b))
    is_outside = np.array([isinstance(one, ctrnn.analysis.Cycle) for one in found.attractors])[found.attractor]
    assert (is_outside == (radius > INNER)).all()
    assert found.shares.sum() == pytest.approx(1.0)
    (cycle,) = (one for one in found.attractors if isinstance(one, ctrnn.analysis.Cycle))
    assert np.hypot(*cycle.r.T) == pytest.approx(OUTER, rel=1e-9)
    assert "limit cycle" in str(found)
    # given attractors: what goes elsewhere stays undecided
    rest = find_equilibrium(RINGS, [0.0, 0.0])
    partly = basins(RINGS, ((-2, 2), (-2, 2)), attractors=[rest], points=20)
    assert partly.undecided == pytest.approx((np.hypot(*np.meshgrid(partly.a, partly.b)) > INNER).mean())


def test_basins_of_runs_that_blow_up_are_undecided():
    found = basins(Equations({"u": "u**3 - u", "v": "-v"}), ((-2, 2), (-1, 1)), points=8)
    assert (found.attractor == np.where(np.abs(found.a) < 1, 0, -1)[None, :]).all()


def test_manifolds_of_a_saddle():
    saddle = find_equilibrium(Equations({"u": "u", "v": "-v + u**2"}), [0.0, 0.0])
    found = saddle_manifolds(saddle, box=((-1, 1), (-1, 1)))
    assert len(found["unstable"]) == len(found["stable"]) == 2
    for line in found["unstable"]:
        assert_allclose(line[:, 1], line[:, 0] ** 2 / 3, atol=1e-7)
        assert np.abs(line[-1]).max() >= 1.0
    for line in found["stable"]:
        assert_allclose(line[:, 0], 0.0, atol=1e-6)
        assert_allclose(np.abs(line[-1]).max(), 1.5, rtol=1e-12)  # the end lies on the box, made half as wide again
    node = find_equilibrium(Equations({"u": "-u", "v": "-2*v"}), [0.1, 0.1])
    assert saddle_manifolds(node) == {"unstable": [], "stable": []}


def test_a_manifold_that_escapes_in_finite_time_ends_on_the_box():
    """u' = u + u³, v' = −v − v³: both lines are axes, and reach infinity within log √(1 + 1/ε²)."""
    saddle = find_equilibrium(Equations({"u": "u + u**3", "v": "-v - v**3"}), [0.0, 0.0])
    found = saddle_manifolds(saddle)
    for name, axis in (("unstable", 0), ("stable", 1)):
        for line in found[name]:
            assert_allclose(np.abs(line[-1][axis]), 10.0, rtol=1e-9)
            assert_allclose(line[:, 1 - axis], 0.0, atol=1e-12)
            assert (np.diff(np.abs(line[:, axis])) > 0).all()
    # u^−2 + 1 falls as e^(−2t)
    t_end = saddle_manifolds(saddle, t_end=5.0, distance=1e-3)["unstable"][0]
    exact = 1.0 / np.sqrt((1.0 + 1e6) * np.exp(-10.0) - 1.0)
    assert np.abs(t_end[-1, 0]) == pytest.approx(exact, rel=1e-7)
    moving = find_equilibrium(Equations({"u": "u*(1 + t)", "v": "-v + t"}), [0.0, 0.0])
    with pytest.raises(UsageError, match="depends on t"):
        saddle_manifolds(moving)


def test_what_is_no_plane_is_refused():
    with pytest.raises(UsageError, match="box"):
        nullclines(RINGS, ((1, -1), (0, 1)))
    with pytest.raises(UnknownNameError, match="states"):
        nullclines(RINGS, ((-1, 1), (0, 1)), ("u", "w"))
    with pytest.raises(UsageError, match="two different"):
        basins(RINGS, ((-1, 1), (0, 1)), ("u", 0))
    with pytest.raises(UsageError, match="field of one state"):
        basins(Equations({"r": "-r"}), ((-1, 1), (0, 1)))
    with pytest.raises(UsageError, match="attractors"):
        basins(RINGS, ((-1, 1), (0, 1)), attractors=[1.0])
    with pytest.raises(UsageError, match="t_end"):
        basins(RINGS, ((-1, 1), (0, 1)), t_end=0.0)
    with pytest.raises(UsageError, match="points"):
        basins(RINGS, ((-1, 1), (0, 1)), points=1)


# --- the table -------------------------------------------------------------------------------------------------------


def test_points_at_several_inputs_in_one_table(tmp_path):
    field = RateNetwork(1, inputs=1).with_parameters(W=[[2.0]], U=[[1.0]])
    table = fixed_points(field, np.linspace(-3, 3, 41)[:, None], x=[[0.0], [2.0], [0.0]])
    assert table.x.ravel().tolist() == [0.0, 0.0, 0.0, 2.0]  # three below the folds, one beyond
    assert len(table.at(2.0)) == 1
    assert_allclose(table.at([2.0]).r, find_equilibrium(field, [2.0], x=[2.0]).r[None])
    assert table.reached.sum() + table.lost == 82
    J = -1 + 2 * (1 - np.tanh(table.r) ** 2)
    assert_allclose(table.time_constants, -1 / J, rtol=1e-9)
    table.save(tmp_path / "points.npz")
    again = FixedPoints.load(tmp_path / "points.npz", field)
    assert str(again) == str(table)
    assert_allclose(again.eigenvalues, table.eigenvalues)
    assert (again.x == table.x).all()
    with pytest.raises(UsageError, match="path"):
        FixedPoints.load(tmp_path / "none.npz", field)
    with pytest.raises(UsageError, match="field"):
        FixedPoints.load(tmp_path / "points.npz", RINGS)
    with pytest.raises(UsageError, match="x"):
        fixed_points(field, [[0.0]], x=[[0.0, 1.0]])
    with pytest.raises(UsageError, match="npz"):
        table.save(tmp_path / "points.csv")


def test_starts_from_several_runs_and_frequencies(tmp_path):
    problem = ctrnn.Problem(RINGS, [0.2, 0.1], (0.0, 10.0))
    runs = [ctrnn.simulate(problem), ctrnn.simulate(problem.replace(r0=[0.1, 0.0]))]
    table = fixed_points(RINGS, runs)
    assert len(table) == 1
    assert_allclose(table.frequencies, np.full((1, 2), 1 / (2 * np.pi)), rtol=1e-9)
    assert table.reached.sum() + table.lost == len(runs[0]) + len(runs[1])
    empty = table[table.index == 5]
    assert (len(empty), empty.at(np.empty(0)).x.shape) == (0, (0, 0))
    empty.save(tmp_path / "none.npz")
    assert len(FixedPoints.load(tmp_path / "none.npz", RINGS)) == 0


# --- figures ---------------------------------------------------------------------------------------------------------


def test_a_portrait_has_all_its_parts():
    table = fixed_points(RINGS, [[0.1, 0.0], [1.0, 0.0]])
    cycle = limit_cycle(ctrnn.Problem(RINGS, [1.2, 0.0], (0.0, 60.0)))
    run = ctrnn.simulate(ctrnn.Problem(RINGS, [0.5, 0.0], (0.0, 10.0)))
    found = basins(RINGS, ((-2, 2), (-2, 2)), points=12)
    figure = plotting.portrait(
        RINGS, ((-2, 2), (-2, 2)), points=table, cycles=cycle, runs=run, basins=found, labels={"u": "excitation"}
    )
    axes = figure.axes[0]
    words = set(axes.get_legend_handles_labels()[1])
    assert words == {"d u/dt = 0", "d v/dt = 0", "runs", "stable cycle", "stable"}
    assert axes.get_xlabel() == "excitation"
    saddle = Equations({"u": "u - u**3", "v": "-v"})
    axes = plotting.portrait(saddle, ((-2, 2), (-1, 1)), points=fixed_points(saddle, [[0.1, 0], [1, 0]])).axes[0]
    assert {"unstable manifold", "stable manifold", "saddle, 1 growing mode"} <= set(
        axes.get_legend_handles_labels()[1]
    )


def test_runs_and_points_on_principal_components():
    field = RateNetwork(3).with_parameters(W=np.diag([2.0, 0.5, 0.2]))
    runs = [ctrnn.simulate(ctrnn.Problem(field, [s, 1.0, 0.5], (0.0, 8.0))) for s in (-0.5, 0.5)]
    table = fixed_points(field, runs)
    axes = plotting.projection(runs, table).axes[0]
    assert {"runs", "stable", "saddle, 1 growing mode", "unstable direction"} == set(
        axes.get_legend_handles_labels()[1]
    )
    assert "% of the variance" in axes.get_xlabel()
    with pytest.raises(UsageError, match="components"):
        plotting.projection(runs, components=(0, 3))
    with pytest.raises(UsageError, match="runs"):
        plotting.projection([1.0])
    assert len(plotting.transient_growth(transient_growth([[-1.0, 9.0], [0.0, -1.0]])).axes) == 1
