"""The list of gradient methods: what each says of itself is true, and everybody who shows or takes methods reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from scenarios import SCENARIO

import ctrnn
from ctrnn import Objective, Problem, RateNetwork, SnAp, gradient
from ctrnn.cli.new import TEMPLATE
from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.experiment.methods import gradient_method
from ctrnn.experiment.schema import MethodName, MethodTable
from ctrnn.gradients.method import Exact, GradientMethod, Passes
from ctrnn.gradients.methods import METHODS, named, table
from ctrnn.plotting.agreement import gradient_agreement

FIXED = {"solver": "rk4", "dt": 0.05}
EVERY_KIND = [
    FIXED,
    {"rtol": 1e-6},
    {"solver": "kvaerno5", "rtol": 1e-6},
    {"solver": "exponential-euler", "dt": 0.05},
]
RING = np.eye(5) + np.roll(np.eye(5), 1, axis=0)
ROOT = Path(__file__).parent.parent
every_method = pytest.mark.parametrize("name", METHODS)


def network_problem(n=5, mask=None, form="state", activation="tanh", tau=0.7, T=4.0, at=(1.5, 4.0)):
    """A network that every method takes, driven by an input, its loss observed or, at=None, an integral."""
    field = RateNetwork(n, inputs=1, tau=tau, gain=1.3, seed=1, mask=mask, form=form, activation=activation)
    r0 = np.random.default_rng(2).normal(size=n)
    objective = Objective("squared_error", target=0.3, at=None if at is None else list(at))
    return Problem(field, r0, (0.0, T), x=ctrnn.inputs.Sine(0.3), objective=objective)


def off(g, star):
    """‖g − g*‖/‖g*‖ of [dl/dw, dl/dr0]."""
    one, two = (np.concatenate([h.vector, h.r0]) for h in (g, star))
    return float(np.linalg.norm(one - two) / np.linalg.norm(two))


@pytest.fixture(scope="module")
def stars():
    """Through the same steps, by torch's derivatives: of the dense network, and of the ring."""
    return [gradient(network_problem(mask=mask), "autograd", **FIXED) for mask in (None, RING)]


# --- what a method says is true


@every_method
@pytest.mark.parametrize("mask", [None, RING], ids=["dense", "ring"])
def test_exact_for_what_it_says(name, mask, stars):
    """The steps to 1e-12 (differences 1e-8), the equation to 1e-6, an approximation of the ring by more than 1 %."""
    problem, facts, star = network_problem(mask=mask), METHODS[name].facts, stars[mask is not None]
    if facts.exact_for is Exact.STEPS:
        assert off(gradient(problem, name, **FIXED), star) < (1e-8 if facts.unless else 1e-12)
    elif facts.exact_for is Exact.EQUATION:
        exact = gradient(problem, "adjoint", solver="dop853", rtol=1e-11, atol=1e-13)
        assert off(gradient(problem, name, rtol=1e-8), exact) < 1e-6
    elif mask is not None:
        chosen = {"tbptt": {"window": 8}, "sketch": {"rank": 1}}.get(name, {})
        method = replace(METHODS[name], **chosen) if chosen else name
        assert 0.01 < off(gradient(problem, method, **FIXED), star) < (10.0 if facts.unbiased else 1.0)
    assert facts.approximates == (facts.exact_for is Exact.NOTHING)


@every_method
@pytest.mark.parametrize("solver", ["scipy:RK45", "kvaerno5", "tsit5"])
def test_it_takes_the_solvers_that_it_says(name, solver):
    """And says beforehand why not, in the plan as by ``refusal``."""
    problem = network_problem()
    row = ctrnn.plan(problem, solver=solver, rtol=1e-6)[name]
    facts = METHODS[name].facts
    takes = solver == "tsit5" or (not facts.own_steps if ":" in solver else facts.implicit)
    assert (row.flops is not None) == takes
    if takes:
        assert np.isfinite(gradient(problem, name, solver=solver, rtol=1e-6).vector).all()
    else:
        assert row.note
        with pytest.raises(UsageError):
            gradient(problem, name, solver=solver, rtol=1e-6)


@every_method
def test_it_goes_through_events_as_it_says(name):
    spike = ctrnn.Event("r0 - 0.5", reset={"r0": "r0 - 0.2"})
    problem = replace_events(network_problem(n=2), spike)
    if METHODS[name].facts.through_events is None:
        with pytest.raises(UsageError, match="with events"):
            gradient(problem, name)
        assert METHODS[name].refusal(problem, ctrnn.problem.Settings("tsit5"))
    else:
        reference = gradient(problem, "adjoint" if METHODS[name].facts.through_events is Passes.FORWARD else "rtrl")
        assert off(gradient(problem, name), reference) < 1e-5


