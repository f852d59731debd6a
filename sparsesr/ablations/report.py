"""The table of an ablation as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsesr.io import atomic_output

_MEASURES = {
    "flops": ("GFLOPs", lambda value: f"{value / 1e9:.2f}"),
    "psnr": ("PSNR", lambda value: f"{value:.3f}"),
    "ssim": ("SSIM", lambda value: f"{value:.4f}"),
    "heavy_fraction": ("heavy", lambda value: f"{value:.3f}"),
    "sparsity": ("sparsity", lambda value: f"{value:.3f}"),
}
_CONVENTIONS = {
    "y": "PSNR in dB and SSIM on Y of MATLAB's rgb2ycbcr, 8-bit rounded, border = scale cropped",
    "rgb": "PSNR in dB and SSIM on RGB, 8-bit rounded, border = scale cropped",
    "pcsr": "PSNR in dB and SSIM on RGB, float LR, cropped to sides of 28 n + 32, 8-bit rounded, "
    "border = scale cropped",
}
_CSV = (
    "ablation",
    "profile",
    "variant",
    "data_set",
    "source",
    "psnr",
    "ssim",
    "paper_flops",
    "params",
    "k",
    "heavy_fraction",
    "sparsity",
    "from",
    "steps",
    "seconds",
)

Cells = list[list[str]]


def title(document: dict[str, Any]) -> str:
    """One line above the table."""
    part, _, number = document["table"].rpartition(" ")  # "appendix 3", "supp I"
    table = ", ".join(filter(None, (document["paper"], part, f"Table {number}")))
    trained = any(row["steps"] for row in document["rows"])
    profile = f", profile {document['profile']}" if trained else ""
    return f"{table}: {document['about']}{profile}"


def remarks(document: dict[str, Any]) -> list[str]:
    """Lines below the table."""
    flops = "; FLOPs as the paper counts them" if "flops" in document["columns"] else ""
    convention = _CONVENTIONS[document["convention"]]
    return [f"{convention}, mean over the images{flops}.", document["note"]]


def our_columns(document: dict[str, Any]) -> tuple[list[str], Cells]:
    """Headers and cells of what was measured here."""
    rows, columns = document["rows"], document["columns"]
    headers = ["variant"] + (["params"] if "params" in columns else [])
    keys = [key for key in _MEASURES if key in ("psnr", "ssim", *columns)]
    headers += [f"{name} {_MEASURES[key][0]}" for name in rows[0]["sets"] for key in keys]
    cells = []
    for row in rows:
        line = [row["variant"]] + ([f"{row['params']:,}"] if "params" in columns else [])
        for measured in row["sets"].values():
            line += [_cell(key, measured) for key in keys]
        cells.append(line)
    return headers, cells


def their_columns(document: dict[str, Any]) -> tuple[list[str], Cells]:
    """Headers and cells of what the paper prints; of our data sets, else of its first one."""
    rows = document["rows"]
    printed = list(dict.fromkeys(name for row in rows for name in row["published"]))
    ours = list(rows[0]["sets"])
    names = [name for name in printed if name in ours] or printed[:1]
    found = [row["published"].get(name, {}) for row in rows for name in names]
    keys = [
        k for k in ("params", "flops", "psnr", "ssim", "sparsity") if any(k in f for f in found)
    ]
    if not keys:
        return [], [[] for _ in rows]
    headers = ["paper's row", *(f"paper: {name} {_label(key)}" for name in names for key in keys)]
    cells = []
    for row in rows:
        line = [row["published_as"] or "-"]
        for name in names:
            values = row["published"].get(name, {})
            line += [str(values.get(key, "-")) for key in keys]
        cells.append(line)
    return headers, cells


def history(document: dict[str, Any]) -> tuple[list[str], Cells]:
    """Headers and cells of what the numbers come from."""
    cells = []
    for row in document["rows"]:
        steps = ", ".join(f"{name} {count}" for name, count in row["steps"].items())
        seconds = f"{row['seconds']:.0f}" if row["steps"] else "-"
        cells.append(
            [row["variant"], row["from"], steps or "-", seconds, row["train"] or "no training"]
        )
    return ["variant", "from", "steps", "seconds", "data"], cells


def _label(key: str) -> str:
    return key if key not in _MEASURES else _MEASURES[key][0].replace("GFLOPs", "FLOPs")


def _cell(key: str, measured: dict[str, Any]) -> str:
    value = measured.get("paper_flops" if key == "flops" else key)
    return "-" if value is None else _MEASURES[key][1](value)


def markdown(document: dict[str, Any]) -> str:
    """The whole report."""
    headers, cells = our_columns(document)
    more, printed = their_columns(document)
    table = _grid(headers + more, [a + b for a, b in zip(cells, printed, strict=True)])
    command = [f"```sh\n{document['command']}\n```"] if document["command"] else []
    parts = [
        f"## {title(document)}",
        *command,
        table,
        *remarks(document),
        _grid(*history(document)),
    ]
    if any(row["steps"] for row in document["rows"]):
        parts.append("Seconds of all trainings a row builds on, shared ones counted in each row.")
    return "\n\n".join(parts) + "\n"


def _grid(headers: Sequence[str], rows: Cells) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table_csv(document: dict[str, Any]) -> str:
    """One line for each row and data set, ours and the paper's."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _CSV, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in document["rows"]:
        steps = sum(row["steps"].values())
        common = {key: document[key] for key in ("ablation", "profile")}
        for name, measured in row["sets"].items():
            known = {key: value for key, value in measured.items() if value is not None}
            own = {**row, **known, "steps": steps, "data_set": name, "source": "ours"}
            writer.writerow({**common, **own})
        for name, values in row["published"].items():
            theirs = {"variant": row["published_as"], "data_set": name, "source": "published"}
            writer.writerow({**common, **theirs, **values, "paper_flops": values.get("flops", "")})
    return out.getvalue()


def write_files(document: dict[str, Any], folder: Path) -> list[Path]:
    """NAME.md, NAME.json and NAME.csv in ``folder``, each whole or not at all."""
    texts = {
        "md": markdown(document),
        "json": json.dumps(document, indent=2) + "\n",
        "csv": table_csv(document),
    }
    paths = []
    for ending, text in texts.items():
        path = folder / f"{document['ablation']}.{ending}"
        with atomic_output(path, overwrite=True) as part:
            part.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths
