"""Curves are what was computed: drawn from the dense output, on axes that suit the numbers, on anybody's axes."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from test_plotting import FIGURES, ROWS, RUN, SHARE, T

import ctrnn
from ctrnn import Equations, Event, EventObjective, Objective, Problem, plotting, simulate
from ctrnn.cli.main import run as run_command
from ctrnn.errors import UsageError
from ctrnn.plotting.curve import curve

NAGUMO = Equations({"v": "v - v**3/3 - w + i", "w": "0.08*(v + 0.7 - 0.8*w)"}, {"i": 0.5})
ROBERTSON = Equations(
    {"y1": "-k1*y1 + k3*y2*y3", "y2": "k1*y1 - k2*y2**2 - k3*y2*y3", "y3": "k2*y2**2"},
    {"k1": 0.04, "k2": 3e7, "k3": 1e4},
)


def farthest(line, run, points=7):
    """How far, as part of each state's range, the curve is from the polygon between any two of its points."""
    order = np.argsort(line.t)
    t, r = line.t[order], line.r[order]
    between = np.linspace(0.0, 1.0, points + 2)[1:-1]
    at = (t[:-1, None] + between * np.diff(t)[:, None]).ravel()
    off = np.abs(run(at) - np.stack([np.interp(at, t, column) for column in r.T], axis=1))
    return (off / np.ptp(r, axis=0)).max()


@pytest.mark.parametrize("rtol", [1e-3, 1e-8, 1e-12])
def test_a_cycle_is_no_polygon(rtol):
    run = simulate(Problem(NAGUMO, [-1.0, -0.5], (0.0, 200.0)), rtol=rtol, save_at=[0.0, 200.0])
    line = curve(run)
    assert farthest(line, run) < 1e-3 and len(line) < 20_000
    assert np.array_equal(line.t, np.unique(line.t)) and line.t[0] == 0.0 and line.t[-1] == 200.0
    drawn = plotting.phase_portrait(run).axes[0].lines[0]
    np.testing.assert_array_equal(drawn.get_xdata(), line["v"])
    polygon = simulate(Problem(NAGUMO, [-1.0, -0.5], (0.0, 200.0)), save_at=np.linspace(0.0, 200.0, 501))
    assert farthest(polygon, run) > 5e-3  # what was drawn before


def test_a_short_step_between_long_ones_is_seen():
    field = Equations({"r": "exp(-((t - 5)/0.01)**2)"}, {})
    run = simulate(Problem(field, [0.0], (0.0, 10.0)), max_step=0.02, save_at=[0.0, 10.0])
    assert farthest(curve(run), run) < 1e-3


def test_both_states_of_a_reset_are_on_the_line():
    field = Equations({"v": "1"}, {})
    run = simulate(Problem(field, [0.0], (0.0, 5.0), events=Event("v - 2", reset={"v": "0"})), save_at=[0.0, 5.0])
    line = curve(run)
    assert len(run.events) == 2
    for tau in run.events.t:
        before, after = line.r[line.t == tau, 0]
        assert before == pytest.approx(2.0) and after == pytest.approx(0.0)


def test_backwards_and_by_numbers_alone():
    run = simulate(Problem(NAGUMO, [-1.0, -0.5], (1.0, 0.0)))
    line = curve(run)
    assert line.t[0] == 1.0 and line.t[-1] == 0.0 and farthest(line, run) < 1e-3
    assert curve(RUN) is RUN


def test_axes_are_logarithmic_where_the_data_span_decades():
    stiff = simulate(Problem(ROBERTSON, [1.0, 0.0, 0.0], (0.0, 4e6)), "kvaerno5", rtol=1e-6, atol=1e-10)
    (axes,) = stiff.plot().axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert stiff.plot(log=False).axes[0].get_yscale() == "linear"
    only_decays = ctrnn.simulate(ctrnn.Problem(ctrnn.Equations({"r": "-r"}), [1.0], (0.0, 9.0)))
    assert only_decays.plot().axes[0].get_yscale() == "linear"
    (axes,) = RUN.plot().axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")
    decay = simulate(Problem(Equations({"r": "-r"}, {}), [1.0], (0.0, 12.0)))
    data = np.exp(-np.arange(1.0, 12.0))[:, None]
    assert plotting.fit(np.arange(1.0, 12.0), data, None, decay).axes[0].get_yscale() == "log"
    one = plotting.phase_portrait(stiff, states=("y1", "y3")).axes[0]
    assert one.get_xscale() == "log"


def words():
    return ctrnn.inverse.word_length([1.0], [[-0.7]], fractions=[8, 12])


