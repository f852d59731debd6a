"""``sparsesr upscale``: files in, larger files out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesr.cli._common import (
    INTERRUPTED,
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
from sparsesr.cli._upscale_jobs import TEMPLATE, Request, plan
from sparsesr.cli._upscale_run import StoppedError, run_jobs
from sparsesr.cli._upscale_work import Row, Settings, upscaler_of

_FORMATS = ("same", "png", "jpg", "webp", "tif", "bmp")
_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0}

Inputs = Annotated[
    list[Path] | None,
    typer.Argument(help="Image files, folders or patterns like 'a/*.png'.", metavar="INPUT..."),
]
MoreInputs = Annotated[
    list[Path] | None, typer.Option("-i", "--input", help="The same, as an option.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Folder, or a file for one input; default: beside it."),
]
TimeBudgetOption = Annotated[
    str | None,
    typer.Option(
        "--time-budget",
        help="Refine as much of each image as this time allows: 200ms, 1.5s, 1min.",
    ),
]
QualityOption = Annotated[
    str | None,
    typer.Option(help="draft, balanced or full: 10, 25 or 100 % of the patches or pixels."),
]
RecursiveOption = Annotated[
    bool, typer.Option("-r", "--recursive", help="Sub-folders too; the tree is kept under -o.")
]
TemplateOption = Annotated[
    str, typer.Option(help="Names of the results, of {stem}, {scale}, {ext} and {model}.")
]
FormatOption = Annotated[
    str, typer.Option("--format", "-f", help="same, png, jpg, webp, tif or bmp.")
]
JpegQualityOption = Annotated[int, typer.Option(help="1 to 100, of JPEG and WebP.")]
SkipOption = Annotated[
    bool, typer.Option("--skip-existing", help="Leave out inputs whose output is there.")
]
MaskOption = Annotated[
    bool, typer.Option("--save-mask", help="Also write which patches or pixels were computed.")
]
CompareOption = Annotated[
    bool,
    typer.Option("--compare", help="Also write bicubic, coarse, sparse and dense side by side."),
]
HrOption = Annotated[
    Path | None,
    typer.Option("--hr", help="With --compare: HR image, or folder of them, for the PSNR."),
]
TileOption = Annotated[
    str,
    typer.Option("-t", "--tile", help="auto, 0 (the image whole) or LR pixels of a tile's side."),
]
PrecisionOption = Annotated[str, typer.Option(help="auto, fp32, fp16 or bf16.")]
TtaOption = Annotated[
    bool, typer.Option("--tta", help="Mean over the 8 symmetries of the square; 8x the work.")
]
DevicesOption = Annotated[
    str | None,
    typer.Option(
        "--devices", help="GPUs that share the files, a process each: 0,1; or cpu,cuda:0."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("upscale")(upscale)


@guarded
def upscale(
    inputs: Inputs = None,
    more_inputs: MoreInputs = None,
    output: OutputOption = None,
    model: ModelOption = None,
    scale: AnyScaleOption = None,
    k: KOption = None,
    budget: BudgetOption = None,
    time_budget: TimeBudgetOption = None,
    quality: QualityOption = None,
    recursive: RecursiveOption = False,
    template: TemplateOption = TEMPLATE,
    file_format: FormatOption = "same",
    jpeg_quality: JpegQualityOption = 95,
    skip_existing: SkipOption = False,
    save_mask: MaskOption = False,
    compare: CompareOption = False,
    hr: HrOption = None,
    tile: TileOption = "auto",
    precision: PrecisionOption = "auto",
    tta: TtaOption = False,
    backend: BackendOption = None,
    device: DeviceOption = None,
    devices: DevicesOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Upscale images; a file that fails is reported and the rest is done (exit code 1).

    Mode, depth, orientation and metadata of each file are kept where its format can hold them.
    """
    sources = [*(inputs or []), *(more_inputs or [])]
    _check(sources, file_format, jpeg_quality, skip_existing and overwrite, hr and not compare)
    check_backend(backend)
    several = _devices(device, devices)
    if len(several) == 1:
        device, several = several[0], []
    net, name, factor = load_for_scale(model, scale)
    choice = _choice(k, budget, time_budget, quality, net)
    if save_mask:
        _check_masks(net, name)
    settings = Settings(
        model, scale, choice, tile, precision, tta, backend, device, overwrite, jpeg_quality
    )
    upscaler = upscaler_of(settings, net, factor)
    jobs = plan(
        Request(sources, output, factor, name, file_format, template, recursive, save_mask,
                compare, hr, overwrite, skip_existing)
    )  # fmt: skip
    document = {"model": name, "scale": factor, **_asked(k, choice, quality)}
    try:
        rows = run_jobs(
            jobs, settings, several, None if several else upscaler, console(quiet=quiet), console()
        )
    except StoppedError as stop:
        _report(document | {"interrupted": True}, stop.rows, as_json)
        console().print(
            f"interrupted: {len(stop.rows)} of {len(jobs)} files are done; "
            "--skip-existing goes on from there"
        )
        raise typer.Exit(INTERRUPTED) from None
    _report(document, rows, as_json)
    if any(not row["ok"] for row in rows):
        raise typer.Exit(SOME_FAILED)


