"""The command line: what it writes, what it prints, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from ctrnn.cli import main as cli
from ctrnn.cli.new import TEMPLATE
from ctrnn.cli.run import STEPS
from ctrnn.errors import UsageError
from ctrnn.experiment import schema, signals
from ctrnn.experiment.examples import example_names, examples_folder
from ctrnn.files import atomic_path
from ctrnn.solvers import tableaus

DECAY = """\
title = "Decay"
[field]
kind = "equations"
[field.equations]
r = "-k*r"
[field.parameters]
k = 2.0
[problem]
r0 = { r = 3.0 }
t_span = [0.0, 1.0]
[objective]
target = [1.5]
at = [1.0]
[gradient]
method = "adjoint"
[compare]
methods = ["complex-step", "rtrl", { name = "rtrl", block = 1 }, "rtrl-continuous"]
[fit]
transform = "log"
"""


@pytest.fixture
def ctrnn(tmp_path, monkeypatch, capsys):
    """Run the command line in an empty folder: ctrnn(*arguments) -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "decay.toml").write_text(DECAY, encoding="utf-8")

    def call(*arguments):
        code = cli.run(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


# --- help and names


def test_help_loads_nothing_heavy():
    heavy = {"torch", "numba", "scipy", "sympy", "matplotlib", "pydantic", "rich"}
    code = "import sys; from ctrnn.cli.main import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(ctrnn, command):
    code, out, _ = ctrnn(command, "--help")
    assert code == 0 and "Usage: ctrnn " + command in out


def test_the_version_is_told(ctrnn):
    assert ctrnn("--version")[1].startswith("ctrnn ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulat", "x"], "Did you mean 'simulate'"),
        (["run"], "Missing argument"),
        (["run", "decay.toml", "--nofigures"], "--no-figures"),
        (["run", "hare-linx"], "did you mean 'hare-lynx'"),
        (["run", "decay.toml", "--set", "solver.rtoll=1"], "did you mean 'rtol'"),
        (["run", "decay.toml", "--set", "solver.name=tsit6"], "solver.name: got 'tsit6'"),
        (
            ["fit", "decay.toml", "--set", "field.parameters.k=-1", "--set", 'fit.transform={k="log"}'],
            "fit.transform.k: got -1.0",
        ),
        (["run", "decay.toml", "--set", "solver.name=rk4"], "solver.dt"),
        (["run", "decay.toml", "--out", "decay.toml"], "a folder"),
        (["fit", "decay.toml", "--set", "fit.parameters=['q']"], "fit.parameters"),
        (["fit", "decay.toml", "--set", "fit.optimizer=adm"], "fit.optimizer"),
        (["fit", "decay.toml", "--set", "field.parameters.k=-1"], "fit"),
        (["examples", "limit"], f"allowed: {', '.join(example_names())}"),
        (["examples", "--copy", "here"], "the name of an example"),
        (["new", "decay.toml"], "--force"),
        (["new", "nowhere/x.toml"], "a folder that exists"),
        (["new", "x" * 300], "FILE"),
    ],
)
def test_a_call_that_cannot_be_served_ends_with_2_and_one_message(ctrnn, arguments, words):
    code, _, err = ctrnn(*arguments)
    assert code == 2 and words in err and "Traceback" not in err


def test_a_file_without_the_table_of_a_command_is_told_so(ctrnn):
    code, _, err = ctrnn("equilibrium", "decay.toml", "--set", "problem.r0=[1.0, 2.0]")
    assert code == 2 and "problem.r0" in err
    Path("bare.toml").write_text(DECAY[: DECAY.index("[objective]")], encoding="utf-8")
    for command in ("gradient", "compare", "fit"):
        code, _, err = ctrnn(command, "bare.toml")
        assert code == 2 and "objective: got nothing; allowed: a table [objective]" in err


# --- other ends

BLOW_UP = ["--set", "field.equations.r=r**2*k", "--set", "problem.t_span=[0.0, 5.0]"]


