"""Tasks: what each asks is computed again by other means, and equal seeds give equal bits."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import ctrnn
from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.learning import tasks
from ctrnn.learning.tasks.delay import mackey_glass_series

SMALL = {
    "lorenz": {"trials": 4, "steps": 60},
    "lorenz-generation": {"trials": 4, "steps": 60},
    "mackey-glass": {"trials": 4, "steps": 60},
}
RANDOM = [name for name in tasks.NAMES if "seed" in tasks.options(name)]


def small(name: str, **options) -> tasks.Task:
    return tasks.make(name, **SMALL.get(name, {}), **options)


@pytest.mark.parametrize("name", tasks.NAMES)
def test_shapes_names_and_text(name):
    task = small(name)
    trials, T, inputs = task.x.shape
    assert task.y.shape == (trials, T, len(task.outputs)) and task.weight.shape == (trials, T)
    assert inputs == len(task.inputs) and len(task) == trials
    assert all(np.isfinite(v).all() and v.dtype == np.float64 for v in (task.x, task.y, task.weight))
    assert (" 1 output," in repr(task)) == (len(task.outputs) == 1)
    assert task.weight.any() and task.name.startswith(name) and task.name in repr(task) and task.reference
    assert task.t.shape == (T,) and np.allclose(np.diff(task.t), task.dt)
    if task.feeds_back:
        assert np.array_equal(task.x[:, 1:], task.y[:, :-1])
    if task.classes:
        assert np.array_equal(task.y.sum(axis=2), task.weight) and set(np.unique(task.y)) == {0.0, 1.0}


@pytest.mark.parametrize("name", RANDOM)
def test_the_seed_decides_every_bit(name):
    one, same, other = small(name, seed=5), small(name, seed=np.random.default_rng(5)), small(name, seed=6)
    assert all(np.array_equal(getattr(one, v), getattr(same, v)) for v in ("x", "y", "weight"))
    assert not np.array_equal(one.x, other.x)


def test_torch_loads_it():
    task = tasks.flip_flop(bits=2, trials=10, steps=30)
    order = torch.Generator().manual_seed(0)
    loader = torch.utils.data.DataLoader(task, batch_size=4, shuffle=True, generator=order)
    batches = list(loader)
    assert [len(x) for x, _, _ in batches] == [4, 4, 2] and batches[0][0].dtype == torch.float64
    together = torch.cat([x for x, _, _ in batches])
    assert np.allclose(together.sum(dim=(0, 1)).numpy(), task.x.sum(axis=(0, 1)))
    sequential = next(iter(torch.utils.data.DataLoader(task, batch_size=10)))
    for tensor, array in zip(sequential, (task.x, task.y, task.weight), strict=True):
        assert np.array_equal(tensor.numpy(), array)
    assert [len(x) for x, _, _ in task] == [30] * 10


def test_the_stream_is_the_trials_in_their_order():
    task = tasks.adding(trials=6, steps=7)
    stream = task.stream(lanes=2)
    for k in range(21):
        for lane in range(2):
            x, y, weight = task[2 * (k // 7) + lane]
            assert np.array_equal(stream.x[k, lane], x[k % 7]) and np.array_equal(stream.y[k, lane], y[k % 7])
            assert stream.weight[k, lane] == weight[k % 7]
    assert stream.start.nonzero()[0].tolist() == [0, 7, 14] and stream.dt == 1.0
    assert np.array_equal(task.stream().x[:, 0], task.x.reshape(42, 2))


def test_parts_of_a_task():
    task = tasks.sunspots()
    train, test = task.steps(0, 248), task.steps(248)
    assert train.t[-1] == 1948 and test.t[0] == 1949 and test.t[-1] == 2008
    assert np.array_equal(np.concatenate([train.x, test.x], axis=1), task.x)
    some = tasks.adding(trials=5).trials([4, 0])
    assert np.array_equal(some.x[1], tasks.adding(trials=5).x[0]) and len(some) == 2
    for wrong in ([], [5], [0.5], [[0]]):
        with pytest.raises(UsageError, match="chosen"):
            tasks.adding(trials=5).trials(wrong)
    with pytest.raises(UsageError, match="first, last"):
        task.steps(300, 300)
    with pytest.raises(UsageError, match=r"task\.trials"):
        tasks.adding(trials=5)[0:2]
    with pytest.raises(UsageError, match="lanes: got 2; allowed: a divisor"):
        tasks.adding(trials=5).stream(lanes=2)


# -- memory and decisions: the target read from the inputs, trial by trial


def test_flip_flop_holds_the_sign_of_the_last_pulse():
    task = tasks.flip_flop(bits=3, trials=20, steps=150, rate=0.05, width=3, seed=2)
    for x, y, weight in task:
        bit = np.zeros(3)
        for k in range(150):
            old, pulses = bit, x[k] != 0
            bit = np.where(pulses, x[k], bit)
            assert np.array_equal(y[k], bit)
            if (bit != old).any():
                assert weight[k] == 0  # a change never counts in the step of its pulse
        quiet = (x == 0).all(axis=1)
        assert weight[quiet].all()
    first = task.x[:, 0]
    assert set(np.unique(first)) == {-1.0, 1.0}  # every channel begins with a pulse
    begun = (task.x != 0) & (np.roll(task.x, 1, axis=1) == 0)
    free = (np.roll(task.x, 1, axis=1) == 0)[:, 1:].sum()
    assert abs(begun[:, 1:].sum() / free - 0.05) < 4 * np.sqrt(0.05 / free)  # the rate, within four standard errors


def test_adding_and_copy():
    for x, y, weight in tasks.adding(trials=30, steps=21, seed=1):
        marks = np.flatnonzero(x[:, 1])
        assert len(marks) == 2 and marks[0] < 10 <= marks[1] and weight.nonzero()[0].tolist() == [20]
        assert y[-1, 0] == x[marks, 0].sum() and x[:, 0].min() >= 0 and x[:, 0].max() <= 1
    task = tasks.adding(trials=4000, steps=10)
    assert abs(((task.y[:, -1] - 1) ** 2).mean() - 1 / 6) < 0.01
    task = tasks.copy(symbols=4, length=3, delay=6, trials=30, seed=1)
    for x, y, weight in task:
        assert x.shape == (12, 5) and np.array_equal(x[:3, :4], y[9:]) and weight.nonzero()[0].tolist() == [9, 10, 11]
        assert x[:, 4].nonzero()[0].tolist() == [8]
    assert np.array_equal(np.unique(task.x[:, :3].argmax(axis=2)), np.arange(4))


def test_delayed_match_compares_the_two_stimuli():
    task = tasks.delayed_match(stimuli=3, trials=41, width=2, delay=(1, 9), answer=4, seed=4)
    waits = set()
    for x, y, weight in task:
        shown = np.flatnonzero(x.any(axis=1))
        first, second = x[shown[0]].argmax(), x[shown[-1]].argmax()
        counts = weight.nonzero()[0]
        assert counts.tolist() == list(range(shown[-1] + 1, shown[-1] + 5))
        assert (y[counts, 0] == (1.0 if first == second else -1.0)).all()
        waits.add(int(shown[2] - 2))
    assert min(waits) == 1 and max(waits) == 9 and (task.y.sum(axis=(1, 2)) > 0).sum() == 21


def test_the_context_names_the_evidence():
    task = tasks.context_decision(trials=400, evidence=400, answer=3, noise=0.3, coherences=[0.4], seed=1)
    context = task.x[:, 0, 2:].argmax(axis=1)
    seen = task.x[:, :400, :2].mean(axis=1)
    assert np.array_equal(np.sign(seen[np.arange(400), context]), task.y[:, -1, 0])  # 0.4 of noise 0.3/√100
    assert (np.sign(seen[np.arange(400), 1 - context]) != task.y[:, -1, 0]).mean() > 0.3
    rest = task.x[:, :400, :2] - np.sign(seen)[:, None] * 0.4
    assert abs(rest.std() / (0.3 / np.sqrt(task.dt)) - 1) < 0.01
    assert (task.x[:, :, 2:].sum(axis=2) == 1).all() and not task.x[:, 400:, :2].any()


def test_t_maze_goes_where_more_cues_were():
    task = tasks.t_maze(corridor=7, cues=5, trials=50, width=2, answer=3, seed=0)
    for x, y, weight in task:
        left, right = x[:, :2].sum(axis=0) / 2
        assert left + right == 5 and (y[-3:, 0] == (1 if right > left else -1)).all()
        assert weight.nonzero()[0].tolist() == x[:, 2].nonzero()[0].tolist() == list(range(25, 28))
        assert not x[18:25].any()
    assert set(task.y[:, -1, 0]) == {-1.0, 1.0}


def test_sines_have_the_frequency_that_is_named():
    task = tasks.sine(trials=20, steps=400, frequencies=(0.05, 0.2), dt=0.1)
    f = 0.05 + (task.x[:, 0, 0] - 0.25) * 0.15
    assert (f >= 0.05).all() and (f <= 0.2).all() and np.ptp(f) > 0.05
    assert np.allclose(task.y[:, :, 0], np.imag(np.exp(2j * np.pi * f[:, None] * task.t)), atol=1e-12)


# -- series


def test_mackey_glass_equals_a_fine_integration():
    """Runge and Kutta's fourth-order steps of τ/680, delayed values in between by cubic Hermite polynomials."""
    beta, gamma, n, tau, K = 0.2, 0.1, 10.0, 17.0, 680
    h = tau / K
    s = np.full(12 * K + 1, 0.7)
    slope = np.zeros_like(s)

    def f(now, delayed):
        return beta * delayed / (1 + delayed**n) - gamma * now

    for i in range(12 * K):
        if i < K:
            d0 = dm = d1 = 0.7
        else:
            d0, d1 = s[i - K], s[i - K + 1]
            # at τ itself the slope from the left and from the right differ: both are those of this one
            right = f(d1, 0.7 if i - K + 1 <= K else s[i - 2 * K + 1])
            dm = (d0 + d1) / 2 + h * (slope[i - K] - right) / 8
        k1 = slope[i] = f(s[i], d0)
        k2 = f(s[i] + h / 2 * k1, dm)
        k3 = f(s[i] + h / 2 * k2, dm)
        k4 = f(s[i] + h * k3, d1)
        s[i + 1] = s[i] + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    ours = mackey_glass_series(np.array([0.7]), h * np.arange(12 * K + 1)[::40])[0]
    assert abs(ours - s[::40]).max() < 3e-10 and np.ptp(s) > 0.5


