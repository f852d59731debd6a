"""``sparsesr evaluate --sweep``: quality against cost, as a table and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsesr.cli._common import MISSING, CommandError, console, load_net, untrained_net
from sparsesr.cli._data_sets import check_outputs, data_set_names, progress_bar
from sparsesr.cli._quality_table import convention_line

if TYPE_CHECKING:
    from sparsesr.inference import Rival


def sweep_sets(
    net: Any,
    scale: int,
    folders: Sequence[Path],
    values: str,
    dense: str | None,
    figure: Path | None,
    overwrite: bool,
    quiet: bool,
    options: dict[str, Any],
) -> list[dict[str, Any]]:
    """A document of ``sweep`` for each folder, its figure drawn and named in it."""
    from sparsesr.inference import lean_rival, sweep
    from sparsesr.inference.sweep import sweep_points
    from sparsesr.viz import save_figure, sweep_curves

    chosen = None if values == "default" else [value.strip() for value in values.split(",")]
    for folder in folders:
        sweep_points(net, chosen, folder.resolve().name)
    files = _figure_files(figure, f"{net.model_name}-x{scale}", data_set_names(folders))
    check_outputs(files, overwrite)
    rival = lean_rival(net, scale) if dense is None else _named_rival(dense, scale)
    documents = []
    for folder, file in zip(folders, files, strict=True):
        with progress_bar(quiet) as show:
            document = sweep(net, folder, scale, chosen, rival=rival, progress=show, **options)
        title = f"{document['model']} on {document['dataset']}: {_parts(document)}"
        note = f"{convention_line(document)}\n{timing_line(document)}"
        save_figure(sweep_curves(document, title, note), file, overwrite)
        documents.append({**document, "figure": str(file)})
    return documents


def _figure_files(figure: Path | None, model: str, names: Sequence[str]) -> list[Path]:
    """The figure's name, with the data set in it where there are several."""
    from sparsesr.viz import check_figure_name

    if figure is None:
        return [Path(f"{model}_{name}_sweep.png") for name in names]
    check_figure_name(figure)
    if len(names) == 1:
        return [figure]
    return [figure.with_name(f"{figure.stem}_{name}{figure.suffix}") for name in names]


def _named_rival(name: str, scale: int) -> Rival:
    """The dense network asked for; one without weights is good for its cost alone."""
    from sparsesr.inference import Rival
    from sparsesr.nn import routes_pixels, selects_patches

    trained = True
    try:
        net, full = load_net(name, scale)
    except CommandError as stop:
        net = untrained_net(name, scale) if stop.code == MISSING else None
        if net is None:
            raise
        full, trained = f"{net.model_name}-x{net.scale}", False
    if net.scale != scale or selects_patches(net) or routes_pixels(net):
        raise CommandError(f"--dense {name}: expected a dense network for x{scale}, got {full}")
    return Rival(net, full, trained)


def _parts(document: dict[str, Any]) -> str:
    """What coverage is a share of."""
    routed = "heavy_fraction" in document["points"][0]["mean"]
    return "share of pixels that are heavy" if routed else "share of patches refined"


def timing_line(document: dict[str, Any]) -> str:
    """How time was taken."""
    timing = document["timing"]
    count, threads = len(timing["images"]), timing["threads"]
    return (
        f"Time: mean over {count} image{'s' if count > 1 else ''} of the median of "
        f"{timing['repeats']} runs, taken in turns; {threads} thread{'s' if threads > 1 else ''}, "
        f"{timing['device']}, {timing['dtype']}, torch {timing['torch']}"
    )


def show_sweep(document: dict[str, Any]) -> None:
    """Print a document of ``sweep``."""
    from rich.table import Table

    from sparsesr.inference.break_even import in_words

    title = f"{document['model']} on {document['dataset']}: {_parts(document)}"
    table = Table(title=title, title_justify="left")
    table.add_column("k")
    for name in ("coverage", "PSNR dB", "SSIM", "GMACs", "ms"):
        table.add_column(name, justify="right")
    for point in document["points"]:
        coverage = f"{100 * point['mean']['coverage']:.1f} %"
        table.add_row(point["value"], coverage, *_cells(point))
    dense = document["dense"]
    if dense is not None:
        table.add_section()
        table.add_row(dense["model"], "dense", *_cells(dense))
    out = console(stderr=False)
    out.print(table)
    out.print(convention_line(document))
    out.print(f"{timing_line(document)} ({', '.join(document['timing']['images'])})")
    if dense is None:
        out.print("No dense network of this family is known; name one with --dense.")
    else:
        parts = "pixels" if "heavy_fraction" in document["points"][0]["mean"] else "patches"
        highest = document["points"][-1]["mean"]["coverage"]
        for name, words in (("macs", "multiply-adds"), ("seconds", "time")):
            found = document["break_even"][name]
            out.print(f"Break-even in {words}: {in_words(found, dense['model'], parts, highest)}")
        if not dense["trained"]:
            out.print(f"{dense['model']} has no trained weights here: cost alone, no quality.")
    out.print(f"Figure: {document['figure']}", markup=False, soft_wrap=True)


def _cells(part: dict[str, Any]) -> list[str]:
    mean = part["mean"]
    quality = [f"{mean['psnr']:.3f}", f"{mean['ssim']:.4f}"] if "psnr" in mean else ["-", "-"]
    return [*quality, f"{mean['macs'] / 1e9:.3f}", f"{1e3 * part['seconds']:.2f}"]
