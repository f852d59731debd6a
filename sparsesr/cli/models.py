"""``sparsesr models``: what there is."""

from __future__ import annotations

from typing import Any

import typer

from sparsesr.cli._common import JsonOption, console, guarded, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("models")(models)


@guarded
def models(as_json: JsonOption = False) -> None:
    """List the models: name, scale, parameters, and whether weights ship with the package."""
    rows = model_rows()
    if as_json:
        print_json(
            [{key: row[key] for key in ("name", "scale", "params", "weights")} for row in rows]
        )
        return
    from rich.table import Table

    table = Table(title="Models", title_justify="left")
    table.add_column("model", no_wrap=True)
    table.add_column("parameters", justify="right")
    table.add_column("weights")
    table.add_column("what it is")
    for row in rows:
        name = f"{row['name']}-x{row['scale']}"
        shipped = "shipped" if row["weights"] else "-"
        table.add_row(name, f"{row['params']:,}", shipped, row["summary"])
    console(stderr=False).print(table)


def model_rows() -> list[dict[str, Any]]:
    """One row per model and scale: name, scale, params, weights, summary."""
    import torch

    import sparsesr

    rows = []
    for info in sparsesr.list_models():
        for scale in info.scales:
            with torch.device("meta"):  # shapes alone: the count needs no numbers
                net = sparsesr.create_model(info.name, scale)
            rows.append(
                {
                    "name": info.name,
                    "scale": scale,
                    "params": sum(p.numel() for p in net.parameters()),
                    "weights": _ships(info.name, scale),
                    "summary": info.summary,
                }
            )
    return rows


def _ships(name: str, scale: int) -> bool:
    """Whether ``from_pretrained`` finds weights, its own or those of a form that contains them."""
    from sparsesr.models import WeightsNotFoundError, from_pretrained

    try:
        from_pretrained(name, scale)
    except WeightsNotFoundError:
        return False
    return True
