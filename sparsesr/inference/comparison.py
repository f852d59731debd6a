"""One image made in every way a network can make it, side by side, enlarged where they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsesr.inference.choices import ALL, CONVENTIONS, tells_in_details
from sparsesr.inference.upscaler import Upscaler, round_to_array
from sparsesr.metrics import LUMA, imresize, rgb_to_y
from sparsesr.models import MaskedNet
from sparsesr.nn import has_sparse_masks, routes_pixels, selects_patches
from sparsesr.nn.sparse_refine import check_image
from sparsesr.ops import patch_grid
from sparsesr.viz.compare import Crop, comparison_picture, crop_size, shown_size, zoom_of

_CROPS = 3
_ROWS = 64  # compared at a time, so that large images need no copies of their size
_WEIGHTS = np.array([round(1000 * weight) for weight in LUMA], np.int32)  # sums are exact


@dataclass(frozen=True)
class Panel:
    """One way to make the image.

    Attributes:
        name: bicubic, coarse, sparse, dense; without masks; light, routed, heavy; original.
        detail: what was spent, such as "k 256 of 1,024 (25 %)"; may be empty.
        image: [H, W, 3] uint8.
        psnr: dB on Y as ``metrics.psnr`` takes it; None without HR, of HR, or where the border
            leaves no pixel.
    """

    name: str
    detail: str
    image: np.ndarray
    psnr: float | None = None

    @property
    def label(self) -> str:
        """Name, detail and quality in a line."""
        words = f"{self.name}: {self.detail}" if self.detail else self.name
        return words if self.psnr is None else f"{words}, {self.psnr:.2f} dB"


def compare(
    upscaler: Upscaler,
    lr: Tensor,  # [1, 3, H, W] floating in [0, 1]
    result: Any = None,
    hr: Tensor | None = None,  # [1, 3, sH, sW] floating in [0, 1]
) -> np.ndarray:
    """A picture of what ``comparison_panels`` gives: whole above, crops enlarged below.

    Up to three crops that do not overlap show where the chosen result differs most, on Y, from the
    coarse (light) image; from the bicubic one where there is none or it is the same. An image of
    a few pixels is shown enlarged itself and has no crops; a large one is reduced to 640 pixels.

    Args:
        upscaler, lr, result, hr: as in ``comparison_panels``.

    Returns:
        [h, w, 3] uint8, labels in it; with ``hr`` they give the PSNR, and a line its convention.

    Raises:
        TypeError, ValueError: as ``comparison_panels``.

    Example:
        >>> import sparsesr, torch
        >>> up = sparsesr.Upscaler(sparsesr.create_model("fsrcnn-mga", scale=2), k=9)
        >>> picture = compare(up, torch.rand(1, 3, 24, 32))
        >>> picture.dtype, picture.shape[2]
        (dtype('uint8'), 3)
    """
    panels = comparison_panels(upscaler, lr, result, hr)
    size = (panels[0].image.shape[0], panels[0].image.shape[1])
    pair, crops = _crops(panels)
    note = _note(upscaler, lr, panels, hr is not None)
    if crops:
        note += (
            f" Frames: where {pair[0]} and {pair[1]} differ most, "
            f"enlarged {zoom_of(size, crops[0])} times."
        )
    return comparison_picture([(panel.label, panel.image) for panel in panels], crops, note)


def comparison_panels(
    upscaler: Upscaler,
    lr: Tensor,  # [1, 3, H, W] floating in [0, 1]
    result: Any = None,
    hr: Tensor | None = None,  # [1, 3, sH, sW] floating in [0, 1]
) -> list[Panel]:
    """The image enlarged bicubically and by the network, from the cheapest to the dearest way.

    bicubic | coarse | sparse | dense for a network that selects patches, bicubic | light | routed |
    heavy for one that routes pixels, bicubic | sparse | without masks for one of masked modules,
    bicubic | dense for any other; last the original, if it is given.

    Args:
        upscaler: runs the network; its k or budget is that of the sparse or routed image. Its
            ``progress`` hears nothing of the other images.
        lr: any H, W.
        result: what ``upscaler.run(lr)`` returned, with or without details; None to run it here.
        hr: the original.

    Returns:
        Panels of one size, 8-bit rounded.

    Raises:
        TypeError: ``lr`` or ``hr`` not a floating tensor.
        ValueError: ``lr`` not [1, 3, H, W], ``hr`` or the result of another size than expected,
            NaN or infinite values.
    """
    check_image(lr)
    if lr.shape[0] != 1:
        raise ValueError(f"compare: expected lr [1, 3, H, W], got {tuple(lr.shape)}")
    original = None if hr is None else _checked(upscaler, lr, "hr", hr)
    if result is None:
        details = tells_in_details(upscaler.net)
        result = upscaler.run(lr, **({"return_details": True} if details else {}))
    sr = _checked(upscaler, lr, "result", result if isinstance(result, Tensor) else result.sr)
    size = (sr.shape[-2], sr.shape[-1])
    panels = [Panel("bicubic", "", bicubic(lr, size)), *_forms(upscaler, lr, result)]
    if original is None:
        return panels
    truth = round_to_array(original)
    border = _border(lr, size)
    measured = [replace(panel, psnr=_psnr(panel.image, truth, border)) for panel in panels]
    return [*measured, Panel("original", "", truth)]


def _checked(upscaler: Upscaler, lr: Tensor, name: str, image: Tensor) -> Tensor:
    """``image``, a floating tensor of the size that the upscaler makes of ``lr``."""
    if not isinstance(image, Tensor) or not image.is_floating_point():
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"compare: expected {name} as a floating tensor in [0, 1], got {kind}")
    net: Any = upscaler.net
    scale = net.scale if upscaler.scale is None else upscaler.scale
    shape = (1, 3, *(round(side * scale) for side in lr.shape[-2:]))
    if tuple(image.shape) != shape:
        hint = "; crop HR to scale * LR from the top left" if name == "hr" else ""
        raise ValueError(f"compare: expected {name} {shape}, got {tuple(image.shape)}{hint}")
    return image


def _border(lr: Tensor, size: tuple[int, int]) -> int:
    """The scale, rounded up: what PSNR leaves out on every side."""
    return math.ceil(max(size[0] / lr.shape[-2], size[1] / lr.shape[-1]))


def bicubic(lr: Tensor, size: tuple[int, int]) -> np.ndarray:
    """``lr`` [1, 3, h, w] enlarged to ``size`` by ``metrics.imresize``, [H, W, 3] uint8.

    One channel at a time: the resize of a large image needs several copies of it.
    """
    image = np.empty((*size, 3), np.uint8)
    for channel in range(3):
        plane = imresize(lr[:, channel : channel + 1].float().cpu(), size=size)
        image[..., channel] = plane.clamp(0, 1).mul(255).add_(0.5).floor_()[0, 0].numpy()
    return image


def _forms(upscaler: Upscaler, lr: Tensor, result: Any) -> Iterator[Panel]:
    """What the network makes of the image; only the 8-bit image of each is kept."""
    net: Any = upscaler.net
    sr: Tensor = result if isinstance(result, Tensor) else result.sr
    if selects_patches(net):
        rows, cols = patch_grid(lr.shape[-2], lr.shape[-1], net.patch_size)
        cells = rows * cols
        count = net.patch_count((lr.shape[-2], lr.shape[-1]), **upscaler.chosen())
        share = f"k {count:,} of {cells:,} ({_percent(count / cells)})"
        chosen = round_to_array(sr)
        del sr, result
        yield Panel("coarse", "k 0", chosen if count == 0 else _run(upscaler, lr, k=0))
        yield Panel("sparse", share, chosen)
        whole = chosen if count == cells else _run(upscaler, lr, k=ALL)
        yield Panel("dense", "k all", whole)
    elif routes_pixels(net):
        yield Panel("light", "every pixel", _run(upscaler, lr, budget=0.0))
        yield Panel("routed", _routed(upscaler, result), round_to_array(sr))
        yield Panel("heavy", "every pixel", _run(upscaler, lr, budget=1.0))
    elif has_sparse_masks(net):
        computed = None if isinstance(result, Tensor) else 1 - float(result.sparsity()[0])
        share = "" if computed is None else f"{_percent(computed)} computed"
        yield Panel("sparse", share, round_to_array(sr))
        if isinstance(net, MaskedNet):
            yield Panel("without masks", "", _run(upscaler, lr, masked=False))
    else:
        yield Panel("dense", "", round_to_array(sr))


def _run(upscaler: Upscaler, lr: Tensor, **options: Any) -> np.ndarray:
    """Another call, which is none of the progress that is shown."""
    with upscaler.silent():
        return round_to_array(upscaler.run(lr, **options))


def _routed(upscaler: Upscaler, result: Any) -> str:
    """What chose the classes, and the share of the heavy pixels if ``result`` has it."""
    choice = upscaler.chosen()
    if not isinstance(result, Tensor):
        heavy = f"{_percent(float(result.heavy_fraction()[0]))} heavy"
        return f"k {choice['k']:g}, {heavy}" if "k" in choice else heavy
    if "budget" in choice:
        return f"{_percent(choice['budget'])} heavy"
    return f"k {choice.get('k', 0):g}"


def _percent(share: float) -> str:
    return f"{100 * share:.{1 if 0 < share < 0.01 else 0}f} %"


def _psnr(image: np.ndarray, original: np.ndarray, border: int) -> float | None:
    """``metrics.psnr`` on Y of 8-bit images, some rows at a time; None if no pixel is left."""
    rows, cols = (side - 2 * border for side in image.shape[:2])
    if min(rows, cols) < 1:
        return None
    total = 0.0
    inside = (slice(border, border + rows), slice(border, border + cols))
    one, other = image[inside], original[inside]
    for top in range(0, rows, _ROWS):
        error = _luma(one[top : top + _ROWS]) - _luma(other[top : top + _ROWS])
        total += float(error.square().sum())
    mse = total / (rows * cols)
    return math.inf if mse == 0 else 10 * math.log10(255.0**2 / mse)


def _luma(rows: np.ndarray) -> Tensor:
    return rgb_to_y(torch.from_numpy(rows.transpose(2, 0, 1).astype(np.float64) / 255))


def _crops(panels: Sequence[Panel]) -> tuple[tuple[str, str], list[Crop]]:
    """The names of the panels compared, and where they differ most."""
    images = {panel.name: panel for panel in panels}
    chosen = next(images[name] for name in ("sparse", "routed", "dense") if name in images)
    size = crop_size(chosen.image.shape[0], chosen.image.shape[1])
    crops: list[Crop] = []
    other = chosen
    for name in ("coarse", "light", "bicubic"):
        if size is not None and name in images and not crops:
            other = images[name]
            crops = most_different(chosen.image, other.image, size, _CROPS)
    return (chosen.name, other.name), crops


def most_different(
    one: np.ndarray,  # [H, W, 3] uint8
    other: np.ndarray,
    size: tuple[int, int],
    count: int,
) -> list[Crop]:
    """Where two images differ most on Y in the mean over a crop, the greatest difference first.

    Places are searched in steps of an eighth of the crop's shorter side; of equal ones the first,
    row by row, is taken. Crops do not overlap, and lie half a crop apart where there is room.

    Args:
        one, other: of one size.
        size: height and width of the crops in pixels, at most the images'.
        count: how many at most; places without any difference are left out.

    Returns:
        (top, left, height, width) of each.
    """
    rows, cols = size
    step = max(1, min(size) // 8)
    sums = _window_sums(_cell_sums(one, other, step), rows // step, cols // step)
    sums = sums[: (one.shape[0] - rows) // step + 1, : (one.shape[1] - cols) // step + 1]
    down = step * np.arange(sums.shape[0])[:, None]
    right = step * np.arange(sums.shape[1])[None]
    crops: list[Crop] = []
    for apart in (1.5, 1.0):
        free = sums.copy()
        for top, left, *_ in crops:
            _take(free, down, right, (top, left), (apart * rows, apart * cols))
        while len(crops) < count and free.max(initial=0) > 0:
            i, j = np.unravel_index(int(free.argmax()), free.shape)
            crops.append((step * int(i), step * int(j), rows, cols))
            _take(free, down, right, crops[-1][:2], (apart * rows, apart * cols))
    return crops


def _take(
    free: np.ndarray,
    down: np.ndarray,
    right: np.ndarray,
    at: tuple[int, int],
    apart: tuple[float, float],
) -> None:
    """Rule out the places that are nearer to ``at`` than ``apart`` on both axes."""
    free[(abs(down - at[0]) < apart[0]) & (abs(right - at[1]) < apart[1])] = 0


def _cell_sums(one: np.ndarray, other: np.ndarray, step: int) -> np.ndarray:
    """|difference on Y| summed over cells of ``step`` pixels, whole cells only; int64."""
    rows, cols = one.shape[0] // step, one.shape[1] // step
    cells = np.zeros((rows, cols), np.int64)
    band = max(1, _ROWS // step)
    for top in range(0, rows, band):
        part = slice(top * step, min(top + band, rows) * step)
        change = one[part, : cols * step].astype(np.int32) - other[part, : cols * step]
        luma = np.abs(change @ _WEIGHTS).astype(np.int64)
        cells[top : top + band] = luma.reshape(-1, step, cols, step).sum((1, 3))
    return cells


def _window_sums(cells: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Sums over every window of ``rows`` x ``cols`` cells."""
    corner = np.pad(cells.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    bands = corner[rows:] - corner[:-rows]
    return bands[:, cols:] - bands[:, :-cols]


def _note(upscaler: Upscaler, lr: Tensor, panels: Sequence[Panel], measured: bool) -> str:
    net = upscaler.net
    height, width = panels[0].image.shape[:2]
    name = getattr(net, "model_name", type(net).__name__.lower())
    border = _border(lr, (height, width))
    note = f"{name}: {lr.shape[-1]}x{lr.shape[-2]} to {width}x{height} pixels"
    shown = shown_size(height, width)
    note += f", shown at {shown[1]}x{shown[0]}." if shown < (height, width) else "."
    if measured and panels[0].psnr is not None:
        note += f" PSNR on {CONVENTIONS['y'].format(scale=border)}."
    elif measured:
        note += f" Too small for PSNR: no pixel is left inside a border of {border}."
    return note
