"""Figures show the numbers they were given, need no display and leave no state behind."""

import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest

from ctrnn import inputs, plotting
from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.learning.online.table import LearningTable
from ctrnn.trajectory import Trajectory

T = np.linspace(0.0, 6.0, 40)
RUN = Trajectory(T, np.stack([np.cos(T), np.sin(T)], axis=1), ("x", "y"))
SHARE = np.stack([T, T**2], axis=1)
ROWS = [
    SimpleNamespace(method="central difference", digits=np.inf, time=1e-2, is_reference=True),
    SimpleNamespace(method="backsolve", digits=np.nan, time=np.nan, failure="diverged"),
    SimpleNamespace(method="rtrl", digits=13.5, time=1e-3),
    SimpleNamespace(method="adjoint", digits=np.inf, time=2e-3),
    SimpleNamespace(method="RFLO (leak only)", digits=0.0, time=2e-3, approximates=True),
]
PULSE = inputs.Pulse(onset=2.0, width=1.5, amplitude=0.5)


class Rotation:
    """dx/dt = -y, dy/dt = x: the field of RUN, whose nullclines are the axes."""

    n, state_names, input_names = 2, ("x", "y"), ("i",)

    def __call__(self, t, r, x=None):
        return np.array([-r[1], r[0]])


REST = SimpleNamespace(r=np.zeros(2), stable=False)
FIGURES = {
    "trajectory": lambda: plotting.trajectory(RUN, data=(T[:3], RUN.r[:3])),
    "trajectory with its input": lambda: plotting.trajectory(RUN, x=PULSE, input_names=["i"]),
    "map": lambda: plotting.trajectory(Trajectory(T, np.outer(T, np.arange(12.0)))),
    "phase_portrait": lambda: plotting.phase_portrait(RUN, field=Rotation(), equilibrium=REST),
    "fit": lambda: plotting.fit(T[:3], RUN.r[:3], RUN, RUN),
    "fit_history": lambda: plotting.fit_history([3.0, 2.0, 1.0]),
    "gradient_agreement": lambda: plotting.gradient_agreement(SimpleNamespace(rows=ROWS)),
    "sensitivities": lambda: plotting.sensitivities(T, np.ones((40, 2, 3)), list("abc")),
    "spectrum": lambda: plotting.spectrum([-1 + 1j, -1 - 1j, 0.2], step_bound=0.5),
    "exact_versus_leak_only": lambda: plotting.exact_versus_leak_only(T, 2 * SHARE, SHARE),
    "limit_cycle": lambda: plotting.limit_cycle(RUN, {"rtrl": RUN, "bptt": (T, RUN.r)}),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_axis_has_a_label_and_global_settings_stay(name):
    before = matplotlib.rcParams.copy()
    figure = FIGURES[name]()
    assert matplotlib.rcParams.copy() == before
    edge = [a for a in figure.axes if a.get_subplotspec() and a.get_subplotspec().is_last_row()]
    assert edge and all(a.get_xlabel() for a in edge)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_saved_figures_are_whole_and_the_same_each_time(tmp_path, suffix):
    a, b = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    for path in (a, b):
        plotting.save(FIGURES["fit"](), path)
    assert a.read_bytes() == b.read_bytes()
    assert sorted(tmp_path.iterdir()) == [a, b]
    if suffix == ".png":
        # width in the header (PNG specification, IHDR): 6.7 inches at 200 dots
        assert int.from_bytes(a.read_bytes()[16:20], "big") == 1340


@pytest.mark.parametrize("path", ["figure", "figure.bmp", "missing/figure.png"])
def test_paths_that_cannot_be_written_are_refused(tmp_path, path):
    with pytest.raises(UsageError):
        plotting.save(FIGURES["fit_history"](), tmp_path / path)
    assert not list(tmp_path.iterdir())


def test_a_run_draws_the_states_asked_for():
    (line,) = RUN.plot(states=["y"]).axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), np.sin(T))
    with pytest.raises(UnknownNameError, match="x, y"):
        RUN.plot(states=["z"])


def test_fit_draws_data_and_curves_of_each_state():
    before = Trajectory(T, 0 * RUN.r, RUN.names)
    figure = plotting.fit(T[:3], RUN.r[:3, 1:], before, RUN, ["y"])
    (axes,) = figure.axes
    flat, fitted, data = (line.get_ydata() for line in axes.lines)
    np.testing.assert_array_equal(flat, 0 * T)
    np.testing.assert_array_equal(fitted, RUN["y"])
    np.testing.assert_array_equal(data, RUN["y"][:3])


