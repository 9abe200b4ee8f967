"""Sequences of unequal length, as torch's recurrent layers take them: padded with their lengths, or packed.

A trial of length L_b has the states of its first L_b inputs; what is behind them is 0, and the last state is that at
its own end. Backwards in time a trial begins at its own last input.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ctrnn.errors import UsageError
from ctrnn.numbers import real_array


class Batch(NamedTuple):
    """x (T, B, channels), the lengths (B,) or None where all are T, and how the result is packed again."""

    x: torch.Tensor
    lengths: torch.Tensor | None
    packed: PackedSequence | None


def unpacked(x: PackedSequence) -> Batch:
    """A packed sequence as a padded batch."""
    padded, lengths = pad_packed_sequence(x)
    return Batch(padded, lengths, x)


def packed_again(states: torch.Tensor, batch: Batch) -> Any:
    """States (T, B, n), packed as the input was."""
    its = batch.packed
    assert its is not None and batch.lengths is not None
    return pack_padded_sequence(states, batch.lengths, enforce_sorted=its.sorted_indices is None)


def checked_lengths(lengths: Any, T: int, B: int) -> torch.Tensor:
    """Whole numbers (B,) from 1 to T; raises UsageError."""
    allowed = f"{B} whole numbers from 1 to {T}, one a trial"
    if not isinstance(lengths, torch.Tensor):
        real_array("lengths", lengths, allowed)  # none of them masked
    found = torch.as_tensor(lengths)
    whole = not found.is_floating_point() and found.dtype != torch.bool and tuple(found.shape) == (B,)
    if not whole or (B and not bool(((found >= 1) & (found <= T)).all())):
        raise UsageError("lengths", given=lengths, allowed=allowed)
    return found.to("cpu", torch.int64)


def turned(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """x (T, B, ·) backwards in time, each trial from its own last input; what is behind it stays where it is."""
    if lengths is None:
        return x.flip(0)
    t = torch.arange(len(x))[:, None]
    back = torch.where(t < lengths, lengths - 1 - t, t)
    return x.gather(0, back[..., None].expand_as(x))


def masked(states: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """States (T, B, n) with 0 behind each trial's end."""
    if lengths is None:
        return states
    return torch.where((torch.arange(len(states))[:, None] < lengths)[..., None], states, 0.0)


def last(states: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """The state at each trial's own end (B, n), in memory of its own."""
    if lengths is None:
        return states[-1].clone()
    return states[lengths - 1, torch.arange(states.shape[1])]
