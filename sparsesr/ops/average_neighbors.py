"""``average_neighbors``: smooth the light pixels that lie beside heavy ones."""

from __future__ import annotations

import torch
from torch import Tensor

from . import reference
from ._checks import check_class_map, check_int, check_map
from ._layout import empty_like_format
from ._library import define
from ._recompute import define_recomputed_autograd


def average_neighbors(
    image: Tensor,  # [B, C, H, W]
    class_map: Tensor,  # [B, H, W]
    min_heavy: int = 1,
    first_heavy: int = 1,
) -> Tensor:
    """Light pixels with at least ``min_heavy`` heavy ones in their 3x3 take the mean of that 3x3.

    The nine values are those of ``image`` as it came, the pixel itself included. All other pixels,
    and the outermost frame of one pixel, are copied. Differentiable in ``image``, twice.

    Args:
        image: [B, C, H, W], float32, bfloat16, float16 or float64; any layout.
        class_map: class of each pixel, [B, H, W] uint8 on the device of ``image``.
        min_heavy: 1 to 8 for an effect; larger values copy.
        first_heavy: classes from this one on are heavy, those below it light.

    Returns:
        A fresh [B, C, H, W] in the memory format of ``image``.

    Raises:
        TypeError: a wrong type, dtype or device.
        ValueError: a wrong shape, ``min_heavy`` < 1 or ``first_heavy`` < 0.

    Source: PCSR (Jeong et al., ECCV 2024), pixel-wise refinement.

    Example:
        >>> image, classes = torch.zeros(1, 1, 3, 4), torch.zeros(1, 3, 4, dtype=torch.uint8)
        >>> image[..., 1, 1], classes[..., 0, 0] = 9, 1      # beside a heavy pixel
        >>> average_neighbors(image, classes)
        tensor([[[[0., 0., 0., 0.],
                  [0., 1., 0., 0.],
                  [0., 0., 0., 0.]]]])
    """
    op = "average_neighbors"
    check_map(op, "image", image)
    check_class_map(op, class_map, image, tuple(image.shape[-2:]))
    check_int(op, "min_heavy", min_heavy, 1)
    check_int(op, "first_heavy", first_heavy, 0)
    return torch.ops.sparsesr.average_neighbors.default(image, class_map, min_heavy, first_heavy)


def _fake(image: Tensor, class_map: Tensor, min_heavy: int, first_heavy: int) -> Tensor:
    return empty_like_format(tuple(image.shape), image)


define(
    "average_neighbors(Tensor image, Tensor class_map, int min_heavy, int first_heavy) -> Tensor",
    _fake,
)
define_recomputed_autograd("average_neighbors", reference.average_neighbors)
