"""Where the parameters of a program live in its module, fetched at every call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..ops._packing import Cache


class Place(NamedTuple):
    """A parameter or buffer: which of ``module.modules()`` has it, and its name there."""

    module: int
    name: str


class Fold(NamedTuple):
    """A convolution's weight or bias after the batch normalisation that follows it.

    Attributes:
        weight, bias: of the convolution. norm: which of ``module.modules()`` normalises.
        transposed: whether outputs are the weight's second dimension.
        part: "weight" or "bias", what this is.
    """

    weight: Place
    bias: Place | None
    norm: int
    transposed: bool
    part: str


Source = Place | Fold

_folded = Cache()


def places(module: nn.Module) -> dict[int, Place | None]:
    """Every parameter and buffer by its identity; None where several modules share one."""
    found: dict[int, Place | None] = {}
    for i, part in enumerate(module.modules()):
        for name, tensor in (*part._parameters.items(), *part._buffers.items()):
            if tensor is not None:
                found[id(tensor)] = None if id(tensor) in found else Place(i, name)
    return found


def fetch(sources: Sequence[Source], modules: Sequence[nn.Module]) -> list[Tensor]:
    """The tensors as they are now; a fold is computed again only after a change.

    Args:
        sources: of a program. modules: all of its module, ``Blueprint.modules``.
    """
    return [
        _at(source, modules) if isinstance(source, Place) else _fold(source, modules)
        for source in sources
    ]


def owned(sources: Sequence[Source], modules: Sequence[nn.Module]) -> list[Tensor]:
    """The tensors of the module itself that a program depends on."""
    found: list[Tensor] = []
    for source in sources:
        if isinstance(source, Place):
            found.append(_at(source, modules))
        else:
            found += _fold_inputs(source, modules)
    return found


def _at(place: Place, modules: Sequence[nn.Module]) -> Tensor:
    module = modules[place.module]
    found = module._parameters.get(place.name)
    tensor: Any = module._buffers.get(place.name) if found is None else found
    return tensor


def _fold_inputs(fold: Fold, modules: Sequence[nn.Module]) -> list[Tensor]:
    norm: Any = modules[fold.norm]
    own = [norm.running_mean, norm.running_var, norm.weight, norm.bias]
    bias = None if fold.bias is None else _at(fold.bias, modules)
    return [t for t in (_at(fold.weight, modules), *own, bias) if t is not None]


def _fold(fold: Fold, modules: Sequence[nn.Module]) -> Tensor:
    norm: Any = modules[fold.norm]
    key = (norm.eps, norm.weight is None, fold.bias is None, fold.transposed)
    pair = _folded.get(key, _fold_inputs(fold, modules), lambda: _compute(fold, modules))
    return pair[fold.part == "bias"]


@torch.no_grad()
def _compute(fold: Fold, modules: Sequence[nn.Module]) -> tuple[Tensor, Tensor]:
    """w * s and (b - mean) * s + beta, s = gamma / sqrt(var + eps)."""
    norm: Any = modules[fold.norm]
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    if fold.bias is not None:
        shift = shift + _at(fold.bias, modules) * scale
    shape = (1, -1, 1, 1) if fold.transposed else (-1, 1, 1, 1)
    return (_at(fold.weight, modules) * scale.view(shape)).detach(), shift.detach()
