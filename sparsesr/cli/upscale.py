"""``sparsesr upscale``: files in, larger files out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsesr.cli._common import (
    SOME_FAILED,
    AnyScaleOption,
    BackendOption,
    BudgetOption,
    CommandError,
    DeviceOption,
    JsonOption,
    KOption,
    ModelOption,
    OverwriteOption,
    QuietOption,
    check_backend,
    check_device,
    console,
    guarded,
    load_for_scale,
    parse_k,
    print_json,
)
from sparsesr.cli._upscale_jobs import Job, plan

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from sparsesr.inference import Upscaler

_FORMATS = ("same", "png", "jpg", "webp", "tif", "bmp")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("upscale")(upscale)


@guarded
def upscale(
    inputs: Annotated[
        list[Path] | None, typer.Argument(help="Image files or folders.", metavar="INPUT...")
    ] = None,
    more_inputs: Annotated[
        list[Path] | None, typer.Option("-i", "--input", help="The same, as an option.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder, or a file for one input; default: beside it."),
    ] = None,
    model: ModelOption = None,
    scale: AnyScaleOption = None,
    k: KOption = None,
    budget: BudgetOption = None,
    file_format: Annotated[
        str, typer.Option("--format", "-f", help="same, png, jpg, webp, tif or bmp.")
    ] = "same",
    quality: Annotated[int, typer.Option(help="1 to 100, of JPEG and WebP.")] = 95,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out inputs whose output is there.")
    ] = False,
    save_mask: Annotated[
        bool, typer.Option("--save-mask", help="Also write which patches or pixels were computed.")
    ] = False,
    tile: Annotated[
        str,
        typer.Option(
            "-t", "--tile", help="auto, 0 (the image whole) or LR pixels of a tile's side."
        ),
    ] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, fp16 or bf16.")] = "auto",
    tta: Annotated[
        bool, typer.Option("--tta", help="Mean over the 8 symmetries of the square; 8x the work.")
    ] = False,
    backend: BackendOption = None,
    device: DeviceOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Upscale images; a file that fails is reported and the rest is done (exit code 1).

    Mode, depth, orientation and metadata of each file are kept where its format can hold them.
    """
    sources = [*(inputs or []), *(more_inputs or [])]
    if not sources:
        raise CommandError("nothing to upscale: name image files or a folder")
    if file_format not in _FORMATS:
        raise CommandError(f"--format {file_format}: expected one of {', '.join(_FORMATS)}")
    if not 1 <= quality <= 100:
        raise CommandError(f"--quality {quality}: expected a number from 1 to 100")
    if skip_existing and overwrite:
        raise CommandError("--skip-existing and --overwrite exclude each other; give one of them")
    check_backend(backend)
    check_device(device)
    from sparsesr.inference import Upscaler
    from sparsesr.nn import has_sparse_masks, routes_pixels, selects_patches

    net, name, factor = load_for_scale(model, scale)
    choice = parse_k(k, budget, net)
    if save_mask and not (selects_patches(net) or has_sparse_masks(net) or routes_pixels(net)):
        raise CommandError(f"--save-mask: {name} does not select patches, there is no mask to show")
    k_budget = (choice.get("k"), choice.get("budget"))
    upscaler = Upscaler(net, tile, backend, *k_budget, device, factor, precision, tta)
    jobs = plan(sources, output, factor, file_format, save_mask, overwrite, skip_existing)
    rows = _run(upscaler, jobs, overwrite, quality, console(quiet=quiet), console())
    failed = sum(not row["ok"] for row in rows)
    skipped = sum(row.get("skipped", False) for row in rows)
    if as_json:
        print_json(
            {"model": name, "scale": factor, **_asked(k, choice), "files": rows,
             "done": len(rows) - failed - skipped, "failed": failed, "skipped": skipped}
        )  # fmt: skip
    if failed:
        raise typer.Exit(SOME_FAILED)


def _asked(k: str | None, choice: dict[str, Any]) -> dict[str, Any]:
    if k == "all":
        return {"k": "all", "budget": None}
    return {"k": choice.get("k"), "budget": choice.get("budget")}


def _run(
    upscaler: Upscaler,
    jobs: list[Job],
    overwrite: bool,
    quality: int,
    out: Console,
    err: Console,
) -> list[dict[str, Any]]:
    """Do the jobs one by one; the rows of the JSON document."""
    from sparsesr.io import ImageError

    rows = []
    with _progress(out) as bar:
        task = bar.add_task("upscale", total=len(jobs), speed="")
        for i, job in enumerate(jobs):
            bar.update(task, description=job.source.name)
            upscaler.progress = lambda done, tiles, i=i: bar.update(
                task, completed=i + done / tiles
            )
            row: dict[str, Any] = {"input": str(job.source), "output": str(job.output)}
            # Through the bar's console, or its next refresh would overwrite the line.
            warn = err if out.quiet else bar.console
            try:
                if job.problem is not None:
                    raise ImageError(job.problem)
                if job.skip:
                    row |= {"ok": True, "skipped": True}
                    line = f"{job.source}: {job.output} is there, skipped"
                else:
                    row |= {"ok": True, **_do(upscaler, job, overwrite, quality)}
                    line = _line(row)
                    bar.update(task, speed=_speed(row))
                bar.console.print(line, markup=False, soft_wrap=True)
                for text in row.get("warnings", ()):
                    warn.print(f"warning: {text}", markup=False, soft_wrap=True)
            except (OSError, ValueError, RuntimeError) as error:
                row |= {"ok": False, "output": None, "error": str(error)}
                warn.print(f"warning: {error}", markup=False, soft_wrap=True)
            rows.append(row)
            bar.update(task, completed=i + 1)
    return rows


