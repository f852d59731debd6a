"""``sparsesr upscale``: files in, larger files out."""

from __future__ import annotations

import time
from dataclasses import dataclass
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

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from sparsesr.inference import Upscaler

_FORMATS = ("same", "png", "jpg", "webp", "tif")


@dataclass(frozen=True)
class Job:
    """One file to do; ``problem`` says why it cannot be done."""

    source: Path
    output: Path
    mask: Path | None = None
    problem: str | None = None


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
        str, typer.Option("--format", "-f", help="same, png, jpg, webp or tif.")
    ] = "same",
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
    """Upscale images; a file that fails is reported and the rest is done (exit code 1)."""
    sources = [*(inputs or []), *(more_inputs or [])]
    if not sources:
        raise CommandError("nothing to upscale: name image files or a folder")
    if file_format not in _FORMATS:
        raise CommandError(f"--format {file_format}: expected one of {', '.join(_FORMATS)}")
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
    jobs = plan(sources, output, factor, file_format, save_mask, overwrite)
    rows = _run(upscaler, jobs, overwrite, console(quiet=quiet), console())
    failed = sum(not row["ok"] for row in rows)
    if as_json:
        print_json(
            {"model": name, "scale": factor, **_asked(k, choice), "files": rows,
             "done": len(rows) - failed, "failed": failed}
        )  # fmt: skip
    if failed:
        raise typer.Exit(SOME_FAILED)


def _asked(k: str | None, choice: dict[str, Any]) -> dict[str, Any]:
    if k == "all":
        return {"k": "all", "budget": None}
    return {"k": choice.get("k"), "budget": choice.get("budget")}


def plan(
    sources: list[Path],
    output: Path | None,
    scale: float,
    file_format: str = "same",
    save_mask: bool = False,
    overwrite: bool = False,
) -> list[Job]:
    """The files to do and where each goes, with what is wrong found before any time is spent.

    Raises:
        CommandError: one output file for several inputs, or a folder without ``output``.
    """
    from sparsesr.io import READ_SUFFIXES, WRITE_SUFFIXES, list_images

    files: list[tuple[Path, str | None]] = []
    for source in sources:
        try:
            found = list_images(source)
        except FileNotFoundError as error:
            files.append((source, str(error)))
            continue
        if source.is_dir() and output is None:
            raise CommandError(
                f"-o is needed for a folder: results beside {source}/* would be inputs next"
            )
        if not found:
            kinds = " ".join(sorted(READ_SUFFIXES))
            files.append((source, f"{source}: no image in this folder (looked for {kinds})"))
        files += [(path, None) for path in found]
    to_file = output is not None and not output.is_dir() and output.suffix.lower() in WRITE_SUFFIXES
    if to_file and len(files) != 1:
        raise CommandError(
            f"-o {output} is one file, but there are {len(files)} inputs; name a folder"
        )
    if to_file and file_format != "same":
        raise CommandError(f"-o {output} has its own format; drop --format {file_format}")
    if output is not None and output.exists() and not output.is_dir() and not to_file:
        raise CommandError(f"-o {output} is a file, but no image; name a folder or an image file")
    jobs: list[Job] = []
    taken: dict[Path, Path] = {}
    for path, problem in files:
        target = _target(path, output, scale, file_format, to_file)
        mask = target.with_name(f"{target.stem}_mask.png") if save_mask else None
        for wanted in (target, *([mask] if mask is not None else [])):
            if problem is None and wanted in taken:
                problem = f"{path}: {wanted} is already the output of {taken[wanted]}"
            if problem is None and wanted.exists() and not overwrite:
                problem = f"{path}: {wanted} already exists; pass --overwrite to replace it"
            if problem is None and wanted.exists() and wanted.resolve() == path.resolve():
                problem = f"{path}: would be replaced by its own result; choose another -o"
            taken.setdefault(wanted, path)
        jobs.append(Job(path, target, mask, problem))
    return jobs


