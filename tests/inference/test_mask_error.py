"""The error of a mask is what training reports, and the histogram counts every pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sparsesr
from sparsesr.data import load_pair, paired_images
from sparsesr.inference.mask_error import (
    BINS_PER_LEVEL,
    PAPER_MASK_L1,
    compare_masks,
    mask_error_document,
)
from sparsesr.io import write_image


def test_the_error_is_that_of_the_training(net: torch.nn.Module, dataset: Path) -> None:
    from sparsesr.train.validation import _mask_error

    seen: list[tuple] = []
    compared = list(compare_masks(net, dataset, 2, progress=lambda *step: seen.append(step)))
    for pair, image in zip(paired_images(dataset, 2), compared, strict=True):
        lr, _ = load_pair(pair, 2)
        with torch.no_grad():
            assert image.l1 == pytest.approx(_mask_error(net, lr), abs=1e-5)
        assert image.name == pair.name
    # 20x18 LR pixels have 5x4 whole patches of 4x4, 8x8 HR pixels each.
    assert compared[0].target.shape == compared[0].predicted.shape == (5, 4)
    assert compared[0].coarse.shape == (40, 32, 3)
    assert (compared[0].target.min(), compared[0].target.max()) == (0, 1)
    assert seen == [(1, 2, "one"), (2, 2, "two")]


def test_change_and_its_histogram(net: torch.nn.Module, dataset: Path) -> None:
    for image in compare_masks(net, dataset, 2):
        counts = image.histogram()
        assert counts.sum() == image.change.size
        assert counts[:BINS_PER_LEVEL].sum() == (image.change < 1).sum()
        row = image.row()
        assert row["unchanged"] == pytest.approx((image.change < 1).mean())
        assert row["zero_mask_l1"] == pytest.approx(image.target.mean())


def test_document(net: torch.nn.Module, dataset: Path) -> None:
    rows = [image.row() for image in compare_masks(net, dataset, 2)]
    document = mask_error_document(net, 2, dataset, rows)
    assert list(document) == ["model", "scale", "dataset", "paper_mask_l1", "mean", "images"]
    assert document["paper_mask_l1"] == PAPER_MASK_L1 == 0.0346
    assert document["mean"]["mask_l1"] == pytest.approx(np.mean([row["mask_l1"] for row in rows]))


def test_what_has_no_mask(net: torch.nn.Module, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fsrcnn-dnet has no mask of patches"):
        next(compare_masks(sparsesr.create_model("fsrcnn-dnet", 2), dataset, 2))
    (tmp_path / "tiny").mkdir()
    write_image(tmp_path / "tiny" / "t.png", np.zeros((6, 30, 3), np.uint8))
    with pytest.raises(ValueError, match="at least 4x4 pixels, a patch; t has 15x3"):
        next(compare_masks(net, tmp_path / "tiny", 2))
