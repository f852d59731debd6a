"""The plain-PyTorch baselines compute what our ops compute."""

from __future__ import annotations

import paper_style
import paper_style_smsr
import pytest
import torch
from _networks import with_upsampler

from sparsesr import create_model, ops, use_backend


@pytest.mark.parametrize("size", [(8, 12), (9, 14), (4, 4)])
@pytest.mark.parametrize("batch", [1, 2])
def test_each_step(size: tuple[int, int], batch: int) -> None:
    """Select, gather, scatter; maps that p does not divide too."""
    torch.manual_seed(0)
    x, p = torch.randn(batch, 3, *size), 4
    rows, cols = ops.patch_grid(*size, p)
    k = max(1, rows * cols // 2)
    with use_backend("reference"):
        mask = torch.randn(batch, rows, cols)
        index = ops.select_patches(mask, k)
        where = paper_style.select_patches(mask, k)
        offset = torch.arange(batch)[:, None] * rows * cols
        assert torch.equal(where, (index + offset).flatten())
        gathered = paper_style.gather_patches(x, where, p, 1)
        assert torch.equal(gathered, ops.gather_patches(x, index, p, 1))
        patches = torch.randn(batch * k, 3, p, p)
        before = x.clone()
        pasted = paper_style.scatter_patches(x, patches, where, p)
        assert torch.equal(pasted, ops.scatter_patches(x, patches, index, p))
        assert torch.equal(x, before)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("upsampler", ["deconv", "sub-pixel"])
@torch.no_grad()
def test_a_whole_network(scale: int, upsampler: str) -> None:
    """The network of the bench, and its upsamplers rewritten."""
    torch.manual_seed(0)
    net = create_model("fsrcnn-mga", scale=scale).eval()
    lr = torch.rand(1, 3, 17, 22)
    with use_backend("reference"):
        want = net(lr, k=9)
    got = paper_style.forward(with_upsampler(net, upsampler), lr, 9)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("counts", [(6, 2, 0), (0, 0, 0), (8, 8, 8), (8, 0, 3)])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_masked_block(counts: tuple[int, ...], share: float) -> None:
    torch.manual_seed(0)
    x, mask = torch.randn(1, 8, 7, 9), torch.rand(1, 1, 7, 9) < share
    weights = [torch.randn(8, 8, 3, 3) / 8 for _ in counts]
    collect, bias = torch.randn(5, 8 * len(counts), 1, 1), torch.randn(5)
    dense = torch.zeros(len(counts), 8, dtype=torch.bool)
    for row, count in zip(dense, counts, strict=True):
        row[torch.randperm(8)[:count]] = True
    arguments = (x, weights, collect, bias, dense, mask)
    want = ops.reference.masked_block(*arguments)
    torch.testing.assert_close(paper_style_smsr.block(*arguments), want, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_a_masked_network() -> None:
    torch.manual_seed(0)
    net, lr = create_model("smsr", scale=2).eval(), torch.rand(1, 3, 11, 14)
    with use_backend("reference"):
        want = net(lr)
    torch.testing.assert_close(paper_style_smsr.forward(net, lr), want, atol=1e-5, rtol=1e-5)
