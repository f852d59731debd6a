"""What a ``SparseRefine`` does with its networks, in words and numbers."""

from __future__ import annotations

import copy
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import engine, ops
from ..engine.choice import Facts, facts_of
from .mask_predictor import MaskPredictor

if TYPE_CHECKING:
    from .sparse_refine import SparseRefine

_STREAMED = "program, streamed"
_PROBE = (96, 96)  # LR rows and columns where the call gives none


@dataclass(frozen=True)
class _Stage:
    """One network of the layer.

    Attributes:
        title: its place and class. executor: how it runs now.
        program: its text, or why there is none. facts: of the program.
        unit: what ``facts`` count for.
        macs: multiply-adds, of an image or of a patch; None where they cannot be counted.
    """

    title: str
    executor: str
    program: str
    facts: Facts | None
    unit: str
    macs: int | None


@torch.no_grad()
def explain(layer: SparseRefine, lr_size: tuple[int, int] | None, k: int | None) -> str:
    """The text of ``SparseRefine.explain``."""
    size = _PROBE if lr_size is None else lr_size
    like = next(layer.parameters(), torch.empty(0))
    channels = _feature_channels(layer, like)
    stages = _base_stages(layer.base, channels, size, like)
    if isinstance(getattr(layer, "mask", None), nn.Module):
        method = "probability" if isinstance(layer.mask, MaskPredictor) else "forward"
        stages.append(_map_stage("mask", layer.mask, method, channels, size, like))
    refine = _patch_stage(layer, channels, like)
    head = (
        f"{type(layer).__name__} x{layer.scale}, patches of {layer.patch_size} px with a halo of "
        f"{layer.halo}; {str(like.dtype).removeprefix('torch.')} on {like.device}; "
        f"SPARSESR_EXECUTOR {engine.executor()}"
    )
    lines = [head]
    for stage in (*stages, refine):
        lines += _told(stage, like.element_size())
    dense = _macs(_dense(layer.refine), (channels, *_dense_size(layer, size)), "forward")
    cells = ops.patch_grid(*size, layer.patch_size)
    lines += _balance(layer, [s.macs for s in stages], refine.macs, dense, cells, size, k)
    streamed = any(s.title.startswith("base upsampler") and s.executor == _STREAMED for s in stages)
    if streamed and hasattr(layer.base, "in_two_steps"):
        lines.insert(-1, "fewer where the coarse image can be left out under the patches")
    return "\n".join(lines)


def _told(stage: _Stage, width: int) -> list[str]:
    lines = [f"{stage.title}: {stage.executor}", textwrap.indent(stage.program, "    ")]
    facts = stage.facts
    if facts is not None:
        lines.append(
            f"  per {stage.unit}: {facts.numbers_in * width:,.0f} bytes in, "
            f"{facts.numbers_out * width:,.0f} out, {facts.macs:,.0f} MACs; "
            f"parameters {facts.parameters * width:,} bytes"
        )
    return lines


def _base_stages(
    base: nn.Module, channels: int, size: tuple[int, int], like: Tensor
) -> list[_Stage]:
    upsampler = getattr(base, "upsampler", None)
    if not hasattr(base, "features") or not isinstance(upsampler, nn.Module):
        return [
            _Stage(
                f"base {type(base).__name__}",
                "module by module",
                "its image and feature come from one call",
                None,
                "pixel",
                _macs(base, (3, *size), "forward"),
            )
        ]
    return [
        _map_stage("base features", base, "features", 3, size, like),
        _map_stage("base upsampler", upsampler, "forward", channels, size, like),
    ]


def _map_stage(
    name: str, module: nn.Module, method: str, channels: int, size: tuple[int, int], like: Tensor
) -> _Stage:
    facts, macs, executor = None, _macs(module, (channels, *size), method), "module by module"
    try:
        lowered = engine.lower_map(module, channels, method)
    except engine.UnlowerableError as error:
        program = f"no program: {error}"
    else:
        program, pixels = lowered.text, lowered.shape[1] * lowered.shape[2]
        facts = facts_of(lowered.program, lowered.weights, lowered.shape, pixels)
        refusal = engine.why_not_run(module, like.new_empty(1, channels, 8, 8), method)
        executor = _STREAMED if refusal is None else f"{executor} ({refusal})"
    return _Stage(f"{name} {type(module).__name__}", executor, program, facts, "pixel", macs)


