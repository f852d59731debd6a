"""The mask from the image's gradient: which pixels, how many, ties, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparsesr.nn import gradient_mask


def _sobel(lr: torch.Tensor) -> np.ndarray:
    """Squared Sobel magnitude of the luma [B,H,W], pixel by pixel."""
    luma = np.einsum("bchw,c->bhw", lr.double().numpy(), (65.481, 128.553, 24.966))
    padded = np.pad(luma, ((0, 0), (1, 1), (1, 1)), mode="edge")
    out = np.zeros_like(luma)
    for y in range(luma.shape[1]):
        for x in range(luma.shape[2]):
            window = padded[:, y : y + 3, x : x + 3]
            across = (window[:, :, 2] - window[:, :, 0]) @ (1, 2, 1)
            down = (window[:, 2] - window[:, 0]) @ (1, 2, 1)
            out[:, y, x] = across**2 + down**2
    return out


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (6, 8)])
@pytest.mark.parametrize("active", [0, 0.3, 1.0])
def test_the_largest_gradients(size: tuple[int, int], active: float) -> None:
    torch.manual_seed(0)
    lr = torch.rand(2, 3, *size)
    mask = gradient_mask(lr, active)
    assert mask.shape == (2, 1, *size)
    assert mask.dtype == torch.bool
    count = int(np.ceil(active * size[0] * size[1]))
    assert mask.sum((1, 2, 3)).tolist() == [count, count]
    for image, score in zip(mask[:, 0].numpy(), _sobel(lr), strict=True):
        chosen, rest = score[image], score[~image]
        assert chosen.size == 0 or rest.size == 0 or chosen.min() > rest.max()


def test_a_flat_image_takes_the_first_pixels() -> None:
    mask = gradient_mask(torch.full((1, 3, 4, 5), 0.5), 0.35)
    assert mask.flatten().tolist() == [n < 7 for n in range(20)]


def test_the_border_is_no_edge() -> None:
    lr = torch.full((1, 3, 6, 6), 0.9)
    lr[..., 2:4, 2:4] = 0.1
    assert gradient_mask(lr, 12 / 36)[0, 0].nonzero().min() >= 1


def test_the_scale_of_values_does_not_matter() -> None:
    lr = torch.rand(1, 3, 9, 9)
    assert torch.equal(gradient_mask(lr, 0.4), gradient_mask(256 * lr, 0.4))


def test_no_gradient_and_half_precision() -> None:
    lr = torch.rand(1, 3, 5, 5, requires_grad=True)
    assert not gradient_mask(lr, 0.5).requires_grad
    assert gradient_mask(lr.bfloat16(), 0.5).sum() == 13


@pytest.mark.parametrize(
    ("active", "error", "text"),
    [
        (-0.1, ValueError, r"active in \[0, 1\], got -0.1"),
        (1.5, ValueError, "got 1.5"),
        (float("nan"), ValueError, "got nan"),
        ("half", TypeError, "active as a number, got str"),
        (True, TypeError, "got bool"),
    ],
)
def test_bad_share(active: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        gradient_mask(torch.rand(1, 3, 4, 4), active)  # type: ignore[arg-type]
