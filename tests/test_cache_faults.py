"""The cache of compiled code: damage heals, what others may have written is not run, and no folder is needed at all."""

from __future__ import annotations

import os
import pickle
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import ctrnn
from ctrnn import cache
from ctrnn.fields import codegen
from ctrnn.kernels import compiled

ROOT = Path(ctrnn.__file__).parents[1]
posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions of POSIX")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A cache of this test's own, with another temporary directory for what cannot be written there."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("CTRNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))  # of other processes
    monkeypatch.setattr(cache, "_said", set())
    monkeypatch.setattr(cache, "_failed", set())
    return tmp_path / "cache"


def instead(folder: Path) -> Path:
    return folder.parent / "tmp" / f"ctrnn-{cache._user()}"


def twice(x):
    return 2.0 * x


twice.__module__ = "ctrnn.kernels.point"


def kernel():
    """A compiled kernel, as a new process would have it, and whether it was found."""
    made = compiled.njit(cache=True)(twice)
    assert made(1.5) == 3.0
    return sum(made.stats.cache_hits.values())


def equations():
    """An equation, likewise."""
    for name in [name for name in sys.modules if name.startswith("ctrnn_generated_")]:
        del sys.modules[name]
    field = ctrnn.Equations({"x": "-k*x**2"}, {"k": 2.0})
    assert field(0.0, [3.0])[0] == -18.0
    return sum(f.cache_hits for f in vars(field._module).values() if isinstance(f, codegen.native.Native))


KINDS = {"nbc": kernel, "py": equations, "o": equations}


def spoil(file: Path, damage: str) -> None:
    whole = file.read_bytes()
    if damage == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "one bit":
        file.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
    elif damage == "not text":
        file.write_bytes(b"\xff\xfe\x00" * 40)
    else:
        file.unlink()
        if damage == "a pipe":
            os.mkfifo(file)
        elif damage == "a folder":
            (file / "inner").mkdir(parents=True)
        else:
            other = file.with_suffix(".theirs")
            other.write_bytes(whole)
            file.symlink_to(other)


@pytest.mark.parametrize("damage", ["cut", "empty", "one bit", "not text", "a pipe", "a folder", "a link"])
@pytest.mark.parametrize("kind", KINDS)
def test_damage_heals(folder, kind, damage, capfd):
    make = KINDS[kind]
    assert not make()
    (file,) = folder.glob(f"*.{kind}")
    spoil(file, damage)
    before = make()
    assert not before or kind == "py"  # its machine code was whole
    assert make()
    lines = capfd.readouterr().err.splitlines()
    if damage == "a folder":
        assert len(lines) == 1 and str(file) in lines[0] and str(instead(folder)) in lines[0]
    else:
        assert not lines and file.is_file() and not file.is_symlink()


def test_code_that_is_not_understood_is_compiled_again(folder):
    """Whole by its digest, and yet nothing that Numba can read."""
    kernel()
    (file,) = folder.glob("*.nbc")
    for data in (b"nothing", pickle.dumps((1, 2)), pickle.dumps(None)):
        file.write_bytes(cache.seal(data))
        assert not kernel() and kernel()


def test_python_s_own_compiled_files_are_neither_written_nor_read(folder):
    equations()
    (file,) = folder.glob("*.py")
    (folder / "__pycache__").mkdir()
    for tag in ("", f".{sys.implementation.cache_tag}"):
        (folder / "__pycache__" / f"{file.stem}{tag}.pyc").write_bytes(b"")
    equations()
    assert len(list((folder / "__pycache__").iterdir())) == 2


# --- whose it is

HOSTILE = "open({mark!r}, 'w').close()\n"


@posix
@pytest.mark.parametrize("whole_folder", [True, False])
@pytest.mark.parametrize("bits", [0o020, 0o002])
@pytest.mark.parametrize("kind", KINDS)
def test_what_others_may_write_is_not_run(folder, kind, bits, whole_folder, capfd):
    make = KINDS[kind]
    make()
    (file,) = folder.glob(f"*.{kind}")
    mark = folder.parent / "was run"
    if kind == "py":
        source = HOSTILE.format(mark=str(mark)) + file.read_text().rpartition(codegen._SEAL)[0]
        file.write_text(f"{source}{codegen._SEAL}{codegen._hash(source)}\n")
    elif kind == "nbc":
        file.write_bytes(cache.seal(pickle.dumps(Runs(str(mark)))))
    place = folder if whole_folder else file
    place.chmod(stat.S_IMODE(place.stat().st_mode) | bits)
    capfd.readouterr()
    make()
    assert not mark.exists()
    (line,) = capfd.readouterr().err.splitlines()
    assert "others may write" in line and str(place) in line
    assert instead(folder).is_dir() == whole_folder


class Runs:
    """What a pickle may do that is read."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, "w")


def test_the_hostile_files_above_do_run_where_they_are_believed(folder):
    """Or the test before would show nothing."""
    kernel()
    (file,) = folder.glob("*.nbc")
    file.write_bytes(cache.seal(pickle.dumps(Runs(str(folder.parent / "was run")))))
    kernel()
    assert (folder.parent / "was run").exists()


@posix
@pytest.mark.parametrize("owner, believed", [(0, True), (1, False)])
def test_files_are_this_user_s_or_root_s(folder, owner, believed, monkeypatch):
    """As another user than the one who wrote them sees them."""
    kernel()
    me, status = os.getuid(), folder.stat()
    monkeypatch.setattr(cache, "_user", lambda: me + 1000)
    seen = os.stat_result((*status[:4], owner or 0, *status[5:]))
    assert (cache._foreign(seen) == "") is believed


@posix
def test_folders_are_made_for_this_user_alone(folder, tmp_path):
    previous = os.umask(0)
    try:
        for place in (folder, instead(folder)):
            assert cache._refused(place, True) == ""
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
        kernel()
    finally:
        os.umask(previous)
    assert all(stat.S_IMODE(file.stat().st_mode) & 0o022 == 0 for file in folder.iterdir())


@posix
@pytest.mark.parametrize("trap", ["writable by all", "writable by the group", "a link", "a file", "somebody else's"])
def test_a_temporary_folder_that_others_may_have_prepared_is_not_used(folder, trap, capfd):
    folder.write_text("not a folder")
    place = instead(folder)
    if trap == "a file":
        place.write_text("")
    elif trap == "a link":
        (folder.parent / "theirs").mkdir(mode=0o700)
        place.symlink_to(folder.parent / "theirs")
    else:
        place.mkdir()
        place.chmod({"writable by all": 0o777, "writable by the group": 0o770}.get(trap, 0o700))
    if trap == "somebody else's":
        if os.getuid() != 0:
            pytest.skip("only root gives folders away")
        os.chown(place, 12345, 0)
    assert cache.folder() is None
    assert not kernel() and not equations() and not kernel()
    one, two = capfd.readouterr().err.splitlines()
    assert "it is no folder" in one and "in memory" in two


# --- where it cannot be written


def test_a_folder_that_cannot_be_made_is_replaced(folder, capfd):
    folder.parent.joinpath("file").write_text("")
    os.environ["CTRNN_CACHE_DIR"] = str(folder.parent / "file" / "cache")
    assert cache.folder() == instead(folder)
    assert not kernel() and kernel() and not equations() and equations()
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("free", [0, 100])
def test_a_full_disk_leaves_nothing_half_written(folder, free, monkeypatch, capfd):
    full_disk(monkeypatch, {folder: free})
    assert not kernel() and kernel() and not equations() and equations()
    assert not [file for file in folder.iterdir() if file.name.startswith(".")]
    (line,) = capfd.readouterr().err.splitlines()
    assert "No space left" in line and str(instead(folder)) in line


def test_where_nothing_can_be_written_code_lives_in_memory(folder, monkeypatch, capfd):
    full_disk(monkeypatch, {folder: 0, instead(folder): 0})
    assert not kernel() and not equations() and not kernel() and not equations()
    (line,) = capfd.readouterr().err.splitlines()
    assert "No space left" in line and "in memory" in line


def full_disk(monkeypatch, free: dict[Path, int]) -> None:
    """A file of these folders takes so many bytes and no more."""
    import errno

    write = Path.write_bytes

    def limited(self: Path, data: bytes) -> int:
        if self.parent in free and len(data) > free[self.parent]:
            write(self, data[: free[self.parent]])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", limited)


SOLVE = """
import numpy as np, ctrnn
field = ctrnn.Equations({"x": "-k*x**2"}, {"k": 2.0})
print(field(0.0, [3.0])[0])
"""


@posix
@pytest.mark.parametrize("what", ["no home", "files of one byte", "nothing at all"])
def test_a_process_without_a_home_or_a_disk_works(tmp_path, what):
    import resource

    def limits() -> None:
        if what != "no home":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))

    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"HOME": "/proc/nobody", "XDG_CACHE_HOME": ""}
    if what == "nothing at all":
        environment |= {"TMPDIR": "/proc/nothing", "CTRNN_CACHE_DIR": "/proc/nothing"}
    else:
        environment["TMPDIR"] = str(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-c", SOLVE], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300,
        preexec_fn=limits,
    )  # fmt: skip
    assert ran.returncode == 0 and ran.stdout == "-18.0\n", ran.stderr
    assert 1 <= len(ran.stderr.splitlines()) <= 3 and all(s.startswith("ctrnn: ") for s in ran.stderr.splitlines())
    assert not (tmp_path / "~").exists()


# --- what the code is known by


def test_two_copies_of_the_sources_share_one_code(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "ctrnn", copy / "ctrnn", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import numpy as np; from ctrnn.kernels.abi import copy; copy(np.zeros(2), np.zeros(2))"

    def run(root: Path) -> dict[str, int]:
        environment = os.environ | {"PYTHONPATH": str(root)}
        subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True, timeout=300)
        return {file.name: file.stat().st_mtime_ns for file in folder.glob("kernel_*")}

    first = run(ROOT)
    assert len(first) == 1 and run(copy) == first
    assert not list(copy.rglob("*.nb?"))  # nothing lies beside the sources
    (copy / "ctrnn" / "kernels" / "carry.py").write_text("# not imported by abi\n")
    assert run(copy) == first
    path = copy / "ctrnn" / "kernels" / "abi.py"
    path.write_text(path.read_text() + "\n# changed\n")
    assert len(run(copy)) == 2


def test_a_digest_follows_imports():
    def reached(module: str) -> set[str]:
        found, waiting = set(), [module]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += compiled._source(name)[1]
        return {name.removeprefix("ctrnn.kernels.") for name in found}

    assert {"run", "implicit", "linalg", "abi", "lazy", "compiled"} <= reached("ctrnn.kernels.stepper")
    assert {"stepper", "lanes.steps"} <= reached("ctrnn.kernels.lanes.ensemble")
    assert "stepper" not in reached("ctrnn.kernels.graph")


def test_every_kernel_uses_our_cache():
    for path in (ROOT / "ctrnn" / "kernels").rglob("*.py"):
        text = path.read_text()
        assert path.name == "compiled.py" or (
            "import njit" not in text or "from ctrnn.kernels.compiled import njit" in text
        )
        assert "import cfunc" not in text


def test_nothing_stays_beside_the_sources_and_all_is_found_again(folder):
    code = """
import numpy as np, ctrnn
from numba.core import event
compiled = []
class Watch(event.Listener):
    def on_start(self, told): compiled.append(told.data["dispatcher"].py_func.__qualname__)
    def on_end(self, told): pass
event.register("numba:compile", Watch())
from ctrnn.kernels.carry import transform
from ctrnn.kernels.vectors import *
from ctrnn.kernels import point
transform.py_func
field = ctrnn.Equations({"x": "-k*x**2"}, {"k": 2.0})
field(0.0, [3.0]), field.vjp(0.0, [3.0], [1.0]) if hasattr(field, "vjp") else None
print(len(compiled))
"""

    def run() -> int:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        ran = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        return int(ran.stdout)

    assert run() > 0 and run() == 0


# --- how much


def test_kernels_count_too_and_the_oldest_goes_first(folder, monkeypatch):
    monkeypatch.setattr(cache, "_unmeasured", {})
    monkeypatch.setenv("CTRNN_CACHE_MEGABYTES", "0.01")
    for k in range(30):
        cache.write(f"kernel_{k}_x.nbc", bytes(1000))
        os.utime(folder / f"kernel_{k}_x.nbc", (1000.0 + k, 1000.0))
    names = {file.name for file in folder.iterdir()}
    assert 8 <= len(names) <= 10 and "kernel_29_x.nbc" in names and "kernel_0_x.nbc" not in names


def test_numbers_do_not_depend_on_where_the_code_came_from(folder):
    r = np.array([0.3, -0.2])
    one, two = (ctrnn.RateNetwork(2, seed=1)(0.0, r) for _ in range(2))
    np.testing.assert_array_equal(one, two)
