"""Measure every shipped mask-guided model on Set5, Set14 and B100 and keep the figures.

    python tools/evaluate_shipped.py ../shared/data [MODEL ...]

writes docs/evaluation.json: for every model, data set and choice of patches the mean Y-PSNR and
SSIM, with versions. Named models alone are measured again, the others keep their figures. The
README's tables are made from that file by tools/update_tables.py.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch

import sparsesr
from sparsesr.inference import evaluate
from sparsesr.models import shipped_weights
from sparsesr.nn import selects_patches

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "docs" / "evaluation.json"
SETS = ("Set5", "Set14", "B100")

# What is asked of the mask: nothing, K as in the paper, half of the patches, all of them.
CHOICES: dict[str, dict[str, Any]] = {
    "coarse": {"k": 0},
    "240 mask": {"k": 240},
    "240 oracle": {"k": 240, "mask": "oracle"},
    "240 random": {"k": 240, "order": "random"},
    "half largest": {"k": 0.5},
    "half random": {"k": 0.5, "order": "random"},
    "half smallest": {"k": 0.5, "order": "smallest"},
    "all": {"k": "all"},
}


def measure(data: Path, names: list[str]) -> dict[str, Any]:
    """{model: {set: {choice: {psnr, ssim}}}} and what it was measured with."""
    known = json.loads(RESULT.read_text(encoding="utf-8"))["models"] if RESULT.is_file() else {}
    models: dict[str, Any] = {name: known[name] for name in shipped_weights() if name in known}
    for name in names or shipped_weights():
        net = sparsesr.from_pretrained(name)
        choices = CHOICES if selects_patches(net) else {"dense": {}}
        models[name] = {
            dataset: {
                label: evaluate(net, data / dataset, net.scale, **options)["mean"]
                for label, options in choices.items()
            }
            for dataset in SETS
        }
    return {
        "convention": "Y of MATLAB rgb2ycbcr, 8-bit rounded, border = scale, mean over images",
        "sparsesr": sparsesr.__version__,
        "torch": torch.__version__,
        "models": dict(sorted(models.items())),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with Set5/, Set14/ and B100/")
    parser.add_argument("models", nargs="*", help="shipped models to measure (default: all)")
    asked = parser.parse_args()
    text = json.dumps(measure(asked.data, asked.models), indent=1)
    part = RESULT.with_suffix(".part")
    RESULT.parent.mkdir(exist_ok=True)
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, RESULT)
    print(f"wrote {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
