"""Recipes and photographs so small that an ablation takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsesr.io import write_image

MGA = """
name: tiny
model: fsrcnn-mga
scale: {scale}
init: {{conv: identity}}
data: {{train: {train}, val: {val}, lr_crop: 8, batch: 2, cache: {cache}, name: waves}}
stages:
  - &stage
    name: dnet
    iterations: 9
    optimizer: {{lr: 1e-3, warmup: 2, periods: 2}}
    log_every: 1
  - {{<<: *stage, name: allnet}}
  - {{<<: *stage, name: allnet-2}}
  - {{<<: *stage, name: mask}}
profiles: {{short: {{}}}}
"""


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A folder with the test sets Set5 and Set14, of two images and one."""
    rng = np.random.default_rng(0)
    for name, count in (("Set5", 2), ("Set14", 1)):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for n in range(count):
            y, x = np.mgrid[:64, : 64 + 16 * n]
            waves = rng.uniform(0.05, 0.6, (3, 3))
            image = [127 + 120 * np.sin(a * y + b * x + c * 9) for a, b, c in waves]
            write_image(folder / f"{n}.png", np.stack(image, -1).round().astype(np.uint8))
    return tmp_path / "data"


@pytest.fixture
def recipes(tmp_path: Path, sets: Path) -> Path:
    """A folder of recipes that train a step or two."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    for scale in (2, 4):
        text = MGA.format(
            scale=scale, train=sets / "Set5", val=sets / "Set5", cache=tmp_path / "cache"
        )
        (folder / f"fsrcnn-mga-x{scale}.yaml").write_text(text)
    return folder
