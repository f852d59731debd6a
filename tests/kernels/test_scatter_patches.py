"""``scatter_patches`` in Triton: what the tests of the ops do not reach."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

from sparsesr.ops import _triton, patch_grid, reference

NCHW, CL = torch.contiguous_format, torch.channels_last
LAYOUTS = pytest.mark.parametrize("layout", [NCHW, CL], ids=str)
DTYPES_AND_LAYOUTS = pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        (torch.float32, NCHW),
        (torch.float32, CL),
        (torch.bfloat16, CL),
        (torch.float16, NCHW),
        (torch.float64, CL),
    ],
    ids=str,
)
REDUCE = pytest.mark.parametrize("reduce", ["replace", "mean"])
INDEX = torch.tensor([[0, 4, 5, 8], [7, 2, 3, 1]], dtype=torch.int32)


def _bound(dtype: torch.dtype, exact: Tensor) -> Tensor:
    """A float32 (float64) sum of at most four terms, rounded once."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return (torch.finfo(dtype).eps + 4 * torch.finfo(wide).eps) * (exact.abs() + 1)


@DTYPES_AND_LAYOUTS
@REDUCE
def test_many_programs(
    small_tiles: None,
    device: torch.device,
    dtype: torch.dtype,
    layout: torch.memory_format,
    reduce: str,
) -> None:
    canvas = torch.randn(2, 5, 9, 11).to(dtype).contiguous(memory_format=layout)
    patches = torch.randn(8, 5, 4, 4).to(dtype).contiguous(memory_format=layout)
    index, window = INDEX.to(device), (4, 3, reduce)
    exact = reference.scatter_patches(canvas.double(), patches.double(), INDEX, *window)
    out = _triton.scatter_patches(canvas.to(device), patches.to(device), index, *window)
    assert ((out.cpu().double() - exact).abs() <= _bound(dtype, exact)).all()
    assert out.stride() == canvas.stride()
    again = canvas.to(device, copy=True)
    _triton.scatter_patches_(again, patches.to(device), index, *window)
    assert torch.equal(again, out)

    exact = reference.scatter_patches_backward(canvas.double(), INDEX, *window)
    grads = _triton.scatter_patches_backward(canvas.to(device), index, *window)
    for got, want, like in zip(grads, exact, (canvas, patches), strict=True):
        assert ((got.cpu().double() - want).abs() <= _bound(dtype, want)).all()
        assert got.stride() == like.stride()


@REDUCE
@pytest.mark.parametrize("stride", [2, 4, 5])
def test_backward_is_the_adjoint(device: torch.device, reduce: str, stride: int) -> None:
    """<scatter(c, p), g> = <c, gc> + <p, gp> in float64, where both sides are exact integers."""
    grid = patch_grid(11, 10, 4, stride)
    index = torch.randperm(grid[0] * grid[1], dtype=torch.int32)[None, :4]

    def draw(*shape: int) -> Tensor:
        # Multiples of 36: means over up to four patches are whole numbers.
        return 36.0 * torch.randint(-8, 9, shape, dtype=torch.float64, device=device)

    canvas, patches, grad = draw(1, 2, 11, 10), draw(4, 2, 4, 4), draw(1, 2, 11, 10)
    index = index.to(device)
    out = _triton.scatter_patches(canvas, patches, index, 4, stride, reduce)
    grad_canvas, grad_patches = _triton.scatter_patches_backward(grad, index, 4, stride, reduce)
    assert (out * grad).sum() == (canvas * grad_canvas).sum() + (patches * grad_patches).sum()


