"""IMDN: its published size, its block written out, any image."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import sparsesr
from sparsesr.models.imdn import IMDB, IMDN


def test_published_size() -> None:
    net = sparsesr.create_model("imdn", 4)
    assert sum(p.numel() for p in net.parameters()) == 715_176
    # 40.886 G multiply-adds for a 1280x720 image.
    assert sparsesr.complexity(net, (180, 320)).macs == pytest.approx(40.886e9, abs=5e5)


def test_a_block_written_out() -> None:
    torch.manual_seed(0)
    block = IMDB().double()
    x = torch.randn(2, 64, 6, 5, dtype=torch.float64)
    act = lambda y: F.leaky_relu(y, 0.05)  # noqa: E731
    first = act(block.convs[0](x))
    second = act(block.convs[1](first[:, 16:]))
    third = act(block.convs[2](second[:, 16:]))
    parts = [first[:, :16], second[:, :16], third[:, :16], block.last(third[:, 16:])]
    y = torch.cat(parts, 1)
    contrast = y.std((2, 3), correction=0, keepdim=True) + y.mean((2, 3), keepdim=True)
    gate = block.attention.excite(block.attention.squeeze(contrast).relu()).sigmoid()
    torch.testing.assert_close(block(x), x + block.fuse(y * gate))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_any_size(scale: int) -> None:
    net = IMDN(scale, blocks=1)
    for size in ((1, 1), (5, 8)):
        lr = torch.rand(2, 3, *size)
        sr = net(lr)
        assert sr.shape == (2, 3, scale * size[0], scale * size[1])
        torch.testing.assert_close(net(lr[1:]), sr[1:], rtol=1e-5, atol=1e-5)


def test_a_flat_map_has_gradients() -> None:
    net = IMDN(2, blocks=1)
    net(torch.zeros(1, 3, 1, 1)).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)
