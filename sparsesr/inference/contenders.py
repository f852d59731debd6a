"""The networks of a sweep: what they output at each value, what that costs, and how to time it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparsesr.complexity import complexity
from sparsesr.inference.evaluation import route
from sparsesr.inference.profiling import Thunk
from sparsesr.inference.upscaler import Upscaler, backend_choice
from sparsesr.nn import routes_pixels
from sparsesr.ops import patch_grid

# SR image (None: its quality is not asked for) and what was spent on it.
Measured = tuple[Tensor | None, dict[str, Any]]


@dataclass(frozen=True)
class Point:
    """One choice of a sweep: its value as given, and as keyword arguments of the network."""

    value: str
    choice: dict[str, Any]


class SparseContender:
    """A network that chooses patches or pixels, at every point of a sweep.

    ``floor`` is the least choice that chooses, one patch or no heavy pixel: what it costs tells
    whether the network is ever cheaper than another. (No patch at all costs less by a step, as the
    mask does not run then.) Its quality is measured only if it is one of the points.

    Args:
        upscaler: runs it. points: of the sweep. scale: of the evaluation.
        order, seed, refine: as in ``evaluate``.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        points: list[Point],
        scale: int,
        order: str,
        seed: int,
        refine: bool,
    ) -> None:
        self.upscaler = upscaler
        self.points = points
        self.order = order
        self.seed = seed
        self._routing = {"scale": scale, "refine": refine} if routes_pixels(upscaler.net) else {}
        self._macs = PatchMacs(upscaler.net)
        least = {"budget": 0.0} if self._routing else {"k": 1}
        same = next((point for point in points if point.choice == least), None)
        self.floor = same or Point("floor", least)
        self._all = points if same else [*points, self.floor]

    def outputs(self, lr: Tensor, number: int) -> Iterator[tuple[str, Measured]]:
        """Value and output of each point and the floor, for image ``number`` of the set."""
        if self._routing:
            for point in self._all:
                sr, used = route(self.upscaler, lr, {**point.choice, **self._routing})
                used |= {"coverage": used["heavy_fraction"]}
                yield point.value, (sr if point in self.points else None, used)
            return
        refine = self._coarse_once(lr)
        for point in self.points:
            generator = torch.Generator(self.upscaler.device).manual_seed(self.seed + number)
            yield point.value, refine(point.choice, generator)
        if self.floor not in self.points:
            yield self.floor.value, (None, self._used(lr, 1))

    def runs(self, lr: Tensor) -> dict[str, Thunk]:
        """The call that a user would make, of each point."""
        return {
            point.value: partial(self.upscaler.run, lr, **point.choice, **self._routing)
            for point in self._all
        }

    def _coarse_once(self, lr: Tensor) -> Callable[[dict[str, Any], torch.Generator], Measured]:
        """Base-Net and mask, run once for all points; the rest is the network's own forward."""
        upscaler, order = self.upscaler, self.order
        net: Any = upscaler.net
        x = lr.to(upscaler.device, upscaler.dtype)
        x = x.contiguous(memory_format=upscaler.memory_format)
        size = (x.shape[-2], x.shape[-1])
        with torch.inference_mode(), backend_choice(upscaler.backend):
            coarse, feature = net.coarse_and_feature(x)
            mask = net.score(feature)

        def refine(choice: dict[str, Any], generator: torch.Generator) -> Measured:
            count = net.patch_count(size, choice.get("k"), choice.get("budget"))
            used = self._used(x, count)
            if count == 0:
                return coarse, used
            with torch.inference_mode(), backend_choice(upscaler.backend):
                index = net.select(mask, count, order, generator)
                return net.refine_over(coarse.clone(), feature, index), used

        return refine

    def _used(self, lr: Tensor, count: int) -> dict[str, Any]:
        """What ``count`` patches of an image cost."""
        net: Any = self.upscaler.net
        size = (lr.shape[-2], lr.shape[-1])
        rows, cols = patch_grid(*size, net.patch_size)
        macs = self._macs(size, count)
        return {"k_used": count, "coverage": count / (rows * cols), "macs": macs}


class DenseContender:
    """A dense network under one name; without trained weights it has no quality."""

    def __init__(self, upscaler: Upscaler, name: str, trained: bool) -> None:
        self.upscaler = upscaler
        self.name = name
        self.trained = trained
        self._macs: dict[tuple[int, int], int] = {}

    def outputs(self, lr: Tensor, number: int) -> Iterator[tuple[str, Measured]]:
        """Its name and output."""
        size = (lr.shape[-2], lr.shape[-1])
        if size not in self._macs:
            self._macs[size] = complexity(self.upscaler.net, size).macs
        sr = self.upscaler.run(lr) if self.trained else None
        yield self.name, (sr, {"k_used": None, "macs": self._macs[size]})

    def runs(self, lr: Tensor) -> dict[str, Thunk]:
        """The plain call."""
        return {self.name: partial(self.upscaler.run, lr)}


class PatchMacs:
    """True multiply-adds of a network that selects patches, by LR size and number of patches.

    Patches are islands, so each adds the same: three counts, of which counting every number would
    take one each.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self._counted: dict[tuple[tuple[int, int], int], int] = {}
        self._each: int | None = None

    def __call__(self, size: tuple[int, int], k: int) -> int:
        if k < 2:
            return self._count(size, k)
        if self._each is None:
            self._each = self._count(size, 2) - self._count(size, 1)
        return self._count(size, 1) + (k - 1) * self._each

    def _count(self, size: tuple[int, int], k: int) -> int:
        if (size, k) not in self._counted:
            self._counted[size, k] = complexity(self.net, size, k=k).macs
        return self._counted[size, k]
