"""What is no number is not taken for one, and what cannot be used is refused by name, whatever it is."""

from __future__ import annotations

import datetime
import itertools
import time
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

import ctrnn
from ctrnn.cli import main as cli
from ctrnn.errors import CtrnnError, NotFiniteError, UnknownNameError, UsageError
from ctrnn.experiment.examples import examples_folder
from ctrnn.gradients.schedules.revolve import reruns
from ctrnn.names import position
from ctrnn.numbers import flag, generator, real_array, whole

EQUATIONS = {"r": "-k*r + u", "u": "r - u"}


@pytest.fixture(scope="module")
def field():
    return ctrnn.Equations(EQUATIONS, {"k": 1.0})


def problem(field, **changes):
    given = {"r0": [1.0, 0.5], "t_span": (0.0, 1.0), "objective": ctrnn.Objective(target=[[0.5, 0.5]], at=[1.0])}
    return ctrnn.Problem(field, **(given | changes))


NO_NUMBERS = {
    "masked": np.ma.masked_array([1.0, 2.0], [False, True]),
    "masks in a list": [[1.0, np.ma.masked]],
    "dates": np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[D]"),
    "spans": np.array([1, 2], dtype="timedelta64[s]"),
    "dates in a list": [datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)],
    "records": np.zeros(2, dtype=[("a", float)]),
    "text": ["0.1", "0.2"],
    "bytes": [b"1", b"2"],
    "complex": np.array([1.0 + 1.0j, 2.0]),
    "no value": [None, 1.0],
    "tensor of a graph": torch.ones(2, requires_grad=True),
    "beyond float64": [10**400, 1.0],
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_number_is_refused_wherever_numbers_are_read(field, kind):
    value = NO_NUMBERS[kind]
    calls = [
        lambda: problem(field, r0=value),
        lambda: problem(field, t_span=value),
        lambda: ctrnn.Equations({"r": "-r + sum(c)"}, {"c": value}),
        lambda: ctrnn.Objective(target=[[1.0], [2.0]], at=value),
        lambda: ctrnn.Objective(target=1.0, at=[0.0, 1.0], weight=value),
        lambda: ctrnn.inputs.Sampled([0.0, 1.0], value),
        lambda: ctrnn.inputs.Constant(value),
        lambda: ctrnn.simulate(problem(field), save_at=value),
        lambda: ctrnn.simulate(problem(field), rtol=value),
        lambda: field(0.0, value),
        lambda: field.with_vector(value),
        lambda: ctrnn.find_equilibrium(field, value),
        lambda: ctrnn.inverse.right_divide(value, np.diag([-1.0, -2.0])),
        lambda: ctrnn.analysis.fixed_points(field, [value]),
    ]
    for call in calls:
        with pytest.raises(UsageError):
            call()


def test_a_target_may_be_masked_and_nothing_else(field):
    target = np.ma.masked_array([[0.5, 7.0]], [[False, True]])
    masked = problem(field, objective=ctrnn.Objective(target=target, at=[1.0]))
    alone = problem(field, objective=ctrnn.Objective(target=[[0.5]], at=[1.0], readout=["r"]))
    assert ctrnn.gradient(masked).loss == pytest.approx(ctrnn.gradient(alone).loss, rel=1e-12)
    whole_array = np.ma.masked_array([1.0, 0.5], [False, False])  # nothing in it is masked
    assert problem(field, r0=whole_array).r0.tolist() == [1.0, 0.5]
    with pytest.raises(UsageError, match="r0: got 'masked values'; allowed: real numbers, none of them masked"):
        problem(field, r0=np.ma.masked_array([1.0, 0.5], [False, True]))


def test_the_message_says_what_was_given(field):
    with pytest.raises(UsageError, match=r"r0: got \['0.1', '0.2'\]; allowed: real numbers, not text"):
        problem(field, r0=["0.1", "0.2"])
    with pytest.raises(UsageError, match="t_span: .*not dates"):
        problem(field, t_span=NO_NUMBERS["dates"])
    with pytest.raises(UsageError, match=r"within ±1.8e308"):
        problem(field, r0=[10**400, 0.0])
    with pytest.raises(UsageError, match=r"r0: got a whole number of some 500\d digits"):
        problem(field, r0=10**5000)
    with pytest.raises(UsageError, match=r"dt: got '0.1'; allowed: a positive number"):
        ctrnn.simulate(problem(field), solver="rk4", dt="0.1")
    with pytest.raises(UsageError, match=r"detach"):
        problem(field, r0=torch.ones(2, requires_grad=True))


