"""The mean over the eight symmetries of the square."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SYMMETRIES = 8


def mean_over_symmetries(
    run: Callable[..., Any],
    lr: Tensor,  # [B, 3, H, W]
    options: dict[str, Any],
) -> Any:
    """The mean of what ``run(lr, options)`` makes of the image, mirrored and transposed, and back.

    Returns:
        The image, float32 at least; of an output with details ``sr`` is the mean and the rest that
        of the image as it is.

    Source: Timofte et al., "Seven ways to improve example-based single image super resolution",
    CVPR 2016 (there: enhanced prediction).
    """
    layout = torch.channels_last if lr.is_contiguous(memory_format=torch.channels_last) else None
    first: Any = None
    total: Any = None
    for i in range(SYMMETRIES):
        view = _mirrored(lr.transpose(2, 3) if i & 4 else lr, i)
        size = options.get("size")
        turned = {**options, "size": tuple(size)[::-1]} if size is not None and i & 4 else options
        out = run(view.contiguous(memory_format=layout or torch.contiguous_format), turned)
        sr = _mirrored(out if isinstance(out, Tensor) else out.sr, i)
        sr = sr.transpose(2, 3) if i & 4 else sr
        if i == 0:
            first, total = out, sr.to(torch.promote_types(sr.dtype, torch.float32), copy=True)
        else:
            total += sr
    total /= SYMMETRIES
    return total if isinstance(first, Tensor) else first._replace(sr=total)


def _mirrored(image: Tensor, which: int) -> Tensor:
    dims = [dim for bit, dim in ((1, 3), (2, 2)) if which & bit]
    return image.flip(dims) if dims else image
