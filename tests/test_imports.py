"""Our own modules are imported at the top of a file; import-linter's contract in pyproject.toml says in which order."""

from __future__ import annotations

import ast
from pathlib import Path

import ctrnn

PACKAGE = Path(ctrnn.__file__).parent
#: modules that need SymPy or torch, which take longer to load than most runs take: imported where they are needed
HEAVY = (
    "ctrnn.fields.expressions",
    "ctrnn.fields.derivatives",
    "ctrnn.fields.arrays",
    "ctrnn.gradients.recording.torch",
)
#: the entry of the command line is on guard for Ctrl-C before anything is loaded
ENTRY = "cli/main.py"


def inner_imports(path: Path) -> list[str]:
    """Modules of ours that are imported inside a function."""
    found = []
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    found += [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    found.append(node.module or ".")
    return [name for name in found if name.split(".")[0] in ("ctrnn", "") and not name.startswith(HEAVY)]


def test_own_modules_are_imported_at_the_top():
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    late = {name: names for name, path in files.items() if name != ENTRY and (names := inner_imports(path))}
    assert not late


def test_an_import_inside_a_function_is_seen(tmp_path):
    (tmp_path / "a.py").write_text("def f():\n    import numpy, ctrnn.errors\n    from ctrnn import problem\n")
    assert inner_imports(tmp_path / "a.py") == ["ctrnn.errors", "ctrnn"]
