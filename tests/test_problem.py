"""What a problem makes of its parts: the stops of a run, the state it starts from, and what it refuses."""

from __future__ import annotations

import copy
import pickle
import warnings
from functools import cache

import numpy as np
import pytest

import ctrnn
from ctrnn import Equations, Objective, Problem, RateNetwork, inputs, simulate
from ctrnn.errors import (
    ConvergenceError,
    DivergenceError,
    SingularJacobianError,
    SolverError,
    UnknownNameError,
    UsageError,
    ZeroGradientWarning,
)
from ctrnn.events import EventError
from ctrnn.inputs import merge_times
from ctrnn.problem import Settings


@cache
def prey():
    return Equations({"prey": "a*prey - prey*pred", "pred": "prey*pred - pred"}, parameters={"a": 1.0})


@cache
def driven():
    return Equations({"r": "-r + x*y"}, inputs=("x", "y"))


def make(field=None, r0=(1.0, 2.0), t_span=(0.0, 1.0), x=None, objective=None):
    return Problem(field or prey(), r0=r0, t_span=t_span, x=x, objective=objective)


def stack(x, y=1.0):
    return inputs.stack(x, y)


# ---- the start, and the span -----------------------------------------------------------------------------------------


def test_r0_by_place_and_by_name():
    np.testing.assert_array_equal(make(r0=[1, 2]).r0, [1.0, 2.0])
    np.testing.assert_array_equal(make(r0={"pred": 2, "prey": 1}).r0, [1.0, 2.0])
    given = np.array([1.0, 2.0])
    problem = make(r0=given)
    given[0] = 9.0
    np.testing.assert_array_equal(problem.r0, [1.0, 2.0])
    assert problem.r0.dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"r0": [1.0]}, UsageError, r"r0: got 'shape \(1,\)'; allowed: shape \(2,\)"),
        ({"r0": [[1.0]]}, UsageError, r"r0: got 'shape \(1, 1\)'; allowed: shape \(2,\), or \(B, 2\) for B trials"),
        ({"r0": np.ones((2, 1))}, UsageError, r"r0: got 'shape \(2, 1\)'"),
        ({"r0": np.ones((1, 1, 2))}, UsageError, r"r0: got 'shape \(1, 1, 2\)'"),
        ({"r0": [1.0, np.nan]}, UsageError, r"r0.*finite numbers.*entry \(1,\): nan"),
        ({"r0": [1.0, np.inf]}, UsageError, "r0.*finite numbers"),
        ({"r0": ["a", "b"]}, UsageError, "r0.*real numbers"),
        ({"r0": [1j, 2.0]}, UsageError, "r0.*real numbers"),
        ({"r0": {"prey": 1.0}}, UsageError, "r0.*pred has none"),
        ({"r0": {"prey": 1.0, "pred": 2.0, "pray": 3.0}}, UnknownNameError, "did you mean 'prey'"),
        ({"t_span": (1.0, 1.0)}, UsageError, "t_span"),
        ({"t_span": (0.0, np.inf)}, UsageError, "t_span.*finite"),
        ({"t_span": (np.nan, 1.0)}, UsageError, "t_span.*finite"),
        ({"t_span": (0.0, 1.0, 2.0)}, UsageError, r"t_span: got 'shape \(3,\)'"),
        ({"t_span": 1.0}, UsageError, "t_span"),
        ({"t_span": ("0", "x")}, UsageError, "t_span"),
        ({"field": "a*prey"}, UsageError, "field: got 'a\\*prey'; allowed: a field"),
        ({"objective": "squared_error"}, UsageError, "objective: got 'squared_error'; allowed: a ctrnn.Objective"),
        ({"x": 1.0}, UsageError, "x: got '1 channels'; allowed: 0"),
        ({"x": "pulse"}, UsageError, "input: got 'pulse'"),
    ],
)
def test_what_is_refused(changes, kind, message):
    with pytest.raises(UsageError, match=message) as caught:
        make(**changes)
    assert type(caught.value) is kind
    assert caught.value.exit_code == 2


# ---- the input ---------------------------------------------------------------------------------------------------


def test_a_function_of_t_gives_all_channels():
    """dr/dt = −r + (t, cos t), r(0) = 0: r = t − 1 + e^−t and (cos t + sin t − e^−t)/2."""
    field = Equations({"r": "-r + I"}, states={"r": 2}, inputs={"I": 2})
    problem = Problem(field, [0.0, 0.0], (0.0, 2.0), x=lambda t: [t, np.cos(t)])
    exact = [1.0 + np.exp(-2.0), (np.cos(2.0) + np.sin(2.0) - np.exp(-2.0)) / 2]
    np.testing.assert_allclose(simulate(problem).r[-1], exact, rtol=1e-7)
    with pytest.raises(UsageError, match=r"x: got '1 channels'; allowed: 2"):
        Problem(field, [0.0, 0.0], (0.0, 2.0), x=np.cos)


