"""The command line: what it writes, what it prints, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ctrnn.cli import main as cli
from ctrnn.errors import UsageError
from ctrnn.experiment.examples import example_names, examples_folder
from ctrnn.files import atomic_path

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
        (["run", "decay.toml", "--set", "solver.name=tsit6"], "solver.name: solver: got 'tsit6'"),
        (["run", "decay.toml", "--set", "solver.name=rk4"], "solver.dt"),
        (["run", "decay.toml", "--out", "decay.toml"], "a folder"),
        (["fit", "decay.toml", "--set", "fit.parameters=['q']"], "fit.parameters"),
        (["fit", "decay.toml", "--set", "fit.optimizer=adm"], "fit.optimizer"),
        (["fit", "decay.toml", "--set", "field.parameters.k=-1"], "fit"),
        (["examples", "limit"], "allowed: hare-lynx, limit-cycle, scalar"),
        (["examples", "--copy", "here"], "the name of an example"),
        (["new", "decay.toml"], "--force"),
        (["new", "nowhere/x.toml"], "a folder that exists"),
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


def test_numbers_that_go_wrong_end_with_1_and_leave_no_summary(ctrnn):
    Path("results/decay").mkdir(parents=True)
    Path("results/decay/summary.json").write_text("{}", encoding="utf-8")
    blow_up = ["--set", "field.equations.r=r**2*k", "--set", "problem.t_span=[0.0, 5.0]"]
    code, _, err = ctrnn("simulate", "decay.toml", *blow_up)
    assert code == 1 and "last good t" in err and "Traceback" not in err
    assert not Path("results/decay/summary.json").exists()


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
    table = np.loadtxt("results/decay/trajectory.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(table[:, 0], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(table[:, 1], 3 * np.exp(-2 * table[:, 0]), rtol=1e-7)
    with np.load("results/decay/trajectory.npz") as saved:
        np.testing.assert_array_equal(saved["r"], table[:, 1:])
    assert Path("results/decay/trajectory.png").read_bytes().startswith(b"\x89PNG")
    # every file that is listed is there, every file that is there is listed
    listed = [line for line in out.splitlines() if line.startswith("results")]
    assert sorted(listed) == sorted(str(file) for file in Path("results/decay").iterdir())


def test_run_does_what_the_file_asks_for(ctrnn):
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
    assert summary["files"] == sorted(summary["files"], key=summary["files"].index)
    assert not list(Path("here").glob("*.png"))
    assert "fitted" in out


def test_quiet_prints_nothing(ctrnn):
    assert ctrnn("gradient", "decay.toml", "--quiet", "--no-figures") == (0, "", "")


def test_equilibrium_tells_stability(ctrnn):
    assert ctrnn("equilibrium", "decay.toml", "-q", "--no-figures")[0] == 0
    summary = json.loads(Path("results/decay/summary.json").read_text(encoding="utf-8"))
    eq = summary["equilibrium"]
    assert eq["stable"] is True and abs(eq["r"]["r"]) < 1e-9
    assert eq["eigenvalues"][0] == pytest.approx([-2.0, 0.0])


# --- examples and the template


def test_hare_lynx_is_fitted_from_the_rough_start(ctrnn):
    """The least sum of squares of these 21 years, to 6 digits."""
    assert ctrnn("fit", "hare-lynx", "-q", "--no-figures")[0] == 0
    summary = json.loads(Path("results/hare-lynx/summary.json").read_text(encoding="utf-8"))
    fitted = summary["fit"]["rtrl"]
    assert fitted["sum_of_squared_errors"] == pytest.approx(594.745, abs=1e-3)
    assert fitted["parameters"] == pytest.approx({"a": 0.4812, "b": 0.02483, "c": 0.9260, "d": 0.02753}, rel=3e-4)
    assert fitted["r0"] == pytest.approx([34.915, 3.862], rel=1e-4)


def test_scalar_shows_where_the_leak_only_gradient_parts(ctrnn):
    for w, least, most in ((0.5, 0.0, 1.0), (0.01, 1.0, 3.0)):
        override = f"field.parameters.W=[[{w}]]"
        assert ctrnn("compare", "scalar", "-q", "--no-figures", "--set", override)[0] == 0
        rows = json.loads(Path("results/scalar/summary.json").read_text(encoding="utf-8"))["compare"]
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
    code, _, err = ctrnn("run", "t.toml", "--no-figures")
    assert (code, err) == (0, "")


# --- whole files


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("ne", encoding="utf-8")
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "old" and list(tmp_path.iterdir()) == [path]
