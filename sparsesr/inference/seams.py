"""Whether the borders between refined and coarse patches show: quality along them, smoothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsesr.inference.choices import ALL, check_options, choice_of, k_shown, unusual_options
from sparsesr.inference.evaluation import Progress, display_name, load_images
from sparsesr.inference.masks import composite, patch_pixels
from sparsesr.inference.upscaler import Upscaler, backend_choice
from sparsesr.metrics import quantize, rgb_to_y
from sparsesr.nn import selects_patches
from sparsesr.ops import average_neighbors, patch_grid

BAND = 2  # pixels on either side of a border
MEASURES = ("seam_psnr", "rest_psnr", "refined_psnr", "seam_share", "coverage")


def seam_band(refined: Tensor, band: int = BAND) -> Tensor:
    """The pixels that have a pixel of the other kind at most ``band`` away, across or diagonally.

    Args:
        refined: [B, 1, H, W] bool, whether a pixel lies in a refined patch.
        band: pixels on either side of a border between a refined and a coarse patch, >= 1.

    Returns:
        [B, 1, H, W] bool; nowhere True where every pixel is of one kind.

    Example:
        >>> seam_band(torch.arange(7).view(1, 1, 1, 7) > 3, 2).int().flatten().tolist()
        [0, 0, 1, 1, 1, 1, 0]
    """
    kinds = torch.cat((refined, ~refined), 1).float()
    near = F.max_pool2d(kinds, 2 * band + 1, stride=1, padding=band)
    return near.amin(1, keepdim=True) > 0


def smooth_seams(
    sr: Tensor,  # [B, 3, sH, sW]
    refined: Tensor,  # [B, 1, sH, sW] bool
) -> Tensor:  # [B, 3, sH, sW]
    """Coarse pixels that touch a refined patch take the mean of their 3x3, in one pass.

    ``average_neighbors`` of PCSR (Jeong et al., ECCV 2024) with the pixels of refined patches as
    the heavy ones: refined pixels and the outermost frame of the image stay as they are.

    Args:
        sr: the image, refined patches in it; floating.
        refined: which pixels those are, see ``masks.patch_pixels``.

    Raises:
        TypeError, ValueError: as ``ops.average_neighbors``.
    """
    return average_neighbors(sr, refined[:, 0].to(torch.uint8))


def measure_seams(
    net: nn.Module,
    root: str | Path,
    scale: int,
    k: int | float | str = "paper",
    budget: float | None = None,
    convention: Literal["y", "rgb"] = "y",
    hr_mod: int | None = None,
    order: Literal["largest", "random", "smallest"] = "largest",
    seed: int = 0,
    smooth: bool = False,
    backend: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """PSNR along the borders between refined and coarse patches, and of the rest.

    The band is ``seam_band``: ``BAND`` HR pixels on either side of every such border. Borders
    between two patches of one kind are none: MGA's patches are refined each by itself, but that is
    so with any coarse image.

    Args:
        net: a model that selects patches.
        smooth: let ``smooth_seams`` follow.
        convention: "y" or "rgb", as in ``evaluate``; the other options too.

    Returns:
        {"model", "scale", "convention", "dataset", "k", "band", "smooth", "mean", "images"} and the
        options that are not the default. Of each image and the mean over those that have a band:
        "seam_psnr" and "rest_psnr" in dB, of the pixels in the band and of all others;
        "refined_psnr", of the band with every patch refined, what is there to be had; "seam_share",
        the band's share of the pixels; "coverage", the share of the patches refined. Where an image
        has no band (no patch refined, or all) its "seam_psnr" and "refined_psnr" are None; the
        mean's are None if no image has one.

    Raises:
        ValueError: a network without a mask of patches, convention "pcsr"; as ``evaluate``.
    """
    if not selects_patches(net):
        name = getattr(net, "model_name", type(net).__name__)
        raise ValueError(f"seams: {name} has no patches; expected an -mga network")
    if convention not in ("y", "rgb"):
        raise ValueError(f"seams: expected convention y or rgb, got {convention!r}")
    check_options(net, scale, convention, order, "predicted", hr_mod, True)
    from sparsesr.data import paired_images

    choice = choice_of(net, k, budget, Path(root).resolve().name)
    upscaler = Upscaler(net, backend=backend, device=device)
    pairs = paired_images(root, scale)
    images: list[dict[str, Any]] = []
    for i, pair in enumerate(pairs):
        lr, hr = load_images(pair, scale, convention, hr_mod)
        generator = torch.Generator(upscaler.device).manual_seed(seed + i)
        options = {**choice, "order": order, "generator": generator}
        row = _measure(upscaler, lr, hr, convention, smooth, options)
        images.append({"name": pair.name, **row})
        if progress is not None:
            progress(i + 1, len(pairs), pair.name)
    return {
        "model": display_name(net, scale),
        "scale": scale,
        "convention": convention,
        "dataset": Path(root).resolve().name,
        "k": k_shown(choice),
        "band": BAND,
        "smooth": smooth,
        "mean": _means(images),
        "images": images,
        **unusual_options(choice, order, "predicted", hr_mod, True),
    }


def _measure(
    upscaler: Upscaler,
    lr: Tensor,
    hr: Tensor,
    convention: str,
    smooth: bool,
    options: dict[str, Any],
) -> dict[str, Any]:
    """One image. Patches are islands: all of them refined once give every selection."""
    net: Any = upscaler.net
    out = upscaler.run(lr, return_details=True, **options)
    full = upscaler.run(lr, k=ALL)
    grid = patch_grid(lr.shape[-2], lr.shape[-1], net.patch_size)
    block = net.scale * net.patch_size
    with torch.inference_mode(), backend_choice(upscaler.backend):
        size = (out.sr.shape[-2], out.sr.shape[-1])
        refined = patch_pixels(out.index, grid, block, size)
        sr = composite(out.coarse, full, out.index, grid, block)
        errors = [
            _squared_error(image, hr, convention, net.scale)
            for image in (smooth_seams(sr, refined) if smooth else sr, full)
        ]
        edge = net.scale
        band = seam_band(refined)[0, 0, edge : size[0] - edge, edge : size[1] - edge].cpu()
    seam, rest = errors[0][band], errors[0][~band]
    return {
        "seam_psnr": _decibels(seam),
        "rest_psnr": _decibels(rest),
        "refined_psnr": _decibels(errors[1][band]),
        "seam_share": float(band.double().mean()),
        "coverage": out.index.shape[1] / (grid[0] * grid[1]),
    }


def _squared_error(sr: Tensor, hr: Tensor, convention: str, border: int) -> Tensor:
    """[sH - 2 border, sW - 2 border] float64 on the 0..255 scale, 8-bit rounded as PSNR's."""
    levels = [quantize(image[0].float().cpu()).double() for image in (sr, hr)]
    if convention == "y":
        levels = [rgb_to_y(image) for image in levels]
    else:
        levels = [image * 255 for image in levels]
    error = (levels[0] - levels[1]).square().mean(0)
    return error[border : error.shape[0] - border, border : error.shape[1] - border]


def _decibels(errors: Tensor) -> float | None:
    """PSNR of pixels, None of no pixel."""
    if errors.numel() == 0:
        return None
    mse = float(errors.mean())
    return math.inf if mse == 0 else 10 * math.log10(255.0**2 / mse)


def _means(images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over the images with a band where there are any, so that seam and rest are of the same."""
    banded = [image for image in images if image["seam_psnr"] is not None]
    found: dict[str, Any] = {}
    for key in MEASURES:
        values = [image[key] for image in banded or images if image[key] is not None]
        found[key] = fmean(values) if values else None
    return found
