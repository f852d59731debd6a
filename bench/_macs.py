"""Useful multiply-adds: those of taps that lie on the map.

Taps on zero padding do not count, nor do the zeros that a transposed convolution puts between its
inputs. These are the fewest that any kernel has to do; `sparsesr.complexity` counts padded taps.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from _executor import executor
from torch import Tensor, nn

from sparsesr.ops import Program
from sparsesr.ops._program import Shape, Step, value_shapes


def conv_hits(size: int, kernel: int, stride: int = 1, pad: int = 0) -> int:
    """Pairs of an output and a tap that reads one of `size` pixels, along one side.

    Example:
        >>> conv_hits(6, 3, pad=1), conv_hits(6, 3)
        (16, 12)
    """
    outputs = (size + 2 * pad - kernel) // stride + 1
    firsts = (o * stride - pad for o in range(outputs))
    return sum(min(first + kernel, size) - max(first, 0) for first in firsts)


def deconv_hits(size: int, kernel: int, stride: int, pad: int) -> int:
    """Pairs of an input and a tap that writes one of `stride` * `size` pixels, along one side.

    Example:
        >>> deconv_hits(1, 9, 4, 4)
        4
    """
    firsts = (i * stride - pad for i in range(size))
    return sum(min(first + kernel, stride * size) - max(first, 0) for first in firsts)


def program_macs(program: Program, weights: Sequence[Tensor], shape: Shape) -> int:
    """Useful multiply-adds of a program for one map, or one patch, of `shape`."""
    sizes = [tuple(w.shape) for w in weights]
    shapes = value_shapes(program, sizes, shape)
    return sum(_step_macs(step, sizes, shapes[step.inputs[0]]) for step in program.steps)


def _step_macs(step: Step, sizes: Sequence[Sequence[int]], shape: Shape) -> int:
    if step.kind not in ("conv", "deconv"):
        return 0
    first, second, kernel, _ = sizes[step["weight"]]
    hits = conv_hits if step.kind == "conv" else deconv_hits
    return (
        first * second * math.prod(hits(n, kernel, step["stride"], step["pad"]) for n in shape[1:])
    )


def call_macs(net: nn.Module, x: Tensor, **arguments: Any) -> int:
    """Useful multiply-adds of the convolution modules that `net(x, **arguments)` goes through.

    Nothing is computed: a copy without data is called on the meta device.
    """
    found: list[int] = []
    counted = copy.deepcopy(net).to("meta")
    with executor("off"), _watched(counted, found):
        counted(x.to("meta"), **arguments)
    return sum(found)


@contextmanager
def _watched(net: nn.Module, found: list[int]) -> Iterator[None]:
    def watch(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        x = inputs[0][0] if isinstance(inputs[0], list) else inputs[0]
        found.append(x.shape[0] * _module_macs(module, x.shape[2:]))

    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    hooks = [m.register_forward_hook(watch) for m in net.modules() if isinstance(m, kinds)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _module_macs(module: Any, size: Sequence[int]) -> int:
    hits = conv_hits if isinstance(module, nn.Conv2d) else deconv_hits
    sides = zip(size, module.kernel_size, module.stride, module.padding, strict=True)
    return module.weight[:, :, 0, 0].numel() * math.prod(hits(*side) for side in sides)
