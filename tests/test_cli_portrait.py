"""The commands fixed-points and portrait: tables, files and figures, and what they refuse, at the key that is wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from ctrnn import Equations
from ctrnn.analysis import FixedPoints
from ctrnn.cli.main import run

SADDLE = """\
[field]
kind = "equations"
inputs = ["i"]
[field.equations]
u = "u - u**3 + i"
v = "-2*v"
[[inputs]]
kind = "constant"
values = 0.0
[problem]
r0 = { u = 0.2, v = 0.5 }
t_span = [0.0, 20.0]
[fixed_points]
starts = 60
box = [-2.0, 2.0]
[portrait]
box = [[-2.0, 2.0], [-1.0, 1.0]]
basins = true
points = 20
runs = 2
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(SADDLE.replace("box = [-2.0, 2.0]", "box = [[-2.0, 2.0]]"), encoding="utf-8")


def summary(command):
    return json.loads(Path(f"results/s/{command}/summary.json").read_text(encoding="utf-8"))


def test_fixed_points(capsys):
    assert run(["fixed-points", "s.toml"]) == 0
    found = summary("fixed-points")["fixed_points"]
    assert [point["kind"] for point in found["points"]] == ["stable node", "stable node", "saddle"]
    assert found["points"][2]["index"] == 1
    assert found["lost"] + sum(point["reached"] for point in found["points"]) == 60
    field = Equations({"u": "u - u**3 + i", "v": "-2*v"}, inputs=["i"])
    table = FixedPoints.load("results/s/fixed-points/fixed_points.npz", field)
    assert np.allclose(sorted(table.r[:, 0]), [-1, 0, 1])
    with Path("results/s/fixed-points/fixed_points.csv").open(encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert [float(row["abscissa"]) for row in rows] == pytest.approx([-2.0, -2.0, 1.0])
    assert list(rows[0]) == ["kind", "stable", "index", "speed", "abscissa", "i", "u", "v"]
    assert imread("results/s/fixed-points/fixed-points.png").std() > 0
    assert "3 points of rest from 60 starts" in capsys.readouterr().out


def test_fixed_points_of_several_inputs_and_slow_ones():
    more = ["--set", "fixed_points.x=[[0.0], [0.5]]", "--set", "fixed_points.slow=true"]
    assert run(["fixed-points", "s.toml", "-q", *more]) == 0
    points = summary("fixed-points")["fixed_points"]["points"]
    assert [point["x"] for point in points] == [[0.0]] * 3 + [[0.5]] * 2
    (slow,) = (point for point in points if point["kind"] == "slow")  # beyond the fold at 2/(3√3)
    assert slow["speed"] == pytest.approx(0.5 - 2 / (3 * np.sqrt(3)), rel=1e-9)


def test_portrait(capsys):
    assert run(["portrait", "s.toml"]) == 0
    found = summary("portrait")["portrait"]
    assert found["basins"] == [0.5, 0.5]
    assert found["undecided"] == 0.0
    assert "saddle" in capsys.readouterr().out
    arrays = np.load("results/s/portrait/portrait.npz")
    assert arrays["attractor"].shape == (20, 20)
    assert arrays["runs"].shape == (3, 501, 2)
    assert np.allclose(arrays["nullcline v 0"][:, 1], 0.0)
    assert Path("results/s/portrait/portrait.png").stat().st_size > 20_000


def test_all_of_it_by_run(capsys):
    assert run(["run", "s.toml", "--no-figures", "--out", "all"]) == 0
    out = capsys.readouterr().out
    assert "1 × saddle, 2 × stable node" in out
    assert "50.0%, 50.0%" in out


def test_a_network_is_drawn_on_principal_components():
    text = """\
[field]
kind = "rate_network"
n = 6
gain = 2.0
seed = 1
[problem]
r0 = { seed = 1 }
t_span = [0.0, 20.0]
"""
    Path("n.toml").write_text(text, encoding="utf-8")
    assert run(["portrait", "n.toml", "-q"]) == 0
    found = json.loads(Path("results/n/portrait/summary.json").read_text(encoding="utf-8"))["portrait"]
    assert 1.0 <= found["participation_ratio"] <= 6.0
    assert Path("results/n/portrait/portrait.png").exists()
    assert run(["portrait", "n.toml", "-q", "--set", 'portrait.states=["r1", "r4"]', "--no-figures"]) == 0
    assert np.load("results/n/portrait/portrait.npz")["nullcline r1 0"].shape[1] == 2


@pytest.mark.parametrize(
    ("command", "override", "words"),
    [
        ("fixed-points", "fixed_points.box=[[1.0, -1.0]]", "fixed_points.box.0"),
        ("fixed-points", "fixed_points.box=[[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]", "1 or 2 of the states"),
        ("fixed-points", "fixed_points.x=[[0.0, 1.0]]", "one number for each input (1)"),
        ("fixed-points", "fixed_points.start=3", "'starts'"),
        ("portrait", 'portrait.states=["u", "w"]', "portrait.states.1"),
        ("portrait", 'portrait.states=["u", "u"]', "two different states"),
        ("portrait", "portrait.box=[[1.0, 0.0], [0.0, 1.0]]", "low < high"),
        ("portrait", "portrait.points=1", "portrait.points"),
    ],
)
def test_what_is_wrong_is_said_at_its_key(capsys, command, override, words):
    assert run([command, "s.toml", "--set", override]) == 2
    assert words in capsys.readouterr().err


def test_basins_need_a_plane(capsys):
    Path("s.toml").write_text(
        SADDLE.replace('v = "-2*v"', 'v = "-2*v"\nw = "-w"').replace("v = 0.5 }", "v = 0.5, w = 0.0 }")
    )
    assert run(["portrait", "s.toml", "--set", "fixed_points.box=[[-1.0, 1.0]]"]) == 2
    assert "portrait.states" in capsys.readouterr().err


FITTED = """\
[field]
kind = "equations"
[field.equations]
u = "v"
v = "-k*u - v"
[field.parameters]
k = 1.0
[problem]
r0 = { u = 1.0, v = 0.0 }
t_span = [0.0, 4.0]
[data]
file = "u.csv"
time = "t"
columns = { u = "u" }
[objective]
target = "data"
at = "data"
[fit]
[portrait]
runs = 0
[fixed_points]
starts = 4
[figures]
show = []
"""


def test_the_portrait_of_a_fitted_field_has_the_fitted_run():
    Path("f.toml").write_text(FITTED, encoding="utf-8")
    Path("u.csv").write_text("t,u\n0,1.0\n1,-0.1\n2,-0.2\n3,0.1\n", encoding="utf-8")
    assert run(["run", "f.toml", "-q"]) == 0
    with Path("results/f/fitted-trajectory.csv").open(encoding="utf-8") as f:
        fitted = np.array([[float(row["u"]), float(row["v"])] for row in csv.DictReader(f)])
    with Path("results/f/trajectory.csv").open(encoding="utf-8") as f:
        before = np.array([[float(row["u"]), float(row["v"])] for row in csv.DictReader(f)])
    with np.load("results/f/portrait.npz") as saved:
        drawn = saved["runs"][0]
    assert np.abs(fitted - before).max() > 0.1
    np.testing.assert_allclose(drawn, fitted, rtol=1e-12)