def _do(upscaler: Upscaler, job: Job, overwrite: bool, quality: int) -> dict[str, Any]:
    from sparsesr.inference.pictures import lr_tensor, with_result
    from sparsesr.io import read_picture, write_image, write_picture
    from sparsesr.nn import has_sparse_masks, routes_pixels, selects_patches

    told: list[str] = []
    with _collected(told):
        image = read_picture(job.source)
    sparse, routed = has_sparse_masks(upscaler.net), routes_pixels(upscaler.net)
    details = sparse or routed or job.mask is not None
    start = time.perf_counter()
    out: Any = upscaler.run(lr_tensor(image), **({"return_details": True} if details else {}))
    result = with_result(upscaler, image, out.sr if details else out)
    seconds = time.perf_counter() - start
    job.output.parent.mkdir(parents=True, exist_ok=True)
    with _collected(told):
        write_picture(job.output, result, overwrite, quality)
    row: dict[str, Any] = {
        "lr_size": list(image.colour.shape[:2]),
        "sr_size": list(result.colour.shape[:2]),
        "seconds": seconds,
    }
    if told:
        row["warnings"] = told
    picture = None
    if sparse:
        row["sparsity"] = float(out.sparsity()[0])
        picture = _pixel_masks(out) if job.mask is not None else None
    elif routed:
        row["heavy_fraction"] = float(out.heavy_fraction()[0])
        picture = _classes(out) if job.mask is not None else None
    elif selects_patches(upscaler.net):
        patches, picture = _patches(upscaler, row["lr_size"], out if details else None)
        row |= patches
    if job.mask is not None and picture is not None:
        write_image(job.mask, picture, overwrite)
        row["mask"] = str(job.mask)
    return row


@contextmanager
def _collected(texts: list[str]) -> Iterator[None]:
    """Add what is warned of inside, each with the name of its file, to ``texts``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    texts += [str(warning.message) for warning in caught]


def _patches(
    upscaler: Upscaler, lr_size: list[int], out: Any | None
) -> tuple[dict[str, Any], np.ndarray | None]:
    """How many patches were refined and, from the details ``out``, which."""
    from sparsesr.inference.upscaler import round_to_array
    from sparsesr.ops import patch_grid
    from sparsesr.viz import mask_overlay

    net: Any = upscaler.net
    grid = patch_grid(lr_size[0], lr_size[1], net.patch_size)
    count = net.patch_count((lr_size[0], lr_size[1]), upscaler.k, upscaler.budget)
    row = {"k_used": count, "coverage": count / (grid[0] * grid[1])}
    if out is None:
        return row, None
    index = out.index[0].cpu().numpy()
    return row, mask_overlay(round_to_array(out.sr), index, grid, net.patch_size * net.scale)


def _pixel_masks(out: Any) -> np.ndarray:
    """What each sparse mask module computed."""
    import numpy as np

    from sparsesr.inference.upscaler import round_to_array
    from sparsesr.viz import pixel_masks

    return pixel_masks(
        round_to_array(out.sr), np.stack([m.spatial[0, 0].cpu().numpy() for m in out.masks])
    )


def _classes(out: Any) -> np.ndarray:
    """The pixels of each class but the lightest."""
    import numpy as np

    from sparsesr.inference.upscaler import round_to_array
    from sparsesr.viz import pixel_masks

    heavier = range(1, out.logits.shape[1])
    masks = np.stack([(out.class_map[0] == j).cpu().numpy() for j in heavier])
    return pixel_masks(round_to_array(out.sr), masks, "class ")


def _speed(row: dict[str, Any]) -> str:
    megapixels = row["sr_size"][0] * row["sr_size"][1] / 1e6
    covered = f", {100 * row['coverage']:.0f} % refined" if "coverage" in row else ""
    covered += f", {100 * row['sparsity']:.0f} % skipped" if "sparsity" in row else ""
    covered += f", {100 * row['heavy_fraction']:.0f} % heavy" if "heavy_fraction" in row else ""
    return f"{megapixels / row['seconds']:.1f} MP/s{covered}"


def _line(row: dict[str, Any]) -> str:
    height, width = row["sr_size"]
    seconds = f"{row['seconds']:.2f} s, {_speed(row)}"
    return f"{row['input']} -> {row['output']} ({width}x{height}, {seconds})"


def _progress(out: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[speed]}"),
        console=out,
        transient=True,
    )
