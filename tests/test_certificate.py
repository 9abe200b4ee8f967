"""Certificates: the error that they state is the error that there is, and wrong derivatives do not pass.

The references are closed forms, mpmath-free: decay and linear systems; for chaos, what must happen.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scenarios import SCENARIO, SCENARIOS, hare_lynx

import ctrnn
from ctrnn import Equations, Objective, Problem, TorchField, gradient

LORENZ = {"x": "s*(y - x)", "y": "x*(r - z) - y", "z": "x*y - b*z"}


def decay(t_end=1.0):
    """l = ½ e^(−2kT), dl/dk = −T e^(−2kT), dl/dr0 = e^(−2kT)."""
    field = Equations({"r": "-k*r"}, {"k": 2.0})
    return Problem(field, [1.0], (0.0, t_end), objective=Objective(target=[0.0], at=[t_end]))


def lorenz(t_end):
    field = Equations(LORENZ, {"s": 10.0, "r": 28.0, "b": 8.0 / 3.0})
    return Problem(field, [1.0, 1.0, 1.0], (0.0, t_end), objective=Objective("z**2/1000"))


@pytest.mark.parametrize(
    "how", [{}, {"solver": "bs3", "rtol": 1e-4}, {"solver": "rk4", "dt": 0.05}, {"solver": "euler", "dt": 0.01}]
)
def test_the_stated_error_is_the_error(how):
    """To 5 % of it, against the closed form in the certificate's own norm."""
    g = gradient(decay(), "adjoint", certify=True, **how)
    exact = np.array([-np.exp(-4.0), np.exp(-4.0)])
    scale = np.array([2.0, 1.0])  # k and r0
    off = np.linalg.norm(scale * (np.append(g.vector, g.r0) - exact)) / np.linalg.norm(scale * exact)
    assert g.certificate.error == pytest.approx(off, rel=0.05)
    assert g.certificate.digits == pytest.approx(-np.log10(off), abs=0.03)
    assert g.certificate.loss_error == pytest.approx(abs(g.loss - 0.5 * np.exp(-4.0)) / (0.5 * np.exp(-4.0)), rel=0.05)
    assert g.certificate.same_steps > 13
    assert g.certificate.slope_digits > 10
    assert g.certificate.exponent == pytest.approx(-2.0, abs=0.05)
    assert g.certificate.horizon is None
    assert not g.certificate.lost


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
@pytest.mark.parametrize("method", ["adjoint", "rtrl", "adjoint-interpolate"])
def test_right_gradients_pass(scenario, method):
    certificate = gradient(scenario.make(), method, certify=True).certificate
    assert certificate.digits > 7
    assert certificate.slope_digits > 7
    if method != "adjoint-interpolate":
        assert certificate.same_steps > 13
    assert not certificate.notes


def test_a_certificate_changes_nothing_and_costs_nothing_unless_asked():
    problem = SCENARIO["equations-observed"].make()
    plain, certified = gradient(problem), gradient(problem, certify=True)
    assert plain.certificate is None
    assert np.array_equal(plain.vector, certified.vector)
    assert plain.loss == certified.loss
    assert "certificate" not in repr(plain)
    assert repr(certified.certificate) in repr(certified)
    assert 3 <= len(certified.certificate.text.splitlines()) <= 5


def test_an_approximation_is_found_out():
    """RFLO leaves the recurrent term out: no route agrees with it."""
    certificate = gradient(SCENARIO["rate-network-classes"].make(), "rflo", certify=True).certificate
    assert certificate.digits < 2
    assert certificate.same_steps < 2
    assert certificate.slope_digits < 2


class Crooked(torch.autograd.Function):
    """r ↦ −r with a derivative that is off by 1 %."""

    generate_vmap_rule = True

    @staticmethod
    def forward(r):
        return -r

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        return -1.01 * g


