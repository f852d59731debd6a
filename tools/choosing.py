"""Measure what docs/choosing.md says: light coarse images beside heavy ones, quality and time.

    python tools/choosing.py ../shared/data    # measure (half an hour), then as below
    python tools/choosing.py ../shared/data --keep-plans   # after new weights: plans have none
    python tools/choosing.py                   # the document's tables and figure from its results
    python tools/choosing.py --check           # exit 1 if a table is not what the results say

Results are docs/choosing.json, the figure docs/images/choosing.png. A table of docs/choosing.md
stands between ``<!-- table: NAME -->`` and ``<!-- end table -->``. Leave the machine alone while
it measures.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

import sparsesr
from sparsesr.data import load_pair, paired_images
from sparsesr.inference import Upscaler, evaluate, sweep
from sparsesr.inference.planning import plan
from sparsesr.inference.profiling import interleaved
from sparsesr.inference.seams import measure_seams
from sparsesr.viz import save_figure
from sparsesr.viz.plots import BLUE, GREEN, GREY, ORANGE, new_figure

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "choosing.md"
RESULT = ROOT / "docs" / "choosing.json"
FIGURE = ROOT / "docs" / "images" / "choosing.png"

SETS = ("Set5", "Set14", "B100")
SCALE = 4
HEAVY, LIGHT, DENSE = "fsrcnn-mga-x4", "fsrcnn-mga-light-x4", "fsrcnn-dnet-x4"
SHARES = (0.0, 0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
COMPARED = (0.1, 0.25, 0.5)  # shares of the heavy network that the light one is held against
# Family -> LR height and width, splits (None: the published one's neighbours too), repeats.
PLANS: dict[str, tuple[tuple[int, int], list[tuple[int, int]] | None, int]] = {
    "fsrcnn": ((270, 480), None, 7),
    "pan": ((135, 240), [(12, 4)], 3),
    "rfdn": ((135, 240), [(4, 2)], 3),
    "srresnet": ((68, 120), [(12, 4)], 3),
    "rcan": ((68, 120), [(7, 3)], 2),
}


def measure(data: Path, repeats: int, plans: dict[str, Any] | None = None) -> dict[str, Any]:
    """All of docs/choosing.json; on one thread, whose CPU time other processes change little.

    ``plans`` measured before are kept: their networks are untrained.
    """
    torch.set_num_threads(1)
    nets = {name: sparsesr.from_pretrained(name) for name in (HEAVY, LIGHT, DENSE)}
    sets = {}
    for name in SETS:
        print(f"{name}: quality and time", flush=True)
        sets[name] = curves(nets, data / name, repeats)
        sets[name]["same_time"] = [
            same_time(sets[name]["points"], share, data / name, nets) for share in COMPARED
        ]
    return {
        "convention": "Y of MATLAB rgb2ycbcr, 8-bit rounded, border = scale, mean over images",
        "timing": {
            "what": "CPU time, mean over five images of the median of each, all networks in turns",
            "repeats": repeats,
            "threads": torch.get_num_threads(),
            "vector_instructions": torch.backends.cpu.get_cpu_capability(),
            "torch": torch.__version__,
            "load_average_after": round(os.getloadavg()[0], 2),
        },
        "sets": sets,
        "plans": _plans() if plans is None else plans,
    }


def _plans() -> dict[str, Any]:
    found = {}
    for family, (size, splits, each) in PLANS.items():
        print(f"{family}: plan", flush=True)
        found[family] = plan(
            family, SCALE, size, splits=splits, repeats=each, clock=time.process_time
        )
    return found


def curves(nets: dict[str, Any], root: Path, repeats: int) -> dict[str, Any]:
    """PSNR and seconds at every share, of the dense network too; which images were timed."""
    values = [f"{100 * share:g}%" for share in SHARES]
    points: dict[str, list[dict[str, float]]] = {}
    timed: list[str] = []
    for name in (HEAVY, LIGHT):
        found = sweep(nets[name], root, SCALE, values, time_images=5, repeats=1)
        timed = found["timing"]["images"]
        points[name] = [
            {"share": share, "psnr": point["mean"]["psnr"], "macs": point["mean"]["macs"]}
            for share, point in zip(SHARES, found["points"], strict=True)
        ]
    dense = {"psnr": evaluate(nets[DENSE], root, SCALE)["mean"]["psnr"]}
    times: dict[str, list[float]] = {}
    for pair in paired_images(root, SCALE):
        if pair.name in timed:
            lr = load_pair(pair, SCALE)[0]
            taken = interleaved(_runs(nets, lr), repeats, clock=time.process_time)
            for key, seconds in taken.items():
                times.setdefault(key, []).append(seconds)
    for name in (HEAVY, LIGHT):
        for point in points[name]:
            point["seconds"] = fmean(times[f"{name} {point['share']}"])
    dense["seconds"] = fmean(times[DENSE])
    return {"images": timed, "points": points, "dense": dense}


def _runs(nets: dict[str, Any], lr: torch.Tensor) -> dict[str, Callable[[], Any]]:
    runs: dict[str, Callable[[], Any]] = {}
    for name, net in nets.items():
        upscaler = Upscaler(net)
        x = lr.contiguous(memory_format=upscaler.memory_format)
        if name == DENSE:
            runs[name] = partial(upscaler.run, x)
            continue
        for share in SHARES:
            runs[f"{name} {share}"] = partial(upscaler.run, x, budget=share)
    return runs


def rising(points: list[dict[str, float]]) -> list[float]:
    """Seconds of the points; where noise makes more work take less time, as long as less work."""
    return [float(each) for each in np.maximum.accumulate([point["seconds"] for point in points])]


def same_time(
    points: dict[str, list[dict[str, float]]], share: float, root: Path, nets: dict[str, Any]
) -> dict[str, Any]:
    """The heavy network at a share, and the light one at that share and at the same time."""
    at = next(i for i, point in enumerate(points[HEAVY]) if point["share"] == share)
    taken = rising(points[HEAVY])[at]
    # From one patch up: there is nothing between none and the first, which needs the mask.
    shares = [point["share"] for point in points[LIGHT][1:]]
    reached = round(float(np.interp(taken, rising(points[LIGHT])[1:], shares)), 4)
    found: dict[str, Any] = {"share": share, "seconds": taken, "light_share": reached}
    for key, name, budget in (
        ("heavy", HEAVY, share),
        ("light_same_share", LIGHT, share),
        ("light_same_time", LIGHT, reached),
    ):
        known = [point["psnr"] for point in points[name] if point["share"] == budget]
        psnr = known or [evaluate(nets[name], root, SCALE, budget=budget)["mean"]["psnr"]]
        plain, smooth = (
            measure_seams(nets[name], root, SCALE, budget=budget, smooth=smooth)["mean"]
            for smooth in (False, True)
        )
        found[key] = {
            "psnr": psnr[0],
            **{measure: plain[measure] for measure in ("seam_psnr", "rest_psnr", "refined_psnr")},
            "smooth_seam_psnr": smooth["seam_psnr"],
        }
    return found


# The document


def draw(result: dict[str, Any]) -> Any:
    """PSNR against time of both networks and of the lean dense one, a panel for each data set."""
    figure, panels = new_figure(12, 4.2, panels=len(SETS))
    for axes, name in zip(panels, SETS, strict=True):
        found = result["sets"][name]
        for model, colour, mark in ((HEAVY, BLUE, "o-"), (LIGHT, GREEN, "^-")):
            points = found["points"][model]
            at = [(1e3 * point["seconds"], point["psnr"]) for point in points]
            axes.plot(*zip(*at, strict=True), mark, color=colour, label=model, markersize=4)
            for i in (0, 3, len(points) - 1):
                axes.annotate(
                    f"{100 * points[i]['share']:.0f} %",
                    at[i],
                    (4, -10),
                    textcoords="offset points",
                    fontsize=7,
                    color=colour,
                )
        dense = found["dense"]
        axes.axvline(1e3 * dense["seconds"], color=ORANGE, linestyle="--", linewidth=1)
        axes.plot(1e3 * dense["seconds"], dense["psnr"], "s", color=ORANGE, label=f"{DENSE} (lean)")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("time per image, ms")
        axes.margins(x=0.12, y=0.1)
    panels[0].set_ylabel("PSNR, dB")
    panels[0].legend(loc="lower right", fontsize=8, framealpha=0.9)
    figure.supxlabel(f"{result['convention']}.\n{_how(result)}", fontsize=7, color=GREY)
    return figure


def quality(result: dict[str, Any]) -> list[str]:
    """Both at the same time."""
    rows = []
    for name, found in result["sets"].items():
        for entry in found["same_time"]:
            heavy, light = entry["heavy"]["psnr"], entry["light_same_time"]["psnr"]
            rows.append(
                {
                    "set": name,
                    "time, ms": f"{1e3 * entry['seconds']:.1f}",
                    f"{HEAVY} refines": _share(entry["share"]),
                    "PSNR": f"{heavy:.3f}",
                    f"{LIGHT} refines": _share(entry["light_share"]),
                    "PSNR ": f"{light:.3f}",
                    "difference": f"{light - heavy:+.3f}",
                }
            )
    return _markdown(rows)


def ends(result: dict[str, Any]) -> list[str]:
    """What lies at the ends of the curves, and the dense network."""
    rows = []
    for name, found in result["sets"].items():
        for model in (HEAVY, LIGHT):
            first, last = found["points"][model][0], found["points"][model][-1]
            rows.append(
                {
                    "set": name,
                    "network": model,
                    "coarse dB": f"{first['psnr']:.3f}",
                    "ms": f"{1e3 * first['seconds']:.1f}",
                    "every patch dB": f"{last['psnr']:.3f}",
                    "ms ": f"{1e3 * last['seconds']:.1f}",
                    "D-Net dB": f"{found['dense']['psnr']:.3f}",
                    "ms  ": f"{1e3 * found['dense']['seconds']:.1f}",
                }
            )
    return _markdown(rows)


def seams(result: dict[str, Any]) -> list[str]:
    """Bands along borders: the heavy network, the light one at its share and at its time."""
    rows = []
    for name, found in result["sets"].items():
        for entry in found["same_time"]:
            row = {"set": name, "refined": _share(entry["share"])}
            heavy = entry["heavy"]
            row |= {"-mga band": f"{heavy['seam_psnr']:.2f}", "rest": f"{heavy['rest_psnr']:.2f}"}
            for title, key in (
                ("same share", "light_same_share"),
                ("same time", "light_same_time"),
            ):
                part = entry[key]
                if part["seam_psnr"] is None:
                    row |= {f"-light band, {title}": "no border", f"smoothed, {title}": "-"}
                    continue
                row |= {
                    f"-light band, {title}": f"{part['seam_psnr']:.2f}",
                    f"smoothed, {title}": f"{part['smooth_seam_psnr']:.2f}",
                }
            rows.append(row)
    return _markdown(rows)


def plans(result: dict[str, Any]) -> list[str]:
    """Every family's forms at 10 % of the patches, and how far they pay."""
    rows = []
    for family, found in result["plans"].items():
        lean, height, width = found["rows"][0], *found["lr_size"]
        for even in found["break_even"]:
            row = next(
                row
                for row in found["rows"]
                if (row["model"], row["split"], row["value"])
                == (even["model"], even["split"], "10%")
            )
            rows.append(
                {
                    "family": family,
                    "LR": f"{width}x{height}",
                    "D-Net, ms": f"{1e3 * lean['seconds']:.0f}",
                    "form": row["form"],
                    "blocks": "+".join(map(str, row["split"])),
                    "at 10 %, multiply-adds": f"{row['macs_saved']:.2f}x",
                    "time": f"{row['time_saved']:.2f}x",
                    "even at, multiply-adds": _even(even["macs"]),
                    "time ": _even(even["seconds"]),
                }
            )
    return _markdown(rows)