def test_equations_need_their_inputs_and_networks_do_not():
    with pytest.raises(UsageError, match="x: got None; allowed: a signal with channels x, y"):
        make(driven(), r0=[0.0])
    network = RateNetwork(3, inputs=2, seed=0)
    silent = make(network, r0=[0.1, 0.2, 0.3])
    zero = silent.replace(x=[0.0, 0.0])
    np.testing.assert_array_equal(simulate(silent).r, simulate(zero).r)


@pytest.mark.parametrize("x", [1.0, [1.0, 2.0, 3.0], lambda t: t, inputs.Step(0.5)])
def test_the_number_of_channels_must_fit(x):
    with pytest.raises(UsageError, match=r"channels'; allowed: 2 \(the field's inputs\). Try: ctrnn.inputs.stack"):
        make(driven(), r0=[0.0], x=x)


def test_data_must_cover_the_span():
    data = inputs.Sampled([0.2, 0.5, 1.5], [1.0, 2.0, 3.0], kind="linear")
    with pytest.raises(UsageError, match="x: got 'data from 0.2 to 1.5'; allowed: data that cover 0 to 1"):
        make(driven(), r0=[0.0], x=stack(data))
    with pytest.raises(UsageError, match="data that cover 0.5 to 2"):
        make(driven(), r0=[0.0], x=stack(data), t_span=(0.5, 2.0))
    make(driven(), r0=[0.0], x=stack(data), t_span=(0.2, 1.5))
    # what is held goes on, and an end may be the data's but for rounding
    make(driven(), r0=[0.0], x=stack(inputs.Sampled([0.2, 0.5], [1.0, 2.0])), t_span=(0.2, 9.0))
    make(driven(), r0=[0.0], x=stack(inputs.Sampled([0.1, 0.3], [1.0, 2.0], kind="linear")), t_span=(0.1, 0.1 + 0.2))


# ---- the stops ---------------------------------------------------------------------------------------------------


def stops(problem):
    assert problem.course.stops.shape == problem.course.is_break.shape
    return [(float(t), bool(b)) for t, b in zip(problem.course.stops, problem.course.is_break, strict=True)]


def test_stops_are_jumps_observations_and_the_end():
    x = stack(inputs.Pulse(0.25, 0.25), inputs.Step(0.75))
    assert stops(make(driven(), r0=[0.0], x=x)) == [(0.25, True), (0.5, True), (0.75, True), (1.0, False)]
    observed = make(driven(), r0=[0.0], x=x, objective=Objective(target=np.zeros((4, 1)), at=[0.0, 0.3, 0.5, 1.0]))
    assert stops(observed) == [(0.25, True), (0.3, False), (0.5, True), (0.75, True), (1.0, False)]
    np.testing.assert_array_equal(observed.observed, [0.0, 0.3, 0.5, 1.0])
    assert stops(make()) == [(1.0, False)]


def test_the_breaks_of_targets_and_weights_are_stops_of_an_integral():
    objective = Objective(target=inputs.Step(0.4), weight=inputs.Pulse(0.2, 0.3))
    problem = make(driven(), r0=[0.0], x=stack(inputs.Step(0.4)), objective=objective)
    assert stops(problem) == [(0.2, True), (0.4, True), (0.5, True), (1.0, False)]
    assert problem.signals.size == 4
    np.testing.assert_array_equal(problem.signals(0.45), [1.0, 1.0, 1.0, 1.0])
    assert problem.bind().x_stride == 4


@pytest.mark.parametrize(
    ("breaks", "expected"),
    [
        ([0.0], [(1.0, False)]),  # at t0: from the start
        ([1.0], [(1.0, True)]),  # at t1: the last stop
        ([-0.5, 1.5], [(1.0, False)]),  # outside
        ([0.3, 0.1 + 0.2], [(0.3, True), (1.0, False)]),  # one time but for rounding
        ([1.0 - 2e-16], [(1.0, True)]),  # the end but for rounding, from below
        ([1.0 + 3e-16], [(1.0, True)]),  # and from above
        ([0.5, 0.5 + 1e-12], [(0.5, True), (0.5 + 1e-12, True), (1.0, False)]),  # two times, though close
    ],
)
def test_stops_at_the_edges(breaks, expected):
    x = sum((inputs.Step(t, 2.0) for t in breaks), start=inputs.Constant(0.0))
    problem = make(driven(), r0=[0.0], x=stack(x))
    assert stops(problem) == expected
    # the input's own jumps are on the stops, to the last bit
    inside = problem.x.breaks[(problem.x.breaks > 0) & (problem.x.breaks <= 1)]
    assert set(inside) <= set(problem.course.stops)


