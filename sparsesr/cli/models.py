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
    """List the models: scales, parameters at the largest, the scales whose weights ship.

    With --json, a row for each model and scale with the parameters of each.
    """
    from sparsesr.models import has_weights, list_models

    if as_json:
        print_json(
            [
                {
                    "name": info.name,
                    "scale": scale,
                    "params": _parameters(info.name, scale),
                    "weights": has_weights(info.name, scale),
                }
                for info in list_models()
                for scale in info.scales
            ]
        )
        return
    from rich.table import Table

    table = Table(title="Models: NAME-xSCALE", title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("scales", no_wrap=True)
    table.add_column("parameters", justify="right")
    table.add_column("weights")
    table.add_column("what it is")
    for info in list_models():
        shipped = [scale for scale in info.scales if has_weights(info.name, scale)]
        table.add_row(
            info.name,
            _joined(info.scales),
            f"{_parameters(info.name, info.scales[-1]):,}",
            _joined(shipped) or "-",
            info.summary,
        )
    console(stderr=False).print(table)


def _parameters(name: str, scale: int) -> int:
    import torch

    from sparsesr.models import create_model

    with torch.device("meta"):  # shapes alone: the count needs no numbers
        net = create_model(name, scale)
    return sum(p.numel() for p in net.parameters())


def _joined(scales: Any) -> str:
    return ", ".join(str(scale) for scale in scales)
