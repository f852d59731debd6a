"""The same kind out as went in, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import sparsesr
from sparsesr.inference import Upscaler
from sparsesr.io import to_array


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return sparsesr.create_model("fsrcnn-mga", scale=2).eval()


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (13, 10, 3), dtype=np.uint8)


def expected(net: torch.nn.Module, image: np.ndarray, **options: object) -> torch.Tensor:
    lr = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return net(lr, **options)


def test_every_kind_comes_back_in_kind(net: torch.nn.Module, image: np.ndarray) -> None:
    up = Upscaler(net, k=4)
    sr = expected(net, image, k=4)
    eight_bit = to_array(sr).astype(int)
    array = up(image)
    assert (array.dtype, array.shape) == (np.uint8, (26, 20, 3))
    assert np.abs(array - eight_bit).max() <= 1  # the memory formats round differently
    pil = up(Image.fromarray(image))
    assert isinstance(pil, Image.Image)
    assert (pil.mode, pil.size) == ("RGB", (20, 26))
    np.testing.assert_array_equal(np.array(pil), array)
    tensor8 = up(torch.from_numpy(image).permute(2, 0, 1))
    assert (tensor8.dtype, tensor8.shape) == (torch.uint8, (3, 26, 20))
    np.testing.assert_array_equal(tensor8.permute(1, 2, 0).numpy(), array)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_floats_are_left_as_the_network_gives_them(
    net: torch.nn.Module, image: np.ndarray, dtype: torch.dtype
) -> None:
    sr = expected(net, image, k=4)
    lr = (torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255).to(dtype)
    result = Upscaler(net, k=4)(lr.repeat(2, 1, 1, 1))
    assert (result.dtype, result.shape) == (dtype, (2, 3, 26, 20))
    tolerance = 1e-5 if dtype != torch.float16 else 5e-3
    torch.testing.assert_close(result[1:].float(), sr, atol=tolerance, rtol=tolerance)
    array = Upscaler(net, k=4)((image / 255).astype(np.float32))
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, sr[0].permute(1, 2, 0).numpy(), atol=1e-5)


def test_grey_comes_back_grey(net: torch.nn.Module, image: np.ndarray) -> None:
    up = Upscaler(net)
    grey = image[..., 0]
    assert up(grey).shape == (26, 20)
    assert up(Image.fromarray(grey)).mode == "L"
    floats = up((grey / 255).astype(np.float32))
    assert (floats.shape, floats.dtype) == ((26, 20), np.float32)


def test_k_and_budget(net: torch.nn.Module, image: np.ndarray) -> None:
    lr = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    for options, count in (({}, 12), ({"k": 5}, 5), ({"budget": 0.5}, 6), ({"k": 0}, 0)):
        out = Upscaler(net, **options).run(lr, return_details=True)
        assert out.index.shape == (1, count)
    assert Upscaler(net, k=5).run(lr, k=7, return_details=True).index.shape == (1, 7)
    assert Upscaler(net, k=5).run(lr, budget=0.25, return_details=True).index.shape == (1, 3)


def test_a_named_backend_is_used(net: torch.nn.Module, image: np.ndarray) -> None:
    assert Upscaler(net, backend="reference")(image).shape == (26, 20, 3)
    with pytest.raises(ValueError, match="expected one of auto, reference"):
        Upscaler(net, backend="abacus")(image)


def test_dense_networks_work_without_k(image: np.ndarray) -> None:
    for name in ("fsrcnn-base", "fsrcnn-dnet", "fsrcnn-allnet"):
        net = sparsesr.create_model(name, scale=3)
        assert Upscaler(net)(image).shape == (39, 30, 3)
        assert not net.training
        with pytest.raises(ValueError, match=f"{name} does not select patches"):
            Upscaler(net, k=3)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"tile": 8}, ValueError, r"expected tile 'auto', 0 .* at least 16 LR pixels, got 8"),
        ({"tile": "16x16"}, ValueError, "expected tile 'auto', 0 .* got '16x16'"),
        ({"tile": True}, ValueError, "expected tile 'auto', 0 .* got True"),
        ({"precision": "fp8"}, ValueError, "expected precision as one of auto, fp32, .* got 'fp8'"),
        ({"k": -1}, ValueError, "expected k >= 0, got -1"),
        ({"k": 2.5}, TypeError, r"expected k as an int, got 2\.5"),
        ({"budget": 1.5}, ValueError, r"expected budget in \[0, 1\], got 1.5"),
        (
            {"k": 3, "budget": 0.5},
            ValueError,
            "expected k or budget, got both",
        ),
    ],
)
def test_bad_options(net: torch.nn.Module, options: dict, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        Upscaler(net, **options)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ([1, 2], TypeError, "expected a PIL image, an ndarray or a Tensor, got list"),
        (torch.zeros(4, 4), ValueError, r"expected a Tensor \[3, H, W\] or \[B, 3, H, W\]"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), TypeError, "got torch.int64"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"expected \[H, W, 3\]"),
        (Image.new("F", (4, 4)), ValueError, r"has mode F; expected 8 bits a sample"),
    ],
)
def test_bad_images(net: torch.nn.Module, value: object, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        Upscaler(net)(value)


def test_net_must_be_a_module() -> None:
    with pytest.raises(TypeError, match="expected a Module, got str"):
        Upscaler("fsrcnn-mga-x4")  # type: ignore[arg-type]
