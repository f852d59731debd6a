"""The dense forms of mask-guided refinement: the Base-Net alone and the D-Net."""

from __future__ import annotations

from torch import Tensor, nn

from .. import engine
from .sparse_refine import RefineOutput, check_image


class CoarseOnly(nn.Module):
    """The -B form of MGA: the Base-Net alone; its coarse image is the result.

    Args:
        base: lr [B,3,H,W] -> (coarse [B,3,sH,sW], feature [B,C,H,W]).
        scale: s.

    Example:
        >>> import sparsesr, torch
        >>> sparsesr.create_model("fsrcnn-base", scale=3)(torch.rand(2, 3, 5, 7)).shape
        torch.Size([2, 3, 15, 21])
    """

    def __init__(self, base: nn.Module, *, scale: int) -> None:
        super().__init__()
        self.base = base
        self.scale = scale

    def forward(self, lr: Tensor, return_details: bool = False) -> Tensor | RefineOutput:
        """[B,3,H,W] in [0,1] -> [B,3,sH,sW], unclamped."""
        check_image(lr)
        coarse, _ = self.base(lr)
        return RefineOutput(coarse, coarse, None, None) if return_details else coarse


class DenseRefine(nn.Module):
    """The -D form of MGA: the Refine-Net runs once over the whole feature map.

    All convolutions are padded there, so this is another function than refining every patch as an
    island, with the same parameters. The coarse image is computed only when asked for: its
    upsampler does not touch the result (the paper counts it all the same).

    Args:
        base: as in ``SparseRefine``; ``base.features(lr)``, where present, gives the feature alone.
        refine: feature [B,C,H,W] -> [B,3,sH,sW].
        scale: s.
    """

    def __init__(self, base: nn.Module, refine: nn.Module, *, scale: int) -> None:
        super().__init__()
        self.base = base
        self.refine = refine
        self.scale = scale

    def forward(self, lr: Tensor, return_details: bool = False) -> Tensor | RefineOutput:
        """[B,3,H,W] in [0,1] -> [B,3,sH,sW], unclamped; details add the coarse image."""
        check_image(lr)
        if return_details:
            coarse, feature = self.base(lr)
            return RefineOutput(engine.run(self.refine, feature), coarse, None, None)
        lean = hasattr(self.base, "features")
        feature = engine.run(self.base, lr, "features") if lean else self.base(lr)[1]
        return engine.run(self.refine, feature)
