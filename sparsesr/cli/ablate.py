"""``sparsesr ablate``: the papers' ablation tables, trained and measured here."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsesr.cli._common import (
    INTERRUPTED,
    MISSING,
    USAGE,
    CommandError,
    DeviceOption,
    JsonOption,
    QuietOption,
    check_device,
    console,
    guarded,
    print_json,
)

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ablate")(ablate)


@guarded
def ablate(
    name: Annotated[
        str | None, typer.Argument(help="Table, e.g. table6; see --list.", metavar="NAME")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Show the ablations there are.")] = False,
    profile: Annotated[
        str,
        typer.Option(help="short (minutes for each row on a CPU core) or paper (full schedule)."),
    ] = "short",
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            "-d",
            help="Test set; may be repeated. Default: Set5, Set14, B100 beside the recipe's.",
        ),
    ] = None,
    train: Annotated[
        list[Path] | None,
        typer.Option("--train", help="HR images to train on; may be repeated. Default: recipe's."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            "-m",
            "--model",
            help="Weights to measure or to start from: a file or a shipped name; may be repeated.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder (default: experiments/ablate-NAME)."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipes: data.batch=4."),
    ] = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train and measure the rows of a paper's ablation table.

    Run again after an interruption, it continues; what is finished is not repeated. Rows share what
    they can, and so do tables that are given the same output folder.
    """
    if show:
        _list(as_json)
        return
    if name is None:
        raise CommandError("expected the name of an ablation; --list shows them")
    check_device(device)
    from sparsesr.ablations import Options, WeightsMissingError, run_ablation
    from sparsesr.train import ExperimentError

    given = {"--data": data, "--train": train, "--weights": weights, "--set": overrides}
    command = ["sparsesr", "ablate", name, "--profile", profile]
    command += [
        str(word) for key, values in given.items() for v in values or () for word in (key, v)
    ]
    options = Options(
        output=output or Path("experiments") / f"ablate-{name}",
        profile=profile,
        data=[str(path) for path in data or ()],
        train=[str(path) for path in train or ()],
        weights=weights or (),
        device=device,
        overrides=overrides or (),
        progress=not quiet and sys.stderr.isatty(),
        command=shlex.join(command),
    )
    try:
        with _log_on_stderr(quiet):
            document = run_ablation(name, options)
    except WeightsMissingError as error:
        raise CommandError(str(error), MISSING) from None
    except ExperimentError as error:
        raise CommandError(str(error), USAGE) from None
    except KeyboardInterrupt:
        message = "interrupted; the same command continues where it stopped"
        raise CommandError(message, INTERRUPTED) from None
    if as_json:
        print_json(document)
    else:
        _show(document, console(stderr=False, quiet=quiet))


def _list(as_json: bool) -> None:
    from sparsesr.ablations import ABLATIONS

    if as_json:
        print_json(
            [
                {
                    "name": a.name,
                    "paper": a.paper,
                    "table": a.table,
                    "about": a.about,
                    "weights": list(a.weights),
                }
                for a in ABLATIONS.values()
            ]
        )
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("name", "paper", "table", "what is compared", box=SIMPLE_HEAD)
    for a in ABLATIONS.values():
        needs = f" (needs --weights of {', '.join(a.weights)})" if a.weights else ""
        table.add_row(a.name, a.paper, a.table, a.about + needs)
    console(stderr=False).print(table)


def _show(document: dict[str, Any], out: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from sparsesr.ablations.report import (
        history,
        our_columns,
        remarks,
        their_columns,
        title,
    )

    headers, cells = our_columns(document)
    more, printed = their_columns(document)
    table = Table(
        title=title(document), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for number, header in enumerate(headers):
        table.add_column(header, justify="right" if number else "left", no_wrap=not number)
    for number, header in enumerate(more):
        table.add_column(
            header, justify="right" if number else "left", no_wrap=not number, style="dim"
        )
    for ours, theirs in zip(cells, printed, strict=True):
        table.add_row(*ours, *theirs)
    out.print(table)
    for line in remarks(document):
        out.print(line, markup=False)
    headers, cells = history(document)
    sources = Table(*headers, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for line_cells in cells:
        sources.add_row(*line_cells)
    out.print(sources)
    out.print("Written: " + ", ".join(document["files"]), markup=False, soft_wrap=True)


@contextmanager
def _log_on_stderr(quiet: bool) -> Iterator[None]:
    """Progress of the trainings and of the measurements."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    loggers = [logging.getLogger(name) for name in ("sparsesr.train", "sparsesr.ablations")]
    before = [(logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        for logger, (propagate, level) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
            logger.setLevel(level)
