"""Trials to learn from: inputs x_k, targets y_k and the weight of each time, from arrays, NPZ or CSV.

    loss = Σ_bk a_bk ℓ(o_bk, y_bk) / Σ_bk a_bk            b: trials, k: times

Trials of unequal lengths lie in one array, filled up with 0, and weigh nothing behind their end. Parts of the data are
datasets too: some trials, the first steps of all (a curriculum on length), windows of long ones, and the two sides of
a split, by trial or by time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UnknownNameError, UsageError, one_of
from ctrnn.files import loading
from ctrnn.inputs.table import read_columns
from ctrnn.numbers import axes_of, items, number, places, real_array, whole

Array = NDArray[np.float64]

SPLITS = ("trial", "time")


class Dataset:
    """Trials with inputs, targets and weights.

    Parameters
    ----------
    x : array_like (B, T, inputs), or sequence of (T_b, inputs)
        The inputs; (T, inputs) is one trial.
    y : array_like (B, T, outputs), or sequence of (T_b, outputs)
        What the outputs should be when the time of each input ends.
    weight : array_like (B, T), or sequence of (T_b,), optional
        How much each time counts, at least 0; 0: not at all. 1 everywhere by default.
    input_names, output_names : sequence of str, optional
        Names of the channels.

    Attributes
    ----------
    x, y, weight : ndarray
        (B, T, inputs), (B, T, outputs), (B, T), filled up with 0.
    lengths : ndarray (B,)
        Steps of each trial.

    Raises
    ------
    UsageError
        For NaN and infinite numbers, and for x, y and weights of unequal lengths or shapes; it names the trial.

    Notes
    -----
    ``len(data)`` is B and ``data[b]`` the tensors (x, y, weight) of one trial, so that torch's DataLoader takes it.

    Examples
    --------
    >>> data = Dataset(np.zeros((8, 50, 2)), np.ones((8, 50, 1)))
    >>> data
    Dataset(8 trials of 50 steps, 2 inputs, 1 output)
    >>> train, valid = data.split(0.25, seed=0)
    >>> len(train), len(valid)
    (6, 2)
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        weight: Any = None,
        *,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ) -> None:
        xs, ys = _trials("x", x, 2), _trials("y", y, 2)
        weights = None if weight is None else _trials("weight", weight, 1)
        for name, others in (("y", ys), ("weight", weights)):
            if others is not None and len(others) != len(xs):
                hint = (
                    "y[..., None], of one output; np.eye(classes)[y], of classes"
                    if name == "y" and axes_of(y) == 2
                    else ""
                )
                raise UsageError(name, given=f"{len(others)} trials", allowed=f"{len(xs)} trials, as x has", hint=hint)
            for b, (one, other) in enumerate(zip(xs, others or [], strict=False)):
                if len(one) != len(other):
                    allowed = f"{len(one)} steps, as x has"
                    raise UsageError(f"{name} of trial {b}", given=f"{len(other)} steps", allowed=allowed)
        if weights is None:
            weights = [np.ones(len(one)) for one in xs]
        self.lengths = np.array([len(one) for one in xs])
        self.x, self.y, self.weight = _padded(xs), _padded(ys), _padded(weights)
        if (self.weight < 0.0).any():
            raise UsageError("weight", given=float(self.weight.min()), allowed="numbers that are at least 0")
        self.input_names = _names("input_names", input_names, "x", self.x.shape[2])
        self.output_names = _names("output_names", output_names, "y", self.y.shape[2])

    @classmethod
    def from_npz(cls, path: str | os.PathLike[str]) -> Dataset:
        """The arrays "x", "y" and, where it is there, "weight" of an NPZ file, shaped as `Dataset` takes them.

        Parameters
        ----------
        path : str or path
            As ``numpy.savez(path, x=…, y=…)`` writes it. An array "lengths" (B,) says how many steps of each trial
            are none of the filling.

        Returns
        -------
        Dataset
            Its trials.

        Raises
        ------
        UsageError
            For a file that cannot be read, and for what `Dataset` refuses.
        UnknownNameError
            Where an array is not there.
        """
        allowed = "a readable NPZ file with the arrays x and y"
        with loading(path, allowed), np.load(Path(path), allow_pickle=False) as file:
            arrays = dict(file)
        for name in ("x", "y"):
            if name not in arrays:
                raise UnknownNameError(f"array of {path}", name, arrays)
        parts = {name: arrays.get(name) for name in ("x", "y", "weight")}
        if "lengths" in arrays:
            parts = {k: v if v is None else _unpadded(k, v, arrays["lengths"]) for k, v in parts.items()}
        return cls(**parts)

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        inputs: str | Sequence[str],
        outputs: str | Sequence[str],
        trial: str | None = None,
        weight: str | None = None,
    ) -> Dataset:
        r"""Columns of a CSV file, a step in each line.

        Parameters
        ----------
        path : str or path
            A file separated by commas, whose first line holds the column names.
        inputs, outputs : str or sequence of str
            The columns of x and of y; the lists may be empty but for outputs.
        trial : str, optional
            A column with the number of the trial; the lines of a trial follow one another. Without it all are one.
        weight : str, optional
            A column of weights.

        Returns
        -------
        Dataset
            Its trials, in the order of the file.

        Raises
        ------
        UsageError, UnknownNameError
            As `ctrnn.inputs.from_csv`, with the line and the column; and where the lines of a trial are apart.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "trials.csv")
        >>> _ = path.write_text("trial,u,z\n1,0.0,0.5\n1,1.0,0.7\n2,0.5,0.1\n2,0.2,0.3\n")
        >>> Dataset.from_csv(path, "u", "z", trial="trial")
        Dataset(2 trials of 2 steps, 1 input, 1 output)
        """
        ins, outs = ([names] if isinstance(names, str) else list(names) for names in (inputs, outputs))
        if not outs:
            raise UsageError("outputs", given=outputs, allowed="the name of a column, or a list of names")
        wanted = [*(("inputs", name) for name in ins), *(("outputs", name) for name in outs)]
        wanted += [(what, name) for what, name in (("weight", weight), ("trial", trial)) if name is not None]
        lines, numbers = read_columns(path, wanted)
        rows = np.array(numbers)
        starts = [0]
        if trial is not None:
            ids = rows[:, -1]
            starts = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist()]
            seen: set[float] = set()
            for k in starts:
                if ids[k] in seen:
                    allowed = "the lines of a trial one after another"
                    raise UsageError(f"{path}, line {lines[k]}, column {trial!r}", given=ids[k], allowed=allowed)
                seen.add(ids[k])
        trials = np.split(rows, starts[1:])
        p, q = len(ins), len(ins) + len(outs)
        x, y = [one[:, :p] for one in trials], [one[:, p:q] for one in trials]
        a = None if weight is None else [one[:, q] for one in trials]
        return cls(x, y, a, input_names=ins, output_names=outs)

    # --- parts

    def take(self, trials: Any) -> Dataset:
        """The trials with these numbers; raises UsageError for others."""
        index = places("trials", trials, len(self))
        longest = int(self.lengths[index].max()) if len(index) else 0
        return self._with(
            self.x[index, :longest], self.y[index, :longest], self.weight[index, :longest], self.lengths[index]
        )

    def cut(self, steps: int) -> Dataset:
        """The first ``steps`` steps of each trial."""
        steps = whole("steps", steps, 1)
        x, y, weight = self.x[:, :steps], self.y[:, :steps], self.weight[:, :steps]
        return self._with(x, y, weight, np.minimum(self.lengths, steps))

    def windows(self, length: int, stride: int | None = None, warmup: int = 0) -> Dataset:
        """Each trial in windows of ``length`` steps, one every ``stride``; each is a trial of its own.

        The first ``warmup`` steps of a window count nothing: there the state comes into its course. The last window
        of a trial ends with it, and a trial that is shorter is one window.
        """
        length, warmup = whole("length", length, 1), whole("warmup", warmup, 0)
        if warmup >= length:
            raise UsageError("warmup", given=warmup, allowed=f"fewer steps than a window has, {length}")
        stride = whole("stride", length - warmup if stride is None else stride, 1)
        xs, ys, weights = [], [], []
        for b, T in enumerate(self.lengths):
            last = max(int(T) - length, 0)
            for k in dict.fromkeys([*range(0, last + 1, stride), last]):
                part = slice(k, min(k + length, int(T)))
                a = self.weight[b, part].copy()
                a[:warmup] = 0.0
                xs.append(self.x[b, part])
                ys.append(self.y[b, part])
                weights.append(a)
        return Dataset(xs, ys, weights, input_names=self.input_names, output_names=self.output_names)

    def split(self, fraction: float, by: str = "trial", seed: int = 0) -> tuple[Dataset, Dataset]:
        """Two datasets, the second to validate with.

        Parameters
        ----------
        fraction : float
            The part of the trials, or of the time of each trial, that the second has: between 0 and 1.
        by : {"trial", "time"}, default "trial"
            "trial": some trials, drawn with the seed. "time": the last part of each trial; the first dataset ends
            before it, and the second runs from the beginning and counts there only.
        seed : int, default 0
            Of the draw.

        Returns
        -------
        tuple of Dataset
            Training and validation.

        Raises
        ------
        UsageError, UnknownNameError
            For what is not allowed, and where a side would be empty.
        """
        one_of("by", by, SPLITS)
        fraction = number("fraction", fraction, "a number between 0 and 1", 5e-324, 1.0)
        if by == "trial":
            B = len(self)
            held = min(max(round(fraction * B), 1), B - 1)
            if B < 2:
                raise UsageError("fraction", given=f"{B} trial", allowed="2 trials or more", hint='by="time"')
            order = np.random.default_rng([whole("seed", seed, 0), 0]).permutation(B)
            return self.take(np.sort(order[held:])), self.take(np.sort(order[:held]))
        kept = np.floor((1.0 - fraction) * self.lengths + 1e-9).astype(np.int64)
        if (kept < 1).any() or (kept == self.lengths).any():
            allowed = "a fraction that leaves each trial a step on both sides"
            raise UsageError("fraction", given=fraction, allowed=allowed)
        before = np.arange(self.x.shape[1]) < kept[:, None]
        T = int(kept.max())
        first = self._with(
            np.where(before[..., None], self.x, 0.0)[:, :T],
            np.where(before[..., None], self.y, 0.0)[:, :T],
            np.where(before, self.weight, 0.0)[:, :T],
            kept,
        )
        return first, self._with(self.x, self.y, np.where(before, 0.0, self.weight), self.lengths)

    def _with(self, x: Array, y: Array, weight: Array, lengths: Any) -> Dataset:
        made = object.__new__(Dataset)
        made.x, made.y, made.weight, made.lengths = x, y, weight, np.array(lengths)
        made.input_names, made.output_names = self.input_names, self.output_names
        return made

    # --- for torch

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, b: int) -> tuple[Any, Any, Any]:
        import torch

        if not -len(self) <= b < len(self):
            raise IndexError(f"trial {b} of {len(self)}")
        T = int(self.lengths[b])
        x, y, a = (torch.from_numpy(v[b, :T].copy()) for v in (self.x, self.y, self.weight))
        return x, y, a

    def __repr__(self) -> str:
        shortest, longest = int(self.lengths.min()), int(self.lengths.max())
        steps = f"{longest}" if shortest == longest else f"{shortest} to {longest}"
        count = (len(self), "trial"), (self.x.shape[2], "input"), (self.y.shape[2], "output")
        trials, ins, outs = (f"{k} {word}{'s' * (k != 1)}" for k, word in count)
        return f"Dataset({trials} of {steps} steps, {ins}, {outs})"