def test_mackey_glass_the_points_do_not_matter_and_too_few_are_refused():
    t, history = np.linspace(0.0, 300.0, 301), np.array([0.6, 1.2])
    best = mackey_glass_series(history, t, points=140)
    assert abs(mackey_glass_series(history, t) - best).max() < 1e-12
    assert 1e-13 < abs(mackey_glass_series(history, t, points=48) - best).max() < 1e-10
    long = mackey_glass_series(history, t, tau=60.0)
    assert abs(long - mackey_glass_series(history, t, tau=60.0, points=140)).max() < 1e-11
    with pytest.raises(UsageError, match="points: got 8.*Try: None"):
        mackey_glass_series(history, t, points=8)
    steep = mackey_glass_series(history, t[:101], n=40.0)  # more points of themselves
    assert abs(steep - mackey_glass_series(history, t[:101], n=40.0, points=700)).max() < 1e-9
    with pytest.raises(UsageError, match="n: got 1000.0"):
        mackey_glass_series(history, t, n=1000.0)
    for wrong in ({"t": t[::-1]}, {"t": -t}, {"history": -history}, {"tau": 0.0}, {"n": np.nan}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            mackey_glass_series(**{"history": history, "t": t, **wrong})


def test_mackey_glass_oscillates_as_it_is_known_to():
    task = tasks.mackey_glass(trials=4, steps=3000)
    s = task.in_units(task.y)[:, :, 0]
    assert 0.3 < s.min() < 0.5 and 1.25 < s.max() < 1.4 and np.allclose(task.y.mean(), 0, atol=0.01)
    crossings = (np.diff(np.sign(s - s.mean()), axis=1) > 0).sum(axis=1)
    assert (abs(3000 / crossings - 51) < 4).all()  # some 50 units of time from peak to peak
    rest = tasks.mackey_glass(trials=2, steps=10, tau=1.0)  # no oscillation: at rest at (β/γ − 1)^(1/n) = 1
    assert np.allclose(rest.in_units(rest.y), 1.0) and np.isfinite(rest.y).all()
    ahead = tasks.mackey_glass(trials=4, steps=2995, horizon=6)
    assert np.allclose(ahead.in_units(ahead.y)[:, :, 0], s[:, 5:], atol=1e-12) and not ahead.feeds_back


def test_lorenz_follows_the_equations():
    task = tasks.lorenz_generation(trials=3, steps=200, dt=0.02, seed=3)
    s = task.in_units(task.y)

    def lorenz(t, s):
        return [10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]]

    for b in range(3):
        known = solve_ivp(lorenz, (0, 199 * 0.02), s[b, 0], "DOP853", 0.02 * np.arange(200), rtol=1e-12, atol=1e-12).y.T
        assert abs(known - s[b]).max() < 1e-5  # an error grows e^(0.906·4) times, and more where trajectories part
    one = tasks.lorenz(trials=3, steps=197, horizon=4, observed=["z"], predicted=["y"], dt=0.02, seed=3)
    assert np.allclose(one.in_units(one.y)[:, :, 0], s[:, 3:, 1]) and not one.feeds_back
    assert np.allclose(one.x[:, 1:, 0], task.y[:, :196, 2])


