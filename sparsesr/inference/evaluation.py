"""PSNR and SSIM of a network on a data set, under a named convention."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from sparsesr.complexity import complexity, routed_complexity
from sparsesr.inference.masks import composite, error_mask
from sparsesr.inference.upscaler import Upscaler, check_choice
from sparsesr.io import read_image, to_tensor
from sparsesr.metrics import imresize, psnr, quantize, ssim
from sparsesr.nn import check_routing, has_sparse_masks, routes_pixels, selects_patches

if TYPE_CHECKING:
    from sparsesr.data import ImagePair

# The patches MGA refines per image: its code says 240 for the small sets, 1000 elsewhere.
PAPER_K = {"set5": 240, "set14": 240, "b100": 240, "bsd100": 240, "bsds100": 240}
PAPER_K_ELSEWHERE = 1000

# What is averaged over the images; "sparsity_of_modules" is a list.
MEASURES = (
    "psnr",
    "ssim",
    "sparsity",
    "sparsity_of_modules",
    "heavy_fraction",
    "paper_flops",
    "macs",
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
    _check(net, scale, convention, order, mask, hr_mod, refine)
    from sparsesr.data import paired_images

    dataset = Path(root).resolve().name
    choice = _choice(net, k, budget, dataset)
    upscaler = Upscaler(net, backend=backend, device=device)
    pairs = paired_images(root, scale)
    images: list[dict[str, Any]] = []
    for i, pair in enumerate(pairs):
        lr, hr = _load(pair, scale, convention, hr_mod)
        generator = torch.Generator(upscaler.device).manual_seed(seed + i)
        if routes_pixels(net):
            sr, used = _route(upscaler, lr, {**choice, "scale": scale, "refine": refine})
        else:
            sr, used = _super_resolve(upscaler, lr, choice, order, mask, generator)
            used |= _cost(net, lr) if convention == "pcsr" else {}
        colours: Literal["y", "rgb"] = "y" if convention == "y" else "rgb"
        sr = sr.float().cpu()
        images.append(
            {
                "name": pair.name,
                "psnr": psnr(sr, hr, scale, colours),
                "ssim": ssim(sr, hr, scale, colours),
                **used,
            }
        )
        if progress is not None:
            progress(i + 1, len(pairs), pair.name)
    document = {
        "model": f"{getattr(net, 'model_name', type(net).__name__.lower())}-x{scale}",
        "scale": scale,
        "convention": convention,
        "dataset": dataset,
        "k": _k_used(choice),
        "mean": _mean(images),
        "images": images,
    }
    return document | _unusual(choice, order, mask, hr_mod, refine)


def _k_used(choice: dict[str, Any]) -> Any:
    if choice.get("adaptive"):
        return "adaptive"
    return "all" if choice == {"k": _ALL} else choice.get("k")


def _mean(images: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the images, of lists entry by entry."""

    def mean(values: list[Any]) -> Any:
        if isinstance(values[0], list):
            return [mean(list(column)) for column in zip(*values, strict=True)]
        return math.fsum(values) / len(values)

    keys = [key for key in MEASURES if key in images[0]]
    return {key: mean([image[key] for image in images]) for key in keys}


def _unusual(
    choice: dict[str, Any], order: str, mask: str, hr_mod: int | None, refine: bool
) -> dict[str, Any]:
    """The options that are not the default, to be named beside the numbers."""
    options = {
        "budget": choice.get("budget"),
        "hr_mod": hr_mod,
        "order": order if order != "largest" else None,
        "mask": mask if mask != "predicted" else None,
        "refine": None if refine else False,
    }
    return {key: value for key, value in options.items() if value is not None}


_ALL = 2**31 - 1  # models clamp k to the number of patches


