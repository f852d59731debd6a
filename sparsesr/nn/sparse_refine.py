"""``SparseRefine``: restore everything coarsely, refine the K patches that need it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import engine, ops
from .explain import explain

DEFAULT_K = 1000


class RefineOutput(NamedTuple):
    """What a refinement network computed.

    Attributes:
        sr: super-resolved image [B, 3, s*H, s*W], unclamped.
        coarse: image of the Base-Net, same shape; None where it was not computed.
        mask: scores [B, 1, Gh, Gw]; None without a mask predictor.
        index: refined patches [B, k] int32; None where no patches were chosen.
    """

    sr: Tensor
    coarse: Tensor | None
    mask: Tensor | None
    index: Tensor | None  # type: ignore[assignment]  # shadows tuple.index, which nobody needs


class SparseRefine(nn.Module):
    """Mask-guided refinement of any Base-Net and Refine-Net (MGA: Hu et al., ECCV 2022).

    ``coarse, feature = base(lr)``; the k patches of the feature with the largest ``mask(feature)``
    go through ``refine`` as zero-padded islands with a halo; what comes back replaces the coarse
    image there. Without ``mask`` every patch is refined (the paper's -A form).

    k = 0 gives the coarse image bit for bit, k = all patches the -A form. The mask receives no
    gradient (a choice has none); it is trained on its own, see ``sparsesr.train``.

    Args:
        base: lr [B,3,H,W] -> (coarse [B,3,sH,sW], feature [B,C,H,W]). The coarse image must be a
            fresh tensor: without gradients the patches are written into it.
        refine: patches [N,C,p+2h,p+2h] -> [N,3,sp,sp].
        mask: feature -> [B,1,ceil(H/p),ceil(W/p)], or None.
        scale: s.
        patch_size: p, in LR pixels (the paper uses 4; 2 and 8 in Table 6).
        halo: h, LR pixels around a patch that the Refine-Net sees.
        k: patches refined per image when the call does not say.

    Raises:
        ValueError: sizes below 1, a negative halo or k.

    Example:
        >>> import sparsesr
        >>> net = sparsesr.create_model("fsrcnn-mga", scale=2).eval()
        >>> out = net(torch.rand(1, 3, 17, 30), k=5, return_details=True)
        >>> out.sr.shape, out.index.shape
        (torch.Size([1, 3, 34, 60]), torch.Size([1, 5]))
    """

    def __init__(
        self,
        base: nn.Module,
        refine: nn.Module,
        mask: nn.Module | None = None,
        *,
        scale: int,
        patch_size: int = 4,
        halo: int = 1,
        k: int = DEFAULT_K,
    ) -> None:
        super().__init__()
        for name, value, low in (
            ("scale", scale, 1),
            ("patch_size", patch_size, 1),
            ("halo", halo, 0),
            ("k", k, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"SparseRefine: expected {name} as an int, got {value!r}")
            if value < low:
                raise ValueError(f"SparseRefine: expected {name} >= {low}, got {value}")
        self.base = base
        self.refine = refine
        if mask is not None:
            self.mask = mask
        self.scale = scale
        self.patch_size = patch_size
        self.halo = halo
        self.k = k

    def forward(
        self,
        lr: Tensor,  # [B, 3, H, W]
        k: int | None = None,
        budget: float | None = None,
        order: str = "largest",
        generator: torch.Generator | None = None,
        return_details: bool = False,
    ) -> Tensor | RefineOutput:
        """Super-resolve ``lr`` [B,3,H,W] in [0,1] to [B,3,sH,sW], unclamped.

        Args:
            lr: any H, W, B; NCHW or channels_last.
            k: patches per image, >= 0, clamped to the number of patches; ``self.k`` by default.
            budget: fraction of all patches in [0, 1] instead of k: ``ceil(budget * Gh * Gw)``.
            order: which patches: "largest", "smallest" or "random" scores (Table 7).
            generator: for ``order="random"``.
            return_details: return ``RefineOutput`` instead of the image alone.

        Raises:
            ValueError: k and budget both given, either out of range, or a net without mask
                predictor asked for fewer than all patches.
        """
        check_image(lr)
        count = self.patch_count((lr.shape[-2], lr.shape[-1]), k, budget)
        if count > 0 and not return_details and self.coarse_may_wait():
            return self._refine_around(lr, count, order, generator)
        coarse, feature = self.coarse_and_feature(lr)
        scored = selects_patches(self) and (count > 0 or return_details)
        mask = self.score(feature) if scored else None
        if count == 0:
            index = torch.empty(lr.shape[0], 0, dtype=torch.int32, device=lr.device)
            return RefineOutput(coarse.clone(), coarse, mask, index) if return_details else coarse
        plan = self.plan(coarse, feature)
        if plan is not None:
            if mask is None:
                index = self._every_patch(lr.shape[0], count, feature.device)
            else:
                index = self.select(mask, count, order, generator)
            sr = plan.refine_(coarse.clone() if return_details else coarse, feature, index)
            return RefineOutput(sr, coarse, mask, index) if return_details else sr
        if mask is None:
            index = self._every_patch(lr.shape[0], count, feature.device)
            patches = self.gather(feature, index)
        else:
            patches, index = ops.select_gather_patches(
                mask[:, 0], feature, count, self.patch_size, self.halo, None, order, generator
            )
        sr = self.paste(coarse, self.refine(patches), index, inplace=not return_details)
        return RefineOutput(sr, coarse, mask, index) if return_details else sr

    def _refine_around(
        self, lr: Tensor, count: int, order: str, generator: torch.Generator | None
    ) -> Tensor:
        """As ``forward``; the coarse image is undefined under the patches until they are pasted."""
        feature = self.feature(lr)
        if selects_patches(self):
            index = self.select(self.score(feature), count, order, generator)
        else:
            index = self._every_patch(lr.shape[0], count, feature.device)
        return self.refine_at(lr, index, feature)

    # The stages one by one, for profiling, tiling and training.

    def patch_count(
        self, lr_size: tuple[int, int], k: int | None = None, budget: float | None = None
    ) -> int:
        """Patches that a call with these options refines in an image of (H, W).

        Raises:
            TypeError, ValueError: as ``forward``.
        """
        grid = ops.patch_grid(*lr_size, self.patch_size)
        if selects_patches(self):
            return effective_k(k, budget, *grid, self.k)
        if k is not None or budget is not None:
            raise ValueError(
                "this network has no mask predictor and refines every patch; "
                "drop k and budget, or use the -mga form"
            )
        return grid[0] * grid[1]

    def coarse_may_wait(self) -> bool:
        """Whether the coarse image can be made after patches were chosen, and only around them."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return False
        in_two_steps: Callable[[], bool] | None = getattr(self.base, "in_two_steps", None)
        return in_two_steps is not None and in_two_steps()

    def feature(self, lr: Tensor) -> Tensor:
        """Feature [B,C,H,W] without the coarse image, where the Base-Net can."""
        if self.coarse_may_wait():
            return engine.run(self.base, lr, "features")
        return self.coarse_and_feature(lr)[1]

    def refine_at(self, lr: Tensor, index: Tensor, feature: Tensor | None = None) -> Tensor:
        """SR image with the patches ``index`` [B,k] refined; ``feature`` of ``lr`` if known."""
        if self.coarse_may_wait():
            base: Any = self.base
            feature = engine.run(base, lr, "features") if feature is None else feature
            covered = engine.Covered(index, self.patch_size) if index.shape[1] else None
            coarse = base.upsample(lr, feature, covered)
        else:
            coarse, feature = self.coarse_and_feature(lr)
        return self.refine_over(coarse, feature, index)

    def refine_over(self, coarse: Tensor, feature: Tensor, index: Tensor) -> Tensor:
        """The chosen patches refined and written into ``coarse``, which is returned."""
        if not index.shape[1]:
            return coarse
        plan = self.plan(coarse, feature)
        if plan is not None:
            return plan.refine_(coarse, feature, index)
        return self.paste(coarse, self.refine_selected(feature, index), index, inplace=True)

    def coarse_and_feature(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Base-Net: coarse image [B,3,sH,sW] and feature [B,C,H,W]."""
        return self.base(lr)

    def score(self, feature: Tensor) -> Tensor:
        """Mask predictor: scores [B,1,Gh,Gw] of all patches."""
        return self.mask(feature)

    def select(
        self,
        mask: Tensor,
        k: int,
        order: str = "largest",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Indices [B,k] int32 of the patches to refine."""
        return ops.select_patches(mask[:, 0], k, order, generator)

    def plan(self, coarse: Tensor, feature: Tensor) -> engine.PatchPlan | None:
        """How patches are gathered, refined and pasted in one op; None where it takes all three.

        See ``sparsesr.engine.plan_patches``.
        """
        return engine.plan_patches(self.refine, coarse, feature, self.patch_size, self.halo)

    def gather(self, feature: Tensor, index: Tensor) -> Tensor:
        """The chosen patches with their halo, [B*k,C,p+2h,p+2h]."""
        return ops.gather_patches(feature, index, self.patch_size, self.halo)

    def refine_selected(self, feature: Tensor, index: Tensor) -> Tensor:
        """Gather and refine: [B*k,3,sp,sp]."""
        return self.refine(self.gather(feature, index))

    def paste(
        self, coarse: Tensor, patches: Tensor, index: Tensor, inplace: bool = False
    ) -> Tensor:
        """Refined patches over the coarse image.

        ``inplace`` writes into ``coarse`` where no gradient flows and no compiler is tracing (it
        turns the copy into an in-place write by itself).
        """
        side = self.scale * self.patch_size
        patches = patches.to(coarse.dtype)
        if inplace and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return ops.scatter_patches_(coarse, patches, index, side)
        return ops.scatter_patches(coarse, patches, index, side)

    def _every_patch(self, batch: int, cells: int, device: torch.device) -> Tensor:
        index = torch.arange(cells, dtype=torch.int32, device=device)
        return index.repeat(batch, 1)

    def explain(self, lr_size: tuple[int, int] | None = None, k: int | None = None) -> str:
        """How each network runs and why, its program, what it moves and what it multiplies.

        Args:
            lr_size: (H, W) of the LR image that multiply-adds are counted for; 96 x 96 by default.
            k: patches refined, ``self.k`` by default.

        Example:
            >>> import sparsesr
            >>> net = sparsesr.create_model("fsrcnn-mga", scale=4).eval()
            >>> print(net.explain((120, 160), k=300).splitlines()[-1])
            equal in multiply-adds at 11% of the patches
        """
        return explain(self, lr_size, k)

    def extra_repr(self) -> str:
        """Scale and patch geometry, for ``repr``."""
        return f"scale={self.scale}, patch_size={self.patch_size}, halo={self.halo}" + (
            f", k={self.k}" if selects_patches(self) else ", every patch"
        )


def effective_k(k: int | None, budget: float | None, gh: int, gw: int, default: int) -> int:
    """Patches to refine per image on a Gh x Gw grid.

    ``k`` is clamped to Gh*Gw; ``budget`` b gives ``ceil(b * Gh * Gw)``; neither gives ``default``.

    Raises:
        TypeError: k not an int, or budget not a number.
        ValueError: both given, k < 0, or budget outside [0, 1].

    Example:
        >>> effective_k(None, 0.15, 10, 10, 1000), effective_k(5000, None, 10, 10, 1000)
        (15, 100)
    """
    check_k_budget(k, budget)
    cells = gh * gw
    if budget is not None:
        # 0.15 * 100 is 15.000000000000002 in floating point; that is still 15 patches.
        return min(math.ceil(round(budget * cells, 6)), cells)
    return min(default if k is None else k, cells)


def check_k_budget(k: int | None, budget: float | None) -> None:
    """How many patches: k >= 0, a budget in [0, 1], or neither.

    Raises:
        TypeError: k not an int, or budget not a number.
        ValueError: both given, k < 0, or budget outside [0, 1].
    """
    if k is not None and budget is not None:
        raise ValueError(f"expected k or budget, got both (k={k}, budget={budget}); drop one")
    if budget is not None:
        if isinstance(budget, bool) or not isinstance(budget, (int, float)):
            raise TypeError(f"expected budget as a number in [0, 1], got {budget!r}")
        if not 0.0 <= budget <= 1.0:
            raise ValueError(f"expected budget in [0, 1], got {budget}; 0.25 refines a quarter")
    if k is not None:
        if isinstance(k, bool) or not isinstance(k, (int, torch.SymInt)):
            raise TypeError(f"expected k as an int, got {k!r}")
        if k < 0:
            raise ValueError(f"expected k >= 0, got {k}; 0 refines nothing")


def selects_patches(net: nn.Module) -> bool:
    """Whether the network has a mask that picks patches, so that k and budget mean something."""
    return isinstance(getattr(net, "mask", None), nn.Module)


def check_image(lr: Tensor) -> None:
    """A floating-point image batch [B,3,H,W] with at least one pixel.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: another shape.
    """
    if not isinstance(lr, Tensor) or not lr.is_floating_point():
        kind = str(lr.dtype) if isinstance(lr, Tensor) else type(lr).__name__
        raise TypeError(
            f"expected lr [B,3,H,W] as a floating-point tensor in [0,1], got {kind}; "
            "sparsesr.Upscaler takes 8-bit images"
        )
    if lr.dim() != 4 or lr.shape[1] != 3 or lr.shape[2] < 1 or lr.shape[3] < 1:
        raise ValueError(f"expected lr [B,3,H,W] with H, W >= 1, got shape {tuple(lr.shape)}")
