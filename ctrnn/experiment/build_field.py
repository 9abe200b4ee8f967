"""The field from its table in an experiment file: equations, or a network by its kind."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

import ctrnn
from ctrnn.errors import nearest
from ctrnn.experiment.locate import KeyPath, LocatedError
from ctrnn.experiment.schema_field import ArrayFile, EquationsField, FilledArray, NetworkField, RandomArray
from ctrnn.files import reading

if TYPE_CHECKING:
    from ctrnn.experiment.build import Experiment


def field(e: Experiment) -> Any:
    """The :class:`ctrnn.Field` of [field]."""
    spec = e.spec.field
    return _equations(e, spec) if isinstance(spec, EquationsField) else _network(e, spec)


def _equations(e: Experiment, spec: EquationsField) -> Any:
    keys: dict[str, KeyPath] = {f"d{r}": ("field", "equations", r) for r in spec.equations}
    keys |= {name: ("field", "definitions", name) for name in spec.definitions}
    parameters, constants, masks = (
        {name: _array(e, given, name, ("field", table, name)) for name, given in named.items()}
        for table, named in (
            ("parameters", spec.parameters), ("constants", spec.constants), ("masks", spec.masks),
        )
    )  # fmt: skip
    for name, mask in masks.items():  # what is drawn at random is drawn inside the mask
        drawn = isinstance(spec.parameters.get(name), RandomArray | FilledArray)
        if drawn and np.shape(mask) == np.shape(parameters[name]):
            parameters[name] = parameters[name] * (np.asarray(mask) != 0)
    with e.at("field", **keys):  # the library calls the equation of r "dr/dt"
        made = ctrnn.Equations(spec.equations, parameters, spec.inputs, spec.states, spec.definitions, constants, masks)
    texts = [*spec.equations.values(), *spec.definitions.values(), *(event.condition for event in e.spec.events)]
    texts += [text for event in e.spec.events for text in (event.reset or {}).values()]
    if e.spec.noise is not None:
        scale = e.spec.noise.scale
        texts += [text for text in (scale.values() if isinstance(scale, dict) else [scale]) if isinstance(text, str)]
    used = {name for text in texts for name in re.findall(r"[^\W\d]\w*", text)}
    for name in spec.parameters:
        if name not in used:  # most often a slip of the pen
            others = [other for other in spec.parameters if other in used]
            hint = nearest(name, others)
            hint = hint or next((f"did you mean {k!r}?" for k in others if set(k) == set(name)), "")  # aa for a
            allowed = f"a parameter of the equations: {', '.join(others) or 'none'}"
            raise e.fault(("field", "parameters", name), given=name, allowed=allowed, hint=hint)
    return made


def _array(e: Experiment, given: Any, name: str, path: KeyPath) -> Any:
    """A number or an array of an experiment file."""
    if isinstance(given, RandomArray):
        rng, size = np.random.default_rng(given.seed), given.shape
        if given.random == "bernoulli":
            return (rng.random(size) < given.scale).astype(float)
        return (
            rng.normal(0.0, given.scale, size)
            if given.random == "normal"
            else rng.uniform(-given.scale, given.scale, size)
        )
    if isinstance(given, FilledArray):
        return np.full(given.shape, given.fill)
    if isinstance(given, ArrayFile):
        return _from_file(e, given, name, path)
    return e.rectangular(given, path)


def _from_file(e: Experiment, given: ArrayFile, name: str, path: KeyPath) -> Any:
    file = e.file(given.file)
    if file.suffix not in (".npz", ".csv"):
        raise e.fault((*path, "file"), given=given.file, allowed="a file that ends in .npz or .csv")
    with e.at(*path, path=(*path, "file")), reading("path", file, "a file of numbers"):
        file.open("rb").close()
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as held:
                key = given.key or name
                if key not in held:
                    known = ", ".join(held)
                    raise e.fault(
                        (*path, "file"), given=key, allowed=f"an array of {file.name}: {known}", hint="key = ..."
                    )
                return held[key]
        return np.loadtxt(file, delimiter=",")
    except LocatedError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise e.fault((*path, "file"), given=given.file, allowed="a file of numbers", hint=str(error)) from error


def _network(e: Experiment, spec: NetworkField) -> Any:
    """A network; what the file does not give is as the class has it."""
    options = {key: getattr(spec, key) for key in spec.model_fields_set - {"kind", "parameters"}}
    for key in options.keys() & {"mask", "dale", "tau"}:
        options[key] = np.array(_array(e, options[key], key, ("field", key)))
    if "masks" in options:
        masks = options["masks"]
        options["masks"] = {name: _array(e, given, name, ("field", "masks", name)) for name, given in masks.items()}
    with e.at("field"):
        network = getattr(ctrnn, spec.network)(**options)
    if not spec.parameters:
        return network
    arrays = {k: _array(e, v, k, ("field", "parameters", k)) for k, v in spec.parameters.items()}
    with e.at("field", "parameters"):
        return network.with_parameters(**arrays)
