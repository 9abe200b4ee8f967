"""Rules of learning side by side: the gradients of windows, against those of problems that see the window alone."""

from __future__ import annotations

import csv
import time

import numpy as np
import pytest

import ctrnn
from ctrnn import Objective, Problem, RateNetwork, Readout, Sketch, gradient
from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.gradients.rules.exact import ExactRule
from ctrnn.gradients.rules.rule import Rule
from ctrnn.learning import LearnerComparison, OnlineLearner, compare_learners, tasks

T, N = 60, 5


@pytest.fixture(scope="module")
def data():
    x = np.random.default_rng(3).normal(size=(T, 1))
    return x, np.tanh(np.roll(x, 1, axis=0))


@pytest.fixture(scope="module")
def network():
    return RateNetwork(N, inputs=1, gain=1.3, seed=1)


READOUT = Readout(np.random.default_rng(4).normal(size=(1, N)))
RULES = ["snap-1", "rflo", "uoro", "kf-rtrl", Sketch(2), "tbptt"]


def windows(network, data, method, size, **options):
    """Gradients of the losses of each window, of problems from the start."""
    x, y = data
    found = []
    for first in range(0, T, size):
        last = min(first + size, T)
        at = np.arange(first + 1.0, last + 1.0) * 0.5
        objective = Objective(target=y[first:last], at=at, readout=READOUT)
        signal = ctrnn.inputs.Sampled(0.5 * np.arange(last), x[:last])
        problem = Problem(network, np.full(N, 0.1), (0.0, 0.5 * last), x=signal, objective=objective)
        found.append(gradient(problem, method, solver="euler", dt=0.5).vector)
    return np.array(found)


def test_windows_are_those_of_problems_that_see_them_alone(network, data):
    """Cosine and relative error of SnAp-1, a sketch and truncated BPTT, from gradients of their own, to 1e-9."""
    methods = ["snap-1", Sketch(2), ctrnn.TruncatedBPTT(window=4)]
    found = compare_learners(network, *data, methods, readout=READOUT, dt=0.5, r0=0.1, window=25)
    exact = windows(network, data, "adjoint", 25)
    assert found.step.tolist() == [25, 50, 60] and np.allclose(found.t, [12.5, 25.0, 30.0])
    for i, method in enumerate(methods, start=1):
        g = windows(network, data, method, 25)
        error = np.linalg.norm(g - exact, axis=1) / np.linalg.norm(exact, axis=1)
        cosine = (g * exact).sum(axis=1) / np.linalg.norm(g, axis=1) / np.linalg.norm(exact, axis=1)
        np.testing.assert_allclose(found.relative_error[i], error, rtol=1e-9)
        np.testing.assert_allclose(found.cosine[i], cosine, rtol=1e-12)
        assert error.max() > 1e-4
    np.testing.assert_array_equal(found.relative_error[0], 0.0)
    np.testing.assert_allclose(found.cosine[0], 1.0, rtol=1e-14)


def test_weights_that_move_are_those_of_the_exact_learner(network, data):
    """The losses are those of an OnlineLearner by exact RTRL, to the bit; they are others with frozen weights."""
    options = {"readout": READOUT, "dt": 0.5, "r0": 0.1}
    alone = OnlineLearner(network, "rtrl", lr=0.01, **options).run(*data, record_every=20).loss
    found = compare_learners(network, *data, RULES, weights="exact", lr=0.01, window=20, **options)
    np.testing.assert_array_equal(found.loss, alone)
    frozen = compare_learners(network, *data, RULES, window=20, **options)
    assert abs(frozen.loss / found.loss - 1).max() > 0.01
    assert (frozen.relative_error[1:-1] > 0.01).all() and frozen.relative_error[-1, 1:].min() > 1e-9  # 32 steps back
    assert np.isfinite(found.cosine).all()


