"""Read an experiment file: TOML text → overrides → checked specification; faults at their line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ctrnn.errors import UnknownNameError, UsageError, nearest
from ctrnn.experiment.examples import example_names, examples_folder
from ctrnn.experiment.locate import KeyPath, LocatedError, Nothing, dotted, lines_of
from ctrnn.experiment.schema import ExperimentSpec
from ctrnn.experiment.signals import INTERPOLATIONS
from ctrnn.files import reading


def find(experiment: str | Path) -> Path:
    """The file meant by a path or by a shipped name.

    Raises UnknownNameError where neither exists.
    """
    path = Path(experiment)
    if path.is_file():
        return path
    if path.suffix == ".toml" or path.exists():  # a file was meant, not the name of an example
        with reading("EXPERIMENT", path, "a TOML file, or the name of an example (`ctrnn examples`)"):
            path.open().close()
        return path  # a pipe, as of <(command)
    shipped = examples_folder() / f"{experiment}.toml"
    if shipped.parent == examples_folder() and shipped.is_file():
        return shipped
    known = example_names()
    hint = f"{nearest(experiment, known)} `ctrnn examples` lists the shipped ones".strip()
    raise UnknownNameError("EXPERIMENT", str(experiment), ["a TOML file", *known], hint)


class _Unreadable(Exception):
    """TOML by its grammar, but nothing that can be held."""


def _loaded(text: str) -> dict[str, Any]:
    """The tree of a TOML text; raises TOMLDecodeError, or _Unreadable."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise _Unreadable("lists or tables are nested hundreds deep") from None
    except (ValueError, OverflowError) as error:  # a date that is none, a whole number of 5,000 digits
        raise _Unreadable(str(error).partition(";")[0]) from None