ONE = {
    "trajectory": lambda ax: plotting.trajectory(RUN, ax=ax),
    "phase portrait": lambda ax: plotting.phase_portrait(RUN, ax=ax),
    "fit history": lambda ax: plotting.fit_history({"a": [3.0, 2.0], "b": [3.0, 1.0]}, ax=ax),
    "spectrum": lambda ax: plotting.spectrum([-1 + 2j, -1 - 2j], ax=ax),
    "inverse convergence": lambda ax: plotting.inverse_convergence(
        {m: ctrnn.inverse.right_divide([1.0], [[-2.0]], m) for m in ("flow", "lu")}, ax=ax
    ),
}
HISTORY = {"epoch": [1, 2], "loss": [1.0, 0.5], "validation": [1.1, 0.7]}
SEVERAL = {
    "training": (2, lambda ax: plotting.training(HISTORY, [0, 1], [[1.0], [2.0]], [[0.9], [1.8]], ax=ax)),
    "fit": (2, lambda ax: plotting.fit(T, RUN.r, None, RUN, ax=ax)),
    "sensitivities": (4, lambda ax: plotting.sensitivities(T, np.zeros((40, 2, 2)), ["a", "b"], ax=ax)),
    "exact": (4, lambda ax: plotting.exact_versus_leak_only(T, SHARE, SHARE / 2, ax=ax)),
    "agreement": (2, lambda ax: plotting.gradient_agreement(ROWS, ax=ax)),
    "limit cycle": (3, lambda ax: plotting.limit_cycle(RUN, {"rtrl": RUN}, ax=ax)),
    "Euler's step": (2, lambda ax: plotting.euler_step([-1 + 2j, -1 - 2j], ax=ax)),
    "hardware": (
        1,
        lambda ax: plotting.hardware_error([ctrnn.inverse.word_length([1.0], [[-0.7]], fractions=[8, 12])], ax=ax),
    ),
    "recalled": (6, lambda ax: plotting.recalled(np.zeros((2, 64)), np.ones((2, 64)), np.eye(64)[:2], ax=ax)),
}


@pytest.mark.parametrize("draw", ONE.values(), ids=ONE)
def test_on_given_axes(draw):
    figure, axes = plt.subplots(1, 2)
    assert draw(axes[1]) is figure
    assert not axes[0].has_data() and axes[1].has_data() and len(figure.axes) == 2
    plt.close(figure)
    with pytest.raises(UsageError, match="ax: got"):
        draw("here")


@pytest.mark.parametrize(("count", "draw"), SEVERAL.values(), ids=SEVERAL)
def test_on_several_given_axes(count, draw):
    figure, axes = plt.subplots(1, count, squeeze=False)
    assert draw(axes[0]) is figure
    assert all(one.has_data() for one in axes[0]) and len(figure.axes) == count
    plt.close(figure)
    with pytest.raises(UsageError, match=f"ax: got '{count + 1} of them'"):
        draw(list(Figure().subplots(1, count + 1)))


def test_every_figure_takes_axes():
    import inspect

    for name in set(plotting.__all__) - {"save"}:
        assert "ax" in inspect.signature(getattr(plotting, name)).parameters, name
    assert FIGURES


def neuron(I):
    field = Equations({"v": "I - v"}, {"I": I})
    spike = Event("v - 1", direction=1, reset={"v": "0"}, name="spike")
    return Problem(field, [0.0], (0.0, 5.0), events=spike, objective=EventObjective("t", [1.0, 2.0]))


def test_a_fitted_neuron_is_drawn_with_its_target():
    figure = plotting.event_fit([1.0, 2.0], simulate(neuron(1.3)), simulate(neuron(1.6)), "spike")
    times, states = figure.axes
    rows = [np.array([p[0, 0] for p in one.get_segments()]) for one in times.collections]
    assert [label.get_text() for label in times.get_yticklabels()] == ["target", "before the fit", "fitted"]
    np.testing.assert_array_equal(rows[0], [1.0, 2.0])
    np.testing.assert_allclose(rows[2][0], -np.log(1 - 1 / 1.6))
    assert states.lines[-1].get_ydata().max() == pytest.approx(1.0)
    with pytest.raises(UsageError, match="without events"):
        plotting.event_fit([1.0], None, RUN)


FILE = """
[field]
kind = "equations"
equations = { r = "-k*r" }
parameters = { k = 1.0 }
[problem]
r0 = 1.0
t_span = [0.0, 2.0]
[objective]
at = [1.0, 2.0]
target = [[0.3], [0.1]]
[fit]
methods = ["adjoint", "rtrl"]
"""


def drawn(tmp_path, monkeypatch, text, *options):
    monkeypatch.chdir(tmp_path)
    Path("decay.toml").write_text(text, encoding="utf-8")
    assert run_command(["run", "decay.toml", "-q", *options]) in (0, None)
    return sorted(path.name for path in Path("results/decay").iterdir() if path.suffix in (".png", ".pdf", ".svg"))


def test_the_command_line_draws_nothing_twice_and_any_format(tmp_path, monkeypatch):
    assert drawn(tmp_path, monkeypatch, FILE) == ["fit-history.png", "fit.png"]
    assert drawn(tmp_path, monkeypatch, FILE, "--set", "figures.format=svg") == ["fit-history.svg", "fit.svg"]
    assert Path("results/decay/fit.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
    listed = FILE + '[figures]\nformat = "pdf"\nshow = ["trajectory"]\n'
    assert drawn(tmp_path, monkeypatch, listed) == ["trajectory.pdf"]
    assert Path("results/decay/trajectory.pdf").read_bytes().startswith(b"%PDF")


def test_objectives_say_whether_they_are_about_times_of_events():
    assert list(neuron(1.3).objective.event_times) == [1.0, 2.0]
    field = Equations({"r": "-r"}, {})
    assert Problem(field, [1.0], (0.0, 1.0), objective=Objective("r", at=[1.0])).objective.event_times is None
