"""What the forms of ``evaluate`` share: data sets that are there, files that are not, tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsesr.cli._common import CommandError, console

if TYPE_CHECKING:
    from rich.table import Table

    from sparsesr.inference.evaluation import Progress


def check_data(folders: Sequence[Path], scale: int) -> None:
    """Stop before any work if one of the folders holds no usable images."""
    from sparsesr.data import paired_images

    for folder in folders:
        paired_images(folder, scale)


def data_set_names(folders: Sequence[Path]) -> list[str]:
    """Names of the data sets, which name files; CommandError if two are one."""
    names = [folder.resolve().name for folder in folders]
    for name in names:
        if names.count(name) > 1:
            raise CommandError(f"two data folders are called {name}; evaluate them one by one")
    return names


def check_outputs(files: Sequence[Path], overwrite: bool) -> None:
    """Stop before any work if a file cannot be written."""
    for file in files:
        if file.is_dir():
            raise CommandError(f"{file} is a folder; give the name of a file")
        if not file.parent.is_dir():
            raise CommandError(f"the folder {file.parent} does not exist; create it first")
        if file.exists() and not overwrite:
            raise CommandError(f"{file} already exists; pass --overwrite to replace it")


def each_set(
    run: Callable[..., dict[str, Any]],
    net: Any,
    scale: int,
    folders: Sequence[Path],
    quiet: bool,
    options: dict[str, Any],
) -> list[dict[str, Any]]:
    """The document of ``run(net, folder, scale, ...)`` for each folder."""
    documents = []
    for folder in folders:
        with progress_bar(quiet) as show:
            documents.append(run(net, folder, scale, progress=show, **options))
    return documents


def image_table(
    title: str,
    columns: Sequence[str],
    document: dict[str, Any],
    cells: Callable[[dict[str, Any]], list[str]],
) -> Table:
    """A row of ``cells`` for each image of a document, and one for their mean."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("image")
    for name in columns:
        table.add_column(name, justify="right")
    for image in document["images"]:
        table.add_row(image["name"], *cells(image))
    table.add_section()
    table.add_row("mean", *cells(document["mean"]))
    return table


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress]:
    """A function to call after each image; it draws on stderr."""
    from rich.progress import Progress as Bar

    with Bar(console=console(quiet=quiet), transient=True) as bar:
        task = bar.add_task("evaluate", total=None)

        def show(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name)

        yield show
