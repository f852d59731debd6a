"""``select_patches``: the k best scores of every mask, as ascending patch indices."""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import check_k, check_map
from ._library import define

ORDERS = ("largest", "random", "smallest")


def select_patches(
    mask: Tensor,  # [B, Gh, Gw]
    k: int,
    order: str = "largest",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Indices of the k patches with the largest scores, in ascending order.

    Scores are compared as float32; -0 equals +0; ties go to the lower index; NaN ranks last in
    every order. Nothing waits for the device. Not differentiable (indices).

    Args:
        mask: scores [B, Gh, Gw], float32, bfloat16, float16 or float64.
        k: patches per image, 0 <= k <= Gh*Gw.
        order: "largest", "smallest", or "random" (scores are ignored; MGA, Table 7).
        generator: source of the random order, on the device of ``mask``.

    Returns:
        index [B, k] int32.

    Raises:
        TypeError: ``mask`` or ``k`` of a wrong type.
        ValueError: a wrong rank, an unknown order, negative k, or k > Gh*Gw.

    Example:
        >>> select_patches(torch.tensor([[[0.1, 0.9], [0.9, 0.5]]]), k=2)
        tensor([[1, 2]], dtype=torch.int32)
    """
    check_map("select_patches", "mask", mask, "[B,Gh,Gw]")
    k = check_k("select_patches", k, mask.shape[1] * mask.shape[2])
    mask, largest = ordered_scores("select_patches", mask, order, generator)
    return torch.ops.sparsesr.select_patches.default(mask, k, largest)


def ordered_scores(
    op: str, mask: Tensor, order: str, generator: torch.Generator | None
) -> tuple[Tensor, bool]:
    """``(scores, largest)`` that realise ``order``: a random order is the largest of noise."""
    if order not in ORDERS:
        raise ValueError(f"{op}: expected order 'largest', 'random' or 'smallest', got {order!r}")
    if order == "random":
        noise = torch.rand(mask.shape, generator=generator, device=mask.device)
        return noise, True
    return mask.detach(), order == "largest"


def _fake(mask: Tensor, k: int, largest: bool = True) -> Tensor:
    return mask.new_empty((mask.shape[0], k), dtype=torch.int32)


define("select_patches(Tensor mask, SymInt k, bool largest=True) -> Tensor", _fake)
