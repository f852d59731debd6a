"""Tiles give what the whole image gives."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import sparsesr
from sparsesr.inference import Upscaler
from sparsesr.inference.tiling import Tile, halo_of, reach_of, tiles_of
from sparsesr.nn import SparseRefine

SIDES = (16, 20, 32)
DENSE = ("fsrcnn-dnet-x2", "srresnet-base-x2", "fsrcnn-x3", "fsrcnn-allnet-x3")


def image(height: int = 41, width: int = 53, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.rand(batch, 3, height, width, generator=generator)


def network(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    net = sparsesr.create_model(name, **options).eval()
    if isinstance(getattr(net, "mask", None), nn.Module):
        nn.init.normal_(net.mask.filters.weight, std=0.1)  # not as it starts, the identity
        nn.init.normal_(net.mask.conv2.weight, std=0.5)
    return net


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (16, 33), (41, 53), (7, 100)])
@pytest.mark.parametrize(("side", "halo", "align"), [(16, 0, 1), (20, 11, 4), (17, 5, 2)])
def test_tiles_cover_every_pixel_once(
    size: tuple[int, int], side: int, halo: int, align: int
) -> None:
    count = torch.zeros(size, dtype=torch.int64)
    for tile in tiles_of(size, side, halo, align):
        tile.place(count).add_(1)
        seen = torch.zeros_like(count)
        tile.cut(seen).fill_(1)
        assert bool(tile.place(seen).all())
        for own, window, length in (
            (tile.rows, tile.window_rows, size[0]),
            (tile.cols, tile.window_cols, size[1]),
        ):
            assert window.start % align == 0
            assert window.start <= max(own.start - halo, 0)
            assert window.end >= min(own.end + halo, length)
            assert window.end % align == 0 or window.end == length
    assert bool((count == 1).all())


def test_trimming() -> None:
    x = torch.arange(20.0).view(1, 1, 4, 5)
    whole = torch.zeros_like(x)
    for tile in tiles_of((4, 5), 2, 1):
        assert isinstance(tile, Tile)
        tile.place(whole).copy_(tile.trim(tile.cut(x)))
    assert torch.equal(whole, x)


@pytest.mark.parametrize("name", ["fsrcnn-pcsr", "carn-pcsr", "msrresnet-pcsr"])
def test_the_reach_of_pixel_routers(name: str) -> None:
    """The gradient of a row ends where the receptive field does, and is no narrower than stated."""
    net = network(f"{name}-x2").double()
    net.training = True  # of itself alone: every pixel through every sampler, no batch statistics
    reach = reach_of(net)
    assert reach is not None
    lr = torch.rand(1, 3, 2 * reach + 9, 3, dtype=torch.float64, requires_grad=True)
    row = reach + 4
    (grad,) = torch.autograd.grad(net(lr)[..., 2 * row : 2 * row + 2, :].square().sum(), lr)
    rows = grad.abs().sum((0, 1, 3)).nonzero().flatten()
    # One pixel more for the averaging beside heavy pixels, which training leaves out.
    assert max(row - int(rows[0]), int(rows[-1]) - row) == reach - 1


@pytest.mark.parametrize("patch_size", [2, 4])
def test_the_reach_of_a_score(patch_size: int) -> None:
    mask: Any = network("fsrcnn-mga-x2", patch_size=patch_size).mask.double()
    cells = 2 * (mask.reach // patch_size + 2) + 1
    feature = torch.rand(1, mask.conv1.in_channels, cells * patch_size, 6, dtype=torch.float64)
    feature.requires_grad_()
    row = cells // 2
    (grad,) = torch.autograd.grad(mask(feature)[..., row, :].square().sum(), feature)
    rows = grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows[0]) == row * patch_size - mask.reach
    assert int(rows[-1]) == (row + 1) * patch_size - 1 + mask.reach


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["fsrcnn-mga-x4", "pan-mga-x4"])
def test_the_largest_patches_of_the_whole_image(name: str, side: int) -> None:
    options = {"base_blocks": 3} if name.startswith("pan") else {}
    net, lr = network(name, **options), image()
    tiled = Upscaler(net, tile=side)
    want = Upscaler(net, tile=0).run(lr, budget=0.3, return_details=True)
    out = tiled.run(lr, budget=0.3, return_details=True)
    close(out.mask, want.mask)
    close(out.coarse, want.coarse)
    scores, kth = want.mask.flatten(), want.mask.flatten()[want.index[0].long()].min()
    differ = set(out.index[0].tolist()) ^ set(want.index[0].tolist())
    assert all(abs(float(scores[i] - kth)) < 1e-5 for i in differ)
    assert not differ, "scores as close as that are not in this image"
    close(out.sr, want.sr)
    close(tiled.run(lr, budget=0.3), want.sr)


def test_pan_as_published() -> None:
    net, lr = network("pan-mga-x4"), image(40, 76)
    close(Upscaler(net, tile=16).run(lr, k=40), Upscaler(net, tile=0).run(lr, k=40))


@pytest.mark.parametrize(("k", "side"), [(0, 16), (1, 20), (10**6, 16), (37, 64)])
@pytest.mark.parametrize("patch_size", [3, 4])
def test_no_patch_one_patch_all_patches(k: int, side: int, patch_size: int) -> None:
    net, lr = network("fsrcnn-mga-x2", patch_size=patch_size), image(37, 42, batch=2)
    out = Upscaler(net, tile=side).run(lr, k=k, return_details=True)
    want = Upscaler(net, tile=0).run(lr, k=k, return_details=True)
    assert torch.equal(out.index, want.index)
    close(out.sr, want.sr)
    close(Upscaler(net, tile=side, k=k)(lr), want.sr)


def test_features_are_kept_or_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    net, lr = network("fsrcnn-mga-x4"), image()
    want = Upscaler(net, tile=0).run(lr, k=50)
    for most in (0, 100_000, 10**9):
        monkeypatch.setattr("sparsesr.inference.tiled.KEPT_FEATURES", most)
        close(Upscaler(net, tile=16).run(lr, k=50), want)


def test_parts_of_ones_own() -> None:
    """Without stages, receptive field and mask reach: a warning, and the same patches."""

    class Base(nn.Module):
        def forward(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return lr.repeat_interleave(2, 2).repeat_interleave(2, 3), lr

    class Refine(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inside = x[..., 1:-1, 1:-1]
            return 1 + inside.repeat_interleave(2, 2).repeat_interleave(2, 3)

    mask = nn.Sequential(nn.AvgPool2d(4, ceil_mode=True), nn.Conv2d(3, 1, 1))
    net, lr = SparseRefine(Base(), Refine(), mask, scale=2, k=30), image()
    with pytest.warns(UserWarning, match=r"SparseRefine uses statistics of the whole image"):
        sr = Upscaler(net, tile=16).run(lr)
    close(sr, Upscaler(net, tile=0).run(lr))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    "options",
    [{"adaptive": True}, {"budget": 0.3}, {"k": 0.0}, {"k": -50.0, "refine": False}],
    ids=["adaptive", "budget", "k", "unrefined"],
)
def test_pixels_are_routed_as_in_the_whole_image(side: int, options: dict[str, Any]) -> None:
    net, lr = network("carn-pcsr-x4"), image(40, 52)
    want = Upscaler(net, tile=0).run(lr, return_details=True, **options)
    out = Upscaler(net, tile=side).run(lr, return_details=True, **options)
    close(out.logits, want.logits)
    # Classes may differ where the two are as likely; such pixels and those beside them are few.
    differ = (out.class_map != want.class_map).float()[:, None]
    assert float(differ.mean()) < 1e-3
    beside = nn.functional.max_pool2d(differ, 3, 1, 1)
    close(out.sr * (1 - beside), want.sr * (1 - beside))
    assert out.refined == want.refined
    sr = Upscaler(net, tile=side).run(lr, **options)
    torch.testing.assert_close(sr, out.sr, atol=0, rtol=0)


@pytest.mark.parametrize(
    "size", [{"scale": 1}, {"scale": 1.5}, {"scale": 2.7}, {"scale": 3}, {"size": (90, 61)}]
)
def test_any_scale(size: dict[str, Any]) -> None:
    net, lr = network("fsrcnn-pcsr-x2"), image(41, 37)
    for choice in ({"k": 50.0}, {"k": -50.0}):  # of one class, so that no tie decides
        want = Upscaler(net, tile=0).run(lr, **size, **choice)
        close(Upscaler(net, tile=16).run(lr, **size, **choice), want)


@pytest.mark.parametrize("name", DENSE)
def test_dense_networks(name: str) -> None:
    options = {"base_blocks": 2} if name.startswith("srresnet") else {}
    net, lr = network(name, **options), image(batch=2)
    close(Upscaler(net, tile=20)(lr), Upscaler(net, tile=0)(lr))


def test_details_of_dense_networks() -> None:
    net, lr = network("fsrcnn-dnet-x2"), image()
    out, want = (Upscaler(net, tile=t).run(lr, return_details=True) for t in (16, 0))
    close(out.sr, want.sr)
    close(out.coarse, want.coarse)
    assert out.mask is None


def test_masks_are_put_together() -> None:
    net, lr = network("imdn-smsr-x2"), image(20, 40)
    with pytest.warns(UserWarning, match="imdn-smsr.* uses statistics of the whole image"):
        out = Upscaler(net, tile=32).run(lr, return_details=True)
    assert all(mask.spatial.shape == (1, 1, 20, 40) for mask in out.masks)
    assert out.sparsity().shape == (1,)


def test_image_wide_statistics_are_measured() -> None:
    net, lr = network("bsrn-x2", blocks=1), image()
    assert reach_of(net) is None
    assert halo_of(net) == 16
    text = r"up to [\d.e-]+, [\d.e-]+ on average, .* tiles of 16 on the middle 32x32 pixels"
    up = Upscaler(net, tile=16)
    with pytest.warns(UserWarning, match=text):
        sr = up.run(lr)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        up.run(lr)
    torch.testing.assert_close(sr, Upscaler(net, tile=0).run(lr), atol=0.05, rtol=0)


def test_results_that_differ_between_tiles_are_refused() -> None:
    net, lr = network("drsan-32s-x2"), image(20, 40)
    with (
        pytest.warns(UserWarning, match="whole image"),
        pytest.raises(ValueError, match="differs from tile to tile; leave out return_details"),
    ):
        Upscaler(net, tile=16).run(lr, return_details=True)


def test_progress() -> None:
    net, calls = network("fsrcnn-mga-x2"), []
    up = Upscaler(net, tile=32, progress=lambda done, total: calls.append((done, total)))
    up.run(image(40, 52))
    assert calls == [(i, 8) for i in range(1, 9)]  # four tiles, twice
    calls.clear()
    up.run(image(40, 52, batch=2), k=0)
    assert calls == [(i, 8) for i in range(1, 9)]
    calls.clear()
    up.tta = True
    up.run(image(20, 20))
    assert calls == [(i, 8) for i in range(1, 9)]
