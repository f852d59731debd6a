"""Masked convolutions said channel by channel, and the masks they are tried on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sparsesr._backend import _computes, _find


def require(backend: str, op: str, dtype: torch.dtype = torch.float32) -> None:
    """Skip where the backend does not have the op, or not in this dtype."""
    if _find(backend, op) is None:
        pytest.skip(f"backend {backend} does not implement {op}")
    if not _computes(backend, op, dtype):
        pytest.skip(f"backend {backend} does not compute {op} in {dtype}")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def masks(batch: int, height: int, width: int) -> dict[str, Tensor]:
    """Pixel masks [B, 1, H, W] bool: none, all, one pixel inside and on a corner, some."""
    empty = torch.zeros(batch, 1, height, width, dtype=torch.bool)
    inside, corner = empty.clone(), empty.clone()
    inside[0, 0, height // 2, width // 2] = True
    corner[-1, 0, -1, -1] = True
    return {
        "empty": empty,
        "full": ~empty,
        "one pixel": inside,
        "corner": corner,
        "random": torch.rand(empty.shape, generator=generator(9)) > 0.6,
    }


def contributions(x: Tensor, weight: Tensor) -> Tensor:
    """What input channel c adds to output channel o at every pixel: [B, Cout, Cin, H, W]."""
    side = weight.shape[-1]
    height, width = x.shape[-2:]
    padded = F.pad(x, (side // 2,) * 4)
    total = 0
    for u in range(side):
        for v in range(side):
            window = padded[:, None, :, u : u + height, v : v + width]
            total = total + weight[None, :, :, u, v, None, None] * window
    return total


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor) -> Tensor:
    """The masked convolution: every contribution where the mask is, and the bias."""
    y = contributions(x, weight).sum(2)
    if bias is not None:
        y = y + bias[:, None, None]
    return y * mask


def block(
    x: Tensor,
    weights: list[Tensor],
    collect_weight: Tensor,
    collect_bias: Tensor | None,
    dense: Tensor,
    mask: Tensor,
) -> Tensor:
    """The block: channel c reaches channel o on the mask, and elsewhere if both are dense."""
    feature, features = x, []
    before = torch.ones_like(dense[0])  # the input of the block is dense
    for weight, own in zip(weights, dense, strict=True):
        both = (own[:, None] & before[None, :])[None, :, :, None, None]
        reaches = mask[:, :, None] | both  # [B, Cout, Cin, H, W]
        feature = (contributions(feature, weight) * reaches).sum(2).relu()
        features.append(feature)
        before = own
    y = torch.einsum("oc,bchw->bohw", collect_weight[:, :, 0, 0], torch.cat(features, 1))
    return y if collect_bias is None else y + collect_bias[:, None, None]


def assert_close(got: Tensor, exact: Tensor, reference: Tensor, name: str = "") -> None:
    """At most twice the error that plain torch makes in the same dtype.

    The second term allows for one rounding of the result where plain torch happens to be exact.
    """
    assert got.dtype == reference.dtype, name
    assert got.shape == exact.shape, name
    own = (reference.cpu().double() - exact).abs().max()
    rounding = torch.finfo(got.dtype).eps * exact.abs().max()
    assert (got.cpu().double() - exact).abs().max() <= 2 * own + rounding, name
