"""``PatchRouter``: overlapping patches, each through one of several networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import ops
from .sparse_refine import check_image


class PatchesOutput(NamedTuple):
    """What a patch router computed.

    Attributes:
        sr: super-resolved image [B, 3, s*H, s*W], unclamped.
        class_map: network of each patch [B, Gh, Gw] uint8.
        logits: of the classifier, [B, M, Gh, Gw]; None without one.
    """

    sr: Tensor
    class_map: Tensor
    logits: Tensor | None


class PatchRouter(nn.Module):
    """Networks for patches of different difficulty (as ClassSR: Kong et al., CVPR 2021; ARM).

    The image is cut into patches that overlap; ``classifier`` says which network each goes through;
    what comes back is averaged where patches overlap. With a single network it is tiling. A patch
    knows nothing of its neighbours, so no receptive field is covered: this is what PCSR is compared
    with, and what is left where an image must be cut.

    Every patch is kept, also those that reach over the border (zero there); the papers' evaluation
    crops the image to where none does, to sides of ``stride * n + patch_size``. In training mode
    all networks run on all patches and their images are averaged by probability.

    Args:
        nets: [N,3,p,p] -> [N,3,sp,sp], lightest first.
        classifier: [N,3,p,p] -> logits [N,M]; None for a single network.
        scale: s. patch_size: p, LR pixels. stride: LR pixels between patches, at most p.

    Raises:
        ValueError: no network, several without a classifier, sizes below 1, stride > patch_size.

    Example:
        >>> import sparsesr
        >>> net = sparsesr.create_model("carn", scale=4).eval()
        >>> PatchRouter([net], scale=4)(torch.rand(1, 3, 40, 61)).shape
        torch.Size([1, 3, 160, 244])
    """

    def __init__(
        self,
        nets: Sequence[nn.Module],
        classifier: nn.Module | None = None,
        *,
        scale: int,
        patch_size: int = 32,
        stride: int = 28,
    ) -> None:
        super().__init__()
        if not nets or (classifier is None and len(nets) > 1):
            raise ValueError(
                f"PatchRouter: expected one network, or several and a classifier; got {len(nets)} "
                f"and {'no' if classifier is None else 'a'} classifier"
            )
        if scale < 1 or not 1 <= stride <= patch_size:
            raise ValueError(
                "PatchRouter: expected scale >= 1 and 1 <= stride <= patch_size, got "
                f"scale={scale}, stride={stride}, patch_size={patch_size}"
            )
        self.nets = nn.ModuleList(nets)
        self.classifier = classifier
        self.scale = scale
        self.patch_size = patch_size
        self.stride = stride

    def forward(
        self,
        lr: Tensor,  # [B, 3, H, W]
        return_details: bool = False,
    ) -> Tensor | PatchesOutput:
        """Super-resolve ``lr`` [B,3,H,W] in [0,1] to [B,3,sH,sW], unclamped."""
        check_image(lr)
        batch, _, height, width = lr.shape
        rows, cols = ops.patch_grid(height, width, self.patch_size, self.stride)
        index = torch.arange(rows * cols, dtype=torch.int32, device=lr.device).repeat(batch, 1)
        patches = ops.gather_patches(lr, index, self.patch_size, stride=self.stride)
        logits = None if self.classifier is None else self.classifier(patches)
        images, classes = self._images(patches, logits)
        canvas = lr.new_zeros(batch, 3, height * self.scale, width * self.scale)
        sr = ops.scatter_patches(
            canvas,
            images.to(lr.dtype),
            index,
            self.patch_size * self.scale,
            self.stride * self.scale,
            "mean",
        )
        if not return_details:
            return sr
        if logits is not None:
            logits = logits.view(batch, rows, cols, -1).permute(0, 3, 1, 2)
        return PatchesOutput(sr, classes.view(batch, rows, cols), logits)

    def _images(self, patches: Tensor, logits: Tensor | None) -> tuple[Tensor, Tensor]:
        """The patches [N,3,sp,sp] enlarged, and the network that did it [N] uint8."""
        if logits is None:
            return self.nets[0](patches), torch.zeros(
                len(patches), dtype=torch.uint8, device=patches.device
            )
        classes = logits.argmax(1)
        if self.training:
            shares = logits.softmax(1)[:, :, None, None, None]
            every = torch.stack([net(patches) for net in self.nets], dim=1)
            return (shares * every).sum(1), classes.to(torch.uint8)
        side = self.patch_size * self.scale
        images = patches.new_zeros(len(patches), 3, side, side)
        for j, net in enumerate(self.nets):
            chosen = (classes == j).nonzero()[:, 0]
            if len(chosen):
                images = images.index_copy(0, chosen, net(patches[chosen]).to(images.dtype))
        return images, classes.to(torch.uint8)
