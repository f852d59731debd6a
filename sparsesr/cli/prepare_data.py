"""``sparsesr prepare-data``: photographs made ready for training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsesr.cli._common import (
    DEFAULT_SCALE,
    SOME_FAILED,
    CommandError,
    JsonOption,
    OverwriteOption,
    QuietOption,
    console,
    guarded,
    print_json,
)

if TYPE_CHECKING:
    from rich.progress import Progress

    from sparsesr.data import ImagePair

_CROP, _STEP = 480, 240


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("prepare-data")(prepare_data)


@guarded
def prepare_data(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders of HR images, or data sets such as DIV2K.", metavar="FOLDER"),
    ],
    scales: Annotated[
        list[int] | None,
        typer.Option("-s", "--scale", help=f"Scale, may be repeated (default {DEFAULT_SCALE})."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write sub-images into this folder: HR/ and LRxN/."),
    ] = None,
    crop: Annotated[
        int | None, typer.Option("--crop", help=f"Side of a sub-image (default {_CROP}).")
    ] = None,
    step: Annotated[
        int | None, typer.Option("--step", help=f"From one to the next (default {_STEP}).")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Cache folder (default: $SPARSESR_CACHE or the user's)."),
    ] = None,
    overwrite: OverwriteOption = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave sub-images that exist: resume.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Decode photographs into the cache that training maps, or with -o cut them into files."""
    chosen = sorted(set(scales or [DEFAULT_SCALE]))
    if min(chosen) < 1:
        raise CommandError(f"--scale {min(chosen)}: expected a number >= 1")
    if overwrite and skip_existing:
        raise CommandError("--overwrite and --skip-existing exclude each other; give one of them")
    if output is None:
        if crop is not None or step is not None or overwrite or skip_existing:
            raise CommandError("--crop, --step, --overwrite and --skip-existing need -o FOLDER")
        document = _fill_cache(folders, chosen, cache, quiet)
    else:
        if cache is not None:
            raise CommandError("--cache: with -o nothing is cached; drop one of them")
        sizes = (_CROP if crop is None else crop, _STEP if step is None else step)
        document = _cut(folders, chosen, output, sizes, overwrite, skip_existing, quiet)
    if as_json:
        print_json(document)
    elif not quiet:
        _show(document)
    if document.get("failed"):
        raise typer.Exit(SOME_FAILED)


def _fill_cache(
    folders: list[Path], scales: list[int], cache: Path | None, quiet: bool
) -> dict[str, Any]:
    """Build what is missing of the cache; the JSON document."""
    from sparsesr.data import HRFolder

    rows = []
    for scale in scales:
        with _progress(f"x{scale}", quiet) as (_, show):
            images = HRFolder(folders, scale, cache, progress=show)
        size = sum(path.stat().st_size for path in images.cache_path.iterdir())
        made = sum(pair.lr is None for pair in images.pairs)
        row = {"scale": scale, "images": len(images), "lr_made": made, "bytes": size}
        rows.append({**row, "path": str(images.cache_path)})
    return {"input": [str(folder) for folder in folders], "caches": rows}


