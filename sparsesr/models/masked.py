"""What the networks of masked modules have in common: their call, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..nn import MaskedModule, SparseMask, gradient_mask
from ..nn.sparse_refine import check_image

Step = Callable[[nn.Module, Tensor], Tensor]  # a part of the network's body and its input -> output


class MaskedOutput(NamedTuple):
    """What a network of masked modules computed.

    Attributes:
        sr: super-resolved image [B, 3, s*H, s*W], unclamped.
        masks: of every module: spatial [B,1,H,W] and dense channels [B,L,C]; bool in eval mode,
            soft in training mode.
    """

    sr: Tensor
    masks: tuple[SparseMask, ...]

    def active(self) -> Tensor:
        """Share of the values that every module computes, [B, modules]; differentiable if soft."""
        return torch.stack([mask.active() for mask in self.masks], dim=1)

    def sparsity(self) -> Tensor:
        """The paper's sparsity of each image, [B]: 1 - mean over modules of the active share."""
        return 1 - self.active().mean(1)


class MaskedNet(nn.Module):
    """A network, some of whose parts are ``MaskedModule``; a subclass gives ``super_resolve``.

    In eval mode masks are hard and the modules compute what they select. In training mode they are
    Gumbel-softmax samples at ``temperature``, an attribute that the trainer lowers.

    Attributes:
        scale: s.
        temperature: tau of the samples.
        active: share of the pixels to compute, for a network that takes its spatial mask from the
            image's gradient; None where the modules predict their own.
    """

    # Not a bound on distance: masks are decided on pairs of rows and columns counted from the
    # image's corner, by its gradient at every pixel, or after a global mean.
    receptive_field: int | None = None
    scale: int
    temperature: float = 1.0
    active: float | None = None

    def super_resolve(self, lr: Tensor, step: Step) -> Tensor:
        """``lr`` -> image, every part of the body called as ``step(part, x)``."""
        raise NotImplementedError

    def forward(
        self,
        lr: Tensor,  # [B, 3, H, W]
        return_details: bool = False,
        masked: bool = True,
        active: float | None = None,
    ) -> Tensor | MaskedOutput:
        """Super-resolve ``lr`` [B,3,H,W] in [0,1] to [B,3,sH,sW], unclamped.

        Args:
            lr: any H, W, B; NCHW or channels_last.
            return_details: return ``MaskedOutput`` instead of the image alone.
            masked: False ignores all masks: every channel at every pixel, another function (the
                dense network of the same weights).
            active: in [0, 1]: one spatial mask for all modules, that share of the pixels with the
                largest gradient (``nn.gradient_mask``), in place of the masks they predict. None
                leaves it to the network.

        Raises:
            TypeError: ``lr`` or ``active`` of a wrong type.
            ValueError: ``lr`` of a wrong shape; ``active`` outside [0, 1]; details or ``active`` of
                a call or a network without masks.
        """
        check_image(lr)
        options = {"return_details": return_details, "active": active is not None}
        asked = " and ".join(name for name, given in options.items() if given)
        if asked and not masked:
            raise ValueError(f"{type(self).__name__}: masked=False uses no masks; drop {asked}")
        if active is None:
            active = self.active
        spatial = None if active is None or not masked else gradient_mask(lr, active)
        masks: list[SparseMask] = []

        def step(part: nn.Module, x: Tensor) -> Tensor:
            if not isinstance(part, MaskedModule):
                return part(x)
            if not masked:
                return part.unmasked(x)
            y, mask = part(x, self.temperature, spatial)
            masks.append(mask)
            return y

        sr = self.super_resolve(lr, step)
        if asked and not masks:
            raise ValueError(f"{type(self).__name__}: it was built without masks; drop {asked}")
        return MaskedOutput(sr, tuple(masks)) if return_details else sr