def test_measured_series_are_those_of_the_files():
    task = tasks.sunspots(horizon=5, standardise=False)
    file = Path(ctrnn.__file__).parent / "examples" / "sunspots_yearly.csv"
    rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
    assert (rows[0], rows[-1], len(rows)) == (["1700", "5.0"], ["2008", "2.9"], 309)
    values = np.array([float(row[1]) for row in rows])
    assert np.array_equal(task.x[0, :, 0], values[:-5]) and np.array_equal(task.y[0, :, 0], values[5:])
    known = values[:249]  # to 1948
    scaled = tasks.sunspots()
    assert np.allclose(scaled.x[0, :, 0], (values[:-1] - known.mean()) / known.std())
    assert np.allclose(scaled.in_units(scaled.y)[0, :, 0], values[1:])
    pelts = tasks.hare_lynx(standardise=False)
    assert pelts.x.shape == (1, 20, 2) and pelts.x[0, 0].tolist() == [30.0, 4.0] and pelts.outputs == ("hare", "lynx")
    assert pelts.t[0] == 1901 and pelts.t[-1] == 1920
    whole = tasks.hare_lynx()
    assert np.allclose(whole.in_units(whole.y), pelts.y)


# -- what is refused


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("flip-flop", {"bits": 0}, "bits"),
        ("flip-flop", {"rate": 1.5}, "rate"),
        ("flip-flop", {"steps": 4}, "steps"),
        ("flip-flop", {"trials": 2.0}, "trials"),
        ("flip-flop", {"dt": 0.0}, "dt"),
        ("flip-flop", {"seed": -1}, "seed"),
        ("adding", {"steps": 1}, "steps"),
        ("adding", {"dt": float("nan")}, "dt"),
        ("copy", {"symbols": 1}, "symbols"),
        ("copy", {"delay": 0}, "delay"),
        ("delayed-match", {"delay": (5, 3)}, "delay"),
        ("delayed-match", {"delay": 5}, "delay"),
        ("context-decision", {"coherences": []}, "coherences"),
        ("context-decision", {"coherences": [-0.1]}, "coherences"),
        ("context-decision", {"noise": -1.0}, "noise"),
        ("t-maze", {"cues": 2}, "cues"),
        ("t-maze", {"corridor": -1}, "corridor"),
        ("sine", {"frequencies": (0.1, 2.5)}, "frequencies"),
        ("sine", {"frequencies": (0.2, 0.1)}, "frequencies"),
        ("sine", {"frequencies": 0.1}, "frequencies"),
        ("lorenz", {"observed": "x"}, "observed"),
        ("lorenz", {"predicted": ["w"]}, "predicted"),
        ("lorenz", {"horizon": 0}, "horizon"),
        ("mackey-glass", {"tau": -17.0}, "tau"),
        ("sunspots", {"horizon": 309}, "horizon"),
        ("sunspots", {"until": 1600}, "until"),
        ("sunspots", {"standardise": 1}, "standardise"),
        ("hare-lynx", {"standardise": "no"}, "standardise"),
    ],
)
def test_impossible_options_are_named(name, options, named):
    with pytest.raises(UsageError, match=f"^{named}: got"):
        tasks.make(name, **options)


