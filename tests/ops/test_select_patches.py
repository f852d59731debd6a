"""``select_patches`` on every backend against the rules written out."""

from __future__ import annotations

import oracle
import pytest
import torch

from sparsesr.ops import select_patches

NAN, INF = float("nan"), float("inf")
ORDERS = pytest.mark.parametrize("order", ["largest", "smallest"])
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)
HARD = {
    "all equal": torch.zeros(2, 5, 7),
    "five levels": torch.arange(70).reshape(2, 5, 7).remainder(5) / 4,
    "signed zeros": torch.tensor([[[0.0, -0.0, 0.0, -0.0, 1.0, -1.0]]]),
    "nan": torch.tensor([[[NAN, 1.0, -INF, NAN, INF, 0.0, NAN]]]),
    "all nan": torch.full((1, 2, 3), NAN),
    "one": torch.tensor([[[0.5]]]),
    "denormal": torch.tensor([[[1e-45, 0.0, -1e-45, 2e-45]]]),
}


@ORDERS
@pytest.mark.parametrize("name", list(HARD))
def test_hard_scores(backend: str, device: torch.device, name: str, order: str) -> None:
    scores = HARD[name]
    cells = scores[0].numel()
    for k in {0, 1, cells // 2, cells}:
        index = select_patches(scores.to(device), k, order)
        assert index.dtype == torch.int32
        assert index.device.type == device.type
        assert torch.equal(index.cpu(), oracle.select(scores, k, order == "largest")), k


@DTYPES
@ORDERS
def test_random_scores(backend: str, device: torch.device, dtype: torch.dtype, order: str) -> None:
    scores = torch.randn(3, 9, 13, generator=torch.Generator().manual_seed(1)).to(dtype)
    index = select_patches(scores.to(device), 31, order)
    assert torch.equal(index.cpu(), oracle.select(scores, 31, order == "largest"))


def test_float64_scores_compare_as_float32(backend: str, device: torch.device) -> None:
    scores = torch.tensor([[[1.0, 1.0 + 1e-12]]], dtype=torch.float64, device=device)
    assert select_patches(scores, 1).tolist() == [[0]]


def test_large_and_strided(backend: str, device: torch.device) -> None:
    scores = torch.rand(2, 2, 90, 120, generator=torch.Generator().manual_seed(2))
    view = scores.to(device)[:, 1].transpose(1, 2)[:, ::2]
    index = select_patches(view, 1000)
    assert torch.equal(index.cpu(), oracle.select(scores[:, 1].transpose(1, 2)[:, ::2], 1000, True))
    assert torch.equal(index, select_patches(view, 1000))  # two runs, equal bits


def test_random_order_is_seeded_and_ignores_scores(backend: str, device: torch.device) -> None:
    def draw(seed: int, scores: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator(device).manual_seed(seed)
        return select_patches(scores, 20, "random", generator)

    zeros = torch.zeros(2, 8, 8, device=device)
    first = draw(3, zeros)
    assert torch.equal(first, draw(3, zeros + torch.rand_like(zeros)))
    assert not torch.equal(first, draw(4, zeros))
    assert (first[:, 1:] > first[:, :-1]).all()


def test_empty_batch(backend: str, device: torch.device) -> None:
    assert select_patches(torch.zeros(0, 3, 3, device=device), 2).shape == (0, 2)


@pytest.mark.parametrize(
    ("mask", "k", "order", "error", "text"),
    [
        (torch.zeros(1, 2, 3), 7, "largest", ValueError, r"k <= Gh\*Gw = 6, got k = 7"),
        (torch.zeros(1, 2, 3), -1, "largest", ValueError, "k >= 0, got -1"),
        (torch.zeros(1, 2, 3), 1.5, "largest", TypeError, "k as an int, got float"),
        (torch.zeros(1, 2, 3), True, "largest", TypeError, "k as an int, got bool"),
        (torch.zeros(1, 2, 3), 1, "best", ValueError, "got 'best'"),
        (torch.zeros(2, 3), 1, "largest", ValueError, r"mask \[B,Gh,Gw\], got shape \(2, 3\)"),
        (torch.zeros(1, 2, 3).int(), 1, "largest", TypeError, "got int32"),
        ([[0.0]], 1, "largest", TypeError, "as a tensor, got list"),
    ],
)
def test_bad_input(mask: object, k: object, order: str, error: type, text: str) -> None:
    with pytest.raises(error, match=f"^select_patches: .*{text}"):
        select_patches(mask, k, order)  # type: ignore[arg-type]
