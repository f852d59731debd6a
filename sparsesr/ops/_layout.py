"""Memory layout of op outputs: patches keep the format of the map they come from."""

from __future__ import annotations

import torch
from torch import Tensor


def memory_format_of(x: Tensor) -> torch.memory_format:
    """``channels_last`` when the channels of ``x`` [N,C,H,W] lie side by side, else contiguous.

    Looks at the channel stride, so a slice of a channels_last map is recognised too. A map that is
    contiguous in both senses (one channel, or 1x1 px) counts as contiguous.
    """
    if x.shape[1] > 1 and x.stride(1) == 1 and not x.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format


def empty_like_format(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """An uninitialised tensor of ``shape`` with dtype, device and memory format of ``like``."""
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=memory_format_of(like)
    )


def with_adjacent_channels(x: Tensor) -> Tensor:
    """``x`` [N,C,H,W] with its channels side by side: itself where they are, else a copy."""
    if x.stride(1) == 1 or x.shape[1] == 1:
        return x
    return x.contiguous(memory_format=torch.channels_last)
