"""Which form of an MGA family to use for an image of a size: multiply-adds and time of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparsesr.complexity import complexity
from sparsesr.inference.break_even import break_even
from sparsesr.inference.contenders import PatchMacs
from sparsesr.inference.profiling import Clock, Thunk, interleaved
from sparsesr.inference.sweep import sweep_points
from sparsesr.inference.upscaler import Upscaler
from sparsesr.models import create_model, parse_name
from sparsesr.models.mga import FAMILIES, Family
from sparsesr.ops import patch_grid

VALUES = ("1", "5%", "10%", "25%", "50%", "all")
FORMS = ("mga", "mga-light")
LEAN, PUBLISHED = "dnet", "dnet, coarse image too"

Split = tuple[int, int]  # blocks of the Base-Net and of the Refine-Net


def plan(
    family: str,
    scale: int,
    lr_size: tuple[int, int],
    values: Sequence[str] = VALUES,
    splits: Sequence[Split] | None = None,
    repeats: int = 5,
    backend: str | None = None,
    device: str | None = None,
    progress: Callable[[int], None] | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, Any]:
    """True multiply-adds and time of a family's forms on one image size, and which to use.

    Time does not depend on what the weights are, so all networks are untrained here: quality is
    another question (``evaluate``). Splits share out the same blocks, so all are compared with the
    D-Net of the published one.

    Args:
        family: "fsrcnn", "pan", "rfdn", "srresnet" or "rcan", or a name of one of its forms.
        lr_size: LR height and width in pixels; the image is noise.
        values: patches to refine, as of ``sweep``: "1000", "10%", "all".
        splits: blocks of Base- and Refine-Net; ``default_splits`` if None.
        repeats: timed runs of everything, in turns, >= 1; one more warms up.
        backend, device: as of ``Upscaler``.
        progress: called once, with the number of calls that are timed, before they are.
        clock: as of ``profiling.interleaved``.

    Returns:
        {"family", "scale", "lr_size": [H, W], "patches", "rows", "break_even", "use", "timing"}.

        "rows": {"model", "form", "split": [a, b], "value", "k", "coverage", "macs", "seconds",
        "macs_saved", "time_saved"}, the last two as what the lean D-Net costs divided by this; of
        the D-Net, lean and as published (the coarse image computed too), value to coverage are
        None. "break_even": {"model", "split", "macs", "seconds"}, the last two as ``break_even``
        without a PSNR. "use": [{"model", "up_to"}], by rising coverage, of the published split and
        by time alone: the form whose points take the least time together as far as it beats the
        lean D-Net, then the D-Net. "timing": {"repeats", "threads", "device", "dtype", "torch"}.

    Raises:
        ValueError: an unknown family, a side or ``repeats`` below 1, a split without blocks on
            either side, a scale or a value that is none.

    Source: the splits are those of MGA (Hu et al., ECCV 2022), Table 5: the same blocks, more or
    fewer of them in the Refine-Net.
    """
    found = find_family(family)
    height, width = lr_size
    if min(height, width, repeats) < 1:
        raise ValueError(
            f"plan: expected sides and repeats of at least 1, got lr_size={tuple(lr_size)} and "
            f"repeats={repeats}"
        )
    chosen = list(default_splits(found) if splits is None else splits)
    for split in chosen:
        if min(split) < 1:
            raise ValueError(f"plan: expected splits of at least 1+1 blocks, got {_text(split)}")
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    options = {"backend": backend, "device": device}
    entries = _dense_entries(found, scale, noise, options)
    upscaler = entries[0].upscaler
    for split in chosen:
        for form in FORMS:
            entries += _sparse_entries(found, form, scale, split, noise, values, options)
    if progress is not None:
        progress(len(entries) * (repeats + 1))
    runs = {str(i): entry.run for i, entry in enumerate(entries)}
    seconds = interleaved(runs, repeats, upscaler.device, backend, clock)
    rows = [entry.row(seconds[str(i)]) for i, entry in enumerate(entries)]
    for row in rows:
        row["macs_saved"] = rows[0]["macs"] / row["macs"]
        row["time_saved"] = rows[0]["seconds"] / row["seconds"]
    grid = patch_grid(height, width, 4)
    document = {
        "family": found.name,
        "scale": scale,
        "lr_size": [height, width],
        "patches": grid[0] * grid[1],
        "rows": rows,
        "break_even": _break_evens(rows),
        "timing": {
            "repeats": repeats,
            "threads": torch.get_num_threads(),
            "device": str(upscaler.device),
            "dtype": str(upscaler.dtype).removeprefix("torch."),
            "torch": torch.__version__,
        },
    }
    return {**document, "use": _use(document, found.blocks)}


def find_family(name: str) -> Family:
    """The family of that name, or of a model of that name.

    Raises:
        ValueError: none of MGA's families.
    """
    stem = parse_name(name)[0]
    for family in FAMILIES:
        if stem == family.name or stem.startswith(f"{family.name}-"):
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise ValueError(f"plan: expected one of MGA's families ({known}), got {name!r}")


def default_splits(family: Family) -> list[Split]:
    """The published split between its neighbours: an eighth of the blocks moved (Table 5).

    Example:
        >>> default_splits(find_family("pan"))
        [(10, 6), (12, 4), (14, 2)]
    """
    base, refine = family.blocks
    step = max(1, (base + refine) // 8)
    splits = [(base + move, refine - move) for move in (-step, 0, step)]
    return [split for split in splits if min(split) >= 1]


@dataclass(frozen=True)
class _Entry:
    """One line of the table: a network, how it is called, what that multiplies."""

    upscaler: Upscaler
    run: Thunk
    facts: dict[str, Any]

    def row(self, seconds: float) -> dict[str, Any]:
        return {**self.facts, "seconds": seconds}


class _WithCoarse(nn.Module):
    """A D-Net that computes its coarse image too, as published."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, lr: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, 3, sH, sW]
        return self.net(lr, return_details=True).sr