def _cut(
    folders: list[Path],
    scales: list[int],
    output: Path,
    sizes: tuple[int, int],
    overwrite: bool,
    skip_existing: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Cut every photograph; the JSON document."""
    from sparsesr.data.sub_images import check_cut, lr_folder

    check_cut(scales, *sizes)
    photos = _photographs(folders, scales)
    targets = [output / "HR", *(lr_folder(output, scale) for scale in scales)]
    _check_targets(photos, targets, overwrite or skip_existing)
    options = {"overwrite": overwrite, "skip_existing": skip_existing}
    rows: list[dict[str, Any]] = []
    try:
        for target in targets:
            target.mkdir(parents=True, exist_ok=True)
        with _progress("sub-images", quiet) as (bar, show):
            for pairs in photos:
                rows.append(_cut_one(pairs, output, sizes, options))
                if not rows[-1]["ok"]:
                    # Through the bar's console, or its next refresh would overwrite the line.
                    out = console() if quiet else bar.console
                    out.print(f"warning: {rows[-1]['error']}", markup=False, soft_wrap=True)
                show(len(rows), len(photos), Path(rows[-1]["input"]).name)
    except OSError as error:
        text = f"cannot write to {output} ({error.strerror or error})"
        raise CommandError(f"{text}; --skip-existing goes on from here", SOME_FAILED) from None
    failed = sum(not row["ok"] for row in rows)
    count, written = (sum(row[key] for row in rows) for key in ("sub_images", "written"))
    return {
        "input": [str(folder) for folder in folders],
        "output": str(output),
        "scales": scales,
        "crop": sizes[0],
        "step": sizes[1],
        "sub_images": count,
        "written": written,
        "files": rows,
        "done": len(rows) - failed,
        "failed": failed,
    }


def _cut_one(
    pairs: dict[int, ImagePair], output: Path, sizes: tuple[int, int], options: dict[str, bool]
) -> dict[str, Any]:
    """Cut a photograph; its row of the JSON document, which says why if it cannot be cut."""
    from sparsesr.data.sub_images import write_sub_images

    row: dict[str, Any] = {"input": str(next(iter(pairs.values())).hr)}
    try:
        count, written = write_sub_images(pairs, output, *sizes, **options)
    except ValueError as error:
        return {**row, "sub_images": 0, "written": 0, "ok": False, "error": str(error)}
    return {**row, "sub_images": count, "written": written, "ok": True}


def _photographs(folders: list[Path], scales: list[int]) -> list[dict[int, ImagePair]]:
    """Each photograph, by scale; no two of one name."""
    from sparsesr.data import paired_images

    photos: dict[str, dict[int, ImagePair]] = {}
    for folder in folders:
        for scale in scales:
            for pair in paired_images(folder, scale, training=True):
                known = photos.setdefault(pair.name, {})
                other = next((p.hr for p in known.values() if p.hr != pair.hr), None)
                if other is not None or scale in known:
                    raise CommandError(
                        f"{pair.hr} and {other or pair.hr} would have sub-images of one name; "
                        "rename one or cut them into two folders"
                    )
                known[scale] = pair
    return list(photos.values())


def _check_targets(
    photos: list[dict[int, ImagePair]], targets: list[Path], may_exist: bool
) -> None:
    """Find what is in the way before any time is spent."""
    from sparsesr.data.sub_images import sub_image_name

    used = (path for pairs in photos for pair in pairs.values() for path in (pair.hr, pair.lr))
    inputs = {path.parent.resolve() for path in used if path is not None}
    for target in targets:
        if target.resolve() in inputs:
            raise CommandError(f"{target} holds the photographs themselves; choose another -o")
        for pairs in () if may_exist else photos:
            first = target / sub_image_name(next(iter(pairs.values())).hr, 1)
            if first.exists():
                raise CommandError(
                    f"{first} already exists; pass --overwrite to replace sub-images or "
                    "--skip-existing to go on where an earlier run ended"
                )


@contextmanager
def _progress(name: str, quiet: bool) -> Iterator[tuple[Progress, Callable[[int, int, str], None]]]:
    """A bar on stderr and the function that moves it."""
    from rich.progress import Progress

    with Progress(console=console(quiet=quiet), transient=True) as bar:
        task = bar.add_task(name, total=None)

        def show(done: int, total: int, image: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{name} {image}")

        yield bar, show


def _show(document: dict[str, Any]) -> None:
    out = console(stderr=False)
    for row in document.get("caches", []):
        origin = "made" if row["lr_made"] else "from files"
        if 0 < row["lr_made"] < row["images"]:
            origin = f"made for {row['lr_made']} of them"
        text = f"x{row['scale']}: {row['images']} images, LR {origin}, {_size(row['bytes'])}"
        out.print(f"{text} in {row['path']}", markup=False, soft_wrap=True)
    if "files" in document:
        text = f"{document['done']} images, {document['sub_images']} sub-images"
        text += f", {document['written']} files written to {document['output']}"
        text += f"; {document['failed']} images failed" if document["failed"] else ""
        out.print(text, markup=False, soft_wrap=True)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
