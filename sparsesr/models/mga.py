"""The four forms of every MGA family: -base, -dnet, -allnet, -mga."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from ..nn import CoarseOnly, DenseRefine, MaskPredictor, SparseRefine
from ..nn.sparse_refine import DEFAULT_K
from .fsrcnn import CHANNELS as FSRCNN_CHANNELS
from .fsrcnn import FSRCNNBase, FSRCNNRefine
from .registry import register

SCALES = (2, 3, 4)


@dataclass(frozen=True)
class Family:
    """What a family needs to be built in every form.

    Attributes:
        base: scale -> Base-Net. refine: (scale, full) -> Refine-Net. channels: of the feature map.
        context: LR pixels of context the trunk needs on each side of a pixel (None: whole image).
    """

    name: str
    base: Callable[[int], nn.Module]
    refine: Callable[[int, bool], nn.Module]
    channels: int
    context: int | None


FAMILIES = (
    # 5x5, three 3x3; then the one-pixel reach of the sub-pixel upsampler comes on top.
    Family("fsrcnn", FSRCNNBase, FSRCNNRefine, FSRCNN_CHANNELS, context=5),
)


def build_base(family: Family, scale: int) -> nn.Module:
    """-base: the Base-Net alone, as the paper's -B rows."""
    net = CoarseOnly(family.base(scale), scale=scale)
    return _with_receptive_field(net, family, extra=2 if scale < 4 else 1)


def build_dnet(family: Family, scale: int) -> nn.Module:
    """-dnet: Base trunk and Refine-Net over the whole map, as the paper's -D rows."""
    net = DenseRefine(family.base(scale), family.refine(scale, True), scale=scale)
    return _with_receptive_field(net, family, extra=5)


def build_allnet(family: Family, scale: int, patch_size: int = 4) -> nn.Module:
    """-allnet: every patch refined as an island, as the paper's -A rows.

    Args:
        patch_size: p in LR pixels.
    """
    base, refine = family.base(scale), family.refine(scale, False)
    net = SparseRefine(base, refine, scale=scale, patch_size=patch_size)
    return _with_receptive_field(net, family, extra=patch_size)


def build_mga(
    family: Family,
    scale: int,
    patch_size: int = 4,
    mask_channels: int = 2,
    k: int = DEFAULT_K,
) -> nn.Module:
    """-mga: the K patches that a mask predictor chooses, as the paper's -M rows.

    Args:
        patch_size: p in LR pixels (2, 4 and 8 in Table 6; any p >= 1 works).
        mask_channels: 2, or 1 for the variant of Table 3.
        k: patches refined per image by default.
    """
    mask = MaskPredictor(family.channels, patch_size, mask_channels)
    base, refine = family.base(scale), family.refine(scale, False)
    net = SparseRefine(base, refine, mask, scale=scale, patch_size=patch_size, k=k)
    return _with_receptive_field(net, family, extra=patch_size)


def _with_receptive_field(net: nn.Module, family: Family, extra: int) -> nn.Module:
    """Declare how many LR pixels square an output pixel depends on, given the chosen patches."""
    reach = None if family.context is None else family.context + extra
    net.receptive_field = None if reach is None else 2 * reach + 1  # type: ignore[assignment]
    return net


_FORMS = {
    "base": (build_base, "Base-Net alone (paper: -B)"),
    "dnet": (build_dnet, "Refine-Net over the whole map (paper: -D)"),
    "allnet": (build_allnet, "every patch refined (paper: -A)"),
    "mga": (build_mga, "the K patches chosen by the mask predictor (paper: -M)"),
}

for _family in FAMILIES:
    for _form, (_build, _summary) in _FORMS.items():
        register(f"{_family.name}-{_form}", SCALES, _summary, partial(_build, _family))
