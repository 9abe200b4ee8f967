"""A learner as a file: arrays bit for bit, everything else as JSON; nothing in it is ever executed.

A digest of all of it (SHA-256) stands in the file: one that was changed is refused, as one that was cut short is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.described import restored
from ctrnn.files import as_path, atomic_path, loading
from ctrnn.gradients.methods import described, method_described
from ctrnn.kernels.rules.loop import ROW, USED
from ctrnn.learning.online.table import LearningTable
from ctrnn.losses import Readout

FORMAT = "ctrnn OnlineLearner 2"
#: arguments that a file may not have, and ``load`` may be given
GIVEN = ("field", "method", "optimizer", "scheduler", "loss")
_PLAIN = (str, int, float, bool, type(None))


def write(learner: Any, path: str | os.PathLike[str]) -> None:
    """Write the learner, whole or not at all."""
    arrays, said = _contents(learner)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, text=np.array(said), digest=np.array(_digest(said, arrays)), **arrays)  # type: ignore[arg-type]


def reduced(learner: Any) -> tuple[Any, ...]:
    """What pickle and copy make the learner again from: what a file has, with what it may not have."""
    arrays, said = _contents(learner)
    # of numbers only, as machine code does not travel; copied, as the learner goes on
    arrays = {name: np.array(array) for name, array in arrays.items()}
    given = {name: learner._options[name] for name in GIVEN[1:]} | {"field": learner.field}
    return _again, (type(learner), arrays, said, given)


def _again(kind: type, arrays: dict[str, Array], said: str, given: dict[str, Any]) -> Any:
    return _made(kind, arrays, json.loads(said), given)


def _contents(learner: Any) -> tuple[dict[str, Array], str]:
    """The arrays of a learner, and everything else as JSON."""
    arrays: dict[str, Array] = {}
    weights, loop = learner._weights, learner._loop
    field, of_field = weights.first.describe() or (None, {})
    arrays |= {f"field {k}": v for k, v in of_field.items()}
    arrays |= {f"parameter {k}": v for k, v in weights.field.parameters.items()}
    for b, memory in enumerate(loop.memories):
        arrays |= {f"memory {b} {k}": v for k, v in memory.state_dict().items()}
    arrays |= {
        "flat": weights.flat, "r": loop.r, "r0": learner.r0, "gradient": loop.readout_gradient,
        "last": weights.gradient, "counts": loop.counts, "sums": loop.sums, "history": _rows(learner.history),
    }  # fmt: skip
    if learner._due.times is not None:
        arrays["times"] = learner._due.times
    if learner._observer.feedback is not None:
        arrays["feedback"] = learner._observer.feedback
    options = {key: value for key, value in learner._options.items() if key not in (*GIVEN, "update_every")}
    text: dict[str, Any] = {
        "format": FORMAT,
        "field": field,
        "options": options,
        "method": described(learner._options["method"]),
        "loss": learner._options["loss"] if isinstance(learner._options["loss"], str) else None,
        "optimizer": _plain(learner._options["optimizer"]),
        "scheduler": _plain(learner._options["scheduler"]),
        "has_scheduler": weights.scheduler is not None,
        "every": learner._due.every,
        "readout": _readout(learner),
        "note": learner.note,
        "rng": [memory.rng.bit_generator.state for memory in loop.memories],
        "optimizer state": _packed("optimizer", weights.optimizer.state_dict(), arrays),
        "scheduler state": None,
        "drift": learner._window.state(arrays),
    }
    if weights.scheduler is not None:
        text["scheduler state"] = _packed("scheduler", weights.scheduler.state_dict(), arrays)
    return arrays, json.dumps(text)


def read(kind: type, path: str | os.PathLike[str], given: Mapping[str, Any]) -> Any:
    """The learner as it was."""
    for name in given:
        if name not in GIVEN:
            raise UsageError(name, given=given[name], allowed=f"of a learner that is loaded: {', '.join(GIVEN)}")
    arrays, text = _open(as_path("path", path))
    try:
        return _made(kind, arrays, text, given)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError("path", given=str(path), allowed="a file that OnlineLearner.save has written") from error


def _made(kind: type, arrays: dict[str, Array], text: dict[str, Any], given: Mapping[str, Any]) -> Any:
    parameters = {k.removeprefix("parameter "): v for k, v in arrays.items() if k.startswith("parameter ")}
    options = dict(text["options"])
    options["field"] = _field(text["field"], arrays, parameters, given.get("field"))
    options["method"] = given.get("method") or (text["method"] and method_described(text["method"]))
    options["loss"], options["optimizer"] = (
        given.get("loss") or text["loss"],
        given.get("optimizer") or text["optimizer"],
    )
    options["scheduler"] = given.get("scheduler") or text["scheduler"]
    wanted = ["method", "loss", "optimizer", *(["scheduler"] if text["has_scheduler"] else [])]
    for name in wanted:
        if options[name] is None:
            allowed = "what the learner was made with: Python functions and objects are not in the file"
            raise UsageError(name, given=None, allowed=allowed, hint=f"OnlineLearner.load(path, {name}=…)")
    readout: Any = text["readout"]
    if isinstance(readout, dict):
        n, p = options["field"].n, readout["p"]
        V, c = np.split(arrays["flat"][-p * (n + 1) :], [p * n])
        readout = Readout(V.reshape(p, n), c, readout["activation"])
    options |= {
        "readout": readout,
        "feedback": arrays.get("feedback"),
        "r0": arrays["r0"].reshape(_shape(options, arrays)),
    }
    options["update_every"] = arrays.get("times", text["every"])
    learner = kind(**options)
    learner._options["update_every"] = None
    _restore(learner, arrays, text)
    return learner


def _shape(options: dict[str, Any], arrays: dict[str, Array]) -> tuple[int, ...]:
    return arrays["r0"].shape if options["batch"] is not None else arrays["r0"].shape[1:]


def _restore(learner: Any, arrays: dict[str, Array], text: dict[str, Any]) -> None:
    weights, loop = learner._weights, learner._loop
    for name, here in (
        ("flat", weights.flat), ("r", loop.r), ("gradient", loop.readout_gradient), ("last", weights.gradient),
        ("counts", loop.counts), ("sums", loop.sums),
    ):  # fmt: skip
        if arrays[name].shape != here.shape:
            allowed = f"shape {here.shape}, of the same model"
            raise UsageError(f"checkpoint {name!r}", given=f"shape {arrays[name].shape}", allowed=allowed)
        here[...] = arrays[name]
    learner.note = dict(text["note"])
    learner.history = LearningTable([tuple(row) for row in arrays["history"].tolist()])
    loop.counts[[ROW, USED]] = 0
    loop.refresh()
    weights.optimizer.load_state_dict(_unpacked(text["optimizer state"], arrays))
    if weights.scheduler is not None:
        weights.scheduler.load_state_dict(_unpacked(text["scheduler state"], arrays))
    for b, (memory, rng) in enumerate(zip(loop.memories, text["rng"], strict=True)):
        start = f"memory {b} "
        memory.load_state_dict({k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)})
        memory.rng.bit_generator.state = rng
    learner._window.restore(text["drift"], arrays)


def _field(text: Any, arrays: dict[str, Array], parameters: dict[str, Array], given: Field | None) -> Field:
    if given is not None:
        shapes = {name: value.shape for name, value in parameters.items()}
        if {name: value.shape for name, value in given.parameters.items()} != shapes:
            raise UsageError("field", given=given, allowed=f"a field with the file's parameters, {shapes}")
        return given.with_parameters(**parameters)
    if text is None:
        hint = "OnlineLearner.load(path, field=…)"
        raise UsageError("field", given=None, allowed="the field of the learner: it is not in the file", hint=hint)
    kept = {k.removeprefix("field "): v for k, v in arrays.items() if k.startswith("field ")}
    return restored(text, kept, parameters)


def _readout(learner: Any) -> Any:
    readout = learner._observer.readout
    if readout is not None:
        return {"p": len(readout.V), "activation": readout.activation}
    names = learner._observer.selection
    return None if names is None else list(names)


def _rows(table: LearningTable) -> Array:
    return np.array(table.rows, dtype=float) if table.rows else np.empty((0, 0))


def _plain(value: Any) -> Any:
    """A name or a table of names and numbers; None for what is Python."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return None


