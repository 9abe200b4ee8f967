"""What a field is described by, read from what people give: names, formulas, tables; and fields themselves."""

from __future__ import annotations

from collections.abc import KeysView, Mapping
from typing import Any

from ctrnn.errors import UsageError


def checked_names(what: str, names: Any) -> tuple[str, ...]:
    """Names as a tuple without repetitions."""
    names = tuple(name_list(what, names))
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise UsageError(what, given=name, allowed="names of letters, digits and _")
        if name in seen:
            raise UsageError(what, given=name, allowed="each name once")
        seen.add(name)
    return names


def checked_field(field: Any) -> Any:
    """The field itself, or what behaves like one, with n states and their names; UsageError for anything else."""
    if isinstance(field, type) or not (hasattr(field, "n") and hasattr(field, "state_names")):
        raise UsageError("field", given=field, allowed="a field: Equations, RateNetwork, TorchField")
    return field


def name_list(what: str, names: Any) -> list[str]:
    """Names from one name or from several; UsageError for anything else."""
    found = list(names) if isinstance(names, list | tuple | set | frozenset | dict | KeysView) else [names]
    if not all(isinstance(name, str) for name in found):
        raise UsageError(what, given=names, allowed="a list of names")
    return found


def texts(what: str, table: Mapping[str, Any]) -> dict[str, str]:
    """Name -> formula as text; a number is one too. UsageError for anything else."""
    for name, text in table.items():
        if not isinstance(name, str):
            raise UsageError(what, given=name, allowed="names of letters, digits and _")
        is_number = isinstance(text, int | float) and not isinstance(text, bool) and abs(text) < 1e300
        if not isinstance(text, str) and not is_number:
            raise UsageError(f"{what}[{name!r}]", given=text, allowed="a formula as text")
        if any("\ud800" <= letter <= "\udfff" for letter in f"{name}{text}"):
            raise UsageError(f"{what}[{name!r}]", given=text, allowed="letters that Unicode has: no lone surrogates")
    return {name: text if isinstance(text, str) else repr(text) for name, text in table.items()}


def as_mapping(what: str, value: Any) -> Mapping[str, Any]:
    """The value itself; raises UsageError, which names the argument, for anything that is no table."""
    if not isinstance(value, Mapping):
        raise UsageError(what, given=value, allowed="a table name -> value")
    return value