def replace_events(problem, *events):
    return Problem(
        problem.field, problem.r0, problem.t_span, x=problem.x, objective=problem.objective.objective, events=events
    )


@every_method
def test_it_computes_on_a_device_where_it_says_so(name, stars):
    method = METHODS[name]
    if method.facts.device:
        assert off(gradient(network_problem(), replace(method, device="cpu"), **FIXED), stars[0]) < 1e-12
    else:
        with pytest.raises((UsageError, TypeError)):
            replace(method, device="cpu")


@every_method
def test_its_costs_are_counted(name):
    """Positive, and no less for twice the steps."""
    problem = network_problem()
    one, two = (
        ctrnn.plan(problem.replace(t_span=(0.0, T), objective=Objective(target=0.3, at=[1.0])), **FIXED)[name]
        for T in (4.0, 8.0)
    )
    assert 0 < one.flops <= two.flops and 0 < one.memory <= two.memory


@every_method
def test_its_words(name):
    facts = METHODS[name].facts
    assert facts.name == name == name.lower() and METHODS[name].name
    assert facts.summary and facts.summary[-1] != "." and "\n" not in facts.summary
    assert named(name) is METHODS[name] is named(name.upper())
    for alias in facts.aliases:
        assert named(alias) is METHODS[name] and alias not in METHODS


# --- everybody reads the list


@every_method
def test_it_is_in_the_plan_the_comparison_the_files_the_template_and_readme(name):
    problem, facts = network_problem(), METHODS[name].facts
    assert ctrnn.plan(problem, **FIXED)[name].exact == facts.exactness
    compared = ctrnn.compare_gradients(problem, [name], **FIXED, reference="rtrl" if name == "adjoint" else "adjoint")
    row = compared[METHODS[name].name]
    assert row.gradient is not None and row.approximates == facts.approximates
    words = [text.get_text() for text in gradient_agreement([row]).axes[0].texts]
    assert words == (["an approximation"] if facts.approximates else [])
    assert name in get_args(MethodName) and name in TEMPLATE
    assert f'`"{name}"`' in (ROOT / "README.md").read_text(encoding="utf-8")
    assert name in str(pytest.raises(UnknownNameError, gradient, problem, "no-such-method").value)


def test_readme_has_the_table_of_methods_as_it_is():
    """After a change: python scripts/methods_table.py"""
    assert table() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_comparison_takes_what_is_to_be_compared():
    rows = ctrnn.compare_gradients(network_problem(), **FIXED)
    assert {row.method for row in rows} == {m.name for m in METHODS.values() if m.facts.compared}


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, m in METHODS.items() for o in m.facts.options])
def test_options_of_a_file_become_those_of_the_method(name, option):
    method = gradient_method(MethodTable.model_validate({"name": name, option: 7}))
    assert type(method) is type(METHODS[name]) and getattr(method, option) == 7 and method.facts.name == name
    with pytest.raises(ValueError, match="windows"):
        MethodTable.model_validate({"name": name, "windows": 7})


def test_an_object_without_facts_is_a_method_too():
    class Scaled:
        name = "twice the gradient"

        def compute(self, problem, settings):
            g = METHODS["adjoint"].compute(problem, settings)
            return replace(g, vector=2.0 * g.vector, r0=2.0 * g.r0)

    problem = network_problem()
    assert off(gradient(problem, Scaled(), **FIXED), gradient(problem, **FIXED)) == pytest.approx(1.0)
    assert ctrnn.compare_gradients(problem, [Scaled, "rtrl"], **FIXED)["twice the gradient"].digits < 0.1
    certificate = gradient(problem, Scaled(), certify=True, **FIXED).certificate
    assert certificate.same_steps < 1 and certificate.slope_digits < 1
    with pytest.raises(UsageError, match="method"):
        gradient(problem, 3)


def test_methods_are_all_of_one_kind():
    assert all(isinstance(method, GradientMethod) for method in METHODS.values())


# --- SnAp


def published_snap(W, U, b, h, x, target, order):
    """Of h ← tanh(W h + U x + b) and ½‖h_T − y‖²: P has a column for each entry of W, row by row, and of b."""
    n = len(h)
    own = np.eye(n, dtype=bool)
    keep = np.hstack([(own[:, :, None] & (W != 0)[None]).reshape(n, -1), own])
    for _ in range(order - 1):
        keep = keep | ((W != 0) @ keep)
    P = np.zeros((n, n * n + n))
    for x_t in x:
        z = np.tanh(W @ h + U @ [x_t] + b)
        slope = 1.0 - z**2
        immediate = np.hstack([np.kron(np.eye(n), h), np.eye(n)]) * slope[:, None]
        P = keep * (slope[:, None] * (W @ P) + immediate)
        h = z
    return (h - target) @ P


