"""``sparsesr evaluate``: PSNR and SSIM on a data set."""

from __future__ import annotations

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
    QuietOption,
    ScaleOption,
    check_backend,
    check_device,
    console,
    guarded,
    load_for_scale,
    parse_k,
    print_json,
)

_COSTS = {"heavy_fraction": "heavy", "paper_flops": "paper's GFLOPs", "macs": "GMACs"}
_CONVENTIONS = {
    "y": "Y of MATLAB rgb2ycbcr, 8-bit rounded, border {scale} cropped",
    "rgb": "RGB, 8-bit rounded, border {scale} cropped",
    "pcsr": "PCSR's: RGB, float LR, LR cropped to 28 n + 32, 8-bit rounded, border {scale} cropped",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


@guarded
def evaluate(
    data: Annotated[
        Path,
        typer.Option("--data", "-d", help="Folder with HR/ and LRxN/, or a folder of HR images."),
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
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on a data set, under a convention that is printed with the numbers."""
    if budget is not None and k != "paper":
        raise CommandError(f"--k {k} and --budget {budget} exclude each other; give one of them")
    if budget is not None:
        parse_k(None, budget)
    check_backend(backend)
    check_device(device)
    net, _, factor = load_for_scale(model, scale)
    words = ("paper", "all", "adaptive")
    choice: Any = k if k in words else parse_k(k, None, net)["k"]
    from rich.progress import Progress

    from sparsesr.inference import evaluate as run

    with Progress(console=console(quiet=quiet), transient=True) as bar:
        task = bar.add_task("evaluate", total=None)

        def show(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name)

        result = run(
            net,
            data,
            int(factor),
            k=choice,
            budget=budget,
            convention=convention,  # type: ignore[arg-type]  # evaluate checks the words
            hr_mod=hr_mod,
            order=order,  # type: ignore[arg-type]
            mask=mask,  # type: ignore[arg-type]
            seed=seed,
            refine=refine,
            backend=backend,
            device=device,
            progress=show,
        )
    if as_json:
        print_json(result)
    else:
        _show(result)


def _cells(row: dict[str, Any]) -> list[str]:
    """The columns of an image, or of the mean, which has no number of patches."""
    patches = [f"{row['k_used']:,}"] if row.get("k_used") is not None else []
    shares = [f"{row['sparsity']:.3f}"] if "sparsity" in row else []
    shares += [f"{share:.2f}" for share in row.get("sparsity_of_modules", [])]
    shares += [f"{row['heavy_fraction']:.3f}"] if "heavy_fraction" in row else []
    shares += [f"{row[key] / 1e9:.2f}" for key in ("paper_flops", "macs") if key in row]
    return [f"{row['psnr']:.3f}", f"{row['ssim']:.4f}", *patches, *shares]


def _show(result: dict[str, Any]) -> None:
    from rich.table import Table

    mean = result["mean"]
    words = f"{result['model']} on {result['dataset']}"
    options = ("order", "mask", "hr_mod", "refine")
    extras = [f"{key} {result[key]}" for key in options if key in result]
    title = ", ".join([words, *extras])
    table = Table(title=title, title_justify="left")
    table.add_column("image")
    modules = len(mean.get("sparsity_of_modules", []))
    columns = ["PSNR dB", "SSIM"]
    columns += ["patches"] if result["images"][0]["k_used"] is not None else []
    columns += ["sparsity", *(f"SMM{i + 1}" for i in range(modules))] if modules else []
    columns += [words for key, words in _COSTS.items() if key in mean]
    for name in columns:
        table.add_column(name, justify="right")
    for image in result["images"]:
        table.add_row(image["name"], *_cells(image))
    table.add_section()
    table.add_row("mean", *_cells(mean))
    out = console(stderr=False)
    out.print(table)
    out.print("Convention: " + _CONVENTIONS[result["convention"]].format(scale=result["scale"]))
