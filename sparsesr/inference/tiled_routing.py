"""Tiles of a network that routes pixels; what needs the whole image is decided on all of it."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsesr import ops
from sparsesr.nn import PixelRouter, RoutedOutput, check_routing
from sparsesr.nn.pixel_classes import first_heavy_class
from sparsesr.nn.pixel_places import Axis, Places, pixel_places

from .tiling import Progress, Span, Tile, canvas, halo_of, tiles_of

_ALIGN = 2  # between two LR pixels rounding prefers even ones: windows start at even ones


def run_routed(
    net: PixelRouter,
    lr: Tensor,  # [1, 3, h, w]
    side: int,
    progress: Progress,
    kept: int,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    k: float | None = None,
    adaptive: bool = False,
    budget: float | None = None,
    refine: bool = True,
    min_heavy: int = 1,
    return_details: bool = False,
) -> Tensor | RoutedOutput:
    """``net(lr, ...)`` tile by tile, as if the image were whole.

    With ``adaptive`` or ``budget`` the logits of all tiles are gathered first. Feature maps wait
    for the second pass where they take no more than ``kept`` bytes.
    """
    check_routing(k, adaptive, budget)
    lr_size = (lr.shape[2], lr.shape[3])
    hr_size = net.output_size(lr_size, scale, size)
    job = _Job(net, lr, hr_size, side, kept)
    sr = canvas(lr, 3, *hr_size)
    costs = net.costs(lr_size, hr_size)
    global_choice = adaptive or budget is not None
    progress.begin(len(job.tiles) * (2 if global_choice else 1))
    logits = canvas(lr, net.classes, *hr_size) if global_choice or return_details else None
    class_map = None
    if global_choice:
        assert logits is not None
        for i in range(len(job.tiles)):
            job.classify(i, logits)
            progress.step()
        class_map = net.choose(logits, costs, None, adaptive, budget)
        logits = logits if return_details else None
    classes = class_map
    if classes is None and return_details:
        classes = torch.empty((1, *hr_size), dtype=torch.uint8, device=lr.device)
    for i in range(len(job.tiles)):
        part = job.part(i, 1)
        feature = job.feature(i)
        if class_map is not None:
            own_classes = class_map[..., part.rows.slice(), part.cols.slice()].contiguous()
        else:
            own_logits = net.classify(feature, part.places)
            own_classes = net.choose(own_logits, costs, k)
            if classes is not None and logits is not None:
                part.write(classes, own_classes)
                part.write(logits, own_logits)
        image = net.sample(feature, own_classes, part.places, job.tiles[i].cut(lr))
        if refine:
            heavy = first_heavy_class(net.classes)
            image = ops.average_neighbors(image, own_classes, min_heavy, heavy)
        part.write(sr, image)
        progress.step()
    if not return_details:
        return sr
    assert classes is not None
    assert logits is not None
    return RoutedOutput(sr, classes, logits, refine)


class _Part:
    """HR pixels that a tile computes, and those of them that it writes."""

    def __init__(self, places: Places, tile: Tile, margin: int) -> None:
        own = [
            _owned(axis, span) for axis, span in zip(places, (tile.rows, tile.cols), strict=True)
        ]
        ends = [len(axis.source) for axis in places]
        self.own_rows, self.own_cols = own
        self.rows, self.cols = (
            Span(max(span.start - margin, 0), min(span.end + margin, end))
            for span, end in zip(own, ends, strict=True)
        )
        self.places = Places(
            _local(places.rows, self.rows, tile.window_rows.start),
            _local(places.cols, self.cols, tile.window_cols.start),
        )

    def write(self, whole: Tensor, computed: Tensor) -> None:
        """Of a map of what is computed, what the tile owns into a map of the image."""
        rows = self.own_rows.slice(1, self.rows.start)
        own = computed[..., rows, self.own_cols.slice(1, self.cols.start)]
        whole[..., self.own_rows.slice(), self.own_cols.slice()] = own


class _Job:
    """One image: its tiles, and the feature maps that are kept."""

    def __init__(
        self, net: PixelRouter, lr: Tensor, hr_size: tuple[int, int], side: int, kept: int
    ) -> None:
        lr_size = (lr.shape[2], lr.shape[3])
        self.net = net
        self.lr = lr
        self.places = pixel_places(lr_size, hr_size, lr.device)
        self.tiles = tiles_of(lr_size, side, halo_of(net), _ALIGN)
        self.kept: dict[int, Tensor] = {}
        self.free = kept

    def part(self, i: int, margin: int) -> _Part:
        """The HR pixels of tile i and ``margin`` around them."""
        return _Part(self.places, self.tiles[i], margin)

    def feature(self, i: int) -> Tensor:
        """Feature map of the window of tile i."""
        kept = self.kept.pop(i, None)
        return self.net.encode(self.tiles[i].cut(self.lr)) if kept is None else kept

    def classify(self, i: int, logits: Tensor) -> None:
        """Write the logits of tile i."""
        part, feature = self.part(i, 0), self.feature(i)
        part.write(logits, self.net.classify(feature, part.places))
        size = feature.numel() * feature.element_size()
        if size <= self.free:
            self.kept[i] = feature
            self.free -= size


def _owned(axis: Axis, span: Span) -> Span:
    """HR pixels whose centres lie on these LR pixels."""
    edges = axis.source.new_tensor([span.start - 0.5, span.end - 0.5])
    return Span(*torch.searchsorted(axis.source, edges).tolist())


def _local(axis: Axis, span: Span, origin: int) -> Axis:
    """Places of the HR pixels ``span``, counted in a window that starts at LR pixel ``origin``."""
    source = axis.source[span.start : span.end] - origin
    period = len(axis.offset)
    if period == len(axis.source):
        return Axis(source, axis.offset[span.start : span.end], axis.cell)
    return Axis(source, axis.offset.roll(-(span.start % period)), axis.cell)
