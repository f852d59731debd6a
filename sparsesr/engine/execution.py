"""Running modules by their programs where that is allowed, else as they are.

A program stands in for a module only where nobody could tell but by the clock: without gradients,
in eager mode, with no hook, mode or transform looking on, and where a backend computes programs
natively. SPARSESR_EXECUTOR may say otherwise:

- ``auto`` (the default): programs wherever allowed, and where ``choice`` expects them to be faster
- ``fused``: patches by their program whatever ``choice`` expects; one that has none is an error
- ``layered``: patches are gathered, go through the module and are scattered; maps as in ``auto``
- ``off``: no programs at all
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import ops
from .._backend import runs_natively
from . import cache, choice
from .cache import Entry

EXECUTORS = ("auto", "fused", "layered", "off")
_VARIABLE = "SPARSESR_EXECUTOR"
_NATIVE_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def executor() -> str:
    """What SPARSESR_EXECUTOR asks for, ``"auto"`` by default.

    Raises:
        ValueError: it is something else than one of ``EXECUTORS``.

    Example:
        >>> executor() in EXECUTORS
        True
    """
    name = os.environ.get(_VARIABLE, "") or "auto"
    if name not in EXECUTORS:
        raise ValueError(f"{_VARIABLE}: expected one of {', '.join(EXECUTORS)}; got {name!r}")
    return name


@dataclass(frozen=True)
class Covered:
    """Patches of a map that will be written over, so that nobody reads what is made of them.

    Attributes:
        index: patches [N, k] int32. patch_size: in pixels of the map.
    """

    index: Tensor
    patch_size: int


def run(
    module: nn.Module, x: Tensor, method: str = "forward", covered: Covered | None = None
) -> Any:
    """``module(x)``, or another method of it, by its program where that is allowed.

    Args:
        module: of one input and one output. x: map [N, C, H, W]. method: its name.
        covered: what need not be computed, and may be left undefined, of the result.

    Raises:
        ValueError: SPARSESR_EXECUTOR is not known.

    Example:
        >>> run(nn.Conv2d(3, 8, 3, padding=1), torch.rand(1, 3, 5, 7)).shape
        torch.Size([1, 8, 5, 7])
    """
    if not torch.compiler.is_compiling():
        found = _map_program(module, x, method)
        if not isinstance(found, str):
            text, weights = found
            if covered is None:
                return ops.run_program(x, weights, text)
            return ops.run_program(x, weights, text, covered.index, covered.patch_size)
    return module(x) if method == "forward" else getattr(module, method)(x)


def why_not_run(module: nn.Module, x: Tensor, method: str = "forward") -> str | None:
    """Why ``run`` would call the module itself, or None where it would take its program."""
    found = _map_program(module, x, method)
    return found if isinstance(found, str) else None


@dataclass(frozen=True)
class PatchPlan:
    """A Refine-Net that is to run on patches by its program.

    Attributes:
        text, weights: the program and its parameters.
        patch_size, halo: of the patches.
    """

    text: str
    weights: Sequence[Tensor]
    patch_size: int
    halo: int

    def refine_(self, canvas: Tensor, feature: Tensor, index: Tensor) -> Tensor:
        """Write the patches ``index`` [B, k] of ``feature``, refined, into ``canvas``."""
        return ops.refine_patches_(
            canvas, feature, index, self.weights, self.text, self.patch_size, self.halo
        )


def plan_patches(
    module: nn.Module,
    canvas: Tensor,  # [B, O, s*H, s*W]
    feature: Tensor,  # [B, C, H, W]
    patch_size: int,
    halo: int,
) -> PatchPlan | None:
    """How ``module`` refines patches by its program, or None where it has to run itself.

    Args:
        module: windows [N, C, p+2h, p+2h] -> [N, O, s*p, s*p].
        canvas: the image that patches will be written into. feature: where they come from.
        patch_size: p, pixels of the feature map. halo: h.

    Raises:
        RuntimeError: SPARSESR_EXECUTOR=fused, and the module has no program.
        ValueError: SPARSESR_EXECUTOR is not known.
    """
    if torch.compiler.is_compiling():
        return None
    found = _patch_program(module, canvas, feature, patch_size, halo)
    return found if isinstance(found, PatchPlan) else None


def why_not_fused(
    module: nn.Module, canvas: Tensor, feature: Tensor, patch_size: int, halo: int
) -> str | None:
    """Why ``plan_patches`` would give none, or None where it would give a plan."""
    found = _patch_program(module, canvas, feature, patch_size, halo)
    return found if isinstance(found, str) else None


def refine_(
    module: nn.Module,
    canvas: Tensor,  # [B, O, s*H, s*W]
    feature: Tensor,  # [B, C, H, W]
    index: Tensor,  # [B, k]
    patch_size: int,
    halo: int,
) -> bool:
    """Refine the patches ``index`` into ``canvas`` by the program of ``module``.

    Returns:
        Whether it was done; where not, nothing was written, and the module has to run itself.

    Raises:
        RuntimeError, ValueError: as ``plan_patches``.
    """
    plan = plan_patches(module, canvas, feature, patch_size, halo)
    if plan is None:
        return False
    plan.refine_(canvas, feature, index)
    return True


def _map_program(module: nn.Module, x: Tensor, method: str) -> tuple[str, list[Tensor]] | str:
    """The program and its parameters, or why it is not to run."""
    if executor() == "off":
        return f"{_VARIABLE}=off"
    if (obstacle := _obstacle("run_program", module, x)) is not None:
        return obstacle
    entry = cache.for_maps(module, x.shape[1], method)
    weights = _weights(entry, x)
    if isinstance(weights, str):
        return weights
    assert entry.lowered is not None
    assert entry.facts is not None
    if not choice.stream_map(entry.facts, x.device.type):
        return "module by module is expected to be faster"
    return entry.lowered.text, weights


def _patch_program(
    module: nn.Module, canvas: Tensor, feature: Tensor, patch_size: int, halo: int
) -> PatchPlan | str:
    """The plan, or why there is none."""
    wish = executor()
    if wish in ("off", "layered"):
        return f"{_VARIABLE}={wish}"
    if (obstacle := _obstacle("refine_patches_", module, feature)) is not None:
        return obstacle
    side = patch_size + 2 * halo
    entry = cache.for_patches(module, (feature.shape[1], side, side))
    if entry.lowered is None and wish == "fused":
        raise RuntimeError(
            f"{_VARIABLE}=fused: {type(module).__name__} has no program for windows of {side} px: "
            f"{entry.obstacle}. Use layered, or auto"
        )
    weights = _weights(entry, feature)
    if isinstance(weights, str):
        return weights
    assert entry.lowered is not None
    assert entry.facts is not None
    if canvas.dtype != feature.dtype or not _fits(entry, canvas, feature, patch_size):
        return "what it makes does not fit the image"
    if wish != "fused" and not choice.fused_patches(entry.facts, feature.device.type):
        return "layered is expected to be faster"
    return PatchPlan(entry.lowered.text, weights, patch_size, halo)


def _obstacle(op: str, module: nn.Module, x: Any) -> str | None:
    """Why no program may run now, whatever the module computes."""
    if torch.jit.is_tracing():
        return "torch.jit is tracing"
    if type(x) is not Tensor or x.dim() != 4 or x.numel() == 0:
        return "the input is no plain map [N, C, H, W]"
    if x.requires_grad and torch.is_grad_enabled():
        return "a gradient is needed"
    if not natively(op, x):
        return f"no backend computes {op} natively here"
    if module.__dict__.get("_is_replica"):
        return "DataParallel makes another module for every call"
    return _watched(x.device.type)


def natively(op: str, x: Tensor) -> bool:
    """Whether ``op`` on ``x`` runs on kernels made for it."""
    return x.dtype in _NATIVE_DTYPES and runs_natively(op, x)


def _watched(device: str) -> str | None:
    """A transform or a mode that would see, or change, what a module does."""
    if torch.is_autocast_enabled(device):
        return "autocast is on"
    if torch._C._len_torch_dispatch_stack() > 0:
        return "a TorchDispatchMode is active"
    if torch._C._len_torch_function_stack() > 0 and not _only_device_modes():
        return "a TorchFunctionMode is active"
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "a torch.func transform is active"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation is active"
    if nn.modules.module._has_any_global_hook():
        return "a global module hook is set"
    return None


def _only_device_modes() -> bool:
    """``torch.device`` as a context, and torch.set_default_device, are such modes too."""
    modes = torch.overrides._get_current_function_mode_stack()
    return all(isinstance(mode, torch.utils._device.DeviceContext) for mode in modes)


def _weights(entry: Entry, x: Tensor) -> list[Tensor] | str:
    """The parameters for a run on ``x``, or why there is none."""
    if entry.lowered is None or entry.binding is None:
        return entry.obstacle
    if entry.blueprint.has_hooks():
        return "a module in it has a forward hook"
    mine, dtype, device = entry.binding.owned(), x.dtype, x.device
    for tensor in mine:
        if type(tensor) is not nn.Parameter and type(tensor) is not Tensor:
            return f"a parameter is a {type(tensor).__name__}"
        if tensor.dtype != dtype or tensor.device != device:
            return "parameters and input differ in dtype or device"
    if torch.is_grad_enabled() and any(t.requires_grad for t in mine):
        return "a gradient is needed"
    weights = entry.binding.parameters()
    if [w.shape for w in weights] != list(entry.lowered.weights):
        return "a parameter has changed its shape"
    return weights


def _fits(entry: Entry, canvas: Tensor, feature: Tensor, patch_size: int) -> bool:
    """Whether what the program makes belongs into the canvas."""
    assert entry.lowered is not None
    channels, height, width = entry.lowered.made
    scale = height // patch_size
    size = (feature.shape[0], channels, scale * feature.shape[2], scale * feature.shape[3])
    return height == width == scale * patch_size and tuple(canvas.shape) == size
