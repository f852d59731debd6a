"""One network at several k: the quality, coverage, multiply-adds and time of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from sparsesr.inference.break_even import break_even
from sparsesr.inference.choices import check_options, choice_of, k_shown, unusual_options
from sparsesr.inference.contenders import DenseContender, Point, SparseContender
from sparsesr.inference.evaluation import (
    Progress,
    display_name,
    load_images,
    means,
    quality,
)
from sparsesr.inference.profiling import interleaved
from sparsesr.inference.rivals import Rival
from sparsesr.inference.upscaler import Upscaler
from sparsesr.nn import routes_pixels, selects_patches

if TYPE_CHECKING:
    from sparsesr.data import ImagePair

PATCH_VALUES = ("0%", "5%", "10%", "25%", "50%", "all")
EXPONENTS = ("0%", "2", "1", "0.5", "0", "all")  # from every pixel light to every pixel heavy

Contender = SparseContender | DenseContender
Rows = list[dict[str, Any]]  # one for each image
Tell = Callable[[int, str], None]  # images done, the name of the last


def sweep(
    net: nn.Module,
    root: str | Path,
    scale: int,
    values: Sequence[str] | None = None,
    convention: Literal["y", "rgb", "pcsr"] = "y",
    hr_mod: int | None = None,
    order: Literal["largest", "random", "smallest"] = "largest",
    seed: int = 0,
    refine: bool = True,
    rival: Rival | None = None,
    time_images: int = 5,
    repeats: int = 5,
    backend: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a network on a folder of images at several k, and a dense network beside it.

    Quality is exactly that of ``evaluate`` at each value; options not named here are its.

    Args:
        net: a model that selects patches or routes pixels.
        values: "240" patches (for networks that route pixels: the exponent of the cost), "10%" of
            the patches (pixels that are heavy), "all", and the other words of ``evaluate``'s k;
            by default ``PATCH_VALUES`` or ``EXPONENTS``.
        rival: the dense network, see ``lean_rival``; its quality is measured if it is trained.
        time_images: how many images are timed, spread evenly over the set ordered by size.
        repeats: timed runs of each image at each value, all in turns, after one that warms up.
        progress: called after each image, first for the quality, then for the time.

    Returns:
        {"model", "scale", "convention", "dataset", "points", "floor", "dense", "break_even",
        "timing"}, and "order", "hr_mod", "refine" where they are not the default.

        "points", by rising coverage: {"value", "k", "mean": {"psnr", "ssim", "coverage", "macs"},
        "seconds", "images"}. Images are as in ``evaluate``, with coverage (share of the patches
        refined, or of the pixels heavy) and true multiply-adds; seconds are the mean over the timed
        images of the median of each. "floor": what one patch (no heavy pixel) costs. "dense": the
        same of the rival, with "model" and "trained", or None. "break_even": for "macs" and for
        "seconds" what ``break_even`` returns for the curve from its floor up, or None.

    Raises:
        ValueError: as ``evaluate``; a network without k, an unknown or repeated value,
            ``time_images`` or ``repeats`` below 1.
    """
    dataset = Path(root).resolve().name
    points = sweep_points(net, values, dataset)
    check_options(net, scale, convention, order, "predicted", hr_mod, refine)
    if time_images < 1 or repeats < 1:
        raise ValueError(
            f"sweep: expected time_images and repeats >= 1, got {time_images} and {repeats}"
        )
    from sparsesr.data import paired_images

    images = _Images(paired_images(root, scale), scale, convention, hr_mod)
    upscaler = Upscaler(net, backend=backend, device=device)
    sparse = SparseContender(upscaler, points, scale, order, seed, refine)
    contenders: list[Contender] = [sparse]
    if rival is not None:
        dense = Upscaler(rival.net, backend=backend, device=device)
        contenders.append(DenseContender(dense, rival.name, rival.trained))
    steps = len(images.pairs) + min(time_images, len(images.pairs))
    tell = partial(_tell, progress, steps)
    rows, sizes = _qualities(contenders, images, tell)
    timed = _spread(sizes, time_images)
    seconds = _times(contenders, images, timed, repeats, upscaler, tell)
    document = {
        "model": display_name(net, scale),
        "scale": scale,
        "convention": convention,
        "dataset": dataset,
        **_results(sparse, rival, rows, seconds, timed),
        "timing": {
            "images": [images.pairs[i].name for i in timed],
            "repeats": repeats,
            "threads": torch.get_num_threads(),
            "device": str(upscaler.device),
            "dtype": str(upscaler.dtype).removeprefix("torch."),
            "torch": torch.__version__,
        },
    }
    return document | unusual_options({}, order, "predicted", hr_mod, refine)


def sweep_points(net: nn.Module, values: Sequence[str] | None, dataset: str) -> list[Point]:
    """The values of a sweep as arguments of the network; ``None`` stands for the default ones.

    Raises:
        ValueError: a network without k; a value that is none, out of range, or there twice.
    """
    if not selects_patches(net) and not routes_pixels(net):
        name = getattr(net, "model_name", type(net).__name__)
        raise ValueError(
            f"sweep: {name} has no k to sweep; expected a network that selects patches (-mga) or "
            "routes pixels (-pcsr)"
        )
    if values is None:
        values = EXPONENTS if routes_pixels(net) else PATCH_VALUES
    if not values:
        raise ValueError("sweep: expected at least one value such as 240, 10% or all, got none")
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"sweep: the value {twice} is there twice; give each once")
    return [Point(value, _choice(net, value, dataset)) for value in values]


