"""The table of an evaluation."""

from __future__ import annotations

from typing import Any

from sparsesr.cli._common import console
from sparsesr.cli._data_sets import image_table

_COSTS = {"heavy_fraction": "heavy", "paper_flops": "paper's GFLOPs", "macs": "GMACs"}


def _cells(row: dict[str, Any]) -> list[str]:
    """The columns of an image, or of the mean, which has no number of patches."""
    patches = [f"{row['k_used']:,}"] if row.get("k_used") is not None else []
    shares = [f"{row['sparsity']:.3f}"] if "sparsity" in row else []
    shares += [f"{share:.2f}" for share in row.get("sparsity_of_modules", [])]
    shares += [f"{row['heavy_fraction']:.3f}"] if "heavy_fraction" in row else []
    shares += [f"{row[key] / 1e9:.2f}" for key in ("paper_flops", "macs") if key in row]
    return [f"{row['psnr']:.3f}", f"{row['ssim']:.4f}", *patches, *shares]


def show_quality(result: dict[str, Any]) -> None:
    """Print a document of ``evaluate``: a row for each image, the mean, the convention."""
    mean = result["mean"]
    words = f"{result['model']} on {result['dataset']}"
    options = ("order", "mask", "hr_mod", "refine")
    extras = [f"{key} {result[key]}" for key in options if key in result]
    title = ", ".join([words, *extras])
    modules = len(mean.get("sparsity_of_modules", []))
    columns = ["PSNR dB", "SSIM"]
    columns += ["patches"] if result["images"][0]["k_used"] is not None else []
    columns += ["sparsity", *(f"SMM{i + 1}" for i in range(modules))] if modules else []
    columns += [words for key, words in _COSTS.items() if key in mean]
    out = console(stderr=False)
    out.print(image_table(title, columns, result, _cells))
    out.print(convention_line(result))


def convention_line(result: dict[str, Any]) -> str:
    """What PSNR and SSIM were taken of."""
    from sparsesr.inference.choices import CONVENTIONS

    return "Convention: " + CONVENTIONS[result["convention"]].format(scale=result["scale"])
