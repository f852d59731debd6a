"""The light coarse head in one step against its two: convolution, bilinear image, their sum."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import sparsesr
from sparsesr import engine
from sparsesr.engine import Covered
from sparsesr.models.blocks.light_head import bilinear_taps, over_bilinear
from sparsesr.models.blocks.upsamplers import PixelShuffleUpsampler

NATIVE = any(state.name == "cpu" and state.available for state in sparsesr.backends())
needs_native = pytest.mark.skipif(not NATIVE, reason="needs the C++ backend")


def plain(upsampler: Any, lr: torch.Tensor, feature: torch.Tensor, scale: int) -> torch.Tensor:
    bilinear = F.interpolate(lr, scale_factor=float(scale), mode="bilinear", align_corners=False)
    return upsampler(feature) + bilinear


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_taps_enlarge_bilinearly(scale: int) -> None:
    lr = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    taps = bilinear_taps(scale).double()
    padded = F.pad(lr, (1, 1, 1, 1), mode="replicate")
    got = F.pixel_shuffle(F.conv2d(padded, taps, groups=3), scale)
    want = F.interpolate(lr, scale_factor=float(scale), mode="bilinear", align_corners=False)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


@needs_native
@torch.no_grad()
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 1), (2, 5), (3, 4), (19, 33)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_one_step_is_two(scale: int, size: tuple[int, int], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    upsampler = PixelShuffleUpsampler(12, scale).eval()
    lr = torch.rand(2, 3, *size).contiguous(memory_format=layout)
    feature = torch.randn(2, 12, *size).contiguous(memory_format=layout)
    got = over_bilinear(upsampler, lr, feature)
    assert got is not None
    torch.testing.assert_close(got, plain(upsampler, lr, feature, scale), rtol=0, atol=1e-5)


@needs_native
@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    upsampler = PixelShuffleUpsampler(12, 4).eval()
    lr, feature = torch.rand(1, 3, 9, 11), torch.randn(1, 12, 9, 11)
    want = plain(upsampler, lr, feature, 4)
    half = copy.deepcopy(upsampler).to(dtype)
    two = plain(half, lr.to(dtype), feature.to(dtype), 4).float()
    got = over_bilinear(half, lr.to(dtype), feature.to(dtype))
    assert got is not None
    assert got.dtype == dtype
    assert (got.float() - want).abs().max() <= 2 * (two - want).abs().max()


@needs_native
@torch.no_grad()
def test_covered_patches_alone_are_left_open() -> None:
    torch.manual_seed(0)
    upsampler = PixelShuffleUpsampler(12, 4).eval()
    lr, feature = torch.rand(1, 3, 16, 24), torch.randn(1, 12, 16, 24)
    index = torch.tensor([[0, 7, 8, 9, 23]], dtype=torch.int32)
    got = over_bilinear(upsampler, lr, feature, Covered(index, 4))
    assert got is not None
    want = plain(upsampler, lr, feature, 4)
    kept = torch.ones(4 * 6, dtype=torch.bool)
    kept[index.long()] = False
    kept = kept.view(1, 1, 4, 6).repeat_interleave(16, 2).repeat_interleave(16, 3).expand_as(want)
    torch.testing.assert_close(got[kept], want[kept], rtol=0, atol=1e-5)


@needs_native
@torch.no_grad()
def test_a_network_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole networks, weights that change in place or are replaced, and no trace in the state."""
    torch.manual_seed(0)
    net: Any = sparsesr.create_model("fsrcnn-mga-light", 4).eval()
    keys, lr = set(net.state_dict()), torch.rand(1, 3, 21, 30)
    for _ in range(2):
        got = [net(lr, k=k) for k in (0, 9)]
        with sparsesr.use_backend("reference"):
            want = [net(lr, k=k) for k in (0, 9)]
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
        net.base.upsampler[0].weight.mul_(1.5)
    assert set(net.state_dict()) == keys
    net.base.upsampler[0] = torch.nn.Conv2d(12, 48, 3, padding=1)
    with sparsesr.use_backend("reference"):
        want = net(lr, k=0)
    torch.testing.assert_close(net(lr, k=0), want, rtol=0, atol=1e-5)
    assert engine.why_not_run(net.base.upsampler, torch.rand(1, 12, 8, 8)) is None
    net.base.upsampler[0] = torch.nn.Conv2d(12, 48, 3, padding=1, bias=False)
    assert over_bilinear(net.base.upsampler, lr, torch.rand(1, 12, 21, 30)) is None


@needs_native
def test_tiles_give_the_whole_image() -> None:
    """The frame of a tile that is no frame of the image is cut off."""
    torch.manual_seed(0)
    net, image = sparsesr.create_model("fsrcnn-mga-light", 4).eval(), torch.rand(1, 3, 50, 43)
    whole, tiled = (sparsesr.Upscaler(net, tile=tile, budget=0.3)(image) for tile in (0, 24))
    torch.testing.assert_close(whole, tiled, rtol=0, atol=1e-5)


def test_where_it_is_not_for() -> None:
    upsampler = PixelShuffleUpsampler(12, 4)
    lr, feature = torch.rand(1, 3, 6, 7), torch.rand(1, 12, 6, 7)
    assert over_bilinear(upsampler, lr, feature) is None  # the weights want a gradient
    with torch.no_grad():
        assert over_bilinear(upsampler, lr.double(), feature) is None
        assert over_bilinear(torch.nn.Sequential(*upsampler), lr, feature) is None
        with sparsesr.use_backend("reference"):
            assert over_bilinear(upsampler, lr, feature) is None
        handle = upsampler.register_forward_hook(lambda *_: None)
        assert over_bilinear(upsampler, lr, feature) is None
        handle.remove()
