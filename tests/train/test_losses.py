"""The mask target against written-out loops."""

from __future__ import annotations

import pytest
import torch

import sparsesr
from sparsesr.train import mask_target
from sparsesr.train.losses import mask_sample, min_max


def written_out(refined: torch.Tensor, coarse: torch.Tensor, cell: int) -> torch.Tensor:
    """The target, element by element, in float64."""
    batch, _, height, width = refined.shape
    luma = (65.481, 128.553, 24.966)
    d = torch.zeros(batch, height, width, dtype=torch.float64)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                difference = sum(
                    luma[c] * (float(refined[b, c, y, x]) - float(coarse[b, c, y, x])) / 255
                    for c in range(3)
                )
                d[b, y, x] = abs(difference)
    d = (d - d.min()) / (d.max() - d.min())
    t = torch.zeros(batch, 1, height // cell, width // cell, dtype=torch.float64)
    for b in range(batch):
        for i in range(height // cell):
            for j in range(width // cell):
                block = d[b, i * cell : (i + 1) * cell, j * cell : (j + 1) * cell]
                t[b, 0, i, j] = block.sum() / cell**2
    return (t - t.min()) / (t.max() - t.min())


def test_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    refined = torch.rand(2, 3, 16, 24, generator=generator)
    coarse = torch.rand(2, 3, 16, 24, generator=generator)
    target = mask_target(refined, coarse, 8)
    assert target.shape == (2, 1, 2, 3)
    assert target.min() == 0
    assert target.max() == 1
    expected = written_out(refined, coarse, 8)
    torch.testing.assert_close(target.double(), expected, atol=2e-5, rtol=0)


def test_constant_difference_gives_zeros() -> None:
    refined = torch.full((2, 3, 8, 8), 0.5)
    assert torch.equal(mask_target(refined, refined, 4), torch.zeros(2, 1, 2, 2))
    assert torch.equal(min_max(torch.full((3,), 7.0)), torch.zeros(3))


def test_sides_must_fit() -> None:
    image = torch.rand(1, 3, 10, 8)
    with pytest.raises(ValueError, match=r"expected sides divisible by 4 .* got 10x8"):
        mask_target(image, image, 4)


def test_sample_refines_every_patch() -> None:
    torch.manual_seed(0)
    net = sparsesr.create_model("fsrcnn-mga", scale=2).eval()
    lr = torch.rand(2, 3, 12, 8)
    with torch.no_grad():
        feature, target = mask_sample(net, lr)
        out = net(lr, k=6, return_details=True)
    assert out.index.shape == (2, 6)
    torch.testing.assert_close(target, mask_target(out.sr, out.coarse, 8))
    assert net.score(feature).shape == target.shape
