"""MATLAB bicubic: the LR files of the benchmarks, both kinds of input, the awkward sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparsesr.io import list_images, read_image
from sparsesr.metrics import imresize


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("dataset", ["Set5", "Set14"])
def test_reproduces_the_matlab_lr_files(shared: Path, dataset: str, scale: int) -> None:
    samples = wrong = 0
    for path in list_images(shared / "data" / dataset / "HR"):
        hr = read_image(path)
        height, width = hr.shape[0] // scale * scale, hr.shape[1] // scale * scale
        lr = read_image(shared / "data" / dataset / f"LRx{scale}" / path.name)
        difference = np.abs(imresize(hr[:height, :width], 1 / scale).astype(int) - lr)
        assert difference.max() <= 1, path.name
        wrong += int((difference > 0).sum())
        samples += difference.size
    assert wrong <= 1e-4 * samples


@pytest.mark.parametrize(
    "options", [{"scale": 0.37}, {"scale": 3}, {"size": (50, 11)}, {"scale": 1}]
)
def test_tensor_and_array_agree(options: dict) -> None:
    image = np.random.default_rng(0).random((37, 29, 3))
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
    from_tensor = imresize(tensor, **options)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(imresize(image, **options), from_tensor, atol=1e-12)


def test_matches_a_direct_evaluation_of_the_kernel() -> None:
    def keys(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    signal = np.random.default_rng(1).random(13)
    for out in (5, 29):
        scale = out / 13
        shrink = min(scale, 1.0)
        expected = []
        for i in range(out):
            centre = (i + 0.5) / scale - 0.5
            taps = range(-40, 60)
            weights = [keys(shrink * (centre - tap)) for tap in taps]
            mirrored = [tap % 26 for tap in taps]
            values = [signal[m if m < 13 else 25 - m] for m in mirrored]
            expected.append(np.dot(weights, values) / np.sum(weights))
        result = imresize(np.tile(signal, (3, 1)), size=(3, out))
        np.testing.assert_allclose(result, np.tile(expected, (3, 1)), atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 3), (2, 3, 3), (5, 4)])
@pytest.mark.parametrize("options", [{"scale": 0.5}, {"scale": 4}, {"size": (1, 1)}])
def test_flat_images_stay_flat(shape: tuple, options: dict) -> None:
    result = imresize(np.full(shape, 77, np.uint8), **options)
    assert result.dtype == np.uint8
    assert np.all(result == 77)
    assert result.shape[2:] == shape[2:]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_keep_their_dtype_and_overshoot(dtype: type) -> None:
    edge = np.zeros((8, 8), dtype)
    edge[:, 4:] = 1
    result = imresize(edge, 4)
    assert result.dtype == dtype
    assert result.min() < 0 < 1 < result.max()


def test_size_rounds_up_like_matlab() -> None:
    assert imresize(np.zeros((10, 9)), 1 / 4).shape == (3, 3)
    assert imresize(np.zeros((321, 481)), 1 / 3).shape == (107, 161)


def test_gradients_flow() -> None:
    x = torch.rand(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: imresize(t, 0.5), (x,))
    assert torch.autograd.gradcheck(lambda t: imresize(t, size=(7, 9)), (x,))


@pytest.mark.parametrize(
    ("image", "options", "error", "text"),
    [
        ([[1.0]], {"scale": 2}, TypeError, "expected ndarray or Tensor, got list"),
        (
            np.zeros((4, 4), np.int32),
            {"scale": 2},
            TypeError,
            "uint8 or a floating dtype, got int32",
        ),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), {"scale": 2}, TypeError, "got torch.uint8"),
        (np.zeros(4), {"scale": 2}, ValueError, r"expected \[H, W\] or \[H, W, C\]"),
        (torch.zeros(4), {"scale": 2}, ValueError, r"expected a Tensor \[..., H, W\]"),
        (np.zeros((4, 4)), {}, ValueError, "exactly one of scale and size"),
        (np.zeros((4, 4)), {"scale": 2, "size": (8, 8)}, ValueError, "exactly one"),
        (np.zeros((4, 4)), {"scale": 0}, ValueError, "positive scale, got 0"),
        (np.zeros((4, 4)), {"size": (0, 3)}, ValueError, r"at least 1x1, got \(0, 3\)"),
        (np.zeros((0, 4)), {"scale": 2}, ValueError, "the image is empty"),
    ],
)
def test_bad_input(image: object, options: dict, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        imresize(image, **options)
