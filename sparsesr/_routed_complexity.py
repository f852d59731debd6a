"""Cost of networks that route pixels: their encoder, and what each pixel's class costs."""

from __future__ import annotations

from collections.abc import Sequence

from sparsesr.nn import PixelRouter, PixelSampler
from sparsesr.nn.pixel_classes import heavy_pixels
from sparsesr.nn.pixel_router import sampler_operations


def class_counts(net: PixelRouter, pixels: int, budget: float | None) -> list[int]:
    """Pixels of each class: all in the costliest, or the budget there and the rest in the first."""
    heavy = pixels if budget is None else heavy_pixels(budget, pixels)
    return [pixels - heavy, *[0] * (net.classes - 2), heavy]


def routed_operations(
    net: PixelRouter,
    lr_pixels: int,
    counts: Sequence[int],
    encoder: tuple[int, int],
) -> tuple[int, int]:
    """``(macs, paper_flops)`` of one image.

    The paper counts every input of every sampler at every HR pixel. What is computed, and counted
    as ``macs``, is the feature's part of a first layer once for every LR pixel; tables of places do
    not count.

    Args:
        counts: HR pixels of each class. encoder: its (macs, paper_flops) on the LR image.
    """
    macs, flops = encoder
    pixels = sum(counts)
    for sampler, count in [(net.classifier, pixels), *zip(net.all_samplers, counts, strict=True)]:
        at_lr, at_hr = factored_macs(sampler)
        macs += at_hr * count + (at_lr * lr_pixels if count else 0)
        flops += sampler_operations(sampler) * count
    return macs, flops


def factored_macs(sampler: PixelSampler) -> tuple[int, int]:
    """Multiply-adds for one LR pixel, and for one HR pixel of the class."""
    first, *later = sampler.linears
    at_lr = sampler.channels * first.out_features
    return at_lr, sum(layer.weight.numel() for layer in later)
