"""The ``cuda`` backend: torch tensors in, launches of the kernels in ``sparsesr._native`` out.

Outputs and workspaces are torch's, on the device of the first tensor; the kernels run on that
device's current stream. Nothing waits for the GPU, so index values are not checked: an index
outside the grid reads as zeros (gather) or is ignored (scatter, backward). Argument names and
meanings are those of ``ops.reference``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _native
from ._cuda_programs import patch_program_obstacle as patch_program_obstacle
from ._cuda_programs import refine_patches_ as refine_patches_
from ._cuda_routing import average_neighbors as average_neighbors
from ._cuda_routing import route_mlp as route_mlp
from ._gpu_packing import kept, on_device, with_adjacent_channels
from ._layout import empty_like_format, memory_format_of
from ._native import _is_mean, _view

DEVICES = ("cuda",)
_COMPUTED = (torch.float32, torch.bfloat16, torch.float16)
# The other ops take all.
DTYPES = dict.fromkeys(("masked_conv2d", "masked_block", "route_mlp", "refine_patches_"), _COMPUTED)
_REBUILD = "`SPARSESR_CUDA=1 pip install -e .` in the checkout (needs nvcc)"


def load_error() -> str | None:
    """Why the backend cannot run here and what to do, or None."""
    if not torch.cuda.is_available():
        build = torch.version.cuda or "no CUDA"
        return f"torch sees no CUDA GPU (torch {torch.__version__}, built with {build})"
    if not _native.available():
        return _native.load_error()
    cuda = _native.build_info()["cuda"]
    if not cuda["compiled"]:
        return f"sparsesr._native has no CUDA part ({cuda['error']}); build it with {_REBUILD}"
    if cuda["error"] is not None:
        return (
            f"sparsesr._native was built with CUDA {_version(cuda['runtime_version'])}, the driver "
            f"is for {_version(cuda['driver_version'])}: {cuda['error']}; update the driver, or "
            f"build with an older toolkit: {_REBUILD}"
        )
    return _unsupported(cuda["architectures"])


def select_patches(
    mask: Tensor,  # [B, Gh, Gw]
    k: int,
    largest: bool = True,
) -> Tensor:
    """Ascending indices [B, k] int32 of the k largest (or smallest) scores; NaN ranks last."""
    with torch.cuda.device(mask.device):
        index = torch.empty((mask.shape[0], k), dtype=torch.int32, device=mask.device)
        _launch("select_patches", {"mask": mask, "index": index}, largest)
    return index


def gather_patches(
    x: Tensor,  # [B, C, H, W]
    index: Tensor,  # [B, k] int32
    patch_size: int,
    halo: int,
    stride: int,
) -> Tensor:
    """Windows [B*k, C, p+2h, p+2h] of ``x`` in its memory format; zero outside the map."""
    side = patch_size + 2 * halo
    with torch.cuda.device(x.device):
        patches = empty_like_format((index.numel(), x.shape[1], side, side), x)
        operands = {"x": x, "index": index.contiguous(), "patches": patches}
        _launch("gather_patches", operands, patch_size, halo, stride)
    return patches


def gather_patches_backward(
    grad: Tensor,  # [B*k, C, P, P]
    index: Tensor,  # [B, k] int32
    height: int,
    width: int,
    patch_size: int,
    halo: int,
    stride: int,
) -> Tensor:
    """The sum of all windows that cover a pixel, [B, C, H, W] in the memory format of ``grad``."""
    op = "gather_patches_backward"
    window = (patch_size, halo, stride)
    with torch.cuda.device(grad.device):
        grad_x = empty_like_format((index.shape[0], grad.shape[1], height, width), grad)
        operands = {
            "grad": grad,
            "index": index.contiguous(),
            "grad_x": grad_x,
            "workspace": _workspace(op, grad, index.shape[0], height, width, *window),
        }
        _launch(op, operands, *window)
    return grad_x


def select_gather_patches(
    mask: Tensor,  # [B, Gh, Gw]
    x: Tensor,  # [B, C, H, W]
    k: int,
    patch_size: int,
    halo: int,
    stride: int,
    largest: bool = True,
) -> tuple[Tensor, Tensor]:
    """``(patches, index)``: the k best patches of ``x`` and where they lie, in one call."""
    side = patch_size + 2 * halo
    with torch.cuda.device(mask.device):
        index = torch.empty((mask.shape[0], k), dtype=torch.int32, device=mask.device)
        patches = empty_like_format((index.numel(), x.shape[1], side, side), x)
        operands = {"mask": mask, "x": x, "index": index, "patches": patches}
        _launch("select_gather_patches", operands, patch_size, halo, stride, largest)
    return patches, index


def scatter_patches(
    canvas: Tensor,  # [B, C, Hc, Wc]
    patches: Tensor,  # [B*k, C, p, p]
    index: Tensor,  # [B, k] int32
    patch_size: int,
    stride: int,
    reduce: str,
) -> Tensor:
    """``canvas`` with the patches written or averaged where they lie, in its memory format."""
    with torch.cuda.device(canvas.device):
        out = empty_like_format(tuple(canvas.shape), canvas)
        _scatter("scatter_patches", canvas, patches, index, out, patch_size, stride, reduce)
    return out


def scatter_patches_(
    canvas: Tensor,  # [B, C, Hc, Wc], written
    patches: Tensor,  # [B*k, C, p, p]
    index: Tensor,  # [B, k] int32
    patch_size: int,
    stride: int,
    reduce: str,
) -> None:
    """``scatter_patches`` in place; ``patches`` must not share memory with ``canvas``."""
    with torch.cuda.device(canvas.device):
        _scatter("scatter_patches_", canvas, patches, index, canvas, patch_size, stride, reduce)


def scatter_patches_backward(
    grad: Tensor,  # [B, C, Hc, Wc]
    index: Tensor,  # [B, k] int32
    patch_size: int,
    stride: int,
    reduce: str,
) -> tuple[Tensor, Tensor]:
    """Gradients of canvas [B,C,Hc,Wc] and patches [B*k,C,p,p], in the memory format of ``grad``."""
    op = "scatter_patches_backward"
    batch, channels, height, width = grad.shape
    shape = (index.numel(), channels, patch_size, patch_size)
    with torch.cuda.device(grad.device):
        grad_canvas = empty_like_format(tuple(grad.shape), grad)
        grad_patches = empty_like_format(shape, grad)
        operands = {
            "grad": grad,
            "index": index.contiguous(),
            "grad_canvas": grad_canvas,
            "grad_patches": grad_patches,
            "workspace": _workspace(op, grad, batch, height, width, patch_size, stride),
        }
        _launch(op, operands, patch_size, stride, _is_mean(op, reduce))
    return grad_canvas, grad_patches


def masked_conv2d(
    x: Tensor,  # [B, Cin, H, W]
    weight: Tensor,  # [Cout, Cin, k, k]
    bias: Tensor | None,  # [Cout]
    mask: Tensor,  # [B, 1, H, W] bool
) -> Tensor:
    """The convolution where the mask is True, zero elsewhere; sums are float32. k <= 13."""
    op = "masked_conv2d"
    with torch.cuda.device(x.device):
        out = _empty_pixels(x, weight.shape[0])
        operands = {
            "x": with_adjacent_channels(x),
            "weights": kept(op, [weight], None, lambda: _pack_conv(weight)),
            "bias": _bias(bias, x),
            "mask": mask,
            "out": out,
        }
        _launch(op, operands, weight.shape[-1])
    return out.contiguous(memory_format=memory_format_of(x))


def masked_block(
    x: Tensor,  # [B, C, H, W]
    weights: Sequence[Tensor],  # L of [C, C, 3, 3]
    collect_weight: Tensor,  # [C', L*C, 1, 1]
    collect_bias: Tensor | None,  # [C']
    dense: Tensor,  # [L, C] bool, any device
    mask: Tensor,  # [B, 1, H, W] bool
) -> Tensor:
    """The features of all layers, collected; sums are float32."""
    op = "masked_block"
    batch, channels, height, width = x.shape
    pitch = channels + -channels % _channel_step()
    with torch.cuda.device(x.device):
        packed = kept(
            op,
            [*weights, collect_weight],
            dense,
            lambda: _pack_block(weights, collect_weight, dense),
        )
        out = _empty_pixels(x, collect_weight.shape[0])
        operands = {
            "x": with_adjacent_channels(x),
            "packed": packed,
            "bias": _bias(collect_bias, x),
            "mask": mask,
            "features": x.new_empty((len(weights), batch, height, width, pitch)),
            "out": out,
        }
        _launch(op, operands)
    return out.contiguous(memory_format=memory_format_of(x))


def _pack_conv(weight: Tensor) -> Tensor:
    """weight [Cout,Cin,k,k] -> [k*k, Cout, Cin] with zeros up to whole steps of channels."""
    outputs, inputs = weight.shape[:2]
    taps = weight.detach().permute(2, 3, 0, 1).flatten(0, 1)
    return F.pad(taps, (0, -inputs % _channel_step(), 0, -outputs % _channel_step())).contiguous()


def _pack_block(weights: Sequence[Tensor], collect_weight: Tensor, dense: Tensor) -> Tensor:
    """The weights of a block as its kernels want them, [n] int32."""
    operands = {
        "weights": torch.stack([w.detach() for w in weights]).contiguous(),
        "collect_weight": collect_weight.detach().flatten(1).contiguous(),
        "dense": on_device("masked_block", dense, collect_weight.device).contiguous(),
    }
    view = _view("masked_block", "weights", operands["weights"], collect_weight.device)
    elements = _native._loaded().cuda.masked_block_packed(view, collect_weight.shape[0])
    packed = collect_weight.new_empty(elements, dtype=torch.int32)
    _launch("masked_block_pack", {**operands, "packed": packed})
    return packed


def _channel_step() -> int:
    return int(_native._loaded().cuda.channel_step)


def _empty_pixels(x: Tensor, channels: int) -> Tensor:
    shape = (x.shape[0], channels, *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _bias(bias: Tensor | None, x: Tensor) -> Tensor:
    return x.new_empty(0) if bias is None else bias.detach().contiguous()


def _scatter(
    op: str,
    canvas: Tensor,
    patches: Tensor,
    index: Tensor,
    out: Tensor,
    patch_size: int,
    stride: int,
    reduce: str,
) -> None:
    batch, _, height, width = canvas.shape
    sizes = (batch, height, width, patch_size, stride, out is canvas)
    operands = {
        "canvas": canvas,
        "patches": patches,
        "index": index.contiguous(),
        "out": out,
        "workspace": _workspace("scatter_patches", canvas, *sizes),
    }
    _launch(op, operands, patch_size, stride, _is_mean(op, reduce))


def _workspace(op: str, like: Tensor, *sizes: int) -> Tensor:
    """Scratch memory of the op for a map of these sizes, [n] int32."""
    elements = getattr(_native._loaded().cuda, f"{op}_workspace")(*sizes)
    return torch.empty(elements, dtype=torch.int32, device=like.device)


def _launch(op: str, operands: dict[str, Tensor], *arguments: Any) -> None:
    """Queue an op on the current stream of the first operand's device.

    The operands live until the kernels are queued; what torch then does with their memory, it
    queues behind them.
    """
    device = next(iter(operands.values())).device
    views = [_view(op, name, tensor, device) for name, tensor in operands.items()]
    stream = torch.cuda.current_stream(device).cuda_stream
    getattr(_native._loaded().cuda, op.rstrip("_"))(*views, *arguments, stream)


def _unsupported(built_for: str) -> str | None:
    """Why no visible GPU can run kernels for these architectures, or None when one can."""
    gpus = range(torch.cuda.device_count())
    capabilities = [torch.cuda.get_device_capability(i) for i in gpus]
    if any(_runs(built_for, *capability) for capability in capabilities):
        return None
    present = ", ".join(f"{major}.{minor}" for major, minor in capabilities)
    archs = ";".join(f"{major}{minor}" for major, minor in dict.fromkeys(capabilities))
    return (
        f"sparsesr._native was built for compute capability {built_for}, the GPU has {present}; "
        f"rebuild with `SPARSESR_CUDA_ARCHS='{archs}' pip install -e .` in the checkout"
    )


def _runs(built_for: str, major: int, minor: int) -> bool:
    """Whether code for "80-real,90-real,90-virtual" runs on a GPU of this compute capability.

    Machine code runs on its own major version from its minor on, PTX (virtual, or no suffix) on
    everything later; an "a" ties either to exactly one capability, an "f" to one major version.
    """
    for arch in built_for.split(","):
        match = re.fullmatch(r"(\d+)(\d)([af]?)(-real|-virtual)?", arch)
        if match is None:
            continue
        built = (int(match[1]), int(match[2]))
        if match[3] == "a":
            fits = built == (major, minor)
        elif match[3] == "f" or match[4] == "-real":
            fits = built[0] == major and built[1] <= minor
        else:
            fits = built <= (major, minor)
        if fits:
            return True
    return False


def _version(number: int) -> str:
    """13000 -> "13.0"."""
    return f"{number // 1000}.{number % 1000 // 10}"
