"""Standard output and standard error that a command can always write to.

A reader may go before we are done (``ctrnn simulate decay | head -1``): the results are in files, so the command goes
on and what nobody reads is dropped. A stream may be closed from the start, be full, or know few letters.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
import unicodedata
from typing import Any

#: letters of our tables that a terminal of few letters shows by others
PLAIN = {
    "−": "-", "–": "-", "—": "-", "→": "->", "≤": "<=", "≥": ">=", "×": "x", "·": ".", "…": "...", "½": "1/2",
    "²": "^2", "³": "^3", "⁻": "^-", "‖": "||", "√": "sqrt", "∞": "inf", "∂": "d", "∫": "integral", "Σ": "sum",
    "ℓ": "l", "λ": "lambda", "τ": "tau", "φ": "phi", "σ": "sigma", "ω": "omega", "µ": "u", "‘": "'", "’": "'",
    "≈": "~", "±": "+-",
}  # fmt: skip


class Lasting(io.RawIOBase):
    """A file descriptor whose reader may go: then what is written is dropped. ``failure``: why it cannot be written."""

    failure: OSError | None = None

    def __init__(self, number: int) -> None:
        self.number = number

    def write(self, data: Any) -> int:
        """The number of bytes taken, or dropped."""
        try:
            if self.failure is None:
                return os.write(self.number, data)
        except OSError as error:
            self.failure = error
        return len(memoryview(data).cast("B"))

    def writable(self) -> bool:
        """Whether it can be written to."""
        return True

    def fileno(self) -> int:
        """The number of the file."""
        return self.number

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self.number)

    @property
    def is_lost(self) -> bool:
        """Whether something was not written that somebody waits for: the disk is full, not the reader gone."""
        return self.failure is not None and self.failure.errno not in (errno.EPIPE, errno.EBADF)


def plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for letters that the stream does not know."""
    assert isinstance(error, UnicodeEncodeError)
    known = error.encoding.lower()
    found = []
    for letter in error.object[error.start : error.end]:
        simple = PLAIN.get(letter) or unicodedata.normalize("NFKD", letter)
        simple = "".join(c for c in simple if not unicodedata.combining(c))
        try:
            simple.encode(known)
        except UnicodeEncodeError:
            simple = f"\\x{ord(letter) - 0xDC00:02x}" if 0xDC80 <= ord(letter) <= 0xDCFF else "?"
        found.append(simple)
    return "".join(found), error.end


def lasting() -> list[Lasting]:
    """Let the command write to both streams whatever becomes of them; gives what stands behind them."""
    codecs.register_error("ctrnn.plain", plain)
    _occupied()
    for name in ("COLUMNS", "LINES"):  # rich takes "²" for a number
        given = os.environ.get(name, "")
        if not (given.isascii() and given.isdigit() and 0 < int(given[:6]) <= 10_000):
            os.environ.pop(name, None)
    made = []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.StringIO())
        elif type(stream) is io.TextIOWrapper and isinstance(stream.buffer, io.BufferedWriter | io.FileIO):
            stream.flush()
            raw = Lasting(stream.fileno())
            made.append(raw)
            lines = name == "stderr" or raw.isatty() or isinstance(stream.buffer, io.FileIO)
            text = io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "ctrnn.plain", line_buffering=lines)
            setattr(sys, name, text)
    return made


def _occupied() -> None:
    """A closed stream's number would be given to the next file, and that file would get what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
