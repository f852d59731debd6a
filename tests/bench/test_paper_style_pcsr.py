"""The released way of PCSR and ours compute the same image, at integer scales and between."""

from __future__ import annotations

import paper_style_pcsr
import pytest
import torch

from sparsesr import create_model
from sparsesr.nn import PixelRouter


def _net(name: str) -> PixelRouter:
    torch.manual_seed(0)
    net = create_model(name).eval()
    assert isinstance(net, PixelRouter)
    # A fresh classifier says nearly the same of every pixel; let it call half of them heavy.
    with torch.no_grad():
        last = net.classifier.linears[-1]
        last.weight.mul_(20)
        logits = net(torch.rand(1, 3, 7, 9), return_details=True).logits
        last.bias[1] -= (logits[:, 1] - logits[:, 0]).median()
    return net


@pytest.mark.parametrize("name", ["fsrcnn-pcsr-x4", "carn-pcsr-x4"])
@pytest.mark.parametrize("size", [(28, 36), (14, 18), (21, 27), (19, 24), (11, 13)])
@torch.no_grad()
def test_the_whole_forward(name: str, size: tuple[int, int]) -> None:
    """x4, x2, x3, x2.7 and x1.5; at x1.5 places fall on the border between two LR pixels."""
    net, lr = _net(name), torch.rand(1, 3, 7, 9)
    for refine in (True, False):
        out = net(lr, size=size, k=0.1, refine=refine, return_details=True)
        assert 0.1 < float(out.heavy_fraction()) < 0.9
        got = paper_style_pcsr.forward(net, lr, size, 0.1, refine)
        # Other orders of the same sums, in float32.
        torch.testing.assert_close(got, out.sr, rtol=0, atol=2e-5)


def test_ties_between_two_pixels_are_broken_as_grid_sample_does() -> None:
    """1.5 and 2.5 put every third and fifth centre halfway; float32 rounding decides."""
    from sparsesr.nn.pixel_places import pixel_places

    for scale in (1.5, 2.5, 3.5, 2.7):
        for length in range(3, 60):
            size = round(length * scale)
            places = pixel_places((length, 1), (size, 1), torch.device("cpu"))
            coordinates = paper_style_pcsr.coordinates(size, 1)
            rows = torch.arange(length).float().view(1, 1, length, 1)
            grid = coordinates.flip(-1).view(1, 1, -1, 2)
            near = torch.nn.functional.grid_sample(rows, grid, mode="nearest", align_corners=False)
            assert torch.equal(places.rows.source.round().clamp(0, length - 1), near.flatten())
