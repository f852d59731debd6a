"""``Tiler``: an image whole or in tiles, and in smaller ones when memory is short."""

from __future__ import annotations

import gc
import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from sparsesr.nn import PixelRouter, SparseRefine, selects_patches
from sparsesr.ops import patch_grid

from .memory import CAREFUL, CPU_BOUND, available_memory, bytes_per_pixel, is_out_of_memory
from .tiled_plain import run_plain
from .tiled_refine import run_refined
from .tiled_routing import run_routed
from .tiling import KEPT_FEATURES, OVERLAP, SMALLEST, Progress, halo_of, reach_of

log = logging.getLogger("sparsesr")

_SAMPLE = 48  # LR pixels, side of the tiles that deviations are measured with
_BOUNDLESS = 10**9  # a side that holds any image


class Tiler:
    """Runs networks on images of any size.

    Args:
        tile: "auto": whole where that fits the memory, else the largest tile that does; 0: whole;
            or the side of a tile in LR pixels. Where memory turns out to be short, the side is
            halved until it is not.
    """

    def __init__(self, tile: str | int) -> None:
        self.tile = tile
        self._bytes: dict[torch.dtype, float] = {}
        self._most = _BOUNDLESS  # the largest side that memory was not short for
        self._warned: set[int] = set()

    def run(self, net: nn.Module, lr: Tensor, options: dict[str, Any], progress: Progress) -> Any:
        """``net(lr, **options)`` for lr [B,3,H,W], whole or in tiles.

        Raises:
            RuntimeError: memory is short even for the smallest tile.
        """
        progress.next_round()
        longest = max(lr.shape[2:])
        side = self._side(net, lr, options)
        while True:
            try:
                return self._attempt(net, lr, options, side, progress)
            except Exception as error:  # torch and native code raise several kinds
                if not is_out_of_memory(error):
                    raise
                text = str(error).splitlines()[0] if str(error) else type(error).__name__
            # Here the error and the tensors that its frames held are gone.
            smaller = longest if side == 0 and len(lr) > 1 else min(side or longest, longest) // 2
            if smaller < SMALLEST:
                raise RuntimeError(
                    f"out of memory even in tiles of {side or longest} LR pixels, for an image of "
                    f"{lr.shape[3]}x{lr.shape[2]} ({text}); free memory or cut the image"
                )
            gc.collect()
            if lr.is_cuda:
                torch.cuda.empty_cache()
            was = "for the whole image" if side in (0, longest) else f"in tiles of {side}"
            log.warning("out of memory %s; trying tiles of %d LR pixels", was, smaller)
            side = self._most = smaller

    def _attempt(
        self, net: nn.Module, lr: Tensor, options: dict[str, Any], side: int, progress: Progress
    ) -> Any:
        if side == 0:
            progress.begin(1)
            out = net(lr, **options)
            progress.step()
            return out
        if side < max(lr.shape[2:]) and not is_exact(net):
            self._warn(net, lr, options, side)
        parts = Parts(progress, len(lr))
        kept = KEPT_FEATURES if self._most == _BOUNDLESS else 0
        return _together([run_tiles(net, x, side, parts, options, kept) for x in lr.split(1)])

    def _side(self, net: nn.Module, lr: Tensor, options: dict[str, Any]) -> int:
        """Side of the tiles; 0 for the whole batch at once."""
        longest = max(lr.shape[2:])
        side = self._chosen(net, lr, options) if self.tile == "auto" else int(self.tile)
        if self._most < longest:
            side = min(side or longest, self._most)
        return 0 if side >= longest and len(lr) == 1 else side

    def _chosen(self, net: nn.Module, lr: Tensor, options: dict[str, Any]) -> int:
        pixels = lr.shape[2] * lr.shape[3]
        space = available_memory(lr.device) * 0.5
        if lr.device.type == "cpu" and is_exact(net):
            space = min(space, CPU_BOUND)
        if len(lr) * pixels * CAREFUL * lr.element_size() / 4 <= space:
            return 0
        if lr.dtype not in self._bytes:
            shape = (lr.shape[2], lr.shape[3])
            self._bytes[lr.dtype] = bytes_per_pixel(net, lr, _on_a_piece(net, shape, options))
        each = self._bytes[lr.dtype]
        if len(lr) * pixels * each <= space:
            return 0
        if pixels * each <= space:
            return max(lr.shape[2:])
        return max(int((space / each) ** 0.5) - 2 * halo_of(net), SMALLEST)

    def _warn(self, net: nn.Module, lr: Tensor, options: dict[str, Any], side: int) -> None:
        """Say once for each side what tiles change, as measured."""
        if side in self._warned:
            return
        self._warned.add(side)
        name = getattr(net, "model_name", type(net).__name__)
        warnings.warn(
            f"{name} uses statistics of the whole image, so that its tiles of {side} LR pixels, "
            f"overlapping by {OVERLAP}, change the result: {_deviation(net, lr, options, side)}",
            stacklevel=5,
        )


