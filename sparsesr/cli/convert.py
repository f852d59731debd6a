"""``sparsesr convert``: a paper's released checkpoint as a weights file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesr.cli._common import (
    CommandError,
    JsonOption,
    OverwriteOption,
    QuietOption,
    console,
    guarded,
    print_json,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("convert")(convert)


@guarded
def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="Released checkpoint, .pt or .pth.", metavar="FILE")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Weights file to write, .safetensors.")
    ],
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert a paper's released checkpoint; the network is recognised from its tensors.

    No code in the file is run. Beside OUTPUT a card (.json) says where the weights come from.
    """
    if output.suffix != ".safetensors":
        raise CommandError(f"-o {output}: expected a file name that ends in .safetensors")
    card_path = output.with_suffix(".json")
    for path in (output, card_path):
        if path.exists() and not overwrite:
            raise CommandError(f"{path} already exists; pass --overwrite to replace it")
    from sparsesr.models import save_weights
    from sparsesr.models.convert import convert as read

    net, card = read(checkpoint)
    save_weights(net, output, card)
    params = sum(p.numel() for p in net.parameters())
    name = f"{net.model_name}-x{net.scale}"
    if as_json:
        print_json(
            {
                "input": str(checkpoint),
                "output": str(output),
                "card": str(card_path),
                "model": net.model_name,
                "scale": net.scale,
                "params": params,
            }
        )
        return
    console(stderr=False, quiet=quiet).print(
        f"{checkpoint} -> {output} ({name}, {params:,} parameters); use it with -m {output}",
        markup=False,
        soft_wrap=True,
    )