def _patch_stage(layer: SparseRefine, channels: int, like: Tensor) -> _Stage:
    p, side = layer.patch_size, layer.patch_size + 2 * layer.halo
    shape = (channels, side, side)
    canvas = like.new_empty(1, 3, layer.scale * p, layer.scale * p)
    feature = like.new_empty(1, channels, p, p)
    facts = None
    try:
        lowered = engine.lower(layer.refine, shape)
    except engine.UnlowerableError as error:
        program, macs = f"no program: {error}", _macs(layer.refine, shape, "forward")
        executor = "layered"
    else:
        program = lowered.text
        facts = facts_of(lowered.program, lowered.weights, shape)
        macs = int(facts.macs)
        refusal = engine.why_not_fused(layer.refine, canvas, feature, p, layer.halo)
        executor = "fused" if refusal is None else f"layered ({refusal})"
    title = f"refine {type(layer.refine).__name__}"
    return _Stage(title, executor, program, facts, f"patch of {side}x{side}", macs)


def _balance(
    layer: SparseRefine,
    base: list[int | None],
    patch: int | None,
    dense: int | None,
    cells: tuple[int, int],
    size: tuple[int, int],
    k: int | None,
) -> list[str]:
    """Multiply-adds of the sparse and of the dense form, and where they meet."""
    counts = [m for m in (*base, patch, dense) if m is not None]
    if len(counts) < len(base) + 2 or patch is None or dense is None or patch == 0:
        return ["multiply-adds: a network here cannot be counted without an image"]
    total = cells[0] * cells[1]
    count = (
        total
        if not isinstance(getattr(layer, "mask", None), nn.Module)
        else (min(layer.k if k is None else k, total))
    )
    always, trunk = sum(counts[:-2]), counts[0]
    even = (trunk + dense - always) / (patch * total)
    where = (
        f"{even:.0%} of the patches"
        if 0 < even < 1
        else "no coverage: the sparse form costs more at any"
        if even <= 0
        else "no coverage: the sparse form costs less at any"
    )
    return [
        f"LR {size[1]}x{size[0]}, {count} of {total} patches ({count / total:.1%}): "
        f"{(always + count * patch) / 1e9:.3f} GMACs; dense (features and refine over the whole "
        f"map): {(trunk + dense) / 1e9:.3f} GMACs",
        f"equal in multiply-adds at {where}",
    ]


def _dense(refine: nn.Module) -> nn.Module:
    """A copy of the Refine-Net as it runs over the whole map."""
    copied: Any = copy.deepcopy(refine)
    if hasattr(copied, "full"):
        copied.full = True
    return copied


def _dense_size(layer: SparseRefine, size: tuple[int, int]) -> tuple[int, int]:
    """Of the map it takes: one without a padded form needs the halo around the image."""
    extra = 0 if hasattr(layer.refine, "full") else 2 * layer.halo
    return size[0] + extra, size[1] + extra


def _feature_channels(layer: SparseRefine, like: Tensor) -> int:
    return layer.coarse_and_feature(like.new_zeros(1, 3, 8, 8))[1].shape[1]


def _macs(module: nn.Module, shape: tuple[int, int, int], method: str) -> int | None:
    """Multiply-adds of convolutions and linear layers, on a copy without data."""
    probe = copy.deepcopy(module).to("meta")
    total = 0

    def count(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        at = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        dim = 1 if not isinstance(layer, nn.Linear) else -1
        total += layer.weight.numel() * (at.numel() // at.shape[dim])

    for layer in probe.modules():
        layer._forward_hooks.clear()  # the caller's own, which the copy inherited
        layer._forward_pre_hooks.clear()
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            layer.register_forward_hook(count)
    dtype = next((p.dtype for p in probe.parameters()), torch.float32)
    try:
        getattr(probe, "__call__" if method == "forward" else method)(
            torch.empty(1, *shape, dtype=dtype, device="meta")
        )
    except (NotImplementedError, RuntimeError):
        return None
    return total
