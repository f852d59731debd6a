"""``select_patches`` in Triton: what the tests of the ops do not reach."""

from __future__ import annotations

import importlib

import pytest
import torch

from sparsesr.ops import _triton, gather_patches, reference, select_patches

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of scores to a program."""
    module = importlib.import_module("sparsesr.kernels.select_patches")
    monkeypatch.setattr(module, "MAX_BLOCK", 256)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_ties_across_blocks(
    small_blocks: None, device: torch.device, levels: int, largest: bool
) -> None:
    scores = torch.randint(levels, (2, 30, 31)).float()
    for k in (1, 255, 256, 600, 930):
        got = _triton.select_patches(scores.to(device), k, largest)
        assert torch.equal(got.cpu(), reference.select_patches(scores, k, largest)), k


def test_a_whole_photograph_of_ties(device: torch.device) -> None:
    """8,100 scores in four levels, as many as a 480 x 270 map has patches."""
    scores = torch.randint(4, (1, 90, 90)).float() / 4
    got = _triton.select_patches(scores.to(device), 1000)
    assert torch.equal(got.cpu(), reference.select_patches(scores, 1000))


def test_many_scores(device: torch.device) -> None:
    """More than 131,072 scores, with NaN and both infinities among them."""
    scores = torch.randn(1, 400, 331)
    scores.view(-1)[::1000] = torch.tensor([NAN, INF, -INF, 0.0, -0.0]).repeat(27)[:133]
    for k, largest in ((5000, True), (132_350, False)):
        got = _triton.select_patches(scores.to(device), k, largest)
        assert torch.equal(got.cpu(), reference.select_patches(scores, k, largest))


@pytest.mark.parametrize("largest", [True, False])
def test_keys_keep_the_order_of_floats(
    small_blocks: None, device: torch.device, largest: bool
) -> None:
    """Neighbours of every exponent and both signs: denormals, infinities, NaN of any payload."""
    bits = torch.arange(0, 256, dtype=torch.int64) << 23
    bits = torch.cat([bits, bits + 1, bits + 0x7FFFFF])
    bits = torch.cat([bits, bits + (1 << 31)])
    bits = bits[torch.randperm(bits.numel())]
    scores = bits.to(torch.uint32).view(torch.float32)[None, None]
    between_zeros = int((scores > 0 if largest else scores < 0).sum()) + 1
    for k in (1, 500, between_zeros, 1100, bits.numel() - 2):
        got = _triton.select_patches(scores.to(device), k, largest)
        assert torch.equal(got.cpu(), reference.select_patches(scores, k, largest)), k


@pytest.mark.parametrize("view", ["transposed", "cropped", "every other", "expanded"])
def test_strides(device: torch.device, view: str) -> None:
    scores = torch.randn(2, 20, 24)
    views = {
        "transposed": lambda s: s.transpose(1, 2),
        "cropped": lambda s: s[:, 3:17, 5:22],
        "every other": lambda s: s[:, :, ::2],
        "expanded": lambda s: s[:1, :1].expand(2, 20, 24),
    }
    pick = views[view]
    got = _triton.select_patches(pick(scores.to(device)), 37)
    assert torch.equal(got.cpu(), reference.select_patches(pick(scores), 37))


def test_more_than_there_are(device: torch.device) -> None:
    with pytest.raises(ValueError, match="k <= Gh\\*Gw = 6, got k = 7"):
        _triton.select_patches(torch.zeros(1, 2, 3, device=device), 7)


def test_selection_feeds_the_gather(device: torch.device) -> None:
    mask, x = torch.rand(2, 3, 3, device=device), torch.randn(2, 4, 9, 10, device=device)
    patches, index = _triton.select_gather_patches(mask, x, 3, 4, 1, 4)
    assert torch.equal(index, select_patches(mask, 3))
    assert torch.equal(patches, gather_patches(x, index, 4, 1))
