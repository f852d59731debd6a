"""One file of ``sparsesr upscale``: read, enlarge, write, and what to say about it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsesr.cli._common import load_for_scale
from sparsesr.cli._upscale_jobs import Job

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sparsesr.inference import Upscaler

Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How files are enlarged; whoever has these can make the upscaler (and another process can).

    Attributes:
        model, scale: as ``load_for_scale`` takes them.
        choice: ``k``, ``budget`` or ``time_budget`` (seconds), or none of them.
        jpeg_quality: 1 to 100, of JPEG and WebP.
    """

    model: str | None
    scale: float | None
    choice: dict[str, Any]
    tile: str = "auto"
    precision: str = "auto"
    tta: bool = False
    backend: str | None = None
    device: str | None = None
    overwrite: bool = False
    jpeg_quality: int = 95


def upscaler_of(settings: Settings, net: Any = None, scale: float | None = None) -> Upscaler:
    """The upscaler for these settings; the network and its scale if they are known already."""
    from sparsesr.inference import Upscaler

    if net is None:
        net, _, scale = load_for_scale(settings.model, settings.scale)
    return Upscaler(
        net,
        settings.tile,
        settings.backend,
        device=settings.device,
        scale=scale,
        precision=settings.precision,
        tta=settings.tta,
        **settings.choice,
    )


def attempt(upscaler: Upscaler, job: Job, settings: Settings) -> Row:
    """Do a job; the row of the JSON document, with what went wrong if something did."""
    row: Row = {"input": str(job.source), "output": str(job.output)}
    if job.problem is not None:
        return row | {"ok": False, "output": None, "error": job.problem}
    if job.skip:
        return row | {"ok": True, "skipped": True}
    try:
        return row | {"ok": True, **_do(upscaler, job, settings)}
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        return row | {"ok": False, "output": None, "error": _told(job, error)}


def _told(job: Job, error: Exception) -> str:
    """What went wrong, with the name of the file."""
    from sparsesr.inference.memory import is_out_of_memory

    text = str(error)
    if is_out_of_memory(error) and "out of memory" not in text:
        text = f"out of memory ({text or type(error).__name__})"
    return text if str(job.source) in text else f"{job.source}: {text}"


def _do(upscaler: Upscaler, job: Job, settings: Settings) -> Row:
    from sparsesr.inference import compare
    from sparsesr.inference.choices import tells_in_details
    from sparsesr.inference.pictures import lr_tensor, with_result
    from sparsesr.io import read_picture, write_image, write_picture

    told: list[str] = []
    with _collected(told):
        image = read_picture(job.source)
    lr = lr_tensor(image)
    details = tells_in_details(upscaler.net) or job.mask is not None
    start = time.perf_counter()
    out: Any = upscaler.run(lr, **({"return_details": True} if details else {}))
    picked = upscaler.picked
    sr = out.sr if details else out
    result = with_result(upscaler, image, sr)
    seconds = time.perf_counter() - start
    hr = _original(job.hr, lr, sr)
    job.output.parent.mkdir(parents=True, exist_ok=True)
    with _collected(told):
        write_picture(job.output, result, settings.overwrite, settings.jpeg_quality)
    row: Row = {
        "lr_size": list(image.colour.shape[:2]),
        "sr_size": list(result.colour.shape[:2]),
        "seconds": seconds,
    }
    if picked is not None:
        times = {"asked": picked.asked, "expected": picked.expected, "took": picked.took}
        row["time_budget"] = times
    if told:
        row["warnings"] = told
    upscaler.picked = picked  # alpha may have had a call of its own
    choices, mask = _choices(upscaler, row["lr_size"], out, details, job.mask is not None)
    row |= choices
    if job.mask is not None and mask is not None:
        write_image(job.mask, mask, settings.overwrite)
        row["mask"] = str(job.mask)
    if job.strip is not None:
        write_image(job.strip, compare(upscaler, lr, out, hr), settings.overwrite)
        row["compare"] = str(job.strip)
    return row


