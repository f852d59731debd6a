"""Operations as PCSR counts them: two per multiply-add, plus normalisation and PReLU."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_PER_OUTPUT = (nn.Conv2d, nn.ConvTranspose2d)
COUNTED = (*_PER_OUTPUT, nn.Linear, nn.BatchNorm2d, nn.PReLU)
PROBE = 16  # side of the LR image on which PCSR compares its classes


def operations(module: nn.Module, x: Tensor, y: Tensor) -> int:
    """Operations of one call of a layer in ``COUNTED``; transposed convolutions at output size."""
    if isinstance(module, _PER_OUTPUT):
        return 2 * module.weight.numel() * (y.numel() // y.shape[-3])
    if isinstance(module, nn.Linear):
        return 2 * y.numel() * module.in_features
    return 2 * y.numel() if isinstance(module, nn.BatchNorm2d) else y.numel()


def encoder_operations(encoder: nn.Module, side: int = PROBE) -> int:
    """Operations of an encoder on an LR image of side x side, run once on a copy."""
    probe = copy.deepcopy(encoder).eval()
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += operations(module, inputs[0], output)

    for module in probe.modules():
        if isinstance(module, COUNTED):
            module.register_forward_hook(count)
    first = next(encoder.parameters(), torch.empty(0))
    with torch.no_grad():
        probe(torch.zeros(1, 3, side, side, dtype=first.dtype, device=first.device))
    return total


def class_costs(encoder: int, samplers: Sequence[int], scale: tuple[float, float]) -> list[float]:
    """Relative cost of every class, summing to 1 (PCSR, eq. 9 as the released code computes it).

    Args:
        encoder: operations on the probe. samplers: operations a pixel of each. scale: of rows and
            columns.
    """
    pixels = round(PROBE * scale[0]) * round(PROBE * scale[1])
    totals = [encoder + pixels * each for each in samplers]
    return [total / sum(totals) for total in totals]
