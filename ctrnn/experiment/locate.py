"""Where in a TOML file a key stands, and errors that say so.

``tomllib`` gives values without line numbers. :func:`lines_of` walks the same text once more and
notes, for every key path such as ``("inputs", 0, "onset")``, the line of its key, or of the element
of an array. It runs after ``tomllib`` accepted the text, so it may trust the syntax (TOML v1.0.0,
https://toml.io/en/v1.0.0).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Any

from ctrnn.errors import ExperimentError

KeyPath = tuple[str | int, ...]


class Nothing:
    """What was given where a key is missing; its repr is the word for it."""

    def __repr__(self) -> str:
        return "nothing"


class LocatedError(ExperimentError):
    """A fault at one place of an experiment file.

    Attributes
    ----------
    file : str
        The file, or the ``--set`` that the value came from.
    line : int or None
        None when the value came from ``--set``.
    key : str
        Dotted path of the key.
    others : list of LocatedError
        Further faults found in the same pass.
    """

    def __init__(
        self,
        where: str,
        line: int | None,
        key: str,
        *,
        given: Any = None,
        allowed: str = "",
        hint: str = "",
    ) -> None:
        self.others: list[LocatedError] = []
        self._place(where, line, key)
        super().__init__(self.place, given=given, allowed=allowed, hint=hint)

    def saying(self, message: str) -> LocatedError:
        """The same place with another message."""
        self.args = (f"{self.place}: {message}",)
        return self

    def blaming(self, where: str) -> LocatedError:
        """The same message, and those of ``others``, said of another place than a line of the file."""
        for one in (self, *self.others):
            message = str(one.args[0]).removeprefix(f"{one.place}: ")
            one._place(where, None, one.key)
            one.args = (f"{one.place}: {message}",)
        return self

    def _place(self, where: str, line: int | None, key: str) -> None:
        self.file, self.line, self.key = where, line, key
        place = where if line is None else f"{where}:{line}"
        self.place = f"{place}: {key}" if key else place

    def __str__(self) -> str:
        return "\n".join([str(self.args[0]), *map(str, self.others)])


def dotted(path: KeyPath) -> str:
    """A key path as one writes it after ``--set``: ``inputs.0.onset``."""
    bare = re.compile(r"[A-Za-z0-9_-]+")
    return ".".join(
        p if isinstance(p, str) and bare.fullmatch(p) else str(p) if isinstance(p, int) else f'"{p}"' for p in path
    )


def lines_of(text: str) -> dict[KeyPath, int]:
    r"""Line (from 1) of every key path in a TOML text.

    >>> lines_of("[a]\nb = 1\n[[c]]\n[[c]]\nd = [\n  {e = 2},\n]")[("c", 1, "d", 0, "e")]
    6
    """
    return _Scanner(text).scan()


class _Scanner:
    """One pass over the text, noting the line of each key."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.starts = [0] + [m.end() for m in re.finditer(r"\n", text)]
        self.lines: dict[KeyPath, int] = {}
        self.last: dict[KeyPath, int] = {}  # array of tables -> index of its latest table

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self.skip()
        while self.at < len(self.text):
            if self.take("[["):
                *parents, name = self.key()
                array = self.resolve(parents) + (name,)
                self.last[array] = self.last.get(array, -1) + 1
                table = array + (self.last[array],)
                self.note(array)
                self.note(table)
                self.take("]]")
            elif self.take("["):
                table = self.resolve(self.key())
                self.note(table)
                self.take("]")
            else:
                self.pair(table)
            self.skip()
        return self.lines

    def pair(self, table: KeyPath) -> None:
        parts = self.key()
        for k in range(1, len(parts) + 1):
            self.note(table + parts[:k])
        self.skip()
        self.take("=")
        self.value(table + parts)

    def key(self) -> tuple[str, ...]:
        parts = []
        while True:
            self.skip()
            quote = self.text[self.at]
            if quote in "\"'":
                start = self.at + 1
                self.string()
                parts.append(self.text[start : self.at - 1])
            else:
                match = re.compile(r"[A-Za-z0-9_-]+").match(self.text, self.at)
                assert match is not None, "tomllib accepted a key that is not one"
                parts.append(match.group())
                self.at = match.end()
            self.skip()
            if not self.take("."):
                return tuple(parts)

    def value(self, path: KeyPath) -> None:
        self.skip()
        if self.take("["):
            self.skip()
            k = 0
            while not self.take("]"):
                self.note(path + (k,))
                self.value(path + (k,))
                k += 1
                self.skip()
                self.take(",")
                self.skip()
        elif self.take("{"):
            self.skip()
            while not self.take("}"):
                self.pair(path)
                self.skip()
                self.take(",")
                self.skip()
        elif self.text[self.at] in "\"'":
            self.string()
        else:
            match = re.compile(r"[^,\]}#\n]*").match(self.text, self.at)
            assert match is not None
            self.at = match.end()

    def string(self) -> None:
        quote = self.text[self.at]
        fence = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        self.at += len(fence)
        while not self.text.startswith(fence, self.at):
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
        self.at += len(fence)
        while len(fence) == 3 and self.text.startswith(quote, self.at):
            self.at += 1  # up to two quotes may touch the closing fence

    def resolve(self, parts: Any) -> KeyPath:
        """A header's path: through an array of tables it means the latest table."""
        path: KeyPath = ()
        for part in parts:
            path += (part,)
            if path in self.last:
                path += (self.last[path],)
        return path

    def note(self, path: KeyPath) -> None:
        self.lines.setdefault(path, bisect_right(self.starts, self.at))

    def take(self, mark: str) -> bool:
        if self.text.startswith(mark, self.at):
            self.at += len(mark)
            return True
        return False

    def skip(self) -> None:
        match = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*").match(self.text, self.at)
        assert match is not None
        self.at = match.end()
