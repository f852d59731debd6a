"""The table of an evaluation."""

from __future__ import annotations

from typing import Any

from sparsesr.cli._common import console

_COSTS = {"heavy_fraction": "heavy", "paper_flops": "paper's GFLOPs", "macs": "GMACs"}
_CONVENTIONS = {
    "y": "Y of MATLAB rgb2ycbcr, 8-bit rounded, border {scale} cropped",
    "rgb": "RGB, 8-bit rounded, border {scale} cropped",
    "pcsr": "PCSR's: RGB, float LR, LR cropped to 28 n + 32, 8-bit rounded, border {scale} cropped",
}


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
    from rich.table import Table

    mean = result["mean"]
    words = f"{result['model']} on {result['dataset']}"
    options = ("order", "mask", "hr_mod", "refine")
    extras = [f"{key} {result[key]}" for key in options if key in result]
    title = ", ".join([words, *extras])
    table = Table(title=title, title_justify="left")
    table.add_column("image")
    modules = len(mean.get("sparsity_of_modules", []))
    columns = ["PSNR dB", "SSIM"]
    columns += ["patches"] if result["images"][0]["k_used"] is not None else []
    columns += ["sparsity", *(f"SMM{i + 1}" for i in range(modules))] if modules else []
    columns += [words for key, words in _COSTS.items() if key in mean]
    for name in columns:
        table.add_column(name, justify="right")
    for image in result["images"]:
        table.add_row(image["name"], *_cells(image))
    table.add_section()
    table.add_row("mean", *_cells(mean))
    out = console(stderr=False)
    out.print(table)
    out.print(convention_line(result))


def convention_line(result: dict[str, Any]) -> str:
    """What PSNR and SSIM were taken of."""
    return "Convention: " + _CONVENTIONS[result["convention"]].format(scale=result["scale"])
