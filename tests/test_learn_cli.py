"""`ctrnn learn` from the command line: results, --resume after a kill, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ctrnn.cli.main import run
from ctrnn.learning import OnlineLearner

FILE = """\
title = "a sum of what came"
[field]
kind = "rate_network"
n = 6
inputs = 2
form = "rate"
seed = 0
[learn]
data = { file = "trials.csv", inputs = ["u", "v"], outputs = ["z"], trial = "trial", weight = "a" }
readout = { size = 1, seed = 1 }
optimizer = { name = "sgd", momentum = 0.5 }
lr = 0.02
scheduler = { name = "ExponentialLR", gamma = 0.999 }
clip = 1.0
lanes = 2
repeats = 4
record_every = 30
checkpoint_every = 10
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An experiment with trials beside it; ctrnn runs there."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = ["trial,u,v,z,a"]
    for b in range(8):
        x = rng.normal(size=(10, 2))
        lines += [f"{b},{x[k, 0]:.6f},{x[k, 1]:.6f},{x[k].sum():.6f},{int(k > 2)}" for k in range(10)]
    Path("trials.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    Path("x.toml").write_text(FILE, encoding="utf-8")
    return tmp_path


def test_results_and_figure(folder, capsys):
    assert run(["learn", "x.toml"]) == 0
    assert "160 steps, 160 updates" in capsys.readouterr().out
    results = Path("results/x/learn")
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    assert summary["learn"]["steps"] == 160 and summary["learn"]["loss_last"] < summary["learn"]["loss_first"]
    assert {"learner.npz", "learning.csv", "learned.npz", "learning.png"} <= {p.name for p in results.iterdir()}
    learner = OnlineLearner.load(results / "learner.npz")
    np.testing.assert_array_equal(np.load(results / "learned.npz")["parameters.W"], learner.field.parameters["W"])
    rows = (results / "learning.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("step,t,loss") and [int(row.split(",")[0]) for row in rows[1:]][-1] == 160


def test_killed_and_resumed_it_ends_as_if_nothing_had_been(folder):
    """A real kill after a checkpoint; --resume goes on from there to the same bits."""
    command = [sys.executable, "-m", "ctrnn", "learn", "x.toml", "--set", "learn.repeats=30", "--no-figures"]
    checkpoint = Path("results/x/learn/learner.npz")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    begun = OnlineLearner.load(checkpoint).steps
    assert 0 < begun < 1200
    assert run([*command[3:], "--resume"]) == 0
    resumed = OnlineLearner.load(checkpoint)
    assert run([*command[3:], "--out", "whole"]) == 0
    whole = OnlineLearner.load("whole/learner.npz")
    np.testing.assert_array_equal(resumed.field.vector, whole.field.vector)
    np.testing.assert_array_equal(resumed.history.loss, whole.history.loss)
    assert resumed.steps == whole.steps == 1200


BAD = {
    "optimizer": (["learn.optimizer=adamm"], "optimizer"),
    "option": (['learn.optimizer={ name = "sgd", moment = 0.9 }'], "moment"),
    "method": (["learn.method=snap"], "method"),
    "option of a method": (['learn.method={ name = "tbptt", windows = 3 }'], "windows"),
    "backward": (["learn.method=adjoint"], "forward"),
    "column": (["learn.data.inputs=['u', 'w']"], "w"),
    "lanes": (["learn.lanes=3"], "lanes"),
    "outputs": (["learn.readout.size=2"], "learn.data"),
    "key": (["learn.rate=1"], "rate"),
    "solver": (["learn.solver=kvaerno5"], "explicit"),
    "task": (['learn.data={ task = "adding-up" }'], "adding"),
}


@pytest.mark.parametrize(("overrides", "word"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_said_before_anything_is_written(folder, capsys, overrides, word):
    assert run(["learn", "x.toml", *(part for item in overrides for part in ("--set", item))]) == 2
    error = capsys.readouterr().err
    assert word in error and "Traceback" not in error and not Path("results").exists()


def test_bad_data_are_refused(folder, capsys):
    text = Path("trials.csv").read_text(encoding="utf-8")
    Path("trials.csv").write_text(text.replace(text.splitlines()[5].split(",")[1], "nan"), encoding="utf-8")
    assert run(["learn", "x.toml"]) == 2
    assert not Path("results").exists() and "Traceback" not in capsys.readouterr().err


def test_a_checkpoint_of_something_else_is_not_resumed(folder, capsys):
    assert run(["learn", "x.toml", "--no-figures"]) == 0
    checkpoint = Path("results/x/learn/learner.npz")
    before = checkpoint.read_bytes()
    for override, word in {
        "learn.lr=0.1": "lr = 0.02", "field.n=7": "field", "learn.method=snap-1": "method = 'rtrl'",
        "learn.data.inputs=['v', 'u']": "other data", "learn.update_every=3": "update_every = 1",
        "learn.reset_every=5": "reset_every = None", "learn.feedback=random": "feedback = None",
        "learn.readout.seed=2": "other numbers at the start", "learn.r0=0.5": "other numbers at the start",
        "field.tau=2.0": "other numbers at the start", "field.seed=1": "other numbers at the start",
        "field.activation=relu": "another field",
    }.items():  # fmt: skip
        assert run(["learn", "x.toml", "--resume", "--set", override]) == 2, override
        error = capsys.readouterr().err
        assert word in error and "Traceback" not in error and checkpoint.read_bytes() == before, override
    assert run(["learn", "x.toml", "--resume", "--set", "learn.repeats=5", "--no-figures"]) == 0
    before = checkpoint.read_bytes()
    checkpoint.write_bytes(before[: len(before) // 2])
    assert run(["learn", "x.toml", "--resume"]) == 2
    assert "whole" in capsys.readouterr().err


def test_run_takes_a_file_with_learn_alone(folder, capsys):
    assert run(["run", "x.toml", "--no-figures"]) == 0
    assert "learn" in capsys.readouterr().out


def test_the_shipped_series(folder, capsys):
    assert run(["learn", "mackey-glass", "--set", "learn.data.steps=60", "--set", "learn.data.trials=8"]) == 0
    assert "mean of the last" in capsys.readouterr().out
