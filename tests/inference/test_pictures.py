"""Pictures upscaled: no fringe at transparent parts, 16 bits kept, every PIL mode in kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import sparsesr
from sparsesr.inference import Upscaler, upscale_picture
from sparsesr.inference.pictures import bleed, lr_tensor, with_result
from sparsesr.io import Metadata, Picture
from sparsesr.metrics import imresize


@pytest.fixture(scope="module")
def up() -> Upscaler:
    return Upscaler(sparsesr.from_pretrained("fsrcnn-mga-x2"), k=20)


def disc(soft: bool, top: int = 255) -> np.ndarray:
    """[40, 40]: 0 outside, ``top`` inside a disc, between them at a soft edge."""
    y, x = np.mgrid[:40, :40] - 19.3
    distance = 12.6 - np.hypot(y, x)
    share = np.clip(distance + 0.5, 0, 1) if soft else distance > 0
    return (share * top).astype(np.uint8 if top == 255 else np.uint16)


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("kind", ["RGBA", "LA", "PA"])
@pytest.mark.parametrize("top", [255, 65535])
def test_white_on_transparent_black_stays_white(
    up: Upscaler, soft: bool, kind: str, top: int
) -> None:
    alpha = disc(soft, top)
    colour = np.where(alpha > 0, top, 0).astype(alpha.dtype)
    if kind != "LA":
        colour = np.repeat(colour[..., None], 3, axis=2)
    result = upscale_picture(up, Picture(colour, alpha, kind))
    assert result.alpha is not None
    assert (result.kind, result.alpha.shape, result.depth) == (kind, (80, 80), alpha.itemsize * 8)
    assert result.colour[result.alpha > 0].min() >= top - 2 * top / 255
    # What was far from any edge is exactly transparent or opaque.
    assert (result.alpha[:8] == 0).all()
    assert (result.alpha[34:44, 34:44] == top).all()


def test_the_network_is_better_at_soft_edges(up: Upscaler) -> None:
    y, x = np.mgrid[:320, :320] - 160.3
    fine = (np.hypot(y, x) < 101).astype(np.float64)

    def averaged(size: int) -> np.ndarray:
        return fine.reshape(320 // size, size, 320 // size, size).mean(axis=(1, 3))

    lr, hr = (255 * averaged(8)).round().astype(np.uint8), averaged(4)
    result = upscale_picture(up, Picture(np.zeros((40, 40), np.uint8), lr, "LA"))
    assert result.alpha is not None
    bicubic = np.clip(imresize(lr / 255, 2), 0, 1)
    errors = [np.mean((values - hr) ** 2) for values in (result.alpha / 255, bicubic)]
    assert 10 * np.log10(errors[1] / errors[0]) > 3  # dB


def test_alpha_of_two_levels_is_bicubic(up: Upscaler) -> None:
    alpha = disc(soft=False)
    result = upscale_picture(up, Picture(alpha, alpha, "LA"))
    np.testing.assert_array_equal(result.alpha, imresize(alpha, 2))


def test_even_alpha_stays_even(up: Upscaler) -> None:
    alpha = np.full((9, 8), 77, np.uint8)
    result = upscale_picture(up, Picture(alpha, alpha, "LA"))
    assert result.alpha is not None
    assert (result.alpha == 77).all()


def test_bleed_keeps_what_is_seen_and_fills_the_rest() -> None:
    torch.manual_seed(0)
    colour = torch.rand(1, 3, 13, 10)
    alpha = torch.zeros(1, 1, 13, 10)
    alpha[..., 3:5, 2:7] = torch.rand(2, 5) + 0.01
    filled = bleed(colour, alpha)
    seen = alpha.expand_as(colour) > 0
    assert torch.equal(filled[seen], colour[seen])
    inside = colour[..., 3:5, 2:7]
    for channel in range(3):
        low, high = inside[0, channel].min(), inside[0, channel].max()
        assert filled[0, channel].min() >= low - 1e-6
        assert filled[0, channel].max() <= high + 1e-6
    plain = torch.full_like(colour, 0.3) * (alpha > 0)
    torch.testing.assert_close(bleed(plain, alpha), torch.full_like(colour, 0.3))
    assert bleed(colour, torch.zeros_like(alpha)) is colour
    assert bleed(colour, torch.ones_like(alpha)) is colour


def test_16_bits_never_go_through_8(up: Upscaler) -> None:
    rng = np.random.default_rng(0)
    colour = (30000 + 200 * rng.random((12, 10, 3))).astype(np.uint16)  # within one 8-bit level
    for kind, values in (("RGB", colour), ("L", colour[..., 0].copy())):
        picture = Picture(values, None, kind, Metadata(dpi=(300, 300)))
        result = upscale_picture(up, picture)
        assert (result.colour.dtype, result.kind) == (np.uint16, kind)
        assert result.metadata == picture.metadata
        assert len(np.unique(result.colour)) > 100
        lr = torch.from_numpy(values.astype(np.float32) / 65535)
        lr = lr.permute(2, 0, 1) if kind == "RGB" else lr.expand(3, -1, -1)
        sr = up.run(lr[None])[0].double().clamp(0, 1)
        if kind == "L":
            sr = (sr * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
        expected = sr.permute(1, 2, 0).numpy() * 65535
        assert np.abs(result.colour.reshape(expected.shape) - expected).max() < 0.6


def test_every_level_survives_the_way_through() -> None:
    for dtype in (np.uint8, np.uint16):
        levels = np.arange(np.iinfo(dtype).max + 1, dtype=np.int64).astype(dtype)
        picture = Picture(levels.reshape(1, -1), None, "L")
        result = with_result(None, picture, lr_tensor(picture))  # type: ignore[arg-type]
        np.testing.assert_array_equal(result.colour, picture.colour)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_pil_modes_come_back(up: Upscaler, mode: str) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (12, 10, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(rgba[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(rgba).convert(mode)
    image.info["dpi"] = (300, 300)
    result = up(image)
    assert (result.mode, result.size, result.info["dpi"]) == (mode, (20, 24), (300, 300))
    if mode == "I;16":
        assert len(np.unique(np.array(result))) > 256


def test_pil_palette_with_transparency(up: Upscaler) -> None:
    image = Image.fromarray(disc(soft=False) // 255)
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.info["transparency"] = 0
    result = up(image)
    assert result.mode == "P"
    rgba = np.array(result.convert("RGBA"))
    assert rgba[0, 0, 3] == 0
    assert rgba[40, 40].tolist()[3] == 255
    assert rgba[rgba[..., 3] > 0, :3].min() >= 253


def test_a_result_that_is_not_finite(up: Upscaler) -> None:
    picture = Picture(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="NaN or infinite values; try float32"):
        with_result(up, picture, torch.full((1, 3, 4, 4), float("nan")))
