"""Quality and cost of a variant on a data set, measured once."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from sparsesr.complexity import complexity
from sparsesr.data import paired_images
from sparsesr.inference import evaluate
from sparsesr.inference.choices import PAPER_K, PAPER_K_ELSEWHERE
from sparsesr.io import atomic_output
from sparsesr.nn import selects_patches

from .plan import PAPER_K_PIXELS, Ablation, Variant

_AVERAGED = ("psnr", "ssim", "heavy_fraction", "sparsity", "paper_flops")


def measure(
    variant: Variant,
    net: nn.Module,
    root: str,
    ablation: Ablation,
    cache: Path,
    device: str | None = None,
) -> dict[str, Any]:
    """Means over the images of ``root``, and over the runs of the variant.

    A measurement that lies in the folder ``cache`` and asked the same is not repeated.

    Returns:
        {"psnr", "ssim", "k", "images"} and, where the network has them, "heavy_fraction" and
        "sparsity"; "paper_flops" if the ablation shows FLOPs or the convention counts them.
    """
    scale = variant.scale or int(net.scale)  # type: ignore[arg-type]
    path = cache / f"{_slug(variant.name)}-{_slug(Path(root).resolve().name)}.json"
    asked = {
        "variant": variant.name,
        "weights": _digest(net),
        "runs": [dict(run) for run in variant.runs],
        "scale": scale,
        "convention": ablation.convention,
        "data": str(Path(root).resolve()),
        "images": len(paired_images(root, scale)),
    }
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["asked"] == asked:
            return kept["measured"]
    measured = _measure(variant, net, root, scale, ablation, device)
    cache.mkdir(parents=True, exist_ok=True)
    with atomic_output(path, overwrite=True) as part:
        part.write_text(json.dumps({"asked": asked, "measured": measured}, indent=2) + "\n")
    return measured


def _measure(
    variant: Variant,
    net: nn.Module,
    root: str,
    scale: int,
    ablation: Ablation,
    device: str | None,
) -> dict[str, Any]:
    measured_net = variant.wrap(net) if variant.wrap else net
    documents = [
        evaluate(
            measured_net,
            root,
            scale,
            **_with_paper_k(run, net, root),
            convention=ablation.convention,
            device=device,
        )
        for run in variant.runs
    ]
    keys = [key for key in _AVERAGED if key in documents[0]["mean"]]
    row: dict[str, Any] = {
        key: math.fsum(d["mean"][key] for d in documents) / len(documents) for key in keys
    }
    counts = [image["k_used"] for image in documents[0]["images"]]
    row["k"] = None if counts[0] is None else math.fsum(counts) / len(counts)
    row["images"] = len(counts)
    if "flops" in ablation.columns and "paper_flops" not in row:
        row["paper_flops"] = _mean_flops(net, root, scale, counts)
    return row


def _with_paper_k(run: Mapping[str, Any], net: Any, root: str) -> dict[str, Any]:
    """The options of a run; the papers' k is meant for patches of 4, its area is kept."""
    if run.get("k", "paper") != "paper" or "budget" in run or not selects_patches(net):
        return dict(run)
    k = PAPER_K.get(Path(root).resolve().name.lower(), PAPER_K_ELSEWHERE)
    return {**run, "k": k * PAPER_K_PIXELS // net.patch_size**2}


def _mean_flops(net: nn.Module, root: str, scale: int, counts: Sequence[int | None]) -> float:
    """The paper's FLOPs of an image, mean over the set; images of one size are counted once."""
    pairs = paired_images(root, scale)
    kinds: Counter[tuple[int, int, int | None]] = Counter()
    for pair, k in zip(pairs, counts, strict=True):
        with Image.open(pair.lr or pair.hr) as image:
            width, height = image.size
        divisor = 1 if pair.lr else scale
        kinds[height // divisor, width // divisor, k] += 1
    flops = [
        number * complexity(net, (height, width), k=k).paper_flops
        for (height, width, k), number in kinds.items()
    ]
    return math.fsum(flops) / len(pairs)


def _digest(net: nn.Module) -> str:
    found = hashlib.sha256()
    for name, value in net.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _slug(name: str) -> str:
    """A file name; signs are spelt out, so that rows stay apart.

    Example:
        >>> _slug("FSRCNN-M(w/o S)"), _slug("DRA+RSA")
        ('fsrcnn-m-w-o-s', 'dra+rsa')
    """
    return re.sub(r"[^a-z0-9.+=]+", "-", name.lower()).strip("-")
