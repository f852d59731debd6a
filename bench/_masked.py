"""Multiply-adds of masked convolutions, and masks to try them on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def block_macs(dense: Tensor, mask: Tensor, outputs: int) -> int:
    """Multiply-adds of ``masked_block`` for dense [L,C] and mask [B,1,H,W], its 1x1 included."""
    active = int(mask.sum())
    passive = mask.numel() - active
    channels = dense.shape[1]
    macs, before = 0, channels
    for kept in dense.sum(1).tolist():
        macs += active * channels * (9 * channels + outputs)
        macs += passive * kept * (9 * before + outputs)
        before = kept
    return macs


def smsr_macs(net: nn.Module, lr: Tensor) -> tuple[int, int]:
    """(dense, sparse) multiply-adds of an SMSR network for one image: masks off and on."""
    dense = _counted(lambda: net(lr, masked=False))
    masks = net(lr, return_details=True).masks
    beside = _counted(lambda: net(lr))  # all but the blocks, which the counter does not know
    blocks = [block_macs(m.dense[0], m.spatial, m.dense.shape[-1]) for m in masks]
    return dense, beside + sum(blocks)


def _counted(call: object) -> int:
    with FlopCounterMode(display=False) as counter:
        call()  # type: ignore[operator]
    return counter.get_total_flops() // 2


def blobs(height: int, width: int, share: float, seed: int = 0) -> Tensor:
    """A mask [1,1,H,W] of about ``share`` active pixels in connected areas, as images have them."""
    noise = _noise(height // 4 + 2, width // 4 + 2, seed)
    smooth = F.interpolate(noise, (height, width), mode="bicubic", align_corners=False)
    return _largest(smooth, share)


def scattered(height: int, width: int, share: float, seed: int = 0) -> Tensor:
    """A mask [1,1,H,W] of ``share`` active pixels anywhere."""
    return _largest(_noise(height, width, seed), share)


def _largest(scores: Tensor, share: float) -> Tensor:
    count = round(share * scores.numel())
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device="cpu")
    mask[scores.flatten().topk(count).indices] = True
    return mask.view_as(scores)


def _noise(height: int, width: int, seed: int) -> Tensor:
    """On the CPU whatever the default device, so that a seed means one mask."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    return torch.rand(1, 1, height, width, generator=generator, device="cpu")
