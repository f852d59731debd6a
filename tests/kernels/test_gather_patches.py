"""``gather_patches`` in Triton: what the tests of the ops do not reach."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

from sparsesr.ops import _triton, patch_grid, reference

DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)
LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)


def _index(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int32)


@DTYPES
@LAYOUTS
def test_many_programs(
    small_tiles: None, device: torch.device, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = torch.randn(2, 6, 9, 11).to(dtype).contiguous(memory_format=layout)
    index = _index([0, 4, 5, 8], [1, 2, 3, 7])
    expected = reference.gather_patches(x, index, 4, 1, 4)
    got = _triton.gather_patches(x.to(device), index.to(device), 4, 1, 4).cpu()
    assert torch.equal(got, expected)
    assert got.stride() == expected.stride()

    grad = torch.randn(expected.shape).to(dtype).contiguous(memory_format=layout)
    got = _triton.gather_patches_backward(grad.to(device), index.to(device), 9, 11, 4, 1, 4).cpu()
    exact = reference.gather_patches_backward(grad.double(), index, 9, 11, 4, 1, 4)
    # At most four windows overlap: summed in float32, then rounded once.
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    eps = torch.finfo(dtype).eps + 4 * torch.finfo(wide).eps
    assert ((got.double() - exact).abs() <= eps * (exact.abs() + 1)).all()
    assert got.stride() == x.stride()


@pytest.mark.parametrize("index", [[5, 1, 5, 5, 0, 1], [3, 3, 3, 3, 3, 3], [0, 1, 2, 3, 4, 0]])
def test_repeated_patches_are_summed(device: torch.device, index: list[int]) -> None:
    """Adjacent and far apart, also where windows of other patches overlap them."""
    where = _index(index, list(reversed(index)))
    grad = torch.randint(-8, 9, (12, 3, 5, 5)).float()  # small integers: any order is exact
    got = _triton.gather_patches_backward(grad.to(device), where.to(device), 7, 10, 3, 1, 3)
    assert torch.equal(got.cpu(), reference.gather_patches_backward(grad, where, 7, 10, 3, 1, 3))


@LAYOUTS
def test_index_outside_the_grid_reads_and_writes_nothing_else(
    device: torch.device, kernels: dict[str, ModuleType], layout: torch.memory_format
) -> None:
    """Launch functions see no index values; the rows around the tensors show a stray access."""
    launch = kernels["gather_patches"]
    grid = patch_grid(6, 6, 2)
    bad = [-1, -(2**31), grid[0] * grid[1], 2**31 - 1]
    index = _index([0, bad[0], 8, bad[1], bad[2], 4, bad[3]]).to(device)

    frame = torch.full((3, 4, 6, 6), torch.nan, device=device).contiguous(memory_format=layout)
    x = frame[1:2]
    x.copy_(torch.randn(1, 4, 6, 6))
    out = torch.full((9, 4, 4, 4), 7.0, device=device).contiguous(memory_format=layout)
    launch.gather_patches(x, index, out[1:8], 1, 2, grid)
    assert out[[0, 8]].eq(7).all()
    assert out[[2, 4, 5, 7]].eq(0).all()
    good = _index([0, 8, 4])
    expected = reference.gather_patches(x.cpu(), good, 2, 1, 2)
    assert torch.equal(out[[1, 3, 6]].cpu(), expected)

    grad = torch.full((9, 4, 4, 4), torch.nan, device=device).contiguous(memory_format=layout)
    grad[[1, 3, 6]] = torch.randint(-8, 9, (3, 4, 4, 4), device=device).float()
    frame.fill_(7)
    launch.gather_patches_backward(grad[1:8], index, x, 1, 2, grid)
    assert frame[[0, 2]].eq(7).all()
    expected = reference.gather_patches_backward(grad[[1, 3, 6]].cpu(), good, 6, 6, 2, 1, 2)
    assert torch.equal(x.cpu(), expected)


@pytest.mark.parametrize(
    ("size", "patch", "halo", "stride"),
    [((9, 7), 2, 1, 10**6), ((2, 3), 8, 1, 1), ((5, 5), 1, 0, 1), ((6, 8), 3, 4, 2)],
    ids=str,
)
def test_awkward_geometry(
    device: torch.device, size: tuple[int, int], patch: int, halo: int, stride: int
) -> None:
    """A stride beyond the map, a patch larger than it, one pixel, a halo wider than the patch."""
    x = torch.randint(-8, 9, (1, 2, *size)).float()
    grid = patch_grid(*size, patch, stride)
    index = torch.arange(grid[0] * grid[1], dtype=torch.int32)[None, ::2]
    window = (patch, halo, stride)
    patches = _triton.gather_patches(x.to(device), index.to(device), *window)
    assert torch.equal(patches.cpu(), reference.gather_patches(x, index, *window))
    grad = torch.randint(-8, 9, patches.shape).float()
    got = _triton.gather_patches_backward(grad.to(device), index.to(device), *size, *window)
    assert torch.equal(got.cpu(), reference.gather_patches_backward(grad, index, *size, *window))


def test_strided_index_and_expanded_gradient(device: torch.device) -> None:
    index = torch.tensor([[0, 9, 3, 9], [2, 9, 1, 9]], dtype=torch.int32, device=device)[:, ::2]
    grad = torch.tensor(1.0, device=device).expand(4, 3, 4, 4)
    got = _triton.gather_patches_backward(grad, index, 8, 8, 4, 0, 4)
    expected = reference.gather_patches_backward(grad.cpu(), index.cpu(), 8, 8, 4, 0, 4)
    assert torch.equal(got.cpu(), expected)


def test_wrong_shapes_are_refused(device: torch.device) -> None:
    """Kernels trust shapes, so calls that bypass the public functions are checked too."""
    index = _index([0, 1]).to(device)
    with pytest.raises(ValueError, match=r"expected grad \[2,C,6,6\], got \[3, 1, 6, 6\]"):
        _triton.gather_patches_backward(
            torch.zeros(3, 1, 6, 6, device=device), index, 8, 8, 4, 1, 4
        )
    with pytest.raises(ValueError, match=r"expected index \[2,k\]"):
        _triton.gather_patches(torch.zeros(2, 1, 8, 8, device=device), index, 4, 1, 4)
