"""``sparsesr env``: what is active, and why the rest is not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import typer

from sparsesr.cli._common import JsonOption, console, guarded, print_json

_EXTRAS = {
    "core": ("torch", "numpy", "pillow", "opencv-python-headless", "typer", "rich", "safetensors",
             "PyYAML", "matplotlib", "thop", "tqdm"),
    "train": ("lightning", "torchmetrics", "tensorboard"),
    "test": ("pytest", "pytest-benchmark", "hypothesis", "scikit-image", "triton"),
    "bench": ("openvino", "onnx", "onnxscript", "onnxruntime"),
    "dev": ("ruff", "mypy", "clang-format"),
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("env")(env)


@guarded
def env(as_json: JsonOption = False) -> None:
    """Show versions, the machine, and which backends run here (paste it into bug reports)."""
    report = environment()
    if as_json:
        print_json(report)
    else:
        _show(report)


def environment() -> dict[str, Any]:
    """Versions, processor, threads, GPUs, backends, the native module, optional packages."""
    import torch

    import sparsesr
    from sparsesr.inference.machine import cpu_name

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "sparsesr": sparsesr.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "cpu": {
            "name": cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
        },
        "gpus": [
            {
                "name": torch.cuda.get_device_name(i),
                "capability": ".".join(map(str, torch.cuda.get_device_capability(i))),
            }
            for i in gpus
        ],
        "backends": [
            {"name": state.name, "available": state.available, "reason": state.reason}
            for state in sparsesr.backends()
        ],
        "SPARSESR_BACKEND": os.environ.get("SPARSESR_BACKEND"),
        "SPARSESR_EXECUTOR": os.environ.get("SPARSESR_EXECUTOR"),
        "native": _native(),
        "weights": sorted(sparsesr.models.shipped_weights()),
        "packages": {extra: {n: _version(n) for n in names} for extra, names in _EXTRAS.items()},
    }


def _native() -> dict[str, Any]:
    """What the compiled module says about itself, or why it is not there."""
    from sparsesr.ops import _native

    error = _native.load_error()
    if error is not None:
        return {"built": False, "reason": error}
    return {"built": True, **_native.build_info()}


def _native_facts(native: dict[str, Any]) -> list[tuple[str, str]]:
    """What ``_native`` returned, in words, for the table."""
    if not native["built"]:
        return [("native", native["reason"])]
    openmp = "OpenMP" if native["openmp"] else "no OpenMP"
    cuda = native["cuda"]
    compiled = f"compiled for {cuda['architectures']}" if cuda["compiled"] else "not compiled"
    problem = f"; {cuda['error']}" if cuda["error"] else ""
    return [
        ("native", native["file"]),
        ("", f"version {native['version']}, {native['compiler']}, {openmp}"),
        ("", f"CPU: {native['cpu_isa']} in use; built for {', '.join(native['cpu_isas'])}"),
        ("", f"CUDA: {compiled}{problem}"),
    ]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table

    out = console(stderr=False)
    cpu = report["cpu"]
    facts = Table.grid(padding=(0, 2))
    for name in ("sparsesr", "python", "platform", "torch"):
        facts.add_row(name, str(report[name]))
    facts.add_row(
        "cpu",
        f"{cpu['name']}, {cpu['cores']} cores, {cpu['threads']} used by torch, {cpu['capability']}",
    )
    gpus = [f"{gpu['name']} (sm {gpu['capability']})" for gpu in report["gpus"]]
    facts.add_row("gpu", ", ".join(gpus) or "none")
    for name, value in _native_facts(report["native"]):
        facts.add_row(name, value)
    facts.add_row("weights", ", ".join(report["weights"]) or "none shipped")
    out.print(facts)
    out.print()
    table = Table(title="Backends", title_justify="left")
    table.add_column("backend")
    table.add_column("active")
    table.add_column("why")
    for state in report["backends"]:
        mark = "[green]yes[/]" if state["available"] else "no"
        table.add_row(state["name"], mark, state["reason"])
    out.print(table)
    for extra, packages in report["packages"].items():
        found = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
        absent = ", ".join(name for name, version in packages.items() if not version)
        title = "packages" if extra == "core" else f"extra [{extra}]"
        out.print(
            f"{title}: {found or 'none'}" + (f"; absent: {absent}" if absent else ""), markup=False
        )
