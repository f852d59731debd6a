"""The pixel routing ops of the ``cuda`` backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ._classes import per_class
from ._gpu_packing import kept
from ._layout import empty_like_format
from ._module import _loaded, _view

_GROUP = 16  # outputs that are computed together; csrc/cuda/route_kernels.h


class _PackedClass(NamedTuple):
    """One class as the module takes it: outputs are rounded up to whole groups in all tensors."""

    row_bias: Tensor
    col_bias: Tensor
    weights: Tensor
    bias: Tensor
    widths: list[int]


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
    batch, _, h, w = feature.shape
    used = len(layers) if class_map is not None else 1  # without a map all pixels are of class 0
    with torch.cuda.device(feature.device):
        classes = [
            _packed_class(own, row_bias[j], col_bias[j], later)
            for j, (own, later) in enumerate(per_class(weights, biases, layers[:used]))
        ]
        class_map = None if class_map is None else class_map.contiguous()
        rows, cols = rows.contiguous(), cols.contiguous()
        shape = (batch, weights[-1].shape[0], rows.numel(), cols.numel())
        out = empty_like_format(shape, feature)
        view = _viewer("route_mlp", feature)
        native = _loaded().cuda
        sizes = (batch * h * w, batch * rows.numel() * cols.numel(), used)
        widths = sum(own.row_bias.shape[1] for own in classes)
        words = native.route_mlp_workspace(
            view("feature", feature), *sizes, widths, class_map is not None
        )
        workspace = torch.empty(words, dtype=torch.int32, device=feature.device)
        native.route_mlp(
            view("feature", feature),
            None if class_map is None else view("class_map", class_map),
            [(*(view("packed", t) for t in own[:4]), own.widths) for own in classes],
            view("rows", rows),
            view("cols", cols),
            None if image is None else view("image", image),
            view("out", out),
            view("workspace", workspace),
            torch.cuda.current_stream(feature.device).cuda_stream,
        )
    return out


def average_neighbors(
    image: Tensor,  # [B, C, H, W]
    class_map: Tensor,  # [B, H, W] uint8
    min_heavy: int,
    first_heavy: int,
) -> Tensor:
    """The image [B, C, H, W] with light pixels beside heavy ones averaged over their 3x3."""
    with torch.cuda.device(image.device):
        out = empty_like_format(tuple(image.shape), image)
        class_map = class_map.contiguous()
        view = _viewer("average_neighbors", image)
        _loaded().cuda.average_neighbors(
            view("image", image),
            view("class_map", class_map),
            min_heavy,
            first_heavy,
            view("out", out),
            torch.cuda.current_stream(image.device).cuda_stream,
        )
    return out


def _viewer(op: str, first: Tensor) -> Callable[[str, Tensor], Any]:
    """``_view`` of an op's operands, which lie on the device of the first one."""
    return lambda name, tensor: _view(op, name, tensor, first.device)


def _packed_class(
    weights: Sequence[Tensor], row_bias: Tensor, col_bias: Tensor, biases: Sequence[Tensor]
) -> _PackedClass:
    tables = (_whole_groups(row_bias), _whole_groups(col_bias))
    packed = (_packed_weights(weights), _packed_biases(weights[0], biases))
    return _PackedClass(*tables, *packed, [weight.shape[0] for weight in weights])


def _whole_groups(table: Tensor) -> Tensor:
    """table [T, N] with N rounded up to whole groups."""
    return F.pad(table.detach(), (0, -table.shape[1] % _GROUP)).contiguous()


def _packed_weights(weights: Sequence[Tensor]) -> Tensor:
    """All layers [N1, C], [N2, N1], ... of a class as csrc/cuda/pixel_mlp.h wants them, flat."""
    return kept(
        "route_mlp weights", weights, None, lambda: torch.cat([_packed_layer(w) for w in weights])
    )


def _packed_layer(weight: Tensor) -> Tensor:
    weight = weight.detach()
    if weight.dtype == torch.float32:
        # [groups][inputs][16 outputs]
        groups = F.pad(weight, (0, 0, 0, -weight.shape[0] % _GROUP)).unflatten(0, (-1, _GROUP))
        return groups.transpose(1, 2).reshape(-1)
    missing = (0, -weight.shape[1] % _GROUP, 0, -weight.shape[0] % _GROUP)
    # Outputs: group, half, lane / 4; inputs: step, register, lane % 4, element of the pair.
    parts = F.pad(weight, missing).unflatten(0, (-1, 2, 8)).unflatten(3, (-1, 2, 4, 2))
    return parts.permute(0, 3, 2, 5, 1, 4, 6).reshape(-1)


def _packed_biases(like: Tensor, biases: Sequence[Tensor]) -> Tensor:
    """Biases [N2], [N3], ... as float32, each rounded up to whole groups, flat."""
    if not biases:
        return like.new_empty(0, dtype=torch.float32)
    return kept(
        "route_mlp biases",
        biases,
        None,
        lambda: torch.cat([_whole_groups(bias[None].float())[0] for bias in biases]),
    )
