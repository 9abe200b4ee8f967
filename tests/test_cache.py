"""Generated modules on disk: made once, found by the next process, whole or made again, and private."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import ctrnn
from ctrnn.errors import ExpressionError
from ctrnn.fields import codegen

HEAVY = ("torch", "numba", "sympy", "matplotlib", "scipy", "pydantic", "rich", "torchdiffeq")
ROOT = Path(ctrnn.__file__).parents[1]


def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"CTRNN_CACHE_DIR": str(folder), "PYTHONPATH": path}


def start(code: str, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code]
    return subprocess.Popen(command, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcome(process: subprocess.Popen) -> dict:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


USE_FIELDS = f"""
import json, sys, numpy as np, ctrnn
field = ctrnn.Equations({{"prey": "a*prey - prey*pred", "pred": "-pred + prey*pred"}}, {{"a": 0.5}})
F, J = field(0.0, [3.0, 2.0]), field.jacobian(0.0, [3.0, 2.0])
network = ctrnn.RateNetwork(2, seed=0).with_parameters(W=[[0.0, 1.0], [1.0, 0.0]])
network(0.0, [0.0, 0.0])
made = [field._module, *(m for m in network._arrays.code._keep if hasattr(m, "loop"))]
functions = [f for m in made for f in vars(m).values() if hasattr(f, "cache_hits")]
print(json.dumps({{
    "F": F.tolist(), "J": J.tolist(),
    "hits": [f.cache_hits for f in functions],
    "heavy": sorted(set({HEAVY!r}) & set(sys.modules)),
}}))
"""


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    files = [f for f in folder.rglob("*") if f.is_file() and f.suffix != ".pyc"]
    return {str(f.relative_to(folder)): (f.stat().st_mtime_ns, f.stat().st_size) for f in files}


def generated(folder: Path) -> list[str]:
    return [f for f in contents(folder) if f.startswith("ctrnn_generated_")]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CTRNN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def forget():
    """Drop the generated modules that a test has imported, as a new process would."""
    before = set(sys.modules)

    def drop() -> None:
        for name in set(sys.modules) - before:
            if name.startswith("ctrnn_generated_"):
                del sys.modules[name]

    yield drop
    drop()


# --- processes


def test_importing_the_package_imports_nothing_heavy(tmp_path):
    code = f"import ctrnn, json, sys; print(json.dumps(sorted(set({HEAVY!r}) & set(sys.modules))))"
    assert outcome(start(code, tmp_path)) == []


def test_the_commands_load_torch_only_where_they_use_it(tmp_path):
    """It takes longer than all else together, before the first step of a simulation."""
    code = "import ctrnn.cli.run, ctrnn.cli.train, json, sys; print(json.dumps('torch' in sys.modules))"
    assert outcome(start(code, tmp_path)) is False


def test_a_second_process_neither_derives_nor_compiles(tmp_path):
    first = outcome(start(USE_FIELDS, tmp_path))
    assert first["F"] == [-4.5, 4.0] and first["J"] == [[-1.5, -3.0], [2.0, 2.0]]
    assert len(first["hits"]) == 6 and not any(first["hits"])
    before = contents(tmp_path)
    # the source and the machine code of each
    assert sorted(Path(f).suffix for f in generated(tmp_path)) == [".o"] * 3 + [".py"] * 3

    second = outcome(start(USE_FIELDS, tmp_path))
    assert second["F"] == first["F"] and second["J"] == first["J"]
    assert all(second["hits"]) and contents(tmp_path) == before
    assert not {"sympy", "torch", "matplotlib"} & set(second["heavy"])


def test_two_processes_at_once_do_not_disturb_each_other(tmp_path):
    results = [outcome(p) for p in [start(USE_FIELDS, tmp_path) for _ in range(2)]]
    assert all(r["F"] == [-4.5, 4.0] for r in results)
    names = generated(tmp_path)
    assert sorted(Path(f).suffix for f in names) == [".o"] * 3 + [".py"] * 3  # and no temporary files
    assert not [f for f in contents(tmp_path) if f.startswith(".")]


# --- one module


def test_a_module_is_built_once(cache, forget):
    built = []

    def build() -> str:
        built.append(1)
        return "VALUE = 1\n"

    made = codegen.module("once", build)
    assert codegen.module("once", build) is made and made.VALUE == 1
    forget()
    assert codegen.module("once", build) is not made and built == [1]
    assert codegen.module("twice", build) is not made and built == [1, 1]


@pytest.mark.parametrize("damage", [b"", b"VALUE =", b"VALUE = 2\n", b"\xff\x00", "half", "digit"])
def test_a_damaged_file_is_made_again(cache, forget, damage):
    made = codegen.module("whole", lambda: "VALUE = 1\nOTHER = 1\n")
    path = Path(made.__file__)
    whole = path.read_bytes()
    if isinstance(damage, str):
        damage = whole[: len(whole) // 2] if damage == "half" else whole.replace(b"VALUE = 1", b"VALUE = 3")
    path.write_bytes(damage)
    forget()
    again = codegen.module("whole", lambda: "VALUE = 1\nOTHER = 1\n")
    assert (again.VALUE, again.OTHER) == (1, 1) and path.read_bytes() == whole


def test_an_error_in_the_generator_leaves_nothing_behind(cache, forget):
    for source, error in (("1/0\n", ZeroDivisionError), ("(\n", SyntaxError)):
        with pytest.raises(error):
            codegen.module(source, lambda source=source: source)
    with pytest.raises(KeyError):
        codegen.module("raises", lambda: {}["no source"])
    assert not [f for f in contents(cache) if f.endswith(".tmp") or f.startswith(".")]
    assert not [
        name
        for name in sys.modules
        if name.startswith("ctrnn_generated_") and not hasattr(sys.modules[name], "__file__")
    ]
    assert codegen.module("raises", lambda: "VALUE = 1\n").VALUE == 1


def test_threads_find_one_whole_module(cache, forget):
    found, barrier = [], threading.Barrier(8)

    def build() -> str:
        time.sleep(0.05)
        return "import time\ntime.sleep(0.05)\nVALUE = 1\n"

    def find() -> None:
        barrier.wait()
        found.append(codegen.module("threads", build).VALUE)

    threads = [threading.Thread(target=find) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 8


def test_what_a_module_is_made_from_is_in_its_name(cache, forget, monkeypatch):
    """A changed equation, name or order, and a changed generator, never meet an old module."""
    named = {}

    def stand_in(recipe, build):
        named[recipe] = codegen._hash(recipe)
        return object()

    with monkeypatch.context() as patch:
        patch.setattr(codegen, "module", stand_in)
        ctrnn.Equations({"u": "a*u", "v": "b*u"}, {"a": 1.0, "b": 1.0}, ["x"])
        ctrnn.Equations({"u": "a*u", "v": "b*v"}, {"a": 1.0, "b": 1.0}, ["x"])
        ctrnn.Equations({"v": "b*u", "u": "a*u"}, {"a": 1.0, "b": 1.0}, ["x"])
        ctrnn.Equations({"u": "a*u", "v": "b*u"}, {"b": 1.0, "a": 1.0}, ["x"])
        ctrnn.Equations({"u": "a*u", "v": "b*u"}, {"a": 1.0}, ["b", "x"])
        assert len(named) == 5
        ctrnn.Equations({"u": " a*u", "v": "b*u\n"}, {"a": 2.0, "b": 3.0}, ["x"])  # the same equations
        assert len(named) == 5

    old = codegen.module("generator", lambda: "VALUE = 1\n")
    forget()
    monkeypatch.setattr(codegen, "_generator", lambda: "another")
    assert codegen.module("generator", lambda: "VALUE = 2\n").VALUE == 2 and old.VALUE == 1


@pytest.mark.parametrize(
    "text", ['u"""\nimport os\n"""', "__import__('os')", "u\\", "u; import os", "{u}", "u # x", "a := u"]
)
def test_nothing_is_written_for_a_text_that_is_refused(cache, text):
    with pytest.raises(ExpressionError):
        ctrnn.Equations({"u": text})
    assert not cache.exists() or not contents(cache)
