"""``select_gather_patches`` equals its two halves on every backend."""

from __future__ import annotations

import oracle
import pytest
import torch
from oracle import CASES, Case

from sparsesr.ops import gather_patches, select_gather_patches, select_patches


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("order", ["largest", "smallest", "random"])
def test_equals_its_halves(backend: str, device: torch.device, case: Case, order: str) -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(case.batch, *case.grid, generator=generator).to(device)
    x = torch.randn(case.batch, case.channels, case.height, case.width, generator=generator)

    def seeded() -> torch.Generator:
        return torch.Generator(device).manual_seed(5)

    for name, view in oracle.layouts(x.to(device)).items():
        patches, index = select_gather_patches(
            mask, view, case.k, case.patch, case.halo, case.stride, order, seeded()
        )
        assert torch.equal(index, select_patches(mask, case.k, order, seeded())), name
        halves = gather_patches(view, index, case.patch, case.halo, case.stride)
        assert torch.equal(patches, halves), name
        assert patches.stride() == halves.stride(), name


def test_gradient_reaches_the_map_and_not_the_mask(backend: str, device: torch.device) -> None:
    mask = torch.rand(1, 2, 2, dtype=torch.float64, device=device, requires_grad=True)
    x = torch.randn(1, 2, 8, 7, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: select_gather_patches(mask, x, 2, 4, 1)[0], x)
    patches, index = select_gather_patches(mask, x, 2, 4, 1)
    assert not index.requires_grad
    patches.sum().backward()
    assert mask.grad is None


@pytest.mark.parametrize(
    ("shape", "k", "text"),
    [
        ((1, 2, 3), 1, r"expected mask \[1, 2, 2\] .* got \[1, 2, 3\]"),
        ((2, 2, 2), 1, r"expected mask \[1, 2, 2\]"),
        ((1, 2, 2), 5, r"k <= Gh\*Gw = 4, got k = 5"),
    ],
)
def test_bad_input(shape: tuple[int, ...], k: int, text: str) -> None:
    with pytest.raises(ValueError, match=f"^select_gather_patches: .*{text}"):
        select_gather_patches(torch.zeros(shape), torch.zeros(1, 1, 8, 8), k, 4)