def _target(
    source: Path, output: Path | None, scale: float, file_format: str, to_file: bool
) -> Path:
    if output is not None and to_file:
        return output
    suffix = source.suffix if file_format == "same" else f".{file_format}"
    folder = source.parent if output is None else output
    return folder / f"{source.stem}_x{scale:g}{suffix}"


def _run(
    upscaler: Upscaler, jobs: list[Job], overwrite: bool, out: Console, err: Console
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
            try:
                if job.problem is not None:
                    raise ImageError(job.problem)
                row |= {"ok": True, **_do(upscaler, job, overwrite)}
                bar.update(task, speed=_speed(row))
                bar.console.print(_line(row), markup=False, soft_wrap=True)
            except (OSError, ValueError, RuntimeError) as error:
                row |= {"ok": False, "output": None, "error": str(error)}
                # Through the bar's console, or its next refresh would overwrite the line.
                (err if out.quiet else bar.console).print(
                    f"warning: {error}", markup=False, soft_wrap=True
                )
            rows.append(row)
            bar.update(task, completed=i + 1)
    return rows


def _do(upscaler: Upscaler, job: Job, overwrite: bool) -> dict[str, Any]:
    from sparsesr.io import read_image, to_array, to_tensor, write_image
    from sparsesr.nn import has_sparse_masks, routes_pixels, selects_patches

    image = read_image(job.source)
    sparse, routed = has_sparse_masks(upscaler.net), routes_pixels(upscaler.net)
    details = sparse or routed or job.mask is not None
    start = time.perf_counter()
    out: Any = upscaler.run(to_tensor(image), **({"return_details": True} if details else {}))
    result = to_array(out.sr if details else out)
    seconds = time.perf_counter() - start
    job.output.parent.mkdir(parents=True, exist_ok=True)
    write_image(job.output, result, overwrite)
    row: dict[str, Any] = {
        "lr_size": list(image.shape[:2]),
        "sr_size": list(result.shape[:2]),
        "seconds": seconds,
    }
    picture = None
    if sparse:
        row["sparsity"] = float(out.sparsity()[0])
        picture = _pixel_masks(result, out) if job.mask is not None else None
    elif routed:
        row["heavy_fraction"] = float(out.heavy_fraction()[0])
        picture = _classes(result, out) if job.mask is not None else None
    elif selects_patches(upscaler.net):
        patches, picture = _patches(upscaler, image, result, out if details else None)
        row |= patches
    if job.mask is not None and picture is not None:
        write_image(job.mask, picture, overwrite)
        row["mask"] = str(job.mask)
    return row


def _patches(
    upscaler: Upscaler, image: np.ndarray, result: np.ndarray, out: Any | None
) -> tuple[dict[str, Any], np.ndarray | None]:
    """How many patches were refined and, from the details ``out``, which."""
    from sparsesr.nn import effective_k
    from sparsesr.ops import patch_grid
    from sparsesr.viz import mask_overlay

    net: Any = upscaler.net
    grid = patch_grid(image.shape[0], image.shape[1], net.patch_size)
    assert upscaler.k is None or isinstance(upscaler.k, int)  # it selects patches
    count = effective_k(upscaler.k, upscaler.budget, *grid, net.k)
    row = {"k_used": count, "coverage": count / (grid[0] * grid[1])}
    if out is None:
        return row, None
    index = out.index[0].cpu().numpy()
    return row, mask_overlay(result, index, grid, net.patch_size * net.scale)


def _pixel_masks(result: np.ndarray, out: Any) -> np.ndarray:
    """What each sparse mask module computed."""
    import numpy as np

    from sparsesr.viz import pixel_masks

    return pixel_masks(result, np.stack([m.spatial[0, 0].cpu().numpy() for m in out.masks]))


def _classes(result: np.ndarray, out: Any) -> np.ndarray:
    """The pixels of each class but the lightest."""
    import numpy as np

    from sparsesr.viz import pixel_masks

    heavier = range(1, out.logits.shape[1])
    masks = np.stack([(out.class_map[0] == j).cpu().numpy() for j in heavier])
    return pixel_masks(result, masks, "class ")


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
