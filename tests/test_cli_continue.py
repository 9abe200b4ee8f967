"""The commands continue, cycle and lyapunov.

Their tables, files and figures, and what they refuse, at the key that is wrong.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ctrnn.cli.main import run

BRUSSELATOR = """\
[field]
kind = "equations"
[field.equations]
u = "A - (B + 1)*u + u**2*v"
v = "B*u - u**2*v"
[field.parameters]
A = 1.2
B = 3.0
[problem]
r0 = { u = 1.0, v = 2.0 }
t_span = [0.0, 60.0]
[equilibrium]
guess = { u = 1.2, v = 2.5 }
[continue]
parameter = "B"
span = [0.5, 4.0]
cycles = true
[cycle]
[lyapunov]
transient = 20.0
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("b.toml").write_text(BRUSSELATOR, encoding="utf-8")


def summary(command):
    return json.loads(Path(f"results/b/{command}/summary.json").read_text(encoding="utf-8"))


def test_continue(capsys):
    assert run(["continue", "b.toml"]) == 0
    found = summary("continue")["continue"]
    (hopf,) = found["special"]
    assert hopf["kind"] == "hopf"
    assert hopf["parameter"] == pytest.approx(1 + 1.2**2, rel=1e-12)
    assert hopf["omega"] == pytest.approx(1.2, rel=1e-12)
    assert found["ends"] == ["span", "span"]
    assert {cycle["ends"][0] for cycle in found["cycles"]} | {cycle["ends"][1] for cycle in found["cycles"]} == {
        "hopf",
        "span",
    }
    arrays = np.load("results/b/continue/branch.npz")
    assert arrays["r"].shape == (arrays["parameter"].size, 2)
    assert Path("results/b/continue/bifurcation.png").stat().st_size > 10_000
    assert Path("results/b/continue/cycles.npz").exists()
    assert "supercritical" in capsys.readouterr().out


CUSP = """\
[field]
kind = "equations"
[field.equations]
r = "b + a*r - r**3"
[field.parameters]
a = 1.0
b = 0.0
[problem]
r0 = { r = 1.0 }
t_span = [0.0, 20.0]
[equilibrium]
guess = { r = 1.0 }
[continue]
parameter = "b"
span = [-1.0, 1.0]
second = "a"
second_span = [-1.0, 2.0]
"""


def test_two_parameters_and_other_branches(capsys):
    """Folds at b = ±2(a/3)^(3/2), on one curve with its cusp; and the pitchfork in a, both branches."""
    Path("b.toml").write_text(CUSP, encoding="utf-8")
    assert run(["continue", "b.toml"]) == 0
    (curve,) = summary("continue")["continue"]["curves"]
    assert curve["kind"] == "fold"
    (cusp,) = curve["special"]
    assert cusp["kind"] == "cusp"
    assert (cusp["a"], cusp["b"]) == pytest.approx((0.0, 0.0), abs=1e-10)
    arrays = np.load("results/b/continue/curve.npz")
    assert np.abs(arrays["first"]) == pytest.approx(2 * (arrays["second"] / 3) ** 1.5, abs=1e-9)
    assert Path("results/b/continue/two-parameters.png").stat().st_size > 10_000
    assert not Path("results/b/continue/curve-2.npz").exists()
    assert "cusp" in capsys.readouterr().out
    assert run(["continue", "b.toml", "--set", "continue.second_span=[0.5, 2.0]"]) == 0
    said = " ".join(capsys.readouterr().out.split())  # however wide the screen is
    assert "without points of codimension two" in said and "point of codimension two" not in said
    pitchfork = ["--set", "continue.parameter=a", "--set", "continue.second=b", "--set", "continue.second_span=[-1, 1]"]
    assert run(["continue", "b.toml", *pitchfork, "--set", "continue.branches=true"]) == 0
    found = summary("continue")["continue"]
    assert len(found["branches"]) == 1
    assert {p["type"] for p in found["special"]} == {"pitchfork"}
    assert Path("results/b/continue/branch-2.npz").exists()
    assert "curves" in found


def test_cycle_and_lyapunov():
    assert run(["cycle", "b.toml", "--quiet"]) == 0
    assert summary("cycle")["cycle"]["stable"] is True
    assert Path("results/b/cycle/cycle.png").exists()
    assert run(["lyapunov", "b.toml", "-q", "--set", "lyapunov.k=1"]) == 0
    found = summary("lyapunov")["lyapunov"]
    assert abs(found["exponents"][0]) < 0.1
    assert len(found["exponents"]) == 1


def test_all_of_it_by_run(capsys):
    assert run(["run", "b.toml", "--no-figures", "--out", "all"]) == 0
    out = capsys.readouterr().out
    for word in ("continue", "cycle", "lyapunov", "hopf at 2.44"):
        assert word in out
    there = {file.name for file in Path("all").iterdir()}
    assert {"branch.npz", "cycle.npz", "lyapunov.npz", "summary.json"} <= there


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("continue.parameter=C", "continue.parameter"),
        ("continue.span=[5.0, 6.0]", "that holds 3"),
        ("continue.state=w", "continue.state"),
        ("continue.wide=1", "the keys parameter, span"),
        ("continue.second=A", "continue.second"),
        ("continue.second_span=[0.0, 2.0]", "together with second"),
    ],
)
def test_what_is_wrong_is_said_at_its_key(capsys, override, words):
    assert run(["continue", "b.toml", "--set", override]) == 2
    assert words in capsys.readouterr().err


def test_more_that_is_wrong(capsys):
    assert run(["lyapunov", "b.toml", "--set", "lyapunov.k=3"]) == 2
    assert "lyapunov.k" in capsys.readouterr().err
    two = ["--set", "continue.second=C", "--set", "continue.second_span=[0, 2]"]
    assert run(["continue", "b.toml", *two]) == 2
    assert "continue.second" in capsys.readouterr().err
    assert run(["continue", "b.toml", *two, "--set", "continue.second=B"]) == 2
    assert "different parameters" in capsys.readouterr().err
    assert run(["continue", "b.toml", *two, "--set", "continue.second=A", "--set", "continue.second_span=[2, 3]"]) == 2
    assert "that holds 1.2" in capsys.readouterr().err
    Path("b.toml").write_text(BRUSSELATOR.split("[continue]")[0], encoding="utf-8")
    assert run(["continue", "b.toml"]) == 2
    assert "a table [continue]" in capsys.readouterr().err
    assert run(["cycle", "b.toml", "--set", "field.parameters.B=1.0"]) == 1
    assert "rest" in capsys.readouterr().err
