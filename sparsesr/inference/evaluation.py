"""PSNR and SSIM of a network on a data set, under a named convention."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from sparsesr.complexity import complexity, routed_complexity
from sparsesr.inference.choices import (
    ALL,
    check_options,
    choice_of,
    k_shown,
    unusual_options,
)
from sparsesr.inference.masks import composite, error_mask
from sparsesr.inference.upscaler import Upscaler
from sparsesr.io import read_image, to_tensor
from sparsesr.metrics import imresize, psnr, quantize, ssim
from sparsesr.nn import has_sparse_masks, routes_pixels, selects_patches

if TYPE_CHECKING:
    from sparsesr.data import ImagePair

# What is averaged over the images; "sparsity_of_modules" is a list.
MEASURES = (
    "psnr",
    "ssim",
    "coverage",
    "sparsity",
    "sparsity_of_modules",
    "heavy_fraction",
    "paper_flops",
    "macs",
    "mask_l1",
    "zero_mask_l1",
    "unchanged",
)

Progress = Callable[[int, int, str], None]  # images done, images in all, the name of the last


def evaluate(
    net: nn.Module,
    root: str | Path,
    scale: int,
    k: int | float | str = "paper",
    budget: float | None = None,
    convention: Literal["y", "rgb", "pcsr"] = "y",
    hr_mod: int | None = None,
    order: Literal["largest", "random", "smallest"] = "largest",
    mask: Literal["predicted", "oracle"] = "predicted",
    seed: int = 0,
    refine: bool = True,
    backend: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a network on a folder of images, each run once.

    Args:
        net: a model for ``scale``; one that routes pixels serves any.
        root: a folder with HR/ and LRx{scale}/, or a plain folder of HR images.
        scale: upscaling factor; the border left out by the metrics.
        k: "paper" (240 patches on Set5, Set14 and B100, 1000 elsewhere), "all", an int >= 0, or
            a float in [0, 1] as the fraction of the patches. For networks that route pixels: the
            exponent of the cost, "adaptive" (ADM), "all" (every pixel heavy) or "paper" (0).
            Ignored ("paper") or refused (any other) for other networks.
        budget: the fraction of the patches, or of the pixels that are heavy, instead of k.
        convention: "y" or "rgb" as in ``metrics.psnr``, on LR files or 8-bit MATLAB-bicubic LR;
            "pcsr": RGB, LR made in float from HR and cropped to sides of 28 n + 32.
        hr_mod: crop HR to multiples of this first, and make LR from it.
        order: take the largest scores, the smallest, or random patches.
        mask: "predicted" by the network, or "oracle": scores are mean |refined - coarse| on Y in
            each patch, from refining all of them.
        seed: for ``order="random"``; image i uses seed + i.
        refine: average light pixels beside heavy ones, where the network routes pixels.
        backend: ops backend, None for the current choice.
        device: where to run, None for where the net is.
        progress: called after each image with (done, total, name).

    Returns:
        {"model", "scale", "convention", "dataset", "k", "mean": {"psnr", "ssim"}, "images":
        [{"name", "psnr", "ssim", "k_used"}]}; PSNR in dB. "k" is an int, "all" or None, "budget"
        is added for a fraction, "order", "mask" and "hr_mod" where they are not the default.
        Networks of sparse mask modules (SMSR) add "sparsity", 1 - the share of the channels and
        pixels computed, and "sparsity_of_modules", the same of each module, to the images and
        the mean. Networks that route pixels (PCSR) add "heavy_fraction", and with the networks they
        accelerate, under "pcsr", "paper_flops" (as PCSR counts) and "macs" of the image.

    Raises:
        FileNotFoundError: no such folder.
        ImageError: an image of the set cannot be read.
        ValueError: no image in the folder, the scale is not the network's, a bad option.
    """
    check_options(net, scale, convention, order, mask, hr_mod, refine)
    from sparsesr.data import paired_images

    dataset = Path(root).resolve().name
    choice = choice_of(net, k, budget, dataset)
    upscaler = Upscaler(net, backend=backend, device=device)
    pairs = paired_images(root, scale)
    images: list[dict[str, Any]] = []
    for i, pair in enumerate(pairs):
        lr, hr = load_images(pair, scale, convention, hr_mod)
        generator = torch.Generator(upscaler.device).manual_seed(seed + i)
        if routes_pixels(net):
            sr, used = route(upscaler, lr, {**choice, "scale": scale, "refine": refine})
        else:
            sr, used = super_resolve(upscaler, lr, choice, order, mask, generator)
            used |= cost_of(net, lr) if convention == "pcsr" else {}
        images.append({"name": pair.name, **quality(sr, hr, scale, convention), **used})
        if progress is not None:
            progress(i + 1, len(pairs), pair.name)
    document = {
        "model": display_name(net, scale),
        "scale": scale,
        "convention": convention,
        "dataset": dataset,
        "k": k_shown(choice),
        "mean": means(images),
        "images": images,
    }
    return document | unusual_options(choice, order, mask, hr_mod, refine)


