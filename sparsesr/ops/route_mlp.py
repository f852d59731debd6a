"""``route_mlp``: every HR pixel through the MLP of its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ._checks import check_bias, check_class_map, check_map, check_same
from ._layout import empty_like_format
from ._library import define
from ._recompute import define_recomputed_autograd
from .reference.route_mlp import route_mlp_everywhere

_NAME = "route_mlp"


class PixelMLP(NamedTuple):
    """Linear layers with ReLU between them, whose first bias depends on where the pixel lies.

    Attributes:
        weights: L >= 1 tensors [N1, C], [N2, N1], ..., [O, N].
        row_bias: [Th, N1]; HR row y takes entry ``y % Th``. At integer scale s, Th = s suffices.
        col_bias: [Tw, N1]; HR column x takes entry ``x % Tw``.
        biases: L - 1 tensors [N2], ..., [O].
    """

    weights: Sequence[Tensor]
    row_bias: Tensor
    col_bias: Tensor
    biases: Sequence[Tensor]


def route_mlp(
    feature: Tensor,  # [B, C, h, w]
    class_map: Tensor | None,  # [B, H, W]
    mlps: Sequence[PixelMLP],  # M
    rows: Tensor,  # [H]
    cols: Tensor,  # [W]
    image: Tensor | None = None,  # [B, O, h, w]
) -> Tensor:
    """Each HR pixel through its class's MLP, plus the bilinearly enlarged ``image``.

    Pixel (y, x) of class j, whose nearest LR pixel is (iy, ix)::

        a_1     = W_1 feature[:, iy, ix] + row_bias[y % Th] + col_bias[x % Tw]
        a_{l+1} = W_{l+1} relu(a_l) + b_{l+1}
        out     = a_L + image at (rows[y], cols[x])

    with the weights of class j: the first product is a 1x1 convolution, made once per LR pixel. The
    nearest pixel is ``rows[y]``, ``cols[x]`` rounded half to even and clamped into the map; the
    image is continued beyond its border. Differentiable in all floating inputs but ``rows`` and
    ``cols``, twice.

    Args:
        feature: map [B, C, h, w], float32, bfloat16, float16 or float64; NCHW or channels_last.
        class_map: class of each HR pixel, [B, H, W] uint8; None sends every pixel to class 0. A
            pixel of class >= M gets the image alone (zero without one).
        mlps: M >= 1 MLPs in dtype and on the device of ``feature``, all with O outputs.
        rows: coordinates of the H rows of HR pixels in LR pixels, [H] float32; LR centres lie at
            0 ... h - 1, so x2 has -0.25, 0.25, 0.75, ...
        cols: the same for the W columns.
        image: [B, O, h, w] as ``feature`` in dtype and device, or None.

    Returns:
        [B, O, H, W] in dtype and memory format of ``feature``.

    Raises:
        TypeError: a wrong type, dtype or device.
        ValueError: a wrong shape, no MLP, or one without layers.

    Source: PCSR (Jeong et al., ECCV 2024), sections 3.2 and 3.3; LIIF (Chen et al., CVPR 2021).

    Example:
        >>> identity = PixelMLP([torch.eye(1)], torch.zeros(1, 1), torch.zeros(1, 1), [])
        >>> x, places = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([-0.25, 0.25, 0.75, 1.25])
        >>> route_mlp(x, None, [identity], torch.zeros(1), places)
        tensor([[[[1., 1., 2., 2.]]]])
    """
    check_map(_NAME, "feature", feature)
    mlps = list(mlps)
    if not mlps:
        raise ValueError(f"{_NAME}: expected at least one MLP in mlps, got none")
    for j, mlp in enumerate(mlps):
        _check_mlp(f"mlps[{j}]", mlp, mlps[0], feature)
    size = (_check_places("rows", rows, feature), _check_places("cols", cols, feature))
    if class_map is not None:
        check_class_map(_NAME, class_map, feature, size)
    if image is not None:
        _check_image(image, mlps[0].weights[-1].shape[0], feature)
    return torch.ops.sparsesr.route_mlp.default(
        feature,
        class_map,
        [weight for mlp in mlps for weight in mlp.weights],
        [mlp.row_bias for mlp in mlps],
        [mlp.col_bias for mlp in mlps],
        [bias for mlp in mlps for bias in mlp.biases],
        [len(mlp.weights) for mlp in mlps],
        rows,
        cols,
        image,
    )


def _check_mlp(name: str, mlp: PixelMLP, first: PixelMLP, feature: Tensor) -> None:
    if not mlp.weights or len(mlp.biases) != len(mlp.weights) - 1:
        raise ValueError(
            f"{_NAME}: expected {name} with L >= 1 weights and L - 1 biases, got "
            f"{len(mlp.weights)} and {len(mlp.biases)}; the first bias is row_bias + col_bias"
        )
    width = feature.shape[1]
    for i, weight in enumerate(mlp.weights):
        part = f"{name}.weights[{i}]"
        check_map(_NAME, part, weight, "[N,N']")
        check_same(_NAME, part, weight, "feature", feature)
        if weight.shape[1] != width:
            raise ValueError(f"{_NAME}: expected {part} [N,{width}], got {list(weight.shape)}")
        width = weight.shape[0]
        if i > 0:
            check_bias(_NAME, f"{name}.biases[{i - 1}]", mlp.biases[i - 1], width, feature)
    if width != first.weights[-1].shape[0]:
        raise ValueError(
            f"{_NAME}: expected as many outputs of {name} as of mlps[0], "
            f"got {width} and {first.weights[-1].shape[0]}"
        )
    for side in ("row_bias", "col_bias"):
        table, period = getattr(mlp, side), getattr(first, side).shape[0]
        check_map(_NAME, f"{name}.{side}", table, "[T,N]")
        check_same(_NAME, f"{name}.{side}", table, "feature", feature)
        if tuple(table.shape) != (period, mlp.weights[0].shape[0]):
            raise ValueError(
                f"{_NAME}: expected {name}.{side} [{period},{mlp.weights[0].shape[0]}] (the period "
                f"of mlps[0], the outputs of weights[0]), got {list(table.shape)}"
            )


def _check_places(name: str, places: object, feature: Tensor) -> int:
    expected = f"{_NAME}: expected {name} [n] float32 on {feature.device}"
    if not isinstance(places, Tensor):
        raise TypeError(f"{expected}, got {type(places).__name__}")
    if places.dtype != torch.float32 or places.device != feature.device:
        dtype = str(places.dtype).removeprefix("torch.")
        raise TypeError(f"{expected}, got {dtype} on {places.device}")
    if places.dim() != 1 or places.shape[0] < 1:
        raise ValueError(f"{expected} with n >= 1, got shape {tuple(places.shape)}")
    return places.shape[0]


def _check_image(image: Tensor, outputs: int, feature: Tensor) -> None:
    check_map(_NAME, "image", image)
    check_same(_NAME, "image", image, "feature", feature)
    shape = [feature.shape[0], outputs, *feature.shape[2:]]
    if list(image.shape) != shape:
        raise ValueError(
            f"{_NAME}: expected image {shape} (the size of feature, the outputs of mlps), "
            f"got {list(image.shape)}"
        )


def _fake(
    feature: Tensor,
    class_map: Tensor | None,
    weights: list[Tensor],
    row_bias: list[Tensor],
    col_bias: list[Tensor],
    biases: list[Tensor],
    layers: list[int],
    rows: Tensor,
    cols: Tensor,
    image: Tensor | None,
) -> Tensor:
    shape = (feature.shape[0], weights[-1].shape[0], rows.shape[0], cols.shape[0])
    return empty_like_format(shape, feature)


define(
    "route_mlp(Tensor feature, Tensor? class_map, Tensor[] weights, Tensor[] row_bias,"
    " Tensor[] col_bias, Tensor[] biases, int[] layers, Tensor rows, Tensor cols,"
    " Tensor? image) -> Tensor",
    _fake,
)
define_recomputed_autograd(_NAME, route_mlp_everywhere)
