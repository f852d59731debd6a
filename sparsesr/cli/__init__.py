"""The command line: ``sparsesr COMMAND``, the commands being ``COMMANDS``.

Exit codes: 0 done, 1 some files failed, 2 usage, 3 backend or model missing, 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

COMMANDS = (
    "demo",
    "upscale",
    "models",
    "evaluate",
    "prepare-data",
    "train",
    "ablate",
    "tables",
    "profile",
    "plan",
    "convert",
    "env",
)


def build_app() -> typer.Typer:
    """The typer application; each command's module registers itself with ``register(app)``."""
    import typer

    app = typer.Typer(
        name="sparsesr",
        help="Super-resolution that spends its time where it shows.",
        epilog="Exit codes: 0 done, 1 some files failed, 2 usage, 3 backend or model missing, "
        "130 Ctrl-C.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name in COMMANDS:
        importlib.import_module(f"sparsesr.cli.{name.replace('-', '_')}").register(app)
    return app


def main() -> None:
    """Entry point of the ``sparsesr`` command and of ``python -m sparsesr``."""
    try:
        build_app()(prog_name="sparsesr")
    except BrokenPipeError:  # the reader of our stdout, such as head, has gone
        sys.stderr.close()
        sys.exit(0)
