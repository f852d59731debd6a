"""How well a mask predicts what refinement changes, and how little that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsesr.inference.choices import ALL, check_options
from sparsesr.inference.evaluation import Progress, display_name, load_images, means
from sparsesr.inference.upscaler import Upscaler, backend_choice
from sparsesr.io import to_array
from sparsesr.metrics import rgb_to_y
from sparsesr.nn import selects_patches

PAPER_MASK_L1 = 0.0346  # MGA, figure 6
BINS_PER_LEVEL = 4
LEVELS = 256


@dataclass(frozen=True)
class MaskComparison:
    """What a mask said of one image, and what refinement did to it.

    Attributes:
        name: of the image.
        coarse: the Base-Net's image [h, w, 3] uint8.
        target: what the mask is taught, T in [0, 1], normalised in this image, [Gh, Gw] float32.
        predicted: what it says, M, unbounded, [Gh, Gw] float32.
        change: |refined - coarse| on Y, 0..255, not rounded, [h, w] float32.
    """

    name: str
    coarse: np.ndarray
    target: np.ndarray
    predicted: np.ndarray
    change: np.ndarray

    @property
    def l1(self) -> float:
        """Mean |M - T| over the patches."""
        return float(np.abs(self.predicted - self.target).mean(dtype=np.float64))

    def row(self) -> dict[str, Any]:
        """{"name", "mask_l1", "zero_mask_l1", "unchanged"}.

        "zero_mask_l1" is the error of a mask that says 0 everywhere, the mean of T; "unchanged" the
        share of the pixels that change by less than one level of 255.
        """
        return {
            "name": self.name,
            "mask_l1": self.l1,
            "zero_mask_l1": float(self.target.mean(dtype=np.float64)),
            "unchanged": float((self.change < 1).mean(dtype=np.float64)),
        }

    def histogram(self) -> np.ndarray:
        """Pixels by change, [1024] int64: four bins to a level, the first from 0."""
        return np.histogram(self.change, LEVELS * BINS_PER_LEVEL, (0, LEVELS))[0]


def compare_masks(
    net: nn.Module,
    root: str | Path,
    scale: int,
    hr_mod: int | None = None,
    backend: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Iterator[MaskComparison]:
    """The mask of a network beside its ground truth, image by image.

    LR images are cropped at the bottom right to whole patches, which the ground truth needs.

    Args:
        net: a model that selects patches; every patch is refined here.
        root, scale, hr_mod, backend, device, progress: as in ``evaluate``.

    Raises:
        ValueError: a network without a mask, an image smaller than a patch; as ``evaluate``.

    Source: MGA (Hu et al., ECCV 2022), figures 2 and 6; the target is that of its training.
    """
    if not selects_patches(net):
        name = getattr(net, "model_name", type(net).__name__)
        raise ValueError(f"mask error: {name} has no mask of patches; expected an -mga network")
    check_options(net, scale, "y", "largest", "predicted", hr_mod, True)
    from sparsesr.data import paired_images

    pairs = paired_images(root, scale)
    upscaler = Upscaler(net, backend=backend, device=device)
    for i, pair in enumerate(pairs):
        lr, _ = load_images(pair, scale, "y", hr_mod)
        yield _compare(upscaler, lr, pair.name)
        if progress is not None:
            progress(i + 1, len(pairs), pair.name)


def _compare(upscaler: Upscaler, lr: Tensor, name: str) -> MaskComparison:
    from sparsesr.train.losses import mask_target

    net: Any = upscaler.net
    p = net.patch_size
    height, width = (side // p * p for side in lr.shape[-2:])
    if min(height, width) == 0:
        raise ValueError(
            f"mask error: expected LR images of at least {p}x{p} pixels, a patch; {name} has "
            f"{lr.shape[-1]}x{lr.shape[-2]}"
        )
    out = upscaler.run(lr[..., :height, :width], k=ALL, return_details=True)
    with torch.inference_mode(), backend_choice(upscaler.backend):
        target = mask_target(out.sr, out.coarse, net.scale * p)
        change = (rgb_to_y(out.sr.float()) - rgb_to_y(out.coarse.float())).abs()
    return MaskComparison(
        name,
        to_array(out.coarse),
        target[0, 0].cpu().numpy(),
        out.mask[0, 0].float().cpu().numpy(),
        change[0, 0].cpu().numpy(),
    )


def mask_error_document(
    net: nn.Module, scale: int, root: str | Path, rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """{"model", "scale", "dataset", "paper_mask_l1", "mean", "images"} from rows of comparisons."""
    return {
        "model": display_name(net, scale),
        "scale": scale,
        "dataset": Path(root).resolve().name,
        "paper_mask_l1": PAPER_MASK_L1,
        "mean": means(list(rows)),
        "images": list(rows),
    }