def test_numbers_of_other_kinds_are_numbers():
    given = [Fraction(1, 2), Decimal("0.25"), np.float32(0.5), True, 3, np.int8(2), torch.tensor(1.5)]
    assert [float(real_array("a", one)) for one in given] == [0.5, 0.25, 0.5, 1.0, 3.0, 2.0, 1.5]
    assert real_array("a", np.asfortranarray(np.ones((2, 3)))).flags.c_contiguous
    mine = np.ones(2)
    assert real_array("a", mine) is not mine and not np.shares_memory(real_array("a", mine), mine)
    with pytest.raises(UsageError, match="a: got"):
        real_array("a", float("1e400") * np.longdouble(1) if np.longdouble is np.float64 else 1j)


@pytest.mark.parametrize("count", [True, 2.0, "3", -1, 10**20, 2**63, float("nan"), np.timedelta64(3), None])
def test_counts_are_whole_numbers_that_fit(field, count):
    for call in (
        lambda: ctrnn.simulate(problem(field), max_steps=count),
        lambda: ctrnn.RateNetwork(count),
        lambda: ctrnn.fit(problem(field), max_iterations=count),
        lambda: ctrnn.TruncatedBPTT(window=count),
        lambda: ctrnn.inputs.Noise((0.0, 1.0), 0.1, 1.0, seed=0, size=count),
    ):
        with pytest.raises(UsageError):
            call()


def test_counts_seeds_and_flags_by_themselves():
    assert whole("n", np.int64(3)) == 3 and flag("a", np.bool_(True)) is True
    assert generator(None) is not None
    for wrong in (-1, 1.5, "0", [1]):
        with pytest.raises(UsageError, match="^seed"):
            generator(wrong)
    for wrong in (1, 0.0, None, np.ones(2), "yes"):
        with pytest.raises(UsageError, match="True or False"):
            flag("a", wrong)


@pytest.mark.parametrize("name", [["tanh"], np.array(["tanh", "relu"]), {"a": 1}, 3, 1.5, slice(None), np.zeros(0)])
def test_names_that_are_no_text_are_refused(field, name):
    for call in (
        lambda: ctrnn.RateNetwork(3, form=name),
        lambda: ctrnn.Objective(target=1.0, at=[1.0], missing=name),
        lambda: ctrnn.Adjoint(mode=name),
        lambda: ctrnn.gradient(problem(field), error_control=name),
        lambda: ctrnn.inputs.Sampled([0.0, 1.0], [1.0, 2.0], kind=name),
        lambda: ctrnn.fit(problem(field), robust=name),
        lambda: ctrnn.find_equilibrium(field, 0.0, method=name),
    ):
        with pytest.raises(UnknownNameError):
            call()


def test_batches_of_matrices_and_of_themselves_come_to_an_end(field):
    assert len(problem(field, r0=np.matrix([[1.0, 0.5], [0.5, 1.0]]))) == 2
    endless: list = []
    endless.append(endless)
    with pytest.raises(UsageError, match="batch inside a batch"):
        problem(field, r0=endless)


def test_steps_that_do_not_move_time_are_refused(field):
    for dt in (5e-324, 1e-17):
        with pytest.raises(UsageError, match="^dt: .*steps that move t"):
            ctrnn.simulate(problem(field), solver="rk4", dt=dt)
    with pytest.raises(UsageError, match="^dt"):
        ctrnn.inputs.Noise((0.0, 1.0), 5e-324, 1.0, seed=0)


def test_the_plan_of_a_trillion_steps_takes_no_time(field):
    costs = ctrnn.plan(problem(field), solver="rk4", dt=1e-12)
    assert costs.steps == 10**12
    # the formula is the count: r l − β(s+1, r−1) parts again, and l seen
    assert [reruns(4, 9, True), reruns(10, 3, True), reruns(1, 1, True), reruns(5, 1, True)] == [7, 25, 1, 15]


class Broken:
    def __repr__(self):
        raise KeyError("repr")

    def __array__(self, dtype=None, copy=None):
        raise LookupError("array")

    def __float__(self):
        raise OSError("float")


