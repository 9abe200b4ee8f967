"""Checkpoints of a training, and its metrics: whole or not there, and belonging to one model only.

A checkpoint is a file of torch that holds tensors, numbers and text, and is read as such: no code is executed. It
carries what was trained and how; another model, other data or a file that was cut short is refused, and nothing that
was there is lost. Metrics are a line of CSV an epoch, appended; after a break the file is made anew from the
checkpoint, whole, and then goes on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Field
from ctrnn.files import as_path, atomic_path, reading, writing
from ctrnn.learning.data import Dataset

StrPath = str | os.PathLike[str]

FORMAT = 1


def save_checkpoint(path: StrPath, kind: str, about: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    kind : what writes it, as "training"; about : what must be the same for it to go on
    """
    import torch

    with writing("checkpoint", path), atomic_path(path) as temporary:
        torch.save({"format": FORMAT, "kind": kind, "about": dict(about), "state": dict(state)}, temporary)


def check_place(path: StrPath | None) -> None:
    """Raise UsageError where no checkpoint could be written, before any work is done."""
    if path is not None and not as_path("checkpoint", path).parent.is_dir():
        raise UsageError(
            "checkpoint", given=str(path), allowed="a file in a folder that exists", hint="make the folder"
        )


#: what stands in a checkpoint as a digest, in words
DIGESTS = {
    "start": "another start, its weights, read-out or r0,",
    "first outputs": "other first outputs, by constants, masks or signs of the field,",
    "trials": "other trials",
    "validation": "other trials of the validation",
}


def load_checkpoint(path: StrPath, kind: str, about: Mapping[str, Any] | None) -> dict[str, Any]:
    """The state in a checkpoint.

    Raises UsageError for a file that is none or is cut short, and where ``about`` says another thing than it did.
    """
    import torch

    allowed = f"a whole checkpoint of a {kind}"
    with reading("checkpoint", path, allowed):
        Path(path).open("rb").close()
    try:
        found = torch.load(Path(path), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # pickle, zip and torch each have errors of their own for what is no such file
        hint = "the file is cut short or is none of ctrnn's; begin again without resume, under another name"
        raise UsageError("checkpoint", given=str(path), allowed=allowed, hint=hint) from error
    if not isinstance(found, dict) or found.get("kind") != kind or not isinstance(found.get("state"), dict):
        raise UsageError("checkpoint", given=str(path), allowed=allowed)
    if found.get("format") != FORMAT:
        raise UsageError("checkpoint", given=f"{path} of format {found.get('format')}", allowed=f"format {FORMAT}")
    for key, now in (about or {}).items():
        then = found["about"].get(key)
        if then != now:
            is_digest = key in DIGESTS
            raise UsageError(
                "checkpoint",
                given=f"{DIGESTS[key]} in {path}" if is_digest else f"{path}, written with {key} = {_short(then)}",
                allowed="one with those of now" if is_digest else f"one with {key} = {_short(now)}, as now",
                hint="the settings of before, or begin again without resume, under another name",
            )
    state: dict[str, Any] = found["state"]
    return state


def digest(data: Dataset | None) -> str:
    """A name of the numbers of a dataset; "" of none."""
    return "" if data is None else numbers_digest(data.x, data.y, data.weight, data.lengths)


def numbers_digest(*arrays: Any) -> str:
    """A name of arrays, the same for the same bits."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(str(array.shape).encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


def recipe(field: Field) -> str:
    """The field without its numbers, as text: what it prints, and its equations where it has such."""
    parts = [repr(field), *(repr(getattr(field, name, "")) for name in ("equations", "definitions"))]
    return "\n".join(parts)


class Metrics:
    """A CSV file that gets a line an epoch; None writes nothing.

    rows : what is known already, of epochs before
    """

    def __init__(self, path: StrPath | None, columns: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
        self.path = None if path is None else as_path("metrics", path)
        if self.path is not None:
            text = "".join(_line(row) for row in (columns, *rows))
            with writing("metrics", self.path), atomic_path(self.path) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def add(self, row: Sequence[float]) -> None:
        """Append a line, in one piece."""
        if self.path is not None:
            with writing("metrics", self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(_line(row))


def _line(cells: Sequence[Any]) -> str:
    return ",".join(cell if isinstance(cell, str) else f"{cell!r}" for cell in cells) + "\n"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