def test_rules_do_not_disturb_each_other(network, data):
    options = {"readout": READOUT, "dt": 0.5, "window": 15, "weights": "exact", "seed": 7}
    few = compare_learners(network, *data, ["uoro", "snap-1"], **options)
    many = compare_learners(network, *data, ["uoro", "snap-1", "kf-rtrl", "sketch"], **options)
    np.testing.assert_array_equal(few.relative_error, many.relative_error[:3])
    other = compare_learners(network, *data, ["uoro"], **{**options, "seed": 8})
    assert (other.cosine[1] != few.cosine[1]).all()


def test_more_rank_is_nearer_and_what_is_exact_is_exact(network, data):
    rules = [Sketch(1), Sketch(3), Sketch(7), ctrnn.TruncatedBPTT(window=T)]
    found = compare_learners(network, *data, rules, readout=READOUT, dt=0.5, window=20)
    one, three, seven, whole = found.relative_error[1:]
    assert (three < 0.5 * one).all() and seven.max() < 1e-11 and whole.max() < 1e-11
    assert (found.bound[1] > found.bound[2]).all() and np.isnan(found.bound[4]).all()


def test_a_table_of_options_is_the_rule_that_it_describes(network, data):
    """As an OnlineLearner takes them; two tables are two rules."""
    tables = [{"name": "sketch", "rank": 3}, {"name": "tbptt", "window": 4}]
    options = {"readout": READOUT, "dt": 0.5, "window": 20}
    by_table = compare_learners(network, *data, ["snap-1", *tables], **options)
    by_object = compare_learners(network, *data, ["snap-1", Sketch(3), ctrnn.TruncatedBPTT(window=4)], **options)
    assert by_table.methods == by_object.methods
    np.testing.assert_array_equal(by_table.relative_error, by_object.relative_error)
    with pytest.raises(UsageError, match="each rule once"):
        compare_learners(network, *data, [tables[0], tables[0]], **options)


def test_lanes_and_resets():
    """Lanes are summed up, and a reset begins a run anew, as in problems of their own."""
    task = tasks.adding(trials=6, steps=10, seed=0)
    stream, network = task.stream(lanes=3), RateNetwork(N, inputs=2, seed=2, form="rate")
    options = {"readout": READOUT, "window": 10}
    found = compare_learners(
        network, stream.x, stream.y, ["snap-1"], weight=stream.weight[:, 0], reset_every=10, **options
    )
    same = compare_learners(
        network, stream.x, stream.y, ["snap-1"], weight=stream.weight, reset_every=stream.start, **options
    )
    np.testing.assert_array_equal(found.relative_error, same.relative_error)
    for k in range(2):
        g = []
        for method in ("adjoint", "snap-1"):
            total = 0.0
            for x, y, _ in task.trials(range(3 * k, 3 * k + 3)):
                objective = Objective(target=y[-1:], at=[10.0], readout=READOUT)
                signal = ctrnn.inputs.Sampled(np.arange(10.0), x)
                problem = Problem(network, np.zeros(N), (0.0, 10.0), x=signal, objective=objective)
                total = total + gradient(problem, method, solver="euler", dt=1.0).vector
            g.append(total)
        error = np.linalg.norm(g[1] - g[0]) / np.linalg.norm(g[0])
        assert found.relative_error[1, k] == pytest.approx(error, rel=1e-9) and error > 0.01


def test_a_window_without_a_loss_is_not_known(network, data):
    weight = np.r_[np.ones(20), np.zeros(20), np.ones(20)]
    found = compare_learners(network, *data, ["snap-1"], readout=READOUT, dt=0.5, window=20, weight=weight)
    assert np.isnan(found.cosine[:, 1]).all() and np.isfinite(found.cosine[:, [0, 2]]).all()
    assert "nan" not in repr(found)


def test_by_default_those_that_take_the_field(network, data):
    assert compare_learners(network, *data, readout=READOUT, window=30).methods == (
        "exact", "snap-1", "rflo", "e-prop", "uoro", "kf-rtrl", "sketch", "tbptt",
    )  # fmt: skip
    small = ctrnn.Equations({"u": "a*x - b*u"}, {"a": 1.0, "b": 0.5}, inputs=["x"])
    methods = compare_learners(small, *data, dt=0.1, window=30).methods
    assert "uoro" in methods and "rflo" not in methods
    with pytest.raises(UsageError, match="rflo"):
        compare_learners(small, *data, ["rflo"], dt=0.1)