def _choice(net: nn.Module, value: str, dataset: str) -> dict[str, Any]:
    if value in ("paper", "all", "adaptive"):
        return choice_of(net, value, None, dataset)
    number = value.removesuffix("%")
    whole = number == value and not routes_pixels(net)
    try:
        parsed: float = int(number) if whole else float(number)
    except ValueError:
        parsed = math.nan
    if not math.isfinite(parsed):
        raise ValueError(f"sweep: expected values such as 240, 10% or all, got {value!r}")
    if number == value:
        return choice_of(net, parsed, None, dataset)
    if not 0 <= parsed <= 100:
        raise ValueError(f"sweep: expected a share from 0% to 100%, got {value}")
    return {"budget": parsed / 100}


@dataclass(frozen=True)
class _Images:
    """A test set under a convention."""

    pairs: Sequence[ImagePair]
    scale: int
    convention: str
    hr_mod: int | None

    def load(self, number: int) -> tuple[Tensor, Tensor]:
        return load_images(self.pairs[number], self.scale, self.convention, self.hr_mod)


def _qualities(
    contenders: Sequence[Contender], images: _Images, tell: Tell
) -> tuple[dict[str, Rows], list[int]]:
    """A row for each image, by value, and the LR pixels of each image."""
    rows: dict[str, Rows] = {}
    sizes = []
    for i, pair in enumerate(images.pairs):
        lr, hr = images.load(i)
        sizes.append(lr.shape[-2] * lr.shape[-1])
        for contender in contenders:
            for value, (sr, used) in contender.outputs(lr, i):
                measures = (
                    quality(sr, hr, images.scale, images.convention) if sr is not None else {}
                )
                rows.setdefault(value, []).append({"name": pair.name, **measures, **used})
        tell(i + 1, pair.name)
    return rows, sizes


def _times(
    contenders: Sequence[Contender],
    images: _Images,
    numbers: Sequence[int],
    repeats: int,
    upscaler: Upscaler,
    tell: Tell,
) -> dict[str, float]:
    """Seconds by value: the mean over the images of the median over the repeats."""
    taken: dict[str, list[float]] = {}
    for done, i in enumerate(numbers):
        lr = images.load(i)[0].to(upscaler.device, upscaler.dtype)
        lr = lr.contiguous(memory_format=upscaler.memory_format)
        runs = {name: run for contender in contenders for name, run in contender.runs(lr).items()}
        for value, seconds in interleaved(runs, repeats, upscaler.device, upscaler.backend).items():
            taken.setdefault(value, []).append(seconds)
        tell(len(images.pairs) + done + 1, images.pairs[i].name)
    return {value: fmean(seconds) for value, seconds in taken.items()}


def _spread(sizes: Sequence[int], count: int) -> list[int]:
    """Numbers of ``count`` images, evenly spread over all of them ordered by size."""
    by_size = sorted(range(len(sizes)), key=lambda i: sizes[i])
    count = min(count, len(sizes))
    return sorted(by_size[(2 * i + 1) * len(sizes) // (2 * count)] for i in range(count))


def _results(
    sparse: SparseContender,
    rival: Rival | None,
    rows: dict[str, Rows],
    seconds: dict[str, float],
    timed: Sequence[int],
) -> dict[str, Any]:
    """ "points", "dense" and "break_even" of the document."""
    measured: list[dict[str, Any]] = [
        {
            "value": point.value,
            "k": k_shown(point.choice),
            **({"budget": point.choice["budget"]} if "budget" in point.choice else {}),
            "mean": means(rows[point.value]),
            "seconds": seconds[point.value],
            "images": rows[point.value],
        }
        for point in sparse.points
    ]
    measured.sort(key=lambda point: point["mean"]["coverage"])
    least = sparse.floor.value
    costs = {key: means(rows[least])[key] for key in ("coverage", "macs")}
    floor = {"mean": costs, "seconds": seconds[least]}
    results: dict[str, Any] = {"points": measured, "floor": floor}
    if rival is None:
        return {**results, "dense": None, "break_even": None}
    dense: dict[str, Any] = {
        "model": rival.name,
        "trained": rival.trained,
        "mean": means(rows[rival.name]),
        "seconds": seconds[rival.name],
        "images": rows[rival.name],
    }
    curve = [{**floor, "images": rows[least]}, *measured]
    found = {
        "macs": _break_even(curve, dense, "macs", range(len(rows[least]))),
        "seconds": _break_even(curve, dense, "seconds", timed),
    }
    return {**results, "dense": dense, "break_even": found}


def _break_even(
    curve: Sequence[dict[str, Any]], dense: dict[str, Any], measure: str, numbers: Sequence[int]
) -> dict[str, Any]:
    """``break_even`` of a curve from its floor up; coverage is the mean over images ``numbers``."""
    floor, *points = curve

    def coverage(point: dict[str, Any]) -> float:
        return fmean(point["images"][i]["coverage"] for i in numbers)

    def cost(part: dict[str, Any]) -> float:
        return part["seconds"] if measure == "seconds" else part["mean"][measure]

    above = [point for point in points if coverage(point) > coverage(floor)]
    # One patch changes hardly any pixel: its quality is that of the least coverage measured.
    psnrs = [point["mean"]["psnr"] for point in (points[0], *above)]
    shares, costs = [coverage(p) for p in (floor, *above)], [cost(p) for p in (floor, *above)]
    return break_even(shares, costs, psnrs, cost(dense))


def _tell(progress: Progress | None, steps: int, done: int, name: str) -> None:
    if progress is not None:
        progress(done, steps, name)
