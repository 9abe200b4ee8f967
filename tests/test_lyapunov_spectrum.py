"""All exponents, the dimension and entropy made of them, and covariant vectors.

Exact values: maps (ln 2, ln 0.3) and sum rules to 1e-9; linear systems' eigenvectors to 1e-9; the flow's own direction
on Lorenz to 1e-4. Published: Rössler.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrnn import Equations, Problem, RateNetwork
from ctrnn.analysis import lyapunov_spectra, lyapunov_spectrum
from ctrnn.errors import UsageError
from ctrnn.inputs import Step
from ctrnn.kernels.frames import orthonormal

LORENZ = Equations({"x": "s*(y - x)", "y": "x*(r - z) - y", "z": "x*y - b*z"}, {"s": 10.0, "r": 28.0, "b": 8 / 3})


def lorenz(t_end):
    return Problem(LORENZ, [1.0, 1.0, 1.0], (0.0, t_end))


def test_all_exponents_by_default():
    found = lyapunov_spectrum(lorenz(600.0), transient=20.0)
    assert found.exponents.shape == (3,)
    assert found.exponents.sum() == pytest.approx(-(10 + 1 + 8 / 3), abs=1e-6)
    assert found.entropy == pytest.approx(found.exponents[found.exponents > 0].sum())
    assert found.exponents[0] == pytest.approx(0.9056, rel=0.03)
    assert found.dimension == pytest.approx(2 + found.exponents[:2].sum() / abs(found.exponents[2]))
    assert found.covariant_vectors is None


def test_roessler():
    """0.0714, 0, −5.394 (a = b = 0.2, c = 5.7; Sprott 2003)."""
    field = Equations({"x": "-y - z", "y": "x + a*y", "z": "b + z*(x - c)"}, {"a": 0.2, "b": 0.2, "c": 5.7})
    found = lyapunov_spectrum(Problem(field, [1.0, 1.0, 0.0], (0.0, 12000.0)), transient=100.0)
    assert found.exponents[0] == pytest.approx(0.0714, abs=0.004)
    assert abs(found.exponents[1]) < 0.002
    assert found.exponents[2] == pytest.approx(-5.394, abs=0.03)


def test_maps_by_euler_steps_of_one():
    """r⁺ = r + F: the logistic map's ln 2, and the Hénon map, whose exponents sum to ln 0.3."""
    logistic = Equations({"r": "4*r*(1 - r) - r"}, {})
    found = lyapunov_spectrum(Problem(logistic, [0.3], (0.0, 20000.0)), transient=10.0, solver="euler", dt=1.0)
    assert found.largest == pytest.approx(np.log(2.0), abs=0.003)
    henon = Equations({"x": "1 - a*x**2 + y - x", "y": "b*x - y"}, {"a": 1.4, "b": 0.3})
    found = lyapunov_spectrum(Problem(henon, [0.1, 0.1], (0.0, 20000.0)), transient=100.0, solver="euler", dt=1.0)
    assert found.exponents.sum() == pytest.approx(np.log(0.3), abs=1e-9)
    assert found.exponents[0] == pytest.approx(0.4192, abs=0.01)


def test_random_networks():
    """−r + gJ tanh r without self-connections: J_ii = −1, so that the sum is −N; below g = 1 all are negative."""
    n = 30
    J = np.random.default_rng(0).normal(size=(n, n)) / np.sqrt(n)
    np.fill_diagonal(J, 0.0)
    for g in (0.5, 3.0):
        field = RateNetwork(n).with_parameters(W=g * J)
        found = lyapunov_spectrum(Problem(field, np.random.default_rng(1).normal(size=n), (0.0, 60.0)), transient=20.0)
        assert found.exponents.size == n
        assert found.exponents.sum() == pytest.approx(-n, rel=1e-6)
        if g < 1:
            assert (found.exponents < 0).all()


