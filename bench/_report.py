"""Where the figures go: a table per bench at the end of the run, and raw rows in bench/results."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from _protocol import Timing

import sparsesr
import sparsesr.ops._native
from sparsesr.inference.machine import cpu_name

RESULTS = Path(__file__).parent / "results"


@dataclass
class Table:
    """Rows of one bench: what is printed, in the order of the first row's columns."""

    title: str
    rows: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The table as text, columns aligned to the right."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        cells = [names, *([row.get(name, "") for name in names] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
        text = [
            "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)).rstrip()
            for row in cells
        ]
        return [self.title, *text, *self.notes]


@dataclass
class Report:
    """Everything a session measured."""

    facts: dict[str, Any]
    tables: dict[str, Table] = field(default_factory=dict)
    raw: list[dict[str, Any]] = field(default_factory=list)

    def table(self, bench: str, title: str) -> Table:
        """The table of a bench, made on first use."""
        return self.tables.setdefault(bench, Table(title))

    def record(self, bench: str, case: dict[str, Any], timings: dict[str, Timing]) -> None:
        """Keep the raw rows of one interleaved run: one per contender."""
        constant = {
            key: self.facts[key] for key in ("threads", "dtype", "clock", "malloc", "torch")
        }
        for contender, timing in timings.items():
            row = {"bench": bench, **case, "contender": contender, **constant}
            self.raw.append({**row, "seconds": timing.as_dict()})

    def lines(self) -> list[str]:
        """All tables under one line of facts."""
        # No break inside a fact: "commit" stays with its hash.
        facts = ", ".join(f"{key} {value}".replace(" ", "\0") for key, value in self.facts.items())
        text = [line.replace("\0", " ") for line in textwrap.wrap(facts, 110)]
        for table in self.tables.values():
            text += ["", *table.lines()]
        return text

    def save(self, path: Path) -> None:
        """Write facts, printed tables and raw rows; nothing half-written stays behind."""
        tables = {
            name: {"title": t.title, "rows": t.rows, "notes": t.notes}
            for name, t in self.tables.items()
        }
        text = json.dumps({**self.facts, "tables": tables, "rows": self.raw}, indent=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(path)


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Machine, versions and commit: what a figure means nothing without."""
    return {
        **(_gpu_facts() if device.type == "cuda" else {}),
        "machine": f"{cpu_name()}, {os.cpu_count()} cores",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "load": round(os.getloadavg()[0], 2),
    }


def _gpu_facts() -> dict[str, Any]:
    native = sparsesr.ops._native.build_info() if sparsesr.ops._native.available() else {}
    triton = importlib.util.find_spec("triton") is not None
    return {
        "gpu": torch.cuda.get_device_name(),
        "compute_capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "driver": native.get("cuda", {}).get("driver_version"),
        "cuda": torch.version.cuda,
        "triton": importlib.metadata.version("triton") if triton else None,
    }


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