# --- what torch remembers, which is nested


def _packed(name: str, value: Any, arrays: dict[str, Array]) -> Any:
    """Tables, lists and numbers as JSON has them; tensors go to ``arrays`` under numbered names."""
    import torch

    if isinstance(value, torch.Tensor):
        key = f"{name} tensor {sum(k.startswith(name) for k in arrays)}"
        arrays[key] = value.detach().cpu().numpy().copy()
        return {"tensor": key}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tuple):
        return {"tuple": [_packed(name, v, arrays) for v in value]}
    if isinstance(value, list):
        return [_packed(name, v, arrays) for v in value]
    if isinstance(value, Mapping):
        return {"table": [[k, _packed(name, v, arrays)] for k, v in value.items()]}
    if is_dataclass(value) and not isinstance(value, type):
        return _packed(name, asdict(value), arrays)
    raise UsageError(name, given=value, allowed="one whose state is numbers and text, to be written to a file")


def _unpacked(value: Any, arrays: dict[str, Array]) -> Any:
    import torch

    if isinstance(value, list):
        return [_unpacked(v, arrays) for v in value]
    if isinstance(value, dict) and "tensor" in value:
        return torch.from_numpy(arrays[value["tensor"]].copy())
    if isinstance(value, dict) and "tuple" in value:
        return tuple(_unpacked(v, arrays) for v in value["tuple"])
    if isinstance(value, dict):
        return {k: _unpacked(v, arrays) for k, v in value["table"]}
    return value


# --- the file


def _digest(said: str, arrays: dict[str, Array]) -> str:
    digest = hashlib.sha256(said.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _open(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    allowed = "a file that OnlineLearner.save has written"
    with loading(path, f"{allowed}, whole"), np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
        said, digest = str(arrays.pop("text")), str(arrays.pop("digest"))
        text = json.loads(said)
        form = text["format"]
    if form != FORMAT:
        raise UsageError("path", given=form, allowed=f"a file in the format {FORMAT!r}")
    if digest != _digest(said, arrays):
        raise UsageError("path", given=f"{path}, which was changed since", allowed=allowed)
    return arrays, text