def _check(
    net: nn.Module,
    scale: int,
    convention: str,
    order: str,
    mask: str,
    hr_mod: int | None,
    refine: bool,
) -> None:
    for name, value, allowed in (
        ("convention", convention, ("y", "rgb", "pcsr")),
        ("order", order, ("largest", "random", "smallest")),
        ("mask", mask, ("predicted", "oracle")),
    ):
        if value not in allowed:
            raise ValueError(f"evaluate: expected {name} in {', '.join(allowed)}; got {value!r}")
    if getattr(net, "scale", scale) != scale and not routes_pixels(net):
        raise ValueError(f"evaluate: the network is for x{net.scale}, got scale={scale}")
    if hr_mod is not None and (hr_mod < 1 or hr_mod % scale):
        raise ValueError(f"evaluate: expected hr_mod to be a multiple of {scale}, got {hr_mod}")
    if (order != "largest" or mask != "predicted") and not selects_patches(net):
        raise ValueError("evaluate: order and mask need a network that selects patches")
    if not refine and not routes_pixels(net):
        raise ValueError("evaluate: refine=False needs a network that routes pixels")


def _choice(
    net: nn.Module, k: int | float | str, budget: float | None, dataset: str
) -> dict[str, Any]:
    """k and budget as keyword arguments for the network; empty for one that does not choose."""
    if budget is not None:
        if k != "paper":
            raise ValueError(f"evaluate: expected k or budget, got both (k={k}, budget={budget})")
        check_choice(net, None, budget)
        return {"budget": budget}
    if routes_pixels(net):
        return _routing(k)
    if k == "paper":
        if not selects_patches(net):
            return {}
        return {"k": PAPER_K.get(dataset.lower(), PAPER_K_ELSEWHERE)}
    if k == "all":
        choice: dict[str, Any] = {"k": _ALL}
    elif isinstance(k, str):
        raise ValueError(f"evaluate: expected k 'paper', 'all', an int or a fraction, got {k!r}")
    else:
        choice = {"budget": k} if isinstance(k, float) else {"k": k}
    check_choice(net, choice.get("k"), choice.get("budget"))
    return choice


def _routing(k: int | float | str) -> dict[str, Any]:
    """k as keyword arguments of a network that routes pixels."""
    if isinstance(k, str):
        words: dict[str, dict[str, Any]] = {
            "paper": {"k": 0.0},
            "all": {"budget": 1.0},
            "adaptive": {"adaptive": True},
        }
        if k not in words:
            raise ValueError(
                f"evaluate: expected k 'paper', 'all', 'adaptive' or a number, got {k!r}"
            )
        return words[k]
    check_routing(k, False, None)
    return {"k": float(k)}


def _load(
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


def _route(
    upscaler: Upscaler, lr: Tensor, options: dict[str, Any]
) -> tuple[Tensor, dict[str, Any]]:
    """SR of one image, the share of its pixels that was heavy, and what they cost."""
    net: Any = upscaler.net
    out = upscaler.run(lr, **options, return_details=True)
    cost = routed_complexity(net, (lr.shape[-2], lr.shape[-1]), out.class_counts()[0].tolist())
    heavy = float(out.heavy_fraction()[0])
    used = {"heavy_fraction": heavy, "paper_flops": cost.paper_flops, "macs": cost.macs}
    return out.sr, {"k_used": None, **used}


def _cost(net: nn.Module, lr: Tensor) -> dict[str, Any]:
    """What one image costs a network that computes everything everywhere."""
    if selects_patches(net) or has_sparse_masks(net):
        return {}
    cost = complexity(net, (lr.shape[-2], lr.shape[-1]))
    return {"paper_flops": cost.paper_flops, "macs": cost.macs}


def _super_resolve(
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
    out = upscaler.run(lr, k=_ALL, return_details=True)
    from sparsesr.nn import effective_k
    from sparsesr.ops import select_patches

    block = net.scale * net.patch_size
    scores = error_mask(out.sr, out.coarse, block)
    gh, gw = scores.shape[-2:]
    k_used = effective_k(choice.get("k"), choice.get("budget"), gh, gw, net.k)
    index = select_patches(scores[:, 0], k_used, order, generator)
    return composite(out.coarse, out.sr, index, (gh, gw), block), {"k_used": k_used}
