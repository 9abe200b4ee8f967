"""A stream of RTRL as a file: arrays bit for bit, everything else as JSON; nothing in it is ever executed."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ctrnn.errors import CtrnnError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.described import restored
from ctrnn.files import as_path, atomic_path, loading
from ctrnn.kernels import implicit, stepper
from ctrnn.losses import Readout
from ctrnn.numbers import MOST, checked_array, flag, number, whole
from ctrnn.trajectory import Stats

FORMAT = "ctrnn RTRLStream 4"
ALLOWED = "a file that RTRLStream.save has written"
#: in the file -> in the state
_CARRIED = {"G": "G", "S": "S", "g_o": "readout"}
_MEMORY = tuple(f"memory {i}" for i in range(6))
_STATS = ("solver", "steps", "rejected", "evaluations", "jacobians", "wall_time", "stiff")


def write(stream: Any, path: str | os.PathLike[str]) -> None:
    """Write the stream, whole or not at all."""
    arrays, text = _contents(stream)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, text=np.array(json.dumps(text)), **arrays)  # type: ignore[arg-type]


def reduced(stream: Any) -> tuple[Any, ...]:
    """What pickle and copy make the stream again from: what a file has, with field and loss, whatever they are."""
    arrays, text = _contents(stream)
    # of numbers only, as machine code does not travel; copied, as the stream goes on
    arrays = {name: np.array(array) for name, array in arrays.items()}
    return _restored, (type(stream), arrays, text, stream.field, stream.loss_function)


def _contents(stream: Any) -> tuple[dict[str, Array], dict[str, Any]]:
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
        "settings": [settings.solver, settings.dt, settings.max_steps, settings.min_step, settings.error_control],
        "loss": stream.loss_function if isinstance(stream.loss_function, str) else None,
        "block": stream.block,
        "readout": list(readout) if isinstance(readout, tuple) else None,
        "activation": None,
        "stats": [getattr(stream.stats, key) for key in _STATS],
    }
    if isinstance(readout, Readout):
        text["activation"] = readout.activation
        arrays |= {"V": readout.V, "c": readout.c}
    return arrays, text


def read(kind: type, path: str | os.PathLike[str], field: Field | None, loss: Any) -> Any:
    """The stream as it was.

    A file that is none, or that somebody has changed so that nothing fits, raises UsageError: nothing of it is used.
    """
    arrays, text = _open(as_path("path", path))
    try:
        return _restored(kind, arrays, text, field, loss)
    except CtrnnError:
        raise
    except Exception as error:  # whatever values of other kinds and sizes lead to
        raise UsageError("path", given=str(path), allowed=ALLOWED, hint=f"it is damaged: {error}") from error


def _restored(kind: type, arrays: dict[str, Array], text: dict[str, Any], field: Field | None, loss: Any) -> Any:
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
    solver, dt, max_steps, min_step, error_control = text["settings"]
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
        error_control,
    )
    if not t >= stream.t0 or not math.isfinite(t):
        raise ValueError(f"it ends at t = {t} and began at {t0}")
    solver, *counts, wall_time, stiff = text["stats"]
    counts = [whole(name, count, 0) for name, count in zip(_STATS[1:5], counts, strict=True)]
    stats = (str(solver), *counts, number("wall_time", wall_time), flag("stiff", stiff))
    stream.t, stream.stats = t, Stats(**dict(zip(_STATS, stats, strict=True)))
    stream.settings.tolerances(stream.field.n)
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
        here[...] = checked_array(key, arrays[key], here.shape)
    stream._memory = _checked_memory([arrays[name] for name in _MEMORY if name in arrays], stream)
    return stream


def _checked_memory(memory: list[Array], stream: Any) -> list[Array]:
    """Clock, count, and Newton's J, M, pivots and state, each of the kind and size that the compiled stepper takes.

    Raises ValueError: it would read and write past their ends, and take the pivots for rows.
    """
    if not memory:
        return memory
    clock, count, J, _, pivots, _ = memory
    k, n, dt = len(J), stream.field.n, stream.settings.dt
    sizes = [(stepper.CLOCK_SIZE,), (stepper.COUNT_SIZE,), (k, k), (k, k), (k,), (implicit.STATE_SIZE,)]
    kinds = [np.float64, np.int64, np.float64, np.float64, np.int32, np.float64]
    for name, part, size, kind in zip(_MEMORY, memory, sizes, kinds, strict=True):
        if part.shape != size or part.dtype != kind:
            raise ValueError(f"{name} is {part.dtype} of the shape {part.shape}, not {np.dtype(kind)} of {size}")
        if not np.isfinite(part).all():
            raise ValueError(f"{name} is not finite")
    if k not in (0, n, n + 1) or ((pivots < 0) | (pivots > k)).any() or (count < 0).any():
        raise ValueError("Newton's matrices or counts are those of no stream of this field")
    grid = 0.0 if dt is None else abs(stream.t0 + dt * float(count[stepper.GRID]) - stream.t) / dt
    if count[stepper.STIFF] > 1 or count.max() > MOST or grid > 1.001:
        raise ValueError("counts of another stream")
    if clock[stepper.H] < 0 or clock[stepper.ERR_BEFORE] < 0:
        raise ValueError("a step size or an error below 0")
    return memory


def _open(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    with loading(path, ALLOWED), np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
        text = json.loads(str(arrays["text"]))
        if text["format"] == FORMAT:
            _ = [arrays[key] for key in (*_CARRIED, "r", "rtol", "atol", *(_MEMORY if _MEMORY[0] in arrays else ()))]
            arrays["times"] = arrays["times"].reshape(3)
    if text["format"] != FORMAT:
        raise UsageError("path", given=text["format"], allowed=f"a file in the format {FORMAT!r}")
    return arrays, text


def _built(text: dict[str, Any] | None, arrays: dict[str, Array], parameters: dict[str, Array]) -> Field:
    if text is None:
        raise UsageError("field", given=None, allowed="the field of the stream: it is not written to the file")
    kept = {k.removeprefix("field "): v for k, v in arrays.items() if k.startswith("field ")}
    return restored(text, kept, parameters)
