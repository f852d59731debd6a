"""``sparsesr demo``: the shipped photograph, upscaled densely and sparsely, with numbers."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsesr.cli._common import (
    MISSING,
    BackendOption,
    CommandError,
    JsonOption,
    ModelOption,
    OverwriteOption,
    QuietOption,
    check_backend,
    console,
    guarded,
    load_net,
    print_json,
)

if TYPE_CHECKING:
    import numpy as np

MODEL = "fsrcnn-mga-x4"
PHOTO = "astronaut.jpg"
OUTPUTS = ("lr.png", "bicubic.png", "dense.png", "sparse.png", "mask.png", "comparison.png")

_SCALE = 4
_FACE = (52, 168, 128, 128)  # top, left, height, width of the detail that is compared


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


@guarded
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures.")] = Path(
        "sparsesr-demo"
    ),
    model: ModelOption = None,
    budget: Annotated[
        float, typer.Option("--budget", help="Fraction of the patches to refine, 0 to 1.")
    ] = 0.25,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed runs of each.")] = 15,
    backend: BackendOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Upscale the photograph that ships with the package, and show what sparsity buys.

    The photograph is reduced to a quarter by bicubic interpolation and brought back to its size
    by bicubic interpolation, by the dense network, and by refining only the patches that the
    network's mask picks. Times are measured here and now.
    """
    if not 0 <= budget <= 1:
        raise CommandError(f"--budget {budget}: expected a fraction from 0 to 1")
    check_backend(backend)
    present = [name for name in OUTPUTS if (output / name).exists()]
    if present and not overwrite:
        raise CommandError(
            f"{output} already has {', '.join(present)}; pass --overwrite or another -o"
        )
    net, name = load_net(model or MODEL, None)
    from sparsesr.nn import selects_patches

    if net.scale != _SCALE or not selects_patches(net):
        raise CommandError(f"the demo needs an x{_SCALE} model that selects patches, got {name}")
    report, pictures = measure(net, photo(), budget, repeats, backend)
    from sparsesr.io import write_image

    output.mkdir(parents=True, exist_ok=True)
    for name in OUTPUTS:
        write_image(output / name, pictures[name], overwrite)
    report["files"] = [str(output / name) for name in OUTPUTS]
    if as_json:
        print_json(report)
    elif not quiet:
        _show(report, output)


def photo() -> np.ndarray:
    """The shipped photograph, [512, 512, 3] uint8 (NASA, public domain)."""
    from sparsesr.io import read_image

    resource = importlib.resources.files("sparsesr") / "assets" / PHOTO
    with importlib.resources.as_file(resource) as path:
        if not path.is_file():
            raise CommandError(f"{path} is missing; install the package again", MISSING)
        return read_image(path)