def _dense_entries(
    family: Family, scale: int, noise: Tensor, options: dict[str, Any]
) -> list[_Entry]:
    """The lean D-Net, then the published one."""
    name = f"{family.name}-dnet"
    net = create_model(name, scale)
    upscaler = Upscaler(net, **options)
    lr = _placed(noise, upscaler)
    size = (noise.shape[-2], noise.shape[-1])
    entries = []
    for form, counted, more in (
        (LEAN, net, {}),
        (PUBLISHED, _WithCoarse(net), {"return_details": True}),
    ):
        facts = {
            "model": f"{name}-x{scale}",
            "form": form,
            "split": list(family.blocks),
            **dict.fromkeys(("value", "k", "coverage")),
            "macs": complexity(counted, size).macs,
        }
        entries.append(_Entry(upscaler, partial(upscaler.run, lr, **more), facts))
    return entries


def _sparse_entries(
    family: Family,
    form: str,
    scale: int,
    split: Split,
    noise: Tensor,
    values: Sequence[str],
    options: dict[str, Any],
) -> list[_Entry]:
    """A form at every value, by rising coverage."""
    name = f"{family.name}-{form}"
    net: Any = create_model(name, scale, base_blocks=split[0], refine_blocks=split[1])
    upscaler = Upscaler(net, **options)
    lr = _placed(noise, upscaler)
    size = (noise.shape[-2], noise.shape[-1])
    rows, cols = patch_grid(*size, net.patch_size)
    macs = PatchMacs(net)
    entries = []
    for point in sweep_points(net, values, ""):
        k = net.patch_count(size, point.choice.get("k"), point.choice.get("budget"))
        facts = {
            "model": f"{name}-x{scale}",
            "form": form,
            "split": list(split),
            "value": point.value,
            "k": k,
            "coverage": k / (rows * cols),
            "macs": macs(size, k),
        }
        entries.append(_Entry(upscaler, partial(upscaler.run, lr, k=k), facts))
    return sorted(entries, key=lambda entry: entry.facts["coverage"])


def _placed(noise: Tensor, upscaler: Upscaler) -> Tensor:
    moved = noise.to(upscaler.device, upscaler.dtype)
    return moved.contiguous(memory_format=upscaler.memory_format)


def _break_evens(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every network that refines patches, the coverage at which it costs as the lean D-Net."""
    lean, points = rows[0], [row for row in rows if row["k"] is not None]
    found = []
    for model, split in dict.fromkeys((row["model"], tuple(row["split"])) for row in points):
        curve = [row for row in points if (row["model"], tuple(row["split"])) == (model, split)]
        shares, nothing = [row["coverage"] for row in curve], [0.0] * len(curve)
        verdicts = {}
        for measure in ("macs", "seconds"):
            costs = [float(row[measure]) for row in curve]
            verdict = break_even(shares, costs, nothing, float(lean[measure]))
            verdicts[measure] = {key: verdict[key] for key in ("verdict", "coverage")}
        found.append({"model": model, "split": list(split), **verdicts})
    return found


def _use(document: dict[str, Any], split: Split) -> list[dict[str, Any]]:
    """Models by the coverage up to which they are the fastest, in the published split."""
    rows, lean = document["rows"], document["rows"][0]["model"]
    totals: dict[str, float] = {}
    for row in rows:
        if row["k"] is not None and row["split"] == list(split):
            totals[row["model"]] = totals.get(row["model"], 0.0) + row["seconds"]
    if not totals:
        return []
    best = min(totals, key=lambda model: totals[model])
    verdict = next(
        entry["seconds"]
        for entry in document["break_even"]
        if entry["model"] == best and entry["split"] == list(split)
    )
    if verdict["verdict"] == "dearer":
        return [{"model": lean, "up_to": 1.0}]
    if verdict["verdict"] == "cheaper":
        highest = max(row["coverage"] for row in rows if row["model"] == best)
        return [{"model": best, "up_to": highest}]
    return [{"model": best, "up_to": verdict["coverage"]}, {"model": lean, "up_to": 1.0}]


def _text(split: Split) -> str:
    return "+".join(map(str, split))
