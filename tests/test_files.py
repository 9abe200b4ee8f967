"""What is read is a file that has an end: a named pipe or a device is refused, an open one of the shell's is not."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import ctrnn
from ctrnn import cache
from ctrnn.cli import main as cli
from ctrnn.errors import UsageError
from ctrnn.experiment.examples import examples_folder
from ctrnn.learning import Dataset, Fit, OnlineLearner, Training

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
FIELD = ctrnn.Equations({"r": "-k*r"}, {"k": 1.0})


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "pipe.npz"
    os.mkfifo(path)
    return path


READERS = {
    "stream": lambda path: ctrnn.RTRLStream.load(path),
    "fit": lambda path: Fit.load(path, ctrnn.Problem(FIELD, 1.0, (0.0, 1.0))),
    "fixed points": lambda path: ctrnn.analysis.FixedPoints.load(path, FIELD),
    "learner": lambda path: OnlineLearner.load(path),
    "training": lambda path: Training.load(path, ctrnn.RateNetwork(2, inputs=1, seed=0)),
    "trials": lambda path: Dataset.from_npz(path),
    "a table of trials": lambda path: Dataset.from_csv(path, "x", "y", trial="b"),
    "columns": lambda path: ctrnn.inputs.from_csv(path, "t", "x"),
    "checkpoint": lambda path: ctrnn.learning.train(
        ctrnn.RateNetwork(2, inputs=1, seed=0), (np.zeros((2, 3, 1)), np.zeros((2, 3, 1))),
        readout=ctrnn.Readout([[1.0, 0.0]]), epochs=1, checkpoint=path, resume=True,
    ),
}  # fmt: skip


@needs_pipes
@pytest.mark.parametrize("what", READERS)
def test_no_reader_waits_for_the_writer_of_a_pipe(fifo, what):
    with pytest.raises(UsageError, match=r"pipe.npz.*a pipe or a device, and no file"):
        READERS[what](fifo)


@pytest.mark.parametrize("what", READERS)
@pytest.mark.parametrize("path", [b"x", 3, ["x"]])
def test_what_is_no_name_of_a_file_is_refused(what, path):
    with pytest.raises(UsageError, match=r"^(path|checkpoint): got"):
        READERS[what](path)


@pytest.mark.parametrize("path", [b"x", 3, None])
def test_nothing_is_written_under_what_is_no_name(path):
    run = ctrnn.simulate(ctrnn.Problem(FIELD, 1.0, (0.0, 1.0)))
    learner = OnlineLearner(ctrnn.RateNetwork(2, inputs=1, seed=0), "rflo", readout="r0", dt=0.1)
    table = ctrnn.analysis.fixed_points(FIELD, [[0.1]])
    for write in (run.to_csv, run.to_npz, learner.save, table.save):
        with pytest.raises(UsageError, match="^path: got"):
            write(path)


@needs_pipes
def test_experiments_and_their_data_are_no_pipes(fifo, tmp_path, capsys):
    text = (examples_folder() / "hare-lynx.toml").read_text(encoding="utf-8")
    (tmp_path / "x.toml").write_text(text, encoding="utf-8")
    os.mkfifo(tmp_path / "hare_lynx.csv")
    for file in (fifo, "/dev/zero", tmp_path / "x.toml"):
        assert cli.run(["plan", str(file)]) == 2
        assert "a pipe or a device, and no file" in capsys.readouterr().err
    weights = '[field]\nkind = "rate_network"\nn = 2\n[field.parameters]\nW = {file = "pipe.npz"}\n'
    (tmp_path / "w.toml").write_text(f"{weights}[problem]\nr0 = 0.0\nt_span = [0.0, 1.0]\n", encoding="utf-8")
    assert cli.run(["simulate", str(tmp_path / "w.toml"), "--out", str(tmp_path / "out")]) == 2
    assert "w.toml:5" in capsys.readouterr().err


@needs_pipes
def test_what_the_shell_has_opened_is_read(tmp_path):
    example = examples_folder() / "scalar.toml"
    run = [sys.executable, "-m", "ctrnn", "plan"]
    given = subprocess.run([*run, "/dev/stdin"], input=example.read_bytes(), capture_output=True)
    assert given.returncode == 0 and b"adjoint" in given.stdout
    reader, writer = os.pipe()  # as <(command) makes one
    os.write(writer, example.read_bytes())
    os.close(writer)
    given = subprocess.run([*run, f"/dev/fd/{reader}"], pass_fds=[reader], capture_output=True)
    os.close(reader)
    assert given.returncode == 0 and b"adjoint" in given.stdout


@needs_pipes
def test_a_pipe_in_the_place_of_a_summary_is_written_over(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    os.mkfifo(out / "summary.json")
    assert cli.run(["simulate", "limit-cycle", "--out", str(out), "--quiet"]) == 0
    assert (out / "summary.json").is_file()


def test_a_name_that_is_too_long_is_no_folder(monkeypatch, tmp_path, capsys):
    assert cli.run(["simulate", "scalar", "--out", str(tmp_path / ("a" * 5000))]) == 2
    assert "error: --out: got" in capsys.readouterr().err
    monkeypatch.setenv("CTRNN_CACHE_DIR", str(tmp_path / ("a" * 5000)))
    assert [folder.name[:6] for folder in cache._folders(make=False)] in ([], ["ctrnn-"])  # the temporary one


def test_memory_that_is_used_up_is_said_in_a_line(monkeypatch, capsys):
    def used_up(*_, **__):
        raise MemoryError

    monkeypatch.setattr(ctrnn, "simulate", used_up)
    monkeypatch.setattr("ctrnn.cli.group.group.main", used_up)
    assert cli.run(["simulate", "scalar"]) == 1
    assert capsys.readouterr().err == "error: the memory is used up\n"