def test_unknown_names_are_met_by_the_nearest_known_one():
    with pytest.raises(UnknownNameError, match="did you mean 'flip-flop'"):
        tasks.make("flipflop")
    with pytest.raises(UnknownNameError, match="option of the task adding.*did you mean 'trials'"):
        tasks.make("adding", trial=3)


def test_a_task_of_ones_own_is_checked():
    x, y, weight = np.zeros((2, 5, 1)), np.zeros((2, 5, 1)), np.ones((2, 5))

    def made(**changes):
        parts = {"x": x, "y": y, "weight": weight, "dt": 1.0, "inputs": ("a",), "outputs": ("b",), **changes}
        return tasks.Task("mine", "Mine.", **parts)

    assert len(made()) == 2
    with pytest.raises(UsageError, match="y: got '10 values that are infinite or NaN'.*weight 0"):
        made(y=np.full((2, 5, 1), np.nan))
    with pytest.raises(UsageError, match="x, y, weight"):
        made(weight=np.ones((2, 4)))
    with pytest.raises(UsageError, match="weight: got '10 negative"):
        made(weight=-weight)
    with pytest.raises(UsageError, match="names"):
        made(inputs=("a", "c"))
    with pytest.raises(UsageError, match="dt"):
        made(dt=0)


def test_every_function_is_in_the_registry():
    made = {name for name, value in vars(tasks).items() if inspect.isfunction(value)} - {"make", "options"}
    assert made == {function.__name__ for function in tasks.TASKS.values()}
