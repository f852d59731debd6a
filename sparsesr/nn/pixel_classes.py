"""Which class a pixel is given: three rules on the classifier's logits.

Classes are numbered by rising cost. The first half of them is light, the others are heavy (the
middle one of an odd number too).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import ops

_ROUNDS = 20  # of k-means, counting the one that places everything in one cluster
_TOLERANCE = 1e-4  # of the sum of squared shifts of the centroids


def first_heavy_class(classes: int) -> int:
    """The lightest of the heavy classes, the floor((M + 1) / 2) costliest.

    Example:
        >>> [first_heavy_class(m) for m in (1, 2, 3, 4)]
        [0, 1, 1, 2]
    """
    return classes - (classes + 1) // 2


def classes_by_cost(logits: Tensor, costs: Sequence[float], k: float) -> Tensor:
    """argmax_j p_j / cost_j^k, the lightest of equals (PCSR, eq. 10).

    Args:
        logits: [B, M, H, W]. costs: M positive numbers. k: 0 takes the likeliest class; the larger,
            the more pixels are light; negative, the more are heavy.

    Returns:
        [B, H, W] uint8.

    Example:
        >>> logits = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
        >>> [int(classes_by_cost(logits, [0.25, 0.75], k)) for k in (0, 0.9, 1)]
        [1, 1, 0]
    """
    best = logits[:, 0]
    chosen = torch.zeros_like(best, dtype=torch.uint8)
    for j in range(1, len(costs)):
        score = logits[:, j] - k * math.log(costs[j] / costs[0])
        better = score > best
        chosen = chosen.masked_fill(better, j)
        best = torch.where(better, score, best)
    return chosen


def classes_by_budget(logits: Tensor, budget: float) -> Tensor:
    """The ceil(budget * H * W) pixels of each image that are likeliest heavy; equals in order.

    Among the heavy classes, and among the light ones, the likeliest is taken.

    Args:
        logits: [B, M, H, W]. budget: in [0, 1].

    Returns:
        [B, H, W] uint8.
    """
    batch, classes, height, width = logits.shape
    heavy = first_heavy_class(classes)
    count = heavy_pixels(budget, height * width)
    light_class, heavy_class = _likeliest(logits, 0, heavy), _likeliest(logits, heavy, classes)
    index = ops.select_patches(_margin(logits), count)
    chosen = torch.zeros(batch, height * width, dtype=torch.bool, device=logits.device)
    chosen = chosen.scatter(1, index.long(), True)
    return torch.where(chosen.view(batch, height, width), heavy_class, light_class)


def heavy_pixels(budget: float, pixels: int) -> int:
    """ceil(budget * pixels)."""
    # 0.15 * 100 is 15.000000000000002 in floating point; that is still 15 pixels.
    return min(math.ceil(round(budget * pixels, 6)), pixels)


def classes_adaptively(logits: Tensor) -> Tensor:
    """ADM: the pixels of each image in M clusters by difficulty, found by exact 1-D k-means.

    The difficulty is the probability of the heavy classes, stretched to [0, 1] over the image. Two
    clusters start with all pixels in one and the other at 0, as the released code does; more start
    evenly spread. Centroids move until the squares of their shifts sum to at most 1e-4, at most 20
    times; clusters are those before the last move. An image of one difficulty is light throughout.

    Args:
        logits: [B, M, H, W].

    Returns:
        [B, H, W] uint8.

    Source: PCSR (Jeong et al., ECCV 2024), adaptive decision making.
    """
    batch, classes, height, width = logits.shape
    difficulty = _margin(logits).float().sigmoid().flatten(1)
    low, high = difficulty.amin(1, keepdim=True), difficulty.amax(1, keepdim=True)
    flat = high <= low
    difficulty = (difficulty - low) / torch.where(flat, 1, high - low)
    borders = _borders(difficulty, classes)
    chosen = torch.zeros_like(difficulty, dtype=torch.uint8)
    for border in borders.unbind(1):
        chosen = chosen + (difficulty >= border[:, None]).to(torch.uint8)
    return chosen.masked_fill(flat, 0).view(batch, height, width)


def _borders(values: Tensor, clusters: int) -> Tensor:
    """The M - 1 borders between the clusters of ``values`` [B, n] in [0, 1]: [B, M-1] float64."""
    values = values.sort(1).values.double()
    sums = torch.nn.functional.pad(values.cumsum(1), (1, 0))
    centroids = _start(values, sums, clusters)
    borders = _midpoints(centroids)
    settled = torch.zeros(len(values), 1, dtype=torch.bool, device=values.device)
    for _ in range(_ROUNDS - 1):
        between = _midpoints(centroids)
        borders = torch.where(settled, borders, between)
        ends = torch.searchsorted(values, between)  # how many values lie below
        ends = torch.nn.functional.pad(ends, (1, 0))
        ends = torch.nn.functional.pad(ends, (0, 1), value=values.shape[1])
        count = ends.diff(dim=1)
        means = sums.gather(1, ends).diff(dim=1) / count.clamp(min=1)
        means = means if clusters == 2 else torch.where(count > 0, means, centroids)
        shift = (means - centroids).square().sum(1, keepdim=True)
        centroids = torch.where(settled, centroids, means)
        settled = settled | (shift <= _TOLERANCE)
    return borders


def _start(values: Tensor, sums: Tensor, clusters: int) -> Tensor:
    if clusters == 2:
        mean = sums[:, -1:] / values.shape[1]
        return torch.cat([torch.zeros_like(mean), mean], dim=1)
    step = torch.arange(clusters, device=values.device, dtype=torch.float64)
    return ((step + 0.5) / clusters).expand(len(values), clusters)


def _midpoints(centroids: Tensor) -> Tensor:
    return (centroids[:, :-1] + centroids[:, 1:]) / 2


def _margin(logits: Tensor) -> Tensor:
    """Log-odds of the heavy classes, [B, H, W]."""
    heavy = first_heavy_class(logits.shape[1])
    if logits.shape[1] == 2:
        return logits[:, 1] - logits[:, 0]
    return logits[:, heavy:].logsumexp(1) - logits[:, :heavy].logsumexp(1)


def _likeliest(logits: Tensor, first: int, end: int) -> Tensor:
    return classes_by_cost(logits[:, first:end], [1.0] * (end - first), 0) + first