@contextmanager
def _collected(texts: list[str]) -> Iterator[None]:
    """Add what is warned of inside, each with the name of its file, to ``texts``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    texts += [str(warning.message) for warning in caught]


def _choices(
    upscaler: Upscaler, lr_size: list[int], out: Any, details: bool, draw: bool
) -> tuple[Row, np.ndarray | None]:
    """How much was computed and, if asked for, a picture of where."""
    from sparsesr.nn import has_sparse_masks, routes_pixels, selects_patches

    if has_sparse_masks(upscaler.net):
        return {"sparsity": float(out.sparsity()[0])}, _pixel_masks(out) if draw else None
    if routes_pixels(upscaler.net):
        return {"heavy_fraction": float(out.heavy_fraction()[0])}, _classes(out) if draw else None
    if selects_patches(upscaler.net):
        return _patches(upscaler, lr_size, out if details else None)
    return {}, None


def _patches(
    upscaler: Upscaler, lr_size: list[int], out: Any | None
) -> tuple[Row, np.ndarray | None]:
    """How many patches were refined and, from the details ``out``, which."""
    from sparsesr.inference.upscaler import round_to_array
    from sparsesr.ops import patch_grid
    from sparsesr.viz import mask_overlay

    net: Any = upscaler.net
    grid = patch_grid(lr_size[0], lr_size[1], net.patch_size)
    count = net.patch_count((lr_size[0], lr_size[1]), **upscaler.chosen())
    row = {"k_used": count, "coverage": count / (grid[0] * grid[1])}
    if out is None:
        return row, None
    index = out.index[0].cpu().numpy()
    return row, mask_overlay(round_to_array(out.sr), index, grid, net.patch_size * net.scale)


def _pixel_masks(out: Any) -> np.ndarray:
    """What each sparse mask module computed."""
    import numpy as np

    from sparsesr.inference.upscaler import round_to_array
    from sparsesr.viz import pixel_masks

    return pixel_masks(
        round_to_array(out.sr), np.stack([m.spatial[0, 0].cpu().numpy() for m in out.masks])
    )


def _classes(out: Any) -> np.ndarray:
    """The pixels of each class but the lightest."""
    import numpy as np

    from sparsesr.inference.upscaler import round_to_array
    from sparsesr.viz import pixel_masks

    heavier = range(1, out.logits.shape[1])
    masks = np.stack([(out.class_map[0] == j).cpu().numpy() for j in heavier])
    return pixel_masks(round_to_array(out.sr), masks, "class ")


def _original(path: Path | None, lr: Tensor, sr: Tensor) -> Tensor | None:
    """The HR image for a comparison, as large as the result."""
    from sparsesr.inference.pictures import lr_tensor
    from sparsesr.io import read_picture

    if path is None:
        return None
    hr = lr_tensor(read_picture(path))
    height, width = sr.shape[2:]
    factor = -(-height // lr.shape[2])
    # LR images are made of HR ones less the last rows that make no whole LR pixel.
    if not (0 <= hr.shape[2] - height < factor and 0 <= hr.shape[3] - width < factor):
        raise ValueError(
            f"{path}: expected an HR image of {width}x{height} to compare with, got "
            f"{hr.shape[3]}x{hr.shape[2]}"
        )
    return hr[:, :, :height, :width]


def speed_of(row: Row) -> str:
    """Output megapixels a second and the share that was computed."""
    megapixels = row["sr_size"][0] * row["sr_size"][1] / 1e6
    covered = f", {100 * row['coverage']:.0f} % refined" if "coverage" in row else ""
    covered += f", {100 * row['sparsity']:.0f} % skipped" if "sparsity" in row else ""
    covered += f", {100 * row['heavy_fraction']:.0f} % heavy" if "heavy_fraction" in row else ""
    return f"{megapixels / row['seconds']:.1f} MP/s{covered}"


def line_of(row: Row) -> str:
    """What is printed about a file that was done or skipped."""
    if row.get("skipped"):
        return f"{row['input']}: {row['output']} is there, skipped"
    height, width = row["sr_size"]
    told = f"{row['seconds']:.2f} s, {speed_of(row)}"
    if "time_budget" in row:
        from sparsesr.inference.time_budget import in_words

        times = row["time_budget"]
        patches = f"chose {row['k_used']} patches, " if "k_used" in row else ""
        told += f"; of {in_words(times['asked'])} {patches}took {in_words(times['took'])}"
    return f"{row['input']} -> {row['output']} ({width}x{height}, {told})"
