"""``select_patches`` and ``select_gather_patches`` of the native module against a sort."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsesr.ops import _native
from tests.native import oracle
from tests.native.cases import assert_equal, each_dtype

MASKS = {
    "normal": torch.randn(2, 9, 11, generator=torch.Generator().manual_seed(0)),
    "ties": torch.randint(0, 4, (3, 7, 8), generator=torch.Generator().manual_seed(1)).float(),
    "equal": torch.ones(1, 5, 5),
    "zeros": torch.tensor([[[0.0, -0.0, 0.0], [-0.0, -0.0, 0.0]]]),
    "nan": torch.tensor([[[torch.nan, 1, -torch.inf], [torch.inf, -torch.nan, 1]]]),
    "all nan": torch.full((1, 2, 3), torch.nan),
    "tiny": torch.tensor([[[1e-45, 0.0, -1e-45, 2e-45]]]),
    "one": torch.tensor([[[3.0]]]),
}


@each_dtype
@pytest.mark.parametrize("largest", [True, False], ids=["largest", "smallest"])
@pytest.mark.parametrize("name", MASKS)
def test_every_k(name: str, largest: bool, dtype: torch.dtype, isa: str) -> None:
    mask = MASKS[name].to(dtype)
    cells = mask[0].numel()
    for k in sorted({0, 1, cells // 2, cells - 1, cells}):
        index = _native.select_patches(mask, k, largest)
        assert index.dtype == torch.int32
        assert_equal(index, oracle.select(mask, k, largest))


@pytest.mark.parametrize("largest", [True, False], ids=["largest", "smallest"])
@pytest.mark.parametrize(
    "view",
    [lambda m: m[:, 1:-1, ::2], lambda m: m.transpose(1, 2), lambda m: m[:, :1].expand(-1, 4, -1)],
    ids=["slice", "transposed", "expanded"],
)
def test_strides(view, largest: bool) -> None:
    mask: Tensor = view(MASKS["normal"])
    assert_equal(_native.select_patches(mask, 5, largest), oracle.select(mask, 5, largest))


def test_float64_is_compared_as_float32() -> None:
    mask = torch.tensor([[[1.0, 1.0 + 1e-12, 1e300, 2e300]]], dtype=torch.float64)
    assert _native.select_patches(mask, 3).tolist() == [[0, 2, 3]]


def test_large(isa: str) -> None:
    mask = torch.rand(2, 180, 181, generator=torch.Generator().manual_seed(2))
    for k in (1, 1000, 20_000):
        assert_equal(_native.select_patches(mask, k), oracle.select(mask, k, True))


def test_k_too_large() -> None:
    with pytest.raises(ValueError, match=r"select_patches: expected k <= Gh\*Gw = 6, got k = 7"):
        _native.select_patches(torch.zeros(1, 2, 3), 7)


def test_mask_of_integers() -> None:
    with pytest.raises(TypeError, match="select_patches: expected mask float32, float16"):
        _native.select_patches(torch.zeros(1, 2, 3, dtype=torch.int32), 1)


@pytest.mark.parametrize("largest", [True, False], ids=["largest", "smallest"])
@pytest.mark.parametrize("k", [0, 1, 5, 12])
def test_select_gather(k: int, largest: bool, isa: str) -> None:
    x = torch.randn(2, 3, 10, 15).contiguous(memory_format=torch.channels_last)
    mask = torch.randn(2, 3, 4)
    patches, index = _native.select_gather_patches(mask, x, k, 4, 1, 4, largest)
    assert_equal(index, oracle.select(mask, k, largest))
    assert_equal(patches, oracle.gather(x, index, 4, 1, 4))


def test_select_gather_wants_the_grid_of_the_map() -> None:
    message = r"select_gather_patches: expected mask \[B,Gh,Gw\] = \[1, 2, 2\], got \[1, 2, 3\]"
    with pytest.raises(ValueError, match=message):
        _native.select_gather_patches(torch.zeros(1, 2, 3), torch.zeros(1, 1, 8, 8), 1, 4, 1, 4)
