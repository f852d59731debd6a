"""Write what the four papers print, numbers and names only, to sparsesr/assets.

    python tools/published_tables.py ../shared            # rewrite
    python tools/published_tables.py ../shared --check    # exit 1 if a file is not what it makes

Reads spec/paper_tables.json and spec/urban100_sizes.json of the shared folder, and the sizes of the
images in data/. published_tables.json holds parameters and FLOPs, which `sparsesr tables`
recomputes; published_quality.json PSNR, SSIM and sparsity of the tables that `sparsesr ablate` has.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "sparsesr" / "assets"
ABLATIONS = {
    "MGA": ("3", "4", "5", "6", "7"),
    "SMSR": ("supp I",),
    "PCSR": ("3", "4", "5", "appendix 3"),
    "DRSAN": ("V", "VI", "VII"),
}

SOURCES = {
    "MGA": "Hu et al., ECCV 2022",
    "SMSR": "Wang et al., CVPR 2021, supplement",
    "PCSR": "Jeong et al., ECCV 2024",
    "DRSAN": "Park et al.",
}
# Mean LR pixels of the sets whose files are not at hand, solved from rows of dense networks whose
# FLOPs are so many per pixel: (protocol, dataset, scale) -> pixels.
FITTED = {
    ("MGA", "Test2K", 2): 447_456,
    ("MGA", "Test2K", 3): 198_884,
    ("MGA", "Test2K", 4): 111_872,
    ("MGA", "Test4K", 2): 1_716_790,
    ("MGA", "Test4K", 3): 763_034,
    ("MGA", "Test4K", 4): 429_206,
    ("PCSR", "Test2K", 4): 99_147,
    ("PCSR", "Test4K", 4): 405_382,
    ("PCSR", "Test8K", 4): 2_336_377,
}
FIT_SOURCE = {
    "MGA": "fitted to the RCAN rows of MGA Table 1, one number per set and scale",
    "PCSR": "fitted to the SRResNet row of PCSR Table 1",
}

Size = tuple[int, int]  # width, height


def multiple_of(side: int) -> Callable[[int], int]:
    """MGA: an LR side is cropped to a multiple of the patch size."""
    return lambda length: length // side * side


def tiled(length: int) -> int:
    """PCSR: an LR side is cropped to what 32-px tiles at stride 28 cover."""
    return 28 * ((length - 32) // 28) + 32


def mean_pixels(hr: list[Size], scale: int, crop: Callable[[int], int]) -> float:
    """Mean LR pixels of HR images of these sizes after the crop."""
    return round(sum(crop(w // scale) * crop(h // scale) for w, h in hr) / len(hr), 2)


def pixels(shared: Path) -> list[dict[str, Any]]:
    """Mean LR pixels by protocol, dataset, scale and, where it has one, crop multiple."""
    spec = shared / "spec"
    urban: list[Size] = [
        tuple(s) for s in json.loads((spec / "urban100_sizes.json").read_text()).values()
    ]
    rows = []

    def add(protocol: str, dataset: str, scale: int, crop: int | None, n: float, why: str) -> None:
        rows.append(
            {
                "protocol": protocol,
                "dataset": dataset,
                "scale": scale,
                "crop": crop,
                "pixels": n,
                "source": why,
            }
        )

    for scale in (2, 3, 4):
        for crop in (2, 4, 8):
            mean = mean_pixels(urban, scale, multiple_of(crop))
            add("MGA", "Urban100", scale, crop, mean, f"its files, sides a multiple of {crop}")
    for (protocol, dataset, scale), n in FITTED.items():
        add(protocol, dataset, scale, 4 if protocol == "MGA" else None, n, FIT_SOURCE[protocol])
    files = "its files, sides 28n + 32"
    add("PCSR", "Urban100", 4, None, mean_pixels(urban, 4, tiled), files)
    # PCSR first crops the HR images of Set14 and B100 to multiples of 12.
    for dataset in ("Set14", "B100"):
        sizes = [_size(path) for path in sorted((shared / "data" / dataset / "HR").iterdir())]
        hr = [(w // 12 * 12, h // 12 * 12) for w, h in sizes]
        add("PCSR", dataset, 4, None, mean_pixels(hr, 4, tiled), f"{files}, HR a multiple of 12")
    return rows


def _size(path: Path) -> Size:
    with Image.open(path) as image:
        return image.size


def tables(
    shared: Path, row: Callable[[dict[str, Any], list[dict[str, Any]]], list[Any]]
) -> list[dict[str, Any]]:
    """The papers' tables, sorted, with the rows that `row` makes of a cell and its table."""
    cells = json.loads((shared / "spec" / "paper_tables.json").read_text(encoding="utf-8"))
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        found.setdefault((cell["system"], cell["table"]), []).append(cell)
    return [
        {"paper": paper, "table": table, "rows": [row(cell, rows) for cell in rows]}
        for (paper, table), rows in sorted(found.items(), key=_order)
    ]


def _order(item: tuple[tuple[str, str], Any]) -> tuple[int, bool, str]:
    paper, table = item[0]
    return list(SOURCES).index(paper), table.startswith("appendix"), table


def _cost(cell: dict[str, Any], table: list[dict[str, Any]]) -> list[Any]:
    """[variant, scale, dataset, params, flops, note]."""
    flops = cell["gflops"]
    # 52.20 has lost its zero: a table prints all its FLOPs with the same number of decimals.
    decimals = max(_decimals(c["gflops"]) for c in table if c["gflops"] is not None) if flops else 0
    return [
        cell["variant"],
        cell["scale"],
        cell["dataset"],
        cell["params"],
        None if flops is None else f"{flops:.{decimals}f}G",
        _note(cell.get("note") or ""),
    ]


def _quality(cell: dict[str, Any], table: list[dict[str, Any]]) -> list[Any]:
    """[variant, scale, dataset, psnr, ssim, sparsity]."""
    values = [cell.get(key) for key in ("psnr", "ssim", "sparsity")]
    return [cell["variant"], cell["scale"], cell["dataset"], *values]


def _decimals(number: float) -> int:
    return len(str(number).partition(".")[2].rstrip("0"))


def _note(note: str) -> str | None:
    """Why a row is no target; other notes are about how it was read."""
    reason, mark, _ = note.partition("; do not use as a target")
    return reason if mark else None


def files(shared: Path) -> dict[str, str]:
    """The files by name, one row a line."""
    quality = [
        table for table in tables(shared, _quality) if table["table"] in ABLATIONS[table["paper"]]
    ]
    head = {"sources": SOURCES}
    cost = {"mean_lr_pixels": pixels(shared), "tables": tables(shared, _cost)}
    return {
        "published_tables.json": _text({**head, **cost}),
        "published_quality.json": _text({**head, "tables": quality}),
    }


def _text(document: dict[str, Any]) -> str:
    parts = [f'"{key}": {_layout(value)}' for key, value in document.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _layout(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    if value and "rows" in value[0]:
        lines = []
        for table in value:
            name = f'"paper": {json.dumps(table["paper"])}, "table": {json.dumps(table["table"])}'
            rows = ",\n".join(json.dumps(row) for row in table["rows"])
            lines.append(f'{{{name}, "rows": [\n{rows}\n]}}')
        return "[\n" + ",\n".join(lines) + "\n]"
    return "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    if not arguments:
        print(__doc__)
        return 2
    made = files(Path(arguments[0]))
    if arguments[1:] == ["--check"]:
        return int(any((ASSETS / n).read_text(encoding="utf-8") != t for n, t in made.items()))
    for name, content in made.items():
        (ASSETS / name).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
