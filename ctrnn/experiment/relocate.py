"""The library's own errors, said of a place in an experiment file and in the words of such files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ctrnn.errors import UsageError
from ctrnn.experiment.load import Source
from ctrnn.experiment.locate import KeyPath, LocatedError
from ctrnn.experiment.schema import known_keys

#: What the library advises in Python, and the same as keys of a file.
WORDS = [
    (r"got None\b", "got nothing"),
    (r"ctrnn\.inputs\.stack\(.*?\)[^;.]*", "a list of tables, [[inputs]], one a channel"),
    (
        r"ctrnn\.inputs\.Sampled\(times, values\) for data in time, or at=times",
        'a table with kind = "sampled", or the key at',
    ),
    (r"ctrnn\.inputs\.Sampled\(times, values\)", 'a table with kind = "sampled"'),
    (r"method='([\w-]+)'", r'method = "\1"'),
    (r"solver='([\w:]+)'", r'solver.name = "\1"'),
    (r"'(scipy:\w+)'", r'"\1"'),
    (r"or an adaptive solver such as '(\w+)'", r'or an adaptive solver, name = "\1"'),
    (r"\bdt=\.\.\.", "a step, dt = 0.01"),
    (r"readout=None; the expression names the states it takes", "remove readout: the expression names its states"),
    (r'Readout\(V, c, activation="softmax"\)', 'readout = { size = 2, seed = 1, activation = "softmax" }'),
    (r"Readout\(V, c\)", "readout = { size = 2, seed = 1 }"),
    (r"a state's name, a list of names, or a Readout\b", "a state's name, a list of names, or a table"),
    (r"None: ", "no key dt here: "),
    (r"None for a loss that is an expression", "no target: the loss is an expression"),
    (r"ctrnn\.RateNetwork\(1, inputs=1, activation='linear'\)", "ctrnn examples scalar"),
    (r"\br0=True\b", "r0 = true"),
    (r'transform="none"', 'transform = "none"'),
    (r"shape \(1,\)", "1 number"),
    (r"shape \((\d+),\)", r"\1 numbers"),
    (r"shape \((\d+), (\d+)\)", r"a list of \1 lists of \2 numbers"),
    (r"np\.eye\((\d+)\)\[labels\]", "a 1 among zeros"),
    (r"multiply W by field\.masks\['W'\]", "0 in W wherever mask is 0"),
    (r"field\.project\(W\)", "the signs that dale asks for"),
]
#: Words in the name of an argument that say of what kind it is, not which one.
KINDS = {"parameter", "state", "array", "dt"}  # "dr/dt" names the equation of r


def in_file_words(text: str) -> str:
    r"""The text with what it says in Python said in keys of a file.

    >>> in_file_words("Try: method='rtrl-continuous' or solver='scipy:BDF'")
    'Try: method = "rtrl-continuous" or solver.name = "scipy:BDF"'
    """
    for python, toml in WORDS:
        text = re.sub(python, toml, text)
    return text


def relocated(source: Source, section: KeyPath, keys: Mapping[str, KeyPath], error: UsageError) -> LocatedError:
    """The error as a fault of the table ``section``, or of the key in it that its argument names.

    ``keys`` says where the library's argument of that name stands in the file.
    """
    table, dot, _ = error.argument.partition(".")
    path: KeyPath = (table,) if dot and (table,) in source.paths() else section
    words = re.findall(r"\w+", error.argument)
    for word in words:  # "parameter 'a'": narrow down to a
        inside = [p for p in source.paths() if p[: len(path)] == path and p[-1] == word]
        if word in keys:
            path = keys[word]
        elif inside:
            path = min(inside, key=len)
        elif len(path) == 1 and word in known_keys(path[0]):
            path = (*path, word)
    message = str(error)
    told = {*map(str, path), *keys, *KINDS}
    if all(word in told or word.isdigit() for word in words):  # the place says it already
        message = message.removeprefix(f"{error.argument}: ")
    return source.fault(path, allowed=error.allowed, hint=error.hint).saying(in_file_words(message))


def blamed(error: LocatedError, overrides: Sequence[str], attempt: Callable[[Sequence[str]], object]) -> LocatedError:
    """The error, said of the ``--set`` without which the file is right, where there is one.

    ``attempt`` does with some overrides what failed with all of them.
    """

    def right(some: Sequence[str]) -> bool:
        try:
            attempt(some)
        except UsageError:
            return False
        return True

    if error.line is None or not overrides or not right(()):
        return error
    guilty = [one for one in overrides if right([other for other in overrides if other != one])]
    return error.blaming(" ".join(f"--set {item}" for item in guilty[:1] or overrides))