class Source:
    """The text of a file, the overrides laid over it, and where each key came from."""

    def __init__(self, path: Path, overrides: Sequence[str] = ()) -> None:
        self.path = path
        self.name = path.name if path.parent == examples_folder() else str(path)
        self.overridden: dict[KeyPath, str] = {}
        try:
            with reading("", path, "an experiment file"):
                text = path.read_text(encoding="utf-8-sig")
        except UsageError as error:
            raise LocatedError(self.name, None, "").saying(f"allowed: {error.allowed}") from error
        self.tree = self._parse(text)
        self.lines = lines_of(text)
        for item in overrides:
            self._override(item)

    def _parse(self, text: str) -> dict[str, Any]:
        try:
            return _loaded(text)
        except _Unreadable as error:
            raise LocatedError(self.name, None, "").saying(f"cannot be read: {error}") from error
        except tomllib.TOMLDecodeError as error:
            message = str(error)
            found = re.search(r"\(at line (\d+), column (\d+)\)", message)
            lines = text.splitlines()
            line = int(found[1]) if found else max(len(lines), 1)
            column = f"column {found[2]}" if found else "end of file"
            reason = message.split(" (at ")[0].lower()
            here = lines[line - 1].strip() if line <= len(lines) else ""
            shown = f", in {here!r}" if here else ""
            raise LocatedError(self.name, line, column).saying(f"not valid TOML: {reason}{shown}") from error

    def _override(self, item: str) -> None:
        """Lay ``path.to.key=value`` over the tree; the value is TOML, or else plain text."""
        form = "path.to.key=value, such as solver.rtol=1e-6"
        name, equals, text = item.partition("=")
        if not equals or "\n" in item:
            raise LocatedError("--set", None, "", given=item, allowed=form)
        try:
            node: Any = tomllib.loads(f"{name} = 0")
        except tomllib.TOMLDecodeError as error:
            raise LocatedError("--set", None, "", given=item, allowed=form) from error
        path: KeyPath = ()
        while isinstance(node, dict):
            ((part, node),) = node.items()
            path += (part,)
        try:
            value = _loaded(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        except _Unreadable as error:
            raise LocatedError("--set", None, "", given=item, allowed=form, hint=str(error)) from error
        branch: Any = self.tree
        real: KeyPath = ()
        for k, part in enumerate(path):
            if isinstance(branch, list):
                if not (str(part).isdigit() and int(part) < len(branch)):
                    allowed = f"an index from 0 to {len(branch) - 1}"
                    raise LocatedError("--set", None, dotted(path[: k + 1]), given=part, allowed=allowed)
                part = int(part)
            elif not isinstance(branch, dict):
                key = dotted(path[:k])
                raise LocatedError("--set", None, key, given=branch, allowed=f"a table, to set {part!r} in it")
            real += (part,)
            if k == len(path) - 1:
                branch[part] = value
            elif isinstance(branch, list):
                branch = branch[part]
            else:
                branch = branch.setdefault(part, {})
        self.overridden[real] = item

    def paths(self) -> list[KeyPath]:
        """Every key path that the file or an override gives."""
        inside = [
            (*path, key) for path in self.overridden if isinstance(table := self.given(path), dict) for key in table
        ]
        return [*self.lines, *self.overridden, *inside]

    def given(self, path: KeyPath) -> Any:
        """The value at a key path, or :class:`Nothing`."""
        node: Any = self.tree
        for part in path:
            try:
                node = node[part]
            except (KeyError, IndexError, TypeError):
                return Nothing()
        return node

    def fault(self, path: KeyPath, *, allowed: str = "", hint: str = "", given: Any = None) -> LocatedError:
        """An error at the line of a key, or of the table it lacks in, or at its ``--set``."""
        given = self.given(path) if given is None else given
        words: dict[str, Any] = {"given": given, "allowed": allowed, "hint": hint}
        for override, item in reversed(self.overridden.items()):
            if path[: len(override)] == override or (path not in self.lines and override[: len(path)] == path):
                return LocatedError(f"--set {item}", None, dotted(path), **words)
        line = next((self.lines[path[:k]] for k in range(len(path), 0, -1) if path[:k] in self.lines), 1)
        return LocatedError(self.name, line, dotted(path), **words)


def check(source: Source) -> ExperimentSpec:
    """The specification in a source.

    Raises LocatedError for the first fault by line, with the further ones in its message.
    """
    try:
        return ExperimentSpec.model_validate(source.tree)
    except ValidationError as error:
        faults = [_fault(source, details) for details in error.errors(include_url=False)]
    faults.sort(key=lambda fault: fault.line or 0)
    first, *others = faults
    first.others = others
    raise first


def _fault(source: Source, details: Any) -> LocatedError:
    """One finding of pydantic, in the words and at the place of the user's file."""
    # Parts in <> are names of alternatives, "[key]" marks a table's key rather than its value.
    parts = [p for p in details["loc"] if not (isinstance(p, str) and p[:1] in "<[")]
    path: KeyPath = tuple(parts)
    kind, context = details["type"], details.get("ctx", {})
    if kind == "unknown_key":
        known = context["known"]
        allowed = "the keys " + ", ".join(known)
        key = context["key"]
        return source.fault((*path, key), given=key, allowed=allowed, hint=nearest(key, known))
    if kind == "union_tag_invalid":
        options = [o.strip("' ").strip("<>") for o in context["expected_tags"].split(", ")]
        value = source.given(path)
        if context["discriminator"] == "kind_of()" and isinstance(value, dict):
            kind = value.get("kind")
            hint = (
                f'interpolation = "{kind}"; kind names the signal' if kind in INTERPOLATIONS else nearest(kind, options)
            )
            return source.fault((*path, "kind"), allowed=", ".join(options), hint=hint)
        if context["discriminator"] == "kind_of()":
            return source.fault(path, allowed="a table with kind = " + ", ".join(options))
        return source.fault(path, allowed=" or ".join(dict.fromkeys(_SHAPES[option] for option in options)))
    if kind == "literal_error":
        options = re.findall(r"'([^']*)'", context["expected"])
        return source.fault(path, allowed=", ".join(options), hint=nearest(source.given(path), options))
    words = _WORDS.get(kind)
    return source.fault(path, allowed=words.format(**context) if words else details["msg"])


_SHAPES = {
    "number": "a number",
    "text": "text",
    "list": "a list",
    "matrix": "a list of lists of numbers",
    "table": "a table",
    "true or false": "true or false",
    "seed": "{seed = 1, sd = 1.0}",
    "file": '{file = "weights.npz"}',
    "random": '{random = "normal", shape = [8, 8], scale = 0.5, seed = 0}',
    "fill": "{fill = 0.0, shape = 8}",
    "signals": "a list of signals",
}
_WORDS = {
    "missing": "this key must be given",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "finite_number": "a finite number",
    "less_than_equal": "a number <= {le}",
    "greater_than": "a number > {gt}",
    "greater_than_equal": "a number >= {ge}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_pattern_mismatch": "a name of letters, digits and _, not beginning with a digit",
}
