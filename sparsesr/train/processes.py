"""The processes of one training, as `torchrun` starts them: who is which, and sums over all."""

from __future__ import annotations

import atexit
import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

# Others wait while one process makes caches or validates.
_PATIENCE = datetime.timedelta(hours=4)


def rank() -> int:
    """Number of this process, 0 where it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Number of processes, 1 where this one is alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


def uses_gpu(device: str) -> bool:
    """Whether a recipe's `device` ("cpu", "cuda" or "auto") means a GPU on this machine."""
    return device != "cpu" and torch.cuda.is_available()


def join(device: str) -> None:
    """Make the processes that `torchrun` started known to each other, until they exit.

    Args:
        device: of the recipe; GPUs talk through NCCL, CPUs through gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    gpu = uses_gpu(device)
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if gpu else "gloo", timeout=_PATIENCE)
    atexit.register(dist.destroy_process_group)


def wait() -> None:
    """Return when every process has come here."""
    if count() > 1:
        dist.barrier()


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process runs the block, then all others do: what it makes, they find."""
    if rank() > 0:
        dist.barrier()
    yield
    if rank() == 0:
        wait()


def mean(x: torch.Tensor) -> torch.Tensor:
    """Mean of `x` over the processes. Its gradient is that of the own `x`.

    Gradients are averaged over the processes after the backward pass; with this one they are those
    of the mean.
    """
    if count() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return x + (total / count() - x.detach())


def extremes(low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The lowest `low` and the highest `high` of all processes, without gradients."""
    if count() == 1:
        return low, high
    both = torch.stack([low.detach(), -high.detach()])
    dist.all_reduce(both, dist.ReduceOp.MIN)
    return both[0], -both[1]


def gathered(value: Any) -> list[Any]:
    """`value` of every process, in their order; empty but on the first one."""
    if count() == 1:
        return [value]
    found = [None] * count() if rank() == 0 else None
    dist.gather_object(value, found)
    return found or []
