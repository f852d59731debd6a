"""``sparsesr tables``: the papers' tables of parameters and FLOPs, computed again."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsesr.cli._common import JsonOption, console, guarded, print_json

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tables")(tables)


@guarded
def tables(
    paper: Annotated[
        list[str] | None,
        typer.Option("--paper", help="mga, smsr, pcsr or drsan; may be repeated. Default: all."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute the papers' parameters and FLOPs again and set them beside what is printed."""
    from sparsesr.tables import compare_tables

    with console().status("counting every network of the tables"):
        rows = compare_tables(paper)
    if as_json:
        print_json(rows)
        return
    out = console(stderr=False)
    for (name, table), group in groupby(rows, key=lambda row: (row["paper"], row["table"])):
        part, _, number = table.rpartition(" ")  # "appendix 5", "supp II"
        _show(out, " ".join(filter(None, (f"{name},", part, "Table", number))), list(group))
    done = sum(row["reproduced"] for row in rows)
    out.print(
        f"{done} of {len(rows)} figures reproduced: within half a unit of the last digit plus "
        "0.1 % of the figure (0.2 % for PCSR and MGA Table 6). FLOPs and parameters as each paper "
        "counts them (SMSR: without the logits of static channel masks)."
    )


def _show(out: Console, title: str, rows: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    reasons = list(dict.fromkeys(row["reason"] for row in rows if row["reason"]))
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("variant", "scale", "data set", ""):
        table.add_column(name, no_wrap=name != "data set", min_width=len(name))
    for name in ("paper", "ours", "error"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("agrees", no_wrap=True)
    for row in rows:
        error = row["error_percent"]
        table.add_row(
            row["variant"],
            f"x{row['scale']}",
            row["dataset"],
            "params" if row["quantity"] == "params" else "FLOPs",
            row["published_text"] or "-",
            _number(row["ours"], row["quantity"]),
            "-" if error is None else f"{error:+.3f} %",
            Text("yes" if row["reproduced"] else f"no [{reasons.index(row['reason']) + 1}]"),
        )
    out.print(table)
    for number, reason in enumerate(reasons, 1):
        out.print(f"  [{number}] {reason}", markup=False)
    out.print()


def _number(ours: int | None, quantity: str) -> str:
    if ours is None:
        return "-"
    return f"{ours:,}" if quantity == "params" else f"{ours / 1e9:.3f}G"
