"""How much memory there is, how much a network needs, and whether an error says it was short."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CAREFUL = 20_000  # bytes per LR pixel; more than any network here needs in float32
CPU_BOUND = 3 * 2**30  # bytes for a network whose tiles cost it nothing, however much there is
_PROBE = 32  # LR pixels, side of the image that the network is measured with
_WORKSPACE = 1.5  # what kernels allocate by themselves is not seen
_SHORT = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short: MemoryError, or what torch raises on a device or the CPU."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _SHORT)


def available_memory(device: torch.device) -> int:
    """Bytes that may be allocated: free on the GPU, or of the machine and within its limits."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    return max(min(_cpu_limits(), default=CPU_BOUND), 0)


def _cpu_limits() -> Iterator[int]:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
    allowed, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if allowed and used and allowed[0].isdigit():
        yield int(allowed[0]) - int(used[0])
    space, pages = resource.getrlimit(resource.RLIMIT_AS)[0], _lines("/proc/self/statm")
    if space != resource.RLIM_INFINITY and pages:
        yield space - int(pages[0].split()[0]) * resource.getpagesize()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def bytes_per_pixel(net: nn.Module, lr: Tensor, options: dict[str, Any]) -> float:
    """Bytes that a network holds at its peak for one LR pixel, measured on a small image.

    Args:
        lr: [B,3,H,W], of which dtype, device and memory format are taken. options: of the call.
    """
    values = torch.arange(3 * _PROBE**2, device=lr.device).mul(0.618).frac()
    small = values.view(1, 3, _PROBE, _PROBE).to(lr.dtype)
    if lr.is_contiguous(memory_format=torch.channels_last):
        small = small.contiguous(memory_format=torch.channels_last)
    net(small, **options)  # caches are filled
    with _Live(net) as live:
        net(small, **options)
    return _WORKSPACE * live.peak / _PROBE**2


class _Live(TorchDispatchMode):
    """Adds up the storages that ops have made and somebody still holds."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        kept = [*net.parameters(), *net.buffers()]
        self._ignored = {tensor.untyped_storage()._cdata for tensor in kept}
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler to guard this class, which takes seconds

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # the signature is torch's
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                if storage._cdata not in self._ignored:
                    self._held[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._held.values()))
        return result
