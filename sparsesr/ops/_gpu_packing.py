"""What the GPU backends make of weights, and how long they keep it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ._packing import Cache, Packed

_cache = Cache()


def kept(
    op: str,
    tensors: Sequence[Tensor],
    dense: Tensor | None,  # [L, C] bool, any device
    pack: Callable[[], Packed],
) -> Packed:
    """The packed form of ``tensors`` under ``dense``, from the last call where nothing changed.

    Inside a CUDA graph it is packed anew, as a part of the graph: a replay then sees weights that
    have been changed in place, and needs no memory that a later call may give back. Every stream
    has its own, for one does not wait for what another queued.

    Args:
        op: the op that asks, and for what.
        tensors: the weights, on one device.
        dense: what else decides; compared by value on the CPU, by place and version elsewhere.
        pack: queues the packing on the current stream.
    """
    watched: list[Tensor] = list(tensors)
    key: list[object] = [op]
    device = tensors[0].device
    if device.type == "cuda":
        if torch.cuda.is_current_stream_capturing():
            return pack()
        key.append(torch.cuda.current_stream(device).cuda_stream)
    if dense is not None and dense.is_cpu:
        key.append(dense.numpy().tobytes())
    elif dense is not None:
        watched.append(dense)
    return _cache.get(tuple(key), watched, pack)


def on_device(op: str, dense: Tensor, device: torch.device) -> Tensor:
    """``dense`` on the device of the weights; copied from the CPU without waiting.

    Raises:
        RuntimeError: inside a CUDA graph, which cannot hold such a copy.
    """
    if dense.device == device:
        return dense
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"{op}: expected dense on {device} inside a CUDA graph, got {dense.device}; move it "
            "there before the capture"
        )
    return dense.to(device, non_blocking=True)


def with_adjacent_channels(x: Tensor) -> Tensor:
    """``x`` [B,C,H,W] where its channels lie side by side, else a channels_last copy."""
    if x.shape[1] == 1 or x.stride(1) == 1:
        return x
    return x.contiguous(memory_format=torch.channels_last)
