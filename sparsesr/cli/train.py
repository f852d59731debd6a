"""``sparsesr train``: run or resume a training recipe."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from sparsesr.cli._common import INTERRUPTED, USAGE, CommandError, QuietOption, guarded

_FIRST = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started


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
    profile: Annotated[
        str | None,
        typer.Option("--profile", "-p", help="One of the recipe's profiles: short."),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option("--devices", min=1, help="Processes, one per GPU; torchrun starts them."),
    ] = None,
    time_steps: Annotated[
        int | None,
        typer.Option("--time", min=1, metavar="N", help="Only measure N steps, and the loader."),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Move an existing folder aside and start over.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Train a model as a recipe says, resuming what the experiment folder holds.

    Run again after an interruption, it continues from the last checkpoint with the same result.
    Several devices: --devices 4, or torchrun --nproc_per_node=4 -m sparsesr train RECIPE.
    """
    from sparsesr.train import ExperimentError, load_recipe, time_loader, train

    _configure_logging(quiet)
    loaded = load_recipe(recipe, overrides or (), profile)
    if time_steps is not None:
        typer.echo(str(time_loader(loaded, stage, time_steps)))
        return
    name = loaded.name if profile is None else f"{loaded.name}-{profile}"
    folder = output or Path("experiments") / name
    command = ["sparsesr", "train", str(recipe)]
    command += [] if profile is None else ["--profile", profile]
    command += [part for text in overrides or () for part in ("--set", text)]
    if devices is not None and devices > 1 and "WORLD_SIZE" not in os.environ:
        own = ["-o", str(folder)]
        own += [] if stage is None else ["--stage", stage]
        own += [flag for flag, on in (("--restart", restart), ("--quiet", quiet)) if on]
        _start(devices, [*command[1:], *own])
        return
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
        raise CommandError(message, INTERRUPTED) from None
    if not quiet and _FIRST:
        typer.echo(f"done: {folder}", err=True)


def _start(processes: int, arguments: list[str]) -> None:
    """Run this command in several processes that know each other; ends with their exit code."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += [f"--nproc-per-node={processes}", "-m", "sparsesr"]
    # One process's threads are the recipe's; torchrun would warn and set one.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run([*launcher, *arguments], env=environment, check=False)
    if done.returncode:
        raise CommandError(f"a process of {processes} failed, see above", USAGE)


def _configure_logging(quiet: bool) -> None:
    """Progress lines of the training go to stderr, those of the first process alone."""
    quiet = quiet or not _FIRST
    logger = logging.getLogger("sparsesr.train")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
