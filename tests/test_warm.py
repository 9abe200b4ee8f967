"""``ctrnn warm`` reaches every kind of field and all C functions, and says where the code is.

That nothing is left to compile after it, in an empty cache, is checked for a release (scripts/release_check.py).
"""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

import ctrnn
from ctrnn import cache, kernels, progress
from ctrnn.cli import warm
from ctrnn.errors import UsageError
from ctrnn.kernels.lazy import Lazy

ROOT = Path(ctrnn.__file__).parents[1]


@pytest.fixture
def few(monkeypatch):
    """Three jobs in the place of all."""
    done: list[str] = []

    def refused() -> None:
        raise UsageError("solver", given="x")

    jobs = [lambda: done.append("one"), refused, lambda: done.append("three")]
    monkeypatch.setattr(warm, "jobs", lambda: iter(jobs))
    yield done
    progress.enable(False)
    progress.silence()


def test_it_says_how_many_and_where(few, tmp_path, monkeypatch):
    monkeypatch.setenv("CTRNN_CACHE_DIR", str(tmp_path))
    cache.write("kernel_a.nbc", bytes(2_000_000))
    result = CliRunner().invoke(warm.command, [])
    assert result.exit_code == 0 and few == ["one", "three"]
    assert result.output.startswith(f"1 compiled kernels, 2.0 MB, in {tmp_path} (")
    assert CliRunner().invoke(warm.command, ["--quiet"]).output == ""


def test_an_error_that_is_no_refusal_comes_out(few, monkeypatch):
    monkeypatch.setattr(warm, "jobs", lambda: iter([lambda: 1 / 0]))
    assert isinstance(CliRunner().invoke(warm.command, []).exception, ZeroDivisionError)


def test_without_a_folder_it_fails(tmp_path):
    (tmp_path / "file").write_text("")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CTRNN_CACHE_DIR": str(tmp_path / "file"), "TMPDIR": "/proc/x"}
    code = "import tempfile; tempfile.tempdir = '/proc/x'; from ctrnn.cli.main import main; main(['warm'])"
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 1 and "error: no cache folder" in ran.stderr and "Traceback" not in ran.stderr


def test_all_c_functions_are_reached():
    known = set(warm.lazy_kernels())
    for found in pkgutil.walk_packages(kernels.__path__, "ctrnn.kernels."):
        assert {one for one in vars(import_module(found.name)).values() if isinstance(one, Lazy)} <= known
    assert len(known) > 30


def test_fields_of_each_kind_are_among_the_jobs():
    kinds = list(warm.fields())
    assert any(field._kernel.blas for field in kinds) and any(not field._kernel.blas for field in kinds)
    assert any(field._lanes_kernel is not None for field in kinds)
    assert len(list(warm.jobs())) > 300
