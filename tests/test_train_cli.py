"""`ctrnn train` from the command line: results, --resume after a kill, and what is refused."""

import csv
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

FILE = """\
title = "what was three steps ago"
[field]
kind = "rate_network"
n = 6
inputs = 2
form = "rate"
seed = 0
[train]
data = { file = "trials.csv", inputs = ["u", "v"], outputs = ["z"], trial = "trial", weight = "a" }
validation = 0.25
readout = { size = 1, seed = 1 }
optimizer = { name = "adamw", eps = 1e-7 }
lr = 0.02
scheduler = { name = "ExponentialLR", gamma = 0.99 }
dropout = { W = 0.1, x = 0.1 }
clip = 1.0
epochs = 6
batch_size = 4
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An experiment with trials beside it; ctrnn runs there."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = ["trial,u,v,z,a"]
    for b in range(12):
        x = rng.normal(size=(10, 2))
        lines += [f"{b},{x[k, 0]:.6f},{x[k, 1]:.6f},{x[k - 3, 0] * (k > 2):.6f},{int(k > 2)}" for k in range(10)]
    Path("trials.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    Path("x.toml").write_text(FILE, encoding="utf-8")
    return tmp_path


def test_results_and_figure(folder, capsys):
    assert run(["train", "x.toml"]) == 0
    out = capsys.readouterr().out
    assert "validation" in out and "6 epochs" in out and "training.png" in out
    results = Path("results/x/train")
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    assert summary["train"]["epochs"] == 6 and summary["train"]["converged"] is False
    named = {"checkpoint.pt", "metrics.csv", "training.npz", "output.npz", "training.png", "summary.json"}
    assert set(summary["files"]) == named == {file.name for file in results.iterdir()}
    with (results / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert min(float(row["validation"]) for row in rows) == summary["train"]["validation"]
    with np.load(results / "output.npz") as held:
        assert np.isnan(held["target"][:3]).all() and held["output"].shape == (10, 1)


def test_trials_from_an_npz_file_and_a_table_of_validation(folder, capsys):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(5, 9, 2))
    np.savez("t.npz", x=x, y=x[..., :1], lengths=[9, 4, 9, 7, 5])
    changes = ['train.data={file="t.npz"}', 'train.validation={file="t.npz"}', "train.epochs=1"]
    sets = [part for change in changes for part in ("--set", change)]
    assert run(["train", "x.toml", "--no-figures", *sets]) == 0
    assert run(["train", "x.toml", "--no-figures", *sets, "--set", 'train.data={file="t.npz", trial="trial"}']) == 2
    assert "x, y and weight" in capsys.readouterr().err
    np.savez("t.npz", x=x, y=x[:, :8, :1])
    assert run(["train", "x.toml", "--no-figures", *sets]) == 2
    assert "8 steps" in capsys.readouterr().err


def test_run_trains_too(folder, capsys):
    assert run(["run", "x.toml", "--set", "train.epochs=1", "--no-figures"]) == 0
    assert "what was three steps ago" in capsys.readouterr().out


def test_resumed_after_a_kill_it_ends_at_the_same_bits(folder, capsys):
    command = [sys.executable, "-m", "ctrnn", "train", "x.toml", "--no-figures", "-q", "--out", "killed"]
    endless = [*command, "--set", "train.epochs=100000"]
    process = subprocess.Popen(endless, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    metrics, end = Path("killed/metrics.csv"), time.monotonic() + 120
    try:
        while not (metrics.exists() and metrics.read_text().count("\n") > 10):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert Path("killed/unfinished.json").exists() and not Path("killed/summary.json").exists()
    epochs = f"train.epochs={metrics.read_text().count(chr(10)) + 4}"
    same = ["train", "x.toml", "--no-figures", "-q", "--set", epochs]
    # what is refused leaves all as it is
    before = {file.name: file.read_bytes() for file in Path("killed").iterdir()}
    assert run([*same, "--out", "killed", "--resume", "--set", "train.lr=0.5"]) == 2
    assert "lr" in capsys.readouterr().err
    assert before == {file.name: file.read_bytes() for file in Path("killed").iterdir() if file.name in before} | {
        "unfinished.json": before["unfinished.json"]
    }
    assert run([*same, "--out", "killed", "--resume"]) == 0
    assert run([*same, "--out", "straight"]) == 0
    for name in ("metrics.csv", "output.npz", "training.npz"):
        assert Path("killed", name).read_bytes() == Path("straight", name).read_bytes(), name


def test_a_checkpoint_that_is_cut_short_is_refused_and_kept(folder, capsys):
    assert run(["train", "x.toml", "--no-figures", "-q", "--out", "o"]) == 0
    path = Path("o/checkpoint.pt")
    path.write_bytes(path.read_bytes()[:1000])
    assert run(["train", "x.toml", "--no-figures", "-q", "--out", "o", "--resume"]) == 2
    err = capsys.readouterr().err
    assert "cut short" in err and "Traceback" not in err and path.stat().st_size == 1000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("train.data.outputs=[\"q\"]", "q"),
        ("train.data.file=none.csv", "none.csv"),
        ("train.optimizer=adamm", "did you mean 'adam'"),
        ("train.scheduler={name=\"StepLR\"}", "step_size"),
        ("train.scheduler=cosine", "scheduler"),
        ("train.loss=square", "squared_error"),
        ("train.readout={size=2, seed=1}", "2 outputs of 6 states"),
        ("train.epoch=3", "epochs"),
        ("train.dropout={W=1.5}", "dropout"),
        ("train.patience=0", "patience"),
        ("train.data={task=\"flipflop\"}", "flip-flop"),
        ("train.data={task=\"flip-flop\", bit=3}", "bits"),
        ("train.data={bits=3}", "task"),
        ("train.fresh=true", "fresh"),
        ("train.feedback=true", "feedback"),
        ("train.curriculum={start=1}", "curriculum"),
        ("train.windows={length=3, warmup=3}", "warmup"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_key(folder, capsys, change, words):
    assert run(["train", "x.toml", "--no-figures", "-q", "--set", change]) == 2
    err = capsys.readouterr().err
    assert words in err and "Traceback" not in err and ("x.toml" in err or "--set" in err)


def test_nan_in_the_data_is_refused_with_its_line(folder, capsys):
    text = Path("trials.csv").read_text(encoding="utf-8").splitlines()
    text[5] = "0,nan,1,1,1"
    Path("trials.csv").write_text("\n".join(text), encoding="utf-8")
    assert run(["train", "x.toml"]) == 2
    err = capsys.readouterr().err
    assert "line 6" in err and "'u'" in err and not Path("results").exists()


def test_the_shipped_flip_flop(folder, capsys):
    changes = ["train.epochs=2", "train.data.trials=8", "train.validation.trials=4", "train.test.trials=4"]
    sets = [part for change in changes for part in ("--set", change)]
    assert run(["train", "flip-flop", *sets]) == 0
    assert "right answers in the test" in capsys.readouterr().out