def test_a_wrong_derivative_is_found_out_where_all_methods_agree():
    """Every method takes torch's word for it; the difference of the loss does not."""
    field = TorchField(lambda t, r, w, x: Crooked.apply(r) * w["k"], 1, {"k": 1.0})
    problem = Problem(field, [1.0], (0.0, 1.0), objective=Objective(target=[0.0], at=[1.0]))
    certificate = gradient(problem, "adjoint", certify=True).certificate
    assert certificate.same_steps > 12
    assert certificate.slope_digits < 3


def test_a_right_derivative_of_torch_passes():
    field = TorchField(lambda t, r, w, x: -r * w["k"], 1, {"k": 1.0})
    problem = Problem(field, [1.0], (0.0, 1.0), objective=Objective(target=[0.0], at=[1.0]))
    certificate = gradient(problem, certify=True).certificate
    assert certificate.digits > 7
    assert certificate.slope_digits > 9


def test_chaos_within_the_horizon():
    certificate = gradient(lorenz(15.0), "adjoint", certify=True).certificate
    assert certificate.digits > 3
    assert not certificate.lost


def test_chaos_beyond_the_horizon():
    certificate = gradient(lorenz(50.0), "adjoint", certify=True).certificate
    assert certificate.exponent == pytest.approx(0.9, abs=0.3)
    assert certificate.horizon == pytest.approx(np.log(1e8) / certificate.exponent)
    assert certificate.digits < 1
    assert certificate.lost
    assert "no gradient means anything" in certificate.text


def test_growth_is_not_chaos():
    """r' = r over 30 units passes its horizon of 18, and the relative error of everything stays what it was."""
    problem = Problem(
        Equations({"r": "k*r"}, {"k": 1.0}), [1.0], (0.0, 30.0), objective=Objective(target=[0.0], at=[30.0])
    )
    certificate = gradient(problem, certify=True).certificate
    assert certificate.exponent == pytest.approx(1.0, abs=1e-3)
    assert certificate.horizon == pytest.approx(np.log(1e8), abs=0.1)
    assert certificate.digits > 5
    assert not certificate.lost


def test_fixed_steps_measure_their_own_tolerance():
    """The first Euler step of e^t, h = 0.1, is off by 1 − 1.1/e^0.1."""
    problem = Problem(
        Equations({"r": "k*r"}, {"k": 1.0}), [1.0], (0.0, 2.0), objective=Objective(target=[0.0], at=[2.0])
    )
    certificate = gradient(problem, solver="euler", dt=0.1, certify=True).certificate
    assert certificate.tolerance == pytest.approx(1.0 - 1.1 * np.exp(-0.1), rel=1e-6)


@pytest.mark.parametrize("solver", ["scipy:LSODA", "torchdiffeq:dopri5", "kvaerno5"])
def test_every_kind_of_solver(solver):
    certificate = gradient(hare_lynx(), solver=solver, certify=True).certificate
    assert certificate.digits > 5
    assert certificate.slope_digits > 5
    assert solver.partition(":")[2] not in certificate.route or ":" not in solver


def test_a_stiff_problem():
    """Robertson to t = 40: a state that starts at 0 is not moved below it."""
    field = Equations(
        {"a": "-p*a + q*b*c", "b": "p*a - s*b**2 - q*b*c", "c": "s*b**2"}, {"p": 0.04, "q": 1e4, "s": 3e7}
    )
    objective = Objective(target=[[0.7, 0.0, 0.3]], at=[40.0])
    problem = Problem(field, [1.0, 0.0, 0.0], (0.0, 40.0), objective=objective)
    certificate = gradient(problem, solver="kvaerno5", rtol=1e-7, atol=1e-11, certify=True).certificate
    assert certificate.digits > 6
    assert certificate.slope_digits > 5
    assert certificate.same_steps > 10


def test_trials_are_certified_one_by_one():
    trials = ctrnn.Trials(decay().field, [[1.0], [2.0]], (0.0, 1.0), objective=Objective(target=[0.0], at=[1.0]))
    certificate = gradient(trials, certify=True).certificate
    alone = [gradient(problem, certify=True).certificate for problem in trials]
    assert [one.digits for one in certificate.trials] == [one.digits for one in alone]
    assert min(certificate.digits, *(one.digits for one in alone)) > 8
