"""What becomes of a command whose output nobody reads, or whose files are none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctrnn.cli import main as cli
from ctrnn.cli.streams import Lasting, plain
from ctrnn.errors import UsageError
from ctrnn.files import atomic_path, reading, writing
from ctrnn.inputs import from_csv

DECAY = """\
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
"""


def shell(command: str, folder, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of the shell, in which ctrnn is this one."""
    line = command.replace("ctrnn ", f"{sys.executable} -m ctrnn ")
    known = dict(os.environ) | {"PYTHONPATH": str(Path.cwd())} | environment
    return subprocess.run(["bash", "-c", line], cwd=folder, env=known, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "decay.toml").write_text(DECAY, encoding="utf-8")
    return tmp_path


def summary(folder) -> dict:
    return json.loads((folder / "results/decay/simulate/summary.json").read_text(encoding="utf-8"))


def test_a_reader_that_goes_does_not_stop_the_results(folder):
    done = shell("set -o pipefail; ctrnn simulate decay.toml --no-figures | true", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "trajectory.csv" in summary(folder)["files"]


def test_a_list_that_nobody_reads_is_quiet(folder):
    done = shell("set -o pipefail; ctrnn examples | true; ctrnn --help | true", folder)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_standard_output_is_said_once_and_the_results_are_whole(folder):
    done = shell("ctrnn simulate decay.toml --no-figures > /dev/full", folder)
    assert done.returncode == 1
    assert done.stderr.startswith("error: what was to be printed is lost") and done.stderr.count("\n") == 1
    assert summary(folder)["simulate"]


def test_closed_streams_and_few_letters(folder):
    done = shell("ctrnn simulate decay.toml --no-figures >&- 2>&- <&-", folder)
    assert done.returncode == 0 and summary(folder)["simulate"]
    done = shell("ctrnn examples", folder, PYTHONIOENCODING="ascii", COLUMNS="²")
    assert done.returncode == 0 and "FitzHugh-Nagumo" in done.stdout and not done.stderr
    done = shell("ctrnn simulate $'\\xff.toml'", folder)
    assert done.returncode == 2 and "no such file" in done.stderr and "Traceback" not in done.stderr


def test_what_stands_for_letters_that_a_stream_does_not_know():
    shown = [plain(UnicodeEncodeError("ascii", one, 0, len(one), ""))[0] for one in ("−½", "é", "\udcff", "雪")]
    assert shown == ["-1/2", "e", "\\xff", "?"]


def test_a_stream_remembers_why_it_cannot_be_written():
    there, gone = os.pipe()
    os.close(there)
    stream = Lasting(gone)
    assert stream.write(b"abc") == 3 and stream.write(b"de") == 2
    assert isinstance(stream.failure, BrokenPipeError) and not stream.is_lost
    os.close(gone)


# --- files


def run(capsys, *arguments: str) -> tuple[int, str]:
    code = cli.run(list(arguments))
    return code, capsys.readouterr().err


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, capsys):
    path = tmp_path / "bom.toml"
    path.write_bytes(b"\xef\xbb\xbf" + DECAY.encode())
    assert run(capsys, "simulate", str(path), "--no-figures", "-q", "--out", str(tmp_path / "out")) == (0, "")
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbft,x\n0,1\n1,2\n")
    assert from_csv(tmp_path / "bom.csv", "t", "x").values.ravel().tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("problem.r0={seed=-1}", "problem.r0.seed: got -1; allowed: a number >= 0"),
        ("solver.max_steps=99999999999999999999", "solver.max_steps: got 99999999999999999999; allowed: a number <="),
        ("objective.at={start=0,stop=1,step=1e-12}", "at most 10,000,000 numbers"),
        (f"solver.dt={10**400}", "solver.dt: got a whole number of some 401 digits; allowed: a number"),
        (f"solver.dt={'9' * 5000}", "Exceeds the limit"),
        (f"title={'[' * 5000}{']' * 5000}", "nested hundreds deep"),
        ('data={file="a\\u0000b.csv",time="t",columns=["x"]}', "no name holds the letter NUL"),
        ('data={file="nowhere.csv",time="t",columns=["x"]}', "there is no such file"),
        ('data={file=".",time="t",columns=["x"]}', "this is a folder"),
    ],
)
def test_values_that_no_experiment_can_have_are_refused_at_their_key(tmp_path, capsys, line, said):
    path = tmp_path / "decay.toml"
    path.write_text(DECAY, encoding="utf-8")
    more = ["--set", "objective.target=data", "--set", "objective.at=data"] if line.startswith("data") else []
    code, error = run(capsys, "simulate", str(path), "--set", line, *more, "--out", str(tmp_path / "out"))
    assert code == 2 and said in error, error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a = " + b"[" * 5000 + b"]" * 5000, "nested hundreds deep"),
        (b"a = " + b"9" * 5000, "Exceeds the limit"),
        (b"title = 'a'\n\xff\xfe", "text in UTF-8 (line 2 is none)"),
    ],
)
def test_files_that_cannot_be_read_say_so(tmp_path, capsys, content, said):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    code, error = run(capsys, "run", str(path))
    assert code == 2 and said in error and "bad.toml" in error
    assert run(capsys, "run", str(tmp_path / "none.toml"))[1].endswith("there is no such file\n")
    assert run(capsys, "run", str(tmp_path))[1].endswith("this is a folder\n")


@pytest.mark.parametrize("cell", ["1_000", "１２", "٣", "0x10", "1e400", "inf", "nan", "1e", "++1", "1 2", ""])
def test_cells_that_are_no_decimal_numbers_are_refused(tmp_path, cell):
    path = tmp_path / "data.csv"
    path.write_text(f"t,x\n0,1\n1,{cell}\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 3, column 'x'"):
        from_csv(path, "t", "x")


def test_cells_that_are_decimal_numbers(tmp_path):
    cells = ["1", "-1.5", "+2.", ".5", "1e3", "1E-3", " 7 ", "-0"]
    (tmp_path / "data.csv").write_text("t,x\n" + "".join(f"{k},{c}\n" for k, c in enumerate(cells)), encoding="utf-8")
    assert from_csv(tmp_path / "data.csv", "t", "x").values.ravel().tolist() == [float(cell) for cell in cells]


def test_names_that_are_no_names_of_files(tmp_path):
    for path in ("a\0b", tmp_path / "a\0b.csv"):
        with pytest.raises(UsageError, match="NUL"):
            from_csv(path, "t", "x")
        with pytest.raises(UsageError, match="NUL"), atomic_path(path):
            pass
        with pytest.raises(UsageError), writing("--out", path):
            Path(path).stat()
    with pytest.raises(ValueError, match="mine"), reading("path", "a"):
        raise ValueError("mine")
