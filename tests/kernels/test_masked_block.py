"""``masked_block`` in Triton: what the tests of the ops do not reach."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsesr.ops import _gpu_packing, _triton, reference


def _arguments(channels: int, dense: tuple[int, ...], dtype: torch.dtype) -> list:
    """Whole numbers, and about one weight per output: every sum is exact."""
    generator = torch.Generator().manual_seed(0)

    def sparse(*shape: int, share: float) -> Tensor:
        signs = torch.randint(0, 2, shape, generator=generator) * 2 - 1
        return (signs * (torch.rand(shape, generator=generator) < share)).to(dtype)

    layers = len(dense)
    weights = [sparse(channels, channels, 3, 3, share=0.25 / channels) for _ in dense]
    masks = torch.zeros(layers, channels, dtype=torch.bool)
    for row, count in zip(masks, dense, strict=True):
        row[torch.randperm(channels, generator=generator)[:count]] = True
    collect = sparse(66, layers * channels, 1, 1, share=0.1)
    x = torch.randint(-2, 3, (1, channels, 3, 20), generator=generator).to(dtype)
    pixels = torch.zeros(1, 1, 3, 20, dtype=torch.bool)
    pixels[..., 1, 17:] = True  # in the second tile
    return [x, weights, collect, torch.arange(66.0).to(dtype), masks, pixels]


def _to(arguments: list, device: torch.device) -> list:
    return [[w.to(device) for w in a] if isinstance(a, list) else a.to(device) for a in arguments]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_several_blocks_of_channels(device: torch.device, dtype: torch.dtype) -> None:
    arguments = _arguments(72, (70, 3), dtype)
    got = _triton.masked_block(*_to(arguments, device))
    assert torch.equal(got.cpu(), reference.masked_block(*arguments))


def test_packed_weights_are_kept(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """... until a weight or the channel mask changes, in place or by another tensor."""
    arguments = _to(_arguments(3, (1, 2), torch.float32), device)
    kernels, packed = _triton._kernels("masked_block"), []
    pack = kernels.pack
    monkeypatch.setattr(kernels, "pack", lambda *a: packed.append(0) or pack(*a))
    monkeypatch.setattr(_gpu_packing, "_cache", _gpu_packing.Cache())

    def calls() -> int:
        _triton.masked_block(*arguments)
        return len(packed)

    assert [calls(), calls()] == [1, 1]
    arguments[1][1].add_(1)
    assert [calls(), calls()] == [2, 2]
    arguments[4].logical_not_()
    assert [calls(), calls()] == [3, 3]
    arguments[2] = arguments[2].clone()
    assert [calls(), calls()] == [4, 4]