def folder(name="results/decay"):
    return sorted(file.name for file in Path(name).iterdir())


def test_numbers_that_go_wrong_end_with_1_and_leave_no_summary(ctrnn):
    assert ctrnn("simulate", "decay.toml", "--no-figures")[0] == 0
    code, _, err = ctrnn("simulate", "decay.toml", *BLOW_UP)
    assert code == 1 and "last good t" in err and "Traceback" not in err
    assert folder("results/decay/simulate") == [
        "unfinished.json"
    ]  # nothing that looks like this run, or like the one before


@pytest.mark.parametrize("fault", ["fit.parameters=['zz']", "fit.optimizer=foo", "equilibrium.guess=[1.0, 2.0]"])
def test_a_wrong_file_is_found_before_anything_is_written(ctrnn, fault):
    code, _, err = ctrnn("run", "decay.toml", "--set", fault)
    assert code == 2 and err.startswith(f"error: --set {fault}: ") and not Path("results").exists()


def test_a_run_clears_the_folder_of_the_run_before_and_of_nothing_else(ctrnn):
    Path("here").mkdir()
    Path("here/mine.csv").write_text("1", encoding="utf-8")
    Path("here/summary.json").write_text('{"experiment": "x", "files": ["../decay.toml"]}', encoding="utf-8")
    assert ctrnn("fit", "decay.toml", "--out", "here", "--no-figures")[0] == 0
    assert "fit.csv" in folder("here") and Path("decay.toml").exists()
    assert ctrnn("simulate", "decay.toml", "--out", "here", "--no-figures")[0] == 0
    assert folder("here") == ["mine.csv", "summary.json", "trajectory.csv", "trajectory.npz"]


def test_a_run_after_a_broken_one_clears_what_that_left(ctrnn):
    code, _, err = ctrnn("run", "decay.toml", "--set", "fit.max_iterations=1", *STOP_IN_FIT)
    assert code == 1 and "not finished" in err and "trajectory.csv" in err
    assert {"trajectory.csv", "unfinished.json"} <= set(folder()) and "summary.json" not in folder()
    assert ctrnn("equilibrium", "decay.toml", "--no-figures", "--out", "results/decay")[0] == 0
    assert folder() == ["equilibrium.npz", "summary.json"]


def test_a_single_step_leaves_the_results_of_run_alone(ctrnn):
    assert ctrnn("run", "decay.toml", "--no-figures", "-q")[0] == 0
    before = folder()
    assert ctrnn("simulate", "decay.toml", "--no-figures", *BLOW_UP)[0] == 1
    assert folder() == sorted([*before, "simulate"])


#: the trajectory is fine; the equilibrium after it is not to be found
STOP_IN_FIT = ["--set", "field.equations.r=k + exp(-r**2)", "--set", "equilibrium={}", "--no-figures"]


@pytest.mark.parametrize("out", ["/dev/null/here", "/proc/here", "decay.toml"])
def test_a_folder_that_cannot_be_written_is_told_before_computing(ctrnn, out, monkeypatch):
    monkeypatch.setattr("ctrnn.cli.simulate.simulate", None)  # never reached
    code, text, err = ctrnn("run", "decay.toml", "--out", out)
    assert (code, text) == (2, "") and f"--out: got '{out}'" in err and "unfinished" not in err


@pytest.mark.parametrize("arguments", [["new", "/proc/x.toml"], ["examples", "scalar", "--copy", "/proc/x"]])
def test_a_file_that_cannot_be_written_is_the_callers_to_mend(ctrnn, arguments):
    code, _, err = ctrnn(*arguments)
    assert code == 2 and "/proc/x" in err and "a place that can be written to" in err


def test_a_warning_is_one_line_in_the_words_of_files(ctrnn):
    """A state that contracts by e^-20, run backwards."""
    stiff = ["--set", "field.parameters.k=20", "--set", "compare.methods=['adjoint-backsolve']"]
    code, _, err = ctrnn("compare", "decay.toml", "--no-figures", *stiff, "--set", "objective.target=[0.0]")
    lines = err.splitlines()
    assert code == 0 and len(lines) == 1 and lines[0].startswith("warning: ")
    assert '"adjoint-interpolate"' in err and "Adjoint(" not in err and ".py" not in err