def display_name(net: nn.Module, scale: int) -> str:
    """What a network is called beside its numbers: its name, or its type, and the scale."""
    return f"{getattr(net, 'model_name', type(net).__name__.lower())}-x{scale}"


def quality(sr: Tensor, hr: Tensor, scale: int, convention: str) -> dict[str, float]:
    """PSNR and SSIM of one image under a convention of ``evaluate``."""
    colours: Literal["y", "rgb"] = "y" if convention == "y" else "rgb"
    sr = sr.float().cpu()
    return {"psnr": psnr(sr, hr, scale, colours), "ssim": ssim(sr, hr, scale, colours)}


def means(images: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the images, of lists entry by entry."""

    def mean(values: list[Any]) -> Any:
        if isinstance(values[0], list):
            return [mean(list(column)) for column in zip(*values, strict=True)]
        return math.fsum(values) / len(values)

    keys = [key for key in MEASURES if key in images[0]]
    return {key: mean([image[key] for image in images]) for key in keys}


def load_images(
    pair: ImagePair, scale: int, convention: str, hr_mod: int | None
) -> tuple[Tensor, Tensor]:
    """LR [1, 3, h, w] and HR [1, 3, s h, s w], both float32 in [0, 1] (LR of PCSR overshoots)."""
    from sparsesr.data import load_pair

    if convention != "pcsr" and hr_mod is None:
        return load_pair(pair, scale)
    hr = to_tensor(read_image(pair.hr))
    step = hr_mod or scale
    height, width = (side // step * step for side in hr.shape[-2:])
    hr = hr[..., :height, :width]
    lr = imresize(hr.double(), 1 / scale)
    if convention != "pcsr":
        return quantize(lr).float(), hr
    rows, cols = (_pcsr_side(side) for side in lr.shape[-2:])
    return lr[..., :rows, :cols].float(), hr[..., : rows * scale, : cols * scale]


def _pcsr_side(side: int) -> int:
    """The largest 28 n + 32 that fits: PCSR's evaluation splits images into such patches."""
    return side if side < 32 else (side - 32) // 28 * 28 + 32


def route(upscaler: Upscaler, lr: Tensor, options: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """SR of one image, the share of its pixels that was heavy, and what they cost."""
    net: Any = upscaler.net
    out = upscaler.run(lr, **options, return_details=True)
    cost = routed_complexity(net, (lr.shape[-2], lr.shape[-1]), out.class_counts()[0].tolist())
    heavy = float(out.heavy_fraction()[0])
    used = {"heavy_fraction": heavy, "paper_flops": cost.paper_flops, "macs": cost.macs}
    return out.sr, {"k_used": None, **used}


def cost_of(net: nn.Module, lr: Tensor) -> dict[str, Any]:
    """What one image costs a network that computes everything everywhere."""
    if selects_patches(net) or has_sparse_masks(net):
        return {}
    cost = complexity(net, (lr.shape[-2], lr.shape[-1]))
    return {"paper_flops": cost.paper_flops, "macs": cost.macs}


def super_resolve(
    upscaler: Upscaler,
    lr: Tensor,
    choice: dict[str, Any],
    order: str,
    mask: str,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Any]]:
    """SR of one image and what was spent on it: "k_used" (None: no patches), "sparsity"."""
    net: Any = upscaler.net
    if has_sparse_masks(net):
        out = upscaler.run(lr, return_details=True)
        modules = (1 - out.active())[0].tolist()
        sparsity = {"sparsity": float(out.sparsity()[0]), "sparsity_of_modules": modules}
        return out.sr, {"k_used": None, **sparsity}
    if not selects_patches(net):
        return upscaler.run(lr), {"k_used": None}
    options: dict[str, Any] = {"order": order, "generator": generator, "return_details": True}
    if mask == "predicted":
        out = upscaler.run(lr, **choice, **options)
        return out.sr, {"k_used": 0 if out.index is None else out.index.shape[1]}
    out = upscaler.run(lr, k=ALL, return_details=True)
    from sparsesr.nn import effective_k
    from sparsesr.ops import select_patches

    block = net.scale * net.patch_size
    scores = error_mask(out.sr, out.coarse, block)
    gh, gw = scores.shape[-2:]
    k_used = effective_k(choice.get("k"), choice.get("budget"), gh, gw, net.k)
    index = select_patches(scores[:, 0], k_used, order, generator)
    return composite(out.coarse, out.sr, index, (gh, gw), block), {"k_used": k_used}