def test_it_prints_and_is_written(network, data, tmp_path):
    found = compare_learners(network, *data, RULES, readout=READOUT, dt=0.5, window=20)
    lines = repr(found).splitlines()
    assert lines[0].startswith("3 windows of 20 steps, frozen weights") and len(lines) == 2 + 7
    assert max(map(len, lines)) < 100
    found.to_csv(tmp_path / "found.csv")
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 7
    assert float(rows[8]["cosine"]) == found.cosine[1, 1] and rows[8]["method"] == "snap-1"
    one = found["sketch of rank 2"]
    assert isinstance(one, LearnerComparison) and len(one) == 1 and one.cosine.shape == (1, 3)
    with pytest.raises(UnknownNameError, match="snap"):
        found["snap"]
    assert (found.seconds > 0).all() and (found.nbytes > 0).all()
    memory = dict(zip(found.methods, found.nbytes, strict=True))
    assert memory["uoro"] < memory["exact"] and memory["snap-1"] < memory["exact"]


def test_its_figure(network, data):
    found = compare_learners(network, *data, RULES, readout=READOUT, dt=0.5, window=10)
    figure = ctrnn.plotting.learner_comparison(found)
    cosine, error, seconds, memory = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["steps", "steps", "time for a step (µs)", "memory (kB)"]
    np.testing.assert_array_equal(cosine.lines[0].get_ydata(), found.cosine[1])
    assert len(error.lines) == 6 and [text.get_text() for text in seconds.get_yticklabels()] == list(found.methods[1:])
    with pytest.raises(UsageError, match="one rule or more"):
        ctrnn.plotting.learner_comparison(found["exact"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"methods": []}, "methods"),
        ({"methods": "snap-1"}, "methods"),
        ({"methods": ["snap-1", "snap-1"]}, "methods: got 'snap-1'; allowed: each rule once"),
        ({"methods": ["adjoint"]}, "method: got 'adjoint'"),
        ({"methods": ["snap"]}, "method"),
        ({"weights": "moving"}, "weights"),
        ({"window": 0}, "window"),
        ({"weights": "exact", "update_every": 7}, "window: got 50; allowed: a multiple of update_every, 7"),
        ({"weight": np.ones(3)}, "weight"),
        ({"reset_every": 0}, "reset_every"),
        ({"reset_every": np.ones(3, dtype=bool)}, "reset_every"),
        ({"readout": "r9"}, "r9"),
    ],
)
def test_what_is_refused(network, data, options, named):
    with pytest.raises(UsageError, match=named):
        compare_learners(network, *data, **{"methods": ["snap-1"], **options})


def test_data_that_do_not_fit(network, data):
    x, y = data
    for wrong in ((x[:5], y), (x[:0], y[:0]), (None, None), (np.ones((T, 2, 1)), np.ones((T, 3, 5)))):
        with pytest.raises(UsageError, match="x, y"):
            compare_learners(network, *wrong, ["snap-1"])
    with pytest.raises(UsageError, match="x"):
        compare_learners(network, np.where(x > 1, np.nan, x), y, ["snap-1"], readout=READOUT)


def test_what_is_loaded_at_a_first_call_is_no_rules_time(network, data):
    class SlowAtFirst(Rule):
        name, calls = "slow at first", 0

        def start(self, lane, rng):
            memory = ExactRule().start(lane, rng)
            take = memory.take

            def counted(step):
                self.calls += 1
                time.sleep(0.3 if self.calls == 1 else 0.0)
                take(step)

            memory.take = counted
            return memory

    found = compare_learners(network, *data, [SlowAtFirst()], readout=READOUT, dt=0.5)
    assert found.seconds[1].max() < 0.3 / T
    assert found.cosine[1].min() > 1 - 1e-12  # and the comparison is one from the beginning
