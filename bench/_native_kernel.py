"""The native kernels without the op around them: outputs allocated, arguments prepared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import sparsesr
from sparsesr.ops import _native


@dataclass(frozen=True)
class NativeKernel:
    """One prepared call: calling it runs the kernel, `run` also returns what it wrote."""

    call: Callable[[], object]
    out: Tensor

    def __call__(self) -> None:
        self.call()

    def run(self) -> Tensor:
        """Run once and return the output."""
        self.call()
        return self.out


def native_kernel(op: str, out: Tensor, *args: Any) -> NativeKernel | None:
    """The bare CPU kernel of an op that writes `out`; None on a GPU, or where it is not built.

    Args:
        op: name in the compiled module.
        out: the output the caller wants to see.
        args: the kernel's arguments in its own order, outputs among them, without the threads.
    """
    if not out.is_cpu or not {b.name: b.available for b in sparsesr.backends()}["cpu"]:
        return None
    function = getattr(_native._loaded().cpu, op)
    views = [_native._view(op, "argument", a) if isinstance(a, Tensor) else a for a in args]
    threads = torch.get_num_threads()

    def call(keep: tuple[Any, ...] = args) -> None:  # the views hold addresses: keep the tensors
        function(*views, threads)

    return NativeKernel(call, out)