def test_nullclines_lie_where_the_rates_vanish():
    figure = plotting.phase_portrait(RUN, field=Rotation(), equilibrium=REST)
    contours = [c for c in figure.axes[0].collections if hasattr(c, "levels")]
    for contour, column in zip(contours, (1, 0), strict=True):  # dx/dt = 0 at y = 0, and so on
        vertices = np.concatenate([path.vertices for path in contour.get_paths()])
        assert len(vertices) > 10
        np.testing.assert_allclose(vertices[:, column], 0.0, atol=1e-12)


def test_an_attracting_equilibrium_is_filled_and_another_is_not():
    rests = [SimpleNamespace(r=np.zeros(2), stable=s) for s in (True, False, False)]
    axes = plotting.phase_portrait(RUN, equilibrium=rests).axes[0]
    assert [line.get_markerfacecolor() for line in axes.lines[-3:]] == ["#000000", "white", "white"]
    labels = axes.get_legend_handles_labels()[1]
    assert labels.count("equilibrium, not attracting") == 1


def test_agreement_puts_each_method_at_its_digits():
    left, right = plotting.gradient_agreement(SimpleNamespace(rows=ROWS)).axes
    dots = dict(zip([t.get_text() for t in left.get_yticklabels()], left.lines[0].get_xdata(), strict=True))
    assert np.isnan(dots["central difference"]) and np.isnan(dots["backsolve"])
    assert [text.get_text() for text in left.texts] == ["reference", "failed", "an approximation"]
    assert dots["rtrl"] == 13.5
    assert dots["adjoint"] == 16.0  # exact agreement, as far as float64 can tell
    np.testing.assert_array_equal(right.lines[0].get_xdata(), [1e-2, np.nan, 1e-3, 2e-3, 2e-3])
    # a dot at no digits lies inside the axes, whole: 3 points of radius are less than 0.4 of a digit
    assert dots["RFLO (leak only)"] == 0.0 and left.get_xlim()[0] <= -0.4


def test_the_input_is_drawn_below_with_upright_jumps():
    states, below = plotting.trajectory(RUN, x=PULSE, input_names=["i"], labels={"i": "current (nA)"}).axes
    (line,) = below.lines
    t, x = line.get_data()
    assert set(x) == {0.0, 0.5} and below.get_ylabel() == "current (nA)"
    (up, down) = np.flatnonzero(np.diff(x))
    np.testing.assert_allclose(t[[up, up + 1, down, down + 1]], [2.0, 2.0, 3.5, 3.5], rtol=1e-14)
    assert len(states.lines) == 2 and not states.get_xlabel()


def test_labels_stand_for_names_and_the_unit_that_they_share_stands_at_the_axis():
    labels = {"x": "hare pelts (thousands)", "y": "lynx pelts (thousands)"}
    (axes,) = plotting.trajectory(RUN, labels=labels, title="before the fit").axes
    assert axes.get_ylabel() == "thousands" and axes.get_title(loc="left") == "before the fit"
    assert [line.get_label() for line in axes.lines] == ["hare pelts", "lynx pelts"]
    axes = plotting.fit(T[:3], RUN.r[:3], None, RUN, labels=labels).axes
    assert [one.get_ylabel() for one in axes] == list(labels.values())
    (plane,) = plotting.phase_portrait(RUN, labels=labels, label="solution, fitted").axes
    assert (plane.get_xlabel(), plane.get_ylabel()) == tuple(labels.values())
    assert "solution, fitted" in plane.get_legend_handles_labels()[1]
    axes = plotting.spectrum([-1.0], time_unit="year").axes[0]
    assert axes.get_xlabel() == "real part (1/year)"


def test_nullclines_say_under_which_input_they_are():
    axes = plotting.phase_portrait(RUN, field=Rotation(), x=[0.25]).axes[0]
    assert "d x/dt = 0 at i = 0.25" in axes.get_legend_handles_labels()[1]


def test_an_equilibrium_leaves_the_start_marker_to_be_seen():
    rest = SimpleNamespace(r=RUN.r[0], stable=True)
    lines = plotting.phase_portrait(RUN, equilibrium=rest).axes[0].lines
    start = next(line for line in lines if line.get_label() == "start")
    dot = next(line for line in lines if line.get_label() == "equilibrium, attracting")
    assert start.get_markersize() > dot.get_markersize() and start.get_markerfacecolor() == "none"


def test_a_legend_is_no_wider_than_its_figure():
    names = [f"a long name of a state number {k}" for k in range(4)]
    figure = plotting.trajectory(Trajectory(T, np.ones((40, 4)), tuple(names)))
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1


def test_leak_only_shows_the_part_that_it_lacks():
    below = plotting.exact_versus_leak_only(T, 4 * SHARE, SHARE).axes[2:]
    for axes in below:
        share = axes.lines[0].get_ydata()
        assert np.isnan(share[0])  # both are zero at the start: no share
        np.testing.assert_allclose(share[1:], 0.75, rtol=1e-14)