def test_objects_that_break_in_every_conversion_are_refused_all_the_same(field):
    with pytest.raises(UsageError, match="r0: got an object of type Broken"):
        problem(field, r0=Broken())
    with pytest.raises(UsageError):
        ctrnn.fit(problem(field), robust=Broken())


@pytest.mark.parametrize("method", ["adjoint", "rtrl", "adjoint-checkpoint", "auto"])
def test_a_gradient_that_explodes_says_so_with_the_time_and_the_growth(method):
    grows = ctrnn.Equations({"u": "a*u"}, {"a": 2.0})
    objective = ctrnn.Objective(target=[[0.0]], at=[368.0])  # u ends at 1e20, du/du0 = 1e320
    problem = ctrnn.Problem(grows, [1e-300], (0.0, 368.0), objective=objective)
    said = r"exploded, though the loss is finite: from t = 0 to t = 35[456]\S* .* 1e30[89] \(e-fold every 0\.5 units"
    for options in ({"atol": 0.0}, {"solver": "rk4", "dt": 0.05}):
        with pytest.raises(NotFiniteError, match=said):
            ctrnn.gradient(problem, method=method, **options)
    with pytest.raises(NotFiniteError, match="exploded"):
        ctrnn.gradient(ctrnn.Trials.of([problem, problem]), method=method, solver="rk4", dt=0.05)


def test_an_objective_that_is_not_finite_is_no_explosion():
    decay = ctrnn.Equations({"r": "-r"}, {"k": 1.0})
    problem = ctrnn.Problem(decay, [1.0], (0.0, 1.0), objective=ctrnn.Objective("log(r - 2)", at=[1.0]))
    with pytest.raises(NotFiniteError, match="it may take a logarithm or divide by 0"):
        ctrnn.gradient(problem)


