"""The sparse path as MGA's released code goes about it, in plain PyTorch: the baseline to beat.

Written from the description of that code: every window of the map is unfolded into one contiguous
batch before the chosen ones are indexed; the top K become a 0/1 map whose nonzero entries are
looked up again; patches go into a clone of the canvas. Maps that are no multiple of the patch,
which the original crops, are padded in the call that pads the halo.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def select_patches(mask: Tensor, k: int) -> Tensor:
    """Flat positions [B*k] of the k largest scores of mask [B,Gh,Gw], ascending, as int64."""
    scores = mask.flatten(1)
    best = scores.topk(k, dim=1, sorted=False).indices
    chosen = torch.zeros_like(scores).scatter(1, best, 1.0)
    image, cell = torch.nonzero(chosen, as_tuple=True)
    return image * scores.shape[1] + cell


def gather_patches(x: Tensor, where: Tensor, patch_size: int, halo: int) -> Tensor:
    """Windows [N,C,p+2h,p+2h] at the flat positions `where` [N]: unfold everything, then index."""
    return _crop_all(x, patch_size, halo)[where]


def _crop_all(x: Tensor, patch_size: int, halo: int) -> Tensor:
    below, right = _missing(x, patch_size)
    side = patch_size + 2 * halo
    padded = F.pad(x, (halo, halo + right, halo, halo + below))
    windows = padded.permute(0, 2, 3, 1).unfold(1, side, patch_size).unfold(2, side, patch_size)
    return windows.contiguous().view(-1, x.shape[1], side, side)


def scatter_patches(canvas: Tensor, patches: Tensor, where: Tensor, patch_size: int) -> Tensor:
    """A clone of canvas [B,C,H,W] with patches [N,C,p,p] at the flat positions `where` [N]."""
    height, width = canvas.shape[2:]
    below, right = _missing(canvas, patch_size)
    out = F.pad(canvas, (0, right, 0, below)) if below or right else canvas.clone()
    rows, cols = (height + below) // patch_size, (width + right) // patch_size
    blocks = out.unflatten(3, (cols, patch_size)).unflatten(2, (rows, patch_size))
    image, cell = where // (rows * cols), where % (rows * cols)
    blocks[image, :, cell // cols, :, cell % cols, :] = patches
    return out[:, :, :height, :width]


def forward(net: nn.Module, lr: Tensor, k: int) -> Tensor:
    """SR image of an MGA network `net` (base, mask, refine) on the path described above."""
    coarse, feature = net.base(lr)
    where = select_patches(net.mask(feature)[:, 0], k)
    patches = gather_patches(feature, where, net.patch_size, net.halo)
    return scatter_patches(coarse, net.refine(patches), where, net.patch_size * net.scale)


def _missing(x: Tensor, patch_size: int) -> tuple[int, int]:
    return -x.shape[2] % patch_size, -x.shape[3] % patch_size
