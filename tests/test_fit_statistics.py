"""Noise, priors, missing data, errors, profiles and bands of fits, against closed forms and SciPy's own likelihoods."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize

import ctrnn
from ctrnn import Equations, Objective, Problem
from ctrnn.errors import ConvergenceError, UnknownNameError, UsageError
from ctrnn.experiment.build import Experiment
from ctrnn.learning import Fit
from ctrnn.learning.noise import NOISES
from ctrnn.learning.priors import LogNormal, Normal

T = np.linspace(0.5, 6, 24)
RNG = np.random.default_rng(5)
E = RNG.normal(size=(24, 2))


def line(y, **objective):
    """r = r0 + k t, one state: everything in closed form. X has the columns t, 1."""
    field = Equations({"r": "k"}, parameters={"k": 0.3})
    return Problem(field, [0.7], (0, 6), objective=Objective(target=y, at=T, **objective))


X = np.stack([T, np.ones_like(T)], axis=1)


def growth(y, **objective):
    """Two species that grow apart: u = a exp(k t), v = b exp(h t)."""
    field = Equations({"u": "k*u", "v": "h*v"}, parameters={"k": 0.2, "h": 0.1})
    return Problem(field, [2.0, 3.0], (0, 6), objective=Objective(target=y, at=T, **objective))


def curves(q):
    k, h, a, b = q
    return np.stack([a * np.exp(k * T), b * np.exp(h * T)], axis=1)


TRUE = np.array([0.35, 0.2, 3.0, 5.0])


# --- noise


@pytest.mark.parametrize("noise", sorted(NOISES))
def test_residuals_are_likelihoods(noise):
    """½ z² and −log p of scipy.stats differ by what does not depend on o; ∂z/∂o by complex step or differences."""
    kind, y = NOISES[noise], np.array([3.0, 7.0, 1.0, 12.0])
    o = np.array([2.5, 7.0 + 1e-9, 4.0, 12.6])
    log_p = {
        "normal": lambda o: stats.norm.logpdf(y, o, 1.0),
        "lognormal": lambda o: stats.lognorm.logpdf(y, 1.0, scale=o),
        "poisson": lambda o: stats.poisson.logpmf(y, o),
    }[noise]
    z, _ = kind.residual(o, y)
    zero, _ = kind.residual(y, y)
    np.testing.assert_allclose(0.5 * z**2, log_p(y) - log_p(o), atol=1e-13)
    np.testing.assert_allclose(zero, 0.0, atol=1e-15)
    for near in (o, y * (1 + 3e-3), y * (1 - 2e-2)):
        h = 1e-5
        slope = (kind.residual(near + h, y)[0] - kind.residual(near - h, y)[0]) / (2 * h)
        np.testing.assert_allclose(kind.residual(near, y)[1], slope, rtol=1e-7)


def test_poisson_counts_of_zero():
    z, z_o = NOISES["poisson"].residual(np.array([2.0]), np.array([0.0]))
    assert z[0] == pytest.approx(2.0) and z_o[0] == pytest.approx(0.5)  # √(2 o)


@pytest.mark.parametrize("noise", ["lognormal", "poisson"])
def test_fits_of_other_noise_are_most_likely(noise):
    clean = curves(TRUE)
    y = clean * np.exp(0.2 * E) if noise == "lognormal" else RNG.poisson(clean).astype(float)
    found = ctrnn.fit(growth(y), r0=True, noise=noise)
    assert found.converged, found.reason

    def minus_log_p(q):
        if noise == "lognormal":
            return 0.5 * np.sum((np.log(curves(q)) - np.log(y)) ** 2)
        return -np.sum(stats.poisson.logpmf(y, curves(q)))

    best = minimize(minus_log_p, TRUE, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-13, "maxiter": 6000})
    at = np.array([*found.problem.field.vector, *found.r0])
    np.testing.assert_allclose(at, best.x, rtol=1e-5)
    # errors from the Fisher information of the closed form
    k, h, a, b = at
    J = np.zeros((24, 2, 4))
    J[:, 0, 0], J[:, 0, 2] = a * T * np.exp(k * T), np.exp(k * T)
    J[:, 1, 1], J[:, 1, 3] = b * T * np.exp(h * T), np.exp(h * T)
    o = curves(at)
    weight = 1 / o if noise == "poisson" else 1 / (o**2 * 2 * found.loss / (48 - 4))
    fisher = np.einsum("kpi,kp,kpj->ij", J, weight, J)
    errors = ctrnn.laplace(found).standard_errors
    np.testing.assert_allclose(errors, np.sqrt(np.diag(np.linalg.inv(fisher))), rtol=1e-6)
    np.testing.assert_allclose(ctrnn.laplace(found).hessian_errors, errors, rtol=0.3)


def test_known_sigma_of_each_observation():
    """Generalised least squares in closed form, (XᵀX)⁻¹ without an estimated scale."""
    sigma = np.abs(RNG.normal(size=(24, 1))) + 0.2
    y = (1 + 0.5 * T)[:, None] + sigma * E[:, :1]
    found = ctrnn.fit(line(y), r0=True, sigma=sigma)
    W = X / sigma
    covariance = np.linalg.inv(W.T @ W)
    best = covariance @ W.T @ (y / sigma)[:, 0]
    np.testing.assert_allclose([float(found.parameters["k"]), found.r0[0]], best, rtol=1e-8)
    np.testing.assert_allclose(ctrnn.laplace(found).covariance, covariance, rtol=1e-7)
    # weights 1/sigma², one for each value, are the same loss for everything else
    weighted = ctrnn.fit(line(y, weight=sigma**-2.0), r0=True)
    np.testing.assert_allclose(weighted.problem.field.vector, found.problem.field.vector, rtol=1e-8)
    assert weighted.loss == pytest.approx(found.loss, rel=1e-8)


def test_estimated_sigma_of_each_observable():
    clean = curves(TRUE)
    y = clean + E * [0.3, 1.5]
    found = ctrnn.fit(growth(y), r0=True, sigma="estimate")
    assert found.converged and found.sigma.shape == (2,)
    # the two species share nothing: sigma_j² is the mean square of its own least squares
    at = np.array([*found.problem.field.vector, *found.r0])
    np.testing.assert_allclose(found.sigma, np.sqrt(np.mean((curves(at) - y) ** 2, axis=0)), rtol=1e-6)
    errors = ctrnn.laplace(found)
    assert errors.labels[-2:] == ("sigma[u]", "sigma[v]")
    np.testing.assert_allclose(errors.standard_errors[-2:], found.sigma / np.sqrt(2 * 24), rtol=1e-6)
    with pytest.raises(ConvergenceError, match="residuals are zero"):
        ctrnn.fit(growth(ctrnn.simulate(growth(y), save_at=T, rtol=1e-11, atol=1e-12).r), sigma="estimate")


# --- priors


def test_a_normal_prior_is_ridge_regression():
    y = 1 + 0.5 * T + 0.3 * E[:, 0]
    found = ctrnn.fit(line(y), r0=True, sigma=0.3, prior={"k": (0.2, 0.02), "r0[r]": Normal(0.5, 0.1)})
    precision = X.T @ X / 0.09 + np.diag([0.02**-2, 0.1**-2])
    best = np.linalg.solve(precision, X.T @ y / 0.09 + [0.2 / 0.02**2, 0.5 / 0.1**2])
    np.testing.assert_allclose([float(found.parameters["k"]), found.r0[0]], best, rtol=1e-8)
    np.testing.assert_allclose(ctrnn.laplace(found).covariance, np.linalg.inv(precision), rtol=1e-7)
    for optimizer in ("L-BFGS-B", "newton-cg"):  # the same posterior at sigma = 1, by the gradient
        other = ctrnn.fit(line(y), r0=True, prior={"k": (0.2, 0.02)}, optimizer=optimizer)
        precision = X.T @ X + np.diag([0.02**-2, 0.0])
        best = np.linalg.solve(precision, X.T @ y + [0.2 / 0.02**2, 0.0])
        assert other.converged
        np.testing.assert_allclose([float(other.parameters["k"]), other.r0[0]], best, rtol=1e-6)
    ridge = ctrnn.fit(line(y), r0=True, regularisation={"k": 50.0})
    best = np.linalg.solve(X.T @ X + np.diag([50.0, 0.0]), X.T @ y)
    np.testing.assert_allclose([float(ridge.parameters["k"]), ridge.r0[0]], best, rtol=1e-8)


def test_a_lognormal_prior():
    y = 1 + 0.5 * T + 0.3 * E[:, 0]
    found = ctrnn.fit(line(y), r0=True, transform="log", sigma=0.3, prior={"k": ("lognormal", -2.0, 0.1)})

    def minus_log_p(u):
        return 0.5 * np.sum((X @ np.exp(u) - y) ** 2) / 0.09 + 0.5 * ((u[0] + 2) / 0.1) ** 2

    best = minimize(minus_log_p, np.log([0.3, 0.7]), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose([float(found.parameters["k"]), found.r0[0]], np.exp(best.x), rtol=1e-5)
    assert LogNormal(-2.0, 0.1).curvature(np.array([0.2]))[0] == pytest.approx(
        (1 - (np.log(0.2) + 2) / 0.1 * 0.1) / (0.2 * 0.1) ** 2
    )


# --- missing data


@pytest.mark.parametrize("how", ["nan", "masked", "weights"])
def test_missing_values_have_no_say(how):
    y = curves(TRUE) + 0.1 * E
    there = RNG.random(y.shape) < 0.7
    there[3] = False
    if how == "weights":
        problem = growth(np.where(there, y, 1e6), weight=there.astype(float))
    elif how == "nan":
        problem = growth(np.where(there, y, np.nan), missing="skip")
    else:
        problem = growth(np.ma.masked_array(np.where(there, y, np.nan), ~there))
    found = ctrnn.fit(problem, r0=True)
    assert found.converged

    def squares(q):
        return 0.5 * np.sum((curves(q) - y)[there] ** 2)

    best = minimize(squares, TRUE, method="BFGS", options={"gtol": 1e-10})
    np.testing.assert_allclose([*found.problem.field.vector, *found.r0], best.x, rtol=1e-5)
    assert found.loss == pytest.approx(squares(best.x), rel=1e-8)
    assert ctrnn.laplace(found).observations == there.sum()
    # gradient, Hessian and Gauss–Newton know it too
    for method in ("adjoint", "rtrl", "complex-step", "adjoint-interpolate"):
        g = ctrnn.gradient(problem, method=method, rtol=1e-10, atol=1e-12)
        reference = ctrnn.gradient(problem, method="central-difference", rtol=1e-10, atol=1e-12)
        assert g.loss == pytest.approx(reference.loss, rel=1e-8)
        np.testing.assert_allclose(g.vector, reference.vector, rtol=1e-5)
    o, J = curves([0.2, 0.1, 2.0, 3.0]), np.zeros((24, 2, 2))
    J[:, 0, 0], J[:, 1, 1] = T * o[:, 0], T * o[:, 1]
    np.testing.assert_allclose(ctrnn.gauss_newton(problem), np.einsum("kpi,kp,kpj->ij", J, there, J), rtol=1e-6)
    second = T**2 * o.T * (np.where(there, o - y, 0.0)).T
    expected = np.einsum("kpi,kp,kpj->ij", J, there, J) + np.diag(second.sum(axis=1))
    np.testing.assert_allclose(ctrnn.hessian(problem), expected, rtol=1e-6)


def test_missing_values_are_refused_unless_asked_for():
    y = curves(TRUE)
    y[2, 1] = np.nan
    with pytest.raises(UsageError, match="row 2, column 1"):
        growth(y)
    with pytest.raises(UsageError, match="not missing"):
        growth(np.full((24, 2), np.nan), missing="skip")
    with pytest.raises(UnknownNameError, match="refuse, skip"):
        growth(y, missing="drop")
    with pytest.raises(UsageError, match="missing values"):
        Objective("cross_entropy", y, at=T, missing="skip", readout=ctrnn.Readout(np.eye(2), activation="softmax"))


# --- errors, profiles, bands


def test_profiles_of_a_line_are_student_t():
    y = 1 + 0.5 * T + 0.3 * E[:, 0]
    found = ctrnn.fit(line(y), r0=True)
    covariance = np.linalg.inv(X.T @ X)
    best = covariance @ X.T @ y
    s = np.sqrt(np.sum((X @ best - y) ** 2) / 22)
    q = stats.t.ppf(0.95, 22)
    profile = found.profile("k", level=0.9)
    half = q * s * np.sqrt(covariance[0, 0])
    np.testing.assert_allclose(profile.interval, [best[0] - half, best[0] + half], rtol=1e-5)
    np.testing.assert_allclose(profile.tau, (profile.values - best[0]) / (s * np.sqrt(covariance[0, 0])), atol=1e-4)
    known = ctrnn.fit(line(y), r0=True, sigma=0.3).profile("r0[r]")
    half = stats.norm.ppf(0.975) * 0.3 * np.sqrt(covariance[1, 1])
    np.testing.assert_allclose(known.interval, [best[1] - half, best[1] + half], rtol=1e-5)
    assert "95% interval" in repr(known)


def test_a_profile_is_not_symmetric_where_the_curve_bends():
    """y = a (1 − exp(−k t)) with k poorly known: the upper end is far, or there is none."""
    t = np.array([1.0, 2.0, 3.0, 5.0])
    y = 2 * (1 - np.exp(-1.5 * t)) + [0.05, -0.04, 0.03, -0.02]
    field = Equations({"r": "k*(a - r)"}, parameters={"k": 1.0, "a": 1.5})
    found = ctrnn.fit(Problem(field, [0.0], (0, 5), objective=Objective(target=y, at=t)), sigma=0.25)
    low, high = found.profile("k").interval
    k = float(found.parameters["k"])
    assert high - k > 1.5 * (k - low) > 0

    def rise(k):  # the best a in closed form
        x = 1 - np.exp(-k * t)
        a = x @ y / (x @ x)
        return np.sum((a * x - y) ** 2) / 0.25**2

    for end in (low, high):
        if np.isfinite(end):
            assert rise(end) - rise(k) == pytest.approx(stats.chi2.ppf(0.95, 1), rel=1e-3)
    with pytest.raises(UnknownNameError, match="r0"):
        found.profile("r0")
    with pytest.raises(UsageError, match="level"):
        found.profile("k", level=2.0)


@pytest.mark.parametrize("sigma", [None, 0.05, "estimate"])
def test_the_profile_of_the_only_quantity(sigma):
    """Of y = exp(k t), whose loss is known in closed form; sigma estimated at each k, where it is to be."""
    t = np.linspace(0, 10, 21)
    y = np.exp(-0.3 * t) + 0.02 * np.sin(7 * t)
    field = Equations({"r": "k*r"}, parameters={"k": -0.2})
    found = ctrnn.fit(Problem(field, [1.0], (0, 10), objective=Objective(target=y[:, None], at=t)), sigma=sigma)
    k = float(found.parameters["k"])
    S = lambda k: np.sum((np.exp(k * t) - y) ** 2)  # noqa: E731
    interval = found.profile("k").interval
    for end in interval:
        if sigma == "estimate":
            rise, limit = 21 * np.log(S(end) / S(k)), stats.chi2.ppf(0.95, 1)
        elif sigma is None:
            rise, limit = 20 * (S(end) - S(k)) / S(k), stats.t.ppf(0.975, 20) ** 2
        else:
            rise, limit = (S(end) - S(k)) / sigma**2, stats.chi2.ppf(0.95, 1)
        assert rise == pytest.approx(limit, rel=1e-3)
    assert interval[0] < k < interval[1]


def test_data_without_noise_have_no_profile():
    t = np.linspace(0, 10, 21)
    field = Equations({"r": "k*r"}, parameters={"k": -0.2})
    exact = ctrnn.fit(Problem(field, [1.0], (0, 10), objective=Objective(target=np.exp(-0.3 * t)[:, None], at=t)))
    with pytest.raises(ConvergenceError, match="without noise"):
        exact.profile("k")
    assert ctrnn.laplace(exact).is_exact
    assert "the solver's accuracy" in repr(ctrnn.laplace(exact)) and "fit first" not in repr(ctrnn.laplace(exact))


def test_a_profile_that_cannot_be_followed_says_so():
    """Beyond a = 0 the square root is not real, and the loss has hardly risen there."""
    field = Equations({"r": "sqrt(a)"}, parameters={"a": 0.05})
    found = ctrnn.fit(Problem(field, [0.0], (0, 1), objective=Objective(target=[0.1, 0.25], at=[0.5, 1.0])), sigma=5.0)
    with pytest.raises(ConvergenceError, match="cannot be followed beyond"):
        found.profile("a")


def test_bands_of_a_line():
    y = 1 + 0.5 * T + 0.3 * E[:, 0]
    found = ctrnn.fit(line(y), r0=True)
    t = np.array([0.0, 2.0, 6.0, 3 * T[-1]])  # the last one is a forecast
    covariance = np.linalg.inv(X.T @ X)
    best = covariance @ X.T @ y
    s2 = np.sum((X @ best - y) ** 2) / 22
    at = np.stack([t, np.ones(4)], axis=1)
    sd = np.sqrt(s2 * np.einsum("ki,ij,kj->k", at, covariance, at))
    bands = found.bands(t, level=0.9)
    q = stats.t.ppf(0.95, 22)
    np.testing.assert_allclose(bands.sd[:, 0], sd, rtol=1e-6)
    np.testing.assert_allclose(bands.curve[1, :, 0] - bands.o[:, 0], q * sd, rtol=1e-6)
    np.testing.assert_allclose(bands.observation[0, :, 0] - bands.o[:, 0], -q * np.sqrt(sd**2 + s2), rtol=1e-6)


def test_it_prints_errors_and_correlations():
    text = repr(ctrnn.fit(line(1 + 0.5 * T + 0.3 * E[:, 0]), r0=True))
    assert "std. error" in text and "correlations" in text and "-0." in text
    few = line(1 + 0.5 * T).replace(objective=Objective(target=[1.0], at=[2.0]))
    assert "no standard errors" in repr(ctrnn.fit(few))


# --- files


def test_save_load_and_go_on(tmp_path):
    y = curves(TRUE) * np.exp(0.2 * E)
    options = {
        "r0": True, "transform": {"k": "log", "r0": "log"}, "noise": "lognormal", "sigma": "estimate",
        "bounds": {"h": (0.0, None)},
        "prior": {"k": ("lognormal", -1.0, 0.5), "sigma": ("lognormal", -1.0, 1.0)},
    }  # fmt: skip
    short = ctrnn.fit(growth(y), max_iterations=2, **options)
    assert not short.converged
    short.save(tmp_path / "fit.npz")
    loaded = Fit.load(tmp_path / "fit.npz", growth(y))
    for name in ("loss", "initial_loss", "converged", "reason", "message", "optimizer", "evaluations"):
        assert getattr(loaded, name) == getattr(short, name)
    np.testing.assert_array_equal(loaded.history, short.history)
    np.testing.assert_array_equal(loaded.sigma, short.sigma)
    np.testing.assert_array_equal(loaded.r0, short.r0)
    on, whole = ctrnn.fit(loaded), ctrnn.fit(growth(y), **options)
    assert on.converged and whole.converged
    assert on.loss == pytest.approx(whole.loss, rel=1e-8)
    assert on.history[0] == short.history[0]
    np.testing.assert_allclose(on.problem.field.vector, whole.problem.field.vector, rtol=1e-5)
    assert on.standard_errors.keys() == whole.standard_errors.keys()
    with pytest.raises(UsageError, match="the problem that was fitted"):
        Fit.load(tmp_path / "fit.npz", line(1 + T))
    (tmp_path / "other.npz").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="Fit.save"):
        Fit.load(tmp_path / "other.npz", growth(y))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"noise": "cauchy"}, "lognormal, normal, poisson|normal, lognormal, poisson"),
        ({"noise": "lognormal", "optimizer": "newton-cg"}, "noise"),
        ({"noise": "poisson", "sigma": 1.0}, "sigma"),
        ({"sigma": -1.0}, "positive"),
        ({"sigma": "guess"}, "estimate"),
        ({"sigma": [1.0, 2.0, 3.0]}, "observables"),
        ({"prior": {"q": (0, 1)}}, "prior"),
        ({"prior": {"k": 1.0}}, "prior of k"),
        ({"prior": {"k": ("gamma", 1, 1)}}, "normal, lognormal"),
        ({"prior": {"k": (0.0, -1.0)}}, "sd"),
        ({"prior": {"k": (0.0, 1.0)}, "regularisation": {"k": 1.0}}, "not both"),
        ({"regularisation": -1.0}, "regularisation"),
    ],
)
def test_impossible_statements_are_refused(options, says):
    with pytest.raises(UsageError, match=says):
        ctrnn.fit(growth(curves(TRUE) + 0.1 * E), **options)


def test_data_that_noise_forbids():
    y = curves(TRUE)
    y[0, 0] = -1.0
    for noise in ("lognormal", "poisson"):
        with pytest.raises(UsageError, match="positive numbers|from 0 on"):
            ctrnn.fit(growth(y), noise=noise)


# --- the shipped posterior


def test_hare_and_lynx_beside_the_published_posterior():
    """Carpenter (2018): means 0.547, 0.0277, 0.800, 0.0241 and sigma 0.25, 0.25 of the posterior; ours is its mode."""
    e = Experiment("hare-lynx-posterior")
    found = ctrnn.fit(e.problem, **e.fit_options)
    assert found.converged
    published = {
        "alpha": 0.547,
        "beta": 0.0277,
        "gamma": 0.800,
        "delta": 0.0241,
        "sigma[prey]": 0.25,
        "sigma[pred]": 0.25,
    }
    errors = ctrnn.laplace(found)
    for name, mean in published.items():
        i = errors.labels.index(name)
        assert abs(errors.values[i] - mean) < 1.2 * errors.standard_errors[i]
        assert 0.05 < errors.standard_errors[i] / mean < 0.2
    # the posterior, written down again for SciPy alone
    from scipy.integrate import solve_ivp

    t, y = e.data.t - 1900, e.data.y

    def minus_log_p(u):
        a, b, c, d, p0, q0, s0, s1 = np.exp(u)
        run = solve_ivp(
            lambda _, r: [a * r[0] - b * r[0] * r[1], -c * r[1] + d * r[0] * r[1]], (0, 20), [p0, q0],
            method="DOP853", t_eval=t, rtol=1e-11, atol=1e-11,
        )  # fmt: skip
        z = (np.log(run.y.T) - np.log(y)) / [s0, s1]
        prior = [
            (a - 1) / 0.5,
            (c - 1) / 0.5,
            (b - 0.05) / 0.05,
            (d - 0.05) / 0.05,
            *(u[4:6] - np.log(10)),
            *(u[6:] + 1),
        ]
        return 0.5 * np.sum(z**2) + 21 * np.sum(u[6:]) + 0.5 * np.sum(np.square(prior))

    at = np.log([*found.problem.field.vector, *found.r0, *found.sigma])
    assert minus_log_p(at) == pytest.approx(found.loss, rel=1e-7)
    best = minimize(minus_log_p, at, method="Nelder-Mead", options={"maxiter": 400})
    assert best.fun > found.loss - 1e-6


def prey_with_noise():
    """Hare and lynx with observations that have a standard deviation of 1."""
    system = {"prey": "a*prey - b*prey*pred", "pred": "-c*pred + d*prey*pred"}
    field = Equations(system, {"a": 0.55, "b": 0.028, "c": 0.8, "d": 0.024})
    problem, times = Problem(field, [30.0, 4.0], (0.0, 20.0)), np.arange(1.0, 21.0)
    y = ctrnn.simulate(problem, save_at=times).r
    return problem.replace(objective=Objective(target=y + np.random.default_rng(0).normal(size=y.shape), at=times))


@pytest.mark.parametrize("transform", ["none", {"a": "log", "b": "log"}])
def test_the_profile_of_what_has_a_prior_a_bound_or_a_logarithm(transform):
    """The prior of what is held counts at each value; near the least tau is (w − ŵ)/standard error."""
    problem = prey_with_noise()
    options = {"prior": {"a": (0.55, 0.01), "r0[prey]": (30.0, 1.0)}, "bounds": {"b": (0.01, 0.05)}}
    found = ctrnn.fit(problem, r0=True, transform=transform, sigma=1.0, **options)
    for name in ("a", "b", "r0[prey]"):
        profile, se = found.profile(name), found.standard_errors[name]
        low, high = profile.interval
        assert (high - low) / (2 * 1.96 * se) == pytest.approx(1.0, abs=0.05)


def test_starts_that_meet_the_data_exactly_end_in_one_valley():
    """Their losses are what is rounded off."""
    times = np.linspace(0, 10, 21)
    field = Equations({"r": "k*r"}, parameters={"k": 1.2})
    problem = Problem(field, [1.0], (0, 10), objective=Objective(target=np.exp(-0.3 * times)[:, None], at=times))
    found = ctrnn.fit(problem, multistart=8, bounds={"k": (-5, 5)})
    assert len(found.valleys) == 1 and found.valleys[0].reached == 8