def test_damaged_files_of_fits_and_fixed_points_are_refused(field, tmp_path):
    fitted = ctrnn.fit(problem(field), max_iterations=2)
    table = ctrnn.analysis.fixed_points(field, [[0.1, 0.1]])
    fitted.save(tmp_path / "fit.npz")
    table.save(tmp_path / "table.npz")
    loads = {
        "fit.npz": lambda path: ctrnn.learning.Fit.load(path, problem(field)),
        "table.npz": lambda path: ctrnn.analysis.FixedPoints.load(path, field),
    }
    for name, load in loads.items():
        whole_file = (tmp_path / name).read_bytes()
        arrays = dict(np.load(tmp_path / name))
        load(tmp_path / name)
        damaged = tmp_path / "damaged.npz"
        for size in (0, 10, len(whole_file) // 2, len(whole_file) - 30):
            damaged.write_bytes(whole_file[:size])
            with pytest.raises(UsageError):
                load(damaged)
        for key in arrays:
            np.savez(damaged, **{k: v for k, v in arrays.items() if k != key})
            if key.startswith(("told", "r0", "history", "names", "residual", "reached", "lost", "parameters")):
                with pytest.raises(UsageError):
                    load(damaged)
        with pytest.raises(UsageError, match="no such file"):
            load(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("option", ["lr", "weight_decay"])
def test_learners_take_numbers_that_float64_holds(option):
    with pytest.raises(UsageError, match=f"^{option}"):
        ctrnn.learning.OnlineLearner(ctrnn.RateNetwork(3, seed=0), dt=0.1, **{option: 10**5000})


def test_states_events_and_inputs_are_named_or_numbered_in_one_way(field):
    names = field.state_names
    assert [position("state", one, names) for one in ("r", 0, np.int64(1), -1, -2)] == [0, 0, 1, 1, 0]
    for wrong in (2, -3, True, 0.0, "x", None, [0], 10**400, np.timedelta64(0)):
        with pytest.raises(UnknownNameError, match="^state: got"):
            position("state", wrong, names)
    run = ctrnn.simulate(problem(field))
    falls = problem(field, objective=None, events=[ctrnn.Event("r - 0.9", name="low")])
    assert len(ctrnn.simulate(falls).events.of(-1)) == 1
    for call in (
        lambda: run[True],
        lambda: ctrnn.simulate(falls).events.of(1),
        lambda: ctrnn.analysis.nullclines(field, ((0, 1), (0, 1)), (0, 2)),
        lambda: ctrnn.plotting.portrait(field, ((0, 1), (0, 1)), states=(0, True)),
    ):
        with pytest.raises(UnknownNameError):
            call()
    with pytest.raises(UsageError, match="components: .*from 0 to 1"):
        ctrnn.plotting.projection(run, components=(0, 10**30))


@pytest.mark.parametrize("option", [{"weight_decay": 10**400}, {"clip": "1"}, {"dropout": {"W": np.nan}}])
def test_options_of_training_are_numbers(option):
    task = ctrnn.learning.tasks.adding(trials=2, steps=5)
    network, readout = ctrnn.RateNetwork(3, inputs=2, seed=0), ctrnn.Readout(np.ones((1, 3)), [0.0])
    with pytest.raises(UsageError, match=next(iter(option))):
        ctrnn.learning.train(network, task, readout=readout, epochs=1, **option)
    numbers = {"lr": np.float32(0.01), "clip": np.int64(1), "dropout": {"W": np.float16(0.5)}}
    done = ctrnn.learning.train(network, task, readout=readout, epochs=1, **numbers)
    assert np.isfinite(done.history["loss"]).all()


def end(**changes):
    """A decay with data."""
    given = {"objective": ctrnn.Objective(target=[[0.5]], at=[1.0])} | changes
    return ctrnn.Problem(ctrnn.Equations({"r": "-k*r"}, {"k": 1.0}), [1.0], (0.0, 1.0), **given)


ENDLESS: list = []
ENDLESS.append(ENDLESS)
J = [[-1.0, 5.0], [0.0, -2.0]]
BOX = ((-1.0, 1.0), (-1.0, 1.0))
DATA = ctrnn.learning.Dataset(np.zeros((3, 2, 1)), np.zeros((3, 2, 1)))
#: calls that campaigns found to end in something else than an answer or an error of ours
REFUSED = {
    "a lone surrogate": lambda f: ctrnn.Equations({"r": "\udcff"}),
    "a state that is no name": lambda f: problem(f, r0={0: 1.0, "u": 1.0}),
    "a span beyond squares": lambda f: ctrnn.analysis.continue_equilibria(f, [0.0, 0.0], "k", (0.5, 1e308), [0.0]),
    "a parameter of 5,000 digits": lambda f: ctrnn.ensemble(end(objective=None), {10**5000: [1.0]}),
    "an optimiser of 5,000 digits": lambda f: ctrnn.fit(end(), optimizer=10**5000),
    "pieces that are a time": lambda f: ctrnn.fit(end(), shooting=np.timedelta64(3, "s")),
    "steps beyond counting": lambda f: ctrnn.gradient(end(), "auto", solver="rk4", dt=5e-324),
    "no eigenvalues": lambda f: ctrnn.inverse.best_step([]),
    "eigenvalues without end": lambda f: ctrnn.inverse.best_step(ENDLESS),
    "an eigenvalue 0": lambda f: ctrnn.inverse.best_step([0.0, -1.0]),
    "a gain that is a table": lambda f: ctrnn.inverse.zhang(lambda t: -np.eye(2), (0.0, 1.0), dt=0.1, gain={}),
    "a tolerance that is a class": lambda f: ctrnn.inverse.zhang(lambda t: -np.eye(2), (0.0, 1.0), dt=0.1, tol=dict),
    "trials that are a generator": lambda f: ctrnn.inverse.device_noise([1.0], [[-1.0]], trials=iter([1])),
    "a seed that is a matrix": lambda f: ctrnn.inverse.device_noise([1.0], [[-1.0]], seed=np.matrix([[1.0]])),
    "bits that are masked": lambda f: ctrnn.inverse.word_length([1.0], [[-1.0]], fractions=[np.ma.masked]),
    "steps of no flow": lambda f: ctrnn.inverse.euler_flow(np.zeros(1), np.ones(1), -np.eye(1), 0.1, 0),
    "an ε that is a set": lambda f: ctrnn.analysis.pseudospectral_abscissa(J, {1.0}),
    "ragged states": lambda f: ctrnn.analysis.principal_components([[1.0], [1.0, 2.0]]),
    "a step as a text": lambda f: ctrnn.analysis.jacobian_products(end(objective=None), dt="1"),
    "a plane of no field": lambda f: ctrnn.analysis.nullclines(10**400, BOX),
    "attractors that are a number": lambda f: ctrnn.analysis.basins(f, BOX, x=[0.0], attractors=1e308),
    "starts that are a number": lambda f: ctrnn.analysis.lyapunov_spectra(end(objective=None), r0=0.5),
    "a map that leaves float64": lambda f: ctrnn.analysis.EulerMap(f, 1e308, x=[0.0]).cycles([[0.0, 0.0]]),
    "a tolerance of cycles as a text": lambda f: ctrnn.analysis.limit_cycle(end(objective=None), tol="1e-9"),
    "the Hessian of no field": lambda f: ctrnn.equilibrium_hessian(-(2**63), [0.0], [1.0]),
    "points that are a list": lambda f: ctrnn.one_phase(f, [0.0, 0.0], lambda r: r, 1.0, [0.0], points=[None]),
    "a tolerance that is infinite": lambda f: ctrnn.one_phase(f, [0.0, 0.0], lambda r: r, 1.0, [0.0], rtol=np.inf),
    "a task that is a list": lambda f: ctrnn.learning.tasks.make([np.nan]),
    "coordinates that are a number": lambda f: ctrnn.learning.tasks.lorenz(observed=np.longdouble(1)),
    "names that are a number": lambda f: ctrnn.learning.Dataset(
        np.zeros((1, 2, 1)), np.zeros((1, 2, 1)), input_names=1
    ),
    "a grid finer than memory": lambda f: ctrnn.simulate(
        end(objective=None), noise=ctrnn.WhiteNoise(0.1, dt=5e-324), solver="euler", dt=0.1
    ),
    "parameters that are a list": lambda f: ctrnn.TorchField(lambda t, r, w, x: -r, 1, parameters=[1.0]),
    "methods that are a slice": lambda f: ctrnn.compare_gradients(end(), slice(None)),
    "a level that is a list": lambda f: ctrnn.fit(end()).profile("k", [0.95]),
    "a quantity that is an array": lambda f: ctrnn.fit(end()).profile(np.zeros(2)),
    "y0 that is a number": lambda f: ctrnn.odeint(lambda t, y: -y, 1e-12, torch.arange(2.0), method="dopri5"),
    "an event that is a range": lambda f: ctrnn.odeint_event(
        lambda t, y: -y, torch.ones(1), torch.tensor(0.0), event_fn=range(3)
    ),
    "parameters that are a number": lambda f: ctrnn.odeint_adjoint(
        lambda t, y: -y, torch.ones(1), torch.arange(2.0), adjoint_params=Decimal("sNaN")
    ),
    "a figure into an array": lambda f: ctrnn.plotting.save(ctrnn.plotting.fit_history([1.0]), np.array([None])),
    "a history of tables": lambda f: ctrnn.plotting.fit_history([{1: 2}, 1.0]),
    "a run that is a number": lambda f: ctrnn.plotting.trajectory(np.float16(1)),
    "labels that are a function": lambda f: ctrnn.plotting.trajectory(ctrnn.simulate(end()), labels=lambda: None),
    "a portrait of no field": lambda f: ctrnn.plotting.phase_portrait(ctrnn.simulate(problem(f)), field={1.0}),
    "points that are a tensor": lambda f: ctrnn.plotting.portrait(f, BOX, x=[0.0], points=torch.ones(1)),
    "branches that are a table": lambda f: ctrnn.plotting.bifurcation_diagram({1: 2}),
    "a cycle that is a table": lambda f: ctrnn.plotting.cycle({1: 2}),
    "ragged eigenvalues": lambda f: ctrnn.plotting.spectrum([1.0, [2.0]]),
    "no levels": lambda f: ctrnn.inverse.device_noise([1.0], [[-1.0]], levels=[]),
    "an eigenvalue whose inverse is infinite": lambda f: ctrnn.inverse.best_step([-5e-324]),
    "times beyond e^(Jt)": lambda f: ctrnn.analysis.transient_growth([[1.0]], [0.0, 1e308]),
    "a decay slower than float64": lambda f: ctrnn.analysis.transient_growth([[-1e-308]]),
    "variances beyond float64": lambda f: ctrnn.analysis.principal_components([[1e200], [0.0]]),
    "coordinates of another plane": lambda f: ctrnn.analysis.principal_components([[1.0, 0.0], [0.0, 2.0]]).back(
        [1.0] * 3
    ),
    "a state that is squared": lambda f: ctrnn.analysis.continue_equilibria(f, 1e200, "k", (0.5, 2.0), [0.0]),
    "a Jacobian that is infinite": lambda f: ctrnn.find_equilibrium(ctrnn.Equations({"r": "sqrt(r) - r"}), [0.0]),
    "exponents of an infinite Jacobian": lambda f: ctrnn.analysis.lyapunov_spectrum(
        ctrnn.Problem(ctrnn.Equations({"r": "sqrt(r)"}), [0.0], (0.0, 1.0))
    ),
    "a sine of no channels": lambda f: ctrnn.inputs.Sine([]),
    "a pulse of no channels": lambda f: ctrnn.inputs.Pulse(0.0, 1.0, []),
    "events that are a text": lambda f: problem(f, events=""),
    "a flag that is a text": lambda f: ctrnn.ensemble(end(objective=None), {"k": [1.0]}, allow_failures="no"),
    "a spread of no starts": lambda f: ctrnn.fit(end(), spread="wide"),
    "a seed of no starts": lambda f: ctrnn.fit(end(), seed=-1),
    "names that are numbers": lambda f: ctrnn.learning.Dataset(np.zeros((2, 1)), np.zeros((2, 1)), input_names=[1]),
    "a delay that never ends": lambda f: ctrnn.learning.tasks.mackey_glass(trials=1, steps=5, tau=1e-300),
    "rates beyond counting": lambda f: ctrnn.learning.tasks.mackey_glass(trials=1, steps=5, beta=1e308),
    "frequencies that are one": lambda f: ctrnn.learning.tasks.sine(trials=1, steps=5, frequencies=np.array(1.0)),
    "a function that gives nothing": lambda f: ctrnn.odeint_adjoint(
        lambda t, y: None, torch.ones(2), torch.arange(2.0)
    ),
    "an event that gives nothing": lambda f: ctrnn.odeint_event(
        lambda t, y: -y, torch.ones(1), torch.tensor(0.0), event_fn=lambda t, y: None
    ),
    "no times": lambda f: ctrnn.odeint_adjoint(lambda t, y: -y, torch.ones(1), []),
    "options that are numbered": lambda f: ctrnn.odeint_adjoint(
        lambda t, y: -y, torch.ones(1), torch.arange(2.0), method="dopri5", options={1: 2}
    ),
    "tolerances of another state": lambda f: ctrnn.odeint_adjoint(
        lambda t, y: -y,
        torch.ones(2),
        torch.arange(2.0),
        rtol=[1e-3] * 3,
        method="dopri5",
        options={"norm": torch.norm},
    ),
    "occurrences beyond counting": lambda f: ctrnn.EventObjective("t", occurrences=2**63),
    "times that are a block": lambda f: ctrnn.plotting.trajectory(
        ctrnn.simulate(end()), data=[np.zeros((2, 2, 2)), np.zeros((2, 1))]
    ),
    "steps of a comparison": lambda f: ctrnn.compare_gradients(end(), ["adjoint"], solver="rk4", dt=5e-324),
    "a flow that cannot begin": lambda f: ctrnn.one_phase(f, [1e308, -1e308], lambda r: r, 3.0, [0.0]),
    "learners of no loss": lambda f: ctrnn.learning.compare_learners(
        ctrnn.RateNetwork(2, seed=0), None, np.ones((3, 1)), ["rflo"], readout="r0", dt=0.1, weight=0.0
    ),
    "a phase that ends at a pole": lambda f: ctrnn.equilibrium_propagation(
        ctrnn.Equations({"r": "tan(r) - 1"}), [0.5], lambda r: r
    ),
    "trials that are broken numbers": lambda f: DATA.take([0.5, 1.2]),
    "trials that are truth values": lambda f: DATA.take([True, False, True]),
    "trials that are not there": lambda f: DATA.take([3]),
    "trials that are masked": lambda f: DATA.take(np.ma.masked_array([0, 1], [True, False])),
    "trials of a task that are masked": lambda f: ctrnn.learning.tasks.adding(trials=3, steps=5).trials(
        np.ma.masked_array([0, 1], [True, False])
    ),
    "lengths that are masked": lambda f: ctrnn.nn.CTRNN(1, 3, dt=0.1)(
        torch.zeros(2, 5, 1), lengths=np.ma.masked_array([1, 2], [True, False])
    ),
    "a place that is a text": lambda f: ctrnn.analysis.continue_equilibria(f, 0.0, "k", (0.5, 2.0), [0.0]).at("x"),
    "an error that is a text": lambda f: ctrnn.inverse.word_length([1.0], [[-1.0]], fractions=[8]).needed("x"),
    "settings without end": lambda f: ctrnn.inverse.word_length([1.0], [[-1.0]], fractions=itertools.count()),
    "a time that points do not divide": lambda f: ctrnn.one_phase(f, 0.0, lambda r: r, 5e-324, [0.0]),
    "residuals beyond float64": lambda f: ctrnn.fit(end(), shooting=[0.5], sigma=5e-324),
    "a solver that takes no event": lambda f: ctrnn.odeint_event(
        lambda t, y: -y, torch.ones(1), torch.tensor(0.0), event_fn=lambda t, y: y, odeint_interface=lambda *a: None
    ),
    "labels that are a float": lambda f: ctrnn.plotting.sensitivities([0.0], np.zeros((1, 1, 1)), np.longdouble(1)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_campaigns_found_is_refused(field, what):
    with pytest.raises(CtrnnError) as caught:
        REFUSED[what](ctrnn.Equations(EQUATIONS | {"r": "-k*r + u + x"}, {"k": 1.0}, ["x"]))
    assert str(caught.value)


def test_a_tolerance_of_zero_warns_of_no_division():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = ctrnn.gradient(end(), rtol=0.0, atol=1e-9)
    assert found.parameters["k"] == pytest.approx(-np.exp(-1.0) * (np.exp(-1.0) - 0.5), rel=1e-6)


def test_a_gain_of_minus_zero_is_zero():
    assert not ctrnn.RateNetwork(3, gain=-0.0).parameters["W"].any()


@pytest.mark.parametrize("line", ["tau = []", "shooting = {}"])
def test_empty_lists_and_tables_in_experiments_are_refused_at_their_key(tmp_path, capsys, line):
    name = "limit-cycle" if line.startswith("tau") else "hare-lynx-posterior"
    text = (examples_folder() / f"{name}.toml").read_text(encoding="utf-8")
    key = line.partition(" ")[0]
    lines = [line if one.replace(" ", "").startswith(f"{key}=") else one for one in text.splitlines()]
    assert line in lines
    (tmp_path / "x.toml").write_text("\n".join(lines), encoding="utf-8")
    for file in examples_folder().glob("*.csv"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert cli.run(["plan", str(tmp_path / "x.toml")]) == 2
    assert key in capsys.readouterr().err


def test_a_relaxation_that_would_take_for_ever_ends():
    field = ctrnn.Equations({"r": "-r + w*r + b"}, {"w": 0.5, "b": 1.0})
    with pytest.raises(ctrnn.errors.TooManyStepsError, match="shorter duration"):
        ctrnn.one_phase(field, [0.0], lambda r: [1.0], duration=1e308)


@pytest.mark.parametrize("kind", ["masked", "dates", "complex", "text"])
@pytest.mark.parametrize("what", ["x", "y", "weight"])
def test_trials_are_numbers_none_of_them_masked(kind, what):
    value = np.asanyarray(NO_NUMBERS[kind])
    given = {"x": np.zeros((2, 1)), "y": np.zeros((2, 1)), "weight": np.ones(2)}
    given[what] = value if what == "weight" else value[:, None]
    for one in (given, {name: [v] for name, v in given.items()}):  # an array, and an array a trial
        with pytest.raises(UsageError, match=f"^{what} of trial 0: got"):
            ctrnn.learning.Dataset(**one)
    with pytest.raises(UsageError, match=f"^{what} of trial 0: got"):
        ctrnn.learning.train(ctrnn.RateNetwork(2, inputs=1, seed=0), given, readout=ctrnn.Readout([[1.0, 0.0]]))


def test_messages_are_lines():
    for value in (np.array([["a"], ["b"]]), np.zeros((2, 1)), "a\nb"):
        assert "\n" not in str(UsageError("x", given=value))


TRAIN = {
    "loss": ["0.5", 10**5000, Broken(), lambda o, y: torch.zeros(len(o), dtype=torch.float64)],
    "dt": [Decimal("sNaN"), "0.1"],
    "dropout": [np.zeros(2), "", Broken(), 0],
    "parameters": [np.zeros((2, 2)), np.matrix([[1.0]]), [None]],
    "validation": [10**400, Decimal("sNaN")],
    "teacher_forcing": [Decimal("sNaN"), 10**400],
}


@pytest.mark.parametrize(("option", "k"), [(name, k) for name, every in TRAIN.items() for k in range(len(every))])
def test_what_training_cannot_use_is_refused_by_name(option, k):
    trials = np.zeros((2, 3, 1)), np.ones((2, 3, 1))
    network, readout = ctrnn.RateNetwork(2, inputs=1, seed=0), ctrnn.Readout([[1.0, 0.0]])
    with pytest.raises(UsageError, match=f"^{option}"):
        ctrnn.learning.train(network, trials, readout=readout, epochs=1, **{option: TRAIN[option][k]})


def test_steps_of_training_and_noise_of_tasks_are_numbers_of_any_kind():
    trials = np.zeros((2, 3, 1)), np.ones((2, 3, 1))
    network, readout = ctrnn.RateNetwork(2, inputs=1, seed=0), ctrnn.Readout([[1.0, 0.0]])
    losses = {
        ctrnn.learning.train(network, trials, readout=readout, epochs=1, dt=dt).history["loss"][0]
        for dt in (0.25, np.float16(0.25), Fraction(1, 4), Decimal("0.25"))
    }
    assert len(losses) == 1
    tasks = [ctrnn.learning.tasks.context_decision(trials=1, noise=noise).x for noise in (0.5, Decimal("0.5"))]
    assert (tasks[0] == tasks[1]).all()


def test_pauses_of_a_long_delay_take_no_memory():
    s = ctrnn.learning.tasks.mackey_glass(trials=1, steps=3, tau=1e12)
    assert np.isfinite(s.x).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_measures_of_a_matrix_scale_with_it(scale):
    J, analysis = np.array([[-1.0, 5.0], [0.5, -2.0]]), ctrnn.analysis
    for measure in (analysis.numerical_abscissa, analysis.henrici_number, ctrnn.inverse.best_step):
        of = (lambda M: np.linalg.eigvals(M)) if measure is ctrnn.inverse.best_step else (lambda M: M)
        power = -1 if measure is ctrnn.inverse.best_step else 1
        assert measure(of(J * scale)) * scale**-power == pytest.approx(measure(of(J)), rel=1e-12)
    found = analysis.pseudospectral_abscissa(J * scale, 0.1 * scale) / scale
    assert found == pytest.approx(analysis.pseudospectral_abscissa(J, 0.1), rel=1e-12)
    assert analysis.henrici_number(J * scale, relative=True) == pytest.approx(analysis.henrici_number(J, relative=True))
    assert analysis.participation_ratio(J * scale) == pytest.approx(analysis.participation_ratio(J), rel=1e-12)
    split, usual = analysis.linear_subspaces(J * scale), analysis.linear_subspaces(J)
    assert np.allclose(split.eigenvalues / scale, usual.eigenvalues, rtol=1e-12)


#: fields at whose poles, or beside whose flat places, searches went on for ever or broke off
POLES = [("tan(r) - 1", 0.5), ("-1/r - r + 1", 0.5), ("-1e308*r + 1", 0.0), ("0*r + 1", 0.5), ("sqrt(r) - r", 0.0)]


@pytest.mark.parametrize(("rate", "r0"), POLES)
def test_searches_end_at_poles_and_flat_places(rate, r0):
    field = ctrnn.Equations({"r": rate})
    for search in (
        lambda: ctrnn.find_equilibrium(field, [r0]),
        lambda: ctrnn.find_equilibrium(field, [r0], method="relaxation"),
        lambda: ctrnn.analysis.fixed_points(field, [[r0]], slow=True),
    ):
        began = time.process_time()
        try:
            found = search()
            assert np.isfinite(found.r).all()
        except CtrnnError as error:
            assert str(error)
        assert time.process_time() - began < 10.0
