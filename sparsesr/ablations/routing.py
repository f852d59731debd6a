"""The ablations of PCSR (ECCV 2024): refinement, classes, patches, one model for all scales."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparsesr.nn.pixel_classes import first_heavy_class
from sparsesr.nn.pixel_router import RoutedOutput

from .plan import SHORT_DATA, SHORT_SETTINGS, SHORT_STAGE, Ablation, Given, State, Training, Variant

_RECIPE = "carn-pcsr-x4"
_ROUTED, _ORIGINAL = "carn-pcsr", "carn"
# The short profile: steps, rate and crops.
_SHORT = {"heavy": 1500, "light": 700}
_RATE = {"optimizer": {"lr": 1e-3}}
_CROPS = {"lr_crop": 24, "batch": 8}
_NAMES = {"carn": "CARN", "fsrcnn": "FSRCNN", "msrresnet": "SRResNet", "bsrn": "BSRN"}
_MIDDLE = [[64, 64, 64]]  # of the three classes: one of the two that have the printed parameters


def with_options(net: nn.Module, **options: Any) -> nn.Module:
    """A network that shares everything with ``net`` and is called with ``options``."""
    return _called(net, partial(net.forward, **options))


def in_patches(net: nn.Module, patch: int) -> nn.Module:
    """A network that sees an image as patches of ``patch`` LR pixels a side, one by one.

    They do not overlap; the last ones of a row or column are smaller where the sides are no
    multiple of it.
    """
    return _called(net, partial(_patchwise, net, patch))


def _called(net: nn.Module, forward: Callable[..., Any]) -> nn.Module:
    clone = copy.copy(net)  # its own attributes, the same modules
    clone.forward = forward
    return clone


def _patchwise(net: nn.Module, patch: int, lr: Tensor, **options: Any) -> Any:
    if lr.is_meta:  # being counted: patches that do not overlap cost what the image costs
        return net(lr, **options)
    rows = []
    for strip in lr.split(patch, dim=2):
        outs = [net(cell, **options) for cell in strip.split(patch, dim=3)]
        rows.append(_joined(outs, -1))
    return _joined(rows, -2)


def _joined(outs: list[Any], dim: int) -> Any:
    """Images, or outputs of a router, side by side."""
    if isinstance(outs[0], RoutedOutput):
        sr, classes, logits, refined = zip(*outs, strict=True)
        return RoutedOutput(
            torch.cat(sr, dim), torch.cat(classes, dim), torch.cat(logits, dim), refined[0]
        )
    return torch.cat(outs, dim)


def _title(model: str) -> str:
    stem = model.rsplit("-x", 1)[0]
    original = stem.removesuffix("-pcsr")
    return _NAMES.get(original, original) + ("-PCSR" if stem.endswith("-pcsr") else "")


def _refinement(profile: str, models: Sequence[str]) -> list[Variant]:
    rows = []
    for heavy in (0, 2, 4, 6, 8, 9):
        wrap = all_averaged if heavy == 0 else partial(with_options, min_heavy=heavy)
        row = f"{_title(models[0])} #h={heavy}"
        rows.append(Variant(row, Given(models[0], user=True), row, wrap=wrap))
    return rows


def all_averaged(net: nn.Module) -> nn.Module:
    """A router whose light pixels all take the mean of their 3x3, heavy neighbours or none.

    ``average_neighbors`` asks for one heavy pixel at least. As there, the 1-pixel frame stays.
    """
    return _called(net, partial(_all_averaged, net))


def _all_averaged(net: Any, lr: Tensor, **options: Any) -> RoutedOutput:
    out = net(lr, **{**options, "refine": False, "return_details": True})
    mean = nn.functional.avg_pool2d(out.sr, 3, stride=1)
    sr = out.sr.clone()
    inner = sr[..., 1:-1, 1:-1]
    light = (out.class_map < first_heavy_class(net.classes))[:, None, 1:-1, 1:-1]
    inner.copy_(torch.where(light, mean, inner))
    return out._replace(sr=sr, refined=True)


def _patches(profile: str, models: Sequence[str]) -> list[Variant]:
    return [
        Variant(
            f"{_title(model)} patch {patch}",
            Given(model, user=True),
            f"{_title(model)} patch {patch}",
            wrap=partial(in_patches, patch=patch),
        )
        for model in sorted(models)
        for patch in (16, 32, 64, 128)
    ]


def widened(state: State) -> dict[str, Tensor]:
    """Of a router of two classes, what one of three has too: encoder, heaviest and lightest."""
    names = {"heavy_sampler": "samplers.2", "light_sampler": "samplers.0"}
    moved = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        if part != "classifier":
            moved[f"{names.get(part, part)}.{rest}"] = value
    return moved


def _train(profile: str, name: str, step: str, **rest: Any) -> Training:
    name, steps = f"{_RECIPE}-{name}", None
    if profile == "short":
        steps = _SHORT[step]
        rest["data"] = {**SHORT_DATA, **_CROPS, **rest.get("data", {})}
        rest["stage"] = {**SHORT_STAGE, **_RATE, **rest.get("stage", {})}
        rest["settings"] = SHORT_SETTINGS
    return Training(name, _RECIPE, step, steps, **rest)


def _without_choice(state: State) -> dict[str, Tensor]:
    """Encoder and heaviest sampler alone."""
    kept = ("encoder", "heavy_sampler", "mean")
    return {k: v for k, v in state.items() if k.split(".")[0] in kept}


def _classes(profile: str, models: Sequence[str]) -> list[Variant]:
    originals = [m for m in models if not m.startswith(_ROUTED)]
    routed = [m for m in models if m.startswith(_ROUTED)]
    # Encoder and heaviest sampler: published ones, or trained here.
    heavy = Given(routed[0], user=True) if routed else _train(profile, "heavy", "heavy")
    start = "published" if routed else "trained"
    two = _train(profile, f"2class-{start}", "light", start=heavy, convert=_without_choice)
    middle = _train(
        profile,
        f"3class-{start}-middle",
        "light",
        options={"middle": _MIDDLE},
        start=heavy,
        convert=lambda state: widened(_without_choice(state)),
        stage={"samplers": 2},
    )
    three = _train(
        profile,
        f"3class-{start}",
        "light",
        options={"middle": _MIDDLE},
        start=middle,
        stage={"samplers": 3},
    )
    return [
        *(Variant(_title(m), Given(m, user=True), _title(m)) for m in originals),
        Variant("CARN-PCSR-2class", two, "CARN-PCSR-2class"),
        Variant("CARN-PCSR-3class", three, "CARN-PCSR-3class"),
    ]


def _multiscale(profile: str, models: Sequence[str]) -> list[Variant]:
    rows = []
    for trained, data in (("x4", {}), ("x2..x4", {"scales": (2.0, 4.0), "lr": "crop"})):
        name = trained.replace("..", "-")
        heavy = _train(profile, f"{name}-heavy", "heavy", data=data)
        light = _train(profile, f"{name}-light", "light", start=heavy, data=data)
        row = f"CARN-PCSR (trained on {trained})"
        rows += [
            Variant(f"{row}, x{scale}", light, row if data else None, scale=scale)
            for scale in (2, 4, 8)
        ]
    return rows


_COUNTED = "PCSR's convention and its way to count FLOPs. "
_CLASSIFIED = "k = 0: each pixel takes its likeliest class. "

TABLES = (
    Ablation(
        "pcsr-refinement",
        "PCSR",
        "appendix 3",
        "heavy pixels in its 3x3 that a light pixel needs to be averaged",
        _refinement,
        f"Evaluation alone. {_COUNTED}{_CLASSIFIED}With 0 every light pixel is averaged; with 9, "
        "more than a light pixel can have, none.",
        _RECIPE,
        ("heavy_fraction",),
        "pcsr",
        weights=("*-pcsr",),
    ),
    Ablation(
        "pcsr-classes",
        "PCSR",
        "4",
        "two classes of pixels and three",
        _classes,
        f"{_COUNTED}{_CLASSIFIED}Both rows share encoder and heavy sampler (of the weights that "
        "are given, or trained here); light samplers and classifiers are trained here, each with "
        "the same steps. The paper does not print the middle sampler: here 64, 64, 64.",
        _RECIPE,
        ("params", "flops", "heavy_fraction"),
        "pcsr",
        optional=("carn-pcsr", "carn"),
    ),
    Ablation(
        "pcsr-patch",
        "PCSR",
        "3",
        "input patches of 16, 32, 64 and 128 pixels a side",
        _patches,
        f"Evaluation alone. {_COUNTED}{_CLASSIFIED}Patches do not overlap; at the right and the "
        "bottom smaller ones remain, and an image is not cut along a side shorter than the patch.",
        _RECIPE,
        ("flops", "heavy_fraction"),
        "pcsr",
        weights=("*-pcsr",),
        optional=("carn", "fsrcnn", "msrresnet", "bsrn"),
    ),
    Ablation(
        "pcsr-multiscale",
        "PCSR",
        "5",
        "one model for every scale, trained on x2 to x4, beside one trained on x4",
        _multiscale,
        f"{_COUNTED}{_CLASSIFIED}All rows are trained from scratch with the same steps.",
        _RECIPE,
        ("params", "flops", "heavy_fraction"),
        "pcsr",
    ),
)