def as_dataset(argument: str, given: Any) -> Dataset:
    """Trials as a Dataset, (x, y), (x, y, weight), a table of those, or an object with ``x`` and ``y``."""
    if isinstance(given, Dataset):
        return given
    if isinstance(given, Mapping):
        for key in given:
            if key not in ("x", "y", "weight"):
                raise UnknownNameError(argument, key, ("x", "y", "weight"))
        if "x" in given and "y" in given:
            return Dataset(**given)
    elif isinstance(given, (tuple, list)) and len(given) in (2, 3):
        return Dataset(*given)
    elif hasattr(given, "x") and hasattr(given, "y"):
        names = {"input_names": getattr(given, "inputs", None), "output_names": getattr(given, "outputs", None)}
        return Dataset(given.x, given.y, getattr(given, "weight", None), **names)
    allowed = "a Dataset, (x, y) or (x, y, weight) with x (B, T, inputs), or a task's trials"
    raise UsageError(argument, given=type(given).__name__, allowed=allowed)


def _trials(name: str, given: Any, channels: int) -> list[Array]:
    """One array (T_b, …) a trial, of ``channels`` axes; raises UsageError."""
    if isinstance(given, (list, tuple)) and len(given) and all(axes_of(one) == channels for one in given):
        arrays = [_numbers(f"{name} of trial {b}", one) for b, one in enumerate(given)]
    else:
        try:
            whole_array = np.asanyarray(given.detach().cpu() if hasattr(given, "detach") else given)
        except Exception as error:  # whatever an object raises that is no array
            allowed = f"an array {_shape(channels)}, or one array a trial"
            raise UsageError(
                name,
                given=given if axes_of(given) < 0 and not isinstance(given, list | tuple) else "rows of unequal length",
                allowed=allowed,
            ) from error
        if whole_array.ndim == channels:
            whole_array = whole_array[None]
        if whole_array.ndim != channels + 1:
            raise UsageError(name, given=f"shape {whole_array.shape}", allowed=f"shape {_shape(channels)}")
        arrays = [_numbers(f"{name} of trial {b}", one) for b, one in enumerate(whole_array)]
    if not arrays or any(len(one) == 0 for one in arrays):
        raise UsageError(name, given="no steps" if arrays else "no trials", allowed="a trial with a step at least")
    for b, one in enumerate(arrays):
        if one.shape[1:] != arrays[0].shape[1:]:
            allowed = f"{arrays[0].shape[1]} channels, as trial 0 has"
            raise UsageError(f"{name} of trial {b}", given=f"{one.shape[1]} channels", allowed=allowed)
    return arrays