def timing(result: dict[str, Any]) -> list[str]:
    """How time was taken."""
    return [f"- {_how(result)}"]


def _how(result: dict[str, Any]) -> str:
    how = result["timing"]
    threads = f"{how['threads']} thread{'s' if how['threads'] > 1 else ''}"
    return (
        f"Time: {how['what']}; {how['repeats']} runs, {threads}, {how['vector_instructions']}, "
        f"float32, torch {how['torch']}; load average of the machine {how['load_average_after']}"
    )


def _even(verdict: dict[str, Any]) -> str:
    if verdict["verdict"] == "crosses":
        return _share(verdict["coverage"])
    return "never" if verdict["verdict"] == "dearer" else "always cheaper"


def _share(share: float) -> str:
    return f"{100 * share:.0f} %"


def _markdown(rows: list[dict[str, str]]) -> list[str]:
    titles = list(rows[0])
    lines = [titles, ["---"] * len(titles), *([row[t] for t in titles] for row in rows)]
    return ["| " + " | ".join(cell.strip() for cell in cells) + " |" for cells in lines]


TABLES: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "quality": quality,
    "ends": ends,
    "seams": seams,
    "plans": plans,
    "timing": timing,
}


def updated(text: str, result: dict[str, Any]) -> str:
    """``text`` with every marked table made anew. Raises KeyError where a marker names none."""

    def replace(found: re.Match[str]) -> str:
        body = "\n".join(TABLES[found[1]](result))
        return f"<!-- table: {found[1]} -->\n{body}\n<!-- end table -->"

    pattern = r"<!-- table: ([a-z ]+) -->\n.*?<!-- end table -->"
    return re.sub(pattern, replace, text, flags=re.DOTALL)


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", help="folder with Set5/, Set14/ and B100/")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--keep-plans", action="store_true")
    parser.add_argument("--repeats", type=int, default=15)
    asked = parser.parse_args()
    if asked.data is not None:
        kept = json.loads(RESULT.read_text(encoding="utf-8"))["plans"] if asked.keep_plans else None
        text = json.dumps(measure(asked.data, asked.repeats, kept), indent=1)
        RESULT.write_text(text + "\n", encoding="utf-8")
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    old = DOCUMENT.read_text(encoding="utf-8")
    new = updated(old, result)
    if asked.check:
        return int(old != new)
    DOCUMENT.write_text(new, encoding="utf-8")
    save_figure(draw(result), FIGURE, overwrite=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
