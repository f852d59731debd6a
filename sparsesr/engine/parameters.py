"""Where the parameters of a program live in its module, fetched at every call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
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


class Binding:
    """The parameters of a program in its module, fetched anew at every call.

    Args:
        sources: of the program. modules: all of its module, ``Blueprint.modules``.
    """

    def __init__(self, sources: Sequence[Source], modules: Sequence[nn.Module]) -> None:
        self._own: list[tuple[dict[str, Any], str]] = []
        for source in sources:
            if isinstance(source, Place):
                self._own.append(_slot(source, modules))
        self._folds = [
            (i, _Folding(source, modules))
            for i, source in enumerate(sources)
            if isinstance(source, Fold)
        ]

    def owned(self) -> list[Tensor]:
        """The tensors of the module itself that the program depends on."""
        found = [tensors[name] for tensors, name in self._own]
        for _, fold in self._folds:
            found += fold.inputs()
        return found

    def parameters(self) -> list[Tensor]:
        """What the program takes; a fold is computed again only after a change."""
        found = [tensors[name] for tensors, name in self._own]
        for i, fold in self._folds:  # ascending: each lands where the program expects it
            found.insert(i, fold.tensor())
        return found


def _slot(place: Place, modules: Sequence[nn.Module]) -> tuple[dict[str, Any], str]:
    module = modules[place.module]
    return (module._parameters if place.name in module._parameters else module._buffers), place.name


class _Folding:
    """A convolution's weight or bias, and the normalisation after it."""

    def __init__(self, fold: Fold, modules: Sequence[nn.Module]) -> None:
        self._fold = fold
        self._weight = _slot(fold.weight, modules)
        self._bias = None if fold.bias is None else _slot(fold.bias, modules)
        norm = modules[fold.norm]
        self._eps: float = norm.eps  # type: ignore[assignment]  # the blueprint sees a change
        self._norm = (norm._buffers, norm._parameters)

    def inputs(self) -> list[Tensor]:
        """What it is computed from."""
        return [t for t in self._sources() if t is not None]

    def tensor(self) -> Tensor:
        """The folded weight or bias: the same tensor while its inputs stay what they are."""
        sources = self._sources()
        key = (self._eps, self._fold.transposed, *(t is None for t in sources))
        pair = _folded.get(key, self.inputs(), partial(self._compute, *sources))
        return pair[self._fold.part == "bias"]

    def _sources(self) -> list[Any]:
        """Weight and bias of the convolution; mean, variance, weight and bias of the norm."""
        buffers, parameters = self._norm
        return [
            self._weight[0][self._weight[1]],
            None if self._bias is None else self._bias[0][self._bias[1]],
            buffers["running_mean"],
            buffers["running_var"],
            parameters["weight"],
            parameters["bias"],
        ]

    @torch.no_grad()
    def _compute(
        self, weight: Tensor, bias: Any, mean: Tensor, variance: Tensor, gamma: Any, beta: Any
    ) -> tuple[Tensor, Tensor]:
        """w * s and (b - mean) * s + beta, s = gamma / sqrt(variance + eps)."""
        scale = (variance + self._eps).rsqrt()
        scale = scale if gamma is None else scale * gamma
        shift = (-mean if bias is None else bias - mean) * scale
        shift = shift if beta is None else shift + beta
        shape = (1, -1, 1, 1) if self._fold.transposed else (-1, 1, 1, 1)
        return (weight * scale.view(shape)).detach(), shift.detach()
