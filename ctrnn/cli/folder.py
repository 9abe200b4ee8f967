"""The folder of the results: it holds one run, whole, or says of itself that it does not.

While a run goes on, ``unfinished.json`` names the files that it has written; ``summary.json``, which names them too,
comes last and takes its place. The next run into the folder deletes the files that either names, and no others; a run
that is resumed keeps them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ctrnn.errors import UsageError
from ctrnn.files import atomic_path, reading, writing

SUMMARY, UNFINISHED = "summary.json", "unfinished.json"


class Folder:
    """The results of one run. ``files``: what it has written, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: list[Path] = []
        #: names of files of the run that goes on
        self.kept: list[str] = []

    def begin(self, about: dict[str, Any], resume: bool = False) -> None:
        """Make the folder, and empty it of the run before, unless that is resumed; ``about`` says what runs.

        Raises UsageError where nothing can be written.
        """
        self.about = about
        with writing("--out", self.path):
            if self.path.exists() and not self.path.is_dir():
                raise UsageError("--out", given=str(self.path), allowed="a folder, or a name that is free")
            self.path.mkdir(parents=True, exist_ok=True)
            if resume:
                self.kept = [old for name in (SUMMARY, UNFINISHED) for old in named_in(self.path / name)]
            self._note()  # before anything goes: it shows whether files can be written at all
            for name in () if resume else (SUMMARY, UNFINISHED):
                for old in named_in(self.path / name):
                    (self.path / old).unlink(missing_ok=True)
            (self.path / SUMMARY).unlink(missing_ok=True)
            self._note()

    def file(self, name: str) -> Path:
        """A file of the results, noted as such before it is written."""
        path = self.path / name
        if path not in self.files:
            self.files.append(path)
            self._note()
        return path

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary: the run is whole."""
        path = self.path / SUMMARY
        write_json(path, {**self.about, **summary, "files": [*(file.name for file in self.files), SUMMARY]})
        self.files.append(path)
        (self.path / UNFINISHED).unlink(missing_ok=True)

    def _note(self) -> None:
        before = named_in(self.path / UNFINISHED) if not self.files else []
        names = [*self.kept, *before, *(file.name for file in self.files)]
        write_json(self.path / UNFINISHED, {**self.about, "files": list(dict.fromkeys(names))})


def named_in(path: Path) -> list[str]:
    """The files beside ``path`` that it names as its run's; none where it is no summary of ours."""
    try:
        with reading("summary", path):
            content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    names = content.get("files") if isinstance(content, dict) and "experiment" in content else None
    if not isinstance(names, list):
        return []
    here = [name for name in names if isinstance(name, str) and name == Path(name).name and name not in ("", "..")]
    return [name for name in here if (path.parent / name).is_file() and name not in (SUMMARY, UNFINISHED)]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """JSON text, whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        # the name of a file may hold bytes that are no text
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
