"""``sparsesr evaluate``: PSNR and SSIM on data sets, sweeps over k, masks, seams of patches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesr.cli._common import (
    BackendOption,
    BudgetOption,
    CommandError,
    DeviceOption,
    JsonOption,
    ModelOption,
    OverwriteOption,
    QuietOption,
    ScaleOption,
    check_backend,
    check_device,
    guarded,
    load_for_scale,
    parse_k,
    print_json,
)
from sparsesr.cli._data_sets import check_data, check_outputs, each_set
from sparsesr.cli._mask_error import compare_sets, show_mask_error
from sparsesr.cli._quality_table import show_quality
from sparsesr.cli._seams import show_seams
from sparsesr.cli._sweep import show_sweep, sweep_sets

_MASK_FOLDER = Path("sparsesr-mask-error")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


@guarded
def evaluate(
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            "-d",
            help="Folder with HR/ and LRxN/, or a folder of HR images. Repeat it for more sets.",
        ),
    ],
    model: ModelOption = None,
    scale: ScaleOption = None,
    k: Annotated[
        str,
        typer.Option(
            "-k",
            "--k",
            help="'paper' (240 on Set5/Set14/B100, 1000 elsewhere), 'all' or N. PCSR: exponent of "
            "the cost ('paper': 0), 'all' (pixels heavy) or 'adaptive' (ADM).",
        ),
    ] = "paper",
    budget: BudgetOption = None,
    convention: Annotated[
        str, typer.Option("--convention", help="y, rgb or pcsr: what PSNR and SSIM are taken of.")
    ] = "y",
    hr_mod: Annotated[
        int | None, typer.Option("--hr-mod", help="Crop HR to multiples of this, make LR from it.")
    ] = None,
    order: Annotated[
        str, typer.Option("--order", help="Patches to refine: largest, random or smallest scores.")
    ] = "largest",
    mask: Annotated[
        str, typer.Option("--mask", help="Scores: predicted, or oracle (what refining changes).")
    ] = "predicted",
    seed: Annotated[int, typer.Option("--seed", help="Of --order random.")] = 0,
    refine: Annotated[
        bool, typer.Option(help="PCSR: average light pixels that lie beside heavy ones.")
    ] = True,
    backend: BackendOption = None,
    device: DeviceOption = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Also write a row for each image and the mean.")
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            "--sweep",
            help="Measure quality, multiply-adds and time at several k: '0,240,all', '0%,10%,all' "
            "(PCSR: exponents, or shares of heavy pixels) or 'default'.",
            metavar="VALUES",
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="--sweep: png, svg or pdf; default {model}_{dataset}_sweep.png here."),
    ] = None,
    dense: Annotated[
        str | None,
        typer.Option(help="--sweep: dense network to compare with; default the family's D-Net."),
    ] = None,
    time_images: Annotated[
        int, typer.Option(min=1, help="--sweep: images to time, spread over the set by size.")
    ] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="--sweep: timed runs of each.")] = 10,
    mask_error: Annotated[
        bool,
        typer.Option("--mask-error", help="Compare the mask with what refining every patch does."),
    ] = False,
    pictures: Annotated[
        int, typer.Option(min=0, help="--mask-error: pictures of the first images of each set.")
    ] = 5,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help=f"--mask-error: folder, default {_MASK_FOLDER}."),
    ] = None,
    seams: Annotated[
        bool, typer.Option("--seams", help="Quality along the borders of refined patches.")
    ] = False,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="--seams: average coarse pixels that touch a border.")
    ] = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on data sets, under a convention that is printed with the numbers.

    With several --data, --json prints a list. --sweep draws PSNR against multiply-adds and time,
    with the dense network of the family and the break-even; --mask-error shows the mask beside its
    ground truth and how little refining changes; --seams compares the pixels along the borders of
    refined patches with the rest.
    """
    forms = {"--sweep": sweep is not None, "--mask-error": mask_error, "--seams": seams}
    _check_form(forms)
    _refuse("--sweep", sweep is not None, {"--figure": figure, "--dense": dense})
    _refuse("--mask-error", mask_error, {"--output": output})
    _refuse("--seams", seams, {"--smooth": smooth or None})
    if budget is not None and k != "paper":
        raise CommandError(f"--k {k} and --budget {budget} exclude each other; give one of them")
    if (sweep is not None or mask_error) and (k != "paper" or budget is not None):
        raise CommandError("--sweep and --mask-error choose k themselves; drop --k and --budget")
    if (sweep is not None or seams) and mask != "predicted":
        form = "--seams" if seams else "--sweep"
        raise CommandError(f"{form} measures the mask that the network predicts; drop --mask")
    check_backend(backend)
    check_device(device)
    if csv is not None:
        check_outputs([csv], overwrite)
    net, _, factor = load_for_scale(model, scale)
    factor = int(factor)
    check_data(data, factor)
    common = {"hr_mod": hr_mod, "backend": backend, "device": device}
    quality = {"convention": convention, "order": order, "seed": seed, "refine": refine}
    show: Callable[[dict[str, Any]], None] = show_quality
    if mask_error:
        folder = output or _MASK_FOLDER
        documents = compare_sets(net, factor, data, folder, pictures, overwrite, quiet, common)
        show = show_mask_error
    elif sweep is not None:
        timing = {"time_images": time_images, "repeats": repeats}
        options = {**common, **quality, **timing}
        documents = sweep_sets(net, factor, data, sweep, dense, figure, overwrite, quiet, options)
        show = show_sweep
    elif seams:
        from sparsesr.inference.seams import measure_seams

        del quality["refine"]
        options = {**common, **quality, "smooth": smooth, **_choice(net, k, budget)}
        documents = each_set(measure_seams, net, factor, data, quiet, options)
        show = show_seams
    else:
        from sparsesr.inference import evaluate as run

        options = {**common, **quality, "mask": mask, **_choice(net, k, budget)}
        documents = each_set(run, net, factor, data, quiet, options)
    if csv is not None:
        from sparsesr.inference.csv_rows import write_csv

        write_csv(csv, documents, overwrite)
    if as_json:
        print_json(documents[0] if len(documents) == 1 else documents)
    else:
        for document in documents:
            show(document)


def _check_form(forms: dict[str, bool]) -> None:
    """One form of the command at a time."""
    asked = [name for name, given in forms.items() if given]
    if len(asked) > 1:
        raise CommandError(f"{' and '.join(asked)} exclude each other; run them one by one")


def _refuse(form: str, asked: bool, options: dict[str, Any]) -> None:
    """Options of a form of the command that was not asked for."""
    given = [name for name, value in options.items() if value is not None]
    if given and not asked:
        raise CommandError(f"{' and '.join(given)}: only with {form}")


def _choice(net: Any, k: str, budget: str | None) -> dict[str, Any]:
    if budget is not None:
        return parse_k(None, budget)
    words = ("paper", "all", "adaptive")
    return {"k": k if k in words else parse_k(k, None, net)["k"]}
