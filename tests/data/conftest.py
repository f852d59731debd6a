"""A small folder of synthetic photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsesr.io import write_image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three smooth RGB images, sizes not multiples of 2, 3 or 4."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n, (height, width) in enumerate(((41, 50), (37, 63), (49, 45))):
        y, x = np.mgrid[:height, :width]
        waves = rng.uniform(0.05, 0.6, (3, 3))
        image = [127 + 120 * np.sin(a * y + b * x + c * 9) for a, b, c in waves]
        write_image(folder / f"{n}.png", np.stack(image, -1).round().astype(np.uint8))
    return folder
