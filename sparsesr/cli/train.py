"""``sparsesr train``: run or resume a training recipe."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from sparsesr.cli._common import USAGE, CommandError, QuietOption, guarded

_INTERRUPTED = 130  # what shells report for a command ended by Ctrl-C


def register(app: typer.Typer) -> None:
    """Add the command ``train`` to ``app``."""
    app.command("train")(train_command)


@guarded
def train_command(
    recipe: Annotated[Path, typer.Argument(help="Recipe file, e.g. recipes/fsrcnn-mga-x4.yaml.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Experiment folder (default: experiments/NAME)."),
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Run this stage alone, e.g. dnet.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value: stages.dnet.ema=0.99."),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Move an existing folder aside and start over.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Train a model as a recipe says, resuming what the experiment folder holds.

    Run again after an interruption, it continues from the last checkpoint with the same result.
    """
    from sparsesr.train import ExperimentError, load_recipe, train

    _configure_logging(quiet)
    loaded = load_recipe(recipe, overrides or ())
    folder = output or Path("experiments") / loaded.name
    command = ["sparsesr", "train", str(recipe)]
    command += [part for text in overrides or () for part in ("--set", text)]
    try:
        train(
            loaded,
            folder,
            stage=stage,
            restart=restart,
            progress=not quiet and sys.stderr.isatty(),
            command=shlex.join(command),
        )
    except ExperimentError as error:
        raise CommandError(str(error), USAGE) from None
    except KeyboardInterrupt:
        message = "interrupted; the same command continues from the last checkpoint"
        raise CommandError(message, _INTERRUPTED) from None
    if not quiet:
        typer.echo(f"done: {folder}", err=True)


def _configure_logging(quiet: bool) -> None:
    """Progress lines of the training go to stderr."""
    logger = logging.getLogger("sparsesr.train")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
