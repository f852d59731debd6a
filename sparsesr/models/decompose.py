"""Cut a super-resolution network of one's own into Base-Net and Refine-Net."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..nn import MaskPredictor, SparseRefine
from ..nn.sparse_refine import DEFAULT_K
from .cutting import Cut, base_trunk, cut_graph, refine_trunk, shapes, upsampler_part


class DecomposedBase(nn.Module):
    """Base-Net: lr [B,3,H,W] -> (coarse [B,3,sH,sW], feature [B,C,H,W])."""

    def __init__(self, trunk: nn.Module, upsampler: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.upsampler = upsampler

    def features(self, lr: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, C, H, W]
        """The feature map alone."""
        return self.trunk(lr)

    def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Coarse image and feature map."""
        feature = self.trunk(lr)
        return self.upsampler(feature), feature


class DecomposedRefine(nn.Module):
    """Refine-Net: patches [N,C,p+2h,p+2h] -> [N,3,sp,sp], or the whole map where ``full``.

    The shrinking convolution of (2h+1) x (2h+1) starts as the identity, so that an untrained
    Refine-Net already is the rest of the network it was cut from.
    """

    def __init__(self, trunk: nn.Module, upsampler: nn.Module, channels: int, halo: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.shrink = nn.Conv2d(channels, channels, 2 * halo + 1)
        self.upsampler = upsampler
        self.halo = halo
        nn.init.dirac_(self.shrink.weight)
        nn.init.zeros_(self.shrink.bias)  # type: ignore[arg-type]

    @property
    def full(self) -> bool:
        """True: whole map, padded. False: patches, the shrinking convolution trims the halo."""
        return self.shrink.padding != (0, 0)

    @full.setter
    def full(self, value: bool) -> None:
        self.shrink.padding = (self.halo, self.halo) if value else (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Refine a batch of patches (or a map)."""
        return self.upsampler(self.shrink(self.trunk(x)))


def decompose(
    model: nn.Module,
    at: str,
    *,
    upsampler: str = "tail",
    scale: int | None = None,
    patch_size: int = 4,
    halo: int = 1,
    k: int = DEFAULT_K,
    keep: Iterable[str] = (),
    mask: nn.Module | None = None,
    example: Tensor | None = None,
) -> SparseRefine:
    """A network of your own as Base-Net, Refine-Net and mask predictor, with copied weights.

    The Base-Net is the network without the modules from ``at`` to the upsampler; what a long skip
    adds there is still added. The Refine-Net is those modules, with long skips that start at the
    patch, a shrinking convolution that trims the halo, and an upsampler of its own. ``model``
    stays as it is. (Hu et al., ECCV 2022, section 3.1, where this is done by hand.)

    k = 0 is the shortened network, exactly. Before any training k = all is close to the whole
    network, and differs from it near the borders of the patches, which are zero-padded islands:
    train the result, its mask predictor last (TRAINING: D-Net, All-Net, mask).

    Args:
        model: lr [B,3,H,W] -> [B,3,sH,sW]. Its own forward calls its parts one after another, skips
            by addition aside; ``torch.fx`` must be able to trace it.
        at: name of the first module of the Refine-Net, as in ``named_modules``, e.g. "body.12":
            part of ``model`` itself or of an ``nn.Sequential`` or ``nn.ModuleList`` in it.
        upsampler: name of the module that the upsampler begins with; from there on both get a copy.
        scale: s; checked, or found out if None.
        patch_size: p in LR pixels. halo: h. k: patches per image by default.
        keep: names of modules after ``at`` that the Base-Net gets a copy of, too: the convolution
            that ends the trunk, in most networks.
        mask: a mask predictor for the feature; by default a new ``MaskPredictor``.
        example: an LR image to find the shapes with, zeros [1,3,24,24] by default.

    Returns:
        ``SparseRefine`` in the mode, dtype and device of ``model``.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: unknown names (the nearest are given), a network that is not sequential at that
            point, shapes that do not fit together, or options as ``SparseRefine`` checks them.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1),
        ...                     nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2)))
        >>> sparse = decompose(net, at="1", upsampler="2")
        >>> lr = torch.rand(1, 3, 10, 9)
        >>> bool(torch.equal(sparse(lr, k=0), net[2](net[0](lr))))
        True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"decompose: expected model as nn.Module, got {type(model).__name__}")
    cut = cut_graph(model, at, upsampler)
    kept = _checked_keep(cut, at, upsampler, keep)
    like: Any = next(model.parameters(), torch.zeros(()))
    if example is None:
        example = torch.zeros(1, 3, 24, 24, dtype=like.dtype, device=like.device)
    channels, scale = _checked_shapes(model, cut, example, scale)
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    base = DecomposedBase(base_trunk(first, cut, kept), upsampler_part(first, cut))
    # It checks the sizes that the other parts are made with.
    net = SparseRefine(base, nn.Identity(), scale=scale, patch_size=patch_size, halo=halo, k=k)
    net.refine = DecomposedRefine(
        refine_trunk(second, cut), upsampler_part(second, cut), channels, halo
    )
    net.mask = MaskPredictor(channels, patch_size) if mask is None else mask
    net.to(like.device, like.dtype)
    _check_parts(net.eval(), example, channels)
    return net.train(model.training)