def _shape(channels: int) -> str:
    return "(B, T, channels) or (T, channels)" if channels == 2 else "(B, T) or (T,)"


def _numbers(name: str, given: Any) -> Array:
    hint = "weight = 0 at times without a target, with any finite number there"
    array = real_array(name, given.detach() if hasattr(given, "detach") else given, hint=hint)
    if not np.isfinite(array).all():
        index = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        place = ", ".join(f"{word} {k}" for word, k in zip(("step", "channel"), index, strict=False))
        raise UsageError(f"{name}, {place}", given=float(array[index]), allowed="finite numbers", hint=hint)
    return array


def _padded(arrays: list[Array]) -> Array:
    made = np.zeros((len(arrays), max(len(one) for one in arrays), *arrays[0].shape[1:]))
    for b, one in enumerate(arrays):
        made[b, : len(one)] = one
    return made


def _unpadded(name: str, array: Array, lengths: Any) -> list[Array]:
    its = np.asarray(lengths)
    whole_numbers = its.dtype.kind in "iu" and its.ndim == 1 and array.ndim >= 2 and len(its) == len(array)
    if not whole_numbers or not ((its >= 1) & (its <= array.shape[1])).all():
        allowed = f"{len(array)} whole numbers from 1 to the steps of {name}"
        raise UsageError("lengths", given=its, allowed=allowed)
    return [one[:T] for one, T in zip(array, its.tolist(), strict=True)]


def _names(argument: str, given: Sequence[str] | None, letter: str, count: int) -> tuple[str, ...]:
    if given is None:
        return tuple(f"{letter}{i}" for i in range(count)) if count > 1 else (letter,) * count
    names = items(argument, given, f"{count} names, one a channel")
    if len(names) != count or not all(isinstance(name, str) for name in names):
        raise UsageError(argument, given=names, allowed=f"{count} names, one a channel")
    return tuple(map(str, names))
