"""A stream of RTRL as a file: arrays bit for bit, everything else as JSON; nothing in it is ever executed."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.described import restored
from ctrnn.files import atomic_path
from ctrnn.losses import Readout
from ctrnn.trajectory import Stats

FORMAT = "ctrnn RTRLStream 3"
#: in the file -> in the state
_CARRIED = {"G": "G", "S": "S", "g_o": "readout"}
_MEMORY = tuple(f"memory {i}" for i in range(6))
_STATS = ("solver", "steps", "rejected", "evaluations", "jacobians", "wall_time", "stiff")


def write(stream: Any, path: str | os.PathLike[str]) -> None:
    """Write the stream, whole or not at all."""
    settings, readout = stream.settings, stream.readout
    arrays = {f"parameter {k}": v for k, v in stream.field.parameters.items()}
    arrays |= {key: getattr(stream._state, name) for key, name in _CARRIED.items()}
    arrays |= {f"memory {i}": part for i, part in enumerate(stream._memory)}
    times = [stream.t0, stream.t, stream.loss]
    arrays |= {
        "r": stream.r,
        "times": np.array(times),
        "rtol": np.asarray(settings.rtol),
        "atol": np.asarray(settings.atol),
    }
    field, of_field = stream.field.describe() or (None, {})
    arrays |= {f"field {k}": v for k, v in of_field.items()}
    text: dict[str, Any] = {
        "format": FORMAT,
        "field": field,
        "settings": [settings.solver, settings.dt, settings.max_steps, settings.min_step],
        "loss": stream.loss_function if isinstance(stream.loss_function, str) else None,
        "block": stream.block,
        "readout": list(readout) if isinstance(readout, tuple) else None,
        "activation": None,
        "stats": [getattr(stream.stats, key) for key in _STATS],
    }
    if isinstance(readout, Readout):
        text["activation"] = readout.activation
        arrays |= {"V": readout.V, "c": readout.c}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, text=np.array(json.dumps(text)), **arrays)  # type: ignore[arg-type]


def read(kind: type, path: str | os.PathLike[str], field: Field | None, loss: Any) -> Any:
    """The stream as it was."""
    arrays, text = _open(Path(path))
    parameters = {k.removeprefix("parameter "): v for k, v in arrays.items() if k.startswith("parameter ")}
    if field is None:
        field = _built(text["field"], arrays, parameters)
    if {k: v.shape for k, v in field.parameters.items()} != {k: v.shape for k, v in parameters.items()}:
        raise UsageError("field", given=field, allowed=f"a field with the file's parameters, {', '.join(parameters)}")
    if loss is None and text["loss"] is None:
        raise UsageError(
            "loss", given=None, allowed="the loss of the stream: a Python function is not written to the file"
        )
    readout: Any = None if text["readout"] is None else tuple(text["readout"])
    if text["activation"] is not None:
        readout = Readout(arrays["V"], arrays["c"], text["activation"])
    solver, dt, max_steps, min_step = text["settings"]
    t0, t, l = arrays["times"].tolist()
    stream = kind(
        field.with_parameters(**parameters),
        arrays["r"],
        t0,
        solver,
        dt,
        readout,
        text["loss"] if loss is None else loss,
        text["block"],
        arrays["rtol"],
        arrays["atol"],
        max_steps,
        min_step,
    )
    stream.t, stream.stats = t, Stats(**dict(zip(_STATS, text["stats"], strict=True)))
    state = stream._state
    state.loss, state.begun = np.array([l]), True
    for key, name in _CARRIED.items():
        here = getattr(state, name)
        if here.shape != arrays[key].shape:  # P has rows only for states that hang together
            raise UsageError(
                "field",
                given=field,
                allowed="the field of the stream, with the same connections",
                hint=f"{key} of the file has the shape {arrays[key].shape}, and for this field {here.shape}",
            )
        here[...] = arrays[key]
    stream._memory = [arrays[name] for name in _MEMORY if name in arrays]
    return stream


def _open(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        text = json.loads(str(arrays["text"]))
        if text["format"] == FORMAT:
            _ = [arrays[key] for key in (*_CARRIED, "r", "rtol", "atol", *(_MEMORY if _MEMORY[0] in arrays else ()))]
            arrays["times"] = arrays["times"].reshape(3)
    except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise UsageError("path", given=str(path), allowed="a file that RTRLStream.save has written") from error
    if text["format"] != FORMAT:
        raise UsageError("path", given=text["format"], allowed=f"a file in the format {FORMAT!r}")
    return arrays, text


def _built(text: dict[str, Any] | None, arrays: dict[str, Array], parameters: dict[str, Array]) -> Field:
    if text is None:
        raise UsageError("field", given=None, allowed="the field of the stream: it is not written to the file")
    kept = {k.removeprefix("field "): v for k, v in arrays.items() if k.startswith("field ")}
    return restored(text, kept, parameters)
