"""``masked_conv2d`` in Triton: what the tests of the ops do not reach."""

from __future__ import annotations

import pytest
import torch

from sparsesr.ops import _triton, reference


@pytest.mark.parametrize("outputs", [3, 70])
@pytest.mark.parametrize("inputs", [17, 72])
def test_several_blocks_of_channels(device: torch.device, inputs: int, outputs: int) -> None:
    """Whole numbers: float32 sums of them are exact."""
    x = torch.randint(-4, 5, (1, inputs, 2, 18)).float()
    weight = torch.randint(-2, 3, (outputs, inputs, 1, 1)).float()
    bias, mask = torch.arange(float(outputs)), torch.rand(1, 1, 2, 18) > 0.5
    mask[..., 16:] = False  # the second tile
    got = _triton.masked_conv2d(*(t.to(device) for t in (x, weight, bias, mask)))
    assert torch.equal(got.cpu(), reference.masked_conv2d(x, weight, bias, mask))


def test_bfloat16_is_summed_in_float32(device: torch.device) -> None:
    """256 and sixteen ones: bfloat16 sums would stay at 256."""
    x = torch.ones(1, 17, 1, 1, dtype=torch.bfloat16)
    x[:, 0] = 256
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    weight = torch.ones(1, 17, 1, 1, dtype=torch.bfloat16)
    got = _triton.masked_conv2d(x.to(device), weight.to(device), None, mask.to(device))
    assert got.item() == 272