@pytest.mark.parametrize("t0", [0.0, 1900.0, -7.3, 1.7e9])
def test_observations_and_jumps_that_are_one_time(t0):
    """Jumps and observations computed along different ways fall on one stop, a jump of the field."""
    times = t0 + 0.1 * np.arange(1, 10)
    jumps = np.array([t0 + 0.1 + 0.1 + 0.1, t0 + 0.7])
    x = sum((inputs.Step(t) for t in jumps), start=inputs.Constant(0.0))
    problem = make(
        driven(), r0=[0.0], t_span=(t0, t0 + 1.0), x=stack(x), objective=Objective(target=np.zeros((9, 1)), at=times)
    )
    assert problem.course.stops.size == 10 and problem.course.is_break.sum() == 2
    assert set(problem.observed) <= set(problem.course.stops)
    assert np.diff(problem.course.stops).min() > 0.09
    np.testing.assert_allclose(problem.observed, times, rtol=1e-14)


def test_stops_keep_their_distance_at_the_start():
    for jump in (1900.0, np.nextafter(1900.0, 0.0), np.nextafter(1900.0, 9e9)):
        problem = make(driven(), r0=[0.0], t_span=(1900.0, 1920.0), x=stack(inputs.Step(jump, 3.0)))
        assert stops(problem) == [(1920.0, False)]
        assert problem.x(1900.0)[0] == 3.0
    assert merge_times([1900.0], [np.nextafter(1900.0, 0.0)]).size == 1


def test_an_observation_outside_the_span():
    for at in ([-0.1, 0.5], [0.5, 1.1]):
        with pytest.raises(UsageError, match=r"objective.at: got .*; allowed: times from 0 to 1 \(t_span\)") as caught:
            make(objective=Objective(target=np.zeros((2, 2)), at=at))
        assert caught.value.given in at
    target = inputs.Sampled([0.0, 0.5], [[0.0, 0.0], [1.0, 1.0]], kind="linear")
    with pytest.raises(UsageError, match="objective.target or weight: got 'data from 0 to 0.5'"):
        make(objective=Objective(target=target))


# ---- copies ------------------------------------------------------------------------------------------------------


def test_replace():
    problem = make(objective=Objective(target=np.zeros((1, 2)), at=[0.5]))
    other = problem.replace(t_span=(0.25, 2.0), r0=[3.0, 4.0])
    assert other.t_span == (0.25, 2.0) and problem.t_span == (0.0, 1.0)
    np.testing.assert_array_equal(other.r0, [3.0, 4.0])
    np.testing.assert_array_equal(problem.r0, [1.0, 2.0])
    assert stops(other) == [(0.5, False), (2.0, False)]
    assert problem.replace(objective=None).objective is None
    assert problem.replace(field=prey().with_parameters(a=2.0)).field.parameters["a"] == 2.0
    with pytest.raises(UsageError, match="objective.at"):
        problem.replace(t_span=(0.6, 1.0))
    with pytest.raises(UnknownNameError, match="did you mean 't_span'"):
        problem.replace(t_spam=(0.0, 1.0))


def test_needs_objective():
    with pytest.raises(UsageError, match="with an objective, for the gradient"):
        make().needs_objective("the gradient")
    problem = make(objective=Objective(target=np.zeros((1, 2)), at=[0.5]))
    assert problem.needs_objective("the gradient") is problem.objective


def test_it_says_what_it_is():
    assert repr(make()) == "Problem(2 states, 1 parameter, 0 inputs, t from 0 to 1, no objective)"
    text = repr(make(driven(), r0=[0.0], x=[1.0, 2.0], objective=Objective(target=np.zeros((1, 1)), at=[0.5])))
    assert text.startswith("Problem(1 state, 0 parameters, 2 inputs, t from 0 to 1, ") and "no objective" not in text


# ---- settings ----------------------------------------------------------------------------------------------------