def test_spectrum_draws_the_disc_of_the_step():
    axes = plotting.spectrum([-1.0], step_bound=0.5).axes[0]
    (disc,) = axes.patches
    assert disc.center == (-2.0, 0.0) and disc.radius == 2.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: plotting.trajectory(RUN, data=(T[:3], RUN.r[:4])),
        lambda: plotting.trajectory(RUN, states=[]),
        lambda: plotting.phase_portrait(RUN, data=[1.0, 2.0]),
        lambda: plotting.phase_portrait(RUN, states=(0, 2)),
        lambda: plotting.fit(T[:3], RUN.r[:2], None, RUN),
        lambda: plotting.fit_history([]),
        lambda: plotting.gradient_agreement([]),
        lambda: plotting.sensitivities(T, np.ones((40, 2, 3)), ["a"]),
        lambda: plotting.sensitivities(T, np.ones((40, 8, 9)), list("abcdefghi")),
        lambda: plotting.spectrum([]),
        lambda: plotting.spectrum([np.nan]),
        lambda: plotting.spectrum([-1.0], step_bound=0.0),
        lambda: plotting.exact_versus_leak_only(T, SHARE, SHARE[:, :1]),
        lambda: plotting.limit_cycle(RUN, {"rtrl": (T, np.ones(40))}),
    ],
)
def test_what_cannot_be_drawn_is_refused(call):
    with pytest.raises(UsageError):
        call()


def test_drawing_loads_no_pyplot():
    code = "import sys; import ctrnn.plotting; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_wide_band_leaves_the_data_in_view():
    far = np.full((40, 2), 50.0)
    bands = SimpleNamespace(level=0.95, names=("x", "y"), t=T, curve=[-far, far], observation=[-far, far])
    bands.curve, bands.observation = np.array(bands.curve), np.array(bands.observation)
    low, high = plotting.fit(T[:3], RUN.r[:3], None, RUN, bands=bands).axes[0].get_ylim()
    assert -4.0 < low < -1.0 and 1.0 < high < 4.0
    bands.curve, bands.observation = bands.curve / 40, bands.observation / 40
    low, high = plotting.fit(T[:3], RUN.r[:3], None, RUN, bands=bands).axes[0].get_ylim()
    assert low < -1.25 and high > 1.25  # a band that is not far from the data is there in full


def test_learners_compared_on_one_window_are_dots():
    comparison = SimpleNamespace(
        methods=("exact", "rflo"), step=np.array([40]), cosine=np.array([[1.0], [0.9]]), nbytes=[10.0, 1.0],
        relative_error=np.array([[0.0], [0.5]]), seconds=np.array([[1e-4], [1e-5]]),
    )  # fmt: skip
    cosine, error = plotting.learner_comparison(comparison).axes[:2]
    assert [axes.lines[0].get_marker() for axes in (cosine, error)] == ["o", "o"]


def test_numbers_at_a_short_logarithmic_axis_are_few():
    rows = [(k, float(k), 1.0 / k, 10.0**k, 1e-3, float("nan"), 0.1) for k in range(1, 4)]
    figure = plotting.learning(LearningTable(rows))
    figure.draw_without_rendering()
    below = figure.axes[1]
    assert len([text for text in below.get_yticklabels(which="both") if text.get_text()]) <= 6


def test_updates_without_a_loss_do_not_take_the_gradients_off_their_logarithmic_axis():
    nan = float("nan")
    rows = [(k, float(k), 1.0 / k, g, 1e-3, nan, 0.1) for k, g in enumerate((1e-3, 0.0, 300.0, 0.2), start=1)]
    below = plotting.learning(LearningTable(rows)).axes[1]
    assert below.get_yscale() == "log" and below.lines[0].get_xdata().tolist() == [1, 3, 4]
    none = plotting.learning(LearningTable([(k, float(k), nan, 0.0, 1e-3, nan, 0.1) for k in (1, 2)]))
    assert none.axes[1].get_yscale() == "linear"


def test_states_of_different_units_have_panels_of_their_own():
    labels = {"x": "potential (mV)", "y": "current (pA)"}
    figure = plotting.trajectory(RUN, data=(T[:3], RUN.r[:3]), labels=labels, x=PULSE, input_names=["i"])
    assert [axes.get_ylabel() for axes in figure.axes] == ["potential (mV)", "current (pA)", "i"]
    for column, axes in enumerate(figure.axes[:2]):
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), RUN.r[:, column])
        np.testing.assert_array_equal(axes.lines[1].get_ydata(), RUN.r[:3, column])
    assert len({axes.lines[0].get_color() for axes in figure.axes[:2]}) == 2
    for same in ({"x": "a (mV)", "y": "b (mV)"}, {"x": "a (mV)"}, {}):
        assert len(plotting.trajectory(RUN, labels=same).axes) == 1
    assert len(plotting.trajectory(RUN, labels=labels, value_label="both").axes) == 1
