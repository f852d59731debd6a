"""Write the tables of README.md from the committed result files.

    python tools/update_tables.py            # rewrite
    python tools/update_tables.py --check    # exit 1 if a table is not what the files say

A table stands between ``<!-- table: NAME -->`` and ``<!-- end table -->``. Figures come from
docs/evaluation.json (tools/evaluate_shipped.py) and bench/results/ (pytest bench/ --save-results).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
EVALUATION = ROOT / "docs" / "evaluation.json"
# Which committed run each table of the benches is taken from.
RESULTS = ROOT / "bench" / "results"
RUNS = {
    "fsrcnn_mga": RESULTS / "epyc-avx2-1thread-fsrcnn.json",
    "refine_patches": RESULTS / "epyc-avx2-1thread-programs.json",
    "run_program": RESULTS / "epyc-avx2-1thread-programs.json",
    "mga_families": RESULTS / "epyc-avx2-1thread-families-3.json",
    "smsr_sets": RESULTS / "cpu-1thread-smsr.json",
    "pcsr": RESULTS / "epyc-avx2-1thread-pcsr.json",
}

Row = dict[str, str]


def quality() -> list[str]:
    """PSNR of the shipped models: coarse, K = 240 by mask, oracle and chance, everything."""
    columns = {
        "coarse image": "coarse",
        "K = 240": "240 mask",
        "K = 240, ground-truth mask": "240 oracle",
        "K = 240, random": "240 random",
        "every patch": "all",
        "D-Net": "dense",
    }
    models = json.loads(EVALUATION.read_text(encoding="utf-8"))["models"]
    rows = []
    for name, sets in models.items():
        family, form, scale = name.partition("-mga-")
        if not form:
            continue
        dense = models.get(f"{family}-dnet-{scale.removeprefix('light-')}", {})
        for dataset, choices in sets.items():
            found = {**choices, **dense.get(dataset, {})}
            figures = {
                title: f"{found[key]['psnr']:.2f}" if key in found else "-"
                for title, key in columns.items()
            }
            rows.append({"model": name, "set": dataset, **figures})
    return _markdown(rows)


def speed() -> list[str]:
    """The whole network against dense ones: every row of the committed run."""
    keep = (
        "form",
        "engine",
        "upsampler",
        "layout",
        "K",
        "ms",
        "vs lean",
        "vs published",
        "vs any",
        "vs own",
        "vs paper",
        "floor ms",
    )
    return _bench_table("fsrcnn_mga", keep)


def speed_facts() -> list[str]:
    """What the figures were measured on, and what else that run says."""
    return _facts("fsrcnn_mga")


def refine() -> list[str]:
    """Refine-Nets alone, on patches of a map."""
    keep = ("net", "K", "cover", "op ms", "x torch", "x chunked", "x layered", "% peak")
    return _bench_table("refine_patches", keep)


def maps() -> list[str]:
    """Networks and single steps over a map."""
    keep = ("what", "map", "op ms", "torch ms", "x torch", "GFLOP/s", "% peak")
    return _bench_table("run_program", keep)


def programs_facts() -> list[str]:
    """What these two were measured on."""
    return _facts("run_program")


def families() -> list[str]:
    """Every family against its dense network: time beside multiply-adds."""
    keep = (
        "family",
        "form",
        "LR",
        "K",
        "mga ms",
        "lean ms",
        "vs lean",
        "MACs lean",
        "vs published",
        "MACs published",
        "vs OpenVINO",
        "vs own",
    )
    return _bench_table("mga_families", keep)


def families_facts() -> list[str]:
    """What those figures were measured on; two points do not give the cost of a patch there."""
    return _facts("mga_families")[:1]


def smsr() -> list[str]:
    """SMSR by data set, against its dense form."""
    columns = ("set", "images", "sparsity", "vs dense", "worst", "best", "MACs", "kept", "vs paper")
    return _bench_table("smsr_sets", columns)


def smsr_facts() -> list[str]:
    """What those figures were measured on."""
    return _facts("smsr_sets")


def pcsr() -> list[str]:
    """PCSR against the original networks."""
    keep = (
        "network",
        "k",
        "heavy",
        "ms",
        "original ms",
        "vs original",
        "MACs",
        "vs paper",
        "floor ms",
    )
    return _bench_table("pcsr", keep)


def pcsr_facts() -> list[str]:
    """What those figures were measured on."""
    return _facts("pcsr")


def _run_of(table: str) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(RUNS[table].read_text(encoding="utf-8"))
    return run


def _facts(table: str) -> list[str]:
    run = _run_of(table)
    names = ("machine", "threads", "dtype", "clock", "torch", "date", "commit")
    facts = ", ".join(f"{name} {run[name]}" for name in names if name in run)
    return [f"- {facts}", *(f"- {note}" for note in run["tables"][table]["notes"])]


def _bench_table(name: str, keep: tuple[str, ...]) -> list[str]:
    rows = _run_of(name)["tables"][name]["rows"]
    return _markdown([{column: row.get(column, "") for column in keep} for row in rows])


def _markdown(rows: list[Row]) -> list[str]:
    titles = list(rows[0])
    lines = [titles, ["---"] * len(titles), *([row[t] for t in titles] for row in rows)]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


TABLES: dict[str, Callable[[], list[str]]] = {
    "quality": quality,
    "speed": speed,
    "speed facts": speed_facts,
    "refine": refine,
    "maps": maps,
    "programs facts": programs_facts,
    "families": families,
    "families facts": families_facts,
    "smsr": smsr,
    "smsr facts": smsr_facts,
    "pcsr": pcsr,
    "pcsr facts": pcsr_facts,
}


def updated(text: str) -> str:
    """``text`` with every marked table made anew.

    Raises:
        KeyError: a marker names no table.
    """

    def replace(found: re.Match[str]) -> str:
        body = "\n".join(TABLES[found[1]]())
        return f"<!-- table: {found[1]} -->\n{body}\n<!-- end table -->"

    pattern = r"<!-- table: ([a-z ]+) -->\n.*?<!-- end table -->"
    return re.sub(pattern, replace, text, flags=re.DOTALL)


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    old: Any = README.read_text(encoding="utf-8")
    new = updated(old)
    if arguments == ["--check"]:
        return int(old != new)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
