"""Which pixels each module computed, drawn over the image."""

from __future__ import annotations

import numpy as np

from sparsesr.viz.mask_overlay import dimmed
from sparsesr.viz.strip import comparison_strip

_COLUMNS = 3


def pixel_masks(
    image: np.ndarray,  # [H, W, 3] uint8
    masks: np.ndarray,  # [N, h, w] bool
    name: str = "SMM",
) -> np.ndarray:
    """The image, and once for every module with what its mask selects bright and the rest dimmed.

    Args:
        image: [H, W, 3] uint8.
        masks: one per module, [N, h, w] bool; an LR mask is enlarged by repeating pixels.
        name: of a module, before its number.

    Returns:
        [h', w', 3] uint8: panels three in a row, each labelled with its share of active pixels.

    Raises:
        TypeError: an image that is not uint8, masks that are not bool.
        ValueError: shapes that do not match.

    Source: SMSR (Wang et al., CVPR 2021), supplement, figure V.
    """
    image, masks = np.asarray(image), np.asarray(masks)
    if image.dtype != np.uint8 or masks.dtype != np.bool_:
        raise TypeError(
            f"pixel_masks: expected a uint8 image and bool masks, got {image.dtype} and "
            f"{masks.dtype}"
        )
    if image.ndim != 3 or image.shape[2] != 3 or masks.ndim != 3:
        raise ValueError(
            f"pixel_masks: expected image [H, W, 3] and masks [N, h, w], got {image.shape} and "
            f"{masks.shape}"
        )
    factor = image.shape[0] // max(1, masks.shape[1])
    shown = masks.repeat(factor, 1).repeat(factor, 2)
    if shown.shape[1:] != image.shape[:2]:
        raise ValueError(
            f"pixel_masks: no whole factor brings masks of {masks.shape[1:]} to the image's "
            f"{image.shape[:2]} pixels"
        )
    panels = [
        (f"{name}{i + 1}: {100 * mask.mean():.0f} % active", dimmed(image, mask))
        for i, mask in enumerate(shown)
    ]
    return comparison_strip([("result; bright is computed", image), *panels], columns=_COLUMNS)
