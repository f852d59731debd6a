"""The pixel routing ops of the ``triton`` backend."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ._classes import per_class
from ._gpu_packing import kept
from ._layout import empty_like_format


def route_mlp(
    feature: Tensor,  # [B, C, h, w]
    class_map: Tensor | None,  # [B, H, W] uint8
    weights: Sequence[Tensor],  # of class 0, then of class 1, ...: [N1, C], [N2, N1], ..., [O, N]
    row_bias: Sequence[Tensor],  # M of [Th, N1]
    col_bias: Sequence[Tensor],  # M of [Tw, N1]
    biases: Sequence[Tensor],  # of class 0, then of class 1, ...: [N2], ..., [O]
    layers: Sequence[int],  # M
    rows: Tensor,  # [H] float32
    cols: Tensor,  # [W] float32
    image: Tensor | None,  # [B, O, h, w]
) -> Tensor:
    """Every HR pixel through the MLP of its class; 16-bit values are rounded between layers."""
    backend = _backend()
    shape = (feature.shape[0], weights[-1].shape[0], rows.numel(), cols.numel())
    with backend._on(feature):
        launch = backend._kernels("route_mlp")
        out = empty_like_format(shape, feature)
        mlps = []
        for j, (own, later) in enumerate(per_class(weights, biases, layers)):
            packed = _packed(launch, own, later)
            widths = [weight.shape[0] for weight in own]
            mlps.append(launch.Mlp(packed, widths, row_bias[j].detach(), col_bias[j].detach()))
        classes = None if class_map is None else class_map.contiguous()
        places = (rows.contiguous(), cols.contiguous())
        launch.route_mlp(feature, classes, mlps, *places, image, out)
    return out


def average_neighbors(
    image: Tensor,  # [B, C, H, W]
    class_map: Tensor,  # [B, H, W] uint8
    min_heavy: int,
    first_heavy: int,
) -> Tensor:
    """The image [B, C, H, W] with light pixels beside heavy ones averaged over their 3x3."""
    backend = _backend()
    with backend._on(image):
        out = empty_like_format(tuple(image.shape), image)
        launch = backend._kernels("average_neighbors")
        launch.average_neighbors(image, class_map.contiguous(), min_heavy, first_heavy, out)
    return out


def _packed(launch: Any, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    def pack() -> Tensor:
        packed: Tensor = launch.pack(weights, biases)
        return packed

    return kept("route_mlp triton", [*weights, *biases], None, pack)


def _backend() -> Any:
    """The backend's module, which imports this one."""
    return importlib.import_module("sparsesr.ops._triton")