@pytest.mark.parametrize("order", [1, 2, 3])
def test_euler_steps_of_tau_are_the_published_algorithm(order):
    """To 1e-12, on a sparse network of rate units (form "rate"), against its equations written out."""
    rng = np.random.default_rng(3)
    n, T = 7, 12
    mask = rng.random((n, n)) < 0.3
    mask[np.arange(n), np.arange(n)] = True
    x = rng.normal(size=T)
    field = RateNetwork(n, inputs=1, tau=1.0, gain=1.5, seed=3, mask=mask, form="rate")
    held = ctrnn.inputs.Sampled(np.arange(T + 1.0), np.append(x, 0.0)[:, None])
    r0 = rng.normal(size=n)
    problem = Problem(field, r0, (0.0, T), x=held, objective=Objective("squared_error", target=0.2, at=[T]))
    g = gradient(problem, SnAp(order), solver="euler", dt=1.0)
    p = field.parameters
    expected = published_snap(p["W"], p["U"], p["b"], r0, x, 0.2, order)
    found = np.concatenate([g.parameters["W"].ravel(), g.parameters["b"]])
    inside = np.concatenate([mask.ravel(), np.ones(n, dtype=bool)])
    assert np.linalg.norm((found - expected)[inside]) < 1e-12 * np.linalg.norm(expected)
    assert not g.parameters["W"][~mask].any()


@pytest.mark.parametrize("at", [(1.5, 4.0), None], ids=["observed", "integral"])
def test_exact_where_nothing_is_dropped(at):
    """Units that know only themselves; a ring of 5 after 5 steps; a dense network after 2. Before, closer."""
    n = 5
    for mask, k in ((np.eye(n), 1), (RING, n), (None, 2)):
        problem = network_problem(n, mask=mask, at=at)
        assert off(gradient(problem, SnAp(k), **FIXED), gradient(problem, "rtrl", **FIXED)) < 1e-13
    problem = network_problem(n, mask=RING, at=at)
    exact = gradient(problem, "rtrl", **FIXED)
    errors = [off(gradient(problem, SnAp(k), **FIXED), exact) for k in range(1, n)]
    assert errors == sorted(errors, reverse=True) and errors[0] > 1e-3


def test_snap_drops_the_parameters_alone():
    """The loss, dl/dr0 and the read-out's gradient are exact."""
    problem = network_problem()
    readout = ctrnn.Readout(np.ones((2, 5)))
    problem = problem.replace(objective=Objective(target=np.zeros((2, 2)), at=[1.0, 4.0], readout=readout))
    exact, g = (gradient(problem, name, **FIXED) for name in ("rtrl", "snap-1"))
    assert g.loss == exact.loss and np.linalg.norm(g.r0 - exact.r0) < 1e-13 * np.linalg.norm(exact.r0)
    assert np.array_equal(g.readout["V"], exact.readout["V"])
    assert np.linalg.norm(g.vector - exact.vector) > 0.01 * np.linalg.norm(exact.vector)


@pytest.mark.parametrize("how", EVERY_KIND, ids=str)
def test_snap_of_a_diagonal_network_on_every_kind_of_step(how):
    problem = network_problem(4, mask=np.eye(4))
    assert off(gradient(problem, "snap-1", **how), gradient(problem, "rtrl", **how)) < 1e-12


def test_snap_of_equations_reads_their_names():
    problem = SCENARIO["driven-partly-observed"].make()
    exact = gradient(problem, "rtrl", **FIXED)
    assert off(gradient(problem, SnAp(3), **FIXED), exact) < 1e-13
    assert off(gradient(problem, SnAp(1), **FIXED), exact) > 1e-6


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "2"])
def test_snap_needs_a_number_of_steps(k):
    with pytest.raises(UsageError, match="k: got"):
        SnAp(k)


def test_snap_of_a_network_as_a_text_is_that_of_the_network():
    """To 1e-12; its sparsity is looked at, that of RateNetwork known."""
    problem = network_problem(mask=RING)
    field, p = problem.field, problem.field.parameters
    text = ctrnn.Equations(
        {"r": "(-r + W @ tanh(r) + U @ x + b)/tau"},
        parameters={"W": p["W"], "U": p["U"], "b": p["b"]},
        states={"r": 5},
        inputs={"x": 1},
        constants={"tau": field.tau},
        masks={"W": RING},
    )
    for ours, known in zip(text.sparsity(), field.sparsity(), strict=True):
        np.testing.assert_array_equal(ours, known)
    written = Problem(text, problem.r0, problem.t_span, x=problem.x, objective=problem.objective.objective)
    assert off(gradient(written, "snap-1", **FIXED), gradient(problem, "snap-1", **FIXED)) < 1e-12
