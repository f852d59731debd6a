"""docs/choosing.md says what its results say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_tables_are_what_the_results_say(root: Path) -> None:
    done = subprocess.run([sys.executable, "tools/choosing.py", "--check"], cwd=root, check=False)
    assert done.returncode == 0, "run python tools/choosing.py"


def test_the_light_network_pays(root: Path) -> None:
    """At the same time within 0.05 dB of the heavy one, or above it."""
    result = json.loads((root / "docs" / "choosing.json").read_text(encoding="utf-8"))
    for found in result["sets"].values():
        for entry in found["same_time"]:
            assert entry["light_same_time"]["psnr"] > entry["heavy"]["psnr"] - 0.05