@REDUCE
@LAYOUTS
@pytest.mark.parametrize("stride", [2, 1])
def test_index_outside_the_grid_reads_and_writes_nothing_else(
    device: torch.device,
    kernels: dict[str, ModuleType],
    layout: torch.memory_format,
    reduce: str,
    stride: int,
) -> None:
    """Launch functions see no index values; the rows around the tensors show a stray access."""
    launch, mean = kernels["scatter_patches"], reduce == "mean"
    grid = patch_grid(6, 6, 2, stride)
    good, slots = [0, 8, 4], [1, 3, 6]
    bad = (grid[0] * grid[1], -(2**31), 2**31 - 1)
    index = torch.tensor([[0, -1, 8, bad[0], bad[1], 4, bad[2]]], dtype=torch.int32, device=device)
    patches = torch.full((9, 4, 2, 2), torch.nan, device=device).contiguous(memory_format=layout)
    patches[slots] = torch.randint(-8, 9, (3, 4, 2, 2), device=device).float()
    frame = torch.full((3, 4, 6, 6), 7.0, device=device).contiguous(memory_format=layout)
    canvas = frame[1:2]
    canvas.copy_(torch.randint(-8, 9, (1, 4, 6, 6)).float())
    where = torch.tensor([good], dtype=torch.int32)
    expected = reference.scatter_patches(
        canvas.cpu(), patches[slots].cpu(), where, 2, stride, reduce
    )

    out = torch.empty_like(canvas)
    launch.scatter_patches(canvas, patches[1:8], index, out, stride, grid, mean)
    assert torch.equal(out.cpu(), expected)
    launch.scatter_patches(canvas, patches[1:8], index, canvas, stride, grid, mean)
    assert torch.equal(canvas.cpu(), expected)
    assert frame[[0, 2]].eq(7).all()

    patches.fill_(7)
    out.fill_(torch.nan)
    launch.scatter_patches_backward(canvas, index, out, patches[1:8], stride, grid, mean)
    grad_canvas, grad_patches = reference.scatter_patches_backward(
        canvas.cpu(), where, 2, stride, reduce
    )
    assert torch.equal(out.cpu(), grad_canvas)
    assert torch.equal(patches[slots].cpu(), grad_patches)
    assert patches[[2, 4, 5, 7]].eq(0).all()
    assert patches[[0, 8]].eq(7).all()


def test_a_repeated_patch_has_one_writer(
    device: torch.device, kernels: dict[str, ModuleType]
) -> None:
    """Refused on the CPU; on a GPU, where nobody looks, the last slot counts both ways."""
    launch = kernels["scatter_patches"]
    index = torch.tensor([[1, 0, 1]], dtype=torch.int32, device=device)
    patches = torch.arange(1.0, 4.0, device=device).reshape(3, 1, 1, 1).expand(3, 1, 2, 2)
    for mean in (False, True):
        out = torch.zeros(1, 1, 2, 4, device=device)
        launch.scatter_patches(out, patches, index, out, 2, (1, 2), mean)
        assert out[0, 0].tolist() == [[2, 2, 3, 3]] * 2
        grad = torch.empty(3, 1, 2, 2, device=device)
        launch.scatter_patches_backward(out, index, torch.empty_like(out), grad, 2, (1, 2), mean)
        assert grad[:, 0, 0, 0].tolist() == [0, 2, 3]


def test_the_mean_of_equal_values_is_that_value(device: torch.device) -> None:
    """Up to seven of them; a product with 1/7 would be a last bit off for some values."""
    values = torch.arange(1.0, 65.0, device=device).reshape(1, 64, 1, 1)
    index = torch.arange(7, dtype=torch.int32, device=device)[None]
    canvas = torch.zeros(1, 64, 7, 13, device=device)
    out = _triton.scatter_patches(canvas, values.expand(7, 64, 7, 7), index, 7, 1, "mean")
    assert torch.equal(out, values.expand_as(out))


@REDUCE
@pytest.mark.parametrize(
    ("size", "patch", "stride"), [((5, 7), 2, 10**6), ((2, 3), 6, 1), ((2, 3), 6, 6)], ids=str
)
def test_awkward_geometry(
    device: torch.device, size: tuple[int, int], patch: int, stride: int, reduce: str
) -> None:
    """A stride beyond the map, patches larger than it."""
    grid = patch_grid(*size, patch, stride)
    index = torch.arange(grid[0] * grid[1], dtype=torch.int32)[None]
    canvas = torch.randn(1, 2, *size)
    patches = torch.randn(index.numel(), 2, patch, patch)
    window = (patch, stride, reduce)
    out = _triton.scatter_patches(
        canvas.to(device), patches.to(device), index.to(device), *window
    ).cpu()
    torch.testing.assert_close(out, reference.scatter_patches(canvas, patches, index, *window))


def test_wrong_shapes_are_refused(device: torch.device) -> None:
    """Kernels trust shapes, so calls that bypass the public functions are checked too."""
    canvas, index = torch.zeros(2, 5, 9, 11, device=device), INDEX.to(device)
    with pytest.raises(ValueError, match=r"expected patches \[8,C,4,4\], got \[8, 5, 3, 4\]"):
        _triton.scatter_patches(canvas, torch.zeros(8, 5, 3, 4, device=device), index, 4, 3, "mean")
    with pytest.raises(ValueError, match="5 channels as canvas, got 4"):
        _triton.scatter_patches(canvas, torch.zeros(8, 4, 4, 4, device=device), index, 4, 3, "mean")
