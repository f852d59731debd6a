"""The forms of every MGA family: -base, -dnet, -allnet, -mga; -light: with a light coarse head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from ..nn import CoarseOnly, DenseRefine, MaskPredictor, SparseRefine
from ..nn.sparse_refine import DEFAULT_K
from . import fsrcnn, pan, rcan, rfdn, srresnet
from .blocks import BaseNet, RefineNet
from .registry import register

SCALES = (2, 3, 4)


@dataclass(frozen=True)
class Family:
    """What a family needs to be built in every form.

    Attributes:
        name: first part of its models' names.
        base: (scale, light, blocks, **depth) -> Base-Net.
        refine: (scale, full, blocks, **depth) -> Refine-Net.
        channels: of the feature map.
        blocks: of the Base-Net and of the Refine-Net, as published.
        depth: further options of both, and their published values.
    """

    name: str
    base: Callable[..., BaseNet]
    refine: Callable[..., RefineNet]
    channels: int
    blocks: tuple[int, int]
    depth: Mapping[str, int] = field(default_factory=dict)

    def make_base(self, scale: int, light: bool, depth: Mapping[str, int]) -> BaseNet:
        """Base-Net; ``depth`` holds the options the user gave."""
        return self.base(scale, light, **self._depth(0, "base_blocks", depth))

    def make_refine(self, scale: int, full: bool, depth: Mapping[str, int]) -> RefineNet:
        """Refine-Net; ``depth`` holds the options the user gave."""
        return self.refine(scale, full, **self._depth(1, "refine_blocks", depth))

    def _depth(self, part: int, option: str, given: Mapping[str, int]) -> dict[str, int]:
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{self.name}: expected {name} as an int, got {value!r}")
            if value < 1:
                raise ValueError(f"{self.name}: expected {name} >= 1, got {value}")
        own = {name: given.get(name, value) for name, value in self.depth.items()}
        return {"blocks": given.get(option, self.blocks[part]), **own}


FAMILIES = (
    Family("fsrcnn", fsrcnn.FSRCNNBase, fsrcnn.FSRCNNRefine, fsrcnn.CHANNELS, (3, 1)),
    Family("pan", pan.PANBase, pan.PANRefine, pan.CHANNELS, (12, 4)),
    Family("rfdn", rfdn.RFDNBase, rfdn.RFDNRefine, rfdn.CHANNELS, (4, 2)),
    Family("srresnet", srresnet.SRResNetBase, srresnet.SRResNetRefine, srresnet.CHANNELS, (12, 4)),
    Family("rcan", rcan.RCANBase, rcan.RCANRefine, rcan.CHANNELS, (7, 3), {"group_blocks": 20}),
)


def build_base(family: Family, scale: int, light: bool = False, **depth: int) -> nn.Module:
    """-base: the Base-Net alone, as the paper's -B rows.

    Args:
        light: the light coarse head instead of the family's upsampler.
        depth: ``base_blocks`` and the family's own options.
    """
    base = family.make_base(scale, light, depth)
    net = CoarseOnly(base, scale=scale)
    return _with_receptive_field(net, base.context, _reach(base))


def build_dnet(family: Family, scale: int, **depth: int) -> nn.Module:
    """-dnet: Base trunk and Refine-Net over the whole map, as the paper's -D rows.

    Args:
        depth: ``base_blocks``, ``refine_blocks`` and the family's own options.
    """
    base = family.make_base(scale, False, depth)
    refine = family.make_refine(scale, True, depth)
    net = DenseRefine(base, refine, scale=scale)
    return _with_receptive_field(net, base.context, refine.context, _reach(refine))


def build_allnet(
    family: Family, scale: int, patch_size: int = 4, light: bool = False, **depth: int
) -> nn.Module:
    """-allnet: every patch refined as an island, as the paper's -A rows.

    Args:
        patch_size: p in LR pixels.
        light: the light coarse head; only what ``return_details`` shows depends on it.
        depth: as of -dnet.
    """
    base = family.make_base(scale, light, depth)
    refine = family.make_refine(scale, False, depth)
    net = SparseRefine(base, refine, scale=scale, patch_size=patch_size)
    return _with_receptive_field(net, base.context, max(patch_size, _reach(base)))


def build_mga(
    family: Family,
    scale: int,
    patch_size: int = 4,
    mask_channels: int = 2,
    k: int = DEFAULT_K,
    light: bool = False,
    **depth: int,
) -> nn.Module:
    """-mga: the K patches that a mask predictor chooses, as the paper's -M rows.

    Args:
        patch_size: p in LR pixels (2, 4 and 8 in Table 6; any p >= 1 works).
        mask_channels: 2, or 1 for the variant of Table 3.
        k: patches refined per image by default.
        light: the light coarse head; refined patches keep the family's upsampler.
        depth: as of -dnet.
    """
    mask = MaskPredictor(family.channels, patch_size, mask_channels)
    base = family.make_base(scale, light, depth)
    refine = family.make_refine(scale, False, depth)
    net = SparseRefine(base, refine, mask, scale=scale, patch_size=patch_size, k=k)
    return _with_receptive_field(net, base.context, max(patch_size, _reach(base)))


def _reach(part: Any) -> int:
    return part.upsampler.reach


def _with_receptive_field(net: nn.Module, *reaches: int | None) -> nn.Module:
    """Declare how many LR pixels square an output pixel depends on, given the chosen patches.

    ``reaches``: LR pixels on each side of one part after the other; None where it has no bound.
    """
    known = [reach for reach in reaches if reach is not None]
    bounded = len(known) == len(reaches)
    net.receptive_field = 2 * sum(known) + 1 if bounded else None  # type: ignore[assignment]
    return net


_LIGHT = "; light coarse head"
_PATCH = ("patch_size",)
_MASK = ("patch_size", "mask_channels", "k")
# Form -> how to build it, what it is, its options beside the depth.
_FORMS: dict[str, tuple[Callable[..., nn.Module], str, tuple[str, ...]]] = {
    "base": (build_base, "Base-Net alone (paper: -B)", ()),
    "dnet": (build_dnet, "Refine-Net over the whole map (paper: -D)", ()),
    "allnet": (build_allnet, "every patch refined (paper: -A)", _PATCH),
    "mga": (build_mga, "the K patches chosen by the mask predictor (paper: -M)", _MASK),
    "base-light": (partial(build_base, light=True), f"Base-Net alone{_LIGHT}", ()),
    "allnet-light": (partial(build_allnet, light=True), f"every patch refined{_LIGHT}", _PATCH),
    "mga-light": (
        partial(build_mga, light=True),
        f"the K patches chosen by the mask predictor{_LIGHT}",
        _MASK,
    ),
}


def _register(family: Family) -> None:
    for form, (build, summary, options) in _FORMS.items():
        blocks = ("base_blocks",) if form.startswith("base") else ("base_blocks", "refine_blocks")
        register(
            f"{family.name}-{form}",
            SCALES,
            summary,
            partial(build, family),
            options=(*options, *blocks, *family.depth),
        )


for _family in FAMILIES:
    _register(_family)
