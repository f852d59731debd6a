"""A training so small that it takes a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsesr.io import write_image
from sparsesr.train import Recipe, parse_recipe

TINY = """
name: tiny
model: fsrcnn-mga
scale: 2
data:
  train: {folder}
  val: {folder}
  lr_crop: 8
  batch: 2
  cache: {cache}
  name: waves
  terms: none
stages:
  - &stage
    name: dnet
    iterations: 6
    optimizer: {{lr: 1e-3, warmup: 2}}
    ema: 0.9
    val_every: 3
    checkpoint_every: 3
    log_every: 2
  - {{<<: *stage, name: allnet}}
  - {{<<: *stage, name: mask}}
"""


@pytest.fixture
def recipe_text(tmp_path: Path) -> str:
    """YAML of the tiny recipe, its data beside it."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(3):
        y, x = np.mgrid[:40, :48]
        waves = rng.uniform(0.05, 0.6, (3, 3))
        image = [127 + 120 * np.sin(a * y + b * x + c * 9) for a, b, c in waves]
        write_image(folder / f"{n}.png", np.stack(image, -1).round().astype(np.uint8))
    return TINY.format(folder=folder, cache=tmp_path / "cache")


@pytest.fixture
def recipe(recipe_text: str) -> Recipe:
    """The tiny recipe."""
    return parse_recipe(recipe_text)


@pytest.fixture
def routed_head(recipe_text: str) -> str:
    """The tiny recipe for FSRCNN-PCSR, up to its stages."""
    head = recipe_text.partition("stages:")[0]
    return head.replace("fsrcnn-mga", "fsrcnn-pcsr").replace("batch: 2", "batch: 2\n  lr: crop")
