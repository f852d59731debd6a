"""``sparsesr profile``: where the time goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesr.cli._common import (
    MISSING,
    BackendOption,
    BudgetOption,
    CommandError,
    DeviceOption,
    JsonOption,
    KOption,
    ModelOption,
    OverwriteOption,
    ScaleOption,
    check_backend,
    check_device,
    console,
    guarded,
    load_net,
    parse_k,
    parse_size,
    print_json,
    untrained_net,
)
from sparsesr.cli._data_sets import check_outputs


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("profile")(profile)


@guarded
def profile(
    model: ModelOption = None,
    scale: ScaleOption = None,
    lr_size: Annotated[
        str, typer.Option("--lr-size", "--size", help="LR image as WIDTHxHEIGHT.")
    ] = "480x270",
    k: KOption = None,
    budget: BudgetOption = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed runs.")] = 10,
    backend: BackendOption = None,
    device: DeviceOption = None,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", help="Also draw the stages: a png, svg or pdf file."),
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Time each stage of one forward pass (medians), and count parameters and multiply-adds.

    A network that selects patches has six: base, mask, select, gather, refine and scatter. Where
    one op does the work of the last three, they are one stage, refine.
    """
    size = parse_size(lr_size, "--lr-size")
    check_backend(backend)
    check_device(device)
    if figure is not None:
        from sparsesr.viz import check_figure_name

        check_outputs([check_figure_name(figure)], overwrite)
    try:
        net, _ = load_net(model, scale)
    except CommandError as stop:
        # Time does not depend on the weights' values, so a model without any can be timed too.
        net = untrained_net(model, scale) if stop.code == MISSING else None
        if net is None:
            raise
        console().print(
            f"note: no weights ship for {net.model_name}-x{net.scale}; timing it untrained"
        )
    choice = parse_k(k, budget, net)
    from sparsesr.inference import profile as run

    result = run(net, size, **choice, repeats=repeats, backend=backend, device=device)
    if figure is not None:
        _draw(result, repeats, figure, overwrite)
        result["figure"] = str(figure)
    if as_json:
        print_json(result)
    else:
        _show(result, repeats)


def _draw(result: dict[str, Any], repeats: int, figure: Path, overwrite: bool) -> None:
    from sparsesr.viz import save_figure, stage_bars

    height, width = result["lr_size"]
    chosen = _chosen(result)
    title = f"{result['model']}, LR {width}x{height}" + (f"; {chosen}" if chosen else "")
    bars = stage_bars(result["stages"], result["total"], title, _timing(repeats))
    save_figure(bars, figure, overwrite)


def _chosen(result: dict[str, Any]) -> str:
    """How much the network chose; empty for one that does not choose."""
    if result["k"] is not None:
        return f"patches refined: {result['k']:,}"
    if "heavy_fraction" in result:
        return f"heavy pixels: {100 * result['heavy_fraction']:.1f} %"
    return ""


def _timing(repeats: int) -> str:
    import torch

    threads = torch.get_num_threads()
    return (
        f"torch {torch.__version__}, {threads} thread{'s' if threads > 1 else ''}, "
        f"medians of {repeats} run{'s' if repeats > 1 else ''} taken in turns"
    )


def _show(result: dict[str, Any], repeats: int) -> None:
    from rich.table import Table

    from sparsesr.viz import stage_words

    height, width = result["lr_size"]
    table = Table(title=f"{result['model']}, LR {width}x{height}", title_justify="left")
    table.add_column("stage")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    summed = sum(result["stages"].values())
    words = stage_words(result["stages"])
    for name, seconds in result["stages"].items():
        table.add_row(words[name], f"{1e3 * seconds:.3f}", f"{100 * seconds / summed:.1f} %")
    table.add_section()
    table.add_row("one call", f"{1e3 * result['total']:.3f}", "")
    out = console(stderr=False)
    out.print(table)
    if _chosen(result):
        out.print(_chosen(result))
    out.print(
        f"parameters {result['params']:,}; multiply-adds {result['macs'] / 1e9:.3f} G; "
        f"as its paper counts {result['paper_flops'] / 1e9:.3f} G"
    )
    out.print(_timing(repeats))
    if "figure" in result:
        out.print(f"Figure: {result['figure']}", markup=False, soft_wrap=True)
