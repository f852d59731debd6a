"""Loss terms of MGA's steps and of PCSR's.

Terms of a whole batch (`min_max`, `balance`) are taken over the batches of all processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from sparsesr.metrics import LUMA
from sparsesr.nn import selects_patches
from sparsesr.ops import gather_patches, patch_grid
from sparsesr.train import processes


def l1(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference, a scalar."""
    return F.l1_loss(prediction, target)


def min_max(x: torch.Tensor) -> torch.Tensor:
    """(x - min) / (max - min) over all elements; a constant x gives zeros."""
    return _stretch(x, *torch.aminmax(x))


def min_max_of_all(x: torch.Tensor) -> torch.Tensor:
    """As `min_max`, over the elements of every process: all of them must call it."""
    return _stretch(x, *processes.extremes(*torch.aminmax(x)))


def _stretch(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    span = high - low
    # Division by a span of one, not by zero: x - low is zero everywhere then.
    return (x - low) / torch.where(span > 0, span, torch.ones_like(span))


def balance(probabilities: torch.Tensor) -> torch.Tensor:
    """How unevenly pixels are spread over samplers: mean over j of |sum p_j - n/M| / (n/M).

    Args:
        probabilities: [B,M,...], n pixels in all.
    Returns:
        A scalar: 0 where every sampler gets the same, 2 - 2/M where one gets all.
    Source: PCSR, eq. 7, in the scale of the released code for M = 2.
    """
    sums = processes.mean(probabilities.transpose(0, 1).flatten(1).mean(1))
    return (sums * len(sums) - 1).abs().mean()


Normalise = Callable[[torch.Tensor], torch.Tensor]


def mask_target(
    refined: torch.Tensor, coarse: torch.Tensor, cell: int, normalise: Normalise = min_max
) -> torch.Tensor:
    """What the mask module learns: where refinement changes the luma, per patch, in [0,1].

    D = |Y(refined) - Y(coarse)|, min-max over the batch; its mean over each cell x cell block,
    min-max over the batch again. A constant D gives zeros.

    Args:
        refined, coarse: [B,3,sH,sW] in [0,1]; cell: scale times patch size, dividing sH and sW.
        normalise: `min_max_of_all` where the batch is spread over processes.
    Returns:
        [B,1,sH/cell,sW/cell] float32.
    Raises:
        ValueError: sides that `cell` does not divide.
    Source: MGA, step 3 of the training (the released mask training).
    """
    height, width = refined.shape[-2:]
    if height % cell or width % cell:
        raise ValueError(
            f"mask_target: expected sides divisible by {cell} (scale times patch size), "
            f"got {height}x{width}: choose lr_crop as a multiple of the patch size"
        )
    weights = torch.tensor(LUMA, device=refined.device).view(1, 3, 1, 1) / 255
    luma = ((refined.float() - coarse.float()) * weights).sum(1, keepdim=True)
    return normalise(F.avg_pool2d(normalise(luma.abs()), cell))


def mask_sample(
    net: Any, lr: torch.Tensor, normalise: Normalise = min_max
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the mask module sees and should say for `lr` [B,3,h,w]: feature [B,C,h,w], target T.

    `net`: a `SparseRefine`; all its patches are refined. The patch size must divide h and w.
    `normalise`: as in `mask_target`.
    """
    coarse, feature = net.coarse_and_feature(lr)
    rows, columns = patch_grid(lr.shape[-2], lr.shape[-1], net.patch_size)
    index = torch.arange(rows * columns, dtype=torch.int32, device=lr.device)
    index = index.expand(lr.shape[0], -1).contiguous()
    refined = net.paste(coarse, net.refine_selected(feature, index), index)
    return feature, mask_target(refined, coarse, net.scale * net.patch_size, normalise)


def every_patch(net: Any) -> dict[str, float]:
    """Arguments with which a network of an MGA stage refines all patches, a mask or none."""
    return {"budget": 1.0} if selects_patches(net) else {}


def blended(net: Any, lr: torch.Tensor, budget: float) -> tuple[torch.Tensor, torch.Tensor]:
    """SR and coarse image [B,3,sh,sw] such that the SR loss reaches the mask module.

    The patches with the largest scores m enter as coarse + m (refined - coarse); their choice has
    no gradient. The paper does not say how its E2E and "w/o S" forms (Table 4) do it.

    Args:
        net: a `SparseRefine` with a mask. lr: [B,3,h,w].
        budget: share of the patches, in (0, 1].
    """
    coarse, feature = net.coarse_and_feature(lr)
    scores = net.score(feature)
    k = net.patch_count((lr.shape[-2], lr.shape[-1]), budget=budget)
    index = net.select(scores.detach(), k)
    before = gather_patches(coarse, index, net.scale * net.patch_size)
    weight = scores.flatten(1).gather(1, index.long()).reshape(-1, 1, 1, 1)
    patches = torch.lerp(before, net.refine_selected(feature, index), weight)
    return net.paste(coarse, patches, index), coarse
