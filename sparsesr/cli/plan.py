"""``sparsesr plan``: which form of a family pays for an image of a size, and where none does."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from sparsesr.cli._common import (
    DEFAULT_SCALE,
    BackendOption,
    CommandError,
    DeviceOption,
    JsonOption,
    ScaleOption,
    check_backend,
    check_device,
    console,
    guarded,
    parse_size,
    print_json,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plan")(plan)


@guarded
def plan(
    family: Annotated[
        str, typer.Option("-m", "--model", help="fsrcnn, pan, rfdn, srresnet or rcan.")
    ] = "fsrcnn",
    scale: ScaleOption = None,
    lr_size: Annotated[
        str, typer.Option("--size", "--lr-size", help="LR image as WIDTHxHEIGHT.")
    ] = "480x270",
    k: Annotated[
        str,
        typer.Option("-k", "--k", help="Patches to refine: '1,1000,25%,all'.", metavar="VALUES"),
    ] = "1,5%,10%,25%,50%,all",
    splits: Annotated[
        str | None,
        typer.Option(
            help="Blocks of Base-Net and Refine-Net: '12+4,8+8'. Default: as published, and an "
            "eighth of the blocks moved either way.",
            metavar="A+B,...",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed runs.")] = 5,
    backend: BackendOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count and time the forms of a family on one image size, and say which of them to use.

    The D-Net computes everything (lean: no more than its output needs), -mga the patches that a
    mask chooses over a coarse image, -mga-light the same over a cheaper coarse image. Networks are
    untrained here, which time does not depend on; `sparsesr evaluate` measures quality.
    """
    from sparsesr.inference.planning import plan as run
    from sparsesr.models import parse_name

    size = parse_size(lr_size, "--size")
    check_backend(backend)
    check_device(device)
    named = parse_name(family)[1]
    if scale is not None and named is not None and scale != named:
        raise CommandError(f"{family} is for scale {named}, got --scale {scale}")
    values = [value.strip() for value in k.split(",")]
    with console().status("counting") as status:
        document = run(
            family,
            scale or named or DEFAULT_SCALE,
            size,
            values,
            None if splits is None else [_split(text) for text in splits.split(",")],
            repeats=repeats,
            backend=backend,
            device=device,
            progress=lambda calls: status.update(f"timing {calls} calls"),
        )
    if as_json:
        print_json(document)
    else:
        _show(document)


def _split(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d+)\+(\d+)\s*", text)
    if match is None:
        raise CommandError(f"--splits {text}: expected blocks such as 12+4")
    return int(match[1]), int(match[2])


def _show(document: dict[str, Any]) -> None:
    from rich.table import Table

    height, width = document["lr_size"]
    title = f"{document['family']} x{document['scale']}, LR {width}x{height}"
    table = Table(title=f"{title}, {document['patches']:,} patches", title_justify="left")
    for name in ("form", "blocks"):
        table.add_column(name)
    for name in ("k", "refined", "GMACs", "lean / this", "ms", "lean / this"):
        table.add_column(name, justify="right")
    before = None
    for row in document["rows"]:
        group = (row["k"] is None, row["form"] if row["k"] is not None else "", row["split"])
        if before not in (None, group):
            table.add_section()
        before = group
        table.add_row(*_cells(row))
    out = console(stderr=False)
    out.print(table)
    for line in (*verdict_lines(document), _timing_line(document)):
        out.print(line, soft_wrap=True)


def _cells(row: dict[str, Any]) -> list[str]:
    dense = row["k"] is None
    return [
        row["form"],
        "+".join(map(str, row["split"])),
        "-" if dense else f"{row['k']:,}",
        "-" if dense else f"{100 * row['coverage']:.1f} %",
        f"{row['macs'] / 1e9:.3f}",
        f"{row['macs_saved']:.2f}",
        f"{1e3 * row['seconds']:.2f}",
        f"{row['time_saved']:.2f}",
    ]


def verdict_lines(document: dict[str, Any]) -> list[str]:
    """How far each form pays, and what to use, in words."""
    from sparsesr.inference.break_even import in_words

    lean = document["rows"][0]["model"]
    lines = []
    for entry in document["break_even"]:
        split = "+".join(map(str, entry["split"]))
        shares = [
            row["coverage"]
            for row in document["rows"]
            if (row["model"], row["split"]) == (entry["model"], entry["split"])
        ]
        words = [
            f"in {name} {in_words(entry[measure], lean, 'patches', max(shares))}"
            for measure, name in (("macs", "multiply-adds"), ("seconds", "time"))
        ]
        lines.append(f"{entry['model']} ({split}): {'; '.join(words)}")
    return [*lines, *_use_lines(document, lean)]


def _use_lines(document: dict[str, Any], lean: str) -> list[str]:
    use = document["use"]
    if not use:
        return []
    if use[0]["model"] == lean:
        return [f"Use {lean}: no form that refines patches is faster at any share measured."]
    first = f"Use {use[0]['model']} up to {100 * use[0]['up_to']:.0f} % of the patches"
    return [f"{first}, {lean} above." if len(use) > 1 else f"{first}, the most measured."]


def _timing_line(document: dict[str, Any]) -> str:
    timing = document["timing"]
    threads = timing["threads"]
    return (
        f"Time: median of {timing['repeats']} runs taken in turns, untrained networks; "
        f"{threads} thread{'s' if threads > 1 else ''}, {timing['device']}, {timing['dtype']}, "
        f"torch {timing['torch']}. lean / this: times less than {document['rows'][0]['model']}."
    )