def test_tolerances_of_components():
    rtol, atol = Settings(rtol=1e-6, atol=[1e-8, 0.0]).tolerances(2)
    np.testing.assert_array_equal(rtol, [1e-6, 1e-6])
    np.testing.assert_array_equal(atol, [1e-8, 0.0])
    with pytest.raises(UsageError, match="atol: got .*one for each of 3"):
        Settings(atol=[1e-8, 0.0]).tolerances(3)
    with pytest.raises(UsageError, match="both zero for component 1"):
        Settings(rtol=[1e-6, 0.0], atol=0.0).tolerances(2)


def test_the_library_of_a_solver():
    assert Settings("tsit5").library == ""
    assert Settings("scipy:LSODA").library == Settings("SciPy:LSODA").library == "scipy"
    assert Settings("torchdiffeq:rk4", dt=0.1).library == "torchdiffeq"


def test_r0_may_be_one_number_for_all():
    field = Equations({"x": "-x", "y": "-y"})
    assert Problem(field, 0.5, (0.0, 1.0)).r0.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    "call",
    [
        "simulate",
        "gradient",
        "sensitivities",
        "compare_gradients",
        "hessian",
        "gauss_newton",
        "analysis.lyapunov_spectrum",
    ],
)
def test_what_is_no_problem_is_refused_by_name(call):
    function = ctrnn
    for name in call.split("."):
        function = getattr(function, name)
    with pytest.raises(UsageError, match="problem: got 3; allowed: a ctrnn.Problem"):
        function(3)


def test_what_is_no_field_is_refused_by_name():
    with pytest.raises(UsageError, match="field: got 3"):
        ctrnn.find_equilibrium(3, [1.0])


# ---- bad input: a message that names it, in the library and on the command line --------------------------------------


@cache
def ends_at_half():
    """F is NaN from t = 0.5 on."""
    return Problem(
        Equations({"r": "-k*r*sqrt(0.5 - t)"}, {"k": 1.0}), [1.0], (0.0, 1.0), objective=Objective("r", at=[1.0])
    )


@cache
def stays():
    """dr/dt = 4 r: a stage of kencarp4, a_ii = ¼, with h = 1 has the matrix 1 − h a_ii J = 0."""
    return Problem(Equations({"r": "k*r"}, {"k": 4.0}), [1.0], (0.0, 1.0), objective=Objective("r", at=[1.0]))


def observed(**changes):
    return Objective(**({"target": np.zeros((2, 2)), "at": [0.5, 1.0]} | changes))