class Parts(Progress):
    """The tiles of several images as one count; each image has as many."""

    def __init__(self, whole: Progress, images: int) -> None:
        super().__init__(None)
        self._whole = whole
        self._images = images
        self._begun = False

    def begin(self, steps: int) -> None:
        """An image begins."""
        if not self._begun:
            self._whole.begin(steps * self._images)
            self._begun = True

    def step(self) -> None:
        """One more tile is done."""
        self._whole.step()


def run_tiles(
    net: nn.Module,
    lr: Tensor,  # [1, 3, H, W]
    side: int,
    progress: Progress,
    options: dict[str, Any],
    kept: int = 0,
) -> Any:
    """``net(lr, **options)`` in tiles of ``side`` LR pixels, by the way that suits the network.

    ``kept``: bytes of feature maps that may wait for a second pass.
    """
    if isinstance(net, SparseRefine):
        return run_refined(net, lr, side, progress, kept, **options)
    if isinstance(net, PixelRouter):
        return run_routed(net, lr, side, progress, kept, **options)
    return run_plain(net, lr, side, progress, **options)


def is_exact(net: nn.Module) -> bool:
    """Whether tiles give what the whole image gives: nothing in the network sees all of it."""
    known = reach_of(net) is not None
    if isinstance(net, SparseRefine) and selects_patches(net):
        return known and getattr(net.mask, "reach", None) is not None
    return known


def _on_a_piece(net: nn.Module, size: tuple[int, int], options: dict[str, Any]) -> dict[str, Any]:
    """The options of a call for a piece of an image of ``size``: as much work for each pixel."""
    dropped = ("size", "generator", "return_details", "order")
    plain = {name: value for name, value in options.items() if name not in dropped}
    if isinstance(net, SparseRefine) and selects_patches(net):
        rows, cols = patch_grid(*size, net.patch_size)
        count = net.patch_count(size, plain.pop("k", None), plain.pop("budget", None))
        plain["budget"] = count / (rows * cols)
    return plain


def _deviation(net: nn.Module, lr: Tensor, options: dict[str, Any], side: int) -> str:
    """What tiles change in the middle of the image, in words."""
    tile = min(side, _SAMPLE)
    top, left = (max((n - 2 * tile) // 2, 0) for n in lr.shape[2:])
    crop = lr[:1, :, top : top + 2 * tile, left : left + 2 * tile]
    plain = _on_a_piece(net, (lr.shape[2], lr.shape[3]), options)
    if isinstance(net, SparseRefine) and selects_patches(net):
        plain = {"budget": 1.0}  # which patches are chosen is another matter
    try:
        whole = net(crop, **plain)
        tiled = run_tiles(net, crop, tile, Progress(None), plain)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return "by how much was not measured, for want of memory"
    difference = (tiled.float() - whole.float()).abs()
    return (
        f"by up to {float(difference.max()):.2g}, {float(difference.mean()):.2g} on average, of a "
        f"range of 1, in tiles of {tile} on the middle {crop.shape[3]}x{crop.shape[2]} pixels"
    )


def _together(outputs: list[Any]) -> Any:
    """Outputs of single images as that of the batch."""
    first = outputs[0]
    if len(outputs) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(outputs)
    if isinstance(first, tuple):
        parts = [_together(list(each)) for each in zip(*outputs, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    return first