def _check(
    sources: list[Path], file_format: str, jpeg_quality: int, skips_both: bool, lone_hr: object
) -> None:
    if not sources:
        raise CommandError("nothing to upscale: name image files or a folder")
    if file_format not in _FORMATS:
        raise CommandError(f"--format {file_format}: expected one of {', '.join(_FORMATS)}")
    if not 1 <= jpeg_quality <= 100:
        raise CommandError(f"--jpeg-quality {jpeg_quality}: expected a number from 1 to 100")
    if skips_both:
        raise CommandError("--skip-existing and --overwrite exclude each other; give one of them")
    if lone_hr:
        raise CommandError("--hr is what --compare compares with; add --compare")


def _check_masks(net: Any, name: str) -> None:
    from sparsesr.nn import has_sparse_masks, routes_pixels, selects_patches

    if not (selects_patches(net) or has_sparse_masks(net) or routes_pixels(net)):
        raise CommandError(f"--save-mask: {name} does not select patches, there is no mask to show")


def _devices(device: str | None, devices: str | None) -> list[str]:
    """The devices that share the files; none for a single process."""
    check_device(device)
    if devices is None:
        return []
    if device is not None:
        raise CommandError(
            f"--device {device} and --devices {devices} exclude each other; give one of them"
        )
    names = [each.strip() for each in devices.split(",")]
    names = [f"cuda:{each}" if each.isdecimal() else each for each in names]
    for each in names:
        check_device(each)
    return names


def _choice(
    k: str | None, budget: str | None, time_budget: str | None, quality: str | None, net: Any
) -> dict[str, Any]:
    """k, budget or time_budget, as ``Upscaler`` takes them; at most one."""
    from sparsesr.inference import QUALITY

    options = {"--k": k, "--budget": budget, "--time-budget": time_budget, "--quality": quality}
    given = [f"{name} {value}" for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise CommandError(f"{' and '.join(given)} exclude each other; give one of them")
    if time_budget is not None:
        return {"time_budget": _seconds(time_budget)}
    if quality is None:
        return parse_k(k, budget, net)
    if quality not in QUALITY:
        raise CommandError(
            f"--quality {quality}: expected one of {', '.join(QUALITY)} "
            "(the compression of JPEG and WebP is --jpeg-quality)"
        )
    return {"budget": QUALITY[quality]}


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+|\d*\.\d+)\s*(ms|s|min)", text.strip())
    if match is None:
        raise CommandError(f"--time-budget {text}: expected a time such as 200ms, 1.5s or 1min")
    return float(match[1]) * _UNITS[match[2]]


def _asked(k: str | None, choice: dict[str, Any], quality: str | None) -> dict[str, Any]:
    asked = {"k": "all" if k == "all" else choice.get("k"), "budget": choice.get("budget")}
    if k == "all":
        asked["budget"] = None
    if "time_budget" in choice:
        asked["time_budget"] = choice["time_budget"]
    return asked if quality is None else {**asked, "quality": quality}


def _report(document: dict[str, Any], rows: list[Row], as_json: bool) -> None:
    if not as_json:
        return
    failed = sum(not row["ok"] for row in rows)
    skipped = sum(row.get("skipped", False) for row in rows)
    done = len(rows) - failed - skipped
    print_json(document | {"files": rows, "done": done, "failed": failed, "skipped": skipped})
