"""``refine_patches_``: a whole Refine-Net on the chosen patches, written into the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._checks import check_index, check_int, check_map, check_same
from ._grid import patch_grid
from ._library import define
from .gather_patches import gather_patches
from .run_program import check_program, result_shape, run_program
from .scatter_patches import scatter_patches

_NAME = "refine_patches_"


def refine_patches_(
    canvas: Tensor,  # [B, O, s*H, s*W]
    feature: Tensor,  # [B, C, H, W]
    index: Tensor,  # [B, k]
    weights: Sequence[Tensor],
    program: str,
    patch_size: int,
    halo: int = 1,
) -> Tensor:
    """Windows of the feature map through a program, written over the canvas where they lie.

    The same as ``scatter_patches_(canvas, run_program(gather_patches(feature, index, patch_size,
    halo), weights, program), index, s * patch_size)``, in one pass: native kernels keep what is
    between in a core's caches, or in a GPU block's shared memory.

    Where a gradient is needed those three ops run, and their result is copied into the canvas.

    Args:
        canvas: image [B, O, s*H, s*W], dtype and device of ``feature``, written in place.
        feature: map [B, C, H, W], float32, bfloat16, float16 or float64; NCHW or channels_last.
        index: patches [B, k] int32, distinct within an image, on the grid of ``feature``.
        weights: the parameters that the program names.
        program: its text; it makes [N, O, s*p, s*p] of windows [N, C, p+2h, p+2h].
        patch_size: side p of a patch in pixels of the feature map, >= 1.
        halo: pixels h added on every side, >= 0.

    Returns:
        ``canvas``.

    Raises:
        TypeError: a wrong type, dtype or device.
        ValueError: a wrong shape or size, a program that does not fit, or (on the CPU) an index
            outside the grid or named twice.

    Example:
        >>> text = "v1 = conv v0 weight=0\\nv2 = shuffle v1 factor=2\\nreturn v2"
        >>> index = torch.tensor([[1]], dtype=torch.int32)
        >>> canvas, feature = torch.zeros(1, 1, 2, 4), torch.ones(1, 1, 1, 2)
        >>> refine_patches_(canvas, feature, index, [torch.ones(4, 1, 1, 1)], text, 1, halo=0)
        tensor([[[[0., 0., 1., 1.],
                  [0., 0., 1., 1.]]]])
    """
    check_map(_NAME, "feature", feature)
    check_map(_NAME, "canvas", canvas)
    check_same(_NAME, "canvas", canvas, "feature", feature)
    check_index(_NAME, index, feature, feature.shape[0])
    patch_size = check_int(_NAME, "patch_size", patch_size, 1)
    halo = check_int(_NAME, "halo", halo, 0)
    side = patch_size + 2 * halo
    shape = (feature.shape[1], side, side)
    weights = check_program(_NAME, feature, weights, program, shape)
    if not torch.compiler.is_compiling():  # then _fake looks
        _check_canvas(canvas, feature, weights, program, patch_size, halo)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (canvas, feature, *weights)):
        patches = run_program(gather_patches(feature, index, patch_size, halo), weights, program)
        return canvas.copy_(scatter_patches(canvas, patches, index, patches.shape[3]))
    torch.ops.sparsesr.refine_patches_.default(
        canvas, feature, index, weights, program, patch_size, halo
    )
    return canvas


def _check_canvas(
    canvas: Tensor,
    feature: Tensor,
    weights: Sequence[Tensor],
    program: str,
    patch_size: int,
    halo: int,
) -> None:
    side = patch_size + 2 * halo
    made = result_shape(_NAME, weights, program, (feature.shape[1], side, side))
    scale = made[1] // patch_size
    size = [feature.shape[0], made[0], scale * feature.shape[2], scale * feature.shape[3]]
    if made[1] != made[2] or made[1] != scale * patch_size or list(canvas.shape) != size:
        grid = patch_grid(feature.shape[2], feature.shape[3], patch_size)
        raise ValueError(
            f"{_NAME}: expected canvas {size} for patches of {patch_size} px ({grid[0]}x{grid[1]} "
            f"of them) that become {list(made)}, got {list(canvas.shape)}"
        )


def _fake(
    canvas: Tensor,
    feature: Tensor,
    index: Tensor,
    weights: list[Tensor],
    program: str,
    patch_size: int,
    halo: int,
) -> None:
    _check_canvas(canvas, feature, weights, program, patch_size, halo)


define(
    "refine_patches_(Tensor(a!) canvas, Tensor feature, Tensor index, Tensor[] weights,"
    " str program, SymInt patch_size, SymInt halo) -> ()",
    _fake,
)
