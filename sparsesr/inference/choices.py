"""Which patches or pixels an evaluation computes, and under which options."""

from __future__ import annotations

from typing import Any

from torch import nn

from sparsesr.inference.upscaler import check_choice
from sparsesr.nn import check_routing, has_sparse_masks, routes_pixels, selects_patches

# The patches MGA refines per image: its code says 240 for the small sets, 1000 elsewhere.
PAPER_K = {"set5": 240, "set14": 240, "b100": 240, "bsd100": 240, "bsds100": 240}
PAPER_K_ELSEWHERE = 1000

# Shares of the patches or pixels that words stand for.
QUALITY = {"draft": 0.10, "balanced": 0.25, "full": 1.0}

# What PSNR and SSIM are taken of, by the names of the conventions.
CONVENTIONS = {
    "y": "Y of MATLAB rgb2ycbcr, 8-bit rounded, border {scale} cropped",
    "rgb": "RGB, 8-bit rounded, border {scale} cropped",
    "pcsr": "PCSR's: RGB, float LR, LR cropped to 28 n + 32, 8-bit rounded, border {scale} cropped",
}

ALL = 2**31 - 1  # models clamp k to the number of patches


def check_options(
    net: nn.Module,
    scale: int,
    convention: str,
    order: str,
    mask: str,
    hr_mod: int | None,
    refine: bool,
) -> None:
    """ValueError for a word, a scale or a combination that ``evaluate`` does not know."""
    for name, value, allowed in (
        ("convention", convention, tuple(CONVENTIONS)),
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


def choice_of(
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
        choice: dict[str, Any] = {"k": ALL}
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


def tells_in_details(net: nn.Module) -> bool:
    """Whether only the details of a call tell how much of the image was computed."""
    return has_sparse_masks(net) or routes_pixels(net)


def k_shown(choice: dict[str, Any]) -> Any:
    """The "k" of a document: an int, an exponent, "all", "adaptive" or None."""
    if choice.get("adaptive"):
        return "adaptive"
    return "all" if choice == {"k": ALL} else choice.get("k")


def unusual_options(
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