NETWORK = RateNetwork(2, seed=0)
BAD = {
    "a parameter that is NaN": (
        lambda: Equations({"r": "k*r"}, {"k": np.nan}),
        "parameter 'k': got nan; allowed: finite numbers$",
    ),
    "a parameter that is changed to inf": (lambda: prey().with_parameters(a=np.inf), "parameter 'a': got inf"),
    "a vector with NaN": (
        lambda: NETWORK.with_vector(np.full(NETWORK.m, np.nan)),
        "(?s)parameter 'W'.*entry \\(0, 0\\): nan",
    ),
    "weights of a wrong shape": (
        lambda: NETWORK.with_parameters(W=np.eye(3)),
        "parameter 'W': got 'shape \\(3, 3\\)'; .*\\(2, 2\\)",
    ),
    "a target of a wrong shape": (
        lambda: make(objective=observed(target=[[1.0], [2.0]])),
        "target: got '1 columns'; allowed: 2",
    ),
    "targets for other times": (lambda: observed(target=np.zeros((3, 2))), "target: got 'shape \\(3, 2\\)'"),
    "a direction of a wrong shape": (
        lambda: ctrnn.hessian_vector_product(make(objective=observed()), [1.0, 2.0]),
        "v: got 'shape \\(2,\\)'; allowed: shape \\(1,\\)",
    ),
    "observations that are not in order": (
        lambda: observed(at=[1.0, 0.5]),
        "at: got '1 followed by 0.5'; allowed: increasing times",
    ),
    "wanted times that are not in order": (lambda: simulate(make(), save_at=[1.0, 0.5]), "save_at: got '1 before 0.5'"),
    "samples that are not in order": (
        lambda: inputs.Sampled([1.0, 0.5], [0.0, 1.0]),
        r"times \(row 1\): got 0.5; .* increase",
    ),
    "a target after the end": (
        lambda: make(objective=observed(at=[0.5, 1.5])),
        r"objective.at: got 1.5; .*from 0 to 1 \(t_span\)",
    ),
    "a target before the start": (lambda: make(objective=observed(at=[-0.5, 0.5])), "objective.at: got -0.5"),
    "wanted times after the end": (lambda: ctrnn.sensitivities(make(), [2.0]), "save_at: got 'times from 2 to 2'"),
    "a loss without states": (lambda: make(objective=Objective("1 + pi", at=[1.0])), "loss: .*depends on the states"),
    "a loss whose states cancel": (lambda: make(objective=Objective("prey - prey")), "loss: .*depends on the states"),
    "a loss that is flat": (
        lambda: make(objective=Objective("sign(prey) + (1 if pred > 1 else 0)", at=[1.0])),
        "loss: .*flat everywhere",
    ),
    "a loss that is constant": (
        lambda: make(objective=Objective("sin(prey)**2 + cos(prey)**2")),
        "loss: .*flat everywhere",
    ),
    "a callable that looks at no state": (
        lambda: make(objective=Objective(lambda o: o.detach().sum(), at=[1.0])),
        "loss: .*a value that depends on o",
    ),
    "weights that are all zero": (
        lambda: ctrnn.gradient(make(objective=observed(weight=[0.0, 0.0]))),
        "objective.weight: got '0 at every time'",
    ),
    "an integral of weight zero": (
        lambda: ctrnn.compare_gradients(make(objective=Objective(target=0.0, weight=0.0))),
        "objective.weight: got '0 at every time'",
    ),
    "an unknown state in an equation": (
        lambda: Equations({"r": "-q"}),
        "dr/dt: unknown name 'q' at column 2; allowed: r, t",
    ),
    "an unknown state in a loss": (
        lambda: make(objective=Objective("prey*pray", at=[1.0])),
        "loss: unknown name 'pray'",
    ),
    "an unknown state that is the loss": (lambda: make(objective=Objective("pray", at=[1.0])), "did you mean 'prey'"),
    "an unknown state in a read-out": (
        lambda: make(objective=observed(readout=["prey", "pray"])),
        "readout state: got 'pray'.*did you mean 'prey'",
    ),
    "a memory that is too small": (
        lambda: ctrnn.gradient(make(objective=observed()), ctrnn.Adjoint("checkpoint", memory=10)),
        "memory: got 10; allowed: at least .* bytes",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_by_name(what):
    call, message = BAD[what]
    with pytest.raises(UsageError, match=message):
        call()


@pytest.mark.parametrize("solver", ["tsit5", "kvaerno5", "scipy:LSODA"])
@pytest.mark.parametrize("call", [simulate, ctrnn.gradient, ctrnn.fit], ids=lambda f: f.__name__)
def test_a_field_that_is_nan_at_some_t_says_where(solver, call):
    """The last good time is 0.5, to the step that a solver takes there."""
    with pytest.raises(SolverError) as caught:
        call(ends_at_half(), solver=solver)
    assert 0.4 < caught.value.t <= 0.5 and "last good t = " in str(caught.value) and "Try: " in str(caught.value)


def test_a_singular_newton_matrix_is_told():
    """Of fixed steps an error; adaptive ones go around it."""
    for call in (simulate, ctrnn.gradient, ctrnn.hessian):
        with pytest.raises(
            SolverError, match="Newton's method does not converge in a stage; last good t = 0, step h = 1"
        ):
            call(stays(), solver="kencarp4", dt=1.0)
    assert simulate(stays(), solver="kencarp4").r[-1, 0] == pytest.approx(np.exp(4.0), rel=1e-6)
    with pytest.raises(SingularJacobianError, match="Jacobian where Newton stopped .* is singular"):
        ctrnn.find_equilibrium(Equations({"r": "r**2 + 1"}), [0.0])


def test_a_gradient_that_is_zero_where_the_loss_is_not_is_warned_of():
    import torch

    flat = make(objective=Objective(lambda o: torch.sign(o).sum(), at=[1.0]))
    with pytest.warns(ZeroGradientWarning, match="the loss is 2 and its gradient exactly zero"):
        assert not ctrnn.gradient(flat).vector.any()
    perfect = make(objective=observed())
    target = simulate(perfect, save_at=[0.5, 1.0]).r
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ctrnn.gradient(perfect.replace(objective=observed(target=target))).loss == 0.0  # no less can be had


def test_a_fit_to_what_it_cannot_change_is_refused():
    start_alone = make(objective=Objective(target=[[5.0, 5.0]], at=[0.0]))
    with pytest.raises(ConvergenceError, match="fit cannot begin: .* gradient is exactly zero at the start"):
        ctrnn.fit(start_alone)


ON_THE_COMMAND_LINE = {  # --set ... -> exit code, and what the message says
    "a parameter that is NaN": (["field.parameters.k=nan"], 2, "field.parameters.k: got nan; allowed: a finite number"),
    "a wrong shape": (["problem.r0=[1.0, 2.0]"], 2, "problem.r0: got '2 numbers'; allowed: 1 number"),
    "a target of a wrong shape": (["objective.target=[[1.0, 2.0]]"], 2, "objective.target: got '2 columns'"),
    "times that are not in order": (
        ["objective.at=[0.8, 0.5]", "objective.target=[1.0, 2.0]"],
        2,
        "objective.at: got '0.8 followed by 0.5'",
    ),
    "a target after the end": (["objective.at=[2.0]"], 2, "objective.at: got 2.0; allowed: times from 0 to 1"),
    "a dead loss": (['objective={loss="sign(r)", at=[1.0]}'], 2, "objective.loss: got 'sign(r)'"),
    "a dead weight": (["objective.weight=0.0"], 2, "objective.weight: got '0 at every time'"),
    "an unknown state": (['field.equations.r="-k*q"'], 2, "field.equations.r: unknown name 'q'"),
    "an unknown state in the loss": (['objective={loss="q**2", at=[1.0]}'], 2, "objective.loss: unknown name 'q'"),
    "a singular Newton matrix": (
        ["field.parameters.k=-4.0", 'solver={name="kencarp4", dt=1.0}'],
        1,
        "Newton's method does not converge in a stage; last good t = 0",
    ),
    "a field that is NaN": (['field.equations.r="-k*r*sqrt(0.5 - t)"'], 1, "last good t = 0.5"),
    "a memory that is too small": (
        ['gradient.method={name="adjoint-checkpoint", memory=10}'],
        2,
        "gradient.method.memory: got 10; allowed: at least",
    ),
}

DECAY = """\
[field]
kind = "equations"
equations = { r = "-k*r" }
parameters = { k = 2.0 }
[problem]
r0 = { r = 3.0 }
t_span = [0.0, 1.0]
[objective]
target = [1.5]
at = [1.0]
"""


@pytest.mark.parametrize("what", ON_THE_COMMAND_LINE)
def test_bad_input_on_the_command_line_is_one_message(what, tmp_path, monkeypatch, capsys):
    from ctrnn.cli import main
    from ctrnn.kernels import notice

    monkeypatch.setattr(notice, "_said", True)  # of a wait, where the cache is empty
    monkeypatch.chdir(tmp_path)
    (tmp_path / "decay.toml").write_text(DECAY, encoding="utf-8")
    changes, code, message = ON_THE_COMMAND_LINE[what]
    arguments = [word for change in changes for word in ("--set", change)]
    assert main.run(["gradient", "decay.toml", *arguments]) == code
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err and err.startswith("error: ")


def test_a_memory_that_is_enough_is_used_on_the_command_line(tmp_path, monkeypatch, capsys):
    from ctrnn.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "decay.toml").write_text(DECAY, encoding="utf-8")
    method = '{name="adjoint-checkpoint", memory=1000000}'
    assert main.run(["gradient", "decay.toml", "--set", f"gradient.method={method}"]) == 0
    assert "checkpoint" in capsys.readouterr().out


# --- to another process and back


LORENZ = {"x": "s*(y - x)", "y": "x*(r - z) - y", "z": "x*y - b*z"}


@pytest.mark.parametrize(
    ("events", "objective"),
    [
        ((), Objective("x*z")),
        ((), Objective(target=[[1.0, 2.0, 3.0]], at=[1.0])),
        ([ctrnn.Event("z - 20", reset={"y": "-y"})], Objective("x*z")),
        ([ctrnn.Event("z - 20")], ctrnn.EventObjective("t")),
    ],
)
def test_problems_and_gradients_travel(events, objective):
    field = Equations(LORENZ, parameters={"s": 10.0, "r": 28.0, "b": 8 / 3})
    problem = Problem(field, [1.0, 1.0, 1.0], (0.0, 2.0), objective=objective, events=events)
    here, there = (ctrnn.gradient(p) for p in (problem, pickle.loads(pickle.dumps(problem))))
    assert there.loss == here.loss != 0.0
    assert there.vector.tobytes() == here.vector.tobytes()
    again = pickle.loads(pickle.dumps(here))
    assert again.labels() == ["s", "r", "b"]
    assert repr(again) == repr(here)


def test_what_runs_share_is_not_what_they_change():
    """Two bounds of one problem have their own numbers; a changed copy of a field that ran has its own, too."""
    field = RateNetwork(3, inputs=1, seed=0)
    problem = Problem(field, 0.1, (0.0, 1.0), x=inputs.Sine(1.0))
    before = simulate(problem, save_at=[1.0]).r
    one, two = problem.bind(), problem.bind()
    for part in ("ctx", "w"):
        assert not np.shares_memory(getattr(one.system, part), getattr(two.system, part))
        assert not np.shares_memory(one.keep[0], two.keep[0])
    one.system.w[:] = 0.0
    assert simulate(problem, save_at=[1.0]).r.tobytes() == before.tobytes()
    changed = field.with_parameters(b=[1.0, 0.0, 0.0])
    again = RateNetwork(3, inputs=1, seed=0).with_parameters(b=[1.0, 0.0, 0.0])
    here, there = (simulate(problem.replace(field=f), save_at=[1.0]).r for f in (changed, again))
    assert here.tobytes() == there.tobytes() != before.tobytes()
    travelled = pickle.loads(pickle.dumps(problem))
    assert simulate(travelled, save_at=[1.0]).r.tobytes() == before.tobytes()


@pytest.mark.parametrize(
    "travel", [lambda field: field, copy.deepcopy, lambda field: pickle.loads(pickle.dumps(field))]
)
def test_the_numbers_of_a_field_do_not_change(travel):
    """What was bound once is not looked at again: an array that could be written to would be heard no more."""
    field = travel(RateNetwork(3, seed=0, tau=[1.0, 2.0, 3.0], mask=np.ones((3, 3)), dale=[1, 1, -1]))
    for array in (field.parameters["W"], field.parameters["b"], field.tau, field.mask, field.dale):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_another_field_of_the_same_names_goes_into_the_same_problem():
    """As if the problem had been made of it; a field of another kind, and one that events look at, are looked at
    again."""
    rng = np.random.default_rng(0)
    objective = Objective(target=rng.normal(size=(3, 2)), at=[0.5, 1.0, 2.0])
    x = inputs.Pulse(0.3, 0.4, 1.0)
    field = RateNetwork(2, inputs=1, seed=0)
    problem = Problem(field, [0.1, 0.2], (0.0, 2.0), x, objective)
    ctrnn.gradient(problem, solver="rk4", dt=0.1)
    changed = field.with_parameters(W=rng.normal(size=(2, 2)))
    made, replaced = Problem(changed, [0.1, 0.2], (0.0, 2.0), x, objective), problem.replace(field=changed)
    for options in ({"solver": "rk4", "dt": 0.1}, {"solver": "tsit5"}):
        one, two = (ctrnn.gradient(p, "adjoint", **options) for p in (made, replaced))
        assert one.vector.tobytes() == two.vector.tobytes()
    assert replaced.course is problem.course
    assert problem.field is field
    replaced.r0[:] = 7.0
    np.testing.assert_array_equal(problem.r0, [0.1, 0.2])
    other = Equations({"r0": "-r0 + x0", "r1": "-r1"}, inputs=("x0",))
    assert problem.replace(field=other).course is not problem.course
    with pytest.raises(UsageError, match="field"):
        problem.replace(field=3)
    decay = Equations({"r": "-k*r"}, {"k": 1.0})
    bouncing = Problem(decay, [1.0], (0.0, 2.0), events=[ctrnn.Event("r - k/4", reset={"r": "1"})])
    faster = decay.with_parameters(k=2.0)
    again = Problem(faster, [1.0], (0.0, 2.0), events=[ctrnn.Event("r - k/4", reset={"r": "1"})])
    assert simulate(bouncing.replace(field=faster)).r.tobytes() == simulate(again).r.tobytes()


def test_functions_of_t_keep_what_they_raise_to_their_own_run():
    problem = Problem(RateNetwork(1, inputs=1, seed=0), 0.1, (0.0, 1.0), x=lambda t: 1 / 0)
    one, two = problem.bind(), problem.bind()
    with pytest.raises(ZeroDivisionError):
        simulate(problem)
    assert one.keep[1].callbacks[0].pending is not two.keep[1].callbacks[0].pending


class Changing:
    """A number that has a hash and changes in place, as a torch.Tensor does."""

    value = 1e-4

    def __array__(self, dtype=None, copy=None):
        return np.array(self.value, dtype=dtype)


def test_settings_are_made_once_for_the_same_numbers_and_never_for_arrays():
    numbers = ("tsit5", 1e-6, 1e-8, None, 100, 0.0)
    assert Settings.of(*numbers) is Settings.of(*numbers)
    assert Settings.of("tsit5", 1, 1e-8, None, 100, 0.0).rtol.__class__ is float
    atol = np.array([1e-8, 1e-9])
    one = Settings.of("tsit5", 1e-6, atol, None, 100, 0.0)
    atol[0] = 1e-3
    two = Settings.of("tsit5", 1e-6, atol, None, 100, 0.0)
    assert two.tolerances(2)[1][0] == 1e-3
    assert one is not two
    with pytest.raises(UsageError, match="rtol"):
        Settings.of("tsit5", -1.0, 1e-8, None, 100, 0.0)
    tensor = Changing()
    assert Settings.of("tsit5", 1e-6, tensor, None, 100, 0.0).tolerances(2)[1][0] == 1e-4
    tensor.value = 1e-9
    assert Settings.of("tsit5", 1e-6, tensor, None, 100, 0.0).tolerances(2)[1][0] == 1e-9


@pytest.mark.parametrize(
    "error",
    [
        UsageError("a", given=1, allowed="b", hint="c"),
        EventError("no event", 1.0, [1.0, 2.0], "another"),
        DivergenceError("gone", t=1.0, r=[1.0], h=0.1, hint="a smaller dt"),
        SingularJacobianError(1e17, "J", "another start"),
    ],
)
def test_errors_come_back_from_another_process_with_what_they_say(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.__dict__.keys() == error.__dict__.keys()


# --- tables with names


class Frame:
    """What pandas and polars tables have in common."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, np.array(rows, dtype=float)

    def __array__(self, dtype=None, copy=None):
        return self.rows.astype(dtype or float)


class Series(Frame):
    """A series of pandas: the names belong to its entries."""

    def __init__(self, **entries):
        self.entries, self.rows = entries, np.array(list(entries.values()), dtype=float)

    def keys(self):
        return self.entries.keys()

    def to_numpy(self):
        return self.rows


def test_names_of_states_are_not_lost_in_tables():
    """A table whose columns stand in another order was read by position, in silence."""
    field = ctrnn.Equations({"prey": "a*prey - prey*pred", "pred": "prey*pred - b*pred"}, {"a": 1.0, "b": 2.0})
    for given in (Series(prey=3.0, pred=4.0), Series(pred=4.0, prey=3.0)):
        assert ctrnn.Problem(field, given, (0.0, 1.0)).r0.tolist() == [3.0, 4.0]
    assert ctrnn.Problem(field, Series(u=3.0, v=4.0), (0.0, 1.0)).r0.tolist() == [3.0, 4.0]  # names of something else
    with pytest.raises(UsageError, match="pred has none"):
        ctrnn.Problem(field, Series(prey=3.0), (0.0, 1.0))
    rows = [[1.0, 2.0], [3.0, 4.0]]
    for columns in (["prey", "pred"], ["u", "v"]):
        objective = ctrnn.Objective(target=Frame(columns, rows), at=[0.5, 1.0])
        assert ctrnn.Problem(field, 1.0, (0.0, 1.0), objective=objective).objective.targets.tolist() == rows
        assert ctrnn.Problem(field, np.array(Frame(columns, rows)), (0.0, 1.0)).r0.tolist() == rows
    swapped = Frame(["pred", "prey"], rows)
    objective = ctrnn.Objective(target=swapped, at=[0.5, 1.0])
    with pytest.raises(UsageError, match="target.*pred, prey.*in this order"):
        ctrnn.Problem(field, 1.0, (0.0, 1.0), objective=objective)
    ctrnn.Problem(
        field, 1.0, (0.0, 1.0), objective=ctrnn.Objective(target=swapped, at=[0.5, 1.0], readout=["pred", "prey"])
    )
    with pytest.raises(UsageError, match="r0.*in this order"):
        ctrnn.Problem(field, swapped, (0.0, 1.0))
    with pytest.raises(UsageError, match="vector.*in this order"):
        field.with_vector(Series(b=2.0, a=1.0))
    assert field.with_vector(Series(a=3.0, b=2.0)).parameters["a"] == 3.0
    with pytest.raises(UsageError, match="r0.*in this order"):
        ctrnn.ensemble(ctrnn.Problem(field, 1.0, (0.0, 1.0)), r0=swapped)
    loss = ctrnn.Objective(target=rows, at=[0.5, 1.0])
    f = ctrnn.value_and_gradient(ctrnn.Problem(field, 1.0, (0.0, 1.0), objective=loss), solver="rk4", dt=0.1)
    with pytest.raises(UsageError, match="w.*in this order"):
        f(Series(b=2.0, a=1.0))
    assert f(Series(a=1.0, b=2.0))[0] == f([1.0, 2.0])[0]
