"""`python -m sparsesr.train RECIPE ...`: the command `sparsesr train` by itself."""

from __future__ import annotations

import typer

from sparsesr.cli.train import train_command

if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(train_command)
    app()