def test_the_next_command_can_be_pasted_whatever_the_file_is_called(ctrnn):
    code, out, _ = ctrnn("new", "my model.toml")
    assert code == 0 and out.endswith("(next: ctrnn run 'my model.toml')\n")


def test_a_folder_in_the_place_of_a_result_is_not_listed_as_one(ctrnn):
    Path("there/trajectory.csv").mkdir(parents=True)
    code, _, err = ctrnn("simulate", "decay.toml", "--no-figures", "--out", "there")
    assert code and "trajectory.csv" in err and "are the files" not in err


def test_what_cannot_be_written_is_told_by_its_own_name(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "a.csv") as temporary:
        temporary.write_text("x", encoding="utf-8")
    assert caught.value.filename == str(tmp_path / "a.csv")


def test_ctrl_c_while_modules_load_ends_with_130():
    """The interrupt comes from inside the first import after Python's own."""
    code = """
import sys
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stop())
from ctrnn.cli.main import main
main(["--help"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_ctrl_c_says_what_is_there(ctrnn, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setitem(STEPS, "gradient", interrupted)
    code, _, err = ctrnn("run", "decay.toml", "--no-figures")
    assert code == 130 and "trajectory.csv" in err and "unfinished.json" in err and err.endswith("stopped\n")


def test_ctrl_c_ends_with_130(ctrnn, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ctrnn.cli.job.Job.start", interrupted)
    code, _, err = ctrnn("simulate", "decay.toml")
    assert code == 130 and "Traceback" not in err


def test_the_debug_switch_shows_the_error_itself(ctrnn, monkeypatch):
    monkeypatch.setenv("CTRNN_DEBUG", "1")
    with pytest.raises(UsageError):
        ctrnn("simulate", "nothing.toml")


# --- what is written


def test_simulate_writes_the_solution(ctrnn):
    code, out, _ = ctrnn("simulate", "decay.toml", "--set", "solver.points=5")
    assert code == 0
    table = np.loadtxt("results/decay/simulate/trajectory.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(table[:, 0], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(table[:, 1], 3 * np.exp(-2 * table[:, 0]), rtol=1e-7)
    with np.load("results/decay/simulate/trajectory.npz") as saved:
        np.testing.assert_array_equal(saved["r"], table[:, 1:])
    assert Path("results/decay/simulate/trajectory.png").read_bytes().startswith(b"\x89PNG")
    # every file that is listed is there, every file that is there is listed
    listed = [line for line in out.splitlines() if line.startswith("results")]
    assert sorted(listed) == sorted(str(file) for file in Path("results/decay/simulate").iterdir())


def test_run_does_what_the_file_asks_for(ctrnn):
    ctrnn("run", "decay.toml", "--out", "here", "--no-figures")  # on a machine where nothing is compiled yet it says so
    code, out, err = ctrnn("run", "decay.toml", "--out", "here", "--no-figures")
    assert (code, err) == (0, "")
    summary = json.loads(Path("here/summary.json").read_text(encoding="utf-8"))
    l = 0.5 * (3 * np.exp(-2) - 1.5) ** 2
    slope = (3 * np.exp(-2) - 1.5) * -3 * np.exp(-2)  # dl/dk = (r − y) dr/dk, dr/dk = −t r
    assert summary["gradient"]["loss"] == pytest.approx(l, rel=1e-7)
    assert summary["gradient"]["parameters"]["k"] == pytest.approx(slope, rel=1e-7)
    assert len(summary["compare"]) == 4
    (fitted,) = summary["fit"].values()
    assert fitted["parameters"]["k"] == pytest.approx(np.log(2), rel=1e-6)  # 3 e^−k = 1.5
    assert "equilibrium" not in summary
    assert sorted(summary["files"]) == folder("here")
    assert not list(Path("here").glob("*.png"))
    assert "fitted" in out
    assert "converged: " in out and "factr" not in out and "factr" not in fitted["message"]
    rows = Path("here/fit.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "parameter,start,fitted,std_error" and rows[1].startswith("k,2.0,0.69314")
    curve = np.loadtxt("here/fitted-trajectory.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(curve[:, 1], 3 * 0.5 ** curve[:, 0], rtol=1e-6)


def test_quiet_prints_nothing(ctrnn):
    assert ctrnn("gradient", "decay.toml", "--quiet", "--no-figures") == (0, "", "")


def test_equilibrium_tells_stability(ctrnn):
    assert ctrnn("equilibrium", "decay.toml", "-q", "--no-figures")[0] == 0
    summary = json.loads(Path("results/decay/equilibrium/summary.json").read_text(encoding="utf-8"))
    eq = summary["equilibrium"]
    assert eq["stable"] is True and abs(eq["r"]["r"]) < 1e-9
    assert eq["eigenvalues"][0] == pytest.approx([-2.0, 0.0])


def test_equilibrium_takes_a_number_as_guess_and_holds_t_and_x(ctrnn):
    driven = ["--set", "field.equations.r=-k*r + i + t", "--set", "field.inputs=['i']"]
    driven += ["--set", "inputs={kind='constant', values=1.0}"]
    held = ["--set", "equilibrium={guess=0.3, x=3.0, t=1.0}"]
    code, out, _ = ctrnn("equilibrium", "decay.toml", "--no-figures", *driven, *held)
    assert code == 0 and "under i = 3" in out and "eigenvalues of J: -2" in out
    eq = json.loads(Path("results/decay/equilibrium/summary.json").read_text(encoding="utf-8"))["equilibrium"]
    assert eq["r"]["r"] == pytest.approx(2.0)  # k r = i + t


# --- the terminal


@pytest.mark.parametrize("width", [120, 82, 60, 45])
def test_the_comparison_fits_the_terminal(ctrnn, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    methods = '["complex-step", "adjoint-interpolate", "rflo"]'
    code, out, _ = ctrnn("compare", "decay.toml", "--no-figures", "--set", f"compare.methods={methods}")
    lines = out.splitlines()
    assert code == 0 and max(map(len, lines)) <= width
    assert ("memory" in lines[0]) == (width > 80)
    assert all(word in lines[0] for word in ("method", "digits"))
    failed = next(line for line in lines if line.startswith("RFLO"))
    assert "failed" in failed and len(failed.split()) <= 4
    assert any(line.startswith("RFLO (leak only): ") for line in lines)  # why, below the table


def test_the_summary_names_the_methods_that_failed(ctrnn):
    code, out, _ = ctrnn("run", "decay.toml", "--no-figures", "--set", 'compare.methods=["rtrl", "rflo"]')
    assert code == 0 and "Failed: RFLO (leak only)" in out


# --- a trained read-out against data

READOUT = """\
[field]
kind = "rate_network"
n = 3
seed = 1
[data]
file = "measured.csv"
time = "s"
columns = ["rate"]
[problem]
r0 = 0.5
t_span = [0.0, 4.0]
[objective]
target = "data"
at = "data"
readout = { size = 1, seed = 2 }
[gradient]
[fit]
max_iterations = 3
[figures]
labels = { rate = "firing rate (Hz)" }
"""


def test_a_trained_readout_is_printed_saved_and_drawn_against_the_data(ctrnn, monkeypatch):
    from ctrnn import plotting

    seen = {}
    drawn = plotting.fit
    monkeypatch.setattr(plotting, "fit", lambda *a, **k: seen.setdefault("fit", drawn(*a, **k)))
    Path("measured.csv").write_text("s,rate\n0,1\n1,2\n2,0.5\n4,0\n", encoding="utf-8")
    Path("net.toml").write_text(READOUT, encoding="utf-8")
    ctrnn("run", "net.toml", "--out", "here")  # on a machine where nothing is compiled yet it says so
    code, out, err = ctrnn("run", "net.toml", "--out", "here")
    assert (code, err) == (0, "")
    assert out.count("readout V") == out.count("readout c") == 2  # in the gradient's table and in the fit's
    (axes,) = seen["fit"].axes
    before, fitted, data = axes.lines
    np.testing.assert_array_equal(data.get_xydata(), [[0, 1], [1, 2], [2, 0.5], [4, 0]])
    assert axes.get_ylabel() == "firing rate (Hz)"
    with np.load("here/fit.npz") as saved:
        curve = np.loadtxt("here/fitted-trajectory.csv", delimiter=",", skiprows=1)
        o = curve[:, 1:] @ saved["readout.V"].T + saved["readout.c"]
    # the curve has more points than the file, those of the file among them
    np.testing.assert_allclose(fitted.get_ydata()[np.isin(fitted.get_xdata(), curve[:, 0])], o[:, 0], rtol=1e-12)
    np.testing.assert_allclose(np.loadtxt("here/fitted-output.csv", delimiter=",", skiprows=1)[:, 1:], o, rtol=1e-12)
    assert '"V[0,2]",' in Path("here/fit.csv").read_text(encoding="utf-8")
    assert Path("here/fit.png").exists()


def test_pictures_say_what_they_show(ctrnn, monkeypatch):
    from ctrnn import plotting

    seen = {}
    for kind in ("trajectory", "phase_portrait"):
        drawn = getattr(plotting, kind)
        monkeypatch.setattr(plotting, kind, lambda *a, k=kind, d=drawn, **o: seen.setdefault(k, d(*a, **o)))
    assert ctrnn("run", "hare-lynx", "-q", "--set", "compare.methods=['rtrl']", "--set", "fit.max_iterations=2")[0] == 0
    assert "trajectory" not in seen  # the figure of the fit has that curve too
    (plane,) = seen["phase_portrait"].axes
    assert "solution, fitted" in plane.get_legend_handles_labels()[1]
    assert plane.get_xlabel() == "hare pelts (thousands)"
    seen.clear()
    assert ctrnn("simulate", "limit-cycle", "-q")[0] == 0
    assert seen["trajectory"].axes[0].get_title(loc="left") == "6 of 32 units"


def test_a_listed_picture_that_this_command_does_not_draw_is_told(ctrnn):
    code, out, _ = ctrnn("simulate", "decay.toml", "--set", 'figures.show=["trajectory", "fit"]')
    assert code == 0 and "figure fit not drawn here: it takes the step fit" in out


def test_noise_from_a_file_with_paths_their_moments_and_a_figure(ctrnn, tmp_path):
    noise = DECAY.split("[objective]")[0] + '[noise]\nscale = "s*r"\npaths = 300\n[solver]\nname = "euler"\ndt = 0.01\n'
    (tmp_path / "noisy.toml").write_text(noise.replace("k = 2.0", "k = 2.0\ns = 0.5"), encoding="utf-8")
    code, out, err = ctrnn("simulate", "noisy.toml", "--set", "noise.seed=4", "--out", "one")
    assert code == 0, err
    assert "300 paths" in out and "mean at t = 1" in out
    assert {"paths.npz", "paths.png", "trajectory.csv"} <= {file.name for file in (tmp_path / "one").iterdir()}
    end = np.load(tmp_path / "one" / "paths.npz")["r"][:, -1, 0]
    mean, sd = 3.0 * np.exp(-2.0), 3.0 * np.exp(-2.0) * np.sqrt(np.exp(0.25) - 1.0)
    assert abs(end.mean() - mean) < 4 * sd / np.sqrt(300) + 0.01
    first = np.loadtxt(tmp_path / "one" / "trajectory.csv", delimiter=",", skiprows=1)
    assert first[-1, 1] == pytest.approx(end[0], rel=1e-12)  # the run itself is path 0
    assert ctrnn("simulate", "noisy.toml", "--set", "noise.seed=5", "--out", "two")[0] == 0
    assert np.loadtxt(tmp_path / "two" / "trajectory.csv", delimiter=",", skiprows=1)[-1, 1] != first[-1, 1]
    for change, words in (
        ("noise.scale=q", "unknown name"),
        ("noise.calculus=itoo", "did you mean 'ito'"),
        ("solver.name=kvaerno5", "with noise"),
        ("noise.seed=-1", "a number >= 0"),
    ):
        changes = ("--set", change, "--set", "field.parameters={k=2.0}") if change.endswith("=q") else ("--set", change)
        code, _, err = ctrnn("simulate", "noisy.toml", *changes, "--out", "three")
        assert code == 2 and words in err, err
    assert not (tmp_path / "three").exists()


# --- examples and the template


def test_rows_outside_the_time_span_are_said(ctrnn):
    code, _, err = ctrnn("fit", "hare-lynx", "--no-figures", "--set", "problem.t_span=[1900,1905]", "--out", "here")
    said = "15 of 21 rows of the data lie outside problem.t_span"
    assert code == 0 and said in err
    (warning,) = json.loads(Path("here/summary.json").read_text(encoding="utf-8"))["warnings"]
    assert said in warning
    assert "outside" not in ctrnn("simulate", "hare-lynx", "--no-figures")[2]


def test_a_fit_tells_errors_where_people_look(ctrnn):
    code, out, _ = ctrnn("fit", "hare-lynx", "--no-figures", "--out", "here")
    assert code == 0 and "std. error" in out and "correlations" in out and "r0[prey]" in out and "-0.963" in out
    rows = [row.split(",") for row in Path("here/fit.csv").read_text(encoding="utf-8").splitlines()]
    errors = {row[0]: float(row[3]) for row in rows[1:]}
    assert errors["a"] == pytest.approx(0.03509, rel=1e-3) and errors["pred at t0"] == pytest.approx(0.5891, rel=1e-3)
    (fitted,) = json.loads(Path("here/summary.json").read_text(encoding="utf-8"))["fit"].values()
    assert fitted["standard_errors"]["r0[pred]"] == pytest.approx(0.5891, rel=1e-3) and fitted["converged"]
    assert fitted["correlations"]["matrix"][2][0] == pytest.approx(-0.963, abs=1e-3)


def test_tables_list_what_is_fitted_and_no_forty_initial_states(ctrnn):
    code, out, _ = ctrnn("run", "plastic-network", "--no-figures", "--out", "here")
    _, table = out[out.index("fit by") :].split("converged", 1)
    assert code == 0 and "tau_h" not in table and "at t0" not in out and "r0, norms" in out
    assert "eta" in table and "tau_h" in out[: out.index("fit by")]
    rows = Path("here/fit.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 2 + 42  # the file has all


def test_options_of_a_fit_from_the_file(ctrnn):
    code, out, _ = ctrnn(
        "fit", "hare-lynx", "--no-figures", "--out", "here", "--set", "fit.optimizer=auto", "--set", "fit.multistart=6",
        "--set", "fit.bounds.a=[0.1, 2.0]", "--set", "fit.prior.b={mean=0.03, sd=0.01}", "--set",
        "fit.sigma=[4.0, 4.0]",
    )  # fmt: skip
    assert code == 0 and "valley" in out
    (fitted,) = json.loads(Path("here/summary.json").read_text(encoding="utf-8"))["fit"].values()
    assert sum(v["reached"] for v in fitted["valleys"]) + fitted["starts_without_solution"] == 6
    assert "sum_of_squared_errors" not in fitted
    code, _, err = ctrnn("fit", "hare-lynx", "--set", "fit.prior.q={mean=0.0, sd=1.0}")
    assert code == 2 and "fit.prior" in err
    code, _, err = ctrnn("fit", "hare-lynx", "--set", "fit.noise=cauchy")
    assert code == 2 and "fit.noise" in err


def test_hare_lynx_is_fitted_from_the_rough_start(ctrnn):
    """The least sum of squares of these 21 years, to 6 digits."""
    assert ctrnn("fit", "hare-lynx", "-q", "--no-figures")[0] == 0
    summary = json.loads(Path("results/hare-lynx/fit/summary.json").read_text(encoding="utf-8"))
    fitted = summary["fit"]["rtrl"]
    assert fitted["sum_of_squared_errors"] == pytest.approx(594.745, abs=1e-3)
    assert fitted["parameters"] == pytest.approx({"a": 0.4812, "b": 0.02483, "c": 0.9260, "d": 0.02753}, rel=3e-4)
    assert fitted["r0"] == pytest.approx([34.915, 3.862], rel=1e-4)


def test_scalar_shows_where_the_leak_only_gradient_parts(ctrnn):
    for w, least, most in ((0.5, 0.0, 1.0), (0.01, 1.0, 3.0)):
        override = f"field.parameters.W=[[{w}]]"
        assert ctrnn("compare", "scalar", "-q", "--no-figures", "--set", override)[0] == 0
        rows = json.loads(Path("results/scalar/compare/summary.json").read_text(encoding="utf-8"))["compare"]
        assert rows["adjoint, discrete"]["digits"] > 12
        assert least < rows["RFLO (leak only)"]["digits"] < most


def test_examples_are_listed_printed_and_copied(ctrnn):
    code, out, _ = ctrnn("examples")
    assert code == 0 and all(name in out for name in example_names())
    text = (examples_folder() / "hare-lynx.toml").read_text(encoding="utf-8")
    assert ctrnn("examples", "hare-lynx")[1] == text
    assert ctrnn("examples", "hare-lynx", "--copy", "mine")[0] == 0
    assert Path("mine/hare-lynx.toml").read_text(encoding="utf-8") == text
    assert Path("mine/hare_lynx.csv").exists()
    assert ctrnn("examples", "hare-lynx", "--copy", "mine")[0] == 2
    assert ctrnn("examples", "hare-lynx", "--copy", "mine", "--force")[0] == 0


def test_the_template_runs(ctrnn):
    assert ctrnn("new", "t.toml")[0] == 0
    before = Path("t.toml").read_text(encoding="utf-8")
    assert ctrnn("new", "t.toml")[0] == 2
    assert Path("t.toml").read_text(encoding="utf-8") == before
    ctrnn("run", "t.toml", "--no-figures")  # on a machine where nothing is compiled yet it says so
    code, _, err = ctrnn("run", "t.toml", "--no-figures")
    assert (code, err) == (0, "")
    rows = json.loads(Path("results/t/summary.json").read_text(encoding="utf-8"))["compare"].values()
    assert all(row["reference"] or row["digits"] > 6 for row in rows)  # no method that cannot serve it


def test_the_template_names_every_kind_and_key_of_signals_and_tables():
    for kind, section in signals.KINDS.items():
        keys = set(section.model_fields) - {"kind"}
        (line,) = [line for line in TEMPLATE.splitlines() if line.startswith(f"#   {kind} ")]
        assert all(key in line for key in keys), kind
    for name, section in schema.ExperimentSpec.model_fields.items():
        if name not in ("title", "shows", "field"):
            assert f"[{name}]" in TEMPLATE
            assert section is not None
    assert all(name in TEMPLATE for name in tableaus.names())
    assert all(method in TEMPLATE for method in get_args(schema.MethodName))
    for model in (
        schema.EquilibriumSpec,
        schema.FiguresSpec,
        schema.FitSpec,
        schema.SolverSpec,
        schema.EventSpec,
        schema.TrainSpec,
        schema.LearnSpec,
    ):
        missing = [key for key in model.model_fields if f"{key} = " not in TEMPLATE]
        assert not missing


# --- whole files


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("ne", encoding="utf-8")
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "old" and list(tmp_path.iterdir()) == [path]