def test_the_spectrum_of_a_chaotic_network_does_not_depend_on_its_size():
    """At g = 3 the exponents against i/N are one curve (100 and 400 units over t = 300: within 0.1)."""
    at, curves = np.linspace(0.05, 0.95, 19), []
    for n in (100, 200):
        r0 = np.random.default_rng(0).normal(size=n)
        problem = Problem(RateNetwork(n, gain=3.0, seed=0), r0, (0.0, 60.0))
        found = lyapunov_spectrum(problem, transient=20.0, solver="rk4", dt=0.1)
        assert found.largest > 0
        assert found.exponents.sum() == pytest.approx(-n, rel=0.05)  # less the self-connections
        curves.append(np.interp(at, (np.arange(n) + 0.5) / n, found.exponents))
    assert np.abs(curves[0] - curves[1]).max() < 0.15
    assert np.ptp(curves[0]) > 1.5


def test_covariant_vectors_of_a_linear_system():
    """They are the eigenvectors, which no frame of the exponents is."""
    rng = np.random.default_rng(1)
    values = np.array([0.3, -0.5, -1.4, -3.0])
    V = rng.normal(size=(4, 4))
    V /= np.linalg.norm(V, axis=0)
    field = RateNetwork(4, activation="linear").with_parameters(W=V @ np.diag(values) @ np.linalg.inv(V) + np.eye(4))
    found = lyapunov_spectrum(Problem(field, np.ones(4), (0.0, 80.0)), covariant=True)
    vectors = found.covariant_vectors
    assert vectors.shape == (found.covariant_t.size, 4, 4)
    assert found.covariant_r.shape == (found.covariant_t.size, 4)
    assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-12)
    along = np.abs(np.einsum("tik,ik->tk", vectors, V))
    assert_allclose(along[1:-1], 1.0, atol=1e-5)
    assert_allclose(along[len(along) // 2], 1.0, atol=1e-9)


def test_covariant_vectors_of_lorenz():
    """The second is the flow's own direction; each is carried into itself by the linearised flow."""
    found = lyapunov_spectrum(lorenz(200.0), transient=20.0, covariant=True)
    F = np.array([LORENZ(0.0, r) for r in found.covariant_r])
    cosine = np.abs((found.covariant_vectors[:, :, 1] * F).sum(axis=1)) / np.linalg.norm(F, axis=1)
    assert (cosine > 1 - 1e-4).all()
    assert found.covariant_t[0] >= 20.0 + 0.2 * 180.0 - 1e-9
    assert found.covariant_t[-1] <= 200.0 - 0.2 * 180.0 + 1e-9
    some = lyapunov_spectrum(lorenz(100.0), k=2, transient=10.0, covariant=True)
    assert some.covariant_vectors.shape[2] == 2


def test_implicit_solvers():
    """Of a linear stiff field the eigenvalues; along Lorenz's run what another solver, another equation, gives."""
    stiff = Equations({"u": "-1000*(u - v)", "v": "w", "w": "-v - 0.2*w"})
    found = lyapunov_spectrum(Problem(stiff, [1.0, 0.0, 1.0], (0.0, 60.0)), k=2, solver="kvaerno5", transient=5.0)
    # the pair of −0.1 ± i turns the frame: its mean is exact over whole turns, and their sum is exact
    assert found.exponents.sum() == pytest.approx(-0.2, rel=1e-7)
    assert found.stats.factorisations > 0
    tight = {"rtol": 1e-11, "atol": 1e-13}
    for solver in ("kvaerno5", "kencarp4"):
        one = lyapunov_spectrum(lorenz(4.0), solver=solver, **(tight if solver == "kvaerno5" else {"rtol": 1e-9}))
        other = lyapunov_spectrum(lorenz(4.0), solver="dop853", **tight)
        assert_allclose(one.exponents, other.exponents, rtol=1e-6)
        assert one.exponents.sum() == pytest.approx(-(10 + 1 + 8 / 3), rel=1e-8)
    # with parameters that the columns are not to see
    network = RateNetwork(3, seed=2)
    start = Problem(network, [0.3, -0.2, 0.1], (0.0, 30.0))
    a, b = lyapunov_spectrum(start, solver="kvaerno5"), lyapunov_spectrum(start)
    assert_allclose(a.exponents, b.exponents, atol=1e-7)


def test_compiled_frames_are_those_of_lapack():
    """The same run with all frames kept goes interval by interval, through LAPACK's QR."""
    compiled = lyapunov_spectrum(lorenz(8.0), rtol=1e-11, atol=1e-13)
    kept = lyapunov_spectrum(lorenz(8.0), rtol=1e-11, atol=1e-13, covariant=True)
    assert_allclose(compiled.exponents, kept.exponents, rtol=1e-7)
    rng = np.random.default_rng(0)
    A = rng.normal(size=(7, 4)) @ np.diag([1.0, 1e-3, 1e-6, 1e-9]) @ rng.normal(size=(4, 4))
    y, out = np.concatenate([np.zeros(7), A.ravel()]), np.empty(4)
    orthonormal(y, 7, 4, out)
    Q = y[7:].reshape(7, 4)
    assert_allclose(Q.T @ Q, np.eye(4), atol=1e-14)
    R = np.linalg.qr(A)[1]
    assert_allclose(out, np.log(np.abs(np.diag(R))), atol=1e-6)


def test_intervals_that_spread_are_taken_again():
    """Rates 300 apart: an interval of 1/12 would lose the least; and jumps of an input on the way."""
    field = Equations({"u": "-u", "v": "-300*v + x"}, inputs=["x"])
    x = Step(0.333, 2.0)
    found = lyapunov_spectrum(Problem(field, [1.0, 1.0], (0.0, 6.0), x=x), transient=1.0)
    assert_allclose(found.exponents, [-1.0, -300.0], rtol=1e-4)


def test_exponents_against_a_parameter():
    field = Equations({"u": "-a*u", "v": "-b*v + x"}, {"a": 1.0, "b": 2.0}, inputs=["x"])
    problem = Problem(field, [1.0, 1.0], (0.0, 10.0), x=[1.0])
    found = lyapunov_spectra(problem, {"a": [1.0, 3.0, 5.0], "x": [0.0, 1.0, 2.0]}, transient=9.0)
    assert_allclose(found.exponents, [[-1, -2], [-2, -3], [-2, -5]], atol=1e-3)
    assert len(found) == 3
    assert_allclose(found[1].exponents, found.exponents[1])
    # a member is what it is alone, to the bit
    alone = lyapunov_spectrum(problem.replace(field=field.with_parameters(a=3.0), x=[1.0]), transient=9.0)
    assert (alone.exponents == found[1].exponents).all()
    several = lyapunov_spectra(lorenz(30.0), r0=[[1.0, 1.0, 1.0], [2.0, 3.0, 20.0]], k=1, transient=10.0)
    assert several.exponents.shape == (2, 1)
    assert "2 runs" in repr(several)
    network = RateNetwork(2)
    entries = lyapunov_spectra(Problem(network, [0.0, 0.0], (0.0, 20.0)), {"W[0,1]": [0.0, 0.5]})
    assert entries.exponents.shape == (2, 2)
    for bad in ({"a": 1.0}, {}, {"a": [1.0], "b": [1.0, 2.0]}):
        with pytest.raises(UsageError, match="parameters"):
            lyapunov_spectra(problem, bad)
    with pytest.raises(UsageError, match="parameters"):
        lyapunov_spectra(problem, {"c": [1.0]})


def test_solvers_that_cannot():
    with pytest.raises(UsageError, match="kvaerno5"):
        lyapunov_spectrum(lorenz(10.0), solver="auto")
    with pytest.raises(UsageError, match="k"):
        lyapunov_spectrum(lorenz(10.0), k=True)
