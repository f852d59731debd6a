"""Quality on a validation set while training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sparsesr.data import load_pair, paired_images
from sparsesr.metrics import psnr, ssim
from sparsesr.nn import has_sparse_masks, routes_pixels, selects_patches
from sparsesr.ops import patch_grid
from sparsesr.train.losses import every_patch, mask_sample
from sparsesr.train.recipe import ROUTED, WHOLE

_SMALL_SETS = ("set5", "set14", "b100", "bsds100", "bsd100")


class ValidationSet:
    """A test set in memory.

    `name` is the folder's; `k` the patches per image its papers use: 240 on Set5, Set14 and B100,
    1000 elsewhere (MGA, released code).
    """

    def __init__(self, root: str, scale: int) -> None:
        self.name = Path(root).resolve().name
        self.scale = scale
        self.k = 240 if self.name.lower() in _SMALL_SETS else 1000
        self.pairs = [load_pair(pair, scale) for pair in paired_images(root, scale)]

    def mean(self, measure: Any) -> dict[str, float]:
        """Means over the images of the numbers that `measure(lr, hr)` returns."""
        rows = [measure(lr, hr) for lr, hr in self.pairs]
        return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


@torch.no_grad()
def validate(net: Any, images: ValidationSet, step: str) -> dict[str, float]:
    """Y-PSNR in dB (border = scale) of SR and coarse image; some steps add measures of their own.

    `val_psnr`: the step's output (`images.k` patches for mask and e2e, all of them before);
    `val_psnr_coarse`: the Base-Net's (not in whole). `val_mask_l1`: mean|M - T|, each image its own
    batch. `val_sparsity`: of networks with sparse masks, as SMSR defines it. `val_heavy`: share of
    heavy pixels, of networks that route pixels (k = 0; all of them in a heavy stage).
    """
    device = next(net.parameters()).device

    def measure(lr: torch.Tensor, hr: torch.Tensor) -> dict[str, float]:
        lr = lr.to(device)
        if step in (*ROUTED, WHOLE):
            return {f"val_{key}": value for key, value in _quality(net, lr, hr).items()}
        choice = choice_of(net, step, images.k)
        out = net(lr, return_details=True, **choice)
        row = {
            "val_psnr": psnr(out.sr.float().cpu(), hr, border=images.scale),
            "val_psnr_coarse": psnr(out.coarse.float().cpu(), hr, border=images.scale),
        }
        if step in ("mask", "e2e"):
            row["val_mask_l1"] = _mask_error(net, lr)
        return row

    return images.mean(measure)


def choice_of(net: Any, step: str, k: int) -> dict[str, Any]:
    """Which patches a network of an MGA stage refines: k of them, or all before there is a mask."""
    if step in ("mask", "e2e"):
        return {"k": k}
    return every_patch(net)


def _quality(net: Any, lr: torch.Tensor, hr: torch.Tensor) -> dict[str, float]:
    """psnr of one image, and what share of it was sparse, or heavy."""
    if routes_pixels(net):
        out = net(lr, scale=net.scale, return_details=True)
        heavy = float(out.heavy_fraction().mean())
        return {"psnr": psnr(out.sr.float().cpu(), hr, border=net.scale), "heavy": heavy}
    if not has_sparse_masks(net):
        return {"psnr": psnr(net(lr).float().cpu(), hr, border=net.scale)}
    out = net(lr, return_details=True)
    sparsity = float(out.sparsity().mean())
    return {"psnr": psnr(out.sr.float().cpu(), hr, border=net.scale), "sparsity": sparsity}


def _mask_error(net: Any, lr: torch.Tensor) -> float:
    """mean|M - T| of one image, cropped so that the patches fit."""
    p = net.patch_size
    feature, target = mask_sample(net, lr[..., : lr.shape[-2] // p * p, : lr.shape[-1] // p * p])
    return float((net.score(feature) - target).abs().mean())


@torch.no_grad()
def final_metrics(net: Any, images: ValidationSet) -> dict[str, Any]:
    """Y-PSNR and SSIM for the card; with a mask at k = 0, the papers' k and all patches."""

    def measure(lr: torch.Tensor, hr: torch.Tensor) -> dict[str, float]:
        choices: dict[str, dict[str, int]] = {"": {}}
        if selects_patches(net):
            rows, columns = patch_grid(lr.shape[-2], lr.shape[-1], net.patch_size)
            cells = rows * columns
            choices = {str(k): {"k": k} for k in (0, images.k)} | {"all": {"k": cells}}
        row = {}
        for label, choice in choices.items():
            sr = net(lr, **choice)
            row[f"{label} psnr"] = psnr(sr, hr, border=images.scale)
            row[f"{label} ssim"] = ssim(sr, hr, border=images.scale)
        if has_sparse_masks(net):
            row[" sparsity"] = float(net(lr, return_details=True).sparsity().mean())
        if routes_pixels(net):
            heavy = net(lr, return_details=True).heavy_fraction()
            row[" heavy_fraction"] = float(heavy.mean())
        return row

    by_k: dict[str, dict[str, float]] = {}
    for key, value in images.mean(measure).items():
        k, name = key.split(" ")
        by_k.setdefault(k, {})[name] = round(value, 4)
    figures = by_k.get("", {"k": by_k})
    return {"dataset": images.name, "convention": "y", "border": images.scale, **figures}
