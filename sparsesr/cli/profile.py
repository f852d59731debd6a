"""``sparsesr profile``: where the time goes."""

from __future__ import annotations

import re
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
    ScaleOption,
    check_backend,
    check_device,
    console,
    guarded,
    load_net,
    parse_k,
    print_json,
    untrained_net,
)


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
    as_json: JsonOption = False,
) -> None:
    """Time each stage of one forward pass (medians), and count parameters and multiply-adds."""
    match = re.fullmatch(r"(\d+)x(\d+)", lr_size)
    if match is None:
        raise CommandError(f"--lr-size {lr_size}: expected WIDTHxHEIGHT such as 480x270")
    width, height = int(match[1]), int(match[2])
    check_backend(backend)
    check_device(device)
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

    result = run(net, (height, width), **choice, repeats=repeats, backend=backend, device=device)
    if as_json:
        print_json(result)
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    import torch
    from rich.table import Table

    height, width = result["lr_size"]
    table = Table(title=f"{result['model']}, LR {width}x{height}", title_justify="left")
    table.add_column("stage")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    summed = sum(result["stages"].values())
    for name, seconds in result["stages"].items():
        table.add_row(name, f"{1e3 * seconds:.3f}", f"{100 * seconds / summed:.1f} %")
    table.add_section()
    table.add_row("one call", f"{1e3 * result['total']:.3f}", "")
    out = console(stderr=False)
    out.print(table)
    if result["k"] is not None:
        out.print(f"patches refined: {result['k']:,}")
    if "heavy_fraction" in result:
        out.print(f"heavy pixels: {100 * result['heavy_fraction']:.1f} %")
    out.print(
        f"parameters {result['params']:,}; multiply-adds {result['macs'] / 1e9:.3f} G; "
        f"as its paper counts {result['paper_flops'] / 1e9:.3f} G"
    )
    out.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians")