def measure(
    net: Any, hr: np.ndarray, budget: float, repeats: int, backend: str | None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The table's numbers and the pictures by file name, for one HR photograph."""
    import torch

    from sparsesr.inference import Upscaler
    from sparsesr.inference.profiling import interleaved
    from sparsesr.io import to_array, to_tensor
    from sparsesr.metrics import imresize, psnr
    from sparsesr.ops import patch_grid
    from sparsesr.viz import mask_overlay

    lr = imresize(hr, 1 / _SCALE)
    x, truth = to_tensor(lr), to_tensor(hr)
    dense_net, trained = _dense_form(net)
    sparse, dense = Upscaler(net, backend=backend), Upscaler(dense_net, backend=backend)
    cells = patch_grid(lr.shape[0], lr.shape[1], net.patch_size)
    count = cells[0] * cells[1]

    runs = {
        "bicubic": lambda: imresize(x, _SCALE),
        "dense": lambda: dense.run(x),
        "every patch": lambda: sparse.run(x, k=count),
        "sparse": lambda: sparse.run(x, budget=budget),
        "coarse": lambda: sparse.run(x, k=0),
    }
    images = {name: run().float().cpu() for name, run in runs.items()}
    details = sparse.run(x, budget=budget, return_details=True)
    index = details.index[0].cpu().numpy()
    seconds = interleaved(runs, repeats, sparse.device, backend)
    refined = {"every patch": count, "sparse": len(index), "coarse": 0}
    rows = [
        {
            "method": name,
            "refined": refined[name] / count if name in refined else None,
            "seconds": seconds[name],
            "speedup": seconds["dense"] / seconds[name] if name != "bicubic" else None,
            "psnr": psnr(image, truth, _SCALE) if name != "dense" or trained else None,
        }
        for name, image in images.items()
    ]
    report = {
        "model": f"{net.model_name}-x{_SCALE}",
        "photo": PHOTO,
        "lr_size": list(lr.shape[:2]),
        "sr_size": list(hr.shape[:2]),
        "convention": "y",
        "patches": count,
        "k_used": len(index),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": rows,
    }
    arrays = {name: to_array(image) for name, image in images.items()}
    overlay = mask_overlay(arrays["sparse"], index, cells, net.patch_size * _SCALE)
    return report, {
        "lr.png": lr,
        "bicubic.png": arrays["bicubic"],
        "dense.png": arrays["every patch"],
        "sparse.png": arrays["sparse"],
        "mask.png": overlay,
        "comparison.png": _comparison(lr, hr, arrays, rows),
    }


def _dense_form(net: Any) -> tuple[Any, bool]:
    """The D-Net, and whether it is trained.

    A Refine-Net trained on patches does not fit the whole map: without weights of its own the
    D-Net is good for a stopwatch alone.
    """
    import sparsesr

    name = net.model_name.removesuffix("-mga") + "-dnet"
    if f"{name}-x{_SCALE}" in sparsesr.models.shipped_weights():
        return sparsesr.from_pretrained(name, _SCALE), True
    return sparsesr.create_model(name, _SCALE), False


def _comparison(
    lr: np.ndarray, hr: np.ndarray, arrays: dict[str, np.ndarray], rows: list[dict[str, Any]]
) -> np.ndarray:
    from sparsesr.viz import comparison_strip

    quality = {row["method"]: row["psnr"] for row in rows}
    shown = [
        (f"{name}, {quality[name]:.2f} dB", arrays[name])
        for name in ("bicubic", "every patch", "sparse")
    ]
    return comparison_strip([("LR", lr), *shown, ("original", hr)], _FACE, zoom=2)


_EXPLAINED = {
    "bicubic": "bicubic interpolation",
    "dense": "dense network (the D-Net)",
    "every patch": "every patch refined (dense.png)",
    "sparse": "the mask's choice (sparse.png)",
    "coarse": "coarse image, none refined",
}


def _threads(report: dict[str, Any]) -> str:
    return "1 thread" if report["threads"] == 1 else f"{report['threads']} threads"


def _show(report: dict[str, Any], output: Path) -> None:
    from rich.table import Table

    height, width = report["lr_size"]
    table = Table(
        title=f"{report['model']}: {width}x{height} -> {width * _SCALE}x{height * _SCALE}",
        title_justify="left",
    )
    table.add_column("method")
    for name in ("refined", "ms", "speed-up", "PSNR-Y dB"):
        table.add_column(name, justify="right")
    for row in report["rows"]:
        share = "" if row["refined"] is None else f"{100 * row['refined']:.0f} %"
        speed = "" if row["speedup"] is None else f"{row['speedup']:.2f}x"
        quality = "not trained" if row["psnr"] is None else f"{row['psnr']:.2f}"
        cells = (share, f"{1e3 * row['seconds']:.2f}", speed, quality)
        bold = "bold" if row["method"] == "sparse" else None
        table.add_row(_EXPLAINED[row["method"]], *cells, style=bold)
    out = console(stderr=False)
    out.print(table)
    out.print(
        f"Median times, taken in turns, {_threads(report)}, torch {report['torch']}; speed-up\n"
        "over the dense network, which computes only what its output needs.\n"
        "PSNR on Y (MATLAB rgb2ycbcr), 8-bit rounded, border 4 cropped.\n"
        "Photograph: NASA, public domain; LR made from it by bicubic reduction."
    )
    by_name = {row["method"]: row for row in report["rows"]}
    sparse, every = by_name["sparse"], by_name["every patch"]
    out.print(
        f"The mask's choice takes {sparse['seconds'] / every['seconds']:.2f} of the time of every "
        f"patch and changes PSNR by {sparse['psnr'] - every['psnr']:+.2f} dB."
    )
    if sparse["speedup"] < 1:
        out.print("Here, at this size, it is slower than the dense network.")
    out.print(f"Pictures in {output}: {', '.join(OUTPUTS)}", markup=False, soft_wrap=True)