def _checked_keep(cut: Cut, at: str, upsampler: str, keep: Iterable[str]) -> frozenset[str]:
    called = {str(n.target) for n in cut.middle if n.op == "call_module"}
    kept = frozenset([keep] if isinstance(keep, str) else keep)
    if not kept <= called:
        raise ValueError(
            f"decompose: keep names {', '.join(sorted(kept - called))}; what lies between {at!r} "
            f"and {upsampler!r} is {', '.join(sorted(called))}"
        )
    return kept


def _checked_shapes(
    model: nn.Module, cut: Cut, example: Tensor, scale: int | None
) -> tuple[int, int]:
    """Channels of the feature, and the scale."""
    found = shapes(model, cut, example)
    batch, _, height, width = example.shape
    out = found[cut.result]
    s = max(out[-1] // width, 1) if scale is None else scale
    if out != (batch, 3, s * height, s * width):
        raise ValueError(
            f"decompose: expected an output of scale times the input, got {out} for an input of "
            f"{tuple(example.shape)}" + (f" at scale={scale}" if scale else "")
        )
    source = found[cut.source]
    for node in (cut.source, cut.feature, *cut.skips):
        shape = found[node]
        if len(shape) != 4 or shape != (batch, source[1], height, width):
            raise ValueError(
                f"decompose: the feature at the cut is {source}, but {node.name} is {shape}; "
                f"expected one shape [B,C,{height},{width}] from the cut to the upsampler"
            )
    return source[1], s


@torch.no_grad()
def _check_parts(net: SparseRefine, example: Tensor, channels: int) -> None:
    """What tracing does not show: in-place upsamplers, modules that change a patch's size."""
    feature = net.base.features(example)  # type: ignore[operator]
    version = feature._version
    net.base.upsampler(feature)  # type: ignore[operator]
    if feature._version != version:
        raise ValueError(
            "decompose: the upsampler changes its input in place; the Refine-Net needs the "
            "feature as it was. Let it begin with an operation that is not in place"
        )
    side, sp = net.patch_size + 2 * net.halo, net.scale * net.patch_size
    patches = feature.new_zeros(2, channels, side, side)
    try:
        shape = tuple(net.refine(patches).shape)
    except RuntimeError as error:
        raise ValueError(
            f"decompose: the Refine-Net cannot run on patches of {side}x{side}: {error}"
        ) from error
    if shape != (2, 3, sp, sp):
        raise ValueError(
            f"decompose: the Refine-Net turns patches of {side}x{side} into {shape[2:]}, expected "
            f"({sp}, {sp}); its convolutions must keep the size (padding = kernel_size // 2)"
        )
